//! What a host pushes, read: whether decoding can begin there, how long it lasts, and how to decode from there on.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use loom_core::codec::{aac, av1, h264, opus, vp8, vp9};
use loom_core::{AudioParameters, CodecError, CodecParameters, VideoCodec, VideoParameters};

use super::PushTrack;

/// An access unit, in the form of a [`loom_core::Packet`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) data: Bytes,
    pub(super) key: bool,
    pub(super) duration: Option<Duration>,
    /// How to decode it and what follows, where that has changed.
    pub(super) parameters: Option<CodecParameters>,
}

/// Reads the units of one track.
#[derive(Debug)]
pub(super) struct UnitReader {
    form: Form,
    told: Option<CodecParameters>,
}

#[derive(Debug)]
enum Form {
    /// A byte stream; the newest parameter sets are kept.
    AnnexB {
        sps: Option<Bytes>,
        pps: Vec<Bytes>,
    },
    /// NAL units behind 4-byte lengths.
    Avc(VideoParameters),
    Vp8,
    Vp9,
    Av1,
    Opus(AudioParameters),
    Aac(AudioParameters),
}

fn opus_form(channels: u16) -> Result<Form, CodecError> {
    if !(1..=2).contains(&channels) {
        return Err(CodecError::Invalid {
            what: "Opus track",
            why: format!("{channels} channels; 1 or 2 are taken"),
            clause: "RFC 7845 §5.1.1.1",
        });
    }
    Ok(Form::Opus(opus::parameters(channels, opus::DEFAULT_PRE_SKIP)))
}

impl UnitReader {
    /// For a track's own form; what is raw comes from encoders here.
    pub(super) fn new(track: &PushTrack) -> Result<Self, CodecError> {
        let annex_b = || Form::AnnexB {
            sps: None,
            pps: Vec::new(),
        };
        let form = match track {
            PushTrack::H264 { avcc: Some(avcc) } => Form::Avc(h264::parameters_from_avcc(avcc)?),
            PushTrack::H264 { avcc: None } => annex_b(),
            #[cfg(feature = "transcode")]
            PushTrack::Pictures { .. } => annex_b(),
            PushTrack::Vp8 => Form::Vp8,
            PushTrack::Vp9 => Form::Vp9,
            PushTrack::Av1 => Form::Av1,
            PushTrack::Opus { channels } => opus_form(*channels)?,
            #[cfg(feature = "transcode")]
            PushTrack::Sound { channels, .. } => opus_form(*channels)?,
            PushTrack::Aac { config } => Form::Aac(aac::parameters(config)?),
        };
        Ok(Self { form, told: None })
    }

    /// Reads the next; `None` where it holds parameter sets alone.
    ///
    /// # Errors
    /// Where it breaks its codec's format, or is no key frame and none came before.
    pub(super) fn read(&mut self, payload: Bytes) -> Result<Option<Unit>, CodecError> {
        let Some((data, parameters, duration)) = self.form.read(payload)? else {
            return Ok(None);
        };
        let key = parameters.is_some();
        if !key && self.told.is_none() {
            return Err(CodecError::Invalid {
                what: "first picture",
                why: "it is no key frame, or its parameter sets are missing".to_owned(),
                clause: "a track begins where decoding can",
            });
        }
        let news = parameters.filter(|it| self.told.as_ref() != Some(it));
        if news.is_some() {
            self.told.clone_from(&news);
        }
        Ok(Some(Unit {
            data,
            key,
            duration,
            parameters: news,
        }))
    }
}

/// The data, how to decode from there on where decoding can begin there, how long it lasts.
type Read = (Bytes, Option<CodecParameters>, Option<Duration>);

impl Form {
    fn read(&mut self, payload: Bytes) -> Result<Option<Read>, CodecError> {
        let video = |codec, width, height, config| {
            CodecParameters::Video(VideoParameters {
                codec,
                width,
                height,
                config,
            })
        };
        Ok(Some(match self {
            Self::AnnexB { sps, pps } => {
                let unit = h264::AccessUnit::from_nals(h264::annex_b_nals(&payload));
                if let Some(newest) = unit.sps.last() {
                    *sps = Some(newest.clone());
                    pps.clear();
                }
                for set in unit.pps {
                    if pps.len() < PICTURE_PARAMETER_SETS && !pps.contains(&set) {
                        pps.push(set);
                    }
                }
                if unit.sample.is_empty() {
                    if sps.is_none() && pps.is_empty() {
                        return Err(CodecError::Invalid {
                            what: "H.264 byte stream",
                            why: "no NAL unit lies behind a start code".to_owned(),
                            clause: "ISO/IEC 14496-10 Annex B",
                        });
                    }
                    return Ok(None);
                }
                let parameters = match sps.as_ref().filter(|_| unit.key) {
                    Some(sps) => Some(CodecParameters::Video(h264::parameters(sps, pps)?)),
                    None => None,
                };
                (unit.sample, parameters, None)
            }
            Self::Avc(parameters) => {
                let unit = h264::AccessUnit::from_nals(h264::sample_nals(&payload)?);
                if unit.sample.is_empty() {
                    return Ok(None);
                }
                let parameters = unit.key.then(|| CodecParameters::Video(parameters.clone()));
                (unit.sample, parameters, None)
            }
            Self::Vp8 => match vp8::frame_header(&payload)? {
                vp8::FrameHeader::Inter => (payload, None, None),
                vp8::FrameHeader::Key { width, height } => {
                    let parameters = video(VideoCodec::Vp8, width, height, Bytes::new());
                    (payload, Some(parameters), None)
                }
            },
            Self::Vp9 => match vp9::frame_header(&payload)? {
                vp9::FrameHeader::Inter => (payload, None, None),
                vp9::FrameHeader::Key(head) => {
                    let parameters = video(VideoCodec::Vp9, head.width, head.height, head.config());
                    (payload, Some(parameters), None)
                }
            },
            Self::Av1 => {
                let (data, parameters) = temporal_unit(&payload)?;
                (data, parameters.map(CodecParameters::Video), None)
            }
            Self::Opus(parameters) => {
                let lasts = opus::packet_duration(&payload)?;
                (
                    payload,
                    Some(CodecParameters::Audio(parameters.clone())),
                    Some(lasts),
                )
            }
            Self::Aac(parameters) => {
                let cut = CodecError::Invalid {
                    what: "AAC frame",
                    why: "it is empty, or behind an ADTS header; raw frames are taken".to_owned(),
                    clause: "ISO/IEC 14496-3 §4.4.2.1",
                };
                if payload.is_empty()
                    || payload.starts_with(&[0xff, 0xf1])
                    || payload.starts_with(&[0xff, 0xf9])
                {
                    return Err(cut);
                }
                let nanos = u64::from(aac::FRAME_LENGTH) * 1_000_000_000 / u64::from(parameters.sample_rate);
                let lasts = Duration::from_nanos(nanos);
                (
                    payload,
                    Some(CodecParameters::Audio(parameters.clone())),
                    Some(lasts),
                )
            }
        }))
    }
}

