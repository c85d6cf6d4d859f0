//! `/v1/recordings/{id}/jobs`: what is done for a recording once it has ended.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use loom_engine::{JobDescription, JobKind};
use serde::Serialize;

use crate::app::App;
use crate::problem::{Answer, Problem};
use crate::recordings::NO_STORE;

/// A recording's jobs.
#[derive(Debug, Serialize)]
struct List {
    jobs: Vec<JobDescription>,
}

/// `GET /v1/recordings/{id}/jobs`: each job, how it stands, how far it is, how often it was tried, and why that failed.
pub(crate) async fn list(State(app): State<App>, Path(id): Path<String>) -> Answer<Response> {
    let jobs = app.recording(&id).await?.jobs();
    Ok((NO_STORE, Json(List { jobs })).into_response())
}

/// `POST /v1/recordings/{id}/jobs/{job}/restart`: begins one anew that waits for its next try or is parked after its last. To restart what
/// runs, or is done, is no error.
pub(crate) async fn restart(
    State(app): State<App>,
    Path((id, job)): Path<(String, String)>,
) -> Answer<Response> {
    let recording = app.recording(&id).await?;
    let job: JobKind = job
        .parse()
        .map_err(|why| Problem::not_found("unknown-job", why))?;
    let told = recording.restart_job(job)?;
    Ok((NO_STORE, Json(told)).into_response())
}
