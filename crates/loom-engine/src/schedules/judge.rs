use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use loom_core::MediaKind;

use super::course::{DELAY, Step, Walk};
use super::reader::{Rendition, Segment, read};
use super::sender::Unit;
use super::stamp::Stamp;
use crate::{RecordingInfo, RecordingState};

/// What one or more recordings were found to be.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) recordings: usize,
    /// Of which that many were whole, the others deleted or too short.
    pub(super) ready: usize,
    pub(super) sessions: usize,
    pub(super) pauses: usize,
    /// Seconds of media.
    pub(super) seconds: f64,
    pub(super) sounds: usize,
    pub(super) pictures: usize,
    /// By how much, in milliseconds, each picture is shown before the sound that was captured with it.
    pub(super) offsets: Vec<f64>,
}

impl Figures {
    pub(super) fn add(&mut self, other: Self) {
        self.recordings += other.recordings;
        self.ready += other.ready;
        self.sessions += other.sessions;
        self.pauses += other.pauses;
        self.seconds += other.seconds;
        self.sounds += other.sounds;
        self.pictures += other.pictures;
        self.offsets.extend(other.offsets);
    }

    /// The share of the offsets, 0.0 ..= 1.0, that is no larger, in milliseconds; `None` where there are none.
    pub(super) fn offset(&self, share: f64) -> Option<f64> {
        let mut sizes: Vec<f64> = self.offsets.iter().map(|it| it.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        sizes
            .get((sizes.len().saturating_sub(1) as f64 * share) as usize)
            .copied()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = |share| self.offset(share).unwrap_or_default();
        write!(
            f,
            "{} recordings, {} to be played: {} sessions, {} pauses, {:.0} s, {} packets of sound, {} pictures; sound against picture p50 {:.1} ms, \
             p99 {:.1} ms, most {:.1} ms",
            self.recordings,
            self.ready,
            self.sessions,
            self.pauses,
            self.seconds,
            self.sounds,
            self.pictures,
            offset(0.5),
            offset(0.99),
            offset(1.0),
        )
    }
}

/// A packet or picture of a publisher's, where it lies in the recording.
#[derive(Debug, Clone, Copy)]
struct Seen {
    stamp: Stamp,
    /// Seconds.
    shown: f64,
    /// How many discontinuities lie before it.
    run: usize,
    /// The first picture of a run is shown from the run's beginning.
    is_first: bool,
}

/// Holds what lies in a recording's folder against what happened.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn judge(walk: &Walk, folder: &Path, info: Option<&RecordingInfo>) -> Result<Figures, String> {
    let mut figures = Figures {
        recordings: 1,
        sessions: walk.sessions.len(),
        pauses: walk.count(RecordingState::Paused),
        ..Figures::default()
    };
    let Some(info) = info else {
        return match folder.exists() {
            true => Err("it was deleted, and its folder is there".to_owned()),
            false => Ok(figures),
        };
    };
    if info.state == RecordingState::Failed && walk.wanted(&BTreeMap::new()).is_empty() {
        return Ok(figures);
    }
    if info.state != RecordingState::Ready {
        return Err(format!("it is {}: {info:?}", info.state));
    }
    let renditions = read(folder)?;
    for rendition in &renditions {
        whole(rendition)?;
    }
    together(&renditions)?;
    let seconds = renditions
        .iter()
        .map(|it| it.segments.iter().map(|it| it.seconds).sum());
    figures.seconds = seconds.fold(0.0, f64::max);
    if (figures.seconds - info.duration).abs() > 0.1 {
        return Err(format!(
            "{} s are listed, {} s are told",
            figures.seconds, info.duration
        ));
    }
    let seen = |kind| -> Result<Vec<Seen>, String> {
        let all = renditions.iter().filter(|it| it.kind == kind).map(stamped);
        let mut all = all.collect::<Result<Vec<_>, _>>()?.concat();
        all.sort_by_key(|seen| seen.stamp);
        Ok(all)
    };
    let (sounds, pictures) = (seen(MediaKind::Audio)?, seen(MediaKind::Video)?);
    figures.ready = 1;
    (figures.sounds, figures.pictures) = (sounds.len(), pictures.len());
    figures.offsets = offsets(&sounds, &pictures);
    nothing_of_pauses(walk, &[&sounds, &pictures])?;
    let mut taken = BTreeMap::new();
    for seen in sounds.iter().chain(&pictures) {
        let first: &mut Duration = taken.entry(seen.stamp.session).or_insert(seen.stamp.captured);
        *first = seen.stamp.captured.min(*first);
    }
    nothing_missing(&walk.wanted(&taken), &sounds, &pictures)?;
    Ok(figures)
}

