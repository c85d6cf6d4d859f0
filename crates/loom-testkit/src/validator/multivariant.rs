//! The multivariant playlist (draft-pantos-hls-rfc8216bis-20 §4.4.6).

use std::collections::{BTreeMap, HashMap};

use super::attributes::{Attributes, Kind, decimal};
use super::media::{YES_NO, check_key, check_text, key_attributes};
use super::report::Report;

/// A multivariant playlist.
#[derive(Debug, Clone, Default)]
pub(crate) struct Multivariant {
    pub(crate) version: u64,
    pub(crate) needs: u64,
    pub(crate) independent: bool,
    pub(crate) start: Option<Attributes>,
    pub(crate) variants: Vec<(Attributes, String)>,
    pub(crate) i_frames: Vec<Attributes>,
    pub(crate) media: Vec<Attributes>,
    pub(crate) steering: Option<Attributes>,
    pub(crate) session_data: Vec<Attributes>,
    pub(crate) session_keys: Vec<Attributes>,
}

const STREAM: &[(&str, Kind)] = &[
    ("BANDWIDTH", Kind::Integer),
    ("AVERAGE-BANDWIDTH", Kind::Integer),
    ("SCORE", Kind::Float),
    ("CODECS", Kind::Quoted),
    ("SUPPLEMENTAL-CODECS", Kind::Quoted),
    ("RESOLUTION", Kind::Resolution),
    ("FRAME-RATE", Kind::Float),
    ("HDCP-LEVEL", Kind::Enum(&["TYPE-0", "TYPE-1", "NONE"])),
    ("ALLOWED-CPC", Kind::Quoted),
    ("VIDEO-RANGE", Kind::Enum(&["SDR", "HLG", "PQ"])),
    ("REQ-VIDEO-LAYOUT", Kind::Quoted),
    ("STABLE-VARIANT-ID", Kind::Quoted),
    ("AUDIO", Kind::Quoted),
    ("VIDEO", Kind::Quoted),
    ("SUBTITLES", Kind::Quoted),
    ("CLOSED-CAPTIONS", Kind::QuotedOr("NONE")),
    ("PATHWAY-ID", Kind::Quoted),
    ("URI", Kind::Quoted),
];

const MEDIA: &[(&str, Kind)] = &[
    (
        "TYPE",
        Kind::Enum(&["AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS"]),
    ),
    ("URI", Kind::Quoted),
    ("GROUP-ID", Kind::Quoted),
    ("LANGUAGE", Kind::Quoted),
    ("ASSOC-LANGUAGE", Kind::Quoted),
    ("NAME", Kind::Quoted),
    ("STABLE-RENDITION-ID", Kind::Quoted),
    ("DEFAULT", YES_NO),
    ("AUTOSELECT", YES_NO),
    ("FORCED", YES_NO),
    ("INSTREAM-ID", Kind::Quoted),
    ("BIT-DEPTH", Kind::Integer),
    ("SAMPLE-RATE", Kind::Integer),
    ("CHARACTERISTICS", Kind::Quoted),
    ("CHANNELS", Kind::Quoted),
];

impl Multivariant {
    /// Whether the text is one, and no media playlist.
    pub(crate) fn is(text: &str) -> bool {
        super::media::MULTIVARIANT.iter().any(|tag| {
            text.lines().any(|line| {
                line.strip_prefix('#')
                    .is_some_and(|line| line.starts_with(&format!("{tag}:")))
            })
        })
    }

