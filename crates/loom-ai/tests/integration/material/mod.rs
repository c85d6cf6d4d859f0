//! Models and speech from `../shared`; a test that needs what is not there is skipped, and says so.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use loom_ai::{AiError, Download, Model, ModelConfig};

pub(crate) const JFK: &str = "and so my fellow americans ask not what your country can do for you ask what you can do for your country";

pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared")
        .join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is absent", path.display());
    None
}

pub(crate) fn load(path: PathBuf) -> Result<Arc<Model>, AiError> {
    let mut config = ModelConfig::default();
    config.path = Some(path);
    config.download = Download::Never;
    Model::load(&Model::locate(&config, &mut |_| ())?, 1)
}

pub(crate) fn english() -> Option<Arc<Model>> {
    static MODEL: OnceLock<Option<Arc<Model>>> = OnceLock::new();
    MODEL
        .get_or_init(|| Some(load(shared("models/whisper-tiny.en")?).unwrap()))
        .clone()
}

pub(crate) fn jfk() -> Option<Vec<f32>> {
    let wav = std::fs::read(shared("media/speech/jfk.wav")?).unwrap();
    // 16-bit mono at 16 kHz after the `data` chunk's name and size.
    let data = wav.windows(4).position(|it| it == b"data").unwrap() + 8;
    Some(
        wav[data..]
            .chunks_exact(2)
            .map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0)
            .collect(),
    )
}

/// A sound file as 16 kHz mono.
pub(crate) fn decoded(path: PathBuf) -> Option<Vec<f32>> {
    let ffmpeg = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-f", "f32le", "-ac", "1", "-ar", "16000", "-"])
        .output();
    match ffmpeg {
        Ok(it) if it.status.success() => Some(floats(&it.stdout)),
        _ => {
            eprintln!("SKIPPED: no ffmpeg to decode with");
            None
        }
    }
}

pub(crate) fn floats(raw: &[u8]) -> Vec<f32> {
    raw.as_chunks::<4>()
        .0
        .iter()
        .map(|it| f32::from_le_bytes(*it))
        .collect()
}
