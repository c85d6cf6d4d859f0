//! How a window may be decoded.

use loom_ai::{AiError, Model, Task, TranscribeConfig, Transcript, transcribe};
use loom_testkit::word_errors;

use crate::material::{JFK, english, jfk, load, shared};

fn with(
    model: &Model,
    pcm: &[f32],
    change: impl FnOnce(&mut TranscribeConfig),
) -> Result<Transcript, AiError> {
    let mut config = TranscribeConfig::default();
    change(&mut config);
    transcribe(model, pcm, &config, |_| ())
}

#[test]
fn a_beam_hears_as_well_as_the_greedy_way() {
    let (Some(model), Some(pcm)) = (english(), jfk()) else {
        return;
    };
    let it = with(&model, &pcm, |config| config.beam = 4).unwrap();
    assert_eq!(word_errors(JFK, &it.text).errors, 0, "{}", it.text);
    let again = with(&model, &pcm, |config| config.beam = 4).unwrap();
    assert_eq!(it, again);
}

#[test]
fn a_prompt_and_hot_words_leave_the_words_right() {
    let (Some(model), Some(pcm)) = (english(), jfk()) else {
        return;
    };
    let it = with(&model, &pcm, |config| {
        config.initial_prompt = Some("The inaugural address, given in Washington in January.".to_owned());
        config.hot_words = vec!["Americans".to_owned(), "country".to_owned()];
    });
    let text = it.unwrap().text;
    assert_eq!(word_errors(JFK, &text).errors, 0, "{text}");
}

#[test]
fn what_an_english_model_cannot_do_is_refused() {
    let (Some(model), Some(pcm)) = (english(), jfk()) else {
        return;
    };
    let error = with(&model, &pcm, |config| config.task = Task::Translate).unwrap_err();
    assert!(matches!(error, AiError::Config { field: "task", .. }), "{error}");
    let error = with(&model, &pcm, |config| config.beam = 0).unwrap_err();
    assert!(matches!(error, AiError::Config { field: "beam", .. }), "{error}");
}

#[test]
fn a_multilingual_model_translates_into_english() {
    let (Some(path), Some(pcm)) = (shared("models/whisper-tiny/ggml-tiny.bin"), jfk()) else {
        return;
    };
    let it = with(&load(path).unwrap(), &pcm, |config| config.task = Task::Translate).unwrap();
    assert!(word_errors(JFK, &it.text).errors <= 2, "{}", it.text);
}

#[test]
fn warm_answers_are_the_same_for_the_same_seed() {
    let (Some(model), Some(pcm)) = (english(), jfk()) else {
        return;
    };
    let warm = |seed| {
        with(&model, &pcm[..80_000], |config| {
            config.temperatures = vec![0.8];
            config.seed = seed;
        })
        .unwrap()
        .text
    };
    assert_eq!(warm(7), warm(7));
}

#[test]
fn windows_decoded_together_come_out_as_they_do_alone() {
    let (Some(model), Some(pcm)) = (english(), jfk()) else {
        return;
    };
    let pause = vec![0.0; 3 * 16_000];
    let joined = [pcm.as_slice(), &pause, &pcm, &pause, &pcm].concat();
    let it = with(&model, &joined, |_| ()).unwrap();
    let said = [JFK, JFK, JFK].join(" ");
    assert_eq!(word_errors(&said, &it.text).errors, 0, "{}", it.text);
    let starts: Vec<f64> = it.segments.iter().map(|it| it.start).collect();
    assert!(starts.is_sorted(), "{starts:?}");
}
