#[cfg(feature = "candle")]
use std::path::Path;
use std::path::PathBuf;

/// What can go wrong between a model's name and a transcript.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AiError {
    /// No model could be found, and the sentence says where it was looked for.
    #[error(
        "no speech model found: {tried}; set LOOM_MODEL to a model's folder or file, or allow a download once"
    )]
    ModelNotFound {
        /// Each place that was tried and why it gave nothing, separated by "; ".
        tried: String,
    },
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A download failed: the host did not answer, answered with an error, or stopped half way.
    #[error("cannot download {url}: {reason}")]
    Download {
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// A downloaded file is not the one that was pinned; it was thrown away.
    #[error("{what} has sha256 {found}, expected {expected}")]
    Checksum {
        /// The file.
        what: String,
        /// The pinned digest, hex.
        expected: String,
        /// The digest of what came, hex.
        found: String,
    },
    /// A model file breaks its format, is truncated, or is another architecture.
    #[error("{}: {what}: {rule}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The tensor or field.
        what: String,
        /// What it should be.
        rule: String,
    },
    /// A configuration value is out of its range.
    #[error("{field}: {rule}")]
    Config {
        /// The field.
        field: &'static str,
        /// The range it must be in.
        rule: &'static str,
    },
    /// PCM is not what this crate takes: one channel at 16,000 Hz.
    #[error("pcm at {at} has {channels} channels at {sample_rate} hz, expected 1 at 16000")]
    PcmShape {
        /// When the frame begins.
        at: loom_core::MediaTime,
        /// Channels it has.
        channels: u16,
        /// Its rate, Hz.
        sample_rate: u32,
    },
    /// A language model gave no answer.
    #[error("text model {model}: {reason}")]
    TextModel {
        /// Its name.
        model: String,
        /// What happened.
        reason: String,
    },
    /// A device cannot be heard with: it is not built in, not there, or refuses.
    #[error("cannot hear with {device}: {reason}")]
    Device {
        /// The device.
        device: crate::Device,
        /// What is missing, or what it said.
        reason: String,
    },
    /// A device has too little memory for a model. Nothing was loaded.
    #[error(
        "{device} has {} MB free, and {model} takes {} MB there for {at_once} windows at once ({} MB of them weights)",
        .free >> 20, .needed >> 20, .weights >> 20
    )]
    Memory {
        /// The device.
        device: crate::Device,
        /// The model's name.
        model: String,
        /// Windows that it was to hear at once ([`ModelConfig::at_once`](crate::ModelConfig::at_once)).
        at_once: usize,
        /// Bytes that weights, caches and work take.
        needed: u64,
        /// Bytes of these that are weights.
        weights: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A transcript cannot be corrected so.
    #[error("correction {number}: {why}")]
    Correction {
        /// The correction's place among those that were asked for, from 0.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The arithmetic failed: a tensor's shape does not fit, or memory ran out.
    #[error("inference failed: {0}")]
    Inference(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(feature = "candle")]
impl From<candle_core::Error> for AiError {
    fn from(error: candle_core::Error) -> Self {
        Self::Inference(Box::new(error))
    }
}

#[cfg(feature = "candle")]
impl AiError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn malformed(path: &Path, what: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            what: what.into(),
            rule: rule.into(),
        }
    }
}
