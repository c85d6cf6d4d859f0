//! Planes made another size by a bicubic kernel, as sharp as what ffmpeg's `scale` makes. In whole numbers, so that every processor makes the same.

use crate::still::Plane;

/// Makes planes of one size into planes of another.
#[derive(Debug, Clone)]
pub(crate) struct Scaler {
    across: Taps,
    down: Taps,
    /// One row of the new height at the old width, in [`FINE`] steps a level, and as many samples behind it as a window may reach beyond.
    row: Vec<i16>,
}

impl Scaler {
    /// From so many samples across and down to so many; none of them is zero.
    pub(crate) fn new(from: (usize, usize), to: (usize, usize)) -> Self {
        let across = Taps::new(from.0, to.0, WINDOW);
        let row = vec![0; from.0 + across.count];
        Self {
            across,
            down: Taps::new(from.1, to.1, 1),
            row,
        }
    }

    /// Fills `out`, whose rows lie `stride` bytes apart. What a plane lacks of the size that was told is left as it was.
    pub(crate) fn scale(&mut self, plane: &Plane<'_>, out: &mut [u8], stride: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = pulp::x86::V3::try_new() {
            return v3.vectorize(x86::Scale {
                v3,
                scaler: self,
                plane,
                out,
                stride,
            });
        }
        self.scale_by(plane, out, stride, add_up, weigh);
    }

    /// Rows are added up first; `weigh` makes of such a row what is wanted of it.
    #[inline(always)]
    fn scale_by(
        &mut self,
        plane: &Plane<'_>,
        out: &mut [u8],
        stride: usize,
        add_up: impl Fn(&[&[u8]], &[i16], &mut [i16]),
        weigh: impl Fn(&Taps, &[i16], &mut [u8]),
    ) {
        let width = self.row.len() - self.across.count;
        let wanted = self.across.starts.len();
        let mut rows: Vec<&[u8]> = Vec::with_capacity(self.down.count);
        let windows = self
            .down
            .starts
            .iter()
            .zip(self.down.weights.chunks_exact(self.down.count));
        for ((start, weights), out) in windows.zip(out.chunks_mut(stride.max(1))) {
            rows.clear();
            rows.extend(
                (*start..start + self.down.count)
                    .filter_map(|row| plane.data.get(row * plane.stride..)?.get(..width)),
            );
            let Some(out) = out.get_mut(..wanted).filter(|_| rows.len() == self.down.count) else {
                return;
            };
            add_up(&rows, weights, &mut self.row[..width]);
            weigh(&self.across, &self.row, out);
        }
    }
}

/// Which samples of a row, or of a column, make each of another, and how much each counts.
#[derive(Debug, Clone)]
struct Taps {
    /// The first sample of each window.
    starts: Vec<usize>,
    /// Samples of a window.
    count: usize,
    /// Those of each window behind those of the one before; they add up to [`ONE`].
    weights: Vec<i16>,
}

impl Taps {
    /// Windows of a multiple of `step` samples. Near an edge they lie inside, where the row is long enough: what they reach for beyond it is
    /// its last sample.
    fn new(from: usize, to: usize, step: usize) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let reach = REACH * stretch;
        let exact: Vec<(usize, Vec<f64>)> = (0..to)
            .map(|nth| {
                let middle = (nth as f64 + 0.5) * scale - 0.5;
                // the kernel ends in zeros, which need not be looked at
                let (first, last) = (
                    (middle - reach).floor() as i64 + 1,
                    (middle + reach).ceil() as i64 - 1,
                );
                let clamped = |at: i64| at.clamp(0, from as i64 - 1) as usize;
                let mut weights = vec![0.0; clamped(last) - clamped(first) + 1];
                for at in first..=last {
                    weights[clamped(at) - clamped(first)] += kernel((at as f64 - middle) / stretch);
                }
                (clamped(first), weights)
            })
            .collect();
        let longest = exact.iter().map(|(_, weights)| weights.len()).max().unwrap_or(1);
        let count = longest.next_multiple_of(step);
        let mut taps = Self {
            starts: Vec::with_capacity(to),
            count,
            weights: Vec::with_capacity(to * count),
        };
        for (first, exact) in exact {
            // what is behind the row's end is there too, and counts nothing
            let start = if step == 1 {
                first.min(from.saturating_sub(count))
            } else {
                first
            };
            let sum: f64 = exact.iter().sum();
            let mut weights = vec![0; count];
            for (weight, exact) in weights[first - start..].iter_mut().zip(&exact) {
                *weight = (exact / sum * f64::from(ONE)).round() as i32;
            }
            // what rounding left over belongs to the heaviest
            let over = i32::from(ONE) - weights.iter().sum::<i32>();
            if let Some(heaviest) = weights.iter_mut().max() {
                *heaviest += over;
            }
            taps.starts.push(start);
            taps.weights.extend(weights.iter().map(|it| *it as i16));
        }
        taps
    }
}

