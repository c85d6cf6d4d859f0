//! The beginning of a live recording: waiting until its tracks are known, so that the graph can be planned.

use std::time::{Duration, SystemTime};

use loom_core::codec::opus;
use loom_core::{CodecParameters, Media, MediaKind, TrackFormat, TrackId, WallClock};
use loom_ingest::{CloseReason, SessionEvent};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::source::Source;

/// Once one track has begun, how long offered sound may take to do so; sound that is later begins with silence.
const SOUND_LIMIT: Duration = Duration::from_millis(1_500);

/// The same for pictures, which need a key frame to begin.
pub(crate) const PICTURE_LIMIT: Duration = Duration::from_secs(8);

/// The same for further pictures, a camera or the larger layers of a simulcast, where some have begun.
const FURTHER_LIMIT: Duration = Duration::from_secs(4);

/// So many sounds there may be, with those that are silent at first: each costs a graph. Others that begin late are not recorded.
pub(crate) const SOUNDS: usize = 4;

/// Items held back until the graph is there: more than [`PICTURE_LIMIT`] of a busy track.
const HELD_BACK: usize = 4_096;

/// What came before the graph could be planned.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// The tracks that have begun, in the order of the offer once it is all there.
    pub(crate) formats: Vec<TrackFormat>,
    /// All that came so far.
    pub(crate) held: Vec<Media>,
    /// When the session's zero was.
    zero: Option<Instant>,
    /// When the first key frame came.
    pub(crate) first_key_frame: Option<Instant>,
    /// The publisher is gone already.
    pub(crate) closed: Option<CloseReason>,
    offered: Vec<(TrackId, MediaKind)>,
    /// What cannot begin as silence.
    loud: Vec<TrackId>,
    heard: Vec<TrackId>,
    began: Option<Instant>,
    /// What has not come by now is not waited for.
    late: bool,
}

impl Gathered {
    fn new(offered: &[(TrackId, MediaKind)]) -> Self {
        Self {
            formats: Vec::new(),
            held: Vec::new(),
            zero: None,
            first_key_frame: None,
            closed: None,
            offered: offered.to_vec(),
            loud: Vec::new(),
            heard: Vec::new(),
            began: None,
            late: false,
        }
    }

    /// Nothing yet of what `session` offers.
    pub(crate) fn of(session: &Source) -> Self {
        let tracks = session.tracks();
        let offered: Vec<_> = tracks.iter().map(|track| (track.id, track.kind)).collect();
        let loud = tracks.iter().filter(|track| !session.begins_silent(track));
        Self {
            loud: loud.map(|track| track.id).collect(),
            ..Self::new(&offered)
        }
    }

    /// Nothing yet of what a session sends whose formats are known, after a pause; `awaited` are the tracks to wait for.
    pub(crate) fn again(formats: Vec<TrackFormat>, awaited: &[(TrackId, MediaKind)]) -> Self {
        Self {
            formats,
            ..Self::new(awaited)
        }
    }

    /// When the first packet came.
    pub(crate) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// When the session's zero was.
    pub(crate) fn zero(&self) -> Option<Instant> {
        self.zero
    }

    /// Where the session's zero lies on the wall clock.
    pub(crate) fn wall_clock(&self) -> Option<WallClock> {
        let zero = SystemTime::now().checked_sub(self.zero?.elapsed())?;
        Some(WallClock { zero })
    }

    /// What has not come by now is not waited for.
    pub(crate) fn give_up(&mut self) {
        self.late = true;
    }

    /// Leaves out what has a format but no media.
    pub(crate) fn settle(&mut self) {
        let heard = &self.heard;
        self.formats.retain(|format| heard.contains(&format.track));
        self.formats.sort_by_key(|format| format.track);
        for (track, kind) in &self.offered {
            if !heard.contains(track) {
                tracing::info!(%track, ?kind, "an offered track has not begun yet");
            }
        }
    }

    /// The sound that is offered and silent so far: a microphone that is muted may be switched on at any time.
    pub(crate) fn silent(&self) -> Vec<TrackFormat> {
        let is_sound = |format: &&TrackFormat| format.codec.kind() == MediaKind::Audio;
        let more = SOUNDS.saturating_sub(self.formats.iter().filter(is_sound).count());
        let offered = self.offered.iter();
        offered
            .filter(|(track, kind)| *kind == MediaKind::Audio && !self.heard.contains(track))
            .filter(|(track, _)| !self.loud.contains(track))
            .take(more)
            .map(|(track, _)| TrackFormat {
                track: *track,
                codec: CodecParameters::Audio(opus::rtp_parameters()),
            })
            .collect()
    }

    pub(crate) fn handle_event(&mut self, event: Option<SessionEvent>, now: Instant) {
        match event {
            Some(SessionEvent::Media(media)) => self.handle_media(media, now),
            Some(SessionEvent::Closed(why)) => self.closed = Some(why),
            Some(_) => {}
            None => self.closed = Some(CloseReason::ByHost),
        }
    }

