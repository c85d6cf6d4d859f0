//! PyTorch's format of before version 1.6: pickles one behind the other (a magic number, a version, the machine's sizes, the objects, the
//! names of their storages), then the storages' values in that order.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

use candle_core::DType;

use super::pickle::{Object, Place};
use crate::AiError;

/// A tensor's shape and values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Values {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
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
    let unread = |what: &str, why: std::io::Error| match why.kind() {
        std::io::ErrorKind::UnexpectedEof => bad(what, "the file is truncated".to_owned()),
        _ => AiError::io(path, why),
    };
    let mut file = std::io::BufReader::new(file.take(most));
    let mut head = [0; HEAD.len()];
    file.read_exact(&mut head).map_err(|why| unread("head", why))?;
    if head != HEAD {
        return Err(bad(
            "head",
            "no file of PyTorch's format of before 1.6".to_owned(),
        ));
    }
    let mut next = |what: &str| Object::read(&mut file).map_err(|why| bad(what, why));
    if next("sizes")?.entry("little_endian").and_then(Object::bool) != Some(true) {
        return Err(bad(
            "little_endian",
            "a file of another order of bytes".to_owned(),
        ));
    }
    let saved = next("objects")?;
    let storages = next("storages")?;
    let storages = storages
        .list()
        .ok_or_else(|| bad("storages", "no list of names".to_owned()))?;
    let mut places = saved
        .entry(key)
        .and_then(Object::places)
        .ok_or_else(|| bad(key, "there is no such dictionary".to_owned()))?;
    places.retain(|it| it.kind == DType::F32);

    let wanted: HashSet<&str> = places.iter().map(|it| it.storage.as_str()).collect();
    let mut kept: HashMap<&str, Vec<u8>> = HashMap::new();
    for name in storages {
        if kept.len() == wanted.len() {
            break;
        }
        let Some(name) = name.text() else {
            return Err(bad("storages", "a name that is no text".to_owned()));
        };
        let mut count = [0; 8];
        file.read_exact(&mut count).map_err(|why| unread(name, why))?;
        let size = u64::from_le_bytes(count).checked_mul(4).filter(|it| *it <= most);
        let size = size.ok_or_else(|| bad(name, "more values than the file may have".to_owned()))?;
        let mut bytes = Vec::new();
        file.by_ref()
            .take(size)
            .read_to_end(&mut bytes)
            .map_err(|e| AiError::io(path, e))?;
        if bytes.len() as u64 != size {
            return Err(bad(name, "the file is truncated".to_owned()));
        }
        if wanted.contains(name) {
            kept.insert(name, bytes);
        }
    }
    // Several names may share values, but not so that they become more than a file has.
    let mut room = most;
    let mut tensors = HashMap::new();
    for it in places {
        room = (it.size().and_then(|size| room.checked_sub(size as u64)))
            .ok_or_else(|| bad(&it.name, format!("tensors of more than {most} bytes in all")))?;
        let values = kept.get(it.storage.as_str()).and_then(|all| it.values(all));
        let values = values.ok_or_else(|| bad(&it.name, "it lies outside of its storage".to_owned()))?;
        let Place { name, shape, .. } = it;
        let (values, _) = values.as_chunks::<4>();
        let values = values.iter().map(|it| f32::from_le_bytes(*it)).collect();
        tensors.insert(name, Values { shape, values });
    }
    Ok(tensors)
}

/// The pickles of the magic number 0x1950a86a20f9469cfc6c and of the version 1001.
const HEAD: [u8; 21] = *b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";

