//! A publisher's life: POST, connect, send at the clip's pace, answer what the receiver asks for, say goodbye.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::clip::{Clip, Unit};
use super::link::{Identity, Keys, Link};
use super::stun;
use super::whip::{self, AUDIO_TYPE, Answer, Offer, VIDEO_TYPE};

/// What all publishers of a process share.
pub struct Load {
    pub identity: Identity,
    pub clip: Clip,
    /// Of a million packets so many are kept from the network, seeded: what the receiver then asks for is sent.
    pub lose_of_million: u32,
    pub totals: Totals,
    /// Turns true when media is to end; the connection lives on for `linger`.
    pub stop: watch::Receiver<bool>,
    pub linger: Duration,
}

#[derive(Default)]
pub struct Totals {
    pub connected: AtomicU64,
    pub failed: AtomicU64,
    /// RTP payload, without headers; what is sent again is not counted again.
    pub payload_bytes: AtomicU64,
    /// The most that any packet was behind its time since this was last reset, microseconds.
    pub late_micros: AtomicU64,
}

/// What became of one publisher.
#[derive(Debug, Default, Clone)]
pub struct Report {
    pub name: String,
    /// Unix time of the POST, seconds.
    pub posted: f64,
    pub answered: Duration,
    /// From the POST until the DTLS handshake was over.
    pub connected: Option<Duration>,
    pub profile: &'static str,
    pub pictures: u64,
    pub sounds: u64,
    pub packets: u64,
    pub kept_back: u64,
    pub asked_again: u64,
    pub sent_again: u64,
    pub key_requests: u64,
    pub reports: u64,
    pub congestion_reports: u64,
    pub error: Option<String>,
}

/// Where to publish.
pub struct Target {
    pub name: String,
    pub url: String,
    pub token: Option<String>,
}

pub fn unix(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Runs one publisher to its end; what goes wrong is told in the report.
pub async fn publish(load: Arc<Load>, target: Target) -> Report {
    let mut report = Report {
        name: target.name.clone(),
        ..Report::default()
    };
    if let Err(why) = run(&load, &target, &mut report).await {
        load.totals.failed.fetch_add(1, Ordering::Relaxed);
        report.error = Some(format!("{why:#}"));
    }
    report
}

async fn run(load: &Load, target: &Target, report: &mut Report) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let mut dice = Dice::new();
    let (fragment, password) = (dice.word(8), dice.word(24));
    let offer = Offer {
        address: socket.local_addr()?,
        fragment: &fragment,
        password: &password,
        fingerprint: &load.identity.fingerprint,
        audio_source: dice.number() as u32 | 1,
        video_source: dice.number() as u32 & !1,
    };
    let text = offer.text();
    report.posted = unix(SystemTime::now());
    let begun = Instant::now();
    let answer = whip::post(&target.url, target.token.as_deref(), &text).await?;
    report.answered = begun.elapsed();
    let answer = Answer::parse(&answer)?;
    socket.connect(answer.address).await?;
    let mut wire = Wire {
        socket,
        user: format!("{}:{fragment}", answer.fragment),
        their_password: answer.password.clone(),
        our_password: password.clone(),
        tie_breaker: dice.number(),
        dice,
        link: Link::new(&load.identity, answer.active)?,
        answer,
        consent: false,
        heard: Instant::now(),
    };
    let keys = tokio::time::timeout(Duration::from_secs(30), wire.connect(load))
        .await
        .context("not connected after 30 s")??;
    report.connected = Some(begun.elapsed());
    report.profile = keys.profile;
    load.totals.connected.fetch_add(1, Ordering::Relaxed);
    let sent = Media::new(load, keys, &offer, &mut wire)
        .run(&mut wire, report)
        .await;
    load.totals.connected.fetch_sub(1, Ordering::Relaxed);
    sent
}

/// Random enough for names and numbers; of no use for secrets.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        Self(RandomState::new().build_hasher().finish() | 1)
    }

    /// Xorshift64*.
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn word(&mut self, letters: usize) -> String {
        (0..letters)
            .map(|_| char::from(b'a' + (self.number() % 26) as u8))
            .collect()
    }
}

