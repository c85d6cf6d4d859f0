use candle_core::Tensor;

use crate::AiError;
use crate::encoder::{Norm, rows};
use crate::kernels::{QuantMatrix, add_bias, attend, bias_gelu, with_values};
use crate::weights::{Checkpoint, Dims};

/// Tokens and sound to the next token's logits, one token at a time, with a cache of what was attended to.
#[derive(Debug)]
pub(crate) struct Decoder {
    width: usize,
    heads: usize,
    positions: Vec<f32>,
    tokens: QuantMatrix,
    layers: Vec<Layer>,
    norm: Norm,
    /// Keys and values of the sound for all layers, one matrix.
    sound: Tensor,
    sound_bias: Vec<f32>,
    /// (layer, head) whose cross-attention is kept for word times.
    alignment: Vec<(usize, usize)>,
    alignment_known: bool,
}

#[derive(Debug)]
struct Layer {
    norm: Norm,
    qkv: Linear,
    out: Linear,
    cross_norm: Norm,
    cross_query: Linear,
    cross_out: Linear,
    mlp_norm: Norm,
    up: Linear,
    down: Linear,
}

#[derive(Debug)]
struct Linear {
    weight: QuantMatrix,
    bias: Vec<f32>,
}

impl Linear {
    fn take(from: &mut Checkpoint, name: &str, out: usize, columns: usize) -> Result<Self, AiError> {
        Ok(Self {
            weight: QuantMatrix::new(&from.values(&format!("{name}.weight"), &[out, columns])?, columns),
            bias: from.values(&format!("{name}.bias"), &[out])?,
        })
    }

    fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0f32; self.weight.rows()];
        self.weight.multiply(x, &mut out);
        add_bias(&mut out, &self.bias);
        out
    }
}

/// One decode: the sound's keys and values, those of the tokens so far, and where the alignment heads looked.
#[derive(Debug)]
pub(crate) struct Session {
    /// Positions of sound.
    sound: usize,
    /// Each layer's and head's keys, `sound` rows of one head's size; then the values.
    cross_keys: Vec<Vec<f32>>,
    cross_values: Vec<Vec<f32>>,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    /// Tokens fed so far.
    len: usize,
    /// For each token fed, the alignment heads' weights over the sound, head after head.
    pub(crate) looks: Vec<Vec<f32>>,
}

impl Session {
    /// Forgets every token after the first `len`.
    pub(crate) fn truncate(&mut self, len: usize, width: usize) {
        self.len = self.len.min(len);
        for cache in self.keys.iter_mut().chain(&mut self.values) {
            cache.truncate(self.len * width);
        }
        self.looks.truncate(self.len);
    }
}

