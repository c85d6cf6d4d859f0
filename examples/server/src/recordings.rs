//! `/v1/recordings`: make one, list them, look at one, stop it, delete it.

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use loom_engine::{
    CaptionsStatus, CompositionDescription, EngineError, GapDescription, JoinedDescription, Loudness,
    PieceDescription, RecordingId, RecordingState, RenditionDescription, StorageClass, TrackDescription,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::app::{App, UNTITLED};
use crate::edits;
use crate::guard::Base;
use crate::problem::{Answer, Problem};
use crate::store::{Cursor, Row, UnixMillis};
use crate::whip::Token;

/// A recording as the API tells it.
#[derive(Debug, Serialize)]
pub(crate) struct Description {
    id: RecordingId,
    title: String,
    state: RecordingState,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    created_at: String,
    duration: f64,
    tracks: Vec<TrackDescription>,
    renditions: Vec<RenditionDescription>,
    /// How loud its sound was.
    #[serde(skip_serializing_if = "Option::is_none")]
    loudness: Option<Loudness>,
    /// Where nobody published.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<GapDescription>,
    /// The stretches of other recordings that it is made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    made_from: Vec<PieceDescription>,
    /// The publishers that have joined.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    joined: Vec<JoinedDescription>,
    whip_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    whip_token: Option<String>,
    watch_url: String,
    hls_url: String,
    poster_url: String,
    preview_url: String,
    download_url: String,
    /// Screen and camera in one picture, where there are both: a file, once that was asked for and made.
    #[serde(skip_serializing_if = "Option::is_none")]
    composition_url: Option<String>,
    /// The same as a stream, where it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    composition_hls_url: Option<String>,
    /// What that stream is.
    #[serde(skip_serializing_if = "Option::is_none")]
    composition: Option<CompositionDescription>,
    transcript_url: String,
    events_url: String,
    #[serde(flatten)]
    captions: Captions,
}

/// Whether there are captions, and a sentence where that needs saying.
#[derive(Debug, Serialize)]
pub(crate) struct Captions {
    captions: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    captions_note: Option<String>,
}

/// The body of a create request; all of it may be left out.
#[derive(Debug, Default, Deserialize)]
struct Wish {
    title: Option<String>,
    /// The recordings that it is made of, one behind the other.
    join: Option<Vec<String>>,
}

/// The query of a list request.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    limit: Option<u32>,
    cursor: Option<String>,
}

/// `POST /v1/recordings`
pub(crate) async fn create(
    State(app): State<App>,
    base: Base,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let Wish { title, join } = read_wish(&headers, &body?)?;
    let title = title.map(|title| clean_title(&title)).transpose()?.flatten();
    if let Some(ids) = join {
        return Ok(created(edits::join(&app, &base, &ids, title).await?));
    }
    let recording = app.engine.create(RecordingId::random())?;
    let token = Token::random();
    let row = Row {
        title: title.unwrap_or_else(|| UNTITLED.to_owned()),
        created_at: UnixMillis::now(),
        info: recording.info(),
    };
    if let Err(why) = app.store.insert(row.clone(), Some(token.hash())).await {
        // Without its row nobody could publish to it.
        let _ = recording.delete().await;
        return Err(why.into());
    }
    app.follow(recording);
    let mut it = describe(&app, &base, row);
    it.whip_token = Some(token.reveal().to_owned());
    Ok(created(it))
}

fn created(it: Description) -> Response {
    let location = format!("/v1/recordings/{}", it.id);
    (
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        NO_STORE,
        Json(it),
    )
        .into_response()
}

