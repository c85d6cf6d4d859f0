use std::collections::BTreeSet;

use rtc::rtcp::packet::Packet;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::source_description::{SdesType, SourceDescription};
use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

use super::*;

const VIDEO: u32 = 0xABCD_0001;
const OURS: u32 = 0x1234_5678;
const NOTHING: [u16; 0] = [];

/// A receiver, stepped by a virtual clock, whose RTCP a foreign parser reads.
struct Bench {
    feedback: Feedback,
    start: Instant,
    now: Instant,
    packets: Vec<Box<dyn Packet>>,
    datagrams: Vec<usize>,
}

impl Bench {
    fn new(config: FeedbackConfig) -> Self {
        let now = Instant::now();
        Self {
            feedback: Feedback::new(config, now),
            start: now,
            now,
            packets: Vec::new(),
            datagrams: Vec::new(),
        }
    }

    fn with_nack() -> Self {
        Self::new(FeedbackConfig {
            source: OURS,
            retransmitted: vec![96],
            ..FeedbackConfig::default()
        })
    }

    fn with_transport() -> Self {
        Self::new(FeedbackConfig {
            source: OURS,
            transport_cc: true,
            ..FeedbackConfig::default()
        })
    }

    fn arrive(&mut self, sequence: u16) {
        self.arrive_numbered(sequence, None);
    }

    fn arrive_numbered(&mut self, sequence: u16, transport_sequence: Option<u16>) {
        let millis = self.now.duration_since(self.start).as_millis() as u32;
        let arrival = Arrival {
            source: VIDEO,
            sequence,
            timestamp: millis * 90,
            payload_type: 96,
            scale: Timescale::VIDEO,
            transport_sequence,
            is_repair: false,
        };
        self.feedback.handle_rtp(&arrival, self.now);
        self.drain();
    }

    /// Lets time pass, with every timeout at its instant.
    fn advance(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while let Some(due) = self.drain().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.feedback.handle_timeout(self.now);
        }
        self.now = end;
    }

    fn drain(&mut self) -> Option<Instant> {
        loop {
            match self.feedback.poll_output()? {
                FeedbackOutput::Rtcp(mut message) => {
                    assert!(message.len() <= limits::RTCP_BYTES && message.len().is_multiple_of(4));
                    let packets =
                        rtc::rtcp::packet::unmarshal(&mut message).expect("a foreign parser reads it");
                    self.datagrams.push(packets.len());
                    self.packets.extend(packets);
                }
                FeedbackOutput::Timeout(at) => return Some(at),
            }
        }
    }

    fn taken<P: Packet + Clone + 'static>(&mut self) -> Vec<P> {
        let packets = self.packets.iter();
        let taken = packets
            .filter_map(|it| it.as_any().downcast_ref::<P>().cloned())
            .collect();
        self.packets
            .retain(|it| it.as_any().downcast_ref::<P>().is_none());
        taken
    }

    /// Every sequence number that was asked for since the last call.
    fn requested(&mut self) -> Vec<u16> {
        let nacks = self.taken::<TransportLayerNack>();
        let numbers = nacks.iter().flat_map(|nack| {
            assert_eq!((nack.sender_ssrc, nack.media_ssrc), (OURS, VIDEO));
            nack.nacks.iter().flat_map(|pair| pair.packet_list())
        });
        numbers.collect()
    }

    /// Statuses (`None` missing, else microseconds since the start) of each report's places.
    fn arrivals(&mut self) -> Vec<(u16, Vec<Option<i64>>)> {
        let reports = self.taken::<TransportLayerCc>();
        reports.iter().map(statuses).collect()
    }
}

fn statuses(report: &TransportLayerCc) -> (u16, Vec<Option<i64>>) {
    let mut symbols = Vec::new();
    for chunk in &report.packet_chunks {
        match chunk {
            PacketStatusChunk::RunLengthChunk(it) => {
                symbols.extend(std::iter::repeat_n(
                    it.packet_status_symbol,
                    usize::from(it.run_length),
                ));
            }
            PacketStatusChunk::StatusVectorChunk(it) => symbols.extend(it.symbol_list.iter().copied()),
        }
    }
    let mut at = i64::from(report.reference_time) * 64_000;
    let mut deltas = report.recv_deltas.iter();
    let places = symbols
        .into_iter()
        .take(usize::from(report.packet_status_count))
        .map(|symbol| {
            (symbol != SymbolTypeTcc::PacketNotReceived).then(|| {
                at += deltas.next().expect("a span for each that came").delta;
                at
            })
        });
    (report.base_sequence_number, places.collect())
}

