mod delays;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::BufMut;

use super::{TRANSPORT_FEEDBACK, header};
use crate::limits;
use delays::{Lateness, RoundTrip};

/// Decides which of one source's missing packets are asked for, and when (RFC 4585 §6.2.1).
///
/// A packet that is only late is not to be asked for, one that is lost soon and again until it must have come: the first
/// request waits for as long as late packets are late, which is measured; the next ones for as long as answers take. A
/// second copy of a packet that was asked for says that the first one was late and not an answer.
#[derive(Debug)]
pub(super) struct Requests {
    wait: Duration,
    highest: Option<i64>,
    missing: BTreeMap<i64, Missing>,
    /// Came after they were asked for, in order of arrival.
    answered: VecDeque<Answered>,
    lateness: Lateness,
    round_trip: RoundTrip,
    asked_at: Option<Instant>,
    due: Option<Instant>,
    counts: RequestCounts,
    /// What is sent again comes in a stream of its own, so that nothing else answers a request.
    sent_apart: bool,
}

/// What was asked for so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RequestCounts {
    /// Packets, each once.
    pub(super) packets: u64,
    /// How often.
    pub(super) requests: u64,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    /// When a packet behind it came.
    since: Instant,
    first: Instant,
    last: Instant,
    asked: u8,
}

#[derive(Debug, Clone, Copy)]
struct Answered {
    sequence: i64,
    missing: Missing,
    arrived: Instant,
    copies: u8,
}

/// Messages are at least this far apart.
const SPACING: Duration = Duration::from_millis(5);

impl Requests {
    pub(super) fn new(wait: Duration, now: Instant) -> Self {
        Self {
            wait,
            highest: None,
            missing: BTreeMap::new(),
            answered: VecDeque::new(),
            lateness: Lateness::new(wait / 2, now),
            round_trip: RoundTrip::default(),
            asked_at: None,
            due: None,
            counts: RequestCounts::default(),
            sent_apart: false,
        }
    }

    pub(super) fn set_sent_apart(&mut self, sent_apart: bool) {
        self.sent_apart = sent_apart;
    }

    /// Takes the packet at `sequence`; gives whether it may be the answer to a request.
    pub(super) fn handle_packet(&mut self, sequence: i64, now: Instant) -> bool {
        self.retire(now);
        let Some(highest) = self
            .highest
            .filter(|it| (sequence - it).abs() <= limits::SEQUENCE_LEAP)
        else {
            self.missing.clear();
            self.highest = Some(sequence);
            self.due = None;
            return false;
        };
        if sequence > highest {
            self.highest = Some(sequence);
            if sequence > highest + 1 {
                let first = (highest + 1).max(sequence - limits::REQUESTED_PACKETS as i64);
                let missing = Missing {
                    since: now,
                    first: now,
                    last: now,
                    asked: 0,
                };
                self.missing.extend((first..sequence).map(|at| (at, missing)));
                while self.missing.len() > limits::REQUESTED_PACKETS {
                    self.missing.pop_first();
                }
                self.plan(now);
            }
            return false;
        }
        let Some(missing) = self.missing.remove(&sequence) else {
            return self.handle_copy(sequence, now);
        };
        let late = now.saturating_duration_since(missing.since);
        if missing.asked == 0 {
            self.lateness.handle_late(late);
        } else if self.sent_apart {
            self.lateness.handle_needless(late);
        } else {
            if self.answered.len() == limits::ANSWERED_PACKETS {
                self.answered.pop_front();
            }
            self.answered.push_back(Answered {
                sequence,
                missing,
                arrived: now,
                copies: 0,
            });
        }
        self.plan(now);
        missing.asked > 0 && !self.sent_apart
    }

    /// The packet at `sequence` came in a stream of its own, by which it is an answer; gives whether it was missing.
    pub(super) fn handle_retransmission(&mut self, sequence: i64, now: Instant) -> bool {
        self.retire(now);
        let Some(missing) = self.missing.remove(&sequence) else {
            return false;
        };
        match missing.asked {
            // nobody asked: senders fill up with what was sent before
            0 => {}
            1 => self
                .round_trip
                .handle_answer(now.saturating_duration_since(missing.last)),
            _ => self
                .round_trip
                .handle_doubtful(now.saturating_duration_since(missing.first)),
        }
        self.plan(now);
        true
    }

    /// What lies before `sequence` and did not come is not asked for any more.
    pub(super) fn forget(&mut self, sequence: i64, now: Instant) {
        self.missing = self.missing.split_off(&sequence);
        self.plan(now);
    }

