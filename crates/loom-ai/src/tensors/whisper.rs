use std::sync::Arc;

use candle_core::{DType, Result, Tensor};

use super::blocks::{HEAD, Linear, Mlp, Norm, attend, by_head, by_row};
use super::encoder::{Encoder, masked};
use super::place::Place;
use crate::AiError;
use crate::decoder::{Look, alignment_heads};
use crate::network::Alignment;
use crate::weights::{Checkpoint, Dims};

/// The whole network on a device, with room for the keys and values of a number of decodes. Each of these has a slot there, and a step goes over
/// the slots from the first that takes part to the last: what lies between works in vain, and so slots are given from the lowest on.
#[derive(Debug)]
pub(super) struct Whisper {
    place: Place,
    heads: usize,
    capacity: usize,
    slots: usize,
    encoder: Encoder,
    tokens: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
    alignment: Alignment,
}

#[derive(Debug)]
struct Layer {
    norm: Norm,
    qkv: Linear,
    out: Linear,
    sound_norm: Norm,
    sound_query: Linear,
    sound_keys_values: Linear,
    sound_out: Linear,
    mlp: Mlp,
    /// The heads whose shares of the sound are kept, in order.
    alignment: Option<Tensor>,
    cache: Cache,
}

/// Keys and values of one layer, of all slots: (slots × heads) × rows × 64, so that some slots that lie side by side, and their first rows,
/// are a matrix as they lie.
#[derive(Debug)]
struct Cache {
    /// Of the tokens. The last row of each takes what nobody asked for.
    keys: Tensor,
    values: Tensor,
    /// Of the sound.
    sound_keys: Tensor,
    sound_values: Tensor,
}

/// Windows that are encoded at once: their scores take the most memory.
pub(super) const TOGETHER: usize = 8;
/// Tokens of one decode that a step feeds at most; a prompt takes several steps.
pub(super) const STRIDE: usize = 16;
/// Rows of a cache beside those of its tokens: drafted ones, which may go beyond, and one that is thrown away.
pub(super) const SPARE: usize = STRIDE + 1;

/// What is fed to one decode.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    pub(super) slot: usize,
    /// The slot that all before is to be copied from.
    pub(super) copied: Option<usize>,
    /// Positions of sound.
    pub(super) positions: usize,
    /// Tokens before these.
    pub(super) before: usize,
    pub(super) tokens: Vec<u32>,
    /// The tokens, by number, whose logits are asked for, in order.
    pub(super) wanted: Vec<usize>,
}

/// What comes of it.
#[derive(Debug, Default)]
pub(super) struct Fed {
    /// A row for each that is wanted.
    pub(super) logits: Vec<f32>,
    /// One for each token.
    pub(super) looks: Vec<Look>,
}

impl Whisper {
    pub(super) fn take(
        from: &mut Checkpoint,
        place: Place,
        slots: usize,
    ) -> std::result::Result<Self, AiError> {
        let Dims {
            width,
            audio_positions,
            text_positions,
            vocabulary,
            ..
        } = from.dims;
        let heads = width / HEAD;
        let (aligned, known) = alignment_heads(from);
        let encoder = Encoder::take(from, &place)?;
        let mut layers = Vec::with_capacity(from.dims.text_layers);
        for i in 0..from.dims.text_layers {
            let at = format!("decoder.blocks.{i}");
            let (own, sound) = (format!("{at}.attn"), format!("{at}.cross_attn"));
            let mut alignment: Vec<u32> = aligned
                .iter()
                .filter(|it| it.0 == i)
                .map(|it| it.1 as u32)
                .collect();
            alignment.sort_unstable();
            alignment.dedup();
            let cache = |rows: usize| place.zeros((slots * heads, rows, HEAD));
            layers.push(Layer {
                norm: Norm::take(from, &format!("{at}.attn_ln"), width, &place)?,
                qkv: Linear::take_parts(from, &own, &["query", "key", "value"], width, &place)?,
                out: Linear::take(from, &format!("{own}.out"), width, width, &place)?,
                sound_norm: Norm::take(from, &format!("{at}.cross_attn_ln"), width, &place)?,
                sound_query: Linear::take_parts(from, &sound, &["query"], width, &place)?,
                sound_keys_values: Linear::take_parts(from, &sound, &["key", "value"], width, &place)?,
                sound_out: Linear::take(from, &format!("{sound}.out"), width, width, &place)?,
                mlp: Mlp::take(from, &at, width, &place)?,
                alignment: match alignment.is_empty() {
                    true => None,
                    false => Some(place.indices(alignment)?),
                },
                cache: Cache {
                    keys: cache(text_positions + SPARE)?,
                    values: cache(text_positions + SPARE)?,
                    sound_keys: cache(audio_positions)?,
                    sound_values: cache(audio_positions)?,
                },
            });
        }
        let embedding = from.values("decoder.token_embedding.weight", &[vocabulary, width])?;
        let positions = from.values("decoder.positional_embedding", &[text_positions, width])?;
        let whisper = Self {
            heads,
            capacity: text_positions,
            slots,
            encoder,
            tokens: place.tensor(embedding, (vocabulary, width))?,
            positions: place.tensor(positions, (text_positions, width))?,
            layers,
            norm: Norm::take(from, "decoder.ln", width, &place)?,
            alignment: Alignment {
                heads: aligned.len(),
                known,
            },
            place,
        };
        tracing::info!(device = %whisper.place.device, values = whisper.place.put(), "the model is on the device");
        Ok(whisper)
    }

