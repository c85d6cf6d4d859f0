//! When what was written is safe from a power cut. A killed process loses nothing that it has written; the system's memory does, so
//! every so often all of it is written to the disk at once, beside what goes on.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::disk::Disk;

/// Writes the file system of a folder to its disk, once a window in which something was written there, or sooner where somebody waits.
#[derive(Debug)]
pub(crate) struct Syncer {
    shared: Arc<Shared>,
}

/// Something that was written: those before it have smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Written(u64);

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    progress: Mutex<Progress>,
    /// Rings whenever that changes.
    changed: Condvar,
    syncs: AtomicU64,
}

#[derive(Debug, Default)]
struct Progress {
    /// What was written up to there has been written to the disk, or could not be.
    done: Written,
    /// Somebody waits.
    wanted: bool,
    over: bool,
}

impl Syncer {
    /// A thread that looks every `window`; a window of zero leaves it to the system.
    ///
    /// # Errors
    /// Where there can be no more threads.
    pub(crate) fn start(disk: Arc<dyn Disk>, folder: &Path, window: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        if window.is_zero() {
            shared.progress().over = true;
        } else {
            let (working, folder) = (shared.clone(), folder.to_owned());
            thread::Builder::new()
                .name("loom-sync".to_owned())
                .spawn(move || working.run(&*disk, &folder, window))?;
        }
        Ok(Self { shared })
    }

    /// Something was written, and all of it is with the system by now.
    pub(crate) fn touch(&self) -> Written {
        Written(self.shared.written.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Whether that is on the disk.
    pub(crate) fn is_done(&self, written: Written) -> bool {
        self.shared.progress().done >= written
    }

    /// Has it written to the disk now, and waits for that. Blocks as long as the disk takes; where nothing is written to the disk, not at all.
    pub(crate) fn wait(&self, written: Written) {
        let mut progress = self.shared.progress();
        while progress.done < written && !progress.over {
            progress.wanted = true;
            self.shared.changed.notify_all();
            progress = self
                .shared
                .changed
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How often all was written to the disk.
    #[cfg(test)]
    fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.progress().over = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        // No code that holds the lock leaves it half changed.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, disk: &dyn Disk, folder: &Path, window: Duration) {
        loop {
            let idle = |now: &mut Progress| !now.over && !now.wanted;
            let waited = self.changed.wait_timeout_while(self.progress(), window, idle);
            let (mut now, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let (last, done) = (now.over, now.done);
            now.wanted = false;
            drop(now);
            let written = Written(self.written.load(Ordering::Acquire));
            if written > done {
                let began = Instant::now();
                match disk.sync_all(folder) {
                    Ok(()) => {
                        self.syncs.fetch_add(1, Ordering::Relaxed);
                        metrics::histogram!("loom_sync_seconds").record(began.elapsed().as_secs_f64());
                    }
                    Err(why) => {
                        metrics::counter!("loom_sync_errors_total").increment(1);
                        tracing::error!(%why, "what was recorded could not be written to the disk: a power cut may lose it");
                    }
                }
                self.progress().done = written;
                self.changed.notify_all();
            }
            if last {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Files;

    #[test]
    fn what_is_written_is_on_the_disk_a_window_later_and_nothing_is_done_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let syncer = Syncer::start(Arc::new(Files), folder.path(), Duration::from_millis(20)).unwrap();
        thread::sleep(Duration::from_millis(100));
        assert_eq!(syncer.syncs(), 0, "nothing was written");
        for round in 1..=2 {
            std::fs::write(folder.path().join("part"), b"said").unwrap();
            syncer.touch();
            let patience = Instant::now() + Duration::from_secs(60);
            while syncer.syncs() < round {
                assert!(Instant::now() < patience, "it is never written out");
                thread::sleep(Duration::from_millis(5));
            }
        }
        let written = syncer.touch();
        syncer.wait(written);
        assert!(syncer.is_done(written) && !syncer.is_done(Written(written.0 + 1)));
        let syncs = syncer.syncs();
        let shared = syncer.shared.clone();
        syncer.touch();
        drop(syncer);
        let patience = Instant::now() + Duration::from_secs(60);
        while shared.syncs.load(Ordering::Relaxed) <= syncs {
            assert!(Instant::now() < patience, "the last is written out at the end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn who_waits_does_not_wait_for_the_window_nor_where_nothing_is_written_to_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        for (window, syncs) in [(Duration::from_secs(3_600), 1), (Duration::ZERO, 0)] {
            let syncer = Syncer::start(Arc::new(Files), folder.path(), window).unwrap();
            syncer.wait(syncer.touch());
            assert_eq!(syncer.syncs(), syncs);
        }
    }
}
