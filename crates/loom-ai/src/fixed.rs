//! Products of whole numbers: both sides rounded to 12 bits, summed exactly in 32.
//!
//! AVX2 multiplies and adds neighbouring pairs of 16-bit values, which is twice what its FMA does with f32, and half the bytes to
//! move. Twelve bits and a scale for each row and block of 512 columns leave an error far below that of 8-bit weights: the
//! sums cannot overflow (2047² · 512 < 2³¹), and being whole numbers they are the same on every machine.

use crate::kernels::largest;

/// The largest rounded value.
const MOST: f32 = 2047.0;
/// Columns summed before a sum is scaled.
const MOST_BLOCK: usize = 512;
/// Outputs worked on at once: two vectors of eight sums.
const PANEL: usize = 16;
/// Rows of the left side worked on at once: 6 × 2 sums fill AVX2's registers with what they are made from.
const TILE: usize = 6;

/// Two columns of [`PANEL`] outputs, an output's two beside each other.
type Pair = [i16; 2 * PANEL];

/// The right side of a product: `outputs` rows of `columns`, packed.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    outputs: usize,
    columns: usize,
    /// Pairs of columns in a block.
    pairs: usize,
    /// Block after block, panel after panel.
    panels: Vec<Pair>,
    /// A scale for each block and output, padded to whole panels.
    scales: Vec<f32>,
}

impl Matrix {
    /// From `values`, rows of `columns`.
    pub(crate) fn new(values: &[f32], columns: usize) -> Self {
        Self::of_rows(values, columns, columns)
    }

    /// From rows of `columns` values that begin `stride` apart.
    pub(crate) fn of_rows(values: &[f32], stride: usize, columns: usize) -> Self {
        let outputs = (values.len() + stride - columns) / stride;
        let block = block(columns);
        let mut it = Self::empty(outputs, columns, block);
        let mut narrow = vec![0i16; block.next_multiple_of(2)];
        for output in 0..outputs {
            let row = &values[output * stride..][..columns];
            for (index, row) in row.chunks_exact(block).enumerate() {
                let at = index * it.padded() + output;
                it.scales[at] = round(row, largest(row), MOST, &mut narrow);
                it.place(index, output, &narrow);
            }
        }
        it
    }

    /// From `rows` rows that begin `stride` apart, of which each of the first `outputs` columns becomes an output. Values of 16
    /// bits and one block: for a left side whose row sums to one at most, as [`Narrow::shares`] makes.
    pub(crate) fn of_columns(values: &[f32], stride: usize, outputs: usize) -> Self {
        let rows = (values.len() + stride - outputs) / stride;
        let mut it = Self::empty(outputs, rows, rows);
        let top = values
            .chunks(stride)
            .map(|row| largest(&row[..outputs]))
            .fold(0f32, f32::max);
        let (mut even, mut odd) = (vec![0i16; outputs], vec![0i16; outputs]);
        let mut scale = 0.0;
        for (pair, two) in values.chunks(2 * stride).enumerate() {
            scale = round(&two[..outputs], top, UNITS, &mut even);
            match two.get(stride..stride + outputs) {
                Some(row) => _ = round(row, top, UNITS, &mut odd),
                None => odd.fill(0),
            }
            for (panel, (even, odd)) in even.chunks(PANEL).zip(odd.chunks(PANEL)).enumerate() {
                let to = &mut it.panels[panel * it.pairs + pair];
                for (to, (even, odd)) in to.as_chunks_mut::<2>().0.iter_mut().zip(even.iter().zip(odd)) {
                    *to = [*even, *odd];
                }
            }
        }
        it.scales[..outputs].fill(scale);
        it
    }

    fn empty(outputs: usize, columns: usize, block: usize) -> Self {
        let (panels, pairs) = (2 * outputs.div_ceil(2 * PANEL), block.div_ceil(2));
        let blocks = columns / block.max(1);
        Self {
            outputs,
            columns,
            pairs,
            panels: vec![[0; 2 * PANEL]; blocks * panels * pairs],
            scales: vec![0.0; blocks * panels * PANEL],
        }
    }

