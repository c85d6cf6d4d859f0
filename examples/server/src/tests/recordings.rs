//! Making, listing, looking at, stopping and deleting recordings.

use axum::body::Body;
use futures::StreamExt;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{JSON, Site};

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
async fn no_recording_is_begun_on_a_disk_that_is_nearly_full() {
    let roomy = Site::new(&[]).await;
    let id = roomy.create("begun in time").await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    // nobody has a million terabytes
    let site = Site::new(&["--min-free", "1000000T"]).await;
    let refused = site.ask(Method::POST, "/v1/recordings", &[JSON], "{}").await;
    assert!(refused.problem(507).contains("free"));
    assert_eq!(
        roomy.get(&format!("/v1/recordings/{id}")).await.status,
        StatusCode::OK
    );
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
    let large = post(&[JSON], json!({ "title": "x".repeat(70_000) }).to_string()).await;
    assert_eq!(large.field("connection"), "close");
    large.problem(413);
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
            "/jobs",
            "/poster.jpg",
            "/preview.mp4",
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
async fn a_recording_that_has_not_ended_has_no_jobs_and_none_can_be_restarted() {
    let site = Site::new(&[]).await;
    let made = site.create("jobs").await;
    let at = format!("/v1/recordings/{}/jobs", made["id"].as_str().unwrap());
    assert_eq!(site.get(&at).await.json(), json!({ "jobs": [] }));
    for (job, word) in [("transcript", "no job transcript"), ("laundry", "is no job")] {
        let asked = site
            .ask(Method::POST, &format!("{at}/{job}/restart"), &[], "")
            .await;
        assert!(asked.problem(404).contains(word));
    }
    site.ask(Method::GET, &format!("{at}/upload/restart"), &[], "")
        .await
        .problem(405);
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
async fn what_is_not_there_yet_is_a_problem_that_says_so() {
    let site = Site::new(&[]).await;
    let made = site.create("early").await;
    let id = made["id"].as_str().unwrap();
    site.get(&format!("/v1/recordings/{id}/download.mp4"))
        .await
        .problem(409);
    for picture in ["poster.jpg", "preview.mp4"] {
        site.get(&format!("/v1/recordings/{id}/{picture}"))
            .await
            .problem(404);
    }
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
