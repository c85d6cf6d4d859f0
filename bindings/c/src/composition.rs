//! What is done for a recording once it has ended: jobs, and screen and camera in one picture, which is one.

use std::ffi::c_char;
use std::path::Path;

use ::loom_engine::{Composition, JobKind};

use crate::bytes::loom_bytes;
use crate::call::{Out, call, object, optional_text, text};
use crate::recording::loom_recording;
use crate::result::{Failure, LOOM_ERROR_ARGUMENT, LOOM_ERROR_NOT_READY, loom_result};

/// What is done for it once it has ended, and how far that is, as a JSON array of objects: `job` (`chapters`, `transcript`, `brief`,
/// `upload`, `composition`), `state` (`queued`, `running`, `waiting`, `parked`, `done`), `progress` (0 to 1), `tries`, and where there is one `reason`, why
/// the last try failed, and `next_try`, seconds. Events of kind `job` tell each change.
///
/// # Safety
/// `recording` was given out and not freed; `json` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_jobs(
    recording: *const loom_recording,
    json: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe { (object(recording, "recording")?, Out::new(json, "json")?) };
        out.give(loom_bytes::json(&it.inner.jobs())?);
        Ok(())
    })
}

/// Begins a job anew, by its name, that waits for its next try, or is parked after its last. To restart what runs or is done changes nothing.
///
/// LOOM_ERROR_ARGUMENT: no job has that name. LOOM_ERROR_NOT_FOUND: the recording has not that job.
///
/// # Safety
/// `recording` was given out and not freed; `job` ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_restart_job(
    recording: *const loom_recording,
    job: *const c_char,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, job) = unsafe { (object(recording, "recording")?, text(job, "job")?) };
        let job: JobKind = job
            .parse()
            .map_err(|why| Failure::new(LOOM_ERROR_ARGUMENT, why))?;
        it.host.enter(|| it.inner.restart_job(job))??;
        Ok(())
    })
}

/// Has screen and camera made into one picture, of a recording that is ready: a stream beside its own, with its sound, text and chapters, and one
/// file. The main picture is the screen, the first beside it the camera. `layout` says where the camera lies over time, as a JSON object such as
/// `{"placements": [{}, {"at": 12.5, "shape": "rectangle", "place": "top-right", "size": 0.3}, {"at": 40, "hidden": true}]}`: `shape` is `circle`
/// or `rectangle`, `place` a corner or `{"x": 0.5, "y": 0.5}`, `size` the camera's height as a fraction, `at` seconds. NULL: a circle at the bottom
/// left. It is the job `composition` of loom_recording_jobs; once that is done, `composition` of loom_recording_info tells what there is: its
/// `playlist`, which loom_recording_hls answers beside `main.m3u8`, its DASH `manifest`, its `thumbnails`, its `renditions` and the `layout`.
/// Another layout takes the place of the one before. Waits for the disk.
///
/// LOOM_ERROR_ARGUMENT: the layout breaks a rule. LOOM_ERROR_STATE: the recording is not ready, or has only one picture.
/// LOOM_ERROR_TRANSCODE: it is encrypted. LOOM_ERROR_IO.
///
/// # Safety
/// `recording` was given out and not freed; `layout` is NULL or ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_lay_out(
    recording: *const loom_recording,
    layout: *const c_char,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, layout) = unsafe { (object(recording, "recording")?, optional_text(layout, "layout")?) };
        let unreadable = |why| Failure::new(LOOM_ERROR_ARGUMENT, format!("layout: {why}"));
        let layout = layout.map_or_else(
            || Ok(Composition::default()),
            |json| serde_json::from_str(json).map_err(unreadable),
        )?;
        it.host.try_wait(it.inner.lay_out(&layout))?;
        Ok(())
    })
}

/// Writes what loom_recording_lay_out had made as one MP4 file, with the recording's main sound. Waits for the disk.
///
/// LOOM_ERROR_NOT_READY: it is not made. LOOM_ERROR_IO.
///
/// # Safety
/// `recording` was given out and not freed; `path` ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_download_composition(
    recording: *const loom_recording,
    path: *const c_char,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, path) = unsafe { (object(recording, "recording")?, text(path, "path")?) };
        let none = || {
            let why = format!(
                "recording {} has no screen and camera in one picture, or not yet",
                it.inner.id()
            );
            Failure::new(LOOM_ERROR_NOT_READY, why)
        };
        let made = it.inner.composition().ok_or_else(none)?;
        let download = it.host.try_wait(it.inner.download(&made.download()))?;
        Ok(download.write_to(Path::new(path))?)
    })
}
