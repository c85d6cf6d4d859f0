//! The service against a recording that is packaged while the test runs.

use std::io::Read;
use std::time::Duration;

use http_body::Body as _;
use loom_core::codec::h264;
use loom_core::{CodecParameters, MediaTime, Packet, TrackId};
use loom_hls::{Packager, PackagerConfig, RenditionInfo, RenditionKind};
use tempfile::TempDir;

use super::*;
use crate::packaging::{Declared, Packaging, Work};
use crate::{CaptionsConfig, Engine, EngineConfig, HlsAnswer, IngestConfig, Recording, RecordingId};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use tower_service::Service;

/// Pictures 40 ms apart, each its own number over and over; every 50th can be decoded by itself.
struct Stage {
    engine: Engine,
    service: HlsService,
    recording: Recording,
    packaging: Packaging,
    pictures: i64,
    _folder: TempDir,
}

fn picture() -> RenditionId {
    RenditionId::new("source").unwrap()
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::start(EngineConfig {
            data_dir: folder.path().to_owned(),
            ingest: IngestConfig {
                udp: ([127, 0, 0, 1], 0).into(),
                ..IngestConfig::default()
            },
            captions: CaptionsConfig {
                enabled: false,
                ..CaptionsConfig::default()
            },
            ..EngineConfig::default()
        })
        .await
        .unwrap();
        let recording = engine.create(RecordingId::new("stage").unwrap()).unwrap();
        recording.0.begin_import().unwrap();
        let rendition = Declared::Main(RenditionInfo {
            id: picture(),
            kind: RenditionKind::Video {
                width: 640,
                height: 360,
                frame_rate: 25.0,
            },
            bandwidth: 1_000_000,
        });
        let packager = Packager::new(PackagerConfig::default()).unwrap();
        let packaging = Packaging::start(recording.0.clone(), packager, vec![rendition], None).unwrap();
        let sps = [
            0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00,
            0x01, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96,
        ];
        let pps = Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0]);
        let format = CodecParameters::Video(h264::parameters(&sps, &[pps]).unwrap());
        packaging.send(Work::Format(picture(), format)).await;
        Self {
            service: HlsService::new(engine.clone()).at("/r/", "/hls/"),
            engine,
            recording,
            packaging,
            pictures: 0,
            _folder: folder,
        }
    }

    /// Packages up to there. What that brings is published soon after.
    async fn to(&mut self, millis: i64) {
        while self.pictures * 40 < millis {
            let at = MediaTime::from_millis(self.pictures * 40);
            let packet = Packet {
                track: TrackId(0),
                pts: at,
                dts: at,
                duration: None,
                key: self.pictures % 50 == 0,
                data: vec![self.pictures as u8; 2_000].into(),
            };
            self.packaging.send(Work::Packet(picture(), packet)).await;
            self.pictures += 1;
        }
        // until it is named, there is no rendition to ask for
        self.body("main.m3u8").await;
    }

    fn asks(
        &self,
        path: &str,
        fields: &[(&str, &str)],
    ) -> impl Future<Output = Response<HlsBody>> + Send + use<> {
        self.sends("GET", &format!("/r/stage/hls/{path}"), fields)
    }

    fn sends(
        &self,
        method: &str,
        uri: &str,
        fields: &[(&str, &str)],
    ) -> impl Future<Output = Response<HlsBody>> + Send + use<> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let answer = self.service.clone().call(request.body(()).unwrap());
        async { answer.await.unwrap() }
    }

    async fn body(&self, path: &str) -> Bytes {
        let response = self.asks(path, &[]).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.into_body().collect().await.unwrap()
    }
}

