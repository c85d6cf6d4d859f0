//! A live run: kept tracks go round the graphs, the rest goes through them.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use gstreamer as gst;
use loom_core::{CodecParameters, Media, MediaTime, Packet, TrackFormat};
use tokio::sync::mpsc;

use super::audio::AudioGraph;
use super::codec_caps::{audio_caps, video_caps};
use super::element::{Outlet, Pace, graph_time};
use super::video::{VideoGraph, lock};
use crate::backend::{Event, Feed, FeedPort, KeptTrack, Output, Outputs, TrackRoles};
use crate::error::TranscodeError;
use crate::limits;
use crate::plan::{Plan, SourceVideoCodec};

/// Starts `plan` on live tracks.
pub(super) fn run(plan: &Plan, formats: &[TrackFormat]) -> Result<(Feed, Outputs), TranscodeError> {
    let roles = TrackRoles::assign(plan, formats)?;
    let (kept_sender, kept) = mpsc::channel(limits::KEPT_QUEUE);
    let (sender, encoded) = mpsc::channel(limits::ENCODED_QUEUE);
    let graphs = Arc::new(Mutex::new(Graphs::default()));
    let mut running = 0;
    let mut video_kept = None;
    let mut audio_kept = None;
    if let (Some(video), Some(format)) = (&plan.video, &roles.video) {
        if video.route.is_some() {
            let out = Outlet::new(sender.clone());
            lock(&graphs).video = Some(VideoGraph::start(video, format.track, Pace::Live, ALWAYS, out)?);
            running += 1;
        }
        video_kept = video
            .keep
            .clone()
            .map(|id| KeptTrack::new(id, kept_sender.clone(), false));
    }
    if let (Some(audio), Some(format)) = (&plan.audio, &roles.audio) {
        if audio.measured {
            let out = Outlet::new(sender.clone());
            lock(&graphs).audio = Some(AudioGraph::start(audio, format.track, Pace::Live, out)?);
            running += 1;
        }
        audio_kept = audio
            .keep
            .clone()
            .map(|id| KeptTrack::new(id, kept_sender.clone(), false));
    }
    let initial = [roles.video.clone(), roles.audio.clone()];
    let mut port = LivePort {
        codec: plan.video.as_ref().map(|it| it.source),
        frame_rate: plan.video.as_ref().map_or(30.0, |it| it.frame_rate),
        roles,
        graphs: graphs.clone(),
        video_kept,
        audio_kept,
        out: sender,
        skipping: false,
        is_foreign: false,
        skipped: 0,
        pictures_from: None,
        sound_to: None,
    };
    for format in initial.into_iter().flatten() {
        port.push(Media::Format(format));
    }
    drop(kept_sender);
    let stopper = StopsWhenDropped(graphs);
    Ok((
        Feed::new(Box::new(port)),
        Outputs::new(kept, encoded, running, Box::new(stopper)),
    ))
}

#[derive(Default)]
struct Graphs {
    video: Option<VideoGraph>,
    audio: Option<AudioGraph>,
}

/// Held by the outputs: without a consumer nothing goes on.
struct StopsWhenDropped(Arc<Mutex<Graphs>>);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        let Graphs { video, audio } = std::mem::take(&mut *lock(&self.0));
        if let Some(video) = video {
            video.stop();
        }
        if let Some(audio) = audio {
            audio.stop();
        }
    }
}

struct LivePort {
    codec: Option<SourceVideoCodec>,
    frame_rate: f64,
    roles: TrackRoles,
    graphs: Arc<Mutex<Graphs>>,
    video_kept: Option<KeptTrack>,
    audio_kept: Option<KeptTrack>,
    out: mpsc::Sender<Event>,
    /// The decoder is behind, or has had no key frame: packets are passed over up to the next one.
    skipping: bool,
    /// What comes is of another codec than the plan is for.
    is_foreign: bool,
    skipped: u64,
    pictures_from: Option<MediaTime>,
    /// Where the sound that was pushed ends.
    sound_to: Option<MediaTime>,
}

