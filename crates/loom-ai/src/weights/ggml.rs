use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;

use super::Checkpoint;
use super::reader::Reader;
use crate::AiError;
use crate::limits::{MAX_DIMS, MAX_MELS, MAX_NAME, MAX_TOKEN_BYTES, MAX_VOCABULARY};
use crate::vocabulary::Vocabulary;

/// `ggml` in the byte order of the file.
const MAGIC: u32 = 0x6767_6d6c;

/// Reads a whisper.cpp `ggml` file: header, mel filters (ours are used), vocabulary, tensors under OpenAI's names.
pub(super) fn read(path: &Path) -> Result<Checkpoint, AiError> {
    parse(Reader::open(path)?)
}

pub(super) fn parse(mut file: Reader<'_>) -> Result<Checkpoint, AiError> {
    let path = file.path;
    if file.u32("magic")? != MAGIC {
        return Err(file.bad("magic", "neither a ggml file, .gguf, .safetensors nor .pt"));
    }
    // n_vocab, n_audio_ctx, n_audio_state, n_audio_head, n_audio_layer, n_text_ctx, n_text_state, n_text_head,
    // n_text_layer, n_mels, ftype
    let mut header = [0u32; 11];
    for field in &mut header {
        *field = file.u32("header")?;
    }
    let filter_rows = file.count("mel filter rows", MAX_MELS)?;
    let filter_bins = file.count("mel filter bins", 4_096)?;
    file.bytes("mel filters", filter_rows * filter_bins * 4)?;
    let words = file.count("vocabulary", MAX_VOCABULARY)?;
    let mut tokens = Vec::with_capacity(words);
    for _ in 0..words {
        let len = file.count("token length", MAX_TOKEN_BYTES)?;
        tokens.push(file.bytes("token", len)?);
    }
    let mut tensors = HashMap::new();
    while file.left > 0 {
        let (name, tensor) = tensor(&mut file)?;
        tensors.insert(name, tensor);
    }
    let size = header[0] as usize;
    let vocabulary = |rows: usize| {
        if rows == size {
            Vocabulary::new(path, &tokens, size)
        } else {
            Err(AiError::malformed(
                path,
                "n_vocab",
                format!("{size}, but {rows} embeddings"),
            ))
        }
    };
    Checkpoint::new(path, tensors, vocabulary, None)
}

fn tensor(file: &mut Reader<'_>) -> Result<(String, Tensor), AiError> {
    let rank = file.count("tensor dimensions", MAX_DIMS)?;
    let name_len = file.count("tensor name length", MAX_NAME)?;
    if name_len == 0 {
        return Err(file.bad("tensor name", "it is empty"));
    }
    let kind = file.u32("tensor type")?;
    let mut shape = Vec::with_capacity(rank);
    for _ in 0..rank {
        shape.push(file.u32("tensor shape")? as usize);
    }
    // ggml writes the fastest dimension first.
    shape.reverse();
    let name = String::from_utf8(file.bytes("tensor name", name_len)?)
        .map_err(|_| file.bad("tensor name", "not utf-8"))?;
    let tensor = file.values(&name, kind, shape)?;
    Ok((name, tensor))
}
