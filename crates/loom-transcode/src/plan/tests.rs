use super::*;

fn full(cores: usize) -> Capabilities {
    Capabilities::of(
        cores,
        [
            "avdec_h264",
            "avdec_h265",
            "vp8dec",
            "vp9dec",
            "av1dec",
            "opusdec",
            "avdec_aac",
            "vorbisdec",
            "mpg123audiodec",
            "flacdec",
            "x264enc",
            "avenc_aac",
        ],
    )
}

fn live(codec: SourceVideoCodec, w: u32, h: u32) -> SourceShape {
    SourceShape {
        video: Some(VideoShape::new(codec, w, h)),
        audio: Some(opus()),
        live: true,
        duration: None,
    }
}

fn file(video: VideoShape) -> SourceShape {
    SourceShape {
        video: Some(video),
        live: false,
        ..SourceShape::default()
    }
}

fn opus() -> AudioShape {
    AudioShape {
        codec: SourceAudioCodec::Opus,
        sample_rate: 48_000,
        channels: 2,
        bitrate: None,
    }
}

fn ids(plan: &Plan) -> Vec<&str> {
    plan.renditions.iter().map(|it| it.id.as_str()).collect()
}

#[test]
fn a_live_h264_source_is_kept_and_two_cores_add_one_rung() {
    let made = plan(
        &live(SourceVideoCodec::H264, 1280, 720),
        &Wanted::default(),
        &full(2),
    )
    .unwrap();
    assert_eq!(ids(&made), ["source", "360p", "opus", "aac"]);
    assert_eq!(made.video.as_ref().unwrap().keys, KeyRule::WithSource);
    let made = plan(
        &live(SourceVideoCodec::H264, 1920, 1080),
        &Wanted::default(),
        &full(2),
    )
    .unwrap();
    assert_eq!(ids(&made), ["source", "360p", "opus", "aac"]);
}

#[test]
fn more_cores_add_rungs_from_the_lowest_then_from_the_top() {
    let wanted = Wanted::default();
    let at = |cores| {
        let made = plan(&live(SourceVideoCodec::H264, 1920, 1080), &wanted, &full(cores)).unwrap();
        ids(&made)[1..made.renditions.len() - 2].join(" ")
    };
    assert_eq!(at(1), "360p");
    assert_eq!(at(4), "480p 360p");
    assert_eq!(at(16), "720p 480p 360p");
}

#[test]
fn a_source_that_cannot_be_kept_gets_a_top_rung_of_its_own_size() {
    for codec in [
        SourceVideoCodec::Vp8,
        SourceVideoCodec::Vp9,
        SourceVideoCodec::Av1,
        SourceVideoCodec::Hevc,
    ] {
        let made = plan(&live(codec, 1280, 674), &Wanted::default(), &full(2)).unwrap();
        assert_eq!(ids(&made), ["720p", "360p", "opus", "aac"], "{made}");
        let video = made.video.unwrap();
        assert_eq!((video.rungs[0].width, video.rungs[0].height), (1280, 674));
        assert_eq!((video.rungs[1].width, video.rungs[1].height), (684, 360));
        assert_eq!(video.keys, KeyRule::Every(Duration::from_secs(2)));
    }
}

#[test]
fn a_source_alone_needs_no_decoder_and_no_encoder() {
    let made = plan(
        &live(SourceVideoCodec::H264, 1280, 720),
        &Wanted::source_only(),
        &full(2),
    )
    .unwrap();
    assert_eq!(ids(&made), ["source", "opus"]);
    let (video, audio) = (made.video.unwrap(), made.audio.unwrap());
    assert_eq!((video.route, video.fallbacks), (None, Vec::new()));
    assert_eq!((audio.decoder, audio.encoder, audio.pcm), (None, None, false));
}

#[test]
fn without_a_ladder_what_cannot_be_kept_becomes_one_rendition_of_its_own_size() {
    let made = plan(
        &live(SourceVideoCodec::Vp8, 1280, 674),
        &Wanted::source_only(),
        &full(2),
    )
    .unwrap();
    assert_eq!(ids(&made), ["674p", "opus"]);
    let rung = &made.video.unwrap().rungs[0];
    assert_eq!((rung.width, rung.height), (1280, 674));
}

