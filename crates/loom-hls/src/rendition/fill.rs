use std::collections::VecDeque;
use std::time::Duration;

use loom_core::{AudioCodec, CodecParameters, MediaKind, MediaTime, Packet};

use crate::clock::{ROUNDING, SegmentClock};
use crate::cmaf::Sample;
use crate::config::Stills;
use crate::error::HlsError;
use crate::limits;
use crate::publish::HlsOutput;
use crate::rendition::{DRIFT, MediaTrack, Pending};
use crate::still;

/// What stands for pictures and sound that do not come.
impl MediaTrack {
    /// Where the next sample begins at `next`, in the segment `number`: fills what lies between.
    pub(super) fn fill(
        &mut self,
        next: u64,
        number: u64,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        match (self.part, self.stills, self.kind) {
            (Some(part), Stills::Repeated, MediaKind::Video) => {
                self.repeat(self.ticks_down(part), next, number, clock, out)
            }
            (Some(_), Stills::Repeated, MediaKind::Audio) => self.be_silent(next, clock, out),
            _ => Ok(()),
        }
    }

    /// [`Self::fill`] for pictures only: the last sound is drawn out instead.
    pub(super) fn fill_picture(
        &mut self,
        end: u64,
        number: u64,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        match self.kind {
            MediaKind::Video => self.fill(end, number, clock, out),
            MediaKind::Audio => Ok(()),
        }
    }

    /// Repeats the picture held back: wherever a part must end, so that none is longer than its target nor shorter than 85 % of
    /// it (RFC 8216bis §4.4.4.9), and where a segment begins in between.
    fn repeat(
        &mut self,
        target: u64,
        next: u64,
        number: u64,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        let rounding = self.ticks(ROUNDING);
        while let (Some(open), Some(pending)) = (&self.open, &self.pending) {
            let at = pending.sample.dts;
            if next > at + self.ticks(limits::STAND) {
                return Ok(());
            }
            let begun = match at.saturating_sub(open.part_start) * 100 >= target * 85 {
                true => at, // the part ends before the picture
                false => open.part_start,
            };
            let last = number - u64::from(self.fresh && number > open.number);
            let boundary = (last > open.number)
                .then(|| self.boundary(clock, open.number + 1))
                .flatten()
                .filter(|boundary| *boundary > at && boundary + rounding < next);
            let (from, crosses) = match boundary {
                Some(boundary) if boundary <= begun + target => (boundary, Some(open.number + 1)),
                _ => (begun + target, None),
            };
            if from >= next || from <= at {
                return Ok(());
            }
            let Some(data) = self.repeater.repeat() else {
                return Ok(());
            };
            let lasts = u64::from(self.scale.hz()) / 30;
            self.put(data, from, lasts, crosses, clock, out)?;
        }
        Ok(())
    }

    /// Puts silence behind the sound held back, where more than drift lies between (see [`DRIFT`]).
    fn be_silent(
        &mut self,
        next: u64,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        let Some(CodecParameters::Audio(sound)) = &self.codec else {
            return Ok(());
        };
        // a new format's silence is not for what is held back of the format before
        let Some((data, lasts)) = still::silence(sound).filter(|_| !self.fresh) else {
            return Ok(());
        };
        while let (Some(open), Some(pending)) = (&self.open, &self.pending) {
            let (at, told) = (pending.sample.dts, self.guess(pending));
            let reach = next.saturating_sub(at);
            if reach <= told + (told.min(lasts) / 2).max(self.ticks(DRIFT))
                || reach > self.ticks(limits::STAND)
            {
                return Ok(());
            }
            let from = at + told;
            let number = clock.segment_at(self.time(from + lasts / 2));
            let crosses = (number > open.number).then_some(number);
            self.put(data.clone(), from, lasts, crosses, clock, out)?;
        }
        Ok(())
    }

