//! Whisper on a device: the same network as [`Host`](crate::network::Host)'s, of candle's tensors, batched over sessions.
//!
//! Invariant: one thread opens the device, loads the model, and is the only one that touches either. Sessions ask at its [`Desk`]; what
//! waits there goes to the device together, oldest first, and each comes out as it would alone, but for rounding.

mod blocks;
mod desk;
mod encoder;
mod memory;
mod place;
mod queue;
mod whisper;

pub(crate) use desk::Desk;

#[cfg(test)]
mod tests;
