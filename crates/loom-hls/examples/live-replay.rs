//! Replays media that ffmpeg encodes as a live recording, in real time, over HTTP, to try players on.
//!
//! `cargo run -p loom-hls --example live-replay -- [--listen 127.0.0.1:9100] [--seconds 60] [--script hls.min.js] [--no-opus]
//! [--every-sound] [--wait] [--no-pictures] [--no-sound] [--change] [--loss]`
//!
//! `/` is a page that plays it by hls.js, if `--script` names that library's file; `/main.m3u8` is the stream. Packets are handed
//! over when they would come from an encoder; storing is done in memory. With `--wait` the recording begins when the first viewer
//! asks for it, as for one who has the page open before. With `--change` the source's size changes half way, with `--loss` a second of
//! sound is missing there.

#[path = "../tests/integration/support/mod.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use loom_core::{CodecParameters, Cue, CueId, CueState, MediaTime, WallClock};
use loom_hls::{Answer, Body, Packager, PackagerConfig, SoundListing, stored_answer};
use support::media::{aac_stream, h264_stream, have_ffmpeg, opus_stream};
use support::{Folder, captions};

/// The recording as the server's threads share it: `changed` wakes the requests that wait.
#[derive(Default)]
struct Shared {
    folder: Mutex<Folder>,
    changed: Condvar,
    asked: AtomicBool,
    script: Option<Vec<u8>>,
}

fn main() {
    let option = |name: &str| {
        let mut arguments = std::env::args().skip_while(|a| a != name);
        arguments.nth(1)
    };
    if !have_ffmpeg() {
        return;
    }
    let listen = option("--listen").unwrap_or_else(|| "127.0.0.1:9100".to_owned());
    let seconds: u32 = option("--seconds").and_then(|s| s.parse().ok()).unwrap_or(60);
    let script = option("--script").map(|path| std::fs::read(path).expect("the script can be read"));
    let flag = |name: &str| std::env::args().any(|a| a == name);
    let mut streams = Vec::new();
    let mut changed = None;
    if !flag("--no-pictures") {
        streams.push(h264_stream("source", 640, 360, seconds, 60, 0));
        streams.push(h264_stream("180p", 320, 180, seconds, 60, 0));
    }
    let half = MediaTime::from_millis(i64::from(seconds / 4) * 2_000);
    if flag("--change") {
        let other = h264_stream("source", 480, 270, seconds, 60, 0);
        for (packet, new) in streams[0]
            .packets
            .iter_mut()
            .zip(other.packets)
            .filter(|(packet, _)| packet.pts >= half)
        {
            *packet = new;
        }
        changed = Some((half, other.codec));
    }
    if !flag("--no-sound") {
        streams.push(aac_stream("aac", seconds));
        if !flag("--no-opus") {
            streams.push(opus_stream("opus", seconds));
        }
    }
    if flag("--loss") {
        for stream in streams.iter_mut().filter(|s| s.packets.iter().all(|p| p.key)) {
            stream
                .packets
                .retain(|p| p.pts < half || p.pts > half + Duration::from_secs(1));
        }
    }
    let shared = Arc::new(Shared {
        script,
        ..Default::default()
    });
    let listener = TcpListener::bind(&listen).expect("the address can be listened on");
    println!("http://{listen}/");
    let serving = shared.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = serving.clone();
            thread::spawn(move || serve(stream, &shared));
        }
    });
    while std::env::args().any(|a| a == "--wait") && !shared.asked.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(10));
    }
    replay(&streams, changed, &shared);
    thread::sleep(Duration::from_secs(20));
}

fn replay(streams: &[support::Stream], mut changed: Option<(MediaTime, CodecParameters)>, shared: &Shared) {
    let config = PackagerConfig {
        zero: Some(WallClock {
            zero: SystemTime::now(),
        }),
        sound: if std::env::args().any(|a| a == "--every-sound") {
            SoundListing::Every
        } else {
            SoundListing::Preferred
        },
        ..Default::default()
    };
    let began = Instant::now();
    let mut packager = Packager::new(config).expect("the configuration is right");
    for stream in streams {
        packager.declare(stream.info.clone()).expect("a new name");
    }
    packager.declare(captions()).expect("a new name");
    for stream in streams {
        packager
            .handle_format(&stream.info.id, stream.codec.clone())
            .expect("a codec that HLS has");
    }
    let mut order: Vec<_> = streams
        .iter()
        .enumerate()
        .flat_map(|(s, stream)| (0..stream.packets.len()).map(move |p| (s, p)))
        .map(|(s, p)| (streams[s].packets[p].dts, s, p))
        .collect();
    order.sort();
    let mut said = 0;
    for (at, s, p) in order {
        thread::sleep(Duration::from_nanos(at.nanos() as u64).saturating_sub(began.elapsed()));
        if let Some((_, codec)) = changed.take_if(|(from, _)| s == 0 && at >= *from) {
            packager
                .handle_format(&streams[0].info.id, codec)
                .expect("a codec that HLS has");
        }
        packager
            .handle_packet(&streams[s].info.id, streams[s].packets[p].clone())
            .expect("a good packet");
        while MediaTime::from_millis(said * 1_000 + 1_200) < at {
            let cue = Cue {
                id: CueId(said as u64),
                start: MediaTime::from_millis(said * 1_000 + 100),
                end: MediaTime::from_millis(said * 1_000 + 1_100),
                text: format!("second {said}"),
                words: Vec::new(),
                state: CueState::Final,
            };
            packager.handle_cue(cue).expect("running");
            said += 1;
            packager
                .handle_cue_watermark(MediaTime::from_millis(said * 1_000 + 100))
                .expect("running");
        }
        shared
            .folder
            .lock()
            .expect("no thread panics")
            .drain(&mut packager);
        shared.changed.notify_all();
    }
    packager.finish().expect("a good end");
    shared
        .folder
        .lock()
        .expect("no thread panics")
        .drain(&mut packager);
    shared.changed.notify_all();
    println!("ended");
}

