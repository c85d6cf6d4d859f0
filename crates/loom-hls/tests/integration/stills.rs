//! Pictures that stand still: what is put between them, judged by decoders that are not ours.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::media::{self, h264_of_mp4, ivf_stream};
use crate::support::{Folder, Stream, package};
use loom_core::codec::h264;
use loom_core::{CodecParameters, MediaTime, Packet, VideoCodec};
use loom_hls::{Packager, PackagerConfig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A moving picture as x264 makes it.
fn x264(options: &[&str]) -> Stream {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made.mp4");
    let mut arguments = vec![
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=176x144:rate=10:duration=6",
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "libx264",
    ];
    arguments.extend_from_slice(options);
    arguments.extend_from_slice(&["-y", file.to_str().unwrap(), "-f", "null"]);
    media::ffmpeg(&arguments);
    h264_of_mp4("source", 176, 144, std::fs::read(&file).unwrap())
}

/// A moving picture as openh264 makes it; `None` where GStreamer has it not.
fn openh264(options: &[&str]) -> Option<Stream> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made.mp4");
    let location = format!("location={}", file.display());
    let mut arguments = vec!["-q", "videotestsrc", "num-buffers=60", "pattern=ball", "!"];
    arguments.extend_from_slice(&[
        "video/x-raw,width=176,height=144,framerate=10/1",
        "!",
        "openh264enc",
    ]);
    arguments.extend_from_slice(options);
    arguments.extend_from_slice(&["!", "h264parse", "!", "mp4mux", "!", "filesink", &location]);
    let done = Command::new("gst-launch-1.0").args(arguments).output().ok()?;
    if !done.status.success() {
        eprintln!("SKIPPED: {}", String::from_utf8_lossy(&done.stderr));
        return None;
    }
    Some(h264_of_mp4("source", 176, 144, std::fs::read(&file).unwrap()))
}

/// Times like those of a screen: bursts, and pictures that stand for up to three seconds.
fn retime(stream: &mut Stream, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut at = MediaTime::ZERO;
    for packet in &mut stream.packets {
        (packet.pts, packet.dts) = (at, at);
        at = at
            + Duration::from_millis(match rng.random_range(0..10) {
                0 => rng.random_range(1_000..3_000),
                1..4 => rng.random_range(150..800),
                _ => rng.random_range(15..120),
            });
    }
}

/// Each picture that ffmpeg decodes: when it is shown, seconds, and its MD5. Whatever it complains of fails the test.
fn pictures(input: &Path, arguments: &[&str]) -> Vec<(f64, String)> {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "warning", "-nostdin", "-xerror"])
        .args(arguments)
        .arg("-i")
        .arg(input)
        .args([
            "-map",
            "0:v:0",
            "-fps_mode",
            "passthrough",
            "-enc_time_base",
            "1:90000",
            "-f",
            "framemd5",
            "-",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{}: {said}",
        input.display()
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let fields = text.lines().filter(|l| !l.starts_with('#'));
    fields
        .map(|line| {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            (fields[2].parse::<f64>().unwrap() / 90_000.0, fields[5].to_owned())
        })
        .collect()
}

/// The stream as it was, with nothing of ours in it.
fn untouched(stream: &Stream, dir: &Path) -> Vec<(f64, String)> {
    let CodecParameters::Video(video) = &stream.codec else {
        panic!("sound")
    };
    let mut data = Vec::new();
    let file = match video.codec {
        VideoCodec::H264 => {
            let (sps, pps) = h264::parameter_sets(&video.config).unwrap();
            for nal in sps.iter().chain(&pps) {
                data.extend_from_slice(&[0, 0, 0, 1]);
                data.extend_from_slice(nal);
            }
            for packet in &stream.packets {
                for nal in h264::sample_nals(&packet.data).unwrap() {
                    data.extend_from_slice(&[0, 0, 0, 1]);
                    data.extend_from_slice(nal);
                }
            }
            dir.join("untouched.h264")
        }
        _ => {
            let av1 = video.codec == VideoCodec::Av1;
            data.extend_from_slice(b"DKIF\0\0\x20\0");
            data.extend_from_slice(if av1 { b"AV01" } else { b"VP90" });
            data.extend_from_slice(&(video.width as u16).to_le_bytes());
            data.extend_from_slice(&(video.height as u16).to_le_bytes());
            for number in [30_u32, 1, stream.packets.len() as u32, 0] {
                data.extend_from_slice(&number.to_le_bytes());
            }
            for (at, packet) in stream.packets.iter().enumerate() {
                // samples of AV1 have no temporal delimiters (AV1 Codec ISO Media File Format Binding §2.4)
                let delimiter: &[u8] = if av1 { &[0x12, 0] } else { &[] };
                data.extend_from_slice(&((delimiter.len() + packet.data.len()) as u32).to_le_bytes());
                data.extend_from_slice(&(at as u64).to_le_bytes());
                data.extend_from_slice(delimiter);
                data.extend_from_slice(&packet.data);
            }
            dir.join("untouched.ivf")
        }
    };
    std::fs::write(&file, data).unwrap();
    pictures(&file, &[])
}

/// Every part is at most its target and at least 85 % of it, but for the last of a segment (RFC 8216bis §4.4.4.9).
fn check_parts(playlists: &[String], target: f64) -> usize {
    let mut seen = std::collections::BTreeSet::new();
    for text in playlists {
        let mut parts: Vec<f64> = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("#EXT-X-PART:DURATION=") {
                let (duration, rest) = rest.split_once(",URI=\"").unwrap();
                let uri = rest.split_once('"').unwrap().0;
                seen.insert(uri.to_owned());
                parts.push(duration.parse().unwrap());
            } else if !line.starts_with('#') || line.starts_with("#EXT-X-PRELOAD-HINT") {
                let count = parts.len();
                for (at, duration) in parts.drain(..).enumerate() {
                    assert!(duration <= target + 1e-6, "{duration} s in\n{text}");
                    // where the segment goes on, the next playlist has another behind it
                    let last = at + 1 == count;
                    assert!(
                        last || duration >= target * 0.85 - 1e-6,
                        "{duration} s in\n{text}"
                    );
                }
            }
        }
    }
    seen.len()
}

