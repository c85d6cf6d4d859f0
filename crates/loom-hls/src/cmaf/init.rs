use bytes::Bytes;
use loom_core::codec::vp9;
use loom_core::{AudioCodec, AudioParameters, CodecParameters, RenditionId, VideoCodec, VideoParameters};
use mp4_atom::esds::{DecoderConfig, DecoderSpecific, EsDescriptor};
use mp4_atom::{
    Atom, Audio, Av01, Av1c, Avc1, Avcc, Btrt, Codec, Colr, Dinf, Dops, Dref, Encode, Esds, FixedPoint,
    FourCC, Ftyp, Hdlr, Hvc1, Hvcc, Mdhd, Mdia, Minf, Moov, Mp4a, Mvex, Mvhd, Opus, OpusChannelMapping, Pasp,
    Smhd, Stbl, Stco, Stsd, Tkhd, Trak, Trex, Url, Visual, Vmhd, Vp09, VpcC,
};

use crate::cmaf::{NOT_SYNC, SYNC, TRACK_ID};
use crate::error::HlsError;

/// The init segment (CMAF header, ISO/IEC 23000-19 §7.3.1) of one track: `ftyp` and `moov`, no samples, no edit list.
/// `bandwidth` is the most it needs, bits a second.
///
/// # Errors
/// Where the codec has no binding to ISO BMFF that players know (VP8), or its configuration does not parse.
pub(crate) fn write_init(
    rendition: &RenditionId,
    codec: &CodecParameters,
    bandwidth: u32,
) -> Result<Bytes, HlsError> {
    let timescale = codec.timescale().hz();
    let (entry, handler, name, width, height) = match codec {
        CodecParameters::Video(it) => {
            let (width, height) = size(rendition, it)?;
            (
                video_entry(rendition, it, width, height, btrt(bandwidth))?,
                b"vide",
                "video",
                width,
                height,
            )
        }
        CodecParameters::Audio(it) => (audio_entry(rendition, it, bandwidth)?, b"soun", "sound", 0, 0),
    };
    let video = width > 0;
    let moov = Moov {
        mvhd: Mvhd {
            timescale,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK_ID + 1,
            ..Default::default()
        },
        trak: vec![Trak {
            tkhd: Tkhd {
                track_id: TRACK_ID,
                enabled: true,
                in_movie: true,
                volume: if video { 0.into() } else { 1.into() },
                width: width.into(),
                height: height.into(),
                ..Default::default()
            },
            mdia: Mdia {
                mdhd: Mdhd {
                    timescale,
                    language: "und".to_owned(),
                    ..Default::default()
                },
                hdlr: Hdlr {
                    handler: FourCC::new(handler),
                    name: name.to_owned(),
                },
                minf: Minf {
                    vmhd: video.then(Vmhd::default),
                    smhd: (!video).then(Smhd::default),
                    dinf: Dinf {
                        dref: Dref {
                            entries: vec![Url::default().into()],
                        },
                    },
                    stbl: Stbl {
                        stsd: Stsd { codecs: vec![entry] },
                        stco: Some(Stco::default()),
                        ..Default::default()
                    },
                    ..Default::default()
                },
            },
            ..Default::default()
        }],
        mvex: Some(Mvex {
            mehd: None,
            trex: vec![Trex {
                track_id: TRACK_ID,
                default_sample_description_index: 1,
                default_sample_flags: if video { NOT_SYNC } else { SYNC },
                ..Default::default()
            }],
        }),
        ..Default::default()
    };
    let mut compatible_brands = [b"iso6", b"cmfc", b"cmf2", b"mp41"].map(FourCC::new).to_vec();
    if matches!(codec, CodecParameters::Video(it) if it.codec == VideoCodec::Av1) {
        compatible_brands.push(FourCC::new(b"av01")); // AV1-ISOBMFF §2.1
    }
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands,
    };
    let mut out = Vec::with_capacity(1024);
    let boxes = |source: mp4_atom::Error| HlsError::Boxes {
        rendition: rendition.clone(),
        segment: 0,
        source: Box::new(source),
    };
    ftyp.encode(&mut out).map_err(boxes)?;
    moov.encode(&mut out).map_err(boxes)?;
    Ok(out.into())
}

