//! The graph for pictures: decoded once, scaled for each rung, encoded by one encoder a rung. Where it fails, it is made
//! anew by the next best route, and goes on at the next picture that starts a segment.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use loom_core::{MediaTime, RenditionId, TrackId};

use super::codec_caps::fraction;
use super::element::{
    Outlet, Pace, app_sink, capsfilter, chain, make, named, queue, refused, set_if_possible,
};
use super::pictures::Shared;
use super::replay::{Item, Replay};
use super::rung::{add_rung, before_scaling, copies, fail_all, raw};
use super::threads::{give_way, thread_name};
use super::watch::{Ending, Running};
use crate::device::DeviceFamily;
use crate::error::TranscodeError;
use crate::limits;
use crate::plan::{Rotation, Route, SourceVideoCodec, Stage, VideoPlan};

/// A running picture graph.
pub(super) struct VideoGraph(Arc<Inner>);

struct Inner {
    track: TrackId,
    pace: Pace,
    out: Outlet,
    shared: Arc<Shared>,
    /// Nothing is encoded: pictures are only looked at.
    only_looks: bool,
    alive: AtomicBool,
    state: Mutex<State>,
    /// A graph took another's place, or none will.
    replaced: Condvar,
}

/// What changes where a graph takes another's place.
struct State {
    plan: VideoPlan,
    /// `None` while a graph is made anew.
    graph: Option<(Running, gst_app::AppSrc)>,
    replay: Replay,
    is_replacing: bool,
    is_finished: bool,
    is_stopped: bool,
}

impl VideoGraph {
    /// Builds and starts the graph: by the plan's route, or where that does not start by the next best. Its outputs,
    /// and at last its end, go to `out`. Of what is decoded, pictures of other times than `shown` are left out.
    pub(super) fn start(
        plan: &VideoPlan,
        track: TrackId,
        pace: Pace,
        shown: Range<MediaTime>,
        out: Outlet,
    ) -> Result<Self, TranscodeError> {
        let inner = Arc::new(Inner {
            track,
            pace,
            shared: Arc::new(Shared::new(plan, pace, shown, &out)),
            out,
            only_looks: plan.rungs.is_empty(),
            alive: AtomicBool::new(true),
            state: Mutex::new(State {
                plan: plan.clone(),
                graph: None,
                replay: Replay::default(),
                is_replacing: false,
                is_finished: false,
                is_stopped: false,
            }),
            replaced: Condvar::new(),
        });
        {
            // A graph that fails at once waits for this.
            let mut state = lock(&inner.state);
            let (plan, running, input) = inner.launch(plan.clone())?;
            state.plan = plan;
            state.graph = Some((running, input));
        }
        Ok(Self(inner))
    }

    /// Whether it still takes input.
    pub(super) fn is_alive(&self) -> bool {
        self.0.alive.load(Ordering::Acquire)
    }

    /// How many pictures have been decoded.
    pub(super) fn pictures(&self) -> u64 {
        self.0.shared.pictures()
    }

    /// Packets from here on are of this format.
    pub(super) fn set_caps(&self, caps: &gst::Caps) {
        let mut state = lock(&self.0.state);
        state.replay.handle_caps(caps);
        if let Some((_, input)) = &state.graph {
            input.set_caps(Some(caps));
        }
    }

    /// Whether so much waits for the decoder that live packets must be dropped.
    pub(super) fn is_behind(&self) -> bool {
        lock(&self.0.state).graph.as_ref().is_some_and(|(_, input)| {
            input.current_level_buffers() >= limits::DECODE_QUEUE_PACKETS
                || input.current_level_bytes() >= limits::DECODE_QUEUE_BYTES
        })
    }

    /// Gives one packet to the decoder. For a file it waits while the graph is behind.
    pub(super) fn push(&self, buffer: gst::Buffer, key: bool) {
        let inner = &self.0;
        if inner.only_looks && !inner.shared.looks_at(&buffer, key) {
            return;
        }
        let input = {
            let mut state = lock(&inner.state);
            if inner.pace == Pace::File {
                state = inner.wait_for_graph(state);
            }
            let done = inner.shared.handle_packet(&buffer, key);
            state.replay.handle_packet(&buffer, key, done);
            state.graph.as_ref().map(|(_, input)| input.clone())
        };
        // A graph that has ended says so on its own; while one is made anew, it finds the packet in the replay.
        if let Some(input) = input {
            let _ = input.push_buffer(buffer);
        }
    }

