//! One publisher's session: its handle, its events, and the task that runs it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loom_core::{Media, MediaKind, TrackId};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info};

use crate::config::IngestConfig;
use crate::limits;
use crate::media::{Publisher, PublisherOutput};
use crate::net::Lane;
use crate::peer::{Inbound, Link, Peer};
use crate::track::TrackInfo;

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

/// What happens in a session.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SessionEvent {
    /// The publisher is connected; media may follow.
    Connected,
    /// Media, in the order a consumer must take it.
    Media(Media),
    /// The session is over. The last event.
    Closed(CloseReason),
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The host closed it: [`SessionHandle::close`], or the [`Session`] was dropped.
    ByHost,
    /// The publisher said goodbye, by RTCP or by closing its DTLS session.
    ByPublisher,
    /// The publisher did not connect within [`IngestConfig::connect_timeout`].
    ConnectTimeout,
    /// The publisher sent no media for [`IngestConfig::idle_timeout`]: it vanished.
    MediaTimeout,
    /// The connection broke.
    Failed(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByHost => f.write_str("closed here"),
            Self::ByPublisher => f.write_str("the publisher stopped"),
            Self::ConnectTimeout => f.write_str("the publisher never connected"),
            Self::MediaTimeout => f.write_str("the publisher vanished: no media came any more"),
            Self::Failed(why) => write!(f, "the connection failed: {why}"),
        }
    }
}

/// One publisher, from its offer to its end. Dropping it closes the session.
#[derive(Debug)]
pub struct Session {
    handle: SessionHandle,
    offered: Vec<MediaKind>,
    tracks: Vec<TrackInfo>,
    events: mpsc::Receiver<SessionEvent>,
}

impl Session {
    /// Its name.
    pub fn id(&self) -> &SessionId {
        &self.handle.id
    }

    /// What its offer says it will send, a kind a track.
    pub fn offered(&self) -> &[MediaKind] {
        &self.offered
    }

    /// The tracks of its offer; what it delivers names them by [`TrackInfo::id`].
    pub fn tracks(&self) -> &[TrackInfo] {
        &self.tracks
    }

    /// A handle to steer it by from elsewhere.
    pub fn handle(&self) -> SessionHandle {
        self.handle.clone()
    }

    /// The next event; `None` after [`SessionEvent::Closed`]. May be cancelled without losing an event.
    pub async fn recv(&mut self) -> Option<SessionEvent> {
        self.events.recv().await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// Steers a [`Session`]. Cheap to clone; of no effect once the session is over.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    id: SessionId,
    commands: mpsc::Sender<Command>,
    closing: Arc<watch::Sender<bool>>,
}

impl SessionHandle {
    /// The session's name.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Asks the publisher for a key frame of a video track. Throttled to one in
    /// [`IngestConfig::key_frame_spacing`]; a request that comes too early is sent when it may be.
    pub fn request_key_frame(&self, track: TrackId) {
        // full: 64 requests wait already, and any one of them will do
        let _ = self.commands.try_send(Command::RequestKeyFrame(track));
    }

    /// Closes the session. What was received before is delivered first, then [`SessionEvent::Closed`].
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

#[derive(Debug)]
enum Command {
    RequestKeyFrame(TrackId),
}

/// What a session's task runs with.
pub(crate) struct SessionParts {
    pub(crate) id: SessionId,
    pub(crate) offered: Vec<MediaKind>,
    pub(crate) tracks: Vec<TrackInfo>,
    pub(crate) config: Arc<IngestConfig>,
    pub(crate) peer: Peer,
    pub(crate) lane: Lane,
    pub(crate) inbox: mpsc::Receiver<Inbound>,
    pub(crate) publisher: Publisher,
}

/// Starts the session's task. `ended` is called when it is over, whatever way.
pub(crate) fn start(parts: SessionParts, ended: impl FnOnce() + Send + 'static) -> Session {
    let (events, receiver) = mpsc::channel(limits::SESSION_EVENTS);
    let (command_sender, commands) = mpsc::channel(limits::SESSION_COMMANDS);
    let (closing_sender, closing) = watch::channel(false);
    let handle = SessionHandle {
        id: parts.id.clone(),
        commands: command_sender,
        closing: Arc::new(closing_sender),
    };
    let offered = parts.offered.clone();
    let tracks = parts.tracks.clone();
    let task = SessionTask {
        link: parts.peer.link(),
        parts,
        events,
        commands,
        closing,
        connected: false,
        since: Instant::now(),
        probed: Instant::now(),
    };
    tokio::spawn(async move {
        let _ended = OnDrop(Some(ended));
        task.run().await;
    });
    Session {
        handle,
        offered,
        tracks,
        events: receiver,
    }
}

struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(ended) = self.0.take() {
            ended();
        }
    }
}

struct SessionTask {
    parts: SessionParts,
    link: watch::Receiver<Link>,
    events: mpsc::Sender<SessionEvent>,
    commands: mpsc::Receiver<Command>,
    closing: watch::Receiver<bool>,
    connected: bool,
    /// When the session began or the last media came.
    since: Instant,
    /// When the publisher's DTLS session was last looked at.
    probed: Instant,
}

/// Why the task woke.
enum Wake {
    Close,
    Gone,
    Link,
    Command(Command),
    Inbox,
    Due,
}

/// A publisher that is silent this long is asked whether it is still there.
const PROBE: Duration = Duration::from_millis(300);
/// Packets taken from the inbox at one go.
const BATCH: usize = 64;

