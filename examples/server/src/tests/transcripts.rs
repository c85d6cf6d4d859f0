//! What is said of a recording is read in its versions, and corrected by who has read the newest.

use super::*;

const ID: &str = "corrected-recording";

/// A recording that was made earlier, of which a transcript is left.
async fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("recordings").join(ID);
    std::fs::create_dir_all(own.join("hls")).unwrap();
    let info = json!({ "id": ID, "state": "ready", "duration": 4.0, "tracks": [], "renditions": [], "captions": true });
    std::fs::write(own.join("recording.json"), info.to_string()).unwrap();
    let word =
        |start, end, text: &str| json!({ "start": start, "end": end, "text": text, "probability": 0.5 });
    let said = json!({
        "language": "en", "model": "tiny.en", "duration": 4.0, "text": "This is lume.",
        "segments": [{
            "start": 1.0, "end": 2.5, "text": "This is lume.", "confidence": -0.1,
            "words": [word(1.0, 1.4, "This"), word(1.5, 1.8, "is"), word(1.9, 2.5, "lume.")],
        }],
    });
    std::fs::write(own.join("transcript.json"), said.to_string()).unwrap();
    Site::at(folder, &[]).await
}

fn path(rest: &str) -> String {
    format!("/v1/recordings/{ID}/{rest}")
}

impl Site {
    async fn correct(&self, read: Option<&str>, body: &Value) -> Reply {
        let mut fields = vec![JSON];
        fields.extend(read.map(|read| ("if-match", read)));
        self.ask(Method::PATCH, &path("transcript.json"), &fields, body.to_string())
            .await
    }
}

#[tokio::test]
async fn a_correction_is_a_version_and_the_second_of_two_is_told() {
    let site = site().await;
    let heard = site.get(&path("transcript.json")).await;
    assert_eq!((heard.status, heard.field("etag")), (StatusCode::OK, "\"1\""));
    let wanted = json!({ "corrections": [{ "replace": "lume", "with": "Loom" }] });
    let made = site.correct(Some("\"1\""), &wanted).await;
    assert_eq!(
        (made.status, made.field("etag")),
        (StatusCode::OK, "\"2\""),
        "{:?}",
        made.body
    );
    assert_eq!(made.json()["version"], 2);

    let second = site
        .correct(
            Some("\"1\""),
            &json!({ "corrections": [{ "segment": 0, "text": "No." }] }),
        )
        .await;
    assert_eq!(second.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(second.json()["code"], "superseded");
    assert!(second.json()["detail"].as_str().unwrap().contains("version 2"));
    assert_eq!(
        site.correct(Some("\"other\""), &wanted).await.status,
        StatusCode::PRECONDITION_FAILED
    );
    let without = site.correct(None, &wanted).await;
    assert_eq!(
        (without.status.as_u16(), without.json()["code"].as_str()),
        (428, Some("no-if-match"))
    );

    let newest = site.get(&path("transcript.json")).await;
    assert_eq!(newest.json()["text"], "This is Loom.");
    assert_eq!(newest.json()["segments"][0]["words"][2]["start"], 1.9);
    let has = [("if-none-match", "\"2\"")];
    let same = site
        .ask(Method::GET, &path("transcript.vtt"), &has, Body::empty())
        .await;
    assert_eq!(same.status, StatusCode::NOT_MODIFIED);
    for (form, said) in [("vtt", "lume."), ("srt", "lume."), ("txt", "This is lume.")] {
        let old = site.get(&path(&format!("transcript.{form}?version=1"))).await;
        assert_eq!(old.field("etag"), "\"1\"");
        assert!(String::from_utf8_lossy(&old.body).contains(said), "{form}");
        let new = site.get(&path(&format!("transcript.{form}"))).await;
        assert!(String::from_utf8_lossy(&new.body).contains("Loom."), "{form}");
    }
    for unknown in ["transcript.json?version=3", "transcript.txt?version=0"] {
        let none = site.get(&path(unknown)).await;
        assert_eq!(
            (none.status, none.json()["code"].as_str()),
            (StatusCode::NOT_FOUND, Some("unknown-version"))
        );
    }

    let back = path("transcript/versions/1/restore");
    let restored = site
        .ask(Method::POST, &back, &[("if-match", "\"2\"")], Body::empty())
        .await;
    assert_eq!(restored.json()["restored"], 1, "{:?}", restored.body);
    assert_eq!(site.get(&path("transcript.txt")).await.body, "This is lume.\n");
    let late = site
        .ask(Method::POST, &back, &[("if-match", "\"2\"")], Body::empty())
        .await;
    assert_eq!(late.status, StatusCode::PRECONDITION_FAILED);
    let none = path("transcript/versions/last/restore");
    let none = site
        .ask(Method::POST, &none, &[("if-match", "*")], Body::empty())
        .await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    let versions = site.get(&path("transcript/versions")).await.json()["versions"].clone();
    let told: Vec<_> = versions
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["version"].as_u64(), it["restored"].as_u64()))
        .collect();
    assert_eq!(told, [(Some(1), None), (Some(2), None), (Some(3), Some(1))]);
}

#[tokio::test]
async fn a_correction_that_cannot_be_made_says_what_is_wrong() {
    let site = site().await;
    for (wanted, why) in [
        (json!({ "corrections": [] }), "1 to 1000"),
        (
            json!({ "corrections": [{ "segment": 7, "text": "x" }] }),
            "no segment 7",
        ),
        (
            json!({ "corrections": [{ "replace": "nobody", "with": "x" }] }),
            "nobody says",
        ),
        (json!({ "corrections": [{ "segment": 0 }] }), "a correction is"),
        (
            json!({ "corrections": [{ "segment": 0, "text": "x", "with": "y" }] }),
            "a correction is",
        ),
        (json!([]), "cannot be read"),
    ] {
        let refused = site.correct(Some("*"), &wanted).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wanted}");
        assert!(
            refused.json()["detail"].as_str().unwrap().contains(why),
            "{wanted}: {:?}",
            refused.body
        );
    }
    let foreign = [JSON, ("if-match", "*"), ("origin", "https://elsewhere.example")];
    let wanted = json!({ "corrections": [{ "segment": 0, "text": "x" }] }).to_string();
    let refused = site
        .ask(Method::PATCH, &path("transcript.json"), &foreign, wanted)
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let unknown = site.create("Empty").await;
    let id = unknown["id"].as_str().unwrap();
    let none = site
        .get(&format!("/v1/recordings/{id}/transcript/versions"))
        .await;
    assert_eq!(none.json()["versions"], json!([]));
}
