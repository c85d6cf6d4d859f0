//! Requests and chunks as bytes: a length (4 bytes, big-endian), a head of so much JSON that says what there is, then the bytes of all packets
//! and pictures, one behind the other.

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, Bytes};
use loom_core::{
    CodecParameters, MediaTime, Packet, Picture, PictureFormat, RenditionId, TrackId, VideoCodec,
    VideoParameters,
};
use serde::{Deserialize, Serialize};

use super::{Chunk, ChunkItem, ChunkRequest};
use crate::backend::{Output, PictureCount};
use crate::error::TranscodeError;
use crate::plan::VideoPlan;

#[derive(Serialize, Deserialize)]
struct RequestHead {
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

#[derive(Serialize, Deserialize)]
enum Made {
    Format(RenditionId, VideoHead),
    Packet(RenditionId, PacketHead),
    Poster(PictureHead),
    Thumbnail(PictureHead),
    Warning(String),
    Counted(PictureCount),
}

#[derive(Serialize, Deserialize)]
struct PacketHead {
    track: TrackId,
    pts: MediaTime,
    dts: MediaTime,
    /// Nanoseconds.
    lasts: Option<u64>,
    key: bool,
    len: usize,
}

#[derive(Serialize, Deserialize)]
struct VideoHead {
    codec: VideoCodec,
    width: u32,
    height: u32,
    len: usize,
}

#[derive(Serialize, Deserialize)]
struct PictureHead {
    pts: MediaTime,
    width: u32,
    height: u32,
    len: usize,
}

impl ChunkRequest {
    /// As bytes, for another machine of this version.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let item = |item: &ChunkItem| match item {
            ChunkItem::Format(format) => Given::Format(format.clone()),
            ChunkItem::Packet(packet) => Given::Packet(PacketHead::of(packet, &mut body)),
        };
        let head = RequestHead {
            number: self.number,
            plan: self.plan.clone(),
            shown: self.shown.clone(),
            items: self.items.iter().map(item).collect(),
        };
        join(&head, &body)
    }

    /// What [`to_bytes`](Self::to_bytes) has written.
    ///
    /// # Errors
    /// [`TranscodeError::Chunk`] where they are cut short, or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TranscodeError> {
        let (head, mut body): (RequestHead, _) = split(bytes)?;
        let item = |given| {
            Ok(match given {
                Given::Format(format) => ChunkItem::Format(format),
                Given::Packet(packet) => ChunkItem::Packet(packet.read(&mut body)?),
            })
        };
        Ok(Self {
            number: head.number,
            plan: head.plan,
            shown: head.shown,
            items: head
                .items
                .into_iter()
                .map(item)
                .collect::<Result<_, TranscodeError>>()?,
        })
    }
}

impl Chunk {
    /// As bytes, for another machine of this version, or the disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let made = |output: &Output| {
            Some(match output {
                Output::Format {
                    rendition,
                    codec: CodecParameters::Video(video),
                } => {
                    body.extend_from_slice(&video.config);
                    let head = VideoHead {
                        codec: video.codec,
                        width: video.width,
                        height: video.height,
                        len: video.config.len(),
                    };
                    Made::Format(rendition.clone(), head)
                }
                Output::Packet { rendition, packet } => {
                    Made::Packet(rendition.clone(), PacketHead::of(packet, &mut body))
                }
                Output::Poster(picture) => Made::Poster(PictureHead::of(picture, &mut body)),
                Output::Thumbnail(picture) => Made::Thumbnail(PictureHead::of(picture, &mut body)),
                Output::Warning(text) => Made::Warning(text.clone()),
                Output::Counted(count) => Made::Counted(count.clone()),
                _ => return None,
            })
        };
        let head: Vec<Made> = self.outputs.iter().filter_map(made).collect();
        join(&head, &body)
    }

    /// What [`to_bytes`](Self::to_bytes) has written.
    ///
    /// # Errors
    /// [`TranscodeError::Chunk`] where they are cut short, or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TranscodeError> {
        let (head, mut body): (Vec<Made>, _) = split(bytes)?;
        let output = |made| {
            Ok(match made {
                Made::Format(rendition, video) => Output::Format {
                    rendition,
                    codec: CodecParameters::Video(VideoParameters {
                        codec: video.codec,
                        width: video.width,
                        height: video.height,
                        config: take(&mut body, video.len)?,
                    }),
                },
                Made::Packet(rendition, packet) => Output::Packet {
                    rendition,
                    packet: packet.read(&mut body)?,
                },
                Made::Poster(picture) => Output::Poster(picture.read(PictureFormat::Jpeg, &mut body)?),
                Made::Thumbnail(picture) => Output::Thumbnail(picture.read(PictureFormat::Rgb, &mut body)?),
                Made::Warning(text) => Output::Warning(text),
                Made::Counted(count) => Output::Counted(count),
            })
        };
        Ok(Self {
            outputs: head
                .into_iter()
                .map(output)
                .collect::<Result<_, TranscodeError>>()?,
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

fn join(head: &impl Serialize, body: &[u8]) -> Vec<u8> {
    // Plain data with text for keys: it has a form in JSON.
    let head = serde_json::to_vec(head).unwrap_or_default();
    let mut bytes = Vec::with_capacity(4 + head.len() + body.len());
    bytes.extend_from_slice(&(head.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(body);
    bytes
}

fn split<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<(T, Bytes), TranscodeError> {
    let short = || TranscodeError::Chunk("it is cut short".to_owned());
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
    let (head, body) = rest
        .split_at_checked(u32::from_be_bytes(*len) as usize)
        .ok_or_else(short)?;
    let head = serde_json::from_slice(head).map_err(|why| TranscodeError::Chunk(why.to_string()))?;
    Ok((head, Bytes::copy_from_slice(body)))
}

fn take(body: &mut Bytes, len: usize) -> Result<Bytes, TranscodeError> {
    if len > body.remaining() {
        return Err(TranscodeError::Chunk("it is cut short".to_owned()));
    }
    Ok(body.split_to(len))
}
