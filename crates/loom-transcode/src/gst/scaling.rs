//! The element that scales pictures in ordinary memory: I420 of one size to I420 of another, by [`Scaler`].
//!
//! GStreamer's own takes twice the time for it, and what it makes small is soft: what it made 360 lines of film of came to a VMAF of 60, where ffmpeg's
//! `scale` comes to 72.

use gst::glib;
use gst_video::gst_base;
use gst_video::prelude::*;
use gst_video::subclass::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::elements::CPU_SCALER;

/// By how much the aspect of a rung may differ from its source's, since its sides are even numbers.
pub(super) const ROUNDED: f64 = 0.02;

/// Makes the element known to GStreamer, once a process.
pub(super) fn register() -> Result<(), glib::BoolError> {
    gst::Element::register(None, CPU_SCALER, gst::Rank::NONE, Scaling::static_type())
}

glib::wrapper! {
    pub(crate) struct Scaling(ObjectSubclass<element::Scaling>) @extends gst_video::VideoFilter, gst_base::BaseTransform, gst::Element, gst::Object;
}

mod element {
    use std::sync::{LazyLock, Mutex};

    use super::*;
    use crate::gst::video::lock;
    use crate::scale::Scaler;
    use crate::still::Plane;

    #[derive(Default)]
    pub(crate) struct Scaling(Mutex<Option<Sizes>>);

    /// What becomes of pictures of one size.
    struct Sizes {
        /// Of luma, and of both chroma planes.
        scalers: [Scaler; 2],
        /// Where the picture lies in its frame, samples of luma from its left and from its top; all else is black.
        corner: (usize, usize),
        has_borders: bool,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Scaling {
        const NAME: &'static str = "LoomScaling";
        type Type = super::Scaling;
        type ParentType = gst_video::VideoFilter;
    }

    impl ObjectImpl for Scaling {}
    impl GstObjectImpl for Scaling {}

    impl ElementImpl for Scaling {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                gst::subclass::ElementMetadata::new(
                    "Scaler",
                    "Filter/Converter/Video/Scaler",
                    "Makes pictures another size",
                    "Loom",
                )
            });
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                let caps = gst_video::VideoCapsBuilder::new()
                    .format(gst_video::VideoFormat::I420)
                    .build();
                [("sink", gst::PadDirection::Sink), ("src", gst::PadDirection::Src)]
                    .into_iter()
                    .filter_map(|(name, direction)| {
                        gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).ok()
                    })
                    .collect()
            });
            &TEMPLATES
        }
    }

    impl BaseTransformImpl for Scaling {
        const MODE: gst_base::subclass::BaseTransformMode =
            gst_base::subclass::BaseTransformMode::NeverInPlace;
        const PASSTHROUGH_ON_SAME_CAPS: bool = false;
        const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

        /// All but the size stays. Which one is made, the caps behind it say.
        fn transform_caps(
            &self,
            _: gst::PadDirection,
            caps: &gst::Caps,
            filter: Option<&gst::Caps>,
        ) -> Option<gst::Caps> {
            let mut any = caps.clone();
            for structure in any.make_mut().iter_mut() {
                structure.set("width", gst::IntRange::new(1, i32::MAX));
                structure.set("height", gst::IntRange::new(1, i32::MAX));
                structure.remove_field("pixel-aspect-ratio");
            }
            Some(match filter {
                Some(filter) => filter.intersect_with_mode(&any, gst::CapsIntersectMode::First),
                None => any,
            })
        }
    }

    impl VideoFilterImpl for Scaling {
        fn set_info(
            &self,
            _: &gst::Caps,
            source: &gst_video::VideoInfo,
            _: &gst::Caps,
            frame: &gst_video::VideoInfo,
        ) -> Result<(), gst::LoggableError> {
            let (width, height) = shown_in(source, frame);
            self.obj()
                .set_passthrough((source.width(), source.height()) == (frame.width(), frame.height()));
            let luma = (source.width() as usize, source.height() as usize);
            let corner = |frame: u32, shown: usize| (frame as usize).saturating_sub(shown) / 4 * 2;
            let scaler =
                |(w, h): (usize, usize), (to_w, to_h): (usize, usize)| Scaler::new((w, h), (to_w, to_h));
            let half = |(w, h): (usize, usize)| (w.div_ceil(2), h.div_ceil(2));
            *lock(&self.0) = Some(Sizes {
                scalers: [
                    scaler(luma, (width, height)),
                    scaler(half(luma), half((width, height))),
                ],
                corner: (corner(frame.width(), width), corner(frame.height(), height)),
                has_borders: (width, height) != (frame.width() as usize, frame.height() as usize),
            });
            Ok(())
        }

        fn transform_frame(
            &self,
            picture: &gst_video::VideoFrameRef<&gst::BufferRef>,
            frame: &mut gst_video::VideoFrameRef<&mut gst::BufferRef>,
        ) -> Result<gst::FlowSuccess, gst::FlowError> {
            let mut sizes = lock(&self.0);
            let Some(sizes) = &mut *sizes else {
                return Err(gst::FlowError::NotNegotiated);
            };
            for plane in 0..3u32 {
                let stride = |all: &[i32]| all.get(plane as usize).and_then(|it| usize::try_from(*it).ok());
                let (Some(from), Some(to)) = (stride(picture.plane_stride()), stride(frame.plane_stride()))
                else {
                    return Err(gst::FlowError::NotSupported);
                };
                let source = Plane {
                    data: picture.plane_data(plane).map_err(|_| gst::FlowError::Error)?,
                    stride: from,
                    width: picture.comp_width(plane) as usize,
                };
                let out = frame.plane_data_mut(plane).map_err(|_| gst::FlowError::Error)?;
                let (part, black) = if plane == 0 { (1, 16) } else { (2, 128) };
                if sizes.has_borders {
                    out.fill(black);
                }
                let first = sizes.corner.1 / part * to + sizes.corner.0 / part;
                if let Some(out) = out.get_mut(first..) {
                    sizes.scalers[part - 1].scale(&source, out, to);
                }
            }
            Ok(gst::FlowSuccess::Ok)
        }
    }

    /// The size at which a picture fills its frame as far as its aspect allows. One whose size only rounds to another fills all of it: a line of
    /// black would push it aside.
    fn shown_in(source: &gst_video::VideoInfo, frame: &gst_video::VideoInfo) -> (usize, usize) {
        let aspect = |it: &gst_video::VideoInfo| {
            let pixel = f64::from(it.par().numer()) / f64::from(it.par().denom().max(1));
            f64::from(it.width()) * pixel / f64::from(it.height().max(1))
        };
        let (width, height) = (frame.width(), frame.height());
        let wider = aspect(source) / aspect(frame);
        let even = |side: f64, most: u32| ((side / 2.0).round() as u32 * 2).clamp(2, most.max(2)) as usize;
        if (wider - 1.0).abs() <= ROUNDED {
            (width as usize, height as usize)
        } else if wider > 1.0 {
            (width as usize, even(f64::from(height) / wider, height))
        } else {
            (even(f64::from(width) * wider, width), height as usize)
        }
    }
}
