//! Screen and camera in one picture, as a stream beside the recording's own and as a file to download: made by a job, of a recording that is
//! ready, whose tracks stay as they are.
//!
//! The main picture is the screen, and the first picture aside the camera, as publishers send them. What is composed goes through the pipeline of
//! files: in chunks, of which the planner's ladder is encoded, wherever chunks are, and kept until all are. What was asked for last lies in
//! the folder. Each making has a name of its own in its renditions', here and in the store: what is said never to change is never written anew,
//! though the same layout be made again of another ladder.

mod source;
mod stream;

use std::sync::Arc;

use loom_core::MediaTime;
use loom_hls::stored::StoredTrack;
use loom_transcode::{
    Composed, Composition, SourceShape, SourceVideoCodec, VideoShape, Wanted, compose_chunks, plan,
};

use crate::error::EngineError;
use crate::event::{CompositionDescription, RecordingState};
use crate::folder::{COMPOSITION, Folder, LAYOUT, is_composed};
use crate::import::{self, chunks};
use crate::jobs::{self, JobDescription, JobKind};
use crate::recording::{Inner, Recording};

use source::Parts;
use stream::Stream;

impl Recording {
    /// Has screen and camera made into one picture: a stream of its own beside the recording's, with a ladder, the recording's sound, text and
    /// chapters, and its own thumbnails; by a job ([`JobKind::Composition`]), of which this gives how it stands. The main picture is the screen, the
    /// first picture aside the camera. Another layout takes the place of the one asked for before, and its stream that of the other, once it is
    /// made; to ask for the same again makes nothing anew.
    ///
    /// Cancellation: it is asked for, or not.
    ///
    /// ```no_run
    /// use loom_engine::{Composition, EngineError, JobState, Place, Placement, Recording};
    ///
    /// # async fn example(recording: Recording) -> Result<(), EngineError> {
    /// let middle = Placement { at: 60.0, place: Place::Centre { x: 0.5, y: 0.5 }, size: 0.8, ..Placement::default() };
    /// recording.lay_out(&Composition { placements: vec![Placement::default(), middle] }).await?;
    /// while recording.jobs().iter().any(|it| it.state != JobState::Done && it.state != JobState::Parked) {
    ///     tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    /// }
    /// if let Some(made) = recording.composition() {
    ///     println!("{} can be played", made.playlist); // `composition.m3u8`, where `main.m3u8` is
    ///     recording.download(&made.download()).await?.write_to("composed.mp4".as_ref())?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EngineError::BadComposition`] with the field that breaks a rule, [`EngineError::WrongState`] where the recording is not ready,
    /// [`EngineError::NoCamera`] where it has not two pictures, [`EngineError::Download`] where it is encrypted, [`EngineError::Io`].
    pub async fn lay_out(&self, composition: &Composition) -> Result<JobDescription, EngineError> {
        let bad = |why: loom_transcode::TranscodeError| EngineError::BadComposition(why.to_string());
        composition.check().map_err(bad)?;
        let (working, wanted) = (self.0.clone(), composition.clone());
        let asked = tokio::task::spawn_blocking(move || {
            Parts::of(&working)?;
            let json = serde_json::to_vec(&wanted).unwrap_or_default();
            working.folder.put(LAYOUT, &json)
        });
        asked.await.map_err(|_| EngineError::ShuttingDown)??;
        jobs::add(&self.0, JobKind::Composition);
        jobs::restart(&self.0, JobKind::Composition)
    }

    /// What was made of the layout that was asked for last ([`Self::lay_out`]), once it is.
    pub fn composition(&self) -> Option<CompositionDescription> {
        let wanted = wanted(&self.0).ok()??;
        self.info().composition.filter(|made| made.layout == wanted)
    }
}

/// The job [`JobKind::Composition`].
pub(crate) async fn make(recording: &Arc<Inner>) -> Result<(), EngineError> {
    let turn = recording.shared.compositions.clone().acquire_owned().await;
    let turn = turn.map_err(|_| EngineError::ShuttingDown)?;
    let working = recording.clone();
    let made = tokio::task::spawn_blocking(move || {
        // over when this thread is done, whether or not somebody waits for that
        let _turn = turn;
        let _alone = working.composing.blocking_lock();
        make_wanted(&working)
    });
    made.await.map_err(|_| EngineError::ShuttingDown)?
}

/// Discards what a process that was killed has left of a stream that was not whole. Nobody else makes one meanwhile.
pub(crate) fn tidy(folder: &Folder) {
    for left in folder.folders("").iter().filter(|it| is_composed(it)) {
        folder.discard_folder(left);
    }
}

fn make_wanted(recording: &Arc<Inner>) -> Result<(), EngineError> {
    let Some(layout) = wanted(recording)? else {
        return Ok(()); // nobody has asked
    };
    let folder = &recording.folder;
    tidy(folder);
    // what another try had brought there before it failed
    discard_others(recording);
    let made = match is_made(recording, &layout) {
        true => Ok(()),
        false => write(recording, &layout),
    };
    tidy(folder);
    match made {
        // it is over, or another job is queued behind this one
        Err(_) if is_unwanted(recording, &layout) => Ok(()),
        Err(_) if is_over(recording) => Err(EngineError::ShuttingDown),
        Err(why) => Err(why),
        Ok(()) => {
            // what is kept of chunks
            import::clear(folder);
            discard_others(recording);
            Ok(())
        }
    }
}

