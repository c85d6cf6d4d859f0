//! The rules that one version of a media playlist obeys by itself, and what may change from one to the next.

use std::collections::HashMap;

use super::attributes::{Attributes, Kind};
use super::date::Date;
use super::media::{Media, Segment};
use super::report::Report;

/// Durations are written to a microsecond, and summed in binary.
const ROUNDING: f64 = 2e-6;

/// Checks one whole playlist (no delta update).
pub(crate) fn check(media: &Media, at: &str, report: &mut Report) {
    durations(media, at, report);
    parts(media, at, report);
    control(media, at, report);
    dates(media, at, report);
    ranges(&media.ranges, media, at, report);
    if media.ended {
        if !media.hints.is_empty() {
            report.must(
                "§4.4.5.3",
                at,
                "a playlist with EXT-X-ENDLIST has no EXT-X-PRELOAD-HINT",
                media.hints.len(),
            );
        }
        if !media.open.parts.is_empty() {
            report.must(
                "§3.2",
                at,
                "a part belongs to a segment of its playlist",
                "parts behind the last segment of an ended playlist",
            );
        }
    }
    if let Some(offset) = media
        .start
        .as_ref()
        .and_then(|start| start.seconds("TIME-OFFSET"))
    {
        let length = media.duration();
        if offset.abs() > length + ROUNDING {
            report.should(
                "§4.4.2.2",
                at,
                "TIME-OFFSET is not larger than the playlist's duration",
                format!("{offset} of {length:.3}"),
            );
        }
        let from_end = if offset < 0.0 { -offset } else { length - offset };
        if !media.ended && from_end < 3.0 * media.target as f64 {
            report.should(
                "§4.4.2.2",
                at,
                "TIME-OFFSET is not within three target durations of a growing playlist's end",
                offset,
            );
        }
    }
    if media.segments.iter().any(|segment| segment.uri.is_empty()) {
        report.must("§4.4.4", at, "each segment has a URI", "one has none");
    }
}

fn durations(media: &Media, at: &str, report: &mut Report) {
    for segment in &media.segments {
        if !media.i_frames && segment.duration.round() as u64 > media.target {
            let seen = format!(
                "segment {}: {} s of {}",
                segment.number, segment.duration, media.target
            );
            report.must(
                "§4.4.3.1",
                at,
                "EXTINF, rounded, is not above the Target Duration",
                seen,
            );
        }
    }
}

fn parts(media: &Media, at: &str, report: &mut Report) {
    let Some(target) = media.part_target else {
        if media.parts().next().is_some() {
            report.must(
                "§4.4.3.7",
                at,
                "EXT-X-PART-INF is REQUIRED where there are parts",
                "there is none",
            );
        }
        return;
    };
    for segment in media.segments.iter().chain([&media.open]) {
        let closed = segment.number != media.open.number;
        for (index, part) in segment.parts.iter().enumerate() {
            let name = || {
                format!(
                    "part {index} of segment {}: {} s of {target}",
                    segment.number, part.duration
                )
            };
            if part.duration > target + ROUNDING {
                report.must("§4.4.4.9", at, "a part is not longer than PART-TARGET", name());
            }
            let last = index + 1 == segment.parts.len();
            let before_gap = segment.parts.get(index + 1).is_some_and(|next| next.gap);
            // the last part of an open segment may turn out to be the segment's last
            let free = part.independent || part.gap || before_gap || last;
            if part.duration < 0.85 * target - ROUNDING && !free {
                report.must("§4.4.4.9", at, "a part is at least 85 % of PART-TARGET", name());
            }
        }
        if closed && !segment.parts.is_empty() {
            let sum: f64 = segment.parts.iter().map(|part| part.duration).sum();
            // each is rounded by itself
            let slack = ROUNDING * (segment.parts.len() + 1) as f64;
            if (sum - segment.duration).abs() > slack.max(0.0005) {
                let seen = format!(
                    "segment {}: {} s, its parts {sum:.6}",
                    segment.number, segment.duration
                );
                report.must("§3.2", at, "a segment and its parts hold the same media", seen);
            }
            if segment.gap && segment.parts.iter().any(|part| !part.gap) {
                report.must("§6.2.1", at, "the parts of a gap are gaps", segment.number);
            }
        }
    }
    let edge: f64 = 3.0 * media.target as f64;
    let mut behind = media.open.parts.iter().map(|part| part.duration).sum::<f64>();
    for segment in media.segments.iter().rev() {
        if behind > edge + ROUNDING && !segment.parts.is_empty() && !media.ended {
            let seen = format!("segment {}, {behind:.3} s before the end", segment.number);
            report.should(
                "§6.2.2",
                at,
                "parts more than three target durations from the end are removed",
                seen,
            );
        }
        behind += segment.duration;
    }
    if media.i_frames && media.parts().next().is_some() {
        report.should("§4.4.4.9", at, "a playlist of I-frames has no parts", "it has");
    }
    let hinted = media.hints.iter().any(|hint| hint.kind == "PART");
    if media.parts().next().is_some() && !media.ended && !hinted {
        report.should(
            "B.1",
            at,
            "a growing playlist with parts hints the next one",
            "no EXT-X-PRELOAD-HINT",
        );
    }
}

