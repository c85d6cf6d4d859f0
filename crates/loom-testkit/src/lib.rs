//! What Loom's tests share: a virtual clock, a lossy link, and a word-error-rate checker.
//!
//! Invariant: everything here is a pure function of its seed and its inputs, so a failing test fails again.

mod clock;
mod link;
mod words;

pub use clock::Clock;
pub use link::{Delivery, Link, LinkConfig};
pub use words::{WordErrors, word_errors};
