//! The body of an answer: bytes that others share, a file a piece at a time, or a segment while it is made.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream};
use http_body::{Frame, SizeHint};
use loom_core::RenditionId;
use loom_hls::Growth;
use tokio::time::{Instant, timeout_at};

use super::Asked;
use crate::recording::Inner;
use crate::store::Blob;

/// The body of an answer. It holds at most one part, 128 KiB of a file or 1 MiB of what comes from a store, however slowly it is read.
pub struct HlsBody(Kind);

enum Kind {
    Bytes(Bytes),
    Pieces {
        pieces: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
        /// Where that is known.
        left: Option<u64>,
        over: bool,
    },
}

/// A file, or a stretch of it.
#[derive(Debug)]
pub(super) struct Stretch {
    source: Source,
    left: u64,
}

#[derive(Debug)]
enum Source {
    File(File),
    /// A file in the store, from there on.
    Blob(Blob, u64),
}

impl HlsBody {
    pub(super) fn empty() -> Self {
        Self(Kind::Bytes(Bytes::new()))
    }

    /// A stretch of a file, `first` being what was read of it already.
    pub(super) fn stretch(first: Bytes, rest: Stretch) -> Self {
        if rest.left == 0 {
            return Self::from(first);
        }
        let left = Some(first.len() as u64 + rest.left);
        let pieces = stream::unfold((Some(first), Some(rest)), |(first, rest)| async {
            if let Some(first) = first {
                return Some((Ok(first), (None, rest)));
            }
            let rest = rest.filter(|rest| rest.left > 0)?;
            match rest.next().await {
                Ok((data, rest)) => Some((Ok(data), (None, Some(rest)))),
                Err(why) => Some((Err(why), (None, None))),
            }
        });
        Self(Kind::Pieces {
            pieces: Box::pin(pieces),
            left,
            over: false,
        })
    }

    /// A segment that is still being made, from `offset` on, up to and without `end` or to its own end. Where the rest does
    /// not come in time, the body breaks off with an error, so that nobody takes it for whole.
    pub(super) fn growing(
        recording: Arc<Inner>,
        rendition: RenditionId,
        segment: u64,
        offset: u64,
        end: u64,
    ) -> Self {
        let growing = Growing {
            recording,
            rendition,
            segment,
            offset,
            end,
            began: Instant::now(),
        };
        let pieces = stream::unfold(Some(growing), |growing| async {
            let mut growing = growing?;
            match growing.next().await {
                Ok(data) if data.is_empty() => None,
                Ok(data) => Some((Ok(data), Some(growing))),
                Err(why) => Some((Err(why), None)),
            }
        });
        Self(Kind::Pieces {
            pieces: Box::pin(pieces),
            left: None,
            over: false,
        })
    }

    /// All of it at once.
    pub(super) async fn collect(self) -> io::Result<Bytes> {
        use futures::StreamExt;
        match self.0 {
            Kind::Bytes(data) => Ok(data),
            Kind::Pieces { mut pieces, .. } => {
                let mut all = Vec::new();
                while let Some(piece) = pieces.next().await {
                    all.extend_from_slice(&piece?);
                }
                Ok(all.into())
            }
        }
    }
}

impl Stretch {
    /// Opens `len` bytes of a file from `offset`, or all that follow, and reads the first of them. Blocks.
    pub(super) fn open(mut file: File, offset: u64, len: u64) -> io::Result<(Bytes, Self)> {
        if offset > 0 {
            file.seek(SeekFrom::Start(offset))?;
        }
        let (first, left) = read(&mut file, len)?;
        let source = Source::File(file);
        Ok((first, Self { source, left }))
    }

    /// As [`Self::open`], of a file in the store.
    pub(super) async fn fetch(blob: Blob, offset: u64, len: u64) -> io::Result<(Bytes, Self)> {
        let source = Source::Blob(blob, offset);
        Self { source, left: len }.next().await
    }

    async fn next(self) -> io::Result<(Bytes, Self)> {
        let left = self.left;
        match self.source {
            Source::File(mut file) => tokio::task::spawn_blocking(move || {
                let (data, left) = read(&mut file, left)?;
                let source = Source::File(file);
                Ok((data, Self { source, left }))
            })
            .await
            .unwrap_or_else(|why| Err(io::Error::other(why))),
            Source::Blob(blob, at) => {
                let data = blob.read(at, left).await?;
                let len = data.len() as u64;
                let source = Source::Blob(blob, at + len);
                let left = left.checked_sub(len).filter(|_| len > 0 || left == 0);
                let left = left.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
                Ok((data, Self { source, left }))
            }
        }
    }
}

