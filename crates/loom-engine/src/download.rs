//! A recording as one progressive MP4 file that is nowhere but in its segments.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use loom_core::{MediaKind, RenditionId};
use loom_hls::progressive::{Layout, Source, TrackFiles};

use crate::error::EngineError;
use crate::event::RenditionDescription;
use crate::folder::Folder;
use crate::recording::Inner;

/// Which renditions a download holds: at most one of pictures and one of sound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DownloadChoice {
    /// The pictures.
    pub video: TrackChoice,
    /// The sound.
    pub audio: TrackChoice,
}

/// Which rendition of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TrackChoice {
    /// The best that most players know: H.264 of the main picture, AAC; where there is none, the best of another codec.
    #[default]
    Best,
    /// None.
    Without,
    /// This one.
    Rendition(RenditionId),
}

/// A download: its length is known, and any range of it can be read, though the file is never built.
#[derive(Debug, Clone)]
pub struct Download {
    layout: Arc<Layout>,
    folder: Folder,
}

impl Download {
    /// Its size, bytes.
    #[expect(clippy::len_without_is_empty, reason = "no MP4 file is empty")]
    pub fn len(&self) -> u64 {
        self.layout.len()
    }

    /// How long it plays.
    pub fn duration(&self) -> Duration {
        self.layout.duration()
    }

    /// Reads from `offset` on: at most `most` bytes, fewer only at its end. Blocks.
    ///
    /// # Errors
    /// [`EngineError::Io`] where a segment cannot be read, as after the recording was deleted.
    pub fn read(&self, offset: u64, most: usize) -> Result<Bytes, EngineError> {
        let end = offset.saturating_add(most as u64);
        let mut out = BytesMut::with_capacity(most.min(self.len().saturating_sub(offset) as usize));
        for source in self.layout.range(offset..end) {
            match source {
                Source::Bytes(bytes) => out.extend_from_slice(&bytes),
                Source::Stored { key, offset, len } => {
                    let path = self.folder.path(&format!("hls/{key}"));
                    let from = out.len();
                    out.resize(from + len as usize, 0);
                    File::open(&path)
                        .and_then(|mut file| {
                            file.seek(SeekFrom::Start(offset))?;
                            file.read_exact(&mut out[from..])
                        })
                        .map_err(EngineError::io("read", path))?;
                }
                _ => {}
            }
        }
        Ok(out.freeze())
    }

    /// As [`Self::read`], on a thread that may wait.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_aside(&self, offset: u64, most: usize) -> Result<Bytes, EngineError> {
        let download = self.clone();
        let read = tokio::task::spawn_blocking(move || download.read(offset, most)).await;
        read.map_err(|_| EngineError::ShuttingDown)?
    }

    /// Writes all of it to a file. Blocks.
    ///
    /// # Errors
    /// [`EngineError::Io`].
    pub fn write_to(&self, path: &Path) -> Result<(), EngineError> {
        let mut out = File::create(path).map_err(EngineError::io("create", path))?;
        let mut at = 0;
        while at < self.len() {
            let piece = self.read(at, PIECE)?;
            out.write_all(&piece).map_err(EngineError::io("write", path))?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}

/// How much [`Download::write_to`] reads at a time.
const PIECE: usize = 1 << 20;

/// Lays a download out; only headers are read. Blocks.
pub(crate) fn lay_out(recording: &Inner, choice: &DownloadChoice) -> Result<Layout, EngineError> {
    let info = recording.info();
    let find = |choice: &TrackChoice, kind: MediaKind| -> Result<Option<RenditionDescription>, EngineError> {
        let of_kind = || info.renditions.iter().filter(|r| r.kind == kind);
        match choice {
            TrackChoice::Without => Ok(None),
            TrackChoice::Rendition(id) => match of_kind().find(|r| r.id == *id) {
                Some(found) => Ok(Some(found.clone())),
                None => Err(EngineError::NoSuchRendition {
                    recording: recording.id.clone(),
                    rendition: id.clone(),
                }),
            },
            TrackChoice::Best => {
                let known = |r: &RenditionDescription| r.codec == "h264" || r.codec == "aac";
                let main = of_kind().filter(|r| r.playlist.is_none());
                Ok(main.max_by_key(|r| (known(r), r.height, r.bandwidth)).cloned())
            }
        }
    };
    let video = find(&choice.video, MediaKind::Video)?;
    let audio = find(&choice.audio, MediaKind::Audio)?;
    let mut tracks = Vec::new();
    for rendition in video.into_iter().chain(audio) {
        let path = recording.folder.path(&format!("hls/{}/index.m3u8", rendition.id));
        let playlist = std::fs::read_to_string(&path).map_err(EngineError::io("read", path))?;
        tracks.push(TrackFiles::from_playlist(&rendition.id, &playlist)?);
    }
    if tracks.is_empty() {
        return Err(EngineError::NotReady(
            "there is neither a picture nor sound to make an MP4 of".to_owned(),
        ));
    }
    let open = |key: &str| File::open(recording.folder.path(&format!("hls/{key}")));
    Ok(Layout::new(&tracks, open)?)
}

impl Download {
    pub(crate) fn new(layout: Arc<Layout>, folder: Folder) -> Self {
        Self { layout, folder }
    }
}
