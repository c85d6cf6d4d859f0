//! What a file holds: its whole structure is read, none of its pictures are decoded.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;
use loom_core::codec::h264::{nal_type, nal_unit_type, sample_nals};

use super::element::{app_sink, running_nanos};
use super::reader::{StreamKind, open_stream, reader};
use super::video::lock;
use crate::error::TranscodeError;
use crate::limits;
use crate::media_info::{AudioInfo, MediaInfo, VideoInfo};
use crate::plan::{AudioShape, Oddity, Rotation, SourceVideoCodec, VideoShape};

/// Reads what the file at `path` holds. Takes as long as reading the file; call it where waiting is allowed.
///
/// # Errors
/// Where the file cannot be read, is empty, is no media (text, pictures, programs), is cut short before its index
/// (`moov` missing), or has no track that is understood here. What is said names the reason.
pub fn probe_file(path: impl AsRef<Path>) -> Result<MediaInfo, TranscodeError> {
    probe_aloud(path.as_ref(), || ())
}

/// As [`probe_file`]; `moves` is called now and then while reading goes on.
pub(crate) fn probe_aloud(path: &Path, mut moves: impl FnMut()) -> Result<MediaInfo, TranscodeError> {
    super::start()?;
    look_at_bytes(path)?;
    let (pipeline, parser) = reader(path)?;
    let streams: Arc<Mutex<Vec<Stream>>> = Arc::default();
    let (weak, found) = (pipeline.downgrade(), streams.clone());
    parser.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        let kind = StreamKind::of(pad);
        let index = {
            let mut streams = lock(&found);
            let index = streams.len();
            // One beyond the limit is read past.
            if index < limits::MAX_STREAMS {
                streams.push(Stream::new(pad, kind));
            }
            index
        };
        let watched = found.clone();
        let sink = app_sink(
            None,
            move |sample| {
                if let Some(stream) = lock(&watched).get_mut(index) {
                    stream.handle_sample(sample);
                }
                Ok(())
            },
            || (),
        );
        if let Err(why) = open_stream(&pipeline, pad, kind, &sink) {
            tracing::warn!("a stream cannot be read: {why}");
        }
    });
    let ended = read_through(&pipeline, &streams, &mut moves);
    let container = container_of(&parser);
    let _ = pipeline.set_state(gst::State::Null);
    let streams = std::mem::take(&mut *lock(&streams));
    summarise(path, container, &streams, ended)
}

/// Refuses what is plainly no media before a demuxer guesses at it.
fn look_at_bytes(path: &Path) -> Result<(), TranscodeError> {
    let unreadable = |source| TranscodeError::File {
        path: path.to_owned(),
        source,
    };
    let refused = |why: &str| {
        Err(TranscodeError::NotMedia {
            path: path.to_owned(),
            why: why.to_owned(),
        })
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return refused("it is not a regular file");
    }
    let mut head = [0u8; 512];
    let mut have = 0;
    while have < head.len() {
        match file.read(&mut head[have..]) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(unreadable(why)),
        }
    }
    let head = &head[..have];
    if head.is_empty() {
        return refused("it is empty");
    }
    if head.get(4..8) == Some(b"ftyp") && !has_movie_box(&mut file, meta.len()).map_err(unreadable)? {
        return Err(TranscodeError::Damaged {
            path: path.to_owned(),
            why: "it is an MP4 without its index (the moov box, ISO/IEC 14496-12 §8.2.1): it was cut short, or its \
                  recording never finished"
                .to_owned(),
        });
    }
    let cut = match std::str::from_utf8(head) {
        Ok(_) => head.len(),
        // The last character may be cut by the end of what was read.
        Err(why) if why.error_len().is_none() => why.valid_up_to(),
        Err(_) => return Ok(()),
    };
    if head[..cut]
        .iter()
        .all(|byte| *byte >= 0x20 || matches!(byte, b'\t' | b'\r' | b'\n' | 0x0c))
    {
        return refused("it is text");
    }
    Ok(())
}

/// Whether one of the boxes at the top of an MP4 file is its `moov`.
fn has_movie_box(file: &mut File, len: u64) -> std::io::Result<bool> {
    let mut at = 0;
    for _ in 0..MOST_BOXES {
        let mut header = [0u8; 16];
        if at + 8 > len {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(at))?;
        let want = header.len().min((len - at) as usize);
        file.read_exact(&mut header[..want])?;
        let size = match u32::from_be_bytes([header[0], header[1], header[2], header[3]]) {
            0 => len - at,
            1 => u64::from_be_bytes([
                header[8], header[9], header[10], header[11], header[12], header[13], header[14], header[15],
            ]),
            size => u64::from(size),
        };
        if &header[4..8] == b"moov" {
            return Ok(true);
        }
        if size < 8 {
            return Ok(false);
        }
        at = at.saturating_add(size);
    }
    // A file of so many fragments has had its index first.
    Ok(true)
}

