use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::event::RecordingState;
use crate::id::RecordingId;
use crate::store::StoreError;

/// What an engine or a recording could not do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No recording of that name is in memory or on disk.
    #[error("there is no recording {0}")]
    NotFound(RecordingId),
    /// A recording of that name is there already.
    #[error("there is a recording {0} already")]
    Exists(RecordingId),
    /// The WHIP offer cannot be answered.
    #[error("the offer cannot be answered: {0}")]
    BadOffer(#[source] loom_ingest::IngestError),
    /// Somebody publishes to this recording, or has done so.
    #[error("recording {0} has a publisher already; make a new recording for another take")]
    AlreadyPublished(RecordingId),
    /// No session of that name belongs to this recording.
    #[error("recording {recording} has no session {session:?}")]
    NoSuchSession {
        /// The recording.
        recording: RecordingId,
        /// The session that was named.
        session: String,
    },
    /// The recording is in a state in which this cannot be done.
    #[error("recording {recording} is {state}: {why}")]
    WrongState {
        /// The recording.
        recording: RecordingId,
        /// Its state.
        state: RecordingState,
        /// What that forbids.
        why: &'static str,
    },
    /// As many recordings as [`max_live`](crate::EngineConfig::max_live) allows are live.
    #[error("{live} recordings are live, which is the limit; try again when one has ended")]
    Full {
        /// How many are live.
        live: usize,
    },
    /// As many publishers have joined this recording as may.
    #[error(
        "{limit} publishers have joined recording {recording}, which is the limit; one that comes back keeps its name"
    )]
    Crowded {
        /// The recording.
        recording: RecordingId,
        /// How many may join.
        limit: usize,
    },
    /// The disk has fewer bytes free than [`min_free_space`](crate::EngineConfig::min_free_space).
    #[error("the disk has {free} bytes free, and a recording is begun only where {needed} are")]
    DiskFull {
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The file is no media that Loom can read.
    #[error("the file cannot be used: {0}")]
    BadMedia(String),
    /// The text, or a chapter, is not as it must be.
    #[error("{0}")]
    BadText(String),
    /// No recording can be made of these pieces.
    #[error("the edit cannot be made: {0}")]
    BadEdit(String),
    /// A layout of screen and camera breaks a rule.
    #[error("the composition cannot be made: {0}")]
    BadComposition(String),
    /// There is one picture, and nothing to lay over it.
    #[error("recording {0} has no picture beside its main one: no camera that could be laid over its screen")]
    NoCamera(RecordingId),
    /// The recording has no such rendition.
    #[error("recording {recording} has no rendition {rendition} of that kind")]
    NoSuchRendition {
        /// The recording.
        recording: RecordingId,
        /// The rendition.
        rendition: loom_core::RenditionId,
    },
    /// The recording has no such job (yet).
    #[error("recording {recording} has no job {job}")]
    NoSuchJob {
        /// The recording.
        recording: RecordingId,
        /// The job.
        job: crate::jobs::JobKind,
    },
    /// The recording's transcript has no such version.
    #[error("the transcript of recording {recording} has no version {version}")]
    NoSuchVersion {
        /// The recording.
        recording: RecordingId,
        /// The version.
        version: u32,
    },
    /// Somebody has made another version of the transcript meanwhile.
    #[error(
        "the transcript of recording {recording} is at version {newest} by now, and this is based on version {based_on}; read it again"
    )]
    Superseded {
        /// The recording.
        recording: RecordingId,
        /// What was corrected.
        based_on: u32,
        /// The newest version.
        newest: u32,
    },
    /// What the host pushes cannot be taken.
    #[error("what is pushed as track {track} cannot be taken: {why}")]
    BadPush {
        /// The track's place among those declared, from 0.
        track: usize,
        /// What is wrong.
        why: String,
    },
    /// The host has pushed so far ahead of time that no more can wait.
    #[error("too much that was pushed waits for its time; push it again a little later")]
    Behind,
    /// It is not there yet.
    #[error("{0}")]
    NotReady(String),
    /// The transcode graph could not be made.
    #[error("the transcode graph could not be made: {0}")]
    Transcode(#[from] loom_transcode::TranscodeError),
    /// The packager refused its input.
    #[error("packaging failed: {0}")]
    Package(#[from] loom_hls::HlsError),
    /// There is no download.
    #[error("there is no download: {0}")]
    Download(#[from] loom_hls::progressive::ProgressiveError),
    /// The WebRTC side could not start.
    #[error("the ingest could not start: {0}")]
    Ingest(#[source] loom_ingest::IngestError),
    /// The disk said no.
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no key to encrypt with.
    #[error("there is no key to encrypt with: {0}")]
    Key(String),
    /// The engine is shutting down.
    #[error("the engine is shutting down")]
    ShuttingDown,
}

impl EngineError {
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
