//! `loom-bench-ffi VIDEO.h264 PICTURES_A_SECOND SOUND.aac`: pushes the same packets by `Pusher::packet` and by `loom_pusher_packet`, in pairs,
//! and prints what each cost as lines of JSON.
//!
//! Both are the same machine code of the engine, in one process; only the way to it differs. The C call is made by C (`push.c`).

mod host;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;

use crate::host::{C, Host, Packet, Rust};

const WAYS: [&str; 4] = ["given", "copied", "c-given", "c-copied"];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [video, rate, sound] = arguments.as_slice() else {
        anyhow::bail!("loom-bench-ffi VIDEO.h264 PICTURES_A_SECOND SOUND.aac");
    };
    let number = |name: &str, default: usize| match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| name.to_owned()),
        Err(_) => Ok(default),
    };
    let (pairs, recordings, rounds) = (
        number("PAIRS", 7)?,
        number("RECORDINGS", 24)?,
        number("ROUNDS", 60)?,
    );
    let video = fs::read(video)?;
    let sound = fs::read(sound)?;
    let pictures = access_units(&video);
    let frames = adts_frames(&sound)?;
    let rate: f64 = rate.parse()?;
    ensure!(pictures.len() > 100 && frames.len() > 100, "too little media");

    let mut items: Vec<Item> = Vec::new();
    items.extend(
        pictures
            .iter()
            .zip(0..)
            .map(|(data, at)| Item::new(0, f64::from(at) / rate, data)),
    );
    items.extend(
        frames
            .iter()
            .zip(0..)
            .map(|(data, at)| Item::new(1, f64::from(at) * 1024.0 / 48_000.0, data)),
    );
    items.sort_by_key(|it| it.at);

    for round in 0..rounds {
        for way in turn(round) {
            let (calls, nanos) = burst(way, &items)?;
            println!(
                "{{\"what\": \"call\", \"way\": {way:?}, \"round\": {round}, \"calls\": {calls}, \"nanos\": {nanos}}}"
            );
        }
    }
    for round in 0..pairs {
        for way in turn(round) {
            let seconds = whole(way, &items, recordings)?;
            println!("{{\"what\": \"whole\", \"way\": {way:?}, \"round\": {round}, \"seconds\": {seconds}}}");
        }
    }
    Ok(())
}

struct Item {
    track: usize,
    /// Nanoseconds.
    at: i64,
    data: Bytes,
}

impl Item {
    fn new(track: usize, seconds: f64, data: &[u8]) -> Self {
        Self {
            track,
            at: (seconds * 1e9) as i64,
            data: Bytes::copy_from_slice(data),
        }
    }
}

/// Each begins as often as the others.
fn turn(round: usize) -> [&'static str; 4] {
    let mut ways = WAYS;
    ways.rotate_left(round % 4);
    if round / 4 % 2 == 1 {
        ways.reverse();
    }
    ways
}

fn host(way: &str, folder: &std::path::Path) -> Result<Box<dyn Host>> {
    Ok(match way {
        "given" => Box::new(Rust::start(folder, Packet::Given)?),
        "copied" => Box::new(Rust::start(folder, Packet::Copied)?),
        "c-given" => Box::new(C::start(folder, Packet::Given)?),
        _ => Box::new(C::start(folder, Packet::Copied)?),
    })
}

/// As many packets as may wait, as fast as they are taken: what the calls cost the thread that makes them.
fn burst(way: &str, items: &[Item]) -> Result<(usize, u64)> {
    let folder = tempfile::tempdir()?;
    let mut host = host(way, folder.path())?;
    host.begin(1)?;
    let items = &items[..items.len().min(1000)];
    let began = clock(libc::CLOCK_THREAD_CPUTIME_ID);
    for item in items {
        host.push(item.track, item.at, &item.data)?;
    }
    let nanos = clock(libc::CLOCK_THREAD_CPUTIME_ID) - began;
    host.drop_all()?;
    Ok((items.len(), nanos.as_nanos() as u64))
}

/// Whole recordings, live: what they cost the process.
fn whole(way: &str, items: &[Item], recordings: usize) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let mut host = host(way, folder.path())?;
    let began = clock(libc::CLOCK_PROCESS_CPUTIME_ID);
    host.begin(recordings)?;
    let start = Instant::now();
    for item in items {
        let due = Duration::from_nanos(item.at.unsigned_abs());
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        host.push(item.track, item.at, &item.data)?;
    }
    host.finish()?;
    Ok((clock(libc::CLOCK_PROCESS_CPUTIME_ID) - began).as_secs_f64())
}

fn clock(which: libc::clockid_t) -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: there is room for the time
    unsafe { libc::clock_gettime(which, &mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Access units of a byte stream that has a delimiter (NAL type 9) before each.
fn access_units(stream: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = (0..stream.len().saturating_sub(5))
        .filter(|at| stream[*at..].starts_with(&[0, 0, 0, 1, 9]))
        .collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| &stream[*start..end])
        .collect()
}

/// Raw frames of an ADTS stream (ISO/IEC 13818-7 §6.2), whose headers have 7 bytes.
fn adts_frames(stream: &[u8]) -> Result<Vec<&[u8]>> {
    let mut frames = Vec::new();
    let mut rest = stream;
    while rest.len() > 7 {
        let length = usize::from(rest[3] & 3) << 11 | usize::from(rest[4]) << 3 | usize::from(rest[5]) >> 5;
        frames.push(rest.get(7..length).context("an ADTS frame is cut")?);
        rest = &rest[length..];
    }
    Ok(frames)
}
