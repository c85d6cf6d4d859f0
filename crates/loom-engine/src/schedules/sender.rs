use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use loom_core::MediaKind;
use loom_testkit::SkewedClock;
use rtc::rtcp::goodbye::Goodbye;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::shared::marshal::Marshal as _;

use super::picture::Pictures;
use super::stamp::Stamp;

/// What a publisher sends: sound in Opus and pictures in H.264, each by a clock of its own, and what reports say of both.
pub(super) struct Sender {
    session: u8,
    /// The schedule's begin.
    epoch: Instant,
    pictures: Arc<Pictures>,
    camera: Stream,
    microphone: Stream,
    wall: SkewedClock,
    key_wanted: bool,
    keys: usize,
    /// Pictures since the last key picture.
    since_key: usize,
    next_report: Instant,
    reports: usize,
    units: Vec<Unit>,
}

/// Something that was captured and sent.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub(super) kind: MediaKind,
    pub(super) stamp: Stamp,
    pub(super) key: bool,
    /// All of it came where it was sent to, the first time that it was sent.
    pub(super) whole: bool,
}

/// A datagram on its way to the recording.
#[derive(Debug, Clone)]
pub(super) struct Datagram {
    pub(super) data: Bytes,
    /// The unit that it is of, where it is sent for the first time.
    pub(super) unit: Option<usize>,
}

/// How far a publisher's clocks are off, in parts in a million.
#[derive(Debug, Clone, Copy)]
pub(super) struct Skew {
    pub(super) camera: f64,
    pub(super) microphone: f64,
    pub(super) wall: f64,
}

struct Stream {
    source: u32,
    payload_type: u8,
    rate: u32,
    clock: SkewedClock,
    every: Duration,
    /// What its clock has counted so far.
    count: u32,
    /// What was sent of it.
    number: u32,
    sequence: u16,
    muted: bool,
    history: VecDeque<(u16, Bytes)>,
}

impl Stream {
    fn new(source: u32, payload_type: u8, rate: u32, every: Duration, clock: SkewedClock) -> Self {
        Self {
            source,
            payload_type,
            rate,
            clock,
            every,
            count: 0,
            number: 0,
            sequence: (source * 7_919) as u16,
            muted: false,
            history: VecDeque::new(),
        }
    }

    fn next(&self) -> Instant {
        self.clock.instant(self.every * self.count)
    }

    fn timestamp(&self, at: Instant) -> u32 {
        self.clock.timestamp(at, self.rate, self.source * 1_000_003)
    }

    fn packet(&mut self, captured: Instant, marker: bool, payload: &[u8]) -> Bytes {
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = Vec::with_capacity(12 + payload.len());
        packet.put_u8(0x80);
        packet.put_u8(u8::from(marker) << 7 | self.payload_type);
        packet.put_u16(self.sequence);
        packet.put_u32(self.timestamp(captured));
        packet.put_u32(self.source);
        packet.put_slice(payload);
        let packet = Bytes::from(packet);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((self.sequence, packet.clone()));
        packet
    }
}

impl Sender {
    /// One that begins now, with pictures so far apart.
    pub(super) fn new(
        session: u8,
        pictures: Arc<Pictures>,
        apart: Duration,
        skew: Skew,
        epoch: Instant,
        now: Instant,
    ) -> Self {
        let clock = |ppm| SkewedClock::new(ppm, now);
        let source = u32::from(session) * 100 + 1_000;
        Self {
            session,
            epoch,
            pictures,
            camera: Stream::new(source + 1, 96, 90_000, apart, clock(skew.camera)),
            microphone: Stream::new(source, 111, 48_000, FRAME, clock(skew.microphone)),
            wall: clock(skew.wall),
            key_wanted: true,
            keys: 0,
            since_key: 0,
            next_report: now + Duration::from_millis(130),
            reports: 0,
            units: Vec::new(),
        }
    }

    /// Its SDP.
    pub(super) fn offer(&self) -> String {
        let section = |media: &str, of: &Stream, format: &str, more: &str| {
            let (mid, number) = (usize::from(media == "video"), of.payload_type);
            format!(
                "m={media} 9 UDP/TLS/RTP/SAVPF {number}\r\na=mid:{mid}\r\na=sendonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
                 a=ice-ufrag:EsAw\r\na=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y\r\na=setup:actpass\r\n\
                 a=fingerprint:sha-256 {}\r\na=rtpmap:{number} {format}\r\n{more}a=ssrc:{} cname:c\r\n",
                ["AB"; 32].join(":"),
                of.source,
            )
        };
        let session = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n";
        let sound = section("audio", &self.microphone, "opus/48000/2", "");
        let more = "a=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n";
        session.to_owned() + &sound + &section("video", &self.camera, "H264/90000", more)
    }

