//! Storage faults under the real engine: what is pushed live is recorded on a disk that fills up, fails, or loses its power at a random
//! instant, and is held against what viewers had been shown. Each seed stands for itself: `FAULT_SEED=17 FAULT_RUNS=1` repeats one.

mod disk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use crate::disk::Files;
use crate::{
    CaptionsConfig, Engine, EngineConfig, HlsAnswer, IngestConfig, MediaTime, PushTrack, Recording,
    RecordingId, RecordingState, Wanted,
};

use disk::{Fault, Faulty};

/// The length of a part.
const PART: Duration = Duration::from_millis(200);

/// How often all is written to the disk.
const WINDOW: Duration = Duration::from_millis(50);

/// How long is recorded.
const LENGTH: Duration = Duration::from_millis(3_600);

fn config(data: &Path) -> EngineConfig {
    EngineConfig {
        data_dir: data.to_owned(),
        ingest: IngestConfig {
            udp: ([127, 0, 0, 1], 0).into(),
            ..IngestConfig::default()
        },
        captions: CaptionsConfig {
            enabled: false,
            ..CaptionsConfig::default()
        },
        ladder: Wanted::source_only(),
        segment: Duration::from_secs(1),
        part: PART,
        sync_every: WINDOW,
        min_free_space: 0,
        ..EngineConfig::default()
    }
}

/// What is pushed: pictures and sound, encoded.
struct Media {
    units: Vec<Bytes>,
    frames: Vec<Bytes>,
}

impl Media {
    /// `None`, loudly, where there is no ffmpeg.
    fn make(folder: &Path) -> Option<Self> {
        let ffmpeg = |name: &str, arguments: &str| {
            let path = folder.join(name);
            let made = Command::new("ffmpeg")
                .args(["-v", "error", "-y"])
                .args(arguments.split_whitespace())
                .arg(&path)
                .status();
            if !made.is_ok_and(|status| status.success()) {
                eprintln!("SKIPPED: no ffmpeg that makes {name}");
                return None;
            }
            std::fs::read(path).ok()
        };
        let seconds = LENGTH.as_secs_f64();
        let video = format!(
            "-f lavfi -i testsrc2=size=320x240:rate=25 -t {seconds} -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25 -bf 0 \
             -bsf:v h264_metadata=aud=insert -f h264"
        );
        let sound =
            format!("-f lavfi -i sine=frequency=440:sample_rate=48000 -t {seconds} -ac 2 -c:a aac -f adts");
        let (video, sound) = (ffmpeg("film.h264", &video)?, ffmpeg("sound.aac", &sound)?);
        let begins = |at: &usize| video[*at..].starts_with(&[0, 0, 0, 1, 9]);
        let starts: Vec<usize> = (0..video.len()).filter(begins).collect();
        let ends = starts.iter().skip(1).copied().chain([video.len()]);
        let units = starts
            .iter()
            .zip(ends)
            .map(|(from, to)| Bytes::copy_from_slice(&video[*from..to]));
        let mut frames = Vec::new();
        let mut rest = &sound[..];
        while rest.len() > 7 {
            // ISO/IEC 13818-7 §6.2
            let len = usize::from(rest[3] & 3) << 11 | usize::from(rest[4]) << 3 | usize::from(rest[5]) >> 5;
            frames.push(Bytes::copy_from_slice(&rest[7..len]));
            rest = &rest[len..];
        }
        Some(Self {
            units: units.collect(),
            frames,
        })
    }

    /// Pushes it as time passes; ends early where it is not taken any more.
    async fn push(&self, recording: &Recording) {
        let tracks = vec![
            PushTrack::H264 { avcc: None },
            PushTrack::Aac {
                config: Bytes::from_static(&[0x11, 0x90]),
            },
        ];
        let Ok(pusher) = recording.push(tracks).await else {
            return;
        };
        let pictures = (0..).zip(&self.units).map(|(nth, unit)| (nth * 40, 0, unit));
        let sounds = (0..)
            .zip(&self.frames)
            .map(|(nth, frame)| (nth * 1024 / 48, 1, frame));
        let mut items: Vec<(i64, usize, &Bytes)> = pictures.chain(sounds).collect();
        items.sort_by_key(|(at, ..)| *at);
        let began = Instant::now();
        for (at, track, data) in items {
            let due = Duration::from_millis(at.unsigned_abs());
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            let at = MediaTime::from_millis(at);
            if pusher.packet(track, at, at, data.clone()).is_err() {
                return;
            }
        }
        pusher.finish();
    }
}

