use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;
use candle_core::pickle::PthTensors;

use super::{Checkpoint, hugging_face};
use crate::AiError;

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
    Checkpoint::new(path, tensors, |rows| hugging_face::vocabulary(path, rows), None)
}
