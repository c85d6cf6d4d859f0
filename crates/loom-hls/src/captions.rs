use std::collections::VecDeque;
use std::sync::Arc;

use loom_core::{Cue, CueState, MediaTime};

use crate::address;
use crate::clock::{FIRST, SegmentClock};
use crate::config::{RenditionInfo, TextForm};
use crate::dash::{Described, Format, Place, TEXT_SCALE};
use crate::limits;
use crate::listing::Listing;
use crate::playlist::{Opening, Seconds, SegmentEntry};
use crate::publish::{Change, HlsOutput};
use crate::text::TextCue;
use crate::{imsc1, webvtt};

/// A subtitle rendition: cues cut by the same boundaries as the media, a segment at a time, once all that was said in it
/// is known.
#[derive(Debug)]
pub(crate) struct CaptionTrack {
    pub(crate) listing: Listing,
    info: RenditionInfo,
    form: TextForm,
    cues: Vec<Held>,
    /// Up to where all cues have come; `None` where nobody says so, and a segment is published once it has ended.
    watermark: Option<MediaTime>,
    next: Option<u64>,
    /// Where the media ended, while the publisher is away: what was said before may be listed only now.
    pub(crate) away: Option<MediaTime>,
}

#[derive(Debug)]
struct Held {
    cue: TextCue,
    /// It will not change any more.
    settled: bool,
    written: bool,
}

impl CaptionTrack {
    /// `paced` tells whether a watermark will come; without, cues are expected before their segments end.
    pub(crate) fn new(listing: Listing, info: RenditionInfo, form: TextForm, paced: bool) -> Self {
        Self {
            listing,
            info,
            form,
            cues: Vec::new(),
            watermark: paced.then_some(MediaTime::ZERO),
            next: None,
            away: None,
        }
    }

    /// BCP 47.
    fn language(&self) -> &str {
        self.info.kind.language().unwrap_or("und")
    }

    /// Whether it holds back what a watermark has not passed.
    pub(crate) fn is_paced(&self) -> bool {
        self.watermark.is_some()
    }

    /// Takes what was said; a cue with the id of an earlier one replaces it.
    pub(crate) fn handle_cue(&mut self, cue: Cue) {
        let settled = cue.state == CueState::Final;
        self.take(cue.into(), settled);
    }

    /// Takes a cue that is as it will be; one with the id of an earlier one replaces it.
    pub(crate) fn handle_text(&mut self, cue: TextCue) {
        self.take(cue, true);
    }

    fn take(&mut self, cue: TextCue, settled: bool) {
        let cue = cue.bounded();
        match self.cues.iter_mut().find(|held| held.cue.id == cue.id) {
            Some(held) => {
                held.cue = cue;
                held.settled = settled;
            }
            None => {
                if self.cues.len() >= limits::CUES {
                    self.cues.remove(0);
                }
                let written = false;
                self.cues.push(Held {
                    cue,
                    settled,
                    written,
                });
                self.cues.sort_by_key(|held| (held.cue.start, held.cue.id));
            }
        }
    }

    /// All that was said before `to` is known.
    pub(crate) fn handle_watermark(&mut self, to: MediaTime) {
        self.watermark = Some(self.watermark.map_or(to, |it| it.max(to)));
    }

    /// Publishes the segments whose end is known and passed by the watermark.
    pub(crate) fn advance(&mut self, clock: &SegmentClock, out: &mut VecDeque<HlsOutput>) {
        while clock.started() {
            let segment = self.next.unwrap_or(FIRST);
            match clock.start(segment + 1) {
                Some(end) if self.watermark.is_none_or(|it| it >= end.at) => {
                    self.publish(clock, segment, end.at, false, out);
                }
                _ => return,
            }
        }
    }

    /// Publishes what is left, up to the recording's `end`.
    pub(crate) fn finish(&mut self, clock: &SegmentClock, end: MediaTime, out: &mut VecDeque<HlsOutput>) {
        while clock.started() && self.next.unwrap_or(FIRST) <= clock.newest() {
            let segment = self.next.unwrap_or(FIRST);
            let until = clock.start(segment + 1).map_or(end, |s| s.at);
            self.publish(clock, segment, until, segment == clock.newest(), out);
        }
    }

