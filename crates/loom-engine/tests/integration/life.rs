//! A recording's life through the engine, with real codecs. The media is made by ffmpeg, where that is installed.

mod edits;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use loom_engine::{
    Engine, EngineConfig, EngineError, Event, HlsAnswer, Recording, RecordingId, RecordingState, Wanted,
};

use crate::support::{config, ended};

/// Six seconds of moving pictures and a tone; `None`, loudly, where there is no ffmpeg.
fn film(folder: &Path) -> Option<PathBuf> {
    let path = folder.join("film.mp4");
    let made = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=640x480:rate=25",
        ])
        .args([
            "-f",
            "lavfi",
            "-i",
            "sine=frequency=440:sample_rate=48000",
            "-t",
            "6",
        ])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-pix_fmt",
            "yuv420p",
            "-g",
            "50",
            "-c:a",
            "aac",
        ])
        .arg(&path)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no ffmpeg to make a film with");
        return None;
    }
    Some(path)
}

async fn text(recording: &Recording, path: &str) -> String {
    match recording.hls(path, None).await {
        HlsAnswer::Ready { body, .. } => String::from_utf8(body.to_vec()).expect("a playlist is text"),
        other => panic!("{path}: {other:?}"),
    }
}

/// Every file that `playlist` names is there.
async fn assert_whole(recording: &Recording, folder: &str, playlist: &str) {
    let parsed = m3u8_rs::parse_media_playlist_res(playlist.as_bytes()).expect("a media playlist");
    assert!(parsed.end_list, "{playlist}");
    assert!(!parsed.segments.is_empty());
    for segment in &parsed.segments {
        let path = format!("{folder}/{}", segment.uri);
        match recording.hls(&path, None).await {
            HlsAnswer::Ready { body, .. } => assert!(!body.is_empty(), "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_becomes_a_recording_that_plays_and_can_be_downloaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(film) = film(folder.path()) else { return };
    let engine = Engine::start(config(&folder.path().join("data")))
        .await
        .expect("the engine starts");
    let recording = engine.create(RecordingId::random()).expect("a recording");
    recording.import(film.clone()).await.expect("the file is taken");
    assert_eq!(
        ended(&recording).await,
        RecordingState::Ready,
        "{:?}",
        recording.info()
    );
    assert!(!film.exists(), "the engine took the file over");

    let info = recording.info();
    assert!((info.duration - 6.0).abs() < 0.2, "{info:?}");
    let main = text(&recording, "main.m3u8").await;
    let parsed = m3u8_rs::parse_master_playlist_res(main.as_bytes()).expect("a multivariant playlist");
    assert!(parsed.variants.len() >= 2, "{main}");
    for rendition in &info.renditions {
        let path = format!("{}/index.m3u8", rendition.id);
        assert_whole(&recording, rendition.id.as_str(), &text(&recording, &path).await).await;
    }
    // a sub-range of it, and a key picture of each segment
    let name = parsed.variants[0]
        .uri
        .split('/')
        .next()
        .expect("a folder")
        .to_owned();
    let clip = text(&recording, &format!("clip/4.5-5/{name}/index.m3u8")).await;
    let clip = m3u8_rs::parse_media_playlist_res(clip.as_bytes()).expect("a clip");
    let length: f32 = clip.segments.iter().map(|s| s.duration).sum();
    assert!(clip.end_list && (1.5..3.0).contains(&length), "{clip:?}");
    assert!(
        clip.segments.iter().all(|s| s.program_date_time.is_some()),
        "{clip:?}"
    );
    match recording.hls("main.m3u8", Some("start=2")).await {
        HlsAnswer::Ready { body, .. } => {
            let main = String::from_utf8_lossy(&body);
            assert!(main.contains("#EXT-X-START:TIME-OFFSET=2.000000"), "{main}");
        }
        other => panic!("{other:?}"),
    }
    let frames = text(&recording, &format!("{name}/iframes.m3u8")).await;
    assert!(
        frames.contains("#EXT-X-I-FRAMES-ONLY\n#EXT-X-I") && frames.contains("#EXT-X-BYTERANGE:"),
        "{frames}"
    );
    assert!(recording.poster().is_some());
    let preview = recording.preview().expect("a preview");
    assert!(preview.metadata().expect("a file").len() <= 200_000);
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-of", "csv=p=0"])
        .args([
            "-show_entries",
            "stream=codec_name,width,height,nb_read_frames:format=duration",
        ])
        .arg(&preview)
        .output();
    let probed = String::from_utf8_lossy(&probed.expect("ffprobe runs").stdout).into_owned();
    assert_eq!(
        probed.split_whitespace().collect::<Vec<_>>(),
        ["h264,320,240,3", "3.000000"],
        "pictures alone, of three moments"
    );
    let download = recording.download(&Default::default()).await.expect("a download");
    let film = folder.path().join("download.mp4");
    download.write_to(&film).expect("it is written");
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "stream=codec_name"])
        .arg(&film)
        .output();
    let probed = String::from_utf8_lossy(&probed.expect("ffprobe runs").stdout).into_owned();
    assert!(probed.contains("h264") && probed.contains("aac"), "{probed}");

    recording.delete().await.expect("it is deleted");
    assert!(matches!(
        engine.recording(recording.id()),
        Err(EngineError::NotFound(_))
    ));
    assert!(engine.recordings().expect("a list").is_empty());
}

/// What ffmpeg calls the hash of each packet of a stream.
fn hashes(input: &Path, stream: &str) -> Vec<String> {
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(input)
        .args(["-map", stream, "-c", "copy", "-f", "framehash", "-"])
        .output()
        .expect("ffmpeg runs");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let of_packets = text.lines().filter(|line| !line.starts_with('#'));
    let hash = |line: &str| line.rsplit(',').next().unwrap_or_default().trim().to_owned();
    of_packets.map(hash).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_alone_is_kept_bit_for_bit_where_nothing_else_is_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(film) = film(folder.path()) else { return };
    // before and after
    let (pictures, sound) = (hashes(&film, "0:v"), hashes(&film, "0:a"));
    let engine = Engine::start(EngineConfig {
        ladder: Wanted::source_only(),
        ..config(&folder.path().join("data"))
    })
    .await
    .expect("the engine starts");
    let recording = engine.create(RecordingId::random()).expect("a recording");
    recording.import(film).await.expect("the file is taken");
    assert_eq!(ended(&recording).await, RecordingState::Ready);
    let info = recording.info();
    let ids: Vec<&str> = info.renditions.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(ids, ["source", "aac"], "{info:?}");
    let root = folder
        .path()
        .join("data/recordings")
        .join(recording.id().as_str());
    let kept = hashes(&root.join("hls/source/index.m3u8"), "0:v");
    assert!(pictures.len() == 150 && pictures == kept, "pictures");
    // What primes the decoder lies before zero, what fills its last block behind the end: neither is heard.
    let kept = hashes(&root.join("hls/aac/index.m3u8"), "0:a");
    assert!(kept.len() + 2 >= sound.len(), "{} of {}", kept.len(), sound.len());
    assert!(sound.windows(kept.len()).any(|some| some == kept), "sound");
    assert!(
        !root.join("speech.pcm").exists() && recording.poster().is_none() && recording.preview().is_none()
    );
    assert!(info.loudness.is_none(), "its sound was not decoded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_a_crash_cut_off_is_finished_from_its_own_parts() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(film) = film(folder.path()) else { return };
    let data = folder.path().join("data");
    let id = RecordingId::random();
    {
        let engine = Engine::start(config(&data)).await.expect("the engine starts");
        let recording = engine.create(id.clone()).expect("a recording");
        recording.import(film).await.expect("the file is taken");
        assert_eq!(ended(&recording).await, RecordingState::Ready);
    }
    // What a killed process leaves: a state that says `live`, and playlists without their end.
    let root = data.join("recordings").join(id.as_str());
    let info = fs::read_to_string(root.join("recording.json")).expect("its state");
    // another rendition was declared, and nothing of it had come
    let mut info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    info["state"] = "live".into();
    let mut declared = info["renditions"][0].clone();
    declared["id"] = "240p".into();
    info["renditions"]
        .as_array_mut()
        .expect("renditions")
        .push(declared);
    fs::write(root.join("recording.json"), info.to_string()).expect("written");
    fs::create_dir(root.join("hls/240p")).expect("a folder");
    let gap = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-GAP\n#EXTINF:2,\ns1.m4s\n";
    fs::write(root.join("hls/240p/index.m3u8"), gap).expect("written");
    let playlists: Vec<PathBuf> = fs::read_dir(root.join("hls"))
        .expect("a folder")
        .flatten()
        .map(|entry| entry.path().join("index.m3u8"))
        .filter(|path| path.is_file())
        .collect();
    for path in &playlists {
        let text = fs::read_to_string(path)
            .expect("a playlist")
            .replace("#EXT-X-ENDLIST\n", "");
        fs::write(path, text + "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p63.m4s\"\n").expect("written");
    }
    // one playlist of key pictures was not written yet, another lacks its last segments
    let mut frames: Vec<PathBuf> = playlists
        .iter()
        .map(|it| it.with_file_name("iframes.m3u8"))
        .collect();
    frames.retain(|path| path.is_file());
    let whole: Vec<String> = frames
        .iter()
        .map(|path| fs::read_to_string(path).expect("a playlist"))
        .collect();
    assert!(frames.len() > 1, "{frames:?}");
    fs::remove_file(&frames[0]).expect("removed");
    let cut = whole[1].rmatch_indices("#EXTINF").nth(1).expect("two segments").0;
    fs::write(&frames[1], &whole[1][..cut]).expect("written");
    // captions were announced, and nothing had been said
    let main = root.join("hls/main.m3u8");
    let named = "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"subs\",NAME=\"English\",LANGUAGE=\"en\",URI=\"captions/index.m3u8\"\n";
    let pictures = "#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"avc1.42c01e\"\n240p/index.m3u8\n";
    let announced = fs::read_to_string(&main).expect("a playlist") + named + pictures;
    fs::write(&main, announced).expect("written");

    let engine = Engine::start(config(&data))
        .await
        .expect("the engine starts again");
    assert_eq!(engine.recordings().expect("a list"), std::slice::from_ref(&id));
    let recording = engine.recording(&id).expect("it is found");
    assert_eq!(ended(&recording).await, RecordingState::Ready);
    let info = recording.info();
    assert!(
        info.reason.as_deref().is_some_and(|why| why.contains("cut off")),
        "{info:?}"
    );
    let media = info.renditions.iter().map(|it| it.id.as_str());
    for rendition in media.chain(["captions"]) {
        let playlist = text(&recording, &format!("{rendition}/index.m3u8")).await;
        assert!(!playlist.contains("PRELOAD-HINT"), "{playlist}");
        assert_whole(&recording, rendition, &playlist).await;
    }
    assert!(
        info.renditions.iter().all(|it| it.id.as_str() != "240p"),
        "{info:?}"
    );
    assert!(!fs::read_to_string(&main).expect("a playlist").contains("240p"));
    assert!(!root.join("hls/240p/index.m3u8").exists());
    for (path, whole) in frames.iter().zip(&whole) {
        let completed = fs::read_to_string(path).expect("a playlist");
        let segments = |text: &str| text[text.find("#EXT-X-MAP").expect("a map")..].to_owned();
        assert_eq!(segments(&completed), segments(whole), "{path:?}");
        assert!(completed.contains("#EXT-X-I-FRAMES-ONLY\n"), "{completed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_media_fails_with_a_sentence_and_harms_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(config(&folder.path().join("data")))
        .await
        .expect("the engine starts");
    for (name, content) in [("empty", &b""[..]), ("text", b"this is no film\n")] {
        let path = folder.path().join(name);
        fs::write(&path, content).expect("written");
        let recording = engine.create(RecordingId::random()).expect("a recording");
        let refused = recording.import(path).await;
        assert!(
            matches!(refused, Err(EngineError::BadMedia(_))),
            "{name}: {refused:?}"
        );
        let info = recording.info();
        assert_eq!(info.state, RecordingState::Failed);
        assert!(
            info.reason
                .is_some_and(|why| !why.contains(&*folder.path().to_string_lossy())),
            "{name}"
        );
        assert!(matches!(
            recording.import(folder.path().join("again")).await,
            Err(EngineError::WrongState { .. })
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_callers_at_once_one_begins_it_and_all_who_end_it_are_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(config(&folder.path().join("data")))
        .await
        .expect("the engine starts");
    for round in 0..10 {
        let recording = engine.create(RecordingId::random()).expect("a recording");
        let files = (0..8).map(|nth| folder.path().join(format!("{round}-{nth}")));
        let imports = files.map(|path| {
            fs::write(&path, b"this is no film\n").expect("written");
            let recording = recording.clone();
            tokio::spawn(async move { recording.import(path).await })
        });
        let imports: Vec<_> = imports.collect();
        let mut begun = 0;
        for import in imports {
            match import.await.expect("no panic") {
                Err(EngineError::BadMedia(_)) => begun += 1,
                Err(EngineError::AlreadyPublished(_) | EngineError::WrongState { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(begun, 1, "one of them has begun it");

        let recording = engine.create(RecordingId::random()).expect("a recording");
        let mut events = recording.events();
        let end = |nth: usize| {
            let recording = recording.clone();
            tokio::spawn(async move {
                match nth % 2 {
                    0 => recording.stop().await,
                    _ => recording.delete().await,
                }
            })
        };
        for ended in (0..8).map(end).collect::<Vec<_>>() {
            ended
                .await
                .expect("no panic")
                .expect("to end what has ended is no error");
        }
        let mut told = Vec::new();
        while let Some(event) = events.next().await {
            if let Event::State { state, .. } = event {
                told.push(state);
            }
        }
        assert_eq!(told[0], RecordingState::Created);
        assert!(
            told.len() == 2 && told[1].is_final(),
            "one of them has ended it: {told:?}"
        );
        assert_eq!(recording.info().state, RecordingState::Deleted);
        let path = folder
            .path()
            .join("data/recordings")
            .join(recording.id().as_str());
        assert!(!path.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_offer_leaves_the_recording_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(config(folder.path()))
        .await
        .expect("the engine starts");
    let recording = engine.create(RecordingId::random()).expect("a recording");
    assert!(matches!(
        recording.publish("this is no SDP").await,
        Err(EngineError::BadOffer(_))
    ));
    assert_eq!(recording.info().state, RecordingState::Created);
    assert!(matches!(
        engine.create(recording.id().clone()),
        Err(EngineError::Exists(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_nobody_uses_fails_in_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let unused_after = Duration::from_millis(50);
    let engine = Engine::start(EngineConfig {
        unused_after,
        ..config(folder.path())
    })
    .await
    .expect("the engine starts");
    let recording = engine.create(RecordingId::random()).expect("a recording");
    assert_eq!(ended(&recording).await, RecordingState::Failed);
    assert!(
        recording
            .info()
            .reason
            .is_some_and(|why| why.contains("nobody published"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_recording_gives_its_key_to_who_may_watch_and_no_download() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(film) = film(folder.path()) else { return };
    let mut config = config(&folder.path().join("data"));
    config.encryption = Some(loom_engine::EncryptionConfig::new(
        loom_engine::EncryptionScheme::Segments,
    ));
    let engine = Engine::start(config).await.expect("the engine starts");
    let recording = engine.create(RecordingId::random()).expect("a recording");
    recording.import(film).await.expect("the file is taken");
    assert_eq!(
        ended(&recording).await,
        RecordingState::Ready,
        "{:?}",
        recording.info()
    );
    let key = match recording.hls("key-0.bin", None).await {
        HlsAnswer::Ready {
            body, cache_control, ..
        } => {
            assert_eq!((body.len(), cache_control), (16, "no-store"));
            body
        }
        other => panic!("{other:?}"),
    };
    for rendition in &recording.info().renditions {
        let name = &rendition.id;
        let playlist = text(&recording, &format!("{name}/index.m3u8")).await;
        let parsed = m3u8_rs::parse_media_playlist_res(playlist.as_bytes()).expect("a playlist");
        let told = parsed.segments[0].key.clone().expect("a key is named");
        assert_eq!(told.uri.as_deref(), Some("../key-0.bin"), "{playlist}");
        let HlsAnswer::Ready { body, .. } = recording.hls(&format!("{name}/s1.m4s"), None).await else {
            panic!("{name}: no segment");
        };
        let sealed = folder.path().join("sealed");
        std::fs::write(&sealed, &body).expect("it is written");
        let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
        let opened = Command::new("openssl")
            .args([
                "enc",
                "-d",
                "-aes-128-cbc",
                "-K",
                &hex,
                "-iv",
                &told.iv.expect("a vector")[2..],
                "-in",
            ])
            .arg(&sealed)
            .output()
            .expect("openssl runs");
        assert!(
            opened.status.success(),
            "{}",
            String::from_utf8_lossy(&opened.stderr)
        );
        assert_eq!(&opened.stdout[4..8], b"styp", "{name}");
    }
    assert!(matches!(
        recording.download(&Default::default()).await,
        Err(EngineError::Download(_))
    ));
}
