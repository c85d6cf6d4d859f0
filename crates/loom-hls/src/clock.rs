use std::time::Duration;

use loom_core::MediaTime;

use crate::config::PackagerConfig;

/// The one list of segment boundaries that every rendition of a recording obeys.
///
/// The first video rendition that shows a key frame late enough defines a boundary there; the others cut at the same instant.
/// Where there are no pictures, sound cuts at even distances. A boundary, once defined, never moves.
#[derive(Debug)]
pub(crate) struct SegmentClock {
    /// A key frame this long after a boundary makes the next: a little less than the segment aimed at, so that a publisher
    /// whose key frames come a touch early does not get segments of twice the length.
    enough: Duration,
    /// The same for the first segment: shorter, because players want a whole segment before they start.
    enough_first: Duration,
    segment: Duration,
    target: Duration,
    wait: Option<Duration>,
    starts: Vec<Start>,
    /// The latest picture of any rendition: no boundary comes at or before it any more.
    pictures: Option<MediaTime>,
    /// The latest key frame, and how far apart they were when last none was missing.
    key: Option<MediaTime>,
    rhythm: Duration,
    /// Whether there is a key frame in the newest segment.
    keyed: bool,
    leads: Lead,
}

/// Where a segment starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) at: MediaTime,
    pub(crate) discontinuity: bool,
}

/// Who says where segments end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lead {
    Pictures,
    Sound,
}

impl SegmentClock {
    pub(crate) fn new(config: &PackagerConfig) -> Self {
        let first = if config.low_latency {
            config.segment / 4
        } else {
            config.segment
        };
        Self {
            enough: config.segment - config.segment / 8,
            enough_first: first - first / 8,
            segment: config.segment,
            target: config.target_duration,
            wait: config.audio_wait,
            starts: Vec::new(),
            pictures: None,
            key: None,
            rhythm: config.segment,
            keyed: false,
            leads: Lead::Sound,
        }
    }

    /// Sound that has come to `head` may have been placed: pictures that lead from then on make no boundary before it.
    pub(crate) fn lead(&mut self, by: Lead, head: MediaTime) {
        if self.started() && (self.leads, by) == (Lead::Sound, Lead::Pictures) {
            self.pictures = self.pictures.max(Some(head));
        }
        self.leads = by;
    }

    pub(crate) fn started(&self) -> bool {
        !self.starts.is_empty()
    }

    /// The newest segment's media sequence number.
    pub(crate) fn newest(&self) -> u64 {
        (self.starts.len() as u64 + FIRST).saturating_sub(1)
    }

    /// Where the newest segment starts.
    pub(crate) fn newest_start(&self) -> Option<MediaTime> {
        self.starts.last().map(|s| s.at)
    }

    pub(crate) fn start(&self, segment: u64) -> Option<Start> {
        self.starts
            .get(usize::try_from(segment.checked_sub(FIRST)?).ok()?)
            .copied()
    }

    /// The segment that `at` lies in.
    pub(crate) fn segment_at(&self, at: MediaTime) -> u64 {
        let begun = self.starts.partition_point(|s| s.at <= at) as u64;
        begun.max(1) - 1 + FIRST
    }

    /// The segment that a picture lies in: encoders round times, so a boundary takes a picture just before it.
    pub(crate) fn segment_of_picture(&self, at: MediaTime) -> u64 {
        self.segment_at(at + ROUNDING)
    }

    /// How many discontinuities lie at or before the start of `segment`, the first one's not counted.
    pub(crate) fn discontinuities_to(&self, segment: u64) -> u64 {
        let upto = (segment + 1).saturating_sub(FIRST) as usize;
        self.starts.iter().take(upto).filter(|s| s.discontinuity).count() as u64
    }

    /// Sound whose middle lies before this can be placed: no boundary will come there.
    pub(crate) fn settled(&self) -> MediaTime {
        let Some(last) = self.starts.last().filter(|_| self.leads == Lead::Pictures) else {
            return MediaTime::from_nanos(i64::MAX);
        };
        if self.pictures.is_none() && self.starts.len() == 1 {
            return last.at; // the first picture may come behind sound that it precedes
        }
        let soonest = last.at + self.enough();
        self.pictures.map_or(soonest, |p| p.max(soonest))
    }

