mod announce;
mod manifest;
mod metadata;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use loom_core::{CodecParameters, Cue, MediaKind, MediaTime, Packet, RenditionId};

use crate::captions::CaptionTrack;
use crate::chapters::Chapter;
use crate::clock::{ASIDE_WAIT, FIRST, Lead, ROUNDING, SegmentClock};
use crate::config::{PackagerConfig, RenditionInfo, RenditionKind, TextForm};
use crate::crypt::{ContentKey, TrackCrypt};
use crate::dash;
use crate::daterange::DateRange;
use crate::declared::{Declared, Place, Ready, Track};
use crate::error::HlsError;
use crate::lag::Lag;
use crate::limits;
use crate::listing::Listing;
use crate::pauses::Pauses;
use crate::publish::{Change, HlsOutput, Publish};
use crate::rendition::MediaTrack;
use crate::text::TextCue;
use crate::view;

/// Turns a recording's packets and cues into CMAF segments and their playlists.
///
/// A machine without IO: declare every rendition, hand over formats, packets and cues as they come, and take
/// [`HlsOutput`]s from [`Self::poll_output`] after each. An error of a `handle_` method concerns that input only: it was dropped,
/// and the recording goes on.
///
/// Five seconds of Opus, into a folder that a map stands for:
///
/// ```
/// use std::collections::HashMap;
/// use std::time::Duration;
/// use bytes::Bytes;
/// use loom_core::{CodecParameters, MediaTime, Packet, RenditionId, TrackId, codec::opus};
/// use loom_hls::{HlsOutput, Packager, PackagerConfig, RenditionInfo, RenditionKind};
///
/// let sound = RenditionId::new("opus").expect("a name");
/// let mut packager = Packager::new(PackagerConfig::default())?;
/// packager.declare(RenditionInfo {
///     id: sound.clone(),
///     kind: RenditionKind::Audio { name: "Sound".into(), language: None, channels: 2 },
///     bandwidth: 64_000,
/// })?;
/// packager.handle_format(&sound, CodecParameters::Audio(opus::rtp_parameters()))?;
/// for number in 0..250 {
///     let at = MediaTime::from_millis(number * 20);
///     packager.handle_packet(&sound, Packet {
///         track: TrackId(0),
///         pts: at,
///         dts: at,
///         duration: Some(Duration::from_millis(20)),
///         key: true,
///         data: Bytes::from_static(&[0xfc, 0xff, 0xfe]),
///     })?;
/// }
/// packager.finish()?;
///
/// let mut folder = HashMap::<String, Vec<u8>>::new();
/// while let Some(output) = packager.poll_output() {
///     match output {
///         HlsOutput::Store { key, data } => drop(folder.insert(key, data.to_vec())),
///         HlsOutput::Append { key, data } => folder.entry(key).or_default().extend(data),
///         HlsOutput::Publish(_) => {} // for an Origin, where there are viewers
///         _ => {}
///     }
/// }
/// let playlist = String::from_utf8_lossy(&folder["opus/index.m3u8"]);
/// assert!(playlist.starts_with("#EXTM3U") && playlist.ends_with("#EXT-X-ENDLIST\n"));
/// assert!(folder["main.m3u8"].starts_with(b"#EXTM3U"));
/// # Ok::<(), loom_hls::HlsError>(())
/// ```
#[derive(Debug)]
pub struct Packager {
    config: PackagerConfig,
    clock: SegmentClock,
    tracks: Vec<Declared>,
    /// What is complete, and named beside these.
    ready: Vec<Ready>,
    /// The end of the latest media of any rendition.
    head: MediaTime,
    /// How far media time has come, where that is told, and how often it is told.
    now: Option<MediaTime>,
    tick: Duration,
    /// How late the publisher is that was there from the start, and those who joined.
    lags: [Lag; 2],
    /// Where the media ended, while the publisher is away.
    away: Option<MediaTime>,
    /// Where the media began again when the publisher last came back: what lies before comes too late.
    back: MediaTime,
    pauses: Pauses,
    /// Keys that have come, by period.
    keys: BTreeMap<u32, Arc<ContentKey>>,
    /// What a DASH manifest says of the whole, where there is one.
    frame: Option<dash::Frame>,
    /// What has been published, for it.
    book: dash::Book,
    /// Renditions that were declared to be encrypted.
    encrypted: u16,
    /// The next key to ask for.
    next_key: u32,
    announced: bool,
    /// The multivariant playlist names the chapters' file.
    chapters: bool,
    finished: bool,
    /// The date ranges, and where each begins.
    ranges: Vec<(String, SystemTime)>,
    /// Timed metadata taken.
    messages: u32,
    out: VecDeque<HlsOutput>,
}

impl Packager {
    /// A packager without renditions.
    ///
    /// # Errors
    /// [`HlsError::Config`] where a value is out of range.
    pub fn new(config: PackagerConfig) -> Result<Self, HlsError> {
        config.check()?;
        let first = config.encryption.map(|_| HlsOutput::NeedKey { period: 0 });
        let frame = dash::Frame::new(&config);
        let mut out: VecDeque<HlsOutput> = first.into_iter().collect();
        if let Some(frame) = frame.clone() {
            out.push_back(HlsOutput::Publish(Publish {
                rendition: None,
                change: Change::Manifest { frame },
            }));
        }
        Ok(Self {
            clock: SegmentClock::new(&config),
            config,
            tracks: Vec::new(),
            ready: Vec::new(),
            head: MediaTime::ZERO,
            now: None,
            tick: Duration::ZERO,
            lags: Default::default(),
            away: None,
            back: MediaTime::ZERO,
            pauses: Pauses::default(),
            keys: BTreeMap::new(),
            frame,
            book: dash::Book::default(),
            encrypted: 0,
            next_key: 1,
            announced: false,
            chapters: false,
            finished: false,
            ranges: Vec::new(),
            messages: 0,
            out,
        })
    }

