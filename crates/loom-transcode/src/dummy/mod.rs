//! A backend without codecs: what it makes is valid, plain and the same each time.

mod bitstream;

use std::fs::File;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use loom_core::codec::aac::{self, FRAME_LENGTH};
use loom_core::{
    AudioCodec, AudioParameters, CodecParameters, Media, MediaTime, Packet, PcmFrame, Picture, PictureFormat,
    RenditionId, Timescale, TrackFormat, TrackId, VideoCodec,
};
use tokio::sync::mpsc;

use crate::backend::{Backend, Event, Feed, FeedPort, KeptTrack, Output, Outputs, TrackRoles};
use crate::error::TranscodeError;
use crate::keys::KeyPictures;
use crate::limits;
use crate::plan::{AAC_RATE, Plan, RenditionShape};
use crate::timeline::SampleTimeline;

/// Runs plans without decoding or encoding anything: every rung is grey, all sound is silence, there are no thumbnails, the poster is always
/// the same. Times, key pictures and formats are those that a real backend would give, and every bitstream is valid.
///
/// Live it follows what is pushed; a file is not read, but stood in for by pictures and sound of the plan's duration
/// (ten seconds where that is not known).
///
/// ```
/// use std::path::Path;
/// use std::time::Duration;
/// use loom_transcode::{Backend, Capabilities, DummyBackend, Output, SourceShape, SourceVideoCodec, VideoShape, Wanted, plan};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let source = SourceShape {
///     video: Some(VideoShape::new(SourceVideoCodec::Vp8, 640, 360)),
///     audio: None,
///     live: false,
///     duration: Some(Duration::from_secs(2)),
/// };
/// let plan = plan(&source, &Wanted::default(), &Capabilities::of(2, ["vp8dec", "x264enc", "h264parse"]))?;
/// // it has to be there, and is not read
/// let mut outputs = DummyBackend.file(&plan, Path::new("Cargo.toml"))?;
/// let mut last = None;
/// while let Some(output) = outputs.recv().await {
///     last = Some(output);
/// }
/// assert_eq!(last, Some(Output::End));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct DummyBackend;

impl Backend for DummyBackend {
    fn live(&self, plan: &Plan, formats: &[TrackFormat]) -> Result<(Feed, Outputs), TranscodeError> {
        let roles = TrackRoles::assign(plan, formats)?;
        let (kept_sender, kept) = mpsc::channel(limits::KEPT_QUEUE);
        let (sender, encoded) = mpsc::channel(limits::KEPT_QUEUE);
        let keep = |id: &Option<RenditionId>| {
            id.clone()
                .map(|id| KeptTrack::new(id, kept_sender.clone(), false))
        };
        let mut port = LivePort {
            video_kept: plan.video.as_ref().and_then(|it| keep(&it.keep)),
            audio_kept: plan.audio.as_ref().and_then(|it| keep(&it.keep)),
            maker: Maker::new(plan),
            roles,
            out: sender,
        };
        let initial = [port.roles.video.clone(), port.roles.audio.clone()];
        for format in initial.into_iter().flatten() {
            port.push(Media::Format(format));
        }
        port.send(port.maker.formats());
        Ok((
            Feed::new(Box::new(port)),
            Outputs::new(kept, encoded, 1, Box::new(())),
        ))
    }

    fn file(&self, plan: &Plan, path: &Path) -> Result<Outputs, TranscodeError> {
        if plan.live {
            return Err(TranscodeError::Mismatch(
                "it is for live tracks, not for a file".to_owned(),
            ));
        }
        File::open(path).map_err(|source| TranscodeError::File {
            path: path.to_owned(),
            source,
        })?;
        let (kept_sender, kept) = mpsc::channel(1);
        let (sender, encoded) = mpsc::channel(limits::ENCODED_QUEUE);
        drop(kept_sender);
        let plan = plan.clone();
        let writer = std::thread::Builder::new()
            .name("loom-dummy".to_owned())
            .spawn(move || write_file(&plan, &sender))
            .map_err(|why| TranscodeError::Graph {
                graph: "dummy",
                why: why.to_string(),
            })?;
        Ok(Outputs::new(
            kept,
            encoded,
            1,
            Box::new(JoinsWhenDropped(Some(writer))),
        ))
    }
}

struct JoinsWhenDropped(Option<JoinHandle<()>>);

