//! VP8 (RFC 7741).

use bytes::{Bytes, BytesMut};
use loom_core::codec::vp8::{FrameHeader, frame_header};
use loom_core::{CodecParameters, VideoCodec, VideoParameters};

use super::{CodedUnit, PayloadError, PayloadFormat};

const CUT: PayloadError = PayloadError::Truncated {
    what: "VP8 payload descriptor",
    clause: "RFC 7741 §4.2",
};

#[derive(Debug, Default)]
pub(super) struct Vp8Payloads {
    frame: BytesMut,
    /// The PictureID of the open picture.
    picture: Option<u16>,
    /// And of the last finished one.
    finished: Option<u16>,
}

impl PayloadFormat for Vp8Payloads {
    fn starts_picture(&self, payload: &[u8]) -> bool {
        // S set and PID zero
        payload.first().is_some_and(|head| head & 0x1f == 0x10)
    }

    fn follows(&self, payload: &[u8]) -> bool {
        self.starts_picture(payload) && is_next(self.finished, picture_id(payload))
    }

    fn handle_payload(&mut self, payload: Bytes) -> Result<(), PayloadError> {
        self.picture = picture_id(&payload);
        let body = descriptor_len(&payload).ok_or(CUT)?;
        self.frame.extend_from_slice(payload.get(body..).ok_or(CUT)?);
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<CodedUnit>, PayloadError> {
        self.finished = self.picture.take();
        let data = self.frame.split().freeze();
        let parameters = match frame_header(&data)? {
            FrameHeader::Inter => None,
            FrameHeader::Key { width, height } => Some(CodecParameters::Video(VideoParameters {
                codec: VideoCodec::Vp8,
                width,
                height,
                config: Bytes::new(),
            })),
        };
        Ok(Some(CodedUnit {
            data,
            key: parameters.is_some(),
            duration: None,
            parameters,
        }))
    }

    fn clear(&mut self) {
        self.frame.clear();
    }
}

/// The PictureID: 7 bits, or 15 with the top bit of the 16 set.
fn picture_id(payload: &[u8]) -> Option<u16> {
    match payload {
        [head, extensions, id, rest @ ..] if head & 0x80 != 0 && extensions & 0x80 != 0 => {
            wide_or_narrow(*id, rest.first())
        }
        _ => None,
    }
}

/// A picture number of VP8 or VP9 whose first byte tells whether there is a second.
pub(super) fn wide_or_narrow(first: u8, second: Option<&u8>) -> Option<u16> {
    if first & 0x80 == 0 {
        Some(u16::from(first))
    } else {
        Some(u16::from_be_bytes([first, *second?]))
    }
}

/// Whether one picture number follows the other.
pub(super) fn is_next(before: Option<u16>, after: Option<u16>) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return false;
    };
    let bits = if before & 0x8000 != 0 { 0x7fff } else { 0x7f };
    before & 0x8000 == after & 0x8000 && before.wrapping_add(1) & bits == after & bits
}

/// Bytes of the payload descriptor (§4.2).
fn descriptor_len(payload: &[u8]) -> Option<usize> {
    if payload.first()? & 0x80 == 0 {
        return Some(1);
    }
    let extensions = payload.get(1)?;
    let mut len = 2;
    if extensions & 0x80 != 0 {
        len += if payload.get(len)? & 0x80 != 0 { 2 } else { 1 };
    }
    len += usize::from(extensions & 0x40 != 0); // TL0PICIDX
    len += usize::from(extensions & 0x30 != 0); // TID, Y, KEYIDX
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::super::tests::depacketize;
    use super::*;
    use crate::media::RtpCodec;

    const KEY: [u8; 10] = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02];

    #[test]
    fn a_frame_is_its_payloads_without_their_descriptors() {
        let first = [&[0x90, 0xe0, 0x81, 0x02, 7, 0x20][..], &KEY].concat();
        let frames = depacketize(RtpCodec::Vp8, &[&[&first, &[0x00, 0xaa, 0xbb]]]);
        assert_eq!(frames[0].unit.data, [&KEY[..], &[0xaa, 0xbb]].concat());
        assert!(frames[0].unit.key);
        let Some(CodecParameters::Video(video)) = &frames[0].unit.parameters else {
            panic!()
        };
        assert_eq!((video.width, video.height), (1280, 720));
    }

    #[test]
    fn a_stream_that_starts_within_a_frame_starts_with_the_next() {
        let key = [&[0x10][..], &KEY].concat();
        let frames = depacketize(RtpCodec::Vp8, &[&[&[0x00, 1, 2]], &[&key]]);
        assert_eq!(frames.len(), 1);
        assert!(frames[0].unit.key);
    }

    #[test]
    fn every_cut_descriptor_is_an_error() {
        let payload = [0x90, 0xf0, 0x81, 0x02, 7, 0x20];
        for len in 0..payload.len() {
            let body = descriptor_len(&payload[..len]);
            assert!(body.is_none_or(|body| body > len), "{len}: {body:?}");
        }
    }
}
