//! The embeddable engine: the one place that wires, spawns and owns a recording's life.
//!
//! Invariant: what a playlist has listed is on disk, and whatever ends a recording (a stop, a vanished publisher, a
//! failed encoder, a panic, the engine being dropped) ends it at its own edge with its parts kept.
//!
//! An [`Engine`] binds one UDP port and loads one speech model. A [`Recording`] takes one publisher (a WHIP offer) or
//! one media file, and from then on is an HLS stream, a transcript, a poster and a download:
//!
//! ```no_run
//! use loom_engine::{Engine, EngineConfig, RecordingId};
//!
//! # async fn example(offer: String) -> Result<(), loom_engine::EngineError> {
//! let engine = Engine::start(EngineConfig::default()).await?;
//! let recording = engine.create(RecordingId::random())?;
//! let answer = recording.publish(&offer).await?; // hand answer.sdp back to the WHIP client
//! let mut events = recording.events();
//! while let Some(event) = events.next().await {
//!     println!("{event:?}");
//! }
//! # Ok(())
//! # }
//! ```

mod admission;
mod align;
mod announced;
mod arrival;
mod brief;
mod captions;
#[cfg(feature = "transcode")]
mod composition;
mod config;
mod disk;
mod download;
mod edges;
mod edit;
mod engine;
mod error;
mod event;
mod event_log;
#[cfg(test)]
mod faults;
mod finish;
mod folder;
mod further;
mod gather;
mod id;
#[cfg(feature = "transcode")]
mod import;
mod jobs;
mod joined;
mod key_frames;
mod keys;
mod levels;
mod life;
mod limits;
mod live;
mod moderation;
#[cfg(feature = "hls")]
mod origin;
mod packaging;
mod packets;
#[cfg(feature = "transcode")]
mod preview;
mod pump;
mod push;
mod recording;
mod salvage;
#[cfg(all(test, feature = "ingest"))]
mod schedules;
mod source;
mod store;
mod sync;
mod take;
mod text;
mod thumbnails;
#[cfg(not(feature = "hls"))]
mod unwatched;
mod versions;

pub use admission::LiveLoad;
pub use align::AlignedBy;
pub use config::{CaptionsConfig, EngineConfig, FileConfig, PlaylistConfig, SpeakerSource, Speakers};
pub use download::{Download, DownloadChoice, TrackChoice};
pub use edit::{Piece, PieceDescription};
pub use engine::{CaptionsStatus, Engine};
pub use error::EngineError;
pub use event::{
    ChapterDescription, CompositionDescription, Event, Events, FindingDescription, GapDescription,
    JoinedDescription, RecordingInfo, RecordingState, RenditionDescription, Told, TrackDescription,
    TrackState,
};
pub use id::{PublisherName, RecordingId};
pub use jobs::{JobDescription, JobKind, JobState, RetryConfig};
pub use keys::{EncryptionConfig, KeyFuture, KeyProvider, RandomKeys};
pub use levels::LevelDescription;
pub use loom_ai::{
    AiError, Brief, CaptionOutput, Correction, Device as SpeechDevice, Excerpt, Finding, Gist,
    LiveTranscriber, ModelConfig, Moderator, Segment as TranscriptSegment, SpeakerEncoder, SpeakersConfig,
    TextModel, Transcriber, Transcript, WordList,
};
#[cfg(feature = "captions")]
pub use loom_ai::{HttpTextModel, HttpTextModelConfig, LocalTextModel, LocalTextModelConfig};
pub use loom_core::{Cue, CueId, CueState, MediaTime, PcmFrame, RenditionId, VideoCodec, Word};
pub use loom_hls::{ContentKey, EncryptionScheme, KeyBytes, KeyFormat};
pub use loom_hls::{
    DateRange, DateRangeCue, DateRangeValue, HlsError, PartForm, Pathway, PathwayClone, SessionData,
    SessionValue, StartPoint, TextCue, TextForm, TimedMetadata, Window, read_cues,
};
#[cfg(feature = "ingest")]
pub use loom_ingest::{Answer, IceRestart, SessionHandle, whip};
pub use loom_ingest::{IceServer, IngestConfig, IngestError, ReceptionStats};
pub use loom_transcode::{
    ApartConfig, CameraShape, Chunk, ChunkFuture, ChunkRequest, ChunkWorker, Composition, Corner, Loudness,
    LoudnessTarget, Place, Placement, Rung, SoundTreatment, Thumbnails, Wanted,
};
#[cfg(feature = "transcode")]
pub use loom_transcode::{I420, serve_apart};
#[cfg(feature = "hls")]
pub use origin::range;
#[cfg(feature = "hls")]
pub use origin::{HlsBody, HlsService};
pub use push::{PushTrack, Pusher};
#[cfg(feature = "hls")]
pub use recording::HlsAnswer;
#[cfg(feature = "ingest")]
pub use recording::PublishAnswer;
pub use recording::Recording;
pub use store::{About, Digest, Object, StorageClass, Store, StoreConfig, StoreError, open_store};
pub use versions::TranscriptVersion;

/// What README and guide show is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
#[doc = include_str!("../../../docs/src/embedding.md")]
struct Shown;

/// What a host may hold anywhere, and call from any thread.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Engine>();
    shared::<Recording>();
    shared::<Pusher>();
    shared::<Events>();
    shared::<Download>();
    shared::<EngineError>();
    #[cfg(feature = "hls")]
    shared::<HlsService>();
};
