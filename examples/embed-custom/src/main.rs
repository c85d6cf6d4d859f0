//! Loom with a store, a token check and a transcriber of the program's own, each by its trait.
//!
//! `cargo run --release -p embed-custom -- 127.0.0.1:8081 DATADIR alice=SECRET bob=OTHER` takes what alice publishes to `/alice/whip` with her
//! token, writes down when it was loud, and keeps what is finished in memory: a stand-in for a database or a service with an
//! interface of its own.

mod door;
mod loudness;
mod shelf;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::Router;
use door::Door;
use loom_engine::{CaptionsConfig, Engine, EngineConfig, HlsService, Recording, StoreConfig, whip};
use loudness::Loudness;
use shelf::Shelf;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(folder)) = (arguments.next(), arguments.next()) else {
        bail!("usage: embed-custom ADDRESS DATADIR NAME=TOKEN …")
    };
    let tokens = arguments.map(|it| {
        it.split_once('=')
            .map(|(name, token)| (name.to_owned(), token.to_owned()))
    });
    let tokens: Option<HashMap<String, String>> = tokens.collect();
    let tokens = tokens.context("who may publish is named as NAME=TOKEN")?;
    let shelf = Arc::new(Shelf::default());
    let mut config = EngineConfig {
        data_dir: folder.into(),
        store: Some(StoreConfig::new(shelf.clone())),
        captions: CaptionsConfig {
            transcriber: Some(Arc::new(Loudness)),
            ..CaptionsConfig::default()
        },
        ..EngineConfig::default()
    };
    config.ingest.udp.set_port(0);
    let engine = Engine::start(config).await?;
    let door = Door::new(engine.clone(), tokens, move |recording| {
        tell(recording, shelf.clone())
    });
    let streams = HlsService::new(engine.clone()).at("/", "/hls/");
    let app = Router::new()
        .merge(whip::router(Arc::new(door)))
        .fallback_service(streams);
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("publish to http://{}/NAME/whip", listener.local_addr()?);
    let stopped = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).with_graceful_shutdown(stopped).await?;
    engine.shutdown().await;
    Ok(())
}

/// Says what became of a recording, once it is over.
fn tell(recording: Recording, shelf: Arc<Shelf>) {
    tokio::spawn(async move {
        let mut events = recording.events();
        while events.next().await.is_some() {}
        match recording.stored().await {
            Ok(()) => println!(
                "{}: {} objects are kept",
                recording.id(),
                shelf.count(recording.id().as_str())
            ),
            Err(why) => println!("{}: {why}", recording.id()),
        }
        let said = recording.transcript().map(|it| it.to_txt()).unwrap_or_default();
        println!("{}: {}", recording.id(), said.trim());
    });
}
