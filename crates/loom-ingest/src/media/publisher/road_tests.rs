//! Whole publishers over bad roads, in virtual time: what is sent against what comes out.

use std::collections::{HashMap, VecDeque};

use bytes::{BufMut, Bytes};
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::rbsp::{BitReader, decode_nal};
use loom_testkit::{BurstLoss, Link, LinkConfig, SkewedClock};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

use super::*;
use crate::media::{Arrival, Feedback, FeedbackConfig, FeedbackOutput, RtpCodec, RtpFormat};

const VIDEO: u32 = 10;
const AUDIO: u32 = 20;
/// Pictures a second.
const RATE: u64 = 30;
const PAYLOAD: usize = 1_150;
/// Packets of each source that the sender can send again.
const HISTORY: usize = 1_200;

/// 640×360, High, level 3.0, as x264 wrote it.
const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
    0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96,
];
const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];

#[derive(Debug, Clone)]
struct Road {
    length: Duration,
    forward: LinkConfig,
    back: LinkConfig,
    /// How much faster than ours the sender's clocks run, in parts in a million: camera, microphone, wall clock.
    skew: [f64; 3],
    /// Bytes of a picture that is no key frame, on average.
    picture: usize,
    /// Whether the sender sends reports.
    reports: bool,
    /// When the sender's time stamps begin anew at another number: of video, of audio.
    resets: [Vec<Duration>; 2],
}

impl Road {
    fn clean(seed: u64, length: Duration) -> Self {
        let link = LinkConfig {
            seed,
            delay: Duration::from_millis(20),
            ..LinkConfig::default()
        };
        Self {
            length,
            forward: link,
            back: LinkConfig {
                seed: seed + 1,
                ..link
            },
            skew: [0.0; 3],
            picture: 6_000,
            reports: true,
            resets: [Vec::new(), Vec::new()],
        }
    }

    /// 5 % of random loss and 2 % in bursts, 60 ms of jitter, 1 % doubled and 1 % held back; both ways.
    fn bad(seed: u64, length: Duration) -> Self {
        let mut road = Self::clean(seed, length);
        for link in [&mut road.forward, &mut road.back] {
            link.loss = 0.05;
            link.burst = BurstLoss {
                share: 0.02,
                mean_length: 4.0,
            };
            link.jitter = Duration::from_millis(60);
            link.duplication = 0.01;
            link.reordering = 0.01;
        }
        road
    }

    /// A bad road for pictures of two packets.
    fn thin(seed: u64, length: Duration, skew: [f64; 3]) -> Self {
        Self {
            picture: 1_500,
            skew,
            ..Self::bad(seed, length)
        }
    }

    fn travel(self) -> Outcome {
        Journey::new(self).run()
    }
}

/// What went over the road.
#[derive(Debug, Clone)]
enum Datagram {
    Rtp {
        packet: RtpPacket,
        transport: u16,
    },
    Report {
        source: u32,
        ntp: NtpTime,
        timestamp: u32,
    },
}

struct SentUnit {
    captured: Instant,
    data: Bytes,
}

/// One stream of a sender.
struct Stream {
    source: u32,
    payload_type: u8,
    rate: u32,
    clock: SkewedClock,
    first: u32,
    resets: VecDeque<Duration>,
    sequence: u16,
    /// What can be sent again, and when it last was.
    history: VecDeque<(RtpPacket, Option<Instant>)>,
    sent: Vec<SentUnit>,
}

impl Stream {
    fn packet(&mut self, timestamp: u32, marker: bool, payload: Vec<u8>, now: Instant) -> RtpPacket {
        self.sequence = self.sequence.wrapping_add(1);
        let packet = RtpPacket {
            source: self.source,
            payload_type: self.payload_type,
            sequence: self.sequence,
            timestamp,
            marker,
            payload: payload.into(),
            arrived: now,
            mid: None,
            rid: None,
        };
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((packet.clone(), None));
        packet
    }
}