#[test]
fn nothing_is_upscaled_at_any_size() {
    for (w, h) in [
        (16, 16),
        (320, 240),
        (426, 240),
        (640, 360),
        (641, 361),
        (854, 480),
        (3840, 2160),
        (1080, 1920),
    ] {
        for codec in [SourceVideoCodec::H264, SourceVideoCodec::Vp8] {
            for live_source in [true, false] {
                let mut source = live(codec, w, h);
                source.live = live_source;
                let made = plan(&source, &Wanted::default(), &full(4)).unwrap();
                for rung in &made.video.as_ref().unwrap().rungs {
                    assert!(rung.width <= w && rung.height <= h, "{made}");
                    assert!(rung.width % 2 == 0 && rung.height % 2 == 0);
                    let (aspect, shown) = (
                        f64::from(rung.width) / f64::from(rung.height),
                        f64::from(w) / f64::from(h),
                    );
                    assert!((aspect / shown - 1.0).abs() < 0.06, "{aspect} for {shown}");
                }
                let videos = made
                    .renditions
                    .iter()
                    .filter(|it| it.kind() == MediaKind::Video)
                    .count();
                assert!(videos >= if w.min(h) > 360 { 2 } else { 1 }, "{made}");
            }
        }
    }
}

#[test]
fn a_live_source_above_360_lines_always_has_two_video_renditions() {
    for h in (362..2160).step_by(2) {
        for codec in [SourceVideoCodec::H264, SourceVideoCodec::Vp8] {
            let made = plan(&live(codec, h * 16 / 9, h), &Wanted::default(), &full(1)).unwrap();
            let videos = made
                .renditions
                .iter()
                .filter(|it| it.kind() == MediaKind::Video)
                .count();
            assert!(videos >= 2, "{h} lines of {codec}:\n{made}");
        }
    }
}

#[test]
fn a_portrait_source_is_measured_by_its_shorter_side() {
    let made = plan(
        &live(SourceVideoCodec::Vp8, 720, 1280),
        &Wanted::default(),
        &full(8),
    )
    .unwrap();
    let sizes: Vec<_> = made
        .video
        .unwrap()
        .rungs
        .iter()
        .map(|it| (it.width, it.height))
        .collect();
    assert_eq!(sizes, [(720, 1280), (480, 854), (360, 640)]);
}

#[test]
fn a_file_is_kept_only_where_its_key_frames_suit_segments() {
    let mut video = VideoShape::new(SourceVideoCodec::H264, 1920, 1080);
    video.key_interval = Some(Duration::from_secs(5));
    let made = plan(&file(video.clone()), &Wanted::default(), &full(2)).unwrap();
    assert_eq!(ids(&made), ["source", "720p", "480p", "360p"]);
    video.key_interval = Some(Duration::from_secs(10));
    let made = plan(&file(video), &Wanted::default(), &full(2)).unwrap();
    assert_eq!(ids(&made), ["1080p", "720p", "480p", "360p"]);
    assert!(made.to_string().contains("up to 10.0 s apart"), "{made}");
}

#[test]
fn a_file_with_odd_properties_is_not_kept() {
    let ordinary = VideoShape::new(SourceVideoCodec::H264, 1280, 720);
    for odd in [
        Oddity::EditList,
        Oddity::Interlaced,
        Oddity::PixelFormat,
        Oddity::StartsWithoutKeyFrame,
    ] {
        let mut video = ordinary.clone();
        video.odd.push(odd);
        let made = plan(&file(video), &Wanted::default(), &full(2)).unwrap();
        assert!(made.video.as_ref().unwrap().keep.is_none(), "{made}");
    }
    let mut turned = ordinary.clone();
    turned.rotation = Rotation::Quarter;
    let made = plan(&file(turned), &Wanted::default(), &full(2)).unwrap();
    let rung = &made.video.as_ref().unwrap().rungs[0];
    assert_eq!((rung.width, rung.height), (720, 1280), "{made}");
    let mut wide = ordinary;
    wide.pixel_aspect = (4, 3);
    let made = plan(&file(wide), &Wanted::default(), &full(2)).unwrap();
    let rung = &made.video.as_ref().unwrap().rungs[0];
    assert_eq!((rung.width, rung.height), (1280, 540), "{made}");
}

