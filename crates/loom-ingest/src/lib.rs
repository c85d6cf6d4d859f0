//! WHIP (RFC 9725) and WebRTC to timed packets.
//!
//! Invariant: what a [`Session`] delivers decodes. Every track begins with its format and a key frame, whatever is lost
//! on the way is a [`Media::Gap`](loom_core::Media::Gap) and, for video, a wait for the next key frame, and all tracks
//! lie on one timeline that begins at zero.
//!
//! An [`Ingest`] owns one UDP socket on which all publishers are received. [`Ingest::accept`] answers an SDP offer and
//! gives the [`Session`] whose [`Session::recv`] yields the media; how the offer came is the host's business, or the
//! [`whip`] module's.

mod config;
mod demux;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod ice;
mod ingest;
pub mod limits;
mod media;
mod net;
mod restart;
mod rtp;
mod sdp;
mod session;
mod track;
mod transport;
pub mod whip;

pub use config::{IceServer, IngestConfig};
pub use error::IngestError;
pub use ingest::{Answer, Ingest};
pub use restart::IceRestart;
pub use session::{CloseReason, Session, SessionEvent, SessionHandle, SessionId};
pub use track::TrackInfo;
