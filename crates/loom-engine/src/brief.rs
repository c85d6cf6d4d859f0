//! What a language model makes of a transcript, beside the recording: nothing waits for it.

use std::sync::Arc;

use loom_ai::Brief;

use crate::error::EngineError;
use crate::jobs::{self, JobKind};
use crate::recording::{Inner, Recording};

/// Where it lies.
pub(crate) const BRIEF: &str = "brief.json";

impl Recording {
    /// Title, summary and action items that [`EngineConfig::text_model`](crate::EngineConfig::text_model) has written: once
    /// [`JobKind::Brief`] is done.
    pub fn brief(&self) -> Option<Arc<Brief>> {
        self.0.brief()
    }
}

/// The transcript is written: where there is a model, and something was said, it has its turn.
pub(crate) fn follow(recording: &Arc<Inner>) {
    let said = recording
        .final_transcript()
        .is_some_and(|it| !it.text.trim().is_empty());
    if said && recording.shared.config.text_model.is_some() {
        jobs::add(recording, JobKind::Brief);
    }
}

/// The job [`JobKind::Brief`].
pub(crate) async fn write(recording: &Arc<Inner>) -> Result<(), EngineError> {
    let (Some(model), Some(transcript)) = (
        recording.shared.config.text_model.clone(),
        recording.final_transcript(),
    ) else {
        return Ok(()); // it was queued by an engine that had a model
    };
    let turn = recording.shared.briefs.clone().acquire_owned().await;
    let turn = turn.map_err(|_| EngineError::ShuttingDown)?;
    let made = tokio::task::spawn_blocking(move || {
        let _turn = turn; // it ends with the work, whoever waits for that
        Brief::of(&transcript, &*model)
    });
    let made = made.await;
    let made = made.map_err(|why| why.to_string());
    let brief = made
        .and_then(|made| made.map_err(|why| why.to_string()))
        .map_err(|why| {
            tracing::warn!(recording = %recording.id, why, "the language model gave no answer");
            EngineError::NotReady("the language model gave no answer; see the log".to_owned())
        })?;
    if *recording.cancel.borrow() {
        return Ok(()); // nobody wants it any more
    }
    let json = serde_json::to_vec(&brief).map_err(|why| EngineError::NotReady(why.to_string()))?;
    recording.folder.put(BRIEF, &json)?;
    recording.set_brief(Arc::new(brief));
    Ok(())
}

/// Takes up what an earlier process has written.
pub(crate) fn resume(recording: &Inner) {
    if let Ok(Some(json)) = recording.folder.read(BRIEF, 0, None)
        && let Ok(brief) = serde_json::from_slice(&json)
    {
        recording.set_brief(Arc::new(brief));
    }
}
