//! A run on a file: a reader graph gives packets to the same two graphs that live media goes to, and waits for them.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;
use loom_core::codec::aac::FRAME_LENGTH;
use loom_core::codec::h264::{AccessUnit, sample_nals};
use loom_core::codec::opus;
use loom_core::{MediaTime, Packet, RenditionId, TrackId};
use tokio::sync::mpsc;

use super::audio::AudioGraph;
use super::codec_caps::{aac_parameters, h264_parameters, opus_parameters};
use super::element::{Outlet, Pace, app_sink, graph_time, running_nanos};
use super::reader::{StreamKind, open_stream, reader};
use super::video::{VideoGraph, lock, with_rate};
use super::watch::{Ending, Running};
use crate::backend::{Event, KeptTrack, Output, Outputs};
use crate::error::TranscodeError;
use crate::limits;
use crate::plan::{AudioPlan, Plan, SourceAudioCodec, VideoPlan};

/// Starts `plan` on the file at `path`.
pub(super) fn run(plan: &Plan, path: &Path) -> Result<Outputs, TranscodeError> {
    if plan.live {
        return Err(TranscodeError::Mismatch(
            "it is for live tracks, not for a file".to_owned(),
        ));
    }
    let (kept_sender, kept) = mpsc::channel(limits::ENCODED_QUEUE);
    let (sender, encoded) = mpsc::channel(limits::ENCODED_QUEUE);
    let mut running = 1;
    let keep = |id: &Option<RenditionId>| {
        let track = id.clone().map(|id| KeptTrack::new(id, kept_sender.clone(), true));
        Arc::new(Mutex::new(track))
    };
    let (mut video, mut audio) = (None, None);
    if let Some(it) = &plan.video {
        let graph = match &it.route {
            Some(_) => {
                running += 1;
                let out = Outlet::new(sender.clone());
                Some(Arc::new(VideoGraph::start(
                    it,
                    VIDEO_TRACK,
                    Pace::File,
                    SHOWN,
                    out,
                )?))
            }
            None => None,
        };
        video = Some(VideoLane {
            plan: it.clone(),
            graph,
            kept: keep(&it.keep),
        });
    }
    if let Some(it) = &plan.audio {
        let graph = if it.measured {
            running += 1;
            let out = Outlet::new(sender.clone());
            Some(Arc::new(AudioGraph::start(it, AUDIO_TRACK, Pace::File, out)?))
        } else {
            None
        };
        audio = Some(AudioLane {
            plan: it.clone(),
            graph,
            kept: keep(&it.keep),
        });
    }
    drop(kept_sender);
    let run = FileRun {
        video: video.as_ref().and_then(|it| it.graph.clone()),
        audio: audio.as_ref().and_then(|it| it.graph.clone()),
        kept: [
            video.as_ref().map(|it| it.kept.clone()),
            audio.as_ref().map(|it| it.kept.clone()),
        ],
    };
    let reading = start_reader(path, plan.duration, video, audio, run.clone(), sender)?;
    Ok(Outputs::new(
        kept,
        encoded,
        running,
        Box::new(StopsWhenDropped { run, reading }),
    ))
}

/// The parts of a run that its threads share.
#[derive(Clone)]
struct FileRun {
    video: Option<Arc<VideoGraph>>,
    audio: Option<Arc<AudioGraph>>,
    kept: [Option<Arc<Mutex<Option<KeptTrack>>>>; 2],
}

impl FileRun {
    /// Nothing more is read.
    fn finish(&self) {
        if let Some(video) = &self.video {
            video.finish();
        }
        if let Some(audio) = &self.audio {
            audio.finish();
        }
        for kept in self.kept.iter().flatten() {
            *lock(kept) = None;
        }
    }
}

/// Held by the outputs: without a consumer nothing goes on.
struct StopsWhenDropped {
    run: FileRun,
    reading: Running,
}

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        // The graphs first: the reader may wait for them.
        if let Some(video) = &self.run.video {
            video.stop();
        }
        if let Some(audio) = &self.run.audio {
            audio.stop();
        }
        self.reading.stop();
    }
}

struct VideoLane {
    plan: VideoPlan,
    graph: Option<Arc<VideoGraph>>,
    kept: Arc<Mutex<Option<KeptTrack>>>,
}

