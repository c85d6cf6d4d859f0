//! Chapters: marks with titles on a recording's time line, as WebVTT and as the JSON that HLS players read.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use loom_core::{MediaTime, WallClock};

use crate::daterange::{DateRange, DateRangeValue};
use crate::error::HlsError;
use crate::limits;
use crate::playlist::ENDLIST;
use crate::webvtt::{write_text, write_time};

/// Where a chapter begins, and what it is called. It ends where the next begins, or with the recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chapter {
    /// Its name among the recording's chapters: never used for another one.
    pub id: u32,
    /// Where it begins.
    pub at: MediaTime,
    /// What it is called, one line.
    pub title: String,
}

impl Chapter {
    /// It as playlists tell it: its title is `X-TITLE`; it lasts until the next of its class begins.
    pub(crate) fn date_range(&self) -> DateRange {
        DateRange {
            id: format!("chapter-{}", self.id),
            class: Some(CLASS.to_owned()),
            start: self.at,
            end: None,
            attributes: vec![("X-TITLE".to_owned(), DateRangeValue::Text(self.title.clone()))],
            cue: Vec::new(),
        }
    }
}

/// A recording's chapters in order of time.
///
/// ```
/// use loom_core::MediaTime;
/// use loom_hls::Chapters;
///
/// let mut chapters = Chapters::default();
/// chapters.mark(MediaTime::from_millis(61_500), "The second try")?;
/// chapters.mark(MediaTime::ZERO, "The first try")?;
/// let track = chapters.to_webvtt(Some(MediaTime::from_millis(90_000)));
/// assert!(track.contains("00:01:01.500 --> 00:01:30.000\nThe second try"));
/// # Ok::<(), loom_hls::HlsError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chapters {
    marks: Vec<Chapter>,
}

impl Chapters {
    /// All of them, in order of time.
    pub fn marks(&self) -> &[Chapter] {
        &self.marks
    }

    /// Adds a chapter. Gives it, or the one that is there already.
    ///
    /// # Errors
    /// [`HlsError::Text`] where the title is empty or longer than [`limits::TITLE_BYTES`], the time is negative or above
    /// [`limits::MEDIA_TIME`], another begins at the same millisecond, or there are [`limits::CHAPTERS`].
    pub fn mark(&mut self, at: MediaTime, title: &str) -> Result<Chapter, HlsError> {
        let refuse = |why: String| HlsError::Text {
            line: 0,
            why,
            clause: "WebVTT §5",
        };
        let one_line: String = title
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let title = one_line.trim().to_owned();
        if title.is_empty() || title.len() > limits::TITLE_BYTES {
            return Err(refuse(format!(
                "a chapter's title has 1 to {} bytes",
                limits::TITLE_BYTES
            )));
        }
        if !(MediaTime::ZERO..MediaTime::ZERO + limits::MEDIA_TIME).contains(&at) {
            return Err(refuse(format!("no chapter can begin at {at}")));
        }
        let at = MediaTime::from_millis(at.millis());
        match self.marks.iter().find(|it| it.at == at) {
            Some(known) if known.title == title => return Ok(known.clone()),
            // what playlists have said of it stays (RFC 8216bis §4.4.5.1)
            Some(known) => return Err(refuse(format!("{:?} begins at {at} already", known.title))),
            None => {}
        }
        if self.marks.len() >= limits::CHAPTERS {
            return Err(refuse(format!(
                "a recording has at most {} chapters",
                limits::CHAPTERS
            )));
        }
        let id = self.marks.iter().map(|it| it.id + 1).max().unwrap_or(0);
        let made = Chapter { id, at, title };
        let place = self.marks.partition_point(|it| it.at < at);
        self.marks.insert(place, made.clone());
        Ok(made)
    }

    /// Where the n-th ends; `None` for the last while nothing says so.
    fn end(&self, nth: usize, end: Option<MediaTime>) -> Option<MediaTime> {
        let next = self.marks.get(nth + 1).map(|it| it.at);
        next.or(end.filter(|end| *end > self.marks[nth].at))
    }

    /// A WebVTT chapters track (WebVTT §5). The last one ends at `end`, or, where that is not known yet, a day after it began.
    pub fn to_webvtt(&self, end: Option<MediaTime>) -> String {
        let mut out = String::from("WEBVTT\n\n");
        for (nth, chapter) in self.marks.iter().enumerate() {
            let end = self.end(nth, end).unwrap_or(chapter.at + A_DAY);
            let _ = writeln!(out, "{}", chapter.id);
            write_time(&mut out, chapter.at.millis());
            out.push_str(" --> ");
            write_time(&mut out, end.millis().max(chapter.at.millis() + 1));
            out.push('\n');
            write_text(&mut out, &chapter.title);
            out.push_str("\n\n");
        }
        out
    }

