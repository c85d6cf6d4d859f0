//! Screen and camera in one picture: two decoders, the overlay between them and an encoder, one picture after the other.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use loom_core::codec::h264::{AccessUnit, sample_nals};
use loom_core::{
    CodecParameters, Media, MediaTime, Packet, TrackFormat, TrackId, VideoCodec, VideoParameters,
};

use super::codec_caps::{fraction, h264_parameters, video_caps};
use super::element::{Pace, capsfilter, chain, graph_time, make, media_time, set_if_possible};
use super::encoder::{Effort, encoder};
use super::live::buffer_of;
use super::raw::{ask_in_time, chosen};
use super::rung::raw;
use super::video::{app_src, lock, parser_for};
use super::watch::{Ending, Running};
use crate::capability::Capabilities;
use crate::composition::{self, Composition, Mixer, Overlay, Step};
use crate::device::{DeviceFamily, MemoryDomain};
use crate::elements::Work;
use crate::error::TranscodeError;
use crate::i420::I420;
use crate::limits;
use crate::plan::{Preset, encoder_threads, usual_bitrate};

/// What a composed picture is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Composed {
    /// Its sides, pixels, both even: those of the screen. What of the screen has another shape comes between borders.
    pub size: (u32, u32),
    /// How many pictures a second the faster of both has. There are fewer where neither of both changes so often, and for moments three quarters more.
    pub frame_rate: f64,
    /// When pictures come at which decoding can begin, in order of time: at these instants where the screen has a picture there, else at the first
    /// behind them. The first picture is one too.
    pub keys: Vec<MediaTime>,
}

/// Lays the camera's pictures over the screen's, where `composition` says, and encodes them in H.264 without reordering, as a rung of that size
/// is encoded from a file. Both tracks come as they are stored, in order of decoding, first their format; one that fails ends it. `out`
/// gets a format and packets, as they come; an error of its ends it too. A picture comes whenever the screen or the camera changes, or the
/// camera moves; before the first of the screen there is none, and while the camera has none the screen is alone. Gives where the last
/// picture ends. Blocks; what it holds does not grow with the length of the tracks.
///
/// # Errors
/// [`TranscodeError::Composition`] where that breaks a rule, [`TranscodeError::Mismatch`] where a size, a rate or a track will not do,
/// [`TranscodeError::Packets`] with what a track or `out` said; else where something cannot be decoded or encoded here.
pub fn compose(
    can: &Capabilities,
    composition: &Composition,
    wanted: Composed,
    screen: impl Iterator<Item = io::Result<Media>> + Send + 'static,
    camera: impl Iterator<Item = io::Result<Media>> + Send + 'static,
    mut out: impl FnMut(Media) -> io::Result<()>,
) -> Result<MediaTime, TranscodeError> {
    composition.check()?;
    check(&wanted)?;
    super::start()?;
    let screen = Decoding::start(can, SCREEN, Some(wanted.size), screen)?;
    let camera = Decoding::start(can, CAMERA, None, camera)?;
    let mut encoding = Encoding::start(can, &wanted)?;
    let mut mixer = Mixer::new(wanted.frame_rate, wanted.keys.iter().copied());
    let mut overlay = Overlay::default();
    let (mut next_screen, mut next_camera) = (screen.next()?, camera.next()?);
    let (mut under, mut over, mut number) = (None, None, 0);
    loop {
        let spans = (next_screen.as_ref(), next_camera.as_ref());
        match mixer.poll(
            spans.0.map(|it| &it.span),
            spans.1.map(|it| &it.span),
            composition,
        ) {
            Step::Show(composition::Lane::Screen) => {
                under = next_screen.take();
                next_screen = screen.next()?;
            }
            Step::Show(composition::Lane::Camera) => {
                over = next_camera.take();
                number += 1;
                next_camera = camera.next()?;
            }
            Step::Hide => over = None,
            Step::Compose(at) => {
                let Some(under) = &under else { continue };
                let mut data = under.planes()?.packed(wanted.size)?;
                if let Some(over) = &over
                    && let Some(inset) = composition.inset(at, wanted.size, over.size())
                {
                    overlay.lay(
                        &mut data,
                        wanted.size,
                        (&over.planes()?, over.size(), number),
                        inset,
                    );
                }
                encoding.push(at, data)?;
                encoding.drain(&mut out)?;
            }
            Step::Done(end) => {
                encoding.finish(&mut out)?;
                return Ok(end);
            }
        }
    }
}

