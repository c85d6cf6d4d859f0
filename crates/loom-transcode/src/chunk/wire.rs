//! Requests and chunks as bytes: a length (4 bytes, big-endian), a head of so much JSON that says what there is, then the bytes of all packets
//! and pictures, one behind the other.

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, Bytes};
use loom_core::{
    AudioCodec, AudioParameters, CodecParameters, MediaTime, Packet, PcmFrame, Picture, PictureFormat,
    RenditionId, TrackId, VideoCodec, VideoParameters,
};
use serde::{Deserialize, Serialize};

use super::{Chunk, ChunkItem, ChunkRequest};
use crate::backend::{Output, PictureCount};
use crate::error::TranscodeError;
use crate::plan::VideoPlan;
use crate::sound::Loudness;

/// A request without the bytes of its packets.
#[derive(Serialize, Deserialize)]
pub(crate) struct RequestHead {
    number: u32,
    plan: VideoPlan,
    shown: Range<MediaTime>,
    items: Vec<Given>,
}

#[derive(Serialize, Deserialize)]
enum Given {
    Format(String),
    Packet(PacketHead),
}

/// An output without its bytes.
#[derive(Serialize, Deserialize)]
pub(crate) enum Made {
    Format(RenditionId, VideoHead),
    Sound(RenditionId, SoundHead),
    Packet(RenditionId, PacketHead),
    Pcm(PcmHead),
    Poster(PictureHead),
    Thumbnail(PictureHead),
    Warning(String),
    Failed(Option<RenditionId>, String),
    Progress(MediaTime, Option<Duration>),
    Counted(PictureCount),
    Loudness(Loudness),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct PacketHead {
    track: TrackId,
    pts: MediaTime,
    dts: MediaTime,
    /// Nanoseconds.
    lasts: Option<u64>,
    key: bool,
    len: usize,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct VideoHead {
    codec: VideoCodec,
    width: u32,
    height: u32,
    len: usize,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SoundHead {
    codec: AudioCodec,
    sample_rate: u32,
    channels: u16,
    len: usize,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct PcmHead {
    pts: MediaTime,
    sample_rate: u32,
    channels: u16,
    /// Samples, each a little-endian `f32`.
    len: usize,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct PictureHead {
    pts: MediaTime,
    width: u32,
    height: u32,
    len: usize,
}

impl ChunkRequest {
    /// As bytes, for another machine of this version.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let head = RequestHead::of(self, &mut body);
        join(&head, &body)
    }

    /// What [`to_bytes`](Self::to_bytes) has written.
    ///
    /// # Errors
    /// [`TranscodeError::Chunk`] where they are cut short, or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TranscodeError> {
        let (head, mut body): (RequestHead, _) = split(Bytes::copy_from_slice(bytes))?;
        head.read(&mut body)
    }
}

impl Chunk {
    /// As bytes, for another machine of this version, or the disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let made = |output: &Output| Made::of(output, &mut body);
        let head: Vec<Made> = self.outputs.iter().filter_map(made).collect();
        join(&head, &body)
    }

    /// What [`to_bytes`](Self::to_bytes) has written.
    ///
    /// # Errors
    /// [`TranscodeError::Chunk`] where they are cut short, or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TranscodeError> {
        let (head, mut body): (Vec<Made>, _) = split(Bytes::copy_from_slice(bytes))?;
        let outputs: Result<_, _> = head.into_iter().map(|made| made.read(&mut body)).collect();
        Ok(Self { outputs: outputs? })
    }
}

impl RequestHead {
    /// That of `request`, whose bytes are put behind `body`.
    pub(crate) fn of(request: &ChunkRequest, body: &mut Vec<u8>) -> Self {
        body.reserve(request.packets().map(|it| it.data.len()).sum());
        let item = |item: &ChunkItem| match item {
            ChunkItem::Format(format) => Given::Format(format.clone()),
            ChunkItem::Packet(packet) => Given::Packet(PacketHead::of(packet, body)),
        };
        Self {
            number: request.number,
            plan: request.plan.clone(),
            shown: request.shown.clone(),
            items: request.items.iter().map(item).collect(),
        }
    }

    /// The request, whose bytes are taken from the beginning of `body`.
    pub(crate) fn read(self, body: &mut Bytes) -> Result<ChunkRequest, TranscodeError> {
        let item = |given| {
            Ok(match given {
                Given::Format(format) => ChunkItem::Format(format),
                Given::Packet(packet) => ChunkItem::Packet(packet.read(body)?),
            })
        };
        let items = self
            .items
            .into_iter()
            .map(item)
            .collect::<Result<_, TranscodeError>>();
        Ok(ChunkRequest {
            number: self.number,
            plan: self.plan,
            shown: self.shown,
            items: items?,
        })
    }
}

impl Made {
    /// That of `output`, whose bytes are put behind `body`; `None` for what only live runs give.
    pub(crate) fn of(output: &Output, body: &mut Vec<u8>) -> Option<Self> {
        Some(match output {
            Output::Format { rendition, codec } => {
                let mut config = |config: &Bytes| {
                    body.extend_from_slice(config);
                    config.len()
                };
                match codec {
                    CodecParameters::Video(video) => {
                        let head = VideoHead {
                            codec: video.codec,
                            width: video.width,
                            height: video.height,
                            len: config(&video.config),
                        };
                        Self::Format(rendition.clone(), head)
                    }
                    CodecParameters::Audio(audio) => {
                        let head = SoundHead {
                            codec: audio.codec,
                            sample_rate: audio.sample_rate,
                            channels: audio.channels,
                            len: config(&audio.config),
                        };
                        Self::Sound(rendition.clone(), head)
                    }
                }
            }
            Output::Packet { rendition, packet } => {
                Self::Packet(rendition.clone(), PacketHead::of(packet, body))
            }
            Output::Pcm(frame) => {
                body.extend(frame.samples.iter().flat_map(|it| it.to_le_bytes()));
                Self::Pcm(PcmHead {
                    pts: frame.pts,
                    sample_rate: frame.sample_rate,
                    channels: frame.channels,
                    len: frame.samples.len(),
                })
            }
            Output::Poster(picture) => Self::Poster(PictureHead::of(picture, body)),
            Output::Thumbnail(picture) => Self::Thumbnail(PictureHead::of(picture, body)),
            Output::Warning(text) => Self::Warning(text.clone()),
            Output::Failed { rendition, reason } => Self::Failed(rendition.clone(), reason.clone()),
            Output::Progress { done, total } => Self::Progress(*done, *total),
            Output::Counted(count) => Self::Counted(count.clone()),
            Output::Loudness(loudness) => Self::Loudness(*loudness),
            Output::Still { .. } | Output::Overload { .. } | Output::End => return None,
        })
    }

