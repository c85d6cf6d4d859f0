use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use loom_core::{
    AudioCodec, AudioParameters, CodecParameters, MediaTime, Packet, PcmFrame, RenditionId, TrackId,
};

use super::message::{Order, Refusal, Said, Task, hear, say};
use crate::backend::Output;
use crate::chunk::{ChunkItem, ChunkRequest};
use crate::gst::SourceChunk;
use crate::plan::{AudioShape, Plan, SourceAudioCodec};
use crate::{
    Capabilities, MediaInfo, SourceShape, SourceVideoCodec, VideoInfo, VideoShape, Wanted, limits, plan,
};

/// A number whose text is long.
const RATE: f64 = 29.970_029_970_029_973;

fn info() -> MediaInfo {
    MediaInfo {
        container: "video/quicktime".to_owned(),
        duration: Duration::from_nanos(9_000_000_001),
        video: Some(VideoInfo {
            shape: VideoShape {
                frame_rate: Some(RATE),
                ..VideoShape::new(SourceVideoCodec::Vp9, 1_280, 720)
            },
            frames: 270,
            key_frames: 9,
            group_bytes: 1 << 20,
        }),
        audio: None,
        ignored: vec!["stream 2: \u{201e}its codec\u{201d}".to_owned()],
    }
}

fn planned() -> Plan {
    let sound = AudioShape {
        codec: SourceAudioCodec::Aac,
        sample_rate: 44_100,
        channels: 2,
        bitrate: None,
    };
    let shape = SourceShape {
        audio: Some(sound),
        ..info().shape()
    };
    let machine = Capabilities::of(4, ["vp9dec", "x264enc", "vp9parse", "avdec_aac"]);
    plan(&shape, &Wanted::default(), &machine).expect("a plan")
}

fn packet(millis: i64) -> Packet {
    Packet {
        track: TrackId(0),
        pts: MediaTime::from_millis(millis),
        dts: MediaTime::from_millis(millis - 40),
        duration: None,
        key: millis == 0,
        data: Bytes::from(format!("the picture of {millis}")),
    }
}

fn request() -> ChunkRequest {
    ChunkRequest {
        number: 7,
        plan: planned().video.expect("pictures"),
        shown: MediaTime::ZERO..MediaTime::from_nanos(i64::MAX),
        items: vec![
            ChunkItem::Format("video/x-vp9".to_owned()),
            ChunkItem::Packet(packet(0)),
            ChunkItem::Packet(packet(40)),
        ],
    }
}

#[test]
fn a_task_arrives_as_it_was_given() {
    let path = PathBuf::from(OsStr::from_bytes(b"/a folder/no \xff text.mp4"));
    let tasks = [
        Task::Probe { path: path.clone() },
        Task::Chunks {
            plan: planned(),
            path: path.clone(),
            least: Duration::from_secs(8),
        },
        Task::File {
            plan: planned(),
            path,
        },
        Task::Encode(Arc::new(request())),
    ];
    for task in tasks {
        let order = Order::read(task.order(Some(4 << 30)).into()).expect("it is read");
        assert_eq!(order.memory, Some(4 << 30));
        assert_eq!(format!("{:?}", order.task), format!("{task:?}"));
    }
}

#[test]
fn what_is_said_arrives_as_it_was_said_and_cut_short_it_is_no_message() {
    let rendition = || RenditionId::new("aac").expect("a name");
    let outputs = [
        Output::Format {
            rendition: rendition(),
            codec: CodecParameters::Audio(AudioParameters {
                codec: AudioCodec::Aac,
                sample_rate: 48_000,
                channels: 2,
                config: Bytes::from_static(&[0x11, 0x90]),
            }),
        },
        Output::Packet {
            rendition: rendition(),
            packet: packet(80),
        },
        Output::Pcm(PcmFrame {
            pts: MediaTime::from_millis(-20),
            sample_rate: 16_000,
            channels: 1,
            samples: vec![0.1, -1.0, f32::MIN_POSITIVE],
        }),
        Output::Progress {
            done: MediaTime::from_millis(500),
            total: None,
        },
        Output::Failed {
            rendition: None,
            reason: "why".to_owned(),
        },
    ];
    let kept = vec![Output::Packet {
        rendition: rendition(),
        packet: packet(0),
    }];
    let others = [
        Said::Alive,
        Said::Info(info()),
        Said::Source(SourceChunk {
            request: Arc::new(request()),
            kept,
        }),
        Said::Broken("it ends".to_owned()),
        Said::Refused(Refusal::Damaged("its index is missing".to_owned())),
        Said::Done,
    ];
    for said in outputs.into_iter().map(Said::Output).chain(others) {
        let message = said.to_bytes().expect("it can be said");
        let read = Said::read(message.clone().into()).expect("it is read");
        assert_eq!(format!("{read:?}"), format!("{said:?}"));
        for short in 0..message.len() {
            let cut = Said::read(message[..short].to_vec().into());
            assert!(cut.is_err(), "{said:?} without its end is {cut:?}");
        }
    }
    assert!(Said::Output(Output::End).to_bytes().is_none());
}

#[test]
fn no_more_is_listened_to_at_once_than_the_limit_and_what_was_not_said_takes_no_memory() {
    let mut line = Vec::new();
    say(b"one", &mut line).expect("said");
    say(b"", &mut line).expect("said");
    let mut heard = line.as_slice();
    assert_eq!(hear(&mut heard).expect("heard").as_deref(), Some(&b"one"[..]));
    assert_eq!(hear(&mut heard).expect("heard").as_deref(), Some(&b""[..]));
    assert_eq!(hear(&mut heard).expect("heard"), None);
    let too_much = (limits::MESSAGE_BYTES + 1).to_be_bytes();
    let why = hear(&mut too_much.as_slice()).expect_err("it is too much");
    assert!(why.to_string().contains("at once"), "{why}");
    let mut torn = limits::MESSAGE_BYTES.to_be_bytes().to_vec();
    torn.extend_from_slice(b"and no more");
    assert_eq!(hear(&mut torn.as_slice()).expect("heard"), None);
}
