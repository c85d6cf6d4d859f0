//! Loom in axum: each WHIP client that POSTs to `/whip` makes a recording, which can be watched from then on.
//!
//! `cargo run --release -p embed-axum -- 127.0.0.1:8081` listens there; recordings lie in `.loom`, or in the folder that is named behind.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use loom_engine::{Engine, EngineConfig, EngineError, HlsService, RecordingId};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:8081".to_owned());
    let mut config = EngineConfig::default();
    if let Some(folder) = arguments.next() {
        config.data_dir = folder.into();
    }
    config.ingest.udp.set_port(0); // any that is free: name one where a firewall must let it through
    let engine = Engine::start(config).await?;
    let app = Router::new()
        .route("/whip", post(publish))
        .route("/whip/{recording}/{session}", delete(hang_up))
        .with_state(engine.clone())
        .route_service(
            "/{recording}/hls/{*path}",
            HlsService::new(engine.clone()).at("/", "/hls/"),
        );
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("publish to http://{}/whip", listener.local_addr()?);
    let stopped = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
    axum::serve(listener, app).with_graceful_shutdown(stopped).await?;
    engine.shutdown().await;
    Ok(())
}

/// A WHIP client's offer (RFC 9725 §4.2).
async fn publish(State(engine): State<Engine>, offer: String) -> Response {
    match begin(&engine, &offer).await {
        Ok((location, sdp)) => {
            let headers = [
                (header::CONTENT_TYPE, "application/sdp".to_owned()),
                (header::LOCATION, location),
            ];
            (StatusCode::CREATED, headers, sdp).into_response()
        }
        Err(why @ EngineError::BadOffer(_)) => (StatusCode::BAD_REQUEST, why.to_string()).into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why.to_string()).into_response(),
    }
}

async fn begin(engine: &Engine, offer: &str) -> Result<(String, String), EngineError> {
    let recording = engine.create(RecordingId::random())?;
    let answer = recording.publish(offer).await?;
    println!("/{}/hls/main.m3u8", recording.id());
    let location = format!("/whip/{}/{}", recording.id(), answer.session);
    let mut events = recording.events();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            println!("{} {event:?}", recording.id());
        }
    });
    Ok((location, answer.sdp))
}

/// It has no more to say (RFC 9725 §4.2).
async fn hang_up(State(engine): State<Engine>, Path((id, session)): Path<(String, String)>) -> StatusCode {
    let recording = RecordingId::new(&id).and_then(|id| engine.recording(&id).ok());
    match recording.map(|it| it.hang_up(&session)) {
        Some(Ok(())) => StatusCode::OK,
        _ => StatusCode::NOT_FOUND,
    }
}
