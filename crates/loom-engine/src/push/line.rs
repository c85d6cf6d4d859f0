//! The way from a host that pushes to whoever records: a bounded queue that lets media out as its time comes.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use loom_core::{Media, MediaTime, TrackId};
use loom_ingest::{CloseReason, SessionEvent, TrackInfo};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits;

/// What a [`Pusher`](crate::Pusher) and the recording share.
pub(crate) struct Line {
    id: String,
    tracks: Vec<TrackInfo>,
    /// Which of them are Opus.
    opus: Vec<bool>,
    /// Which of them should send a key frame.
    key_wanted: Vec<Arc<AtomicBool>>,
    waiting: Mutex<Waiting>,
    changed: Notify,
    /// Wakes who waits for room.
    taken: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    media: VecDeque<Media>,
    bytes: usize,
    /// When the first came: its time is that instant.
    began: Option<Instant>,
    /// What encoders still have is taken, whether there is room or not.
    hurried: bool,
    /// No more comes.
    closed: Option<CloseReason>,
    /// That has been told, or nobody listens any more.
    over: bool,
}

/// What is to be done next.
enum Next {
    Event(SessionEvent),
    At(Instant),
    Wait,
    Over,
}

impl Line {
    pub(super) fn new(
        id: String,
        tracks: Vec<TrackInfo>,
        opus: Vec<bool>,
        key_wanted: Vec<Arc<AtomicBool>>,
    ) -> Self {
        Self {
            id,
            tracks,
            opus,
            key_wanted,
            waiting: Mutex::default(),
            changed: Notify::new(),
            taken: Condvar::new(),
        }
    }

