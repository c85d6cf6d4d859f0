mod fill;
mod measured;
mod segment;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use loom_core::{CodecParameters, MediaKind, MediaTime, Packet, RenditionId, Timescale};

use crate::address;
use crate::clock::{FIRST, SegmentClock};
use crate::cmaf::{self, Sample};
use crate::config::{PackagerConfig, PartForm, RenditionInfo, Stills};
use crate::crypt::{KeyLine, TrackCrypt};
use crate::dash::{Described, Format};
use crate::error::HlsError;
use crate::limits;
use crate::listing::Listing;
use crate::metadata::Message;
use crate::publish::{Change, HlsOutput};
use crate::rendition::segment::{Behind, OpenSegment};
use crate::still::{self, Repeater};

pub(crate) use crate::rendition::measured::Measured;

/// One rendition of pictures or sound: packets become samples, samples chunks, chunks parts and segments.
///
/// A sample's length is known when the next one comes, so one sample is always held back.
#[derive(Debug)]
pub(crate) struct MediaTrack {
    pub(crate) listing: Listing,
    kind: MediaKind,
    info: RenditionInfo,
    /// Whether a DASH manifest names it.
    pub(crate) in_manifest: bool,
    part: Option<Duration>,
    part_form: PartForm,
    target: Duration,
    /// Whether each segment says how many bits a second it has.
    bit_rates: bool,
    codec: Option<CodecParameters>,
    scale: Timescale,
    init: Arc<str>,
    inits: u32,
    /// What encrypts it.
    pub(crate) crypt: Option<TrackCrypt>,
    /// What the next segment's playlist entry says of its key.
    key_line: Option<Arc<KeyLine>>,
    /// The next sample must open a segment, because the format is new.
    fresh: bool,
    /// The new format differs so much from the one before that a discontinuity is called for (RFC 8216bis §4.4.4.3: other
    /// encoding parameters).
    differs: bool,
    /// How much later the first picture is shown than decoded, ticks. Segments are cut and listed by decode times that much
    /// later, so that a segment begins when its first picture is shown, whatever a rendition's order of pictures.
    shift: Option<i64>,
    /// Samples given to chunks.
    count: u64,
    /// Sound that waits for a boundary to be settled.
    pub(crate) held: VecDeque<Packet>,
    held_bytes: usize,
    pending: Option<Pending>,
    open: Option<OpenSegment>,
    /// The segment to open next, once one has been opened.
    next: Option<u64>,
    /// How many parts there have been.
    parts: u64,
    /// Where the listed timeline ends, ticks.
    end: u64,
    samples: Vec<Sample>,
    sample_bytes: usize,
    /// How long the last sample was, ticks.
    length: Option<u64>,
    sequence: u32,
    /// Timed metadata for what comes.
    pub(crate) messages: Vec<Message>,
    /// No more packets come.
    pub(crate) ended: bool,
    /// Its pictures have no say in where segments begin.
    pub(crate) follows: bool,
    /// It was declared when others ran: its playlist begins with theirs, by gaps.
    pub(crate) began_late: bool,
    stills: Stills,
    repeater: Repeater,
    /// Up to where the last repeats stand, ticks: what lies before it and comes later was overtaken.
    overtaken: i64,
    /// That of the new format, until its first picture comes.
    coming: Option<Repeater>,
    /// A frame of silence and how many ticks it lasts, where one can be made of the format of what is being written.
    silence: Option<(Bytes, u64)>,
    /// That of the new format, until its first sound comes.
    coming_silence: Option<Option<(Bytes, u64)>>,
    /// The latest picture that was left out, until what stands for it is made.
    pub(crate) still: Option<MediaTime>,
    /// The latest packet.
    pub(crate) latest: Option<MediaTime>,
    /// How late packets come.
    late: Duration,
    pub(crate) measured: Measured,
}

/// A sample whose length is not known yet.
#[derive(Debug)]
struct Pending {
    sample: Sample,
    /// What the packet said of its length, ticks.
    told: Option<u64>,
}

