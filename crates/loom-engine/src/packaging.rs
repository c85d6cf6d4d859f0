//! The thread that owns one recording's packager: it writes what the packager makes to disk, then publishes it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::thread;

use loom_core::{CodecParameters, Cue, MediaTime, Packet, PcmFrame, Picture, RenditionId, Timescale};
use loom_hls::{HlsOutput, Packager, PublishKind, RenditionInfo, RenditionKind};
use loom_transcode::{PlannedRendition, RenditionShape};
use tokio::sync::{mpsc, oneshot};

use crate::error::EngineError;
use crate::event::{RenditionDescription, audio_name, codec_name, video_name};
use crate::recording::Inner;

/// Items that wait to be packaged; then the transcode graph's outputs wait, and it drops by its own stated order.
const WORK_QUEUE: usize = 512;

/// Hz of the speech spool.
pub(crate) const SPOOL_RATE: u32 = 16_000;

/// The spool's clock.
pub(crate) const SPOOL_SCALE: Timescale = match Timescale::new(SPOOL_RATE) {
    Some(scale) => scale,
    None => Timescale::OPUS,
};

/// One thing to package or to keep.
#[derive(Debug)]
pub(crate) enum Work {
    Format(RenditionId, CodecParameters),
    Packet(RenditionId, Packet),
    /// A planned rendition will not come.
    Drop(RenditionId),
    Cue(Cue),
    /// Speech is transcribed up to here.
    Heard(MediaTime),
    Poster(Picture),
    /// Speech to keep for the final transcript.
    Pcm(PcmFrame),
    /// All media is in; answered once the playlists are complete on disk.
    Finish(oneshot::Sender<Result<(), EngineError>>),
    /// The final captions.
    Captions(Vec<Cue>, oneshot::Sender<Result<(), EngineError>>),
}

/// The way to a recording's packager. The thread ends when the last of these is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Packaging {
    work: mpsc::Sender<Work>,
}

impl Packaging {
    /// `renditions` are all those planned: the multivariant playlist waits until each has its format.
    pub(crate) fn start(
        recording: Arc<Inner>,
        mut packager: Packager,
        renditions: Vec<RenditionInfo>,
    ) -> Result<Self, EngineError> {
        for rendition in renditions {
            packager.declare(rendition)?;
        }
        let (work, queue) = mpsc::channel(WORK_QUEUE);
        let spool = recording.folder.path("speech.pcm");
        let worker = Worker {
            spool: Spool::create(&spool)?,
            recording,
            packager,
        };
        thread::Builder::new()
            .name("loom-package".to_owned())
            .spawn(move || worker.run(queue))
            .map_err(EngineError::io("start a thread for", "packaging"))?;
        Ok(Self { work })
    }

    /// Waits for a place in the queue. `false` once packaging has failed and takes no more.
    pub(crate) async fn send(&self, work: Work) -> bool {
        self.work.send(work).await.is_ok()
    }

    /// As [`send`](Self::send), from a thread.
    pub(crate) fn send_blocking(&self, work: Work) {
        // A packager that failed has said so itself.
        let _ = self.work.blocking_send(work);
    }

    /// Completes all playlists.
    pub(crate) async fn finish(&self) -> Result<(), EngineError> {
        let (done, answer) = oneshot::channel();
        self.ask(Work::Finish(done), answer).await
    }

    /// Replaces the live captions by the final ones.
    pub(crate) async fn set_captions(&self, cues: Vec<Cue>) -> Result<(), EngineError> {
        let (done, answer) = oneshot::channel();
        self.ask(Work::Captions(cues, done), answer).await
    }

    async fn ask(
        &self,
        work: Work,
        answer: oneshot::Receiver<Result<(), EngineError>>,
    ) -> Result<(), EngineError> {
        let gone = || EngineError::NotReady("packaging has ended early; see the log".to_owned());
        if !self.send(work).await {
            return Err(gone());
        }
        answer.await.map_err(|_| gone())?
    }
}

struct Worker {
    recording: Arc<Inner>,
    packager: Packager,
    spool: Spool,
}

impl Worker {
    /// Ends when all senders are gone, or at the first error of the disk.
    fn run(mut self, mut queue: mpsc::Receiver<Work>) {
        while let Some(work) = queue.blocking_recv() {
            if let Err(why) = self.handle(work) {
                tracing::error!(recording = %self.recording.id, error = %why, "packaging ended");
                self.recording.update(|info| info.reason = Some(why.to_string()));
                self.recording.stop.send_replace(true);
                return;
            }
        }
    }

    fn handle(&mut self, work: Work) -> Result<(), EngineError> {
        match work {
            Work::Format(rendition, codec) => {
                tracing::debug!(recording = %self.recording.id, %rendition, codec = codec_name(&codec), "format");
                let outcome = self.packager.handle_format(&rendition, codec);
                self.survive(outcome);
            }
            Work::Packet(rendition, packet) => {
                let end = packet.pts + packet.duration.unwrap_or_default();
                let outcome = self.packager.handle_packet(&rendition, packet);
                self.survive(outcome);
                self.recording.lengthen(end);
            }
            Work::Drop(rendition) => {
                let outcome = self.packager.drop_rendition(&rendition);
                self.survive(outcome);
            }
            Work::Cue(cue) => return self.after_end(|packager| packager.handle_cue(cue)),
            Work::Heard(at) => return self.after_end(|packager| packager.handle_cue_watermark(at)),
            Work::Poster(picture) => {
                return self.recording.folder.put("poster.jpg", &picture.data);
            }
            Work::Pcm(frame) => return self.spool.write(&frame),
            Work::Finish(done) => {
                let outcome = self.packager.finish().map_err(EngineError::from);
                let outcome = outcome.and(self.store()).and(self.spool.flush());
                let _ = done.send(outcome);
                return Ok(());
            }
            Work::Captions(cues, done) => {
                self.packager.replace_cues(&cues);
                let _ = done.send(self.store());
                return Ok(());
            }
        }
        self.store()
    }

