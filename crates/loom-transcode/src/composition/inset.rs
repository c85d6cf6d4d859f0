//! Where the camera lies at an instant, and when it next lies elsewhere.

use std::time::Duration;

use loom_core::MediaTime;

use super::{CameraShape, Composition, Corner, Place, Placement};

/// A camera's picture as it lies over another: pixels, of which the edges may lie between two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Inset {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
    /// Of its corners.
    pub(crate) radius: f64,
    /// 0.0 ..= 1.0.
    pub(crate) opacity: f64,
}

impl Inset {
    fn of(placement: &Placement, screen: (u32, u32), camera: (u32, u32)) -> Self {
        let (wide, high) = (f64::from(screen.0), f64::from(screen.1));
        let aspect = match placement.shape {
            CameraShape::Circle => 1.0,
            CameraShape::Rectangle => f64::from(camera.0.max(1)) / f64::from(camera.1.max(1)),
        };
        let height = (placement.size * high).min(wide / aspect);
        let width = height * aspect;
        let margin = MARGIN * wide.min(high);
        let (x, y) = match placement.place {
            Place::Corner(corner) => {
                let (right, low) = match corner {
                    Corner::TopLeft => (false, false),
                    Corner::TopRight => (true, false),
                    Corner::BottomLeft => (false, true),
                    Corner::BottomRight => (true, true),
                };
                (
                    if right { wide - margin - width } else { margin },
                    if low { high - margin - height } else { margin },
                )
            }
            Place::Centre { x, y } => (x * wide - width / 2.0, y * high - height / 2.0),
        };
        Self {
            left: x.min(wide - width).max(0.0),
            top: y.min(high - height).max(0.0),
            width,
            height,
            radius: match placement.shape {
                CameraShape::Circle => height / 2.0,
                CameraShape::Rectangle => height / 16.0,
            },
            opacity: if placement.hidden { 0.0 } else { 1.0 },
        }
    }

    /// So much of the way from this to another: slowly at both its ends. What is hidden comes and goes where it is seen.
    fn towards(self, other: Self, gone: f64) -> Self {
        let gone = gone * gone * (3.0 - 2.0 * gone);
        let opacity = self.opacity + (other.opacity - self.opacity) * gone;
        if self.opacity == 0.0 {
            return Self { opacity, ..other };
        }
        if other.opacity == 0.0 {
            return Self { opacity, ..self };
        }
        let mix = |from: f64, to: f64| from + (to - from) * gone;
        Self {
            left: mix(self.left, other.left),
            top: mix(self.top, other.top),
            width: mix(self.width, other.width),
            height: mix(self.height, other.height),
            radius: mix(self.radius, other.radius),
            opacity,
        }
    }
}

impl Composition {
    /// What of the camera lies where at an instant, in pictures of these sizes, pixels; `None` where nothing of it is seen.
    pub(crate) fn inset(&self, at: MediaTime, screen: (u32, u32), camera: (u32, u32)) -> Option<Inset> {
        let (nth, gone) = self.glide(at)?;
        let now = Inset::of(&self.placements[nth], screen, camera);
        let seen = match nth.checked_sub(1).filter(|_| gone < 1.0) {
            None => now,
            Some(before) => Inset::of(&self.placements[before], screen, camera).towards(now, gone),
        };
        (seen.opacity > 0.0).then_some(seen)
    }

    /// When the camera next lies otherwise than right now: `step` further on while it glides, else when the next placement begins.
    pub(crate) fn next_change(&self, now: MediaTime, step: Duration) -> Option<MediaTime> {
        let (nth, gone) = self.glide(now)?;
        let next = self.placements.get(nth + 1).map(|next| time(next.at));
        if gone >= 1.0 {
            return next;
        }
        let end = time(self.placements[nth].at) + self.length(nth);
        Some(end.min(now + step))
    }

    /// The placement that holds at an instant, and how much of the way to it is gone, 0.0 ..= 1.0.
    fn glide(&self, at: MediaTime) -> Option<(usize, f64)> {
        let begun = self.placements.iter().take_while(|it| time(it.at) <= at).count();
        let Some(nth) = begun.checked_sub(1).filter(|nth| *nth > 0) else {
            return (!self.placements.is_empty()).then_some((0, 1.0));
        };
        let since = at.since(time(self.placements[nth].at));
        let gone = since.as_secs_f64() / self.length(nth).as_secs_f64().max(1e-9);
        Some((nth, gone.min(1.0)))
    }

