//! A recording as one progressive MP4 file that is nowhere but in its segments.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use loom_core::{MediaKind, RenditionId};
use loom_hls::progressive::{Layout, Source, TrackFiles};

use crate::error::EngineError;
use crate::event::{RecordingInfo, RenditionDescription};
use crate::further;
use crate::recording::Inner;
use crate::store::BlobFile;

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
///
/// ```no_run
/// use loom_engine::{DownloadChoice, EngineError, Recording, TrackChoice};
///
/// # async fn example(recording: Recording) -> Result<(), EngineError> {
/// let all = recording.download(&DownloadChoice::default()).await?;
/// all.write_to("talk.mp4".as_ref())?;
/// let sound = DownloadChoice { video: TrackChoice::Without, ..DownloadChoice::default() };
/// let sound = recording.download(&sound).await?;
/// let middle = sound.read_aside(sound.len() / 2, 4_096).await?; // for a request with a range
/// # drop(middle);
/// # Ok(())
/// # }
/// ```
#[must_use]
#[derive(Debug, Clone)]
pub struct Download {
    layout: Arc<Layout>,
    recording: Arc<Inner>,
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
        read_range(&self.layout, |key| open(&self.recording, key), offset, most)
    }

    /// As [`Self::read`], on a thread that may wait.
    ///
    /// Cancellation safe: nothing is changed.
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

/// Reads from `offset` of a file that is nowhere but in its parts: at most `most` bytes, fewer only at its end. `open` opens a part. Blocks.
pub(crate) fn read_range(
    layout: &Layout,
    open: impl Fn(&str) -> io::Result<Segment>,
    offset: u64,
    most: usize,
) -> Result<Bytes, EngineError> {
    let end = offset.saturating_add(most as u64);
    let mut out = BytesMut::with_capacity(most.min(layout.len().saturating_sub(offset) as usize));
    for source in layout.range(offset..end) {
        match source {
            Source::Bytes(bytes) => out.extend_from_slice(&bytes),
            Source::Stored { key, offset, len } => {
                let from = out.len();
                out.resize(from + len as usize, 0);
                open(&key)
                    .and_then(|mut file| {
                        file.seek(SeekFrom::Start(offset))?;
                        file.read_exact(&mut out[from..])
                    })
                    .map_err(EngineError::io("read", &*key))?;
            }
            _ => {}
        }
    }
    Ok(out.freeze())
}

/// How much [`Download::write_to`] reads at a time.
const PIECE: usize = 1 << 20;

/// Lays a download out; only headers are read. Blocks.
pub(crate) fn lay_out(recording: &Inner, choice: &DownloadChoice) -> Result<Layout, EngineError> {
    let info = recording.info();
    let find = |choice: &TrackChoice, kind: MediaKind| -> Result<Option<RenditionDescription>, EngineError> {
        let composed = info.composition.iter().flat_map(|it| &it.renditions);
        let mut of_kind = info.renditions.iter().chain(composed).filter(|r| r.kind == kind);
        match choice {
            TrackChoice::Without => Ok(None),
            TrackChoice::Rendition(id) => match of_kind.find(|r| r.id == *id) {
                Some(found) => Ok(Some(found.clone())),
                None => Err(EngineError::NoSuchRendition {
                    recording: recording.id.clone(),
                    rendition: id.clone(),
                }),
            },
            TrackChoice::Best => Ok(best(&info, kind)),
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
    Ok(Layout::new(&tracks, |key: &str| open(recording, key))?)
}

/// The best of the main picture, or of the main sound, that most players know; of another sound where there is no main one.
pub(crate) fn best(info: &RecordingInfo, kind: MediaKind) -> Option<RenditionDescription> {
    let known = |r: &RenditionDescription| r.codec == "h264" || r.codec == "aac";
    let main = (info.renditions.iter()).filter(|r| r.kind == kind && r.playlist.is_none());
    main.max_by_key(|r| (!further::is_further_sound(&r.id), known(r), r.height, r.bandwidth))
        .cloned()
}

impl Download {
    pub(crate) fn new(layout: Arc<Layout>, recording: Arc<Inner>) -> Self {
        Self { layout, recording }
    }
}

/// A segment, from the recording's folder or from the store.
#[derive(Debug)]
pub(crate) enum Segment {
    File(File),
    Blob(BlobFile),
}

/// All of a file of the stream. Blocks.
pub(crate) fn read(recording: &Inner, key: &str) -> Result<Vec<u8>, EngineError> {
    let mut data = Vec::new();
    open(recording, key)
        .and_then(|mut file| file.read_to_end(&mut data))
        .map_err(EngineError::io("read", key))?;
    Ok(data)
}

pub(crate) fn open(recording: &Inner, key: &str) -> io::Result<Segment> {
    let name = format!("hls/{key}");
    let missing = match File::open(recording.folder.path(&name)) {
        Err(why) if why.kind() == ErrorKind::NotFound => why,
        opened => return opened.map(Segment::File),
    };
    let runtime = recording
        .shared
        .stores
        .as_ref()
        .map(|stores| stores.runtime.clone());
    match recording.blob(&name).zip(runtime) {
        Some((blob, runtime)) => Ok(Segment::Blob(blob.into_file(runtime))),
        None => Err(missing),
    }
}

impl Read for Segment {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(out),
            Self::Blob(file) => file.read(out),
        }
    }
}

impl Seek for Segment {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Blob(file) => file.seek(to),
        }
    }
}
