//! The planner: pure, no IO. What it decides and why is readable from the [`Plan`]'s text.

mod dot;
mod ladder;
mod route;
mod shape;
mod sound;
mod text;

use std::time::Duration;

use loom_core::{AudioCodec, MediaKind, RenditionId, VideoCodec};
use serde::{Deserialize, Serialize};

use crate::capability::Capabilities;
use crate::device::MemoryDomain;
use crate::elements::{self, Work};
use crate::error::PlanError;
use crate::limits;
use crate::sound::LoudnessTarget;
use crate::thumbnails::Thumbnails;
pub use ladder::{Rung, Wanted};
use ladder::{afford, candidates};
pub use route::{Crossing, Rejected, Route, Stage};
use route::{Errand, Routes};
pub use shape::{AudioShape, Oddity, Rotation, SourceAudioCodec, SourceShape, SourceVideoCodec, VideoShape};

/// One rendition that will come out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedRendition {
    /// Its name.
    pub id: RenditionId,
    /// What it will be.
    pub shape: RenditionShape,
    /// Bits a second at most; for a kept rendition what is known or usual.
    pub bitrate: u32,
    /// Whether it is the source as it came.
    pub kept: bool,
}

impl PlannedRendition {
    /// Video or audio.
    pub fn kind(&self) -> MediaKind {
        match self.shape {
            RenditionShape::Video { .. } => MediaKind::Video,
            RenditionShape::Audio { .. } => MediaKind::Audio,
        }
    }
}

/// What a rendition will be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum RenditionShape {
    /// Coded pictures.
    Video {
        /// The codec.
        codec: VideoCodec,
        /// Pixels across. A kept live source may change it later.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Pictures a second: the source's, or 30 where that is not known.
        #[serde(with = "crate::exact")]
        frame_rate: f64,
    },
    /// Coded sound.
    Audio {
        /// The codec.
        codec: AudioCodec,
        /// Samples a second, Hz.
        sample_rate: u32,
        /// Channels.
        channels: u16,
    },
}

/// x264's trade of time for bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preset {
    /// 0.6 of `Veryfast`'s time for 10 to 15 % more bits, as measured on screens and film.
    Superfast,
    /// Where there are cores for it.
    Veryfast,
}

impl Preset {
    /// What so many cores can do, live or as long as it takes.
    pub(crate) fn of(live: bool, cores: usize) -> Self {
        let few_cores = cores <= if live { 8 } else { 2 };
        if few_cores {
            Self::Superfast
        } else {
            Self::Veryfast
        }
    }

    /// The encoder's own name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Superfast => "superfast",
            Self::Veryfast => "veryfast",
        }
    }
}

/// Where encoders start a new closed group of pictures. All do so at the same pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyRule {
    /// At the source's key frames.
    WithSource,
    /// At the first picture of each stretch of this length, counted from the first picture.
    Every(Duration),
}

/// One encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RungPlan {
    /// The rendition it makes.
    pub id: RenditionId,
    /// Pixels across, even.
    pub width: u32,
    /// Pixels down, even.
    pub height: u32,
    /// Bits a second at most over any second.
    pub bitrate: u32,
    /// Encoder threads.
    pub threads: u32,
}

/// How the video track is decoded, once, and encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoPlan {
    /// The source's codec.
    pub source: SourceVideoCodec,
    /// The rendition that is the source as it came.
    pub keep: Option<RenditionId>,
    /// The elements that pictures pass; `None` where nothing needs pictures or no decoder is installed.
    pub route: Option<Route>,
    /// What to run where the route fails, the next best first. Each makes the same renditions.
    pub fallbacks: Vec<Route>,
    /// What was not chosen.
    pub rejected: Vec<Rejected>,
    /// What rungs are encoded in.
    pub codec: VideoCodec,
    /// Whether pictures that do not visibly differ from the one before them are left out before scaling. Those of a
    /// device's memory are not looked at.
    pub skips_still: bool,
    /// How the picture is turned before scaling.
    pub rotation: Rotation,
    /// Pictures a second, as told to encoders.
    #[serde(with = "crate::exact")]
    pub frame_rate: f64,
    /// x264's preset.
    pub preset: Preset,
    /// Where segments may start.
    pub keys: KeyRule,
    /// Encoders, from the largest picture down: each is scaled from the source, on a device from the one before it.
    pub rungs: Vec<RungPlan>,
    /// Pictures that the source has, where known.
    pub frames: Option<u64>,
    /// Whether to take a poster.
    pub poster: bool,
    /// Which small pictures to give.
    pub thumbnails: Option<Thumbnails>,
}

