//! WHIP (RFC 9725) and WebRTC to timed packets.
//!
//! Invariant: what a [`Session`] delivers decodes. Every track begins with its format and a key frame, whatever is lost
//! on the way is a [`Media::Gap`](loom_core::Media::Gap) and, for video, a wait for the next key frame, and all tracks
//! lie on one timeline that begins at zero.
//!
//! An [`Ingest`] owns one UDP socket on which all publishers are received. [`Ingest::accept`] answers an SDP offer and
//! gives the [`Session`] whose [`Session::recv`] yields the media; how the offer came is the host's business, or the
//! [`whip`] module's.
//!
//! [`Ingest`], [`Session`] and [`SessionHandle`] are `Send` and `Sync`.
//!
//! All that is feature `webrtc`, which is on by default; without it there is what a session says, and nothing that needs a network.

mod clock;
mod config;
#[cfg(feature = "webrtc")]
mod demux;
mod error;
mod event;
#[cfg(all(feature = "webrtc", any(test, feature = "fuzzing")))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "webrtc")]
mod ice;
#[cfg(feature = "webrtc")]
mod ingest;
pub mod limits;
#[cfg(feature = "webrtc")]
mod media;
#[cfg(feature = "webrtc")]
mod net;
#[cfg(feature = "webrtc")]
mod restart;
#[cfg(feature = "webrtc")]
mod rtp;
#[cfg(feature = "webrtc")]
mod sdp;
#[cfg(feature = "webrtc")]
mod session;
mod stats;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
mod track;
#[cfg(feature = "webrtc")]
mod transport;
#[cfg(feature = "webrtc")]
pub mod whip;

pub use clock::SessionClock;
pub use config::{IceServer, IngestConfig};
pub use error::IngestError;
pub use event::{CloseReason, SessionEvent};
#[cfg(feature = "webrtc")]
pub use ingest::{Answer, Ingest};
#[cfg(feature = "webrtc")]
pub use restart::IceRestart;
#[cfg(feature = "webrtc")]
pub use session::{Session, SessionHandle, SessionId};
pub use stats::ReceptionStats;
pub use track::TrackInfo;

/// What a host may hold anywhere, and use from any thread.
#[cfg(feature = "webrtc")]
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Ingest>();
    shared::<Session>();
    shared::<SessionHandle>();
    shared::<SessionEvent>();
    shared::<IngestError>();
};
