//! The WebRTC-HTTP Ingestion Protocol (RFC 9725): what to make of a request, and an axum router that asks a
//! [`WhipHost`].
//!
//! Trickled candidates (RFC 9725 §4.3.2) are checked and then not needed: the server is an ICE-lite agent, which never
//! sends checks of its own (RFC 8445 §2.5), so a publisher's `PATCH` gets its 204 and the connection comes about by the
//! publisher's checks. An ICE restart (§4.3.3) gets new credentials and a new entity tag for the same media session.

mod fragment;
mod host;
mod links;
mod pace;
mod patch;
mod problem;
mod request;
mod router;
#[cfg(test)]
mod tests;

pub use fragment::Fragment;
pub use host::{Client, Extension, Published, Redirect, RedirectKind, WhipHost};
pub(crate) use patch::PatchKind;
pub use patch::{IfMatch, Patch};
pub use problem::Refusal;
pub use router::router;
