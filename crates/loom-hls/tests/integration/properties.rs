//! What holds for every recording, over seeded random ones: still screens, jitter, losses, late key frames, encoders that lag,
//! tracks that end, formats that change.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Folder, aac_stereo, audio, captions, h264_format, id, packet, video};
use loom_core::codec::opus;
use loom_core::{CodecParameters, Cue, CueId, CueState, MediaTime, Packet};
use loom_hls::{HlsError, Packager, PackagerConfig, RenditionInfo};
use m3u8_rs::{MediaPlaylist, parse_media_playlist_res};
use mp4_atom::{Any, DecodeMaybe};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// One event of a recording: when it happens, and what is handed over.
struct Event {
    at: MediaTime,
    rendition: usize,
    what: What,
}

enum What {
    Packet(Packet),
    Format(CodecParameters),
    End,
}

struct Made {
    renditions: Vec<RenditionInfo>,
    formats: Vec<CodecParameters>,
    events: Vec<Event>,
    /// Whether the pictures' own timing can make a part or a segment longer than its target: a picture that lasts long.
    longest_picture: Duration,
    lossless: bool,
    /// Whether key frames come often enough that every segment can begin with one.
    keys: bool,
    end: MediaTime,
}

fn make(rng: &mut StdRng) -> Made {
    let length = rng.random_range(3_000..25_000);
    let with_video = rng.random_bool(0.85);
    let with_audio = !with_video || rng.random_bool(0.85);
    let lossless = rng.random_bool(0.5);
    let still = rng.random_bool(0.3);
    let mut made = Made {
        renditions: Vec::new(),
        formats: Vec::new(),
        events: Vec::new(),
        longest_picture: Duration::ZERO,
        lossless,
        keys: true,
        end: MediaTime::ZERO,
    };
    if with_video {
        // times of the pictures, the same for all renditions, with their key frames
        let mut pictures: Vec<(i64, bool)> = Vec::new();
        let mut at = rng.random_range(0..400) * 1_000_000;
        let mut key = at;
        let every = rng.random_range(500..3_000) * 1_000_000;
        made.keys = every <= 1_900_000_000 && !still;
        while at < length * 1_000_000 {
            let is_key = pictures.is_empty() || at >= key;
            if is_key {
                key = at + every + rng.random_range(-80..80) * 1_000_000;
            }
            pictures.push((at, is_key));
            let step: i64 = if still && rng.random_bool(0.1) {
                rng.random_range(100..1_500)
            } else {
                rng.random_range(30..37)
            };
            made.longest_picture = made.longest_picture.max(Duration::from_millis(step as u64));
            at += step * 1_000_000 + rng.random_range(0..1_000) * 1_000;
        }
        let changes = (!lossless && rng.random_bool(0.3)).then(|| rng.random_range(0..pictures.len()));
        for rendition in 0..rng.random_range(1..=3_usize) {
            made.renditions
                .push(video(["source", "360p", "180p"][rendition], 640, 360));
            made.formats.push(h264_format(rendition > 0));
            let lag = rendition as i64 * rng.random_range(0..700) * 1_000_000;
            let dies = (!lossless && rendition > 0 && rng.random_bool(0.2))
                .then(|| rng.random_range(0..pictures.len()));
            let mut changed = false;
            for (n, (at, key)) in pictures.iter().enumerate() {
                let arrives = MediaTime::from_nanos(at + lag);
                if dies.is_some_and(|dies| n >= dies) {
                    made.events.push(Event {
                        at: arrives,
                        rendition,
                        what: What::End,
                    });
                    break;
                }
                if *key && rendition == 0 && !changed && changes.is_some_and(|change| n >= change) {
                    changed = true;
                    made.events.push(Event {
                        at: arrives,
                        rendition,
                        what: What::Format(h264_format(true)),
                    });
                }
                let lost = !lossless && rendition > 0 && !*key && rng.random_bool(0.02);
                if !lost {
                    let data = vec![n as u8; rng.random_range(20..3_000)];
                    let pts = MediaTime::from_nanos(*at);
                    made.events.push(Event {
                        at: arrives,
                        rendition,
                        what: What::Packet(packet(pts, pts, None, *key, data)),
                    });
                }
            }
        }
        made.end = made.end.max(MediaTime::from_nanos(pictures.last().unwrap().0));
    }
    if with_audio {
        for kind in 0..rng.random_range(1..=2_usize) {
            let rendition = made.renditions.len();
            let (name, frame, format) = match kind {
                0 => (
                    "aac",
                    Duration::from_nanos(1024 * 1_000_000_000 / 48_000),
                    CodecParameters::Audio(aac_stereo()),
                ),
                _ => (
                    "opus",
                    Duration::from_millis(20),
                    CodecParameters::Audio(opus::parameters(2, 312)),
                ),
            };
            made.renditions.push(audio(name));
            made.formats.push(format);
            let lag = rng.random_range(0..150) * 1_000_000;
            let mut at = rng.random_range(0..60) * 1_000_000;
            let mut lost = 0;
            while at < length * 1_000_000 {
                let drift = if rng.random_bool(0.1) {
                    rng.random_range(-4_000_000..4_000_000)
                } else {
                    0
                };
                if !lossless && lost == 0 && rng.random_bool(0.002) {
                    lost = rng.random_range(1..150);
                }
                if lost > 0 {
                    lost -= 1;
                } else {
                    let pts = MediaTime::from_nanos(at);
                    let data = vec![7; rng.random_range(3..400)];
                    let what = What::Packet(packet(pts, pts, Some(frame), true, data));
                    made.events.push(Event {
                        at: MediaTime::from_nanos(at + lag),
                        rendition,
                        what,
                    });
                    made.end = made.end.max(pts);
                }
                at += frame.as_nanos() as i64 + drift;
            }
        }
    }
    made.events.sort_by_key(|event| event.at);
    made
}

