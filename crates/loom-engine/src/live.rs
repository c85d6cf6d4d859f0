//! One live recording: its publisher's sessions through the transcode graph to the packager, until it ends.

mod tracks;

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use loom_core::{Gap, Media, MediaKind, MediaTime, TrackFormat, TrackId};
use loom_hls::{Packager, PackagerConfig};
use loom_ingest::{CloseReason, Session, SessionEvent, TrackInfo};
use loom_transcode::{Backend, Feed, SourceShape, Wanted, plan};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::arrival::{self, Arrival, at};
use crate::captions::LiveCaptions;
use crate::edges::Edges;
use crate::error::EngineError;
use crate::event::{RecordingState, TrackState};
use crate::finish;
use crate::further::{self, Branch, Further, Role};
use crate::gather::{Gathered, stopped};
use crate::key_frames::KeyFrames;
use crate::keys::EncryptionConfig;
use crate::packaging::{MediaClock, Packaging, Work};
use crate::pump::{pump, renditions, take_stock};
use crate::recording::{Inner, PublishAnswer};
use crate::salvage;
use crate::take::{self, Placement, Take};

/// How long the graph may take to flush at the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(10);

pub(crate) async fn publish(
    recording: &Arc<Inner>,
    offer: &str,
    from: Option<IpAddr>,
) -> Result<PublishAnswer, EngineError> {
    let began = Instant::now();
    // Before any work is done for an offer that can come to nothing; `admit` decides where two come at once.
    recording.check_open()?;
    let limit = recording.shared.config.max_live;
    if recording.state_now() == RecordingState::Created && recording.shared.live_count() >= limit {
        return Err(EngineError::Full { live: limit });
    }
    let (answer, session) = recording
        .shared
        .ingest
        .accept_from(offer, from)
        .await
        .map_err(EngineError::BadOffer)?;
    let (id, handle) = (session.id().to_string(), session.handle());
    if let Some((first, later)) = recording.admit(Take { session, began })? {
        metrics::counter!("loom_recordings_started_total").increment(1);
        tokio::spawn(run(recording.clone(), first, later));
    }
    Ok(PublishAnswer {
        sdp: answer.sdp,
        session: id,
        etag: answer.etag,
        handle,
    })
}

/// Runs the recording to its end, whatever happens in it.
async fn run(recording: Arc<Inner>, first: Take, later: mpsc::Receiver<Take>) {
    metrics::gauge!("loom_recordings_live").increment(1);
    let outcome = AssertUnwindSafe(record(&recording, first, later))
        .catch_unwind()
        .await;
    metrics::gauge!("loom_recordings_live").decrement(1);
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(why)) => {
            // What ended packaging has told why, better than who noticed it.
            let why = recording.info().reason.unwrap_or_else(|| why.to_string());
            salvage::salvage(&recording, &why);
        }
        Err(_) => salvage::salvage(&recording, "an internal error ended the recording"),
    }
}

async fn record(
    recording: &Arc<Inner>,
    first: Take,
    mut later: mpsc::Receiver<Take>,
) -> Result<(), EngineError> {
    let (arrival, next) = arrival::first(recording, first, &mut later).await;
    let (take, gathered) = (arrival.take, arrival.got);
    if gathered.formats.is_empty() {
        let why = gathered
            .closed
            .map_or_else(|| "no media came".to_owned(), |why| why.to_string());
        recording.fail(format!("nothing was recorded: {why}"));
        return Ok(());
    }
    if let Some(at) = gathered.first_key_frame {
        let waited = at.duration_since(take.began);
        metrics::histogram!("loom_first_key_frame_seconds").record(waited.as_secs_f64());
    }
    let mut running = Running::start(recording, take.session, gathered).await?;
    running.candidate = next;
    let how = running.follow(recording, &mut later).await?;
    drop(later); // whoever publishes from here on is told that it is over
    if let Some(how) = how {
        tracing::info!(recording = %recording.id, how, "the publisher went away");
        recording.update(|info| info.reason = Some(how));
    }
    let packaging = running.flush().await;
    packaging.finish().await?;
    recording.complete();
    finish::transcript(recording, Some(&packaging)).await;
    Ok(())
}

