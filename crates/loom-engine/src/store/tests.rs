use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha2::Digest as _;
use tokio::sync::Notify;

use super::survey::{Survey, named};
use super::*;
use crate::folder::Folder;
use crate::{
    CaptionsConfig, Engine, EngineConfig, EngineError, HlsAnswer, IngestConfig, Recording, RecordingId,
    RecordingState,
};

async fn engine(data: &Path, store: Arc<dyn Store>) -> Engine {
    let config = EngineConfig {
        data_dir: data.to_owned(),
        ingest: IngestConfig {
            udp: ([127, 0, 0, 1], 0).into(),
            ..IngestConfig::default()
        },
        captions: CaptionsConfig {
            enabled: false,
            ..CaptionsConfig::default()
        },
        store: Some(StoreConfig::new(store)),
        ..EngineConfig::default()
    };
    Engine::start(config).await.expect("the engine starts")
}

/// A recording of one rendition on disk, whose files are made of a seed.
fn recorded(data: &Path, name: &str, state: &str, segments: u64, seed: u64) -> (RecordingId, Folder) {
    let id = RecordingId::new(name).expect("a name");
    let folder = Folder::at(data.join("recordings").join(name));
    folder.create().expect("a folder");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut put = |file: &str, len: usize| {
        let data: Vec<u8> = (0..len).map(|_| rng.random()).collect();
        folder.put(&format!("hls/{file}"), &data).expect("a file");
    };
    put("720p/init-0.mp4", 700);
    let mut list = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI=\"init-0.mp4\"\n".to_owned();
    for number in 1..=segments {
        put(&format!("720p/s{number}.m4s"), 1_000 + number as usize);
        list.push_str(&format!("#EXTINF:2.0,\ns{number}.m4s\n"));
    }
    if state == "ready" {
        list.push_str("#EXT-X-ENDLIST\n");
    }
    let main = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n720p/index.m3u8\n";
    folder
        .put("hls/720p/index.m3u8", list.as_bytes())
        .expect("a file");
    folder.put("hls/main.m3u8", main.as_bytes()).expect("a file");
    let info = serde_json::json!({
        "id": name, "state": state, "duration": 2.0 * segments as f64, "tracks": [], "captions": false,
        "renditions": [{"id": "720p", "kind": "video", "codec": "h264", "bandwidth": 1000}],
    });
    folder
        .put("recording.json", info.to_string().as_bytes())
        .expect("a file");
    folder.put("speech.pcm", b"is not for a store").expect("a file");
    (id, folder)
}

/// Every file of a recording that belongs in a store, by its name.
fn files(folder: &Folder) -> BTreeMap<String, Bytes> {
    let survey = Survey::of(folder).expect("a survey");
    let texts = survey.lists.into_iter().chain(survey.tops);
    let info = survey.info.map(|info| ("recording.json".to_owned(), info));
    let media = survey.media.into_iter().filter_map(|name| {
        let data = folder.read(&name, 0, None).expect("readable")?;
        Some((name, data))
    });
    texts.chain(info).chain(media).collect()
}

async fn objects(store: &dyn Store, id: &RecordingId) -> BTreeMap<String, Bytes> {
    let mut all = BTreeMap::new();
    for object in store.list(id.as_str()).await.expect("a list") {
        let data = store.read(&object.key, 0..object.size).await.expect("readable");
        let name = object.key[id.as_str().len() + 1..].to_owned();
        all.insert(name, data.expect("it is there"));
    }
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (name, data) in all {
        // what was too long is kept in pieces, in a folder of its own
        let file = match name.rsplit_once('/') {
            Some((file, piece)) if piece.bytes().all(|b| b.is_ascii_digit()) => file,
            _ => &name,
        };
        files.entry(file.to_owned()).or_default().extend_from_slice(&data);
    }
    files
        .into_iter()
        .map(|(name, data)| (name, data.into()))
        .collect()
}

/// A store that fails, is slow, and at whose puts the process may end: by a seed. It counts what it was sent.
#[derive(Debug)]
struct Faulty {
    kept: Arc<dyn Store>,
    rng: Mutex<StdRng>,
    calm: AtomicBool,
    /// Puts that were stored, by key and content.
    stored: Mutex<BTreeMap<(String, Digest), u32>>,
    crash: Notify,
    /// Bytes that puts hold in memory now.
    held: AtomicU64,
}

