//! New recordings made of pieces of others: trimmed, cut, split, joined. Nothing is encoded again; the others stay as they are.
//!
//! A piece begins at the first key frame of the main picture that is not before the instant asked for, and ends with the last picture
//! that begins before the one asked for: nothing of what was left out is in the new recording. Each piece begins behind a discontinuity.

mod feed;
#[cfg(feature = "transcode")]
mod loudness;
mod plan;
mod said;
mod thumbnails;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use loom_core::{MediaTime, WallClock};
use loom_hls::{Packager, PackagerConfig};
use serde::{Deserialize, Serialize};

use crate::announced;
use crate::error::EngineError;
use crate::id::RecordingId;
use crate::keys::EncryptionConfig;
use crate::life::Step;
use crate::packaging::Packaging;
#[cfg(feature = "transcode")]
use crate::preview;
use crate::recording::{Inner, Recording};
use crate::text;

use plan::Plan;
#[cfg(feature = "transcode")]
pub(crate) use plan::declared;

/// A stretch of a recording, of which a new one is to be made.
///
/// ```no_run
/// use loom_engine::{Engine, EngineError, MediaTime, Piece, Recording, RecordingId};
///
/// /// The recording without what lies between these instants.
/// async fn without(engine: &Engine, whole: &Recording, from: MediaTime, to: MediaTime) -> Result<Recording, EngineError> {
///     let piece = |from, to| Piece { recording: whole.clone(), from, to };
///     let end = MediaTime::from_secs_f64(whole.info().duration);
///     engine.compose(RecordingId::random(), vec![piece(MediaTime::ZERO, from), piece(to, end)]).await
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Piece {
    /// The recording, which is ready.
    pub recording: Recording,
    /// Where it begins: at the first key frame of the main picture from here on.
    pub from: MediaTime,
    /// Where it ends: before what begins here or later.
    pub to: MediaTime,
}

/// A stretch of another recording that this one is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PieceDescription {
    /// The other recording.
    pub recording: RecordingId,
    /// Where in that it begins, seconds.
    pub from: f64,
    /// Where in that it ends, seconds. As it was asked for until the new recording is ready; then as it is.
    pub to: f64,
    /// Where in this one it begins, seconds; not known until it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<f64>,
}

/// Where a piece has come to lie in the new recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placed {
    /// Which of the pieces asked for.
    piece: usize,
    from: MediaTime,
    to: MediaTime,
    at: MediaTime,
}

impl Placed {
    /// An instant of the other recording in the new one.
    fn moved(&self, at: MediaTime) -> MediaTime {
        let at = at.clamp(self.from, self.to);
        self.at + at.since(self.from)
    }

    fn holds(&self, at: MediaTime) -> bool {
        (self.from..self.to).contains(&at)
    }
}

impl Recording {
    /// All of it, as a piece.
    pub fn whole(&self) -> Piece {
        self.piece(MediaTime::ZERO, MediaTime::from_secs_f64(self.info().duration))
    }

    /// A stretch of it.
    pub fn piece(&self, from: MediaTime, to: MediaTime) -> Piece {
        Piece {
            recording: self.clone(),
            from,
            to,
        }
    }

    /// What is left of it without these stretches, which may come in any order and may overlap.
    pub fn without(&self, stretches: &[(MediaTime, MediaTime)]) -> Vec<Piece> {
        let mut sorted = stretches.to_vec();
        sorted.sort_unstable();
        let whole = self.whole();
        let mut pieces = Vec::new();
        let mut at = whole.from;
        for (from, to) in sorted {
            if from > at {
                pieces.push(self.piece(at, from.min(whole.to)));
            }
            at = at.max(to);
        }
        if at < whole.to {
            pieces.push(self.piece(at, whole.to));
        }
        pieces
    }
}

/// Makes a recording of `pieces`: looks whether that can be done, and does it in the background.
pub(crate) async fn compose(
    create: impl FnOnce() -> Result<Recording, EngineError>,
    pieces: Vec<Piece>,
) -> Result<Recording, EngineError> {
    let plan = tokio::task::spawn_blocking(move || Plan::new(pieces))
        .await
        .map_err(|_| EngineError::ShuttingDown)??;
    let recording = create()?;
    recording.0.update(|info| {
        info.made_from = plan.described();
        info.captions = false;
    });
    recording.0.begin_import()?;
    tokio::spawn(run(recording.0.clone(), plan));
    Ok(recording)
}