/// How the audio track is decoded, once, and encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioPlan {
    /// The source's codec.
    pub source: SourceAudioCodec,
    /// The rendition that is the source as it came: `opus` or `aac`.
    pub keep: Option<RenditionId>,
    /// The decoder's factory; `None` where nothing needs samples, none is installed, or the source is PCM.
    pub decoder: Option<String>,
    /// The AAC encoder's factory, where `aac` is made.
    pub encoder: Option<String>,
    /// Channels of `aac`, 1 or 2. Its rate is 48 kHz.
    pub channels: u16,
    /// Bits a second of `aac`.
    pub bitrate: u32,
    /// Whether 16 kHz mono PCM is given.
    pub pcm: bool,
    /// Whether samples are decoded, and told how loud they are at the end ([`Output::Loudness`](crate::Output::Loudness)).
    pub measured: bool,
    /// Whether noise is suppressed before `aac` is encoded.
    pub suppresses_noise: bool,
    /// How loud `aac` is to be.
    pub loudness: Option<LoudnessTarget>,
    /// The decibels by which `aac` is made louder for that; `None` until they are decided ([`Plan::measuring`]).
    #[serde(with = "crate::exact::option")]
    pub gain: Option<f64>,
}

/// What will be made of a source, and how. Its `Display` is the plan as text.
///
/// ```
/// use loom_transcode::{Capabilities, SourceShape, SourceVideoCodec, VideoShape, Wanted, plan};
///
/// let source = SourceShape {
///     video: Some(VideoShape::new(SourceVideoCodec::H264, 1_280, 720)),
///     audio: None,
///     live: true,
///     duration: None,
/// };
/// let machine = Capabilities::of(4, ["avdec_h264", "x264enc", "h264parse"]);
/// let plan = plan(&source, &Wanted::default(), &machine)?;
/// let names: Vec<_> = plan.renditions.iter().map(|it| it.id.as_str()).collect();
/// assert_eq!(names, ["source", "480p", "360p"]);
/// println!("{plan}"); // the whole plan, and why it is so
/// # Ok::<(), loom_transcode::PlanError>(())
/// ```
#[must_use]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Everything that will come out, video from the largest down, then audio.
    pub renditions: Vec<PlannedRendition>,
    /// The video track's work.
    pub video: Option<VideoPlan>,
    /// The audio track's work.
    pub audio: Option<AudioPlan>,
    /// Whether the source is live.
    pub live: bool,
    /// How long the source is, where known.
    pub duration: Option<Duration>,
    /// Why it is so, in sentences.
    pub notes: Vec<String>,
}

/// Decides what to make of `source`, of what is `wanted`, with what the machine `can` do.
///
/// # Errors
/// Where nothing at all could come out: no media, an unusable size, no decoder or encoder for a source that cannot be
/// kept. What is only partly possible is planned for as far as it goes, with a note.
pub fn plan(source: &SourceShape, wanted: &Wanted, can: &Capabilities) -> Result<Plan, PlanError> {
    let mut made = Plan {
        renditions: Vec::new(),
        video: None,
        audio: None,
        live: source.live,
        duration: source.duration,
        notes: Vec::new(),
    };
    let video = source.video.as_ref().map(|it| made.add_video(it, wanted, can));
    let audio = source.audio.as_ref().map(|it| made.add_audio(it, wanted, can));
    // One unusable track does not take the other with it.
    match (video, audio) {
        (None, None) => Err(PlanError::NoMedia),
        (Some(Err(why)), None | Some(Err(_))) | (None, Some(Err(why))) => Err(why),
        (Some(Err(why)), Some(Ok(()))) | (Some(Ok(())), Some(Err(why))) => {
            made.notes.push(why.to_string());
            Ok(made)
        }
        _ => Ok(made),
    }
}

impl VideoPlan {
    /// Whether still pictures are left out by this route: where decoded pictures can be read at no further cost.
    pub fn compares(&self, route: &Route) -> bool {
        self.skips_still && route.decoder.memory == MemoryDomain::System
    }

    /// The same renditions by the best route that does without an element that failed; where the route has no such
    /// element, by the next best. `None` where there is no other.
    pub fn next_best(&self, failed: &str) -> Option<Self> {
        let mut rest = self.fallbacks.iter().filter(|it| !it.uses(failed)).cloned();
        let route = rest.next()?;
        let mut rejected = self.rejected.clone();
        let used = route.factories();
        rejected.retain(|it| !used.contains(it.what.as_str()));
        rejected.push(Rejected {
            what: failed.to_owned(),
            why: "it failed".to_owned(),
        });
        Some(Self {
            fallbacks: rest.collect(),
            rejected,
            route: Some(route),
            ..self.clone()
        })
    }
}

