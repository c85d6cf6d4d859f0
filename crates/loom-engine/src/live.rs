//! One live recording: its publisher's sessions through the transcode graph to the packager, until it ends.

mod joined;
mod rest;
mod tracks;

#[cfg(feature = "ingest")]
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use loom_core::{Gap, Media, MediaKind, MediaTime, RenditionId, TrackFormat, TrackId};
use loom_hls::{Packager, PackagerConfig};
use loom_ingest::{CloseReason, SessionEvent, TrackInfo};
use loom_transcode::{Feed, Plan, SourceShape, Wanted, plan};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{Instrument, debug_span};

use crate::admission::Ladder;
use crate::arrival::{self, Arrival, at};
use crate::captions::LiveCaptions;
use crate::edges::Edges;
use crate::error::EngineError;
use crate::event::{RecordingState, TrackState};
use crate::finish;
use crate::further::{self, Branch, Further, Role};
use crate::gather::{Gathered, PICTURE_LIMIT, stopped};
#[cfg(feature = "ingest")]
use crate::id::PublisherName;
use crate::joined::Word;
use crate::key_frames::KeyFrames;
use crate::life::Step;
use crate::packaging::{MediaClock, Packaging, Work};
use crate::pump::{pump, renditions, take_stock};
use crate::recording::Inner;
#[cfg(feature = "ingest")]
use crate::recording::PublishAnswer;
use crate::salvage;
use crate::source::Source;
use crate::take::{self, Placement, Take};
use crate::thumbnails;
use joined::Beside;

/// How long the graph may take to flush at the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(10);

#[cfg(feature = "ingest")]
pub(crate) async fn publish(
    recording: &Arc<Inner>,
    offer: &str,
    from: Option<IpAddr>,
) -> Result<PublishAnswer, EngineError> {
    let began = Instant::now();
    check_room(recording)?;
    let (answer, session) = accept(recording, offer, from).await?;
    begin(recording, Take { session, began })?;
    Ok(answer)
}

/// Answers the offer of a publisher that joins.
#[cfg(feature = "ingest")]
pub(crate) async fn join(
    recording: &Arc<Inner>,
    name: PublisherName,
    offer: &str,
    from: Option<IpAddr>,
) -> Result<PublishAnswer, EngineError> {
    crate::joined::check(recording, &name)?;
    let (answer, session) = accept(recording, offer, from).await?;
    crate::joined::join(recording, name, session)?;
    Ok(answer)
}

#[cfg(feature = "ingest")]
async fn accept(
    recording: &Inner,
    offer: &str,
    from: Option<IpAddr>,
) -> Result<(PublishAnswer, Source), EngineError> {
    let ingest = &recording.shared.ingest;
    let accepted = ingest.accept_from(offer, from).await;
    let (answer, session) = accepted.map_err(EngineError::BadOffer)?;
    let answer = PublishAnswer {
        sdp: answer.sdp,
        session: session.id().to_string(),
        etag: answer.etag,
        handle: session.handle(),
    };
    Ok((answer, Source::Session(session)))
}

/// Before any work is done for a take that can come to nothing; `admit` decides where two come at once.
pub(crate) fn check_room(recording: &Inner) -> Result<(), EngineError> {
    recording.check_open()?;
    let limit = recording.shared.config.max_live;
    if recording.state_now() == RecordingState::Created && recording.shared.live_count() >= limit {
        return Err(EngineError::Full { live: limit });
    }
    if recording.state_now() == RecordingState::Created {
        recording.shared.check_space()?;
    }
    Ok(())
}

/// Takes a take in; the first begins the recording.
pub(crate) fn begin(recording: &Arc<Inner>, take: Take) -> Result<(), EngineError> {
    if let Some((first, later)) = recording.admit(take)? {
        metrics::counter!("loom_recordings_started_total").increment(1);
        let span = debug_span!(parent: None, "recording", recording = %recording.id);
        tokio::spawn(run(recording.clone(), first, later).instrument(span));
    }
    Ok(())
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
    let stage = debug_span!("arrival", recording = %recording.id);
    let (arrival, next) = arrival::first(recording, first, &mut later)
        .instrument(stage)
        .await;
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
        recording.happened(Step::Ended(how));
    }
    let stage = debug_span!("flush", recording = %recording.id);
    let packaging = running.flush().instrument(stage).await;
    let stage = debug_span!("finish", recording = %recording.id);
    async {
        packaging.finish().await?;
        finish::begin(recording);
        finish::end(recording).await;
        Ok::<_, EngineError>(())
    }
    .instrument(stage)
    .await?;
    Ok(())
}