struct AudioLane {
    plan: AudioPlan,
    graph: Option<Arc<AudioGraph>>,
    kept: Arc<Mutex<Option<KeptTrack>>>,
}

fn start_reader(
    path: &Path,
    total: Option<Duration>,
    video: Option<VideoLane>,
    audio: Option<AudioLane>,
    run: FileRun,
    sender: mpsc::Sender<Event>,
) -> Result<Running, TranscodeError> {
    let (pipeline, parser) = reader(path)?;
    let progress = Arc::new(Progress {
        total,
        sender: sender.clone(),
        said: Mutex::new(None),
    });
    let packets = Arc::new(AtomicU64::new(0));
    let lanes = Mutex::new((video, audio));
    let (weak, counted, told) = (pipeline.downgrade(), packets.clone(), Outlet::new(sender.clone()));
    parser.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        let mut lanes = lock(&lanes);
        let kind = StreamKind::of(pad);
        let sink = match kind {
            Some(StreamKind::Video(codec)) if lanes.0.as_ref().is_some_and(|it| it.plan.source == codec) => {
                lanes.0.take().map(|lane| {
                    let (progress, packets) = (progress.clone(), counted.clone());
                    let mut caps = None;
                    app_sink(
                        None,
                        move |sample| {
                            packets.fetch_add(1, Ordering::Relaxed);
                            lane.handle_sample(sample, &mut caps, &progress)
                        },
                        || (),
                    )
                })
            }
            Some(StreamKind::Audio(codec)) if lanes.1.as_ref().is_some_and(|it| it.plan.source == codec) => {
                lanes.1.take().map(|lane| {
                    let (progress, packets) = (progress.clone(), counted.clone());
                    let mut caps = None;
                    app_sink(
                        None,
                        move |sample| {
                            packets.fetch_add(1, Ordering::Relaxed);
                            lane.handle_sample(sample, &mut caps, &progress)
                        },
                        || (),
                    )
                })
            }
            _ => None,
        };
        // A stream that nobody wants still has to flow somewhere.
        let sink = sink.unwrap_or_else(|| app_sink(None, |_| Ok(()), || ()));
        if let Err(why) = open_stream(&pipeline, pad, kind, &sink) {
            told.warn(format!("a stream of the file cannot be read: {why}"));
        }
    });
    let out = Outlet::new(sender);
    let warn = out.clone();
    let failing: Vec<RenditionId> = run
        .kept
        .iter()
        .flatten()
        .filter_map(|kept| lock(kept).as_ref().map(|it| it.rendition().clone()))
        .collect();
    Running::start(
        "reader",
        pipeline,
        move |text| warn.warn(format!("file: {text}")),
        move |ending| {
            if let Ending::Failed { reason, .. } = ending {
                out.warn(format!("the file is read no further: {reason}"));
                if packets.load(Ordering::Relaxed) == 0 {
                    for id in failing {
                        out.fail(Some(id), reason.clone());
                    }
                }
            }
            run.finish();
            out.end();
        },
    )
}

impl VideoLane {
    fn handle_sample(
        &self,
        sample: &gst::Sample,
        caps: &mut Option<gst::Caps>,
        progress: &Progress,
    ) -> Result<(), gst::FlowError> {
        let (Some(buffer), Some(new)) = (sample.buffer_owned(), sample.caps_owned()) else {
            return Ok(());
        };
        if caps.as_ref() != Some(&new) {
            if let Some(graph) = &self.graph {
                graph.set_caps(&with_rate(&new, self.plan.frame_rate));
            }
            if let Some(kept) = &mut *lock(&self.kept) {
                match h264_parameters(&new) {
                    Ok(codec) => kept.handle_format(&codec),
                    Err(why) => kept.fail(why.to_string()),
                }
            }
            *caps = Some(new);
        }
        let Some(pts) = time_in(sample, buffer.pts()) else {
            return Ok(());
        };
        let dts = time_in(sample, buffer.dts()).unwrap_or(pts).min(pts);
        progress.handle(pts);
        let mut key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if let Some(kept) = &mut *lock(&self.kept) {
            let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
            match sample_nals(&map) {
                Ok(nals) => {
                    let unit = AccessUnit::from_nals(nals);
                    key = unit.key;
                    kept.handle_packet(Packet {
                        track: VIDEO_TRACK,
                        pts,
                        dts,
                        duration: buffer.duration().map(Into::into),
                        key,
                        data: unit.sample,
                    });
                }
                Err(why) => kept.fail(why.to_string()),
            }
        }
        if let Some(graph) = self.graph.as_ref().filter(|it| it.is_alive())
            && let Some(buffer) = retimed(buffer, pts, dts)
        {
            graph.push(buffer, key);
        }
        Ok(())
    }
}

