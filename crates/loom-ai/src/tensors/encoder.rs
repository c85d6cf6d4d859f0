use candle_core::{Result, Tensor};

use super::blocks::{Linear, Mlp, Norm, attend, by_head, by_row};
use super::place::Place;
use crate::AiError;
use crate::limits::FRAMES_PER_POSITION;
use crate::weights::{Checkpoint, Dims};

/// Log-mel frames to one vector each 20 ms, of several windows at once. Each window is as long as its sound; shorter ones are filled up to
/// the longest, and what fills them is not attended to.
#[derive(Debug)]
pub(super) struct Encoder {
    mels: usize,
    conv1: Conv,
    conv2: Conv,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
}

#[derive(Debug)]
struct Conv {
    weight: Tensor,
    /// 1 × channels × 1.
    bias: Tensor,
}

#[derive(Debug)]
struct Layer {
    norm: Norm,
    qkv: Linear,
    out: Linear,
    mlp: Mlp,
}

/// What the encoder made of some windows.
pub(super) struct Encoded {
    /// A row each 20 ms: window after window, as many rows for each as the longest has.
    pub(super) rows: Tensor,
    /// How many of its rows each window has of itself.
    pub(super) positions: Vec<usize>,
}

impl Conv {
    fn take(
        from: &mut Checkpoint,
        name: &str,
        out: usize,
        channels: usize,
        place: &Place,
    ) -> std::result::Result<Self, AiError> {
        let weight = from.values(&format!("{name}.weight"), &[out, channels, 3])?;
        let bias = from.values(&format!("{name}.bias"), &[out])?;
        Ok(Self {
            weight: place.tensor(weight, (out, channels, 3))?,
            bias: place.tensor(bias, (1, out, 1))?,
        })
    }

    fn apply(&self, x: &Tensor, stride: usize) -> Result<Tensor> {
        x.conv1d(&self.weight, 1, stride, 1, 1)?
            .broadcast_add(&self.bias)?
            .gelu_erf()
    }
}

impl Encoder {
    pub(super) fn take(from: &mut Checkpoint, place: &Place) -> std::result::Result<Self, AiError> {
        let Dims { width, mels, .. } = from.dims;
        let mut layers = Vec::with_capacity(from.dims.audio_layers);
        for i in 0..from.dims.audio_layers {
            let at = format!("encoder.blocks.{i}");
            let attention = format!("{at}.attn");
            layers.push(Layer {
                norm: Norm::take(from, &format!("{at}.attn_ln"), width, place)?,
                qkv: Linear::take_parts(from, &attention, &["query", "key", "value"], width, place)?,
                out: Linear::take(from, &format!("{at}.attn.out"), width, width, place)?,
                mlp: Mlp::take(from, &at, width, place)?,
            });
        }
        let shape = [from.dims.audio_positions, width];
        let positions = from.values("encoder.positional_embedding", &shape)?;
        Ok(Self {
            mels,
            conv1: Conv::take(from, "encoder.conv1", width, mels, place)?,
            conv2: Conv::take(from, "encoder.conv2", width, width, place)?,
            positions: place.tensor(positions, &shape)?,
            layers,
            norm: Norm::take(from, "encoder.ln_post", width, place)?,
        })
    }

    /// Each window is mel frames, time-major, two a position.
    pub(super) fn run(&self, windows: &[&[f32]], place: &Place) -> Result<Encoded> {
        let (most, width) = self.positions.dims2()?;
        let length = |it: &&[f32]| (it.len() / self.mels / FRAMES_PER_POSITION).min(most);
        let positions: Vec<usize> = windows.iter().map(length).collect();
        let (count, longest) = (windows.len(), positions.iter().copied().max().unwrap_or(0));
        if longest == 0 {
            candle_core::bail!("there is no sound to encode");
        }
        let frames = longest * FRAMES_PER_POSITION;
        let mut mels = vec![0f32; count * self.mels * frames];
        for ((window, to), &own) in windows
            .iter()
            .zip(mels.chunks_exact_mut(self.mels * frames))
            .zip(&positions)
        {
            let rows = window.chunks_exact(self.mels);
            for (at, row) in rows.take(own * FRAMES_PER_POSITION).enumerate() {
                row.iter()
                    .zip(to.chunks_exact_mut(frames))
                    .for_each(|(it, band)| band[at] = *it);
            }
        }
        let mels = place.tensor(mels, (count, self.mels, frames))?;
        let x = self
            .conv2
            .apply(&self.conv1.apply(&mels, 1)?, FRAMES_PER_POSITION)?;
        let mut x = x
            .transpose(1, 2)?
            .contiguous()?
            .broadcast_add(&self.positions.narrow(0, 0, longest)?)?
            .reshape((count * longest, width))?;
        let ragged = positions.iter().any(|&it| it < longest);
        let mask = match ragged {
            true => Some(place.tensor(masked(&positions, longest), (count, 1, 1, longest))?),
            false => None,
        };
        for layer in &self.layers {
            let qkv = by_head(&layer.qkv.apply(&layer.norm.apply(&x)?)?, count, 3)?;
            let it = attend(&qkv[0], &qkv[1], &qkv[2], mask.as_ref())?;
            x = (x + layer.out.apply(&by_row(&it.mixed, count)?)?)?;
            x = layer.mlp.add_to(&x)?;
        }
        Ok(Encoded {
            rows: self.norm.apply(&x)?,
            positions,
        })
    }
}

/// For each of some rows that are filled up to `longest`: 0 where it is itself, and -∞ where it is filled.
pub(super) fn masked(own: &[usize], longest: usize) -> Vec<f32> {
    let row = |&own: &usize| (0..longest).map(move |at| if at < own { 0.0 } else { f32::NEG_INFINITY });
    own.iter().flat_map(row).collect()
}