impl Plan {
    /// Cores that its pictures take while it runs live, by estimate, of the dearest content. Where nothing is encoded a few pictures are decoded, which
    /// counts as nothing.
    pub fn live_cores(&self) -> f64 {
        let encodes = self.video.as_ref().filter(|video| !video.rungs.is_empty());
        let route = encodes.and_then(|video| video.route.as_ref());
        route.map_or(0.0, |route| route.cost)
    }

    /// The plan to go on with where an element of the pictures' route failed, by its factory. It makes the same
    /// renditions, at whatever cost: overload is then met as overload always is.
    pub fn next_best(&self, failed: &str) -> Option<Self> {
        let video = self.video.as_ref()?.next_best(failed)?;
        let mut next = self.clone();
        next.notes
            .push(format!("{failed} failed, the next best is run instead"));
        next.video = Some(video);
        Some(next)
    }

    fn add_video(
        &mut self,
        source: &VideoShape,
        wanted: &Wanted,
        can: &Capabilities,
    ) -> Result<(), PlanError> {
        let shown = source.shown();
        let sides = [shown.0, shown.1, source.width, source.height];
        if sides
            .iter()
            .any(|side| !(2..=limits::MAX_DIMENSION).contains(side))
        {
            return Err(PlanError::VideoSize {
                width: source.width,
                height: source.height,
            });
        }
        let frame_rate = source
            .frame_rate
            .filter(|fps| (1.0..=240.0).contains(fps))
            .unwrap_or(30.0);
        let keep = match self.refusal_to_keep(source, wanted) {
            None => Some(source_id()),
            Some(why) => {
                self.notes
                    .push(format!("the video is not kept as it came: {why}"));
                None
            }
        };
        let preset = Preset::of(self.live, can.cores);
        let wished = candidates(shown, wanted, keep.is_some(), frame_rate);
        let mut errand = Errand {
            source: source.codec,
            profile: source.profile.as_deref(),
            coded: (source.width, source.height),
            shown,
            frame_rate,
            is_turned: source.rotation != Rotation::None,
            is_plain: !source.odd.contains(&Oddity::PixelFormat),
            rungs: &wished,
            preset,
            codec: wanted.codec,
            devices: wanted.devices,
            can,
        };
        let mut found = errand.routes();
        let mut rungs = wished.clone();
        let mut left_out = Vec::new();
        if found.routes.is_empty() {
            errand.rungs = &[];
            let looking = errand.routes();
            let missing = missing(source.codec, wanted.codec, &looking, &found);
            if keep.is_none() {
                return Err(missing);
            }
            let (what, looked_for) = match missing {
                PlanError::NoDecoder { codec, looked_for } => (format!("decodes {codec}"), looked_for),
                PlanError::NoEncoder { codec, looked_for } => (format!("encodes {codec}"), looked_for),
                other => (other.to_string(), String::new()),
            };
            if !wished.is_empty() {
                self.notes
                    .push(format!("no rungs: nothing here {what} (looked for {looked_for})"));
            }
            found = looking;
            rungs.clear();
        }
        if self.live
            && !rungs.is_empty()
            && let Some(best) = found.routes.first()
        {
            let budget = wanted.live_cores.unwrap_or(can.cores as f64 * LIVE_SHARE);
            let least =
                usize::from(keep.is_none()) + usize::from(shown.0.min(shown.1) > 360 || keep.is_none());
            let (decode, prices) = errand.prices(best);
            let chosen = afford(decode, &prices, keep.is_some(), least, budget);
            if chosen.len() < wished.len() {
                self.notes.push(format!(
                    "{} of {} rungs fit in {budget:.2} of {} cores at {frame_rate:.0} pictures a second",
                    chosen.len(),
                    wished.len(),
                    can.cores
                ));
                let spent: f64 = decode + chosen.iter().map(|it| prices[*it]).sum::<f64>();
                let out = (0..wished.len()).filter(|it| !chosen.contains(it));
                left_out.extend(out.map(|index| Rejected {
                    what: wished[index].id.to_string(),
                    why: format!(
                        "it would take {:.3} cores, and {spent:.3} of {budget:.3} are spent",
                        prices[index]
                    ),
                }));
                rungs = chosen.iter().map(|it| wished[*it].clone()).collect();
                errand.rungs = &rungs;
                // With fewer rungs, devices have room for more of them.
                found = errand.routes();
            }
        }
        let Routes { routes, mut rejected } = found;
        rejected.extend(left_out);
        let mut routes = routes.into_iter();
        let route = routes.next();
        for rung in &mut rungs {
            rung.threads = encoder_threads((rung.width, rung.height), can.cores);
        }
        if let Some(id) = &keep {
            self.renditions.push(PlannedRendition {
                id: id.clone(),
                shape: RenditionShape::Video {
                    codec: VideoCodec::H264,
                    width: shown.0,
                    height: shown.1,
                    frame_rate,
                },
                bitrate: source.bitrate.unwrap_or_else(|| usual_bitrate(shown, frame_rate)),
                kept: true,
            });
        }
        self.renditions.extend(rungs.iter().map(|rung| PlannedRendition {
            id: rung.id.clone(),
            shape: RenditionShape::Video {
                codec: wanted.codec,
                width: rung.width,
                height: rung.height,
                frame_rate,
            },
            bitrate: rung.bitrate,
            kept: false,
        }));
        let poster = wanted.poster && route.is_some();
        let thumbnails = wanted
            .thumbnails
            .filter(|_| route.is_some())
            .map(|it| it.for_length(self.duration));
        let pictures = !rungs.is_empty() || poster || thumbnails.is_some();
        self.video = Some(VideoPlan {
            source: source.codec,
            keys: match &keep {
                Some(_) => KeyRule::WithSource,
                None => KeyRule::Every(wanted.key_interval.max(Duration::from_millis(100))),
            },
            keep,
            route: route.filter(|_| pictures),
            fallbacks: routes.filter(|_| pictures).collect(),
            rejected: if pictures { rejected } else { Vec::new() },
            codec: wanted.codec,
            skips_still: wanted.skip_still && !rungs.is_empty(),
            rotation: source.rotation,
            frame_rate,
            preset,
            rungs,
            frames: source.frames,
            poster,
            thumbnails,
        });
        Ok(())
    }

