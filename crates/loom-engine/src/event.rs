use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use loom_core::{AudioCodec, CodecParameters, Cue, MediaKind, RenditionId, VideoCodec};
use loom_ingest::TrackInfo;
use loom_transcode::{SourceAudioCodec, SourceShape};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::id::RecordingId;
use crate::recording::Inner;

/// Where a recording is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordingState {
    /// Nobody has published yet.
    Created,
    /// Media is coming in; the stream can be watched.
    Live,
    /// The publisher vanished, and is waited for; what there is can be watched.
    Reconnecting,
    /// All media is in and can be watched; the final transcript is being written. For a file: it is being read.
    Processing,
    /// Done.
    Ready,
    /// It ended without anything to watch, or its file could not be read; the reason says why.
    Failed,
}

impl RecordingState {
    /// Whether media is coming in, or is waited for.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::Reconnecting)
    }

    /// Whether the recording will change no more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Ready | Self::Failed)
    }
}

impl fmt::Display for RecordingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Live => "live",
            Self::Reconnecting => "reconnecting",
            Self::Processing => "processing",
            Self::Ready => "ready",
            Self::Failed => "failed",
        })
    }
}

/// One track that a publisher or a file brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackDescription {
    /// Video or audio.
    pub kind: MediaKind,
    /// `h264`, `vp8`, `vp9`, `av1`, `opus`, `aac`, or a file's own name for another.
    pub codec: String,
    /// Pixels across, for video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pixels down, for video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// The media section's name in a publisher's offer (`a=mid`, RFC 5888 §4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
    /// The layer's name, of a simulcast (`a=rid`, RFC 8851).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// The media stream that a publisher put it in (`a=msid`, RFC 8830).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The renditions made of it; none where it is not recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renditions: Vec<RenditionId>,
    /// Whether anything comes of it.
    #[serde(default)]
    pub state: TrackState,
}

/// Whether anything comes of a track.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TrackState {
    /// Its media comes.
    #[default]
    Running,
    /// Nothing has come for a second: it is muted, its camera is off, its screen is no longer shared, or the publisher
    /// that came back does not offer it.
    Paused,
}

/// One rendition that can be played.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenditionDescription {
    /// Its name, also in its URLs.
    pub id: RenditionId,
    /// Video or audio.
    pub kind: MediaKind,
    /// `h264`, `opus`, `aac`.
    pub codec: String,
    /// Pixels across, for video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pixels down, for video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Peak bits a second, as planned.
    pub bandwidth: u32,
    /// The multivariant playlist that names it, for a further picture; else that is `main.m3u8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playlist: Option<String>,
}

/// A recording as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordingInfo {
    /// Its name.
    pub id: RecordingId,
    /// Where it is in its life.
    pub state: RecordingState,
    /// Why it failed, or how it ended where that was not by a stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds of media.
    pub duration: f64,
    /// What came in.
    pub tracks: Vec<TrackDescription>,
    /// What can be played.
    pub renditions: Vec<RenditionDescription>,
    /// Whether it has captions, or will have.
    pub captions: bool,
    /// Stretches for which nobody published, between one take and the next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<GapDescription>,
}

/// A stretch of a recording for which nobody published.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GapDescription {
    /// Where the media before it ends, seconds.
    pub from: f64,
    /// Where the media behind it begins, seconds.
    pub to: f64,
}

/// Something a viewer or a host wants to know at once.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Event {
    /// The recording's state, when it changes.
    State {
        /// The state.
        state: RecordingState,
        /// Why it failed, or how it ended.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Seconds of media so far.
        duration: f64,
    },
    /// A caption, new or grown or final: the same id replaces what was shown.
    Caption(Cue),
    /// How far a stage of the work is.
    Progress {
        /// `media` or `transcript`.
        stage: &'static str,
        /// 0.0 ..= 1.0.
        fraction: f32,
    },
    /// The publisher came back: between these instants there is nothing.
    Gap(GapDescription),
    /// The chapters, when there is one more.
    Chapters {
        /// All of them, in order of time.
        chapters: Vec<ChapterDescription>,
    },
    /// What comes in, whenever that changes: a track begins, pauses (mute, camera off) or goes on, a picture has another size.
    Tracks {
        /// All of them.
        tracks: Vec<TrackDescription>,
    },
    /// The renditions that can be played.
    Renditions {
        /// All of them.
        renditions: Vec<RenditionDescription>,
    },
}