/// What a put holds, until it is answered or given up.
struct Held<'a>(&'a AtomicU64, u64);

impl<'a> Held<'a> {
    fn new(all: &'a AtomicU64, data: &Bytes) -> Self {
        let len = data.len() as u64;
        let now = all.fetch_add(len, Ordering::Relaxed) + len;
        let most = crate::limits::OBJECT_BYTES * crate::limits::OBJECTS_SENT as u64;
        assert!(now <= most, "{now} bytes are held at a time");
        Self(all, len)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It is not stored, and said so.
    Refused,
    /// It is stored, and nobody knows.
    Lost,
    /// The process ends before it is stored, or after.
    CrashBefore,
    CrashAfter,
}

impl Faulty {
    fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            kept: open_store("memory:").expect("a store"),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            calm: AtomicBool::new(false),
            stored: Mutex::default(),
            crash: Notify::new(),
            held: AtomicU64::new(0),
        })
    }

    fn roll(&self) -> (Fault, u32) {
        let mut rng = self.rng.lock().expect("a lock");
        let wait = rng.random_range(0..4);
        if self.calm.load(Ordering::Relaxed) {
            return (Fault::None, wait);
        }
        let fault = match rng.random_range(0..24) {
            0 => Fault::Refused,
            1 => Fault::Lost,
            2 => Fault::CrashBefore,
            3 => Fault::CrashAfter,
            _ => Fault::None,
        };
        (fault, wait)
    }

    async fn never(&self) -> ! {
        self.crash.notify_one();
        std::future::pending().await
    }
}

fn refused() -> StoreError {
    StoreError::failed("take", "it", "a test says so")
}

#[async_trait]
impl Store for Faulty {
    async fn put(&self, key: &str, data: Bytes, about: &About) -> Result<(), StoreError> {
        let _held = Held::new(&self.held, &data);
        let (fault, wait) = self.roll();
        for _ in 0..wait {
            tokio::task::yield_now().await;
        }
        match fault {
            Fault::Refused => return Err(refused()),
            Fault::CrashBefore => self.never().await,
            _ => {}
        }
        let digest: Digest = sha2::Sha256::digest(&data).into();
        assert_eq!(digest, about.digest, "{key}");
        let (id, name) = key.split_once('/').expect("a recording's key");
        for named in named(name, &data) {
            let there = self.kept.look_up(&format!("{id}/{named}")).await?;
            let pieces = self.kept.list(&format!("{id}/{named}")).await?;
            assert!(
                there.is_some() || !pieces.is_empty(),
                "{key} names {named}, which is not there"
            );
        }
        self.kept.put(key, data, about).await?;
        *self
            .stored
            .lock()
            .expect("a lock")
            .entry((key.to_owned(), digest))
            .or_default() += 1;
        match fault {
            Fault::Lost => Err(refused()),
            Fault::CrashAfter => self.never().await,
            _ => Ok(()),
        }
    }

    async fn look_up(&self, key: &str) -> Result<Option<Object>, StoreError> {
        match self.roll().0 {
            Fault::Refused => Err(refused()),
            _ => self.kept.look_up(key).await,
        }
    }