impl Drop for JoinsWhenDropped {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

fn write_file(plan: &Plan, out: &mpsc::Sender<Event>) {
    let mut maker = Maker::new(plan);
    maker.makes_kept = true;
    let total = plan.duration.unwrap_or(DEFAULT_LENGTH);
    let rate = plan.video.as_ref().map_or(25.0, |it| it.frame_rate);
    let count = (total.as_secs_f64() * rate).round() as u64;
    let mut outputs = maker.formats();
    for n in 0..count.max(1) {
        let at = MediaTime::from_secs_f64(n as f64 / rate);
        let span = Duration::from_secs_f64(1.0 / rate);
        outputs.extend(maker.handle_picture(TrackId(0), at, n == 0));
        outputs.extend(maker.handle_sound(TrackId(1), at, span));
        if n % 25 == 0 {
            outputs.push(Output::Progress {
                done: at,
                total: plan.duration,
            });
        }
        for output in outputs.drain(..) {
            if out.blocking_send(Event::Output(output)).is_err() {
                return;
            }
        }
    }
    let _ = out.blocking_send(Event::GraphEnded);
}

struct LivePort {
    video_kept: Option<KeptTrack>,
    audio_kept: Option<KeptTrack>,
    maker: Maker,
    roles: TrackRoles,
    out: mpsc::Sender<Event>,
}

impl FeedPort for LivePort {
    fn push(&mut self, media: Media) {
        match media {
            Media::Format(format) => {
                let kept = if self.roles.is_video(format.track) {
                    &mut self.video_kept
                } else if self.roles.is_audio(format.track) {
                    &mut self.audio_kept
                } else {
                    return;
                };
                if let Some(kept) = kept {
                    kept.handle_format(&format.codec);
                }
            }
            Media::Packet(packet) if self.roles.is_video(packet.track) => {
                let made = self.maker.handle_picture(packet.track, packet.pts, packet.key);
                self.send(made);
                if let Some(kept) = &mut self.video_kept {
                    kept.handle_packet(packet);
                }
            }
            Media::Packet(packet) if self.roles.is_audio(packet.track) => {
                let span = packet.duration.unwrap_or(Duration::from_millis(20));
                let made = self.maker.handle_sound(packet.track, packet.pts, span);
                self.send(made);
                if let Some(kept) = &mut self.audio_kept {
                    kept.handle_packet(packet);
                }
            }
            Media::Packet(_) | Media::Gap(_) | Media::End(_) => {}
        }
    }

    fn finish(&mut self) {
        self.video_kept = None;
        self.audio_kept = None;
        // Where there is no room for it, the closing channel tells the same.
        let _ = self.out.try_send(Event::GraphEnded);
        self.out = mpsc::channel(1).0;
    }
}

impl LivePort {
    fn send(&self, outputs: Vec<Output>) {
        for output in outputs {
            // A consumer that stands still loses what is made, as it would with real encoders.
            let _ = self.out.try_send(Event::Output(output));
        }
    }
}

/// Makes what a plan says, from nothing but times.
struct Maker {
    videos: Vec<Grey>,
    aac: Option<(RenditionId, AudioParameters)>,
    /// The kept audio rendition, which only a file that is not read needs made.
    kept_aac: Option<(RenditionId, AudioParameters)>,
    makes_kept: bool,
    pcm: bool,
    poster: bool,
    keys: Option<KeyPictures>,
    every: Option<Duration>,
    timeline: SampleTimeline,
    aac_sent: i64,
    pcm_sent: i64,
}

struct Grey {
    id: RenditionId,
    kept: bool,
    pictures: bitstream::GreyVideo,
}

impl Maker {
    fn new(plan: &Plan) -> Self {
        let videos = plan.renditions.iter().filter_map(|it| match it.shape {
            RenditionShape::Video {
                codec: VideoCodec::H264,
                width,
                height,
                ..
            } => Some(Grey {
                id: it.id.clone(),
                kept: it.kept,
                pictures: bitstream::GreyVideo::new(width, height),
            }),
            _ => None,
        });
        let sounds = |kept: bool| {
            plan.renditions.iter().find_map(|it| match it.shape {
                RenditionShape::Audio {
                    codec: AudioCodec::Aac,
                    channels,
                    ..
                } if it.kept == kept => {
                    let config = Bytes::copy_from_slice(&bitstream::aac_config(channels));
                    aac::parameters(&config)
                        .ok()
                        .map(|parameters| (it.id.clone(), parameters))
                }
                _ => None,
            })
        };
        let rule = plan.video.as_ref().map(|it| it.keys);
        Self {
            videos: videos.collect(),
            aac: sounds(false),
            kept_aac: sounds(true),
            makes_kept: false,
            pcm: plan.audio.as_ref().is_some_and(|it| it.pcm),
            poster: plan.video.as_ref().is_some_and(|it| it.poster),
            keys: rule.map(KeyPictures::new),
            every: None,
            timeline: SampleTimeline::new(Timescale::OPUS),
            aac_sent: 0,
            pcm_sent: 0,
        }
    }

