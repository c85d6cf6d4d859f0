//! A clip, cut into RTP payloads once; all publishers send the same bytes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// One encoded picture or Opus packet, as the payloads of its RTP packets.
pub struct Unit {
    pub payloads: Vec<Vec<u8>>,
    pub key: bool,
}

/// A film without end: after its last unit comes its first.
pub struct Clip {
    pub pictures: Vec<Unit>,
    pub sounds: Vec<Unit>,
    /// Pictures a second.
    pub rate: u32,
}

/// Bytes of RTP payload: with the headers, the SRTP tag and IPv6 below 1280 bytes.
const PAYLOAD: usize = 1_160;

impl Clip {
    /// Reads `FOLDER/pictures` (H.264 access units, Annex B) and `FOLDER/sounds` (Opus packets): each unit after its length,
    /// 4 bytes, big endian.
    pub fn read(folder: &Path, rate: u32) -> Result<Self> {
        let mut pictures = Vec::new();
        for unit in units(&folder.join("pictures"))? {
            pictures.push(picture(&unit));
        }
        let mut sounds = Vec::new();
        for unit in units(&folder.join("sounds"))? {
            sounds.push(Unit {
                payloads: vec![unit],
                key: true,
            });
        }
        if !pictures.first().is_some_and(|picture| picture.key) || sounds.is_empty() {
            bail!("the clip does not begin with a key frame, or has no sound");
        }
        Ok(Self {
            pictures,
            sounds,
            rate,
        })
    }

    /// The first key frame at `from` or after it, around the end if need be.
    pub fn key_from(&self, from: usize) -> usize {
        let count = self.pictures.len();
        (from..from + count)
            .map(|index| index % count)
            .find(|&index| self.pictures[index].key)
            .unwrap_or(0)
    }
}

fn units(path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let mut rest = &bytes[..];
    let mut units = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if after.len() < length {
            bail!("{} ends within a unit", path.display());
        }
        units.push(after[..length].to_vec());
        rest = &after[length..];
    }
    Ok(units)
}

/// RFC 6184 §5.6 (single units), §5.7.1 (parameter sets together in a STAP-A), §5.8 (FU-A).
fn picture(unit: &[u8]) -> Unit {
    let mut payloads = Vec::new();
    let mut sets = Vec::new();
    let mut key = false;
    for nal in nals(unit) {
        match nal[0] & 0x1f {
            7 | 8 => sets.push(nal),
            9 => {}
            kind => {
                if !sets.is_empty() {
                    payloads.push(aggregate(&sets));
                    sets.clear();
                }
                key |= kind == 5;
                fragment(nal, &mut payloads);
            }
        }
    }
    Unit { payloads, key }
}

fn aggregate(nals: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![0x78];
    for nal in nals {
        payload.extend((nal.len() as u16).to_be_bytes());
        payload.extend(*nal);
    }
    payload
}

fn fragment(nal: &[u8], payloads: &mut Vec<Vec<u8>>) {
    if nal.len() <= PAYLOAD {
        payloads.push(nal.to_vec());
        return;
    }
    let pieces = nal[1..].chunks(PAYLOAD - 2);
    let last = pieces.len() - 1;
    for (index, piece) in pieces.enumerate() {
        let start = u8::from(index == 0) << 7;
        let end = u8::from(index == last) << 6;
        let mut payload = vec![nal[0] & 0xe0 | 28, start | end | nal[0] & 0x1f];
        payload.extend(piece);
        payloads.push(payload);
    }
}

fn nals(unit: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> = Vec::new();
    let mut at = 0;
    while at + 3 <= unit.len() {
        if unit[at..at + 3] == [0, 0, 1] {
            starts.push(at + 3);
            at += 3;
        } else {
            at += 1;
        }
    }
    let mut nals = Vec::new();
    for (index, &start) in starts.iter().enumerate() {
        let mut end = starts.get(index + 1).map_or(unit.len(), |next| next - 3);
        while end > start && unit[end - 1] == 0 {
            end -= 1;
        }
        if end > start {
            nals.push(&unit[start..end]);
        }
    }
    nals
}