    fn place(&mut self, block: usize, output: usize, values: &[i16]) {
        let panels = self.padded() / PANEL;
        let from = (block * panels + output / PANEL) * self.pairs;
        let at = output % PANEL * 2;
        for (to, two) in self.panels[from..from + self.pairs]
            .iter_mut()
            .zip(values.as_chunks::<2>().0)
        {
            to[at..at + 2].copy_from_slice(two);
        }
    }

    /// Outputs there are.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Values that one row of an answer takes: the outputs, padded to whole panels.
    pub(crate) fn padded(&self) -> usize {
        self.outputs.next_multiple_of(2 * PANEL)
    }

    /// `out = x · selfᵀ`: a row of [`padded`](Self::padded) values for each row of `x`.
    pub(crate) fn multiply(&self, x: &Narrow, out: &mut [f32]) {
        debug_assert_eq!((x.columns, x.pairs), (self.columns, self.pairs));
        #[cfg(target_arch = "x86_64")]
        if let Some(wide) = wide::Wide::try_new() {
            return wide.vectorize(wide::Multiply {
                wide,
                matrix: self,
                x,
                out,
            });
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = pulp::x86::V3::try_new() {
            return v3.vectorize(x86::Multiply {
                v3,
                matrix: self,
                x,
                out,
            });
        }
        self.multiply_anywhere(x, out);
    }

    fn multiply_anywhere(&self, x: &Narrow, out: &mut [f32]) {
        let padded = self.padded();
        let blocks = self.panels.chunks_exact((padded / PANEL * self.pairs).max(1));
        for (block, (panels, scales)) in blocks.zip(self.scales.chunks_exact(padded)).enumerate() {
            for (row, out) in out.chunks_exact_mut(padded).enumerate().take(x.rows) {
                let (pairs, scale) = x.part(row, block);
                let panels = panels.chunks_exact(self.pairs).zip(scales.as_chunks::<PANEL>().0);
                for (out, (panel, scales)) in out.as_chunks_mut::<PANEL>().0.iter_mut().zip(panels) {
                    let mut sums = [0i32; PANEL];
                    for (pair, x) in panel.iter().zip(pairs) {
                        let (even, odd) = (i32::from(*x as i16), x >> 16);
                        for (sum, w) in sums.iter_mut().zip(pair.as_chunks::<2>().0) {
                            *sum += even * i32::from(w[0]) + odd * i32::from(w[1]);
                        }
                    }
                    for ((out, sum), w) in out.iter_mut().zip(sums).zip(scales) {
                        let value = sum as f32 * (scale * w);
                        *out = if block == 0 { value } else { *out + value };
                    }
                }
            }
        }
    }
}

/// The left side of a product: rows rounded as the right side's are, a pair of columns in each 32 bits.
#[derive(Debug, Default)]
pub(crate) struct Narrow {
    rows: usize,
    columns: usize,
    /// Pairs of columns in a block.
    pairs: usize,
    values: Vec<i32>,
    /// A scale for each row and block.
    scales: Vec<f32>,
}

impl Narrow {
    /// Rounds rows of `columns` values for a [`Matrix::new`] of as many columns. What `self` held is lost, its room kept.
    pub(crate) fn round(&mut self, x: &[f32], columns: usize) {
        self.round_part(x, columns, columns);
    }

    /// The same with rows of `columns` values that begin `stride` apart.
    pub(crate) fn round_part(&mut self, x: &[f32], stride: usize, columns: usize) {
        let block = block(columns);
        let blocks = columns / block;
        self.shape((x.len() + stride - columns) / stride, columns, block.div_ceil(2));
        self.scales.resize(self.rows * blocks, 0.0);
        for (row, x) in x.chunks(stride).enumerate() {
            for (index, x) in x[..columns].chunks_exact(block).enumerate() {
                let at = row * blocks + index;
                let to = &mut self.values[at * self.pairs..][..self.pairs];
                let (scale, inverse) = steps(largest(x), MOST);
                pack(x, inverse, to);
                self.scales[at] = scale;
            }
        }
    }

