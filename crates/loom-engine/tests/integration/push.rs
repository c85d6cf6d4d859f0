//! What a host pushes becomes a recording as a publisher's media does. The encoded media is made by ffmpeg, which judges the result too.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use loom_engine::{
    Engine, EngineError, HlsAnswer, I420, MediaTime, PushTrack, Pusher, Recording, RecordingId,
    RecordingState,
};

use crate::support::{config, ended};

async fn engine(data_dir: &Path) -> Engine {
    Engine::start(config(data_dir)).await.expect("the engine starts")
}

/// Runs ffmpeg and gives the file it wrote; `None`, loudly, where there is none.
fn ffmpeg(out: &Path, arguments: &str) -> Option<Vec<u8>> {
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(arguments.split_whitespace())
        .arg(out)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no ffmpeg that makes {}", out.display());
        return None;
    }
    std::fs::read(out).ok()
}

/// Access units of a byte stream that has a delimiter (NAL type 9) before each.
fn access_units(stream: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = (0..stream.len().saturating_sub(5))
        .filter(|at| stream[*at..].starts_with(&[0, 0, 0, 1, 9]))
        .collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| &stream[*start..end])
        .collect()
}

/// Raw frames of an ADTS stream (ISO/IEC 13818-7 §6.2), whose headers have 7 bytes.
fn adts_frames(stream: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    let mut rest = stream;
    while rest.len() > 7 {
        let length = usize::from(rest[3] & 3) << 11 | usize::from(rest[4]) << 3 | usize::from(rest[5]) >> 5;
        frames.push(&rest[7..length]);
        rest = &rest[length..];
    }
    frames
}

/// Frames of an IVF file: a header of 32 bytes, and 12 before each frame, the first four its length.
fn ivf_frames(file: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    let mut rest = &file[32..];
    while let Some(head) = rest.first_chunk::<4>() {
        let end = 12 + u32::from_le_bytes(*head) as usize;
        frames.push(&rest[12..end]);
        rest = &rest[end..];
    }
    frames
}

/// An item a host pushes: the track, its time in milliseconds, and how.
pub(crate) struct Item<'a> {
    track: usize,
    at: i64,
    what: What<'a>,
}

pub(crate) enum What<'a> {
    Packet(&'a [u8]),
    Picture,
    Sound(Vec<f32>),
}

/// Pushes as time passes, from a clock that is at an hour when it begins.
pub(crate) async fn push_all(pusher: &Pusher, mut items: Vec<Item<'_>>) {
    items.sort_by_key(|it| it.at);
    let began = Instant::now();
    for item in items {
        let due = Duration::from_millis(item.at.unsigned_abs());
        tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        let at = MediaTime::from_millis(3_600_000 + item.at);
        match item.what {
            What::Packet(data) => {
                let data = bytes::Bytes::copy_from_slice(data);
                pusher.packet(item.track, at, at, data).expect("it is taken");
            }
            What::Picture => {
                let (luma, chroma) = drawn(item.at);
                let picture = I420 {
                    planes: [&luma, &chroma, &chroma],
                    strides: [320, 160, 160],
                };
                pusher.picture(item.track, at, &picture).expect("it is taken");
            }
            What::Sound(samples) => {
                assert!(pusher.sound(item.track, at, &samples).expect("it is taken"));
            }
        }
    }
}

/// A bar that moves over grey, 320x240.
fn drawn(at: i64) -> (Vec<u8>, Vec<u8>) {
    let bar = (at as usize / 10) % 300;
    let row: Vec<u8> = (0..320)
        .map(|x| if (bar..bar + 20).contains(&x) { 220 } else { 90 })
        .collect();
    (row.repeat(240), vec![128; 160 * 120])
}

/// A tone of 440 Hz in stretches of 20 ms, stereo at 48 kHz.
pub(crate) fn tone(track: usize, millis: i64) -> impl Iterator<Item = Item<'static>> {
    (0..millis / 20).map(move |part| {
        let frames = (0..960).map(|frame| (part * 960 + frame) as f32 / 48_000.0);
        let samples = frames.flat_map(|at| [(at * 440.0 * std::f32::consts::TAU).sin() * 0.3; 2]);
        Item {
            track,
            at: part * 20,
            what: What::Sound(samples.collect()),
        }
    })
}

/// What ffprobe decodes of a stream of the exported recording: its codec, and how many frames.
fn probed(folder: &Path, stream: &str) -> (String, u32) {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-allowed_extensions",
            "ALL",
            "-count_frames",
            "-select_streams",
            stream,
        ])
        .args([
            "-show_entries",
            "stream=codec_name,nb_read_frames",
            "-of",
            "csv=p=0",
        ])
        .arg(folder)
        .output()
        .expect("ffprobe comes with ffmpeg");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().next().unwrap_or_default();
    let (codec, frames) = line
        .split_once(',')
        .unwrap_or_else(|| panic!("{folder:?}: {text} {errors}"));
    (
        codec.to_owned(),
        frames.trim_matches(',').parse().unwrap_or_default(),
    )
}

