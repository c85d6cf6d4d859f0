//! One rendition as viewers see it: what its playlists list, and where its parts are.

mod blocking;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use loom_core::RenditionId;

use crate::address;
use crate::config::PartForm;
use crate::crypt::KeyLine;
use crate::daterange::RangeLine;
use crate::define;
use crate::directives::{Block, Skip};
use crate::limits;
use crate::origin::{Answer, Body, media_response};

use crate::playlist::{self, Beginning, Opening, PartEntry, PlaylistHead, PlaylistState, SegmentEntry};
use crate::publish::Change;
use crate::window::{StartPoint, Window};

pub(crate) use crate::served::blocking::far_ahead;

/// One rendition as viewers see it.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) head: Option<PlaylistHead>,
    pub(crate) inits: BTreeMap<u32, Bytes>,
    /// Lines of segments whose parts are not listed any more.
    settled: String,
    /// Where each of those begins.
    marks: Vec<Mark>,
    recent: VecDeque<Listed>,
    /// Where each segment's file keeps its parts.
    pub(crate) parts: BTreeMap<u64, Vec<PartPlace>>,
    /// The running number of the part that comes next.
    next_part: u64,
    independent: bool,
    /// Whether a segment is longer than the target duration, by what is rounded off.
    long: bool,
    pub(crate) ended: bool,
    /// The playlist as text, in the forms that were asked for since it last changed.
    texts: Mutex<Vec<(Show, Bytes)>>,
    last_closed: Option<u64>,
    /// How many `EXT-X-DISCONTINUITY` the settled lines have.
    discontinuities: u64,
    /// How long the closed segments last together.
    closed: Duration,
    /// The playlist of its key pictures, where it has any.
    pub(crate) frames: Option<Box<Served>>,
}

/// How a playlist is to be shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Show {
    pub(crate) window: Window,
    pub(crate) skip: Option<Skip>,
    pub(crate) start: Option<StartPoint>,
    /// What links to other playlists end in.
    pub(crate) query: String,
    /// The query parameter that links carry on.
    pub(crate) define: Option<String>,
}

/// A date range, and how much of the recording there was when it last changed.
#[derive(Debug)]
pub(crate) struct Ranged {
    pub(crate) line: RangeLine,
    pub(crate) at: Duration,
}

/// A segment among the settled lines.
#[derive(Debug)]
struct Mark {
    /// Where its lines begin, bytes.
    at: usize,
    number: u64,
    /// How long all segments up to its end last.
    end: Duration,
    /// How many `EXT-X-DISCONTINUITY` stand before its lines.
    discontinuities: u64,
    map: Option<Arc<str>>,
    key: Option<Arc<KeyLine>>,
    /// Whether its own lines say the map, and the key.
    says: (bool, bool),
    date: Option<SystemTime>,
}

/// A segment whose parts are listed, closed or not.
#[derive(Debug)]
struct Listed {
    number: u64,
    opening: Opening,
    parts: Vec<PartEntry>,
    closed: Option<SegmentEntry>,
    /// It is closed, and its URI comes with the next segment's first part: see [`Served::awaits`].
    awaits: bool,
}

#[derive(Debug)]
pub(crate) struct PartPlace {
    /// Its running number in the rendition.
    number: u64,
    pub(crate) key: Arc<str>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) data: Option<Bytes>,
    gap: bool,
}

impl Default for Served {
    fn default() -> Self {
        Self {
            head: None,
            inits: BTreeMap::new(),
            settled: String::new(),
            marks: Vec::new(),
            discontinuities: 0,
            recent: VecDeque::new(),
            parts: BTreeMap::new(),
            next_part: 0,
            independent: true,
            long: false,
            ended: false,
            texts: Mutex::default(),
            last_closed: None,
            closed: Duration::ZERO,
            frames: None,
        }
    }
}

/// Durations are listed in whole microseconds: whoever adds them up may be this far off.
const ROUNDED: Duration = Duration::from_millis(2);

