//! Matrices of 8-bit whole numbers for the decoder, which reads all of its weights for every token.

use crate::fixed::{nearest, steps};

/// A matrix of 8-bit whole numbers, each row in blocks of [`BLOCK`] with a scale.
///
/// A vector is multiplied at 16 bits, so that only the weights are rounded; the error is that of ggml's Q8_0.
#[derive(Debug)]
pub(crate) struct QuantMatrix {
    rows: usize,
    columns: usize,
    values: Vec<i8>,
    scales: Vec<f32>,
}

/// Values a scale covers.
const BLOCK: usize = 64;

impl QuantMatrix {
    /// What `columns` is a multiple of.
    pub(crate) const BLOCK: usize = BLOCK;

    /// From `rows` × `columns` values; `columns` is a multiple of 64 in every Whisper model.
    pub(crate) fn new(values: &[f32], columns: usize) -> Self {
        let rows = values.len() / columns;
        let mut it = Self {
            rows,
            columns,
            values: Vec::with_capacity(values.len()),
            scales: Vec::with_capacity(values.len() / BLOCK),
        };
        for block in values.chunks_exact(BLOCK) {
            let scale = block.iter().fold(0f32, |m, v| m.max(v.abs())) / 127.0;
            let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
            it.scales.push(scale);
            it.values.extend(block.iter().map(|v| nearest(v * inverse) as i8));
        }
        it
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// One row, back in f32.
    pub(crate) fn row(&self, index: usize) -> impl Iterator<Item = f32> + '_ {
        let values = &self.values[index * self.columns..(index + 1) * self.columns];
        let scales = &self.scales[index * (self.columns / BLOCK)..];
        values
            .iter()
            .enumerate()
            .map(move |(i, &v)| f32::from(v) * scales[i / BLOCK])
    }

    /// For each row of `x`, a row of `self · x`.
    pub(crate) fn multiply(&self, x: &[f32], out: &mut [f32]) {
        let mut narrow = vec![0i16; x.len()];
        let mut all = Vec::with_capacity(x.len() / self.columns);
        for (x, narrow) in x
            .chunks_exact(self.columns)
            .zip(narrow.chunks_exact_mut(self.columns))
        {
            let top = crate::kernels::largest(x);
            let (step, inverse) = steps(top, MOST);
            for (narrow, x) in narrow.iter_mut().zip(x) {
                *narrow = nearest(x * inverse) as i16;
            }
            all.push(step);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = pulp::x86::V3::try_new() {
            return v3.vectorize(x86::Multiply {
                v3,
                matrix: self,
                x: &narrow,
                steps: &all,
                out,
            });
        }
        for ((x, step), out) in narrow
            .chunks_exact(self.columns)
            .zip(&all)
            .zip(out.chunks_exact_mut(self.rows))
        {
            multiply_rows(&self.values, &self.scales, self.columns, x, *step, out);
        }
    }
}

/// What a vector's largest value becomes.
const MOST: f32 = 32_767.0;

crate::kernels::vectorised! {
    /// The portable form: whole-number sums vectorise by themselves, if not as well.
    fn multiply_rows<'a>(
        values: &'a [i8],
        scales: &'a [f32],
        columns: usize,
        x: &'a [i16],
        step: f32,
        out: &'a mut [f32],
    ) -> () {
        let rows = values.chunks_exact(columns).zip(scales.chunks_exact(columns / BLOCK));
        for (slot, (row, scales)) in out.iter_mut().zip(rows) {
            let mut total = 0f32;
            for ((row, x), scale) in row.chunks_exact(BLOCK).zip(x.chunks_exact(BLOCK)).zip(scales) {
                let sum: i32 = row.iter().zip(x).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
                total += sum as f32 * scale;
            }
            *slot = total * step;
        }
    }
}

