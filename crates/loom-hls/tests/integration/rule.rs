//! The rule of parts (RFC 8216bis §4.4.4.9), over seeded random recordings as live ones are: pictures of a screen that stand still,
//! of a camera that falters, sound with long frames, holes and silence, a clock that drifts, publishers that go and come back.
//! `mp4-atom` reads the boxes, `m3u8-rs` the complete playlists.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use crate::support::media::{self, h264_of_mp4};
use crate::support::{Stream, aac_stereo, audio, packet, video};
use loom_core::codec::opus;
use loom_core::{CodecParameters, MediaTime, Packet};
use loom_hls::{Answer, Body, HlsOutput, Origin, Packager, PackagerConfig, RenditionInfo};
use m3u8_rs::parse_media_playlist_res;
use mp4_atom::{Any, DecodeMaybe};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A second's worth of nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// Groups of pictures, each from a key frame on, that may follow one another in any order.
struct Pool {
    codec: CodecParameters,
    groups: Vec<Vec<Packet>>,
}

fn pool(size: &str) -> Pool {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made.mp4");
    let source = format!("testsrc2=size={size}:rate=30:duration=16");
    media::ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        &source,
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-g",
        "60",
        "-y",
        file.to_str().unwrap(),
        "-f",
        "null",
    ]);
    let Stream { codec, packets, .. } = h264_of_mp4("source", 64, 64, std::fs::read(&file).unwrap());
    let mut groups: Vec<Vec<Packet>> = Vec::new();
    for packet in packets {
        if packet.key {
            groups.push(Vec::new());
        }
        groups.last_mut().unwrap().push(packet);
    }
    Pool { codec, groups }
}

/// The same pictures in two sizes.
fn pools() -> &'static [Pool; 2] {
    static POOLS: OnceLock<[Pool; 2]> = OnceLock::new();
    POOLS.get_or_init(|| [pool("64x64"), pool("48x48")])
}

/// A source of pictures: when the next is, and which.
struct Screen {
    at: i64,
    key: i64,
    every: i64,
    step: i64,
    jitter: i64,
    change: i64,
    group: usize,
    place: usize,
}

impl Screen {
    fn next(&mut self, rng: &mut StdRng) -> (i64, usize, usize) {
        let groups = &pools()[0].groups;
        if self.at >= self.key || self.place >= groups[self.group].len() {
            (self.group, self.place) = ((self.group + 1) % groups.len(), 0);
            self.key = self.at + self.every;
        }
        let shown = (self.at, self.group, self.place);
        self.place += 1;
        if self.at >= self.change {
            // how the pictures come from here on: pictures a second, and how unsteady
            let rates = [
                (1, 0),
                (1, 9),
                (2, 5),
                (5, 0),
                (5, 3),
                (15, 2),
                (24, 0),
                (24, 2),
                (30, 1),
                (30, 3),
            ];
            let (rate, jitter) = rates[rng.random_range(0..rates.len())];
            (self.step, self.jitter) = (SECOND / rate, SECOND / rate * jitter / 10);
            self.change = self.at + rng.random_range(1..20) * SECOND;
        }
        let jitter = if self.jitter > 0 {
            rng.random_range(-self.jitter..self.jitter)
        } else {
            0
        };
        // a key frame is asked for and comes though the picture stands still
        self.at = (self.at + self.step + jitter)
            .min(self.key.max(self.at + SECOND / 100))
            .max(self.at + 1_000_000);
        shown
    }
}

/// A source of sound.
struct Microphone {
    at: i64,
    frame: i64,
    /// Parts in a million that its clock is fast.
    skew: i64,
    silent_until: i64,
    toc: Vec<u8>,
}

struct Event {
    arrives: i64,
    rendition: usize,
    packet: Packet,
}

