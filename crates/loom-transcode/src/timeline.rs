use loom_core::{MediaTime, Timescale};

use crate::limits;

/// Places decoded sound on an unbroken line of samples: holes become silence, overlaps are cut, small jitter is not
/// followed. So what is encoded from it has exact, contiguous times, and stays within the tolerance of the source's.
#[derive(Debug)]
pub(crate) struct SampleTimeline {
    scale: Timescale,
    start: Option<i64>,
    /// The tick after the last sample.
    next: i64,
}

/// Where a stretch of sound goes: first `silence` frames, then the stretch without its first `skip` frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Placement {
    /// The tick of the first frame of it all.
    pub(crate) at: i64,
    pub(crate) silence: u64,
    pub(crate) skip: u64,
    /// Frames of the stretch that are used.
    pub(crate) take: u64,
}

impl SampleTimeline {
    pub(crate) fn new(scale: Timescale) -> Self {
        Self {
            scale,
            start: None,
            next: 0,
        }
    }

    /// A line that begins at `start` whatever comes: what is before it is cut, what is missing is silence.
    #[cfg(any(test, feature = "gst"))]
    pub(crate) fn starting_at(start: MediaTime, scale: Timescale) -> Self {
        let tick = start.ticks(scale);
        Self {
            scale,
            start: Some(tick),
            next: tick,
        }
    }

    /// Sound of `frames` samples a channel that is heard at `pts`.
    pub(crate) fn handle_sound(&mut self, pts: MediaTime, frames: u64) -> Placement {
        let wanted = pts.ticks(self.scale);
        if self.start.is_none() {
            self.start = Some(wanted);
            self.next = wanted;
        }
        let off = wanted - self.next;
        let mut placed = Placement {
            at: self.next,
            silence: 0,
            skip: 0,
            take: frames,
        };
        let tolerance = i64::from(self.scale.hz()) * TOLERANCE_MILLIS / 1000;
        let longest = limits::MAX_SILENCE.as_secs() as i64 * i64::from(self.scale.hz());
        if off > tolerance && off <= longest {
            placed.silence = off as u64;
        } else if off < -tolerance {
            placed.skip = off.unsigned_abs().min(frames);
            placed.take = frames - placed.skip;
        }
        self.next += (placed.silence + placed.take) as i64;
        placed
    }

    /// There is no sound up to `pts`, and what comes later will not reach back before it.
    #[cfg(any(test, feature = "gst"))]
    pub(crate) fn handle_silence_until(&mut self, from: MediaTime, pts: MediaTime) -> Option<Placement> {
        let wanted = pts.ticks(self.scale);
        if self.start.is_none() {
            let from = from.ticks(self.scale);
            self.start = Some(from);
            self.next = from;
        }
        let off = wanted - self.next;
        let longest = limits::MAX_SILENCE.as_secs() as i64 * i64::from(self.scale.hz());
        (1..=longest).contains(&off).then(|| {
            let at = self.next;
            self.next = wanted;
            Placement {
                at,
                silence: off as u64,
                ..Placement::default()
            }
        })
    }

    /// When the last sample ends, once there is one.
    pub(crate) fn end(&self) -> Option<MediaTime> {
        self.start.map(|_| MediaTime::from_ticks(self.next, self.scale))
    }
}

/// How far a stretch may lie from where its samples would put it before it is moved there.
const TOLERANCE_MILLIS: i64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: i64) -> MediaTime {
        MediaTime::from_millis(ms)
    }

    #[test]
    fn jitter_is_not_followed_and_a_hole_is_silence() {
        let mut line = SampleTimeline::new(Timescale::OPUS);
        let first = line.handle_sound(ms(1_000), 960);
        assert_eq!((first.at, first.silence, first.take), (48_000, 0, 960));
        let second = line.handle_sound(ms(1_035), 960);
        assert_eq!(
            (second.at, second.silence, second.skip),
            (48_960, 0, 0),
            "15 ms late"
        );
        let third = line.handle_sound(ms(2_000), 960);
        assert_eq!((third.at, third.silence), (49_920, 96_000 - 49_920));
        assert_eq!(line.end(), Some(ms(2_020)));
    }

    #[test]
    fn an_overlap_is_cut() {
        let mut line = SampleTimeline::new(Timescale::OPUS);
        line.handle_sound(ms(0), 4_800);
        let back = line.handle_sound(ms(70), 4_800);
        assert_eq!((back.at, back.skip, back.take), (4_800, 1_440, 3_360));
        let all = line.handle_sound(ms(20), 960);
        assert_eq!((all.skip, all.take), (960, 0));
    }

    #[test]
    fn sound_that_never_begins_is_silence_from_the_picture_on() {
        let mut line = SampleTimeline::new(Timescale::OPUS);
        let made = line.handle_silence_until(ms(0), ms(500)).unwrap();
        assert_eq!((made.at, made.silence), (0, 24_000));
        assert_eq!(line.handle_silence_until(ms(0), ms(400)), None);
        assert_eq!(line.handle_sound(ms(480), 960).skip, 0, "20 ms are tolerated");
    }

    #[test]
    fn a_line_with_a_given_start_cuts_what_is_before_it() {
        let mut line = SampleTimeline::starting_at(ms(0), Timescale::OPUS);
        let before = line.handle_sound(ms(-100), 4_800 + 960);
        assert_eq!((before.at, before.skip, before.take), (0, 4_800, 960));
        let mut line = SampleTimeline::starting_at(ms(0), Timescale::OPUS);
        assert_eq!(line.handle_sound(ms(500), 960).silence, 24_000);
    }

    #[test]
    fn a_leap_of_the_clock_is_not_filled() {
        let mut line = SampleTimeline::new(Timescale::OPUS);
        line.handle_sound(ms(0), 960);
        let leap = line.handle_sound(ms(100 * 3_600_000), 960);
        assert_eq!((leap.at, leap.silence, leap.take), (960, 0, 960));
    }
}
