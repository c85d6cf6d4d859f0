//! The task that owns one recording's packager: it writes what the packager makes to disk, then publishes it. All recordings'
//! packaging shares a few threads of its own, so that a disk that is slow holds up nothing else.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loom_core::{CodecParameters, Cue, MediaTime, Packet, PcmFrame, Picture, RenditionId, Timescale};
use loom_hls::{Chapter, HlsOutput, Packager, PublishKind, RenditionInfo, RenditionKind, TextCue};
use loom_transcode::{PlannedRendition, RenditionShape};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};

use crate::error::EngineError;
use crate::event::{RenditionDescription, audio_name, codec_name, video_name};
use crate::recording::Inner;
use crate::text::{self, Given};

/// Items that wait to be packaged; then the transcode graph's outputs wait, and it drops by its own stated order.
const WORK_QUEUE: usize = 512;

/// Items that are packaged at one go.
const BATCH: usize = 64;

/// How often a recording's state is written down while it grows.
const PERSIST_EVERY: Duration = Duration::from_secs(5);

/// Hz of the speech spool.
pub(crate) const SPOOL_RATE: u32 = 16_000;

/// The spool's clock.
pub(crate) const SPOOL_SCALE: Timescale = match Timescale::new(SPOOL_RATE) {
    Some(scale) => scale,
    None => Timescale::OPUS,
};

/// One thing to package or to keep.
#[derive(Debug)]
pub(crate) enum Work {
    Format(RenditionId, CodecParameters),
    Packet(RenditionId, Packet),
    /// A planned rendition will not come.
    Drop(RenditionId),
    Cue(Cue),
    /// Speech is transcribed up to here.
    Heard(MediaTime),
    Poster(Picture),
    /// Speech to keep for the final transcript.
    Pcm(PcmFrame),
    /// The publisher is away, and was so up to here.
    Away(MediaTime),
    /// The publisher is back, at about this instant; answered with where the media ended and where it goes on.
    Back(
        MediaTime,
        oneshot::Sender<Result<(MediaTime, MediaTime), EngineError>>,
    ),
    /// All media is in; answered once the playlists are complete on disk.
    Finish(oneshot::Sender<Result<(), EngineError>>),
    /// Cues of a language that the host hands over.
    Text(
        RenditionInfo,
        Vec<TextCue>,
        Given,
        oneshot::Sender<Result<(), EngineError>>,
    ),
    /// Another chapter.
    Chapter(Chapter, oneshot::Sender<Result<(), EngineError>>),
    /// The final captions.
    Captions(Vec<Cue>, oneshot::Sender<Result<(), EngineError>>),
}

/// A rendition that a recording will have, by its place among the others.
#[derive(Debug)]
pub(crate) enum Declared {
    /// Named by the main multivariant playlist.
    Main(RenditionInfo),
    /// So too, but with key frames that are the publisher's own.
    Layer(RenditionInfo),
    /// A further picture, with a multivariant playlist of its own.
    Aside(RenditionInfo),
}

/// The threads on which recordings are packaged: here, and only here, tasks may wait for the disk.
#[derive(Debug)]
pub(crate) struct PackagingThreads(Option<Runtime>);

impl PackagingThreads {
    pub(crate) fn start() -> Result<Self, EngineError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = Builder::new_multi_thread()
            .worker_threads((cores / 2).clamp(2, 8))
            .thread_name("loom-package")
            .enable_time()
            .build()
            .map_err(EngineError::io("start threads for", "packaging"))?;
        Ok(Self(Some(threads)))
    }
}

