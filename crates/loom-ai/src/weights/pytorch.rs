use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;
use candle_core::pickle::PthTensors;

use super::{Checkpoint, read_small};
use crate::AiError;
use crate::vocabulary::Vocabulary;

/// Reads an OpenAI checkpoint. It carries no vocabulary: the English-only one is built in, any other must lie beside it
/// as `tokenizer.json`.
pub(super) fn read(path: &Path) -> Result<Checkpoint, AiError> {
    let bad = |what: &str, e: candle_core::Error| AiError::malformed(path, what, e.to_string());
    let file = PthTensors::new(path, Some("model_state_dict")).map_err(|e| bad("model_state_dict", e))?;
    let mut names: Vec<String> = file.tensor_infos().keys().cloned().collect();
    names.sort_unstable();
    let mut tensors: HashMap<String, Tensor> = HashMap::with_capacity(names.len());
    for name in names {
        if let Some(tensor) = file.get(&name).map_err(|e| bad(&name, e))? {
            tensors.insert(name, tensor);
        }
    }
    let tokenizer = path.with_file_name("tokenizer.json");
    let vocabulary = |size: usize| {
        if tokenizer.is_file() {
            Vocabulary::from_tokenizer_json(&tokenizer, &read_small(&tokenizer)?, size)
        } else if size == 51_864 {
            Vocabulary::english(path)
        } else {
            Err(AiError::malformed(
                path,
                "tokenizer.json",
                "a multilingual model needs it beside its weights",
            ))
        }
    };
    Checkpoint::new(path, tensors, vocabulary, None)
}
