//! What a recording answers to an HTTP request.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use loom_hls::{Answer, Body, View, stored_answer};
use tokio::time::{Instant, timeout_at};

use super::body::{HlsBody, READ, Stretch};
use super::range::{self, Wanted};
use super::read_back::Place;
use super::rendering::{self, Rendering};
use super::{Asked, range::is_fresh};
use crate::event::RecordingState;
use crate::keys;
use crate::recording::Inner;
use crate::store::Blob;

/// An answer that says no: an RFC 9457 problem document.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    /// For 416: how many bytes there are.
    pub(crate) total: Option<u64>,
}

/// An answer with all of its body.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) about: About,
    /// For 206: where the body begins, and how many bytes there are where that is known.
    pub(crate) part: Option<(u64, Option<u64>)>,
    pub(crate) body: Bytes,
}

/// What an answer's body is and how long it may be kept, as the pure origin tells it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About {
    pub(crate) content_type: &'static str,
    pub(crate) cache_control: &'static str,
}

/// What the origin says of the bytes from `first` on, once it says something.
async fn answer(
    recording: &Arc<Inner>,
    path: &str,
    query: Option<&str>,
    first: u64,
) -> Result<loom_hls::Response, Refusal> {
    if keys::is_file(path) {
        return match recording.folder.read(&format!("keys/{path}"), 0, None) {
            Ok(Some(key)) => Ok(loom_hls::Response {
                content_type: "application/octet-stream",
                cache_control: NO_STORE,
                body: Body::Bytes(key),
            }),
            _ => Err(unknown_media()),
        };
    }
    if path == loom_hls::CLOCK {
        return Ok(loom_hls::Response {
            content_type: "text/plain",
            cache_control: NO_STORE,
            body: Body::Bytes(loom_hls::date_time(SystemTime::now()).into()),
        });
    }
    // the ranking of pathways is the host's, for every recording, live or not
    let steered = (path.rsplit('/').next() == Some("steering.json"))
        .then(|| recording.shared.steering().as_ref().map(|it| it.answer(query)))
        .flatten();
    let mut deadline = None;
    loop {
        let asked = match &steered {
            Some(answer) => Asked::Answer(answer.clone()),
            None => recording.live.request(path, query, first),
        };
        let answer = match asked {
            Asked::Answer(answer) => answer,
            Asked::Wait(wait, bell) => {
                // what a request waits for can become more exact, but not later
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + wait.limit);
                if timeout_at(deadline, bell.heard()).await.is_err() {
                    return Err(not_yet(format!("{path} did not come in time")));
                }
                continue;
            }
            Asked::Gone if recording.state_now() == RecordingState::Created => {
                return Err(not_yet("the recording has not begun".to_owned()));
            }
            Asked::Gone => match stored_answer(path, query) {
                Answer::NotFound => recording.live.late(path),
                stored => stored,
            },
        };
        return match answer {
            Answer::Ready(response) => Ok(response),
            Answer::BadRequest(why) => {
                Err(Refusal::new(StatusCode::BAD_REQUEST, "bad-playlist-request", why))
            }
            _ => Err(unknown_media()),
        };
    }
}

/// Asks, waits, and reads the whole body, or what of it a `Range` names.
pub(crate) async fn collect(
    recording: &Arc<Inner>,
    path: &str,
    query: Option<&str>,
    range: Option<&str>,
) -> Result<Collected, Refusal> {
    let mut request = HeaderMap::new();
    if let Some(range) = range.and_then(|it| HeaderValue::from_str(it).ok()) {
        request.insert(header::RANGE, range);
    }
    let (about, response) = prepare(recording, path, query, &request).await?;
    let part = response.headers().get(header::CONTENT_RANGE).and_then(placed);
    let body = response.into_body().collect().await;
    let body = body.map_err(|why| internal(recording, &why))?;
    if part.is_some() && body.is_empty() {
        let detail = "the segment ended before the range begins";
        return Err(Refusal::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "bad-range",
            detail,
        ));
    }
    Ok(Collected { about, part, body })
}

/// Where a part begins and how many bytes there are, by its `Content-Range` (RFC 9110 §14.4).
fn placed(range: &HeaderValue) -> Option<(u64, Option<u64>)> {
    let (place, total) = range.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = place.split_once('-')?;
    Some((first.parse().ok()?, total.parse().ok()))
}

