use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use loom_core::{MediaKind, RenditionId};

use crate::address;
use crate::clock::{FIRST, SegmentClock};
use crate::cmaf::{self, Sample};
use crate::config::PartForm;
use crate::crypt::TrackCrypt;
use crate::dash::Place;
use crate::error::HlsError;
use crate::limits;
use crate::metadata::Message;
use crate::playlist::{Opening, PartEntry, PartRange, Seconds, SegmentEntry};
use crate::publish::{Change, HlsOutput};
use crate::rendition::MediaTrack;

/// The segment that is being made.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub(super) number: u64,
    /// Where it starts on the listed timeline, ticks.
    pub(super) start: u64,
    /// Said with its first part, or with the segment.
    pub(super) opening: Option<Opening>,
    pub(super) journal: Opening,
    pub(super) key: Arc<str>,
    /// Bytes stored so far.
    pub(super) bytes: u64,
    /// Not yet stored.
    pub(super) buffer: Vec<u8>,
    pub(super) part_start: u64,
    /// The running number of its first part.
    pub(super) first_part: u64,
    pub(super) key_in_part: bool,
    /// How many bytes at its beginning hold the key picture that it begins with.
    pub(super) frame: Option<u64>,
    /// It is being closed: what part is closed now is its last.
    pub(super) closing: bool,
}

/// What is known to come behind a sample in its segment, or behind a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    More,
    Nothing,
}

impl OpenSegment {
    fn range_of(&self, form: PartForm, offset: u64, len: usize) -> Option<PartRange> {
        let range = PartRange {
            segment: self.number,
            offset,
            len: len as u64,
        };
        (form == PartForm::Ranges).then_some(range)
    }
}

/// Samples, their lengths known, to chunks, parts and segments.
impl MediaTrack {
    pub(super) fn push(
        &mut self,
        sample: Sample,
        behind: Behind,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        let Some(open) = &self.open else { return Ok(()) };
        let end = sample.dts + u64::from(sample.duration);
        let target = self.part.map(|part| self.ticks_down(part));
        if let Some(target) = target
            && end > open.part_start + target
        {
            self.close_part(sample.dts, out)?;
        }
        let length = u64::from(sample.duration);
        self.length = Some(length);
        self.sample_bytes += sample.data.len();
        if let Some(open) = &mut self.open {
            open.key_in_part |= sample.key;
        }
        let sample = self.unshifted(sample);
        let key = sample.key;
        self.samples.push(sample);
        self.end = end;
        if key && self.kind == MediaKind::Video {
            self.close_frame()?;
        }
        let part_start = self.open.as_ref().map_or(end, |open| open.part_start);
        // a segment's last part is closed with it where parts are its ranges: else the hint would be of bytes that never come
        let closes = self.part_form == PartForm::Named || behind == Behind::More;
        // as soon as no other like it fits, rather than when the next has come
        let full = target.filter(|_| closes).is_some_and(|target| {
            let held = end - part_start;
            held + length > target && held * 100 >= target * 85
        });
        if full {
            self.close_part(end, out)?;
        } else if self.sample_bytes >= limits::CHUNK_BYTES || self.samples.len() >= limits::CHUNK_SAMPLES {
            self.close_chunk()?;
            if self.part.is_none() {
                self.store(out);
            }
        }
        Ok(())
    }

    /// The sample with its true decode time. The first few of a stream whose pictures are reordered would be decoded before
    /// zero; theirs are drawn together, a tick apart, behind it.
    pub(super) fn unshifted(&mut self, sample: Sample) -> Sample {
        let shift = self.shift.unwrap_or(0);
        let truth = |listed: u64, count: u64| (listed as i64 - shift).max(count as i64);
        let dts = truth(sample.dts, self.count);
        let next = truth(sample.dts + u64::from(sample.duration), self.count + 1);
        self.count += 1;
        Sample {
            dts: dts as u64,
            duration: (next - dts) as u32,
            offset: (i64::from(sample.offset) + sample.dts as i64 - dts) as i32,
            ..sample
        }
    }

