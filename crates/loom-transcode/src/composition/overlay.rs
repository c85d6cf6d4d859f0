//! A camera's picture, laid over a screen's.

use super::inset::Inset;
use super::scale::{Taps, scale};
use crate::i420::{I420, layout};

/// Lays one picture over others, and remembers what does not change from one to the next: the mask, and the picture made as large as it is
/// shown.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    mask: Option<Mask>,
    small: Option<Small>,
}

/// How much of each pixel is the camera's, 0 to [`ALL`]: its luma, and its chroma.
#[derive(Debug)]
struct Mask {
    of: Inset,
    luma: Vec<u16>,
    chroma: Vec<u16>,
}

/// The camera's picture, cut and scaled.
#[derive(Debug)]
struct Small {
    number: u64,
    size: (usize, usize),
    planes: [Vec<u8>; 3],
}

/// An inset in whole pairs of pixels, as its chroma has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Overlay {
    /// Lays the camera's picture into a packed one of this size. Pictures of the camera are told apart by their `number`, and have sides
    /// of at least two pixels. What lies outside the inset is not touched.
    pub(crate) fn lay(
        &mut self,
        screen: &mut [u8],
        size: (u32, u32),
        camera: (&I420<'_>, (u32, u32), u64),
        inset: Inset,
    ) {
        let frame = Frame::of(inset, size);
        let (picture, camera_size, number) = camera;
        if self.mask.as_ref().is_none_or(|it| it.of != inset) {
            self.mask = Some(Mask::of(inset, frame));
        }
        let wanted = (frame.width, frame.height);
        if self
            .small
            .as_ref()
            .is_none_or(|it| (it.number, it.size) != (number, wanted))
        {
            self.small = Some(Small {
                number,
                size: wanted,
                planes: cut(picture, camera_size, wanted),
            });
        }
        let (Some(mask), Some(small)) = (&self.mask, &self.small) else {
            return;
        };
        for (at, plane) in layout(size).into_iter().enumerate() {
            let half = if at == 0 { 1 } else { 2 };
            let mask = if at == 0 { &mask.luma } else { &mask.chroma };
            let width = frame.width / half;
            let rows = small.planes[at].chunks_exact(width).zip(mask.chunks_exact(width));
            for (row, (camera, mask)) in rows.enumerate() {
                let start = plane.offset + (frame.top / half + row) * plane.stride + frame.left / half;
                blend(&mut screen[start..start + width], camera, mask);
            }
        }
    }
}

/// `screen` where the mask is 0, `camera` where it is [`ALL`].
fn blend(screen: &mut [u8], camera: &[u8], mask: &[u16]) {
    for ((under, over), part) in screen.iter_mut().zip(camera).zip(mask) {
        let mixed = u32::from(*under) * u32::from(ALL - part) + u32::from(*over) * u32::from(*part);
        *under = ((mixed + u32::from(ALL / 2)) / u32::from(ALL)) as u8;
    }
}

/// The middle of a picture in the shape of `wanted`, scaled to that.
fn cut(picture: &I420<'_>, (wide, high): (u32, u32), wanted: (usize, usize)) -> [Vec<u8>; 3] {
    let aspect = wanted.0 as f64 / wanted.1 as f64;
    let (full, tall) = (f64::from(wide), f64::from(high));
    let (width, height) = (full.min(tall * aspect), tall.min(full / aspect));
    let (left, top) = ((full - width) / 2.0, (tall - height) / 2.0);
    [1_u32, 2, 2]
        .map(|half| {
            let at = f64::from(half);
            let (len, rows) = (wanted.0 / half as usize, wanted.1 / half as usize);
            (
                Taps::new(left / at, width / at, len, wide.div_ceil(half) as usize),
                Taps::new(top / at, height / at, rows, high.div_ceil(half) as usize),
            )
        })
        .into_iter()
        .enumerate()
        .map(|(at, (across, down))| scale(picture.planes[at], picture.strides[at], &across, &down))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap_or_default()
}

