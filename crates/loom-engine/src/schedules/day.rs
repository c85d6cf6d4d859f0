//! A day of recordings that begin and end at random, in virtual time: what the engine has left of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::course::{Course, Step};
use super::judge::{Figures, judge};
use super::picture::Pictures;
use super::{asked, runtime, start};
use crate::{Engine, RecordingId};

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Bytes that lie in memory.
    memory: u64,
    handles: usize,
    tasks: usize,
}

impl Held {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("a process");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = resident.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            memory: kilobytes.expect("its memory") * 1_024,
            handles: std::fs::read_dir("/proc/self/fd").expect("its handles").count(),
            tasks: Handle::current().metrics().num_alive_tasks(),
        }
    }
}

/// Records one after the other, some at once, for so long; each is judged and deleted.
async fn record(engine: &Engine, folder: &Path, rng: &mut StdRng, lasts: Duration) -> Figures {
    let pictures = Arc::new(Pictures::make().await);
    let over = Instant::now() + lasts;
    let mut running = JoinSet::new();
    let mut figures = Figures::default();
    while Instant::now() < over {
        sleep(Duration::from_millis(rng.random_range(1_000..APART))).await;
        let mut course = Course::draw(rng.random_range(0..1_000_000_000));
        if let Some((_, end)) = course.steps.last_mut() {
            *end = Step::Stop;
        }
        let name = RecordingId::random();
        let root = folder.join("recordings").join(name.as_str());
        let (engine, pictures) = (engine.clone(), pictures.clone());
        running.spawn(async move {
            let walk = course.walk(&engine, &name, &pictures).await;
            let recording = engine.recording(&name).expect("it is there");
            let judged = judge(&walk, &root, Some(&recording.info()));
            recording.delete().await.expect("it is deleted");
            judged.unwrap_or_else(|why| panic!("seed {}, stopped at its end: {why}\n  {walk}", course.seed))
        });
        while let Some(done) = running.try_join_next() {
            figures.add(done.expect("a recording that is whole"));
        }
    }
    while let Some(done) = running.join_next().await {
        figures.add(done.expect("a recording that is whole"));
    }
    // what is kept for who comes late is let go
    sleep(Duration::from_secs(120)).await;
    figures
}

#[test]
#[ignore = "minutes; `make schedules` runs it"]
fn after_a_day_of_recordings_memory_handles_and_tasks_are_what_they_were() {
    let mut rng = StdRng::seed_from_u64(asked("LOOM_SEED").unwrap_or(1));
    let folder = TempDir::new().expect("a folder");
    runtime().block_on(async {
        let engine = start(folder.path()).await;
        record(&engine, folder.path(), &mut rng, HOUR).await;
        let before = Held::now();
        let figures = record(&engine, folder.path(), &mut rng, HOUR * 24).await;
        let after = Held::now();
        println!("{figures}\nbefore {before:?}\nafter {after:?}");
        assert!(engine.recordings().expect("a list").is_empty());
        assert_eq!((after.handles, after.tasks), (before.handles, before.tasks));
        assert!(after.memory < before.memory + MOST, "{before:?} {after:?}");
    });
}

const HOUR: Duration = Duration::from_secs(3_600);
/// Recordings begin at most so many milliseconds apart.
const APART: u64 = 240_000;
/// What an allocator may keep more of, bytes.
const MOST: u64 = 16 << 20;
