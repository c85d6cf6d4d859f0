//! Packets to CMAF and playlists, which foreign parsers read: `mp4-atom` each box, `m3u8-rs` each playlist. What is read is
//! what was handed over, and decode times are continuous to a tick where neither a gap nor a discontinuity says otherwise.

#![no_main]

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use loom_core::codec::{h264, opus};
use loom_core::{CodecParameters, Cue, CueId, CueState, MediaTime, Packet, RenditionId, TrackId};
use loom_hls::{Answer, Body, HlsOutput, Origin, Packager, PackagerConfig, PartForm, RenditionInfo, RenditionKind};
use mp4_atom::{Any, DecodeMaybe as _};

#[derive(Default)]
struct Folder {
    files: BTreeMap<String, Vec<u8>>,
    origin: Origin,
}

impl Folder {
    fn drain(&mut self, packager: &mut Packager) {
        while let Some(output) = packager.poll_output() {
            match output {
                HlsOutput::Store { key, data } => drop(self.files.insert(key, data.to_vec())),
                HlsOutput::Append { key, data } => self
                    .files
                    .get_mut(&key)
                    .unwrap_or_else(|| panic!("append to {key}, which was never stored"))
                    .extend_from_slice(&data),
                HlsOutput::Publish(publish) => self.origin.handle_publish(publish),
                HlsOutput::Remove { key } => drop(self.files.remove(&key)),
                _ => {}
            }
        }
    }

    fn get(&self, path: &str) -> Option<Vec<u8>> {
        let Answer::Ready(response) = self.origin.handle_request(path, None) else { return None };
        match response.body {
            Body::Bytes(data) => Some(data.to_vec()),
            Body::Stored { key, offset, len } => {
                let file = self.files.get(&key).unwrap_or_else(|| panic!("{key} is listed and not stored"));
                let to = len.map_or(file.len(), |len| (offset + len) as usize);
                Some(file[offset as usize..to].to_vec())
            }
            _ => self.files.get(path).cloned(),
        }
    }
}

fuzz_target!(|input: &[u8]| run(input));