    fn formats(&self) -> Vec<Output> {
        let videos = self
            .videos
            .iter()
            .filter(|it| self.makes_kept || !it.kept)
            .filter_map(|it| {
                let codec = it.pictures.parameters().ok()?;
                Some(Output::Format {
                    rendition: it.id.clone(),
                    codec: CodecParameters::Video(codec),
                })
            });
        let sounds = self.sounds().map(|(id, codec)| Output::Format {
            rendition: id.clone(),
            codec: CodecParameters::Audio(codec.clone()),
        });
        videos.chain(sounds).collect()
    }

    fn sounds(&self) -> impl Iterator<Item = &(RenditionId, AudioParameters)> {
        self.aac
            .iter()
            .chain(self.kept_aac.iter().filter(|_| self.makes_kept))
    }

    fn handle_picture(&mut self, track: TrackId, pts: MediaTime, source_key: bool) -> Vec<Output> {
        let mut made = Vec::new();
        let Some(keys) = &mut self.keys else { return made };
        // The same arithmetic as in a graph, whose times are never negative.
        let at = pts.nanos().saturating_add(AHEAD).max(0) as u64;
        // A file that is not read has key pictures every two seconds.
        let due = self.makes_kept && self.every.is_none_or(|next| pts.since(MediaTime::ZERO) >= next);
        if due {
            self.every = Some(self.every.unwrap_or_default() + DUMMY_KEYS);
        }
        if source_key || due {
            keys.handle_source_key(at);
        }
        let key = keys.handle_picture(at);
        for video in self.videos.iter_mut().filter(|it| self.makes_kept || !it.kept) {
            made.push(Output::Packet {
                rendition: video.id.clone(),
                packet: Packet {
                    track,
                    pts,
                    dts: pts,
                    duration: None,
                    key,
                    data: video.pictures.next(key),
                },
            });
        }
        if std::mem::take(&mut self.poster) {
            made.push(Output::Poster(Picture {
                pts,
                width: 64,
                height: 36,
                format: PictureFormat::Jpeg,
                data: Bytes::from_static(POSTER),
            }));
        }
        made
    }

    fn handle_sound(&mut self, track: TrackId, pts: MediaTime, span: Duration) -> Vec<Output> {
        let mut made = Vec::new();
        let frames = (span.as_nanos() * u128::from(AAC_RATE) + 500_000_000) / 1_000_000_000;
        let began = self.timeline.end().is_some();
        let placed = self.timeline.handle_sound(pts, frames as u64);
        if !began {
            self.aac_sent = placed.at;
            self.pcm_sent = placed.at;
        }
        let end = placed.at + (placed.silence + placed.take) as i64;
        let time = |tick: i64| MediaTime::from_ticks(tick, Timescale::OPUS);
        let step = i64::from(FRAME_LENGTH);
        while self.aac_sent + step <= end {
            let (at, until) = (time(self.aac_sent), time(self.aac_sent + step));
            made.extend(self.sounds().map(|(id, codec)| Output::Packet {
                rendition: id.clone(),
                packet: Packet {
                    track,
                    pts: at,
                    dts: at,
                    duration: Some(until.since(at)),
                    key: true,
                    data: bitstream::silent_aac(codec.channels),
                },
            }));
            self.aac_sent += step;
        }
        let speech = (end - self.pcm_sent) / 3;
        if self.pcm && speech > 0 {
            made.push(Output::Pcm(PcmFrame {
                pts: time(self.pcm_sent),
                sample_rate: AAC_RATE / 3,
                channels: 1,
                samples: vec![0.0; speech as usize],
            }));
            self.pcm_sent += speech * 3;
        }
        made
    }
}

const DEFAULT_LENGTH: Duration = Duration::from_secs(10);
const DUMMY_KEYS: Duration = Duration::from_secs(2);
/// An hour, as times are ahead in a graph, nanoseconds.
const AHEAD: i64 = 3_600_000_000_000;
/// A gradient of 64×36, made by ffmpeg's `gradients` source.
const POSTER: &[u8] = include_bytes!("poster.jpg");