/// How a session came to its end.
#[derive(Debug)]
enum Ended {
    /// It closed.
    Closed(CloseReason),
    /// Another session's media came while it was open: the same publisher, more often than not, who had lost the connection.
    Replaced(Box<Arrival>),
}

/// A recording whose graph runs.
struct Running {
    session: Session,
    /// How the session's tracks and times fit into the recording.
    placement: Placement,
    /// The tracks of the recording's first session, which later ones go on with.
    known: Vec<TrackInfo>,
    /// The instant of the recording's zero.
    zero: Instant,
    /// The main picture and the main sound.
    formats: Vec<TrackFormat>,
    feed: Feed,
    /// The other tracks, each with a graph of its own.
    further: Vec<Branch>,
    /// What came of tracks of which nothing is made.
    unrecorded: Vec<TrackFormat>,
    keys: KeyFrames,
    edges: Edges,
    packaging: Packaging,
    pump: JoinHandle<()>,
    held: Vec<Media>,
    closed: Option<CloseReason>,
    /// A session that will take over once its media comes.
    candidate: Option<Arrival>,
}

impl Running {
    async fn start(recording: &Arc<Inner>, session: Session, got: Gathered) -> Result<Self, EngineError> {
        let config = &recording.shared.config;
        let sorted = further::sort(&got.formats, session.tracks());
        let shape = SourceShape::from_formats(&sorted.main);
        let mut wanted = wanted(recording);
        further::spare(&mut wanted, &sorted.further);
        let plan = plan(&shape, &wanted, &recording.shared.capabilities)
            .map_err(loom_transcode::TranscodeError::from)?;
        let further = Further::plan(recording, sorted.further, &plan);
        let captions = plan.audio.as_ref().is_some_and(|audio| audio.pcm);
        tracing::info!(recording = %recording.id, %plan, "the plan");
        let packager = PackagerConfig {
            // Key frames are asked for every `segment` and come a little later or earlier: each begins a segment.
            segment: config.segment.mul_f64(0.8),
            part: config.part,
            zero: got.wall_clock(),
            text: config.captions.form,
            encryption: config.encryption.as_ref().map(EncryptionConfig::packaged),
            ..PackagerConfig::default()
        };
        let packager = Packager::new(config.playlists.apply(&recording.id, packager))?;
        let declared = renditions(&plan, captions, &further);
        let clock = got.zero().map(|zero| MediaClock {
            zero: zero.into_std(),
            every: config.part / 2,
        });
        let packaging = Packaging::start(recording.clone(), packager, declared, clock)?;
        let (formats, tracks) = (&got.formats, session.tracks());
        let is_main = |format: &TrackFormat| sorted.main.iter().any(|main| main.track == format.track);
        recording.update(|info| take_stock(info, formats, tracks, &plan, &further, is_main, captions));
        let backend = recording.shared.backend.clone();
        let (graph_plan, formats) = (plan.clone(), sorted.main.clone());
        let (feed, outputs) = tokio::task::spawn_blocking(move || backend.live(&graph_plan, &formats))
            .await
            .map_err(|_| EngineError::ShuttingDown)??;
        let captions = captions
            .then(|| LiveCaptions::start(recording.clone(), packaging.clone()))
            .flatten();
        let pump = tokio::spawn(guarded(
            recording.clone(),
            pump(recording.clone(), outputs, packaging.clone(), captions),
        ));
        let video = take::of_kind(&sorted.main, MediaKind::Video).map(|f| f.track);
        let mut branches = Vec::new();
        for track in further {
            let ids = track.ids();
            match track.start(recording, &packaging).await {
                Ok(branch) => branches.push(branch),
                Err(why) => {
                    tracing::error!(recording = %recording.id, ?ids, %why, "a further track's graph did not start");
                    recording.update(|info| info.renditions.retain(|it| !ids.contains(&it.id)));
                    for id in ids {
                        packaging.send(Work::Drop(id)).await;
                    }
                }
            }
        }
        let pictures = branches.iter().filter(|it| it.role != Role::Sound);
        let pictures: Vec<TrackId> = pictures.map(|it| it.track).collect();
        Ok(Self {
            placement: Placement::first(session.tracks()),
            known: session.tracks().to_vec(),
            zero: got.zero().unwrap_or_else(Instant::now),
            feed,
            keys: KeyFrames::new(video, pictures, config.segment),
            edges: Edges::new(&sorted.main),
            formats: sorted.main,
            further: branches,
            unrecorded: Vec::new(),
            packaging,
            pump,
            held: got.held,
            closed: got.closed,
            candidate: None,
            session,
        })
    }

