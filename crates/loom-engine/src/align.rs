//! Where what a joined publisher sends lies on the recording's line: by the wall clocks of both publishers where they can be believed, else
//! by when it comes.

use std::time::{Duration, Instant, SystemTime};

use loom_core::MediaTime;
use loom_ingest::SessionClock;
use serde::{Deserialize, Serialize};

/// Nanoseconds, signed.
type Nanos = i64;

/// How a joined publisher's media is brought onto the recording's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AlignedBy {
    /// By when both publishers say that they captured it (RTCP sender reports): both their wall clocks agree with ours.
    Clocks,
    /// By when it came here, less half the way to each publisher and back.
    Arrival,
}

/// A source's clock, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// When what carries its zero came.
    arrived: Instant,
    /// How long before that it was captured, by its own wall clock and by ours.
    age: Option<Nanos>,
    round_trip: Option<Duration>,
}

impl Reading {
    /// A session's, at the instant `now`, which our wall clock calls `wall`.
    pub(crate) fn of(clock: &SessionClock, now: Instant, wall: SystemTime) -> Self {
        let since = now.saturating_duration_since(clock.arrived);
        let came = wall.checked_sub(since);
        let age = came.zip(clock.captured).map(|(came, captured)| {
            let ahead = |span: Duration| Nanos::try_from(span.as_nanos()).unwrap_or(Nanos::MAX);
            match came.duration_since(captured) {
                Ok(age) => ahead(age),
                Err(ahead_of_us) => -ahead(ahead_of_us.duration()),
            }
        });
        Self {
            arrived: clock.arrived,
            age,
            round_trip: clock.round_trip,
        }
    }

    /// Of a source whose zero came then, and of which no more is known.
    pub(crate) fn at(arrived: Instant) -> Self {
        Self {
            arrived,
            age: None,
            round_trip: None,
        }
    }

    /// How long before it came something was captured, where the publisher's clock can be believed.
    fn believed(&self) -> Option<Nanos> {
        self.age.filter(|age| (-AHEAD..=BEHIND).contains(age))
    }

    fn way(&self) -> Nanos {
        self.round_trip
            .map_or(0, |it| Nanos::try_from(it.as_nanos() / 2).unwrap_or_default())
    }
}

/// What is added to a joined source's times, where `shift` is added to those of the recording's own.
pub(crate) fn align(own: &Reading, shift: Nanos, joined: &Reading) -> (Nanos, AlignedBy) {
    let apart = match joined.arrived.checked_duration_since(own.arrived) {
        Some(span) => Nanos::try_from(span.as_nanos()).unwrap_or(Nanos::MAX),
        None => -Nanos::try_from(own.arrived.duration_since(joined.arrived).as_nanos()).unwrap_or(Nanos::MAX),
    };
    let (later, by) = match (own.believed(), joined.believed()) {
        (Some(own), Some(joined)) => (joined - own, AlignedBy::Clocks),
        _ => {
            // half of what is known of one alone would be worse than nothing
            let both = own.round_trip.is_some() && joined.round_trip.is_some();
            let later = if both { joined.way() - own.way() } else { 0 };
            (later, AlignedBy::Arrival)
        }
    };
    (shift.saturating_add(apart).saturating_sub(later), by)
}

/// What is added to a source's times, on its way to what it should be: by small steps, so that times still climb.
#[derive(Debug)]
pub(crate) struct Glide {
    shift: Nanos,
    newest: Option<MediaTime>,
}

impl Glide {
    pub(crate) fn new(shift: Nanos) -> Self {
        Self { shift, newest: None }
    }

    /// What is added to the times of what the source calls `at`.
    pub(crate) fn step(&mut self, at: MediaTime, wanted: Nanos) -> Nanos {
        let newest = *self.newest.get_or_insert(at);
        let passed = Nanos::try_from(at.since(newest).as_nanos()).unwrap_or_default();
        self.newest = Some(newest.max(at));
        let most = passed / SLOWLY;
        self.shift += wanted.saturating_sub(self.shift).clamp(-most, most);
        self.shift
    }
}

const MILLI: Nanos = 1_000_000;
/// A publisher's clock that says that media was captured so long after it came is wrong.
const AHEAD: Nanos = 100 * MILLI;
/// One that says that it came so long after it was captured is wrong, or the way is too long to tell.
const BEHIND: Nanos = 500 * MILLI;
/// Times move by one part in so many of the time that passes.
const SLOWLY: Nanos = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(arrived: Instant, after_ms: i64, age_ms: Option<i64>, round_trip_ms: Option<u64>) -> Reading {
        Reading {
            arrived: arrived + Duration::from_millis(after_ms as u64),
            age: age_ms.map(|it| it * MILLI),
            round_trip: round_trip_ms.map(Duration::from_millis),
        }
    }

    #[test]
    fn what_was_captured_together_is_shown_together_where_the_clocks_can_be_believed() {
        let start = Instant::now();
        // the own zero came 40 ms after its capture, the joined one's a second later, and 190 ms after its capture
        let own = reading(start, 0, Some(40), None);
        let joined = reading(start, 1_000, Some(190), None);
        assert_eq!(align(&own, 0, &joined), (850 * MILLI, AlignedBy::Clocks));
        // what comes later in the recording lies later
        assert_eq!(
            align(&own, 5_000 * MILLI, &joined),
            (5_850 * MILLI, AlignedBy::Clocks)
        );
        // whoever was there first
        assert_eq!(
            align(&joined, 1_000 * MILLI, &own),
            (150 * MILLI, AlignedBy::Clocks)
        );
    }

    #[test]
    fn a_clock_that_is_wrong_or_silent_leaves_the_arrival_less_half_the_way() {
        let start = Instant::now();
        let own = reading(start, 0, Some(40), Some(20));
        for age in [None, Some(-101), Some(501), Some(86_400_000)] {
            let joined = reading(start, 1_000, age, Some(220));
            assert_eq!(
                align(&own, 0, &joined),
                (900 * MILLI, AlignedBy::Arrival),
                "{age:?}"
            );
        }
        let unknown = reading(start, 1_000, None, None);
        assert_eq!(align(&own, 0, &unknown), (1_000 * MILLI, AlignedBy::Arrival));
        let at = Reading::at(start + Duration::from_millis(70));
        assert_eq!(align(&own, 0, &at), (70 * MILLI, AlignedBy::Arrival));
    }

    #[test]
    fn times_glide_to_where_they_should_be_and_always_climb() {
        for wanted in [90 * MILLI, -90 * MILLI] {
            let mut glide = Glide::new(0);
            let mut last = -1;
            for frame in 0..100_i64 {
                // one picture is decoded before one that is shown before it
                let at = MediaTime::from_millis(if frame % 10 == 5 {
                    frame * 20 - 30
                } else {
                    frame * 20
                });
                let shift = glide.step(at, wanted);
                assert!(frame % 10 == 5 || at.nanos() + shift > last, "frame {frame}");
                last = last.max(at.nanos() + shift);
            }
            assert_eq!(glide.step(MediaTime::from_millis(2_000), wanted), wanted);
        }
    }
}