fn size(rendition: &RenditionId, video: &VideoParameters) -> Result<(u16, u16), HlsError> {
    match (u16::try_from(video.width), u16::try_from(video.height)) {
        (Ok(width @ 1..), Ok(height @ 1..)) => Ok((width, height)),
        _ => Err(HlsError::Format {
            rendition: rendition.clone(),
            why: format!(
                "pictures of {}×{} do not fit a sample entry",
                video.width, video.height
            ),
            clause: "ISO/IEC 14496-12 §12.1.3",
        }),
    }
}

fn video_entry(
    rendition: &RenditionId,
    video: &VideoParameters,
    width: u16,
    height: u16,
    btrt: Option<Btrt>,
) -> Result<Codec, HlsError> {
    let invalid = |what: &str, clause: &'static str| {
        let why = format!("the {what} does not parse");
        move |_: mp4_atom::Error| HlsError::Format {
            rendition: rendition.clone(),
            why: why.clone(),
            clause,
        }
    };
    let visual = Visual {
        data_reference_index: 1,
        width,
        height,
        ..Default::default()
    };
    // what the stream's own headers say, for readers that look no deeper (ISO/IEC 14496-12 §12.1.4, §12.1.5)
    let colr = video.colour().map(|colour| Colr::Nclx {
        colour_primaries: colour.primaries.into(),
        transfer_characteristics: colour.transfer.into(),
        matrix_coefficients: colour.matrix.into(),
        full_range_flag: colour.full_range,
    });
    let aspect = video.aspect();
    let pasp = Some(Pasp {
        h_spacing: aspect.width,
        v_spacing: aspect.height,
    });
    Ok(match video.codec {
        VideoCodec::H264 => Codec::Avc1(Avc1 {
            visual,
            avcc: Avcc::decode_body(&mut &video.config[..])
                .map_err(invalid("avcC", "ISO/IEC 14496-15 §5.3.3.1"))?,
            btrt,
            colr,
            pasp,
            ..Default::default()
        }),
        // parameter sets stand in the sample entry only: players of HLS want `hvc1`, not `hev1`
        VideoCodec::Hevc => Codec::Hvc1(Hvc1 {
            visual,
            hvcc: Hvcc::decode_body(&mut &video.config[..])
                .map_err(invalid("hvcC", "ISO/IEC 14496-15 §8.3.3.1"))?,
            btrt,
            colr,
            pasp,
            ..Default::default()
        }),
        VideoCodec::Av1 => Codec::Av01(Av01 {
            visual,
            av1c: Av1c::decode_body(&mut &video.config[..]).map_err(invalid("av1C", "AV1-ISOBMFF §2.3"))?,
            btrt,
            colr,
            pasp,
            ..Default::default()
        }),
        VideoCodec::Vp9 => {
            let stated = if video.config.len() >= 6 {
                video.config.clone()
            } else {
                vp9::KeyFrame {
                    profile: 0,
                    bit_depth: 8,
                    chroma_subsampling: 1,
                    full_range: false,
                    width: video.width,
                    height: video.height,
                }
                .config()
            };
            Codec::Vp09(Vp09 {
                visual,
                vpcc: VpcC {
                    profile: stated[0],
                    level: stated[1],
                    bit_depth: stated[2] >> 4,
                    chroma_subsampling: stated[2] >> 1 & 7,
                    video_full_range_flag: stated[2] & 1 == 1,
                    color_primaries: stated[3],
                    transfer_characteristics: stated[4],
                    matrix_coefficients: stated[5],
                    codec_initialization_data: Vec::new(),
                },
                btrt,
                colr,
                pasp,
                ..Default::default()
            })
        }
        VideoCodec::Vp8 => {
            return Err(HlsError::Format {
                rendition: rendition.clone(),
                why: "VP8 has no sample entry that HLS players know; it must be transcoded".to_owned(),
                clause: "HLS authoring specification §1.1",
            });
        }
    })
}

