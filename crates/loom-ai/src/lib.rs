//! PCM to captions: voice activity, Whisper on candle, stable live cues, and the transcript after stop.
//!
//! Invariant: a cue, once shown, only grows at its end until its one final form; silence is never decoded; the same PCM always
//! gives the same cues.
//!
//! [`Model::locate`] finds a model on this machine or fetches one, [`Model::load`] reads it (Hugging Face safetensors,
//! whisper.cpp `ggml`, OpenAI `.pt`), and any number of recordings share it: a [`Captioner`] each while they are live,
//! [`transcribe`] once they have stopped.

mod agreement;
mod align;
mod bar;
mod captioner;
mod decode;
mod decoder;
mod download;
mod encoder;
mod error;
mod gaze;
mod hub;
mod kernels;
mod limits;
mod lines;
mod locate;
mod mel;
mod model;
mod transcribe;
mod transcript;
mod vad;
mod vocabulary;
mod weights;
mod wheel;

pub use bar::terminal_progress;
pub use captioner::{CaptionOutput, Captioner, CaptionerConfig};
pub use error::AiError;
pub use locate::{Download, LocateProgress, ModelConfig, ModelFiles, ModelOrigin};
pub use model::Model;
pub use transcribe::{TranscribeConfig, transcribe};
pub use transcript::{Segment, Transcript};
pub use vad::VoiceActivityConfig;
