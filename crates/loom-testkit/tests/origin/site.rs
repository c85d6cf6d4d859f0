//! A tiny origin on loopback, and CMAF for it, written by `mp4-atom`.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mp4_atom::{
    Avc1, Avcc, Codec, Encode, FourCC, Ftyp, Mdat, Mdhd, Mdia, Mfhd, Minf, Moof, Moov, Mvex, Mvhd, Stbl,
    Stsd, Styp, Tfdt, Tfhd, Tkhd, Traf, Trak, Trex, Trun, TrunEntry, Visual,
};

pub(crate) const HZ: u32 = 90_000;

/// What the origin does wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    Nothing,
    /// It answers `_HLS_part` without `_HLS_msn`.
    TakesPartAlone,
    /// It answers whatever `_HLS_msn` asks for.
    TakesFarAhead,
    /// It answers 200 to what it does not know.
    KnowsAll,
    /// It gives a delta update to none who ask.
    NoDelta,
    /// It never compresses.
    Plain,
    /// It leaves off the headers that caches and other origins need.
    Bare,
}

/// Files, and a playlist whose versions come one after the other.
pub(crate) struct Site {
    pub(crate) files: HashMap<String, Vec<u8>>,
    /// Of `live.m3u8`; each blocked request gets the next one.
    pub(crate) versions: Vec<String>,
    /// The same as delta updates, where they are given.
    pub(crate) deltas: Vec<String>,
    pub(crate) wrong: Wrong,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            files: HashMap::new(),
            versions: Vec::new(),
            deltas: Vec::new(),
            wrong: Wrong::Nothing,
        }
    }

    /// Serves from now on; the URL of a file.
    pub(crate) fn serve(self, file: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let url = format!("http://{}/{file}", listener.local_addr().expect("an address"));
        let (site, at) = (Arc::new(self), Arc::new((AtomicUsize::new(0), Mutex::new(()))));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (site, at) = (Arc::clone(&site), Arc::clone(&at));
                std::thread::spawn(move || site.answer(stream, &at));
            }
        });
        url
    }

    fn answer(&self, mut stream: TcpStream, at: &(AtomicUsize, Mutex<()>)) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut request = String::new();
            if reader.read_line(&mut request).ok()? == 0 {
                return None;
            }
            let mut range = None;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                if let Some(asked) = line.to_ascii_lowercase().trim().strip_prefix("range: bytes=") {
                    let (from, to) = asked.split_once('-')?;
                    range = Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?));
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let target = request.split(' ').nth(1)?.trim_start_matches('/').to_owned();
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            let guard = at.1.lock().ok()?;
            let (mut status, mut body) = self.body(path, query, &at.0);
            drop(guard);
            if let Some((from, to)) = range.filter(|_| status == 200) {
                status = 206;
                body = body
                    .get(from..=to.min(body.len().saturating_sub(1)))
                    .unwrap_or_default()
                    .to_vec();
            }
            let kind = match path.rsplit('.').next() {
                Some("m3u8") => "application/vnd.apple.mpegurl",
                Some("vtt") => "text/vtt",
                Some("json") => "application/json",
                _ => "video/mp4",
            };
            let kept = if self.wrong == Wrong::Bare {
                String::new()
            } else {
                "access-control-allow-origin: *\r\ncache-control: max-age=1\r\n".to_owned()
            };
            let mut coding = "";
            if body.len() > 1_000 && kind != "video/mp4" && self.wrong != Wrong::Plain {
                let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packed.write_all(&body).ok()?;
                body = packed.finish().ok()?;
                coding = "content-encoding: gzip\r\nvary: accept-encoding\r\n";
            }
            let mut answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{kept}{coding}content-length: {}\r\n\r\n",
                body.len()
            )
            .into_bytes();
            answer.extend(body);
            stream.write_all(&answer).ok()?;
        }
    }

    fn body(&self, path: &str, query: &str, at: &AtomicUsize) -> (u16, Vec<u8>) {
        if path == "live.m3u8" {
            let of = |name: &str| {
                query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            };
            let (msn, part) = (of("_HLS_msn"), of("_HLS_part"));
            if part.is_some() && msn.is_none() && self.wrong != Wrong::TakesPartAlone {
                return (400, Vec::new());
            }
            let far = msn
                .and_then(|msn| msn.parse::<usize>().ok())
                .is_some_and(|msn| msn > 40);
            if far && self.wrong != Wrong::TakesFarAhead {
                return (400, Vec::new());
            }
            let last = self.versions.len() - 1;
            let new = msn.is_some()
                && !far
                && part.is_some()
                && !self.already(at.load(Ordering::SeqCst), msn, part);
            let now = if new {
                (at.load(Ordering::SeqCst) + 1).min(last)
            } else {
                at.load(Ordering::SeqCst)
            };
            at.store(now, Ordering::SeqCst);
            let delta = of("_HLS_skip").is_some() && self.wrong != Wrong::NoDelta;
            let text = self
                .deltas
                .get(now)
                .filter(|_| delta)
                .unwrap_or(&self.versions[now]);
            return (200, text.clone().into_bytes());
        }
        match self.files.get(path) {
            Some(data) => (200, data.clone()),
            None if self.wrong == Wrong::KnowsAll => (200, Vec::new()),
            None => (404, Vec::new()),
        }
    }

    /// Whether version `at` has what is asked for.
    fn already(&self, at: usize, msn: Option<&str>, part: Option<&str>) -> bool {
        let name = format!("s{}.p{}.m4s\"", msn.unwrap_or_default(), part.unwrap_or_default());
        let listed = |line: &str| line.starts_with("#EXT-X-PART:") && line.contains(&name);
        let closed = format!("s{}.m4s", msn.unwrap_or_default());
        self.versions[at]
            .lines()
            .any(|line| listed(line) || line == closed)
    }
}

