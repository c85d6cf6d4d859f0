//! ffmpeg plays the DASH manifest, live and complete.

mod support;

use std::path::Path;
use std::time::{Duration, SystemTime};

use loom_core::{MediaTime, WallClock};
use loom_hls::{Answer, Body, ContentKey, Encryption, EncryptionScheme, KeyBytes, Packager, PackagerConfig};
use support::media::{self, aac_stream, h264_stream, opus_stream};
use support::{Folder, package};

fn live() -> PackagerConfig {
    PackagerConfig {
        zero: Some(WallClock {
            zero: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000),
        }),
        ..Default::default()
    }
}

fn manifest(folder: &Folder) -> Option<String> {
    match folder.origin.handle_request("manifest.mpd", None) {
        Answer::Ready(response) => {
            assert_eq!(response.content_type, "application/dash+xml");
            let Body::Bytes(text) = response.body else {
                panic!("it is in memory")
            };
            Some(String::from_utf8(text.to_vec()).unwrap())
        }
        _ => None,
    }
}

#[test]
fn ffmpeg_plays_every_representation_of_a_finished_recording() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [
        h264_stream("source", 320, 180, 9, 60, 0),
        h264_stream("180p", 160, 90, 9, 60, 2),
        aac_stream("aac", 9),
        opus_stream("opus", 9),
    ];
    let mut packager = Packager::new(live()).unwrap();
    let folder = package(&mut packager, &streams, |_, _, _| {});
    let dir = tempfile::tempdir().unwrap();
    folder.write_to(dir.path());
    let path = dir.path().join("manifest.mpd");
    let text = folder.stored("manifest.mpd");
    assert!(
        text.contains("type=\"static\"") && text.contains("mediaPresentationDuration=\"PT9."),
        "{text}"
    );
    assert_eq!(text.matches("<Period ").count(), 1, "{text}");
    assert_eq!(text.matches("<AdaptationSet ").count(), 3, "{text}");
    // ffmpeg orders them by kind, and then as they stand; ids are in order
    for (select, stream) in [("v:0", 1), ("v:1", 0), ("a:0", 2), ("a:1", 3)] {
        assert_eq!(
            media::probe_packets(&path, select).len(),
            streams[stream].packets.len(),
            "{select}: {text}"
        );
    }
    let said = media::complaints(&path);
    assert!(said.lines().all(|line| line.contains("dash")), "{said}");
    if let Some(kept) = std::env::var_os("LOOM_KEEP_DASH") {
        folder.write_to(Path::new(&kept));
    }
}

#[test]
fn a_live_manifest_lists_what_has_been_closed_and_grows() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [h264_stream("source", 320, 180, 9, 60, 0), aac_stream("aac", 9)];
    let mut packager = Packager::new(live()).unwrap();
    let mut seen: Vec<String> = Vec::new();
    package(&mut packager, &streams, |_, folder, at| {
        let text = manifest(folder);
        if at < MediaTime::from_millis(300) {
            assert!(text.is_none(), "nothing is closed by {at}");
        }
        if let Some(text) = text.filter(|text| seen.last() != Some(text)) {
            seen.push(text);
        }
    });
    assert!(seen.len() >= 6, "{} versions", seen.len());
    for text in &seen {
        assert!(text.contains("type=\"dynamic\" minBufferTime"), "{text}");
        assert!(
            text.contains("availabilityStartTime=\"2026-11-18T11:06:40.000Z\""),
            "{text}"
        );
        assert!(text.contains("urn:mpeg:dash:utc:http-head:2014"), "{text}");
        assert!(
            text.contains("<ProducerReferenceTime ") && text.contains("<Latency "),
            "{text}"
        );
        // both kinds of media are there from the first version on
        assert_eq!(text.matches("<AdaptationSet ").count(), 2, "{text}");
    }
    assert!(seen.is_sorted_by_key(String::len) || seen.last().unwrap().len() >= seen[0].len());
}

#[test]
fn a_gap_and_a_new_key_begin_periods() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [h264_stream("source", 320, 180, 8, 60, 0), aac_stream("aac", 8)];
    let key = |period: u8| ContentKey {
        period: period.into(),
        id: [period + 1; 16],
        key: KeyBytes::new([period + 7; 16]),
        iv: [9; 16],
        uri: format!("key-{period}.bin"),
        formats: Vec::new(),
        pssh: Vec::new(),
    };
    let config = PackagerConfig {
        encryption: Some(Encryption {
            scheme: EncryptionScheme::Cbcs,
            rotation: std::num::NonZeroU32::new(2),
        }),
        ..live()
    };
    let mut packager = Packager::new(config).unwrap();
    for period in 0..4 {
        packager.handle_key(key(period)).unwrap();
    }
    let folder = package(&mut packager, &streams, |_, _, _| {});
    let text = folder.stored("manifest.mpd");
    let periods = text.matches("<Period ").count();
    assert!(periods >= 2, "{text}");
    let second = "cenc:default_KID=\"02020202-0202-0202-0202-020202020202\"";
    assert!(text.contains("value=\"cbcs\"") && text.contains(second), "{text}");

    let mut packager = Packager::new(live()).unwrap();
    let mut away = false;
    let folder = package(&mut packager, &streams, |packager, _, at| {
        if at > MediaTime::from_millis(3_500) && !away {
            away = true;
            let end = packager.handle_absence().unwrap();
            packager.handle_return(end + Duration::from_millis(700)).unwrap();
        }
    });
    let text = folder.stored("manifest.mpd");
    assert!(text.matches("<Period ").count() >= 2, "{text}");
}

#[test]
fn whole_segments_that_are_encrypted_have_no_manifest() {
    let mut packager = Packager::new(PackagerConfig {
        encryption: Some(Encryption {
            scheme: EncryptionScheme::Segments,
            rotation: None,
        }),
        ..live()
    })
    .unwrap();
    let mut folder = Folder::default();
    folder.drain(&mut packager);
    packager.finish().unwrap();
    folder.drain(&mut packager);
    assert!(!folder.files.contains_key("manifest.mpd"));
    assert_eq!(
        folder.origin.handle_request("manifest.mpd", None),
        Answer::NotFound
    );
}
