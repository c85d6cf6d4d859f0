//! Who speaks when: a vector for each window of speech, windows whose vectors lie close are one speaker's, and a change of speakers lies in
//! the longest pause near it.

mod clusters;
mod turns;
#[cfg(feature = "candle")]
mod voice_encoder;

use std::fmt;

use crate::AiError;

pub use turns::{SpeakerTurns, SpeakersConfig};
#[cfg(feature = "candle")]
pub use voice_encoder::VoiceEncoder;

/// What makes a vector of a voice, such that those of one voice lie close to each other: `VoiceEncoder` (feature `candle`), or a host's own. One
/// serves any number of recordings, from any thread.
///
/// ```
/// use loom_ai::{AiError, SpeakerEncoder};
///
/// /// Tells loud speakers from quiet ones.
/// #[derive(Debug)]
/// struct Loudness;
///
/// impl SpeakerEncoder for Loudness {
///     fn name(&self) -> &str {
///         "loudness"
///     }
///
///     fn embed(&self, windows: &[&[f32]]) -> Result<Vec<Vec<f32>>, AiError> {
///         let loud = |it: &&[f32]| it.iter().map(|s| s.abs()).sum::<f32>() / it.len() as f32 > 0.1;
///         Ok(windows.iter().map(|it| if loud(it) { vec![1.0, 0.0] } else { vec![0.0, 1.0] }).collect())
///     }
/// }
/// ```
pub trait SpeakerEncoder: fmt::Debug + Send + Sync {
    /// A short name for logs.
    fn name(&self) -> &str;

    /// A vector of length 1 for each window of 16 kHz mono sound, which is 0.4 to 1.6 s long; all of them are of one dimension, always. Blocks.
    ///
    /// # Errors
    /// The transcript does not say who speaks then.
    fn embed(&self, windows: &[&[f32]]) -> Result<Vec<Vec<f32>>, AiError>;
}