    /// Closes the open segment and opens `number`, whose first sample lies at `tick`; what lies between are gaps.
    pub(super) fn cross(
        &mut self,
        number: u64,
        tick: u64,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        if self.open.is_some() {
            let next = self.segment() + 1;
            let mut end = self.end;
            if tick > end {
                end = self.boundary(clock, next).unwrap_or(tick).clamp(end, tick);
            }
            self.close_segment(end, Behind::More, out)?;
        }
        if self.next.is_none() {
            let late = self.began_late.then(|| self.boundary(clock, FIRST)).flatten();
            self.end = late.unwrap_or(tick).min(tick);
            self.next = late.map(|_| FIRST);
            let first = self.next.unwrap_or(number);
            self.listing.begin(first, clock.discontinuities_to(first), out);
        }
        while let Some(gap) = self.next.filter(|next| *next < number) {
            let end = self
                .boundary(clock, gap + 1)
                .unwrap_or(tick)
                .clamp(self.end, tick);
            self.list_gap(gap, end, clock, out);
        }
        self.take_key(number, out);
        self.open_segment(number, clock);
        self.gap_in_segment(tick, out)
    }

    /// Chooses the key of the segment `number`, where there are keys.
    fn take_key(&mut self, number: u64, out: &mut VecDeque<HlsOutput>) {
        let fresh = self.fresh;
        let Some(crypt) = &mut self.crypt else { return };
        let begun = crypt.begin(number, fresh);
        self.key_line = begun.line;
        if let Some(init) = begun.init {
            self.publish_init(init, out);
        }
    }

    pub(super) fn open_segment(&mut self, number: u64, clock: &SegmentClock) {
        let opening = self.opening(number, clock);
        self.fresh = false;
        self.differs = false;
        self.key_line = None;
        let mut buffer = Vec::with_capacity(64);
        // cannot fail: it only fills memory
        let _ = cmaf::styp(&mut buffer);
        self.open = Some(OpenSegment {
            number,
            start: self.end,
            opening: Some(opening.clone()),
            journal: opening,
            key: format!("{}/{}", self.id(), address::segment(number)).into(),
            bytes: 0,
            buffer,
            part_start: self.end,
            first_part: self.parts,
            key_in_part: false,
            frame: None,
            closing: false,
        });
        self.next = Some(number + 1);
    }

    pub(super) fn opening(&self, number: u64, clock: &SegmentClock) -> Opening {
        Opening {
            discontinuity: self.next.is_some() && clock.start(number).is_some_and(|s| s.discontinuity),
            map: self.fresh.then(|| self.init.clone()),
            date: self.listing.date(self.time(self.end), clock),
            key: self.key_line.clone(),
        }
    }

    /// A loss within a segment: the listed timeline goes on through it.
    pub(super) fn gap_in_segment(
        &mut self,
        tick: u64,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        if tick <= self.end || self.open.is_none() {
            return Ok(());
        }
        let Some(part) = self.part else {
            self.close_chunk()?;
            self.end = tick;
            return Ok(());
        };
        let target = self.ticks_down(part);
        let begun = !self.samples.is_empty()
            || self
                .open
                .as_ref()
                .is_some_and(|open| open.buffer.len() > STYP_BYTES);
        // the part that has begun, and the one that begins with what follows, hold the gap's ends, in chunks of their own; what
        // lies between are gaps as long as a part may be (RFC 8216bis §4.4.4.9)
        self.close_chunk()?;
        let whole = |open: &OpenSegment| open.part_start + target;
        if begun && let Some(end) = self.open.as_ref().map(whole).filter(|end| *end <= tick) {
            self.close_part(end, out)?;
        }
        while let Some(open) = self.open.as_mut().filter(|open| whole(open) <= tick) {
            let entry = PartEntry {
                number: self.parts,
                duration: Seconds::from_ticks(target, self.scale.hz()),
                independent: false,
                gap: true,
                range: open.range_of(self.part_form, open.bytes, 0),
                last: open.closing,
            };
            let change = Change::Part {
                segment: open.number,
                opening: open.opening.take(),
                entry,
                key: open.key.clone(),
                offset: open.bytes,
                data: Bytes::new(),
            };
            self.parts += 1;
            open.part_start += target;
            self.listing.publish(change, out);
        }
        self.end = tick;
        Ok(())
    }

    /// The key picture that a segment begins with has a chunk of its own, so that it can be fetched alone
    /// (`EXT-X-I-FRAMES-ONLY`, RFC 8216bis §4.4.3.6).
    fn close_frame(&mut self) -> Result<(), HlsError> {
        let first = |open: &OpenSegment| open.bytes == 0 && open.buffer.len() <= STYP_BYTES;
        if self.samples.len() != 1 || !self.open.as_ref().is_some_and(first) {
            return Ok(());
        }
        self.close_chunk()?;
        if let Some(open) = &mut self.open {
            open.frame = Some(open.buffer.len() as u64);
        }
        Ok(())
    }