/// One that was being made when its process ended is made from its beginning.
pub(crate) fn resume(recording: &Arc<Inner>) {
    recording.live.begin();
    recording.update(|info| {
        info.gaps.clear();
        info.duration = 0.0;
    });
    let recording = recording.clone();
    tokio::spawn(async move {
        let working = recording.clone();
        let again = tokio::task::spawn_blocking(move || {
            working.folder.empty()?;
            let pieces = working.info().made_from.into_iter().map(|piece| {
                let source = working.shared.open(&piece.recording)?;
                let at = MediaTime::from_secs_f64;
                Ok(source.piece(at(piece.from), at(piece.to)))
            });
            Plan::new(pieces.collect::<Result<_, EngineError>>()?)
        });
        match again.await {
            Ok(Ok(plan)) => run(recording, plan).await,
            Ok(Err(why)) => recording.fail(format!(
                "it was cut off while it was made, and cannot be made again: {why}"
            )),
            Err(_) => recording.fail("it was cut off while it was made"),
        }
    });
}

async fn run(recording: Arc<Inner>, plan: Plan) {
    let outcome = AssertUnwindSafe(make(&recording, plan)).catch_unwind().await;
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(why)) => recording.fail(why.to_string()),
        Err(_) => recording.fail("an internal error ended the edit"),
    }
}

async fn make(recording: &Arc<Inner>, plan: Plan) -> Result<(), EngineError> {
    let config = &recording.shared.config;
    let packager = PackagerConfig {
        zero: Some(WallClock {
            zero: SystemTime::now(),
        }),
        text: config.captions.form,
        encryption: config.encryption.as_ref().map(EncryptionConfig::packaged),
        ..PackagerConfig::file(config.segment, plan.longest_segment().max(SHORTEST_TARGET))
    };
    let packager = Packager::new(config.playlists.apply(&recording.id, packager))?;
    let packaging = Packaging::start(recording.clone(), packager, plan.declared(), None)?;
    recording.update(|info| {
        info.tracks = plan.tracks();
        info.renditions = plan.renditions();
        info.captions = plan.captions();
    });
    let (working, way) = (recording.clone(), packaging.clone());
    let fed = tokio::task::spawn_blocking(move || {
        let placed = feed::feed(&working, &plan, &way)?;
        Ok::<_, EngineError>((plan, placed))
    });
    let (plan, placed) = fed.await.map_err(|_| EngineError::ShuttingDown)??;
    if let Some(why) = recording.info().reason {
        recording.fail(why);
        return Ok(());
    }
    thumbnails::make(recording, &plan, &placed, &packaging).await?;
    packaging.finish().await?;
    recording.update(|info| {
        announced::keep(info, |id| recording.folder.path(&text::playlist(id)).is_file());
    });
    recording.complete();
    said::carry(recording, &plan, &placed, &packaging).await?;
    recording.update(|info| info.made_from = plan.placed(&placed));
    #[cfg(feature = "transcode")]
    {
        loudness::measure(recording, &plan).await;
        preview::store(recording).await;
    }
    recording.secure().await?;
    recording.happened(Step::Done);
    recording.wake();
    Ok(())
}

/// The least that the distance of key frames is taken for.
const SHORTEST_TARGET: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_of_a_piece_lies_as_far_behind_its_beginning_in_the_new_recording() {
        let ms = MediaTime::from_millis;
        let placed = Placed {
            piece: 0,
            from: ms(4_000),
            to: ms(6_000),
            at: ms(1_500),
        };
        assert_eq!(placed.moved(ms(5_000)), ms(2_500));
        assert_eq!(placed.moved(ms(3_000)), ms(1_500));
        assert_eq!(placed.moved(ms(9_000)), ms(3_500));
        assert!(placed.holds(ms(4_000)) && !placed.holds(ms(6_000)));
    }
}
