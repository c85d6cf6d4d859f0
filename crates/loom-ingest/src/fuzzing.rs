//! Entry points for the fuzz targets in `fuzz/`. Not an API: here only with the feature `fuzzing`, and never stable.
//!
//! Each takes arbitrary bytes, feeds them to one parser or machine the way the network would, and panics where what comes
//! out breaks that machine's own invariant.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use loom_core::{Media, MediaKind, MediaTime, NtpTime, TrackId};

use crate::config::IngestConfig;
use crate::event::SessionEvent;
use crate::ice::{Check, StunKind, username_fragment};
use crate::limits;
use crate::media::{
    CodedUnit, Depacketizer, FecConfig, FecDecoder, FeedbackConfig, Publisher, PublisherConfig,
    PublisherOutput, ReordererConfig, RetransmissionConfig, RtpCodec, RtpFormat, RtpPacket, RtpSection,
};
use crate::rtp::RtpHeader;
use crate::sdp::{AnswerParts, Candidate, DtlsRole, Extensions, Offer, RepairStream, answer};
use crate::transport::replay::{Place, ReplayWindow};
use crate::transport::{Connection, ConnectionConfig, ConnectionOutput, Identity};
use crate::transport::{Receiver, ReceiverConfig, ReceiverOutput};
use crate::whip::Fragment;

/// Takes one input.
pub type Target = fn(&[u8]);

/// Every target: the name of its binary and of its folders of inputs, and what it runs.
pub const TARGETS: &[(&str, Target)] = &[
    ("sdp_offer", sdp_offer),
    ("sdp_fragment", sdp_fragment),
    ("stun", stun),
    ("h264", h264),
    ("vp8", vp8),
    ("vp9", vp9),
    ("av1", av1),
    ("opus", opus),
    ("publisher", publisher),
    ("rtp", rtp),
    ("rtcp", rtcp),
    ("fec", fec),
    ("connection", connection),
];

/// An SDP offer, as a WHIP `POST` brings it.
pub fn sdp_offer(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(offer) = Offer::parse(text) else {
        return;
    };
    assert!(!offer.sections.is_empty() && offer.sections.len() <= limits::OFFER_SECTIONS);
    for (at, section) in offer.sections.iter().enumerate() {
        assert!(!section.formats.is_empty() && section.formats.len() <= limits::SECTION_CODECS);
        assert!(section.sources.len() <= limits::SECTION_SOURCES);
        assert!(
            section
                .formats
                .iter()
                .all(|format| format.codec.kind() == section.kind)
        );
        let namesakes = offer.sections.iter().filter(|other| other.mid == section.mid);
        assert_eq!(namesakes.count(), 1);
        let accepted = offer.outline.iter().filter_map(|it| it.accepted.as_ref());
        assert_eq!(accepted.filter(|terms| terms.section == at).count(), 1);
    }
    check_answer(&offer);
}

/// That the answer mirrors each section once, and that nothing of the offer's breaks out of its line.
fn check_answer(offer: &Offer) {
    let candidates = [
        Candidate::udp(([192, 0, 2, 7], 8189).into()),
        Candidate::tcp(([192, 0, 2, 7], 8189).into()),
    ];
    let ours = AnswerParts {
        fragment: "fragment",
        password: "passwordpasswordpassword",
        fingerprint: "sha-256 AA:BB",
        candidates: &candidates,
        session: "session",
    };
    let text = answer(offer, &ours);
    let lines = text.strip_suffix("\r\n").unwrap_or_default().split("\r\n");
    let mut sections = 0;
    for line in lines {
        assert!(
            matches!(line.as_bytes(), [b'a'..=b'z', b'=', ..]),
            "{line:?} is no line"
        );
        assert!(!line.contains(['\r', '\n', '\0']), "{line:?} is more than a line");
        sections += usize::from(line.starts_with("m="));
    }
    assert_eq!(sections, offer.outline.len(), "{text}");
}

/// An SDP fragment, as a WHIP `PATCH` brings it.
pub fn sdp_fragment(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(fragment) = Fragment::parse(text)
    {
        assert!(
            fragment
                .candidates
                .iter()
                .all(|it| it.split_ascii_whitespace().count() >= 8)
        );
    }
}