    /// Whether so much more can wait.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.lock().has_room(bytes)
    }

    /// Blocks until there is room, nobody listens any more, or it is to be hurried.
    #[cfg(feature = "transcode")]
    pub(super) fn wait_for_room(&self, bytes: usize) {
        let mut waiting = self.lock();
        while !(waiting.has_room(bytes) || waiting.hurried || waiting.closed.is_some()) {
            waiting = self.taken.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// From here on nobody waits for room: an encoder gives its last.
    pub(super) fn hurry(&self) {
        self.lock().hurried = true;
        self.taken.notify_all();
    }

    /// Puts something in. `false`: nobody takes it any more.
    pub(super) fn put(&self, media: impl IntoIterator<Item = Media>, now: Instant) -> bool {
        let mut waiting = self.lock();
        if waiting.closed.is_some() {
            return false;
        }
        waiting.began.get_or_insert(now);
        for media in media {
            waiting.bytes += size(&media);
            waiting.media.push_back(media);
        }
        drop(waiting);
        self.changed.notify_one();
        true
    }

    /// Whether media is taken.
    pub(super) fn is_open(&self) -> bool {
        self.lock().closed.is_none()
    }

    /// The host has no more: what waits is let out in its time.
    pub(super) fn finish(&self) {
        let mut waiting = self.lock();
        waiting.closed.get_or_insert(CloseReason::ByPublisher);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Ends it now: of what waits only that goes out whose time has come.
    fn close(&self, now: Instant) {
        let mut waiting = self.lock();
        waiting.closed = Some(CloseReason::ByHost);
        if let Some(horizon) = waiting.horizon(now) {
            waiting
                .media
                .retain(|media| time(media).is_none_or(|at| at <= horizon));
        }
        drop(waiting);
        self.taken.notify_all();
        self.changed.notify_one();
    }

    fn next(&self, now: Instant) -> Next {
        let mut waiting = self.lock();
        let Some(first) = waiting.media.front() else {
            return match waiting.closed.clone() {
                Some(why) if !std::mem::replace(&mut waiting.over, true) => {
                    Next::Event(SessionEvent::Closed(why))
                }
                Some(_) => Next::Over,
                None => Next::Wait,
            };
        };
        if let (Some(at), Some(horizon)) = (time(first), waiting.horizon(now))
            && at > horizon
        {
            return Next::At(now + at.since(horizon));
        }
        match waiting.media.pop_front() {
            Some(media) => {
                waiting.bytes -= size(&media).min(waiting.bytes);
                self.taken.notify_all();
                Next::Event(SessionEvent::Media(media))
            }
            None => Next::Wait,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Each change is made whole under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// A packet may bring a format with it.
    fn has_room(&self, bytes: usize) -> bool {
        self.media.len() + 2 <= limits::PUSHED_ITEMS
            && self.bytes.saturating_add(bytes) <= limits::PUSHED_BYTES
    }

    /// Up to where media is let out now.
    fn horizon(&self, now: Instant) -> Option<MediaTime> {
        Some(MediaTime::ZERO + now.duration_since(self.began?) + AHEAD)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The recording's end of a [`Line`]. Dropping it closes that.
#[derive(Debug)]
pub(crate) struct Pushed(Arc<Line>);

impl Pushed {
    pub(super) fn new(line: Arc<Line>) -> Self {
        Self(line)
    }

    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    pub(crate) fn tracks(&self) -> &[TrackInfo] {
        &self.0.tracks
    }

    pub(crate) fn handle(&self) -> PushedHandle {
        PushedHandle(self.0.clone())
    }

    pub(crate) fn is_opus(&self, track: TrackId) -> bool {
        self.0.opus.get(track.0 as usize).copied().unwrap_or_default()
    }

    /// The next event; `None` after the last. Cancellation safe.
    pub(crate) async fn recv(&mut self) -> Option<SessionEvent> {
        loop {
            match self.0.next(Instant::now()) {
                Next::Event(event) => return Some(event),
                Next::Over => return None,
                Next::Wait => self.0.changed.notified().await,
                Next::At(then) => tokio::select! {
                    () = tokio::time::sleep_until(then) => {}
                    () = self.0.changed.notified() => {}
                },
            }
        }
    }
}

impl Drop for Pushed {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.closed.get_or_insert(CloseReason::ByHost);
        waiting.over = true;
        waiting.media.clear();
        drop(waiting);
        self.0.taken.notify_all();
    }
}

/// Steers a [`Pushed`] from elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct PushedHandle(Arc<Line>);

impl PushedHandle {
    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    pub(crate) fn request_key_frame(&self, track: TrackId) {
        if let Some(wanted) = self.0.key_wanted.get(track.0 as usize) {
            wanted.store(true, Ordering::Release);
        }
    }

    pub(crate) fn close(&self) {
        self.0.close(Instant::now());
    }
}

fn size(media: &Media) -> usize {
    match media {
        Media::Packet(packet) => packet.data.len(),
        _ => 0,
    }
}

/// When it is to be there.
fn time(media: &Media) -> Option<MediaTime> {
    match media {
        Media::Packet(packet) => Some(packet.dts),
        _ => None,
    }
}

/// How much earlier than its time media is let out.
const AHEAD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use loom_core::Packet;

    use super::*;

    fn packet(millis: i64) -> Media {
        let pts = MediaTime::from_millis(millis);
        Media::Packet(Packet {
            track: TrackId(0),
            pts,
            dts: pts,
            duration: None,
            key: true,
            data: Bytes::from_static(b"x"),
        })
    }

    fn line() -> Arc<Line> {
        Arc::new(Line::new("a".to_owned(), Vec::new(), Vec::new(), Vec::new()))
    }

    /// The time of the packet that is let out now.
    fn out(line: &Line, now: Instant) -> Option<i64> {
        match line.next(now) {
            Next::Event(SessionEvent::Media(Media::Packet(packet))) => Some(packet.pts.millis()),
            _ => None,
        }
    }

    fn is_end(next: &Next, why: &CloseReason) -> bool {
        matches!(next, Next::Event(SessionEvent::Closed(said)) if said == why)
    }

    #[test]
    fn what_is_pushed_ahead_of_its_time_waits_for_it() {
        let line = line();
        let began = Instant::now();
        assert!(line.put([packet(0), packet(900), packet(5_000)], began));
        line.finish();
        assert_eq!(out(&line, began), Some(0));
        assert_eq!(out(&line, began), Some(900));
        let due = began + Duration::from_secs(4);
        assert!(matches!(line.next(began), Next::At(then) if then == due));
        assert_eq!(out(&line, due), Some(5_000));
        assert!(is_end(&line.next(due), &CloseReason::ByPublisher));
        assert!(matches!(line.next(due), Next::Over));
        assert!(!line.put([packet(6_000)], due), "it is over");
    }

    #[test]
    fn a_stop_lets_out_what_is_due_and_drops_what_is_not() {
        let line = line();
        let now = Instant::now();
        assert!(line.put([packet(0), packet(5_000)], now));
        line.close(now);
        assert_eq!(out(&line, now), Some(0));
        assert!(is_end(&line.next(now), &CloseReason::ByHost));
    }

    #[test]
    fn so_much_waits_and_no_more() {
        let line = line();
        let now = Instant::now();
        let is_full = |_: &usize| !line.has_room(1) || !line.put([packet(0)], now);
        assert_eq!(
            (0..limits::PUSHED_ITEMS * 2).find(is_full),
            Some(limits::PUSHED_ITEMS - 1)
        );
        assert_eq!(out(&line, now), Some(0));
        assert!(line.has_room(1) && !line.has_room(limits::PUSHED_BYTES));
        drop(Pushed::new(line.clone()));
        assert!(!line.is_open());
    }
}
