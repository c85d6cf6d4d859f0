//! The planner: pure, no IO. What it decides and why is readable from the [`Plan`]'s text.

mod ladder;
mod shape;
mod text;

use std::time::Duration;

use loom_core::{AudioCodec, MediaKind, RenditionId, VideoCodec};

use crate::capability::{self as table, Capabilities};
use crate::error::PlanError;
use crate::limits;
use crate::thumbnails::Thumbnails;
pub use ladder::{Rung, Wanted};
use ladder::{afford, candidates};
pub use shape::{AudioShape, Oddity, Rotation, SourceAudioCodec, SourceShape, SourceVideoCodec, VideoShape};

/// One rendition that will come out.
#[derive(Debug, Clone, PartialEq)]
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
#[derive(Debug, Clone, Copy, PartialEq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// 0.6 of `Veryfast`'s time for 10 to 15 % more bits, as measured on screens and film.
    Superfast,
    /// Where there are cores for it.
    Veryfast,
}

impl Preset {
    /// The encoder's own name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Superfast => "superfast",
            Self::Veryfast => "veryfast",
        }
    }
}

/// Where encoders start a new closed group of pictures. All do so at the same pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    /// At the source's key frames.
    WithSource,
    /// At the first picture of each stretch of this length, counted from the first picture.
    Every(Duration),
}

/// One encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq)]
pub struct VideoPlan {
    /// The source's codec.
    pub source: SourceVideoCodec,
    /// The rendition that is the source as it came.
    pub keep: Option<RenditionId>,
    /// The decoder's factory; `None` where nothing needs pictures or none is installed.
    pub decoder: Option<String>,
    /// The encoder's factory, where there are rungs.
    pub encoder: Option<String>,
    /// How the picture is turned before scaling.
    pub rotation: Rotation,
    /// Pictures a second, as told to encoders.
    pub frame_rate: f64,
    /// x264's preset.
    pub preset: Preset,
    /// Where segments may start.
    pub keys: KeyRule,
    /// Encoders, from the largest picture down: each is scaled from the one before it.
    pub rungs: Vec<RungPlan>,
    /// Pictures that the source has, where known.
    pub frames: Option<u64>,
    /// Whether to take a poster.
    pub poster: bool,
    /// Which small pictures to give.
    pub thumbnails: Option<Thumbnails>,
}

/// How the audio track is decoded, once, and encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

/// What will be made of a source, and how. Its `Display` is the plan as text.
#[derive(Debug, Clone, PartialEq)]
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
    let hardware: Vec<_> = can.hardware().collect();
    if !hardware.is_empty() {
        made.notes.push(format!(
            "installed but not used, the CPU runs this plan: {}",
            hardware.join(", ")
        ));
    }
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

