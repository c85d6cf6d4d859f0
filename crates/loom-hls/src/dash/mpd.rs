use std::fmt::Write as _;
use std::time::Duration;

use loom_core::{CodecParameters, MediaKind, MediaTime, RenditionId, WallClock};

use crate::address;
use crate::config::{RenditionKind, TextForm};
use crate::crypt::{ContentKey, EncryptionScheme, hex};
use crate::dash::images;
use crate::dash::{Book, Described, Entry, Format, Frame, Track};
use crate::imsc1;
use crate::metadata;
use crate::playlist::date_time;

/// `MPD`; `None` while there is nothing to play, or while it grows without a known start on the wall clock.
pub(crate) fn write(frame: &Frame, book: &Book) -> Option<String> {
    if !book.is_ready() || !book.ended && frame.zero.is_none() {
        return None;
    }
    let live = frame.zero.filter(|_| !book.ended).map(|zero| Live {
        zero,
        low_latency: frame.part.map(|part| LowLatency {
            part,
            foreseen: frame.foreseen(),
        }),
    });
    Manifest { frame, book, live }.write()
}

/// What is written, and of what.
#[derive(Debug, Clone, Copy)]
struct Manifest<'a> {
    frame: &'a Frame,
    book: &'a Book,
    /// While the recording grows.
    live: Option<Live>,
}

#[derive(Debug, Clone, Copy)]
struct Live {
    zero: WallClock,
    low_latency: Option<LowLatency>,
}

/// The segment that is being made is listed, and sent as it grows (ISO/IEC 23009-1 §5.3.9.5.1, `@availabilityTimeComplete`).
#[derive(Debug, Clone, Copy)]
struct LowLatency {
    part: Duration,
    /// How long a segment that is being made will last.
    foreseen: Duration,
}

/// A representation: its track, and its segments of one period.
struct Member<'a> {
    id: &'a RenditionId,
    track: &'a Track,
    entries: Vec<Entry>,
    described: &'a Described,
}

impl Live {
    /// How often a player is to look for what is new.
    fn update(self, frame: &Frame) -> Duration {
        frame.segment / if self.low_latency.is_some() { 4 } else { 2 }
    }

    /// How far behind its instant a player is to show a picture.
    fn delay(self, frame: &Frame) -> Duration {
        match self.low_latency {
            // as much as with PART-HOLD-BACK (RFC 8216bis §4.4.3.8), and until a manifest has been read anew
            Some(it) => it.part * 3 + self.update(frame),
            None => frame.segment * 2,
        }
    }
}

impl<'a> Manifest<'a> {
    fn foreseen(self) -> Option<Duration> {
        Some(self.live?.low_latency?.foreseen)
    }

    fn write(self) -> Option<String> {
        let Self { frame, book, live } = self;
        let end = book.media().filter_map(|(_, track)| end_of(track)).max()?;
        let start = book.media().filter_map(|(_, track)| start_of(track)).min()?;
        // players that know no low latency keep one and a half times this from the end of what is listed, which is yet to come
        let buffer = frame.segment * if self.foreseen().is_some() { 2 } else { 1 };
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = write!(
            out,
            "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" xmlns:cenc=\"urn:mpeg:cenc:2013\" \
             profiles=\"urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019\" minBufferTime=\"{}\"",
            seconds(buffer)
        );
        match live {
            Some(live) => {
                // for `publishTime` a clock-free stand-in that climbs: when what is whole was over
                let _ = write!(
                    out,
                    " type=\"dynamic\" availabilityStartTime=\"{}\" publishTime=\"{}\" minimumUpdatePeriod=\"{}\"",
                    date_time(live.zero.at(MediaTime::ZERO)),
                    date_time(frame.pauses.shift(live.zero, end).at(end)),
                    seconds(live.update(frame)),
                );
                // players of low latency follow the service description; some would add the two up
                if live.low_latency.is_none() {
                    let delay = seconds(frame.segment * 3);
                    let _ = write!(out, " suggestedPresentationDelay=\"{delay}\"");
                }
            }
            None => {
                let _ = write!(
                    out,
                    " type=\"static\" mediaPresentationDuration=\"{}\"",
                    seconds(end.since(start))
                );
            }
        }
        // without it, what the segments say holds; players of low latency take this for how far behind its instant one can be had
        if self.foreseen().is_none() {
            let _ = write!(out, " maxSegmentDuration=\"{}\"", seconds(frame.target));
        }
        out.push_str(">\n");
        if let Some(live) = live {
            let target = live.delay(frame).as_millis();
            let _ = writeln!(
                out,
                "<ServiceDescription id=\"0\"><Latency target=\"{target}\" min=\"{}\" max=\"{}\" referenceId=\"0\"/><PlaybackRate min=\"0.95\" max=\"1.1\"/></ServiceDescription>",
                target / 2,
                target * 4
            );
        }
        let periods = book.periods(self.foreseen());
        // a finished recording begins at 0 (ISO/IEC 23009-1 §5.3.2.1)
        let base = if live.is_some() { MediaTime::ZERO } else { start };
        for (at, from) in periods.iter().enumerate() {
            self.write_period(&mut out, *from, periods.get(at + 1).copied(), base);
        }
        if live.is_some() {
            out.push_str(&utc_timings().join("\n"));
            out.push('\n');
        }
        out.push_str("</MPD>\n");
        Some(out)
    }

