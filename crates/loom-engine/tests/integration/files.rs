//! Files in chunks through the engine: who encodes them, and what comes of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use loom_engine::{
    Chunk, ChunkFuture, ChunkRequest, ChunkWorker, Engine, EngineConfig, Event, FileConfig, LoudnessTarget,
    MediaTime, Recording, RecordingId, RecordingState,
};
use loom_transcode::GstBackend;

use crate::support::{config, ended};

/// Eight seconds, a key frame in each, and a tone; `None`, loudly, where there is no ffmpeg.
pub(crate) fn film(folder: &Path) -> Option<PathBuf> {
    film_that_sounds(folder, "sine=frequency=440:sample_rate=48000")
}

fn film_that_sounds(folder: &Path, sound: &str) -> Option<PathBuf> {
    let path = folder.join("film.mp4");
    let inputs = format!("-f lavfi -i testsrc2=size=640x480:rate=25 -f lavfi -i {sound} -t 8");
    let coded = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25 -c:a aac";
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(inputs.split(' ').chain(coded.split(' ')))
        .arg(&path)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no ffmpeg to make a film with");
        return None;
    }
    Some(path)
}

/// A host's own worker, to which requests come as bytes and from which chunks go as bytes.
#[derive(Debug)]
struct Elsewhere {
    encoder: GstBackend,
    /// It fails at these, by their numbers: says so, ends without a word, or gives another chunk.
    fails: fn(u32) -> Fails,
    asked: AtomicU32,
    made: Mutex<Vec<u32>>,
}

#[derive(Debug)]
enum Fails {
    Not,
    Saying(&'static str),
    NeverAnswering,
    GivingNothing,
    Panicking,
}

impl Elsewhere {
    fn new(fails: fn(u32) -> Fails) -> Arc<Self> {
        Arc::new(Self {
            encoder: GstBackend::new().expect("GStreamer starts"),
            fails,
            asked: AtomicU32::new(0),
            made: Mutex::default(),
        })
    }

