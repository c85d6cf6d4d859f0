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
            reorder: ReordererConfig::default(),
            key_frame_spacing: Duration::from_millis(300),
        };
        let (publisher, now) = (Publisher::new(config), Instant::now());
        Self {
            publisher,
            now,
            sequence: [100, 200],
            requests: 0,
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
                PublisherOutput::Paused(_) | PublisherOutput::Resumed(_) => {}
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
