//! Wanted renditions × what the machine can do → a graph [`Plan`] (pure) → a [`Backend`] that runs it.
//!
//! Invariant: every video rendition of a recording has an IDR picture at the same instants, to the nanosecond, and
//! what is kept as it came never waits for, and never fails with, what is encoded.
//!
//! [`plan`] decides with no IO: by which [`Route`] of elements pictures go, in whose memory they lie, and what is run
//! instead where an element fails. [`GstBackend`] runs a plan on GStreamer (feature `gst`), live from [`Feed::push`] or
//! from a file; [`KeptBackend`] runs one that keeps all as it came, and needs nothing; [`DummyBackend`] runs any with no codec at all,
//! the same way each time, for tests. What a backend
//! makes comes from [`Outputs::recv`]. A source that is raw is encoded before, by a [`PictureEncoder`] and a [`SoundEncoder`].
//! [`compose`] lays a camera's pictures over a screen's, where a [`Composition`] says.
//!
//! Backends, plans and encoders are `Send` and `Sync`; a [`Feed`] and [`Outputs`] are `Send`, one owner each.

#[cfg(feature = "gst")]
mod apart;
mod apart_config;
mod backend;
mod capability;
mod chunk;
mod composition;
mod device;
mod dummy;
mod elements;
mod error;
mod exact;
#[cfg(feature = "gst")]
mod gst;
#[cfg(any(test, feature = "gst"))]
mod i420;
mod kept;
mod keys;
pub mod limits;
mod media_info;
mod plan;
#[cfg(feature = "gst")]
mod scale;
#[cfg(feature = "gst")]
mod shed;
mod sound;
#[cfg(any(test, feature = "gst"))]
mod still;
mod thumbnails;
mod timeline;

#[cfg(feature = "gst")]
pub use apart::{Apart, serve_apart};
pub use apart_config::ApartConfig;
pub use backend::{Backend, Feed, Output, Outputs, PictureCount};
pub use capability::{Capabilities, ElementLimits};
pub use chunk::{Chunk, ChunkFuture, ChunkItem, ChunkRequest, ChunkWorker};
pub use composition::{CameraShape, Composition, Corner, Place, Placement};
pub use device::{DeviceFamily, Devices, MemoryDomain};
pub use dummy::DummyBackend;
pub use error::{PlanError, TranscodeError};
#[cfg(feature = "gst")]
pub use gst::{
    Composed, Encoded, GstBackend, PictureEncoder, SoundEncoder, SourceChunk, SourceChunks, compose,
    compose_chunks, listen, probe_file, read_chunks,
};
#[cfg(feature = "gst")]
pub use i420::I420;
pub use kept::KeptBackend;
pub use media_info::{AudioInfo, MediaInfo, VideoInfo};
pub use plan::{
    AudioPlan, AudioShape, Crossing, KeyRule, Oddity, Plan, PlannedRendition, Preset, Rejected,
    RenditionShape, Rotation, Route, Rung, RungPlan, SourceAudioCodec, SourceShape, SourceVideoCodec, Stage,
    VideoPlan, VideoShape, Wanted, plan,
};
pub use sound::{Loudness, LoudnessTarget, SoundTreatment};
pub use thumbnails::Thumbnails;

/// What may be held anywhere and used from any thread, and what one thread at a time may.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    const fn sent<T: Send>() {}
    shared::<Plan>();
    shared::<Capabilities>();
    shared::<KeptBackend>();
    shared::<DummyBackend>();
    shared::<TranscodeError>();
    sent::<Feed>();
    sent::<Outputs>();
    #[cfg(feature = "gst")]
    {
        shared::<GstBackend>();
        shared::<PictureEncoder>();
        shared::<SoundEncoder>();
    }
};
