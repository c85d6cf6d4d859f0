//! A publisher's session in virtual time: whoever tests steps it, and the recording takes what it says.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use loom_core::TrackId;
use loom_ingest::testing::{Line, LineOutput};
use loom_ingest::{ReceptionStats, SessionClock, SessionEvent, TrackInfo};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The recording's end of it. Dropping it closes the session.
#[derive(Debug)]
pub(crate) struct Stepped(SteppedHandle);

/// Steps the session, and steers it.
#[derive(Clone)]
pub(crate) struct SteppedHandle(Arc<Shared>);

struct Shared {
    id: String,
    tracks: Vec<TrackInfo>,
    state: Mutex<State>,
    /// There is an event.
    told: Notify,
    /// The host has asked for something, so that there may be RTCP, or it is due sooner.
    asked: Notify,
}

struct State {
    line: Line,
    events: VecDeque<SessionEvent>,
    datagrams: VecDeque<Bytes>,
    due: Option<Instant>,
}

impl Stepped {
    pub(crate) fn new(id: String, line: Line) -> Self {
        let made = SteppedHandle(Arc::new(Shared {
            id,
            tracks: line.tracks().to_vec(),
            state: Mutex::new(State {
                line,
                events: VecDeque::new(),
                datagrams: VecDeque::new(),
                due: None,
            }),
            told: Notify::new(),
            asked: Notify::new(),
        }));
        made.step(|_, _| {});
        Self(made)
    }

    pub(crate) fn id(&self) -> &str {
        self.0.id()
    }

    pub(crate) fn tracks(&self) -> &[TrackInfo] {
        &self.0.0.tracks
    }

    pub(crate) fn handle(&self) -> SteppedHandle {
        self.0.clone()
    }

    /// The next event; `None` after the last. Cancellation safe.
    pub(crate) async fn recv(&mut self) -> Option<SessionEvent> {
        loop {
            {
                let mut state = self.0.lock();
                if let Some(event) = state.events.pop_front() {
                    return Some(event);
                }
                if state.line.is_closed() {
                    return None;
                }
            }
            self.0.0.told.notified().await;
        }
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl SteppedHandle {
    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    pub(crate) fn stats(&self) -> ReceptionStats {
        self.lock().line.stats()
    }

    pub(crate) fn clock(&self) -> Option<SessionClock> {
        self.lock().line.clock()
    }

    pub(crate) fn level(&self, track: TrackId) -> Option<i8> {
        self.lock().line.level(track, Instant::now().into_std())
    }

    /// Whether it is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().line.is_closed()
    }

    /// When it is to be stepped at the latest.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.lock().due
    }

    pub(crate) fn request_key_frame(&self, track: TrackId) {
        self.step(|line, now| line.request_key_frame(track, now));
        self.0.asked.notify_one();
    }

    pub(crate) fn close(&self) {
        self.step(Line::close);
        self.0.asked.notify_one();
    }

    /// Does something with the session, and sees to what follows of it.
    pub(crate) fn step(&self, act: impl FnOnce(&mut Line, std::time::Instant)) {
        let mut state = self.lock();
        let before = state.events.len();
        act(&mut state.line, Instant::now().into_std());
        state.due = loop {
            match state.line.poll_output() {
                Some(LineOutput::Rtcp(datagram)) => state.datagrams.push_back(datagram),
                Some(LineOutput::Event(event)) => state.events.push_back(event),
                Some(LineOutput::Timeout(at)) => break Some(at.into()),
                None => break None,
            }
        };
        if state.events.len() > before || state.line.is_closed() {
            self.0.told.notify_one();
        }
    }

    /// What it sends to the publisher.
    pub(crate) fn poll_datagram(&self) -> Option<Bytes> {
        self.lock().datagrams.pop_front()
    }

    /// Returns once the host has asked for something. Cancellation safe.
    pub(crate) async fn asked(&self) {
        self.0.asked.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SteppedHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteppedHandle")
            .field("id", &self.0.id)
            .finish_non_exhaustive()
    }
}