    /// Keeps a playlist on disk as it is now, so that a killed process leaves something to finish from.
    fn keep(&self, playlist: Option<String>) -> Result<(), EngineError> {
        let Some(path) = playlist else { return Ok(()) };
        match self.recording.playlist(&path) {
            Some(text) => {
                self.recording.persist();
                self.recording.folder.put(&format!("hls/{path}"), &text)
            }
            None => Ok(()),
        }
    }

    /// Captions may come after the media has ended: then they are for the final transcript to tell.
    fn after_end(
        &mut self,
        take: impl FnOnce(&mut Packager) -> Result<(), loom_hls::HlsError>,
    ) -> Result<(), EngineError> {
        match take(&mut self.packager) {
            Err(loom_hls::HlsError::Finished) => return Ok(()),
            outcome => self.survive(outcome),
        }
        self.store()
    }

    /// One bad packet costs itself, not the recording.
    fn survive(&self, outcome: Result<(), loom_hls::HlsError>) {
        if let Err(why) = outcome {
            metrics::counter!("loom_packets_refused_total").increment(1);
            tracing::warn!(recording = %self.recording.id, error = %why, "a packet was left out");
        }
    }

    /// Each part is on disk before the playlist that lists it is published.
    fn store(&mut self) -> Result<(), EngineError> {
        while let Some(output) = self.packager.poll_output() {
            let folder = &self.recording.folder;
            match output {
                HlsOutput::Store { key, data } => folder.put(&format!("hls/{key}"), &data)?,
                HlsOutput::Append { key, data } => folder.append(&format!("hls/{key}"), &data)?,
                HlsOutput::Publish(publish) => {
                    let keep = match (publish.kind(), publish.rendition()) {
                        (PublishKind::Multivariant, _) => Some("main.m3u8".to_owned()),
                        (PublishKind::Segment, Some(rendition)) => Some(format!("{rendition}/index.m3u8")),
                        _ => None,
                    };
                    self.recording.publish(publish);
                    self.keep(keep)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Mono 16-bit samples at [`SPOOL_RATE`] on disk; the n-th sample is what is heard at n / rate.
struct Spool {
    path: std::path::PathBuf,
    file: BufWriter<File>,
    written: i64,
}

/// A gap longer than this in the sound is not filled but taken for a broken clock.
const LONGEST_SILENCE: i64 = 3_600 * SPOOL_RATE as i64;

impl Spool {
    fn create(path: &std::path::Path) -> Result<Self, EngineError> {
        let file = File::create(path).map_err(EngineError::io("create", path))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            written: 0,
        })
    }

    fn write(&mut self, frame: &PcmFrame) -> Result<(), EngineError> {
        let ahead = frame.pts.ticks(SPOOL_SCALE) - self.written;
        // A few samples of jitter between frames are rounding; more is a gap or an overlap.
        let jitter = i64::from(SPOOL_RATE) / 200;
        let silence = if (jitter..LONGEST_SILENCE).contains(&ahead) {
            ahead
        } else {
            0
        };
        let skip = if ahead < -jitter { (-ahead) as usize } else { 0 };
        let samples = frame.samples.get(skip..).unwrap_or_default();
        let mut write = || -> std::io::Result<()> {
            for _ in 0..silence {
                self.file.write_all(&[0, 0])?;
            }
            for sample in samples {
                let sample = (sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)) as i16;
                self.file.write_all(&sample.to_le_bytes())?;
            }
            Ok(())
        };
        write().map_err(EngineError::io("append to", &self.path))?;
        self.written += silence + samples.len() as i64;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.file
            .flush()
            .map_err(EngineError::io("append to", &self.path))
    }
}

/// What the packager must know of a planned rendition.
pub(crate) fn describe(planned: &PlannedRendition) -> RenditionInfo {
    let kind = match planned.shape {
        RenditionShape::Video {
            width,
            height,
            frame_rate,
            ..
        } => RenditionKind::Video {
            width,
            height,
            frame_rate,
        },
        RenditionShape::Audio { channels, codec, .. } => RenditionKind::Audio {
            name: audio_name(codec).to_owned(),
            language: None,
            channels,
        },
    };
    RenditionInfo {
        id: planned.id.clone(),
        kind,
        bandwidth: planned.bitrate,
    }
}

/// What the API tells of a planned rendition.
pub(crate) fn told(planned: &PlannedRendition) -> RenditionDescription {
    let (codec, size) = match planned.shape {
        RenditionShape::Video {
            codec, width, height, ..
        } => (video_name(codec), Some((width, height))),
        RenditionShape::Audio { codec, .. } => (audio_name(codec), None),
    };
    RenditionDescription {
        id: planned.id.clone(),
        kind: planned.kind(),
        codec: codec.to_owned(),
        width: size.map(|s| s.0),
        height: size.map(|s| s.1),
        bandwidth: planned.bitrate,
    }
}