/// What is read from the outputs, of one rendition.
#[derive(Default)]
struct Seen {
    /// Where the next chunk must begin, ticks.
    next: Option<u64>,
    /// Each segment's first decode time, how long its samples last, ticks, and whether it has a picture to begin with.
    segments: BTreeMap<u64, (u64, u64, bool)>,
    parts: u64,
    /// Per segment the parts checked.
    checked: BTreeMap<String, f64>,
}

struct Judge {
    seed: u64,
    config: PackagerConfig,
    renditions: Vec<RenditionInfo>,
    origin: Origin,
    seen: BTreeMap<String, Seen>,
    playlists: BTreeMap<String, String>,
    /// How often the publisher went.
    gaps: usize,
    /// Whether key frames come often enough that each segment can have one.
    keys: bool,
}

impl Judge {
    fn drain(&mut self, packager: &mut Packager) {
        while let Some(output) = packager.poll_output() {
            match output {
                HlsOutput::Store { key, data } | HlsOutput::Append { key, data } => {
                    let (id, file) = key.split_once('/').unwrap_or(("", &key));
                    if file.starts_with('s') && file.ends_with(".m4s") {
                        let number = file[1..file.len() - 4].parse().unwrap();
                        self.read(id.to_owned(), number, &data);
                    } else if file == "index.m3u8" {
                        self.playlists
                            .insert(id.to_owned(), String::from_utf8_lossy(&data).into_owned());
                    }
                }
                HlsOutput::Publish(publish) => self.origin.handle_publish(publish),
                _ => {}
            }
        }
    }

    /// Decode times are continuous to a tick, also from segment to segment.
    fn read(&mut self, id: String, number: u64, data: &[u8]) {
        let seed = self.seed;
        let seen = self.seen.entry(id.clone()).or_default();
        for (at, length, has_key) in chunks(data) {
            let segment = seen.segments.entry(number).or_insert((at, 0, false));
            if let Some(next) = seen.next {
                assert_eq!(
                    at, next,
                    "seed {seed}: {id}/s{number}: decode times are not continuous"
                );
            }
            segment.1 += length;
            segment.2 |= has_key;
            seen.next = Some(at + length);
        }
    }

    /// Every part in the live playlists is at most its target, and at least 85 % of it but for a segment's last.
    fn check_live(&mut self) {
        let target = self.config.part.as_secs_f64();
        for info in &self.renditions {
            let Answer::Ready(response) = self
                .origin
                .handle_request(&format!("{}/index.m3u8", info.id), None)
            else {
                continue;
            };
            let Body::Bytes(text) = response.body else {
                continue;
            };
            let text = std::str::from_utf8(&text).unwrap();
            assert!(
                text.contains(&format!("PART-TARGET={target:.3}")),
                "seed {}: {text}",
                self.seed
            );
            let seen = self.seen.entry(info.id.to_string()).or_default();
            let mut parts: Vec<(String, f64)> = Vec::new();
            for line in text.lines() {
                if let Some(rest) = line.strip_prefix("#EXT-X-PART:DURATION=") {
                    assert!(
                        self.gaps > 0 || !rest.contains("GAP=YES"),
                        "seed {}: {}: a gap in\n{text}",
                        self.seed,
                        info.id
                    );
                    let (duration, rest) = rest.split_once(",URI=\"").unwrap();
                    let uri = rest.split_once('"').unwrap().0.to_owned();
                    parts.push((uri, duration.parse().unwrap()));
                } else if !line.starts_with('#') {
                    Self::check_parts(
                        self.seed,
                        &info.id,
                        seen,
                        &self.origin,
                        std::mem::take(&mut parts),
                        target,
                    );
                }
            }
            Self::check_parts(self.seed, &info.id, seen, &self.origin, parts, target);
        }
    }

