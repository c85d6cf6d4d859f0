//! `/v1/recordings/{id}/publishers`: who may publish beside a recording's own publisher, such as a telephone's camera beside a screen.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use loom_engine::{PublisherName, RecordingState};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::guard::Base;
use crate::problem::{Answer, Problem};
use crate::recordings::NO_STORE;
use crate::whip::Token;

/// Who is to join.
#[derive(Debug, Deserialize)]
pub(crate) struct Wish {
    name: String,
}

/// What a publisher that joins needs; the token is told this once.
#[derive(Debug, Serialize)]
struct Invitation {
    name: PublisherName,
    whip_url: String,
    whip_token: String,
}

/// The names of who may join.
#[derive(Debug, Serialize)]
struct List {
    publishers: Vec<PublisherName>,
}

/// `POST /v1/recordings/{id}/publishers` `{"name": "phone"}`: a token for a publisher that joins the recording under that name. The
/// recording's `whip_url` takes it as it takes the recording's own: `Authorization: Bearer TOKEN`. One that was made for that name before is
/// void from here on.
pub(crate) async fn invite(
    State(app): State<App>,
    base: Base,
    Path(id): Path<String>,
    wish: Result<Json<Wish>, JsonRejection>,
) -> Answer<Response> {
    let Json(wish) = wish.map_err(|why| Problem::bad_request("bad-body", why.body_text()))?;
    let name = named(&wish.name)?;
    let recording = app.recording(&id).await?;
    let state = recording.info().state;
    if state != RecordingState::Created && !state.is_live() {
        let detail = format!("the recording is {state}; nobody can join what has ended");
        return Err(Problem::conflict("wrong-state", detail));
    }
    let token = Token::random();
    let id = recording.id().clone();
    if !app
        .store
        .invite(id.clone(), name.clone(), token.hash(), INVITED)
        .await?
    {
        let detail = format!(
            "{INVITED} publishers may join a recording, and so many have a token; take one back first"
        );
        return Err(Problem::conflict("crowded", detail));
    }
    let invitation = Invitation {
        whip_url: format!("{base}/v1/recordings/{id}/whip"),
        whip_token: token.reveal().to_owned(),
        name,
    };
    Ok((StatusCode::CREATED, NO_STORE, Json(invitation)).into_response())
}

/// `GET /v1/recordings/{id}/publishers`: the names of who may join. Who has is `joined` of the recording itself.
pub(crate) async fn list(State(app): State<App>, Path(id): Path<String>) -> Answer<Response> {
    let recording = app.recording(&id).await?;
    let publishers = app.store.invited(recording.id().clone()).await?;
    Ok((NO_STORE, Json(List { publishers })).into_response())
}

/// `DELETE /v1/recordings/{id}/publishers/{name}`: its token is void, and its session ends where it has one. What it brought stays.
pub(crate) async fn dismiss(
    State(app): State<App>,
    Path((id, name)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let name = named(&name)?;
    let recording = app.recording(&id).await?;
    if !app.store.dismiss(recording.id().clone(), name.clone()).await? {
        let detail = format!("nobody may join this recording as {name}");
        return Err(Problem::not_found("unknown-publisher", detail));
    }
    recording.part(&name);
    Ok(StatusCode::NO_CONTENT)
}

fn named(name: &str) -> Answer<PublisherName> {
    PublisherName::try_from(name.to_owned()).map_err(|why| Problem::bad_request("bad-name", why))
}

/// Publishers that may join at a time, as many as the engine takes.
const INVITED: usize = 4;
