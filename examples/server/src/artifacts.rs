//! What a recording leaves behind: its poster, its preview, its download, what it says in short.

use std::path::PathBuf;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use loom_engine::{DownloadChoice, Gist, Recording, RenditionId, TrackChoice};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::problem::{Answer, Problem};
use crate::range;
use crate::transcript::missing;

/// Who has a transcript's words counted.
static GISTS: Semaphore = Semaphore::const_new(1);

/// `GET /v1/recordings/{id}/gist.json`: chapters, key phrases, the sentences that say most, and action items, found in the transcript's words.
pub(crate) async fn gist(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let recording = app.recording(&id).await?;
    let transcript = recording.transcript().ok_or_else(|| missing(&recording))?;
    // of hours of talk it takes a while: one at a time, and no viewer waits for it
    let turn = GISTS.acquire().await.ok();
    let found = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        Gist::of(&transcript)
    });
    let gist = found
        .await
        .map_err(|why| Problem::internal("find what the transcript says in short", &why))?;
    Ok(([(header::CACHE_CONTROL, "no-cache")], Json(gist)).into_response())
}

/// `GET /v1/recordings/{id}/brief.json`: what a language model made of the transcript.
pub(crate) async fn brief(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let missing = || {
        Problem::not_found(
            "no-brief",
            "no language model has written anything about this recording (yet)",
        )
    };
    let brief = app.recording(&id).await?.brief().ok_or_else(missing)?;
    Ok(([(header::CACHE_CONTROL, "no-cache")], Json(&*brief)).into_response())
}

/// `GET /v1/recordings/{id}/poster.jpg`
pub(crate) async fn poster(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let missing = || Problem::not_found("no-poster", "there is no picture of this recording (yet)");
    let path = app.recording(&id).await?.poster();
    file(path, &headers, "image/jpeg", missing).await
}

/// `GET /v1/recordings/{id}/preview.mp4`
pub(crate) async fn preview(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let missing = || Problem::not_found("no-preview", "there is no preview of this recording (yet)");
    let path = app.recording(&id).await?.preview();
    file(path, &headers, "video/mp4", missing).await
}

/// A file that may be written anew.
async fn file(
    path: Option<PathBuf>,
    headers: &HeaderMap,
    kind: &str,
    missing: impl Fn() -> Problem,
) -> Answer {
    let path = path.ok_or_else(&missing)?;
    let response = range::file(headers, &path).await?.ok_or_else(missing)?;
    Ok(with(
        response,
        &[(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")],
    ))
}

/// The query of a download: renditions by name, or `none`.
#[derive(Debug, Deserialize)]
pub(crate) struct Choice {
    video: Option<String>,
    audio: Option<String>,
}

/// `GET /v1/recordings/{id}/download.mp4?video=…&audio=…`: the recording as one progressive MP4, sent from its segments as it is read.
pub(crate) async fn download(
    State(app): State<App>,
    Path(id): Path<String>,
    choice: Result<Query<Choice>, QueryRejection>,
    headers: HeaderMap,
) -> Answer {
    let Query(choice) = choice?;
    let track = |name: Option<&str>| match name {
        None => Ok(TrackChoice::Best),
        Some("none") => Ok(TrackChoice::Without),
        Some(name) => match RenditionId::new(name) {
            Some(id) => Ok(TrackChoice::Rendition(id)),
            None => Err(Problem::bad_request(
                "bad-query",
                format!("{name:?} is no rendition's name"),
            )),
        },
    };
    let choice = DownloadChoice {
        video: track(choice.video.as_deref())?,
        audio: track(choice.audio.as_deref())?,
    };
    send_download(&app, &app.recording(&id).await?, &choice, &headers).await
}

/// Sends a download from its segments, under the recording's title.
pub(crate) async fn send_download(
    app: &App,
    recording: &Recording,
    choice: &DownloadChoice,
    headers: &HeaderMap,
) -> Answer {
    let download = recording.download(choice).await?;
    let tag = format!("\"{:x}-{:x}\"", download.len(), download.duration().as_nanos());
    let response = range::pieces(headers, &tag, download.len(), move |at, most| {
        let download = download.clone();
        async move { download.read_aside(at, most).await.map_err(std::io::Error::other) }
    });
    let disposition = disposition(&app.row(recording.id().as_str()).await?.title);
    Ok(with(
        response,
        &[
            (header::CONTENT_TYPE, "video/mp4"),
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_DISPOSITION, &disposition),
        ],
    ))
}

/// A problem keeps its own content type.
pub(crate) fn with(mut response: Response, fields: &[(HeaderName, &str)]) -> Response {
    if response.status().is_client_error() {
        return response;
    }
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// An attachment named after the title: a plain name for old clients and the real one (RFC 6266 §4.3, RFC 8187 §3.2).
pub(crate) fn disposition(title: &str) -> String {
    // What no file system forbids and no shell stumbles over.
    let name: String = title
        .chars()
        .map(|c| {
            if c.is_control() || "/\\:*?\"<>|".contains(c) {
                '-'
            } else {
                c
            }
        })
        .take(LONGEST_NAME)
        .collect();
    let name = name.trim_matches(|c: char| c.is_whitespace() || c == '.');
    let name = if name.is_empty() { "recording" } else { name };
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || " ._-()".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("attachment; filename=\"{plain}.mp4\"; filename*=UTF-8''{encoded}.mp4")
}

/// Characters of a download's name.
const LONGEST_NAME: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_cannot_break_out_of_the_downloads_name() {
        assert_eq!(
            disposition("My demo"),
            "attachment; filename=\"My demo.mp4\"; filename*=UTF-8''My%20demo.mp4"
        );
        assert_eq!(
            disposition("../../etc/\"pass\r\nwd"),
            "attachment; filename=\"-..-etc--pass--wd.mp4\"; filename*=UTF-8''-..-etc--pass--wd.mp4"
        );
        assert_eq!(
            disposition("Größe"),
            "attachment; filename=\"Gr__e.mp4\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.mp4"
        );
        assert_eq!(
            disposition(" ... "),
            "attachment; filename=\"recording.mp4\"; filename*=UTF-8''recording.mp4"
        );
    }
}
