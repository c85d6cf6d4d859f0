use std::io::{self, Read, Seek};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::progressive::tables::{self, write_moov};
use crate::progressive::{Piece, ProgressiveError, TrackFiles, read_track};

/// A progressive file that is nowhere but in its parts: what it begins with, and which bytes of which stored file follow.
///
/// Its length is known before any of its media is read, and any range of it can be answered.
///
/// A folder that holds a finished recording becomes an MP4 file of which any range can be read:
///
/// ```no_run
/// use std::fs::File;
/// use loom_core::RenditionId;
/// use loom_hls::progressive::{Layout, TrackFiles};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let source = RenditionId::new("source").ok_or("no name")?;
/// let playlist = std::fs::read_to_string("hls/source/index.m3u8")?;
/// let tracks = [TrackFiles::from_playlist(&source, &playlist)?];
/// let layout = Layout::new(&tracks, |key: &str| File::open(format!("hls/{key}")))?;
/// println!("{} bytes", layout.len());
/// for piece in layout.range(0..1_000) {
///     println!("{piece:?}"); // bytes, or a stretch of a stored segment
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    head: Bytes,
    spans: Vec<Span>,
    len: u64,
    duration: Duration,
}

/// Bytes of a stored file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    /// Where in the whole they begin.
    at: u64,
    key: Arc<str>,
    offset: u64,
    len: u64,
}

/// Where some of a file's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Here.
    Bytes(Bytes),
    /// In a stored file.
    Stored {
        /// Its key.
        key: Arc<str>,
        /// Where in it they begin.
        offset: u64,
        /// How many.
        len: u64,
    },
}

impl Layout {
    /// Lays out the renditions, at most one of pictures and one of sound, as one file with `moov` first. `open` opens a stored
    /// file by its key; only its headers are read.
    ///
    /// # Errors
    /// Where a file cannot be read, is none of ours, or is encrypted.
    pub fn new<R: Read + Seek>(
        tracks: &[TrackFiles],
        mut open: impl FnMut(&str) -> io::Result<R>,
    ) -> Result<Self, ProgressiveError> {
        let mut made = Vec::new();
        let mut pieces: Vec<Piece> = Vec::new();
        for (number, files) in tracks.iter().enumerate() {
            made.push(read_track(number, files, &mut open, &mut pieces)?);
        }
        // as a player reads them: by time; sorting keeps each track's order
        pieces.sort_by_key(|piece| piece.at);
        let payload: u64 = pieces.iter().map(|piece| piece.size).sum();
        let head = write_moov(&made, &pieces, payload).map_err(|source| ProgressiveError::Io {
            key: "output".to_owned(),
            source,
        })?;
        let mut layout = Self {
            len: head.len() as u64,
            head: head.into(),
            spans: Vec::with_capacity(pieces.len()),
            duration: tables::duration(&made),
        };
        let keys: Vec<Vec<Arc<str>>> = tracks
            .iter()
            .map(|track| track.segments.iter().map(|s| Arc::from(s.key.as_str())).collect())
            .collect();
        for piece in &pieces {
            layout.push(keys[piece.track][piece.segment].clone(), piece.offset, piece.size);
        }
        Ok(layout)
    }

    /// Its size, bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes: never.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How long it plays.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Where a range of its bytes comes from, in order; what lies past its end is left out.
    pub fn range(&self, wanted: Range<u64>) -> impl Iterator<Item = Source> + '_ {
        let end = wanted.end.min(self.len);
        let start = wanted.start.min(end);
        let head = (start < self.head.len() as u64 && start < end).then(|| {
            let upto = end.min(self.head.len() as u64) as usize;
            Source::Bytes(self.head.slice(start as usize..upto))
        });
        let first = self.spans.partition_point(|span| span.at + span.len <= start);
        let spans = self.spans[first..].iter().take_while(move |span| span.at < end);
        head.into_iter().chain(spans.map(move |span| {
            let from = start.max(span.at) - span.at;
            let upto = end.min(span.at + span.len) - span.at;
            Source::Stored {
                key: span.key.clone(),
                offset: span.offset + from,
                len: upto - from,
            }
        }))
    }

    fn push(&mut self, key: Arc<str>, offset: u64, len: u64) {
        let at = self.len;
        self.len += len;
        match self.spans.last_mut() {
            Some(last) if *last.key == *key && last.offset + last.len == offset => last.len += len,
            _ => self.spans.push(Span { at, key, offset, len }),
        }
    }
}
