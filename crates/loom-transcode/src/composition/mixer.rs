//! When a composed picture comes: whenever one of both changes, or the camera moves, and no more often than wanted.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use loom_core::MediaTime;

use super::Composition;

/// Whose pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Screen,
    Camera,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// From here on the next picture of this lane is shown.
    Show(Lane),
    /// The camera has no picture any more, until its next.
    Hide,
    /// A picture of what is shown, at this instant: each is later than the one before.
    Compose(MediaTime),
    /// There is no more. Here is the end.
    Done(MediaTime),
}

/// Brings the pictures of both lanes onto one line.
#[derive(Debug)]
pub(crate) struct Mixer {
    /// The time from one picture to the next at the rate that is wanted.
    usual: Duration,
    now: MediaTime,
    last: Option<MediaTime>,
    /// Since when there is something to be seen that the last picture does not show.
    changed: Option<MediaTime>,
    has_screen: bool,
    /// How long the camera's picture lasts, where there is one.
    camera: Option<MediaTime>,
    end: MediaTime,
    /// Where pictures of the screen begin that must be seen at once, in order of time.
    at_once: VecDeque<MediaTime>,
    /// One of these has begun.
    is_due: bool,
}

impl Mixer {
    /// So many pictures a second, and for a while three quarters more: as many as each of both has at most. Where both have as many, there are no
    /// more, and each is seen at most half the time from one to the next after it came, and at 30 a second always within 20 ms; but one of the
    /// screen that begins at one of the instants `at_once` is seen there.
    pub(crate) fn new(rate: f64, at_once: impl IntoIterator<Item = MediaTime>) -> Self {
        Self {
            usual: Duration::from_secs_f64(1.0 / rate),
            now: MediaTime::from_nanos(i64::MIN),
            last: None,
            changed: None,
            has_screen: false,
            camera: None,
            end: MediaTime::from_nanos(i64::MIN),
            at_once: at_once.into_iter().collect(),
            is_due: false,
        }
    }

    /// What is next: `screen` and `camera` are how long the next picture of each lasts, `None` where there is none.
    pub(crate) fn poll(
        &mut self,
        screen: Option<&Range<MediaTime>>,
        camera: Option<&Range<MediaTime>>,
        composition: &Composition,
    ) -> Step {
        for next in [screen, camera].into_iter().flatten() {
            self.end = self.end.max(next.end);
        }
        if std::mem::take(&mut self.is_due) {
            return self.compose(self.now);
        }
        loop {
            let gone = self
                .camera
                .filter(|end| camera.is_none_or(|next| next.start > *end + AWAY));
            let moves = composition
                .next_change(self.now, self.usual)
                .filter(|at| self.camera.is_some() && self.has_screen && *at < self.end);
            let events = [
                screen.map(|it| (it.start, Some(Step::Show(Lane::Screen)))),
                camera.map(|it| (it.start, Some(Step::Show(Lane::Camera)))),
                gone.map(|at| (at, Some(Step::Hide))),
                moves.map(|at| (at, None)),
            ];
            // of several at once the first
            let next = events.into_iter().flatten().min_by_key(|(at, _)| *at);
            let soonest = self.last.map_or(self.now, |last| last + self.usual * 4 / 7);
            let due = self.now.max(soonest);
            // what changes right behind it is seen with it
            let wait = self.changed.map_or(due, |at| due.max(at + self.usual / 2));
            let is_due = self.changed.is_some() && self.has_screen && due < self.end;
            match next {
                Some((at, _)) if is_due && wait < at => return self.compose(due),
                None if is_due => return self.compose(due),
                None => return Step::Done(self.end),
                Some((at, step)) => {
                    self.now = self.now.max(at);
                    self.changed.get_or_insert(self.now);
                    match step {
                        Some(Step::Show(Lane::Screen)) => {
                            self.has_screen = true;
                            self.is_due = self.is_at_once();
                        }
                        Some(Step::Show(Lane::Camera)) => self.camera = camera.map(|it| it.end),
                        Some(_) => self.camera = None,
                        None => {}
                    }
                    if let Some(step) = step {
                        return step;
                    }
                }
            }
        }
    }

    /// Whether the screen's picture begins at one of the instants that wait for no picture of the camera.
    fn is_at_once(&mut self) -> bool {
        let before = self.at_once.len();
        let now = self.now;
        while self.at_once.pop_front_if(|at| *at <= now + ROUNDING).is_some() {}
        self.at_once.len() < before
    }

    fn compose(&mut self, at: MediaTime) -> Step {
        self.changed = None;
        (self.now, self.last) = (at, Some(at));
        Step::Compose(at)
    }
}

