use bytes::Bytes;
use loom_core::{AudioCodec, VideoCodec};

use super::*;
use crate::media::{RtpCodec, RtpFormat};

const VIDEO: u32 = 10;
const AUDIO: u32 = 20;

/// A publisher of VP8 and Opus, stepped by a virtual clock.
struct Bench {
    publisher: Publisher,
    now: Instant,
    sequence: [u16; 2],
    requests: usize,
    /// Tracks that paused, and that resumed.
    pauses: Vec<(TrackId, bool)>,
    /// Before which packets nothing is missing.
    whole: Vec<(u32, u16)>,
}

fn section(kind: MediaKind, formats: &[(u8, RtpCodec)], source: u32) -> RtpSection {
    let formats = formats.iter().map(|(payload_type, codec)| RtpFormat {
        payload_type: *payload_type,
        codec: *codec,
        parameters: String::new(),
    });
    RtpSection {
        kind,
        mid: source.to_string(),
        formats: formats.collect(),
        sources: vec![source],
        layers: Vec::new(),
        stream: None,
    }
}

fn vp8_key(width: u16, height: u16) -> Vec<u8> {
    let mut payload = vec![0x10, 0x10, 0, 0, 0x9d, 0x01, 0x2a];
    payload.extend(width.to_le_bytes());
    payload.extend(height.to_le_bytes());
    payload
}

const VP8_INTER: &[u8] = &[0x10, 0x11, 0, 0];

impl Bench {
    fn new() -> Self {
        let config = PublisherConfig {
            sections: vec![
                section(
                    MediaKind::Video,
                    &[(96, RtpCodec::Vp8), (97, RtpCodec::Vp9), (98, RtpCodec::H264)],
                    VIDEO,
                ),
                section(MediaKind::Audio, &[(111, RtpCodec::Opus)], AUDIO),
            ],
            reorder: ReordererConfig {
                wait: Duration::from_millis(400),
                ..ReordererConfig::default()
            },
            key_frame_spacing: Duration::from_millis(300),
        };
        let (publisher, now) = (Publisher::new(config), Instant::now());
        Self {
            publisher,
            now,
            sequence: [100, 200],
            requests: 0,
            pauses: Vec::new(),
            whole: Vec::new(),
        }
    }

    fn send(
        &mut self,
        source: u32,
        payload_type: u8,
        sequence: u16,
        millis: u32,
        payload: &[u8],
    ) -> Vec<Media> {
        let rate = if payload_type == 111 { 48 } else { 90 };
        let packet = RtpPacket {
            source,
            payload_type,
            sequence,
            timestamp: millis * rate,
            marker: true,
            payload: Bytes::copy_from_slice(payload),
            arrived: self.now,
            mid: None,
            rid: None,
        };
        self.publisher.handle_packet(packet, self.now);
        self.drain()
    }

    fn video(&mut self, millis: u32, payload: &[u8]) -> Vec<Media> {
        self.sequence[0] = self.sequence[0].wrapping_add(1);
        self.send(VIDEO, 96, self.sequence[0], millis, payload)
    }

    fn audio(&mut self, millis: u32) -> Vec<Media> {
        self.sequence[1] = self.sequence[1].wrapping_add(1);
        self.send(AUDIO, 111, self.sequence[1], millis, &[0b1111_1000, 1, 2])
    }

    fn advance(&mut self, millis: u64) -> Vec<Media> {
        self.now += Duration::from_millis(millis);
        self.publisher.handle_timeout(self.now);
        self.drain()
    }

    fn drain(&mut self) -> Vec<Media> {
        let mut media = Vec::new();
        while let Some(output) = self.publisher.poll_output() {
            match output {
                PublisherOutput::Media(it) => media.push(it),
                PublisherOutput::RequestKeyFrame { source } => {
                    assert_eq!(source, VIDEO);
                    self.requests += 1;
                }
                PublisherOutput::NothingMissing { source, before } => self.whole.push((source, before)),
                PublisherOutput::Paused(track) => self.pauses.push((track, true)),
                PublisherOutput::Resumed(track) => self.pauses.push((track, false)),
                PublisherOutput::Timeout(at) => {
                    assert!(at > self.now, "a timeout that has passed would spin");
                    break;
                }
            }
        }
        media
    }
}

