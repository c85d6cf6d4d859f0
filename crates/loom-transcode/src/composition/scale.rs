//! A stretch of a plane, made another size: each sample is the weighted mean of those that it stands for.

/// Which samples of a row, or of a column, make each of another.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Taps {
    /// The first sample, and where its weights lie.
    places: Vec<(usize, std::ops::Range<usize>)>,
    /// They add up to [`ONE`] for each sample.
    weights: Vec<i32>,
}

impl Taps {
    /// `len` samples of the stretch of `span` samples from `from` on, of a row of `most`. A triangle as wide as a sample of the larger
    /// of both rows on each side: linear where it grows, and where it shrinks a mean in which each sample counts.
    pub(super) fn new(from: f64, span: f64, len: usize, most: usize) -> Self {
        let step = span / len as f64;
        let reach = step.max(1.0);
        let (mut places, mut weights) = (Vec::with_capacity(len), Vec::new());
        for nth in 0..len {
            let middle = from + (nth as f64 + 0.5) * step - 0.5;
            let first = ((middle - reach).floor() as i64 + 1).max(0);
            let last = ((middle + reach).ceil() as i64 - 1)
                .min(most as i64 - 1)
                .max(first);
            let first = first.min(last);
            let exact: Vec<f64> = (first..=last)
                .map(|at| (1.0 - (at as f64 - middle).abs() / reach).max(0.0))
                .collect();
            let sum = exact.iter().sum::<f64>().max(f64::MIN_POSITIVE);
            let start = weights.len();
            weights.extend(exact.iter().map(|it| (it / sum * f64::from(ONE)).round() as i32));
            // what rounding left over belongs to the heaviest
            let over = ONE - weights[start..].iter().sum::<i32>();
            if let Some(heaviest) = weights[start..].iter_mut().max() {
                *heaviest += over;
            }
            places.push((first as usize, start..weights.len()));
        }
        Self { places, weights }
    }

    fn len(&self) -> usize {
        self.places.len()
    }
}

/// Scales a plane whose rows lie `stride` bytes apart: rows by `down`, what is in them by `across`. Without space between rows.
///
/// Rows are added up first, many samples at a time; what is left to be weighed one by one is no more than is wanted.
pub(super) fn scale(plane: &[u8], stride: usize, across: &Taps, down: &Taps) -> Vec<u8> {
    let from = across.places.iter().map(|(first, _)| *first).min().unwrap_or(0);
    let end = across.places.iter().map(|(first, it)| first + it.len()).max();
    let mut sums = vec![0_i32; end.unwrap_or(0) - from];
    let mut out = Vec::with_capacity(down.len() * across.len());
    for (first, weights) in &down.places {
        sums.fill(ONE / 2);
        for (row, weight) in (*first..).zip(&down.weights[weights.clone()]) {
            let samples = plane.get(row * stride + from..).unwrap_or_default();
            for (sum, sample) in sums.iter_mut().zip(samples) {
                *sum += weight * i32::from(*sample);
            }
        }
        for sum in &mut sums {
            *sum /= ONE;
        }
        for (first, weights) in &across.places {
            let samples = &sums[first - from..];
            let sum: i32 = (across.weights[weights.clone()].iter().zip(samples))
                .map(|(weight, sample)| weight * sample)
                .sum();
            out.push(((sum + ONE / 2) / ONE) as u8);
        }
    }
    out
}

/// One, in fixed point: 14 bits.
const ONE: i32 = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_smaller_is_the_mean_and_what_is_even_stays_so() {
        let flat = vec![77; 100 * 60];
        let (across, down) = (Taps::new(0.0, 100.0, 33, 100), Taps::new(0.0, 60.0, 7, 60));
        assert_eq!(scale(&flat, 100, &across, &down), vec![77; 33 * 7]);
        // every second column white: grey at half the width, which whoever looks at single samples does not see
        let striped: Vec<u8> = (0..100 * 60)
            .map(|at| if at % 2 == 0 { 200 } else { 0 })
            .collect();
        let (across, down) = (Taps::new(0.0, 100.0, 25, 100), Taps::new(0.0, 60.0, 15, 60));
        let grey = scale(&striped, 100, &across, &down);
        assert!(grey.iter().all(|it| (90..=110).contains(it)), "{grey:?}");
    }

    #[test]
    fn a_stretch_is_what_lies_there_and_a_ramp_stays_a_ramp() {
        let ramp: Vec<u8> = (0..200).collect();
        let one = Taps::new(0.0, 1.0, 1, 1);
        assert_eq!(
            scale(&ramp, 200, &Taps::new(40.0, 20.0, 20, 200), &one),
            (40..60).collect::<Vec<u8>>()
        );
        let grown = scale(&ramp, 200, &Taps::new(40.0, 20.0, 40, 200), &one);
        let climbs = grown.windows(2).all(|it| it[0] <= it[1] && it[1] - it[0] <= 1);
        assert!(climbs && grown[0] == 40 && grown[39] == 59, "{grown:?}");
    }
}
