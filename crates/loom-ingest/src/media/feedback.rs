//! What a receiver says back to a sender: reports, requests for what is missing, arrival times.

mod nack;
mod reports;
mod transport;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use loom_core::{NtpTime, SequenceUnwrapper, Timescale};

use crate::limits;
use crate::stats::ReceptionStats;
use nack::Requests;
use reports::Reception;
use transport::Transport;

/// How a [`Feedback`] behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FeedbackConfig {
    /// Our own synchronization source: any number that no sender uses.
    pub(crate) source: u32,
    /// Our canonical name (RFC 3550 §6.5.1), at most 255 bytes; longer ones are cut.
    pub(crate) cname: String,
    /// The payload types whose missing packets may be asked for (`a=rtcp-fb:… nack`, RFC 4585 §4.2).
    pub(crate) retransmitted: Vec<u8>,
    /// Those of them whose missing packets come in a stream of their own (RFC 4588).
    pub(crate) sent_apart: Vec<u8>,
    /// Whether arrival times are reported (`a=rtcp-fb:… transport-cc`).
    pub(crate) transport_cc: bool,
    /// Whether feedback may travel without a report before it (`a=rtcp-rsize`, RFC 5506).
    pub(crate) reduced_size: bool,
    /// How long the reorder buffer waits for a missing packet: later it is not asked for.
    pub(crate) reorder_wait: Duration,
}

impl Default for FeedbackConfig {
    fn default() -> Self {
        Self {
            source: 1,
            cname: "loom".to_owned(),
            retransmitted: Vec::new(),
            sent_apart: Vec::new(),
            transport_cc: false,
            reduced_size: true,
            reorder_wait: Duration::from_millis(800),
        }
    }
}

/// An RTP packet that has arrived, as far as feedback is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) source: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) payload_type: u8,
    /// What its timestamp counts.
    pub(crate) scale: Timescale,
    /// Its number over all streams, where it carries one (draft-holmer-rmcat-transport-wide-cc-extensions-01 §2).
    pub(crate) transport_sequence: Option<u16>,
    /// It belongs to a stream of retransmissions or of repair, which is neither asked for nor reported on.
    pub(crate) is_repair: bool,
}

/// What a [`Feedback`] has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FeedbackOutput {
    /// One datagram of plain RTCP, compound or of reduced size.
    Rtcp(Bytes),
    /// Nothing more before this instant, unless a packet comes.
    Timeout(Instant),
}

/// Writes the RTCP of one receiver for all sources of one sender.
///
/// Invariant: it asks for no packet that has come, for none more often than [`limits::REQUESTS_PER_PACKET`] times, and for
/// none that the reorder buffer has given up; its memory is bounded whatever arrives.
#[derive(Debug)]
pub(crate) struct Feedback {
    config: FeedbackConfig,
    sources: Vec<Source>,
    transport: Option<Transport>,
    reports_due: Option<Instant>,
    outbox: Outbox,
    /// Room for the numbers of one request.
    asked: Vec<u16>,
}

/// A sender's synchronization source.
#[derive(Debug)]
struct Source {
    source: u32,
    last: Instant,
    sequence: Order,
    reception: Reception,
    requests: Requests,
}

/// RTCP packets on their way into datagrams.
#[derive(Debug)]
struct Outbox {
    /// What every datagram begins with where reduced size was not agreed on.
    preamble: Option<Vec<u8>>,
    open: Vec<u8>,
    packet: Vec<u8>,
    closed: VecDeque<Bytes>,
}

/// Receiver reports are sent this often (RFC 3550 §6.2 asks for no more than a share of the bandwidth, which this is far
/// below).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The first report.
const FIRST_REPORT: Duration = Duration::from_millis(300);
/// A source that has been silent this long is not reported on (RFC 3550 §6.3.5 leaves two intervals).
const REPORTED: Duration = Duration::from_secs(2);
/// Blocks of one receiver report: five bits (RFC 3550 §6.4.2).
const REPORT_BLOCKS: usize = 31;

const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

impl Feedback {
    pub(crate) fn new(config: FeedbackConfig, now: Instant) -> Self {
        let mut preamble = Vec::new();
        if !config.reduced_size {
            header(&mut preamble, 0, RECEIVER_REPORT, 1);
            preamble.put_u32(config.source);
            describe(&mut preamble, config.source, &config.cname);
        }
        Self {
            transport: config.transport_cc.then(|| Transport::new(now)),
            sources: Vec::new(),
            reports_due: None,
            outbox: Outbox {
                preamble: (!config.reduced_size).then_some(preamble),
                open: Vec::with_capacity(limits::RTCP_BYTES),
                packet: Vec::new(),
                closed: VecDeque::new(),
            },
            asked: Vec::new(),
            config,
        }
    }

