//! Every route, and what stands around them all.

use std::any::Any;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use http::Request;
use loom_engine::HlsService;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::trace::{DefaultOnFailure, DefaultOnRequest, DefaultOnResponse, TraceLayer};
use tracing::{Level, Span};

use crate::app::App;
use crate::front::Front;
use crate::problem::Problem;
use crate::{
    artifacts, composition, control, edits, events, guard, hls, jobs, metrics, page, pathways, publishers,
    recordings, text, transcript, upload, whip,
};

/// The whole server as one service.
pub(crate) fn service(app: App) -> Front {
    let (streams, config) = (hls::service(&app), app.config.clone());
    Front::new(router(app, streams.clone()), streams, config)
}

fn router(app: App, streams: HlsService) -> Router {
    let one = Router::new()
        .route("/", get(recordings::show).delete(recordings::delete))
        .route("/stop", post(recordings::stop))
        .route("/pause", post(recordings::pause))
        .route("/resume", post(recordings::resume))
        .route("/publishers", get(publishers::list).post(publishers::invite))
        .route("/publishers/{name}", delete(publishers::dismiss))
        .route("/class", put(recordings::set_class))
        .route("/edits", post(edits::create))
        .route("/versions", get(edits::versions))
        .route("/jobs", get(jobs::list))
        .route("/jobs/{job}/restart", post(jobs::restart))
        .route("/media", post(upload::receive).layer(DefaultBodyLimit::disable()))
        .route(
            "/transcript.json",
            get(transcript::json)
                .patch(transcript::correct)
                .layer(DefaultBodyLimit::max(transcript::LARGEST_CORRECTION)),
        )
        .route("/transcript.vtt", get(transcript::vtt))
        .route("/transcript.srt", get(transcript::srt))
        .route("/transcript.txt", get(transcript::txt))
        .route("/transcript/versions", get(transcript::versions))
        .route(
            "/transcript/versions/{version}/restore",
            post(transcript::restore),
        )
        .route("/gist.json", get(artifacts::gist))
        .route("/brief.json", get(artifacts::brief))
        .route(
            "/captions/{language}",
            put(text::put_captions)
                .post(text::put_captions)
                .layer(DefaultBodyLimit::max(text::LARGEST_TEXT)),
        )
        .route("/chapters", get(text::chapters).post(text::mark))
        .route("/metadata", post(text::tell))
        .route("/chapters.vtt", get(text::chapters_vtt))
        .route("/poster.jpg", get(artifacts::poster))
        .route("/preview.mp4", get(artifacts::preview))
        .route("/download.mp4", get(artifacts::download))
        .route("/composition", put(composition::lay_out))
        .route("/composition.mp4", get(composition::show))
        .route("/events", get(events::stream))
        .route("/control", get(control::open));
    Router::new()
        .route("/", get(page::index))
        .route("/w/{id}", get(page::watch))
        .route("/assets/{*path}", get(page::asset))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics::serve))
        .route("/v1/recordings", get(recordings::list).post(recordings::create))
        .route("/v1/pathways", get(pathways::show).put(pathways::rank))
        .nest("/v1/recordings/{id}", one)
        .route_service(hls::ROUTE, streams)
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(guard::cors(&app.config))
        .merge(whip::routes(&app))
        .layer(from_fn(metrics::observe))
        .layer(from_fn_with_state(app.clone(), guard::check))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(span)
                .on_request(DefaultOnRequest::new().level(Level::TRACE))
                .on_response(DefaultOnResponse::new().level(Level::DEBUG))
                // a 503 is a player that asks early; what truly fails is told where it fails
                .on_failure(DefaultOnFailure::new().level(Level::DEBUG)),
        )
        .with_state(app)
}

/// `GET /healthz`: the process answers.
async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: recordings can be made.
async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    if *app.ending.borrow() {
        return Err(Problem::unavailable(
            "shutting-down",
            "the server is shutting down",
            5,
        ));
    }
    app.store.check().await.map_err(|why| {
        tracing::error!(%why, "the database does not answer");
        Problem::unavailable("no-database", "the database does not answer", 5)
    })?;
    tokio::fs::metadata(&app.config.data_dir).await.map_err(|why| {
        tracing::error!(%why, "the data folder cannot be read");
        Problem::unavailable("no-disk", "the data folder cannot be read", 5)
    })?;
    Ok("ready\n")
}

async fn unknown(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::not_found("unknown-address", format!("there is nothing at {path}"))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    let detail = format!("{path} cannot be asked with {method}; the Allow header names what can");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", detail)
}

/// A handler that panics ends its own request only.
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let why = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    Problem::internal("answer this request", &why.unwrap_or("a handler panicked")).into_response()
}

fn span<B>(request: &Request<B>) -> Span {
    // The query may hold what is nobody's business; headers hold tokens.
    let path = request.uri().path();
    let recording = path
        .strip_prefix("/v1/recordings/")
        .and_then(|rest| rest.split('/').next());
    tracing::info_span!("http", method = %request.method(), path, recording)
}

/// Bytes of a body that is neither an upload nor an offer.
const LARGEST_BODY: usize = 64 * 1024;