    fn handle_media(&mut self, media: Media, now: Instant) {
        match &media {
            Media::Format(format) => {
                match self.formats.iter_mut().find(|known| known.track == format.track) {
                    None => self.formats.push(format.clone()),
                    Some(known) => *known = format.clone(),
                }
            }
            Media::Packet(packet) => {
                if !self.heard.contains(&packet.track) {
                    self.heard.push(packet.track);
                }
                self.began.get_or_insert(now);
                let is_video =
                    |f: &TrackFormat| f.track == packet.track && f.codec.kind() == MediaKind::Video;
                if packet.key && self.formats.iter().any(is_video) {
                    self.first_key_frame.get_or_insert(now);
                }
                let age = Duration::from_nanos(packet.pts.nanos().max(0) as u64);
                self.zero.get_or_insert(now.checked_sub(age).unwrap_or(now));
            }
            Media::Gap(_) | Media::End(_) => {}
        }
        self.held.push(media);
    }

    /// Whether more is waited for, and until when.
    pub(crate) fn waits(&self) -> Option<Option<Instant>> {
        let begun = |track: &TrackId| {
            self.heard.contains(track) && self.formats.iter().any(|format| format.track == *track)
        };
        let missing: Vec<MediaKind> = self
            .offered
            .iter()
            .filter(|(track, _)| !begun(track))
            .map(|(_, kind)| *kind)
            .collect();
        if self.late || self.closed.is_some() || missing.is_empty() || self.held.len() >= HELD_BACK {
            return None;
        }
        let pictures = self
            .formats
            .iter()
            .any(|format| format.codec.kind() == MediaKind::Video && begun(&format.track));
        let limit = match missing.contains(&MediaKind::Video) {
            true if pictures => FURTHER_LIMIT,
            true => PICTURE_LIMIT,
            false => SOUND_LIMIT,
        };
        Some(self.began.map(|began| began + limit))
    }
}

/// Somebody wants the recording to end. Cancellation safe.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use loom_core::{MediaTime, Packet, VideoCodec, VideoParameters};

    use super::*;

    const VIDEO: TrackId = TrackId(0);
    const AUDIO: TrackId = TrackId(1);

    fn format(track: TrackId) -> Media {
        let codec = if track == VIDEO {
            let (codec, config) = (VideoCodec::Vp8, Bytes::new());
            CodecParameters::Video(VideoParameters {
                codec,
                width: 640,
                height: 360,
                config,
            })
        } else {
            CodecParameters::Audio(opus::parameters(2, 0))
        };
        Media::Format(TrackFormat { track, codec })
    }

    fn packet(track: TrackId) -> Media {
        let (pts, data) = (MediaTime::ZERO, Bytes::from_static(b"x"));
        Media::Packet(Packet {
            track,
            pts,
            dts: pts,
            duration: None,
            key: true,
            data,
        })
    }

    #[test]
    fn both_offered_tracks_are_waited_for_from_the_first_packet_on() {
        let now = Instant::now();
        let mut got = Gathered::new(&[(AUDIO, MediaKind::Audio), (VIDEO, MediaKind::Video)]);
        got.handle_media(format(AUDIO), now);
        assert_eq!(got.waits(), Some(None), "a format alone may come from the offer");
        got.handle_media(packet(AUDIO), now);
        assert_eq!(got.waits(), Some(Some(now + PICTURE_LIMIT)));
        got.handle_media(format(VIDEO), now);
        got.handle_media(packet(VIDEO), now);
        assert_eq!(got.waits(), None);
        assert_eq!(got.held.len(), 4);
    }

    #[test]
    fn sound_is_waited_for_less_long_than_pictures() {
        let now = Instant::now();
        let mut got = Gathered::new(&[(AUDIO, MediaKind::Audio), (VIDEO, MediaKind::Video)]);
        got.handle_media(format(VIDEO), now);
        got.handle_media(packet(VIDEO), now);
        assert_eq!(got.waits(), Some(Some(now + SOUND_LIMIT)));
    }

    #[test]
    fn a_microphone_that_is_muted_is_prepared_for_unless_there_is_sound_enough() {
        let mut offered: Vec<_> = (1..=6).map(|id| (TrackId(id), MediaKind::Audio)).collect();
        offered.push((VIDEO, MediaKind::Video));
        let mut got = Gathered::new(&offered);
        for track in [VIDEO, TrackId(3)] {
            got.handle_media(format(track), Instant::now());
            got.handle_media(packet(track), Instant::now());
        }
        got.settle();
        let silent: Vec<u32> = got.silent().iter().map(|format| format.track.0).collect();
        assert_eq!(silent, [1, 2, 4], "with the one that is heard they are {SOUNDS}");
    }

    #[test]
    fn a_session_that_ends_ends_the_wait() {
        let mut got = Gathered::new(&[(VIDEO, MediaKind::Video)]);
        got.handle_event(
            Some(SessionEvent::Closed(CloseReason::ConnectTimeout)),
            Instant::now(),
        );
        assert_eq!(got.waits(), None);
        assert_eq!(got.closed, Some(CloseReason::ConnectTimeout));
    }
}
