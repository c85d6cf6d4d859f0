use rayon::prelude::*;

use crate::AiError;
use crate::attention::{Head, Room};
use crate::fixed::{Matrix, Narrow};
use crate::kernels::{add_bias, add_rows, bias_gelu, layer_norm_into};
use crate::limits::FRAMES_PER_POSITION;
use crate::weights::{Checkpoint, Dims, Tensors};

/// Log-mel frames to one vector each 20 ms.
///
/// It runs over exactly the positions it is given: nothing is padded to 30 s, which is what most of the time of a short
/// utterance would otherwise go to. Weights and activations are rounded to 12 bits for each product ([`Matrix`]).
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
struct Affine {
    weight: Matrix,
    bias: Vec<f32>,
}

#[derive(Debug)]
pub(crate) struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
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

/// Rows of a product that one task works on: what it makes of them stays in its cache.
const ROWS: usize = 60;
/// Queries whose scores are held at once.
const QUERIES: usize = 30;

/// What a task works in.
#[derive(Debug, Default)]
struct Bench {
    narrow: Narrow,
    normed: Vec<f32>,
    wide: Vec<f32>,
    mixed: Vec<f32>,
    room: Room,
}

impl Norm {
    pub(crate) fn take(from: &mut Tensors, name: &str, width: usize) -> Result<Self, AiError> {
        Ok(Self {
            gain: from.values(&format!("{name}.weight"), &[width])?,
            bias: from.values(&format!("{name}.bias"), &[width])?,
        })
    }

    pub(crate) fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0f32; x.len()];
        layer_norm_into(x, &self.gain, &self.bias, &mut out);
        out
    }

    fn apply_to(&self, x: &[f32], out: &mut Vec<f32>) {
        out.resize(x.len(), 0.0);
        layer_norm_into(x, &self.gain, &self.bias, out);
    }
}

impl Affine {
    fn take(from: &mut Checkpoint, name: &str, rows: usize, columns: usize) -> Result<Self, AiError> {
        Ok(Self {
            weight: Matrix::new(
                &from.values(&format!("{name}.weight"), &[rows, columns])?,
                columns,
            ),
            bias: from.values(&format!("{name}.bias"), &[rows])?,
        })
    }

    /// A convolution of three taps as a matrix over three frames laid side by side.
    fn take_conv(from: &mut Checkpoint, name: &str, rows: usize, channels: usize) -> Result<Self, AiError> {
        let weight = from.values(&format!("{name}.weight"), &[rows, channels, 3])?;
        let tap = |row: &[f32], tap: usize| row.iter().skip(tap).step_by(3).copied().collect::<Vec<_>>();
        let by_row = weight.chunks_exact(3 * channels);
        let weight: Vec<f32> = by_row
            .flat_map(|row| [tap(row, 0), tap(row, 1), tap(row, 2)].concat())
            .collect();
        Ok(Self {
            weight: Matrix::new(&weight, 3 * channels),
            bias: from.values(&format!("{name}.bias"), &[rows])?,
        })
    }

    /// The product without the bias. Every width is a multiple of a panel's, so rows lie as close as they are wide.
    fn project(&self, narrow: &mut Narrow, x: &[f32], columns: usize, out: &mut Vec<f32>) {
        narrow.round(x, columns);
        out.resize(x.len() / columns * self.bias.len(), 0.0);
        self.weight.multiply(narrow, out);
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
            let mut qkv = Vec::with_capacity(3 * width * width);
            for part in ["query", "key", "value"] {
                qkv.extend(from.values(&format!("{at}.attn.{part}.weight"), &[width, width])?);
            }
            let mut bias = from.values(&format!("{at}.attn.query.bias"), &[width])?;
            bias.resize(2 * width, 0.0);
            bias.extend(from.values(&format!("{at}.attn.value.bias"), &[width])?);
            layers.push(Layer {
                attention_norm: Norm::take(&mut from.tensors, &format!("{at}.attn_ln"), width)?,
                qkv: Affine {
                    weight: Matrix::new(&qkv, width),
                    bias,
                },
                out: Affine::take(from, &format!("{at}.attn.out"), width, width)?,
                mlp_norm: Norm::take(&mut from.tensors, &format!("{at}.mlp_ln"), width)?,
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
            norm: Norm::take(&mut from.tensors, "encoder.ln_post", width)?,
        })
    }

