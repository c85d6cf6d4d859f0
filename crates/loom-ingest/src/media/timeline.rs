//! One clock for all tracks: RTP timestamps to media time.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

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
/// A sender's wall clock or time stamps that leave what they said before by more than this have been set anew.
const REPORT_STEP: Nanos = 500 * MILLI;
/// A track whose packets come later than they did by this much more than others do lacks what its sender has left out.
const LEFT_OUT: Nanos = 20 * MILLI;
/// Over how long media time is brought back to our clock.
const STRETCH_TIME: Nanos = 20_000 * MILLI;
/// By how much it is stretched at most, in parts in a million: clocks are up to 200 off.
const STRETCH: Nanos = 400;
/// Sender reports remembered of one track. The least late of them counts: senders stamp a report when they send it, and a
/// busy one does so long after it stamped the media.
const REPORTS: usize = 8;

/// Where a track stands in a [`Timeline`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockId(usize);

/// Maps the RTP timestamps of several tracks to one media time.
///
/// Invariant: the first instant asked for is [`MediaTime::ZERO`]. A track is placed by the arrival of its first packet.
/// The first audio track (else the first track) is the reference: it is never moved, only stretched, by at most 400 parts
/// in a million, so that media time keeps to our clock. Another one is moved, at most 5 ms a frame, to where its and the
/// reference's sender reports say (RFC 3550 §6.4.1), or, without those, to where the least delayed packets of both
/// coincide.
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
    /// What they say of where timestamp 0 lies on the senders' wall clock, in nanoseconds since [`EPOCH`].
    reported: Option<Nanos>,
    /// It has had reports: while they are awaited anew, it stays where it is.
    is_reported: bool,
    lag: Lag,
    pace: Pace,
    /// The highest media time given: a track that is placed anew goes on after it.
    latest: Option<Nanos>,
    /// Where the least delayed packets put [`Clock::offset`].
    arrival: Option<Nanos>,
}

/// "This timestamp was captured at this wall-clock instant."
#[derive(Debug, Clone)]
struct Report {
    ntp: NtpTime,
    timestamp: i64,
    /// The [`Clock::arrival`] of each track then.
    arrivals: Vec<Option<Nanos>>,
}

/// Stretches the reference's time by as much as its sender's clock is slower than ours.
#[derive(Debug, Default)]
struct Pace {
    /// How far the least delayed packets were behind media time at first.
    anchor: Option<Nanos>,
    /// How much farther they are now.
    behind: Nanos,
}

/// A stretch of time that ends when it does for all tracks, in nanoseconds since the first packet of any.
#[derive(Debug, Clone, Copy)]
struct Window {
    begun: Nanos,
    /// How far the least delayed packet in it is behind.
    least: Nanos,
}

