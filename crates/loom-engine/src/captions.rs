//! What makes text of speech, had once, and the thread that writes one recording's live captions.

use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "captions")]
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "captions")]
use loom_ai::{AiError, LocateProgress, Model, VoiceEncoder};
use loom_ai::{CaptionOutput, LiveTranscriber, ModelConfig, SpeakerEncoder, SpeakerTurns, Transcriber};
use loom_core::{MediaTime, PcmFrame};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::config::{CaptionsConfig, SpeakerSource, Speakers};
use crate::engine::CaptionsStatus;
use crate::event::Event;
use crate::moderation::Moderation;
use crate::packaging::{Packaging, Work};
use crate::recording::Inner;

/// PCM frames that wait for the captioner before new ones are left out, until half of them are heard: about 30 s of 20 ms frames.
const PCM_QUEUE: usize = 1_500;
/// Sound of one run is without holes: one of this length is what was left out.
const HOLE: Duration = Duration::from_millis(100);

/// The transcriber and its state. Loading a model happens on a thread of its own, so that recording never waits for it.
#[derive(Debug)]
pub(crate) struct Speech {
    status: Mutex<CaptionsStatus>,
    /// `None` while loading, then the transcriber or its absence.
    transcriber: watch::Sender<Option<Option<Arc<dyn Transcriber>>>>,
    /// How transcripts come to say who speaks.
    speakers: Option<Speakers>,
    /// What makes vectors of voices, once it was needed.
    encoder: Mutex<Option<Arc<dyn SpeakerEncoder>>>,
    /// Where what is fetched is kept.
    model: ModelConfig,
    /// Final transcripts take turns: live captions matter more.
    pub(crate) transcripts: Semaphore,
}

impl Speech {
    pub(crate) fn load(config: CaptionsConfig) -> Arc<Self> {
        let note = "looking for the speech model".to_owned();
        let speech = Arc::new(Self {
            status: Mutex::new(CaptionsStatus::Loading { note }),
            transcriber: watch::Sender::new(None),
            speakers: config.speakers.clone(),
            encoder: Mutex::default(),
            model: config.model.clone(),
            transcripts: Semaphore::new(1),
        });
        if !config.enabled {
            speech.settle(Err("they are switched off".to_owned()));
            return speech;
        }
        if let Some(own) = config.transcriber.clone() {
            speech.settle(Ok(own));
            return speech;
        }
        let loading = speech.clone();
        let spawned = thread::Builder::new()
            .name("loom-model".to_owned())
            .spawn(move || {
                let found = catch_unwind(AssertUnwindSafe(|| find(&loading, &config)));
                let broken = |_| Err("the speech model could not be read; see the log".to_owned());
                loading.settle(found.unwrap_or_else(broken));
            });
        if let Err(why) = spawned {
            speech.settle(Err(format!("no thread could be had to load the model: {why}")));
        }
        speech
    }

    pub(crate) fn status(&self) -> CaptionsStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The transcriber, if it is there.
    fn transcriber(&self) -> Option<Arc<dyn Transcriber>> {
        self.transcriber.borrow().clone().flatten()
    }

    /// The transcriber, once it is there; `None` where there is none to be had.
    pub(crate) async fn wait_for_transcriber(&self) -> Option<Arc<dyn Transcriber>> {
        let mut transcriber = self.transcriber.subscribe();
        transcriber
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|it| it.clone().flatten())
    }

    /// What says who speaks in a recording's transcript, where that is wanted and can be had. Blocks.
    pub(crate) fn speaker_turns(&self) -> Option<SpeakerTurns> {
        let speakers = self.speakers.as_ref()?;
        let mut encoder = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match &*encoder {
            Some(had) => Ok(had.clone()),
            None => encoder_of(&speakers.source, &self.model),
        };
        let turns = found.and_then(|found| {
            *encoder = Some(found.clone());
            SpeakerTurns::new(speakers.turns.clone(), found).map_err(|why| why.to_string())
        });
        turns
            .inspect_err(|why| tracing::warn!(why, "transcripts do not say who speaks"))
            .ok()
    }

    fn settle(&self, found: Result<Arc<dyn Transcriber>, String>) {
        match found {
            Ok(transcriber) => {
                tracing::info!(model = transcriber.name(), "captions are on");
                self.set(CaptionsStatus::On {
                    model: transcriber.name().to_owned(),
                });
                self.transcriber.send_replace(Some(Some(transcriber)));
            }
            Err(why) => {
                tracing::warn!(why, "captions are off");
                self.set(CaptionsStatus::Off { why });
                self.transcriber.send_replace(Some(None));
            }
        }
    }

    fn set(&self, status: CaptionsStatus) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

