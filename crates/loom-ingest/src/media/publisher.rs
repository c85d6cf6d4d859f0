//! One publisher's RTP streams to media on one timeline.

mod routes;

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use loom_core::{
    CodecParameters, Gap, LevelMeter, Media, MediaKind, MediaTime, NtpTime, Packet, Timescale, TrackFormat,
    TrackId,
};
use tracing::debug;

use self::routes::{Route, Routes};
use super::depacketize::{CodedFrame, Depacketizer};
use super::reorder::{ReorderOutput, Reorderer, ReordererConfig};
use super::timeline::{ClockId, Timeline};
use super::{RtpPacket, RtpSection};
use crate::limits;

/// How a [`Publisher`] behaves.
#[derive(Debug, Clone)]
pub(crate) struct PublisherConfig {
    pub(crate) sections: Vec<RtpSection>,
    pub(crate) reorder: ReordererConfig,
    /// The least time between two requests for a key frame of one track.
    pub(crate) key_frame_spacing: Duration,
}

/// What a [`Publisher`] has to say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PublisherOutput {
    Media(Media),
    /// Ask the sender of this synchronization source for a key frame.
    RequestKeyFrame {
        source: u32,
    },
    /// Whatever lies before this packet of that source and did not come is not missed: it was padding.
    NothingMissing {
        source: u32,
        before: u16,
    },
    /// A track that ran has sent nothing for a second.
    Paused(TrackId),
    /// It runs again.
    Resumed(TrackId),
    /// Nothing more before this instant, unless a packet comes.
    Timeout(Instant),
}

/// Turns RTP packets into timed media.
///
/// Invariant: what comes out of a track decodes. It begins with a format and a key frame; after a loss there is a
/// [`Media::Gap`] and, for video, nothing until the next key frame; decode times climb. A track's [`TrackId`] is its place
/// among all that the sections announce, one section after the other, of each its layers in their order; whichever source
/// sends it.
#[derive(Debug)]
pub(crate) struct Publisher {
    config: PublisherConfig,
    routes: Routes,
    timeline: Timeline,
    tracks: Vec<Track>,
    outputs: VecDeque<PublisherOutput>,
}

#[derive(Debug)]
struct Track {
    id: TrackId,
    section: usize,
    /// Whose packets it is made of; `None` once that source sends another track.
    source: Option<u32>,
    /// The sources before it, the latest last: what still comes of them is late.
    former: VecDeque<u32>,
    /// It said goodbye, and nothing came since.
    gone: bool,
    last_packet: Instant,
    /// How loud it is, where its sender tells.
    level: LevelMeter,
    /// It ran, and has sent nothing for [`PAUSE`].
    paused: bool,
    clock: ClockId,
    reorderer: Reorderer<RtpPacket>,
    depacketizer: Option<(u8, Depacketizer)>,
    format: Option<CodecParameters>,
    /// Video: nothing passes until a key frame.
    awaits_key: bool,
    /// Something is missing since the last thing that came out.
    lost: bool,
    last_dts: Option<MediaTime>,
    /// Where the last thing that came out ends, as far as is known.
    end: MediaTime,
    key_frames: KeyFrameRequests,
}

/// Throttles the requests for one track's key frames.
#[derive(Debug, Default)]
struct KeyFrameRequests {
    wanted: bool,
    last: Option<Instant>,
}

/// While a track waits for a key frame, how long after a request the next is sent.
const KEY_FRAME_RETRY: Duration = Duration::from_millis(500);
/// A track's source is replaced by another one that does not name the track only once it has been silent this long.
const SOURCE_SILENCE: Duration = Duration::from_millis(500);
/// Sources that a track remembers to have had.
const FORMER_SOURCES: usize = 4;
/// A track that ran and sends nothing for this long is paused.
const PAUSE: Duration = Duration::from_secs(1);
/// Pictures this far behind the decode time are reordered ones; farther, the clock has stepped back.
const REORDERED: i64 = 500_000_000;

