//! The task that owns one recording's packager: it writes what the packager makes to disk, then publishes it. All recordings'
//! packaging shares a few threads of its own, so that a disk that is slow holds up nothing else.

mod full;
mod sums;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use loom_core::{CodecParameters, Cue, MediaTime, Packet, PcmFrame, Picture, RenditionId, Timescale};
use loom_hls::{
    Chapter, ContentKey, DateRange, HlsOutput, Packager, PublishKind, RenditionInfo, RenditionKind, Sheets,
    TextCue, TimedMetadata,
};
use loom_transcode::{PlannedRendition, RenditionShape};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument;

use crate::error::EngineError;
use crate::event::{RenditionDescription, audio_name, codec_name, video_name};
use crate::keys;
use crate::life::Step;
use crate::recording::Inner;
use crate::store;
use crate::text::{self, Given};

use sums::Sums;
pub(crate) use sums::vouched;

/// Items that wait to be packaged; then the transcode graph's outputs wait, and it drops by its own stated order.
const WORK_QUEUE: usize = 512;

/// Items that are packaged at one go.
const BATCH: usize = 64;

/// How often a recording's state is written down while it grows.
const PERSIST_EVERY: Duration = Duration::from_secs(5);

/// How often it is told that packets are left out.
const TELL_EVERY: Duration = Duration::from_secs(1);

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
    /// A picture of this time was left out: the one before it stands.
    Still(RenditionId, MediaTime),
    /// A picture that begins late will come; answered with whether it can be taken.
    Late(RenditionInfo, oneshot::Sender<Result<(), EngineError>>),
    /// A planned rendition will not come.
    Drop(RenditionId),
    Cue(Cue),
    /// A key that was asked for.
    Key(ContentKey),
    /// Speech is transcribed up to here.
    Heard(MediaTime),
    Poster(Picture),
    /// The sheets of thumbnails, complete.
    Sheets(Sheets),
    /// Speech to keep for the final transcript.
    Pcm(PcmFrame),
    /// The publisher is away, and was so up to here.
    Away(MediaTime),
    /// The publisher is back, at about this instant; answered with where the media ended and where it goes on.
    Back(
        MediaTime,
        oneshot::Sender<Result<(MediaTime, MediaTime), EngineError>>,
    ),
    /// The recording is paused.
    Pause(oneshot::Sender<Result<(), EngineError>>),
    /// It goes on with what would have come at this instant if it had not been paused; answered with where it goes on.
    Resume(MediaTime, oneshot::Sender<Result<MediaTime, EngineError>>),
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
    /// A date range for every media playlist.
    DateRange(DateRange, oneshot::Sender<Result<(), EngineError>>),
    /// Timed metadata for what comes.
    Metadata(TimedMetadata, oneshot::Sender<Result<(), EngineError>>),
    /// The final captions.
    Captions(Vec<Cue>, oneshot::Sender<Result<(), EngineError>>),
    /// What no input should be able to do.
    #[cfg(test)]
    Panic,
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
pub(crate) struct PackagingThreads {
    handle: Handle,
    own: Option<Runtime>,
}

impl PackagingThreads {
    pub(crate) fn start() -> Result<Self, EngineError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = Builder::new_multi_thread()
            .worker_threads((cores / 2).clamp(2, 8))
            .thread_name("loom-package")
            .enable_time()
            .build()
            .map_err(EngineError::io("start threads for", "packaging"))?;
        Ok(Self {
            handle: threads.handle().clone(),
            own: Some(threads),
        })
    }

    /// Those of the caller, whose clock is theirs too.
    #[cfg(all(test, feature = "ingest"))]
    pub(crate) fn here() -> Self {
        Self {
            handle: Handle::current(),
            own: None,
        }
    }
}

