use candle_core::{Device, Tensor};

use crate::AiError;
use crate::kernels::{
    add_bias, add_rows, bias_gelu, change_values, layer_norm, project, softmax_rows, with_values,
};
use crate::limits::FRAMES_PER_POSITION;
use crate::weights::{Checkpoint, Dims};

/// Log-mel frames to one vector each 20 ms.
///
/// It runs over exactly the positions it is given: nothing is padded to 30 s, which is what most of the time of a short
/// utterance would otherwise go to.
#[derive(Debug)]
pub(crate) struct Encoder {
    width: usize,
    heads: usize,
    mels: usize,
    conv1: Affine,
    conv2: Affine,
    positions: Vec<f32>,
    layers: Vec<Layer>,
    norm: Norm,
}

#[derive(Debug)]
pub(crate) struct Affine {
    pub(crate) weight: Tensor,
    pub(crate) bias: Vec<f32>,
}

#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) gain: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Norm,
    /// Query, key and value in one matrix.
    qkv: Affine,
    out: Affine,
    mlp_norm: Norm,
    up: Affine,
    down: Affine,
}

impl Norm {
    pub(crate) fn take(from: &mut Checkpoint, name: &str, width: usize) -> Result<Self, AiError> {
        Ok(Self {
            gain: from.values(&format!("{name}.weight"), &[width])?,
            bias: from.values(&format!("{name}.bias"), &[width])?,
        })
    }

    pub(crate) fn apply(&self, x: &[f32]) -> Vec<f32> {
        layer_norm(x, &self.gain, &self.bias)
    }
}

impl Affine {
    fn take(from: &mut Checkpoint, name: &str, rows: usize, columns: usize) -> Result<Self, AiError> {
        Ok(Self {
            weight: from.take(&format!("{name}.weight"), &[rows, columns])?,
            bias: from.values(&format!("{name}.bias"), &[rows])?,
        })
    }

    /// A convolution of three taps as a matrix over three frames laid side by side.
    fn take_conv(from: &mut Checkpoint, name: &str, rows: usize, channels: usize) -> Result<Self, AiError> {
        let weight = from.take(&format!("{name}.weight"), &[rows, channels, 3])?;
        Ok(Self {
            weight: weight
                .transpose(1, 2)?
                .reshape((rows, 3 * channels))?
                .contiguous()?,
            bias: from.values(&format!("{name}.bias"), &[rows])?,
        })
    }
}

impl Encoder {
    pub(crate) fn take(from: &mut Checkpoint) -> Result<Self, AiError> {
        let Dims {
            width, heads, mels, ..
        } = from.dims;
        let mut layers = Vec::with_capacity(from.dims.audio_layers);
        for i in 0..from.dims.audio_layers {
            let at = format!("encoder.blocks.{i}");
            let part = |from: &mut Checkpoint, name: &str| {
                from.take(&format!("{at}.attn.{name}.weight"), &[width, width])
            };
            let (q, k, v) = (part(from, "query")?, part(from, "key")?, part(from, "value")?);
            let mut bias = from.values(&format!("{at}.attn.query.bias"), &[width])?;
            bias.resize(2 * width, 0.0);
            bias.extend(from.values(&format!("{at}.attn.value.bias"), &[width])?);
            layers.push(Layer {
                attention_norm: Norm::take(from, &format!("{at}.attn_ln"), width)?,
                qkv: Affine {
                    weight: Tensor::cat(&[q, k, v], 0)?,
                    bias,
                },
                out: Affine::take(from, &format!("{at}.attn.out"), width, width)?,
                mlp_norm: Norm::take(from, &format!("{at}.mlp_ln"), width)?,
                up: Affine::take(from, &format!("{at}.mlp.0"), 4 * width, width)?,
                down: Affine::take(from, &format!("{at}.mlp.2"), width, 4 * width)?,
            });
        }
        Ok(Self {
            width,
            heads,
            mels,
            conv1: Affine::take_conv(from, "encoder.conv1", width, mels)?,
            conv2: Affine::take_conv(from, "encoder.conv2", width, width)?,
            positions: from.values(
                "encoder.positional_embedding",
                &[from.dims.audio_positions, width],
            )?,
            layers,
            norm: Norm::take(from, "encoder.ln_post", width)?,
        })
    }

