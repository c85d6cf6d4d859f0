//! Publishers who join a recording beside the one that it lives by: each has a task of its own, which brings what it sends onto the
//! recording's line and hands it to whoever runs the recording. Its coming and going ends nothing.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use loom_core::{Gap, Media, MediaKind, MediaTime, Packet, TrackFormat, TrackId};
#[cfg(feature = "ingest")]
use loom_ingest::SessionHandle;
use loom_ingest::{SessionEvent, TrackInfo};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{Instrument, debug_span};

use crate::align::{AlignedBy, Glide, Reading, align};
use crate::error::EngineError;
use crate::event::{JoinedDescription, RecordingState, TrackState};
use crate::gather::stopped;
use crate::id::PublisherName;
use crate::limits;
use crate::recording::Inner;
use crate::source::{Source, SourceHandle};

/// The publishers that have joined a recording.
#[derive(Debug)]
pub(crate) struct Joiners {
    known: Mutex<Known>,
    way: mpsc::Sender<Word>,
    words: Mutex<Option<mpsc::Receiver<Word>>>,
    line: watch::Sender<Line>,
}

#[derive(Debug, Default)]
struct Known {
    /// All who have ever joined: each has renditions.
    names: Vec<PublisherName>,
    /// Their sessions, of which a publisher that comes back may have two.
    open: Vec<(PublisherName, SourceHandle)>,
}

/// What joined publishers go by.
#[derive(Debug, Clone)]
pub(crate) enum Line {
    /// Nothing is recorded now: what comes is dropped.
    Rests,
    /// A take of the recording's own publisher runs.
    Runs(Arc<Runs>),
    /// Nothing more will be.
    Over,
}

/// A take of the recording's own publisher.
#[derive(Debug)]
pub(crate) struct Runs {
    pub(crate) take: u64,
    pub(crate) own: SourceHandle,
    /// When what carries its zero came, by its first packet.
    pub(crate) zero: Instant,
    /// What is added to its times, nanoseconds.
    pub(crate) shift: i64,
}

/// What a joined publisher has to say to whoever runs the recording.
#[derive(Debug)]
pub(crate) struct Word {
    /// Its session.
    pub(crate) session: String,
    /// The take that it is about.
    pub(crate) take: u64,
    pub(crate) said: Said,
}

#[derive(Debug)]
pub(crate) enum Said {
    /// Its first media is there.
    Came {
        name: PublisherName,
        handle: SourceHandle,
        tracks: Vec<TrackInfo>,
    },
    /// Media of its own tracks, at the recording's times.
    Media(Media),
    /// Whether one of its tracks runs.
    Track(TrackId, TrackState),
    /// It is gone, and may come back.
    Gone,
}

impl Joiners {
    pub(crate) fn new() -> Self {
        let (way, words) = mpsc::channel(limits::JOINED_ITEMS);
        Self {
            known: Mutex::default(),
            way,
            words: Mutex::new(Some(words)),
            line: watch::Sender::new(Line::Rests),
        }
    }

    /// What they say; for one listener, the first that asks.
    pub(crate) fn listen(&self) -> Option<mpsc::Receiver<Word>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Tells them what to go by.
    pub(crate) fn tell(&self, line: Line) {
        self.line.send_if_modified(|now| {
            let changes = !matches!(now, Line::Over);
            if changes {
                *now = line;
            }
            changes
        });
    }

    /// The session of that name.
    #[cfg(feature = "ingest")]
    pub(crate) fn session(&self, session: &str) -> Option<SessionHandle> {
        let known = self.known();
        let mut all = known.open.iter().filter_map(|(_, handle)| handle.session());
        all.find(|it| it.id().as_str() == session).cloned()
    }

    /// The name that a session publishes under.
    pub(crate) fn name(&self, session: &str) -> Option<PublisherName> {
        let known = self.known();
        let found = known.open.iter().find(|(_, handle)| handle.id() == session);
        found.map(|(name, _)| name.clone())
    }