#[test]
fn aac_sound_of_a_file_is_kept_and_not_made_twice() {
    let mut source = file(VideoShape::new(SourceVideoCodec::Vp9, 640, 360));
    source.audio = Some(AudioShape {
        codec: SourceAudioCodec::Aac,
        sample_rate: 44_100,
        channels: 2,
        bitrate: None,
    });
    let made = plan(&source, &Wanted::default(), &full(2)).unwrap();
    assert_eq!(ids(&made), ["360p", "aac"]);
    let audio = made.audio.unwrap();
    assert!(audio.encoder.is_none() && audio.decoder.is_some() && audio.pcm);
}

#[test]
fn sound_that_cannot_be_kept_becomes_aac_alone() {
    for codec in [
        SourceAudioCodec::Vorbis,
        SourceAudioCodec::Mp3,
        SourceAudioCodec::Flac,
        SourceAudioCodec::Pcm,
    ] {
        let source = SourceShape {
            audio: Some(AudioShape {
                codec,
                sample_rate: 44_100,
                channels: 6,
                bitrate: None,
            }),
            ..SourceShape::default()
        };
        let made = plan(&source, &Wanted::default(), &full(2)).unwrap();
        assert_eq!(ids(&made), ["aac"]);
        assert_eq!(made.audio.unwrap().channels, 2);
    }
}

#[test]
fn a_machine_without_x264_still_keeps_what_it_can() {
    let bare = Capabilities::of(4, ["avdec_h264", "opusdec"]);
    let made = plan(
        &live(SourceVideoCodec::H264, 1280, 720),
        &Wanted::default(),
        &bare,
    )
    .unwrap();
    assert_eq!(ids(&made), ["source", "opus"]);
    assert!(made.to_string().contains("no rungs"), "{made}");
    let refused = plan(&live(SourceVideoCodec::Vp8, 1280, 720), &Wanted::default(), &bare);
    // the sound goes on alone, and the plan says why
    let made = refused.unwrap();
    assert_eq!(ids(&made), ["opus"]);
    assert!(made.to_string().contains("no decoder for VP8"), "{made}");
}

#[test]
fn a_source_of_which_nothing_could_come_is_refused_with_what_was_looked_for() {
    let mut source = live(SourceVideoCodec::Av1, 1280, 720);
    source.audio = None;
    let why = plan(&source, &Wanted::default(), &Capabilities::of(4, ["x264enc"]))
        .unwrap_err()
        .to_string();
    assert!(why.contains("AV1") && why.contains("dav1ddec, av1dec"), "{why}");
    assert_eq!(
        plan(&SourceShape::default(), &Wanted::default(), &full(2)).unwrap_err(),
        PlanError::NoMedia
    );
    let huge = SourceShape {
        audio: None,
        ..live(SourceVideoCodec::Vp8, 40_000, 10)
    };
    assert!(matches!(
        plan(&huge, &Wanted::default(), &full(2)),
        Err(PlanError::VideoSize { .. })
    ));
}

#[test]
fn a_ladder_in_any_order_with_doubles_is_sorted() {
    let wanted = Wanted {
        rungs: [360, 720, 360, 480]
            .into_iter()
            .filter_map(|lines| Rung::new(lines, 1_000_000))
            .collect(),
        ..Wanted::default()
    };
    let made = plan(
        &file(VideoShape::new(SourceVideoCodec::Vp9, 1920, 1080)),
        &wanted,
        &full(2),
    )
    .unwrap();
    assert_eq!(ids(&made), ["720p", "480p", "360p"]);
}

#[test]
fn a_plan_prints_what_runs_and_why() {
    let text = plan(
        &live(SourceVideoCodec::Vp8, 1280, 720),
        &Wanted::default(),
        &full(2),
    )
    .unwrap()
    .to_string();
    for part in [
        "video VP8 -> vp8dec",
        "scale 1280x720 -> x264enc superfast",
        "key frames every 2.000 s",
        "audio Opus -> opus as it came -> opusdec",
        "avenc_aac 128 kbit/s -> aac",
        "16000 Hz mono -> captions",
        "# the video is not kept as it came: it is VP8",
        "rungs fit in 0.25 of 2 cores",
        "not 480p: it would take 0.",
        "pictures in system, 0 copies between memories",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}
