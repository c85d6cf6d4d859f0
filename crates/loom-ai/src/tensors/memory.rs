use super::blocks::HEAD;
use super::whisper::{SPARE, STRIDE, TOGETHER};
use crate::limits::FRAMES_PER_POSITION;
use crate::weights::Dims;

/// How many values a model keeps on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) weights: u64,
    /// Keys and values of sound and tokens, of all windows that are held at once.
    pub(super) caches: u64,
    /// The largest tensors that live at once while it works, and room for the device's own libraries.
    pub(super) work: u64,
}

/// Values' worth of memory that a GPU's libraries take for themselves (256 MB of F16).
const LIBRARIES: u64 = 128 << 20;

impl Need {
    /// Of a model whose weights are so many values, for `at_once` windows.
    pub(super) fn new(weights: usize, dims: &Dims, at_once: usize) -> Self {
        let width = dims.width as u64;
        let heads = width / HEAD as u64;
        let (sound, text) = (dims.audio_positions as u64, dims.text_positions as u64);
        let (slots, together, stride) = (at_once as u64, TOGETHER as u64, STRIDE as u64);
        let held = sound + text + SPARE as u64;
        // Encoding: scores, masked scores and shares of all heads; beside them rows of the width, and the first convolution's frames, three
        // of them side by side.
        let encode = together * sound * (3 * heads * sound + 24 * width)
            + together * sound * FRAMES_PER_POSITION as u64 * 8 * width;
        // A step: scores, masked scores and shares over sound and tokens; rows of the width; logits of a row for each token, and these as
        // f32, which counts double.
        let rows = slots * stride;
        let step = rows * (3 * heads * (sound + text) + 24 * width)
            + slots * stride.min(8) * 3 * dims.vocabulary as u64;
        Self {
            weights: weights as u64,
            caches: 2 * dims.text_layers as u64 * slots * held * width,
            work: encode.max(step) + LIBRARIES,
        }
    }

    pub(super) fn values(&self) -> u64 {
        self.weights + self.caches + self.work
    }
}