impl FeedPort for LivePort {
    fn push(&mut self, media: Media) {
        match media {
            Media::Format(format) => self.handle_format(format),
            Media::Packet(packet) if self.roles.is_video(packet.track) => self.handle_video(packet),
            Media::Packet(packet) if self.roles.is_audio(packet.track) => self.handle_audio(packet),
            Media::End(track) => {
                let graphs = lock(&self.graphs);
                if self.roles.is_video(track)
                    && let Some(video) = &graphs.video
                {
                    video.finish();
                }
                if self.roles.is_audio(track)
                    && let Some(audio) = &graphs.audio
                {
                    audio.finish();
                }
            }
            // Decoders conceal what they can; the line of samples fills the rest.
            Media::Packet(_) | Media::Gap(_) => {}
        }
    }

    fn finish(&mut self) {
        let graphs = lock(&self.graphs);
        if let Some(video) = &graphs.video {
            video.finish();
        }
        if let Some(audio) = &graphs.audio {
            audio.finish();
        }
        self.video_kept = None;
        self.audio_kept = None;
    }
}

impl LivePort {
    fn handle_format(&mut self, format: TrackFormat) {
        let graphs = lock(&self.graphs);
        match &format.codec {
            CodecParameters::Video(video) if self.roles.is_video(format.track) => {
                self.is_foreign = self.codec != Some(video.codec.into());
                if self.is_foreign {
                    let text = format!(
                        "video: the source became {:?}, which the plan is not for",
                        video.codec
                    );
                    let _ = self.out.try_send(Event::Output(Output::Warning(text)));
                    self.skipping = true;
                    return;
                }
                if let Some(graph) = &graphs.video {
                    graph.set_caps(&video_caps(video, self.frame_rate));
                }
                if let Some(kept) = &mut self.video_kept {
                    kept.handle_format(&format.codec);
                }
            }
            CodecParameters::Audio(audio) if self.roles.is_audio(format.track) => {
                if let Some(graph) = &graphs.audio {
                    graph.set_caps(&audio_caps(audio));
                }
                if let Some(kept) = &mut self.audio_kept {
                    kept.handle_format(&format.codec);
                }
            }
            _ => {}
        }
    }

    fn handle_video(&mut self, packet: Packet) {
        if self.codec.is_none() || self.is_foreign {
            return;
        }
        if let Some(kept) = &mut self.video_kept {
            kept.handle_packet(packet.clone());
        }
        let graphs = lock(&self.graphs);
        let from = *self.pictures_from.get_or_insert(packet.pts);
        if let Some(audio) = graphs.audio.as_ref().filter(|it| it.is_alive()) {
            audio.follow_pictures(from, packet.pts, self.sound_to);
        }
        if let Some(video) = graphs.video.as_ref().filter(|it| it.is_alive()) {
            let behind = video.is_behind();
            if behind && !self.skipping {
                self.skipping = true;
                let text = "video: decoding is late, packets are passed over up to a key frame".to_owned();
                let _ = self.out.try_send(Event::Output(Output::Warning(text)));
            }
            if packet.key && !behind {
                self.skipping = false;
            }
            if self.skipping {
                self.skipped += 1;
            } else if let Some(buffer) = buffer_of(&packet) {
                video.push(buffer, packet.key);
            }
        }
    }

    fn handle_audio(&mut self, packet: Packet) {
        let end = packet.pts + packet.duration.unwrap_or_default();
        self.sound_to = Some(self.sound_to.map_or(end, |to| to.max(end)));
        if let Some(kept) = &mut self.audio_kept {
            kept.handle_packet(packet.clone());
        }
        if let Some(audio) = lock(&self.graphs).audio.as_ref().filter(|it| it.is_alive())
            && let Some(buffer) = buffer_of(&packet)
        {
            audio.push(buffer);
        }
    }
}

/// A packet as a buffer that shares its bytes; `None` where its time is out of range.
pub(super) fn buffer_of(packet: &Packet) -> Option<gst::Buffer> {
    let mut buffer = gst::Buffer::from_slice(packet.data.clone());
    let inner = buffer.get_mut()?;
    inner.set_pts(graph_time(packet.pts)?);
    inner.set_dts(graph_time(packet.dts));
    if let Some(duration) = packet.duration {
        inner.set_duration(gst::ClockTime::try_from(duration).ok());
    }
    if !packet.key {
        inner.set_flags(gst::BufferFlags::DELTA_UNIT);
    }
    Some(buffer)
}

/// Live, every picture is shown.
const ALWAYS: Range<MediaTime> = MediaTime::from_nanos(i64::MIN)..MediaTime::from_nanos(i64::MAX);
