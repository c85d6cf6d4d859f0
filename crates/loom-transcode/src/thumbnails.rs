//! Which pictures of a track become thumbnails.

use std::time::Duration;

#[cfg(any(test, feature = "gst"))]
use loom_core::MediaTime;
use serde::{Deserialize, Serialize};

/// Small pictures that are wanted of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thumbnails {
    /// The longer side, pixels.
    pub side: u32,
    /// How far apart they are at first.
    pub every: Duration,
    /// After so many of a distance, the distance doubles, so that a recording of any length has few: with 2 s and 200, 650 in an hour
    /// and 1,540 in a day, and two neighbours are never more than a hundredth of what lies before them apart. Zero: it never doubles.
    pub doubles_after: u32,
}

impl Default for Thumbnails {
    fn default() -> Self {
        Self {
            side: 160,
            every: Duration::from_secs(2),
            doubles_after: 200,
        }
    }
}

impl Thumbnails {
    /// For a file whose length is known: evenly apart, and about as many as a recording of that length would have at most a distance.
    pub(crate) fn for_length(self, length: Option<Duration>) -> Self {
        match length {
            Some(length) if self.doubles_after > 0 => Self {
                every: self.every.max(length / self.doubles_after),
                doubles_after: 0,
                ..self
            },
            _ => self,
        }
    }

    /// Where the stretch begins that `at` lies in; the first picture of a stretch is its thumbnail. It depends on the instant only, so
    /// that a run that begins in the middle goes on where another left off.
    #[cfg(any(test, feature = "gst"))]
    pub(crate) fn stretch(&self, at: MediaTime) -> MediaTime {
        let every = (self.every.as_nanos() as i64).max(1_000_000);
        let at = at.nanos().max(0);
        let (mut step, mut from) = (every, 0_i64);
        if self.doubles_after > 0 {
            let count = i64::from(self.doubles_after);
            while let Some(to) = step.checked_mul(count).and_then(|it| it.checked_add(from))
                && at >= to
            {
                from = to;
                step = step.saturating_mul(2);
            }
        }
        MediaTime::from_nanos(from + (at - from) / step * step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(wanted: &Thumbnails, seconds: i64) -> usize {
        let mut last = None;
        (0..seconds)
            .filter(|second| {
                let stretch = wanted.stretch(MediaTime::from_millis(second * 1_000));
                last.replace(stretch) != Some(stretch)
            })
            .count()
    }

    #[test]
    fn a_day_has_few_thumbnails_and_they_lie_close_for_its_length() {
        let wanted = Thumbnails::default();
        assert_eq!(count(&wanted, 60), 30);
        assert_eq!(count(&wanted, 3_600), 650);
        assert_eq!(count(&wanted, 86_400), 1_540);
        let ms = MediaTime::from_millis;
        assert_eq!(wanted.stretch(ms(399_999)), ms(398_000));
        assert_eq!(wanted.stretch(ms(400_000)), ms(400_000));
        assert_eq!(wanted.stretch(ms(403_999)), ms(400_000));
        assert_eq!(wanted.stretch(ms(404_000)), ms(404_000));
        assert_eq!(wanted.stretch(ms(-5)), ms(0));
        for second in (400..86_400).step_by(7) {
            let at = ms(second * 1_000);
            let apart = at.since(wanted.stretch(at));
            assert!(apart.as_secs_f64() <= second as f64 / 100.0, "{second}");
        }
        let _ = wanted.stretch(MediaTime::from_nanos(i64::MAX));
    }

    #[test]
    fn a_file_has_them_evenly() {
        let short = Thumbnails::default().for_length(Some(Duration::from_secs(30)));
        assert_eq!(count(&short, 30), 15);
        let long = Thumbnails::default().for_length(Some(Duration::from_secs(7_200)));
        assert_eq!(count(&long, 7_200), 200);
        assert_eq!(Thumbnails::default().for_length(None), Thumbnails::default());
    }
}
