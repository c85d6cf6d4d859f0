//! H.264 (RFC 6184), packetization modes 0 and 1.

use bytes::{BufMut, Bytes, BytesMut};
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::rbsp::{BitRead, BitReader, decode_nal};
use loom_core::CodecParameters;
use loom_core::codec::h264::{AccessUnit, nal_type, nal_unit_type, parameters};

use super::{CodedUnit, PayloadError, PayloadFormat};
use crate::limits;
use crate::sdp::{base64_decode, fmtp_value};

const CUT: PayloadError = PayloadError::Truncated {
    what: "H.264 payload",
    clause: "RFC 6184 §5",
};
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Parameter sets are taken in band and, where an offer has `sprop-parameter-sets`, from there; the newest win.
#[derive(Debug, Default)]
pub(super) struct H264Payloads {
    nals: Vec<Bytes>,
    fragment: Option<BytesMut>,
    sps: Option<Bytes>,
    pps: Vec<Bytes>,
    /// The bits of `frame_num`, by the SPS; `None` where slices hold more before it than Loom reads.
    frame_num_bits: Option<u32>,
    /// `frame_num` of the last finished picture, if others refer to it.
    finished: Option<u32>,
}

impl H264Payloads {
    pub(super) fn new(fmtp: &str) -> Self {
        let mut payloads = Self::default();
        let sets = fmtp_value(fmtp, "sprop-parameter-sets").unwrap_or_default();
        for set in sets
            .split(',')
            .take(limits::PICTURE_PARAMETER_SETS)
            .filter_map(base64_decode)
        {
            payloads.remember(&Bytes::from(set));
        }
        payloads
    }

    fn remember(&mut self, nal: &Bytes) {
        match nal_unit_type(nal) {
            Some(nal_type::SPS) if self.sps.as_ref() != Some(nal) => {
                self.sps = Some(nal.clone());
                self.frame_num_bits = frame_num_bits(nal);
                self.pps.clear();
            }
            Some(nal_type::PPS) => {
                let id = picture_parameter_set_id(nal);
                match self
                    .pps
                    .iter()
                    .position(|known| picture_parameter_set_id(known) == id)
                {
                    Some(at) => self.pps[at] = nal.clone(),
                    None if self.pps.len() < limits::PICTURE_PARAMETER_SETS => self.pps.push(nal.clone()),
                    None => {}
                }
            }
            _ => {}
        }
    }

    fn handle_fragment(&mut self, payload: &Bytes) -> Result<(), PayloadError> {
        let [indicator, header, body @ ..] = payload.as_ref() else {
            return Err(CUT);
        };
        let (start, end) = (header & 0x80 != 0, header & 0x40 != 0);
        if start {
            let mut nal = BytesMut::with_capacity(body.len() * 2);
            nal.put_u8(indicator & 0xe0 | header & 0x1f);
            self.fragment = Some(nal);
        }
        let fragment = self.fragment.as_mut().ok_or(PayloadError::Invalid {
            what: "H.264 FU-A",
            why: "a fragment without its start",
            clause: "RFC 6184 §5.8",
        })?;
        fragment.put_slice(body);
        if end && let Some(nal) = self.fragment.take() {
            self.nals.push(nal.freeze());
        }
        Ok(())
    }
}

impl PayloadFormat for H264Payloads {
    fn starts_picture(&self, payload: &[u8]) -> bool {
        /// `first_mb_in_slice` is zero: its `ue(v)` is the single bit 1.
        fn starts(kind: u8, slice: Option<&u8>) -> bool {
            match kind {
                1 | nal_type::IDR => slice.is_some_and(|first| first & 0x80 != 0),
                nal_type::SEI..=nal_type::AUD => true,
                _ => false,
            }
        }
        match payload.first().map(|head| head & 0x1f) {
            Some(STAP_A) => payload
                .get(3)
                .is_some_and(|head| starts(head & 0x1f, payload.get(4))),
            Some(FU_A) => payload
                .get(1)
                .is_some_and(|head| head & 0x80 != 0 && starts(head & 0x1f, payload.get(2))),
            Some(kind) => starts(kind, payload.get(1)),
            None => false,
        }
    }

    fn follows(&self, payload: &[u8]) -> bool {
        let (Some(bits), Some(finished)) = (self.frame_num_bits, self.finished) else {
            return false;
        };
        let slice = first_slice(payload);
        slice
            .and_then(|slice| frame_num(&slice, bits))
            .is_some_and(|this| this == (finished + 1) % (1 << bits))
    }

