use std::fmt;

use nnnoiseless::DenoiseState;

/// Suppresses noise, each channel by itself, at 48 kHz. The network looks at windows of two frames, so what it gives for a frame is the one
/// before it: the first is thrown away, and one of silence is put behind the last.
pub(super) struct Suppressor {
    channels: Vec<Channel>,
    /// Interleaved samples of a frame that is not full.
    waiting: Vec<f32>,
    /// Samples a channel: that came in, and that went out.
    taken: u64,
    given: u64,
    begun: bool,
}

struct Channel {
    state: Box<DenoiseState<'static>>,
    frame: [f32; FRAME],
    clean: [f32; FRAME],
}

impl Suppressor {
    pub(super) fn new(channels: u16) -> Self {
        let channel = || Channel {
            state: DenoiseState::new(),
            frame: [0.0; FRAME],
            clean: [0.0; FRAME],
        };
        Self {
            channels: (0..channels.max(1)).map(|_| channel()).collect(),
            waiting: Vec::new(),
            taken: 0,
            given: 0,
            begun: false,
        }
    }

    pub(super) fn handle_samples(&mut self, samples: &[f32]) -> Vec<f32> {
        self.taken += (samples.len() / self.channels.len()) as u64;
        self.run(samples)
    }

    pub(super) fn finish(&mut self) -> Vec<f32> {
        let missing = (self.taken - self.given) as usize * self.channels.len();
        let silence = vec![0.0; 2 * FRAME * self.channels.len()];
        let mut last = self.run(&silence);
        last.truncate(missing);
        self.given = self.taken;
        last
    }

    fn run(&mut self, samples: &[f32]) -> Vec<f32> {
        let count = self.channels.len();
        self.waiting.extend_from_slice(samples);
        let mut clean = Vec::with_capacity(self.waiting.len());
        let mut frames = self.waiting.chunks_exact(FRAME * count);
        for interleaved in &mut frames {
            for (place, channel) in self.channels.iter_mut().enumerate() {
                for (to, from) in channel
                    .frame
                    .iter_mut()
                    .zip(interleaved.iter().skip(place).step_by(count))
                {
                    *to = from * SCALE;
                }
                channel.state.process_frame(&mut channel.clean, &channel.frame);
            }
            if std::mem::replace(&mut self.begun, true) {
                let of = |at: usize| self.channels.iter().map(move |it| it.clean[at] / SCALE);
                clean.extend((0..FRAME).flat_map(of));
            }
        }
        self.waiting = frames.remainder().to_vec();
        self.given += (clean.len() / count) as u64;
        clean
    }
}

impl fmt::Debug for Suppressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suppressor").finish_non_exhaustive()
    }
}

/// 10 ms.
const FRAME: usize = DenoiseState::FRAME_SIZE;
/// The network has learnt from samples of 16 bits.
const SCALE: f32 = 32_768.0;
