//! ffprobe, ffmpeg and m3u8-rs judge whole recordings.

use std::time::{Duration, SystemTime};

use crate::support::media::{self, aac_stream, h264_stream, ivf_stream, opus_stream};
use crate::support::{Folder, Stream, captions, package};
use loom_core::{Cue, CueId, CueState, MediaTime, VideoCodec, WallClock};
use loom_hls::{Packager, PackagerConfig};

fn live() -> PackagerConfig {
    PackagerConfig {
        zero: Some(WallClock {
            zero: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000),
        }),
        ..Default::default()
    }
}

/// ffmpeg decodes every rendition without a word, sees every packet at its time, and all end within 100 ms.
fn judge(folder: &Folder, streams: &[Stream]) {
    let dir = tempfile::tempdir().unwrap();
    folder.write_to(dir.path());
    let mut ends = Vec::new();
    for stream in streams {
        let name = stream.info.id.as_str();
        let playlist = dir.path().join(name).join("index.m3u8");
        let said = media::complaints(&playlist);
        assert!(said.is_empty(), "{name}: {said}");
        let mut seen = media::probe_packets(&playlist, "0");
        assert_eq!(seen.len(), stream.packets.len(), "{name}: packets");
        ends.push(seen.iter().map(|p| p.0 + p.2.max(0.0)).fold(0.0, f64::max));
        seen.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut pts: Vec<f64> = stream.packets.iter().map(|p| p.pts.secs_f64()).collect();
        pts.sort_by(f64::total_cmp);
        for (at, (seen, sent)) in seen.iter().zip(&pts).enumerate() {
            assert!(
                (seen.0 - sent).abs() < 0.002,
                "{name}: packet {at} at {}, sent for {sent}",
                seen.0
            );
        }
        let text = folder.stored(&format!("{name}/index.m3u8"));
        let parsed = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
        assert!(parsed.end_list && parsed.independent_segments, "{name}");
        assert_eq!(parsed.playlist_type, Some(m3u8_rs::MediaPlaylistType::Vod));
        let listed: f32 = parsed.segments.iter().map(|s| s.duration).sum();
        let last = ends.last().unwrap();
        assert!(
            (f64::from(listed) - last).abs() < 0.1,
            "{name}: {listed} s listed, {last} s there"
        );
        for segment in &parsed.segments {
            assert!(
                segment.duration.round() as u64 <= parsed.target_duration,
                "{name}: {segment:?}"
            );
        }
    }
    let (low, high) = ends.iter().fold((f64::MAX, 0.0_f64), |(low, high), end| {
        (low.min(*end), high.max(*end))
    });
    assert!(high - low < 0.1, "renditions end between {low} and {high}");
    let said = media::complaints(&dir.path().join("main.m3u8"));
    let said: Vec<&str> = said
        .lines()
        .filter(|l| !l.is_empty() && !l.contains("Can't support the subtitle"))
        .collect();
    assert!(said.is_empty(), "main.m3u8: {said:?}");
}

#[test]
fn ffmpeg_decodes_a_live_recording_with_two_renditions_two_kinds_of_sound_and_captions() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [
        h264_stream("source", 640, 360, 9, 60, 0),
        h264_stream("180p", 320, 180, 9, 60, 2),
        aac_stream("aac", 9),
        opus_stream("opus", 9),
    ];
    let mut packager = Packager::new(live()).unwrap();
    packager.declare(captions()).unwrap();
    let mut said = 0;
    let folder = package(&mut packager, &streams, |packager, _, at| {
        while MediaTime::from_millis(said * 1_500) < at {
            let cue = Cue {
                id: CueId(said as u64),
                start: MediaTime::from_millis(said * 1_500 - 1_400),
                end: MediaTime::from_millis(said * 1_500 + 200),
                text: format!("line {said} <&>"),
                words: Vec::new(),
                state: CueState::Final,
            };
            packager.handle_cue(cue).unwrap();
            packager
                .handle_cue_watermark(MediaTime::from_millis(said * 1_500))
                .unwrap();
            said += 1;
        }
    });
    judge(&folder, &streams);

    let text = folder.stored("main.m3u8");
    let main = m3u8_rs::parse_master_playlist_res(text.as_bytes()).unwrap();
    let sizes: Vec<_> = main
        .variants
        .iter()
        .map(|v| v.resolution.unwrap().height)
        .collect();
    assert!(sizes.contains(&360) && sizes.contains(&180), "{text}");
    for variant in main.variants.iter().filter(|v| !v.is_i_frame) {
        assert!(variant.codecs.as_ref().unwrap().starts_with("avc1.64"), "{text}");
        assert_eq!(variant.subtitles.as_deref(), Some("subs"));
        assert!(variant.average_bandwidth.unwrap() <= variant.bandwidth, "{text}");
    }
    // every segment boundary is at the same instant in every rendition of pictures
    let lengths = |name: &str| -> Vec<String> {
        let text = folder.stored(&format!("{name}/index.m3u8"));
        text.lines()
            .filter(|l| l.starts_with("#EXTINF"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(lengths("source"), lengths("180p"));
    assert_eq!(lengths("source"), lengths("captions"));

    let dir = tempfile::tempdir().unwrap();
    folder.write_to(dir.path());
    let cues: usize = (1..=5)
        .map(|n| media::probe_packets(&dir.path().join(format!("captions/s{n}.vtt")), "0").len())
        .sum();
    assert!(
        cues >= 9,
        "{cues} cues, those that span two segments counted twice"
    );
}

#[test]
fn ffmpeg_decodes_av1_and_vp9_of_a_file_in_whole_segments() {
    if !media::have_ffmpeg() {
        return;
    }
    for codec in [VideoCodec::Av1, VideoCodec::Vp9] {
        let streams = [ivf_stream("source", codec, 320, 180, 5, 50), aac_stream("aac", 5)];
        let config = PackagerConfig::file(Duration::from_secs(4), Duration::from_secs(4));
        let mut packager = Packager::new(config).unwrap();
        let folder = package(&mut packager, &streams, |_, _, _| {});
        judge(&folder, &streams);
    }
}

#[test]
fn pictures_alone_and_sound_alone_are_recordings() {
    if !media::have_ffmpeg() {
        return;
    }
    for stream in [
        h264_stream("source", 320, 180, 5, 30, 0),
        aac_stream("aac", 5),
        opus_stream("opus", 5),
    ] {
        let mut packager = Packager::new(live()).unwrap();
        let streams = [stream];
        let folder = package(&mut packager, &streams, |_, _, _| {});
        judge(&folder, &streams);
        let main = m3u8_rs::parse_master_playlist_res(folder.stored("main.m3u8").as_bytes()).unwrap();
        assert_eq!(main.variants.iter().filter(|v| !v.is_i_frame).count(), 1);
    }
}