impl Drop for PackagingThreads {
    fn drop(&mut self) {
        // The last who lets go may be a task, which must not wait. What still runs there holds a handle, so nothing does.
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

/// The way to a recording's packager. The task ends when the last of these is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Packaging {
    work: mpsc::Sender<Work>,
}

impl Packaging {
    /// `renditions` are all those planned: the multivariant playlist waits until each has its format.
    pub(crate) fn start(
        recording: Arc<Inner>,
        mut packager: Packager,
        renditions: Vec<Declared>,
        clock: Option<MediaClock>,
    ) -> Result<Self, EngineError> {
        for rendition in renditions {
            match rendition {
                Declared::Main(it) => packager.declare(it)?,
                Declared::Layer(it) => packager.declare_layer(it)?,
                Declared::Aside(it) => packager.declare_aside(it)?,
            }
        }
        let (work, queue) = mpsc::channel(WORK_QUEUE);
        let shared = recording.shared.clone();
        for language in &shared.config.captions.languages {
            match text::rendition(language, None) {
                Some(info) => packager.declare_text(info)?,
                None => tracing::warn!(language, "this is no language tag; it is left out"),
            }
        }
        recording.set_packaging(work.downgrade());
        let threads = shared.packaging.0.as_ref().ok_or(EngineError::ShuttingDown)?;
        let worker = Worker {
            spool: Spool::at(recording.folder.path("speech.pcm")),
            recording,
            packager,
            persisted: Instant::now(),
            clock,
            ticked: Instant::now(),
        };
        threads.spawn(worker.run(queue));
        Ok(Self { work })
    }

    /// Waits for a place in the queue. `false` once packaging has failed and takes no more.
    pub(crate) async fn send(&self, work: Work) -> bool {
        self.work.send(work).await.is_ok()
    }

    /// As [`send`](Self::send), from a thread.
    pub(crate) fn send_blocking(&self, work: Work) {
        // A packager that failed has said so itself.
        let _ = self.work.blocking_send(work);
    }

    /// Completes all playlists.
    pub(crate) async fn finish(&self) -> Result<(), EngineError> {
        let (done, answer) = oneshot::channel();
        self.ask(Work::Finish(done), answer).await
    }

    /// Replaces the live captions by the final ones.
    pub(crate) async fn set_captions(&self, cues: Vec<Cue>) -> Result<(), EngineError> {
        let (done, answer) = oneshot::channel();
        self.ask(Work::Captions(cues, done), answer).await
    }

    /// Declares the gap before another take that begins at about `at`. Gives where the media ended and where it goes on.
    pub(crate) async fn go_on(&self, at: MediaTime) -> Result<(MediaTime, MediaTime), EngineError> {
        let (done, answer) = oneshot::channel();
        self.ask(Work::Back(at, done), answer).await
    }

    async fn ask<T>(
        &self,
        work: Work,
        answer: oneshot::Receiver<Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let gone = || EngineError::NotReady("packaging has ended early; see the log".to_owned());
        if !self.send(work).await {
            return Err(gone());
        }
        answer.await.map_err(|_| gone())?
    }
}

struct Worker {
    recording: Arc<Inner>,
    packager: Packager,
    spool: Spool,
    /// When the recording's state was last written down.
    persisted: Instant,
    clock: Option<MediaClock>,
    ticked: Instant,
}

/// Where a live recording's zero lies, and how often its packager is told the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MediaClock {
    pub(crate) zero: Instant,
    pub(crate) every: Duration,
}

