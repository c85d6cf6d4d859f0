//! The graph for pictures: decoded once, scaled in a cascade, encoded by one encoder a rung.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use loom_core::codec::h264::{AccessUnit, sample_nals};
use loom_core::{MediaTime, Packet, RenditionId, TrackId};

use super::codec_caps::{fraction, h264_parameters};
use super::element::{
    Outlet, Pace, app_sink, capsfilter, chain, make, media_time, named, plain_media_time, queue, refused,
    set_if_present,
};

use super::poster::PosterTaker;
use super::thumbnails::ThumbnailTaker;
use super::watch::{Ending, Running};
use crate::backend::Output;
use crate::error::TranscodeError;
use crate::keys::KeyPictures;
use crate::limits;
use crate::plan::{Rotation, RungPlan, VideoPlan};
use crate::shed::{Change, LoadShedder};

/// A running picture graph.
pub(super) struct VideoGraph {
    running: Running,
    input: gst_app::AppSrc,
    shared: Arc<Shared>,
    /// Nothing is encoded: pictures are only looked at.
    only_looks: bool,
}

/// What the graph's threads share.
struct Shared {
    keys: Mutex<KeyPictures>,
    load: Mutex<LoadShedder>,
    poster: Mutex<Option<PosterTaker>>,
    thumbnails: Mutex<Option<ThumbnailTaker>>,
    pictures_in: AtomicU64,
    pictures_out: AtomicU64,
}

impl VideoGraph {
    /// Builds and starts the graph. Its outputs, and at last its end, go to `out`.
    pub(super) fn start(
        plan: &VideoPlan,
        decoder: &str,
        track: TrackId,
        pace: Pace,
        out: Outlet,
    ) -> Result<Self, TranscodeError> {
        let pipeline = gst::Pipeline::new();
        let capacity = match pace {
            Pace::Live => limits::ENCODE_QUEUE_LIVE,
            Pace::File => limits::ENCODE_QUEUE_FILE,
        };
        let shared = Arc::new(Shared {
            keys: Mutex::new(KeyPictures::new(plan.keys)),
            load: Mutex::new(LoadShedder::new(plan.rungs.len(), plan.keep.is_some(), capacity)),
            poster: Mutex::new(plan.poster.then(|| PosterTaker::new(pace, out.clone()))),
            thumbnails: Mutex::new(
                plan.thumbnails
                    .map(|wanted| ThumbnailTaker::new(wanted, pace, out.clone())),
            ),
            pictures_in: AtomicU64::new(0),
            pictures_out: AtomicU64::new(0),
        });
        let input = app_src(pace, "decode");
        let decoding = make(decoder)?;
        // A stream that lost packets is decoded as far as it goes.
        set_if_present(&decoding, "max-errors", "-1");
        if plan.rungs.is_empty() {
            // Threads of whole pictures would give a lone key frame only once several more have come.
            set_if_present(&decoding, "max-threads", "1");
        }
        let mut head = vec![input.clone().upcast::<gst::Element>()];
        if let Some(parser) = parser_for(decoder) {
            head.push(make(parser)?);
        }
        head.push(decoding.clone());
        let pictures = named(queue(2)?, "scale");
        head.push(pictures.clone());
        if plan.rotation != Rotation::None {
            let flip = make("videoflip")?;
            set_if_present(&flip, "video-direction", direction(plan.rotation));
            head.push(flip);
        }
        chain(GRAPH, &pipeline, &head.iter().collect::<Vec<_>>())?;
        let last = head.last().unwrap_or(&pictures).clone();
        shared.watch_decoder(&decoding, pace)?;
        shared.watch_upright(&last)?;
        if plan.rungs.is_empty() {
            // Pictures are only looked at, at the decoder.
            let sink = app_sink(None, |_| Ok(()), || ());
            chain(GRAPH, &pipeline, &[&last, sink.upcast_ref()])?;
        }
        let mut above = last;
        for (index, rung) in plan.rungs.iter().enumerate() {
            above = add_rung(&pipeline, &above, plan, index, rung, track, pace, &shared, &out)?;
        }
        let ids: Vec<RenditionId> = plan.rungs.iter().map(|it| it.id.clone()).collect();
        let (warn, ended) = (out.clone(), shared.clone());
        let expected = plan.frames;
        let running = Running::start(
            GRAPH,
            pipeline,
            move |text| warn.warn(format!("video: {text}")),
            move |ending| {
                ended.finish_looking();
                match ending {
                    Ending::Finished => ended.check_counts(pace, expected, &ids, &out),
                    Ending::Failed(reason) => fail_all(&ids, &reason, &out),
                    Ending::Stopped => {}
                }
                out.end();
            },
        )?;
        Ok(Self {
            running,
            input,
            shared,
            only_looks: plan.rungs.is_empty(),
        })
    }