    /// A picture that has no say in where segments begin can be placed before this.
    pub(crate) fn settled_aside(&self) -> MediaTime {
        self.pictures
            .map_or(MediaTime::from_nanos(i64::MIN), |p| p - ASIDE)
    }

    /// The segment that such a picture begins, or lies in: its key frame may be a little before the main picture's.
    pub(crate) fn segment_of_aside(&self, at: MediaTime, key: bool) -> u64 {
        if key {
            self.segment_at(at + ASIDE)
        } else {
            self.segment_of_picture(at)
        }
    }

    /// Whether `at` lies so far ahead of everything before it that it cannot be meant.
    pub(crate) fn is_absurd(&self, at: MediaTime) -> bool {
        self.starts
            .last()
            .is_some_and(|last| at.since(last.at) > self.target * JUMP)
    }

    /// Takes note of a picture, and defines a boundary there where it is time. The first may come behind sound that it precedes: it is where the
    /// recording begins, then.
    pub(crate) fn see_picture(&mut self, at: MediaTime, key: bool) {
        self.begin(at);
        if let [first] = self.starts.as_mut_slice()
            && self.pictures.is_none()
        {
            first.at = first.at.min(at);
        }
        if self.pictures.is_some_and(|p| at <= p) {
            return;
        }
        self.pictures = Some(at);
        self.bridge(at);
        if key {
            self.see_key(at);
        }
    }

    /// Defines a boundary at a key frame where it is time. A segment that found none to begin with goes on past the first that comes, where
    /// another is to be expected within the target duration: so it has one, as each should (RFC 8216bis §3).
    fn see_key(&mut self, at: MediaTime) {
        let apart = self.key.replace(at).map(|before| at.since(before));
        if let Some(apart) = apart.filter(|apart| *apart <= self.target) {
            self.rhythm = apart;
        }
        let goes_on = !self.keyed && self.elapsed(at) + self.rhythm <= self.target;
        if self.elapsed(at) >= self.enough() && !goes_on {
            self.push(at, false);
        }
        self.keyed = true;
    }

    /// Takes note of a picture that has no say in where segments begin, unless the main one has been silent for too long: then
    /// its key frames define boundaries.
    pub(crate) fn see_aside(&mut self, at: MediaTime, key: bool) {
        self.begin(at);
        if at.since(self.pictures.unwrap_or(self.starts[0].at)) <= ASIDE_WAIT {
            return;
        }
        self.bridge(at);
        if key {
            self.see_key(at);
        }
    }

    /// Takes note that no picture comes before `at` any more.
    pub(crate) fn see_still(&mut self, at: MediaTime) {
        if self.started() && self.pictures.is_some_and(|p| p < at) {
            self.pictures = Some(at);
            self.bridge(at);
        }
    }

    /// Takes note of sound, and defines a boundary where it leads, or where the pictures have kept it waiting too long.
    pub(crate) fn see_sound(&mut self, at: MediaTime) {
        self.begin(at);
        loop {
            let length = match (self.leads, self.wait) {
                (Lead::Sound, _) if self.starts.len() == 1 => self.enough_first,
                (Lead::Sound, _) => self.segment,
                (Lead::Pictures, Some(wait)) => (self.segment + wait).min(self.target),
                (Lead::Pictures, None) => return,
            };
            if self.elapsed(at) < length {
                return;
            }
            let boundary = self.starts[self.starts.len() - 1].at + length;
            if self.leads == Lead::Pictures && self.pictures.is_some_and(|p| boundary <= p) {
                return; // the pictures stand beyond it already, and make the next
            }
            self.push(boundary, false);
        }
    }

    /// Takes note that there is sound up to `at`, or silence in its place: where sound leads, segments go on.
    pub(crate) fn see_silence(&mut self, at: MediaTime) {
        if self.started() && self.leads == Lead::Sound {
            self.see_sound(at);
        }
    }

