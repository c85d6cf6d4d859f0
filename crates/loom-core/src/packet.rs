use std::time::Duration;

use bytes::Bytes;

use crate::time::MediaTime;
use crate::track::{TrackFormat, TrackId};

/// One access unit of encoded media: a coded picture, or one audio frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The track it belongs to.
    pub track: TrackId,
    /// When it is shown or heard.
    pub pts: MediaTime,
    /// When it must be decoded: `pts`, except where pictures are reordered.
    pub dts: MediaTime,
    /// How long it lasts, where that is known before the next packet arrives. Always set for audio.
    pub duration: Option<Duration>,
    /// Whether decoding can start here (H.264: an IDR picture; audio: always).
    pub key: bool,
    /// The payload, in the form of a sample of ISO BMFF: H.264 and HEVC as NAL units each behind a 4-byte big-endian length,
    /// without parameter sets or delimiters; VP8, VP9 a frame or superframe; AV1 a temporal unit of OBUs with sizes and
    /// without the temporal delimiter; Opus and AAC one raw frame.
    pub data: Bytes,
}

/// A stretch of a track that was lost on the way and will not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The track.
    pub track: TrackId,
    /// The end of the last thing that came before it.
    pub from: MediaTime,
    /// The start of the first thing after it.
    pub to: MediaTime,
}

/// One item of a recording's media flow, in the order a consumer must take them for any one track.
#[derive(Debug, Clone, PartialEq)]
pub enum Media {
    /// A track begins or changes its format.
    Format(TrackFormat),
    /// Encoded media.
    Packet(Packet),
    /// Media that is missing.
    Gap(Gap),
    /// The track sends no more.
    End(TrackId),
}