    /// The renditions declared and not dropped, in order.
    pub fn renditions(&self) -> impl Iterator<Item = &RenditionInfo> {
        self.tracks.iter().map(|t| &t.info)
    }

    /// Where the latest media of any rendition ends.
    pub fn head(&self) -> MediaTime {
        self.head
    }

    /// Takes a key that [`HlsOutput::NeedKey`] asked for. One for a period that has a key already is ignored.
    ///
    /// # Errors
    /// [`HlsError::Config`] where nothing is to be encrypted, or what it says cannot stand in a playlist.
    pub fn handle_key(&mut self, key: ContentKey) -> Result<(), HlsError> {
        self.check_running()?;
        key.check()?;
        if self.config.encryption.is_none() || self.keys.len() >= limits::KEYS {
            return Err(HlsError::Config {
                what: format!("key {} is not wanted", key.period),
                clause: "RFC 8216bis §4.4.4.4",
            });
        }
        let key = Arc::new(key);
        self.keys.entry(key.period).or_insert_with(|| key.clone());
        for declared in &mut self.tracks {
            if let Track::Media(track) = &mut declared.track
                && let Some(crypt) = &mut track.crypt
            {
                crypt.handle_key(key.clone());
            }
        }
        Ok(())
    }

    /// Asks for the key after the one that the newest segment has.
    fn ask_for_keys(&mut self) {
        let Some(every) = self.config.encryption.and_then(|it| it.rotation) else {
            return;
        };
        let begun = self.clock.newest().saturating_sub(FIRST) / u64::from(every.get());
        while u64::from(self.next_key) <= begun + 1 {
            self.out.push_back(HlsOutput::NeedKey {
                period: self.next_key,
            });
            self.next_key += 1;
        }
    }

    /// Takes a format: before a rendition's first packet, and again when it changes; the next packet taken is a key frame.
    ///
    /// # Errors
    /// [`HlsError::Format`] where the codec cannot be carried: the rendition should then be dropped.
    pub fn handle_format(&mut self, rendition: &RenditionId, codec: CodecParameters) -> Result<(), HlsError> {
        self.check_running()?;
        let at = self.position(rendition)?;
        let place = self.tracks[at].place;
        let Track::Media(track) = &mut self.tracks[at].track else {
            return Err(text_has_no_packets(rendition));
        };
        let first = track.codec().is_none();
        if track.codec() != Some(&codec) {
            self.release_held(at, true)?; // what was held back has the format before
        }
        if let Track::Media(track) = &mut self.tracks[at].track {
            track.handle_format(codec, &mut self.out)?;
        }
        match place {
            Place::Aside if first && self.announced => self.store_listing(Some(rendition.clone())),
            Place::Late if first && self.announced => self.store_multivariant(),
            _ => {}
        }
        self.announce();
        Ok(())
    }

    /// Takes a packet.
    ///
    /// # Errors
    /// Where it cannot be placed; it was dropped.
    pub fn handle_packet(&mut self, rendition: &RenditionId, mut packet: Packet) -> Result<(), HlsError> {
        self.check_running()?;
        // what a file claims to last is no more than a picture may stand
        packet.duration = packet.duration.map(|lasts| lasts.min(limits::STAND));
        let at = self.position(rendition)?;
        let Track::Media(track) = &mut self.tracks[at].track else {
            return Err(text_has_no_packets(rendition));
        };
        let refuse = |why: String, clause| HlsError::Packet {
            rendition: rendition.clone(),
            segment: track.segment(),
            why,
            clause,
        };
        if track.codec().is_none() {
            return Err(refuse(
                "no format has come before it".to_owned(),
                "ISO/IEC 23000-19 §7.3.1",
            ));
        }
        if packet.data.is_empty() || packet.data.len() > limits::SAMPLE_BYTES {
            let why = format!(
                "it has {} bytes; 1 to {} are taken",
                packet.data.len(),
                limits::SAMPLE_BYTES
            );
            return Err(refuse(why, "ISO/IEC 14496-12 §8.7.3"));
        }
        let latest = MediaTime::ZERO + limits::MEDIA_TIME;
        if packet.pts > latest || packet.dts > latest || self.clock.is_absurd(packet.pts) {
            return Err(refuse(
                format!("at {} it lies too far ahead", packet.pts),
                "RFC 8216bis §4.4.3.1",
            ));
        }
        // before the recording's zero nothing is shown: an encoder's priming; and nothing in a declared gap: an encoder's
        // silence, or its last word
        let middle = packet.pts + packet.duration.unwrap_or(ROUNDING) / 2;
        if packet.pts < MediaTime::ZERO || self.away.is_some() || middle < self.back {
            return Ok(());
        }
        if let Some(frames) = track.split(&packet) {
            for frame in frames {
                self.handle_packet(rendition, frame)?;
            }
            return Ok(());
        }
        let kind = track.kind();
        let wants = track.wants_boundary();
        let first = !track.started() && !track.holds();
        if let Some(now) = self.now {
            self.lags[self.tracks[at].publisher()].note(now, packet.pts);
        }
        match kind {
            MediaKind::Video => {
                if first && !packet.key {
                    return Ok(());
                }
                if let Some(discontinuity) = wants
                    && packet.key
                {
                    self.clock.force(packet.pts, discontinuity);
                }
                self.head = self.head.max(packet.pts);
                if !self.leads(at) {
                    // whether a segment begins here is known once the main picture has come as far
                    self.clock.see_aside(packet.pts, packet.key);
                    self.hold(at, packet)?;
                    return self.advance();
                }
                self.clock.see_picture(packet.pts, packet.key);
                let now = self.now_of(at);
                if let Track::Media(track) = &mut self.tracks[at].track {
                    track.note_late(packet.pts, now);
                }
                self.with_track(at, |track, clock, out| track.place_picture(packet, clock, out))?;
            }
            MediaKind::Audio => {
                self.head = self.head.max(packet.pts);
                if let Some(discontinuity) = wants {
                    self.clock.force(packet.pts, discontinuity);
                }
                self.clock.see_sound(packet.pts);
                if let Track::Media(track) = &mut self.tracks[at].track {
                    track.latest = track.latest.max(Some(packet.pts));
                }
                self.hold(at, packet)?;
            }
        }
        self.advance()
    }