    /// Turns the samples into a chunk behind what the segment's buffer holds.
    pub(super) fn close_chunk(&mut self) -> Result<(), HlsError> {
        if self.samples.is_empty() {
            return Ok(());
        }
        let told = self.tell();
        let Some(open) = &mut self.open else { return Ok(()) };
        self.sequence = self.sequence.wrapping_add(1);
        let video = self.kind == MediaKind::Video;
        let seal = self.crypt.as_mut().and_then(TrackCrypt::seal);
        let written = told
            .and_then(|()| cmaf::write_chunk(&mut open.buffer, self.sequence, video, &self.samples, seal));
        self.samples.clear();
        self.sample_bytes = 0;
        written.map_err(|source| HlsError::Boxes {
            rendition: self.listing.id().clone(),
            segment: open.number,
            source: Box::new(source),
        })
    }

    /// Writes what stands before the chunk that is being closed: once a part, where parts are made, when on the wall clock its first
    /// sample happened, for players that measure how late they are; and the timed metadata whose instants it holds.
    fn tell(&mut self) -> Result<(), mp4_atom::Error> {
        let shown = |sample: &Sample| sample.dts.checked_add_signed(i64::from(sample.offset));
        let Some(first) = self.samples.iter().filter_map(shown).min() else {
            return Ok(());
        };
        let happened = self.part.and_then(|_| self.listing.instant(self.time(first)));
        let (scale, end) = (self.scale, self.end);
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Some(at) = happened.filter(|_| open.buffer.len() <= STYP_BYTES) {
            cmaf::prft(&mut open.buffer, first, at)?;
        }
        let tick = |message: &mut Message| message.at.ticks(scale).max(0) as u64;
        for mut message in self.messages.extract_if(.., |message| tick(message) < end) {
            // not before the chunk that has it (ISO/IEC 23000-19 §7.4.5)
            let at = tick(&mut message).max(first);
            message.write(&mut open.buffer, scale.hz(), at)?;
        }
        Ok(())
    }

    /// Stores what the segment's buffer holds; gives it as a part: the file that has it, where in the file it begins, and what
    /// it is.
    pub(super) fn store(&mut self, out: &mut VecDeque<HlsOutput>) -> Option<(Arc<str>, u64, Bytes)> {
        let open = self.open.as_mut().filter(|open| !open.buffer.is_empty())?;
        let data = Bytes::from(std::mem::take(&mut open.buffer));
        let offset = open.bytes;
        let key = open.key.to_string();
        let whole = self.crypt.as_mut().filter(|crypt| crypt.is_whole());
        let stored = match whole {
            None => data.clone(),
            Some(crypt) => crypt.update(&data),
        };
        open.bytes += stored.len() as u64;
        out.push_back(match offset {
            0 => HlsOutput::Store { key, data: stored },
            _ => HlsOutput::Append { key, data: stored },
        });
        let Some(crypt) = self.crypt.as_mut().filter(|crypt| crypt.is_whole()) else {
            return Some((open.key.clone(), offset, data));
        };
        let part = crypt.part(&data);
        let file: Arc<str> = format!("{}/{}", self.listing.id(), address::part(self.parts)).into();
        if self.part.is_some() {
            out.push_back(HlsOutput::Store {
                key: file.to_string(),
                data: part.clone(),
            });
        }
        Some((file, 0, part))
    }

    /// Ends the part at `end`, where there is anything in it.
    pub(super) fn close_part(&mut self, end: u64, out: &mut VecDeque<HlsOutput>) -> Result<(), HlsError> {
        let chunks = self
            .open
            .as_ref()
            .is_some_and(|open| open.buffer.len() > STYP_BYTES);
        if self.samples.is_empty() && !chunks {
            return Ok(());
        }
        self.close_chunk()?;
        let Some((key, offset, data)) = self.store(out) else {
            return Ok(());
        };
        let Some(open) = &mut self.open else { return Ok(()) };
        let entry = PartEntry {
            number: self.parts,
            duration: Seconds::from_ticks(end.saturating_sub(open.part_start), self.scale.hz()),
            independent: open.key_in_part,
            gap: false,
            range: open.range_of(self.part_form, offset, data.len()),
            last: open.closing,
        };
        self.parts += 1;
        open.part_start = end;
        open.key_in_part = false;
        if self.part.is_some() {
            let change = Change::Part {
                segment: open.number,
                opening: open.opening.take(),
                entry,
                key,
                offset,
                data,
            };
            self.listing.publish(change, out);
        }
        Ok(())
    }