struct Sender {
    start: Instant,
    video: Stream,
    audio: Stream,
    wall: SkewedClock,
    frame_num: u32,
    frame_num_bits: u32,
    key_wanted: bool,
    key_frames: usize,
    picture: usize,
    reports: bool,
    /// How long a request and its answer take on average.
    round_trip: Duration,
    /// Paced: what goes out, and when.
    outgoing: VecDeque<(Instant, RtpPacket)>,
    transport: u16,
    reported: u64,
}

/// Writes bits, the first the highest.
fn bits(fields: &[(u32, u32)]) -> Vec<u8> {
    let text: String = fields
        .iter()
        .flat_map(|(value, count)| (0..*count).rev().map(move |bit| value >> bit & 1))
        .map(|bit| if bit == 1 { '1' } else { '0' })
        .chain("1".chars())
        .collect();
    text.as_bytes()
        .chunks(8)
        .map(|byte| {
            byte.iter()
                .enumerate()
                .fold(0u8, |all, (at, bit)| all | (bit - b'0') << (7 - at))
        })
        .collect()
}

/// Bytes that name `id` and depend on nothing else; none is zero.
fn body(id: usize, len: usize) -> Vec<u8> {
    let mut state = id as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let name = (0..16).map(|nibble| 0x40 | (id >> (60 - 4 * nibble) & 0xf) as u8);
    let fill = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u8 | 1
    });
    name.chain(fill).take(len.max(16)).collect()
}

fn named(body: &[u8]) -> usize {
    body[..16]
        .iter()
        .fold(0, |id, byte| id << 4 | usize::from(byte & 0xf))
}

impl Sender {
    fn new(road: &Road, start: Instant) -> Self {
        let rbsp = decode_nal(SPS).expect("the SPS has no illegal bytes");
        let sps = SeqParameterSet::from_bits(BitReader::new(&rbsp[..])).expect("it is an SPS");
        let stream = |source, payload_type, rate, ppm, first, resets: &[Duration]| Stream {
            source,
            payload_type,
            rate,
            clock: SkewedClock::new(ppm, start),
            first,
            resets: resets.iter().copied().collect(),
            sequence: 65_000,
            history: VecDeque::new(),
            sent: Vec::new(),
        };
        Self {
            start,
            video: stream(VIDEO, 96, 90_000, road.skew[0], 0xfff0_0000, &road.resets[0]),
            audio: stream(AUDIO, 111, 48_000, road.skew[1], 0x1234_0000, &road.resets[1]),
            wall: SkewedClock::new(road.skew[2], start),
            frame_num: 0,
            frame_num_bits: u32::from(sps.log2_max_frame_num_minus4) + 4,
            key_wanted: true,
            key_frames: 0,
            picture: road.picture,
            reports: road.reports,
            round_trip: [road.forward, road.back]
                .iter()
                .map(|link| link.delay + link.jitter / 2)
                .sum(),
            outgoing: VecDeque::new(),
            transport: 0,
            reported: 0,
        }
    }

    fn next_picture(&self) -> Instant {
        let reading = Duration::from_nanos(self.video.sent.len() as u64 * 1_000_000_000 / RATE);
        self.video.clock.instant(reading)
    }

    fn next_sound(&self) -> Instant {
        self.audio
            .clock
            .instant(Duration::from_millis(20 * self.audio.sent.len() as u64))
    }

    fn next_report(&self) -> Instant {
        self.start + Duration::from_millis(500 * self.reported + 130)
    }

    fn due(&self) -> Instant {
        let outgoing = self.outgoing.front().map(|(at, _)| *at);
        [self.next_picture(), self.next_sound(), self.next_report()]
            .into_iter()
            .chain(outgoing)
            .min()
            .expect("there is always a next picture")
    }

