//! Pictures that a rung's encoder leaves out, since they show what is shown: the rung comes as its source does, part by part. ffprobe
//! judges.

use std::collections::BTreeSet;

use crate::support::media::{self, h264_of_mp4, h264_stream};
use crate::support::{Folder, Stream, id};
use loom_core::MediaTime;
use loom_hls::{Packager, PackagerConfig};

const SECONDS: u32 = 9;

/// A rung of a screen that stands still: one picture a second, a key frame every two.
fn still_rung() -> Stream {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made.mp4");
    let source = format!("testsrc2=size=176x144:rate=1:duration={SECONDS}");
    let words = "-pix_fmt yuv420p -c:v libx264 -preset veryfast -bf 0 -g 2 -sc_threshold 0 -y";
    let mut arguments = vec!["-f", "lavfi", "-i", &source];
    arguments.extend(words.split(' '));
    arguments.extend([file.to_str().unwrap(), "-f", "null"]);
    media::ffmpeg(&arguments);
    h264_of_mp4("360p", 176, 144, std::fs::read(&file).unwrap())
}

/// How much a live playlist lists, seconds, and the lengths of its parts but for the last of each segment, with theirs.
fn listed(folder: &Folder, rendition: &str) -> (f64, Vec<f64>, Vec<f64>) {
    let (mut whole, mut parts, mut all, mut lasts) = (0.0, Vec::<f64>::new(), Vec::new(), Vec::new());
    let text = folder
        .get(&format!("{rendition}/index.m3u8"))
        .map_or_else(String::new, |text| String::from_utf8(text).unwrap());
    assert!(
        !text.contains("GAP=YES") && !text.contains("#EXT-X-GAP"),
        "{text}"
    );
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("#EXT-X-PART:DURATION=") {
            parts.push(rest.split(',').next().unwrap().parse().unwrap());
        } else if let Some(rest) = line.strip_prefix("#EXTINF:") {
            whole += rest.trim_end_matches(',').parse::<f64>().unwrap();
            lasts.extend(parts.pop());
            all.append(&mut parts);
        }
    }
    whole += parts.iter().sum::<f64>();
    all.append(&mut parts);
    (whole, all, lasts)
}

#[test]
fn a_rung_whose_pictures_are_left_out_lists_each_part_when_its_source_does_and_ends_with_it() {
    if !media::have_ffmpeg() {
        return;
    }
    let source = h264_stream("source", 320, 180, SECONDS, 60, 0);
    let rung = still_rung();
    assert_eq!(rung.packets.len(), SECONDS as usize);
    let mut packager = Packager::new(PackagerConfig::default()).unwrap();
    let mut folder = Folder::default();
    for stream in [&source, &rung] {
        packager.declare(stream.info.clone()).unwrap();
    }
    for stream in [&source, &rung] {
        packager
            .handle_format(&stream.info.id, stream.codec.clone())
            .unwrap();
    }
    let part = 0.334;
    let mut left_out = 0;
    let mut all = 0;
    for packet in &source.packets {
        packager.handle_packet(&id("source"), packet.clone()).unwrap();
        match rung.packets.iter().find(|it| it.pts == packet.pts) {
            Some(own) => packager.handle_packet(&id("360p"), own.clone()).unwrap(),
            None => {
                packager.handle_still(&id("360p"), packet.pts).unwrap();
                left_out += 1;
            }
        }
        folder.drain(&mut packager);
        let (theirs, _, _) = listed(&folder, "source");
        let (ours, parts, lasts) = listed(&folder, "360p");
        assert!(
            ours + part > theirs,
            "at {}: {ours} s beside {theirs} s",
            packet.pts
        );
        // RFC 8216bis §4.4.4.9
        assert!(
            parts.iter().all(|it| (part * 0.85..=part + 1e-6).contains(it)),
            "{parts:?}"
        );
        assert!(lasts.iter().all(|it| *it <= part + 1e-6), "{lasts:?}");
        all = all.max(parts.len() + lasts.len());
    }
    assert!(left_out > 250 && all >= 24, "{left_out} left out, {all} parts");
    packager.finish().unwrap();
    folder.drain(&mut packager);

    let dir = tempfile::tempdir().unwrap();
    folder.write_to(dir.path());
    let keys = |name: &str| -> BTreeSet<i64> {
        let seen = media::probe_packets(&dir.path().join(name).join("index.m3u8"), "v");
        let ticks = |it: &f64| (it * 90_000.0).round() as i64;
        seen.iter().filter(|it| it.3).map(|it| ticks(&it.0)).collect()
    };
    assert_eq!(
        keys("source"),
        keys("360p"),
        "segments begin at the same instants"
    );
    let last = media::probe_packets(&dir.path().join("360p/index.m3u8"), "v")
        .pop()
        .unwrap();
    assert!(
        last.0 < f64::from(SECONDS) && last.0 + part > f64::from(SECONDS),
        "{last:?}"
    );
    let lengths = |name: &str| -> Vec<String> {
        let text = folder.stored(&format!("{name}/index.m3u8"));
        let lines = text.lines().filter(|line| line.starts_with("#EXTINF"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(lengths("source"), lengths("360p"));
    assert_eq!(media::complaints(&dir.path().join("main.m3u8")), "");
}

#[test]
fn what_is_left_out_before_a_rung_begins_or_while_its_publisher_is_away_is_nothing() {
    if !media::have_ffmpeg() {
        return;
    }
    let rung = still_rung();
    let mut packager = Packager::new(PackagerConfig::default()).unwrap();
    packager.declare(rung.info.clone()).unwrap();
    packager.handle_format(&id("360p"), rung.codec.clone()).unwrap();
    packager
        .handle_still(&id("360p"), MediaTime::from_millis(500))
        .unwrap();
    assert_eq!(packager.head(), MediaTime::ZERO);
    packager
        .handle_packet(&id("360p"), rung.packets[0].clone())
        .unwrap();
    let end = packager.handle_absence().unwrap();
    packager
        .handle_still(&id("360p"), MediaTime::from_millis(2_000))
        .unwrap();
    assert!(packager.head() <= end, "{} and {end}", packager.head());
    assert!(
        packager.handle_still(&id("720p"), end).is_err(),
        "it was not declared"
    );
}
