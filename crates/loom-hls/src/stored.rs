//! A complete recording read back from its folder: which files make up a rendition, and the packets that they hold.

use std::io::{self, Cursor, Read};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use loom_core::codec::{aac, h264, hevc};
use loom_core::{
    AudioCodec, AudioParameters, CodecParameters, MediaTime, Packet, RenditionId, Timescale, TrackId,
    VideoCodec, VideoParameters,
};
use mp4_atom::{Atom, Codec, Dops, VpcC};

use crate::chapters::zeros;
use crate::cmaf;
use crate::error::HlsError;
use crate::view;

/// A rendition of pictures or sound of a complete recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTrack {
    /// Its segments, in order.
    pub segments: Vec<StoredSegment>,
    /// What its segments last at most (`EXT-X-TARGETDURATION`).
    pub target: Duration,
    /// Where its zero lies on the wall clock, from an instant on: it lies later behind each pause. Empty where it has no dates.
    pub zeros: Vec<(MediaTime, SystemTime)>,
}

/// A segment that a stored media playlist lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSegment {
    /// Its media sequence number.
    pub number: u64,
    /// Where it begins and ends, by the lengths that the playlist lists.
    pub start: MediaTime,
    /// Where it ends.
    pub end: MediaTime,
    /// The key of its init segment, as in [`HlsOutput::Store`](crate::HlsOutput::Store).
    pub init: String,
    /// Its own key.
    pub key: String,
    /// It begins another encoding sequence (`EXT-X-DISCONTINUITY`).
    pub discontinuity: bool,
    /// There is nothing of it (`EXT-X-GAP`).
    pub gap: bool,
}

impl StoredTrack {
    /// Reads a stored media playlist.
    ///
    /// # Errors
    /// [`HlsError::Stored`] where it is encrypted, or lists a segment before it names an init segment.
    pub fn from_playlist(rendition: &RenditionId, playlist: &str) -> Result<Self, HlsError> {
        let fail = |why: &str, clause| HlsError::Stored {
            key: crate::address::playlist(rendition),
            why: why.to_owned(),
            clause,
        };
        let mut init = None;
        let mut at = Duration::ZERO;
        let mut segments = Vec::new();
        for segment in view::read(playlist) {
            for tag in segment.tags() {
                if tag.starts_with("#EXT-X-KEY:") && tag != "#EXT-X-KEY:METHOD=NONE" {
                    return Err(fail("it is encrypted", "RFC 8216bis §4.4.4.4"));
                }
                if let Some(map) = tag.strip_prefix("#EXT-X-MAP:") {
                    let uri = map
                        .split_once("URI=\"")
                        .and_then(|(_, rest)| rest.split('"').next());
                    init = uri.map(|uri| format!("{rendition}/{uri}"));
                }
            }
            let start = MediaTime::ZERO + at;
            at += segment.duration;
            let uri = segment.lines.lines().last().unwrap_or_default();
            let gap = segment.is_gap();
            let init = match (&init, gap) {
                (Some(init), _) => init.clone(),
                (None, true) => String::new(),
                (None, false) => return Err(fail("it names no init segment", "RFC 8216bis §4.4.4.5")),
            };
            segments.push(StoredSegment {
                number: segment.number,
                start,
                end: MediaTime::ZERO + at,
                init,
                key: format!("{rendition}/{uri}"),
                discontinuity: segment.discontinuity,
                gap,
            });
        }
        let target = |line: &str| line.strip_prefix("#EXT-X-TARGETDURATION:")?.parse().ok();
        Ok(Self {
            segments,
            target: Duration::from_secs(playlist.lines().find_map(target).unwrap_or(0)),
            zeros: zeros(playlist),
        })
    }
}

/// The timescale of an init segment's one track, encrypted or not.
///
/// # Errors
/// [`HlsError::Stored`] where it is none that the packager wrote.
pub fn read_timescale(key: &str, init: &[u8]) -> Result<Timescale, HlsError> {
    let moov = cmaf::read_moov(init).map_err(|why| why.to_string());
    let scale = moov.and_then(|moov| {
        let hz = moov.trak.first().map_or(0, |track| track.mdia.mdhd.timescale);
        Timescale::new(hz).ok_or_else(|| "it has no track, or its timescale is 0".to_owned())
    });
    scale.map_err(|why| HlsError::Stored {
        key: key.to_owned(),
        why,
        clause: "ISO/IEC 23000-19 §7.3.1",
    })
}