    fn check_parts(
        seed: u64,
        id: &loom_core::RenditionId,
        seen: &mut Seen,
        origin: &Origin,
        parts: Vec<(String, f64)>,
        target: f64,
    ) {
        let count = parts.len();
        for (at, (uri, duration)) in parts.into_iter().enumerate() {
            assert!(
                duration <= target + 1e-6,
                "seed {seed}: {id}/{uri} lasts {duration}"
            );
            // of a segment whose URI is not listed yet: the next playlists have another part behind it, or that URI
            let last = at + 1 == count;
            assert!(
                last || duration >= target * 0.85 - 1e-6,
                "seed {seed}: {id}/{uri} lasts {duration}"
            );
            let before = *seen.checked.entry(uri.clone()).or_insert_with(|| {
                seen.parts += 1;
                if let Answer::Ready(response) = origin.handle_request(&format!("{id}/{uri}"), None)
                    && let Body::Bytes(data) = response.body
                {
                    let ticks: u64 = chunks(&data).iter().map(|chunk| chunk.1).sum();
                    let true_length = ticks as f64 / hz(id.as_str());
                    assert!(
                        (duration - true_length).abs() < 0.0006,
                        "seed {seed}: {id}/{uri}: {duration} s are said, {true_length} s are there"
                    );
                }
                duration
            });
            assert!((before - duration).abs() < 1e-9, "seed {seed}: {uri} changed");
        }
        while seen.checked.len() > 400 {
            seen.checked.pop_first();
        }
    }

    fn check_finished(&self) {
        let seed = self.seed;
        let mut lists = Vec::new();
        for info in &self.renditions {
            let text = &self.playlists[info.id.as_str()];
            let playlist = parse_media_playlist_res(text.as_bytes()).unwrap();
            assert!(playlist.end_list, "seed {seed}: {}", info.id);
            let listed_gaps = playlist
                .segments
                .iter()
                .filter(|s| s.unknown_tags.iter().any(|tag| tag.tag == "X-GAP"));
            if self.gaps == 0 {
                assert_eq!(
                    listed_gaps.count(),
                    0,
                    "seed {seed}: {}: a gap though nobody went\n{text}",
                    info.id
                );
            }
            let seen = &self.seen[info.id.as_str()];
            let last = playlist.media_sequence + playlist.segments.len() as u64 - 1;
            for (number, segment) in (playlist.media_sequence..).zip(&playlist.segments) {
                let said = f64::from(segment.duration);
                assert!(
                    said.round() <= 4.0,
                    "seed {seed}: {}/s{number} lasts {said} s",
                    info.id
                );
                let Some((_, ticks, has_key)) = seen.segments.get(&number) else {
                    continue; // a gap
                };
                let true_length = *ticks as f64 / hz(info.id.as_str());
                assert!(
                    (said - true_length).abs() < 0.0006,
                    "seed {seed}: {}/s{number}: {said} s are said, {true_length} s are there",
                    info.id
                );
                assert!(
                    *has_key || !self.keys || number == last, // an encoder may still have held it
                    "seed {seed}: {}/s{number} has no key frame",
                    info.id
                );
            }
            lists.push((
                info.id.to_string(),
                playlist.media_sequence + playlist.segments.len() as u64,
            ));
        }
        assert!(
            lists.windows(2).all(|w| w[0].1 == w[1].1),
            "seed {seed}: {lists:?}"
        );
        let (first, reference) = &self.seen.iter().find(|(id, _)| !sound(id)).unwrap();
        for (id, seen) in &self.seen {
            for (number, (at, ..)) in &seen.segments {
                if Some(number) == seen.segments.keys().next() {
                    continue; // it begins when its media does
                }
                let Some((theirs, ..)) = reference.segments.get(number) else {
                    continue;
                };
                let apart = (*at as f64 / hz(id) - *theirs as f64 / hz(first)).abs();
                // pictures to a tick; sound to half of its longest frame, and as much drift as it is let
                let most = if sound(id) { 0.045 } else { 1.0 / 90_000.0 + 1e-9 };
                assert!(
                    apart <= most,
                    "seed {seed}: segment {number} of {id} and of {first} begin {apart} s apart"
                );
            }
        }
    }
}