#[test]
fn a_packet_that_stays_away_is_asked_for_and_then_asked_for_again() {
    let mut bench = Bench::with_nack();
    bench.arrive(10);
    bench.advance(10);
    bench.arrive(12);
    assert_eq!(bench.requested(), NOTHING, "it may only be late");
    bench.advance(60);
    assert_eq!(bench.requested(), [11]);
    bench.advance(120);
    assert_eq!(bench.requested(), [11], "the request or its answer was lost");
    bench.arrive(11);
    bench.advance(2_000);
    assert_eq!(bench.requested(), NOTHING);
}

#[test]
fn a_packet_that_never_comes_is_asked_for_only_while_it_would_be_of_use() {
    let mut bench = Bench::with_nack();
    bench.arrive(10);
    bench.arrive(12);
    bench.advance(800);
    let asked = bench.requested().len();
    let most = usize::from(limits::REQUESTS_PER_PACKET);
    assert!((2..=most).contains(&asked), "{asked}");
    bench.advance(5_000);
    assert_eq!(bench.requested(), NOTHING);
}

#[test]
fn many_missing_packets_share_messages_across_the_wrap() {
    let mut bench = Bench::with_nack();
    bench.arrive(65_500);
    bench.arrive(65_501);
    bench.arrive(100);
    bench.advance(60);
    let expected: Vec<u16> = (65_502..=65_535).chain(0..100).collect();
    assert_eq!(bench.requested(), expected);
    assert_eq!(bench.datagrams.iter().filter(|count| **count > 0).count(), 1);
}

#[test]
fn reordering_is_learnt_and_then_asked_about_no_more() {
    let mut bench = Bench::with_nack();
    let mut requests = Vec::new();
    for group in 0..400u16 {
        // of each ten packets the first comes 50 ms after the second
        for packet in 1..10 {
            bench.arrive(group * 10 + packet);
            bench.advance(5);
            if packet == 9 {
                bench.advance(5);
            }
        }
        bench.arrive(group * 10);
        let needless = bench.requested();
        // which the sender answers nevertheless
        bench.advance(20);
        needless.iter().for_each(|number| bench.arrive(*number));
        requests.push(needless.len());
    }
    let late: usize = requests[200..].iter().sum();
    assert!(late <= 4, "{late} needless requests of 200 late packets");
}

#[test]
fn the_first_request_is_quick_where_nothing_is_reordered() {
    let mut bench = Bench::with_nack();
    let mut waits = Vec::new();
    for group in 0..400u16 {
        for packet in 1..20 {
            bench.arrive(group * 20 + packet);
            let seen = bench.now;
            bench.advance(5);
            if packet == 1 && group > 0 {
                while bench.requested().is_empty() {
                    bench.advance(1);
                }
                waits.push(bench.now.duration_since(seen).as_millis());
                bench.advance(30);
                bench.arrive(group * 20);
            }
        }
    }
    assert!(waits[350..].iter().all(|wait| *wait <= 10), "{:?}", &waits[350..]);
}

#[test]
fn repeats_wait_for_as_long_as_answers_take() {
    let mut bench = Bench::with_nack();
    let mut asked = 0;
    for group in 0..200u16 {
        for packet in 1..20 {
            bench.arrive(group * 20 + packet);
            bench.advance(10);
            if packet == 1 && group > 0 {
                // the answer takes 250 ms
                bench.advance(265);
                bench.arrive(group * 20);
            }
        }
        if group == 100 {
            bench.requested();
        }
        asked = bench.packets.len().max(asked);
    }
    let asked = bench.requested().len();
    assert!(
        (99..=105).contains(&asked),
        "{asked} requests for 99 lost packets"
    );
}

#[test]
fn what_is_missed_is_bounded_whatever_arrives() {
    let mut bench = Bench::with_nack();
    for leap in 0..200u16 {
        bench.arrive(leap.wrapping_mul(2_900));
        let source = &bench.feedback.sources[0];
        assert!(source.requests.missing_count() <= limits::REQUESTED_PACKETS);
    }
    bench.advance(30_000);
    bench.arrive(199u16.wrapping_mul(2_900) + 1);
    assert_eq!(bench.feedback.sources[0].requests.missing_count(), 0);
    let asked: Vec<u16> = bench.requested();
    let most = limits::REQUESTED_PACKETS * usize::from(limits::REQUESTS_PER_PACKET);
    assert!(asked.len() <= most, "{}", asked.len());
    for source in 0..1_000 {
        let arrival = Arrival {
            source,
            sequence: 0,
            timestamp: 0,
            payload_type: 96,
            scale: Timescale::VIDEO,
            transport_sequence: None,
            is_repair: false,
        };
        bench.feedback.handle_rtp(&arrival, bench.now);
    }
    assert_eq!(bench.feedback.sources.len(), limits::FEEDBACK_SOURCES);
}

