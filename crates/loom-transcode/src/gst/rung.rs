//! One rung of a picture graph: scaled from the source, or on a device from the rung above it, encoded, made into packets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;
use loom_core::codec::h264::{AccessUnit, sample_nals};
use loom_core::{MediaTime, Packet, RenditionId, TrackId};

use super::codec_caps::h264_parameters;
use super::element::{
    Outlet, Pace, app_sink, capsfilter, chain, graph_time, make, media_time, named, plain_media_time, queue,
    refused, set_if_possible,
};
use super::encoder::{Effort, encoder};
use super::pictures::{DROPPED, Shared, left_out};
use super::scaling::ROUNDED;
use super::threads::{give_way, thread_name};
use super::video::{GRAPH, lock, pad};
use crate::backend::Output;
use crate::device::{DeviceFamily, MemoryDomain};
use crate::error::TranscodeError;
use crate::limits;
use crate::plan::{Route, RungPlan, Stage, VideoPlan};
use crate::shed::Change;

#[expect(
    clippy::too_many_arguments,
    reason = "one place of use; a struct would only rename them"
)]
pub(super) fn add_rung(
    pipeline: &gst::Pipeline,
    above: &gst::Element,
    plan: &VideoPlan,
    route: &Route,
    index: usize,
    rung: &RungPlan,
    track: TrackId,
    pace: Pace,
    shared: &Arc<Shared>,
    out: &Outlet,
) -> Result<gst::Element, TranscodeError> {
    let (Some(scaler), Some(stage)) = (&route.scaler, route.encoders.get(index)) else {
        return Err(TranscodeError::Mismatch(format!(
            "no route is planned for {}",
            rung.id
        )));
    };
    let scale = make(&scaler.factory)?;
    // Devices know no other layout of 4:2:0 than NV12, and every encoder takes it.
    let on_cpu = |it: &Stage| it.family == DeviceFamily::Cpu;
    let format = if on_cpu(scaler) { "I420" } else { "NV12" };
    let size = capsfilter(
        &raw(scaler.memory)
            .field("format", format)
            .field("width", rung.width as i32)
            .field("height", rung.height as i32)
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build(),
    )?;
    follow_source(&scale, &size, rung)?;
    hold_first_caps(&size, &[])?;
    let waiting = named(queue(capacity(pace))?, &thread_name(pace, rung.id.as_str()));
    give_way(pace, &waiting)?;
    let encoding = encoder(stage, plan.codec, Effort::of(plan, rung), pace)?;
    let Some(encoder) = encoding.first().cloned() else {
        return Err(refused(&stage.factory, "it is no encoder"));
    };
    let avc = gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .build();
    let stills = Arc::new(Mutex::new(Stills::new(&rung.id, out)));
    let mut writer = RungWriter {
        id: rung.id.clone(),
        index,
        track,
        pace,
        out: out.clone(),
        shared: shared.clone(),
        stills: stills.clone(),
        caps: None,
    };
    let sink = app_sink(Some(&avc), move |sample| writer.handle_sample(sample), || ());
    chain(GRAPH, pipeline, &[above, &scale, &size])?;
    // On the processor each rung is scaled from the source, which is sharper; on a device, from the one above.
    let next = if on_cpu(scaler) {
        above.clone()
    } else {
        make("tee")?
    };
    let mut tail = vec![size];
    if !on_cpu(scaler) {
        tail.push(next.clone());
    }
    tail.push(waiting.clone());
    if on_cpu(scaler) && !route.encoders.iter().all(on_cpu) {
        tail.push(make("videoconvert")?);
        tail.push(capsfilter(&raw(scaler.memory).field("format", "NV12").build())?);
    }
    tail.extend(copies(route, Some(&rung.id), stage)?);
    tail.extend(encoding);
    tail.push(sink.upcast());
    chain(GRAPH, pipeline, &tail.iter().collect::<Vec<_>>())?;

    if pace == Pace::Live {
        let (shared, out, queue) = (shared.clone(), out.clone(), waiting.clone());
        let ids: Vec<RenditionId> = plan.rungs.iter().map(|it| it.id.clone()).collect();
        pad(&waiting, "sink")?.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let Some(pts) = info.buffer().and_then(|it| it.pts()) else {
                return gst::PadProbeReturn::Ok;
            };
            let starts_segment = lock(&shared.keys).is_chosen(pts.nseconds());
            let level = queue.property::<u32>("current-level-buffers");
            let verdict =
                lock(&shared.load).handle_picture(index, level, starts_segment, plain_media_time(pts));
            match verdict.change {
                Some(Change::Shed(rung)) => out.tell_load(&ids[rung], true),
                Some(Change::Restored(rung)) => out.tell_load(&ids[rung], false),
                None => {}
            }
            if verdict.encode {
                gst::PadProbeReturn::Ok
            } else {
                shared.handle_late(index, pts.nseconds());
                pad.send_event(left_out(pts.nseconds()));
                DROPPED
            }
        });
    }
    let told = stills.clone();
    pad(&encoder, "sink")?.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let Some(gst::EventView::Gap(gap)) = info.event().map(|it| it.view()) else {
            return gst::PadProbeReturn::Ok;
        };
        match lock(&told).handle_still(plain_media_time(gap.get().0)) {
            Ok(()) => DROPPED,
            Err(_) => gst::PadProbeReturn::Drop,
        }
    });
    // The key frame is asked for right before its picture goes in, so it can be no other picture's.
    let (shared, source) = (shared.clone(), pad(&encoder, "src")?);
    pad(&encoder, "sink")?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let pts = info.buffer().and_then(|it| it.pts());
        if let Some(pts) = pts {
            lock(&stills).given = Some(plain_media_time(pts));
        }
        if let Some(pts) = pts.filter(|pts| lock(&shared.keys).is_chosen(pts.nseconds())) {
            // Without a time it would be taken for one with that before it, as long as an encoder that looks ahead has the
            // picture of that inside.
            source.send_event(
                gst_video::UpstreamForceKeyUnitEvent::builder()
                    .running_time(pts)
                    .all_headers(true)
                    .build(),
            );
        }
        gst::PadProbeReturn::Ok
    });
    Ok(next)
}