/// Runs the reader to the end of the file; gives what stopped it before.
fn read_through(
    pipeline: &gst::Pipeline,
    streams: &Mutex<Vec<Stream>>,
    moves: &mut impl FnMut(),
) -> Option<Stopped> {
    let Some(bus) = pipeline.bus() else {
        return Some(Stopped::other("it has no bus"));
    };
    let mut stopped = pipeline
        .set_state(gst::State::Playing)
        .err()
        .map(|why| Stopped::other(&why.to_string()));
    let packets = || lock(streams).iter().map(|it| it.packets).sum::<u64>();
    let (mut seen, mut moved) = (0, Instant::now());
    loop {
        let message = bus.timed_pop_filtered(
            gst::ClockTime::from_mseconds(250),
            &[gst::MessageType::Eos, gst::MessageType::Error],
        );
        match message.as_ref().map(|it| it.view()) {
            Some(gst::MessageView::Eos(_)) => return None,
            Some(gst::MessageView::Error(error)) => return Some(Stopped::from(error)),
            _ if stopped.is_some() => return stopped.take(),
            _ => {}
        }
        let now = packets();
        if now != seen {
            (seen, moved) = (now, Instant::now());
            moves();
        } else if moved.elapsed() > limits::PROBE_STALL {
            return Some(Stopped::other("reading it stands still"));
        }
    }
}

/// Why reading stopped before the end.
#[derive(Debug)]
struct Stopped {
    /// The bytes are no format that is known.
    unknown: bool,
    why: String,
}

impl Stopped {
    fn other(why: &str) -> Self {
        Self {
            unknown: false,
            why: why.to_owned(),
        }
    }
}

impl From<&gst::message::Error> for Stopped {
    fn from(message: &gst::message::Error) -> Self {
        let error = message.error();
        let unknown = matches!(
            error.kind::<gst::StreamError>(),
            Some(
                gst::StreamError::TypeNotFound
                    | gst::StreamError::WrongType
                    | gst::StreamError::CodecNotFound
            )
        );
        Self {
            unknown,
            why: error.message().to_owned(),
        }
    }
}

fn container_of(parser: &gst::Element) -> String {
    // The first element that parsebin put in finds the type of the bytes.
    let bin = parser.downcast_ref::<gst::Bin>();
    let find = bin.and_then(|it| {
        it.iterate_elements()
            .into_iter()
            .flatten()
            .find(|it| it.name().starts_with("typefind"))
    });
    find.and_then(|it| it.property::<Option<gst::Caps>>("caps"))
        .and_then(|caps| caps.structure(0).map(|it| it.name().to_string()))
        .unwrap_or_else(|| "unknown".to_owned())
}

/// One stream as it is read.
struct Stream {
    pad: gst::Pad,
    kind: Option<StreamKind>,
    caps: Option<gst::Caps>,
    packets: u64,
    /// Packets that an edit list hides.
    hidden: u64,
    timeless: u64,
    bytes: u64,
    keys: Vec<i64>,
    /// Bytes since the last key frame, and the most there were.
    group: u64,
    most: u64,
    first: Option<i64>,
    last: i64,
    end: i64,
    starts_with_key: Option<bool>,
    segment: Option<gst::Segment>,
    segments: u32,
    rotation: Rotation,
}

impl Stream {
    fn new(pad: &gst::Pad, kind: Option<StreamKind>) -> Self {
        Self {
            pad: pad.clone(),
            kind,
            caps: None,
            packets: 0,
            hidden: 0,
            timeless: 0,
            bytes: 0,
            keys: Vec::new(),
            group: 0,
            most: 0,
            first: None,
            last: 0,
            end: 0,
            starts_with_key: None,
            segment: None,
            segments: 0,
            rotation: Rotation::None,
        }
    }