    /// A picture of a rendition was left out on purpose: the one before it stands on, at least up to `at`. What it lacks of parts that
    /// end before is made of repeats at once, so that they come as they would with the picture.
    ///
    /// # Errors
    /// [`HlsError::UnknownRendition`], [`HlsError::Finished`], or the first thing that could not be written.
    pub fn handle_still(&mut self, rendition: &RenditionId, at: MediaTime) -> Result<(), HlsError> {
        self.check_running()?;
        let index = self.position(rendition)?;
        let (leads, now) = (self.leads(index), self.now_of(index));
        let Track::Media(track) = &mut self.tracks[index].track else {
            return Err(text_has_no_packets(rendition));
        };
        let is_lost = self.away.is_some() || at < self.back || self.clock.is_absurd(at);
        if is_lost || track.kind() != MediaKind::Video || !(track.started() || track.holds()) {
            return Ok(());
        }
        self.head = self.head.max(at);
        track.still = Some(at);
        if leads {
            track.note_late(at, now);
            self.clock.see_picture(at, false);
        } else {
            self.clock.see_aside(at, false);
        }
        self.advance()
    }

    /// Takes a cue of what is said, for the first subtitle rendition that was declared by [`Self::declare`]; one with the id of an earlier
    /// cue replaces it. Without such a rendition it is ignored.
    ///
    /// # Errors
    /// [`HlsError::Finished`].
    pub fn handle_cue(&mut self, cue: Cue) -> Result<(), HlsError> {
        self.check_running()?;
        if let Some(captions) = self.captions() {
            captions.handle_cue(cue);
        }
        Ok(())
    }

    /// Takes a cue for a subtitle rendition; one with the id of an earlier cue of that rendition replaces it.
    ///
    /// # Errors
    /// [`HlsError::UnknownRendition`], also for a rendition of media; [`HlsError::Finished`].
    pub fn handle_text(&mut self, rendition: &RenditionId, cue: TextCue) -> Result<(), HlsError> {
        self.check_running()?;
        self.text(rendition)?.handle_text(cue);
        self.advance()
    }

    /// The recording has another chapter: a date range of class `com.loom.chapter` says so where the recording has dates, and the
    /// multivariant playlist names the chapters' file, which the host writes ([`crate::Chapters::to_json`]).
    ///
    /// # Errors
    /// As [`Self::handle_date_range`].
    pub fn handle_chapter(&mut self, chapter: &Chapter) -> Result<(), HlsError> {
        let listed = std::mem::replace(&mut self.chapters, true);
        if !listed && self.announced {
            self.store_multivariant();
        }
        match self.config.zero {
            Some(_) => self.handle_date_range(&chapter.date_range()),
            None => Ok(()),
        }
    }

    /// These are all the cues of a subtitle rendition, in place of those before: segments that are listed are written anew under
    /// their names. After [`Self::finish`] too.
    ///
    /// # Errors
    /// [`HlsError::UnknownRendition`], also for a rendition of media.
    pub fn replace_text(&mut self, rendition: &RenditionId, cues: &[TextCue]) -> Result<(), HlsError> {
        self.text(rendition)?;
        for declared in &mut self.tracks {
            if let Track::Captions(captions) = &mut declared.track
                && declared.info.id == *rendition
            {
                captions.replace(cues, &self.clock, self.head, &mut self.out);
            }
        }
        Ok(())
    }

    /// Every cue that begins before `to` has been handed over.
    ///
    /// # Errors
    /// [`HlsError::Finished`].
    pub fn handle_cue_watermark(&mut self, to: MediaTime) -> Result<(), HlsError> {
        self.check_running()?;
        if let Some(captions) = self.captions() {
            captions.handle_watermark(to);
        }
        self.advance()
    }

