//! Parts as byte ranges of their segment (RFC 8216bis §4.4.4.9): what playlists say of them, and what the origin answers while the
//! segment grows.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::support::{Folder, audio, h264_format, id, packet, video};
use loom_core::codec::opus;
use loom_core::{CodecParameters, MediaTime};
use loom_hls::{
    Answer, Body, ContentKey, Encryption, EncryptionScheme, Growth, KeyBytes, Packager, PackagerConfig,
    PartForm,
};

/// Pictures at 25 a second with a key frame every 1.88 s, and sound in frames of 20 ms.
struct Live {
    packager: Packager,
    folder: Folder,
    at: i64,
}

impl Live {
    fn new(part_form: PartForm) -> Self {
        let config = PackagerConfig {
            part_form,
            ..PackagerConfig::default()
        };
        let mut packager = Packager::new(config).unwrap();
        for info in [video("v", 640, 360), audio("a")] {
            packager.declare(info).unwrap();
        }
        packager.handle_format(&id("v"), h264_format(false)).unwrap();
        packager
            .handle_format(&id("a"), CodecParameters::Audio(opus::parameters(2, 312)))
            .unwrap();
        Self {
            packager,
            folder: Folder::default(),
            at: 0,
        }
    }

    /// The next 20 ms.
    fn step(&mut self) {
        let at = MediaTime::from_millis(self.at);
        let sound = packet(at, at, Some(Duration::from_millis(20)), true, vec![0xfc; 60]);
        self.packager.handle_packet(&id("a"), sound).unwrap();
        // for a while the screen stands still
        let still = (6_000..9_000).contains(&self.at);
        if self.at % 40 == 0 && !still {
            let key = self.at % 1_880 == 0 || self.at == 9_000;
            let data = vec![1; if key { 4_000 } else { 300 + self.at as usize % 7 }];
            let picture = packet(at, at, None, key, data);
            self.packager.handle_packet(&id("v"), picture).unwrap();
        }
        self.packager.handle_time(at).unwrap();
        self.at += 20;
        self.folder.drain(&mut self.packager);
    }

    fn to(&mut self, millis: i64) {
        while self.at < millis {
            self.step();
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    said: String,
    uri: String,
    /// Length and offset.
    range: Option<(usize, usize)>,
}

fn attribute<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("{name}="))?;
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split(',').next(),
    }
}

/// The parts that a playlist lists, and what it hints: a URI and a byte in it.
fn parts(text: &str) -> (Vec<Part>, Option<(String, usize)>) {
    let (mut parts, mut hint) = (Vec::new(), None);
    for line in text.lines() {
        let uri = attribute(line, "URI").unwrap_or_default().to_owned();
        if line.starts_with("#EXT-X-PART:") {
            let range = attribute(line, "BYTERANGE").map(|range| {
                let (len, offset) = range.split_once('@').expect("each says where it begins");
                (len.parse().unwrap(), offset.parse().unwrap())
            });
            let independent = line.contains("INDEPENDENT=YES");
            let said = format!("{} {independent}", attribute(line, "DURATION").unwrap());
            parts.push(Part { said, uri, range });
        } else if line.starts_with("#EXT-X-PRELOAD-HINT:TYPE=PART") {
            let start = attribute(line, "BYTERANGE-START").map_or(0, |start| start.parse().unwrap());
            hint = Some((uri, start));
        }
    }
    (parts, hint)
}

#[test]
fn parts_are_ranges_that_make_up_their_segment_and_the_same_as_parts_with_names() {
    let (mut ranged, mut named) = (Live::new(PartForm::Ranges), Live::new(PartForm::Named));
    for rendition in ["v", "a"] {
        let path = format!("{rendition}/index.m3u8");
        let (mut all, mut ends) = (Vec::new(), BTreeMap::new());
        let mut last = 0;
        let mut compared = 0;
        while ranged.at < 14_000 || rendition == "a" && ranged.at < 28_000 {
            ranged.step();
            named.step();
            let (Some(text), Some(other)) = (ranged.folder.get(&path), named.folder.get(&path)) else {
                continue;
            };
            let (now, _) = parts(std::str::from_utf8(&text).unwrap());
            let (same, _) = parts(std::str::from_utf8(&other).unwrap());
            if rendition == "a" && all.is_empty() && last == 0 {
                last = now.len(); // it ran before it was looked at
            }
            for part in now {
                let (len, offset) = part.range.unwrap();
                let key = format!("{rendition}/{}", part.uri);
                let data = &ranged.folder.files[&key][offset..offset + len];
                if !all.contains(&(part.uri.clone(), offset)) {
                    all.push((part.uri.clone(), offset));
                    if let Some(end) = ends.insert(part.uri.clone(), offset + len) {
                        assert_eq!(end, offset, "{part:?} begins where the one before ends");
                    } else {
                        assert!(offset == 0 || last > 0, "{part:?}");
                    }
                }
                // a part with a name that was made of the same pictures
                let twin = same.iter().find(|twin| {
                    twin.said == part.said
                        && named.folder.get(&format!("{rendition}/{}", twin.uri)).as_deref() == Some(data)
                });
                compared += usize::from(twin.is_some());
            }
        }
        assert!(all.len() > 30, "{all:?}");
        assert!(compared > all.len(), "{compared}");
        for (uri, end) in ends.iter().filter(|(uri, _)| {
            let number: u64 = uri[1..uri.len() - 4].parse().unwrap();
            number + 1 < ends.len() as u64
        }) {
            assert_eq!(
                ranged.folder.files[&format!("{rendition}/{uri}")].len(),
                *end,
                "{uri}"
            );
        }
    }
}

