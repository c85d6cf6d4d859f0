//! `/v1/recordings/{id}/transcript.…`: what was said, and what people make of it. Each correction is a version; who corrects says which one they
//! have read (`If-Match`), so that of two at once the second is told.

use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use loom_engine::range::is_fresh;
use loom_engine::{Correction, Recording, Transcript, TranscriptVersion};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::problem::{Answer, Problem};
use crate::recordings::NO_STORE;

/// A transcript's form.
#[derive(Debug, Clone, Copy)]
enum Form {
    Json,
    Vtt,
    Srt,
    Text,
}

/// The query of a transcript.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    /// The newest, where it is left out.
    version: Option<u32>,
}

type Version = Result<Query<Wanted>, QueryRejection>;

/// The body of a request that corrects.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Corrections {
    corrections: Vec<Correction>,
}

/// A transcript's versions.
#[derive(Debug, Serialize)]
struct List {
    versions: Vec<TranscriptVersion>,
}

pub(crate) async fn json(
    State(app): State<App>,
    Path(id): Path<String>,
    wanted: Version,
    headers: HeaderMap,
) -> Answer {
    show(&app.recording(&id).await?, Form::Json, wanted, &headers).await
}

pub(crate) async fn vtt(
    State(app): State<App>,
    Path(id): Path<String>,
    wanted: Version,
    headers: HeaderMap,
) -> Answer {
    show(&app.recording(&id).await?, Form::Vtt, wanted, &headers).await
}

pub(crate) async fn srt(
    State(app): State<App>,
    Path(id): Path<String>,
    wanted: Version,
    headers: HeaderMap,
) -> Answer {
    show(&app.recording(&id).await?, Form::Srt, wanted, &headers).await
}

pub(crate) async fn txt(
    State(app): State<App>,
    Path(id): Path<String>,
    wanted: Version,
    headers: HeaderMap,
) -> Answer {
    show(&app.recording(&id).await?, Form::Text, wanted, &headers).await
}

/// `GET /v1/recordings/{id}/transcript/versions`
pub(crate) async fn versions(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let versions = app.recording(&id).await?.transcript_versions();
    Ok((NO_STORE, Json(List { versions })).into_response())
}

/// `PATCH /v1/recordings/{id}/transcript.json` with `{"corrections": [{"segment": 3, "text": "…"}, {"replace": "…", "with": "…"}]}`: a new version.
pub(crate) async fn correct(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let recording = app.recording(&id).await?;
    let wanted: Corrections = serde_json::from_slice(&body?).map_err(|why| {
        Problem::bad_request("bad-correction", format!("the corrections cannot be read: {why}"))
    })?;
    let read = version_read(&recording, &headers)?;
    Ok(made(recording.correct(read, wanted.corrections).await?))
}

/// `POST /v1/recordings/{id}/transcript/versions/{version}/restore`: what an earlier version says, as a new one.
pub(crate) async fn restore(
    State(app): State<App>,
    Path((id, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let recording = app.recording(&id).await?;
    let unknown = |_| Problem::not_found("unknown-version", format!("{version:?} is no version's number"));
    let version = version.parse().map_err(unknown)?;
    let read = version_read(&recording, &headers)?;
    Ok(made(recording.restore_transcript(read, version).await?))
}

fn made(version: TranscriptVersion) -> Response {
    let tag = [(header::ETAG, tag(version.version))];
    (NO_STORE, tag, Json(version)).into_response()
}

/// Why there is nothing that was said.
pub(crate) fn missing(recording: &Recording) -> Problem {
    let info = recording.info();
    let detail = match (info.captions, info.state.is_final()) {
        (true, false) => "nothing has been said yet; ask again when the recording has gone on",
        _ => "this recording has no transcript",
    };
    Problem::not_found("no-transcript", detail)
}

/// What was said; while live, what has been said so far, which has no version yet.
async fn show(recording: &Recording, form: Form, wanted: Version, headers: &HeaderMap) -> Answer {
    let Query(Wanted { version }) = wanted?;
    let version = version.or_else(|| newest(recording));
    let tag = version.map(tag);
    let transcript = match version {
        Some(version) => recording.transcript_version(version).await?,
        None => recording.transcript().ok_or_else(|| missing(recording))?,
    };
    let fresh = tag.as_ref().is_some_and(|tag| is_fresh(headers, tag));
    let transcript: &Transcript = &transcript;
    let (kind, write): (_, fn(&Transcript) -> String) = match form {
        Form::Json => ("application/json", Transcript::to_json),
        Form::Vtt => ("text/vtt; charset=utf-8", Transcript::to_vtt),
        Form::Srt => ("application/x-subrip; charset=utf-8", Transcript::to_srt),
        Form::Text => ("text/plain; charset=utf-8", Transcript::to_txt),
    };
    let fields = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    let mut response = match fresh {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => (fields, write(transcript)).into_response(),
    };
    if let Some(tag) = tag.and_then(|tag| tag.parse().ok()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

fn newest(recording: &Recording) -> Option<u32> {
    recording.transcript_versions().last().map(|it| it.version)
}

/// The entity tag of a version, in each form.
fn tag(version: u32) -> String {
    format!("\"{version}\"")
}

/// The version that a correction is of: what `If-Match` names (RFC 9110 §13.1.1), of which this has to be one.
fn version_read(recording: &Recording, headers: &HeaderMap) -> Answer<u32> {
    let newest = newest(recording).unwrap_or(1);
    let named = headers
        .get_all(header::IF_MATCH)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .map(str::trim);
    let mut read = None;
    for one in named {
        // a proxy that compresses makes it weak (RFC 9110 §8.8.1); a version's number is exact all the same
        let one = one.strip_prefix("W/").unwrap_or(one);
        if one == "*" || one == tag(newest) {
            return Ok(newest);
        }
        let number = one
            .strip_prefix('"')
            .and_then(|it| it.strip_suffix('"')?.parse().ok());
        // what is no number is the tag of no version
        read = Some(number.unwrap_or(0));
    }
    read.ok_or_else(|| {
        // RFC 6585 §3
        let detail = "say in If-Match which version was read, by its ETag such as \"1\", so that nobody's correction is lost";
        Problem::new(StatusCode::PRECONDITION_REQUIRED, "no-if-match", detail)
    })
}

/// The largest body of a request that corrects, bytes.
pub(crate) const LARGEST_CORRECTION: usize = 1 << 20;
