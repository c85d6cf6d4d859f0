//! What Loom's tests share: virtual clocks true and skewed, a lossy link, a word-error-rate checker, and a validator of HLS
//! origins.
//!
//! Invariant: everything here is a pure function of its seed and its inputs, so a failing test fails again. One exception is
//! named for it: [`validator`] asks a server.

mod clock;
mod link;
mod skew;
pub mod validator;
mod words;

pub use clock::Clock;
pub use link::{BurstLoss, Delivery, Fate, Link, LinkConfig, LinkCounts, Order, RateCap};
pub use skew::SkewedClock;
pub use words::{WordErrors, word_errors};
