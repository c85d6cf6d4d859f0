use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use crate::limits::{HOP, SAMPLE_RATE};

/// Samples of one analysis window (25 ms).
const WINDOW: usize = 400;
/// Frequency bins of its spectrum.
const BINS: usize = WINDOW / 2 + 1;

/// Turns PCM into Whisper's log-mel frames, one each 10 ms, centred, time-major.
pub(crate) struct MelBank {
    mels: usize,
    /// For each mel: first bin and its weights.
    filters: Vec<(usize, Vec<f32>)>,
    window: Vec<f32>,
    fft: Arc<dyn RealToComplex<f32>>,
}

impl std::fmt::Debug for MelBank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MelBank")
            .field("mels", &self.mels)
            .finish_non_exhaustive()
    }
}

impl MelBank {
    pub(crate) fn new(mels: usize) -> Self {
        let window = (0..WINDOW)
            .map(|i| (0.5 - 0.5 * (2.0 * std::f64::consts::PI * i as f64 / WINDOW as f64).cos()) as f32)
            .collect();
        Self {
            mels,
            filters: filters(mels),
            window,
            fft: RealFftPlanner::new().plan_fft_forward(WINDOW),
        }
    }

    /// `frames` log-mel frames of `pcm`, which is silent after its end: `frames` × `mels` values.
    ///
    /// Frame `i` is centred on sample `160 i`; the first is mirrored at zero, as the reference does.
    pub(crate) fn frames(&self, pcm: &[f32], frames: usize) -> Vec<f32> {
        let mut out = self.powers(pcm, frames);
        let mut loudest = FLOOR.log10();
        for value in &mut out {
            *value = value.max(FLOOR).log10();
            loudest = loudest.max(*value);
        }
        let floor = loudest - 8.0;
        for value in &mut out {
            *value = (value.max(floor) + 4.0) / 4.0;
        }
        out
    }

    /// As [`frames`](Self::frames), of the power itself.
    pub(crate) fn powers(&self, pcm: &[f32], frames: usize) -> Vec<f32> {
        let mut out = vec![0f32; frames * self.mels];
        let mut input = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut power = [0f32; BINS];
        for (index, row) in out.chunks_exact_mut(self.mels).enumerate() {
            let first = (index * HOP) as isize - (WINDOW / 2) as isize;
            if first >= pcm.len() as isize {
                break;
            }
            for (offset, (slot, window)) in input.iter_mut().zip(&self.window).enumerate() {
                let at = (first + offset as isize).unsigned_abs();
                *slot = pcm.get(at).copied().unwrap_or(0.0) * window;
            }
            // The lengths are the planner's own, so this cannot fail.
            if self
                .fft
                .process_with_scratch(&mut input, &mut spectrum, &mut scratch)
                .is_err()
            {
                continue;
            }
            for (p, s) in power.iter_mut().zip(&spectrum) {
                *p = s.norm_sqr();
            }
            for (slot, (low, weights)) in row.iter_mut().zip(&self.filters) {
                *slot = weights.iter().zip(&power[*low..]).map(|(w, p)| w * p).sum();
            }
        }
        out
    }
}

/// The least power a mel may have before its logarithm.
const FLOOR: f32 = 1e-10;

/// Triangles equally spaced on the Slaney mel scale, each of unit area, 0 Hz to 8 kHz.
fn filters(mels: usize) -> Vec<(usize, Vec<f32>)> {
    let nyquist = SAMPLE_RATE as f64 / 2.0;
    let edges: Vec<f64> = (0..mels + 2)
        .map(|i| to_hz(to_mel(nyquist) * i as f64 / (mels + 1) as f64))
        .collect();
    let bin_hz = SAMPLE_RATE as f64 / WINDOW as f64;
    edges
        .windows(3)
        .map(|e| {
            let weight = |bin: usize| {
                let hz = bin as f64 * bin_hz;
                let up = (hz - e[0]) / (e[1] - e[0]);
                let down = (e[2] - hz) / (e[2] - e[1]);
                up.min(down).max(0.0) * 2.0 / (e[2] - e[0])
            };
            let used: Vec<usize> = (0..BINS).filter(|&bin| weight(bin) > 0.0).collect();
            match (used.first(), used.last()) {
                (Some(&low), Some(&high)) => (low, (low..=high).map(|bin| weight(bin) as f32).collect()),
                _ => (0, Vec::new()),
            }
        })
        .collect()
}

/// The mel scale of Slaney's Auditory Toolbox: linear below 1 kHz, logarithmic above.
fn to_mel(hz: f64) -> f64 {
    if hz < 1000.0 {
        hz * 3.0 / 200.0
    } else {
        15.0 + (hz / 1000.0).ln() * 27.0 / 6.4f64.ln()
    }
}

fn to_hz(mel: f64) -> f64 {
    if mel < 15.0 {
        mel * 200.0 / 3.0
    } else {
        1000.0 * ((mel - 15.0) * 6.4f64.ln() / 27.0).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_lights_the_mel_that_holds_it() {
        let bank = MelBank::new(80);
        let pcm: Vec<f32> = (0..16_000)
            .map(|i| (2.0 * std::f32::consts::PI * 1000.0 * i as f32 / 16_000.0).sin() * 0.5)
            .collect();
        let mel = bank.frames(&pcm, 100);
        let row = &mel[50 * 80..51 * 80];
        let best = (0..80).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        let hz: Vec<f64> = (0..82)
            .map(|i| to_hz(to_mel(8000.0) * f64::from(i) / 81.0))
            .collect();
        assert!(
            hz[best] < 1000.0 && hz[best + 2] > 1000.0,
            "mel {best} spans {}..{}",
            hz[best],
            hz[best + 2]
        );
    }

    #[test]
    fn silence_is_flat_and_at_the_floor() {
        let mel = MelBank::new(80).frames(&[0.0; 1600], 20);
        assert!(mel.iter().all(|&v| v == mel[0]));
        assert!((mel[0] - (-10.0 + 4.0) / 4.0).abs() < 1e-5);
    }

    #[test]
    fn the_filters_equal_the_reference_bank() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/models/mel_filters.npz"
        );
        let Ok(file) = std::fs::File::open(path) else {
            eprintln!("SKIPPED: {path} is absent");
            return;
        };
        let mut zip = zip::ZipArchive::new(file).unwrap();
        let mut raw = Vec::new();
        std::io::Read::read_to_end(&mut zip.by_name("mel_80.npy").unwrap(), &mut raw).unwrap();
        let header = 10 + usize::from(u16::from_le_bytes([raw[8], raw[9]]));
        let reference: Vec<f32> = raw[header..]
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        assert_eq!(reference.len(), 80 * BINS);
        for (mel, (low, weights)) in filters(80).iter().enumerate() {
            for bin in 0..BINS {
                let ours = bin
                    .checked_sub(*low)
                    .and_then(|i| weights.get(i))
                    .copied()
                    .unwrap_or(0.0);
                let theirs = reference[mel * BINS + bin];
                assert!(
                    (ours - theirs).abs() < 1e-6,
                    "mel {mel} bin {bin}: {ours} against {theirs}"
                );
            }
        }
    }
}