fn run(input: &[u8]) {
    let Some((head, mut rest)) = input.split_at_checked(2) else { return };
    let mut config = PackagerConfig { part: Duration::from_millis(50 + u64::from(head[0]) * 4), ..PackagerConfig::default() };
    if head[1] & 1 != 0 {
        config = PackagerConfig::file(Duration::from_secs(2), Duration::from_secs(u64::from(head[1] >> 4)));
    }
    if head[1] & 16 != 0 {
        config.part_form = PartForm::Ranges;
    }
    let parts = config.low_latency;
    let Ok(mut packager) = Packager::new(config) else { return };
    let (picture, sound) = (id("v"), id("a"));
    let info = |id: &RenditionId, kind| RenditionInfo { id: id.clone(), kind, bandwidth: 1_000_000 };
    let video = RenditionKind::Video { width: 640, height: 360, frame_rate: 30.0 };
    let audio = RenditionKind::Audio { name: "a".to_owned(), language: None, channels: 2 };
    let text = RenditionKind::Subtitles { name: "t".to_owned(), language: "en".to_owned() };
    let mut all: Vec<RenditionId> = Vec::new();
    for (bit, id, kind) in [(2, &picture, video), (4, &sound, audio), (8, &id("t"), text)] {
        if head[1] & bit == 0 && packager.declare(info(id, kind)).is_ok() {
            all.push(id.clone());
        }
    }
    let mut folder = Folder::default();
    let mut given: HashSet<Vec<u8>> = HashSet::new();
    let (mut at, mut heard, mut cues) = (0i64, 0i64, 0u64);
    let mut serial = 0u32;
    let ms = |ms: i64| MediaTime::from_secs_f64(ms as f64 / 1000.0);
    // an input is short; what one of its steps may cost is bounded, or nothing but waiting would be found
    while let Some((step, behind)) = rest.split_at_checked(3) {
        rest = behind;
        let (kind, a, b) = (step[0] % 13, i64::from(step[1]), step[2]);
        match kind {
            0..=3 => {
                at += a;
                serial += 1;
                let key = b & 7 == 0;
                let mut data = vec![0, 0, 0, 6, if key { 0x65 } else { 0x41 }, 0x88];
                data.extend(serial.to_be_bytes());
                let reorder = if b & 8 != 0 { i64::from(b >> 4) * 10 } else { 0 };
                let packet = packet(ms(at + reorder), ms(at), (b & 16 != 0).then(|| Duration::from_millis(if b == 0xff { u64::MAX >> 20 } else { 33 })), key, &data);
                given.insert(data);
                let _ = packager.handle_packet(&picture, packet);
            }
            4..=6 => {
                heard += if b & 1 == 0 { 20 } else { a };
                serial += 1;
                let mut data = vec![0xfc];
                data.extend(serial.to_be_bytes());
                let packet = packet(ms(heard), ms(heard), Some(Duration::from_millis(20)), true, &data);
                given.insert(data);
                let _ = packager.handle_packet(&sound, packet);
            }
            7 => {
                let format = if b & 1 == 0 { picture_format(b & 2 != 0) } else { sound_format() };
                let rendition = if b & 1 == 0 { &picture } else { &sound };
                let _ = packager.handle_format(rendition, format);
            }
            8 => {
                cues += 1;
                let start = ms(heard + a * 10);
                let cue = Cue {
                    id: CueId(cues),
                    start,
                    end: start + Duration::from_millis(u64::from(b) * 20),
                    text: String::from_utf8_lossy(&[step[1], b'\n', b'-', b'-', b'>', step[2]]).into_owned(),
                    words: Vec::new(),
                    state: CueState::Final,
                };
                let _ = packager.handle_cue(cue);
            }
            9 => drop(packager.handle_cue_watermark(ms(heard + a))),
            10 => match b & 3 {
                0 => drop(packager.handle_absence()),
                1 => drop(packager.handle_gap(ms(at.max(heard) + a * 10))),
                2 => {
                    let begin = at.max(heard) + a * 10;
                    if packager.handle_return(ms(begin)).is_ok() {
                        (at, heard) = (begin, begin);
                    }
                }
                _ => drop(packager.handle_end(if a & 1 == 0 { &picture } else { &sound })),
            },
            11 => drop(packager.handle_time(ms(at.max(heard) + (a - 64) * i64::from(b & 7) * 4))),
            _ => (at, heard) = (at.max(heard), at.max(heard)),
        }
        folder.drain(&mut packager);
    }
    for rendition in &all {
        read(&folder, rendition, &given, parts);
    }
    let _ = packager.finish();
    folder.drain(&mut packager);
    if let Some(main) = folder.get("main.m3u8") {
        m3u8_rs::parse_master_playlist_res(&main).expect("m3u8-rs reads the multivariant playlist");
    }
    for rendition in &all {
        read(&folder, rendition, &given, parts);
    }
}

/// Reads a rendition as a player would.
fn read(folder: &Folder, rendition: &RenditionId, given: &HashSet<Vec<u8>>, parts: bool) {
    let Some(text) = folder.get(&format!("{rendition}/index.m3u8")) else { return };
    let playlist = m3u8_rs::parse_media_playlist_res(&text).expect("m3u8-rs reads each media playlist");
    let mut due: Option<u64> = None;
    for segment in playlist.segments.iter().filter(|segment| !segment.uri.is_empty()) {
        let most = playlist.target_duration;
        assert!(f64::from(segment.duration).round() as u64 <= most, "{rendition}: a segment of {} s, and at most {most} s are said", segment.duration);
        if segment.discontinuity {
            due = None;
        }
        let is_gap = segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP");
        if is_gap {
            due = None;
            continue;
        }
        let data = folder.get(&format!("{rendition}/{}", segment.uri)).unwrap_or_else(|| panic!("{rendition}/{} is listed and not there", segment.uri));
        if segment.uri.ends_with(".vtt") {
            assert!(data.starts_with(b"WEBVTT"));
            continue;
        }
        ranges(segment, &data, rendition);
        // where a picture that cannot be repeated stands longer than a part may, parts are listed as gaps
        let whole = rendition.as_str() == "a" || !parts;
        boxes(&data, given, &mut due, rendition, whole);
    }
    if let Some(map) = playlist.segments.iter().find_map(|segment| segment.map.as_ref()) {
        let init = folder.get(&format!("{rendition}/{}", map.uri)).expect("the init segment is there");
        let mut rest = init.as_slice();
        while let Some(any) = Any::decode_maybe(&mut rest).expect("mp4-atom reads each box") {
            assert!(!matches!(any, Any::Unknown(..)), "a box that is not known");
        }
        assert!(rest.is_empty(), "bytes behind the last box");
    }
}