/// `GET /v1/recordings`
pub(crate) async fn list(
    State(app): State<App>,
    base: Base,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer<Response> {
    let Query(page) = page?;
    let limit = page.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Problem::bad_request(
            "bad-query",
            format!("limit is {limit}; it may be 1 to {LARGEST_PAGE}"),
        ));
    }
    let cursor = page.cursor.map(|text| {
        Cursor::read(&text).ok_or_else(|| {
            Problem::bad_request(
                "bad-query",
                "cursor is none that this server gave; leave it out to start anew",
            )
        })
    });
    let mut rows = app.store.page(cursor.transpose()?, limit + 1).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|row| row.cursor().write());
    let mut recordings = Vec::with_capacity(rows.len());
    for mut row in rows {
        if !row.info.state.is_final()
            && let Ok(recording) = app.recording(row.info.id.as_str()).await
        {
            row.info = recording.info();
        }
        recordings.push(describe(&app, &base, row));
    }
    #[derive(Serialize)]
    struct List {
        recordings: Vec<Description>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<String>,
        #[serde(flatten)]
        captions: Captions,
    }
    let captions = Captions::of(&app.engine.captions());
    Ok((
        NO_STORE,
        Json(List {
            recordings,
            next,
            captions,
        }),
    )
        .into_response())
}

/// `GET /v1/recordings/{id}`
pub(crate) async fn show(State(app): State<App>, base: Base, Path(id): Path<String>) -> Answer {
    let row = app.row(&id).await?;
    Ok((NO_STORE, Json(describe(&app, &base, row))).into_response())
}

/// `POST /v1/recordings/{id}/stop`
pub(crate) async fn stop(State(app): State<App>, base: Base, Path(id): Path<String>) -> Answer {
    app.recording(&id).await?.stop().await?;
    show(State(app), base, Path(id)).await
}

/// `POST /v1/recordings/{id}/pause`: what comes from here on is not recorded. To pause what is paused is no error.
pub(crate) async fn pause(State(app): State<App>, base: Base, Path(id): Path<String>) -> Answer {
    app.recording(&id).await?.pause().await?;
    show(State(app), base, Path(id)).await
}

/// `POST /v1/recordings/{id}/resume`: the recording goes on. To resume what is not paused is no error.
pub(crate) async fn resume(State(app): State<App>, base: Base, Path(id): Path<String>) -> Answer {
    app.recording(&id).await?.resume().await?;
    show(State(app), base, Path(id)).await
}