    /// The output, whose bytes are taken from the beginning of `body`.
    pub(crate) fn read(self, body: &mut Bytes) -> Result<Output, TranscodeError> {
        Ok(match self {
            Self::Format(rendition, video) => Output::Format {
                rendition,
                codec: CodecParameters::Video(VideoParameters {
                    codec: video.codec,
                    width: video.width,
                    height: video.height,
                    config: take(body, video.len)?,
                }),
            },
            Self::Sound(rendition, sound) => Output::Format {
                rendition,
                codec: CodecParameters::Audio(AudioParameters {
                    codec: sound.codec,
                    sample_rate: sound.sample_rate,
                    channels: sound.channels,
                    config: take(body, sound.len)?,
                }),
            },
            Self::Packet(rendition, packet) => Output::Packet {
                rendition,
                packet: packet.read(body)?,
            },
            Self::Pcm(pcm) => {
                let samples = take(body, pcm.len.saturating_mul(4))?;
                let (samples, _) = samples.as_chunks::<4>();
                Output::Pcm(PcmFrame {
                    pts: pcm.pts,
                    sample_rate: pcm.sample_rate,
                    channels: pcm.channels,
                    samples: samples.iter().map(|it| f32::from_le_bytes(*it)).collect(),
                })
            }
            Self::Poster(picture) => Output::Poster(picture.read(PictureFormat::Jpeg, body)?),
            Self::Thumbnail(picture) => Output::Thumbnail(picture.read(PictureFormat::Rgb, body)?),
            Self::Warning(text) => Output::Warning(text),
            Self::Failed(rendition, reason) => Output::Failed { rendition, reason },
            Self::Progress(done, total) => Output::Progress { done, total },
            Self::Counted(count) => Output::Counted(count),
            Self::Loudness(loudness) => Output::Loudness(loudness),
        })
    }
}

impl PacketHead {
    fn of(packet: &Packet, body: &mut Vec<u8>) -> Self {
        body.extend_from_slice(&packet.data);
        Self {
            track: packet.track,
            pts: packet.pts,
            dts: packet.dts,
            lasts: packet.duration.and_then(|it| u64::try_from(it.as_nanos()).ok()),
            key: packet.key,
            len: packet.data.len(),
        }
    }

    fn read(self, body: &mut Bytes) -> Result<Packet, TranscodeError> {
        Ok(Packet {
            track: self.track,
            pts: self.pts,
            dts: self.dts,
            duration: self.lasts.map(Duration::from_nanos),
            key: self.key,
            data: take(body, self.len)?,
        })
    }
}

impl PictureHead {
    fn of(picture: &Picture, body: &mut Vec<u8>) -> Self {
        body.extend_from_slice(&picture.data);
        Self {
            pts: picture.pts,
            width: picture.width,
            height: picture.height,
            len: picture.data.len(),
        }
    }

    fn read(self, format: PictureFormat, body: &mut Bytes) -> Result<Picture, TranscodeError> {
        Ok(Picture {
            pts: self.pts,
            width: self.width,
            height: self.height,
            format,
            data: take(body, self.len)?,
        })
    }
}

/// A message: a head, and the bytes that it speaks of.
pub(crate) fn join(head: &impl Serialize, body: &[u8]) -> Vec<u8> {
    // Plain data with text for keys: it has a form in JSON.
    let head = serde_json::to_vec(head).unwrap_or_default();
    let mut bytes = Vec::with_capacity(4 + head.len() + body.len());
    bytes.extend_from_slice(&(head.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(body);
    bytes
}

/// What [`join`] has made, taken apart.
pub(crate) fn split<T: for<'de> Deserialize<'de>>(bytes: Bytes) -> Result<(T, Bytes), TranscodeError> {
    let mut bytes = bytes;
    let len = take(&mut bytes, 4)?.get_u32() as usize;
    let head = take(&mut bytes, len)?;
    let head = serde_json::from_slice(&head).map_err(|why| TranscodeError::Chunk(why.to_string()))?;
    Ok((head, bytes))
}

fn take(body: &mut Bytes, len: usize) -> Result<Bytes, TranscodeError> {
    if len > body.remaining() {
        return Err(TranscodeError::Chunk("it is cut short".to_owned()));
    }
    Ok(body.split_to(len))
}
