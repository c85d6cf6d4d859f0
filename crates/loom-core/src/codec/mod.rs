//! Codec parameters, their RFC 6381 strings, and the headers they are read from.

pub mod aac;
pub mod av1;
mod colour;
pub mod h264;
pub mod hevc;
pub mod opus;
pub mod vp8;
pub mod vp9;

pub use colour::{Aspect, Colour, VideoRange};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::time::Timescale;
use crate::track::MediaKind;

/// A video codec that Loom carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoCodec {
    /// ISO/IEC 14496-10.
    H264,
    /// ISO/IEC 23008-2.
    Hevc,
    /// RFC 6386.
    Vp8,
    /// VP9 Bitstream & Decoding Process Specification.
    Vp9,
    /// AV1 Bitstream & Decoding Process Specification.
    Av1,
}

/// An audio codec that Loom carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AudioCodec {
    /// RFC 6716.
    Opus,
    /// AAC-LC, ISO/IEC 14496-3.
    Aac,
}

/// How to decode a video track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoParameters {
    /// The codec.
    pub codec: VideoCodec,
    /// Pixels across, as shown (after cropping).
    pub width: u32,
    /// Pixels down, as shown.
    pub height: u32,
    /// The decoder configuration record, as the body of the sample entry's box: `avcC` (ISO/IEC 14496-15 §5.3.3.1),
    /// `hvcC` (ISO/IEC 14496-15 §8.3.3.1), `vpcC` (VP Codec ISO Media File Format Binding §2, without the FullBox header), `av1C` (AV1-ISOBMFF §2.3).
    /// Empty for VP8 and VP9 where only the stream's own headers are known.
    pub config: Bytes,
}

/// How to decode an audio track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioParameters {
    /// The codec.
    pub codec: AudioCodec,
    /// Samples a second, Hz. 48,000 for Opus.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u16,
    /// The decoder configuration: an AudioSpecificConfig for AAC (ISO/IEC 14496-3 §1.6.2.1), the body of an `OpusHead`
    /// packet after its magic for Opus (RFC 7845 §5.1).
    pub config: Bytes,
}

/// How to decode a track.
///
/// ```
/// use loom_core::codec::opus;
/// use loom_core::{CodecParameters, MediaKind, Timescale};
///
/// let sound = CodecParameters::Audio(opus::rtp_parameters());
/// assert_eq!(sound.kind(), MediaKind::Audio);
/// assert_eq!(sound.timescale(), Timescale::OPUS);
/// assert_eq!(sound.rfc6381(), "opus");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodecParameters {
    /// A video track.
    Video(VideoParameters),
    /// An audio track.
    Audio(AudioParameters),
}

impl CodecParameters {
    /// What it carries.
    pub fn kind(&self) -> MediaKind {
        match self {
            Self::Video(_) => MediaKind::Video,
            Self::Audio(_) => MediaKind::Audio,
        }
    }

    /// The timescale Loom packages it in: 90 kHz for video, the sample rate for audio.
    pub fn timescale(&self) -> Timescale {
        match self {
            Self::Video(_) => Timescale::VIDEO,
            Self::Audio(it) => Timescale::new(it.sample_rate).unwrap_or(Timescale::OPUS),
        }
    }

    /// The `codecs` value of RFC 6381, as `CODECS` of `EXT-X-STREAM-INF` wants it.
    pub fn rfc6381(&self) -> String {
        match self {
            Self::Video(it) => it.rfc6381(),
            Self::Audio(it) => it.rfc6381(),
        }
    }
}

impl VideoParameters {
    /// The `codecs` value of RFC 6381, such as `avc1.640028`, `vp09.00.31.08` or `av01.0.08M.08`.
    pub fn rfc6381(&self) -> String {
        match self.codec {
            VideoCodec::H264 => h264::rfc6381(&self.config),
            VideoCodec::Hevc => hevc::rfc6381(&self.config),
            VideoCodec::Vp8 => "vp8".to_owned(),
            VideoCodec::Vp9 => vp9::rfc6381(&self.config, self.width, self.height),
            VideoCodec::Av1 => av1::rfc6381(&self.config),
        }
    }

    /// How its values become light, where its headers say so.
    pub fn colour(&self) -> Option<Colour> {
        match self.codec {
            VideoCodec::H264 => h264::shown(&self.config).0,
            VideoCodec::Hevc => hevc::shown(&self.config).0,
            VideoCodec::Vp8 => None,
            VideoCodec::Vp9 => vp9::colour(&self.config),
            VideoCodec::Av1 => av1::colour(&self.config),
        }
    }

    /// The shape of its pixels, as its headers say; square where they say nothing.
    pub fn aspect(&self) -> Aspect {
        match self.codec {
            VideoCodec::H264 => h264::shown(&self.config).1,
            VideoCodec::Hevc => hevc::shown(&self.config).1,
            VideoCodec::Vp8 | VideoCodec::Vp9 | VideoCodec::Av1 => Aspect::SQUARE,
        }
    }
}

impl AudioParameters {
    /// The `codecs` value of RFC 6381: `opus` or `mp4a.40.2`.
    pub fn rfc6381(&self) -> String {
        match self.codec {
            AudioCodec::Opus => "opus".to_owned(),
            AudioCodec::Aac => aac::rfc6381(&self.config),
        }
    }
}
