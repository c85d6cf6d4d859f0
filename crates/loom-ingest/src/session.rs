//! One publisher's session: its handle and its events.

use std::collections::VecDeque;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use loom_core::{Media, TrackId};
use tokio::sync::Notify;
use tracing::{error, info};

use crate::clock::SessionClock;
use crate::demux::Key;
use crate::error::IngestError;
use crate::event::{CloseReason, SessionEvent};
use crate::limits;
use crate::net::Shared;
use crate::restart::{IceRestart, Restarts};
use crate::stats::ReceptionStats;
use crate::track::TrackInfo;
use crate::transport::{Connection, ConnectionOutput};
use crate::whip::{Patch, Refusal};

/// Names one session of an [`Ingest`](crate::Ingest). Random, safe in a URL path, and as hard to guess as a password.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// The name: 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SessionId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One publisher, from its offer to its end. Dropping it closes the session.
///
/// ```no_run
/// use loom_core::Media;
/// use loom_ingest::{Session, SessionEvent};
///
/// /// Writes down the first packet of each track.
/// async fn first_packets(mut session: Session) {
///     let (steering, mut seen) = (session.handle(), Vec::new());
///     while let Some(event) = session.recv().await {
///         if let SessionEvent::Media(Media::Packet(packet)) = event
///             && !seen.contains(&packet.track)
///         {
///             println!("{}: {} bytes at {}", packet.track, packet.data.len(), packet.pts);
///             seen.push(packet.track);
///             if seen.len() == session.tracks().len() {
///                 steering.close();
///             }
///         }
///     }
/// }
/// ```
#[must_use = "dropping it closes the session"]
#[derive(Debug)]
pub struct Session {
    handle: SessionHandle,
    tracks: Vec<TrackInfo>,
}

impl Session {
    pub(crate) fn new(core: Arc<Core>, tracks: Vec<TrackInfo>) -> Self {
        info!(session = %core.id, "a publisher offers");
        Self {
            handle: SessionHandle { core },
            tracks,
        }
    }

    /// Its name.
    pub fn id(&self) -> &SessionId {
        self.handle.id()
    }

    /// The tracks of its offer; what it delivers names them by [`TrackInfo::id`].
    pub fn tracks(&self) -> &[TrackInfo] {
        &self.tracks
    }

    /// A handle to steer it by from elsewhere.
    pub fn handle(&self) -> SessionHandle {
        self.handle.clone()
    }

    /// The next event; `None` after [`SessionEvent::Closed`]. Cancellation safe: no event is lost.
    pub async fn recv(&mut self) -> Option<SessionEvent> {
        let core = &self.handle.core;
        loop {
            {
                let mut live = core.lock();
                if let Some(event) = live.take_event() {
                    return Some(event);
                }
                if live.connection.is_closed() {
                    return None;
                }
            }
            core.changed.notified().await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.handle.core.lock().is_heard = false;
        self.handle.close();
    }
}

/// Steers a [`Session`]. Cheap to clone; of no effect once the session is over.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    core: Arc<Core>,
}

impl SessionHandle {
    /// The session's name.
    pub fn id(&self) -> &SessionId {
        &self.core.id
    }

    /// What has become of the publisher's packets so far, also once the session is over.
    pub fn stats(&self) -> ReceptionStats {
        self.core.lock().connection.stats()
    }

    /// How its media time lies on both ends' clocks; `None` before any media.
    pub fn clock(&self) -> Option<SessionClock> {
        self.core.lock().connection.clock()
    }

    /// How loud a track of sound is, where its publisher tells (RFC 6464): the loudest of the last quarter to half second, -127 (silence) to 0
    /// dBov. `None` of pictures, and where no packet has told it.
    pub fn level(&self, track: TrackId) -> Option<i8> {
        self.core.lock().connection.level(track, Instant::now())
    }

    /// Asks the publisher for a key frame of a video track. Throttled to one in
    /// [`IngestConfig::key_frame_spacing`](crate::IngestConfig::key_frame_spacing); a request that comes too early is sent
    /// when it may be.
    pub fn request_key_frame(&self, track: TrackId) {
        let now = Instant::now();
        self.core
            .run(|connection| connection.request_key_frame(track, now));
    }

    /// Closes the session. What was received before is delivered first, then [`SessionEvent::Closed`].
    pub fn close(&self) {
        let now = Instant::now();
        self.core.run(|connection| connection.close(now));
    }

    /// The entity tag of the session's ICE as it is now, without quotes (RFC 9725 §4.3.1).
    pub fn etag(&self) -> String {
        self.core.restarts.etag()
    }

