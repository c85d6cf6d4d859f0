use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, OriginalUri, Path, Request, State};
use axum::response::Response;
use axum::routing::any;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::pace::Pace;
use super::request::{self, Call, FRAGMENT, Head, Resource, SDP};
use super::{Client, Redirect, RedirectKind, Refusal, WhipHost, links};
use crate::limits;

/// The routes `/{endpoint}/whip` and `/{endpoint}/whip/{session}`, to be nested wherever the host likes.
///
/// Serve them with `into_make_service_with_connect_info::<SocketAddr>()` so that [`Client::address`] is known and one
/// address cannot flood the others.
///
/// ```
/// use std::sync::Arc;
/// use loom_ingest::whip::{self, Client, Patch, Published, Refusal, WhipHost};
/// use loom_ingest::{IceRestart, Ingest, IngestConfig};
///
/// struct Site {
///     ingest: Ingest,
/// }
///
/// impl WhipHost for Site {
///     async fn authorize(&self, _: &str, _: Option<&str>, client: Client<'_>) -> Result<(), Refusal> {
///         match client.token {
///             Some("SECRET") => Ok(()),
///             _ => Err(Refusal::unauthorized("send the token that you were given")),
///         }
///     }
///
///     async fn publish(&self, _: &str, _: Client<'_>, offer: String) -> Result<Published, Refusal> {
///         let (answer, mut session) = self.ingest.accept(&offer).await?;
///         let session_id = session.id().clone();
///         tokio::spawn(async move { while session.recv().await.is_some() {} });
///         Ok(Published { session: session_id, answer, extensions: Vec::new() })
///     }
///
///     async fn patch(&self, _: &str, _: &str, _: &Patch) -> Result<Option<IceRestart>, Refusal> {
///         Err(Refusal::not_found("a site that keeps its sessions' handles asks them"))
///     }
///
///     async fn end(&self, _: &str, _: &str) -> Result<(), Refusal> {
///         Err(Refusal::not_found("a site that keeps its sessions' handles closes them"))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower::ServiceExt;
///
/// # let udp = ([127, 0, 0, 1], 0).into();
/// let ingest = Ingest::bind(IngestConfig { udp, ..IngestConfig::default() }).await?;
/// let router = whip::router(Arc::new(Site { ingest }));
/// // axum::serve(listener, router), or by hand:
/// let request = http::Request::post("/talk/whip").body(axum::body::Body::empty())?;
/// assert_eq!(router.oneshot(request).await?.status(), 401);
/// # Ok(())
/// # }
/// ```
pub fn router<H: WhipHost>(host: Arc<H>) -> Router {
    let site = Site {
        host,
        pace: Pace::new(Instant::now()),
    };
    Router::new()
        .route("/{endpoint}/whip", any(at_endpoint::<H>))
        .route("/{endpoint}/whip/{session}", any(at_session::<H>))
        .with_state(Arc::new(site))
}

/// What a router knows.
struct Site<H> {
    host: Arc<H>,
    pace: Pace,
}

/// A request to one resource.
struct Asked<'a> {
    endpoint: &'a str,
    session: Option<&'a str>,
    path: &'a str,
    parts: &'a Parts,
}

async fn at_endpoint<H: WhipHost>(
    State(site): State<Arc<Site<H>>>,
    Path(endpoint): Path<String>,
    OriginalUri(uri): OriginalUri,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let asked = Asked {
        endpoint: &endpoint,
        session: None,
        path: uri.path(),
        parts: &parts,
    };
    asked.answer(&site, body).await
}

async fn at_session<H: WhipHost>(
    State(site): State<Arc<Site<H>>>,
    Path((endpoint, session)): Path<(String, String)>,
    OriginalUri(uri): OriginalUri,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let asked = Asked {
        endpoint: &endpoint,
        session: Some(&session),
        path: uri.path(),
        parts: &parts,
    };
    asked.answer(&site, body).await
}

impl<'a> Asked<'a> {
    async fn answer<H: WhipHost>(&self, site: &Site<H>, mut body: Body) -> Response {
        let (resource, parts) = (self.resource(), self.parts);
        let answer = self.serve(site, &mut body).await;
        // A body that nobody looked at would cost the client its connection, which it may be using again already.
        let _ = tokio::time::timeout(limits::BODY_WAIT, to_bytes(body, limits::OFFER_BYTES)).await;
        finish(answer.unwrap_or_else(|refusal| refuse(&refusal, resource, &parts.headers)))
    }

