//! A recording that is paused: media time stands still, dates do not, and foreign readers see one unbroken recording.

use std::time::{Duration, SystemTime};

use crate::support::media::{self, h264_stream, opus_stream};
use crate::support::{Folder, feed};
use loom_core::{MediaTime, WallClock};
use loom_hls::{DateRange, Packager, PackagerConfig};

const PAUSED: Duration = Duration::from_secs(90);

#[test]
fn a_pause_is_a_discontinuity_of_dates_and_none_of_media_time() {
    if !media::have_ffmpeg() {
        return;
    }
    let picture = h264_stream("source", 640, 360, 4, 60, 0);
    let sound = opus_stream("opus", 4);
    let streams = [(&picture, 0), (&sound, 0)];
    let zero = WallClock {
        zero: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    };
    let mut packager = Packager::new(PackagerConfig {
        zero: Some(zero),
        ..PackagerConfig::default()
    })
    .unwrap();
    packager.declare(picture.info.clone()).unwrap();
    packager.declare(sound.info.clone()).unwrap();
    let mut folder = Folder::default();
    feed(&mut packager, &mut folder, &streams, Duration::ZERO);
    let end = packager.handle_absence().unwrap();
    folder.drain(&mut packager);
    assert!(
        end.signed_since(MediaTime::from_secs_f64(4.0)).unsigned_abs() < 50_000_000,
        "{end}"
    );
    // time goes on, and nothing comes of it
    for seconds in 5..60 {
        packager
            .handle_time(MediaTime::from_millis(seconds * 1_000))
            .unwrap();
    }
    folder.drain(&mut packager);
    let resting = folder.text("source/index.m3u8");
    assert_eq!(packager.handle_resume(PAUSED).unwrap(), end);
    feed(&mut packager, &mut folder, &streams, end.since(MediaTime::ZERO));
    let mark = DateRange {
        id: "after".to_owned(),
        class: None,
        start: end + Duration::from_secs(1),
        end: None,
        attributes: Vec::new(),
        cue: Vec::new(),
    };
    packager.handle_date_range(&mark).unwrap();
    folder.drain(&mut packager);
    let manifest = folder.text("manifest.mpd");
    packager.finish().unwrap();
    folder.drain(&mut packager);

    assert!(
        !resting.contains("EXT-X-GAP") && !resting.contains("EXT-X-DISCONTINUITY"),
        "{resting}"
    );
    let starts: Vec<f64> = (manifest.split("<Period ").skip(1))
        .filter_map(|period| period.split("start=\"PT").nth(1)?.split('S').next()?.parse().ok())
        .collect();
    assert_eq!(starts.len(), 2, "{manifest}");
    assert!(
        (starts[1] - 94.0).abs() < 0.1,
        "it happened 90 s later: {starts:?}"
    );

    let dir = tempfile::tempdir().unwrap();
    folder.write_to(dir.path());
    for id in ["source", "opus"] {
        let text = folder.stored(&format!("{id}/index.m3u8"));
        let playlist = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
        let length: f32 = playlist.segments.iter().map(|it| it.duration).sum();
        assert!((length - 8.0).abs() < 0.1, "{id}: {length} s\n{text}");
        assert!(!text.contains("EXT-X-GAP"), "{text}");
        let breaks: Vec<usize> = (playlist.segments.iter().enumerate())
            .filter(|(_, it)| it.discontinuity)
            .map(|(at, _)| at)
            .collect();
        assert_eq!(breaks.len(), 1, "{text}");
        let of = |at: usize| {
            playlist.segments[at]
                .program_date_time
                .unwrap()
                .timestamp_millis()
        };
        let jump =
            of(breaks[0]) - of(breaks[0] - 1) - (playlist.segments[breaks[0] - 1].duration * 1_000.0) as i64;
        assert!(
            (jump - 90_000).abs() < 20,
            "{id}: dates jump by {jump} ms: {text}"
        );
        assert!(
            text.contains("START-DATE=\"2027-01-15T08:01:35"),
            "a mark 1 s behind it: {text}"
        );
        let seen = media::probe_packets(&dir.path().join(format!("{id}/index.m3u8")), "0");
        assert!(
            seen.windows(2).all(|two| two[0].0 < two[1].0),
            "{id}: its times climb"
        );
    }
    let pictures = media::probe_packets(&dir.path().join("source/index.m3u8"), "0");
    assert_eq!(
        pictures.len(),
        picture.packets.len() * 2,
        "every picture is there"
    );
}
