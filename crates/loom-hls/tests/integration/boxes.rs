//! ffprobe and GStreamer judge init segments and chunks, codec by codec.

use std::path::Path;
use std::process::Command;

use crate::support::media::{self, aac_stream, h264_stream, hevc_stream, ivf_stream, opus_stream};
use crate::support::{Stream, package};
use loom_core::VideoCodec;
use loom_hls::{Packager, PackagerConfig};

/// What ffprobe says of the one stream of `file`, `name=value` a line.
fn probe(file: &Path) -> String {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_streams"])
        .arg(file)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Init segment and first segment as one file.
fn joined(stream: &Stream) -> (tempfile::TempDir, std::path::PathBuf) {
    let mut packager = Packager::new(PackagerConfig::default()).unwrap();
    let folder = package(&mut packager, std::slice::from_ref(stream), |_, _, _| {});
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("joined.mp4");
    let name = stream.info.id.as_str();
    let mut data = folder.files[&format!("{name}/init-0.mp4")].clone();
    for number in 1..=2 {
        data.extend(&folder.files[&format!("{name}/s{number}.m4s")]);
    }
    std::fs::write(&path, data).unwrap();
    (dir, path)
}

fn streams() -> [(Stream, &'static str); 6] {
    [
        (h264_stream("source", 320, 180, 3, 30, 2), "h264"),
        (hevc_stream("source", 320, 180, 3, 30), "hevc"),
        (ivf_stream("source", VideoCodec::Av1, 320, 180, 3, 30), "av1"),
        (ivf_stream("source", VideoCodec::Vp9, 320, 180, 3, 30), "vp9"),
        (aac_stream("aac", 3), "aac"),
        (opus_stream("opus", 3), "opus"),
    ]
}

#[test]
fn ffmpeg_decodes_every_codec_from_an_init_segment_and_segments() {
    if !media::have_ffmpeg() {
        return;
    }
    for (stream, codec) in streams() {
        let (_dir, path) = joined(&stream);
        let said = media::complaints_of_file(&path);
        assert!(said.is_empty(), "{codec}: {said}");
        let told = probe(&path);
        assert!(told.contains(&format!("codec_name={codec}\n")), "{told}");
    }
}

#[test]
fn colour_and_pixel_shape_of_hevc_stand_in_its_sample_entry() {
    if !media::have_ffmpeg() {
        return;
    }
    let (_dir, path) = joined(&hevc_stream("source", 320, 180, 3, 30));
    let told = probe(&path);
    for wanted in [
        "codec_tag_string=hvc1",
        "width=320",
        "height=180",
        "color_transfer=smpte2084",
        "color_primaries=bt2020",
        "color_space=bt2020nc",
        "sample_aspect_ratio=1:1",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
}

#[test]
fn gstreamer_takes_apart_every_codec() {
    let there = Command::new("gst-launch-1.0").arg("--version").output();
    if !media::have_ffmpeg() || there.is_err() {
        eprintln!("SKIPPED: gst-launch-1.0 is not installed");
        return;
    }
    for (stream, codec) in streams() {
        let (_dir, path) = joined(&stream);
        let output = Command::new("gst-launch-1.0")
            .arg("filesrc")
            .arg(format!("location={}", path.display()))
            .args(["!", "qtdemux", "!", "fakesink", "silent=false", "-v"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{codec}: {complaint}");
        let samples = text.matches("chain   ******").count();
        let least = stream.packets.len() / 3;
        assert!(samples > least, "{codec}: {samples} of {}", stream.packets.len());
    }
}