/// A datagram that may be a connectivity check.
pub fn stun(input: &[u8]) {
    const PASSWORD: &str = "password";
    let Ok(provider) = rtc::crypto::default_provider() else {
        return;
    };
    let seen = ([192, 0, 2, 7], 4711).into();
    if StunKind::of(input) == StunKind::No {
        return;
    }
    let _ = username_fragment(input);
    if let Some(check) = Check::read(input, PASSWORD, provider.crypto()) {
        let _ = check.nominates();
        let answer = check
            .success(seen, PASSWORD, provider.crypto())
            .unwrap_or_default();
        assert_eq!(StunKind::of(&answer), StunKind::Other, "a check is answered");
    }
}

/// H.264 payloads (RFC 6184), in the form of `depacketize`.
pub fn h264(input: &[u8]) {
    depacketize(RtpCodec::H264, input);
}

/// VP8 payloads (RFC 7741), in the form of `depacketize`.
pub fn vp8(input: &[u8]) {
    depacketize(RtpCodec::Vp8, input);
}

/// VP9 payloads (RFC 9628), in the form of `depacketize`.
pub fn vp9(input: &[u8]) {
    depacketize(RtpCodec::Vp9, input);
}

/// AV1 payloads, in the form of `depacketize`.
pub fn av1(input: &[u8]) {
    depacketize(RtpCodec::Av1, input);
}

/// Opus payloads (RFC 7587), in the form of `depacketize`.
pub fn opus(input: &[u8]) {
    depacketize(RtpCodec::Opus, input);
}

/// One stream's payloads. The input is a count and that many bytes of `a=fmtp` text; then for each packet a byte of flags
/// (1: marker; 2: the timestamp goes on by a picture; 4: packets before it are missing; 8: the timestamp leaps), a count,
/// and that many bytes of payload.
fn depacketize(codec: RtpCodec, input: &[u8]) {
    let mut script = Script(input);
    let parameters = String::from_utf8_lossy(script.counted()).into_owned();
    let format = RtpFormat {
        payload_type: 96,
        codec,
        parameters,
    };
    let mut depacketizer = Depacketizer::new(&format);
    let arrived = Instant::now();
    let mut timestamp = 0u32;
    while let Some(flags) = script.byte() {
        timestamp = timestamp.wrapping_add(u32::from(flags >> 1 & 1) * 3_000);
        timestamp = timestamp.wrapping_add(u32::from(flags >> 3 & 1) * 0x4000_0000);
        if flags & 4 != 0 {
            depacketizer.handle_loss();
        }
        let packet = RtpPacket {
            source: 1,
            payload_type: 96,
            sequence: 0,
            timestamp,
            marker: flags & 1 != 0,
            payload: Bytes::copy_from_slice(script.counted()),
            arrived,
            mid: None,
            rid: None,
        };
        let _ = depacketizer.handle_packet(&packet);
        while let Some(frame) = depacketizer.poll_frame() {
            check_unit(codec, &frame.unit);
        }
        let _ = depacketizer.poll_loss();
    }
}

fn check_unit(codec: RtpCodec, unit: &CodedUnit) {
    assert!(!unit.data.is_empty(), "a frame of nothing");
    assert_eq!(
        unit.key,
        unit.parameters.is_some(),
        "a key frame says how to decode it"
    );
    if codec == RtpCodec::Opus {
        let duration = unit.duration.unwrap_or_default();
        assert!(duration > Duration::ZERO && duration <= Duration::from_millis(120));
    }
    if codec == RtpCodec::H264 {
        let mut rest = unit.data.as_ref();
        while !rest.is_empty() {
            let (len, tail) = rest
                .split_first_chunk::<4>()
                .unwrap_or_else(|| panic!("a cut length"));
            let len = u32::from_be_bytes(*len) as usize;
            assert!(len > 0, "an empty NAL unit");
            rest = tail.get(len..).unwrap_or_else(|| panic!("a cut NAL unit"));
        }
    }
}

