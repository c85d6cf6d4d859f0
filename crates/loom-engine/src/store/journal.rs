//! What of a recording has arrived in the store, as its folder remembers it: a line an object, behind one another. A line that a
//! crash cut off is no line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Digest, StorageClass, hex, unhex};
use crate::error::EngineError;
use crate::folder::{Folder, Stamp};

/// What has arrived, by the objects' names, which are keys without the recording's own folder.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    objects: BTreeMap<String, Arrived>,
    class: Option<StorageClass>,
    whole: bool,
    fetched: bool,
}

/// An object that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) size: u64,
    /// Where it is known.
    pub(crate) digest: Option<Digest>,
    /// The file that it was read from, as it was then.
    pub(crate) stamp: Option<Stamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Object {
        name: String,
        size: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<Stamp>,
    },
    /// From here on it is of this class.
    Class(StorageClass),
    /// The object of this name was deleted.
    Gone(String),
    /// The recording has ended, and there was nothing more to send.
    Whole(bool),
    /// The folder was made again of what the store has.
    Fetched(()),
}

impl Journal {
    /// The journal in the folder; empty where there is none.
    pub(crate) fn load(folder: &Folder) -> Result<Self, EngineError> {
        let mut journal = Self::default();
        let text = folder.read(FILE, 0, None)?.unwrap_or_default();
        for line in text.split(|byte| *byte == b'\n') {
            // the last one may be cut off; what it would say is looked up
            if let Ok(line) = serde_json::from_slice(line) {
                journal.take(line);
            }
        }
        Ok(journal)
    }

    /// Whether the recording had ended and there was nothing more to send.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether the folder was made again of what the store has.
    pub(crate) fn is_fetched(&self) -> bool {
        self.fetched
    }

    pub(crate) fn class(&self) -> Option<StorageClass> {
        self.class
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arrived> {
        self.objects.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.objects.keys().map(String::as_str)
    }

    /// The objects that a file is kept as, in order, with their sizes; `None` where it has not arrived.
    pub(crate) fn pieces(&self, file: &str) -> Option<Vec<(String, Arrived)>> {
        if let Some(whole) = self.objects.get(file) {
            return Some(vec![(file.to_owned(), *whole)]);
        }
        let below = format!("{file}/");
        let pieces = self.objects.range(below.clone()..);
        let pieces: Vec<_> = pieces
            .take_while(|(name, _)| name.starts_with(&below))
            .map(|(name, arrived)| (name.clone(), *arrived))
            .collect();
        (!pieces.is_empty()).then_some(pieces)
    }

    /// Notes what has arrived, in memory and in the folder.
    pub(crate) fn note(
        &mut self,
        folder: &Folder,
        objects: impl IntoIterator<Item = (String, Arrived)>,
    ) -> Result<(), EngineError> {
        let lines = objects.into_iter().map(|(name, arrived)| Line::Object {
            name,
            size: arrived.size,
            sha256: arrived.digest.as_ref().map(hex),
            file: arrived.stamp,
        });
        self.write(folder, lines)
    }

    /// Forgets objects that were deleted, in memory and in the folder.
    pub(crate) fn forget(
        &mut self,
        folder: &Folder,
        names: impl IntoIterator<Item = String>,
    ) -> Result<(), EngineError> {
        self.write(folder, names.into_iter().map(Line::Gone))
    }

    pub(crate) fn set_fetched(&mut self, folder: &Folder) -> Result<(), EngineError> {
        self.write(folder, [Line::Fetched(())])
    }

    pub(crate) fn set_class(&mut self, folder: &Folder, class: StorageClass) -> Result<(), EngineError> {
        self.write(folder, [Line::Class(class)])
    }

    /// Notes that there is nothing more to send, or that there is again.
    pub(crate) fn set_whole(&mut self, folder: &Folder, whole: bool) -> Result<(), EngineError> {
        match self.whole == whole && !(whole && folder.is_newer_than(FILE)) {
            true => Ok(()),
            false => self.write(folder, [Line::Whole(whole)]),
        }
    }

    fn write(&mut self, folder: &Folder, lines: impl IntoIterator<Item = Line>) -> Result<(), EngineError> {
        // a new line first: the last one may have been cut off
        let mut text = vec![b'\n'];
        for line in lines {
            // strings and numbers can always be written
            if let Ok(json) = serde_json::to_vec(&line) {
                text.extend_from_slice(&json);
                text.push(b'\n');
            }
            self.take(line);
        }
        folder.append(FILE, &text)
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Object {
                name,
                size,
                sha256,
                file,
            } => {
                let arrived = Arrived {
                    size,
                    digest: sha256.as_deref().and_then(unhex),
                    stamp: file,
                };
                self.objects.insert(name, arrived);
            }
            Line::Gone(name) => {
                self.objects.remove(&name);
            }
            Line::Class(class) => self.class = Some(class),
            Line::Whole(whole) => self.whole = whole,
            Line::Fetched(()) => self.fetched = true,
        }
    }
}

/// The journal, in the recording's folder.
pub(crate) const FILE: &str = "stored.jsonl";
