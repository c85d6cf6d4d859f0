use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use loom_core::{NtpTime, Timescale, TrackId};
use rtc::rtcp::goodbye::Goodbye;
use rtc::rtcp::sender_report::SenderReport;
use tracing::{debug, trace};

use super::DatagramKind;
use super::dtls::{Dtls, DtlsEvent, Identity};
use super::rtp::RtpHeader;
use super::srtp::Srtp;
use crate::config::IngestConfig;
use crate::limits;
use crate::media::{Arrival, FecConfig, FecDecoder, Feedback, FeedbackConfig, FeedbackOutput};
use crate::media::{Publisher, PublisherConfig, PublisherOutput, RtpPacket};
use crate::sdp::{DtlsRole, Extensions, Fingerprint, RepairStream};
use crate::session::{CloseReason, SessionEvent};

/// What a [`Connection`] is made for.
pub(crate) struct ConnectionConfig {
    pub(crate) ingest: Arc<IngestConfig>,
    pub(crate) identity: Identity,
    pub(crate) role: DtlsRole,
    pub(crate) fingerprints: Vec<Fingerprint>,
    pub(crate) extensions: Extensions,
    pub(crate) feedback: FeedbackConfig,
    /// The streams of repair packets.
    pub(crate) repairs: Vec<RepairStream>,
    pub(crate) publisher: PublisherConfig,
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
    config: ConnectionConfig,
    dtls: Dtls,
    srtp: Option<Srtp>,
    feedback: Feedback,
    publisher: Publisher,
    /// Payload types and their clocks.
    clocks: Vec<(u8, Timescale)>,
    /// One for each stream of repair packets.
    decoders: Vec<FecDecoder>,
    phase: Phase,
    /// When the session began or the last media came.
    heard: Instant,
    has_media: bool,
    /// When all sources had said goodbye (RFC 3550 §6.6); nothing came of them since.
    goodbye: Option<Instant>,
    /// The host takes nothing for now: what comes is lost, as on the road.
    is_congested: bool,
    outputs: VecDeque<ConnectionOutput>,
}