/// How far behind its own timestamps a track's packets arrive, by the least of a window.
#[derive(Debug, Default)]
struct Lag {
    window: Option<Window>,
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
            reported: None,
            is_reported: false,
            lag: Lag::default(),
            pace: Pace::default(),
            latest: None,
            arrival: None,
        });
        ClockId(self.clocks.len() - 1)
    }

    /// A sender report of the track: `timestamp` was captured at `ntp`.
    pub(crate) fn handle_report(&mut self, id: ClockId, ntp: NtpTime, timestamp: u32) {
        let arrivals = self.clocks.iter().map(|clock| clock.arrival).collect();
        let clock = &mut self.clocks[id.0];
        let Some(last) = clock.last else { return };
        if ntp.0 == 0 {
            return; // "MAY be set to zero" by a sender without a wall clock
        }
        let timestamp = last + i64::from(timestamp.wrapping_sub(last as u32) as i32);
        let report = Report {
            ntp,
            timestamp,
            arrivals,
        };
        let stepped = clock.reports.back().is_some_and(|before| {
            let step = report.ntp.signed_since(before.ntp) - clock.nanos(report.timestamp - before.timestamp);
            step.abs() > REPORT_STEP
        });
        if stepped {
            // what the reports of other tracks say is of the old clock too
            self.clocks.iter_mut().for_each(|clock| clock.reports.clear());
        }
        let clock = &mut self.clocks[id.0];
        clock.is_reported = true;
        if clock.reports.len() == REPORTS {
            clock.reports.pop_front();
        }
        clock.reports.push_back(report);
        self.believe();
    }

    /// The least delayed packets of a window have put a track's [`Clock::offset`] there.
    fn handle_arrival(&mut self, id: ClockId, arrival: Nanos) {
        self.clocks[id.0].arrival = Some(arrival);
        for report in self.clocks.iter_mut().flat_map(|clock| &mut clock.reports) {
            if let Some(then) = report.arrivals.get_mut(id.0) {
                then.get_or_insert(arrival);
            }
        }
        self.believe();
    }

    /// What the reports say, of which the least late counts. A sender that cannot keep up leaves sound out and goes on counting its samples:
    /// from then on its packets come later by so much, while others do not, and what it reported before is meant so much later.
    fn believe(&mut self) {
        let now: Vec<_> = self.clocks.iter().map(|clock| clock.arrival).collect();
        for (at, clock) in self.clocks.iter_mut().enumerate() {
            let meant = |report: &Report| {
                let later = |track: usize| Some(now[track]? - (*report.arrivals.get(track)?)?);
                let road = (0..now.len())
                    .filter(|track| *track != at)
                    .filter_map(later)
                    .min();
                let left_out = later(at).unwrap_or(0) - road.unwrap_or(0).max(0);
                let reported = report.ntp.signed_since(EPOCH) - clock.nanos(report.timestamp);
                reported + if left_out > LEFT_OUT { left_out } else { 0 }
            };
            clock.reported = clock.reports.iter().map(meant).min();
        }
    }

    /// The track starts anew: a new synchronization source, or a new sequence.
    pub(crate) fn handle_reset(&mut self, id: ClockId) {
        let clock = &mut self.clocks[id.0];
        clock.timestamps = RtpTimestampUnwrapper::new();
        clock.forget();
    }

    /// When what carries media time zero came, by the least delayed packets of late, and when it was captured, by the sender's wall clock.
    /// `None` before anything has come.
    pub(crate) fn zero(&self) -> Option<(Instant, Option<SystemTime>)> {
        let zero = self.zero?;
        let reference = &self.clocks[self.reference()?];
        let behind = reference.behind().unwrap_or_default();
        let span = Duration::from_nanos(behind.unsigned_abs());
        let arrived = if behind >= 0 {
            zero.checked_add(span)
        } else {
            zero.checked_sub(span)
        };
        let reported = reference
            .common_zero()
            .or_else(|| self.clocks.iter().find_map(Clock::common_zero));
        Some((arrived?, reported.and_then(wall_clock)))
    }

    /// The track that media time follows: the first sound that has begun, else the first that has.
    fn reference(&self) -> Option<usize> {
        let begun = |clock: &Clock| clock.offset.is_some();
        let sound = |clock: &Clock| clock.kind == MediaKind::Audio && begun(clock);
        let clocks = &self.clocks;
        clocks
            .iter()
            .position(sound)
            .or_else(|| clocks.iter().position(begun))
    }

    /// When the media that carries `timestamp` and whose first packet came at `arrived` is shown or heard.
    pub(crate) fn media_time(&mut self, id: ClockId, timestamp: u32, arrived: Instant) -> MediaTime {
        let zero = *self.zero.get_or_insert(arrived);
        let arrival = signed(arrived, zero);
        let reference = self.reference();
        let is_bent = reference.is_some_and(|reference| reference != id.0);
        let guide = reference
            .and_then(|reference| self.clocks.get(reference))
            .map_or((None, None), |clock| (clock.common_zero(), clock.behind()));
        let clock = &mut self.clocks[id.0];
        let ticks = clock.timestamps.unwrap(timestamp);
        let span = clock.last.map_or(0, |last| clock.nanos(ticks - last));
        clock.last = Some(ticks);
        let elapsed = clock.nanos(ticks);
        // a first picture may have begun to arrive before the sound that is zero
        let mut offset = clock.offset.unwrap_or(arrival.max(0) - elapsed);
        let mut is_placed = clock.offset.is_none();
        match clock.lag.handle(arrival, arrival - (elapsed + offset)) {
            Some(Verdict::Jump(step)) => {
                clock.forget();
                offset += step;
                is_placed = true;
            }
            Some(Verdict::Least(least)) => {
                clock.pace.handle_least(least);
                self.handle_arrival(id, offset + least);
            }
            None => {}
        }
        let clock = &mut self.clocks[id.0];
        if let Some(latest) = clock.latest.filter(|_| is_placed) {
            offset = offset.max(latest + MILLI - elapsed);
        }
        let step = if is_bent {
            clock.pace = Pace::default();
            // pictures that follow each other closely stay in their order
            let back = SLEW.min(span.max(0) / 2);
            clock.error(offset, guide).clamp(-back, SLEW)
        } else {
            clock.pace.step(span)
        };
        clock.lag.handle_step(step);
        clock.offset = Some(offset + step);
        let time = elapsed + offset + step;
        clock.latest = clock.latest.max(Some(time));
        MediaTime::from_nanos(time)
    }
}

