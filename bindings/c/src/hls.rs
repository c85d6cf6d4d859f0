//! The stream, as answers to a web server's requests; and what every such answer is.

use std::ffi::{CString, c_char};

use loom_engine::HlsAnswer;

use crate::call::{Out, call, free, object, optional_text, text};
use crate::recording::loom_recording;
use crate::result::loom_result;

/// An answer to a request, as it is to be sent.
pub struct loom_response {
    status: u16,
    content_type: CString,
    cache_control: CString,
    content_range: Option<CString>,
    etag: Option<CString>,
    body: ::bytes::Bytes,
}

impl loom_response {
    fn new(status: u16, content_type: &str, cache_control: &str, body: ::bytes::Bytes) -> Self {
        Self {
            status,
            content_type: CString::new(content_type).unwrap_or_default(),
            cache_control: CString::new(cache_control).unwrap_or_default(),
            content_range: None,
            etag: None,
            body,
        }
    }

    /// Words for whoever reads them.
    fn said(status: u16, why: String) -> Self {
        Self::new(status, "text/plain; charset=utf-8", NO_STORE, why.into())
    }

    fn in_range(self, range: String) -> Self {
        let content_range = CString::new(range).ok();
        Self {
            content_range,
            ..self
        }
    }

    /// A problem document (RFC 9457).
    pub(crate) fn refusal(status: u16, document: String) -> Self {
        Self::new(status, "application/problem+json", NO_STORE, document.into())
    }

    /// 204.
    pub(crate) fn nothing() -> Self {
        Self::new(204, "", NO_STORE, ::bytes::Bytes::new())
    }

    /// What answers an ICE restart (RFC 9725 §4.3.3).
    pub(crate) fn fragment(fragment: String, etag: &str) -> Self {
        Self {
            etag: CString::new(etag).ok(),
            ..Self::new(200, "application/trickle-ice-sdpfrag", NO_STORE, fragment.into())
        }
    }

    fn from_answer(answer: HlsAnswer, path: &str) -> Self {
        match answer {
            HlsAnswer::Ready {
                content_type,
                cache_control,
                body,
            } => Self::new(200, content_type, cache_control, body),
            HlsAnswer::Part {
                content_type,
                cache_control,
                first,
                total,
                body,
            } => {
                let last = first + (body.len() as u64).saturating_sub(1);
                let range = format!("bytes {first}-{last}/{}", total_or_star(total));
                Self::new(206, content_type, cache_control, body).in_range(range)
            }
            HlsAnswer::OutOfRange { total } => {
                let range = format!("bytes */{}", total_or_star(total));
                Self::said(416, format!("{path} has no such bytes")).in_range(range)
            }
            HlsAnswer::NotFound => Self::said(404, format!("there is no {path}")),
            HlsAnswer::BadRequest(why) => Self::said(400, why),
            HlsAnswer::Unavailable(why) => Self::said(503, why),
        }
    }
}

const NO_STORE: &str = "no-store";

/// As `Content-Range` writes it (RFC 9110 §14.4).
fn total_or_star(total: Option<u64>) -> String {
    total.map_or_else(|| "*".to_owned(), |total| total.to_string())
}

/// Answers a request for `path` below the recording's stream, such as "main.m3u8", with the query that came with it, or NULL, and the value
/// of its Range, or NULL. What a viewer asks for before it is there (RFC 8216bis §6.2.5.2) is waited for, some seconds at most, so each
/// request is best answered on a thread of its own. That there is no such resource is an answer too: of status 404.
///
/// # Safety
/// `recording` was given out and not freed; texts end with NUL; `response` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_hls(
    recording: *const loom_recording,
    path: *const c_char,
    query: *const c_char,
    range: *const c_char,
    response: *mut *mut loom_response,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, path, query, range, out) = unsafe {
            let it = object(recording, "recording")?;
            let (path, query) = (text(path, "path")?, optional_text(query, "query")?);
            let range = optional_text(range, "range")?;
            (it, path, query, range, Out::new(response, "response")?)
        };
        let answer = it.host.wait(async {
            match range {
                Some(range) => it.inner.hls_range(path, query, range).await,
                None => it.inner.hls(path, query).await,
            }
        })?;
        out.give(loom_response::from_answer(answer, path));
        Ok(())
    })
}

/// The HTTP status. Of loom_recording_hls: 200, 206, 400, 404, 416 or 503, with which `Retry-After: 1` should be sent, since what was waited
/// for did not come in time; of loom_recording_patch: 200, 204 or 4xx. 0 for NULL.
///
/// # Safety
/// `response` is NULL or was given out and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_response_status(response: *const loom_response) -> u16 {
    // SAFETY: as the call's own
    unsafe { response.as_ref() }.map_or(0, |it| it.status)
}

/// The value of Content-Type: valid until it is freed; empty where there is no body. NULL for NULL.
///
/// # Safety
/// As loom_response_status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_response_content_type(response: *const loom_response) -> *const c_char {
    // SAFETY: as the call's own
    unsafe { response.as_ref() }.map_or(std::ptr::null(), |it| it.content_type.as_ptr())
}

/// The value of Cache-Control: valid until it is freed. NULL for NULL.
///
/// # Safety
/// As loom_response_status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_response_cache_control(response: *const loom_response) -> *const c_char {
    // SAFETY: as the call's own
    unsafe { response.as_ref() }.map_or(std::ptr::null(), |it| it.cache_control.as_ptr())
}

/// The value of Content-Range (RFC 9110 §14.4): valid until it is freed. NULL where it is not to be sent, and for NULL.
///
/// # Safety
/// As loom_response_status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_response_content_range(response: *const loom_response) -> *const c_char {
    // SAFETY: as the call's own
    let range = unsafe { response.as_ref() }.and_then(|it| it.content_range.as_ref());
    range.map_or(std::ptr::null(), |it| it.as_ptr())
}

/// The value of ETag, with its quotes: valid until it is freed. NULL where it is not to be sent, and for NULL.
///
/// # Safety
/// As loom_response_status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_response_etag(response: *const loom_response) -> *const c_char {
    // SAFETY: as the call's own
    let etag = unsafe { response.as_ref() }.and_then(|it| it.etag.as_ref());
    etag.map_or(std::ptr::null(), |it| it.as_ptr())
}

/// The body: valid until it is freed. NULL for NULL.
///
/// # Safety
/// As loom_response_status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_response_data(response: *const loom_response) -> *const u8 {
    // SAFETY: as the call's own
    unsafe { response.as_ref() }.map_or(std::ptr::null(), |it| it.body.as_ptr())
}

/// How many bytes the body has. 0 for NULL.
///
/// # Safety
/// As loom_response_status.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_response_size(response: *const loom_response) -> usize {
    // SAFETY: as the call's own
    unsafe { response.as_ref() }.map_or(0, |it| it.body.len())
}

/// Frees it.
///
/// # Safety
/// As loom_response_status, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_response_free(response: *mut loom_response) {
    // SAFETY: as the call's own
    unsafe { free(response) }
}
