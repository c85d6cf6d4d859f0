//! No segment is longer than its playlist says (RFC 8216bis §4.4.3.1), whatever comes late or not at all. m3u8-rs judges.

use std::time::Duration;

use crate::support::{Folder, audio, h264_format, id, packet, video};
use loom_core::codec::opus;
use loom_core::{CodecParameters, MediaTime, Packet};
use loom_hls::{Packager, PackagerConfig};

fn ms(millis: i64) -> MediaTime {
    MediaTime::from_millis(millis)
}

fn picture(at: i64, key: bool) -> Packet {
    let unit: &[u8] = if key {
        &[0, 0, 0, 2, 0x65, 0x88]
    } else {
        &[0, 0, 0, 2, 0x41, 0x88]
    };
    packet(ms(at), ms(at), None, key, unit)
}

fn sound(at: i64) -> Packet {
    packet(
        ms(at),
        ms(at),
        Some(Duration::from_millis(20)),
        true,
        &[0xfc_u8, 1][..],
    )
}

/// A packager of a picture and a sound; without `pictures` that has no format yet.
fn packager(config: PackagerConfig, pictures: bool) -> Packager {
    let mut packager = Packager::new(config).unwrap();
    packager.declare(video("v", 640, 360)).unwrap();
    packager.declare(audio("a")).unwrap();
    if pictures {
        packager.handle_format(&id("v"), h264_format(false)).unwrap();
    }
    let format = CodecParameters::Audio(opus::parameters(2, 312));
    packager.handle_format(&id("a"), format).unwrap();
    packager
}

/// Ends it, and gives the lengths of each rendition's segments, seconds.
fn lengths(mut packager: Packager, names: &[&str]) -> Vec<Vec<f64>> {
    let mut folder = Folder::default();
    packager.finish().unwrap();
    folder.drain(&mut packager);
    let lengths = |name: &&str| {
        let text = folder.text(&format!("{name}/index.m3u8"));
        let list = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
        let each = list.segments.iter().map(|it| f64::from(it.duration));
        for length in each.clone() {
            assert!(
                length.round() as u64 <= list.target_duration,
                "{name}: {length}\n{text}"
            );
        }
        each.collect()
    };
    names.iter().map(lengths).collect()
}

fn file() -> PackagerConfig {
    PackagerConfig::file(Duration::from_secs(2), Duration::ZERO)
}

#[test]
fn a_picture_of_a_file_that_stands_longer_than_a_segment_leaves_no_hole() {
    let mut packager = packager(file(), true);
    // decoded a little before it is shown, as where pictures are reordered
    let first = packet(ms(130), ms(0), None, true, &[0, 0, 0, 2, 0x65, 0x88][..]);
    packager.handle_packet(&id("v"), first).unwrap();
    packager.handle_packet(&id("v"), picture(4_100, false)).unwrap();
    let seen = lengths(packager, &["v"]);
    assert!(seen[0].iter().sum::<f64>() > 3.9, "{seen:?}");
}

#[test]
fn sound_of_a_file_that_goes_on_behind_its_pictures_is_in_segments_of_its_own() {
    let of = |ended: &[&str], pictures: bool| {
        let mut packager = packager(file(), pictures);
        if pictures {
            packager.handle_packet(&id("v"), picture(0, true)).unwrap();
            packager.handle_packet(&id("v"), picture(33, false)).unwrap();
        }
        for at in (0..10_000).step_by(20) {
            packager.handle_packet(&id("a"), sound(at)).unwrap();
        }
        for name in ended {
            packager.handle_end(&id(name)).unwrap();
        }
        let seen = lengths(packager, &["a"]);
        let whole: f64 = seen[0].iter().sum();
        assert!((whole - 10.0).abs() < 0.05, "{ended:?} {pictures}: {seen:?}");
    };
    of(&[], true);
    of(&["a"], true);
    of(&["v"], true);
    of(&["a", "v"], true);
    of(&["v"], false);
    of(&["a"], false);
}

#[test]
fn silence_that_stands_for_sound_alone_is_cut_as_sound_is() {
    let mut packager = Packager::new(PackagerConfig::default()).unwrap();
    packager.declare(audio("a")).unwrap();
    let format = CodecParameters::Audio(opus::parameters(2, 312));
    packager.handle_format(&id("a"), format).unwrap();
    for at in (0..1_000).step_by(20) {
        packager.handle_time(ms(at)).unwrap();
        packager.handle_packet(&id("a"), sound(at)).unwrap();
    }
    for at in (1_000..12_000).step_by(50) {
        packager.handle_time(ms(at)).unwrap();
    }
    let seen = lengths(packager, &["a"]);
    assert!(seen[0].len() >= 5, "{seen:?}");
}

#[test]
fn pictures_that_come_behind_sound_they_precede_begin_the_recording() {
    for late in [500, 5_000] {
        let mut packager = packager(PackagerConfig::default(), true);
        for at in (700..700 + late).step_by(20) {
            packager.handle_packet(&id("a"), sound(at)).unwrap();
        }
        for at in (0..8_000).step_by(40) {
            packager
                .handle_packet(&id("v"), picture(at, at % 8_000 == 0))
                .unwrap();
        }
        let seen = lengths(packager, &["v", "a"]);
        assert!(seen[0].iter().sum::<f64>() > 7.2, "{late}: {seen:?}");
    }
}

#[test]
fn pictures_of_a_file_that_end_before_its_sound_stand_no_longer_than_a_segment() {
    let mut packager = packager(file(), true);
    let shown = |at: i64, later: i64, key: bool| Packet {
        pts: ms(at + later),
        ..picture(at, key)
    };
    packager.handle_packet(&id("v"), picture(0, true)).unwrap();
    // another format: a segment begins where the key picture is shown, a little after it is decoded
    packager.handle_format(&id("v"), h264_format(true)).unwrap();
    for (at, later, key) in [
        (232, 130, true),
        (467, 140, false),
        (702, 140, false),
        (937, 140, false),
    ] {
        packager.handle_packet(&id("v"), shown(at, later, key)).unwrap();
    }
    for at in (1..10).map(|n| 937 + n * 199) {
        packager.handle_packet(&id("a"), sound(at)).unwrap();
    }
    lengths(packager, &["v", "a"]);
}

#[test]
fn a_picture_that_claims_to_stand_for_days_ends_with_its_segment() {
    for ended in [false, true] {
        let keys = Duration::from_secs(if ended { 10 } else { 0 });
        let mut packager = packager(PackagerConfig::file(Duration::from_secs(2), keys), true);
        packager.handle_packet(&id("v"), picture(0, true)).unwrap();
        if ended {
            packager.handle_end(&id("v")).unwrap();
        }
        let claimed = Packet {
            pts: ms(405),
            duration: Some(Duration::from_secs(50 * 24 * 3_600)),
            ..picture(255, false)
        };
        packager.handle_packet(&id("v"), claimed).unwrap();
        packager.handle_packet(&id("a"), sound(183)).unwrap();
        let seen = lengths(packager, &["v", "a"]);
        assert!(seen[0].len() < 1_000, "{}", seen[0].len());
    }
}
