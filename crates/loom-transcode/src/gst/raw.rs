//! Raw pictures and sound of a host, encoded live as a publisher would: H.264 without reordering, and Opus.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use loom_core::{MediaTime, VideoCodec};

use super::element::{Pace, app_sink, capsfilter, chain, graph_time, make, media_time, set_if_possible};
use super::encoder::{Effort, encoder};
use super::video::{app_src, lock, pad};
use super::watch::Running;
use crate::capability::Capabilities;
use crate::device::{DeviceFamily, MemoryDomain};
use crate::elements::{self, Work};
use crate::error::TranscodeError;
use crate::i420::I420;
use crate::limits;
use crate::plan::{Preset, Stage, encoder_threads, usual_bitrate};

/// What an encoder gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// When it is shown or heard.
    pub pts: MediaTime,
    /// An H.264 access unit as a byte stream (ISO/IEC 14496-10 Annex B), its parameter sets before each IDR picture; or an Opus packet.
    pub data: Bytes,
}

/// Encodes raw pictures, live: one that comes while too many wait is dropped.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use loom_core::MediaTime;
/// use loom_transcode::{Capabilities, I420, PictureEncoder};
///
/// let units = Arc::new(Mutex::new(Vec::new()));
/// let taken = Arc::clone(&units);
/// let encoder = PictureEncoder::start(&Capabilities::probe()?, (64, 48), 25.0, Arc::default(), move |unit| {
///     taken.lock().expect("nobody panics").push(unit);
/// })?;
/// let (luma, chroma) = ([16; 64 * 48], [128; 32 * 24]); // black
/// let picture = I420 { planes: [&luma, &chroma, &chroma], strides: [64, 32, 32] };
/// for number in 0..5 {
///     encoder.push(MediaTime::from_millis(number * 40), &picture)?;
/// }
/// encoder.finish();
/// assert_eq!(units.lock().expect("nobody panics").len(), 5);
/// # Ok::<(), loom_transcode::TranscodeError>(())
/// ```
#[must_use = "dropping it ends it"]
pub struct PictureEncoder {
    graph: Graph,
    size: (u32, u32),
}

impl PictureEncoder {
    /// An encoder of pictures of this size, pixels, that come about so often, pictures a second. Whoever sets `wants_key` makes the next
    /// picture one that decoding can begin at. `out` gets each encoded one, on a thread of the encoder's; it may wait, and pictures are
    /// dropped then.
    ///
    /// # Errors
    /// Where the size or the rate is none, or nothing here encodes H.264.
    pub fn start(
        can: &Capabilities,
        (width, height): (u32, u32),
        frame_rate: f64,
        wants_key: Arc<AtomicBool>,
        out: impl FnMut(Encoded) + Send + 'static,
    ) -> Result<Self, TranscodeError> {
        let most = limits::MAX_DIMENSION;
        let sides = [width, height];
        if !sides
            .iter()
            .all(|side| (2..=most).contains(side) && side % 2 == 0)
        {
            return Err(TranscodeError::Mismatch(format!(
                "pictures of {width}x{height}: each side is even and 2 to {most} pixels"
            )));
        }
        if !(frame_rate > 0.0 && frame_rate <= 240.0) {
            return Err(TranscodeError::Mismatch(format!(
                "{frame_rate} pictures a second: it is above 0 and at most 240"
            )));
        }
        super::start()?;
        let effort = Effort {
            preset: Preset::Superfast,
            bitrate: usual_bitrate((width, height), frame_rate),
            threads: encoder_threads((width, height), can.cores),
        };
        let made = encoder(
            &chosen(can, Work::Encode(VideoCodec::H264), (width, height))?,
            VideoCodec::H264,
            effort,
            Pace::Live,
        )?;
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", width as i32)
            .field("height", height as i32)
            .field("framerate", super::codec_caps::fraction(frame_rate))
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .field("colorimetry", "bt709")
            .build();
        let stream = gst::Caps::builder("video/x-h264")
            .field("stream-format", "byte-stream")
            .field("alignment", "au")
            .build();
        if let Some(first) = made.first() {
            ask_in_time(first, move |_| wants_key.swap(false, Ordering::AcqRel))?;
        }
        let mut elements = vec![make("videoconvert")?];
        for element in made {
            // Some devices tell their parameter sets once; a parser repeats them.
            set_if_possible(&element, "config-interval", "-1");
            elements.push(element);
        }
        Ok(Self {
            graph: Graph::start("pictures", &caps, elements, &stream, out)?,
            size: (width, height),
        })
    }

