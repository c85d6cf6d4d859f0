use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use loom_core::{AudioCodec, CodecParameters, Cue, MediaKind, RenditionId, VideoCodec};
use loom_ingest::TrackInfo;
use loom_transcode::{Composition, Loudness};
#[cfg(feature = "transcode")]
use loom_transcode::{SourceAudioCodec, SourceShape};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::align::AlignedBy;
use crate::download::{DownloadChoice, TrackChoice};
use crate::edit::PieceDescription;
use crate::id::{PublisherName, RecordingId};
use crate::jobs::JobDescription;
use crate::recording::Inner;
use crate::versions::TranscriptVersion;

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
    /// It rests: what comes meanwhile is not recorded, and media time stands still. What there is can be watched.
    Paused,
    /// All media is in and can be watched; the final transcript is being written. For a file: it is being read.
    Processing,
    /// Done.
    Ready,
    /// It ended without anything to watch, or its file could not be read; the reason says why.
    Failed,
    /// It was deleted, and is there no more.
    Deleted,
}

impl RecordingState {
    /// Whether media is coming in, is waited for, or is to come after a pause.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::Reconnecting | Self::Paused)
    }

    /// Whether the recording will change no more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Ready | Self::Failed | Self::Deleted)
    }
}

impl fmt::Display for RecordingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Live => "live",
            Self::Reconnecting => "reconnecting",
            Self::Paused => "paused",
            Self::Processing => "processing",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
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
    /// Who brought it, where that was a publisher that joined the recording ([`Recording::join`](crate::Recording::join)): then
    /// [`mid`](Self::mid) is `NAME:MID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<PublisherName>,
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
    /// Nothing has come for a second, or nothing yet: it is muted, its camera is off, its screen is no longer shared, or the
    /// publisher that came back does not offer it.
    Paused,
}

/// A publisher that has joined a recording beside its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedDescription {
    /// Its name.
    pub name: PublisherName,
    /// Whether it is there.
    pub state: TrackState,
    /// How its media was brought onto the recording's line.
    pub aligned_by: AlignedBy,
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
    /// How loud its main sound was from its beginning to its end, once that has ended, where it was decoded here; `None` where it was silent.
    /// That is of what was encoded here, after noise was suppressed and its loudness changed where that was wanted, and else of what came. An
    /// edit is as loud as what it is made of, and measured anew; unless it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loudness: Option<Loudness>,
    /// Stretches for which nobody published, between one take and the next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<GapDescription>,
    /// The stretches of other recordings that it is made of ([`Engine::compose`](crate::Engine::compose)); none for one that was recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made_from: Vec<PieceDescription>,
    /// The publishers that have joined it ([`Recording::join`](crate::Recording::join)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<JoinedDescription>,
    /// Its screen and camera in one picture, where that was made (`Recording::lay_out`, with the feature `transcode`). Its sound, and how loud that
    /// is, is the recording's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub composition: Option<CompositionDescription>,
}

/// A stream of a recording's screen and camera in one picture. All names are relative to where `main.m3u8` is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompositionDescription {
    /// Where the camera lies.
    pub layout: Composition,
    /// The multivariant playlist, which names the recording's sound and text beside the composed pictures.
    pub playlist: String,
    /// The DASH manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The track of thumbnails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnails: Option<String>,
    /// The composed pictures, the largest first.
    pub renditions: Vec<RenditionDescription>,
}

impl CompositionDescription {
    /// It, with the recording's main sound, as one file ([`Recording::download`](crate::Recording::download)).
    pub fn download(&self) -> DownloadChoice {
        let best = self.renditions.first().map(|it| it.id.clone());
        DownloadChoice {
            video: best.map_or(TrackChoice::Without, TrackChoice::Rendition),
            audio: TrackChoice::Best,
        }
    }
}

