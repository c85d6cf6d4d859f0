//! How loud a new recording is: the sound is that of the pieces, and what is left of it is measured anew.

use std::sync::Arc;

use loom_core::MediaKind;
use loom_hls::stored::StoredTrack;
use loom_transcode::{Loudness, listen};

use super::plan::Plan;
use crate::download;
use crate::error::EngineError;
use crate::event::RecordingState;
use crate::packets::Packets;
use crate::recording::Inner;
use crate::text;

/// Measures it, and tells. An edit is whole without.
pub(super) async fn measure(recording: &Arc<Inner>, plan: &Plan) {
    let working = recording.clone();
    let heard = tokio::task::spawn_blocking(move || hear(&working)).await;
    match heard.unwrap_or(Err(EngineError::ShuttingDown)) {
        Ok(heard) => {
            let gain = gain(plan);
            recording.update(|info| info.loudness = heard.map(|heard| Loudness { gain, ..heard }));
        }
        Err(why) => {
            tracing::warn!(recording = %recording.id, error = %why, "how loud it is was not measured")
        }
    }
}

/// Of the main sound that most players know, as of a recording's. Blocks.
fn hear(recording: &Arc<Inner>) -> Result<Option<Loudness>, EngineError> {
    let Some(sound) = download::best(&recording.info(), MediaKind::Audio) else {
        return Ok(None);
    };
    let list = recording.folder.read(&text::playlist(&sound.id), 0, None)?;
    let list = list.unwrap_or_default();
    if String::from_utf8_lossy(&list).contains("#EXT-X-KEY:") {
        return Ok(None); // what is encrypted is not decoded
    }
    let track = StoredTrack::from_playlist(&sound.id, &String::from_utf8_lossy(&list))?;
    let is_over = |recording: &Inner| recording.state_now() != RecordingState::Processing;
    let packets = Packets::new(recording, &track.segments, is_over);
    Ok(listen(&recording.shared.capabilities, packets)?)
}

/// By how much the sound of all pieces was made louder, where that is the same.
fn gain(plan: &Plan) -> Option<f64> {
    let of = |nth: usize| plan.pieces.get(nth)?.recording.info().loudness?.gain;
    let first = of(0);
    first.filter(|_| (1..plan.pieces.len()).all(|nth| of(nth) == first))
}
