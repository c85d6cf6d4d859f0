//! RTP payloads to coded pictures and sound.

mod av1;
mod h264;
mod opus;
mod vp8;
mod vp9;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use loom_core::CodecParameters;
use thiserror::Error;

use crate::limits;
use crate::media::{RtpCodec, RtpFormat, RtpPacket};

/// A payload that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum PayloadError {
    #[error("{what}: payload ends before it should ({clause})")]
    Truncated {
        what: &'static str,
        clause: &'static str,
    },
    #[error("{what}: {why} ({clause})")]
    Invalid {
        what: &'static str,
        why: &'static str,
        clause: &'static str,
    },
    #[error(
        "picture larger than {} bytes or {} packets",
        limits::FRAME_BYTES,
        limits::FRAME_PACKETS
    )]
    TooLarge,
    #[error(transparent)]
    Codec(#[from] loom_core::CodecError),
}

/// One coded picture, or one packet of sound, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CodedFrame {
    pub(crate) timestamp: u32,
    /// When its first packet came.
    pub(crate) arrived: Instant,
    pub(crate) unit: CodedUnit,
}

/// The payload of a [`CodedFrame`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CodedUnit {
    /// In the form of [`loom_core::Packet::data`].
    pub(crate) data: Bytes,
    pub(crate) key: bool,
    pub(crate) duration: Option<Duration>,
    /// Set for a key frame: how to decode from here on.
    pub(crate) parameters: Option<CodecParameters>,
}

/// How one codec's payloads make a picture.
trait PayloadFormat: std::fmt::Debug + Send {
    /// Whether the payload is the first of a picture.
    fn starts_picture(&self, payload: &[u8]) -> bool;

    /// Whether every payload is whole, whatever its marker says.
    fn one_payload(&self) -> bool {
        false
    }

    /// Takes the next payload of the picture that is being put together.
    fn handle_payload(&mut self, payload: Bytes) -> Result<(), PayloadError>;

    /// The picture, now that its last payload is there; `None` where it holds no picture (parameter sets alone).
    fn finish(&mut self) -> Result<Option<CodedUnit>, PayloadError>;

    /// Forgets the payloads of an unfinished picture.
    fn clear(&mut self);
}

/// Puts the payloads of one stream, in order, together to whole frames.
///
/// Invariant: a frame comes out only if none of its packets is missing.
#[derive(Debug)]
pub(crate) struct Depacketizer {
    format: Box<dyn PayloadFormat>,
    open: Option<Open>,
    /// The timestamp of a picture whose start is missing.
    skipped: Option<u32>,
    after_loss: bool,
    frames: VecDeque<CodedFrame>,
}

#[derive(Debug)]
struct Open {
    timestamp: u32,
    arrived: Instant,
    packets: usize,
    bytes: usize,
}

impl Depacketizer {
    pub(crate) fn new(format: &RtpFormat) -> Self {
        let format: Box<dyn PayloadFormat> = match format.codec {
            RtpCodec::H264 => Box::new(h264::H264Payloads::new(&format.parameters)),
            RtpCodec::Vp8 => Box::new(vp8::Vp8Payloads::default()),
            RtpCodec::Vp9 => Box::new(vp9::Vp9Payloads::default()),
            RtpCodec::Av1 => Box::new(av1::Av1Payloads::default()),
            RtpCodec::Opus => Box::new(opus::OpusPayloads::default()),
        };
        Self {
            format,
            open: None,
            skipped: None,
            after_loss: true,
            frames: VecDeque::new(),
        }
    }

    /// Takes the next packet.
    ///
    /// # Errors
    /// Where the payload breaks its format; the picture it belongs to is dropped and will not come.
    pub(crate) fn handle_packet(&mut self, packet: &RtpPacket) -> Result<(), PayloadError> {
        if packet.payload.is_empty() {
            return Ok(()); // padding, as bandwidth probes send it
        }
        let result = self.take(packet);
        if result.is_err() {
            self.drop_open();
            self.skipped = (!packet.marker).then_some(packet.timestamp);
        }
        result
    }