    fn handle_sample(&mut self, sample: &gst::Sample) {
        let (Some(buffer), Some(segment)) = (sample.buffer(), sample.segment()) else {
            return;
        };
        if self.caps.is_none() {
            self.caps = sample.caps_owned();
        }
        if !self.segment.as_ref().is_some_and(|it| same_mapping(it, segment)) {
            self.segments += 1;
            self.segment = Some(segment.clone());
        }
        // Tags may follow the first packets.
        if self.packets < 8 {
            self.rotation = rotation(&self.pad);
        }
        let Some(pts) = buffer.pts().and_then(|pts| running_nanos(segment, pts)) else {
            self.timeless += 1;
            return;
        };
        let key = self.is_key(buffer);
        self.starts_with_key.get_or_insert(key);
        self.group = if key { 0 } else { self.group } + buffer.size() as u64;
        self.most = self.most.max(self.group);
        if pts < 0 {
            self.hidden += 1;
            return;
        }
        self.packets += 1;
        self.bytes += buffer.size() as u64;
        if key && self.keys.len() < MOST_KEYS {
            self.keys.push(pts);
        }
        self.first = Some(self.first.map_or(pts, |first| first.min(pts)));
        self.last = self.last.max(pts);
        let duration = buffer.duration().map_or(0, |it| it.nseconds() as i64);
        self.end = self.end.max(pts + duration);
    }

    fn is_key(&self, buffer: &gst::BufferRef) -> bool {
        let flagged = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if self.kind != Some(StreamKind::Video(SourceVideoCodec::H264)) {
            return flagged;
        }
        // A container calls recovery points key frames too; only an IDR picture closes what was before it.
        let Ok(map) = buffer.map_readable() else {
            return flagged;
        };
        sample_nals(&map).map_or(flagged, |nals| {
            nals.into_iter()
                .any(|nal| nal_unit_type(nal) == Some(nal_type::IDR))
        })
    }

    fn span(&self) -> Duration {
        let first = self.first.unwrap_or(0);
        Duration::from_nanos((self.end.max(self.last) - first).max(0) as u64)
    }

    fn bitrate(&self) -> Option<u32> {
        let secs = self.span().as_secs_f64();
        (secs > 0.5).then(|| (self.bytes as f64 * 8.0 / secs) as u32)
    }

    fn number(&self, field: &str) -> Option<i32> {
        self.caps.as_ref()?.structure(0)?.get::<i32>(field).ok()
    }

    fn text(&self, field: &str) -> Option<String> {
        self.caps.as_ref()?.structure(0)?.get::<String>(field).ok()
    }

    fn video(&self, codec: SourceVideoCodec) -> Option<VideoInfo> {
        let side = |field| self.number(field).and_then(|it| u32::try_from(it).ok());
        let mut shape = VideoShape::new(codec, side("width")?, side("height")?);
        let fraction = self
            .caps
            .as_ref()
            .and_then(|it| it.structure(0)?.get::<gst::Fraction>("pixel-aspect-ratio").ok());
        if let Some(aspect) = fraction {
            shape.pixel_aspect = (aspect.numer().max(0) as u32, aspect.denom().max(0) as u32);
        }
        shape.rotation = self.rotation;
        let secs = self.span().as_secs_f64();
        let between = Duration::from_nanos((self.last - self.first.unwrap_or(0)).max(0) as u64).as_secs_f64();
        if self.packets > 1 && between > 0.0 {
            shape.frame_rate = Some((self.packets - 1) as f64 / between);
        }
        let mut ends = self.keys.clone();
        ends.push(self.end.max(self.last));
        let first = self.first.unwrap_or(0);
        ends.insert(0, first);
        let far = ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        shape.key_interval = (secs > 0.0).then(|| Duration::from_nanos(far.max(0) as u64));
        shape.bitrate = self.bitrate();
        shape.profile = self.text("profile");
        shape.frames = Some(self.packets);
        if self.hidden > 0 || self.segments > 1 {
            shape.odd.push(Oddity::EditList);
        }
        if self.text("interlace-mode").is_some_and(|it| it != "progressive") {
            shape.odd.push(Oddity::Interlaced);
        }
        let deep = self
            .caps
            .as_ref()
            .and_then(|it| it.structure(0)?.get::<u32>("bit-depth-luma").ok())
            .is_some_and(|it| it != 8);
        if deep || self.text("chroma-format").is_some_and(|it| it != "4:2:0") {
            shape.odd.push(Oddity::PixelFormat);
        }
        if self.starts_with_key == Some(false) {
            shape.odd.push(Oddity::StartsWithoutKeyFrame);
        }
        Some(VideoInfo {
            shape,
            frames: self.packets,
            key_frames: self.keys.len() as u64,
            group_bytes: self.most,
        })
    }
}

