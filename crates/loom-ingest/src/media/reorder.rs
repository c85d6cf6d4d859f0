//! Puts RTP packets back in order and drops duplicates, and says what was lost.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use loom_core::SequenceUnwrapper;

use crate::limits;

/// How long and how much a [`Reorderer`] waits for a missing packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReordererConfig {
    /// How long the packets behind a missing one are held back at most.
    pub(crate) wait: Duration,
    /// How long they are held back where missing packets come soon, or never.
    pub(crate) least_wait: Duration,
    /// How many of them at most.
    pub(crate) capacity: usize,
}

impl Default for ReordererConfig {
    fn default() -> Self {
        Self {
            wait: Duration::from_millis(800),
            least_wait: Duration::from_millis(150),
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
/// two of them, a [`ReorderOutput::Lost`] stands there. A packet in order passes at once.
#[derive(Debug)]
pub(crate) struct Reorderer<T> {
    config: ReordererConfig,
    patience: Patience,
    sequence: SequenceUnwrapper,
    next: Option<i64>,
    /// A packet in order, that nothing is held before.
    ready: Option<T>,
    /// Each with the instant at which it or one behind it came first: since then those before it are missing.
    held: BTreeMap<i64, (Instant, T)>,
    /// A packet that lies far from the others: the start of a new stream if its neighbour follows.
    stray: Option<(u16, Instant, T)>,
    lost: bool,
    now: Instant,
}

/// Adapts the wait to how long missing packets take to come, late or sent again.
///
/// It begins with the longest wait. Where they come, it is as long as several of the slowest; where they never do, it
/// falls to the least.
#[derive(Debug)]
struct Patience {
    wait: Duration,
    /// How long the slowest take, forgotten slowly.
    slowest: Option<Duration>,
    /// Packets that were given up, and since when they were missing.
    given_up: VecDeque<(Range<i64>, Instant)>,
}

/// A request and its answer may each be lost, and once more: the wait is this many times what the slowest take.
const ATTEMPTS: u32 = 3;
/// The share of the slowest that each quicker one lets be forgotten.
const FORGET: u32 = 256;

impl Patience {
    fn handle_filled(&mut self, took: Duration, config: &ReordererConfig) {
        let slowest = match self.slowest {
            Some(slowest) if slowest > took => slowest - (slowest - took) / FORGET,
            _ => took,
        };
        self.slowest = Some(slowest);
        self.wait = (slowest * ATTEMPTS).max(config.least_wait).min(config.wait);
    }

    fn handle_given_up(&mut self, places: Range<i64>, since: Instant, config: &ReordererConfig) {
        if self.slowest.is_none() {
            self.wait = (self.wait * 3 / 4).max(config.least_wait).min(config.wait);
        }
        if self.given_up.len() == limits::GIVEN_UP_HOLES {
            self.given_up.pop_front();
        }
        self.given_up.push_back((places, since));
    }

    /// A packet that is not waited for came.
    fn handle_late(&mut self, at: i64, now: Instant, config: &ReordererConfig) {
        let hole = self
            .given_up
            .iter()
            .rev()
            .find(|(places, _)| places.contains(&at));
        if let Some((_, since)) = hole {
            self.handle_filled(now.saturating_duration_since(*since), config);
        }
    }
}

impl<T> Reorderer<T> {
    pub(crate) fn new(config: ReordererConfig, now: Instant) -> Self {
        Self {
            config,
            patience: Patience {
                wait: config.wait,
                slowest: None,
                given_up: VecDeque::new(),
            },
            sequence: SequenceUnwrapper::new(),
            next: None,
            ready: None,
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
        if at < next {
            self.patience.handle_late(at, now, &self.config);
            return;
        }
        if at == next && self.held.is_empty() && self.ready.is_none() {
            self.next = Some(next + 1);
            self.ready = Some(packet);
            return;
        }
        let behind = self
            .held
            .range(at..)
            .next()
            .map(|(place, (seen, _))| (*place, *seen));
        match behind {
            Some((place, _)) if place == at => {}
            Some((_, seen)) => {
                let took = now.saturating_duration_since(seen);
                self.patience.handle_filled(took, &self.config);
                self.held.insert(at, (seen, packet));
            }
            None => {
                self.held.insert(at, (now, packet));
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// What is held behind the first hole, in order, for who can tell that nothing is missing there.
    pub(crate) fn behind_hole(&self) -> impl Iterator<Item = &T> {
        let hole = self.ready.is_none() && self.next.is_some_and(|next| !self.held.contains_key(&next));
        self.held.values().filter(move |_| hole).map(|(_, packet)| packet)
    }

    /// Nothing is missing before the packet that `count` of the held ones lie before: it is the next, and those are left out.
    pub(crate) fn pass_hole(&mut self, count: usize) {
        for _ in 0..count {
            self.held.pop_first();
        }
        self.next = self.held.keys().next().copied().or(self.next);
    }

    /// Gives up waiting for anything: what is held comes out now.
    pub(crate) fn flush(&mut self) {
        self.patience.wait = Duration::ZERO;
        self.config.wait = Duration::ZERO;
    }

    pub(crate) fn poll_output(&mut self) -> Option<ReorderOutput<T>> {
        if std::mem::take(&mut self.lost) {
            return Some(ReorderOutput::Lost);
        }
        if let Some(packet) = self.ready.take() {
            return Some(ReorderOutput::Packet(packet));
        }
        let (&first, &(seen, _)) = self.held.first_key_value()?;
        if let Some(next) = self.next.filter(|next| *next != first) {
            let due = seen + self.patience.wait;
            if self.now < due && self.held.len() <= self.config.capacity {
                return Some(ReorderOutput::Timeout(due));
            }
            self.patience.handle_given_up(next..first, seen, &self.config);
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
                self.ready = None;
                self.patience.given_up.clear();
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
                reorderer: Reorderer::new(
                    ReordererConfig {
                        wait,
                        least_wait: Duration::from_millis(100),
                        capacity,
                    },
                    now,
                ),
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
    fn the_wait_follows_how_long_missing_packets_take() {
        let mut bench = Bench::new(100);
        bench.receive(&[0]);
        let mut sequence = 0;
        let mut lose = |bench: &mut Bench, millis: u64| {
            sequence += 2;
            bench.receive(&[sequence]);
            bench.advance(millis);
            bench.receive(&[sequence - 1]);
        };
        for _ in 0..20 {
            lose(&mut bench, 50);
        }
        assert_eq!(bench.reorderer.patience.wait, Duration::from_millis(150));
        lose(&mut bench, 130);
        assert_eq!(bench.reorderer.patience.wait, Duration::from_millis(390));
        for _ in 0..2_000 {
            lose(&mut bench, 10);
        }
        assert!(bench.reorderer.patience.wait <= Duration::from_millis(101));
        // comes after it was given up, and is not waited for in vain again
        lose(&mut bench, 300);
        assert_eq!(bench.reorderer.patience.wait, Duration::from_millis(400));
    }

    #[test]
    fn the_wait_falls_where_missing_packets_never_come() {
        let mut bench = Bench::new(100);
        for sequence in 0..20 {
            bench.receive(&[sequence * 2]);
            bench.advance(500);
        }
        assert_eq!(bench.reorderer.patience.wait, Duration::from_millis(100));
    }

    #[test]
    fn each_hole_is_waited_for_since_it_was_seen() {
        let mut bench = Bench::new(100);
        assert_eq!(bench.receive(&[1, 5]), [Packet(1)]);
        bench.advance(300);
        assert_eq!(bench.receive(&[3]), []);
        assert_eq!(bench.advance(99), []);
        assert_eq!(bench.advance(1), [Lost, Packet(3), Lost, Packet(5)]);
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