impl MediaTrack {
    pub(crate) fn new(
        listing: Listing,
        kind: MediaKind,
        info: RenditionInfo,
        config: &PackagerConfig,
    ) -> Self {
        Self {
            listing,
            kind,
            info,
            in_manifest: true,
            part: config.low_latency.then_some(config.part),
            part_form: config.part_form(),
            target: config.target_duration,
            bit_rates: config.bit_rates,
            codec: None,
            scale: Timescale::VIDEO,
            init: Arc::from(""),
            inits: 0,
            crypt: None,
            key_line: None,
            fresh: false,
            differs: false,
            shift: None,
            count: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            pending: None,
            open: None,
            next: None,
            parts: 0,
            end: 0,
            samples: Vec::new(),
            sample_bytes: 0,
            length: None,
            sequence: 0,
            messages: Vec::new(),
            ended: false,
            follows: false,
            began_late: false,
            stills: config.stills,
            repeater: Repeater::none(),
            overtaken: 0,
            coming: None,
            silence: None,
            coming_silence: None,
            still: None,
            latest: None,
            late: Duration::ZERO,
            measured: Measured::default(),
        }
    }

    pub(crate) fn id(&self) -> &RenditionId {
        self.listing.id()
    }

    pub(crate) fn kind(&self) -> MediaKind {
        self.kind
    }

    pub(crate) fn codec(&self) -> Option<&CodecParameters> {
        self.codec.as_ref()
    }

    /// The segment that is being made, or comes next.
    pub(crate) fn segment(&self) -> u64 {
        self.open
            .as_ref()
            .map(|o| o.number)
            .or(self.next)
            .unwrap_or(FIRST)
    }

    /// Whether any sample has come.
    pub(crate) fn started(&self) -> bool {
        self.open.is_some() || self.next.is_some()
    }

    /// Whether any sample is held back.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether the next packet must open a segment though one is open, and if so, whether with a discontinuity.
    pub(crate) fn wants_boundary(&self) -> Option<bool> {
        (self.fresh && self.open.is_some()).then_some(self.differs)
    }

    /// Where its media ends as far as is known, the held packets aside.
    pub(crate) fn natural_end(&self) -> Option<MediaTime> {
        let end = match &self.pending {
            Some(pending) => pending.sample.dts + self.guess(pending),
            None if self.started() => self.end,
            None => return None,
        };
        Some(self.time(end))
    }

    /// Takes a format; the same one again changes nothing.
    pub(crate) fn handle_format(
        &mut self,
        codec: CodecParameters,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        if codec.kind() != self.kind {
            return Err(HlsError::Format {
                rendition: self.id().clone(),
                why: format!(
                    "was declared as {:?} and is given a format of {:?}",
                    self.kind,
                    codec.kind()
                ),
                clause: "RFC 8216bis §4.4.6.1",
            });
        }
        if self.codec.as_ref() == Some(&codec) {
            return Ok(());
        }
        let repeats = self.stills == Stills::Repeated && self.part.is_some() && self.kind == MediaKind::Video;
        let (repeater, announced) = match repeats {
            true => Repeater::new(codec.clone()),
            false => (Repeater::none(), codec.clone()),
        };
        let data = cmaf::write_init(self.id(), &announced, self.info.bandwidth)?;
        let differs = self
            .codec
            .as_ref()
            .is_some_and(|before| shape(before) != shape(&codec));
        let scale = codec.timescale();
        if self.started() && scale != self.scale {
            return Err(HlsError::Format {
                rendition: self.id().clone(),
                why: format!(
                    "the timescale changes from {} to {} in mid-recording",
                    self.scale.hz(),
                    scale.hz()
                ),
                clause: "RFC 8216bis §6.2.1",
            });
        }
        let data = match &mut self.crypt {
            None => data,
            Some(crypt) => {
                crypt
                    .handle_format(&announced, data)
                    .map_err(|(why, clause)| HlsError::Format {
                        rendition: self.listing.id().clone(),
                        why,
                        clause,
                    })?
            }
        };
        self.scale = scale;
        self.differs |= differs;
        if let CodecParameters::Audio(sound) = &codec {
            self.coming_silence = Some(still::silence(sound));
        }
        self.codec = Some(codec);
        self.publish_init(data, out);
        self.coming = Some(repeater);
        Ok(())
    }