/// Answers a request for `path`, which is relative to the recording's base.
pub(crate) async fn respond(
    recording: &Arc<Inner>,
    path: &str,
    query: Option<&str>,
    request: &HeaderMap,
) -> Result<Response<HlsBody>, Refusal> {
    let (about, mut response) = prepare(recording, path, query, request).await?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(about.content_type));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static(about.cache_control),
    );
    Ok(response)
}

async fn prepare(
    recording: &Arc<Inner>,
    path: &str,
    query: Option<&str>,
    request: &HeaderMap,
) -> Result<(About, Response<HlsBody>), Refusal> {
    let asked = range::asked(request).filter(|_| !request.contains_key(header::IF_RANGE));
    let answer = answer(recording, path, query, asked.map_or(0, |asked| asked.first)).await?;
    let about = About {
        content_type: answer.content_type,
        cache_control: answer.cache_control,
    };
    let kind = about.content_type;
    let response = match answer.body {
        // what is never the same again is not kept in other forms
        Body::Bytes(data) if rendering::is_text(kind) && about.cache_control != NO_STORE => {
            text(request, &recording.live.renderings.of(data))?
        }
        Body::Bytes(data) => bytes(request, None, data)?,
        Body::Stored {
            key,
            offset,
            len: Some(len),
        } if len <= READ as u64 && !rendering::is_text(kind) => {
            part(recording, request, Place { key, offset, len }).await?
        }
        Body::Stored { key, offset, len } => {
            stored(recording, request, key, offset, len, rendering::is_text(kind)).await?
        }
        Body::Viewed { key, view } => text(request, &*viewed_text(recording, key, view).await?)?,
        Body::Growing { rendition, segment } => {
            let grow =
                |start, end| HlsBody::growing(recording.clone(), rendition.clone(), segment, start, end);
            match asked {
                Some(asked) => {
                    // RFC 8673 §2.2: nobody knows yet where the segment ends, so the last byte may lie behind that
                    let last = asked.last.unwrap_or(FARTHEST);
                    let mut response = Response::new(grow(asked.first, last.saturating_add(1)));
                    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                    let range = format!("bytes {}-{last}/*", asked.first);
                    field(&mut response, header::CONTENT_RANGE, &range);
                    response
                }
                None => Response::new(grow(0, u64::MAX)),
            }
        }
    };
    Ok((about, response))
}

/// A text: its gzip form to those who take it, nothing to those who have it.
fn text(request: &HeaderMap, rendering: &Rendering) -> Result<Response<HlsBody>, Refusal> {
    let takes = rendering::takes_gzip(request) && !request.contains_key(header::RANGE);
    let gzip = takes.then(|| rendering.gzip()).flatten();
    let tag = rendering.tag(gzip.is_some());
    let mut response = match gzip {
        _ if is_fresh(request, tag) => not_modified(),
        Some(gzip) => {
            let mut response = Response::new(HlsBody::from(gzip.clone()));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        }
        None => bytes(request, Some(tag), rendering.plain.clone())?,
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag.clone());
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    Ok(response)
}