fn control(media: &Media, at: &str, report: &mut Report) {
    let target = media.target as f64;
    let needs_part_hold = media.part_target.is_some();
    let Some(control) = &media.control else {
        if needs_part_hold {
            report.must(
                "§4.4.3.8",
                at,
                "PART-HOLD-BACK is REQUIRED where there is EXT-X-PART-INF",
                "no EXT-X-SERVER-CONTROL",
            );
        }
        return;
    };
    if let Some(skip) = control.seconds("CAN-SKIP-UNTIL")
        && skip < 6.0 * target - ROUNDING
    {
        report.must(
            "§4.4.3.8",
            at,
            "CAN-SKIP-UNTIL is at least six target durations",
            skip,
        );
    }
    if control.has("CAN-SKIP-DATERANGES") && !control.has("CAN-SKIP-UNTIL") {
        report.must(
            "§4.4.3.8",
            at,
            "CAN-SKIP-DATERANGES REQUIRES CAN-SKIP-UNTIL",
            "it is alone",
        );
    }
    if let Some(hold) = control.seconds("HOLD-BACK")
        && hold < 3.0 * target - ROUNDING
    {
        report.must(
            "§4.4.3.8",
            at,
            "HOLD-BACK is at least three target durations",
            hold,
        );
    }
    let Some(part) = media.part_target else { return };
    match control.seconds("PART-HOLD-BACK") {
        None => report.must(
            "§4.4.3.8",
            at,
            "PART-HOLD-BACK is REQUIRED where there is EXT-X-PART-INF",
            "there is none",
        ),
        Some(hold) if hold < 2.0 * part - ROUNDING => {
            report.must(
                "§4.4.3.8",
                at,
                "PART-HOLD-BACK is at least twice PART-TARGET",
                hold,
            );
        }
        Some(hold) if hold < 3.0 * part - ROUNDING => {
            report.should(
                "§4.4.3.8",
                at,
                "PART-HOLD-BACK is at least three times PART-TARGET",
                hold,
            );
        }
        Some(_) => {}
    }
}

fn dates(media: &Media, at: &str, report: &mut Report) {
    let mut expected: Option<f64> = None;
    let dated = media.segments.iter().any(|segment| segment.date.is_some());
    for segment in &media.segments {
        let now = segment.date.map(|date| date.micros as f64 / 1e6);
        if dated && segment.discontinuity && now.is_none() {
            report.should(
                "§6.2.1",
                at,
                "a segment behind a discontinuity has EXT-X-PROGRAM-DATE-TIME where others have",
                segment.number,
            );
        }
        if let (Some(now), Some(expected)) = (now, expected) {
            let late = now - expected;
            let seen = || {
                format!(
                    "segment {} begins {:.3} s from where the one before ends",
                    segment.number, late
                )
            };
            if late < -1.0 {
                report.must(
                    "§6.2.1",
                    at,
                    "the mapping of dates to segments is not ambiguous",
                    seen(),
                );
            } else if late.abs() > DATE_SLACK && !segment.discontinuity {
                report.should(
                    "§6.2.1",
                    at,
                    "dates follow from the durations between them",
                    seen(),
                );
            }
        }
        expected = now.or(expected).map(|start| start + segment.duration);
    }
    if media.part_target.is_some() && !dated && !media.segments.is_empty() {
        report.should(
            "B.1",
            at,
            "each low-latency playlist has EXT-X-PROGRAM-DATE-TIME",
            "there is none",
        );
    }
}

