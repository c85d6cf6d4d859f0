//! A media file processed as a live recording would be, as fast as the machine allows.
//!
//! The file lies in the recording's folder until the recording is done, and so do the chunks that are encoded of it. A process that finds them
//! packages everything anew, from the beginning, and encodes what is missing.

pub(crate) mod chunks;
mod kept;
mod order;
mod place;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use loom_core::WallClock;
use loom_hls::{Packager, PackagerConfig};
use loom_transcode::{MediaInfo, Output, Outputs, Plan, SourceShape, VideoInfo, Wanted, limits, plan};

use crate::error::EngineError;
use crate::event::tracks_of;
use crate::finish;
use crate::folder::{Folder, SOURCE};
use crate::gather::stopped;
use crate::keys::EncryptionConfig;
use crate::live;
use crate::packaging::{Packaging, told};
use crate::pump::{self, Pump};
use crate::recording::Inner;
use crate::salvage;

pub(crate) use place::Place;

/// How often a sound is listened to at most, to find how much louder it is to be.
const LISTENINGS: usize = 3;

/// The length of a file's segments.
const SEGMENT: Duration = Duration::from_secs(4);

pub(crate) async fn import(recording: &Arc<Inner>, file: PathBuf) -> Result<(), EngineError> {
    recording.begin_import()?;
    // A task of its own: a caller that goes away while the file is looked at leaves no recording half begun.
    tokio::spawn(begin(recording.clone(), file))
        .await
        .map_err(|_| EngineError::ShuttingDown)?
}

/// Takes a file over and begins to process it.
async fn begin(recording: Arc<Inner>, file: PathBuf) -> Result<(), EngineError> {
    let working = recording.clone();
    let taken = tokio::task::spawn_blocking(move || kept::take(&working.folder, &file)).await;
    if let Err(why) = taken.map_err(|_| EngineError::ShuttingDown)? {
        recording.fail(why.to_string());
        return Err(why);
    }
    recognise(recording).await
}

/// One that was processed when its process ended is gone on with.
pub(crate) fn resume(recording: &Arc<Inner>) {
    recording.live.begin();
    recording.update(|info| info.duration = 0.0);
    let recording = recording.clone();
    tokio::spawn(async move {
        let working = recording.clone();
        let again = tokio::task::spawn_blocking(move || kept::again(&working.folder)).await;
        match again {
            // it says itself why it fails
            Ok(Ok(())) => drop(recognise(recording).await),
            Ok(Err(why)) => give_up(&recording, why.to_string()),
            Err(_) => recording.fail("it was cut off while it was read"),
        }
    });
}

/// That a process ends by being asked to is no reason to think that the file has ended it.
pub(crate) fn hand_back(recording: &Inner) {
    kept::hand_back(&recording.folder);
}

/// Removes what is kept of a file, and of chunks, and is of no use once all is made.
pub(crate) fn clear(folder: &Folder) {
    kept::clear(folder);
}

fn give_up(recording: &Arc<Inner>, why: String) {
    recording.fail(why);
    kept::clear(&recording.folder);
}

/// Looks at the file, and starts its processing.
async fn recognise(recording: Arc<Inner>) -> Result<(), EngineError> {
    let file = recording.folder.path(SOURCE);
    let info = match recording.shared.place.probe(file.clone()).await {
        Ok(info) => info,
        Err(why) => {
            let why = without_path(&recording, why);
            give_up(&recording, why.to_string());
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
            give_up(&recording, why.to_string());
            return Err(EngineError::BadMedia(why.to_string()));
        }
    };
    tokio::spawn(run(recording, info, plan));
    Ok(())
}

/// An error as whoever brought the file is told it.
fn without_path(recording: &Inner, why: EngineError) -> EngineError {
    match why {
        EngineError::Transcode(why) => unusable(recording, &why.to_string()),
        other => other,
    }
}

/// In the words of `why`, but for the server's path of the file.
fn unusable(recording: &Inner, why: &str) -> EngineError {
    let file = recording.folder.path(SOURCE);
    EngineError::BadMedia(why.replace(&format!("{file:?}"), "the file"))
}