impl Clock {
    fn nanos(&self, ticks: i64) -> Nanos {
        MediaTime::from_ticks(ticks, self.scale).nanos()
    }

    /// How far the track lies from where it belongs, by the reference's [`Clock::common_zero`] and by how far the
    /// reference's least delayed packets are behind its media time; zero where nothing is known.
    fn error(&self, offset: Nanos, (common, behind): (Option<Nanos>, Option<Nanos>)) -> Nanos {
        let reported = self
            .reported
            .zip(common)
            .map(|(reported, common)| reported - common - offset);
        let arrived = self
            .arrival
            .zip(behind)
            .map(|(arrival, behind)| arrival - behind - offset);
        if reported.is_none() && self.is_reported {
            return 0;
        }
        reported
            .filter(|error| error.abs() < REPORT_TRUST)
            .or(arrived)
            .unwrap_or(0)
    }

    /// How far the senders' wall clock (as [`Clock::reported`] counts it) is ahead of media time.
    fn common_zero(&self) -> Option<Nanos> {
        Some(self.reported? - self.offset?)
    }

    /// How far the least delayed packets are behind media time.
    fn behind(&self) -> Option<Nanos> {
        Some(self.arrival? - self.offset?)
    }

    fn forget(&mut self) {
        self.offset = None;
        self.arrival = None;
        self.reports.clear();
        self.reported = None;
        self.is_reported = false;
        self.lag = Lag::default();
    }
}

impl Pace {
    fn handle_least(&mut self, least: Nanos) {
        self.behind = least - *self.anchor.get_or_insert(least);
    }

    /// By how much time is stretched over `span`.
    fn step(&mut self, span: Nanos) -> Nanos {
        let span = span.clamp(0, LAG_WINDOW);
        let most = span / 1_000_000 * STRETCH;
        let step = (self.behind / (STRETCH_TIME / span.max(MILLI))).clamp(-most, most);
        self.behind -= step;
        step
    }
}

/// What a [`Lag`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The track must move by this at once to meet its arrival times again.
    Jump(Nanos),
    /// The least lag of the window that ends here.
    Least(Nanos),
}

impl Lag {
    /// Takes the lag behind its media time of one frame that arrived then.
    fn handle(&mut self, arrived: Nanos, lag: Nanos) -> Option<Verdict> {
        let expected = *self.expected.get_or_insert(lag);
        if (lag - expected).abs() > RESET {
            return Some(Verdict::Jump(lag - expected));
        }
        let next = Window {
            begun: arrived,
            least: lag,
        };
        let window = self.window.get_or_insert(next);
        // one that has hardly begun goes on to where the next ends
        let is_over = arrived.div_euclid(LAG_WINDOW) != window.begun.div_euclid(LAG_WINDOW)
            && arrived - window.begun >= LAG_WINDOW / 4 * 3;
        if !is_over {
            window.least = window.least.min(lag);
            return None;
        }
        let error = window.least - expected;
        *window = next;
        if error.abs() > STALE {
            return Some(Verdict::Jump(error));
        }
        self.expected = Some(expected + error.clamp(-LAG_DRIFT, LAG_DRIFT));
        Some(Verdict::Least(expected + error))
    }

    /// The track was moved by `step`, which its lag shrinks by.
    fn handle_step(&mut self, step: Nanos) {
        self.expected = self.expected.map(|expected| expected - step);
        if let Some(window) = &mut self.window {
            window.least -= step;
        }
    }
}

