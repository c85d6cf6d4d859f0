//! The router as a whole, against a host with one endpoint, `rec`, and one session, `s1`, whose tag is `tag`. That the
//! protocol holds on the wire is shown by tests/whip.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use http::Method;
use tower::ServiceExt;

use super::request::FRAGMENT;
use super::{
    Client, Extension, Patch, PatchKind, Published, Redirect, RedirectKind, Refusal, WhipHost, router,
};
use crate::config::IceServer;
use crate::ingest::Answer;
use crate::limits;
use crate::restart::IceRestart;
use crate::sdp::RemoteIce;
use crate::session::SessionId;

#[derive(Default)]
struct Host {
    heard: Mutex<Vec<String>>,
    redirect: Option<Redirect>,
    is_full: bool,
}

impl Host {
    fn hear(&self, what: String) {
        self.heard.lock().unwrap().push(what);
    }
}

impl WhipHost for Host {
    async fn authorize(
        &self,
        endpoint: &str,
        session: Option<&str>,
        client: Client<'_>,
    ) -> Result<(), Refusal> {
        match client.token {
            Some("good") => {}
            Some("narrow") => return Err(Refusal::forbidden("the token is for another recording")),
            _ => return Err(Refusal::unauthorized("the token is not this recording's")),
        }
        if endpoint == "rec" && session.is_none_or(|session| session == "s1") {
            return Ok(());
        }
        Err(Refusal::not_found("there is no such thing"))
    }

    async fn redirect(&self, _endpoint: &str, _client: Client<'_>) -> Option<Redirect> {
        self.redirect.clone()
    }

    async fn ice_servers(&self, _endpoint: &str, _client: Client<'_>) -> Vec<IceServer> {
        self.hear("asked a TURN provider".to_owned());
        vec![IceServer::new("stun:stun.example.net")]
    }

    async fn publish(&self, endpoint: &str, client: Client<'_>, offer: String) -> Result<Published, Refusal> {
        self.hear(format!("publish {endpoint} {:?} {offer}", client.address));
        if self.is_full {
            return Err(Refusal::busy("nobody can be taken in", 7));
        }
        let answer = Answer {
            sdp: "v=0".to_owned(),
            etag: "tag".to_owned(),
        };
        Ok(Published {
            session: SessionId::from("s1"),
            answer,
            extensions: vec![Extension {
                name: "urn:ietf:params:whip:ext:example".to_owned(),
                url: "/s1/example".to_owned(),
            }],
        })
    }

    async fn patch(
        &self,
        _endpoint: &str,
        session: &str,
        patch: &Patch,
    ) -> Result<Option<IceRestart>, Refusal> {
        let current = [RemoteIce::new("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1")?];
        self.hear(format!("patch {session} {}", patch.fragment.candidates.len()));
        Ok(match patch.kind("tag", &current)? {
            PatchKind::Trickle => None,
            PatchKind::Restart(_) => Some(IceRestart {
                fragment: "ours".to_owned(),
                password: "ourpasswordourpasswordour".to_owned(),
                candidates: vec!["1 1 udp 2130706431 198.51.100.1 39132 typ host".to_owned()],
                etag: "next".to_owned(),
            }),
        })
    }

    async fn end(&self, endpoint: &str, session: &str) -> Result<(), Refusal> {
        self.hear(format!("end {endpoint} {session}"));
        Ok(())
    }
}

/// A site, and what its host was asked.
struct Site {
    host: Arc<Host>,
    router: Router,
}

