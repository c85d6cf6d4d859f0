use std::collections::VecDeque;
use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

/// Samples looked at (64 ms).
const SPAN: usize = 1024;
/// Tones that sound at once: a telephone's keys have two.
const MOST: usize = 2;
/// Steps of 15.6 Hz to either side of a tone that belong to it.
const REACH: usize = 3;
/// Share of the power that is the tones'. The two strongest partials of a voice have less, and do not keep their height.
const SHARE: f32 = 0.97;
/// Steps below which there is no voice.
const LOWEST: usize = 4;

/// Tells a tone or two, such as a telephone's, from a voice.
pub(crate) struct Tones {
    recent: VecDeque<f32>,
    window: Vec<f32>,
    fft: Arc<dyn RealToComplex<f32>>,
}

impl Tones {
    pub(crate) fn new() -> Self {
        let turn = |i: usize| std::f32::consts::TAU * i as f32 / SPAN as f32;
        Self {
            recent: VecDeque::from(vec![0.0; SPAN]),
            window: (0..SPAN).map(|i| 0.5 - 0.5 * turn(i).cos()).collect(),
            fft: RealFftPlanner::new().plan_fft_forward(SPAN),
        }
    }

    /// Takes the next samples.
    pub(crate) fn take(&mut self, pcm: &[f32]) {
        self.recent.extend(pcm);
        self.recent.drain(..pcm.len());
    }

    /// Whether what was heard last is tones and nothing else.
    pub(crate) fn are_all(&self) -> bool {
        let mut input = self.fft.make_input_vec();
        for (to, (value, window)) in input.iter_mut().zip(self.recent.iter().zip(&self.window)) {
            *to = value * window;
        }
        let mut spectrum = self.fft.make_output_vec();
        // The lengths are the planner's own, so this cannot fail.
        if self.fft.process(&mut input, &mut spectrum).is_err() {
            return false;
        }
        let mut power: Vec<f32> = spectrum.iter().skip(LOWEST).map(|it| it.norm_sqr()).collect();
        let whole: f32 = power.iter().sum();
        let mut tones = 0.0;
        for _ in 0..MOST {
            let peak = (0..power.len())
                .max_by(|&a, &b| power[a].total_cmp(&power[b]))
                .unwrap_or(0);
            let to = (peak + REACH + 1).min(power.len());
            for it in &mut power[peak.saturating_sub(REACH)..to] {
                tones += std::mem::take(it);
            }
        }
        whole > 0.0 && tones >= SHARE * whole
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;

    fn heard(sample: impl Fn(f32) -> f32) -> bool {
        let mut tones = Tones::new();
        tones.take(&(0..SPAN).map(|i| sample(i as f32 / 16e3)).collect::<Vec<_>>());
        tones.are_all()
    }

    #[test]
    fn one_tone_or_two_are_told_from_a_voice_and_from_noise() {
        assert!(heard(|t| (TAU * 425.0 * t).sin()));
        assert!(heard(|t| (TAU * 697.0 * t).sin() + (TAU * 1_336.0 * t).sin()));
        // A voice: partials that fall off, and glide.
        let voice = |t: f32| {
            let phase = TAU * (120.0 * t + 60.0 * t * t);
            (1..12).map(|n| (n as f32 * phase).sin() / n as f32).sum()
        };
        assert!(!heard(voice));
        let noise = |t: f32| ((t * 16e3 * 12.9898).sin() * 43_758.547).fract() - 0.5;
        assert!(!heard(noise));
        assert!(!heard(|_| 0.0));
    }
}