/// By so much the times that playlists add up may differ from the pictures' own.
pub(crate) const ROUNDING: Duration = Duration::from_millis(2);
/// After so long without a picture, past the end of its last, a camera is taken for gone.
const AWAY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::super::{Place, Placement};
    use super::*;

    /// The times of composed pictures, ms, each with the numbers of the pictures that it shows; and the end.
    fn mixed(
        screen: &[(i64, i64)],
        camera: &[(i64, i64)],
        composition: &Composition,
    ) -> (Vec<(i64, usize, usize)>, i64) {
        mixed_at(&[], screen, camera, composition)
    }

    fn mixed_at(
        at_once: &[i64],
        screen: &[(i64, i64)],
        camera: &[(i64, i64)],
        composition: &Composition,
    ) -> (Vec<(i64, usize, usize)>, i64) {
        let ms = MediaTime::from_millis;
        let spans = |of: &[(i64, i64)]| of.iter().map(|(at, to)| ms(*at)..ms(*to)).collect::<Vec<_>>();
        let (screen, camera) = (spans(screen), spans(camera));
        let (mut seen, mut shown, mut hidden) = ([0, 0], Vec::new(), false);
        let mut mixer = Mixer::new(40.0, at_once.iter().map(|at| ms(*at)));
        loop {
            match mixer.poll(screen.get(seen[0]), camera.get(seen[1]), composition) {
                Step::Show(Lane::Screen) => seen[0] += 1,
                Step::Show(Lane::Camera) => (seen[1], hidden) = (seen[1] + 1, false),
                Step::Hide => hidden = true,
                Step::Compose(at) => shown.push((at.millis(), seen[0], if hidden { 0 } else { seen[1] })),
                Step::Done(end) => return (shown, end.millis()),
            }
            assert!(shown.len() < 1_000);
        }
    }

    fn every(step: i64, from: i64, to: i64) -> Vec<(i64, i64)> {
        (from..to)
            .step_by(step as usize)
            .map(|at| (at, at + step))
            .collect()
    }

    #[test]
    fn a_picture_comes_when_either_changes_and_no_sooner_than_the_rate_allows() {
        let still = Composition::default();
        let (shown, end) = mixed(&[(0, 1_000)], &every(50, 0, 1_000), &still);
        assert_eq!(
            shown.iter().map(|it| it.0).collect::<Vec<_>>(),
            (0..1_000).step_by(50).collect::<Vec<_>>()
        );
        assert_eq!(end, 1_000);
        // 25 a second each, 10 ms apart: one picture shows both
        let (shown, _) = mixed(&every(40, 0, 200), &every(40, 10, 210), &still);
        assert_eq!(shown[..4], [(10, 1, 1), (50, 2, 2), (90, 3, 3), (130, 4, 4)]);
        let (shown, _) = mixed(&every(25, 0, 1_000), &every(25, 20, 1_000), &still);
        assert!(
            shown[..39].iter().all(|it| it.0 % 25 == 0),
            "20 ms after one are 5 ms before the next: {shown:?}"
        );
        assert!((39..=41).contains(&shown.len()));
        let (shown, _) = mixed(&every(10, 0, 1_000), &every(10, 5, 995), &still);
        assert!(
            shown.len() <= 71,
            "at most 40 and three quarters more: {}",
            shown.len()
        );
        assert!(shown.windows(2).all(|it| it[1].0 - it[0].0 >= 14), "{shown:?}");
    }

    #[test]
    fn a_picture_of_the_screen_that_is_due_at_once_waits_for_none_of_the_camera() {
        let still = Composition::default();
        let (shown, _) = mixed_at(&[0, 81], &every(40, 0, 200), &every(40, 10, 210), &still);
        let times: Vec<i64> = shown.iter().map(|it| it.0).collect();
        assert_eq!(times[0], 0, "{shown:?}");
        let place = times.iter().position(|at| *at == 80);
        assert_eq!(place.map(|at| shown[at]), Some((80, 3, 2)), "{shown:?}");
        assert!(times.windows(2).all(|it| it[0] < it[1]), "{shown:?}");
        assert!(!times.contains(&120), "it was not due at once: {shown:?}");
    }

    #[test]
    fn nothing_is_shown_before_the_screen_and_a_camera_that_went_is_hidden() {
        let still = Composition::default();
        let (shown, end) = mixed(&[(300, 5_000)], &every(100, 0, 600), &still);
        assert_eq!(shown[0], (300, 1, 4));
        assert_eq!(
            shown.last(),
            Some(&(600, 1, 0)),
            "its last picture ends at 600 ms"
        );
        assert_eq!(end, 5_000);
        let comes_back = [every(100, 0, 300), every(100, 2_000, 2_200)].concat();
        let (shown, _) = mixed(&[(0, 5_000)], &comes_back, &still);
        let of = |at| shown.iter().find(|it| it.0 == at).map(|it| it.2);
        assert_eq!(
            [of(200), of(300), of(2_000), of(2_200)],
            [Some(3), Some(0), Some(4), Some(0)]
        );
        let late = [(0, 100), (450, 600)];
        let (shown, _) = mixed(&[(0, 600)], &late, &still);
        assert!(
            shown.iter().all(|it| it.2 > 0),
            "350 ms are no absence: {shown:?}"
        );
    }

    #[test]
    fn a_camera_glides_over_a_screen_that_stands_still() {
        let moved = Composition {
            placements: vec![
                Placement::default(),
                Placement {
                    at: 1.0,
                    place: Place::Centre { x: 0.5, y: 0.5 },
                    ..Placement::default()
                },
            ],
        };
        let (shown, _) = mixed(&[(0, 3_000)], &[(0, 3_000)], &moved);
        let times: Vec<i64> = shown.iter().map(|it| it.0).collect();
        let glide: Vec<i64> = (1_000..=1_300).step_by(25).collect();
        assert_eq!(times, [vec![0], glide].concat());
    }
}
