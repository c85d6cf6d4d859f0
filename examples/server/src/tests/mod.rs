//! The HTTP contract, row by row, against the real router, engine and database. What needs media is in tests/e2e.

mod life;
mod pages;
mod publishers;
mod recordings;
mod reference;
mod transcripts;
mod uploads;

use std::sync::{Arc, OnceLock};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use clap::Parser;
use http::{HeaderMap, Method, Request, StatusCode};
use loom_engine::{CaptionsConfig, Engine, EngineConfig, IngestConfig, ModelConfig};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::app::App;
use crate::config::Config;
use crate::front::Front;
use crate::store::Store;
use crate::{api, metrics, upload};

/// A server without a socket.
struct Site {
    router: Front,
    app: App,
    end: watch::Sender<bool>,
    folder: TempDir,
}

/// What came back.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Site {
    async fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::at(folder, arguments).await
    }

    async fn at(folder: TempDir, arguments: &[&str]) -> Self {
        static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
        let data = folder.path().to_str().unwrap();
        let fixed = ["loom-server", "--data-dir", data, "--listen", "127.0.0.1:8080"];
        let config = Arc::new(Config::try_parse_from(fixed.iter().chain(arguments)).unwrap());
        let ingest = IngestConfig {
            udp: "127.0.0.1:0".parse().unwrap(),
            ..IngestConfig::default()
        };
        let engine = Engine::start(EngineConfig {
            data_dir: folder.path().to_owned(),
            ingest,
            captions: CaptionsConfig {
                enabled: false,
                model: ModelConfig::default(),
                ..CaptionsConfig::default()
            },
            playlists: config.playlists(),
            min_free_space: config.min_free.0,
            ..EngineConfig::default()
        })
        .await
        .unwrap();
        let store = Store::open(&folder.path().join("loom.sqlite")).unwrap();
        let (end, ending) = watch::channel(false);
        let handle = METRICS.get_or_init(|| metrics::install().unwrap()).clone();
        let app = App::new(engine.clone(), store, config, handle, ending);
        upload::sweep(&app.upload_folder()).unwrap();
        let in_store = engine.stored_recordings().await.ok();
        app.reconcile(engine.recordings().unwrap().into_iter().collect(), in_store)
            .await
            .unwrap();
        Self {
            router: api::service(app.clone()),
            app,
            end,
            folder,
        }
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, 16 << 20).await.unwrap();
        Reply {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    async fn ask(&self, method: Method, path: &str, fields: &[(&str, &str)], body: impl Into<Body>) -> Reply {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:8080");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask(Method::GET, path, &[], Body::empty()).await
    }

    /// A new recording, as the API told it.
    async fn create(&self, title: &str) -> Value {
        let body = json!({ "title": title }).to_string();
        let reply = self.ask(Method::POST, "/v1/recordings", &[JSON], body).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{:?}", reply.body);
        reply.json()
    }

    async fn upload(&self, id: &str, kind: &str, body: impl Into<Body>) -> Reply {
        self.ask(
            Method::POST,
            &format!("/v1/recordings/{id}/media"),
            &[("content-type", kind)],
            body,
        )
        .await
    }

    async fn whip(&self, id: &str, token: Option<&str>, kind: &str, offer: &str) -> Reply {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut fields = vec![("content-type", kind)];
        fields.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        self.ask(
            Method::POST,
            &format!("/v1/recordings/{id}/whip"),
            &fields,
            offer.to_owned(),
        )
        .await
    }

    fn received(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("uploads"))
            .unwrap()
            .count()
    }
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{why}: {:?}", self.body))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks the form of RFC 9457 and gives the sentence.
    #[track_caller]
    fn problem(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{:?}", self.body);
        assert_eq!(self.field("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(!problem["title"].as_str().unwrap().is_empty());
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.len() > 15, "the detail helps nobody: {detail:?}");
        assert!(
            !detail.contains("/tmp"),
            "the detail names a file of the server: {detail:?}"
        );
        detail.to_owned()
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");
