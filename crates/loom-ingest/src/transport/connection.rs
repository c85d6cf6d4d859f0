use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use loom_core::TrackId;

use super::DatagramKind;
use super::dtls::{Dtls, DtlsEvent, Identity};
use super::protection::Protection;
use super::receiver::{Receiver, ReceiverConfig, ReceiverOutput};
use super::srtp::Opened;
use crate::clock::SessionClock;
use crate::config::IngestConfig;
use crate::event::{CloseReason, SessionEvent};
use crate::limits;
use crate::rtp::RtpHeader;
use crate::sdp::{DtlsRole, Fingerprint};
use crate::stats::ReceptionStats;

/// What a [`Connection`] is made for.
pub(crate) struct ConnectionConfig {
    pub(crate) ingest: Arc<IngestConfig>,
    pub(crate) identity: Identity,
    pub(crate) role: DtlsRole,
    pub(crate) fingerprints: Vec<Fingerprint>,
    pub(crate) receiver: ReceiverConfig,
}

/// What a [`Connection`] has to say.
#[derive(Debug)]
pub(crate) enum ConnectionOutput {
    /// Send this to the publisher.
    Transmit(Bytes),
    /// Tell the host.
    Event(SessionEvent),
    /// Nothing more before this instant, unless a datagram comes.
    Timeout(Instant),
}

/// One publisher, from its offer to its end.
///
/// Invariant: the last event is [`SessionEvent::Closed`], after which there is nothing more. What was received before it is
/// told before it. A datagram that is broken or forged costs only itself.
pub(crate) struct Connection {
    ingest: Arc<IngestConfig>,
    identity: Identity,
    role: DtlsRole,
    dtls: Dtls,
    /// How RTP travels; `None` before the handshake is over.
    protection: Option<Protection>,
    receiver: Receiver,
    /// When the receiver is due.
    due: Option<Instant>,
    phase: Phase,
    /// When the session began or the last media came.
    heard: Instant,
    /// When the publisher last proved that it lives: by a check (RFC 7675) or a report (RFC 3550 §6).
    alive: Instant,
    has_media: bool,
    /// When all sources had said goodbye (RFC 3550 §6.6); nothing came of them since.
    goodbye: Option<Instant>,
    /// When the datagram of the handshake came that was answered last, while nothing has come to that answer.
    answered: Option<Instant>,
    /// When the latest datagram of the handshake came.
    shook: Instant,
    /// How long the fastest answer of the handshake took.
    round_trip: Option<Duration>,
    /// The host takes nothing for now: what comes is lost, as on the road.
    is_congested: bool,
    /// The parts may have something ready that is not among the outputs yet.
    is_stale: bool,
    outputs: VecDeque<ConnectionOutput>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// No datagram of the publisher has come.
    New,
    Connecting,
    Connected,
    /// The end is known; what is still on its way is waited for.
    Closing {
        reason: CloseReason,
        since: Instant,
    },
    Closed,
}

impl Connection {
    pub(crate) fn new(config: ConnectionConfig, now: Instant) -> Self {
        Self {
            dtls: Dtls::new(&config.identity, config.role, config.fingerprints),
            protection: None,
            receiver: Receiver::new(config.receiver, now),
            due: None,
            phase: Phase::New,
            heard: now,
            alive: now,
            has_media: false,
            goodbye: None,
            answered: None,
            shook: now,
            round_trip: None,
            is_congested: false,
            is_stale: false,
            outputs: VecDeque::new(),
            ingest: config.ingest,
            identity: config.identity,
            role: config.role,
        }
    }

