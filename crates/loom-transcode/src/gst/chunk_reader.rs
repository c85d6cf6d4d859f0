//! A file's pictures as requests for chunks, and what is kept of them as it came.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;
use loom_core::codec::h264::{AccessUnit, nal_type, nal_unit_type, sample_nals};
use loom_core::{CodecParameters, Media, MediaTime, Packet, RenditionId, TrackFormat};
use tokio::sync::mpsc;

use super::codec_caps::{h264_parameters, video_caps};
use super::compose::{Composed, compose};
use super::element::app_sink;
use super::file::{VIDEO_TRACK, time_in};
use super::reader::{StreamKind, open_stream, reader};
use super::video::{lock, with_rate};
use super::watch::{Ending, Running};
use crate::apart::ReadApart;
use crate::backend::Output;
use crate::capability::Capabilities;
use crate::chunk::{ChunkRequest, Cut, Cutter};
use crate::composition::Composition;
use crate::error::TranscodeError;
use crate::limits;
use crate::plan::{Plan, SourceVideoCodec, VideoPlan};

/// One chunk of a file's pictures.
#[derive(Debug, Clone)]
pub struct SourceChunk {
    /// What is to be encoded.
    pub request: Arc<ChunkRequest>,
    /// The rendition that is the source as it came, where the plan has it: its formats and packets, or why it comes no further.
    pub kept: Vec<Output>,
}

/// The chunks of a file, as they are read. Dropping it stops the reading.
#[must_use = "dropping it stops the reading"]
pub struct SourceChunks(From);

enum From {
    Here {
        // Goes first when dropped, so that a reader that waits wakes up before it is stopped.
        chunks: mpsc::Receiver<Result<SourceChunk, String>>,
        /// `None`: a thread of its own ends with whom it sends to.
        _reading: Option<Running>,
    },
    Apart(ReadApart),
}

impl SourceChunks {
    pub(crate) fn apart(reading: ReadApart) -> Self {
        Self(From::Apart(reading))
    }

    /// The next chunk, or in words why some of the file cannot be read; `None` at its end. Cancellation safe.
    pub async fn recv(&mut self) -> Option<Result<SourceChunk, String>> {
        match &mut self.0 {
            From::Here { chunks, .. } => chunks.recv().await,
            From::Apart(reading) => reading.next().await,
        }
    }
}

/// Reads the pictures of the file at `path` as chunks: each begins at a key frame, and ends at the first one that is `least` further on.
/// One waits to be taken, another is read meanwhile; nothing else is held. The plan's sound is for a run of its own.
///
/// # Errors
/// Where the plan encodes no pictures, or the file cannot be opened.
pub fn read_chunks(plan: &Plan, path: &Path, least: Duration) -> Result<SourceChunks, TranscodeError> {
    super::start()?;
    let Some(video) = plan.video.clone().filter(|it| !it.rungs.is_empty()) else {
        return Err(TranscodeError::Mismatch("it encodes no pictures".to_owned()));
    };
    let (pipeline, parser) = reader(path)?;
    let (sender, chunks) = mpsc::channel(1);
    let source = video.source;
    let lane = Arc::new(Mutex::new(Lane::new(video, least, sender.clone())));
    let (weak, lanes, wanted) = (pipeline.downgrade(), lane.clone(), AtomicBool::new(true));
    parser.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        let kind = StreamKind::of(pad);
        let is_ours = kind == Some(StreamKind::Video(source)) && wanted.swap(false, Ordering::Relaxed);
        let lane = is_ours.then(|| lanes.clone());
        // A stream that nobody wants still has to flow somewhere.
        let handle =
            move |sample: &gst::Sample| lane.as_ref().map_or(Ok(()), |it| lock(it).handle_sample(sample));
        if let Err(why) = open_stream(&pipeline, pad, kind, &app_sink(None, handle, || ())) {
            tracing::warn!("a stream of the file cannot be read: {why}");
        }
    });
    let reading = Running::start(
        "reader",
        pipeline,
        |text| tracing::warn!("file: {text}"),
        move |ending| {
            if matches!(ending, Ending::Stopped) {
                return;
            }
            // What came before the file broke is used.
            lock(&lane).finish();
            if let Ending::Failed { reason, .. } = ending {
                let _ = sender.blocking_send(Err(format!("the file is read no further: {reason}")));
            }
        },
    )?;
    Ok(SourceChunks(From::Here {
        chunks,
        _reading: Some(reading),
    }))
}

