//! A finished recording as one progressive MP4 file (ISO/IEC 14496-12), `moov` first, without re-encoding.
//!
//! The tables are made and written by the `mp4` crate, the sample entries are those of the stored init segments. Only the headers of
//! the media are read for them, so that a [`Layout`] knows the file's length and where each of its bytes lies before any is sent.

mod layout;
mod tables;

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use loom_core::{MediaTime, RenditionId, Timescale};
use mp4_atom::Codec;
use thiserror::Error;

use crate::cmaf;
use crate::progressive::tables::Table;

pub use layout::{Layout, Source};

/// Why a progressive file cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProgressiveError {
    /// A stored file cannot be read, or the output not written.
    #[error("{key}: {source}")]
    Io {
        /// The stored file, or `output`.
        key: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A stored playlist names no media.
    #[error("rendition {rendition}: its playlist names no {what} (RFC 8216bis §4.4.4)")]
    Empty {
        /// The rendition.
        rendition: RenditionId,
        /// What is missing.
        what: &'static str,
    },
    /// A rendition is encrypted: its samples cannot be told apart, or not be played from such a file.
    #[error("rendition {rendition}: it is encrypted (RFC 8216bis §4.4.4.4), and cannot be put into one file")]
    Encrypted {
        /// The rendition.
        rendition: RenditionId,
    },
    /// A rendition cannot be put into one file.
    #[error("{key}: {why}")]
    Media {
        /// The stored file.
        key: String,
        /// Why not.
        why: String,
    },
}

/// The stored files of one rendition, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFiles {
    segments: Vec<SegmentFiles>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SegmentFiles {
    init: String,
    key: String,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The file's size.
    pub bytes: u64,
    /// How long it plays.
    pub duration: Duration,
}

impl TrackFiles {
    /// Reads which files make up a rendition from its stored media playlist, gaps left out.
    ///
    /// # Errors
    /// [`ProgressiveError::Empty`] where it names none.
    pub fn from_playlist(rendition: &RenditionId, playlist: &str) -> Result<Self, ProgressiveError> {
        let mut init = None;
        let mut gap = false;
        let mut segments = Vec::new();
        for line in playlist.lines() {
            if let Some(attributes) = line.strip_prefix("#EXT-X-MAP:") {
                let uri = attributes
                    .split_once("URI=\"")
                    .and_then(|(_, rest)| rest.split_once('"'));
                init = uri.map(|(uri, _)| format!("{rendition}/{uri}"));
            } else if line.starts_with("#EXT-X-KEY:") && line != "#EXT-X-KEY:METHOD=NONE" {
                return Err(ProgressiveError::Encrypted {
                    rendition: rendition.clone(),
                });
            } else if line == "#EXT-X-GAP" {
                gap = true;
            } else if !line.starts_with('#') && !line.is_empty() && !std::mem::take(&mut gap) {
                let init = init.clone().ok_or_else(|| ProgressiveError::Empty {
                    rendition: rendition.clone(),
                    what: "init segment before its first segment",
                })?;
                segments.push(SegmentFiles {
                    init,
                    key: format!("{rendition}/{line}"),
                });
            }
        }
        match segments.is_empty() {
            false => Ok(Self { segments }),
            true => Err(ProgressiveError::Empty {
                rendition: rendition.clone(),
                what: "segment",
            }),
        }
    }
}

/// A chunk's data and where they lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    track: usize,
    segment: usize,
    /// Where in the segment's file the data begin.
    offset: u64,
    size: u64,
    /// When its first sample is decoded.
    at: MediaTime,
    samples: u32,
    /// The sample entry, counted from 1.
    entry: u32,
}

