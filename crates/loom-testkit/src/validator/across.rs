//! What holds between the playlists of one presentation (draft-pantos-hls-rfc8216bis-20 §6.2.4, §4.4.5.4, §4.4.6.2).

use std::collections::BTreeMap;

use url::Url;

use super::follow::{Followed, Role};
use super::multivariant::Multivariant;
use super::report::Report;
use super::{Boundaries, Options};

/// Checks all playlists against each other, and against the multivariant playlist where there is one.
pub(crate) fn check(
    main: Option<(&Multivariant, &Url, &str)>,
    all: &[Followed],
    options: &Options,
    report: &mut Report,
) {
    let have: Vec<&Followed> = all
        .iter()
        .filter(|followed| !followed.history.is_empty())
        .collect();
    for pair in have.windows(2) {
        equal_heads(pair[0], pair[1], report);
    }
    sequences(&have, report);
    dates(&have, report);
    if options.boundaries == Boundaries::Equal {
        boundaries(&have, report);
    }
    date_ranges(&have, report);
    reports(&have, report);
    cues(&have, report);
    i_frames(&have, report);
    waits(&have, options, report);
    if let Some((main, url, at)) = main {
        let by_url: BTreeMap<&str, &Followed> = have
            .iter()
            .map(|followed| (followed.url.as_str(), *followed))
            .collect();
        variants(main, url, at, &by_url, report);
        heads(main, at, &have, report);
    }
}

fn equal_heads(a: &Followed, b: &Followed, report: &mut Report) {
    const CLAUSE: &str = "§6.2.4";
    let at = format!("{} and {}", a.at, b.at);
    let free = |it: &Followed| it.role != Role::Main && it.last.kind.as_deref() == Some("VOD");
    if a.last.target != b.last.target && !free(a) && !free(b) {
        report.must(
            CLAUSE,
            &at,
            "all playlists have one Target Duration",
            format!("{} and {}", a.last.target, b.last.target),
        );
    }
    if a.last.ended != b.last.ended {
        return; // one was read a moment before the other
    }
    if a.last.kind != b.last.kind {
        report.must(
            CLAUSE,
            &at,
            "all playlists have one EXT-X-PLAYLIST-TYPE",
            format!("{:?} and {:?}", a.last.kind, b.last.kind),
        );
    }
    let control = |it: &Followed| {
        let mut all: Vec<String> = it
            .last
            .control
            .iter()
            .flat_map(|c| c.pairs().map(|(n, v)| format!("{n}={v:?}")))
            .collect();
        all.sort();
        all
    };
    if control(a) != control(b) {
        report.must(
            CLAUSE,
            &at,
            "all playlists have EXT-X-SERVER-CONTROL with the same attributes",
            format!("{:?} and {:?}", control(a), control(b)),
        );
    }
    let dated = |it: &Followed| it.last.segments.iter().any(|segment| segment.date.is_some());
    if dated(a) != dated(b) && !a.last.segments.is_empty() && !b.last.segments.is_empty() {
        report.must(
            CLAUSE,
            &at,
            "all playlists have EXT-X-PROGRAM-DATE-TIME or none has",
            "one has",
        );
    }
}

/// Content of one date has one Discontinuity Sequence Number.
fn sequences(have: &[&Followed], report: &mut Report) {
    let by_date = |it: &Followed| -> Vec<(i64, i64, u64)> {
        it.last
            .segments
            .iter()
            .filter_map(|segment| {
                let date = segment.date?;
                Some((
                    date.micros,
                    date.micros + (segment.duration * 1e6) as i64,
                    segment.sequence,
                ))
            })
            .collect()
    };
    let Some(first) = have.iter().find(|it| it.role == Role::Main) else {
        return;
    };
    let known = by_date(first);
    for other in have
        .iter()
        .filter(|other| other.url != first.url && other.role != Role::IFrames)
    {
        for (start, end, sequence) in by_date(other) {
            let middle = (start + end) / 2;
            if let Some((.., expected)) = known.iter().find(|(from, to, _)| (*from..*to).contains(&middle))
                && *expected != sequence
            {
                let seen = format!("{sequence} where {} has {expected}", first.at);
                report.must(
                    "§6.2.4",
                    &other.at,
                    "matching content has one Discontinuity Sequence Number",
                    seen,
                );
            }
        }
    }
}

