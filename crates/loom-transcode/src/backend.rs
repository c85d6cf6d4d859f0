//! What every backend offers: a feed to push live media into, and the outputs of a running plan.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use loom_core::{
    CodecParameters, Media, MediaTime, Packet, PcmFrame, Picture, RenditionId, TrackFormat, TrackId,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::error::TranscodeError;
use crate::limits;
use crate::plan::Plan;
use crate::sound::Loudness;

/// Runs plans: `GstBackend` and [`DummyBackend`](crate::DummyBackend).
pub trait Backend: fmt::Debug + Send + Sync {
    /// Runs `plan` on live tracks of these formats, as [`SourceShape::from_formats`](crate::SourceShape::from_formats)
    /// read them for the plan. Formats pushed later replace these.
    ///
    /// # Errors
    /// Where the plan is not for a live source, names a track that `formats` has not, or its graph does not start.
    fn live(&self, plan: &Plan, formats: &[TrackFormat]) -> Result<(Feed, Outputs), TranscodeError>;

    /// Runs `plan` on a whole file, as fast as its outputs are taken.
    ///
    /// # Errors
    /// Where the plan is for a live source, the file cannot be opened, or its graph does not start.
    fn file(&self, plan: &Plan, path: &Path) -> Result<Outputs, TranscodeError>;

    /// Processor time that the pictures of all live runs of this process have taken so far; what a thread took between the last call and its end is
    /// not in it. `None` where that cannot be known.
    fn live_time(&self) -> Option<Duration> {
        None
    }
}

/// Something that a running plan made.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// A rendition begins or changes its format. Comes before its first packet.
    Format {
        /// The rendition.
        rendition: RenditionId,
        /// How to decode it from here on.
        codec: CodecParameters,
    },
    /// A packet of a rendition, in decode order.
    Packet {
        /// The rendition.
        rendition: RenditionId,
        /// The packet. Its track is the source's.
        packet: Packet,
    },
    /// Live: a picture of a rendition was left out, and what it shows stands on past `at`. Comes behind the packets of all
    /// pictures before, so that whoever cuts parts need not wait for the next one.
    Still {
        /// The rendition.
        rendition: RenditionId,
        /// The time of the picture that was left out.
        at: MediaTime,
    },
    /// Sound for captions: 16 kHz mono, without holes.
    Pcm(PcmFrame),
    /// How loud the sound was from its beginning to its end, once, where the plan measures it and there was any. It is that of what is encoded,
    /// or else of what came.
    Loudness(Loudness),
    /// The poster, once.
    Poster(Picture),
    /// A small picture, as RGB: what is shown from its time on. Those of one run are in order.
    Thumbnail(Picture),
    /// How far a file has come.
    Progress {
        /// About everything before it is done.
        done: MediaTime,
        /// How long the file is.
        total: Option<Duration>,
    },
    /// Live: encoders are behind, and a rendition is shed, the lowest first: it shows only the pictures that start segments. It is told again every
    /// ten seconds while any is shed. Or it is encoded in full again.
    Overload {
        /// The rendition that was shed last, or comes back.
        rendition: RenditionId,
        /// Whether it is shed; else it comes back.
        shed: bool,
    },
    /// Something went wrong that the run survives, in words.
    Warning(String),
    /// A rendition (`None`: something that is no rendition, such as the PCM) comes no further. The others go on.
    Failed {
        /// The rendition.
        rendition: Option<RenditionId>,
        /// Why, in words.
        reason: String,
    },
    /// What became of the pictures of an encoded rendition, at its end.
    Counted(PictureCount),
    /// Everything is out. Nothing follows.
    End,
}

/// What became of every decoded picture for one rendition: those that were encoded, and those that were left out and
/// why. Where a run came to its end, `decoded` is the sum of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureCount {
    /// The rendition.
    pub rendition: RenditionId,
    /// Pictures that came out of the decoder.
    pub decoded: u64,
    /// Pictures that were encoded.
    pub encoded: u64,
    /// Pictures that show what the one before them shows.
    pub still: u64,
    /// Pictures that the encoder was too late for.
    pub late: u64,
    /// Pictures between the failure of an element and the next segment.
    pub missed: u64,
}

/// Takes live media. Dropping it is finishing it.
#[must_use = "dropping it is finishing it"]
pub struct Feed {
    port: Box<dyn FeedPort>,
    finished: bool,
}

impl Feed {
    pub(crate) fn new(port: Box<dyn FeedPort>) -> Self {
        Self {
            port,
            finished: false,
        }
    }

    /// Takes one item. Never waits: kept renditions go straight to [`Outputs`]; where encoders are behind, pictures
    /// of the lowest rungs are dropped first.
    pub fn push(&mut self, media: Media) {
        self.port.push(media);
    }

