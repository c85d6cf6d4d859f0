//! Files in processes of their own: whatever a file does to a demuxer or a decoder, it does it there.
//!
//! A process does one task after the other, of one file: it looks at the file, reads its chunks, runs a plan on it, or encodes one chunk. Its standard input is a
//! socket, over which it is told the task and says what comes of it, in messages ([`message`]). When the socket ends, which it does when the
//! process that started it does, it ends too.

mod message;
mod process;
mod restraint;
mod serve;
mod work;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use loom_core::{MediaKind, RenditionId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::apart_config::ApartConfig;
use crate::backend::{Event, Output, Outputs};
use crate::chunk::{Chunk, ChunkFuture, ChunkRequest, ChunkWorker};
use crate::error::TranscodeError;
use crate::gst::{SourceChunk, SourceChunks};
use crate::limits;
use crate::media_info::MediaInfo;
use crate::plan::{Plan, PlannedRendition};
use message::{Said, Task};
pub use serve::serve_apart;
use work::{Idle, Tries, Work};

/// Reads one file, or some that are trusted alike, in processes of their own: one that has done a task waits for another, until all clones of
/// this are dropped. What comes of it is what `probe_file`, `read_chunks` and `GstBackend` make in this one, to the byte.
///
/// A task whose process dies (a signal, an exit) is begun once more, and goes on where the first one was; only chunks are not encoded again.
/// What is wrong the second time is [`TranscodeError::Apart`], or in words what ends the run. Processes are of lower priority than this one,
/// and end with it, or when what waits for them is dropped.
///
/// ```no_run
/// use loom_transcode::{Apart, ApartConfig};
///
/// # async fn example() -> Result<(), loom_transcode::TranscodeError> {
/// let apart = Apart::new(ApartConfig::this_program(["worker"])); // see ApartConfig
/// let info = apart.probe("upload.mp4".as_ref()).await?;
/// println!("{:?}", info.video);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Apart {
    config: Arc<ApartConfig>,
    idle: Idle,
}

impl Apart {
    /// Starts nothing yet.
    pub fn new(config: ApartConfig) -> Self {
        Self {
            config: Arc::new(config),
            idle: Idle::default(),
        }
    }

    /// As [`probe_file`](crate::probe_file).
    ///
    /// Cancellation: the process is ended.
    ///
    /// # Errors
    /// Those of [`probe_file`](crate::probe_file), and [`TranscodeError::Apart`].
    pub async fn probe(&self, path: &Path) -> Result<MediaInfo, TranscodeError> {
        let mut work = self.begin(
            Task::Probe {
                path: path.to_owned(),
            },
            Tries::Two,
        );
        match work.next().await? {
            Some(Said::Info(info)) => Ok(info),
            other => Err(work.unexpected(other.as_ref())),
        }
    }

    /// As [`read_chunks`](crate::read_chunks).
    ///
    /// Cancellation: the process is ended.
    ///
    /// # Errors
    /// Those of [`read_chunks`](crate::read_chunks), and [`TranscodeError::Apart`].
    pub async fn read_chunks(
        &self,
        plan: &Plan,
        path: &Path,
        least: Duration,
    ) -> Result<SourceChunks, TranscodeError> {
        let task = Task::Chunks {
            plan: plan.clone(),
            path: path.to_owned(),
            least,
        };
        let mut work = self.begin(task, Tries::Two);
        work.started().await?;
        Ok(SourceChunks::apart(ReadApart { work: Some(work) }))
    }

    /// As [`Backend::file`](crate::Backend::file) of `GstBackend`. Where the process dies for good, what has come is all that comes.
    ///
    /// Cancellation: the process is ended.
    ///
    /// # Errors
    /// Those of [`Backend::file`](crate::Backend::file), and [`TranscodeError::Apart`].
    pub async fn file(&self, plan: &Plan, path: &Path) -> Result<Outputs, TranscodeError> {
        let task = Task::File {
            plan: plan.clone(),
            path: path.to_owned(),
        };
        let mut work = self.begin(task, Tries::Two);
        work.started().await?;
        // A plan for the sound alone may name the pictures' renditions too.
        let is_made = |it: &&PlannedRendition| match it.kind() {
            MediaKind::Video => plan.video.is_some(),
            MediaKind::Audio => plan.audio.is_some(),
        };
        let made_here = plan.renditions.iter().filter(is_made);
        let missing = made_here.map(|it| it.id.clone()).collect();
        let (sender, made) = mpsc::channel(limits::ENCODED_QUEUE);
        let relay = Aborted(tokio::spawn(relay(work, missing, sender)));
        let (_, kept) = mpsc::channel(1);
        Ok(Outputs::new(kept, made, 1, Box::new(relay)))
    }

    fn begin(&self, task: Task, tries: Tries) -> Work {
        Work::begin(self.config.clone(), task, tries, self.idle.clone())
    }
}

impl ChunkWorker for Apart {
    fn encode(&self, request: Arc<ChunkRequest>) -> ChunkFuture {
        let apart = self.clone();
        Box::pin(async move {
            let mut work = apart.begin(Task::Encode(request), Tries::One);
            let mut chunk = Chunk::default();
            while let Some(said) = work.next().await.map_err(|why| why.to_string())? {
                match said {
                    Said::Output(output) => chunk.outputs.push(output),
                    other => return Err(work.unexpected(Some(&other)).to_string()),
                }
            }
            Ok(chunk)
        })
    }
}

/// The chunks of a file that another process reads.
pub(crate) struct ReadApart {
    /// `None` once there are no more.
    work: Option<Work>,
}

impl ReadApart {
    pub(crate) async fn next(&mut self) -> Option<Result<SourceChunk, String>> {
        let work = self.work.as_mut()?;
        let why = match work.next().await {
            Ok(Some(Said::Source(chunk))) => return Some(Ok(chunk)),
            Ok(Some(Said::Broken(why))) => return Some(Err(why)),
            Ok(None) => {
                self.work = None;
                return None;
            }
            Ok(other) => work.unexpected(other.as_ref()),
            Err(why) => why,
        };
        self.work = None;
        Some(Err(format!("the file is read no further: {why}")))
    }
}

/// Hands on what a run says, and tells what of it never came.
async fn relay(mut work: Work, mut missing: HashSet<RenditionId>, out: mpsc::Sender<Event>) {
    let failed = loop {
        let output = match work.next().await {
            Ok(Some(Said::Output(output))) => output,
            Ok(None) => break None,
            Ok(other) => break Some(work.unexpected(other.as_ref())),
            Err(why) => break Some(why),
        };
        if let Output::Packet { rendition, .. }
        | Output::Failed {
            rendition: Some(rendition),
            ..
        } = &output
        {
            missing.remove(rendition);
        }
        if out.send(Event::Output(output)).await.is_err() {
            return;
        }
    };
    if let Some(why) = failed {
        let reason = format!("the file is read no further: {why}");
        let warning = Output::Warning(reason.clone());
        let failed = missing.into_iter().map(|rendition| Output::Failed {
            rendition: Some(rendition),
            reason: reason.clone(),
        });
        for output in std::iter::once(warning).chain(failed) {
            let _ = out.send(Event::Output(output)).await;
        }
    }
    let _ = out.send(Event::GraphEnded).await;
}

/// A task that ends with whoever waits for it.
struct Aborted(JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
