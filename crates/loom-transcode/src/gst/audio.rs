//! The graph for sound: decoded once, laid on an unbroken line of samples, given as PCM as it is, and conditioned, measured and encoded to AAC.

use std::sync::{Arc, Mutex, OnceLock};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use loom_core::codec::aac::FRAME_LENGTH;
use loom_core::{MediaTime, Packet, PcmFrame, RenditionId, Timescale, TrackId};

use super::codec_caps::aac_parameters;
use super::element::{
    Outlet, Pace, app_sink, capsfilter, chain, graph_time, make, media_time, set_if_possible,
};
use super::video::{app_src, lock};
use super::watch::{Ending, Running};
use crate::backend::Output;
use crate::error::TranscodeError;
use crate::limits;
use crate::plan::{AAC_RATE, AudioPlan};
use crate::sound::SoundConditioner;
use crate::timeline::{Placement, SampleTimeline};

/// A running sound graph.
pub(super) struct AudioGraph {
    running: Running,
    input: gst_app::AppSrc,
    line: Arc<Mutex<SoundLine>>,
    /// What gives the unbroken line to the encoder and to the captions.
    givers: Vec<gst_app::AppSrc>,
    /// Where the decoder can make up for lost packets.
    losses: Option<Mutex<Losses>>,
}

/// Finds the packets that are missing before one that comes, by their times.
#[derive(Debug, Default)]
struct Losses {
    /// Where the last packet ends.
    end: Option<gst::ClockTime>,
    /// The last packet has been let out of the decoder, which otherwise holds it until the next one comes.
    drained: bool,
}

/// The unbroken line of samples between decoder and encoders.
struct SoundLine {
    timeline: SampleTimeline,
    channels: usize,
    /// Where it goes as it is.
    speech: Option<gst_app::AppSrc>,
    /// Where it goes conditioned.
    aac: Option<gst_app::AppSrc>,
    conditioner: SoundConditioner,
    /// The tick of the first sample, for whoever counts from it.
    start: Arc<OnceLock<i64>>,
    /// Samples a channel that the conditioner has given.
    given: i64,
    /// A little more than one second of zeros, shared by every buffer of silence.
    silence: gst::Memory,
    out: Outlet,
}

impl AudioGraph {
    /// Builds and starts the graph. Its outputs, and at last its end, go to `out`.
    pub(super) fn start(
        plan: &AudioPlan,
        track: TrackId,
        pace: Pace,
        out: Outlet,
    ) -> Result<Self, TranscodeError> {
        let pipeline = gst::Pipeline::new();
        let raw = raw_caps(AAC_RATE, plan.channels);
        let giver = |wanted: bool, name: &str| {
            let giver = wanted.then(|| app_src(pace, name));
            giver.inspect(|it| it.set_caps(Some(&raw)))
        };
        let aac_giver = giver(plan.encoder.is_some(), "aac");
        let speech_giver = giver(plan.pcm, "speech");
        let givers: Vec<gst_app::AppSrc> = aac_giver.iter().chain(&speech_giver).cloned().collect();
        let start = Arc::new(OnceLock::new());
        let channels = usize::from(plan.channels.max(1));
        let line = Arc::new(Mutex::new(SoundLine {
            timeline: match pace {
                Pace::Live => SampleTimeline::new(Timescale::OPUS),
                Pace::File => SampleTimeline::starting_at(MediaTime::ZERO, Timescale::OPUS),
            },
            channels,
            speech: speech_giver.clone(),
            aac: aac_giver.clone(),
            conditioner: SoundConditioner::new(plan)?,
            start: start.clone(),
            given: 0,
            silence: gst::Memory::from_slice(vec![0u8; 2 * AAC_RATE as usize * channels * 4]),
            out: out.clone(),
        }));

        let conceals = pace == Pace::Live && plan.decoder.as_deref() == Some("opusdec");
        let input = app_src(pace, "sound");
        let mut head = vec![input.clone().upcast::<gst::Element>()];
        if let Some(decoder) = &plan.decoder {
            let decoder = make(decoder)?;
            set_if_possible(&decoder, "max-errors", "-1");
            if conceals {
                // A lost packet is in part repeated in the one after it (RFC 6716 §2.1.7).
                set_if_possible(&decoder, "plc", "true");
                set_if_possible(&decoder, "use-inband-fec", "true");
            }
            head.push(decoder);
        }
        head.extend([make("audioconvert")?, make("audioresample")?, capsfilter(&raw)?]);
        let decoded = {
            let (line, ended) = (line.clone(), line.clone());
            app_sink(
                None,
                move |sample| lock(&line).handle_sample(sample),
                move || lock(&ended).finish(),
            )
        };
        head.push(decoded.upcast());
        chain(GRAPH, &pipeline, &head.iter().collect::<Vec<_>>())?;

        let aac = RenditionId::new("aac").filter(|_| plan.encoder.is_some());
        if let (Some(factory), Some(id), Some(giver)) = (&plan.encoder, &aac, &aac_giver) {
            let encoder = make(factory)?;
            set_if_possible(&encoder, "bitrate", &plan.bitrate.to_string());
            let raw_aac = gst::Caps::builder("audio/mpeg")
                .field("mpegversion", 4i32)
                .field("stream-format", "raw")
                .build();
            let mut writer = AacWriter {
                id: id.clone(),
                track,
                priming: priming(factory),
                start: start.clone(),
                out: out.clone(),
                frames: 0,
                format_sent: false,
            };
            let sink = app_sink(Some(&raw_aac), move |sample| writer.handle_sample(sample), || ());
            let convert = make("audioconvert")?;
            chain(
                GRAPH,
                &pipeline,
                &[giver.upcast_ref(), &convert, &encoder, sink.upcast_ref()],
            )?;
        }
        if let Some(giver) = &speech_giver {
            let speech = raw_caps(SPEECH_RATE, 1);
            let out = out.clone();
            let sink = app_sink(Some(&speech), move |sample| send_pcm(sample, &out), || ());
            let (convert, resample) = (make("audioconvert")?, make("audioresample")?);
            chain(
                GRAPH,
                &pipeline,
                &[giver.upcast_ref(), &convert, &resample, sink.upcast_ref()],
            )?;
        }
        let warn = out.clone();
        let pcm = plan.pcm;
        let running = Running::start(
            GRAPH,
            pipeline,
            move |text| warn.warn(format!("audio: {text}")),
            move |ending| {
                if let Ending::Failed { reason, .. } = ending {
                    if let Some(id) = aac {
                        out.fail(Some(id), reason.clone());
                    }
                    if pcm {
                        out.fail(None, format!("no sound for captions: {reason}"));
                    }
                }
                out.end();
            },
        )?;
        Ok(Self {
            running,
            input,
            line,
            givers,
            losses: conceals.then(Mutex::default),
        })
    }