    /// Says in every media playlist that a span of media time is something, such as a chapter; again with the same id, that more is
    /// known of it. After [`Self::finish`] too: then the stored playlists are written anew.
    ///
    /// # Errors
    /// [`HlsError::DateRange`] where it breaks a rule, begins elsewhere than before, there are too many, or the recording's zero
    /// is unknown ([`PackagerConfig::zero`]): its dates mean nothing then.
    pub fn handle_date_range(&mut self, range: &DateRange) -> Result<(), HlsError> {
        let refuse = |why: &str, clause| HlsError::DateRange {
            id: range.id.clone(),
            why: why.to_owned(),
            clause,
        };
        let zero = self.config.zero.ok_or_else(|| {
            refuse(
                "the playlists have no EXT-X-PROGRAM-DATE-TIME",
                "RFC 8216bis §4.4.5.1",
            )
        })?;
        let line = range.line(self.pauses.shift(zero, range.start))?;
        match self.ranges.iter().find(|(id, _)| *id == line.id) {
            Some((_, start)) if *start != line.start => {
                return Err(refuse("it began elsewhere before", "RFC 8216bis §4.4.5.1"));
            }
            Some(_) => {}
            None if self.ranges.len() >= limits::DATE_RANGES => {
                return Err(refuse("there are too many", "RFC 8216bis §4.4.5.1"));
            }
            None => self.ranges.push((line.id.clone(), line.start)),
        }
        for declared in &mut self.tracks {
            declared.listing().set_range(&line, &mut self.out);
        }
        self.out.push_back(HlsOutput::Publish(Publish {
            rendition: None,
            change: Change::DateRange { line },
        }));
        Ok(())
    }

    /// A rendition's track sends no more: the others go on without it, and `EXT-X-GAP` stands for what it lacks.
    ///
    /// # Errors
    /// [`HlsError::UnknownRendition`].
    pub fn handle_end(&mut self, rendition: &RenditionId) -> Result<(), HlsError> {
        self.check_running()?;
        let at = self.position(rendition)?;
        if let Track::Media(track) = &mut self.tracks[at].track {
            track.ended = true;
        }
        self.choose_lead();
        self.advance()
    }

    /// Media time has come to `now`, whether or not packets come: to be told while live, several times in a part. A picture that
    /// nothing follows is repeated, and sound that stops goes on as silence, so that parts are made as they should; both a
    /// little behind `now`, by as much as packets came late before.
    ///
    /// # Errors
    /// [`HlsError::Finished`], or the first thing that could not be written.
    pub fn handle_time(&mut self, now: MediaTime) -> Result<(), HlsError> {
        self.check_running()?;
        let before = self.now.replace(now).unwrap_or(now);
        self.tick = now.since(before).min(Duration::from_secs(1));
        if self.away.is_some() || now <= before || !self.config.low_latency {
            return Ok(());
        }
        self.stand(now)?;
        self.advance()
    }

    /// The publisher is gone, and may come back: every rendition's open segment ends where the media does. Gives that
    /// instant. Packets are dropped until [`Self::handle_return`].
    ///
    /// # Errors
    /// [`HlsError::Finished`], or the first thing that could not be written.
    pub fn handle_absence(&mut self) -> Result<MediaTime, HlsError> {
        self.check_running()?;
        if let Some(end) = self.away {
            return Ok(end);
        }
        let mut first = self.release_all();
        // sound that is waited for longer than pictures may not have come as far as these have made segments: it does now, in silence
        let end = self.natural_end();
        let end = end.max(self.clock.newest_start().unwrap_or(end));
        self.clock.skip_to(end, false);
        let (clock, out) = (&self.clock, &mut self.out);
        for declared in &mut self.tracks {
            if let Track::Media(track) = &mut declared.track {
                first = first.and(track.catch_up(end, clock, out));
            }
        }
        first = first.and(self.give_up(end, ABSENCE_TAIL));
        for declared in &mut self.tracks {
            declared.listing().mark();
        }
        self.set_away(Some(end));
        first.map(|()| end)
    }

    /// The publisher has been away up to `until`: `EXT-X-GAP` (RFC 8216bis §4.4.4.7) stands for that in every rendition, so that
    /// live viewers see the playlists go on. Calls [`Self::handle_absence`] where that was not done. Where nobody comes
    /// back, the complete playlists end where the media did.
    ///
    /// # Errors
    /// As [`Self::handle_absence`].
    pub fn handle_gap(&mut self, until: MediaTime) -> Result<(), HlsError> {
        let end = self.handle_absence()?;
        if until <= end {
            return Ok(());
        }
        self.clock.skip_to(until, false);
        self.head = self.head.max(until);
        self.give_up(until, Duration::ZERO)
    }

    /// The publisher is back: media goes on at `at`, or where the listed gap ends if that is later, in a new segment of every
    /// rendition, behind an `EXT-X-DISCONTINUITY` (RFC 8216bis §4.4.4.3: another encoding sequence). Gives that instant.
    ///
    /// # Errors
    /// As [`Self::handle_absence`].
    pub fn handle_return(&mut self, at: MediaTime) -> Result<MediaTime, HlsError> {
        let end = self.handle_absence()?;
        let listed = self.clock.newest_start().unwrap_or(end);
        let at = at.max(end).max(listed);
        self.handle_gap(at)?;
        self.clock.skip_to(at, true);
        for declared in &mut self.tracks {
            declared.listing().unmark();
        }
        self.set_away(None);
        self.back = at;
        self.lags = Default::default();
        Ok(at)
    }