    fn handle_timeout(&mut self, now: Instant) -> Vec<Datagram> {
        for stream in [&mut self.video, &mut self.audio] {
            if stream.resets.front().is_some_and(|at| self.start + *at <= now) {
                stream.resets.pop_front();
                stream.first = stream.first.wrapping_sub(stream.rate * 5_000 + 12_345);
            }
        }
        if self.next_picture() <= now {
            self.encode(now);
        }
        let mut datagrams = Vec::new();
        if self.next_sound() <= now {
            let captured = self.next_sound();
            let timestamp = self.audio.clock.timestamp(captured, 48_000, self.audio.first);
            // 20 ms of CELT, wide band
            let data = [&[0b1111_1000][..], &body(self.audio.sent.len(), 120)].concat();
            let packet = self.audio.packet(timestamp, false, data.clone(), now);
            self.audio.sent.push(SentUnit {
                captured,
                data: data.into(),
            });
            datagrams.push(self.wrap(packet));
        }
        while let Some((_, packet)) = self.outgoing.pop_front_if(|(at, _)| *at <= now) {
            datagrams.push(self.wrap(packet));
        }
        if self.next_report() <= now {
            // in turns: each source once a second
            let stream = if self.reported.is_multiple_of(2) {
                &self.video
            } else {
                &self.audio
            };
            let reading = self.wall.reading(now).as_nanos();
            let ntp = NtpTime((0xe900_0000 << 32) + ((reading << 32) / 1_000_000_000) as u64);
            let timestamp = stream.clock.timestamp(now, stream.rate, stream.first);
            let source = stream.source;
            datagrams.extend(self.reports.then_some(Datagram::Report {
                source,
                ntp,
                timestamp,
            }));
            self.reported += 1;
        }
        datagrams
    }

    fn wrap(&mut self, packet: RtpPacket) -> Datagram {
        self.transport = self.transport.wrapping_add(1);
        Datagram::Rtp {
            packet,
            transport: self.transport,
        }
    }

    fn encode(&mut self, now: Instant) {
        let captured = self.next_picture();
        let timestamp = self.video.clock.timestamp(captured, 90_000, self.video.first);
        let id = self.video.sent.len();
        let key = std::mem::take(&mut self.key_wanted);
        self.frame_num = if key {
            0
        } else {
            (self.frame_num + 1) % (1 << self.frame_num_bits)
        };
        self.key_frames += usize::from(key);
        // first_mb_in_slice 0, slice_type I or P, pic_parameter_set_id 0, frame_num
        let slice_type = if key { (0b000_1000, 7) } else { (0b00110, 5) };
        let head = bits(&[(1, 1), slice_type, (1, 1), (self.frame_num, self.frame_num_bits)]);
        let len = if key {
            self.picture * 6
        } else {
            self.picture / 2 + id * 7_919 % self.picture
        };
        let mut nal = vec![if key { 0x65 } else { 0x41 }];
        nal.extend(head);
        nal.extend(body(id, len));
        let mut payloads = VecDeque::new();
        if key {
            let mut sets = vec![0x78];
            for set in [SPS, PPS] {
                sets.put_u16(set.len() as u16);
                sets.put_slice(set);
            }
            payloads.push_back(sets);
        }
        let fragments = nal[1..].chunks(PAYLOAD);
        let last = fragments.len() - 1;
        if last == 0 {
            payloads.push_back(nal.clone());
        } else {
            payloads.extend(fragments.enumerate().map(|(at, fragment)| {
                let edge = if at == 0 { 0x80 } else { 0 } | if at == last { 0x40 } else { 0 };
                [&[nal[0] & 0xe0 | 28, edge | nal[0] & 0x1f], fragment].concat()
            }));
        }
        let count = payloads.len();
        let mut at = self.outgoing.back().map_or(now, |(at, _)| (*at).max(now));
        for (place, payload) in payloads.into_iter().enumerate() {
            let packet = self.video.packet(timestamp, place + 1 == count, payload, now);
            self.outgoing.push_back((at, packet));
            at += Duration::from_micros(700);
        }
        let mut data = Vec::new();
        data.put_u32(nal.len() as u32);
        data.extend(nal);
        self.video.sent.push(SentUnit {
            captured,
            data: data.into(),
        });
    }

