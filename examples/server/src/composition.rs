//! `/v1/recordings/{id}/composition`: screen and camera in one picture, as a stream and to download.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use loom_engine::{Composition, JobDescription, JobKind, JobState, Recording};

use crate::app::App;
use crate::artifacts::send_download;
use crate::problem::{Answer, Problem};
use crate::recordings::NO_STORE;

/// `PUT /v1/recordings/{id}/composition`: where the camera is to lie, over time; with no body, at the bottom left. Answers with the job that makes
/// the film; to ask for the same again makes nothing anew.
pub(crate) async fn lay_out(
    State(app): State<App>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let body = body?;
    let layout = match body.is_empty() {
        true => Composition::default(),
        false => serde_json::from_slice(&body).map_err(|why| {
            Problem::bad_request(
                "bad-composition",
                format!("the composition cannot be read: {why}"),
            )
        })?,
    };
    let job = app.recording(&id).await?.lay_out(&layout).await?;
    Ok((StatusCode::ACCEPTED, NO_STORE, Json(job)).into_response())
}

/// `GET /v1/recordings/{id}/composition.mp4`: the film, once it is made, sent from the stream's segments as it is read.
pub(crate) async fn show(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let recording = app.recording(&id).await?;
    let made = recording.composition().ok_or_else(|| missing(&recording))?;
    send_download(&app, &recording, &made.download(), &headers).await
}

/// Why there is none, and what to do.
fn missing(recording: &Recording) -> Problem {
    let job = recording
        .jobs()
        .into_iter()
        .find(|it| it.job == JobKind::Composition);
    let at = format!("/v1/recordings/{}", recording.id());
    match job.map(
        |JobDescription {
             state,
             progress,
             reason,
             ..
         }| (state, progress, reason.unwrap_or_default()),
    ) {
        Some((JobState::Parked, _, reason)) => Problem::conflict(
            "composition-failed",
            format!("it could not be made: {reason}; PUT {at}/composition tries again"),
        ),
        Some((state, progress, _)) if state != JobState::Done => Problem::conflict(
            "composition-not-ready",
            format!(
                "it is being made, and {:.0} % of it is; {at}/jobs tells when it is done",
                progress * 100.0
            ),
        ),
        _ => Problem::not_found(
            "no-composition",
            format!("nobody has asked for screen and camera in one picture; PUT {at}/composition does"),
        ),
    }
}
