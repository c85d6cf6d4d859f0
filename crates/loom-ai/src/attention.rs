use crate::fixed::{Matrix, Narrow};
use crate::kernels::exponentials;

/// One head's keys and values, packed for products with many queries.
#[derive(Debug)]
pub(crate) struct Head {
    size: usize,
    keys: Matrix,
    values: Matrix,
}

/// What attention works in, kept from one call to the next.
#[derive(Debug, Default)]
pub(crate) struct Room {
    query: Narrow,
    shares: Narrow,
    scores: Vec<f32>,
    factors: Vec<f32>,
    mixed: Vec<f32>,
}

impl Head {
    /// `keys` and `values` begin at this head's first row; rows of `size` values lie `stride` apart.
    pub(crate) fn new(keys: &[f32], values: &[f32], stride: usize, size: usize) -> Self {
        Self {
            size,
            keys: Matrix::of_rows(keys, stride, size),
            values: Matrix::of_columns(values, stride, size),
        }
    }

    /// softmax(q kᵀ / √size) v of queries that lie `from_stride` apart, to rows that lie `to_stride` apart. The shares
    /// stay in `room`.
    pub(crate) fn attend(
        &self,
        room: &mut Room,
        from: &[f32],
        from_stride: usize,
        to: &mut [f32],
        to_stride: usize,
    ) {
        let rows = (from.len() + from_stride - self.size) / from_stride;
        let (n, padded) = (self.keys.outputs(), self.keys.padded());
        room.query.round_part(from, from_stride, self.size);
        room.scores.resize(rows * padded, 0.0);
        self.keys.multiply(&room.query, &mut room.scores);
        let scale = (self.size as f32).sqrt().recip();
        room.factors.clear();
        for row in room.scores.chunks_exact_mut(padded) {
            room.factors.push(exponentials(&mut row[..n], scale).recip());
        }
        room.shares.shares(&room.scores, padded, n, &room.factors);
        room.mixed.resize(rows * self.values.padded(), 0.0);
        self.values.multiply(&room.shares, &mut room.mixed);
        for (to, mixed) in to
            .chunks_mut(to_stride)
            .zip(room.mixed.chunks_exact(self.values.padded()))
        {
            to[..self.size].copy_from_slice(&mixed[..self.size]);
        }
    }
}

impl Room {
    /// The shares that query number `row` of the last call had of the `n` positions.
    pub(crate) fn shares(&self, row: usize, n: usize) -> impl Iterator<Item = f32> + '_ {
        let stride = self.scores.len() / self.factors.len().max(1);
        let factor = self.factors[row];
        self.scores[row * stride..][..n].iter().map(move |it| it * factor)
    }
}