fn encoder_of(source: &SpeakerSource, model: &ModelConfig) -> Result<Arc<dyn SpeakerEncoder>, String> {
    #[cfg(feature = "captions")]
    let load = |path: &Path| -> Result<Arc<dyn SpeakerEncoder>, String> {
        let encoder = VoiceEncoder::load(path).map_err(|why| why.to_string())?;
        Ok(Arc::new(encoder))
    };
    match source {
        SpeakerSource::Own(own) => Ok(own.clone()),
        #[cfg(feature = "captions")]
        SpeakerSource::File(path) => load(path),
        #[cfg(feature = "captions")]
        SpeakerSource::Fetched => {
            load(&VoiceEncoder::fetch(model, &mut |_| {}).map_err(|why| why.to_string())?)
        }
        #[cfg(not(feature = "captions"))]
        SpeakerSource::File(_) | SpeakerSource::Fetched => Err(format!(
            "this program is built without candle, and reads no encoder in {}",
            model.cache.display()
        )),
    }
}

/// Whisper, from where its model is.
#[cfg(feature = "captions")]
fn find(speech: &Speech, config: &CaptionsConfig) -> Result<Arc<dyn Transcriber>, String> {
    let failed = |why: AiError| why.to_string();
    let files = Model::locate(&config.model, &mut |progress| {
        speech.set(CaptionsStatus::Loading {
            note: note(&progress),
        });
    })
    .map_err(failed)?;
    let model: Arc<dyn Transcriber> = Model::load(&files, config.threads).map_err(failed)?;
    Ok(model)
}

#[cfg(not(feature = "captions"))]
fn find(_: &Speech, _: &CaptionsConfig) -> Result<Arc<dyn Transcriber>, String> {
    Err("this program is built without Whisper, and brings no transcriber of its own".to_owned())
}

#[cfg(feature = "captions")]
fn note(progress: &LocateProgress) -> String {
    match progress {
        LocateProgress::Downloading {
            name,
            done,
            total: Some(total),
        } => {
            format!(
                "downloading {name}, {} % of {} MB",
                done * 100 / total.max(&1),
                total / 1_000_000
            )
        }
        LocateProgress::Downloading { name, done, .. } => {
            format!("downloading {name}, {} MB so far", done / 1_000_000)
        }
        LocateProgress::Missed(why) => format!("still looking for the speech model ({why})"),
        _ => "looking for the speech model".to_owned(),
    }
}

/// The way into a recording's captioner. Dropping it ends the captioner, which then tells its last cue.
#[derive(Debug)]
pub(crate) struct LiveCaptions {
    pcm: mpsc::Sender<PcmFrame>,
    thread: thread::JoinHandle<()>,
    backlog: Backlog,
}

/// Whether more is taken. Once no more fits, a stretch is left out at once: captions with a hole can be read, and words of every second frame
/// cannot.
#[derive(Debug, Default)]
struct Backlog {
    skipping: bool,
}

impl Backlog {
    fn takes(&mut self, waiting: usize) -> bool {
        if waiting >= PCM_QUEUE {
            self.skipping = true;
        } else if waiting <= PCM_QUEUE / 2 {
            self.skipping = false;
        }
        !self.skipping
    }
}

impl LiveCaptions {
    pub(crate) fn start(recording: Arc<Inner>, packaging: Packaging) -> Option<Self> {
        let (pcm, frames) = mpsc::channel(PCM_QUEUE);
        let thread = thread::Builder::new()
            .name("loom-captions".to_owned())
            .spawn(move || caption(&recording, &packaging, frames))
            .inspect_err(|why| tracing::error!(error = %why, "no thread for captions"))
            .ok()?;
        Some(Self {
            pcm,
            thread,
            backlog: Backlog::default(),
        })
    }

    /// Never blocks. A captioner that is too slow misses this frame; the final transcript will not.
    pub(crate) fn push(&mut self, frame: PcmFrame) {
        if self.backlog.takes(PCM_QUEUE - self.pcm.capacity()) {
            // a transcriber that makes no live captions has hung up: what it does not hear is not missed
            let _ = self.pcm.try_send(frame);
        } else {
            metrics::counter!("loom_caption_frames_dropped_total").increment(1);
        }
    }

    /// Ends it and waits for its last words. Blocks.
    pub(crate) fn finish(self) {
        drop(self.pcm);
        let _ = self.thread.join();
    }
}

