use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;
use rayon::prelude::*;

use super::tokens::text;
use crate::AiError;
use crate::decoder::add;
use crate::kernels::{attend, rms_norm_into, silu_times};
use crate::limits::{MAX_POSITIONS_OF_TEXT, MAX_TEXT_LAYERS, MAX_TEXT_WIDTH, MAX_VOCABULARY};
use crate::quant::QuantMatrix;
use crate::weights::{Header, Listed, Reader, size, tensor};

/// Tokens to the next token's logits: a decoder of Llama's kind (Touvron et al., 2023), which Qwen's differ from in a few additions.
#[derive(Debug)]
pub(super) struct Network {
    dims: Dims,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// `None`: the embedding serves both ways.
    output: Option<Matrix>,
    /// Radians a position turns each pair of values by.
    turns: Vec<f32>,
}

/// The families, by the names that GGUF files give them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Llama,
    Qwen2,
    Qwen3,
}

/// A model's sizes.
#[derive(Debug, Clone, Copy)]
struct Dims {
    family: Family,
    width: usize,
    inner: usize,
    heads: usize,
    /// Heads of keys and values, each shared by as many of the others.
    shared: usize,
    /// Width of a head.
    size: usize,
    /// How many values of a head tell its place.
    rotated: usize,
    layers: usize,
    context: usize,
    epsilon: f32,
    base: f32,
}

#[derive(Debug)]
struct Layer {
    norm: Vec<f32>,
    /// Queries, keys and values in one.
    qkv: Matrix,
    bias: Vec<f32>,
    query_norm: Vec<f32>,
    key_norm: Vec<f32>,
    out: Matrix,
    mlp_norm: Vec<f32>,
    /// Gate and up in one.
    gate_up: Matrix,
    down: Matrix,
}

/// Keys and values of the tokens so far.
#[derive(Debug)]
pub(super) struct Session {
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    len: usize,
}

impl Session {
    pub(super) fn new(network: &Network) -> Self {
        Self {
            keys: vec![Vec::new(); network.layers.len()],
            values: vec![Vec::new(); network.layers.len()],
            len: 0,
        }
    }
}

impl Network {
    /// Reads what comes behind `header`, its matrices in slabs for `threads`.
    pub(super) fn read(file: &mut Reader<'_>, header: Header, threads: usize) -> Result<Self, AiError> {
        let dims = Dims::of(file, &header.fields)?;
        let mut weights = Weights::read(file, header, threads)?;
        let Dims {
            width, inner, size, ..
        } = dims;
        let (all, some) = (dims.heads * size, dims.shared * size);
        let mut layers = Vec::with_capacity(dims.layers);
        for index in 0..dims.layers {
            let at = |part: &str| format!("blk.{index}.{part}");
            let mut bias = Vec::new();
            let mut qkv = Vec::new();
            for (part, rows) in [("attn_q", all), ("attn_k", some), ("attn_v", some)] {
                qkv.push(weights.matrix(file, &at(&format!("{part}.weight")), rows, width)?);
                let name = at(&format!("{part}.bias"));
                match dims.family == Family::Qwen2 || weights.has(&name) {
                    true => bias.extend(weights.vector(file, &name, rows)?),
                    false => bias.resize(bias.len() + rows, 0.0),
                }
            }
            let of_head = |weights: &mut Weights, part: &str| match dims.family {
                Family::Qwen3 => weights.vector(file, &at(part), size),
                Family::Llama | Family::Qwen2 => Ok(Vec::new()),
            };
            layers.push(Layer {
                norm: weights.vector(file, &at("attn_norm.weight"), width)?,
                qkv: Matrix::join(qkv),
                bias,
                query_norm: of_head(&mut weights, "attn_q_norm.weight")?,
                key_norm: of_head(&mut weights, "attn_k_norm.weight")?,
                out: weights.matrix(file, &at("attn_output.weight"), width, all)?,
                mlp_norm: weights.vector(file, &at("ffn_norm.weight"), width)?,
                gate_up: Matrix::join(vec![
                    weights.matrix(file, &at("ffn_gate.weight"), inner, width)?,
                    weights.matrix(file, &at("ffn_up.weight"), inner, width)?,
                ]),
                down: weights.matrix(file, &at("ffn_down.weight"), width, inner)?,
            });
        }
        let rows = weights.rows(file, EMBEDDING)?;
        let output = match weights.has(OUTPUT) {
            true => Some(weights.matrix(file, OUTPUT, rows, width)?),
            false => None,
        };
        // Llama 3.1 and later slow the slowest turns down by these.
        let factors = match weights.has(FACTORS) {
            true => weights.vector(file, FACTORS, dims.rotated / 2)?,
            false => vec![1.0; dims.rotated / 2],
        };
        if factors.iter().any(|it| *it <= 0.0) {
            return Err(file.bad(FACTORS, "a factor that is not above zero"));
        }
        let turn = |(index, factor): (usize, &f32)| {
            dims.base.powf(-2.0 * index as f32 / dims.rotated as f32) / factor
        };
        Ok(Self {
            dims,
            embedding: weights.matrix(file, EMBEDDING, rows, width)?,
            layers,
            norm: weights.vector(file, "output_norm.weight", width)?,
            output,
            turns: factors.iter().enumerate().map(turn).collect(),
        })
    }