impl SessionTask {
    async fn run(mut self) {
        info!(session = %self.parts.id, "a publisher offers");
        let reason = self.live().await;
        if matches!(reason, CloseReason::ByHost | CloseReason::ByPublisher) {
            self.drain().await;
        }
        self.parts.publisher.finish(Instant::now());
        self.deliver().await;
        self.parts.peer.close().await;
        info!(session = %self.parts.id, %reason, "a publisher's session is over");
        let _ = self.events.send(SessionEvent::Closed(reason)).await;
    }

    async fn live(&mut self) -> CloseReason {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            if !self.deliver().await {
                return CloseReason::ByHost; // nobody listens any more
            }
            let due = self.next_wake();
            let wake = tokio::select! {
                biased;
                _ = self.closing.wait_for(|closing| *closing) => Wake::Close,
                () = self.events.closed() => Wake::Close,
                changed = self.link.changed() => changed.map_or(Wake::Gone, |()| Wake::Link),
                Some(command) = self.commands.recv() => Wake::Command(command),
                count = self.parts.inbox.recv_many(&mut batch, BATCH) => if count > 0 { Wake::Inbox } else { Wake::Gone },
                () = tokio::time::sleep_until(due.into()) => Wake::Due,
            };
            match wake {
                Wake::Close => return CloseReason::ByHost,
                Wake::Gone => return CloseReason::Failed("the WebRTC stack stopped".to_owned()),
                Wake::Link => {
                    if let Some(reason) = self.handle_link().await {
                        return reason;
                    }
                }
                Wake::Command(Command::RequestKeyFrame(track)) => {
                    self.parts.publisher.request_key_frame(track, Instant::now());
                }
                Wake::Inbox => {
                    if self.handle_inbound(&mut batch) {
                        return CloseReason::ByPublisher;
                    }
                }
                Wake::Due => {
                    if let Some(reason) = self.handle_silence().await {
                        return reason;
                    }
                    self.parts.publisher.handle_timeout(Instant::now());
                }
            }
        }
    }

    async fn handle_link(&mut self) -> Option<CloseReason> {
        let link = *self.link.borrow_and_update();
        match link {
            Link::Connected if !self.connected => {
                self.connected = true;
                self.since = Instant::now();
                // fails where nobody listens, which the loop notices
                let _ = self.events.send(SessionEvent::Connected).await;
                None
            }
            Link::Failed => Some(CloseReason::Failed("ICE or DTLS gave up".to_owned())),
            Link::Connected | Link::Connecting => None,
        }
    }

    /// Takes what the stack left; gives whether the publisher said goodbye.
    fn handle_inbound(&mut self, batch: &mut Vec<Inbound>) -> bool {
        let now = Instant::now();
        let mut bye = false;
        for inbound in batch.drain(..) {
            match inbound {
                Inbound::Packet(packet) => {
                    self.since = now;
                    self.parts.publisher.handle_packet(packet, now);
                }
                Inbound::Report {
                    source,
                    ntp,
                    timestamp,
                } => {
                    self.parts.publisher.handle_report(source, ntp, timestamp);
                }
                Inbound::Bye(sources) => bye |= self.parts.publisher.handle_bye(&sources),
            }
        }
        bye
    }

    /// Looks after a publisher that sends nothing.
    async fn handle_silence(&mut self) -> Option<CloseReason> {
        let now = Instant::now();
        let silent = now.saturating_duration_since(self.since);
        let config = &self.parts.config;
        if !self.connected {
            return (silent >= config.connect_timeout).then_some(CloseReason::ConnectTimeout);
        }
        if silent >= config.idle_timeout {
            return Some(CloseReason::MediaTimeout);
        }
        if silent >= PROBE && now.saturating_duration_since(self.probed) >= PROBE {
            self.probed = now;
            if self.parts.peer.is_closed_by_publisher().await {
                return Some(CloseReason::ByPublisher);
            }
        }
        None
    }

    fn next_wake(&mut self) -> Instant {
        let config = &self.parts.config;
        let deadline = if self.connected {
            let probe = self.since.max(self.probed) + PROBE;
            probe.min(self.since + config.idle_timeout)
        } else {
            self.since + config.connect_timeout
        };
        match self.parts.publisher.poll_output() {
            Some(PublisherOutput::Timeout(at)) => at.min(deadline),
            _ => deadline,
        }
    }

    /// Gives the host what the publisher has ready; waits for room. `false` once nobody listens.
    async fn deliver(&mut self) -> bool {
        loop {
            match self.parts.publisher.poll_output() {
                Some(PublisherOutput::Media(media)) => {
                    if self.events.send(SessionEvent::Media(media)).await.is_err() {
                        return false;
                    }
                }
                Some(PublisherOutput::RequestKeyFrame { source }) => {
                    debug!(session = %self.parts.id, source, "asking for a key frame");
                    self.parts.peer.request_key_frame(source);
                }
                Some(PublisherOutput::Timeout(_)) | None => return true,
            }
        }
    }

    /// Takes what is still on its way through the stack, until nothing has come for a moment.
    async fn drain(&mut self) {
        let end = Instant::now() + limits::DRAIN;
        let mut batch = Vec::with_capacity(BATCH);
        while Instant::now() < end {
            let quiet =
                tokio::time::timeout(limits::DRAIN_QUIET, self.parts.inbox.recv_many(&mut batch, BATCH));
            match quiet.await {
                Ok(0) => return,
                Ok(_) => {
                    self.handle_inbound(&mut batch);
                    if !self.deliver().await {
                        return;
                    }
                }
                Err(_) if self.parts.lane.is_drained() => return,
                Err(_) => {}
            }
        }
    }
}