    /// For rows of shares, each row's values between 0 and 1 and their sum `1 / factor` of the row: `columns` a row of `stride`.
    /// Rounded to 15 bits, so that a row's sum stays below 2¹⁶ and its product with 16-bit values below 2³¹.
    pub(crate) fn shares(&mut self, x: &[f32], stride: usize, columns: usize, factors: &[f32]) {
        self.shape(factors.len(), columns, columns.div_ceil(2));
        self.scales.resize(self.rows, 0.0);
        for (row, (x, factor)) in x.chunks(stride).zip(factors).enumerate() {
            let to = &mut self.values[row * self.pairs..][..self.pairs];
            pack(&x[..columns], factor * UNITS, to);
        }
        self.scales.fill(UNITS.recip());
    }

    fn shape(&mut self, rows: usize, columns: usize, pairs: usize) {
        (self.rows, self.columns, self.pairs) = (rows, columns, pairs);
        let blocks = columns.div_ceil(2) / pairs.max(1);
        self.values.resize(rows * blocks * pairs, 0);
    }

    fn part(&self, row: usize, block: usize) -> (&[i32], f32) {
        let at = row * (self.scales.len() / self.rows) + block;
        (&self.values[at * self.pairs..][..self.pairs], self.scales[at])
    }
}

/// What stands for one in shares and in what they weigh.
const UNITS: f32 = 32_767.0;

/// Columns of a block: as many as go into `columns` without a rest, an even number where there is one.
fn block(columns: usize) -> usize {
    let fits = |it: &usize| columns.is_multiple_of(*it) && (it.is_multiple_of(2) || *it == columns);
    (1..=MOST_BLOCK.min(columns)).rev().find(fits).unwrap_or(1)
}

/// The scale of values rounded to `most` steps, and its inverse.
pub(crate) fn steps(top: f32, most: f32) -> (f32, f32) {
    if top > 0.0 && top.is_finite() {
        (top / most, most / top)
    } else {
        (0.0, 0.0)
    }
}

/// Rounds to 16 bits; gives the scale.
fn round(values: &[f32], top: f32, most: f32, to: &mut [i16]) -> f32 {
    let (scale, inverse) = steps(top, most);
    for (to, value) in to.iter_mut().zip(values) {
        *to = nearest(value * inverse) as i16;
    }
    scale
}

/// The nearest whole number in the low 16 bits: adding 1.5 · 2²³ leaves it there.
#[inline(always)]
pub(crate) fn nearest(value: f32) -> u32 {
    (value + 12_582_912.0).to_bits()
}

crate::kernels::vectorised! {
    /// Rounds `x · factor` to pairs of 16 bits.
    fn pack<'a>(x: &'a [f32], factor: f32, to: &'a mut [i32]) -> () {
        let (twos, rest) = x.as_chunks::<2>();
        for (to, two) in to.iter_mut().zip(twos) {
            let (even, odd) = (nearest(two[0] * factor), nearest(two[1] * factor));
            *to = (even & 0xffff | odd << 16) as i32;
        }
        if let ([last], Some(to)) = (rest, to.get_mut(twos.len())) {
            *to = (nearest(last * factor) & 0xffff) as i32;
        }
    }
}