impl Site {
    fn new(host: Host) -> Self {
        let host = Arc::new(host);
        Self {
            router: Router::new().nest("/v1/recordings", router(Arc::clone(&host))),
            host,
        }
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let client = SocketAddr::from(([192, 0, 2, 7], 4711));
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/v1/recordings{path}"))
            .extension(ConnectInfo(client));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    fn heard(&self) -> String {
        self.host.heard.lock().unwrap().join("; ")
    }
}

async fn ask(method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> (Response, String) {
    let site = Site::new(Host::default());
    let response = site.ask(method, path, headers, body).await;
    (response, site.heard())
}

fn header(response: &Response, name: &str) -> String {
    let values = response.headers().get_all(name).iter();
    values
        .map(|value| value.to_str().unwrap())
        .collect::<Vec<_>>()
        .join(" | ")
}

async fn text(response: Response) -> String {
    String::from_utf8(to_bytes(response.into_body(), 10_000).await.unwrap().into()).unwrap()
}

const ENDPOINT: &str = "/rec/whip";
const SESSION: &str = "/rec/whip/s1";
const GOOD: (&str, &str) = ("authorization", "Bearer good");
const SDP: (&str, &str) = ("content-type", "application/sdp");
const TRICKLE: (&str, &str) = ("content-type", FRAGMENT);
const TAG: (&str, &str) = ("if-match", "\"tag\"");

#[tokio::test]
async fn a_taken_offer_is_201_with_its_session_tag_patch_type_and_links() {
    let (response, heard) = ask(Method::POST, ENDPOINT, &[SDP, GOOD], "v=0 offer").await;
    assert_eq!(response.status(), 201);
    let address: Option<IpAddr> = Some([192, 0, 2, 7].into());
    assert_eq!(
        heard,
        format!("publish rec {address:?} v=0 offer; asked a TURN provider")
    );
    assert_eq!(header(&response, "location"), "/v1/recordings/rec/whip/s1");
    assert_eq!(header(&response, "etag"), "\"tag\"");
    assert_eq!(header(&response, "accept-patch"), FRAGMENT);
    assert_eq!(header(&response, "content-type"), "application/sdp");
    assert_eq!(
        header(&response, "link"),
        "<stun:stun.example.net>; rel=\"ice-server\" | </s1/example>; rel=\"urn:ietf:params:whip:ext:example\""
    );
    assert!(header(&response, "access-control-expose-headers").contains("location"));
    assert_eq!(text(response).await, "v=0");
}

#[tokio::test]
async fn a_refusal_is_a_problem_document_and_a_challenge_says_what_was_wrong_with_the_token() {
    for (token, status, challenge) in [
        (None, 401, "Bearer realm=\"whip\""),
        (
            Some("Bearer bad"),
            401,
            "Bearer realm=\"whip\", error=\"invalid_token\"",
        ),
        (
            Some("Basic Zm9v"),
            401,
            "Bearer realm=\"whip\", error=\"invalid_token\"",
        ),
        (
            Some("Bearer narrow"),
            403,
            "Bearer realm=\"whip\", error=\"insufficient_scope\"",
        ),
    ] {
        let mut headers = vec![SDP];
        headers.extend(token.map(|token| ("authorization", token)));
        let (response, heard) = ask(Method::POST, ENDPOINT, &headers, "v=0").await;
        assert_eq!(
            (response.status().as_u16(), heard.as_str()),
            (status, ""),
            "{token:?}"
        );
        assert_eq!(header(&response, "www-authenticate"), challenge);
        assert_eq!(header(&response, "content-type"), "application/problem+json");
        let problem: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(problem["status"], status);
    }
}

#[tokio::test]
async fn a_body_above_the_limit_is_413_and_an_empty_one_400_and_neither_reaches_the_host() {
    let large = "v".repeat(limits::OFFER_BYTES + 1);
    for (body, status) in [(large.as_str(), 413), ("", 400)] {
        let (response, heard) = ask(Method::POST, ENDPOINT, &[SDP, GOOD], body).await;
        assert_eq!((response.status().as_u16(), heard.as_str()), (status, ""));
    }
    for (body, status) in [("a=x\n".repeat(20_000).as_str(), 413), ("", 400)] {
        let (response, heard) = ask(Method::PATCH, SESSION, &[TRICKLE, TAG, GOOD], body).await;
        assert_eq!((response.status().as_u16(), heard.as_str()), (status, ""));
    }
}

#[tokio::test]
async fn other_methods_and_types_are_refused_with_what_would_do() {
    let (response, heard) = ask(Method::PUT, ENDPOINT, &[GOOD], "").await;
    assert_eq!((response.status().as_u16(), heard.as_str()), (405, ""));
    assert_eq!(header(&response, "allow"), "GET, HEAD, POST, OPTIONS");
    let (response, _) = ask(Method::POST, SESSION, &[GOOD, SDP], "v=0").await;
    assert_eq!(response.status(), 405);
    assert_eq!(header(&response, "allow"), "GET, HEAD, PATCH, DELETE, OPTIONS");
    let (response, _) = ask(
        Method::POST,
        ENDPOINT,
        &[("content-type", "text/plain"), GOOD],
        "v=0",
    )
    .await;
    assert_eq!(response.status(), 415);
    assert_eq!(header(&response, "accept-post"), "application/sdp");
    let (response, _) = ask(Method::PATCH, SESSION, &[SDP, GOOD], "v=0").await;
    assert_eq!(response.status(), 415);
    assert_eq!(header(&response, "accept-patch"), FRAGMENT);
}

#[tokio::test]
async fn neither_resource_has_a_representation_and_what_is_not_there_is_404() {
    for path in [ENDPOINT, SESSION] {
        for method in [Method::GET, Method::HEAD] {
            let (response, _) = ask(method.clone(), path, &[GOOD], "").await;
            assert_eq!(response.status(), 204, "{method} {path}");
            assert_eq!(text(response).await, "");
        }
    }
    for path in ["/other/whip", "/rec/whip/s2"] {
        let (response, _) = ask(Method::GET, path, &[GOOD], "").await;
        assert_eq!(response.status(), 404, "{path}");
    }
    for method in [Method::PATCH, Method::DELETE] {
        let (response, heard) = ask(method, "/rec/whip/s2", &[GOOD, TRICKLE, TAG], "a=mid:0\r\n").await;
        assert_eq!((response.status().as_u16(), heard.as_str()), (404, ""));
    }
}

#[tokio::test]
async fn a_preflight_of_a_browser_is_answered_and_costs_nothing() {
    let origin = ("origin", "https://example.org");
    let preflight = [origin, ("access-control-request-method", "POST")];
    let (response, heard) = ask(Method::OPTIONS, ENDPOINT, &preflight, "").await;
    assert_eq!((response.status().as_u16(), heard.as_str()), (200, ""));
    assert_eq!(header(&response, "access-control-allow-origin"), "*");
    let allowed = header(&response, "access-control-allow-headers");
    for name in ["authorization", "content-type", "if-match"] {
        assert!(allowed.contains(name), "{allowed}");
    }
    assert_eq!(header(&response, "accept-post"), "application/sdp");
    let (response, _) = ask(Method::OPTIONS, SESSION, &preflight, "").await;
    assert_eq!(
        header(&response, "access-control-allow-methods"),
        "GET, HEAD, PATCH, DELETE, OPTIONS"
    );
    assert_eq!(header(&response, "accept-patch"), FRAGMENT);
}

#[tokio::test]
async fn options_tell_the_ice_servers_to_those_who_may_know_and_are_no_preflight() {
    let origin = ("origin", "https://example.org");
    let method = ("access-control-request-method", "POST");
    let names = ("access-control-request-headers", "authorization, Link");
    for (headers, told) in [
        (&[GOOD][..], true),
        (&[], false),
        (&[("authorization", "Bearer bad")], false),
        (&[origin, GOOD], true),
        (&[origin, method, GOOD], false),
        (&[origin, method, names, GOOD], true),
    ] {
        let (response, _) = ask(Method::OPTIONS, ENDPOINT, headers, "").await;
        assert_eq!(response.status(), 200, "{headers:?}");
        assert_eq!(!header(&response, "link").is_empty(), told, "{headers:?}");
    }
}

#[tokio::test]
async fn trickled_candidates_are_204_without_a_tag_under_the_sessions_tag_only() {
    let body = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
        a=mid:0\r\na=candidate:1 1 udp 1 host.local 9 typ host\r\n";
    let patch = async |headers: &[(&str, &str)], body: &str| {
        let headers = [headers, &[TRICKLE, GOOD]].concat();
        let (response, _) = ask(Method::PATCH, SESSION, &headers, body).await;
        assert_eq!(header(&response, "etag"), "");
        response.status().as_u16()
    };
    assert_eq!(patch(&[TAG], body).await, 204);
    assert_eq!(patch(&[("if-match", "\"other\""), TAG], body).await, 204);
    assert_eq!(patch(&[("if-match", "\"other\"")], body).await, 412);
    assert_eq!(patch(&[], body).await, 428);
    assert_eq!(patch(&[TAG], "hello").await, 400);
}

#[tokio::test]
async fn an_ice_restart_is_200_with_our_new_credentials_and_tag() {
    let body = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
        a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n";
    let headers = [TRICKLE, GOOD, ("if-match", "*")];
    let (response, _) = ask(Method::PATCH, SESSION, &headers, body).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "etag"), "\"next\"");
    assert_eq!(header(&response, "content-type"), FRAGMENT);
    let body = text(response).await;
    for line in [
        "a=ice-lite",
        "a=ice-options:ice2 trickle",
        "a=mid:0",
        "a=ice-ufrag:ours",
        "a=ice-pwd:ourpasswordourpasswordour",
        "a=end-of-candidates",
    ] {
        assert!(body.lines().any(|it| it == line), "{line} is not in {body}");
    }
}

