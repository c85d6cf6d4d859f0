//! Pictures that this program draws and a tone that it hums become an HLS folder: no WebRTC, no server.
//!
//! `cargo run --release -p embed-draw -- OUTDIR SECONDS` takes as long as it records, and writes `OUTDIR/main.m3u8` and what it names.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use loom_engine::{Engine, EngineConfig, I420, MediaTime, PushTrack, RecordingId, RecordingState};

const WIDTH: usize = 640;
const HEIGHT: usize = 360;
/// Pictures a second.
const RATE: u64 = 25;
/// Samples a second.
const SOUND: u64 = 48_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let out = PathBuf::from(arguments.next().context("usage: embed-draw OUTDIR SECONDS")?);
    let seconds = arguments.next().unwrap_or("10".into());
    let seconds: u64 = seconds
        .to_string_lossy()
        .parse()
        .context("SECONDS is a whole number")?;
    std::fs::create_dir_all(&out)?;
    let work = tempfile::tempdir_in(&out)?;
    let mut config = EngineConfig {
        data_dir: work.path().to_owned(),
        ..EngineConfig::default()
    };
    config.ingest.udp.set_port(0); // nobody publishes by WebRTC: any port will do
    let engine = Engine::start(config).await?;
    let recording = engine.create(RecordingId::random())?;
    let pictures = PushTrack::Pictures {
        width: WIDTH as u32,
        height: HEIGHT as u32,
        frame_rate: RATE as f64,
    };
    let sound = PushTrack::Sound {
        sample_rate: SOUND as u32,
        channels: 1,
    };
    let pusher = recording.push(vec![pictures, sound]).await?;
    let began = Instant::now();
    for number in 0..seconds * RATE {
        let at = MediaTime::from_millis((number * 1_000 / RATE) as i64);
        tokio::time::sleep_until((began + Duration::from_millis(number * 1_000 / RATE)).into()).await;
        let (luma, chroma) = draw(number);
        let picture = I420 {
            planes: [&luma, &chroma, &chroma],
            strides: [WIDTH, WIDTH / 2, WIDTH / 2],
        };
        pusher.picture(0, at, &picture)?;
        pusher.sound(1, at, &hum(number * SOUND / RATE))?;
    }
    pusher.finish();
    let mut events = recording.events();
    while events.next().await.is_some() {} // until it is complete
    let info = recording.info();
    if info.state == RecordingState::Failed {
        bail!(info.reason.unwrap_or_default())
    }
    recording.export_hls(&out)?;
    println!("{} ({:.1} s)", out.join("main.m3u8").display(), info.duration);
    Ok(())
}

/// A bright bar that wanders over grey.
fn draw(number: u64) -> (Vec<u8>, Vec<u8>) {
    let bar = (number as usize * 8) % WIDTH;
    let row: Vec<u8> = (0..WIDTH)
        .map(|x| if (bar..bar + 40).contains(&x) { 220 } else { 90 })
        .collect();
    (row.repeat(HEIGHT), vec![128; WIDTH / 2 * HEIGHT / 2])
}

/// 440 Hz for the time of one picture.
fn hum(from: u64) -> Vec<f32> {
    let sample = |at: u64| (at as f64 / SOUND as f64 * 440.0 * std::f64::consts::TAU).sin() as f32 * 0.3;
    (from..from + SOUND / RATE).map(sample).collect()
}
