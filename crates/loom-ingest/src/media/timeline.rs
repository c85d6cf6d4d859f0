//! One clock for all tracks: RTP timestamps to media time.

use std::collections::VecDeque;
use std::time::Instant;

use loom_core::{MediaKind, MediaTime, NtpTime, RtpTimestampUnwrapper, Timescale};

/// Nanoseconds, signed.
type Nanos = i64;

const MILLI: Nanos = 1_000_000;
/// The largest step of a track against the others at one frame.
const SLEW: Nanos = 5 * MILLI;
/// Sender reports that disagree with the packets' arrival by more than this are not believed.
const REPORT_TRUST: Nanos = 5_000 * MILLI;
/// A track that leaves its arrival times by this much at once has been reset by its sender.
const RESET: Nanos = 10_000 * MILLI;
/// A track that stays this far from its arrival times has been paused with its clock stopped.
const STALE: Nanos = 1_000 * MILLI;
/// Over how long a lag must stay to count.
const LAG_WINDOW: Nanos = 2_000 * MILLI;
/// How far the expected lag follows a drifting clock in one window: 500 parts in a million.
const LAG_DRIFT: Nanos = MILLI;
/// Sender reports remembered of one track.
const REPORTS: usize = 4;

/// Where a track stands in a [`Timeline`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockId(usize);

/// Maps the RTP timestamps of several tracks to one media time.
///
/// Invariant: the first instant asked for is [`MediaTime::ZERO`]. A track is placed by its packets' arrival first. The
/// audio track (else the first one to send reports) is the reference and is never bent; once sender reports (RFC 3550
/// §6.4.1) of it and of another track are known, the other is moved to where they say, at most 5 ms a frame.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    zero: Option<Instant>,
    clocks: Vec<Clock>,
}

#[derive(Debug)]
struct Clock {
    kind: MediaKind,
    scale: Timescale,
    timestamps: RtpTimestampUnwrapper,
    last: Option<i64>,
    /// Media time of timestamp 0, in nanoseconds.
    offset: Option<Nanos>,
    reports: VecDeque<Report>,
    lag: Lag,
}

/// "This timestamp was captured at this wall-clock instant."
#[derive(Debug, Clone, Copy)]
struct Report {
    ntp: NtpTime,
    timestamp: i64,
}

/// How far behind its own timestamps a track's packets arrive, by the least of a window.
#[derive(Debug, Default)]
struct Lag {
    window: Option<(Instant, Nanos)>,
    expected: Option<Nanos>,
}

impl Timeline {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn add_clock(&mut self, kind: MediaKind, scale: Timescale) -> ClockId {
        self.clocks.push(Clock {
            kind,
            scale,
            timestamps: RtpTimestampUnwrapper::new(),
            last: None,
            offset: None,
            reports: VecDeque::new(),
            lag: Lag::default(),
        });
        ClockId(self.clocks.len() - 1)
    }

    /// A sender report of the track: `timestamp` was captured at `ntp`.
    pub(crate) fn handle_report(&mut self, id: ClockId, ntp: NtpTime, timestamp: u32) {
        let clock = &mut self.clocks[id.0];
        let Some(last) = clock.last else { return };
        if ntp.0 == 0 {
            return; // "MAY be set to zero" by a sender without a wall clock
        }
        let timestamp = last + i64::from(timestamp.wrapping_sub(last as u32) as i32);
        if clock.reports.len() == REPORTS {
            clock.reports.pop_front();
        }
        clock.reports.push_back(Report { ntp, timestamp });
    }

    /// The track starts anew: a new synchronization source, or a new sequence.
    pub(crate) fn handle_reset(&mut self, id: ClockId) {
        let clock = &mut self.clocks[id.0];
        clock.timestamps = RtpTimestampUnwrapper::new();
        clock.forget();
    }

    /// When the media that carries `timestamp` and whose first packet came at `arrived` is shown or heard.
    pub(crate) fn media_time(&mut self, id: ClockId, timestamp: u32, arrived: Instant) -> MediaTime {
        let zero = *self.zero.get_or_insert(arrived);
        let arrival = signed(arrived, zero);
        let reference = self.reference();
        let common = self.common_zero(reference);
        let clock = &mut self.clocks[id.0];
        let ticks = clock.timestamps.unwrap(timestamp);
        clock.last = Some(ticks);
        let elapsed = clock.nanos(ticks);
        let offset = match clock.offset {
            None => arrival - elapsed,
            Some(offset) => match clock.lag.handle(arrived, arrival - (elapsed + offset)) {
                Some(step) => {
                    clock.forget();
                    offset + step
                }
                None => offset,
            },
        };
        clock.offset = Some(offset);
        // where the sender reports of this track and of the reference put it
        let bent = (Some(id.0) != reference)
            .then(|| Some(clock.reported_offset()? - common?))
            .flatten()
            .map(|target| target - offset)
            .filter(|error| error.abs() < REPORT_TRUST)
            .map_or(offset, |error| offset + error.clamp(-SLEW, SLEW));
        clock.offset = Some(bent);
        MediaTime::from_nanos(elapsed + bent)
    }

