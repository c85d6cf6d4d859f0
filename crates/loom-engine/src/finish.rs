//! What happens after the last packet: the final transcript, and recordings that a crash left behind.

use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read};
use std::sync::Arc;

use loom_ai::{Transcriber, Transcript};
use loom_core::MediaTime;
use loom_hls::TextCue;

use crate::brief;
use crate::edit;
use crate::error::EngineError;
use crate::event::{Event, RecordingState};
#[cfg(feature = "transcode")]
use crate::folder::SOURCE;
use crate::folder::{Folder, PARTS};
#[cfg(feature = "transcode")]
use crate::import;
use crate::jobs::{self, JobKind};
use crate::life::Step;
use crate::packaging::{SPOOL_RATE, SPOOL_SCALE, Work};
#[cfg(feature = "transcode")]
use crate::preview;
use crate::recording::Inner;
use crate::salvage;
use crate::store;
use crate::text;
use crate::versions;

const SPOOL: &str = "speech.pcm";
pub(crate) const TRANSCRIPT: &str = "transcript.json";

/// All media of a recording is on disk under complete playlists: what is left to be done is written down, and begun.
pub(crate) fn begin(recording: &Arc<Inner>) {
    let mut left = Vec::new();
    if !recording.chapters().marks().is_empty() {
        left.push(JobKind::Chapters);
    }
    if recording.info().captions {
        left.push(JobKind::Transcript);
    }
    // before its state says that nothing else is left
    jobs::begin(recording, &left);
    recording.complete();
    jobs::start(recording);
}

/// Waits for what the recording's end waits for, and moves it to `ready`. A job that is parked costs only itself.
pub(crate) async fn end(recording: &Arc<Inner>) {
    #[cfg(feature = "transcode")]
    preview::store(recording).await;
    if !jobs::settled(recording).await {
        return; // it was deleted, or the next engine goes on with it
    }
    // a state that survives says that what came before it did, and what it could be mended with is kept until then
    if let Err(why) = recording.secure().await {
        tracing::error!(recording = %recording.id, error = %why, "a power cut may lose how it ended");
    }
    if !jobs::is_parked(recording, JobKind::Transcript) {
        remove_spool(recording);
    }
    recording.folder.discard_folder(PARTS);
    #[cfg(feature = "transcode")]
    import::clear(&recording.folder);
    recording.happened(Step::Done);
    recording.wake();
}

/// A job was done, and that is written down.
pub(crate) fn after(recording: &Arc<Inner>, job: JobKind) {
    if job == JobKind::Transcript {
        remove_spool(recording);
        brief::follow(recording);
    }
    if job != JobKind::Upload && recording.state_now().is_final() {
        store::send_soon(recording);
    }
}

/// The job [`JobKind::Chapters`].
pub(crate) async fn settle_chapters(recording: &Arc<Inner>) -> Result<(), EngineError> {
    let working = recording.clone();
    let settled = tokio::task::spawn_blocking(move || text::settle(&working));
    settled.await.map_err(|_| EngineError::ShuttingDown)?
}

/// The job [`JobKind::Transcript`].
pub(crate) async fn write_transcript(recording: &Arc<Inner>) -> Result<(), EngineError> {
    if versions::is_corrected(&recording.folder) {
        return Ok(()); // it was there, and people know better
    }
    if recording.sending.is_fetched(&recording.folder)? {
        return Ok(()); // its sound was kept on another disk: what was captioned live is what there is
    }
    let speech = &recording.shared.speech;
    let Some(transcriber) = speech.wait_for_transcriber().await else {
        recording.update(|info| info.captions = false);
        return Ok(());
    };
    let turn = speech
        .transcripts
        .acquire()
        .await
        .map_err(|_| EngineError::ShuttingDown)?;
    let working = recording.clone();
    let made = tokio::task::spawn_blocking(move || hear(&working, &*transcriber)).await;
    drop(turn);
    let transcript =
        made.map_err(|_| EngineError::NotReady("the transcriber failed; see the log".to_owned()))??;
    if *recording.cancel.borrow() {
        return Ok(()); // nobody wants it any more
    }
    let _one = recording.text.lock().await;
    if versions::is_corrected(&recording.folder) {
        return Ok(()); // meanwhile
    }
    recording
        .folder
        .put(TRANSCRIPT, transcript.to_json().as_bytes())?;
    let transcript = Arc::new(transcript);
    recording.set_transcript(transcript.clone());
    if recording.is_packaged() {
        let cues = transcript.to_cues();
        return recording.ask_packaging(|done| Work::Captions(cues, done)).await;
    }
    let cues: Vec<TextCue> = transcript.to_cues().into_iter().map(TextCue::from).collect();
    text::store_captions(recording, &cues)
}

