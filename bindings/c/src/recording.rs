//! A recording: its life, and what comes of it.

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::loom_engine::{DownloadChoice, Event, MediaTime, Recording, RecordingId, RecordingState};

use crate::bytes::loom_bytes;
use crate::call::{Out, call, free, object, optional_text, text};
use crate::config::storage_class_named;
use crate::engine::{Host, loom_engine};
use crate::result::{Failure, LOOM_ERROR_ARGUMENT, LOOM_TIMEOUT, loom_result};

/// Nobody has published yet.
pub const LOOM_STATE_CREATED: i32 = 0;
/// Media is coming in; the stream can be watched.
pub const LOOM_STATE_LIVE: i32 = 1;
/// The publisher vanished, and is waited for.
pub const LOOM_STATE_RECONNECTING: i32 = 2;
/// It rests: nothing is recorded, and media time stands still.
pub const LOOM_STATE_PAUSED: i32 = 3;
/// All media is in and can be watched, and the transcript is being written; of a file: it is being read.
pub const LOOM_STATE_PROCESSING: i32 = 4;
/// Done.
pub const LOOM_STATE_READY: i32 = 5;
/// It came to nothing; loom_recording_info says why.
pub const LOOM_STATE_FAILED: i32 = 6;
/// It was deleted, and is there no more.
pub const LOOM_STATE_DELETED: i32 = 7;

/// A recording. Freeing it ends nothing.
pub struct loom_recording {
    pub(crate) host: Arc<Host>,
    pub(crate) inner: Recording,
    id: CString,
}

impl loom_recording {
    fn new(host: &Arc<Host>, inner: Recording) -> Self {
        Self {
            host: host.clone(),
            id: CString::new(inner.id().as_str()).unwrap_or_default(),
            inner,
        }
    }
}

fn state_number(state: RecordingState) -> i32 {
    match state {
        RecordingState::Created => LOOM_STATE_CREATED,
        RecordingState::Live => LOOM_STATE_LIVE,
        RecordingState::Reconnecting => LOOM_STATE_RECONNECTING,
        RecordingState::Paused => LOOM_STATE_PAUSED,
        RecordingState::Processing => LOOM_STATE_PROCESSING,
        RecordingState::Ready => LOOM_STATE_READY,
        RecordingState::Failed => LOOM_STATE_FAILED,
        RecordingState::Deleted => LOOM_STATE_DELETED,
    }
}

fn named(id: &str) -> Result<RecordingId, Failure> {
    let wrong = || {
        Failure::new(
            LOOM_ERROR_ARGUMENT,
            format!("{id:?} is no recording id: 1 to 40 of a-z, 0-9 and -"),
        )
    };
    RecordingId::new(id).ok_or_else(wrong)
}

/// Makes a recording. `id` names it: 1 to 40 of a-z, 0-9 and -; NULL: a random name that nobody can guess. One to which nothing is
/// published for half an hour fails.
///
/// LOOM_ERROR_EXISTS, LOOM_ERROR_FULL, LOOM_ERROR_IO.
///
/// # Safety
/// `engine` was given out and not freed; `id` ends with NUL; `recording` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_create(
    engine: *const loom_engine,
    id: *const c_char,
    recording: *mut *mut loom_recording,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (host, id, out) = unsafe {
            let host = &object(engine, "engine")?.host;
            (host, optional_text(id, "id")?, Out::new(recording, "recording")?)
        };
        let id = id.map_or_else(|| Ok(RecordingId::random()), named)?;
        let engine = host.engine()?;
        let made = host.enter(|| engine.create(id))??;
        out.give(loom_recording::new(host, made));
        Ok(())
    })
}