/// The chunks of composed pictures, as [`read_chunks`] gives those of a file: of H.264, that `plan` keeps, and that its rungs are made of.
/// They are composed, as [`compose`] does that, on a thread of its own, as far as they are taken.
///
/// # Errors
/// Where the plan has no pictures, or the thread cannot be started; what is wrong else comes in a chunk's place.
pub fn compose_chunks(
    can: &Capabilities,
    composition: &Composition,
    wanted: Composed,
    (plan, least): (&Plan, Duration),
    screen: impl Iterator<Item = io::Result<Media>> + Send + 'static,
    camera: impl Iterator<Item = io::Result<Media>> + Send + 'static,
) -> Result<SourceChunks, TranscodeError> {
    let Some(video) = plan.video.clone() else {
        return Err(TranscodeError::Mismatch("it has no pictures".to_owned()));
    };
    let (sender, chunks) = mpsc::channel(1);
    let mut lane = Lane::new(video, least, sender.clone());
    let (can, composition) = (can.clone(), composition.clone());
    let work = move || {
        let made = compose(&can, &composition, wanted, screen, camera, |media| {
            lane.handle_media(media)
        });
        match made {
            Ok(_) => lane.finish(),
            Err(why) => drop(sender.blocking_send(Err(why.to_string()))),
        }
    };
    let thread = std::thread::Builder::new().name("loom-compose".to_owned());
    thread.spawn(work).map_err(|source| TranscodeError::Packets {
        what: "pictures",
        source,
    })?;
    Ok(SourceChunks(From::Here {
        chunks,
        _reading: None,
    }))
}

struct Lane {
    plan: VideoPlan,
    kept: Kept,
    cutter: Cutter,
    caps: Option<gst::Caps>,
    number: u32,
    /// `None` once all is read: the graph outlives that.
    sender: Option<mpsc::Sender<Result<SourceChunk, String>>>,
}

/// What is kept as it came, up to the packet that was read last.
struct Kept {
    id: Option<RenditionId>,
    outputs: Vec<Output>,
}

impl Lane {
    fn new(plan: VideoPlan, least: Duration, sender: mpsc::Sender<Result<SourceChunk, String>>) -> Self {
        Self {
            kept: Kept {
                id: plan.keep.clone(),
                outputs: Vec::new(),
            },
            plan,
            cutter: Cutter::new(least),
            caps: None,
            number: 0,
            sender: Some(sender),
        }
    }

    /// Takes H.264 as it is kept.
    fn handle_media(&mut self, media: Media) -> io::Result<()> {
        let kept = self.kept.id.clone();
        match media {
            Media::Format(TrackFormat { codec, .. }) => {
                if let CodecParameters::Video(video) = &codec {
                    self.cutter
                        .handle_format(video_caps(video, self.plan.frame_rate).to_string());
                }
                let outputs = &mut self.kept.outputs;
                outputs.extend(kept.map(|rendition| Output::Format { rendition, codec }));
                Ok(())
            }
            Media::Packet(packet) => {
                let own = |rendition| Output::Packet {
                    rendition,
                    packet: packet.clone(),
                };
                let kept = kept.map(own);
                let taken = self.take(packet, kept);
                taken.map_err(|_| io::ErrorKind::Interrupted.into())
            }
            _ => Ok(()),
        }
    }

    fn handle_sample(&mut self, sample: &gst::Sample) -> Result<(), gst::FlowError> {
        let (Some(buffer), Some(caps)) = (sample.buffer(), sample.caps_owned()) else {
            return Ok(());
        };
        if self.caps.as_ref() != Some(&caps) {
            self.kept.handle_format(&caps);
            let format = with_rate(&caps, self.plan.frame_rate).to_string();
            self.cutter.handle_format(format);
            self.caps = Some(caps);
        }
        let Some(pts) = time_in(sample, buffer.pts()) else {
            return Ok(());
        };
        let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
        let flagged = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let packet = Packet {
            track: VIDEO_TRACK,
            pts,
            dts: time_in(sample, buffer.dts()).unwrap_or(pts).min(pts),
            duration: buffer.duration().map(Into::into),
            key: flagged && (self.plan.source != SourceVideoCodec::H264 || is_idr(&map)),
            data: bytes::Bytes::copy_from_slice(&map),
        };
        let kept = self.kept.packet(&packet);
        self.take(packet, kept)
    }

