//! Captions and nothing else: sound that comes on standard input is written down while it comes.
//!
//! `… | cargo run --release -p embed-captions` takes 16 kHz mono samples of 16 bits, as `ffmpeg -re -i INPUT -ac 1 -ar 16000 -f s16le -` writes
//! them, and prints each line with the second at which it was said.

use std::io::Read;

use anyhow::Context;
use loom_ai::{CaptionOutput, Captioner, CaptionerConfig, Model, ModelConfig, terminal_progress};
use loom_core::{CueState, MediaTime, PcmFrame, Timescale};

const RATE: u32 = 16_000;

fn main() -> anyhow::Result<()> {
    let files = Model::locate(&ModelConfig::from_env(), &mut terminal_progress())?;
    let mut captioner = Captioner::new(CaptionerConfig::default(), Model::load(&files, 1)?)?;
    let scale = Timescale::new(RATE).context("a rate above zero")?;
    let (mut input, mut number) = (std::io::stdin().lock(), 0);
    loop {
        let mut bytes = Vec::new();
        input
            .by_ref()
            .take(u64::from(RATE / 50) * 2)
            .read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            break;
        }
        let (pairs, _) = bytes.as_chunks::<2>();
        let samples: Vec<f32> = pairs
            .iter()
            .map(|it| f32::from(i16::from_le_bytes(*it)) / 32_768.0)
            .collect();
        let pts = MediaTime::from_ticks(number, scale);
        number += samples.len() as i64;
        captioner.handle_pcm(PcmFrame {
            pts,
            sample_rate: RATE,
            channels: 1,
            samples,
        })?;
        print(&mut captioner);
    }
    captioner.finish()?;
    print(&mut captioner);
    Ok(())
}

/// Each line once, in its last form; those before it are what a viewer would see grow.
fn print(captioner: &mut Captioner) {
    while let Some(output) = captioner.poll_output() {
        if let CaptionOutput::Cue(cue) = output
            && cue.state == CueState::Final
        {
            println!("{} {}", cue.start, cue.text.replace('\n', " "));
        }
    }
}
