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

mod arrival;
mod captions;
mod config;
mod download;
mod edges;
mod engine;
mod error;
mod event;
mod finish;
mod folder;
mod further;
mod gather;
mod id;
mod import;
mod key_frames;
mod keys;
mod live;
mod origin;
mod packaging;
mod pump;
mod recording;
mod salvage;
mod take;
mod text;
mod thumbnails;

pub use config::{CaptionsConfig, EngineConfig, PlaylistConfig};
pub use download::{Download, DownloadChoice, TrackChoice};
pub use engine::{CaptionsStatus, Engine};
pub use error::EngineError;
pub use event::{
    ChapterDescription, Event, Events, GapDescription, RecordingInfo, RecordingState, RenditionDescription,
    TrackDescription, TrackState,
};
pub use id::RecordingId;
pub use keys::{EncryptionConfig, KeyFuture, KeyProvider, RandomKeys};
pub use loom_ai::{ModelConfig, Transcript};
pub use loom_core::{Cue, CueId, CueState, MediaTime, RenditionId, Word};
pub use loom_hls::{ContentKey, EncryptionScheme, KeyBytes, KeyFormat};
pub use loom_hls::{
    DateRange, DateRangeCue, DateRangeValue, HlsError, Pathway, PathwayClone, SessionData, SessionValue,
    StartPoint, TextCue, TextForm, Window, read_cues,
};
pub use loom_ingest::{Answer, IceRestart, IceServer, IngestConfig, IngestError, SessionHandle, whip};
pub use loom_transcode::{Thumbnails, Wanted};
pub use origin::{HlsBody, HlsService};
pub use recording::{HlsAnswer, PublishAnswer, Recording};
