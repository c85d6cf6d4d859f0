//! Start and end of the server.

use axum::body::{Body, to_bytes};
use clap::Parser;
use http::{Method, Request, StatusCode};
use tower::ServiceExt;

use super::Site;
use crate::config::Config;

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

/// Each life of a server has a runtime of its own: what it still wrote to the database is written before the next begins, as when a
/// process ends.
fn life<T>(course: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(course)
}

#[test]
fn the_disk_and_the_database_are_brought_together_at_start() {
    let (folder, lost, found) = life(async {
        let first = Site::new(&[]).await;
        let lost = first.create("lost").await["id"].as_str().unwrap().to_owned();
        let found = first.create("found").await["id"].as_str().unwrap().to_owned();
        first
            .ask(Method::POST, &format!("/v1/recordings/{found}/stop"), &[], "")
            .await;
        first.app.engine.shutdown().await;
        let id = loom_engine::RecordingId::new(&found).unwrap();
        first.app.store.remove(id).await.unwrap();
        (first.folder, lost, found)
    });
    std::fs::remove_dir_all(folder.path().join("recordings").join(&lost)).unwrap();

    life(async {
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
    });
}

#[tokio::test]
async fn a_port_for_media_that_was_asked_for_is_had_or_the_server_does_not_start() {
    let taken = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let udp = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let fixed = ["loom-server", "--data-dir", data, "--captions", "off"];
    let asked = Config::try_parse_from(fixed.iter().chain(&["--udp", &udp])).unwrap();
    let Err(why) = crate::start(&asked, crate::engine_config(&asked, None, None)).await else {
        panic!("another port was taken in silence");
    };
    assert!(why.to_string().contains(&udp), "{why}");

    // whoever has the usual port now, us or another program, it is taken
    let _usual = std::net::UdpSocket::bind("0.0.0.0:8189");
    let left_to_us = Config::try_parse_from(fixed).unwrap();
    let engine = crate::start(&left_to_us, crate::engine_config(&left_to_us, None, None))
        .await
        .unwrap();
    assert_ne!(engine.udp_addr().port(), 8189);
    engine.shutdown().await;
}
