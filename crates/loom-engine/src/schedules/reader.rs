use std::collections::BTreeMap;
use std::path::Path;

use loom_core::MediaKind;
use mp4_atom::{Any, Decode as _, FourCC, Moof, Moov};

use super::stamp::Stamp;

/// A rendition of a recording that has ended, as foreign readers see it: `m3u8-rs` its playlist, `mp4-atom` its segments.
#[derive(Debug)]
pub(super) struct Rendition {
    pub(super) name: String,
    /// Named by `main.m3u8`, so that its segments begin where those of the others do.
    pub(super) is_main: bool,
    pub(super) kind: MediaKind,
    /// Ticks a second.
    pub(super) scale: u32,
    pub(super) segments: Vec<Segment>,
}

/// A segment as it is listed and as it is.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) uri: String,
    /// As listed.
    pub(super) seconds: f64,
    pub(super) discontinuity: bool,
    pub(super) gap: bool,
    /// Its chunks, in their order; none where it is a gap.
    pub(super) chunks: Vec<Chunk>,
}

#[derive(Debug)]
pub(super) struct Chunk {
    /// Where its first sample is decoded, ticks (`tfdt`).
    pub(super) start: u64,
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug)]
pub(super) struct Sample {
    /// Ticks.
    pub(super) duration: u32,
    /// How much later it is shown than decoded, ticks.
    pub(super) offset: i64,
    pub(super) stamp: Option<Stamp>,
}

/// Reads all renditions of pictures and sound in a recording's folder, by the multivariant playlists in it.
pub(super) fn read(folder: &Path) -> Result<Vec<Rendition>, String> {
    let hls = folder.join("hls");
    let entries = std::fs::read_dir(&hls).map_err(|why| format!("{}: {why}", hls.display()))?;
    let mut playlists: BTreeMap<String, bool> = BTreeMap::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|it| it == "m3u8") {
            let master = m3u8_rs::parse_master_playlist_res(&file(&path)?)
                .map_err(|why| format!("{}: {why}", path.display()))?;
            let variants = master.variants.into_iter().filter(|it| !it.is_i_frame);
            let variants = variants.map(|it| it.uri);
            let is_main = path.file_stem().is_some_and(|it| it == "main");
            for uri in variants.chain(master.alternatives.into_iter().filter_map(|it| it.uri)) {
                *playlists.entry(uri).or_default() |= is_main;
            }
        }
    }
    playlists
        .iter()
        .filter_map(|(uri, is_main)| rendition(&hls, uri, *is_main).transpose())
        .collect()
}

/// One of them; `None` where it is nothing but gaps.
fn rendition(hls: &Path, uri: &str, is_main: bool) -> Result<Option<Rendition>, String> {
    let path = hls.join(uri);
    let failed = |why: String| format!("{}: {why}", path.display());
    let folder = path.parent().unwrap_or(hls);
    let playlist = m3u8_rs::parse_media_playlist_res(&file(&path)?).map_err(|why| failed(why.to_string()))?;
    if !playlist.end_list {
        return Err(failed("it does not end".to_owned()));
    }
    let (mut init, mut segments) = (None, Vec::new());
    for listed in playlist.segments {
        if let Some(map) = &listed.map {
            init = Some(moov(&file(&folder.join(&map.uri))?).map_err(failed)?);
        }
        let gap = listed.unknown_tags.iter().any(|tag| tag.tag == "X-GAP");
        let chunks = match (gap, &init) {
            (true, _) => Vec::new(),
            (false, None) => return Err(failed(format!("{} has no init segment", listed.uri))),
            (false, Some(init)) => chunks(&file(&folder.join(&listed.uri))?, init)
                .map_err(|why| failed(format!("{}: {why}", listed.uri)))?,
        };
        segments.push(Segment {
            seconds: f64::from(listed.duration),
            discontinuity: listed.discontinuity,
            uri: listed.uri,
            gap,
            chunks,
        });
    }
    let Some(init) = init else { return Ok(None) };
    let media = &init
        .trak
        .first()
        .ok_or_else(|| failed("no track".to_owned()))?
        .mdia;
    Ok(Some(Rendition {
        name: uri.trim_end_matches("/index.m3u8").to_owned(),
        is_main,
        kind: match media.hdlr.handler {
            kind if kind == FourCC::new(b"vide") => MediaKind::Video,
            _ => MediaKind::Audio,
        },
        scale: media.mdhd.timescale,
        segments,
    }))
}

fn moov(data: &[u8]) -> Result<Moov, String> {
    let mut rest = data;
    while !rest.is_empty() {
        if let Any::Moov(moov) = Any::decode(&mut rest).map_err(|why| why.to_string())? {
            return Ok(*Box::from(moov));
        }
    }
    Err("an init segment without a moov".to_owned())
}

fn chunks(data: &[u8], init: &Moov) -> Result<Vec<Chunk>, String> {
    let (mut rest, mut open, mut chunks) = (data, None, Vec::new());
    while !rest.is_empty() {
        match Any::decode(&mut rest).map_err(|why| why.to_string())? {
            Any::Moof(moof) => open = Some(*Box::from(moof)),
            Any::Mdat(mdat) => {
                let moof = open.take().ok_or("an mdat without its moof")?;
                chunks.push(chunk(&moof, &mdat.data, init)?);
            }
            _ => {}
        }
    }
    Ok(chunks)
}

fn chunk(moof: &Moof, data: &[u8], init: &Moov) -> Result<Chunk, String> {
    let [traf] = &moof.traf[..] else {
        return Err(format!("{} trafs in a chunk", moof.traf.len()));
    };
    let extends = init.mvex.iter().flat_map(|it| &it.trex);
    let mut extends = extends.filter(|it| it.track_id == traf.tfhd.track_id);
    let trex = extends.next().ok_or("a track without its trex")?;
    let (duration, size) = (traf.tfhd.default_sample_duration, traf.tfhd.default_sample_size);
    let (mut samples, mut at) = (Vec::new(), 0);
    for entry in traf.trun.iter().flat_map(|trun| &trun.samples) {
        let size = entry.size.or(size).unwrap_or(trex.default_sample_size) as usize;
        let sample = data.get(at..at + size).ok_or("a sample beyond its mdat")?;
        at += size;
        samples.push(Sample {
            duration: entry
                .duration
                .or(duration)
                .unwrap_or(trex.default_sample_duration),
            offset: entry.cts.unwrap_or(0),
            stamp: Stamp::read(sample),
        });
    }
    let start = traf.tfdt.as_ref().ok_or("a traf without a tfdt")?;
    Ok(Chunk {
        start: start.base_media_decode_time,
        samples,
    })
}

fn file(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|why| format!("{}: {why}", path.display()))
}