    /// Tokens that have an embedding.
    pub(super) fn vocabulary(&self) -> usize {
        self.embedding.rows
    }

    /// Tokens that it was made to have in mind at most.
    pub(super) fn context(&self) -> usize {
        self.dims.context
    }

    /// Feeds tokens one after the other; gives the last one's row, which [`logits`](Self::logits) reads.
    pub(super) fn feed(&self, session: &mut Session, tokens: &[u32]) -> Vec<f32> {
        let Dims {
            width,
            inner,
            heads,
            shared,
            size,
            epsilon,
            ..
        } = self.dims;
        let (all, some) = (heads * size, shared * size);
        let mut x = Vec::with_capacity(tokens.len() * width);
        tokens
            .iter()
            .for_each(|&token| self.embedding.row(token as usize, &mut x));
        let mut normed = vec![0.0; x.len()];
        let mut mixed = vec![0.0; tokens.len() * all];
        for (index, layer) in self.layers.iter().enumerate() {
            rms_norm_into(&x, &layer.norm, epsilon, &mut normed);
            let mut qkv = layer.qkv.multiply(&normed);
            for (place, row) in (session.len..).zip(qkv.chunks_exact_mut(all + 2 * some)) {
                add(row, &layer.bias);
                let (query, rest) = row.split_at_mut(all);
                let (key, value) = rest.split_at_mut(some);
                self.place(query, &layer.query_norm, place);
                self.place(key, &layer.key_norm, place);
                session.keys[index].extend_from_slice(key);
                session.values[index].extend_from_slice(value);
            }
            let (keys, values) = (&session.keys[index], &session.values[index]);
            mixed.fill(0.0);
            let each = mixed.par_chunks_exact_mut(size).enumerate();
            each.for_each_init(Vec::new, |scores, (at, mixed)| {
                let (row, head) = (at / heads, at % heads);
                let from = head / (heads / shared) * size;
                scores.resize(session.len + row + 1, 0.0);
                let query = &qkv[row * (all + 2 * some) + head * size..][..size];
                attend(query, &keys[from..], &values[from..], some, scores, mixed);
            });
            add(&mut x, &layer.out.multiply(&mixed));

            rms_norm_into(&x, &layer.mlp_norm, epsilon, &mut normed);
            let mut gate_up = layer.gate_up.multiply(&normed);
            let mut gated = Vec::with_capacity(tokens.len() * inner);
            for row in gate_up.chunks_exact_mut(2 * inner) {
                let (gate, up) = row.split_at_mut(inner);
                silu_times(gate, up);
                gated.extend_from_slice(gate);
            }
            add(&mut x, &layer.down.multiply(&gated));
        }
        session.len += tokens.len();
        x.split_off(x.len() - width)
    }

    /// The logits of the token after the row.
    pub(super) fn logits(&self, row: &[f32]) -> Vec<f32> {
        let mut normed = vec![0.0; row.len()];
        rms_norm_into(row, &self.norm, self.dims.epsilon, &mut normed);
        self.output.as_ref().unwrap_or(&self.embedding).multiply(&normed)
    }

