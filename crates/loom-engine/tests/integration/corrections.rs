//! Transcripts that people correct: versions of which none is lost, in the stream, on the disk and in the store.

use std::path::Path;
use std::sync::Arc;

use loom_engine::{
    AiError, CaptionsConfig, Correction, Engine, EngineConfig, EngineError, Event, HlsAnswer, MediaTime,
    PushTrack, Recording, RecordingId, RecordingState, SpeakerEncoder, SpeakerSource, Store, StoreConfig,
    TextCue, Transcriber, Transcript, TranscriptSegment, TranscriptVersion, Word, open_store, read_cues,
};

use crate::push::{push_all, tone};
use crate::support::{config, ended};

/// Hears two sentences, whatever is said.
#[derive(Debug)]
struct Scripted;

impl Transcriber for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn transcribe(&self, pcm: &[f32], _: MediaTime, _: &mut dyn FnMut(f32)) -> Result<Transcript, AiError> {
        let segments = [("this is lume.", 200), ("lume weaves films.", 1_600)].map(|(text, from)| {
            let words = text.split(' ').zip(0..).map(|(text, number)| Word {
                start: MediaTime::from_millis(from + number * 400),
                end: MediaTime::from_millis(from + number * 400 + 300),
                text: text.to_owned(),
                probability: 0.5,
            });
            TranscriptSegment {
                start: from as f64 / 1e3,
                end: (from + 1_100) as f64 / 1e3,
                text: text.to_owned(),
                confidence: -0.3,
                speaker: None,
                words: words.collect(),
            }
        });
        Ok(Transcript {
            language: "en".to_owned(),
            model: self.name().to_owned(),
            duration: pcm.len() as f64 / 16_000.0,
            text: "this is lume. lume weaves films.".to_owned(),
            segments: segments.into(),
        })
    }
}

/// Hears one voice, whoever speaks.
#[derive(Debug)]
struct OneVoice;

impl SpeakerEncoder for OneVoice {
    fn name(&self) -> &str {
        "one voice"
    }

    fn embed(&self, windows: &[&[f32]]) -> Result<Vec<Vec<f32>>, AiError> {
        Ok(vec![vec![0.6, 0.8]; windows.len()])
    }
}

async fn engine(data: &Path, store: &Arc<dyn Store>) -> Engine {
    Engine::start(EngineConfig {
        captions: CaptionsConfig {
            transcriber: Some(Arc::new(Scripted)),
            speakers: Some(SpeakerSource::Own(Arc::new(OneVoice)).into()),
            ..CaptionsConfig::default()
        },
        store: Some(StoreConfig::new(store.clone())),
        ..config(data)
    })
    .await
    .expect("the engine starts")
}

async fn recorded(engine: &Engine) -> Recording {
    let recording = engine.create(RecordingId::random()).expect("a recording");
    let sound = PushTrack::Sound {
        sample_rate: 48_000,
        channels: 2,
    };
    let pusher = recording.push(vec![sound]).await.expect("it can be pushed to");
    push_all(&pusher, tone(0, 3_000).collect()).await;
    pusher.finish();
    assert_eq!(ended(&recording).await, RecordingState::Ready);
    recording
}

fn renamed() -> Vec<Correction> {
    vec![Correction::Replace {
        replace: "lume".into(),
        with: "Loom".into(),
    }]
}

fn second(text: &str) -> Vec<Correction> {
    vec![Correction::Segment {
        segment: 1,
        text: text.into(),
    }]
}

fn numbers(recording: &Recording) -> Vec<(u32, Option<u32>)> {
    let versions = recording.transcript_versions();
    versions.iter().map(|it| (it.version, it.restored)).collect()
}

async fn got(recording: &Recording, path: &str) -> (String, &'static str) {
    match recording.hls(path, None).await {
        HlsAnswer::Ready {
            body, cache_control, ..
        } => (String::from_utf8_lossy(&body).into_owned(), cache_control),
        other => panic!("{path}: {other:?}"),
    }
}

/// The names of the captions' segments.
async fn segments(recording: &Recording) -> Vec<String> {
    let (playlist, _) = got(recording, "captions/index.m3u8").await;
    let names = playlist.lines().filter(|it| !it.starts_with('#'));
    names.map(str::to_owned).collect()
}

