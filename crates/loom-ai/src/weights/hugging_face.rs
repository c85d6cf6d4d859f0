use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;

use super::{Checkpoint, Tensors, read_small};
use crate::AiError;
use crate::vocabulary::Vocabulary;

/// Reads Hugging Face's layout: `model.safetensors` with `tokenizer.json` beside it, `generation_config.json` where it is.
pub(super) fn read(path: &Path) -> Result<Checkpoint, AiError> {
    let (folder, weights) = if path.is_dir() {
        (path, path.join("model.safetensors"))
    } else {
        (path.parent().unwrap_or(Path::new(".")), path.to_owned())
    };
    if !weights.is_file() {
        return Err(AiError::malformed(
            path,
            "model.safetensors",
            "this file is missing",
        ));
    }
    let tensors: HashMap<String, Tensor> = Tensors::read(&weights)?
        .named
        .into_iter()
        .filter_map(|(name, tensor)| Some((rename(&name)?, tensor)))
        .collect();
    let vocabulary = |rows| vocabulary(&weights, rows);
    Checkpoint::new(&weights, tensors, vocabulary, alignment_heads(folder)?)
}

/// The vocabulary beside a weights file; the English-only one is built in.
pub(super) fn vocabulary(weights: &Path, rows: usize) -> Result<Vocabulary, AiError> {
    let tokenizer = weights.with_file_name("tokenizer.json");
    if tokenizer.is_file() {
        Vocabulary::from_tokenizer_json(&tokenizer, &read_small(&tokenizer)?, rows)
    } else if rows == 51_864 {
        Vocabulary::english(weights)
    } else {
        Err(AiError::malformed(
            weights,
            "tokenizer.json",
            "a multilingual model needs it beside its weights",
        ))
    }
}

pub(super) fn alignment_heads(folder: &Path) -> Result<Option<Vec<(usize, usize)>>, AiError> {
    #[derive(serde::Deserialize)]
    struct Generation {
        alignment_heads: Option<Vec<(usize, usize)>>,
    }
    let path = folder.join("generation_config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let it: Generation = serde_json::from_slice(&read_small(&path)?)
        .map_err(|e| AiError::malformed(&path, "alignment_heads", e.to_string()))?;
    Ok(it.alignment_heads.filter(|heads| !heads.is_empty()))
}

/// Hugging Face's name of a tensor to OpenAI's; `None` for one that is not needed (the output projection is tied).
pub(super) fn rename(name: &str) -> Option<String> {
    let name = name.strip_prefix("model.").unwrap_or(name);
    let (side, rest) = name.split_once('.')?;
    if side != "encoder" && side != "decoder" {
        return None;
    }
    let fixed = match rest {
        "embed_positions.weight" => Some("positional_embedding".to_owned()),
        "embed_tokens.weight" => Some("token_embedding.weight".to_owned()),
        _ => None,
    };
    if let Some(fixed) = fixed {
        return Some(format!("{side}.{fixed}"));
    }
    if let Some(end) = rest.strip_prefix("layer_norm.") {
        let norm = if side == "encoder" { "ln_post" } else { "ln" };
        return Some(format!("{side}.{norm}.{end}"));
    }
    let Some(layer) = rest.strip_prefix("layers.") else {
        return Some(format!("{side}.{rest}"));
    };
    let (index, part) = layer.split_once('.')?;
    let (part, end) = part.rsplit_once('.')?;
    let part = match part {
        "self_attn_layer_norm" => "attn_ln",
        "encoder_attn_layer_norm" => "cross_attn_ln",
        "final_layer_norm" => "mlp_ln",
        "fc1" => "mlp.0",
        "fc2" => "mlp.2",
        _ => {
            let (attention, projection) = part.split_once('.')?;
            let attention = match attention {
                "self_attn" => "attn",
                "encoder_attn" => "cross_attn",
                _ => return None,
            };
            let projection = match projection {
                "q_proj" => "query",
                "k_proj" => "key",
                "v_proj" => "value",
                "out_proj" => "out",
                _ => return None,
            };
            return Some(format!("{side}.blocks.{index}.{attention}.{projection}.{end}"));
        }
    };
    Some(format!("{side}.blocks.{index}.{part}.{end}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hugging_faces_names_become_openais() {
        for (theirs, ours) in [
            ("model.encoder.conv1.weight", Some("encoder.conv1.weight")),
            (
                "model.encoder.embed_positions.weight",
                Some("encoder.positional_embedding"),
            ),
            (
                "model.decoder.embed_tokens.weight",
                Some("decoder.token_embedding.weight"),
            ),
            ("model.encoder.layer_norm.bias", Some("encoder.ln_post.bias")),
            ("model.decoder.layer_norm.bias", Some("decoder.ln.bias")),
            (
                "model.decoder.layers.3.encoder_attn.out_proj.weight",
                Some("decoder.blocks.3.cross_attn.out.weight"),
            ),
            (
                "decoder.layers.0.self_attn.k_proj.weight",
                Some("decoder.blocks.0.attn.key.weight"),
            ),
            (
                "model.encoder.layers.12.fc2.bias",
                Some("encoder.blocks.12.mlp.2.bias"),
            ),
            (
                "model.encoder.layers.1.final_layer_norm.bias",
                Some("encoder.blocks.1.mlp_ln.bias"),
            ),
            ("proj_out.weight", None),
        ] {
            assert_eq!(rename(theirs).as_deref(), ours, "{theirs}");
        }
    }
}