/// A temporal unit without its delimiters and padding, and how to decode from there on where it has a sequence header and begins with a
/// key frame (AV1 specification §7.20).
fn temporal_unit(payload: &[u8]) -> Result<(Bytes, Option<VideoParameters>), CodecError> {
    use av1::obu_type as kind;
    let mut data = BytesMut::with_capacity(payload.len());
    let (mut sequence, mut first) = (None, None);
    for obu in av1::obus(payload)? {
        match obu.obu_type {
            kind::TEMPORAL_DELIMITER | kind::PADDING => continue,
            kind::SEQUENCE_HEADER => sequence = Some(obu.whole),
            kind::FRAME | kind::FRAME_HEADER => first = first.or(obu.payload.first()),
            _ => {}
        }
        data.extend_from_slice(obu.whole);
    }
    let Some(first) = first else {
        return Err(CodecError::Invalid {
            what: "AV1 temporal unit",
            why: "it holds no frame".to_owned(),
            clause: "AV1 specification §7.5",
        });
    };
    // `show_existing_frame` 0 and `frame_type` KEY_FRAME (§5.9.2)
    let key = first & 0b1110_0000 == 0;
    let parameters = sequence.filter(|_| key).map(av1::parameters).transpose()?;
    Ok((data.freeze(), parameters))
}

/// Picture parameter sets remembered of one track.
const PICTURE_PARAMETER_SETS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(track: PushTrack) -> UnitReader {
        UnitReader::new(&track).expect("a track")
    }

    #[test]
    fn sound_lasts_as_long_as_its_packets_say() {
        let mut opus = reader(PushTrack::Opus { channels: 2 });
        let unit = opus
            .read(Bytes::from_static(&[0xf8, 0xff, 0xfe]))
            .expect("a packet")
            .expect("sound");
        assert_eq!((unit.key, unit.duration), (true, Some(Duration::from_millis(20))));
        assert!(unit.parameters.is_some());
        let unit = opus
            .read(Bytes::from_static(&[0xf8, 0xff, 0xfe]))
            .expect("a packet")
            .expect("sound");
        assert!(unit.parameters.is_none(), "they are told once");
        let config = Bytes::from_static(&[0x11, 0x90]); // AAC-LC, 48 kHz, stereo
        let mut aac = reader(PushTrack::Aac { config });
        let unit = aac
            .read(Bytes::from_static(&[0x21, 0x10]))
            .expect("a frame")
            .expect("sound");
        assert_eq!(unit.duration, Some(Duration::from_nanos(21_333_333)));
    }

    #[test]
    fn a_picture_track_begins_with_a_key_frame() {
        let mut vp8 = reader(PushTrack::Vp8);
        let why = vp8
            .read(Bytes::from_static(&[0x11, 0, 0]))
            .expect_err("an inter frame");
        assert!(why.to_string().contains("no key frame"), "{why}");
        let key = Bytes::from_static(&[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02, 0]);
        assert!(vp8.read(key).expect("a frame").expect("a picture").key);
        let unit = vp8
            .read(Bytes::from_static(&[0x11, 0, 0]))
            .expect("a frame")
            .expect("a picture");
        assert!(!unit.key);
    }

    #[test]
    fn any_bytes_are_an_error_or_a_unit_and_no_panic() {
        let mut state = 11u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        for track in [
            PushTrack::H264 { avcc: None },
            PushTrack::Vp8,
            PushTrack::Vp9,
            PushTrack::Av1,
            PushTrack::Opus { channels: 1 },
        ] {
            let mut reader = reader(track);
            for _ in 0..20_000 {
                let head = [0, 0, 1, [0x67, 0x68, 0x65, 0x41][random() as usize % 4]];
                let mut payload = if random() % 2 == 0 {
                    head.to_vec()
                } else {
                    Vec::new()
                };
                payload.extend((0..random() % 40).map(|_| random() as u8));
                let _ = reader.read(Bytes::from(payload));
            }
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for track in [
            PushTrack::Opus { channels: 6 },
            PushTrack::Aac { config: Bytes::new() },
            PushTrack::H264 {
                avcc: Some(Bytes::from_static(&[1, 2])),
            },
        ] {
            assert!(UnitReader::new(&track).is_err(), "{track:?}");
        }
    }
}