fn btrt(bandwidth: u32) -> Option<Btrt> {
    (bandwidth > 0).then_some(Btrt {
        buffer_size_db: 0,
        max_bitrate: bandwidth,
        avg_bitrate: bandwidth,
    })
}

fn audio_entry(rendition: &RenditionId, audio: &AudioParameters, bandwidth: u32) -> Result<Codec, HlsError> {
    let invalid = |why: &str, clause: &'static str| HlsError::Format {
        rendition: rendition.clone(),
        why: why.to_owned(),
        clause,
    };
    if audio.sample_rate == 0 || audio.channels == 0 {
        return Err(invalid(
            "sound has no sample rate or no channels",
            "ISO/IEC 14496-12 §12.2.3",
        ));
    }
    let entry = Audio {
        data_reference_index: 1,
        channel_count: audio.channels,
        sample_size: 16,
        // 16.16 fixed point: higher rates are told by the codec's own configuration (ISO/IEC 14496-12 §12.2.3.2)
        sample_rate: FixedPoint::new(u16::try_from(audio.sample_rate).unwrap_or(0), 0),
    };
    match audio.codec {
        AudioCodec::Aac => {
            if audio.config.len() < 2 {
                return Err(invalid(
                    "the AudioSpecificConfig is cut short",
                    "ISO/IEC 14496-3 §1.6.2.1",
                ));
            }
            Ok(Codec::Mp4a(Mp4a {
                audio: entry,
                esds: Esds {
                    es_desc: EsDescriptor {
                        es_id: 0,
                        dec_config: DecoderConfig {
                            object_type_indication: 0x40, // MPEG-4 audio, ISO/IEC 14496-1 Table 5
                            stream_type: 5,               // audio, Table 6
                            max_bitrate: bandwidth,
                            avg_bitrate: bandwidth,
                            dec_specific: Some(DecoderSpecific {
                                raw: audio.config.to_vec(),
                                ..Default::default()
                            }),
                            ..Default::default()
                        },
                        ..Default::default()
                    },
                },
                btrt: btrt(bandwidth),
                taic: None,
            }))
        }
        AudioCodec::Opus => {
            // from little-endian OpusHead (RFC 7845 §5.1) to big-endian dOps (Opus in ISOBMFF §4.3.2)
            let [
                _,
                channels,
                skip0,
                skip1,
                r0,
                r1,
                r2,
                r3,
                g0,
                g1,
                family,
                rest @ ..,
            ] = &audio.config[..]
            else {
                return Err(invalid("the OpusHead is cut short", "RFC 7845 §5.1"));
            };
            let channel_mapping = match (family, rest) {
                (0, _) => None,
                (family, [streams, coupled, map @ ..]) if map.len() >= usize::from(*channels) => {
                    Some(OpusChannelMapping {
                        family: *family,
                        stream_count: *streams,
                        coupled_count: *coupled,
                        channel_mapping: map[..usize::from(*channels)].to_vec(),
                    })
                }
                _ => {
                    return Err(invalid(
                        "the Opus channel mapping is cut short",
                        "RFC 7845 §5.1.1",
                    ));
                }
            };
            Ok(Codec::Opus(Opus {
                audio: entry,
                dops: Dops {
                    output_channel_count: *channels,
                    pre_skip: u16::from_le_bytes([*skip0, *skip1]),
                    input_sample_rate: u32::from_le_bytes([*r0, *r1, *r2, *r3]),
                    output_gain: i16::from_le_bytes([*g0, *g1]),
                    channel_mapping,
                },
                btrt: btrt(bandwidth),
            }))
        }
    }
}
