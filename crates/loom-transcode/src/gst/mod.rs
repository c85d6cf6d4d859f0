//! The backend that runs plans on GStreamer 1.22. No GStreamer type leaves this folder.
//!
//! A source becomes two graphs, one for pictures and one for sound, so that either can fail alone. Both take packets
//! from an `appsrc`: live from [`Feed`], for a file from a reader graph (`filesrc ! parsebin`).

mod audio;
mod codec_caps;
mod element;
mod file;
mod live;
mod poster;
mod probe;
mod reader;
mod thumbnails;
mod video;
mod watch;

use std::path::Path;

use gstreamer as gst;
use loom_core::TrackFormat;

use crate::backend::{Backend, Feed, Outputs};
use crate::capability::Capabilities;
use crate::error::TranscodeError;
use crate::plan::Plan;

pub use probe::probe_file;

impl Capabilities {
    /// Looks at this machine: cores this process may use, and which of the factories that the planner knows are
    /// installed.
    ///
    /// # Errors
    /// Where GStreamer does not start.
    pub fn probe() -> Result<Self, TranscodeError> {
        start()?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let present = Self::known().filter(|name| gst::ElementFactory::find(name).is_some());
        Ok(Self::of(cores, present))
    }
}

/// Runs plans on GStreamer.
#[derive(Debug, Clone)]
pub struct GstBackend(());

impl GstBackend {
    /// Starts GStreamer, once a process.
    ///
    /// # Errors
    /// Where GStreamer does not start.
    pub fn new() -> Result<Self, TranscodeError> {
        start()?;
        Ok(Self(()))
    }
}

impl Backend for GstBackend {
    fn live(&self, plan: &Plan, formats: &[TrackFormat]) -> Result<(Feed, Outputs), TranscodeError> {
        live::run(plan, formats)
    }

    fn file(&self, plan: &Plan, path: &Path) -> Result<Outputs, TranscodeError> {
        file::run(plan, path)
    }
}

fn start() -> Result<(), TranscodeError> {
    gst::init().map_err(|why| TranscodeError::Start(why.to_string()))
}
