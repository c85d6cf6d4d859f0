//! The `mp4` crate, ffprobe and ffmpeg judge progressive files.

use std::io::Cursor;
use std::time::Duration;

use crate::support::media::{self, aac_stream, h264_stream, hevc_stream, ivf_stream, opus_stream};
use crate::support::{Folder, Stream, id, package};
use loom_core::{MediaTime, VideoCodec};
use loom_hls::progressive::{self, Layout, Source, TrackFiles};
use loom_hls::{Packager, PackagerConfig, Stills};

fn download(folder: &Folder, names: &[&str]) -> (Vec<u8>, Duration) {
    let tracks: Vec<TrackFiles> = names
        .iter()
        .map(|name| {
            TrackFiles::from_playlist(&id(name), &folder.stored(&format!("{name}/index.m3u8"))).unwrap()
        })
        .collect();
    let mut out = Vec::new();
    let open = |key: &str| {
        folder
            .files
            .get(key)
            .cloned()
            .map(Cursor::new)
            .ok_or(std::io::ErrorKind::NotFound.into())
    };
    let written = progressive::write(&tracks, open, &mut out).unwrap();
    assert_eq!(written.bytes, out.len() as u64);
    (out, written.duration)
}

fn later(mut stream: Stream, by: Duration) -> Stream {
    for packet in &mut stream.packets {
        packet.pts = packet.pts + by;
        packet.dts = packet.dts + by;
    }
    stream
}

#[test]
fn a_download_starts_with_its_index_and_keeps_the_offset_between_pictures_and_sound() {
    if !media::have_ffmpeg() {
        return;
    }
    let offset = Duration::from_millis(340);
    for bframes in [0, 2] {
        let streams = [
            later(h264_stream("source", 320, 180, 7, 60, bframes), offset),
            aac_stream("aac", 7),
        ];
        let config = PackagerConfig {
            stills: Stills::Kept, // the samples are compared with those sent
            ..PackagerConfig::default()
        };
        let mut packager = Packager::new(config).unwrap();
        let folder = package(&mut packager, &streams, |_, _, _| {});
        let (file, duration) = download(&folder, &["source", "aac"]);
        assert!((7_300..7_420).contains(&duration.as_millis()), "{duration:?}");
        let moov = file.windows(4).position(|w| w == b"moov").unwrap();
        let mdat = file.windows(4).position(|w| w == b"mdat").unwrap();
        assert!(moov < mdat);

        let mut reader = mp4::Mp4Reader::read_header(Cursor::new(&file), file.len() as u64).unwrap();
        for (track, stream) in (1..).zip(&streams) {
            assert_eq!(reader.sample_count(track).unwrap() as usize, stream.packets.len());
            for n in [1, 2, stream.packets.len()] {
                let sample = reader.read_sample(track, n as u32).unwrap().unwrap();
                assert_eq!(
                    sample.bytes,
                    stream.packets[n - 1].data,
                    "track {track}, sample {n}"
                );
                assert_eq!(sample.is_sync, stream.packets[n - 1].key || track == 2);
            }
        }

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("download.mp4");
        std::fs::write(&path, &file).unwrap();
        let said = media::complaints_of_file(&path);
        assert!(said.is_empty(), "{said}");
        let first = |select: &str| {
            media::probe_packets(&path, select)
                .iter()
                .map(|p| p.0)
                .fold(f64::MAX, f64::min)
        };
        let apart = first("v:0") - first("a:0");
        assert!(
            (apart - offset.as_secs_f64()).abs() < 0.002,
            "{bframes} B pictures: {apart}"
        );
        assert_eq!(media::probe_packets(&path, "v:0").len(), streams[0].packets.len());
    }
}