fn check(wanted: &Composed) -> Result<(), TranscodeError> {
    let (width, height) = wanted.size;
    let most = limits::MAX_DIMENSION;
    if [width, height]
        .iter()
        .any(|side| !(2..=most).contains(side) || side % 2 != 0)
    {
        return Err(TranscodeError::Mismatch(format!(
            "pictures of {width}x{height}: each side is even and 2 to {most} pixels"
        )));
    }
    if !(wanted.frame_rate > 0.0 && wanted.frame_rate <= 240.0) {
        return Err(TranscodeError::Mismatch(format!(
            "{} pictures a second: it is above 0 and at most 240",
            wanted.frame_rate
        )));
    }
    Ok(())
}

/// A decoded picture in I420.
struct Shown {
    span: Range<MediaTime>,
    frame: gst_video::VideoFrame<gst_video::video_frame::Readable>,
}

impl Shown {
    fn size(&self) -> (u32, u32) {
        (self.frame.width(), self.frame.height())
    }

    fn planes(&self) -> Result<I420<'_>, TranscodeError> {
        let failed = |_| TranscodeError::Mismatch("a decoded picture is not in three planes".to_owned());
        let plane = |at: u32| self.frame.plane_data(at).map_err(failed);
        let stride = |at: usize| {
            self.frame
                .plane_stride()
                .get(at)
                .map_or(0, |it| (*it).max(0) as usize)
        };
        Ok(I420 {
            planes: [plane(0)?, plane(1)?, plane(2)?],
            strides: [stride(0), stride(1), stride(2)],
        })
    }
}

/// A track on its way through a decoder, as far as it is asked for.
struct Decoding {
    graph: Graph,
    feeding: Option<JoinHandle<()>>,
    /// Why the track came no further.
    broken: Arc<Mutex<Option<io::Error>>>,
}

impl Decoding {
    /// Pictures of the size asked for, between borders where they have another shape; else of the size they have.
    fn start(
        can: &Capabilities,
        what: &'static str,
        size: Option<(u32, u32)>,
        mut track: impl Iterator<Item = io::Result<Media>> + Send + 'static,
    ) -> Result<Self, TranscodeError> {
        let unreadable = |source| TranscodeError::Packets { what, source };
        let video = match track.next().transpose().map_err(unreadable)? {
            Some(Media::Format(TrackFormat {
                codec: CodecParameters::Video(video),
                ..
            })) => video,
            _ => {
                return Err(TranscodeError::Mismatch(format!(
                    "the {what} of a composition begins with its format"
                )));
            }
        };
        let graph = Graph::start(what, decoder(can, &video, size)?, &pictures(size), SHOWN_AHEAD)?;
        let caps = |video: &VideoParameters| video_caps(video, USUAL_RATE);
        graph.input.set_caps(Some(&caps(&video)));
        let (input, broken) = (graph.input.clone(), Arc::new(Mutex::new(None)));
        let telling = broken.clone();
        let feed = move || {
            for media in track {
                let told = match media {
                    Ok(Media::Packet(packet)) => {
                        let buffer = buffer_of(&packet);
                        if buffer.is_some_and(|buffer| input.push_buffer(buffer).is_err()) {
                            return; // the graph has failed, or nobody wants it any more
                        }
                        Ok(())
                    }
                    Ok(Media::Format(format)) => match &format.codec {
                        CodecParameters::Video(now) if now.codec == video.codec => {
                            input.set_caps(Some(&caps(now)));
                            Ok(())
                        }
                        _ => Err(io::Error::other("its codec changes on the way")),
                    },
                    Ok(_) => Ok(()),
                    Err(why) => Err(why),
                };
                if let Err(why) = told {
                    *lock(&telling) = Some(why);
                    break;
                }
            }
            let _ = input.end_of_stream();
        };
        let feeding = std::thread::Builder::new()
            .name(format!("loom-{what}"))
            .spawn(feed);
        Ok(Self {
            graph,
            feeding: Some(feeding.map_err(unreadable)?),
            broken,
        })
    }

