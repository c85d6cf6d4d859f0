//! Wanted renditions × what the machine can do → a graph [`Plan`] (pure) → a [`Backend`] that runs it.
//!
//! Invariant: every video rendition of a recording has an IDR picture at the same instants, to the nanosecond, and
//! what is kept as it came never waits for, and never fails with, what is encoded.
//!
//! [`plan`] decides with no IO. [`GstBackend`] runs a plan on GStreamer (feature `gst`), live from [`Feed::push`] or
//! from a file; [`DummyBackend`] runs it with no codec at all, the same way each time, for tests. What a backend
//! makes comes from [`Outputs::recv`].

mod backend;
mod capability;
mod dummy;
mod error;
#[cfg(feature = "gst")]
mod gst;
mod keys;
pub mod limits;
mod media_info;
mod plan;
#[cfg(feature = "gst")]
mod shed;
mod thumbnails;
mod timeline;

pub use backend::{Backend, Feed, Output, Outputs};
pub use capability::Capabilities;
pub use dummy::DummyBackend;
pub use error::{PlanError, TranscodeError};
#[cfg(feature = "gst")]
pub use gst::{GstBackend, probe_file};
pub use media_info::{AudioInfo, MediaInfo, VideoInfo};
pub use plan::{
    AudioPlan, AudioShape, KeyRule, Oddity, Plan, PlannedRendition, Preset, RenditionShape, Rotation, Rung,
    RungPlan, SourceAudioCodec, SourceShape, SourceVideoCodec, VideoPlan, VideoShape, Wanted, plan,
};
pub use thumbnails::Thumbnails;