    /// Answers what the receiver says.
    fn handle_rtcp(&mut self, mut message: Bytes, now: Instant) -> Vec<Datagram> {
        let mut datagrams = Vec::new();
        for packet in rtc::rtcp::packet::unmarshal(&mut message).expect("a foreign parser reads it") {
            if packet.as_any().is::<PictureLossIndication>() {
                self.key_wanted = true;
            }
            let Some(nack) = packet.as_any().downcast_ref::<TransportLayerNack>() else {
                continue;
            };
            for number in nack.nacks.iter().flat_map(|pair| pair.packet_list()) {
                let stream = if nack.media_ssrc == VIDEO {
                    &mut self.video
                } else {
                    &mut self.audio
                };
                let round_trip = self.round_trip;
                let known = stream.history.iter_mut().rev();
                let known = known.filter(|(packet, _)| packet.sequence == number);
                // as libwebrtc does, it answers no request for what it may just have sent again
                let mut due = known.filter(|(_, again)| again.is_none_or(|at| now >= at + round_trip));
                if let Some((packet, again)) = due.next() {
                    *again = Some(now);
                    let packet = packet.clone();
                    datagrams.push(self.wrap(packet));
                }
            }
        }
        datagrams
    }
}

/// What came out of a journey.
#[derive(Debug, Default)]
struct Outcome {
    pictures_sent: usize,
    pictures: usize,
    sounds_sent: usize,
    sounds: usize,
    key_frames: usize,
    gaps: usize,
    /// Media packets of the first sending that were lost.
    lost: usize,
    /// Those sent again that were lost.
    lost_again: usize,
    requests: usize,
    messages: usize,
    /// Sound against picture, in milliseconds, for each picture; sorted.
    offsets: Vec<f64>,
    /// How far, in milliseconds, media time has moved from the time of capture since the tenth second: of video, of
    /// audio.
    drifts: [f64; 2],
    /// The largest difference, in milliseconds, of the step between two neighbours from that of their capture.
    steps: [f64; 2],
    /// How long, in milliseconds, the media that came out was held after its capture: of video, sorted.
    held: Vec<f64>,
}

impl Outcome {
    fn offset(&self, share: f64) -> f64 {
        self.offsets[((self.offsets.len() - 1) as f64 * share) as usize]
    }

    fn print(&self, name: &str) {
        let held = |share: f64| self.held[((self.held.len() - 1) as f64 * share) as usize];
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        println!(
            "{name}: pictures {}/{} ({:.2} %), sounds {}/{} ({:.2} %), key frames {}, gaps {}",
            self.pictures,
            self.pictures_sent,
            100.0 * share(self.pictures, self.pictures_sent),
            self.sounds,
            self.sounds_sent,
            100.0 * share(self.sounds, self.sounds_sent),
            self.key_frames,
            self.gaps,
        );
        println!(
            "{name}: lost {} and {} sent again, requests {} ({:.3} of the first, {:.3} of all), RTCP messages {}",
            self.lost,
            self.lost_again,
            self.requests,
            share(self.requests, self.lost),
            share(self.requests, self.lost + self.lost_again),
            self.messages,
        );
        println!(
            "{name}: A/V offset p50 {:.2} p99 {:.2} max {:.2} ms, drift {:.2} and {:.2} ms, steps {:.2} and {:.2} ms, held p50 {:.0} p99 {:.0} max {:.0} ms",
            self.offset(0.5),
            self.offset(0.99),
            self.offset(1.0),
            self.drifts[0],
            self.drifts[1],
            self.steps[0],
            self.steps[1],
            held(0.5),
            held(0.99),
            held(1.0),
        );
    }
}

struct Journey {
    road: Road,
    now: Instant,
    start: Instant,
    sender: Sender,
    forward: Link<Datagram>,
    back: Link<Bytes>,
    publisher: Publisher,
    feedback: Feedback,
    outcome: Outcome,
    /// The last unit that came out, and its offset: of video, of audio.
    last: [Option<(usize, MediaTime)>; 2],
    sound_offset: Option<f64>,
    /// The offsets from the time of capture in the tenth second: of video, of audio.
    settled: [Option<f64>; 2],
    codecs: HashMap<TrackId, MediaKind>,
}