    /// Whether it still takes input.
    pub(super) fn is_alive(&self) -> bool {
        self.running.is_alive()
    }

    /// Packets from here on are of this format.
    pub(super) fn set_caps(&self, caps: &gst::Caps) {
        self.input.set_caps(Some(caps));
    }

    /// Gives one packet to the decoder. For a file it waits while the graph is behind.
    pub(super) fn push(&self, buffer: gst::Buffer) {
        if self.input.current_level_buffers() >= limits::DECODE_QUEUE_PACKETS && !self.input.is_block() {
            // Sound is decoded hundreds of times faster than it comes: this is a graph that stands still.
            return;
        }
        if let Some(losses) = &self.losses {
            for (from, duration) in lock(losses).handle_packet(&buffer) {
                self.push_gap(from, duration);
            }
        }
        let _ = self.input.push_buffer(buffer);
    }

    /// Has the decoder make sound of what is not there.
    fn push_gap(&self, from: gst::ClockTime, duration: gst::ClockTime) {
        let gap = gst::event::Gap::builder(from).duration(duration).build();
        let _ = self.input.send_event(gap);
    }

    /// Lets the decoder give the last packet, which it holds until it knows whether the next one is lost.
    fn drain(&self) {
        let drained = self.losses.as_ref().and_then(|losses| lock(losses).drain());
        if let Some(end) = drained {
            self.push_gap(end, PACKET);
        }
    }

