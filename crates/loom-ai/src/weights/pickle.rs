//! Pickles (Python's `pickletools` describes them), as far as saved tensors need them. Nothing is imported and nothing runs: what a pickle would
//! call is kept by name. What the memo gives again is shared, so that a file of some bytes cannot become gigabytes.

use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::rc::Rc;

use candle_core::DType;

use crate::limits::{MAX_DIMS, MAX_NAME, MAX_PICKLE_DEPTH, MAX_PICKLE_STEPS, MAX_PICKLE_TEXT};

/// What a pickle holds. No two of them make a circle.
#[derive(Clone)]
pub(super) enum Object {
    /// `None`, a real number: what nobody asks for.
    Other,
    Bool(bool),
    Int(i64),
    Text(Rc<str>),
    /// A module and a name in it.
    Named(Rc<(String, String)>),
    Tuple(Rc<Vec<Self>>),
    List(Rc<Vec<Self>>),
    Dict(Rc<Vec<(Self, Self)>>),
    /// What is called, and with what.
    Called(Rc<(Self, Self)>),
    /// What is kept outside of the pickle, by its description.
    Outside(Rc<Self>),
}

/// A tensor's place in its storage.
pub(super) struct Place {
    pub(super) name: String,
    pub(super) storage: String,
    pub(super) kind: DType,
    /// Values before its first one.
    offset: usize,
    pub(super) shape: Vec<usize>,
    /// For each dimension, values from one index to the next.
    stride: Vec<usize>,
}

impl Object {
    /// Reads one pickle, and no byte after it. The error is a sentence.
    pub(super) fn read(file: &mut impl BufRead) -> Result<Self, String> {
        let mut stack = Stack::default();
        for _ in 0..MAX_PICKLE_STEPS {
            if stack.step(file)? {
                return Ok(stack.pop()?.0);
            }
        }
        Err(too_much())
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(it) => Some(it),
            _ => None,
        }
    }

    pub(super) fn bool(&self) -> Option<bool> {
        match self {
            Self::Bool(it) => Some(*it),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(it) => Some(it),
            _ => None,
        }
    }

    /// What a dictionary has under a name.
    pub(super) fn entry(&self, key: &str) -> Option<&Self> {
        let found = self.entries()?.iter().find(|it| it.0.text() == Some(key));
        found.map(|it| &it.1)
    }

    /// The tensors in a dictionary; what else is there is left out.
    pub(super) fn places(&self) -> Option<Vec<Place>> {
        let each = self.entries()?.iter();
        Some(
            each.filter_map(|(name, it)| Place::of(name.text()?, it))
                .collect(),
        )
    }

    fn entries(&self) -> Option<&[(Self, Self)]> {
        match self {
            Self::Dict(it) => Some(it),
            _ => None,
        }
    }

    fn tuple(&self) -> Option<&[Self]> {
        match self {
            Self::Tuple(it) => Some(it),
            _ => None,
        }
    }

    fn number(&self) -> Option<usize> {
        match self {
            Self::Int(it) => usize::try_from(*it).ok(),
            _ => None,
        }
    }

    fn numbers(&self) -> Option<Vec<usize>> {
        self.tuple()?.iter().map(Self::number).collect()
    }

    fn is_named(&self, module: &str, names: &[&str]) -> bool {
        matches!(self, Self::Named(it) if it.0 == module && names.contains(&it.1.as_str()))
    }
}

impl Place {
    fn of(name: &str, object: &Object) -> Option<Self> {
        let Object::Called(it) = object else { return None };
        let arguments = it.1.tuple()?;
        if it.0.is_named("torch._utils", &["_rebuild_parameter"]) {
            return Self::of(name, arguments.first()?);
        }
        let [Object::Outside(storage), offset, shape, stride, ..] = arguments else {
            return None;
        };
        let [_, Object::Named(kind), storage, ..] = storage.tuple()? else {
            return None;
        };
        let kind = match kind.1.as_str() {
            "FloatStorage" => DType::F32,
            "DoubleStorage" => DType::F64,
            "HalfStorage" => DType::F16,
            "BFloat16Storage" => DType::BF16,
            _ => return None,
        };
        let (shape, stride) = (shape.numbers()?, stride.numbers()?);
        let known = it.0.is_named("torch._utils", &["_rebuild_tensor_v2"])
            && shape.len() == stride.len()
            && shape.len() <= MAX_DIMS;
        known.then_some(Self {
            name: name.to_owned(),
            storage: storage.text()?.to_owned(),
            kind,
            offset: offset.number()?,
            shape,
            stride,
        })
    }

    /// Bytes of its values; `None` where no number can say how many.
    pub(super) fn size(&self) -> Option<usize> {
        let size = self.kind.size_in_bytes();
        self.shape.iter().try_fold(size, |n, it| n.checked_mul(*it))
    }

