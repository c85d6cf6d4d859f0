use std::time::Duration;

use loom_core::{MediaTime, WallClock};

/// Where the recording was paused, and how long by the wall clock: media time does not grow meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pauses(Vec<(MediaTime, Duration)>);

impl Pauses {
    /// The media goes on at `at` after so long.
    pub(crate) fn push(&mut self, at: MediaTime, paused: Duration) {
        self.0.push((at, paused));
    }

    /// How long the recording was paused before it came to `at`.
    pub(crate) fn before(&self, at: MediaTime) -> Duration {
        let passed = self.0.iter().filter(|(resumed, _)| *resumed <= at + ROUNDING);
        passed.map(|(_, paused)| *paused).sum()
    }

    /// Where the recording's zero would lie for what happens at `at`.
    pub(crate) fn shift(&self, zero: WallClock, at: MediaTime) -> WallClock {
        WallClock {
            zero: zero.zero + self.before(at),
        }
    }
}

/// An instant in ticks lies so far off the same in nanoseconds.
const ROUNDING: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_a_pause_is_later_by_it() {
        let (ms, secs) = (MediaTime::from_millis, Duration::from_secs);
        let mut pauses = Pauses::default();
        pauses.push(ms(4_000), secs(60));
        pauses.push(ms(9_000), secs(5));
        let before = [3_999, 4_000, 8_000, 9_000].map(|at| pauses.before(ms(at)).as_secs());
        assert_eq!(before, [0, 60, 60, 65]);
        assert_eq!(
            pauses.before(ms(4_000) - Duration::from_micros(50)),
            secs(60),
            "ticks are coarse"
        );
    }
}
