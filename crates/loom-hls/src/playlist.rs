//! Media playlists (RFC 8216bis §4.4.3, §4.4.4), written by hand: every line is put down in one place.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::address;
use crate::config::PartForm;
use crate::crypt::KeyLine;
use crate::window::{StartPoint, Window};

/// What a media playlist says of itself; it never changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlaylistHead {
    pub(crate) target_duration: Duration,
    /// `PART-TARGET`, where parts are made.
    pub(crate) part_target: Option<Duration>,
    /// What parts last at most anywhere in the recording, where any are made: `EXT-X-SERVER-CONTROL` is the same in all playlists
    /// (§6.2.4).
    pub(crate) part: Option<Duration>,
    /// Whether a server can hold a request for it until it has changed.
    pub(crate) blocking: bool,
    pub(crate) first_segment: u64,
    pub(crate) discontinuity_sequence: u64,
    /// Whether parts are resources of their own, and no ranges of their segment.
    pub(crate) own_parts: bool,
    pub(crate) part_form: PartForm,
    /// What is listed of it while it grows, where a request does not say.
    pub(crate) window: Window,
    /// Where players begin, where a request does not say.
    pub(crate) start: Option<StartPoint>,
    /// Whether its segments have init segments.
    pub(crate) mapped: bool,
    /// Whether each segment is the key picture that another playlist's segment begins with.
    pub(crate) frames: bool,
}

impl PlaylistHead {
    /// `CAN-SKIP-UNTIL`: at least six target durations (§4.4.3.8).
    pub(crate) fn skip_boundary(&self) -> Duration {
        self.target_duration * 6
    }

    /// Whether a segment is longer than the target duration, which it may be by what is rounded off.
    pub(crate) fn is_exceeded(&self, segment: &SegmentEntry) -> bool {
        segment.duration.duration() > self.target_duration
    }

    /// The head of the playlist of this one's key pictures.
    pub(crate) fn of_frames(&self) -> Self {
        Self {
            part_target: None,
            frames: true,
            ..self.clone()
        }
    }
}

/// Whether a playlist still grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaylistState {
    /// It grows at its end.
    Growing,
    /// It grew, and is now complete.
    Ended,
    /// It is written anew as a complete one.
    Whole,
}

/// What stands before the segments, beside what never changes.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    pub(crate) state: PlaylistState,
    /// Whether every segment begins with a key frame.
    pub(crate) independent: bool,
    /// Whether a segment is longer than the target duration, by what is rounded off.
    pub(crate) long: bool,
    pub(crate) first_segment: u64,
    pub(crate) discontinuity_sequence: u64,
    /// Segments leave it at its beginning.
    pub(crate) slides: bool,
    pub(crate) start: Option<StartPoint>,
}

impl Beginning {
    /// That of a playlist which lists everything.
    pub(crate) fn of(head: &PlaylistHead, state: PlaylistState, independent: bool, long: bool) -> Self {
        Self {
            state,
            independent,
            long,
            first_segment: head.first_segment,
            discontinuity_sequence: head.discontinuity_sequence,
            slides: false,
            start: head.start,
        }
    }
}

/// What stands before a segment's parts and URI.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Opening {
    pub(crate) discontinuity: bool,
    /// The init segment's URI, where it is another than the segment's before.
    pub(crate) map: Option<Arc<str>>,
    pub(crate) date: Option<SystemTime>,
    /// The key from here on, where it is another than before.
    pub(crate) key: Option<Arc<KeyLine>>,
}

/// One `EXT-X-PART`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PartEntry {
    /// Its running number in the rendition.
    pub(crate) number: u64,
    pub(crate) duration: Seconds,
    pub(crate) independent: bool,
    pub(crate) gap: bool,
    /// Where it lies in its segment, where it is named by that.
    pub(crate) range: Option<PartRange>,
    /// No other comes behind it in its segment.
    pub(crate) last: bool,
}

/// Where in its segment a part lies (`BYTERANGE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartRange {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    /// 0 for a gap.
    pub(crate) len: u64,
}

/// One segment's `EXTINF` and URI.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SegmentEntry {
    pub(crate) uri: String,
    pub(crate) duration: Seconds,
    pub(crate) gap: bool,
    /// How many bytes at its beginning hold its first picture, where that is a key frame in a chunk of its own.
    pub(crate) frame: Option<u64>,
    /// Kilobits a second, where that is to be said.
    pub(crate) bit_rate: Option<u64>,
}

impl SegmentEntry {
    /// The same segment in the playlist of key pictures.
    pub(crate) fn of_frame(&self) -> Self {
        Self {
            gap: self.gap || self.frame.is_none(),
            ..self.clone()
        }
    }
}