/// The cubic kernel of Mitchell and Netravali (1988) with B = 0 and C = 0.6, as ffmpeg's `scale` has it where it is told nothing.
fn kernel(x: f64) -> f64 {
    const C: f64 = 0.6;
    match x.abs() {
        x if x < 1.0 => ((2.0 - C) * x - (3.0 - C)) * x * x + 1.0,
        x if x < REACH => -C * (x - 1.0) * (x - 2.0) * (x - 2.0),
        _ => 0.0,
    }
}

/// Samples to each side that count, where nothing is made smaller.
const REACH: f64 = 2.0;
/// One, in weights.
const ONE: i16 = 1 << 14;
/// Samples that are weighed at once.
const WINDOW: usize = 8;
/// Steps of a level in a row that was added up, as a power of two.
const FINE: u32 = 6;

/// Adds up rows, each with its weight: those at least as long as what is filled.
fn add_up(rows: &[&[u8]], weights: &[i16], sums: &mut [i16]) {
    for (at, sum) in sums.iter_mut().enumerate() {
        *sum = add_up_at(rows, weights, at);
    }
}

#[inline(always)]
fn add_up_at(rows: &[&[u8]], weights: &[i16], at: usize) -> i16 {
    // 7 bits more, 14 more, and 15 less, to the nearest
    let product =
        |(row, weight): (&&[u8], &i16)| ((i32::from(row[at]) << 7) * i32::from(*weight) + (1 << 14)) >> 15;
    let products = rows.iter().zip(weights).map(product);
    products.fold(0, |sum, it| sum.wrapping_add(it as i16))
}

/// Makes a row of samples of one that was added up.
fn weigh(taps: &Taps, row: &[i16], out: &mut [u8]) {
    let windows = taps.starts.iter().zip(taps.weights.chunks_exact(taps.count));
    for (out, (start, weights)) in out.iter_mut().zip(windows) {
        let samples = &row[*start..start + taps.count];
        let sum: i32 = samples
            .iter()
            .zip(weights)
            .map(|(a, b)| i32::from(*a) * i32::from(*b))
            .sum();
        *out = level(sum);
    }
}

#[inline(always)]
fn level(sum: i32) -> u8 {
    ((sum + HALF) >> SHIFT).clamp(0, 255) as u8
}

/// From a sum of weighed steps to a level.
const SHIFT: u32 = 14 + FINE;
const HALF: i32 = 1 << (SHIFT - 1);