/// What a segment's boxes say: for each chunk its decode time, the time its samples take, and their number.
fn chunks(mut data: &[u8]) -> Vec<(u64, u64, usize)> {
    let mut found = Vec::new();
    while let Some(atom) = Any::decode_maybe(&mut data).unwrap() {
        if let Any::Moof(moof) = atom {
            let traf = &moof.traf[0];
            let default = traf.tfhd.default_sample_duration;
            let run = &traf.trun[0].samples;
            let lasts = run
                .iter()
                .map(|s| u64::from(s.duration.or(default).unwrap()))
                .sum();
            found.push((
                traf.tfdt.as_ref().unwrap().base_media_decode_time,
                lasts,
                run.len(),
            ));
        }
    }
    found
}

/// `EXT-X-PART` lines: duration and URI.
fn parts(text: &str) -> Vec<(f64, String)> {
    text.lines()
        .filter_map(|line| line.strip_prefix("#EXT-X-PART:DURATION="))
        .map(|rest| {
            let (duration, rest) = rest.split_once(",URI=\"").unwrap();
            (
                duration.parse().unwrap(),
                rest.split_once('"').unwrap().0.to_owned(),
            )
        })
        .collect()
}

fn run(seed: u64, config: &PackagerConfig) {
    let mut rng = StdRng::seed_from_u64(seed);
    let made = make(&mut rng);
    let mut packager = Packager::new(config.clone()).unwrap();
    let mut folder = Folder::default();
    for info in made.renditions.iter().cloned().chain([captions()]) {
        packager.declare(info).unwrap();
    }
    for (info, format) in made.renditions.iter().zip(&made.formats) {
        packager.handle_format(&info.id, format.clone()).unwrap();
    }
    let mut seen: BTreeMap<String, f64> = BTreeMap::new();
    let mut said = 0;
    for event in &made.events {
        let id = &made.renditions[event.rendition].id;
        let done = match &event.what {
            What::Packet(packet) => packager.handle_packet(id, packet.clone()),
            What::Format(codec) => packager.handle_format(id, codec.clone()),
            What::End => packager.handle_end(id),
        };
        match done {
            Ok(()) => {}
            Err(HlsError::Packet { .. }) if !made.lossless => {}
            Err(why) => panic!("seed {seed}: {why}"),
        }
        while MediaTime::from_millis(said * 700) < event.at {
            let cue = Cue {
                id: CueId(said as u64),
                start: MediaTime::from_millis(said * 700),
                end: MediaTime::from_millis(said * 700 + 900),
                text: "words".to_owned(),
                words: Vec::new(),
                state: CueState::Final,
            };
            packager.handle_cue(cue).unwrap();
            said += 1;
            packager
                .handle_cue_watermark(MediaTime::from_millis(said * 700 - 1))
                .unwrap();
        }
        folder.drain(&mut packager);
        if rng.random_bool(0.02) && config.low_latency {
            check_live(seed, &made, &folder, config, &mut seen);
        }
    }
    packager
        .finish()
        .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    folder.drain(&mut packager);
    check_finished(seed, &made, &folder, config);
}

