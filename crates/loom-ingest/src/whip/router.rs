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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http::Method;

    use super::*;

    /// Has one session, `s1`, with the entity tag `tag`.
    #[derive(Default)]
    struct Host {
        heard: Mutex<Vec<String>>,
    }

    impl Host {
        fn hear(&self, what: String) {
            self.heard.lock().unwrap().push(what);
        }
    }

    impl WhipHost for Host {
        async fn publish(
            &self,
            endpoint: &str,
            token: Option<&str>,
            offer: String,
        ) -> Result<Published, Refusal> {
            self.hear(format!("publish {endpoint} {token:?} {offer}"));
            if token != Some("good") {
                return Err(Refusal::new(
                    401,
                    "Unauthorized",
                    "the token is not this recording's",
                ));
            }
            let answer = Answer {
                sdp: "v=0".to_owned(),
                etag: "tag".to_owned(),
            };
            Ok(Published {
                session: SessionId::from("s1"),
                answer,
            })
        }

        async fn trickle(
            &self,
            _endpoint: &str,
            session: &str,
            _token: Option<&str>,
            if_match: &IfMatch,
            fragment: &Fragment,
        ) -> Result<(), Refusal> {
            self.hear(format!("trickle {session} {}", fragment.candidates.len()));
            if_match.check("tag")
        }

        async fn end(&self, endpoint: &str, session: &str, _token: Option<&str>) -> Result<(), Refusal> {
            self.hear(format!("end {endpoint} {session}"));
            Ok(())
        }
    }

    async fn ask(
        method: Method,
        session: Option<&str>,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (Response, String) {
        let host = Arc::new(Host::default());
        let mut request = Request::builder().method(method).uri("/v1/recordings/rec/whip");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let uri = OriginalUri(request.uri().clone());
        let state = State(Arc::clone(&host));
        let response = match session {
            None => at_endpoint(state, Path("rec".to_owned()), uri, request).await,
            Some(session) => at_session(state, Path(("rec".to_owned(), session.to_owned())), request).await,
        };
        let heard = host.heard.lock().unwrap().join("; ");
        (response, heard)
    }

    fn header(response: &Response, name: &str) -> String {
        response
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default()
    }

    const OFFER: [(&str, &str); 2] = [
        ("content-type", "application/sdp"),
        ("authorization", "Bearer good"),
    ];

    #[tokio::test]
    async fn a_taken_offer_is_201_with_its_session_tag_and_patch_type() {
        let (response, heard) = ask(Method::POST, None, &OFFER, "v=0 offer").await;
        assert_eq!(response.status(), 201);
        assert_eq!(heard, "publish rec Some(\"good\") v=0 offer");
        assert_eq!(header(&response, "location"), "/v1/recordings/rec/whip/s1");
        assert_eq!(header(&response, "etag"), "\"tag\"");
        assert_eq!(
            header(&response, "accept-patch"),
            "application/trickle-ice-sdpfrag"
        );
        assert_eq!(header(&response, "content-type"), "application/sdp");
        assert!(header(&response, "access-control-expose-headers").contains("location"));
        assert_eq!(to_bytes(response.into_body(), 100).await.unwrap(), "v=0");
    }

    #[tokio::test]
    async fn a_refusal_is_a_problem_document() {
        let (response, _) = ask(Method::POST, None, &OFFER[..1], "v=0").await;
        assert_eq!(response.status(), 401);
        assert_eq!(header(&response, "www-authenticate"), "Bearer");
        assert_eq!(header(&response, "content-type"), "application/problem+json");
        let body = to_bytes(response.into_body(), 1_000).await.unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&problem["status"], &problem["title"]),
            (&401.into(), &"Unauthorized".into())
        );
    }

    #[tokio::test]
    async fn a_body_above_the_limit_is_413_and_never_reaches_the_host() {
        let (response, heard) = ask(Method::POST, None, &OFFER, &"v".repeat(limits::OFFER_BYTES + 1)).await;
        assert_eq!((response.status().as_u16(), heard.as_str()), (413, ""));
        let headers = [("content-type", FRAGMENT), ("if-match", "\"tag\"")];
        let (response, heard) = ask(Method::PATCH, Some("s1"), &headers, &"a=x\n".repeat(20_000)).await;
        assert_eq!((response.status().as_u16(), heard.as_str()), (413, ""));
    }

    #[tokio::test]
    async fn other_methods_and_types_are_refused_with_what_would_do() {
        let (response, heard) = ask(Method::GET, None, &[], "").await;
        assert_eq!((response.status().as_u16(), heard.as_str()), (405, ""));
        assert_eq!(header(&response, "allow"), "POST, OPTIONS");
        let (response, _) = ask(Method::POST, None, &[("content-type", "text/plain")], "v=0").await;
        assert_eq!(response.status(), 415);
        assert_eq!(header(&response, "accept-post"), "application/sdp");
        let (response, _) = ask(Method::PATCH, Some("s1"), &[("content-type", SDP)], "v=0").await;
        assert_eq!(response.status(), 415);
        assert_eq!(header(&response, "accept-patch"), FRAGMENT);
    }

    #[tokio::test]
    async fn a_preflight_of_a_browser_is_answered() {
        let (response, _) = ask(Method::OPTIONS, None, &[("origin", "https://example.org")], "").await;
        assert_eq!(response.status(), 204);
        assert_eq!(header(&response, "access-control-allow-origin"), "*");
        assert!(header(&response, "access-control-allow-headers").contains("authorization"));
        let (response, _) = ask(Method::OPTIONS, Some("s1"), &[], "").await;
        assert_eq!(
            header(&response, "access-control-allow-methods"),
            "PATCH, DELETE, OPTIONS"
        );
    }

    #[tokio::test]
    async fn trickled_candidates_are_204_under_the_sessions_tag_only() {
        let body = "a=ice-ufrag:x\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
            a=candidate:1 1 udp 1 host.local 9 typ host\r\n";
        let patch = async |headers: &[(&str, &str)], body: &str| {
            let (response, _) = ask(Method::PATCH, Some("s1"), headers, body).await;
            response.status().as_u16()
        };
        let typed = ("content-type", FRAGMENT);
        assert_eq!(patch(&[typed, ("if-match", "\"tag\"")], body).await, 204);
        assert_eq!(patch(&[typed, ("if-match", "\"other\"")], body).await, 412);
        assert_eq!(patch(&[typed], body).await, 428);
        assert_eq!(patch(&[typed, ("if-match", "*")], body).await, 422);
        assert_eq!(patch(&[typed, ("if-match", "\"tag\"")], "hello").await, 400);
    }

    #[tokio::test]
    async fn a_publisher_ends_its_session_with_200() {
        let (response, heard) = ask(Method::DELETE, Some("s1"), &[], "").await;
        assert_eq!((response.status().as_u16(), heard.as_str()), (200, "end rec s1"));
    }
}