/// The same with AVX2, through pulp's safe tokens.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m128i, __m256i};

    use pulp::x86::V3;

    use super::{HALF, Plane, SHIFT, Scaler, Taps, WINDOW, add_up_at, level};

    pub(super) struct Scale<'a, 'b> {
        pub(super) v3: V3,
        pub(super) scaler: &'a mut Scaler,
        pub(super) plane: &'a Plane<'b>,
        pub(super) out: &'a mut [u8],
        pub(super) stride: usize,
    }

    impl pulp::NullaryFnOnce for Scale<'_, '_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let v3 = self.v3;
            self.scaler.scale_by(
                self.plane,
                self.out,
                self.stride,
                #[inline(always)]
                |rows, weights, sums| add_up(v3, rows, weights, sums),
                #[inline(always)]
                |taps, row, out| match taps.count / WINDOW {
                    1 => weigh::<1>(v3, taps, row, out),
                    2 => weigh::<2>(v3, taps, row, out),
                    3 => weigh::<3>(v3, taps, row, out),
                    4 => weigh::<4>(v3, taps, row, out),
                    _ => super::weigh(taps, row, out),
                },
            );
        }
    }

    #[inline(always)]
    fn add_up(v3: V3, rows: &[&[u8]], weights: &[i16], sums: &mut [i16]) {
        let (blocks, rest) = sums.as_chunks_mut::<BLOCK>();
        let done = blocks.len() * BLOCK;
        for (nth, sums) in blocks.iter_mut().enumerate() {
            let mut total = [v3.avx._mm256_setzero_si256(); VECTORS];
            for (row, weight) in rows.iter().zip(weights) {
                let (samples, _) = row[nth * BLOCK..(nth + 1) * BLOCK].as_chunks::<LANES>();
                let weight = v3.avx._mm256_set1_epi16(*weight);
                for (total, samples) in total.iter_mut().zip(samples) {
                    let fine = v3
                        .avx2
                        ._mm256_slli_epi16::<7>(v3.avx2._mm256_cvtepu8_epi16(pulp::cast(*samples)));
                    *total = v3
                        .avx2
                        ._mm256_add_epi16(*total, v3.avx2._mm256_mulhrs_epi16(fine, weight));
                }
            }
            *sums = pulp::cast::<[__m256i; VECTORS], _>(total);
        }
        for (at, sum) in (done..).zip(rest) {
            *sum = add_up_at(rows, weights, at);
        }
    }

    /// Samples of a vector, and vectors that are added up at once: those of a line of the cache.
    const LANES: usize = 16;
    const VECTORS: usize = 4;
    const BLOCK: usize = VECTORS * LANES;

    /// Four at a time: each window is multiplied by its weights, and then four windows are added up in themselves.
    #[inline(always)]
    fn weigh<const EACH: usize>(v3: V3, taps: &Taps, row: &[i16], out: &mut [u8]) {
        let (weights, _) = taps.weights.as_chunks::<WINDOW>();
        let (weights, _) = weights.as_chunks::<EACH>();
        let ((fours, rest), (weights, last)) = (out.as_chunks_mut::<4>(), weights.as_chunks::<4>());
        let (starts, ends) = taps.starts.as_chunks::<4>();
        for ((out, starts), weights) in fours.iter_mut().zip(starts).zip(weights) {
            let first = window(v3, row, starts[0], &weights[0]);
            let second = window(v3, row, starts[1], &weights[1]);
            let third = window(v3, row, starts[2], &weights[2]);
            let fourth = window(v3, row, starts[3], &weights[3]);
            let pairs = [
                v3.ssse3._mm_hadd_epi32(first, second),
                v3.ssse3._mm_hadd_epi32(third, fourth),
            ];
            let sums = v3.ssse3._mm_hadd_epi32(pairs[0], pairs[1]);
            let levels = v3.sse2._mm_srai_epi32::<{ SHIFT as i32 }>(
                v3.sse2._mm_add_epi32(sums, v3.sse2._mm_set1_epi32(HALF)),
            );
            let levels = v3.sse2._mm_packs_epi32(levels, levels);
            let levels: [[u8; 4]; 4] = pulp::cast(v3.sse2._mm_packus_epi16(levels, levels));
            *out = levels[0];
        }
        for ((out, start), weights) in rest.iter_mut().zip(ends).zip(last) {
            let sums: [i32; 4] = pulp::cast(window(v3, row, *start, weights));
            *out = level(sums.iter().sum());
        }
    }

    #[inline(always)]
    fn window<const EACH: usize>(
        v3: V3,
        row: &[i16],
        start: usize,
        weights: &[[i16; WINDOW]; EACH],
    ) -> __m128i {
        let (samples, _) = row[start..start + EACH * WINDOW].as_chunks::<WINDOW>();
        let mut total = v3.sse2._mm_setzero_si128();
        for (samples, weights) in samples.iter().zip(weights) {
            let products = v3.sse2._mm_madd_epi16(pulp::cast(*samples), pulp::cast(*weights));
            total = v3.sse2._mm_add_epi32(total, products);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn scaled(data: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
        let mut out = vec![0; to.0 * to.1];
        Scaler::new(from, to).scale(&plane(data, from), &mut out, to.0);
        out
    }

    fn plane(data: &[u8], (width, _): (usize, usize)) -> Plane<'_> {
        Plane {
            data,
            stride: width,
            width,
        }
    }

    /// Blots of every size up to eight samples, and among them samples that have nothing to do with their neighbours.
    fn picture((width, height): (usize, usize), mut seed: u32) -> Vec<u8> {
        let mut next = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as usize
        };
        let mut made = vec![128; width * height];
        for _ in 0..width * height / 16 {
            let (x, y) = (next() * 256 + next(), next() * 256 + next());
            let (side, level) = (1 + next() % 8, next() as u8);
            for row in (y % height..height).take(side) {
                made[row * width..][x % width..width]
                    .iter_mut()
                    .take(side)
                    .for_each(|it| *it = level);
            }
        }
        made
    }

    #[test]
    fn a_plane_is_as_sharp_as_ffmpeg_makes_it() {
        for (from, to) in [
            ((320, 180), (214, 120)),
            ((320, 180), (106, 60)),
            ((321, 243), (142, 108)),
            ((96, 64), (128, 96)),
        ] {
            let source = picture(from, 7);
            let mut ffmpeg = Command::new("ffmpeg")
                .args([
                    "-v",
                    "error",
                    "-f",
                    "rawvideo",
                    "-pix_fmt",
                    "gray",
                    "-s",
                    &format!("{}x{}", from.0, from.1),
                    "-i",
                    "-",
                ])
                .args([
                    "-vf",
                    &format!("scale={}:{}:flags=bicubic+accurate_rnd", to.0, to.1),
                    "-f",
                    "rawvideo",
                    "-",
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("ffmpeg is installed");
            ffmpeg.stdin.take().unwrap().write_all(&source).unwrap();
            let theirs = ffmpeg.wait_with_output().unwrap().stdout;
            let ours = scaled(&source, from, to);
            assert_eq!(theirs.len(), ours.len());
            let off: Vec<u8> = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).collect();
            let mean = off.iter().map(|it| f64::from(*it)).sum::<f64>() / off.len() as f64;
            let (most, edge) = (off.iter().max().unwrap(), |it: &[u8]| {
                it.windows(2)
                    .map(|it| f64::from(it[0].abs_diff(it[1])))
                    .sum::<f64>()
            });
            println!(
                "{from:?} to {to:?}: {mean:.3} levels off, {most} at most, edges {:.3} of theirs",
                edge(&ours) / edge(&theirs)
            );
            assert!(mean < 0.2 && *most < 20, "{from:?} to {to:?}: {mean}, {most}");
            assert!((0.98..1.02).contains(&(edge(&ours) / edge(&theirs))));
        }
    }

    #[test]
    fn every_processor_makes_the_same() {
        for (seed, (from, to)) in [
            ((333, 77), (222, 51)),
            ((200, 100), (50, 20)),
            ((900, 40), (130, 5)),
            ((5, 3), (2, 2)),
            ((1, 1), (4, 4)),
            ((64, 48), (64, 48)),
        ]
        .into_iter()
        .enumerate()
        {
            let source = picture(from, seed as u32);
            let mut plain = vec![0; to.0 * to.1];
            Scaler::new(from, to).scale_by(&plane(&source, from), &mut plain, to.0, add_up, weigh);
            assert_eq!(scaled(&source, from, to), plain, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn what_is_even_stays_so_and_nothing_overflows() {
        for level in [0, 1, 128, 254, 255] {
            for to in [(33, 7), (100, 60), (141, 80), (2, 2)] {
                assert!(
                    scaled(&vec![level; 6_000], (100, 60), to)
                        .iter()
                        .all(|it| *it == level),
                    "{level} {to:?}"
                );
            }
        }
        let board: Vec<u8> = (0..6_000)
            .map(|at| {
                if (at / 100 / 3 + at % 100 / 3) % 2 == 0 {
                    255
                } else {
                    0
                }
            })
            .collect();
        let again = scaled(&board, (100, 60), (100, 60));
        assert_eq!(again, board);
        let twice = scaled(&board, (100, 60), (200, 120));
        assert!(twice.contains(&255) && twice.contains(&0));
        // the middles of its fields
        for (row, column) in (1..60)
            .step_by(3)
            .flat_map(|row| (1..100).step_by(3).map(move |column| (row, column)))
        {
            let (before, after) = (board[row * 100 + column], twice[row * 400 + column * 2]);
            assert!(
                before.abs_diff(after) < 40,
                "{row} {column}: {before} and {after}"
            );
        }
    }

    #[test]
    fn a_plane_that_is_too_short_is_taken_as_far_as_it_goes() {
        let mut out = vec![7; 40 * 20];
        Scaler::new((80, 40), (40, 20)).scale(&plane(&[200; 80 * 10], (80, 40)), &mut out, 40);
        assert!(out[..40].iter().all(|it| *it == 200) && out[799] == 7);
        Scaler::new((80, 40), (40, 20)).scale(&plane(&[200; 80 * 40], (80, 40)), &mut out[..30], 40);
    }
}
