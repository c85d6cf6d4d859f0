use std::sync::Arc;

use rayon::prelude::*;

use crate::AiError;
use crate::attention::{Head, Room};
use crate::encoder::Norm;
use crate::fixed::{Matrix, Narrow};
use crate::kernels::{add_bias, attend, bias_gelu};
use crate::network::Alignment;
use crate::quant::QuantMatrix;
use crate::weights::{Checkpoint, Dims, Tensors};

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
    sound: Matrix,
    sound_bias: Vec<f32>,
    /// (layer, head) whose cross-attention is kept for word times.
    alignment: Vec<(usize, usize)>,
    alignment_known: bool,
}

/// Positions of sound that one task works on.
const ROWS: usize = 60;

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

/// A product and a sum.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: QuantMatrix,
    pub(crate) bias: Vec<f32>,
}

impl Linear {
    pub(crate) fn take(from: &mut Tensors, name: &str, out: usize, columns: usize) -> Result<Self, AiError> {
        Ok(Self {
            weight: QuantMatrix::new(&from.values(&format!("{name}.weight"), &[out, columns])?, columns),
            bias: from.values(&format!("{name}.bias"), &[out])?,
        })
    }

    /// Row by row, without the bias.
    pub(crate) fn product(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0f32; x.len() / self.weight.columns() * self.weight.rows()];
        self.weight.multiply(x, &mut out);
        out
    }

    pub(crate) fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut out = self.product(x);
        add_bias(&mut out, &self.bias);
        out
    }
}

/// What the decoder reads a window's sound from: each layer's heads over it.
#[derive(Debug)]
struct Sound {
    positions: usize,
    heads: Vec<Vec<Head>>,
}

/// Where the alignment heads looked for one token: each one's shares of the sound, head after head.
pub(crate) type Look = Arc<[f32]>;

/// One decode: the sound, the keys and values of the tokens so far, and where the alignment heads looked. A copy shares the sound.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    sound: Arc<Sound>,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    /// Tokens fed so far.
    len: usize,
    /// One for each token fed.
    pub(crate) looks: Vec<Look>,
}