    /// Whether it still takes input.
    pub(super) fn is_alive(&self) -> bool {
        self.running.is_alive()
    }

    /// Packets from here on are of this format.
    pub(super) fn set_caps(&self, caps: &gst::Caps) {
        self.input.set_caps(Some(caps));
    }

    /// Whether so much waits for the decoder that live packets must be dropped.
    pub(super) fn is_behind(&self) -> bool {
        self.input.current_level_buffers() >= limits::DECODE_QUEUE_PACKETS
            || self.input.current_level_bytes() >= limits::DECODE_QUEUE_BYTES
    }

    /// Gives one packet to the decoder. For a file it waits while the graph is behind.
    pub(super) fn push(&self, buffer: gst::Buffer, key: bool) {
        if self.only_looks && !self.shared.looks_at(&buffer, key) {
            return;
        }
        if key && let Some(pts) = buffer.pts() {
            lock(&self.shared.keys).handle_source_key(pts.nseconds());
        }
        self.shared.pictures_in.fetch_add(1, Ordering::Relaxed);
        // A graph that has ended says so on its own.
        let _ = self.input.push_buffer(buffer);
    }

    /// No more packets come.
    pub(super) fn finish(&self) {
        let _ = self.input.end_of_stream();
    }

    /// Ends it at once.
    pub(super) fn stop(&self) {
        self.running.stop();
        self.shared.finish_looking();
    }
}

