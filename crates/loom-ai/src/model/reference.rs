//! Mel frames, encoder and logits beside those of openai-whisper, kept in `testdata/jfk-tiny.en.json`.

use std::path::PathBuf;
use std::sync::Arc;

use super::Hearing;
use crate::decode::Ask;
use crate::network::Host;
use crate::prompt::Opening;
use crate::{Download, Model, ModelConfig};

#[derive(serde::Deserialize)]
pub(crate) struct Reference {
    pub(crate) tokens: Vec<u32>,
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

impl Reference {
    pub(crate) fn read() -> Self {
        serde_json::from_str(include_str!("../../testdata/jfk-tiny.en.json")).unwrap()
    }

    /// Fails where the encoder's output for the whole 30 s is another.
    pub(crate) fn judge_encoder(&self, encoded: &[f32]) {
        let error = worst(
            self.encoder
                .iter()
                .map(|&(at, i, it)| (encoded[at * 384 + i], it)),
        );
        eprintln!("encoder: {error} of {}", self.encoder_rms);
        assert!(error <= ENCODER * self.encoder_rms, "encoder: {error}");
    }

    /// Fails where the logits after token number `step` are others.
    pub(crate) fn judge_logits(&self, step: usize, logits: &[f32]) {
        let theirs = &self.logits[step];
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

/// Largest difference of a log-mel value; the values span about 2.
const MEL: f32 = 1e-4;
/// Largest difference of an encoder value, as a share of the root mean square of all.
const ENCODER: f32 = 0.03;
/// Largest difference of a logit; those of one step span about 40.
const LOGIT: f32 = 0.5;

pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared")
        .join(path);
    if !path.exists() {
        eprintln!("SKIPPED: {} is absent", path.display());
    }
    path.exists().then_some(path)
}

pub(crate) fn worst(pairs: impl Iterator<Item = (f32, f32)>) -> f32 {
    pairs
        .map(|(ours, theirs)| (ours - theirs).abs())
        .fold(0.0, f32::max)
}

/// tiny.en's folder and eleven seconds of speech.
pub(crate) fn material() -> Option<(PathBuf, Vec<f32>)> {
    let (folder, wav) = (shared("models/whisper-tiny.en")?, shared("media/speech/jfk.wav")?);
    let wav = std::fs::read(wav).unwrap();
    let data = wav.windows(4).position(|it| it == b"data").unwrap() + 8;
    let pcm: Vec<f32> = wav[data..]
        .as_chunks::<2>()
        .0
        .iter()
        .map(|it| f32::from(i16::from_le_bytes(*it)) / 32_768.0)
        .collect();
    Some((folder, pcm))
}

pub(crate) fn tiny_en() -> Option<(Arc<Model>, Vec<f32>)> {
    let (folder, pcm) = material()?;
    let config = ModelConfig {
        path: Some(folder),
        download: Download::Never,
        ..ModelConfig::default()
    };
    let model = Model::load(&Model::locate(&config, &mut |_| ()).unwrap(), 1).unwrap();
    Some((model, pcm))
}

#[test]
fn mel_encoder_and_logits_are_those_of_the_reference_within_the_stated_tolerance() {
    let Some((model, pcm)) = tiny_en() else { return };
    let reference = Reference::read();

    let mel = model.mel.frames(&pcm, 3_000);
    let error = worst(
        reference
            .mel
            .iter()
            .map(|&(at, band, it)| (mel[at * 80 + band], it)),
    );
    eprintln!("mel: {error}");
    assert!(error <= MEL, "mel: {error}");

    let Hearing::Host(host) = &model.hearing else {
        panic!("{model:?} hears with a device");
    };
    let Host { encoder, decoder } = &host.network;
    let encoded = encoder.run(&mel);
    reference.judge_encoder(&encoded);
    let mut session = decoder.begin(&encoded);
    let mut logits = Vec::new();
    for (step, &token) in reference.tokens.iter().enumerate() {
        let x = decoder.feed(&mut [&mut session], &[token]);
        decoder.logits(&x, &mut logits);
        reference.judge_logits(step, &logits);
    }
}

#[test]
fn a_draft_right_or_wrong_leaves_the_answer_as_it_is() {
    let Some((model, pcm)) = tiny_en() else { return };
    let prompt = model.prompt(&Opening::default(), &pcm).unwrap();
    let hear = |draft: &[u32]| {
        let ask = Ask {
            prompt: &prompt,
            forced: &[],
            draft,
            seconds: pcm.len() as f32 / 16e3,
            silence: 1.0,
            temperatures: &[0.0],
            beam: 1,
            seed: 0,
        };
        let it = model.hear(&pcm, &ask).unwrap().answer;
        (it.tokens, it.log_probabilities, it.looks, it.confidence.to_bits())
    };
    let plain = hear(&[]);
    let tokens = plain.0.clone();
    assert!(tokens.len() > 20, "{tokens:?}");
    assert_eq!(hear(&tokens), plain, "all of it is right");
    let words: Vec<u32> = tokens
        .iter()
        .copied()
        .filter(|&it| model.vocabulary.is_text(it))
        .collect();
    assert_eq!(hear(&words), plain, "the times are missing");
    let mut wrong = tokens.clone();
    wrong[9] = wrong[10];
    assert_eq!(hear(&wrong), plain, "a word is wrong");
    assert_eq!(hear(&tokens[3..]), plain, "it begins too late");
    assert_eq!(
        hear(&[tokens.as_slice(), &[0; 40]].concat()),
        plain,
        "it goes on too long"
    );
}
