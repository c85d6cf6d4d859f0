//! Transcribes raw 32-bit float PCM, 16 kHz mono, from standard input:
//!
//!     ffmpeg -v error -i talk.mp3 -f f32le -ac 1 -ar 16000 - | cargo run -p loom-ai --example transcribe -- [txt|json|vtt|srt|live|lines]
//!
//! `live` feeds 20 ms frames and prints each cue with its delay behind the word in sound time; `lines` reads one path of
//! such a file a line and prints its text. The model is found as `LOOM_MODEL` and the cache say.

use std::io::{BufRead, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loom_ai::{
    CaptionOutput, Captioner, CaptionerConfig, Model, ModelConfig, TranscribeConfig, terminal_progress,
    transcribe,
};
use loom_core::{CueState, MediaTime, PcmFrame};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let format = std::env::args().nth(1).unwrap_or_else(|| "txt".to_owned());
    let begun = Instant::now();
    let files = Model::locate(&ModelConfig::from_env(), &mut terminal_progress())?;
    let threads = std::env::var("LOOM_AI_THREADS")
        .ok()
        .and_then(|it| it.parse().ok())
        .unwrap_or(1);
    let model = Model::load(&files, threads)?;
    eprintln!("{} loaded in {:.2?}", model.name(), begun.elapsed());
    let config = TranscribeConfig::default();
    if format == "lines" {
        for path in std::io::stdin().lock().lines() {
            let path = path?;
            let pcm = floats(&std::fs::read(&path)?);
            let begun = Instant::now();
            let it = transcribe(&model, &pcm, &config, |_| ())?;
            eprintln!(
                "{path} {:.2} s in {:.3?}",
                pcm.len() as f32 / 16e3,
                begun.elapsed()
            );
            writeln!(std::io::stdout(), "{path}\t{}", it.text)?;
        }
        return Ok(());
    }
    let mut raw = Vec::new();
    std::io::stdin().read_to_end(&mut raw)?;
    let pcm = floats(&raw);
    let begun = Instant::now();
    if format == "live" {
        live(&model, &pcm)?;
    } else {
        let it = transcribe(&model, &pcm, &config, |_| ())?;
        let text = match format.as_str() {
            "json" => it.to_json(),
            "vtt" => it.to_vtt(),
            "srt" => it.to_srt(),
            _ => it.to_txt(),
        };
        writeln!(std::io::stdout(), "{text}")?;
    }
    let (sound, took) = (pcm.len() as f64 / 16e3, begun.elapsed().as_secs_f64());
    eprintln!(
        "{sound:.1} s of sound in {took:.2} s: {:.3} of real time",
        took / sound
    );
    Ok(())
}

/// Each word's delay: the sound that had been fed when it was first shown, plus the time that decode took, less the
/// instant at which the word ended.
fn live(model: &Arc<Model>, pcm: &[f32]) -> Result<(), Box<dyn std::error::Error>> {
    let mut config = CaptionerConfig::default();
    if let Some(step) = std::env::var("LOOM_AI_STEP").ok().and_then(|it| it.parse().ok()) {
        config.step = Duration::from_millis(step);
    }
    let mut captioner = Captioner::new(config, Arc::clone(model))?;
    let (mut delays, mut in_sound, mut finals, mut shown) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let mut rewritten = 0;
    let mut last_text = String::new();
    let mut text = String::new();
    let mut report = |captioner: &mut Captioner, at: f64, took: f64| {
        while let Some(output) = captioner.poll_output() {
            match output {
                CaptionOutput::Cue(cue) => {
                    for word in cue.words.iter().skip(shown) {
                        delays.push(at + took - word.end.secs_f64());
                        in_sound.push(at - word.end.secs_f64());
                    }
                    if !cue.text.starts_with(last_text.as_str()) {
                        rewritten += 1;
                    }
                    shown = cue.words.len();
                    last_text.clone_from(&cue.text);
                    if cue.state == CueState::Final {
                        finals.push(at + took - cue.end.secs_f64());
                        shown = 0;
                        last_text.clear();
                        text.push_str(&cue.text.replace('\n', " "));
                        text.push(' ');
                    }
                    eprintln!(
                        "{at:7.2} +{took:.2} {:?} #{} {:.2}-{:.2} {}",
                        cue.state,
                        cue.id.0,
                        cue.start.secs_f64(),
                        cue.end.secs_f64(),
                        cue.text.replace('\n', " / ")
                    );
                }
                CaptionOutput::Watermark(mark) if std::env::var_os("LOOM_AI_MARKS").is_some() => {
                    eprintln!("{at:7.2} watermark {:.2}", mark.secs_f64());
                }
                _ => {}
            }
        }
    };
    let mut spent = Duration::ZERO;
    for (index, chunk) in pcm.chunks(320).enumerate() {
        let begun = Instant::now();
        captioner.handle_pcm(PcmFrame {
            pts: MediaTime::from_millis(index as i64 * 20),
            sample_rate: 16_000,
            channels: 1,
            samples: chunk.to_vec(),
        })?;
        let took = begun.elapsed();
        spent += took;
        report(
            &mut captioner,
            (index * 320 + chunk.len()) as f64 / 16e3,
            took.as_secs_f64(),
        );
    }
    let begun = Instant::now();
    captioner.finish()?;
    report(
        &mut captioner,
        pcm.len() as f64 / 16e3,
        begun.elapsed().as_secs_f64(),
    );
    writeln!(std::io::stdout(), "{}", text.trim())?;
    for (name, list) in [
        ("word shown", &mut delays),
        ("in sound time", &mut in_sound),
        ("cue final", &mut finals),
    ] {
        list.sort_by(f64::total_cmp);
        let at = |share: f64| {
            list.get((list.len() as f64 * share) as usize)
                .copied()
                .unwrap_or_default()
        };
        eprintln!(
            "{name}: {} of them, p50 {:.2} s, p95 {:.2} s",
            list.len(),
            at(0.5),
            at(0.95)
        );
    }
    eprintln!("rewritten: {rewritten}; inference {:.2} s", spent.as_secs_f64());
    Ok(())
}

fn floats(raw: &[u8]) -> Vec<f32> {
    raw.chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}
