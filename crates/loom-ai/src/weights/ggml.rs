use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::path::Path;

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};

use super::Checkpoint;
use crate::AiError;
use crate::limits::{MAX_DIMS, MAX_MELS, MAX_NAME, MAX_TOKEN_BYTES, MAX_VOCABULARY};
use crate::vocabulary::Vocabulary;

/// `ggml` in the byte order of the file.
const MAGIC: u32 = 0x6767_6d6c;

/// Reads a whisper.cpp `ggml` file: header, mel filters (ours are used), vocabulary, tensors under OpenAI's names.
pub(super) fn read(path: &Path) -> Result<Checkpoint, AiError> {
    let file = std::fs::File::open(path).map_err(|e| AiError::io(path, e))?;
    let left = file.metadata().map_err(|e| AiError::io(path, e))?.len();
    let mut file = Reader {
        path,
        inner: BufReader::with_capacity(1 << 20, file),
        left,
    };
    if file.u32("magic")? != MAGIC {
        return Err(file.bad("magic", "neither a ggml file, .safetensors nor .pt"));
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
    let kind = file.u32("tensor type")?;
    let mut shape = Vec::with_capacity(rank);
    for _ in 0..rank {
        shape.push(file.u32("tensor shape")? as usize);
    }
    // ggml writes the fastest dimension first.
    shape.reverse();
    let name = String::from_utf8(file.bytes("tensor name", name_len)?)
        .map_err(|_| file.bad("tensor name", "not utf-8"))?;
    let elements = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n as u64 <= file.left.saturating_mul(2))
        .ok_or_else(|| file.bad(&name, "more values than the file has bytes for"))?;
    let tensor = match kind {
        0 | 1 => {
            let (dtype, width) = if kind == 0 {
                (DType::F32, 4)
            } else {
                (DType::F16, 2)
            };
            let data = file.bytes(&name, elements * width)?;
            Tensor::from_raw_buffer(&data, dtype, &shape, &Device::Cpu)
        }
        _ => {
            let kind =
                quantized(kind).ok_or_else(|| file.bad(&name, format!("tensor type {kind} is not known")))?;
            if !elements.is_multiple_of(kind.block_size()) {
                return Err(file.bad(&name, format!("{elements} values are no whole blocks")));
            }
            let data = file.bytes(&name, elements / kind.block_size() * kind.type_size())?;
            candle_core::quantized::ggml_file::qtensor_from_ggml(kind, &data, shape, &Device::Cpu)
                .and_then(|it| it.dequantize(&Device::Cpu))
        }
    };
    let tensor = tensor.map_err(|e| file.bad(&name, e.to_string()))?;
    Ok((name, tensor))
}

/// ggml's type numbers of the block formats that whisper.cpp writes.
fn quantized(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        _ => return None,
    })
}

/// Reads little-endian fields and never allocates more than the file still has.
struct Reader<'a> {
    path: &'a Path,
    inner: BufReader<std::fs::File>,
    left: u64,
}

impl Reader<'_> {
    fn bad(&self, what: &str, rule: impl Into<String>) -> AiError {
        AiError::malformed(self.path, what, rule)
    }

    fn bytes(&mut self, what: &str, len: usize) -> Result<Vec<u8>, AiError> {
        if len as u64 > self.left {
            return Err(self.bad(
                what,
                format!("{len} bytes wanted, {} left: the file is truncated", self.left),
            ));
        }
        let mut out = vec![0; len];
        self.inner
            .read_exact(&mut out)
            .map_err(|e| AiError::io(self.path, e))?;
        self.left -= len as u64;
        Ok(out)
    }

    fn u32(&mut self, what: &str) -> Result<u32, AiError> {
        let b = self.bytes(what, 4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn count(&mut self, what: &str, most: usize) -> Result<usize, AiError> {
        let n = self.u32(what)? as usize;
        if n > most {
            return Err(self.bad(what, format!("{n} is more than {most}")));
        }
        Ok(n)
    }
}
