//! A media file processed as a live recording would be, as fast as the machine allows.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use loom_core::WallClock;
use loom_hls::{Packager, PackagerConfig};
use loom_transcode::{MediaInfo, Plan, SourceShape, TranscodeError, Wanted, plan, probe_file};

use crate::error::EngineError;
use crate::event::tracks_of;
use crate::finish;
use crate::gather::stopped;
use crate::keys::EncryptionConfig;
use crate::live;
use crate::packaging::{Packaging, told};
use crate::pump;
use crate::recording::Inner;
use crate::salvage;

/// The length of a file's segments.
const SEGMENT: Duration = Duration::from_secs(4);

pub(crate) async fn import(recording: &Arc<Inner>, file: PathBuf) -> Result<(), EngineError> {
    recording.begin_import()?;
    // A task of its own: a caller that goes away while the file is looked at leaves no recording half begun.
    tokio::spawn(recognise(recording.clone(), Taken(file)))
        .await
        .map_err(|_| EngineError::ShuttingDown)?
}

/// Looks at the file, and starts its processing.
async fn recognise(recording: Arc<Inner>, file: Taken) -> Result<(), EngineError> {
    let probed = probe(file.0.clone()).await;
    let info = match probed {
        Ok(info) => info,
        Err(why) => {
            let why = match why {
                EngineError::Transcode(why) => EngineError::BadMedia(describe(&why, &file.0)),
                other => other,
            };
            recording.fail(why.to_string());
            return Err(why);
        }
    };
    let wanted = live::wanted(&recording);
    let wanted = Wanted {
        // key frames within a segment would cost bits and be of no use
        key_interval: wanted.key_interval.max(SEGMENT),
        ..wanted
    };
    let plan = match plan(&info.shape(), &wanted, &recording.shared.capabilities) {
        Ok(plan) => plan,
        Err(why) => {
            recording.fail(why.to_string());
            return Err(EngineError::BadMedia(why.to_string()));
        }
    };
    tokio::spawn(run(recording, file, info, plan));
    Ok(())
}

async fn probe(file: PathBuf) -> Result<MediaInfo, EngineError> {
    let probed = tokio::task::spawn_blocking(move || probe_file(&file)).await;
    Ok(probed.map_err(|_| EngineError::ShuttingDown)??)
}

async fn run(recording: Arc<Inner>, file: Taken, info: MediaInfo, plan: Plan) {
    let outcome = AssertUnwindSafe(process(&recording, file, &info, &plan))
        .catch_unwind()
        .await;
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(why)) => recording.fail(why.to_string()),
        Err(_) => salvage::salvage(&recording, "an internal error ended the import"),
    }
}

async fn process(
    recording: &Arc<Inner>,
    file: Taken,
    info: &MediaInfo,
    plan: &Plan,
) -> Result<(), EngineError> {
    tracing::info!(recording = %recording.id, %plan, "the plan");
    let shape: SourceShape = info.shape();
    // Segments can begin where the source's key frames are, if it is kept, or else where the encoders make them.
    let kept = plan.video.as_ref().is_some_and(|video| video.keep.is_some());
    let longest = match shape.video.as_ref().and_then(|video| video.key_interval) {
        Some(between_keys) if kept => between_keys,
        _ => SEGMENT,
    };
    let playlists = &recording.shared.config.playlists;
    let packager = PackagerConfig {
        // a file has no hour of its own: it begins when it came, so that its playlists can have dates
        zero: Some(WallClock {
            zero: SystemTime::now(),
        }),
        text: recording.shared.config.captions.form,
        encryption: recording
            .shared
            .config
            .encryption
            .as_ref()
            .map(EncryptionConfig::packaged),
        ..PackagerConfig::file(SEGMENT, longest)
    };
    let packager = Packager::new(playlists.apply(&recording.id, packager))?;
    let captions = plan.audio.as_ref().is_some_and(|audio| audio.pcm);
    let renditions = pump::renditions(plan, captions, &[]);
    let packaging = Packaging::start(recording.clone(), packager, renditions, None)?;
    recording.update(|told_of| {
        told_of.tracks = tracks_of(&shape);
        told_of.renditions = plan.renditions.iter().map(told).collect();
        told_of.captions = captions;
    });
    let (backend, graph_plan, path) = (recording.shared.backend.clone(), plan.clone(), file.0.clone());
    let outputs = tokio::task::spawn_blocking(move || backend.file(&graph_plan, &path))
        .await
        .map_err(|_| EngineError::ShuttingDown)??;
    let thumbnails = plan.video.as_ref().and_then(|video| video.thumbnails);
    let mut cancelled = recording.cancel.subscribe();
    let packaging = tokio::select! {
        packaging = pump::pump(recording.clone(), outputs, packaging, None, thumbnails) => packaging,
        // the outputs are dropped, which ends the graph
        () = stopped(&mut cancelled) => return Ok(()),
    };
    if let Some(why) = recording.info().reason {
        recording.fail(why);
        return Ok(());
    }
    drop(file);
    packaging.finish().await?;
    finish::begin(recording);
    finish::end(recording).await;
    Ok(())
}

/// What is wrong with an upload, without the server's path for it.
fn describe(why: &TranscodeError, file: &Path) -> String {
    why.to_string().replace(&format!("{file:?}"), "the file")
}

/// A file that the engine took over; it is removed when it is no longer needed.
struct Taken(PathBuf);

impl Drop for Taken {
    fn drop(&mut self) {
        if let Err(why) = fs::remove_file(&self.0) {
            tracing::warn!(file = %self.0.display(), error = %why, "an imported file could not be removed");
        }
    }
}
