use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tower_service::Service;

use super::body::HlsBody;
use super::response::{self, Refusal};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::id::RecordingId;
use crate::recording::Recording;

/// The recordings' streams as a [`tower_service::Service`], for any HTTP server: `GET` and `HEAD`, byte ranges, entity tags, gzip
/// of what is text, and the `Cache-Control` that each answer bears. Blocking reloads and part requests (RFC 8216bis §6.2.5.2) wait
/// in it, thousands of them for one wake-up. What browsers of other sites may read is for a layer of the host's (CORS).
///
/// An answer that says no is an RFC 9457 problem document: 400, 404, 405, 416, 500, or 503 with `Retry-After`.
///
/// It holds a handle to the engine, and keeps the recordings that were asked for last in memory.
///
/// ```no_run
/// use loom_engine::{Engine, EngineConfig, HlsService};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::start(EngineConfig::default()).await?;
/// let streams = HlsService::new(engine).at("/streams/", "/hls/");
/// // main.m3u8 of the recording 7f3a is at /streams/7f3a/hls/main.m3u8
/// let app = axum::Router::new().route_service("/streams/{id}/hls/{*path}", streams);
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// axum::serve(listener, app).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HlsService {
    engine: Engine,
    before: Arc<str>,
    between: Arc<str>,
    recent: Arc<Mutex<VecDeque<Recording>>>,
}

impl HlsService {
    /// Answers `/{recording}/{path}`.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            before: "/".into(),
            between: "/".into(),
            recent: Arc::default(),
        }
    }

    /// Answers `{before}{recording}{between}{path}` instead.
    #[must_use]
    pub fn at(self, before: &str, between: &str) -> Self {
        Self {
            before: before.into(),
            between: between.into(),
            ..self
        }
    }

    async fn answer(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Response<HlsBody>, Refusal> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let detail = format!("a stream cannot be asked with {method}; the Allow header names what can");
            return Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "wrong-method",
                detail,
            ));
        }
        let named = path
            .strip_prefix(&*self.before)
            .and_then(|rest| rest.split_once(&*self.between));
        let Some((id, path)) = named else {
            let detail = "there is no stream at this address";
            return Err(Refusal::new(StatusCode::NOT_FOUND, "unknown-address", detail));
        };
        let recording = self.recording(id).await?;
        response::respond(&recording.0, path, query, headers).await
    }

    async fn recording(&self, id: &str) -> Result<Recording, Refusal> {
        let unknown = || {
            let shown: String = id.chars().take(40).collect();
            let detail = format!("there is no recording {shown:?}; it may have been deleted");
            Refusal::new(StatusCode::NOT_FOUND, "unknown-recording", detail)
        };
        let id = RecordingId::new(id).ok_or_else(unknown)?;
        if let Some(recording) = self.engine.in_memory(&id) {
            return Ok(recording);
        }
        match self.engine.open(&id).await {
            Ok(recording) => {
                let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
                if recent.len() >= RECENT {
                    recent.pop_front();
                }
                recent.push_back(recording.clone());
                Ok(recording)
            }
            Err(EngineError::NotFound(_)) => Err(unknown()),
            Err(why @ EngineError::Store(_)) => {
                tracing::error!(error = %why, "a recording cannot be fetched");
                let detail = "the store of recordings does not answer as it should; try again";
                Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "store", detail))
            }
            Err(why) => {
                tracing::error!(error = %why, "a recording cannot be opened");
                let detail = "the server could not open this recording; its log says why";
                Err(Refusal::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    detail,
                ))
            }
        }
    }
}

impl<B: Send + 'static> Service<Request<B>> for HlsService {
    type Response = Response<HlsBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<HlsBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        let (head, _) = request.into_parts();
        Box::pin(async move {
            let (path, query) = (head.uri.path(), head.uri.query());
            let answer = service.answer(&head.method, path, query, &head.headers).await;
            let mut response = answer.unwrap_or_else(Refusal::into_response);
            if head.method == Method::HEAD {
                let size = http_body::Body::size_hint(response.body()).exact();
                if let Some(size) = size {
                    response
                        .headers_mut()
                        .insert(header::CONTENT_LENGTH, HeaderValue::from(size));
                }
                *response.body_mut() = HlsBody::empty();
            }
            Ok(response)
        })
    }
}

impl fmt::Debug for HlsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HlsService")
            .field("before", &self.before)
            .field("between", &self.between)
            .finish_non_exhaustive()
    }
}

/// Recordings that are kept in memory though nobody else holds them.
const RECENT: usize = 64;