    /// The recording was paused for so long by the wall clock, and goes on: at the instant at which its media ended, in a new segment of
    /// every rendition, behind an `EXT-X-DISCONTINUITY`. Only dates tell of the pause (RFC 8216bis §4.4.4.6). Gives that instant. Calls
    /// [`Self::handle_absence`] where that was not done when the pause began.
    ///
    /// # Errors
    /// As [`Self::handle_absence`].
    pub fn handle_resume(&mut self, paused: Duration) -> Result<MediaTime, HlsError> {
        let end = self.handle_absence()?;
        let at = end.max(self.clock.newest_start().unwrap_or(end));
        self.pauses.push(at, paused);
        for declared in &mut self.tracks {
            declared.listing().pauses.push(at, paused);
        }
        if let Some(frame) = &mut self.frame {
            frame.pauses.push(at, paused);
            let frame = frame.clone();
            self.out.push_back(HlsOutput::Publish(Publish {
                rendition: None,
                change: Change::Manifest { frame },
            }));
        }
        self.now = self.now.map(|now| now.min(at));
        self.handle_return(at)
    }

    /// Declares a rendition: all of them, before the first packet.
    ///
    /// # Errors
    /// [`HlsError::Declaration`] for a name twice, a second subtitle rendition, too many, or one that comes too late.
    pub fn declare(&mut self, rendition: RenditionInfo) -> Result<(), HlsError> {
        self.declare_in(Place::Main, rendition)
    }

    /// Declares a ready-made quality of the main picture, such as a smaller layer of a simulcast. Its segments follow the main
    /// picture's boundaries as nearly as its own key frames allow, and make none.
    ///
    /// # Errors
    /// As [`Self::declare`].
    pub fn declare_layer(&mut self, rendition: RenditionInfo) -> Result<(), HlsError> {
        self.declare_in(Place::Layer, rendition)
    }

    /// Declares a further picture beside the main one, such as a camera beside a screen. A multivariant playlist of its own,
    /// `ID.m3u8`, names it together with all sound and text. Its segments follow the main picture's boundaries as
    /// nearly as its own key frames allow, and make none. It may begin late: then it is declared late, and its playlist has gaps up
    /// to there. Beside sound alone, a late one makes the boundaries from there on.
    ///
    /// # Errors
    /// As [`Self::declare`], and for a rendition that is no video.
    pub fn declare_aside(&mut self, rendition: RenditionInfo) -> Result<(), HlsError> {
        must_be(
            &rendition,
            Some(MediaKind::Video),
            "only pictures have a playlist of their own",
        )?;
        self.declare_in(Place::Aside, rendition)
    }

    /// Declares sound that comes only now, such as another microphone of a publisher who has come back. Its playlist has gaps up to
    /// there. Every multivariant playlist names it; who asked for one before does not know of it.
    ///
    /// # Errors
    /// As [`Self::declare`], and for a rendition that is no sound.
    pub fn declare_sound(&mut self, rendition: RenditionInfo) -> Result<(), HlsError> {
        must_be(&rendition, Some(MediaKind::Audio), "it is no sound")?;
        self.declare_in(Place::Late, rendition)
    }

    /// Declares a subtitle rendition whose cues the host hands over, such as a translation: [`Self::handle_text`], [`Self::replace_text`].
    /// No watermark is waited for: a cue that comes after its segment has ended is put into the next. It may be declared at any time
    /// before the end; who asked for the multivariant playlist before does not know of it.
    ///
    /// # Errors
    /// As [`Self::declare`], and for a rendition of media.
    pub fn declare_text(&mut self, rendition: RenditionInfo) -> Result<(), HlsError> {
        must_be(&rendition, None, "it is no text")?;
        let announced = self.announced;
        self.declare_in(Place::Text, rendition)?;
        if announced {
            self.store_multivariant();
        }
        self.advance()
    }

    /// Names a rendition that is complete beside those that are made, in the multivariant playlist and the complete DASH manifest: such as a
    /// recording's sound, for which other pictures are made. `codec` is what its init segment says, `None` for text; `playlist` its media
    /// playlist. Nothing else becomes of it. Segments of one number should have the same boundaries.
    ///
    /// # Errors
    /// [`HlsError::Declaration`] for a name twice, too many, or one that comes too late.
    pub fn declare_ready(
        &mut self,
        rendition: RenditionInfo,
        codec: Option<CodecParameters>,
        playlist: &str,
    ) -> Result<(), HlsError> {
        self.check_declared(&rendition, Place::Main)?;
        let format = match (&codec, playlist.contains("#EXT-X-MAP:")) {
            (Some(codec), _) => dash::Format::Media(codec.clone()),
            (None, true) => dash::Format::Text(TextForm::Imsc1),
            (None, false) => dash::Format::Text(TextForm::WebVtt),
        };
        let described = dash::Described {
            info: rendition.clone(),
            format,
            key: None,
        };
        // what came late is in no manifest, as while it is made
        let begins = view::read(playlist).into_iter().next();
        if begins.is_some_and(|first| first.number == FIRST && !first.is_gap()) {
            self.book.take_stored(described, playlist);
        }
        self.ready.push(Ready {
            info: rendition,
            codec,
        });
        Ok(())
    }