    /// Feeds the graph through all sessions until the publisher or the host ends it. Gives how it ended, where that was not by
    /// anybody's will.
    async fn follow(
        &mut self,
        recording: &Arc<Inner>,
        later: &mut mpsc::Receiver<Take>,
    ) -> Result<Option<String>, EngineError> {
        let window = recording.shared.config.reconnect_window;
        loop {
            let back = match self.follow_session(recording, later).await {
                Ended::Replaced(back) => {
                    tracing::info!(recording = %recording.id, "another session takes the publisher's place");
                    self.drain().await;
                    self.end_take();
                    *back
                }
                // a publisher that has come back already only says goodbye to its old session
                Ended::Closed(CloseReason::ByHost | CloseReason::ByPublisher)
                    if recording.is_stopping() || (self.candidate.is_none() && later.is_empty()) =>
                {
                    return Ok(None);
                }
                Ended::Closed(why) if window.is_zero() || recording.is_stopping() => {
                    return Ok(Some(format!("the recording ended because {why}")));
                }
                Ended::Closed(why) => {
                    tracing::info!(recording = %recording.id, %why, "the publisher is waited for");
                    recording.update(|info| info.state = RecordingState::Reconnecting);
                    self.end_take();
                    match self.wait(recording, later).await {
                        Some(back) => back,
                        None if recording.is_stopping() => return Ok(None),
                        None => {
                            let seconds = window.as_secs_f64();
                            return Ok(Some(format!(
                                "the recording ended because {why}, and nobody came back within {seconds:.0} s"
                            )));
                        }
                    }
                }
            };
            self.resume(recording, back).await?;
        }
    }

    /// Feeds the graph until the session is over.
    async fn follow_session(&mut self, recording: &Arc<Inner>, later: &mut mpsc::Receiver<Take>) -> Ended {
        self.edges.align_start(&mut self.held);
        let pictures: Vec<TrackId> = self
            .further
            .iter()
            .filter(|it| it.role != Role::Sound)
            .map(|it| it.track)
            .collect();
        Edges::align_pictures(&mut self.held, &pictures);
        for media in std::mem::take(&mut self.held) {
            self.take_in(recording, media).await;
        }
        let mut stop = recording.stop.subscribe();
        let mut stopping = false;
        loop {
            if let Some(why) = self.closed.take() {
                return Ended::Closed(why);
            }
            self.forget_gone(recording);
            if let Some(back) = self.ready(recording) {
                return Ended::Replaced(Box::new(back));
            }
            let late = self
                .candidate
                .as_ref()
                .and_then(|back| back.got.waits())
                .flatten();
            tokio::select! {
                event = self.session.recv() => match event {
                    Some(SessionEvent::Media(media)) => {
                        if let Some(media) = self.placement.place(media) {
                            self.take_in(recording, media).await;
                        }
                    }
                    Some(SessionEvent::Paused(track)) => self.note(recording, track, TrackState::Paused),
                    Some(SessionEvent::Resumed(track)) => self.note(recording, track, TrackState::Running),
                    Some(SessionEvent::Closed(why)) => return Ended::Closed(why),
                    Some(_) => {}
                    None => return Ended::Closed(CloseReason::ByHost),
                },
                Some(next) = later.recv(), if !stopping => self.consider(recording, next),
                event = Arrival::next_event(&mut self.candidate), if !stopping => {
                    Arrival::handle_event(&mut self.candidate, event);
                }
                () = at(late), if !stopping => self.give_up_waiting(),
                () = stopped(&mut stop), if !stopping => {
                    stopping = true;
                    self.session.handle().close();
                }
                () = tokio::time::sleep(FLUSH_LIMIT), if stopping => return Ended::Closed(CloseReason::ByHost),
            }
        }
    }