/// What the stream's captions say, one after the other.
async fn shown(recording: &Recording) -> String {
    let mut cues: Vec<TextCue> = Vec::new();
    for uri in segments(recording).await {
        let (file, cache) = got(recording, &format!("captions/{uri}")).await;
        assert!(
            !cache.contains("immutable"),
            "what may be corrected is not promised to stay: {cache}"
        );
        let more = read_cues(file.as_bytes()).expect("WebVTT");
        cues.extend(
            more.into_iter()
                .filter(|cue| cues.iter().all(|it| it.start != cue.start))
                .collect::<Vec<_>>(),
        );
    }
    let texts: Vec<&str> = cues.iter().map(|it| it.text.as_str()).collect();
    texts.join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_is_a_version_in_the_stream_after_a_restart_and_in_the_store() {
    let files = tempfile::tempdir().expect("a folder");
    let store = open_store("memory:").expect("a store");
    let first = engine(&files.path().join("one"), &store).await;
    let recording = recorded(&first).await;
    let heard = recording.transcript().expect("a transcript");
    assert_eq!(numbers(&recording), [(1, None)]);
    assert!(
        heard
            .segments
            .iter()
            .all(|it| it.speaker.as_deref() == Some("Speaker 1")),
        "{heard:?}"
    );
    assert_eq!(shown(&recording).await, "this is lume. lume weaves films.");
    let names = segments(&recording).await;
    let mut events = recording.events();
    while events.next().await.is_some() {}
    let told = events.number().expect("it was told");

    let made = recording.correct(1, renamed()).await.expect("it is corrected");
    assert_eq!((made.version, made.restored), (2, None));
    assert!(
        made.made_at
            .as_ref()
            .is_some_and(|it| it.starts_with("20") && it.ends_with('Z'))
    );
    let corrected = recording.transcript().expect("a transcript");
    assert_eq!(corrected.text, "this is Loom. Loom weaves films.");
    assert_eq!(corrected.segments[0].words[1], heard.segments[0].words[1]);
    assert_eq!(
        corrected.segments[1].words[0].start,
        heard.segments[1].words[0].start
    );
    assert_eq!(shown(&recording).await, corrected.text);
    assert_eq!(segments(&recording).await, names, "no segment has another name");
    let mut events = recording.events_after(told);
    let event = loop {
        match events.next().await.expect("it is told") {
            Event::Transcript(version) => break version,
            _ => continue,
        }
    };
    assert_eq!(event, made);

    // who corrects what somebody else has corrected meanwhile is told so
    let late = recording.correct(1, second("too late")).await;
    assert!(
        matches!(
            late,
            Err(EngineError::Superseded {
                based_on: 1,
                newest: 2,
                ..
            })
        ),
        "{late:?}"
    );
    let (a, b) = tokio::join!(
        recording.correct(2, second("Loom weaves a film.")),
        recording.correct(2, second("Loom weaves her films."))
    );
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    let refused = a.err().or(b.err()).expect("one is refused");
    assert!(
        matches!(refused, EngineError::Superseded { newest: 3, .. }),
        "{refused}"
    );
    let nothing = recording.correct(3, vec![]).await.map_err(|it| it.to_string());
    assert!(nothing.unwrap_err().contains("1 to 1000"));
    let nobody = recording
        .correct(
            3,
            vec![Correction::Replace {
                replace: "x".into(),
                with: "y".into(),
            }],
        )
        .await;
    assert!(matches!(nobody, Err(EngineError::BadText(_))), "{nobody:?}");

    // every version can be read, and an earlier one be made the newest
    assert_eq!(recording.transcript_version(1).await.expect("the first"), heard);
    assert_eq!(
        recording.transcript_version(2).await.expect("the second"),
        corrected
    );
    for unknown in [0, 4] {
        let none = recording.transcript_version(unknown).await;
        assert!(matches!(none, Err(EngineError::NoSuchVersion { .. })), "{none:?}");
        let none = recording.restore_transcript(3, unknown).await;
        assert!(matches!(none, Err(EngineError::NoSuchVersion { .. })), "{none:?}");
    }
    recording
        .restore_transcript(3, 1)
        .await
        .expect("it is brought back");
    let all = [(1, None), (2, None), (3, None), (4, Some(1))];
    assert_eq!(numbers(&recording), all);
    assert_eq!(recording.transcript(), Some(heard.clone()));
    assert_eq!(shown(&recording).await, heard.text);
    recording
        .correct(4, renamed())
        .await
        .expect("it goes on from there");
    first.shutdown().await;

    // the next process has all of it, and goes on where one was cut off behind the list of versions
    let folder = files.path().join("one/recordings").join(recording.id().as_str());
    std::fs::copy(folder.join("transcript-1.json"), folder.join("transcript.json")).expect("a copy");
    std::fs::write(folder.join("hls/captions/s0.vtt"), "WEBVTT\n").expect("it is cut off");
    let second_engine = engine(&files.path().join("one"), &store).await;
    let again = second_engine.open(recording.id()).await.expect("it is there");
    let newest = again.transcript().expect("a transcript");
    assert_eq!((numbers(&again).len(), &newest.text), (5, &corrected.text));
    assert_eq!(shown(&again).await, corrected.text);
    let kept = std::fs::read_to_string(folder.join("transcript.json")).expect("it is there");
    assert_eq!(kept, newest.to_json());
    again.stored().await.expect("it is sent");
    second_engine.shutdown().await;

    // and so has one that has nothing but the store
    let third = engine(&files.path().join("two"), &store).await;
    let fetched = third.open(recording.id()).await.expect("the store has it");
    assert_eq!(fetched.transcript(), Some(newest));
    assert_eq!(fetched.transcript_version(1).await.expect("the first"), heard);
    assert_eq!(shown(&fetched).await, corrected.text);
    let made = fetched
        .correct(5, second("The end."))
        .await
        .expect("it is corrected there too");
    assert_eq!(made.version, 6);
    assert_eq!(shown(&fetched).await, "this is Loom. The end.");
    let name = Correction::Name {
        speaker: "Speaker 1".into(),
        name: "Ann".into(),
    };
    fetched
        .correct(6, vec![name])
        .await
        .expect("a speaker has a name");
    let named = fetched.transcript().expect("a transcript").to_vtt();
    assert!(named.contains("<v Ann>The end."), "{named}");
    fetched.stored().await.expect("it is sent");
    let object = store
        .look_up(&format!("{}/transcript-6.json", recording.id()))
        .await;
    assert!(object.expect("the store answers").is_some());
    // an edit is made of what was said last
    let cut = third
        .compose(RecordingId::random(), vec![fetched.whole()])
        .await
        .expect("an edit");
    assert_eq!(ended(&cut).await, RecordingState::Ready);
    assert_eq!(
        cut.transcript().map(|it| it.text.clone()),
        Some("this is Loom. The end.".to_owned())
    );
    assert_eq!(
        cut.transcript_versions(),
        [TranscriptVersion {
            version: 1,
            made_at: None,
            restored: None
        }]
    );
    third.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_transcript_is_not_corrected() {
    let files = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(config(files.path()))
        .await
        .expect("the engine starts");
    let recording = engine.create(RecordingId::random()).expect("a recording");
    assert_eq!(recording.transcript_versions(), []);
    let refused = recording.correct(1, renamed()).await;
    assert!(
        matches!(refused, Err(EngineError::WrongState { .. })),
        "{refused:?}"
    );
    assert!(matches!(
        recording.transcript_version(1).await,
        Err(EngineError::NoSuchVersion { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_cannot_be_read_are_not_written_over() {
    let data = tempfile::tempdir().unwrap();
    let store = open_store("memory:").expect("a store");
    let first = engine(data.path(), &store).await;
    let recording = recorded(&first).await;
    recording.correct(1, renamed()).await.unwrap();
    let id = recording.id().clone();
    drop(recording);
    first.shutdown().await;
    let folder = data.path().join("recordings").join(id.as_str());
    let heard = std::fs::read(folder.join("transcript-1.json")).unwrap();
    let list = std::fs::read(folder.join("transcripts.json")).unwrap();
    std::fs::write(folder.join("transcripts.json"), &list[..list.len() / 2]).unwrap();
    let again = engine(data.path(), &store).await;
    let recording = again.open(&id).await.unwrap();
    for guess in [1, 2] {
        let refused = recording.correct(guess, second("nothing")).await.unwrap_err();
        assert!(
            matches!(refused, EngineError::WrongState { .. }),
            "{guess}: {refused}"
        );
    }
    assert_eq!(std::fs::read(folder.join("transcript-1.json")).unwrap(), heard);
    drop(recording);
    again.shutdown().await;
    // the list is whole again, and the newest version is not
    std::fs::write(folder.join("transcripts.json"), &list).unwrap();
    std::fs::write(folder.join("transcript-2.json"), "{").unwrap();
    let third = engine(data.path(), &store).await;
    let recording = third.open(&id).await.unwrap();
    recording
        .correct(2, second("Loom weaves pictures."))
        .await
        .unwrap();
    assert_eq!(numbers(&recording), [(1, None), (2, None), (3, None)]);
    assert_eq!(std::fs::read(folder.join("transcript-1.json")).unwrap(), heard);
    assert_eq!(std::fs::read(folder.join("transcript-2.json")).unwrap(), b"{");
    third.shutdown().await;
}
