//! One version of a media playlist, read strictly (draft-pantos-hls-rfc8216bis-20 §4).

use super::attributes::{Attributes, Kind, decimal};
use super::date::Date;
use super::report::Report;

/// A media playlist as it stood in one answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Media {
    pub(crate) version: u64,
    pub(crate) target: u64,
    pub(crate) sequence: u64,
    pub(crate) discontinuity_sequence: u64,
    pub(crate) kind: Option<String>,
    pub(crate) ended: bool,
    pub(crate) independent: bool,
    pub(crate) i_frames: bool,
    pub(crate) part_target: Option<f64>,
    pub(crate) control: Option<Attributes>,
    pub(crate) start: Option<Attributes>,
    pub(crate) segments: Vec<Segment>,
    /// The segment whose parts are listed and which has no URI yet.
    pub(crate) open: Segment,
    pub(crate) hints: Vec<Hint>,
    pub(crate) reports: Vec<Attributes>,
    pub(crate) ranges: Vec<Attributes>,
    pub(crate) skipped: Option<u64>,
    pub(crate) defines: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) uri: String,
    pub(crate) duration: f64,
    pub(crate) range: Option<Range>,
    pub(crate) discontinuity: bool,
    /// Its Discontinuity Sequence Number.
    pub(crate) sequence: u64,
    pub(crate) map: Option<Map>,
    pub(crate) keys: Vec<String>,
    pub(crate) date: Option<Date>,
    pub(crate) gap: bool,
    pub(crate) bitrate: Option<u64>,
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Map {
    pub(crate) uri: String,
    pub(crate) range: Option<Range>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Part {
    pub(crate) uri: String,
    pub(crate) duration: f64,
    pub(crate) independent: bool,
    pub(crate) gap: bool,
    pub(crate) range: Option<Range>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hint {
    pub(crate) kind: String,
    pub(crate) uri: String,
    pub(crate) start: Option<u64>,
}

/// Bytes of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) length: u64,
    pub(crate) offset: u64,
}

impl Media {
    /// The last part of the playlist as (segment, index), where there is one.
    pub(crate) fn last_part(&self) -> Option<(u64, u64)> {
        match self.open.parts.len() {
            0 => self
                .segments
                .last()
                .filter(|segment| !segment.parts.is_empty())
                .map(|segment| (segment.number, segment.parts.len() as u64 - 1)),
            parts => Some((self.open.number, parts as u64 - 1)),
        }
    }

    pub(crate) fn last_segment(&self) -> Option<u64> {
        self.segments.last().map(|segment| segment.number)
    }

    /// Seconds of whole segments and of parts behind them.
    pub(crate) fn duration(&self) -> f64 {
        let open: f64 = self.open.parts.iter().map(|part| part.duration).sum();
        self.segments.iter().map(|segment| segment.duration).sum::<f64>() + open
    }

    /// Every listed part with its segment's number and its index.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Segment, u64, &Part)> {
        self.segments
            .iter()
            .chain(std::iter::once(&self.open))
            .flat_map(|segment| {
                segment
                    .parts
                    .iter()
                    .enumerate()
                    .map(move |(at, part)| (segment, at as u64, part))
            })
    }

    pub(crate) fn blocks(&self) -> bool {
        self.control
            .as_ref()
            .is_some_and(|control| control.yes("CAN-BLOCK-RELOAD"))
    }

    /// Reads a playlist; what breaks the rules of one version alone is reported.
    pub(crate) fn parse(text: &str, at: &str, report: &mut Report) -> Self {
        let mut reader = Reader::default();
        let mut lines = text.lines();
        if lines.next() != Some("#EXTM3U") {
            report.must(
                "§4.4.1.1",
                at,
                "EXTM3U is the first line",
                text.lines().next().unwrap_or_default(),
            );
        }
        check_text(text, at, report);
        for line in lines.filter(|line| !line.is_empty()) {
            if let Some(tag) = line.strip_prefix("#EXT") {
                let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
                reader.tag(&format!("EXT{name}"), value, at, report);
            } else if !line.starts_with('#') {
                reader.uri(line, at, report);
            }
        }
        reader.finish(at, report)
    }
}

