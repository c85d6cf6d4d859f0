//! `/v1/recordings/{id}/edits` and `/versions`: recordings made of pieces of others, without encoding anything again.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use loom_engine::{MediaTime, Piece, Recording, RecordingId};
use serde::{Deserialize, Serialize};

use crate::app::{App, UNTITLED};
use crate::guard::Base;
use crate::problem::{Answer, Problem};
use crate::recordings::{Description, NO_STORE, clean_title, describe};
use crate::store::{Row, UnixMillis};

/// What is wanted of a recording: one of `keep`, `cut`, `split`. Times are seconds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    /// The stretches that stay, in the order in which they are to play.
    keep: Option<Vec<(f64, f64)>>,
    /// The stretches that go.
    cut: Option<Vec<(f64, f64)>>,
    /// Where one recording ends and the next begins.
    split: Option<Vec<f64>>,
    /// What the new ones are called; else as the old one.
    title: Option<String>,
}

/// Recordings.
#[derive(Debug, Serialize)]
struct List {
    recordings: Vec<Description>,
}

/// `POST /v1/recordings/{id}/edits`: makes new recordings of one; it stays as it is.
pub(crate) async fn create(
    State(app): State<App>,
    base: Base,
    Path(id): Path<String>,
    edit: Result<Json<Edit>, JsonRejection>,
) -> Answer {
    let Json(edit) = edit.map_err(|why| Problem::bad_request("bad-edit", why.body_text()))?;
    let recording = app.recording(&id).await?;
    let title = edit.title.as_deref().map(clean_title).transpose()?.flatten();
    let title = match title {
        Some(title) => title,
        None => app.row(&id).await?.title,
    };
    let mut recordings = Vec::new();
    for pieces in wanted(&recording, edit)? {
        recordings.push(compose(&app, &base, pieces, title.clone()).await?);
    }
    Ok((StatusCode::CREATED, NO_STORE, Json(List { recordings })).into_response())
}

/// `GET /v1/recordings/{id}/versions`: the recordings that were made of it, the newest first.
pub(crate) async fn versions(State(app): State<App>, base: Base, Path(id): Path<String>) -> Answer<Response> {
    let known = RecordingId::new(&id).ok_or_else(|| Problem::unknown(&id))?;
    let mut recordings = Vec::new();
    for row in app.store.made_of(known).await? {
        let row = match row.info.state.is_final() {
            true => row,
            false => app.row(row.info.id.as_str()).await?,
        };
        recordings.push(describe(&app, &base, row));
    }
    Ok((NO_STORE, Json(List { recordings })).into_response())
}

/// Makes one recording of pieces and lists it.
pub(crate) async fn compose(
    app: &App,
    base: &Base,
    pieces: Vec<Piece>,
    title: String,
) -> Answer<Description> {
    let recording = app.engine.compose(RecordingId::random(), pieces).await?;
    let row = Row {
        title,
        created_at: UnixMillis::now(),
        info: recording.info(),
    };
    if let Err(why) = app.store.insert(row.clone(), None).await {
        let _ = recording.delete().await;
        return Err(why.into());
    }
    app.follow(recording);
    Ok(describe(app, base, row))
}

/// Makes one recording of whole ones, in their order.
pub(crate) async fn join(
    app: &App,
    base: &Base,
    ids: &[String],
    title: Option<String>,
) -> Answer<Description> {
    let mut pieces = Vec::with_capacity(ids.len());
    for id in ids {
        pieces.push(app.recording(id).await?.whole());
    }
    compose(app, base, pieces, title.unwrap_or_else(|| UNTITLED.to_owned())).await
}

/// The pieces of each new recording.
fn wanted(recording: &Recording, edit: Edit) -> Answer<Vec<Vec<Piece>>> {
    let bad = |why: String| Problem::bad_request("bad-edit", why);
    let time = |seconds: f64| match (0.0..=LATEST).contains(&seconds) {
        true => Ok(MediaTime::from_secs_f64(seconds)),
        false => Err(bad(format!(
            "{seconds} is no time; seconds from 0 to {LATEST} are taken"
        ))),
    };
    let stretch = |(from, to): (f64, f64)| match from < to {
        true => Ok((time(from)?, time(to)?)),
        false => Err(bad(format!("the stretch [{from}, {to}] ends before it begins"))),
    };
    match (edit.keep, edit.cut, edit.split) {
        (Some(keep), None, None) => {
            let pieces = keep.into_iter().map(|it| {
                let (from, to) = stretch(it)?;
                Ok(recording.piece(from, to))
            });
            Ok(vec![pieces.collect::<Answer<_>>()?])
        }
        (None, Some(cut), None) => {
            let cut: Vec<_> = cut.into_iter().map(stretch).collect::<Answer<_>>()?;
            Ok(vec![recording.without(&cut)])
        }
        (None, None, Some(split)) => {
            let mut ends = split;
            ends.push(recording.info().duration);
            let begins = std::iter::once(0.0).chain(ends.clone());
            let pieces = begins.zip(ends.clone()).map(|it| {
                let (from, to) = stretch(it)?;
                Ok(vec![recording.piece(from, to)])
            });
            pieces.collect()
        }
        _ => Err(bad(
            "say one of keep, cut ([[FROM, TO], …]) and split ([AT, …]), in seconds".to_owned(),
        )),
    }
}

/// Seconds: no recording lasts longer.
const LATEST: f64 = 1e7;