    pub(crate) fn parse(text: &str, at: &str, report: &mut Report) -> Self {
        let mut it = Self {
            version: 1,
            needs: 1,
            ..Self::default()
        };
        check_text(text, at, report);
        if text.lines().next() != Some("#EXTM3U") {
            report.must(
                "§4.4.1.1",
                at,
                "EXTM3U is the first line",
                text.lines().next().unwrap_or_default(),
            );
        }
        let mut seen: Vec<String> = Vec::new();
        let mut stream: Option<Attributes> = None;
        for line in text.lines().skip(1).filter(|line| !line.is_empty()) {
            let Some(rest) = line.strip_prefix("#EXT") else {
                if line.starts_with('#') {
                    continue;
                }
                match stream.take() {
                    Some(variant) => it.variants.push((variant, line.to_owned())),
                    None => report.must(
                        "§4.4.6.2",
                        at,
                        "a URI line stands behind its EXT-X-STREAM-INF",
                        line,
                    ),
                }
                continue;
            };
            if stream.is_some() {
                report.must(
                    "§4.4.6.2",
                    at,
                    "a URI line stands behind its EXT-X-STREAM-INF",
                    line,
                );
                stream = None;
            }
            let (name, value) = rest.split_once(':').unwrap_or((rest, ""));
            let tag = format!("EXT{name}");
            let once = [
                "EXT-X-VERSION",
                "EXT-X-INDEPENDENT-SEGMENTS",
                "EXT-X-START",
                "EXT-X-CONTENT-STEERING",
            ];
            if once.contains(&tag.as_str()) {
                if seen.contains(&tag) {
                    report.must(
                        "§4.4.2",
                        at,
                        "a tag of the whole playlist stands there once",
                        &tag,
                    );
                }
                seen.push(tag.clone());
            }
            let list = |report: &mut Report| Attributes::parse(&tag, value, at, report);
            match tag.as_str() {
                "EXT-X-VERSION" => it.version = decimal(value).unwrap_or(0),
                "EXT-X-INDEPENDENT-SEGMENTS" => it.independent = true,
                "EXT-X-START" => it.start = Some(list(report)),
                "EXT-X-DEFINE" => it.needs = it.needs.max(8),
                "EXT-X-STREAM-INF" => {
                    let found = list(report);
                    found.check(&tag, "§4.4.6.2", STREAM, &["BANDWIDTH"], at, report);
                    stream = Some(found);
                }
                "EXT-X-I-FRAME-STREAM-INF" => {
                    let found = list(report);
                    found.check(&tag, "§4.4.6.3", STREAM, &["BANDWIDTH", "URI"], at, report);
                    for name in ["FRAME-RATE", "AUDIO", "SUBTITLES", "CLOSED-CAPTIONS"]
                        .iter()
                        .filter(|name| found.has(name))
                    {
                        report.must(
                            "§4.4.6.3",
                            at,
                            "this attribute is not defined for EXT-X-I-FRAME-STREAM-INF",
                            name,
                        );
                    }
                    it.i_frames.push(found);
                }
                "EXT-X-MEDIA" => {
                    let found = list(report);
                    found.check(&tag, "§4.4.6.1", MEDIA, &["TYPE", "GROUP-ID", "NAME"], at, report);
                    it.media.push(found);
                }
                "EXT-X-SESSION-DATA" => {
                    let found = list(report);
                    let known = [
                        ("DATA-ID", Kind::Quoted),
                        ("VALUE", Kind::Quoted),
                        ("URI", Kind::Quoted),
                        ("FORMAT", Kind::Enum(&["JSON", "RAW"])),
                        ("LANGUAGE", Kind::Quoted),
                    ];
                    found.check(&tag, "§4.4.6.4", &known, &["DATA-ID"], at, report);
                    if found.has("VALUE") == found.has("URI") {
                        report.must("§4.4.6.4", at, "session data has either VALUE or URI", value);
                    }
                    let same = |other: &Attributes| {
                        other.text("DATA-ID") == found.text("DATA-ID")
                            && other.text("LANGUAGE") == found.text("LANGUAGE")
                    };
                    if it.session_data.iter().any(same) {
                        report.must(
                            "§4.4.6.4",
                            at,
                            "session data of one DATA-ID and LANGUAGE stands there once",
                            value,
                        );
                    }
                    it.session_data.push(found);
                }
                "EXT-X-SESSION-KEY" => {
                    let found = list(report);
                    found.check(&tag, "§4.4.6.5", &key_attributes(), &["METHOD"], at, report);
                    check_key(&tag, "§4.4.6.5", &found, at, report);
                    if it.session_keys.contains(&found) {
                        report.must("§4.4.6.5", at, "no session key stands there twice", value);
                    }
                    it.session_keys.push(found);
                }
                "EXT-X-CONTENT-STEERING" => {
                    let found = list(report);
                    let known = [("SERVER-URI", Kind::Quoted), ("PATHWAY-ID", Kind::Quoted)];
                    found.check(&tag, "§4.4.6.6", &known, &["SERVER-URI"], at, report);
                    it.steering = Some(found);
                }
                name if MEDIA_ONLY.contains(&name) => {
                    report.must(
                        "§4.4.3",
                        at,
                        "a media playlist's tag is in no multivariant playlist",
                        name,
                    );
                }
                _ => report.note("§4.4", at, "a tag that the draft does not define", &tag),
            }
        }
        if stream.is_some() {
            report.must(
                "§4.4.6.2",
                at,
                "a URI line stands behind its EXT-X-STREAM-INF",
                "at the end",
            );
        }
        it.check(at, report);
        it
    }

