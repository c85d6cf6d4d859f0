//! The reference server: record in a browser, watch it live with captions, keep it.
//!
//! It composes [`loom_engine`] with axum, SQLite and a web page; there is nothing about media in it.

mod api;
mod app;
mod artifacts;
mod composition;
mod config;
mod control;
mod edits;
mod events;
mod front;
mod guard;
mod hls;
mod jobs;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
mod page;
mod pathways;
mod problem;
mod publishers;
mod range;
mod recordings;
mod store;
#[cfg(test)]
mod tests;
mod text;
mod transcript;
mod upload;
mod whip;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::ServiceExt;
use axum::serve::ListenerExt;
use clap::Parser;
use loom_engine::{
    AiError, ApartConfig, CaptionsConfig, CaptionsStatus, EncryptionConfig, EncryptionScheme, Engine,
    EngineConfig, EngineError, FileConfig, HttpTextModel, HttpTextModelConfig, IngestConfig, IngestError,
    LocalTextModel, LocalTextModelConfig, LoudnessTarget, ModelConfig, Moderator, SoundTreatment,
    SpeakerSource, StoreConfig, StoreError, TextForm, TextModel, Thumbnails, Wanted, WordList, open_store,
    serve_apart,
};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::app::App;
use crate::config::{Config, Ladder, Sealing, Switch, Text};
use crate::store::Store;

/// Thousands of viewers' requests are many small pieces of memory for a moment, on all threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<ExitCode> {
    // Calls itself, for each file that it reads: before there are threads.
    if std::env::args_os().nth(1).is_some_and(|it| it == WORKER) {
        tracing_subscriber::fmt()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .with_env_filter(EnvFilter::try_from_env("LOOM_LOG").unwrap_or_else(|_| EnvFilter::new("info")))
            .init();
        return Ok(serve_apart());
    }
    serve()?;
    Ok(ExitCode::SUCCESS)
}

#[tokio::main]
async fn serve() -> Result<()> {
    let config = Arc::new(Config::parse());
    let filter = EnvFilter::try_new(&config.log).with_context(|| format!("LOOM_LOG is {:?}", config.log))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_filter(filter);
    #[cfg(feature = "otel")]
    let spans = otel::Spans::start()?;
    let registry = tracing_subscriber::registry();
    #[cfg(feature = "otel")]
    let registry = registry.with(spans.as_ref().map(otel::Spans::layer));
    registry.with(lines).init();
    let metrics = metrics::install().context("the metrics cannot be set up")?;

    let data = &config.data_dir;
    std::fs::create_dir_all(data)
        .with_context(|| format!("the data folder {} cannot be made", data.display()))?;
    let files = rlimit::increase_nofile_limit(u64::MAX).context("the limit of open files cannot be read")?;
    tracing::info!(files, "so many files and connections can be open at once");
    let listener = listen(config.listen).with_context(|| {
        format!(
            "nothing can listen at {}; set LOOM_LISTEN to another address",
            config.listen
        )
    })?;
    let store = Store::open(&data.join("loom.sqlite"))
        .with_context(|| format!("the database in {} cannot be opened", data.display()))?;
    let kept = store_config(&config).context("LOOM_STORE cannot be used")?;
    let mut settings = engine_config(&config, kept, word_list(&config)?);
    let telling = config.clone();
    settings.text_model = tokio::task::spawn_blocking(move || text_model(&telling))
        .await?
        .context("LOOM_TEXT_MODEL cannot be used")?;
    let engine = start(&config, settings)
        .await
        .context("the engine cannot start")?;

    let (end, ending) = watch::channel(false);
    let app = App::new(engine.clone(), store, config.clone(), metrics.clone(), ending);
    upload::sweep(&app.upload_folder()).context("the folder for uploads cannot be used")?;
    let on_disk = engine
        .recordings()
        .context("the recordings on disk cannot be listed")?;
    // a store that is not reached has what it had
    let in_store = engine.stored_recordings().await.inspect_err(|why| {
        tracing::error!(%why, "the store does not list its recordings; those that only it has are not listed");
    });
    app.reconcile(on_disk.into_iter().collect(), in_store.ok())
        .await
        .context("the database cannot be brought up to date")?;

    tokio::spawn(metrics::keep_up(metrics));
    announce(listener.local_addr()?, &config);
    tokio::spawn(tell_captions(engine.clone()));

    let (over, all_over) = tokio::sync::oneshot::channel();
    let stopping = engine.clone();
    let stop = async move {
        stop_signal().await;
        println!("Loom is stopping: recordings are being completed.");
        end.send_replace(true);
        stopping.shutdown().await;
        let _ = over.send(());
    };
    let routes = api::service(app).into_make_service_with_connect_info::<SocketAddr>();
    // an answer goes out at once: parts are small, and players wait for them
    let listener = listener.tap_io(|connection| {
        if let Err(why) = connection.set_nodelay(true) {
            tracing::debug!(%why, "a connection that is gone already");
        }
    });
    let serve = axum::serve(listener, routes).with_graceful_shutdown(stop);
    tokio::select! {
        served = async { serve.await } => served.context("the HTTP server failed")?,
        // An open download does not hold the process for ever.
        () = async { let _ = all_over.await; tokio::time::sleep(LAST_ANSWERS).await } => {}
    }
    #[cfg(feature = "otel")]
    if let Some(spans) = spans {
        tokio::task::spawn_blocking(|| spans.finish()).await?;
    }
    Ok(())
}

