//! Decoded pictures held against the one that is shown.

use gst_video::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::still::{Difference, Plane, StillGate};

/// The picture that is shown, and what follows it.
#[derive(Default)]
pub(super) struct Stillness {
    gate: StillGate,
    shown: Option<(gst::Buffer, gst_video::VideoInfo, gst::Caps)>,
    /// The last picture, where it went no further.
    held: Option<gst::Buffer>,
}

impl Stillness {
    /// Pictures that went no further, since they show what is shown.
    pub(super) fn dropped(&self) -> u64 {
        self.gate.dropped()
    }

    /// What was shown has nothing to do with what comes.
    pub(super) fn forget(&mut self) {
        (self.shown, self.held) = (None, None);
        self.gate.forget();
    }

    /// No more pictures come. Gives the last one where it is not shown yet: it says how long the one before it stands.
    pub(super) fn finish(&mut self) -> Option<gst::Buffer> {
        let last = self.held.take()?;
        self.gate.take_back();
        Some(last)
    }

    /// Whether a picture is to go on.
    pub(super) fn handle_picture(
        &mut self,
        picture: &gst::Buffer,
        caps: &gst::Caps,
        at: u64,
        starts_segment: bool,
    ) -> bool {
        let shown = self.shown.as_ref();
        let is_still = || {
            shown.is_some_and(|(before, info, known)| {
                known == caps && difference(before, picture, info).is_some_and(|it| !it.is_visible())
            })
        };
        let shows = self.gate.handle_picture(at, starts_segment, is_still);
        self.held = (!shows).then(|| picture.clone());
        if shows {
            // While pictures are not compared, none is held.
            let info = match self.shown.take() {
                Some((_, info, known)) if known == *caps => Some(info),
                _ => gst_video::VideoInfo::from_caps(caps).ok(),
            };
            self.shown = info
                .filter(is_plain)
                .map(|info| (picture.clone(), info, caps.clone()));
        }
        shows
    }
}

/// Whether samples are bytes, in planes of their own or in pairs.
fn is_plain(info: &gst_video::VideoInfo) -> bool {
    use gst_video::VideoFormat::{I420, Nv12, Y42b, Y444, Yv12};
    matches!(info.format(), I420 | Nv12 | Y42b | Y444 | Yv12)
}

fn difference(a: &gst::Buffer, b: &gst::Buffer, info: &gst_video::VideoInfo) -> Option<Difference> {
    let a = gst_video::VideoFrameRef::from_buffer_ref_readable(a, info).ok()?;
    let b = gst_video::VideoFrameRef::from_buffer_ref_readable(b, info).ok()?;
    Some(Difference::between(&planes(&a)?, &planes(&b)?))
}

fn planes<'a>(frame: &'a gst_video::VideoFrameRef<&gst::BufferRef>) -> Option<Vec<Plane<'a>>> {
    let count = frame.n_planes();
    let plane = |index: u32| {
        // Two planes: the second holds both colour differences, side by side.
        let samples = if count == 2 && index == 1 { 2 } else { 1 };
        Some(Plane {
            data: frame.plane_data(index).ok()?,
            stride: usize::try_from(*frame.plane_stride().get(index as usize)?).ok()?,
            width: frame.comp_width(index) as usize * samples,
        })
    };
    (0..count).map(plane).collect()
}