impl Journey {
    fn new(road: Road) -> Self {
        let now = Instant::now();
        let section = |kind, payload_type, codec, source: u32| RtpSection {
            kind,
            mid: source.to_string(),
            formats: vec![RtpFormat {
                payload_type,
                codec,
                parameters: String::new(),
            }],
            sources: vec![source],
            layers: Vec::new(),
            stream: None,
        };
        let config = PublisherConfig {
            sections: vec![
                section(MediaKind::Video, 96, RtpCodec::H264, VIDEO),
                section(MediaKind::Audio, 111, RtpCodec::Opus, AUDIO),
            ],
            reorder: ReordererConfig::default(),
            key_frame_spacing: Duration::from_millis(300),
        };
        let feedback = FeedbackConfig {
            retransmitted: vec![96, 111],
            transport_cc: true,
            reorder_wait: config.reorder.wait,
            ..FeedbackConfig::default()
        };
        Self {
            now,
            start: now,
            sender: Sender::new(&road, now),
            forward: Link::new(road.forward),
            back: Link::new(road.back),
            publisher: Publisher::new(config),
            feedback: Feedback::new(feedback, now),
            road,
            outcome: Outcome::default(),
            last: [None; 2],
            sound_offset: None,
            settled: [None; 2],
            codecs: HashMap::new(),
        }
    }

    fn run(mut self) -> Outcome {
        let end = self.start + self.road.length;
        loop {
            let heard = self.drain();
            let next = [
                Some(self.sender.due()),
                self.forward.poll_timeout(),
                self.back.poll_timeout(),
            ]
            .into_iter()
            .chain(heard)
            .flatten()
            .min()
            .expect("the sender goes on");
            assert!(next >= self.now, "a timeout that has passed would spin");
            if next > end {
                break;
            }
            self.now = next;
            let datagrams = if self.sender.due() <= self.now {
                self.sender.handle_timeout(self.now)
            } else {
                Vec::new()
            };
            self.send(datagrams, false);
            while let Some(delivery) = self.back.poll_delivery(self.now) {
                let answers = self.sender.handle_rtcp(delivery.item, self.now);
                self.send(answers, true);
            }
            while let Some(delivery) = self.forward.poll_delivery(self.now) {
                self.arrive(delivery.item);
            }
            self.publisher.handle_timeout(self.now);
            self.feedback.handle_timeout(self.now);
        }
        self.publisher.finish(self.now);
        self.drain();
        let outcome = &mut self.outcome;
        outcome.pictures_sent = self.sender.video.sent.len();
        outcome.sounds_sent = self.sender.audio.sent.len();
        outcome.key_frames = self.sender.key_frames;
        outcome.offsets.sort_by(f64::total_cmp);
        outcome.held.sort_by(f64::total_cmp);
        self.outcome
    }

    fn send(&mut self, datagrams: Vec<Datagram>, again: bool) {
        for datagram in datagrams {
            let media = matches!(datagram, Datagram::Rtp { .. });
            let bytes = match &datagram {
                Datagram::Rtp { packet, .. } => packet.payload.len() + 60,
                Datagram::Report { .. } => 80,
            };
            let arrives = self.forward.handle_datagram(datagram, bytes, self.now).arrives();
            self.outcome.lost += usize::from(media && !again && !arrives);
            self.outcome.lost_again += usize::from(media && again && !arrives);
        }
    }

    fn arrive(&mut self, datagram: Datagram) {
        match datagram {
            Datagram::Rtp {
                mut packet,
                transport,
            } => {
                let is_video = packet.source == VIDEO;
                let arrival = Arrival {
                    source: packet.source,
                    sequence: packet.sequence,
                    timestamp: packet.timestamp,
                    payload_type: packet.payload_type,
                    scale: if is_video {
                        Timescale::VIDEO
                    } else {
                        Timescale::OPUS
                    },
                    transport_sequence: Some(transport),
                    is_repair: false,
                };
                self.feedback.handle_rtp(&arrival, self.now);
                packet.arrived = self.now;
                self.publisher.handle_packet(packet, self.now);
            }
            Datagram::Report {
                source,
                ntp,
                timestamp,
            } => {
                self.publisher.handle_report(source, ntp, timestamp);
                self.feedback.handle_sender_report(source, ntp, self.now);
            }
        }
    }