    /// Each head's values, made of one size where the family does that, and turned by their place (Su et al., "RoFormer", 2021).
    fn place(&self, heads: &mut [f32], gain: &[f32], place: usize) {
        for head in heads.chunks_exact_mut(self.dims.size) {
            if !gain.is_empty() {
                let plain = head.to_vec();
                rms_norm_into(&plain, gain, self.dims.epsilon, head);
            }
            for (index, turn) in self.turns.iter().enumerate() {
                let (sin, cos) = (place as f32 * turn).sin_cos();
                // Llama's files have the values that turn together side by side, Qwen's half a head apart.
                let (a, b) = match self.dims.family {
                    Family::Llama => (2 * index, 2 * index + 1),
                    Family::Qwen2 | Family::Qwen3 => (index, index + self.turns.len()),
                };
                (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
            }
        }
    }
}

const EMBEDDING: &str = "token_embd.weight";
const OUTPUT: &str = "output.weight";
const FACTORS: &str = "rope_freqs.weight";

impl Dims {
    fn of(file: &Reader<'_>, fields: &HashMap<String, Value>) -> Result<Self, AiError> {
        let name = text(fields, "general.architecture").unwrap_or("none");
        let family = match name {
            "llama" => Family::Llama,
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            _ => {
                let rule = format!("{name:?} is not known; llama, qwen2 and qwen3 are");
                return Err(file.bad("general.architecture", rule));
            }
        };
        let key = |part: &str| format!("{name}.{part}");
        let whole = |part: &str, most: usize| -> Result<Option<usize>, AiError> {
            let key = key(part);
            match fields.get(&key) {
                None => Ok(None),
                Some(Value::U32(it)) if (1..=most).contains(&(*it as usize)) => Ok(Some(*it as usize)),
                Some(it) => {
                    let it: String = format!("{it:?}").chars().take(60).collect();
                    Err(file.bad(&key, format!("{it} is no number from 1 to {most}")))
                }
            }
        };
        let must = |part: &str, most: usize| {
            whole(part, most)?.ok_or_else(|| file.bad(&key(part), "this field is missing"))
        };
        let real = |part: &str, plain: f32| match fields.get(&key(part)) {
            None => Ok(plain),
            Some(Value::F32(it)) if *it > 0.0 && it.is_finite() => Ok(*it),
            Some(_) => Err(file.bad(&key(part), "no number above zero")),
        };
        for (part, rule) in [
            ("expert_count", "models of several experts are not known"),
            ("rope.scaling.type", "stretched positions are not known"),
        ] {
            let none = match fields.get(&key(part)) {
                None | Some(Value::U32(0)) => true,
                Some(Value::String(it)) => it == "none",
                Some(_) => false,
            };
            if !none {
                return Err(file.bad(&key(part), rule));
            }
        }
        let width = must("embedding_length", MAX_TEXT_WIDTH)?;
        let heads = must("attention.head_count", width)?;
        let shared = whole("attention.head_count_kv", heads)?.unwrap_or(heads);
        if !heads.is_multiple_of(shared) {
            let rule = format!("{heads} heads cannot share {shared}");
            return Err(file.bad(&key("attention.head_count_kv"), rule));
        }
        let size = match whole("attention.key_length", 1_024)? {
            Some(it) => it,
            None if width.is_multiple_of(heads) => width / heads,
            None => {
                let rule = format!("{width} values for {heads} heads");
                return Err(file.bad(&key("attention.head_count"), rule));
            }
        };
        if whole("attention.value_length", 1_024)?.is_some_and(|it| it != size) {
            return Err(file.bad(
                &key("attention.value_length"),
                format!("expected {size}, as keys have"),
            ));
        }
        let rotated = whole("rope.dimension_count", size)?.unwrap_or(size);
        if !rotated.is_multiple_of(2) {
            return Err(file.bad(&key("rope.dimension_count"), "expected an even number"));
        }
        Ok(Self {
            family,
            width,
            inner: must("feed_forward_length", MAX_TEXT_WIDTH)?,
            heads,
            shared,
            size,
            rotated,
            layers: must("block_count", MAX_TEXT_LAYERS)?,
            context: must("context_length", MAX_POSITIONS_OF_TEXT)?,
            epsilon: real("attention.layer_norm_rms_epsilon", 1e-5)?,
            base: real("rope.freq_base", 10_000.0)?,
        })
    }
}

/// A matrix in slabs of rows, which threads share.
#[derive(Debug)]
struct Matrix {
    rows: usize,
    slabs: Vec<QuantMatrix>,
}

impl Matrix {
    /// One below the other; they are as wide.
    fn join(parts: Vec<Self>) -> Self {
        Self {
            rows: parts.iter().map(|it| it.rows).sum(),
            slabs: parts.into_iter().flat_map(|it| it.slabs).collect(),
        }
    }

    /// Appends one row to `to`.
    fn row(&self, mut index: usize, to: &mut Vec<f32>) {
        for slab in &self.slabs {
            if index < slab.rows() {
                return to.extend(slab.row(index));
            }
            index -= slab.rows();
        }
    }

