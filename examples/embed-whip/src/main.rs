//! A WHIP endpoint in a few lines: each POST to `/whip` becomes a recording, each event a line on the terminal.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use loom_engine::{Engine, EngineConfig, RecordingId};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let engine = Engine::start(EngineConfig::default()).await?;
    let app = Router::new()
        .route("/whip", post(publish))
        .with_state(engine.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8081").await?;
    println!("publish to http://{}/whip", listener.local_addr()?);
    let stopped = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
    axum::serve(listener, app).with_graceful_shutdown(stopped).await?;
    engine.shutdown().await;
    Ok(())
}

async fn publish(State(engine): State<Engine>, offer: String) -> Response {
    let answered = async {
        let recording = engine.create(RecordingId::random())?;
        let answer = recording.publish(&offer).await?;
        let mut events = recording.events();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                println!("{} {event:?}", recording.id());
            }
        });
        Ok::<_, loom_engine::EngineError>(answer)
    };
    match answered.await {
        Ok(answer) => {
            let headers = [
                (header::CONTENT_TYPE, "application/sdp".to_owned()),
                (header::LOCATION, format!("/whip/{}", answer.session)),
            ];
            (StatusCode::CREATED, headers, answer.sdp).into_response()
        }
        Err(why) => (StatusCode::BAD_REQUEST, why.to_string()).into_response(),
    }
}