    /// The handle of who publishes under that name now.
    pub(crate) fn publisher(&self, name: &PublisherName) -> Option<SourceHandle> {
        let known = self.known();
        let newest = known.open.iter().rev().find(|(own, _)| own == name);
        newest.map(|(_, handle)| handle.clone())
    }

    /// Ends a session; `false` where it is none of theirs.
    pub(crate) fn hang_up(&self, session: &str) -> bool {
        let known = self.known();
        let found = known.open.iter().find(|(_, handle)| handle.id() == session);
        if let Some((_, handle)) = found {
            handle.close();
        }
        found.is_some()
    }

    /// Ends the sessions that have that name, but for one.
    pub(crate) fn close(&self, name: &PublisherName, but: Option<&str>) {
        for (own, handle) in &self.known().open {
            if own == name && Some(handle.id()) != but {
                handle.close();
            }
        }
    }

    /// Lets one in who joins under that name; `false` where there is no room.
    fn admit(&self, name: &PublisherName, handle: SourceHandle) -> bool {
        let mut known = self.known();
        let room = known.has_room(name);
        if room {
            if !known.names.contains(name) {
                known.names.push(name.clone());
            }
            known.open.push((name.clone(), handle));
        }
        room
    }

    /// That session is over. Gives whether no other of its name is left.
    fn forget(&self, name: &PublisherName, session: &str) -> bool {
        let mut known = self.known();
        known.open.retain(|(_, handle)| handle.id() != session);
        known.open.iter().all(|(own, _)| own != name)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change is made whole under the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether one of that name may join.
    fn has_room(&self, name: &PublisherName) -> bool {
        let others = self.names.iter().filter(|it| *it != name).count();
        let own = self.open.iter().filter(|(own, _)| own == name).count();
        others < limits::JOINED && own < limits::JOINED_SESSIONS
    }
}

/// Before any work is done for one who can come to nothing.
pub(crate) fn check(recording: &Inner, name: &PublisherName) -> Result<(), EngineError> {
    let state = recording.state_now();
    let open = state == RecordingState::Created || state.is_live();
    if !open || recording.is_stopping() {
        return Err(EngineError::WrongState {
            recording: recording.id.clone(),
            state,
            why: "nobody can join what has ended",
        });
    }
    match recording.joiners.known().has_room(name) {
        true => Ok(()),
        false => Err(crowded(recording)),
    }
}

fn crowded(recording: &Inner) -> EngineError {
    EngineError::Crowded {
        recording: recording.id.clone(),
        limit: limits::JOINED,
    }
}

/// Takes a publisher in who joins under a name. One of that name who is there is replaced once the new one's media comes.
pub(crate) fn join(recording: &Arc<Inner>, name: PublisherName, source: Source) -> Result<(), EngineError> {
    check(recording, &name)?;
    let joiners = &recording.joiners;
    if !joiners.admit(&name, source.handle()) {
        return Err(crowded(recording));
    }
    tracing::info!(recording = %recording.id, %name, session = source.id(), "a publisher joins");
    metrics::counter!("loom_joined_total").increment(1);
    let joined = Joined {
        line: joiners.line.subscribe(),
        recording: recording.clone(),
        session: source.id().to_owned(),
        name,
        formats: Vec::new(),
        zero: None,
        placed: None,
        came: false,
        told: None,
    };
    let span = debug_span!(parent: None, "joined", recording = %recording.id, name = %joined.name);
    tokio::spawn(joined.run(source).instrument(span));
    Ok(())
}

/// One who has joined.
struct Joined {
    recording: Arc<Inner>,
    name: PublisherName,
    session: String,
    line: watch::Receiver<Line>,
    /// The newest format of each track.
    formats: Vec<TrackFormat>,
    /// When what carries its zero came, by the first packet.
    zero: Option<Instant>,
    placed: Option<Placed>,
    /// Whoever runs the recording knows of it.
    came: bool,
    /// What everybody has been told of how it is aligned.
    told: Option<AlignedBy>,
}

/// Where its media lies in a take.
struct Placed {
    runs: Arc<Runs>,
    glide: Glide,
    wanted: i64,
    /// When that was last looked at.
    looked: Instant,
    /// The tracks that have begun with something to begin with.
    begun: Vec<TrackId>,
}

impl Joined {
    async fn run(mut self, mut source: Source) {
        let followed = AssertUnwindSafe(self.follow(&mut source)).catch_unwind().await;
        if followed.is_err() {
            tracing::error!(recording = %self.recording.id, name = %self.name, "an internal error ended a joined publisher");
        }
        drop(source);
        if self.recording.joiners.forget(&self.name, &self.session) {
            self.tell(TrackState::Paused);
        }
        if self.came {
            let over = async {
                // an end that nobody waits for any more
                let _ = self.line.wait_for(|line| matches!(line, Line::Over)).await;
            };
            let gone = Word {
                session: self.session.clone(),
                take: 0,
                said: Said::Gone,
            };
            tokio::select! {
                _ = self.recording.joiners.way.send(gone) => {}
                () = over => {}
            }
        }
    }

