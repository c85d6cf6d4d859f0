use std::time::Duration;

use loom_core::MediaTime;

/// How late a publisher is with all that it sends, its machine being busy or its road stalling: by how much the promptest of its packets came
/// behind media time lately. What is later than that is late by itself.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    /// Since when `least` is looked for.
    since: MediaTime,
    least: Option<Duration>,
    /// Of the time before.
    before: Option<Duration>,
}

impl Lag {
    /// A packet of `pts` has come, media time having come to `now`.
    pub(crate) fn note(&mut self, now: MediaTime, pts: MediaTime) {
        let passed = now.since(self.since);
        if passed >= LATELY || now < self.since {
            let fresh = passed < LATELY * 2 && now >= self.since;
            self.before = self.least.take().filter(|_| fresh);
            self.since = now;
        }
        let late = now.since(pts);
        self.least = Some(self.least.map_or(late, |least| least.min(late)));
    }

    /// As of the last packet.
    pub(crate) fn get(&self) -> Duration {
        let known = self.least.into_iter().chain(self.before);
        known.min().unwrap_or_default().min(MOST)
    }
}

/// What is looked at: this long, and as long before.
const LATELY: Duration = Duration::from_millis(500);
/// A publisher who is later than this is not waited for.
const MOST: Duration = Duration::from_secs(12);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: i64) -> MediaTime {
        MediaTime::from_millis(at)
    }

    #[test]
    fn the_promptest_packet_of_late_counts() {
        let mut lag = Lag::default();
        assert_eq!(lag.get(), Duration::ZERO);
        for at in (0..10_000).step_by(20) {
            lag.note(ms(at), ms(at - 40));
            lag.note(ms(at), ms(at - 900)); // another that is late by itself
        }
        assert_eq!(lag.get(), Duration::from_millis(40));
        // falls behind, and catches up again
        for at in (10_000..16_000).step_by(20) {
            lag.note(ms(at), ms(at - 40 - (at - 10_000) / 2));
        }
        assert!((2_000..=3_040).contains(&lag.get().as_millis()), "{lag:?}");
        lag.note(ms(16_020), ms(16_000));
        assert_eq!(lag.get(), Duration::from_millis(20));
        // what comes behind a silence is alone with what it says, and who is later than anybody waits is not waited for
        lag.note(ms(18_000), ms(16_100));
        assert_eq!(lag.get(), Duration::from_millis(1_900));
        lag.note(ms(60_000), ms(16_200));
        assert_eq!(lag.get(), MOST);
    }
}
