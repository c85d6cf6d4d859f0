//! What one viewer asks.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use tokio::time::{sleep, sleep_until};

use crate::connection::Connection;

/// A part, or where one could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Part {
    pub(crate) segment: u64,
    pub(crate) part: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    measuring: AtomicBool,
    pub(crate) answers: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) open: AtomicU64,
    pub(crate) lost: AtomicU64,
}

impl Tally {
    pub(crate) fn measure(&self, on: bool) {
        self.measuring.store(on, Ordering::Relaxed);
    }

    fn count(&self, status: u16, bytes: usize) -> bool {
        let measuring = self.measuring.load(Ordering::Relaxed);
        if measuring && status == 200 {
            self.answers.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        } else if measuring {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        measuring
    }
}

/// When each part was on the server's disk, and when viewers had it.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    closed: Mutex<HashMap<Part, SystemTime>>,
    fetched: Mutex<Vec<(u64, SystemTime)>>,
    /// Milliseconds that answers took, of those that are asked for in rounds.
    took: Mutex<Vec<f64>>,
}

/// The part that comes next: its place, and its number in the rendition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Playing {
    pub(crate) next: Part,
    pub(crate) number: u64,
}

impl Watched {
    /// Looks again and again at the newest segment's file: each time it has grown, another part was written.
    pub(crate) fn follow(&self, folder: &Path) {
        let mut segment = 0;
        while folder.join(format!("s{}.m4s", segment + 1)).exists() {
            segment += 1;
        }
        // of this one, parts were missed
        segment += 1;
        loop {
            let (mut part, mut size) = (0, 0);
            loop {
                let is_over = folder.join(format!("s{}.m4s", segment + 1)).exists();
                if let Ok(about) = std::fs::metadata(folder.join(format!("s{segment}.m4s")))
                    && about.len() > size
                    && let Ok(changed) = about.modified()
                {
                    size = about.len();
                    self.closed.lock().unwrap().insert(Part { segment, part }, changed);
                    part += 1;
                }
                if is_over {
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            segment += 1;
        }
    }

    /// Milliseconds from the beginning of a round to its whole answer.
    pub(crate) fn took(&self) -> Vec<f64> {
        self.took.lock().unwrap().clone()
    }

    /// Milliseconds from the disk to the viewer, of each part that both saw, where `now` plays at last.
    pub(crate) fn late(&self, now: Playing) -> Vec<f64> {
        let closed = self.closed.lock().unwrap();
        // parts are numbered through the rendition, and on disk they lie in their segments
        let mut firsts = HashMap::from([(now.next.segment, now.number - now.next.part)]);
        let mut segment = now.next.segment;
        while let Some(before) = segment.checked_sub(1) {
            let count = closed.keys().filter(|it| it.segment == before).count() as u64;
            let Some(first) = firsts[&segment].checked_sub(count).filter(|_| count > 0) else { break };
            firsts.insert(before, first);
            segment = before;
        }
        let numbered = closed.iter().filter_map(|(it, at)| Some((firsts.get(&it.segment)? + it.part, *at)));
        let numbered: HashMap<u64, SystemTime> = numbered.collect();
        let fetched = self.fetched.lock().unwrap();
        let late = fetched.iter().filter_map(|(number, at)| {
            let closed = numbered.get(number)?;
            Some(match at.duration_since(*closed) {
                Ok(late) => late.as_secs_f64() * 1e3,
                Err(early) => -early.duration().as_secs_f64() * 1e3,
            })
        });
        late.collect()
    }
}

/// What the playlist says comes next.
pub(crate) async fn now_playing(address: SocketAddr, path: &str) -> Result<Playing> {
    let mut connection = Connection::open(address).await?;
    let answer = connection.get(path, false).await?;
    playing(answer.body).context("the playlist hints at no part")
}

/// The playlist's end: behind the last whole segment (`sN.m4s`) the parts of the next, then
/// `EXT-X-PRELOAD-HINT:TYPE=PART,URI="pM.m4s"`.
fn playing(playlist: &[u8]) -> Option<Playing> {
    let tail = &playlist[playlist.len().saturating_sub(4_000)..];
    let tail = String::from_utf8_lossy(tail);
    let (before, hint) = tail.rsplit_once("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p")?;
    let number = hint.split_once('.')?.0.parse().ok()?;
    let (segment, parts) = before.rsplit_once("\ns")?.1.split_once(".m4s")?;
    let part = parts.matches("#EXT-X-PART:").count() as u64;
    Some(Playing { next: Part { segment: segment.parse::<u64>().ok()? + 1, part }, number })
}

/// Blocking reloads, each for the part that the last playlist hinted at.
pub(crate) async fn reload(
    address: SocketAddr,
    path: &str,
    mut next: Part,
    gzip: bool,
    tally: &Tally,
) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    tally.open.fetch_add(1, Ordering::Relaxed);
    loop {
        let url = format!("{path}?_HLS_msn={}&_HLS_part={}", next.segment, next.part);
        let answer = connection.get(&url, gzip).await?;
        tally.count(answer.status, answer.body.len());
        next = match (answer.status, playing(answer.body)) {
            (200, Some(playing)) => playing.next,
            // compressed: the part after, or, where the segment is over, the server takes the next one's first
            (200, None) if gzip => Part { part: next.part + 1, ..next },
            (400, _) if gzip => Part { segment: next.segment + 1, part: 0 },
            _ => {
                sleep(Duration::from_millis(200)).await;
                now_playing(address, path).await?.next
            }
        };
    }
}

/// Parts, each asked for before it is there.
pub(crate) async fn fetch(
    address: SocketAddr,
    path: &str,
    mut number: u64,
    tally: &Tally,
    watched: &Watched,
) -> Result<()> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut connection = Connection::open(address).await?;
    tally.open.fetch_add(1, Ordering::Relaxed);
    loop {
        let url = format!("{folder}/p{number}.m4s");
        let answer = connection.get(&url, false).await?;
        let (status, bytes) = (answer.status, answer.body.len());
        number = match status {
            200 => {
                if tally.count(status, bytes) {
                    watched.fetched.lock().unwrap().push((number, SystemTime::now()));
                }
                number + 1
            }
            _ => {
                tally.count(status, 0);
                sleep(Duration::from_millis(200)).await;
                now_playing(address, path).await?.number
            }
        };
    }
}

/// A file, at the beginning of each round.
pub(crate) async fn rounds(
    address: SocketAddr,
    path: &str,
    every: Duration,
    start: Instant,
    tally: &Tally,
    watched: &Watched,
) -> Result<()> {
    let mut connection = Connection::open(address).await?;
    tally.open.fetch_add(1, Ordering::Relaxed);
    loop {
        let mut begins = Instant::now();
        if !every.is_zero() {
            let round = start.elapsed().as_nanos() / every.as_nanos() + 1;
            begins = start + every * round as u32;
            sleep_until(begins.into()).await;
        }
        let answer = connection.get(path, false).await?;
        let (status, bytes) = (answer.status, answer.body.len());
        if tally.count(status, bytes) {
            watched.took.lock().unwrap().push(begins.elapsed().as_secs_f64() * 1e3);
        }
    }
}
