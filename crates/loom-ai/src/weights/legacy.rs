//! PyTorch's format of before version 1.6: pickles one behind the other (a magic number, a version, the machine's sizes, the objects, the
//! names of their storages), then the storages' values in that order.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, Read};
use std::path::Path;

use candle_core::pickle::{Object, Stack};

use crate::AiError;

/// A tensor's shape and values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Values {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// Where a tensor lies in its storage.
struct Place {
    name: String,
    storage: String,
    offset: usize,
    shape: Vec<usize>,
}

/// Reads the tensors of 32-bit numbers in the dictionary `key` of the dictionary that a file has saved, of at most `most` bytes. `path` is what
/// errors name.
pub(crate) fn read(
    path: &Path,
    file: impl Read,
    most: u64,
    key: &str,
) -> Result<HashMap<String, Values>, AiError> {
    let bad = |what: &str, rule: String| AiError::malformed(path, what, rule);
    let mut file = std::io::BufReader::new(file.take(most));
    let mut head = [0; HEAD.len()];
    file.read_exact(&mut head).map_err(|e| AiError::io(path, e))?;
    if head != HEAD {
        return Err(bad(
            "head",
            "no file of PyTorch's format of before 1.6".to_owned(),
        ));
    }
    let mut next = |what: &str| {
        let failed = |e: candle_core::Error| bad(what, e.to_string());
        object(&mut file).map_err(failed)
    };
    let sizes = next("sizes")?;
    let little = entry(sizes, "little_endian").and_then(|it| it.bool().ok());
    if little != Some(true) {
        return Err(bad(
            "little_endian",
            "a file of another order of bytes".to_owned(),
        ));
    }
    let saved = next("objects")?;
    let storages = match next("storages")? {
        Object::List(it) => it,
        _ => return Err(bad("storages", "no list of names".to_owned())),
    };
    let tensors = entry(saved, key)
        .and_then(dictionary)
        .ok_or_else(|| bad(key, "there is no such dictionary".to_owned()))?;
    let places: Vec<Place> = tensors
        .into_iter()
        .filter_map(|(name, it)| place(name.unicode().ok()?, it))
        .collect();

    let wanted: HashSet<&str> = places.iter().map(|it| it.storage.as_str()).collect();
    let mut kept: HashMap<String, Vec<f32>> = HashMap::new();
    for name in storages {
        if kept.len() == wanted.len() {
            break;
        }
        let Ok(name) = name.unicode() else {
            return Err(bad("storages", "a name that is no text".to_owned()));
        };
        let mut count = [0; 8];
        file.read_exact(&mut count).map_err(|e| AiError::io(path, e))?;
        let size = u64::from_le_bytes(count).checked_mul(4).filter(|it| *it <= most);
        let size = size.ok_or_else(|| bad(&name, "more values than the file may have".to_owned()))?;
        let mut bytes = Vec::new();
        file.by_ref()
            .take(size)
            .read_to_end(&mut bytes)
            .map_err(|e| AiError::io(path, e))?;
        if bytes.len() as u64 != size {
            return Err(bad(&name, "the file is truncated".to_owned()));
        }
        if wanted.contains(name.as_str()) {
            let (values, _) = bytes.as_chunks::<4>();
            kept.insert(name, values.iter().map(|it| f32::from_le_bytes(*it)).collect());
        }
    }
    let mut tensors = HashMap::new();
    for it in places {
        let count = it.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let end = count.and_then(|count| it.offset.checked_add(count));
        let values = kept
            .get(&it.storage)
            .zip(end)
            .and_then(|(all, end)| all.get(it.offset..end));
        let values = values.ok_or_else(|| bad(&it.name, "it lies outside of its storage".to_owned()))?;
        let values = Values {
            shape: it.shape,
            values: values.to_vec(),
        };
        tensors.insert(it.name, values);
    }
    Ok(tensors)
}

/// The next pickle.
fn object(file: &mut impl BufRead) -> candle_core::Result<Object> {
    let mut stack = Stack::empty();
    stack.read_loop(file)?;
    stack.finalize()
}

fn entry(dictionary: Object, key: &str) -> Option<Object> {
    let mut entries = dictionary.dict().ok()?.into_iter();
    entries.find_map(|(name, it)| (name.unicode().ok()? == key).then_some(it))
}

/// The entries of a dictionary, or of an ordered one with what was set of it.
fn dictionary(object: Object) -> Option<Vec<(Object, Object)>> {
    match object {
        Object::Dict(entries) => Some(entries),
        Object::Build { callable, .. } => dictionary(*callable),
        _ => None,
    }
}

/// A tensor of 32-bit numbers, row after row; `None` for anything else.
fn place(name: String, object: Object) -> Option<Place> {
    let (function, arguments) = object.reduce().ok()?;
    let (module, class) = function.class().ok()?;
    let [storage, offset, shape, stride, ..] = &arguments.tuple().ok()?[..] else {
        return None;
    };
    let [_, kind, storage, ..] = &storage.clone().persistent_load().ok()?.tuple().ok()?[..] else {
        return None;
    };
    let (_, kind) = kind.clone().class().ok()?;
    let (shape, stride) = (numbers(shape)?, numbers(stride)?);
    let mut step = 1usize;
    let dense = shape.iter().zip(&stride).rev().all(|(size, stride)| {
        let fits = *stride == step;
        step = step.saturating_mul(*size);
        fits
    });
    let is_tensor = module == "torch._utils" && class == "_rebuild_tensor_v2" && kind == "FloatStorage";
    (is_tensor && dense && shape.len() == stride.len()).then(|| {
        Some(Place {
            name,
            storage: storage.clone().unicode().ok()?,
            offset: usize::try_from(offset.clone().int_or_long().ok()?).ok()?,
            shape,
        })
    })?
}

fn numbers(object: &Object) -> Option<Vec<usize>> {
    let all = object.clone().tuple().ok()?.into_iter();
    all.map(|it| usize::try_from(it.int_or_long().ok()?).ok())
        .collect()
}

/// The pickles of the magic number 0x1950a86a20f9469cfc6c and of the version 1001.
const HEAD: [u8; 21] = *b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
