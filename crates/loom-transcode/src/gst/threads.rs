//! What the threads of live picture graphs are called, and the processor time that they take.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;

use super::element::Pace;
use super::video::{lock, pad};
use crate::error::TranscodeError;

/// The name of a queue, and so of the thread behind it and of those that its encoder starts: what Linux keeps of it, 15 bytes, says whether it is live.
pub(super) fn thread_name(pace: Pace, stage: &str) -> String {
    match pace {
        Pace::Live => format!("{LIVE}{stage}"),
        Pace::File => stage.to_owned(),
    }
}

/// The thread behind this element, and those that its encoder starts, give way to others: what a publisher sends is received and written first,
/// whatever becomes of the rungs.
pub(super) fn give_way(pace: Pace, element: &gst::Element) -> Result<(), TranscodeError> {
    if pace == Pace::Live {
        pad(element, "src")?.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
            let begins = info
                .event()
                .is_some_and(|event| event.type_() == gst::EventType::StreamStart);
            if begins {
                lower_priority();
            }
            gst::PadProbeReturn::Ok
        });
    }
    Ok(())
}

/// Of the calling thread. Where the system does not allow it, all are alike.
#[cfg(target_os = "linux")]
fn lower_priority() {
    // on Linux a thread has a priority of its own
    let _ = rustix::process::setpriority_process(None, NICE);
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

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

/// A third of the processor time that a thread has which does not give way.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;
