//! The engine: its life, its speech model.

use std::sync::Arc;
use std::time::Duration;

use ::loom_engine::{CaptionsStatus, Engine, EngineError, RecordingId};
use tokio::runtime::{Handle, Runtime};
use tokio::time::Instant;

use crate::bytes::loom_bytes;
use crate::call::{Out, call, free, object};
use crate::config::loom_engine_config;
use crate::result::{Failure, LOOM_ERROR_INTERNAL, LOOM_ERROR_STATE, loom_result};

/// Captions: the model is being found or read.
pub const LOOM_CAPTIONS_LOADING: i32 = 0;
/// Captions can be written.
pub const LOOM_CAPTIONS_ON: i32 = 1;
/// They cannot; recordings work without.
pub const LOOM_CAPTIONS_OFF: i32 = 2;

/// An engine: one UDP port, one speech model, any number of recordings. Recordings, events and pushers keep it alive; with the last of
/// them, and its own handle, it ends, and with it what is live. Its threads are its own.
pub struct loom_engine {
    pub(crate) host: Arc<Host>,
}

/// An engine and the threads that it runs on.
pub(crate) struct Host {
    engine: Option<Engine>,
    runtime: Option<Runtime>,
}

impl Host {
    pub(crate) fn engine(&self) -> Result<&Engine, Failure> {
        self.engine.as_ref().ok_or_else(gone)
    }

    /// For calls that only need to be made where tasks can be begun.
    pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> Result<T, Failure> {
        let _here = self.runtime.as_ref().ok_or_else(gone)?.enter();
        Ok(work())
    }

    /// Waits for something on the calling thread.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        wait_on(self.runtime.as_ref().ok_or_else(gone)?, work)
    }

    /// As [`Self::wait`], for work that blocks by itself.
    pub(crate) fn block<T>(&self, work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, Failure> {
        outside_callbacks()?;
        Ok(work()?)
    }

    /// As [`Self::wait`], for what may fail.
    pub(crate) fn try_wait<T>(
        &self,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, Failure> {
        Ok(self.wait(work)??)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.engine.take());
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        match Handle::try_current() {
            // a callback freed the last handle; a thread cannot wait for itself
            Ok(_) => runtime.shutdown_background(),
            Err(_) => runtime.shutdown_timeout(FREE_LIMIT),
        }
    }
}

fn wait_on<T>(runtime: &Runtime, work: impl Future<Output = T>) -> Result<T, Failure> {
    outside_callbacks()?;
    Ok(runtime.block_on(work))
}

/// Callbacks are called on threads that others wait for.
fn outside_callbacks() -> Result<(), Failure> {
    match Handle::try_current() {
        Ok(_) => Err(Failure::new(
            LOOM_ERROR_STATE,
            "a call that waits was made in a callback",
        )),
        Err(_) => Ok(()),
    }
}

fn gone() -> Failure {
    Failure::new(LOOM_ERROR_STATE, "the engine is gone")
}

/// Binds the UDP port, looks for codecs, and begins to load the speech model. Waits for all but the model.
///
/// LOOM_ERROR_ARGUMENT: the configuration breaks a rule. LOOM_ERROR_IO: the port or the folder cannot be had.
///
/// # Safety
/// `config` is as loom_engine_config_init made it, with texts that end with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_engine_start(
    config: *const loom_engine_config,
    engine: *mut *mut loom_engine,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (config, out) = unsafe {
            (
                loom_engine_config::read(config)?.to_config()?,
                Out::new(engine, "engine")?,
            )
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("loom")
            .enable_all()
            .build()
            .map_err(|why| Failure::new(LOOM_ERROR_INTERNAL, format!("no threads can be started: {why}")))?;
        let started = wait_on(&runtime, Engine::start(config));
        let mut host = Host {
            engine: None,
            runtime: Some(runtime),
        };
        host.engine = Some(started??);
        out.give(loom_engine { host: Arc::new(host) });
        Ok(())
    })
}

/// Stops every live recording, and waits until each can be watched to its end. The engine can still be used.
///
/// # Safety
/// `engine` is NULL or was given out and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_engine_stop(engine: *const loom_engine) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let host = &unsafe { object(engine, "engine") }?.host;
        host.wait(host.engine()?.shutdown())
    })
}

/// Whether captions can be written: waits for as long as the model is being loaded, `timeout_ms` milliseconds at most, and gives one of
/// LOOM_CAPTIONS_… and a sentence about it.
///
/// # Safety
/// As loom_engine_stop; `captions` and `note` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_engine_captions(
    engine: *const loom_engine,
    timeout_ms: u32,
    captions: *mut i32,
    note: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (host, captions, note) = unsafe {
            let host = &object(engine, "engine")?.host;
            (host, Out::new(captions, "captions")?, Out::new(note, "note")?)
        };
        let engine = host.engine()?;
        let end = Instant::now() + Duration::from_millis(timeout_ms.into());
        let status = host.wait(async {
            loop {
                match engine.captions() {
                    CaptionsStatus::Loading { .. } if Instant::now() < end => {
                        tokio::time::sleep(LOOK_AGAIN).await
                    }
                    status => return status,
                }
            }
        })?;
        captions.write(match &status {
            CaptionsStatus::Loading { .. } => LOOM_CAPTIONS_LOADING,
            CaptionsStatus::On { .. } => LOOM_CAPTIONS_ON,
            CaptionsStatus::Off { .. } => LOOM_CAPTIONS_OFF,
        });
        note.give(loom_bytes::new(status.to_string()));
        Ok(())
    })
}

/// The names of all recordings on disk, those of earlier engines too, as a JSON array of texts in no order: loom_recording_open opens each.
/// Waits for the disk.
///
/// LOOM_ERROR_IO.
///
/// # Safety
/// As loom_engine_stop; `json` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_engine_recordings(
    engine: *const loom_engine,
    json: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe { (object(engine, "engine")?, Out::new(json, "json")?) };
        let engine = it.host.engine()?;
        out.give(names(&it.host.block(|| engine.recordings())?)?);
        Ok(())
    })
}

/// The names of all recordings in the store, as loom_engine_recordings gives them; none where the engine has no store. Waits for the store.
///
/// LOOM_ERROR_IO.
///
/// # Safety
/// As loom_engine_recordings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_engine_stored_recordings(
    engine: *const loom_engine,
    json: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe { (object(engine, "engine")?, Out::new(json, "json")?) };
        let stored = it.host.try_wait(it.host.engine()?.stored_recordings())?;
        out.give(names(&stored)?);
        Ok(())
    })
}

fn names(ids: &[RecordingId]) -> Result<loom_bytes, Failure> {
    let ids: Vec<&str> = ids.iter().map(RecordingId::as_str).collect();
    loom_bytes::json(&ids)
}

/// Lets it go. Where that was the last that kept the engine alive, waits until its threads have ended, ten seconds at most, but in a
/// callback, where it waits for nothing; those that package recordings end by themselves, soon after. What is live then is ended as by a
/// crash, and finished when it is next opened. loom_engine_stop ends it well before.
///
/// # Safety
/// As loom_engine_stop, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_engine_free(engine: *mut loom_engine) {
    // SAFETY: as the call's own
    unsafe { free(engine) }
}

/// How long work that is under way may take to end.
const FREE_LIMIT: Duration = Duration::from_secs(10);

/// How often the model is looked after.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
