//! A disk that is full for a while, fails for a while, or whose machine loses its power: by a seed. What is written goes to real files, which
//! stand for what the system holds in memory; what of that had reached the disk is kept beside.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;

use crate::disk::{Disk, Files};

/// What happens to the disk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// From that write on there is no room for so long.
    Full(u64, Duration),
    /// From that write on one in four fails for so long.
    Broken(u64, Duration),
    /// The power is cut in the midst of that write.
    PowerCut(u64),
    /// The same, and before that there is no room for so long.
    FullThenCut(u64, Duration, u64),
}

/// The disk.
#[derive(Debug)]
pub(super) struct Faulty {
    root: PathBuf,
    fault: Fault,
    state: Mutex<State>,
    /// Rings when the power is cut.
    pub(super) cut: Notify,
}

/// A file, whatever it is called.
type Node = u64;

#[derive(Debug)]
struct State {
    rng: StdRng,
    writes: u64,
    /// When the fault began.
    since: Option<Instant>,
    injected: u64,
    off: bool,
    nodes: Node,
    /// As the system has it.
    names: BTreeMap<PathBuf, Node>,
    lens: BTreeMap<Node, u64>,
    kept: Kept,
    /// What the system has not written to the disk yet, in order.
    pending: Vec<Op>,
    /// Files as they were when all was last written to the disk.
    synced: BTreeMap<PathBuf, u64>,
}

/// What the disk has.
#[derive(Debug, Clone, Default)]
struct Kept {
    names: BTreeMap<PathBuf, Node>,
    files: BTreeMap<Node, Vec<u8>>,
}

#[derive(Debug, Clone)]
enum Op {
    Data(Node, u64, Vec<u8>),
    Len(Node, u64),
    /// A file has this name, and no longer that.
    Name(PathBuf, Node, Option<PathBuf>),
    Unname(PathBuf),
}

impl Faulty {
    pub(super) fn new(root: &Path, seed: u64, fault: Fault) -> Self {
        Self {
            root: root.to_owned(),
            fault,
            state: Mutex::new(State {
                rng: StdRng::seed_from_u64(seed),
                writes: 0,
                since: None,
                injected: 0,
                off: false,
                nodes: 0,
                names: BTreeMap::new(),
                lens: BTreeMap::new(),
                kept: Kept::default(),
                pending: Vec::new(),
                synced: BTreeMap::new(),
            }),
            cut: Notify::new(),
        }
    }

    /// How many calls have failed.
    pub(super) fn injected(&self) -> u64 {
        self.state().injected
    }

    pub(super) fn is_off(&self) -> bool {
        self.state().off
    }

    /// The power goes now, where it has not gone before.
    pub(super) fn cut_now(&self) {
        self.state().off = true;
        self.cut.notify_one();
    }

    /// How long each file was when all was last on the disk.
    pub(super) fn synced(&self) -> BTreeMap<PathBuf, u64> {
        self.state().synced.clone()
    }

    /// What the disk has when the power comes back: all that was written to it for certain, and of the rest whatever the seed says, in any
    /// order, by halves, with holes: each time anew. The files are made in `to`.
    pub(super) fn survive(&self, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let (pending, mut kept) = (state.pending.clone(), state.kept.clone());
        let luck = [0.0, 0.5, 0.5, 0.9, 1.0][state.rng.random_range(0..5)];
        for op in pending {
            match op {
                Op::Data(node, at, data) => {
                    let file = kept.files.entry(node).or_default();
                    let whole = state.rng.random_bool(luck);
                    let grows = whole || state.rng.random_bool(luck);
                    for (nth, sector) in data.chunks(SECTOR).enumerate() {
                        if whole || state.rng.random_bool(luck) {
                            let from = at + (nth * SECTOR) as u64;
                            // what was not written is not there, or empty
                            if grows || from <= file.len() as u64 {
                                put(file, from, sector);
                            }
                        }
                    }
                    if grows && file.len() < at as usize + data.len() {
                        file.resize(at as usize + data.len(), 0);
                    }
                }
                op if state.rng.random_bool(luck) => kept.keep(op),
                _ => {}
            }
        }
        for (path, node) in &kept.names {
            let path = to.join(path);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(path, kept.files.get(node).map_or(&[][..], Vec::as_slice))?;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a lock")
    }

    fn name(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root)
            .expect("below the disk's root")
            .to_owned()
    }

