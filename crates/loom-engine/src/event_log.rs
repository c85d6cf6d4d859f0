//! A recording's events in order, numbered, and the last of them kept: who was cut off is told what it missed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;

use crate::event::{Event, Events, Told};

/// Where a recording's events are told.
#[derive(Debug)]
pub(crate) struct EventLog {
    readers: broadcast::Sender<Told>,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// The number of the last event.
    last: u64,
    recent: VecDeque<Told>,
}

impl EventLog {
    /// Numbers go on from one process to the next: they begin with the time. Below 2^53, so that a browser can hold them.
    pub(crate) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            readers: broadcast::Sender::new(Events::QUEUE),
            kept: Mutex::new(Kept {
                last: u64::try_from(now.as_millis())
                    .unwrap_or_default()
                    .saturating_mul(1_000),
                recent: VecDeque::new(),
            }),
        }
    }

    /// Tells everybody.
    pub(crate) fn tell(&self, event: Event) {
        let mut kept = self.kept();
        kept.last += 1;
        let told = Told {
            number: kept.last,
            event,
        };
        if kept.recent.len() >= KEPT {
            kept.recent.pop_front();
        }
        kept.recent.push_back(told.clone());
        // under the lock, so that nobody gets a later one first
        let _ = self.readers.send(told);
    }

    /// What is told from here on, and the number of what was told last.
    pub(crate) fn follow(&self) -> (broadcast::Receiver<Told>, u64) {
        let kept = self.kept();
        (self.readers.subscribe(), kept.last)
    }

    /// What was told after `number`, and what is told from here on; `None` where that is not known any more.
    pub(crate) fn follow_after(&self, number: u64) -> Option<(VecDeque<Told>, broadcast::Receiver<Told>)> {
        let kept = self.kept();
        let oldest = kept.recent.front().map_or(kept.last + 1, |told| told.number);
        let reaches = (oldest.saturating_sub(1)..=kept.last).contains(&number);
        reaches.then(|| {
            let missed = kept.recent.iter().filter(|told| told.number > number);
            (missed.cloned().collect(), self.readers.subscribe())
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // An event is kept whole or not at all.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Events that are kept for who was cut off.
const KEPT: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(fraction: f32) -> Event {
        Event::Progress {
            stage: "media",
            fraction,
        }
    }

    #[test]
    fn who_was_cut_off_is_told_what_it_missed_or_that_it_is_too_late() {
        let log = EventLog::new();
        let (_, before) = log.follow();
        for step in 0..10_u8 {
            log.tell(progress(f32::from(step)));
        }
        let (missed, mut live) = log.follow_after(before + 7).unwrap();
        let numbers: Vec<u64> = missed.iter().map(|told| told.number - before).collect();
        assert_eq!(numbers, [8, 9, 10]);
        log.tell(progress(10.0));
        assert_eq!(live.try_recv().unwrap().number, before + 11);
        assert!(log.follow_after(before + 11).unwrap().0.is_empty());
        assert!(
            log.follow_after(before + 12).is_none(),
            "another process has told that"
        );
        for _ in 0..KEPT {
            log.tell(progress(0.0));
        }
        assert!(log.follow_after(before + 10).is_none(), "too long ago");
        assert_eq!(log.follow_after(before + 11).unwrap().0.len(), KEPT);
    }
}
