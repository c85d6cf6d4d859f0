use std::time::Duration;

use bytes::Bytes;

use crate::time::MediaTime;
use crate::track::{TrackFormat, TrackId};

/// One access unit of encoded media: a coded picture, or one audio frame.
///
/// An access unit as an H.264 encoder gives it, with start codes, becomes a packet:
///
/// ```
/// use loom_core::codec::h264::{AccessUnit, annex_b_nals};
/// use loom_core::{MediaTime, Packet, TrackId};
///
/// let unit = [0, 0, 0, 1, 0x67, 0x42, 0, 0, 0, 1, 0x68, 0xce, 0, 0, 1, 0x65, 0x88, 0x84];
/// let read = AccessUnit::from_nals(annex_b_nals(&unit));
/// let at = MediaTime::from_millis(40);
/// let packet = Packet {
///     track: TrackId(0),
///     pts: at,
///     dts: at,
///     duration: None,
///     key: read.key,
///     data: read.sample,
/// };
/// assert!(packet.key);
/// assert_eq!(&packet.data[..], [0, 0, 0, 3, 0x65, 0x88, 0x84]);
/// ```
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
///
/// ```
/// use bytes::Bytes;
/// use loom_core::codec::opus;
/// use loom_core::{CodecParameters, Media, MediaTime, Packet, TrackFormat, TrackId};
///
/// let track = TrackId(0);
/// let silence = Bytes::from_static(&[0xfc, 0xff, 0xfe]); // 20 ms of Opus
/// let duration = opus::packet_duration(&silence)?;
/// let packet = Packet {
///     track,
///     pts: MediaTime::ZERO,
///     dts: MediaTime::ZERO,
///     duration: Some(duration),
///     key: true,
///     data: silence,
/// };
/// let flow = [
///     Media::Format(TrackFormat {
///         track,
///         codec: CodecParameters::Audio(opus::rtp_parameters()),
///     }),
///     Media::Packet(packet),
///     Media::End(track),
/// ];
/// assert_eq!(duration.as_millis(), 20);
/// # let _ = flow;
/// # Ok::<(), loom_core::CodecError>(())
/// ```
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