/// What an init segment says of its one track.
///
/// # Errors
/// [`HlsError::Stored`] where it is none that the packager wrote, or is encrypted.
pub fn read_codec(key: &str, init: &[u8]) -> Result<CodecParameters, HlsError> {
    let fail = |why: String, clause| HlsError::Stored {
        key: key.to_owned(),
        why,
        clause,
    };
    let broken = |why: &dyn std::fmt::Display| fail(why.to_string(), "ISO/IEC 23000-19 §7.3.1");
    let moov = cmaf::read_moov(init).map_err(|why| broken(&why))?;
    let [track] = &moov.trak[..] else {
        return Err(broken(&"it has not one track"));
    };
    let [entry] = &track.mdia.minf.stbl.stsd.codecs[..] else {
        return Err(broken(&"it has not one sample entry"));
    };
    let video = |codec, config| {
        let visual = entry.visual();
        CodecParameters::Video(VideoParameters {
            codec,
            width: visual.map_or(0, |it| it.width.into()),
            height: visual.map_or(0, |it| it.height.into()),
            config,
        })
    };
    Ok(match entry {
        Codec::Avc1(it) => CodecParameters::Video(
            h264::parameters_from_avcc(&body(&it.avcc).map_err(|why| broken(&why))?)
                .map_err(|why| broken(&why))?,
        ),
        Codec::Hvc1(it) => CodecParameters::Video(
            hevc::parameters_from_hvcc(&body(&it.hvcc).map_err(|why| broken(&why))?)
                .map_err(|why| broken(&why))?,
        ),
        Codec::Av01(it) => video(VideoCodec::Av1, body(&it.av1c).map_err(|why| broken(&why))?),
        Codec::Vp09(it) => video(VideoCodec::Vp9, vpcc(&it.vpcc)),
        Codec::Mp4a(it) => {
            let config = it.esds.es_desc.dec_config.dec_specific.as_ref();
            let config = Bytes::from(config.map(|it| it.raw.clone()).unwrap_or_default());
            CodecParameters::Audio(aac::parameters(&config).map_err(|why| broken(&why))?)
        }
        Codec::Opus(it) => CodecParameters::Audio(opus_head(&it.dops)),
        _ => {
            return Err(fail(
                "its sample entry is encrypted, or none that the packager writes".to_owned(),
                "ISO/IEC 23001-7 §4.2",
            ));
        }
    })
}

