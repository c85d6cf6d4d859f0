//! The hot loops, written so that the compiler vectorises them; `pulp` picks AVX2 and FMA at run time where the machine
//! has them.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor};

/// `x · wᵀ` on candle: `x` is `rows` × `w`'s columns; the answer is `rows` × `w`'s rows.
pub(crate) fn project(x: Vec<f32>, rows: usize, w: &Tensor) -> Result<Tensor> {
    let columns = w.dim(1)?;
    Tensor::from_vec(x, (rows, columns), &candle_core::Device::Cpu)?.matmul(&w.t()?)
}

/// Calls `f` with the contiguous values of `t`.
pub(crate) fn with_values<R>(t: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let (storage, layout) = t.storage_and_layout();
    let candle_core::Storage::Cpu(storage) = &*storage else {
        candle_core::bail!("expected a tensor in main memory");
    };
    let values = storage.as_slice::<f32>()?;
    let (from, to) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::Msg("expected a contiguous tensor".into()))?;
    Ok(f(&values[from..to]))
}

/// Changes the contiguous values of `t` where they lie.
pub(crate) fn change_values(t: &Tensor, f: impl Fn(&mut [f32])) -> Result<()> {
    t.inplace_op1(&InPlace(f))
}

struct InPlace<F>(F);

impl<F: Fn(&mut [f32])> InplaceOp1 for InPlace<F> {
    fn name(&self) -> &'static str {
        "in-place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (from, to) = layout
            .contiguous_offsets()
            .ok_or_else(|| candle_core::Error::Msg("expected a contiguous tensor".into()))?;
        match storage {
            CpuStorage::F32(values) => {
                (self.0)(&mut values[from..to]);
                Ok(())
            }
            _ => candle_core::bail!("expected f32"),
        }
    }
}

/// Makes of a function one whose body is compiled for the vector units of the machine that it runs on. A closure would not do:
/// it is compiled by itself, for the oldest machine.
macro_rules! vectorised {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident<'a>($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty $body:block)*) => {$(
        $(#[$meta])*
        $vis fn $name<'a>($($arg: $ty),*) -> $ret {
            struct Body<'a> {
                $($arg: $ty),*
            }
            impl<'a> pulp::WithSimd for Body<'a> {
                type Output = $ret;

                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) -> $ret {
                    let Self { $($arg),* } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Body { $($arg),* })
        }
    )*};
}
/// Each row of `x` made zero-mean and unit-variance, times `gain`, plus `bias`.
pub(crate) fn layer_norm(x: &[f32], gain: &[f32], bias: &[f32]) -> Vec<f32> {
    let mut out = vec![0f32; x.len()];
    layer_norm_into(x, gain, bias, &mut out);
    out
}

vectorised! {
    fn layer_norm_into<'a>(x: &'a [f32], gain: &'a [f32], bias: &'a [f32], out: &'a mut [f32]) -> () {
        let width = gain.len();
        for (from, to) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let mean = sum(from) / width as f32;
            for (t, f) in to.iter_mut().zip(from) {
                *t = f - mean;
            }
            let scale = (dot(to, to) / width as f32 + 1e-5).sqrt().recip();
            for ((t, g), b) in to.iter_mut().zip(gain).zip(bias) {
                *t = *t * scale * g + b;
            }
        }
    }

    /// `x += y + bias`, row by row.
    pub(crate) fn add_rows<'a>(x: &'a mut [f32], y: &'a [f32], bias: &'a [f32]) -> () {
        for (x, y) in x.chunks_exact_mut(bias.len()).zip(y.chunks_exact(bias.len())) {
            for ((x, y), b) in x.iter_mut().zip(y).zip(bias) {
                *x += y + b;
            }
        }
    }

    /// `x + bias`, row by row, where it lies.
    pub(crate) fn add_bias<'a>(x: &'a mut [f32], bias: &'a [f32]) -> () {
        for x in x.chunks_exact_mut(bias.len()) {
            for (x, b) in x.iter_mut().zip(bias) {
                *x += b;
            }
        }
    }

    /// `gelu(x + bias)`, row by row, where it lies; within 1e-5 of the exact function.
    pub(crate) fn bias_gelu<'a>(x: &'a mut [f32], bias: &'a [f32]) -> () {
        for x in x.chunks_exact_mut(bias.len()) {
            for (x, b) in x.iter_mut().zip(bias) {
                *x = gelu(*x + b);
            }
        }
    }

    /// Softmax of each row of `width` values, the values multiplied by `scale` before.
    pub(crate) fn softmax_rows<'a>(x: &'a mut [f32], width: usize, scale: f32) -> () {
        for row in x.chunks_exact_mut(width) {
            softmax(row, scale);
        }
    }

    /// One head's softmax(q kᵀ) v, added to `out`; rows of `k` and `v` lie `stride` apart. The weights stay in `scores`.
    pub(crate) fn attend<'a>(
        q: &'a [f32],
        k: &'a [f32],
        v: &'a [f32],
        stride: usize,
        scores: &'a mut [f32],
        out: &'a mut [f32],
    ) -> () {
        let size = q.len();
        for (score, k) in scores.iter_mut().zip(k.chunks(stride)) {
            *score = dot(q, &k[..size]);
        }
        softmax(scores, (size as f32).sqrt().recip());
        for (share, v) in scores.iter().zip(v.chunks(stride)) {
            for (out, v) in out.iter_mut().zip(&v[..size]) {
                *out += share * v;
            }
        }
    }

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

    /// The largest of `values`.
    pub(crate) fn maximum<'a>(values: &'a [f32]) -> f32 {
        max(values)
    }

    /// Σ e^(value - top); what lies far below `top` adds nothing.
    pub(crate) fn exp_sum<'a>(values: &'a [f32], top: f32) -> f32 {
        let term = |x: f32| if x < -80.0 { 0.0 } else { exp(x) };
        let mut acc = [0f32; 16];
        let chunks = values.chunks_exact(16);
        let rest: f32 = chunks.remainder().iter().map(|&v| term(v - top)).sum();
        for chunk in chunks {
            for i in 0..16 {
                acc[i] += term(chunk[i] - top);
            }
        }
        acc.iter().sum::<f32>() + rest
    }
}

