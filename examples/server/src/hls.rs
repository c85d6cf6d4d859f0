//! `/v1/recordings/{id}/hls/…`: playlists, parts and segments, as the engine's origin answers.

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use loom_engine::HlsAnswer;

use crate::app::App;
use crate::problem::{Answer, Problem};
use crate::range;

/// `GET /v1/recordings/{id}/hls/{path}`. A blocking playlist reload (RFC 8216bis §6.2.5.2) waits in the engine.
pub(crate) async fn serve(
    State(app): State<App>,
    Path((id, path)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answer<Response> {
    let recording = app.recording(&id).await?;
    let answer = tokio::select! {
        answer = recording.hls(&path, query.as_deref()) => answer,
        () = app.ended() => return Err(Problem::unavailable("shutting-down", "the server is shutting down", 5)),
    };
    match answer {
        HlsAnswer::Ready {
            content_type,
            cache_control,
            body,
        } => {
            let mut response = range::bytes(&headers, body)?;
            if response.status().is_success() {
                let fields = [
                    (header::CONTENT_TYPE, content_type),
                    (header::CACHE_CONTROL, cache_control),
                ];
                for (name, value) in fields {
                    if let Ok(value) = HeaderValue::from_str(value) {
                        response.headers_mut().insert(name, value);
                    }
                }
            }
            Ok(response)
        }
        HlsAnswer::NotFound => Err(Problem::not_found(
            "unknown-media",
            "this recording has no such playlist, part or segment (yet); hls/main.m3u8 names what there is",
        )),
        HlsAnswer::BadRequest(why) => Err(Problem::bad_request("bad-playlist-request", why)),
        HlsAnswer::Unavailable(why) => Err(Problem::unavailable("not-yet", why, 1)),
    }
}