    /// What `EXT-X-SESSION-DATA` with `com.apple.hls.chapters` names: an array of chapters with `start-time`, `duration` where it is
    /// known, and `titles`.
    pub fn to_json(&self, end: Option<MediaTime>) -> String {
        let mut out = String::from("[");
        for (nth, chapter) in self.marks.iter().enumerate() {
            out.push_str(if nth == 0 { "\n  " } else { ",\n  " });
            let _ = write!(
                out,
                "{{\"chapter\": {}, \"id\": {}, \"start-time\": {}",
                nth + 1,
                chapter.id,
                Seconds(chapter.at.since(MediaTime::ZERO))
            );
            if let Some(end) = self.end(nth, end) {
                let _ = write!(out, ", \"duration\": {}", Seconds(end.since(chapter.at)));
            }
            out.push_str(", \"titles\": [{\"language\": \"und\", \"title\": \"");
            write_json(&mut out, &chapter.title);
            out.push_str("\"}]}");
        }
        out.push_str("\n]\n");
        out
    }

    /// A complete media playlist with a date range for each chapter that it says nothing of (RFC 8216bis §4.4.5.1); as it was where it has
    /// no dates. The recording's zero is taken to be where the first segment begins; where it was paused, dates jump.
    pub fn date_in(&self, playlist: &str) -> String {
        let zeros = zeros(playlist);
        let Some((_, first)) = zeros.first().copied() else {
            return playlist.to_owned();
        };
        let mut lines = String::new();
        for chapter in &self.marks {
            let range = chapter.date_range();
            let before = zeros.iter().rfind(|(from, _)| *from <= chapter.at);
            let zero = before.map_or(first, |(_, zero)| *zero);
            if !playlist.contains(&format!("#EXT-X-DATERANGE:ID=\"{}\"", range.id))
                && let Ok(written) = range.line(WallClock { zero })
            {
                lines.push_str(&written.line);
            }
        }
        let place = playlist.find(ENDLIST).unwrap_or(playlist.len());
        format!("{}{lines}{}", &playlist[..place], &playlist[place..])
    }

    /// The multivariant playlist with the line that names [`Self::to_json`] (RFC 8216bis §4.4.6.4); as it was where it has it.
    pub fn list_in(main: &str) -> String {
        if main.contains(DATA_ID) {
            return main.to_owned();
        }
        let mut out = String::with_capacity(main.len() + 128);
        let mut listed = false;
        for line in main.lines() {
            if !listed && (line.starts_with("#EXT-X-MEDIA:") || line.starts_with("#EXT-X-STREAM-INF:")) {
                listed = true;
                out.push_str(SESSION_DATA);
            }
            out.push_str(line);
            out.push('\n');
        }
        if !listed {
            out.push_str(SESSION_DATA);
        }
        out
    }
}

/// From where in a media playlist on its zero lies where on the wall clock.
pub(crate) fn zeros(playlist: &str) -> Vec<(MediaTime, SystemTime)> {
    let (mut at, mut zeros) = (MediaTime::ZERO, Vec::<(MediaTime, SystemTime)>::new());
    for line in playlist.lines() {
        if let Some(date) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:").and_then(read_date) {
            let zero = date - at.since(MediaTime::ZERO);
            let apart = |before: SystemTime| {
                let ahead = zero.duration_since(before);
                ahead.unwrap_or_else(|behind| behind.duration())
            };
            // dates are rounded to milliseconds
            if zeros
                .last()
                .is_none_or(|(_, before)| apart(*before) > Duration::from_millis(100))
            {
                zeros.push((at, zero));
            }
        } else if let Some(length) = line.strip_prefix("#EXTINF:") {
            let length = length.split(',').next().and_then(|it| it.parse().ok());
            at = at + Duration::try_from_secs_f64(length.unwrap_or(0.0)).unwrap_or_default();
        }
    }
    zeros
}

/// An instant as playlists carry it, `YYYY-MM-DDThh:mm:ss.mmmZ`; `None` for any other form.
fn read_date(text: &str) -> Option<SystemTime> {
    let text = text.trim().strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let number = |text: &str| {
        let plain = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| text.parse::<u64>().ok()).flatten()
    };
    let mut parts = date.split('-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let (clock, millis) = time.split_once('.')?;
    let mut parts = clock.split(':').map(number);
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // years counted from March, so that the leap day is the year's last
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    let millis = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + number(millis)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
}

/// Milliseconds as decimal seconds.
struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0.as_secs(), self.0.subsec_millis())
    }
}

/// The inside of a JSON string (RFC 8259 §7).
fn write_json(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
}

