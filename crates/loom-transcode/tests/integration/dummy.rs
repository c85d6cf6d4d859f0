//! The backend without codecs, judged by ffmpeg.

use std::time::Duration;

use crate::support::{Made, decodes_without_error, drain, judge_video};
use loom_core::codec::opus;
use loom_core::{CodecParameters, Media, MediaTime, Packet, TrackFormat, TrackId};
use loom_transcode::{
    AudioShape, Backend, Capabilities, DummyBackend, Plan, SourceAudioCodec, SourceShape, SourceVideoCodec,
    VideoShape, Wanted, plan,
};

fn can() -> Capabilities {
    Capabilities::of(8, ["avdec_h264", "vp8dec", "opusdec", "x264enc", "avenc_aac"])
}

fn file_plan() -> Plan {
    let source = SourceShape {
        video: Some(VideoShape::new(SourceVideoCodec::Vp8, 1230, 674)),
        audio: Some(AudioShape {
            codec: SourceAudioCodec::Opus,
            sample_rate: 48_000,
            channels: 2,
            bitrate: None,
        }),
        live: false,
        duration: Some(Duration::from_secs(5)),
    };
    let wanted = Wanted {
        keep_source: false,
        ..Wanted::default()
    };
    plan(&source, &wanted, &can()).unwrap()
}

fn run_file(plan: &Plan) -> Made {
    drain(
        DummyBackend
            .file(plan, concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").as_ref())
            .unwrap(),
    )
}

#[test]
fn a_file_becomes_grey_and_silence_that_decode() {
    let dir = tempfile::tempdir().unwrap();
    let made = run_file(&file_plan());
    for id in ["720p", "480p", "360p"] {
        assert_eq!(made.of(id).len(), 150);
        assert_eq!(made.key_times(id), [0, 2_000_000_000, 4_000_000_000]);
        judge_video(&made, id, dir.path());
    }
    made.assert_aac_is_contiguous("aac");
    let path = dir.path().join("a.aac");
    std::fs::write(&path, made.adts("aac")).unwrap();
    assert_eq!(decodes_without_error(&path, "aac"), made.of("aac").len() as u64);
    let path = dir.path().join("p.jpg");
    std::fs::write(&path, &made.posters[0].data).unwrap();
    assert_eq!(crate::support::ffprobe(&path, "stream=width,height"), "64,36");
    assert_eq!(made.pcm_line().1.len(), 5 * 16_000);
}

#[test]
fn it_makes_the_same_each_time() {
    let (one, two) = (run_file(&file_plan()), run_file(&file_plan()));
    assert_eq!(one.packets, two.packets);
}

#[test]
fn live_it_keeps_the_source_and_follows_its_times() {
    let grey = run_file(&file_plan());
    let video = TrackId(0);
    let audio = TrackId(1);
    let formats = [
        TrackFormat {
            track: video,
            codec: grey.formats["720p"][0].clone(),
        },
        TrackFormat {
            track: audio,
            codec: CodecParameters::Audio(opus::parameters(1, 312)),
        },
    ];
    let plan = plan(&SourceShape::from_formats(&formats), &Wanted::default(), &can()).unwrap();
    let (mut feed, outputs) = DummyBackend.live(&plan, &formats).unwrap();
    for (n, packet) in grey.of("720p").iter().enumerate() {
        let pts = packet.pts + Duration::from_millis(n as u64 % 3);
        feed.push(Media::Packet(Packet {
            pts,
            dts: pts,
            ..packet.clone()
        }));
    }
    let sound = MediaTime::from_millis(40);
    feed.push(Media::Packet(Packet {
        track: audio,
        pts: sound,
        dts: sound,
        duration: Some(Duration::from_millis(60)),
        key: true,
        data: vec![0xf8].into(),
    }));
    feed.finish();
    let made = drain(outputs);
    assert_eq!(made.of("source").len(), 150);
    assert_eq!(made.times("360p"), made.times("source"));
    assert_eq!(made.key_times("360p"), made.key_times("source"));
    assert_eq!(made.of("opus").len(), 1);
    assert_eq!(made.times("aac")[0], sound.nanos());
}

#[test]
fn a_consumer_that_stands_still_is_told_what_it_missed() {
    let formats = [TrackFormat {
        track: TrackId(3),
        codec: CodecParameters::Audio(opus::parameters(1, 312)),
    }];
    let plan = plan(&SourceShape::from_formats(&formats), &Wanted::default(), &can()).unwrap();
    let (mut feed, outputs) = DummyBackend.live(&plan, &formats).unwrap();
    for n in 0..10_000 {
        let pts = MediaTime::from_millis(20 * n);
        feed.push(Media::Packet(Packet {
            track: TrackId(3),
            pts,
            dts: pts,
            duration: Some(Duration::from_millis(20)),
            key: true,
            data: vec![0xf8].into(),
        }));
    }
    feed.finish();
    let made = drain(outputs);
    assert!((4_000..4_096).contains(&made.of("opus").len()));
    assert_eq!(made.failed.len(), 1);
    assert!(made.failed[0].1.contains("not taken"), "{:?}", made.failed);
}
