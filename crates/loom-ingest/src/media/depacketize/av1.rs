//! AV1 (RTP Payload Format For AV1, v1.0.0).

use bytes::{BufMut, Bytes, BytesMut};
use loom_core::CodecParameters;
use loom_core::codec::av1::{leb128, obu_type, parameters};

use super::{CodedUnit, PayloadError, PayloadFormat};
use crate::limits;

const CLAUSE: &str = "RTP Payload Format For AV1 §4.4";
const CUT: PayloadError = PayloadError::Truncated {
    what: "AV1 aggregation",
    clause: CLAUSE,
};
const TILE_LIST: u8 = 8;

#[derive(Debug, Default)]
pub(super) struct Av1Payloads {
    obus: Vec<BytesMut>,
    /// Whether the last one goes on in the next payload.
    open: bool,
}

impl PayloadFormat for Av1Payloads {
    fn starts_picture(&self, payload: &[u8]) -> bool {
        // Z clear, and N: the first packet of a coded video sequence
        payload.first().is_some_and(|head| head & 0x88 == 0x08)
    }

    fn handle_payload(&mut self, payload: Bytes) -> Result<(), PayloadError> {
        let head = *payload.first().ok_or(CUT)?;
        let (continues, goes_on, count) = (head & 0x80 != 0, head & 0x40 != 0, usize::from(head >> 4 & 3));
        if continues != self.open {
            return Err(PayloadError::Invalid {
                what: "AV1 aggregation",
                why: "a fragment without its neighbour",
                clause: CLAUSE,
            });
        }
        let mut rest = payload.get(1..).ok_or(CUT)?;
        let mut index = 0;
        while !rest.is_empty() {
            index += 1;
            let element = if count > 0 && index == count {
                std::mem::take(&mut rest)
            } else {
                let (size, size_len) = leb128(rest).ok_or(CUT)?;
                let end = size_len.checked_add(size).ok_or(CUT)?;
                let element = rest.get(size_len..end).ok_or(CUT)?;
                rest = &rest[end..];
                element
            };
            match self.obus.last_mut() {
                Some(last) if index == 1 && continues => last.extend_from_slice(element),
                _ => self.obus.push(BytesMut::from(element)),
            }
            if self.obus.len() > limits::TEMPORAL_UNIT_OBUS {
                return Err(PayloadError::TooLarge);
            }
        }
        if count > 0 && index != count {
            return Err(CUT);
        }
        self.open = goes_on;
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<CodedUnit>, PayloadError> {
        if self.open {
            return Err(CUT);
        }
        let mut data = BytesMut::new();
        let mut sequence_header = None;
        let mut first_frame = None;
        for obu in &self.obus {
            let Some((&head, mut payload)) = obu.split_first() else {
                continue;
            };
            let kind = head >> 3 & 0xf;
            if matches!(kind, obu_type::TEMPORAL_DELIMITER | obu_type::PADDING | TILE_LIST) {
                continue;
            }
            let start = data.len();
            data.put_u8(head | 0b10);
            if head & 0b100 != 0 {
                let (extension, tail) = payload.split_first().ok_or(CUT)?;
                data.put_u8(*extension);
                payload = tail;
            }
            if head & 0b10 != 0 {
                // it carries its size although it should not (§4.5)
                let (size, size_len) = leb128(payload).ok_or(CUT)?;
                payload = payload
                    .get(size_len..)
                    .and_then(|tail| tail.get(..size))
                    .ok_or(CUT)?;
            }
            put_leb128(&mut data, payload.len());
            data.put_slice(payload);
            match kind {
                obu_type::SEQUENCE_HEADER if sequence_header.is_none() => {
                    sequence_header = Some(start..data.len());
                }
                obu_type::FRAME | obu_type::FRAME_HEADER if first_frame.is_none() => {
                    first_frame = payload.first().copied();
                }
                _ => {}
            }
        }
        let Some(first_frame) = first_frame else {
            return Ok(None);
        };
        // show_existing_frame clear and frame_type KEY_FRAME (AV1 specification §5.9.2)
        let key = first_frame & 0b1110_0000 == 0;
        let parameters = match sequence_header.filter(|_| key) {
            Some(range) => Some(CodecParameters::Video(parameters(&data[range])?)),
            None => None,
        };
        Ok(Some(CodedUnit {
            data: data.freeze(),
            key: parameters.is_some(),
            duration: None,
            parameters,
        }))
    }

    fn clear(&mut self) {
        self.obus.clear();
        self.open = false;
    }
}

fn put_leb128(data: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        data.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    data.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::super::tests::depacketize;
    use super::*;
    use crate::media::RtpCodec;

    /// 1280×720, Main, without its size field.
    const SEQUENCE: [u8; 12] = [
        0x08, 0x00, 0x00, 0x00, 0x2d, 0x4c, 0xff, 0xb3, 0xdf, 0xff, 0x98, 0x04,
    ];

    #[test]
    fn a_temporal_unit_is_its_obus_with_sizes_and_without_the_delimiter() {
        let first = [&[0b0111_1000, 1, 0x10, 12][..], &SEQUENCE, &[0x30, 0x10, 1]].concat();
        let frames = depacketize(RtpCodec::Av1, &[&[&first, &[0b1001_0000, 2, 3]]]);
        let expected = [&[0x0a, 11][..], &SEQUENCE[1..], &[0x32, 4, 0x10, 1, 2, 3]].concat();
        assert_eq!(frames[0].unit.data, expected);
        let Some(CodecParameters::Video(video)) = &frames[0].unit.parameters else {
            panic!()
        };
        assert_eq!((video.width, video.height), (1280, 720));
    }

    #[test]
    fn lengths_stand_before_every_element_where_their_count_is_not_given() {
        let first = [&[0b0000_1000, 12][..], &SEQUENCE, &[2, 0x30, 0x10]].concat();
        let frames = depacketize(RtpCodec::Av1, &[&[&first], &[&[0b0000_0000, 3, 0x30, 0x30, 9]]]);
        assert_eq!(frames.len(), 2);
        assert!(frames[0].unit.key);
        assert!(!frames[1].unit.key);
        assert_eq!(frames[1].unit.data.as_ref(), [0x32, 2, 0x30, 9]);
    }

    #[test]
    fn a_fragment_without_its_neighbour_is_an_error() {
        let mut payloads = Av1Payloads::default();
        assert!(
            payloads
                .handle_payload(Bytes::from_static(&[0b1001_0000, 1]))
                .is_err()
        );
        payloads.clear();
        payloads
            .handle_payload(Bytes::from_static(&[0b0101_1000, 0x30, 0]))
            .unwrap();
        assert!(payloads.finish().is_err());
    }
}
