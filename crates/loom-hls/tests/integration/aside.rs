//! Pictures beside the main one: a playlist of their own, and nothing of them is lost, whoever comes first. ffprobe judges.

use std::ops::Range;
use std::time::Duration;

use crate::support::media::{self, h264_stream, opus_stream};
use crate::support::{Folder, feed};
use loom_core::MediaTime;
use loom_hls::{Packager, PackagerConfig};

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

/// Where each listed segment begins and ends, and whether it is a gap.
fn segments(text: &str) -> Vec<(f64, f64, bool)> {
    let (mut at, mut gap, mut all) = (0.0, false, Vec::new());
    for line in text.lines() {
        gap |= line == "#EXT-X-GAP";
        if let Some(length) = line.strip_prefix("#EXTINF:") {
            let length: f64 = length.split(',').next().and_then(|it| it.parse().ok()).unwrap();
            all.push((at, at + length, false));
            at += length;
        } else if !line.starts_with('#') {
            all.last_mut().unwrap().2 = std::mem::take(&mut gap);
        }
    }
    all
}

#[test]
fn a_picture_that_begins_late_has_gaps_up_to_there_and_the_boundaries_of_the_others() {
    if !media::have_ffmpeg() {
        return;
    }
    let before = h264_stream("source", 640, 360, 5, 60, 0);
    let beside = h264_stream("source", 640, 360, 6, 60, 0);
    let late = h264_stream("video-2", 480, 270, 6, 60, 0);
    let (early_sound, late_sound) = (opus_stream("opus", 5), opus_stream("opus", 6));
    let begins = Duration::from_millis(5_100);
    for alone in [false, true] {
        let mut packager = Packager::new(PackagerConfig::default()).unwrap();
        let mut folder = Folder::default();
        let (mut first, mut second) = (vec![(&early_sound, 0)], vec![(&late_sound, 0), (&late, 60)]);
        packager.declare(early_sound.info.clone()).unwrap();
        if !alone {
            packager.declare(before.info.clone()).unwrap();
            first.push((&before, 0));
            second.push((&beside, 0));
        }
        feed(&mut packager, &mut folder, &first, Duration::ZERO);
        let main = folder.stored("main.m3u8");
        packager.declare_aside(late.info.clone()).unwrap();
        assert!(folder.get("video-2.m3u8").is_none(), "nothing is known of it yet");
        feed(&mut packager, &mut folder, &second, begins);
        assert_eq!(
            folder.stored("main.m3u8"),
            main,
            "a multivariant playlist that is out stays as it is"
        );
        let live = folder.text("video-2.m3u8");
        assert!(
            live.contains("\nvideo-2/index.m3u8") && live.contains("opus/index.m3u8"),
            "{live}"
        );
        packager.finish().unwrap();
        folder.drain(&mut packager);

        let case = if alone { "beside sound" } else { "beside a picture" };
        let text = folder.stored("video-2/index.m3u8");
        let theirs = folder.stored(if alone {
            "opus/index.m3u8"
        } else {
            "source/index.m3u8"
        });
        let (own, others) = (segments(&text), segments(&theirs));
        assert_eq!(own.len(), others.len(), "{case}\n{text}\n{theirs}");
        for (own, other) in own.iter().zip(&others) {
            let apart = (own.0 - other.0).abs().max((own.1 - other.1).abs());
            assert!(apart < 0.05, "{case}: {own:?} {other:?}");
            assert_eq!(
                own.2,
                own.1 < begins.as_secs_f64() + 0.01,
                "{case}: {own:?}\n{text}"
            );
        }
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:1\n"), "{text}");
        let dir = tempfile::tempdir().unwrap();
        folder.write_to(dir.path());
        let seen = media::probe_packets(&dir.path().join("video-2/index.m3u8"), "0");
        // the first is shown from where its segment begins, and repeated up to the second
        let begun = own.iter().find(|it| !it.2).unwrap().0;
        assert!((seen[0].0 - begun).abs() < 0.01, "{case}: {:?} {begun}", seen[0]);
        for packet in &late.packets[1..] {
            let at = packet.pts.secs_f64() + begins.as_secs_f64();
            assert!(
                seen.iter().any(|it| (it.0 - at).abs() < 0.002),
                "{case}: {at} is lost"
            );
        }
        let repeats = seen.len() - late.packets.len();
        assert!(
            repeats as f64 <= (begins.as_secs_f64() - begun) * 3.5 + 1.0,
            "{case}: {repeats}"
        );
        let sound = media::probe_packets(&dir.path().join("opus/index.m3u8"), "0");
        let sent = early_sound.packets.len() + late_sound.packets.len();
        let silence = sound.len().checked_sub(sent); // between the two
        assert!(
            silence.is_some_and(|it| it <= 5),
            "{case}: {} of {sent}",
            sound.len()
        );
    }
}