/// Transcribes the spool a stretch at a time, so that a long recording takes no more memory than a short one.
fn hear(recording: &Inner, transcriber: &dyn Transcriber) -> Result<Transcript, EngineError> {
    let path = recording.folder.path(SPOOL);
    let read = EngineError::io("read", path.clone());
    let open = || -> std::io::Result<(u64, Box<dyn Read>)> {
        match File::open(&path) {
            Ok(file) => Ok((file.metadata()?.len(), Box::new(BufReader::new(file)))),
            Err(why) if why.kind() == ErrorKind::NotFound => Ok((0, Box::new(std::io::empty()))), // no sound ever came
            Err(why) => Err(why),
        }
    };
    let (size, mut file) = open().map_err(read)?;
    let samples = (size / 2) as usize;
    let mut whole: Option<Transcript> = None;
    let mut turns = recording.shared.speech.speaker_turns();
    let (mut pcm, mut done) = (Vec::new(), 0);
    loop {
        read_pcm(&mut file, STRETCH - pcm.len(), &mut pcm).map_err(EngineError::io("read", &path))?;
        let end = if pcm.len() < STRETCH {
            pcm.len()
        } else {
            quietest(&pcm)
        };
        let start = MediaTime::from_ticks(done as i64, SPOOL_SCALE);
        let mut progress = |fraction: f32| {
            let fraction = (done as f32 + fraction * end as f32) / samples.max(1) as f32;
            recording.events.tell(Event::Progress {
                stage: "transcript",
                fraction,
            });
            jobs::progress(recording, JobKind::Transcript, fraction);
        };
        let heard = transcriber
            .transcribe(&pcm[..end], start, &mut progress)
            .map_err(|why| EngineError::NotReady(why.to_string()))?;
        if let Some(Err(why)) = turns
            .as_mut()
            .map(|it| it.handle_speech(&pcm[..end], start, &heard.segments))
        {
            tracing::warn!(recording = %recording.id, error = %why, "the transcript does not say who speaks");
            turns = None;
        }
        done += end;
        pcm.drain(..end);
        match &mut whole {
            None => whole = Some(heard),
            Some(whole) => join(whole, heard),
        }
        if pcm.is_empty() && done >= samples || *recording.cancel.borrow() {
            break;
        }
    }
    let whole = whole.ok_or_else(|| EngineError::NotReady("there was nothing to transcribe".to_owned()))?;
    Ok(match turns {
        Some(turns) => turns.finish(whole),
        None => whole,
    })
}

/// Ten minutes of samples.
const STRETCH: usize = 600 * SPOOL_RATE as usize;

/// Appends up to `count` samples.
fn read_pcm(file: &mut impl Read, count: usize, pcm: &mut Vec<f32>) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(count * 2);
    file.take(count as u64 * 2).read_to_end(&mut bytes)?;
    let (pairs, _) = bytes.as_chunks::<2>();
    pcm.extend(
        pairs
            .iter()
            .map(|pair| f32::from(i16::from_le_bytes(*pair)) / 32_768.0),
    );
    Ok(())
}

/// Where the quietest fifth of a second within the last fifteen seconds has its middle: a place to cut between words.
fn quietest(pcm: &[f32]) -> usize {
    let window = SPOOL_RATE as usize / 5;
    let from = pcm.len().saturating_sub(15 * SPOOL_RATE as usize);
    let loudness = |at: usize| pcm[at..at + window].iter().map(|s| s * s).sum::<f32>();
    let places = (from..pcm.len().saturating_sub(window)).step_by(window / 2);
    places
        .min_by(|a, b| loudness(*a).total_cmp(&loudness(*b)))
        .map_or(pcm.len(), |at| at + window / 2)
}

fn join(whole: &mut Transcript, more: Transcript) {
    whole.duration += more.duration;
    if !whole.text.is_empty() && !more.text.is_empty() {
        whole.text.push(' ');
    }
    whole.text.push_str(&more.text);
    whole.segments.extend(more.segments);
}

/// Takes up a recording that was found on disk. One that was live or processing when the process ended is completed from
/// its own parts.
pub(crate) fn resume(recording: &Arc<Inner>) {
    text::resume(recording);
    versions::resume(recording);
    brief::resume(recording);
    match recording.info().state {
        RecordingState::Ready | RecordingState::Failed => jobs::start(recording),
        RecordingState::Deleted => {}
        RecordingState::Created => recording.fail("the server was restarted before anybody published"),
        RecordingState::Processing if !recording.info().made_from.is_empty() => edit::resume(recording),
        // its media is complete: what was left to be done is gone on with
        _ if jobs::is_begun(&recording.folder) && salvage::is_ended(&recording.folder) => {
            recording.complete();
            jobs::start(recording);
            let recording = recording.clone();
            tokio::spawn(async move { end(&recording).await });
        }
        #[cfg(feature = "transcode")]
        RecordingState::Processing if recording.folder.path(SOURCE).is_file() => import::resume(recording),
        RecordingState::Live
        | RecordingState::Reconnecting
        | RecordingState::Paused
        | RecordingState::Processing => {
            salvage::salvage(
                recording,
                "it was cut off when the server ended; what had been recorded is kept",
            );
        }
    }
}

/// Whether an earlier process has left something to be done in this folder. One that nobody had published to is nobody's. Blocks.
pub(crate) fn is_left(folder: &Folder) -> Result<bool, EngineError> {
    let Some(info) = folder.load_info()? else {
        return Ok(false);
    };
    let begun = info.state != RecordingState::Created && !info.state.is_final();
    Ok(begun || jobs::is_open(folder))
}

fn remove_spool(recording: &Inner) {
    let path = recording.folder.path(SPOOL);
    if path.is_file()
        && let Err(why) = fs::remove_file(&path)
    {
        tracing::warn!(path = %path.display(), error = %why, "the speech spool could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_recording_is_cut_where_it_is_quiet() {
        let rate = SPOOL_RATE as usize;
        let mut pcm = vec![0.5_f32; 20 * rate];
        pcm[12 * rate..12 * rate + rate / 2].fill(0.0);
        let cut = quietest(&pcm);
        assert!((12 * rate..12 * rate + rate / 2).contains(&cut), "{cut}");
    }
}