fn shape(media: &[Media]) -> String {
    let name = |it: &Media| match it {
        Media::Format(it) => match &it.codec {
            CodecParameters::Video(video) => format!("format {}x{}", video.width, video.height),
            CodecParameters::Audio(_) => "format audio".to_owned(),
        },
        Media::Packet(it) if it.key => format!("key {}", it.pts.millis()),
        Media::Packet(it) => format!("packet {}", it.pts.millis()),
        Media::Gap(it) => format!("gap {}-{}", it.from.millis(), it.to.millis()),
        Media::End(_) => "end".to_owned(),
    };
    media.iter().map(name).collect::<Vec<_>>().join(", ")
}

#[test]
fn video_starts_with_a_format_and_a_key_frame_that_was_asked_for() {
    let mut bench = Bench::new();
    assert_eq!(shape(&bench.video(0, VP8_INTER)), "");
    assert_eq!(bench.requests, 1);
    bench.advance(33);
    assert_eq!(shape(&bench.video(33, VP8_INTER)), "");
    assert_eq!(bench.requests, 1, "throttled");
    bench.advance(600);
    bench.video(633, VP8_INTER);
    assert_eq!(bench.requests, 2);
    bench.advance(33);
    assert_eq!(
        shape(&bench.video(666, &vp8_key(640, 360))),
        "format 640x360, key 0"
    );
    assert_eq!(shape(&bench.video(700, VP8_INTER)), "packet 34");
}

#[test]
fn a_loss_is_a_gap_and_video_waits_for_a_key_frame() {
    let mut bench = Bench::new();
    bench.video(0, &vp8_key(640, 360));
    bench.advance(33);
    bench.video(33, VP8_INTER);
    let requests = bench.requests;
    bench.sequence[0] += 1;
    bench.advance(33);
    assert_eq!(shape(&bench.video(66, VP8_INTER)), "", "held for the missing one");
    assert_eq!(shape(&bench.advance(400)), "");
    assert_eq!(bench.requests, requests + 1);
    assert_eq!(shape(&bench.video(466, VP8_INTER)), "");
    assert_eq!(
        shape(&bench.video(500, &vp8_key(640, 360))),
        "gap 33-500, key 500"
    );
    assert_eq!(shape(&bench.video(533, VP8_INTER)), "packet 533");
}

#[test]
fn a_track_that_falls_silent_is_paused_until_it_sends_again() {
    let mut bench = Bench::new();
    bench.audio(0);
    bench.video(0, &vp8_key(640, 360));
    for millis in (20..2_000).step_by(20) {
        bench.advance(20);
        bench.audio(millis);
    }
    assert_eq!(bench.pauses, [(TrackId(0), true)], "the sound runs on");
    bench.advance(20);
    assert_eq!(shape(&bench.video(2_000, VP8_INTER)), "packet 2000");
    assert_eq!(bench.pauses, [(TrackId(0), true), (TrackId(0), false)]);
    bench.publisher.handle_bye(&[AUDIO, VIDEO]);
    bench.advance(5_000);
    assert_eq!(bench.pauses.len(), 2, "who said goodbye does not pause");
}

#[test]
fn a_retransmission_in_time_leaves_no_gap() {
    let mut bench = Bench::new();
    bench.video(0, &vp8_key(640, 360));
    bench.send(VIDEO, 96, 103, 66, VP8_INTER);
    bench.advance(100);
    let media = bench.send(VIDEO, 96, 102, 33, VP8_INTER);
    assert_eq!(shape(&media), "packet 33, packet 66");
    assert_eq!(
        shape(&bench.send(VIDEO, 96, 102, 33, VP8_INTER)),
        "",
        "a duplicate"
    );
}

