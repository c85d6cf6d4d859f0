//! A recorder with no server: H.264 that comes on standard input becomes an HLS folder and an MP4 file.
//!
//! `… | cargo run --release -p embed-pipe -- OUTDIR RATE` takes a byte stream (ISO/IEC 14496-10 Annex B) of RATE pictures a second, without
//! pictures that are shown in another order than they are decoded in, and with an access unit delimiter before each, as
//! `ffmpeg -re -i INPUT -an -c:v libx264 -bf 0 -x264-params aud=1 -g 50 -f h264 -` writes it. OUTDIR gets `main.m3u8` with what it names, and
//! `recording.mp4`.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Buf, Bytes, BytesMut};
use loom_engine::{
    DownloadChoice, Engine, EngineConfig, EngineError, MediaTime, PushTrack, Pusher, RecordingId,
    RecordingState,
};
use tokio::runtime::Handle;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(out), Some(rate)) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        bail!("usage: embed-pipe OUTDIR RATE, with H.264 on standard input")
    };
    let rate: f64 = rate
        .to_string_lossy()
        .parse()
        .context("RATE is a number of pictures a second")?;
    std::fs::create_dir_all(&out)?;
    let work = tempfile::tempdir_in(&out)?;
    let mut config = EngineConfig {
        data_dir: work.path().to_owned(),
        ..EngineConfig::default()
    };
    config.ingest.udp.set_port(0); // nobody publishes by WebRTC: any port will do
    let engine = Engine::start(config).await?;
    let recording = engine.create(RecordingId::random())?;
    let pusher = recording.push(vec![PushTrack::H264 { avcc: None }]).await?;
    tokio::task::spawn_blocking(move || read(&pusher, rate)).await??;
    let mut events = recording.events();
    while events.next().await.is_some() {} // until it is complete
    let info = recording.info();
    if info.state == RecordingState::Failed {
        bail!(info.reason.unwrap_or_default())
    }
    recording.export_hls(&out)?;
    let file = recording.download(&DownloadChoice::default()).await?;
    file.write_to(&out.join("recording.mp4"))?;
    println!("{} ({:.1} s)", out.join("main.m3u8").display(), info.duration);
    Ok(())
}

/// Pushes each access unit at its time, to the end of the input.
fn read(pusher: &Pusher, rate: f64) -> anyhow::Result<()> {
    let (mut input, mut some) = (std::io::stdin().lock(), [0; 1 << 16]);
    let (mut bytes, mut number) = (BytesMut::new(), 0);
    let mut push = |unit: Bytes| {
        let at = MediaTime::from_secs_f64(f64::from(number) / rate);
        number += 1;
        loop {
            match pusher.packet(0, at, at, unit.clone()) {
                // it comes faster than it is shown: the queue is full for a while
                Err(EngineError::Behind) => {
                    Handle::current().block_on(tokio::time::sleep(Duration::from_millis(50)))
                }
                done => return done,
            }
        }
    };
    loop {
        let got = input.read(&mut some)?;
        bytes.extend_from_slice(&some[..got]);
        while let Some(end) = next_unit(&bytes) {
            push(bytes.split_to(end).freeze())?;
        }
        if got == 0 {
            if bytes.has_remaining() {
                push(bytes.freeze())?;
            }
            return Ok(());
        }
    }
}

/// Where the access unit behind the first begins.
fn next_unit(bytes: &[u8]) -> Option<usize> {
    const DELIMITER: [u8; 5] = [0, 0, 0, 1, 9];
    let mut windows = bytes.windows(DELIMITER.len()).skip(1);
    windows.position(|it| it == DELIMITER).map(|at| at + 1)
}