    fn check(&mut self, at: &str, report: &mut Report) {
        self.groups(at, report);
        self.streams(at, report);
        if self.variants.is_empty() {
            report.must(
                "§4.4.6.2",
                at,
                "a presentation has a variant stream",
                "there is none",
            );
        }
        let all = || {
            self.variants
                .iter()
                .map(|(variant, _)| variant)
                .chain(&self.i_frames)
                .chain(&self.media)
        };
        if all().any(|tag| tag.names().any(|name| name.starts_with("REQ-"))) {
            self.needs = self.needs.max(12);
        }
        for media in &self.media {
            if let Some(id) = media.text("INSTREAM-ID") {
                let captions = media.text("TYPE") == Some("CLOSED-CAPTIONS");
                self.needs = self.needs.max(match captions {
                    true if id.starts_with("SERVICE") => 7,
                    true => 1,
                    false => 13,
                });
            }
        }
        if self.version < self.needs {
            report.must(
                "§8",
                at,
                "EXT-X-VERSION is high enough for what the playlist holds",
                format!("{} of {}", self.version, self.needs),
            );
        }
        if let Some(steering) = &self.steering
            && let Some(pathway) = steering.text("PATHWAY-ID")
            && !self
                .variants
                .iter()
                .any(|(variant, _)| variant.text("PATHWAY-ID").unwrap_or(".") == pathway)
        {
            report.must(
                "§4.4.6.6",
                at,
                "the initial pathway is one of a variant stream",
                pathway,
            );
        }
    }

