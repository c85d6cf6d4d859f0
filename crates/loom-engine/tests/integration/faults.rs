//! A transcriber that fails now and then loses what it cannot hear; one that fails for good holds nothing else up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use loom_engine::{
    AiError, CaptionOutput, CaptionsConfig, Cue, CueId, CueState, Engine, Event, HlsAnswer, LiveTranscriber,
    MediaTime, PcmFrame, PushTrack, Recording, RecordingId, Transcriber, Transcript,
};

use crate::push::{push_all, tone};
use crate::support::{config, silence};

/// Fails from 1 s to 1.2 s, says a word, and fails from 2 s on for good.
#[derive(Debug)]
struct Failing;

#[derive(Debug, Default)]
struct Live {
    said: bool,
    outputs: VecDeque<CaptionOutput>,
}

impl Transcriber for Failing {
    fn name(&self) -> &str {
        "failing"
    }

    /// Nothing was said.
    fn transcribe(&self, pcm: &[f32], _: MediaTime, _: &mut dyn FnMut(f32)) -> Result<Transcript, AiError> {
        Ok(silence(self.name(), pcm))
    }

    fn live(self: Arc<Self>) -> Result<Option<Box<dyn LiveTranscriber>>, AiError> {
        Ok(Some(Box::new(Live::default())))
    }
}

impl LiveTranscriber for Live {
    fn handle_pcm(&mut self, frame: PcmFrame) -> Result<(), AiError> {
        let at = frame.pts.millis();
        if (1_000..1_200).contains(&at) || at >= 2_000 {
            return Err(AiError::Inference("not today".into()));
        }
        if at >= 1_200 && !self.said {
            self.said = true;
            self.outputs.push_back(CaptionOutput::Cue(Cue {
                id: CueId(0),
                start: frame.pts,
                end: frame.end(),
                text: "back".to_owned(),
                words: Vec::new(),
                state: CueState::Final,
            }));
        }
        self.outputs.push_back(CaptionOutput::Watermark(frame.end()));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), AiError> {
        Ok(())
    }

    fn poll_output(&mut self) -> Option<CaptionOutput> {
        self.outputs.pop_front()
    }
}

async fn segments(recording: &Recording) -> usize {
    match recording.hls("captions/index.m3u8", None).await {
        HlsAnswer::Ready { body, .. } => String::from_utf8_lossy(&body)
            .lines()
            .filter(|it| it.ends_with(".vtt"))
            .count(),
        _ => 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn live_captions_go_on_past_faults_and_hold_nothing_up_where_they_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(loom_engine::EngineConfig {
        captions: CaptionsConfig {
            transcriber: Some(Arc::new(Failing)),
            ..CaptionsConfig::default()
        },
        segment: Duration::from_secs(1),
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
    push_all(&pusher, tone(0, 7_000).collect()).await;
    let published = async {
        // Two end before the transcriber does.
        while segments(&recording).await < 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), published)
        .await
        .expect("captions' segments are published while it records");
    pusher.finish();
    let (mut unheard, mut said) = (Vec::new(), Vec::new());
    let all = async {
        while let Some(event) = events.next().await {
            match event {
                Event::Unheard { from, to } => unheard.push((from, to)),
                Event::Caption(cue) => said.push(cue.text),
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all)
        .await
        .expect("the recording ends");
    assert_eq!(said, ["back"]);
    let [(first, back), (last, end)] = unheard[..] else {
        panic!("{unheard:?}");
    };
    assert!(
        (1.0..1.1).contains(&first) && (1.15..1.3).contains(&back),
        "{unheard:?}"
    );
    assert!((2.0..2.1).contains(&last) && end > 6.0, "{unheard:?}");
}
