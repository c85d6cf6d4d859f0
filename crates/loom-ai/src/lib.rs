//! PCM to captions: voice activity, Whisper on candle, stable live cues, and the transcript after stop.
//!
//! Invariant: a cue, once shown, only grows at its end until its one final form; silence is never decoded; the same PCM always
//! gives the same cues.
//!
//! [`Model::locate`] finds a model on this machine or fetches one, [`Model::load`] reads it (Hugging Face safetensors,
//! GGUF, whisper.cpp `ggml`, OpenAI `.pt`), and any number of recordings share it: a [`Captioner`] each while they are live,
//! [`transcribe`] once they have stopped. All that is feature `candle`, which is on by default. A [`Transcriber`] of a host's own takes the
//! model's place. Features `cuda` and `metal` add GPUs, which are one setting ([`ModelConfig::device`]): all sessions are then batched by the one
//! thread that owns the device.
//!
//! A [`Model`] is `Send` and `Sync`; a [`Captioner`] is `Send`, one owner each.

#[cfg(feature = "candle")]
mod agreement;
#[cfg(feature = "candle")]
mod align;
#[cfg(feature = "candle")]
mod attention;
#[cfg(feature = "candle")]
mod bar;
#[cfg(feature = "candle")]
mod beam;
#[cfg(feature = "candle")]
mod byte_pairs;
#[cfg(feature = "candle")]
mod captioner;
mod correction;
#[cfg(feature = "candle")]
mod decode;
#[cfg(feature = "candle")]
mod decoder;
mod device;
#[cfg(feature = "candle")]
mod download;
mod embedder;
#[cfg(feature = "candle")]
mod encoder;
mod error;
#[cfg(feature = "candle")]
mod fixed;
#[cfg(all(feature = "candle", any(test, feature = "fuzzing")))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "candle")]
mod gaze;
#[cfg(feature = "candle")]
mod http_text_model;
#[cfg(feature = "candle")]
mod hub;
#[cfg(feature = "candle")]
mod kernels;
mod limits;
mod lines;
#[cfg(feature = "candle")]
mod local_embedder;
#[cfg(feature = "candle")]
mod local_text_model;
#[cfg(feature = "candle")]
mod locate;
#[cfg(feature = "candle")]
mod mel;
#[cfg(feature = "candle")]
mod model;
mod model_config;
mod moderator;
#[cfg(feature = "candle")]
mod network;
#[cfg(feature = "candle")]
mod prompt;
#[cfg(feature = "candle")]
mod quant;
mod said;
mod speakers;
#[cfg(feature = "candle")]
mod tensors;
mod text_model;
#[cfg(feature = "candle")]
mod tones;
#[cfg(feature = "candle")]
mod transcribe;
mod transcriber;
mod transcript;
#[cfg(feature = "candle")]
mod vad;
#[cfg(feature = "candle")]
mod vocabulary;
#[cfg(feature = "candle")]
mod weights;
#[cfg(feature = "candle")]
mod wheel;

#[cfg(feature = "candle")]
pub use bar::terminal_progress;
#[cfg(feature = "candle")]
pub use captioner::{Captioner, CaptionerConfig};
pub use correction::Correction;
pub use device::Device;
pub use embedder::Embedder;
pub use error::AiError;
#[cfg(feature = "candle")]
pub use http_text_model::{HttpTextModel, HttpTextModelConfig};
#[cfg(feature = "candle")]
pub use local_embedder::LocalEmbedder;
#[cfg(feature = "candle")]
pub use local_text_model::{LocalTextModel, LocalTextModelConfig, Sampling};
#[cfg(feature = "candle")]
pub use locate::{LocateProgress, ModelFiles, ModelOrigin};
#[cfg(feature = "candle")]
pub use model::Model;
pub use model_config::{Download, ModelConfig};
pub use moderator::{Finding, ModelModerator, Moderator, WordList};
#[cfg(feature = "candle")]
pub use prompt::Task;
pub use said::{Chapter, Excerpt, Gist, KeyPhrase};
#[cfg(feature = "candle")]
pub use speakers::VoiceEncoder;
pub use speakers::{SpeakerEncoder, SpeakerTurns, SpeakersConfig};
pub use text_model::{Brief, TextModel};
#[cfg(feature = "candle")]
pub use transcribe::{TranscribeConfig, transcribe};
pub use transcriber::{CaptionOutput, LiveTranscriber, Transcriber};
pub use transcript::{Segment, Transcript};
#[cfg(feature = "candle")]
pub use vad::VoiceActivityConfig;

/// What may be held anywhere and used from any thread, and what one thread at a time may.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Transcript>();
    shared::<WordList>();
    shared::<AiError>();
    #[cfg(feature = "candle")]
    {
        const fn sent<T: Send>() {}
        shared::<Model>();
        shared::<HttpTextModel>();
        shared::<LocalTextModel>();
        shared::<LocalEmbedder>();
        sent::<Captioner>();
    }
};