/// Writes the renditions, at most one of pictures and one of sound, into one file. `open` opens a stored file by its key.
///
/// # Errors
/// As [`Layout::new`], or where `out` fails; then what was written is no MP4.
pub fn write<R: Read + Seek, W: Write>(
    tracks: &[TrackFiles],
    mut open: impl FnMut(&str) -> io::Result<R>,
    out: &mut W,
) -> Result<Written, ProgressiveError> {
    let layout = Layout::new(tracks, &mut open)?;
    let failed = |source| ProgressiveError::Io {
        key: "output".to_owned(),
        source,
    };
    for source in layout.range(0..layout.len()) {
        match source {
            Source::Bytes(bytes) => out.write_all(&bytes).map_err(failed)?,
            Source::Stored { key, offset, len } => {
                let unreadable = |source| ProgressiveError::Io {
                    key: key.to_string(),
                    source,
                };
                let mut file = open(&key).map_err(unreadable)?;
                file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
                let copied = io::copy(&mut file.take(len), out).map_err(unreadable)?;
                if copied != len {
                    return Err(unreadable(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
    }
    out.flush().map_err(failed)?;
    Ok(Written {
        bytes: layout.len(),
        duration: layout.duration(),
    })
}

/// The first reading: a track's tables, and its pieces put behind `pieces`.
fn read_track<R: Read + Seek>(
    number: usize,
    files: &TrackFiles,
    open: &mut impl FnMut(&str) -> io::Result<R>,
    pieces: &mut Vec<Piece>,
) -> Result<Table, ProgressiveError> {
    let mut table: Option<Table> = None;
    let mut init = "";
    for (segment, SegmentFiles { init: wanted, key }) in files.segments.iter().enumerate() {
        let unreadable = |key: &str| {
            let key = key.to_owned();
            move |source| ProgressiveError::Io { key, source }
        };
        if init != wanted {
            init = wanted;
            let mut data = Vec::new();
            open(init)
                .and_then(|mut file| file.read_to_end(&mut data))
                .map_err(unreadable(init))?;
            let (timescale, entry) = sample_entry(init, &data)?;
            let table = table.get_or_insert_with(|| Table::new(timescale));
            if table.timescale != timescale {
                return Err(ProgressiveError::Media {
                    key: init.to_owned(),
                    why: "its timescale is another than before (ISO/IEC 14496-12 §8.4.2)".to_owned(),
                });
            }
            table.entries.push(entry);
        }
        let Some(table) = &mut table else { continue };
        let mut file = open(key).map_err(unreadable(key))?;
        while let Some((chunk, size)) = cmaf::read_chunk_header(&mut file).map_err(unreadable(key))? {
            let offset = file.stream_position().map_err(unreadable(key))?;
            pieces.push(Piece {
                track: number,
                segment,
                offset,
                size,
                at: MediaTime::from_ticks(chunk.decode_time as i64, table.timescale),
                samples: chunk.samples.len() as u32,
                entry: table.entries.len() as u32,
            });
            table.add(&chunk);
            file.seek(SeekFrom::Start(offset + size))
                .map_err(unreadable(key))?;
        }
    }
    table
        .filter(|table| !table.is_empty())
        .ok_or_else(|| ProgressiveError::Media {
            key: files.segments.first().map(|s| s.key.clone()).unwrap_or_default(),
            why: "it holds no samples".to_owned(),
        })
}

/// The timescale and the one sample entry of an init segment.
fn sample_entry(key: &str, init: &[u8]) -> Result<(Timescale, Codec), ProgressiveError> {
    let broken = |why: &str| ProgressiveError::Media {
        key: key.to_owned(),
        why: why.to_owned(),
    };
    let moov = cmaf::read_moov(init).map_err(|source| ProgressiveError::Io {
        key: key.to_owned(),
        source,
    })?;
    let [track] = &moov.trak[..] else {
        return Err(broken("it has not one track (ISO/IEC 23000-19 §7.3.1)"));
    };
    let [entry] = &track.mdia.minf.stbl.stsd.codecs[..] else {
        return Err(broken("it has not one sample entry"));
    };
    let timescale = Timescale::new(track.mdia.mdhd.timescale).ok_or_else(|| broken("its timescale is 0"))?;
    Ok((timescale, entry.clone()))
}
