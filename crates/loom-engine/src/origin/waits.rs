//! Requests that wait, by what they wait for: a change wakes those whose answer it brings, and no others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use loom_core::RenditionId;
use loom_hls::Wait;
use tokio::sync::Notify;

/// Who waits for what. A bell that nobody listens to any more is forgotten with the next change.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    bells: Mutex<HashMap<Awaited, (Wait, Weak<Bell>)>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Awaited {
    rendition: Option<RenditionId>,
    segment: Option<u64>,
    part: Option<u64>,
}

/// Rings once, for all who listen. Whoever rings it wakes one of them, and that one wakes the others: the packager pays for
/// one wake-up, however many wait.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    spread: AtomicBool,
    listeners: Notify,
}

impl Waits {
    /// The bell that rings when `wait` is over. Ask for it before the origin can change.
    pub(crate) fn join(&self, wait: &Wait) -> Arc<Bell> {
        let awaited = Awaited {
            rendition: wait.rendition.clone(),
            segment: wait.segment,
            part: wait.part,
        };
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bell) = bells.get(&awaited).and_then(|(_, bell)| bell.upgrade()) {
            return bell;
        }
        let bell = Arc::new(Bell::default());
        bells.insert(awaited, (wait.clone(), Arc::downgrade(&bell)));
        bell
    }

    /// Takes out the bells of what is over. They are for the caller to ring, without holding the origin.
    pub(crate) fn settle(&self, is_over: impl Fn(&Wait) -> bool) -> Vec<Arc<Bell>> {
        let mut over = Vec::new();
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.retain(|_, (wait, bell)| {
            let Some(bell) = bell.upgrade() else { return false };
            let stays = !is_over(wait);
            if !stays {
                over.push(bell);
            }
            stays
        });
        over
    }
}

impl Bell {
    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        // one that is dropped before it runs hands this on to another
        self.listeners.notify_one();
    }

    /// Resolves once it has rung. Cancellation safe.
    pub(crate) async fn heard(&self) {
        let mut turn = std::pin::pin!(self.listeners.notified());
        turn.as_mut().enable();
        if !self.rung.load(Ordering::SeqCst) {
            turn.await;
        }
        if !self.spread.swap(true, Ordering::SeqCst) {
            self.listeners.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wait(segment: u64, part: u64) -> Wait {
        Wait {
            rendition: RenditionId::new("720p"),
            segment: Some(segment),
            part: Some(part),
            limit: Duration::from_secs(1),
        }
    }

    #[tokio::test]
    async fn a_change_wakes_all_who_wait_for_it_and_nobody_else() {
        let waits = Waits::default();
        let mut first: Vec<_> = (0..1_000).map(|_| waits.join(&wait(3, 1))).collect();
        let other = waits.join(&wait(3, 2));
        let listening: Vec<_> = first
            .drain(..)
            .map(|bell| tokio::spawn(async move { bell.heard().await }))
            .collect();
        let other = tokio::spawn(async move { other.heard().await });
        tokio::task::yield_now().await;
        let rung = waits.settle(|wait| wait.part == Some(1));
        assert_eq!(rung.len(), 1, "one bell for a thousand");
        rung[0].ring();
        for one in listening {
            one.await.unwrap();
        }
        assert!(!other.is_finished());
        other.abort();
    }

    #[tokio::test]
    async fn a_listener_that_leaves_as_it_is_woken_takes_nobody_with_it() {
        let bell = Arc::new(Bell::default());
        let mut leaving = Box::pin(bell.heard());
        assert!(futures::poll!(&mut leaving).is_pending());
        let staying = bell.clone();
        let staying = tokio::spawn(async move { staying.heard().await });
        tokio::task::yield_now().await;
        bell.ring();
        drop(leaving);
        tokio::time::timeout(Duration::from_secs(5), staying)
            .await
            .expect("it is woken")
            .unwrap();
    }

    #[test]
    fn a_wait_that_everybody_left_is_forgotten() {
        let waits = Waits::default();
        drop(waits.join(&wait(0, 0)));
        assert!(waits.settle(|_| false).is_empty());
        assert!(waits.bells.lock().unwrap().is_empty());
    }
}