#[test]
fn other_codecs_one_track_and_a_gap_make_downloads_too() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [
        ivf_stream("source", VideoCodec::Vp9, 320, 180, 3, 30),
        opus_stream("opus", 3),
    ];
    let mut packager = Packager::new(PackagerConfig::default()).unwrap();
    let folder = package(&mut packager, &streams, |_, _, _| {});
    let dir = tempfile::tempdir().unwrap();
    for (names, at) in [(&["source", "opus"][..], 0), (&["opus"], 1), (&["source"], 2)] {
        let (file, _) = download(&folder, names);
        let path = dir.path().join(format!("{at}.mp4"));
        std::fs::write(&path, &file).unwrap();
        let said = media::complaints_of_file(&path);
        assert!(said.is_empty(), "{names:?}: {said}");
    }

    let mut lossy = aac_stream("aac", 6);
    lossy
        .packets
        .retain(|p| !(MediaTime::from_millis(2_500)..MediaTime::from_millis(3_300)).contains(&p.pts));
    let config = PackagerConfig {
        stills: Stills::Kept, // no silence in the hole
        ..PackagerConfig::default()
    };
    let mut packager = Packager::new(config).unwrap();
    let folder = package(&mut packager, &[lossy.clone()], |_, _, _| {});
    let (file, _) = download(&folder, &["aac"]);
    let path = dir.path().join("gap.mp4");
    std::fs::write(&path, &file).unwrap();
    let seen = media::probe_packets(&path, "a:0");
    assert_eq!(seen.len(), lossy.packets.len());
    for (seen, sent) in seen.iter().zip(&lossy.packets) {
        assert!(
            (seen.0 - sent.pts.secs_f64()).abs() < 0.002,
            "{} for {}",
            seen.0,
            sent.pts
        );
    }
}

#[test]
fn any_range_of_a_download_is_there_before_the_file_is() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [
        hevc_stream("source", 320, 180, 4, 30),
        ivf_stream("av1", VideoCodec::Av1, 320, 180, 4, 30),
        aac_stream("aac", 4),
        opus_stream("opus", 4),
    ];
    let mut packager = Packager::new(PackagerConfig::default()).unwrap();
    let folder = package(&mut packager, &streams, |_, _, _| {});
    let open = |key: &str| {
        let file = folder.files.get(key).cloned().map(Cursor::new);
        file.ok_or(std::io::Error::from(std::io::ErrorKind::NotFound))
    };
    let dir = tempfile::tempdir().unwrap();
    for names in [["source", "aac"], ["source", "opus"], ["av1", "opus"]] {
        let (whole, _) = download(&folder, &names);
        let path = dir.path().join("whole.mp4");
        std::fs::write(&path, &whole).unwrap();
        let said = media::complaints_of_file(&path);
        assert!(said.is_empty(), "{names:?}: {said}");
        let tracks = names.map(|name| {
            TrackFiles::from_playlist(&id(name), &folder.stored(&format!("{name}/index.m3u8"))).unwrap()
        });
        let layout = Layout::new(&tracks, open).unwrap();
        assert_eq!(layout.len(), whole.len() as u64);
        let read = |range: std::ops::Range<u64>| -> Vec<u8> {
            let pieces = layout.range(range).map(|source| match source {
                Source::Bytes(bytes) => bytes.to_vec(),
                Source::Stored { key, offset, len } => {
                    folder.files[&*key][offset as usize..(offset + len) as usize].to_vec()
                }
                _ => unreachable!("no other source exists"),
            });
            pieces.flatten().collect()
        };
        let len = layout.len();
        for (from, to) in [
            (0, len),
            (0, 1),
            (len - 1, len + 9),
            (len, len + 1),
            (700, 900),
            (5_000, 60_001),
        ] {
            let wanted = &whole[from.min(len) as usize..to.min(len) as usize];
            assert!(read(from..to) == wanted, "{names:?}: {from}..{to}");
        }
        for at in (0..len).step_by(997) {
            assert!(
                read(at..at + 1_500) == whole[at as usize..(at as usize + 1_500).min(whole.len())],
                "{at}"
            );
        }
    }
}
