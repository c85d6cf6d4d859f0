use std::collections::VecDeque;

use loom_core::{Cue, CueState, MediaTime};

use crate::address;
use crate::clock::{FIRST, SegmentClock};
use crate::limits;
use crate::listing::Listing;
use crate::playlist::{Opening, Seconds, SegmentEntry};
use crate::publish::{Change, HlsOutput};
use crate::webvtt;

/// The subtitle rendition: cues cut by the same boundaries as the media, a segment at a time, once all that was said in it
/// is known.
#[derive(Debug)]
pub(crate) struct CaptionTrack {
    pub(crate) listing: Listing,
    cues: Vec<Held>,
    watermark: MediaTime,
    next: Option<u64>,
    /// Where the media ended, while the publisher is away: what was said before may be listed only now.
    pub(crate) away: Option<MediaTime>,
}

#[derive(Debug)]
struct Held {
    cue: Cue,
    written: bool,
}

impl CaptionTrack {
    pub(crate) fn new(listing: Listing) -> Self {
        Self {
            listing,
            cues: Vec::new(),
            watermark: MediaTime::ZERO,
            next: None,
            away: None,
        }
    }

    /// Takes a cue; one with the id of an earlier one replaces it.
    pub(crate) fn handle_cue(&mut self, mut cue: Cue) {
        if cue.text.len() > limits::CUE_BYTES {
            let mut end = limits::CUE_BYTES;
            while !cue.text.is_char_boundary(end) {
                end -= 1;
            }
            cue.text.truncate(end);
        }
        cue.words = Vec::new(); // only the text is shown
        match self.cues.iter_mut().find(|held| held.cue.id == cue.id) {
            Some(held) => held.cue = cue,
            None => {
                if self.cues.len() >= limits::CUES {
                    self.cues.remove(0);
                }
                self.cues.push(Held { cue, written: false });
                self.cues.sort_by_key(|held| (held.cue.start, held.cue.id));
            }
        }
    }

    /// All that was said before `to` is known.
    pub(crate) fn handle_watermark(&mut self, to: MediaTime) {
        self.watermark = self.watermark.max(to);
    }

    /// Publishes the segments whose end is known and passed by the watermark.
    pub(crate) fn advance(&mut self, clock: &SegmentClock, out: &mut VecDeque<HlsOutput>) {
        while clock.started() {
            let segment = self.next.unwrap_or(FIRST);
            match clock.start(segment + 1) {
                Some(end) if self.watermark >= end.at => self.publish(clock, segment, end.at, false, out),
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

    /// Writes every segment anew from `cues`, the final ones. What is listed stays as it is: the boundaries are the same.
    pub(crate) fn rewrite(
        &self,
        cues: &[Cue],
        clock: &SegmentClock,
        end: MediaTime,
        out: &mut VecDeque<HlsOutput>,
    ) {
        for segment in FIRST..self.next.unwrap_or(FIRST) {
            let Some(start) = clock.start(segment) else {
                continue;
            };
            let from = if segment == FIRST {
                MediaTime::from_nanos(i64::MIN)
            } else {
                start.at
            };
            let to = clock.start(segment + 1).map_or(end.max(start.at), |s| s.at);
            let shown = cues.iter().filter(|cue| webvtt::overlaps(cue, from, to));
            let key = format!("{}/{}", self.listing.id(), address::text(segment));
            out.push_back(HlsOutput::Store {
                key,
                data: webvtt::write_segment(shown).into(),
            });
        }
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
        let from = if segment == FIRST {
            MediaTime::from_nanos(i64::MIN)
        } else {
            start.at
        };
        let to = if last {
            MediaTime::from_nanos(i64::MAX)
        } else {
            end
        };
        let mut shown = Vec::new();
        for held in &mut self.cues {
            // a partial cue may still change, so it waits for its final form; a final one that came too late for its segment
            // is put into the next, or it would be lost
            let settled = held.cue.state == CueState::Final || last;
            let late = !held.written && held.cue.start < to;
            if settled && (late || webvtt::overlaps(&held.cue, from, to)) {
                held.written = true;
                shown.push(&held.cue);
            }
        }
        let file = address::text(segment);
        let key = format!("{}/{file}", self.listing.id());
        out.push_back(HlsOutput::Store {
            key,
            data: webvtt::write_segment(shown).into(),
        });
        self.cues.retain(|held| held.cue.end > end || !held.written);
        if self.next.is_none() {
            self.listing
                .begin(segment, clock.discontinuities_to(segment), out);
        }
        let opening = Opening {
            discontinuity: segment > FIRST && start.discontinuity,
            map: None,
            date: self.listing.date(start.at),
        };
        let entry = SegmentEntry {
            uri: file,
            duration: Seconds::from(end.since(start.at)),
            gap: false,
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
        };
        self.listing.publish(change, out);
        self.next = Some(segment + 1);
    }
}
