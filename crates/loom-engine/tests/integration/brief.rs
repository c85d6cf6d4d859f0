//! What a language model makes of a recording's transcript.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use loom_engine::{
    AiError, CaptionsConfig, Engine, EngineConfig, JobKind, JobState, LiveTranscriber, MediaTime, PushTrack,
    RecordingId, RetryConfig, TextModel, Transcriber, Transcript, TranscriptSegment, Word,
};

use crate::push::{push_all, tone};
use crate::support::config;

const SAID: &str = "We build the bridge. Anna will send the drawings tomorrow.";

/// Hears [`SAID`] in any sound.
#[derive(Debug)]
struct Scripted;

impl Transcriber for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn transcribe(&self, pcm: &[f32], _: MediaTime, _: &mut dyn FnMut(f32)) -> Result<Transcript, AiError> {
        let sentences = SAID.split_inclusive(". ").map(str::trim).enumerate();
        let segment = |(at, text): (usize, &str)| TranscriptSegment {
            start: at as f64,
            end: at as f64 + 0.9,
            text: text.to_owned(),
            confidence: -0.1,
            speaker: None,
            words: vec![Word {
                start: MediaTime::from_millis(at as i64 * 1_000),
                end: MediaTime::from_millis(at as i64 * 1_000 + 900),
                text: text.to_owned(),
                probability: 1.0,
            }],
        };
        Ok(Transcript {
            language: "en".to_owned(),
            model: self.name().to_owned(),
            duration: pcm.len() as f64 / 16_000.0,
            text: SAID.to_owned(),
            segments: sentences.map(segment).collect(),
        })
    }

    fn live(self: Arc<Self>) -> Result<Option<Box<dyn LiveTranscriber>>, AiError> {
        Ok(None)
    }
}

/// Answers by what it is asked for; fails the first time.
#[derive(Debug, Default)]
struct Writer {
    asked: AtomicUsize,
    read: Mutex<String>,
}

impl TextModel for Writer {
    fn name(&self) -> &str {
        "writer"
    }

    fn answer(&self, instruction: &str, text: &str) -> Result<String, AiError> {
        *self.read.lock().unwrap() = text.to_owned();
        if self.asked.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err(AiError::TextModel {
                model: "writer".to_owned(),
                reason: "host secret.example is asleep".to_owned(),
            });
        }
        let of = |word: &str| instruction.contains(word);
        Ok(if of("title") {
            "The bridge"
        } else if of("summary") {
            "A bridge is built."
        } else {
            "- Send the drawings"
        }
        .to_owned())
    }
}

fn with(folder: &std::path::Path, model: Option<Arc<dyn TextModel>>) -> EngineConfig {
    EngineConfig {
        captions: CaptionsConfig {
            transcriber: Some(Arc::new(Scripted)),
            ..CaptionsConfig::default()
        },
        text_model: model,
        retry: RetryConfig {
            first_pause: Duration::from_millis(10),
            ..RetryConfig::default()
        },
        ..config(folder)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_model_writes_about_a_recording_once_it_is_transcribed() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Arc::new(Writer::default());
    let engine = Engine::start(with(folder.path(), Some(model.clone())))
        .await
        .expect("the engine starts");
    let recording = engine.create(RecordingId::random()).expect("a recording");
    let sound = PushTrack::Sound {
        sample_rate: 48_000,
        channels: 2,
    };
    let pusher = recording.push(vec![sound]).await.expect("it can be pushed to");
    push_all(&pusher, tone(0, 2_000).collect()).await;
    pusher.finish();
    let written = async {
        let mut failed = false;
        loop {
            let jobs = recording.jobs();
            if let Some(job) = jobs.iter().find(|it| it.job == JobKind::Brief) {
                failed |= job.reason.is_some();
                assert!(
                    job.reason.as_ref().is_none_or(|why| !why.contains("secret")),
                    "{job:?}"
                );
                if job.state == JobState::Done {
                    assert!(failed || job.tries == 2, "{job:?}");
                    return recording.brief().expect("it is written");
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let brief = tokio::time::timeout(Duration::from_secs(120), written)
        .await
        .expect("it comes");
    assert_eq!(
        (brief.title.as_str(), brief.summary.as_str()),
        ("The bridge", "A bridge is built.")
    );
    assert_eq!(brief.actions.len(), 1);
    assert_eq!(
        (brief.actions[0].text.as_str(), brief.actions[0].start.secs_f64()),
        ("Send the drawings", 1.0)
    );
    assert_eq!(*model.read.lock().unwrap(), SAID);
    let id = recording.id().clone();
    drop(recording);
    engine.shutdown().await;
    drop(engine);

    // The next process has it without asking again.
    let asked = model.asked.load(Ordering::SeqCst);
    let engine = Engine::start(with(folder.path(), Some(model.clone())))
        .await
        .expect("the engine starts");
    let recording = engine.open(&id).await.expect("it is there");
    assert_eq!(recording.brief().as_deref(), Some(&*brief));
    assert_eq!(model.asked.load(Ordering::SeqCst), asked);
}