/// The product on AVX2, through pulp's safe tokens.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Place {
    block: usize,
    at: usize,
    stride: usize,
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m256i};

    use pulp::x86::V3;

    use super::{Matrix, Narrow, PANEL, Pair, Place, TILE};

    pub(super) struct Multiply<'a> {
        pub(super) v3: V3,
        pub(super) matrix: &'a Matrix,
        pub(super) x: &'a Narrow,
        pub(super) out: &'a mut [f32],
    }

    impl pulp::NullaryFnOnce for Multiply<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let (v3, matrix, x, out) = (self.v3, self.matrix, self.x, self.out);
            let padded = matrix.padded();
            let panels = padded / PANEL;
            let blocks = matrix.panels.chunks_exact((panels * matrix.pairs).max(1));
            for (block, (weights, scales)) in blocks.zip(matrix.scales.chunks_exact(padded)).enumerate() {
                let scales = scales.as_chunks::<PANEL>().0;
                for (panel, (weights, scales)) in weights.chunks_exact(matrix.pairs).zip(scales).enumerate() {
                    let place = Place {
                        block,
                        at: panel * PANEL,
                        stride: padded,
                    };
                    let mut row = 0;
                    while row + TILE <= x.rows {
                        tile::<TILE>(v3, x, row, weights, scales, place, out);
                        row += TILE;
                    }
                    match x.rows - row {
                        1 => tile::<1>(v3, x, row, weights, scales, place, out),
                        2 => tile::<2>(v3, x, row, weights, scales, place, out),
                        3 => tile::<3>(v3, x, row, weights, scales, place, out),
                        4 => tile::<4>(v3, x, row, weights, scales, place, out),
                        5 => tile::<5>(v3, x, row, weights, scales, place, out),
                        _ => {}
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn tile<const ROWS: usize>(
        v3: V3,
        x: &Narrow,
        row: usize,
        weights: &[Pair],
        scales: &[f32; PANEL],
        place: Place,
        out: &mut [f32],
    ) {
        let V3 { avx, avx2, fma, .. } = v3;
        let parts: [(&[i32], f32); ROWS] = std::array::from_fn(|i| {
            let (values, scale) = x.part(row + i, place.block);
            (&values[..weights.len()], scale)
        });
        let zero: __m256i = avx._mm256_setzero_si256();
        let mut sums = [[zero; 2]; ROWS];
        for (k, pair) in weights.iter().enumerate() {
            let halves = pair.as_chunks::<16>().0;
            let low = pulp::cast::<[i16; 16], __m256i>(halves[0]);
            let high = pulp::cast::<[i16; 16], __m256i>(halves[1]);
            for (sum, (values, _)) in sums.iter_mut().zip(&parts) {
                let x = avx._mm256_set1_epi32(values[k]);
                sum[0] = avx2._mm256_add_epi32(sum[0], avx2._mm256_madd_epi16(x, low));
                sum[1] = avx2._mm256_add_epi32(sum[1], avx2._mm256_madd_epi16(x, high));
            }
        }
        let scales = scales.as_chunks::<8>().0;
        for (i, (sum, (_, scale))) in sums.iter().zip(&parts).enumerate() {
            let out = &mut out[(row + i) * place.stride + place.at..][..PANEL];
            let scale: __m256 = avx._mm256_set1_ps(*scale);
            for ((out, sum), weight) in out.as_chunks_mut::<8>().0.iter_mut().zip(sum).zip(scales) {
                let factor = avx._mm256_mul_ps(scale, pulp::cast(*weight));
                let value = avx._mm256_cvtepi32_ps(*sum);
                *out = pulp::cast(if place.block == 0 {
                    avx._mm256_mul_ps(value, factor)
                } else {
                    fma._mm256_fmadd_ps(value, factor, pulp::cast(*out))
                });
            }
        }
    }
}

/// The same on AVX-512 with VNNI, where the compiler makes one instruction of a product and its addition.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::{__m512, __m512i};

    use super::{Matrix, Narrow, PANEL, Pair, Place};

    pulp::simd_type! {
        /// What the machine must have.
        pub(super) struct Wide {
            pub(super) avx512f: "avx512f",
            pub(super) avx512bw: "avx512bw",
            pub(super) avx512vnni: "avx512vnni",
        }
    }

    pub(super) struct Multiply<'a> {
        pub(super) wide: Wide,
        pub(super) matrix: &'a Matrix,
        pub(super) x: &'a Narrow,
        pub(super) out: &'a mut [f32],
    }

    /// Rows of the left side worked on at once, beside two panels: 24 sums and what they are made from fill 32 registers.
    const TILE: usize = 12;

    impl pulp::NullaryFnOnce for Multiply<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let (wide, matrix, x, out) = (self.wide, self.matrix, self.x, self.out);
            let (padded, pairs) = (matrix.padded(), matrix.pairs);
            let mut side_by_side = Vec::with_capacity(x.rows * pairs);
            let blocks = matrix.panels.chunks_exact((padded / PANEL * pairs).max(1));
            for (block, (weights, scales)) in blocks.zip(matrix.scales.chunks_exact(padded)).enumerate() {
                pack(x, block, &mut side_by_side);
                let scales = scales.as_chunks::<PANEL>().0.as_chunks::<2>().0;
                for (two, (weights, scales)) in weights.chunks_exact(2 * pairs).zip(scales).enumerate() {
                    let weights = weights.split_at(pairs);
                    let place = Place {
                        block,
                        at: two * 2 * PANEL,
                        stride: padded,
                    };
                    let (mut row, mut rest) = (0, side_by_side.as_slice());
                    while row < x.rows {
                        let many = height(x.rows - row);
                        let (some, others) = rest.split_at(many * pairs);
                        match many {
                            TILE => tile::<TILE>(wide, x, row, some, weights, scales, place, out),
                            6 => tile::<6>(wide, x, row, some, weights, scales, place, out),
                            3 => tile::<3>(wide, x, row, some, weights, scales, place, out),
                            _ => tile::<1>(wide, x, row, some, weights, scales, place, out),
                        }
                        (row, rest) = (row + many, others);
                    }
                }
            }
        }
    }

    /// Rows of the next tile where so many are left.
    fn height(left: usize) -> usize {
        [TILE, 6, 3].into_iter().find(|it| *it <= left).unwrap_or(1)
    }

    /// A block of every row, tile after tile: each pair of columns of all its rows, then the next.
    fn pack(x: &Narrow, block: usize, to: &mut Vec<i32>) {
        to.clear();
        let mut row = 0;
        while row < x.rows {
            let many = height(x.rows - row);
            let from = to.len();
            to.resize(from + many * x.pairs, 0);
            for i in 0..many {
                let (values, _) = x.part(row + i, block);
                for (to, value) in to[from + i..].iter_mut().step_by(many).zip(values) {
                    *to = *value;
                }
            }
            row += many;
        }
    }

    #[inline(always)]
    #[expect(
        clippy::too_many_arguments,
        reason = "a kernel: what it is given lies in registers"
    )]
    fn tile<const ROWS: usize>(
        wide: Wide,
        x: &Narrow,
        row: usize,
        side_by_side: &[i32],
        weights: (&[Pair], &[Pair]),
        scales: &[[f32; PANEL]; 2],
        place: Place,
        out: &mut [f32],
    ) {
        let Wide {
            avx512f, avx512bw, ..
        } = wide;
        let zero: __m512i = avx512f._mm512_setzero_si512();
        let mut sums = [[zero; 2]; ROWS];
        let all = side_by_side
            .as_chunks::<ROWS>()
            .0
            .iter()
            .zip(weights.0)
            .zip(weights.1);
        for ((x, first), second) in all {
            let first = pulp::cast::<Pair, __m512i>(*first);
            let second = pulp::cast::<Pair, __m512i>(*second);
            for (sum, x) in sums.iter_mut().zip(x) {
                let x = avx512f._mm512_set1_epi32(*x);
                sum[0] = avx512f._mm512_add_epi32(sum[0], avx512bw._mm512_madd_epi16(x, first));
                sum[1] = avx512f._mm512_add_epi32(sum[1], avx512bw._mm512_madd_epi16(x, second));
            }
        }
        for (i, sum) in sums.iter().enumerate() {
            let out = &mut out[(row + i) * place.stride + place.at..][..2 * PANEL];
            let scale: __m512 = avx512f._mm512_set1_ps(x.part(row + i, place.block).1);
            for ((out, sum), weight) in out.as_chunks_mut::<PANEL>().0.iter_mut().zip(sum).zip(scales) {
                let factor = avx512f._mm512_mul_ps(scale, pulp::cast(*weight));
                let value = avx512f._mm512_cvtepi32_ps(*sum);
                *out = pulp::cast(if place.block == 0 {
                    avx512f._mm512_mul_ps(value, factor)
                } else {
                    avx512f._mm512_fmadd_ps(value, factor, pulp::cast(*out))
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0)
            .collect()
    }

    fn worst(rows: usize, columns: usize, outputs: usize) -> f32 {
        let (x, w) = (values(rows * columns, 1), values(outputs * columns, 2));
        let matrix = Matrix::new(&w, columns);
        let mut narrow = Narrow::default();
        narrow.round(&x, columns);
        let (mut out, mut anywhere) = (
            vec![f32::NAN; rows * matrix.padded()],
            vec![f32::NAN; rows * matrix.padded()],
        );
        matrix.multiply(&narrow, &mut out);
        matrix.multiply_anywhere(&narrow, &mut anywhere);
        let mut worst = 0f32;
        for (i, x) in x.chunks_exact(columns).enumerate() {
            for (j, w) in w.chunks_exact(columns).enumerate() {
                let exact: f64 = x.iter().zip(w).map(|(a, b)| f64::from(a * b)).sum();
                let found = out[i * matrix.padded() + j];
                assert!((found - anywhere[i * matrix.padded() + j]).abs() <= found.abs() * 1e-5 + 1e-6);
                worst = worst.max((f64::from(found) - exact).abs() as f32 / (columns as f32).sqrt());
            }
        }
        worst
    }

    #[test]
    fn products_are_within_a_thousandth_of_the_exact_ones_for_every_shape() {
        for (rows, columns, outputs) in [
            (1, 64, 64),
            (7, 384, 48),
            (13, 1536, 17),
            (6, 240, 16),
            (5, 64, 101),
        ] {
            let worst = worst(rows, columns, outputs);
            assert!(worst < 1e-3, "{rows} × {columns} × {outputs}: {worst}");
        }
    }

    #[test]
    fn sums_of_the_largest_values_do_not_overflow() {
        let (x, w) = (vec![3.0; 512], vec![-2.0; 512]);
        let matrix = Matrix::new(&w, 512);
        let mut narrow = Narrow::default();
        narrow.round(&x, 512);
        let mut out = vec![0.0; matrix.padded()];
        matrix.multiply(&narrow, &mut out);
        assert!((out[0] + 3072.0).abs() < 0.1, "{}", out[0]);
    }

    #[test]
    fn shares_weigh_the_columns_of_a_matrix() {
        for rows in [8, 9, 1500] {
            let (size, stride) = (64, 192);
            let all = values(rows * stride, 3);
            let matrix = Matrix::of_columns(&all[64..64 + (rows - 1) * stride + size], stride, size);
            let mut shares: Vec<f32> = values(rows, 4).iter().map(|it| it.abs()).collect();
            shares[0] = 20.0;
            let factor = shares.iter().sum::<f32>().recip();
            let mut narrow = Narrow::default();
            narrow.shares(&shares, rows, rows, &[factor]);
            let mut out = vec![0.0; matrix.padded()];
            matrix.multiply(&narrow, &mut out);
            for (j, found) in out.iter().enumerate() {
                let exact: f32 = (0..rows)
                    .map(|i| shares[i] * factor * all[i * stride + 64 + j])
                    .sum();
                assert!((found - exact).abs() < 1e-3, "{rows}: {found} against {exact}");
            }
        }
    }

    #[test]
    fn blocks_divide_every_published_width() {
        assert_eq!(
            [384, 240, 1152, 1536, 5120, 64].map(block),
            [384, 240, 384, 512, 512, 64]
        );
        assert_eq!([1280, 3840, 17].map(block), [320, 480, 17]);
    }
}