/// Dates map to media timestamps in one way.
fn dates(have: &[&Followed], report: &mut Report) {
    let zero = |it: &Followed| -> Vec<(u64, f64)> {
        it.last
            .segments
            .iter()
            .filter_map(|segment| {
                let (date, media) = (segment.date?, it.media.get(&segment.number)?);
                let seconds = media.shown as f64 / f64::from(media.timescale.max(1));
                Some((segment.sequence, date.micros as f64 / 1e6 - seconds))
            })
            .collect()
    };
    let mut first: BTreeMap<u64, (f64, String)> = BTreeMap::new();
    for it in have.iter().filter(|it| it.role == Role::Main) {
        for (sequence, zero) in zero(it) {
            let (expected, of) = first.entry(sequence).or_insert_with(|| (zero, it.at.clone()));
            if (zero - *expected).abs() > MAPPING {
                let seen = format!("{:.1} ms from {of}'s", (zero - *expected) * 1000.0);
                report.must(
                    "§6.2.4",
                    &it.at,
                    "dates map to media timestamps alike in every playlist",
                    seen,
                );
            }
        }
    }
}

/// Segments of one number begin at one instant: what the server under test promises beyond the draft.
fn boundaries(have: &[&Followed], report: &mut Report) {
    let mut first: BTreeMap<u64, (f64, String)> = BTreeMap::new();
    for it in have.iter().filter(|it| it.role == Role::Main) {
        for (number, media) in &it.media {
            let start = media.start as f64 / f64::from(media.timescale.max(1));
            let (expected, of) = first.entry(*number).or_insert_with(|| (start, it.at.clone()));
            if (start - *expected).abs() > BOUNDARY {
                let seen = format!(
                    "segment {number}: {:.1} ms from {of}'s",
                    (start - *expected) * 1000.0
                );
                report.should(
                    "§6.2.4",
                    &it.at,
                    "segments begin at the same instants in every rendition",
                    seen,
                );
            }
        }
    }
}

fn date_ranges(have: &[&Followed], report: &mut Report) {
    let marks = |it: &Followed| {
        let mut all: Vec<String> = it
            .last
            .ranges
            .iter()
            .map(|range| {
                let mut pairs: Vec<String> = range
                    .pairs()
                    .map(|(name, value)| format!("{name}={value:?}"))
                    .collect();
                pairs.sort();
                pairs.join(",")
            })
            .collect();
        all.sort();
        all
    };
    let with: Vec<&&Followed> = have.iter().filter(|it| !it.last.ranges.is_empty()).collect();
    for pair in with
        .windows(2)
        .filter(|pair| pair[0].last.ended && pair[1].last.ended)
    {
        if marks(pair[0]) != marks(pair[1]) {
            let at = format!("{} and {}", pair[0].at, pair[1].at);
            report.must(
                "§6.2.4",
                &at,
                "playlists with date ranges have the same ones",
                format!("{} and {}", marks(pair[0]).len(), marks(pair[1]).len()),
            );
        }
    }
}

/// Whether EXT-X-RENDITION-REPORT tells the truth, as far as it can be told from outside.
fn reports(have: &[&Followed], report: &mut Report) {
    for it in have {
        let live = !it.last.ended && it.last.part_target.is_some();
        for other in have.iter().filter(|other| other.url != it.url) {
            let told: Vec<_> = it.told.iter().filter(|told| told.of == other.url).collect();
            if told.is_empty() {
                if live && it.role != Role::IFrames {
                    let level = if other.role == Role::IFrames {
                        Report::should
                    } else {
                        Report::must
                    };
                    level(
                        report,
                        "B.1",
                        &it.at,
                        "there is a rendition report for each other playlist",
                        &other.at,
                    );
                }
                continue;
            }
            for told in told {
                let part = (told.segment.unwrap_or(0), told.part);
                // the other had at least this before this answer was asked for …
                let before = other.history.iter().rev().find(|seen| seen.received < told.sent);
                // … and at most this after it had come
                let after = other.history.iter().find(|seen| seen.sent > told.received);
                let last = |seen: &super::follow::Seen| match seen.part {
                    Some((segment, part)) => Some((segment, Some(part))),
                    // a whole segment has all of its parts, listed or not
                    None => seen.segment.map(|segment| (segment, Some(u64::MAX))),
                };
                if let Some(before) = before.and_then(last)
                    && part.0 + 1 < before.0
                {
                    let seen = format!("{} is told at {part:?}, it was at {before:?} before", other.at);
                    report.must(
                        "§4.4.5.4",
                        &it.at,
                        "a rendition report is as up to date as its playlist",
                        seen,
                    );
                }
                if let Some(after) = after.and_then(last)
                    && part > after
                {
                    let seen = format!("{} is told at {part:?}, it was at {after:?} after", other.at);
                    report.must(
                        "§4.4.5.4",
                        &it.at,
                        "a rendition report promises nothing that is not there",
                        seen,
                    );
                }
            }
        }
    }
}