    /// Its values' bytes, row after row; `None` where it lies outside of its storage. Whoever asks has looked at [`size`](Self::size).
    pub(super) fn values(&self, storage: &[u8]) -> Option<Vec<u8>> {
        let (size, width) = (self.size()?, self.kind.size_in_bytes());
        let part = |at: usize, length: usize| {
            let from = at.checked_mul(width)?;
            storage.get(from..from.checked_add(length)?)
        };
        if self.is_dense() {
            return part(self.offset, size).map(<[u8]>::to_vec);
        }
        let mut values = Vec::new();
        let mut index = vec![0; self.shape.len()];
        while values.len() < size {
            let mut each = index.iter().zip(&self.stride);
            let at = each.try_fold(self.offset, |at, (index, stride)| {
                at.checked_add(stride.checked_mul(*index)?)
            })?;
            values.extend_from_slice(part(at, width)?);
            for (index, size) in index.iter_mut().zip(&self.shape).rev() {
                *index = (*index + 1) % size;
                if *index > 0 {
                    break;
                }
            }
        }
        Some(values)
    }

    fn is_dense(&self) -> bool {
        let mut step = 1usize;
        self.shape.iter().zip(&self.stride).rev().all(|(size, stride)| {
            let fits = *stride == step || *size == 1;
            step = step.saturating_mul(*size);
            fits
        })
    }
}

/// How deep an object goes: 0 for what holds nothing.
type Deep = (Object, usize);

#[derive(Default)]
struct Stack {
    objects: Vec<Deep>,
    /// How many objects there were at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Deep>,
    /// Entries that were copied, because what holds them was also in the memo.
    copied: usize,
}

impl Stack {
    /// Does one step; true for the last one.
    fn step(&mut self, file: &mut impl BufRead) -> Result<bool, String> {
        let [code] = bytes(file)?;
        match code {
            b'.' => return Ok(true),
            // the protocol's version
            0x80 => drop(bytes::<1>(file)?),
            b'(' => self.marks.push(self.objects.len()),
            b'N' => self.push(Object::Other),
            0x88 | 0x89 => self.push(Object::Bool(code == 0x88)),
            b'K' => {
                let it = i64::from(bytes::<1>(file)?[0]);
                self.push(Object::Int(it));
            }
            b'M' => {
                let it = i64::from(u16::from_le_bytes(bytes(file)?));
                self.push(Object::Int(it));
            }
            b'J' => {
                let it = i64::from(i32::from_le_bytes(bytes(file)?));
                self.push(Object::Int(it));
            }
            0x8a => {
                let it = long(file)?;
                self.push(it);
            }
            b'G' => {
                bytes::<8>(file)?;
                self.push(Object::Other);
            }
            b'X' => {
                let it = text(file)?;
                self.push(Object::Text(it.into()));
            }
            b'c' => {
                let it = (line(file)?, line(file)?);
                self.push(Object::Named(Rc::new(it)));
            }
            b')' => self.push(Object::Tuple(Rc::default())),
            b']' => self.push(Object::List(Rc::default())),
            b'}' => self.push(Object::Dict(Rc::default())),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push_tuple(items)?;
            }
            0x85..=0x87 => {
                let from = self.objects.len().checked_sub(usize::from(code - 0x84));
                let items = self.objects.split_off(from.ok_or_else(nothing)?);
                self.push_tuple(items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(items)?;
            }
            b'R' | 0x81 => self.call()?,
            // what an object is told of itself
            b'b' => drop(self.pop()?),
            b'Q' => {
                let (it, depth) = self.pop()?;
                self.push_deep(Object::Outside(Rc::new(it)), depth + 1)?;
            }
            b'q' => {
                let [at] = bytes(file)?;
                self.put(u32::from(at))?;
            }
            b'r' => {
                let at = u32::from_le_bytes(bytes(file)?);
                self.put(at)?;
            }
            b'h' => {
                let [at] = bytes(file)?;
                self.get(u32::from(at))?;
            }
            b'j' => {
                let at = u32::from_le_bytes(bytes(file)?);
                self.get(at)?;
            }
            _ => return Err(format!("a pickle with {code:#04x}, which no saved tensors need")),
        }
        Ok(false)
    }

    fn push(&mut self, object: Object) {
        self.objects.push((object, 0));
    }

    fn push_deep(&mut self, object: Object, depth: usize) -> Result<(), String> {
        // Whoever lets go of an object goes as deep as it does.
        if depth > MAX_PICKLE_DEPTH {
            return Err(format!("a pickle more than {MAX_PICKLE_DEPTH} deep"));
        }
        self.objects.push((object, depth));
        Ok(())
    }

    fn push_tuple(&mut self, items: Vec<Deep>) -> Result<(), String> {
        let depth = deepest(&items) + 1;
        let items = items.into_iter().map(|it| it.0).collect();
        self.push_deep(Object::Tuple(Rc::new(items)), depth)
    }

