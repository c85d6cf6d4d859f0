use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;

/// The parts that were read from the disk last. Whoever is late is many at once: each part is read for all of them together, and what
/// viewers hold of it is one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct ReadBack(Mutex<VecDeque<(Place, Arc<OnceCell<Bytes>>)>>);

/// So many bytes of a file, from an offset on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) key: String,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl ReadBack {
    /// What lies there, or the place for whoever reads it.
    pub(crate) fn at(&self, place: &Place) -> Arc<OnceCell<Bytes>> {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, data)) = parts.iter().rev().find(|(known, _)| known == place) {
            return data.clone();
        }
        if parts.len() >= KEPT {
            parts.pop_front();
        }
        let data = Arc::default();
        parts.push_back((place.clone(), Arc::clone(&data)));
        data
    }

    /// Nobody asks for parts any more.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Parts of a recording that are kept: some ten seconds, 4 MiB at most.
const KEPT: usize = 32;