    async fn read(&self, key: &str, range: std::ops::Range<u64>) -> Result<Option<Bytes>, StoreError> {
        self.kept.read(key, range).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<Object>, StoreError> {
        match self.roll().0 {
            Fault::Refused => Err(refused()),
            _ => self.kept.list(folder).await,
        }
    }

    async fn folders(&self) -> Result<Vec<String>, StoreError> {
        self.kept.folders().await
    }

    async fn delete(&self, keys: Vec<String>) -> Result<(), StoreError> {
        match self.roll().0 {
            Fault::Refused => Err(refused()),
            _ => self.kept.delete(keys).await,
        }
    }

    async fn set_class(&self, key: &str, class: StorageClass) -> Result<(), StoreError> {
        self.kept.set_class(key, class).await
    }
}

/// As the process that ended would leave it: the journal's last line may be cut off.
fn tear(folder: &Folder, rng: &mut StdRng) {
    let path = folder.path(super::journal::FILE);
    if let Ok(text) = std::fs::read(&path) {
        let cut = rng.random_range(0..40).min(text.len());
        std::fs::write(&path, &text[..text.len() - cut]).expect("the journal");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_faults_and_crashes_everything_arrives_nothing_twice_and_nothing_before_what_it_names() {
    let data = tempfile::tempdir().expect("a folder");
    let store = Faulty::new(0);
    let engine = engine(data.path(), store.clone()).await;
    let mut crashes = 0;
    for seed in 0..24 {
        println!("seed {seed}");
        *store.rng.lock().expect("a lock") = StdRng::seed_from_u64(seed);
        let (id, folder) = recorded(data.path(), &format!("r{seed}"), "ready", 40, seed);
        let mut rng = StdRng::seed_from_u64(seed);
        if seed % 8 == 0 {
            folder
                .put("hls/720p/s7.m4s", &long(seed))
                .expect("longer than one object");
        }
        for attempt in 0.. {
            assert!(attempt < 1_000, "it never arrives");
            // opened anew, as by a process that has just begun
            let recording = engine.recording(&id).expect("it opens");
            let sent = tokio::select! {
                sent = recording.stored() => Some(sent),
                () = store.crash.notified() => None,
            };
            let alone = Arc::downgrade(&recording.0);
            drop(recording);
            match sent {
                Some(Ok(())) => break,
                Some(Err(EngineError::Store(_) | EngineError::NotReady(_))) => {}
                Some(Err(why)) => panic!("{why}"),
                None => {
                    crashes += 1;
                    while alone.strong_count() > 0 {
                        tokio::task::yield_now().await;
                    }
                    tear(&folder, &mut rng);
                }
            }
        }
        assert_eq!(objects(&*store.kept, &id).await, files(&folder));

        // what has arrived is not sent again, however often it is asked
        store.calm.store(true, Ordering::Relaxed);
        engine
            .recording(&id)
            .expect("it opens")
            .stored()
            .await
            .expect("it is there");
        store.calm.store(false, Ordering::Relaxed);
        let stored = store.stored.lock().expect("a lock").clone();
        let twice: Vec<_> = stored.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "seed {seed}: {twice:?}");
    }
    assert!(crashes > 10, "{crashes} crashes");
}

async fn text(recording: &Recording, path: &str) -> String {
    String::from_utf8(body(recording, path).await.to_vec()).expect("text")
}

async fn body(recording: &Recording, path: &str) -> Bytes {
    match recording.hls(path, None).await {
        HlsAnswer::Ready { body, .. } => body,
        other => panic!("{path}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_served_by_an_engine_whose_disk_is_empty() {
    let (first, second) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
    let shelf = tempfile::tempdir().expect("c");
    for address in ["memory:", &format!("file://{}", shelf.path().display())] {
        let store = open_store(address).expect("a store");
        let (id, folder) = recorded(first.path(), "r", "ready", 3, 1);
        folder
            .put("hls/720p/s2.m4s", &long(0))
            .expect("longer than one object");
        let writer = engine(first.path(), store.clone()).await;
        let recording = writer.open(&id).await.expect("it opens");
        recording.stored().await.expect("it arrives");

        let reader = engine(second.path(), store.clone()).await;
        assert_eq!(
            reader.stored_recordings().await.expect("a list"),
            std::slice::from_ref(&id)
        );
        let fetched = reader.open(&id).await.expect("it is fetched");
        assert_eq!(fetched.info(), recording.info());
        for path in [
            "main.m3u8",
            "720p/index.m3u8",
            "720p/init-0.mp4",
            "720p/s1.m4s",
            "720p/s2.m4s",
        ] {
            assert_eq!(body(&fetched, path).await, body(&recording, path).await, "{path}");
        }
        assert_eq!(fetched.hls("720p/s9.m4s", None).await, HlsAnswer::NotFound);
        let local = second.path().join("recordings/r/hls/720p");
        assert!(local.join("index.m3u8").is_file() && !local.join("s1.m4s").exists());

        // what is added there arrives, and nothing else is sent
        fetched.mark(None, "The end").await.expect("a chapter");
        fetched.stored().await.expect("it arrives");
        let chapters = store
            .read("r/hls/chapters.json", 0..9_999)
            .await
            .expect("readable");
        assert!(chapters.is_some());

        fetched.delete().await.expect("it is deleted");
        assert!(store.list("r").await.expect("a list").is_empty());
        assert!(matches!(reader.open(&id).await, Err(EngineError::NotFound(_))));
        assert!(!second.path().join("recordings/r").exists());
        drop((writer, recording));
        std::fs::remove_dir_all(first.path().join("recordings/r")).expect("removed");
    }
}

/// More than fits into one object.
fn long(seed: u64) -> Vec<u8> {
    let len = crate::limits::OBJECT_BYTES + 12_345 + seed;
    (0..len).map(|at| ((at + seed) % 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_live_recording_had_sent_when_its_machine_was_lost_is_a_whole_recording() {
    let (first, second) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
    let store = open_store("memory:").expect("a store");
    let (id, folder) = recorded(first.path(), "r", "live", 5, 1);
    for (name, data) in files(&folder) {
        let about = About::of(&data, StorageClass::Hot);
        store
            .put(&format!("r/{name}"), data, &about)
            .await
            .expect("it is put");
    }
    store
        .delete(vec!["r/hls/720p/s4.m4s".to_owned()])
        .await
        .expect("a lifecycle rule took it");
    let reader = engine(second.path(), store).await;
    let recording = reader.open(&id).await.expect("it is fetched");
    let list = text(&recording, "720p/index.m3u8").await;
    assert!(list.ends_with("s3.m4s\n#EXT-X-ENDLIST\n"), "{list}");
    let mut events = recording.events();
    while events.next().await.is_some() {}
    assert_eq!(recording.info().state, RecordingState::Ready);
    assert_eq!(
        m3u8_rs::parse_media_playlist_res(list.as_bytes())
            .expect("a playlist")
            .segments
            .len(),
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_the_store_refused_is_done_when_the_engine_next_starts() {
    let data = tempfile::tempdir().expect("a folder");
    let store = Faulty::new(0);
    store.calm.store(true, Ordering::Relaxed);
    let (id, folder) = recorded(data.path(), "r", "ready", 2, 1);
    let first = engine(data.path(), store.clone()).await;
    let recording = first.open(&id).await.expect("it opens");
    recording.stored().await.expect("it arrives");
    folder.condemn().expect("the process ends here");
    drop((first, recording));
    let next = engine(data.path(), store.clone()).await;
    assert!(matches!(next.open(&id).await, Err(EngineError::NotFound(_))));
    while folder.exists() {
        tokio::task::yield_now().await;
    }
    assert!(store.list("r").await.expect("a list").is_empty());
}

#[tokio::test]
async fn each_store_keeps_replaces_lists_and_deletes() {
    let shelf = tempfile::tempdir().expect("a folder");
    for address in ["memory:", &format!("file://{}", shelf.path().display())] {
        let store = open_store(address).expect("a store");
        for (key, data) in [
            ("a/x/1", "one"),
            ("a/y", "two"),
            ("ab/z", "three"),
            ("a/y", "four"),
        ] {
            let data = Bytes::from(data);
            let about = About::of(&data, StorageClass::Cold);
            store.put(key, data, &about).await.expect("it is put");
        }
        let found = store
            .look_up("a/y")
            .await
            .expect("an answer")
            .expect("it is there");
        let digest: Digest = sha2::Sha256::digest("four").into();
        assert_eq!((found.size, found.digest), (4, Some(digest)), "{address}");
        assert_eq!(store.look_up("a/q").await.expect("an answer"), None);
        assert_eq!(
            store.read("a/y", 1..3).await.expect("an answer"),
            Some(Bytes::from("ou"))
        );
        assert_eq!(store.read("a/q", 0..3).await.expect("an answer"), None);
        let mut keys: Vec<_> = store
            .list("a")
            .await
            .expect("a list")
            .into_iter()
            .map(|it| it.key)
            .collect();
        keys.sort();
        assert_eq!(keys, ["a/x/1", "a/y"]);
        let mut folders = store.folders().await.expect("a list");
        folders.sort();
        assert_eq!(folders, ["a", "ab"]);
        assert!(matches!(
            store.set_class("a/y", StorageClass::Hot).await,
            Err(StoreError::Unsupported(_))
        ));
        keys.push("a/q".to_owned());
        store.delete(keys).await.expect("they are deleted");
        assert!(store.list("a").await.expect("a list").is_empty());
    }
    for address in ["", "ftp://x", "file:x", "s3:x", "s3://"] {
        assert!(
            matches!(open_store(address), Err(StoreError::Address { .. })),
            "{address}"
        );
    }
}