/// Whether a rendition is of sound.
fn sound(id: &str) -> bool {
    matches!(id, "aac" | "opus")
}

fn hz(id: &str) -> f64 {
    if sound(id) { 48_000.0 } else { 90_000.0 }
}

/// The chunks of a part: each one's decode time, how long its samples last together, ticks, and whether any is a key frame.
fn chunks(mut data: &[u8]) -> Vec<(u64, u64, bool)> {
    let mut found = Vec::new();
    while let Some(atom) = Any::decode_maybe(&mut data).unwrap() {
        let Any::Moof(moof) = atom else { continue };
        let traf = &moof.traf[0];
        let samples = &traf.trun[0].samples;
        let lasts = |s: &mp4_atom::TrunEntry| s.duration.or(traf.tfhd.default_sample_duration).unwrap();
        // ISO/IEC 14496-12 §8.8.3.1: sample_is_non_sync_sample is 0
        let flags = |s: &mp4_atom::TrunEntry| s.flags.or(traf.tfhd.default_sample_flags).unwrap_or(0);
        found.push((
            traf.tfdt.as_ref().unwrap().base_media_decode_time,
            samples.iter().map(|s| u64::from(lasts(&s))).sum(),
            samples.iter().any(|s| flags(&s) & 0x1_0000 == 0),
        ));
    }
    found
}

struct Recording {
    seconds: i64,
    /// The publisher goes about this often, seconds; 0 for never.
    leaves: i64,
    part: Duration,
}