    /// Takes what a session that is replaced still has.
    async fn drain(&mut self) {
        self.session.handle().close();
        let end = Instant::now() + DRAIN_LIMIT;
        while let Ok(Some(event)) = timeout_at(end, self.session.recv()).await {
            match event {
                SessionEvent::Media(media) => {
                    if let Some(media) = self.placement.place(media) {
                        self.feed(media);
                    }
                }
                SessionEvent::Closed(_) => return,
                _ => {}
            }
        }
    }

    /// Sound and pictures of a take that is over end together.
    fn end_take(&mut self) {
        for media in self.edges.finish() {
            self.feed.push(media);
        }
    }

    /// Waits for a session to go on with, while the gap grows. `None` where nobody comes in time, or the recording is to end.
    async fn wait(&mut self, recording: &Arc<Inner>, later: &mut mpsc::Receiver<Take>) -> Option<Arrival> {
        let config = &recording.shared.config;
        let began = Instant::now();
        let over = began + config.reconnect_window;
        let mut tick = tokio::time::interval_at(began + SETTLE, config.segment);
        let mut stop = recording.stop.subscribe();
        loop {
            if let Some(back) = self.ready(recording) {
                return Some(back);
            }
            let candidate = self.candidate.as_ref();
            let silent = candidate.is_none_or(|back| back.got.began().is_none());
            let late = candidate.and_then(|back| back.got.waits()).flatten();
            let alone = candidate.is_none();
            tokio::select! {
                () = stopped(&mut stop) => return None,
                Some(next) = later.recv() => self.consider(recording, next),
                event = Arrival::next_event(&mut self.candidate) => {
                    Arrival::handle_event(&mut self.candidate, event);
                }
                () = at(late) => self.give_up_waiting(),
                _ = tick.tick(), if silent => {
                    let now = MediaTime::ZERO + self.zero.elapsed();
                    self.packaging.send(Work::Away(now)).await;
                }
                () = tokio::time::sleep_until(over), if alone => match later.try_recv() {
                    Ok(next) => self.consider(recording, next),
                    Err(_) => return None,
                },
            }
        }
    }

    /// Another session may take over, once its media comes.
    fn consider(&mut self, recording: &Inner, next: Take) {
        Arrival::replace(&mut self.candidate, Arrival::new(next, &self.known), recording);
    }

    /// Forgets a session that ended before it could take over from one that is still there.
    fn forget_gone(&mut self, recording: &Inner) {
        if let Some(gone) = self.candidate.take_if(|it| it.got.closed.is_some()) {
            tracing::info!(recording = %recording.id, "a session that was to take over is gone");
            recording.forget_session(gone.take.session.id().as_str());
        }
    }

    fn give_up_waiting(&mut self) {
        if let Some(back) = &mut self.candidate {
            back.got.give_up();
        }
    }

    /// The session that waits to take over, once it can. One that ends before is forgotten.
    fn ready(&mut self, recording: &Inner) -> Option<Arrival> {
        let settled = |back: &mut Arrival| back.got.waits().is_none();
        let mut back = self.candidate.take_if(settled)?;
        back.got.settle();
        if back.got.formats.is_empty() || take::earliest(&back.got.held).is_none() {
            let why = back.got.closed.as_ref();
            let why = why.map_or_else(|| "no media came".to_owned(), ToString::to_string);
            tracing::info!(recording = %recording.id, why, "a session that was to take over is gone");
            recording.forget_session(back.take.session.id().as_str());
            return None;
        }
        Some(back)
    }

