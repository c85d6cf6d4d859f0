//! What makes text of speech, had once, and the thread that writes one recording's live captions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "captions")]
use loom_ai::{AiError, LocateProgress, Model};
use loom_ai::{CaptionOutput, LiveTranscriber, Transcriber};
use loom_core::{MediaTime, PcmFrame};
use tokio::sync::{Semaphore, watch};

use crate::config::CaptionsConfig;
use crate::engine::CaptionsStatus;
use crate::moderation::Moderation;
use crate::packaging::{Packaging, Work};
use crate::recording::Inner;

/// PCM frames that wait for the captioner before new ones are dropped: about 30 s of 20 ms frames.
const PCM_QUEUE: usize = 1_500;

/// The transcriber and its state. Loading a model happens on a thread of its own, so that recording never waits for it.
#[derive(Debug)]
pub(crate) struct Speech {
    status: Mutex<CaptionsStatus>,
    /// `None` while loading, then the transcriber or its absence.
    transcriber: watch::Sender<Option<Option<Arc<dyn Transcriber>>>>,
    /// Final transcripts take turns: live captions matter more.
    pub(crate) transcripts: Semaphore,
}

impl Speech {
    pub(crate) fn load(config: CaptionsConfig) -> Arc<Self> {
        let note = "looking for the speech model".to_owned();
        let speech = Arc::new(Self {
            status: Mutex::new(CaptionsStatus::Loading { note }),
            transcriber: watch::Sender::new(None),
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
    pcm: SyncSender<PcmFrame>,
    thread: thread::JoinHandle<()>,
}

impl LiveCaptions {
    pub(crate) fn start(recording: Arc<Inner>, packaging: Packaging) -> Option<Self> {
        let (pcm, frames) = sync_channel(PCM_QUEUE);
        let thread = thread::Builder::new()
            .name("loom-captions".to_owned())
            .spawn(move || caption(&recording, &packaging, &frames))
            .inspect_err(|why| tracing::error!(error = %why, "no thread for captions"))
            .ok()?;
        Some(Self { pcm, thread })
    }

    /// Never blocks. A captioner that is too slow misses this frame; the final transcript will not.
    pub(crate) fn push(&self, frame: PcmFrame) {
        // a transcriber that makes no live captions has hung up
        if let Err(TrySendError::Full(_)) = self.pcm.try_send(frame) {
            metrics::counter!("loom_caption_frames_dropped_total").increment(1);
        }
    }

    /// Ends it and waits for its last words. Blocks.
    pub(crate) fn finish(self) {
        drop(self.pcm);
        let _ = self.thread.join();
    }
}

fn caption(recording: &Arc<Inner>, packaging: &Packaging, frames: &Receiver<PcmFrame>) {
    let speech = &recording.shared.speech;
    let mut captioner: Option<Box<dyn LiveTranscriber>> = None;
    let mut clock = Lag::default();
    let moderation = Moderation::start(recording);
    while let Ok(frame) = frames.recv() {
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
        running.handle_lag(clock.behind(frame.end()));
        if let Err(why) = running.handle_pcm(frame) {
            tracing::error!(recording = %recording.id, error = %why, "live captions ended; the transcript is made at the end");
            return;
        }
        tell(recording, packaging, moderation.as_ref(), running.as_mut());
    }
    if let Some(mut running) = captioner {
        if let Err(why) = running.finish() {
            tracing::error!(recording = %recording.id, error = %why, "the last caption was lost");
        }
        tell(recording, packaging, moderation.as_ref(), running.as_mut());
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
