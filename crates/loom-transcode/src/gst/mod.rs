//! The backend that runs plans on GStreamer 1.22. No GStreamer type leaves this folder.
//!
//! A source becomes two graphs, one for pictures and one for sound, so that either can fail alone. Both take packets
//! from an `appsrc`: live from [`Feed`], for a file from a reader graph (`filesrc ! parsebin`).

mod audio;
mod chunk_reader;
mod chunk_worker;
mod codec_caps;
mod compose;
mod element;
mod encoder;
mod file;
mod listen;
mod live;
mod machine;
mod memory;
mod pictures;
mod poster;
mod probe;
mod raw;
mod reader;
mod replay;
mod rung;
mod scaling;
mod stillness;
mod threads;
mod thumbnails;
mod video;
mod watch;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gstreamer as gst;
use loom_core::TrackFormat;

use crate::backend::{Backend, Feed, Outputs};
use crate::chunk::{ChunkFuture, ChunkRequest, ChunkWorker};
use crate::error::TranscodeError;
use crate::plan::Plan;

pub use chunk_reader::{SourceChunk, SourceChunks, compose_chunks, read_chunks};
pub(crate) use chunk_worker::Encoding;
pub use compose::{Composed, compose};
pub use listen::listen;
pub(crate) use probe::probe_aloud;
pub use probe::probe_file;
pub use raw::{Encoded, PictureEncoder, SoundEncoder};
use threads::LiveThreads;
pub(crate) use video::lock;

/// Runs plans on GStreamer.
///
/// A file, and every packet that is made of it:
///
/// ```no_run
/// use loom_transcode::{Backend, Capabilities, GstBackend, Output, Wanted, plan, probe_file};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let file = "talk.mp4";
/// let plan = plan(&probe_file(file)?.shape(), &Wanted::default(), &Capabilities::probe()?)?;
/// let mut outputs = GstBackend::new()?.file(&plan, file.as_ref())?;
/// while let Some(output) = outputs.recv().await {
///     match output {
///         Output::Packet { rendition, packet } => println!("{rendition} {} {} bytes", packet.pts, packet.data.len()),
///         Output::Failed { rendition, reason } => eprintln!("{rendition:?}: {reason}"),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct GstBackend(Arc<LiveThreads>);

impl GstBackend {
    /// Starts GStreamer, once a process.
    ///
    /// # Errors
    /// Where GStreamer does not start.
    pub fn new() -> Result<Self, TranscodeError> {
        start()?;
        Ok(Self(Arc::default()))
    }
}

impl Backend for GstBackend {
    fn live(&self, plan: &Plan, formats: &[TrackFormat]) -> Result<(Feed, Outputs), TranscodeError> {
        live::run(plan, formats)
    }

    fn file(&self, plan: &Plan, path: &Path) -> Result<Outputs, TranscodeError> {
        file::run(plan, path)
    }

    fn live_time(&self) -> Option<Duration> {
        self.0.time()
    }
}

impl ChunkWorker for GstBackend {
    fn encode(&self, request: Arc<ChunkRequest>) -> ChunkFuture {
        Box::pin(async move {
            chunk_worker::encode(&request)
                .await
                .map_err(|why| why.to_string())
        })
    }
}

fn start() -> Result<(), TranscodeError> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    let start = || {
        gst::init().map_err(|why| why.to_string())?;
        scaling::register().map_err(|why| why.to_string())
    };
    STARTED.get_or_init(start).clone().map_err(TranscodeError::Start)
}