/// A whole publisher of sound and two pictures, fed packets, reports, goodbyes and time.
///
/// The input is a list of steps, each a byte whose low three bits say what: 0 to 3 a packet (see `Sender::packet`), 4 a
/// sender report, 5 time going on, 6 a goodbye, 7 a wish for a key frame.
pub fn publisher(input: &[u8]) {
    let mut now = Instant::now();
    let mut publisher = Publisher::new(publisher_config());
    let mut senders = [10, 20, 30, 40].map(|source| Sender {
        source,
        sequence: 65_000,
        timestamp: u32::MAX - 90_000,
    });
    let mut judge = Judge::default();
    let mut script = Script(input);
    while let Some(step) = script.byte() {
        let sender = &mut senders[usize::from(step >> 6)];
        match step & 7 {
            0..=3 => {
                let packet = sender.packet(step, &mut script, now);
                publisher.handle_packet(packet, now);
            }
            4 => {
                let seconds = u64::from(script.byte().unwrap_or_default()) << 29;
                publisher.handle_report(
                    sender.source,
                    NtpTime((0xe900_0000 << 32) + seconds),
                    sender.timestamp,
                );
            }
            5 => {
                now += Duration::from_millis(u64::from(script.byte().unwrap_or_default()) << (step >> 3 & 7));
                publisher.handle_timeout(now);
            }
            6 => {
                publisher.handle_bye(&[sender.source]);
            }
            _ => publisher.request_key_frame(TrackId(u32::from(step >> 6)), now),
        }
        judge.drain(&mut publisher, now);
    }
    publisher.finish(now);
    judge.drain(&mut publisher, now);
}

fn publisher_config() -> PublisherConfig {
    PublisherConfig {
        sections: vec![
            section(MediaKind::Audio, "0", &[(111, RtpCodec::Opus)], &[10]),
            section(MediaKind::Video, "1", &VIDEO_FORMATS, &[20]),
            RtpSection {
                layers: vec!["h".to_owned(), "l".to_owned()],
                ..section(MediaKind::Video, "2", &[(105, RtpCodec::Vp8)], &[])
            },
        ],
        reorder: ReordererConfig::default(),
        key_frame_spacing: Duration::from_millis(300),
    }
}

const VIDEO_FORMATS: [(u8, RtpCodec); 4] = [
    (96, RtpCodec::Vp8),
    (97, RtpCodec::Vp9),
    (98, RtpCodec::H264),
    (99, RtpCodec::Av1),
];

fn section(kind: MediaKind, mid: &str, formats: &[(u8, RtpCodec)], sources: &[u32]) -> RtpSection {
    let format = |(payload_type, codec): &(u8, RtpCodec)| RtpFormat {
        payload_type: *payload_type,
        codec: *codec,
        parameters: String::new(),
    };
    RtpSection {
        kind,
        mid: mid.to_owned(),
        formats: formats.iter().map(format).collect(),
        sources: sources.to_vec(),
        layers: Vec::new(),
        stream: None,
    }
}

/// One synchronization source.
struct Sender {
    source: u32,
    sequence: u16,
    timestamp: u32,
}

impl Sender {
    /// Of the step: 2 and 3 name the layers of the third section, 8 marks it, 16 makes it the next picture, 32 has it differ from what is
    /// due: then a byte says by how much its sequence number does, and one by how many 4,096 ticks its timestamp does. Then follow its
    /// payload type, a count, and that many bytes of payload.
    fn packet(&mut self, step: u8, script: &mut Script<'_>, arrived: Instant) -> RtpPacket {
        if step & 16 != 0 {
            self.timestamp = self.timestamp.wrapping_add(3_000);
        }
        self.sequence = self.sequence.wrapping_add(1);
        if step & 32 != 0 {
            let leap = script.byte().unwrap_or_default() as i8;
            self.sequence = self
                .sequence
                .wrapping_add_signed(i16::from(leap) * if step & 1 != 0 { 64 } else { 1 });
            let leap = script.byte().unwrap_or_default() as i8;
            self.timestamp = self.timestamp.wrapping_add_signed(i32::from(leap) << 12);
        }
        let rid = match step & 7 {
            2 => Some("h"),
            3 => Some("l"),
            _ => None,
        };
        RtpPacket {
            source: self.source,
            payload_type: script.byte().unwrap_or_default(),
            sequence: self.sequence,
            timestamp: self.timestamp,
            marker: step & 8 != 0,
            payload: Bytes::copy_from_slice(script.counted()),
            arrived,
            mid: rid.map(|_| Bytes::from_static(b"2")),
            rid: rid.map(|rid| Bytes::from_static(rid.as_bytes())),
        }
    }
}

