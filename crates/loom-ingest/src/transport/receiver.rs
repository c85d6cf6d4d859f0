use std::time::Instant;

use bytes::Bytes;
use loom_core::{Media, NtpTime, Timescale, TrackId};
use rtc::rtcp::goodbye::Goodbye;
use rtc::rtcp::sender_report::SenderReport;
use tracing::{debug, trace};

use crate::media::{Arrival, FecConfig, FecDecoder, Feedback, FeedbackConfig, FeedbackOutput};
use crate::media::{Publisher, PublisherConfig, PublisherOutput, RtpPacket};
use crate::rtp::RtpHeader;
use crate::sdp::{Extensions, RepairStream};

/// What a [`Receiver`] is made for.
pub(crate) struct ReceiverConfig {
    pub(crate) extensions: Extensions,
    pub(crate) feedback: FeedbackConfig,
    /// The streams of repair packets.
    pub(crate) repairs: Vec<RepairStream>,
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
    feedback: Feedback,
    publisher: Publisher,
    /// Payload types and their clocks.
    clocks: Vec<(u8, Timescale)>,
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
            decoders: decoders.collect(),
            feedback: Feedback::new(config.feedback, now),
            publisher: Publisher::new(config.publisher),
            extensions: config.extensions,
            repairs: config.repairs,
        }
    }

    /// A packet that has not come before.
    pub(crate) fn handle_rtp(&mut self, header: &RtpHeader, packet: &Bytes, now: Instant) {
        let repair = self.repair(header);
        let origin = if repair.is_some() {
            Origin::Repair
        } else {
            Origin::Media
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
        if self.repair(header).is_none() {
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
        let is_repair = origin == Origin::Repair;
        let Some(end) = header.payload_end(packet) else {
            return;
        };
        let extensions = self.extensions;
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
                // one that was recovered did not come
                transport_sequence: transport_sequence.filter(|_| origin != Origin::Recovered),
                is_repair,
            };
            self.feedback.handle_rtp(&arrival, now);
        }
        // one without a payload is padding, but has its place in the order
        if matches!(origin, Origin::Media | Origin::Recovered) {
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
}
