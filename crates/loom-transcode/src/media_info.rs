use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::{AudioShape, SourceShape, VideoShape};

/// What a file holds, found by reading its whole structure (not its pictures).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MediaInfo {
    /// The container, as GStreamer names it, such as `video/quicktime`.
    pub container: String,
    /// From the recording's zero to the end of the last packet.
    pub duration: Duration,
    /// The first usable video track.
    pub video: Option<VideoInfo>,
    /// The first usable audio track.
    pub audio: Option<AudioInfo>,
    /// Streams that are not used, and why, in words.
    pub ignored: Vec<String>,
}

impl MediaInfo {
    /// What the planner needs to know of it.
    pub fn shape(&self) -> SourceShape {
        SourceShape {
            video: self.video.as_ref().map(|it| it.shape.clone()),
            audio: self.audio.as_ref().map(|it| it.shape.clone()),
            live: false,
            duration: Some(self.duration),
        }
    }
}

/// A file's video track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoInfo {
    /// Codec, size, rate, key-frame distance and oddities.
    pub shape: VideoShape,
    /// Pictures, those outside the edit list left out.
    pub frames: u64,
    /// Where decoding can start.
    pub key_frames: u64,
    /// Bytes of packets from one key frame to the next, at most.
    pub group_bytes: u64,
}

/// A file's audio track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioInfo {
    /// Codec, rate and channels.
    pub shape: AudioShape,
    /// Packets.
    pub packets: u64,
}