impl Frame {
    fn of(inset: Inset, (wide, high): (u32, u32)) -> Self {
        let even = |it: f64, most: u32| ((it / 2.0).round() as usize * 2).min(most as usize & !1);
        let (width, height) = (even(inset.width, wide).max(2), even(inset.height, high).max(2));
        Self {
            left: even(inset.left, wide).min((wide as usize & !1) - width),
            top: even(inset.top, high).min((high as usize & !1) - height),
            width,
            height,
        }
    }
}

impl Mask {
    /// A rectangle with rounded corners that fills the frame. An edge runs through pixels, each of which it covers by as much as it is
    /// nearer than half a pixel to its middle.
    fn of(inset: Inset, frame: Frame) -> Self {
        let (width, height) = (frame.width, frame.height);
        let (middle_x, middle_y) = (width as f64 / 2.0, height as f64 / 2.0);
        let radius = inset.radius.min(middle_x).min(middle_y);
        // a circle is one although its inset's sides were rounded
        let radius = if inset.radius * 2.0 >= inset.width.min(inset.height) {
            middle_x.min(middle_y)
        } else {
            radius
        };
        let opaque = f64::from(ALL) * inset.opacity;
        let mut luma = Vec::with_capacity(width * height);
        for row in 0..height {
            let beyond_y = (row as f64 + 0.5 - middle_y).abs() - (middle_y - radius);
            for column in 0..width {
                let beyond_x = (column as f64 + 0.5 - middle_x).abs() - (middle_x - radius);
                let corner = beyond_x.max(0.0).hypot(beyond_y.max(0.0));
                let outside = corner + beyond_x.max(beyond_y).min(0.0) - radius;
                luma.push(((0.5 - outside).clamp(0.0, 1.0) * opaque).round() as u16);
            }
        }
        let chroma = (0..height / 2 * (width / 2)).map(|at| {
            let (row, column) = (at / (width / 2) * 2, at % (width / 2) * 2);
            let four = [(0, 0), (0, 1), (1, 0), (1, 1)];
            let sum: u16 = four
                .iter()
                .map(|(down, right)| luma[(row + down) * width + column + right])
                .sum();
            (sum + 2) / 4
        });
        Self {
            of: inset,
            chroma: chroma.collect(),
            luma,
        }
    }
}