/// Cues stand in the segments that they are shown in (§3.1.4).
fn cues(have: &[&Followed], report: &mut Report) {
    let Some(main) = have
        .iter()
        .find(|it| it.role == Role::Main && !it.media.is_empty())
    else {
        return;
    };
    let mut zero = BTreeMap::new();
    for segment in &main.last.segments {
        if let (Some(date), Some(media)) = (segment.date, main.media.get(&segment.number)) {
            zero.entry(segment.sequence)
                .or_insert(date.micros as f64 / 1e6 - media.shown as f64 / f64::from(media.timescale.max(1)));
        }
    }
    for it in have.iter().filter(|it| it.role == Role::Subtitles) {
        let windows: BTreeMap<u64, (f64, f64)> = it
            .last
            .segments
            .iter()
            .filter_map(|segment| {
                let start = segment.date?.micros as f64 / 1e6 - zero.get(&segment.sequence)?;
                Some((segment.number, (start, start + segment.duration)))
            })
            .collect();
        for (number, cues) in &it.cues {
            let Some((start, end)) = windows.get(number) else {
                continue;
            };
            for cue in cues {
                let seen = || {
                    format!(
                        "segment {number} is {start:.3} to {end:.3} s, its cue {:.3} to {:.3} s",
                        cue.start, cue.end
                    )
                };
                if cue.end <= start - CUE || cue.start >= end + CUE {
                    report.should(
                        "§3.1.4",
                        &it.at,
                        "a segment's cues are shown during the segment",
                        seen(),
                    );
                }
                let next = it.cues.get(&(number + 1));
                if let Some(next) = next.filter(|_| cue.end > end + CUE)
                    && !next.iter().any(|other| {
                        other.text == cue.text && (other.start - cue.start).abs() < CUE
                            || (other.start - end).abs() < CUE
                    })
                {
                    report.must(
                        "§3.1.4",
                        &it.at,
                        "a segment has all cues that are shown during it",
                        seen(),
                    );
                }
            }
        }
    }
}

/// An I-frame lasts until the next one (§4.4.3.6).
fn i_frames(have: &[&Followed], report: &mut Report) {
    for it in have.iter().filter(|it| it.role == Role::IFrames) {
        for segment in &it.last.segments {
            let (Some(here), Some(next)) =
                (it.media.get(&segment.number), it.media.get(&(segment.number + 1)))
            else {
                continue;
            };
            let follows = it
                .last
                .segments
                .iter()
                .find(|other| other.number == segment.number + 1);
            if follows.is_none_or(|next| next.discontinuity || next.gap) {
                continue;
            }
            let apart = (next.shown - here.shown) as f64 / f64::from(here.timescale.max(1));
            if (apart - segment.duration).abs() > 0.002 {
                let seen = format!(
                    "I-frame {}: {} s are said, the next is {apart:.6} s later",
                    segment.number, segment.duration
                );
                report.must(
                    "§4.4.3.6",
                    &it.at,
                    "an I-frame's EXTINF is the time to the next",
                    seen,
                );
            }
        }
    }
}

