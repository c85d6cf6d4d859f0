//! Small pieces that every graph is made of.

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use loom_core::{MediaTime, RenditionId};
use tokio::sync::mpsc;

use crate::backend::{Event, Output};
use crate::error::TranscodeError;

/// Whether a graph follows a live source or a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Never wait; drop what is late.
    Live,
    /// Wait for whoever is behind.
    File,
}

/// Makes an element. Settings may follow its factory, as `name key=value`.
pub(super) fn make(factory: &str) -> Result<gst::Element, TranscodeError> {
    let mut words = factory.split_whitespace();
    let name = words.next().unwrap_or_default();
    let element = gst::ElementFactory::make(name)
        .build()
        .map_err(|why| refused(name, why))?;
    for (key, value) in words.filter_map(|it| it.split_once('=')) {
        set_if_possible(&element, key, value);
    }
    Ok(element)
}

/// Sets a property from its text form where the element has it and knows the value; factories of one kind differ.
pub(super) fn set_if_possible(element: &gst::Element, name: &str, value: &str) {
    let Some(property) = element.find_property(name) else {
        return;
    };
    match gst::glib::Value::deserialize(value, property.value_type()) {
        Ok(value) => element.set_property_from_value(name, &value),
        Err(_) => tracing::debug!("{} does not take {name}={value}", element.name()),
    }
}

pub(super) fn refused(factory: &str, why: impl std::fmt::Display) -> TranscodeError {
    TranscodeError::Element {
        factory: factory.to_owned(),
        why: why.to_string(),
    }
}

/// Names an element that has a thread of its own, which then bears the name too.
pub(super) fn named(element: gst::Element, name: &str) -> gst::Element {
    element.set_property("name", name);
    element
}

/// Adds elements to a pipeline and links them in a row.
pub(super) fn chain(
    graph: &'static str,
    pipeline: &gst::Pipeline,
    elements: &[&gst::Element],
) -> Result<(), TranscodeError> {
    for element in elements {
        if element.parent().is_none() {
            pipeline.add(*element).map_err(|why| TranscodeError::Graph {
                graph,
                why: why.to_string(),
            })?;
        }
    }
    gst::Element::link_many(elements.iter().copied()).map_err(|why| TranscodeError::Graph {
        graph,
        why: why.to_string(),
    })
}

pub(super) fn capsfilter(caps: &gst::Caps) -> Result<gst::Element, TranscodeError> {
    gst::ElementFactory::make("capsfilter")
        .property("caps", caps)
        .build()
        .map_err(|why| refused("capsfilter", why))
}

/// A queue of so many buffers, with no other bound, that waits when full.
pub(super) fn queue(buffers: u32) -> Result<gst::Element, TranscodeError> {
    gst::ElementFactory::make("queue")
        .property("max-size-buffers", buffers)
        .property("max-size-bytes", 0u32)
        .property("max-size-time", 0u64)
        .build()
        .map_err(|why| refused("queue", why))
}

/// A sink that hands over each buffer at once, whatever the clock says, and never holds the graph's start up.
pub(super) fn app_sink(
    caps: Option<&gst::Caps>,
    handle: impl FnMut(&gst::Sample) -> Result<(), gst::FlowError> + Send + 'static,
    ended: impl FnMut() + Send + 'static,
) -> gst_app::AppSink {
    let mut handle = handle;
    let mut ended = ended;
    let sink = gst_app::AppSink::builder()
        .sync(false)
        .async_(false)
        .enable_last_sample(false)
        .max_buffers(1)
        .build();
    sink.set_caps(caps);
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                handle(&sample).map(|()| gst::FlowSuccess::Ok)
            })
            .eos(move |_| ended())
            .build(),
    );
    sink
}

/// Graphs run this far after [`MediaTime::ZERO`], so that times before zero exist there too: 1001 hours. `x264enc` moves
/// times below 1000 hours, and would then hold those of key frames that are asked for against the moved ones.
const AHEAD_NANOS: i64 = 1001 * 3_600_000_000_000;

/// A media time as a buffer's time; `None` where it lies more than 1001 hours before zero.
pub(super) fn graph_time(at: MediaTime) -> Option<gst::ClockTime> {
    u64::try_from(at.nanos().checked_add(AHEAD_NANOS)?)
        .ok()
        .map(gst::ClockTime::from_nseconds)
}

/// The media time of a buffer's time in its segment.
pub(super) fn media_time(sample: &gst::Sample, at: Option<gst::ClockTime>) -> Option<MediaTime> {
    running_nanos(sample.segment()?, at?).map(|nanos| MediaTime::from_nanos(nanos - AHEAD_NANOS))
}

/// The media time of a time in a segment that starts at zero, as between `appsrc` and an encoder.
pub(super) fn plain_media_time(at: gst::ClockTime) -> MediaTime {
    MediaTime::from_nanos(at.nseconds() as i64 - AHEAD_NANOS)
}

/// Running time, below zero before the segment's start.
pub(super) fn running_nanos(segment: &gst::Segment, at: gst::ClockTime) -> Option<i64> {
    let segment = segment.downcast_ref::<gst::ClockTime>()?;
    match segment.to_running_time_full(at)? {
        gst::Signed::Positive(it) => i64::try_from(it.nseconds()).ok(),
        gst::Signed::Negative(it) => i64::try_from(it.nseconds()).ok().map(|nanos| -nanos),
    }
}

/// Where a graph's outputs go.
#[derive(Debug, Clone)]
pub(super) struct Outlet(mpsc::Sender<Event>);

impl Outlet {
    pub(super) fn new(sender: mpsc::Sender<Event>) -> Self {
        Self(sender)
    }

    /// Hands over one output, and waits while the consumer is behind.
    pub(super) fn send(&self, output: Output) -> Result<(), gst::FlowError> {
        self.0
            .blocking_send(Event::Output(output))
            .map_err(|_| gst::FlowError::Eos)
    }

    /// Hands over a warning if there is room for it.
    pub(super) fn warn(&self, text: String) {
        tracing::warn!("{text}");
        let _ = self.0.try_send(Event::Output(Output::Warning(text)));
    }

    /// Says that a rung is shed, or comes back, if there is room for it.
    pub(super) fn tell_load(&self, rendition: &RenditionId, shed: bool) {
        let rendition = rendition.clone();
        let _ = self
            .0
            .try_send(Event::Output(Output::Overload { rendition, shed }));
    }

    pub(super) fn fail(&self, rendition: Option<RenditionId>, reason: String) {
        tracing::warn!(?rendition, "{reason}");
        let _ = self.send(Output::Failed { rendition, reason });
    }

    pub(super) fn end(&self) {
        let _ = self.0.blocking_send(Event::GraphEnded);
    }
}