    fn groups(&self, at: &str, report: &mut Report) {
        let mut groups: BTreeMap<(String, String), Vec<&Attributes>> = BTreeMap::new();
        for media in &self.media {
            let text = |name: &str| media.text(name).unwrap_or_default().to_owned();
            let kind = text("TYPE");
            groups
                .entry((kind.clone(), text("GROUP-ID")))
                .or_default()
                .push(media);
            let mut wrong = |clause, rule| report.must(clause, at, rule, text("NAME"));
            if kind == "SUBTITLES" && !media.has("URI") {
                wrong("§4.4.6.2.1", "subtitles have a URI");
            }
            if kind == "CLOSED-CAPTIONS" && (media.has("URI") || !media.has("INSTREAM-ID")) {
                wrong("§4.4.6.1", "closed captions have an INSTREAM-ID and no URI");
            }
            if kind != "SUBTITLES" && media.has("FORCED") {
                wrong("§4.4.6.1", "only subtitles have FORCED");
            }
            if kind != "AUDIO"
                && ["CHANNELS", "BIT-DEPTH", "SAMPLE-RATE"]
                    .iter()
                    .any(|name| media.has(name))
            {
                wrong("§4.4.6.1", "only audio has CHANNELS, BIT-DEPTH and SAMPLE-RATE");
            }
            if media.yes("DEFAULT") && media.text("AUTOSELECT") == Some("NO") {
                wrong("§4.4.6.1", "what is DEFAULT is AUTOSELECT");
            }
            if kind == "AUDIO" && !media.has("CHANNELS") {
                report.should("§4.4.6.1", at, "audio has CHANNELS", text("NAME"));
            }
            if let Some(channels) = media.text("CHANNELS")
                && decimal(channels.split('/').next().unwrap_or_default()).is_none()
            {
                report.must("§4.4.6.1", at, "CHANNELS begins with a decimal-integer", channels);
            }
            stable(media.text("STABLE-RENDITION-ID"), "§4.4.6.1", at, report);
        }
        for ((kind, id), members) in &groups {
            let of =
                |name: &str| -> Vec<&str> { members.iter().filter_map(|member| member.text(name)).collect() };
            let mut names = of("NAME");
            names.sort_unstable();
            if names.windows(2).any(|pair| pair[0] == pair[1]) {
                report.must(
                    "§4.4.6.1.1",
                    at,
                    "members of a group have different NAMEs",
                    format!("{kind} {id}: {names:?}"),
                );
            }
            if members.iter().filter(|member| member.yes("DEFAULT")).count() > 1 {
                report.must(
                    "§4.4.6.1.1",
                    at,
                    "a group has at most one DEFAULT",
                    format!("{kind} {id}"),
                );
            }
            let mut marks: Vec<_> = members
                .iter()
                .filter(|member| member.yes("AUTOSELECT"))
                .map(|m| ["LANGUAGE", "ASSOC-LANGUAGE", "FORCED", "CHARACTERISTICS"].map(|name| m.text(name)))
                .collect();
            marks.sort_unstable();
            if marks.windows(2).any(|pair| pair[0] == pair[1]) {
                report.should(
                    "§4.4.6.1.1",
                    at,
                    "members that are AUTOSELECT differ in language or characteristics",
                    format!("{kind} {id}"),
                );
            }
            for ((other_kind, other_id), others) in groups.range((kind.clone(), id.clone())..).skip(1) {
                if other_kind == kind && !alike(members, others) {
                    let seen = format!("{kind} {id} and {other_id}");
                    report.must(
                        "§4.4.6.1.1",
                        at,
                        "groups of one TYPE have the same members with the same attributes",
                        seen,
                    );
                }
            }
        }
        for (variant, uri) in &self.variants {
            for (name, kind) in [
                ("AUDIO", "AUDIO"),
                ("VIDEO", "VIDEO"),
                ("SUBTITLES", "SUBTITLES"),
                ("CLOSED-CAPTIONS", "CLOSED-CAPTIONS"),
            ] {
                let Some(group) = variant
                    .text(name)
                    .filter(|group| !(name == "CLOSED-CAPTIONS" && *group == "NONE"))
                else {
                    continue;
                };
                if !groups.contains_key(&(kind.to_owned(), group.to_owned())) {
                    report.must(
                        "§4.4.6.2",
                        at,
                        "a variant's group is one of an EXT-X-MEDIA of that TYPE",
                        format!("{uri}: {name}={group}"),
                    );
                }
            }
        }
    }