/// Whole RTP packets, as they are once they are decrypted: a count, and that many bytes of packet; a count of none has a
/// byte after it that says how many milliseconds pass.
pub fn rtp(input: &[u8]) {
    let mut now = Instant::now();
    let mut bench = ReceiverBench::new(now);
    let mut script = Script(input);
    while let Some(count) = script.0.first() {
        if *count == 0 {
            script.byte();
            now += Duration::from_millis(script.byte().unwrap_or_default().into());
            bench.receiver.handle_timeout(now);
        } else {
            bench.handle_rtp(script.counted(), now);
        }
        bench.drain(now);
    }
    bench.receiver.finish(now);
    bench.drain(now);
}

/// One RTCP packet, as it is once it is decrypted.
pub fn rtcp(input: &[u8]) {
    let now = Instant::now();
    let mut bench = ReceiverBench::new(now);
    // a sender of sound, for reports to be about
    let mut packet = [128, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 10, 0xfc, 0];
    bench.handle_rtp(&packet, now);
    bench.receiver.handle_rtcp(Bytes::copy_from_slice(input), now);
    let later = now + Duration::from_secs(2);
    bench.receiver.handle_timeout(later);
    packet[3] += 1;
    bench.handle_rtp(&packet, later);
    bench.drain(later);
}

/// What receives the packets of one connection, past SRTP but for its window of what has come.
struct ReceiverBench {
    receiver: Receiver,
    windows: HashMap<u32, ReplayWindow>,
    judge: Judge,
}

impl ReceiverBench {
    fn new(now: Instant) -> Self {
        let config = ReceiverConfig {
            extensions: Extensions {
                mid: Some(1),
                rid: Some(2),
                transport_cc: Some(3),
                repaired_rid: Some(4),
                audio_level: Some(5),
            },
            feedback: FeedbackConfig {
                retransmitted: vec![96, 97, 98, 99, 105, 111],
                sent_apart: vec![98],
                transport_cc: true,
                ..FeedbackConfig::default()
            },
            repairs: vec![RepairStream {
                payload_type: 49,
                source: 21,
                protects: 20,
                parameters: String::new(),
                transport_wide: true,
            }],
            retransmission: RetransmissionConfig {
                formats: vec![(50, 98)],
                streams: vec![(23, 22)],
            },
            publisher: publisher_config(),
        };
        Self {
            receiver: Receiver::new(config, now),
            windows: HashMap::new(),
            judge: Judge::default(),
        }
    }

    fn handle_rtp(&mut self, packet: &[u8], now: Instant) {
        let Some(header) = RtpHeader::read(packet) else {
            return;
        };
        assert!(header.len <= packet.len());
        header.extensions(packet, |_, range| {
            assert!(
                range.start <= range.end && range.end <= header.len,
                "beyond the header"
            );
        });
        let packet = Bytes::copy_from_slice(packet);
        let window = self.windows.entry(header.source).or_default();
        match window.place(header.sequence) {
            Place::New => {
                window.accept(header.sequence);
                self.receiver.handle_rtp(&header, &packet, now);
            }
            Place::Again => self.receiver.handle_copy(&header, &packet, now),
            Place::Beyond => {}
        }
    }