#[tokio::test]
async fn a_publisher_ends_its_session_with_200_whatever_tag_it_sends() {
    let (response, heard) = ask(Method::DELETE, SESSION, &[GOOD, ("if-match", "\"old\"")], "").await;
    assert_eq!((response.status().as_u16(), heard.as_str()), (200, "end rec s1"));
}

#[tokio::test]
async fn a_busy_node_sends_a_publisher_elsewhere_or_says_when_to_come_back() {
    for (kind, status) in [(RedirectKind::Temporary, 307), (RedirectKind::Permanent, 308)] {
        let to = "https://other.example/rec/whip".to_owned();
        let site = Site::new(Host {
            redirect: Some(Redirect { to: to.clone(), kind }),
            ..Host::default()
        });
        let response = site.ask(Method::POST, ENDPOINT, &[SDP, GOOD], "v=0").await;
        assert_eq!((response.status().as_u16(), site.heard().as_str()), (status, ""));
        assert_eq!(header(&response, "location"), to);
        // RFC 9725 §4.5: only the endpoint redirects
        let response = site.ask(Method::DELETE, SESSION, &[GOOD], "").await;
        assert_eq!(response.status(), 200);
    }
    let full = Site::new(Host {
        is_full: true,
        ..Host::default()
    });
    let response = full.ask(Method::POST, ENDPOINT, &[SDP, GOOD], "v=0").await;
    assert_eq!(response.status(), 503);
    assert_eq!(header(&response, "retry-after"), "7");
}

#[tokio::test]
async fn an_address_that_floods_is_429_before_the_host_hears_of_it() {
    let site = Site::new(Host::default());
    let response = site.ask(Method::DELETE, SESSION, &[GOOD], "").await;
    assert_eq!(response.status(), 200);
    // as many as it takes: the slower they are, the more is granted meanwhile
    let is_refused = async |method: Method| {
        for _ in 0..200 * limits::REQUEST_BURST as usize {
            let response = site.ask(method.clone(), SESSION, &[GOOD], "").await;
            if response.status() == 429 {
                return true;
            }
        }
        false
    };
    assert!(is_refused(Method::DELETE).await, "a flood was let in");
    // preflights are the browser's, and cost nothing; others could try tokens
    let preflight = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "PATCH"),
    ];
    let response = site.ask(Method::OPTIONS, SESSION, &preflight, "").await;
    assert_eq!(response.status(), 200);
    assert!(is_refused(Method::OPTIONS).await, "a flood was let in");
}
