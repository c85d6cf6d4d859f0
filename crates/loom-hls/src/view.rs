//! What a request's query (`window`, `start`, `from`, `to`) or a path below `clip/FROM-TO/` asks to be shown of a recording, and
//! the playlists rewritten for it.
//!
//! | asked | shown |
//! | --- | --- |
//! | `main.m3u8?window=live`, `?window=dvr-SECONDS`, `?window=event` | that [`Window`] of it; every link carries the same query |
//! | `main.m3u8?start=12.5`, `?start=-30` | players begin there (`EXT-X-START`); with a window that slides, before the end only |
//! | `main.m3u8?define=token&token=…` | every link carries `token` on, by `EXT-X-DEFINE` (RFC 8216bis §4.4.2.3), so that the text is the same whoever asks |
//! | `main.m3u8?from=10&to=25.5`, `clip/10-25.5/main.m3u8` | the segments of an ended recording that lie in there, as a new VOD; with `start=10.4` players begin at that very instant |
//!
//! Seconds count from the beginning of the main picture's playlist, as a player shows them.

use std::time::Duration;

use crate::address::Address;
use crate::define;
use crate::directives::pairs;
use crate::playlist;
use crate::window::{StartPoint, Window, seconds};

/// What of a recording is shown, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    pub(crate) window: Option<Window>,
    pub(crate) start: Option<StartPoint>,
    clip: Option<Clip>,
    /// The query parameter that links carry on.
    pub(crate) define: Option<String>,
}

/// A sub-range of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Clip {
    from: Duration,
    to: Duration,
    /// `clip/FROM-TO/`, where the path says it rather than the query.
    path: Option<String>,
    /// The rendition's folder, where the path says it and leads to a media playlist.
    folder: String,
}

/// The segments that a view shows of every rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    first: u64,
    last: u64,
    /// Where the first begins.
    begins: Duration,
}