    /// Takes all outputs; gives the next timeouts.
    fn drain(&mut self) -> [Option<Instant>; 2] {
        let publisher = loop {
            match self.publisher.poll_output() {
                Some(PublisherOutput::Media(media)) => self.check(media),
                Some(PublisherOutput::RequestKeyFrame { source }) => {
                    self.feedback.request_key_frame(source);
                }
                Some(PublisherOutput::NothingMissing { source, before }) => {
                    self.feedback.forget(source, before);
                }
                Some(PublisherOutput::Paused(_) | PublisherOutput::Resumed(_)) => {}
                Some(PublisherOutput::Timeout(at)) => break Some(at.max(self.now)),
                None => break None,
            }
        };
        let feedback = loop {
            match self.feedback.poll_output() {
                Some(FeedbackOutput::Rtcp(message)) => {
                    let mut parsed = message.clone();
                    let packets = rtc::rtcp::packet::unmarshal(&mut parsed).expect("it is RTCP");
                    let nacks = packets
                        .iter()
                        .filter_map(|it| it.as_any().downcast_ref::<TransportLayerNack>());
                    let pairs = nacks.flat_map(|nack| nack.nacks.iter());
                    self.outcome.requests += pairs.map(|pair| pair.packet_list().len()).sum::<usize>();
                    self.outcome.messages += 1;
                    let bytes = message.len() + 50;
                    self.back.handle_datagram(message, bytes, self.now);
                }
                Some(FeedbackOutput::Timeout(at)) => break Some(at.max(self.now)),
                None => break None,
            }
        };
        [publisher, feedback]
    }

    fn check(&mut self, media: Media) {
        let packet = match media {
            Media::Packet(packet) => packet,
            Media::Format(format) => {
                let kind = match format.codec {
                    CodecParameters::Video(_) => MediaKind::Video,
                    CodecParameters::Audio(_) => MediaKind::Audio,
                };
                self.codecs.insert(format.track, kind);
                return;
            }
            Media::Gap(gap) => {
                assert!(gap.to > gap.from);
                self.outcome.gaps += 1;
                return;
            }
            Media::End(_) => return,
        };
        let is_video = self.codecs[&packet.track] == MediaKind::Video;
        let (at, stream) = if is_video {
            (0, &self.sender.video)
        } else {
            (1, &self.sender.audio)
        };
        let head = if is_video {
            4 + 1
                + bits(&[
                    (1, 1),
                    (1, 5 + 2 * u32::from(packet.key)),
                    (1, 1),
                    (0, self.sender.frame_num_bits),
                ])
                .len()
        } else {
            1
        };
        let id = named(&packet.data[head..]);
        let sent = &stream.sent[id];
        assert_eq!(packet.data, sent.data, "unit {id} came out as it was sent");
        let captured = sent.captured;
        let offset =
            packet.pts.nanos() as f64 / 1e6 - captured.duration_since(self.start).as_nanos() as f64 / 1e6;
        if let Some((last, pts)) = self.last[at] {
            assert!(
                id > last && packet.pts > pts,
                "unit {id} at {:?} after {last} at {pts:?}",
                packet.pts
            );
            assert!(
                !is_video || packet.key || id == last + 1,
                "picture {id} refers to one that is missing"
            );
            let step = packet.pts.signed_since(pts) as f64 / 1e6
                - captured.duration_since(stream.sent[last].captured).as_nanos() as f64 / 1e6;
            self.outcome.steps[at] = self.outcome.steps[at].max(step.abs());
        } else {
            assert!(packet.key, "the first unit is a key frame");
        }
        self.last[at] = Some((id, packet.pts));
        if captured.duration_since(self.start) >= Duration::from_secs(10) {
            self.outcome.drifts[at] = offset - *self.settled[at].get_or_insert(offset);
        }
        if is_video {
            self.outcome.pictures += 1;
            self.outcome
                .offsets
                .extend(self.sound_offset.map(|sound| (offset - sound).abs()));
            let held = self.now.duration_since(captured).as_nanos() as f64 / 1e6;
            self.outcome.held.push(held);
        } else {
            self.outcome.sounds += 1;
            self.sound_offset = Some(offset);
        }
    }
}

