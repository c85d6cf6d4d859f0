//! The page, foreign pages and names, and what is told to machines.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::json;
use tower::ServiceExt;

use super::{JSON, Site};

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
async fn pathways_are_ranked_anew_and_viewers_are_told() {
    let site = Site::new(&[
        "--pathways",
        "here=,cdn=https://cdn.example/v1/recordings/{id}/hls/",
    ])
    .await;
    let made = site.create("steered").await;
    let steering = format!(
        "/v1/recordings/{}/hls/steering.json",
        made["id"].as_str().unwrap()
    );
    let told = site.get(&steering).await;
    assert_eq!(told.status, StatusCode::OK);
    assert_eq!(told.field("content-type"), "application/json");
    assert_eq!(told.json()["PATHWAY-PRIORITY"], json!(["here", "cdn"]));
    let put = |body: &'static str| site.ask(Method::PUT, "/v1/pathways", &[JSON], body);
    assert_eq!(put("[\"cdn\", \"here\"]").await.status, StatusCode::OK);
    let told = site.get(&steering).await;
    assert_eq!(told.json()["PATHWAY-PRIORITY"], json!(["cdn", "here"]));
    assert_eq!(told.json()["VERSION"], 1);
    for wrong in ["[]", "[\"other\"]", "{}", "[1]"] {
        put(wrong).await.problem(400);
    }
    let elsewhere = [JSON, ("origin", "https://elsewhere.example")];
    let refused = site
        .ask(Method::PUT, "/v1/pathways", &elsewhere, "[\"here\"]")
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let plain = Site::new(&[]).await;
    let made = plain.create("plain").await;
    let path = format!(
        "/v1/recordings/{}/hls/steering.json",
        made["id"].as_str().unwrap()
    );
    assert_ne!(plain.get(&path).await.status, StatusCode::OK);
}