/// `PUT /v1/recordings/{id}/class` `"cold"`: how often it will be asked for. What the store has of it is tagged anew.
pub(crate) async fn set_class(
    State(app): State<App>,
    Path(id): Path<String>,
    class: Result<Json<StorageClass>, JsonRejection>,
) -> Answer<StatusCode> {
    let Json(class) = class.map_err(|why| Problem::bad_request("bad-class", why.body_text()))?;
    app.recording(&id).await?.set_class(class).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/recordings/{id}`
pub(crate) async fn delete(State(app): State<App>, Path(id): Path<String>) -> Answer<StatusCode> {
    let known = RecordingId::new(&id).ok_or_else(|| Problem::unknown(&id))?;
    let recording = app.recording(&id).await;
    let on_disk = match recording {
        Ok(recording) => match recording.delete().await {
            Ok(()) => true,
            Err(EngineError::NotFound(_)) => false,
            Err(why) => return Err(why.into()),
        },
        Err(problem) if problem.status() == StatusCode::NOT_FOUND => false,
        Err(problem) => return Err(problem),
    };
    let in_database = app.store.remove(known).await?;
    if on_disk || in_database {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::unknown(&id))
    }
}

pub(crate) fn describe(app: &App, base: &Base, row: Row) -> Description {
    let Row {
        title,
        created_at,
        info,
    } = row;
    let at = format!("{base}/v1/recordings/{}", info.id);
    let captions = match app.engine.captions() {
        status if info.state == RecordingState::Created => Captions::of(&status),
        status @ CaptionsStatus::Loading { .. } if info.captions && !info.state.is_final() => {
            Captions::of(&status)
        }
        _ if info.captions => Captions {
            captions: "on",
            captions_note: None,
        },
        _ => Captions {
            captions: "off",
            captions_note: Some("This recording has no captions.".to_owned()),
        },
    };
    let composition_url = info.camera().map(|_| format!("{at}/composition.mp4"));
    let composed = info.composition.as_ref();
    let composition_hls_url = composed.map(|it| format!("{at}/hls/{}", it.playlist));
    Description {
        title,
        state: info.state,
        reason: info.reason,
        created_at: created_at.rfc3339(),
        duration: info.duration,
        composition_url,
        composition_hls_url,
        composition: info.composition,
        tracks: info.tracks,
        renditions: info.renditions,
        loudness: info.loudness,
        gaps: info.gaps,
        made_from: info.made_from,
        joined: info.joined,
        whip_url: format!("{at}/whip"),
        whip_token: None,
        watch_url: format!("{base}/w/{}", info.id),
        hls_url: format!("{at}/hls/main.m3u8"),
        poster_url: format!("{at}/poster.jpg"),
        preview_url: format!("{at}/preview.mp4"),
        download_url: format!("{at}/download.mp4"),
        transcript_url: format!("{at}/transcript.json"),
        events_url: format!("{at}/events"),
        captions,
        id: info.id,
    }
}

impl Captions {
    fn of(status: &CaptionsStatus) -> Self {
        match status {
            CaptionsStatus::On { .. } => Self {
                captions: "on",
                captions_note: None,
            },
            CaptionsStatus::Loading { .. } => Self {
                captions: "loading",
                captions_note: Some(status.to_string()),
            },
            CaptionsStatus::Off { why } => Self {
                captions: "off",
                captions_note: Some(note(why)),
            },
        }
    }
}

/// What a viewer is told of captions that are off. The rest of the reason names folders and hosts; it is for the log.
fn note(why: &str) -> String {
    let short = why.split([':', ';']).next().unwrap_or_default().trim();
    format!("Captions are off: {short}.")
}

impl UnixMillis {
    fn rfc3339(self) -> String {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000);
        at.ok()
            .and_then(|at| at.format(&Rfc3339).ok())
            .unwrap_or_default()
    }
}

fn read_wish(headers: &HeaderMap, body: &[u8]) -> Answer<Wish> {
    if body.is_empty() {
        return Ok(Wish::default());
    }
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let detail = format!(
            "the body is {essence:?}; send application/json such as {{\"title\": \"Hello\"}}, or nothing"
        );
        return Err(Problem::unsupported_type(detail));
    }
    serde_json::from_slice(body).map_err(|why| {
        Problem::bad_request(
            "bad-json",
            format!("the body is not {{\"title\": \"…\"}} in JSON: {why}"),
        )
    })
}

/// One line without control characters; `None` where nothing is left.
pub(crate) fn clean_title(title: &str) -> Answer<Option<String>> {
    let line = title
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    let title = line.collect::<Vec<_>>().join(" ");
    let length = title.chars().count();
    if length > LONGEST_TITLE {
        let detail = format!("the title has {length} characters; {LONGEST_TITLE} is the most");
        return Err(Problem::bad_request("bad-title", detail));
    }
    Ok((!title.is_empty()).then_some(title))
}

pub(crate) const NO_STORE: [(header::HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];
const DEFAULT_PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 200;
/// Characters.
const LONGEST_TITLE: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_becomes_one_clean_line() {
        assert_eq!(
            clean_title("  Hello\r\n\tworld\u{7} ").unwrap().as_deref(),
            Some("Hello world")
        );
        assert_eq!(clean_title(" \n ").unwrap(), None);
        assert!(clean_title(&"ä".repeat(200)).is_ok());
        assert!(clean_title(&"ä".repeat(201)).is_err());
    }

    #[test]
    fn a_viewer_is_not_told_of_the_servers_folders() {
        let why = "no speech model found: nothing kept in /home/me/.cache/loom; hub: not reached";
        assert_eq!(note(why), "Captions are off: no speech model found.");
    }

    #[test]
    fn times_are_told_as_rfc_3339() {
        assert_eq!(UnixMillis(0).rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(
            UnixMillis(1_795_365_604_123).rfc3339(),
            "2026-11-22T16:40:04.123Z"
        );
    }
}
