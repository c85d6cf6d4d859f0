//! Loom in hyper, and as small as it comes: a recorder from WHIP to low-latency HLS in pure Rust. Built alone it has neither GStreamer nor
//! a speech model, and needs no C library but libc; H.264 and Opus are kept as they came.
//!
//! `cargo run --release -p embed-hyper -- 127.0.0.1:8081` listens there; recordings lie in `.loom`, or in the folder that is named behind.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use loom_engine::{Engine, EngineConfig, EngineError, HlsBody, HlsService, RecordingId};
use tokio::net::TcpListener;
use tower_service::Service;

type Answer = Response<Either<Full<Bytes>, HlsBody>>;

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
    let streams = HlsService::new(engine.clone()).at("/", "/hls/");
    let listener = TcpListener::bind(address).await?;
    println!("publish to http://{}/whip", listener.local_addr()?);
    loop {
        let (connection, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = tokio::signal::ctrl_c() => break,
        };
        let (engine, streams) = (engine.clone(), streams.clone());
        let service = service_fn(move |request| answer(engine.clone(), streams.clone(), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
    }
    engine.shutdown().await;
    Ok(())
}

async fn answer(
    engine: Engine,
    mut streams: HlsService,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let parts: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    Ok(match (request.method(), parts.as_slice()) {
        (&Method::POST, ["whip"]) => publish(&engine, request).await,
        (&Method::DELETE, ["whip", recording, session]) => hang_up(&engine, recording, session),
        _ => streams.call(request).await?.map(Either::Right),
    })
}

/// A WHIP client's offer (RFC 9725 §4.2).
async fn publish(engine: &Engine, request: Request<Incoming>) -> Answer {
    let Ok(offer) = Limited::new(request.into_body(), 128 << 10).collect().await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "this is no offer");
    };
    let offer = offer.to_bytes();
    match begin(engine, &String::from_utf8_lossy(&offer)).await {
        Ok((location, sdp)) => {
            let mut answer = plain(StatusCode::CREATED, &sdp);
            let headers = answer.headers_mut();
            headers.insert(CONTENT_TYPE, "application/sdp".parse().expect("it is one"));
            headers.insert(
                LOCATION,
                location.parse().expect("names are of letters and digits"),
            );
            answer
        }
        Err(why @ EngineError::BadOffer(_)) => plain(StatusCode::BAD_REQUEST, &why.to_string()),
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, &why.to_string()),
    }
}

async fn begin(engine: &Engine, offer: &str) -> Result<(String, String), EngineError> {
    let recording = engine.create(RecordingId::random())?;
    let answer = recording.publish(offer).await?;
    println!("/{}/hls/main.m3u8", recording.id());
    Ok((format!("/whip/{}/{}", recording.id(), answer.session), answer.sdp))
}

/// It has no more to say (RFC 9725 §4.2).
fn hang_up(engine: &Engine, recording: &str, session: &str) -> Answer {
    let recording = RecordingId::new(recording).and_then(|id| engine.recording(&id).ok());
    match recording.map(|it| it.hang_up(session)) {
        Some(Ok(())) => plain(StatusCode::OK, ""),
        _ => plain(StatusCode::NOT_FOUND, "there is no such session"),
    }
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(text.to_owned())));
    *answer.status_mut() = status;
    answer
}