/// Makes a recording and judges it; `each` is told of every minute.
fn run(seed: u64, made: &Recording, mut each: impl FnMut(i64)) {
    let mut rng = StdRng::seed_from_u64(seed);
    let config = PackagerConfig {
        part: made.part,
        ..PackagerConfig::default()
    };
    let mut renditions = vec![video("source", 64, 64)];
    let mut formats = vec![pools()[0].codec.clone()];
    let rungs = if rng.random_bool(0.6) { 1 } else { 0 };
    for _ in 0..rungs {
        renditions.push(video("180p", 48, 48));
        formats.push(pools()[1].codec.clone());
    }
    let lag = [0, rng.random_range(0..700) * 1_000_000];
    // Opus in frames of 20, 60 (one frame), 120 (two of 60, six of 20) milliseconds, or AAC
    let kinds: [(&str, i64, Vec<u8>); 5] = [
        ("opus", 20_000_000, vec![0xfc, 1, 2, 3]),
        ("opus", 60_000_000, vec![0x1c, 1, 2, 3]),
        ("opus", 120_000_000, vec![0x1d, 1, 2, 3, 4]),
        ("opus", 120_000_000, vec![0xff, 6, 1, 2, 3, 4, 5, 6]),
        ("aac", 1024 * SECOND / 48_000, vec![7; 40]),
    ];
    let (name, frame, toc) = kinds[rng.random_range(0..kinds.len())].clone();
    // a frame of 60 ms cannot be cut: where it is far from a divisor of the part, and losses put it anywhere, a part may fall short
    let losses = made.part >= Duration::from_millis(400)
        || !matches!(frame, 60_000_000 | 120_000_000)
        || toc[0] == 0xff;
    let sound = renditions.len();
    renditions.push(audio(name));
    formats.push(CodecParameters::Audio(if name == "aac" {
        aac_stereo()
    } else {
        opus::parameters(2, 312)
    }));
    let mut packager = Packager::new(config.clone()).unwrap();
    for info in &renditions {
        packager.declare(info.clone()).unwrap();
    }
    for (info, format) in renditions.iter().zip(&formats) {
        packager.handle_format(&info.id, format.clone()).unwrap();
    }
    let mut judge = Judge {
        seed,
        config,
        renditions: renditions.clone(),
        origin: Origin::new(),
        seen: BTreeMap::new(),
        playlists: BTreeMap::new(),
        gaps: 0,
        keys: true,
    };
    let mut screen = Screen {
        at: rng.random_range(0..300) * 1_000_000,
        key: i64::MAX,
        every: rng.random_range(1_500..2_500) * 1_000_000,
        step: SECOND / 30,
        jitter: 0,
        change: 2 * SECOND,
        group: 0,
        place: 0,
    };
    screen.key = screen.at + screen.every;
    let mut microphone = Microphone {
        at: rng.random_range(0..300) * 1_000_000,
        frame,
        skew: rng.random_range(-200..200),
        silent_until: 0,
        toc,
    };
    let end = made.seconds * SECOND;
    let mut leaves = if made.leaves > 0 {
        rng.random_range(made.leaves / 2..made.leaves) * SECOND
    } else {
        i64::MAX
    };
    let (mut now, mut minute, mut looked) = (0_i64, 0, 0);
    let mut waiting: Vec<Event> = Vec::new();
    while now < end {
        now += 50_000_000;
        // what the publisher sends up to now, each a little late, and in order for each rendition
        while screen.at <= now {
            let (at, group, place) = screen.next(&mut rng);
            let late = rng.random_range(0..60) * 1_000_000;
            for (rendition, lag) in lag.iter().enumerate().take(rungs + 1) {
                let of = &pools()[rendition].groups[group][place];
                let pts = MediaTime::from_nanos(at);
                waiting.push(Event {
                    arrives: at + late + lag,
                    rendition,
                    packet: packet(pts, pts, None, of.key, of.data.clone()),
                });
            }
        }
        while microphone.at <= now {
            let it = &mut microphone;
            if it.at >= it.silent_until {
                let pts = MediaTime::from_nanos(it.at);
                let lasts = Duration::from_nanos(it.frame as u64);
                waiting.push(Event {
                    arrives: it.at + it.frame + rng.random_range(0..40) * 1_000_000,
                    rendition: sound,
                    packet: packet(pts, pts, Some(lasts), true, it.toc.clone()),
                });
                if losses && rng.random_bool(0.002) {
                    it.silent_until = it.at + [100_000_000, SECOND, 30 * SECOND][rng.random_range(0..3)];
                }
            }
            it.at += it.frame + it.frame * it.skew / 1_000_000;
        }
        let mut arrived = vec![i64::MIN; renditions.len()];
        for event in &mut waiting {
            event.arrives = event.arrives.max(arrived[event.rendition]);
            arrived[event.rendition] = event.arrives;
        }
        let (mut here, later): (Vec<Event>, Vec<Event>) =
            waiting.into_iter().partition(|event| event.arrives <= now);
        waiting = later;
        here.sort_by_key(|event| event.arrives);
        for event in here {
            let id = &renditions[event.rendition].id;
            if let Err(why) = packager.handle_packet(id, event.packet) {
                panic!("seed {seed}: at {now}: {why}");
            }
        }
        packager.handle_time(MediaTime::from_nanos(now)).unwrap();
        judge.drain(&mut packager);
        if now - looked >= SECOND {
            looked = now;
            judge.check_live();
        }
        if now >= leaves {
            judge.gaps += 1;
            waiting.clear();
            let from = packager.handle_absence().unwrap();
            let away = rng.random_range(100..15_000) * 1_000_000;
            packager
                .handle_gap(from + Duration::from_nanos(away as u64 / 2))
                .unwrap();
            let at = packager.handle_return(MediaTime::from_nanos(now + away)).unwrap();
            now = at.nanos();
            screen.at = now + rng.random_range(0..700) * 1_000_000;
            (screen.place, screen.group) = (0, (screen.group + 1) % pools()[0].groups.len());
            screen.key = now + screen.every;
            microphone.at = now + rng.random_range(0..300) * 1_000_000;
            leaves = now + rng.random_range(made.leaves / 2..made.leaves) * SECOND;
            judge.drain(&mut packager);
            for seen in judge.seen.values_mut() {
                seen.next = None; // behind a declared gap, other decode times begin
            }
        }
        if now / (60 * SECOND) > minute {
            minute = now / (60 * SECOND);
            each(minute);
        }
    }
    packager
        .finish()
        .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    judge.drain(&mut packager);
    judge.check_finished();
    let parts: u64 = judge.seen.values().map(|seen| seen.parts).sum();
    let least = (made.seconds as f64 / made.part.as_secs_f64()) as u64 / 4;
    assert!(
        parts > least,
        "seed {seed}: {parts} parts were seen, of at least {least}"
    );
}

