use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{OriginalUri, Path, Request, State};
use axum::response::Response;
use axum::routing::any;
use http::{HeaderMap, HeaderName, StatusCode, header};

use super::request::{Call, FRAGMENT, Head, Resource, SDP, trickle};
use super::{Fragment, IfMatch, Refusal};
use crate::ingest::Answer;
use crate::limits;
use crate::session::SessionId;

/// A publisher that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Names the session in its URL.
    pub session: SessionId,
    /// What the publisher gets.
    pub answer: Answer,
}

/// Who decides about publishers.
pub trait WhipHost: Send + Sync + 'static {
    /// A publisher wants to send to `endpoint`, which is the path part before `whip`.
    fn publish(
        &self,
        endpoint: &str,
        token: Option<&str>,
        offer: String,
    ) -> impl Future<Output = Result<Published, Refusal>> + Send;

    /// A publisher trickles candidates. The host looks the session up, checks the token, and has `if_match` checked
    /// against the session's [`Answer::etag`]; nothing else is to be done.
    fn trickle(
        &self,
        endpoint: &str,
        session: &str,
        token: Option<&str>,
        if_match: &IfMatch,
        fragment: &Fragment,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// A publisher ends its session.
    fn end(
        &self,
        endpoint: &str,
        session: &str,
        token: Option<&str>,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// The routes `/{endpoint}/whip` and `/{endpoint}/whip/{session}`, to be nested wherever the host likes.
pub fn router<H: WhipHost>(host: Arc<H>) -> Router {
    Router::new()
        .route("/{endpoint}/whip", any(at_endpoint::<H>))
        .route("/{endpoint}/whip/{session}", any(at_session::<H>))
        .with_state(host)
}

async fn at_endpoint<H: WhipHost>(
    State(host): State<Arc<H>>,
    Path(endpoint): Path<String>,
    OriginalUri(uri): OriginalUri,
    request: Request,
) -> Response {
    let answer = publish(&*host, &endpoint, uri.path(), request).await;
    finish(answer.unwrap_or_else(|refusal| refuse(&refusal, Resource::Endpoint)))
}

async fn at_session<H: WhipHost>(
    State(host): State<Arc<H>>,
    Path((endpoint, session)): Path<(String, String)>,
    request: Request,
) -> Response {
    let answer = steer(&*host, &endpoint, &session, request).await;
    finish(answer.unwrap_or_else(|refusal| refuse(&refusal, Resource::Session)))
}

async fn publish<H: WhipHost>(
    host: &H,
    endpoint: &str,
    path: &str,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    check_path_part(endpoint)?;
    let Call::Publish { token } = head(&parts.method, Resource::Endpoint, &parts.headers).call()? else {
        return Ok(options(Resource::Endpoint));
    };
    let offer = read(body, limits::OFFER_BYTES).await?;
    let published = host.publish(endpoint, token, offer).await?;
    // RFC 9725 §4.2
    Ok(response(StatusCode::CREATED)
        .header(header::CONTENT_TYPE, SDP)
        .header(
            header::LOCATION,
            format!("{}/{}", path.trim_end_matches('/'), published.session),
        )
        .header(header::ETAG, format!("\"{}\"", published.answer.etag))
        .header(ACCEPT_PATCH, FRAGMENT)
        .body(Body::from(published.answer.sdp))
        .unwrap_or_else(|_| unwritable()))
}

async fn steer<H: WhipHost>(
    host: &H,
    endpoint: &str,
    session: &str,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    check_path_part(endpoint)?;
    check_path_part(session)?;
    let status = match head(&parts.method, Resource::Session, &parts.headers).call()? {
        Call::Trickle { token, if_match } => {
            let fragment = trickle(&if_match, &read(body, limits::FRAGMENT_BYTES).await?)?;
            host.trickle(endpoint, session, token, &if_match, &fragment)
                .await?;
            StatusCode::NO_CONTENT
        }
        Call::End { token } => {
            host.end(endpoint, session, token).await?;
            StatusCode::OK
        }
        Call::Options | Call::Publish { .. } => return Ok(options(Resource::Session)),
    };
    Ok(response(status)
        .body(Body::empty())
        .unwrap_or_else(|_| unwritable()))
}

const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

fn head<'a>(method: &'a http::Method, resource: Resource, headers: &'a HeaderMap) -> Head<'a> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    Head {
        method,
        resource,
        content_type: text(header::CONTENT_TYPE),
        accept: text(header::ACCEPT),
        authorization: text(header::AUTHORIZATION),
        if_match: text(header::IF_MATCH),
    }
}

fn check_path_part(part: &str) -> Result<(), Refusal> {
    if part.len() > limits::PATH_PART_BYTES {
        let detail = format!(
            "a name in the path is longer than {} bytes",
            limits::PATH_PART_BYTES
        );
        return Err(Refusal::new(414, "Path too long", detail));
    }
    Ok(())
}

async fn read(body: Body, limit: usize) -> Result<String, Refusal> {
    let bytes = to_bytes(body, limit).await.map_err(|_| {
        Refusal::new(
            413,
            "Body too large",
            format!("the body did not arrive whole, or has more than {limit} bytes"),
        )
    })?;
    String::from_utf8(bytes.into())
        .map_err(|_| Refusal::new(400, "Not text", "the body is not UTF-8 (RFC 8866 §5)"))
}

fn response(status: StatusCode) -> http::response::Builder {
    Response::builder().status(status)
}

fn options(resource: Resource) -> Response {
    let types = match resource {
        Resource::Endpoint => (ACCEPT_POST, SDP),
        Resource::Session => (ACCEPT_PATCH, FRAGMENT),
    };
    response(StatusCode::NO_CONTENT)
        .header(header::ALLOW, resource.methods())
        .header(types.0, types.1)
        .header(header::ACCESS_CONTROL_ALLOW_METHODS, resource.methods())
        .header(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, if-match",
        )
        .header(header::ACCESS_CONTROL_MAX_AGE, "86400")
        .body(Body::empty())
        .unwrap_or_else(|_| unwritable())
}

fn refuse(refusal: &Refusal, resource: Resource) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut builder = response(status).header(header::CONTENT_TYPE, "application/problem+json");
    match refusal.status {
        401 => builder = builder.header(header::WWW_AUTHENTICATE, "Bearer"),
        405 => builder = builder.header(header::ALLOW, resource.methods()),
        415 if resource == Resource::Endpoint => builder = builder.header(ACCEPT_POST, SDP),
        415 => builder = builder.header(ACCEPT_PATCH, FRAGMENT),
        _ => {}
    }
    if let Some(seconds) = refusal.retry_after {
        builder = builder.header(header::RETRY_AFTER, seconds);
    }
    builder
        .body(Body::from(refusal.to_json()))
        .unwrap_or_else(|_| unwritable())
}

/// What every response carries: a page of any origin may publish, its token decides.
fn finish(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let exposed = header::HeaderValue::from_static("location, etag, link, accept-patch, retry-after");
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        header::HeaderValue::from_static("*"),
    );
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}

/// A header that a host made cannot be written.
fn unwritable() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
