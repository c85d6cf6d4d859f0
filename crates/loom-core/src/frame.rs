use bytes::Bytes;

use crate::time::MediaTime;

/// Decoded sound: interleaved samples in -1.0 ..= 1.0.
///
/// ```
/// use loom_core::{MediaTime, PcmFrame};
///
/// let frame = PcmFrame {
///     pts: MediaTime::from_millis(500),
///     sample_rate: 16_000,
///     channels: 1,
///     samples: vec![0.0; 320],
/// };
/// assert_eq!(frame.end(), MediaTime::from_millis(520));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PcmFrame {
    /// When its first sample is heard.
    pub pts: MediaTime,
    /// Samples a second a channel, Hz.
    pub sample_rate: u32,
    /// Channels, interleaved in `samples`.
    pub channels: u16,
    /// `channels` × frames samples.
    pub samples: Vec<f32>,
}

impl PcmFrame {
    /// When its last sample ends.
    pub fn end(&self) -> MediaTime {
        let frames = self.samples.len() as i64 / i64::from(self.channels.max(1));
        MediaTime::from_nanos(self.pts.nanos() + frames * 1_000_000_000 / i64::from(self.sample_rate.max(1)))
    }
}

/// How a [`Picture`]'s bytes are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureFormat {
    /// A JPEG file (ISO/IEC 10918-1).
    Jpeg,
    /// Red, green, blue, a byte each, rows from the top without space between: `width` × `height` × 3 bytes.
    Rgb,
}

/// A still picture taken from a track, such as the poster or a thumbnail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The instant it shows.
    pub pts: MediaTime,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// What `data` holds.
    pub format: PictureFormat,
    /// The picture.
    pub data: Bytes,
}
