//! What holds of every graph: key frames of all rungs at the same instants, no picture lost unseen, and sound in step with pictures.
#![cfg(feature = "gst")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::support::publisher::{Publisher, VIDEO};
use crate::support::{Made, block_on, decoded_samples, drain, ffmpeg, pictures};
use loom_core::{Media, MediaTime, VideoCodec};
use loom_transcode::{
    Backend, Capabilities, ChunkWorker, GstBackend, PictureCount, Plan, Wanted, plan, probe_file, read_chunks,
};

fn wanted(keep_source: bool) -> Wanted {
    Wanted {
        keep_source,
        live_cores: Some(8.0),
        ..Wanted::default()
    }
}

/// All rungs and the source have key frames at the same instants, of which there are `count`; every picture is accounted for.
fn judge(made: &Made, pushed: usize, count: usize, what: &str) {
    assert!(made.failed.is_empty(), "{what}: {:?}", made.failed);
    let pictures: Vec<_> = made
        .packets
        .keys()
        .filter(|id| id.ends_with('p') || *id == "source")
        .collect();
    assert!(pictures.len() >= 2, "{what}: {pictures:?}");
    let keys = made.key_times(pictures[0]);
    assert_eq!(keys.len(), count, "{what}: {keys:?}");
    for id in &pictures {
        assert_eq!(made.key_times(id), keys, "{what}: {id}");
    }
    made.assert_pictures_add_up();
    for (id, count) in &made.counts {
        assert_eq!(count.decoded, pushed as u64, "{what}: {id}");
    }
}

/// Moves each picture by up to 30 ms, never past another.
fn uneven(publisher: &mut Publisher) -> usize {
    let mut count = 0;
    for media in &mut publisher.media {
        if let Media::Packet(packet) = media
            && packet.track == VIDEO
        {
            let off = Duration::from_micros(count * 7_919 % 30_000);
            (packet.pts, packet.dts, packet.duration) = (packet.pts + off, packet.dts + off, None);
            count += 1;
        }
    }
    count as usize
}

#[test]
fn live_pictures_of_uneven_rate_have_key_frames_at_the_same_instants_in_all_rungs() {
    let mut kept = Publisher::h264_and_opus(854, 480, 4.0);
    let count = uneven(&mut kept);
    let plan = kept.plan(16, &wanted(true));
    judge(&kept.run(&plan), count, 4, "H.264");
    let encoder = "-c:v libvpx -deadline realtime -cpu-used 8 -lag-in-frames 0 -threads 1 -auto-alt-ref 0";
    let mut encoded = Publisher::ivf(VideoCodec::Vp8, encoder, 5.0);
    let count = uneven(&mut encoded);
    let plan = encoded.plan(16, &wanted(false));
    judge(&encoded.run(&plan), count, 3, "VP8");
}

#[test]
fn a_files_pictures_of_uneven_rate_have_key_frames_at_the_same_instants_whole_and_in_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let source = pictures(854, 480, 30, 6.0);
    let uneven = "-vf select='mod(n\\,7)*mod(n\\,3)' -fps_mode vfr -pix_fmt yuv420p";
    for (name, codec) in [
        (
            "kept.mkv",
            "-c:v libx264 -preset ultrafast -bf 2 -force_key_frames expr:gte(t,n_forced*2)",
        ),
        (
            "encoded.webm",
            "-c:v libvpx -deadline realtime -cpu-used 8 -force_key_frames expr:gte(t,n_forced*2)",
        ),
    ] {
        let path = ffmpeg(&format!("{source} {uneven} {codec}"), &dir.path().join(name));
        let plan = file_plan(&path);
        let frames = probe_file(&path).unwrap().video.unwrap().frames as usize;
        judge(
            &drain(GstBackend::new().unwrap().file(&plan, &path).unwrap()),
            frames,
            3,
            name,
        );
        judge(&chunked(&plan, &path), frames, 3, name);
    }
}

fn file_plan(path: &Path) -> Plan {
    let info = probe_file(path).unwrap();
    plan(&info.shape(), &Wanted::default(), &Capabilities::probe().unwrap()).unwrap()
}

