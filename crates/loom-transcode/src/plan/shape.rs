use std::fmt;
use std::time::Duration;

use loom_core::{AudioCodec, CodecParameters, TrackFormat, VideoCodec};
use serde::{Deserialize, Serialize};

/// A video codec that a source may have: those that Loom carries, and those that only files bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SourceVideoCodec {
    /// ISO/IEC 14496-10.
    H264,
    /// ISO/IEC 23008-2.
    Hevc,
    /// RFC 6386.
    Vp8,
    /// VP9.
    Vp9,
    /// AV1.
    Av1,
}

impl fmt::Display for SourceVideoCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H264 => "H.264",
            Self::Hevc => "HEVC",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Av1 => "AV1",
        })
    }
}

impl From<VideoCodec> for SourceVideoCodec {
    fn from(it: VideoCodec) -> Self {
        match it {
            VideoCodec::H264 => Self::H264,
            VideoCodec::Hevc => Self::Hevc,
            VideoCodec::Vp8 => Self::Vp8,
            VideoCodec::Vp9 => Self::Vp9,
            VideoCodec::Av1 => Self::Av1,
        }
    }
}

/// An audio codec that a source may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SourceAudioCodec {
    /// RFC 6716.
    Opus,
    /// AAC-LC.
    Aac,
    /// AAC of another profile than LC, such as HE-AAC.
    AacOther,
    /// Vorbis I.
    Vorbis,
    /// MPEG-1/2 layer III.
    Mp3,
    /// RFC 9639.
    Flac,
    /// Uncompressed.
    Pcm,
}

impl From<AudioCodec> for SourceAudioCodec {
    fn from(it: AudioCodec) -> Self {
        match it {
            AudioCodec::Opus => Self::Opus,
            AudioCodec::Aac => Self::Aac,
        }
    }
}

impl fmt::Display for SourceAudioCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opus => "Opus",
            Self::Aac => "AAC-LC",
            Self::AacOther => "AAC",
            Self::Vorbis => "Vorbis",
            Self::Mp3 => "MP3",
            Self::Flac => "FLAC",
            Self::Pcm => "PCM",
        })
    }
}

/// How a picture must be turned to be upright, clockwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub enum Rotation {
    /// It is upright.
    #[default]
    None,
    /// By 90°.
    Quarter,
    /// By 180°.
    Half,
    /// By 270°.
    ThreeQuarters,
}

/// A property of a video track for which it is not kept as it came, though its codec would allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Oddity {
    /// An edit list starts presentation inside a group of pictures, or repeats or skips media.
    EditList,
    /// Fields, not frames.
    Interlaced,
    /// More than 8 bits, or not 4:2:0: few browsers decode it.
    PixelFormat,
    /// The first picture is no key frame.
    StartsWithoutKeyFrame,
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EditList => "has an edit list that starts between key frames",
            Self::Interlaced => "is interlaced",
            Self::PixelFormat => "is not 8-bit 4:2:0",
            Self::StartsWithoutKeyFrame => "does not start with a key frame",
        })
    }
}

/// A video track as the planner sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoShape {
    /// Its codec.
    pub codec: SourceVideoCodec,
    /// Pixels across, as coded and cropped, before turning.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// A pixel's width ÷ height as a fraction, (1, 1) where square.
    pub pixel_aspect: (u32, u32),
    /// How it must be turned.
    pub rotation: Rotation,
    /// Pictures a second, where known.
    #[serde(with = "crate::exact::option")]
    pub frame_rate: Option<f64>,
    /// The longest time between key frames, where known (files).
    pub key_interval: Option<Duration>,
    /// Bits a second, where known.
    pub bitrate: Option<u32>,
    /// Pictures in all, where known (files).
    pub frames: Option<u64>,
    /// Its profile by GStreamer's name, such as `high`, where known.
    pub profile: Option<String>,
    /// What else is unusual.
    pub odd: Vec<Oddity>,
}

impl VideoShape {
    /// An ordinary track of this codec and size, of which no more is known.
    pub fn new(codec: SourceVideoCodec, width: u32, height: u32) -> Self {
        Self {
            codec,
            width,
            height,
            pixel_aspect: (1, 1),
            rotation: Rotation::None,
            frame_rate: None,
            key_interval: None,
            bitrate: None,
            frames: None,
            profile: None,
            odd: Vec::new(),
        }
    }

    /// Width and height as shown: square pixels, upright. Only ever shrinks a side, so that nothing is upscaled.
    pub fn shown(&self) -> (u32, u32) {
        let (n, d) = self.pixel_aspect;
        let (mut w, mut h) = (u64::from(self.width), u64::from(self.height));
        match (n, d) {
            (0, _) | (_, 0) => {}
            (n, d) if n > d => h = h * u64::from(d) / u64::from(n),
            (n, d) => w = w * u64::from(n) / u64::from(d),
        }
        let (w, h) = (w as u32, h as u32);
        match self.rotation {
            Rotation::None | Rotation::Half => (w, h),
            Rotation::Quarter | Rotation::ThreeQuarters => (h, w),
        }
    }
}

/// An audio track as the planner sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioShape {
    /// Its codec.
    pub codec: SourceAudioCodec,
    /// Samples a second, Hz.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u16,
    /// Bits a second, where known.
    pub bitrate: Option<u32>,
}

/// A source as the planner sees it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceShape {
    /// The video track.
    pub video: Option<VideoShape>,
    /// The audio track.
    pub audio: Option<AudioShape>,
    /// Whether it is happening now: then nothing may wait, and work that is late is dropped.
    pub live: bool,
    /// How long it is, where known (files).
    pub duration: Option<Duration>,
}

impl SourceShape {
    /// A live source of these tracks: the first of each kind counts.
    pub fn from_formats(formats: &[TrackFormat]) -> Self {
        let mut shape = Self {
            live: true,
            ..Self::default()
        };
        for format in formats {
            match &format.codec {
                CodecParameters::Video(it) if shape.video.is_none() => {
                    let mut video = VideoShape::new(it.codec.into(), it.width, it.height);
                    // profile_idc of an avcC, ISO/IEC 14496-10 Annex A: 66 Baseline, 77 Main, 88 Extended, 100 High
                    let profile = it.config.get(1).copied();
                    if it.codec == VideoCodec::H264 && !matches!(profile, Some(66 | 77 | 88 | 100)) {
                        video.odd.push(Oddity::PixelFormat);
                    }
                    if it.codec == VideoCodec::H264 {
                        let constraints = it.config.get(2).copied().unwrap_or(0);
                        video.profile = profile.and_then(|idc| h264_profile(idc, constraints));
                    }
                    shape.video = Some(video);
                }
                CodecParameters::Audio(it) if shape.audio.is_none() => {
                    shape.audio = Some(AudioShape {
                        codec: it.codec.into(),
                        sample_rate: it.sample_rate,
                        channels: it.channels,
                        bitrate: None,
                    });
                }
                _ => {}
            }
        }
        shape
    }
}

/// GStreamer's name of a profile, ISO/IEC 14496-10 §A.2: `profile_idc` and the byte of constraint flags after it.
fn h264_profile(idc: u8, constraints: u8) -> Option<String> {
    let name = match idc {
        66 if constraints & 0x40 != 0 => "constrained-baseline",
        66 => "baseline",
        77 => "main",
        88 => "extended",
        100 => "high",
        110 => "high-10",
        122 => "high-4:2:2",
        244 => "high-4:4:4",
        _ => return None,
    };
    Some(name.to_owned())
}
