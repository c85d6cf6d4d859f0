use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use loom_core::MediaKind;
use loom_ingest::testing::Line;
use loom_testkit::{Link, LinkConfig};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::sender::{Datagram, Sender, Unit};
use crate::IngestConfig;
use crate::source::Source;
use crate::source::stepped::{Stepped, SteppedHandle};

/// A publisher: what it sends goes over a road to its session, and what that says over the same road back.
pub(super) struct Publisher {
    sender: Mutex<Sender>,
    session: SteppedHandle,
    /// It sends no more, and says nothing of it.
    vanished: AtomicBool,
    changed: Notify,
}

impl Publisher {
    /// One that is connected, and what a recording has of it.
    pub(super) fn new(name: String, sender: Sender, config: &Arc<IngestConfig>) -> (Arc<Self>, Source) {
        let now = Instant::now().into_std();
        let line = Line::new(&sender.offer(), config, now).expect("an offer that is taken");
        let session = Stepped::new(name, line);
        let made = Self {
            sender: Mutex::new(sender),
            session: session.handle(),
            vanished: AtomicBool::new(false),
            changed: Notify::new(),
        };
        (Arc::new(made), Source::Stepped(session))
    }

    pub(super) fn mute(&self, kind: MediaKind, muted: bool) {
        self.sender().mute(kind, muted);
    }

    pub(super) fn vanish(&self) {
        self.vanished.store(true, Ordering::Relaxed);
    }

    /// It ends its session, as a browser does.
    pub(super) fn leave(&self) {
        let goodbye = self.sender().goodbye();
        self.session.step(|line, now| line.handle_datagram(&goodbye, now));
        self.vanish();
        self.changed.notify_one();
    }

    /// All that it has sent.
    pub(super) fn units(&self) -> Vec<Unit> {
        self.sender().units().to_vec()
    }

    /// Sends and listens until its session is over.
    pub(super) async fn run(self: Arc<Self>, road: [LinkConfig; 2]) {
        let mut forward: Link<Datagram> = Link::new(road[0]);
        let mut back: Link<Bytes> = Link::new(road[1]);
        let mut check = Instant::now();
        while !self.session.is_closed() {
            let now = Instant::now().into_std();
            if !self.vanished.load(Ordering::Relaxed) {
                let sent = self.sender().handle_timeout(now);
                self.send(sent, &mut forward, now);
                if check <= Instant::now() {
                    check += CHECKS;
                    self.session.step(Line::handle_check);
                }
            }
            if forward.poll_timeout().is_some_and(|at| at <= now) {
                self.session.step(|line, now| {
                    while let Some(delivery) = forward.poll_delivery(now) {
                        line.handle_datagram(&delivery.item.data, now);
                    }
                });
            }
            if self.session.due().is_some_and(|due| due <= Instant::now()) {
                self.session.step(Line::handle_timeout);
            }
            while let Some(datagram) = self.session.poll_datagram() {
                back.handle_send(datagram, now);
            }
            while let Some(delivery) = back.poll_delivery(now) {
                let again = self.sender().handle_rtcp(delivery.item);
                if !self.vanished.load(Ordering::Relaxed) {
                    self.send(again, &mut forward, now);
                }
            }
            let sends = (!self.vanished.load(Ordering::Relaxed)).then(|| self.sender().due());
            let due = [sends, forward.poll_timeout(), back.poll_timeout()];
            let due = due.into_iter().flatten().map(Instant::from);
            let due = due.chain(self.session.due()).min().unwrap_or(check);
            tokio::select! {
                biased;
                () = self.session.asked() => {}
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    fn send(&self, datagrams: Vec<Datagram>, road: &mut Link<Datagram>, now: std::time::Instant) {
        for datagram in datagrams {
            let unit = datagram.unit;
            if !road.handle_send(datagram, now).arrives() {
                self.sender().handle_lost(unit);
            }
        }
    }

    fn sender(&self) -> MutexGuard<'_, Sender> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often a browser checks that the way is there.
const CHECKS: Duration = Duration::from_millis(2_500);