    /// Restarts ICE as the publisher asks (RFC 9725 §4.3.3, RFC 8445 §9): media goes on, and the publisher's next
    /// nomination under the new credentials moves it to where it is then. The publisher's own new fragment and password are
    /// looked at only for their form, since a lite agent sends no checks (RFC 8445 §2.5).
    ///
    /// # Errors
    /// [`IngestError::BadOffer`] for credentials that are none, [`IngestError::Closed`] where the session is over.
    pub fn restart_ice(&self, fragment: &str, password: &str) -> Result<IceRestart, IngestError> {
        self.check_open()?;
        let apply = |credentials| self.core.port.restart(self.core.key, credentials);
        let restart = self.core.restarts.restart(fragment, password, apply)?;
        self.core
            .run(|connection| connection.handle_restart(Instant::now()));
        Ok(restart)
    }

    /// Does what a WHIP client's `PATCH` asks (RFC 9725 §4.3): `None` for candidates, of which a lite agent has no use; what
    /// the answer to an ICE restart needs, as [`SessionHandle::restart_ice`] gives it.
    ///
    /// # Errors
    /// 404 where the session is over, 428 where `If-Match` is missing, 412 where it names another ICE session, 400 for half
    /// a restart. The session goes on as it was.
    pub fn patch(&self, patch: &Patch) -> Result<Option<IceRestart>, Refusal> {
        self.check_open()?;
        let apply = |credentials| self.core.port.restart(self.core.key, credentials);
        let restart = self.core.restarts.patch(patch, apply)?;
        if restart.is_some() {
            self.core
                .run(|connection| connection.handle_restart(Instant::now()));
        }
        Ok(restart)
    }

    fn check_open(&self) -> Result<(), IngestError> {
        if self.core.lock().connection.is_closed() {
            return Err(IngestError::Closed);
        }
        Ok(())
    }
}

/// A session as its port and its handles share it.
pub(crate) struct Core {
    id: SessionId,
    key: Key,
    port: Arc<Shared>,
    restarts: Restarts,
    live: Mutex<Live>,
    changed: Notify,
}

struct Live {
    connection: Connection,
    events: Events,
    /// The [`Session`] is there and takes events.
    is_heard: bool,
    is_congested: bool,
    /// When the port will call [`Core::handle_timeout`].
    scheduled: Option<Instant>,
}

/// What the host has not taken yet.
#[derive(Default)]
struct Events {
    queue: VecDeque<SessionEvent>,
    /// Of media in them.
    bytes: usize,
}

impl Events {
    fn push(&mut self, event: SessionEvent) {
        self.bytes += bytes_in(&event);
        self.queue.push_back(event);
    }

    fn pop(&mut self) -> Option<SessionEvent> {
        let event = self.queue.pop_front()?;
        self.bytes -= bytes_in(&event);
        Some(event)
    }

    /// Whether they take the `part`th part of the room that there is.
    fn fill(&self, part: usize) -> bool {
        self.queue.len() * part >= limits::SESSION_EVENTS || self.bytes * part >= limits::SESSION_EVENT_BYTES
    }
}

fn bytes_in(event: &SessionEvent) -> usize {
    match event {
        SessionEvent::Media(Media::Packet(packet)) => packet.data.len(),
        _ => 0,
    }
}

impl Live {
    fn take_event(&mut self) -> Option<SessionEvent> {
        let event = self.events.pop()?;
        if self.is_congested && !self.events.fill(2) {
            self.is_congested = false;
            self.connection.set_congested(false);
        }
        Some(event)
    }
}

impl Core {
    pub(crate) fn new(
        id: SessionId,
        key: Key,
        port: Arc<Shared>,
        restarts: Restarts,
        connection: Connection,
    ) -> Self {
        Self {
            id,
            key,
            port,
            restarts,
            live: Mutex::new(Live {
                connection,
                events: Events::default(),
                is_heard: true,
                is_congested: false,
                scheduled: None,
            }),
            changed: Notify::new(),
        }
    }

    /// Sets its first timer; once its port knows it.
    pub(crate) fn begin(&self) {
        self.run(|_| {});
    }

    pub(crate) fn handle_check(&self, nominates: bool, now: Instant) {
        self.run(|connection| connection.handle_check(nominates, now));
    }