/// An instant that wall clocks are counted from, so that what is near it fits into nanoseconds.
const EPOCH: NtpTime = NtpTime(0xE000_0000_0000_0000);
/// The same since 1970.
const EPOCH_UNIX: Duration = Duration::from_secs(0xE000_0000 - 2_208_988_800);

fn wall_clock(since_epoch: Nanos) -> Option<SystemTime> {
    let epoch = SystemTime::UNIX_EPOCH + EPOCH_UNIX;
    let span = Duration::from_nanos(since_epoch.unsigned_abs());
    if since_epoch >= 0 {
        epoch.checked_add(span)
    } else {
        epoch.checked_sub(span)
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
    fn pictures_a_millisecond_apart_stay_in_their_order() {
        let mut bench = Bench::new();
        bench.audio(0, 20);
        let mut last = bench.video(0, 200) * MILLI;
        bench.reports(0);
        for frame in 1..100 {
            let captured = frame * 33 + frame % 2 * 32;
            let timestamp = VIDEO_BASE.wrapping_add((captured * 90) as u32);
            let arrived = bench.start + Duration::from_millis(200 + captured);
            let now = bench.timeline.media_time(bench.video, timestamp, arrived).nanos();
            assert!(now > last, "frame {frame}: {last} to {now}");
            last = now;
        }
    }

    #[test]
    fn reports_that_are_stamped_late_count_less_than_those_in_time() {
        let mut bench = Bench::new();
        bench.audio(0, 20);
        let mut last = bench.video(0, 300);
        for frame in 1..400u64 {
            bench.audio(frame * 33, 20 + frame * 33);
            last = bench.video(frame * 33, 25 + frame * 33);
            if frame % 30 == 0 {
                // the sender's event loop was busy: the video's report is up to 150 ms behind its media
                let late = frame * 7 % 150;
                let ntp = |millis: u64| NtpTime((0xE900_0000 << 32) + ((millis << 32) / 1000));
                let stamp = |rate: u64| (frame * 33 * rate) as u32;
                bench.timeline.handle_report(
                    bench.audio,
                    ntp(frame * 33 + 3),
                    AUDIO_BASE.wrapping_add(stamp(48)),
                );
                bench.timeline.handle_report(
                    bench.video,
                    ntp(frame * 33 + late),
                    VIDEO_BASE.wrapping_add(stamp(90)),
                );
            }
        }
        assert!((last - 399 * 33).abs() < 40, "{}", last - 399 * 33);
    }

    #[test]
    fn sound_that_its_sender_left_out_is_followed_and_a_road_that_gets_longer_is_not() {
        let mut bench = Bench::new();
        let ntp = |millis: u64| NtpTime((0xE900_0000 << 32) + ((millis << 32) / 1000));
        let mut apart = Vec::new();
        for now in (0..60_000u64).step_by(20) {
            // from the twentieth second on 300 ms of samples are missing, and not counted
            let counted = if now < 20_000 { now } else { now - 300 };
            let road = if (40_000..50_000).contains(&now) { 200 } else { 0 };
            let heard = bench.audio(counted, now + road + 20 + now % 7);
            let seen = bench.video(now, now + road + 25 + now % 11);
            apart.push((now, seen - heard));
            if now % 1_000 == 0 {
                let stamp = VIDEO_BASE.wrapping_add((now * 90) as u32);
                bench.timeline.handle_report(bench.video, ntp(now), stamp);
            }
            if now % 5_000 == 0 {
                let stamp = AUDIO_BASE.wrapping_add((counted * 48) as u32);
                bench.timeline.handle_report(bench.audio, ntp(now), stamp);
            }
        }
        for (now, apart) in apart {
            let settled = (5_000..20_000).contains(&now) || now > 27_000;
            assert!(!settled || apart.abs() <= 12, "{now} ms: {apart} ms");
        }
    }

    #[test]
    fn without_reports_the_least_delayed_packets_bring_video_to_audio() {
        let mut bench = Bench::new();
        bench.audio(0, 20);
        let mut last = bench.video(0, 300);
        assert_eq!(last, 280, "its first picture took long to encode");
        for frame in 1..400 {
            bench.audio(frame * 33, 20 + frame * 33 + frame % 7);
            let now = bench.video(frame * 33, 30 + frame * 33 + frame % 11);
            assert!(
                (28..=38).contains(&(now - last)),
                "frame {frame}: {last} to {now}"
            );
            last = now;
        }
        assert!((last - 399 * 33 - 10).abs() <= 2, "{}", last - 399 * 33);
    }

    #[test]
    fn nothing_lies_before_zero() {
        let mut bench = Bench::new();
        bench.audio(0, 20);
        assert_eq!(
            bench.video(0, 12),
            0,
            "its first packet came before the sound, its last after it"
        );
        assert_eq!(bench.video(33, 46), 33);
    }

    #[test]
    fn audio_is_never_moved() {
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
    fn a_sender_whose_wall_clock_is_set_keeps_its_tracks_in_step() {
        let mut bench = Bench::new();
        bench.audio(0, 20);
        for frame in 0..1_000u64 {
            let at = frame * 33;
            bench.audio(at, 20 + at);
            // a picture takes 60 ms longer than the sound, which reports tell from a clock that is behind
            let now = bench.video(at, 80 + at);
            assert!(
                frame < 60 || (now - at as i64).abs() <= 1,
                "frame {frame} at {now}"
            );
            let ntp = |set: u64| NtpTime((0xE900_0000 << 32) + (((at + set) << 32) / 1000));
            // set by three seconds between the report of the sound and that of the picture
            let (audio_set, video_set) = (frame / 451 * 3_000, frame / 450 * 3_000);
            let stamp = |rate: u64| (at * rate) as u32;
            if frame % 30 == 0 {
                bench
                    .timeline
                    .handle_report(bench.audio, ntp(audio_set), AUDIO_BASE.wrapping_add(stamp(48)));
                bench
                    .timeline
                    .handle_report(bench.video, ntp(video_set), VIDEO_BASE.wrapping_add(stamp(90)));
            }
        }
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
    fn a_track_that_is_placed_anew_does_not_go_back() {
        let mut bench = Bench::new();
        for frame in 0..100 {
            bench.video(frame * 40, frame * 40);
        }
        // the last picture was early, so that the first one after the reset comes before it is over
        assert_eq!(bench.video(4_040, 4_000), 4_040);
        assert_eq!(bench.video(100_000_000, 4_030), 4_041);
        assert_eq!(bench.video(100_000_040, 4_070), 4_081);
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
    fn a_skewed_clock_is_followed_to_15_ms_without_a_step() {
        for slow in [1i64, -1] {
            let mut bench = Bench::new();
            let mut last = None;
            // 200 parts in a million, for an hour and a half; up to 60 ms of jitter
            for frame in 0..270_000i64 {
                let true_ms = frame * 20 + slow * (frame / 250);
                let arrived = (60 + true_ms + frame * 7_919 % 61) as u64;
                let now = bench.audio(frame as u64 * 20, arrived);
                let off = now - true_ms;
                assert!((-15..=15).contains(&off), "frame {frame}: {off} ms");
                assert!(last.is_none_or(|last| (19..=21).contains(&(now - last))));
                last = Some(now);
            }
        }
    }

    #[test]
    fn zero_lies_where_the_least_delayed_packets_and_the_reports_say() {
        let mut bench = Bench::new();
        assert_eq!(bench.timeline.zero(), None);
        // the first packet took 60 ms longer than the fastest
        bench.audio(0, 100);
        for frame in 1..500 {
            bench.audio(frame * 20, 40 + frame * 20 + frame % 7);
        }
        let (arrived, captured) = bench.timeline.zero().unwrap();
        let after = arrived - bench.start;
        assert!((38..=42).contains(&after.as_millis()), "{after:?}");
        assert_eq!(captured, None, "no report has come");
        bench.reports(10_000);
        let (_, captured) = bench.timeline.zero().unwrap();
        // NTP counts from 1900 (RFC 3550 §4), and there were 70 years of which 17 had a leap day
        let unix = 0xE900_0000_u64 - (70 * 365 + 17) * 86_400;
        let off = captured
            .unwrap()
            .duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(unix));
        assert!(off.unwrap() < Duration::from_millis(1), "{captured:?}");
    }

    #[test]
    fn a_new_source_is_placed_by_its_arrival() {
        let mut bench = Bench::new();
        bench.video(0, 0);
        bench.timeline.handle_reset(bench.video);
        assert_eq!(bench.video(77_777, 500), 500);
    }
}
