use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BufMut;
use loom_core::SequenceUnwrapper;

use super::{TRANSPORT_FEEDBACK, header};
use crate::limits;

/// Arrival times of a sender's packets over all its streams, for its estimate of the bandwidth
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3).
///
/// Reports follow each other without a hole; a packet that comes after it was reported missing is reported again, with
/// all behind it.
#[derive(Debug)]
pub(super) struct Transport {
    epoch: Instant,
    sequence: SequenceUnwrapper,
    begun: bool,
    /// The number of the window's first place.
    base: i64,
    /// When each came, in quarters of a millisecond since the epoch.
    window: VecDeque<Option<i64>>,
    /// The next report begins here.
    next: i64,
    /// Arrivals since the last report.
    fresh: usize,
    source: u32,
    count: u8,
    due: Option<Instant>,
}

const INTERVAL: Duration = Duration::from_millis(100);
/// So many packets are reported without waiting for the interval's end.
const BATCH: usize = 200;
/// Places of one report, such that it fits a datagram with two bytes a place.
const PLACES: usize = 400;
/// Ticks of a quarter of a millisecond in one unit of the reference time, 64 ms.
const REFERENCE: i64 = 256;
/// How long what was reported is remembered, to be told again when one before it comes late; in ticks.
const MEMORY: i64 = 500 * 4;

impl Transport {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            sequence: SequenceUnwrapper::new(),
            begun: false,
            base: 0,
            window: VecDeque::new(),
            next: 0,
            fresh: 0,
            source: 0,
            count: 0,
            due: None,
        }
    }

    pub(super) fn handle_packet(&mut self, sequence: u16, source: u32, now: Instant) {
        let mut ahead = self.sequence.clone();
        let at = ahead.unwrap(sequence);
        let end = self.base + self.window.len() as i64;
        if !self.begun || at >= end + limits::TRANSPORT_PACKETS as i64 {
            self.begun = true;
            self.window.clear();
            self.base = at;
            self.next = at;
        } else if at < self.base {
            // too old to be told; where the numbers have begun anew, they soon are not
            if at < self.base - limits::TRANSPORT_PACKETS as i64 {
                *self = Self {
                    count: self.count,
                    ..Self::new(self.epoch)
                };
            }
            return;
        }
        self.sequence = ahead;
        while self.base + self.window.len() as i64 <= at {
            if self.window.len() == limits::TRANSPORT_PACKETS {
                self.window.pop_front();
                self.base += 1;
            }
            self.window.push_back(None);
        }
        self.next = self.next.max(self.base);
        let place = &mut self.window[(at - self.base) as usize];
        if place.is_some() {
            return;
        }
        let ticks = now.saturating_duration_since(self.epoch).as_micros() / 250;
        *place = Some(ticks as i64);
        self.source = source;
        self.next = self.next.min(at);
        self.fresh += 1;
        let due = if self.fresh < BATCH { now + INTERVAL } else { now };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.window.len()
    }

    /// Writes the next report that is due, if there is one.
    pub(super) fn report(&mut self, packet: &mut Vec<u8>, ours: u32, now: Instant) -> bool {
        let missing = |at: i64| matches!(self.window.get((at - self.base) as usize), Some(None));
        let holes = (self.next..).take_while(|at| missing(*at)).count();
        if holes >= PLACES {
            self.next += holes as i64; // an outage, which nobody needs told packet by packet
        }
        let places: Vec<Option<i64>> = (self.next - self.base..)
            .map_while(|at| self.window.get(at as usize).copied())
            .take(PLACES)
            .collect();
        let Some(first) = places.iter().copied().flatten().next() else {
            self.due = None;
            self.fresh = 0;
            self.forget(now);
            return false;
        };
        let reference = first.div_euclid(REFERENCE);
        let mut last = reference * REFERENCE;
        let mut symbols = Vec::with_capacity(places.len());
        let mut deltas = Vec::with_capacity(places.len());
        for place in places {
            let Some(at) = place else {
                symbols.push(Symbol::Missing);
                continue;
            };
            let Ok(delta) = i16::try_from(at - last) else {
                break; // the next report has a reference time of its own
            };
            symbols.push(if u8::try_from(delta).is_ok() {
                Symbol::Near
            } else {
                Symbol::Far
            });
            deltas.push(delta);
            last = at;
        }
        let begin = packet.len();
        header(packet, 15, TRANSPORT_FEEDBACK, 0);
        packet.put_u32(ours);
        packet.put_u32(self.source);
        packet.put_u16(self.next as u16);
        packet.put_u16(symbols.len() as u16);
        packet.put_u32((reference as u32) << 8 | u32::from(self.count));
        write_chunks(packet, &symbols);
        for delta in deltas {
            match u8::try_from(delta) {
                Ok(near) => packet.put_u8(near),
                Err(_) => packet.put_i16(delta),
            }
        }
        let padding = (packet.len() - begin).next_multiple_of(4) - (packet.len() - begin);
        if padding > 0 {
            packet.put_bytes(0, padding - 1);
            packet.put_u8(padding as u8);
            packet[begin] |= 0x20;
        }
        let words = ((packet.len() - begin) / 4 - 1) as u16;
        packet[begin + 2..begin + 4].copy_from_slice(&words.to_be_bytes());
        self.count = self.count.wrapping_add(1);
        self.next += symbols.len() as i64;
        true
    }

    fn forget(&mut self, now: Instant) {
        let now = (now.saturating_duration_since(self.epoch).as_micros() / 250) as i64;
        while self.base < self.next
            && self
                .window
                .front()
                .is_some_and(|place| place.is_none_or(|at| now - at > MEMORY))
        {
            self.window.pop_front();
            self.base += 1;
        }
    }
}

/// A packet's status (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Missing = 0,
    /// Came, 0 to 63.75 ms after the one before it.
    Near = 1,
    /// Came, by a span of two bytes.
    Far = 2,
}

/// The statuses as run lengths and status vectors (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1.2 to §3.1.4).
fn write_chunks(packet: &mut Vec<u8>, mut symbols: &[Symbol]) {
    while let Some(first) = symbols.first().copied() {
        let run = symbols.iter().take_while(|it| **it == first).count();
        let narrow = symbols
            .iter()
            .take(14)
            .take_while(|it| **it != Symbol::Far)
            .count();
        let taken = if run >= 14 || run == symbols.len() || (run >= 7 && narrow < 14) {
            packet.put_u16((first as u16) << 13 | run as u16);
            run
        } else {
            let (taken, bits, kind) = if narrow == symbols.len().min(14) {
                (narrow, 1, 0x8000)
            } else {
                (symbols.len().min(7), 2, 0xc000)
            };
            let vector = symbols[..taken]
                .iter()
                .enumerate()
                .fold(kind, |vector, (at, it)| {
                    vector | (*it as u16) << (14 - bits * (at + 1))
                });
            packet.put_u16(vector);
            taken
        };
        symbols = &symbols[taken..];
    }
}