    /// Why the video cannot be the top rendition as it is, or `None` where it can.
    fn refusal_to_keep(&self, source: &VideoShape, wanted: &Wanted) -> Option<String> {
        if !wanted.keep_source {
            return Some("it was not wanted".to_owned());
        }
        if source.codec != SourceVideoCodec::H264 {
            return Some(format!("it is {}", source.codec));
        }
        if let Some(odd) = source.odd.first() {
            return Some(format!("it {odd}"));
        }
        if source.rotation != Rotation::None {
            return Some("it must be turned".to_owned());
        }
        if source.pixel_aspect != (1, 1) {
            return Some("its pixels are not square".to_owned());
        }
        // Live, key frames are asked for; a file's are where they are.
        match source.key_interval {
            Some(far) if !self.live && far > wanted.max_key_interval => Some(format!(
                "its key frames are up to {:.1} s apart, and segments want {:.1} s at most",
                far.as_secs_f64(),
                wanted.max_key_interval.as_secs_f64()
            )),
            _ => None,
        }
    }

    fn add_audio(
        &mut self,
        source: &AudioShape,
        wanted: &Wanted,
        can: &Capabilities,
    ) -> Result<(), PlanError> {
        let decoders = audio_decoders(source.codec);
        let decodable = source.codec == SourceAudioCodec::Pcm || can.first_of(decoders).is_some();
        let encodable = decodable && can.first_of(elements::AAC_ENCODERS).is_some();
        let loudness = wanted.sound.loudness.filter(|_| !self.live);
        let treated = wanted.sound.suppress_noise || loudness.is_some();
        let keep = match source.codec {
            _ if !wanted.keep_source => None,
            SourceAudioCodec::Opus if (1..=2).contains(&source.channels) => RenditionId::new("opus"),
            // what is made of it has its place
            SourceAudioCodec::Aac if treated && encodable => None,
            SourceAudioCodec::Aac if source.channels <= 2 => RenditionId::new("aac"),
            _ => None,
        };
        let kept_codec = match source.codec {
            SourceAudioCodec::Opus => AudioCodec::Opus,
            _ => AudioCodec::Aac,
        };
        let has_aac = keep.is_some() && kept_codec == AudioCodec::Aac;
        let wants_aac = !has_aac && (wanted.aac || keep.is_none());
        let encoder = can
            .first_of(elements::AAC_ENCODERS)
            .filter(|_| wants_aac && decodable);
        if keep.is_none() && !decodable {
            return Err(PlanError::NoDecoder {
                codec: source.codec.to_string(),
                looked_for: decoders.join(", "),
            });
        }
        if keep.is_none() && encoder.is_none() {
            return Err(PlanError::NoEncoder {
                codec: "AAC",
                looked_for: elements::AAC_ENCODERS.join(", "),
            });
        }
        if wants_aac && encoder.is_none() {
            self.notes
                .push("no aac rendition: no decoder or no encoder for it is installed".to_owned());
        }
        if treated && encoder.is_none() {
            self.notes
                .push("the sound stays as it came: it is not encoded here".to_owned());
        }
        if self.live && wanted.sound.loudness.is_some() {
            self.notes.push(
                "the sound stays as loud as it comes: live nobody knows how loud it will have been"
                    .to_owned(),
            );
        }
        let channels = source.channels.clamp(1, 2);
        let bitrate = u32::from(channels) * 64_000;
        if let Some(id) = &keep {
            self.renditions.push(PlannedRendition {
                id: id.clone(),
                shape: RenditionShape::Audio {
                    codec: kept_codec,
                    sample_rate: source.sample_rate,
                    channels: source.channels,
                },
                bitrate: source.bitrate.unwrap_or(bitrate),
                kept: true,
            });
        }
        if let (Some(_), Some(id)) = (encoder, RenditionId::new("aac")) {
            self.renditions.push(PlannedRendition {
                id,
                shape: RenditionShape::Audio {
                    codec: AudioCodec::Aac,
                    sample_rate: AAC_RATE,
                    channels,
                },
                bitrate,
                kept: false,
            });
        }
        let pcm = wanted.captions_pcm && decodable;
        let samples = pcm || encoder.is_some();
        self.audio = Some(AudioPlan {
            source: source.codec,
            keep,
            decoder: can.first_of(decoders).filter(|_| samples).map(str::to_owned),
            encoder: encoder.map(str::to_owned),
            channels,
            bitrate,
            pcm,
            measured: samples,
            suppresses_noise: wanted.sound.suppress_noise && encoder.is_some(),
            loudness: loudness.filter(|_| encoder.is_some()),
            gain: None,
        });
        Ok(())
    }
}

