use std::fmt::Write as _;
use std::time::Duration;

use loom_core::{CodecParameters, MediaKind, MediaTime, RenditionId, Timescale};

use crate::address;
use crate::config::RenditionKind;
use crate::crypt::{EncryptionScheme, hex};
use crate::dash::{Book, Described, Entry, Frame, Track};
use crate::playlist;

/// `MPD`; `None` while there is nothing to play, or while it grows without a known start on the wall clock.
pub(crate) fn write(frame: &Frame, book: &Book) -> Option<String> {
    let live = !book.ended;
    if !book.is_ready() || live && frame.zero.is_none() {
        return None;
    }
    let end = book.tracks.values().filter_map(end_of).max()?;
    let start = book.tracks.values().filter_map(start_of).min()?;
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = write!(
        out,
        "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" xmlns:cenc=\"urn:mpeg:cenc:2013\" \
         profiles=\"urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019\" type=\"{}\" minBufferTime=\"{}\" maxSegmentDuration=\"{}\"",
        if live { "dynamic" } else { "static" },
        seconds(frame.segment),
        seconds(frame.target)
    );
    match frame.zero.filter(|_| live) {
        Some(zero) => {
            out.push_str(" availabilityStartTime=\"");
            playlist::write_date(&mut out, zero.at(MediaTime::ZERO));
            // a clock-free stand-in that climbs with every change: when what is listed was over
            out.push_str("\" publishTime=\"");
            playlist::write_date(&mut out, zero.at(end));
            let delay = frame.segment * 3;
            let _ = write!(
                out,
                "\" minimumUpdatePeriod=\"{}\" suggestedPresentationDelay=\"{}\"",
                seconds(frame.segment / 2),
                seconds(delay)
            );
        }
        None => {
            let _ = write!(
                out,
                " mediaPresentationDuration=\"{}\"",
                seconds(end.since(start))
            );
        }
    }
    out.push_str(">\n");
    if live {
        let target = (frame.segment * 2).as_millis();
        let _ = writeln!(
            out,
            "<ServiceDescription id=\"0\"><Latency target=\"{target}\" min=\"{}\" max=\"{}\" referenceId=\"0\"/><PlaybackRate min=\"0.96\" max=\"1.04\"/></ServiceDescription>",
            target / 2,
            target * 4
        );
    }
    let periods = book.periods();
    // a finished recording begins at 0 (ISO/IEC 23009-1 §5.3.2.1)
    let base = if live { MediaTime::ZERO } else { start };
    for (at, from) in periods.iter().enumerate() {
        write_period(
            &mut out,
            frame,
            book,
            *from,
            periods.get(at + 1).copied(),
            base,
            live,
        );
    }
    if live {
        let _ = writeln!(
            out,
            "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-head:2014\" value=\"{}\"/>",
            address::MANIFEST
        );
    }
    out.push_str("</MPD>\n");
    Some(out)
}

fn write_period(
    out: &mut String,
    frame: &Frame,
    book: &Book,
    from: u64,
    to: Option<u64>,
    base: MediaTime,
    live: bool,
) {
    let begins = book
        .tracks
        .values()
        .filter_map(|track| Some((track, *track.within(from, to).first()?)))
        .map(|(track, first)| time(track, first.place.start))
        .min();
    let Some(begins) = begins else { return };
    let _ = write!(
        out,
        "<Period id=\"{from}\" start=\"{}\"",
        seconds(begins.since(base))
    );
    if !live {
        let ends = book
            .tracks
            .values()
            .filter_map(|track| Some((track, *track.within(from, to).last()?)))
            .map(|(track, last)| time(track, last.place.start + last.place.length))
            .max();
        if let Some(ends) = ends {
            let _ = write!(out, " duration=\"{}\"", seconds(ends.since(begins)));
        }
    }
    out.push_str(">\n");
    let mut set = 0;
    for kind in [MediaKind::Video, MediaKind::Audio] {
        let members: Vec<(&RenditionId, &Track, Vec<&Entry>)> = book
            .tracks
            .iter()
            .filter(|(_, track)| track.is(kind))
            .map(|(id, track)| (id, track, track.within(from, to)))
            .filter(|(_, _, entries)| !entries.is_empty())
            .collect();
        // a set's members can take each other's place: one kind, codec, language and name, and one way of decryption
        let mut sets: Vec<(String, Vec<usize>)> = Vec::new();
        for (at, (_, track, entries)) in members.iter().enumerate() {
            let Some(described) = described(track, entries) else {
                continue;
            };
            let alike = likeness(described);
            match sets.iter_mut().find(|(had, _)| *had == alike) {
                Some((_, set)) => set.push(at),
                None => sets.push((alike, vec![at])),
            }
        }
        for (_, set_members) in sets {
            let chosen: Vec<_> = set_members.iter().map(|at| &members[*at]).collect();
            write_set(out, frame, set, kind, &chosen, begins, live);
            set += 1;
        }
    }
    out.push_str("</Period>\n");
}

