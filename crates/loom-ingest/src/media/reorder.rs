//! Puts RTP packets back in order and drops duplicates, and says what was lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use loom_core::SequenceUnwrapper;

use crate::limits;

/// How long and how much a [`Reorderer`] waits for a missing packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReordererConfig {
    /// How long the packets behind a missing one are held back.
    pub(crate) wait: Duration,
    /// How many of them at most.
    pub(crate) capacity: usize,
}

impl Default for ReordererConfig {
    fn default() -> Self {
        Self {
            wait: Duration::from_millis(400),
            capacity: limits::REORDER_PACKETS,
        }
    }
}

/// What a [`Reorderer`] has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReorderOutput<T> {
    /// The next packet in order.
    Packet(T),
    /// Packets that are missing here and will not come; the stream may also have started anew.
    Lost,
    /// Nothing more before this instant, unless a packet comes.
    Timeout(Instant),
}

/// Orders one RTP stream by its 16-bit sequence numbers.
///
/// Invariant: the packets that come out have strictly climbing sequence numbers, and wherever one is missing between
/// two of them, a [`ReorderOutput::Lost`] stands there.
#[derive(Debug)]
pub(crate) struct Reorderer<T> {
    config: ReordererConfig,
    sequence: SequenceUnwrapper,
    next: Option<i64>,
    held: BTreeMap<i64, (Instant, T)>,
    /// A packet that lies far from the others: the start of a new stream if its neighbour follows.
    stray: Option<(u16, Instant, T)>,
    lost: bool,
    now: Instant,
}

impl<T> Reorderer<T> {
    pub(crate) fn new(config: ReordererConfig, now: Instant) -> Self {
        Self {
            config,
            sequence: SequenceUnwrapper::new(),
            next: None,
            held: BTreeMap::new(),
            stray: None,
            lost: false,
            now,
        }
    }