impl View {
    /// Reads a request's query, and takes `clip/FROM-TO/` off its path.
    pub(crate) fn parse<'a>(path: &'a str, query: Option<&str>) -> Result<(Self, &'a str), String> {
        let mut view = Self::default();
        let (mut from, mut to) = (None, None);
        for (name, value) in pairs(query) {
            match name {
                "window" => view.window = Some(Window::parse(value)?),
                "start" => view.start = Some(StartPoint::parse(value)?),
                "from" => from = Some(seconds(value)?),
                "to" => to = Some(seconds(value)?),
                "define" => view.define = Some(define::parse(value)?),
                _ => {}
            }
        }
        if from.is_some() || to.is_some() {
            view.clip = Some(Clip {
                from: from.unwrap_or_default(),
                to: to.unwrap_or(Duration::MAX),
                path: None,
                folder: String::new(),
            });
        }
        let mut rest = path;
        if let Some((range, below)) = path.strip_prefix("clip/").and_then(|p| p.split_once('/')) {
            let (from, to) = range
                .split_once('-')
                .ok_or("a clip is clip/FROM-TO/main.m3u8, in seconds")?;
            view.clip = Some(Clip {
                from: seconds(from)?,
                to: seconds(to)?,
                path: Some(format!("clip/{range}/")),
                folder: below.split_once('/').map_or("", |(folder, _)| folder).to_owned(),
            });
            rest = below;
        }
        match &view.clip {
            Some(clip) if clip.from >= clip.to => Err("a clip ends after it begins".to_owned()),
            Some(_) if view.window.is_some() => Err("a clip has no window: it does not grow".to_owned()),
            _ => Ok((view, rest)),
        }
    }

    /// Whether it shows everything as it is.
    pub(crate) fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn is_clip(&self) -> bool {
        self.clip.is_some()
    }

    /// Whether the path says that it is a clip.
    pub(crate) fn in_path(&self) -> bool {
        self.clip.as_ref().is_some_and(|clip| clip.path.is_some())
    }

    /// What may be shown of a recording that grows.
    pub(crate) fn check_growing(&self, usual: Window) -> Result<(), String> {
        if self.is_clip() {
            return Err("a clip is made of a recording that has ended (RFC 8216bis §6.2.1: a VOD playlist must not change)".to_owned());
        }
        let slides = self.window.unwrap_or(usual) != Window::Event;
        match self.start {
            Some(StartPoint::FromBeginning(_)) if slides => Err(
                "the beginning of a window that slides is no fixed instant: start before its end, as in start=-30 (RFC 8216bis §4.4.2.2)"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }

    /// What links to other playlists end in, so that they are shown alike.
    pub(crate) fn query(&self) -> String {
        let mut query = Vec::new();
        match self.window {
            None => {}
            Some(Window::Event) => query.push("window=event".to_owned()),
            Some(Window::Live) => query.push("window=live".to_owned()),
            Some(Window::Dvr(length)) => query.push(format!("window=dvr-{}", length.as_secs())),
        }
        if let Some(clip) = self.clip.as_ref().filter(|clip| clip.path.is_none()) {
            query.push(format!("from={}", plain(clip.from)));
            if clip.to < Duration::MAX {
                query.push(format!("to={}", plain(clip.to)));
            }
        }
        match self.start {
            None => {}
            Some(StartPoint::FromBeginning(after)) => query.push(format!("start={}", plain(after))),
            Some(StartPoint::FromEnd(before)) => query.push(format!("start=-{}", plain(before))),
        }
        if let Some(name) = &self.define {
            query.push(format!("define={name}&{}", define::link(name)));
        }
        match query.is_empty() {
            true => String::new(),
            false => format!("?{}", query.join("&")),
        }
    }

    /// The stored playlist `key`, complete, as it is to be shown; `None` where there is nothing to show. `read` gives a file of the
    /// recording's folder.
    pub fn show(&self, key: &str, mut read: impl FnMut(&str) -> Option<Vec<u8>>) -> Option<String> {
        let mut text = |key: &str| String::from_utf8(read(key)?).ok();
        let main = match self.is_clip() {
            true => {
                let multivariant = text(crate::address::MULTIVARIANT)?;
                Some(text(reference(&multivariant)?)?)
            }
            false => None,
        };
        self.apply(&text(key)?, main.as_deref())
    }

    /// Rewrites a complete playlist of either kind. `main` is the main picture's, where it is needed.
    fn apply(&self, text: &str, main: Option<&str>) -> Option<String> {
        let cut = match &self.clip {
            Some(clip) => Some(clip.cut(&read(main?))?),
            None => None,
        };
        let start = match (self.start, cut) {
            (Some(StartPoint::FromBeginning(at)), Some(cut)) => {
                Some(StartPoint::FromBeginning(at.saturating_sub(cut.begins)))
            }
            (start, _) => start,
        };
        if text.contains("#EXT-X-STREAM-INF") {
            return Some(self.multivariant(text, start));
        }
        let segments = read(text);
        let cut = match cut {
            Some(cut) => cut,
            None => window_of(&segments, text, self.window)?,
        };
        self.media(text, &segments, cut, start)
    }

    /// A multivariant playlist whose links lead to what is shown.
    pub(crate) fn multivariant(&self, text: &str, start: Option<StartPoint>) -> String {
        let query = self.query();
        let mut out = String::with_capacity(text.len() + 256);
        let mut head = true;
        for line in text.lines() {
            if start.is_some() && line.starts_with("#EXT-X-START:") {
                continue;
            }
            let first = head && !line.starts_with("#EXTM3U") && !line.starts_with("#EXT-X-VERSION");
            if first {
                head = false;
                if let Some(start) = start {
                    playlist::write_start(&mut out, start);
                }
            }
            let uri = match line
                .split_once("URI=\"")
                .and_then(|(_, rest)| rest.split_once('"'))
            {
                _ if line.is_empty() => None,
                Some((uri, _)) if !line.starts_with("#EXT-X-CONTENT-STEERING") => Some(uri),
                Some(_) => None,
                None if line.starts_with('#') => None,
                None => Some(line),
            };
            match uri.filter(|uri| uri.ends_with(".m3u8")) {
                Some(uri) => out.push_str(&line.replace(uri, &format!("{}{query}", self.link(uri)))),
                None => out.push_str(line),
            }
            out.push('\n');
        }
        self.carried(out)
    }

    /// The playlist with links as this view has them.
    fn carried(&self, text: String) -> String {
        match &self.define {
            Some(name) => define::carry(&text, name),
            None => text,
        }
    }

    /// A link to a playlist: one that leads to another host needs the clip in its path too.
    fn link(&self, uri: &str) -> String {
        let clip = self.clip.as_ref().and_then(|clip| clip.path.as_deref());
        match (clip, uri.contains("://"), uri.rmatch_indices('/').nth(1)) {
            (Some(clip), true, Some((at, _))) => format!("{}{clip}{}", &uri[..=at], &uri[at + 1..]),
            _ => uri.to_owned(),
        }
    }

    /// The segments of `cut` as a playlist of their own. Media sequence numbers stay, so that all renditions' go on being the same
    /// ones, and what is encrypted by them too.
    fn media(
        &self,
        text: &str,
        segments: &[Segment<'_>],
        cut: Cut,
        start: Option<StartPoint>,
    ) -> Option<String> {
        let shown: Vec<&Segment<'_>> = segments
            .iter()
            .filter(|s| (cut.first..=cut.last).contains(&s.number))
            .collect();
        let (first, last) = (shown.first()?, shown.last()?);
        let before = segments.iter().take_while(|s| s.number < first.number);
        let discontinuities = before.filter(|s| s.discontinuity).count() as u64;
        let after = segments
            .iter()
            .find(|s| s.number > last.number)
            .and_then(|s| s.date);
        // RENDITION/index.m3u8 lies below clip/FROM-TO/
        let up = match &self.clip {
            Some(clip) if clip.path.is_some() => format!("../../../{}/", clip.folder),
            _ => String::new(),
        };
        let whole = segments.len() == shown.len();
        let mut out = String::with_capacity(text.len());
        let mut numbered = false;
        for line in head(text) {
            let sequence = line
                .strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:")
                .and_then(|n| n.parse::<u64>().ok());
            if line.starts_with("#EXT-X-MEDIA-SEQUENCE:") {
                out.push_str(&format!("#EXT-X-MEDIA-SEQUENCE:{}\n", first.number));
                let had = discontinuity_sequence(text) + discontinuities;
                if had > 0 {
                    out.push_str(&format!("#EXT-X-DISCONTINUITY-SEQUENCE:{had}\n"));
                }
                numbered = true;
            } else if sequence.is_some() {
                // said above
            } else if line.starts_with("#EXT-X-START:") && (start.is_some() || self.is_clip()) {
            } else if line.starts_with("#EXT-X-PLAYLIST-TYPE:") && !self.is_clip() && !whole {
                // a window slid to where it is (§4.4.3.5)
            } else if line.starts_with("#EXT-X-DATERANGE:") && !lies_in(line, first.date, after) {
            } else {
                out.push_str(line);
                out.push('\n');
            }
        }
        if !numbered {
            return None;
        }
        if let Some(start) = start {
            playlist::write_start(&mut out, start);
        }
        // what was said before, and holds: the map first, which a key before it would cover (§4.4.4.4)
        let in_force = |tag: &str| {
            let earlier = segments.iter().rev().skip_while(|s| s.number >= first.number);
            let said = |s: &Segment<'_>| s.tags().any(|t| t.starts_with(tag));
            let tags = earlier.copied().find(said).into_iter().flat_map(Segment::tags);
            tags.filter(|t| t.starts_with(tag) && *t != "#EXT-X-KEY:METHOD=NONE")
                .collect::<Vec<_>>()
        };
        for tag in ["#EXT-X-MAP:", "#EXT-X-KEY:"] {
            if !first.tags().any(|t| t.starts_with(tag)) {
                for line in in_force(tag) {
                    write_linked(&mut out, line, &up);
                }
            }
        }
        for segment in shown {
            for line in segment.lines.lines() {
                write_linked(&mut out, line, &up);
            }
        }
        out.push_str(playlist::ENDLIST);
        Some(self.carried(out))
    }
}

impl Clip {
    /// The segments that lie in it, by those of the main picture.
    fn cut(&self, segments: &[Segment<'_>]) -> Option<Cut> {
        let mut begins = Duration::ZERO;
        let mut cut: Option<Cut> = None;
        for segment in segments {
            let ends = begins + segment.duration;
            if ends > self.from && begins < self.to {
                let cut = cut.get_or_insert(Cut {
                    first: segment.number,
                    last: segment.number,
                    begins,
                });
                cut.last = segment.number;
            }
            begins = ends;
        }
        cut
    }
}

/// The main picture's media playlist, by the multivariant playlist: the first variant's.
fn reference(multivariant: &str) -> Option<&str> {
    let mut lines = multivariant.lines();
    lines.find(|line| line.starts_with("#EXT-X-STREAM-INF:"))?;
    let uri = lines.next()?;
    // on another host it has the same name
    let below = uri
        .rmatch_indices('/')
        .nth(1)
        .map_or(uri, |(at, _)| &uri[at + 1..]);
    matches!(Address::parse(below), Some(Address::Playlist(_))).then_some(below)
}

/// A segment of a stored playlist.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'a> {
    pub(crate) number: u64,
    pub(crate) duration: Duration,
    pub(crate) discontinuity: bool,
    /// `EXT-X-PROGRAM-DATE-TIME`.
    date: Option<&'a str>,
    /// Its tags and URI.
    pub(crate) lines: &'a str,
}

impl<'a> Segment<'a> {
    pub(crate) fn tags(self) -> impl Iterator<Item = &'a str> {
        self.lines.lines().filter(|line| line.starts_with('#'))
    }

    /// Whether there is nothing of it.
    pub(crate) fn is_gap(self) -> bool {
        self.tags().any(|tag| tag == "#EXT-X-GAP")
    }
}

/// The segments that a complete playlist still shows of a window that slid.
fn window_of(segments: &[Segment<'_>], text: &str, window: Option<Window>) -> Option<Cut> {
    let target = text
        .lines()
        .find_map(|line| line.strip_prefix("#EXT-X-TARGETDURATION:")?.parse().ok())
        .map(Duration::from_secs)?;
    let length = window.and_then(|window| window.length(target));
    let mut left: Duration = segments.iter().map(|s| s.duration).sum();
    let mut from = 0;
    while let (Some(segment), Some(length)) = (segments.get(from), length) {
        left = left.saturating_sub(segment.duration);
        if left < length {
            break;
        }
        from += 1;
    }
    Some(Cut {
        first: segments.get(from)?.number,
        last: segments.last()?.number,
        begins: Duration::ZERO,
    })
}

/// The lines that stand before the segments.
fn head(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| !belongs_to_segment(line))
}

fn discontinuity_sequence(text: &str) -> u64 {
    head(text)
        .find_map(|line| line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:")?.parse().ok())
        .unwrap_or(0)
}

/// Media Segment Tags (RFC 8216bis §4.4.4), and what is none of the head's.
fn belongs_to_segment(line: &str) -> bool {
    const TAGS: [&str; 9] = [
        "#EXTINF:",
        "#EXT-X-BYTERANGE:",
        "#EXT-X-KEY:",
        "#EXT-X-MAP:",
        "#EXT-X-PROGRAM-DATE-TIME:",
        "#EXT-X-GAP",
        "#EXT-X-BITRATE:",
        "#EXT-X-PART:",
        "#EXT-X-ENDLIST",
    ];
    line == "#EXT-X-DISCONTINUITY" || !line.starts_with('#') || TAGS.iter().any(|tag| line.starts_with(tag))
}

/// The segments of a playlist as we write it.
pub(crate) fn read(text: &str) -> Vec<Segment<'_>> {
    let mut number = head(text)
        .find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:")?.parse().ok())
        .unwrap_or(0);
    let (mut segments, mut at, mut begin) = (Vec::new(), 0, None);
    let (mut duration, mut discontinuity, mut date) = (Duration::ZERO, false, None);
    for line in text.split_inclusive('\n') {
        let begins = at;
        at += line.len();
        let line = line.trim_end();
        if begin.is_none() && !belongs_to_segment(line) {
            continue;
        }
        let from = *begin.get_or_insert(begins);
        if let Some(length) = line.strip_prefix("#EXTINF:") {
            duration = seconds(length.split(',').next().unwrap_or_default()).unwrap_or_default();
        } else if let Some(at) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            date = Some(at);
        } else if line == "#EXT-X-DISCONTINUITY" {
            discontinuity = true;
        } else if !line.starts_with('#') && !line.is_empty() {
            segments.push(Segment {
                number,
                duration,
                discontinuity,
                date,
                lines: &text[from..at],
            });
            number += 1;
            (begin, duration, discontinuity, date) = (None, Duration::ZERO, false, None);
        }
    }
    segments
}