/// Two boxes behind each other.
fn encoded(first: &impl Encode, second: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    first.encode(&mut out).expect("a box");
    second.encode(&mut out).expect("a box");
    out
}

/// An init segment of H.264, 320x180; `change` may spoil it.
pub(crate) fn init(change: impl Fn(&mut Ftyp, &mut Moov)) -> Vec<u8> {
    let mut ftyp = Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: vec![FourCC::new(b"iso6"), FourCC::new(b"cmfc")],
    };
    let avc = Avc1 {
        visual: Visual {
            data_reference_index: 1,
            width: 320,
            height: 180,
            ..Default::default()
        },
        avcc: Avcc::new(&[0x67, 0x42, 0xc0, 0x1f], &[0x68]).expect("parameter sets"),
        ..Default::default()
    };
    let stbl = Stbl {
        stsd: Stsd {
            codecs: vec![Codec::Avc1(avc)],
        },
        ..Default::default()
    };
    let mut moov = Moov {
        mvhd: Mvhd {
            timescale: HZ,
            next_track_id: 2,
            ..Default::default()
        },
        mvex: Some(Mvex {
            trex: vec![Trex {
                track_id: 1,
                default_sample_description_index: 1,
                ..Default::default()
            }],
            ..Default::default()
        }),
        trak: vec![Trak {
            tkhd: Tkhd {
                track_id: 1,
                ..Default::default()
            },
            mdia: Mdia {
                mdhd: Mdhd {
                    timescale: HZ,
                    language: "und".to_owned(),
                    ..Default::default()
                },
                hdlr: mp4_atom::Hdlr {
                    handler: FourCC::new(b"vide"),
                    name: "v".to_owned(),
                },
                minf: Minf {
                    stbl,
                    vmhd: Some(Default::default()),
                    ..Default::default()
                },
            },
            ..Default::default()
        }],
        ..Default::default()
    };
    change(&mut ftyp, &mut moov);
    encoded(&ftyp, &moov)
}

/// One chunk of `count` pictures of half a second from `start`, the first a key frame if `key` says so; `change` may spoil it.
pub(crate) fn chunk(start: u64, count: usize, key: bool, change: impl Fn(&mut Moof)) -> Vec<u8> {
    let picture = |at: usize| -> Vec<u8> {
        let kind = if key && at == 0 { 0x65 } else { 0x41 };
        vec![0, 0, 0, 3, kind, 0x88, at as u8]
    };
    let data: Vec<u8> = (0..count).flat_map(picture).collect();
    let entry = |at: usize| TrunEntry {
        duration: Some(HZ / 2),
        size: Some(7),
        flags: Some(if key && at == 0 { 0x0200_0000 } else { 0x0101_0000 }),
        cts: None,
    };
    let mut moof = Moof {
        mfhd: Mfhd { sequence_number: 1 },
        traf: vec![Traf {
            tfhd: Tfhd {
                track_id: 1,
                default_base_is_moof: true,
                ..Default::default()
            },
            tfdt: Some(Tfdt {
                base_media_decode_time: start,
            }),
            trun: vec![Trun {
                data_offset: Some(0),
                samples: (0..count).map(entry).collect::<Vec<_>>().into(),
            }],
            ..Default::default()
        }],
    };
    let mut size = Vec::new();
    moof.encode(&mut size).expect("moof");
    moof.traf[0].trun[0].data_offset = Some(size.len() as i32 + 8);
    change(&mut moof);
    encoded(&moof, &Mdat { data })
}

/// A segment with a `styp` before its chunks.
pub(crate) fn segment(chunks: &[Vec<u8>]) -> Vec<u8> {
    let styp = Styp {
        major_brand: FourCC::new(b"msdh"),
        minor_version: 0,
        compatible_brands: vec![FourCC::new(b"msdh")],
    };
    let mut out = Vec::new();
    styp.encode(&mut out).expect("styp");
    out.extend(chunks.concat());
    out
}
