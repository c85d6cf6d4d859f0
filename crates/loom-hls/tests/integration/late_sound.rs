//! Sound whose encoder lags, as on a machine that is overloaded: what it is made of is there, so it is waited for and all of it kept.
//! ffprobe judges.

use std::time::Duration;

use crate::support::media::{self, aac_stream, h264_stream, opus_stream};
use crate::support::{Folder, id};
use loom_core::MediaTime;
use loom_hls::{Packager, PackagerConfig};

const SECONDS: u32 = 12;

#[test]
fn sound_that_is_encoded_late_is_not_taken_for_silence() {
    if !media::have_ffmpeg() {
        return;
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
            let stands = stream.info.id == id("aac") && (3_000..7_500).contains(&now);
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
    for (stream, sent) in streams.iter().zip(next).skip(1) {
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