/// A pixel is the camera's alone.
const ALL: u16 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const SCREEN: (u32, u32) = (200, 120);
    const CAMERA: (u32, u32) = (160, 90);

    fn circle(left: f64, top: f64, side: f64) -> Inset {
        Inset {
            left,
            top,
            width: side,
            height: side,
            radius: side / 2.0,
            opacity: 1.0,
        }
    }

    /// A packed picture whose bytes all differ from their neighbours.
    fn busy() -> Vec<u8> {
        let last = layout(SCREEN)[2];
        (0..last.offset + last.stride * last.height)
            .map(|at| (at * 37 % 200) as u8)
            .collect()
    }

    fn lay(screen: &mut [u8], planes: [&[u8]; 3], inset: Inset) {
        let strides = [CAMERA.0 as usize, CAMERA.0 as usize / 2, CAMERA.0 as usize / 2];
        Overlay::default().lay(screen, SCREEN, (&I420 { planes, strides }, CAMERA, 0), inset);
    }

    /// A camera of one colour.
    fn flat(screen: &mut [u8], [luma, blue, red]: [u8; 3], inset: Inset) {
        let (all, part) = (160 * 90, 80 * 45);
        lay(
            screen,
            [&vec![luma; all], &vec![blue; part], &vec![red; part]],
            inset,
        );
    }

    #[test]
    fn a_circle_is_one_and_what_lies_outside_is_not_touched() {
        let before = busy();
        let mut after = before.clone();
        flat(&mut after, [250, 90, 240], circle(120.0, 40.0, 60.0));
        for (at, plane) in layout(SCREEN).into_iter().enumerate() {
            let half = if at == 0 { 1.0 } else { 2.0 };
            let colour = [250, 90, 240][at];
            let (mut covered, mut edge) = (0, 0);
            for row in 0..plane.height {
                for column in 0..plane.stride {
                    let place = plane.offset + row * plane.stride + column;
                    let (x, y) = ((column as f64 + 0.5) * half, (row as f64 + 0.5) * half);
                    let away = (x - 150.0).hypot(y - 70.0);
                    match (after[place], before[place]) {
                        (now, _) if away < 30.0 - half => {
                            assert_eq!(now, colour, "plane {at}, {column} {row}");
                            covered += 1;
                        }
                        (now, then) if away > 30.0 + half => {
                            assert_eq!(now, then, "plane {at}, {column} {row}")
                        }
                        (now, then) => {
                            assert!((now.min(then)..=now.max(then)).contains(&now));
                            edge += usize::from(now != then && now != colour);
                        }
                    }
                }
            }
            let area = std::f64::consts::PI * (30.0 - half) * (30.0 - half) / (half * half);
            assert!(
                (f64::from(covered) - area).abs() < area * 0.03,
                "{covered} of {area}"
            );
            assert!(
                edge > 20,
                "its edge is soft: {edge} bytes of plane {at} lie between both"
            );
        }
    }

    #[test]
    fn a_rectangle_reaches_its_edges_and_its_corners_are_round() {
        let mut after = vec![16; busy().len()];
        let inset = Inset {
            left: 20.0,
            top: 10.0,
            width: 80.0,
            height: 48.0,
            radius: 8.0,
            opacity: 1.0,
        };
        flat(&mut after, [200, 128, 128], inset);
        let luma = |x: usize, y: usize| after[y * 200 + x];
        for (x, y) in [(60, 10), (60, 57), (20, 30), (99, 30), (60, 30)] {
            assert_eq!(luma(x, y), 200, "{x} {y}");
        }
        for (x, y) in [
            (60, 9),
            (60, 58),
            (19, 30),
            (100, 30),
            (20, 10),
            (99, 10),
            (20, 57),
            (99, 57),
        ] {
            assert_eq!(luma(x, y), 16, "{x} {y}");
        }
    }

    #[test]
    fn a_circle_shows_the_middle_of_the_camera_and_half_opaque_is_half() {
        // a white stripe in the camera's middle, black at both sides of its centred square
        let luma: Vec<u8> = (0..160 * 90)
            .map(|at| if (75..85).contains(&(at % 160)) { 220 } else { 20 })
            .collect();
        let grey = vec![128; 80 * 45];
        let mut after = vec![100; busy().len()];
        lay(&mut after, [&luma, &grey, &grey], circle(20.0, 20.0, 90.0));
        // 90 of the camera's 160 columns, from the 35th: the 75th lies 40 further on
        let row: Vec<u8> = (20..110).map(|x| after[65 * 200 + x]).collect();
        assert!(row[42..48].iter().all(|it| *it == 220), "{row:?}");
        assert!(
            row[2..38].iter().chain(&row[52..88]).all(|it| *it == 20),
            "{row:?}"
        );

        let mut half = vec![100; busy().len()];
        flat(
            &mut half,
            [200, 128, 128],
            Inset {
                opacity: 0.5,
                ..circle(20.0, 20.0, 90.0)
            },
        );
        assert_eq!((half[65 * 200 + 65], half[0]), (150, 100));
    }

    #[test]
    fn a_camera_of_another_shape_each_time_never_lies_outside() {
        let mut overlay = Overlay::default();
        for nth in 0..200_u64 {
            let side = |by: u64, most: u64| (nth * by % most + 2) as u32;
            let camera = (side(13, 300), side(29, 300));
            let [luma, blue, _] = layout((camera.0.next_multiple_of(2), camera.1.next_multiple_of(2)));
            let (all, part) = (
                vec![50; luma.stride * luma.height],
                vec![60; blue.stride * blue.height],
            );
            let picture = I420 {
                planes: [&all, &part, &part],
                strides: [luma.stride, blue.stride, blue.stride],
            };
            let mut screen = busy();
            let inset = Inset {
                left: f64::from(side(7, 190)),
                top: f64::from(side(11, 110)),
                width: f64::from(side(17, 220)),
                height: f64::from(side(23, 130)),
                radius: f64::from(side(3, 60)),
                opacity: 1.0,
            };
            overlay.lay(&mut screen, SCREEN, (&picture, camera, nth), inset);
            assert_ne!(screen, busy(), "{nth}: {inset:?}");
        }
    }
}