    async fn serve<H: WhipHost>(&self, site: &Site<H>, body: &mut Body) -> Result<Response, Refusal> {
        let (endpoint, session) = (self.endpoint, self.session);
        check_path_part(endpoint)?;
        session.map_or(Ok(()), check_path_part)?;
        let head = self.head();
        let call = head.call()?;
        let address = self.parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let address = address.map(|ConnectInfo(address)| address.ip().to_canonical());
        // a browser's preflight asks nothing of the host
        let is_preflight = call == Call::Options && is_preflight(&self.parts.headers);
        if let Some(address) = address.filter(|_| !is_preflight) {
            site.pace.take(address, Instant::now())?;
        }
        if call == Call::Options {
            let token = head.token().unwrap_or_default();
            return Ok(self.options(&*site.host, Client { token, address }).await);
        }
        let token = head.token()?;
        let client = Client { token, address };
        site.host.authorize(endpoint, session, client).await?;
        match (call, session) {
            (Call::Publish, None) => self.publish(&*site.host, client, body).await,
            (Call::Patch, Some(session)) => self.patch(&*site.host, session, body).await,
            (Call::End, Some(session)) => {
                site.host.end(endpoint, session).await?;
                Ok(empty(StatusCode::OK))
            }
            // RFC 9725 §4.1: neither resource has a representation
            _ => Ok(empty(StatusCode::NO_CONTENT)),
        }
    }

    /// RFC 9725 §4.2
    async fn publish<H: WhipHost>(
        &self,
        host: &H,
        client: Client<'_>,
        body: &mut Body,
    ) -> Result<Response, Refusal> {
        self.head().check_types(SDP)?;
        if let Some(redirect) = host.redirect(self.endpoint, client).await {
            return redirected(&redirect);
        }
        let offer = read(std::mem::take(body), limits::OFFER_BYTES).await?;
        if offer.is_empty() {
            return Err(Refusal::new(
                400,
                "Not an SDP offer",
                "the body is empty; send an offer",
            ));
        }
        let published = host.publish(self.endpoint, client, offer).await?;
        let servers = host.ice_servers(self.endpoint, client).await;
        let location = format!("{}/{}", self.path.trim_end_matches('/'), published.session);
        let mut response = Response::builder()
            .status(StatusCode::CREATED)
            .header(header::CONTENT_TYPE, SDP)
            .header(header::LOCATION, location)
            .header(header::ETAG, format!("\"{}\"", published.answer.etag))
            .header(ACCEPT_PATCH, FRAGMENT)
            .body(Body::from(published.answer.sdp))
            .unwrap_or_else(|_| unwritable());
        let links = links::ice_servers(&servers).into_iter();
        append_links(
            &mut response,
            links.chain(links::extensions(&published.extensions)),
        );
        Ok(response)
    }

    /// RFC 9725 §4.3
    async fn patch<H: WhipHost>(
        &self,
        host: &H,
        session: &str,
        body: &mut Body,
    ) -> Result<Response, Refusal> {
        self.head().check_types(FRAGMENT)?;
        let fields = self.parts.headers.get_all(header::IF_MATCH).iter();
        let fields: Option<Vec<&str>> = fields.map(|value| value.to_str().ok()).collect();
        let if_match = fields
            .filter(|fields| !fields.is_empty())
            .map(|fields| fields.join(", "));
        let body = read(std::mem::take(body), limits::FRAGMENT_BYTES).await?;
        let patch = request::patch(if_match.as_deref(), &body)?;
        let Some(restart) = host.patch(self.endpoint, session, &patch).await? else {
            return Ok(empty(StatusCode::NO_CONTENT));
        };
        Ok(Response::builder()
            .header(header::CONTENT_TYPE, FRAGMENT)
            .header(header::ETAG, format!("\"{}\"", restart.etag))
            .body(Body::from(patch.fragment.answer(&restart)))
            .unwrap_or_else(|_| unwritable()))
    }