/// Live playlists: no part is longer than PART-TARGET, unless one picture lasts longer; what was listed never changes.
fn check_live(
    seed: u64,
    made: &Made,
    folder: &Folder,
    config: &PackagerConfig,
    seen: &mut BTreeMap<String, f64>,
) {
    for info in &made.renditions {
        let Some(text) = folder.get(&format!("{}/index.m3u8", info.id)) else {
            continue;
        };
        let text = String::from_utf8(text).unwrap();
        let target = config.part.as_secs_f64();
        for (duration, uri) in parts(&text) {
            let most = target.max(made.longest_picture.as_secs_f64() + 0.2);
            assert!(
                duration <= most,
                "seed {seed}: {}/{uri} lasts {duration}",
                info.id
            );
            let before = *seen.entry(format!("{}/{uri}", info.id)).or_insert(duration);
            assert_eq!(before, duration, "seed {seed}: {}/{uri} changed", info.id);
        }
        assert!(
            text.contains("#EXT-X-PRELOAD-HINT:TYPE=PART"),
            "seed {seed}: {text}"
        );
    }
}

fn check_finished(seed: u64, made: &Made, folder: &Folder, config: &PackagerConfig) {
    let mut ends = Vec::new();
    let mut numbers = Vec::new();
    for info in &made.renditions {
        let key = format!("{}/index.m3u8", info.id);
        if !folder.files.contains_key(&key) {
            continue; // it had nothing to show: a track that ended at once
        }
        let text = folder.stored(&key);
        let playlist: MediaPlaylist = parse_media_playlist_res(text.as_bytes()).unwrap();
        assert!(playlist.end_list, "seed {seed}: {key}");
        let audio = info.id.as_str() == "aac" || info.id.as_str() == "opus";
        let hz = if audio { 48_000.0 } else { 90_000.0 };
        let mut expected: Option<f64> = None;
        let mut listed = 0.0;
        let mut next_tick: Option<u64> = None;
        for segment in &playlist.segments {
            let most = playlist.target_duration as f64 + 0.5;
            assert!(
                f64::from(segment.duration) < most.max(made.longest_picture.as_secs_f64() + most),
                "seed {seed}: {}/{} lasts {}",
                info.id,
                segment.uri,
                segment.duration
            );
            if made.longest_picture < Duration::from_millis(400) {
                let rounded = f64::from(segment.duration).round() as u64;
                assert!(
                    rounded <= playlist.target_duration,
                    "seed {seed}: {}/{} {}",
                    info.id,
                    segment.uri,
                    segment.duration
                );
            }
            let gap = segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP");
            if !gap {
                let data = &folder.files[&format!("{}/{}", info.id, segment.uri)];
                let chunks = chunks(data);
                assert!(
                    !chunks.is_empty(),
                    "seed {seed}: {}/{} is empty",
                    info.id,
                    segment.uri
                );
                let start = expected.get_or_insert(chunks[0].0 as f64 / hz);
                let first = chunks[0].0 as f64 / hz;
                assert!(
                    first >= *start + listed - 0.001,
                    "seed {seed}: {}/{} starts {first}",
                    info.id,
                    segment.uri
                );
                for (at, lasts, _) in chunks {
                    if let Some(next) = next_tick {
                        assert!(
                            at >= next,
                            "seed {seed}: {}/{}: {at} overlaps {next}",
                            info.id,
                            segment.uri
                        );
                        if made.lossless {
                            assert_eq!(
                                at, next,
                                "seed {seed}: {}/{}: a hole where nothing was lost",
                                info.id, segment.uri
                            );
                        }
                    }
                    next_tick = Some(at + lasts);
                }
                // nothing of the segment lies beyond what is listed of it
                let end = next_tick.unwrap() as f64 / hz;
                assert!(
                    end <= *start + listed + f64::from(segment.duration) + 0.001,
                    "seed {seed}: {}/{} ends {end}, listed to {}",
                    info.id,
                    segment.uri,
                    *start + listed + f64::from(segment.duration)
                );
            }
            listed += f64::from(segment.duration);
        }
        ends.push((info.id.clone(), expected.unwrap_or(0.0) + listed));
        numbers.push((
            info.id.clone(),
            playlist.media_sequence,
            playlist.segments.len() as u64,
        ));
    }
    let (low, high) = ends.iter().fold((f64::MAX, 0.0_f64), |(low, high), (_, end)| {
        (low.min(*end), high.max(*end))
    });
    assert!(high - low < 0.1, "seed {seed}: renditions end at {ends:?}");
    // the same numbers mean the same segments: all renditions end with the same one
    let last: Vec<u64> = numbers.iter().map(|(_, first, count)| first + count).collect();
    assert!(last.windows(2).all(|w| w[0] == w[1]), "seed {seed}: {numbers:?}");
    if made.lossless && made.keys {
        check_boundaries(seed, made, folder);
    }
    let captions = folder.stored("captions/index.m3u8");
    let captions = parse_media_playlist_res(captions.as_bytes()).unwrap();
    assert_eq!(
        captions.segments.len() as u64 + captions.media_sequence,
        last[0],
        "seed {seed}: captions"
    );
    let _ = config;
}

