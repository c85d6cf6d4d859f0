//! CMAF (ISO/IEC 23000-19): init segments, chunks, and a small reader of our own chunks. Here "sample" is a sample of
//! ISO/IEC 14496-12.

mod chunk;
mod init;
mod reader;

pub(crate) use chunk::{Sample, prft, styp, write_chunk};
pub(crate) use init::write_init;
pub(crate) use reader::{Chunk, read_chunk_header, read_moov};

/// The one track's `track_ID` in every file that the packager writes.
pub(crate) const TRACK_ID: u32 = 1;

/// `sample_flags` (ISO/IEC 14496-12 §8.8.3.1) of a sample that needs no other.
pub(crate) const SYNC: u32 = 0x0200_0000;
/// `sample_flags` of a sample that needs others, and is no sync sample.
pub(crate) const NOT_SYNC: u32 = 0x0101_0000;