    async fn options<H: WhipHost>(&self, host: &H, client: Client<'_>) -> Response {
        let resource = self.resource();
        let types = match resource {
            Resource::Endpoint => (ACCEPT_POST, SDP),
            Resource::Session => (ACCEPT_PATCH, FRAGMENT),
        };
        let mut response = Response::builder()
            .header(header::ALLOW, resource.methods())
            .header(types.0, types.1)
            .header(header::ACCESS_CONTROL_ALLOW_METHODS, resource.methods())
            .header(
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "authorization, content-type, if-match, link",
            )
            .header(header::ACCESS_CONTROL_MAX_AGE, "86400")
            .body(Body::empty())
            .unwrap_or_else(|_| unwritable());
        let wanted = resource == Resource::Endpoint && !is_preflight(&self.parts.headers);
        if wanted && host.authorize(self.endpoint, None, client).await.is_ok() {
            let servers = host.ice_servers(self.endpoint, client).await;
            append_links(&mut response, links::ice_servers(&servers));
        }
        response
    }

    fn resource(&self) -> Resource {
        self.session.map_or(Resource::Endpoint, |_| Resource::Session)
    }

    fn head(&self) -> Head<'a> {
        let parts = self.parts;
        let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        Head {
            method: &parts.method,
            resource: self.resource(),
            content_type: text(header::CONTENT_TYPE),
            content_encoding: text(header::CONTENT_ENCODING),
            accept: text(header::ACCEPT),
            authorization: text(header::AUTHORIZATION),
        }
    }
}

const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// Whether an `OPTIONS` is a browser's preflight (Fetch §3.3.2), which must not cost a TURN provider's answer, and does not
/// name `Link` among the headers it wants (RFC 9725 §4.6).
fn is_preflight(headers: &HeaderMap) -> bool {
    let names_link = headers
        .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|names| {
            names
                .split(',')
                .any(|name| name.trim().eq_ignore_ascii_case("link"))
        });
    headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        && !names_link
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
    let arrived = tokio::time::timeout(limits::BODY_WAIT, to_bytes(body, limit)).await;
    let bytes = arrived
        .map_err(|_| Refusal::new(408, "Request timeout", "the body did not arrive in time"))?
        .map_err(|_| {
            Refusal::new(
                413,
                "Body too large",
                format!("the body did not arrive whole, or has more than {limit} bytes"),
            )
        })?;
    String::from_utf8(bytes.into())
        .map_err(|_| Refusal::new(400, "Not text", "the body is not UTF-8 (RFC 8866 §5)"))
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// RFC 9725 §4.5; 301 and 302 would let a client change `POST` to `GET`.
fn redirected(redirect: &Redirect) -> Result<Response, Refusal> {
    let status = match redirect.kind {
        RedirectKind::Temporary => StatusCode::TEMPORARY_REDIRECT,
        RedirectKind::Permanent => StatusCode::PERMANENT_REDIRECT,
    };
    let to = HeaderValue::from_str(&redirect.to)
        .map_err(|_| Refusal::new(500, "Redirect failed", "the other node's address is no URL"))?;
    let mut response = empty(status);
    response.headers_mut().insert(header::LOCATION, to);
    Ok(response)
}

fn append_links(response: &mut Response, links: impl IntoIterator<Item = HeaderValue>) {
    for link in links {
        response.headers_mut().append(header::LINK, link);
    }
}

fn refuse(refusal: &Refusal, resource: Resource, asked: &HeaderMap) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut builder = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/problem+json");
    // RFC 6750 §3: no error is named where no token was shown
    let challenge = match (refusal.status, asked.contains_key(header::AUTHORIZATION)) {
        (401, false) => Some("Bearer realm=\"whip\""),
        (401, true) => Some("Bearer realm=\"whip\", error=\"invalid_token\""),
        (403, true) => Some("Bearer realm=\"whip\", error=\"insufficient_scope\""),
        _ => None,
    };
    if let Some(challenge) = challenge {
        builder = builder.header(header::WWW_AUTHENTICATE, challenge);
    }
    match refusal.status {
        405 => builder = builder.header(header::ALLOW, resource.methods()),
        415 if resource == Resource::Endpoint => builder = builder.header(ACCEPT_POST, SDP),
        415 => builder = builder.header(ACCEPT_PATCH, FRAGMENT),
        // the rest of the body is not read, so that nothing can follow it (RFC 9110 §15.5.9, §15.5.14)
        408 | 413 => builder = builder.header(header::CONNECTION, "close"),
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
    let exposed = "location, etag, link, accept-patch, accept-post, allow, retry-after, www-authenticate";
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A header that a host made cannot be written.
fn unwritable() -> Response {
    empty(StatusCode::INTERNAL_SERVER_ERROR)
}
