//! Who may publish, and with what offer.

use super::Site;

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