impl Served {
    pub(crate) fn take(&mut self, change: Change) {
        match change {
            Change::Multivariant { .. }
            | Change::DateRange { .. }
            | Change::Manifest { .. }
            | Change::Text { .. }
            | Change::Sheets { .. } => {}
            Change::Init { number, data, .. } => {
                self.inits.insert(number, data);
            }
            Change::Begin { head, frames } => {
                if frames {
                    self.frames = Some(Box::new(Served {
                        head: Some(head.of_frames()),
                        ..Served::default()
                    }));
                }
                self.head = Some(head);
            }
            Change::Part {
                segment,
                opening,
                entry,
                key,
                offset,
                data,
            } => {
                self.open(segment, opening);
                self.next_part = entry.number + 1;
                self.parts.entry(segment).or_default().push(PartPlace {
                    number: entry.number,
                    key,
                    offset,
                    len: data.len() as u64,
                    gap: entry.gap,
                    data: Some(data),
                });
                if let Some(listed) = self.recent.back_mut() {
                    listed.parts.push(entry);
                }
                self.settle();
                self.forget();
            }
            Change::Segment {
                segment,
                opening,
                entry,
                independent,
                followed,
                ..
            } => {
                self.open(segment, opening);
                let own_parts = self
                    .head
                    .as_ref()
                    .is_some_and(|head| head.part_form == PartForm::Named);
                let awaits = followed && own_parts && self.last_closed.is_some();
                self.independent = independent;
                self.long |= self.head.as_ref().is_some_and(|head| head.is_exceeded(&entry));
                self.last_closed = Some(segment);
                self.closed += entry.duration.duration();
                if let Some(listed) = self.recent.back_mut() {
                    if let Some(frames) = &mut self.frames {
                        frames.take(Change::Segment {
                            segment,
                            opening: Some(listed.opening.clone()),
                            entry: entry.of_frame(),
                            independent,
                            followed: false,
                            place: None,
                        });
                    }
                    listed.closed = Some(entry);
                    listed.awaits = awaits && !listed.parts.is_empty();
                }
                self.settle();
            }
            Change::End => {
                self.ended = true;
                if let Some(frames) = &mut self.frames {
                    frames.ended = true;
                }
            }
        }
        self.changed();
    }

    /// What was made of it as text is of no use any more.
    pub(crate) fn changed(&mut self) {
        self.texts
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        if let Some(frames) = &mut self.frames {
            frames.changed();
        }
    }

    /// How much of the recording it lists.
    pub(crate) fn length(&self) -> Duration {
        let open = self.recent.back().filter(|listed| listed.closed.is_none());
        let parts = open.map_or(Duration::ZERO, |open| {
            open.parts.iter().map(|p| p.duration.duration()).sum()
        });
        self.closed + parts
    }

    /// Whether it lists anything.
    pub(crate) fn listed(&self) -> bool {
        self.head.is_some() && (!self.settled.is_empty() || !self.recent.is_empty())
    }

    /// The newest segment's number, and its newest part's where it has parts (RFC 8216bis §4.4.5.4).
    pub(crate) fn newest(&self) -> Option<(u64, Option<u64>)> {
        match self.recent.back() {
            Some(listed) if !listed.parts.is_empty() => {
                Some((listed.number, Some(listed.parts.len() as u64 - 1)))
            }
            // text, or a gap
            _ => self.last_closed.map(|last| (last, None)),
        }
    }

    /// The newest segment, where all of its parts are listed and its URI is not yet.
    ///
    /// The URI comes with what is listed behind it, as a rule a part later, and not with the segment's last part, which may be short and so
    /// come right behind the one before it. hls.js (1.7) takes a segment that has a URI for loaded when what it has of it ends less than
    /// 0.2 s before the segment does. Where a part is still under way to it when the segment's last, short part and the URI are listed, it
    /// never asks for that last part, and stands still.
    pub(crate) fn awaits(&self) -> Option<u64> {
        let last = self.recent.back().filter(|last| last.awaits && !self.ended)?;
        Some(last.number)
    }

    /// Makes `segment` the newest of the recent ones.
    fn open(&mut self, segment: u64, opening: Option<Opening>) {
        if self.recent.back().is_none_or(|listed| listed.number != segment) {
            self.recent.push_back(Listed {
                number: segment,
                opening: opening.unwrap_or_default(),
                parts: Vec::new(),
                closed: None,
                awaits: false,
            });
        }
    }

    /// Moves segments that lie more than three target durations before the end to where no parts are listed
    /// (RFC 8216bis §6.2.2).
    fn settle(&mut self) {
        let Some(head) = &self.head else { return };
        let keep = head.target_duration * 3;
        let length = |listed: &Listed| match &listed.closed {
            Some(entry) => entry.duration.duration(),
            None => listed.parts.iter().map(|p| p.duration.duration()).sum(),
        };
        let mut all: Duration = self.recent.iter().map(length).sum();
        while let Some(oldest) = self.recent.front() {
            let rest = all.saturating_sub(length(oldest));
            let Some(entry) = oldest.closed.as_ref().filter(|_| rest >= keep) else {
                return;
            };
            let last = self.marks.last();
            let says = (oldest.opening.map.is_some(), oldest.opening.key.is_some());
            let (map, key) = (oldest.opening.map.clone(), oldest.opening.key.clone());
            self.marks.push(Mark {
                at: self.settled.len(),
                number: oldest.number,
                end: last.map_or(Duration::ZERO, |m| m.end) + entry.duration.duration(),
                discontinuities: self.discontinuities,
                map: map.or_else(|| last.and_then(|m| m.map.clone())),
                key: key.or_else(|| last.and_then(|m| m.key.clone())),
                says,
                date: oldest.opening.date,
            });
            self.discontinuities += u64::from(oldest.opening.discontinuity);
            playlist::write_opening(&mut self.settled, &oldest.opening);
            match head.frames {
                true => playlist::write_frame(&mut self.settled, entry),
                false => playlist::write_segment(&mut self.settled, entry),
            }
            self.parts.remove(&oldest.number);
            all = rest;
            self.recent.pop_front();
        }
    }