    /// Defines a boundary at `at` whatever the segment's length, as a change of format needs one. False where other
    /// renditions have passed that instant already.
    pub(crate) fn force(&mut self, at: MediaTime, discontinuity: bool) -> bool {
        self.begin(at);
        let passed = self.pictures.is_some_and(|p| at <= p) || self.elapsed(at) <= ROUNDING;
        if passed {
            return false;
        }
        self.bridge(at);
        match self.starts.last_mut() {
            Some(last) if at.since(last.at) <= ROUNDING => last.discontinuity |= discontinuity,
            _ => self.push(at, discontinuity),
        }
        true
    }

    /// Nothing comes before `at`: lays boundaries up to it, and one there. Of no effect before the first media.
    pub(crate) fn skip_to(&mut self, at: MediaTime, discontinuity: bool) {
        if !self.started() {
            return;
        }
        self.bridge(at);
        match self.starts.last_mut() {
            Some(last) if at.since(last.at) <= ROUNDING => last.discontinuity |= discontinuity,
            _ => self.push(at, discontinuity),
        }
    }

    /// All media ends at `at`: lays boundaries where a segment would be longer than may be listed. Of no effect before the first media.
    pub(crate) fn see_end(&mut self, at: MediaTime) {
        while self.elapsed(at) > self.target + LISTED {
            let boundary = self.starts[self.starts.len() - 1].at + self.target;
            self.push(boundary, false);
        }
    }

    /// Forgets the boundaries from `at` on: nothing will come there.
    pub(crate) fn end_at(&mut self, at: MediaTime) {
        while self.starts.len() > 1 && self.starts.last().is_some_and(|last| last.at >= at) {
            self.starts.pop();
        }
    }

    fn begin(&mut self, at: MediaTime) {
        if self.starts.is_empty() {
            self.push(at, false);
        }
    }

    fn enough(&self) -> Duration {
        if self.starts.len() == 1 {
            self.enough_first
        } else {
            self.enough
        }
    }

    fn elapsed(&self, at: MediaTime) -> Duration {
        self.starts
            .last()
            .map_or(Duration::ZERO, |last| at.since(last.at))
    }

    /// Lays boundaries up to `at` where no key frame made any, so that no segment is longer than the target.
    fn bridge(&mut self, at: MediaTime) {
        while self.elapsed(at) >= self.target {
            let boundary = self.starts[self.starts.len() - 1].at + self.target;
            self.push(boundary, false);
        }
    }

    fn push(&mut self, at: MediaTime, discontinuity: bool) {
        self.starts.push(Start { at, discontinuity });
        self.keyed = false;
    }
}