/// Bytes, or the part of them that the request's Range names.
fn bytes(request: &HeaderMap, tag: Option<&HeaderValue>, data: Bytes) -> Result<Response<HlsBody>, Refusal> {
    let total = data.len() as u64;
    let mut response = match range::wanted(request, tag, total) {
        Wanted::Whole => Response::new(HlsBody::from(data)),
        Wanted::Part { start, len } => {
            let part = data.slice(start as usize..(start + len) as usize);
            partial(HlsBody::from(part), start, len, total)
        }
        Wanted::Nothing => return Err(Refusal::unsatisfiable(total)),
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    Ok(response)
}

/// A part that has left memory, answered as if it had not.
async fn part(
    recording: &Arc<Inner>,
    request: &HeaderMap,
    place: Place,
) -> Result<Response<HlsBody>, Refusal> {
    let data = recording.live.read_back.at(&place);
    let Place { key, offset, len } = place;
    let (working, name) = (recording.clone(), format!("hls/{key}"));
    let read = move || working.folder.read(&name, offset, Some(len)).ok().flatten();
    let read = async {
        let data = tokio::task::spawn_blocking(read).await.ok().flatten();
        data.filter(|data| data.len() as u64 == len).ok_or(())
    };
    match data.get_or_try_init(|| read).await {
        Ok(data) => bytes(request, None, data.clone()),
        // it is not here, or not all of it
        Err(()) => stored(recording, request, key, offset, Some(len), false).await,
    }
}

/// What lies in the recording's folder: a file, or `len` bytes of one from `offset`.
async fn stored(
    recording: &Arc<Inner>,
    request: &HeaderMap,
    key: String,
    offset: u64,
    len: Option<u64>,
    is_text: bool,
) -> Result<Response<HlsBody>, Refusal> {
    if is_text {
        return text(request, &*stored_text(recording, key).await?);
    }
    // with a range the whole is not looked at: the first bytes are read where it begins
    let path = recording.folder.path(&format!("hls/{key}"));
    let (asked, whole) = (request, len);
    let request = request.clone();
    let open = move || -> io::Result<Option<Result<Response<HlsBody>, Refusal>>> {
        let Some((file, size, tag)) = tagged_file(&path)? else {
            return Ok(None);
        };
        let total = len.unwrap_or(u64::MAX).min(size.saturating_sub(offset));
        let wanted = match chosen(&request, &tag, total) {
            Ok(Some(wanted)) => wanted,
            Ok(None) => return Ok(Some(Ok(tagged(not_modified(), tag)))),
            Err(no) => return Ok(Some(Err(no))),
        };
        let (start, len) = wanted.place(total);
        let (first, rest) = Stretch::open(file, offset + start, len)?;
        let body = HlsBody::stretch(first, rest);
        Ok(Some(Ok(stretched(wanted, body, total, tag))))
    };
    let opened = tokio::task::spawn_blocking(open)
        .await
        .unwrap_or_else(|why| Err(io::Error::other(why)));
    match opened {
        Ok(Some(response)) => response,
        Ok(None) => fetched(recording, asked, key, offset, whole).await,
        Err(why) => Err(internal(recording, &why)),
    }
}

/// What the store has of a file. What it has is read from the folder when it is first asked.
async fn blob(recording: &Arc<Inner>, key: &str) -> Result<Blob, Refusal> {
    let (working, name) = (recording.clone(), format!("hls/{key}"));
    let found = tokio::task::spawn_blocking(move || working.blob(&name)).await;
    found.ok().flatten().ok_or_else(unknown_media)
}

/// As [`stored`], of what lies in the store and not, or no longer, in the recording's folder.
async fn fetched(
    recording: &Arc<Inner>,
    request: &HeaderMap,
    key: String,
    offset: u64,
    len: Option<u64>,
) -> Result<Response<HlsBody>, Refusal> {
    let blob = blob(recording, &key).await?;
    let total = len.unwrap_or(u64::MAX).min(blob.size().saturating_sub(offset));
    let tag = HeaderValue::from_str(blob.tag()).map_err(|why| internal(recording, &why))?;
    let Some(wanted) = chosen(request, &tag, total)? else {
        return Ok(tagged(not_modified(), tag));
    };
    let (start, len) = wanted.place(total);
    match Stretch::fetch(blob, offset + start, len).await {
        Ok((first, rest)) => {
            let body = HlsBody::stretch(first, rest);
            Ok(stretched(wanted, body, total, tag))
        }
        Err(why) => Err(internal(recording, &why)),
    }
}

/// Which of so many bytes are asked for; `None` where the client has them.
fn chosen(request: &HeaderMap, tag: &HeaderValue, total: u64) -> Result<Option<Wanted>, Refusal> {
    if is_fresh(request, tag) {
        return Ok(None);
    }
    match range::wanted(request, Some(tag), total) {
        Wanted::Nothing => Err(Refusal::unsatisfiable(total)),
        wanted => Ok(Some(wanted)),
    }
}

fn stretched(wanted: Wanted, body: HlsBody, total: u64, tag: HeaderValue) -> Response<HlsBody> {
    let mut response = match wanted {
        Wanted::Part { start, len } => partial(body, start, len, total),
        // also where a range is ignored (RFC 9110 §14.2)
        Wanted::Whole | Wanted::Nothing => Response::new(body),
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    tagged(response, tag)
}

/// A text in the recording's folder, read and compressed once while it stays the same.
async fn stored_text(recording: &Arc<Inner>, key: String) -> Result<Arc<Rendering>, Refusal> {
    let (working, name) = (recording.clone(), key.clone());
    let read = move || -> io::Result<Option<Arc<Rendering>>> {
        let Some((file, size, tag)) = tagged_file(&working.folder.path(&format!("hls/{key}")))? else {
            return Ok(None);
        };
        let renderings = &working.live.renderings;
        if let Some(known) = renderings.of_file(&key, &tag) {
            return Ok(Some(known));
        }
        let mut data = Vec::with_capacity(size as usize);
        let mut file = file;
        file.read_to_end(&mut data)?;
        Ok(Some(renderings.keep_file(key, tag, data.into())))
    };
    match tokio::task::spawn_blocking(read)
        .await
        .unwrap_or_else(|why| Err(io::Error::other(why)))
    {
        Ok(Some(text)) => Ok(text),
        Ok(None) => fetched_text(recording, name).await,
        Err(why) => Err(internal(recording, &why)),
    }
}

/// As [`stored_text`], of what lies in the store.
async fn fetched_text(recording: &Arc<Inner>, key: String) -> Result<Arc<Rendering>, Refusal> {
    let blob = blob(recording, &key).await?;
    let tag = HeaderValue::from_str(blob.tag()).map_err(|why| internal(recording, &why))?;
    let renderings = &recording.live.renderings;
    if let Some(known) = renderings.of_file(&key, &tag) {
        return Ok(known);
    }
    match blob.read_all().await {
        Ok(text) => Ok(renderings.keep_file(key, tag, text)),
        Err(why) => Err(internal(recording, &why)),
    }
}

/// A stored playlist as a request wants it shown.
async fn viewed_text(recording: &Arc<Inner>, key: String, view: View) -> Result<Arc<Rendering>, Refusal> {
    let working = recording.clone();
    let show = move || -> io::Result<Option<Arc<Rendering>>> {
        let path = |key: &str| working.folder.path(&format!("hls/{key}"));
        let Some((_, _, tag)) = tagged_file(&path(&key))? else {
            return Ok(None);
        };
        let renderings = &working.live.renderings;
        let name = format!("{key} {view:?}");
        if let Some(known) = renderings.of_file(&name, &tag) {
            return Ok(Some(known));
        }
        let shown = view.show(&key, |key: &str| std::fs::read(path(key)).ok());
        Ok(shown.map(|text| renderings.keep_file(name, tag, text.into())))
    };
    match tokio::task::spawn_blocking(show)
        .await
        .unwrap_or_else(|why| Err(io::Error::other(why)))
    {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(unknown_media()),
        Err(why) => Err(internal(recording, &why)),
    }
}

/// A file, its size and its entity tag; `None` where there is none. Blocks.
fn tagged_file(path: &Path) -> io::Result<Option<(File, u64, HeaderValue)>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(why) => return Err(why),
    };
    let about = file.metadata()?;
    if !about.is_file() {
        return Ok(None);
    }
    let changed = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let tag = format!("\"{:x}-{:x}\"", about.len(), changed.as_nanos());
    let tag = HeaderValue::from_str(&tag).map_err(io::Error::other)?;
    Ok(Some((file, about.len(), tag)))
}

