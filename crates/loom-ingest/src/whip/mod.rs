//! The WebRTC-HTTP Ingestion Protocol (RFC 9725): what to make of a request, and an axum router that asks a
//! [`WhipHost`].
//!
//! Trickled candidates (RFC 9725 §4.3.2) are checked and then not needed: the server is an ICE-lite agent, which never
//! sends checks of its own (RFC 8445 §2.5), so a publisher's `PATCH` gets its 204 and the connection comes about by the
//! publisher's checks. ICE restarts are answered with 422, as §4.3.1 wants of a server that supports only one of the two.

mod fragment;
mod problem;
mod request;
mod router;

pub use fragment::Fragment;
pub use problem::Refusal;
pub use request::IfMatch;
pub use router::{Published, WhipHost, router};