/// The product with AVX2's multiply-and-add of neighbouring 16-bit values, through pulp's safe tokens.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m128i, __m256, __m256i};
    use std::ops::Range;

    use pulp::x86::V3;

    use super::{BLOCK, QuantMatrix};

    /// Sixteen values in a vector.
    const LANES: usize = 16;
    /// Vectors that a scale covers.
    const VECTORS: usize = BLOCK / LANES;

    pub(super) struct Multiply<'a> {
        pub(super) v3: V3,
        pub(super) matrix: &'a QuantMatrix,
        pub(super) x: &'a [i16],
        pub(super) steps: &'a [f32],
        pub(super) out: &'a mut [f32],
    }

    impl pulp::NullaryFnOnce for Multiply<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let Self {
                v3,
                matrix,
                x,
                steps,
                out,
            } = self;
            if let [step] = steps {
                return alone(v3, matrix, x, *step, out);
            }
            let columns = matrix.columns;
            let fours = x
                .chunks(4 * columns)
                .zip(steps.chunks(4))
                .zip(out.chunks_mut(4 * matrix.rows));
            let mut groups: Vec<_> = fours.map(|((x, steps), out)| (x, steps, out)).collect();
            // Some rows at a time stay in the cache while all vectors are multiplied by them.
            for from in (0..matrix.rows).step_by(ROWS) {
                let rows = from..(from + ROWS).min(matrix.rows);
                for (x, steps, out) in &mut groups {
                    match steps.len() {
                        1 => together::<1>(v3, matrix, rows.clone(), x, steps, out),
                        2 => together::<2>(v3, matrix, rows.clone(), x, steps, out),
                        3 => together::<3>(v3, matrix, rows.clone(), x, steps, out),
                        _ => together::<4>(v3, matrix, rows.clone(), x, steps, out),
                    }
                }
            }
        }
    }

    /// Rows that all vectors are multiplied by before the next are read.
    const ROWS: usize = 64;

    /// One vector: four rows at a time, so that it is read once for four and the sums are not waited for.
    #[inline(always)]
    fn alone(v3: V3, matrix: &QuantMatrix, x: &[i16], step: f32, out: &mut [f32]) {
        let V3 { avx, .. } = v3;
        let (columns, scales) = (matrix.columns, matrix.columns / BLOCK);
        let x = x.as_chunks::<LANES>().0;
        let fours = matrix
            .values
            .chunks_exact(4 * columns)
            .zip(matrix.scales.chunks_exact(4 * scales));
        let (groups, rest) = out[..matrix.rows].as_chunks_mut::<4>();
        for (out, (values, weights)) in groups.iter_mut().zip(fours) {
            let rows: [(&[[i8; LANES]], &[f32]); 4] = std::array::from_fn(|i| {
                let row = values[i * columns..][..columns].as_chunks::<LANES>().0;
                (row, &weights[i * scales..][..scales])
            });
            let mut totals: [__m256; 4] = [avx._mm256_setzero_ps(); 4];
            for (block, x) in x.as_chunks::<VECTORS>().0.iter().enumerate() {
                for (total, (row, scale)) in totals.iter_mut().zip(&rows) {
                    let row = &row.as_chunks::<VECTORS>().0[block];
                    *total = add_block(v3, *total, row, x, scale[block]);
                }
            }
            *out = four_sums(v3, totals).map(|it| it * step);
        }
        let first = matrix.rows - rest.len();
        for (slot, row) in rest.iter_mut().zip(first..) {
            *slot = single(v3, matrix, row, x) * step;
        }
    }

    /// Up to four vectors: each row is read once for all of them.
    #[inline(always)]
    fn together<const MANY: usize>(
        v3: V3,
        matrix: &QuantMatrix,
        rows: Range<usize>,
        x: &[i16],
        steps: &[f32],
        out: &mut [f32],
    ) {
        let V3 { avx, .. } = v3;
        let (columns, scales) = (matrix.columns, matrix.columns / BLOCK);
        let x: [&[[[i16; LANES]; VECTORS]]; MANY] = std::array::from_fn(|i| {
            &x[i * columns..][..columns]
                .as_chunks::<LANES>()
                .0
                .as_chunks::<VECTORS>()
                .0[..scales]
        });
        let values = &matrix.values[rows.start * columns..rows.end * columns];
        let weights = &matrix.scales[rows.start * scales..rows.end * scales];
        let each = values.chunks_exact(columns).zip(weights.chunks_exact(scales));
        for (at, (row, weights)) in rows.zip(each) {
            let mut totals: [__m256; 4] = [avx._mm256_setzero_ps(); 4];
            let row = &row.as_chunks::<LANES>().0.as_chunks::<VECTORS>().0[..scales];
            for block in 0..scales {
                for (total, x) in totals.iter_mut().zip(&x) {
                    *total = add_block(v3, *total, &row[block], &x[block], weights[block]);
                }
            }
            let sums = four_sums(v3, totals);
            for i in 0..MANY {
                out[i * matrix.rows + at] = sums[i] * steps[i];
            }
        }
    }

    /// The sum of each.
    #[inline(always)]
    fn four_sums(v3: V3, totals: [__m256; 4]) -> [f32; 4] {
        let V3 { avx, sse, .. } = v3;
        let pairs = [
            avx._mm256_hadd_ps(totals[0], totals[1]),
            avx._mm256_hadd_ps(totals[2], totals[3]),
        ];
        let fours = avx._mm256_hadd_ps(pairs[0], pairs[1]);
        pulp::cast(sse._mm_add_ps(
            avx._mm256_castps256_ps128(fours),
            avx._mm256_extractf128_ps::<1>(fours),
        ))
    }

    #[inline(always)]
    fn single(v3: V3, matrix: &QuantMatrix, row: usize, x: &[[i16; LANES]]) -> f32 {
        let values = matrix.values[row * matrix.columns..][..matrix.columns]
            .as_chunks::<LANES>()
            .0;
        let scales = &matrix.scales[row * (matrix.columns / BLOCK)..];
        let mut total = v3.avx._mm256_setzero_ps();
        let blocks = values
            .as_chunks::<VECTORS>()
            .0
            .iter()
            .zip(x.as_chunks::<VECTORS>().0);
        for ((row, x), scale) in blocks.zip(scales) {
            total = add_block(v3, total, row, x, *scale);
        }
        sum(total)
    }

    #[inline(always)]
    fn add_block(
        v3: V3,
        total: __m256,
        row: &[[i8; LANES]; VECTORS],
        x: &[[i16; LANES]; VECTORS],
        scale: f32,
    ) -> __m256 {
        let V3 { avx, avx2, fma, .. } = v3;
        let mut sum: __m256i = avx._mm256_setzero_si256();
        for (row, x) in row.iter().zip(x) {
            let row = avx2._mm256_cvtepi8_epi16(pulp::cast::<[i8; LANES], __m128i>(*row));
            let product = avx2._mm256_madd_epi16(row, pulp::cast::<[i16; LANES], __m256i>(*x));
            sum = avx2._mm256_add_epi32(sum, product);
        }
        fma._mm256_fmadd_ps(avx._mm256_cvtepi32_ps(sum), avx._mm256_set1_ps(scale), total)
    }

    /// In the order in which `alone` adds, so that what is decoded together comes out as it does alone.
    #[inline(always)]
    fn sum(total: __m256) -> f32 {
        let it = pulp::cast::<__m256, [f32; 8]>(total);
        ((it[0] + it[1]) + (it[2] + it[3])) + ((it[4] + it[5]) + (it[6] + it[7]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantised_product_is_within_a_percent_of_the_exact_one() {
        let values: Vec<f32> = (0..9 * 128)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0)
            .collect();
        for many in 1..=6 {
            let x: Vec<f32> = (0..many * 128).map(|i| (i as f32 * 0.3).cos()).collect();
            let mut out = vec![0.0; 9 * many];
            QuantMatrix::new(&values, 128).multiply(&x, &mut out);
            for (x, out) in x.chunks_exact(128).zip(out.chunks_exact(9)) {
                for (row, found) in values.chunks_exact(128).zip(out) {
                    let exact: f32 = row.iter().zip(x).map(|(a, b)| a * b).sum();
                    let size: f32 = row.iter().zip(x).map(|(a, b)| (a * b).abs()).sum();
                    assert!((found - exact).abs() < size * 0.01, "{found} against {exact}");
                }
            }
        }
    }
}
