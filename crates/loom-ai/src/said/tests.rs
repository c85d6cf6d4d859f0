use loom_core::{MediaTime, Word};

use super::Gist;
use crate::{Segment, Transcript};

/// A transcript with a word each 0.4 s, the seconds at which a topic begins, and those of action items.
fn labelled(file: &str) -> (Transcript, Vec<f64>, Vec<f64>) {
    let (mut segments, mut topics, mut actions) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = 0i64;
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(file);
    for line in std::fs::read_to_string(path).unwrap().lines().skip(1) {
        if line.starts_with("== ") {
            topics.push(at as f64 / 1e3);
            continue;
        }
        let said = line.strip_prefix("! ").unwrap_or(line);
        if said.len() < line.len() {
            actions.push(at as f64 / 1e3);
        }
        let words: Vec<Word> = said
            .split(' ')
            .map(|text| {
                at += 400;
                Word {
                    start: MediaTime::from_millis(at - 400),
                    end: MediaTime::from_millis(at - 50),
                    text: text.to_owned(),
                    probability: 0.9,
                }
            })
            .collect();
        segments.push(Segment {
            start: words[0].start.secs_f64(),
            end: words[words.len() - 1].end.secs_f64(),
            text: said.to_owned(),
            confidence: -0.2,
            speaker: None,
            words,
        });
    }
    let text: Vec<&str> = segments.iter().map(|it| it.text.as_str()).collect();
    let transcript = Transcript {
        language: "en".to_owned(),
        model: "none".to_owned(),
        duration: at as f64 / 1e3,
        text: text.join(" "),
        segments,
    };
    (transcript, topics, actions)
}

/// (precision, recall) of times found within `tolerance` seconds of those that were labelled.
fn score(found: &[f64], wanted: &[f64], tolerance: f64) -> (f64, f64) {
    let near = |at: f64, others: &[f64]| others.iter().any(|it| (it - at).abs() <= tolerance);
    let right = found.iter().filter(|&&it| near(it, wanted)).count() as f64;
    let met = wanted.iter().filter(|&&it| near(it, found)).count() as f64;
    (
        right / found.len().max(1) as f64,
        met / wanted.len().max(1) as f64,
    )
}

#[test]
fn topics_and_action_items_of_a_meeting_are_found_as_a_person_marked_them() {
    let (transcript, topics, actions) = labelled("standup.txt");
    let gist = Gist::of(&transcript);
    let starts: Vec<f64> = gist.chapters.iter().map(|it| it.start.secs_f64()).collect();
    let (precise, complete) = score(&starts, &topics, 12.0);
    eprintln!("chapters {starts:?} of {topics:?}: precision {precise:.2}, recall {complete:.2}");
    for it in &gist.chapters {
        eprintln!("  {} {}", it.start, it.title);
    }
    assert!(precise >= 0.6 && complete == 1.0);
    let found: Vec<f64> = gist.actions.iter().map(|it| it.start.secs_f64()).collect();
    let (precise, complete) = score(&found, &actions, 0.1);
    eprintln!("actions: precision {precise:.2}, recall {complete:.2}");
    for it in &gist.actions {
        eprintln!("  {}", it.text);
    }
    assert!(precise >= 0.8 && complete >= 0.8);
    let phrases: Vec<&str> = gist.phrases.iter().map(|it| it.text.as_str()).collect();
    eprintln!("phrases {phrases:?}");
    for topic in ["caption", "candidate", "plan"] {
        assert!(
            phrases.iter().any(|it| it.to_lowercase().contains(topic)),
            "{topic}"
        );
    }
    eprintln!(
        "summary {:#?}",
        gist.summary.iter().map(|it| &it.text).collect::<Vec<_>>()
    );
    assert_eq!(gist.summary.len(), 5);
    assert!(gist.summary.windows(2).all(|it| it[0].start < it[1].start));
}

/// The chapters by words and by meaning, side by side; `make text-model` runs this.
#[cfg(feature = "candle")]
#[test]
#[ignore = "reads a real model: LOOM_ENCODER names its folder"]
fn chapters_by_a_real_encoder_are_no_worse_than_by_words() {
    let folder = std::env::var("LOOM_ENCODER").expect("LOOM_ENCODER names a folder");
    let config = crate::ModelConfig {
        path: Some(folder.into()),
        ..crate::ModelConfig::default()
    };
    let files = crate::LocalEmbedder::locate(&config, &mut |_| ()).unwrap();
    let encoder = crate::LocalEmbedder::load(&files, 1).unwrap();
    for file in ["standup.txt", "handover.txt"] {
        let (transcript, topics, _) = labelled(file);
        let of = |gist: &Gist| {
            let starts: Vec<f64> = gist.chapters.iter().map(|it| it.start.secs_f64()).collect();
            let (precise, complete) = score(&starts, &topics, 12.0);
            (2.0 * precise * complete / (precise + complete).max(0.01), starts)
        };
        let words = of(&Gist::of(&transcript));
        let meaning = of(&Gist::by_meaning(&transcript, &encoder).unwrap());
        eprintln!("{file}: topics at {topics:?}");
        eprintln!("  by words   F1 {:.2} {:?}", words.0, words.1);
        eprintln!("  by meaning F1 {:.2} {:?}", meaning.0, meaning.1);
        assert!(meaning.0 >= words.0, "{file}");
    }
}

#[test]
fn nothing_said_is_nothing_found() {
    let (mut transcript, ..) = labelled("standup.txt");
    transcript.segments.clear();
    transcript.text.clear();
    assert_eq!(Gist::of(&transcript), Gist::default());
}