    /// What becomes of a call that writes so many bytes: how many of them, and then what.
    fn fate(&self, state: &mut State, len: usize) -> (usize, io::Result<()>) {
        if state.off {
            return (0, Err(errno(rustix::io::Errno::IO)));
        }
        state.writes += 1;
        let (from, lasts, errors) = match self.fault {
            Fault::Full(from, lasts) | Fault::FullThenCut(from, lasts, _) => (from, lasts, 1.0),
            Fault::Broken(from, lasts) => (from, lasts, 0.25),
            Fault::PowerCut(_) => (u64::MAX, Duration::ZERO, 0.0),
        };
        if let Fault::PowerCut(at) | Fault::FullThenCut(_, _, at) = self.fault
            && state.writes >= at
        {
            state.off = true;
            self.cut.notify_one();
            let some = if len == 0 {
                0
            } else {
                state.rng.random_range(0..=len)
            };
            return (some, Err(errno(rustix::io::Errno::IO)));
        }
        if state.writes >= from {
            let since = *state.since.get_or_insert_with(Instant::now);
            let full = !matches!(self.fault, Fault::Broken(..));
            // names need no room
            if since.elapsed() < lasts && (len > 0 || !full) && state.rng.random_bool(errors) {
                state.injected += 1;
                let some = if len == 0 {
                    0
                } else {
                    state.rng.random_range(0..len)
                };
                let why = if full {
                    rustix::io::Errno::NOSPC
                } else {
                    rustix::io::Errno::IO
                };
                return (some, Err(errno(why)));
            }
        }
        (len, Ok(()))
    }

    fn put(&self, path: &Path, data: &[u8], anew: bool) -> io::Result<()> {
        let mut state = self.state();
        let (len, outcome) = self.fate(&mut state, data.len());
        if state.off && outcome.is_err() && len == 0 {
            return outcome;
        }
        // a folder that is missing is told before anything is written
        match anew {
            true => Files.write(path, &data[..len])?,
            false => Files.append(path, &data[..len])?,
        }
        let name = self.name(path);
        let node = match state.names.get(&name) {
            Some(node) => *node,
            None => {
                state.nodes += 1;
                let node = state.nodes;
                state.names.insert(name.clone(), node);
                state.pending.push(Op::Name(name, node, None));
                node
            }
        };
        if anew {
            state.pending.push(Op::Len(node, 0));
            state.lens.insert(node, 0);
        }
        let at = state.lens.get(&node).copied().unwrap_or_default();
        state.pending.push(Op::Data(node, at, data[..len].to_vec()));
        state.lens.insert(node, at + len as u64);
        outcome
    }

    /// A call that writes no bytes.
    fn act(&self, act: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        let (_, outcome) = self.fate(&mut state, 0);
        outcome?;
        act(&mut state)
    }
}

impl Kept {
    /// It reaches the disk.
    fn keep(&mut self, op: Op) {
        match op {
            Op::Data(node, at, data) => put(self.files.entry(node).or_default(), at, &data),
            Op::Len(node, len) => {
                let file = self.files.entry(node).or_default();
                file.resize(len as usize, 0);
            }
            Op::Name(name, node, before) => {
                if let Some(before) = before {
                    self.names.remove(&before);
                }
                self.names.insert(name, node);
            }
            Op::Unname(name) => drop(self.names.remove(&name)),
        }
    }
}

impl State {
    fn keep_where(&mut self, wanted: impl Fn(&Op) -> bool) {
        let pending = std::mem::take(&mut self.pending);
        for op in pending {
            match wanted(&op) {
                true => self.kept.keep(op),
                false => self.pending.push(op),
            }
        }
    }
}

