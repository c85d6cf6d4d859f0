//! The vocabulary of Loom: time, tracks, packets, frames, cues and codec headers.
//!
//! Invariant: every instant on a recording is one [`MediaTime`], nanoseconds since that recording's zero, and
//! converting it to any codec's timescale and back gives the same tick. Nothing here does IO, spawns or waits.
//!
//! Data moves through Loom as these types: `loom-ingest` makes [`Media`], `loom-transcode` turns it into more
//! [`Packet`]s and into [`PcmFrame`]s, `loom-ai` turns PCM into [`Cue`]s, `loom-hls` packages packets and cues. All of them are `Send` and
//! `Sync`.

mod bits;
pub mod codec;
mod cue;
mod error;
mod frame;
mod level;
mod packet;
mod rtp;
mod time;
mod track;

pub use codec::{AudioCodec, AudioParameters, CodecParameters, VideoCodec, VideoParameters};
pub use cue::{Cue, CueId, CueState, Word};
pub use error::CodecError;
pub use frame::{PcmFrame, Picture, PictureFormat};
pub use level::LevelMeter;
pub use packet::{Gap, Media, Packet};
pub use rtp::{RtpTimestampUnwrapper, SequenceUnwrapper};
pub use time::{MediaTime, NtpTime, Timescale, WallClock};
pub use track::{MediaKind, RenditionId, TrackFormat, TrackId};

/// What may be held anywhere, and used from any thread.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Media>();
    shared::<PcmFrame>();
    shared::<Picture>();
    shared::<Cue>();
    shared::<CodecError>();
};
