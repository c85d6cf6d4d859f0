//! Text that is handed over: subtitles of further languages as files, chapters, and what players are told.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, header};
use loom_engine::{ChapterDescription, MediaTime, TimedMetadata, read_cues};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::problem::{Answer, Problem};

/// The body of a request that marks a chapter.
#[derive(Debug, Deserialize)]
struct Mark {
    /// Seconds; where the recording is now, where it is left out.
    at: Option<f64>,
    title: String,
}

/// The body of a request that has players told something.
#[derive(Debug, Deserialize)]
struct Told {
    /// Seconds; where the recording is now, where it is left out.
    at: Option<f64>,
    name: String,
    text: String,
}

/// A recording's chapters.
#[derive(Debug, Serialize)]
struct List {
    chapters: Vec<ChapterDescription>,
}

/// `PUT` or `POST /v1/recordings/{id}/captions/{language}`: a WebVTT or SubRip file, which becomes the subtitles of that language, live or
/// after the end.
pub(crate) async fn put_captions(
    State(app): State<App>,
    Path((id, language)): Path<(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<StatusCode> {
    let recording = app.recording(&id).await?;
    let cues = read_cues(&body?).map_err(|why| Problem::bad_request("bad-text", why.to_string()))?;
    recording.put_captions(&language, None, cues).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/recordings/{id}/chapters` with `{"at": 12.5, "title": "…"}`
pub(crate) async fn mark(
    State(app): State<App>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let recording = app.recording(&id).await?;
    let mark: Mark = serde_json::from_slice(&body?).map_err(|why| {
        let detail = format!("the body is not {{\"at\": 12.5, \"title\": \"…\"}} in JSON: {why}");
        Problem::bad_request("bad-json", detail)
    })?;
    let made = recording
        .mark(mark.at.map(MediaTime::from_secs_f64), &mark.title)
        .await?;
    Ok((StatusCode::CREATED, NO_STORE, Json(made)).into_response())
}

/// `GET /v1/recordings/{id}/chapters`
pub(crate) async fn chapters(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let chapters = app.recording(&id).await?.chapters();
    Ok((NO_STORE, Json(List { chapters })).into_response())
}

/// `GET /v1/recordings/{id}/chapters.vtt`: a WebVTT chapters track.
pub(crate) async fn chapters_vtt(State(app): State<App>, Path(id): Path<String>) -> Answer<Response> {
    let missing = || Problem::not_found("no-chapters", "this recording has no chapters (yet)");
    let track = app.recording(&id).await?.chapters_track().ok_or_else(missing)?;
    let kind = [(header::CONTENT_TYPE, "text/vtt; charset=utf-8")];
    Ok((kind, [(header::CACHE_CONTROL, "no-cache")], track).into_response())
}

/// `POST /v1/recordings/{id}/metadata` with `{"at": 12.5, "name": "…", "text": "…"}`: players are told so at that instant, in an ID3 tag.
pub(crate) async fn tell(
    State(app): State<App>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<StatusCode> {
    let recording = app.recording(&id).await?;
    let told: Told = serde_json::from_slice(&body?).map_err(|why| {
        let detail =
            format!("the body is not {{\"at\": 12.5, \"name\": \"…\", \"text\": \"…\"}} in JSON: {why}");
        Problem::bad_request("bad-json", detail)
    })?;
    let at = told.at.map(MediaTime::from_secs_f64);
    recording
        .add_metadata(TimedMetadata::text(at, &told.name, &told.text))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The largest text file, bytes.
pub(crate) const LARGEST_TEXT: usize = 4 << 20;

const NO_STORE: [(http::HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];