    /// Sound begins again at `tick`, behind a listed gap that ended a little before: there is silence in between, or where that is
    /// no more than drift, the sound begins so much earlier. Gives where it begins.
    pub(super) fn be_silent_before(
        &mut self,
        tick: u64,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<u64, HlsError> {
        let (Some(CodecParameters::Audio(sound)), Some(_), None) = (&self.codec, self.next, &self.open)
        else {
            return Ok(tick);
        };
        let wanted = self.part.is_some() && self.stills == Stills::Repeated;
        let Some((data, lasts)) = still::silence(sound).filter(|_| wanted) else {
            return Ok(tick);
        };
        let (from, lacks) = (self.end, tick.saturating_sub(self.end));
        if lacks <= self.ticks(DRIFT) {
            return Ok(tick.min(from));
        }
        let number = clock.segment_at(self.time(from + 1));
        if lacks >= lasts
            && lacks <= self.ticks(limits::STAND)
            && self.next.is_some_and(|next| next <= number)
        {
            self.cross(number, from, clock, out)?;
            self.put(data, from, lasts, None, clock, out)?;
        }
        Ok(tick)
    }

    /// Ends the sample held back at `from`, where another begins.
    fn put(
        &mut self,
        data: bytes::Bytes,
        from: u64,
        lasts: u64,
        crosses: Option<u64>,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        if let Some(mut before) = self.pending.take() {
            before.sample.duration = from.saturating_sub(before.sample.dts) as u32;
            self.push(before.sample, out)?;
        }
        let key = self.kind == MediaKind::Audio;
        if let Some(number) = crosses {
            self.listing.independent &= key;
            self.cross(number, from, clock, out)?;
        }
        self.pending = Some(Pending {
            sample: Sample {
                dts: from,
                duration: 0,
                offset: 0,
                key,
                data,
            },
            told: Some(lasts),
        });
        Ok(())
    }

    /// Nothing more comes before `until` as far as can be told: what is there stands on, or there is silence.
    pub(crate) fn stand(
        &mut self,
        until: MediaTime,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        let Some(open) = &self.open else { return Ok(()) };
        let number = self.without_key(clock.segment_at(until), until, open);
        let next = until.ticks(self.scale).max(0) as u64;
        self.fill(next, number.max(open.number), clock, out)
    }

    /// All renditions end at `end`: for what one lacks of it, because its encoder still held it, its last picture stands, or
    /// silence.
    pub(crate) fn catch_up(
        &mut self,
        end: MediaTime,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        let lacks = self.natural_end().map(|own| end.since(own));
        if self.ended || lacks.is_none_or(|lacks| lacks > HELD_BY_ENCODER) {
            return Ok(());
        }
        if self.kind == MediaKind::Audio && lacks.is_none_or(|lacks| lacks <= SOUND_TAIL) {
            return Ok(()); // the last sample is drawn out
        }
        let until = end.ticks(self.scale).max(0) as u64;
        self.fill(until, clock.segment_at(end - ROUNDING), clock, out)
    }

    /// Notes how much later than media time, which has come to `now`, a packet comes.
    pub(crate) fn note_late(&mut self, pts: MediaTime, now: Option<MediaTime>) {
        self.latest = self.latest.max(Some(pts));
        if let Some(now) = now {
            self.late = self.late.max(now.since(pts));
        }
    }

    /// How long after media time has passed an instant its packet may still come; `tick` is how often it is told. What was seen
    /// fades within seconds.
    pub(crate) fn patience(&mut self, tick: Duration) -> Duration {
        self.late -= self
            .late
            .mul_f64((tick.as_secs_f64() / FADES.as_secs_f64()).min(1.0));
        let least = match self.kind {
            MediaKind::Video => Duration::from_millis(50),
            // a sample of sound that comes too late is lost, a picture only shown later
            MediaKind::Audio => Duration::from_millis(500),
        };
        (self.late.mul_f64(1.25) + least + tick).min(LONGEST_PATIENCE)
    }

    /// The packets for a packet of sound that is too long for parts: each frame in one of its own.
    pub(crate) fn split(&self, packet: &Packet) -> Option<Vec<Packet>> {
        let part = self.part.filter(|_| self.stills == Stills::Repeated)?;
        let opus = matches!(&self.codec, Some(CodecParameters::Audio(it)) if it.codec == AudioCodec::Opus);
        let lasts = packet
            .duration
            .filter(|lasts| opus && *lasts > LONG_FRAME.min(part / 4))?;
        let frames = still::split(&packet.data)?;
        let each = lasts / u32::try_from(frames.len()).ok()?;
        let made = frames.into_iter().zip(0_u32..).map(|(data, at)| Packet {
            pts: packet.pts + each * at,
            dts: packet.dts + each * at,
            duration: Some(each),
            data,
            ..packet.clone()
        });
        Some(made.collect())
    }
}

/// The most that an encoder holds back and never gives.
const HELD_BY_ENCODER: Duration = Duration::from_secs(1);
/// Sound in frames longer than this is cut too coarsely.
const LONG_FRAME: Duration = Duration::from_millis(40);
/// For so much less than the pictures sound needs no silence at its end.
const SOUND_TAIL: Duration = Duration::from_millis(30);
/// Within what a packet's lateness is forgotten.
const FADES: Duration = Duration::from_secs(10);
/// Well below [`PackagerConfig::stall`](crate::PackagerConfig::stall).
const LONGEST_PATIENCE: Duration = Duration::from_secs(2);