impl Disk for Faulty {
    fn write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.put(path, data, true)
    }

    fn append(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.put(path, data, false)
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        let name = self.name(path);
        self.act(|state| {
            Files.cut(path, len)?;
            if let Some(node) = state.names.get(&name).copied() {
                state.pending.push(Op::Len(node, len));
                state.lens.insert(node, len);
            }
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (old, new) = (self.name(from), self.name(to));
        self.act(|state| {
            Files.rename(from, to)?;
            if let Some(node) = state.names.remove(&old) {
                state.names.insert(new.clone(), node);
                state.pending.push(Op::Name(new, node, Some(old)));
            }
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let name = self.name(path);
        self.act(|state| {
            Files.remove(path)?;
            state.names.remove(&name);
            state.pending.push(Op::Unname(name));
            Ok(())
        })
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.act(|_| Files.make_folder(path))
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let name = self.name(path);
        self.act(|state| {
            Files.remove_folder(path)?;
            let gone: Vec<PathBuf> = state
                .names
                .keys()
                .filter(|it| it.starts_with(&name))
                .cloned()
                .collect();
            for name in gone {
                state.names.remove(&name);
                state.pending.push(Op::Unname(name));
            }
            Ok(())
        })
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let name = self.name(path);
        self.act(|state| {
            let node = state.names.get(&name).copied();
            state.keep_where(|op| matches!(op, Op::Data(of, ..) | Op::Len(of, _) if Some(*of) == node));
            Ok(())
        })
    }

    fn sync_names(&self, folder: &Path) -> io::Result<()> {
        let name = self.name(folder);
        self.act(|state| {
            state.keep_where(
                |op| matches!(op, Op::Name(of, ..) | Op::Unname(of) if of.parent() == Some(name.as_path())),
            );
            Ok(())
        })
    }

    fn sync_all(&self, _: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.off {
            return Err(errno(rustix::io::Errno::IO));
        }
        state.keep_where(|_| true);
        state.synced = state
            .names
            .iter()
            .map(|(name, node)| (name.clone(), state.lens.get(node).copied().unwrap_or_default()))
            .collect();
        Ok(())
    }
}

fn put(file: &mut Vec<u8>, at: u64, data: &[u8]) {
    let at = at as usize;
    if file.len() < at + data.len() {
        file.resize(at + data.len(), 0);
    }
    file[at..at + data.len()].copy_from_slice(data);
}

fn errno(errno: rustix::io::Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

/// What a disk writes whole.
const SECTOR: usize = 512;

#[test]
fn what_was_synced_survives_whole_and_the_rest_by_halves() {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut torn = 0;
    for seed in 0..40 {
        let root = before.path().join(seed.to_string());
        std::fs::create_dir(&root).unwrap();
        let disk = Faulty::new(&root, seed, Fault::PowerCut(u64::MAX));
        disk.write(&root.join("kept"), &[1; 2_000]).unwrap();
        disk.sync_all(&root).unwrap();
        disk.append(&root.join("kept"), &[2; 5_000]).unwrap();
        disk.write(&root.join("new"), &[3; 100]).unwrap();
        disk.write(&root.join("next"), &[4; 3_000]).unwrap();
        disk.sync(&root.join("next")).unwrap();
        disk.rename(&root.join("next"), &root.join("new")).unwrap();
        disk.cut_now();
        assert!(disk.append(&root.join("kept"), b"x").is_err());
        let to = after.path().join(seed.to_string());
        disk.survive(&to).unwrap();
        let kept = std::fs::read(to.join("kept")).unwrap();
        assert!(kept.len() >= 2_000 && kept[..2_000] == [1; 2_000], "seed {seed}");
        torn += u32::from(kept.len() > 2_000 && kept[2_000..].iter().any(|it| *it != 2));
        if let Ok(new) = std::fs::read(to.join("new")) {
            // the old one may be by halves, the one that took its place is whole
            assert!(
                new == [4; 3_000] || new.iter().all(|it| *it == 3 || *it == 0),
                "seed {seed}"
            );
        }
    }
    assert!(torn > 2, "{torn} files have holes");
}