fn partial(body: HlsBody, start: u64, len: u64, total: u64) -> Response<HlsBody> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let range = format!("bytes {start}-{}/{total}", start + len - 1);
    field(&mut response, header::CONTENT_RANGE, &range);
    response
}

fn not_modified() -> Response<HlsBody> {
    let mut response = Response::new(HlsBody::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

fn tagged(mut response: Response<HlsBody>, tag: HeaderValue) -> Response<HlsBody> {
    response.headers_mut().insert(header::ETAG, tag);
    response
}

fn field(response: &mut Response<HlsBody>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            total: None,
        }
    }

    fn unsatisfiable(total: u64) -> Self {
        let detail = format!("the range lies outside the {total} bytes that there are");
        Self {
            total: Some(total),
            ..Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "bad-range", detail)
        }
    }

    /// `application/problem+json` (RFC 9457 §3.1).
    pub(crate) fn into_response(self) -> Response<HlsBody> {
        let document = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        let mut response = Response::new(HlsBody::from(Bytes::from(document.to_string())));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            _ => {}
        }
        if let Some(total) = self.total {
            field(&mut response, header::CONTENT_RANGE, &format!("bytes */{total}"));
        }
        response
    }
}

fn unknown_media() -> Refusal {
    let detail =
        "this recording has no such playlist, part or segment (yet); hls/main.m3u8 names what there is";
    Refusal::new(StatusCode::NOT_FOUND, "unknown-media", detail)
}

fn not_yet(detail: String) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "not-yet", detail)
}

/// What went wrong is for the log; the answer names no file of this machine.
fn internal(recording: &Inner, why: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(recording = %recording.id, error = %why, "a stored file could not be read");
    let detail = "the server could not read a file of this recording; its log says why";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}

const NO_STORE: &str = "no-store";

/// The last byte of a body without a known end (RFC 8673 §2.2): the largest number that every client can count to.
const FARTHEST: u64 = (1 << 53) - 1;
