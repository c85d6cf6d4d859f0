//! How many live sessions a device carries; what `make cuda` prints:
//!
//!     sessions MODEL WAV DEVICE [SECONDS]
//!
//! WAV is 16-bit mono at 16 kHz, heard over and over; DEVICE as in `LOOM_DEVICE`. Sessions double, each lot fed as fast as it is spoken for
//! SECONDS (20), until captions are late. A caption's delay is from the last sound that it was made of being there to the caption being there.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loom_ai::{AiError, CaptionOutput, Captioner, CaptionerConfig, Download, Model, ModelConfig};
use loom_core::{MediaTime, PcmFrame};

/// Samples of a frame of 20 ms.
const FRAME: usize = 320;
/// Nobody reads along with captions that come later, at the 95th percentile.
const LATE: Duration = Duration::from_secs(1);
/// Sessions that are tried at most.
const MOST: usize = 4_096;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (paths, device, seconds) = match arguments.as_slice() {
        [model, wav, device] => ((model, wav), device, 20),
        [model, wav, device, seconds] => ((model, wav), device, seconds.parse()?),
        _ => return Err("usage: sessions MODEL WAV DEVICE [SECONDS]".into()),
    };
    let mut config = ModelConfig::default();
    config.path = Some(paths.0.into());
    config.download = Download::Never;
    config.device = device.parse()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    let model = Model::load(&Model::locate(&config, &mut |_| ())?, threads.min(64))?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{} on {}, loaded in {:.2?}",
        model.name(),
        model.device(),
        begun.elapsed()
    )?;
    let pcm = sound(paths.1)?;
    writeln!(out, "sessions  captions  median      p95")?;
    let mut count = 1;
    while count <= MOST {
        let mut delays = together(&model, &pcm, count, Duration::from_secs(seconds))?;
        delays.sort_unstable();
        let at = |share: usize| {
            delays
                .get(delays.len() * share / 100)
                .copied()
                .unwrap_or_default()
        };
        let (median, p95) = (at(50), at(95));
        writeln!(out, "{count:8}  {:8}  {median:>6.0?}  {p95:>7.0?}", delays.len())?;
        if p95 > LATE {
            break;
        }
        count *= 2;
    }
    Ok(())
}

fn sound(path: &str) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
    let wav = std::fs::read(path)?;
    let data = wav
        .windows(4)
        .position(|it| it == b"data")
        .ok_or("no chunk of data")?
        + 8;
    let samples = wav.get(data..).unwrap_or_default().as_chunks::<2>().0;
    Ok(samples
        .iter()
        .map(|it| f32::from(i16::from_le_bytes(*it)) / 32_768.0)
        .collect())
}

/// The delays of all captions of so many sessions, which begin evenly spread over a second and anywhere in the sound.
fn together(
    model: &Arc<Model>,
    pcm: &[f32],
    count: usize,
    lasts: Duration,
) -> Result<Vec<Duration>, Box<dyn std::error::Error>> {
    std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..count)
            .map(|index| {
                let from = pcm.len() * index / count;
                let after = Duration::from_secs(1) * index as u32 / count as u32;
                scope.spawn(move || session(model, pcm, from, after, lasts))
            })
            .collect();
        let mut all = Vec::new();
        for it in sessions {
            all.extend(it.join().map_err(|_| "a session ended badly")??);
        }
        Ok(all)
    })
}

fn session(
    model: &Arc<Model>,
    pcm: &[f32],
    from: usize,
    after: Duration,
    lasts: Duration,
) -> Result<Vec<Duration>, AiError> {
    let mut captioner = Captioner::new(CaptionerConfig::default(), Arc::clone(model))?;
    let mut delays = Vec::new();
    std::thread::sleep(after);
    let begun = Instant::now();
    let mut sound = pcm.iter().copied().cycle().skip(from);
    for number in 0..lasts.as_millis() as u64 / 20 {
        let due = Duration::from_millis(number * 20 + 20);
        if let Some(early) = due.checked_sub(begun.elapsed()) {
            std::thread::sleep(early);
        }
        captioner.handle_lag(begun.elapsed().saturating_sub(due));
        captioner.handle_pcm(PcmFrame {
            pts: MediaTime::from_millis(number as i64 * 20),
            sample_rate: 16_000,
            channels: 1,
            samples: sound.by_ref().take(FRAME).collect(),
        })?;
        while let Some(it) = captioner.poll_output() {
            if matches!(it, CaptionOutput::Cue(_)) {
                delays.push(begun.elapsed().saturating_sub(due));
            }
        }
    }
    Ok(delays)
}