    pub(super) fn counts(&self) -> RequestCounts {
        self.counts
    }

    /// How long answers take, once one has come.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.mean()
    }

    /// When the next request goes out.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    #[cfg(test)]
    pub(super) fn missing_count(&self) -> usize {
        self.missing.len()
    }

    /// Gives the sequence numbers that are asked for now, ascending.
    pub(super) fn ask(&mut self, numbers: &mut Vec<u16>, now: Instant) {
        let hold = self.lateness.hold(now);
        let mut lost = 0;
        for (sequence, it) in &mut self.missing {
            let due = due(it, hold, &self.round_trip, self.wait);
            if due.is_some_and(|due| due <= now) && numbers.len() < limits::REQUESTS_AT_ONCE {
                numbers.push(*sequence as u16);
                if it.asked == 0 {
                    it.first = now;
                    lost += 1;
                }
                it.last = now;
                it.asked += 1;
            }
        }
        self.lateness.handle_lost(lost);
        self.counts.packets += u64::from(lost);
        self.counts.requests += numbers.len() as u64;
        if !numbers.is_empty() {
            self.asked_at = Some(now);
        }
        self.plan(now);
    }

    fn handle_copy(&mut self, sequence: i64, now: Instant) -> bool {
        let Some(at) = self.answered.iter().rposition(|it| it.sequence == sequence) else {
            return false;
        };
        let it = &mut self.answered[at];
        it.copies += 1;
        if it.copies == it.missing.asked {
            // each request was answered, and there was one more: the first to come
            let late = it.arrived.saturating_duration_since(it.missing.since);
            let answer = now.saturating_duration_since(it.missing.last);
            self.answered.remove(at);
            self.lateness.handle_needless(late);
            self.round_trip.handle_answer(answer);
        }
        true
    }

    /// Forgets what is long missing, and believes the answers that no second copy has put in doubt for long enough.
    fn retire(&mut self, now: Instant) {
        // an answer that comes too late still says how long answers take
        let memory = self.wait * 2;
        while let Some(first) = self.missing.first_entry() {
            if now.saturating_duration_since(first.get().since) <= memory {
                break;
            }
            first.remove();
        }
        let doubt = self.round_trip.repeat(1) * 2;
        while let Some(it) = self
            .answered
            .front()
            .filter(|it| now.saturating_duration_since(it.arrived) > doubt)
        {
            let (first, last) = (it.missing.first, it.missing.last);
            if it.missing.asked == 1 {
                self.round_trip
                    .handle_answer(it.arrived.saturating_duration_since(last));
            } else {
                self.round_trip
                    .handle_doubtful(it.arrived.saturating_duration_since(first));
            }
            self.answered.pop_front();
        }
    }

    /// Finds out when the next request is due.
    fn plan(&mut self, now: Instant) {
        let hold = self.lateness.hold(now);
        let next = self
            .missing
            .values()
            .filter_map(|it| due(it, hold, &self.round_trip, self.wait))
            .min();
        self.due = next.map(|next| next.max(self.asked_at.map_or(next, |at| at + SPACING)));
    }
}

/// When a missing packet is asked for next, if it is worth it.
fn due(missing: &Missing, hold: Duration, round_trip: &RoundTrip, wait: Duration) -> Option<Instant> {
    if missing.asked >= limits::REQUESTS_PER_PACKET {
        return None;
    }
    let end = missing.since + wait;
    let due = if missing.asked == 0 {
        missing.since + hold
    } else {
        missing.last + round_trip.repeat(missing.asked)
    };
    (due < end).then_some(due)
}

/// Writes one message that asks `source` for `numbers`, which ascend.
pub(super) fn write(packet: &mut Vec<u8>, ours: u32, source: u32, numbers: &[u16]) {
    let begin = packet.len();
    header(packet, 1, TRANSPORT_FEEDBACK, 0);
    packet.put_u32(ours);
    packet.put_u32(source);
    let mut rest = numbers.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut following = 0u16;
        while let Some(bit) = rest
            .peek()
            .map(|next| next.wrapping_sub(first))
            .filter(|ahead| (1..=16).contains(ahead))
        {
            following |= 1 << (bit - 1);
            rest.next();
        }
        packet.put_u16(first);
        packet.put_u16(following);
    }
    let words = ((packet.len() - begin) / 4 - 1) as u16;
    packet[begin + 2..begin + 4].copy_from_slice(&words.to_be_bytes());
}