/// Reads the next of `left` bytes; with them how many are left then.
fn read(file: &mut File, left: u64) -> io::Result<(Bytes, u64)> {
    let want = left.min(READ as u64);
    let mut data = Vec::with_capacity(want as usize);
    file.take(want).read_to_end(&mut data)?;
    if (data.len() as u64) < want {
        return Err(io::Error::new(
            ErrorKind::UnexpectedEof,
            "the file became shorter",
        ));
    }
    Ok((data.into(), left - want))
}

struct Growing {
    recording: Arc<Inner>,
    rendition: RenditionId,
    segment: u64,
    offset: u64,
    end: u64,
    began: Instant,
}

impl Growing {
    /// The next bytes; none at the end.
    async fn next(&mut self) -> io::Result<Bytes> {
        while self.offset < self.end {
            let asked = self
                .recording
                .live
                .growth(&self.rendition, self.segment, self.offset);
            let mut data = match asked {
                Asked::Answer(Growth::Bytes(data)) => data,
                Asked::Answer(Growth::Stored { key, offset, len }) => self.read(key, offset, len).await?,
                Asked::Answer(Growth::Rest { key, offset }) => self.read(key, offset, u64::MAX).await?,
                Asked::Wait(wait, bell) => {
                    if timeout_at(Instant::now() + wait.limit, bell.heard())
                        .await
                        .is_err()
                    {
                        return Err(io::Error::new(ErrorKind::TimedOut, "the segment does not go on"));
                    }
                    continue;
                }
                Asked::Gone => {
                    let key = format!("{}/s{}.m4s", self.rendition, self.segment);
                    self.read(key, self.offset, u64::MAX).await?
                }
                Asked::Answer(_) => Bytes::new(),
            };
            let room = self.end - self.offset;
            if data.len() as u64 > room {
                data.truncate(room as usize);
            }
            self.offset += data.len() as u64;
            return Ok(data);
        }
        Ok(Bytes::new())
    }

    /// Reads what has left memory since the client began: it is slow, and has [`SLOW`] to come to an end.
    async fn read(&self, key: String, offset: u64, len: u64) -> io::Result<Bytes> {
        if self.began.elapsed() > SLOW {
            return Err(io::Error::new(ErrorKind::TimedOut, "the client is too slow"));
        }
        let recording = self.recording.clone();
        let read = move || {
            recording
                .folder
                .read(&format!("hls/{key}"), offset, Some(len.min(READ as u64)))
        };
        let data = tokio::task::spawn_blocking(read)
            .await
            .map_err(io::Error::other)?;
        let data = data.map_err(io::Error::other)?;
        data.ok_or_else(|| io::Error::new(ErrorKind::NotFound, "the segment was deleted"))
    }
}

impl http_body::Body for HlsBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Kind::Bytes(data) if data.is_empty() => Poll::Ready(None),
            Kind::Bytes(data) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(data))))),
            Kind::Pieces { pieces, left, over } => {
                if *over {
                    return Poll::Ready(None);
                }
                let piece = std::task::ready!(pieces.as_mut().poll_next(context));
                match &piece {
                    Some(Ok(data)) => *left = left.map(|left| left.saturating_sub(data.len() as u64)),
                    _ => *over = true,
                }
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Bytes(data) => data.is_empty(),
            Kind::Pieces { over, .. } => *over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Bytes(data) => SizeHint::with_exact(data.len() as u64),
            Kind::Pieces { left: Some(left), .. } => SizeHint::with_exact(*left),
            Kind::Pieces { .. } => SizeHint::default(),
        }
    }
}

impl From<Bytes> for HlsBody {
    fn from(data: Bytes) -> Self {
        Self(Kind::Bytes(data))
    }
}

impl fmt::Debug for HlsBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = http_body::Body::size_hint(self);
        f.debug_struct("HlsBody").field("left", &size.exact()).finish()
    }
}

/// How much of a file is read at a time.
pub(super) const READ: usize = 128 << 10;

/// How long a client may take over a segment after which its bytes are not read from disk for it any more.
const SLOW: Duration = Duration::from_secs(60);
