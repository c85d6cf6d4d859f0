use std::time::Duration;

use loom_core::Media;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::interceptor::FlexFec03Encoder;
use rtc::rtcp::goodbye::Goodbye;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::rtp::Header;
use rtc::srtp::protection_profile::ProtectionProfile;

use super::*;
use crate::media::{FeedbackConfig, PublisherConfig, ReordererConfig, RetransmissionConfig};
use crate::sdp::Offer;
use crate::transport::client::{AUDIO, Client, VIDEO};

const GCM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
const CM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80;

/// A connection and its publisher on a virtual clock.
struct Bench {
    now: Instant,
    connection: Connection,
    client: Client,
    events: Vec<SessionEvent>,
    reports: Vec<Bytes>,
}

impl Bench {
    fn new(profile: SrtpProtectionProfile) -> Self {
        Self::with(profile, |_, _| {})
    }

    fn with(
        profile: SrtpProtectionProfile,
        adjust: impl FnOnce(&mut ConnectionConfig, &mut IngestConfig),
    ) -> Self {
        Self::offering(&[profile], adjust)
    }

    fn offering(
        profiles: &[SrtpProtectionProfile],
        adjust: impl FnOnce(&mut ConnectionConfig, &mut IngestConfig),
    ) -> Self {
        let client = Client::new(profiles);
        let offer = Offer::parse(&client.offer()).unwrap();
        let mut ingest = IngestConfig::default();
        let mut config = ConnectionConfig {
            ingest: Arc::default(),
            identity: Identity::generate().unwrap(),
            role: DtlsRole::Passive,
            fingerprints: vec![client.fingerprint.clone()],
            receiver: ReceiverConfig {
                extensions: offer.extensions,
                repairs: Vec::new(),
                retransmission: RetransmissionConfig::default(),
                feedback: FeedbackConfig {
                    retransmitted: vec![96],
                    transport_cc: true,
                    ..FeedbackConfig::default()
                },
                publisher: PublisherConfig {
                    sections: offer.sections,
                    reorder: ReordererConfig::default(),
                    key_frame_spacing: Duration::from_millis(300),
                },
            },
        };
        adjust(&mut config, &mut ingest);
        config.ingest = Arc::new(ingest);
        let now = Instant::now();
        Self {
            now,
            connection: Connection::new(config, now),
            client,
            events: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// Lets both sides say what they have to, until both are quiet.
    fn exchange(&mut self) {
        loop {
            let mut is_quiet = true;
            while let Some(datagram) = self.client.poll_dtls() {
                is_quiet = false;
                self.connection.handle_datagram(&datagram, self.now);
            }
            loop {
                match self.connection.poll_output() {
                    Some(ConnectionOutput::Transmit(datagram)) => {
                        is_quiet = false;
                        match DatagramKind::of(&datagram) {
                            DatagramKind::Dtls => self.client.handle_dtls(&datagram, self.now),
                            kind => {
                                assert_eq!(kind, DatagramKind::Rtcp);
                                self.reports.push(datagram);
                            }
                        }
                    }
                    Some(ConnectionOutput::Event(event)) => self.events.push(event),
                    Some(ConnectionOutput::Timeout(at)) => {
                        assert!(
                            at > self.now || self.connection.is_closed(),
                            "a timeout that has passed would spin"
                        );
                        break;
                    }
                    None => break,
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    /// Lets time pass as the port does: from timeout to timeout.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.exchange();
            match self.connection.poll_output() {
                Some(ConnectionOutput::Timeout(at)) if at <= end => {
                    self.now = at;
                    self.connection.handle_timeout(at);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn connect(&mut self) {
        self.client.connect(self.now);
        self.exchange();
        assert!(self.client.is_connected());
        assert_eq!(self.events, [SessionEvent::Connected]);
        self.events.clear();
    }

    fn audio(&mut self) -> Bytes {
        self.client.audio()
    }

    fn send(&mut self, datagram: &[u8]) {
        self.connection.handle_datagram(datagram, self.now);
        self.exchange();
    }

    fn packets(&self) -> usize {
        let media = self.events.iter().filter_map(|event| match event {
            SessionEvent::Media(media) => Some(media),
            _ => None,
        });
        media.filter(|media| matches!(media, Media::Packet(_))).count()
    }

    fn closed(&self) -> Option<&CloseReason> {
        match self.events.last() {
            Some(SessionEvent::Closed(reason)) => Some(reason),
            _ => None,
        }
    }

    fn told<T: 'static>(&mut self) -> usize {
        let reports = std::mem::take(&mut self.reports);
        let packets = reports.iter().flat_map(|it| self.client.open_rtcp(it));
        packets
            .filter(|packet| packet.as_any().downcast_ref::<T>().is_some())
            .count()
    }
}

#[test]
fn media_sealed_either_way_is_taken_and_arrival_times_go_back() {
    for profile in [GCM, CM] {
        let mut bench = Bench::new(profile);
        bench.connect();
        for _ in 0..50 {
            let packet = bench.audio();
            bench.send(&packet);
            bench.pass(Duration::from_millis(20));
        }
        assert_eq!(bench.packets(), 50, "{profile:?}");
        let told = bench.told::<TransportLayerCc>();
        assert!(told >= 4, "{told}");
    }
}

#[test]
fn aes_gcm_is_taken_wherever_the_publisher_lists_it() {
    for profiles in [[GCM, CM], [CM, GCM]] {
        let mut bench = Bench::offering(&profiles, |_, _| {});
        bench.connect();
        let taken = bench.client.profile;
        assert!(
            matches!(taken, Some(ProtectionProfile::AeadAes128Gcm)),
            "{profiles:?}: {taken:?}"
        );
        let packet = bench.audio();
        bench.send(&packet);
        assert_eq!(bench.packets(), 1);
    }
}

/// A record with one whole handshake message as two records with a piece of it each (RFC 6347 §4.2.3).
fn in_two(record: &[u8]) -> [Vec<u8>; 2] {
    let (header, message) = record.split_at(13);
    let (begin, body) = message.split_at(12);
    let piece = |at: usize, piece: &[u8]| {
        let mut record = header[..11].to_vec();
        // a number that the publisher itself comes to later
        record[10] += u8::from(at > 0) * 40;
        record.extend((12 + piece.len() as u16).to_be_bytes());
        record.extend(&begin[..6]);
        record.extend(&(at as u32).to_be_bytes()[1..]);
        record.extend(&(piece.len() as u32).to_be_bytes()[1..]);
        record.extend(piece);
        record
    };
    let half = body.len() / 2;
    [piece(0, &body[..half]), piece(half, &body[half..])]
}

#[test]
fn a_greeting_may_come_in_pieces_and_in_any_order() {
    let mut bench = Bench::offering(&[CM, GCM], |_, _| {});
    bench.client.connect(bench.now);
    let greeting = bench.client.poll_dtls().unwrap();
    let [first, second] = in_two(&greeting);
    for piece in [&second, &second, &first] {
        assert!(!bench.client.is_connected());
        bench.connection.handle_datagram(piece, bench.now);
    }
    bench.exchange();
    let taken = bench.client.profile;
    assert!(
        matches!(taken, Some(ProtectionProfile::AeadAes128Gcm)),
        "{taken:?}"
    );
}

#[test]
fn what_others_send_into_a_handshake_costs_only_itself() {
    let record = |kind: u8, body: &[u8]| {
        let mut record = vec![kind, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99];
        record.extend((body.len() as u16).to_be_bytes());
        record.extend(body);
        record
    };
    let strange = [
        record(23, b"hello"),   // data before there are keys
        record(20, &[2]),       // RFC 5246 §7.1: the one value is 1
        record(21, &[2]),       // half an alert
        record(21, &[7, 40]),   // of a level that there is not
        record(22, &[1, 0, 0]), // less than a header
        record(99, &[0; 40]),   // RFC 6347 §4.1.2.7
        record(22, &[0; 40])[..30].to_vec(),
    ];
    let mut bench = Bench::new(GCM);
    bench.client.connect(bench.now);
    for _ in 0..8 {
        for datagram in &strange {
            bench.connection.handle_datagram(datagram, bench.now);
        }
        bench.exchange();
    }
    assert_eq!((bench.client.is_connected(), bench.closed()), (true, None));
}

#[test]
fn what_is_forged_broken_or_was_here_before_costs_only_itself() {
    let mut bench = Bench::new(GCM);
    bench.connect();
    let packet = bench.audio();
    bench.send(&packet);
    bench.send(&packet);
    for at in [13, 20, packet.len() - 1] {
        let mut forged = packet.to_vec();
        forged[3] ^= 0x40;
        forged[at] ^= 1;
        bench.send(&forged);
    }
    for end in 0..packet.len() {
        bench.send(&packet[..end]);
    }
    for first in 0..=255 {
        bench.send(&[first; 60]);
    }
    // sources that nobody proved to know the keys are not remembered
    for source in 0..1_000u32 {
        let mut forged = packet.to_vec();
        forged[8..12].copy_from_slice(&source.to_be_bytes());
        bench.send(&forged);
    }
    let packet = bench.audio();
    bench.send(&packet);
    assert_eq!((bench.packets(), bench.closed()), (2, None));
}

#[test]
fn the_handshake_tells_how_long_the_way_is_and_a_report_when_media_was_captured() {
    const ROAD: Duration = Duration::from_millis(40);
    let mut bench = Bench::new(GCM);
    bench.client.connect(bench.now);
    while !bench.client.is_connected() {
        while let Some(datagram) = bench.client.poll_dtls() {
            bench.connection.handle_datagram(&datagram, bench.now);
        }
        let outputs = std::iter::from_fn(|| match bench.connection.poll_output() {
            Some(ConnectionOutput::Transmit(datagram)) => Some(datagram),
            _ => None,
        });
        let answers: Vec<Bytes> = outputs.collect();
        bench.now += ROAD;
        for datagram in answers {
            bench.client.handle_dtls(&datagram, bench.now);
        }
    }
    assert_eq!(
        bench.connection.clock(),
        None,
        "nothing has come that it could be about"
    );
    let packet = bench.audio();
    let came = bench.now;
    bench.send(&packet);
    let clock = bench.connection.clock().unwrap();
    assert_eq!((clock.arrived, clock.captured), (came, None));
    assert_eq!(clock.round_trip, Some(ROAD));
    let report = SenderReport {
        ssrc: AUDIO,
        ntp_time: 0xE900_0000 << 32,
        rtp_time: 101 * 960,
        ..SenderReport::default()
    };
    let report = bench.client.rtcp(&report);
    bench.send(&report);
    // NTP counts from 1900 (RFC 3550 §4): 70 years, of which 17 had a leap day
    let unix = 0xE900_0000_u64 - (70 * 365 + 17) * 86_400;
    let captured = bench.connection.clock().unwrap().captured;
    assert_eq!(
        captured,
        Some(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(unix))
    );
}

#[test]
fn a_publisher_tells_how_loud_its_sound_is() {
    let mut bench = Bench::with(GCM, |config, _| {
        config.receiver.extensions.audio_level = Some(7);
    });
    bench.connect();
    let heard = |bench: &Bench| bench.connection.level(TrackId(0), bench.now);
    let packet = bench.audio();
    bench.send(&packet);
    assert_eq!(heard(&bench), None, "it has not told yet");
    // the first bit says that it is a voice (RFC 6464 §3)
    for (sequence, level) in [(200, 0x80 | 23), (201, 40), (202, 127)] {
        let header = Header {
            ssrc: AUDIO,
            payload_type: 111,
            sequence_number: sequence,
            timestamp: u32::from(sequence) * 960,
            extension: true,
            extension_profile: rtc::rtp::header::EXTENSION_PROFILE_ONE_BYTE,
            extensions: vec![rtc::rtp::header::Extension {
                id: 7,
                payload: Bytes::copy_from_slice(&[level]),
            }],
            ..Header::default()
        };
        let packet = bench.client.rtp(header, &[0xf8, 0xff, 0xfe]);
        bench.send(&packet);
    }
    assert_eq!(heard(&bench), Some(-23));
    assert_eq!(
        bench.connection.level(TrackId(1), bench.now),
        None,
        "a picture has none"
    );
    bench.pass(Duration::from_secs(2));
    assert_eq!(heard(&bench), Some(-127), "nothing comes any more");
}

#[test]
fn a_certificate_that_the_offer_does_not_name_ends_the_session() {
    let mut bench = Bench::with(GCM, |config, _| config.fingerprints[0].bytes[0] ^= 1);
    bench.client.connect(bench.now);
    bench.exchange();
    let Some(CloseReason::Failed(why)) = bench.closed() else {
        panic!("{:?}", bench.events)
    };
    assert!(why.contains("RFC 8122"), "{why}");
}

#[test]
fn a_handshake_whose_datagrams_are_lost_is_repeated() {
    let mut bench = Bench::new(GCM);
    bench.client.connect(bench.now);
    // three of ten datagrams are lost, either way
    let mut chance = 7_u64;
    let mut is_lost = || {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (chance >> 33) % 10 < 3
    };
    for _ in 0..1_400 {
        if bench.client.is_connected() {
            break;
        }
        while let Some(datagram) = bench.client.poll_dtls() {
            if !is_lost() {
                bench.connection.handle_datagram(&datagram, bench.now);
            }
        }
        while let Some(ConnectionOutput::Transmit(datagram)) = bench.connection.poll_output() {
            if !is_lost() {
                bench.client.handle_dtls(&datagram, bench.now);
            }
        }
        bench.now += Duration::from_millis(10);
        bench.client.handle_timeout(bench.now);
        bench.connection.handle_timeout(bench.now);
    }
    assert!(bench.client.is_connected());
    let packet = bench.audio();
    bench.send(&packet);
    assert_eq!(bench.packets(), 1);
}

#[test]
fn a_publisher_that_lives_may_mute_all_for_a_while() {
    let second = Duration::from_secs(1);
    let limit = |_: &mut ConnectionConfig, ingest: &mut IngestConfig| ingest.mute_timeout = 100 * second;
    let mut bench = Bench::with(GCM, limit);
    bench.connect();
    let packet = bench.audio();
    bench.send(&packet);
    // as Chromium does where a sender has no track any more
    let goodbye = Goodbye {
        sources: vec![AUDIO],
        ..Goodbye::default()
    };
    let goodbye = bench.client.rtcp(&goodbye);
    bench.send(&goodbye);
    for _ in 0..40 {
        bench.pass(second * 2);
        bench.connection.handle_check(false, bench.now);
    }
    assert_eq!(bench.closed(), None, "80 s");
    let packet = bench.audio();
    bench.send(&packet);
    assert_eq!(bench.packets(), 2);
    for _ in 0..49 {
        bench.pass(second * 2);
        bench.connection.handle_check(false, bench.now);
    }
    assert_eq!(bench.closed(), None, "98 s");
    bench.pass(second * 2);
    assert_eq!(
        bench.closed(),
        Some(&CloseReason::MediaTimeout),
        "100 s, whatever lives"
    );
}

#[test]
fn a_publisher_that_never_connects_never_sends_or_vanishes_is_given_up_for_that_reason() {
    let mut bench = Bench::new(GCM);
    bench.pass(Duration::from_secs(14));
    assert_eq!(bench.closed(), None);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.closed(), Some(&CloseReason::ConnectTimeout));

    let mut bench = Bench::new(GCM);
    bench.connect();
    bench.pass(Duration::from_secs(11));
    assert_eq!(bench.closed(), Some(&CloseReason::NoMedia));

    let mut bench = Bench::new(GCM);
    bench.connect();
    let packet = bench.audio();
    bench.send(&packet);
    bench.pass(Duration::from_secs(11));
    assert_eq!(bench.closed(), Some(&CloseReason::MediaTimeout));
    assert!(
        bench.connection.poll_output().is_none(),
        "nothing follows the end"
    );
}

#[test]
fn a_publisher_that_closes_is_heard_out() {
    let mut bench = Bench::new(GCM);
    bench.connect();
    let (first, late, last) = (bench.audio(), bench.audio(), bench.audio());
    bench.send(&first);
    bench.send(&last);
    bench.client.close(bench.now);
    bench.exchange();
    assert_eq!(bench.closed(), None, "what is still on its way is waited for");
    bench.send(&late);
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.packets(), 3);
    assert_eq!(bench.closed(), Some(&CloseReason::ByPublisher));
}

#[test]
fn a_goodbye_of_all_sources_is_an_end() {
    let mut bench = Bench::new(GCM);
    bench.connect();
    let packet = bench.audio();
    bench.send(&packet);
    let goodbye = bench.client.rtcp(&Goodbye {
        sources: vec![AUDIO],
        reason: bytes::Bytes::new(),
    });
    bench.send(&goodbye);
    bench.pass(Duration::from_secs(1));
    // a sender that only paused
    let packet = bench.audio();
    bench.send(&packet);
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.closed(), None);
    let goodbye = bench.client.rtcp(&Goodbye {
        sources: vec![AUDIO],
        reason: bytes::Bytes::new(),
    });
    bench.send(&goodbye);
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.closed(), Some(&CloseReason::ByPublisher));
}

#[test]
fn the_host_ends_it_and_the_publisher_hears_of_it() {
    let mut bench = Bench::new(GCM);
    bench.connect();
    let packet = bench.audio();
    bench.send(&packet);
    bench.connection.close(bench.now);
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.packets(), 1);
    assert_eq!(bench.closed(), Some(&CloseReason::ByHost));
    assert!(bench.client.is_closed, "by a close_notify (RFC 5246 §7.2.1)");
}

#[test]
fn what_comes_while_the_host_takes_nothing_is_a_gap_and_no_more() {
    let mut bench = Bench::new(GCM);
    bench.connect();
    for round in 0..60 {
        bench.connection.set_congested((20..40).contains(&round));
        let packet = bench.audio();
        bench.send(&packet);
        bench.pass(Duration::from_millis(20));
    }
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.packets(), 40);
    let gaps: Vec<_> = bench
        .events
        .iter()
        .filter_map(|event| match event {
            SessionEvent::Media(Media::Gap(gap)) => Some(gap.to.since(gap.from)),
            _ => None,
        })
        .collect();
    assert_eq!(gaps, [Duration::from_millis(400)]);
}

#[test]
fn video_that_begins_amid_its_pictures_is_asked_for_a_key_frame() {
    let mut bench = Bench::new(GCM);
    bench.connect();
    let header = Header {
        ssrc: VIDEO,
        payload_type: 96,
        sequence_number: 1,
        marker: true,
        ..Header::default()
    };
    let inter = bench.client.rtp(header, &[0x10, 0x01, 0, 0]);
    bench.send(&inter);
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.told::<PictureLossIndication>(), 1);
}

