//! An engine for tests, and its recordings' ends.

use std::path::Path;
use std::time::Duration;

use loom_engine::{CaptionsConfig, EngineConfig, Event, IngestConfig, Recording, RecordingState, Transcript};

/// On loopback, without captions.
pub(crate) fn config(data_dir: &Path) -> EngineConfig {
    EngineConfig {
        data_dir: data_dir.to_owned(),
        ingest: IngestConfig {
            udp: ([127, 0, 0, 1], 0).into(),
            ..IngestConfig::default()
        },
        captions: CaptionsConfig {
            enabled: false,
            ..CaptionsConfig::default()
        },
        ..EngineConfig::default()
    }
}

/// Waits for it.
pub(crate) async fn ended(recording: &Recording) -> RecordingState {
    let mut events = recording.events();
    let wait = async {
        while let Some(event) = events.next().await {
            if let Event::State { state, .. } = event
                && state.is_final()
            {
                return state;
            }
        }
        recording.info().state
    };
    tokio::time::timeout(Duration::from_secs(120), wait)
        .await
        .expect("the recording ends")
}

/// What was said where nothing was.
pub(crate) fn silence(model: &str, pcm: &[f32]) -> Transcript {
    Transcript {
        language: "en".to_owned(),
        model: model.to_owned(),
        duration: pcm.len() as f64 / 16_000.0,
        text: String::new(),
        segments: Vec::new(),
    }
}