    fn handle_payload(&mut self, payload: Bytes) -> Result<(), PayloadError> {
        let kind = payload.first().ok_or(CUT)? & 0x1f;
        if kind != FU_A && self.fragment.is_some() {
            return Err(PayloadError::Invalid {
                what: "H.264 FU-A",
                why: "a fragment without its end",
                clause: "RFC 6184 §5.8",
            });
        }
        match kind {
            1..=23 => self.nals.push(payload),
            STAP_A => {
                let mut at = 1;
                while at < payload.len() {
                    let len = payload.get(at..at + 2).ok_or(CUT)?;
                    let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
                    at += 2;
                    if len == 0 || at + len > payload.len() {
                        return Err(CUT);
                    }
                    self.nals.push(payload.slice(at..at + len));
                    at += len;
                }
            }
            FU_A => self.handle_fragment(&payload)?,
            _ => {
                return Err(PayloadError::Invalid {
                    what: "H.264 payload",
                    why: "an interleaved or unknown packet type; only NAL units, STAP-A and FU-A were agreed on",
                    clause: "RFC 6184 §5.4",
                });
            }
        }
        if self.nals.len() > limits::PICTURE_NAL_UNITS {
            return Err(PayloadError::TooLarge);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<CodedUnit>, PayloadError> {
        if self.fragment.is_some() {
            return Err(CUT);
        }
        for nal in std::mem::take(&mut self.nals) {
            self.remember(&nal);
            self.nals.push(nal);
        }
        let unit = AccessUnit::from_nals(self.nals.iter().map(Bytes::as_ref));
        let pictured = self
            .nals
            .iter()
            .any(|nal| matches!(nal_unit_type(nal), Some(1..=nal_type::IDR)));
        if !pictured {
            return Ok(None);
        }
        let slice = self
            .nals
            .iter()
            .find(|nal| matches!(nal_unit_type(nal), Some(1 | nal_type::IDR)));
        self.finished = self.frame_num_bits.zip(slice).and_then(|(bits, slice)| {
            let referred = slice.first().is_some_and(|head| head & 0x60 != 0);
            frame_num(slice, bits).filter(|_| referred)
        });
        let parameters = match (&self.sps, unit.key) {
            (Some(sps), true) if !self.pps.is_empty() => {
                Some(CodecParameters::Video(parameters(sps, &self.pps)?))
            }
            _ => None,
        };
        Ok(Some(CodedUnit {
            data: unit.sample,
            key: parameters.is_some(),
            duration: None,
            parameters,
        }))
    }

    fn clear(&mut self) {
        self.nals.clear();
        self.fragment = None;
    }
}

/// Bits of `frame_num` by the SPS (ISO/IEC 14496-10 §7.4.2.1.1).
fn frame_num_bits(sps: &[u8]) -> Option<u32> {
    let rbsp = decode_nal(sps).ok()?;
    let sps = SeqParameterSet::from_bits(BitReader::new(&rbsp[..])).ok()?;
    let planes = sps.chroma_info.separate_colour_plane_flag;
    (!planes).then_some(u32::from(sps.log2_max_frame_num_minus4) + 4)
}

/// `frame_num` of a slice (ISO/IEC 14496-10 §7.3.3); 0 for an IDR picture.
fn frame_num(slice: &[u8], bits: u32) -> Option<u32> {
    let head = decode_nal(slice.get(..slice.len().min(SLICE_HEAD))?).ok()?;
    let mut reader = BitReader::new(&head[..]);
    reader.read_ue("first_mb_in_slice").ok()?;
    reader.read_ue("slice_type").ok()?;
    reader.read_ue("pic_parameter_set_id").ok()?;
    reader.read_var::<u32>(bits, "frame_num").ok()
}

/// The first slice's NAL unit that begins in a payload, if it is not one of an IDR picture.
fn first_slice(payload: &[u8]) -> Option<Vec<u8>> {
    let (head, rest) = payload.split_first()?;
    match head & 0x1f {
        1 => Some(payload.to_vec()),
        STAP_A => {
            let mut rest = rest;
            while let Some((len, tail)) = rest.split_first_chunk::<2>() {
                let nal = tail.get(..usize::from(u16::from_be_bytes(*len)))?;
                if nal_unit_type(nal) == Some(1) {
                    return Some(nal.to_vec());
                }
                rest = &tail[nal.len()..];
            }
            None
        }
        FU_A => {
            let (fragment, body) = rest.split_first()?;
            let nal = [&[head & 0xe0 | fragment & 0x1f], body].concat();
            (fragment & 0x9f == 0x81).then_some(nal)
        }
        _ => None,
    }
}

/// Bytes of a slice that hold all up to `frame_num`: three `ue(v)` of at most 32 bits, and 16 bits.
const SLICE_HEAD: usize = 32;

/// `pic_parameter_set_id`, the first `ue(v)` (ISO/IEC 14496-10 §7.3.2.2); `None` where it is not there.
fn picture_parameter_set_id(pps: &[u8]) -> Option<u32> {
    let bits = u32::from_be_bytes([
        *pps.get(1)?,
        *pps.get(2).unwrap_or(&0),
        *pps.get(3).unwrap_or(&0),
        0,
    ]);
    let zeros = bits.leading_zeros();
    (zeros < 12).then(|| (bits << zeros >> (31 - zeros)) - 1)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{depacketize, packet};
    use super::super::{CodedFrame, Depacketizer};
    use super::*;
    use crate::media::{RtpCodec, RtpFormat};

    /// 640×360, High, level 3.0, as x264 wrote it.
    const SPS: &[u8] = &[
        0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
        0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96,
    ];
    const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];

    fn stap(nals: &[&[u8]]) -> Vec<u8> {
        let mut payload = vec![0x78];
        for nal in nals {
            payload.extend((nal.len() as u16).to_be_bytes());
            payload.extend(*nal);
        }
        payload
    }

    fn size(frame: &CodedFrame) -> Option<(u32, u32)> {
        match &frame.unit.parameters {
            Some(CodecParameters::Video(video)) => Some((video.width, video.height)),
            _ => None,
        }
    }

    #[test]
    fn a_key_frame_in_aggregates_and_fragments_becomes_one_sample() {
        let sets = stap(&[SPS, PPS]);
        let frames = depacketize(
            RtpCodec::H264,
            &[
                &[
                    &sets,
                    &[0x7c, 0x85, 0x88, 1, 2],
                    &[0x7c, 0x05, 3],
                    &[0x7c, 0x45, 4],
                ],
                &[&[0x41, 0x9a, 7]],
            ],
        );
        assert_eq!(frames[0].unit.data.as_ref(), [0, 0, 0, 6, 0x65, 0x88, 1, 2, 3, 4]);
        assert_eq!(size(&frames[0]), Some((640, 360)));
        assert!(!frames[1].unit.key);
        assert_eq!(frames[1].unit.data.as_ref(), [0, 0, 0, 3, 0x41, 0x9a, 7]);
    }

    #[test]
    fn parameter_sets_in_packets_of_their_own_count() {
        let frames = depacketize(
            RtpCodec::H264,
            &[&[SPS, PPS, &[0x65, 0x88, 1]], &[&[0x65, 0x88, 2]]],
        );
        assert_eq!(
            frames.iter().map(size).collect::<Vec<_>>(),
            [Some((640, 360)); 2],
            "and are remembered"
        );
    }

    #[test]
    fn parameter_sets_of_the_offer_count() {
        let fmtp = "packetization-mode=1;sprop-parameter-sets=Z2QAHqzZQKAv+XARAAADAAEAAAMAPA8WLZY=,aOvjyyLA";
        let format = RtpFormat {
            payload_type: 96,
            codec: RtpCodec::H264,
            parameters: fmtp.to_owned(),
        };
        let mut depacketizer = Depacketizer::new(&format);
        depacketizer
            .handle_packet(&packet(0, true, &[0x65, 0x88, 1]))
            .unwrap();
        assert_eq!(size(&depacketizer.poll_frame().unwrap()), Some((640, 360)));
    }

    #[test]
    fn an_idr_picture_without_parameter_sets_is_no_key_frame() {
        let frames = depacketize(RtpCodec::H264, &[&[&[0x65, 0x88, 1]]]);
        assert!(!frames[0].unit.key);
    }

    #[test]
    fn a_loss_within_a_picture_drops_it_and_the_rest_of_it() {
        let format = RtpFormat {
            payload_type: 96,
            codec: RtpCodec::H264,
            parameters: String::new(),
        };
        let mut depacketizer = Depacketizer::new(&format);
        let mut take = |timestamp, marker, payload: &[u8]| {
            depacketizer
                .handle_packet(&packet(timestamp, marker, payload))
                .unwrap();
            depacketizer.poll_frame()
        };
        assert!(take(0, false, &stap(&[SPS, PPS])).is_none());
        assert!(take(0, true, &[0x65, 0x88, 1]).is_some());
        assert!(take(1, false, &[0x7c, 0x81, 0x9a, 1]).is_none());
        depacketizer.handle_loss();
        let mut take = |timestamp, marker, payload: &[u8]| {
            depacketizer
                .handle_packet(&packet(timestamp, marker, payload))
                .unwrap();
            depacketizer.poll_frame()
        };
        assert!(take(1, true, &[0x7c, 0x41, 2]).is_none(), "its end is of no use");
        assert!(take(2, true, &[0x41, 0x9a, 3]).is_some(), "the next is whole");
    }

    #[test]
    fn lost_padding_is_no_loss_where_frame_num_goes_on() {
        // log2_max_frame_num is 4 in this SPS; first_mb 0, slice type 5, PPS 0, then frame_num
        let slice = |frame_num: u8| vec![0x41, 0b1001_1010 & 0xfe | frame_num >> 3, frame_num << 5 | 0x10];
        let sets = stap(&[SPS, PPS]);
        for (next, lost) in [(2u8, false), (3, true), (1, true)] {
            let format = RtpFormat {
                payload_type: 96,
                codec: RtpCodec::H264,
                parameters: String::new(),
            };
            let mut depacketizer = Depacketizer::new(&format);
            depacketizer.handle_packet(&packet(0, false, &sets)).unwrap();
            depacketizer
                .handle_packet(&packet(0, true, &[0x65, 0b1000_1000, 0x80, 0x40]))
                .unwrap();
            depacketizer
                .handle_packet(&packet(3_000, true, &slice(1)))
                .unwrap();
            depacketizer.handle_loss();
            depacketizer
                .handle_packet(&packet(6_000, true, &slice(next)))
                .unwrap();
            assert_eq!(depacketizer.poll_loss(), lost, "frame_num {next}");
        }
    }

    #[test]
    fn a_picture_without_a_marker_ends_at_the_next_timestamp() {
        let format = RtpFormat {
            payload_type: 96,
            codec: RtpCodec::H264,
            parameters: String::new(),
        };
        let mut depacketizer = Depacketizer::new(&format);
        depacketizer
            .handle_packet(&packet(0, false, &[0x41, 0x9a, 1]))
            .unwrap();
        depacketizer
            .handle_packet(&packet(0, false, &[0x41, 0x1a, 2]))
            .unwrap();
        assert!(depacketizer.poll_frame().is_none());
        depacketizer
            .handle_packet(&packet(1, false, &[0x41, 0x9a, 3]))
            .unwrap();
        let frame = depacketizer.poll_frame().unwrap();
        assert_eq!(
            frame.unit.data.as_ref(),
            [0, 0, 0, 3, 0x41, 0x9a, 1, 0, 0, 0, 3, 0x41, 0x1a, 2]
        );
    }

    #[test]
    fn broken_aggregates_and_fragments_are_errors() {
        for payload in [
            &[0x78, 0, 9, 1][..],
            &[0x78, 0, 0],
            &[0x7c, 0x05, 1],
            &[0x7c],
            &[0x79, 1, 2],
        ] {
            let mut payloads = H264Payloads::default();
            assert!(
                payloads.handle_payload(Bytes::copy_from_slice(payload)).is_err(),
                "{payload:x?}"
            );
        }
    }

    #[test]
    fn a_picture_of_more_units_than_any_is_refused() {
        let packet = Bytes::from(stap(&[[0x41].as_slice(); 400]));
        let mut payloads = H264Payloads::default();
        let refused = (0..).find(|_| payloads.handle_payload(packet.clone()).is_err());
        assert_eq!(refused, Some(limits::PICTURE_NAL_UNITS / 400));
    }

    #[test]
    fn a_picture_parameter_set_tells_its_number() {
        assert_eq!(picture_parameter_set_id(&[0x68, 0xeb]), Some(0));
        assert_eq!(picture_parameter_set_id(&[0x68, 0b0100_0000]), Some(1));
        assert_eq!(picture_parameter_set_id(&[0x68, 0b0010_1000]), Some(4));
        assert_eq!(picture_parameter_set_id(&[0x68]), None);
    }
}