    fn check_declared(&self, rendition: &RenditionInfo, place: Place) -> Result<(), HlsError> {
        self.check_running()?;
        let ready = self.ready.iter().map(|it| &it.info.id);
        let mut names = self.tracks.iter().map(|it| &it.info.id).chain(ready);
        let why = if names.any(|name| *name == rendition.id) {
            "its name is taken"
        } else if self.tracks.len() + self.ready.len() >= limits::RENDITIONS {
            "there are too many"
        } else if self.announced && matches!(place, Place::Main | Place::Layer) {
            "the multivariant playlist is out, and may not change"
        } else {
            return Ok(());
        };
        Err(HlsError::Declaration {
            rendition: rendition.id.clone(),
            why: why.to_owned(),
        })
    }

    fn declare_in(&mut self, place: Place, rendition: RenditionInfo) -> Result<(), HlsError> {
        self.check_declared(&rendition, place)?;
        let media = rendition.kind.media();
        let mut listing = Listing::new(rendition.id.clone(), &self.config, media);
        listing.pauses = self.pauses.clone();
        self.tracks.push(Declared {
            track: match media {
                Some(kind) => {
                    let mut track = MediaTrack::new(listing, kind, rendition.clone(), &self.config);
                    track.in_manifest = !matches!(place, Place::Aside | Place::Late) && self.frame.is_some();
                    track.follows = place != Place::Main;
                    track.began_late = self.announced;
                    track.crypt = self.config.encryption.map(|encryption| {
                        let mut crypt = TrackCrypt::new(encryption, self.encrypted);
                        self.encrypted += 1;
                        self.keys.values().for_each(|key| crypt.handle_key(key.clone()));
                        crypt
                    });
                    Track::Media(Box::new(track))
                }
                None => Track::Captions(Box::new(CaptionTrack::new(
                    listing,
                    rendition.clone(),
                    self.config.text,
                    place != Place::Text,
                ))),
            },
            place,
            info: rendition,
            seen: 0,
        });
        self.choose_lead();
        Ok(())
    }

    /// Takes a rendition back that was planned but never came. One that has been announced ends instead, as by
    /// [`Self::handle_end`].
    ///
    /// # Errors
    /// [`HlsError::UnknownRendition`].
    pub fn drop_rendition(&mut self, rendition: &RenditionId) -> Result<(), HlsError> {
        self.check_running()?;
        let at = self.position(rendition)?;
        if self.announced {
            return self.handle_end(rendition);
        }
        self.tracks.remove(at);
        self.choose_lead();
        self.announce();
        self.advance()
    }

    /// Ends the recording: everything held back is placed, every rendition ends at the same instant, and the playlists are
    /// stored complete. Renditions that never had a format are left out.
    ///
    /// # Errors
    /// The first thing that went wrong; everything else was finished nevertheless.
    pub fn finish(&mut self) -> Result<(), HlsError> {
        self.check_running()?;
        let mut first = Ok(());
        let mut note = |done: Result<(), HlsError>| {
            if first.is_ok() {
                first = done;
            }
        };
        self.tracks.retain(|t| match &t.track {
            Track::Media(track) => track.codec().is_some() && (track.started() || !track.held.is_empty()),
            Track::Captions(_) => true,
        });
        self.choose_lead();
        note(self.release_all());
        self.finished = true;
        let end = match self.away {
            Some(end) => {
                self.clock.end_at(end);
                self.head = end;
                end
            }
            None => {
                let end = self.natural_end();
                self.clock.see_end(end);
                self.clock.end_at(end);
                end
            }
        };
        let clock = &self.clock;
        let out = &mut self.out;
        for declared in &mut self.tracks {
            match &mut declared.track {
                Track::Media(track) => note(track.finish(end, clock, out)),
                Track::Captions(captions) => {
                    captions.finish(clock, end, out);
                    captions.listing.finish(out);
                }
            }
        }
        self.head = self.head.max(end);
        self.store_multivariant();
        let end = Publish {
            rendition: None,
            change: Change::End,
        };
        self.store_manifest(&end);
        self.out.push_back(HlsOutput::Publish(end));
        first
    }

    /// After [`Self::finish`]: writes the subtitle rendition of what is said anew from the final cues. Without such a rendition nothing
    /// happens.
    pub fn replace_cues(&mut self, cues: &[Cue]) {
        let cues: Vec<TextCue> = cues.iter().cloned().map(TextCue::from).collect();
        let (clock, end) = (&self.clock, self.head);
        let mut texts = self.tracks.iter_mut().filter_map(Declared::captions);
        if let Some(captions) = texts.find(|it| it.is_paced()) {
            captions.replace(&cues, clock, end, &mut self.out);
        }
    }

    /// The next thing to do; `None` until more is handed over.
    #[must_use = "what is not carried out is missing from the recording"]
    pub fn poll_output(&mut self) -> Option<HlsOutput> {
        let next = self.out.pop_front();
        if let Some(HlsOutput::Publish(publish)) = next.as_ref().filter(|_| !self.finished) {
            self.book.take(publish);
        }
        next
    }

    /// After any input: places sound that can be placed, goes on without what is too late, publishes captions.
    fn advance(&mut self) -> Result<(), HlsError> {
        self.ask_for_keys();
        let mut first = Ok(());
        for at in 0..self.tracks.len() {
            let released = self.release_held(at, false);
            if first.is_ok() {
                first = released;
            }
        }
        let (head, stall) = (self.head, self.config.stall);
        let clock = &self.clock;
        let out = &mut self.out;
        for declared in &mut self.tracks {
            match &mut declared.track {
                Track::Media(track) => {
                    let over = track.ended && !track.holds();
                    if let Some(patience) = if over { Some(Duration::ZERO) } else { stall } {
                        first = first.and(track.give_up_all(head - patience, Duration::ZERO, clock, out));
                    }
                }
                Track::Captions(captions) => captions.advance(clock, out),
            }
        }
        let mut grown = false;
        for declared in &mut self.tracks {
            grown |= declared.outgrows();
        }
        if grown && self.announced {
            self.store_multivariant();
        }
        first
    }