    /// Takes all outputs: what is sent is RTCP to another's parser, and a timeout that is due passes once it is handled.
    fn drain(&mut self, now: Instant) {
        for turn in 0.. {
            let due = loop {
                match self.receiver.poll_output() {
                    Some(ReceiverOutput::Media(media)) => self.judge.handle_media(media),
                    Some(ReceiverOutput::Rtcp(report)) => {
                        assert!(
                            report.len() <= limits::DATAGRAM_BYTES,
                            "{} bytes of RTCP",
                            report.len()
                        );
                        let read = rtc::rtcp::packet::unmarshal(&mut report.clone());
                        assert!(read.is_ok(), "{:?} of {report:x?}", read.err());
                    }
                    Some(ReceiverOutput::Paused(_) | ReceiverOutput::Resumed(_)) => {}
                    Some(ReceiverOutput::Timeout(due)) => break Some(due),
                    None => break None,
                }
            };
            match due {
                Some(due) if due <= now => self.receiver.handle_timeout(now),
                _ => return,
            }
            assert!(turn < 64, "a timeout that is due for ever");
        }
    }
}

/// Media packets and the packets that repair them (FlexFEC-03). The input is a byte that is odd for repair, one that is the
/// low byte of the sequence number, a count, and that many bytes after the fixed header; again and again.
pub fn fec(input: &[u8]) {
    const MEDIA: u32 = 10;
    let mut decoder = FecDecoder::new(FecConfig {
        protects: MEDIA,
        late_extension: Some(3),
    });
    let mut script = Script(input);
    while let (Some(step), Some(low)) = (script.byte(), script.byte()) {
        let is_repair = step & 1 != 0;
        // of the header, the step says whether there is padding, an extension and a contributing source
        let mut packet = vec![
            0x80 | (step & 0x31 & !1) | (step >> 1 & 1),
            96,
            step >> 2 & 1,
            low,
            0,
            0,
            0,
            1,
        ];
        packet.extend(if is_repair { 11 } else { MEDIA }.to_be_bytes());
        packet.extend(script.counted());
        if is_repair {
            decoder.handle_repair(&packet.into());
        } else {
            decoder.handle_media(&packet);
        }
        while let Some(packet) = decoder.poll_recovered() {
            assert!(packet.len() <= limits::DATAGRAM_BYTES);
            let source = RtpHeader::read(&packet).map(|header| header.source);
            assert_eq!(source, Some(MEDIA), "{packet:x?} was recovered");
        }
    }
}

/// A connection before it knows its publisher: whatever comes to its address. The input is a byte whose lowest bit says
/// which side opens the handshake; then a count of two bytes and that many bytes of datagram, again and again. A count of
/// none has a byte after it that says how many times 16 milliseconds pass.
pub fn connection(input: &[u8]) {
    static IDENTITY: OnceLock<Option<Identity>> = OnceLock::new();
    let Some(identity) = IDENTITY.get_or_init(|| Identity::generate().ok()) else {
        return;
    };
    let mut script = Script(input);
    let role = match script.byte().unwrap_or_default() & 1 {
        0 => DtlsRole::Passive,
        _ => DtlsRole::Active,
    };
    let mut now = Instant::now();
    let config = ConnectionConfig {
        ingest: IngestConfig::default().into(),
        identity: identity.clone(),
        role,
        fingerprints: Vec::new(),
        receiver: ReceiverConfig {
            extensions: Extensions::default(),
            feedback: FeedbackConfig::default(),
            repairs: Vec::new(),
            retransmission: RetransmissionConfig::default(),
            publisher: publisher_config(),
        },
    };
    let mut connection = Connection::new(config, now);
    connection.handle_check(true, now);
    while let (Some(high), Some(low)) = (script.byte(), script.byte()) {
        match usize::from(high) << 8 | usize::from(low) {
            0 => {
                now += Duration::from_millis(u64::from(script.byte().unwrap_or_default()) * 16);
                connection.handle_timeout(now);
            }
            count => connection.handle_datagram(script.bytes(count), now),
        }
        let mut outputs = 0;
        while let Some(output) = connection.poll_output() {
            if let ConnectionOutput::Timeout(_) = output {
                break;
            }
            outputs += 1;
            assert!(outputs < 1_000, "it never ends");
        }
    }
    connection.close(now);
    let mut last = None;
    while let Some(output) = connection.poll_output() {
        match output {
            ConnectionOutput::Timeout(due) => connection.handle_timeout(due),
            ConnectionOutput::Event(event) => last = Some(event),
            ConnectionOutput::Transmit(_) => {}
        }
    }
    let is_closed = connection.is_closed() && matches!(last, None | Some(SessionEvent::Closed(_)));
    assert!(is_closed, "its last event is {last:?}");
}

