//! One chunk through a picture graph of its own.

use std::str::FromStr;
use std::sync::Arc;

use gstreamer as gst;
use tokio::sync::mpsc;

use super::element::{Outlet, Pace};
use super::file::VIDEO_TRACK;
use super::live::buffer_of;
use super::video::VideoGraph;
use crate::backend::{Event, Output};
use crate::chunk::{Chunk, ChunkItem, ChunkRequest};
use crate::error::TranscodeError;
use crate::limits;

/// Encodes a chunk. Dropped before its end, it ends its graph.
pub(super) async fn encode(request: &Arc<ChunkRequest>) -> Result<Chunk, TranscodeError> {
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
    let mut run = Run {
        outputs,
        graph: StopsWhenDropped(graph),
    };
    let mut chunk = Chunk::default();
    let mut failed = None;
    while let Some(Event::Output(output)) = run.outputs.recv().await {
        match output {
            Output::Failed { reason, .. } => failed = Some(reason),
            output => chunk.outputs.push(output),
        }
    }
    match failed {
        // A stretch of the file that is damaged has no pictures: that is what was to be made of it.
        Some(why) if run.graph.0.pictures() == 0 => chunk.outputs.push(Output::Warning(why)),
        Some(why) => return Err(TranscodeError::Chunk(why)),
        None => {}
    }
    Ok(chunk)
}

struct Run {
    // Goes first when dropped, so that encoders which wait for room wake up before the graph is stopped.
    outputs: mpsc::Receiver<Event>,
    graph: StopsWhenDropped,
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