/// The socket, and ICE and DTLS on it.
struct Wire {
    socket: UdpSocket,
    user: String,
    their_password: String,
    our_password: String,
    tie_breaker: u64,
    dice: Dice,
    link: Link,
    answer: Answer,
    consent: bool,
    /// When the receiver last answered a binding request.
    heard: Instant,
}

/// How often the first binding requests go out; later ones keep consent (RFC 7675 §5.1).
const CHECK: Duration = Duration::from_millis(20);
const CONSENT: Duration = Duration::from_millis(2_500);
/// Without an answer for this long the receiver counts as gone (RFC 7675 §5.1).
const CONSENT_LOST: Duration = Duration::from_secs(30);

impl Wire {
    /// ICE, then DTLS.
    async fn connect(&mut self, load: &Load) -> Result<Keys> {
        let mut buffer = [0; 2_048];
        let mut open = false;
        loop {
            if !self.consent {
                self.check();
            } else if !open {
                open = true;
                if !self.answer.active {
                    self.link.open(&load.identity, Instant::now())?;
                }
            }
            self.link.handle_timeout(Instant::now());
            self.flush();
            let Ok(received) = tokio::time::timeout(CHECK, self.socket.recv(&mut buffer)).await else {
                continue;
            };
            // A refused port says that the receiver is not there yet.
            let Ok(length) = received else { continue };
            if let Some(keys) = self.take(load, &buffer[..length])? {
                self.flush();
                return Ok(keys);
            }
        }
    }

    fn check(&mut self) {
        let mut transaction = [0; 12];
        transaction[..8].copy_from_slice(&self.dice.number().to_be_bytes());
        transaction[8..].copy_from_slice(&self.dice.number().to_be_bytes()[..4]);
        self.send(&stun::request(
            &transaction,
            &self.user,
            &self.their_password,
            self.tie_breaker,
        ));
    }

    /// Takes STUN and DTLS (RFC 7983 §7); RTCP is not for it.
    fn take(&mut self, load: &Load, datagram: &[u8]) -> Result<Option<Keys>> {
        match datagram.first() {
            Some(0..=3) => match stun::read(datagram) {
                stun::Heard::Request(transaction) => {
                    let answer = stun::response(&transaction, self.answer.address, &self.our_password);
                    self.send(&answer);
                }
                stun::Heard::Success => {
                    self.consent = true;
                    self.heard = Instant::now();
                }
                stun::Heard::Other => {}
            },
            Some(20..=63) => return self.link.handle(&load.identity, datagram, Instant::now()),
            _ => {}
        }
        Ok(None)
    }

    fn flush(&mut self) {
        while let Some(datagram) = self.link.poll_transmit() {
            self.send(&datagram);
        }
    }

    /// A full socket drops, as a network would.
    fn send(&self, datagram: &[u8]) {
        let _ = self.socket.try_send(datagram);
    }
}

/// One RTP stream of a publisher.
struct Stream {
    source: u32,
    payload_type: u8,
    mid: u8,
    hertz: u32,
    sequence: u16,
    first_timestamp: u32,
    packets: u32,
    bytes: u32,
    /// Units sent, and where in the clip the next one lies.
    units: u64,
    next: usize,
    history: Vec<Option<Sent>>,
}

/// What is needed to send a packet again, bit by bit as it was.
#[derive(Clone, Copy)]
struct Sent {
    sequence: u16,
    unit: u32,
    piece: u16,
    timestamp: u32,
    transport_sequence: u16,
}

/// More than a second of any clip here.
const HISTORY: usize = 1_024;

struct Media<'a> {
    load: &'a Load,
    keys: Keys,
    video: Stream,
    audio: Stream,
    transport_sequence: u16,
    begun: Instant,
    key_frame: Instant,
    packet: Vec<u8>,
}

