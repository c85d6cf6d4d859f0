use std::time::{Duration, Instant};

/// How loud a track of sound is now: the loudest of the last quarter to half second, in dBov, decibels below the loudest that can be told (RFC 6464
/// §3): 0 is that, -127 is silence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LevelMeter {
    /// When the window began, and the loudest in it.
    window: Option<(Instant, i8)>,
    /// The loudest of the window before.
    before: Option<i8>,
    newest: Option<Instant>,
}

impl LevelMeter {
    /// Takes the level of a packet or frame, -127 to 0 dBov.
    pub fn handle_level(&mut self, level: i8, now: Instant) {
        self.newest = Some(now);
        match &mut self.window {
            Some((since, loudest)) if now.saturating_duration_since(*since) < WINDOW => {
                *loudest = (*loudest).max(level);
            }
            _ => self.before = self.window.replace((now, level)).map(|(_, loudest)| loudest),
        }
    }

    /// Takes interleaved samples in -1.0 ..= 1.0: their root mean square counts.
    pub fn handle_samples(&mut self, samples: &[f32], now: Instant) {
        let power: f64 = samples.iter().map(|it| f64::from(*it) * f64::from(*it)).sum();
        let mean = power / samples.len().max(1) as f64;
        let level = (10.0 * mean.log10()).clamp(SILENCE.into(), 0.0).round();
        self.handle_level(level as i8, now);
    }

    /// The level; silence where nothing has come for a second, `None` where nothing ever has.
    pub fn level(&self, now: Instant) -> Option<i8> {
        let (_, loudest) = self.window?;
        let is_old = now.saturating_duration_since(self.newest?) > GONE;
        Some(match is_old {
            true => SILENCE,
            false => self.before.map_or(loudest, |before| before.max(loudest)),
        })
    }
}

const WINDOW: Duration = Duration::from_millis(250);
const GONE: Duration = Duration::from_secs(1);
const SILENCE: i8 = -127;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_the_loudest_of_late_and_fades_when_nothing_comes() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut meter = LevelMeter::default();
        assert_eq!(meter.level(start), None);
        for (millis, level) in [(0, -60), (100, -12), (200, -40), (300, -50), (400, -45)] {
            meter.handle_level(level, at(millis));
        }
        assert_eq!(meter.level(at(400)), Some(-12));
        for millis in [600, 700, 900] {
            meter.handle_level(-50, at(millis));
        }
        assert_eq!(
            meter.level(at(900)),
            Some(-50),
            "the loud one is half a second ago"
        );
        assert_eq!(meter.level(at(2_000)), Some(-127));
    }

    #[test]
    fn samples_have_the_level_of_their_power() {
        let now = Instant::now();
        let level = |samples: &[f32]| {
            let mut meter = LevelMeter::default();
            meter.handle_samples(samples, now);
            meter.level(now).unwrap()
        };
        // a sine has half the power of a square wave (RFC 6464 §3: 0 dBov is the power of the loudest that can be)
        let sine: Vec<f32> = (0..4_800)
            .map(|n| (n as f32 * std::f32::consts::TAU / 48.0).sin())
            .collect();
        assert_eq!(level(&sine), -3);
        assert_eq!(level(&[1.0, -1.0, 1.0, -1.0]), 0);
        assert_eq!(level(&[0.1; 8]), -20);
        assert_eq!((level(&[0.0; 8]), level(&[])), (-127, -127));
    }
}