    fn streams(&self, at: &str, report: &mut Report) {
        let variants = || self.variants.iter().map(|(variant, _)| variant);
        let none = variants()
            .filter(|variant| variant.text("CLOSED-CAPTIONS") == Some("NONE"))
            .count();
        if none > 0 && none < self.variants.len() {
            report.must(
                "§4.4.6.2",
                at,
                "CLOSED-CAPTIONS=NONE stands in every variant or in none",
                format!("in {none}"),
            );
        }
        let scored = variants().filter(|variant| variant.has("SCORE")).count();
        if scored > 0 && scored < self.variants.len() {
            report.should(
                "§4.4.6.2",
                at,
                "all variants have a SCORE or none has",
                format!("{scored} of {}", self.variants.len()),
            );
        }
        let mut ids: HashMap<&str, Option<&str>> = HashMap::new();
        for (variant, uri) in &self.variants {
            if !variant.has("CODECS") {
                report.should("§4.4.6.2", at, "a variant has CODECS", uri);
            }
            if variant.seconds("FRAME-RATE").is_some_and(|rate| rate <= 0.0)
                || variant.seconds("SCORE").is_some_and(|score| score <= 0.0)
            {
                report.must("§4.4.6.2", at, "FRAME-RATE and SCORE are positive", uri);
            }
            if let Some(rate) = variant.text("FRAME-RATE")
                && rate.split_once('.').is_some_and(|(_, digits)| digits.len() > 3)
            {
                report.must(
                    "§4.4.6.2",
                    at,
                    "FRAME-RATE is rounded to three decimal places",
                    rate,
                );
            }
            stable(variant.text("STABLE-VARIANT-ID"), "§4.4.6.2", at, report);
            let id = variant.text("STABLE-VARIANT-ID");
            if *ids.entry(uri).or_insert(id) != id {
                report.should(
                    "§4.4.6.2",
                    at,
                    "variants of one URI have one STABLE-VARIANT-ID",
                    uri,
                );
            }
            if let (Some(average), Some(peak)) =
                (variant.number("AVERAGE-BANDWIDTH"), variant.number("BANDWIDTH"))
                && average > peak
            {
                report.must(
                    "§4.4.6.2",
                    at,
                    "the average is not above the peak",
                    format!("{uri}: {average} of {peak}"),
                );
            }
        }
        let stabled = variants()
            .filter(|variant| variant.has("STABLE-VARIANT-ID"))
            .count();
        if self.steering.is_some() && stabled < self.variants.len() {
            report.note(
                "§7",
                at,
                "steering of what is downloaded needs STABLE-VARIANT-ID",
                format!("{stabled} of {}", self.variants.len()),
            );
        }
    }
}

fn stable(id: Option<&str>, clause: &'static str, at: &str, report: &mut Report) {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"+/=.-_".contains(&b);
    if let Some(id) = id.filter(|id| !id.bytes().all(fits)) {
        report.must(clause, at, "a stable id is of a-z A-Z 0-9 + / = . - _", id);
    }
}

/// Whether two groups have the same members but for what may differ (§4.4.6.1.1).
fn alike(some: &[&Attributes], others: &[&Attributes]) -> bool {
    const FREE: &[&str] = &[
        "GROUP-ID",
        "URI",
        "CHANNELS",
        "BIT-DEPTH",
        "STABLE-RENDITION-ID",
        "INSTREAM-ID",
        "SAMPLE-RATE",
    ];
    let marks = |group: &[&Attributes]| {
        let mut all: Vec<Vec<String>> = group
            .iter()
            .map(|member| {
                let mut mark: Vec<String> = member
                    .pairs()
                    .filter(|(name, _)| !FREE.contains(name))
                    .map(|(name, value)| format!("{name}={value:?}"))
                    .collect();
                mark.sort();
                mark
            })
            .collect();
        all.sort();
        all
    };
    marks(some) == marks(others)
}

const MEDIA_ONLY: &[&str] = &[
    "EXTINF",
    "EXT-X-TARGETDURATION",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-ENDLIST",
    "EXT-X-PLAYLIST-TYPE",
    "EXT-X-I-FRAMES-ONLY",
    "EXT-X-PART-INF",
    "EXT-X-SERVER-CONTROL",
    "EXT-X-BYTERANGE",
    "EXT-X-DISCONTINUITY",
    "EXT-X-KEY",
    "EXT-X-MAP",
    "EXT-X-PROGRAM-DATE-TIME",
    "EXT-X-GAP",
    "EXT-X-BITRATE",
    "EXT-X-PART",
    "EXT-X-DATERANGE",
    "EXT-X-SKIP",
    "EXT-X-PRELOAD-HINT",
    "EXT-X-RENDITION-REPORT",
];