    /// How long the way to a placement takes: no longer than that holds.
    fn length(&self, nth: usize) -> Duration {
        let next = self.placements.get(nth + 1).map(|next| time(next.at));
        next.map_or(Self::GLIDE, |next| {
            Self::GLIDE.min(next.since(time(self.placements[nth].at)))
        })
    }
}

fn time(seconds: f64) -> MediaTime {
    MediaTime::from_secs_f64(seconds)
}

/// How far a corner's camera is from the edges, of the picture's shorter side.
const MARGIN: f64 = 0.035;

#[cfg(test)]
mod tests {
    use super::*;

    const SCREEN: (u32, u32) = (1280, 720);
    const CAMERA: (u32, u32) = (640, 480);

    fn two(first: Placement, second: Placement) -> Composition {
        Composition {
            placements: vec![first, second],
        }
    }

    fn at(composition: &Composition, ms: i64) -> Option<Inset> {
        composition.inset(MediaTime::from_millis(ms), SCREEN, CAMERA)
    }

    #[test]
    fn a_camera_lies_in_its_corner_and_whole_in_the_picture() {
        let seen = at(&Composition::default(), 0).expect("it is seen");
        let margin = 0.035 * 720.0;
        assert_eq!((seen.width, seen.height), (0.22 * 720.0, 0.22 * 720.0));
        assert_eq!((seen.left, seen.radius), (margin, 0.11 * 720.0));
        assert!((seen.top + seen.height + margin - 720.0).abs() < 1e-9);
        let wide = Composition {
            placements: vec![Placement {
                shape: CameraShape::Rectangle,
                place: Place::Centre { x: 1.0, y: 0.0 },
                size: 0.5,
                ..Placement::default()
            }],
        };
        let seen = at(&wide, 0).expect("it is seen");
        assert_eq!((seen.width, seen.height, seen.radius), (480.0, 360.0, 22.5));
        assert_eq!((seen.left, seen.top), (800.0, 0.0));
    }

    #[test]
    fn a_change_is_a_glide_that_begins_with_it_and_what_is_hidden_fades() {
        let there = Placement {
            at: 2.0,
            place: Corner::BottomRight.into(),
            size: 0.44,
            ..Placement::default()
        };
        let moved = two(Placement::default(), there.clone());
        let [before, start, middle, end] =
            [1_999, 2_000, 2_150, 2_300].map(|ms| at(&moved, ms).expect("it is seen"));
        assert_eq!(before, start);
        assert!((middle.left - (start.left + end.left) / 2.0).abs() < 1e-6);
        assert!((middle.height - 0.33 * 720.0).abs() < 1e-6);
        assert_eq!(at(&moved, 9_000), Some(end));

        let gone = two(
            Placement::default(),
            Placement {
                hidden: true,
                ..there.clone()
            },
        );
        let half = at(&gone, 2_150).expect("half of it is seen");
        assert_eq!((half.left, half.opacity), (start.left, 0.5));
        assert_eq!(at(&gone, 2_300), None);
        let comes = two(
            Placement {
                hidden: true,
                ..Placement::default()
            },
            there,
        );
        assert_eq!(at(&comes, 1_000), None);
        assert_eq!(
            at(&comes, 2_150).map(|it| (it.left, it.opacity)),
            Some((end.left, 0.5))
        );
    }

    #[test]
    fn what_changes_next_is_told_step_by_step_while_it_glides() {
        let ms = MediaTime::from_millis;
        let moved = two(
            Placement {
                at: 1.0,
                ..Placement::default()
            },
            Placement {
                at: 2.0,
                ..Placement::default()
            },
        );
        let next = |now| moved.next_change(ms(now), Duration::from_millis(125));
        assert_eq!(next(0), Some(ms(2_000)));
        assert_eq!(next(1_500), Some(ms(2_000)));
        assert_eq!(next(2_000), Some(ms(2_125)));
        assert_eq!(next(2_250), Some(ms(2_300)));
        assert_eq!(next(2_300), None);
    }
}