    /// `cues` are all there are, in place of those before: what is out already is written anew under its names, the rest waits for
    /// its segments. What is listed stays as it is: the boundaries are the same.
    pub(crate) fn replace(
        &mut self,
        cues: &[TextCue],
        clock: &SegmentClock,
        end: MediaTime,
        out: &mut VecDeque<HlsOutput>,
    ) {
        let next = self.next.unwrap_or(FIRST);
        for segment in FIRST..next {
            let Some(start) = clock.start(segment) else {
                continue;
            };
            let from = if segment == FIRST { BEGINNING } else { start.at };
            let to = clock.start(segment + 1).map_or(end.max(start.at), |s| s.at);
            let shown = cues.iter().filter(|cue| cue.overlaps(from, to));
            out.push_back(self.segment(segment, start.at, to, shown));
        }
        let written_to = clock
            .start(next)
            .map_or(BEGINNING, |s| if next == FIRST { BEGINNING } else { s.at });
        let waiting = cues.iter().filter(|cue| cue.end > written_to);
        self.cues = waiting
            .take(limits::CUES)
            .map(|cue| Held {
                cue: cue.clone().bounded(),
                settled: true,
                written: cue.start < written_to,
            })
            .collect();
        self.cues.sort_by_key(|held| (held.cue.start, held.cue.id));
    }

    fn file(&self, segment: u64) -> String {
        match self.form {
            TextForm::WebVtt => address::text(segment),
            TextForm::Imsc1 => address::timed_text(segment),
        }
    }

    fn segment<'a>(
        &self,
        segment: u64,
        start: MediaTime,
        end: MediaTime,
        shown: impl IntoIterator<Item = &'a TextCue>,
    ) -> HlsOutput {
        HlsOutput::Store {
            key: format!("{}/{}", self.listing.id(), self.file(segment)),
            data: match self.form {
                TextForm::WebVtt => webvtt::write_segment(start, shown).into(),
                TextForm::Imsc1 => imsc1::write_segment(segment, self.language(), start, end, shown),
            },
        }
    }

    /// Begins the playlist. Gives the init segment's URI, where there is one.
    fn begin(
        &mut self,
        segment: u64,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Option<Arc<str>> {
        let init = (self.form == TextForm::Imsc1).then(|| {
            let (name, data) = (address::init(0), imsc1::write_init(self.language()));
            let key = format!("{}/{name}", self.listing.id());
            out.push_back(HlsOutput::Store {
                key,
                data: data.clone(),
            });
            self.listing.publish(
                Change::Init {
                    number: 0,
                    data,
                    described: None,
                },
                out,
            );
            name.into()
        });
        let described = Arc::new(Described {
            info: self.info.clone(),
            format: Format::Text(self.form),
            key: None,
        });
        self.listing.publish(Change::Text { described }, out);
        self.listing
            .begin(segment, clock.discontinuities_to(segment), out);
        init
    }

    fn publish(
        &mut self,
        clock: &SegmentClock,
        segment: u64,
        end: MediaTime,
        last: bool,
        out: &mut VecDeque<HlsOutput>,
    ) {
        let Some(start) = clock.start(segment) else { return };
        let from = if segment == FIRST { BEGINNING } else { start.at };
        let to = if last {
            MediaTime::from_nanos(i64::MAX)
        } else {
            end
        };
        let mut shown = Vec::new();
        for held in &mut self.cues {
            // a partial cue may still change, so it waits for its final form; a final one that came too late for its segment
            // is put into the next, or it would be lost
            let settled = held.settled || last;
            let late = !held.written && held.cue.start < to;
            if settled && (late || held.cue.overlaps(from, to)) {
                held.written = true;
                shown.push(held.cue.clone());
            }
        }
        let stored = self.segment(segment, start.at, end, &shown);
        out.push_back(stored);
        self.cues.retain(|held| held.cue.end > end || !held.written);
        let map = match self.next {
            None => self.begin(segment, clock, out),
            Some(_) => None,
        };
        let opening = Opening {
            discontinuity: segment > FIRST && start.discontinuity,
            map,
            date: self.listing.date(start.at, clock),
            key: None,
        };
        let entry = SegmentEntry {
            uri: self.file(segment),
            duration: Seconds::from(end.since(start.at)),
            gap: false,
            frame: None,
            bit_rate: None,
        };
        self.listing.close(opening.clone(), entry.clone(), out);
        if self.away.is_some_and(|away| start.at < away) {
            self.listing.remark();
        }
        let change = Change::Segment {
            segment,
            opening: Some(opening),
            entry,
            independent: true,
            followed: false,
            place: Some(Place {
                start: start.at.ticks(TEXT_SCALE).max(0) as u64,
                length: (end.ticks(TEXT_SCALE) - start.at.ticks(TEXT_SCALE)).max(0) as u64,
                discontinuity: false,
            }),
        };
        self.listing.publish(change, out);
        self.next = Some(segment + 1);
    }
}

/// The first segment has whatever comes before it too.
const BEGINNING: MediaTime = MediaTime::from_nanos(i64::MIN);