    /// No more packets come.
    pub(super) fn finish(&self) {
        let mut state = lock(&self.0.state);
        state.is_finished = true;
        if let Some((_, input)) = &state.graph {
            let _ = input.end_of_stream();
        }
    }

    /// Ends it at once.
    pub(super) fn stop(&self) {
        let graph = {
            let mut state = lock(&self.0.state);
            state.is_stopped = true;
            self.0.wait_for_graph(state).graph.take()
        };
        if let Some((running, _)) = graph {
            running.stop();
        }
        self.0.shared.finish_looking();
    }
}

impl Drop for VideoGraph {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    /// Starts a graph by the plan's route, or by the first of its fallbacks that starts.
    fn launch(
        self: &Arc<Self>,
        mut plan: VideoPlan,
    ) -> Result<(VideoPlan, Running, gst_app::AppSrc), TranscodeError> {
        loop {
            let Some(route) = plan.route.clone() else {
                return Err(TranscodeError::Mismatch(
                    "no route is planned for pictures".to_owned(),
                ));
            };
            let why = match self.build(&plan, &route) {
                Ok((running, input)) => return Ok((plan, running, input)),
                Err(why) => why,
            };
            let failed = match &why {
                TranscodeError::Element { factory, .. } => factory.as_str(),
                _ => "",
            };
            let Some(next) = plan.next_best(failed) else {
                return Err(why);
            };
            self.out.warn(format!("video: {why}; {}", instead(&next)));
            plan = next;
        }
    }

    fn build(
        self: &Arc<Self>,
        plan: &VideoPlan,
        route: &Route,
    ) -> Result<(Running, gst_app::AppSrc), TranscodeError> {
        let (pace, shared) = (self.pace, &self.shared);
        let pipeline = gst::Pipeline::new();
        let input = app_src(pace, &thread_name(pace, "decode"));
        let decoding = make(&route.decoder.factory)?;
        // A stream that lost packets is decoded as far as it goes.
        set_if_possible(&decoding, "max-errors", "-1");
        if plan.rungs.is_empty() {
            // Threads of whole pictures would give a lone key frame only once several more have come.
            set_if_possible(&decoding, "max-threads", "1");
        }
        give_way(pace, input.upcast_ref())?;
        let mut head = vec![input.clone().upcast::<gst::Element>()];
        if let Some(parser) = parser_for(plan.source, &route.decoder) {
            head.push(make(parser)?);
        }
        head.push(decoding.clone());
        if route.decoder.family != DeviceFamily::Cpu {
            head.push(capsfilter(&raw(route.decoder.memory).build())?);
        }
        let pictures = named(queue(2)?, &thread_name(pace, "scale"));
        give_way(pace, &pictures)?;
        head.push(pictures.clone());
        if plan.rotation != Rotation::None {
            let flip = make("videoflip")?;
            set_if_possible(&flip, "video-direction", direction(plan.rotation));
            head.push(flip);
        }
        let last = head.last().unwrap_or(&pictures).clone();
        head.extend(copies(route, None, &route.decoder)?);
        head.extend(before_scaling(route)?);
        let above = head.last().unwrap_or(&pictures).clone();
        chain(GRAPH, &pipeline, &head.iter().collect::<Vec<_>>())?;
        shared.watch_decoder(&decoding, pace, plan.compares(route))?;
        shared.watch_upright(&last)?;
        if plan.rungs.is_empty() {
            // Pictures are only looked at, at the decoder.
            let sink = app_sink(None, |_| Ok(()), || ());
            chain(GRAPH, &pipeline, &[&above, sink.upcast_ref()])?;
        }
        let mut above = above;
        for (index, rung) in plan.rungs.iter().enumerate() {
            above = add_rung(
                &pipeline, &above, plan, route, index, rung, self.track, pace, shared, &self.out,
            )?;
        }
        let (warn, inner) = (self.out.clone(), self.clone());
        let running = Running::start(
            GRAPH,
            pipeline,
            move |text| warn.warn(format!("video: {text}")),
            move |ending| inner.handle_ending(ending),
        )?;
        Ok((running, input))
    }