    /// Stores an init segment, and names it before the next segment.
    fn publish_init(&mut self, data: Bytes, out: &mut VecDeque<HlsOutput>) {
        let codec = self.codec.clone().filter(|_| self.in_manifest);
        let described = codec.map(|codec| {
            Arc::new(Described {
                info: self.info.clone(),
                format: Format::Media(codec),
                key: self.crypt.as_ref().and_then(TrackCrypt::of_init),
            })
        });
        let file = address::init(self.inits);
        out.push_back(HlsOutput::Store {
            key: format!("{}/{file}", self.id()),
            data: data.clone(),
        });
        self.listing.publish(
            Change::Init {
                number: self.inits,
                data,
                described,
            },
            out,
        );
        self.init = file.into();
        self.inits += 1;
        self.fresh = true;
    }

    /// Where the held packets end.
    pub(crate) fn held_to(&self) -> Option<MediaTime> {
        let last = self.held.back()?;
        Some(last.pts + last.duration.unwrap_or_default())
    }

    /// Keeps sound, or a picture aside, back until [`Self::release`]. False where no more fits.
    pub(crate) fn hold(&mut self, packet: Packet) -> bool {
        self.held_bytes += packet.data.len();
        self.held.push_back(packet);
        self.held_bytes <= limits::HELD_BYTES
    }

    /// The next held packet, if it lies before `settled`, whatever it lies in where `settled` is `None`.
    pub(crate) fn release(&mut self, settled: Option<MediaTime>) -> Option<(Packet, MediaTime)> {
        let front = self.held.front()?;
        let middle = front.pts + front.duration.unwrap_or_default() / 2;
        if settled.is_some_and(|settled| middle >= settled) {
            return None;
        }
        let packet = self.held.pop_front()?;
        self.held_bytes -= packet.data.len();
        Some((packet, middle))
    }

    /// Places a picture; `number` is the segment that the clock puts it in.
    pub(crate) fn place_picture(
        &mut self,
        mut packet: Packet,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        let mut number = match self.follows {
            true => clock.segment_of_aside(packet.pts, packet.key),
            false => clock.segment_of_picture(packet.pts),
        };
        if self.open.is_none() || self.fresh {
            // a rendition begins, begins again after a gap, or changes its format: with a key frame (RFC 8216bis §4.4.2.1)
            let opens = self.open.as_ref().is_none_or(|open| number > open.number);
            if !packet.key || !opens || self.next.is_some_and(|next| number < next) {
                return Ok(());
            }
        } else if let Some(open) = &self.open
            && number > open.number
            && !packet.key
        {
            number = self.without_key(number, packet.pts, open, clock);
        }
        if self.began_late && !self.started() {
            // the first is shown from where its segment begins, so that the segment is whole
            let early = clock
                .start(number)
                .map_or(Duration::ZERO, |start| packet.pts.since(start.at));
            (packet.pts, packet.dts) = (packet.pts - early, packet.dts - early);
        }
        if let Some(first) = clock.start(FIRST) {
            // all renditions begin together: what comes behind sound that began later is shown from there
            let before = first.at.since(packet.pts);
            (packet.pts, packet.dts) = (packet.pts + before, packet.dts + before);
        }
        let dts = packet.dts.ticks(self.scale);
        let pts = packet.pts.ticks(self.scale);
        let shift = *self.shift.get_or_insert(pts - dts);
        self.place(packet, pts, dts + shift, number, clock, out)
    }

