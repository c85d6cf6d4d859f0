//! Screen and camera in one picture: where the camera lies, over time.

#[cfg(any(test, feature = "gst"))]
mod inset;
#[cfg(any(test, feature = "gst"))]
mod mixer;
#[cfg(any(test, feature = "gst"))]
mod overlay;
#[cfg(any(test, feature = "gst"))]
mod scale;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::TranscodeError;
use crate::limits;

#[cfg(any(test, feature = "gst"))]
pub(crate) use mixer::{Lane, Mixer, ROUNDING, Step};
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
}

/// Seconds: no recording lasts longer.
const LATEST: f64 = 1e7;
/// Of a picture's height.
const SIZES: std::ops::RangeInclusive<f64> = 0.05..=1.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn two(first: Placement, second: Placement) -> Composition {
        Composition {
            placements: vec![first, second],
        }
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
}
