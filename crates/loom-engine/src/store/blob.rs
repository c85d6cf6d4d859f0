//! A file that is in the store and not, or no longer, in the recording's folder.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;

use super::Store;
use super::journal::Arrived;
use crate::limits;

/// A file in the store, kept as one object or as several.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    store: Arc<dyn Store>,
    /// The objects' keys and sizes, in order.
    pieces: Vec<(String, u64)>,
    size: u64,
    tag: String,
}

impl Blob {
    pub(super) fn new(store: Arc<dyn Store>, recording: &str, pieces: &[(String, Arrived)]) -> Self {
        let size = pieces.iter().map(|(_, arrived)| arrived.size).sum();
        let tag = match pieces.first().and_then(|(_, arrived)| arrived.digest) {
            Some(digest) => super::hex(&digest)[..16].to_owned(),
            None => "stored".to_owned(),
        };
        Self {
            store,
            pieces: pieces
                .iter()
                .map(|(name, arrived)| (format!("{recording}/{name}"), arrived.size))
                .collect(),
            size,
            tag: format!("\"{size:x}-{tag}\""),
        }
    }

    /// Its size, bytes.
    #[cfg_attr(not(feature = "hls"), allow(dead_code, reason = "the origin asks for it"))]
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// An entity tag (RFC 9110 §8.8.3), in quotes.
    #[cfg_attr(not(feature = "hls"), allow(dead_code, reason = "the origin asks for it"))]
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// At most `len` bytes from `offset` on: fewer at the end of an object. None at the end of the file.
    pub(crate) async fn read(&self, offset: u64, len: u64) -> io::Result<Bytes> {
        let mut begins = 0;
        for (key, size) in &self.pieces {
            if offset < begins + size {
                let from = offset - begins;
                let to = size
                    .min(&from.saturating_add(len.min(limits::OBJECT_READ)))
                    .to_owned();
                let read = self.store.read(key, from..to).await.map_err(io::Error::other)?;
                let data =
                    read.ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("{key} is gone")))?;
                return match data.len() as u64 == to - from {
                    true => Ok(data),
                    false => Err(io::Error::new(
                        ErrorKind::UnexpectedEof,
                        format!("{key} is shorter"),
                    )),
                };
            }
            begins += size;
        }
        Ok(Bytes::new())
    }

    /// All of it.
    pub(crate) async fn read_all(&self) -> io::Result<Bytes> {
        if self.size > limits::FETCHED_BYTES {
            return Err(io::Error::new(
                ErrorKind::FileTooLarge,
                "it is too large to be read whole",
            ));
        }
        let mut all = BytesMut::with_capacity(self.size as usize);
        while (all.len() as u64) < self.size {
            all.extend_from_slice(&self.read(all.len() as u64, limits::OBJECT_READ).await?);
        }
        Ok(all.freeze())
    }

    /// For code that waits, on a thread where that is allowed.
    pub(crate) fn into_file(self, runtime: Handle) -> BlobFile {
        BlobFile {
            blob: self,
            runtime,
            at: 0,
            begins: 0,
            held: Bytes::new(),
        }
    }
}

/// A [`Blob`] as a file that is read by a thread that may wait.
#[derive(Debug)]
pub(crate) struct BlobFile {
    blob: Blob,
    runtime: Handle,
    at: u64,
    /// What was read last, and where in the file it begins.
    held: Bytes,
    begins: u64,
}

impl Read for BlobFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let held = self.begins..self.begins + self.held.len() as u64;
        if !held.contains(&self.at) {
            self.held = self.runtime.block_on(self.blob.read(self.at, AHEAD))?;
            self.begins = self.at;
        }
        let from = &self.held[(self.at - self.begins) as usize..];
        let len = from.len().min(out.len());
        out[..len].copy_from_slice(&from[..len]);
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for BlobFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.blob.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// How much is read at a time: who seeks often reads headers.
const AHEAD: u64 = 64 << 10;
