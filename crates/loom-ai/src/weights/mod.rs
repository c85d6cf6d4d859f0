//! Model files of four kinds become one [`Checkpoint`].

mod ggml;
mod gguf;
mod hugging_face;
pub(crate) mod legacy;
mod pickle;
mod pytorch;
mod reader;

pub(crate) use gguf::{Header, Listed};
pub(crate) use reader::{Reader, size, tensor};

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use crate::AiError;
use crate::limits::{MAX_LAYERS, MAX_MELS, MAX_POSITIONS, MAX_WIDTH};
use crate::vocabulary::Vocabulary;

/// A model's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dims {
    pub(crate) mels: usize,
    pub(crate) audio_positions: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) audio_layers: usize,
    pub(crate) text_positions: usize,
    pub(crate) text_layers: usize,
    pub(crate) vocabulary: usize,
}

/// A file's tensors by name, until they are taken.
#[derive(Debug)]
pub(crate) struct Tensors {
    path: PathBuf,
    named: HashMap<String, Tensor>,
}

/// What a model file holds: tensors under OpenAI's names, sizes, and the vocabulary.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) tensors: Tensors,
    pub(crate) dims: Dims,
    pub(crate) vocabulary: Vocabulary,
    /// (layer, head) of the decoder whose cross-attention follows the sound, where the file says.
    pub(crate) alignment_heads: Option<Vec<(usize, usize)>>,
}

impl Checkpoint {
    /// Reads `path`: a folder or a `.safetensors` in Hugging Face's layout, a GGUF file,
    /// a whisper.cpp `ggml` file, or an OpenAI `.pt`.
    pub(crate) fn read(path: &Path) -> Result<Self, AiError> {
        if path.is_dir() {
            return hugging_face::read(path);
        }
        match path.extension().and_then(|it| it.to_str()) {
            Some("safetensors") => hugging_face::read(path),
            Some("gguf") => gguf::read(path),
            Some("pt" | "pth") => pytorch::read(path),
            _ => ggml::read(path),
        }
    }

    /// Reads a `.gguf` or a `ggml` file that is in memory.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of_bytes(path: &Path, bytes: &[u8]) -> Result<Self, AiError> {
        let reader = reader::Reader::of(path, bytes);
        match path.extension().and_then(|it| it.to_str()) {
            Some("gguf") => gguf::parse(reader),
            _ => ggml::parse(reader),
        }
    }

    fn new(
        path: &Path,
        tensors: HashMap<String, Tensor>,
        vocabulary: impl FnOnce(usize) -> Result<Vocabulary, AiError>,
        alignment_heads: Option<Vec<(usize, usize)>>,
    ) -> Result<Self, AiError> {
        let dims = infer(path, &tensors)?;
        let vocabulary = vocabulary(dims.vocabulary)?;
        if let Some(heads) = &alignment_heads
            && heads
                .iter()
                .any(|&(layer, head)| layer >= dims.text_layers || head >= dims.heads)
        {
            return Err(AiError::malformed(
                path,
                "alignment_heads",
                "a head beyond the decoder's",
            ));
        }
        Ok(Self {
            tensors: Tensors {
                path: path.to_owned(),
                named: tensors,
            },
            dims,
            vocabulary,
            alignment_heads,
        })
    }

    /// Values of all tensors that were not taken.
    pub(crate) fn values_held(&self) -> usize {
        self.tensors.named.values().map(Tensor::elem_count).sum()
    }

    /// Takes a tensor's values, checked for its shape and for being numbers.
    pub(crate) fn values(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, AiError> {
        self.tensors.values(name, shape)
    }
}

impl Tensors {
    /// Reads a `.safetensors` file.
    pub(crate) fn read(path: &Path) -> Result<Self, AiError> {
        let named = candle_core::safetensors::load(path, &Device::Cpu)
            .map_err(|e| AiError::malformed(path, "safetensors", e.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            named,
        })
    }

