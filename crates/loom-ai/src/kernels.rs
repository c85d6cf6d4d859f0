//! The hot loops, written so that the compiler vectorises them; `pulp` picks AVX2 and FMA at run time where the machine
//! has them.

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
pub(crate) use vectorised;

vectorised! {
    /// Each row of `x` made zero-mean and unit-variance, times `gain`, plus `bias`.
    pub(crate) fn layer_norm_into<'a>(x: &'a [f32], gain: &'a [f32], bias: &'a [f32], out: &'a mut [f32]) -> () {
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

    /// Each row of `x` made unit-size (its root mean square 1), times `gain`: Zhang and Sennrich, "Root Mean Square Layer Normalization",
    /// 2019.
    pub(crate) fn rms_norm_into<'a>(x: &'a [f32], gain: &'a [f32], epsilon: f32, out: &'a mut [f32]) -> () {
        let width = gain.len();
        for (from, to) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let scale = (dot(from, from) / width as f32 + epsilon).sqrt().recip();
            for ((t, f), g) in to.iter_mut().zip(from).zip(gain) {
                *t = f * scale * g;
            }
        }
    }

    /// `silu(gate) · up`, where the gate lies; silu(x) = x / (1 + e⁻ˣ).
    pub(crate) fn silu_times<'a>(gate: &'a mut [f32], up: &'a [f32]) -> () {
        for (g, u) in gate.iter_mut().zip(up) {
            *g = *g / (1.0 + exp((-*g).min(87.0))) * u;
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

    /// e^((value - largest) · scale) of each value, where it lies; gives their sum.
    pub(crate) fn exponentials<'a>(row: &'a mut [f32], scale: f32) -> f32 {
        let top = max(row);
        for v in row.iter_mut() {
            *v = exp((*v - top) * scale);
        }
        sum(row)
    }

    /// The largest size of `values`.
    pub(crate) fn largest<'a>(values: &'a [f32]) -> f32 {
        let mut acc = [0f32; 16];
        let (chunks, rest) = values.as_chunks::<16>();
        for chunk in chunks {
            for i in 0..16 {
                acc[i] = if chunk[i].abs() > acc[i] { chunk[i].abs() } else { acc[i] };
            }
        }
        acc.iter().chain(rest).fold(0f32, |m, v| if v.abs() > m { v.abs() } else { m })
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

    /// `out += x w`, row by row: `x` has rows of `width` values, `w` has `width` rows.
    pub(crate) fn multiply_add<'a>(x: &'a [f32], w: &'a [f32], width: usize, out: &'a mut [f32]) -> () {
        let columns = w.len() / width;
        // four rows of `w` are read once for all rows of `x`, and each row of `out` once for four products
        for (at, rows) in w.chunks(4 * columns).enumerate() {
            for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(columns)) {
                let x = &x[at * 4..(at * 4 + rows.len() / columns)];
                if let [a, b, c, d] = x {
                    let (ab, cd) = rows.split_at(2 * columns);
                    let ((wa, wb), (wc, wd)) = (ab.split_at(columns), cd.split_at(columns));
                    for ((((out, wa), wb), wc), wd) in out.iter_mut().zip(wa).zip(wb).zip(wc).zip(wd) {
                        *out += (a * wa + b * wb) + (c * wc + d * wd);
                    }
                } else {
                    for (x, w) in x.iter().zip(rows.chunks_exact(columns)) {
                        for (out, w) in out.iter_mut().zip(w) {
                            *out += x * w;
                        }
                    }
                }
            }
        }
    }

    /// One step of a long short-term memory (Hochreiter and Schmidhuber 1997), row by row: `gates` has input, forget, cell and output gate, in
    /// PyTorch's order, each as wide as `cell` and `hidden`, which it makes anew.
    pub(crate) fn lstm_step<'a>(gates: &'a [f32], width: usize, cell: &'a mut [f32], hidden: &'a mut [f32]) -> () {
        let rows = cell.chunks_exact_mut(width).zip(hidden.chunks_exact_mut(width));
        for (gates, (cell, hidden)) in gates.chunks_exact(4 * width).zip(rows) {
            let (front, back) = gates.split_at(2 * width);
            let ((input, forget), (new, output)) = (front.split_at(width), back.split_at(width));
            for (((((c, h), i), f), g), o) in cell.iter_mut().zip(hidden).zip(input).zip(forget).zip(new).zip(output) {
                *c = sigmoid(*f) * *c + sigmoid(*i) * tanh(*g);
                *h = sigmoid(*o) * tanh(*c);
            }
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

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp((-x).min(80.0)))
}

/// Within 3e-7 of the exact function.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    2.0 * sigmoid(2.0 * x) - 1.0
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
        softmax(&mut row, 0.125);
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        for (i, j) in (0..37).zip(1..37) {
            assert_eq!(before[i] < before[j], row[i] < row[j]);
        }
    }
}