    /// On the thread that watches the graph.
    fn handle_ending(self: &Arc<Self>, ending: Ending) {
        let (ids, expected) = {
            let state = lock(&self.state);
            let ids: Vec<RenditionId> = state.plan.rungs.iter().map(|it| it.id.clone()).collect();
            (ids, state.plan.frames)
        };
        let failure = match ending {
            Ending::Failed { by, reason } => {
                if self.replace(by.as_deref(), &reason) {
                    return;
                }
                Some(reason)
            }
            Ending::Finished | Ending::Stopped => None,
        };
        self.alive.store(false, Ordering::Release);
        self.shared.finish_looking();
        let is_stopped = lock(&self.state).is_stopped;
        match failure {
            Some(reason) if !is_stopped => fail_all(&ids, &reason, &self.out),
            None if !is_stopped => self.shared.check_counts(self.pace, expected, &ids, &self.out),
            _ => {}
        }
        self.out.end();
    }

    /// Puts the next best graph in the place of one that failed, and says so. `false` where there is none.
    fn replace(self: &Arc<Self>, by: Option<&str>, reason: &str) -> bool {
        let (next, failed) = {
            let mut state = lock(&self.state);
            let next = state.plan.next_best(&self.blame(&state.plan, by));
            let Some(next) = next.filter(|_| !state.is_stopped) else {
                return false;
            };
            state.is_replacing = true;
            (next, state.graph.take())
        };
        // A device is let go before another graph asks for it. Nobody is kept waiting meanwhile but a file's reader.
        drop(failed);
        self.out.warn(format!("video: {reason}; {}", instead(&next)));
        self.shared.resume();
        let launched = self.launch(next);
        let mut state = lock(&self.state);
        state.is_replacing = false;
        self.replaced.notify_all();
        match launched {
            Ok((plan, running, input)) => {
                self.replay(&state, &input);
                state.plan = plan;
                state.graph = Some((running, input));
                true
            }
            Err(why) => {
                tracing::warn!("no other graph starts: {why}");
                false
            }
        }
    }

    /// Gives a new graph what the one before it was given.
    fn replay(&self, state: &State, input: &gst_app::AppSrc) {
        // All of it is there already: nobody may wait for room.
        let (buffers, blocks) = (input.max_buffers(), input.is_block());
        input.set_block(false);
        input.set_max_buffers(0);
        for item in state.replay.items() {
            match item {
                Item::Caps(caps) => input.set_caps(Some(&caps)),
                Item::Packet { buffer, key } => {
                    self.shared.handle_replayed(&buffer, key);
                    let _ = input.push_buffer(buffer);
                }
            }
        }
        input.set_max_buffers(buffers);
        input.set_block(blocks);
        if state.is_finished {
            let _ = input.end_of_stream();
        }
    }

    /// Which element a failure is laid to: the one that reported it, or where that is none of the plan's, whoever has
    /// given nothing yet.
    fn blame(&self, plan: &VideoPlan, by: Option<&str>) -> String {
        let Some(route) = &plan.route else {
            return String::new();
        };
        match by {
            Some(by) if route.uses(by) => by.to_owned(),
            _ if !self.shared.has_decoded() => route.decoder.factory.clone(),
            _ => String::new(),
        }
    }

    fn wait_for_graph<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.replaced
            .wait_while(state, |it| it.is_replacing)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn instead(plan: &VideoPlan) -> String {
    let names = plan.route.as_ref().map(Route::factories).unwrap_or_default();
    let names: Vec<_> = names.into_iter().collect();
    format!("it goes on with {}", names.join(", "))
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
pub(super) fn parser_for(codec: SourceVideoCodec, decoder: &Stage) -> Option<&'static str> {
    let takes_packets = match decoder.factory.as_str() {
        "openh264dec" | "dav1ddec" | "avdec_av1" | "avdec_h265" | "libde265dec" => false,
        _ => decoder.family == DeviceFamily::Cpu,
    };
    if takes_packets {
        return None;
    }
    match codec {
        SourceVideoCodec::H264 => Some("h264parse"),
        SourceVideoCodec::Hevc => Some("h265parse"),
        SourceVideoCodec::Vp8 => None,
        SourceVideoCodec::Vp9 => Some("vp9parse"),
        SourceVideoCodec::Av1 => Some("av1parse"),
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

pub(super) fn pad(element: &gst::Element, name: &str) -> Result<gst::Pad, TranscodeError> {
    element
        .static_pad(name)
        .ok_or_else(|| refused(&element.name(), format!("it has no pad {name:?}")))
}

/// A panic elsewhere has been dealt with where it happened; the data is plain.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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

pub(super) const GRAPH: &str = "video";