#[derive(Debug, Default)]
struct Reader {
    media: Media,
    seen: Vec<String>,
    next: Segment,
    /// What stands before the first part of the segment that follows.
    info: bool,
    map: Option<Map>,
    keys: Vec<String>,
    bitrate: Option<u64>,
    needs: u64,
    needs_why: &'static str,
    has_version: bool,
    discontinuities: u64,
}

impl Reader {
    fn need(&mut self, version: u64, why: &'static str) {
        if version > self.needs {
            (self.needs, self.needs_why) = (version, why);
        }
    }

    fn tag(&mut self, tag: &str, value: &str, at: &str, report: &mut Report) {
        const ONCE: &[&str] = &[
            "EXT-X-VERSION",
            "EXT-X-INDEPENDENT-SEGMENTS",
            "EXT-X-START",
            "EXT-X-TARGETDURATION",
            "EXT-X-MEDIA-SEQUENCE",
            "EXT-X-DISCONTINUITY-SEQUENCE",
            "EXT-X-ENDLIST",
            "EXT-X-PLAYLIST-TYPE",
            "EXT-X-I-FRAMES-ONLY",
            "EXT-X-PART-INF",
            "EXT-X-SERVER-CONTROL",
            "EXT-X-SKIP",
        ];
        if ONCE.contains(&tag) {
            if self.seen.iter().any(|seen| seen == tag) {
                report.must("§4.4.3", at, "a tag of the whole playlist stands there once", tag);
            }
            self.seen.push(tag.to_owned());
        }
        if value.starts_with("REQ-") || value.contains(",REQ-") {
            self.need(12, "an attribute that begins with REQ-");
        }
        let list = |known: &[(&str, Kind)], required: &[&str], clause: &'static str, report: &mut Report| {
            let attributes = Attributes::parse(tag, value, at, report);
            attributes.check(tag, clause, known, required, at, report);
            attributes
        };
        let integer = |clause: &'static str, report: &mut Report| {
            decimal(value).unwrap_or_else(|| {
                report.must(
                    clause,
                    at,
                    "the value is a decimal-integer",
                    format!("{tag}:{value}"),
                );
                0
            })
        };
        let before_segments = |reader: &Self, clause: &'static str, report: &mut Report| {
            if !reader.media.segments.is_empty()
                || !reader.next.parts.is_empty()
                || reader.media.skipped.is_some()
            {
                report.must(clause, at, "the tag stands before the first segment", tag);
            }
        };
        match tag {
            "EXT-X-VERSION" => {
                self.media.version = integer("§4.4.1.2", report);
                self.has_version = true;
            }
            "EXT-X-INDEPENDENT-SEGMENTS" => self.media.independent = true,
            "EXT-X-START" => {
                let known = [("TIME-OFFSET", Kind::SignedFloat), ("PRECISE", YES_NO)];
                self.media.start = Some(list(&known, &["TIME-OFFSET"], "§4.4.2.2", report));
            }
            "EXT-X-DEFINE" => {
                let known = [
                    ("NAME", Kind::Quoted),
                    ("VALUE", Kind::QuotedEmpty),
                    ("IMPORT", Kind::Quoted),
                    ("QUERYPARAM", Kind::Quoted),
                ];
                let define = list(&known, &[], "§4.4.2.3", report);
                let ways = ["NAME", "IMPORT", "QUERYPARAM"]
                    .iter()
                    .filter(|way| define.has(way))
                    .count();
                if ways != 1 {
                    report.must(
                        "§4.4.2.3",
                        at,
                        "EXT-X-DEFINE has exactly one of NAME, IMPORT, QUERYPARAM",
                        value,
                    );
                }
                if define.has("QUERYPARAM") {
                    self.need(11, "EXT-X-DEFINE with QUERYPARAM");
                }
                self.need(8, "variable substitution");
                self.media.defines = true;
            }
            "EXT-X-TARGETDURATION" => {
                self.media.target = integer("§4.4.3.1", report);
                if self.media.target < 1 {
                    report.must("§4.4.3.1", at, "the Target Duration is at least 1", value);
                }
            }
            "EXT-X-MEDIA-SEQUENCE" => {
                before_segments(self, "§4.4.3.2", report);
                self.media.sequence = integer("§4.4.3.2", report);
            }
            "EXT-X-DISCONTINUITY-SEQUENCE" => {
                before_segments(self, "§4.4.3.3", report);
                if self.next.discontinuity || self.discontinuities > 0 {
                    report.must(
                        "§4.4.3.3",
                        at,
                        "EXT-X-DISCONTINUITY-SEQUENCE stands before any EXT-X-DISCONTINUITY",
                        value,
                    );
                }
                self.media.discontinuity_sequence = integer("§4.4.3.3", report);
            }
            "EXT-X-ENDLIST" => self.media.ended = true,
            "EXT-X-PLAYLIST-TYPE" => {
                if !["EVENT", "VOD"].contains(&value) {
                    report.must("§4.4.3.5", at, "EXT-X-PLAYLIST-TYPE is EVENT or VOD", value);
                }
                self.media.kind = Some(value.to_owned());
            }
            "EXT-X-I-FRAMES-ONLY" => {
                self.need(4, "EXT-X-I-FRAMES-ONLY");
                self.media.i_frames = true;
            }
            "EXT-X-PART-INF" => {
                let inf = list(
                    &[("PART-TARGET", Kind::Float)],
                    &["PART-TARGET"],
                    "§4.4.3.7",
                    report,
                );
                self.media.part_target = inf.seconds("PART-TARGET");
            }
            "EXT-X-SERVER-CONTROL" => {
                let known = [
                    ("CAN-SKIP-UNTIL", Kind::Float),
                    ("CAN-SKIP-DATERANGES", YES),
                    ("HOLD-BACK", Kind::Float),
                    ("PART-HOLD-BACK", Kind::Float),
                    ("CAN-BLOCK-RELOAD", YES),
                ];
                self.media.control = Some(list(&known, &[], "§4.4.3.8", report));
            }
            "EXTINF" => {
                let Some((duration, _)) = value.split_once(',') else {
                    report.must(
                        "§4.4.4.1",
                        at,
                        "EXTINF is a duration, a comma, and a title or none",
                        value,
                    );
                    return;
                };
                if duration.contains('.') {
                    self.need(3, "an EXTINF with a point");
                }
                match duration.parse::<f64>() {
                    Ok(seconds)
                        if seconds >= 0.0 && duration.bytes().all(|b| b.is_ascii_digit() || b == b'.') =>
                    {
                        self.next.duration = seconds;
                    }
                    _ => report.must("§4.4.4.1", at, "EXTINF's duration is a decimal number", value),
                }
                self.info = true;
            }
            "EXT-X-BYTERANGE" => {
                self.need(4, "EXT-X-BYTERANGE");
                let before = self.media.segments.last();
                let whole =
                    before.and_then(|segment| segment.range.map(|range| (segment.uri.clone(), range)));
                let range = byte_range(value, whole.map(|(_, range)| range.offset + range.length));
                if range.is_none() {
                    report.must(
                        "§4.4.4.2",
                        at,
                        "a byte range is <n>[@<o>], and has an offset where none follows from before",
                        value,
                    );
                }
                self.next.range = range;
            }
            "EXT-X-DISCONTINUITY" => {
                self.before_parts(tag, at, report);
                self.next.discontinuity = true;
                self.discontinuities += 1;
            }
            "EXT-X-KEY" => {
                self.before_parts(tag, at, report);
                let known = key_attributes();
                let key = list(&known, &["METHOD"], "§4.4.4.4", report);
                check_key(tag, "§4.4.4.4", &key, at, report);
                if key.has("IV") {
                    self.need(2, "EXT-X-KEY with IV");
                }
                if key.has("KEYFORMAT")
                    || key.has("KEYFORMATVERSIONS")
                    || key.text("METHOD") == Some("SAMPLE-AES")
                {
                    self.need(5, "EXT-X-KEY with KEYFORMAT or SAMPLE-AES");
                }
                let format = |text: &str| text.split("KEYFORMAT=").nth(1).map(str::to_owned);
                let same = format(value);
                self.keys
                    .retain(|key| key != "METHOD=NONE" && format(key) != same);
                if key.text("METHOD") == Some("NONE") {
                    self.keys.clear();
                } else {
                    self.keys.push(value.to_owned());
                }
            }
            "EXT-X-MAP" => {
                self.before_parts(tag, at, report);
                let map = list(
                    &[("URI", Kind::Quoted), ("BYTERANGE", Kind::Quoted)],
                    &["URI"],
                    "§4.4.4.5",
                    report,
                );
                let range = map.text("BYTERANGE").and_then(|text| {
                    let range = text.contains('@').then(|| byte_range(text, None)).flatten();
                    if range.is_none() {
                        report.must("§4.4.4.5", at, "EXT-X-MAP's BYTERANGE is <n>@<o>", text);
                    }
                    range
                });
                self.need(5, "EXT-X-MAP");
                self.map = Some(Map {
                    uri: map.text("URI").unwrap_or_default().to_owned(),
                    range,
                });
            }
            "EXT-X-PROGRAM-DATE-TIME" => {
                self.before_parts(tag, at, report);
                match Date::parse(value) {
                    None => report.must(
                        "§4.4.4.6",
                        at,
                        "EXT-X-PROGRAM-DATE-TIME is an ISO 8601 date and time",
                        value,
                    ),
                    Some(date) => {
                        if !date.has_zone || date.digits < 3 {
                            report.should("§4.4.4.6", at, "a date has a time zone and milliseconds", value);
                        }
                        self.next.date = Some(date);
                    }
                }
            }
            "EXT-X-GAP" => self.next.gap = true,
            "EXT-X-BITRATE" => self.bitrate = Some(integer("§4.4.4.8", report)),
            "EXT-X-PART" => {
                let known = [
                    ("URI", Kind::Quoted),
                    ("DURATION", Kind::Float),
                    ("INDEPENDENT", YES),
                    ("BYTERANGE", Kind::Quoted),
                    ("GAP", YES),
                ];
                let part = list(&known, &["URI", "DURATION"], "§4.4.4.9", report);
                if self.info {
                    report.must(
                        "§3.2",
                        at,
                        "a part stands before its segment's EXTINF and behind the segment before",
                        value,
                    );
                }
                let uri = part.text("URI").unwrap_or_default().to_owned();
                let end = |part: &Part| part.range.map(|range| range.offset + range.length);
                let before = self
                    .next
                    .parts
                    .last()
                    .filter(|before| before.uri == uri)
                    .and_then(end);
                let range = part.text("BYTERANGE").and_then(|text| {
                    let range = byte_range(text, Some(before.unwrap_or(0)));
                    if range.is_none() {
                        report.must("§4.4.4.9", at, "a part's BYTERANGE is <n>[@<o>]", text);
                    }
                    range
                });
                self.next.parts.push(Part {
                    uri,
                    duration: part.seconds("DURATION").unwrap_or_default(),
                    independent: part.yes("INDEPENDENT"),
                    gap: part.yes("GAP"),
                    range,
                });
            }
            "EXT-X-DATERANGE" => self.media.ranges.push(Attributes::parse(tag, value, at, report)),
            "EXT-X-SKIP" => {
                self.need(9, "EXT-X-SKIP");
                let known = [
                    ("SKIPPED-SEGMENTS", Kind::Integer),
                    ("RECENTLY-REMOVED-DATERANGES", Kind::QuotedEmpty),
                ];
                let skip = list(&known, &["SKIPPED-SEGMENTS"], "§4.4.5.2", report);
                if skip.has("RECENTLY-REMOVED-DATERANGES") {
                    self.need(10, "EXT-X-SKIP that replaces date ranges");
                }
                self.media.skipped = skip.number("SKIPPED-SEGMENTS");
            }
            "EXT-X-PRELOAD-HINT" => {
                let known = [
                    ("TYPE", Kind::Enum(&["PART", "MAP"])),
                    ("URI", Kind::Quoted),
                    ("BYTERANGE-START", Kind::Integer),
                    ("BYTERANGE-LENGTH", Kind::Integer),
                ];
                let hint = list(&known, &["TYPE", "URI"], "§4.4.5.3", report);
                let kind = hint.text("TYPE").unwrap_or_default().to_owned();
                if self.media.hints.iter().any(|other| other.kind == kind) {
                    report.should(
                        "§6.2.6",
                        at,
                        "there is at most one EXT-X-PRELOAD-HINT of a TYPE",
                        value,
                    );
                }
                self.media.hints.push(Hint {
                    kind,
                    uri: hint.text("URI").unwrap_or_default().to_owned(),
                    start: hint.number("BYTERANGE-START"),
                });
            }
            "EXT-X-RENDITION-REPORT" => {
                let known = [
                    ("URI", Kind::Quoted),
                    ("LAST-MSN", Kind::Integer),
                    ("LAST-PART", Kind::Integer),
                ];
                let told = list(&known, &["URI"], "§4.4.5.4", report);
                if told.text("URI").is_some_and(|uri| uri.contains("://")) {
                    report.must("§4.4.5.4", at, "a rendition report's URI is relative", value);
                }
                self.media.reports.push(told);
            }
            _ if MULTIVARIANT.contains(&tag) => {
                report.must("§4.4.6", at, "a multivariant tag is in no media playlist", tag);
            }
            _ => report.note("§4.4", at, "a tag that the draft does not define", tag),
        }
    }

    /// Tags that apply to a segment's first part stand before it.
    fn before_parts(&self, tag: &str, at: &str, report: &mut Report) {
        if !self.next.parts.is_empty() {
            report.must(
                "§4.4.4.9",
                at,
                "a tag that applies to a segment stands before the segment's first EXT-X-PART",
                tag,
            );
        }
    }

    fn uri(&mut self, line: &str, at: &str, report: &mut Report) {
        if line.contains([' ', '\t']) {
            report.must("§4.1", at, "there is no whitespace in a line", line);
        }
        if !self.info {
            report.must("§4.4.4.1", at, "each segment has an EXTINF", line);
        }
        self.complete(line.to_owned());
        let segment = std::mem::take(&mut self.next);
        if !self.media.i_frames && segment.map.is_some() {
            self.need(6, "EXT-X-MAP without EXT-X-I-FRAMES-ONLY");
        }
        self.media.segments.push(segment);
        self.info = false;
    }

    fn complete(&mut self, uri: String) {
        self.next.uri = uri;
        self.next.number =
            self.media.sequence + self.media.skipped.unwrap_or(0) + self.media.segments.len() as u64;
        self.next.sequence = self.media.discontinuity_sequence + self.discontinuities;
        self.next.map = self.map.clone();
        self.next.keys = self.keys.clone();
        if self.next.range.is_none() {
            self.next.bitrate = self.bitrate;
        }
    }

    fn finish(mut self, at: &str, report: &mut Report) -> Media {
        if self.info {
            report.must("§4.4.4.1", at, "an EXTINF has a URI behind it", "at the end");
        }
        self.complete(String::new());
        self.media.open = std::mem::take(&mut self.next);
        // by now the target is known, wherever it stands
        let target = self.media.target as f64;
        if self
            .media
            .segments
            .iter()
            .any(|segment| segment.duration > target)
        {
            self.need(6, "a segment that is longer than the Target Duration");
        }
        let mut media = self.media;
        if !self.seen.iter().any(|tag| tag == "EXT-X-TARGETDURATION") {
            report.must(
                "§4.4.3.1",
                at,
                "EXT-X-TARGETDURATION is REQUIRED",
                "there is none",
            );
        }
        // what the server offers counts too: a delta update of this playlist needs it (§4.4.1.2)
        let (mut needs, mut why) = (self.needs, self.needs_why);
        if let Some(control) = &media.control {
            for (name, version) in [("CAN-SKIP-UNTIL", 9), ("CAN-SKIP-DATERANGES", 10)] {
                if control.has(name) && version > needs {
                    (needs, why) = (version, "delta updates are offered");
                }
            }
        }
        if !self.has_version {
            media.version = 1;
            if self.needs > 1 {
                report.must(
                    "§4.4.1.2",
                    at,
                    "a playlist that needs more than version 1 has EXT-X-VERSION",
                    self.needs_why,
                );
            }
        } else if media.version < self.needs {
            let seen = format!(
                "{} is said, {} needs {}",
                media.version, self.needs_why, self.needs
            );
            report.must(
                "§8",
                at,
                "EXT-X-VERSION is high enough for what the playlist holds",
                seen,
            );
        } else if media.version > needs.max(1) {
            let seen = format!("{} is said, {needs} is needed ({why})", media.version);
            report.should(
                "§6.2.1",
                at,
                "EXT-X-VERSION is not greater than what is required",
                seen,
            );
        }
        media
    }
}