fn picture(sequence: u16) -> (Header, &'static [u8]) {
    let header = Header {
        version: 2,
        ssrc: VIDEO,
        payload_type: 96,
        sequence_number: sequence,
        timestamp: u32::from(sequence) * 3_000,
        marker: true,
        ..Header::default()
    };
    let key: &[u8] = &[0x10, 0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0, 0x40, 0];
    (header, if sequence == 1 { key } else { &[0x10, 0x11, 0, 0] })
}

#[test]
fn a_picture_that_only_a_repair_packet_holds_comes_out_in_its_place() {
    let mut bench = Bench::with(GCM, |config, _| {
        let offer = Client::new(&[GCM]).offer().replace("SAVPF 96", "SAVPF 96 49")
            + "a=rtpmap:49 flexfec-03/90000\r\na=ssrc-group:FEC-FR 2000 3000\r\na=ssrc:3000 cname:c\r\n";
        config.receiver.repairs = Offer::parse(&offer).unwrap().repairs().cloned().collect();
    });
    bench.connect();
    let pictures: Vec<_> = (1..=3).map(picture).collect();
    let plain = pictures.iter().map(|(header, payload)| rtc::rtp::Packet {
        header: header.clone(),
        payload: Bytes::from_static(payload),
    });
    let repair = FlexFec03Encoder::new(49, 3_000).encode(&plain.collect::<Vec<_>>(), 1);
    for at in [0, 2] {
        let (header, payload) = pictures[at].clone();
        let packet = bench.client.rtp(header, payload);
        bench.send(&packet);
    }
    assert_eq!(bench.packets(), 1, "the third waits for the second");
    let packet = bench.client.rtp(repair[0].header.clone(), &repair[0].payload);
    bench.send(&packet);
    assert_eq!(bench.packets(), 3);
    assert!(
        !bench
            .events
            .iter()
            .any(|it| matches!(it, SessionEvent::Media(Media::Gap(_))))
    );
}