/// The packets of a segment, in decode order.
///
/// # Errors
/// [`HlsError::Stored`] where it is none that the packager wrote, or is cut short.
pub fn read_packets(key: &str, codec: &CodecParameters, segment: &[u8]) -> Result<Vec<Packet>, HlsError> {
    let broken = |why: io::Error| HlsError::Stored {
        key: key.to_owned(),
        why: why.to_string(),
        clause: "ISO/IEC 23000-19 §7.3.2",
    };
    let scale = codec.timescale();
    let time = |ticks: i64| MediaTime::from_ticks(ticks, scale);
    let mut packets = Vec::new();
    let mut from = Cursor::new(segment);
    while let Some((chunk, size)) = cmaf::read_chunk_header(&mut from).map_err(broken)? {
        let mut data = Vec::new();
        from.by_ref().take(size).read_to_end(&mut data).map_err(broken)?;
        if data.len() as u64 != size {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut data = Bytes::from(data);
        let mut at = chunk.decode_time as i64;
        for sample in &chunk.samples {
            let ends = at + i64::from(sample.duration);
            packets.push(Packet {
                track: TrackId(0),
                pts: time(at + i64::from(sample.offset)),
                dts: time(at),
                duration: Some(time(ends).since(time(at))),
                key: sample.sync,
                data: data.split_to(sample.size as usize),
            });
            at = ends;
        }
    }
    Ok(packets)
}

/// How many bytes of a segment that was cut off while it was written are whole chunks, and how long these last.
pub fn whole_chunks(scale: Timescale, segment: &[u8]) -> (usize, Duration) {
    let (mut len, mut ticks) = (0, 0_i64);
    let mut from = Cursor::new(segment);
    // what cannot be read is what was not written
    while let Ok(Some((chunk, size))) = cmaf::read_chunk_header(&mut from) {
        let end = from.position().saturating_add(size);
        if end > segment.len() as u64 {
            break;
        }
        from.set_position(end);
        len = end as usize;
        ticks += chunk.samples.iter().map(|it| i64::from(it.duration)).sum::<i64>();
    }
    let lasts = MediaTime::from_ticks(ticks, scale);
    (len, lasts.since(MediaTime::ZERO))
}

/// Where, in a segment that begins with a chunk of one picture, that picture ends: what a playlist of key pictures lists of it (RFC 8216bis
/// §4.4.3.6).
pub fn first_picture(segment: &[u8]) -> Option<u64> {
    let mut from = Cursor::new(segment);
    let (chunk, size) = cmaf::read_chunk_header(&mut from).ok()??;
    let end = from.position().checked_add(size)?;
    (chunk.samples.len() == 1 && end <= segment.len() as u64).then_some(end)
}

fn body(configuration: &impl Atom) -> Result<Bytes, mp4_atom::Error> {
    let mut out = Vec::new();
    configuration.encode_body(&mut out)?;
    Ok(out.into())
}

/// The body of `vpcC` behind the FullBox header (VP Codec ISO Media File Format Binding §2).
fn vpcc(it: &VpcC) -> Bytes {
    let packed = it.bit_depth << 4 | it.chroma_subsampling << 1 | u8::from(it.video_full_range_flag);
    let colour = [
        it.color_primaries,
        it.transfer_characteristics,
        it.matrix_coefficients,
    ];
    let mut out = vec![it.profile, it.level, packed];
    out.extend(colour);
    out.extend([0, 0]);
    out.into()
}

/// Little-endian OpusHead (RFC 7845 §5.1) from big-endian `dOps` (Opus in ISOBMFF §4.3.2).
fn opus_head(dops: &Dops) -> AudioParameters {
    let mut config = vec![1, dops.output_channel_count];
    config.extend(dops.pre_skip.to_le_bytes());
    config.extend(dops.input_sample_rate.to_le_bytes());
    config.extend(dops.output_gain.to_le_bytes());
    match &dops.channel_mapping {
        None => config.push(0),
        Some(mapping) => {
            config.extend([mapping.family, mapping.stream_count, mapping.coupled_count]);
            config.extend(&mapping.channel_mapping);
        }
    }
    AudioParameters {
        codec: AudioCodec::Opus,
        sample_rate: 48_000,
        channels: dops.output_channel_count.into(),
        config: config.into(),
    }
}

#[cfg(test)]
mod tests {
    use loom_core::codec::{opus, vp9};

    use super::*;
    use crate::cmaf::{Sample, styp, write_chunk, write_init};

    fn id() -> RenditionId {
        RenditionId::new("source").unwrap()
    }

    #[test]
    fn what_an_init_segment_was_made_of_is_read_back() {
        // 640×360 as x264 wrote it
        const SPS: &[u8] = &[
            0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00,
            0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96,
        ];
        let pps = Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0]);
        let vp9 = vp9::KeyFrame {
            profile: 0,
            bit_depth: 8,
            chroma_subsampling: 1,
            full_range: false,
            width: 320,
            height: 180,
        };
        for codec in [
            CodecParameters::Video(h264::parameters(SPS, &[pps]).unwrap()),
            CodecParameters::Video(VideoParameters {
                codec: VideoCodec::Vp9,
                width: 320,
                height: 180,
                config: vp9.config(),
            }),
            CodecParameters::Audio(aac::parameters(&Bytes::from_static(&[0x11, 0x90])).unwrap()),
            CodecParameters::Audio(opus::parameters(2, 312)),
        ] {
            let init = write_init(&id(), &codec, 100_000).unwrap();
            assert_eq!(read_codec("source/init-0.mp4", &init).unwrap(), codec);
            assert_eq!(
                read_timescale("source/init-0.mp4", &init).unwrap(),
                codec.timescale()
            );
        }
        let broken = read_codec("source/init-0.mp4", b"no boxes at all").unwrap_err();
        assert!(broken.to_string().starts_with("source/init-0.mp4: "), "{broken}");
    }

    #[test]
    fn of_a_segment_that_was_cut_off_the_whole_chunks_are_kept() {
        let codec = CodecParameters::Audio(opus::parameters(2, 312));
        let mut segment = Vec::new();
        styp(&mut segment).unwrap();
        let mut ends = vec![0];
        for chunk in 0..3_u64 {
            let sample = |nth: u64| Sample {
                dts: chunk * 1_920 + nth * 960,
                duration: 960,
                offset: 0,
                key: true,
                data: Bytes::from_static(b"sound"),
            };
            write_chunk(
                &mut segment,
                chunk as u32 + 1,
                false,
                &[sample(0), sample(1)],
                None,
            )
            .unwrap();
            ends.push(segment.len());
        }
        let packets = read_packets("opus/s1.m4s", &codec, &segment).unwrap();
        assert_eq!(packets.len(), 6);
        assert_eq!(packets[5].pts, MediaTime::from_millis(100));
        for cut in 0..=segment.len() {
            let (len, lasts) = whole_chunks(codec.timescale(), &segment[..cut]);
            let whole = ends.iter().rposition(|end| *end <= cut).unwrap();
            assert_eq!(
                (len, lasts),
                (ends[whole], Duration::from_millis(40 * whole as u64)),
                "at {cut}"
            );
        }
        assert!(read_packets("opus/s1.m4s", &codec, &segment[..segment.len() - 1]).is_err());
    }
}