impl Drop for PackagingThreads {
    fn drop(&mut self) {
        // The last who lets go may be a task, which must not wait. What still runs there holds a handle, so nothing does.
        if let Some(threads) = self.own.take() {
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
        let worker = Worker {
            spool: Spool::at(recording.folder.path("speech.pcm")),
            recording,
            packager,
            persisted: Instant::now(),
            clock,
            ticked: Instant::now(),
            newest: MediaTime::ZERO,
            depth: 0,
            work: work.downgrade(),
            wanted: Vec::new(),
            sums: Sums::new(shared.config.sync_every, shared.config.part),
            unwritten: None,
            trouble: None,
            append_at: None,
            shed: Vec::new(),
            lost: false,
            refused: 0,
            refused_at: None,
            deferred: VecDeque::new(),
            told: Vec::new(),
        };
        let stage = tracing::debug_span!("packaging", recording = %worker.recording.id);
        shared.packaging.handle.spawn(worker.run(queue).instrument(stage));
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

    /// Declares a picture or sound that begins late.
    pub(crate) async fn declare_late(&self, info: RenditionInfo) -> Result<(), EngineError> {
        let (done, answer) = oneshot::channel();
        self.ask(Work::Late(info, done), answer).await
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

    /// Ends the open segments where the media does: the recording is paused.
    pub(crate) async fn pause(&self) -> Result<(), EngineError> {
        let (done, answer) = oneshot::channel();
        self.ask(Work::Pause(done), answer).await
    }

    /// Goes on after a pause, with what came at `at` if media time had gone on. Gives where it goes on.
    pub(crate) async fn resume(&self, at: MediaTime) -> Result<MediaTime, EngineError> {
        let (done, answer) = oneshot::channel();
        self.ask(Work::Resume(at, done), answer).await
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
    /// Where the newest media ends.
    newest: MediaTime,
    /// What waits in the queue, as it was last told.
    depth: usize,
    /// The way by which keys come.
    work: mpsc::WeakSender<Work>,
    /// Keys to ask for.
    wanted: Vec<u32>,
    /// What may be lost yet where the power is cut.
    sums: Sums,
    /// What the disk did not take, and why: nothing else is handled before it does.
    unwritten: Option<HlsOutput>,
    trouble: Option<EngineError>,
    /// How long the file was that is being added to, whatever a try that failed has left behind that.
    append_at: Option<u64>,
    /// Renditions that were given up for want of room.
    shed: Vec<RenditionId>,
    /// Media was lost for want of room: the recording goes on at the next key frame.
    lost: bool,
    /// Packets that the packager would not have, since that was last told, and when it was.
    refused: u64,
    refused_at: Option<Instant>,
    /// What came meanwhile, and is to be done yet.
    deferred: VecDeque<Work>,
    /// Who is to be told that something is done, once all of it is stored.
    told: Vec<Box<dyn FnOnce() + Send>>,
}

/// Where a live recording's zero lies, and how often its packager is told the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MediaClock {
    pub(crate) zero: Instant,
    pub(crate) every: Duration,
}

impl Worker {
    /// Ends when all senders are gone, at the first error of the disk, or at a panic: neither is another recording's concern.
    async fn run(mut self, mut queue: mpsc::Receiver<Work>) {
        if let Err(why) = self.first_key().await {
            return self.fail(why.to_string());
        }
        let mut batch = Vec::with_capacity(BATCH);
        while self.next(&mut queue, &mut batch).await {
            self.tell_depth(queue.len());
            for work in batch.drain(..) {
                if let Err(why) = contained(|| self.handle(work)) {
                    return self.fail(why);
                }
                if let Err(why) = self.recover(&mut queue).await {
                    return self.fail(why);
                }
                self.told.drain(..).for_each(|tell| tell());
            }
            // what still waits in the queue is not late
            if queue.is_empty()
                && let Err(why) = contained(|| self.tick())
            {
                return self.fail(why);
            }
            if let Err(why) = self.recover(&mut queue).await {
                return self.fail(why);
            }
        }
    }

    /// Hands the first key over, where recordings are encrypted.
    async fn first_key(&mut self) -> Result<(), EngineError> {
        self.store()?;
        let Some(encryption) = self.recording.shared.config.encryption.clone() else {
            return Ok(());
        };
        let asked = encryption.keys.key(self.recording.id.clone(), 0);
        let key = match tokio::time::timeout(keys::PATIENCE, asked).await {
            Ok(Ok(key)) => key,
            Ok(Err(why)) => return Err(EngineError::Key(why)),
            Err(_) => return Err(EngineError::Key("it did not come in time".to_owned())),
        };
        self.take_key(key)
    }

    /// Keeps a key that viewers fetch here, and hands it to the packager.
    fn take_key(&mut self, key: ContentKey) -> Result<(), EngineError> {
        if key.uri == keys::file(key.period) {
            let name = format!("keys/{}", key.uri);
            self.recording.folder.put(&name, key.key.expose())?;
        }
        Ok(self.packager.handle_key(key)?)
    }

    /// Asks for the keys that come next, beside what goes on.
    fn ask_for_keys(&mut self) {
        let Some(encryption) = &self.recording.shared.config.encryption else {
            return;
        };
        for period in self.wanted.drain(..).filter(|period| *period > 0) {
            let asked = encryption.keys.key(self.recording.id.clone(), period);
            let (work, recording) = (self.work.clone(), self.recording.id.clone());
            tokio::spawn(async move {
                match tokio::time::timeout(keys::PATIENCE, asked).await {
                    Ok(Ok(key)) => {
                        if let Some(work) = work.upgrade() {
                            let _ = work.send(Work::Key(key)).await;
                        }
                    }
                    Ok(Err(why)) => {
                        tracing::error!(%recording, period, why, "no key: the one before stays in force");
                    }
                    Err(_) => {
                        tracing::error!(%recording, period, "a key is late: the one before stays in force");
                    }
                }
            });
        }
    }

    /// Waits for work, at most until the packager is to be told the time. `false` when all senders are gone.
    async fn next(&mut self, queue: &mut mpsc::Receiver<Work>, batch: &mut Vec<Work>) -> bool {
        if !self.deferred.is_empty() {
            batch.extend(self.deferred.drain(..));
            return true;
        }
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
        if self.lost {
            return Ok(()); // nothing is repeated where media was lost
        }
        let outcome = self.packager.handle_time(MediaTime::ZERO + clock.zero.elapsed());
        self.survive(outcome);
        self.store()
    }

    /// How much waits in the queue now.
    fn tell_depth(&mut self, depth: usize) {
        if depth != self.depth {
            let more = depth as f64 - std::mem::replace(&mut self.depth, depth) as f64;
            metrics::gauge!("loom_packaging_queued").increment(more);
        }
    }

    fn fail(&self, why: String) {
        tracing::error!(recording = %self.recording.id, why, "packaging ended");
        self.recording.happened(Step::Ended(why));
        self.recording.happened(Step::Halt);
    }

    fn handle(&mut self, work: Work) -> Result<(), EngineError> {
        match work {
            Work::Format(rendition, codec) => {
                tracing::debug!(recording = %self.recording.id, %rendition, codec = codec_name(&codec), "format");
                let outcome = self.packager.handle_format(&rendition, codec);
                self.survive(outcome);
            }
            Work::Key(key) => {
                let period = key.period;
                if let Err(why) = self.take_key(key) {
                    tracing::error!(recording = %self.recording.id, period, error = %why, "a key cannot be used");
                }
            }
            Work::Packet(rendition, packet) => {
                if !self.takes(&rendition, &packet) {
                    return self.store();
                }
                let end = packet.pts + packet.duration.unwrap_or_default();
                self.newest = self.newest.max(end);
                let outcome = self.packager.handle_packet(&rendition, packet);
                self.survive(outcome);
                self.recording.lengthen(end);
            }
            Work::Still(rendition, _) if self.lost || self.shed.contains(&rendition) => {}
            Work::Still(rendition, at) => {
                let outcome = self.packager.handle_still(&rendition, at);
                self.survive(outcome);
            }
            Work::Late(info, done) => {
                let outcome = match info.kind {
                    RenditionKind::Audio { .. } => self.packager.declare_sound(info),
                    _ => self.packager.declare_aside(info),
                };
                let _ = done.send(outcome.map_err(EngineError::from));
            }
            Work::Drop(rendition) => {
                let outcome = self.packager.drop_rendition(&rendition);
                self.survive(outcome);
            }
            Work::Cue(cue) => return self.after_end(|packager| packager.handle_cue(cue)),
            Work::Heard(at) => return self.after_end(|packager| packager.handle_cue_watermark(at)),
            Work::Sheets(sheets) => return self.after_end(|packager| packager.handle_sheets(sheets)),
            Work::Poster(picture) => {
                return spared(self.recording.folder.put("poster.jpg", &picture.data));
            }
            Work::Pcm(frame) => return spared(self.spool.write(&frame)),
            Work::Away(until) => {
                let outcome = self.packager.handle_gap(until);
                self.survive(outcome);
            }
            Work::Back(at, done) => {
                self.lost = false;
                let gap = self
                    .persevere(Packager::handle_absence)
                    .and_then(|from| Ok((from, self.persevere(|packager| packager.handle_return(at))?)));
                return self.answer(done, gap);
            }
            Work::Pause(done) => {
                let outcome = self.persevere(Packager::handle_absence).map(drop);
                return self.answer(done, outcome);
            }
            Work::Resume(at, done) => {
                self.lost = false;
                let resumed = self.persevere(Packager::handle_absence).and_then(|end| {
                    let paused = at.since(end);
                    if let Some(clock) = &mut self.clock {
                        clock.zero += paused;
                    }
                    self.persevere(|packager| packager.handle_resume(paused))
                });
                return self.answer(done, resumed);
            }
            Work::Finish(done) => {
                self.clock = None;
                let outcome = self.packager.finish().map_err(EngineError::from);
                self.recording.lengthen(self.packager.head());
                let outcome = outcome.and(self.store()).and(spared(self.spool.flush()));
                self.tell(done, outcome);
                return Ok(());
            }
            Work::Text(info, cues, given, done) => {
                let given = give(&mut self.packager, info, cues, given);
                return self.answer(done, given);
            }
            Work::Chapter(chapter, done) => {
                let outcome = self.packager.handle_chapter(&chapter);
                self.survive(outcome);
                return self.answer(done, Ok(()));
            }
            Work::DateRange(range, done) => {
                let outcome = self.packager.handle_date_range(&range);
                return self.answer(done, outcome);
            }
            Work::Metadata(metadata, done) => {
                let _ = done.send(self.packager.handle_metadata(metadata).map_err(EngineError::from));
                return Ok(());
            }
            Work::Captions(cues, done) => {
                self.packager.replace_cues(&cues);
                let stored = self.store();
                self.tell(done, stored);
                return Ok(());
            }
            #[cfg(test)]
            Work::Panic => panic!("a test asked for it"),
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

    /// Tells who asked what came of it, once all that it made is stored.
    fn answer<T: Send + 'static>(
        &mut self,
        done: oneshot::Sender<Result<T, EngineError>>,
        outcome: Result<T, loom_hls::HlsError>,
    ) -> Result<(), EngineError> {
        let stored = self.store();
        self.tell(done, outcome.map_err(EngineError::from));
        stored
    }

    /// Tells who asked, once all is stored.
    fn tell<T: Send + 'static>(
        &mut self,
        done: oneshot::Sender<Result<T, EngineError>>,
        outcome: Result<T, EngineError>,
    ) {
        // who asked may be gone
        self.told.push(Box::new(move || drop(done.send(outcome))));
    }

    /// A packet that is refused on the way costs itself: what it was on the way of is done by the second call.
    fn persevere<T>(
        &mut self,
        act: impl Fn(&mut Packager) -> Result<T, loom_hls::HlsError>,
    ) -> Result<T, loom_hls::HlsError> {
        act(&mut self.packager).or_else(|why| {
            self.survive(Err(why));
            act(&mut self.packager)
        })
    }

    /// One bad packet costs itself, not the recording.
    fn survive(&mut self, outcome: Result<(), loom_hls::HlsError>) {
        let Err(why) = outcome else { return };
        metrics::counter!("loom_packets_refused_total").increment(1);
        self.refused += 1;
        // an encoder's silence, which stands there already, comes in runs of hundreds
        if self.refused_at.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            let packets = std::mem::take(&mut self.refused);
            self.refused_at = Some(Instant::now());
            tracing::warn!(recording = %self.recording.id, packets, error = %why, "packets were left out");
        }
    }

    /// Each part is on disk before the playlist that lists it is published. Where the disk is full, the rest waits.
    fn store(&mut self) -> Result<(), EngineError> {
        while let Some(output) = self.unwritten.take().or_else(|| self.packager.poll_output()) {
            let (folder, sync) = (&self.recording.folder, &self.recording.shared.sync);
            if let HlsOutput::Store { key, .. } | HlsOutput::Append { key, .. } = &output {
                self.sums.keep_up(folder, key, sync);
            }
            let written = match &output {
                HlsOutput::Store { key, data } if key.ends_with(".m4s") => self
                    .sums
                    .describe(folder, key, data, true)
                    .and_then(|()| folder.begin(&format!("hls/{key}"), data))
                    .map(|()| self.sums.wrote(folder, key, data.len(), sync.touch())),
                HlsOutput::Store { key, data } => self
                    .sums
                    .settle(folder, key)
                    .and_then(|()| folder.put(&format!("hls/{key}"), data)),
                HlsOutput::Append { key, data } => {
                    let name = format!("hls/{key}");
                    let at = *self.append_at.get_or_insert_with(|| folder.len(&name));
                    self.sums
                        .settle(folder, key)
                        .and_then(|()| self.sums.describe(folder, key, data, false))
                        .and_then(|()| folder.append_at(&name, at, data))
                        .map(|()| self.sums.wrote(folder, key, data.len(), sync.touch()))
                }
                _ => Ok(()),
            };
            match written {
                Ok(()) => {
                    self.append_at = None;
                    if let HlsOutput::Store { data, .. } | HlsOutput::Append { data, .. } = &output {
                        sync.touch();
                        metrics::counter!("loom_written_bytes_total").increment(data.len() as u64);
                    }
                }
                Err(why) if full::may_pass(&why) => {
                    (self.unwritten, self.trouble) = (Some(output), Some(why));
                    return Ok(());
                }
                Err(why) => return Err(why),
            }
            match output {
                HlsOutput::Publish(publish) => {
                    let closed = publish.kind() == PublishKind::Segment;
                    if publish.kind() == PublishKind::Part
                        && let Some(clock) = self.clock
                    {
                        let late = clock
                            .zero
                            .elapsed()
                            .saturating_sub(self.newest.since(MediaTime::ZERO));
                        metrics::histogram!("loom_part_listed_seconds").record(late.as_secs_f64());
                    }
                    self.recording.publish(publish);
                    if closed {
                        self.persist();
                        store::send_soon(&self.recording);
                    }
                }
                HlsOutput::Remove { key } => folder.discard(&format!("hls/{key}")),
                HlsOutput::NeedKey { period } => self.wanted.push(period),
                _ => {}
            }
        }
        self.ask_for_keys();
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.tell_depth(0);
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

/// What a recording can do without is left out where the disk is full.
fn spared(written: Result<(), EngineError>) -> Result<(), EngineError> {
    match written {
        Err(why) if full::may_pass(&why) => {
            tracing::warn!(%why, "left out");
            Ok(())
        }
        done => done,
    }
}

/// Does it, and says why it could not be done; a panic is a reason too.
fn contained(act: impl FnOnce() -> Result<(), EngineError>) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(done) => done.map_err(|why| why.to_string()),
        Err(_) => Err("an internal error in packaging ended the recording".to_owned()),
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
        // the same sound in another coding has the same name (RFC 8216bis §4.4.6.1.1)
        RenditionShape::Audio { channels, .. } => RenditionKind::Audio {
            name: "Sound".to_owned(),
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use loom_core::codec::{h264, opus};
    use loom_core::{AudioCodec, TrackId};
    use loom_hls::PackagerConfig;

    use super::*;
    use crate::{CaptionsConfig, Engine, EngineConfig, IngestConfig, Recording, RecordingId};

    async fn engine(data: &std::path::Path) -> Engine {
        let config = EngineConfig {
            data_dir: data.to_owned(),
            ingest: IngestConfig {
                udp: ([127, 0, 0, 1], 0).into(),
                ..IngestConfig::default()
            },
            captions: CaptionsConfig {
                enabled: false,
                ..CaptionsConfig::default()
            },
            ..EngineConfig::default()
        };
        Engine::start(config).await.expect("the engine starts")
    }

    fn id(name: &str) -> RenditionId {
        RenditionId::new(name).expect("a name")
    }

    fn begun(engine: &Engine) -> (Recording, Packaging) {
        let recording = engine.create(RecordingId::random()).expect("a recording");
        let info = |name: &str, kind| {
            Declared::Main(RenditionInfo {
                id: id(name),
                kind,
                bandwidth: 1_000_000,
            })
        };
        let picture = RenditionKind::Video {
            width: 640,
            height: 360,
            frame_rate: 30.0,
        };
        let sound = RenditionKind::Audio {
            name: "Opus".to_owned(),
            language: None,
            channels: 2,
        };
        let packager = Packager::new(PackagerConfig::default()).expect("a packager");
        let declared = vec![info("source", picture), info("opus", sound)];
        let packaging = Packaging::start(recording.0.clone(), packager, declared, None).expect("it starts");
        (recording, packaging)
    }

    fn packet(millis: i64, lasts: u64) -> Packet {
        let pts = MediaTime::from_millis(millis);
        Packet {
            track: TrackId(0),
            pts,
            dts: pts,
            duration: Some(Duration::from_millis(lasts)),
            key: true,
            data: Bytes::from_static(b"x"),
        }
    }

    /// 640×360 as x264 wrote it.
    fn picture_format() -> CodecParameters {
        const SPS: &[u8] = &[
            0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00,
            0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96,
        ];
        let pps = Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0]);
        CodecParameters::Video(h264::parameters(SPS, &[pps]).expect("parameters"))
    }

    /// By it the packager knows that the one is made of the other.
    #[test]
    fn the_same_sound_has_one_name_in_every_coding() {
        let name = |codec| {
            let planned = PlannedRendition {
                id: id(audio_name(codec)),
                shape: RenditionShape::Audio {
                    codec,
                    sample_rate: 48_000,
                    channels: 2,
                },
                bitrate: 128_000,
                kept: codec == AudioCodec::Opus,
            };
            match describe(&planned).kind {
                RenditionKind::Audio { name, .. } => name,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(name(AudioCodec::Opus), name(AudioCodec::Aac));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_in_packaging_ends_its_recording_with_a_reason_and_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = engine(folder.path()).await;
        let ((hurt, its), (other, theirs)) = (begun(&engine), begun(&engine));
        its.send(Work::Panic).await;
        let mut stop = hurt.0.stop.subscribe();
        let told = tokio::time::timeout(Duration::from_secs(10), crate::gather::stopped(&mut stop)).await;
        assert!(
            told.is_ok(),
            "the recording goes on without anything being packaged"
        );
        assert!(
            hurt.info()
                .reason
                .is_some_and(|why| why.contains("internal error"))
        );
        assert!(its.finish().await.is_err());
        assert!(!other.0.is_stopping());
        theirs
            .send(Work::Format(
                id("opus"),
                CodecParameters::Audio(opus::parameters(2, 0)),
            ))
            .await;
        theirs.send(Work::Packet(id("opus"), packet(0, 20))).await;
        theirs.finish().await.expect("the other one is whole");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_packet_that_is_refused_at_a_return_costs_only_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = engine(folder.path()).await;
        let (recording, packaging) = begun(&engine);
        packaging.send(Work::Format(id("source"), picture_format())).await;
        packaging
            .send(Work::Format(
                id("opus"),
                CodecParameters::Audio(opus::parameters(2, 0)),
            ))
            .await;
        packaging.send(Work::Packet(id("source"), packet(0, 33))).await;
        // Sound that waits for a boundary, and behind it sound that lies before it.
        for millis in [0, 1_000, 300] {
            packaging.send(Work::Packet(id("opus"), packet(millis, 20))).await;
        }
        let (from, to) = packaging
            .go_on(MediaTime::from_millis(5_000))
            .await
            .expect("it goes on");
        assert!(from < to && to == MediaTime::from_millis(5_000), "{from} {to}");
        packaging
            .send(Work::Packet(id("source"), packet(5_000, 33)))
            .await;
        packaging.finish().await.expect("it is whole");
        assert!(!recording.0.is_stopping());
        let playlist = recording.0.folder.read("hls/source/index.m3u8", 0, None);
        let playlist = playlist.expect("readable").expect("a playlist");
        let playlist = String::from_utf8_lossy(&playlist);
        assert_eq!(
            playlist.matches("#EXT-X-DISCONTINUITY\n").count(),
            1,
            "{playlist}"
        );
    }
}