impl Decoder {
    pub(crate) fn take(from: &mut Checkpoint) -> Result<Self, AiError> {
        let known = from
            .alignment_heads
            .take()
            .or_else(|| published_alignment_heads(&from.dims));
        let alignment_known = known.is_some();
        let alignment = known.unwrap_or_else(|| {
            // Of a model nobody has measured, all heads of the upper half.
            let upper = from.dims.text_layers / 2..from.dims.text_layers;
            upper
                .flat_map(|layer| (0..from.dims.heads).map(move |head| (layer, head)))
                .collect()
        });
        let Dims {
            width,
            heads,
            text_positions,
            vocabulary,
            ..
        } = from.dims;
        let mut layers = Vec::with_capacity(from.dims.text_layers);
        let (mut sound, mut sound_bias) = (Vec::new(), Vec::new());
        for i in 0..from.dims.text_layers {
            let at = format!("decoder.blocks.{i}");
            let mut qkv = Vec::with_capacity(3 * width * width);
            for part in ["query", "key", "value"] {
                qkv.extend(from.values(&format!("{at}.attn.{part}.weight"), &[width, width])?);
            }
            let mut bias = from.values(&format!("{at}.attn.query.bias"), &[width])?;
            bias.resize(2 * width, 0.0);
            bias.extend(from.values(&format!("{at}.attn.value.bias"), &[width])?);
            sound.push(from.take(&format!("{at}.cross_attn.key.weight"), &[width, width])?);
            sound.push(from.take(&format!("{at}.cross_attn.value.weight"), &[width, width])?);
            sound_bias.resize(sound_bias.len() + width, 0.0);
            sound_bias.extend(from.values(&format!("{at}.cross_attn.value.bias"), &[width])?);
            layers.push(Layer {
                norm: Norm::take(from, &format!("{at}.attn_ln"), width)?,
                qkv: Linear {
                    weight: QuantMatrix::new(&qkv, width),
                    bias,
                },
                out: Linear::take(from, &format!("{at}.attn.out"), width, width)?,
                cross_norm: Norm::take(from, &format!("{at}.cross_attn_ln"), width)?,
                cross_query: Linear::take(from, &format!("{at}.cross_attn.query"), width, width)?,
                cross_out: Linear::take(from, &format!("{at}.cross_attn.out"), width, width)?,
                mlp_norm: Norm::take(from, &format!("{at}.mlp_ln"), width)?,
                up: Linear::take(from, &format!("{at}.mlp.0"), 4 * width, width)?,
                down: Linear::take(from, &format!("{at}.mlp.2"), width, 4 * width)?,
            });
        }
        let embedding = from.values("decoder.token_embedding.weight", &[vocabulary, width])?;
        Ok(Self {
            width,
            heads,
            positions: from.values("decoder.positional_embedding", &[text_positions, width])?,
            tokens: QuantMatrix::new(&embedding, width),
            layers,
            norm: Norm::take(from, "decoder.ln", width)?,
            sound: Tensor::cat(&sound, 0)?,
            sound_bias,
            alignment,
            alignment_known,
        })
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn alignment_heads(&self) -> usize {
        self.alignment.len()
    }

    /// How many alignment heads there are, or 0 where they are only guessed.
    pub(crate) fn known_alignment_heads(&self) -> usize {
        if self.alignment_known {
            self.alignment.len()
        } else {
            0
        }
    }

    /// Tokens that a decode may hold.
    pub(crate) fn capacity(&self) -> usize {
        self.positions.len() / self.width
    }

    /// Begins a decode of what the encoder made of the sound.
    pub(crate) fn begin(&self, encoded: Vec<f32>) -> Result<Session, AiError> {
        let n = encoded.len() / self.width;
        let size = self.width / self.heads;
        let all = rows(encoded, self.width)?.matmul(&self.sound.t()?)?;
        let mut parts = vec![vec![0f32; n * self.width]; 2 * self.layers.len()];
        with_values(&all, |values| {
            let stride = self.sound_bias.len();
            for (t, row) in values.chunks_exact(stride).enumerate() {
                for (part, to) in parts.iter_mut().enumerate() {
                    for head in 0..self.heads {
                        let at = part * self.width + head * size;
                        let to = &mut to[(head * n + t) * size..][..size];
                        for ((to, v), b) in to.iter_mut().zip(&row[at..]).zip(&self.sound_bias[at..]) {
                            *to = v + b;
                        }
                    }
                }
            }
        })?;
        let (mut cross_keys, mut cross_values) = (Vec::new(), Vec::new());
        for (index, part) in parts.into_iter().enumerate() {
            if index % 2 == 0 {
                &mut cross_keys
            } else {
                &mut cross_values
            }
            .push(part);
        }
        Ok(Session {
            sound: n,
            cross_keys,
            cross_values,
            keys: vec![Vec::new(); self.layers.len()],
            values: vec![Vec::new(); self.layers.len()],
            len: 0,
            looks: Vec::new(),
        })
    }

    /// Feeds one token; the answer is what [`logits`](Self::logits) reads.
    pub(crate) fn feed(&self, session: &mut Session, token: u32) -> Vec<f32> {
        let width = self.width;
        let place = session.len.min(self.capacity() - 1) * width;
        let mut x: Vec<f32> = self
            .tokens
            .row(token as usize)
            .zip(&self.positions[place..place + width])
            .map(|(t, p)| t + p)
            .collect();
        let size = width / self.heads;
        let mut looks = Vec::with_capacity(self.alignment.len() * session.sound);
        let mut scores = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let qkv = layer.qkv.apply(&layer.norm.apply(&x));
            session.keys[index].extend_from_slice(&qkv[width..2 * width]);
            session.values[index].extend_from_slice(&qkv[2 * width..]);
            let mut mixed = vec![0f32; width];
            scores.resize(session.len + 1, 0.0);
            for head in 0..self.heads {
                let at = head * size;
                attend(
                    &qkv[at..at + size],
                    &session.keys[index][at..],
                    &session.values[index][at..],
                    width,
                    &mut scores,
                    &mut mixed[at..at + size],
                );
            }
            add(&mut x, &layer.out.apply(&mixed));

            let query = layer.cross_query.apply(&layer.cross_norm.apply(&x));
            let mut mixed = vec![0f32; width];
            scores.resize(session.sound, 0.0);
            for head in 0..self.heads {
                let (at, rows) = (head * size, head * session.sound * size);
                attend(
                    &query[at..at + size],
                    &session.cross_keys[index][rows..],
                    &session.cross_values[index][rows..],
                    size,
                    &mut scores,
                    &mut mixed[at..at + size],
                );
                if self.alignment.contains(&(index, head)) {
                    looks.extend_from_slice(&scores);
                }
            }
            add(&mut x, &layer.cross_out.apply(&mixed));

            let mut up = vec![0f32; layer.up.weight.rows()];
            layer.up.weight.multiply(&layer.mlp_norm.apply(&x), &mut up);
            bias_gelu(&mut up, &layer.up.bias);
            add(&mut x, &layer.down.apply(&up));
        }
        session.len += 1;
        session.looks.push(looks);
        x
    }

    /// The logits of the token after the one whose [`feed`](Self::feed) gave `x`.
    pub(crate) fn logits(&self, x: &[f32], out: &mut Vec<f32>) {
        out.resize(self.tokens.rows(), 0.0);
        self.tokens.multiply(&self.norm.apply(x), out);
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// The decoder's heads that follow the sound, of the published models whose files do not say (openai/whisper,
/// `_ALIGNMENT_HEADS`): each as (layer, head).
fn published_alignment_heads(dims: &Dims) -> Option<Vec<(usize, usize)>> {
    let english = dims.vocabulary == 51_864;
    Some(match (dims.width, dims.text_layers, english) {
        (384, 4, true) => vec![(1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)],
        (384, 4, false) => vec![(2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)],
        (512, 6, true) => vec![(3, 3), (4, 7), (5, 1), (5, 5), (5, 7)],
        (512, 6, false) => vec![(3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6)],
        _ => return None,
    })
}