/// Where an RTP packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Media,
    Repair,
    /// It was lost, and made again from a repair packet.
    Recovered,
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
        let formats = config
            .publisher
            .sections
            .iter()
            .flat_map(|section| &section.formats);
        let clocks = formats.map(|format| (format.payload_type, format.codec.scale()));
        let decoders = config.repairs.iter().map(|repair| {
            FecDecoder::new(FecConfig {
                protects: repair.protects,
                late_extension: config.extensions.transport_cc,
            })
        });
        Self {
            dtls: Dtls::new(&config.identity, config.role, config.fingerprints.clone()),
            srtp: None,
            feedback: Feedback::new(config.feedback.clone(), now),
            publisher: Publisher::new(config.publisher.clone()),
            clocks: clocks.collect(),
            decoders: decoders.collect(),
            phase: Phase::New,
            heard: now,
            has_media: false,
            goodbye: None,
            is_congested: false,
            outputs: VecDeque::new(),
            config,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// There is a way to the publisher: it has nominated one (RFC 8445 §8.1.1).
    pub(crate) fn handle_path(&mut self, now: Instant) {
        if self.phase != Phase::New {
            return;
        }
        self.phase = Phase::Connecting;
        if self.config.role == DtlsRole::Active
            && let Err(why) = self.dtls.connect(&self.config.identity, now)
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
            Phase::New | Phase::Connecting if silent >= self.config.ingest.connect_timeout => {
                return self.end(CloseReason::ConnectTimeout, now);
            }
            Phase::Connected if self.goodbye.is_some_and(|at| now >= at + limits::GOODBYE) => {
                return self.end(CloseReason::ByPublisher, now);
            }
            Phase::Connected if silent >= self.config.ingest.idle_timeout => {
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
        self.feedback.handle_timeout(now);
        self.publisher.handle_timeout(now);
        self.advance(now);
    }

    /// The host wants a key frame of a track.
    pub(crate) fn request_key_frame(&mut self, track: TrackId, now: Instant) {
        self.publisher.request_key_frame(track, now);
        self.advance(now);
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

    pub(crate) fn poll_output(&mut self) -> Option<ConnectionOutput> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let due = match &self.phase {
            Phase::Closed => return None,
            Phase::New | Phase::Connecting => self.heard + self.config.ingest.connect_timeout,
            Phase::Connected => {
                let idle = self.heard + self.config.ingest.idle_timeout;
                self.goodbye.map_or(idle, |at| idle.min(at + limits::GOODBYE))
            }
            Phase::Closing { since, .. } => {
                (self.heard.max(*since) + limits::DRAIN_QUIET).min(*since + limits::DRAIN)
            }
        };
        let publisher = match self.publisher.poll_output() {
            Some(PublisherOutput::Timeout(at)) => Some(at),
            _ => None,
        };
        let feedback = match self.feedback.poll_output() {
            Some(FeedbackOutput::Timeout(at)) => Some(at),
            _ => None,
        };
        [self.dtls.poll_timeout(), publisher, feedback, Some(due)]
            .into_iter()
            .flatten()
            .min()
            .map(ConnectionOutput::Timeout)
    }

    fn handle_rtp(&mut self, datagram: &[u8], now: Instant) {
        let (Some(srtp), Some(header)) = (&mut self.srtp, RtpHeader::read(datagram)) else {
            return;
        };
        let Some(packet) = srtp.open_rtp(&header, datagram) else {
            return;
        };
        self.heard = now;
        self.has_media = true;
        self.goodbye = None;
        if self.is_congested {
            return; // lost here, as on the road; but the publisher lives, and SRTP keeps count
        }
        let repair =
            self.config.repairs.iter().position(|repair| {
                (repair.source, repair.payload_type) == (header.source, header.payload_type)
            });
        let origin = if repair.is_some() {
            Origin::Repair
        } else {
            Origin::Media
        };
        self.take_packet(&header, &packet, origin, now);
        for at in 0..self.decoders.len() {
            match repair {
                Some(repair) if repair == at => self.decoders[at].handle_repair(&packet),
                Some(_) => {}
                None => self.decoders[at].handle_media(&packet),
            }
            while let Some(packet) = self.decoders[at].poll_recovered() {
                if let Some(header) = RtpHeader::read(&packet) {
                    trace!(
                        source = header.source,
                        sequence = header.sequence,
                        "a packet was recovered"
                    );
                    self.take_packet(&header, &packet, Origin::Recovered, now);
                }
            }
        }
        self.advance(now);
    }

    /// Takes a packet that came or was recovered; the latter has no transport-wide number.
    fn take_packet(&mut self, header: &RtpHeader, packet: &Bytes, origin: Origin, now: Instant) {
        let is_repair = origin == Origin::Repair;
        let Some(end) = header.payload_end(packet) else {
            return;
        };
        let extensions = self.config.extensions;
        let (mut mid, mut rid, mut transport_sequence) = (None, None, None);
        header.extensions(packet, |id, range| {
            let id = Some(id);
            if id == extensions.transport_cc {
                transport_sequence = packet
                    .get(range)
                    .and_then(|value| value.first_chunk::<2>())
                    .map(|value| u16::from_be_bytes(*value));
            } else if id == extensions.mid {
                mid = Some(packet.slice(range));
            } else if id == extensions.rid {
                rid = Some(packet.slice(range));
            }
        });
        let mut clocks = self.clocks.iter();
        let clock = clocks.find(|(number, _)| *number == header.payload_type);
        let clock = clock.map(|(_, scale)| *scale);
        if let Some(scale) = clock.or(is_repair.then_some(Timescale::VIDEO)) {
            let arrival = Arrival {
                source: header.source,
                sequence: header.sequence,
                timestamp: header.timestamp,
                payload_type: header.payload_type,
                scale,
                transport_sequence: transport_sequence.filter(|_| origin != Origin::Recovered),
                is_repair,
            };
            self.feedback.handle_rtp(&arrival, now);
        }
        // one without a payload is padding, but has its place in the order
        if !is_repair {
            self.publisher.handle_packet(
                RtpPacket {
                    source: header.source,
                    payload_type: header.payload_type,
                    sequence: header.sequence,
                    timestamp: header.timestamp,
                    marker: header.marker,
                    payload: packet.slice(header.len..end),
                    arrived: now,
                    mid,
                    rid,
                },
                now,
            );
        }
    }

    fn handle_rtcp(&mut self, datagram: &[u8], now: Instant) {
        let Some(packet) = self.srtp.as_mut().and_then(|srtp| srtp.open_rtcp(datagram)) else {
            return;
        };
        let Ok(reports) = rtc::rtcp::packet::unmarshal(&mut packet.freeze()) else {
            return;
        };
        let mut bye = false;
        for report in reports {
            let report = report.as_any();
            if let Some(report) = report.downcast_ref::<SenderReport>() {
                let ntp = NtpTime(report.ntp_time);
                self.feedback.handle_sender_report(report.ssrc, ntp, now);
                self.publisher.handle_report(report.ssrc, ntp, report.rtp_time);
            } else if let Some(goodbye) = report.downcast_ref::<Goodbye>() {
                bye |= self.publisher.handle_bye(&goodbye.sources);
            }
        }
        // a sender that pauses says goodbye too: it has left only if nothing follows
        if bye {
            self.goodbye.get_or_insert(now);
        }
        self.advance(now);
    }

    fn handle_dtls(&mut self, datagram: &[u8], now: Instant) {
        self.handle_path(now);
        match self.dtls.handle_datagram(datagram, now) {
            Some(DtlsEvent::Established(srtp)) => {
                self.srtp = Some(*srtp);
                self.phase = Phase::Connected;
                self.heard = now;
                self.outputs
                    .push_back(ConnectionOutput::Event(SessionEvent::Connected));
            }
            Some(DtlsEvent::Closed) => self.begin_end(CloseReason::ByPublisher, now),
            Some(DtlsEvent::Failed(why)) => {
                self.transmit_handshake();
                self.end(CloseReason::Failed(why), now);
            }
            None => {}
        }
        self.advance(now);
    }

    /// Moves what the parts have ready to the outputs.
    fn advance(&mut self, now: Instant) {
        if self.is_closed() {
            return;
        }
        self.transmit_handshake();
        loop {
            let event = match self.publisher.poll_output() {
                Some(PublisherOutput::Media(media)) => SessionEvent::Media(media),
                Some(PublisherOutput::Paused(track)) => SessionEvent::Paused(track),
                Some(PublisherOutput::Resumed(track)) => SessionEvent::Resumed(track),
                Some(PublisherOutput::RequestKeyFrame { source }) => {
                    debug!(source, "asking for a key frame");
                    self.feedback.request_key_frame(source, now);
                    continue;
                }
                Some(PublisherOutput::Timeout(_)) | None => break,
            };
            self.outputs.push_back(ConnectionOutput::Event(event));
        }
        while let Some(FeedbackOutput::Rtcp(report)) = self.feedback.poll_output() {
            let sealed = self.srtp.as_mut().and_then(|srtp| srtp.seal_rtcp(&report));
            if let Some(sealed) = sealed {
                self.outputs
                    .push_back(ConnectionOutput::Transmit(sealed.freeze()));
            }
        }
    }

    fn transmit_handshake(&mut self) {
        while let Some(datagram) = self.dtls.poll_transmit() {
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
        self.publisher.finish(now);
        self.advance(now);
        self.dtls.close(now);
        self.transmit_handshake();
        self.phase = Phase::Closed;
        self.outputs
            .push_back(ConnectionOutput::Event(SessionEvent::Closed(reason)));
    }
}

#[cfg(test)]
mod tests;
