//! Named limits on what a model file, a download, a decode and a person's corrections may ask for.
#![cfg_attr(
    not(feature = "candle"),
    allow(dead_code, reason = "most of them are a model's")
)]

/// Samples a second of every PCM that this crate reads, Hz.
pub(crate) const SAMPLE_RATE: usize = 16_000;
/// Samples between two mel frames (10 ms).
pub(crate) const HOP: usize = 160;
/// Mel frames a position of the encoder's output stands for.
pub(crate) const FRAMES_PER_POSITION: usize = 2;
/// Samples a position of the encoder's output stands for (20 ms).
pub(crate) const SAMPLES_PER_POSITION: usize = HOP * FRAMES_PER_POSITION;

/// Tokens a vocabulary may hold (large-v3 has 51,866).
pub(crate) const MAX_VOCABULARY: usize = 200_000;
/// Bytes one token may have.
pub(crate) const MAX_TOKEN_BYTES: usize = 4_096;
/// Layers an encoder or decoder may have (large has 32).
pub(crate) const MAX_LAYERS: usize = 64;
/// Width of the residual stream (large has 1,280).
pub(crate) const MAX_WIDTH: usize = 4_096;
/// Mel bins (80, or 128 for large-v3).
pub(crate) const MAX_MELS: usize = 256;
/// Positions of audio or text (1,500 and 448 in every published model).
pub(crate) const MAX_POSITIONS: usize = 8_192;
/// Dimensions of a tensor in a `ggml` or GGUF file.
pub(crate) const MAX_DIMS: usize = 4;
/// Tensors of a GGUF file (large has 1,259).
pub(crate) const MAX_TENSORS: usize = 16_384;
/// Fields before them.
pub(crate) const MAX_FIELDS: usize = 4_096;
/// Values that the arrays of a GGUF file's fields may have in all (Qwen 3 has 455,000, Llama 3 540,000).
pub(crate) const MAX_ELEMENTS: usize = 2 << 20;
/// Bytes of a text in a GGUF file's fields (chat templates have up to 20,000).
pub(crate) const MAX_TEXT: usize = 1 << 20;
/// Bytes of a tensor's name in a `ggml` or GGUF file, and of a speaker's.
pub(crate) const MAX_NAME: usize = 512;
/// Layers that a language model may have (Llama 3 70B has 80).
pub(crate) const MAX_TEXT_LAYERS: usize = 128;
/// Width of its residual stream and of its feed-forward layers (Llama 3 70B has 8,192 and 28,672).
pub(crate) const MAX_TEXT_WIDTH: usize = 65_536;
/// Tokens that one may have been made for (Llama 3.1: 131,072).
pub(crate) const MAX_POSITIONS_OF_TEXT: usize = 1 << 24;
/// Tokens that it may be asked to keep in mind: keys and values are kept for each.
pub(crate) const MAX_CONTEXT: usize = 32_768;
/// Bytes of a JSON file beside the weights.
pub(crate) const MAX_JSON: u64 = 64 << 20;
/// Bytes of any one download.
pub(crate) const MAX_DOWNLOAD: u64 = 4 << 30;
/// Bytes of a package index page.
pub(crate) const MAX_INDEX_PAGE: u64 = 8 << 20;
/// Tokens generated for one window, whatever its length.
pub(crate) const MAX_WINDOW_TOKENS: usize = 224;
/// Windows that a device may hold at once.
pub(crate) const MAX_AT_ONCE: usize = 256;
/// Words of a segment that a person writes anew, and of what it said before: the two are compared.
pub(crate) const MAX_SEGMENT_WORDS: usize = 2_000;
/// Bytes of text of a transcript that a person has corrected: some forty hours of speech.
pub(crate) const MAX_TRANSCRIPT_BYTES: usize = 2 << 20;
/// Groups of like windows that are kept of a recording's voices.
pub(crate) const MAX_VOICES: usize = 512;
/// Speakers of a recording.
pub(crate) const MAX_SPEAKERS: usize = 50;
/// Bytes of a speaker encoder's file.
pub(crate) const MAX_VOICE_ENCODER: u64 = 256 << 20;
/// Width of a speaker encoder's layers (256), and of its vectors.
pub(crate) const MAX_VOICE_WIDTH: usize = 2_048;
/// Layers of a speaker encoder (3).
pub(crate) const MAX_VOICE_LAYERS: usize = 8;
/// Bytes of a pickle in a file of tensors (large-v3 has 190,000).
pub(crate) const MAX_PICKLE: u64 = 64 << 20;
/// Steps that one may have (large-v3 has some 60,000), and entries that are copied in it.
pub(crate) const MAX_PICKLE_STEPS: usize = 1 << 20;
/// Things within things in one.
pub(crate) const MAX_PICKLE_DEPTH: usize = 64;
/// Bytes of a text in one.
pub(crate) const MAX_PICKLE_TEXT: usize = 1 << 16;
