use std::time::{Duration, Instant};

/// A sender's clock that runs faster or slower than the true one by a constant share.
///
/// Maps both ways without drift: after any time the error is below two nanoseconds, and neither way goes backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkewedClock {
    start: Instant,
    /// How much faster it runs, in parts in a billion.
    billionths: i64,
}

impl SkewedClock {
    /// A clock that reads zero at `start` and runs `ppm` parts in a million fast (above zero) or slow (below), to a
    /// thousandth of a part.
    ///
    /// # Panics
    /// Where `ppm` is not within a million, or is no number.
    pub fn new(ppm: f64, start: Instant) -> Self {
        assert!(ppm.abs() < 1e6, "a clock that is {ppm} ppm off");
        Self {
            start,
            billionths: (ppm * 1_000.0).round() as i64,
        }
    }

    /// What the clock reads at `now`; zero before its start.
    pub fn reading(&self, now: Instant) -> Duration {
        let true_nanos = now.saturating_duration_since(self.start).as_nanos();
        nanos(true_nanos * self.speed() / BILLION)
    }

    /// When the clock reads `reading`.
    pub fn instant(&self, reading: Duration) -> Instant {
        let true_nanos = (reading.as_nanos() * BILLION).div_ceil(self.speed());
        self.start + nanos(true_nanos)
    }

    /// What the clock reads at `now` in ticks of `rate` a second, as an RTP timestamp counts them: from `first`, and
    /// wrapping.
    pub fn timestamp(&self, now: Instant, rate: u32, first: u32) -> u32 {
        let ticks = self.reading(now).as_nanos() * u128::from(rate) / BILLION;
        first.wrapping_add(ticks as u32)
    }

    /// Nanoseconds by this clock in a true second.
    fn speed(&self) -> u128 {
        BILLION.saturating_add_signed(i128::from(self.billionths))
    }
}

const BILLION: u128 = 1_000_000_000;

fn nanos(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clock;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn two_hundred_parts_in_a_million_are_seven_hundred_and_twenty_milliseconds_an_hour() {
        let mut clock = Clock::new();
        let start = clock.now();
        let (fast, slow) = (SkewedClock::new(200.0, start), SkewedClock::new(-200.0, start));
        let exact = SkewedClock::new(0.0, start);
        clock.advance(HOUR);
        assert_eq!(fast.reading(clock.now()), HOUR + Duration::from_millis(720));
        assert_eq!(slow.reading(clock.now()), HOUR - Duration::from_millis(720));
        assert_eq!(exact.reading(clock.now()), HOUR);
    }

    #[test]
    fn a_reading_and_its_instant_agree_after_any_time() {
        let start = Instant::now();
        for ppm in [-500.0, -200.0, -0.001, 0.0, 0.001, 37.5, 200.0] {
            let clock = SkewedClock::new(ppm, start);
            let mut last = None;
            for step in 0..10_000u64 {
                let reading = Duration::from_nanos(step * 33_366_667 * 11);
                let at = clock.instant(reading);
                let back = clock.reading(at);
                assert!(
                    back >= reading && back - reading <= Duration::from_nanos(2),
                    "{ppm} ppm: {reading:?} is {back:?}"
                );
                assert!(last < Some(at), "{ppm} ppm: {reading:?} goes backwards");
                last = Some(at);
            }
        }
    }

    #[test]
    fn timestamps_count_the_skewed_seconds_and_wrap() {
        let start = Instant::now();
        let clock = SkewedClock::new(100.0, start);
        let after =
            |seconds| clock.timestamp(start + Duration::from_secs(seconds), 90_000, u32::MAX - 89_999);
        assert_eq!(after(0), u32::MAX - 89_999);
        assert_eq!(after(1), 9, "a second is nine ticks long");
        assert_eq!(after(3_600), (3_599 * 90_000) + 3_600 * 9);
        assert_eq!(clock.reading(start - Duration::from_secs(1)), Duration::ZERO);
    }
}