fn summarise(
    path: &Path,
    container: String,
    streams: &[Stream],
    ended: Option<Stopped>,
) -> Result<MediaInfo, TranscodeError> {
    let mut info = MediaInfo {
        container,
        duration: Duration::ZERO,
        video: None,
        audio: None,
        ignored: Vec::new(),
    };
    let mut end = 0;
    for (index, stream) in streams.iter().enumerate() {
        let name = stream.caps.as_ref().and_then(|it| it.structure(0)).map_or_else(
            || stream.pad.query_caps(None).to_string(),
            |it| it.name().to_string(),
        );
        let mut ignore = |why: &str| info.ignored.push(format!("stream {index} ({name}): {why}"));
        if stream.packets == 0 {
            ignore(if stream.timeless > 0 {
                "its packets carry no times"
            } else {
                "it holds nothing that is shown"
            });
            continue;
        }
        match stream.kind {
            Some(StreamKind::Video(codec)) if info.video.is_none() => match stream.video(codec) {
                Some(video) => info.video = Some(video),
                None => ignore("its size is not known"),
            },
            Some(StreamKind::Audio(codec)) if info.audio.is_none() => {
                let channels = stream
                    .number("channels")
                    .and_then(|it| u16::try_from(it).ok())
                    .unwrap_or(0);
                let rate = stream
                    .number("rate")
                    .and_then(|it| u32::try_from(it).ok())
                    .unwrap_or(0);
                if rate == 0 || !(1..=limits::MAX_CHANNELS).contains(&channels) {
                    ignore("its rate or its channels are outside what is accepted");
                    continue;
                }
                info.audio = Some(AudioInfo {
                    shape: AudioShape {
                        codec,
                        sample_rate: rate,
                        channels,
                        bitrate: stream.bitrate(),
                    },
                    packets: stream.packets,
                });
            }
            Some(_) => {
                ignore("there is one of its kind before it");
                continue;
            }
            None => {
                ignore("its codec is not one that is understood");
                continue;
            }
        }
        end = end.max(stream.end.max(stream.last));
    }
    info.duration = Duration::from_nanos(end.max(0) as u64);
    let path = path.to_owned();
    if info.video.is_some() || info.audio.is_some() {
        if let Some(stopped) = ended {
            info.ignored.push(format!(
                "what comes after {:.3} s: {}",
                info.duration.as_secs_f64(),
                stopped.why
            ));
        }
        return Ok(info);
    }
    match ended {
        Some(stopped) if stopped.unknown || streams.is_empty() && info.container == "unknown" => {
            Err(TranscodeError::NotMedia {
                path,
                why: format!("its bytes are no known audio or video format ({})", stopped.why),
            })
        }
        Some(stopped) => Err(TranscodeError::Damaged {
            path,
            why: stopped.why,
        }),
        None => Err(TranscodeError::NotMedia {
            path,
            why: match info.ignored.as_slice() {
                [] => "it holds neither video nor audio".to_owned(),
                ignored => format!("it holds no usable video or audio: {}", ignored.join("; ")),
            },
        }),
    }
}

/// Whether two segments put a packet at the same running time and hide the same ones.
fn same_mapping(a: &gst::Segment, b: &gst::Segment) -> bool {
    let (Some(a), Some(b)) = (
        a.downcast_ref::<gst::ClockTime>(),
        b.downcast_ref::<gst::ClockTime>(),
    ) else {
        return false;
    };
    a.start() == b.start() && a.base() == b.base() && a.rate() == b.rate() && a.offset() == b.offset()
}

/// How the container says that pictures are to be turned.
fn rotation(pad: &gst::Pad) -> Rotation {
    let mut found = Rotation::None;
    pad.sticky_events_foreach(|event| {
        if let gst::EventView::Tag(tags) = event.view()
            && let Some(tag) = tags.tag().get::<gst::tags::ImageOrientation>()
        {
            found = match tag.get() {
                "rotate-90" => Rotation::Quarter,
                "rotate-180" => Rotation::Half,
                "rotate-270" => Rotation::ThreeQuarters,
                _ => Rotation::None,
            };
        }
        std::ops::ControlFlow::Continue(gst::EventForeachAction::Keep)
    });
    found
}

/// Boxes at the top of an MP4 that are walked: a fragmented one has two for each fragment.
const MOST_BOXES: usize = 4096;
/// Key frames whose times are remembered.
const MOST_KEYS: usize = 1 << 20;