    /// One that is connected, and seals nothing.
    #[cfg(feature = "testing")]
    pub(crate) fn plain(config: ConnectionConfig, now: Instant) -> Self {
        let mut plain = Self::new(config, now);
        plain.handle_established(Protection::Plain(Default::default()), now);
        plain
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    pub(crate) fn stats(&self) -> ReceptionStats {
        self.receiver.stats()
    }

    /// How its media time lies on both ends' clocks; `None` before any media.
    pub(crate) fn clock(&self) -> Option<SessionClock> {
        let (arrived, captured) = self.receiver.zero()?;
        Some(SessionClock {
            arrived,
            captured,
            round_trip: self.stats().round_trip.or(self.round_trip),
        })
    }

    /// How loud a track of sound is, -127 to 0 dBov, where its sender tells.
    pub(crate) fn level(&self, track: TrackId, now: Instant) -> Option<i8> {
        self.receiver.level(track, now)
    }

    /// A connectivity check of the publisher's was right; one that nominates tells the way to it (RFC 8445 §8.1.1).
    pub(crate) fn handle_check(&mut self, nominates: bool, now: Instant) {
        self.alive = now;
        // who stops all it sends says goodbye too: it stays, muted
        self.goodbye = None;
        if nominates {
            self.handle_path(now);
        }
    }

    fn handle_path(&mut self, now: Instant) {
        if self.phase != Phase::New {
            return;
        }
        self.phase = Phase::Connecting;
        self.shook = now;
        if self.role == DtlsRole::Active
            && let Err(why) = self.dtls.connect(&self.identity, now)
        {
            self.end(CloseReason::Failed(why), now);
        }
    }

    /// Anything but STUN.
    pub(crate) fn handle_datagram(&mut self, datagram: &[u8], now: Instant) {
        if self.is_closed() {
            return;
        }
        match DatagramKind::of(datagram) {
            DatagramKind::Rtp => self.handle_rtp(datagram, now),
            DatagramKind::Rtcp => self.handle_rtcp(datagram, now),
            DatagramKind::Dtls => self.handle_dtls(datagram, now),
            DatagramKind::Unknown => {}
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let silent = now.saturating_duration_since(self.heard);
        match &self.phase {
            Phase::Closed => return,
            Phase::New | Phase::Connecting if silent >= self.ingest.connect_timeout => {
                return self.end(CloseReason::ConnectTimeout, now);
            }
            Phase::Connected if self.goodbye.is_some_and(|at| now >= at + limits::GOODBYE) => {
                return self.end(CloseReason::ByPublisher, now);
            }
            Phase::Connected if now >= self.missed_at() => {
                let reason = if self.has_media {
                    CloseReason::MediaTimeout
                } else {
                    CloseReason::NoMedia
                };
                return self.end(reason, now);
            }
            Phase::Closing { reason, since } => {
                let waited = now.saturating_duration_since(*since);
                let quiet = silent.min(waited);
                if waited >= limits::DRAIN || quiet >= limits::DRAIN_QUIET {
                    return self.end(reason.clone(), now);
                }
            }
            Phase::New | Phase::Connecting | Phase::Connected => {}
        }
        if let Err(why) = self.dtls.handle_timeout(now) {
            return self.end(CloseReason::Failed(why), now);
        }
        self.receiver.handle_timeout(now);
        self.is_stale = true;
    }

    /// The host wants a key frame of a track.
    pub(crate) fn request_key_frame(&mut self, track: TrackId, now: Instant) {
        self.receiver.request_key_frame(track, now);
        self.is_stale = true;
    }

    /// The host takes no more for now, or does again.
    pub(crate) fn set_congested(&mut self, is_congested: bool) {
        self.is_congested = is_congested;
    }

    /// The publisher's ICE was restarted (RFC 9725 §4.3.3).
    pub(crate) fn handle_restart(&mut self, now: Instant) {
        if !self.is_closed() {
            if self.phase == Phase::Connected {
                self.heard = now;
            }
            self.outputs
                .push_back(ConnectionOutput::Event(SessionEvent::Restarted));
        }
    }

    /// The host ends the session.
    pub(crate) fn close(&mut self, now: Instant) {
        self.begin_end(CloseReason::ByHost, now);
    }

    /// The session ends, and nothing more of it is touched: it is not known how it stands.
    pub(crate) fn abandon(&mut self) {
        self.phase = Phase::Closed;
        self.outputs.clear();
    }

    /// What came together is gone through before what follows of it is asked for: that is seen to once.
    pub(crate) fn poll_output(&mut self) -> Option<ConnectionOutput> {
        if std::mem::take(&mut self.is_stale) {
            self.advance();
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let due = match &self.phase {
            Phase::Closed => return None,
            Phase::New | Phase::Connecting => self.heard + self.ingest.connect_timeout,
            Phase::Connected => {
                let missed = self.missed_at();
                self.goodbye.map_or(missed, |at| missed.min(at + limits::GOODBYE))
            }
            Phase::Closing { since, .. } => {
                (self.heard.max(*since) + limits::DRAIN_QUIET).min(*since + limits::DRAIN)
            }
        };
        [self.dtls.poll_timeout(), self.due, Some(due)]
            .into_iter()
            .flatten()
            .min()
            .map(ConnectionOutput::Timeout)
    }

    /// When a connected publisher counts as gone, unless more comes. One that has sent media, sends none and lives has muted all.
    fn missed_at(&self) -> Instant {
        let idle = self.ingest.idle_timeout;
        if !self.has_media {
            return self.heard + idle;
        }
        let mute = self.heard + self.ingest.mute_timeout.max(idle);
        mute.min(self.heard.max(self.alive) + idle)
    }

    fn handle_rtp(&mut self, datagram: &[u8], now: Instant) {
        let (Some(protection), Some(header)) = (&mut self.protection, RtpHeader::read(datagram)) else {
            return;
        };
        let Some(opened) = protection.open_rtp(&header, datagram) else {
            return;
        };
        match opened {
            Opened::New(packet) => {
                self.heard = now;
                self.has_media = true;
                self.goodbye = None;
                if self.is_congested {
                    return; // lost here, as on the road; but the publisher lives, and SRTP keeps count
                }
                self.receiver.handle_rtp(&header, &packet, now);
            }
            // anybody on the way may send it, so it is no sign of life
            Opened::Again(packet) => self.receiver.handle_copy(&header, &packet, now),
        }
        self.is_stale = true;
    }

    fn handle_rtcp(&mut self, datagram: &[u8], now: Instant) {
        let Some(packet) = self.protection.as_mut().and_then(|it| it.open_rtcp(datagram)) else {
            return;
        };
        self.alive = now;
        // a sender that pauses says goodbye too: it has left only if nothing follows
        if self.receiver.handle_rtcp(packet.freeze(), now) {
            self.goodbye.get_or_insert(now);
        }
        self.is_stale = true;
    }

    fn handle_dtls(&mut self, datagram: &[u8], now: Instant) {
        self.handle_path(now);
        if self.phase == Phase::Connecting {
            self.shook = now;
            let took = self.answered.take().map(|at| now.saturating_duration_since(at));
            self.round_trip = [self.round_trip, took].into_iter().flatten().min();
        }
        match self.dtls.handle_datagram(datagram, now) {
            Some(DtlsEvent::Established(srtp)) => self.handle_established(Protection::Srtp(srtp), now),
            Some(DtlsEvent::Closed) => self.begin_end(CloseReason::ByPublisher, now),
            Some(DtlsEvent::Failed(why)) => {
                self.transmit_handshake();
                self.end(CloseReason::Failed(why), now);
            }
            None => {}
        }
        self.is_stale = true;
    }

    fn handle_established(&mut self, protection: Protection, now: Instant) {
        self.protection = Some(protection);
        self.phase = Phase::Connected;
        self.heard = now;
        self.outputs
            .push_back(ConnectionOutput::Event(SessionEvent::Connected));
    }

    /// Moves what the parts have ready to the outputs.
    fn advance(&mut self) {
        if self.is_closed() {
            return;
        }
        self.transmit_handshake();
        self.due = loop {
            let event = match self.receiver.poll_output() {
                Some(ReceiverOutput::Media(media)) => SessionEvent::Media(media),
                Some(ReceiverOutput::Paused(track)) => SessionEvent::Paused(track),
                Some(ReceiverOutput::Resumed(track)) => SessionEvent::Resumed(track),
                Some(ReceiverOutput::Rtcp(report)) => {
                    let sealed = self.protection.as_mut().and_then(|it| it.seal_rtcp(&report));
                    let sealed = sealed.map(|it| ConnectionOutput::Transmit(it.freeze()));
                    self.outputs.extend(sealed);
                    continue;
                }
                Some(ReceiverOutput::Timeout(at)) => break Some(at),
                None => break None,
            };
            self.outputs.push_back(ConnectionOutput::Event(event));
        };
    }

    fn transmit_handshake(&mut self) {
        while let Some(datagram) = self.dtls.poll_transmit() {
            self.answered = Some(self.shook).filter(|_| self.phase == Phase::Connecting);
            self.outputs
                .push_back(ConnectionOutput::Transmit(datagram.freeze()));
        }
    }

    /// Waits for what is still on its way, and then ends.
    fn begin_end(&mut self, reason: CloseReason, now: Instant) {
        match self.phase {
            Phase::Connected => self.phase = Phase::Closing { reason, since: now },
            Phase::New | Phase::Connecting => self.end(reason, now),
            Phase::Closing { .. } | Phase::Closed => {}
        }
    }

    /// Ends at once.
    pub(crate) fn end(&mut self, reason: CloseReason, now: Instant) {
        if self.is_closed() {
            return;
        }
        self.receiver.finish(now);
        self.advance();
        self.dtls.close(now);
        self.transmit_handshake();
        self.phase = Phase::Closed;
        self.outputs
            .push_back(ConnectionOutput::Event(SessionEvent::Closed(reason)));
    }
}

#[cfg(test)]
mod tests;