/// Dates are written to a millisecond, and durations add up.
const DATE_SLACK: f64 = 0.005;

/// EXT-X-DATERANGE (§4.4.5.1).
pub(crate) fn ranges(ranges: &[Attributes], media: &Media, at: &str, report: &mut Report) {
    const CLAUSE: &str = "§4.4.5.1";
    const KNOWN: &[(&str, Kind)] = &[
        ("ID", Kind::Quoted),
        ("CLASS", Kind::Quoted),
        ("START-DATE", Kind::Quoted),
        ("CUE", Kind::Quoted),
        ("END-DATE", Kind::Quoted),
        ("DURATION", Kind::Float),
        ("PLANNED-DURATION", Kind::Float),
        ("SCTE35-CMD", Kind::Hex),
        ("SCTE35-OUT", Kind::Hex),
        ("SCTE35-IN", Kind::Hex),
        ("END-ON-NEXT", Kind::Enum(&["YES"])),
    ];
    if !ranges.is_empty()
        && media.skipped.is_none()
        && media.segments.iter().all(|segment| segment.date.is_none())
    {
        report.must(
            CLAUSE,
            at,
            "a playlist with EXT-X-DATERANGE has EXT-X-PROGRAM-DATE-TIME",
            "it has none",
        );
    }
    let mut known: HashMap<&str, Vec<&Attributes>> = HashMap::new();
    for range in ranges {
        range.check("EXT-X-DATERANGE", CLAUSE, KNOWN, &["ID"], at, report);
        let id = range.text("ID").unwrap_or_default();
        let before = known.entry(id).or_default();
        let first = before.is_empty();
        if first && !range.has("START-DATE") {
            report.must(CLAUSE, at, "a date range has a START-DATE", id);
        }
        for other in before.iter() {
            for (name, value) in range.pairs() {
                if other.pairs().any(|(same, was)| same == name && was != value) {
                    report.must(
                        CLAUSE,
                        at,
                        "tags of one ID agree in every attribute that both have",
                        format!("{id}: {name}"),
                    );
                }
            }
        }
        let date = |name: &str, report: &mut Report| {
            let text = range.text(name)?;
            let date = Date::parse(text);
            match date {
                None => report.must(
                    CLAUSE,
                    at,
                    "a date range's dates are ISO 8601",
                    format!("{id}: {name}={text}"),
                ),
                Some(date) if !date.has_zone || date.digits < 3 => {
                    report.should(
                        CLAUSE,
                        at,
                        "a date has a time zone and milliseconds",
                        format!("{id}: {name}={text}"),
                    );
                }
                Some(_) => {}
            }
            date.map(|date| date.micros)
        };
        let (start, end) = (date("START-DATE", report), date("END-DATE", report));
        if let (Some(start), Some(end)) = (start, end) {
            if end < start {
                report.must(CLAUSE, at, "END-DATE is not before START-DATE", id);
            }
            if let Some(length) = range.seconds("DURATION")
                && ((end - start) as f64 / 1e6 - length).abs() > 0.0011
            {
                report.must(CLAUSE, at, "END-DATE is START-DATE plus DURATION", id);
            }
        }
        let cue = range.text("CUE").unwrap_or_default();
        let cues: Vec<&str> = cue.split(',').collect();
        if cues.contains(&"PRE") && cues.contains(&"POST") {
            report.must(CLAUSE, at, "CUE has not both PRE and POST", id);
        }
        if range.yes("END-ON-NEXT") {
            if !range.has("CLASS") {
                report.must(CLAUSE, at, "END-ON-NEXT needs a CLASS", id);
            }
            if range.has("DURATION") || range.has("END-DATE") {
                report.must(CLAUSE, at, "END-ON-NEXT stands without DURATION and END-DATE", id);
            }
        }
        before.push(range);
    }
}