/// What pictures pass before they are scaled by the processor: they become I420 where they are not, in the colours of the first.
pub(super) fn before_scaling(route: &Route) -> Result<Vec<gst::Element>, TranscodeError> {
    if route
        .scaler
        .as_ref()
        .is_none_or(|it| it.family != DeviceFamily::Cpu)
    {
        return Ok(Vec::new());
    }
    let plain = capsfilter(&raw(MemoryDomain::System).field("format", "I420").build())?;
    hold_first_caps(&plain, &["width", "height", "pixel-aspect-ratio"])?;
    let convert = make("videoconvert")?;
    leave_out_unknown_colours(&convert)?;
    Ok(vec![convert, plain, make("tee")?])
}

/// Colours that say nothing of their matrix, as some decoders give them, are no colours to an element that passes them on: without them, those are
/// meant that are usual at the size.
fn leave_out_unknown_colours(element: &gst::Element) -> Result<(), TranscodeError> {
    pad(element, "sink")?.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
        let known = info.event().and_then(|event| match event.view() {
            gst::EventView::Caps(event) => without_unknown_colours(event.caps()),
            _ => None,
        });
        if let Some(caps) = known {
            info.data = Some(gst::PadProbeData::Event(gst::event::Caps::new(&caps)));
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// The caps, where they have to be others.
fn without_unknown_colours(caps: &gst::CapsRef) -> Option<gst::Caps> {
    let colours: gst_video::VideoColorimetry =
        caps.structure(0)?.get::<&str>("colorimetry").ok()?.parse().ok()?;
    if colours.matrix() != gst_video::VideoColorMatrix::Unknown {
        return None;
    }
    let mut caps = caps.to_owned();
    caps.make_mut().structure_mut(0)?.remove_field("colorimetry");
    Some(caps)
}

/// Pictures that wait for one encoder.
pub(super) fn capacity(pace: Pace) -> u32 {
    match pace {
        Pace::Live => limits::ENCODE_QUEUE_LIVE,
        Pace::File => limits::ENCODE_QUEUE_FILE,
    }
}

/// A source that changes its aspect is put into the rung's frame, between borders; not one whose size only rounds to another, which a
/// line of black would push aside. And a rung has its source's colours: where a source says nothing of them, small pictures would be
/// taken for BT.601, and all converted.
fn follow_source(scale: &gst::Element, filter: &gst::Element, rung: &RungPlan) -> Result<(), TranscodeError> {
    let (scaler, filter) = (scale.downgrade(), filter.clone());
    let frame = f64::from(rung.width) / f64::from(rung.height);
    let first = AtomicBool::new(true);
    pad(scale, "sink")?.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let Some(gst::EventView::Caps(event)) = info.event().map(|it| it.view()) else {
            return gst::PadProbeReturn::Ok;
        };
        let Ok(source) = gst_video::VideoInfo::from_caps(event.caps()) else {
            return gst::PadProbeReturn::Ok;
        };
        let pixel = f64::from(source.par().numer()) / f64::from(source.par().denom());
        let aspect = f64::from(source.width()) * pixel / f64::from(source.height().max(1));
        if let Some(scale) = scaler.upgrade() {
            let differs = (aspect / frame - 1.0).abs() > ROUNDED;
            set_if_possible(&scale, "add-borders", if differs { "true" } else { "false" });
        }
        let colours = source.colorimetry().to_string();
        if first.swap(false, Ordering::Relaxed) && matches!(colours.as_str(), "bt709" | "bt601") {
            let mut caps = filter.property::<gst::Caps>("caps");
            if let Some(structure) = caps.make_mut().structure_mut(0) {
                structure.set("colorimetry", colours);
            }
            filter.set_property("caps", caps);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// After the first picture the raw format stays as it is, colours and all but for what is `free`, whatever the source changes to: else
/// an encoder would start over with other parameter sets.
fn hold_first_caps(filter: &gst::Element, free: &'static [&str]) -> Result<(), TranscodeError> {
    let held = filter.clone();
    pad(filter, "src")?.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(event)) = info.event().map(|it| it.view()) {
            let mut caps = event.caps_owned();
            let colours = gst_video::VideoInfo::from_caps(&caps).map(|it| it.colorimetry().to_string());
            if let Some(structure) = caps.make_mut().structure_mut(0) {
                structure.remove_fields(["framerate", "multiview-mode", "multiview-flags", "interlace-mode"]);
                structure.remove_fields(free.iter().copied());
                // those that are meant where nothing is said
                if let Ok(colours) = colours
                    && !structure.has_field("colorimetry")
                {
                    structure.set("colorimetry", colours);
                }
            }
            held.set_property("caps", caps);
            return gst::PadProbeReturn::Remove;
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// The elements that copy a picture of `whose` size, but for what `beside` copies inside itself.
pub(super) fn copies(
    route: &Route,
    whose: Option<&RenditionId>,
    beside: &Stage,
) -> Result<Vec<gst::Element>, TranscodeError> {
    let mut made = Vec::new();
    let all = route.crossings.iter().filter(|it| it.rendition.as_ref() == whose);
    for it in all.filter(|it| it.by != beside.factory) {
        made.push(make(&it.by)?);
        made.push(capsfilter(&raw(it.to).build())?);
    }
    Ok(made)
}

/// Raw pictures in this memory.
pub(super) fn raw(memory: MemoryDomain) -> gst::caps::Builder<gst::caps::HasFeatures> {
    let features = match memory {
        MemoryDomain::System => Vec::new(),
        other => vec![format!("memory:{other}")],
    };
    gst::Caps::builder("video/x-raw").features(features)
}

pub(super) fn fail_all(ids: &[RenditionId], reason: &str, out: &Outlet) {
    for id in ids {
        out.fail(Some(id.clone()), reason.to_owned());
    }
}

/// Turns an encoder's samples into packets.
struct RungWriter {
    id: RenditionId,
    index: usize,
    track: TrackId,
    pace: Pace,
    out: Outlet,
    shared: Arc<Shared>,
    stills: Arc<Mutex<Stills>>,
    caps: Option<gst::Caps>,
}

/// Tells of pictures that were left out, once the packets of all before them are out.
struct Stills {
    id: RenditionId,
    out: Outlet,
    /// The last picture that the encoder was given, and the last that it gave.
    given: Option<MediaTime>,
    emitted: Option<MediaTime>,
    /// The last one left out, while the encoder holds pictures before it.
    waits: Option<MediaTime>,
}

impl Stills {
    fn new(id: &RenditionId, out: &Outlet) -> Self {
        Self {
            id: id.clone(),
            out: out.clone(),
            given: None,
            emitted: None,
            waits: None,
        }
    }

    fn handle_still(&mut self, at: MediaTime) -> Result<(), gst::FlowError> {
        self.waits = Some(at);
        self.tell()
    }

    fn handle_emitted(&mut self, at: MediaTime) -> Result<(), gst::FlowError> {
        self.emitted = Some(at);
        self.tell()
    }

    fn tell(&mut self) -> Result<(), gst::FlowError> {
        if self.emitted < self.given {
            return Ok(());
        }
        match self.waits.take().filter(|at| Some(*at) > self.emitted) {
            Some(at) => self.out.send(Output::Still {
                rendition: self.id.clone(),
                at,
            }),
            None => Ok(()),
        }
    }
}

impl RungWriter {
    fn handle_sample(&mut self, sample: &gst::Sample) -> Result<(), gst::FlowError> {
        let (Some(buffer), Some(caps)) = (sample.buffer(), sample.caps_owned()) else {
            return Ok(());
        };
        if self.caps.as_ref() != Some(&caps) {
            let codec = h264_parameters(&caps).map_err(|why| self.broken(&why))?;
            self.caps = Some(caps);
            if self.shared.is_news(self.index, &codec) {
                self.out.send(Output::Format {
                    rendition: self.id.clone(),
                    codec,
                })?;
            }
        }
        let Some(pts) = media_time(sample, buffer.pts()) else {
            return Ok(());
        };
        let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
        let nals = sample_nals(&map).map_err(|why| self.broken(&why))?;
        let unit = AccessUnit::from_nals(nals);
        let duration = buffer
            .duration()
            .filter(|_| self.pace == Pace::File)
            .map(Into::into);
        self.out.send(Output::Packet {
            rendition: self.id.clone(),
            packet: Packet {
                track: self.track,
                pts,
                dts: pts,
                duration,
                key: unit.key,
                data: unit.sample,
            },
        })?;
        if let Some(at) = graph_time(pts) {
            self.shared.handle_encoded(self.index, at.nseconds());
        }
        lock(&self.stills).handle_emitted(pts)
    }

    fn broken(&self, why: &loom_core::CodecError) -> gst::FlowError {
        self.out.warn(format!("{}: {why}", self.id));
        gst::FlowError::Error
    }
}