impl Worker {
    /// Ends when all senders are gone, or at the first error of the disk.
    async fn run(mut self, mut queue: mpsc::Receiver<Work>) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.next(&mut queue, &mut batch).await {
            for work in batch.drain(..) {
                if let Err(why) = self.handle(work) {
                    return self.fail(why);
                }
            }
            // what still waits in the queue is not late
            if queue.is_empty()
                && let Err(why) = self.tick()
            {
                return self.fail(why);
            }
        }
    }

    /// Waits for work, at most until the packager is to be told the time. `false` when all senders are gone.
    async fn next(&self, queue: &mut mpsc::Receiver<Work>, batch: &mut Vec<Work>) -> bool {
        let more = queue.recv_many(batch, BATCH);
        match self.clock {
            Some(clock) => tokio::time::timeout(clock.every, more).await != Ok(0),
            None => more.await > 0,
        }
    }

    /// Tells the packager how far media time has come.
    fn tick(&mut self) -> Result<(), EngineError> {
        let Some(clock) = self.clock.filter(|clock| self.ticked.elapsed() >= clock.every) else {
            return Ok(());
        };
        self.ticked = Instant::now();
        let outcome = self.packager.handle_time(MediaTime::ZERO + clock.zero.elapsed());
        self.survive(outcome);
        self.store()
    }

    fn fail(&self, why: EngineError) {
        tracing::error!(recording = %self.recording.id, error = %why, "packaging ended");
        self.recording.update(|info| info.reason = Some(why.to_string()));
        self.recording.stop.send_replace(true);
    }

    fn handle(&mut self, work: Work) -> Result<(), EngineError> {
        match work {
            Work::Format(rendition, codec) => {
                tracing::debug!(recording = %self.recording.id, %rendition, codec = codec_name(&codec), "format");
                let outcome = self.packager.handle_format(&rendition, codec);
                self.survive(outcome);
            }
            Work::Packet(rendition, packet) => {
                let end = packet.pts + packet.duration.unwrap_or_default();
                let outcome = self.packager.handle_packet(&rendition, packet);
                self.survive(outcome);
                self.recording.lengthen(end);
            }
            Work::Drop(rendition) => {
                let outcome = self.packager.drop_rendition(&rendition);
                self.survive(outcome);
            }
            Work::Cue(cue) => return self.after_end(|packager| packager.handle_cue(cue)),
            Work::Heard(at) => return self.after_end(|packager| packager.handle_cue_watermark(at)),
            Work::Poster(picture) => {
                return self.recording.folder.put("poster.jpg", &picture.data);
            }
            Work::Pcm(frame) => return self.spool.write(&frame),
            Work::Away(until) => {
                let outcome = self.packager.handle_gap(until);
                self.survive(outcome);
            }
            Work::Back(at, done) => {
                let packager = &mut self.packager;
                let gap = packager
                    .handle_absence()
                    .and_then(|from| Ok((from, packager.handle_return(at)?)));
                let stored = self.store();
                let _ = done.send(gap.map_err(EngineError::from));
                return stored;
            }
            Work::Finish(done) => {
                self.clock = None;
                let outcome = self.packager.finish().map_err(EngineError::from);
                let outcome = outcome.and(self.store()).and(self.spool.flush());
                let _ = done.send(outcome);
                return Ok(());
            }
            Work::Text(info, cues, given, done) => {
                let given = give(&mut self.packager, info, cues, given);
                let stored = self.store();
                let _ = done.send(given.map_err(EngineError::from));
                return stored;
            }
            Work::Chapter(chapter, done) => {
                let outcome = self.packager.handle_chapter(&chapter);
                self.survive(outcome);
                let stored = self.store();
                let _ = done.send(Ok(()));
                return stored;
            }
            Work::Captions(cues, done) => {
                self.packager.replace_cues(&cues);
                let _ = done.send(self.store());
                return Ok(());
            }
        }
        self.store()
    }

    /// Writes down how long the recording is by now, for whoever finishes it after a crash.
    fn persist(&mut self) {
        if self.persisted.elapsed() >= PERSIST_EVERY {
            self.persisted = Instant::now();
            self.recording.persist();
        }
    }

    /// Captions may come after the media has ended: then they are for the final transcript to tell.
    fn after_end(
        &mut self,
        take: impl FnOnce(&mut Packager) -> Result<(), loom_hls::HlsError>,
    ) -> Result<(), EngineError> {
        match take(&mut self.packager) {
            Err(loom_hls::HlsError::Finished) => return Ok(()),
            outcome => self.survive(outcome),
        }
        self.store()
    }

    /// One bad packet costs itself, not the recording.
    fn survive(&self, outcome: Result<(), loom_hls::HlsError>) {
        if let Err(why) = outcome {
            metrics::counter!("loom_packets_refused_total").increment(1);
            tracing::warn!(recording = %self.recording.id, error = %why, "a packet was left out");
        }
    }

    /// Each part is on disk before the playlist that lists it is published.
    fn store(&mut self) -> Result<(), EngineError> {
        while let Some(output) = self.packager.poll_output() {
            let folder = &self.recording.folder;
            match output {
                HlsOutput::Store { key, data } if key.ends_with(".m4s") => {
                    folder.begin(&format!("hls/{key}"), &data)?
                }
                HlsOutput::Store { key, data } => folder.put(&format!("hls/{key}"), &data)?,
                HlsOutput::Append { key, data } => folder.append(&format!("hls/{key}"), &data)?,
                HlsOutput::Publish(publish) => {
                    let closed = publish.kind() == PublishKind::Segment;
                    self.recording.publish(publish);
                    if closed {
                        self.persist();
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Hands the host's cues over; a language that is new is declared.
fn give(
    packager: &mut Packager,
    info: RenditionInfo,
    cues: Vec<TextCue>,
    given: Given,
) -> Result<(), loom_hls::HlsError> {
    let id = info.id.clone();
    if !packager.renditions().any(|known| known.id == id) {
        packager.declare_text(info)?;
    }
    match given {
        Given::Whole => packager.replace_text(&id, &cues),
        Given::More => cues
            .into_iter()
            .try_for_each(|cue| packager.handle_text(&id, cue)),
    }
}

/// Mono 16-bit samples at [`SPOOL_RATE`] on disk; the n-th sample is what is heard at n / rate. The file is made with the
/// first sample.
struct Spool {
    path: std::path::PathBuf,
    file: Option<BufWriter<File>>,
    written: i64,
}

/// A gap longer than this in the sound is not filled but taken for a broken clock.
const LONGEST_SILENCE: i64 = 3_600 * SPOOL_RATE as i64;

impl Spool {
    fn at(path: std::path::PathBuf) -> Self {
        Self {
            path,
            file: None,
            written: 0,
        }
    }

    fn file(&mut self) -> std::io::Result<&mut BufWriter<File>> {
        match &mut self.file {
            Some(file) => Ok(file),
            none => Ok(none.insert(BufWriter::new(File::create(&self.path)?))),
        }
    }

    fn write(&mut self, frame: &PcmFrame) -> Result<(), EngineError> {
        let ahead = frame.pts.ticks(SPOOL_SCALE) - self.written;
        // A few samples of jitter between frames are rounding; more is a gap or an overlap.
        let jitter = i64::from(SPOOL_RATE) / 200;
        let silence = if (jitter..LONGEST_SILENCE).contains(&ahead) {
            ahead
        } else {
            0
        };
        let skip = if ahead < -jitter { (-ahead) as usize } else { 0 };
        let samples = frame.samples.get(skip..).unwrap_or_default();
        let mut write = || -> std::io::Result<()> {
            let file = self.file()?;
            for _ in 0..silence {
                file.write_all(&[0, 0])?;
            }
            for sample in samples {
                let sample = (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)) as i16;
                file.write_all(&sample.to_le_bytes())?;
            }
            Ok(())
        };
        write().map_err(EngineError::io("append to", &self.path))?;
        self.written += silence + samples.len() as i64;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        let flushed = self.file.as_mut().map_or(Ok(()), BufWriter::flush);
        flushed.map_err(EngineError::io("append to", &self.path))
    }
}

/// What the packager must know of a planned rendition.
pub(crate) fn describe(planned: &PlannedRendition) -> RenditionInfo {
    let kind = match planned.shape {
        RenditionShape::Video {
            width,
            height,
            frame_rate,
            ..
        } => RenditionKind::Video {
            width,
            height,
            frame_rate,
        },
        RenditionShape::Audio { channels, codec, .. } => RenditionKind::Audio {
            name: audio_name(codec).to_owned(),
            language: None,
            channels,
        },
    };
    RenditionInfo {
        id: planned.id.clone(),
        kind,
        bandwidth: planned.bitrate,
    }
}

/// What the API tells of a planned rendition.
pub(crate) fn told(planned: &PlannedRendition) -> RenditionDescription {
    let (codec, size) = match planned.shape {
        RenditionShape::Video {
            codec, width, height, ..
        } => (video_name(codec), Some((width, height))),
        RenditionShape::Audio { codec, .. } => (audio_name(codec), None),
    };
    RenditionDescription {
        id: planned.id.clone(),
        kind: planned.kind(),
        codec: codec.to_owned(),
        width: size.map(|s| s.0),
        height: size.map(|s| s.1),
        bandwidth: planned.bitrate,
        playlist: None,
    }
}