const SOUND: Duration = Duration::from_millis(20);
const REPORT: Duration = Duration::from_secs(1);
/// A second key frame within this is refused, as libwebrtc does.
const KEY_SPACING: Duration = Duration::from_millis(300);
/// The mid is told in so many packets of each stream, as libwebrtc does until it is acknowledged.
const MID_PACKETS: u32 = 100;

impl<'a> Media<'a> {
    fn new(load: &'a Load, keys: Keys, offer: &Offer<'_>, wire: &mut Wire) -> Self {
        let mut stream = |source, payload_type, mid, hertz| Stream {
            source,
            payload_type,
            mid,
            hertz,
            sequence: (wire.dice.number() & 0x3fff) as u16,
            first_timestamp: wire.dice.number() as u32,
            packets: 0,
            bytes: 0,
            units: 0,
            next: 0,
            history: vec![None; HISTORY],
        };
        let mut video = stream(offer.video_source, VIDEO_TYPE, b'1', 90_000);
        let mut audio = stream(offer.audio_source, AUDIO_TYPE, b'0', 48_000);
        // Not everybody is at the same place of the film.
        let at = wire.dice.number() as usize;
        video.next = load.clip.key_from(at % load.clip.pictures.len());
        audio.next = at % load.clip.sounds.len();
        Self {
            load,
            keys,
            video,
            audio,
            transport_sequence: 0,
            begun: Instant::now(),
            key_frame: Instant::now(),
            packet: Vec::with_capacity(1_500),
        }
    }

