//! Which pictures need not be encoded, since they show what the one before them shows.

/// One plane of a picture of 8 bits a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plane<'a> {
    /// Its rows, each `stride` bytes after the one before.
    pub(crate) data: &'a [u8],
    /// Bytes from one row to the next.
    pub(crate) stride: usize,
    /// Bytes of a row that are shown.
    pub(crate) width: usize,
}

/// How far two pictures of one format are from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Difference {
    /// The largest sum of absolute differences of [`RUN`] neighbours in a row.
    pub(crate) largest: u32,
    /// Runs that differ by more than [`FAINT`].
    pub(crate) faint: u32,
    /// Runs that were compared.
    pub(crate) runs: u32,
}

impl Difference {
    /// Compares two pictures, up to the first run that can be seen to differ.
    pub(crate) fn between(a: &[Plane<'_>], b: &[Plane<'_>]) -> Self {
        let mut found = Self::default();
        if a.len() != b.len() {
            return Self::all();
        }
        for (a, b) in a.iter().zip(b) {
            if a.width != b.width || a.width == 0 {
                return Self::all();
            }
            let rows = |plane: &Plane<'_>| plane.data.len().div_ceil(plane.stride.max(1));
            if rows(a) != rows(b) {
                return Self::all();
            }
            let rows = a.data.chunks(a.stride.max(1)).zip(b.data.chunks(b.stride.max(1)));
            for (row_a, row_b) in rows {
                let (Some(row_a), Some(row_b)) = (row_a.get(..a.width), row_b.get(..b.width)) else {
                    continue;
                };
                // Whole rows are mostly equal to the byte, which is told at once.
                if row_a == row_b {
                    found.runs += a.width.div_ceil(RUN) as u32;
                    continue;
                }
                for (run_a, run_b) in row_a.chunks(RUN).zip(row_b.chunks(RUN)) {
                    let sum = run_a.iter().zip(run_b).map(|(a, b)| u32::from(a.abs_diff(*b)));
                    let sum: u32 = sum.sum();
                    found.runs += 1;
                    found.faint += u32::from(sum > FAINT);
                    found.largest = found.largest.max(sum);
                    if sum > VISIBLE {
                        return found;
                    }
                }
            }
        }
        found
    }

    fn all() -> Self {
        Self {
            largest: u32::MAX,
            faint: 1,
            runs: 1,
        }
    }

    /// Whether it can be seen: somewhere much, or a little in many places, as film and cameras have it.
    pub(crate) fn is_visible(&self) -> bool {
        self.largest > VISIBLE || u64::from(self.faint) * MOST_FAINT > u64::from(self.runs)
    }
}

/// Decides which pictures are shown. A picture that starts a segment always is, and at least one a second.
#[derive(Debug, Default)]
pub(crate) struct StillGate {
    shown_at: Option<u64>,
    before: Option<u64>,
    /// Of this stretch: pictures compared, and found still.
    compared: u32,
    still: u32,
    /// What moves all the time is not compared until then.
    rests_until: u64,
    dropped: u64,
}

impl StillGate {
    /// Pictures not shown so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What was shown is not known any more.
    #[cfg(feature = "gst")]
    pub(crate) fn forget(&mut self) {
        (self.shown_at, self.before) = (None, None);
    }

    /// The last picture is shown after all.
    #[cfg(feature = "gst")]
    pub(crate) fn take_back(&mut self) {
        self.dropped = self.dropped.saturating_sub(1);
    }

    /// A picture of the time `at`, nanoseconds; `is_still` compares it with the last one that was shown. Gives
    /// whether it is to be shown.
    pub(crate) fn handle_picture(
        &mut self,
        at: u64,
        starts_segment: bool,
        is_still: impl FnOnce() -> bool,
    ) -> bool {
        let interval = self.before.map_or(0, |before| at.saturating_sub(before));
        self.before = Some(at);
        // The next one would be too late.
        let is_due = self
            .shown_at
            .is_none_or(|shown| at.saturating_add(interval) > shown.saturating_add(LONGEST));
        let shows = starts_segment || is_due || at < self.rests_until || !self.compares(at, is_still);
        if shows {
            self.shown_at = Some(at);
        } else {
            self.dropped += 1;
        }
        shows
    }

    fn compares(&mut self, at: u64, is_still: impl FnOnce() -> bool) -> bool {
        let still = is_still();
        self.compared += 1;
        self.still += u32::from(still);
        if self.compared == STRETCH {
            if self.still * LEAST_STILL < STRETCH {
                self.rests_until = at.saturating_add(REST);
            }
            (self.compared, self.still) = (0, 0);
        }
        still
    }
}

