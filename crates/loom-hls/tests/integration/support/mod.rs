//! What the tests share: a store that holds the packager to its word, and media made by ffmpeg.

pub(crate) mod media;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use loom_core::{AudioParameters, CodecParameters, MediaTime, Packet, RenditionId, TrackId};
use loom_hls::{Answer, Body, HlsOutput, Origin, Packager, RenditionInfo, RenditionKind};

/// Carries out what the packager asks for, in memory.
#[derive(Default)]
pub(crate) struct Folder {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) origin: Origin,
    pub(crate) publishes: usize,
}

impl Folder {
    /// Carries out everything that waits, and checks after each publication that what it lists can be had.
    pub(crate) fn drain(&mut self, packager: &mut Packager) {
        self.answer(packager, |_, _| {});
    }

    /// As [`Self::drain`]; `each` sees every output before it is carried out.
    pub(crate) fn answer(
        &mut self,
        packager: &mut Packager,
        mut each: impl FnMut(&mut Packager, &HlsOutput),
    ) {
        while let Some(output) = packager.poll_output() {
            each(packager, &output);
            match output {
                HlsOutput::NeedKey { .. } => {}
                HlsOutput::Remove { key } => {
                    self.files.remove(&key);
                }
                HlsOutput::Store { key, data } => {
                    self.files.insert(key, data.to_vec());
                }
                HlsOutput::Append { key, data } => {
                    self.files
                        .get_mut(&key)
                        .unwrap_or_else(|| panic!("append to {key}, which was never stored"))
                        .extend_from_slice(&data);
                }
                HlsOutput::Publish(publish) => {
                    let rendition = publish.rendition().cloned();
                    self.origin.handle_publish(publish);
                    self.publishes += 1;
                    if let Some(rendition) = rendition {
                        self.check_listed(&rendition);
                    }
                }
                _ => unreachable!("no other output exists"),
            }
        }
    }

    /// Every URI of a rendition's live playlist answers with bytes that are in the store already.
    fn check_listed(&self, rendition: &RenditionId) {
        let Answer::Ready(response) = self
            .origin
            .handle_request(&format!("{rendition}/index.m3u8"), None)
        else {
            return;
        };
        let Body::Bytes(text) = response.body else {
            panic!("a live playlist is in memory")
        };
        let text = std::str::from_utf8(&text).unwrap();
        let mut gap = false;
        // what was listed before was looked at before: the end is enough, and the whole now and then
        let far = if self.publishes.is_multiple_of(50) {
            0
        } else {
            text.len().saturating_sub(1_500)
        };
        let tail = text[..far].rfind("m4s\n").map_or(0, |at| at + 4);
        for line in text[tail..].lines() {
            if line.starts_with("#EXT-X-KEY") {
                continue;
            }
            let uri = match line
                .split_once("URI=\"")
                .and_then(|(_, rest)| rest.split_once('"'))
            {
                Some(_) if line.starts_with("#EXT-X-PRELOAD-HINT") || line.ends_with("GAP=YES") => continue,
                // another rendition's playlist, which is there too
                Some(_) if line.starts_with("#EXT-X-RENDITION-REPORT") => continue,
                Some((uri, _)) => uri,
                None if line == "#EXT-X-GAP" => {
                    gap = true;
                    continue;
                }
                None if line.starts_with('#') => continue,
                None => line,
            };
            if !line.starts_with('#') && std::mem::take(&mut gap) {
                continue;
            }
            assert!(
                self.get(&format!("{rendition}/{uri}"))
                    .is_some_and(|data| !data.is_empty()),
                "{rendition}: {line}"
            );
        }
    }

    /// What the origin answers, with stored bodies looked up.
    pub(crate) fn get(&self, path: &str) -> Option<Vec<u8>> {
        match self.origin.handle_request(path, None) {
            Answer::Ready(response) => match response.body {
                Body::Bytes(data) => Some(data.to_vec()),
                Body::Stored { key, offset, len } => {
                    let file = self.files.get(&key)?;
                    let from = offset as usize;
                    let to = len.map_or(file.len(), |len| from + len as usize);
                    Some(file[from..to].to_vec())
                }
                Body::Viewed { key, view } => view
                    .show(&key, |key| self.files.get(key).cloned())
                    .map(String::into_bytes),
                Body::Growing { rendition, segment } => {
                    self.files.get(&format!("{rendition}/s{segment}.m4s")).cloned()
                }
            },
            _ => None,
        }
    }

    pub(crate) fn text(&self, path: &str) -> String {
        String::from_utf8(self.get(path).unwrap_or_else(|| panic!("{path} is not there"))).unwrap()
    }

    pub(crate) fn stored(&self, key: &str) -> String {
        let file = self
            .files
            .get(key)
            .unwrap_or_else(|| panic!("{key} was not stored"));
        String::from_utf8(file.clone()).unwrap()
    }

    pub(crate) fn write_to(&self, dir: &Path) {
        for (key, data) in &self.files {
            let path = dir.join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, data).unwrap();
        }
    }
}