/// One timeline: each chunk begins where the one before ends, to the tick, and each segment is as long as it is listed.
fn whole(rendition: &Rendition) -> Result<(), String> {
    let scale = f64::from(rendition.scale);
    let mut at: Option<f64> = None;
    let mut exact = false;
    for segment in &rendition.segments {
        let wrong = |what: String| Err(format!("{}/{}: {what}", rendition.name, segment.uri));
        let begins = at.unwrap_or_default();
        let Some(first) = segment.chunks.first() else {
            // the length of a gap is listed to a microsecond
            (at, exact) = (Some(begins + segment.seconds * scale), false);
            continue;
        };
        let apart = first.start as f64 - begins;
        let is_begun = at.is_some();
        if is_begun && apart.abs() > if exact { 0.0 } else { 1.5 } || !is_begun && apart > scale * BEGINNING {
            return wrong(format!("it begins {apart} ticks behind the one before"));
        }
        let mut end = first.start;
        for chunk in &segment.chunks {
            if chunk.start != end {
                return wrong(format!(
                    "a chunk begins at {}, the one before ends at {end}",
                    chunk.start
                ));
            }
            end += chunk.samples.iter().map(|it| u64::from(it.duration)).sum::<u64>();
        }
        let lasts = (end - first.start) as f64 / scale;
        if (lasts - segment.seconds).abs() > 1.0 / scale + 2e-6 {
            return wrong(format!("it lasts {lasts} s, listed are {} s", segment.seconds));
        }
        (at, exact) = (Some(end as f64), true);
    }
    Ok(())
}

/// All renditions of the main stream have the same segments.
fn together(renditions: &[Rendition]) -> Result<(), String> {
    let starts = |rendition: &Rendition| -> BTreeMap<String, (f64, bool)> {
        let mut at = 0.0;
        let start = |segment: &Segment| {
            let begins = at;
            at += segment.seconds;
            (segment.uri.clone(), (begins, segment.discontinuity))
        };
        rendition.segments.iter().map(start).collect()
    };
    let mut main = renditions.iter().filter(|it| it.is_main);
    let Some(lead) = main.next() else {
        return Err("it has no renditions".to_owned());
    };
    let theirs = starts(lead);
    for other in main {
        for (uri, (at, discontinuity)) in starts(other) {
            let Some((led, led_discontinuity)) = theirs.get(&uri) else {
                continue; // a rendition that begins later, or ends sooner
            };
            if (at - led).abs() > BOUNDARY || discontinuity != *led_discontinuity {
                let (lead, name) = (&lead.name, &other.name);
                return Err(format!("{uri} begins at {led} in {lead}, at {at} in {name}"));
            }
        }
    }
    Ok(())
}

/// What publishers have sent, as it lies in a rendition: in the order in which it was captured.
fn stamped(rendition: &Rendition) -> Result<Vec<Seen>, String> {
    let (mut seen, mut run, mut is_first): (Vec<Seen>, _, _) = (Vec::new(), 0, true);
    for segment in &rendition.segments {
        run += usize::from(segment.discontinuity);
        is_first |= segment.discontinuity || segment.gap;
        for chunk in &segment.chunks {
            let mut at = chunk.start as i64;
            for sample in &chunk.samples {
                if let Some(stamp) = sample.stamp {
                    if let Some(before) = seen.last().filter(|before| before.stamp >= stamp) {
                        return Err(format!("{}: {stamp:?} behind {:?}", rendition.name, before.stamp));
                    }
                    seen.push(Seen {
                        stamp,
                        shown: (at + sample.offset) as f64 / f64::from(rendition.scale),
                        run,
                        is_first: std::mem::take(&mut is_first),
                    });
                }
                at += i64::from(sample.duration);
            }
        }
    }
    Ok(seen)
}

/// By how much, in milliseconds, each picture is shown later than the sound that was captured with it.
fn offsets(sounds: &[Seen], pictures: &[Seen]) -> Vec<f64> {
    let order = |seen: &Seen| (seen.stamp.session, seen.stamp.captured);
    let behind = |seen: &Seen| seen.shown - seen.stamp.captured.as_secs_f64();
    let pictures = pictures.iter().filter(|it| !it.is_first);
    let offset = |picture: &Seen| {
        let next = sounds.partition_point(|sound| order(sound) < order(picture));
        let near = [next.checked_sub(1), Some(next)].into_iter().flatten();
        let near = near.filter_map(|at| sounds.get(at)).filter(|sound| {
            let apart = sound.stamp.captured.abs_diff(picture.stamp.captured);
            sound.run == picture.run && sound.stamp.session == picture.stamp.session && apart <= NEAR
        });
        let sound = near.min_by_key(|sound| sound.stamp.captured.abs_diff(picture.stamp.captured))?;
        Some((behind(picture) - behind(sound)) * 1e3)
    };
    pictures.filter_map(offset).collect()
}

/// Nothing that was captured while it was paused is recorded.
fn nothing_of_pauses(walk: &Walk, seen: &[&[Seen]]) -> Result<(), String> {
    for (from, to) in walk.pauses() {
        let within = |seen: &&Seen| (from..to).contains(&seen.stamp.captured);
        if let Some(seen) = seen.iter().flat_map(|it| it.iter()).find(within) {
            return Err(format!(
                "paused from {from:?} to {to:?}, and {seen:?} is recorded"
            ));
        }
    }
    Ok(())
}