/// Playlists grow in time (§6.2.1).
fn waits(have: &[&Followed], options: &Options, report: &mut Report) {
    for it in have.iter().filter(|it| it.history.len() > 3) {
        let waited = it.longest_wait.as_secs_f64();
        let (due, rule) = match it
            .last
            .part_target
            .filter(|_| it.history.iter().any(|seen| seen.part.is_some()))
        {
            Some(part) => (
                part,
                "a new part is listed within one PART-TARGET of the one before",
            ),
            None => (
                1.5 * it.last.target as f64,
                "a new segment is listed within 1.5 target durations of the one before",
            ),
        };
        if waited > due + options.patience.as_secs_f64() {
            report.must("§6.2.1", &it.at, rule, format!("{waited:.3} s of {due:.3}"));
        }
    }
}

/// Each variant's attributes against what its playlists hold.
fn variants(
    main: &Multivariant,
    base: &Url,
    at: &str,
    by_url: &BTreeMap<&str, &Followed>,
    report: &mut Report,
) {
    let of = |uri: &str| {
        base.join(uri)
            .ok()
            .and_then(|url| by_url.get(url.as_str()).copied())
    };
    let group = |kind: &str, id: Option<&str>| -> Vec<&Followed> {
        let Some(id) = id else { return Vec::new() };
        let members = main
            .media
            .iter()
            .filter(|media| media.text("TYPE") == Some(kind) && media.text("GROUP-ID") == Some(id));
        members
            .filter_map(|media| media.text("URI"))
            .filter_map(of)
            .collect()
    };
    for (variant, uri) in &main.variants {
        let Some(own) = of(uri) else { continue };
        let sounds = group("AUDIO", variant.text("AUDIO"));
        let said: Vec<&str> = variant
            .text("CODECS")
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .collect();
        for track in [own]
            .iter()
            .chain(&sounds)
            .flat_map(|it| it.inits.values())
            .flat_map(|init| &init.tracks)
        {
            let fits = |said: &&str| {
                said.to_ascii_lowercase()
                    .starts_with(&track.codec.to_ascii_lowercase())
            };
            if !track.codec.is_empty() && variant.has("CODECS") && !said.iter().any(fits) {
                let seen = format!("{uri}: {said:?} has no {}", track.codec);
                report.must(
                    "§6.2.4",
                    at,
                    "CODECS names each format of the variant's segments",
                    seen,
                );
            }
        }
        let size = own
            .inits
            .values()
            .flat_map(|init| &init.tracks)
            .filter_map(|track| track.size)
            .max();
        if let (Some((width, height)), Some(said)) = (size, variant.text("RESOLUTION"))
            && said != format!("{width}x{height}")
        {
            report.should(
                "§4.4.6.2",
                at,
                "RESOLUTION is that of the variant's video",
                format!("{uri}: {said}, and {width}x{height} is there"),
            );
        }
        if size.is_some() && !variant.has("RESOLUTION") {
            report.should("§4.4.6.2", at, "a variant with video has a RESOLUTION", uri);
        }
        let (mut peak, mut average) = (peak_rate(own), average_rate(own));
        let apart: Vec<&&Followed> = sounds.iter().filter(|sound| sound.url != own.url).collect();
        peak += apart.iter().map(|sound| peak_rate(sound)).fold(0.0, f64::max);
        average += apart.iter().map(|sound| average_rate(sound)).fold(0.0, f64::max);
        if let Some(said) = variant
            .number("BANDWIDTH")
            .filter(|said| peak > *said as f64 * 1.005)
        {
            let seen = format!("{uri}: {said} is said, {peak:.0} was measured");
            report.must(
                "§4.4.6.2.1",
                at,
                "BANDWIDTH is not below the peak of what can be played",
                seen,
            );
        }
        let whole = own.last.ended
            && own.sizes.len() + own.last.segments.iter().filter(|s| s.gap).count()
                == own.last.segments.len();
        if let Some(said) = variant
            .number("AVERAGE-BANDWIDTH")
            .filter(|said| whole && (average - *said as f64).abs() > 0.1 * average)
        {
            let seen = format!("{uri}: {said} is said, {average:.0} was measured");
            report.must(
                "§4.4.6.2",
                at,
                "AVERAGE-BANDWIDTH is the average of all segments",
                seen,
            );
        }
        if let Some(said) = variant
            .number("BANDWIDTH")
            .filter(|said| whole && *said as f64 > peak * 1.1)
        {
            let seen = format!("{uri}: {said} is said, {peak:.0} was measured");
            report.must(
                "§4.4.6.2",
                at,
                "BANDWIDTH is the peak, where all segments are there",
                seen,
            );
        }
    }
    for own in main
        .i_frames
        .iter()
        .filter_map(|tag| tag.text("URI"))
        .filter_map(of)
    {
        if !own.last.i_frames {
            let rule = "an I-frame playlist has EXT-X-I-FRAMES-ONLY";
            report.must("§4.4.6.3", &own.at, rule, "it has not");
        }
    }
    for media in &main.media {
        let channels = media
            .text("CHANNELS")
            .and_then(|channels| channels.split('/').next()?.parse::<u16>().ok());
        let Some((own, said)) = media.text("URI").and_then(of).zip(channels) else {
            continue;
        };
        let most = own
            .inits
            .values()
            .flat_map(|init| &init.tracks)
            .filter_map(|track| track.channels)
            .max();
        if most.is_some_and(|most| most != said) {
            report.must(
                "§4.4.6.1",
                at,
                "CHANNELS counts the rendition's channels",
                format!("{}: {said}, and {most:?} are there", own.at),
            );
        }
    }
}