/// Packages the stream and judges what comes out; gives how many repeats there are.
fn judge(name: &str, stream: Stream, part: Duration) -> usize {
    let config = PackagerConfig {
        part,
        ..PackagerConfig::default()
    };
    let mut packager = Packager::new(config).unwrap();
    let mut playlists = Vec::new();
    let streams = [stream];
    let folder: Folder = package(&mut packager, &streams, |_, folder, _| {
        if let Some(text) = folder.get("source/index.m3u8") {
            playlists.push(String::from_utf8(text).unwrap());
        }
    });
    let [stream] = streams;
    let dir = tempfile::tempdir().unwrap();
    folder.write_to(dir.path());
    let shown = pictures(
        &dir.path().join("source/index.m3u8"),
        &["-allowed_extensions", "ALL"],
    );
    let truth = untouched(&stream, dir.path());
    assert_eq!(
        truth.len(),
        stream.packets.len(),
        "{name}: ffmpeg decodes the stream itself"
    );
    let mut own = stream.packets.iter().zip(&truth).peekable();
    let (mut before, mut repeats) = (String::new(), 0);
    let zero = shown[0].0;
    for (at, picture) in shown {
        match own.next_if(|(packet, _)| (packet.pts.secs_f64() - at + zero).abs() < 0.000_05) {
            Some((_, (_, expected))) => {
                assert_eq!(&picture, expected, "{name}: the picture at {at} is another");
                before = picture;
            }
            None => {
                assert_eq!(picture, before, "{name}: the repeat at {at} is no repeat");
                repeats += 1;
            }
        }
    }
    assert!(own.peek().is_none(), "{name}: pictures are missing");
    if repeats > 0 {
        let parts = check_parts(&playlists, part.as_secs_f64());
        assert!(parts > 30, "{name}: {parts} parts");
    }
    eprintln!("{name}: {} pictures, {repeats} repeats", truth.len());
    repeats
}

const PARTS: [Duration; 2] = [Duration::from_millis(334), Duration::from_millis(200)];

#[test]
fn every_picture_of_x264_decodes_as_it_was_and_each_repeat_as_the_one_before() {
    if !media::have_ffmpeg() {
        return;
    }
    let kinds: [(&str, &[&str]); 10] = [
        (
            "zero latency",
            &["-preset", "veryfast", "-tune", "zerolatency", "-g", "20"],
        ),
        (
            "CAVLC",
            &[
                "-preset",
                "veryfast",
                "-x264-params",
                "bframes=0:cabac=0:keyint=20",
            ],
        ),
        (
            "baseline",
            &["-profile:v", "baseline", "-x264-params", "keyint=20:ref=1"],
        ),
        (
            "four references",
            &[
                "-preset",
                "slow",
                "-x264-params",
                "bframes=0:ref=4:keyint=20:weightp=2",
            ],
        ),
        (
            "two references, CAVLC",
            &["-x264-params", "bframes=0:ref=2:keyint=25:cabac=0:weightp=2"],
        ),
        (
            "slices",
            &["-x264-params", "bframes=0:slices=4:keyint=20:sliced-threads=1"],
        ),
        (
            "slices, CAVLC",
            &["-x264-params", "bframes=0:slices=4:keyint=20:cabac=0"],
        ),
        (
            "no deblocking",
            &["-x264-params", "bframes=0:no-deblock=1:keyint=20:ref=3"],
        ),
        (
            "one GOP",
            &[
                "-preset",
                "medium",
                "-x264-params",
                "bframes=0:keyint=infinite:scenecut=0:ref=3",
            ],
        ),
        (
            "high 4:4:4",
            &["-pix_fmt", "yuv444p", "-x264-params", "bframes=0:keyint=20"],
        ),
    ];
    for (seed, (name, options)) in kinds.into_iter().enumerate() {
        for part in PARTS {
            let mut stream = x264(options);
            retime(&mut stream, seed as u64);
            assert!(judge(name, stream, part) > 20, "{name}");
        }
    }
}

