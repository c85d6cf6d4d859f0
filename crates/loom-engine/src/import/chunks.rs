//! A file in chunks: several are encoded at once, each is kept once it is, and all go to the packager in their order.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::{FutureExt, StreamExt, stream};
use loom_core::{CodecParameters, MediaKind, MediaTime, RenditionId};
use loom_transcode::{Chunk, ChunkRequest, ChunkWorker, Output, Plan, SourceChunk, SourceChunks};
use tokio::task::JoinHandle;

use super::kept::{self, Sum, sum_of};
use super::order::{Lanes, Sound};
use super::{check_left, run_on_file};
use crate::error::EngineError;
use crate::event::Event;
use crate::folder::SOURCE;
use crate::packaging::Packaging;
use crate::pump::Pump;
use crate::recording::Inner;

/// Takes what is made.
pub(crate) trait Sink {
    /// Takes one thing, and waits while it is behind. `false` where no more is taken.
    fn handle(&mut self, output: Output) -> impl Future<Output = bool> + Send;
}

impl Sink for Pump {
    async fn handle(&mut self, output: Output) -> bool {
        Pump::handle(self, output).await
    }
}

/// Runs `plan` on the recording's file, and hands what is made to `pump`.
pub(super) async fn run_on(
    recording: &Arc<Inner>,
    plan: &Plan,
    pump: Pump,
) -> Result<Packaging, EngineError> {
    let (place, file) = (&recording.shared.place, recording.folder.path(SOURCE));
    let least = recording.shared.config.files.chunk;
    let source = place.read_chunks(plan.clone(), file, least).await?;
    let sound = match &plan.audio {
        Some(audio) => {
            let alone = Plan {
                video: None,
                ..plan.clone()
            };
            Some(Sound::new(audio, run_on_file(recording, alone).await?))
        }
        None => None,
    };
    let (pump, failed) = run(recording, plan, source, sound, pump).await?;
    let packaging = pump.finish().await;
    check_left(recording, failed)?;
    Ok(packaging)
}

/// Has the chunks of `source` encoded, and hands what is made to `sink`, with the sound beside it. Gives that back, and what failed first.
pub(crate) async fn run<S: Sink>(
    recording: &Arc<Inner>,
    plan: &Plan,
    source: SourceChunks,
    sound: Option<Sound>,
    sink: S,
) -> Result<(S, Option<String>), EngineError> {
    let maker = Arc::new(Maker {
        recording: recording.clone(),
        here: recording.shared.place.encoder()?,
        gave_up: AtomicBool::new(false),
    });
    let read = stream::unfold(source, |mut source| async {
        Some((source.recv().await?, source))
    });
    // One more than are encoded: it is read meanwhile.
    let ahead = recording.shared.config.files.at_once.max(1) + 1;
    let made = read
        .map(|read| Task(tokio::spawn(maker.clone().make(read))))
        .buffered(ahead);
    let mut made = pin!(made);
    let mut line = Line {
        plan,
        sink,
        sound,
        lanes: Lanes::default(),
        formats: HashMap::new(),
        failed: None,
    };
    while let Some(made) = made.next().await {
        if !line.take(made.ok_or(EngineError::ShuttingDown)?).await {
            break;
        }
    }
    Ok(line.finish().await)
}

/// A chunk that is made, or what is wrong with the file.
enum Made {
    Chunk {
        source: SourceChunk,
        /// `None` where the rungs come no further.
        chunk: Result<Chunk, String>,
    },
    Broken(String),
}

/// Makes chunks, or finds them made.
struct Maker {
    recording: Arc<Inner>,
    here: Arc<dyn ChunkWorker>,
    /// A chunk could not be made: the rungs end there, and no more are needed.
    gave_up: AtomicBool,
}

impl Maker {
    async fn make(self: Arc<Self>, read: Result<SourceChunk, String>) -> Made {
        let source = match read {
            Ok(source) => source,
            Err(why) => return Made::Broken(why),
        };
        let chunk = match self.gave_up.load(Ordering::Relaxed) {
            true => Err("a chunk before this one could not be encoded".to_owned()),
            false => self.obtain(&source.request).await,
        };
        if chunk.is_err() {
            self.gave_up.store(true, Ordering::Relaxed);
        }
        Made::Chunk { source, chunk }
    }

    async fn obtain(&self, request: &Arc<ChunkRequest>) -> Result<Chunk, String> {
        let (recording, number) = (&self.recording.id, request.number);
        let (folder, asked) = (self.recording.folder.clone(), request.clone());
        let found = tokio::task::spawn_blocking(move || {
            let sum = sum_of(&asked.to_bytes());
            (sum, kept::load(&folder, &asked, sum))
        });
        let (sum, found) = found.await.map_err(|why| why.to_string())?;
        if let Some(chunk) = found {
            metrics::counter!("loom_chunks_found_total").increment(1);
            tracing::info!(%recording, number, "a chunk was encoded before");
            return Ok(chunk);
        }
        if request.plan.route.is_none() {
            return Ok(Chunk::default()); // nothing is made of its pictures
        }
        let (chunk, by) = self.encode(request).await?;
        metrics::counter!("loom_chunks_encoded_total").increment(1);
        let (chunk, kept) = self.keep(number, sum, chunk).await?;
        match kept {
            Ok(()) => tracing::info!(%recording, number, by, "a chunk was encoded and is kept"),
            // it is made again where this process is killed, and used all the same
            Err(why) => {
                tracing::warn!(%recording, number, by, %why, "a chunk was encoded and cannot be kept")
            }
        }
        Ok(chunk)
    }