    /// Lets bytes go that few will ask for any more: of all but the last few seconds, and the oldest above the limit.
    /// They are read from the store then.
    fn forget(&mut self) {
        let (mut bytes, mut seconds) = (0, Duration::ZERO);
        for (segment, parts) in self.parts.iter_mut().rev() {
            let listed = self.recent.iter().rev().find(|listed| listed.number == *segment);
            for (at, part) in parts.iter_mut().enumerate().rev() {
                let Some(data) = &part.data else {
                    if part.gap {
                        continue;
                    }
                    return; // what is older has gone before
                };
                let newest = bytes == 0;
                bytes += data.len();
                if !newest && (bytes > limits::PART_MEMORY_BYTES || seconds >= limits::PART_MEMORY) {
                    part.data = None;
                }
                seconds += listed
                    .and_then(|listed| listed.parts.get(at))
                    .map_or(Duration::ZERO, |entry| entry.duration.duration());
            }
        }
    }

    /// The playlist in the form asked for; `None` while it lists nothing. `reports` are the lines on the other renditions.
    pub(crate) fn text(
        &self,
        show: &Show,
        ranges: &[Ranged],
        reports: impl FnOnce() -> String,
    ) -> Option<Bytes> {
        let head = self.head.as_ref().filter(|_| self.listed())?;
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = texts.iter().find(|(made, _)| made == show) {
            return Some(text.clone());
        }
        let text = self.render(head, show, ranges, reports);
        if texts.len() >= limits::VIEWS {
            texts.remove(0);
        }
        texts.push((show.clone(), text.clone()));
        Some(text)
    }

    fn render(
        &self,
        head: &PlaylistHead,
        show: &Show,
        ranges: &[Ranged],
        reports: impl FnOnce() -> String,
    ) -> Bytes {
        let state = if self.ended {
            PlaylistState::Whole
        } else {
            PlaylistState::Growing
        };
        let window = show.window.length(head.target_duration);
        // a segment leaves once those behind it are as long as the window; what may still have parts always stays
        let from = window.map_or(0, |window| {
            self.marks.partition_point(|m| self.closed - m.end >= window)
        });
        let boundary = head.skip_boundary();
        let length = self.length();
        let skip = show
            .skip
            .filter(|_| state == PlaylistState::Growing && head.blocking);
        // §6.2.5.1: what lies further from the end than the skip boundary
        let to = skip.map_or(from, |_| {
            self.marks
                .partition_point(|m| length - m.end > boundary + ROUNDED)
                .max(from)
        });
        let skip = skip.filter(|_| to > from);
        let first = self.marks.get(from);
        let beginning = Beginning {
            independent: self.independent,
            first_segment: first
                .filter(|_| from > 0)
                .map_or_else(|| self.first_after(from, head), |mark| mark.number),
            discontinuity_sequence: head.discontinuity_sequence
                + first.map_or(if from > 0 { self.discontinuities } else { 0 }, |mark| {
                    mark.discontinuities
                }),
            slides: window.is_some(),
            start: show.start.or(head.start),
            ..Beginning::of(head, state, self.independent, self.long)
        };
        let mut text = String::with_capacity(self.settled.len() + 4096);
        playlist::write_head(&mut text, head, &beginning);
        let gone = self.date_of(from).filter(|_| from > 0);
        for range in ranges {
            let left = gone.is_some_and(|gone| range.line.end.is_some_and(|end| end < gone));
            let old = skip == Some(Skip::DateRanges) && length.saturating_sub(range.at) > boundary;
            if !left && !old {
                text.push_str(&range.line.line);
            }
        }
        if let Some(asked) = skip {
            let removed: Vec<&str> = ranges
                .iter()
                .filter(|range| {
                    let end = range.line.end.filter(|_| asked == Skip::DateRanges);
                    gone.is_some_and(|gone| end.is_some_and(|end| end < gone && end + boundary >= gone))
                })
                .map(|range| range.line.id.as_str())
                .collect();
            let removed = (asked == Skip::DateRanges).then_some(removed.as_slice());
            playlist::write_skip(&mut text, to - from, removed);
        } else if from > 0 {
            // the map and the key in force where the window begins were said before it
            let (from, says) = match (first, self.recent.front()) {
                (Some(mark), _) => (Some(mark), mark.says),
                (None, Some(it)) => (
                    self.marks.last(),
                    (it.opening.map.is_some(), it.opening.key.is_some()),
                ),
                (None, None) => (None, (true, true)),
            };
            let in_force = Opening {
                map: from.filter(|_| !says.0).and_then(|mark| mark.map.clone()),
                key: from.filter(|_| !says.1).and_then(|mark| mark.key.clone()),
                ..Default::default()
            };
            playlist::write_opening(&mut text, &in_force);
        }
        let settled = self.marks.get(to).map_or(self.settled.len(), |mark| mark.at);
        text.push_str(&self.settled[settled..]);
        for listed in &self.recent {
            playlist::write_opening(&mut text, &listed.opening);
            if !self.ended {
                for part in &listed.parts {
                    playlist::write_part(&mut text, part);
                }
            }
            match &listed.closed {
                Some(_) if self.awaits() == Some(listed.number) => {}
                Some(entry) if head.frames => playlist::write_frame(&mut text, entry),
                Some(entry) => playlist::write_segment(&mut text, entry),
                None => {}
            }
        }
        if self.ended {
            text.push_str(playlist::ENDLIST);
        } else {
            if self.expected().is_some() {
                if let Some(map) = self.coming_map() {
                    playlist::write_preload_hint(&mut text, "MAP", &map, None);
                }
                let (uri, start) = self.hint(head);
                playlist::write_preload_hint(&mut text, "PART", &uri, start);
            }
            text.push_str(&reports());
        }
        match &show.define {
            Some(name) => define::carry(&text, name).into(),
            None => text.into(),
        }
    }

