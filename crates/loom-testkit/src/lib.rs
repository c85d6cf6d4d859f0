//! What Loom's tests share: virtual clocks true and skewed, a lossy link, and a word-error-rate checker.
//!
//! Invariant: everything here is a pure function of its seed and its inputs, so a failing test fails again.

mod clock;
mod link;
mod skew;
mod words;

pub use clock::Clock;
pub use link::{BurstLoss, Delivery, Fate, Link, LinkConfig, LinkCounts, Order, RateCap};
pub use skew::SkewedClock;
pub use words::{WordErrors, word_errors};
