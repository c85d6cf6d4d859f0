//! One chunk through a picture graph of its own.

use std::str::FromStr;
use std::sync::Arc;

use gstreamer as gst;
use tokio::sync::mpsc;

use super::element::{Outlet, Pace};
use super::file::VIDEO_TRACK;
use super::live::buffer_of;
use super::video::VideoGraph;
use crate::backend::{Event, Output, drop_aside};
use crate::chunk::{Chunk, ChunkItem, ChunkRequest};
use crate::error::TranscodeError;
use crate::limits;

/// Encodes a chunk. Dropped before its end, it ends its graph.
pub(super) async fn encode(request: &Arc<ChunkRequest>) -> Result<Chunk, TranscodeError> {
    let mut encoding = Encoding::start(request).await?;
    let mut chunk = Chunk::default();
    while let Some(output) = encoding.next().await? {
        chunk.outputs.push(output);
    }
    Ok(chunk)
}

/// A chunk that is encoded. Dropping it ends its graph.
pub(crate) struct Encoding {
    outputs: mpsc::Receiver<Event>,
    graph: Arc<VideoGraph>,
    failed: Option<String>,
    /// Nothing more comes.
    over: bool,
}

impl Encoding {
    pub(crate) async fn start(request: &Arc<ChunkRequest>) -> Result<Self, TranscodeError> {
        let (sender, outputs) = mpsc::channel(limits::ENCODED_QUEUE);
        let asked = request.clone();
        let started = tokio::task::spawn_blocking(move || {
            let (plan, shown) = (&asked.plan, asked.shown.clone());
            let graph = VideoGraph::start(plan, VIDEO_TRACK, Pace::File, shown, Outlet::new(sender))?;
            let graph = Arc::new(graph);
            feed(asked, graph.clone())?;
            Ok::<_, TranscodeError>(graph)
        });
        let graph = started
            .await
            .map_err(|_| TranscodeError::Chunk("its graph did not start".to_owned()))??;
        Ok(Self {
            outputs,
            graph,
            failed: None,
            over: false,
        })
    }

    /// Pictures that are decoded so far.
    pub(crate) fn pictures(&self) -> u64 {
        self.graph.pictures()
    }

    /// The next that is made; `None` once all is. Cancellation safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Output>, TranscodeError> {
        while !self.over {
            let Some(Event::Output(output)) = self.outputs.recv().await else {
                self.over = true;
                break;
            };
            match output {
                Output::Failed { reason, .. } => self.failed = Some(reason),
                output => return Ok(Some(output)),
            }
        }
        match self.failed.take() {
            // A stretch of the file that is damaged has no pictures: that is what was to be made of it.
            Some(why) if self.pictures() == 0 => Ok(Some(Output::Warning(why))),
            Some(why) => Err(TranscodeError::Chunk(why)),
            None => Ok(None),
        }
    }
}

impl Drop for Encoding {
    fn drop(&mut self) {
        // encoders that wait for room wake up before the graph is stopped
        self.outputs.close();
        drop_aside(Box::new(StopsWhenDropped(self.graph.clone())));
    }
}

struct StopsWhenDropped(Arc<VideoGraph>);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Gives the decoder all that it is to have, on a thread: it waits for the graph.
fn feed(request: Arc<ChunkRequest>, graph: Arc<VideoGraph>) -> Result<(), TranscodeError> {
    let give = move || {
        for item in &request.items {
            match item {
                ChunkItem::Format(format) => match gst::Caps::from_str(format) {
                    Ok(caps) => graph.set_caps(&caps),
                    Err(why) => tracing::warn!(format, %why, "a chunk's format cannot be read"),
                },
                ChunkItem::Packet(packet) if graph.is_alive() => {
                    if let Some(buffer) = buffer_of(packet) {
                        graph.push(buffer, packet.key);
                    }
                }
                ChunkItem::Packet(_) => break,
            }
        }
        graph.finish();
    };
    let thread = std::thread::Builder::new().name("loom-chunk".to_owned());
    thread.spawn(give).map(drop).map_err(|why| TranscodeError::Graph {
        graph: "chunk",
        why: why.to_string(),
    })
}