impl AudioLane {
    fn handle_sample(
        &self,
        sample: &gst::Sample,
        caps: &mut Option<gst::Caps>,
        progress: &Progress,
    ) -> Result<(), gst::FlowError> {
        let (Some(buffer), Some(new)) = (sample.buffer_owned(), sample.caps_owned()) else {
            return Ok(());
        };
        if caps.as_ref() != Some(&new) {
            if let Some(graph) = &self.graph {
                graph.set_caps(&new);
            }
            if let Some(kept) = &mut *lock(&self.kept) {
                match self.plan.source {
                    SourceAudioCodec::Opus => kept.handle_format(&opus_parameters(&new)),
                    _ => match aac_parameters(&new) {
                        Ok(codec) => kept.handle_format(&codec),
                        Err(why) => kept.fail(why.to_string()),
                    },
                }
            }
            *caps = Some(new);
        }
        let Some(pts) = time_in(sample, buffer.pts()) else {
            // A header packet, which the caps hold already.
            return Ok(());
        };
        progress.handle(pts);
        // What an edit list puts before zero is an encoder's priming.
        if pts >= MediaTime::ZERO
            && let Some(kept) = &mut *lock(&self.kept)
        {
            let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
            let rate = caps
                .as_ref()
                .and_then(|it| it.structure(0)?.get::<i32>("rate").ok())
                .unwrap_or(48_000);
            let duration = match self.plan.source {
                SourceAudioCodec::Opus => opus::packet_duration(&map).ok(),
                _ => Some(Duration::from_nanos(
                    u64::from(FRAME_LENGTH) * 1_000_000_000 / rate.max(1) as u64,
                )),
            };
            kept.handle_packet(Packet {
                track: AUDIO_TRACK,
                pts,
                dts: pts,
                duration,
                key: true,
                data: bytes::Bytes::copy_from_slice(&map),
            });
        }
        if let Some(graph) = self.graph.as_ref().filter(|it| it.is_alive())
            && let Some(buffer) = retimed(buffer, pts, pts)
        {
            graph.push(buffer);
        }
        Ok(())
    }
}

/// Tells how far the reader is, which is a few dozen packets ahead of the encoders.
struct Progress {
    total: Option<Duration>,
    sender: mpsc::Sender<Event>,
    said: Mutex<Option<MediaTime>>,
}

impl Progress {
    fn handle(&self, done: MediaTime) {
        let mut said = lock(&self.said);
        if said.is_none_or(|said| done.signed_since(said) >= PROGRESS_NANOS) {
            *said = Some(done);
            let total = self.total;
            // Whoever is busy can do without.
            let _ = self
                .sender
                .try_send(Event::Output(Output::Progress { done, total }));
        }
    }
}

pub(super) fn time_in(sample: &gst::Sample, at: Option<gst::ClockTime>) -> Option<MediaTime> {
    running_nanos(sample.segment()?, at?).map(MediaTime::from_nanos)
}

/// The buffer with a graph's times.
pub(super) fn retimed(mut buffer: gst::Buffer, pts: MediaTime, dts: MediaTime) -> Option<gst::Buffer> {
    let inner = buffer.make_mut();
    inner.set_pts(graph_time(pts)?);
    inner.set_dts(graph_time(dts));
    Some(buffer)
}

/// Before its zero a file has only what an edit list hides.
const SHOWN: Range<MediaTime> = MediaTime::ZERO..MediaTime::from_nanos(i64::MAX);
/// A file's tracks, as its packets name them.
pub(super) const VIDEO_TRACK: TrackId = TrackId(0);
const AUDIO_TRACK: TrackId = TrackId(1);
const PROGRESS_NANOS: i64 = 500_000_000;
