//! Who may ask: the Host a request names, the page it comes from, and what its answer may do in a browser.
//!
//! There are no accounts. Whoever knows a recording's id may watch it, from any page; whoever holds its token may publish
//! to it. Making, listing, stopping and deleting is for the server's own pages, so that a foreign page that somebody
//! has open cannot reach a server on their own machine.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use crate::app::App;
use crate::config::{Config, plain_authority};
use crate::problem::Problem;

/// The scheme and host that absolute URLs in an answer begin with, without a slash at its end.
#[derive(Debug, Clone)]
pub(crate) struct Base(String);

impl FromRequestParts<App> for Base {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        if let Some(url) = &app.config.public_url {
            return Ok(Self(url.base().to_owned()));
        }
        // `check` has refused a Host that is none.
        let authority =
            host(&parts.headers).map_or_else(|| app.config.listen.to_string(), |host| host.to_string());
        Ok(Self(format!("http://{authority}")))
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Refuses a request to a host that is not ours, or from a page that may not make it; then adds what a browser should
/// know about the answer.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let refusal = check_host(&app.config, request.headers()).and_then(|()| {
        check_origin(
            &app.config,
            request.method(),
            request.uri().path(),
            request.headers(),
        )
    });
    let mut response = match refusal {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    for (name, value) in FIELDS {
        response
            .headers_mut()
            .entry(name.clone())
            .or_insert_with(|| HeaderValue::from_static(value));
    }
    response
}

/// Cross-origin reads (Fetch §3.2).
pub(crate) fn cors(config: &Config) -> CorsLayer {
    let config = config.clone();
    let allow = AllowOrigin::predicate(move |origin, parts| {
        let asked = parts.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let method = match asked.filter(|_| parts.method == Method::OPTIONS) {
            Some(asked) => Method::from_bytes(asked.as_bytes()).unwrap_or(Method::OPTIONS),
            None => parts.method.clone(),
        };
        is_open(&method, parts.uri.path()) || is_allowed(&config, origin)
    });
    CorsLayer::new()
        .allow_origin(allow)
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::RANGE,
        ])
        .expose_headers(Any)
        .max_age(Duration::from_secs(3600))
}

/// A server that only this machine reaches answers to this machine's names only; otherwise a foreign page could give its
/// own name our address and be taken for ours (DNS rebinding).
pub(crate) fn check_host(config: &Config, headers: &HeaderMap) -> Result<(), Problem> {
    if !headers.contains_key(header::HOST) {
        return Ok(());
    }
    let Some(authority) = host(headers) else {
        return Err(Problem::bad_request(
            "bad-host",
            "the Host header is no host name with an optional port",
        ));
    };
    let name = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase();
    let ours = name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok()
        || config.public_url.as_ref().is_some_and(|url| url.host() == name);
    if ours || !config.listen.ip().is_loopback() {
        return Ok(());
    }
    let detail = "this server is not known by that name; if it should be, start it with LOOM_PUBLIC_URL";
    Err(Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "unknown-host",
        detail,
    ))
}

/// A request that changes something comes from our own pages, from an allowed one, or from no page at all.
fn check_origin(config: &Config, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    if method.is_safe() && !takes_commands(path)
        || is_open(method, path)
        || is_own(config, origin, headers)
        || is_allowed(config, origin)
    {
        return Ok(());
    }
    let detail = "pages of other sites may not do that here; allow theirs with LOOM_ALLOW_ORIGIN";
    Err(Problem::new(StatusCode::FORBIDDEN, "foreign-origin", detail))
}

/// Whether any page may ask this: it names a recording by its unguessable id to read it, or needs the publisher's token.
fn is_open(method: &Method, path: &str) -> bool {
    let Some((_, rest)) = path
        .strip_prefix("/v1/recordings/")
        .and_then(|rest| rest.split_once('/').or(Some((rest, ""))))
    else {
        return false;
    };
    let whip = rest == "whip" || rest.starts_with("whip/");
    whip || (*method == Method::GET || *method == Method::HEAD) && !takes_commands(path)
}

/// Whether what is asked with `GET` there goes on to change something: a WebSocket, which no browser keeps from foreign pages.
fn takes_commands(path: &str) -> bool {
    path.starts_with("/v1/recordings/") && path.ends_with("/control")
}

fn is_own(config: &Config, origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let Some((_, authority)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else {
        return false;
    };
    let public = config
        .public_url
        .as_ref()
        .is_some_and(|url| origin.as_bytes().eq_ignore_ascii_case(url.base().as_bytes()));
    public || host(headers).is_some_and(|host| host.as_str().eq_ignore_ascii_case(authority))
}

fn is_allowed(config: &Config, origin: &HeaderValue) -> bool {
    config
        .allow_origin
        .iter()
        .any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes())
}

fn host(headers: &HeaderMap) -> Option<Authority> {
    plain_authority(headers.get(header::HOST)?.to_str().ok()?)
}

/// hls.js plays through blob: URLs and runs its demuxer in a worker made from one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
                      media-src 'self' blob:; worker-src 'self' blob:; connect-src 'self'; font-src 'self'; \
                      manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'";

const FIELDS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
    // A watch page's address is its key; it is not told to where its links lead.
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(self), microphone=(self), display-capture=(self), geolocation=()",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_recording_can_be_read_from_any_page_and_nothing_else_can() {
        for (method, path) in [
            (Method::GET, "/v1/recordings/a"),
            (Method::GET, "/v1/recordings/a/hls/main.m3u8"),
            (Method::POST, "/v1/recordings/a/whip"),
            (Method::DELETE, "/v1/recordings/a/whip/s"),
        ] {
            assert!(is_open(&method, path), "{method} {path}");
        }
        for (method, path) in [
            (Method::GET, "/v1/recordings"),
            (Method::POST, "/v1/recordings"),
            (Method::DELETE, "/v1/recordings/a"),
            (Method::POST, "/v1/recordings/a/stop"),
            (Method::GET, "/v1/recordings/a/control"),
            (Method::POST, "/v1/recordings/a/media"),
            (Method::POST, "/v1/recordings/a/whipped"),
            (Method::GET, "/metrics"),
        ] {
            assert!(!is_open(&method, path), "{method} {path}");
        }
    }
}