impl Plan {
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
        let decoders = video_decoders(source.codec);
        let decoder = can.first_of(decoders);
        let encoder = can.first_of(table::H264_ENCODERS);
        if keep.is_none() && decoder.is_none() {
            return Err(PlanError::NoDecoder {
                codec: source.codec.to_string(),
                looked_for: decoders.join(", "),
            });
        }
        if keep.is_none() && encoder.is_none() {
            return Err(PlanError::NoEncoder {
                codec: "H.264",
                looked_for: table::H264_ENCODERS.join(", "),
            });
        }
        let few_cores = can.cores <= if self.live { 8 } else { 2 };
        let preset = if few_cores {
            Preset::Superfast
        } else {
            Preset::Veryfast
        };
        let mut rungs = match (decoder, encoder) {
            (Some(_), Some(_)) => candidates(shown, wanted, keep.is_some(), frame_rate),
            _ => {
                self.notes.push(format!(
                    "no rungs: {} is not installed",
                    if decoder.is_none() {
                        "a decoder"
                    } else {
                        "an encoder"
                    }
                ));
                Vec::new()
            }
        };
        if self.live {
            let budget = wanted.live_cores.unwrap_or(can.cores as f64 * LIVE_SHARE);
            let least =
                usize::from(keep.is_none()) + usize::from(shown.0.min(shown.1) > 360 || keep.is_none());
            let before = rungs.len();
            rungs = afford(rungs, shown, frame_rate, preset, keep.is_some(), least, budget);
            if rungs.len() < before {
                self.notes.push(format!(
                    "{} of {before} rungs fit in {budget:.2} of {} cores at {frame_rate:.0} pictures a second",
                    rungs.len(),
                    can.cores
                ));
            }
        }
        for rung in &mut rungs {
            // One thread codes 720p at a few times real time; slices for more threads cost bits.
            rung.threads = match u64::from(rung.width) * u64::from(rung.height) {
                pixels if pixels > 1280 * 800 && can.cores > 1 => 2,
                _ => 1,
            };
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
                codec: VideoCodec::H264,
                width: rung.width,
                height: rung.height,
                frame_rate,
            },
            bitrate: rung.bitrate,
            kept: false,
        }));
        let poster = wanted.poster && decoder.is_some();
        let thumbnails = wanted
            .thumbnails
            .filter(|_| decoder.is_some())
            .map(|it| it.for_length(self.duration));
        let pictures = !rungs.is_empty() || poster || thumbnails.is_some();
        self.video = Some(VideoPlan {
            source: source.codec,
            keys: match &keep {
                Some(_) => KeyRule::WithSource,
                None => KeyRule::Every(wanted.key_interval.max(Duration::from_millis(100))),
            },
            keep,
            decoder: decoder.filter(|_| pictures).map(str::to_owned),
            encoder: encoder.filter(|_| !rungs.is_empty()).map(str::to_owned),
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
        let keep = match source.codec {
            _ if !wanted.keep_source => None,
            SourceAudioCodec::Opus if (1..=2).contains(&source.channels) => RenditionId::new("opus"),
            SourceAudioCodec::Aac if source.channels <= 2 => RenditionId::new("aac"),
            _ => None,
        };
        let kept_codec = match source.codec {
            SourceAudioCodec::Opus => AudioCodec::Opus,
            _ => AudioCodec::Aac,
        };
        let decoders = audio_decoders(source.codec);
        let decodable = source.codec == SourceAudioCodec::Pcm || can.first_of(decoders).is_some();
        let has_aac = keep.is_some() && kept_codec == AudioCodec::Aac;
        let wants_aac = !has_aac && (wanted.aac || keep.is_none());
        let encoder = can
            .first_of(table::AAC_ENCODERS)
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
                looked_for: table::AAC_ENCODERS.join(", "),
            });
        }
        if wants_aac && encoder.is_none() {
            self.notes
                .push("no aac rendition: no decoder or no encoder for it is installed".to_owned());
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

/// What a browser spends on a picture of this size, bits a second: a bound for the playlist until it is measured.
fn usual_bitrate((w, h): (u32, u32), frame_rate: f64) -> u32 {
    let bits = f64::from(w) * f64::from(h) * frame_rate * 0.1;
    bits.clamp(500_000.0, 12_000_000.0) as u32
}

fn video_decoders(codec: SourceVideoCodec) -> &'static [&'static str] {
    match codec {
        SourceVideoCodec::H264 => table::H264_DECODERS,
        SourceVideoCodec::Hevc => table::HEVC_DECODERS,
        SourceVideoCodec::Vp8 => table::VP8_DECODERS,
        SourceVideoCodec::Vp9 => table::VP9_DECODERS,
        SourceVideoCodec::Av1 => table::AV1_DECODERS,
    }
}

fn audio_decoders(codec: SourceAudioCodec) -> &'static [&'static str] {
    match codec {
        SourceAudioCodec::Opus => table::OPUS_DECODERS,
        SourceAudioCodec::Aac | SourceAudioCodec::AacOther => table::AAC_DECODERS,
        SourceAudioCodec::Vorbis => table::VORBIS_DECODERS,
        SourceAudioCodec::Mp3 => table::MP3_DECODERS,
        SourceAudioCodec::Flac => table::FLAC_DECODERS,
        SourceAudioCodec::Pcm => &[],
    }
}

#[cfg(test)]
mod tests;