    /// How far those renditions have come that are made of the same: the main picture's, or those of a sound, which have one name.
    fn latest_of_siblings(&self, of: &Declared) -> Option<MediaTime> {
        let is_sibling = |other: &&Declared| match (&of.info.kind, &other.info.kind) {
            (RenditionKind::Audio { name: one, .. }, RenditionKind::Audio { name: other, .. }) => {
                one == other
            }
            (RenditionKind::Video { .. }, RenditionKind::Video { .. }) => {
                of.place == Place::Main && other.place == Place::Main
            }
            _ => false,
        };
        let siblings = self.tracks.iter().filter(is_sibling);
        siblings.filter_map(|it| it.media()?.latest).max()
    }

    /// How far all that has come that one publisher sends: what was there from the start, or what came beside it.
    fn latest_beside(&self, of: &Declared) -> Option<MediaTime> {
        let beside = self.tracks.iter().filter(|it| it.publisher() == of.publisher());
        beside.filter_map(|it| it.media()?.latest).max()
    }

    /// How far media time has come for a rendition: it is the publisher's, who may be late.
    fn now_of(&self, at: usize) -> Option<MediaTime> {
        let lag = self.lag(&self.tracks[at]);
        self.now.map(|now| now - lag)
    }

    fn lag(&self, of: &Declared) -> Duration {
        self.lags[of.publisher()].get()
    }

    /// Lets what has no successor stand on, up to a little before `now`.
    fn stand(&mut self, now: MediaTime) -> Result<(), HlsError> {
        let tick = self.tick;
        let others = |t: &Declared| (self.latest_of_siblings(t), self.latest_beside(t), self.lag(t));
        let others: Vec<_> = self.tracks.iter().map(others).collect();
        let mut until = Vec::with_capacity(self.tracks.len());
        let mut quiet: Option<MediaTime> = None;
        for (declared, (latest, heard, lag)) in self.tracks.iter_mut().zip(others) {
            let place = declared.place;
            let Track::Media(track) = &mut declared.track else {
                until.push(None);
                continue;
            };
            let now = now - lag;
            let mut at = now - track.patience(tick);
            let leads = place == Place::Main && track.kind() == MediaKind::Video;
            if leads && !track.ended && track.started() {
                quiet = Some(quiet.map_or(at, |quiet| quiet.min(at)));
            }
            // one whose siblings are ahead has media to come, unless its encoder leaves pictures out or is dead
            let behind = latest.zip(track.latest);
            let behind = behind.map_or(Duration::ZERO, |(latest, own)| latest.since(own));
            let coding = match track.kind() {
                MediaKind::Video => ROUNDING,
                MediaKind::Audio => SOUND_CODING,
            };
            if behind > coding {
                at = at - LAGGING;
            }
            if let Some(silent) = track.silent_until(now, heard) {
                at = at.min(silent);
            }
            let stands = !track.ended && !track.holds() && behind < LAGGING;
            until.push(stands.then_some((at, track.kind())));
        }
        if let Some(quiet) = quiet {
            self.clock.see_still(quiet);
        }
        let sounds = until
            .iter()
            .flatten()
            .filter(|(_, kind)| *kind == MediaKind::Audio);
        if let Some(silent) = sounds.map(|(at, _)| *at).max() {
            self.clock.see_silence(silent);
        }
        let settled = self.clock.settled();
        let (mut first, clock, out) = (Ok(()), &self.clock, &mut self.out);
        for (declared, until) in self.tracks.iter_mut().zip(until) {
            if let (Track::Media(track), Some((until, kind))) = (&mut declared.track, until) {
                let until = match kind {
                    // not past where boundaries are known
                    MediaKind::Video => quiet.map_or(until, |quiet| until.min(quiet)),
                    MediaKind::Audio => until.min(settled),
                };
                first = first.and(track.stand(until, clock, out));
            }
        }
        first
    }

    /// Keeps a packet until it is known which segment it lies in; where no more fits, all that is kept is placed.
    fn hold(&mut self, at: usize, packet: Packet) -> Result<(), HlsError> {
        let mut fits = true;
        self.with_track(at, |track, _, _| {
            fits = track.hold(packet);
            Ok(())
        })?;
        if fits {
            return Ok(());
        }
        if let Some(held) = self.tracks[at].media().and_then(MediaTrack::held_to) {
            self.clock.see_end(held);
        }
        self.release_held(at, true)
    }

    /// Places what a rendition holds back, as far as the clock is settled, or all of it.
    fn release_held(&mut self, at: usize, all: bool) -> Result<(), HlsError> {
        let pictures = self.tracks[at]
            .media()
            .is_some_and(|m| m.kind() == MediaKind::Video);
        let settled = (!all).then(|| match pictures {
            true => self.clock.settled_aside().max(self.head - ASIDE_WAIT),
            false => self.clock.settled(),
        });
        let (mut first, now, leads) = (Ok(()), self.now_of(at), self.leads(at));
        self.with_track(at, |track, clock, out| {
            while let Some((packet, middle)) = track.release(settled) {
                track.note_late(packet.pts, now);
                let placed = match pictures {
                    true => track.place_picture(packet, clock, out),
                    false => track.place_sound(packet, clock.segment_at(middle), clock, out),
                };
                if first.is_ok() {
                    first = placed;
                }
            }
            // a picture that was left out behind all that were held
            match track.still {
                Some(at) if !track.holds() => {
                    let until = settled.filter(|_| !leads).map_or(at, |settled| at.min(settled));
                    track.still = Some(at).filter(|at| *at > until);
                    track.stand(until, clock, out)
                }
                _ => Ok(()),
            }
        })?;
        first
    }