/// A duration as playlists carry it: microseconds, rounded down, so that a part of exactly `PART-TARGET` is not above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Seconds(u64);

impl Seconds {
    pub(crate) fn from_ticks(ticks: u64, hz: u32) -> Self {
        Self((u128::from(ticks) * 1_000_000 / u128::from(hz)) as u64)
    }

    pub(crate) fn duration(self) -> Duration {
        Duration::from_micros(self.0)
    }
}

impl From<Duration> for Seconds {
    fn from(it: Duration) -> Self {
        Self(it.as_micros() as u64)
    }
}

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

pub(crate) fn write_head(out: &mut String, head: &PlaylistHead, beginning: &Beginning) {
    let live = beginning.state == PlaylistState::Growing;
    let delta = live && head.blocking;
    // §8: EXT-X-MAP needs 6, with EXT-X-I-FRAMES-ONLY 5, but only from 6 on is the target duration what the longest segment is when rounded;
    // delta updates that leave out date ranges, which are on offer while it grows, 10
    let version = match (delta, head.mapped, head.frames) {
        (true, ..) => 10,
        _ if beginning.long => 6,
        (false, true, true) => 5,
        (false, true, false) => 6,
        (false, false, _) => 3, // durations that are no whole seconds
    };
    let _ = writeln!(out, "#EXTM3U\n#EXT-X-VERSION:{version}");
    let _ = writeln!(out, "#EXT-X-TARGETDURATION:{}", head.target_duration.as_secs());
    if delta {
        let _ = write!(
            out,
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={},CAN-SKIP-DATERANGES=YES",
            Seconds::from(head.skip_boundary())
        );
        if let Some(part) = head.part {
            // §4.4.3.8: at least twice, should be at least three times PART-TARGET
            let _ = write!(out, ",PART-HOLD-BACK={}", Seconds::from(part * 3));
        }
        let _ = writeln!(out, ",HOLD-BACK={}", Seconds::from(head.target_duration * 3));
    }
    if let Some(part) = head.part_target.filter(|_| live) {
        let _ = writeln!(out, "#EXT-X-PART-INF:PART-TARGET={}", Seconds::from(part));
    }
    let _ = writeln!(out, "#EXT-X-MEDIA-SEQUENCE:{}", beginning.first_segment);
    if beginning.discontinuity_sequence > 0 {
        let _ = writeln!(
            out,
            "#EXT-X-DISCONTINUITY-SEQUENCE:{}",
            beginning.discontinuity_sequence
        );
    }
    // §4.4.3.5: with a type, nothing may be removed
    if !beginning.slides {
        out.push_str(match beginning.state {
            PlaylistState::Whole => "#EXT-X-PLAYLIST-TYPE:VOD\n",
            _ => "#EXT-X-PLAYLIST-TYPE:EVENT\n",
        });
    }
    if head.frames {
        out.push_str("#EXT-X-I-FRAMES-ONLY\n");
    }
    if beginning.independent || head.frames {
        out.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
    if let Some(start) = beginning.start {
        write_start(out, start);
    }
}

/// `EXT-X-START` (§4.4.2.2). What was asked for is an instant, so it is met exactly.
pub(crate) fn write_start(out: &mut String, start: StartPoint) {
    let (sign, offset) = match start {
        StartPoint::FromBeginning(after) => ("", after),
        StartPoint::FromEnd(before) => ("-", before),
    };
    let _ = writeln!(
        out,
        "#EXT-X-START:TIME-OFFSET={sign}{},PRECISE=YES",
        Seconds::from(offset)
    );
}

/// `EXT-X-SKIP` (§4.4.5.2).
pub(crate) fn write_skip(out: &mut String, segments: usize, removed: Option<&[&str]>) {
    let _ = write!(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={segments}");
    if let Some(removed) = removed {
        let _ = write!(out, ",RECENTLY-REMOVED-DATERANGES=\"{}\"", removed.join("\t"));
    }
    out.push('\n');
}

pub(crate) fn write_opening(out: &mut String, opening: &Opening) {
    if opening.discontinuity {
        out.push_str("#EXT-X-DISCONTINUITY\n");
    }
    if let Some(map) = &opening.map {
        // an init segment behind the tag of such a key would be encrypted too (RFC 8216bis §4.4.4.4)
        if opening.key.as_ref().is_some_and(|key| key.whole) {
            out.push_str("#EXT-X-KEY:METHOD=NONE\n");
        }
        let _ = writeln!(out, "#EXT-X-MAP:URI=\"{map}\"");
    }
    if let Some(key) = &opening.key {
        out.push_str(&key.text);
    }
    if let Some(date) = opening.date {
        out.push_str("#EXT-X-PROGRAM-DATE-TIME:");
        write_date(out, date);
        out.push('\n');
    }
}

pub(crate) fn write_part(out: &mut String, part: &PartEntry) {
    let uri = match part.range {
        Some(range) => address::segment(range.segment),
        None => address::part(part.number),
    };
    let _ = write!(out, "#EXT-X-PART:DURATION={},URI=\"{uri}\"", part.duration);
    if let Some(range) = part.range.filter(|range| range.len > 0) {
        let _ = write!(out, ",BYTERANGE=\"{}@{}\"", range.len, range.offset);
    }
    if part.independent {
        out.push_str(",INDEPENDENT=YES");
    }
    if part.gap {
        out.push_str(",GAP=YES");
    }
    out.push('\n');
}

/// `EXT-X-PRELOAD-HINT` (§4.4.5.3), `kind` being `PART` or `MAP`: of a resource, or of what of it lies from the byte `start` on.
pub(crate) fn write_preload_hint(out: &mut String, kind: &str, uri: &str, start: Option<u64>) {
    let _ = write!(out, "#EXT-X-PRELOAD-HINT:TYPE={kind},URI=\"{uri}\"");
    if let Some(start) = start {
        let _ = write!(out, ",BYTERANGE-START={start}");
    }
    out.push('\n');
}

/// `EXT-X-RENDITION-REPORT` (§4.4.5.4).
pub(crate) fn write_report(out: &mut String, uri: &str, segment: u64, part: Option<u64>) {
    let _ = write!(out, "#EXT-X-RENDITION-REPORT:URI=\"{uri}\",LAST-MSN={segment}");
    if let Some(part) = part {
        let _ = write!(out, ",LAST-PART={part}");
    }
    out.push('\n');
}

/// The text of a quoted-string, which can hold neither quotes nor line ends (§4.2).
pub(crate) fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && *c != '"').collect()
}

