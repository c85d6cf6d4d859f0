//! From RTP packets to [`loom_core::Media`]. Pure: time is an argument, nothing waits.

mod depacketize;
mod fec;
mod feedback;
mod publisher;
mod reorder;
mod retransmission;
mod timeline;

use std::time::Instant;

use bytes::Bytes;
use loom_core::{MediaKind, Timescale, VideoCodec};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use depacketize::{CodedUnit, Depacketizer};
pub(crate) use fec::{FecConfig, FecDecoder};
pub(crate) use feedback::{Arrival, Feedback, FeedbackConfig, FeedbackOutput};
pub(crate) use publisher::{Publisher, PublisherConfig, PublisherOutput};
pub(crate) use reorder::ReordererConfig;
pub(crate) use retransmission::{RetransmissionConfig, Retransmissions};

/// A codec as RTP carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RtpCodec {
    /// RFC 6184.
    H264,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RTP Payload Format For AV1, v1.0.0.
    Av1,
    /// RFC 7587.
    Opus,
}

impl RtpCodec {
    /// By its encoding name in `a=rtpmap`, whose case does not matter (RFC 8866 §6.6).
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::H264, Self::Vp8, Self::Vp9, Self::Av1, Self::Opus]
            .into_iter()
            .find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Av1 => "AV1",
            Self::Opus => "opus",
        }
    }

    pub(crate) fn kind(self) -> MediaKind {
        match self {
            Self::Opus => MediaKind::Audio,
            _ => MediaKind::Video,
        }
    }

    /// What it carries, where that is pictures.
    pub(crate) fn video(self) -> Option<VideoCodec> {
        match self {
            Self::H264 => Some(VideoCodec::H264),
            Self::Vp8 => Some(VideoCodec::Vp8),
            Self::Vp9 => Some(VideoCodec::Vp9),
            Self::Av1 => Some(VideoCodec::Av1),
            Self::Opus => None,
        }
    }

    pub(crate) fn scale(self) -> Timescale {
        match self {
            Self::Opus => Timescale::OPUS,
            _ => Timescale::VIDEO,
        }
    }
}

/// One payload type of a media section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RtpFormat {
    pub(crate) payload_type: u8,
    pub(crate) codec: RtpCodec,
    /// The value of its `a=fmtp`, or nothing.
    pub(crate) parameters: String,
}

/// One media section that the publisher sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RtpSection {
    pub(crate) kind: MediaKind,
    pub(crate) mid: String,
    /// In our order of preference.
    pub(crate) formats: Vec<RtpFormat>,
    /// The synchronization sources it declares, without those of retransmission and repair; where it has layers, one for
    /// each in their order, or none.
    pub(crate) sources: Vec<u32>,
    /// The names of its simulcast layers (`a=simulcast:send`, RFC 8853), or their numbers from 0 where they are told by their
    /// sources alone; empty where it is not simulcast.
    pub(crate) layers: Vec<String>,
    /// Its media stream (`a=msid`, RFC 8830).
    pub(crate) stream: Option<String>,
}

/// An RTP packet as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RtpPacket {
    pub(crate) source: u32,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) payload: Bytes,
    pub(crate) arrived: Instant,
    /// The media section's name that the packet carries (RFC 9143 §15.1.3).
    pub(crate) mid: Option<Bytes>,
    /// The layer's name that the packet carries (RFC 8852 §3.3).
    pub(crate) rid: Option<Bytes>,
}
