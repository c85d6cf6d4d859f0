use std::collections::VecDeque;
use std::fmt;

use ebur128::{EbuR128, Error, Mode};

/// Makes sound louder by a constant gain, and softer again for the milliseconds in which its true peak would be too high: by a straight line
/// down within [`AHEAD`], and slowly up again. All channels alike, so that nothing moves between them.
pub(super) struct Limiter {
    channels: usize,
    gain: f32,
    ceiling: f32,
    meter: EbuR128,
    /// Interleaved samples of a block that is not full.
    waiting: Vec<f32>,
    /// Blocks that are louder already and wait for those behind them.
    blocks: VecDeque<Block>,
    /// By what the first of them is softened at its beginning.
    edge: f32,
    /// Samples a channel: that came in, and that went out.
    taken: u64,
    given: u64,
}

struct Block {
    samples: Vec<f32>,
    /// By what it is to be multiplied at most.
    needs: f32,
}

impl Limiter {
    /// `gain` in decibels, `ceiling` in dBTP.
    pub(super) fn new(channels: u16, rate: u32, gain: f64, ceiling: f64) -> Result<Self, Error> {
        let factor = |decibels: f64| 10f64.powf(decibels / 20.0) as f32;
        Ok(Self {
            channels: usize::from(channels.max(1)),
            gain: factor(gain),
            ceiling: factor(ceiling - MARGIN),
            meter: EbuR128::new(u32::from(channels.max(1)), rate, Mode::TRUE_PEAK)?,
            waiting: Vec::new(),
            blocks: VecDeque::new(),
            edge: 1.0,
            taken: 0,
            given: 0,
        })
    }

    pub(super) fn handle_samples(&mut self, samples: &[f32]) -> Vec<f32> {
        self.taken += (samples.len() / self.channels) as u64;
        self.run(samples)
    }

    pub(super) fn finish(&mut self) -> Vec<f32> {
        let missing = (self.taken - self.given) as usize * self.channels;
        let silence = vec![0.0; (AHEAD + 3) * BLOCK * self.channels];
        let mut last = self.run(&silence);
        last.truncate(missing);
        self.given = self.taken;
        last
    }

    fn run(&mut self, samples: &[f32]) -> Vec<f32> {
        let mut all = std::mem::take(&mut self.waiting);
        all.extend_from_slice(samples);
        let mut limited = Vec::with_capacity(all.len());
        let mut blocks = all.chunks_exact(BLOCK * self.channels);
        for block in &mut blocks {
            let block = self.measure(block);
            self.blocks.push_back(block);
            self.give(&mut limited);
        }
        self.waiting = blocks.remainder().to_vec();
        self.given += (limited.len() / self.channels) as u64;
        limited
    }

    fn measure(&mut self, block: &[f32]) -> Block {
        let samples: Vec<f32> = block.iter().map(|it| it * self.gain).collect();
        // the only error is of a count that the channels do not divide
        let _ = self.meter.add_frames_f32(&samples);
        let peaks = (0..self.channels as u32).filter_map(|it| self.meter.prev_true_peak(it).ok());
        let peak = peaks.fold(0.0, f64::max) as f32;
        Block {
            needs: if peak > self.ceiling {
                self.ceiling / peak
            } else {
                1.0
            },
            samples,
        }
    }

    /// Gives the first block, once those that may soften it are there.
    fn give(&mut self, limited: &mut Vec<f32>) {
        if self.blocks.len() < AHEAD + 2 {
            return;
        }
        let Some(first) = self.blocks.pop_front() else {
            return;
        };
        let (from, to) = (self.edge, self.edge_behind(first.needs));
        for (at, frame) in first.samples.chunks_exact(self.channels).enumerate() {
            let factor = from + (to - from) * (at as f32 / BLOCK as f32);
            limited.extend(frame.iter().map(|it| it * factor));
        }
        self.edge = to;
    }

    /// By what the sound is softened where a block ends that needs `last`: a peak that shows in one block may lie at the end of the one
    /// before it, for interpolation looks a few samples back.
    fn edge_behind(&self, last: f32) -> f32 {
        let recovered = self.edge + (1.0 - self.edge) * RECOVERY;
        let coming = self.blocks.iter().take(AHEAD + 1).enumerate();
        let lines = coming.map(|(far, block)| {
            let part = far.saturating_sub(1) as f32 / AHEAD as f32;
            block.needs + (1.0 - block.needs) * part
        });
        lines.fold(recovered.min(last), f32::min)
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}

/// Samples of a block: 1 ms.
const BLOCK: usize = 48;
/// Blocks within which the sound is softened before a peak.
const AHEAD: usize = 5;
/// The part of its softening that is taken back in each block: within 80 ms some two thirds.
const RECOVERY: f32 = 0.0124;
/// Decibels that are left to what a changing factor does to peaks between samples.
const MARGIN: f64 = 0.1;