    /// `behind` tells whether the next segment is opened at once.
    pub(super) fn close_segment(
        &mut self,
        end: u64,
        behind: Behind,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        if let Some(open) = &mut self.open {
            open.closing = true;
        }
        self.gap_in_segment(end, out)?;
        self.close_part(self.end, out)?;
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        self.end = self.end.max(end);
        self.end_file(&mut open, out);
        let duration = Seconds::from_ticks(self.end - open.start, self.scale.hz());
        self.measured.note(
            duration.duration(),
            open.bytes,
            open.frame.unwrap_or(0),
            self.target,
        );
        let place = Place {
            start: open.start,
            length: self.end - open.start,
            discontinuity: open.journal.discontinuity,
        };
        self.list(
            open.number,
            open.opening,
            open.journal,
            Made {
                duration,
                bytes: open.bytes,
                frame: open.frame,
                behind,
            },
            place,
            out,
        );
        Ok(())
    }

    /// Writes what an encrypted segment's file ends with, and lets go of the files of parts that are listed no more.
    fn end_file(&mut self, open: &mut OpenSegment, out: &mut VecDeque<HlsOutput>) {
        let listed = self.end.saturating_sub(self.ticks(self.target * 5));
        let Some(crypt) = self.crypt.as_mut().filter(|crypt| crypt.is_whole()) else {
            return;
        };
        if let Some(data) = crypt.finish().filter(|_| open.bytes > 0) {
            open.bytes += data.len() as u64;
            let key = open.key.to_string();
            out.push_back(HlsOutput::Append { key, data });
        }
        if self.part.is_some() {
            for parts in crypt.expire(Some((open.first_part..self.parts, self.end)), listed) {
                remove_parts(self.listing.id(), parts, out);
            }
        }
    }

    /// No part is listed any more.
    pub(super) fn remove_all_parts(&mut self, out: &mut VecDeque<HlsOutput>) {
        let Some(crypt) = &mut self.crypt else { return };
        for parts in crypt.expire(None, u64::MAX) {
            remove_parts(self.listing.id(), parts, out);
        }
    }

    /// A segment of which nothing came (RFC 8216bis §4.4.4.7).
    pub(super) fn list_gap(
        &mut self,
        number: u64,
        end: u64,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) {
        let opening = Opening {
            map: None,
            key: None,
            ..self.opening(number, clock)
        };
        let duration = Seconds::from_ticks(end - self.end, self.scale.hz());
        self.measured.note_gap();
        let place = Place {
            start: self.end,
            length: end - self.end,
            discontinuity: opening.discontinuity,
        };
        self.end = end;
        self.next = Some(number + 1);
        self.list(
            number,
            Some(opening.clone()),
            opening,
            Made {
                duration,
                bytes: 0,
                frame: None,
                behind: Behind::Nothing,
            },
            place,
            out,
        );
    }

    fn list(
        &mut self,
        number: u64,
        opening: Option<Opening>,
        journal: Opening,
        made: Made,
        place: Place,
        out: &mut VecDeque<HlsOutput>,
    ) {
        let Made {
            duration,
            bytes,
            frame,
            behind,
        } = made;
        let seconds = duration.duration().as_secs_f64();
        let kilobits = (bytes as f64 * 8.0 / 1000.0 / seconds).round();
        let entry = SegmentEntry {
            uri: address::segment(number),
            duration,
            gap: bytes == 0,
            frame,
            bit_rate: (self.bit_rates && bytes > 0 && seconds > 0.0).then_some(kilobits as u64),
        };
        self.listing.close(journal, entry.clone(), out);
        let change = Change::Segment {
            segment: number,
            opening,
            entry,
            independent: self.listing.independent,
            followed: behind == Behind::More,
            place: Some(place),
        };
        self.listing.publish(change, out);
    }
}

/// What a segment that is listed has come to.
struct Made {
    duration: Seconds,
    /// 0 for a gap.
    bytes: u64,
    /// As in [`SegmentEntry`].
    frame: Option<u64>,
    behind: Behind,
}

fn remove_parts(id: &RenditionId, parts: Range<u64>, out: &mut VecDeque<HlsOutput>) {
    out.extend(parts.map(|part| HlsOutput::Remove {
        key: format!("{id}/{}", address::part(part)),
    }));
}

/// The size of `styp` as we write it.
const STYP_BYTES: usize = 24;
