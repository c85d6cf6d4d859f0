//! Entry points for the fuzz targets in `fuzz/`. Not an API: here only with the feature `fuzzing`, and never stable.

use std::path::Path;

use crate::weights::Checkpoint;
use crate::{AiError, LocalTextModel, LocalTextModelConfig, SpeakerEncoder, TextModel, VoiceEncoder};

/// A whisper.cpp `ggml` file.
pub fn ggml(input: &[u8]) {
    judge(Checkpoint::of_bytes(Path::new("fuzzed.bin"), input));
}

/// A GGUF file.
pub fn gguf(input: &[u8]) {
    judge(Checkpoint::of_bytes(Path::new("fuzzed.gguf"), input));
}

/// A GGUF file of a language model. What is read has tokens that texts can be put into.
pub fn text_model(input: &[u8]) {
    let mut config = LocalTextModelConfig::new("fuzzed.gguf");
    (config.threads, config.context, config.answer) = (1, 64, 2);
    match LocalTextModel::of_bytes(Path::new("fuzzed.gguf"), input, &config) {
        Ok(model) => drop(model.answer("Say it.", "Ünder 12 there")),
        Err(why) => judge_refusal(&why),
    }
}

/// A speaker encoder's `.pt` file.
pub fn voices(input: &[u8]) {
    match VoiceEncoder::read(Path::new("fuzzed.pt"), input) {
        Ok(encoder) => drop(encoder.embed(&[&[0.1; 1_600]])),
        Err(why) => judge_refusal(&why),
    }
}

/// No input is long enough for a vocabulary, so none is a model; what it is refused for is named.
fn judge(read: Result<Checkpoint, AiError>) {
    match read {
        Err(why) => judge_refusal(&why),
        Ok(it) => panic!("{:?}", it.dims),
    }
}

fn judge_refusal(why: &AiError) {
    match why {
        AiError::Malformed { what, rule, .. } => assert!(!what.is_empty() && !rule.is_empty()),
        other => panic!("{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 4] = [
        ("ggml", ggml),
        ("gguf", gguf),
        ("text_model", text_model),
        ("voices", voices),
    ];

    /// The files of a folder in `fuzz/`.
    fn files(folder: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz")
            .join(folder);
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries
            .map(|entry| {
                let path = entry.unwrap().path();
                println!("{}", path.display());
                std::fs::read(path).unwrap()
            })
            .collect()
    }

    #[test]
    fn seeds_of_the_fuzz_targets_and_what_once_broke_them_are_read_or_refused_by_name() {
        for (name, target) in TARGETS {
            let seeds = files(&format!("seeds/{name}"));
            assert!(!seeds.is_empty(), "the seeds are not where they should be");
            seeds.iter().for_each(|it| target(it));
            files(&format!("regressions/{name}"))
                .iter()
                .for_each(|it| target(it));
        }
    }

    #[test]
    fn small_seeds_with_any_one_byte_changed_or_cut_off_are_read_or_refused_by_name() {
        for (name, target) in TARGETS {
            for seed in files(&format!("seeds/{name}")) {
                // of larger ones here and there
                for at in (0..seed.len()).step_by(1 + seed.len() / 3_000) {
                    for change in [0x01, 0x80, 0xff] {
                        let mut bytes = seed.clone();
                        bytes[at] ^= change;
                        target(&bytes);
                    }
                    target(&seed[..at]);
                }
            }
        }
    }
}
