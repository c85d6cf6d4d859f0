//! Screen and camera in one picture: where the camera lies, over time.

#[cfg(any(test, feature = "gst"))]
mod mixer;
#[cfg(any(test, feature = "gst"))]
mod overlay;
#[cfg(any(test, feature = "gst"))]
mod scale;

use std::time::Duration;

use loom_core::MediaTime;
use serde::{Deserialize, Serialize};

use crate::error::TranscodeError;
use crate::limits;

#[cfg(any(test, feature = "gst"))]
pub(crate) use mixer::{Lane, Mixer, Step};
#[cfg(any(test, feature = "gst"))]
pub(crate) use overlay::Overlay;

/// Where the camera lies over the screen, from one instant to the next. From a placement to the one behind it the camera glides within
/// [`Composition::GLIDE`], which begins where the later one does; where one of them is hidden, it fades instead.
///
/// ```
/// use loom_transcode::{CameraShape, Composition, Corner, Placement};
///
/// let moved = Composition {
///     placements: vec![
///         Placement::default(),
///         Placement { at: 12.5, shape: CameraShape::Rectangle, place: Corner::TopRight.into(), ..Placement::default() },
///     ],
/// };
/// assert!(moved.check().is_ok());
/// let told = serde_json::to_string(&moved.placements[1])?;
/// assert_eq!(told, r#"{"at":12.5,"shape":"rectangle","place":"top-right","size":0.22,"hidden":false}"#);
/// let far = Composition { placements: vec![Placement { size: 3.0, ..Placement::default() }] };
/// assert_eq!(
///     far.check().map_err(|why| why.to_string()),
///     Err("placements[0].size is 3: a size is 0.05 to 1 of the picture's height".to_owned()),
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Composition {
    /// In order of time. The first holds before its time, too; the last holds to the end.
    pub placements: Vec<Placement>,
}

/// Where the camera lies from an instant on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// From when on, seconds of the recording; each later than the one before.
    pub at: f64,
    /// What is seen of it.
    pub shape: CameraShape,
    /// Where.
    pub place: Place,
    /// Its height as a fraction of the picture's, 0.05 ..= 1.0. Where it would be wider than the picture, it is as wide as that.
    pub size: f64,
    /// Whether it is not seen at all.
    pub hidden: bool,
}

/// What is seen of a camera's picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CameraShape {
    /// The circle in its middle.
    #[default]
    Circle,
    /// All of it, its corners rounded by a sixteenth of its height.
    Rectangle,
}

/// A place in a picture: in JSON the name of a corner, or `{"x": 0.5, "y": 0.5}`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a place is top-left, top-right, bottom-left, bottom-right, or a centre {\"x\": 0 to 1, \"y\": 0 to 1}"
)]
pub enum Place {
    /// In a corner, 3.5 % of the picture's shorter side away from both edges.
    Corner(Corner),
    /// With its middle here, or as near as it can be and be seen whole.
    Centre {
        /// From the left edge, as a fraction of the picture's width.
        x: f64,
        /// From the top edge, as a fraction of the picture's height.
        y: f64,
    },
}

/// A corner of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Corner {
    TopLeft,
    TopRight,
    BottomLeft,
    BottomRight,
}

impl From<Corner> for Place {
    fn from(it: Corner) -> Self {
        Self::Corner(it)
    }
}

impl Default for Placement {
    /// A circle at the bottom left, of 22 % of the height.
    fn default() -> Self {
        Self {
            at: 0.0,
            shape: CameraShape::Circle,
            place: Place::Corner(Corner::BottomLeft),
            size: 0.22,
            hidden: false,
        }
    }
}

impl Default for Composition {
    /// The default placement from the beginning to the end.
    fn default() -> Self {
        Self {
            placements: vec![Placement::default()],
        }
    }
}

impl Composition {
    /// How long the camera takes from one placement to the next, where that is not shorter itself.
    pub const GLIDE: Duration = Duration::from_millis(300);

    /// Whether it keeps to what its fields say.
    ///
    /// # Errors
    /// [`TranscodeError::Composition`] with the first field that does not.
    pub fn check(&self) -> Result<(), TranscodeError> {
        let most = limits::PLACEMENTS;
        if !(1..=most).contains(&self.placements.len()) {
            return Err(TranscodeError::Composition {
                field: "placements".to_owned(),
                is: format!("{} long", self.placements.len()),
                rule: format!("there are 1 to {most} of them"),
            });
        }
        let mut before = None;
        for (nth, it) in self.placements.iter().enumerate() {
            let refuse = |field: &str, is: f64, rule: &str| TranscodeError::Composition {
                field: format!("placements[{nth}].{field}"),
                is: is.to_string(),
                rule: rule.to_owned(),
            };
            if !(0.0..=LATEST).contains(&it.at) {
                return Err(refuse("at", it.at, "a time is 0 to 10000000 seconds"));
            }
            if before.is_some_and(|before| it.at <= before) {
                return Err(refuse("at", it.at, "each placement is later than the one before"));
            }
            before = Some(it.at);
            if !SIZES.contains(&it.size) {
                return Err(refuse(
                    "size",
                    it.size,
                    "a size is 0.05 to 1 of the picture's height",
                ));
            }
            if let Place::Centre { x, y } = it.place {
                for (field, is) in [("place.x", x), ("place.y", y)] {
                    if !(0.0..=1.0).contains(&is) {
                        return Err(refuse(field, is, "a centre is 0 to 1 of the picture's side"));
                    }
                }
            }
        }
        Ok(())
    }