    /// The number of the first segment listed, where those before `from` are left out.
    fn first_after(&self, from: usize, head: &PlaylistHead) -> u64 {
        if from == 0 {
            return head.first_segment;
        }
        let recent = self.recent.front().map(|listed| listed.number);
        recent
            .or(self.last_closed.map(|last| last + 1))
            .unwrap_or(head.first_segment)
    }

    /// When the first segment listed begins, where those before `from` are left out.
    fn date_of(&self, from: usize) -> Option<SystemTime> {
        match self.marks.get(from) {
            Some(mark) => mark.date,
            None => self.recent.front()?.opening.date,
        }
    }

    /// The init segment that the next segment needs, where it is another than the last (RFC 8216bis §4.4.5.3).
    fn coming_map(&self) -> Option<String> {
        let newest = address::init(*self.inits.keys().next_back()?);
        let maps = self
            .recent
            .iter()
            .rev()
            .filter_map(|it| it.opening.map.as_deref());
        let said = maps
            .chain(self.marks.last().and_then(|mark| mark.map.as_deref()))
            .next();
        (said != Some(newest.as_str())).then_some(newest)
    }

    /// The resource that holds the next part, and from which byte on, where it is a range of one (RFC 8216bis §4.4.5.3).
    fn hint(&self, head: &PlaylistHead) -> (String, Option<u64>) {
        let last = self.recent.back();
        match (head.part_form, last) {
            (PartForm::Ranges, Some(last)) => {
                let ends = last.closed.is_some() || last.parts.last().is_some_and(|part| part.last);
                let ranges = last.parts.iter().rev().filter_map(|part| part.range);
                let next = match ends {
                    true => (last.number + 1, 0),
                    false => (
                        last.number,
                        ranges.map(|range| range.offset + range.len).max().unwrap_or(0),
                    ),
                };
                (address::segment(next.0), Some(next.1))
            }
            _ => (address::part(self.next_part), None),
        }
    }

    /// The part that comes next, where parts are made: of this segment, unless that ends before it.
    pub(crate) fn expected(&self) -> Option<(u64, u64)> {
        self.head.as_ref()?.part_target?;
        let last = self.recent.back()?;
        Some(match last.closed {
            Some(_) => (last.number + 1, 0),
            None => (last.number, last.parts.len() as u64),
        })
    }

    pub(crate) fn part(&self, id: RenditionId, number: u64) -> Answer {
        let mut segments = self.parts.values().rev();
        let place = segments.find_map(|parts| {
            let nth = number.checked_sub(parts.first()?.number)?;
            parts.get(usize::try_from(nth).ok()?)
        });
        match (place, self.expected()) {
            (Some(place), _) if place.gap => Answer::NotFound,
            (Some(place), _) => media_response(match &place.data {
                Some(data) => Body::Bytes(data.clone()),
                None => Body::Stored {
                    key: place.key.to_string(),
                    offset: place.offset,
                    len: Some(place.len),
                },
            }),
            // a hinted part is waited for (RFC 8216bis §6.2.6), whichever segment it falls in
            (None, Some((segment, part))) if !self.ended && number == self.next_part => {
                let part = Some(part);
                Answer::WaitFor(self.wait(id, Some(Block { segment, part })))
            }
            (None, _) => Answer::NotFound,
        }
    }
}