/// The pictures in chunks of two seconds, the sound by itself.
fn chunked(plan: &Plan, path: &Path) -> Made {
    let mut source = read_chunks(plan, path, Duration::from_secs(2)).unwrap();
    let worker = GstBackend::new().unwrap();
    let mut made = Made::default();
    let mut totals = BTreeMap::new();
    while let Some(chunk) = block_on(source.recv()) {
        let chunk = chunk.unwrap();
        let encoded = block_on(worker.encode(Arc::clone(&chunk.request))).unwrap();
        chunk
            .kept
            .into_iter()
            .chain(encoded.outputs)
            .for_each(|output| made.take(output));
        for (id, count) in std::mem::take(&mut made.counts) {
            let before = totals.remove(&id).unwrap_or(PictureCount {
                decoded: 0,
                encoded: 0,
                still: 0,
                ..count.clone()
            });
            let total = PictureCount {
                decoded: before.decoded + count.decoded,
                encoded: before.encoded + count.encoded,
                still: before.still + count.still,
                ..count
            };
            totals.insert(id, total);
        }
    }
    made.counts = totals;
    if plan.audio.is_some() {
        let alone = Plan {
            video: None,
            ..plan.clone()
        };
        let sound = drain(GstBackend::new().unwrap().file(&alone, path).unwrap());
        made.packets.extend(sound.packets);
        made.formats.extend(sound.formats);
    }
    made
}

/// Black and silent for two seconds, then white and loud.
fn clap(folder: &Path, codecs: &str, name: &str) -> PathBuf {
    let half = |colour: &str| format!("color={colour}:size=854x480:rate=25:duration=2");
    let args = format!(
        "-f lavfi -i {}[b];{}[w];[b][w]concat -f lavfi -i aevalsrc=gte(t\\,2)*0.5*sin(2000*t):sample_rate=48000:duration=4 \
         -pix_fmt yuv420p {codecs}",
        half("black"),
        half("white")
    );
    ffmpeg(&args, &folder.join(name))
}

/// When a rung's pictures become white, and when its `aac` becomes loud, seconds, as ffmpeg decodes them.
fn seen_and_heard(made: &Made, rung: &str, folder: &Path) -> (f64, f64) {
    let (coded, luma, adts) = (folder.join("c.h264"), folder.join("luma"), folder.join("a.aac"));
    std::fs::write(&coded, made.annex_b(rung)).unwrap();
    ffmpeg(
        &format!(
            "-i {} -fps_mode passthrough -vf scale=2:2,format=gray -f rawvideo",
            coded.display()
        ),
        &luma,
    );
    let luma = std::fs::read(&luma).unwrap();
    let (pictures, rest) = luma.as_chunks::<4>();
    assert!(rest.is_empty() && pictures.len() == made.of(rung).len());
    let white = pictures
        .iter()
        .position(|it| it[0] > 128)
        .expect("it becomes white");
    std::fs::write(&adts, made.adts("aac")).unwrap();
    let samples = decoded_samples(&adts, "aac");
    let loud = samples
        .iter()
        .position(|it| it.abs() > 0.1)
        .expect("it becomes loud");
    let heard = made.of("aac")[0].pts.secs_f64() + loud as f64 / 48_000.0;
    (made.of(rung)[white].pts.secs_f64(), heard)
}

#[test]
fn sound_and_pictures_are_in_step_live_from_a_file_and_in_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let live = "-c:v libx264 -preset ultrafast -tune zerolatency -g 50 -c:a libopus";
    let publisher = Publisher::from_file(&clap(dir.path(), live, "live.mkv"));
    let plan = publisher.plan(16, &wanted(true));
    let made = publisher.run(&plan);
    let near = |what: &str, made: &Made| {
        let (seen, heard) = seen_and_heard(made, "360p", dir.path());
        eprintln!(
            "{what}: seen at {seen:.4} s, heard {:.1} ms later",
            (heard - seen) * 1e3
        );
        assert!(
            (heard - seen).abs() <= 0.020,
            "{what}: seen at {seen}, heard at {heard}"
        );
    };
    near("live", &made);
    for (name, codecs) in [
        (
            "reordered.mp4",
            "-c:v libx264 -preset veryfast -bf 3 -g 50 -c:a aac",
        ),
        (
            "opus.webm",
            "-c:v libvpx -deadline realtime -cpu-used 8 -g 50 -c:a libopus",
        ),
    ] {
        let path = clap(dir.path(), codecs, name);
        let plan = file_plan(&path);
        near(
            name,
            &drain(GstBackend::new().unwrap().file(&plan, &path).unwrap()),
        );
        near(&format!("{name} in chunks"), &chunked(&plan, &path));
    }
}

#[test]
fn times_before_zero_shift_nothing() {
    let mut publisher = Publisher::h264_and_opus(854, 480, 3.0);
    for media in &mut publisher.media {
        if let Media::Packet(packet) = media {
            (packet.pts, packet.dts) = (
                packet.pts - Duration::from_millis(900),
                packet.dts - Duration::from_millis(900),
            );
        }
    }
    let plan = publisher.plan(16, &wanted(true));
    let made = publisher.run(&plan);
    judge(&made, 90, 3, "before zero");
    assert!(made.key_times("360p")[0] < MediaTime::ZERO.nanos());
}
