use std::time::{Instant, SystemTime};

use bytes::Bytes;
use loom_core::{Media, NtpTime, Timescale, TrackId};
use rtc::rtcp::goodbye::Goodbye;
use rtc::rtcp::sender_report::SenderReport;
use tracing::{debug, trace};

use crate::media::{Arrival, FecConfig, FecDecoder, Feedback, FeedbackConfig, FeedbackOutput};
use crate::media::{
    Publisher, PublisherConfig, PublisherOutput, RetransmissionConfig, Retransmissions, RtpPacket,
};
use crate::rtp::RtpHeader;
use crate::sdp::{Extensions, RepairStream};
use crate::stats::ReceptionStats;

/// What a [`Receiver`] is made for.
pub(crate) struct ReceiverConfig {
    pub(crate) extensions: Extensions,
    pub(crate) feedback: FeedbackConfig,
    /// The streams of repair packets.
    pub(crate) repairs: Vec<RepairStream>,
    /// How what is missing is sent again.
    pub(crate) retransmission: RetransmissionConfig,
    pub(crate) publisher: PublisherConfig,
}

/// What a [`Receiver`] has to say.
#[derive(Debug)]
pub(crate) enum ReceiverOutput {
    Media(Media),
    Paused(TrackId),
    Resumed(TrackId),
    /// One datagram of plain RTCP for the publisher.
    Rtcp(Bytes),
    /// Nothing more before this instant, unless a packet comes.
    Timeout(Instant),
}

/// What a publisher's packets go through once they are decrypted: repair, feedback, and the way to media.
///
/// Invariant: whatever the packets are, what comes out is what [`Publisher`] and [`Feedback`] promise.
pub(crate) struct Receiver {
    extensions: Extensions,
    repairs: Vec<RepairStream>,
    retransmissions: Retransmissions,
    feedback: Feedback,
    publisher: Publisher,
    /// Payload types and their clocks.
    clocks: Vec<(u8, Timescale)>,
    packets_received: u64,
    /// One for each stream of repair packets.
    decoders: Vec<FecDecoder>,
}

/// Where an RTP packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Media,
    Repair,
    /// It was lost, and made again from a repair packet.
    Recovered,
    /// It has come before.
    Copy,
    /// It carries what is sent again.
    Again,
}

impl Receiver {
    pub(crate) fn new(config: ReceiverConfig, now: Instant) -> Self {
        let sections = &config.publisher.sections;
        let formats = sections.iter().flat_map(|section| &section.formats);
        let clocks = formats.map(|format| (format.payload_type, format.codec.scale()));
        let decoders = config.repairs.iter().map(|repair| {
            FecDecoder::new(FecConfig {
                protects: repair.protects,
                late_extension: config.extensions.transport_cc,
            })
        });
        Self {
            clocks: clocks.collect(),
            packets_received: 0,
            decoders: decoders.collect(),
            feedback: Feedback::new(config.feedback, now),
            publisher: Publisher::new(config.publisher),
            extensions: config.extensions,
            repairs: config.repairs,
            retransmissions: Retransmissions::new(config.retransmission),
        }
    }