    /// Until it is over, or the recording is.
    async fn follow(&mut self, source: &mut Source) {
        let mut stop = self.recording.stop.subscribe();
        let mut stopping = false;
        while !matches!(*self.line.borrow_and_update(), Line::Over) {
            tokio::select! {
                event = source.recv() => match event {
                    Some(SessionEvent::Media(media)) => self.take_in(source, media).await,
                    Some(SessionEvent::Paused(track)) => {
                        self.say(Said::Track(track, TrackState::Paused)).await;
                    }
                    Some(SessionEvent::Resumed(track)) => {
                        self.say(Said::Track(track, TrackState::Running)).await;
                    }
                    Some(SessionEvent::Closed(why)) => {
                        return tracing::info!(recording = %self.recording.id, name = %self.name, %why, "a joined publisher goes");
                    }
                    Some(_) => {}
                    None => return,
                },
                changed = self.line.changed() => if changed.is_err() {
                    return;
                },
                () = stopped(&mut stop), if !stopping => {
                    stopping = true;
                    source.handle().close();
                }
            }
        }
    }

    async fn take_in(&mut self, source: &Source, media: Media) {
        if let Media::Packet(packet) = &media {
            let age = Duration::from_nanos(packet.pts.nanos().max(0).unsigned_abs());
            let now = Instant::now();
            self.zero.get_or_insert(now.checked_sub(age).unwrap_or(now));
        }
        if let Media::Format(format) = &media {
            self.formats.retain(|it| it.track != format.track);
            self.formats.push(format.clone());
        }
        let Line::Runs(runs) = self.line.borrow_and_update().clone() else {
            return;
        };
        if self.placed.as_ref().is_none_or(|it| it.runs.take != runs.take) {
            // what comes first may be a format, which has no time
            if matches!(media, Media::Packet(_)) && !self.begin(source, runs).await {
                return;
            }
        } else if matches!(media, Media::Format(_)) {
            self.say(Said::Media(media)).await;
            return;
        }
        self.look(&source.handle());
        if let Some(media) = self.place(media) {
            self.say(Said::Media(media)).await;
        }
    }

