//! One media playlist, followed over time: its versions, its parts and its segments.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use url::Url;

use super::boxes::{self, Init};
use super::media::{Map, Media, Part, Range, Segment};
use super::net::{Answer, Client, with_query};
use super::report::Report;
use super::webvtt::{self, Cue};
use super::{Options, delivery, second, version};

/// What a playlist is in its presentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Main,
    Subtitles,
    IFrames,
}

/// A playlist and all that was learned of it.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) url: Url,
    pub(crate) at: String,
    pub(crate) role: Role,
    pub(crate) last: Media,
    /// When each version was asked for and had, and its last segment and part.
    pub(crate) history: Vec<Seen>,
    pub(crate) told: Vec<Told>,
    pub(crate) inits: HashMap<String, Init>,
    pub(crate) media: BTreeMap<u64, boxes::Media>,
    pub(crate) cues: BTreeMap<u64, Vec<Cue>>,
    /// Seconds and bytes of each segment.
    pub(crate) sizes: BTreeMap<u64, (f64, u64)>,
    /// The farthest that two parts' arrivals lay apart.
    pub(crate) longest_wait: Duration,
    pub(crate) report: Report,
    parts: BTreeMap<(u64, u64), Vec<u8>>,
    hinted: HashMap<String, Result<Vec<u8>, u16>>,
    /// When a segment was first listed, and the longest playlist that had it.
    appeared: BTreeMap<u64, (Instant, String, Option<Range>, f64)>,
    read: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) sent: Instant,
    pub(crate) received: Instant,
    pub(crate) segment: Option<u64>,
    pub(crate) part: Option<(u64, u64)>,
}

/// A rendition report.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) sent: Instant,
    pub(crate) received: Instant,
    pub(crate) of: Url,
    pub(crate) segment: Option<u64>,
    pub(crate) part: Option<u64>,
}

impl Followed {
    pub(crate) fn new(url: Url, base: &Url, role: Role) -> Self {
        let at = base
            .make_relative(&url)
            .filter(|at| !at.is_empty())
            .unwrap_or_else(|| url.path().to_owned());
        Self {
            url,
            at,
            role,
            last: Media::default(),
            history: Vec::new(),
            told: Vec::new(),
            inits: HashMap::new(),
            media: BTreeMap::new(),
            cues: BTreeMap::new(),
            sizes: BTreeMap::new(),
            longest_wait: Duration::ZERO,
            report: Report::default(),
            parts: BTreeMap::new(),
            hinted: HashMap::new(),
            appeared: BTreeMap::new(),
            read: 0,
        }
    }

