//! Where in time the places on sheets of thumbnails lie.

use std::num::NonZeroU32;
use std::time::Duration;

use loom_core::MediaTime;

/// The sheets of thumbnails that there are: how they are divided, and how long each of their pictures is shown. All pictures of one
/// sheet are shown equally long, as DASH wants it (DASH-IF IOP v4.3 §6.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sheets {
    pub(crate) columns: u32,
    pub(crate) rows: u32,
    /// Pixels of one picture.
    pub(crate) cell: (u32, u32),
    pub(crate) grid: Grid,
    /// Places that are filled.
    pub(crate) places: u64,
}

/// When the places on sheets begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// How long the first sheet's pictures are shown, nanoseconds; above zero.
    every: u64,
    /// Places on a sheet; above zero.
    per_sheet: u64,
    /// After so many sheets pictures are shown twice as long; 0: never.
    doubles_after: u64,
}

impl Sheets {
    /// How many sheets are full, and will not change.
    pub(crate) fn full(&self) -> u64 {
        self.places / self.grid.per_sheet
    }

    /// How many sheets there are.
    pub(crate) fn begun(&self) -> u64 {
        self.places.div_ceil(self.grid.per_sheet)
    }

    /// When a sheet's first picture is shown.
    pub(crate) fn starts(&self, sheet: u64) -> MediaTime {
        self.grid.begins(sheet.saturating_mul(self.grid.per_sheet))
    }
}

impl Grid {
    /// Pictures `every` so often, twice as rarely after each `doubles_after` of them (whole sheets; `None`: never).
    pub(crate) fn new(every: Duration, doubles_after: Option<NonZeroU32>, per_sheet: u32) -> Self {
        let per_sheet = u64::from(per_sheet.max(1));
        Self {
            every: u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(SHORTEST),
            per_sheet,
            doubles_after: doubles_after.map_or(0, |count| (u64::from(count.get()) / per_sheet).max(1)),
        }
    }

    /// The place that `at` lies in.
    pub(crate) fn place(&self, at: MediaTime) -> u64 {
        let at = at.nanos().max(0) as u64;
        let (mut from, mut place, mut step) = (0_u64, 0_u64, self.every);
        let count = self.doubles_after * self.per_sheet;
        while count > 0
            && let Some(to) = step.checked_mul(count).and_then(|it| it.checked_add(from))
            && at >= to
        {
            (from, place, step) = (to, place + count, step.saturating_mul(2));
        }
        place + (at - from) / step
    }

    /// When a place begins.
    pub(crate) fn begins(&self, place: u64) -> MediaTime {
        let (mut from, mut left, mut step) = (0_u64, place, self.every);
        let count = self.doubles_after * self.per_sheet;
        while count > 0 && left >= count && from < u64::MAX {
            from = from.saturating_add(step.saturating_mul(count));
            (left, step) = (left - count, step.saturating_mul(2));
        }
        let nanos = from.saturating_add(step.saturating_mul(left));
        MediaTime::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
}

/// A millisecond.
const SHORTEST: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_lies_where_it_begins_and_places_get_longer_from_sheet_to_sheet() {
        let grid = Grid::new(Duration::from_secs(2), NonZeroU32::new(200), 25);
        for place in 0..2_000 {
            let at = grid.begins(place);
            assert_eq!(grid.place(at), place);
            assert_eq!(grid.place(at - Duration::from_nanos(1)), place.saturating_sub(1));
        }
        assert_eq!(grid.begins(200), MediaTime::from_millis(400_000));
        assert_eq!(grid.begins(201), MediaTime::from_millis(404_000));
        let even = Grid::new(Duration::from_millis(9_463), None, 25);
        assert_eq!(even.begins(1_000), MediaTime::from_millis(9_463_000));
        let _ = grid.place(MediaTime::from_nanos(i64::MAX));
        let _ = grid.begins(u64::MAX);
    }
}
