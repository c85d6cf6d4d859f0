use std::path::PathBuf;

use crate::AiError;
use crate::locate::{LocateProgress, ModelConfig};

/// Where the cache keeps the hub's files of the configured model.
pub(crate) fn folder(config: &ModelConfig) -> PathBuf {
    config.cache.join(config.repository.replace(['/', '\\'], "--"))
}

pub(crate) fn fetch(
    config: &ModelConfig,
    _progress: &mut dyn FnMut(LocateProgress),
) -> Result<PathBuf, AiError> {
    Err(AiError::Download {
        url: config.hub.clone(),
        reason: "not reached".into(),
    })
}
