use std::fmt;

use ebur128::{EbuR128, Error, Mode};

use super::Loudness;

/// Measures loudness in constant memory: blocks are counted in a histogram of 0.1 LU.
pub(super) struct LoudnessMeter {
    channels: u16,
    state: EbuR128,
}

impl LoudnessMeter {
    pub(super) fn new(channels: u16, rate: u32) -> Result<Self, Error> {
        let mode = Mode::I | Mode::LRA | Mode::TRUE_PEAK | Mode::HISTOGRAM;
        Ok(Self {
            channels,
            state: EbuR128::new(u32::from(channels), rate, mode)?,
        })
    }

    /// `None` where nothing was above the absolute gate.
    pub(super) fn loudness(&self) -> Option<Loudness> {
        let integrated = self.state.loudness_global().ok().filter(|it| it.is_finite())?;
        let range = self.state.loudness_range().ok()?;
        let peaks = (0..u32::from(self.channels)).filter_map(|it| self.state.true_peak(it).ok());
        let hundredth = |it: f64| (it * 100.0).round() / 100.0;
        Some(Loudness {
            integrated: hundredth(integrated),
            range: hundredth(range),
            true_peak: hundredth(20.0 * peaks.fold(0.0, f64::max).log10()),
            gain: None,
        })
    }

    pub(super) fn handle_samples(&mut self, samples: &[f32]) {
        // the only error is of a count that the channels do not divide
        let _ = self.state.add_frames_f32(samples);
    }
}

impl fmt::Debug for LoudnessMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoudnessMeter").finish_non_exhaustive()
    }
}
