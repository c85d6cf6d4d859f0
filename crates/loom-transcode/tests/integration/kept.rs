//! The backend that keeps everything as it came, with the plans that a machine without elements gets.

use bytes::Bytes;
use loom_core::codec::opus;
use loom_core::{
    CodecParameters, Media, MediaTime, Packet, RenditionId, TrackFormat, TrackId, VideoCodec, VideoParameters,
};
use loom_transcode::{
    AudioShape, Backend, Capabilities, KeptBackend, Output, PlanError, SourceAudioCodec, SourceShape,
    SourceVideoCodec, TranscodeError, VideoShape, Wanted, plan,
};

const VIDEO: TrackId = TrackId(0);
const AUDIO: TrackId = TrackId(1);

fn source(video: SourceVideoCodec) -> SourceShape {
    SourceShape {
        video: Some(VideoShape::new(video, 1280, 720)),
        audio: Some(AudioShape {
            codec: SourceAudioCodec::Opus,
            sample_rate: 48_000,
            channels: 2,
            bitrate: None,
        }),
        live: true,
        duration: None,
    }
}

fn formats(codec: VideoCodec) -> [TrackFormat; 2] {
    let video = VideoParameters {
        codec,
        width: 1280,
        height: 720,
        config: Bytes::new(),
    };
    [
        TrackFormat {
            track: VIDEO,
            codec: CodecParameters::Video(video),
        },
        TrackFormat {
            track: AUDIO,
            codec: CodecParameters::Audio(opus::rtp_parameters()),
        },
    ]
}

fn packet(track: TrackId, millis: i64, byte: u8) -> Packet {
    let pts = MediaTime::from_millis(millis);
    Packet {
        track,
        pts,
        dts: pts,
        duration: None,
        key: millis == 0,
        data: Bytes::copy_from_slice(&[byte; 3]),
    }
}

#[tokio::test]
async fn what_is_pushed_comes_out_as_it_came_and_nothing_else() {
    let plan = plan(
        &source(SourceVideoCodec::H264),
        &Wanted::default(),
        &Capabilities::none(),
    )
    .unwrap();
    let names: Vec<_> = plan
        .renditions
        .iter()
        .map(|it| (it.id.to_string(), it.kept))
        .collect();
    assert_eq!(names, [("source".to_owned(), true), ("opus".to_owned(), true)]);
    let formats = formats(VideoCodec::H264);
    let (mut feed, mut outputs) = KeptBackend.live(&plan, &formats).unwrap();
    let mut pushed = Vec::new();
    for at in 0..50 {
        for track in [VIDEO, AUDIO, TrackId(7)] {
            let packet = packet(track, at * 20, at as u8);
            feed.push(Media::Packet(packet.clone()));
            pushed.push(packet);
        }
    }
    feed.push(Media::Format(as_vp8()));
    feed.push(Media::Packet(packet(VIDEO, 1_000, 99)));
    feed.finish();
    let (mut told, mut packets) = (Vec::new(), Vec::new());
    while let Some(output) = outputs.recv().await {
        match output {
            Output::Format { rendition, codec } => told.push((rendition, codec)),
            Output::Packet { rendition, packet } => packets.push((rendition, packet)),
            Output::End => break,
            other => panic!("{other:?}"),
        }
    }
    let id = |name: &str| RenditionId::new(name).unwrap();
    assert_eq!(
        told,
        [
            (id("source"), formats[0].codec.clone()),
            (id("opus"), formats[1].codec.clone())
        ]
    );
    // neither of a track that is not planned for, nor of a codec that the plan is not for
    let expected: Vec<_> = pushed
        .into_iter()
        .filter(|it| it.track != TrackId(7))
        .map(|it| (id(if it.track == VIDEO { "source" } else { "opus" }), it))
        .collect();
    assert_eq!(packets, expected);
}

fn as_vp8() -> TrackFormat {
    let [video, _] = formats(VideoCodec::Vp8);
    video
}

#[test]
fn a_source_that_cannot_be_kept_is_refused_when_it_is_planned_for() {
    let mut vp8 = source(SourceVideoCodec::Vp8);
    vp8.audio = None;
    let refused = plan(&vp8, &Wanted::default(), &Capabilities::none());
    assert!(matches!(refused, Err(PlanError::NoDecoder { .. })), "{refused:?}");
}

#[test]
fn a_plan_that_encodes_is_not_run() {
    let can = Capabilities::of(8, ["avdec_h264", "opusdec", "x264enc", "avenc_aac"]);
    let plan = plan(&source(SourceVideoCodec::H264), &Wanted::default(), &can).unwrap();
    let refused = KeptBackend.live(&plan, &formats(VideoCodec::H264)).err();
    assert!(
        matches!(refused, Some(TranscodeError::Mismatch(_))),
        "{refused:?}"
    );
}