    /// Takes a packet, and as what it is kept. Whoever makes them ends at once where nobody takes the chunks any more.
    fn take(&mut self, packet: Packet, kept: Option<Output>) -> Result<(), gst::FlowError> {
        if self.sender.as_ref().is_none_or(mpsc::Sender::is_closed) {
            return Err(gst::FlowError::Eos);
        }
        if let Some(cut) = self.cutter.handle_packet(packet) {
            self.send(cut)?;
        }
        self.kept.outputs.extend(kept);
        if self.cutter.held() > limits::CHUNK_BYTES + limits::GROUP_BYTES {
            let _ = self.tell(Err("it has too few key frames to be read in chunks".to_owned()));
            return Err(gst::FlowError::Eos);
        }
        Ok(())
    }

    fn finish(&mut self) {
        let last: Vec<Cut> = self.cutter.finish().collect();
        for cut in last {
            let _ = self.send(cut);
        }
        self.sender = None;
    }

    fn tell(&self, what: Result<SourceChunk, String>) -> Result<(), gst::FlowError> {
        let sender = self.sender.as_ref().ok_or(gst::FlowError::Eos)?;
        sender.blocking_send(what).map_err(|_| gst::FlowError::Eos)
    }

    fn send(&mut self, cut: Cut) -> Result<(), gst::FlowError> {
        let number = self.number;
        self.number += 1;
        let mut request = ChunkRequest {
            number,
            plan: VideoPlan {
                poster: self.plan.poster && number == 0,
                ..self.plan.clone()
            },
            shown: cut.shown,
            items: cut.items,
        };
        let pictures = request
            .packets()
            .filter(|it| request.shown.contains(&it.pts))
            .count();
        request.plan.frames = Some(pictures as u64);
        let chunk = SourceChunk {
            kept: self.kept.before(request.shown.end),
            request: Arc::new(request),
        };
        self.tell(Ok(chunk))
    }
}

impl Kept {
    fn handle_format(&mut self, caps: &gst::Caps) {
        let Some(rendition) = self.id.clone() else { return };
        match h264_parameters(caps) {
            Ok(codec) => self.outputs.push(Output::Format { rendition, codec }),
            Err(why) => self.fail(why.to_string()),
        }
    }

    /// A packet as it is kept; `None` where none is.
    fn packet(&mut self, packet: &Packet) -> Option<Output> {
        let rendition = self.id.clone()?;
        match sample_nals(&packet.data) {
            Ok(nals) => {
                let unit = AccessUnit::from_nals(nals);
                let packet = Packet {
                    key: unit.key,
                    data: unit.sample,
                    ..packet.clone()
                };
                Some(Output::Packet { rendition, packet })
            }
            Err(why) => {
                self.fail(why.to_string());
                None
            }
        }
    }

    fn fail(&mut self, reason: String) {
        let rendition = self.id.take();
        self.outputs.push(Output::Failed { rendition, reason });
    }

    /// All up to the first packet that is shown at `end` or later: it begins the next chunk.
    fn before(&mut self, end: MediaTime) -> Vec<Output> {
        let is_next =
            |it: &Output| matches!(it, Output::Packet { packet, .. } if packet.key && packet.pts >= end);
        let at = self
            .outputs
            .iter()
            .position(is_next)
            .unwrap_or(self.outputs.len());
        let rest = self.outputs.split_off(at);
        std::mem::replace(&mut self.outputs, rest)
    }
}

fn is_idr(data: &[u8]) -> bool {
    sample_nals(data).is_ok_and(|nals| {
        nals.into_iter()
            .any(|nal| nal_unit_type(nal) == Some(nal_type::IDR))
    })
}

impl std::fmt::Debug for SourceChunks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceChunks").finish_non_exhaustive()
    }
}