/// The rules for the text of any playlist.
pub(crate) fn check_text(text: &str, at: &str, report: &mut Report) {
    if text.starts_with('\u{feff}') {
        report.must("§4.1", at, "there is no byte order mark", "");
    }
    let control = |c: char| c.is_control() && c != '\n' && c != '\r' && c != '\t';
    if let Some(found) = text.chars().find(|c| control(*c)) {
        report.must(
            "§4.1",
            at,
            "there are no control characters",
            format!("{found:?}"),
        );
    }
    for line in text
        .lines()
        .filter(|line| line.starts_with([' ', '\t']) || line.ends_with([' ', '\t']))
    {
        report.must(
            "§4.1",
            at,
            "there is no whitespace but where it is specified",
            line,
        );
    }
}

/// What EXT-X-KEY and EXT-X-SESSION-KEY must hold.
pub(crate) fn check_key(tag: &str, clause: &'static str, key: &Attributes, at: &str, report: &mut Report) {
    let method = key.text("METHOD").unwrap_or_default();
    if method == "NONE" {
        if key.names().count() > 1 || tag == "EXT-X-SESSION-KEY" {
            report.must(
                clause,
                at,
                "METHOD=NONE stands alone, and in no EXT-X-SESSION-KEY",
                tag,
            );
        }
    } else if !key.has("URI") {
        report.must(
            clause,
            at,
            "a key's URI is REQUIRED unless METHOD is NONE",
            method,
        );
    }
    if ["SAMPLE-AES-CTR", "AES-256-GCM"].contains(&method) && key.has("IV") {
        report.must(clause, at, "this METHOD has no IV", method);
    }
    if key.text("IV").is_some_and(|iv| iv.len() > 34) {
        report.must(
            clause,
            at,
            "an IV is a number of 128 bits",
            key.text("IV").unwrap_or_default(),
        );
    }
}