/// The recording of that name, from memory or from disk. Waits for the disk.
///
/// LOOM_ERROR_NOT_FOUND, LOOM_ERROR_IO.
///
/// # Safety
/// As loom_recording_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_open(
    engine: *const loom_engine,
    id: *const c_char,
    recording: *mut *mut loom_recording,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (host, id, out) = unsafe {
            let host = &object(engine, "engine")?.host;
            (host, text(id, "id")?, Out::new(recording, "recording")?)
        };
        let id = named(id)?;
        let found = host.try_wait(host.engine()?.open(&id))?;
        out.give(loom_recording::new(host, found));
        Ok(())
    })
}

/// Lets it go. It may be the last that kept the engine alive: loom_engine_free.
///
/// # Safety
/// `recording` is NULL or was given out and not freed, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_free(recording: *mut loom_recording) {
    // SAFETY: as the call's own
    unsafe { free(recording) }
}

/// Its name: valid until it is freed. NULL for NULL.
///
/// # Safety
/// `recording` is NULL or was given out and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_id(recording: *const loom_recording) -> *const c_char {
    // SAFETY: as the call's own
    unsafe { recording.as_ref() }.map_or(std::ptr::null(), |it| it.id.as_ptr())
}

/// Where it is in its life: one of LOOM_STATE_….
///
/// # Safety
/// `recording` was given out and not freed; `state` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_state(
    recording: *const loom_recording,
    state: *mut i32,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe { (object(recording, "recording")?, Out::new(state, "state")?) };
        out.write(state_number(it.inner.info().state));
        Ok(())
    })
}

/// How it stands, as a JSON object: `id`, `state`, `reason`, `duration` in seconds, `tracks`, `renditions`, `captions`, `loudness`, `gaps`,
/// `joined`, `composition`.
///
/// # Safety
/// As loom_recording_state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_info(
    recording: *const loom_recording,
    json: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe { (object(recording, "recording")?, Out::new(json, "json")?) };
        out.give(loom_bytes::json(&it.inner.info())?);
        Ok(())
    })
}

/// Waits until it is LOOM_STATE_READY, _FAILED or _DELETED, `timeout_ms` milliseconds at most, and gives which.
///
/// LOOM_TIMEOUT.
///
/// # Safety
/// As loom_recording_state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_wait(
    recording: *const loom_recording,
    timeout_ms: u32,
    state: *mut i32,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe { (object(recording, "recording")?, Out::new(state, "state")?) };
        let mut events = it.inner.events();
        let ended = async {
            while let Some(event) = events.next().await {
                if let Event::State { state, .. } = event
                    && state.is_final()
                {
                    break;
                }
            }
        };
        let limit = Duration::from_millis(timeout_ms.into());
        // the limit is made where its timer runs
        let waited = it.host.wait(async { tokio::time::timeout(limit, ended).await })?;
        waited.map_err(|_| Failure::nothing(LOOM_TIMEOUT))?;
        out.write(state_number(it.inner.info().state));
        Ok(())
    })
}

/// Has it rest: what comes from here on is not recorded. Waits until it is so. To pause what is paused is no error.
///
/// LOOM_ERROR_STATE: it has not begun, or has ended.
///
/// # Safety
/// `recording` was given out and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_pause(recording: *const loom_recording) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let it = unsafe { object(recording, "recording") }?;
        it.host.try_wait(it.inner.pause())
    })
}

/// Goes on after loom_recording_pause. Waits until it is so.
///
/// LOOM_ERROR_STATE: it has not begun, or has ended.
///
/// # Safety
/// As loom_recording_pause.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_resume(recording: *const loom_recording) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let it = unsafe { object(recording, "recording") }?;
        it.host.try_wait(it.inner.resume())
    })
}

/// Ends it. Waits until its playlists are complete. To stop what has ended is no error; a file is processed to its end.
///
/// LOOM_ERROR_NOT_READY: that took more than 20 s, and goes on.
///
/// # Safety
/// As loom_recording_pause.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_stop(recording: *const loom_recording) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let it = unsafe { object(recording, "recording") }?;
        it.host.try_wait(it.inner.stop())
    })
}