    pub(crate) fn handle_packet(&mut self, sequence: u16, packet: T, now: Instant) {
        self.now = self.now.max(now);
        let mut unwrapper = self.sequence.clone();
        let at = unwrapper.unwrap(sequence);
        let next = *self.next.get_or_insert(at);
        if (at - next).abs() > limits::SEQUENCE_LEAP {
            self.handle_leap(sequence, packet, now);
            return;
        }
        self.sequence = unwrapper;
        self.stray = None;
        if at >= next {
            self.held.entry(at).or_insert((now, packet));
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Gives up waiting for anything: what is held comes out now.
    pub(crate) fn flush(&mut self) {
        self.config.wait = Duration::ZERO;
    }

    pub(crate) fn poll_output(&mut self) -> Option<ReorderOutput<T>> {
        if std::mem::take(&mut self.lost) {
            return Some(ReorderOutput::Lost);
        }
        let (&first, (arrived, _)) = self.held.first_key_value()?;
        let due = *arrived + self.config.wait;
        if self.next != Some(first) {
            if self.now < due && self.held.len() <= self.config.capacity {
                return Some(ReorderOutput::Timeout(due));
            }
            self.next = Some(first);
            return Some(ReorderOutput::Lost);
        }
        self.next = Some(first + 1);
        let (_, (_, packet)) = self.held.pop_first()?;
        Some(ReorderOutput::Packet(packet))
    }

    /// Two packets in a row at a far place are a new stream (RFC 3550 §A.1); one alone is noise.
    fn handle_leap(&mut self, sequence: u16, packet: T, now: Instant) {
        match self.stray.take() {
            Some((before, arrived, first)) if before.wrapping_add(1) == sequence => {
                self.held.clear();
                self.lost = true;
                self.sequence = SequenceUnwrapper::new();
                let at = self.sequence.unwrap(before);
                self.next = Some(at);
                self.held.insert(at, (arrived, first));
                self.held.insert(self.sequence.unwrap(sequence), (now, packet));
            }
            _ => self.stray = Some((sequence, now, packet)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        reorderer: Reorderer<u16>,
        now: Instant,
    }

    impl Bench {
        fn new(capacity: usize) -> Self {
            let now = Instant::now();
            let wait = Duration::from_millis(400);
            Self {
                reorderer: Reorderer::new(ReordererConfig { wait, capacity }, now),
                now,
            }
        }

        fn receive(&mut self, sequences: &[u16]) -> Vec<ReorderOutput<u16>> {
            for sequence in sequences {
                self.reorderer.handle_packet(*sequence, *sequence, self.now);
            }
            self.drain()
        }

        fn advance(&mut self, millis: u64) -> Vec<ReorderOutput<u16>> {
            self.now += Duration::from_millis(millis);
            self.reorderer.handle_timeout(self.now);
            self.drain()
        }

        fn drain(&mut self) -> Vec<ReorderOutput<u16>> {
            let mut all = Vec::new();
            while let Some(output) = self.reorderer.poll_output() {
                if matches!(output, ReorderOutput::Timeout(_)) {
                    break;
                }
                all.push(output);
            }
            all
        }
    }

    use ReorderOutput::{Lost, Packet, Timeout};

    #[test]
    fn a_stream_in_order_passes_at_once() {
        let mut bench = Bench::new(100);
        assert_eq!(bench.receive(&[7, 8, 9]), [Packet(7), Packet(8), Packet(9)]);
        assert_eq!(bench.reorderer.poll_output(), None);
    }

    #[test]
    fn duplicates_are_dropped_whether_the_first_is_held_or_gone() {
        let mut bench = Bench::new(100);
        assert_eq!(bench.receive(&[1, 1, 2, 1, 4, 4]), [Packet(1), Packet(2)]);
        assert_eq!(bench.receive(&[3, 3, 4, 2]), [Packet(3), Packet(4)]);
    }

    #[test]
    fn swapped_packets_come_out_in_order_without_a_loss() {
        let mut bench = Bench::new(100);
        assert_eq!(bench.receive(&[1, 3, 2, 6, 5, 4]), [1, 2, 3, 4, 5, 6].map(Packet));
    }

    #[test]
    fn a_missing_packet_is_waited_for_and_then_given_up() {
        let mut bench = Bench::new(100);
        assert_eq!(bench.receive(&[1, 3, 4]), [Packet(1)]);
        let due = bench.now + Duration::from_millis(400);
        assert_eq!(bench.reorderer.poll_output(), Some(Timeout(due)));
        assert_eq!(bench.advance(399), []);
        assert_eq!(bench.advance(1), [Lost, Packet(3), Packet(4)]);
        assert_eq!(
            bench.receive(&[2, 5]),
            [Packet(5)],
            "the late packet comes too late"
        );
    }

    #[test]
    fn a_retransmission_in_time_leaves_no_trace() {
        let mut bench = Bench::new(100);
        assert_eq!(bench.receive(&[1, 3]), [Packet(1)]);
        bench.advance(200);
        assert_eq!(bench.receive(&[2]), [Packet(2), Packet(3)]);
    }

    #[test]
    fn a_full_buffer_stops_the_wait() {
        let mut bench = Bench::new(3);
        assert_eq!(bench.receive(&[1, 3, 4, 5]), [Packet(1)]);
        assert_eq!(
            bench.receive(&[6]),
            [Lost, Packet(3), Packet(4), Packet(5), Packet(6)]
        );
    }

    #[test]
    fn sequence_numbers_wrap_unnoticed() {
        let mut bench = Bench::new(100);
        assert_eq!(
            bench.receive(&[65_534, 0, 65_535, 1]),
            [65_534, 65_535, 0, 1].map(Packet)
        );
    }

    #[test]
    fn one_stray_packet_is_ignored_and_two_in_a_row_are_a_new_stream() {
        let mut bench = Bench::new(100);
        assert_eq!(bench.receive(&[10, 30_000, 11]), [Packet(10), Packet(11)]);
        assert_eq!(
            bench.receive(&[40_000, 40_001, 40_002]),
            [Lost, Packet(40_000), Packet(40_001), Packet(40_002)]
        );
    }

    #[test]
    fn a_flush_lets_go_of_what_is_held() {
        let mut bench = Bench::new(100);
        assert_eq!(bench.receive(&[1, 3, 5]), [Packet(1)]);
        bench.reorderer.flush();
        assert_eq!(bench.drain(), [Lost, Packet(3), Lost, Packet(5)]);
    }

    #[test]
    fn any_shuffle_comes_out_climbing_with_every_hole_marked() {
        for seed in 1..200u64 {
            let mut state = seed;
            let mut random = |below: u64| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let mut stream: Vec<u16> = (0..300u16).map(|n| n.wrapping_add(65_400)).collect();
            for at in 0..stream.len() - 8 {
                let other = at + random(8) as usize;
                stream.swap(at, other);
            }
            let mut sent = Vec::new();
            for sequence in stream {
                if random(10) > 0 {
                    sent.push(sequence);
                }
                if random(10) == 0 {
                    sent.push(sequence);
                }
            }
            let mut bench = Bench::new(100);
            let mut outputs = Vec::new();
            for sequence in sent {
                outputs.extend(bench.receive(&[sequence]));
                outputs.extend(bench.advance(5));
            }
            bench.reorderer.flush();
            outputs.extend(bench.drain());
            let mut expected: Option<u16> = None;
            for output in outputs {
                match output {
                    Packet(sequence) => {
                        assert!(
                            expected.is_none_or(|e| e == sequence),
                            "seed {seed}: {sequence} after {expected:?}"
                        );
                        expected = Some(sequence.wrapping_add(1));
                    }
                    Lost => expected = None,
                    Timeout(_) => unreachable!("the drain stops at it"),
                }
            }
        }
    }
}