#[test]
fn a_picture_that_is_sent_again_in_a_stream_of_its_own_comes_out_in_its_place() {
    let mut bench = Bench::with(GCM, |config, _| {
        let offer = Client::new(&[GCM]).offer().replace("SAVPF 96", "SAVPF 96 97")
            + "a=rtcp-fb:96 nack\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=ssrc-group:FID 2000 3000\r\n";
        let offer = Offer::parse(&offer).unwrap();
        config.receiver.retransmission = offer.retransmission();
        config.receiver.feedback.sent_apart = vec![96];
    });
    bench.connect();
    let again = |number: u16, of: u16| {
        let (header, payload) = picture(of);
        let header = Header {
            ssrc: 3_000,
            payload_type: 97,
            sequence_number: number,
            ..header
        };
        (header, [&of.to_be_bytes(), payload].concat())
    };
    for sequence in [1, 3] {
        let (header, payload) = picture(sequence);
        let packet = bench.client.rtp(header, payload);
        bench.send(&packet);
    }
    bench.pass(Duration::from_millis(100));
    assert!(bench.told::<TransportLayerNack>() >= 1);
    assert_eq!(bench.packets(), 1, "the third waits for the second");
    // padding, what nobody misses, and then what is missing
    let (header, _) = again(500, 2);
    for (header, payload) in [(header, Vec::new()), again(501, 1), again(502, 2)] {
        let packet = bench.client.rtp(header, &payload);
        bench.send(&packet);
    }
    assert_eq!(bench.packets(), 3);
    let stats = bench.connection.stats();
    assert_eq!((stats.packets_received, stats.packets_asked), (3, 1));
    assert!(stats.round_trip.is_some(), "it was an answer");
}

