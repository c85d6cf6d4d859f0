//! Files that are sent, and what is wrong with them.

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request};
use tower::ServiceExt;

use super::Site;

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
        assert!(!first.is_finished(), "{:?}", first.await);
        tokio::task::yield_now().await;
    }
    site.upload(&id, "video/mp4", "data").await.problem(409);
    first.abort();
    let _ = first.await;
    // a client that left takes its bytes with it, once the disk is done with what it was doing
    while site.received() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
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