/// Samples of a run.
const RUN: usize = 16;
/// The sum of a run above which it can be seen: 6 levels of 256 a sample, or one sample of 96. In recordings of screens
/// by VP8 and VP9 what stands still stays below it, while a pointer that moves comes to 500 and more, and a caret one
/// sample wide to its contrast.
pub(crate) const VISIBLE: u32 = 96;
/// The sum of a run from which on it is not the same: half a level a sample.
const FAINT: u32 = 8;
/// One run in so many may differ faintly in a picture that stands still.
const MOST_FAINT: u64 = 8;
/// The longest time without a picture, nanoseconds.
const LONGEST: u64 = 1_000_000_000;
/// Pictures after which it is asked whether comparing is worth it.
const STRETCH: u32 = 48;
/// It is where one picture in so many is still.
const LEAST_STILL: u32 = 16;
/// How long pictures are not compared where it is not, nanoseconds.
const REST: u64 = 4_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const W: usize = 64;

    fn plane(data: &[u8]) -> [Plane<'_>; 1] {
        [Plane {
            data,
            stride: W,
            width: W,
        }]
    }

    fn changed(places: impl Iterator<Item = (usize, u8)>) -> Difference {
        let before = vec![200u8; W * 32];
        let mut after = before.clone();
        places.for_each(|(at, value)| after[at] = value);
        Difference::between(&plane(&before), &plane(&after))
    }

    #[test]
    fn a_caret_one_sample_wide_is_seen_and_a_lossy_edge_is_not() {
        assert!(changed((8..24).map(|row| (row * W + 21, 0))).is_visible());
        assert!(
            changed(std::iter::once((5 * W + 3, 100))).is_visible(),
            "one sample by 100"
        );
        assert!(
            !changed(std::iter::once((5 * W + 3, 110))).is_visible(),
            "one sample by 90"
        );
        assert!(
            !changed((0..16).map(|at| (9 * W + at, 206))).is_visible(),
            "a run by 6 levels"
        );
        assert!(
            changed((0..16).map(|at| (9 * W + at, 207))).is_visible(),
            "a run by 7 levels"
        );
        assert!(!changed(std::iter::empty()).is_visible());
    }

    #[test]
    fn a_faint_change_everywhere_is_motion() {
        let all = changed((0..W * 32).map(|at| (at, 201)));
        assert!(all.largest < VISIBLE && all.is_visible(), "{all:?}");
        let few = changed((0..W * 3).map(|at| (at, 201)));
        assert!(!few.is_visible(), "{few:?}");
    }

    #[test]
    fn another_format_is_another_picture() {
        let data = vec![0; W * 4];
        let narrow = [Plane {
            data: &data,
            stride: W,
            width: W / 2,
        }];
        assert!(Difference::between(&plane(&data), &narrow).is_visible());
        assert!(Difference::between(&plane(&data), &[]).is_visible());
        assert!(Difference::between(&plane(&data), &plane(&data[W..])).is_visible());
    }

    #[test]
    fn something_is_shown_every_second_and_at_each_start_of_a_segment() {
        for interval in [
            16_666_667u64,
            33_333_333,
            40_000_000,
            100_000_000,
            333_000_000,
            1_000_000_000,
        ] {
            let mut gate = StillGate::default();
            let all: Vec<u64> = (0..400).map(|n| 5_000 + n * interval).collect();
            let shown: Vec<u64> = all
                .iter()
                .enumerate()
                .filter(|(n, at)| gate.handle_picture(**at, n % 70 == 0, || true))
                .map(|(_, at)| *at)
                .collect();
            assert!(
                shown.windows(2).all(|pair| pair[1] - pair[0] <= LONGEST),
                "{interval}"
            );
            for starts in all.iter().step_by(70) {
                assert!(shown.contains(starts));
            }
            assert_eq!(shown.len() as u64 + gate.dropped(), 400);
        }
    }

    #[test]
    fn what_moves_all_the_time_is_hardly_looked_at() {
        let mut gate = StillGate::default();
        let mut looks = 0;
        for n in 0..3_000u64 {
            let shown = gate.handle_picture(n * 33_333_333, false, || {
                looks += 1;
                false
            });
            assert!(shown);
        }
        assert!(looks < 1_000, "{looks}");
        // What then comes to rest is noticed.
        let later = (3_000..3_300u64).filter(|n| !gate.handle_picture(n * 33_333_333, false, || true));
        assert!(later.count() > 100);
    }
}