    /// Takes a picture. `false`: too many wait, and it was dropped.
    ///
    /// # Errors
    /// Where the planes are shorter than the size asks for, or the encoder has failed.
    pub fn push(&self, pts: MediaTime, picture: &I420<'_>) -> Result<bool, TranscodeError> {
        if self.graph.input.current_level_buffers() >= u64::from(limits::ENCODE_QUEUE_LIVE) {
            return Ok(false);
        }
        self.graph.push(pts, picture.packed(self.size)?, None)?;
        Ok(true)
    }

    /// Nothing more comes: waits until the last is out, [`limits::RAW_FLUSH`] at most.
    pub fn finish(self) {
        self.graph.finish();
    }
}

/// Encodes raw sound as Opus, in packets of 20 ms.
///
/// ```
/// use std::sync::mpsc;
/// use loom_core::MediaTime;
/// use loom_transcode::SoundEncoder;
///
/// let (sender, packets) = mpsc::channel();
/// let encoder = SoundEncoder::start(48_000, 1, move |packet| drop(sender.send(packet)))?;
/// encoder.push(MediaTime::ZERO, &[0.0; 4_800])?; // 100 ms
/// encoder.finish();
/// assert!(packets.try_iter().count() >= 5);
/// # Ok::<(), loom_transcode::TranscodeError>(())
/// ```
#[must_use = "dropping it ends it"]
pub struct SoundEncoder {
    graph: Graph,
    rate: u32,
    channels: u16,
}

impl SoundEncoder {
    /// An encoder of sound at this rate, samples a second a channel. `out` gets each packet, on a thread of the encoder's.
    ///
    /// # Errors
    /// Where rate or channels are outside [`limits`], or no Opus encoder is installed.
    pub fn start(
        rate: u32,
        channels: u16,
        out: impl FnMut(Encoded) + Send + 'static,
    ) -> Result<Self, TranscodeError> {
        if !limits::SOUND_RATES.contains(&rate) || !(1..=limits::SOUND_CHANNELS).contains(&channels) {
            return Err(TranscodeError::Mismatch(format!(
                "sound of {channels} channels at {rate} Hz: 1 to {} channels at {} to {} Hz are taken",
                limits::SOUND_CHANNELS,
                limits::SOUND_RATES.start(),
                limits::SOUND_RATES.end()
            )));
        }
        super::start()?;
        let caps = gst::Caps::builder("audio/x-raw")
            .field("format", "F32LE")
            .field("layout", "interleaved")
            .field("rate", rate as i32)
            .field("channels", i32::from(channels))
            .build();
        let resampled = gst::Caps::builder("audio/x-raw")
            .field("rate", 48_000i32)
            .field("channels", i32::from(channels))
            .build();
        let opus = make("opusenc")?;
        set_if_possible(&opus, "bitrate", &(u32::from(channels) * 64_000).to_string());
        let elements = vec![
            make("audioconvert")?,
            make("audioresample")?,
            capsfilter(&resampled)?,
            opus,
        ];
        let stream = gst::Caps::new_empty_simple("audio/x-opus");
        Ok(Self {
            graph: Graph::start("sound", &caps, elements, &stream, out)?,
            rate,
            channels,
        })
    }

    /// Takes interleaved samples in -1.0 ..= 1.0, the first of which is heard at `pts`. `false`: too much waits, and they were dropped.
    ///
    /// # Errors
    /// Where they are no whole number of frames, or the encoder has failed.
    pub fn push(&self, pts: MediaTime, samples: &[f32]) -> Result<bool, TranscodeError> {
        let channels = usize::from(self.channels);
        if samples.is_empty() || !samples.len().is_multiple_of(channels) {
            return Err(TranscodeError::Mismatch(format!(
                "{} samples of {channels} channels: one or more whole frames are needed",
                samples.len()
            )));
        }
        if self.graph.input.current_level_bytes() + size_of_val(samples) as u64 > limits::RAW_SOUND_BYTES {
            return Ok(false);
        }
        let frames = (samples.len() / channels) as f64;
        let lasts = Duration::from_secs_f64(frames / f64::from(self.rate));
        let data = samples.iter().flat_map(|it| it.to_le_bytes()).collect();
        self.graph.push(pts, data, Some(lasts))?;
        Ok(true)
    }