/// Whether all of it is there, on this disk or in the store.
fn is_made(recording: &Inner, layout: &Composition) -> bool {
    let info = recording.info();
    let Some(made) = info.composition.filter(|made| made.layout == *layout) else {
        return false;
    };
    let is_whole = |id| {
        let list = source::playlist(recording, id).unwrap_or_default();
        let track = StoredTrack::from_playlist(id, &list);
        track.is_ok_and(|track| {
            let mut media = track.segments.iter().filter(|it| !it.gap);
            !track.segments.is_empty() && media.all(|it| recording.has(&format!("hls/{}", it.key)))
        })
    };
    // another making may have come as far as its playlist, and no further; in the store lies what was told
    let list = listed(recording);
    let is_listed = made
        .renditions
        .first()
        .is_none_or(|it| list.is_empty() || list.contains(&format!("{}/", it.id)));
    is_listed
        && recording.has(&format!("hls/{}", made.playlist))
        && made.renditions.iter().all(|it| is_whole(&it.id))
}

/// Makes the stream, and brings it to its place.
fn write(recording: &Arc<Inner>, layout: &Composition) -> Result<(), EngineError> {
    let parts = Parts::of(recording)?;
    let even = |side: Option<u32>| side.unwrap_or_default() & !1;
    let size = (even(parts.screen.told.width), even(parts.screen.told.height));
    let (screen, camera) = (&parts.screen, &parts.camera);
    let rates = [screen.rate(recording)?, camera.rate(recording)?];
    let frame_rate = rates.into_iter().fold(LEAST_RATE, f64::max).min(MOST_RATE);
    let keys: Vec<MediaTime> = screen.media().map(|segment| segment.start).collect();
    let shape = SourceShape {
        video: Some(VideoShape {
            frame_rate: Some(frame_rate),
            ..VideoShape::new(SourceVideoCodec::H264, size.0, size.1)
        }),
        audio: None,
        live: false,
        duration: Some(parts.end().since(MediaTime::ZERO)),
    };
    let config = &recording.shared.config;
    let ladder = Wanted {
        keep_source: true,
        poster: false,
        ..config.ladder.clone()
    };
    let capabilities = &recording.shared.capabilities;
    let plan = plan(&shape, &ladder, capabilities).map_err(|why| EngineError::NotReady(why.to_string()))?;
    tracing::info!(recording = %recording.id, %plan, "the plan of a composition");
    let stream = Stream::new(recording, layout.clone(), &parts, &plan)?;
    let wanted = Composed {
        size,
        frame_rate,
        keys,
    };
    let work = async {
        let source = compose_chunks(
            capabilities,
            layout,
            wanted,
            (&plan, config.files.chunk),
            screen.packets(recording),
            camera.packets(recording),
        )?;
        chunks::run(recording, &plan, source, None, stream).await
    };
    let runtime = &recording.shared.runtime;
    let (stream, failed) = runtime.block_on(unless_over(recording, work))??;
    if let Some(why) = failed {
        return Err(EngineError::NotReady(why));
    }
    // whoever deletes it holds this, and waits for us
    let _text = runtime.block_on(unless_over(recording, recording.text.lock()))?;
    let made = stream.finish()?;
    // what says that it is there comes behind it
    recording.folder.secure()?;
    recording.set_composition(made);
    Ok(())
}

/// Discards the folders of every making but the one that is told of, and the one that the playlist names, whatever became of it.
fn discard_others(recording: &Inner) {
    let made = recording.info().composition;
    let told = made.as_ref().and_then(|made| made.renditions.first());
    let told = told.and_then(|it| making(it.id.as_str()));
    let (folder, listed) = (&recording.folder, listed(recording));
    for path in folder.folders("hls") {
        let other = path.strip_prefix("hls/").filter(|it| is_composed(it));
        let Some(other) = other.and_then(making) else {
            continue;
        };
        if Some(other) != told && !listed.contains(&format!("{other}-")) {
            folder.discard_folder(&path);
        }
    }
}

/// What the names of a making's folders begin with.
fn making(folder: &str) -> Option<&str> {
    folder.rsplit_once('-').map(|(making, _)| making)
}

/// The playlist that names the renditions, empty where there is none on this disk.
fn listed(recording: &Inner) -> String {
    let list = recording.folder.read(&format!("hls/{COMPOSITION}.m3u8"), 0, None);
    let list = list.ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&list).into_owned()
}

/// The layout that was asked for last; `None` where nobody has asked.
fn wanted(recording: &Inner) -> Result<Option<Composition>, EngineError> {
    let Some(json) = recording.folder.read(LAYOUT, 0, None)? else {
        return Ok(None);
    };
    let unreadable = EngineError::io("read", recording.folder.path(LAYOUT));
    serde_json::from_slice(&json)
        .map(Some)
        .map_err(|why| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, why)))
}

/// Whether the recording was deleted, or the engine has ended.
fn is_over(recording: &Inner) -> bool {
    recording.state_now() == RecordingState::Deleted || *recording.shared.over.borrow()
}

/// Does it; breaks it off once it is over.
async fn unless_over<T>(recording: &Inner, work: impl Future<Output = T>) -> Result<T, EngineError> {
    tokio::select! {
        biased;
        () = ended(recording) => Err(EngineError::ShuttingDown),
        done = work => Ok(done),
    }
}

/// Returns once it is over.
async fn ended(recording: &Inner) {
    let mut over = recording.shared.over.subscribe();
    let mut steps = recording.published.subscribe();
    while !is_over(recording) {
        tokio::select! {
            _ = over.changed() => {}
            _ = steps.changed() => {}
        }
    }
}

/// Whether another layout was asked for than this one. One that cannot be read is no other.
fn is_unwanted(recording: &Inner, layout: &Composition) -> bool {
    matches!(wanted(recording), Ok(Some(it)) if it != *layout)
}

/// Pictures a second that a composition may have at least, and at most: between them as many as the faster of both.
const LEAST_RATE: f64 = 30.0;
const MOST_RATE: f64 = 60.0;