/// Processes a media file as a live recording would be. The file is taken over, and deleted at the end. Waits until it was recognised; how
/// far it is, events of kind `progress` say.
///
/// LOOM_ERROR_MEDIA: it is no media that Loom can read. LOOM_ERROR_STATE: the recording has begun.
///
/// # Safety
/// As loom_recording_pause; `path` ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_import(
    recording: *const loom_recording,
    path: *const c_char,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, path) = unsafe { (object(recording, "recording")?, text(path, "path")?) };
        it.host.try_wait(it.inner.import(PathBuf::from(path)))
    })
}

/// Gives up the file that is being processed: the recording has failed at once.
///
/// LOOM_ERROR_STATE: none is being processed.
///
/// # Safety
/// As loom_recording_pause.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_cancel(recording: *const loom_recording) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let it = unsafe { object(recording, "recording") }?;
        it.host.enter(|| it.inner.cancel())??;
        Ok(())
    })
}

/// Stops it where it is live, and removes every byte of it. The handle has still to be freed.
///
/// LOOM_ERROR_IO.
///
/// # Safety
/// As loom_recording_pause.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_delete(recording: *const loom_recording) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let it = unsafe { object(recording, "recording") }?;
        it.host.try_wait(it.inner.delete())
    })
}

/// Waits until all that there is of it now is in the store, where the engine has one. Once it has ended, that is all there will be.
///
/// LOOM_ERROR_IO: the store refuses. It is tried again in the background, and when this is asked again.
///
/// # Safety
/// As loom_recording_pause.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_stored(recording: *const loom_recording) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let it = unsafe { object(recording, "recording") }?;
        it.host.try_wait(it.inner.stored())
    })
}

/// Changes how often it will be asked for, to one of LOOM_CLASS_…: what the store has of it is tagged anew, and nothing sent again. Waits
/// for the store.
///
/// LOOM_ERROR_NOT_READY: the engine has no store. LOOM_ERROR_IO: the store refuses, or has no tags.
///
/// # Safety
/// As loom_recording_pause.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_set_class(
    recording: *const loom_recording,
    storage_class: i32,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let it = unsafe { object(recording, "recording") }?;
        let class = storage_class_named(storage_class, "storage_class")?;
        it.host.try_wait(it.inner.set_class(class))
    })
}

/// Copies the finished stream, playlists and segments, into a folder; `main.m3u8` there begins it. Waits for the disk.
///
/// LOOM_ERROR_NOT_READY: it has not ended. LOOM_ERROR_IO.
///
/// # Safety
/// As loom_recording_pause; `folder` ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_export(
    recording: *const loom_recording,
    folder: *const c_char,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, folder) = unsafe { (object(recording, "recording")?, text(folder, "folder")?) };
        it.host.block(|| it.inner.export_hls(Path::new(folder)))
    })
}

/// Writes it as one MP4 file, without encoding anything again. Waits for the disk.
///
/// LOOM_ERROR_NOT_READY: it has not ended. LOOM_ERROR_TRANSCODE: its renditions cannot be put into such a file. LOOM_ERROR_IO.
///
/// # Safety
/// As loom_recording_pause; `path` ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_download(
    recording: *const loom_recording,
    path: *const c_char,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, path) = unsafe { (object(recording, "recording")?, text(path, "path")?) };
        let download = it.host.try_wait(it.inner.download(&DownloadChoice::default()))?;
        Ok(download.write_to(Path::new(path))?)
    })
}

/// Marks where a chapter begins, in nanoseconds of media time; below zero: where the recording is now.
///
/// LOOM_ERROR_ARGUMENT: the title or the time will not do. LOOM_ERROR_NOT_READY: it has not begun.
///
/// # Safety
/// As loom_recording_pause; `title` ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_mark(
    recording: *const loom_recording,
    at: i64,
    title: *const c_char,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, title) = unsafe { (object(recording, "recording")?, text(title, "title")?) };
        let at = (at >= 0).then(|| MediaTime::from_nanos(at));
        it.host.try_wait(it.inner.mark(at, title))?;
        Ok(())
    })
}
