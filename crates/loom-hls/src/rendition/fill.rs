use std::collections::VecDeque;
use std::time::Duration;

use loom_core::{MediaKind, MediaTime};

use crate::clock::{ROUNDING, SegmentClock};
use crate::cmaf::Sample;
use crate::error::HlsError;
use crate::publish::HlsOutput;
use crate::rendition::{MediaTrack, Pending};

/// Pictures that stand longer than a part may last.
impl MediaTrack {
    /// Repeats the picture held back, up to `next`, where another comes in the segment `number`: wherever a part must end, so that
    /// none is longer than its target nor shorter than 85 % of it (RFC 8216bis §4.4.4.9), and where a segment begins in between.
    pub(super) fn fill(
        &mut self,
        next: u64,
        number: u64,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        let Some(part) = self.part.filter(|_| self.kind == MediaKind::Video) else {
            return Ok(());
        };
        let target = self.ticks_down(part);
        let rounding = self.ticks(ROUNDING);
        while let (Some(open), Some(pending)) = (&self.open, &self.pending) {
            let at = pending.sample.dts;
            let begun = match (at - open.part_start) * 100 >= target * 85 {
                true => at, // the part ends before the picture
                false => open.part_start,
            };
            let last = number - u64::from(self.fresh && number > open.number);
            let boundary = (last > open.number)
                .then(|| self.boundary(clock, open.number + 1))
                .flatten()
                .filter(|boundary| *boundary > at && boundary + rounding < next);
            let (from, crosses) = match boundary {
                Some(boundary) if boundary <= begun + target => (boundary, Some(open.number + 1)),
                _ => (begun + target, None),
            };
            if from >= next || from <= at {
                return Ok(());
            }
            let Some(data) = self.repeater.repeat() else {
                return Ok(());
            };
            if let Some(mut before) = self.pending.take() {
                before.sample.duration = (from - at) as u32;
                self.push(before.sample, out)?;
            }
            if let Some(number) = crosses {
                self.listing.independent = false;
                self.cross(number, from, clock, out)?;
            }
            self.pending = Some(Pending {
                sample: Sample {
                    dts: from,
                    duration: 0,
                    offset: 0,
                    key: false,
                    data,
                },
                told: None,
            });
        }
        Ok(())
    }

    /// All renditions end at `end`: what one lacks of it, because its encoder still held it, its last picture stands for.
    pub(crate) fn catch_up(
        &mut self,
        end: MediaTime,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        let lacks = self.natural_end().map(|own| end.since(own));
        if self.ended || lacks.is_none_or(|lacks| lacks > HELD_BY_ENCODER) {
            return Ok(());
        }
        let until = end.ticks(self.scale).max(0) as u64;
        self.fill(until, clock.segment_at(end - ROUNDING), clock, out)
    }
}

/// The most that an encoder holds back and never gives.
const HELD_BY_ENCODER: Duration = Duration::from_secs(1);