    /// The pictures have come to `pictures`, having begun at `from`, and the sound that was pushed to `sound`: where it
    /// has not come near, it is taken to be silent, so that its renditions keep pace.
    pub(super) fn follow_pictures(&self, from: MediaTime, pictures: MediaTime, sound: Option<MediaTime>) {
        if pictures.since(sound.unwrap_or(from)) <= SILENCE_AFTER {
            return;
        }
        self.drain();
        let line = &mut *lock(&self.line);
        // What was pushed may still be in the decoder: silence must not take its place.
        let decoded = line.timeline.end();
        let caught_up = match (decoded, sound) {
            (Some(decoded), Some(sound)) => sound.since(decoded) < IN_DECODER,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        let until = pictures - SILENCE_BEHIND;
        if caught_up
            && pictures.since(decoded.unwrap_or(from)) > SILENCE_AFTER
            && let Some(placed) = line.timeline.handle_silence_until(from, until)
        {
            let _ = line.write(placed, &[]);
        }
    }

    /// No more packets come.
    pub(super) fn finish(&self) {
        self.drain();
        let _ = self.input.end_of_stream();
    }

    /// Ends it at once.
    pub(super) fn stop(&self) {
        // A sink of this graph waits for room in these, and no graph stops before its sinks do.
        for giver in &self.givers {
            let _ = giver.set_state(gst::State::Null);
        }
        self.running.stop();
    }
}

impl Drop for AudioGraph {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Losses {
    /// The times of the packets that are missing before this one. They are taken to be as long as it is.
    fn handle_packet(&mut self, packet: &gst::BufferRef) -> Vec<(gst::ClockTime, gst::ClockTime)> {
        self.drained = false;
        let (Some(pts), Some(duration)) = (packet.pts(), packet.duration().filter(|it| !it.is_zero())) else {
            self.end = None;
            return Vec::new();
        };
        let end = self.end.replace(pts + duration);
        let hole = end.and_then(|end| pts.checked_sub(end)).unwrap_or_default();
        if hole > CONCEALED {
            return Vec::new(); // longer, it would be a drone
        }
        let missing = (hole.nseconds() + duration.nseconds() / 2) / duration.nseconds();
        let times = (1..=missing)
            .rev()
            .map(|before| (pts - duration * before, duration));
        times.collect()
    }

    /// Where the last packet ends, once after each.
    fn drain(&mut self) -> Option<gst::ClockTime> {
        self.end.filter(|_| !std::mem::replace(&mut self.drained, true))
    }
}

impl SoundLine {
    fn handle_sample(&mut self, sample: &gst::Sample) -> Result<(), gst::FlowError> {
        let Some(buffer) = sample.buffer() else {
            return Ok(());
        };
        let Some(pts) = media_time(sample, buffer.pts()) else {
            return Ok(());
        };
        let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
        let frames = map.len() / (self.channels * 4);
        if frames == 0 {
            return Ok(());
        }
        let placed = self.timeline.handle_sound(pts, frames as u64);
        self.write(placed, &map)
    }

    /// Takes what was placed. `sound` is the whole stretch as bytes of native floats.
    fn write(&mut self, placed: Placement, sound: &[u8]) -> Result<(), gst::FlowError> {
        self.start.get_or_init(|| placed.at);
        let mut at = placed.at;
        let mut silence = placed.silence;
        while silence > 0 {
            let frames = silence.min(u64::from(AAC_RATE));
            self.take(at, vec![0.0; frames as usize * self.channels])?;
            at += frames as i64;
            silence -= frames;
        }
        if placed.take > 0 {
            let from = placed.skip as usize * self.channels * 4;
            let (samples, _) = sound.get(from..).unwrap_or_default().as_chunks::<4>();
            self.take(at, samples.iter().map(|it| f32::from_le_bytes(*it)).collect())?;
        }
        Ok(())
    }

    /// Gives samples that begin at a tick to the captions as they are, and to the encoder conditioned.
    fn take(&mut self, at: i64, samples: Vec<f32>) -> Result<(), gst::FlowError> {
        if let Some(speech) = &self.speech {
            self.push(speech, at, &samples)?;
        }
        let ready = self.conditioner.handle_samples(samples);
        self.give(&ready)
    }

    fn give(&mut self, ready: &[f32]) -> Result<(), gst::FlowError> {
        if let (Some(aac), Some(start)) = (&self.aac, self.start.get()) {
            self.push(aac, start + self.given, ready)?;
        }
        self.given += (ready.len() / self.channels) as i64;
        Ok(())
    }

    /// No more sound comes.
    fn finish(&mut self) {
        let last = self.conditioner.finish();
        let _ = self.give(&last);
        if let Some(loudness) = self.conditioner.loudness() {
            let _ = self.out.send(Output::Loudness(loudness));
        }
        for giver in self.aac.iter().chain(&self.speech) {
            let _ = giver.end_of_stream();
        }
    }