    /// The segment for a picture at `at` that is no key frame, though `number` begins there or before. All renditions of the main
    /// picture are cut at the same instants; another picture waits a little for its own key frame, as long as the target duration
    /// allows and it does not stand still.
    fn without_key(&self, number: u64, at: MediaTime, open: &OpenSegment, clock: &SegmentClock) -> u64 {
        let due = clock.start(open.number + 1).map(|start| start.at);
        let is_new = |since: Option<MediaTime>| since.is_some_and(|since| at.since(since) < KEY_WAIT);
        let waits = self.follows
            && is_new(due)
            && is_new(self.latest)
            && at.since(self.time(open.start)) < self.target;
        if waits { open.number } else { number }
    }

    /// Places sound into the segment `number`.
    pub(crate) fn place_sound(
        &mut self,
        packet: Packet,
        number: u64,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        if self.fresh && self.open.as_ref().is_some_and(|open| number <= open.number) {
            return Ok(());
        }
        let pts = packet.pts.ticks(self.scale);
        let begins = clock.start(FIRST).map(|first| first.at);
        let half = packet.duration.unwrap_or_default() / 2;
        if !self.started() && begins.is_some_and(|begins| packet.pts + half < begins) {
            return Ok(()); // all renditions begin together
        }
        self.place(packet, pts, pts, number, clock, out)
    }

    fn place(
        &mut self,
        packet: Packet,
        pts: i64,
        dts: i64,
        number: u64,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        let number = number.max(self.segment());
        let dts = match u64::try_from(dts) {
            Ok(tick) if self.kind == MediaKind::Audio => {
                self.be_silent_before(tick, packet.duration, number, clock, out)? as i64
            }
            _ => dts,
        };
        let pts = if self.kind == MediaKind::Audio { dts } else { pts };
        // decode times only ever climb (ISO/IEC 14496-12 §8.6.1.2): one that does not is put a tick behind the last
        let floor = match &self.pending {
            Some(pending) => pending.sample.dts as i64 + 1,
            None => self.end as i64,
        };
        if self.repeater.is_repeated() {
            self.overtaken = floor;
        }
        // pictures that repeats have overtaken are shown at once, in their order
        let late = dts < self.overtaken;
        let drop = |why: String, clause| HlsError::Packet {
            rendition: self.id().clone(),
            segment: number,
            why,
            clause,
        };
        let slack = i64::from(self.scale.hz()) * if late { LATE_PICTURE } else { 1 };
        if dts < floor - slack || self.kind == MediaKind::Audio && self.pending.is_some() && dts < floor {
            let at = MediaTime::from_ticks(dts, self.scale);
            return Err(drop(
                format!("at {at} it lies before what is already listed"),
                "RFC 8216bis §6.2.1",
            ));
        }
        let pts = if late { pts + (floor - dts).max(0) } else { pts };
        let dts = dts.max(floor);
        let (Ok(tick), Ok(offset)) = (u64::try_from(dts), i32::try_from(pts - dts)) else {
            return Err(drop(
                format!("its times of {pts} and {dts} ticks are out of range"),
                "ISO/IEC 14496-12 §8.8.12",
            ));
        };
        let told = packet.duration.map(|d| {
            MediaTime::from_nanos(d.as_nanos().min(i64::MAX as u128) as i64).ticks(self.scale) as u64
        });
        let mut next = Pending {
            sample: Sample {
                dts: tick,
                duration: 0,
                offset,
                key: packet.key || self.kind == MediaKind::Audio,
                data: packet.data,
            },
            told,
        };
        self.settle(tick, number, clock, out)?;
        if self.kind == MediaKind::Video {
            if let Some(coming) = self.coming.take() {
                self.repeater = coming;
            }
            next.sample.data = self.repeater.take(next.sample.data);
            next.sample.dts = self.shown_from(tick, number, clock);
        } else if let Some(coming) = self.coming_silence.take() {
            self.silence = coming;
        }
        let tick = next.sample.dts;
        if self.open.as_ref().is_none_or(|open| number > open.number) {
            self.listing.independent &= next.sample.key;
            self.cross(number, tick, clock, out)?;
        } else if tick > self.end {
            self.gap_in_segment(tick, out)?;
        }
        self.pending = Some(next);
        Ok(())
    }

