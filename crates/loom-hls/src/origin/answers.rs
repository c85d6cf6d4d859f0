//! How what is asked for is sent: its media type, and how long it may be kept.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;

use crate::address::Address;
use crate::origin::{Answer, Body, Response};
use crate::view::View;

/// The answer for a finished recording, whose folder holds everything: which file `path` is, and how to send it. The file may
/// be missing; then the answer to the viewer is 404. The query's [`View`] is obeyed; a playlist that is complete is answered
/// whole, whatever directives ask (RFC 8216bis §6.2.5).
pub fn stored_answer(path: &str, query: Option<&str>) -> Answer {
    let (view, path) = match View::parse(path, query) {
        Ok(read) => read,
        Err(why) => return Answer::BadRequest(why),
    };
    let (content_type, cache_control) = match Address::parse(path) {
        Some(Address::Multivariant | Address::Aside(_) | Address::Playlist(_) | Address::Frames(_)) => {
            if !view.is_plain() {
                let key = path.to_owned();
                return Answer::Ready(Response {
                    content_type: PLAYLIST_TYPE,
                    cache_control: COMPLETE,
                    body: Body::Viewed { key, view },
                });
            }
            (PLAYLIST_TYPE, COMPLETE)
        }
        Some(_) if view.in_path() => return Answer::NotFound,
        Some(Address::Manifest | Address::AsideManifest) => (MANIFEST_TYPE, COMPLETE),
        Some(Address::Init(..) | Address::Segment(..)) => (MEDIA_TYPE, FOREVER),
        // the final transcript replaces it, which may be seen a minute later
        Some(Address::Text(..)) => (TEXT_TYPE, COMPLETE),
        Some(Address::TimedText(..)) => (TIMED_TEXT_TYPE, COMPLETE),
        Some(Address::Thumbnails | Address::AsideThumbnails) => (TEXT_TYPE, COMPLETE),
        Some(Address::Sheet(_) | Address::AsideSheet) => (SHEET_TYPE, FOREVER),
        // they can be marked after the end too
        Some(Address::ChaptersTrack) => (TEXT_TYPE, CHANGING),
        Some(Address::Chapters) => (CHAPTERS_TYPE, CHANGING),
        Some(Address::Part(..) | Address::Steering) | None => return Answer::NotFound,
    };
    Answer::Ready(Response {
        content_type,
        cache_control,
        body: Body::Stored {
            key: path.to_owned(),
            offset: 0,
            len: None,
        },
    })
}

/// A file that lies beside the renditions, while the recording still grows.
pub(super) fn beside(path: &str, cache_control: &'static str) -> Answer {
    match stored_answer(path, None) {
        Answer::Ready(response) => Answer::Ready(Response {
            cache_control,
            ..response
        }),
        other => other,
    }
}

pub(super) fn playlist_response(text: Bytes, cache_control: &'static str) -> Response {
    Response {
        content_type: PLAYLIST_TYPE,
        cache_control,
        body: Body::Bytes(text),
    }
}

pub(crate) fn media_response(body: Body) -> Answer {
    Answer::Ready(Response {
        content_type: MEDIA_TYPE,
        cache_control: FOREVER,
        body,
    })
}

/// `Cache-Control` for so long, in whole seconds.
pub(crate) fn max_age(span: Duration) -> &'static str {
    static AGES: LazyLock<Vec<String>> = LazyLock::new(|| {
        (0..=LONGEST_AGE)
            .map(|seconds| format!("public, max-age={seconds}"))
            .collect()
    });
    AGES.get(span.as_secs().min(LONGEST_AGE) as usize)
        .map_or(CHANGING, String::as_str)
}

/// Six of the longest target durations, seconds.
const LONGEST_AGE: u64 = 360;
/// RFC 8216bis §4.
const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";
/// RFC 8216bis §3.1.2; sound is sent under it too.
const MEDIA_TYPE: &str = "video/mp4";
/// RFC 8216bis §3.1.5, RFC 4337 §2.
const TIMED_TEXT_TYPE: &str = "application/mp4";
const SHEET_TYPE: &str = "image/jpeg";
/// RFC 8259 §11.
const CHAPTERS_TYPE: &str = "application/json";
/// ISO/IEC 23009-1 Annex C.
pub(super) const MANIFEST_TYPE: &str = "application/dash+xml";
/// WebVTT §1.
const TEXT_TYPE: &str = "text/vtt; charset=utf-8";
/// A name is never used again for other bytes.
pub(super) const FOREVER: &str = "public, max-age=31536000, immutable";
pub(super) const CHANGING: &str = "no-cache";
pub(super) const COMPLETE: &str = "public, max-age=60";
