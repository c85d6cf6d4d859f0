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

    /// Whether the payload, which comes after missing packets, begins the picture that follows the last finished one, so
    /// that no picture is missing.
    ///
    /// A sender that probes the bandwidth without a retransmission stream to do it on sends padding among the media, and
    /// does not send it again when it is lost.
    fn follows(&self, _payload: &[u8]) -> bool {
        false
    }

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
    /// Where in a picture the next payload lies is not known.
    after_loss: bool,
    /// Packets are missing, of media or of padding.
    doubt: bool,
    lost: bool,
    pace: Option<Pace>,
    frames: VecDeque<CodedFrame>,
}

#[derive(Debug)]
struct Open {
    timestamp: u32,
    arrived: Instant,
    packets: usize,
    bytes: usize,
}

/// When pictures come: the numbers that they carry wrap, some after 16 of them, so that they prove nothing over a longer
/// time.
#[derive(Debug, Clone, Copy)]
struct Pace {
    last: u32,
    /// The usual step from one timestamp to the next, or less.
    step: u32,
}

impl Pace {
    /// Steps within which a number that is one higher is the next picture's.
    const NEAR: u32 = 8;

    fn after(before: Option<Self>, timestamp: u32) -> Self {
        let step = before.map_or(0, |pace| match timestamp.wrapping_sub(pace.last) {
            step if pace.step == 0 => step,
            step => step.min(pace.step.saturating_mul(2)),
        });
        Self {
            last: timestamp,
            step,
        }
    }

    fn is_near(&self, timestamp: u32) -> bool {
        timestamp.wrapping_sub(self.last) <= self.step.saturating_mul(Self::NEAR)
    }
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
            doubt: false,
            lost: false,
            pace: None,
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
            self.lost = true;
            self.drop_open();
            self.skipped = (!packet.marker).then_some(packet.timestamp);
        }
        result
    }

    /// Whether this packet, which comes after missing ones, proves that only padding is missing: it begins the picture that follows the last
    /// finished one.
    pub(crate) fn proves_whole(&self, packet: &RtpPacket) -> bool {
        let between = self.open.is_none() && self.skipped.is_none() && !self.after_loss;
        between && self.follows(packet)
    }

    fn follows(&self, packet: &RtpPacket) -> bool {
        let pace = self.pace.as_ref();
        let near = pace.is_some_and(|pace| pace.is_near(packet.timestamp));
        near && self.format.starts_picture(&packet.payload) && self.format.follows(&packet.payload)
    }

    /// Packets are missing here. Whether media is, [`Depacketizer::poll_loss`] tells, now or after the next packet.
    pub(crate) fn handle_loss(&mut self) {
        if self.open.is_some() || self.skipped.is_some() {
            self.lost = true;
        } else {
            self.doubt = true;
        }
        self.drop_open();
        self.after_loss = true;
    }

    /// Whether media was lost since this was last asked.
    pub(crate) fn poll_loss(&mut self) -> bool {
        std::mem::take(&mut self.lost)
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
        if std::mem::take(&mut self.doubt) {
            self.lost |= !self.follows(packet);
        }
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
            self.pace = Some(Pace::after(self.pace.take(), open.timestamp));
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
            mid: None,
            rid: None,
        }
    }

    /// Takes a picture, misses packets, takes another; gives whether media was lost.
    fn is_lost(codec: RtpCodec, before: &[&[u8]], after: &[u8], step: u32) -> bool {
        let format = RtpFormat {
            payload_type: 96,
            codec,
            parameters: String::new(),
        };
        let mut depacketizer = Depacketizer::new(&format);
        for (at, payload) in before.iter().enumerate() {
            depacketizer
                .handle_packet(&packet(at as u32 * 3_000, true, payload))
                .unwrap();
        }
        assert!(!depacketizer.poll_loss());
        depacketizer.handle_loss();
        assert!(!depacketizer.poll_loss(), "not known yet");
        let next = (before.len() as u32 - 1) * 3_000 + step;
        depacketizer.handle_packet(&packet(next, false, &[])).unwrap();
        assert!(!depacketizer.poll_loss(), "padding tells nothing");
        depacketizer.handle_packet(&packet(next, true, after)).unwrap();
        depacketizer.poll_loss()
    }

    #[test]
    fn lost_padding_is_no_loss_where_pictures_are_numbered() {
        let vp8 = |id: u8| [0x90, 0x80, 0x80, id, 0x11, 0, 0];
        let before = [vp8(7), vp8(8)];
        let before: Vec<&[u8]> = before.iter().map(<[u8; 7]>::as_slice).collect();
        assert!(!is_lost(RtpCodec::Vp8, &before, &vp8(9), 3_000));
        assert!(
            is_lost(RtpCodec::Vp8, &before, &vp8(10), 3_000),
            "a picture is missing"
        );
        assert!(
            is_lost(RtpCodec::Vp8, &before, &vp8(9), 90_000),
            "or a whole round of them"
        );

        let vp9 = |id: u8| [0xcc, id, 0x86, 0];
        let before = [vp9(127 - 1), vp9(127)];
        let before: Vec<&[u8]> = before.iter().map(<[u8; 4]>::as_slice).collect();
        assert!(!is_lost(RtpCodec::Vp9, &before, &vp9(0), 3_000), "numbers wrap");
        assert!(is_lost(RtpCodec::Vp9, &before, &vp9(1), 3_000));

        assert!(is_lost(
            RtpCodec::Opus,
            &[&[0xf8, 1], &[0xf8, 2]],
            &[0xf8, 3],
            960
        ));
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