    /// By the host's worker, or else here; who it was.
    async fn encode(&self, request: &Arc<ChunkRequest>) -> Result<(Chunk, &'static str), String> {
        let (recording, number) = (&self.recording.id, request.number);
        if let Some(worker) = &self.recording.shared.config.files.worker {
            let why = match encoded(&**worker, request).await {
                Ok(chunk) => return Ok((chunk, "the worker")),
                Err(why) => why,
            };
            metrics::counter!("loom_chunks_refused_total").increment(1);
            tracing::warn!(%recording, number, why, "the worker did not encode a chunk: it is encoded here");
            self.recording.events.tell(Event::Worker { chunk: number, why });
        }
        let turn = self.recording.shared.chunks.acquire().await;
        tracing::debug!(%recording, number, "a chunk is encoded");
        let mut made = encoded(&*self.here, request).await;
        if let Err(why) = &made {
            // what was short then may be there now
            tracing::warn!(%recording, number, why, "a chunk could not be encoded: it is tried again");
            made = encoded(&*self.here, request).await;
        }
        drop(turn);
        Ok((made?, "this machine"))
    }

    async fn keep(
        &self,
        number: u32,
        sum: Sum,
        chunk: Chunk,
    ) -> Result<(Chunk, Result<(), EngineError>), String> {
        let folder = self.recording.folder.clone();
        let stored = tokio::task::spawn_blocking(move || {
            let stored = kept::store(&folder, number, sum, &chunk);
            (chunk, stored)
        });
        stored.await.map_err(|why| why.to_string())
    }
}

async fn encoded(worker: &dyn ChunkWorker, request: &Arc<ChunkRequest>) -> Result<Chunk, String> {
    let encoding = AssertUnwindSafe(async { worker.encode(request.clone()).await });
    let chunk = encoding
        .catch_unwind()
        .await
        .map_err(|_| "it panicked".to_owned())??;
    chunk.check(request).map_err(|why| why.to_string())?;
    Ok(chunk)
}

/// The way to the packager.
struct Line<'a, S> {
    plan: &'a Plan,
    sink: S,
    sound: Option<Sound>,
    lanes: Lanes,
    /// What the packets of each rendition are of. `None`: it comes no further.
    formats: HashMap<RenditionId, Option<CodecParameters>>,
    /// What failed first.
    failed: Option<String>,
}

impl<S: Sink> Line<'_, S> {
    /// Hands on one chunk, with the sound beside it. `false` where no more is taken.
    async fn take(&mut self, made: Made) -> bool {
        let (source, chunk) = match made {
            Made::Broken(why) => {
                self.failed.get_or_insert_with(|| why.clone());
                return self.sink.handle(Output::Warning(why)).await;
            }
            Made::Chunk { source, chunk } => (source, chunk),
        };
        let end = source.request.shown.end;
        source.kept.into_iter().for_each(|output| self.lanes.push(output));
        match chunk {
            Ok(chunk) => chunk
                .outputs
                .into_iter()
                .for_each(|output| self.lanes.push(output)),
            Err(reason) => {
                for rung in &source.request.plan.rungs {
                    self.lanes.push(Output::Failed {
                        rendition: Some(rung.id.clone()),
                        reason: reason.clone(),
                    });
                }
            }
        }
        if let Some(sound) = &mut self.sound {
            sound.read_to(end, &mut self.lanes).await;
        }
        if !self.drain(end).await {
            return false;
        }
        let done = match self.plan.duration {
            Some(total) => end.min(MediaTime::ZERO + total),
            None => end,
        };
        let total = self.plan.duration;
        self.sink.handle(Output::Progress { done, total }).await
    }

    async fn drain(&mut self, end: MediaTime) -> bool {
        while let Some(output) = self.lanes.pop_before(end) {
            if self.is_news(&output) && !self.sink.handle(output).await {
                return false;
            }
        }
        true
    }

    /// Each chunk tells its formats, and nothing of a rendition comes once it has failed.
    fn is_news(&mut self, output: &Output) -> bool {
        match output {
            Output::Format { rendition, codec } => match self.formats.get(rendition) {
                Some(known) if known.as_ref().is_none_or(|known| known == codec) => false,
                _ => {
                    self.formats.insert(rendition.clone(), Some(codec.clone()));
                    true
                }
            },
            Output::Packet { rendition, .. } => self.formats.get(rendition) != Some(&None),
            Output::Failed {
                rendition: Some(rendition),
                reason,
            } => {
                self.failed.get_or_insert_with(|| reason.clone());
                self.formats.insert(rendition.clone(), None) != Some(None)
            }
            _ => true,
        }
    }

    /// All chunks are handed on.
    async fn finish(mut self) -> (S, Option<String>) {
        let end = MediaTime::from_nanos(i64::MAX);
        if let Some(sound) = &mut self.sound {
            sound.read_to(end, &mut self.lanes).await;
        }
        self.drain(end).await;
        let pictures = self
            .plan
            .renditions
            .iter()
            .filter(|it| it.kind() == MediaKind::Video);
        for missing in pictures.filter(|it| !self.formats.contains_key(&it.id)) {
            let failed = Output::Failed {
                rendition: Some(missing.id.clone()),
                reason: "none of its pictures could be decoded".to_owned(),
            };
            self.sink.handle(failed).await;
        }
        (self.sink, self.failed)
    }
}

/// A task that ends with whoever waits for it; `None` where it has ended without an answer.
struct Task<T>(JoinHandle<T>);

impl<T> Future for Task<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(context).map(Result::ok)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