    pub(crate) fn handle_rtp(&mut self, arrival: &Arrival, now: Instant) {
        if let (Some(transport), Some(sequence)) = (&mut self.transport, arrival.transport_sequence) {
            transport.handle_packet(sequence, arrival.source, now);
        }
        if !arrival.is_repair {
            let is_retransmitted = self.config.retransmitted.contains(&arrival.payload_type);
            let sent_apart = self.config.sent_apart.contains(&arrival.payload_type);
            let source = self.source_of(arrival.source, now);
            source.last = now;
            source.requests.set_sent_apart(sent_apart);
            if let Some(sequence) = source.sequence.place(arrival.sequence) {
                let in_band = is_retransmitted && source.requests.handle_packet(sequence, now);
                let transit = (!in_band).then_some((arrival.timestamp, arrival.scale));
                source.reception.handle_packet(sequence, transit, now);
            }
            self.reports_due.get_or_insert(now + FIRST_REPORT);
        }
        if self.due().is_some_and(|due| due <= now) {
            self.handle_timeout(now);
        }
    }

    /// A packet of that source came in its stream of retransmissions (RFC 4588); gives whether it was missing. It does not count as
    /// received: reports are on the stream that lost it (RFC 4588 §9).
    pub(crate) fn handle_retransmission(&mut self, source: u32, sequence: u16, now: Instant) -> bool {
        let source = self.sources.iter_mut().find(|it| it.source == source);
        source.is_some_and(|source| {
            // a sender may send what is old again, to probe the bandwidth: that is no new stream
            let place = source.sequence.clone().place(sequence);
            place.is_some_and(|place| source.requests.handle_retransmission(place, now))
        })
    }

    /// A sender report came (RFC 3550 §6.4.1).
    pub(crate) fn handle_sender_report(&mut self, source: u32, ntp: NtpTime, now: Instant) {
        if let Some(source) = self.sources.iter_mut().find(|it| it.source == source) {
            source.reception.handle_report(ntp, now);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.reports_due.is_some_and(|due| due <= now) {
            self.report(now);
        }
        for source in &mut self.sources {
            if source.requests.due().is_none_or(|due| due > now) {
                continue;
            }
            self.asked.clear();
            source.requests.ask(&mut self.asked, now);
            if !self.asked.is_empty() {
                tracing::trace!(source = source.source, packets = ?self.asked, "missing packets are asked for");
                nack::write(
                    &mut self.outbox.packet,
                    self.config.source,
                    source.source,
                    &self.asked,
                );
                self.outbox.add();
            }
        }
        if let Some(transport) = &mut self.transport
            && transport.due().is_some_and(|due| due <= now)
        {
            while transport.report(&mut self.outbox.packet, self.config.source, now) {
                self.outbox.add();
            }
        }
        self.outbox.close();
    }

    /// What that source sent before this packet and did not come is not missed.
    pub(crate) fn forget(&mut self, source: u32, before: u16) {
        if let Some(source) = self.sources.iter_mut().find(|it| it.source == source)
            && let Some(before) = source.sequence.clone().place(before)
        {
            source.requests.forget(before, source.last);
        }
    }

    /// Adds what was asked for so far.
    pub(crate) fn count(&self, stats: &mut ReceptionStats) {
        for source in &self.sources {
            let counts = source.requests.counts();
            stats.packets_asked += counts.packets;
            stats.requests += counts.requests;
            stats.round_trip = stats.round_trip.max(source.requests.round_trip());
        }
    }

    /// Asks the sender for a key frame of this source at once (RFC 4585 §6.3.1). The caller spaces them.
    pub(crate) fn request_key_frame(&mut self, source: u32) {
        header(&mut self.outbox.packet, 1, PAYLOAD_FEEDBACK, 2);
        self.outbox.packet.put_u32(self.config.source);
        self.outbox.packet.put_u32(source);
        self.outbox.add();
        self.outbox.close();
    }

    pub(crate) fn poll_output(&mut self) -> Option<FeedbackOutput> {
        if let Some(message) = self.outbox.closed.pop_front() {
            return Some(FeedbackOutput::Rtcp(message));
        }
        self.due().map(FeedbackOutput::Timeout)
    }

    fn due(&self) -> Option<Instant> {
        let requests = self
            .sources
            .iter()
            .filter_map(|source| source.requests.due())
            .min();
        let transport = self.transport.as_ref().and_then(Transport::due);
        [self.reports_due, requests, transport]
            .into_iter()
            .flatten()
            .min()
    }

    /// The source's state; where there is no room, that of the longest silent one is forgotten.
    fn source_of(&mut self, source: u32, now: Instant) -> &mut Source {
        let at = match self.sources.iter().position(|it| it.source == source) {
            Some(at) => at,
            None => {
                if self.sources.len() >= limits::FEEDBACK_SOURCES {
                    let silent = (0..self.sources.len()).min_by_key(|at| self.sources[*at].last);
                    self.sources.swap_remove(silent.unwrap_or(0));
                }
                self.sources.push(Source {
                    source,
                    last: now,
                    sequence: Order::default(),
                    reception: Reception::default(),
                    requests: Requests::new(self.config.reorder_wait, now),
                });
                self.sources.len() - 1
            }
        };
        &mut self.sources[at]
    }

    /// A receiver report on every source that lives, with our name (RFC 3550 §6.1).
    fn report(&mut self, now: Instant) {
        let living: Vec<&mut Source> = self
            .sources
            .iter_mut()
            .filter(|source| now.saturating_duration_since(source.last) < REPORTED)
            .collect();
        self.reports_due = (!living.is_empty()).then_some(now + REPORT_INTERVAL);
        let packet = &mut self.outbox.packet;
        let blocks = living.len().min(REPORT_BLOCKS);
        header(packet, blocks as u8, RECEIVER_REPORT, 1 + 6 * blocks);
        packet.put_u32(self.config.source);
        for source in living.into_iter().take(REPORT_BLOCKS) {
            source.reception.write_block(packet, source.source, now);
        }
        describe(packet, self.config.source, &self.config.cname);
        self.outbox.add_first();
    }
}

impl Outbox {
    /// Takes the packet that was written.
    fn add(&mut self) {
        if self.open.len() + self.packet.len() > limits::RTCP_BYTES {
            self.close();
        }
        if let Some(preamble) = self.preamble.as_ref().filter(|_| self.open.is_empty()) {
            self.open.extend_from_slice(preamble);
        }
        self.open.append(&mut self.packet);
    }

