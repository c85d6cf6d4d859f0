//! Recordings made of pieces of others.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use loom_engine::{
    About, Engine, EngineConfig, EngineError, JobKind, JobState, MediaTime, Object, Recording, RecordingId,
    RecordingState, StorageClass, Store, StoreConfig, StoreError, TextCue, open_store, read_cues,
};

use super::{assert_whole, film, hashes, text};
use crate::support::{config, ended};

const fn ms(millis: i64) -> MediaTime {
    MediaTime::from_millis(millis)
}

async fn recorded(engine: &Engine, film: &Path) -> Recording {
    let own = film.with_extension("taken.mp4");
    fs::copy(film, &own).expect("a copy");
    let recording = engine.create(RecordingId::random()).expect("a recording");
    recording.import(own).await.expect("the file is taken");
    assert_eq!(
        ended(&recording).await,
        RecordingState::Ready,
        "{:?}",
        recording.info()
    );
    recording
}

async fn made(engine: &Engine, pieces: Vec<loom_engine::Piece>) -> Recording {
    let made = engine
        .compose(RecordingId::random(), pieces)
        .await
        .expect("it can be made");
    assert_eq!(ended(&made).await, RecordingState::Ready, "{:?}", made.info());
    made
}

/// All of it decodes without a complaint.
fn assert_decodes(input: &Path) {
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-i"])
        .arg(input)
        .args(["-fps_mode", "passthrough", "-f", "null", "-"])
        .output()
        .expect("ffmpeg runs");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        done.status.success() && said.trim().is_empty(),
        "{}: {said}",
        input.display()
    );
}