/// A main picture with a key frame every two seconds, packaged live beside another that has one every `gop` pictures, at 30 a second, and
/// sends nothing for a while, milliseconds: it begins again with a key frame. Gives the playlists of both.
fn beside_one_that_stands(seconds: u32, gop: u32, still: Range<i64>) -> Option<[String; 2]> {
    if !media::have_ffmpeg() {
        return None;
    }
    let main = h264_stream("source", 640, 360, seconds, 60, 0);
    let mut aside = h264_stream("video-2", 480, 270, seconds, gop, 0);
    let still = MediaTime::from_millis(still.start)..MediaTime::from_millis(still.end);
    let mut keyed = false;
    aside.packets.retain(|packet| {
        keyed |= packet.key && packet.pts >= still.end;
        packet.pts < still.start || keyed
    });
    let mut packager = Packager::new(PackagerConfig::default()).unwrap();
    packager.declare(main.info.clone()).unwrap();
    packager.declare_aside(aside.info.clone()).unwrap();
    let streams = [main, aside];
    for stream in &streams {
        packager
            .handle_format(&stream.info.id, stream.codec.clone())
            .unwrap();
    }
    let mut folder = Folder::default();
    let mut packets = crate::support::in_order(&streams).into_iter().peekable();
    for now in (0..i64::from(seconds) * 1_000)
        .step_by(50)
        .map(MediaTime::from_millis)
    {
        while let Some((stream, packet)) = packets.next_if(|(_, packet)| packet.dts <= now) {
            packager.handle_packet(&streams[stream].info.id, packet).unwrap();
        }
        packager.handle_time(now).unwrap();
        folder.drain(&mut packager);
    }
    packager.finish().unwrap();
    folder.drain(&mut packager);
    Some(["source", "video-2"].map(|name| folder.stored(&format!("{name}/index.m3u8"))))
}

#[test]
fn a_picture_aside_that_stands_while_its_key_frame_is_waited_for_outgrows_no_segment() {
    // it moves beyond where the main picture's segment ends, and then stands for three seconds
    let Some([_, text]) = beside_one_that_stands(9, 210, 2_500..5_700) else {
        return;
    };
    let playlist = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
    for segment in &playlist.segments {
        assert!(segment.duration.round() <= 4.0, "{text}");
    }
}

#[test]
fn a_picture_aside_keeps_in_step_with_the_main_one_whatever_its_key_frames_and_while_it_is_away() {
    for (gop, away) in [(60, 4_300..9_700), (90, 0..0)] {
        let Some([main, text]) = beside_one_that_stands(14, gop, away.clone()) else {
            return;
        };
        let (theirs, own) = (segments(&main), segments(&text));
        assert_eq!(theirs.len(), own.len(), "{gop}\n{text}");
        let away = away.start as f64 / 1e3 + 1.0..away.end as f64 / 1e3;
        for (their, own) in theirs.iter().zip(&own) {
            assert!(own.1 - own.0 > 0.3 && !own.2, "{gop}: {own:?}\n{text}");
            // a key frame of its own was waited for
            let most = if away.contains(&their.0) { 0.01 } else { 1.2 };
            assert!((own.0 - their.0).abs() < most, "{gop}: {own:?} {their:?}\n{text}");
        }
    }
}