/// A chapter, as the API tells it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChapterDescription {
    /// Its name among the recording's chapters.
    pub id: u32,
    /// Where it begins, seconds. It ends where the next one begins, or with the recording.
    pub start: f64,
    /// What it is called.
    pub title: String,
}

/// A recording's events: first how it stands (state, tracks, renditions, captions so far), then each as it happens.
///
/// A reader that falls more than [`QUEUE`](Events::QUEUE) events behind misses the oldest; the state is told again then.
#[derive(Debug)]
pub struct Events {
    pub(crate) snapshot: VecDeque<Event>,
    pub(crate) live: broadcast::Receiver<Event>,
    pub(crate) recording: Arc<Inner>,
    pub(crate) ended: bool,
}

impl Events {
    /// How many events are kept for a slow reader.
    pub const QUEUE: usize = 128;

    /// The next event; `None` once the recording is ready or failed and that was told. Cancellation safe.
    pub async fn next(&mut self) -> Option<Event> {
        let event = match self.snapshot.pop_front() {
            Some(event) => event,
            None if self.ended => return None,
            None => match self.live.recv().await {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::debug!(missed, "a reader of events fell behind");
                    self.recording.info().state_event()
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            },
        };
        if let Event::State { state, .. } = &event {
            self.ended |= state.is_final();
        }
        Some(event)
    }
}

/// A codec's short name, as the API tells it.
pub(crate) fn codec_name(codec: &CodecParameters) -> &'static str {
    match codec {
        CodecParameters::Video(video) => video_name(video.codec),
        CodecParameters::Audio(audio) => audio_name(audio.codec),
    }
}

pub(crate) fn video_name(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::H264 => "h264",
        VideoCodec::Hevc => "hevc",
        VideoCodec::Vp8 => "vp8",
        VideoCodec::Vp9 => "vp9",
        VideoCodec::Av1 => "av1",
    }
}

pub(crate) fn audio_name(codec: AudioCodec) -> &'static str {
    match codec {
        AudioCodec::Opus => "opus",
        AudioCodec::Aac => "aac",
    }
}

impl TrackDescription {
    /// Whether it is what the publisher offered under that name.
    pub(crate) fn is(&self, offered: &TrackInfo) -> bool {
        self.mid.as_ref() == Some(&offered.mid) && self.rid == offered.rid
    }

    pub(crate) fn of(codec: &CodecParameters) -> Self {
        let size = match codec {
            CodecParameters::Video(video) => Some((video.width, video.height)),
            CodecParameters::Audio(_) => None,
        };
        Self {
            kind: codec.kind(),
            codec: codec_name(codec).to_owned(),
            width: size.map(|s| s.0),
            height: size.map(|s| s.1),
            mid: None,
            rid: None,
            stream: None,
            renditions: Vec::new(),
            state: TrackState::Running,
        }
    }
}

/// The tracks of a file that are used.
pub(crate) fn tracks_of(shape: &SourceShape) -> Vec<TrackDescription> {
    let video = shape.video.as_ref().map(|video| TrackDescription {
        kind: MediaKind::Video,
        codec: video.codec.to_string().to_lowercase().replace('.', ""),
        width: Some(video.width),
        height: Some(video.height),
        mid: None,
        rid: None,
        stream: None,
        renditions: Vec::new(),
        state: TrackState::Running,
    });
    let audio = shape.audio.as_ref().map(|audio| TrackDescription {
        kind: MediaKind::Audio,
        codec: match audio.codec {
            SourceAudioCodec::Aac => "aac".to_owned(),
            other => other.to_string().to_lowercase(),
        },
        width: None,
        height: None,
        mid: None,
        rid: None,
        stream: None,
        renditions: Vec::new(),
        state: TrackState::Running,
    });
    video.into_iter().chain(audio).collect()
}
