use std::ops::Range;

use crate::crypt::sample::SKIPPED;
use crate::crypt::{ContentKey, EncryptionScheme};

/// The init segment `init` for samples that `key` protects: its one sample entry becomes `encv` or `enca` with a `sinf` at its end
/// (ISO/IEC 14496-12 §8.12), and the key's `pssh` stand at the end of `moov`. Whole as it came where it has no sample entry.
pub(crate) fn protect(init: &[u8], scheme: EncryptionScheme, key: &ContentKey, video: bool) -> Vec<u8> {
    let mut out = init.to_vec();
    // each box begins inside the one before it; the second number is what stands before its first child
    let path = [
        (b"moov", 8),
        (b"trak", 8),
        (b"mdia", 8),
        (b"minf", 8),
        (b"stbl", 8),
        (b"stsd", 16),
    ];
    let mut within = 0..out.len();
    let mut parents = Vec::new();
    for (kind, head) in path {
        let Some(found) = child(&out, within, kind) else {
            return out;
        };
        within = found.start + head..found.end;
        parents.push(found.start);
    }
    let Some(entry) = first_child(&out, within) else {
        return out;
    };
    parents.push(entry.start);
    let Some(original) = out
        .get(entry.start + 4..entry.start + 8)
        .and_then(|kind| <[u8; 4]>::try_from(kind).ok())
    else {
        return out;
    };
    let added = sinf(original, scheme, key, video);
    out[entry.start + 4..entry.start + 8].copy_from_slice(if video { b"encv" } else { b"enca" });
    out.splice(entry.end..entry.end, added.iter().copied());
    for parent in &parents {
        grow(&mut out, *parent, added.len());
    }
    let moov = parents[0];
    let end = moov + size_at(&out, moov).unwrap_or(0);
    let pssh: Vec<u8> = key.pssh.concat();
    grow(&mut out, moov, pssh.len());
    out.splice(end..end, pssh);
    out
}

/// `sinf` with `frma`, `schm` and `schi` (ISO/IEC 14496-12 §8.12.1), in this the `tenc` of ISO/IEC 23001-7 §8.2.
fn sinf(original: [u8; 4], scheme: EncryptionScheme, key: &ContentKey, video: bool) -> Vec<u8> {
    let cbcs = scheme == EncryptionScheme::Cbcs;
    let pattern = cbcs && video;
    let mut tenc = vec![u8::from(pattern), 0, 0, 0, 0];
    tenc.push(if pattern { 1 << 4 | SKIPPED as u8 } else { 0 });
    tenc.push(1); // default_isProtected
    tenc.push(if cbcs { 0 } else { 8 }); // default_Per_Sample_IV_Size
    tenc.extend(key.id);
    if cbcs {
        tenc.push(16);
        tenc.extend(key.iv);
    }
    let mut schm = vec![0; 4];
    schm.extend(if cbcs { b"cbcs" } else { b"cenc" });
    schm.extend(0x0001_0000_u32.to_be_bytes());
    let children = [
        whole(b"frma", &original),
        whole(b"schm", &schm),
        whole(b"schi", &whole(b"tenc", &tenc)),
    ];
    whole(b"sinf", &children.concat())
}

fn whole(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + body.len());
    out.extend(((8 + body.len()) as u32).to_be_bytes());
    out.extend(kind);
    out.extend(body);
    out
}

/// The first box of that kind in a range, header and all.
pub(crate) fn child(data: &[u8], within: Range<usize>, kind: &[u8; 4]) -> Option<Range<usize>> {
    let mut at = within.start;
    while at < within.end {
        let found = first_child(data, at..within.end)?;
        if data.get(at + 4..at + 8)? == kind {
            return Some(found);
        }
        at = found.end;
    }
    None
}

fn first_child(data: &[u8], within: Range<usize>) -> Option<Range<usize>> {
    let size = size_at(data, within.start).filter(|size| *size >= 8)?;
    let end = within.start.checked_add(size)?;
    (end <= within.end).then_some(within.start..end)
}

fn size_at(data: &[u8], at: usize) -> Option<usize> {
    let size = data.get(at..at + 4)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*size) as usize)
}

fn grow(data: &mut [u8], at: usize, by: usize) {
    if let Some(size) = size_at(data, at) {
        data[at..at + 4].copy_from_slice(&((size + by) as u32).to_be_bytes());
    }
}