    /// Takes the packet that was written, which opens a datagram of its own.
    fn add_first(&mut self) {
        self.close();
        self.open.append(&mut self.packet);
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        if self.closed.len() == limits::RTCP_MESSAGES {
            self.closed.pop_front();
        }
        self.closed.push_back(Bytes::copy_from_slice(&self.open));
        self.open.clear();
    }
}

/// Extends a source's sequence numbers and tells a new stream from a stray packet.
#[derive(Debug, Clone, Default)]
struct Order {
    sequence: SequenceUnwrapper,
    last: Option<i64>,
    stray: Option<u16>,
}

impl Order {
    /// The packet's place in the stream, or nothing for one that lies far off; two of those in a row are a new stream,
    /// which lies as far from the old one (RFC 3550 §A.1).
    fn place(&mut self, sequence: u16) -> Option<i64> {
        let mut ahead = self.sequence.clone();
        let at = ahead.unwrap(sequence);
        let far = self
            .last
            .is_some_and(|last| (at - last).abs() > limits::SEQUENCE_LEAP);
        if far && self.stray.replace(sequence) != Some(sequence.wrapping_sub(1)) {
            return None;
        }
        self.stray = None;
        self.sequence = ahead;
        self.last = Some(at);
        Some(at)
    }
}

/// Begins an RTCP packet of `words` 32-bit words after this one (RFC 3550 §6.4.1).
fn header(packet: &mut Vec<u8>, count: u8, packet_type: u8, words: usize) {
    packet.put_u8(0x80 | count);
    packet.put_u8(packet_type);
    packet.put_u16(words as u16);
}

/// A source description with nothing but a canonical name (RFC 3550 §6.5).
fn describe(packet: &mut Vec<u8>, source: u32, cname: &str) {
    let name = &cname.as_bytes()[..cname.len().min(255)];
    // an item ends in at least one zero, and the chunk at a word's end
    let chunk = (4 + 2 + name.len() + 1).next_multiple_of(4);
    header(packet, 1, SOURCE_DESCRIPTION, chunk / 4);
    packet.put_u32(source);
    packet.put_u8(1);
    packet.put_u8(name.len() as u8);
    packet.put_slice(name);
    packet.put_bytes(0, chunk - 6 - name.len());
}

#[cfg(test)]
mod tests;