    /// A packet that has not come before.
    pub(crate) fn handle_rtp(&mut self, header: &RtpHeader, packet: &Bytes, now: Instant) {
        let repair = self.repair(header);
        let origin = match repair {
            Some(_) => Origin::Repair,
            None if self.retransmissions.carries(header.payload_type) => Origin::Again,
            None => Origin::Media,
        };
        self.take_packet(header, packet, origin, now);
        for at in 0..self.decoders.len() {
            match repair {
                Some(repair) if repair == at => self.decoders[at].handle_repair(packet),
                Some(_) => {}
                None => self.decoders[at].handle_media(packet),
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
    }

    /// A packet that has come before. It holds nothing new, but tells whether what was asked for had been lost, and its
    /// sender counts it (RFC 4585 §6.2.1, draft-holmer-rmcat-transport-wide-cc-extensions-01 §2).
    pub(crate) fn handle_copy(&mut self, header: &RtpHeader, packet: &Bytes, now: Instant) {
        let is_media = self.repair(header).is_none() && !self.retransmissions.carries(header.payload_type);
        if is_media {
            self.take_packet(header, packet, Origin::Copy, now);
        }
    }

    /// A compound packet. Gives whether the last of the sources has said goodbye by it.
    pub(crate) fn handle_rtcp(&mut self, mut packet: Bytes, now: Instant) -> bool {
        let Ok(reports) = rtc::rtcp::packet::unmarshal(&mut packet) else {
            return false;
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
        bye
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.feedback.handle_timeout(now);
        self.publisher.handle_timeout(now);
    }

    pub(crate) fn stats(&self) -> ReceptionStats {
        let mut stats = ReceptionStats {
            packets_received: self.packets_received,
            ..ReceptionStats::default()
        };
        self.feedback.count(&mut stats);
        stats
    }

    /// When what carries media time zero came, and when it was captured by the sender's wall clock.
    pub(crate) fn zero(&self) -> Option<(Instant, Option<SystemTime>)> {
        self.publisher.zero()
    }

    /// How loud a track of sound is, -127 to 0 dBov, where its sender tells.
    pub(crate) fn level(&self, track: TrackId, now: Instant) -> Option<i8> {
        self.publisher.level(track, now)
    }

    /// The host wants a key frame of a track.
    pub(crate) fn request_key_frame(&mut self, track: TrackId, now: Instant) {
        self.publisher.request_key_frame(track, now);
    }

    /// No more comes.
    pub(crate) fn finish(&mut self, now: Instant) {
        self.publisher.finish(now);
    }

    pub(crate) fn poll_output(&mut self) -> Option<ReceiverOutput> {
        let publisher = loop {
            match self.publisher.poll_output() {
                Some(PublisherOutput::Media(media)) => return Some(ReceiverOutput::Media(media)),
                Some(PublisherOutput::Paused(track)) => return Some(ReceiverOutput::Paused(track)),
                Some(PublisherOutput::Resumed(track)) => return Some(ReceiverOutput::Resumed(track)),
                Some(PublisherOutput::RequestKeyFrame { source }) => {
                    debug!(source, "asking for a key frame");
                    self.feedback.request_key_frame(source);
                }
                Some(PublisherOutput::NothingMissing { source, before }) => {
                    self.feedback.forget(source, before)
                }
                Some(PublisherOutput::Timeout(at)) => break Some(at),
                None => break None,
            }
        };
        let feedback = match self.feedback.poll_output() {
            Some(FeedbackOutput::Rtcp(report)) => return Some(ReceiverOutput::Rtcp(report)),
            Some(FeedbackOutput::Timeout(at)) => Some(at),
            None => None,
        };
        let due = [publisher, feedback].into_iter().flatten().min();
        due.map(ReceiverOutput::Timeout)
    }

    /// Which stream of repair packets it belongs to.
    fn repair(&self, header: &RtpHeader) -> Option<usize> {
        self.repairs
            .iter()
            .position(|repair| (repair.source, repair.payload_type) == (header.source, header.payload_type))
    }

    fn take_packet(&mut self, header: &RtpHeader, packet: &Bytes, origin: Origin, now: Instant) {
        let is_repair = matches!(origin, Origin::Repair | Origin::Again);
        let Some(end) = header.payload_end(packet) else {
            return;
        };
        let extensions = self.extensions;
        let (mut mid, mut rid, mut repaired, mut transport_sequence) = (None, None, None, None);
        let mut level = None;
        header.extensions(packet, |id, range| {
            let id = Some(id);
            if id == extensions.transport_cc {
                transport_sequence = packet
                    .get(range)
                    .and_then(|value| value.first_chunk::<2>())
                    .map(|value| u16::from_be_bytes(*value));
            } else if id == extensions.audio_level {
                // a bit that says whether it is a voice, and 7 that count downwards (RFC 6464 §3)
                level = packet
                    .get(range)
                    .and_then(<[u8]>::first)
                    .map(|it| -((it & 0x7f) as i8));
            } else if id == extensions.mid {
                mid = Some(packet.slice(range));
            } else if id == extensions.rid {
                rid = Some(packet.slice(range));
            } else if id == extensions.repaired_rid {
                repaired = Some(packet.slice(range));
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
                // one that was recovered did not come
                transport_sequence: transport_sequence.filter(|_| origin != Origin::Recovered),
                is_repair,
            };
            self.feedback.handle_rtp(&arrival, now);
        }
        if let Some(rid) = rid.as_ref().filter(|_| origin == Origin::Media) {
            self.retransmissions
                .handle_layer(header.source, mid.as_ref(), rid);
        }
        if origin == Origin::Again {
            let payload = packet.slice(header.len..end);
            let restored = self
                .retransmissions
                .restore(header, &payload, mid.as_ref(), repaired.as_ref());
            // a sender that probes sends again what is not missing
            if let Some(restored) = restored
                && self
                    .feedback
                    .handle_retransmission(restored.source, restored.sequence, now)
            {
                self.packets_received += 1;
                self.publisher.handle_packet(
                    RtpPacket {
                        source: restored.source,
                        payload_type: restored.payload_type,
                        sequence: restored.sequence,
                        timestamp: header.timestamp,
                        marker: header.marker,
                        payload: restored.payload,
                        arrived: now,
                        mid: None,
                        rid: None,
                    },
                    now,
                );
            }
        }
        // one without a payload is padding, but has its place in the order
        if matches!(origin, Origin::Media | Origin::Recovered) {
            self.packets_received += 1;
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
            if let Some(level) = level {
                self.publisher.handle_level(header.source, level, now);
            }
        }
    }
}
