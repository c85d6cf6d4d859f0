//! What the threads of live picture graphs are called, and the processor time that they take.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use super::element::Pace;
use super::video::lock;

/// The name of a queue, and so of the thread behind it and of those that its encoder starts: what Linux keeps of it, 15 bytes, says whether it is live.
pub(super) fn thread_name(pace: Pace, stage: &str) -> String {
    match pace {
        Pace::Live => format!("{LIVE}{stage}"),
        Pace::File => stage.to_owned(),
    }
}

/// Adds up the processor time of this process's threads of live pictures.
#[derive(Debug, Default)]
pub(super) struct LiveThreads(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Ticks of each thread that lives, by its number and the instant of its start.
    ticks: HashMap<(i32, u64), u64>,
    total: u64,
}

impl LiveThreads {
    /// All of it so far, but for what threads took between the call before and their end.
    #[cfg(target_os = "linux")]
    pub(super) fn time(&self) -> Option<Duration> {
        let tasks = procfs::process::Process::myself().ok()?.tasks().ok()?;
        let mut seen = lock(&self.0);
        let mut now = HashMap::new();
        for stat in tasks.filter_map(|task| task.ok()?.stat().ok()) {
            if stat.comm.starts_with(LIVE) {
                now.insert((stat.pid, stat.starttime), stat.utime + stat.stime);
            }
        }
        for (thread, ticks) in &now {
            let before = seen.ticks.get(thread).copied().unwrap_or_default();
            seen.total += ticks.saturating_sub(before);
        }
        seen.ticks = now;
        Some(Duration::from_secs_f64(
            seen.total as f64 / procfs::ticks_per_second() as f64,
        ))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn time(&self) -> Option<Duration> {
        None
    }
}

const LIVE: &str = "live.";
