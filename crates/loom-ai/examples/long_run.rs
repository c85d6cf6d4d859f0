//! Hours of sound, as fast as the machine can, through one live captioner and, in stretches of ten minutes as the engine cuts them, through
//! the pass afterwards; what `make long-speech` runs:
//!
//!     long_run MODEL PCM HOURS
//!
//! PCM is 16 kHz mono f32 and begins again at its end. Each stretch is a line: hours, cues so far, words of the stretch, resident MiB. It
//! fails where memory has grown by more than 16 MiB since the second stretch.

use std::io::Write;

use loom_ai::{
    CaptionOutput, Captioner, CaptionerConfig, Download, Model, ModelConfig, TranscribeConfig, transcribe,
};
use loom_core::{CueState, MediaTime, PcmFrame};

const RATE: usize = 16_000;
/// Samples of a stretch.
const STRETCH: usize = 600 * RATE;
/// MiB that memory may grow.
const MOST_GROWTH: u64 = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, pcm, hours] = arguments.as_slice() else {
        return Err("usage: long_run MODEL PCM HOURS".into());
    };
    let mut config = ModelConfig::default();
    config.path = Some(model.into());
    config.download = Download::Never;
    let model = Model::load(&Model::locate(&config, &mut |_| ())?, 1)?;
    let raw = std::fs::read(pcm)?;
    let pcm: Vec<f32> = raw
        .as_chunks::<4>()
        .0
        .iter()
        .map(|it| f32::from_le_bytes(*it))
        .collect();
    drop(raw);
    let mut sound = pcm.iter().copied().cycle();
    let mut captioner = Captioner::new(CaptionerConfig::default(), model.clone())?;
    let (mut cues, mut settled) = (0, None);
    let stretches = (hours.parse::<f64>()? * 6.0).ceil() as u64;
    for number in 0..stretches {
        let stretch: Vec<f32> = sound.by_ref().take(STRETCH).collect();
        for (index, samples) in stretch.chunks(320).enumerate() {
            captioner.handle_pcm(PcmFrame {
                pts: MediaTime::from_millis(number as i64 * 600_000 + index as i64 * 20),
                sample_rate: RATE as u32,
                channels: 1,
                samples: samples.to_vec(),
            })?;
            while let Some(output) = captioner.poll_output() {
                let ended = matches!(output, CaptionOutput::Cue(cue) if cue.state == CueState::Final);
                cues += u64::from(ended);
            }
        }
        let mut config = TranscribeConfig::default();
        config.start = MediaTime::from_millis(number as i64 * 600_000);
        let said = transcribe(&model, &stretch, &config, |_| ())?;
        let words = said.text.split_whitespace().count();
        let resident = resident()?;
        let hours = (number + 1) as f64 / 6.0;
        writeln!(
            std::io::stdout(),
            "{hours:.2} h, {cues} cues, {words} words, {resident} MiB"
        )?;
        if number == 1 {
            settled = Some(resident);
        }
        if settled.is_some_and(|it| resident > it + MOST_GROWTH) {
            return Err(format!("memory has grown from {settled:?} to {resident} MiB").into());
        }
    }
    Ok(())
}

/// MiB of this process that are in memory.
fn resident() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
    let kib = line.and_then(|it| it.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kib.unwrap_or_default() / 1024)
}