impl RecordingInfo {
    /// What lies beside the main picture, of which there may be several the first: the camera, where the main one is a screen. It can be laid over
    /// that (`Recording::lay_out`, with the feature `transcode`).
    pub fn camera(&self) -> Option<&RenditionDescription> {
        let aside = |it: &&RenditionDescription| it.kind == MediaKind::Video && it.playlist.is_some();
        self.renditions.iter().find(aside)
    }
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
    /// A job that is done for the recording after its end, whenever it stands otherwise.
    Job(JobDescription),
    /// The publisher came back: between these instants there is nothing.
    Gap(GapDescription),
    /// The disk is full, or fails: these renditions are given up, so that the source goes on for as long as it can. What is lost is a
    /// [`Gap`](Self::Gap).
    Shed {
        /// Those that are given up.
        renditions: Vec<RenditionId>,
        /// What the disk said.
        why: String,
    },
    /// Encoders are behind, and a rung is shed, the lowest first: it shows only the pictures that start segments. Or it is encoded in full again.
    Overload {
        /// The rung.
        rendition: RenditionId,
        /// Whether it is shed; else it comes back.
        shed: bool,
    },
    /// Live captions were too far behind, and have missed what was said between these instants. The transcript will have it.
    Unheard {
        /// Seconds.
        from: f64,
        /// Seconds.
        to: f64,
    },
    /// Something went wrong that the recording survives, such as a device that failed and in whose place another works.
    Warning {
        /// What, in words.
        what: String,
    },
    /// The host's worker did not encode a chunk of a file: it is encoded here.
    Worker {
        /// The chunk's place among those of the file, from 0.
        chunk: u32,
        /// What the worker said, or what is wrong with what it gave.
        why: String,
    },
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
    /// The publishers that have joined, when one comes, goes or comes back.
    Joined {
        /// All of them.
        joined: Vec<JoinedDescription>,
    },
    /// The moderator ([`CaptionsConfig::moderator`](crate::CaptionsConfig::moderator)) found something in a caption.
    Findings {
        /// What it found there, in its order.
        findings: Vec<FindingDescription>,
    },
    /// Somebody has corrected the transcript, or brought an earlier version back: this is the newest version.
    Transcript(TranscriptVersion),
    /// The renditions that can be played.
    Renditions {
        /// All of them.
        renditions: Vec<RenditionDescription>,
    },
}

/// An event and its number.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Numbers climb by one from event to event of a recording, and by more where its process ends.
    pub number: u64,
    /// What happened.
    pub event: Event,
}

/// Something said that somebody should look at, as the API tells it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FindingDescription {
    /// Where it begins, seconds.
    pub start: f64,
    /// Where it ends, seconds.
    pub end: f64,
    /// What it is, as the moderator names it.
    pub label: String,
    /// The words.
    pub text: String,
}

impl From<loom_ai::Finding> for FindingDescription {
    fn from(it: loom_ai::Finding) -> Self {
        Self {
            start: it.start.secs_f64(),
            end: it.end.secs_f64(),
            label: it.label,
            text: it.text,
        }
    }
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
///
/// ```no_run
/// use loom_engine::{Event, Recording, RecordingState};
///
/// async fn ready(recording: &Recording) -> bool {
///     let mut events = recording.events();
///     while let Some(event) = events.next().await {
///         match event {
///             Event::Caption(cue) => println!("{} {}", cue.start, cue.text),
///             Event::State { state: RecordingState::Ready, .. } => return true,
///             _ => {}
///         }
///     }
///     false // it failed, or was deleted
/// }
/// ```
#[must_use]
#[derive(Debug)]
pub struct Events {
    /// How it stands, or what was missed.
    pub(crate) first: VecDeque<Told>,
    pub(crate) live: broadcast::Receiver<Told>,
    pub(crate) recording: Arc<Inner>,
    pub(crate) number: Option<u64>,
    pub(crate) ended: bool,
}

impl Events {
    /// How many events are kept for a slow reader.
    pub const QUEUE: usize = 128;

    /// The next event; `None` once the recording is ready, failed or deleted and that was told. Cancellation safe.
    pub async fn next(&mut self) -> Option<Event> {
        let (number, event) = match self.first.pop_front() {
            // of how it stands all has been told with the last
            Some(told) if self.first.front().is_some_and(|next| next.number == told.number) => {
                (None, told.event)
            }
            Some(told) => (Some(told.number), told.event),
            None if self.ended => return None,
            None => match self.live.recv().await {
                Ok(told) => (Some(told.number), told.event),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::debug!(missed, "a reader of events fell behind");
                    (None, self.recording.info().state_event())
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            },
        };
        self.number = number.or(self.number);
        if let Event::State { state, .. } = &event {
            self.ended |= state.is_final();
        }
        Some(event)
    }

    /// The number after which [`Recording::events_after`](crate::Recording::events_after) goes on where this reader is cut off now;
    /// `None` while it has not been told how the recording stands.
    pub fn number(&self) -> Option<u64> {
        self.number
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
            publisher: None,
            renditions: Vec::new(),
            state: TrackState::Running,
        }
    }
}

/// The tracks of a file that are used.
#[cfg(feature = "transcode")]
pub(crate) fn tracks_of(shape: &SourceShape) -> Vec<TrackDescription> {
    let video = shape.video.as_ref().map(|video| TrackDescription {
        kind: MediaKind::Video,
        codec: video.codec.to_string().to_lowercase().replace('.', ""),
        width: Some(video.width),
        height: Some(video.height),
        mid: None,
        rid: None,
        stream: None,
        publisher: None,
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
        publisher: None,
        renditions: Vec::new(),
        state: TrackState::Running,
    });
    video.into_iter().chain(audio).collect()
}