/// Whether a date range meets what lies from one instant up to the other. All dates are written alike, so their text sorts.
fn lies_in(line: &str, from: Option<&str>, to: Option<&str>) -> bool {
    let date = |name: &str| line.split_once(name)?.1.split('"').next();
    let begins = date(",START-DATE=\"");
    let ends = date(",END-DATE=\"");
    let late = begins.zip(to).is_some_and(|(begins, to)| begins >= to);
    let early = ends.zip(from).is_some_and(|(ends, from)| ends < from);
    !late && !early
}

/// A line with its link led `up` to where the store has it.
fn write_linked(out: &mut String, line: &str, up: &str) {
    match line.split_once("URI=\"") {
        Some((before, uri)) if line.starts_with('#') && !uri.contains("://") && !uri.starts_with("data:") => {
            out.push_str(before);
            out.push_str("URI=\"");
            out.push_str(up);
            out.push_str(uri);
        }
        None if !line.starts_with('#') => {
            out.push_str(up);
            out.push_str(line);
        }
        _ => out.push_str(line),
    }
    out.push('\n');
}

/// Seconds without needless zeros.
fn plain(span: Duration) -> String {
    match span.subsec_micros() {
        0 => span.as_secs().to_string(),
        micros => {
            let text = format!("{}.{micros:06}", span.as_secs());
            text.trim_end_matches('0').to_owned()
        }
    }
}
