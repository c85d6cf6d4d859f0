//! A WHIP client's requests (RFC 9725): the host brings its own HTTP.

use std::ffi::c_char;
use std::net::IpAddr;

use loom_engine::whip::{Fragment, IfMatch, Patch, Refusal};
use loom_engine::{EngineError, PublishAnswer, PublisherName, Recording};

use crate::bytes::loom_bytes;
use crate::call::{Out, call, object, optional_text, text};
use crate::config::address;
use crate::hls::loom_response;
use crate::recording::loom_recording;
use crate::result::{Failure, LOOM_ERROR_ARGUMENT, loom_result};

/// Answers a WHIP client's offer (RFC 9725 §4.2): its media is recorded from then on. `address` is the IP address that it came from, whose
/// sessions are counted (`max_per_address` of loom_engine_config); NULL: they are not. Gives the SDP answer, and the session's name, the last
/// component of the resource's URL; the ETag of the 201 answer is loom_recording_etag's. Waits some milliseconds.
///
/// LOOM_ERROR_MEDIA: the offer cannot be answered. LOOM_ERROR_STATE: it takes no publisher any more. LOOM_ERROR_FULL.
///
/// # Safety
/// As loom_recording_state; texts end with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_publish(
    recording: *const loom_recording,
    offer: *const c_char,
    address: *const c_char,
    answer: *mut *mut loom_bytes,
    session: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, offer, from, outs) = unsafe {
            let it = object(recording, "recording")?;
            (it, text(offer, "offer")?, from(address)?, outs(answer, session)?)
        };
        let made = it.host.try_wait(it.inner.publish_from(offer, from))?;
        give(outs, made);
        Ok(())
    })
}

/// As loom_recording_publish, for another publisher, who joins the recording beside its own, such as a telephone's camera beside a screen:
/// what it sends becomes further tracks. `name`, 1 to 32 of a-z, 0-9 and -, is the publisher's in the recording; one that comes back under
/// its name goes on. It may come and go, before the recording's own publisher too: that begins, holds up and ends nothing. Its PATCH and
/// DELETE are loom_recording_patch and loom_recording_hang_up, which then ends this session alone.
///
/// LOOM_ERROR_MEDIA: the offer cannot be answered. LOOM_ERROR_STATE: the recording has ended. LOOM_ERROR_FULL: four have joined.
///
/// # Safety
/// As loom_recording_publish.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_join(
    recording: *const loom_recording,
    name: *const c_char,
    offer: *const c_char,
    address: *const c_char,
    answer: *mut *mut loom_bytes,
    session: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, name, offer, from, outs) = unsafe {
            let (it, name) = (object(recording, "recording")?, text(name, "name")?);
            (
                it,
                name,
                text(offer, "offer")?,
                from(address)?,
                outs(answer, session)?,
            )
        };
        let name =
            PublisherName::try_from(name.to_owned()).map_err(|why| Failure::new(LOOM_ERROR_ARGUMENT, why))?;
        let made = it.host.try_wait(it.inner.join_from(name, offer, from))?;
        give(outs, made);
        Ok(())
    })
}

/// Where an answer and a session's name go.
type Outs = (Out<*mut loom_bytes>, Out<*mut loom_bytes>);

/// # Safety
/// As [`Out::new`].
unsafe fn outs(answer: *mut *mut loom_bytes, session: *mut *mut loom_bytes) -> Result<Outs, Failure> {
    // SAFETY: as this function's own
    unsafe { Ok((Out::new(answer, "answer")?, Out::new(session, "session")?)) }
}

fn give((answer, session): Outs, made: PublishAnswer) {
    answer.give(loom_bytes::new(made.sdp));
    session.give(loom_bytes::new(made.session));
}

/// The address that an offer came from, where the host tells it.
///
/// # Safety
/// As [`optional_text`].
unsafe fn from(text: *const c_char) -> Result<Option<IpAddr>, Failure> {
    // SAFETY: as this function's own
    let text = unsafe { optional_text(text, "address") }?;
    text.map(|text| address(text, "address")).transpose()
}

/// The value of ETag for a session as its ICE is now, with its quotes: for the 201 that answers its offer (RFC 9725 §4.3.1).
///
/// LOOM_ERROR_NOT_FOUND.
///
/// # Safety
/// As loom_recording_publish.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_etag(
    recording: *const loom_recording,
    session: *const c_char,
    etag: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, session, out) = unsafe {
            let it = object(recording, "recording")?;
            (it, text(session, "session")?, Out::new(etag, "etag")?)
        };
        let session = it.inner.session(session)?;
        out.give(loom_bytes::new(quoted(&session.etag())));
        Ok(())
    })
}

/// Does what a WHIP client's PATCH asks (RFC 9725 §4.3): its candidates are taken note of, or its ICE restarts. `if_match` is the value of
/// that header, NULL where it was not sent; `fragment` the body, of type application/trickle-ice-sdpfrag. Gives the answer as it is to be
/// sent: 204; 200 with a body and an ETag, after a restart; or 400, 404, 412, 413 or 428 with a problem document (RFC 9457), and the session
/// goes on as it was.
///
/// # Safety
/// As loom_recording_publish.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_patch(
    recording: *const loom_recording,
    session: *const c_char,
    if_match: *const c_char,
    fragment: *const c_char,
    response: *mut *mut loom_response,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, session, if_match, fragment, out) = unsafe {
            let it = object(recording, "recording")?;
            let session = text(session, "session")?;
            let if_match = optional_text(if_match, "if_match")?;
            let fragment = text(fragment, "fragment")?;
            (it, session, if_match, fragment, Out::new(response, "response")?)
        };
        let answer = it
            .host
            .enter(|| patched(&it.inner, session, if_match, fragment))?;
        out.give(answer.unwrap_or_else(|no| loom_response::refusal(no.status, no.to_json())));
        Ok(())
    })
}

fn patched(
    recording: &Recording,
    session: &str,
    if_match: Option<&str>,
    fragment: &str,
) -> Result<loom_response, Refusal> {
    let session = recording.session(session).map_err(unknown)?;
    let patch = Patch {
        if_match: IfMatch::new(if_match),
        fragment: Fragment::parse(fragment)?,
    };
    Ok(match session.patch(&patch)? {
        None => loom_response::nothing(),
        Some(restart) => {
            let body = patch.fragment.answer(&restart);
            loom_response::fragment(body, &quoted(&restart.etag))
        }
    })
}

fn unknown(why: EngineError) -> Refusal {
    Refusal::not_found(why.to_string())
}

/// An entity tag as HTTP writes it (RFC 9110 §8.8.3).
fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// Ends a publisher's session, as a WHIP client's DELETE asks; with its only session the recording ends.
///
/// LOOM_ERROR_NOT_FOUND.
///
/// # Safety
/// As loom_recording_publish.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_recording_hang_up(
    recording: *const loom_recording,
    session: *const c_char,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, session) = unsafe { (object(recording, "recording")?, text(session, "session")?) };
        Ok(it.inner.hang_up(session)?)
    })
}