    /// `mel` is time-major, two frames a position; the answer has one row of `width` a position.
    pub(crate) fn run(&self, mel: &[f32]) -> Result<Vec<f32>, AiError> {
        let frames = mel.len() / self.mels;
        let n = (frames / FRAMES_PER_POSITION).min(self.positions.len() / self.width);
        let frames = n * FRAMES_PER_POSITION;
        let first = project(
            side_by_side(&mel[..frames * self.mels], self.mels, 1),
            frames,
            &self.conv1.weight,
        )?;
        change_values(&first, |v| bias_gelu(v, &self.conv1.bias))?;
        let taps = with_values(&first, |v| side_by_side(v, self.width, FRAMES_PER_POSITION))?;
        let second = project(taps, n, &self.conv2.weight)?;
        change_values(&second, |v| bias_gelu(v, &self.conv2.bias))?;
        let mut x = self.positions[..n * self.width].to_vec();
        with_values(&second, |v| x.iter_mut().zip(v).for_each(|(x, v)| *x += v))?;
        for layer in &self.layers {
            let qkv = project(layer.attention_norm.apply(&x), n, &layer.qkv.weight)?;
            change_values(&qkv, |v| add_bias(v, &layer.qkv.bias))?;
            let mixed = project(self.attend(&qkv, n)?, n, &layer.out.weight)?;
            with_values(&mixed, |v| add_rows(&mut x, v, &layer.out.bias))?;
            let up = project(layer.mlp_norm.apply(&x), n, &layer.up.weight)?;
            change_values(&up, |v| bias_gelu(v, &layer.up.bias))?;
            let down = up.matmul(&layer.down.weight.t()?)?;
            with_values(&down, |v| add_rows(&mut x, v, &layer.down.bias))?;
        }
        Ok(self.norm.apply(&x))
    }

    /// Each head's softmax(q kᵀ) v, a block of rows at a time so that the scores stay in the cache.
    fn attend(&self, qkv: &Tensor, n: usize) -> Result<Vec<f32>, AiError> {
        let size = self.width / self.heads;
        let scale = (size as f32).sqrt().recip();
        let mut out = vec![0f32; n * self.width];
        // Strided views, heads first: a product packs them as it goes, nothing is copied here.
        let part = |which: usize| {
            qkv.narrow(1, which * self.width, self.width)?
                .reshape((n, self.heads, size))?
                .transpose(0, 1)
        };
        let (q, k, v) = (part(0)?, part(1)?.transpose(1, 2)?, part(2)?);
        let block = (SCORES / (self.heads * n)).clamp(16, 128);
        for from in (0..n).step_by(block) {
            let rows = block.min(n - from);
            let scores = q.narrow(1, from, rows)?.matmul(&k)?;
            change_values(&scores, |s| softmax_rows(s, n, scale))?;
            let mixed = scores.matmul(&v)?;
            with_values(&mixed, |values| {
                for (index, values) in values.chunks_exact(size).enumerate() {
                    let (head, row) = (index / rows, from + index % rows);
                    let at = row * self.width + head * size;
                    out[at..at + size].copy_from_slice(values);
                }
            })?;
        }
        Ok(out)
    }
}

/// Attention scores worked on at once: as many as fit a second-level cache.
const SCORES: usize = 1 << 18;

/// For every `stride`th row, the row before it, itself and the one after, zeros outside.
fn side_by_side(x: &[f32], width: usize, stride: usize) -> Vec<f32> {
    let rows = x.len() / width;
    let mut out = vec![0f32; rows.div_ceil(stride) * 3 * width];
    for (index, to) in out.chunks_exact_mut(3 * width).enumerate() {
        let at = index * stride;
        let from = at.saturating_sub(1) * width;
        let end = ((at + 2) * width).min(x.len());
        let skip = if at == 0 { width } else { 0 };
        to[skip..skip + end - from].copy_from_slice(&x[from..end]);
    }
    out
}

/// Plain rows as a tensor.
pub(crate) fn rows(values: Vec<f32>, width: usize) -> Result<Tensor, AiError> {
    let n = values.len() / width;
    Ok(Tensor::from_vec(values, (n, width), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_frames_lie_side_by_side_with_zeros_outside() {
        let x = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(
            side_by_side(&x, 1, 1),
            [0., 1., 2., 1., 2., 3., 2., 3., 4., 3., 4., 0.]
        );
        assert_eq!(side_by_side(&x, 1, 2), [0., 1., 2., 2., 3., 4.]);
    }
}
