//! Pictures beside the main one: a playlist of their own, and nothing of them is lost, whoever comes first. ffprobe judges.

mod support;

use std::time::Duration;

use loom_core::{MediaTime, Packet};
use loom_hls::{Packager, PackagerConfig};
use support::media::{self, h264_stream, opus_stream};
use support::{Folder, Stream};

/// Hands over every packet in the order in which it would arrive where each stream is so late.
fn feed(packager: &mut Packager, folder: &mut Folder, streams: &[(&Stream, u64)], at: Duration) {
    let mut order: Vec<(MediaTime, &Stream, &Packet)> = Vec::new();
    for (stream, late) in streams {
        packager
            .handle_format(&stream.info.id, stream.codec.clone())
            .unwrap();
        let arrival = |packet: &Packet| packet.dts + Duration::from_millis(*late);
        order.extend(
            stream
                .packets
                .iter()
                .map(|packet| (arrival(packet), *stream, packet)),
        );
    }
    order.sort_by_key(|(arrival, ..)| *arrival);
    for (_, stream, packet) in order {
        let packet = Packet {
            pts: packet.pts + at,
            dts: packet.dts + at,
            ..packet.clone()
        };
        packager.handle_packet(&stream.info.id, packet).unwrap();
        folder.drain(packager);
    }
}

#[test]
fn every_packet_of_a_picture_aside_is_kept_whichever_picture_comes_first_and_when_its_size_changes() {
    if !media::have_ffmpeg() {
        return;
    }
    let main = h264_stream("source", 640, 360, 6, 60, 0);
    let aside = h264_stream("video-2", 480, 270, 6, 60, 0);
    let smaller = h264_stream("video-2", 320, 180, 6, 60, 0);
    let layer = h264_stream("180p", 320, 180, 6, 60, 0);
    let sound = opus_stream("opus", 6);
    for (main_late, aside_late) in [(0, 0), (700, 0), (0, 700)] {
        let mut packager = Packager::new(PackagerConfig::default()).unwrap();
        packager.declare(main.info.clone()).unwrap();
        packager.declare_layer(layer.info.clone()).unwrap();
        packager.declare_aside(aside.info.clone()).unwrap();
        packager.declare(sound.info.clone()).unwrap();
        let mut folder = Folder::default();
        for (at, second) in [(0, &aside), (6_100, &smaller)] {
            let streams = [
                (&main, main_late),
                (&layer, aside_late),
                (second, aside_late),
                (&sound, 100),
            ];
            feed(&mut packager, &mut folder, &streams, Duration::from_millis(at));
        }
        packager.finish().unwrap();
        folder.drain(&mut packager);

        let dir = tempfile::tempdir().unwrap();
        folder.write_to(dir.path());
        for stream in [&main, &aside, &layer, &sound] {
            let name = stream.info.id.as_str();
            let seen = media::probe_packets(&dir.path().join(name).join("index.m3u8"), "0");
            let case = format!("{name}, main {main_late} ms late, others {aside_late} ms");
            // between the two there is silence
            let silence = seen.len() - stream.packets.len() * 2;
            let most = if name == "opus" { 4 } else { 0 };
            assert!(silence <= most, "{case}: {silence} packets too many");
            assert!(
                seen.windows(2).all(|two| two[0].1 < two[1].1),
                "{case}: decode times climb"
            );
        }
        let (all, own) = (folder.stored("main.m3u8"), folder.stored("video-2.m3u8"));
        let names = |text: &str, id: &str| text.contains(&format!("\n{id}/index.m3u8"));
        assert!(
            names(&all, "source") && names(&all, "180p") && !names(&all, "video-2"),
            "{all}"
        );
        assert!(
            names(&own, "video-2") && !names(&own, "source") && !names(&own, "180p"),
            "{own}"
        );
        assert!(
            all.contains("opus/index.m3u8") && own.contains("opus/index.m3u8"),
            "{own}"
        );
    }
}

#[test]
fn a_picture_aside_whose_key_frames_are_a_little_early_leaves_out_no_segment() {
    if !media::have_ffmpeg() {
        return;
    }
    let mut main = h264_stream("source", 640, 360, 8, 60, 0);
    for packet in &mut main.packets {
        packet.pts = packet.pts + Duration::from_millis(300);
        packet.dts = packet.dts + Duration::from_millis(300);
    }
    let aside = h264_stream("video-2", 480, 270, 8, 60, 0);
    let mut packager = Packager::new(PackagerConfig::default()).unwrap();
    packager.declare(main.info.clone()).unwrap();
    packager.declare_aside(aside.info.clone()).unwrap();
    let mut folder = Folder::default();
    feed(
        &mut packager,
        &mut folder,
        &[(&main, 0), (&aside, 0)],
        Duration::ZERO,
    );
    packager.finish().unwrap();
    folder.drain(&mut packager);
    let segments = |name: &str| folder.stored(&format!("{name}/index.m3u8"));
    let (theirs, ours) = (segments("source"), segments("video-2"));
    assert_eq!(
        ours.matches("#EXTINF").count(),
        theirs.matches("#EXTINF").count(),
        "{ours}"
    );
    assert!(!ours.contains("#EXT-X-GAP"), "{ours}");
}

#[test]
fn a_picture_aside_goes_on_in_whole_segments_when_the_main_picture_stands_still_and_nobody_speaks() {
    if !media::have_ffmpeg() {
        return;
    }
    let main = h264_stream("source", 640, 360, 4, 60, 0);
    let aside = h264_stream("video-2", 480, 270, 20, 60, 0);
    let mut packager = Packager::new(PackagerConfig::default()).unwrap();
    packager.declare(main.info.clone()).unwrap();
    packager.declare_aside(aside.info.clone()).unwrap();
    let mut folder = Folder::default();
    feed(
        &mut packager,
        &mut folder,
        &[(&main, 0), (&aside, 0)],
        Duration::ZERO,
    );
    // While it is live: what came more than a few seconds ago can be watched.
    let live = folder.text("video-2/index.m3u8");
    let listed: f64 = live
        .lines()
        .filter_map(|line| {
            line.strip_prefix("#EXTINF:")?
                .split(',')
                .next()?
                .parse::<f64>()
                .ok()
        })
        .sum();
    assert!(listed > 14.0, "{listed} s of 20 are listed\n{live}");
    packager.finish().unwrap();
    folder.drain(&mut packager);
    let dir = tempfile::tempdir().unwrap();
    folder.write_to(dir.path());
    let seen = media::probe_packets(&dir.path().join("video-2/index.m3u8"), "0");
    assert_eq!(seen.len(), aside.packets.len());
    let text = folder.stored("video-2/index.m3u8");
    let longest = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("#EXTINF:")?
                .split(',')
                .next()?
                .parse::<f64>()
                .ok()
        })
        .fold(0.0, f64::max);
    assert!(longest <= 4.0 && !text.contains("#EXT-X-GAP"), "{text}");
}