/// Thousands of viewers may come at once.
fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if at.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // a port that an earlier process left can be had again at once
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

/// Where the port for media was left to us and the usual one is taken, any free one will do.
async fn start(config: &Config, mut settings: EngineConfig) -> Result<Engine, EngineError> {
    match Engine::start(settings.clone()).await {
        Err(EngineError::Ingest(why @ IngestError::Socket { .. })) if config.udp.is_none() => {
            settings.ingest.udp.set_port(0);
            tracing::warn!(%why, "the usual port for media cannot be had; taking any free one");
            Engine::start(settings).await
        }
        started => started,
    }
}

fn encryption(config: &Config) -> Option<EncryptionConfig> {
    let scheme = match config.encryption {
        Sealing::Off => return None,
        Sealing::Segments => EncryptionScheme::Segments,
        Sealing::Cbcs => EncryptionScheme::Cbcs,
        Sealing::Cenc => EncryptionScheme::Cenc,
    };
    Some(EncryptionConfig {
        rotation: NonZeroU32::new(config.key_segments),
        ..EncryptionConfig::new(scheme)
    })
}

/// Where recordings are kept beside the data folder.
fn store_config(config: &Config) -> Result<Option<StoreConfig>, StoreError> {
    let Some(address) = &config.store else {
        return Ok(None);
    };
    Ok(Some(StoreConfig {
        class: config.store_class,
        ..StoreConfig::new(open_store(address)?)
    }))
}

/// What captions are looked over for.
fn word_list(config: &Config) -> Result<Option<Arc<dyn Moderator>>> {
    let Some(path) = &config.word_list else {
        return Ok(None);
    };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("LOOM_WORD_LIST: read {}", path.display()))?;
    let entries = text
        .lines()
        .map(|line| line.split_once('\t').unwrap_or((line, line)));
    Ok(Some(Arc::new(WordList::new(entries))))
}

/// Who writes title, summary and action items. Blocks while a model is fetched and read.
fn text_model(config: &Config) -> Result<Option<Arc<dyn TextModel>>, AiError> {
    let Some(name) = &config.text_model else {
        return Ok(None);
    };
    if name.starts_with("http://") || name.starts_with("https://") {
        let mut there = HttpTextModelConfig::new(name, &config.text_model_name);
        there.key.clone_from(&config.text_model_key);
        return Ok(Some(Arc::new(HttpTextModel::new(there)?)));
    }
    let here = LocalTextModelConfig::new(name);
    let files = LocalTextModel::locate(&here, &mut |_| ())?;
    Ok(Some(Arc::new(LocalTextModel::load(&files, &here)?)))
}