/// Whether `new` may follow `old` (§6.2.1, §6.2.2). Both are whole playlists.
pub(crate) fn check_successor(old: &Media, new: &Media, at: &str, report: &mut Report) {
    const CHANGED: &str = "nothing that is listed changes";
    if old.target != new.target {
        report.must(
            "§6.2.1",
            at,
            "EXT-X-TARGETDURATION does not change",
            format!("{} became {}", old.target, new.target),
        );
    }
    if new.sequence < old.sequence || new.discontinuity_sequence < old.discontinuity_sequence {
        report.must(
            "§6.2.2",
            at,
            "the sequence numbers never decrease",
            format!("{} became {}", old.sequence, new.sequence),
        );
    }
    if old.ended && !new.ended {
        report.must(
            "§4.4.3.4",
            at,
            "what has ended does not grow again",
            "EXT-X-ENDLIST went away",
        );
    }
    let rewritten = new.ended && !old.ended;
    if !rewritten {
        for (name, same) in [
            ("EXT-X-VERSION", old.version == new.version),
            ("EXT-X-PLAYLIST-TYPE", old.kind == new.kind),
            ("EXT-X-PART-INF", old.part_target == new.part_target),
            ("EXT-X-SERVER-CONTROL", old.control == new.control),
            ("EXT-X-START", old.start == new.start),
            // it is taken away where a segment without a key frame came
            (
                "EXT-X-INDEPENDENT-SEGMENTS",
                old.independent == new.independent || old.independent,
            ),
        ] {
            if !same {
                report.must("§6.2.1", at, CHANGED, name);
            }
        }
    }
    if old.kind.as_deref() == Some("VOD") && (old.segments != new.segments || old.ended != new.ended) {
        report.must("§6.2.1", at, "a playlist of type VOD does not change", "it did");
    }
    if new.sequence > old.sequence {
        if new.kind.is_some() {
            report.must(
                "§6.2.2",
                at,
                "a playlist with EXT-X-PLAYLIST-TYPE removes nothing",
                new.sequence,
            );
        }
        if !new.ended && new.duration() < 3.0 * new.target as f64 - ROUNDING {
            let seen = format!("{:.3} s left", new.duration());
            report.must(
                "§6.2.2",
                at,
                "a segment is removed only where three target durations are left",
                seen,
            );
        }
    }
    let by_number: HashMap<u64, &Segment> = new
        .segments
        .iter()
        .map(|segment| (segment.number, segment))
        .collect();
    for before in old
        .segments
        .iter()
        .filter(|segment| segment.number >= new.sequence)
    {
        let Some(now) = by_number.get(&before.number) else {
            report.must(
                "§6.2.2",
                at,
                "segments are removed in order, from the beginning",
                before.number,
            );
            continue;
        };
        let fixed = |segment: &Segment| Segment {
            parts: Vec::new(),
            ..segment.clone()
        };
        // a segment's key and map may have been declared before what is left
        let (mut a, mut b) = (fixed(before), fixed(now));
        if new.sequence > old.sequence {
            (a.keys, b.keys) = (Vec::new(), Vec::new());
        }
        // the first one that is left may stand without the tag, whose count is kept (§6.2.2)
        if now.number == new.sequence && a.sequence == b.sequence {
            a.discontinuity = b.discontinuity;
        }
        if a != b {
            report.must(
                "§6.2.1",
                at,
                CHANGED,
                format!("segment {}: {a:?} became {b:?}", before.number),
            );
        }
        same_parts(before, now, true, at, report);
    }
    if let Some(now) = by_number.get(&old.open.number) {
        same_parts(&old.open, now, true, at, report);
        if !old.open.parts.is_empty()
            && (old.open.discontinuity != now.discontinuity
                || old.open.date != now.date
                || old.open.map != now.map)
        {
            report.must(
                "§6.2.1",
                at,
                CHANGED,
                format!("the tags of segment {} after its first part", now.number),
            );
        }
    } else if new.open.number == old.open.number {
        same_parts(&old.open, &new.open, false, at, report);
    } else if !old.open.parts.is_empty() && new.sequence <= old.open.number && !new.ended {
        report.must(
            "§6.2.1",
            at,
            CHANGED,
            format!(
                "parts of segment {} are gone and the segment did not come",
                old.open.number
            ),
        );
    }
    let ids = |media: &Media| -> Vec<String> {
        media
            .ranges
            .iter()
            .filter_map(|range| range.text("ID").map(str::to_owned))
            .collect()
    };
    let now = ids(new);
    let first = new.segments.iter().find_map(|segment| segment.date);
    for range in &old.ranges {
        let id = range.text("ID").unwrap_or_default();
        let ends = range
            .text("END-DATE")
            .or(range.text("START-DATE"))
            .and_then(Date::parse);
        let maps = matches!((ends, first), (Some(end), Some(first)) if end.micros >= first.micros);
        if maps && !now.iter().any(|other| other == id) {
            report.must(
                "§6.2.1",
                at,
                "a date range that maps to a listed segment is not removed",
                id,
            );
        }
    }
}

