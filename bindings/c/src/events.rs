//! A recording's events, polled.

use std::ffi::c_void;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::bytes::loom_bytes;
use crate::call::{Out, call, free, object};
use crate::engine::Host;
use crate::recording::loom_recording;
use crate::result::{Failure, LOOM_END, LOOM_TIMEOUT, loom_result};

/// Called each time there is one more event, or the end of them, with what loom_events_open was given. On a thread of the engine's; it
/// should not wait, may not free the reader, and may make no call of Loom's that waits: it wakes whoever then polls.
pub type loom_wake_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// A reader of a recording's events: first how it stands, then what happens. One that falls more than a hundred behind misses the oldest.
pub struct loom_events {
    host: Arc<Host>,
    /// Locked only to look into it, never while something is waited for.
    queue: Mutex<mpsc::Receiver<String>>,
    /// Held by whoever waits: a queue wakes one.
    turn: tokio::sync::Mutex<()>,
    forwarder: AbortHandle,
    wake: Arc<Mutex<Option<Wake>>>,
}

struct Wake {
    wake: unsafe extern "C" fn(*mut c_void),
    user: *mut c_void,
}

// SAFETY: by `loom_events_open` it may be called on any thread
unsafe impl Send for Wake {}

/// Events on their way to the host; when full, the recording's own queue fills, which says what it drops.
const QUEUE: usize = 16;

fn call_wake(wake: &Mutex<Option<Wake>>) {
    // held while it is called, so that nobody is called once the reader is freed
    if let Some(it) = &*wake.lock().unwrap_or_else(PoisonError::into_inner) {
        // SAFETY: by `loom_events_open` it may be called until the reader is freed
        unsafe { (it.wake)(it.user) };
    }
}

impl loom_events {
    fn queue(&self) -> MutexGuard<'_, mpsc::Receiver<String>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next event; `None` at the end.
    async fn next(&self) -> Option<String> {
        let _turn = self.turn.lock().await;
        poll_fn(|task| self.queue().poll_recv(task)).await
    }
}

impl Drop for loom_events {
    fn drop(&mut self) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.forwarder.abort();
    }
}

/// Begins to read. `wake` is NULL, or called with `user` when there is something to poll.
///
/// # Safety
/// `recording` was given out and not freed; `wake` may be called with `user` until the reader is freed; `events` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_events_open(
    recording: *const loom_recording,
    wake: loom_wake_fn,
    user: *mut c_void,
    events: *mut *mut loom_events,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe { (object(recording, "recording")?, Out::new(events, "events")?) };
        let (sender, queue) = mpsc::channel(QUEUE);
        let wake = Arc::new(Mutex::new(wake.map(|wake| Wake { wake, user })));
        let mut source = it.inner.events();
        let waking = wake.clone();
        let forward = async move {
            while let Some(event) = source.next().await {
                let Ok(json) = serde_json::to_string(&event) else {
                    continue;
                };
                if sender.send(json).await.is_err() {
                    return;
                }
                call_wake(&waking);
            }
            drop(sender);
            call_wake(&waking);
        };
        let forwarder = it.host.enter(|| tokio::spawn(forward).abort_handle())?;
        out.give(loom_events {
            host: it.host.clone(),
            queue: Mutex::new(queue),
            turn: tokio::sync::Mutex::default(),
            forwarder,
            wake,
        });
        Ok(())
    })
}

/// The next event, as a JSON object whose `event` says of what kind it is: `state`, `caption`, `progress`, `job`, `gap`, `shed`, `overload`, `unheard`, `warning`, `worker`,
/// `chapters`, `tracks`, `joined`, `findings`, `transcript`, `renditions`; others may come with later versions. Waits for it, `timeout_ms` milliseconds at most; with 0 it only
/// looks, whoever else waits, and may be called in a callback's thread as anywhere else.
///
/// LOOM_TIMEOUT. LOOM_END: there are no more, since the recording is ready, failed or deleted.
///
/// # Safety
/// `events` was given out and not freed; `json` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_events_next(
    events: *const loom_events,
    timeout_ms: u32,
    json: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe { (object(events, "events")?, Out::new(json, "json")?) };
        let next = match timeout_ms {
            0 => match it.queue().try_recv() {
                Ok(json) => Ok(Some(json)),
                Err(mpsc::error::TryRecvError::Disconnected) => Ok(None),
                Err(mpsc::error::TryRecvError::Empty) => Err(Failure::nothing(LOOM_TIMEOUT)),
            },
            some => {
                let limit = Duration::from_millis(some.into());
                let waited = it
                    .host
                    .wait(async { tokio::time::timeout(limit, it.next()).await })?;
                waited.map_err(|_| Failure::nothing(LOOM_TIMEOUT))
            }
        };
        out.give(loom_bytes::new(next?.ok_or_else(|| Failure::nothing(LOOM_END))?));
        Ok(())
    })
}

/// Ends reading: once it returns, `wake` is not called any more.
///
/// # Safety
/// `events` is NULL or was given out and not freed, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_events_free(events: *mut loom_events) {
    // SAFETY: as the call's own
    unsafe { free(events) }
}