fn caption(recording: &Arc<Inner>, packaging: &Packaging, mut frames: mpsc::Receiver<PcmFrame>) {
    let speech = &recording.shared.speech;
    let mut captioner: Option<Box<dyn LiveTranscriber>> = None;
    let mut clock = Lag::default();
    let moderation = Moderation::start(recording);
    let mut heard = Heard::default();
    let mut faults = Faults::default();
    let unheard = |(from, to): (MediaTime, MediaTime)| {
        recording.events.tell(Event::Unheard {
            from: from.secs_f64(),
            to: to.secs_f64(),
        });
    };
    while let Some(frame) = frames.blocking_recv() {
        if let Some((from, to)) = heard.hole(&frame) {
            tracing::warn!(recording = %recording.id, %from, %to, "live captions are too far behind, and miss this");
            unheard((from, to));
        }
        let (pts, end) = (frame.pts, frame.end());
        if faults.are_too_many() {
            // what is shown beside the picture must not wait for captions that never come
            faults.handle_fault(pts, end);
            packaging.send_blocking(Work::Heard(end));
            continue;
        }
        if captioner.is_none() {
            // Sound that came while the model was still loading is left to the final transcript.
            let Some(transcriber) = speech.transcriber() else {
                continue;
            };
            captioner = transcriber
                .live()
                .inspect_err(|why| tracing::error!(recording = %recording.id, error = %why, "no captions"))
                .ok()
                .flatten();
        }
        let Some(running) = &mut captioner else { return };
        running.handle_lag(clock.behind(end));
        match running.handle_pcm(frame) {
            Ok(()) => {
                if let Some(lost) = faults.handle_heard() {
                    unheard(lost);
                }
            }
            Err(why) => {
                tracing::warn!(recording = %recording.id, at = %pts, error = %why, "live captions miss this");
                faults.handle_fault(pts, end);
                if faults.are_too_many() {
                    tracing::error!(recording = %recording.id, "live captions ended; the transcript is made at the end");
                    if let Err(why) = running.finish() {
                        tracing::warn!(recording = %recording.id, error = %why, "the last caption was lost");
                    }
                }
            }
        }
        tell(recording, packaging, moderation.as_ref(), running.as_mut());
    }
    if let Some(mut running) = captioner.filter(|_| !faults.are_too_many()) {
        if let Err(why) = running.finish() {
            tracing::error!(recording = %recording.id, error = %why, "the last caption was lost");
        }
        tell(recording, packaging, moderation.as_ref(), running.as_mut());
    }
    if let Some(lost) = faults.handle_heard() {
        unheard(lost);
    }
}

/// Faults in a row after which a transcriber is asked no more.
const MOST_FAULTS: u32 = 20;

/// What a transcriber could not hear.
#[derive(Debug, Default)]
struct Faults {
    /// How many there were since it last could.
    in_a_row: u32,
    lost: Option<(MediaTime, MediaTime)>,
}

impl Faults {
    fn are_too_many(&self) -> bool {
        self.in_a_row >= MOST_FAULTS
    }

    fn handle_fault(&mut self, pts: MediaTime, end: MediaTime) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let from = self.lost.map_or(pts, |it| it.0);
        self.lost = Some((from, end));
        metrics::counter!("loom_caption_frames_dropped_total").increment(1);
    }

    /// It hears again, or never will: what was lost.
    fn handle_heard(&mut self) -> Option<(MediaTime, MediaTime)> {
        self.in_a_row = 0;
        self.lost.take()
    }
}

/// How far the sound was heard.
#[derive(Debug, Default)]
struct Heard {
    to: Option<MediaTime>,
}

impl Heard {
    /// What was left out before this frame.
    fn hole(&mut self, frame: &PcmFrame) -> Option<(MediaTime, MediaTime)> {
        let to = self.to.replace(frame.end())?;
        (frame.pts.since(to) >= HOLE).then_some((to, frame.pts))
    }
}

/// How far the captioner is behind the sound, against the least it has been.
#[derive(Debug, Default)]
struct Lag {
    first: Option<(Instant, MediaTime)>,
}

impl Lag {
    fn behind(&mut self, heard: MediaTime) -> Duration {
        let now = Instant::now();
        let (began, zero) = *self.first.get_or_insert((now, heard));
        let behind = now.duration_since(began).saturating_sub(heard.since(zero));
        if behind.is_zero() {
            self.first = Some((now, heard));
        }
        behind
    }
}

fn tell(
    recording: &Inner,
    packaging: &Packaging,
    moderation: Option<&Moderation>,
    captioner: &mut dyn LiveTranscriber,
) {
    while let Some(output) = captioner.poll_output() {
        match output {
            CaptionOutput::Cue(cue) => {
                if let Some(moderation) = moderation {
                    moderation.handle_cue(&cue);
                }
                recording.show(cue.clone());
                packaging.send_blocking(Work::Cue(cue));
            }
            CaptionOutput::Watermark(at) => packaging.send_blocking(Work::Heard(at)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out_in_one_stretch() {
        let mut backlog = Backlog::default();
        assert!(backlog.takes(0) && backlog.takes(PCM_QUEUE - 1));
        assert!(!backlog.takes(PCM_QUEUE));
        assert!(!backlog.takes(PCM_QUEUE - 1) && !backlog.takes(PCM_QUEUE / 2 + 1));
        assert!(backlog.takes(PCM_QUEUE / 2) && backlog.takes(PCM_QUEUE - 1));
    }

    #[test]
    fn a_stretch_that_was_left_out_is_known_by_its_hole() {
        let frame = |millis: i64| PcmFrame {
            pts: MediaTime::from_millis(millis),
            sample_rate: 16_000,
            channels: 1,
            samples: vec![0.0; 320],
        };
        let mut heard = Heard::default();
        for at in [400, 420, 441, 460] {
            assert_eq!(heard.hole(&frame(at)), None);
        }
        let at = MediaTime::from_millis;
        assert_eq!(heard.hole(&frame(15_460)), Some((at(480), at(15_460))));
        assert_eq!(heard.hole(&frame(15_480)), None);
    }
}