    /// All that is held, into segments that are made as long as it goes on.
    fn release_all(&mut self) -> Result<(), HlsError> {
        let end = self.natural_end();
        self.clock
            .see_end(self.held_to().map_or(end, |held| held.max(end)));
        let mut first = Ok(());
        for at in 0..self.tracks.len() {
            first = first.and(self.release_held(at, true));
        }
        first
    }

    fn set_away(&mut self, away: Option<MediaTime>) {
        self.away = away;
        for captions in self.tracks.iter_mut().filter_map(Declared::captions) {
            captions.away = away;
        }
    }

    /// Where the media of all renditions ends as far as is known.
    fn natural_end(&self) -> MediaTime {
        let ends = self.tracks.iter().filter_map(|t| t.media()?.natural_end());
        ends.max().unwrap_or(self.head)
    }

    /// Every rendition goes on without what has not come up to `until`.
    fn give_up(&mut self, until: MediaTime, tail: Duration) -> Result<(), HlsError> {
        let (mut first, clock, out) = (Ok(()), &self.clock, &mut self.out);
        for declared in &mut self.tracks {
            match &mut declared.track {
                Track::Media(track) => first = first.and(track.give_up_all(until, tail, clock, out)),
                Track::Captions(captions) => captions.advance(clock, out),
            }
        }
        first
    }

    /// Whether a rendition of pictures says where segments begin: those of the main picture, or any where that has ended.
    fn leads(&self, at: usize) -> bool {
        let runs = |t: &Declared| {
            t.media()
                .is_some_and(|m| m.kind() == MediaKind::Video && !m.ended)
        };
        let main = |t: &Declared| t.place == Place::Main && runs(t);
        self.tracks[at].place == Place::Main || !self.tracks.iter().any(main)
    }

    fn choose_lead(&mut self) {
        let pictures = self
            .tracks
            .iter()
            .filter_map(Declared::media)
            .any(|t| t.kind() == MediaKind::Video && !t.ended);
        let lead = if pictures { Lead::Pictures } else { Lead::Sound };
        self.clock.lead(lead, self.head);
        // sound that waited for pictures says now where its segments begin
        if let Some(held) = self.held_to() {
            self.clock.see_silence(held);
        }
    }

    /// Where what is held ends.
    fn held_to(&self) -> Option<MediaTime> {
        self.tracks.iter().filter_map(|t| t.media()?.held_to()).max()
    }

    fn with_track(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut MediaTrack, &SegmentClock, &mut VecDeque<HlsOutput>) -> Result<(), HlsError>,
    ) -> Result<(), HlsError> {
        match &mut self.tracks[at].track {
            Track::Media(track) => act(track, &self.clock, &mut self.out),
            Track::Captions(_) => Ok(()),
        }
    }

    /// The text of what is said.
    fn captions(&mut self) -> Option<&mut CaptionTrack> {
        self.tracks
            .iter_mut()
            .filter_map(Declared::captions)
            .find(|it| it.is_paced())
    }

    fn text(&mut self, rendition: &RenditionId) -> Result<&mut CaptionTrack, HlsError> {
        let at = self.position(rendition)?;
        self.tracks[at]
            .captions()
            .ok_or_else(|| HlsError::UnknownRendition {
                rendition: rendition.clone(),
            })
    }

    fn position(&self, rendition: &RenditionId) -> Result<usize, HlsError> {
        self.tracks
            .iter()
            .position(|t| t.info.id == *rendition)
            .ok_or_else(|| HlsError::UnknownRendition {
                rendition: rendition.clone(),
            })
    }

    fn check_running(&self) -> Result<(), HlsError> {
        if self.finished {
            Err(HlsError::Finished)
        } else {
            Ok(())
        }
    }
}

/// Sound that is encoded comes this much later than what it is made of, though nothing is amiss.
const SOUND_CODING: Duration = Duration::from_millis(150);

/// A rendition that lies this far behind the others has lost its encoder, or has one that leaves out pictures.
const LAGGING: Duration = Duration::from_secs(2);

/// How far the last sound is drawn out at a publisher's absence, so that sound and pictures end together.
const ABSENCE_TAIL: Duration = Duration::from_millis(200);

/// Refuses a rendition that is made of something else; `None`: of text.
fn must_be(rendition: &RenditionInfo, media: Option<MediaKind>, why: &str) -> Result<(), HlsError> {
    match rendition.kind.media() == media {
        true => Ok(()),
        false => Err(HlsError::Declaration {
            rendition: rendition.id.clone(),
            why: why.to_owned(),
        }),
    }
}

fn text_has_no_packets(rendition: &RenditionId) -> HlsError {
    HlsError::Format {
        rendition: rendition.clone(),
        why: "a subtitle rendition is made of cues, not of packets".to_owned(),
        clause: "RFC 8216bis §3.1.4",
    }
}