    /// A take has begun: what comes from here on lies in it. `false` where it is over already.
    async fn begin(&mut self, source: &Source, runs: Arc<Runs>) -> bool {
        let handle = source.handle();
        let (wanted, _) = self.aligned(&runs, &handle);
        self.placed = Some(Placed {
            glide: Glide::new(wanted),
            wanted,
            runs,
            looked: Instant::now(),
            begun: Vec::new(),
        });
        if !self.came {
            self.recording.joiners.close(&self.name, Some(&self.session));
            let (name, tracks) = (self.name.clone(), source.tracks().to_vec());
            let said = Said::Came { name, handle, tracks };
            self.came = self.say(said).await;
        }
        let mut told = self.came;
        for format in self.formats.clone() {
            told = told && self.say(Said::Media(Media::Format(format))).await;
        }
        if !told {
            self.placed = None;
            return false;
        }
        for format in &self.formats {
            if format.codec.kind() == MediaKind::Video {
                source.handle().request_key_frame(format.track);
            }
        }
        true
    }

    /// Looks again where it should lie, every so often.
    fn look(&mut self, handle: &SourceHandle) {
        let Some(placed) = &self.placed else { return };
        let due = placed.looked.elapsed() >= LOOK_EVERY;
        if !due && self.told.is_some() {
            return;
        }
        let runs = placed.runs.clone();
        let (wanted, by) = self.aligned(&runs, handle);
        if let Some(placed) = &mut self.placed {
            (placed.wanted, placed.looked) = (wanted, Instant::now());
        }
        if self.told.replace(by) != Some(by) {
            let milliseconds = wanted / 1_000_000;
            tracing::info!(recording = %self.recording.id, name = %self.name, ?by, milliseconds, "a joined publisher is aligned");
            self.tell(TrackState::Running);
        }
    }

    fn aligned(&self, runs: &Runs, handle: &SourceHandle) -> (i64, AlignedBy) {
        let (now, wall) = (Instant::now().into_std(), SystemTime::now());
        let read = |handle: &SourceHandle, zero: Instant| match handle.clock() {
            Some(clock) => Reading::of(&clock, now, wall),
            None => Reading::at(zero.into_std()),
        };
        let own = read(&runs.own, runs.zero);
        let joined = read(handle, self.zero.unwrap_or_else(Instant::now));
        align(&own, runs.shift, &joined)
    }

    /// The same media at the recording's times; `None` for what nothing can begin with.
    fn place(&mut self, media: Media) -> Option<Media> {
        let placed = self.placed.as_mut()?;
        Some(match media {
            Media::Packet(packet) => {
                if !placed.begun.contains(&packet.track) {
                    if !packet.key {
                        return None;
                    }
                    placed.begun.push(packet.track);
                }
                let shift = placed.glide.step(packet.pts, placed.wanted);
                Media::Packet(Packet {
                    pts: shifted(packet.pts, shift),
                    dts: shifted(packet.dts, shift),
                    ..packet
                })
            }
            Media::Gap(gap) if placed.begun.contains(&gap.track) => {
                let shift = placed.glide.step(gap.from, placed.wanted);
                Media::Gap(Gap {
                    from: shifted(gap.from, shift),
                    to: shifted(gap.to, shift),
                    ..gap
                })
            }
            _ => return None,
        })
    }

    /// Says something of the take that it lies in. `false` where that is over.
    async fn say(&mut self, said: Said) -> bool {
        let Some(placed) = &self.placed else { return false };
        let word = Word {
            session: self.session.clone(),
            take: placed.runs.take,
            said,
        };
        tokio::select! {
            sent = self.recording.joiners.way.send(word) => sent.is_ok(),
            _ = self.line.changed() => false,
        }
    }

    /// Tells everybody how it stands.
    fn tell(&self, state: TrackState) {
        let Some(aligned_by) = self.told else { return };
        self.recording.update(|info| {
            info.joined.retain(|it| it.name != self.name);
            info.joined.push(JoinedDescription {
                name: self.name.clone(),
                state,
                aligned_by,
            });
        });
    }
}

fn shifted(at: MediaTime, shift: i64) -> MediaTime {
    MediaTime::from_nanos(at.nanos().saturating_add(shift))
}

/// How often it is looked at where a publisher's media should lie.
const LOOK_EVERY: Duration = Duration::from_secs(1);
