//! Opens many connections to an HTTP server and asks on each, again and again, what a low-latency player would ask: the playlist with
//! the next part, or the next part itself; or, of a server of files, one file at the pace at which parts come.
//!
//! Says at the end, as one line of JSON: answers, bytes, refusals, seconds, for parts how long after the disk had them they
//! were here (by the change time of the segment's file), and for a file how long after its round began.

mod connection;
mod viewer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use serde_json::json;
use tokio::time::sleep;

use crate::viewer::{Part, Playing, Tally, Watched};

#[derive(Parser)]
struct Asked {
    /// Where the server is.
    #[arg(long)]
    address: SocketAddr,
    /// The path of a media playlist, or of the file.
    #[arg(long)]
    path: String,
    #[arg(long)]
    ask: Ask,
    /// Connections.
    #[arg(long, default_value_t = 1_000)]
    viewers: usize,
    /// Seconds that are measured, once all are connected.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// For files: milliseconds between two rounds, in each of which every viewer asks once. 0: each asks again at once.
    #[arg(long, default_value_t = 334)]
    every: u64,
    /// The rendition's folder on the server's disk, where it can be seen: how late parts are is measured by it.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Ask for gzip.
    #[arg(long)]
    gzip: bool,
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ask {
    /// Blocking playlist reloads.
    Playlists,
    /// Parts, each as soon as it is there.
    Parts,
    /// One file, in rounds.
    File,
}

fn main() -> Result<()> {
    let asked = Asked::parse();
    raise_limit(asked.viewers as u64 + 100)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(asked.threads)
        .enable_all()
        .build()?
        .block_on(run(asked))
}

/// Each connection is a file.
#[allow(unsafe_code, reason = "the limit of open files is only reached by a system call")]
fn raise_limit(files: u64) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given a valid structure and keep nothing of it.
    let done = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
        }
    };
    if !done || limit.rlim_max < files {
        bail!("{files} open files are needed, {} are allowed", limit.rlim_max);
    }
    Ok(())
}

async fn run(asked: Asked) -> Result<()> {
    let tally = Arc::new(Tally::default());
    let watched = Arc::new(Watched::default());
    if let Some(folder) = asked.folder.clone() {
        let watched = watched.clone();
        std::thread::spawn(move || watched.follow(&folder));
    }
    let start = Instant::now();
    let first = match asked.ask {
        Ask::File => Playing { next: Part { segment: 0, part: 0 }, number: 0 },
        _ => viewer::now_playing(asked.address, &asked.path).await.context("nothing plays")?,
    };
    for number in 0..asked.viewers {
        let (tally, watched) = (tally.clone(), watched.clone());
        let (address, path, gzip) = (asked.address, asked.path.clone(), asked.gzip);
        let (ask, every) = (asked.ask, Duration::from_millis(asked.every));
        tokio::spawn(async move {
            let outcome = match ask {
                Ask::Playlists => viewer::reload(address, &path, first.next, gzip, &tally).await,
                Ask::Parts => viewer::fetch(address, &path, first.number, &tally, &watched).await,
                Ask::File => viewer::rounds(address, &path, every, start, &tally, &watched).await,
            };
            if let Err(why) = outcome
                && tally.lost.fetch_add(1, Ordering::Relaxed) < 3
            {
                eprintln!("viewer {number}: {why:#}");
            }
        });
        if number % 100 == 99 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    // all are connected and in step
    sleep(Duration::from_secs(2)).await;
    tally.measure(true);
    eprintln!("measuring");
    let began = Instant::now();
    sleep(Duration::from_secs_f64(asked.seconds)).await;
    tally.measure(false);
    let seconds = began.elapsed().as_secs_f64();
    let mut late = match asked.ask {
        Ask::Parts => watched.late(viewer::now_playing(asked.address, &asked.path).await?),
        Ask::File => watched.took(),
        Ask::Playlists => Vec::new(),
    };
    late.sort_by(f64::total_cmp);
    let at = |share: f64| late.get(((late.len() as f64 * share) as usize).min(late.len().saturating_sub(1))).copied();
    println!(
        "{}",
        json!({
            "viewers": asked.viewers, "open": tally.open.load(Ordering::Relaxed), "lost": tally.lost.load(Ordering::Relaxed),
            "answers": tally.answers.load(Ordering::Relaxed), "refused": tally.refused.load(Ordering::Relaxed),
            "bytes": tally.bytes.load(Ordering::Relaxed), "seconds": seconds,
            "late_ms": json!({"n": late.len(), "p50": at(0.50), "p99": at(0.99), "max": at(1.0)}),
        })
    );
    Ok(())
}
