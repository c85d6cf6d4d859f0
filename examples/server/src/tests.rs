//! The HTTP contract, row by row, against the real router, engine and database. What needs media is in tests/e2e.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use clap::Parser;
use futures::StreamExt;
use http::{HeaderMap, Method, Request, StatusCode};
use loom_engine::{CaptionsConfig, Engine, EngineConfig, IngestConfig, ModelConfig};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::app::App;
use crate::config::Config;
use crate::store::Store;
use crate::{api, metrics, upload};

/// A server without a socket.
struct Site {
    router: Router,
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
        let mut ingest = IngestConfig::default();
        ingest.udp = "127.0.0.1:0".parse().unwrap();
        let engine = Engine::start(EngineConfig {
            data_dir: folder.path().to_owned(),
            ingest,
            captions: CaptionsConfig {
                enabled: false,
                model: ModelConfig::default(),
            },
            ..EngineConfig::default()
        })
        .await
        .unwrap();
        let store = Store::open(&folder.path().join("loom.sqlite")).unwrap();
        let (end, ending) = watch::channel(false);
        let handle = METRICS.get_or_init(|| metrics::install().unwrap()).clone();
        let app = App::new(engine.clone(), store, config, handle, ending);
        upload::sweep(&app.upload_folder()).unwrap();
        app.reconcile(engine.recordings().unwrap().into_iter().collect())
            .await
            .unwrap();
        Self {
            router: api::router(app.clone()),
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

#[tokio::test]
async fn a_created_recording_tells_a_client_all_it_needs() {
    let site = Site::new(&[]).await;
    let reply = site
        .ask(
            Method::POST,
            "/v1/recordings",
            &[JSON],
            r#"{"title":" My\n demo "}"#,
        )
        .await;
    assert_eq!(reply.status, StatusCode::CREATED);
    let made = reply.json();
    let id = made["id"].as_str().unwrap();
    assert_eq!(reply.field("location"), format!("/v1/recordings/{id}"));
    assert_eq!(made["title"], "My demo");
    assert_eq!(made["state"], "created");
    assert_eq!(
        made["whip_url"],
        format!("http://127.0.0.1:8080/v1/recordings/{id}/whip")
    );
    assert_eq!(made["watch_url"], format!("http://127.0.0.1:8080/w/{id}"));
    assert_eq!(
        made["hls_url"],
        format!("http://127.0.0.1:8080/v1/recordings/{id}/hls/main.m3u8")
    );
    assert_eq!(made["whip_token"].as_str().unwrap().len(), 64);
    assert_eq!(made["captions"], "off");
    assert!(made["captions_note"].as_str().unwrap().contains("off"));
    assert!(made["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!((&made["tracks"], &made["renditions"]), (&json!([]), &json!([])));

    let shown = site.get(&format!("/v1/recordings/{id}")).await.json();
    assert_eq!(shown["title"], "My demo");
    assert!(shown.get("whip_token").is_none(), "the token is told once");
}

#[tokio::test]
async fn a_recording_may_be_created_with_no_body_at_all() {
    let site = Site::new(&[]).await;
    for body in ["", "{}", r#"{"title":null}"#, r#"{"title":"  "}"#] {
        let fields: &[_] = if body.is_empty() { &[] } else { &[JSON] };
        let reply = site.ask(Method::POST, "/v1/recordings", fields, body).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{body}");
        assert_eq!(reply.json()["title"], "Untitled recording");
    }
}

#[tokio::test]
async fn a_create_request_that_is_wrong_is_told_how() {
    let site = Site::new(&[]).await;
    let post = |fields: &'static [(&str, &str)], body: String| {
        site.ask(Method::POST, "/v1/recordings", fields, body)
    };
    assert!(post(&[JSON], "{".into()).await.problem(400).contains("JSON"));
    assert!(
        post(&[JSON], r#"{"title":7}"#.into())
            .await
            .problem(400)
            .contains("title")
    );
    assert!(post(&[JSON], "[]".into()).await.problem(400).contains("JSON"));
    assert!(
        post(&[JSON], json!({ "title": "x".repeat(201) }).to_string())
            .await
            .problem(400)
            .contains("200")
    );
    assert!(
        post(&[("content-type", "text/plain")], "hello".into())
            .await
            .problem(415)
            .contains("application/json")
    );
    assert!(
        post(&[], "{}".into())
            .await
            .problem(415)
            .contains("application/json")
    );
    post(&[JSON], json!({ "title": "x".repeat(70_000) }).to_string())
        .await
        .problem(413);
    assert_eq!(site.get("/v1/recordings").await.json()["recordings"], json!([]));
}

#[tokio::test]
async fn the_list_is_newest_first_and_goes_on_where_it_stopped() {
    let site = Site::new(&[]).await;
    for title in ["one", "two", "three"] {
        site.create(title).await;
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    let titles = |page: &Value| -> Vec<String> {
        let all = page["recordings"].as_array().unwrap();
        all.iter()
            .map(|it| it["title"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = site.get("/v1/recordings?limit=2").await.json();
    assert_eq!(titles(&first), ["three", "two"]);
    let next = first["next"].as_str().unwrap();
    let second = site
        .get(&format!("/v1/recordings?limit=2&cursor={next}"))
        .await
        .json();
    assert_eq!(titles(&second), ["one"]);
    assert!(second.get("next").is_none());
    for query in [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=-1",
        "cursor=x",
        "cursor=",
    ] {
        site.get(&format!("/v1/recordings?{query}")).await.problem(400);
    }
}

#[tokio::test]
async fn an_unknown_recording_is_a_404_problem_wherever_it_is_named() {
    let site = Site::new(&[]).await;
    for id in ["nobody", "UPPER", "..", "%2e%2e", "a%2fb", &"x".repeat(200)] {
        for path in [
            "",
            "/hls/main.m3u8",
            "/events",
            "/poster.jpg",
            "/download.mp4",
            "/transcript.json",
            "/transcript.vtt",
        ] {
            site.get(&format!("/v1/recordings/{id}{path}")).await.problem(404);
        }
        site.ask(Method::DELETE, &format!("/v1/recordings/{id}"), &[], "")
            .await
            .problem(404);
        site.ask(Method::POST, &format!("/v1/recordings/{id}/stop"), &[], "")
            .await
            .problem(404);
        site.upload(id, "video/mp4", "data").await.problem(404);
        site.whip(id, Some("token"), "application/sdp", "v=0\r\n")
            .await
            .problem(404);
    }
}

#[tokio::test]
async fn an_unknown_address_and_a_wrong_method_are_problems_too() {
    let site = Site::new(&[]).await;
    site.get("/nonsense").await.problem(404);
    site.get("/v1").await.problem(404);
    site.get("/v1/recordings/a/nonsense").await.problem(404);
    let reply = site.ask(Method::PUT, "/v1/recordings", &[], "").await;
    reply.problem(405);
    assert!(reply.field("allow").contains("POST"), "{:?}", reply.headers);
    site.ask(Method::POST, "/healthz", &[], "").await.problem(405);
    site.ask(Method::GET, "/v1/recordings/a/stop", &[], "")
        .await
        .problem(405);
}

#[tokio::test]
async fn nobody_publishes_without_the_recordings_own_token() {
    let site = Site::new(&[]).await;
    let (mine, other) = (site.create("mine").await, site.create("other").await);
    let id = mine["id"].as_str().unwrap();
    let token = mine["whip_token"].as_str().unwrap();
    for wrong in [
        None,
        Some(""),
        Some("x"),
        Some(&token[1..]),
        other["whip_token"].as_str(),
    ] {
        let reply = site.whip(id, wrong, "application/sdp", "v=0\r\n").await;
        reply.problem(401);
        assert!(
            reply.field("www-authenticate").starts_with("Bearer"),
            "{:?}",
            reply.headers
        );
    }
    assert_eq!(
        site.get(&format!("/v1/recordings/{id}")).await.json()["state"],
        "created"
    );
}

#[tokio::test]
async fn a_bad_offer_is_refused_with_a_sentence_and_the_recording_waits_on() {
    let site = Site::new(&[]).await;
    let made = site.create("offer").await;
    let (id, token) = (made["id"].as_str().unwrap(), made["whip_token"].as_str());
    let session = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";
    let unknown = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n\
                   a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\n\
                   a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
                   a=rtpmap:96 H263/90000\r\n";
    for offer in ["", "hello", session, &format!("{session}{unknown}")] {
        let reply = site.whip(id, token, "application/sdp", offer).await;
        let status = reply.status.as_u16();
        assert!(matches!(status, 400 | 406 | 422), "{status}: {:?}", reply.body);
        reply.problem(status);
    }
    site.whip(id, token, "text/plain", session).await.problem(415);
    assert_eq!(
        site.get(&format!("/v1/recordings/{id}")).await.json()["state"],
        "created"
    );
}

#[tokio::test]
async fn an_upload_of_another_type_is_refused_before_it_is_read() {
    let site = Site::new(&[]).await;
    let made = site.create("upload").await;
    let id = made["id"].as_str().unwrap();
    for kind in ["text/plain", "application/json", "image/png", "video", ""] {
        assert!(
            site.upload(id, kind, "data")
                .await
                .problem(415)
                .contains("video/mp4"),
            "{kind}"
        );
    }
    let reply = site
        .ask(Method::POST, &format!("/v1/recordings/{id}/media"), &[], "data")
        .await;
    assert!(reply.problem(415).contains("Content-Type"));
    assert_eq!(
        site.get(&format!("/v1/recordings/{id}")).await.json()["state"],
        "created"
    );
    assert_eq!(site.received(), 0);
}

#[tokio::test]
async fn an_upload_that_is_no_media_fails_its_recording_with_a_reason() {
    let site = Site::new(&[]).await;
    let form = |content: &str| {
        format!(
            "--X\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhi\r\n--X\r\nContent-Disposition: form-data; \
             name=\"file\"; filename=\"a.mp4\"\r\nContent-Type: video/mp4\r\n\r\n{content}\r\n--X--\r\n"
        )
    };
    let text = "this is a letter, no film\n".repeat(100);
    let cut = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41\0\0\x10\0moov\0\0\0\x6cmvhd".to_vec();
    for (kind, body) in [
        ("video/mp4", Body::empty()),
        ("video/mp4", Body::from(text.clone())),
        ("application/octet-stream", Body::from(text.clone())),
        (
            "video/webm; codecs=vp9",
            Body::from(&b"\x1a\x45\xdf\xa3\x01\0\0\0"[..]),
        ),
        ("VIDEO/MP4", Body::from(cut)),
        ("multipart/form-data; boundary=X", Body::from(form(&text))),
    ] {
        let made = site.create("upload").await;
        let id = made["id"].as_str().unwrap();
        let reply = site.upload(id, kind, body).await;
        let told = reply.problem(422);
        let after = site.get(&format!("/v1/recordings/{id}")).await.json();
        assert_eq!(after["state"], "failed", "{kind}");
        assert!(after["reason"].as_str().unwrap().len() > 10, "{after}");
        println!("{kind}: {told}");
        site.upload(id, "video/mp4", "again").await.problem(409);
    }
    assert_eq!(site.received(), 0, "nothing of a refused upload stays");
}

#[tokio::test]
async fn an_upload_over_the_limit_is_refused_by_its_length_and_by_its_bytes() {
    let site = Site::new(&["--max-upload", "100K"]).await;
    let made = site.create("large").await;
    let id = made["id"].as_str().unwrap();
    assert!(
        site.upload(id, "video/mp4", vec![0; 300_000])
            .await
            .problem(413)
            .contains("LOOM_MAX_UPLOAD")
    );
    let chunks =
        futures::stream::iter((0..30).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![0; 10_000]))));
    let request = Request::post(format!("/v1/recordings/{id}/media")).header("content-type", "video/mp4");
    site.send(request.body(Body::from_stream(chunks)).unwrap())
        .await
        .problem(413);
    assert_eq!(
        site.get(&format!("/v1/recordings/{id}")).await.json()["state"],
        "created"
    );
    assert_eq!(site.received(), 0);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing_and_may_be_sent_again() {
    let site = Site::new(&[]).await;
    let made = site.create("broken").await;
    let id = made["id"].as_str().unwrap();
    let parts = [
        Ok(Bytes::from_static(b"data")),
        Err(std::io::Error::other("the line dropped")),
    ];
    let request = Request::post(format!("/v1/recordings/{id}/media")).header("content-type", "video/mp4");
    let request = request
        .body(Body::from_stream(futures::stream::iter(parts)))
        .unwrap();
    assert!(site.send(request).await.problem(400).contains("again"));
    assert_eq!(site.received(), 0);
    assert_eq!(
        site.get(&format!("/v1/recordings/{id}")).await.json()["state"],
        "created"
    );
}

#[tokio::test]
async fn a_second_upload_at_the_same_time_is_refused() {
    let site = Site::new(&[]).await;
    let made = site.create("twice").await;
    let id = made["id"].as_str().unwrap().to_owned();
    let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let request = Request::post(format!("/v1/recordings/{id}/media")).header("content-type", "video/mp4");
    let request = request.body(never).unwrap();
    let first = tokio::spawn(site.router.clone().oneshot(request));
    while site.received() == 0 {
        tokio::task::yield_now().await;
    }
    site.upload(&id, "video/mp4", "data").await.problem(409);
    first.abort();
    let _ = first.await;
    assert_eq!(site.received(), 0, "a client that left takes its bytes with it");
}

#[tokio::test]
async fn a_form_without_a_file_is_refused() {
    let site = Site::new(&[]).await;
    let made = site.create("form").await;
    let id = made["id"].as_str().unwrap();
    let form = "--X\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhi\r\n--X--\r\n";
    assert!(
        site.upload(id, "multipart/form-data; boundary=X", form)
            .await
            .problem(400)
            .contains("file")
    );
    site.upload(id, "multipart/form-data", form).await.problem(400);
    site.upload(id, "multipart/form-data; boundary=X", "no form")
        .await
        .problem(400);
    let form = "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\nhi\r\n--X--\r\n";
    site.upload(id, "multipart/form-data; boundary=X", form)
        .await
        .problem(415);
}

#[tokio::test]
async fn what_is_not_there_yet_is_a_problem_that_says_so() {
    let site = Site::new(&[]).await;
    let made = site.create("early").await;
    let id = made["id"].as_str().unwrap();
    site.get(&format!("/v1/recordings/{id}/download.mp4"))
        .await
        .problem(409);
    site.get(&format!("/v1/recordings/{id}/poster.jpg"))
        .await
        .problem(404);
    for form in ["json", "vtt", "srt", "txt"] {
        site.get(&format!("/v1/recordings/{id}/transcript.{form}"))
            .await
            .problem(404);
    }
    site.get(&format!("/v1/recordings/{id}/hls/main.m3u8"))
        .await
        .problem(503);
    site.get(&format!("/v1/recordings/{id}/transcript.pdf"))
        .await
        .problem(404);
}

#[tokio::test]
async fn a_recording_stopped_before_it_began_has_failed_and_says_why() {
    let site = Site::new(&[]).await;
    let made = site.create("unused").await;
    let id = made["id"].as_str().unwrap();
    for _ in 0..2 {
        let reply = site
            .ask(Method::POST, &format!("/v1/recordings/{id}/stop"), &[], "")
            .await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.json()["state"], "failed");
        assert!(reply.json()["reason"].as_str().unwrap().contains("before"));
    }
}

#[tokio::test]
async fn a_deleted_recording_is_gone_and_its_files_too() {
    let site = Site::new(&[]).await;
    let made = site.create("gone").await;
    let id = made["id"].as_str().unwrap();
    let folder = site.folder.path().join("recordings").join(id);
    assert!(folder.is_dir());
    let path = format!("/v1/recordings/{id}");
    let reply = site.ask(Method::DELETE, &path, &[], "").await;
    assert_eq!((reply.status, reply.body.len()), (StatusCode::NO_CONTENT, 0));
    assert!(!folder.exists());
    site.get(&path).await.problem(404);
    site.ask(Method::DELETE, &path, &[], "").await.problem(404);
    assert_eq!(site.get("/v1/recordings").await.json()["recordings"], json!([]));
}

#[tokio::test]
async fn events_tell_the_state_and_end_with_the_recording() {
    let site = Site::new(&[]).await;
    let made = site.create("events").await;
    let id = made["id"].as_str().unwrap();
    let request = Request::get(format!("/v1/recordings/{id}/events"))
        .body(Body::empty())
        .unwrap();
    let response = site.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut told = response.into_body().into_data_stream();
    let first = String::from_utf8(told.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(
        first.starts_with("event: state\ndata: {") && first.contains("\"created\""),
        "{first}"
    );
    site.ask(Method::POST, &format!("/v1/recordings/{id}/stop"), &[], "")
        .await;
    let mut rest = String::new();
    while let Some(chunk) = told.next().await {
        rest.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    assert!(
        rest.contains("\"failed\"") && rest.ends_with("event: end\nid: end\ndata: {}\n\n"),
        "{rest}"
    );
    let again = site
        .ask(
            Method::GET,
            &format!("/v1/recordings/{id}/events"),
            &[("last-event-id", "end")],
            "",
        )
        .await;
    assert_eq!(again.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_open_event_stream_does_not_hold_a_server_that_ends() {
    let site = Site::new(&[]).await;
    let made = site.create("events").await;
    let id = made["id"].as_str().unwrap();
    let request = Request::get(format!("/v1/recordings/{id}/events"))
        .body(Body::empty())
        .unwrap();
    let response = site.router.clone().oneshot(request).await.unwrap();
    site.end.send_replace(true);
    to_bytes(response.into_body(), 1 << 20).await.unwrap();
    site.get("/readyz").await.problem(503);
    assert_eq!(site.get("/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_foreign_page_may_watch_and_publish_and_nothing_else() {
    let site = Site::new(&[]).await;
    let made = site.create("cors").await;
    let id = made["id"].as_str().unwrap();
    let foreign = ("origin", "https://elsewhere.example");
    let watched = site
        .ask(Method::GET, &format!("/v1/recordings/{id}"), &[foreign], "")
        .await;
    assert_eq!(
        watched.field("access-control-allow-origin"),
        "https://elsewhere.example"
    );
    let listed = site.ask(Method::GET, "/v1/recordings", &[foreign], "").await;
    assert_eq!(listed.field("access-control-allow-origin"), "");
    for (method, path) in [
        (Method::POST, "/v1/recordings".to_owned()),
        (Method::DELETE, format!("/v1/recordings/{id}")),
        (Method::POST, format!("/v1/recordings/{id}/stop")),
        (Method::POST, format!("/v1/recordings/{id}/media")),
    ] {
        assert!(
            site.ask(method, &path, &[foreign], "")
                .await
                .problem(403)
                .contains("LOOM_ALLOW_ORIGIN")
        );
        let own = ("origin", "http://127.0.0.1:8080");
        assert_ne!(
            site.ask(Method::POST, &path, &[own], "").await.status,
            StatusCode::FORBIDDEN
        );
    }
    let preflight = |method: &'static str| {
        let asked = ("access-control-request-method", method);
        let path = format!("/v1/recordings/{id}/whip");
        let site = &site;
        async move { site.ask(Method::OPTIONS, &path, &[foreign, asked], "").await }
    };
    let reply = preflight("POST").await;
    assert!(reply.status.is_success());
    assert_eq!(reply.field("access-control-allow-origin"), "*");
    assert!(
        reply
            .field("access-control-allow-headers")
            .contains("authorization")
    );

    let open = Site::new(&["--allow-origin", "https://elsewhere.example"]).await;
    let reply = open.ask(Method::POST, "/v1/recordings", &[foreign], "").await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(
        reply.field("access-control-allow-origin"),
        "https://elsewhere.example"
    );
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_refused_on_a_loopback_server() {
    let ask = |site: &Site, host: &str| {
        let request = Request::get("/v1/recordings")
            .header("host", host)
            .body(Body::empty())
            .unwrap();
        let router = site.router.clone();
        async move { router.oneshot(request).await.unwrap().status().as_u16() }
    };
    let site = Site::new(&[]).await;
    for host in [
        "localhost:8080",
        "127.0.0.1:8080",
        "[::1]:8080",
        "loom.localhost",
        "10.0.0.7",
    ] {
        assert_eq!(ask(&site, host).await, 200, "{host}");
    }
    assert_eq!(ask(&site, "rebound.example").await, 421);
    assert_eq!(ask(&site, "me@localhost").await, 400);
    let site = Site::new(&["--public-url", "https://loom.example"]).await;
    assert_eq!(ask(&site, "loom.example").await, 200);
    let made = site.create("public").await;
    assert!(
        made["watch_url"]
            .as_str()
            .unwrap()
            .starts_with("https://loom.example/w/")
    );
}

#[tokio::test]
async fn the_page_and_its_files_come_with_their_types_and_a_strict_policy() {
    let site = Site::new(&[]).await;
    let home = site.get("/").await;
    assert_eq!(
        (home.status, home.field("content-type")),
        (StatusCode::OK, "text/html; charset=utf-8")
    );
    let policy = home.field("content-security-policy");
    assert!(policy.contains("worker-src 'self' blob:") && policy.contains("media-src 'self' blob:"));
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(home.field("x-content-type-options"), "nosniff");
    // Every file that the pages name is there.
    for page in ["index.html", "watch.html"] {
        let text = site.get(&format!("/assets/{page}")).await;
        for name in text.text().split('"').filter(|part| part.starts_with("/assets/")) {
            let reply = site.get(name).await;
            assert_eq!(reply.status, StatusCode::OK, "{name}");
            assert!(!reply.body.is_empty() && reply.field("etag").len() > 10, "{name}");
            let again = site
                .ask(Method::GET, name, &[("if-none-match", reply.field("etag"))], "")
                .await;
            assert_eq!(
                (again.status, again.body.len()),
                (StatusCode::NOT_MODIFIED, 0),
                "{name}"
            );
        }
    }
    assert_eq!(
        site.get("/assets/app.css").await.field("content-type"),
        "text/css; charset=utf-8"
    );
    assert_eq!(
        site.get("/assets/vendor/hls.min.js").await.field("content-type"),
        "text/javascript; charset=utf-8"
    );
    for path in [
        "/assets/none.js",
        "/assets/../Cargo.toml",
        "/assets/%2e%2e/Cargo.toml",
        "/assets//etc/passwd",
    ] {
        site.get(path).await.problem(404);
    }
    let made = site.create("page").await;
    let watch = site.get(&format!("/w/{}", made["id"].as_str().unwrap())).await;
    assert_eq!(watch.status, StatusCode::OK);
    let missing = site.get("/w/nobody").await;
    assert_eq!(
        (missing.status, &missing.body),
        (StatusCode::NOT_FOUND, &watch.body)
    );
}

#[tokio::test]
async fn health_readiness_and_metrics_are_told() {
    let site = Site::new(&[]).await;
    assert_eq!(site.get("/healthz").await.status, StatusCode::OK);
    assert_eq!(site.get("/readyz").await.status, StatusCode::OK);
    let made = site.create("counted").await;
    let id = made["id"].as_str().unwrap();
    site.get(&format!("/v1/recordings/{id}/hls/main.m3u8")).await;
    site.get("/nonsense").await;
    let metrics = site.get("/metrics").await;
    assert!(metrics.field("content-type").starts_with("text/plain"));
    let text = metrics.text();
    assert!(
        text.contains("route=\"/v1/recordings/{id}/hls/{*path}\""),
        "{text}"
    );
    assert!(
        text.contains("loom_http_request_duration_seconds_bucket"),
        "{text}"
    );
    assert!(!text.contains(id), "an id makes a series of its own: {text}");
}

#[tokio::test]
async fn the_disk_and_the_database_are_brought_together_at_start() {
    let first = Site::new(&[]).await;
    let lost = first.create("lost").await["id"].as_str().unwrap().to_owned();
    let found = first.create("found").await["id"].as_str().unwrap().to_owned();
    first
        .ask(Method::POST, &format!("/v1/recordings/{found}/stop"), &[], "")
        .await;
    let Site {
        folder,
        router,
        app,
        end,
        ..
    } = first;
    app.engine.shutdown().await;
    app.store
        .remove(loom_engine::RecordingId::new(&found).unwrap())
        .await
        .unwrap();
    drop((router, app, end));
    std::fs::remove_dir_all(folder.path().join("recordings").join(&lost)).unwrap();

    let second = Site::at(folder, &[]).await;
    let list = second.get("/v1/recordings").await.json();
    let one = |id: &str| {
        let all = list["recordings"].as_array().unwrap();
        all.iter().find(|it| it["id"] == id).cloned().unwrap_or_default()
    };
    assert_eq!(one(&lost)["state"], "failed");
    assert!(one(&lost)["reason"].as_str().unwrap().contains("disk"));
    assert_eq!(one(&found)["state"], "failed");
    assert_eq!(one(&found)["title"], "Untitled recording");
    assert_eq!(
        second.get(&format!("/v1/recordings/{lost}")).await.json()["title"],
        "lost"
    );
    let gone = second
        .ask(Method::DELETE, &format!("/v1/recordings/{lost}"), &[], "")
        .await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
}
