use std::time::{Duration, Instant};

/// How late the packets are that come late, by which the first request is put off.
///
/// The wait is the shortest at which no more than a twentieth of the packets asked for would have come by themselves.
#[derive(Debug)]
pub(super) struct Lateness {
    /// Late packets, by lateness in steps; they fade with time.
    late: [f32; STEPS],
    /// Packets asked for that did not come by themselves; fading too.
    lost: f32,
    longest: Duration,
    hold: Duration,
    measured: Instant,
    faded: Instant,
}

const STEPS: usize = 60;
const STEP: Duration = Duration::from_millis(5);
/// Before anything is known.
const FIRST_HOLD: Duration = Duration::from_millis(20);
const SHORTEST_HOLD: Duration = Duration::from_millis(5);
/// The share of needless requests to those for lost packets that is aimed at.
const NEEDLESS: f32 = 0.05;
const FADE: f32 = 0.93;

impl Lateness {
    pub(super) fn new(longest: Duration, now: Instant) -> Self {
        let mut late = [0.0; STEPS];
        late[step(FIRST_HOLD) - 1] = 2.0;
        Self {
            late,
            lost: 0.0,
            longest,
            hold: FIRST_HOLD.min(longest),
            measured: now,
            faded: now,
        }
    }

    /// A packet came this long after it was missed, not asked for.
    pub(super) fn handle_late(&mut self, late: Duration) {
        self.late[step(late)] += 1.0;
    }

    /// So many packets were asked for.
    pub(super) fn handle_lost(&mut self, count: u32) {
        self.lost += count as f32;
    }

    /// A packet that was asked for came by itself, this long after it was missed.
    pub(super) fn handle_needless(&mut self, late: Duration) {
        self.handle_late(late);
        self.lost = (self.lost - 1.0).max(0.0);
    }

    /// How long a missing packet is waited for before it is asked for.
    pub(super) fn hold(&mut self, now: Instant) -> Duration {
        if now.saturating_duration_since(self.measured) >= Duration::from_millis(50) {
            self.measured = now;
            self.measure();
        }
        if now.saturating_duration_since(self.faded) >= Duration::from_secs(1) {
            self.faded = now;
            self.late.iter_mut().for_each(|count| *count *= FADE);
            self.lost *= FADE;
        }
        self.hold
    }

    fn measure(&mut self) {
        let allowed = self.lost * NEEDLESS + 0.5;
        let mut needless = 0.0;
        let later = self.late.iter().rev().take_while(|count| {
            needless += **count;
            needless <= allowed
        });
        let hold = STEP * (STEPS - later.count()) as u32;
        self.hold = hold.max(SHORTEST_HOLD).min(self.longest);
    }
}

fn step(late: Duration) -> usize {
    ((late.as_micros() / STEP.as_micros()) as usize).min(STEPS - 1)
}

/// How long the answer to a request takes (after RFC 6298 §2).
#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    /// Mean and mean deviation.
    measured: Option<(Duration, Duration)>,
    /// Answers in a row that may be to one of several requests.
    doubtful: u32,
}

/// Until an answer has come.
const FIRST_REPEAT: Duration = Duration::from_millis(120);
/// An answer that takes no longer than the others is not to be run ahead of.
const MARGIN: Duration = Duration::from_millis(10);
const SHORTEST_REPEAT: Duration = Duration::from_millis(10);
const LONGEST_REPEAT: Duration = Duration::from_secs(1);
/// So many doubtful answers in a row say that requests are repeated before an answer can have come.
const DOUBTS: u32 = 8;

impl RoundTrip {
    /// The mean, once one is known.
    pub(super) fn mean(&self) -> Option<Duration> {
        self.measured.map(|(mean, _)| mean)
    }

    /// The answer to a request that was not repeated came after `span`.
    pub(super) fn handle_answer(&mut self, span: Duration) {
        self.doubtful = 0;
        self.measured = Some(match self.measured {
            None => (span, span / 2),
            Some((mean, deviation)) => {
                let error = mean.abs_diff(span);
                ((mean * 7 + span) / 8, (deviation * 3 + error) / 4)
            }
        });
    }

    /// The answer to the first or a later request came `span` after the first.
    pub(super) fn handle_doubtful(&mut self, span: Duration) {
        self.doubtful += 1;
        if self.measured.is_none() || self.doubtful >= DOUBTS {
            self.measured = None;
            self.handle_answer(span);
        }
    }

    /// How long after the last of so many requests the next one for the same packet goes out.
    ///
    /// Nearly all answers to the first are waited for. The few packets that take more than two requests are asked for
    /// sooner again, because their time runs out.
    pub(super) fn repeat(&self, asked: u8) -> Duration {
        let (mean, deviation) = self.measured.unwrap_or((FIRST_REPEAT, Duration::ZERO));
        let span = if asked <= 1 {
            mean + (deviation * 5 / 2).max(MARGIN)
        } else {
            mean * 3 / 5
        };
        span.clamp(SHORTEST_REPEAT, LONGEST_REPEAT)
    }
}
