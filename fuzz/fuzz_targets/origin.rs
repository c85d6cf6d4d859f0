//! Every path and query that a stranger may send, to an origin that is live and to one that has ended. What it answers is in
//! bounds: a playlist holds what a blocked request asked for, and no path leads out of the recording's folder.

#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use loom_core::codec::opus;
use loom_core::{CodecParameters, MediaTime, Packet, RenditionId, TrackId};
use loom_hls::{Answer, Body, HlsOutput, Origin, Packager, PackagerConfig, RenditionInfo, RenditionKind, stored_answer};

thread_local! {
    static ORIGINS: RefCell<Vec<Origin>> = RefCell::new([0, 3, 40].into_iter().flat_map(|seconds| [made(seconds, false), made(seconds, true)]).collect());
}

fuzz_target!(|input: &[u8]| {
    let Some((which, rest)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    let (path, query) = text.split_once('?').map_or((text.as_ref(), None), |(path, query)| (path, Some(query)));
    ORIGINS.with_borrow(|origins| {
        let origin = &origins[usize::from(*which) % origins.len()];
        check(path, query, origin.handle_request(path, query));
        // the address of something that is there, with whatever query came
        for known in ["main.m3u8", "a/index.m3u8", "a/s1.m4s", "a/p0.m4s", "manifest.mpd", "steering.json"] {
            check(known, Some(&text), origin.handle_request(known, Some(&text)));
        }
        check(path, query, stored_answer(path, query));
    });
});

fn check(path: &str, query: Option<&str>, answer: Answer) {
    match answer {
        Answer::Ready(response) => match response.body {
            Body::Bytes(data) => {
                if response.content_type.contains("mpegurl") {
                    let text = std::str::from_utf8(&data).expect("a playlist is UTF-8");
                    assert!(text.starts_with("#EXTM3U\n"), "{path}?{query:?}: {text}");
                    assert!(m3u8_rs::parse_playlist_res(&data).is_ok(), "{path}?{query:?}: m3u8-rs cannot read it: {text}");
                }
            }
            Body::Stored { key, .. } => {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
                assert!(key.bytes().all(plain) && !key.contains("..") && !key.starts_with('/') && key.matches('/').count() <= 1, "{key}");
            }
            _ => {}
        },
        Answer::WaitFor(wait) => assert!(wait.limit <= Duration::from_secs(600), "{path}?{query:?} waits {:?}", wait.limit),
        _ => {}
    }
}

/// So many seconds of sound.
fn made(seconds: u64, ended: bool) -> Origin {
    let mut origin = Origin::new();
    let mut packager = Packager::new(PackagerConfig::default()).expect("the default is in order");
    let id = RenditionId::new("a").expect("a name");
    let kind = RenditionKind::Audio { name: "a".to_owned(), language: None, channels: 2 };
    packager.declare(RenditionInfo { id: id.clone(), kind, bandwidth: 64_000 }).expect("declared");
    packager.handle_format(&id, CodecParameters::Audio(opus::parameters(2, 312))).expect("a format");
    for at in 0..seconds * 50 {
        let time = MediaTime::from_secs_f64(at as f64 / 50.0);
        let data = Bytes::from_static(&[0xfc, 0xff, 0xfe]);
        let packet = Packet { track: TrackId(0), pts: time, dts: time, duration: Some(Duration::from_millis(20)), key: true, data };
        packager.handle_packet(&id, packet).expect("a packet");
    }
    if ended {
        packager.finish().expect("an end");
    }
    while let Some(output) = packager.poll_output() {
        if let HlsOutput::Publish(publish) = output {
            origin.handle_publish(publish);
        }
    }
    origin
}