impl Publisher {
    pub(crate) fn new(config: PublisherConfig) -> Self {
        Self {
            routes: Routes::new(&config.sections),
            config,
            timeline: Timeline::new(),
            tracks: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    pub(crate) fn handle_packet(&mut self, packet: RtpPacket, now: Instant) {
        let Some(at) = self.track_of(&packet, now) else {
            return;
        };
        let track = &mut self.tracks[at];
        track.last_packet = now;
        track.gone = false;
        if std::mem::take(&mut track.paused) {
            self.outputs.push_back(PublisherOutput::Resumed(track.id));
        }
        track.reorderer.handle_packet(packet.sequence, packet, now);
        self.advance(at, now);
    }

    /// A packet of that source has told how loud its sound is, -127 to 0 dBov (RFC 6464).
    pub(crate) fn handle_level(&mut self, source: u32, level: i8, now: Instant) {
        if let Some(track) = self.tracks.iter_mut().find(|track| track.source == Some(source)) {
            track.level.handle_level(level, now);
        }
    }

    /// How loud a track is, where its sender tells.
    pub(crate) fn level(&self, id: TrackId, now: Instant) -> Option<i8> {
        let track = self.tracks.iter().find(|track| track.id == id)?;
        track.level.level(now)
    }

    /// A sender report (RFC 3550 §6.4.1).
    pub(crate) fn handle_report(&mut self, source: u32, ntp: NtpTime, timestamp: u32) {
        if let Some(track) = self.tracks.iter().find(|track| track.source == Some(source)) {
            self.timeline.handle_report(track.clock, ntp, timestamp);
        }
    }

    /// When what carries media time zero came, and when it was captured by the sender's wall clock.
    pub(crate) fn zero(&self) -> Option<(Instant, Option<SystemTime>)> {
        self.timeline.zero()
    }

    /// Sources that say goodbye (RFC 3550 §6.6). Gives whether none is left that has not.
    pub(crate) fn handle_bye(&mut self, sources: &[u32]) -> bool {
        for track in self
            .tracks
            .iter_mut()
            .filter(|track| track.source.is_some_and(|source| sources.contains(&source)))
        {
            track.gone = true;
        }
        !self.tracks.is_empty() && self.tracks.iter().all(|track| track.gone)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for at in 0..self.tracks.len() {
            self.tracks[at].reorderer.handle_timeout(now);
            self.advance(at, now);
            let track = &mut self.tracks[at];
            if track.pause().is_some_and(|due| due <= now) {
                track.paused = true;
                self.outputs.push_back(PublisherOutput::Paused(track.id));
            }
        }
    }

    /// The host wants a key frame. Sent at once or, if one was asked for just now, when it may be.
    pub(crate) fn request_key_frame(&mut self, id: TrackId, now: Instant) {
        if let Some(at) = self.tracks.iter().position(|track| track.id == id) {
            self.tracks[at].key_frames.wanted |= self.kind(at) == MediaKind::Video;
            self.advance(at, now);
        }
    }

    /// No more comes: lets go of everything that is held, and ends the tracks.
    pub(crate) fn finish(&mut self, now: Instant) {
        for at in 0..self.tracks.len() {
            self.tracks[at].reorderer.flush();
            self.advance(at, now);
            let track = &self.tracks[at];
            if track.format.is_some() {
                self.outputs
                    .push_back(PublisherOutput::Media(Media::End(track.id)));
            }
        }
    }

    pub(crate) fn poll_output(&mut self) -> Option<PublisherOutput> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let mut timeout = None;
        for track in &mut self.tracks {
            let held = match track.reorderer.poll_output() {
                Some(ReorderOutput::Timeout(at)) => Some(at),
                _ => None,
            };
            let request =
                track
                    .key_frames
                    .due(self.config.key_frame_spacing, track.awaits_key, track.last_packet);
            timeout = [timeout, held, request, track.pause()]
                .into_iter()
                .flatten()
                .min();
        }
        timeout.map(PublisherOutput::Timeout)
    }

    fn kind(&self, at: usize) -> MediaKind {
        self.config.sections[self.tracks[at].section].kind
    }

    /// The track of a packet, which a source that sends it for the first time may take over or begin.
    fn track_of(&mut self, packet: &RtpPacket, now: Instant) -> Option<usize> {
        let place = |track: &Track| track.source == Some(packet.source);
        let of_source = self.tracks.iter().position(place);
        let before = of_source.map(|at| Route {
            section: self.tracks[at].section,
            track: self.tracks[at].id,
            named: false,
        });
        let route = self.routes.of(&self.config.sections, packet, before)?;
        let at = self.tracks.iter().position(|track| track.id == route.track);
        if at.is_some() && at == of_source {
            return at;
        }
        let at = match at {
            Some(at) => {
                self.take_over(at, packet.source, route, now)?;
                at
            }
            None if self.tracks.len() >= limits::SESSION_TRACKS => return None,
            None => self.begin(packet.source, route, now),
        };
        if let Some(moved) = of_source {
            self.tracks[moved].source = None;
        }
        Some(at)
    }

    /// Goes on with a track from another source, which may begin anywhere in sequence and time (RFC 3550 §8.2); `None` while
    /// that is not certain.
    fn take_over(&mut self, at: usize, source: u32, route: Route, now: Instant) -> Option<()> {
        let kind = self.kind(at);
        let track = &mut self.tracks[at];
        let silent = track.gone || now.saturating_duration_since(track.last_packet) >= SOURCE_SILENCE;
        if !silent && (!route.named || track.former.contains(&source)) {
            return None;
        }
        if track.former.len() == FORMER_SOURCES {
            track.former.pop_front();
        }
        track.former.extend(track.source.replace(source));
        track.reorderer = Reorderer::new(self.config.reorder, now);
        track.depacketizer = None;
        track.handle_loss(kind);
        self.timeline.handle_reset(track.clock);
        Some(())
    }

    fn begin(&mut self, source: u32, route: Route, now: Instant) -> usize {
        let kind = self.config.sections[route.section].kind;
        let scale = match kind {
            MediaKind::Video => Timescale::VIDEO,
            MediaKind::Audio => Timescale::OPUS,
        };
        self.tracks.push(Track {
            id: route.track,
            section: route.section,
            source: Some(source),
            former: VecDeque::new(),
            gone: false,
            last_packet: now,
            level: LevelMeter::default(),
            paused: false,
            clock: self.timeline.add_clock(kind, scale),
            reorderer: Reorderer::new(self.config.reorder, now),
            depacketizer: None,
            format: None,
            awaits_key: kind == MediaKind::Video,
            lost: false,
            last_dts: None,
            end: MediaTime::ZERO,
            key_frames: KeyFrameRequests::default(),
        });
        self.tracks.len() - 1
    }

    /// Moves what the track's reorderer lets go of through to the outputs.
    fn advance(&mut self, at: usize, now: Instant) {
        let kind = self.kind(at);
        let formats = &self.config.sections[self.tracks[at].section].formats;
        let track = &mut self.tracks[at];
        loop {
            match track.reorderer.poll_output() {
                Some(ReorderOutput::Packet(packet)) => {
                    let Some(format) = formats
                        .iter()
                        .find(|format| format.payload_type == packet.payload_type)
                    else {
                        continue;
                    };
                    if track
                        .depacketizer
                        .as_ref()
                        .is_none_or(|(payload_type, _)| *payload_type != packet.payload_type)
                    {
                        if track.depacketizer.is_some() {
                            track.handle_loss(kind);
                        }
                        track.depacketizer = Some((packet.payload_type, Depacketizer::new(format)));
                    }
                    let Some((_, depacketizer)) = &mut track.depacketizer else {
                        continue;
                    };
                    if let Err(why) = depacketizer.handle_packet(&packet) {
                        debug!(track = %track.id, %why, "a packet is of no use");
                    }
                    let frames: Vec<CodedFrame> = std::iter::from_fn(|| depacketizer.poll_frame()).collect();
                    let lost = depacketizer.poll_loss();
                    // a frame that comes out with a loss was whole before it, or begins after it: a key frame either way
                    // passes, and others must not
                    if lost {
                        track.handle_loss(kind);
                    }
                    for frame in frames {
                        track.handle_frame(frame, kind, &mut self.timeline, &mut self.outputs);
                    }
                }
                Some(ReorderOutput::Lost) => {
                    let lost = track.depacketizer.as_mut().is_none_or(|(_, depacketizer)| {
                        depacketizer.handle_loss();
                        depacketizer.poll_loss()
                    });
                    if lost {
                        track.handle_loss(kind);
                    }
                }
                Some(ReorderOutput::Timeout(_)) => {
                    let (Some(before), Some(source)) = (track.pass_padding(), track.source) else {
                        break;
                    };
                    self.outputs
                        .push_back(PublisherOutput::NothingMissing { source, before });
                }
                None => break,
            }
        }
        if track
            .key_frames
            .due(self.config.key_frame_spacing, track.awaits_key, track.last_packet)
            .is_some_and(|due| due <= now)
        {
            track.key_frames.last = Some(now);
            track.key_frames.wanted = false;
            let request = track
                .source
                .map(|source| PublisherOutput::RequestKeyFrame { source });
            self.outputs.extend(request);
        }
    }
}

impl Track {
    /// Goes on behind missing packets at once where what is held behind them proves that they were padding. A sender without a
    /// retransmission stream probes the bandwidth with padding among the media, and never sends it again. Gives the number of the packet
    /// that it goes on with.
    fn pass_padding(&mut self) -> Option<u16> {
        let (payload_type, depacketizer) = self.depacketizer.as_ref()?;
        let held = &self.reorderer;
        let (count, packet) = held
            .behind_hole()
            .enumerate()
            .find(|(_, packet)| !packet.payload.is_empty())?;
        let proven = packet.payload_type == *payload_type && depacketizer.proves_whole(packet);
        let before = proven.then_some(packet.sequence)?;
        self.reorderer.pass_hole(count);
        Some(before)
    }