#[test]
fn what_may_not_be_asked_for_is_not() {
    let mut bench = Bench::new(FeedbackConfig {
        retransmitted: vec![97],
        ..FeedbackConfig::default()
    });
    bench.arrive(1);
    bench.arrive(5);
    bench.advance(1_000);
    assert_eq!(bench.requested(), NOTHING);
}

#[test]
fn a_new_stream_is_not_asked_for_what_lies_between() {
    let mut bench = Bench::with_nack();
    bench.arrive(1);
    bench.arrive(40_000);
    bench.arrive(2);
    bench.advance(500);
    assert_eq!(bench.requested(), NOTHING, "one packet astray");
    bench.arrive(40_000);
    bench.arrive(40_001);
    bench.arrive(40_003);
    bench.advance(100);
    assert_eq!(bench.requested(), [40_002]);
}

#[test]
fn a_receiver_report_tells_loss_jitter_and_the_way_back() {
    let mut bench = Bench::new(FeedbackConfig {
        source: OURS,
        cname: "a name of ours".to_owned(),
        ..FeedbackConfig::default()
    });
    bench.arrive(65_530);
    bench
        .feedback
        .handle_sender_report(VIDEO, NtpTime(0x1122_3344_5566_7788), bench.now);
    bench.advance(250);
    for sequence in [65_531, 65_532, 65_535, 0, 1, 1, 3] {
        bench.arrive(sequence);
    }
    bench.advance(50);
    let reports = bench.taken::<ReceiverReport>();
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].ssrc, reports[0].reports.len()), (OURS, 1));
    let block = &reports[0].reports[0];
    assert_eq!(block.ssrc, VIDEO);
    assert_eq!(block.last_sequence_number, 65_536 + 3);
    // ten expected, seven came and one of them twice
    assert_eq!((block.total_lost, block.fraction_lost), (2, 51));
    assert_eq!(block.last_sender_report, 0x3344_5566);
    assert_eq!(block.delay, 65_536 * 300 / 1_000);
    assert_eq!(block.jitter, 0, "each arrived by its own timestamp");
    let names = bench.taken::<SourceDescription>();
    assert_eq!(names[0].chunks[0].source, OURS);
    assert_eq!(names[0].chunks[0].items[0].sdes_type, SdesType::SdesCname);
    assert_eq!(&names[0].chunks[0].items[0].text[..], b"a name of ours");
    for sequence in 4..54 {
        bench.arrive(sequence);
        bench.advance(20);
    }
    let second = bench.taken::<ReceiverReport>();
    assert_eq!(second.len(), 1, "once a second");
    assert_eq!(
        (
            second[0].reports[0].total_lost,
            second[0].reports[0].fraction_lost
        ),
        (2, 0)
    );
    bench.advance(60_000);
    assert!(
        bench.taken::<ReceiverReport>().len() <= 3,
        "a silent source is not reported on"
    );
    assert_eq!(bench.drain(), None, "and nothing is left to wake for");
}

#[test]
fn jitter_in_a_report_is_that_of_the_arrivals() {
    let mut bench = Bench::with_transport();
    for sequence in 0..500u16 {
        let arrival = Arrival {
            source: VIDEO,
            sequence,
            timestamp: u32::from(sequence).wrapping_mul(1_800),
            payload_type: 96,
            scale: Timescale::VIDEO,
            transport_sequence: None,
            is_repair: false,
        };
        // each second packet 8 ms late: 8 ms between any two
        let late = Duration::from_millis(u64::from(sequence % 2) * 8);
        bench.feedback.handle_rtp(&arrival, bench.now + late);
        bench.advance(20);
    }
    let reports = bench.taken::<ReceiverReport>();
    let jitter = reports.last().expect("reports").reports[0].jitter;
    assert!((700..=725).contains(&jitter), "{jitter} of 720 ticks");
}

#[test]
fn a_key_frame_is_asked_for_at_once() {
    let mut bench = Bench::with_nack();
    bench.feedback.request_key_frame(VIDEO);
    bench.drain();
    let requests = bench.taken::<PictureLossIndication>();
    assert_eq!(
        requests,
        [PictureLossIndication {
            sender_ssrc: OURS,
            media_ssrc: VIDEO
        }]
    );
}