    /// The clock that the others are laid against: the first audio track with reports, else the first track with them.
    fn reference(&self) -> Option<usize> {
        let ready = |clock: &Clock| clock.offset.is_some() && !clock.reports.is_empty();
        self.clocks
            .iter()
            .position(|clock| clock.kind == MediaKind::Audio && ready(clock))
            .or_else(|| self.clocks.iter().position(ready))
    }

    /// How far the senders' wall clock (as [`Clock::reported_offset`] counts it) is ahead of media time.
    fn common_zero(&self, reference: Option<usize>) -> Option<Nanos> {
        let clock = self.clocks.get(reference?)?;
        Some(clock.reported_offset()? - clock.offset?)
    }
}

impl Clock {
    fn nanos(&self, ticks: i64) -> Nanos {
        MediaTime::from_ticks(ticks, self.scale).nanos()
    }

    /// The senders' wall-clock time of timestamp 0, in nanoseconds since an arbitrary instant that is the same for all
    /// tracks, by the latest report.
    fn reported_offset(&self) -> Option<Nanos> {
        const EPOCH: NtpTime = NtpTime(0xE000_0000_0000_0000);
        let report = self.reports.back()?;
        Some(report.ntp.signed_since(EPOCH) - self.nanos(report.timestamp))
    }

    fn forget(&mut self) {
        self.offset = None;
        self.reports.clear();
        self.lag = Lag::default();
    }
}

impl Lag {
    /// Takes one frame's lag; gives the step by which the track must move to meet its arrival times again.
    fn handle(&mut self, arrived: Instant, lag: Nanos) -> Option<Nanos> {
        let expected = *self.expected.get_or_insert(lag);
        let error = lag - expected;
        if error.abs() > RESET {
            return Some(error);
        }
        let (since, least) = *self.window.get_or_insert((arrived, error));
        let least = least.min(error);
        self.window = Some((since, least));
        if signed(arrived, since) >= LAG_WINDOW {
            self.window = None;
            if least.abs() > STALE {
                return Some(least);
            }
            self.expected = Some(expected + least.clamp(-LAG_DRIFT, LAG_DRIFT));
        }
        None
    }
}