/// How a session came to its end.
#[derive(Debug)]
enum Ended {
    /// It closed.
    Closed(CloseReason),
    /// It did not: somebody wants the recording to rest.
    Paused,
    /// Another session's media came while it was open: the same publisher, more often than not, who had lost the connection.
    Replaced(Box<Arrival>),
}

/// How a pause came to its end.
#[derive(Debug)]
enum Rested {
    /// It goes on with the session that is there.
    Resumed,
    /// It goes on, but nobody publishes.
    Alone,
    /// The recording is to end.
    Stopped,
    /// It was paused for too long.
    TooLong,
}

/// A recording whose graph runs.
struct Running {
    session: Source,
    /// How the session's tracks and times fit into the recording.
    placement: Placement,
    /// The tracks of the recording: those of its first session, which later ones go on with, and what these brought besides.
    known: Vec<TrackInfo>,
    /// The instant of the recording's zero.
    zero: Instant,
    /// The instant of the session's.
    session_zero: Instant,
    /// Counts the takes, for those who have joined.
    take_number: u64,
    beside: Vec<Beside>,
    /// What the joined say.
    words: Option<mpsc::Receiver<Word>>,
    /// The main picture and the main sound.
    formats: Vec<TrackFormat>,
    feed: Feed,
    /// The other tracks, each with a graph of its own.
    further: Vec<Branch>,
    /// The sound that has been silence so far.
    silent: Vec<TrackId>,
    /// What came of tracks of which nothing is made so far.
    unrecorded: Vec<TrackFormat>,
    /// The names of all renditions of media, also of those that failed.
    names: Vec<RenditionId>,
    keys: KeyFrames,
    edges: Edges,
    packaging: Packaging,
    pump: JoinHandle<()>,
    held: Vec<Media>,
    /// When the graph was last fed.
    fed: Instant,
    closed: Option<CloseReason>,
    /// A session that will take over once its media comes.
    candidate: Option<Arrival>,
}

