//! A media file in; an HLS folder and a transcript out.
//!
//! `cargo run --release -p embed-file -- INPUT OUTDIR` writes `OUTDIR/main.m3u8`, what it names, and
//! `OUTDIR/transcript.{txt,vtt,srt,json}`.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use loom_engine::{Engine, EngineConfig, Event, RecordingId, RecordingState};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (Some(input), Some(out)) = (arguments.next(), arguments.next()) else {
        bail!("usage: embed-file INPUT OUTDIR")
    };
    fs::create_dir_all(&out)?;
    let work = tempfile::tempdir_in(&out)?;
    let mut config = EngineConfig {
        data_dir: work.path().to_owned(),
        ..EngineConfig::default()
    };
    config.ingest.udp.set_port(0); // nobody publishes by WebRTC: any port will do
    let engine = Engine::start(config).await?;
    let recording = engine.create(RecordingId::random())?;
    let mut events = recording.events();
    let copy = work.path().join("input"); // the engine takes the file over, so it gets one of its own
    fs::copy(&input, &copy).with_context(|| format!("read {}", input.display()))?;
    recording.import(copy).await?;

    let bar =
        ProgressBar::new(1_000).with_style(ProgressStyle::with_template("{msg:>10} {wide_bar} {percent}%")?);
    while let Some(event) = events.next().await {
        match event {
            Event::Progress { stage, fraction } => {
                bar.set_message(stage);
                bar.set_position((fraction * 1_000.0) as u64);
            }
            Event::State {
                state: RecordingState::Failed | RecordingState::Deleted,
                reason,
                ..
            } => bail!(reason.unwrap_or_default()),
            _ => {}
        }
    }
    bar.finish_and_clear();
    recording.export_hls(&out)?;
    match recording.transcript() {
        Some(said) => {
            fs::write(out.join("transcript.txt"), said.to_txt())?;
            fs::write(out.join("transcript.vtt"), said.to_vtt())?;
            fs::write(out.join("transcript.srt"), said.to_srt())?;
            fs::write(out.join("transcript.json"), said.to_json())?;
        }
        None => println!("{}", engine.captions()),
    }
    println!(
        "{} ({:.1} s)",
        out.join("main.m3u8").display(),
        recording.info().duration
    );
    Ok(())
}