fn write_set(
    out: &mut String,
    frame: &Frame,
    set: usize,
    kind: MediaKind,
    members: &[&(&RenditionId, &Track, Vec<&Entry>)],
    begins: MediaTime,
    live: bool,
) {
    let name = match kind {
        MediaKind::Video => "video",
        MediaKind::Audio => "audio",
    };
    let _ = write!(
        out,
        "<AdaptationSet id=\"{set}\" contentType=\"{name}\" mimeType=\"{name}/mp4\" segmentAlignment=\"true\" startWithSAP=\"1\""
    );
    let first = members
        .first()
        .and_then(|(_, track, entries)| described(track, entries));
    if let Some(RenditionKind::Audio {
        language: Some(language),
        ..
    }) = first.map(|it| &it.info.kind)
    {
        let _ = write!(out, " lang=\"{}\"", escaped(language));
    }
    out.push_str(">\n");
    if let Some((scheme, key)) = first.and_then(|it| it.key.as_ref()) {
        let value = if *scheme == EncryptionScheme::Cbcs {
            "cbcs"
        } else {
            "cenc"
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
    if live && let Some(zero) = frame.zero {
        let mut date = String::new();
        playlist::write_date(&mut date, zero.at(begins));
        let at = members.first().map_or(0, |(_, track, _)| ticks(track, begins));
        let _ = writeln!(
            out,
            "<ProducerReferenceTime id=\"0\" inband=\"false\" type=\"captured\" wallClockTime=\"{date}\" presentationTime=\"{at}\"/>"
        );
    }
    for (id, track, entries) in members {
        write_representation(out, id, track, entries, begins);
    }
    out.push_str("</AdaptationSet>\n");
}

fn write_representation(
    out: &mut String,
    id: &RenditionId,
    track: &Track,
    entries: &[&Entry],
    begins: MediaTime,
) {
    let (Some(described), Some(first)) = (described(track, entries), entries.first()) else {
        return;
    };
    let _ = write!(
        out,
        "<Representation id=\"{id}\" bandwidth=\"{}\" codecs=\"{}\"",
        described.info.bandwidth.max(1),
        described.codec.rfc6381()
    );
    match &described.codec {
        CodecParameters::Video(it) => {
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
        CodecParameters::Audio(it) => {
            let _ = writeln!(
                out,
                " audioSamplingRate=\"{}\"><AudioChannelConfiguration schemeIdUri=\"urn:mpeg:mpegB:cicp:ChannelConfiguration\" value=\"{}\"/>",
                it.sample_rate, it.channels
            );
        }
    }
    let _ = writeln!(
        out,
        "<SegmentTemplate timescale=\"{}\" presentationTimeOffset=\"{}\" startNumber=\"{}\" initialization=\"$RepresentationID$/{}\" media=\"$RepresentationID$/s$Number$.m4s\"><SegmentTimeline>",
        scale(track).hz(),
        ticks(track, begins),
        first.number,
        address::init(first.init)
    );
    // runs of equal length, each S with its own time only where it does not follow from the one before
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
    out.push_str("</SegmentTimeline></SegmentTemplate>\n</Representation>\n");
}

fn described<'a>(track: &'a Track, entries: &[&Entry]) -> Option<&'a Described> {
    track.inits.get(&entries.first()?.init).map(AsRef::as_ref)
}

/// What members of one set have in common.
fn likeness(described: &Described) -> String {
    let codec = described.codec.rfc6381();
    let codec = codec.split('.').next().unwrap_or_default();
    let key = described.key.as_ref().map(|(_, key)| hex(&key.id));
    match &described.info.kind {
        RenditionKind::Audio { name, language, .. } => format!("{codec} {name} {language:?} {key:?}"),
        _ => format!("{codec} {key:?}"),
    }
}

fn scale(track: &Track) -> Timescale {
    track
        .inits
        .values()
        .next()
        .map_or(Timescale::VIDEO, |it| it.codec.timescale())
}

fn time(track: &Track, ticks: u64) -> MediaTime {
    MediaTime::from_ticks(ticks as i64, scale(track))
}

fn ticks(track: &Track, at: MediaTime) -> u64 {
    at.ticks(scale(track)).max(0) as u64
}

fn start_of(track: &Track) -> Option<MediaTime> {
    let first = track.entries.iter().find(|e| !e.gap)?;
    Some(time(track, first.place.start))
}

fn end_of(track: &Track) -> Option<MediaTime> {
    let last = track.entries.iter().rev().find(|e| !e.gap)?;
    Some(time(track, last.place.start + last.place.length))
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