#[test]
fn without_reduced_size_every_datagram_begins_with_a_report_and_a_name() {
    let mut bench = Bench::new(FeedbackConfig {
        source: OURS,
        reduced_size: false,
        transport_cc: true,
        retransmitted: vec![96],
        ..FeedbackConfig::default()
    });
    bench.arrive_numbered(1, Some(1));
    bench.arrive_numbered(3, Some(3));
    bench.feedback.request_key_frame(VIDEO);
    bench.advance(5_000);
    let datagrams = std::mem::take(&mut bench.datagrams);
    assert!(datagrams.len() >= 4, "{datagrams:?}");
    let mut packets = bench.packets.iter();
    for count in datagrams {
        let packet: Vec<_> = packets.by_ref().take(count).collect();
        assert!(packet[0].as_any().is::<ReceiverReport>(), "{packet:?}");
        assert!(packet[1].as_any().is::<SourceDescription>(), "{packet:?}");
    }
}

#[test]
fn arrival_times_are_told_to_a_quarter_of_a_millisecond() {
    let mut bench = Bench::with_transport();
    let mut expected = Vec::new();
    for number in 0..12u16 {
        if number % 5 != 3 {
            bench.arrive_numbered(number, Some(65_530u16.wrapping_add(number)));
            expected.push(Some(bench.now.duration_since(bench.start).as_micros() as i64));
        } else {
            expected.push(None);
        }
        bench.now += Duration::from_micros(3_250);
    }
    bench.advance(100);
    assert_eq!(bench.arrivals(), [(65_530, expected)]);
}

#[test]
fn a_packet_that_comes_after_it_was_told_missing_is_told_again() {
    let mut bench = Bench::with_transport();
    for number in [1, 2, 4] {
        bench.arrive_numbered(number, Some(number));
    }
    bench.advance(100);
    let places = |bench: &mut Bench| {
        let arrivals = bench.arrivals();
        assert_eq!(arrivals.len(), 1);
        let (base, places) = arrivals[0].clone();
        (base, places.iter().map(Option::is_some).collect::<Vec<_>>())
    };
    assert_eq!(places(&mut bench), (1, vec![true, true, false, true]));
    bench.arrive_numbered(3, Some(3));
    bench.arrive_numbered(6, Some(6));
    bench.advance(100);
    assert_eq!(places(&mut bench), (3, vec![true, true, false, true]));
    bench.advance(1_000);
    assert_eq!(bench.arrivals(), [], "nothing new");
}

#[test]
fn any_arrivals_are_told_without_a_hole_and_counted() {
    for seed in 1..60u64 {
        let mut state = seed;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut bench = Bench::with_transport();
        let mut sent = BTreeSet::new();
        let lossy = random(100);
        for number in 0..3_000u64 {
            bench.now += Duration::from_micros(if random(200) == 0 {
                random(9_500_000)
            } else {
                random(9_000)
            });
            if random(100) >= lossy || number == 0 {
                bench.arrive_numbered(number as u16, Some((number + 60_000) as u16));
                sent.insert((number + 60_000) as u16);
            }
            bench.advance(0);
        }
        bench.advance(200);
        let reports = bench.taken::<TransportLayerCc>();
        let mut told = BTreeSet::new();
        let mut next = None;
        for (count, report) in reports.iter().enumerate() {
            assert_eq!(report.fb_pkt_count, count as u8, "seed {seed}");
            let (base, places) = statuses(report);
            assert!(
                next.is_none_or(|next| next == base),
                "seed {seed}: {base} after {next:?}"
            );
            next = Some(base.wrapping_add(places.len() as u16));
            let came = places.iter().enumerate().filter(|(_, place)| place.is_some());
            told.extend(came.map(|(at, _)| base.wrapping_add(at as u16)));
        }
        assert_eq!(told, sent, "seed {seed}");
    }
}

#[test]
fn the_window_of_arrival_times_is_bounded() {
    let mut bench = Bench::with_transport();
    for number in 0..2_000u32 {
        bench.arrive_numbered(0, Some((number * 1_500) as u16));
        bench.now += Duration::from_millis(1);
        let transport = bench.feedback.transport.as_ref().expect("it is on");
        assert!(transport.places() <= limits::TRANSPORT_PACKETS);
    }
    bench.advance(1_000);
    assert!(bench.feedback.outbox.closed.len() <= limits::RTCP_MESSAGES);
}