/// One injected fault and what came of it.
struct Outcome {
    seed: u64,
    fault: Fault,
    /// Calls that failed.
    injected: u64,
    /// Seconds that were listed and are not there.
    lost: f64,
    /// Seconds that are there.
    kept: f64,
}

fn fault(rng: &mut StdRng) -> Fault {
    let lasts = Duration::from_millis(rng.random_range(50..1_800));
    let at = rng.random_range(30..260);
    match rng.random_range(0..6) {
        0 => Fault::Full(at, lasts),
        1 => Fault::Broken(at, lasts),
        2 => Fault::FullThenCut(at, lasts, at + rng.random_range(5..60)),
        _ => Fault::PowerCut(at + rng.random_range(0..150)),
    }
}

/// What the playlists show of each rendition, seconds: the most of it.
async fn shown(recording: &Recording, most: &mut BTreeMap<String, f64>) {
    for rendition in recording.info().renditions {
        if let HlsAnswer::Ready { body, .. } =
            recording.hls(&format!("{}/index.m3u8", rendition.id), None).await
        {
            let seconds = listed(&String::from_utf8_lossy(&body));
            let known = most.entry(rendition.id.to_string()).or_default();
            *known = known.max(seconds);
        }
    }
}

/// Seconds up to the end of the last part or segment.
fn listed(playlist: &str) -> f64 {
    let (mut seconds, mut parts) = (0.0, 0.0);
    let number = |text: &str| {
        text.split([',', '\n'])
            .next()
            .and_then(|it| it.parse::<f64>().ok())
    };
    for line in playlist.lines() {
        if let Some(length) = line.strip_prefix("#EXTINF:").and_then(number) {
            (seconds, parts) = (seconds + length, 0.0);
        } else if line.starts_with("#EXT-X-PART:") {
            parts += line
                .split_once("DURATION=")
                .and_then(|(_, it)| number(it))
                .unwrap_or_default();
        }
    }
    seconds + parts
}