/// Segments of one number start at one instant in every rendition: pictures to the tick, sound to its nearest frame.
fn check_boundaries(seed: u64, made: &Made, folder: &Folder) {
    let mut starts: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
    for info in &made.renditions {
        let sound = matches!(info.id.as_str(), "aac" | "opus");
        for (key, data) in folder
            .files
            .range(format!("{}/s", info.id)..format!("{}/t", info.id))
        {
            let at = chunks(data)[0].0 as f64 / if sound { 48_000.0 } else { 90_000.0 };
            let file = key.rsplit('/').next().unwrap().to_owned();
            starts.entry(file).or_default().push((info.id.to_string(), at));
        }
    }
    for (file, starts) in starts.iter().filter(|(file, _)| *file != "s1.m4s") {
        let pictures: Vec<f64> = starts
            .iter()
            .filter(|(id, _)| id != "aac" && id != "opus")
            .map(|s| s.1)
            .collect();
        for at in &pictures {
            assert!((at - pictures[0]).abs() < 1e-4, "seed {seed}: {file}: {starts:?}");
        }
        for (_, at) in starts {
            assert!((at - starts[0].1).abs() < 0.03, "seed {seed}: {file}: {starts:?}");
        }
    }
}

/// How many random recordings: more with `LOOM_SEEDS`.
static SEEDS: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
    std::env::var("LOOM_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(60)
});

#[test]
fn random_live_recordings_keep_the_rules() {
    for seed in 0..*SEEDS {
        run(seed, &PackagerConfig::default());
    }
}

#[test]
fn random_files_keep_the_rules() {
    for seed in 1_000..1_000 + *SEEDS / 4 {
        run(
            seed,
            &PackagerConfig::file(Duration::from_secs(4), Duration::from_secs(3)),
        );
    }
}

#[test]
fn what_was_announced_is_there_after_a_crash_at_any_moment() {
    let mut rng = StdRng::seed_from_u64(42);
    let made = make(&mut rng);
    let mut packager = Packager::new(PackagerConfig::default()).unwrap();
    let mut folder = Folder::default();
    for (info, format) in made.renditions.iter().zip(&made.formats) {
        packager.declare(info.clone()).unwrap();
        let _ = format;
    }
    for (info, format) in made.renditions.iter().zip(&made.formats) {
        packager.handle_format(&info.id, format.clone()).unwrap();
    }
    for event in &made.events {
        if let What::Packet(packet) = &event.what {
            let _ = packager.handle_packet(&made.renditions[event.rendition].id, packet.clone());
        }
        folder.drain(&mut packager); // asserts it after each publication
        // the stored playlist alone, without the origin, names only what is stored, and parses
        for info in &made.renditions {
            let Some(stored) = folder.files.get(&format!("{}/index.m3u8", info.id)) else {
                continue;
            };
            let playlist = parse_media_playlist_res(stored).unwrap();
            for segment in &playlist.segments {
                let gap = segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP");
                assert!(gap || folder.files.contains_key(&format!("{}/{}", info.id, segment.uri)));
            }
        }
    }
    assert!(folder.publishes > 20);
    assert!(packager.drop_rendition(&id("nothing")).is_err());
}
