use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::demux::Key;

/// When which session is due. One entry a session, so bounded by their number.
#[derive(Default)]
pub(crate) struct Timers {
    due: Mutex<BTreeSet<(Instant, Key)>>,
    earlier: Notify,
}

impl Timers {
    /// Moves a session's entry.
    pub(crate) fn set(&self, key: Key, before: Option<Instant>, at: Option<Instant>) {
        let mut due = self.lock();
        let first = due.first().map(|(at, _)| *at);
        if let Some(before) = before {
            due.remove(&(before, key));
        }
        if let Some(at) = at {
            due.insert((at, key));
            if first.is_none_or(|first| at < first) {
                self.earlier.notify_one();
            }
        }
    }

    /// Takes a session that is due by `now`.
    pub(crate) fn take_due(&self, now: Instant) -> Option<Key> {
        let mut due = self.lock();
        let first = *due.first().filter(|(at, _)| *at <= now)?;
        due.remove(&first);
        Some(first.1)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.lock().first().map(|(at, _)| *at)
    }

    /// Returns once something is due before what [`Timers::next`] said. May be cancelled.
    pub(crate) async fn earlier(&self) {
        self.earlier.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(Instant, Key)>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