#[test]
fn lost_padding_is_not_waited_for_where_the_next_picture_proves_that_it_was_that() {
    let numbered = |id: u8| [0x90, 0x80, 0x80, id, 0x11, 0, 0];
    let key = |id: u8| [&[0x90, 0x80, 0x80, id][..], &vp8_key(640, 360)[1..]].concat();
    let mut bench = Bench::new();
    let begun = shape(&bench.video(0, &key(6)));
    assert_eq!(begun, "format 640x360, key 0");
    assert_eq!(shape(&bench.video(33, &numbered(7))), "packet 33");
    // padding: one that is lost, one that comes, and another that is lost
    bench.sequence[0] += 1;
    assert_eq!(shape(&bench.video(33, &[])), "");
    bench.sequence[0] += 1;
    let at_once = shape(&bench.video(67, &numbered(8)));
    assert_eq!(at_once, "packet 67");
    assert_eq!(bench.whole, [(VIDEO, bench.sequence[0])]);
    // a picture
    bench.sequence[0] += 1;
    assert_eq!(shape(&bench.video(133, &numbered(10))), "");
    assert_eq!(bench.whole.len(), 1);
    let missing = bench.sequence[0] - 1;
    let both = shape(&bench.send(VIDEO, 96, missing, 100, &numbered(9)));
    assert_eq!(both, "packet 100, packet 133");
}

#[test]
fn sound_goes_on_at_once_after_a_gap() {
    let mut bench = Bench::new();
    let media = bench.audio(0);
    assert_eq!(shape(&media), "format audio, key 0");
    let Media::Format(TrackFormat {
        codec: CodecParameters::Audio(audio),
        ..
    }) = &media[0]
    else {
        panic!()
    };
    assert_eq!(
        (audio.codec, audio.sample_rate, audio.channels),
        (AudioCodec::Opus, 48_000, 2)
    );
    bench.advance(20);
    assert_eq!(shape(&bench.audio(20)), "key 20");
    bench.sequence[1] += 2;
    bench.advance(60);
    assert_eq!(shape(&bench.audio(80)), "");
    assert_eq!(shape(&bench.advance(400)), "gap 40-80, key 80");
    assert_eq!(shape(&bench.audio(100)), "key 100");
}

#[test]
fn a_new_size_is_a_new_format_at_its_key_frame() {
    let mut bench = Bench::new();
    bench.video(0, &vp8_key(640, 360));
    assert_eq!(
        shape(&bench.video(33, &vp8_key(640, 360))),
        "key 33",
        "the same format is not repeated"
    );
    assert_eq!(
        shape(&bench.video(66, &vp8_key(1280, 720))),
        "format 1280x720, key 66"
    );
}

#[test]
fn a_change_of_codec_waits_for_its_key_frame() {
    let mut bench = Bench::new();
    bench.video(0, &vp8_key(640, 360));
    bench.sequence[0] += 2;
    assert_eq!(shape(&bench.send(VIDEO, 97, 102, 33, &[0x0c, 0x86, 0])), "");
    let key = [
        &[0x0c][..],
        &[0x82, 0x49, 0x83, 0x42, 0x00, 0x15, 0xf0, 0x11, 0xf6, 0x00],
    ]
    .concat();
    let media = bench.send(VIDEO, 97, 103, 66, &key);
    assert_eq!(shape(&media), "gap 0-66, format 352x288, key 66");
    let Media::Format(TrackFormat {
        codec: CodecParameters::Video(video),
        ..
    }) = &media[1]
    else {
        panic!()
    };
    assert_eq!(video.codec, VideoCodec::Vp9);
}

#[test]
fn requests_of_the_host_are_throttled_but_not_forgotten() {
    let mut bench = Bench::new();
    bench.video(0, &vp8_key(640, 360));
    let before = bench.requests;
    for _ in 0..10 {
        bench.publisher.request_key_frame(TrackId(0), bench.now);
        bench.drain();
    }
    assert_eq!(bench.requests, before + 1);
    bench.advance(300);
    assert_eq!(bench.requests, before + 2);
    bench.advance(10_000);
    assert_eq!(bench.requests, before + 2);
}

#[test]
fn a_silent_publisher_is_not_asked_for_key_frames() {
    let mut bench = Bench::new();
    bench.video(0, VP8_INTER);
    for _ in 0..100 {
        bench.advance(100);
    }
    assert_eq!(bench.requests, 1);
}

#[test]
fn the_end_lets_go_of_what_is_held_and_ends_every_track() {
    let mut bench = Bench::new();
    bench.audio(0);
    bench.video(0, &vp8_key(640, 360));
    bench.sequence[1] += 1;
    bench.audio(40);
    bench.publisher.finish(bench.now);
    assert_eq!(shape(&bench.drain()), "gap 20-40, key 40, end, end");
}

