//! Sound that comes late: its encoder lags, as on a machine that is overloaded, or the publisher does. It is waited for, and all of it
//! kept. ffprobe judges.

use std::ops::Range;
use std::time::Duration;

use crate::support::media::{self, aac_stream, h264_stream, opus_stream};
use crate::support::{Folder, Stream};
use loom_core::MediaTime;
use loom_hls::{Packager, PackagerConfig};
use tempfile::TempDir;

const SECONDS: u32 = 12;

#[test]
fn sound_that_is_encoded_late_is_not_taken_for_silence() {
    all_sound_is_kept("aac", 3_000..7_500);
}

#[test]
fn sound_of_a_publisher_that_is_late_with_all_is_not_taken_for_silence() {
    all_sound_is_kept("", 3_000..4_700);
}

#[test]
fn sound_whose_encoder_dies_before_the_end_is_silent_up_to_it() {
    let Some((streams, _, dir)) = packaged("aac", 10_600..i64::MAX) else {
        return;
    };
    for stream in &streams {
        let name = stream.info.id.as_str();
        let seen = media::probe_packets(&dir.path().join(name).join("index.m3u8"), "0");
        let (at, _, lasts, _) = seen[seen.len() - 1];
        // the last packet's length is not told where it is as long as any
        let off = (at + lasts.max(0.02) - seen[0].0 - f64::from(SECONDS)).abs();
        assert!(off < 0.05, "{name}: {off} s");
    }
}

fn all_sound_is_kept(late: &str, still: Range<i64>) {
    let Some((streams, sent, dir)) = packaged(late, still) else {
        return;
    };
    for (stream, sent) in streams.iter().zip(sent).skip(1) {
        let name = stream.info.id.as_str();
        let seen = media::probe_packets(&dir.path().join(name).join("index.m3u8"), "0");
        assert!(seen.len().abs_diff(sent) <= 2, "{name}: {} of {sent}", seen.len());
        let hole = seen
            .windows(2)
            .map(|pair| pair[1].0 - pair[0].0)
            .fold(0.0, f64::max);
        assert!(hole < Duration::from_millis(25).as_secs_f64(), "{name}: {hole}");
    }
}

/// Everything comes in time but those whose name begins so, which stand still for so long, milliseconds. Gives the streams, how many
/// packets of each were sent, and where the recording lies; `None` where there is no ffmpeg to make them.
fn packaged(late: &str, still: Range<i64>) -> Option<([Stream; 3], [usize; 3], TempDir)> {
    if !media::have_ffmpeg() {
        return None;
    }
    let streams = [
        h264_stream("source", 320, 180, SECONDS, 60, 0),
        opus_stream("opus", SECONDS),
        aac_stream("aac", SECONDS),
    ];
    let mut packager = Packager::new(PackagerConfig::default()).unwrap();
    for stream in &streams {
        packager.declare(stream.info.clone()).unwrap();
    }
    for stream in &streams {
        packager
            .handle_format(&stream.info.id, stream.codec.clone())
            .unwrap();
    }
    let mut folder = Folder::default();
    let mut next = [0; 3];
    for now in (0..i64::from(SECONDS) * 1_000).step_by(20) {
        packager.handle_time(MediaTime::from_millis(now)).unwrap();
        for (stream, next) in streams.iter().zip(&mut next) {
            let stands = stream.info.id.as_str().starts_with(late) && still.contains(&now);
            while let Some(packet) = stream.packets.get(*next)
                && packet.dts <= MediaTime::from_millis(now)
                && !stands
            {
                packager.handle_packet(&stream.info.id, packet.clone()).unwrap();
                *next += 1;
            }
        }
        folder.drain(&mut packager);
    }
    packager.finish().unwrap();
    folder.drain(&mut packager);
    let dir = tempfile::tempdir().unwrap();
    folder.write_to(dir.path());
    Some((streams, next, dir))
}
