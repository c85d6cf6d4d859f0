//! Who may publish, and with what offer.

use axum::body::Body;
use http::Method;
use serde_json::json;

use super::{JSON, Site};

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

/// What a publisher of a microphone and a camera offers.
const OFFER: &str = include_str!("../../../../crates/loom-ingest/testdata/offers/aiortc.sdp");

impl Site {
    async fn invite(&self, id: &str, name: &str) -> super::Reply {
        let path = format!("/v1/recordings/{id}/publishers");
        self.ask(Method::POST, &path, &[JSON], json!({ "name": name }).to_string())
            .await
    }
}

#[tokio::test]
async fn who_is_asked_to_join_has_a_token_of_its_own_until_it_is_taken_back() {
    let site = Site::new(&[]).await;
    let made = site.create("joined").await;
    let id = made["id"].as_str().unwrap();
    let all = format!("/v1/recordings/{id}/publishers");
    for bad in ["", "A", "-a", "a:b", &"x".repeat(33)] {
        site.invite(id, bad).await.problem(400);
    }
    site.ask(Method::POST, &all, &[JSON], "{}").await.problem(400);
    let mut tokens = Vec::new();
    for name in ["phone", "b", "c", "d", "phone"] {
        let reply = site.invite(id, name).await;
        assert_eq!(reply.status.as_u16(), 201, "{:?}", reply.body);
        assert_eq!(reply.field("cache-control"), "no-store");
        let told = reply.json();
        assert_eq!(
            (&told["name"], &told["whip_url"]),
            (&json!(name), &made["whip_url"])
        );
        tokens.push(told["whip_token"].as_str().unwrap().to_owned());
    }
    site.invite(id, "e").await.problem(409);
    assert_eq!(
        site.get(&all).await.json(),
        json!({"publishers": ["b", "c", "d", "phone"]})
    );

    let status = async |token: &str, offer| {
        let reply = site.whip(id, Some(token), "application/sdp", offer).await;
        reply.status.as_u16()
    };
    assert_eq!(
        status(&tokens[0], "hello").await,
        401,
        "another was made in its place"
    );
    assert_eq!(status(&tokens[4], "hello").await, 400);
    let gone = site
        .ask(Method::DELETE, &format!("{all}/phone"), &[], Body::empty())
        .await;
    assert_eq!(gone.status.as_u16(), 204);
    assert_eq!(status(&tokens[4], "hello").await, 401);
    let twice = site
        .ask(Method::DELETE, &format!("{all}/phone"), &[], Body::empty())
        .await;
    twice.problem(404);

    site.ask(
        Method::DELETE,
        &format!("/v1/recordings/{id}"),
        &[],
        Body::empty(),
    )
    .await;
    let kept = loom_engine::RecordingId::new(id).unwrap();
    assert!(
        site.app.store.invited(kept).await.unwrap().is_empty(),
        "a row is left"
    );
    site.invite(id, "b").await.problem(404);
}

#[tokio::test]
async fn who_joins_reaches_its_own_sessions_and_no_others() {
    let site = Site::new(&[]).await;
    let made = site.create("joined").await;
    let (id, own) = (made["id"].as_str().unwrap(), made["whip_token"].as_str().unwrap());
    let invited = site.invite(id, "phone").await.json();
    let phone = invited["whip_token"].as_str().unwrap();
    let other = site.invite(id, "tablet").await.json();
    let tablet = other["whip_token"].as_str().unwrap();
    let mut sessions = Vec::new();
    for token in [phone, own] {
        let reply = site.whip(id, Some(token), "application/sdp", OFFER).await;
        assert_eq!(reply.status.as_u16(), 201, "{:?}", reply.body);
        sessions.push(reply.field("location").to_owned());
        let state = site.get(&format!("/v1/recordings/{id}")).await.json()["state"].clone();
        assert_eq!(state, if token == phone { "created" } else { "live" });
    }
    let end = async |session: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        let reply = site
            .ask(
                Method::DELETE,
                session,
                &[("authorization", &bearer)],
                Body::empty(),
            )
            .await;
        reply.status.as_u16()
    };
    assert_eq!(
        end(&sessions[1], phone).await,
        403,
        "the screen is not the telephone's"
    );
    assert_eq!(
        end(&sessions[0], tablet).await,
        403,
        "nor is the telephone the tablet's"
    );
    assert_eq!(end(&sessions[0], phone).await, 200);
    assert_eq!(
        site.get(&format!("/v1/recordings/{id}")).await.json()["state"],
        "live",
        "that ends nothing"
    );
    assert_eq!(end(&sessions[1], own).await, 200);
    // nothing came, so it fails; and nobody can join what has ended
    let recording = site.app.recording(id).await.unwrap();
    let mut events = recording.events();
    while events.next().await.is_some() {}
    site.invite(id, "phone").await.problem(409);
    assert_eq!(
        site.whip(id, Some(tablet), "application/sdp", OFFER)
            .await
            .status
            .as_u16(),
        409
    );
}