fn engine_config(
    config: &Config,
    store: Option<StoreConfig>,
    moderator: Option<Arc<dyn Moderator>>,
) -> EngineConfig {
    let mut ingest = IngestConfig::default();
    if let Some(udp) = config.udp {
        ingest.udp = udp.0;
    }
    ingest.announce.clone_from(&config.announce);
    if let Some(servers) = &config.ice_servers {
        ingest.ice_servers.clone_from(&servers.0);
    }
    let mut model = ModelConfig::from_env();
    if let Some(path) = &config.model {
        model.path = Some(path.clone());
    }
    model.device = config.device;
    if let Some(windows) = config.device_windows {
        model.at_once = windows.into();
    }
    // Captions are made of PCM, for which sound is decoded; without them a ladder of the source alone decodes nothing.
    let mut ladder = match config.ladder {
        Ladder::Full => Wanted::default(),
        Ladder::Source => Wanted {
            captions_pcm: true,
            ..Wanted::source_only()
        },
    };
    match config.thumbnails {
        Some(Switch::On) => ladder.thumbnails = Some(Thumbnails::default()),
        Some(Switch::Off) => ladder.thumbnails = None,
        None => {}
    }
    ladder.skip_still = config.stills == Switch::Off;
    ladder.sound = SoundTreatment {
        suppress_noise: config.noise_suppression == Switch::On,
        loudness: config.loudness.map(|integrated| LoudnessTarget {
            integrated,
            ..LoudnessTarget::default()
        }),
    };
    ingest.max_sessions = ingest.max_sessions.max(config.max_live);
    ingest.max_sessions_per_address = config
        .max_per_address
        .map_or(ingest.max_sessions, NonZeroUsize::get);
    let default = EngineConfig::default();
    EngineConfig {
        data_dir: config.data_dir.clone(),
        ladder,
        max_live: config.max_live,
        live_cores: config.live_cores,
        min_free_space: config.min_free.0,
        part: config.part.map_or(default.part, Duration::from_millis),
        reconnect_window: config
            .reconnect
            .map_or(default.reconnect_window, Duration::from_secs),
        sync_every: Duration::from_millis(config.sync),
        playlists: config.playlists(),
        encryption: encryption(config),
        store,
        ingest,
        files: FileConfig {
            apart: (config.file_memory.0 > 0).then(|| ApartConfig {
                memory: Some(config.file_memory.0),
                ..ApartConfig::this_program([WORKER])
            }),
            ..default.files
        },
        captions: CaptionsConfig {
            enabled: config.captions == Switch::On,
            model,
            threads: config
                .caption_threads
                .map_or(default.captions.threads, usize::from),
            form: match config.text {
                Text::Webvtt => TextForm::WebVtt,
                Text::Imsc1 => TextForm::Imsc1,
            },
            languages: config.languages.clone(),
            moderator,
            speakers: match config.speakers.as_str() {
                "off" => None,
                "fetch" => Some(SpeakerSource::Fetched.into()),
                path => Some(SpeakerSource::File(path.into()).into()),
            },
            ..CaptionsConfig::default()
        },
        ..default
    }
}

fn announce(at: SocketAddr, config: &Config) {
    let port = at.port();
    let here = if at.ip().is_unspecified() {
        format!("http://127.0.0.1:{port}")
    } else {
        format!("http://{at}")
    };
    let url = config
        .public_url
        .as_ref()
        .map_or(here, |url| url.base().to_owned());
    println!("Loom is ready: {url}");
    if !at.ip().is_loopback() {
        println!(
            "Other machines can reach it at port {port}; there are no accounts, so put it behind something that has."
        );
    }
}

/// Says whether there are captions, and how far they are while they load.
async fn tell_captions(engine: Engine) {
    let every = Duration::from_millis(if std::io::stdout().is_terminal() {
        500
    } else {
        5_000
    });
    let mut told = String::new();
    loop {
        let status = engine.captions();
        let now = status.to_string();
        if now != told {
            println!("{now}");
            told = now;
        }
        if !matches!(status, CaptionsStatus::Loading { .. }) {
            break;
        }
        tokio::time::sleep(every).await;
    }
}

/// Resolves at SIGINT (Ctrl-C) or SIGTERM.
async fn stop_signal() {
    let interrupt = async {
        if let Err(why) = tokio::signal::ctrl_c().await {
            tracing::error!(%why, "Ctrl-C cannot be waited for");
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(why) => {
                tracing::error!(%why, "SIGTERM cannot be waited for");
                std::future::pending::<()>().await;
            }
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}

/// What the server calls itself with to read a file.
const WORKER: &str = "worker";

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4_096;

/// How long answers under way may take once every recording is complete.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