pub(crate) fn key_attributes() -> [(&'static str, Kind); 5] {
    [
        (
            "METHOD",
            Kind::Enum(&["NONE", "AES-128", "SAMPLE-AES", "SAMPLE-AES-CTR", "AES-256-GCM"]),
        ),
        ("URI", Kind::Quoted),
        ("IV", Kind::Hex),
        ("KEYFORMAT", Kind::Quoted),
        ("KEYFORMATVERSIONS", Kind::Quoted),
    ]
}

fn byte_range(text: &str, follows: Option<u64>) -> Option<Range> {
    let (length, offset) = match text.split_once('@') {
        Some((length, offset)) => (length, Some(decimal(offset)?)),
        None => (text, follows),
    };
    Some(Range {
        length: decimal(length)?,
        offset: offset?,
    })
}

pub(crate) const YES_NO: Kind = Kind::Enum(&["YES", "NO"]);
/// Attributes whose only sense is YES; NO is understood by every reader.
const YES: Kind = Kind::Enum(&["YES", "NO"]);

/// Tags that stand in multivariant playlists only (§4.4.6).
pub(crate) const MULTIVARIANT: &[&str] = &[
    "EXT-X-MEDIA",
    "EXT-X-STREAM-INF",
    "EXT-X-I-FRAME-STREAM-INF",
    "EXT-X-SESSION-DATA",
    "EXT-X-SESSION-KEY",
    "EXT-X-CONTENT-STEERING",
];