    /// Datagrams that came together: what follows of them is seen to once.
    pub(crate) fn handle_datagrams<'a>(&self, datagrams: impl Iterator<Item = &'a [u8]>, now: Instant) {
        self.run(|connection| datagrams.for_each(|datagram| connection.handle_datagram(datagram, now)));
    }

    /// Called once the instant that it was scheduled for has come, which is taken off the port's list by then.
    pub(crate) fn handle_timeout(&self, now: Instant) {
        self.lock().scheduled = None;
        self.run(|connection| connection.handle_timeout(now));
    }

    /// Ends it at once, by the host's will.
    pub(crate) fn end(&self) {
        let now = Instant::now();
        self.run(|connection| connection.end(CloseReason::ByHost, now));
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the connection and sees to what follows of it. A panic ends this session and no other.
    fn run(&self, step: impl FnOnce(&mut Connection)) {
        let mut live = self.lock();
        if live.connection.is_closed() {
            return;
        }
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            step(&mut live.connection);
            self.settle(&mut live)
        }));
        let timeout = match outcome {
            Ok(timeout) => timeout,
            Err(_) => {
                error!(session = %self.id, "a session panicked");
                let why = CloseReason::Failed("an internal error".to_owned());
                live.connection.abandon();
                live.events.push(SessionEvent::Closed(why));
                self.changed.notify_one();
                None
            }
        };
        let before = live.scheduled;
        // a later instant is left to the timer that comes before it
        if timeout.is_none() || before.is_none_or(|before| timeout.is_some_and(|timeout| timeout < before)) {
            live.scheduled = timeout;
            self.port.timers.set(self.key, before, timeout);
        }
        if live.connection.is_closed() {
            // before anybody can hear of the end
            self.port.close(self.key);
        }
    }

    /// Sends what is to be sent, keeps what is to be told; gives when to look again.
    fn settle(&self, live: &mut Live) -> Option<Instant> {
        let mut is_news = false;
        let timeout = loop {
            match live.connection.poll_output() {
                Some(ConnectionOutput::Transmit(datagram)) => self.port.send(self.key, &datagram),
                Some(ConnectionOutput::Event(event)) => {
                    if let SessionEvent::Closed(reason) = &event {
                        let stats = live.connection.stats();
                        let (packets, asked, requests) =
                            (stats.packets_received, stats.packets_asked, stats.requests);
                        info!(session = %self.id, %reason, packets, asked, requests, "a publisher's session is over");
                    }
                    if live.is_heard {
                        is_news = true;
                        live.events.push(event);
                    }
                }
                Some(ConnectionOutput::Timeout(at)) => break Some(at),
                None => break None,
            }
        };
        if live.events.fill(1) && !live.is_congested {
            tracing::warn!(session = %self.id, "the host does not keep up; what comes now is dropped");
            live.is_congested = true;
            live.connection.set_congested(true);
        }
        if is_news {
            self.changed.notify_one();
        }
        timeout
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use loom_core::{MediaTime, Packet};
    use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;

    use super::*;
    use crate::transport::client::Client;
    use crate::{Ingest, IngestConfig};

    #[test]
    fn what_waits_for_a_slow_host_is_bounded_in_number_and_in_bytes() {
        let packet = |bytes: usize| {
            SessionEvent::Media(Media::Packet(Packet {
                track: TrackId(0),
                pts: MediaTime::ZERO,
                dts: MediaTime::ZERO,
                duration: None,
                key: true,
                data: vec![0; bytes].into(),
            }))
        };
        for (bytes, room) in [(10, limits::SESSION_EVENTS), (limits::FRAME_BYTES, 8)] {
            let mut events = Events::default();
            let pushed = (1..).find(|_| {
                events.push(packet(bytes));
                events.fill(1)
            });
            assert_eq!(pushed, Some(room), "pictures of {bytes} bytes");
            while events.fill(2) {
                events.pop();
            }
            assert_eq!(events.queue.len(), room / 2 - 1);
            while events.pop().is_some() {}
            assert_eq!(events.bytes, 0);
        }
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_session_and_no_other() {
        let config = IngestConfig {
            udp: "127.0.0.1:0".parse().unwrap(),
            ..IngestConfig::default()
        };
        let ingest = Ingest::bind(config).await.unwrap();
        let offer = Client::new(&[SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm]).offer();
        let (_, mut one) = ingest.accept(&offer).await.unwrap();
        let (_, two) = ingest.accept(&offer).await.unwrap();
        one.handle.core.run(|_| panic!("as a bug would"));
        let why = CloseReason::Failed("an internal error".to_owned());
        assert_eq!(one.recv().await, Some(SessionEvent::Closed(why)));
        assert_eq!(one.recv().await, None);
        assert_eq!(ingest.session_count(), 1);
        assert!(!two.handle.core.lock().connection.is_closed());
        one.handle().close();
        one.handle().request_key_frame(TrackId(0));
    }
}