    /// Values that it keeps there.
    #[cfg(test)]
    pub(super) fn values_held(&self) -> usize {
        self.place.put()
    }

    /// What the encoder makes of one window.
    #[cfg(test)]
    pub(super) fn encoded(&self, mel: &[f32]) -> Result<Vec<f32>> {
        self.encoder
            .run(&[mel], &self.place)?
            .rows
            .flatten_all()?
            .to_vec1()
    }

    pub(super) fn device(&self) -> crate::Device {
        self.place.device
    }

    /// Tokens that a decode may hold.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn alignment(&self) -> Alignment {
        self.alignment
    }

    /// Hears windows of sound, each into a slot: how many positions each has.
    pub(super) fn begin(&self, windows: &[(usize, &[f32])]) -> Result<Vec<usize>> {
        let sounds: Vec<&[f32]> = windows.iter().map(|it| it.1).collect();
        let encoded = self.encoder.run(&sounds, &self.place)?;
        for layer in &self.layers {
            let both = layer.sound_keys_values.apply(&encoded.rows)?;
            let both = by_head(&both, windows.len(), 2)?;
            for (index, &(slot, _)) in windows.iter().enumerate() {
                for (cache, fresh) in [&layer.cache.sound_keys, &layer.cache.sound_values]
                    .iter()
                    .zip(&both)
                {
                    let fresh = fresh.narrow(0, index * self.heads, self.heads)?;
                    self.of(cache, slot, 1)?.slice_set(&fresh, 1, 0)?;
                }
            }
        }
        Ok(encoded.positions)
    }

    /// Feeds each decode its tokens; each slot is there once. Until it has succeeded it may be done again.
    pub(super) fn feed(&self, feeds: &[Feed]) -> Result<Vec<Fed>> {
        for it in feeds {
            if it.before + it.tokens.len() >= self.capacity + SPARE || it.slot >= self.slots {
                candle_core::bail!(
                    "{} tokens are more than a decode may hold",
                    it.before + it.tokens.len()
                );
            }
        }
        for it in feeds {
            if let Some(from) = it.copied {
                self.copy(from, it)?;
            }
        }
        let mut fed: Vec<Fed> = feeds.iter().map(|_| Fed::default()).collect();
        let longest = feeds.iter().map(|it| it.tokens.len()).max().unwrap_or(0);
        for from in (0..longest).step_by(STRIDE) {
            let taking = feeds
                .iter()
                .zip(&mut fed)
                .filter(|(it, _)| it.tokens.len() > from);
            let (feeds, fed): (Vec<&Feed>, Vec<&mut Fed>) = taking.unzip();
            self.step(from, &feeds, fed)?;
        }
        Ok(fed)
    }

    /// Writes nothing over all that a slot holds, so that numbers that are none do not outlive the decode that made them.
    pub(super) fn wipe(&self, slot: usize) -> Result<()> {
        for layer in &self.layers {
            let Cache {
                keys,
                values,
                sound_keys,
                sound_values,
            } = &layer.cache;
            for cache in [keys, values, sound_keys, sound_values] {
                let all = self.of(cache, slot, 1)?;
                all.slice_set(&self.place.zeros(all.shape().clone())?, 1, 0)?;
            }
        }
        Ok(())
    }

    /// The part of a cache that some slots side by side have.
    fn of(&self, cache: &Tensor, slot: usize, count: usize) -> Result<Tensor> {
        cache.narrow(0, slot * self.heads, count * self.heads)
    }

    /// What slot `from` has of the sound and of the tokens before, into the slot of `to`.
    fn copy(&self, from: usize, to: &Feed) -> Result<()> {
        for layer in &self.layers {
            let Cache {
                keys,
                values,
                sound_keys,
                sound_values,
            } = &layer.cache;
            for (cache, rows) in [
                (keys, to.before),
                (values, to.before),
                (sound_keys, to.positions),
                (sound_values, to.positions),
            ] {
                if rows > 0 {
                    let some = self.of(cache, from, 1)?.narrow(1, 0, rows)?.copy()?;
                    self.of(cache, to.slot, 1)?.slice_set(&some.contiguous()?, 1, 0)?;
                }
            }
        }
        Ok(())
    }

    /// The next tokens of each, from number `from` on.
    fn step(&self, from: usize, feeds: &[&Feed], mut fed: Vec<&mut Fed>) -> Result<()> {
        let plan = Plan::new(from, feeds, self.capacity);
        let (slots, each) = (plan.slots, plan.each);
        let heads = slots * self.heads;
        let to_row = self
            .place
            .indices(plan.to_row(self.heads, self.capacity + SPARE - 1))?
            .reshape((heads, each, 1))?
            .broadcast_as((heads, each, HEAD))?
            .contiguous()?;
        let mask = self
            .place
            .tensor(plan.mask(), (slots, 1, each, plan.tokens_held))?;
        let sound_mask = masked(&plan.sound, plan.sound_held);
        let sound_mask = self.place.tensor(sound_mask, (slots, 1, 1, plan.sound_held))?;
        let mut x = (self
            .tokens
            .index_select(&self.place.indices(plan.tokens.clone())?, 0)?
            + self
                .positions
                .index_select(&self.place.indices(plan.positions.clone())?, 0)?)?;
        let mut looks = Vec::new();
        for layer in &self.layers {
            let it = by_head(&layer.qkv.apply(&layer.norm.apply(&x)?)?, slots, 3)?;
            let keys = self.of(&layer.cache.keys, plan.first, slots)?;
            let values = self.of(&layer.cache.values, plan.first, slots)?;
            keys.scatter_set(&to_row, &it[1], 1)?;
            values.scatter_set(&to_row, &it[2], 1)?;
            let held = |it: Tensor| it.narrow(1, 0, plan.tokens_held);
            let it = attend(&it[0], &held(keys)?, &held(values)?, Some(&mask))?;
            x = (x + layer.out.apply(&by_row(&it.mixed, slots)?)?)?;

            let query = layer.sound_query.apply(&layer.sound_norm.apply(&x)?)?;
            let query = by_head(&query, slots, 1)?;
            let held = |it: &Tensor| self.of(it, plan.first, slots)?.narrow(1, 0, plan.sound_held);
            let (keys, values) = (held(&layer.cache.sound_keys)?, held(&layer.cache.sound_values)?);
            let it = attend(&query[0], &keys, &values, Some(&sound_mask))?;
            x = (x + layer.sound_out.apply(&by_row(&it.mixed, slots)?)?)?;
            if let Some(some) = &layer.alignment {
                let shares = it.shares.reshape((slots, self.heads, each, plan.sound_held))?;
                looks.push(shares.index_select(some, 1)?);
            }
            x = layer.mlp.add_to(&x)?;
        }
        self.give_looks(&plan, &looks, &mut fed)?;
        self.give_logits(&plan, &x, &mut fed)
    }

    /// Where the alignment heads looked, to the decodes that they are of.
    fn give_looks(&self, plan: &Plan<'_>, looks: &[Tensor], fed: &mut [&mut Fed]) -> Result<()> {
        if looks.is_empty() {
            for (part, fed) in plan.parts.iter().zip(fed) {
                fed.looks.extend((0..part.tokens).map(|_| Look::from([])));
            }
            return Ok(());
        }
        let looks = Tensor::cat(looks, 1)?;
        let (_, aligned, _, held) = looks.dims4()?;
        let rows = self.place.indices(plan.rows())?;
        let looks = looks
            .permute((0, 2, 1, 3))?
            .contiguous()?
            .reshape((plan.slots * plan.each, aligned * held))?
            .index_select(&rows, 0)?;
        let looks: Vec<Vec<f32>> = looks.to_dtype(DType::F32)?.to_vec2()?;
        let mut looks = looks.into_iter();
        for (part, fed) in plan.parts.iter().zip(fed) {
            for look in looks.by_ref().take(part.tokens) {
                let own = look.chunks_exact(held).flat_map(|it| &it[..part.feed.positions]);
                fed.looks.push(Arc::from_iter(own.copied()));
            }
        }
        Ok(())
    }

    /// The logits that are wanted, to the decodes that they are of.
    fn give_logits(&self, plan: &Plan<'_>, x: &Tensor, fed: &mut [&mut Fed]) -> Result<()> {
        let wanted = plan.wanted();
        if wanted.is_empty() {
            return Ok(());
        }
        let rows = x.index_select(&self.place.indices(wanted)?, 0)?;
        let logits = self.norm.apply(&rows)?.matmul(&self.tokens.t()?)?;
        let logits: Vec<Vec<f32>> = logits.to_dtype(DType::F32)?.to_vec2()?;
        let mut logits = logits.into_iter();
        for (part, fed) in plan.parts.iter().zip(fed) {
            for row in logits.by_ref().take(part.wanted.len()) {
                fed.logits.extend(row);
            }
        }
        Ok(())
    }
}