impl Shared {
    /// Looks at every picture as it leaves the decoder: it is counted, times go up, and segments are started here for
    /// every encoder at once.
    fn watch_decoder(self: &Arc<Self>, decoder: &gst::Element, pace: Pace) -> Result<(), TranscodeError> {
        let pad = pad(decoder, "src")?;
        let shared = self.clone();
        let last = AtomicU64::new(0);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let Some(buffer) = info.buffer() else {
                return gst::PadProbeReturn::Ok;
            };
            let Some(pts) = buffer.pts().map(gst::ClockTime::nseconds) else {
                return DROPPED;
            };
            // Before its zero a file has only what an edit list hides.
            if pace == Pace::File && plain_media_time(gst::ClockTime::from_nseconds(pts)) < MediaTime::ZERO {
                return DROPPED;
            }
            shared.pictures_out.fetch_add(1, Ordering::Relaxed);
            // x264 wants each picture later than the one before.
            if pts <= last.swap(pts, Ordering::Relaxed) {
                return DROPPED;
            }
            lock(&shared.keys).handle_picture(pts);
            gst::PadProbeReturn::Ok
        });
        Ok(())
    }

    /// Whether a packet needs decoding where nothing is encoded: all until the poster is taken, then the key frames that become
    /// thumbnails, which need no others.
    fn looks_at(&self, packet: &gst::Buffer, key: bool) -> bool {
        let poster = lock(&self.poster).as_ref().is_some_and(|it| !it.is_done());
        let wanted = |at| lock(&self.thumbnails).as_ref().is_some_and(|it| it.wants(at));
        poster || (key && packet.pts().map(plain_media_time).is_some_and(wanted))
    }

    /// Offers every picture, turned upright, to the poster and to the thumbnails.
    fn watch_upright(self: &Arc<Self>, element: &gst::Element) -> Result<(), TranscodeError> {
        let shared = self.clone();
        pad(element, "src")?.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let (Some(picture), Some(caps)) = (info.buffer(), pad.current_caps()) {
                if let Some(poster) = &mut *lock(&shared.poster) {
                    poster.handle_picture(picture, &caps);
                }
                if let Some(thumbnails) = &mut *lock(&shared.thumbnails) {
                    thumbnails.handle_picture(picture, &caps);
                }
            }
            gst::PadProbeReturn::Ok
        });
        Ok(())
    }

    /// Writes the poster where that has not happened and the last thumbnails, and waits for them.
    fn finish_looking(&self) {
        let poster = lock(&self.poster).as_mut().and_then(|poster| {
            poster.finish();
            poster.take_writer()
        });
        let thumbnails = lock(&self.thumbnails).as_mut().and_then(ThumbnailTaker::finish);
        for writer in poster.into_iter().chain(thumbnails) {
            let _ = writer.join();
        }
    }

    /// A graph can come to its end without an error and without pictures: what came out is held against what went in.
    fn check_counts(&self, pace: Pace, expected: Option<u64>, ids: &[RenditionId], out: &Outlet) {
        let (packets, pictures) = (
            self.pictures_in.load(Ordering::Relaxed),
            self.pictures_out.load(Ordering::Relaxed),
        );
        let expected = match pace {
            Pace::File if !ids.is_empty() => expected.unwrap_or(packets),
            _ => packets,
        };
        if expected > 0 && pictures == 0 {
            fail_all(ids, &format!("none of {expected} pictures could be decoded"), out);
        } else if pace == Pace::File && pictures < expected {
            out.warn(format!(
                "video: {pictures} of {expected} pictures could be decoded"
            ));
        }
        let dropped = lock(&self.load).dropped();
        if dropped > 0 {
            tracing::info!(dropped, "pictures were dropped before encoders");
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one place of use; a struct would only rename them"
)]
fn add_rung(
    pipeline: &gst::Pipeline,
    above: &gst::Element,
    plan: &VideoPlan,
    index: usize,
    rung: &RungPlan,
    track: TrackId,
    pace: Pace,
    shared: &Arc<Shared>,
    out: &Outlet,
) -> Result<gst::Element, TranscodeError> {
    let scale = make("videoconvertscale")?;
    // A source that changes its aspect is put into the rung's frame.
    scale.set_property("add-borders", true);
    let size = capsfilter(
        &gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", rung.width as i32)
            .field("height", rung.height as i32)
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build(),
    )?;
    hold_first_caps(&size)?;
    let tee = make("tee")?;
    let capacity = match pace {
        Pace::Live => limits::ENCODE_QUEUE_LIVE,
        Pace::File => limits::ENCODE_QUEUE_FILE,
    };
    let waiting = named(queue(capacity)?, rung.id.as_str());
    let encoder = x264(plan, rung, pace)?;
    let avc = gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .build();
    let mut writer = RungWriter::new(rung.id.clone(), track, pace, out.clone());
    let sink = app_sink(Some(&avc), move |sample| writer.handle_sample(sample), || ());
    chain(GRAPH, pipeline, &[above, &scale, &size, &tee])?;
    chain(GRAPH, pipeline, &[&tee, &waiting, &encoder, sink.upcast_ref()])?;

    if pace == Pace::Live {
        let (shared, out, queue) = (shared.clone(), out.clone(), waiting.clone());
        let ids: Vec<RenditionId> = plan.rungs.iter().map(|it| it.id.clone()).collect();
        pad(&waiting, "sink")?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let Some(pts) = info.buffer().and_then(|it| it.pts()) else {
                return gst::PadProbeReturn::Ok;
            };
            let starts_segment = lock(&shared.keys).is_chosen(pts.nseconds());
            let level = queue.property::<u32>("current-level-buffers");
            let verdict =
                lock(&shared.load).handle_picture(index, level, starts_segment, plain_media_time(pts));
            match verdict.change {
                Some(Change::Shed(rung)) => out.warn(format!(
                    "{} is shed, encoding is late: it shows only the pictures that start segments for now",
                    ids[rung]
                )),
                Some(Change::Restored(rung)) => out.warn(format!("{} is encoded in full again", ids[rung])),
                None => {}
            }
            if verdict.encode {
                gst::PadProbeReturn::Ok
            } else {
                DROPPED
            }
        });
    }
    // The key frame is asked for right before its picture goes in, so it can be no other picture's.
    let (shared, source) = (shared.clone(), pad(&encoder, "src")?);
    pad(&encoder, "sink")?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let pts = info.buffer().and_then(|it| it.pts());
        if pts.is_some_and(|pts| lock(&shared.keys).is_chosen(pts.nseconds())) {
            source.send_event(
                gst_video::UpstreamForceKeyUnitEvent::builder()
                    .all_headers(true)
                    .build(),
            );
        }
        gst::PadProbeReturn::Ok
    });
    Ok(tee)
}

/// What a probe answers to take a buffer out of the flow. Not `Drop`: the binding has taken the buffer already then, and GStreamer
/// would complain that there is none to give back.
const DROPPED: gst::PadProbeReturn = gst::PadProbeReturn::Handled;