    /// Goes on with another session, behind a declared gap.
    async fn resume(&mut self, recording: &Arc<Inner>, back: Arrival) -> Result<(), EngineError> {
        let Arrival {
            take,
            mut placement,
            got,
        } = back;
        let (Some(theirs), Some(began)) = (take::earliest(&got.held), got.began()) else {
            return Ok(());
        };
        // What the graph still had of the take before is there by now, or soon.
        tokio::time::sleep_until(began + SETTLE).await;
        let arrived = MediaTime::ZERO + began.duration_since(self.zero);
        let (from, to) = self.packaging.go_on(arrived).await?;
        placement.align(theirs, to);
        for track in self.formats.iter().map(|format| format.track) {
            self.feed.push(Media::Gap(Gap { track, from, to }));
        }
        for branch in &mut self.further {
            let track = branch.track;
            branch.push(Media::Gap(Gap { track, from, to }));
        }
        tracing::info!(recording = %recording.id, %from, %to, "the publisher is back");
        metrics::counter!("loom_reconnects_total").increment(1);
        recording.declare_gap(from, to);
        recording.update(|info| info.state = RecordingState::Live);
        self.edges = Edges::new(&self.formats);
        self.held = got
            .held
            .into_iter()
            .filter_map(|media| placement.place(media))
            .collect();
        self.closed = got.closed;
        self.placement = placement;
        for track in &self.known {
            let offered = self.placement.theirs(track.id).is_some();
            let state = if offered {
                TrackState::Running
            } else {
                TrackState::Paused
            };
            self.describe(recording, track.id, |it| it.state = state);
        }
        self.session = take.session;
        recording.settle_session(self.session.id().as_str());
        Ok(())
    }

    fn feed(&mut self, media: Media) {
        let track = match &media {
            Media::Format(format) => format.track,
            Media::Packet(packet) => packet.track,
            Media::Gap(gap) => gap.track,
            Media::End(track) => *track,
        };
        // A session's end is not the recording's: its tracks may go on with the next session. `flush` ends the graphs.
        if matches!(media, Media::End(_)) {
            return;
        }
        if let Media::Packet(packet) = &media {
            metrics::counter!("loom_received_bytes_total").increment(packet.data.len() as u64);
        }
        if let Media::Packet(packet) = &media {
            let wanted = self.keys.handle_packet(packet.track, packet.pts, packet.key);
            let theirs = wanted.into_iter().filter_map(|ours| self.placement.theirs(ours));
            theirs.for_each(|track| self.session.handle().request_key_frame(track));
        }
        let is_main = self.formats.iter().any(|format| format.track == track);
        if let Media::Packet(packet) = &media
            && is_main
        {
            self.edges.handle_packet(packet);
        }
        match self.further.iter_mut().find(|branch| branch.track == track) {
            Some(branch) => branch.push(media),
            None if is_main => self.feed.push(media),
            None => {}
        }
    }

    /// Lets the graph and the captioner tell their last, and gives the packager back.
    async fn flush(mut self) -> Packaging {
        for media in self.edges.finish() {
            self.feed.push(media);
        }
        self.feed.finish();
        let end = Instant::now() + FLUSH_LIMIT;
        // all are told before one is waited for
        let further: Vec<_> = self.further.into_iter().map(Branch::finish).collect();
        for mut pump in further {
            if timeout_at(end, &mut pump).await.is_err() {
                tracing::error!("a further track's graph did not end; what it had made is kept");
                pump.abort();
            }
        }
        if timeout(FLUSH_LIMIT, &mut self.pump).await.is_err() {
            tracing::error!("the transcode graph did not end; what it had made is kept");
            self.pump.abort();
        }
        self.packaging
    }
}

/// Runs what the recording cannot do without: a panic there ends the recording, which says so.
async fn guarded<T>(recording: Arc<Inner>, work: impl Future<Output = T>) {
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        recording.update(|info| info.reason = Some("an internal error ended the recording".to_owned()));
        recording.stop.send_replace(true);
    }
}

/// What is to be made of the recording's source: nothing is decoded for captions that there will not be.
pub(crate) fn wanted(recording: &Inner) -> Wanted {
    let ladder = &recording.shared.config.ladder;
    Wanted {
        captions_pcm: ladder.captions_pcm && recording.info().captions,
        ..ladder.clone()
    }
}

/// How long a session that is replaced may take to hand over what it has.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// How long the graph may hold what it was fed when a take is over.
const SETTLE: Duration = Duration::from_millis(250);