fn same_parts(before: &Segment, now: &Segment, closed: bool, at: &str, report: &mut Report) {
    if now.parts.is_empty() && closed {
        return; // they may be removed
    }
    for (index, part) in before.parts.iter().enumerate() {
        if now.parts.get(index) != Some(part) {
            let seen = format!(
                "part {index} of segment {}: {part:?} became {:?}",
                before.number,
                now.parts.get(index)
            );
            report.must("§6.2.1", at, "nothing that is listed changes", seen);
        }
    }
}

/// The whole playlist that a delta update stands for, or `None` where what it skips is not known (§6.3.7).
pub(crate) fn merged(old: &Media, delta: &Media, at: &str, report: &mut Report) -> Option<Media> {
    let skipped = delta.skipped?;
    let mut whole = delta.clone();
    let mut kept: Vec<Segment> = Vec::new();
    for number in delta.sequence..delta.sequence + skipped {
        kept.push(
            old.segments
                .iter()
                .find(|segment| segment.number == number)?
                .clone(),
        );
    }
    if let Some(boundary) = delta
        .control
        .as_ref()
        .and_then(|control| control.seconds("CAN-SKIP-UNTIL"))
    {
        // the Playlist ends where its last part does
        let open = delta.open.parts.iter().map(|part| part.duration);
        let behind: f64 = delta
            .segments
            .iter()
            .map(|segment| segment.duration)
            .chain(open)
            .sum();
        // each of those durations is rounded by itself, and a server may leave as much room
        let slack = 0.005 + ROUNDING * (delta.segments.len() + delta.open.parts.len() + 1) as f64;
        if behind < boundary - slack {
            let seen = format!("{behind:.3} s are left of a boundary of {boundary} s");
            report.must(
                "§6.2.5.1",
                at,
                "only what is farther from the end than the skip boundary is skipped",
                seen,
            );
        }
        if let Some(first) = delta.segments.first()
            && behind - first.duration > boundary + slack
        {
            report.must(
                "§6.2.5.1",
                at,
                "all that is farther from the end than the skip boundary is skipped",
                first.number,
            );
        }
    }
    // what the skipped tags said goes on behind them
    let discontinuities = kept.iter().filter(|segment| segment.discontinuity).count() as u64;
    let (map, keys) = kept
        .last()
        .map(|last| (last.map.clone(), last.keys.clone()))
        .unwrap_or_default();
    for segment in whole.segments.iter_mut().chain([&mut whole.open]) {
        segment.sequence += discontinuities;
        segment.map = segment.map.take().or_else(|| map.clone());
        if segment.keys.is_empty() {
            segment.keys = keys.clone();
        }
    }
    kept.append(&mut whole.segments);
    whole.segments = kept;
    let ids: Vec<&str> = delta.ranges.iter().filter_map(|range| range.text("ID")).collect();
    let older = old
        .ranges
        .iter()
        .filter(|range| !range.text("ID").is_some_and(|id| ids.contains(&id)));
    whole.ranges = older.cloned().chain(delta.ranges.iter().cloned()).collect();
    whole.skipped = None;
    Some(whole)
}