/// What stands in the multivariant playlist stands in no media playlist, and versions fit.
fn heads(main: &Multivariant, at: &str, have: &[&Followed], report: &mut Report) {
    for it in have {
        if main.independent && it.last.independent {
            report.should(
                "§4.4.2.1",
                &it.at,
                "EXT-X-INDEPENDENT-SEGMENTS of a multivariant playlist stands in no media playlist",
                "it does",
            );
        }
        if main.start.is_some() && it.last.start.is_some() {
            report.should(
                "§4.4.2.2",
                &it.at,
                "EXT-X-START of a multivariant playlist stands in no media playlist",
                "it does",
            );
        }
        let all_keys = it
            .media
            .values()
            .all(|media| media.begins_with_key || media.encrypted);
        if main.independent && !all_keys && it.role == Role::Main {
            report.must(
                "§4.4.2.1",
                &it.at,
                "with EXT-X-INDEPENDENT-SEGMENTS each segment begins with a key frame",
                "one does not",
            );
        }
    }
    let most = have
        .iter()
        .map(|it| it.last.version)
        .max()
        .unwrap_or(0)
        .max(main.needs);
    if main.version > most {
        report.should(
            "§6.2.1",
            at,
            "EXT-X-VERSION is not greater than what is required",
            format!("{} of {most}", main.version),
        );
    }
}

/// The largest rate over contiguous segments of 0.5 to 1.5 target durations and half a second (§4.1), bits a second.
fn peak_rate(it: &Followed) -> f64 {
    let target = it.last.target as f64;
    let (least, most) = (0.5 * target, 1.5 * target + 0.5);
    let sizes: Vec<(u64, f64, u64)> = it
        .sizes
        .iter()
        .map(|(number, (seconds, bytes))| (*number, *seconds, *bytes))
        .collect();
    let mut peak: f64 = 0.0;
    for from in 0..sizes.len() {
        let (mut seconds, mut bytes) = (0.0, 0);
        for (at, (number, length, size)) in sizes[from..].iter().enumerate() {
            if *number != sizes[from].0 + at as u64 || seconds + length > most {
                break;
            }
            seconds += length;
            bytes += size;
            if seconds >= least {
                peak = peak.max(bytes as f64 * 8.0 / seconds);
            }
        }
    }
    peak
}

fn average_rate(it: &Followed) -> f64 {
    let seconds: f64 = it.sizes.values().map(|(seconds, _)| seconds).sum();
    let bytes: u64 = it.sizes.values().map(|(_, bytes)| bytes).sum();
    if seconds > 0.0 {
        bytes as f64 * 8.0 / seconds
    } else {
        0.0
    }
}

/// Dates are written to a millisecond; sound begins at most one frame of its own off.
const MAPPING: f64 = 0.025;
/// Half of the longest sound frame in use, and a tick.
const BOUNDARY: f64 = 0.025;
/// How far a cue may stand from its segment.
const CUE: f64 = 0.05;