    /// The next picture, waited for; `None` where there is none any more.
    fn next(&self) -> Result<Option<Shown>, TranscodeError> {
        while let Some(sample) = self.graph.pull()? {
            let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps()) else {
                continue;
            };
            let Some(from) = media_time(&sample, buffer.pts()) else {
                continue;
            };
            let lasts = buffer.duration().map(Duration::from).unwrap_or_default();
            let info =
                gst_video::VideoInfo::from_caps(caps).map_err(|why| self.graph.failed(&why.to_string()))?;
            let frame = gst_video::VideoFrame::from_buffer_readable(buffer, &info)
                .map_err(|_| self.graph.failed("a decoded picture cannot be read"))?;
            return Ok(Some(Shown {
                span: from..from + lasts,
                frame,
            }));
        }
        match lock(&self.broken).take() {
            Some(source) => Err(TranscodeError::Packets {
                what: self.graph.name,
                source,
            }),
            None => Ok(None),
        }
    }
}

impl Drop for Decoding {
    fn drop(&mut self) {
        // wakes whoever waits to feed it
        self.graph.running.stop();
        if let Some(feeding) = self.feeding.take() {
            let _ = feeding.join();
        }
    }
}

/// What decodes a track and brings its pictures into I420.
fn decoder(
    can: &Capabilities,
    video: &VideoParameters,
    size: Option<(u32, u32)>,
) -> Result<Vec<gst::Element>, TranscodeError> {
    let codec = video.codec.into();
    let stage = chosen(can, Work::Decode(codec), (video.width, video.height))?;
    let mut elements = Vec::new();
    if let Some(parser) = parser_for(codec, &stage) {
        elements.push(make(parser)?);
    }
    let decoding = make(&stage.factory)?;
    // as far as it goes, as in a rung's graph
    set_if_possible(&decoding, "max-errors", "-1");
    elements.push(decoding);
    if stage.family != DeviceFamily::Cpu {
        elements.push(capsfilter(&raw(MemoryDomain::System).build())?);
    }
    let scale = make("videoconvertscale")?;
    set_if_possible(&scale, "method", "catrom");
    elements.extend([scale, capsfilter(&pictures(size))?]);
    Ok(elements)
}

fn pictures(size: Option<(u32, u32)>) -> gst::Caps {
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .field("colorimetry", "bt709");
    match size {
        Some((width, height)) => caps
            .field("width", width as i32)
            .field("height", height as i32)
            .build(),
        None => caps.build(),
    }
}

/// Composed pictures on their way through the encoder.
struct Encoding {
    graph: Graph,
    caps: Option<gst::Caps>,
}

impl Encoding {
    fn start(can: &Capabilities, wanted: &Composed) -> Result<Self, TranscodeError> {
        let effort = Effort {
            preset: Preset::of(false, can.cores),
            bitrate: usual_bitrate(wanted.size, wanted.frame_rate),
            threads: encoder_threads(wanted.size, can.cores),
        };
        let stage = chosen(can, Work::Encode(VideoCodec::H264), wanted.size)?;
        let elements = encoder(&stage, VideoCodec::H264, effort, Pace::File)?;
        if let Some(first) = elements.first() {
            let due = |at: &MediaTime| graph_time(*at - composition::ROUNDING);
            let mut keys: VecDeque<gst::ClockTime> = wanted.keys.iter().filter_map(due).collect();
            ask_in_time(first, move |at| {
                let before = keys.len();
                while keys.pop_front_if(|due| *due <= at).is_some() {}
                keys.len() < before
            })?;
        }
        let avc = gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .build();
        // what has come out is taken whenever a picture has gone in, so that no more waits than the encoder holds
        let graph = Graph::start("composed pictures", elements, &avc, ALL_OF_THEM)?;
        let mut raw = pictures(Some(wanted.size));
        if let Some(structure) = raw.make_mut().structure_mut(0) {
            structure.set("framerate", fraction(wanted.frame_rate));
        }
        graph.input.set_caps(Some(&raw));
        graph.input.set_max_bytes(0);
        graph.input.set_max_buffers(limits::ENCODE_QUEUE_FILE.into());
        Ok(Self { graph, caps: None })
    }

