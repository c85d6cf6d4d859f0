//! Screen and camera in one picture, of tracks as they are stored.
#![cfg(feature = "gst")]

use std::io;
use std::time::Duration;

use loom_core::{Media, MediaTime, Packet, TrackId, VideoCodec};
use loom_transcode::{
    Capabilities, ChunkWorker, Composed, Composition, GstBackend, Output, Rung, SourceShape,
    SourceVideoCodec, TranscodeError, VideoShape, Wanted, compose, compose_chunks, plan,
};

use crate::support::publisher::{Publisher, VIDEO};
use crate::support::{Made, block_on, decodes_without_error, runs_end};

const SIZE: (u32, u32) = (640, 360);

/// With a key frame each second.
fn wanted() -> Composed {
    Composed {
        size: SIZE,
        frame_rate: 30.0,
        keys: (0..4)
            .map(|second| MediaTime::from_millis(second * 1_000))
            .collect(),
    }
}

/// A publisher's pictures as they are stored, from `late` on: each lasts until the next.
fn track(from: Publisher, late: Duration) -> Vec<Media> {
    let is_video = |it: &&loom_core::TrackFormat| it.track == VIDEO;
    let mut media: Vec<Media> = from
        .formats
        .iter()
        .filter(is_video)
        .cloned()
        .map(Media::Format)
        .collect();
    let mut packets: Vec<Packet> = from
        .media
        .into_iter()
        .filter_map(|it| match it {
            Media::Packet(packet) if packet.track == VIDEO => Some(packet),
            _ => None,
        })
        .collect();
    for at in 0..packets.len() {
        let next = packets.get(at + 1).map(|next| next.pts.since(packets[at].pts));
        packets[at].duration = Some(next.unwrap_or(Duration::from_millis(33)));
        packets[at].pts = packets[at].pts + late;
        packets[at].dts = packets[at].dts + late;
    }
    media.extend(packets.into_iter().map(Media::Packet));
    media
}

fn screen(secs: f64) -> Vec<Media> {
    track(Publisher::h264_and_opus(640, 360, secs), Duration::ZERO)
}

/// Of 15 pictures a second, 480x400.
fn camera(secs: f64) -> Vec<Media> {
    let encoder = "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 500k";
    track(
        Publisher::ivf(VideoCodec::Vp8, encoder, secs),
        Duration::from_millis(500),
    )
}

fn run(
    screen: impl Iterator<Item = io::Result<Media>> + Send + 'static,
    camera: impl Iterator<Item = io::Result<Media>> + Send + 'static,
    mut out: impl FnMut(Media) -> io::Result<()>,
) -> Result<MediaTime, TranscodeError> {
    let can = Capabilities::probe().unwrap();
    compose(&can, &Composition::default(), wanted(), screen, camera, &mut out)
}

