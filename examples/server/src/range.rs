//! Byte ranges (RFC 9110 §14) and conditional requests (§13) over files.

use std::io::SeekFrom;
use std::path::Path;
use std::time::UNIX_EPOCH;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use loom_engine::range::{Wanted, is_fresh, wanted};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::problem::{Answer, Problem};

/// Answers with the file at `path`, or the part of it that the request's Range names, or 304 where the client has it.
/// `None` where there is no such file.
pub(crate) async fn file(request: &HeaderMap, path: &Path) -> Answer<Option<Response>> {
    let fail = |why: std::io::Error| Problem::internal("read a file of this recording", &why);
    let mut file = match File::open(path).await {
        Ok(file) => file,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(fail(why)),
    };
    let about = file.metadata().await.map_err(fail)?;
    let total = about.len();
    let changed = about
        .modified()
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    let tag = format!("\"{total:x}-{:x}\"", changed.as_nanos());
    let mut response = if is_fresh(request, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let part = match wanted(request, Some(&tag), total) {
            Wanted::Whole => None,
            Wanted::Part { start, len } => Some((start, len)),
            Wanted::Nothing => return Ok(Some(unsatisfiable(total))),
        };
        let (start, len) = part.unwrap_or((0, total));
        file.seek(SeekFrom::Start(start)).await.map_err(fail)?;
        let body = Body::from_stream(ReaderStream::with_capacity(file.take(len), READ));
        let status = if part.is_some() {
            StatusCode::PARTIAL_CONTENT
        } else {
            StatusCode::OK
        };
        head(status, len, part.map(|_| (start, total)), body)
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(Some(response))
}

/// Answers with a body of `total` bytes that `read` gives piece by piece, from where, how many at most; or the part of it that the
/// request's Range names, or 304 where the client has it.
pub(crate) fn pieces<F>(
    request: &HeaderMap,
    tag: &str,
    total: u64,
    read: impl Fn(u64, usize) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = std::io::Result<Bytes>> + Send + 'static,
{
    let mut response = if is_fresh(request, tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let part = match wanted(request, Some(tag), total) {
            Wanted::Whole => None,
            Wanted::Part { start, len } => Some((start, len)),
            Wanted::Nothing => return unsatisfiable(total),
        };
        let (start, len) = part.unwrap_or((0, total));
        head(
            match part {
                Some(_) => StatusCode::PARTIAL_CONTENT,
                None => StatusCode::OK,
            },
            len,
            part.map(|_| (start, total)),
            Body::from_stream(stream(start, start + len, read)),
        )
    };
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// The bytes from `at` to `end`, read piece by piece.
fn stream<F>(
    at: u64,
    end: u64,
    read: impl Fn(u64, usize) -> F + Send + 'static,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send
where
    F: Future<Output = std::io::Result<Bytes>> + Send + 'static,
{
    futures::stream::unfold((at, read), move |(at, read)| async move {
        if at >= end {
            return None;
        }
        match read(at, (end - at).min(PIECE) as usize).await {
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => {
                let next = at + bytes.len() as u64;
                Some((Ok(bytes), (next, read)))
            }
            Err(why) => Some((Err(why), (end, read))),
        }
    })
}

fn head(status: StatusCode, len: u64, part: Option<(u64, u64)>, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, len.into());
    if let Some((start, total)) = part {
        let range = format!("bytes {start}-{}/{total}", start + len - 1);
        if let Ok(range) = HeaderValue::from_str(&range) {
            headers.insert(header::CONTENT_RANGE, range);
        }
    }
    response
}

fn unsatisfiable(total: u64) -> Response {
    let detail = format!("the range lies outside the {total} bytes that there are");
    let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "bad-range", detail);
    let mut response = problem.into_response();
    if let Ok(range) = HeaderValue::from_str(&format!("bytes */{total}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    response
}

/// How much of a file is read at a time.
const READ: usize = 64 * 1024;
/// How much of a body in pieces is read at a time.
const PIECE: u64 = 256 * 1024;