    fn pop(&mut self) -> Result<Deep, String> {
        self.objects.pop().ok_or_else(nothing)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Deep>, String> {
        let mark = self.marks.pop().filter(|it| *it <= self.objects.len());
        Ok(self.objects.split_off(mark.ok_or_else(nothing)?))
    }

    fn append(&mut self, items: Vec<Deep>) -> Result<(), String> {
        let (list, depth) = self.pop()?;
        let Object::List(mut list) = list else {
            return Err("a pickle that appends to what is no list".to_owned());
        };
        let depth = depth.max(deepest(&items) + 1);
        self.copy(Rc::strong_count(&list), list.len())?;
        Rc::make_mut(&mut list).extend(items.into_iter().map(|it| it.0));
        self.push_deep(Object::List(list), depth)
    }

    fn set(&mut self, items: Vec<Deep>) -> Result<(), String> {
        let (dict, depth) = self.pop()?;
        let depth = depth.max(deepest(&items) + 1);
        match dict {
            Object::Dict(mut dict) => {
                self.copy(Rc::strong_count(&dict), dict.len())?;
                let mut items = items.into_iter().map(|it| it.0);
                let to = Rc::make_mut(&mut dict);
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    to.push((key, value));
                }
                self.push_deep(Object::Dict(dict), depth)
            }
            _ => Err("a pickle that sets entries of what is no dictionary".to_owned()),
        }
    }

    /// Counts entries that are about to be copied.
    fn copy(&mut self, holders: usize, entries: usize) -> Result<(), String> {
        if holders > 1 {
            self.copied += entries;
        }
        if self.copied > MAX_PICKLE_STEPS {
            return Err(too_much());
        }
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, inner) = self.pop()?;
        let (what, depth) = self.pop()?;
        if what.is_named("collections", &["OrderedDict", "defaultdict"]) {
            self.push(Object::Dict(Rc::default()));
            return Ok(());
        }
        self.push_deep(Object::Called(Rc::new((what, arguments))), depth.max(inner) + 1)
    }

    fn put(&mut self, at: u32) -> Result<(), String> {
        let last = self.objects.last().ok_or_else(nothing)?;
        self.memo.insert(at, last.clone());
        Ok(())
    }

    fn get(&mut self, at: u32) -> Result<(), String> {
        let it = self.memo.get(&at).ok_or_else(nothing)?;
        self.objects.push(it.clone());
        Ok(())
    }
}

fn deepest(items: &[Deep]) -> usize {
    items.iter().map(|it| it.1).max().unwrap_or(0)
}

fn too_much() -> String {
    format!("a pickle of more than {MAX_PICKLE_STEPS} steps")
}

fn nothing() -> String {
    "a pickle that takes what it has not put".to_owned()
}

fn bytes<const N: usize>(file: &mut impl Read) -> Result<[u8; N], String> {
    let mut it = [0; N];
    file.read_exact(&mut it).map_err(|e| e.to_string())?;
    Ok(it)
}

fn text(file: &mut impl Read) -> Result<String, String> {
    let length = u32::from_le_bytes(bytes(file)?) as usize;
    if length > MAX_PICKLE_TEXT {
        return Err(format!(
            "a text of {length} bytes, expected {MAX_PICKLE_TEXT} at most"
        ));
    }
    let mut text = vec![0; length];
    file.read_exact(&mut text).map_err(|e| e.to_string())?;
    String::from_utf8(text).map_err(|e| e.to_string())
}

fn line(file: &mut impl BufRead) -> Result<String, String> {
    let mut line = Vec::new();
    let most = MAX_NAME as u64 + 1;
    file.take(most)
        .read_until(b'\n', &mut line)
        .map_err(|e| e.to_string())?;
    if line.pop() != Some(b'\n') {
        return Err(format!("a name of more than {MAX_NAME} bytes, or cut off"));
    }
    String::from_utf8(line).map_err(|e| e.to_string())
}

