use loom_core::MediaTime;

/// Decides which pictures reach which encoder when live work is late.
///
/// The order: the lowest rung first, then the next above it. A rung that is shed still gets the pictures that start
/// segments, so that its playlist stays whole and it can come back at any of them. Such a picture is never dropped.
#[derive(Debug)]
pub(crate) struct LoadShedder {
    rungs: usize,
    /// How many may be shed: all where the source is kept, else all but the top.
    most: usize,
    /// Pictures an encoder's queue holds.
    capacity: u32,
    shed: usize,
    changed_at: Option<MediaTime>,
    busy_at: Option<MediaTime>,
    /// When it was last told that rungs are shed.
    told_at: Option<MediaTime>,
    dropped: u64,
}

/// What to do with one picture for one encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) encode: bool,
    pub(crate) change: Option<Change>,
}

/// A rung, counted from the top, that is shed, or still is, or comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Shed(usize),
    Restored(usize),
}

impl LoadShedder {
    pub(crate) fn new(rungs: usize, source_is_kept: bool, capacity: u32) -> Self {
        Self {
            rungs,
            most: if source_is_kept {
                rungs
            } else {
                rungs.saturating_sub(1)
            },
            capacity: capacity.max(2),
            shed: 0,
            changed_at: None,
            busy_at: None,
            told_at: None,
            dropped: 0,
        }
    }

    /// Pictures dropped so far, all rungs together.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// A picture comes to the encoder of `rung` (0 is the largest), before which `waiting` pictures wait.
    pub(crate) fn handle_picture(
        &mut self,
        rung: usize,
        waiting: u32,
        starts_segment: bool,
        at: MediaTime,
    ) -> Verdict {
        let mut change = None;
        if waiting * 3 >= self.capacity * 2 {
            self.busy_at = Some(at);
            if self.shed < self.most && self.settled(at, SHED_AFTER_NANOS) {
                self.shed += 1;
                self.changed_at = Some(at);
                change = Some(Change::Shed(self.rungs - self.shed));
            }
        } else if self.shed > 0
            && starts_segment
            && self.settled(at, RESTORE_AFTER_NANOS)
            && self
                .busy_at
                .is_none_or(|busy| at.signed_since(busy) >= RESTORE_AFTER_NANOS)
        {
            change = Some(Change::Restored(self.rungs - self.shed));
            self.shed -= 1;
            self.changed_at = Some(at);
        }
        let is_old = |told: MediaTime| at.signed_since(told) >= TELL_AGAIN_NANOS;
        if change.is_none() && self.shed > 0 && self.told_at.is_none_or(is_old) {
            change = Some(Change::Shed(self.rungs - self.shed));
        }
        if let Some(Change::Shed(_)) = change {
            self.told_at = Some(at);
        }
        let is_shed = rung >= self.rungs - self.shed;
        let encode = starts_segment || (!is_shed && waiting < self.capacity);
        self.dropped += u64::from(!encode);
        Verdict { encode, change }
    }

    fn settled(&self, at: MediaTime, span: i64) -> bool {
        self.changed_at
            .is_none_or(|changed| at.signed_since(changed) >= span)
    }
}

/// After one rung is shed, how long to see whether that was enough.
const SHED_AFTER_NANOS: i64 = 500_000_000;
/// How often it is told again that rungs are shed.
const TELL_AGAIN_NANOS: i64 = 10_000_000_000;
/// How long nothing may have been late before a rung comes back.
const RESTORE_AFTER_NANOS: i64 = 6_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> MediaTime {
        MediaTime::from_millis(ms)
    }

    #[test]
    fn the_lowest_rung_is_shed_first_and_comes_back_last() {
        let mut load = LoadShedder::new(3, true, 10);
        assert_eq!(
            load.handle_picture(0, 7, false, at(0)).change,
            Some(Change::Shed(2))
        );
        assert_eq!(
            load.handle_picture(0, 8, false, at(100)).change,
            None,
            "it waits to see"
        );
        assert!(!load.handle_picture(2, 0, false, at(100)).encode);
        assert!(load.handle_picture(1, 0, false, at(100)).encode);
        assert_eq!(
            load.handle_picture(0, 8, false, at(600)).change,
            Some(Change::Shed(1))
        );
        assert!(!load.handle_picture(1, 0, false, at(600)).encode);
        assert_eq!(load.handle_picture(0, 0, true, at(5_000)).change, None);
        assert_eq!(
            load.handle_picture(0, 0, true, at(7_000)).change,
            Some(Change::Restored(1))
        );
        assert_eq!(
            load.handle_picture(0, 0, true, at(14_000)).change,
            Some(Change::Restored(2))
        );
        assert!(load.handle_picture(2, 0, false, at(14_001)).encode);
    }

    #[test]
    fn that_a_rung_is_still_shed_is_told_again() {
        let mut load = LoadShedder::new(2, true, 10);
        let mut told = Vec::new();
        for ms in (0..25_000).step_by(50) {
            let waiting = if ms % 5_000 == 0 { 8 } else { 0 };
            match load.handle_picture(0, waiting, false, at(ms)).change {
                Some(Change::Shed(rung)) => told.push((ms, rung)),
                other => assert_eq!(other, None),
            }
        }
        // one after the other, and then both at once, by the one that was last
        assert_eq!(told, [(0, 1), (5_000, 0), (15_000, 0)]);
    }

    #[test]
    fn a_picture_that_starts_a_segment_is_never_dropped() {
        let mut load = LoadShedder::new(2, true, 4);
        for ms in 0..2_000 {
            for rung in 0..2 {
                assert!(load.handle_picture(rung, 4, true, at(ms)).encode);
                assert!(!load.handle_picture(rung, 4, false, at(ms)).encode);
            }
        }
        assert_eq!(load.dropped(), 4_000);
    }

    #[test]
    fn the_top_stays_where_the_source_is_not_kept() {
        let mut load = LoadShedder::new(2, false, 4);
        for ms in (0..10_000).step_by(100) {
            load.handle_picture(1, 4, false, at(ms));
        }
        assert!(load.handle_picture(0, 0, false, at(10_000)).encode);
        assert!(!load.handle_picture(1, 0, false, at(10_000)).encode);
    }
}