#[test]
fn every_picture_of_openh264_decodes_as_it_was() {
    if !media::have_ffmpeg() {
        return;
    }
    let kinds: [&[&str]; 3] = [
        &["gop-size=20"],
        &["gop-size=20", "slice-mode=n-slices", "num-slices=3"],
        &["gop-size=60", "complexity=high"],
    ];
    for (seed, options) in kinds.into_iter().enumerate() {
        let Some(mut stream) = openh264(options) else {
            return;
        };
        retime(&mut stream, seed as u64);
        assert!(judge("openh264", stream, PARTS[seed % 2]) > 20, "{options:?}");
    }
}

#[test]
fn every_frame_of_vp9_decodes_as_it_was() {
    if !media::have_ffmpeg() {
        return;
    }
    let mut stream = ivf_stream("source", VideoCodec::Vp9, 176, 144, 2, 20);
    retime(&mut stream, 5);
    assert!(judge("VP9", stream, PARTS[0]) > 20);
}

#[test]
fn every_frame_of_av1_decodes_as_it_was() {
    if !media::have_ffmpeg() {
        return;
    }
    let mut stream = ivf_stream("source", VideoCodec::Av1, 176, 144, 2, 20);
    retime(&mut stream, 5);
    // a key frame cannot be repeated: none stands long
    let mut drawn = Duration::ZERO;
    for at in 0..stream.packets.len() {
        let before = at
            .checked_sub(1)
            .map(|before| (stream.packets[before].key, stream.packets[before].pts));
        let packet = &mut stream.packets[at];
        let mut pts = packet.pts - drawn;
        if let Some((true, key)) = before {
            let stands = pts.since(key).saturating_sub(Duration::from_millis(60));
            drawn += stands;
            pts = pts - stands;
        }
        (packet.pts, packet.dts) = (pts, pts);
    }
    assert!(judge("AV1", stream, PARTS[0]) > 20);
}

/// Pictures of `late` (seconds of the stream) come all at once when its end has come, long after repeats have stood for them.
#[test]
fn pictures_that_repeats_have_overtaken_are_shown_at_once_and_in_their_order() {
    if !media::have_ffmpeg() {
        return;
    }
    for late in [2.0..2.8, 2.0..4.6] {
        let stream = x264(&["-preset", "veryfast", "-tune", "zerolatency", "-g", "20"]);
        let mut packager = Packager::new(PackagerConfig::default()).unwrap();
        packager.declare(stream.info.clone()).unwrap();
        packager
            .handle_format(&stream.info.id, stream.codec.clone())
            .unwrap();
        let mut folder = Folder::default();
        let mut left = stream.packets.iter().peekable();
        for step in 0..800 {
            let now = MediaTime::ZERO + Duration::from_millis(step * 10);
            let came = |packet: &&Packet| {
                let at = packet.dts.secs_f64();
                at <= now.secs_f64() && (!late.contains(&at) || now.secs_f64() >= late.end)
            };
            while let Some(packet) = left.next_if(came) {
                packager.handle_packet(&stream.info.id, packet.clone()).unwrap();
            }
            packager.handle_time(now).unwrap();
            folder.drain(&mut packager);
        }
        packager.finish().unwrap();
        folder.drain(&mut packager);
        let dir = tempfile::tempdir().unwrap();
        folder.write_to(dir.path());
        let shown = pictures(
            &dir.path().join("source/index.m3u8"),
            &["-allowed_extensions", "ALL"],
        );
        let mut truth = untouched(&stream, dir.path()).into_iter().peekable();
        for pair in shown.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{late:?}: {pair:?}");
        }
        let mut before = String::new();
        for (at, picture) in shown {
            match truth.next_if(|(_, own)| *own == picture) {
                Some(_) => before = picture,
                None => assert_eq!(
                    picture, before,
                    "{late:?}: at {at} there is neither the next nor a repeat"
                ),
            }
        }
        assert!(truth.peek().is_none(), "{late:?}: pictures are missing");
    }
}