    /// Gives the held-back sample its length, now that the next one's decode time is known.
    fn settle(
        &mut self,
        next: u64,
        number: u64,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        self.fill(next, number, clock, out)?;
        let Some(mut before) = self.pending.take() else {
            return Ok(());
        };
        let reach = next - before.sample.dts;
        let length = match self.kind {
            MediaKind::Video => {
                let open = self.open.as_ref();
                let start = open.map_or(0, |open| open.start);
                let most = self.ticks(self.target) + u64::from(self.scale.hz()) * 499 / 1000;
                // a picture is shown until the next; where that would draw its segment out beyond what may be listed, until
                // the segment's end (RFC 8216bis §4.4.3.1)
                match open.filter(|open| number > open.number + 1 || next > start + most) {
                    Some(open) => {
                        let end = self
                            .boundary(clock, open.number + 1)
                            .filter(|_| number > open.number);
                        let end = end.unwrap_or(next).max(before.sample.dts + self.guess(&before));
                        reach.min(end - before.sample.dts)
                    }
                    None => reach,
                }
            }
            // small steps are drift being corrected, larger ones a loss: then the sample keeps its own length, and what
            // follows begins where it truly does
            MediaKind::Audio => match before.told {
                Some(told) if reach > told + self.leeway(told) => told,
                _ => reach,
            },
        };
        before.sample.duration = length.clamp(1, u64::from(u32::MAX)) as u32;
        let goes_on = self.open.as_ref().is_some_and(|open| number == open.number);
        let behind = if goes_on { Behind::More } else { Behind::Nothing };
        self.push(before.sample, behind, out)
    }