/// The class of the date ranges that are chapters.
const CLASS: &str = "com.loom.chapter";
const A_DAY: Duration = Duration::from_secs(86_400);
const DATA_ID: &str = "DATA-ID=\"com.apple.hls.chapters\"";
const SESSION_DATA: &str =
    "#EXT-X-SESSION-DATA:DATA-ID=\"com.apple.hls.chapters\",URI=\"chapters.json\",FORMAT=JSON\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    #[test]
    fn chapters_are_in_order_and_end_where_the_next_begins() {
        let mut chapters = Chapters::default();
        chapters.mark(ms(60_500), "The <end> & \"more\" \\").unwrap();
        chapters.mark(ms(0), " Start\n").unwrap();
        let again = chapters.mark(ms(60_500), "The <end> & \"more\" \\").unwrap();
        assert_eq!((again.id, chapters.marks().len()), (0, 2));
        assert!(chapters.mark(ms(60_500), "Another").is_err());
        assert_eq!(
            chapters.to_webvtt(Some(ms(90_000))),
            "WEBVTT\n\n1\n00:00:00.000 --> 00:01:00.500\nStart\n\n\
             0\n00:01:00.500 --> 00:01:30.000\nThe &lt;end&gt; &amp; \"more\" \\\n\n"
        );
        assert_eq!(
            chapters.to_json(None),
            "[\n  {\"chapter\": 1, \"id\": 1, \"start-time\": 0.000, \"duration\": 60.500, \"titles\": [{\"language\": \"und\", \"title\": \"Start\"}]},\n  \
             {\"chapter\": 2, \"id\": 0, \"start-time\": 60.500, \"titles\": [{\"language\": \"und\", \"title\": \"The <end> & \\\"more\\\" \\\\\"}]}\n]\n"
        );
    }

    #[test]
    fn a_complete_playlist_with_dates_gets_a_range_for_each_chapter_once() {
        let mut chapters = Chapters::default();
        chapters.mark(ms(2_500), "Two").unwrap();
        let playlist = "#EXTM3U\n#EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:32:05.042Z\n#EXTINF:4,\ns1.m4s\n#EXT-X-ENDLIST\n";
        let dated = chapters.date_in(playlist);
        assert_eq!(
            dated,
            "#EXTM3U\n#EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:32:05.042Z\n#EXTINF:4,\ns1.m4s\n\
             #EXT-X-DATERANGE:ID=\"chapter-0\",CLASS=\"com.loom.chapter\",START-DATE=\"2026-11-22T16:32:07.542Z\",X-TITLE=\"Two\"\n\
             #EXT-X-ENDLIST\n"
        );
        assert_eq!(chapters.date_in(&dated), dated);
        let paused = "#EXTM3U\n#EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:32:05.042Z\n#EXTINF:2,\ns1.m4s\n#EXT-X-DISCONTINUITY\n\
            #EXT-X-PROGRAM-DATE-TIME:2026-11-22T17:32:07.042Z\n#EXTINF:4,\ns2.m4s\n#EXT-X-ENDLIST\n";
        assert!(
            chapters
                .date_in(paused)
                .contains("START-DATE=\"2026-11-22T17:32:07.542Z\"")
        );
        let undated = "#EXTM3U\n#EXTINF:4,\ns1.m4s\n#EXT-X-ENDLIST\n";
        assert_eq!(chapters.date_in(undated), undated);
        for (text, millis) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T00:00:00.000Z", 951_782_400_000),
            ("2100-03-01T00:00:00.000Z", 4_107_542_400_000),
        ] {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(read_date(text), Some(at), "{text}");
        }
        assert_eq!(read_date("2026-11-22T16:32:05+01:00"), None);
    }

    #[test]
    fn what_is_no_chapter_is_refused() {
        let mut chapters = Chapters::default();
        for (at, title) in [
            (ms(-1), "x"),
            (ms(0), " \n"),
            (ms(i64::MAX / 1_000_000), "x"),
            (ms(0), "x".repeat(limits::TITLE_BYTES + 1).as_str()),
        ] {
            assert!(chapters.mark(at, title).is_err(), "{at} {title:?}");
        }
        for at in 0..limits::CHAPTERS {
            chapters.mark(ms(at as i64), "x").unwrap();
        }
        assert!(chapters.mark(ms(1_000_000), "x").is_err());
    }

    #[test]
    fn the_multivariant_playlist_names_them_once() {
        let main = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-STREAM-INF:BANDWIDTH=1\nsource/index.m3u8\n";
        let listed = Chapters::list_in(main);
        assert_eq!(
            listed,
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-SESSION-DATA:DATA-ID=\"com.apple.hls.chapters\",URI=\"chapters.json\",FORMAT=JSON\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1\nsource/index.m3u8\n"
        );
        assert_eq!(Chapters::list_in(&listed), listed);
    }
}