async fn over(recording: &Recording, seed: u64) -> RecordingState {
    let wait = async {
        let mut events = recording.events();
        while events.next().await.is_some() {}
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
    assert!(waited.is_ok(), "seed {seed}: {:?} never ends", recording.info());
    recording.info().state
}

/// Records on a faulty disk, and looks at what is there afterwards.
async fn inject(media: &Media, seed: u64, judged: bool) -> Outcome {
    let mut rng = StdRng::seed_from_u64(seed);
    let fault = fault(&mut rng);
    let (before, after) = (
        TempDir::new().expect("a folder"),
        TempDir::new().expect("a folder"),
    );
    let disk = Arc::new(Faulty::new(before.path(), seed, fault));
    let engine = Engine::start_on(disk.clone(), config(before.path()))
        .await
        .expect("the engine starts");
    let id = RecordingId::new(&format!("seed-{seed}")).expect("a name");
    let recording = engine
        .create(id.clone())
        .expect("it is made before anything fails");
    let cuts = matches!(fault, Fault::PowerCut(_) | Fault::FullThenCut(..));
    let mut most = BTreeMap::new();
    let whole = async {
        media.push(&recording).await;
        if !cuts {
            over(&recording, seed).await;
        }
    };
    let watched = async {
        loop {
            shown(&recording, &mut most).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = whole => {}
        () = disk.cut.notified() => {}
        () = watched => {}
    }
    shown(&recording, &mut most).await;
    let mut synced = BTreeMap::new();
    let root = match cuts {
        true => {
            disk.cut_now();
            synced = disk.synced();
            disk.survive(after.path()).expect("a disk for what survived");
            after.path()
        }
        false => before.path(),
    };
    let injected = disk.injected() + u64::from(disk.is_off());
    drop((recording, engine));

    // the next process, on a disk that works
    let config = EngineConfig {
        sync_every: Duration::ZERO,
        ..config(root)
    };
    let engine = Engine::start_on(Arc::new(Files), config)
        .await
        .expect("the engine starts again");
    let certain = synced.keys().any(|name| name.ends_with("recording.json"));
    let mut outcome = Outcome {
        seed,
        fault,
        injected,
        lost: 0.0,
        kept: 0.0,
    };
    let recording = match engine.recording(&id) {
        Ok(recording) => recording,
        Err(why) => {
            assert!(cuts && !certain, "seed {seed}: {why}");
            return outcome;
        }
    };
    let state = over(&recording, seed).await;
    let info = recording.info();
    if most.values().all(|seconds| *seconds == 0.0) {
        return outcome;
    }
    let short = most.values().all(|seconds| *seconds <= PART.as_secs_f64() + 0.03);
    if cuts && short && state == RecordingState::Failed {
        outcome.lost = most.values().copied().fold(0.0, f64::max);
        return outcome;
    }
    assert_eq!(
        state,
        RecordingState::Ready,
        "seed {seed}, {fault:?}: {info:?}, shown was {most:?}"
    );
    assert_eq!(
        engine.recordings().expect("a list"),
        std::slice::from_ref(&id),
        "seed {seed}: one object"
    );
    let jobs = recording.jobs();
    assert!(
        jobs.iter().all(|it| it.state == crate::JobState::Done),
        "seed {seed}: {jobs:?}"
    );
    let mut now = BTreeMap::new();
    shown(&recording, &mut now).await;
    let folder = Path::new("recordings").join(id.as_str()).join("hls");
    for (rendition, before_it) in &most {
        let kept = now.get(rendition).copied().unwrap_or_default();
        outcome.kept = outcome.kept.max(kept);
        outcome.lost = outcome.lost.max(before_it - kept);
        let HlsAnswer::Ready { body, .. } = recording.hls(&format!("{rendition}/index.m3u8"), None).await
        else {
            panic!("seed {seed}: {rendition} was shown and has no playlist");
        };
        let text = String::from_utf8_lossy(&body).into_owned();
        let playlist = m3u8_rs::parse_media_playlist_res(text.as_bytes()).expect("a media playlist");
        assert!(
            playlist.end_list && !text.contains("EXT-X-PART:"),
            "seed {seed}: {text}"
        );
        for segment in &playlist.segments {
            let gap = segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP");
            let name = folder.join(rendition).join(&segment.uri);
            let Ok(data) = std::fs::read(root.join(&name)) else {
                assert!(gap, "seed {seed}: {} is listed and not there", name.display());
                continue;
            };
            let memory = std::fs::read(before.path().join(&name)).expect("it was written");
            assert!(
                !data.is_empty() && memory.starts_with(&data),
                "seed {seed}, {fault:?}: {} is not what was written",
                name.display()
            );
        }
        if matches!(fault, Fault::PowerCut(_)) {
            assert_nothing_synced_is_lost(seed, root, &folder.join(rendition), &synced, &text);
        }
    }
    if judged {
        judge(&recording, seed).await;
    }
    outcome
}

/// Every part that was on the disk for certain is listed: segments are at least as long as they were then.
fn assert_nothing_synced_is_lost(
    seed: u64,
    root: &Path,
    folder: &Path,
    synced: &BTreeMap<PathBuf, u64>,
    playlist: &str,
) {
    let segments = synced.iter().filter(|(name, len)| {
        let is_segment = name.extension().is_some_and(|it| it == "m4s");
        is_segment && name.parent() == Some(folder) && **len > 0
    });
    for (name, len) in segments {
        let file = name.file_name().unwrap_or_default().to_string_lossy();
        assert!(
            playlist.lines().any(|line| line == file),
            "seed {seed}: {} was on the disk and is not listed: {playlist}",
            name.display()
        );
        let kept = std::fs::metadata(root.join(name)).map_or(0, |about| about.len());
        assert!(
            kept >= *len,
            "seed {seed}: {} had {len} bytes on the disk, and has {kept}",
            name.display()
        );
    }
}

/// ffmpeg decodes all of it without a complaint.
async fn judge(recording: &Recording, seed: u64) {
    let folder = TempDir::new().expect("a folder");
    let film = folder.path().join("film.mp4");
    let download = recording.download(&Default::default()).await.expect("a download");
    download.write_to(&film).expect("it is written");
    let judged = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-xerror", "-i"])
        .arg(&film)
        // without a time base of its own the null muxer counts in whole pictures, and complains where two fall on one number
        .args([
            "-map",
            "0",
            "-fps_mode",
            "passthrough",
            "-enc_time_base:v",
            "1:90000",
        ])
        .args(["-f", "null", "-"])
        .output()
        .expect("ffmpeg runs");
    let said = String::from_utf8_lossy(&judged.stderr);
    assert!(
        judged.status.success() && said.trim().is_empty(),
        "seed {seed}: {said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_be_ready_is_whole_whatever_a_power_cut_takes() {
    let folder = TempDir::new().expect("a folder");
    let Some(media) = Media::make(folder.path()) else {
        return;
    };
    let before = TempDir::new().expect("a folder");
    let disk = Arc::new(Faulty::new(before.path(), 7, Fault::PowerCut(u64::MAX)));
    // nothing is on the disk for certain but what is waited for
    let config = |root: &Path| EngineConfig {
        sync_every: Duration::from_secs(3_600),
        ..config(root)
    };
    let engine = Engine::start_on(disk.clone(), config(before.path()))
        .await
        .expect("the engine starts");
    let recording = engine
        .create(RecordingId::new("ready").expect("a name"))
        .expect("a recording");
    media.push(&recording).await;
    assert_eq!(over(&recording, 0).await, RecordingState::Ready);
    let seconds = recording.info().duration;
    let id = recording.info().id;
    disk.cut_now();
    drop((recording, engine));
    for nth in 0..20 {
        let after = TempDir::new().expect("a folder");
        disk.survive(after.path()).expect("a disk for what survived");
        let engine = Engine::start_on(Arc::new(Files), config(after.path()))
            .await
            .expect("the engine starts again");
        let recording = engine.recording(&id).expect("it is there");
        assert_eq!(over(&recording, nth).await, RecordingState::Ready);
        assert!(recording.info().reason.is_none(), "{:?}", recording.info());
        for rendition in recording.info().renditions {
            let name = format!("{}/index.m3u8", rendition.id);
            let HlsAnswer::Ready { body, .. } = recording.hls(&name, None).await else {
                panic!("power cut {nth}: {name} is not there");
            };
            let text = String::from_utf8_lossy(&body);
            assert!(text.contains("#EXT-X-ENDLIST"), "power cut {nth}: {text}");
            assert!(listed(&text) > seconds - 0.1, "power cut {nth}: {text}");
        }
        judge(&recording, nth).await;
    }
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn through_full_failing_and_powerless_disks_what_was_shown_is_there() {
    let (seed, runs) = (asked("FAULT_SEED").unwrap_or(0), asked("FAULT_RUNS").unwrap_or(8));
    let folder = TempDir::new().expect("a folder");
    let Some(media) = Media::make(folder.path()) else {
        return;
    };
    let began = Instant::now();
    let injections = (seed..seed + runs).map(|seed| inject(&media, seed, true));
    let outcomes: Vec<Outcome> = stream::iter(injections).buffer_unordered(AT_ONCE).collect().await;
    for it in &outcomes {
        let Outcome {
            seed,
            fault,
            injected,
            lost,
            kept,
        } = it;
        println!("seed {seed}: {fault:?}, {injected} calls failed, {lost:.3} s lost, {kept:.2} s kept");
    }
    let worst = outcomes.iter().map(|it| it.lost).fold(0.0, f64::max);
    let injected: u64 = outcomes.iter().map(|it| it.injected).sum();
    let hurt = outcomes.iter().filter(|it| it.injected > 0).count();
    println!(
        "{runs} faults from seed {seed}, {hurt} of them while something was recorded ({injected} calls failed), in {:?}: at most {worst:.3} s lost \
         of what had been listed; a part is {PART:?}, all is written to the disk every {WINDOW:?}",
        began.elapsed()
    );
    assert!(injected > 0);
    // a frame of sound may end a part a little later
    assert!(worst <= PART.as_secs_f64() + 0.03, "{worst} s lost");
}

/// Recordings at a time: they take as long as they last.
const AT_ONCE: usize = 12;