    /// Goes on without what has not come: closes the open segment, or lists a gap, where its end lies at or before `until`. The
    /// last sound is drawn out by `tail` at most.
    /// False where there is nothing to do.
    pub(crate) fn give_up(
        &mut self,
        until: MediaTime,
        tail: Duration,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<bool, HlsError> {
        let Some(after) = self.next else { return Ok(false) };
        let number = if self.open.is_some() { after } else { after + 1 };
        let Some(end) = clock.start(number).filter(|s| s.at <= until) else {
            return Ok(false);
        };
        let end = end.at.ticks(self.scale).max(0) as u64;
        if let Some(open) = &self.open {
            self.fill(end, open.number, clock, out)?;
            // a part may not be drawn out beyond its target (RFC 8216bis §4.4.4.9): what is left of the segment is a gap
            let most = self.part.map(|part| self.ticks_down(part));
            let own = self
                .pending
                .as_ref()
                .map(|p| p.sample.dts + most.unwrap_or(u64::MAX / 2).max(self.guess(p)));
            self.settle_at(end.min(own.unwrap_or(end)), tail, out)?;
            self.close_segment(end.max(self.end), Behind::Nothing, out)?;
        } else {
            self.list_gap(after, end.max(self.end), clock, out);
        }
        Ok(true)
    }

    /// [`Self::give_up`] until there is nothing to do, or it fails.
    pub(crate) fn give_up_all(
        &mut self,
        until: MediaTime,
        tail: Duration,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        while self.give_up(until, tail, clock, out)? {}
        Ok(())
    }

    /// Ends the rendition at `end`, the end of the whole recording.
    pub(crate) fn finish(
        &mut self,
        end: MediaTime,
        clock: &SegmentClock,
        out: &mut VecDeque<HlsOutput>,
    ) -> Result<(), HlsError> {
        if self.started() {
            self.catch_up(end, clock, out)?;
            while self.segment() < clock.newest()
                && self.give_up(MediaTime::from_nanos(i64::MAX), Duration::ZERO, clock, out)?
            {}
            let end = end.ticks(self.scale).max(0) as u64;
            if let Some(open) = &self.open {
                self.fill(end, open.number, clock, out)?;
                self.settle_at(end, limits::AUDIO_TAIL, out)?;
                self.close_segment(end.max(self.end), Behind::Nothing, out)?;
            } else if let Some(last) = self.next.filter(|next| *next <= clock.newest() && end > self.end) {
                self.list_gap(last, end, clock, out);
            }
        }
        self.remove_all_parts(out);
        self.listing.finish(out);
        Ok(())
    }

    /// Gives the held-back sample its length where no other follows: pictures are shown until `end`, sound is drawn out by
    /// `tail` at most, or by what is too short for silence (see [`Self::leeway`]).
    fn settle_at(&mut self, end: u64, tail: Duration, out: &mut VecDeque<HlsOutput>) -> Result<(), HlsError> {
        let Some(mut last) = self.pending.take() else {
            return Ok(());
        };
        let own = self.guess(&last);
        let reach = end.saturating_sub(last.sample.dts);
        let length = match self.kind {
            MediaKind::Video if reach > 0 => reach,
            // it began where others had ended: whatever it claims, it is shown, and no longer
            MediaKind::Video => own.min(u64::from(self.scale.hz()) / 30),
            MediaKind::Audio if reach <= own + self.ticks(tail).max(self.leeway(own)) => reach.max(own),
            _ => own,
        };
        last.sample.duration = length.clamp(1, u64::from(u32::MAX)) as u32;
        self.push(last.sample, Behind::Nothing, out)
    }

    /// How long a sample lasts of which only itself is known: as told, or like the one before it, or a thirtieth of a second; a picture no longer
    /// than its segment may be.
    fn guess(&self, pending: &Pending) -> u64 {
        let usual = u64::from(self.scale.hz()) / 30;
        let lasts = pending.told.or(self.length).unwrap_or(usual);
        let start = self.open.as_ref().map_or(pending.sample.dts, |open| open.start);
        let fits = (start + self.ticks(self.target)).saturating_sub(pending.sample.dts);
        let most = match self.kind {
            MediaKind::Video => fits.max(usual),
            MediaKind::Audio => u64::MAX,
        };
        lasts.min(most).max(1)
    }

    /// By how much sound of that length is drawn out up to what follows, ticks: steps up to this are a clock being followed, not a
    /// loss, and silence in between would be less than half a frame.
    fn leeway(&self, told: u64) -> u64 {
        let silence = self.silence.as_ref().map_or(told, |(_, lasts)| *lasts);
        (told.min(silence) / 2).max(self.ticks(DRIFT))
    }

    fn boundary(&self, clock: &SegmentClock, number: u64) -> Option<u64> {
        clock.start(number).map(|s| s.at.ticks(self.scale).max(0) as u64)
    }

    fn time(&self, ticks: u64) -> MediaTime {
        MediaTime::from_ticks(ticks as i64, self.scale)
    }

    fn ticks(&self, span: Duration) -> u64 {
        (span.as_nanos() * u128::from(self.scale.hz())).div_ceil(1_000_000_000) as u64
    }

    fn ticks_down(&self, span: Duration) -> u64 {
        (span.as_nanos() * u128::from(self.scale.hz()) / 1_000_000_000) as u64
    }
}

/// What of a format a viewer's decoder is set up by.
fn shape(codec: &CodecParameters) -> (String, u32, u32) {
    match codec {
        CodecParameters::Video(it) => (it.rfc6381(), it.width, it.height),
        CodecParameters::Audio(it) => (it.rfc6381(), it.sample_rate, u32::from(it.channels)),
    }
}

/// How late a picture may come that repeats have overtaken, seconds.
const LATE_PICTURE: i64 = 10;

/// So long past a boundary a picture beside the main one waits for a key frame of its own.
const KEY_WAIT: Duration = Duration::from_secs(1);

/// Steps of sound up to this are a clock being followed, not a loss.
const DRIFT: Duration = Duration::from_millis(10);
