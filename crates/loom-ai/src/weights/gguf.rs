use std::collections::HashMap;
use std::path::Path;

use super::reader::{Reader, size, tensor};
use super::{Checkpoint, hugging_face};
use crate::AiError;
use crate::limits::{MAX_DIMS, MAX_FIELDS, MAX_NAME, MAX_TENSORS};

/// `GGUF` in the byte order of the file.
const MAGIC: u32 = 0x4655_4747;

/// Reads a GGUF file (versions 2 and 3) with tensors under Hugging Face's or OpenAI's names, its vocabulary beside it as
/// `tokenizer.json`.
pub(super) fn read(path: &Path) -> Result<Checkpoint, AiError> {
    parse(Reader::open(path)?)
}

pub(super) fn parse(mut file: Reader<'_>) -> Result<Checkpoint, AiError> {
    let path = file.path;
    let whole = file.left;
    if file.u32("magic")? != MAGIC {
        return Err(file.bad("magic", "no gguf file"));
    }
    let version = file.u32("version")?;
    if !(2..=3).contains(&version) {
        return Err(file.bad("version", format!("{version}, expected 2 or 3")));
    }
    let tensors = count(&mut file, "tensor count", MAX_TENSORS)?;
    let fields = count(&mut file, "field count", MAX_FIELDS)?;
    let mut alignment = 32;
    for _ in 0..fields {
        let key = text(&mut file, "field name", MAX_NAME)?;
        let kind = file.u32(&key)?;
        let value = skip(&mut file, &key, kind, 0)?;
        if key == "general.alignment" {
            alignment = value.unwrap_or(0);
            if !(8..=65_536).contains(&alignment) || !alignment.is_power_of_two() {
                return Err(file.bad(&key, format!("{alignment} is no alignment")));
            }
        }
    }
    let mut listed = Vec::with_capacity(tensors);
    for _ in 0..tensors {
        let name = text(&mut file, "tensor name", MAX_NAME)?;
        let rank = file.count("tensor dimensions", MAX_DIMS)?;
        let mut shape = Vec::with_capacity(rank);
        for _ in 0..rank {
            let size = file.u64(&name)?;
            shape.push(usize::try_from(size).map_err(|_| file.bad(&name, "a dimension beyond memory"))?);
        }
        // GGUF writes the fastest dimension first.
        shape.reverse();
        let (kind, at) = (file.u32(&name)?, file.u64(&name)?);
        listed.push((name, shape, kind, at));
    }
    let used = whole - file.left;
    let padding = used.next_multiple_of(alignment) - used;
    file.bytes("padding", padding as usize)?;
    let data_begins = whole - file.left;
    // In the order of their places, so that the file is read once, front to back.
    listed.sort_by_key(|it| it.3);
    let mut found = HashMap::with_capacity(tensors);
    for (name, shape, kind, at) in listed {
        let here = whole - file.left - data_begins;
        let gap = at
            .checked_sub(here)
            .ok_or_else(|| file.bad(&name, "it overlaps another tensor"))?;
        let gap = usize::try_from(gap).map_err(|_| file.bad(&name, "it lies beyond the file"))?;
        file.bytes(&name, gap)?;
        let elements = file.elements(&name, &shape)?;
        let length = size(kind, elements).map_err(|rule| file.bad(&name, rule))?;
        let data = file.bytes(&name, length)?;
        let values = tensor(kind, &data, shape).map_err(|e| file.bad(&name, e.to_string()))?;
        if let Some(ours) = hugging_face::rename(&name) {
            found.insert(ours, values);
        }
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let heads = hugging_face::alignment_heads(folder)?;
    Checkpoint::new(path, found, |rows| hugging_face::vocabulary(path, rows), heads)
}

fn count(file: &mut Reader<'_>, what: &str, most: usize) -> Result<usize, AiError> {
    let n = file.u64(what)?;
    match usize::try_from(n) {
        Ok(n) if n <= most => Ok(n),
        _ => Err(file.bad(what, format!("{n} is more than {most}"))),
    }
}

fn text(file: &mut Reader<'_>, what: &str, most: usize) -> Result<String, AiError> {
    let length = count(file, what, most)?;
    if length == 0 {
        return Err(file.bad(what, "it is empty"));
    }
    String::from_utf8(file.bytes(what, length)?).map_err(|_| file.bad(what, "not utf-8"))
}

/// Passes over a field's value; gives it where it is a whole number of 32 bits.
fn skip(file: &mut Reader<'_>, key: &str, kind: u32, depth: usize) -> Result<Option<u64>, AiError> {
    match kind {
        0 | 1 | 7 => file.bytes(key, 1).map(|_| None),
        2 | 3 => file.bytes(key, 2).map(|_| None),
        4 | 5 => Ok(Some(u64::from(file.u32(key)?))),
        6 => file.bytes(key, 4).map(|_| None),
        10..=12 => file.bytes(key, 8).map(|_| None),
        8 => {
            let length = file.u64(key)?;
            let length = usize::try_from(length).map_err(|_| file.bad(key, "a string beyond memory"))?;
            file.bytes(key, length).map(|_| None)
        }
        9 if depth == 0 => {
            let kind = file.u32(key)?;
            let length = file.u64(key)?;
            if length > file.left {
                return Err(file.bad(key, "more values than the file has bytes for"));
            }
            for _ in 0..length {
                skip(file, key, kind, 1)?;
            }
            Ok(None)
        }
        _ => Err(file.bad(key, format!("field type {kind} is not known"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(fields: &[u8], count: u64) -> Vec<u8> {
        let mut out = MAGIC.to_le_bytes().to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend(0u64.to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend(fields);
        out
    }

    fn fault(bytes: &[u8]) -> String {
        parse(Reader::of(Path::new("m.gguf"), bytes))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_hostile_header_is_refused_with_the_field_that_is_wrong() {
        assert!(fault(b"GGUX").contains("magic"));
        assert!(fault(b"GGUF\x09\0\0\0").contains("version"));
        let mut many = file(&[], 0);
        many[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(fault(&many).contains("tensor count"));
        let mut long = u64::MAX.to_le_bytes().to_vec();
        long.extend(b"x");
        assert!(fault(&file(&long, 1)).contains("field name"));
        // An array of arrays, and one longer than the file.
        let array = |inner: u32, length: u64| {
            let mut it = 1u64.to_le_bytes().to_vec();
            it.push(b'k');
            it.extend(9u32.to_le_bytes());
            it.extend(inner.to_le_bytes());
            it.extend(length.to_le_bytes());
            it
        };
        let nested = [array(9, 1), vec![0; 16]].concat();
        assert!(fault(&file(&nested, 1)).contains("field type 9"));
        assert!(fault(&file(&array(0, u64::MAX), 1)).contains("more values"));
        assert!(fault(&file(&[], 0)).contains("truncated"));
    }

    #[test]
    fn a_file_with_any_one_byte_changed_is_read_or_refused_but_never_breaks() {
        let mut whole = file(&[], 0);
        whole[8] = 2;
        for (name, shape, kind, at) in [
            ("encoder.conv1.weight", [3u64, 2, 2], 0u32, 0u64),
            ("b", [32, 1, 1], 8, 64),
        ] {
            whole.extend((name.len() as u64).to_le_bytes());
            whole.extend(name.as_bytes());
            whole.extend(3u32.to_le_bytes());
            shape.iter().for_each(|it| whole.extend(it.to_le_bytes()));
            whole.extend(kind.to_le_bytes());
            whole.extend(at.to_le_bytes());
        }
        whole.resize(whole.len().next_multiple_of(32) + 64 + 34, 1);
        assert!(fault(&whole).contains("not a whisper model"), "{}", fault(&whole));
        for at in 0..whole.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                fault(&bytes);
            }
            fault(&whole[..at]);
        }
    }
}