    fn write_period(self, out: &mut String, from: u64, to: Option<u64>, base: MediaTime) {
        let listed = self.book.tracks.iter().filter_map(|(id, track)| {
            let entries = track.within(from, to, self.foreseen());
            let described = track.inits.get(&entries.first()?.init)?.as_ref();
            Some(Member {
                id,
                track,
                entries,
                described,
            })
        });
        let members: Vec<Member<'a>> = listed.collect();
        let media = || {
            members
                .iter()
                .filter(|member| member.described.format.kind().is_some())
        };
        let begins = media().filter_map(Member::begins).min();
        let Some(begins) = begins else { return };
        // times in WebVTT files count from where their period begins: those of later ones would be taken for later than they are
        let members: Vec<&Member<'a>> = (members.iter())
            .filter(|it| begins == base || !matches!(it.described.format, Format::Text(TextForm::WebVtt)))
            .collect();
        // a live period is to be shown when it happened; pauses lie between a finished recording's periods no more
        let paused = self
            .live
            .map_or(Duration::ZERO, |_| self.frame.pauses.before(begins));
        let _ = write!(
            out,
            "<Period id=\"{from}\" start=\"{}\"",
            seconds(begins.since(base) + paused)
        );
        if self.live.is_none()
            && let Some(ends) = media().filter_map(Member::ends).max()
        {
            let _ = write!(out, " duration=\"{}\"", seconds(ends.since(begins)));
        }
        out.push_str(">\n");
        // a set's members can take each other's place: one kind, codec, language and name, and one way of decryption
        let mut sets: Vec<(String, Vec<&Member<'a>>)> = Vec::new();
        for kind in [Some(MediaKind::Video), Some(MediaKind::Audio), None] {
            for member in members
                .iter()
                .filter(|member| member.described.format.kind() == kind)
            {
                let alike = likeness(member.described);
                match sets.iter_mut().find(|(had, _)| *had == alike) {
                    Some((_, set)) => set.push(member),
                    None => sets.push((alike, vec![member])),
                }
            }
        }
        for (set, (_, members)) in sets.iter().enumerate() {
            self.write_set(out, set, members, begins);
        }
        if let Some((sheets, ends)) = self
            .book
            .sheets
            .as_ref()
            .zip(media().filter_map(Member::ends).max())
        {
            // what is listed does not change
            let count = if self.live.is_some() {
                sheets.full()
            } else {
                sheets.begun()
            };
            images::write(
                out,
                sets.len(),
                (sheets, self.book.sheet_folder()),
                count,
                (begins, ends),
            );
        }
        out.push_str("</Period>\n");
    }

    fn write_set(self, out: &mut String, set: usize, members: &[&Member<'a>], begins: MediaTime) {
        let Some(first) = members.first() else { return };
        let (content, kind) = match &first.described.format {
            Format::Media(codec) if codec.kind() == MediaKind::Video => ("video", "video/mp4"),
            Format::Media(_) => ("audio", "audio/mp4"),
            Format::Text(TextForm::WebVtt) => ("text", "text/vtt"),
            Format::Text(TextForm::Imsc1) => ("text", "application/mp4"),
        };
        let _ = write!(
            out,
            "<AdaptationSet id=\"{set}\" contentType=\"{content}\" mimeType=\"{kind}\" segmentAlignment=\"true\" startWithSAP=\"1\""
        );
        if let Some(language) = first.described.info.kind.language() {
            let _ = write!(out, " lang=\"{}\"", escaped(language));
        }
        out.push_str(">\n");
        if let Some((scheme, key)) = &first.described.key {
            write_protection(out, *scheme, key);
        }
        // one kind of media carries timed metadata (see Packager::handle_metadata)
        if first.described.format.kind() == Some(self.book.carrier()) {
            let _ = writeln!(
                out,
                "<InbandEventStream schemeIdUri=\"{}\" value=\"\"/>",
                metadata::SCHEME
            );
        }
        if let RenditionKind::Subtitles { name, .. } = &first.described.info.kind {
            let _ = writeln!(
                out,
                "<Label>{}</Label><Role schemeIdUri=\"urn:mpeg:dash:role:2011\" value=\"subtitle\"/>",
                escaped(name)
            );
        } else if let Some(live) = self.live {
            let date = date_time(self.frame.pauses.shift(live.zero, begins).at(begins));
            let [timing, _] = utc_timings();
            let _ = writeln!(
                out,
                "<ProducerReferenceTime id=\"0\" inband=\"{}\" type=\"captured\" wallClockTime=\"{date}\" presentationTime=\"{}\">{timing}</ProducerReferenceTime>",
                live.low_latency.is_some(),
                first.track.ticks(begins)
            );
        }
        for member in members {
            self.write_representation(out, member, begins);
        }
        out.push_str("</AdaptationSet>\n");
    }

    fn write_representation(self, out: &mut String, member: &Member<'a>, begins: MediaTime) {
        let Member {
            id,
            track,
            entries,
            described,
        } = member;
        let Some(first) = entries.first() else { return };
        let _ = write!(
            out,
            "<Representation id=\"{id}\" bandwidth=\"{}\"",
            described.info.bandwidth.max(1)
        );
        if let Some(codecs) = codecs(&described.format) {
            let _ = write!(out, " codecs=\"{codecs}\"");
        }
        match &described.format {
            Format::Text(_) => out.push_str(">\n"),
            Format::Media(CodecParameters::Video(it)) => {
                let sar = it.aspect();
                let _ = write!(
                    out,
                    " width=\"{}\" height=\"{}\" sar=\"{}:{}\"",
                    it.width, it.height, sar.width, sar.height
                );
                if let RenditionKind::Video { frame_rate, .. } = described.info.kind
                    && frame_rate.is_finite()
                    && frame_rate >= 1.0
                {
                    let _ = write!(out, " frameRate=\"{}\"", rate(frame_rate));
                }
                out.push_str(">\n");
            }
            Format::Media(CodecParameters::Audio(it)) => {
                let _ = writeln!(
                    out,
                    " audioSamplingRate=\"{}\"><AudioChannelConfiguration schemeIdUri=\"urn:mpeg:mpegB:cicp:ChannelConfiguration\" value=\"{}\"/>",
                    it.sample_rate, it.channels
                );
            }
        }
        let _ = write!(
            out,
            "<SegmentTemplate timescale=\"{}\" presentationTimeOffset=\"{}\" startNumber=\"{}\" media=\"$RepresentationID$/{}\"",
            track.scale().hz(),
            track.ticks(begins),
            first.number,
            match described.format {
                Format::Media(_) => "s$Number$.m4s",
                Format::Text(TextForm::WebVtt) => "s$Number$.vtt",
                Format::Text(TextForm::Imsc1) => "t$Number$.m4s",
            }
        );
        if !matches!(described.format, Format::Text(TextForm::WebVtt)) {
            let init = address::init(first.init);
            let _ = write!(out, " initialization=\"$RepresentationID$/{init}\"");
        }
        // text is listed when it is whole; but players take the least of these for all
        if let Some(it) = self.live.and_then(|live| live.low_latency) {
            let early = it.foreseen.saturating_sub(it.part).as_secs_f64();
            let _ = write!(out, " availabilityTimeOffset=\"{early:.3}\"");
            if described.format.kind().is_some() {
                out.push_str(" availabilityTimeComplete=\"false\"");
            }
        }
        out.push_str("><SegmentTimeline>");
        write_timeline(out, entries);
        out.push_str("</SegmentTimeline></SegmentTemplate>\n</Representation>\n");
    }
}

impl Member<'_> {
    fn begins(&self) -> Option<MediaTime> {
        let first = self.entries.first()?;
        Some(self.track.time(first.place.start))
    }

    fn ends(&self) -> Option<MediaTime> {
        let last = self.entries.last()?;
        Some(self.track.time(last.place.start + last.place.length))
    }
}

/// `S`: runs of equal length, each with its own time only where it does not follow from the one before.
pub(super) fn write_timeline(out: &mut String, entries: &[Entry]) {
    let mut at = 0;
    let mut expected = None;
    while let Some(entry) = entries.get(at) {
        let length = entry.place.length;
        let mut count = 1;
        while entries.get(at + count).is_some_and(|next| {
            next.place.length == length && next.place.start == entry.place.start + count as u64 * length
        }) {
            count += 1;
        }
        out.push_str("<S");
        if expected != Some(entry.place.start) {
            let _ = write!(out, " t=\"{}\"", entry.place.start);
        }
        let _ = write!(out, " d=\"{length}\"");
        if count > 1 {
            let _ = write!(out, " r=\"{}\"", count - 1);
        }
        out.push_str("/>");
        expected = Some(entry.place.start + count as u64 * length);
        at += count;
    }
}

/// `ContentProtection` (ISO/IEC 23001-7 §11.2).
fn write_protection(out: &mut String, scheme: EncryptionScheme, key: &ContentKey) {
    let value = match scheme {
        EncryptionScheme::Cbcs => "cbcs",
        _ => "cenc",
    };
    let _ = writeln!(
        out,
        "<ContentProtection schemeIdUri=\"urn:mpeg:dash:mp4protection:2011\" value=\"{value}\" cenc:default_KID=\"{}\"/>",
        uuid(&key.id)
    );
    for pssh in &key.pssh {
        let _ = writeln!(
            out,
            "<ContentProtection schemeIdUri=\"urn:uuid:{}\"><cenc:pssh>{}</cenc:pssh></ContentProtection>",
            uuid(&pssh[12..28]),
            base64(pssh)
        );
    }
}

/// By which a player's clock is set: to the millisecond, and where the host has no such answer, by the `Date` of the manifest's.
fn utc_timings() -> [String; 2] {
    let timing = |scheme, value| {
        format!("<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:{scheme}:2014\" value=\"{value}\"/>")
    };
    [
        timing("http-iso", address::CLOCK),
        timing("http-head", address::MANIFEST),
    ]
}

/// `@codecs` (RFC 6381); WebVTT files have none.
fn codecs(format: &Format) -> Option<String> {
    match format {
        Format::Media(codec) => Some(codec.rfc6381()),
        Format::Text(TextForm::Imsc1) => Some(imsc1::CODEC.to_owned()),
        Format::Text(TextForm::WebVtt) => None,
    }
}

/// What members of one set have in common.
fn likeness(described: &Described) -> String {
    let codec = codecs(&described.format).unwrap_or_default();
    let codec = codec.split('.').next().unwrap_or_default();
    let key = described.key.as_ref().map(|(_, key)| hex(&key.id));
    match &described.info.kind {
        RenditionKind::Audio { name, language, .. } => format!("{codec} {name} {language:?} {key:?}"),
        RenditionKind::Subtitles { name, language } => format!("{name} {language}"),
        _ => format!("{codec} {key:?}"),
    }
}

fn start_of(track: &Track) -> Option<MediaTime> {
    let first = track.entries.iter().find(|e| !e.gap)?;
    Some(track.time(first.place.start))
}

fn end_of(track: &Track) -> Option<MediaTime> {
    let last = track.entries.iter().rev().find(|e| !e.gap)?;
    Some(track.time(last.place.start + last.place.length))
}

/// `xs:duration`.
fn seconds(span: Duration) -> String {
    format!("PT{}.{:06}S", span.as_secs(), span.subsec_micros())
}

/// A frame rate as DASH writes it: whole, or over 1,001 (ISO/IEC 23009-1 §5.3.7.2).
fn rate(rate: f64) -> String {
    let ntsc = rate * 1.001;
    if (rate - rate.round()).abs() > 0.001 && (ntsc - ntsc.round()).abs() < 0.001 {
        format!("{}/1001", ntsc.round() as u64 * 1000)
    } else if (rate - rate.round()).abs() > 0.001 {
        format!("{}/1000", (rate * 1000.0).round() as u64)
    } else {
        format!("{}", rate.round() as u64)
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

fn uuid(id: &[u8]) -> String {
    let text = hex(id);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| text.get(range).unwrap_or_default());
    parts.join("-")
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..4 {
            out.push(match at <= chunk.len() {
                true => char::from(DIGITS[(word >> (18 - 6 * at) & 63) as usize]),
                false => '=',
            });
        }
    }
    out
}