/// Holds a [`Publisher`] to what it promises.
#[derive(Default)]
struct Judge {
    tracks: HashMap<TrackId, Judged>,
}

#[derive(Default)]
struct Judged {
    is_video: bool,
    has_format: bool,
    /// Something is missing, so that only a key frame may follow.
    broken: bool,
    ended: bool,
    last: Option<MediaTime>,
}

impl Judge {
    /// Takes all outputs. A timeout that is due must pass once it is handled.
    fn drain(&mut self, publisher: &mut Publisher, now: Instant) {
        for turn in 0.. {
            match self.take_media(publisher) {
                Some(due) if due <= now => publisher.handle_timeout(now),
                _ => return,
            }
            assert!(turn < 64, "a timeout that is due for ever");
        }
    }

    fn take_media(&mut self, publisher: &mut Publisher) -> Option<Instant> {
        while let Some(output) = publisher.poll_output() {
            match output {
                PublisherOutput::Media(media) => self.handle_media(media),
                PublisherOutput::Timeout(due) => return Some(due),
                PublisherOutput::RequestKeyFrame { .. }
                | PublisherOutput::NothingMissing { .. }
                | PublisherOutput::Paused(_)
                | PublisherOutput::Resumed(_) => {}
            }
        }
        None
    }

    fn handle_media(&mut self, media: Media) {
        match media {
            Media::Format(format) => {
                let track = self.track(format.track);
                track.is_video = format.codec.kind() == MediaKind::Video;
                (track.has_format, track.broken) = (true, true);
            }
            Media::Packet(packet) => {
                let track = self.track(packet.track);
                assert!(track.has_format, "{} begins without its format", packet.track);
                let decodes = packet.key || !track.broken || !track.is_video;
                assert!(decodes, "{}: no key frame where one must be", packet.track);
                track.broken = false;
                assert!(
                    track.last < Some(packet.dts),
                    "{}: {:?} again",
                    packet.track,
                    packet.dts
                );
                assert!(packet.pts >= MediaTime::ZERO, "{} before zero", packet.track);
                assert!(!packet.data.is_empty());
                track.last = Some(packet.dts);
            }
            Media::Gap(gap) => {
                assert!(gap.from < gap.to, "a gap of nothing");
                self.track(gap.track).broken = true;
            }
            Media::End(id) => self.track(id).ended = true,
        }
    }

    fn track(&mut self, id: TrackId) -> &mut Judged {
        let track = self.tracks.entry(id).or_default();
        assert!(!track.ended, "{id} goes on after its end");
        track
    }
}

/// Reads a target's input from its start; what is not there is nothing.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    /// So many bytes, or as many as there are.
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let count = count.min(self.0.len());
        self.0.split_off(..count).unwrap_or_default()
    }

    /// A byte that counts, and that many bytes.
    fn counted(&mut self) -> &'a [u8] {
        let count = self.byte().unwrap_or_default();
        self.bytes(count.into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Runs each target over the inputs of `fuzz/{folder}/{target}/`, and gives how many there were.
    fn replay(folder: &str) -> usize {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz")
            .join(folder);
        let mut count = 0;
        for (name, target) in TARGETS {
            let Ok(entries) = std::fs::read_dir(root.join(name)) else {
                continue;
            };
            for entry in entries {
                let path = entry.unwrap().path();
                println!("{}", path.display());
                target(&std::fs::read(&path).unwrap());
                count += 1;
            }
        }
        count
    }

    #[test]
    fn every_seed_of_the_fuzz_targets_passes() {
        assert!(
            replay("seeds") >= TARGETS.len(),
            "the seeds are not where they should be"
        );
    }

    #[test]
    fn every_input_that_once_broke_a_parser_passes() {
        replay("regressions");
    }
}