#[test]
fn the_part_that_comes_next_is_the_one_that_was_hinted() {
    let mut live = Live::new(PartForm::Ranges);
    for rendition in ["v", "a"] {
        let (mut hinted, mut count, mut seen) = (None, 0, Vec::new());
        let until = live.at + 14_000;
        while live.at < until {
            live.step();
            let Some(text) = live.folder.get(&format!("{rendition}/index.m3u8")) else {
                continue;
            };
            let (now, hint) = parts(std::str::from_utf8(&text).unwrap());
            let new = now.iter().map(|part| (part.uri.clone(), part.range.unwrap().1));
            let new: Vec<_> = new.filter(|part| !seen.contains(part)).collect();
            if let (Some(first), Some(hinted)) = (new.first(), hinted) {
                assert_eq!(
                    *first,
                    hinted,
                    "at {}:\n{}",
                    live.at,
                    String::from_utf8_lossy(&text)
                );
                count += 1;
            }
            seen.extend(new);
            hinted = Some(hint.expect("there is always a hint"));
        }
        assert!(count > 20, "{rendition}: {count}");
    }
}

#[test]
fn a_hinted_range_is_held_until_its_part_is_there_and_goes_on_to_the_segments_end() {
    let mut live = Live::new(PartForm::Ranges);
    live.to(2_600);
    let (_, hint) = parts(&live.folder.text("v/index.m3u8"));
    let (uri, start) = hint.unwrap();
    let path = format!("v/{uri}");
    assert!(start > 0, "{uri}");
    let origin =
        |live: &Live, first: usize| live.folder.origin.handle_range_request(&path, None, first as u64);
    // what is there is answered, what is hinted is waited for
    assert!(matches!(origin(&live, 0), Answer::Ready(it) if matches!(it.body, Body::Growing { .. })));
    let Answer::WaitFor(wait) = origin(&live, start) else {
        panic!("{:?}", origin(&live, start))
    };
    assert!(!live.folder.origin.is_over(&wait));
    let far = origin(&live, 10_000_000);
    assert!(matches!(far, Answer::WaitFor(_)), "{far:?}");
    while !live.folder.origin.is_over(&wait) {
        live.step();
    }
    let Answer::Ready(response) = origin(&live, start) else {
        panic!("{:?}", origin(&live, start))
    };
    let Body::Growing { rendition, segment } = response.body else {
        panic!("{:?}", response.body)
    };
    let mut got = Vec::new();
    loop {
        let at = (start + got.len()) as u64;
        match live.folder.origin.growth(&rendition, segment, at) {
            Growth::Bytes(data) => got.extend_from_slice(&data),
            Growth::Rest { key, offset } => {
                got.extend_from_slice(&live.folder.files[&key][offset as usize..]);
                break;
            }
            Growth::Stored { key, offset, len } => {
                let from = offset as usize;
                got.extend_from_slice(&live.folder.files[&key][from..from + len as usize]);
            }
            Growth::WaitFor(_) => live.step(),
            _ => break,
        }
    }
    assert_eq!(got, live.folder.files[&path][start..]);
    // whole, it is a file of known length: of that the host tells that a range lies outside it
    let after = origin(&live, 10_000_000);
    assert!(
        matches!(&after, Answer::Ready(it) if matches!(&it.body, Body::Stored { key, .. } if *key == path)),
        "{after:?}"
    );
}

#[test]
fn parts_of_segments_that_are_encrypted_whole_keep_their_names() {
    let config = PackagerConfig {
        part_form: PartForm::Ranges,
        encryption: Some(Encryption {
            scheme: EncryptionScheme::Segments,
            rotation: NonZeroU32::new(1_000),
        }),
        ..PackagerConfig::default()
    };
    let mut packager = Packager::new(config).unwrap();
    let key = ContentKey {
        period: 0,
        id: [1; 16],
        key: KeyBytes::new([2; 16]),
        iv: [3; 16],
        uri: "key".to_owned(),
        formats: Vec::new(),
        pssh: Vec::new(),
    };
    packager.handle_key(key).unwrap();
    packager.declare(video("v", 640, 360)).unwrap();
    packager.handle_format(&id("v"), h264_format(false)).unwrap();
    let mut folder = Folder::default();
    for n in 0..60 {
        let at = MediaTime::from_millis(n * 40);
        let picture = packet(at, at, None, n % 25 == 0, vec![1; 300]);
        packager.handle_packet(&id("v"), picture).unwrap();
        folder.drain(&mut packager);
    }
    let text = folder.text("v/index.m3u8");
    assert!(text.contains("URI=\"p0.m4s\""), "{text}");
    assert!(!text.contains("BYTERANGE"), "{text}");
}