async fn exported(recording: &Recording, folder: &Path) {
    assert_eq!(
        ended(recording).await,
        RecordingState::Ready,
        "{:?}",
        recording.info()
    );
    recording.export_hls(folder).expect("it is exported");
}

#[tokio::test(flavor = "multi_thread")]
async fn encoded_h264_and_aac_are_kept_as_they_came() {
    let folder = tempfile::tempdir().expect("a folder");
    let video = "-f lavfi -i testsrc2=size=320x240:rate=25 -t 4 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25 -bf 0 -bsf:v h264_metadata=aud=insert -f h264";
    let sound = "-f lavfi -i sine=frequency=440:sample_rate=48000 -t 4 -ac 2 -c:a aac -f adts";
    let (Some(video), Some(sound)) = (
        ffmpeg(&folder.path().join("film.h264"), video),
        ffmpeg(&folder.path().join("sound.aac"), sound),
    ) else {
        return;
    };
    let (units, frames) = (access_units(&video), adts_frames(&sound));
    assert_eq!(units.len(), 100);
    let engine = engine(&folder.path().join("data")).await;
    let recording = engine.create(RecordingId::random()).expect("a recording");
    let tracks = vec![
        PushTrack::H264 { avcc: None },
        PushTrack::Aac {
            config: bytes::Bytes::from_static(&[0x11, 0x90]),
        },
    ];
    let pusher = recording.push(tracks).await.expect("it can be pushed to");
    let pictures = (0..).zip(&units).map(|(n, unit)| Item {
        track: 0,
        at: n * 40,
        what: What::Packet(unit),
    });
    let sounds = (0..).zip(&frames).map(|(n, frame)| Item {
        track: 1,
        at: n * 1024 / 48,
        what: What::Packet(frame),
    });
    push_all(&pusher, pictures.chain(sounds).collect()).await;
    assert_eq!(recording.info().state, RecordingState::Live);
    pusher.finish();
    let out = folder.path().join("hls");
    exported(&recording, &out).await;
    assert_eq!(
        probed(&out.join("source/index.m3u8"), "v:0"),
        ("h264".to_owned(), 100)
    );
    let (codec, heard) = probed(&out.join("aac/index.m3u8"), "a:0");
    assert_eq!(codec, "aac");
    assert!(
        heard.abs_diff(frames.len() as u32) <= 2,
        "{heard} of {}",
        frames.len()
    );
    let HlsAnswer::Ready { body, .. } = recording.hls("source/index.m3u8", None).await else {
        panic!("the playlist is there");
    };
    let playlist = m3u8_rs::parse_media_playlist_res(&body).expect("a media playlist");
    assert!(playlist.end_list);
    let length: f32 = playlist.segments.iter().map(|it| it.duration).sum();
    assert!((3.9..4.2).contains(&length), "{length} s of 4 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_pictures_and_sound_are_encoded_and_key_frames_begin_segments() {
    let folder = tempfile::tempdir().expect("a folder");
    if Command::new("ffprobe").arg("-version").output().is_err() {
        eprintln!("SKIPPED: no ffprobe");
        return;
    }
    let engine = engine(&folder.path().join("data")).await;
    let recording = engine.create(RecordingId::random()).expect("a recording");
    let tracks = vec![
        PushTrack::Pictures {
            width: 320,
            height: 240,
            frame_rate: 25.0,
        },
        PushTrack::Sound {
            sample_rate: 48_000,
            channels: 2,
        },
    ];
    let pusher = recording.push(tracks).await.expect("it can be pushed to");
    let pictures = (0..150).map(|n| Item {
        track: 0,
        at: n * 40,
        what: What::Picture,
    });
    push_all(&pusher, pictures.chain(tone(1, 6_000)).collect()).await;
    pusher.finish();
    let out = folder.path().join("hls");
    exported(&recording, &out).await;
    let (codec, seen) = probed(&out.join("source/index.m3u8"), "v:0");
    assert_eq!(codec, "h264");
    // live, a picture is dropped where the machine is behind, and one that stands is repeated
    assert!((120..=160).contains(&seen), "{seen} pictures of 150");
    let (codec, heard) = probed(&out.join("opus/index.m3u8"), "a:0");
    assert_eq!(codec, "opus");
    assert!((295..=302).contains(&heard), "{heard} packets of 300");
    // two channels of a sine 10.5 dB below full scale: K-weighting takes some half a decibel at 440 Hz (ITU-R BS.1770-4 Annex 1)
    let loudness = recording.info().loudness.expect("it was measured while it came");
    assert!((-11.5..-10.3).contains(&loudness.integrated), "{loudness:?}");
    assert!((-11.0..-10.0).contains(&loudness.true_peak), "{loudness:?}");
    assert!(loudness.range < 1.0 && loudness.gain.is_none(), "{loudness:?}");
    let (codec, moments) = probed(
        &recording.preview().expect("a live recording has a preview"),
        "v:0",
    );
    assert_eq!(codec, "h264");
    assert!(
        (2..=4).contains(&moments),
        "{moments} moments, one every two seconds"
    );
    let HlsAnswer::Ready { body, .. } = recording.hls("source/index.m3u8", None).await else {
        panic!("the playlist is there");
    };
    let playlist = m3u8_rs::parse_media_playlist_res(&body).expect("a media playlist");
    assert!(
        playlist.segments.len() >= 3,
        "a key frame was made every 2 s: {playlist:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn vp8_is_taken_and_another_pusher_goes_on_behind_a_pause() {
    let folder = tempfile::tempdir().expect("a folder");
    let video = "-f lavfi -i testsrc2=size=320x240:rate=25 -t 2 -c:v libvpx -deadline realtime -cpu-used 8 -g 25 -f ivf";
    let Some(file) = ffmpeg(&folder.path().join("film.ivf"), video) else {
        return;
    };
    let frames = ivf_frames(&file);
    let items = || {
        let pictures = (0..).zip(&frames).map(|(n, frame)| Item {
            track: 0,
            at: n * 40,
            what: What::Packet(frame),
        });
        pictures.collect::<Vec<_>>()
    };
    let engine = engine(&folder.path().join("data")).await;
    let recording = engine.create(RecordingId::random()).expect("a recording");
    let first = recording
        .push(vec![PushTrack::Vp8])
        .await
        .expect("it can be pushed to");
    push_all(&first, items()).await;
    recording.pause().await.expect("it rests");
    let second = recording
        .push(vec![PushTrack::Vp8])
        .await
        .expect("another may come");
    recording.resume().await.expect("it goes on");
    push_all(&second, items()).await;
    second.finish();
    assert_eq!(
        ended(&recording).await,
        RecordingState::Ready,
        "{:?}",
        recording.info()
    );
    let at = MediaTime::from_millis(1);
    let refused = first.packet(0, at, at, bytes::Bytes::from_static(b"x"));
    assert!(
        matches!(refused, Err(EngineError::WrongState { .. })),
        "{refused:?}"
    );
    let length = recording.info().duration;
    assert!((3.5..4.6).contains(&length), "{length} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(&folder.path().join("data")).await;
    let recording = engine.create(RecordingId::random()).expect("a recording");
    let ms = MediaTime::from_millis;
    let opus = || bytes::Bytes::from_static(&[0xf8, 0xff, 0xfe]);
    for tracks in [
        vec![],
        vec![PushTrack::Vp8; 17],
        vec![PushTrack::Opus { channels: 3 }],
        vec![PushTrack::Pictures {
            width: 3,
            height: 240,
            frame_rate: 25.0,
        }],
        vec![PushTrack::Sound {
            sample_rate: 1,
            channels: 2,
        }],
    ] {
        let refused = recording.push(tracks).await.map(|_| ());
        assert!(matches!(refused, Err(EngineError::BadPush { .. })), "{refused:?}");
    }
    let size = PushTrack::Pictures {
        width: 320,
        height: 240,
        frame_rate: 25.0,
    };
    let pusher = recording
        .push(vec![PushTrack::Opus { channels: 2 }, size])
        .await
        .expect("a pusher");
    pusher.packet(0, ms(100), ms(100), opus()).expect("it is taken");
    let picture = |rows: usize| (vec![0; 320 * rows], vec![0; 160 * 120]);
    let (short, chroma) = picture(239);
    let short = I420 {
        planes: [&short, &chroma, &chroma],
        strides: [320, 160, 160],
    };
    let refusals = [
        (pusher.packet(0, ms(100), ms(100), opus()), "not later"),
        (pusher.packet(0, ms(50), ms(50), opus()), "before the first"),
        (pusher.packet(0, ms(200), ms(300), opus()), "decoded at"),
        (pusher.packet(0, ms(200), ms(200), bytes::Bytes::new()), "0 bytes"),
        (
            pusher.packet(0, ms(200), ms(200), bytes::Bytes::from_static(&[0xfb])),
            "Opus packet",
        ),
        (pusher.packet(1, ms(200), ms(200), opus()), "declared as raw"),
        (pusher.packet(2, ms(200), ms(200), opus()), "2 tracks"),
        (pusher.picture(0, ms(200), &short).map(|_| ()), "something else"),
        (pusher.picture(1, ms(200), &short).map(|_| ()), "239"),
        (pusher.sound(1, ms(200), &[0.0]).map(|_| ()), "something else"),
    ];
    for (refused, part) in refusals {
        let Err(EngineError::BadPush { why, .. }) = &refused else {
            panic!("{refused:?}, where {part:?} was to be said");
        };
        assert!(
            why.contains(part) || part == "239" && why.contains("76480"),
            "{why}, where {part:?} was to be said"
        );
    }
    let mut taken = 0;
    let behind = loop {
        taken += 1;
        let at = ms(100 + taken * 20);
        match pusher.packet(0, at, at, opus()) {
            Ok(()) => assert!(taken < 2_000, "the queue has an end"),
            Err(why) => break why,
        }
    };
    assert!(matches!(behind, EngineError::Behind), "{behind}");
    recording.stop().await.expect("it stops at once, whatever waits");
    assert!(recording.info().duration < 5.0, "{:?}", recording.info());
}
