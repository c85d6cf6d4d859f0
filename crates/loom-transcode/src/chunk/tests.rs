use std::time::Duration;

use bytes::Bytes;
use loom_core::codec::h264;
use loom_core::{CodecParameters, MediaTime, Packet, Picture, PictureFormat, RenditionId, TrackId};

use super::cut::{Cut, Cutter};
use super::{Chunk, ChunkItem, ChunkRequest};
use crate::backend::{Output, PictureCount};
use crate::{Capabilities, SourceShape, SourceVideoCodec, VideoShape, Wanted, plan};

fn packet(millis: i64, key: bool) -> Packet {
    let pts = MediaTime::from_millis(millis);
    Packet {
        track: TrackId(0),
        pts,
        dts: pts,
        duration: Some(Duration::from_millis(40)),
        key,
        data: Bytes::from(vec![key.into(); 100]),
    }
}

/// Cuts these: times in milliseconds, those of key frames below zero.
fn cut(least: u64, times: &[i64]) -> Vec<Cut> {
    let mut cutter = Cutter::new(Duration::from_millis(least));
    cutter.handle_format("a".to_owned());
    let packets = times.iter().map(|at| packet(at.abs(), *at <= 0));
    let mut cuts: Vec<Cut> = packets.filter_map(|it| cutter.handle_packet(it)).collect();
    cuts.extend(cutter.finish());
    cuts
}

fn times(cut: &Cut) -> Vec<i64> {
    let packets = cut.items.iter().filter_map(|item| match item {
        ChunkItem::Packet(packet) => Some(packet.pts.millis()),
        ChunkItem::Format(_) => None,
    });
    packets.collect()
}

fn shown(cut: &Cut) -> (i64, i64) {
    (cut.shown.start.millis(), cut.shown.end.millis())
}

#[test]
fn a_chunk_ends_at_the_first_key_frame_that_is_far_enough() {
    let cuts = cut(
        1_000,
        &[0, 400, -800, 1_000, -1_200, 1_600, -2_000, -2_400, 2_800],
    );
    let all: Vec<_> = cuts.iter().map(times).collect();
    assert_eq!(
        all,
        [
            vec![0, 400, 800, 1_000],
            vec![1_200, 1_600, 2_000],
            vec![2_400, 2_800]
        ]
    );
    assert_eq!(shown(&cuts[0]), (0, 1_200));
    assert_eq!(shown(&cuts[1]), (1_200, 2_400));
    assert_eq!(cuts[2].shown.start, MediaTime::from_millis(2_400));
    for cut in &cuts {
        assert_eq!(
            cut.items[0],
            ChunkItem::Format("a".to_owned()),
            "it needs nothing of another"
        );
    }
}

#[test]
fn pictures_that_lead_a_key_frame_go_with_what_was_before_it() {
    // In the order of decoding: those of 900 and 950 need both key frames.
    let cuts = cut(1_000, &[0, 500, -1_000, 900, 950, 1_500]);
    assert_eq!(times(&cuts[0]), [0, 500, 1_000, 900, 950]);
    assert_eq!(
        shown(&cuts[0]),
        (0, 1_000),
        "the key frame itself is the next one's"
    );
    assert_eq!(times(&cuts[1]), [1_000, 1_500]);
}

#[test]
fn one_group_of_pictures_is_one_chunk_and_the_end_may_lead_its_key_frame() {
    assert_eq!(cut(1_000, &[0, 1_000, 2_000, 3_000]).len(), 1);
    let cuts = cut(1_000, &[0, 500, -1_000, 900]);
    let all: Vec<_> = cuts.iter().map(times).collect();
    assert_eq!(all, [vec![0, 500, 1_000, 900], vec![1_000]]);
}

#[test]
fn a_key_frame_whose_time_is_behind_what_was_shown_is_none_to_cut_at() {
    let cuts = cut(1_000, &[0, 3_000, -1_500, 2_000, -4_000]);
    let all: Vec<_> = cuts.iter().map(times).collect();
    assert_eq!(all, [vec![0, 3_000, 1_500, 2_000], vec![4_000]]);
}

fn request() -> ChunkRequest {
    let source = SourceShape {
        video: Some(VideoShape::new(SourceVideoCodec::Vp9, 1_280, 720)),
        audio: None,
        live: false,
        duration: None,
    };
    let machine = Capabilities::of(4, ["vp9dec", "x264enc", "vp9parse"]);
    let plan = plan(&source, &Wanted::default(), &machine).expect("a plan");
    ChunkRequest {
        number: 3,
        plan: plan.video.expect("pictures"),
        shown: MediaTime::ZERO..MediaTime::from_millis(1_000),
        items: vec![
            ChunkItem::Format("video/x-vp9, width=(int)1280".to_owned()),
            ChunkItem::Packet(packet(0, true)),
            ChunkItem::Packet(packet(40, false)),
        ],
    }
}

fn made() -> Chunk {
    const SPS: &[u8] = &[
        0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
        0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96,
    ];
    let pps = Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0]);
    let codec = CodecParameters::Video(h264::parameters(SPS, &[pps]).expect("parameters"));
    let mut outputs = Vec::new();
    for rung in request().plan.rungs {
        outputs.push(Output::Format {
            rendition: rung.id.clone(),
            codec: codec.clone(),
        });
        outputs.extend([packet(0, true), packet(40, false)].map(|packet| Output::Packet {
            rendition: rung.id.clone(),
            packet,
        }));
    }
    outputs.push(Output::Thumbnail(Picture {
        pts: MediaTime::ZERO,
        width: 2,
        height: 2,
        format: PictureFormat::Rgb,
        data: Bytes::from_static(&[7; 12]),
    }));
    outputs.push(Output::Counted(PictureCount {
        rendition: request().plan.rungs[0].id.clone(),
        decoded: 2,
        encoded: 2,
        still: 0,
        late: 0,
        missed: 0,
    }));
    Chunk { outputs }
}

#[test]
fn requests_and_chunks_go_through_bytes_as_they_are() {
    let (request, made) = (request(), made());
    let bytes = request.to_bytes();
    assert_eq!(ChunkRequest::from_bytes(&bytes).expect("whole"), request);
    assert_eq!(Chunk::from_bytes(&made.to_bytes()).expect("whole"), made);
    for len in 0..bytes.len() {
        ChunkRequest::from_bytes(&bytes[..len]).expect_err("it is cut short");
    }
}

#[test]
fn a_chunk_that_cannot_be_what_was_asked_for_is_told_from_one_that_can() {
    let (request, good) = (request(), made());
    good.check(&request).expect("it can");
    let refuses = |what: &str, change: &dyn Fn(&mut Chunk)| {
        let mut bad = good.clone();
        change(&mut bad);
        let why = bad.check(&request).expect_err(what).to_string();
        assert!(why.contains(what), "{why}");
    };
    let edit = |at: usize, change: fn(&mut Packet)| {
        move |chunk: &mut Chunk| match &mut chunk.outputs[at] {
            Output::Packet { packet, .. } => change(packet),
            other => panic!("{other:?}"),
        }
    };
    refuses("without a key frame", &edit(1, |it| it.key = false));
    refuses(
        "out of its turn",
        &edit(2, |it| it.pts = MediaTime::from_millis(1_000)),
    );
    refuses("out of its turn", &edit(2, |it| it.pts = MediaTime::ZERO));
    refuses("other instants", &edit(2, |it| it.key = true));
    refuses("not asked for", &|chunk| {
        if let Output::Format { rendition, .. } = &mut chunk.outputs[0] {
            *rendition = RenditionId::new("9p").expect("a name");
        }
    });
}
