//! Mel frames, encoder and logits beside those of openai-whisper, kept in `testdata/jfk-tiny.en.json`.

use std::path::PathBuf;

use crate::{Download, Model, ModelConfig};

#[derive(serde::Deserialize)]
struct Reference {
    tokens: Vec<u32>,
    mel: Vec<(usize, usize, f32)>,
    encoder: Vec<(usize, usize, f32)>,
    encoder_rms: f32,
    logits: Vec<Logits>,
}

#[derive(serde::Deserialize)]
struct Logits {
    top: Vec<(usize, f32)>,
    some: Vec<(usize, f32)>,
}

/// Largest difference of a log-mel value; the values span about 2.
const MEL: f32 = 1e-4;
/// Largest difference of an encoder value, as a share of the root mean square of all.
const ENCODER: f32 = 0.03;
/// Largest difference of a logit; those of one step span about 40.
const LOGIT: f32 = 0.5;

fn shared(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared")
        .join(path);
    if !path.exists() {
        eprintln!("SKIPPED: {} is absent", path.display());
    }
    path.exists().then_some(path)
}

fn worst(pairs: impl Iterator<Item = (f32, f32)>) -> f32 {
    pairs
        .map(|(ours, theirs)| (ours - theirs).abs())
        .fold(0.0, f32::max)
}

#[test]
fn mel_encoder_and_logits_are_those_of_the_reference_within_the_stated_tolerance() {
    let (Some(folder), Some(wav)) = (shared("models/whisper-tiny.en"), shared("media/speech/jfk.wav")) else {
        return;
    };
    let reference: Reference = serde_json::from_str(include_str!("../../testdata/jfk-tiny.en.json")).unwrap();
    let wav = std::fs::read(wav).unwrap();
    let data = wav.windows(4).position(|it| it == b"data").unwrap() + 8;
    let pcm: Vec<f32> = wav[data..]
        .as_chunks::<2>()
        .0
        .iter()
        .map(|it| f32::from(i16::from_le_bytes(*it)) / 32_768.0)
        .collect();
    let config = ModelConfig {
        path: Some(folder),
        download: Download::Never,
        ..ModelConfig::default()
    };
    let model = Model::load(&Model::locate(&config, &mut |_| ()).unwrap(), 1).unwrap();

    let mel = model.mel.frames(&pcm, 3_000);
    let error = worst(
        reference
            .mel
            .iter()
            .map(|&(at, band, it)| (mel[at * 80 + band], it)),
    );
    eprintln!("mel: {error}");
    assert!(error <= MEL, "mel: {error}");

    let encoded = model.encoder.run(&mel);
    let error = worst(
        reference
            .encoder
            .iter()
            .map(|&(at, i, it)| (encoded[at * 384 + i], it)),
    );
    eprintln!("encoder: {error} of {}", reference.encoder_rms);
    assert!(error <= ENCODER * reference.encoder_rms, "encoder: {error}");

    let mut session = model.decoder.begin(&encoded);
    let mut logits = Vec::new();
    for (step, (&token, theirs)) in reference.tokens.iter().zip(&reference.logits).enumerate() {
        let x = model.decoder.feed(&mut session, &[token]);
        model.decoder.logits(&x, &mut logits);
        let error = worst(
            theirs
                .top
                .iter()
                .chain(&theirs.some)
                .map(|&(id, it)| (logits[id], it)),
        );
        eprintln!("logits {step}: {error}");
        assert!(error <= LOGIT, "step {step}: {error}");
        let likeliest = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        assert_eq!(likeliest, Some(theirs.top[0].0), "step {step}");
    }
}