/// Which rows a step is made of: as many for each slot from the first that takes part to the last.
struct Plan<'a> {
    first: usize,
    slots: usize,
    /// Rows of each slot.
    each: usize,
    parts: Vec<Part<'a>>,
    tokens: Vec<u32>,
    positions: Vec<u32>,
    /// Most tokens that one has held after this step.
    tokens_held: usize,
    /// Positions of sound of each slot, all of them where it takes no part.
    sound: Vec<usize>,
    sound_held: usize,
}

/// One decode's part.
struct Part<'a> {
    feed: &'a Feed,
    /// Its first row.
    row: usize,
    /// Tokens it held before.
    before: usize,
    tokens: usize,
    /// Which of these, from this step's first.
    wanted: Vec<usize>,
}

impl<'a> Plan<'a> {
    fn new(from: usize, feeds: &[&'a Feed], capacity: usize) -> Self {
        let slots = || feeds.iter().map(|it| it.slot);
        let first = slots().min().unwrap_or(0);
        let slots = slots().max().unwrap_or(0) + 1 - first;
        let count = |it: &Feed| (it.tokens.len() - from).min(STRIDE);
        let each = feeds.iter().map(|it| count(it)).max().unwrap_or(0);
        let parts: Vec<Part<'a>> = feeds
            .iter()
            .map(|&feed| Part {
                feed,
                row: (feed.slot - first) * each,
                before: feed.before + from,
                tokens: count(feed),
                wanted: feed
                    .wanted
                    .iter()
                    .filter_map(|it| it.checked_sub(from))
                    .filter(|it| *it < STRIDE)
                    .collect(),
            })
            .collect();
        let (mut tokens, mut positions) = (vec![0; slots * each], vec![0; slots * each]);
        let sound_held = feeds.iter().map(|it| it.positions).max().unwrap_or(0);
        let mut sound = vec![sound_held; slots];
        for part in &parts {
            tokens[part.row..][..part.tokens].copy_from_slice(&part.feed.tokens[from..][..part.tokens]);
            for (at, position) in positions[part.row..][..part.tokens].iter_mut().enumerate() {
                *position = (part.before + at).min(capacity - 1) as u32;
            }
            sound[part.feed.slot - first] = part.feed.positions;
        }
        Self {
            first,
            slots,
            each,
            tokens_held: parts.iter().map(|it| it.before + it.tokens).max().unwrap_or(0),
            parts,
            tokens,
            positions,
            sound,
            sound_held,
        }
    }

    /// For each head of each slot and each of its rows, the cache's row that its key goes to; that of a row that nobody asked for to `bin`.
    fn to_row(&self, heads: usize, bin: usize) -> Vec<u32> {
        let mut of_slots = vec![bin as u32; self.slots * self.each];
        for part in &self.parts {
            for (at, row) in of_slots[part.row..][..part.tokens].iter_mut().enumerate() {
                *row = (part.before + at) as u32;
            }
        }
        let each = of_slots.chunks_exact(self.each.max(1));
        each.flat_map(|it| std::iter::repeat_n(it, heads).flatten())
            .copied()
            .collect()
    }

    /// Which tokens each row may look at: those before it, and itself.
    fn mask(&self) -> Vec<f32> {
        let mut mask = vec![0f32; self.slots * self.each * self.tokens_held];
        for part in &self.parts {
            let rows = mask[part.row * self.tokens_held..].chunks_exact_mut(self.tokens_held);
            for (at, row) in rows.take(part.tokens).enumerate() {
                row[part.before + at + 1..].fill(f32::NEG_INFINITY);
            }
        }
        mask
    }

    /// The rows that were asked for, decode after decode.
    fn rows(&self) -> Vec<u32> {
        let each = self.parts.iter();
        each.flat_map(|it| it.row..it.row + it.tokens)
            .map(|it| it as u32)
            .collect()
    }

    /// Those of them whose logits are wanted.
    fn wanted(&self) -> Vec<u32> {
        let each = self.parts.iter();
        each.flat_map(|it| it.wanted.iter().map(move |at| (it.row + at) as u32))
            .collect()
    }
}