/// All that came is there, but for what lies at the edges of what is recorded.
fn nothing_missing(wanted: &[&Unit], sounds: &[Seen], pictures: &[Seen]) -> Result<(), String> {
    let numbers = |seen: &[Seen]| -> BTreeSet<Stamp> { seen.iter().map(|it| it.stamp).collect() };
    let (sounds, pictures) = (numbers(sounds), numbers(pictures));
    let missing = wanted.iter().filter(|unit| match unit.kind {
        MediaKind::Audio => !sounds.contains(&unit.stamp),
        MediaKind::Video => !pictures.contains(&unit.stamp),
    });
    let missing: Vec<_> = missing.collect();
    match missing.first() {
        None => Ok(()),
        Some(first) => {
            let (count, of) = (missing.len(), wanted.len());
            Err(format!(
                "{count} of {of} that came are missing, the first {first:?}"
            ))
        }
    }
}

impl Walk {
    fn count(&self, state: RecordingState) -> usize {
        self.states.iter().filter(|(_, now)| *now == state).count()
    }

    /// The stretches for which it was paused: until somebody asked it to go on.
    fn pauses(&self) -> impl Iterator<Item = (Duration, Duration)> {
        let ends = self.states.iter().skip(1).map(|(at, _)| *at);
        let ends = ends.chain([Duration::MAX]);
        let paused = self.states.iter().zip(ends);
        let paused = paused.filter(|((_, state), _)| *state == RecordingState::Paused);
        paused.map(|((from, _), end)| {
            let asked = self.steps.iter().rev().skip_while(|(at, _)| at >= from);
            let is_wanted = asked
                .map(|(_, step)| *step)
                .find(|step| matches!(step, Step::Pause | Step::Resume));
            let resumed = self
                .steps
                .iter()
                .filter(|(at, step)| at >= from && *step == Step::Resume);
            let to = match is_wanted {
                Some(Step::Resume) => *from, // somebody changed their mind before it rested
                _ => resumed.map(|(at, _)| *at).min().unwrap_or(end).min(end),
            };
            // what was on its way by then may count as captured then
            (*from, to.saturating_sub(DELAY + ON_THE_WAY).max(*from))
        })
    }

    /// What was sent and came while the recording was live, except near the beginnings and ends of that. A session takes another's place once all
    /// that it offers has come, or has been waited for; `taken` is when what was taken of each was captured first.
    fn wanted(&self, taken: &BTreeMap<u8, Duration>) -> Vec<&Unit> {
        let ends = self.states.iter().skip(1).map(|(at, _)| *at);
        let ends = ends.chain([self.ended]).map(|at| at.min(self.ended));
        let live = self.states.iter().zip(ends);
        let live = live.filter(|((_, state), _)| *state == RecordingState::Live);
        let live: Vec<(Duration, Duration)> = live
            .map(|((from, _), to)| (*from + EDGE, to.saturating_sub(EDGE)))
            .collect();
        let is_live = |at: Duration| live.iter().any(|(from, to)| (*from..*to).contains(&at));
        let mut wanted = Vec::new();
        for (session, (offered, units)) in (0..).zip(&self.sessions) {
            let latest = *offered + ARRIVAL;
            let from = taken
                .get(&session)
                .map_or(latest, |first| (*first + EDGE).min(latest));
            let next = taken.range(session + 1..).next();
            let to = next.map_or(Duration::MAX, |(_, first)| first.saturating_sub(EDGE));
            let in_time = |unit: &&Unit| (from..to).contains(&unit.stamp.captured);
            wanted.extend(
                came(units)
                    .filter(in_time)
                    .filter(|unit| is_live(unit.stamp.captured)),
            );
        }
        wanted
    }
}

/// What came: of pictures only those for which nothing is missing that they are made of, and of sound nothing right behind the first losses,
/// which are waited for so long that the recording has gone on.
fn came(units: &[Unit]) -> impl Iterator<Item = &Unit> {
    let (mut decodes, mut losses, mut lost) = (false, 0, None);
    units.iter().filter(move |unit| {
        if unit.kind == MediaKind::Video {
            decodes = unit.whole && (decodes || unit.key);
            return decodes;
        }
        if !unit.whole && losses < FIRST_LOSSES {
            (losses, lost) = (losses + 1, Some(unit.stamp.captured));
        }
        unit.whole && lost.is_none_or(|lost| unit.stamp.captured > lost + WAIT)
    })
}

/// How far behind zero a rendition may begin, seconds.
const BEGINNING: f64 = 0.02;
/// Sound is cut at whole packets, seconds.
const BOUNDARY: f64 = 0.021;
/// Sound and pictures that were captured so far apart tell how these lie to one another.
const NEAR: Duration = Duration::from_millis(30);
/// So much longer than the least a datagram may be under way.
const ON_THE_WAY: Duration = Duration::from_millis(85);
/// How long a session may take to bring all that it offers, or to be taken without.
const ARRIVAL: Duration = Duration::from_millis(9_500);
/// How long the first losses of sound are waited for (`reorder_wait`), and how many are before the wait is shorter.
const WAIT: Duration = Duration::from_millis(900);
const FIRST_LOSSES: usize = 3;
/// What was on its way, or waited for what was lost, when something began or ended.
const EDGE: Duration = Duration::from_millis(1_500);