    /// What of the camera lies where at an instant, in pictures of these sizes, pixels; `None` where nothing of it is seen.
    #[cfg(any(test, feature = "gst"))]
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
    #[cfg(any(test, feature = "gst"))]
    pub(crate) fn next_change(&self, now: MediaTime, step: Duration) -> Option<MediaTime> {
        let (nth, gone) = self.glide(now)?;
        let next = self.placements.get(nth + 1).map(|next| time(next.at));
        if gone >= 1.0 {
            return next;
        }
        let (end, step) = (time(self.placements[nth].at) + self.length(nth), now + step);
        Some(if step > now {
            end.min(step).max(now + NANO)
        } else {
            end
        })
    }

    /// The placement that holds at an instant, and how much of the way to it is gone, 0.0 ..= 1.0.
    #[cfg(any(test, feature = "gst"))]
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
    #[cfg(any(test, feature = "gst"))]
    fn length(&self, nth: usize) -> Duration {
        let next = self.placements.get(nth + 1).map(|next| time(next.at));
        next.map_or(Self::GLIDE, |next| {
            Self::GLIDE.min(next.since(time(self.placements[nth].at)))
        })
    }
}

/// A camera's picture as it lies over another: pixels, of which the edges may lie between two.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg(any(test, feature = "gst"))]
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

#[cfg(any(test, feature = "gst"))]
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

#[cfg(any(test, feature = "gst"))]
fn time(seconds: f64) -> MediaTime {
    MediaTime::from_secs_f64(seconds)
}

/// Seconds: no recording lasts longer.
const LATEST: f64 = 1e7;
/// Of a picture's height.
const SIZES: std::ops::RangeInclusive<f64> = 0.05..=1.0;
/// How far a corner's camera is from the edges, of the picture's shorter side.
#[cfg(any(test, feature = "gst"))]
const MARGIN: f64 = 0.035;
#[cfg(any(test, feature = "gst"))]
const NANO: Duration = Duration::from_nanos(1);

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
    fn what_breaks_a_rule_is_named_with_the_rule() {
        let one = |it: Placement| Composition { placements: vec![it] };
        let place = |x, y| Place::Centre { x, y };
        let it = Placement::default;
        for (wrong, told) in [
            (
                Composition { placements: vec![] },
                "placements is 0 long: there are 1 to 1000 of them",
            ),
            (
                one(Placement { size: 0.01, ..it() }),
                "placements[0].size is 0.01: a size is 0.05 to 1 of",
            ),
            (
                one(Placement {
                    size: f64::NAN,
                    ..it()
                }),
                "placements[0].size is NaN: a size is 0.05 to 1 of",
            ),
            (
                one(Placement { at: -1.0, ..it() }),
                "placements[0].at is -1: a time is 0 to 10000000 seconds",
            ),
            (
                one(Placement {
                    place: place(0.5, 1.5),
                    ..it()
                }),
                "placements[0].place.y is 1.5: a centre is 0 to 1",
            ),
            (
                two(Placement { at: 3.0, ..it() }, Placement { at: 3.0, ..it() }),
                "placements[1].at is 3: each placement is later than the one before",
            ),
        ] {
            let why = wrong.check().expect_err(told).to_string();
            assert!(why.starts_with(told), "{why}");
        }
        assert!(Composition::default().check().is_ok());
    }

    #[test]
    fn json_may_leave_out_what_is_usual_and_nothing_unknown_is_taken() {
        let read: Composition = serde_json::from_str(
            r#"{"placements":[{},{"at":2,"place":{"x":0.25,"y":0.75},"shape":"rectangle"}]}"#,
        )
        .expect("it is one");
        assert_eq!(read.placements[0], Placement::default());
        assert_eq!(read.placements[1].place, Place::Centre { x: 0.25, y: 0.75 });
        for (wrong, told) in [
            (r#"{"placements":[{"place":"middle"}]}"#, "a place is top-left"),
            (r#"{"placements":[{"shape":"star"}]}"#, "unknown variant `star`"),
            (r#"{"placements":[{"width":1}]}"#, "unknown field `width`"),
        ] {
            let why = serde_json::from_str::<Composition>(wrong)
                .expect_err(wrong)
                .to_string();
            assert!(why.contains(told), "{why}");
        }
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
