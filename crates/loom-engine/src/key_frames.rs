//! When the publisher is asked for a key frame, so that a segment can begin.

use std::time::Duration;

use loom_core::{MediaTime, TrackId};

/// Decides when the publisher is asked for key frames, so that segments can begin: of the main picture every so often, and of
/// the others with it, so that their segments can begin together. Where the main one stands still, each goes by itself.
#[derive(Debug)]
pub(crate) struct KeyFrames {
    every: Duration,
    /// The main one first, if there is one.
    pictures: Vec<Picture>,
}

#[derive(Debug)]
struct Picture {
    track: TrackId,
    /// The first segment is short, so that viewers can begin soon: a playlist without a whole segment plays nowhere.
    wait: Duration,
    last_key: Option<MediaTime>,
    last_request: Option<MediaTime>,
}

impl Picture {
    fn new(track: TrackId, wait: Duration) -> Self {
        Self {
            track,
            wait,
            last_key: None,
            last_request: None,
        }
    }
}

impl KeyFrames {
    /// A request that brought nothing is repeated after this long.
    const REPEAT: Duration = Duration::from_millis(400);

    /// How long the first segment is to be.
    const FIRST: Duration = Duration::from_millis(600);

    /// `main` leads the others.
    pub(crate) fn new(
        main: Option<TrackId>,
        others: impl IntoIterator<Item = TrackId>,
        every: Duration,
    ) -> Self {
        let others = others.into_iter().filter(|_| main.is_some());
        let first = every.min(Self::FIRST);
        let all = main.into_iter().chain(others);
        Self {
            every,
            pictures: all.map(|track| Picture::new(track, first)).collect(),
        }
    }

    /// Another picture, that begins late: it follows the main one from its first key frame on, or is the main one where there is none.
    pub(crate) fn add(&mut self, track: TrackId) {
        self.pictures.push(Picture::new(track, self.every));
    }

    /// The tracks to ask for a key frame now.
    pub(crate) fn handle_packet(&mut self, track: TrackId, pts: MediaTime, key: bool) -> Vec<TrackId> {
        if let Some(picture) = self.pictures.iter_mut().find(|it| it.track == track && key) {
            if picture.last_key.is_some() {
                picture.wait = self.every;
            }
            picture.last_key = Some(pts);
            picture.last_request = None;
        }
        // Sound moves on where pictures stand still, so any track's packet may make a request due.
        let is_due = |picture: &Picture, wait: Duration| {
            let rested = picture.last_request.is_none_or(|at| pts >= at + Self::REPEAT);
            rested && picture.last_key.is_some_and(|key| pts >= key + wait)
        };
        // Where nothing comes of that, the others are not asked again with it.
        let leads = |main: &Picture| main.last_request.is_none() && is_due(main, main.wait);
        let led = self.pictures.first().is_some_and(leads);
        let mut asked = Vec::new();
        for (at, picture) in self.pictures.iter_mut().enumerate() {
            let wait = match at {
                0 => picture.wait,
                // what comes a little early need not come twice
                _ if led => picture.wait / 2,
                _ => picture.wait + Self::REPEAT,
            };
            if is_due(picture, wait) {
                picture.last_request = Some(pts);
                asked.push(picture.track);
            }
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: TrackId = TrackId(0);
    const AUDIO: TrackId = TrackId(1);
    const CAMERA: TrackId = TrackId(2);

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    fn keys(main: Option<TrackId>, others: &[TrackId]) -> KeyFrames {
        KeyFrames::new(main, others.iter().copied(), Duration::from_secs(2))
    }

    #[test]
    fn a_key_frame_is_asked_for_once_a_segment_and_again_where_none_came() {
        let mut keys = keys(Some(VIDEO), &[]);
        assert_eq!(keys.handle_packet(VIDEO, ms(0), true), []);
        assert_eq!(keys.handle_packet(VIDEO, ms(590), false), []);
        assert_eq!(
            keys.handle_packet(VIDEO, ms(600), false),
            [VIDEO],
            "the first segment is short"
        );
        assert_eq!(keys.handle_packet(VIDEO, ms(633), true), []);
        assert_eq!(keys.handle_packet(VIDEO, ms(2_632), false), []);
        assert_eq!(keys.handle_packet(VIDEO, ms(2_633), false), [VIDEO]);
        assert_eq!(keys.handle_packet(VIDEO, ms(2_666), false), []);
        assert_eq!(keys.handle_packet(VIDEO, ms(3_033), false), [VIDEO]);
        assert_eq!(keys.handle_packet(VIDEO, ms(3_066), true), []);
        assert_eq!(keys.handle_packet(VIDEO, ms(5_033), false), []);
    }

    #[test]
    fn sound_asks_for_a_key_frame_where_the_picture_stands_still() {
        let mut keys = keys(Some(VIDEO), &[]);
        assert_eq!(keys.handle_packet(AUDIO, ms(0), true), []);
        keys.handle_packet(VIDEO, ms(0), true);
        assert_eq!(keys.handle_packet(AUDIO, ms(620), true), [VIDEO]);
    }

    #[test]
    fn a_recording_without_pictures_asks_for_none() {
        let mut keys = keys(None, &[]);
        assert_eq!(keys.handle_packet(AUDIO, ms(9_000), true), []);
    }

    #[test]
    fn all_pictures_are_asked_together() {
        let mut keys = keys(Some(VIDEO), &[CAMERA]);
        keys.handle_packet(VIDEO, ms(0), true);
        keys.handle_packet(CAMERA, ms(20), true);
        assert_eq!(keys.handle_packet(CAMERA, ms(590), false), []);
        assert_eq!(keys.handle_packet(VIDEO, ms(600), false), [VIDEO, CAMERA]);
    }

    #[test]
    fn a_picture_beside_one_that_stands_still_is_asked_no_more_often_than_a_segment_is_long() {
        let mut keys = keys(Some(VIDEO), &[CAMERA]);
        keys.handle_packet(VIDEO, ms(0), true);
        let mut camera = Vec::new();
        let mut owed = true;
        for at in (0..20_000).step_by(33) {
            // what is asked for comes with the next picture
            let asked = keys.handle_packet(CAMERA, ms(at), std::mem::take(&mut owed));
            if asked.contains(&CAMERA) {
                camera.push(at);
                owed = true;
            }
        }
        assert!((7..=12).contains(&camera.len()), "{camera:?}");
        assert!(
            camera.windows(2).skip(1).all(|two| two[1] - two[0] >= 2_000),
            "{camera:?}"
        );
    }

    #[test]
    fn a_picture_that_begins_late_is_asked_with_the_main_one() {
        let mut keys = keys(Some(VIDEO), &[]);
        for at in [0, 700] {
            keys.handle_packet(VIDEO, ms(at), true);
        }
        keys.add(CAMERA);
        assert_eq!(keys.handle_packet(CAMERA, ms(1_000), true), []);
        assert_eq!(keys.handle_packet(CAMERA, ms(2_690), false), []);
        assert_eq!(keys.handle_packet(VIDEO, ms(2_700), false), [VIDEO, CAMERA]);
    }
}