    fn push(&self, to: &gst_app::AppSrc, at: i64, samples: &[f32]) -> Result<(), gst::FlowError> {
        if samples.is_empty() {
            return Ok(());
        }
        if !to.is_block() && to.current_level_buffers() >= limits::SOUND_QUEUE {
            // Nobody takes what the encoder makes. The frames are counted, so what is left out here shifts the rest;
            // a run that stands still this long is over.
            return Err(gst::FlowError::Error);
        }
        let frames = (samples.len() / self.channels) as i64;
        let bytes = samples.len() * 4;
        let mut buffer = match samples.iter().all(|it| it.abs() < INAUDIBLE) && bytes <= self.silence.size() {
            true => gst::Buffer::new(),
            false => gst::Buffer::from_slice(
                samples
                    .iter()
                    .flat_map(|it| it.to_le_bytes())
                    .collect::<Vec<u8>>(),
            ),
        };
        let time = |tick: i64| graph_time(MediaTime::from_ticks(tick, Timescale::OPUS));
        let (pts, end) = (time(at), time(at + frames));
        if let Some(inner) = buffer.get_mut() {
            if inner.n_memory() == 0 {
                inner.append_memory(self.silence.share(..bytes));
            }
            inner.set_pts(pts);
            inner.set_duration(end.zip(pts).and_then(|(end, pts)| end.checked_sub(pts)));
        }
        to.push_buffer(buffer).map(|_| ())
    }
}

/// Turns the AAC encoder's samples into packets. Their times are counted, not read: frame n holds the samples from
/// 1024 n less the encoder's priming (ISO/IEC 14496-24 Annex B explains priming).
struct AacWriter {
    id: RenditionId,
    track: TrackId,
    priming: i64,
    start: Arc<OnceLock<i64>>,
    out: Outlet,
    frames: i64,
    format_sent: bool,
}

impl AacWriter {
    fn handle_sample(&mut self, sample: &gst::Sample) -> Result<(), gst::FlowError> {
        let (Some(buffer), Some(caps)) = (sample.buffer(), sample.caps()) else {
            return Ok(());
        };
        if !self.format_sent {
            let codec = aac_parameters(caps).map_err(|why| {
                self.out.warn(format!("aac: {why}"));
                gst::FlowError::Error
            })?;
            self.format_sent = true;
            self.out.send(Output::Format {
                rendition: self.id.clone(),
                codec,
            })?;
        }
        let start = *self.start.get().ok_or(gst::FlowError::Error)?;
        let tick = start + self.frames * i64::from(FRAME_LENGTH) - self.priming;
        self.frames += 1;
        // A frame of nothing but priming is for no one to hear.
        if tick + i64::from(FRAME_LENGTH) <= start {
            return Ok(());
        }
        let time = |tick: i64| MediaTime::from_ticks(tick, Timescale::OPUS);
        let pts = time(tick);
        let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
        self.out.send(Output::Packet {
            rendition: self.id.clone(),
            packet: Packet {
                track: self.track,
                pts,
                dts: pts,
                duration: Some(time(tick + i64::from(FRAME_LENGTH)).since(pts)),
                key: true,
                data: bytes::Bytes::copy_from_slice(&map),
            },
        })
    }
}

fn send_pcm(sample: &gst::Sample, out: &Outlet) -> Result<(), gst::FlowError> {
    let Some(buffer) = sample.buffer() else {
        return Ok(());
    };
    let Some(pts) = media_time(sample, buffer.pts()) else {
        return Ok(());
    };
    let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
    let samples = map
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        .collect();
    out.send(Output::Pcm(PcmFrame {
        pts,
        sample_rate: SPEECH_RATE,
        channels: 1,
        samples,
    }))
}

fn raw_caps(rate: u32, channels: u16) -> gst::Caps {
    gst::Caps::builder("audio/x-raw")
        .field("format", "F32LE")
        .field("layout", "interleaved")
        .field("rate", rate as i32)
        .field("channels", i32::from(channels))
        .build()
}

/// Samples that come out of an encoder and a decoder before those that went in: 1024 and 1600 as measured by an impulse
/// through each here, 2048 as fdk-aac documents for AAC-LC.
fn priming(factory: &str) -> i64 {
    match factory {
        "voaacenc" => 1600,
        "fdkaacenc" => 2048,
        _ => 1024,
    }
}

const GRAPH: &str = "audio";
/// Up to this much missing sound is made up by the decoder; RFC 6716 leaves it open how long that is bearable.
const CONCEALED: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// How much a publisher's packet usually holds.
const PACKET: gst::ClockTime = gst::ClockTime::from_mseconds(20);
const SPEECH_RATE: u32 = 16_000;
/// Samples below this are silence: half a step of 24 bits.
const INAUDIBLE: f32 = 1.0 / 16_777_216.0;
/// How far the pictures may be ahead of the sound before it is taken to be silent,
const SILENCE_AFTER: std::time::Duration = std::time::Duration::from_millis(1_000);
/// and how far behind them the silence then ends.
const SILENCE_BEHIND: std::time::Duration = std::time::Duration::from_millis(500);
/// The sound that a decoder may still hold when all that it was given has been decoded.
const IN_DECODER: std::time::Duration = std::time::Duration::from_millis(100);
