//! Byte ranges (RFC 9110 §14) and conditional requests (§13) over files.

use std::io::SeekFrom;
use std::path::Path;
use std::time::UNIX_EPOCH;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::problem::{Answer, Problem};

/// What of a body a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part { start: u64, len: u64 },
    Nothing,
}

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

/// Whether the client's copy is the one tagged `tag` (RFC 9110 §13.1.2; a weak comparison).
pub(crate) fn is_fresh(request: &HeaderMap, tag: &str) -> bool {
    let listed = request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    listed.flat_map(|list| list.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag
    })
}

fn wanted(request: &HeaderMap, tag: Option<&str>, total: u64) -> Wanted {
    let Some(range) = request.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return Wanted::Whole;
    };
    // A changed body is sent whole (§13.1.5); without a tag of ours nothing can match.
    let stale = request
        .get(header::IF_RANGE)
        .is_some_and(|has| tag.is_none_or(|tag| has.as_bytes() != tag.as_bytes()));
    if stale { Wanted::Whole } else { parse(range, total) }
}

/// A Range that is malformed, of another unit, or of several parts is ignored, as §14.2 allows.
fn parse(range: &str, total: u64) -> Wanted {
    let Some((first, last)) = range
        .trim()
        .strip_prefix("bytes=")
        .and_then(|spec| spec.split_once('-'))
    else {
        return Wanted::Whole;
    };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if last < first => Wanted::Whole,
        (Ok(first), last) if last.is_ok() || last_is_open(range) => {
            if first >= total {
                return Wanted::Nothing;
            }
            let last = last.unwrap_or(u64::MAX).min(total - 1);
            Wanted::Part {
                start: first,
                len: last - first + 1,
            }
        }
        (Err(_), Ok(suffix)) if first.trim().is_empty() => match suffix.min(total) {
            0 => Wanted::Nothing,
            len => Wanted::Part {
                start: total - len,
                len,
            },
        },
        _ => Wanted::Whole,
    }
}

fn last_is_open(range: &str) -> bool {
    range.trim_end().ends_with('-')
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_a_range_selects_its_bytes() {
        let part = |start, len| Wanted::Part { start, len };
        for (range, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=2-5", part(2, 4)),
            ("bytes=2-", part(2, 8)),
            ("bytes=2-99", part(2, 8)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-99", part(0, 10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("seconds=0-1", Wanted::Whole),
            ("bytes=99999999999999999999-", Wanted::Whole),
        ] {
            assert_eq!(parse(range, 10), expected, "{range}");
        }
        assert_eq!(parse("bytes=0-", 0), Wanted::Nothing);
        assert_eq!(parse("bytes=-1", 0), Wanted::Nothing);
    }

    #[test]
    fn a_stale_if_range_gets_the_whole_body() {
        let mut request = HeaderMap::new();
        request.insert(header::RANGE, HeaderValue::from_static("bytes=1-2"));
        assert_eq!(
            wanted(&request, Some("\"a\""), 10),
            Wanted::Part { start: 1, len: 2 }
        );
        request.insert(header::IF_RANGE, HeaderValue::from_static("\"b\""));
        assert_eq!(wanted(&request, Some("\"a\""), 10), Wanted::Whole);
        request.insert(header::IF_RANGE, HeaderValue::from_static("\"a\""));
        assert_eq!(
            wanted(&request, Some("\"a\""), 10),
            Wanted::Part { start: 1, len: 2 }
        );
    }
}
