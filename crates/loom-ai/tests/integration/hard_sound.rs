//! Speech that is not as clean as read sentences: a telephone's, clipped, of other languages, the same live and afterwards.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use loom_ai::{CaptionOutput, Captioner, CaptionerConfig, Model, TranscribeConfig, Transcript, transcribe};
use loom_core::{CueState, MediaTime, PcmFrame};
use loom_testkit::word_errors;

use crate::material::{JFK, decoded, english, floats, jfk, load, shared};

fn heard(model: &Model, pcm: &[f32]) -> Transcript {
    transcribe(model, pcm, &TranscribeConfig::default(), |_| ()).unwrap()
}

fn live(model: &Arc<Model>, pcm: &[f32]) -> String {
    let mut captioner = Captioner::new(CaptionerConfig::default(), Arc::clone(model)).unwrap();
    for (index, samples) in pcm.chunks(320).enumerate() {
        let frame = PcmFrame {
            pts: MediaTime::from_millis(index as i64 * 20),
            sample_rate: 16_000,
            channels: 1,
            samples: samples.to_vec(),
        };
        captioner.handle_pcm(frame).unwrap();
    }
    captioner.finish().unwrap();
    let finals = std::iter::from_fn(|| captioner.poll_output()).filter_map(|it| match it {
        CaptionOutput::Cue(cue) if cue.state == CueState::Final => Some(cue.text),
        _ => None,
    });
    finals.collect::<Vec<_>>().join(" ")
}

/// As it comes out of a telephone: FFmpeg's band of 300 to 3,400 Hz, 8 kHz, G.711, and back.
fn over_the_telephone(path: &Path) -> Option<Vec<f32>> {
    let line = "ffmpeg -v error -i \"$0\" -af highpass=300,lowpass=3400 -ac 1 -ar 8000 -c:a pcm_mulaw -f wav - \
        | ffmpeg -v error -i - -f f32le -ac 1 -ar 16000 -";
    let done = Command::new("sh")
        .args(["-c", line])
        .arg(path)
        .stderr(Stdio::null())
        .output();
    match done {
        Ok(it) if !it.stdout.is_empty() => Some(floats(&it.stdout)),
        _ => {
            eprintln!("SKIPPED: no ffmpeg to be the telephone");
            None
        }
    }
}

#[test]
fn a_telephone_loses_few_words() {
    let (Some(model), Some(path)) = (english(), shared("media/speech/jfk.wav")) else {
        return;
    };
    let Some(pcm) = over_the_telephone(&path) else {
        return;
    };
    for text in [heard(&model, &pcm).text, live(&model, &pcm)] {
        assert!(word_errors(JFK, &text).errors <= 4, "{text}");
    }
}

#[test]
fn clipping_loses_no_word() {
    let (Some(model), Some(pcm)) = (english(), jfk()) else {
        return;
    };
    let pcm: Vec<f32> = pcm.iter().map(|it| (it * 20.0).clamp(-1.0, 1.0)).collect();
    let flat = pcm.iter().filter(|it| it.abs() == 1.0).count();
    assert!(
        flat * 5 > pcm.len(),
        "a fifth of it is clipped: {flat} of {}",
        pcm.len()
    );
    for text in [heard(&model, &pcm).text, live(&model, &pcm)] {
        assert!(word_errors(JFK, &text).errors <= 1, "{text}");
    }
}

#[test]
fn the_language_of_a_sentence_is_found() {
    let Some(path) = shared("models/whisper-tiny/ggml-tiny.bin") else {
        return;
    };
    let model = load(path).unwrap();
    let testdata = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata");
    // What so small a model spells is another matter: a word of each will do.
    for (name, language, said) in [("french", "fr", "num"), ("chinese", "zh", "自己")] {
        let Some(pcm) = decoded(testdata.join(format!("{name}.flac"))) else {
            return;
        };
        let it = heard(&model, &pcm);
        assert_eq!(it.language, language, "{}", it.text);
        for text in [it.text, live(&model, &pcm)] {
            assert!(text.to_lowercase().contains(said), "{name}: {text}");
        }
    }
}