fn is(response: &Response<HlsBody>, name: header::HeaderName) -> &str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_who_wait_for_a_part_are_sent_the_same_bytes() {
    let mut stage = Stage::new().await;
    stage.to(2_480).await;
    stage.body("source/index.m3u8?_HLS_msn=2&_HLS_part=0").await;
    let waiting: Vec<_> = (0..2_000)
        .map(|_| tokio::spawn(stage.asks("source/p8.m4s", &[])))
        .collect();
    let blocked: Vec<_> = (0..2_000)
        .map(|_| {
            tokio::spawn(stage.asks(
                "source/index.m3u8?_HLS_msn=2&_HLS_part=1",
                &[("accept-encoding", "gzip")],
            ))
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(waiting.iter().chain(&blocked).all(|one| !one.is_finished()));
    stage.to(2_880).await;
    for group in [waiting, blocked] {
        let mut places = std::collections::HashSet::new();
        for one in group {
            let response = one.await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            places.insert(response.into_body().collect().await.unwrap().as_ptr() as usize);
        }
        assert_eq!(places.len(), 1, "one answer, shared");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playlist_is_sent_compressed_and_only_to_those_who_do_not_have_it() {
    let mut stage = Stage::new().await;
    stage.to(4_400).await;
    // up to the last part that is published, so that the playlist stays as it is; each is near enough to the one before to be waited for
    for query in ["", "?_HLS_msn=2&_HLS_part=0", "?_HLS_msn=3&_HLS_part=0"] {
        stage.body(&format!("source/index.m3u8{query}")).await;
    }
    let plain = stage.asks("source/index.m3u8", &[]).await;
    assert_eq!(is(&plain, header::CONTENT_TYPE), "application/vnd.apple.mpegurl");
    assert_eq!(is(&plain, header::VARY), "accept-encoding");
    let (tag, cache) = (
        is(&plain, header::ETAG).to_owned(),
        is(&plain, header::CACHE_CONTROL).to_owned(),
    );
    assert!(!cache.is_empty());
    let text = plain.into_body().collect().await.unwrap();

    let small = stage
        .asks("source/index.m3u8", &[("accept-encoding", "br, gzip")])
        .await;
    assert_eq!(is(&small, header::CONTENT_ENCODING), "gzip");
    let small_tag = is(&small, header::ETAG).to_owned();
    assert_ne!(tag, small_tag);
    let packed = small.into_body().collect().await.unwrap();
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, text);

    for (fields, status) in [
        (vec![("if-none-match", tag.as_str())], 304),
        (
            vec![("if-none-match", small_tag.as_str()), ("accept-encoding", "gzip")],
            304,
        ),
        (vec![("if-none-match", "\"other\"")], 200),
    ] {
        let response = stage.asks("source/index.m3u8", &fields).await;
        assert_eq!(response.status(), status, "{fields:?}");
        assert_eq!(is(&response, header::CACHE_CONTROL), cache);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_listed_last_is_still_answered_when_the_recording_has_ended() {
    let mut stage = Stage::new().await;
    stage.to(4_400).await;
    stage.body("source/index.m3u8?_HLS_msn=2").await;
    let part = stage.body("source/p7.m4s").await;
    stage.packaging.finish().await.unwrap();
    stage.recording.0.complete();
    assert_eq!(stage.body("source/p7.m4s").await, part);
    let never = stage.asks("source/p99.m4s", &[]).await;
    assert_eq!(never.status(), StatusCode::NOT_FOUND);
    stage.recording.0.fail("it is over");
    let gone = stage.asks("source/p7.m4s", &[]).await;
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_heads_and_errors_are_answered_as_http_has_them() {
    let mut stage = Stage::new().await;
    let early = stage.engine.create(RecordingId::new("early").unwrap()).unwrap();
    stage.to(6_400).await;
    stage.body("source/index.m3u8?_HLS_msn=1").await;
    let part = stage.body("source/p1.m4s").await;
    let segment = stage.body("source/s1.m4s").await;
    for (path, whole) in [("source/p1.m4s", &part), ("source/s1.m4s", &segment)] {
        let some = stage.asks(path, &[("range", "bytes=10-19")]).await;
        assert_eq!(some.status(), StatusCode::PARTIAL_CONTENT, "{path}");
        assert_eq!(
            is(&some, header::CONTENT_RANGE),
            format!("bytes 10-19/{}", whole.len())
        );
        assert_eq!(some.into_body().collect().await.unwrap(), whole[10..20]);
        let none = stage.asks(path, &[("range", "bytes=99999999-")]).await;
        assert_eq!(none.status(), StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(
            is(&none, header::CONTENT_RANGE),
            format!("bytes */{}", whole.len())
        );
        let ignored = stage.asks(path, &[("range", "lines=10-19")]).await;
        assert_eq!(ignored.status(), StatusCode::OK, "{path}");
        let asked = stage.recording.hls_range(path, None, "bytes=10-19").await;
        let HlsAnswer::Part {
            first, total, body, ..
        } = asked
        else {
            panic!("{path}: {asked:?}");
        };
        assert_eq!((first, total), (10, Some(whole.len() as u64)));
        assert_eq!(body, whole[10..20]);
        let asked = stage.recording.hls_range(path, None, "bytes=99999999-").await;
        let total = Some(whole.len() as u64);
        assert_eq!(asked, HlsAnswer::OutOfRange { total }, "{path}");
        let head = stage.sends("HEAD", &format!("/r/stage/hls/{path}"), &[]).await;
        assert_eq!(is(&head, header::CONTENT_LENGTH), whole.len().to_string());
        assert!(head.body().is_end_stream());
    }
    for (method, uri, status, code) in [
        ("GET", "/r/stage/hls/source/s99.m4s", 404, "unknown-media"),
        ("GET", "/r/stage/hls/../recording.json", 404, "unknown-media"),
        ("GET", "/r/nobody/hls/main.m3u8", 404, "unknown-recording"),
        ("GET", "/r/..%2f/hls/main.m3u8", 404, "unknown-recording"),
        ("GET", "/else", 404, "unknown-address"),
        ("POST", "/r/stage/hls/main.m3u8", 405, "wrong-method"),
        (
            "GET",
            "/r/stage/hls/source/index.m3u8?_HLS_msn=x",
            400,
            "bad-playlist-request",
        ),
        ("GET", "/r/early/hls/main.m3u8", 503, "not-yet"),
    ] {
        let response = stage.sends(method, uri, &[]).await;
        assert_eq!(response.status(), status, "{uri}");
        assert_eq!(is(&response, header::CONTENT_TYPE), "application/problem+json");
        assert_eq!(is(&response, header::RETRY_AFTER).is_empty(), status != 503);
        assert_eq!(is(&response, header::ALLOW).is_empty(), status != 405);
        let text = response.into_body().collect().await.unwrap();
        assert!(String::from_utf8_lossy(&text).contains(code), "{text:?}");
    }
    drop(early);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_is_sent_while_it_is_made() {
    let mut stage = Stage::new().await;
    stage.to(2_480).await;
    stage.body("source/index.m3u8?_HLS_msn=2&_HLS_part=0").await;
    let growing = stage.asks("source/s2.m4s", &[]).await;
    assert_eq!(growing.status(), StatusCode::OK);
    assert_eq!(growing.body().size_hint().exact(), None, "its end is not known");
    let growing = tokio::spawn(growing.into_body().collect());
    // a client that names a byte far behind gets what there will be (RFC 8673)
    let tail = stage
        .asks("source/s2.m4s", &[("range", "bytes=1000-9007199254740991")])
        .await;
    assert_eq!(is(&tail, header::CONTENT_RANGE), "bytes 1000-9007199254740991/*");
    let tail = tokio::spawn(tail.into_body().collect());
    let piece = stage
        .recording
        .hls_range("source/s2.m4s", None, "bytes=1000-1999")
        .await;
    let HlsAnswer::Part {
        first: 1_000,
        total: None,
        body: piece,
        ..
    } = piece
    else {
        panic!("{piece:?}");
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!growing.is_finished() && !tail.is_finished());
    stage.to(4_400).await;
    let (growing, tail) = (growing.await.unwrap().unwrap(), tail.await.unwrap().unwrap());
    let whole = stage.body("source/s2.m4s").await;
    assert_eq!(growing, whole);
    assert_eq!(tail, whole[1_000..]);
    assert_eq!(piece, whole[1_000..2_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_fails_ends_what_is_sent_and_who_waits() {
    let mut stage = Stage::new().await;
    stage.to(2_480).await;
    stage.body("source/index.m3u8?_HLS_msn=2&_HLS_part=0").await;
    let growing = stage.asks("source/s2.m4s", &[]).await;
    let growing = tokio::spawn(growing.into_body().collect());
    let waiting = tokio::spawn(stage.asks("source/p8.m4s", &[]));
    tokio::time::sleep(Duration::from_millis(50)).await;
    stage.recording.0.fail("the test says so");
    let got = growing.await.unwrap().unwrap();
    let stored = std::fs::read(stage.recording.0.folder.path("hls/source/s2.m4s")).unwrap();
    assert_eq!(got, stored, "what there is of it");
    assert_eq!(waiting.await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_gets_it_all_and_the_packager_does_not_wait() {
    let mut stage = Stage::new().await;
    stage.to(2_480).await;
    stage.body("source/index.m3u8?_HLS_msn=2&_HLS_part=0").await;
    let slow = stage.asks("source/s2.m4s", &[]).await;
    // nobody reads it while the recording goes on far past what is kept in memory
    stage.to(40_000).await;
    for segment in 3..19 {
        stage.body(&format!("source/index.m3u8?_HLS_msn={segment}")).await;
    }
    let got = slow.into_body().collect().await.unwrap();
    assert_eq!(got, stage.body("source/s2.m4s").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_has_left_memory_is_read_once_for_all_who_are_late() {
    let mut stage = Stage::new().await;
    stage.to(2_480).await;
    stage.body("source/index.m3u8?_HLS_msn=2&_HLS_part=0").await;
    let fresh = stage.asks("source/p3.m4s", &[]).await;
    let heads = |it: &Response<HlsBody>| it.headers().clone();
    let (told, fresh) = (heads(&fresh), fresh.into_body().collect().await.unwrap());
    stage.to(8_400).await;
    for segment in 2..4 {
        stage.body(&format!("source/index.m3u8?_HLS_msn={segment}")).await;
    }
    let late = stage.asks("source/p3.m4s", &[]).await;
    assert_eq!(heads(&late), told, "where it lies is not to be seen");
    assert_eq!(late.into_body().collect().await.unwrap(), fresh);
    // what is not read again is not missed
    std::fs::remove_file(stage.recording.0.folder.path("hls/source/s1.m4s")).unwrap();
    let all: Vec<_> = (0..100)
        .map(|_| tokio::spawn(stage.asks("source/p3.m4s", &[])))
        .collect();
    let first = fresh.as_ptr();
    let mut places = std::collections::HashSet::new();
    for one in all {
        let data = one.await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(data, fresh);
        assert_ne!(data.as_ptr(), first, "it had left memory");
        places.insert(data.as_ptr());
    }
    assert_eq!(places.len(), 1, "all have the same");
    let some = stage.asks("source/p3.m4s", &[("range", "bytes=10-19")]).await;
    assert_eq!(some.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(some.into_body().collect().await.unwrap(), fresh[10..20]);
}
