//! Where the bytes of files are read: in this process, or in processes of their own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use loom_transcode::{
    Apart, ApartConfig, Backend, ChunkWorker, GstBackend, MediaInfo, Outputs, Plan, SourceChunks, probe_file,
    read_chunks,
};

use crate::config::FileConfig;
use crate::error::EngineError;

/// Each does the same, to the byte.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Here(Arc<dyn Backend>),
    /// Each file in its own.
    Apart(ApartConfig),
}

impl Place {
    pub(crate) fn new(config: &FileConfig, backend: &Arc<dyn Backend>) -> Self {
        match &config.apart {
            Some(apart) => Self::Apart(apart.clone()),
            None => Self::Here(backend.clone()),
        }
    }

    pub(super) async fn probe(&self, file: PathBuf) -> Result<MediaInfo, EngineError> {
        match self {
            Self::Here(_) => waited(move || probe_file(&file)).await,
            Self::Apart(apart) => Ok(Apart::new(apart.clone()).probe(&file).await?),
        }
    }

    pub(super) async fn read_chunks(
        &self,
        plan: Plan,
        file: PathBuf,
        least: Duration,
    ) -> Result<SourceChunks, EngineError> {
        match self {
            Self::Here(_) => waited(move || read_chunks(&plan, &file, least)).await,
            Self::Apart(apart) => Ok(Apart::new(apart.clone()).read_chunks(&plan, &file, least).await?),
        }
    }

    /// Runs a plan on the whole file.
    pub(super) async fn run(&self, plan: Plan, file: PathBuf) -> Result<Outputs, EngineError> {
        match self {
            Self::Here(backend) => {
                let backend = backend.clone();
                waited(move || backend.file(&plan, &file)).await
            }
            Self::Apart(apart) => Ok(Apart::new(apart.clone()).file(&plan, &file).await?),
        }
    }

    /// What encodes chunks on this machine.
    pub(super) fn encoder(&self) -> Result<Arc<dyn ChunkWorker>, EngineError> {
        Ok(match self {
            Self::Here(_) => Arc::new(GstBackend::new()?),
            Self::Apart(apart) => Arc::new(Apart::new(apart.clone())),
        })
    }
}

async fn waited<T: Send + 'static>(
    blocks: impl FnOnce() -> Result<T, loom_transcode::TranscodeError> + Send + 'static,
) -> Result<T, EngineError> {
    let done = tokio::task::spawn_blocking(blocks).await;
    Ok(done.map_err(|_| EngineError::ShuttingDown)??)
}