/// The first segment's media sequence number: not 0, because hls.js 1.7 takes the number 0 of a segment that is being
/// loaded in parts for none, forgets what it has of it, and loads it again and again.
pub(crate) const FIRST: u64 = 1;
/// A segment's length, rounded to whole seconds, is the target duration at most (RFC 8216bis §4.4.3.1): it may be longer by half a second,
/// of which this much is used: sound may begin half a frame before a boundary, and a picture be decoded well before it is shown.
const LISTED: Duration = Duration::from_millis(200);
/// Encoders that round to a tick of 90 kHz or to a millisecond stay within this.
pub(crate) const ROUNDING: Duration = Duration::from_micros(1_100);
/// Key frames that are asked for together, or that two encoders make every so often, lie within this, even where a busy publisher
/// leaves out some pictures.
const ASIDE: Duration = Duration::from_millis(500);
/// How long, in media time, a picture aside waits for the main one to come as far.
pub(crate) const ASIDE_WAIT: Duration = Duration::from_secs(2);
/// A jump of more target durations than this is an error in the time, not a pause.
const JUMP: u32 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> SegmentClock {
        let mut clock = SegmentClock::new(&PackagerConfig::default());
        clock.lead(Lead::Pictures, MediaTime::ZERO);
        clock
    }

    fn ms(at: i64) -> MediaTime {
        MediaTime::from_millis(at)
    }

    #[test]
    fn the_first_late_enough_key_frame_defines_a_boundary_and_a_slower_rendition_cannot() {
        let mut clock = clock();
        clock.see_picture(ms(0), true);
        clock.see_picture(ms(400), true);
        assert_eq!(clock.newest(), 1);
        clock.see_picture(ms(800), true);
        clock.see_picture(ms(2_000), true);
        assert_eq!(
            clock.start(2).map(|s| s.at),
            Some(ms(800)),
            "the first segment may be short"
        );
        clock.see_picture(ms(2_790), true);
        assert_eq!(clock.start(3).map(|s| s.at), Some(ms(2_790)));
        clock.see_picture(ms(2_780), true);
        assert_eq!(clock.newest(), 3);
        assert_eq!(clock.segment_of_picture(ms(2_789)), 3);
        assert_eq!(clock.segment_at(ms(2_789)), 2);
    }

    #[test]
    fn without_a_key_frame_a_segment_ends_at_the_target_duration() {
        let mut clock = clock();
        for n in 0..200 {
            clock.see_picture(ms(n * 40), n == 0);
        }
        assert_eq!(clock.start(2).map(|s| s.at), Some(ms(4_000)));
    }

    #[test]
    fn sound_makes_no_boundary_where_the_pictures_stand_already() {
        let mut clock = SegmentClock::new(&PackagerConfig {
            segment: Duration::from_millis(1_600),
            ..PackagerConfig::default()
        });
        clock.lead(Lead::Pictures, MediaTime::ZERO);
        clock.see_picture(ms(0), true);
        clock.see_picture(ms(700), true);
        clock.see_still(ms(4_400));
        clock.see_sound(ms(4_350));
        assert_eq!(
            clock.newest(),
            2,
            "3.6 s behind the last, and pictures have passed it"
        );
        clock.see_still(ms(4_800));
        assert_eq!(clock.start(3).map(|s| s.at), Some(ms(4_700)));
    }

    #[test]
    fn a_segment_that_began_without_a_key_frame_goes_on_to_the_second_that_comes() {
        let mut clock = clock();
        // a key frame every two seconds, but for 5.5 s in between
        let keys = [0, 2_000, 4_000, 9_500, 11_500, 13_500];
        for at in (0..14_000).step_by(50) {
            clock.see_picture(ms(at), keys.contains(&at));
        }
        let starts: Vec<i64> = (1..=clock.newest())
            .map(|n| clock.start(n).unwrap().at.millis())
            .collect();
        assert_eq!(starts, [0, 2_000, 4_000, 8_000, 11_500, 13_500]);
    }

    #[test]
    fn a_segment_that_began_without_a_key_frame_ends_at_one_where_another_would_come_too_late() {
        let mut clock = clock();
        let keys = [0, 2_000, 4_000, 10_500, 12_500];
        for at in (0..13_000).step_by(50) {
            clock.see_picture(ms(at), keys.contains(&at));
        }
        let starts: Vec<i64> = (1..=clock.newest())
            .map(|n| clock.start(n).unwrap().at.millis())
            .collect();
        assert_eq!(starts, [0, 2_000, 4_000, 8_000, 10_500, 12_500]);
    }

    #[test]
    fn sound_waits_for_pictures_and_then_goes_on_alone() {
        let mut clock = clock();
        clock.see_picture(ms(0), true);
        clock.see_sound(ms(3_900));
        assert_eq!(clock.newest(), 1);
        assert!(clock.settled() < ms(500));
        clock.see_sound(ms(4_000));
        assert_eq!(clock.start(2).map(|s| s.at), Some(ms(4_000)));
        clock.lead(Lead::Sound, MediaTime::ZERO);
        clock.see_sound(ms(8_100));
        assert_eq!(clock.newest(), 4);
    }

    #[test]
    fn a_long_silence_is_bridged_by_whole_segments() {
        let mut clock = clock();
        clock.see_picture(ms(0), true);
        clock.see_picture(ms(60_000), true);
        for n in 2..=clock.newest() {
            let length = clock.start(n).unwrap().at.since(clock.start(n - 1).unwrap().at);
            assert!(length <= Duration::from_secs(4), "{n}: {length:?}");
        }
        assert_eq!(clock.start(clock.newest()).map(|s| s.at), Some(ms(60_000)));
    }

    #[test]
    fn a_change_of_format_makes_a_boundary_unless_others_have_passed_it() {
        let mut clock = clock();
        clock.see_picture(ms(0), true);
        assert!(clock.force(ms(500), true));
        clock.see_picture(ms(500), true);
        assert!(!clock.force(ms(480), true));
        assert_eq!(clock.discontinuities_to(2), 1);
    }
}