impl Session {
    /// Tokens fed so far.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

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
        let (alignment, alignment_known) = alignment_heads(from);
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
            for part in ["key", "value"] {
                sound.extend(from.values(&format!("{at}.cross_attn.{part}.weight"), &[width, width])?);
            }
            sound_bias.resize(sound_bias.len() + width, 0.0);
            sound_bias.extend(from.values(&format!("{at}.cross_attn.value.bias"), &[width])?);
            layers.push(Layer {
                norm: Norm::take(&mut from.tensors, &format!("{at}.attn_ln"), width)?,
                qkv: Linear {
                    weight: QuantMatrix::new(&qkv, width),
                    bias,
                },
                out: Linear::take(&mut from.tensors, &format!("{at}.attn.out"), width, width)?,
                cross_norm: Norm::take(&mut from.tensors, &format!("{at}.cross_attn_ln"), width)?,
                cross_query: Linear::take(
                    &mut from.tensors,
                    &format!("{at}.cross_attn.query"),
                    width,
                    width,
                )?,
                cross_out: Linear::take(&mut from.tensors, &format!("{at}.cross_attn.out"), width, width)?,
                mlp_norm: Norm::take(&mut from.tensors, &format!("{at}.mlp_ln"), width)?,
                up: Linear::take(&mut from.tensors, &format!("{at}.mlp.0"), 4 * width, width)?,
                down: Linear::take(&mut from.tensors, &format!("{at}.mlp.2"), width, 4 * width)?,
            });
        }
        let embedding = from.values("decoder.token_embedding.weight", &[vocabulary, width])?;
        Ok(Self {
            width,
            heads,
            positions: from.values("decoder.positional_embedding", &[text_positions, width])?,
            tokens: QuantMatrix::new(&embedding, width),
            layers,
            norm: Norm::take(&mut from.tensors, "decoder.ln", width)?,
            sound: Matrix::new(&sound, width),
            sound_bias,
            alignment,
            alignment_known,
        })
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn alignment(&self) -> Alignment {
        Alignment {
            heads: self.alignment.len(),
            known: self.alignment_known,
        }
    }

    /// Tokens that a decode may hold.
    pub(crate) fn capacity(&self) -> usize {
        self.positions.len() / self.width
    }

    /// Begins a decode of what the encoder made of the sound.
    pub(crate) fn begin(&self, encoded: &[f32]) -> Session {
        let (n, size) = (encoded.len() / self.width, self.width / self.heads);
        let stride = self.sound_bias.len();
        let mut all = vec![0f32; n * stride];
        let tasks = all
            .par_chunks_mut(ROWS * stride)
            .zip(encoded.par_chunks(ROWS * self.width));
        tasks.for_each_init(Narrow::default, |narrow, (to, from)| {
            narrow.round(from, self.width);
            self.sound.multiply(narrow, to);
            add_bias(to, &self.sound_bias);
        });
        let head = |layer: usize, head: usize| {
            let key = 2 * layer * self.width + head * size;
            Head::new(&all[key..], &all[key + self.width..], stride, size)
        };
        let heads = |layer: usize| (0..self.heads).map(|it| head(layer, it)).collect();
        Session {
            sound: Arc::new(Sound {
                positions: n,
                heads: (0..self.layers.len()).into_par_iter().map(heads).collect(),
            }),
            keys: vec![Vec::new(); self.layers.len()],
            values: vec![Vec::new(); self.layers.len()],
            len: 0,
            looks: Vec::new(),
        }
    }

    /// Feeds as many tokens to each session, session after session; a row for each token, which [`logits`](Self::logits) reads. The
    /// weights are read once for all.
    pub(crate) fn feed(&self, sessions: &mut [&mut Session], tokens: &[u32]) -> Vec<f32> {
        let (width, size) = (self.width, self.width / self.heads);
        let each = tokens.len() / sessions.len().max(1);
        let mut x = vec![0f32; tokens.len() * width];
        for (index, (x, &token)) in x.chunks_exact_mut(width).zip(tokens).enumerate() {
            let place = (sessions[index / each].len + index % each).min(self.capacity() - 1) * width;
            let sum = self.tokens.row(token as usize).zip(&self.positions[place..]);
            x.iter_mut()
                .zip(sum)
                .for_each(|(x, (token, place))| *x = token + place);
        }
        let mut looks = vec![Vec::new(); tokens.len()];
        let (mut scores, mut room) = (Vec::new(), Room::default());
        for (index, layer) in self.layers.iter().enumerate() {
            let qkv = layer.qkv.apply(&layer.norm.apply(&x));
            let mut mixed = vec![0f32; x.len()];
            let rows = mixed.chunks_exact_mut(width).zip(qkv.chunks_exact(3 * width));
            for (row, (mixed, qkv)) in rows.enumerate() {
                let session = &mut *sessions[row / each];
                session.keys[index].extend_from_slice(&qkv[width..2 * width]);
                session.values[index].extend_from_slice(&qkv[2 * width..]);
                scores.resize(session.len + row % each + 1, 0.0);
                for at in (0..width).step_by(size) {
                    attend(
                        &qkv[at..at + size],
                        &session.keys[index][at..],
                        &session.values[index][at..],
                        width,
                        &mut scores,
                        &mut mixed[at..at + size],
                    );
                }
            }
            add(&mut x, &layer.out.apply(&mixed));

            let query = layer.cross_query.apply(&layer.cross_norm.apply(&x));
            let of_session = mixed
                .chunks_exact_mut(each * width)
                .zip(query.chunks_exact(each * width));
            for (number, (mixed, query)) in of_session.enumerate() {
                let sound = &sessions[number].sound;
                for (at, head) in sound.heads[index].iter().enumerate() {
                    head.attend(
                        &mut room,
                        &query[at * size..],
                        width,
                        &mut mixed[at * size..],
                        width,
                    );
                    if self.alignment.contains(&(index, at)) {
                        for (row, look) in looks[number * each..][..each].iter_mut().enumerate() {
                            look.extend(room.shares(row, sound.positions));
                        }
                    }
                }
            }
            add(&mut x, &layer.cross_out.apply(&mixed));

            let mut up = layer.up.product(&layer.mlp_norm.apply(&x));
            bias_gelu(&mut up, &layer.up.bias);
            add(&mut x, &layer.down.apply(&up));
        }
        for (session, looks) in sessions.iter_mut().zip(looks.chunks_mut(each)) {
            session.len += each;
            session
                .looks
                .extend(looks.iter_mut().map(|it| Look::from(std::mem::take(it))));
        }
        x
    }

    /// For each row that a feed gave, the logits of the token after it.
    pub(crate) fn logits(&self, x: &[f32], out: &mut Vec<f32>) {
        out.resize(x.len() / self.width * self.tokens.rows(), 0.0);
        self.tokens.multiply(&self.norm.apply(x), out);
    }
}

pub(crate) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// The decoder's heads whose cross-attention is kept, each as (layer, head), and whether they are known to follow the sound.
pub(crate) fn alignment_heads(from: &mut Checkpoint) -> (Vec<(usize, usize)>, bool) {
    let known = from
        .alignment_heads
        .take()
        .or_else(|| published_alignment_heads(&from.dims));
    let is_known = known.is_some();
    let heads = known.unwrap_or_else(|| {
        // Of a model nobody has measured, all heads of the upper half.
        let upper = from.dims.text_layers / 2..from.dims.text_layers;
        upper
            .flat_map(|layer| (0..from.dims.heads).map(move |head| (layer, head)))
            .collect()
    });
    (heads, is_known)
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