#[test]
fn over_a_clean_road_everything_arrives_and_nothing_is_asked_for() {
    let outcome = Road::clean(1, Duration::from_secs(60)).travel();
    outcome.print("clean");
    assert_eq!(outcome.requests, 0);
    assert!(outcome.pictures + 2 >= outcome.pictures_sent && outcome.sounds + 2 >= outcome.sounds_sent);
    assert_eq!((outcome.gaps, outcome.key_frames), (0, 2));
    assert!(outcome.offset(1.0) <= 20.0);
}

#[test]
fn over_a_bad_road_98_of_100_pictures_arrive_in_step_for_three_requests_of_two_lost_packets() {
    for seed in [1, 2] {
        let outcome = Road::bad(seed, Duration::from_secs(600)).travel();
        outcome.print(&format!("bad road, seed {seed}"));
        assert!(
            outcome.pictures * 100 >= outcome.pictures_sent * 98,
            "seed {seed}"
        );
        assert!(outcome.sounds * 100 >= outcome.sounds_sent * 98, "seed {seed}");
        assert!(outcome.offset(0.99) <= 50.0, "seed {seed}");
        assert!(outcome.requests * 2 <= outcome.lost * 3, "seed {seed}");
    }
}

#[test]
fn clocks_that_are_200_parts_in_a_million_apart_stay_in_step_for_an_hour() {
    for (seed, minutes, skew) in [(11, 60, [200.0, -200.0, 0.0]), (12, 5, [-200.0, 200.0, -200.0])] {
        let outcome = Road::thin(seed, Duration::from_secs(60 * minutes), skew).travel();
        outcome.print(&format!("{minutes} minutes, skew {skew:?}"));
        assert!(outcome.offset(0.99) <= 50.0, "skew {skew:?}");
        assert!(
            (outcome.drifts[0] - outcome.drifts[1]).abs() <= 50.0,
            "skew {skew:?}"
        );
        assert!(outcome.steps.iter().all(|step| *step <= 20.0), "skew {skew:?}");
    }
}

#[test]
fn skewed_clocks_stay_in_step_without_reports() {
    let mut road = Road::thin(13, Duration::from_secs(900), [200.0, -200.0, 0.0]);
    road.reports = false;
    let outcome = road.travel();
    outcome.print("15 minutes without reports");
    assert!(outcome.offset(0.99) <= 50.0);
    assert!(outcome.drifts.iter().all(|drift| drift.abs() <= 50.0));
    assert!(outcome.steps.iter().all(|step| *step <= 20.0));
}

#[test]
fn a_sender_whose_time_stamps_begin_anew_goes_on_where_it_was() {
    for seed in [21, 22] {
        let mut road = Road::thin(seed, Duration::from_secs(120), [50.0, -50.0, 0.0]);
        let at = |seconds: &[u64]| seconds.iter().copied().map(Duration::from_secs).collect();
        road.resets = [at(&[20, 60, 61, 90]), at(&[40, 60, 100])];
        let outcome = road.travel();
        outcome.print(&format!("resets, seed {seed}"));
        assert!(
            outcome.pictures * 100 >= outcome.pictures_sent * 98,
            "seed {seed}"
        );
        assert!(outcome.offset(0.99) <= 100.0, "seed {seed}");
        assert!(
            (outcome.drifts[0] - outcome.drifts[1]).abs() <= 20.0,
            "seed {seed}"
        );
        assert!(outcome.steps.iter().all(|step| *step <= 250.0), "seed {seed}");
    }
}
