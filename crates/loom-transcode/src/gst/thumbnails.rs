//! Thumbnails: decoded pictures made small, on a thread of their own.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use gst_video::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;
use loom_core::{MediaTime, Picture, PictureFormat};

use super::element::{Outlet, Pace, plain_media_time};
use crate::backend::Output;
use crate::thumbnails::Thumbnails;

/// Picks pictures as they leave the decoder. Live, one that comes while another is made small is left out, and the next tried.
pub(super) struct ThumbnailTaker {
    wanted: Thumbnails,
    pace: Pace,
    /// The stretch that has its thumbnail.
    last: Option<MediaTime>,
    pictures: Option<SyncSender<Taken>>,
    writer: Option<JoinHandle<()>>,
}

struct Taken {
    picture: gst::Buffer,
    caps: gst::Caps,
    at: MediaTime,
}

impl ThumbnailTaker {
    pub(super) fn new(wanted: Thumbnails, pace: Pace, out: Outlet) -> Self {
        let (pictures, taken) = sync_channel(1);
        let writer = std::thread::Builder::new()
            .name("loom-thumbnails".to_owned())
            .spawn(move || write(wanted, &taken, &out))
            .ok();
        Self {
            wanted,
            pace,
            last: None,
            pictures: Some(pictures),
            writer,
        }
    }

    /// Whether a picture at `at` would be taken.
    pub(super) fn wants(&self, at: MediaTime) -> bool {
        self.pictures.is_some() && self.last != Some(self.wanted.stretch(at))
    }

    pub(super) fn handle_picture(&mut self, picture: &gst::Buffer, caps: &gst::Caps) {
        let Some(at) = picture.pts().map(plain_media_time).filter(|at| self.wants(*at)) else {
            return;
        };
        let Some(pictures) = &self.pictures else { return };
        let taken = Taken {
            picture: picture.clone(),
            caps: caps.clone(),
            at,
        };
        let sent = match self.pace {
            Pace::Live => pictures.try_send(taken).is_ok(),
            Pace::File => pictures.send(taken).is_ok(),
        };
        if sent {
            self.last = Some(self.wanted.stretch(at));
        }
    }

    /// No more pictures come. Gives the thread that still makes the last ones small, to wait for.
    pub(super) fn finish(&mut self) -> Option<JoinHandle<()>> {
        self.pictures = None;
        self.writer.take()
    }
}

fn write(wanted: Thumbnails, taken: &Receiver<Taken>, out: &Outlet) {
    let mut shrinker: Option<Shrinker> = None;
    while let Ok(picture) = taken.recv() {
        if shrinker.as_ref().is_none_or(|it| it.caps != picture.caps) {
            match Shrinker::new(picture.caps.clone(), wanted.side) {
                Ok(made) => shrinker = Some(made),
                Err(why) => {
                    out.warn(format!("no thumbnails: {why}"));
                    return;
                }
            }
        }
        let Some(small) = shrinker.as_ref().and_then(|it| it.shrink(&picture)) else {
            continue;
        };
        if out.send(Output::Thumbnail(small)).is_err() {
            return;
        }
    }
}

/// Makes pictures of one format small.
struct Shrinker {
    caps: gst::Caps,
    from: gst_video::VideoInfo,
    to: gst_video::VideoInfo,
    converter: gst_video::VideoConverter,
}

impl Shrinker {
    fn new(caps: gst::Caps, side: u32) -> Result<Self, gst::glib::BoolError> {
        let from = gst_video::VideoInfo::from_caps(&caps)?;
        let par = from.par();
        let shown = f64::from(from.width()) * f64::from(par.numer()) / f64::from(par.denom().max(1));
        let (width, height) = fit((shown, f64::from(from.height())), side);
        let to = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
            .fps(from.fps())
            .build()?;
        let mut how = gst_video::VideoConverterConfig::new();
        // each pixel is the mean of those it stands for: sharp text stays text
        how.set_resampler_method(gst_video::VideoResamplerMethod::Linear);
        let converter = gst_video::VideoConverter::new(&from, &to, Some(how))?;
        Ok(Self {
            caps,
            from,
            to,
            converter,
        })
    }

    fn shrink(&self, taken: &Taken) -> Option<Picture> {
        let source = gst_video::VideoFrameRef::from_buffer_ref_readable(&taken.picture, &self.from).ok()?;
        let mut buffer = gst::Buffer::with_size(self.to.size()).ok()?;
        {
            let target = buffer.get_mut()?;
            let mut target = gst_video::VideoFrameRef::from_buffer_ref_writable(target, &self.to).ok()?;
            self.converter.frame_ref(&source, &mut target);
        }
        let (width, height) = (self.to.width(), self.to.height());
        let small = gst_video::VideoFrameRef::from_buffer_ref_readable(&buffer, &self.to).ok()?;
        let stride = usize::try_from(*small.plane_stride().first()?).ok()?;
        let rows = small.plane_data(0).ok()?.chunks(stride).take(height as usize);
        let data: Vec<u8> = rows
            .flat_map(|row| row.iter().take(width as usize * 3).copied())
            .collect();
        Some(Picture {
            pts: taken.at,
            width,
            height,
            format: PictureFormat::Rgb,
            data: data.into(),
        })
    }
}

/// The size with its longer side `side`, the aspect kept, both even, never larger.
fn fit((width, height): (f64, f64), side: u32) -> (u32, u32) {
    let longer = width.max(height).max(1.0);
    let shrink = (f64::from(side) / longer).min(1.0);
    let even = |it: f64| (((it * shrink / 2.0).round() as u32) * 2).max(2);
    (even(width), even(height))
}
