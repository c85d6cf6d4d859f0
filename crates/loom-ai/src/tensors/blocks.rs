//! What encoder and decoder are made of.

use candle_core::{Result, Tensor};

use super::place::Place;
use crate::AiError;
use crate::weights::Checkpoint;

/// Values of a head in every Whisper.
pub(super) const HEAD: usize = 64;

/// Rows to rows: `x Wᵀ + b`.
#[derive(Debug)]
pub(super) struct Linear {
    /// Outputs × inputs.
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub(super) fn take(
        from: &mut Checkpoint,
        name: &str,
        out: usize,
        columns: usize,
        place: &Place,
    ) -> std::result::Result<Self, AiError> {
        let weight = from.values(&format!("{name}.weight"), &[out, columns])?;
        let bias = from.values(&format!("{name}.bias"), &[out])?;
        Self::new(weight, bias, columns, place)
    }

    /// Some of an attention's projections side by side. Queries are made shorter by √64 here, exactly, so that products with keys need no
    /// scale; keys have no bias.
    pub(super) fn take_parts(
        from: &mut Checkpoint,
        name: &str,
        parts: &[&str],
        width: usize,
        place: &Place,
    ) -> std::result::Result<Self, AiError> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for &part in parts {
            let mut weight = from.values(&format!("{name}.{part}.weight"), &[width, width])?;
            let mut bias = match part {
                "key" => vec![0.0; width],
                _ => from.values(&format!("{name}.{part}.bias"), &[width])?,
            };
            if part == "query" {
                let shorter = (HEAD as f32).sqrt().recip();
                weight.iter_mut().chain(&mut bias).for_each(|it| *it *= shorter);
            }
            weights.extend(weight);
            biases.extend(bias);
        }
        Self::new(weights, biases, width, place)
    }

    fn new(
        weight: Vec<f32>,
        bias: Vec<f32>,
        columns: usize,
        place: &Place,
    ) -> std::result::Result<Self, AiError> {
        let out = bias.len();
        Ok(Self {
            weight: place.tensor(weight, (out, columns))?,
            bias: place.tensor(bias, out)?,
        })
    }

    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)
    }
}

#[derive(Debug)]
pub(super) struct Norm {
    gain: Tensor,
    bias: Tensor,
}

impl Norm {
    pub(super) fn take(
        from: &mut Checkpoint,
        name: &str,
        width: usize,
        place: &Place,
    ) -> std::result::Result<Self, AiError> {
        let gain = from.values(&format!("{name}.weight"), &[width])?;
        let bias = from.values(&format!("{name}.bias"), &[width])?;
        Ok(Self {
            gain: place.tensor(gain, width)?,
            bias: place.tensor(bias, width)?,
        })
    }

    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        candle_nn::ops::layer_norm(x, &self.gain, &self.bias, 1e-5)
    }
}

/// Two linear maps with a GELU between, after a norm; added to what came.
#[derive(Debug)]
pub(super) struct Mlp {
    norm: Norm,
    up: Linear,
    down: Linear,
}

impl Mlp {
    pub(super) fn take(
        from: &mut Checkpoint,
        at: &str,
        width: usize,
        place: &Place,
    ) -> std::result::Result<Self, AiError> {
        Ok(Self {
            norm: Norm::take(from, &format!("{at}.mlp_ln"), width, place)?,
            up: Linear::take(from, &format!("{at}.mlp.0"), 4 * width, width, place)?,
            down: Linear::take(from, &format!("{at}.mlp.2"), width, 4 * width, place)?,
        })
    }

    pub(super) fn add_to(&self, x: &Tensor) -> Result<Tensor> {
        x + self
            .down
            .apply(&self.up.apply(&self.norm.apply(x)?)?.gelu_erf()?)?
    }
}

/// Of rows that hold `parts` projections side by side, each of these by itself: `sets` × heads, rows of the set, 64.
pub(super) fn by_head(rows: &Tensor, sets: usize, parts: usize) -> Result<Vec<Tensor>> {
    let (all, wide) = rows.dims2()?;
    let (each, heads) = (all / sets, wide / parts / HEAD);
    let parted = rows
        .reshape((sets, each, parts, heads, HEAD))?
        .permute((2, 0, 3, 1, 4))?
        .contiguous()?;
    (0..parts)
        .map(|it| parted.get(it)?.reshape((sets * heads, each, HEAD)))
        .collect()
}

/// The way back from [`by_head`].
pub(super) fn by_row(x: &Tensor, sets: usize) -> Result<Tensor> {
    let (all, each, _) = x.dims3()?;
    let heads = all / sets;
    x.reshape((sets, heads, each, HEAD))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((sets * each, heads * HEAD))
}

/// What attention gives.
pub(super) struct Attended {
    pub(super) mixed: Tensor,
    /// The shares that each query had of each key.
    pub(super) shares: Tensor,
}

/// softmax(q kᵀ + mask) v, each (sets × heads) × rows × 64; the mask is sets × 1 × (queries or 1) × keys.
pub(super) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Attended> {
    let mut scores = q.matmul(&k.transpose(1, 2)?)?;
    if let Some(mask) = mask {
        let (all, queries, keys) = scores.dims3()?;
        let sets = mask.dim(0)?;
        scores = scores
            .reshape((sets, all / sets, queries, keys))?
            .broadcast_add(mask)?
            .reshape((all, queries, keys))?;
    }
    let shares = candle_nn::ops::softmax_last_dim(&scores)?;
    Ok(Attended {
        mixed: shares.matmul(v)?,
        shares,
    })
}