/// After the first picture a rung's raw format stays as it is, colours and all, whatever the source changes to: else
/// the encoder would start over with other parameter sets.
fn hold_first_caps(filter: &gst::Element) -> Result<(), TranscodeError> {
    let held = filter.clone();
    pad(filter, "src")?.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(event)) = info.event().map(|it| it.view()) {
            let mut caps = event.caps_owned();
            if let Some(structure) = caps.make_mut().structure_mut(0) {
                structure.remove_fields(["framerate", "multiview-mode", "multiview-flags", "interlace-mode"]);
            }
            held.set_property("caps", caps);
            return gst::PadProbeReturn::Remove;
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// x264 with a quality to reach and a rate that no second exceeds. `option-string` does not reach the rate control's
/// buffer: `bitrate` and `vbv-buf-capacity` do, as the SEI shows.
fn x264(plan: &VideoPlan, rung: &RungPlan, pace: Pace) -> Result<gst::Element, TranscodeError> {
    let factory = plan.encoder.as_deref().unwrap_or("x264enc");
    let encoder = make(factory)?;
    let lookahead = match pace {
        Pace::Live => "0",
        Pace::File => "10",
    };
    // These are what `tune=zerolatency` sets, but for its two that do not suit: it turns timestamps off for rate
    // control, and slices on where one thread is enough.
    let settings = [
        ("speed-preset", plan.preset.name()),
        ("pass", "qual"),
        ("quantizer", "23"),
        ("bitrate", &(rung.bitrate / 1000).max(1).to_string()),
        ("vbv-buf-capacity", "1000"),
        ("bframes", "0"),
        ("b-adapt", "false"),
        ("rc-lookahead", lookahead),
        ("sync-lookahead", "0"),
        ("mb-tree", if pace == Pace::File { "true" } else { "false" }),
        ("threads", &rung.threads.to_string()),
        (
            "sliced-threads",
            if rung.threads > 1 && pace == Pace::Live {
                "true"
            } else {
                "false"
            },
        ),
        ("key-int-max", "2147483647"),
        ("aud", "false"),
        ("byte-stream", "false"),
        ("option-string", "scenecut=0"),
    ];
    for (name, value) in settings {
        set_if_present(&encoder, name, value);
    }
    Ok(encoder)
}

/// Turns an encoder's samples into packets.
struct RungWriter {
    id: RenditionId,
    track: TrackId,
    pace: Pace,
    out: Outlet,
    caps: Option<gst::Caps>,
}

impl RungWriter {
    fn new(id: RenditionId, track: TrackId, pace: Pace, out: Outlet) -> Self {
        Self {
            id,
            track,
            pace,
            out,
            caps: None,
        }
    }

    fn handle_sample(&mut self, sample: &gst::Sample) -> Result<(), gst::FlowError> {
        let (Some(buffer), Some(caps)) = (sample.buffer(), sample.caps_owned()) else {
            return Ok(());
        };
        if self.caps.as_ref() != Some(&caps) {
            let codec = h264_parameters(&caps).map_err(|why| self.broken(&why))?;
            self.caps = Some(caps);
            self.out.send(Output::Format {
                rendition: self.id.clone(),
                codec,
            })?;
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
        Ok(())
    }

    fn broken(&self, why: &loom_core::CodecError) -> gst::FlowError {
        self.out.warn(format!("{}: {why}", self.id));
        gst::FlowError::Error
    }
}

pub(super) fn app_src(pace: Pace, name: &str) -> gst_app::AppSrc {
    let source = gst_app::AppSrc::builder()
        .name(name)
        .format(gst::Format::Time)
        .is_live(pace == Pace::Live)
        .block(pace == Pace::File)
        .build();
    if pace == Pace::File {
        source.set_max_bytes(limits::FILE_QUEUE_BYTES);
        source.set_max_buffers(limits::FILE_QUEUE_PACKETS);
    } else {
        // Bounded by whoever pushes.
        source.set_max_bytes(0);
    }
    source
}

/// What must stand before a decoder that does not take packets as they are.
fn parser_for(decoder: &str) -> Option<&'static str> {
    match decoder {
        "openh264dec" => Some("h264parse"),
        "dav1ddec" | "avdec_av1" => Some("av1parse"),
        "avdec_h265" | "libde265dec" => Some("h265parse"),
        _ => None,
    }
}

fn direction(rotation: Rotation) -> &'static str {
    match rotation {
        Rotation::None => "identity",
        Rotation::Quarter => "90r",
        Rotation::Half => "180",
        Rotation::ThreeQuarters => "90l",
    }
}

fn fail_all(ids: &[RenditionId], reason: &str, out: &Outlet) {
    for id in ids {
        out.fail(Some(id.clone()), reason.to_owned());
    }
}

pub(super) fn pad(element: &gst::Element, name: &str) -> Result<gst::Pad, TranscodeError> {
    element
        .static_pad(name)
        .ok_or_else(|| refused(&element.name(), format!("it has no pad {name:?}")))
}

/// A panic elsewhere has been dealt with where it happened; the data is plain.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a file's caps say of the rate, replaced by the plan's where they say nothing.
pub(super) fn with_rate(caps: &gst::Caps, frame_rate: f64) -> gst::Caps {
    let mut caps = caps.clone();
    if let Some(structure) = caps.make_mut().structure_mut(0) {
        structure.set("framerate", fraction(frame_rate));
    }
    caps
}

const GRAPH: &str = "video";
