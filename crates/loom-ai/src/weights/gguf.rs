use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file::Value;

use super::reader::{Reader, size, tensor};
use super::{Checkpoint, hugging_face};
use crate::AiError;
use crate::limits::{MAX_DIMS, MAX_ELEMENTS, MAX_FIELDS, MAX_NAME, MAX_TENSORS, MAX_TEXT};

/// `GGUF` in the byte order of the file.
const MAGIC: u32 = 0x4655_4747;

/// Reads a GGUF file (versions 2 and 3) with tensors under Hugging Face's or OpenAI's names, its vocabulary beside it as
/// `tokenizer.json`.
pub(super) fn read(path: &Path) -> Result<Checkpoint, AiError> {
    parse(Reader::open(path)?)
}

pub(super) fn parse(mut file: Reader<'_>) -> Result<Checkpoint, AiError> {
    let path = file.path;
    let Header {
        mut tensors, begins, ..
    } = Header::read(&mut file)?;
    // In the order of their places, so that the file is read once, front to back.
    tensors.sort_by_key(|it| it.offset);
    let mut found = HashMap::with_capacity(tensors.len());
    for it in tensors {
        let elements = it.seek(&mut file, begins)?;
        let length = size(it.kind, elements).map_err(|rule| file.bad(&it.name, rule))?;
        let data = file.bytes(&it.name, length)?;
        let values = tensor(it.kind, &data, it.shape).map_err(|e| file.bad(&it.name, e.to_string()))?;
        if let Some(ours) = hugging_face::rename(&it.name) {
            found.insert(ours, values);
        }
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let heads = hugging_face::alignment_heads(folder)?;
    Checkpoint::new(path, found, |rows| hugging_face::vocabulary(path, rows), heads)
}

/// What a GGUF file has before its tensors' values.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) fields: HashMap<String, Value>,
    pub(crate) tensors: Vec<Listed>,
    /// Bytes of the file that were left where the values begin.
    pub(crate) begins: u64,
}

/// A tensor as the header lists it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Slowest dimension first.
    pub(crate) shape: Vec<usize>,
    /// ggml's format number.
    pub(crate) kind: u32,
    pub(crate) offset: u64,
}

impl Header {
    pub(crate) fn read(file: &mut Reader<'_>) -> Result<Self, AiError> {
        let whole = file.left;
        if file.u32("magic")? != MAGIC {
            return Err(file.bad("magic", "no gguf file"));
        }
        let version = file.u32("version")?;
        if !(2..=3).contains(&version) {
            return Err(file.bad("version", format!("{version}, expected 2 or 3")));
        }
        let listed = count(file, "tensor count", MAX_TENSORS)?;
        let count_of_fields = count(file, "field count", MAX_FIELDS)?;
        let mut fields = HashMap::new();
        let mut room = MAX_ELEMENTS;
        for _ in 0..count_of_fields {
            let key = text(file, "field name", MAX_NAME)?;
            let kind = file.u32(&key)?;
            let it = value(file, &key, kind, &mut room, Depth::Field)?;
            fields.insert(key, it);
        }
        let alignment = match fields.get(ALIGNMENT) {
            Some(Value::U32(it)) => u64::from(*it),
            Some(_) => 0,
            None => 32,
        };
        if !(8..=65_536).contains(&alignment) || !alignment.is_power_of_two() {
            return Err(file.bad(ALIGNMENT, format!("{alignment} is no alignment")));
        }
        let mut tensors = Vec::with_capacity(listed);
        for _ in 0..listed {
            let name = text(file, "tensor name", MAX_NAME)?;
            let rank = file.count("tensor dimensions", MAX_DIMS)?;
            let mut shape = Vec::with_capacity(rank);
            for _ in 0..rank {
                let size = file.u64(&name)?;
                shape.push(usize::try_from(size).map_err(|_| file.bad(&name, "a dimension beyond memory"))?);
            }
            // GGUF writes the fastest dimension first.
            shape.reverse();
            let (kind, offset) = (file.u32(&name)?, file.u64(&name)?);
            tensors.push(Listed {
                name,
                shape,
                kind,
                offset,
            });
        }
        let used = whole - file.left;
        let padding = used.next_multiple_of(alignment) - used;
        file.bytes("padding", padding as usize)?;
        Ok(Self {
            fields,
            tensors,
            begins: file.left,
        })
    }
}

impl Listed {
    /// Passes over what lies before this tensor's values; gives how many they are.
    pub(crate) fn seek(&self, file: &mut Reader<'_>, begins: u64) -> Result<usize, AiError> {
        let name = &self.name;
        let gap = self
            .offset
            .checked_sub(begins - file.left)
            .ok_or_else(|| file.bad(name, "it overlaps another tensor"))?;
        file.skip(name, gap)?;
        file.elements(name, &self.shape)
    }
}

const ALIGNMENT: &str = "general.alignment";

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

/// Whether a value is a field's own, or lies in an array, in which none lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Field,
    Array,
}

/// A field's value. `room` is how many more values the arrays of a file may have.
fn value(
    file: &mut Reader<'_>,
    key: &str,
    kind: u32,
    room: &mut usize,
    depth: Depth,
) -> Result<Value, AiError> {
    Ok(match kind {
        0 => Value::U8(file.array::<1>(key)?[0]),
        1 => Value::I8(i8::from_le_bytes(file.array(key)?)),
        2 => Value::U16(u16::from_le_bytes(file.array(key)?)),
        3 => Value::I16(i16::from_le_bytes(file.array(key)?)),
        4 => Value::U32(file.u32(key)?),
        5 => Value::I32(i32::from_le_bytes(file.array(key)?)),
        6 => Value::F32(f32::from_le_bytes(file.array(key)?)),
        7 => Value::Bool(file.array::<1>(key)?[0] != 0),
        8 => {
            let length = count(file, key, MAX_TEXT)?;
            Value::String(String::from_utf8_lossy(&file.bytes(key, length)?).into_owned())
        }
        10 => Value::U64(file.u64(key)?),
        11 => Value::I64(i64::from_le_bytes(file.array(key)?)),
        12 => Value::F64(f64::from_le_bytes(file.array(key)?)),
        9 if depth == Depth::Field => {
            let kind = file.u32(key)?;
            let length = file.u64(key)?;
            if length > file.left {
                return Err(file.bad(key, "more values than the file has bytes for"));
            }
            let left = usize::try_from(length).ok().and_then(|it| room.checked_sub(it));
            *room = left.ok_or_else(|| file.bad(key, format!("more values than {MAX_ELEMENTS}")))?;
            let each = (0..length).map(|_| value(file, key, kind, room, Depth::Array));
            Value::Array(each.collect::<Result<_, _>>()?)
        }
        _ => return Err(file.bad(key, format!("field type {kind} is not known"))),
    })
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