    /// The shape of a tensor, where it is there.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.named.get(name).map(Tensor::dims)
    }

    /// Takes a tensor as f32, checked for its shape.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, AiError> {
        let tensor = self
            .named
            .remove(name)
            .ok_or_else(|| AiError::malformed(&self.path, name, "this tensor is missing"))?;
        let tensor = match shape {
            // ggml keeps the convolutions' biases as columns.
            [n] if tensor.dims() == [*n, 1] => tensor.reshape(*n)?,
            _ => tensor,
        };
        if tensor.dims() != shape {
            return Err(AiError::malformed(
                &self.path,
                name,
                format!("shape {:?}, expected {shape:?}", tensor.dims()),
            ));
        }
        Ok(tensor
            .to_dtype(DType::F32)?
            .to_device(&Device::Cpu)?
            .contiguous()?)
    }

    /// Takes a tensor's values, checked for its shape and for being numbers.
    pub(crate) fn values(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, AiError> {
        let values: Vec<f32> = self.take(name, shape)?.flatten_all()?.to_vec1()?;
        if !values.iter().all(|it| it.is_finite()) {
            return Err(AiError::malformed(
                &self.path,
                name,
                "a value that is no finite number",
            ));
        }
        Ok(values)
    }
}

/// The sizes follow from the tensors' shapes; a head is 64 wide in every Whisper.
fn infer(path: &Path, tensors: &HashMap<String, Tensor>) -> Result<Dims, AiError> {
    let shape = |name: &str, rank: usize| match tensors.get(name) {
        Some(tensor) if tensor.rank() == rank => Ok(tensor.dims().to_vec()),
        Some(tensor) => Err(AiError::malformed(
            path,
            name,
            format!("{} dimensions, expected {rank}", tensor.rank()),
        )),
        None => Err(AiError::malformed(
            path,
            name,
            "this tensor is missing: not a whisper model",
        )),
    };
    let layers = |side: &str| {
        (0..=MAX_LAYERS)
            .take_while(|i| tensors.contains_key(&format!("{side}.blocks.{i}.attn.query.weight")))
            .count()
    };
    let conv = shape("encoder.conv1.weight", 3)?;
    let audio = shape("encoder.positional_embedding", 2)?;
    let text = shape("decoder.positional_embedding", 2)?;
    let tokens = shape("decoder.token_embedding.weight", 2)?;
    let dims = Dims {
        mels: conv[1],
        audio_positions: audio[0],
        width: audio[1],
        heads: audio[1] / 64,
        audio_layers: layers("encoder"),
        text_positions: text[0],
        text_layers: layers("decoder"),
        vocabulary: tokens[0],
    };
    let checks = [
        ("encoder.conv1.weight", dims.mels >= 1 && dims.mels <= MAX_MELS),
        (
            "encoder.positional_embedding",
            (16..=MAX_POSITIONS).contains(&dims.audio_positions),
        ),
        (
            "encoder.positional_embedding",
            dims.width.is_multiple_of(64) && (64..=MAX_WIDTH).contains(&dims.width),
        ),
        ("encoder.blocks", (1..=MAX_LAYERS).contains(&dims.audio_layers)),
        ("decoder.blocks", (1..=MAX_LAYERS).contains(&dims.text_layers)),
        (
            "decoder.positional_embedding",
            (64..=MAX_POSITIONS).contains(&dims.text_positions),
        ),
        (
            "decoder.positional_embedding",
            text[1] == dims.width && tokens[1] == dims.width,
        ),
    ];
    match checks.iter().find(|(_, good)| !good) {
        Some((name, _)) => Err(AiError::malformed(
            path,
            *name,
            format!("{dims:?} is no whisper model"),
        )),
        None => Ok(dims),
    }
}

/// Reads a small file whole.
pub(crate) fn read_small(path: &Path) -> Result<Vec<u8>, AiError> {
    let size = std::fs::metadata(path).map_err(|e| AiError::io(path, e))?.len();
    if size > crate::limits::MAX_JSON {
        return Err(AiError::malformed(
            path,
            "size",
            format!("{size} bytes is too much for a json file"),
        ));
    }
    std::fs::read(path).map_err(|e| AiError::io(path, e))
}
