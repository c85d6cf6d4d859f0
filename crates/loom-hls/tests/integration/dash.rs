//! ffmpeg plays the DASH manifest, live and complete.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::support::media::{self, aac_stream, h264_stream, opus_stream};
use crate::support::{Folder, package};
use loom_core::{Cue, CueId, CueState, MediaTime, Picture, PictureFormat, WallClock};
use loom_hls::{
    Answer, Body, ContentKey, Encryption, EncryptionScheme, HlsOutput, KeyBytes, Packager, PackagerConfig,
    SpriteConfig, Sprites, TextForm,
};

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
fn pictures_that_are_made_later_are_listed_with_the_sound_that_is_there() {
    if !media::have_ffmpeg() {
        return;
    }
    let [source, sound] = [h264_stream("source", 320, 180, 9, 60, 0), aac_stream("aac", 9)];
    let recorded = package(
        &mut Packager::new(live()).unwrap(),
        &[source, sound.clone()],
        |_, _, _| {},
    );
    let mut packager = Packager::new(live()).unwrap();
    let list = recorded.stored("aac/index.m3u8");
    let codec = Some(sound.codec.clone());
    packager
        .declare_ready(sound.info.clone(), codec.clone(), &list)
        .unwrap();
    let twice = packager.declare_ready(sound.info.clone(), codec, &list);
    assert!(twice.unwrap_err().to_string().contains("taken"));
    let later = [
        h264_stream("later", 480, 270, 9, 60, 0),
        h264_stream("small", 160, 90, 9, 60, 0),
    ];
    let made = package(&mut packager, &later, |_, _, _| {});
    let dir = tempfile::tempdir().unwrap();
    recorded.write_to(dir.path());
    made.write_to(dir.path()); // its lists in place of the other's
    let (main, manifest) = (made.stored("main.m3u8"), made.stored("manifest.mpd"));
    assert!(
        main.contains("AUDIO=\"aac\"") && main.contains("URI=\"aac/index.m3u8\""),
        "{main}"
    );
    assert!(
        !main.contains("source/") && !manifest.contains("source"),
        "{main}\n{manifest}"
    );
    assert_eq!(manifest.matches("<Period ").count(), 1, "{manifest}");
    for path in ["main.m3u8", "manifest.mpd"] {
        let path = dir.path().join(path);
        for (select, stream) in [("v:0", &later[0]), ("v:1", &later[1]), ("a:0", &sound)] {
            let found = media::probe_packets(&path, select);
            assert_eq!(found.len(), stream.packets.len(), "{select} of {path:?}");
        }
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
        assert!(text.contains(" type=\"dynamic\""), "{text}");
        assert!(text.contains("urn:mpeg:dash:utc:http-iso:2014"), "{text}");
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

/// The number of the last segment that a manifest lists of a representation, of the last period.
fn last_number(manifest: &str, id: &str) -> u64 {
    let (_, representation) = manifest
        .rsplit_once(&format!("<Representation id=\"{id}\""))
        .unwrap();
    let (representation, _) = representation.split_once("</Representation>").unwrap();
    let number = |text: &str, name: &str| -> Option<u64> {
        let (_, value) = text.split_once(&format!(" {name}=\""))?;
        value.split('"').next()?.parse().ok()
    };
    let runs = representation.split("<S ").skip(1);
    let count: u64 = runs
        .map(|run| 1 + number(&format!(" {run}"), "r").unwrap_or(0))
        .sum();
    number(representation, "startNumber").unwrap() + count - 1
}

#[test]
fn a_segment_is_listed_and_sent_while_it_is_made() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [h264_stream("source", 320, 180, 9, 60, 0), aac_stream("aac", 9)];
    let mut packager = Packager::new(live()).unwrap();
    let (mut grew, mut newest) = (0, 0);
    package(&mut packager, &streams, |_, folder, _| {
        let Some(text) = manifest(folder) else { return };
        assert!(text.contains("availabilityTimeComplete=\"false\""), "{text}");
        for id in ["source", "aac"] {
            let last = last_number(&text, id);
            let path = format!("{id}/s{last}.m4s");
            let answer = folder.origin.handle_request(&path, None);
            let Answer::Ready(response) = answer else {
                panic!("{path}: {answer:?}");
            };
            let grows = matches!(response.body, Body::Growing { .. });
            if id == "source" && last > newest {
                assert!(grows || newest == 0, "{path} is listed when it is whole");
                (grew, newest) = (grew + u64::from(grows), last);
            }
        }
    });
    assert!(grew >= 3, "{grew} segments while they were made");
    // whole segments are told of without
    let mut packager = Packager::new(PackagerConfig {
        low_latency: false,
        ..live()
    })
    .unwrap();
    package(&mut packager, &streams, |_, folder, _| {
        let text = manifest(folder).unwrap_or_default();
        assert!(!text.contains("availabilityTimeComplete"), "{text}");
        assert!(text.is_empty() || text.contains("maxSegmentDuration"), "{text}");
    });
}

#[test]
fn text_is_in_the_manifest() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [h264_stream("source", 320, 180, 6, 60, 0), aac_stream("aac", 6)];
    for (text, wanted) in [
        (TextForm::WebVtt, "mimeType=\"text/vtt\""),
        (TextForm::Imsc1, "codecs=\"stpp.ttml.im1t\""),
    ] {
        let mut packager = Packager::new(PackagerConfig { text, ..live() }).unwrap();
        packager.declare(crate::support::captions()).unwrap();
        let cue = Cue {
            id: CueId(1),
            start: MediaTime::from_millis(2_500),
            end: MediaTime::from_millis(3_500),
            text: "Hello".to_owned(),
            words: Vec::new(),
            state: CueState::Final,
        };
        packager.handle_cue(cue).unwrap();
        let folder = package(&mut packager, &streams, |_, _, _| {});
        let manifest = folder.stored("manifest.mpd");
        assert!(
            manifest.contains(wanted) && manifest.contains("lang=\"en\""),
            "{manifest}"
        );
        // ffmpeg reads no WebVTT from a folder
        if text == TextForm::WebVtt {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        folder.write_to(dir.path());
        let path = dir.path().join("manifest.mpd");
        let found = media::probe_packets(&path, "v:0");
        assert_eq!(found.len(), streams[0].packets.len(), "{manifest}");
    }
}

/// A grey thumbnail of every second up to `at`, on sheets of 2 × 2.
fn draw(sprites: &mut Sprites, next: &mut i64, at: MediaTime, folder: &mut Folder) {
    while *next * 1_000 <= at.millis() {
        sprites.handle_picture(&Picture {
            pts: MediaTime::from_millis(*next * 1_000),
            width: 32,
            height: 18,
            format: PictureFormat::Rgb,
            data: vec![100; 32 * 18 * 3].into(),
        });
        *next += 1;
    }
    while let Some(output) = sprites.poll_output() {
        match output {
            HlsOutput::Store { key, data } => drop(folder.files.insert(key, data.to_vec())),
            HlsOutput::Publish(publish) => folder.origin.handle_publish(publish),
            _ => {}
        }
    }
}

#[test]
fn thumbnails_are_in_the_manifest_once_their_sheet_is_full_or_the_recording_is() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [h264_stream("source", 320, 180, 9, 60, 0), aac_stream("aac", 9)];
    let mut packager = Packager::new(live()).unwrap();
    let mut sprites = Sprites::new(SpriteConfig {
        columns: 2,
        rows: 2,
        every: Duration::from_secs(1),
        ..SpriteConfig::default()
    });
    let (mut next, mut gone, mut versions) = (0, false, Vec::new());
    let folder = package(&mut packager, &streams, |packager, folder, at| {
        draw(&mut sprites, &mut next, at, folder);
        packager.handle_sheets(sprites.sheets().unwrap()).unwrap();
        versions.extend(manifest(folder).map(|text| (at, text)));
        // the publisher goes and comes back in the middle of a sheet
        if at > MediaTime::from_millis(6_500) && !std::mem::replace(&mut gone, true) {
            let end = packager.handle_absence().unwrap();
            packager.handle_return(end + Duration::from_millis(300)).unwrap();
        }
    });
    for (at, text) in &versions {
        let listed = text.contains("contentType=\"image\"");
        assert_eq!(listed, *at >= MediaTime::from_millis(3_000), "at {at}: {text}");
    }
    let (_, last) = versions.last().unwrap();
    assert!(
        last.contains("<SegmentTimeline><S t=\"0\" d=\"4000\" r=\"1\"/></SegmentTimeline>"),
        "{last}"
    );

    let text = folder.stored("manifest.mpd");
    assert_eq!(text.matches("<Period ").count(), 2, "{text}");
    let tiles = "width=\"64\" height=\"36\">\n\
                 <EssentialProperty schemeIdUri=\"http://dashif.org/guidelines/thumbnail_tile\" value=\"2x2\"/>\n";
    assert_eq!(text.matches(tiles).count(), 2, "{text}");
    let media = "media=\"$RepresentationID$/s$Number$.jpg\"><SegmentTimeline>";
    let timelines: Vec<&str> = text
        .split(media)
        .skip(1)
        .map(|rest| rest.split("</").next().unwrap())
        .collect();
    // the second sheet is shown before the gap and behind it
    assert_eq!(
        timelines,
        [
            "<S t=\"0\" d=\"4000\" r=\"1\"/>",
            "<S t=\"4000\" d=\"4000\" r=\"1\"/>"
        ],
        "{text}"
    );
    assert!(
        text.contains("startNumber=\"0\" media=\"$RepresentationID$/s$N"),
        "{text}"
    );
    assert!(
        text.contains("startNumber=\"1\" media=\"$RepresentationID$/s$N"),
        "{text}"
    );

    // players that know no such pictures leave them out, and a sheet is as large as the manifest says
    let dir = tempfile::tempdir().unwrap();
    folder.write_to(dir.path());
    assert!(!media::probe_packets(&dir.path().join("manifest.mpd"), "v:0").is_empty());
    for (sheet, height) in [(0, 36), (1, 36), (2, 18)] {
        let size = std::process::Command::new("ffprobe")
            .args([
                "-v",
                "error",
                "-show_entries",
                "stream=width,height",
                "-of",
                "csv=p=0",
            ])
            .arg(dir.path().join(format!("thumbs/s{sheet}.jpg")))
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&size.stdout).trim(),
            format!("64,{height}"),
            "{sheet}"
        );
    }
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