    /// Follows it until it ends or the time is over.
    pub(crate) fn follow(mut self, client: &Client, options: &Options) -> Self {
        self.report.playlists = 1;
        let deadline = Instant::now() + options.time;
        let Some(first) = self.load(client, &[], Duration::from_secs(60)) else {
            return self;
        };
        self.accept(first, client, options, true);
        let middle = Instant::now() + options.time / 2;
        let (mut turn, mut probed) = (0u64, false);
        let mut grown = Instant::now();
        while !self.last.ended && Instant::now() < deadline {
            turn += 1;
            if !probed && (Instant::now() >= middle || turn == 10) {
                probed = true;
                delivery::probe(client, &self.url, &self.last, &self.at, &mut self.report);
            }
            let target = Duration::from_secs(self.last.target.max(1));
            let mut directives: Vec<(&str, String)> = Vec::new();
            if self.last.blocks() {
                if turn % 4 == 1 {
                    self.try_hint(client, target * 3);
                }
                let (segment, part) = match (self.last.part_target, self.last.last_part()) {
                    (Some(_), Some((segment, part))) if segment == self.last.open.number => {
                        (segment, Some(part + 1))
                    }
                    (Some(_), _) => (self.last.open.number, Some(0)),
                    (None, _) => (self.last.open.number, None),
                };
                directives.push(("_HLS_msn", segment.to_string()));
                directives.extend(part.map(|part| ("_HLS_part", part.to_string())));
            } else {
                let soon = target
                    .mul_f64(0.5)
                    .min(deadline.saturating_duration_since(Instant::now()));
                std::thread::sleep(soon);
            }
            let skip = self
                .last
                .control
                .as_ref()
                .filter(|control| control.has("CAN-SKIP-UNTIL"));
            if let Some(control) = skip.filter(|_| turn.is_multiple_of(3)) {
                let both = control.yes("CAN-SKIP-DATERANGES") && turn.is_multiple_of(2);
                directives.push(("_HLS_skip", if both { "v2" } else { "YES" }.to_owned()));
            }
            let before = (self.last.last_segment(), self.last.last_part());
            let Some(next) = self.load(client, &directives, target * 4 + options.patience) else {
                std::thread::sleep(Duration::from_millis(200));
                continue;
            };
            self.obeyed(&directives, &next);
            self.accept(next, client, options, false);
            let now = Instant::now();
            if (self.last.last_segment(), self.last.last_part()) != before {
                self.longest_wait = self.longest_wait.max(now - grown);
                grown = now;
            } else if self.last.blocks() {
                // a server that does not hold requests is not to be flooded with them
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        self.still_there(client);
        self
    }

    /// Reads a playlist that ended while it was followed once more: as it is left.
    pub(crate) fn settle(&mut self, client: &Client) {
        if self.last.ended
            && let Some((_, media)) = self.load(client, &[], Duration::from_secs(60))
        {
            version::check(&media, &self.at, &mut self.report);
            if media.segments.len() < self.last.segments.len() || !media.ended {
                let seen = format!(
                    "{} segments of {}",
                    media.segments.len(),
                    self.last.segments.len()
                );
                self.report
                    .must("§6.2.1", &self.at, "what has ended stays whole", seen);
            }
            self.last = media;
        }
    }

    /// Asks for the playlist and reads it; a delta update becomes a whole one.
    fn load(
        &mut self,
        client: &Client,
        directives: &[(&str, String)],
        limit: Duration,
    ) -> Option<(Answer, Media)> {
        const CLAUSE: &str = "§6.2.1";
        let url = with_query(&self.url, directives);
        let url = if directives.is_empty() {
            self.url.clone()
        } else {
            url
        };
        let answer = match client.fetch(&url, None, limit) {
            Ok(answer) => answer,
            Err(why) => {
                self.report.must(CLAUSE, &self.at, "a playlist can be had", why);
                return None;
            }
        };
        if answer.status == 503 && !directives.is_empty() {
            // it may be so, where nothing comes for three target durations (§6.2.5.2); that it does not come is told elsewhere
            self.report.note(
                "§6.2.5.2",
                &self.at,
                "a blocked request was answered with 503",
                format!("{directives:?}"),
            );
            return None;
        }
        if answer.status != 200 {
            self.report.must(
                CLAUSE,
                &self.at,
                "a playlist can be had",
                format!("{} for {directives:?}", answer.status),
            );
            return None;
        }
        delivery::playlist(&answer, &self.url, &self.at, &mut self.report);
        let Some(text) = answer.text() else {
            self.report
                .must("§4.1", &self.at, "a playlist is UTF-8", "it is not");
            return None;
        };
        self.report.reloads += 1;
        let media = Media::parse(text, &self.at, &mut self.report);
        second::media(text, &media, &self.at, &mut self.report);
        delivery::playlist_age(
            &answer,
            &media,
            directives.iter().any(|(name, _)| *name == "_HLS_msn"),
            &self.at,
            &mut self.report,
        );
        let skip = directives.iter().find(|(name, _)| *name == "_HLS_skip");
        let media = match (skip, media.skipped) {
            (None, None) => media,
            (None, Some(_)) => {
                self.report.must(
                    "§6.2.5.1",
                    &self.at,
                    "only a delta update has EXT-X-SKIP",
                    "it was not asked for",
                );
                return None;
            }
            (Some(_), None) => {
                let boundary = media
                    .control
                    .as_ref()
                    .and_then(|control| control.seconds("CAN-SKIP-UNTIL"));
                let behind: f64 = media
                    .segments
                    .iter()
                    .skip(1)
                    .map(|segment| segment.duration)
                    .sum();
                if boundary.is_some_and(|boundary| behind > boundary) && !media.ended {
                    self.report.must(
                        "§6.2.5.1",
                        &self.at,
                        "a delta update is the answer to _HLS_skip",
                        format!("{behind:.1} s behind the first segment"),
                    );
                }
                media
            }
            (Some((_, how)), Some(_)) => {
                if how == "v2" && !text.contains("RECENTLY-REMOVED-DATERANGES") {
                    self.report.must(
                        "§4.4.5.2",
                        &self.at,
                        "RECENTLY-REMOVED-DATERANGES is REQUIRED in an answer to v2",
                        "it is not there",
                    );
                }
                version::merged(&self.last, &media, &self.at, &mut self.report)?
            }
        };
        Some((answer, media))
    }

    /// Whether a blocked answer holds what was asked for (§6.2.5.2).
    fn obeyed(&mut self, directives: &[(&str, String)], next: &(Answer, Media)) {
        let of = |wanted: &str| {
            directives
                .iter()
                .find(|(name, _)| *name == wanted)
                .and_then(|(_, value)| value.parse::<u64>().ok())
        };
        let media = &next.1;
        let Some(segment) = of("_HLS_msn").filter(|_| !media.ended) else {
            return;
        };
        let part = of("_HLS_part");
        let has = match (part, media.last_part()) {
            (_, _) if media.last_segment() >= Some(segment) => true,
            (Some(part), Some(last)) => last >= (segment, part),
            _ => false,
        };
        if !has {
            let seen = format!(
                "asked for {segment}.{part:?}, ends at {:?} and {:?}",
                media.last_segment(),
                media.last_part()
            );
            self.report.must(
                "§6.2.5.2",
                &self.at,
                "a blocked answer holds what was asked for",
                seen,
            );
        }
    }

    /// Takes a version: checks it, what changed, and reads what is new.
    fn accept(&mut self, (answer, media): (Answer, Media), client: &Client, options: &Options, first: bool) {
        version::check(&media, &self.at, &mut self.report);
        if !first {
            version::check_successor(&self.last, &media, &self.at, &mut self.report);
            self.hint_came_true(&media);
        }
        self.history.push(Seen {
            sent: answer.sent,
            received: answer.received,
            segment: media.last_segment(),
            part: media.last_part(),
        });
        for told in &media.reports {
            let Some(of) = told.text("URI").and_then(|uri| self.url.join(uri).ok()) else {
                continue;
            };
            self.told.push(Told {
                sent: answer.sent,
                received: answer.received,
                of,
                segment: told.number("LAST-MSN").or(media.last_segment()),
                part: told.number("LAST-PART"),
            });
        }
        let length = media.duration();
        for segment in &media.segments {
            let entry = self
                .appeared
                .entry(segment.number)
                .or_insert_with(|| (answer.received, segment.uri.clone(), segment.range, length));
            entry.3 = entry.3.max(length);
        }
        if first && !media.ended {
            let join = media.segments.len().saturating_sub(options.back);
            self.read = media
                .segments
                .get(join)
                .map_or(media.open.number, |segment| segment.number);
        } else if first {
            self.read = media.sequence;
        }
        if options.media {
            self.read_parts(&media, client);
            self.read_segments(&media, client, options);
        }
        self.last = media;
    }

    fn read_parts(&mut self, media: &Media, client: &Client) {
        let wanted: Vec<(u64, u64, Part, Segment)> = media
            .parts()
            .filter(|(segment, index, part)| {
                segment.number >= self.read
                    && !part.gap
                    && !self.parts.contains_key(&(segment.number, *index))
            })
            .map(|(segment, index, part)| (segment.number, index, part.clone(), segment.clone()))
            .collect();
        for (number, index, part, segment) in wanted {
            let name = format!("{} part {number}.{index}", self.at);
            let Some(data) = self.bytes(client, &part.uri, part.range, &name) else {
                continue;
            };
            if let Some(Ok(early)) = self.hinted.get(&part.uri)
                && *early != data
            {
                let seen = format!(
                    "{number}.{index}: {} bytes early, {} now",
                    early.len(),
                    data.len()
                );
                self.report.must(
                    "§6.2.6",
                    &self.at,
                    "a hinted part is the same as the one that is listed",
                    seen,
                );
            }
            self.report.parts += 1;
            if let Some(init) = self.init(client, segment.map.as_ref())
                && let Some(read) = boxes::media(&data, &init, &self.at, &mut self.report)
            {
                if (read.seconds() - part.duration).abs() > PART_SLACK {
                    let seen = format!(
                        "{number}.{index}: {} s are said, {:.6} s are there",
                        part.duration,
                        read.seconds()
                    );
                    self.report
                        .must("§4.4.4.9", &self.at, "a part's DURATION is true", seen);
                }
                if part.independent && !read.has_key {
                    self.report.must(
                        "§4.4.4.9",
                        &self.at,
                        "an INDEPENDENT part holds an independent frame",
                        format!("{number}.{index}"),
                    );
                }
                if !part.independent && read.has_key && !init.tracks.iter().all(|track| track.size.is_none())
                {
                    self.report.should(
                        "§4.4.4.9",
                        &self.at,
                        "a part with an independent frame says INDEPENDENT=YES",
                        format!("{number}.{index}"),
                    );
                }
            }
            self.parts.insert((number, index), data);
        }
    }

    fn read_segments(&mut self, media: &Media, client: &Client, options: &Options) {
        let wanted: Vec<Segment> = media
            .segments
            .iter()
            .filter(|segment| segment.number >= self.read)
            .cloned()
            .collect();
        for segment in wanted.into_iter().take(options.most) {
            self.read = segment.number + 1;
            let before = self.media.get(&segment.number.wrapping_sub(1)).cloned();
            let parts: Vec<Vec<u8>> = (0..segment.parts.len() as u64)
                .filter_map(|index| self.parts.get(&(segment.number, index)).cloned())
                .collect();
            self.parts.retain(|(number, _), _| *number > segment.number);
            if segment.gap {
                continue;
            }
            let name = format!("{} segment {}", self.at, segment.number);
            let Some(data) = self.bytes(client, &segment.uri, segment.range, &name) else {
                continue;
            };
            self.report.segments += 1;
            self.sizes
                .insert(segment.number, (segment.duration, data.len() as u64));
            bitrate(&segment, data.len(), &self.at, &mut self.report);
            if data.starts_with(b"WEBVTT") || segment.uri.ends_with(".vtt") {
                let cues = webvtt::read(
                    std::str::from_utf8(&data).unwrap_or_default(),
                    &name,
                    &mut self.report,
                );
                self.cues.insert(segment.number, cues);
                continue;
            }
            if segment.keys.iter().any(|key| key.contains("METHOD=AES-")) {
                self.report.note(
                    "§5.2",
                    &self.at,
                    "segments that are encrypted whole are not read",
                    segment.number,
                );
                continue;
            }
            let Some(map) = &segment.map else {
                if data.first() != Some(&0x47) {
                    self.report.must(
                        "§3.1.2",
                        &self.at,
                        "each fMP4 segment has an EXT-X-MAP",
                        segment.number,
                    );
                }
                continue;
            };
            let Some(init) = self.init(client, Some(map)) else {
                continue;
            };
            let Some(read) = boxes::media(&data, &init, &self.at, &mut self.report) else {
                continue;
            };
            self.judge(&segment, &read, before.as_ref(), &init, media);
            if !parts.is_empty() && parts.len() == segment.parts.len() {
                let joined: Vec<u8> = parts.concat();
                if joined != data {
                    let mut quiet = Report::default();
                    let same = boxes::media(&joined, &init, &self.at, &mut quiet).is_some_and(|of_parts| {
                        of_parts.start == read.start
                            && of_parts.ticks == read.ticks
                            && of_parts.samples == read.samples
                    });
                    let seen = format!(
                        "segment {}: {} bytes, its parts {}",
                        segment.number,
                        data.len(),
                        joined.len()
                    );
                    if same {
                        self.report.note(
                            "§3.2",
                            &self.at,
                            "a segment's bytes are other than its parts', its samples the same",
                            seen,
                        );
                    } else {
                        self.report.must(
                            "§3.2",
                            &self.at,
                            "a segment and its parts hold the same samples",
                            seen,
                        );
                    }
                }
            }
            self.media.insert(segment.number, read);
        }
    }

    fn judge(
        &mut self,
        segment: &Segment,
        read: &boxes::Media,
        before: Option<&boxes::Media>,
        init: &Init,
        media: &Media,
    ) {
        let number = segment.number;
        let (at, report) = (&self.at, &mut self.report);
        if !media.i_frames {
            if (read.seconds() - segment.duration).abs() > PART_SLACK {
                let seen = format!(
                    "segment {number}: {} s are said, {:.6} s are there",
                    segment.duration,
                    read.seconds()
                );
                report.must("§3", at, "EXTINF is the duration of the segment's samples", seen);
            }
            if let Some(before) =
                before.filter(|before| before.timescale == read.timescale && !segment.discontinuity)
                && before.start + before.ticks != read.start
            {
                let seen = format!(
                    "segment {number} begins at {}, {} was due",
                    read.start,
                    before.start + before.ticks
                );
                report.must(
                    "§3",
                    at,
                    "timestamps go on uninterrupted from segment to segment",
                    seen,
                );
            }
        }
        let video = init.tracks.iter().any(|track| track.coding.is_video());
        if video && !read.encrypted {
            if media.independent && !read.begins_with_key {
                report.must(
                    "§4.4.2.1",
                    at,
                    "with EXT-X-INDEPENDENT-SEGMENTS each segment begins with a key frame",
                    number,
                );
            }
            if !read.has_key {
                report.should(
                    "§3",
                    at,
                    "a video segment holds a picture from which decoding can begin",
                    number,
                );
            }
            if media.i_frames && !read.begins_with_key {
                report.must(
                    "§4.4.3.6",
                    at,
                    "a segment of an I-frame playlist is an I-frame",
                    number,
                );
            }
        }
    }

    /// A resource that is listed, which has to be there at once.
    fn bytes(&mut self, client: &Client, uri: &str, range: Option<Range>, name: &str) -> Option<Vec<u8>> {
        const RULE: &str = "what is listed can be had at once";
        let url = self.url.join(uri).ok()?;
        let answer = match client.fetch(&url, range, Duration::from_secs(30)) {
            Ok(answer) => answer,
            Err(why) => {
                self.report
                    .must("§6.2.1", &self.at, RULE, format!("{name}: {why}"));
                return None;
            }
        };
        let whole = match (answer.status, range) {
            (200, None) => true,
            (206, Some(range)) => answer.body.len() as u64 == range.length,
            _ => false,
        };
        if !whole {
            self.report.must(
                "§6.2.1",
                &self.at,
                RULE,
                format!("{name}: {} with {} bytes", answer.status, answer.body.len()),
            );
            return None;
        }
        let text = answer.body.starts_with(b"WEBVTT") || uri.ends_with(".vtt");
        delivery::media(&answer, text, &self.at, &mut self.report);
        self.report.bytes += answer.body.len() as u64;
        Some(answer.body)
    }

    fn init(&mut self, client: &Client, map: Option<&Map>) -> Option<Init> {
        let map = map?;
        let name = format!("{} {:?}", map.uri, map.range);
        if !self.inits.contains_key(&name) {
            let data = self.bytes(client, &map.uri, map.range, &format!("{} {}", self.at, map.uri))?;
            let init = boxes::init(&data, &format!("{} {}", self.at, map.uri), &mut self.report)?;
            self.inits.insert(name.clone(), init);
        }
        self.inits.get(&name).cloned()
    }

    /// Asks for a hinted part before it is there (§6.2.6).
    fn try_hint(&mut self, client: &Client, limit: Duration) {
        let Some(hint) = self
            .last
            .hints
            .iter()
            .find(|hint| hint.kind == "PART" && hint.start.is_none())
        else {
            return;
        };
        let Ok(url) = self.url.join(&hint.uri) else { return };
        let uri = hint.uri.clone();
        if let Ok(answer) = client.fetch(&url, None, limit + Duration::from_secs(10)) {
            let came = if answer.status == 200 {
                Ok(answer.body)
            } else {
                Err(answer.status)
            };
            self.hinted.insert(uri, came);
        }
    }

    /// Whether what was hinted is what came (§4.4.5.3).
    fn hint_came_true(&mut self, media: &Media) {
        let Some(hint) = self.last.hints.iter().find(|hint| hint.kind == "PART") else {
            return;
        };
        let next = (self.last.open.number, self.last.open.parts.len() as u64);
        let Some((segment, index, part)) = media
            .parts()
            .find(|(segment, index, _)| (segment.number, *index) >= next)
        else {
            return;
        };
        let at = |start: Option<u64>| start.unwrap_or(0);
        let (hinted, came) = (at(hint.start), at(part.range.map(|range| range.offset)));
        if part.uri != hint.uri || hinted != came && !part.gap {
            let seen = format!(
                "{} from byte {hinted} was hinted, {} from byte {came} came as {}.{index}",
                hint.uri, part.uri, segment.number
            );
            self.report.should(
                "§4.4.5.3",
                &self.at,
                "the part that is hinted is the next that comes",
                seen,
            );
        } else if let Some(Err(status)) = self.hinted.get(&hint.uri)
            && !part.gap
        {
            self.report.must(
                "§6.2.6",
                &self.at,
                "a hinted part can be asked for",
                format!("{}: {status}", hint.uri),
            );
        }
    }

    /// Whether segments that left the window can still be had (§6.2.2).
    fn still_there(&mut self, client: &Client) {
        let now = Instant::now();
        let gone: Vec<(u64, String, Option<Range>)> = self
            .appeared
            .range(..self.last.sequence)
            .filter(|(number, (since, _, _, length))| {
                let lasts = self.sizes.get(number).map_or(0.0, |(seconds, _)| *seconds) + length;
                now < *since + Duration::from_secs_f64(lasts)
            })
            .map(|(number, (_, uri, range, _))| (*number, uri.clone(), *range))
            .collect();
        for (number, uri, range) in gone {
            let Ok(url) = self.url.join(&uri) else { continue };
            let had = client.fetch(&url, range, Duration::from_secs(30));
            if !had
                .as_ref()
                .is_ok_and(|answer| [200, 206].contains(&answer.status))
            {
                let seen = format!("segment {number}: {:?}", had.map(|answer| answer.status));
                self.report.must(
                    "§6.2.2",
                    &self.at,
                    "a segment stays for its duration and that of the longest playlist that had it",
                    seen,
                );
            }
        }
    }
}

fn bitrate(segment: &Segment, bytes: usize, at: &str, report: &mut Report) {
    let Some(said) = segment.bitrate.filter(|_| segment.duration > 0.0) else {
        return;
    };
    let true_rate = bytes as f64 * 8.0 / segment.duration / 1000.0;
    if (said as f64) < 0.9 * true_rate || said as f64 > 1.1 * true_rate {
        let seen = format!(
            "segment {}: {said} is said, {true_rate:.0} kbit/s are there",
            segment.number
        );
        report.must(
            "§4.4.4.8",
            at,
            "EXT-X-BITRATE is within 10 % of the segment's",
            seen,
        );
    }
}

/// Durations are rounded to a tick and to a microsecond.
const PART_SLACK: f64 = 0.0006;
