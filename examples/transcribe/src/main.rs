//! A sound or film file to text:
//!
//!     cargo run --release -p transcribe -- FILE [--model DIR-or-FILE] [--format txt|json|vtt|srt|gist|brief] [--live]
//!
//! The text goes to standard output, the progress bar to the terminal. Without `--model` the model is found as `LOOM_MODEL` and the
//! cache say, and downloaded once where neither has one. Nothing else uses the network.

mod sound;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use loom_ai::{
    Brief, CaptionOutput, Captioner, CaptionerConfig, Gist, LocalTextModel, LocalTextModelConfig, Model,
    ModelConfig, Task, TranscribeConfig, terminal_progress, transcribe,
};
use loom_core::{CueState, MediaTime, PcmFrame};

/// A sound or film file to text.
#[derive(Debug, Parser)]
struct Arguments {
    /// WAV, FLAC, MP3, AAC, Ogg Vorbis, MP4, Matroska or AIFF.
    file: PathBuf,
    /// A folder with model.safetensors, or a .safetensors, ggml or .pt file.
    #[arg(long)]
    model: Option<PathBuf>,
    /// The language model of `--format brief`: a .gguf file, or OWNER/NAME/FILE.gguf on the Hugging Face hub.
    #[arg(long, required_if_eq("format", "brief"))]
    text_model: Option<String>,
    /// What to write.
    #[arg(long, value_enum, default_value_t = Format::Txt)]
    format: Format,
    /// Captions as they would come if the file were spoken now, one line for each that is final, as fast as the machine can.
    #[arg(long)]
    live: bool,
    /// ISO 639-1 code; found out where it is left out.
    #[arg(long)]
    language: Option<String>,
    /// Write an English translation. A multilingual model only.
    #[arg(long)]
    translate: bool,
    /// What it is about, or names and terms that are said in it.
    #[arg(long, default_value = "")]
    prompt: String,
    /// Answers followed at once, 1 to 8: more are slower and a little truer.
    #[arg(long, default_value_t = 1)]
    beam: usize,
    /// Threads that share the work.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Paragraphs.
    Txt,
    /// Segments and words with times and confidence.
    Json,
    /// WebVTT.
    Vtt,
    /// SubRip.
    Srt,
    /// Chapters, key phrases, summary and action items as JSON.
    Gist,
    /// Title, summary and action items that a language model writes, as JSON.
    Brief,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut config = ModelConfig::from_env();
    config.path = arguments.model.clone().or(config.path);
    let files = Model::locate(&config, &mut terminal_progress())?;
    let model = Model::load(&files, arguments.threads)?;
    let pcm = sound::read(&arguments.file)?;
    let begun = Instant::now();
    if arguments.live {
        live(&model, &pcm, &arguments)?;
    } else {
        whole(&model, &pcm, &arguments)?;
    }
    let (sound, took) = (
        pcm.len() as f64 / f64::from(sound::RATE),
        begun.elapsed().as_secs_f64(),
    );
    eprintln!("{sound:.1} s of sound in {took:.1} s with {}", model.name());
    Ok(())
}

fn whole(model: &Model, pcm: &[f32], arguments: &Arguments) -> anyhow::Result<()> {
    let mut config = TranscribeConfig::default();
    config.language.clone_from(&arguments.language);
    config.initial_prompt = Some(arguments.prompt.clone()).filter(|it| !it.is_empty());
    config.beam = arguments.beam;
    if arguments.translate {
        config.task = Task::Translate;
    }
    let bar =
        ProgressBar::new(1_000).with_style(ProgressStyle::with_template("{wide_bar} {percent}% {eta} left")?);
    let said = transcribe(model, pcm, &config, |share| {
        bar.set_position((share * 1e3) as u64)
    })?;
    bar.finish_and_clear();
    let text = match arguments.format {
        Format::Txt => said.to_txt(),
        Format::Json => said.to_json(),
        Format::Vtt => said.to_vtt(),
        Format::Srt => said.to_srt(),
        Format::Gist => serde_json::to_string_pretty(&Gist::of(&said))?,
        Format::Brief => {
            let mut config = LocalTextModelConfig::new(arguments.text_model.as_deref().unwrap_or_default());
            config.threads = arguments.threads;
            let files = LocalTextModel::locate(&config, &mut terminal_progress())?;
            let model = LocalTextModel::load(&files, &config)?;
            serde_json::to_string_pretty(&Brief::of(&said, &model)?)?
        }
    };
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    Ok(())
}

/// Feeds frames of 20 ms, and tells how long after its last word each cue was final: the sound that had come by then, and the time
/// that the decode took.
fn live(model: &Arc<Model>, pcm: &[f32], arguments: &Arguments) -> anyhow::Result<()> {
    let mut config = CaptionerConfig::default();
    config.language.clone_from(&arguments.language);
    let mut captioner = Captioner::new(config, Arc::clone(model))?;
    let mut out = std::io::stdout();
    let mut tell = |captioner: &mut Captioner, heard: MediaTime, took: Duration| -> anyhow::Result<()> {
        while let Some(output) = captioner.poll_output() {
            if let CaptionOutput::Cue(cue) = output
                && cue.state == CueState::Final
            {
                let late = heard.since(cue.end) + took;
                writeln!(
                    out,
                    "{} (+{:.1} s) {}",
                    cue.start,
                    late.as_secs_f64(),
                    cue.text.replace('\n', " / ")
                )?;
            }
        }
        Ok(())
    };
    for (index, samples) in pcm.chunks(sound::FRAME).enumerate() {
        let begun = Instant::now();
        let frame = PcmFrame {
            pts: MediaTime::from_millis(index as i64 * 20),
            sample_rate: sound::RATE,
            channels: 1,
            samples: samples.to_vec(),
        };
        let heard = frame.end();
        captioner.handle_pcm(frame)?;
        tell(&mut captioner, heard, begun.elapsed())?;
    }
    let begun = Instant::now();
    captioner.finish()?;
    let end = MediaTime::from_millis(pcm.len() as i64 / 16);
    tell(&mut captioner, end, begun.elapsed())
}
