//! Files that are read in processes of their own: the same comes of them, and what kills such a process kills no more.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use loom_engine::{ApartConfig, Engine, EngineConfig, EngineError, FileConfig, RecordingId, RecordingState};
use loom_transcode::{Apart, TranscodeError};

use crate::files::{files_of, film};
use crate::support::{config, ended};

/// The engine's example of that name, beside which cargo builds this program.
fn worker() -> PathBuf {
    let here = std::env::current_exe().expect("a path");
    let target = here.ancestors().nth(2).expect("it lies in deps");
    let worker = target.join("examples").join("worker");
    assert!(worker.is_file(), "{} is built with the tests", worker.display());
    worker
}

/// Processes that die as told, and how many there were of each kind.
struct Dying {
    folder: tempfile::TempDir,
    apart: ApartConfig,
}

impl Dying {
    fn new(deaths: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut apart = ApartConfig::new(worker());
        apart.arguments.push(folder.path().into());
        apart.arguments.extend(deaths.iter().map(Into::into));
        Self { folder, apart }
    }

    fn counts(&self) -> [usize; 4] {
        let names: Vec<String> = fs::read_dir(self.folder.path())
            .expect("a folder")
            .flatten()
            .map(|it| it.file_name().to_string_lossy().into_owned())
            .collect();
        ["Probe", "Chunks", "File", "Encode"]
            .map(|kind| names.iter().filter(|it| it.starts_with(kind)).count())
    }
}

/// What the film becomes, or why it becomes nothing.
async fn import(film: &Path, apart: Option<ApartConfig>) -> Result<Imported, EngineError> {
    let data = tempfile::tempdir_in(film.parent().expect("a folder")).expect("a folder");
    let copy = data.path().join("copy.mp4");
    fs::copy(film, &copy).expect("copied");
    let engine = Engine::start(EngineConfig {
        files: FileConfig {
            chunk: Duration::from_secs(2),
            at_once: 2,
            apart,
            ..FileConfig::default()
        },
        ..config(&data.path().join("data"))
    })
    .await?;
    let recording = engine.create(RecordingId::random())?;
    let taken = recording.import(copy).await;
    let state = ended(&recording).await;
    let info = recording.info();
    let told = info.reason.clone().unwrap_or_default();
    assert!(!told.contains("/data/"), "the server's own path: {told}");
    taken?;
    Ok(Imported {
        files: match state {
            RecordingState::Ready => files_of(&data.path().join("data"), &recording),
            _ => BTreeMap::new(),
        },
        names: info.renditions.iter().map(|it| it.id.to_string()).collect(),
        state,
        reason: told,
    })
}

#[derive(Debug)]
struct Imported {
    files: BTreeMap<String, Vec<u8>>,
    names: Vec<String>,
    state: RecordingState,
    reason: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn apart_a_file_becomes_the_same_to_the_byte_also_where_a_process_of_each_kind_dies() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(film) = film(folder.path()) else { return };
    let here = import(&film, None).await.expect("it is taken");
    assert_eq!(here.state, RecordingState::Ready);
    assert!(here.names.len() == 3 && here.files.len() > 6, "{:?}", here.names);
    // how many processes of each other kind there were, and how many encoded chunks
    let is_the_same = async |dying: Dying, others: usize, encoding: RangeInclusive<usize>| {
        let apart = import(&film, Some(dying.apart.clone()))
            .await
            .expect("it is taken");
        let counts = dying.counts();
        assert!(
            counts[..3] == [others; 3] && encoding.contains(&counts[3]),
            "{counts:?}"
        );
        assert!(
            apart.files == here.files,
            "{:?} and {:?}",
            apart.files.keys(),
            here.files.keys()
        );
    };
    // who has encoded a chunk encodes another
    is_the_same(Dying::new(&[]), 1, 1..=2).await;

