use std::collections::VecDeque;
use std::time::Duration;

/// Bit rates as they were.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Measured {
    /// The highest of any segments in a row that last 0.5 to 1.5 target durations together (RFC 8216bis §4.1), bits a second.
    pub(crate) peak: f64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// The same of the key pictures that segments begin with alone.
    pub(crate) frame_peak: f64,
    pub(crate) frame_bytes: u64,
    /// The last segments: how long, how many bytes, and how many of the key picture.
    last: VecDeque<(f64, u64, u64)>,
}

impl Measured {
    /// Takes note of a segment.
    pub(super) fn note(&mut self, length: Duration, bytes: u64, frame: u64, target: Duration) {
        let (length, target) = (length.as_secs_f64(), target.as_secs_f64());
        self.bytes += bytes;
        self.frame_bytes += frame;
        self.seconds += length;
        self.last.push_front((length, bytes, frame));
        let (mut seconds, mut all, mut frames) = (0.0, 0, 0);
        let mut reach = 0;
        for (length, bytes, frame) in &self.last {
            seconds += length;
            // a segment may be half a second longer than the target duration (§4.4.3.1)
            if seconds > target * 1.5 + 0.5 {
                break;
            }
            (all, frames, reach) = (all + bytes, frames + frame, reach + 1);
            if seconds >= target * 0.5 {
                self.peak = self.peak.max(all as f64 * 8.0 / seconds);
                self.frame_peak = self.frame_peak.max(frames as f64 * 8.0 / seconds);
            }
        }
        self.last.truncate(reach);
    }

    /// Takes note of a gap: nothing is fetched of it, so it belongs to no rate.
    pub(super) fn note_gap(&mut self) {
        self.last.clear();
    }

    /// As it is once all is there: what is shorter than half a target duration is its own peak.
    pub(crate) fn whole(&self) -> Self {
        let rate = |bytes: u64| match self.seconds > 0.0 {
            true => bytes as f64 * 8.0 / self.seconds,
            false => 0.0,
        };
        Self {
            peak: self.peak.max(rate(self.bytes)),
            frame_peak: self.frame_peak.max(rate(self.frame_bytes)),
            last: VecDeque::new(),
            ..*self
        }
    }
}
