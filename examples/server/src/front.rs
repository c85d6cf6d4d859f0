//! What everything goes through first. Playlists, parts and segments, which thousands ask for at once, go from here straight to the engine's
//! origin; everything else goes through the router and its layers.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::future::RouteFuture;
use axum::{Router, http};
use futures::FutureExt;
use futures::future::CatchUnwind;
use http::{HeaderName, HeaderValue, Method, header};
use loom_engine::HlsService;
use tower_service::Service;

use crate::config::Config;
use crate::metrics::Answered;
use crate::{api, guard, hls};

/// The server as one service.
#[derive(Clone)]
pub(crate) struct Front {
    pages: Router,
    streams: HlsService,
    config: Arc<Config>,
    answered: Arc<Answered>,
}

/// An answer on its way.
pub(crate) enum Coming {
    Page(Pin<Box<RouteFuture<Infallible>>>),
    Stream(Stream),
}

/// An answer of the engine's origin.
pub(crate) struct Stream {
    answer: CatchUnwind<AssertUnwindSafe<<HlsService as Service<Request>>::Future>>,
    observed: crate::metrics::Observed,
}

impl Front {
    pub(crate) fn new(pages: Router, streams: HlsService, config: Arc<Config>) -> Self {
        let answered = Arc::new(Answered::new(hls::ROUTE));
        Self {
            pages,
            streams,
            config,
            answered,
        }
    }
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Coming;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(())) // both are always ready
    }

    fn call(&mut self, request: Request) -> Coming {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let plain = reads
            && hls::is_stream(request.uri().path())
            && guard::check_host(&self.config, request.headers()).is_ok();
        if !plain {
            return Coming::Page(Box::pin(self.pages.call(request)));
        }
        let observed = self.answered.begin(request.method());
        let answer = AssertUnwindSafe(self.streams.call(request)).catch_unwind();
        Coming::Stream(Stream { answer, observed })
    }
}

impl Future for Coming {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Page(page) => page.as_mut().poll(context),
            Self::Stream(stream) => {
                let mut response = match ready!(Pin::new(&mut stream.answer).poll(context)) {
                    Ok(Ok(answer)) => answer.map(Body::new),
                    Err(panic) => api::panicked(panic).into_response(),
                };
                let headers = response.headers_mut();
                for (name, value) in FIELDS {
                    headers.insert(name, HeaderValue::from_static(value));
                }
                stream.observed.end(response.status());
                Poll::Ready(Ok(response))
            }
        }
    }
}

/// Who knows a recording's id may watch it, from any page: the answer is the same for all of them, so that one copy in a cache serves them
/// (Fetch §3.2.5).
const FIELDS: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, "*"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];