    /// Packets are missing here.
    pub(crate) fn handle_loss(&mut self) {
        self.drop_open();
        self.after_loss = true;
    }

    pub(crate) fn poll_frame(&mut self) -> Option<CodedFrame> {
        self.frames.pop_front()
    }

    fn take(&mut self, packet: &RtpPacket) -> Result<(), PayloadError> {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.timestamp != packet.timestamp)
        {
            self.close()?; // the marker is a hint (RFC 6184 §5.1); the timestamp decides
        }
        if self.skipped == Some(packet.timestamp) {
            return Ok(());
        }
        self.skipped = None;
        if self.open.is_none()
            && std::mem::take(&mut self.after_loss)
            && !self.format.starts_picture(&packet.payload)
        {
            self.skipped = Some(packet.timestamp);
            return Ok(());
        }
        let open = self.open.get_or_insert(Open {
            timestamp: packet.timestamp,
            arrived: packet.arrived,
            packets: 0,
            bytes: 0,
        });
        open.packets += 1;
        open.bytes += packet.payload.len();
        if open.packets > limits::FRAME_PACKETS || open.bytes > limits::FRAME_BYTES {
            return Err(PayloadError::TooLarge);
        }
        self.format.handle_payload(packet.payload.clone())?;
        if packet.marker || self.format.one_payload() {
            self.close()
        } else {
            Ok(())
        }
    }

    fn close(&mut self) -> Result<(), PayloadError> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let unit = self.format.finish();
        self.format.clear();
        if let Some(unit) = unit? {
            self.frames.push_back(CodedFrame {
                timestamp: open.timestamp,
                arrived: open.arrived,
                unit,
            });
        }
        Ok(())
    }

    fn drop_open(&mut self) {
        self.open = None;
        self.format.clear();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Feeds payloads, the last of each picture marked, and gives the frames.
    pub(crate) fn depacketize(codec: RtpCodec, pictures: &[&[&[u8]]]) -> Vec<CodedFrame> {
        let format = RtpFormat {
            payload_type: 96,
            codec,
            parameters: String::new(),
        };
        let mut depacketizer = Depacketizer::new(&format);
        let mut frames = Vec::new();
        for (at, picture) in pictures.iter().enumerate() {
            for (part, payload) in picture.iter().enumerate() {
                let packet = packet(at as u32 * 3_000, part + 1 == picture.len(), payload);
                depacketizer.handle_packet(&packet).unwrap();
            }
            frames.extend(std::iter::from_fn(|| depacketizer.poll_frame()));
        }
        frames
    }

    pub(crate) fn packet(timestamp: u32, marker: bool, payload: &[u8]) -> RtpPacket {
        RtpPacket {
            source: 1,
            payload_type: 96,
            sequence: 0,
            timestamp,
            marker,
            payload: Bytes::copy_from_slice(payload),
            arrived: Instant::now(),
        }
    }

    #[test]
    fn any_bytes_are_an_error_or_a_frame_and_no_panic() {
        let mut state = 7u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        for codec in [
            RtpCodec::H264,
            RtpCodec::Vp8,
            RtpCodec::Vp9,
            RtpCodec::Av1,
            RtpCodec::Opus,
        ] {
            let format = RtpFormat {
                payload_type: 96,
                codec,
                parameters: String::new(),
            };
            let mut depacketizer = Depacketizer::new(&format);
            for at in 0..20_000 {
                let payload: Vec<u8> = (0..random() % 40).map(|_| random() as u8).collect();
                let _ = depacketizer.handle_packet(&packet(at / 4, random() % 3 == 0, &payload));
                if random() % 16 == 0 {
                    depacketizer.handle_loss();
                }
                while depacketizer.poll_frame().is_some() {}
            }
        }
    }
}
