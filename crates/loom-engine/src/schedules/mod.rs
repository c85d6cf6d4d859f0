//! A recording's life in virtual time: what publishers send over bad roads goes through the real session, jitter buffer, clocks, engine and
//! packager while it is paused, resumed, muted, cut off, stopped, deleted, or its process ends; readers that are not ours tell what there is
//! then. Each seed stands for itself: `LOOM_SEED=17 cargo nextest run --workspace -E 'test(schedules)'` repeats one.

mod course;
mod day;
mod judge;
mod picture;
mod publisher;
mod reader;
mod sender;
mod stamp;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use loom_transcode::{Capabilities, KeptBackend};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::disk::Files;
use crate::engine::Machine;
use crate::packaging::PackagingThreads;
use crate::{CaptionsConfig, Engine, EngineConfig, IngestConfig, RecordingId, RecordingInfo, Wanted};

use course::Course;
use judge::{Figures, judge};
use picture::Pictures;

fn config(data: &Path) -> EngineConfig {
    EngineConfig {
        data_dir: data.to_owned(),
        ingest: IngestConfig {
            udp: ([127, 0, 0, 1], 0).into(),
            tcp: false,
            // as where a publisher may come back
            idle_timeout: Duration::from_secs(5),
            ..IngestConfig::default()
        },
        captions: CaptionsConfig {
            enabled: false,
            ..CaptionsConfig::default()
        },
        ladder: Wanted::source_only(),
        longest_pause: Duration::from_secs(60),
        min_free_space: 0,
        ..EngineConfig::default()
    }
}

impl Machine {
    /// One that keeps all as it came, and packages on the runtime of whoever calls.
    fn here() -> Self {
        Self {
            disk: Arc::new(Files),
            backend: Arc::new(KeptBackend),
            capabilities: Capabilities::none(),
            packaging: PackagingThreads::here(),
        }
    }
}

/// A runtime whose clock goes on when nothing else is to be done.
fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

/// Walks a course, and judges what there is after that in another process's eyes.
fn run(course: &Course, pictures: &Arc<Pictures>) -> Result<Figures, String> {
    let folder = TempDir::new().expect("a folder");
    let name = RecordingId::new(&format!("seed-{}", course.seed)).expect("a name");
    let never = |_| "it never ends".to_owned();
    let walk = runtime().block_on(async {
        let engine = start(folder.path()).await;
        timeout(FOR_EVER, course.walk(&engine, &name, pictures)).await
    });
    let walk = walk.map_err(never)?;
    let after = async { timeout(FOR_EVER, ended(folder.path(), &name)).await };
    let info = match walk.deleted {
        true => None,
        false => Some(runtime().block_on(after).map_err(never)?),
    };
    let root = folder.path().join("recordings").join(name.as_str());
    judge(&walk, &root, info.as_ref()).map_err(|why| format!("{why}\n  {walk}"))
}

async fn start(folder: &Path) -> Engine {
    let engine = Engine::start_with(Machine::here(), config(folder)).await;
    engine.expect("the engine starts")
}

/// How a recording stands once the next process has done with it.
async fn ended(folder: &Path, name: &RecordingId) -> RecordingInfo {
    let engine = start(folder).await;
    let recording = engine.recording(name).expect("the recording is there");
    let mut events = recording.events();
    while events.next().await.is_some() {}
    recording.info()
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs the seeds on all cores. Gives what was found of all, and says which do not hold.
fn run_all(seeds: Range<u64>, draw: impl Fn(u64) -> Course + Sync) -> Figures {
    let pictures = Arc::new(runtime().block_on(Pictures::make()));
    let (next, found) = (
        AtomicU64::new(seeds.start),
        Mutex::new((Figures::default(), Vec::new())),
    );
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                return;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| run(&draw(seed), &pictures)));
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome.unwrap_or_else(|_| Err("a panic".to_owned())) {
                Ok(figures) => found.0.add(figures),
                Err(why) => {
                    println!(
                        "seed {seed}: {why}\n  LOOM_SEED={seed} cargo nextest run --workspace --no-capture -E 'test(schedules)'"
                    );
                    found.1.push(seed);
                }
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let (figures, failed) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "these seeds do not hold: {failed:?}");
    figures
}

/// The seed that is asked for, or so many.
fn seeds(most: u64) -> Range<u64> {
    match asked("LOOM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..most,
    }
}

#[test]
fn whatever_is_done_to_a_recording_it_is_one_timeline_with_all_that_came() {
    let figures = run_all(seeds(asked("SCHEDULES").unwrap_or(40)), Course::draw);
    println!("{figures}");
    assert!(figures.offset(0.99).is_none_or(|p99| p99 <= 50.0), "{figures}");
}

#[test]
fn who_is_gone_when_hardly_anything_has_come_of_it_comes_back_to_the_same_timeline() {
    println!("{}", run_all(seeds(20), Course::brief));
}

#[test]
#[ignore = "a minute; `make schedules` runs it"]
fn for_an_hour_with_20_pauses_sound_and_pictures_stay_in_step() {
    let seed = asked("LOOM_SEED").unwrap_or(1);
    let figures = run_all(seed..seed + 1, Course::hour);
    println!("{figures}");
    assert!(figures.pauses == 20 && figures.seconds > 3_590.0, "{figures}");
    assert!(figures.offset(0.99).is_some_and(|p99| p99 <= 50.0), "{figures}");
}

/// No recording takes longer, in virtual time.
const FOR_EVER: Duration = Duration::from_secs(2 * 3_600);
