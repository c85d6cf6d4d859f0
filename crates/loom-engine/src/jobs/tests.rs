//! Jobs of real recordings, through the engine: what fails is made to fail by the disk and the store, not by the jobs.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use loom_core::codec::opus;
use loom_core::{CodecParameters, MediaTime, Packet, RenditionId, TrackId};
use loom_hls::{Packager, PackagerConfig, RenditionInfo, RenditionKind};
use tempfile::TempDir;

use super::*;
use crate::packaging::{Declared, Packaging, Work};
use crate::{
    About, CaptionsConfig, Engine, EngineConfig, Events, IngestConfig, Object, Recording, RecordingId,
    RecordingState, StorageClass, Store, StoreConfig, StoreError, finish, open_store,
};

const RETRY: RetryConfig = RetryConfig {
    tries: 3,
    first_pause: Duration::from_millis(20),
    longest_pause: Duration::from_millis(50),
};

/// A store in memory that refuses so many puts.
#[derive(Debug)]
struct Refusing {
    kept: Arc<dyn Store>,
    refusals: AtomicU32,
    /// What was put, by key and content.
    puts: Mutex<Vec<(String, crate::Digest)>>,
}

impl Refusing {
    fn new(refusals: u32) -> Arc<Self> {
        Arc::new(Self {
            kept: open_store("memory:").expect("a store"),
            refusals: AtomicU32::new(refusals),
            puts: Mutex::default(),
        })
    }
}

#[async_trait]
impl Store for Refusing {
    async fn put(&self, key: &str, data: Bytes, about: &About) -> Result<(), StoreError> {
        let left = self
            .refusals
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() {
            return Err(StoreError::Unsupported("do that at this bucket"));
        }
        self.puts
            .lock()
            .expect("a lock")
            .push((key.to_owned(), about.digest));
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

async fn engine(data: &Path, store: Option<Arc<dyn Store>>) -> Engine {
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
        retry: RETRY,
        store: store.map(|store| StoreConfig {
            retry: RETRY,
            ..StoreConfig::new(store)
        }),
        ..EngineConfig::default()
    };
    Engine::start(config).await.expect("the engine starts")
}

/// Five seconds of silence, with a chapter: all its media is in, and nothing else done yet.
async fn recorded(engine: &Engine) -> (Recording, Packaging) {
    let recording = engine.create(RecordingId::random()).expect("a recording");
    recording.0.begin_import().expect("it begins");
    let id = RenditionId::new("opus").expect("a name");
    let kind = RenditionKind::Audio {
        name: "Opus".to_owned(),
        language: None,
        channels: 2,
    };
    let rendition = Declared::Main(RenditionInfo {
        id: id.clone(),
        kind,
        bandwidth: 64_000,
    });
    let packager = Packager::new(PackagerConfig::default()).expect("a packager");
    let packaging =
        Packaging::start(recording.0.clone(), packager, vec![rendition], None).expect("it starts");
    recording.0.update(|info| {
        info.renditions.push(crate::RenditionDescription {
            id: id.clone(),
            kind: loom_core::MediaKind::Audio,
            codec: "opus".to_owned(),
            width: None,
            height: None,
            bandwidth: 64_000,
            playlist: None,
        });
    });
    let format = CodecParameters::Audio(opus::parameters(2, 0));
    packaging.send(Work::Format(id.clone(), format)).await;
    for at in (0..5_000).step_by(20) {
        let pts = MediaTime::from_millis(at);
        let packet = Packet {
            track: TrackId(0),
            pts,
            dts: pts,
            duration: Some(Duration::from_millis(20)),
            key: true,
            data: Bytes::from_static(&[0xf8, 0xff, 0xfe]),
        };
        packaging.send(Work::Packet(id.clone(), packet)).await;
    }
    recording
        .mark(Some(MediaTime::ZERO), "The beginning")
        .await
        .expect("a chapter");
    packaging.finish().await.expect("its playlists are complete");
    (recording, packaging)
}

/// What is told of a job until it stands so.
async fn told(events: &mut Events, job: JobKind, until: JobState) -> Vec<JobDescription> {
    let mut all = Vec::new();
    let listen = async {
        while let Some(event) = events.next().await {
            let Event::Job(told) = event else { continue };
            if told.job == job {
                all.push(told.clone());
                if told.state == until {
                    return;
                }
            }
        }
    };
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, listen)
        .await
        .expect("it comes to that");
    all
}