    /// Nothing more comes: waits until the last is out, [`limits::RAW_FLUSH`] at most.
    pub fn finish(self) {
        self.graph.finish();
    }
}

/// A graph from raw media to packets.
struct Graph {
    name: &'static str,
    running: Running,
    input: gst_app::AppSrc,
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Graph {
    fn start(
        name: &'static str,
        raw: &gst::Caps,
        encoder: Vec<gst::Element>,
        stream: &gst::Caps,
        mut out: impl FnMut(Encoded) + Send + 'static,
    ) -> Result<Self, TranscodeError> {
        let pipeline = gst::Pipeline::new();
        let input = app_src(Pace::Live, name);
        input.set_caps(Some(raw));
        let handle = move |sample: &gst::Sample| {
            let Some(buffer) = sample.buffer() else {
                return Ok(());
            };
            let Some(pts) = media_time(sample, buffer.pts()) else {
                return Ok(());
            };
            let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
            out(Encoded {
                pts,
                data: Bytes::copy_from_slice(&map),
            });
            Ok(())
        };
        let sink = app_sink(Some(stream), handle, || ());
        let mut elements = vec![input.clone().upcast()];
        elements.extend(encoder);
        elements.push(sink.upcast());
        chain(name, &pipeline, &elements.iter().collect::<Vec<_>>())?;
        let (tell, ended) = mpsc::channel();
        let warned = move |what| tracing::warn!(name, what, "an encoder of a raw source");
        let running = Running::start(name, pipeline, warned, move |ending| {
            tracing::debug!(name, ?ending, "an encoder of a raw source ends");
            let _ = tell.send(());
        })?;
        Ok(Self {
            name,
            running,
            input,
            ended: Mutex::new(ended),
        })
    }

    fn push(&self, pts: MediaTime, data: Vec<u8>, lasts: Option<Duration>) -> Result<(), TranscodeError> {
        let failed = |why: &str| TranscodeError::Graph {
            graph: self.name,
            why: why.to_owned(),
        };
        if !self.running.is_alive() {
            return Err(failed("it has failed, and the log says how"));
        }
        let mut buffer = gst::Buffer::from_mut_slice(data);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(graph_time(pts));
            buffer.set_duration(lasts.and_then(|it| gst::ClockTime::try_from(it).ok()));
        }
        match self.input.push_buffer(buffer) {
            Ok(_) => Ok(()),
            Err(why) => Err(failed(&why.to_string())),
        }
    }

    fn finish(&self) {
        if self.input.end_of_stream().is_ok() && lock(&self.ended).recv_timeout(limits::RAW_FLUSH).is_err() {
            tracing::warn!(name = self.name, "an encoder of a raw source did not end in time");
        }
        self.running.stop();
    }
}

/// The processor's element for this work, or else a device's that takes pictures from the processor's memory, or gives them there.
pub(super) fn chosen(can: &Capabilities, work: Work, size: (u32, u32)) -> Result<Stage, TranscodeError> {
    let memories = |it: &elements::Known| [it.takes, it.gives].concat();
    let fits = |it: &&elements::Known| {
        it.work == work
            && memories(it).contains(&MemoryDomain::System)
            && (can.elements.get(it.factory)).is_some_and(|limits| limits.refusal_of_size(size).is_none())
    };
    let all = || elements::VIDEO.iter().filter(fits);
    let on_cpu = all().find(|it| it.family == DeviceFamily::Cpu);
    let Some(known) = on_cpu.or_else(|| all().next()) else {
        return Err(TranscodeError::Element {
            factory: elements::names_of(work),
            why: "none of these is installed here".to_owned(),
        });
    };
    Ok(Stage {
        factory: known.factory.to_owned(),
        family: known.family,
        memory: MemoryDomain::System,
    })
}

/// A key frame that is wanted of a picture is asked for right before that goes in, with its time, as rungs do.
pub(super) fn ask_in_time(
    encoder: &gst::Element,
    wanted: impl FnMut(gst::ClockTime) -> bool + Send + 'static,
) -> Result<(), TranscodeError> {
    let source = pad(encoder, "src")?;
    let wanted = Mutex::new(wanted);
    pad(encoder, "sink")?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let pts = info.buffer().and_then(|it| it.pts());
        if let Some(pts) = pts
            && lock(&wanted)(pts)
        {
            source.send_event(
                gst_video::UpstreamForceKeyUnitEvent::builder()
                    .running_time(pts)
                    .all_headers(true)
                    .build(),
            );
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}