    async fn run(mut self, wire: &mut Wire, report: &mut Report) -> Result<()> {
        let mut buffer = [0; 2_048];
        let mut stop = self.load.stop.clone();
        let picture = Duration::from_secs(1) / self.load.clip.rate;
        let (mut report_due, mut consent_due) =
            (self.begun + Duration::from_millis(100), self.begun + CONSENT);
        let mut ending: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if ending.is_none() && *stop.borrow_and_update() {
                ending = Some(now + self.load.linger);
            }
            let video_due = self.begun + picture * self.video.units as u32;
            let audio_due = self.begun + SOUND * self.audio.units as u32;
            if ending.is_none() {
                if video_due <= now {
                    self.note_late(now - video_due);
                    self.send_unit(wire, true, report);
                    continue;
                }
                if audio_due <= now {
                    self.note_late(now - audio_due);
                    self.send_unit(wire, false, report);
                    continue;
                }
            }
            if report_due <= now {
                report_due += REPORT;
                self.send_reports(wire);
            }
            if consent_due <= now {
                consent_due += CONSENT;
                wire.check();
                if now - wire.heard > CONSENT_LOST {
                    bail!("the receiver gave no sign of life for {CONSENT_LOST:?}");
                }
            }
            if ending.is_some_and(|ending| ending <= now) {
                self.say_goodbye(wire);
                return Ok(());
            }
            let media_due = ending.unwrap_or(video_due.min(audio_due));
            let due = media_due.min(report_due).min(consent_due);
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                changed = stop.changed(), if ending.is_none() => changed?,
                ready = wire.socket.readable() => ready?,
            }
            // A dozen at most, so that a chatty receiver does not stop the film.
            for _ in 0..12 {
                match wire.socket.try_recv(&mut buffer) {
                    Ok(length) if matches!(buffer[0], 128..=191) => {
                        self.take_rtcp(wire, &buffer[..length], report)
                    }
                    Ok(length) => {
                        wire.take(self.load, &buffer[..length])?;
                        wire.flush();
                    }
                    Err(_) => break,
                }
            }
        }
    }

    fn note_late(&self, late: Duration) {
        self.load
            .totals
            .late_micros
            .fetch_max(late.as_micros() as u64, Ordering::Relaxed);
    }

    fn send_unit(&mut self, wire: &Wire, is_video: bool, report: &mut Report) {
        let load = self.load;
        let (stream, units) = match is_video {
            true => (&mut self.video, &load.clip.pictures),
            false => (&mut self.audio, &load.clip.sounds),
        };
        let (at, ticks) = match is_video {
            true => (stream.next, stream.units * 90_000 / u64::from(load.clip.rate)),
            false => (stream.next, stream.units * 960),
        };
        let unit: &Unit = &units[at];
        stream.next = (at + 1) % units.len();
        stream.units += 1;
        let timestamp = stream.first_timestamp.wrapping_add(ticks as u32);
        let mut bytes = 0;
        for piece in 0..unit.payloads.len() {
            let stream = if is_video {
                &mut self.video
            } else {
                &mut self.audio
            };
            let sent = Sent {
                sequence: stream.sequence,
                unit: at as u32,
                piece: piece as u16,
                timestamp,
                transport_sequence: self.transport_sequence,
            };
            stream.sequence = stream.sequence.wrapping_add(1);
            self.transport_sequence = self.transport_sequence.wrapping_add(1);
            stream.history[usize::from(sent.sequence) % HISTORY] = Some(sent);
            bytes += unit.payloads[piece].len();
            stream.packets += 1;
            stream.bytes = stream.bytes.wrapping_add(unit.payloads[piece].len() as u32);
            report.packets += 1;
            if load.lose_of_million > 0 && lost(stream.source, sent.sequence, load.lose_of_million) {
                report.kept_back += 1;
                continue;
            }
            self.send_packet(wire, is_video, sent);
        }
        load.totals
            .payload_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        *(if is_video {
            &mut report.pictures
        } else {
            &mut report.sounds
        }) += 1;
    }

    /// RFC 3550 §5.1, with the extensions of RFC 8285 §4.2 that the answer took.
    fn send_packet(&mut self, wire: &Wire, is_video: bool, sent: Sent) {
        let (stream, units) = match is_video {
            true => (&self.video, &self.load.clip.pictures),
            false => (&self.audio, &self.load.clip.sounds),
        };
        let unit = &units[sent.unit as usize];
        let is_last = usize::from(sent.piece) + 1 == unit.payloads.len();
        let packet = &mut self.packet;
        packet.clear();
        packet.push(0x80);
        packet.push(stream.payload_type | if is_last && is_video { 0x80 } else { 0 });
        packet.extend(sent.sequence.to_be_bytes());
        packet.extend(sent.timestamp.to_be_bytes());
        packet.extend(stream.source.to_be_bytes());
        let mid = wire.answer.mid.filter(|_| stream.packets <= MID_PACKETS);
        if mid.is_some() || wire.answer.transport_cc.is_some() {
            packet[0] |= 0x10;
            packet.extend([0xbe, 0xde, 0, 0]);
            let start = packet.len();
            if let Some(id) = mid {
                packet.extend([id << 4, stream.mid]);
            }
            if let Some(id) = wire.answer.transport_cc {
                packet.push(id << 4 | 1);
                packet.extend(sent.transport_sequence.to_be_bytes());
            }
            while (packet.len() - start) % 4 != 0 {
                packet.push(0);
            }
            let words = ((packet.len() - start) / 4) as u16;
            packet[start - 2..start].copy_from_slice(&words.to_be_bytes());
        }
        packet.extend(&unit.payloads[usize::from(sent.piece)]);
        if let Ok(protected) = self.keys.send.encrypt_rtp(packet) {
            wire.send(&protected);
        }
    }

    /// A sender report of each stream, and its name (RFC 3550 §6.4.1, §6.5.1).
    fn send_reports(&mut self, wire: &Wire) {
        let since_1900 = unix(SystemTime::now()) + 2_208_988_800.0;
        let ntp = (since_1900 * 65_536.0) as u64;
        let elapsed = self.begun.elapsed().as_secs_f64();
        for stream in [&self.video, &self.audio] {
            let mut report = vec![0x80, 200, 0, 6];
            report.extend(stream.source.to_be_bytes());
            report.extend((ntp << 16).to_be_bytes());
            let ticks = (elapsed * f64::from(stream.hertz)) as u64 as u32;
            report.extend(stream.first_timestamp.wrapping_add(ticks).to_be_bytes());
            report.extend(stream.packets.to_be_bytes());
            report.extend(stream.bytes.to_be_bytes());
            report.extend([0x81, 202, 0, 3]);
            report.extend(stream.source.to_be_bytes());
            report.extend([1, 4, b'l', b'o', b'a', b'd', 0, 0]);
            let words = (report.len() - 28) / 4 - 1;
            report[31] = words as u8;
            if let Ok(protected) = self.keys.send.encrypt_rtcp(&report) {
                wire.send(&protected);
            }
        }
    }

    fn take_rtcp(&mut self, wire: &Wire, datagram: &[u8], report: &mut Report) {
        let Ok(plain) = self.keys.receive.decrypt_rtcp(datagram) else {
            return;
        };
        let mut rest = &plain[..];
        while let [first, kind, high, low, ..] = *rest {
            let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
            if rest.len() < length {
                return;
            }
            let (packet, after) = rest.split_at(length);
            rest = after;
            match (kind, first & 0x1f) {
                (205, 1) => self.send_again(wire, packet, report),
                (205, 15) => report.congestion_reports += 1,
                (206, 1 | 4) => {
                    report.key_requests += 1;
                    if self.key_frame.elapsed() >= KEY_SPACING {
                        self.key_frame = Instant::now();
                        self.video.next = self.load.clip.key_from(self.video.next);
                    }
                }
                (200 | 201, _) => report.reports += 1,
                _ => {}
            }
        }
    }

    /// RFC 4585 §6.2.1, answered with the packet itself.
    fn send_again(&mut self, wire: &Wire, packet: &[u8], report: &mut Report) {
        let Some(source) = packet.get(8..12) else { return };
        let is_video = source == self.video.source.to_be_bytes();
        for item in packet[12..].chunks_exact(4) {
            let first = u16::from_be_bytes([item[0], item[1]]);
            let mask = u16::from_be_bytes([item[2], item[3]]);
            for offset in (0..17).filter(|offset| *offset == 0 || mask >> (offset - 1) & 1 == 1) {
                report.asked_again += 1;
                let sequence = first.wrapping_add(offset);
                let stream = if is_video { &self.video } else { &self.audio };
                let known = stream.history[usize::from(sequence) % HISTORY];
                if let Some(sent) = known.filter(|sent| sent.sequence == sequence) {
                    report.sent_again += 1;
                    self.send_packet(wire, is_video, sent);
                }
            }
        }
    }

    /// RFC 3550 §6.6, and the end of the DTLS association.
    fn say_goodbye(&mut self, wire: &mut Wire) {
        let mut goodbye = vec![0x80, 201, 0, 1];
        goodbye.extend(self.video.source.to_be_bytes());
        goodbye.extend([0x82, 203, 0, 2]);
        goodbye.extend(self.video.source.to_be_bytes());
        goodbye.extend(self.audio.source.to_be_bytes());
        if let Ok(protected) = self.keys.send.encrypt_rtcp(&goodbye) {
            wire.send(&protected);
        }
        wire.link.close(Instant::now());
        wire.flush();
    }
}

/// The same packets are kept back from every receiver's publishers where source and sequence are equal.
fn lost(source: u32, sequence: u16, of_million: u32) -> bool {
    let mut hash = u64::from(source) << 16 | u64::from(sequence);
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((hash ^ hash >> 31) % 1_000_000) < u64::from(of_million)
}

/// A line `NAME URL [TOKEN]`.
pub fn parse_target(line: &str) -> Option<Target> {
    let mut words = line.split_whitespace();
    Some(Target {
        name: words.next()?.to_owned(),
        url: words.next()?.to_owned(),
        token: words.next().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn an_answer_is_read() {
        let text = "v=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:secret\r\na=setup:passive\r\na=extmap:3 \
                    http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
                    a=candidate:1 1 udp 1 10.0.0.9 9999 typ host\r\na=candidate:2 1 UDP 1 127.0.0.1 8189 typ host\r\n";
        let answer = Answer::parse(text).unwrap();
        assert_eq!(answer.address, SocketAddr::from(([127, 0, 0, 1], 8189)));
        assert_eq!(
            (answer.transport_cc, answer.mid, answer.active),
            (Some(3), None, false)
        );
    }
}
