//! What was said, and what people correct of it.

use std::ffi::c_char;

use ::loom_engine::{Correction, Transcript};

use crate::bytes::loom_bytes;
use crate::call::{Out, call, object, text};
use crate::recording::loom_recording;
use crate::result::{Failure, LOOM_ERROR_ARGUMENT, LOOM_ERROR_NOT_READY, loom_result};

/// The transcript with the time of each word.
pub const LOOM_TRANSCRIPT_JSON: i32 = 0;
/// WebVTT.
pub const LOOM_TRANSCRIPT_VTT: i32 = 1;
/// SubRip.
pub const LOOM_TRANSCRIPT_SRT: i32 = 2;
/// Text alone.
pub const LOOM_TRANSCRIPT_TXT: i32 = 3;

/// How a transcript is written that is asked for in one of LOOM_TRANSCRIPT_….
fn writer(format: i32) -> Result<fn(&Transcript) -> String, Failure> {
    match format {
        LOOM_TRANSCRIPT_JSON => Ok(Transcript::to_json),
        LOOM_TRANSCRIPT_VTT => Ok(Transcript::to_vtt),
        LOOM_TRANSCRIPT_SRT => Ok(Transcript::to_srt),
        LOOM_TRANSCRIPT_TXT => Ok(Transcript::to_txt),
        other => {
            let why = format!("format is {other}, which is none of LOOM_TRANSCRIPT_…");
            Err(Failure::new(LOOM_ERROR_ARGUMENT, why))
        }
    }
}

/// What was said, in one of LOOM_TRANSCRIPT_…: the final transcript once it is written, its newest version, before that what there is so far.
///
/// LOOM_ERROR_NOT_READY: nothing has been said, or there are no captions.
///
/// # Safety
/// As loom_recording_state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_transcript(
    recording: *const loom_recording,
    format: i32,
    transcript: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe {
            (
                object(recording, "recording")?,
                Out::new(transcript, "transcript")?,
            )
        };
        let said = it.inner.transcript();
        let none = || {
            Failure::new(
                LOOM_ERROR_NOT_READY,
                format!("recording {} has no transcript", it.inner.id()),
            )
        };
        out.give(loom_bytes::new(writer(format)?(&*said.ok_or_else(none)?)));
        Ok(())
    })
}

/// The versions of the transcript, as a JSON array of objects, none before the final one is written: `version`, 1 for what was heard and one more for
/// each that people have made; `made_at`, when that was (RFC 3339); `restored`, the earlier version whose text it has, where it has one.
/// Events of kind `transcript` tell each new one.
///
/// # Safety
/// `recording` was given out and not freed; `json` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_transcript_versions(
    recording: *const loom_recording,
    json: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe { (object(recording, "recording")?, Out::new(json, "json")?) };
        out.give(loom_bytes::json(&it.inner.transcript_versions())?);
        Ok(())
    })
}

/// The transcript as it was in a version, in one of LOOM_TRANSCRIPT_…. Waits for the disk.
///
/// LOOM_ERROR_NOT_FOUND: there is no such version. LOOM_ERROR_IO.
///
/// # Safety
/// `recording` was given out and not freed; `transcript` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_transcript_version(
    recording: *const loom_recording,
    version: u32,
    format: i32,
    transcript: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe {
            (
                object(recording, "recording")?,
                Out::new(transcript, "transcript")?,
            )
        };
        let write = writer(format)?;
        let said = it.host.try_wait(it.inner.transcript_version(version))?;
        out.give(loom_bytes::new(write(&said)));
        Ok(())
    })
}

/// Corrects the transcript of a recording that is ready: a version of its own, which the stream's captions show too; none is lost. `version` is the
/// newest to whoever asks. `corrections` is a JSON array of `{"segment": 3, "text": "…"}`, what a segment says instead, by its place from 0;
/// `{"replace": "…", "with": "…"}`, some words wherever they stand; `{"speaker": "…", "name": "…"}`, what a speaker is called. Gives the version
/// that comes of it as one of loom_recording_transcript_versions. Waits for the disk.
///
/// LOOM_ERROR_ARGUMENT: a correction cannot be read, or changes nothing. LOOM_ERROR_STATE: somebody has made another version meanwhile, and
/// nothing is changed; or the recording is not ready or has no transcript. LOOM_ERROR_IO.
///
/// # Safety
/// `recording` was given out and not freed; `corrections` ends with NUL; `json` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_correct(
    recording: *const loom_recording,
    version: u32,
    corrections: *const c_char,
    json: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, corrections, out) = unsafe {
            (
                object(recording, "recording")?,
                text(corrections, "corrections")?,
                Out::new(json, "json")?,
            )
        };
        let unreadable = |why| Failure::new(LOOM_ERROR_ARGUMENT, format!("corrections: {why}"));
        let corrections: Vec<Correction> = serde_json::from_str(corrections).map_err(unreadable)?;
        let made = it.host.try_wait(it.inner.correct(version, corrections))?;
        out.give(loom_bytes::json(&made)?);
        Ok(())
    })
}

/// Makes an earlier version's text the newest again, as a version of its own, which it gives as loom_recording_correct does. `newest` is the newest to
/// whoever asks. Waits for the disk.
///
/// LOOM_ERROR_NOT_FOUND: there is no such version. LOOM_ERROR_ARGUMENT: it is the newest. LOOM_ERROR_STATE, LOOM_ERROR_IO: as
/// loom_recording_correct.
///
/// # Safety
/// `recording` was given out and not freed; `json` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_restore_transcript(
    recording: *const loom_recording,
    newest: u32,
    version: u32,
    json: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe { (object(recording, "recording")?, Out::new(json, "json")?) };
        let made = it.host.try_wait(it.inner.restore_transcript(newest, version))?;
        out.give(loom_bytes::json(&made)?);
        Ok(())
    })
}