fn states(told: &[JobDescription]) -> Vec<JobState> {
    told.iter().map(|it| it.state).collect()
}

fn one(recording: &Recording, job: JobKind) -> JobDescription {
    let mut jobs = recording.jobs().into_iter();
    jobs.find(|it| it.job == job).expect("it has that job")
}

async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, wait).await.expect("it comes to that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_the_disk_fails_twice_holds_its_recording_up_and_is_done_by_the_third_try() {
    let folder = TempDir::new().expect("a folder");
    let engine = engine(folder.path(), None).await;
    let (recording, packaging) = recorded(&engine).await;
    // nothing can be renamed over a folder
    let track = recording.0.folder.path("hls/chapters.vtt");
    std::fs::remove_file(&track).expect("it was written when the chapter was marked");
    std::fs::create_dir(&track).expect("a folder");
    let mut events = recording.events();
    finish::begin(&recording.0);
    let ending = tokio::spawn({
        let it = recording.0.clone();
        async move { finish::end(&it).await }
    });
    for tries in 1..=2 {
        let failed = told(&mut events, JobKind::Chapters, JobState::Waiting).await;
        let last = failed.last().expect("it waits");
        assert_eq!(last.tries, tries);
        let why = last.reason.as_deref().expect("it says why");
        assert!(why.contains("disk") && !why.contains("chapters.vtt"), "{why}");
        assert!(last.next_try.is_some_and(|it| it <= 0.1), "{last:?}");
        assert_eq!(recording.info().state, RecordingState::Processing);
    }
    std::fs::remove_dir(&track).expect("it is out of the way");
    let last = told(&mut events, JobKind::Chapters, JobState::Done).await;
    assert_eq!(states(&last), [JobState::Running, JobState::Done]);
    assert_eq!(
        (last[1].tries, last[1].progress, &last[1].reason),
        (3, 1.0, &None)
    );
    ending.await.expect("it ends");
    assert_eq!(recording.info().state, RecordingState::Ready);
    assert!(track.is_file());
    drop(packaging);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_to_the_last_is_parked_with_a_reason_outlives_the_engine_and_is_restarted() {
    let folder = TempDir::new().expect("a folder");
    let first = engine(folder.path(), None).await;
    let (recording, packaging) = recorded(&first).await;
    let track = recording.0.folder.path("hls/chapters.vtt");
    std::fs::remove_file(&track).expect("it was written when the chapter was marked");
    std::fs::create_dir(&track).expect("a folder");
    finish::begin(&recording.0);
    finish::end(&recording.0).await;
    assert_eq!(
        recording.info().state,
        RecordingState::Ready,
        "it costs only itself"
    );
    let id = recording.id().clone();
    drop((recording, packaging, first));

    let next = engine(folder.path(), None).await;
    let recording = next.recording(&id).expect("it is found");
    let parked = one(&recording, JobKind::Chapters);
    assert_eq!((parked.state, parked.tries), (JobState::Parked, 3));
    assert!(parked.reason.is_some());
    std::fs::remove_dir(&track).expect("it is out of the way");
    tokio::time::sleep(RETRY.longest_pause * 3).await;
    assert!(!track.exists(), "nothing is done before somebody asks");
    // two callers at once
    let (a, b) = (recording.clone(), recording.clone());
    let (a, b) = tokio::join!(
        tokio::task::spawn_blocking(move || a.restart_job(JobKind::Chapters)),
        tokio::task::spawn_blocking(move || b.restart_job(JobKind::Chapters)),
    );
    for asked in [a, b] {
        let told = asked.expect("no panic").expect("it is restarted");
        assert!(told.state != JobState::Parked, "{told:?}");
    }
    until(|| one(&recording, JobKind::Chapters).state == JobState::Done).await;
    assert_eq!(
        one(&recording, JobKind::Chapters).tries,
        1,
        "one of them restarted it"
    );
    assert!(track.is_file());
    let done = recording.restart_job(JobKind::Chapters).expect("no error");
    assert_eq!((done.state, done.tries), (JobState::Done, 1));
    assert!(matches!(
        recording.restart_job(JobKind::Transcript),
        Err(EngineError::NoSuchJob { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_refused_is_tried_again_parked_and_taken_up_by_the_next_engine() {
    let folder = TempDir::new().expect("a folder");
    let store = Refusing::new(2);
    let first = engine(folder.path(), Some(store.clone())).await;
    let (recording, packaging) = recorded(&first).await;
    let mut events = recording.events();
    finish::begin(&recording.0);
    finish::end(&recording.0).await;
    assert_eq!(
        recording.info().state,
        RecordingState::Ready,
        "it does not wait for the store"
    );
    until(|| one(&recording, JobKind::Upload).state == JobState::Done).await;
    until(|| !is_open(&recording.0.folder)).await;
    let seen = told(&mut events, JobKind::Upload, JobState::Running).await;
    assert_eq!(seen[0].state, JobState::Queued);
    let kept = store.list(recording.id().as_str()).await.expect("a list");
    let mut puts = store.puts.lock().expect("a lock").clone();
    let all = puts.len();
    puts.sort();
    puts.dedup();
    assert_eq!(puts.len(), all, "each is sent once");
    assert!(kept.iter().any(|it| it.key.ends_with("/recording.json")));
    assert!(
        !kept.iter().any(|it| it.key.contains("jobs")),
        "the queue is this disk's"
    );

    // something new, and a store that takes nothing for longer than it is tried
    store.refusals.store(u32::MAX, Ordering::Relaxed);
    recording
        .mark(Some(MediaTime::from_millis(2_000)), "The end")
        .await
        .expect("a chapter");
    until(|| one(&recording, JobKind::Upload).state == JobState::Parked).await;
    let parked = one(&recording, JobKind::Upload);
    assert_eq!(
        parked.reason.as_deref(),
        Some("the store does not take what is sent")
    );
    let id = recording.id().clone();
    store.refusals.store(0, Ordering::Relaxed);
    drop((recording, packaging, events, first));
    let next = engine(folder.path(), Some(store.clone())).await;
    let recording = next.recording(&id).expect("it is found");
    until(|| one(&recording, JobKind::Upload).state == JobState::Done).await;
    let kept = store.list(id.as_str()).await.expect("a list");
    let chapters = kept
        .iter()
        .find(|it| it.key.ends_with("chapters.vtt"))
        .expect("chapters");
    let text = store
        .read(&chapters.key, 0..chapters.size)
        .await
        .expect("readable")
        .expect("there");
    assert!(String::from_utf8_lossy(&text).contains("The end"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_engine_left_undone_is_done_by_the_next_without_anybody_asking() {
    let folder = TempDir::new().expect("a folder");
    let first = engine(folder.path(), None).await;
    let (recording, packaging) = recorded(&first).await;
    // as a process leaves it that is killed while the job runs
    begin(&recording.0, &[JobKind::Chapters]);
    recording.0.happened(crate::life::Step::Completed);
    let track = recording.0.folder.path("hls/chapters.vtt");
    std::fs::remove_file(&track).expect("it was written when the chapter was marked");
    let file = recording.0.folder.path(FILE);
    let text = std::fs::read_to_string(&file).expect("the queue");
    std::fs::write(
        &file,
        text.replace("queued", "running")
            .replace("\"tries\": 0", "\"tries\": 1"),
    )
    .expect("written");
    drop((recording, packaging, first));

    let _next = engine(folder.path(), None).await;
    until(|| {
        track.is_file()
            && !std::fs::read_to_string(&file)
                .unwrap_or_default()
                .contains("running")
    })
    .await;
    let text = std::fs::read_to_string(&file).expect("the queue");
    assert!(text.contains("done") && text.contains("\"tries\": 2"), "{text}");
    let state = || {
        let ids = _next.recordings().expect("a list");
        let info = _next.recording(&ids[0]).expect("it is found").info();
        (info.state, info.reason)
    };
    until(|| state().0 == RecordingState::Ready).await;
    assert_eq!(state().1, None, "its media was complete: nothing was cut off");
}