fn signed(later: Instant, earlier: Instant) -> Nanos {
    match later.checked_duration_since(earlier) {
        Some(span) => i64::try_from(span.as_nanos()).unwrap_or(i64::MAX),
        None => -i64::try_from(earlier.duration_since(later).as_nanos()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A sender with one audio and one video track, whose packets arrive by a virtual clock.
    struct Bench {
        timeline: Timeline,
        start: Instant,
        audio: ClockId,
        video: ClockId,
    }

    const AUDIO_BASE: u32 = 4_294_900_000;
    const VIDEO_BASE: u32 = 123_456_789;

    impl Bench {
        fn new() -> Self {
            let mut timeline = Timeline::new();
            let audio = timeline.add_clock(MediaKind::Audio, Timescale::OPUS);
            let video = timeline.add_clock(MediaKind::Video, Timescale::VIDEO);
            Self {
                timeline,
                start: Instant::now(),
                audio,
                video,
            }
        }

        fn audio(&mut self, captured_ms: u64, arrived_ms: u64) -> i64 {
            let timestamp = AUDIO_BASE.wrapping_add((captured_ms * 48) as u32);
            let arrived = self.start + Duration::from_millis(arrived_ms);
            self.timeline.media_time(self.audio, timestamp, arrived).millis()
        }

        fn video(&mut self, captured_ms: u64, arrived_ms: u64) -> i64 {
            let timestamp = VIDEO_BASE.wrapping_add((captured_ms * 90) as u32);
            let arrived = self.start + Duration::from_millis(arrived_ms);
            self.timeline.media_time(self.video, timestamp, arrived).millis()
        }

        fn reports(&mut self, captured_ms: u64) {
            let ntp = NtpTime((0xE900_0000 << 32) + ((captured_ms << 32) / 1000));
            let audio = AUDIO_BASE.wrapping_add((captured_ms * 48) as u32);
            let video = VIDEO_BASE.wrapping_add((captured_ms * 90) as u32);
            self.timeline.handle_report(self.audio, ntp, audio);
            self.timeline.handle_report(self.video, ntp, video);
        }
    }

    #[test]
    fn the_first_media_is_zero_and_jitter_does_not_show() {
        let mut bench = Bench::new();
        assert_eq!(bench.audio(0, 100), 0);
        assert_eq!(bench.audio(20, 160), 20);
        assert_eq!(bench.audio(40, 141), 40);
        assert_eq!(bench.video(50, 170), 70, "placed by its arrival");
        assert_eq!(bench.video(83, 300), 103);
    }

    #[test]
    fn sender_reports_bring_video_to_audio_by_small_steps() {
        let mut bench = Bench::new();
        bench.audio(0, 20);
        // the first picture took 180 ms longer on the way than the sound did
        let mut last = bench.video(0, 200);
        assert_eq!(last, 180);
        bench.reports(0);
        for frame in 1..100 {
            let now = bench.video(frame * 33, 200 + frame * 33);
            bench.audio(frame * 33, 20 + frame * 33);
            assert!(
                (28..=38).contains(&(now - last)),
                "frame {frame}: {last} to {now}"
            );
            last = now;
        }
        assert_eq!(last, 99 * 33, "in step with the sound to the millisecond");
    }

    #[test]
    fn audio_is_never_bent() {
        let mut bench = Bench::new();
        bench.video(0, 20);
        let first = bench.audio(0, 250);
        bench.reports(0);
        for frame in 1..200 {
            bench.video(frame * 20, 20 + frame * 20);
            assert_eq!(
                bench.audio(frame * 20, 250 + frame * 20),
                first + frame as i64 * 20
            );
        }
        assert_eq!(bench.video(4_000, 4_020), first + 4_000);
    }

    #[test]
    fn reports_that_contradict_the_arrival_are_not_believed() {
        let mut bench = Bench::new();
        bench.audio(0, 20);
        bench.video(0, 20);
        bench.reports(0);
        let lie = NtpTime(0xE900_1000 << 32);
        let stamp = VIDEO_BASE;
        bench.timeline.handle_report(bench.video, lie, stamp);
        assert_eq!(bench.video(33, 53), 33);
        bench.timeline.handle_report(bench.video, NtpTime(0), stamp);
        assert_eq!(bench.video(66, 86), 66);
    }

    #[test]
    fn timestamps_wrap_within_a_recording() {
        let mut bench = Bench::new();
        for second in 0..30 {
            // AUDIO_BASE is 67,296 ticks before the wrap
            assert_eq!(bench.audio(second * 1_000, second * 1_000), second as i64 * 1_000);
        }
    }

    #[test]
    fn a_sender_that_resets_its_clock_goes_on_where_it_was() {
        let mut bench = Bench::new();
        for frame in 0..100 {
            bench.video(frame * 40, frame * 40);
        }
        let after = bench.video(100_000_000, 4_000);
        assert_eq!(after, 4_000);
        assert_eq!(bench.video(100_000_040, 4_040), 4_040);
    }

    #[test]
    fn a_clock_that_stood_still_in_a_pause_catches_up() {
        let mut bench = Bench::new();
        for frame in 0..100 {
            bench.audio(frame * 20, frame * 20);
        }
        // 30 s of pause, after which the timestamps go on as if nothing had been
        let mut last = 0;
        for frame in 100..300 {
            last = bench.audio(frame * 20, 30_000 + frame * 20);
        }
        assert_eq!(last, 30_000 + 299 * 20);
    }

    #[test]
    fn a_burst_after_an_outage_is_no_pause() {
        let mut bench = Bench::new();
        for frame in 0..500 {
            let captured = frame * 20;
            let arrived = if (2_000..6_000).contains(&captured) {
                6_000 + frame / 50
            } else {
                captured
            };
            assert_eq!(bench.audio(captured, arrived), captured as i64);
        }
    }

    #[test]
    fn a_skewed_clock_is_not_taken_for_a_pause() {
        let mut bench = Bench::new();
        // 200 parts in a million slow, for an hour and a half
        for second in 0..5_400u64 {
            let arrived = second * 1_000 + second / 5;
            assert_eq!(bench.audio(second * 1_000, arrived), second as i64 * 1_000);
        }
    }

    #[test]
    fn a_new_source_is_placed_by_its_arrival() {
        let mut bench = Bench::new();
        bench.video(0, 0);
        bench.timeline.handle_reset(bench.video);
        assert_eq!(bench.video(77_777, 500), 500);
    }
}
