//! The poster: an early picture that is not black, as a JPEG.

use std::thread::JoinHandle;

use gst_video::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;
use loom_core::{MediaTime, Picture, PictureFormat};

use super::element::{Outlet, Pace, plain_media_time};
use crate::backend::Output;
use crate::limits;

/// Looks at decoded pictures until one will do.
pub(super) struct PosterTaker {
    /// Pictures before this long after the first are only kept in case nothing better comes: live, a browser needs a
    /// moment to reach its full rate; films fade in.
    patience: i64,
    out: Outlet,
    first: Option<MediaTime>,
    best: Option<Candidate>,
    done: bool,
    writer: Option<JoinHandle<()>>,
}

struct Candidate {
    picture: gst::Buffer,
    caps: gst::Caps,
    at: MediaTime,
    contrast: f64,
}

impl PosterTaker {
    pub(super) fn new(pace: Pace, out: Outlet) -> Self {
        Self {
            patience: match pace {
                Pace::Live => 1_500_000_000,
                Pace::File => 1_000_000_000,
            },
            out,
            first: None,
            best: None,
            done: false,
            writer: None,
        }
    }

    pub(super) fn handle_picture(&mut self, picture: &gst::Buffer, caps: &gst::Caps) {
        let Some(at) = picture.pts().map(plain_media_time).filter(|_| !self.done) else {
            return;
        };
        let age = at.signed_since(*self.first.get_or_insert(at));
        // Looking costs a little: after the first picture a few times a second are enough.
        let seen = self.best.as_ref().map(|it| it.at);
        if age < self.patience && seen.is_some_and(|seen| at.signed_since(seen) < 200_000_000) {
            return;
        }
        let contrast = contrast(picture, caps).unwrap_or(GOOD_CONTRAST);
        if self.best.as_ref().is_none_or(|best| contrast >= best.contrast) {
            self.best = Some(Candidate {
                picture: picture.clone(),
                caps: caps.clone(),
                at,
                contrast,
            });
        }
        let good = self.best.as_ref().is_some_and(|it| it.contrast >= GOOD_CONTRAST);
        if (age >= self.patience && good) || age >= LONGEST_WAIT_NANOS {
            self.finish();
        }
    }

    /// Whether it has been taken.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Writes the best picture so far, once, on a thread of its own.
    pub(super) fn finish(&mut self) {
        self.done = true;
        let Some(chosen) = self.best.take() else {
            return;
        };
        let out = self.out.clone();
        let write = move || match encode(&chosen) {
            Ok(picture) => {
                let _ = out.send(Output::Poster(picture));
            }
            Err(why) => out.warn(format!("no poster: {why}")),
        };
        self.writer = std::thread::Builder::new()
            .name("loom-poster".to_owned())
            .spawn(write)
            .ok();
    }

    /// The thread that writes, to wait for.
    pub(super) fn take_writer(&mut self) -> Option<JoinHandle<()>> {
        self.writer.take()
    }
}

/// The standard deviation of luma on a coarse grid, 0 for a picture too dark to see; `None` where luma is not in a
/// plane of bytes.
fn contrast(picture: &gst::Buffer, caps: &gst::Caps) -> Option<f64> {
    let info = gst_video::VideoInfo::from_caps(caps).ok()?;
    if info.format_info().depth().first() != Some(&8)
        || !info.is_yuv()
        || info.format_info().pixel_stride()[0] != 1
    {
        return None;
    }
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(picture, &info).ok()?;
    let (plane, stride) = (frame.plane_data(0).ok()?, *frame.plane_stride().first()? as usize);
    let (w, h) = (frame.width() as usize, frame.height() as usize);
    let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
    for row in 0..GRID.1 {
        for column in 0..GRID.0 {
            let (x, y) = (
                (column * 2 + 1) * w / (GRID.0 * 2),
                (row * 2 + 1) * h / (GRID.1 * 2),
            );
            let luma = f64::from(*plane.get(y * stride + x)?);
            sum += luma;
            squares += luma * luma;
            count += 1.0;
        }
    }
    let mean = sum / count;
    let deviation = (squares / count - mean * mean).max(0.0).sqrt();
    Some(if mean < DARK { 0.0 } else { deviation })
}

fn encode(chosen: &Candidate) -> Result<Picture, String> {
    let info = gst_video::VideoInfo::from_caps(&chosen.caps).map_err(|why| why.to_string())?;
    let shrink = (f64::from(limits::MAX_POSTER_WIDTH) / f64::from(info.width().max(1))).min(1.0);
    let par = info.par();
    let squeeze = f64::from(par.denom()) / f64::from(par.numer().max(1));
    let side = |side: u32, by: f64| (((f64::from(side) * by / 2.0).round() as u32) * 2).max(2);
    let (width, height) = (side(info.width(), shrink), side(info.height(), shrink * squeeze));
    let sample = gst::Sample::builder()
        .buffer(&chosen.picture)
        .caps(&chosen.caps)
        .build();
    let wanted = gst::Caps::builder("image/jpeg")
        .field("width", width as i32)
        .field("height", height as i32)
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .build();
    let made = gst_video::convert_sample(&sample, &wanted, Some(gst::ClockTime::from_seconds(10)))
        .map_err(|why| why.to_string())?;
    let map = made
        .buffer()
        .and_then(|it| it.map_readable().ok())
        .ok_or("the encoder gave nothing")?;
    Ok(Picture {
        pts: chosen.at,
        width,
        height,
        format: PictureFormat::Jpeg,
        data: bytes::Bytes::copy_from_slice(&map),
    })
}

const GRID: (usize, usize) = (32, 18);
/// Mean luma below which a picture is black to a viewer; video black is 16.
const DARK: f64 = 28.0;
/// A slide of text on white has some 20.
const GOOD_CONTRAST: f64 = 10.0;
const LONGEST_WAIT_NANOS: i64 = 8_000_000_000;