fn serve(stream: TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let Ok(mut out) = stream.try_clone() else { return };
    let mut lines = BufReader::new(stream).lines();
    loop {
        let Some(Ok(request)) = lines.next() else { return };
        while lines
            .next()
            .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
        {}
        let target = request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/');
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let (status, content_type, cache, body) = answer(path, query, shared);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nCache-Control: {cache}\r\nContent-Length: {}\r\n\
             Access-Control-Allow-Origin: *\r\n\r\n",
            body.len()
        );
        if out
            .write_all(head.as_bytes())
            .and_then(|()| out.write_all(&body))
            .is_err()
        {
            return;
        }
    }
}

fn answer(
    path: &str,
    query: Option<&str>,
    shared: &Shared,
) -> (&'static str, &'static str, &'static str, Vec<u8>) {
    match (path, &shared.script) {
        ("", _) => return ("200 OK", "text/html", "no-cache", PAGE.into()),
        ("hls.js", Some(script)) => return ("200 OK", "text/javascript", "no-cache", script.clone()),
        _ => {}
    }
    let asked = Instant::now();
    shared.asked.fetch_or(path.ends_with("m3u8"), Ordering::Relaxed);
    let mut folder = shared.folder.lock().expect("no thread panics");
    loop {
        let mut answer = folder.origin.handle_request(path, query);
        if folder.origin.ended() && answer == Answer::NotFound {
            answer = stored_answer(path, query);
        }
        match answer {
            Answer::Ready(response) => {
                let body = match response.body {
                    Body::Bytes(data) => Some(data.to_vec()),
                    Body::Stored { key, offset, len } => folder.files.get(&key).map(|file| {
                        let end = len.map_or(file.len(), |len| (offset + len) as usize);
                        file[offset as usize..end].to_vec()
                    }),
                    // what there is of it by now
                    Body::Viewed { key, view } => view
                        .show(&key, |key| folder.files.get(key).cloned())
                        .map(String::into_bytes),
                    Body::Growing { rendition, segment } => {
                        folder.files.get(&format!("{rendition}/s{segment}.m4s")).cloned()
                    }
                };
                return match body {
                    Some(body) => ("200 OK", response.content_type, response.cache_control, body),
                    None => ("404 Not Found", "text/plain", "no-cache", Vec::new()),
                };
            }
            Answer::WaitFor(wait) => {
                let Some(left) = wait.limit.checked_sub(asked.elapsed()) else {
                    return ("503 Service Unavailable", "text/plain", "no-cache", Vec::new());
                };
                folder = shared
                    .changed
                    .wait_timeout(folder, left)
                    .expect("no thread panics")
                    .0;
            }
            Answer::BadRequest(why) => {
                println!("400 {path}?{}: {why}", query.unwrap_or_default());
                return ("400 Bad Request", "text/plain", "no-cache", why.into_bytes());
            }
            _ => {
                println!("404 {path}");
                return ("404 Not Found", "text/plain", "no-cache", Vec::new());
            }
        }
    }
}

const PAGE: &str = r#"<!doctype html><title>live replay</title><video id=v controls autoplay style="width:640px"></video>
<script src="hls.js"></script><script>
const v = document.getElementById('v'); const errors = [];
const hls = new Hls({lowLatencyMode: true, debug: location.search === '?debug'});
hls.on(Hls.Events.ERROR, (_, d) => errors.push(d.type + ' ' + d.details + ' ' + d.fatal + ' ' + (d.reason || (d.error && d.error.message) || '')));
hls.loadSource('main.m3u8'); hls.attachMedia(v);
window.state = () => ({time: v.currentTime, latency: hls.latency, target: hls.targetLatency, level: hls.currentLevel,
  levels: hls.levels.map(l => ({height: l.height, codecs: l.codecSet, audio: l.audioGroups, uris: l.url})), errors,
  audioTracks: hls.audioTracks.map(t => t.groupId + ':' + t.name), audioTrack: hls.audioTrack,
  subtitles: hls.subtitleTracks.map(t => t.name), subtitleTrack: hls.subtitleTrack,
  cues: [...v.textTracks].map(t => [t.kind, t.mode, t.cues ? [...t.cues].map(c => [c.startTime, c.endTime, c.text]) : null]),
  size: [v.videoWidth, v.videoHeight], ended: v.ended, duration: v.duration, paused: v.paused,
  buffered: [...Array(v.buffered.length).keys()].map(i => [v.buffered.start(i), v.buffered.end(i)]),
  audioBytes: v.webkitAudioDecodedByteCount, frames: v.getVideoPlaybackQuality().totalVideoFrames,
  dropped: v.getVideoPlaybackQuality().droppedVideoFrames, live: hls.latestLevelDetails && hls.latestLevelDetails.live});
</script>"#;