pub(crate) fn id(name: &str) -> RenditionId {
    RenditionId::new(name).unwrap()
}

pub(crate) fn video(name: &str, width: u32, height: u32) -> RenditionInfo {
    RenditionInfo {
        id: id(name),
        kind: RenditionKind::Video {
            width,
            height,
            frame_rate: 30.0,
        },
        bandwidth: 1_000_000,
    }
}

pub(crate) fn audio(name: &str) -> RenditionInfo {
    RenditionInfo {
        id: id(name),
        kind: RenditionKind::Audio {
            name: "Sound".to_owned(),
            language: None,
            channels: 2,
        },
        bandwidth: 128_000,
    }
}

pub(crate) fn captions() -> RenditionInfo {
    RenditionInfo {
        id: id("captions"),
        kind: RenditionKind::Subtitles {
            name: "English".to_owned(),
            language: "en".to_owned(),
        },
        bandwidth: 1_000,
    }
}

/// One rendition's stream, as it would come from an encoder.
#[derive(Clone)]
pub(crate) struct Stream {
    pub(crate) info: RenditionInfo,
    pub(crate) codec: CodecParameters,
    pub(crate) packets: Vec<Packet>,
}

/// Feeds streams in the order of their decode times, as if live, then finishes. `each` sees the folder after every packet.
pub(crate) fn package(
    packager: &mut Packager,
    streams: &[Stream],
    mut each: impl FnMut(&mut Packager, &mut Folder, MediaTime),
) -> Folder {
    let mut folder = Folder::default();
    for stream in streams {
        packager.declare(stream.info.clone()).unwrap();
    }
    for stream in streams {
        packager
            .handle_format(&stream.info.id, stream.codec.clone())
            .unwrap();
    }
    let mut order: Vec<(MediaTime, usize, usize)> = Vec::new();
    for (s, stream) in streams.iter().enumerate() {
        order.extend(
            stream
                .packets
                .iter()
                .enumerate()
                .map(|(p, packet)| (packet.dts, s, p)),
        );
    }
    order.sort();
    for (at, s, p) in order {
        packager
            .handle_packet(&streams[s].info.id, streams[s].packets[p].clone())
            .unwrap();
        each(packager, &mut folder, at);
        folder.drain(packager);
    }
    packager.finish().unwrap();
    folder.drain(packager);
    folder
}

/// Every packet with its stream's number, in the order of decode times.
pub(crate) fn in_order(streams: &[Stream]) -> Vec<(usize, Packet)> {
    let mut all: Vec<(usize, Packet)> = Vec::new();
    for (s, stream) in streams.iter().enumerate() {
        all.extend(stream.packets.iter().map(|packet| (s, packet.clone())));
    }
    all.sort_by_key(|(s, packet)| (packet.dts, *s));
    all
}

pub(crate) fn packet(
    pts: MediaTime,
    dts: MediaTime,
    duration: Option<Duration>,
    key: bool,
    data: impl Into<bytes::Bytes>,
) -> Packet {
    Packet {
        track: TrackId(0),
        pts,
        dts,
        duration,
        key,
        data: data.into(),
    }
}

/// 640×360 and 320×180, High, as x264 wrote them.
pub(crate) fn h264_format(small: bool) -> CodecParameters {
    const LARGE: &[u8] = &[
        0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
        0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96,
    ];
    const SMALL: &[u8] = &[
        0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41, 0x9f, 0x9e, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
        0x00, 0x03, 0x03, 0xc0, 0xf1, 0x42, 0x99, 0x60,
    ];
    let pps = bytes::Bytes::from_static(&[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0]);
    CodecParameters::Video(
        loom_core::codec::h264::parameters(if small { SMALL } else { LARGE }, &[pps]).unwrap(),
    )
}

pub(crate) fn aac_stereo() -> AudioParameters {
    loom_core::codec::aac::parameters(&bytes::Bytes::from_static(&[0x11, 0x90])).unwrap()
}

/// Hands over every packet in the order in which it would arrive where each stream is so many milliseconds
/// late; its times are `at` later than it says.
pub(crate) fn feed(packager: &mut Packager, folder: &mut Folder, streams: &[(&Stream, u64)], at: Duration) {
    let mut order: Vec<(MediaTime, &Stream, &Packet)> = Vec::new();
    for (stream, late) in streams {
        packager
            .handle_format(&stream.info.id, stream.codec.clone())
            .unwrap();
        let arrival = |packet: &Packet| packet.dts + Duration::from_millis(*late);
        order.extend(
            stream
                .packets
                .iter()
                .map(|packet| (arrival(packet), *stream, packet)),
        );
    }
    order.sort_by_key(|(arrival, ..)| *arrival);
    for (_, stream, packet) in order {
        let packet = Packet {
            pts: packet.pts + at,
            dts: packet.dts + at,
            ..packet.clone()
        };
        packager.handle_packet(&stream.info.id, packet).unwrap();
        folder.drain(packager);
    }
}
