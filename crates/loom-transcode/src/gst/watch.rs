//! A graph's bus, watched from a thread of its own: no main loop is needed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use gst::prelude::*;
use gstreamer as gst;

use super::memory::give_back;
use crate::error::TranscodeError;

/// How a graph ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// All of it is out.
    Finished,
    /// It broke.
    Failed {
        /// The factory of the element that said so.
        by: Option<String>,
        /// What GStreamer said.
        reason: String,
    },
    /// It was told to stop.
    Stopped,
}

/// A running pipeline and the thread that watches it. Stopped when dropped.
pub(super) struct Running {
    pipeline: gst::Pipeline,
    stop: Arc<AtomicBool>,
    alive: Arc<AtomicBool>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

impl Running {
    /// Starts `pipeline`; `warned` hears warnings, `ended` hears the one ending, both on the watching thread.
    pub(super) fn start(
        graph: &'static str,
        pipeline: gst::Pipeline,
        mut warned: impl FnMut(String) + Send + 'static,
        ended: impl FnOnce(Ending) + Send + 'static,
    ) -> Result<Self, TranscodeError> {
        let failed = |why: String| TranscodeError::Graph { graph, why };
        let bus = pipeline.bus().ok_or_else(|| failed("it has no bus".to_owned()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let alive = Arc::new(AtomicBool::new(true));
        if let Err(why) = pipeline.set_state(gst::State::Playing) {
            let message = bus.pop_filtered(&[gst::MessageType::Error]);
            let _ = pipeline.set_state(gst::State::Null);
            let said = message.as_ref().map_or_else(|| why.to_string(), describe);
            return Err(match message.as_ref().and_then(factory) {
                Some(factory) => TranscodeError::Element { factory, why: said },
                None => failed(said),
            });
        }
        let thread = {
            let (pipeline, stop, alive) = (pipeline.clone(), stop.clone(), alive.clone());
            move || {
                let ending = watch(&bus, &stop, &mut warned);
                alive.store(false, Ordering::Release);
                // The consumer hears of a failure before the graph is taken down.
                let failed = matches!(ending, Ending::Failed { .. });
                ended(ending);
                if failed {
                    let _ = pipeline.set_state(gst::State::Null);
                }
            }
        };
        let watcher = std::thread::Builder::new()
            .name(format!("loom-{graph}"))
            .spawn(thread)
            .map_err(|why| {
                let _ = pipeline.set_state(gst::State::Null);
                failed(why.to_string())
            })?;
        Ok(Self {
            pipeline,
            stop,
            alive,
            watcher: Mutex::new(Some(watcher)),
        })
    }

    /// Whether it still takes input.
    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Ends it at once. Whoever waits in a sink must have been woken before.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Some(bus) = self.pipeline.bus() {
            let _ = bus.post(gst::message::Application::new(gst::Structure::new_empty("stop")));
        }
        let _ = self.pipeline.set_state(gst::State::Null);
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A graph that replaces itself does so on its own thread.
        let others = watcher.filter(|it| it.thread().id() != std::thread::current().id());
        if let Some(watcher) = others {
            let _ = watcher.join();
            give_back();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn watch(bus: &gst::Bus, stop: &AtomicBool, warned: &mut impl FnMut(String)) -> Ending {
    let mut warnings = 0;
    loop {
        if stop.load(Ordering::Acquire) {
            return Ending::Stopped;
        }
        let Some(message) = bus.timed_pop_filtered(gst::ClockTime::from_mseconds(500), &WATCHED) else {
            continue;
        };
        match message.view() {
            gst::MessageView::Eos(_) => return Ending::Finished,
            gst::MessageView::Error(_) => {
                return Ending::Failed {
                    by: factory(&message),
                    reason: describe(&message),
                };
            }
            gst::MessageView::Warning(_) => {
                warnings += 1;
                if warnings <= MOST_WARNINGS {
                    warned(describe(&message));
                }
            }
            _ => {}
        }
    }
}

const WATCHED: [gst::MessageType; 4] = [
    gst::MessageType::Eos,
    gst::MessageType::Error,
    gst::MessageType::Warning,
    gst::MessageType::Application,
];

/// A damaged stream warns for each picture; more than this tells nothing new.
const MOST_WARNINGS: u32 = 8;

fn describe(message: &gst::Message) -> String {
    let from = message.src().map(|it| it.name().to_string()).unwrap_or_default();
    let said = match message.view() {
        gst::MessageView::Error(it) => (it.error().to_string(), it.debug()),
        gst::MessageView::Warning(it) => (it.error().to_string(), it.debug()),
        _ => (String::new(), None),
    };
    // The debug text begins with a source file and ends with what matters.
    let detail = said
        .1
        .as_deref()
        .and_then(|text| text.lines().last())
        .unwrap_or_default();
    format!("{from}: {} ({})", said.0, detail.trim())
}

fn factory(message: &gst::Message) -> Option<String> {
    let element = message.src()?.downcast_ref::<gst::Element>()?;
    Some(element.factory()?.name().to_string())
}