    // Each once: the reader of chunks when it has said some, whatever else before it is done.
    let half = fs::metadata(&film).expect("a film").len();
    let dying = Dying::new(&[
        "Probe:10:1".to_owned(),
        format!("Chunks:{half}:1"),
        "File:20000:1".to_owned(),
        "Encode:5000:1".to_owned(),
    ]);
    is_the_same(dying, 2, 2..=3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kills_every_process_is_refused_or_ends_what_it_was_to_make() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(film) = film(folder.path()) else { return };
    let dies = |death: &str| Dying::new(&[death.to_owned()]);

    let probing = dies("Probe:10:9");
    let why = import(&film, Some(probing.apart.clone()))
        .await
        .expect_err("it is refused");
    let text = why.to_string();
    assert!(matches!(why, EngineError::BadMedia(_)), "{why:?}");
    assert!(
        text.contains("look at the file") && text.contains("SIGSEGV"),
        "{text}"
    );
    assert_eq!(probing.counts(), [2, 0, 0, 0]);

    let reading = dies("Chunks:0:9");
    let none = import(&film, Some(reading.apart.clone()))
        .await
        .expect("it is taken");
    assert_eq!(none.state, RecordingState::Failed, "{none:?}");
    let reason = &none.reason;
    assert!(
        reason.contains("read the pictures of the file") && reason.contains("SIGSEGV"),
        "{reason}"
    );
    assert_eq!(reading.counts(), [1, 2, 0, 0]);

    let encoding = dies("Encode:5000:99");
    let kept = import(&film, Some(encoding.apart.clone()))
        .await
        .expect("it is taken");
    assert_eq!(kept.state, RecordingState::Ready, "{}", kept.reason);
    assert_eq!(kept.names, ["source", "aac"]);

    let sounding = dies("File:20000:9");
    let silent = import(&film, Some(sounding.apart.clone()))
        .await
        .expect("it is taken");
    assert_eq!(silent.state, RecordingState::Ready, "{}", silent.reason);
    assert!(silent.names.iter().any(|it| it == "360p"), "{:?}", silent.names);
    assert_eq!(sounding.counts()[..3], [1, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_none_says_nothing_says_too_much_or_says_what_is_no_message_is_told_from_a_bad_file()
 {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a file");
    fs::write(&file, b"whatever").expect("written");
    let probe = async |script: &str| {
        let mut config = ApartConfig::new("sh");
        config.arguments = vec!["-c".into(), script.into()];
        config.stall = Duration::from_millis(300);
        let why = Apart::new(config)
            .probe(&file)
            .await
            .expect_err("it is no worker");
        assert!(matches!(why, TranscodeError::Apart { .. }), "{why:?}");
        let text = why.to_string();
        assert!(text.contains("to look at") && text.contains("a file"), "{text}");
        text
    };
    for (script, expected) in [
        ("exec sleep 1000", "stood still for 0.3 s"),
        ("exec yes 1>&0", "at once"),
        ("exec head -c 1000 /dev/zero 1>&0", "cannot be understood"),
        ("exit 3", "exit status: 3"),
        ("kill -s KILL $$", "SIGKILL"),
    ] {
        let text = probe(script).await;
        assert!(text.contains(expected), "{script}: {text}");
    }
    let nothing = Apart::new(ApartConfig::new(folder.path().join("nothing")));
    let text = nothing
        .probe(&file)
        .await
        .expect_err("there is no program")
        .to_string();
    assert!(text.contains("could not be started"), "{text}");

    // What is wrong with a file is told as it is here.
    let apart = Apart::new(ApartConfig::new(worker()));
    let there = apart.probe(&file).await.expect_err("it is text");
    let here = loom_transcode::probe_file(&file).expect_err("it is text");
    assert_eq!(there.to_string(), here.to_string());
    let gone = folder.path().join("gone");
    let (there, here) = (apart.probe(&gone).await, loom_transcode::probe_file(&gone));
    assert_eq!(format!("{there:?}"), format!("{here:?}"));
}