#[test]
fn a_packet_without_a_payload_holds_nothing_up() {
    let mut bench = Bench::new(GCM);
    bench.connect();
    for sequence in 1..=3 {
        let (header, payload) = picture(sequence);
        let packet = bench
            .client
            .rtp(header, if sequence == 2 { &[] } else { payload });
        bench.send(&packet);
    }
    assert_eq!(bench.packets(), 2, "it is padding, as bandwidth probes send it");
}

/// Of each ten packets the first comes 50 ms after the second; where it was asked for, the answer comes 20 ms later, as
/// `answer` makes it. Gives how many were asked for in the last 100 of 200 such groups.
fn needless_requests(answer: impl Fn(&[u8]) -> Vec<u8>) -> usize {
    let mut bench = Bench::new(GCM);
    bench.connect();
    let mut needless = 0;
    for group in 0..200u16 {
        let (header, payload) = picture(group * 10 + 1);
        let late = bench.client.rtp(header, payload);
        for packet in 2..=10 {
            let (header, payload) = picture(group * 10 + packet);
            let sealed = bench.client.rtp(header, payload);
            bench.send(&sealed);
            bench.pass(Duration::from_millis(5));
        }
        bench.pass(Duration::from_millis(5));
        bench.send(&late);
        let asked = bench.told::<TransportLayerNack>();
        bench.pass(Duration::from_millis(20));
        for _ in 0..asked {
            bench.send(&answer(&late));
        }
        if group >= 100 {
            needless += asked;
        }
    }
    needless
}

#[test]
fn a_second_copy_tells_that_the_first_was_late_and_not_lost_and_a_forged_one_tells_nothing() {
    let answered = needless_requests(<[u8]>::to_vec);
    assert!(answered <= 4, "{answered} needless requests for 100 late packets");
    let forged = needless_requests(|packet| {
        let mut forged = packet.to_vec();
        *forged.last_mut().unwrap() ^= 1;
        forged
    });
    assert!(
        forged >= 50,
        "{forged} requests for 100 packets that seem to be lost"
    );
}

#[test]
fn a_replay_is_no_media_and_no_sign_of_life() {
    let mut bench = Bench::new(GCM);
    bench.connect();
    let packet = bench.audio();
    bench.send(&packet);
    for _ in 0..110 {
        bench.pass(Duration::from_millis(100));
        bench.send(&packet);
    }
    assert_eq!(bench.packets(), 1);
    assert_eq!(bench.closed(), Some(&CloseReason::MediaTimeout));
}