#[test]
fn unknown_payload_types_and_sources_cost_nothing() {
    let mut bench = Bench::new();
    assert_eq!(shape(&bench.send(77, 120, 1, 0, &[1, 2, 3])), "");
    bench.video(0, &vp8_key(640, 360));
    assert_eq!(
        shape(&bench.send(78, 96, 1, 0, &vp8_key(1, 1))),
        "",
        "its section has a live source"
    );
    assert_eq!(shape(&bench.video(33, VP8_INTER)), "packet 33");
}

#[test]
fn a_source_that_takes_over_goes_on_in_its_track() {
    let mut bench = Bench::new();
    bench.video(0, &vp8_key(640, 360));
    bench.advance(2_000);
    let media = bench.send(78, 96, 7_000, 90_000, &vp8_key(640, 360));
    assert_eq!(shape(&media), "gap 0-2000, key 2000");
}

#[test]
fn decode_times_climb_where_pictures_are_reordered() {
    let mut bench = Bench::new();
    let mut last = None;
    for millis in [0, 99, 33, 66, 198, 132, 165] {
        let payload = if millis == 0 {
            vp8_key(640, 360)
        } else {
            VP8_INTER.to_vec()
        };
        for media in bench.video(millis, &payload) {
            if let Media::Packet(packet) = media {
                assert_eq!(packet.pts.millis(), i64::from(millis));
                assert!(last.is_none_or(|last| packet.dts > last));
                last = Some(packet.dts);
            }
        }
    }
}

/// Several tracks of one publisher, of VP8 with payload type 96 and Opus with 111.
struct Several {
    publisher: Publisher,
    now: Instant,
    asked: Vec<u32>,
}

impl Several {
    fn new(sections: Vec<RtpSection>) -> Self {
        let config = PublisherConfig {
            sections,
            reorder: ReordererConfig::default(),
            key_frame_spacing: Duration::from_millis(300),
        };
        Self {
            publisher: Publisher::new(config),
            now: Instant::now(),
            asked: Vec::new(),
        }
    }

    /// Takes a packet of a source with the names it carries, and gives the tracks that packets came out of.
    fn take(&mut self, source: u32, names: (&str, &str), sequence: u16, millis: u32) -> Vec<u32> {
        let is_audio = source >= 1_000;
        let name = |name: &str| (!name.is_empty()).then(|| Bytes::copy_from_slice(name.as_bytes()));
        let packet = RtpPacket {
            source,
            payload_type: if is_audio { 111 } else { 96 },
            sequence,
            timestamp: millis * if is_audio { 48 } else { 90 },
            marker: true,
            payload: if is_audio {
                vec![0b1111_1000, 1, 2]
            } else {
                vp8_key(640, 360)
            }
            .into(),
            arrived: self.now,
            mid: name(names.0),
            rid: name(names.1),
        };
        self.publisher.handle_packet(packet, self.now);
        let mut tracks = Vec::new();
        while let Some(output) = self.publisher.poll_output() {
            match output {
                PublisherOutput::Media(Media::Packet(packet)) => tracks.push(packet.track.0),
                PublisherOutput::RequestKeyFrame { source } => self.asked.push(source),
                PublisherOutput::Timeout(_) => break,
                _ => {}
            }
        }
        tracks
    }
}

fn named(kind: MediaKind, mid: &str, layers: &[&str]) -> RtpSection {
    let format = match kind {
        MediaKind::Video => (96, RtpCodec::Vp8),
        MediaKind::Audio => (111, RtpCodec::Opus),
    };
    RtpSection {
        mid: mid.to_owned(),
        sources: Vec::new(),
        layers: layers.iter().map(|&layer| layer.to_owned()).collect(),
        ..section(kind, &[format], 0)
    }
}

fn screen_and_camera() -> Several {
    Several::new(vec![
        named(MediaKind::Audio, "mic", &[]),
        named(MediaKind::Video, "screen", &[]),
        named(MediaKind::Video, "camera", &["h", "l"]),
        named(MediaKind::Audio, "tab", &[]),
    ])
}

