//! A file's pictures in pieces that are encoded apart: in parallel, on other machines, or after a restart only those that are missing.
//!
//! A chunk begins at a key frame of the source and ends before another. What it needs is all in its request, so that who encodes it need
//! not have the file.

#[cfg(any(test, feature = "gst"))]
mod cut;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use loom_core::{MediaTime, Packet, RenditionId};

use crate::backend::Output;
use crate::error::TranscodeError;
use crate::plan::VideoPlan;

#[cfg(feature = "gst")]
pub(crate) use cut::{Cut, Cutter};

/// One chunk to encode.
///
/// Its bytes ([`to_bytes`](Self::to_bytes)) are the same wherever they are made of the same file and plan, so that their checksum names what
/// is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkRequest {
    /// Its place among the chunks of the file, from 0.
    pub number: u32,
    /// How it is decoded and encoded. Key frames of all rungs lie where [`VideoPlan::keys`] says, and at the first picture.
    pub plan: VideoPlan,
    /// The times of its pictures. What else is decoded is not encoded: pictures of the next chunk, without which some of this one's cannot be.
    pub shown: Range<MediaTime>,
    /// What goes into the decoder, in that order; first a format.
    pub items: Vec<ChunkItem>,
}

/// Something that goes into a decoder.
#[derive(Debug, Clone, PartialEq)]
pub enum ChunkItem {
    /// What the packets from here on are, as GStreamer writes its caps.
    Format(String),
    /// A packet, as the file has it.
    Packet(Packet),
}

/// What was made of a [`ChunkRequest`]: formats and packets of its rungs, the poster and thumbnails, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chunk {
    /// They.
    pub outputs: Vec<Output>,
}

/// What a [`ChunkWorker`] gives in the end: a chunk, or in words why there is none. Whoever drops it does not want the chunk any more.
pub type ChunkFuture = Pin<Box<dyn Future<Output = Result<Chunk, String>> + Send>>;

/// Encodes chunks: `GstBackend` here, or a host's own, which sends them to other machines.
///
/// A worker that hands requests on as bytes, and gets chunks as bytes:
///
/// ```
/// use std::sync::Arc;
/// use loom_transcode::{Chunk, ChunkFuture, ChunkRequest, ChunkWorker};
///
/// #[derive(Debug)]
/// struct Farm;
///
/// # async fn send(_: Vec<u8>) -> Result<Vec<u8>, String> { Err("nobody is there".to_owned()) }
/// impl ChunkWorker for Farm {
///     fn encode(&self, request: Arc<ChunkRequest>) -> ChunkFuture {
///         Box::pin(async move {
///             let made = send(request.to_bytes()).await?; // there: ChunkRequest::from_bytes, GstBackend::encode, Chunk::to_bytes
///             Chunk::from_bytes(&made).map_err(|why| why.to_string())
///         })
///     }
/// }
/// ```
pub trait ChunkWorker: fmt::Debug + Send + Sync {
    /// Encodes one chunk. Several are asked for at once.
    ///
    /// Where the plan's elements are not those of the machine that runs it, its fallbacks are; all chunks of a file should be encoded alike,
    /// for where parameter sets change, players are told of a discontinuity.
    fn encode(&self, request: Arc<ChunkRequest>) -> ChunkFuture;
}

impl ChunkRequest {
    /// The packets that go into the decoder.
    pub fn packets(&self) -> impl Iterator<Item = &Packet> {
        self.items.iter().filter_map(|item| match item {
            ChunkItem::Packet(packet) => Some(packet),
            ChunkItem::Format(_) => None,
        })
    }
}

impl Chunk {
    /// Whether it can be what was asked for: only rungs of the plan, each beginning with a format and a key frame, their pictures in order and
    /// of the times asked for, and key frames of all rungs at the same instants.
    ///
    /// # Errors
    /// [`TranscodeError::Chunk`], with what is wrong.
    pub fn check(&self, request: &ChunkRequest) -> Result<(), TranscodeError> {
        let wrong = |what: String| Err(TranscodeError::Chunk(what));
        let mut rungs: BTreeMap<&RenditionId, Rung> = BTreeMap::new();
        for rung in &request.plan.rungs {
            rungs.insert(&rung.id, Rung::default());
        }
        for output in &self.outputs {
            let (id, packet) = match output {
                Output::Format { rendition, .. } => (rendition, None),
                Output::Packet { rendition, packet } => (rendition, Some(packet)),
                _ => continue,
            };
            let Some(rung) = rungs.get_mut(id) else {
                return wrong(format!("{id} was not asked for"));
            };
            let Some(packet) = packet else {
                rung.has_format = true;
                continue;
            };
            if !rung.has_format || (rung.last.is_none() && !packet.key) {
                return wrong(format!("{id} begins without a format or without a key frame"));
            }
            if !request.shown.contains(&packet.pts) || rung.last.is_some_and(|last| packet.pts <= last) {
                return wrong(format!("{id} has a picture of {} out of its turn", packet.pts));
            }
            rung.last = Some(packet.pts);
            if packet.key {
                rung.keys.push(packet.pts);
            }
        }
        let mut rungs = rungs.into_iter();
        let Some((first, like)) = rungs.next() else {
            return Ok(());
        };
        match rungs.find(|(_, rung)| rung.keys != like.keys) {
            Some((id, _)) => wrong(format!("{id} has key frames at other instants than {first}")),
            None => Ok(()),
        }
    }
}

#[derive(Default)]
struct Rung {
    has_format: bool,
    last: Option<MediaTime>,
    keys: Vec<MediaTime>,
}

#[cfg(test)]
mod tests;