    /// Waits while the encoder is behind.
    fn push(&self, at: MediaTime, picture: Vec<u8>) -> Result<(), TranscodeError> {
        let mut buffer = gst::Buffer::from_mut_slice(picture);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(graph_time(at));
        }
        match self.graph.input.push_buffer(buffer) {
            Ok(_) => Ok(()),
            Err(why) => Err(self
                .graph
                .ending()
                .err()
                .unwrap_or_else(|| self.graph.failed(&why.to_string()))),
        }
    }

    /// Hands out what has come so far.
    fn drain(&mut self, out: &mut impl FnMut(Media) -> io::Result<()>) -> Result<(), TranscodeError> {
        while let Some(sample) = self.graph.sink.try_pull_sample(gst::ClockTime::ZERO) {
            self.hand_out(&sample, out)?;
        }
        Ok(())
    }

    /// Hands out the rest.
    fn finish(&mut self, out: &mut impl FnMut(Media) -> io::Result<()>) -> Result<(), TranscodeError> {
        let _ = self.graph.input.end_of_stream();
        while let Some(sample) = self.graph.pull()? {
            self.hand_out(&sample, out)?;
        }
        Ok(())
    }

    fn hand_out(
        &mut self,
        sample: &gst::Sample,
        out: &mut impl FnMut(Media) -> io::Result<()>,
    ) -> Result<(), TranscodeError> {
        let unwritable = |source| TranscodeError::Packets {
            what: "pictures",
            source,
        };
        let (Some(buffer), Some(caps)) = (sample.buffer(), sample.caps_owned()) else {
            return Ok(());
        };
        if self.caps.as_ref() != Some(&caps) {
            let codec = h264_parameters(&caps)?;
            out(Media::Format(TrackFormat { track: TRACK, codec })).map_err(unwritable)?;
            self.caps = Some(caps);
        }
        let Some(pts) = media_time(sample, buffer.pts()) else {
            return Ok(());
        };
        let map = buffer
            .map_readable()
            .map_err(|_| self.graph.failed("what the encoder gave cannot be read"))?;
        let unit = AccessUnit::from_nals(sample_nals(&map)?);
        let packet = Packet {
            track: TRACK,
            pts,
            dts: pts,
            duration: None,
            key: unit.key,
            data: unit.sample,
        };
        out(Media::Packet(packet)).map_err(unwritable)
    }
}

/// A graph that is fed at one end and asked at the other.
struct Graph {
    name: &'static str,
    running: Running,
    input: gst_app::AppSrc,
    sink: gst_app::AppSink,
    /// Why it failed, once it has ended; `None` where it came to its end.
    ended: Receiver<Option<String>>,
}

impl Graph {
    /// At most so many buffers wait at its end.
    fn start(
        name: &'static str,
        elements: Vec<gst::Element>,
        caps: &gst::Caps,
        most: u32,
    ) -> Result<Self, TranscodeError> {
        let pipeline = gst::Pipeline::new();
        let input = app_src(Pace::File, "input");
        let sink = gst_app::AppSink::builder()
            .caps(caps)
            .sync(false)
            .async_(false)
            .enable_last_sample(false)
            .max_buffers(most)
            .build();
        let mut row = vec![input.clone().upcast()];
        row.extend(elements);
        row.push(sink.clone().upcast());
        chain(name, &pipeline, &row.iter().collect::<Vec<_>>())?;
        let (tell, ended) = channel();
        let running = Running::start(
            name,
            pipeline,
            move |text| tracing::warn!(name, "composition: {text}"),
            move |ending| {
                let _ = tell.send(match ending {
                    Ending::Failed { reason, .. } => Some(reason),
                    Ending::Finished | Ending::Stopped => None,
                });
            },
        )?;
        Ok(Self {
            name,
            running,
            input,
            sink,
            ended,
        })
    }

    /// What comes next, waited for; `None` at its end.
    fn pull(&self) -> Result<Option<gst::Sample>, TranscodeError> {
        match self.sink.pull_sample() {
            Ok(sample) => Ok(Some(sample)),
            Err(_) => self.ending().map(|()| None),
        }
    }

    /// How it ended, which an element that fails says only after its end has come.
    fn ending(&self) -> Result<(), TranscodeError> {
        match self.ended.recv_timeout(limits::ENDING) {
            Ok(Some(why)) => Err(self.failed(&why)),
            _ => Ok(()),
        }
    }

    fn failed(&self, why: &str) -> TranscodeError {
        TranscodeError::Graph {
            graph: self.name,
            why: why.to_owned(),
        }
    }
}

const SCREEN: &str = "screen";
const CAMERA: &str = "camera";
const TRACK: TrackId = TrackId(0);
/// Decoded pictures that wait to be shown.
const SHOWN_AHEAD: u32 = 2;
/// As an `appsink` says it.
const ALL_OF_THEM: u32 = 0;
/// What a decoder is told where nobody knows; times rule.
const USUAL_RATE: f64 = 30.0;
