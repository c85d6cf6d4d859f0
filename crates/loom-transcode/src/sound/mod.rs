//! What is done with decoded sound before it is encoded: noise is suppressed, then it is made as loud as was decided, then measured.

#[cfg(feature = "gst")]
mod limiter;
#[cfg(feature = "gst")]
mod meter;
#[cfg(feature = "gst")]
mod suppressor;

use serde::{Deserialize, Serialize};

#[cfg(feature = "gst")]
use limiter::Limiter;
#[cfg(feature = "gst")]
use meter::LoudnessMeter;
#[cfg(feature = "gst")]
use suppressor::Suppressor;

#[cfg(feature = "gst")]
use crate::error::TranscodeError;
#[cfg(feature = "gst")]
use crate::plan::{AAC_RATE, AudioPlan};

/// How loud a sound is from its beginning to its end (EBU R 128, EBU Tech 3341 and 3342, ITU-R BS.1770-4), to 0.1 LU.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loudness {
    /// Integrated loudness, LUFS. One channel is measured as one channel: played by two loudspeakers it is 3 LU louder.
    pub integrated: f64,
    /// Loudness range, LU; 0 for less than 3 s.
    pub range: f64,
    /// The highest true peak of all channels, dBTP.
    pub true_peak: f64,
    /// The decibels by which it was made louder before it was measured, where that was wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<f64>,
}

/// What is to be done with sound that is encoded here. What is kept as it came, and what captions hear, stays as it is: Whisper has learnt from
/// noise. With pink noise 21 dB below speech `tiny.en` mistook 23 words of 147 as they came, and 28 with the noise suppressed; 12 dB
/// below, where few can listen, 30 and 22 of 81.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SoundTreatment {
    /// Whether noise is suppressed (RNNoise: Valin, "A Hybrid DSP/Deep Learning Approach to Real-Time Full-Band Speech Enhancement", 2018),
    /// each channel by itself. It is made for speech: it takes music for noise.
    pub suppress_noise: bool,
    /// How loud a file's sound is to be; `None`: as loud as it came. Live it is of no effect: how loud a recording will have been is not known
    /// before its end.
    pub loudness: Option<LoudnessTarget>,
}

/// How loud a sound is to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoudnessTarget {
    /// Integrated loudness, LUFS.
    #[serde(with = "crate::exact")]
    pub integrated: f64,
    /// The highest true peak before encoding, dBTP: what would be above it is made softer for some milliseconds.
    #[serde(with = "crate::exact")]
    pub true_peak: f64,
}

impl Default for LoudnessTarget {
    /// -16 LUFS, the loudest of the -20 to -16 LUFS that AES TD1004.1.15-10 has for streams and files, with its -1 dBTP.
    fn default() -> Self {
        Self {
            integrated: -16.0,
            true_peak: -1.0,
        }
    }
}

/// Does with an unbroken line of samples what a plan wants. As many samples come out as go in, each for the instant of its own; they come out up
/// to 30 ms after those of later instants have gone in.
#[cfg(feature = "gst")]
#[derive(Debug)]
pub(crate) struct SoundConditioner {
    suppressor: Option<Suppressor>,
    limiter: Option<Limiter>,
    meter: LoudnessMeter,
    gain: Option<f64>,
}

#[cfg(feature = "gst")]
impl SoundConditioner {
    pub(crate) fn new(plan: &AudioPlan) -> Result<Self, TranscodeError> {
        let refused = |why: ebur128::Error| TranscodeError::Graph {
            graph: "audio",
            why: format!("loudness is not measured: {why}"),
        };
        let limiter = plan.gain.zip(plan.loudness).map(|(gain, target)| {
            Limiter::new(plan.channels, AAC_RATE, gain, target.true_peak).map_err(refused)
        });
        Ok(Self {
            suppressor: plan.suppresses_noise.then(|| Suppressor::new(plan.channels)),
            limiter: limiter.transpose()?,
            meter: LoudnessMeter::new(plan.channels, AAC_RATE).map_err(refused)?,
            gain: plan.gain,
        })
    }

    /// How loud what came out was; `None` where nothing was above the absolute gate of -70 LUFS.
    pub(crate) fn loudness(&self) -> Option<Loudness> {
        let measured = self.meter.loudness()?;
        Some(Loudness {
            gain: self.gain,
            ..measured
        })
    }

    /// Takes interleaved samples at 48 kHz, and gives what is ready.
    pub(crate) fn handle_samples(&mut self, samples: Vec<f32>) -> Vec<f32> {
        let mut ready = samples;
        if let Some(suppressor) = &mut self.suppressor {
            ready = suppressor.handle_samples(&ready);
        }
        if let Some(limiter) = &mut self.limiter {
            ready = limiter.handle_samples(&ready);
        }
        self.meter.handle_samples(&ready);
        ready
    }

    /// No more samples come; gives the last.
    pub(crate) fn finish(&mut self) -> Vec<f32> {
        let mut ready = Vec::new();
        if let Some(suppressor) = &mut self.suppressor {
            ready = suppressor.finish();
        }
        if let Some(limiter) = &mut self.limiter {
            ready = limiter.handle_samples(&ready);
            ready.extend(limiter.finish());
        }
        self.meter.handle_samples(&ready);
        ready
    }
}