/// A number of any length, the least byte first; one that is too long for us is nobody's.
fn long(file: &mut impl Read) -> Result<Object, String> {
    let [length] = bytes(file)?;
    let mut number = vec![0; usize::from(length)];
    file.read_exact(&mut number).map_err(|e| e.to_string())?;
    if number.len() > 8 {
        return Ok(Object::Other);
    }
    let negative = number.last().is_some_and(|it| it & 0x80 != 0);
    number.resize(8, if negative { 0xff } else { 0 });
    let number = number.try_into().map_or(0, i64::from_le_bytes);
    Ok(Object::Int(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pickle: &[u8]) -> Result<Object, String> {
        Object::read(&mut { pickle })
    }

    fn fault(pickle: &[u8]) -> String {
        read(pickle).err().expect("it is refused")
    }

    /// What Python's `pickle.dumps(…, 2)` makes of
    /// `OrderedDict([("a", (1, 300, -2, 70000, 1 << 40)), ("b", [True, None, 0.5, "ü"])])`.
    const PYTHONS: &[u8] = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00aq\x02(K\x01M,\x01J\xfe\xff\xff\xffJp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01tq\x03X\x01\x00\x00\x00bq\x04]q\x05(\x88NG?\xe0\x00\x00\x00\x00\x00\x00X\x02\x00\x00\x00\xc3\xbcq\x06eu.";

    #[test]
    fn what_python_writes_is_read() {
        let it = read(PYTHONS).unwrap();
        let numbers = it.entry("a").unwrap().tuple().unwrap().iter();
        let numbers: Vec<i64> = numbers
            .map(|it| match it {
                Object::Int(it) => *it,
                _ => panic!("no number"),
            })
            .collect();
        assert_eq!(numbers, [1, 300, -2, 70_000, 1 << 40]);
        let list = it.entry("b").unwrap().list().unwrap();
        assert_eq!((list[0].bool(), list[3].text()), (Some(true), Some("ü")));
        assert!(it.entry("c").is_none());
        for at in 0..PYTHONS.len() {
            assert!(!fault(&PYTHONS[..at]).is_empty());
            for change in [0x01, 0x80, 0xff] {
                let mut bytes = PYTHONS.to_vec();
                bytes[at] ^= change;
                let _ = read(&bytes);
            }
        }
    }

    #[test]
    fn pickles_that_grow_without_end_are_refused() {
        // Each step has the last one twice.
        let twice = b"q\x00h\x00\x86".repeat(MAX_PICKLE_DEPTH + 1);
        assert!(fault(&[b")", &twice[..], b"."].concat()).contains("deep"));
        // As deep as may be: two to the power of the depth where nothing is shared.
        let twice = b"q\x00h\x00\x86".repeat(MAX_PICKLE_DEPTH);
        assert!(read(&[b")", &twice[..], b"."].concat()).is_ok());
        let nested = b"\x85".repeat(1_000_000);
        assert!(fault(&[b")", &nested[..], b"."].concat()).contains("deep"));
        assert!(fault(&[&b"]".repeat(1_000)[..], &b"a".repeat(999)].concat()).contains("deep"));
        assert!(fault(b"X\xff\xff\xff\xffabc").contains("a text of 4294967295 bytes"));
        let name = [b"c", &b"a".repeat(1_000)[..], b"\nb\n."].concat();
        assert!(fault(&name).contains("a name of more than 512 bytes"));
        assert!(fault(&b"N".repeat(MAX_PICKLE_STEPS + 1)).contains("steps"));
        // A list that is put in the memo after each item is copied for each.
        let items = b"Naq\x00".repeat(MAX_PICKLE_STEPS / 4);
        assert!(fault(&[b"]", &items[..], b"."].concat()).contains("steps"));
    }

    #[test]
    fn what_is_taken_and_is_not_there_is_refused() {
        for pickle in [
            &b"."[..],
            b"a",
            b")a",
            b"t",
            b"(0",
            b"\x87",
            b")s",
            b"))s",
            b"R",
            b")R",
            b"Q",
            b"h\x00",
            b"q\x00",
            b"NN(NRRt.",
            b"\xff",
            b"",
        ] {
            assert!(!fault(pickle).is_empty(), "{pickle:?}");
        }
    }

    #[test]
    fn a_tensor_is_read_by_its_strides_and_only_within_its_storage() {
        let place = |offset, shape: &[usize], stride: &[usize]| Place {
            name: String::new(),
            storage: String::new(),
            kind: DType::F16,
            offset,
            shape: shape.to_vec(),
            stride: stride.to_vec(),
        };
        let storage: Vec<u8> = (0..12).collect();
        let all = |it: Place| it.values(&storage);
        assert_eq!(
            all(place(1, &[2, 2], &[2, 1])).unwrap(),
            (2..10).collect::<Vec<u8>>()
        );
        let turned = [2, 3, 6, 7, 4, 5, 8, 9];
        assert_eq!(all(place(1, &[2, 2], &[1, 2])).unwrap(), turned);
        assert_eq!(all(place(5, &[], &[])).unwrap(), [10, 11]);
        assert_eq!(all(place(3, &[0, 2], &[1, 1])).unwrap(), [0; 0]);
        for (offset, shape, stride) in [
            (3, [2, 2], [2, 1]),
            (usize::MAX, [2, 2], [2, 1]),
            (1, [usize::MAX, 2], [2, 1]),
            (1, [2, 2], [usize::MAX, 1]),
            (1, [2, 2], [1, 5]),
        ] {
            assert_eq!(all(place(offset, &shape, &stride)), None);
        }
    }
}