    /// For each row of `x`, a row of `self · x`.
    fn multiply(&self, x: &[f32]) -> Vec<f32> {
        let Some(columns) = self.slabs.first().map(QuantMatrix::columns) else {
            return Vec::new();
        };
        let many = x.len() / columns;
        let product = |slab: &QuantMatrix| {
            let mut out = vec![0.0; many * slab.rows()];
            slab.multiply(x, &mut out);
            out
        };
        let products: Vec<Vec<f32>> = self.slabs.par_iter().map(product).collect();
        let mut out = Vec::with_capacity(many * self.rows);
        for row in 0..many {
            for (slab, product) in self.slabs.iter().zip(&products) {
                out.extend_from_slice(&product[row * slab.rows()..][..slab.rows()]);
            }
        }
        out
    }
}

/// A file's tensors by name, until they are taken.
struct Weights {
    matrices: HashMap<String, Matrix>,
    vectors: HashMap<String, Vec<f32>>,
}

impl Weights {
    fn read(file: &mut Reader<'_>, header: Header, threads: usize) -> Result<Self, AiError> {
        let Header {
            mut tensors, begins, ..
        } = header;
        // In the order of their places, so that the file is read once, front to back.
        tensors.sort_by_key(|it| it.offset);
        let mut it = Self {
            matrices: HashMap::new(),
            vectors: HashMap::new(),
        };
        for listed in tensors {
            let elements = listed.seek(file, begins)?;
            match listed.shape[..] {
                [len] if len <= MAX_TEXT_WIDTH => {
                    let values = values(file, &listed, elements)?;
                    it.vectors.insert(listed.name, values);
                }
                [rows, columns] => {
                    let matrix = slabs(file, &listed, rows, columns, threads)?;
                    it.matrices.insert(listed.name, matrix);
                }
                _ => {
                    return Err(file.bad(
                        &listed.name,
                        format!("{:?} is no shape of a known tensor", listed.shape),
                    ));
                }
            }
        }
        Ok(it)
    }

    fn has(&self, name: &str) -> bool {
        self.matrices.contains_key(name) || self.vectors.contains_key(name)
    }

    fn rows(&self, file: &Reader<'_>, name: &str) -> Result<usize, AiError> {
        let found = self.matrices.get(name).map(|it| it.rows);
        found.ok_or_else(|| file.bad(name, MISSING))
    }

    fn matrix(
        &mut self,
        file: &Reader<'_>,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Matrix, AiError> {
        let it = self
            .matrices
            .remove(name)
            .ok_or_else(|| file.bad(name, MISSING))?;
        let found = it.slabs.first().map_or(0, QuantMatrix::columns);
        if (it.rows, found) != (rows, columns) {
            let rule = format!("{} × {found} values, expected {rows} × {columns}", it.rows);
            return Err(file.bad(name, rule));
        }
        Ok(it)
    }

    fn vector(&mut self, file: &Reader<'_>, name: &str, len: usize) -> Result<Vec<f32>, AiError> {
        let it = self.vectors.remove(name).ok_or_else(|| file.bad(name, MISSING))?;
        if it.len() != len {
            return Err(file.bad(name, format!("{} values, expected {len}", it.len())));
        }
        Ok(it)
    }
}

const MISSING: &str = "this tensor is missing";

/// Values that are in f32 at once while a matrix is read.
const SLAB: usize = 1 << 20;
/// Fewer rows than these are not worth a task of their own.
const FEW: usize = 32;

/// Reads a matrix a slab at a time, so that it is never whole in f32.
fn slabs(
    file: &mut Reader<'_>,
    listed: &Listed,
    rows: usize,
    columns: usize,
    threads: usize,
) -> Result<Matrix, AiError> {
    let known = (1..=MAX_VOCABULARY.max(2 * MAX_TEXT_WIDTH)).contains(&rows)
        && (1..=MAX_TEXT_WIDTH).contains(&columns)
        && columns.is_multiple_of(QuantMatrix::BLOCK);
    if !known {
        let rule = format!(
            "{rows} × {columns} values, expected rows of a multiple of {}",
            QuantMatrix::BLOCK
        );
        return Err(file.bad(&listed.name, rule));
    }
    let each = rows.div_ceil(threads).min(SLAB / columns).max(FEW);
    let mut slabs = Vec::with_capacity(rows.div_ceil(each));
    for from in (0..rows).step_by(each) {
        let values = values(file, listed, each.min(rows - from) * columns)?;
        slabs.push(QuantMatrix::new(&values, columns));
    }
    Ok(Matrix { rows, slabs })
}

/// The next so many values of a tensor.
fn values(file: &mut Reader<'_>, listed: &Listed, count: usize) -> Result<Vec<f32>, AiError> {
    let name = &listed.name;
    let length = size(listed.kind, count).map_err(|rule| file.bad(name, rule))?;
    let data = file.bytes(name, length)?;
    let values = tensor(listed.kind, &data, vec![count])
        .and_then(|it| it.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>())
        .map_err(|e| file.bad(name, e.to_string()))?;
    if !values.iter().all(|it| it.is_finite()) {
        return Err(file.bad(name, "a value that is no finite number"));
    }
    Ok(values)
}