/// Whether anything is left of what was to be made; `why` is what failed first.
fn check_left(recording: &Inner, why: Option<String>) -> Result<(), EngineError> {
    match why {
        Some(why) if recording.info().renditions.is_empty() => Err(unusable(recording, &why)),
        _ => Ok(()),
    }
}

async fn run(recording: Arc<Inner>, info: MediaInfo, plan: Plan) {
    let (mut cancelled, mut over) = (recording.cancel.subscribe(), recording.shared.over.subscribe());
    let outcome = tokio::select! {
        outcome = AssertUnwindSafe(process(&recording, &info, plan)).catch_unwind() => outcome,
        () = stopped(&mut cancelled) => return kept::clear(&recording.folder),
        // the next engine goes on with it
        () = stopped(&mut over) => return,
    };
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(why)) => {
            let why = without_path(&recording, why).to_string();
            give_up(&recording, why);
        }
        Err(_) => salvage::salvage(&recording, "an internal error ended the import"),
    }
}

async fn process(recording: &Arc<Inner>, info: &MediaInfo, mut plan: Plan) -> Result<(), EngineError> {
    level(recording, &mut plan).await?;
    let plan = &plan;
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
            zero: kept::came(&recording.folder)?,
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
    let thumbnails = plan.video.as_ref().and_then(|video| video.thumbnails);
    let pump = Pump::new(recording.clone(), packaging, None, thumbnails);
    let packaging = match is_cut(info, plan) {
        true => chunks::run_on(recording, plan, pump).await?,
        false => whole(recording, plan, pump).await?,
    };
    if let Some(why) = recording.info().reason {
        give_up(recording, why);
        return Ok(());
    }
    packaging.finish().await?;
    finish::begin(recording);
    kept::clear(&recording.folder);
    finish::end(recording).await;
    Ok(())
}

/// Decides by how much the sound is made louder, where a loudness is wanted: it is listened to before anything is encoded.
async fn level(recording: &Arc<Inner>, plan: &mut Plan) -> Result<(), EngineError> {
    for _ in 0..LISTENINGS {
        let Some(measuring) = plan.measuring() else { break };
        let mut outputs = run_on_file(recording, measuring).await?;
        let mut heard = None;
        while let Some(output) = outputs.recv().await {
            match output {
                Output::Loudness(loudness) => heard = Some(loudness),
                Output::Warning(what) => {
                    tracing::warn!(recording = %recording.id, what, "the sound is measured");
                }
                _ => {}
            }
        }
        // silence has no loudness, and stays as it is
        if !heard.is_some_and(|heard| plan.handle_loudness(&heard)) {
            break;
        }
    }
    Ok(())
}

/// Whether a file is encoded in chunks: where pictures are encoded, and have key frames to cut at.
fn is_cut(info: &MediaInfo, plan: &Plan) -> bool {
    let encodes = plan.video.as_ref().is_some_and(|video| !video.rungs.is_empty());
    let in_groups = |video: &VideoInfo| video.group_bytes <= limits::GROUP_BYTES;
    encodes && info.video.as_ref().is_some_and(in_groups)
}

/// Runs a plan on the whole file: one chunk, of which nothing is kept.
async fn whole(recording: &Arc<Inner>, plan: &Plan, mut pump: Pump) -> Result<Packaging, EngineError> {
    let mut outputs = run_on_file(recording, plan.clone()).await?;
    let mut failed = None;
    while let Some(output) = outputs.recv().await {
        if let Output::Failed { reason, .. } = &output {
            failed.get_or_insert_with(|| reason.clone());
        }
        if !pump.handle(output).await {
            break;
        }
    }
    check_left(recording, failed)?;
    Ok(pump.finish().await)
}

async fn run_on_file(recording: &Arc<Inner>, plan: Plan) -> Result<Outputs, EngineError> {
    recording
        .shared
        .place
        .run(plan, recording.folder.path(SOURCE))
        .await
}
