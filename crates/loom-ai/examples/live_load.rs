//! Many live captioners on one model, each fed in real time; what `make bench-live` measures:
//!
//!     live_load MODEL PCM THREADS FROM-TO...
//!
//! PCM is 16 kHz mono f32; each FROM-TO, in samples, is a session that hears that stretch of it, all at once. Each cue is a line of JSON:
//! the session, the seconds from its first sample being due to the cue being there, the cue's id, whether it is final, and each word
//! with its end in seconds. How late a word is, and whether it is right, is for others to judge.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loom_ai::{AiError, CaptionOutput, Captioner, CaptionerConfig, Download, Model, ModelConfig};
use loom_core::{Cue, CueState, MediaTime, PcmFrame};

/// Samples of a frame of 20 ms.
const FRAME: usize = 320;
/// Sessions begin this long after each other, so that their decodes are not all due at once.
const APART: Duration = Duration::from_millis(170);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, pcm, threads, spans @ ..] = arguments.as_slice() else {
        return Err("usage: live_load MODEL PCM THREADS FROM-TO...".into());
    };
    let mut config = ModelConfig::default();
    config.path = Some(model.into());
    config.download = Download::Never;
    let model = Model::load(&Model::locate(&config, &mut |_| ())?, threads.parse()?)?;
    let raw = std::fs::read(pcm)?;
    let pcm: Vec<f32> = raw
        .as_chunks::<4>()
        .0
        .iter()
        .map(|it| f32::from_le_bytes(*it))
        .collect();
    let spans: Result<Vec<Range<usize>>, _> = spans.iter().map(|it| span(it, pcm.len())).collect();
    std::thread::scope(|scope| {
        let sessions: Vec<_> = spans?
            .into_iter()
            .enumerate()
            .map(|(index, span)| {
                let (model, pcm) = (Arc::clone(&model), &pcm[span]);
                scope.spawn(move || session(index, model, pcm))
            })
            .collect();
        for it in sessions {
            it.join().map_err(|_| "a session ended badly")??;
        }
        Ok(())
    })
}

fn span(text: &str, length: usize) -> Result<Range<usize>, Box<dyn std::error::Error>> {
    let (from, to) = text.split_once('-').ok_or("a stretch is FROM-TO")?;
    let it = from.parse()?..to.parse()?;
    if it.start > it.end || it.end > length {
        return Err(format!("{text} lies outside the {length} samples there are").into());
    }
    Ok(it)
}

fn session(index: usize, model: Arc<Model>, pcm: &[f32]) -> Result<(), AiError> {
    let mut captioner = Captioner::new(CaptionerConfig::default(), model)?;
    std::thread::sleep(APART * index as u32);
    let begun = Instant::now();
    for (number, samples) in pcm.chunks_exact(FRAME).enumerate() {
        let due = Duration::from_millis(number as u64 * 20 + 20);
        if let Some(early) = due.checked_sub(begun.elapsed()) {
            std::thread::sleep(early);
        }
        captioner.handle_lag(begun.elapsed().saturating_sub(due));
        captioner.handle_pcm(PcmFrame {
            pts: MediaTime::from_millis(number as i64 * 20),
            sample_rate: 16_000,
            channels: 1,
            samples: samples.to_vec(),
        })?;
        tell(index, &mut captioner, begun);
    }
    captioner.finish()?;
    tell(index, &mut captioner, begun);
    Ok(())
}

fn tell(session: usize, captioner: &mut Captioner, begun: Instant) {
    while let Some(output) = captioner.poll_output() {
        if let CaptionOutput::Cue(cue) = output {
            let line = line(session, begun.elapsed().as_secs_f64(), &cue);
            // Whoever reads has gone: there is nobody to tell.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

fn line(session: usize, at: f64, cue: &Cue) -> serde_json::Value {
    let words: Vec<_> = cue.words.iter().map(|it| (&it.text, it.end.secs_f64())).collect();
    serde_json::json!({
        "session": session,
        "at": at,
        "cue": cue.id.0,
        "final": cue.state == CueState::Final,
        "words": words,
    })
}