#[inline(always)]
fn softmax(row: &mut [f32], scale: f32) {
    let top = max(row);
    for v in row.iter_mut() {
        *v = exp((*v - top) * scale);
    }
    let share = sum(row).recip();
    for v in row.iter_mut() {
        *v *= share;
    }
}

/// x Φ(x), with Φ by a rational approximation of erf (Abramowitz and Stegun 7.1.26, |error| ≤ 1.5e-7).
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let poly = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6) * t;
    let tail = 0.5 * poly * exp(-z * z);
    if x >= 0.0 { x * (1.0 - tail) } else { x * tail }
}

/// eˣ within 2e-7 relative, 0 below -87; needs x ≤ 88.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = x.max(-87.0);
    // Adding and taking away 1.5 · 2²³ rounds to the nearest integer without a call.
    const MAGIC: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = ((((((1.987_569_1e-4 * r + 1.398_199_9e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r
        + 0.166_666_66)
        * r
        + 0.5)
        * r
        * r)
        + r
        + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    p * power
}

/// Eight running sums keep the additions independent, so that they vectorise.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut acc = [0f32; 16];
    let (a16, b16) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a16
        .remainder()
        .iter()
        .zip(b16.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (a, b) in a16.zip(b16) {
        for i in 0..16 {
            acc[i] += a[i] * b[i];
        }
    }
    acc.iter().sum::<f32>() + rest
}

#[inline(always)]
fn sum(a: &[f32]) -> f32 {
    let mut acc = [0f32; 16];
    let chunks = a.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().sum();
    for a in chunks {
        for i in 0..16 {
            acc[i] += a[i];
        }
    }
    acc.iter().sum::<f32>() + rest
}

#[inline(always)]
fn max(a: &[f32]) -> f32 {
    let mut acc = [f32::NEG_INFINITY; 16];
    let chunks = a.chunks_exact(16);
    let rest = chunks
        .remainder()
        .iter()
        .fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m });
    for a in chunks {
        for i in 0..16 {
            acc[i] = if a[i] > acc[i] { a[i] } else { acc[i] };
        }
    }
    acc.iter().fold(rest, |m, &v| if v > m { v } else { m })
}

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
            it.values
                .extend(block.iter().map(|v| (v * inverse).round() as i8));
        }
        it
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
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

    /// `out = self · x`.
    pub(crate) fn multiply(&self, x: &[f32], out: &mut [f32]) {
        let top = x.iter().fold(0f32, |m, v| m.max(v.abs()));
        if top == 0.0 || !top.is_finite() {
            out.fill(0.0);
            return;
        }
        let step = top / 32_767.0;
        let narrow: Vec<i16> = x.iter().map(|v| (v / step).round() as i16).collect();
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = pulp::x86::V3::try_new() {
            return v3.vectorize(x86::Multiply {
                v3,
                matrix: self,
                x: &narrow,
                step,
                out,
            });
        }
        multiply_rows(&self.values, &self.scales, self.columns, &narrow, step, out);
    }
}

