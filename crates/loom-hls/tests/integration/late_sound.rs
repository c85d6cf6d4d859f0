//! Media that comes late: the sound's encoder lags, as on a machine that is overloaded, or the publisher does with all of it. It is waited for,
//! and all of it kept. ffprobe judges.

use std::ops::Range;

use crate::support::media::{self, aac_stream, h264_stream, opus_stream};
use crate::support::{Folder, Stream};
use loom_core::MediaTime;
use loom_hls::{Packager, PackagerConfig};
use tempfile::TempDir;

const SECONDS: u32 = 12;

#[test]
fn sound_that_is_encoded_late_is_not_taken_for_silence() {
    all_sound_is_kept(standing("aac", 3_000..7_500));
}

#[test]
fn sound_of_a_publisher_that_is_late_with_all_is_not_taken_for_silence() {
    all_sound_is_kept(standing("", 3_000..4_700));
}

#[test]
fn a_publisher_that_falls_seconds_behind_loses_nothing() {
    // as one whose machine is busy: at half its pace from the third second on, up to ten seconds late
    let Some((streams, sent, dir)) = packaged(3, |_, at| at + (at - 2_000).max(0)) else {
        return;
    };
    for (stream, sent) in streams.iter().zip(sent) {
        holds_all(stream, sent, &dir, 0.045);
    }
}

#[test]
fn pictures_without_sound_that_fall_seconds_behind_stay_as_far_apart_as_they_are() {
    let Some((streams, sent, dir)) = packaged(1, |_, at| at + (at - 2_000).max(0)) else {
        return;
    };
    holds_all(&streams[0], sent[0], &dir, 0.045);
}

#[test]
fn sound_whose_encoder_dies_before_the_end_is_silent_up_to_it() {
    let Some((streams, _, dir)) = packaged(3, standing("aac", 10_600..i64::MAX)) else {
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

/// When a packet that is due comes, of those whose name begins so: behind a time in which they stand still, milliseconds.
fn standing(late: &str, still: Range<i64>) -> impl Fn(&str, i64) -> i64 {
    move |name, at| match name.starts_with(late) && still.contains(&at) {
        true => still.end,
        false => at,
    }
}

fn all_sound_is_kept(comes: impl Fn(&str, i64) -> i64) {
    let Some((streams, sent, dir)) = packaged(3, comes) else {
        return;
    };
    for (stream, sent) in streams.iter().zip(sent).skip(1) {
        holds_all(stream, sent, &dir, 0.025);
    }
}

/// All that was sent is there, and nothing in its place: from one to the next it is no longer than `most`, seconds.
fn holds_all(stream: &Stream, sent: usize, dir: &TempDir, most: f64) {
    let name = stream.info.id.as_str();
    let seen = media::probe_packets(&dir.path().join(name).join("index.m3u8"), "0");
    assert!(seen.len().abs_diff(sent) <= 2, "{name}: {} of {sent}", seen.len());
    let apart = seen.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let longest = apart.fold(0.0, f64::max);
    assert!(longest < most, "{name}: {longest}");
}

/// The first so many of pictures and two sounds; `comes` says when a packet comes that is due then, milliseconds. Gives the streams, how many
/// packets of each were sent, and where the recording lies; `None` where there is no ffmpeg to make them.
fn packaged(count: usize, comes: impl Fn(&str, i64) -> i64) -> Option<([Stream; 3], [usize; 3], TempDir)> {
    if !media::have_ffmpeg() {
        return None;
    }
    let streams = [
        h264_stream("source", 320, 180, SECONDS, 60, 0),
        opus_stream("opus", SECONDS),
        aac_stream("aac", SECONDS),
    ];
    let mut packager = Packager::new(PackagerConfig::default()).unwrap();
    for stream in &streams[..count] {
        packager.declare(stream.info.clone()).unwrap();
    }
    for stream in &streams[..count] {
        packager
            .handle_format(&stream.info.id, stream.codec.clone())
            .unwrap();
    }
    let mut folder = Folder::default();
    let mut next = [0; 3];
    let due = |at: MediaTime| (at.secs_f64() * 1_000.0).ceil() as i64;
    let end = i64::from(SECONDS) * 1_000;
    for now in (0..comes("source", end).clamp(end, 2 * end)).step_by(20) {
        packager.handle_time(MediaTime::from_millis(now)).unwrap();
        for (stream, next) in streams.iter().zip(&mut next).take(count) {
            while let Some(packet) = stream.packets.get(*next)
                && comes(stream.info.id.as_str(), due(packet.dts)) <= now
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