/// The sample rate of every `aac` rendition that is encoded here, Hz.
pub(crate) const AAC_RATE: u32 = 48_000;

/// Of each core, what live video may take: captions, packaging and other sessions have the rest.
const LIVE_SHARE: f64 = 0.125;

fn source_id() -> RenditionId {
    RenditionId::new("source").unwrap_or_else(|| unreachable!("`source` obeys the rule for names"))
}

/// One thread codes 720p at a few times real time; slices for more threads cost bits.
pub(crate) fn encoder_threads((w, h): (u32, u32), cores: usize) -> u32 {
    match u64::from(w) * u64::from(h) {
        pixels if pixels > 1280 * 800 && cores > 1 => 2,
        _ => 1,
    }
}

/// What a browser spends on a picture of this size, bits a second: a bound for the playlist until it is measured.
pub(crate) fn usual_bitrate((w, h): (u32, u32), frame_rate: f64) -> u32 {
    let bits = f64::from(w) * f64::from(h) * frame_rate * 0.1;
    bits.clamp(500_000.0, 12_000_000.0) as u32
}

/// What stands in the way of rungs: a decoder, an encoder, or a way between them.
fn missing(source: SourceVideoCodec, codec: VideoCodec, looking: &Routes, found: &Routes) -> PlanError {
    let refused: String = found
        .rejected
        .iter()
        .map(|it| format!("; {}: {}", it.what, it.why))
        .collect();
    if looking.routes.is_empty() {
        return PlanError::NoDecoder {
            codec: source.to_string(),
            looked_for: elements::names_of(Work::Decode(source)) + &refused,
        };
    }
    PlanError::NoEncoder {
        codec: match codec {
            VideoCodec::H264 => "H.264",
            VideoCodec::Hevc => "HEVC",
            VideoCodec::Vp8 => "VP8",
            VideoCodec::Vp9 => "VP9",
            VideoCodec::Av1 => "AV1",
        },
        looked_for: elements::names_of(Work::Encode(codec)) + &refused,
    }
}

fn audio_decoders(codec: SourceAudioCodec) -> &'static [&'static str] {
    match codec {
        SourceAudioCodec::Opus => elements::OPUS_DECODERS,
        SourceAudioCodec::Aac | SourceAudioCodec::AacOther => elements::AAC_DECODERS,
        SourceAudioCodec::Vorbis => elements::VORBIS_DECODERS,
        SourceAudioCodec::Mp3 => elements::MP3_DECODERS,
        SourceAudioCodec::Flac => elements::FLAC_DECODERS,
        SourceAudioCodec::Pcm => &[],
    }
}

#[cfg(test)]
mod tests;