/// The product with AVX2's multiply-and-add of neighbouring 16-bit values, through pulp's safe tokens.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m128i, __m256, __m256i};

    use pulp::x86::V3;

    use super::{BLOCK, QuantMatrix};

    pub(super) struct Multiply<'a> {
        pub(super) v3: V3,
        pub(super) matrix: &'a QuantMatrix,
        pub(super) x: &'a [i16],
        pub(super) step: f32,
        pub(super) out: &'a mut [f32],
    }

    impl pulp::NullaryFnOnce for Multiply<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let V3 { avx, avx2, fma, .. } = self.v3;
            let (x, _) = self.x.as_chunks::<16>();
            let columns = self.matrix.columns;
            let rows = self
                .matrix
                .values
                .chunks_exact(columns)
                .zip(self.matrix.scales.chunks_exact(columns / BLOCK));
            for (slot, (row, scales)) in self.out.iter_mut().zip(rows) {
                let (row, _) = row.as_chunks::<16>();
                let blocks = row.chunks_exact(BLOCK / 16).zip(x.chunks_exact(BLOCK / 16));
                let mut total: __m256 = avx._mm256_setzero_ps();
                for ((row, x), scale) in blocks.zip(scales) {
                    let mut sum: __m256i = avx._mm256_setzero_si256();
                    for (row, x) in row.iter().zip(x) {
                        let row = avx2._mm256_cvtepi8_epi16(pulp::cast::<[i8; 16], __m128i>(*row));
                        let product = avx2._mm256_madd_epi16(row, pulp::cast::<[i16; 16], __m256i>(*x));
                        sum = avx2._mm256_add_epi32(sum, product);
                    }
                    total =
                        fma._mm256_fmadd_ps(avx._mm256_cvtepi32_ps(sum), avx._mm256_set1_ps(*scale), total);
                }
                *slot = pulp::cast::<__m256, [f32; 8]>(total).iter().sum::<f32>() * self.step;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_gelu_are_close_to_the_exact_functions() {
        for i in -8_700..=2_000 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            let found = f64::from(exp(x));
            assert!(
                (found - exact).abs() <= exact * 1e-6,
                "exp({x}) = {found}, expected {exact}"
            );
        }
        for i in -1_000..=1_000 {
            let x = i as f32 / 100.0;
            // Simpson's rule on the normal density.
            let (mut area, n) = (0.0, 2_000);
            let h = f64::from(x) / f64::from(n);
            for k in 0..=n {
                let z = f64::from(k) * h;
                let w = if k == 0 || k == n {
                    1.0
                } else if k % 2 == 1 {
                    4.0
                } else {
                    2.0
                };
                area += w * (-z * z / 2.0).exp();
            }
            let phi = 0.5 + area * h / 3.0 / (2.0 * std::f64::consts::PI).sqrt();
            let exact = f64::from(x) * phi;
            assert!(
                (f64::from(gelu(x)) - exact).abs() < 1e-5,
                "gelu({x}) = {}, expected {exact}",
                gelu(x)
            );
        }
    }

    #[test]
    fn softmax_sums_to_one_and_keeps_the_order() {
        let mut row: Vec<f32> = (0..37).map(|i| (i as f32 * 0.7).sin() * 30.0).collect();
        let before = row.clone();
        softmax_rows(&mut row, 37, 0.125);
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        for (i, j) in (0..37).zip(1..37) {
            assert_eq!(before[i] < before[j], row[i] < row[j]);
        }
    }

    #[test]
    fn a_quantised_product_is_within_a_percent_of_the_exact_one() {
        let values: Vec<f32> = (0..8 * 128)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0)
            .collect();
        let x: Vec<f32> = (0..128).map(|i| (i as f32 * 0.3).cos()).collect();
        let mut out = vec![0.0; 8];
        QuantMatrix::new(&values, 128).multiply(&x, &mut out);
        for (row, found) in values.chunks_exact(128).zip(&out) {
            let exact: f32 = row.iter().zip(&x).map(|(a, b)| a * b).sum();
            let size: f32 = row.iter().zip(&x).map(|(a, b)| (a * b).abs()).sum();
            assert!((found - exact).abs() < size * 0.01, "{found} against {exact}");
        }
    }
}
