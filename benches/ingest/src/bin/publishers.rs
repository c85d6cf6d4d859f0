//! Publishes a clip many times at once, at real time, by WHIP.
//!
//! Reads where to from a file, a line `NAME URL [TOKEN]` a publisher. Says each second how it stands, as a line of JSON; on the
//! end of its standard input it ends, and says what became of each publisher.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use clap::Parser;
use loom_bench_ingest::load::clip::Clip;
use loom_bench_ingest::load::link::Identity;
use loom_bench_ingest::load::publisher::{Load, Report, Totals, parse_target, publish, unix};
use serde_json::{Value, json};
use tokio::sync::watch;

#[derive(Parser)]
struct Asked {
    /// A line `NAME URL [TOKEN]` a publisher.
    #[arg(long)]
    targets: PathBuf,
    /// A folder with `pictures` and `sounds`.
    #[arg(long)]
    clip: PathBuf,
    /// Pictures a second.
    #[arg(long, default_value_t = 30)]
    rate: u32,
    /// Seconds over which they begin, evenly.
    #[arg(long, default_value_t = 0.0)]
    ramp: f64,
    /// Packets of a million that are kept back and sent only when asked for.
    #[arg(long, default_value_t = 0)]
    lose: u32,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Seconds between the last media and the goodbye.
    #[arg(long, default_value_t = 1.5)]
    linger: f64,
}

fn main() -> Result<()> {
    let asked = Asked::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(asked.threads)
        .enable_all()
        .build()?;
    runtime.block_on(run(asked))
}

async fn run(asked: Asked) -> Result<()> {
    let text =
        std::fs::read_to_string(&asked.targets).with_context(|| asked.targets.display().to_string())?;
    let targets: Vec<_> = text.lines().filter_map(parse_target).collect();
    let (stop, stopped) = watch::channel(false);
    let load = Arc::new(Load {
        identity: Identity::generate()?,
        clip: Clip::read(&asked.clip, asked.rate)?,
        lose_of_million: asked.lose,
        totals: Totals::default(),
        stop: stopped,
        linger: Duration::from_secs_f64(asked.linger),
    });
    let step = Duration::from_secs_f64(asked.ramp / targets.len().max(1) as f64);
    let mut running = Vec::new();
    for (index, target) in targets.into_iter().enumerate() {
        let load = Arc::clone(&load);
        running.push(tokio::spawn(async move {
            tokio::time::sleep(step * index as u32).await;
            publish(load, target).await
        }));
    }
    let (ended, mut end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = second.tick() => println!("{}", standing(&load.totals)),
            _ = &mut end => break,
        }
    }
    println!("{}", standing(&load.totals));
    stop.send(true)?;
    let mut reports = Vec::new();
    for publisher in running {
        reports.push(told(&publisher.await?));
    }
    println!("{}", json!({ "publishers": reports }));
    Ok(())
}

fn standing(totals: &Totals) -> Value {
    json!({
        "at": unix(SystemTime::now()),
        "connected": totals.connected.load(Ordering::Relaxed),
        "failed": totals.failed.load(Ordering::Relaxed),
        "payload_bytes": totals.payload_bytes.load(Ordering::Relaxed),
        "late": totals.late_micros.swap(0, Ordering::Relaxed) as f64 / 1e6,
    })
}

fn told(report: &Report) -> Value {
    json!({
        "name": report.name,
        "posted": report.posted,
        "answered": report.answered.as_secs_f64(),
        "connected": report.connected.map(|after| after.as_secs_f64()),
        "profile": report.profile,
        "pictures": report.pictures,
        "sounds": report.sounds,
        "packets": report.packets,
        "kept_back": report.kept_back,
        "asked_again": report.asked_again,
        "sent_again": report.sent_again,
        "key_requests": report.key_requests,
        "reports": report.reports,
        "congestion_reports": report.congestion_reports,
        "error": report.error,
    })
}