    /// When the track counts as paused, if it runs.
    fn pause(&self) -> Option<Instant> {
        let runs = self.format.is_some() && !self.gone && !self.paused;
        runs.then(|| self.last_packet + PAUSE)
    }

    fn handle_loss(&mut self, kind: MediaKind) {
        self.lost = true;
        if kind == MediaKind::Video {
            self.awaits_key = true;
        }
    }

    fn handle_frame(
        &mut self,
        frame: CodedFrame,
        kind: MediaKind,
        timeline: &mut Timeline,
        outputs: &mut VecDeque<PublisherOutput>,
    ) {
        let unit = frame.unit;
        if self.awaits_key && !unit.key {
            return;
        }
        let mapped = timeline.media_time(self.clock, frame.timestamp, frame.arrived);
        let mapped = mapped.max(MediaTime::ZERO); // a sender may count back before its first picture
        let (pts, dts) = self.climbing(mapped, kind);
        if std::mem::take(&mut self.lost) && self.last_dts.is_some() && pts > self.end {
            let gap = Gap {
                track: self.id,
                from: self.end,
                to: pts,
            };
            outputs.push_back(PublisherOutput::Media(Media::Gap(gap)));
        }
        if let Some(parameters) = unit.parameters
            && self.format.as_ref() != Some(&parameters)
        {
            self.format = Some(parameters.clone());
            let format = TrackFormat {
                track: self.id,
                codec: parameters,
            };
            outputs.push_back(PublisherOutput::Media(Media::Format(format)));
        }
        if unit.key {
            self.awaits_key = false;
        }
        self.last_dts = Some(dts);
        self.end = self.end.max(pts + unit.duration.unwrap_or_default());
        outputs.push_back(PublisherOutput::Media(Media::Packet(Packet {
            track: self.id,
            pts,
            dts,
            duration: unit.duration,
            key: unit.key,
            data: unit.data,
        })));
    }

    /// Presentation and decode time such that decode times climb by at least a tick of 90 kHz. A picture shown before one
    /// that is decoded before it keeps its presentation time.
    fn climbing(&self, mapped: MediaTime, kind: MediaKind) -> (MediaTime, MediaTime) {
        let Some(last) = self.last_dts.filter(|last| mapped <= *last) else {
            return (mapped, mapped);
        };
        let dts = MediaTime::from_nanos(last.nanos() + 11_112);
        let reordered = kind == MediaKind::Video && last.signed_since(mapped) < REORDERED;
        (if reordered { mapped } else { dts }, dts)
    }
}

impl KeyFrameRequests {
    /// When the next request goes out, if one is needed.
    fn due(&self, spacing: Duration, awaits_key: bool, last_packet: Instant) -> Option<Instant> {
        let retry = awaits_key.then_some(KEY_FRAME_RETRY.max(spacing));
        let pause = if self.wanted { Some(spacing) } else { retry }?;
        match self.last {
            None => Some(last_packet),
            // a sender that is silent is not asked again and again
            Some(last) if last < last_packet || self.wanted => Some(last + pause),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod road_tests;