    /// Nothing more comes. What was pushed is encoded to its end, then [`Output::End`] is given.
    pub fn finish(mut self) {
        self.close();
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            self.port.finish();
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a running plan makes. Dropping it stops the run and ends its threads, without waiting until they have ended.
#[must_use = "dropping it stops the run"]
pub struct Outputs {
    kept: mpsc::Receiver<Output>,
    encoded: mpsc::Receiver<Event>,
    kept_open: bool,
    /// Graphs that have not ended.
    running: usize,
    ended: bool,
    run: Option<Box<dyn Send>>,
}

impl Outputs {
    pub(crate) fn new(
        kept: mpsc::Receiver<Output>,
        encoded: mpsc::Receiver<Event>,
        running: usize,
        run: Box<dyn Send>,
    ) -> Self {
        Self {
            kept,
            encoded,
            kept_open: true,
            running,
            ended: false,
            run: Some(run),
        }
    }

    /// The next output; `None` after [`Output::End`]. Cancellation safe: no output is lost.
    pub async fn recv(&mut self) -> Option<Output> {
        while self.kept_open || self.running > 0 {
            // Kept packets go first: they wait for nothing.
            tokio::select! {
                biased;
                kept = self.kept.recv(), if self.kept_open => match kept {
                    Some(output) => return Some(output),
                    None => self.kept_open = false,
                },
                event = self.encoded.recv(), if self.running > 0 => match event {
                    Some(Event::Output(output)) => return Some(output),
                    Some(Event::GraphEnded) => self.running -= 1,
                    None => self.running = 0,
                },
            }
        }
        (!std::mem::replace(&mut self.ended, true)).then_some(Output::End)
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        // senders that wait wake up before the run is stopped
        self.kept.close();
        self.encoded.close();
        if let Some(run) = self.run.take() {
            drop_aside(run);
        }
    }
}

/// Drops what stops a graph when it is dropped, on a thread of its own: a graph stops when the last of its threads has come to an end, and
/// who drops it may be one of the few threads that serve everybody.
pub(crate) fn drop_aside(run: Box<dyn Send>) {
    let stop = std::thread::Builder::new().name("loom-stop".to_owned());
    if let Err(why) = stop.spawn(move || drop(run)) {
        tracing::warn!(%why, "no thread to stop a graph on; it was stopped here");
    }
}

/// What travels from a graph to [`Outputs`].
#[derive(Debug)]
pub(crate) enum Event {
    Output(Output),
    GraphEnded,
}

/// The inside of a [`Feed`].
pub(crate) trait FeedPort: Send {
    fn push(&mut self, media: Media);
    fn finish(&mut self);
}

/// The one track that is kept as it came under a rendition's name, on its way round every graph.
pub(crate) struct KeptTrack {
    rendition: RenditionId,
    format: Option<CodecParameters>,
    out: mpsc::Sender<Output>,
    /// Whether to wait where the consumer is behind (files), or to give up (live).
    waits: bool,
    open: bool,
}

impl KeptTrack {
    pub(crate) fn new(rendition: RenditionId, out: mpsc::Sender<Output>, waits: bool) -> Self {
        Self {
            rendition,
            format: None,
            out,
            waits,
            open: true,
        }
    }

    pub(crate) fn handle_format(&mut self, codec: &CodecParameters) {
        if self.format.as_ref() != Some(codec) {
            self.format = Some(codec.clone());
            let rendition = self.rendition.clone();
            self.send(Output::Format {
                rendition,
                codec: codec.clone(),
            });
        }
    }

    pub(crate) fn handle_packet(&mut self, packet: Packet) {
        let rendition = self.rendition.clone();
        self.send(Output::Packet { rendition, packet });
    }

    #[cfg(feature = "gst")]
    pub(crate) fn rendition(&self) -> &RenditionId {
        &self.rendition
    }

    /// Ends the rendition, and says why.
    #[cfg(feature = "gst")]
    pub(crate) fn fail(&mut self, reason: String) {
        let rendition = Some(self.rendition.clone());
        self.send(Output::Failed { rendition, reason });
        self.open = false;
    }

    fn send(&mut self, output: Output) {
        if !self.open {
            return;
        }
        if self.waits {
            self.open = self.out.blocking_send(output).is_ok();
            return;
        }
        // One place is left for the last word.
        if self.out.capacity() > 1 {
            self.open = self.out.try_send(output).is_ok();
        } else {
            self.open = false;
            let _ = self.out.try_send(Output::Failed {
                rendition: Some(self.rendition.clone()),
                reason: format!("its packets are not taken: {} of them wait", limits::KEPT_QUEUE),
            });
        }
    }
}

/// Which of the tracks a live run is for plays which part.
pub(crate) struct TrackRoles {
    pub(crate) video: Option<TrackFormat>,
    pub(crate) audio: Option<TrackFormat>,
}

impl TrackRoles {
    /// The first track of each kind that the plan has work for.
    pub(crate) fn assign(plan: &Plan, formats: &[TrackFormat]) -> Result<Self, TranscodeError> {
        if !plan.live {
            return Err(TranscodeError::Mismatch(
                "it is for a file, not for live tracks".to_owned(),
            ));
        }
        let first = |wanted: bool, is_video: bool, name: &str| {
            let found = formats
                .iter()
                .find(|it| matches!(it.codec, CodecParameters::Video(_)) == is_video);
            match found {
                None if wanted => Err(TranscodeError::Mismatch(format!(
                    "it has {name}, the tracks have none"
                ))),
                found => Ok(found.filter(|_| wanted).cloned()),
            }
        };
        Ok(Self {
            video: first(plan.video.is_some(), true, "video")?,
            audio: first(plan.audio.is_some(), false, "audio")?,
        })
    }

    pub(crate) fn is_video(&self, track: TrackId) -> bool {
        self.video.as_ref().is_some_and(|it| it.track == track)
    }

    pub(crate) fn is_audio(&self, track: TrackId) -> bool {
        self.audio.as_ref().is_some_and(|it| it.track == track)
    }
}
