//! What happens after the last packet: the final transcript, and recordings that a crash left behind.

use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read};
use std::sync::Arc;

use loom_ai::{Model, TranscribeConfig, Transcript, transcribe};
use loom_core::MediaTime;
use loom_hls::TextCue;

use crate::error::EngineError;
use crate::event::{Event, RecordingState};
use crate::packaging::{Packaging, SPOOL_RATE, SPOOL_SCALE};
use crate::recording::Inner;
use crate::salvage;
use crate::text;

const SPOOL: &str = "speech.pcm";
const TRANSCRIPT: &str = "transcript.json";

/// Writes the final transcript, and moves the recording to `ready`. A transcript that fails costs only itself.
pub(crate) async fn transcript(recording: &Arc<Inner>, packaging: Option<&Packaging>) {
    let _ = tokio::task::spawn_blocking({
        let recording = recording.clone();
        move || text::settle(&recording)
    })
    .await;
    if let Err(why) = write_transcript(recording, packaging).await {
        tracing::error!(recording = %recording.id, error = %why, "there is no final transcript");
        recording.update(|info| info.reason = Some(format!("the transcript could not be written: {why}")));
    }
    remove_spool(recording);
    recording.update(|info| info.state = RecordingState::Ready);
    recording.wake();
}

async fn write_transcript(recording: &Arc<Inner>, packaging: Option<&Packaging>) -> Result<(), EngineError> {
    if !recording.info().captions {
        return Ok(());
    }
    let speech = &recording.shared.speech;
    let Some(model) = speech.wait_for_model().await else {
        recording.update(|info| info.captions = false);
        return Ok(());
    };
    let turn = speech
        .transcripts
        .acquire()
        .await
        .map_err(|_| EngineError::ShuttingDown)?;
    let working = recording.clone();
    let made = tokio::task::spawn_blocking(move || hear(&working, &model)).await;
    drop(turn);
    let transcript =
        made.map_err(|_| EngineError::NotReady("the transcriber failed; see the log".to_owned()))??;
    recording
        .folder
        .put(TRANSCRIPT, transcript.to_json().as_bytes())?;
    let transcript = Arc::new(transcript);
    recording.set_transcript(transcript.clone());
    match packaging {
        Some(packaging) => packaging.set_captions(transcript.to_cues()).await,
        None => {
            let cues: Vec<TextCue> = transcript.to_cues().into_iter().map(TextCue::from).collect();
            text::store_captions(recording, &cues)
        }
    }
}

/// Transcribes the spool a stretch at a time, so that a long recording takes no more memory than a short one.
fn hear(recording: &Inner, model: &Model) -> Result<Transcript, EngineError> {
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
    let (mut pcm, mut done) = (Vec::new(), 0);
    loop {
        read_pcm(&mut file, STRETCH - pcm.len(), &mut pcm).map_err(EngineError::io("read", &path))?;
        let end = if pcm.len() < STRETCH {
            pcm.len()
        } else {
            quietest(&pcm)
        };
        let start = MediaTime::from_ticks(done as i64, SPOOL_SCALE);
        let mut config = TranscribeConfig::default();
        config.start = start;
        let heard = transcribe(model, &pcm[..end], &config, |fraction| {
            let fraction = (done as f32 + fraction * end as f32) / samples.max(1) as f32;
            let _ = recording.events.send(Event::Progress {
                stage: "transcript",
                fraction,
            });
        })
        .map_err(|why| EngineError::NotReady(why.to_string()))?;
        done += end;
        pcm.drain(..end);
        match &mut whole {
            None => whole = Some(heard),
            Some(whole) => join(whole, heard),
        }
        if pcm.is_empty() && done >= samples {
            break;
        }
    }
    whole.ok_or_else(|| EngineError::NotReady("there was nothing to transcribe".to_owned()))
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
    if let Ok(Some(json)) = recording.folder.read(TRANSCRIPT, 0, None)
        && let Ok(transcript) = Transcript::from_json(&String::from_utf8_lossy(&json))
    {
        recording.set_transcript(Arc::new(transcript));
    }
    match recording.info().state {
        RecordingState::Ready | RecordingState::Failed => {}
        RecordingState::Created => recording.fail("the server was restarted before anybody published"),
        RecordingState::Live | RecordingState::Reconnecting | RecordingState::Processing => {
            salvage::salvage(
                recording,
                "it was cut off when the server ended; what had been recorded is kept",
            );
        }
    }
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
