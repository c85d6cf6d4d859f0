//! What is said is looked over while it is said.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use loom_engine::{
    AiError, CaptionOutput, CaptionsConfig, Cue, CueId, CueState, Engine, Event, LiveTranscriber, MediaTime,
    Moderator, PcmFrame, PushTrack, RecordingId, Transcriber, Transcript, Word, WordList,
};

use crate::push::{push_all, tone};
use crate::support::{config, silence};

const SAID: [&str; 4] = ["good", "morning", "the", "budget"];

/// Hears a word of [`SAID`] in every half second of sound, whatever it is.
#[derive(Debug)]
struct Scripted;

#[derive(Debug, Default)]
struct Live {
    words: Vec<Word>,
    outputs: VecDeque<CaptionOutput>,
}

impl Transcriber for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn transcribe(&self, pcm: &[f32], _: MediaTime, _: &mut dyn FnMut(f32)) -> Result<Transcript, AiError> {
        Ok(silence(self.name(), pcm))
    }

    fn live(self: Arc<Self>) -> Result<Option<Box<dyn LiveTranscriber>>, AiError> {
        Ok(Some(Box::new(Live::default())))
    }
}

impl LiveTranscriber for Live {
    fn handle_pcm(&mut self, frame: PcmFrame) -> Result<(), AiError> {
        let ms = |number: usize| MediaTime::from_millis(number as i64 * 500);
        while let Some(text) = SAID
            .get(self.words.len())
            .filter(|_| frame.pts >= ms(self.words.len() + 1))
        {
            let number = self.words.len();
            self.words.push(Word {
                start: ms(number),
                end: ms(number + 1),
                text: (*text).to_owned(),
                probability: 1.0,
            });
            let state = match self.words.len() == SAID.len() {
                true => CueState::Final,
                false => CueState::Partial,
            };
            self.outputs.push_back(CaptionOutput::Cue(Cue {
                id: CueId(0),
                start: ms(0),
                end: ms(number + 1),
                text: SAID[..=number].join(" "),
                words: self.words.clone(),
                state,
            }));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), AiError> {
        Ok(())
    }

    fn poll_output(&mut self) -> Option<CaptionOutput> {
        self.outputs.pop_front()
    }
}

/// What is told of three seconds of speech.
async fn told(moderator: Arc<dyn Moderator>) -> Vec<Event> {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(loom_engine::EngineConfig {
        captions: CaptionsConfig {
            transcriber: Some(Arc::new(Scripted)),
            moderator: Some(moderator),
            ..CaptionsConfig::default()
        },
        ..config(folder.path())
    })
    .await
    .expect("the engine starts");
    let recording = engine.create(RecordingId::random()).expect("a recording");
    let mut events = recording.events();
    let sound = PushTrack::Sound {
        sample_rate: 48_000,
        channels: 2,
    };
    let pusher = recording.push(vec![sound]).await.expect("it can be pushed to");
    push_all(&pusher, tone(0, 3_000).collect()).await;
    pusher.finish();
    let mut told = Vec::new();
    let all = async {
        while let Some(event) = events.next().await {
            told.push(event);
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all)
        .await
        .expect("the recording ends");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_of_the_list_is_told_of_once_its_caption_is_final() {
    let told = told(Arc::new(WordList::new([
        ("the budget", "money"),
        ("evening", "greeting"),
    ])))
    .await;
    let found: Vec<_> = told
        .iter()
        .filter_map(|event| match event {
            Event::Findings { findings } => Some(findings.as_slice()),
            _ => None,
        })
        .collect();
    let [[found]] = found.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(
        (found.label.as_str(), found.text.as_str()),
        ("money", "the budget")
    );
    assert_eq!((found.start, found.end), (1.0, 2.0));
    let json = serde_json::to_value(told.iter().find(|it| matches!(it, Event::Findings { .. }))).unwrap();
    assert_eq!(json["event"], "findings");
}

/// Cannot judge anything.
#[derive(Debug)]
struct Broken;

impl Moderator for Broken {
    fn judge(&self, _: &Cue) -> Result<Vec<loom_engine::Finding>, AiError> {
        panic!("not today");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moderator_that_panics_takes_no_caption_with_it() {
    let told = told(Arc::new(Broken)).await;
    let last = told.iter().rev().find_map(|event| match event {
        Event::Caption(cue) => Some(cue),
        _ => None,
    });
    assert_eq!(last.expect("a caption").text, SAID.join(" "));
    assert!(matches!(
        told.last(),
        Some(Event::State {
            state: loom_engine::RecordingState::Ready,
            ..
        })
    ));
}