impl Running {
    async fn start(recording: &Arc<Inner>, session: Source, got: Gathered) -> Result<Self, EngineError> {
        let config = &recording.shared.config;
        // What is heard comes first, so that it is the main sound.
        let silent = got.silent();
        let mut formats: Vec<_> = got.formats.iter().chain(&silent).cloned().collect();
        let sorted = further::sort(&formats, session.tracks());
        formats.sort_by_key(|format| format.track);
        let shape = SourceShape::from_formats(&sorted.main);
        let mut wanted = wanted(recording);
        further::spare(&mut wanted, &sorted.further);
        let (plan, ladder) = admit(recording, &shape, wanted)?;
        let mut names: Vec<RenditionId> = plan.renditions.iter().map(|it| it.id.clone()).collect();
        let further = Further::plan(recording, sorted.further, &mut names);
        let captions = plan.audio.as_ref().is_some_and(|audio| audio.pcm);
        tracing::info!(recording = %recording.id, %plan, "the plan");
        let packager = PackagerConfig {
            // What was held back while pictures were waited for comes all at once, and from encoders a little later.
            stall: Some(PICTURE_LIMIT + Duration::from_secs(2)),
            zero: got.wall_clock(),
            ..config.live()
        };
        let packager = Packager::new(config.playlists.apply(&recording.id, packager))?;
        let declared = renditions(&plan, captions, &further);
        let clock = got.zero().map(|zero| MediaClock {
            zero,
            every: config.part / 2,
        });
        let packaging = Packaging::start(recording.clone(), packager, declared, clock)?;
        let tracks = session.tracks();
        let is_main = |format: &TrackFormat| sorted.main.iter().any(|main| main.track == format.track);
        recording.update(|info| {
            take_stock(info, &formats, tracks, &plan, &further, is_main, captions);
            for track in tracks {
                if silent.iter().any(|it| it.track == track.id)
                    && let Some(told) = info.tracks.iter_mut().find(|it| it.is(track))
                {
                    told.state = TrackState::Paused;
                }
            }
        });
        let backend = recording.shared.backend.clone();
        let (graph_plan, formats) = (plan.clone(), sorted.main.clone());
        let stage = debug_span!("graph", recording = %recording.id);
        let (feed, outputs) = tokio::task::spawn_blocking(move || backend.live(&graph_plan, &formats))
            .instrument(stage)
            .await
            .map_err(|_| EngineError::ShuttingDown)??;
        let captions = captions
            .then(|| LiveCaptions::start(recording.clone(), packaging.clone()))
            .flatten();
        let thumbnails = plan.video.as_ref().and_then(|video| video.thumbnails);
        let pump = tokio::spawn(guarded(
            recording.clone(),
            pump(
                recording.clone(),
                outputs,
                packaging.clone(),
                captions,
                thumbnails,
                ladder,
            ),
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
        let began = take::earliest(&got.held).unwrap_or(MediaTime::ZERO);
        let zero = got.zero().unwrap_or_else(Instant::now);
        let mut running = Self {
            placement: Placement::first(session.tracks()),
            known: take::main_first(session.tracks(), video),
            zero,
            session_zero: zero,
            take_number: 0,
            beside: Vec::new(),
            words: recording.joiners.listen(),
            feed,
            keys: KeyFrames::new(video, pictures, config.segment),
            edges: Edges::new(&sorted.main),
            formats: sorted.main,
            further: branches,
            silent: silent.iter().map(|format| format.track).collect(),
            unrecorded: Vec::new(),
            names,
            packaging,
            pump,
            held: got.held,
            fed: zero,
            closed: got.closed,
            candidate: None,
            session,
        };
        running.tell_sounds(recording);
        for media in silent.into_iter().flat_map(|it| Edges::begin_silent(it, began)) {
            running.feed(media);
        }
        Ok(running)
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
            let back = match self.follow_take(recording, later).await {
                Ended::Paused => {
                    self.end_take();
                    match self.rest(recording, later).await? {
                        Rested::Resumed => continue,
                        Rested::Alone => {
                            let over = |nobody: &str| format!("{nobody} after a pause");
                            match self.wait_or_end(recording, later, over).await {
                                Ok(back) => back,
                                Err(how) => return Ok(how),
                            }
                        }
                        Rested::Stopped => return Ok(None),
                        Rested::TooLong => {
                            let seconds = recording.shared.config.longest_pause.as_secs();
                            return Ok(Some(format!(
                                "the recording ended because it was paused for {seconds} s"
                            )));
                        }
                    }
                }
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
                    recording.happened(Step::Vanished);
                    self.end_take();
                    let over = |nobody: &str| format!("the recording ended because {why}, and {nobody}");
                    match self.wait_or_end(recording, later, over).await {
                        Ok(back) => back,
                        Err(how) => return Ok(how),
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
        let mut rest = recording.rest.subscribe();
        let mut stopping = false;
        loop {
            if let Some(why) = self.closed.take() {
                return Ended::Closed(why);
            }
            Arrival::forget_gone(&mut self.candidate, recording);
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
                Some(word) = next_word(&mut self.words), if !stopping => self.hear(recording, word).await,
                () = stopped(&mut stop), if !stopping => {
                    stopping = true;
                    self.session.handle().close();
                }
                () = stopped(&mut rest), if !stopping => return Ended::Paused,
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

    /// Waits for a session to go on with, or gives how the recording ended: by `over`, of the sentence that nobody came, where that was
    /// not by anybody's will.
    async fn wait_or_end(
        &mut self,
        recording: &Arc<Inner>,
        later: &mut mpsc::Receiver<Take>,
        over: impl FnOnce(&str) -> String,
    ) -> Result<Arrival, Option<String>> {
        let seconds = recording.shared.config.reconnect_window.as_secs_f64();
        match self.wait(recording, later).await {
            Some(back) => Ok(back),
            None if recording.is_stopping() => Err(None),
            None => Err(Some(over(&format!("nobody came back within {seconds:.0} s")))),
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
        Arrival::replace(&mut self.candidate, Arrival::new(next), recording);
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
            recording.forget_session(back.take.session.id());
            return None;
        }
        Some(back)
    }

    /// Goes on with another session, behind a declared gap.
    async fn resume(&mut self, recording: &Arc<Inner>, back: Arrival) -> Result<(), EngineError> {
        let Arrival { take, got } = back;
        let placement = Placement::onto(&self.own_tracks(), &self.known, take.session.tracks());
        let (Some(theirs), Some(began)) = (take::earliest(&got.held), got.began()) else {
            return Ok(());
        };
        // What the graph still had of the take before is there by now, or soon; what had been held back was fed only now.
        tokio::time::sleep_until(began.max(self.fed) + SETTLE).await;
        let arrived = MediaTime::ZERO + began.duration_since(self.zero);
        let (from, to) = self.packaging.go_on(arrived).await?;
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
        recording.happened(Step::Ran);
        self.take_up(recording, take.session, placement);
        self.begin_take(got, theirs, to);
        self.tell_tracks(recording);
        recording.settle_session(self.session.id());
        Ok(())
    }

    /// From here on media comes from this session, of which nothing has been taken yet.
    fn take_up(&mut self, recording: &Inner, session: Source, mut placement: Placement) {
        self.known.extend(placement.take_added());
        self.placement = placement;
        self.session = session;
        self.tell_sounds(recording);
    }

    /// The session's media goes on with the recording: its instant `theirs` is the recording's `ours`.
    fn begin_take(&mut self, got: Gathered, theirs: MediaTime, ours: MediaTime) {
        self.placement.align(theirs, ours);
        self.session_zero = got.zero().unwrap_or_else(Instant::now);
        self.edges = Edges::new(&self.formats);
        let held = got.held.into_iter();
        self.held = held.filter_map(|media| self.placement.place(media)).collect();
        self.closed = got.closed;
    }

    /// Tells which of the recording's tracks the session has.
    fn tell_tracks(&self, recording: &Inner) {
        for track in &self.own_tracks() {
            let runs = self.placement.theirs(track.id).is_some() && !self.silent.contains(&track.id);
            let state = if runs {
                TrackState::Running
            } else {
                TrackState::Paused
            };
            self.describe(recording, track.id, |it| it.state = state);
        }
    }

    fn feed(&mut self, media: Media) {
        self.fed = Instant::now();
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
            wanted.into_iter().for_each(|ours| self.request_key_frame(ours));
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

/// What a joined publisher says next. Cancellation safe.
async fn next_word(words: &mut Option<mpsc::Receiver<Word>>) -> Option<Word> {
    match words {
        Some(words) => words.recv().await,
        None => std::future::pending().await,
    }
}

/// Runs what the recording cannot do without: a panic there ends the recording, which says so.
async fn guarded<T>(recording: Arc<Inner>, work: impl Future<Output = T>) {
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        recording.happened(Step::Ended("an internal error ended the recording".to_owned()));
        recording.happened(Step::Halt);
    }
}

/// What is to be made of the recording's source: nothing is decoded for captions that there will not be.
pub(crate) fn wanted(recording: &Inner) -> Wanted {
    let ladder = &recording.shared.config.ladder;
    Wanted {
        captions_pcm: ladder.captions_pcm && recording.info().captions,
        thumbnails: thumbnails::wanted(ladder.thumbnails),
        ..ladder.clone()
    }
}

/// The plan that there is room for.
fn admit(recording: &Inner, shape: &SourceShape, mut wanted: Wanted) -> Result<(Plan, Ladder), EngineError> {
    let shared = &recording.shared;
    let admitted = shared.admission.admit(|room| {
        let made = |wanted: &Wanted| plan(shape, wanted, &shared.capabilities);
        let mut whole = made(&wanted)?;
        if whole.live_cores() > room {
            wanted.live_cores = Some(room);
            whole = made(&wanted)?;
        }
        if whole.live_cores() > room && whole.video.as_ref().is_some_and(|video| video.keep.is_some()) {
            // not even the smallest rung: the source alone is next to nothing
            wanted.rungs.clear();
            whole = made(&wanted)?;
            tracing::warn!(recording = %recording.id, room, "no rungs: other recordings take all that there is for them");
        }
        Ok::<_, loom_transcode::PlanError>(whole)
    });
    Ok(admitted.map_err(loom_transcode::TranscodeError::from)?)
}

/// How long a session that is replaced may take to hand over what it has.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// How long the graph may hold what it was fed when a take is over.
const SETTLE: Duration = Duration::from_millis(250);