/// Parts that are ranges make up their segment.
fn ranges(segment: &m3u8_rs::MediaSegment, data: &[u8], rendition: &RenditionId) {
    let mut end = 0;
    for tag in segment.unknown_tags.iter().filter(|tag| tag.tag == "X-PART") {
        let said = tag.rest.as_deref().unwrap_or_default();
        let Some((_, range)) = said.split_once("BYTERANGE=\"") else { continue };
        let range = range.split_once('"').and_then(|(range, _)| range.split_once('@')).expect("a range says where it begins");
        let (len, offset): (usize, usize) = (range.0.parse().expect("a length"), range.1.parse().expect("an offset"));
        assert_eq!(offset, end, "{rendition}: {said} in {}", segment.uri);
        assert!(len > 0 && said.contains(&format!("URI=\"{}\"", segment.uri)), "{rendition}: {said}");
        end = offset + len;
    }
    assert!(end == 0 || end == data.len(), "{rendition}: the parts of {} end at {end} of {}", segment.uri, data.len());
}

fn boxes(data: &[u8], given: &HashSet<Vec<u8>>, due: &mut Option<u64>, rendition: &RenditionId, whole: bool) {
    let mut rest = data;
    let mut sizes: Vec<usize> = Vec::new();
    while let Some(any) = Any::decode_maybe(&mut rest).expect("mp4-atom reads each box") {
        match any {
            Any::Moof(moof) => {
                for traf in &moof.traf {
                    let start = traf.tfdt.as_ref().expect("each traf has a tfdt").base_media_decode_time;
                    // what was lost on the way is silence, or a picture that stands: there is neither hole nor overlap
                    assert!(due.is_none_or(|due| due == start || due < start && !whole), "{rendition}: tfdt {start}, {due:?} was due");
                    let mut end = start;
                    for sample in traf.trun.iter().flat_map(|run| run.samples.iter()) {
                        end += u64::from(sample.duration.or(traf.tfhd.default_sample_duration).unwrap_or(0));
                        sizes.push(sample.size.or(traf.tfhd.default_sample_size).unwrap_or(0) as usize);
                    }
                    *due = Some(end);
                }
            }
            Any::Mdat(mdat) => {
                let mut at = 0;
                for size in sizes.drain(..) {
                    let sample = mdat.data.get(at..at + size).expect("each sample lies in its mdat");
                    let repeated = sample.len() > 6 && !given.contains(sample);
                    // a repeat of a still picture and a frame of silence are the packager's own
                    assert!(!repeated || sample.first() == Some(&0) || rendition.as_str() == "a", "{rendition}: a sample that was never given");
                    at += size;
                }
                assert_eq!(at, mdat.data.len(), "an mdat holds its samples and nothing else");
            }
            _ => {}
        }
    }
    assert!(rest.is_empty(), "bytes behind the last box");
}

fn packet(pts: MediaTime, dts: MediaTime, duration: Option<Duration>, key: bool, data: &[u8]) -> Packet {
    Packet { track: TrackId(0), pts, dts, duration, key, data: Bytes::copy_from_slice(data) }
}

fn id(name: &str) -> RenditionId {
    RenditionId::new(name).expect("a name")
}

/// 640×360 and 320×180, High, as x264 wrote them.
fn picture_format(small: bool) -> CodecParameters {
    const LARGE: &[u8] = &[
        0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03,
        0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96,
    ];
    const SMALL: &[u8] = &[
        0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41, 0x9f, 0x9e, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03,
        0xc0, 0xf1, 0x42, 0x99, 0x60,
    ];
    let pps = Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0]);
    CodecParameters::Video(h264::parameters(if small { SMALL } else { LARGE }, &[pps]).expect("parameter sets"))
}

fn sound_format() -> CodecParameters {
    CodecParameters::Audio(opus::parameters(2, 312))
}