#[test]
fn a_composition_has_a_picture_for_each_of_the_screen_and_starts_where_key_frames_are_due() {
    let mut made = Made::default();
    let rendition = loom_core::RenditionId::new("composed").unwrap();
    let end = run(
        screen(4.0).into_iter().map(Ok),
        camera(2.0).into_iter().map(Ok),
        |media| {
            made.take(match media {
                Media::Format(format) => Output::Format {
                    rendition: rendition.clone(),
                    codec: format.codec,
                },
                Media::Packet(packet) => Output::Packet {
                    rendition: rendition.clone(),
                    packet,
                },
                other => panic!("{other:?}"),
            });
            Ok(())
        },
    )
    .unwrap();
    assert!((end.millis() - 4_000).abs() <= 10, "{end}");
    assert_eq!(made.video("composed"), SIZE);
    let packets = made.of("composed");
    assert!((115..=125).contains(&packets.len()), "{} pictures", packets.len());
    assert!(
        packets
            .windows(2)
            .all(|it| it[0].pts < it[1].pts && it[0].pts == it[0].dts)
    );
    let keys: Vec<i64> = packets
        .iter()
        .filter(|it| it.key)
        .map(|it| it.pts.millis())
        .collect();
    let first = |media: &Media| match media {
        Media::Packet(packet) => Some(packet.pts.millis()),
        _ => None,
    };
    let shown: Vec<i64> = screen(4.0).iter().filter_map(first).collect();
    let due = |nth: i64| shown.iter().copied().find(|at| *at >= nth * 1_000 - 2);
    let near = |(nth, at): (usize, &i64)| due(nth as i64).is_some_and(|due| (due - at).abs() <= 1);
    assert!(
        keys.len() == 4 && keys.iter().enumerate().all(near),
        "where the screen has a picture: {keys:?}"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("composed.h264");
    std::fs::write(&path, made.annex_b("composed")).unwrap();
    assert_eq!(decodes_without_error(&path, "h264"), packets.len() as u64);
    runs_end("a composition");
}

#[test]
fn a_composition_in_chunks_is_what_it_is_in_one_and_has_the_planners_rungs() {
    let can = Capabilities::probe().unwrap();
    let source = SourceShape {
        video: Some(VideoShape::new(SourceVideoCodec::H264, SIZE.0, SIZE.1)),
        audio: None,
        live: false,
        duration: None,
    };
    let ladder = Wanted {
        rungs: Rung::new(180, 300_000).into_iter().collect(),
        poster: false,
        thumbnails: None,
        ..Wanted::default()
    };
    let plan = plan(&source, &ladder, &can).unwrap();
    let names: Vec<&str> = plan.renditions.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(names, ["source", "180p"]);
    let all = |media: Vec<Media>| media.into_iter().map(Ok);
    let mut whole = Vec::new();
    let end = run(all(screen(4.0)), all(camera(2.0)), |media| {
        whole.extend(match media {
            Media::Packet(packet) => Some(packet),
            _ => None,
        });
        Ok(())
    });
    end.unwrap();
    let least = Duration::from_millis(1_500);
    let layout = Composition::default();
    let chunks = compose_chunks(
        &can,
        &layout,
        wanted(),
        (&plan, least),
        all(screen(4.0)),
        all(camera(2.0)),
    );
    let (mut chunks, encoder) = (chunks.unwrap(), GstBackend::new().unwrap());
    let (made, from) = block_on(async move {
        let (mut made, mut from) = (Made::default(), Vec::new());
        while let Some(chunk) = chunks.recv().await {
            let chunk = chunk.unwrap();
            from.push(chunk.request.shown.start.millis());
            chunk.kept.into_iter().for_each(|output| made.take(output));
            let encoded = encoder.encode(chunk.request.clone()).await.unwrap();
            encoded.check(&chunk.request).unwrap();
            encoded.outputs.into_iter().for_each(|output| made.take(output));
        }
        (made, from)
    });
    assert_eq!(
        from,
        [0, 2_007],
        "a chunk ends at a key frame, which is where the screen has a picture"
    );
    let kept: Vec<(MediaTime, bool)> = made.of("source").iter().map(|it| (it.pts, it.key)).collect();
    let wanted: Vec<(MediaTime, bool)> = whole.iter().map(|it| (it.pts, it.key)).collect();
    assert_eq!(kept, wanted);
    let keys = |id: &str| -> Vec<MediaTime> {
        let keys = made.of(id).iter().filter(|it| it.key);
        keys.map(|it| it.pts).collect()
    };
    assert_eq!(keys("180p"), keys("source"));
    assert_eq!(made.video("180p"), (320, 180));
    runs_end("a composition in chunks");
}

#[test]
fn what_fails_on_either_side_ends_it_with_its_words_and_leaves_nothing_running() {
    let broken = || Err(io::Error::other("the disk is gone"));
    let (screen, camera) = (screen(2.0), camera(2.0));
    let all = |media: &Vec<Media>| media.clone().into_iter().map(Ok);
    let some = |media: &Vec<Media>| all(media).take(20).chain([broken()]);
    let why = run(some(&screen), all(&camera), |_| Ok(()));
    assert_eq!(
        why.unwrap_err().to_string(),
        "the screen of a composition: the disk is gone"
    );
    let why = run(all(&screen), some(&camera), |_| Ok(()));
    assert_eq!(
        why.unwrap_err().to_string(),
        "the camera of a composition: the disk is gone"
    );
    let mut taken = 0;
    let full = |_| {
        taken += 1;
        match taken {
            10 => Err(io::Error::other("the disk is full")),
            _ => Ok(()),
        }
    };
    let why = run(all(&screen), all(&camera), full);
    assert_eq!(
        why.unwrap_err().to_string(),
        "the pictures of a composition: the disk is full"
    );
    assert_eq!(taken, 10, "nothing comes behind an error");
    runs_end("a composition that failed");
}

#[test]
fn a_track_in_another_codec_from_the_middle_on_is_refused() {
    let mut changed = screen(1.0);
    changed.extend(camera(1.0));
    let why = run(
        changed.into_iter().map(Ok),
        camera(1.0).into_iter().map(Ok),
        |_| Ok(()),
    )
    .unwrap_err();
    assert!(why.to_string().contains("its codec changes"), "{why}");
    let sound = Media::Packet(Packet {
        track: TrackId(0),
        pts: MediaTime::ZERO,
        dts: MediaTime::ZERO,
        duration: None,
        key: true,
        data: bytes::Bytes::new(),
    });
    let why = run(
        [sound].into_iter().map(Ok),
        camera(1.0).into_iter().map(Ok),
        |_| Ok(()),
    )
    .unwrap_err();
    assert!(matches!(why, TranscodeError::Mismatch(_)), "{why}");
    let odd = Composed {
        size: (641, 360),
        ..wanted()
    };
    let (none, can) = (Vec::<io::Result<Media>>::new, Capabilities::probe().unwrap());
    let why = compose(
        &can,
        &Composition::default(),
        odd,
        none().into_iter(),
        none().into_iter(),
        |_| Ok(()),
    );
    assert!(why.unwrap_err().to_string().contains("641x360"));
}