    /// Whether a track is silent.
    pub(super) fn mute(&mut self, kind: MediaKind, muted: bool) {
        match kind {
            MediaKind::Audio => self.microphone.muted = muted,
            MediaKind::Video => {
                self.camera.muted = muted;
                self.key_wanted = true;
            }
        }
    }

    /// When it sends next.
    pub(super) fn due(&self) -> Instant {
        self.camera
            .next()
            .min(self.microphone.next())
            .min(self.next_report)
    }

    /// What it sends by now.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Datagram> {
        let mut sent = Vec::new();
        while self.camera.next() <= now {
            let captured = self.camera.next();
            self.camera.count += 1;
            if !self.camera.muted {
                self.take_picture(captured, &mut sent);
            }
        }
        while self.microphone.next() <= now {
            let captured = self.microphone.next();
            self.microphone.count += 1;
            if !self.microphone.muted {
                let stamp = self.stamp(self.microphone.number, captured);
                self.microphone.number += 1;
                // 20 ms of CELT, wide band
                let payload = [&[0b1111_1000][..], &stamp.write()].concat();
                let unit = Some(self.note(MediaKind::Audio, stamp, true));
                let data = self.microphone.packet(captured, false, &payload);
                sent.push(Datagram { data, unit });
            }
        }
        if self.next_report <= now {
            self.next_report += REPORTS;
            self.reports += 1;
            sent.extend(self.report(now).map(|data| Datagram { data, unit: None }));
        }
        sent
    }

    /// Answers what the recording says.
    pub(super) fn handle_rtcp(&mut self, mut message: Bytes) -> Vec<Datagram> {
        let mut again = Vec::new();
        for packet in rtc::rtcp::packet::unmarshal(&mut message).unwrap_or_default() {
            self.key_wanted |= packet.as_any().is::<PictureLossIndication>();
            let Some(nack) = packet.as_any().downcast_ref::<TransportLayerNack>() else {
                continue;
            };
            for number in nack.nacks.iter().flat_map(|pair| pair.packet_list()) {
                let known = self.camera.history.iter().find(|(known, _)| *known == number);
                again.extend(known.map(|(_, data)| Datagram {
                    data: data.clone(),
                    unit: None,
                }));
            }
        }
        again
    }

    /// What it says when it leaves.
    pub(super) fn goodbye(&self) -> Bytes {
        let goodbye = Goodbye {
            sources: vec![self.camera.source, self.microphone.source],
            ..Goodbye::default()
        };
        goodbye.marshal().expect("it can be written").freeze()
    }

    /// A datagram was lost on the way.
    pub(super) fn handle_lost(&mut self, datagram: Option<usize>) {
        if let Some(unit) = datagram {
            self.units[unit].whole = false;
        }
    }

    /// All that it has sent.
    pub(super) fn units(&self) -> &[Unit] {
        &self.units
    }

    fn take_picture(&mut self, captured: Instant, sent: &mut Vec<Datagram>) {
        let key = std::mem::take(&mut self.key_wanted);
        if key {
            (self.keys, self.since_key) = (self.keys + 1, 0);
        } else {
            self.since_key += 1;
        }
        let stamp = self.stamp(self.camera.number, captured);
        self.camera.number += 1;
        let unit = Some(self.note(MediaKind::Video, stamp, key));
        let payloads = self.pictures.payloads(self.keys, self.since_key, &stamp);
        for (at, payload) in payloads.iter().enumerate() {
            let data = self.camera.packet(captured, at + 1 == payloads.len(), payload);
            sent.push(Datagram { data, unit });
        }
    }

    fn stamp(&self, number: u32, captured: Instant) -> Stamp {
        Stamp {
            session: self.session,
            number,
            captured: captured.duration_since(self.epoch),
        }
    }

    fn note(&mut self, kind: MediaKind, stamp: Stamp, key: bool) -> usize {
        self.units.push(Unit {
            kind,
            stamp,
            key,
            whole: true,
        });
        self.units.len() - 1
    }

    /// A sender report (RFC 3550 §6.4.1), of both streams in turns.
    fn report(&self, now: Instant) -> Option<Bytes> {
        let stream = match self.reports % 2 {
            0 => &self.camera,
            _ => &self.microphone,
        };
        if stream.muted || stream.number == 0 {
            return None;
        }
        let reading = self.wall.reading(now).as_nanos();
        let report = SenderReport {
            ssrc: stream.source,
            ntp_time: (0xe900_0000 << 32) + ((reading << 32) / 1_000_000_000) as u64,
            rtp_time: stream.timestamp(now),
            ..SenderReport::default()
        };
        Some(report.marshal().expect("it can be written").freeze())
    }
}

/// How long a packet of sound lasts.
const FRAME: Duration = Duration::from_millis(20);
/// How far apart reports are.
const REPORTS: Duration = Duration::from_millis(500);
/// Packets that can be sent again.
const HISTORY: usize = 400;
