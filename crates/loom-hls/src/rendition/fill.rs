use std::collections::VecDeque;
use std::time::Duration;

use loom_core::{AudioCodec, CodecParameters, MediaKind, MediaTime, Packet};

use crate::clock::{ROUNDING, SegmentClock};
use crate::cmaf::Sample;
use crate::config::Stills;
use crate::error::HlsError;
use crate::limits;
use crate::publish::HlsOutput;
use crate::rendition::segment::Behind;
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
            (_, _, MediaKind::Audio) if self.is_silenced() => self.be_silent(next, number, clock, out),
            _ => Ok(()),
        }
    }

    /// Whether silence stands for sound that is missing, so that nothing of a segment is. Where there are parts and pictures are kept as
    /// they come, parts are listed as gaps instead.
    fn is_silenced(&self) -> bool {
        self.part.is_none() || self.stills == Stills::Repeated
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
                .filter(|boundary| boundary + rounding < next);
            let part_end = begun + target;
            let (from, crosses) = match boundary {
                // a key frame was waited for past it, and none came; the target duration is kept
                Some(boundary) if boundary <= at => {
                    let latest = open.start + self.ticks(self.target);
                    let from = if latest > at {
                        part_end.min(latest)
                    } else {
                        part_end
                    };
                    (from, Some(open.number + 1))
                }
                Some(boundary) if boundary <= part_end => (boundary, Some(open.number + 1)),
                _ => (part_end, None),
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

    /// Puts silence behind the sound held back, up to what follows in the segment `last`, where more than drift lies between.
    fn be_silent(
        &mut self,
        next: u64,
        last: u64,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        while let (Some((data, lasts)), Some(open), Some(pending)) =
            (&self.silence, &self.open, &self.pending)
        {
            let (data, lasts) = (data.clone(), *lasts);
            let (at, told) = (pending.sample.dts, self.guess(pending));
            let reach = next.saturating_sub(at);
            if reach <= told + self.leeway(told) || reach > self.ticks(limits::STAND) {
                return Ok(());
            }
            let from = at + told;
            let number = clock.segment_at(self.time(from + lasts / 2));
            let crosses = (number > open.number).then_some(number);
            if crosses.is_some() && self.fresh {
                // the segment of what follows has the new format, and may begin with its silence; those before it are gaps
                if number < last {
                    return Ok(());
                }
                let Some(Some((data, lasts))) = self.coming_silence.clone() else {
                    return Ok(());
                };
                self.coming_silence = None;
                self.silence = Some((data.clone(), lasts));
                self.put(data, from, lasts, crosses, clock, out)?;
                continue;
            }
            self.put(data, from, lasts, crosses, clock, out)?;
        }
        Ok(())
    }

    /// Sound begins at `tick`, in a segment that began a little before, or again, behind a listed gap that ended a little before: there is
    /// silence in between, or where that is no more than drift, the sound begins so much earlier. Gives where it begins.
    pub(super) fn be_silent_before(
        &mut self,
        tick: u64,
        told: Option<Duration>,
        number: u64,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<u64, HlsError> {
        // at the beginning, parts of long frames would fall short behind a silence that is no multiple of them
        let first = self.next.is_none();
        let coarse = first && self.part.is_some() && told.is_some_and(|told| told > LONG_FRAME);
        if self.open.is_some() || !self.is_silenced() || coarse {
            return Ok(tick);
        }
        if let Some(coming) = self.coming_silence.take() {
            self.silence = coming;
        }
        let Some((data, lasts)) = self.silence.clone() else {
            return Ok(tick);
        };
        let from = match first {
            true => self.boundary(clock, number).unwrap_or(tick),
            false => self.end,
        };
        let lacks = tick.saturating_sub(from);
        if lacks <= self.ticks(DRIFT) {
            return Ok(if first { from } else { tick.min(from) });
        }
        let number = clock.segment_at(self.time(from + 1));
        if lacks <= self.ticks(limits::STAND) && self.next.is_none_or(|next| next <= number) {
            self.cross(number, from, clock, out)?;
            self.put(data, from, lasts.min(lacks), None, clock, out)?;
        }
        Ok(tick)
    }

    /// A picture at `tick` is the first of the segment `number`: where neither a picture nor a repeat stands up to it, as at the beginning
    /// or behind a listed gap, it is shown from where the segment begins, which has no hole then. Gives that instant.
    pub(super) fn shown_from(&self, tick: u64, number: u64, clock: &SegmentClock) -> u64 {
        let first = self.open.as_ref().is_none_or(|open| number > open.number);
        if !first {
            return tick;
        }
        let from = self.boundary(clock, number).unwrap_or(tick).max(self.end);
        let most = match self.repeater.repeats() {
            true => limits::STAND,
            // its part holds the picture itself too; without parts it may stand for its whole segment
            false => self.part.map_or(limits::STAND, |part| part / 2),
        };
        if from < tick && tick - from <= self.ticks_down(most) {
            from
        } else {
            tick
        }
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
            let behind = if crosses.is_none() {
                Behind::More
            } else {
                Behind::Nothing
            };
            self.push(before.sample, behind, out)?;
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
        let number = self.without_key(clock.segment_at(until), until, open, clock);
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
            MediaKind::Audio => SOUND_PATIENCE,
        };
        (self.late.mul_f64(1.25) + least + tick).min(LONGEST_PATIENCE)
    }

    /// Up to where silence may stand for sound that stopped a short while ago, all that its publisher sends having come as far as `heard`:
    /// where nothing comes beside it either, it is the publisher that is late, or its road. `None`: wherever patience ends.
    pub(crate) fn silent_until(&self, now: MediaTime, heard: Option<MediaTime>) -> Option<MediaTime> {
        let (own, heard) = self.latest.zip(heard)?;
        let waits = self.kind == MediaKind::Audio && now.since(own) < LONGEST_PATIENCE;
        waits.then(|| heard - SOUND_PATIENCE)
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
/// How long sound is waited for at least.
const SOUND_PATIENCE: Duration = Duration::from_millis(500);
/// Well below [`PackagerConfig::stall`](crate::PackagerConfig::stall).
const LONGEST_PATIENCE: Duration = Duration::from_secs(2);
