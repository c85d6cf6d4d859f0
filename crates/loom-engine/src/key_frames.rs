//! When the publisher is asked for a key frame, so that a segment can begin.

use std::time::Duration;

use loom_core::{MediaTime, TrackId};

/// Decides when the publisher is asked for a key frame, so that a segment can begin.
#[derive(Debug)]
pub(crate) struct KeyFrames {
    video: Option<TrackId>,
    every: Duration,
    /// The first segment is short, so that viewers can begin soon: a playlist without a whole segment plays nowhere.
    wait: Duration,
    last_key: Option<MediaTime>,
    last_request: Option<MediaTime>,
}

impl KeyFrames {
    /// A request that brought nothing is repeated after this long.
    const REPEAT: Duration = Duration::from_millis(400);

    /// How long the first segment is to be.
    const FIRST: Duration = Duration::from_millis(600);

    pub(crate) fn new(video: Option<TrackId>, every: Duration) -> Self {
        Self {
            video,
            every,
            wait: every.min(Self::FIRST),
            last_key: None,
            last_request: None,
        }
    }

    /// The track to ask for a key frame now, if any.
    pub(crate) fn handle_packet(&mut self, track: TrackId, pts: MediaTime, key: bool) -> Option<TrackId> {
        let video = self.video?;
        if track == video && key {
            if self.last_key.is_some() {
                self.wait = self.every;
            }
            self.last_key = Some(pts);
            self.last_request = None;
        }
        // Sound moves on where pictures stand still, so any track's packet may make a request due.
        let due = self.last_key? + self.wait;
        let rested = self.last_request.is_none_or(|at| pts >= at + Self::REPEAT);
        if pts < due || !rested {
            return None;
        }
        self.last_request = Some(pts);
        Some(video)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: TrackId = TrackId(0);
    const AUDIO: TrackId = TrackId(1);

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    #[test]
    fn a_key_frame_is_asked_for_once_a_segment_and_again_where_none_came() {
        let mut keys = KeyFrames::new(Some(VIDEO), Duration::from_secs(2));
        assert_eq!(keys.handle_packet(VIDEO, ms(0), true), None);
        assert_eq!(keys.handle_packet(VIDEO, ms(590), false), None);
        assert_eq!(
            keys.handle_packet(VIDEO, ms(600), false),
            Some(VIDEO),
            "the first segment is short"
        );
        assert_eq!(keys.handle_packet(VIDEO, ms(633), true), None);
        assert_eq!(keys.handle_packet(VIDEO, ms(2_632), false), None);
        assert_eq!(keys.handle_packet(VIDEO, ms(2_633), false), Some(VIDEO));
        assert_eq!(keys.handle_packet(VIDEO, ms(2_666), false), None);
        assert_eq!(keys.handle_packet(VIDEO, ms(3_033), false), Some(VIDEO));
        assert_eq!(keys.handle_packet(VIDEO, ms(3_066), true), None);
        assert_eq!(keys.handle_packet(VIDEO, ms(5_033), false), None);
    }

    #[test]
    fn sound_asks_for_a_key_frame_where_the_picture_stands_still() {
        let mut keys = KeyFrames::new(Some(VIDEO), Duration::from_secs(2));
        assert_eq!(keys.handle_packet(AUDIO, ms(0), true), None);
        keys.handle_packet(VIDEO, ms(0), true);
        assert_eq!(keys.handle_packet(AUDIO, ms(620), true), Some(VIDEO));
    }

    #[test]
    fn a_recording_without_pictures_asks_for_none() {
        let mut keys = KeyFrames::new(None, Duration::from_secs(2));
        assert_eq!(keys.handle_packet(AUDIO, ms(9_000), true), None);
    }
}