    fn made(&self) -> Vec<u32> {
        let mut made = self.made.lock().expect("no panic").clone();
        made.sort_unstable();
        made
    }
}

impl ChunkWorker for Elsewhere {
    fn encode(&self, request: Arc<ChunkRequest>) -> ChunkFuture {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match (self.fails)(request.number) {
            Fails::Not => {}
            Fails::Saying(why) => return Box::pin(async move { Err(why.to_owned()) }),
            Fails::NeverAnswering => return Box::pin(std::future::pending()),
            Fails::GivingNothing => {
                return Box::pin(async { Chunk::from_bytes(b"").map_err(|why| why.to_string()) });
            }
            Fails::Panicking => return Box::pin(async { panic!("a test's own worker") }),
        }
        self.made.lock().expect("no panic").push(request.number);
        let sent = request.to_bytes();
        let there = ChunkRequest::from_bytes(&sent).expect("it arrives whole");
        let made = self.encoder.encode(Arc::new(there));
        Box::pin(async move { Chunk::from_bytes(&made.await?.to_bytes()).map_err(|why| why.to_string()) })
    }
}

fn in_chunks(data: &Path, worker: Option<Arc<Elsewhere>>) -> EngineConfig {
    EngineConfig {
        files: FileConfig {
            chunk: Duration::from_secs(2),
            at_once: 2,
            worker: worker.map(|it| it as Arc<dyn ChunkWorker>),
            ..FileConfig::default()
        },
        ..config(data)
    }
}

/// What a file becomes: every media file of it by its name, what workers failed at, and where it lies.
async fn import(
    folder: &Path,
    worker: Option<Arc<Elsewhere>>,
) -> (BTreeMap<String, Vec<u8>>, Vec<(u32, String)>) {
    let data = tempfile::tempdir_in(folder).expect("a folder");
    let copy = data.path().join("copy.mp4");
    fs::copy(folder.join("film.mp4"), &copy).expect("copied");
    let engine = Engine::start(in_chunks(&data.path().join("data"), worker))
        .await
        .expect("the engine starts");
    let recording = engine.create(RecordingId::random()).expect("a recording");
    let mut events = recording.events();
    let watching = tokio::spawn(async move {
        let mut failures = Vec::new();
        while let Some(event) = events.next().await {
            if let Event::Worker { chunk, why } = event {
                failures.push((chunk, why));
            }
        }
        failures.sort();
        failures
    });
    recording.import(copy).await.expect("the file is taken");
    assert_eq!(
        ended(&recording).await,
        RecordingState::Ready,
        "{:?}",
        recording.info()
    );
    assert!(
        (recording.info().duration - 8.0).abs() < 0.2,
        "{:?}",
        recording.info()
    );
    let root = data.path().join("data/recordings").join(recording.id().as_str());
    for gone in ["source", "import.json", "chunks"] {
        assert!(!root.join(gone).exists(), "{gone} is of no use any more");
    }
    let files = files_of(&data.path().join("data"), &recording);
    (files, watching.await.expect("no panic"))
}

/// Every media file of a recording by its name.
pub(crate) fn files_of(data: &Path, recording: &Recording) -> BTreeMap<String, Vec<u8>> {
    let root = data.join("recordings").join(recording.id().as_str());
    let mut files = BTreeMap::new();
    for rendition in recording.info().renditions {
        for file in fs::read_dir(root.join("hls").join(rendition.id.as_str()))
            .expect("its files")
            .flatten()
        {
            let name = file.file_name().to_string_lossy().into_owned();
            if name.ends_with(".m4s") || name.ends_with(".mp4") {
                let data = fs::read(file.path()).expect("readable");
                files.insert(format!("{}/{name}", rendition.id), data);
            }
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_worker_encodes_every_chunk_and_the_recording_is_the_same_to_the_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    if film(folder.path()).is_none() {
        return;
    }
    let (here, _) = import(folder.path(), None).await;
    let worker = Elsewhere::new(|_| Fails::Not);
    let (there, failures) = import(folder.path(), Some(worker.clone())).await;
    assert_eq!(worker.made(), [0, 1, 2, 3]);
    assert!(failures.is_empty(), "{failures:?}");
    assert!(
        here.keys().any(|name| name.starts_with("360p/s")),
        "{:?}",
        here.keys()
    );
    assert!(here == there, "{:?} and {:?}", here.keys(), there.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_fails_at_is_encoded_here_and_an_event_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    if film(folder.path()).is_none() {
        return;
    }
    let (here, _) = import(folder.path(), None).await;
    let worker = Elsewhere::new(|number| match number {
        0 => Fails::Saying("the farm is full"),
        1 => Fails::GivingNothing,
        2 => Fails::Panicking,
        _ => Fails::Not,
    });
    let (there, failures) = import(folder.path(), Some(worker.clone())).await;
    assert_eq!(
        (worker.asked.load(Ordering::Relaxed), worker.made()),
        (4, vec![3])
    );
    let chunks: Vec<u32> = failures.iter().map(|it| it.0).collect();
    assert_eq!(chunks, [0, 1, 2]);
    assert!(
        failures[0].1.contains("the farm is full") && failures[1].1.contains("cut short"),
        "{failures:?}"
    );
    assert!(here == there, "whoever encodes it, it is the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_files_sound_is_brought_to_a_loudness_and_what_was_done_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(film) = film(folder.path()) else { return };
    let target = LoudnessTarget::default();
    let mut config = in_chunks(&folder.path().join("data"), None);
    config.ladder.sound.loudness = Some(target);
    let engine = Engine::start(config).await.expect("the engine starts");
    let recording = engine.create(RecordingId::random()).expect("a recording");
    recording.import(film).await.expect("the file is taken");
    assert_eq!(ended(&recording).await, RecordingState::Ready);
    let told = recording.info().loudness.expect("its sound was measured");
    assert!((told.integrated - target.integrated).abs() <= 0.2, "{told:?}");
    let gain = told.gain.expect("it was made louder");
    // ffmpeg's sine is 18 dB below full scale, in one channel
    assert!((4.0..8.0).contains(&gain), "{told:?}");
    let heard = judged(&recording, folder.path()).await;
    assert!(
        (heard - target.integrated).abs() <= 0.3,
        "{heard} LUFS as ffmpeg hears it, told {told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_as_loud_as_what_is_kept_and_that_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let tone = "aevalsrc=if(lt(t\\,4)\\,0.4\\,0.1)*sin(2*PI*440*t):sample_rate=48000";
    let Some(film) = film_that_sounds(folder.path(), tone) else {
        return;
    };
    let target = LoudnessTarget::default();
    let mut config = in_chunks(&folder.path().join("data"), None);
    config.ladder.sound.loudness = Some(target);
    let engine = Engine::start(config).await.expect("the engine starts");
    let whole = engine.create(RecordingId::random()).expect("a recording");
    whole.import(film).await.expect("the file is taken");
    assert_eq!(ended(&whole).await, RecordingState::Ready);
    let as_before = whole.info().loudness.expect("its sound was measured");
    let end = MediaTime::from_millis(8_000);
    let pieces = [
        vec![whole.whole()],
        vec![whole.piece(MediaTime::from_millis(4_000), end)],
    ];
    let mut told = Vec::new();
    for piece in pieces {
        let made = engine
            .compose(RecordingId::random(), piece)
            .await
            .expect("an edit");
        assert_eq!(ended(&made).await, RecordingState::Ready);
        let loudness = made.info().loudness.expect("it was measured");
        let heard = judged(&made, folder.path()).await;
        assert!(
            (heard - loudness.integrated).abs() <= 0.3,
            "{heard} LUFS as ffmpeg hears it, told {loudness:?}"
        );
        assert_eq!(loudness.gain, as_before.gain, "that was done to it before");
        told.push(loudness.integrated);
    }
    assert!(
        (told[0] - target.integrated).abs() <= 0.3,
        "all of it is as loud as wanted: {told:?}"
    );
    // 12 dB below the other half, which the recording's loudness is mostly of
    assert!(
        (8.0..12.0).contains(&(told[0] - told[1])),
        "the quiet half is quieter: {told:?}"
    );
}

/// How loud a recording's download is, LUFS, as ffmpeg hears it.
async fn judged(recording: &Recording, folder: &Path) -> f64 {
    let download = recording.download(&Default::default()).await.expect("a download");
    let path = folder.join("download.mp4");
    download.write_to(&path).expect("it is written");
    let judged = Command::new("ffmpeg")
        .args(["-nostdin", "-i"])
        .arg(&path)
        .args(["-af", "ebur128", "-f", "null", "-"])
        .output()
        .expect("ffmpeg runs");
    let said = String::from_utf8_lossy(&judged.stderr).into_owned();
    let heard = said
        .rsplit("I:")
        .next()
        .and_then(|it| it.split_whitespace().next());
    let heard: f64 = heard
        .and_then(|it| it.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_engine_encodes_what_the_one_before_it_has_not_and_no_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(film) = film(folder.path()) else { return };
    let data = folder.path().join("data");
    let id = RecordingId::random();
    let chunks = data.join("recordings").join(id.as_str()).join("chunks");
    let kept = || fs::read_dir(&chunks).map_or(0, Iterator::count);
    {
        let worker = Elsewhere::new(|number| match number {
            0 | 1 => Fails::Not,
            _ => Fails::NeverAnswering,
        });
        let engine = Engine::start(in_chunks(&data, Some(worker)))
            .await
            .expect("the engine starts");
        let recording = engine.create(id.clone()).expect("a recording");
        recording.import(film.clone()).await.expect("the file is taken");
        assert!(!film.exists(), "it lies in the recording's folder");
        tokio::time::timeout(Duration::from_secs(60), async {
            while kept() < 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("two chunks are kept");
    }
    let worker = Elsewhere::new(|_| Fails::Not);
    let engine = Engine::start(in_chunks(&data, Some(worker.clone())))
        .await
        .expect("the next one starts");
    let recording = engine.recording(&id).expect("it is found");
    assert_eq!(
        ended(&recording).await,
        RecordingState::Ready,
        "{:?}",
        recording.info()
    );
    assert_eq!(worker.made(), [2, 3]);
    assert!(
        (recording.info().duration - 8.0).abs() < 0.2,
        "{:?}",
        recording.info()
    );
    assert!(
        recording.info().reason.is_none(),
        "nothing is missing: {:?}",
        recording.info()
    );
}