pub(crate) fn write_segment(out: &mut String, segment: &SegmentEntry) {
    if segment.gap {
        out.push_str("#EXT-X-GAP\n");
    }
    if let Some(kilobits) = segment.bit_rate {
        let _ = writeln!(out, "#EXT-X-BITRATE:{kilobits}");
    }
    let _ = writeln!(out, "#EXTINF:{},\n{}", segment.duration, segment.uri);
}

/// A segment in the playlist of key pictures (§4.4.3.6): the bytes of the one that it begins with.
pub(crate) fn write_frame(out: &mut String, segment: &SegmentEntry) {
    if segment.gap {
        out.push_str("#EXT-X-GAP\n");
    }
    let _ = writeln!(out, "#EXTINF:{},", segment.duration);
    if let Some(len) = segment.frame.filter(|_| !segment.gap) {
        let _ = writeln!(out, "#EXT-X-BYTERANGE:{len}@0");
    }
    let _ = writeln!(out, "{}", segment.uri);
}

pub(crate) const ENDLIST: &str = "#EXT-X-ENDLIST\n";

/// An instant as `YYYY-MM-DDThh:mm:ss.mmmZ` (ISO 8601, `xs:dateTime`), as playlists and manifests write it.
pub fn date_time(at: SystemTime) -> String {
    let mut out = String::new();
    write_date(&mut out, at);
    out
}

/// `YYYY-MM-DDThh:mm:ss.mmmZ` (ISO 8601, as RFC 8216bis §4.4.4.6 wants it), from the proleptic Gregorian calendar.
pub(crate) fn write_date(out: &mut String, at: SystemTime) {
    let millis = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    };
    let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    // years counted from March of the year 0, so that the leap day is the year's last
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (s, ms) = (of_day / 1000, of_day % 1000);
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z",
        s / 3600,
        s / 60 % 60,
        s % 60
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_iso_8601() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_365_125_042, "2026-11-22T16:32:05.042Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let mut out = String::new();
            write_date(&mut out, SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
            assert_eq!(out, text);
        }
        let mut out = String::new();
        write_date(&mut out, SystemTime::UNIX_EPOCH - Duration::from_millis(1));
        assert_eq!(out, "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn seconds_are_rounded_down_to_microseconds() {
        assert_eq!(Seconds::from_ticks(30_000, 90_000).to_string(), "0.333333");
        assert_eq!(Seconds::from_ticks(30_060, 90_000).to_string(), "0.334000");
    }
}