    /// `mel` is time-major, two frames a position; the answer has one row of `width` a position.
    pub(crate) fn run(&self, mel: &[f32]) -> Vec<f32> {
        let frames = mel.len() / self.mels;
        let n = (frames / FRAMES_PER_POSITION).min(self.positions.len() / self.width);
        let mel = &mel[..n * FRAMES_PER_POSITION * self.mels];
        let first = self.convolve(&self.conv1, mel, self.mels, 1);
        let mut x = self.convolve(&self.conv2, &first, self.width, FRAMES_PER_POSITION);
        x.iter_mut().zip(&self.positions).for_each(|(x, p)| *x += p);
        let mut qkv = vec![0f32; n * 3 * self.width];
        for layer in &self.layers {
            self.layer(layer, &mut x, &mut qkv);
        }
        self.norm.apply(&x)
    }

    fn convolve(&self, conv: &Affine, x: &[f32], channels: usize, stride: usize) -> Vec<f32> {
        let rows = (x.len() / channels).div_ceil(stride);
        let mut out = vec![0f32; rows * self.width];
        let tasks = out.par_chunks_mut(ROWS * self.width).enumerate();
        tasks.for_each_init(Bench::default, |bench, (task, out)| {
            let rows = task * ROWS..task * ROWS + out.len() / self.width;
            side_by_side(x, channels, stride, rows, &mut bench.wide);
            bench.narrow.round(&bench.wide, 3 * channels);
            conv.weight.multiply(&bench.narrow, out);
            bias_gelu(out, &conv.bias);
        });
        out
    }

    fn layer(&self, layer: &Layer, x: &mut [f32], qkv: &mut [f32]) {
        let (width, size) = (self.width, self.width / self.heads);
        let tasks = x
            .par_chunks(ROWS * width)
            .zip(qkv.par_chunks_mut(3 * ROWS * width));
        tasks.for_each_init(Bench::default, |bench, (x, qkv)| {
            layer.attention_norm.apply_to(x, &mut bench.normed);
            bench.narrow.round(&bench.normed, width);
            layer.qkv.weight.multiply(&bench.narrow, qkv);
            add_bias(qkv, &layer.qkv.bias);
        });
        let head = |at: usize| {
            let (k, v) = (width + at * size, 2 * width + at * size);
            Head::new(&qkv[k..], &qkv[v..], 3 * width, size)
        };
        let heads: Vec<Head> = (0..self.heads).into_par_iter().map(head).collect();
        let tasks = x
            .par_chunks_mut(ROWS * width)
            .zip(qkv.par_chunks(3 * ROWS * width));
        tasks.for_each_init(Bench::default, |bench, (x, qkv)| {
            bench.mixed.resize(x.len(), 0.0);
            let some = qkv
                .chunks(3 * QUERIES * width)
                .zip(bench.mixed.chunks_mut(QUERIES * width));
            for (qkv, mixed) in some {
                for (at, head) in heads.iter().enumerate() {
                    head.attend(
                        &mut bench.room,
                        &qkv[at * size..],
                        3 * width,
                        &mut mixed[at * size..],
                        width,
                    );
                }
            }
            layer
                .out
                .project(&mut bench.narrow, &bench.mixed, width, &mut bench.normed);
            add_rows(x, &bench.normed, &layer.out.bias);
            layer.mlp_norm.apply_to(x, &mut bench.normed);
            layer
                .up
                .project(&mut bench.narrow, &bench.normed, width, &mut bench.wide);
            bias_gelu(&mut bench.wide, &layer.up.bias);
            layer
                .down
                .project(&mut bench.narrow, &bench.wide, 4 * width, &mut bench.normed);
            add_rows(x, &bench.normed, &layer.down.bias);
        });
    }
}

/// For some of every `stride`th row, the row before it, itself and the one after, zeros outside.
fn side_by_side(x: &[f32], width: usize, stride: usize, rows: std::ops::Range<usize>, out: &mut Vec<f32>) {
    out.clear();
    out.resize(rows.len() * 3 * width, 0.0);
    for (index, to) in rows.zip(out.chunks_exact_mut(3 * width)) {
        let at = index * stride;
        let from = at.saturating_sub(1) * width;
        let end = ((at + 2) * width).min(x.len());
        let skip = if at == 0 { width } else { 0 };
        to[skip..skip + end - from].copy_from_slice(&x[from..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_frames_lie_side_by_side_with_zeros_outside() {
        let x = [1.0, 2.0, 3.0, 4.0];
        let mut out = Vec::new();
        side_by_side(&x, 1, 1, 0..4, &mut out);
        assert_eq!(out, [0., 1., 2., 1., 2., 3., 2., 3., 4., 3., 4., 0.]);
        side_by_side(&x, 1, 2, 1..2, &mut out);
        assert_eq!(out, [2., 3., 4.]);
    }
}