fn folder(data: &Path, recording: &Recording) -> PathBuf {
    data.join("recordings").join(recording.id().as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_has_every_picture_that_was_left_and_no_other() {
    let files = tempfile::tempdir().expect("a folder");
    let Some(film) = film(files.path()) else { return };
    let data = files.path().join("data");
    let engine = Engine::start(config(&data)).await.expect("the engine starts");
    let original = recorded(&engine, &film).await;
    let cues = [(500, "first"), (2_500, "gone"), (4_500, "last")].map(|(at, said)| {
        let mut cue: TextCue =
            read_cues(b"WEBVTT\n\n00:00.000 --> 00:00.100\nx\n").expect("a cue")[0].clone();
        (cue.start, cue.end, cue.text) = (ms(at), ms(at + 1_000), said.to_owned());
        cue
    });
    original
        .put_captions("de", None, cues.to_vec())
        .await
        .expect("subtitles");
    for (at, title) in [(0, "Beginning"), (2_200, "Gone"), (4_200, "End")] {
        original.mark(Some(ms(at)), title).await.expect("a chapter");
    }
    let before = text(&original, "source/index.m3u8").await;

    let cut = made(&engine, original.without(&[(ms(2_000), ms(4_000))])).await;
    let info = cut.info();
    assert!((info.duration - 4.0).abs() < 0.1, "{info:?}");
    assert_eq!(info.made_from.len(), 2, "{info:?}");
    assert_eq!(info.made_from[1].from, 4.0, "{info:?}");
    assert!(
        info.made_from[1].at.is_some_and(|at| (2.0..2.1).contains(&at)),
        "{info:?}"
    );
    for rendition in &info.renditions {
        let playlist = text(&cut, &format!("{}/index.m3u8", rendition.id)).await;
        assert_whole(&cut, rendition.id.as_str(), &playlist).await;
        let parsed = m3u8_rs::parse_media_playlist_res(playlist.as_bytes()).expect("a playlist");
        let length: f32 = parsed.segments.iter().map(|it| it.duration).sum();
        assert!((length - 4.0).abs() < 0.1, "{playlist}");
        assert_eq!(
            parsed.segments.iter().filter(|it| it.discontinuity).count(),
            1,
            "{playlist}"
        );
        let stored = folder(&data, &cut).join(format!("hls/{}/index.m3u8", rendition.id));
        assert_decodes(&stored);
    }
    let main = text(&cut, "main.m3u8").await;
    assert!(
        m3u8_rs::parse_master_playlist_res(main.as_bytes()).is_ok(),
        "{main}"
    );
    let source = |of: &Recording| hashes(&folder(&data, of).join("hls/source/index.m3u8"), "0:v");
    let (was, is) = (source(&original), source(&cut));
    assert_eq!(was.len(), 150);
    let left: Vec<&String> = was[..50].iter().chain(&was[100..]).collect();
    assert_eq!(is.iter().collect::<Vec<_>>(), left, "bit for bit");

    // what was said beside it came along
    let playlist = text(&cut, "text-de/index.m3u8").await;
    let mut said = String::new();
    for uri in playlist.lines().filter(|line| line.ends_with(".vtt")) {
        said += &text(&cut, &format!("text-de/{uri}")).await;
    }
    assert!(
        said.contains("first") && said.contains("last") && !said.contains("gone"),
        "{said}"
    );
    assert!(
        said.contains("00:00:02.5"),
        "the last cue is seen two seconds earlier: {said}"
    );
    let titles: Vec<String> = cut.chapters().into_iter().map(|it| it.title).collect();
    assert_eq!(
        titles,
        ["Beginning", "Gone", "End"],
        "the chapter that the second piece begins in is told"
    );
    let thumbnails = text(&cut, "thumbs.vtt").await;
    assert_eq!(
        read_cues(thumbnails.as_bytes()).expect("a track").len(),
        2,
        "{thumbnails}"
    );
    assert!(cut.poster().is_some() && cut.preview().is_some());
    let download = cut.download(&Default::default()).await.expect("a download");
    let file = files.path().join("cut.mp4");
    download.write_to(&file).expect("it is written");
    assert_decodes(&file);

    // the original is as it was, and the new one needs nothing of it
    assert_eq!(text(&original, "source/index.m3u8").await, before);
    original.delete().await.expect("it is deleted");
    assert!(!folder(&data, &original).exists());
    assert_decodes(&folder(&data, &cut).join("hls/main.m3u8"));
}

#[tokio::test(flavor = "multi_thread")]
async fn recordings_that_are_joined_play_one_behind_the_other() {
    let files = tempfile::tempdir().expect("a folder");
    let Some(film) = film(files.path()) else { return };
    let data = files.path().join("data");
    let engine = Engine::start(config(&data)).await.expect("the engine starts");
    let one = recorded(&engine, &film).await;
    let other = made(&engine, vec![one.piece(ms(1_500), ms(5_030))]).await;
    let told = &other.info().made_from[0];
    assert_eq!(told.from, 2.0, "at the first key frame");
    assert!((5.0..5.1).contains(&told.to), "to a frame: {told:?}");
    let joined = made(&engine, vec![other.whole(), one.whole()]).await;
    let info = joined.info();
    assert!((info.duration - 9.04).abs() < 0.15, "{info:?}");
    let source = |of: &Recording| hashes(&folder(&data, of).join("hls/source/index.m3u8"), "0:v");
    let both: Vec<String> = source(&other).into_iter().chain(source(&one)).collect();
    assert_eq!(source(&joined), both);
    assert_decodes(&folder(&data, &joined).join("hls/main.m3u8"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_a_crash_cut_off_is_made_again_from_its_beginning() {
    let files = tempfile::tempdir().expect("a folder");
    let Some(film) = film(files.path()) else { return };
    let data = files.path().join("data");
    let engine = Engine::start(config(&data)).await.expect("the engine starts");
    let original = recorded(&engine, &film).await;
    let cut = made(&engine, vec![original.piece(ms(2_000), ms(6_000))]).await;
    let (id, root, wanted) = (cut.id().clone(), folder(&data, &cut), cut.info().duration);
    drop((original, cut, engine));
    // what a killed process leaves: some segments, no end, and a state that says that it is being made
    let info = fs::read_to_string(root.join("recording.json")).expect("its state");
    fs::write(
        root.join("recording.json"),
        info.replace("\"ready\"", "\"processing\""),
    )
    .expect("written");
    fs::remove_file(root.join("hls/main.m3u8")).expect("removed");
    fs::remove_file(root.join("hls/source/s1.m4s")).expect("removed");
    let engine = Engine::start(config(&data))
        .await
        .expect("the engine starts again");
    let again = engine.recording(&id).expect("it is found");
    assert_eq!(ended(&again).await, RecordingState::Ready, "{:?}", again.info());
    assert!(
        (again.info().duration - wanted).abs() < 0.001,
        "{:?}",
        again.info()
    );
    assert_decodes(&root.join("hls/main.m3u8"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_cannot_be_made_says_why_and_leaves_nothing() {
    let files = tempfile::tempdir().expect("a folder");
    let Some(film) = film(files.path()) else { return };
    let mut encrypted = EngineConfig {
        ladder: loom_engine::Wanted::source_only(),
        ..config(&files.path().join("data"))
    };
    let engine = Engine::start(encrypted.clone()).await.expect("the engine starts");
    let original = recorded(&engine, &film).await;
    for (pieces, why) in [
        (Vec::new(), "0 pieces"),
        (vec![original.piece(ms(3_000), ms(3_000))], "nothing lies"),
        (vec![original.piece(ms(7_000), ms(8_000))], "nothing lies"),
        (vec![original.piece(ms(2_100), ms(3_900))], "no key frame"),
        (original.without(&[(ms(0), ms(60_000))]), "0 pieces"),
    ] {
        match engine.compose(RecordingId::random(), pieces).await {
            Err(EngineError::BadEdit(told)) => assert!(told.contains(why), "{told}"),
            other => panic!("{why}: {other:?}"),
        }
    }
    let empty = engine.create(RecordingId::random()).expect("a recording");
    assert!(matches!(
        engine.compose(RecordingId::random(), vec![empty.whole()]).await,
        Err(EngineError::WrongState { .. })
    ));
    assert_eq!(
        engine.recordings().expect("a list").len(),
        2,
        "nothing is left of them"
    );

    encrypted.data_dir = files.path().join("sealed");
    encrypted.encryption = Some(loom_engine::EncryptionConfig::new(
        loom_engine::EncryptionScheme::Cbcs,
    ));
    let engine = Engine::start(encrypted).await.expect("the engine starts");
    let sealed = recorded(&engine, &film).await;
    match engine.compose(RecordingId::random(), vec![sealed.whole()]).await {
        Err(EngineError::BadEdit(told)) => assert!(told.contains("encrypted"), "{told}"),
        other => panic!("{other:?}"),
    }
}

/// A store that notes which media come of an edit that is not ready on the disk: it may be made anew yet, and not the same to the byte.
#[derive(Debug)]
struct Early {
    kept: Arc<dyn Store>,
    data: PathBuf,
    media: AtomicUsize,
    early: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl Store for Early {
    async fn put(&self, key: &str, data: Bytes, about: &About) -> Result<(), StoreError> {
        let id = key.split('/').next().unwrap_or_default();
        let info =
            fs::read(self.data.join("recordings").join(id).join("recording.json")).expect("it is described");
        let info: serde_json::Value = serde_json::from_slice(&info).expect("JSON");
        if info["made_from"].is_array() && key.contains("/hls/") {
            self.media.fetch_add(1, Ordering::Relaxed);
            if info["state"] != "ready" {
                self.early.lock().expect("nobody panics").push(key.to_owned());
            }
        }
        self.kept.put(key, data, about).await
    }

    async fn look_up(&self, key: &str) -> Result<Option<Object>, StoreError> {
        self.kept.look_up(key).await
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        self.kept.read(key, range).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<Object>, StoreError> {
        self.kept.list(folder).await
    }

    async fn folders(&self) -> Result<Vec<String>, StoreError> {
        self.kept.folders().await
    }

    async fn delete(&self, keys: Vec<String>) -> Result<(), StoreError> {
        self.kept.delete(keys).await
    }

    async fn set_class(&self, key: &str, class: StorageClass) -> Result<(), StoreError> {
        self.kept.set_class(key, class).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_edit_is_sent_before_it_is_ready() {
    let files = tempfile::tempdir().expect("a folder");
    let Some(film) = film(files.path()) else { return };
    let data = files.path().join("data");
    let store = Arc::new(Early {
        kept: open_store("memory:").expect("a store"),
        data: data.clone(),
        media: AtomicUsize::new(0),
        early: Mutex::default(),
    });
    let config = EngineConfig {
        store: Some(StoreConfig::new(store.clone())),
        ..config(&data)
    };
    let engine = Engine::start(config).await.expect("the engine starts");
    let original = recorded(&engine, &film).await;
    let cut = made(&engine, original.without(&[(ms(1_000), ms(3_000))])).await;
    let is_sent = |it: &loom_engine::JobDescription| it.job == JobKind::Upload && it.state == JobState::Done;
    while !cut.jobs().iter().any(is_sent) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.media.load(Ordering::Relaxed) > 0, "done is what was sent");
    assert_eq!(*store.early.lock().expect("nobody panics"), Vec::<String>::new());
}