/// Files as `torch.save(…, _use_new_zipfile_serialization=False)` writes them.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tensor's name, its shape and the number of its storage.
    pub(crate) type Saved<'a> = (&'a str, &'a [usize], usize);

    fn text(it: &str) -> Vec<u8> {
        [b"X", &(it.len() as u32).to_le_bytes()[..], it.as_bytes()].concat()
    }

    fn number(it: usize) -> Vec<u8> {
        [b"J", &(it as u32).to_le_bytes()[..]].concat()
    }

    fn numbers(all: &[usize]) -> Vec<u8> {
        let each: Vec<u8> = all.iter().flat_map(|it| number(*it)).collect();
        [b"(", &each[..], b"t"].concat()
    }

    /// A file that has these tensors in the dictionary `key`.
    pub(crate) fn file(key: &str, tensors: &[Saved<'_>], storages: &[Vec<f32>]) -> Vec<u8> {
        let entry = |&(name, shape, storage): &Saved<'_>| {
            let strides: Vec<usize> = (0..shape.len())
                .map(|at| shape[at + 1..].iter().product())
                .collect();
            [
                &text(name)[..],
                b"ctorch._utils\n_rebuild_tensor_v2\n((",
                &text("storage"),
                b"ctorch\nFloatStorage\n",
                &text(&storage.to_string()),
                &text("cpu"),
                &number(storages[storage].len()),
                b"NtQK\x00",
                &numbers(shape),
                &numbers(&strides),
                b"\x89ccollections\nOrderedDict\n)RtR",
            ]
            .concat()
        };
        let entries: Vec<u8> = tensors.iter().flat_map(entry).collect();
        let names: Vec<u8> = (0..storages.len()).flat_map(|it| text(&it.to_string())).collect();
        let values = storages.iter().flat_map(|it| {
            let values = it.iter().flat_map(|it| it.to_le_bytes());
            (it.len() as u64).to_le_bytes().into_iter().chain(values)
        });
        [
            &head()[..],
            b"\x80\x02}(",
            &text(key),
            b"}(",
            &entries,
            b"uu.\x80\x02](",
            &names,
            b"e.",
            &values.collect::<Vec<u8>>(),
        ]
        .concat()
    }

    /// All that comes before the objects.
    fn head() -> Vec<u8> {
        [&HEAD[..], b"\x80\x02}(", &text("little_endian"), b"\x88u."].concat()
    }

    fn read(bytes: &[u8], most: u64) -> Result<HashMap<String, Values>, String> {
        super::read(Path::new("small.pt"), bytes, most, "all").map_err(|why| why.to_string())
    }

    #[test]
    fn tensors_that_share_a_storage_are_read_and_are_no_way_to_fill_the_memory() {
        let storages = [vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], vec![7.0]];
        let two: [Saved<'_>; 2] = [("a", &[2, 3], 0), ("b", &[1], 1)];
        let found = read(&file("all", &two, &storages), 1 << 20).unwrap();
        assert_eq!(
            (&found["a"].shape, &found["a"].values),
            (&vec![2, 3], &storages[0])
        );
        assert_eq!(found["b"].values, [7.0]);
        let fault = read(&file("all", &[("a", &[2, 4], 0)], &storages), 1 << 20).unwrap_err();
        assert_eq!(fault, "small.pt: a: it lies outside of its storage");

        let large = [vec![0.5; 100_000]];
        let names: Vec<String> = (0..20).map(|it| it.to_string()).collect();
        let all: Vec<Saved<'_>> = names
            .iter()
            .map(|it| (it.as_str(), &[100_000usize][..], 0))
            .collect();
        let file = file("all", &all, &large);
        assert_eq!(read(&file, 8_000_000).unwrap().len(), 20);
        let fault = read(&file, 7_999_999).unwrap_err();
        assert!(
            fault.contains("19: tensors of more than 7999999 bytes in all"),
            "{fault}"
        );
    }

    #[test]
    fn a_file_that_would_grow_without_end_is_refused() {
        let with = |objects: &[u8]| read(&[&head()[..], objects].concat(), 1 << 30).unwrap_err();
        let twice = b"q\x00h\x00\x86".repeat(60);
        assert!(with(&[b")", &twice[..], b".](e."].concat()).contains("no such dictionary"));
        assert!(
            with(&[b")", &b"\x85".repeat(1_000_000)[..], b"."].concat())
                .contains("objects: a pickle more than")
        );
        assert!(with(b"X\xff\xff\xff\x7f").contains("objects: a text of 2147483647 bytes"));
    }
}