#[test]
fn a_track_has_the_number_that_the_offer_gives_it_in_whatever_order_they_come() {
    let mut several = screen_and_camera();
    assert_eq!(several.take(3, ("camera", "l"), 1, 0), [3]);
    assert_eq!(several.take(1_001, ("tab", ""), 1, 0), [4]);
    assert_eq!(several.take(1, ("screen", ""), 1, 0), [1]);
    assert_eq!(several.take(2, ("camera", "h"), 1, 0), [2]);
    assert_eq!(several.take(1_000, ("mic", ""), 1, 0), [0]);
    for (source, track) in [(1, 1), (2, 2), (3, 3), (1_000, 0), (1_001, 4)] {
        assert_eq!(
            several.take(source, ("", ""), 2, 33),
            [track],
            "names are left out once they are known"
        );
    }
    several
        .publisher
        .request_key_frame(TrackId(2), several.now + Duration::from_secs(1));
    several.take(2, ("", ""), 3, 66);
    assert_eq!(several.asked.last(), Some(&2));
}

#[test]
fn what_names_a_section_or_layer_that_is_not_there_is_nobodys() {
    let mut several = screen_and_camera();
    assert_eq!(several.take(1, ("other", ""), 1, 0), [0; 0]);
    assert_eq!(several.take(1, ("camera", "x"), 1, 0), [0; 0]);
    assert_eq!(
        several.take(1, ("", ""), 1, 0),
        [0; 0],
        "two sections could have it"
    );
    assert_eq!(
        several.take(1, ("mic", ""), 1, 0),
        [0; 0],
        "not with this payload type"
    );
    assert_eq!(
        several.take(1, ("screen", "x"), 1, 0),
        [1],
        "a layer's name means nothing without layers"
    );
}

#[test]
fn a_source_that_changes_goes_on_in_the_track_that_it_names_and_what_is_late_of_the_old_one_is_dropped() {
    let mut several = screen_and_camera();
    assert_eq!(several.take(2, ("camera", "h"), 1, 0), [2]);
    assert_eq!(several.take(2, ("camera", "h"), 2, 33), [2]);
    several.now += Duration::from_millis(33);
    assert_eq!(
        several.take(7, ("camera", "h"), 9_000, 500_000),
        [2],
        "at once, since it says so"
    );
    assert_eq!(several.take(2, ("camera", "h"), 3, 66), [0; 0]);
    assert_eq!(several.take(7, ("", ""), 9_001, 500_033), [2]);
    several.now += Duration::from_secs(1);
    assert_eq!(
        several.take(2, ("camera", "h"), 50, 90),
        [2],
        "but it may come back"
    );
}

#[test]
fn a_source_may_move_to_another_section() {
    let mut several = screen_and_camera();
    assert_eq!(several.take(5, ("screen", ""), 1, 0), [1]);
    assert_eq!(several.take(5, ("camera", "l"), 2, 33), [3]);
    assert_eq!(several.take(5, ("", ""), 3, 66), [3], "and stays there");
    assert_eq!(several.take(6, ("screen", ""), 1, 0), [1]);
}

#[test]
fn layers_without_names_are_told_by_their_sources_in_order() {
    let mut video = named(MediaKind::Video, "v", &["0", "1", "2"]);
    video.sources = vec![31, 32, 33];
    let mut several = Several::new(vec![named(MediaKind::Audio, "a", &[]), video]);
    assert_eq!(several.take(33, ("v", ""), 1, 0), [3]);
    assert_eq!(several.take(31, ("", ""), 1, 0), [1]);
    assert_eq!(several.take(32, ("v", ""), 1, 0), [2]);
}

#[test]
fn the_publishers_numbers_are_those_of_the_session() {
    let sections = screen_and_camera().publisher.config.sections;
    let tracks = crate::ingest::tracks(&sections);
    let mut several = screen_and_camera();
    for (source, info) in (1..).zip(&tracks) {
        let source = source + if info.kind == MediaKind::Audio { 1_000 } else { 0 };
        let names = (info.mid.as_str(), info.rid.as_deref().unwrap_or_default());
        assert_eq!(several.take(source, names, 1, 0), [info.id.0], "{info:?}");
    }
}