#[test]
fn every_part_obeys_in_random_live_recordings() {
    if !media::have_ffmpeg() {
        return;
    }
    let seeds = std::env::var("LOOM_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(16);
    for seed in 0..seeds {
        let made = Recording {
            seconds: 40,
            leaves: if seed % 3 == 0 { 12 } else { 0 },
            part: Duration::from_millis([334, 200, 500, 1_000][seed as usize % 4]),
        };
        run(seed, &made, |_| {});
    }
}

#[test]
fn a_long_stillness_is_cut_at_the_same_instants_where_one_rendition_lags() {
    if !media::have_ffmpeg() {
        return;
    }
    let renditions = vec![video("source", 64, 64), video("180p", 48, 48)];
    let mut packager = Packager::new(PackagerConfig::default()).unwrap();
    for info in &renditions {
        packager.declare(info.clone()).unwrap();
    }
    for (info, pool) in renditions.iter().zip(pools()) {
        packager.handle_format(&info.id, pool.codec.clone()).unwrap();
    }
    let mut judge = Judge {
        seed: 0,
        config: PackagerConfig::default(),
        renditions: renditions.clone(),
        origin: Origin::new(),
        seen: BTreeMap::new(),
        playlists: BTreeMap::new(),
        gaps: 0,
        keys: false,
    };
    // two seconds of pictures, seven without, and on in the middle of the group
    let times = (0..40).map(|n| n * 50).chain((0..20).map(|n| 9_000 + n * 50));
    let pictures: Vec<(i64, usize)> = times.zip(0..).collect();
    for now in (0..=11_000).step_by(50) {
        for (rendition, lag) in [(0, 0), (1, 900)] {
            for (at, place) in pictures
                .iter()
                .filter(|(at, _)| (now - 50..now).contains(&(at + lag)))
            {
                let of = &pools()[rendition].groups[0][*place];
                let pts = MediaTime::from_millis(*at);
                let picture = packet(pts, pts, None, of.key, of.data.clone());
                packager
                    .handle_packet(&renditions[rendition].id, picture)
                    .unwrap();
            }
        }
        packager.handle_time(MediaTime::from_millis(now)).unwrap();
        judge.drain(&mut packager);
        judge.check_live();
    }
    packager.finish().unwrap();
    judge.drain(&mut packager);
    judge.check_finished();
    for (id, text) in &judge.playlists {
        for segment in parse_media_playlist_res(text.as_bytes()).unwrap().segments {
            assert!(segment.duration.round() <= 4.0, "{id}: {segment:?}");
        }
    }
}

/// Bytes of memory that the process has.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    pages * 4096
}

#[test]
fn soak_an_hour_of_pauses_gaps_drift_and_changing_rates() {
    if !media::have_ffmpeg() {
        return;
    }
    let made = Recording {
        seconds: 3_600,
        leaves: 240,
        part: Duration::from_millis(334),
    };
    let mut held = Vec::new();
    run(7_919, &made, |_| held.push(resident()));
    let (early, late) = (held[9], held[held.len() - 1]);
    eprintln!("after ten minutes {early} bytes, at the end {late}");
    assert!(late < early + (8 << 20), "memory grows: {held:?}");
}
