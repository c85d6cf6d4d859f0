//! VP9 (RFC 9628).

use bytes::{BufMut, Bytes, BytesMut};
use loom_core::codec::vp9::{FrameHeader, frame_header};
use loom_core::{CodecParameters, VideoCodec, VideoParameters};

use super::vp8::{is_next, wide_or_narrow};
use super::{CodedUnit, PayloadError, PayloadFormat};

const CUT: PayloadError = PayloadError::Truncated {
    what: "VP9 payload descriptor",
    clause: "RFC 9628 §4.2",
};
/// Frames that a superframe can index (VP9 specification Annex B).
const SUPERFRAME_FRAMES: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Vp9Payloads {
    data: BytesMut,
    /// Where each layer's frame begins.
    starts: Vec<usize>,
    /// The largest size that a scalability structure of this picture names.
    structure: Option<(u32, u32)>,
    /// The picture ID of the open picture.
    picture: Option<u16>,
    /// And of the last finished one.
    finished: Option<u16>,
}

impl PayloadFormat for Vp9Payloads {
    fn starts_picture(&self, payload: &[u8]) -> bool {
        Descriptor::read(payload).is_some_and(|descriptor| descriptor.begins && descriptor.spatial_layer == 0)
    }

    fn follows(&self, payload: &[u8]) -> bool {
        let picture = Descriptor::read(payload).and_then(|descriptor| descriptor.picture);
        self.starts_picture(payload) && is_next(self.finished, picture)
    }

    fn handle_payload(&mut self, payload: Bytes) -> Result<(), PayloadError> {
        let descriptor = Descriptor::read(&payload).ok_or(CUT)?;
        self.picture = descriptor.picture;
        if descriptor.begins {
            self.starts.push(self.data.len());
        }
        self.structure = descriptor.structure.or(self.structure);
        self.data
            .extend_from_slice(payload.get(descriptor.len..).ok_or(CUT)?);
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<CodedUnit>, PayloadError> {
        self.finished = self.picture.take();
        let structure = self.structure.take();
        let starts = std::mem::take(&mut self.starts);
        let mut data = self.data.split();
        let parameters = match frame_header(&data)? {
            FrameHeader::Inter => None,
            FrameHeader::Key(head) => {
                let (width, height) = structure.unwrap_or((head.width, head.height));
                Some(CodecParameters::Video(VideoParameters {
                    codec: VideoCodec::Vp9,
                    width,
                    height,
                    config: head.config(),
                }))
            }
        };
        if starts.len() > 1 {
            put_superframe_index(&mut data, &starts)?;
        }
        Ok(Some(CodedUnit {
            data: data.freeze(),
            key: parameters.is_some(),
            duration: None,
            parameters,
        }))
    }

    fn clear(&mut self) {
        self.data.clear();
        self.starts.clear();
        self.structure = None;
    }
}

/// What Loom reads of a payload descriptor (§4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Descriptor {
    len: usize,
    picture: Option<u16>,
    begins: bool,
    spatial_layer: u8,
    structure: Option<(u32, u32)>,
}

impl Descriptor {
    fn read(payload: &[u8]) -> Option<Self> {
        let head = *payload.first()?;
        let flag = |bit: u8| head & bit != 0;
        let (numbered, inter, layers, flexible) = (flag(0x80), flag(0x40), flag(0x20), flag(0x10));
        let mut at = 1;
        let mut spatial_layer = 0;
        let mut picture = None;
        if numbered {
            picture = wide_or_narrow(*payload.get(at)?, payload.get(at + 1));
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        if layers {
            spatial_layer = payload.get(at)? >> 1 & 7;
            at += if flexible { 1 } else { 2 }; // TL0PICIDX follows in non-flexible mode
        }
        if inter && flexible {
            for reference in 0..3 {
                let more = payload.get(at)? & 1 != 0;
                at += 1;
                if !more {
                    break;
                }
                if reference == 2 {
                    return None; // "up to three"
                }
            }
        }
        let mut structure = None;
        if flag(0x02) {
            let shape = *payload.get(at)?;
            at += 1;
            if shape & 0x10 != 0 {
                for _ in 0..=shape >> 5 {
                    let size = payload.get(at..at + 4)?;
                    let side = |at: usize| u32::from(u16::from_be_bytes([size[at], size[at + 1]]));
                    structure = Some((side(0), side(2))).filter(|(width, height)| *width > 0 && *height > 0);
                    at += 4;
                }
            }
            if shape & 0x08 != 0 {
                let pictures = *payload.get(at)?;
                at += 1;
                for _ in 0..pictures {
                    at += 1 + usize::from(payload.get(at)? >> 2 & 3);
                }
            }
        }
        Some(Self {
            len: at,
            picture,
            begins: flag(0x08),
            spatial_layer,
            structure,
        })
    }
}

/// Makes a superframe of several layers' frames (VP9 specification Annex B.2).
fn put_superframe_index(data: &mut BytesMut, starts: &[usize]) -> Result<(), PayloadError> {
    if starts.len() > SUPERFRAME_FRAMES {
        return Err(PayloadError::Invalid {
            what: "VP9 superframe",
            why: "more than 8 layers' frames",
            clause: "VP9 specification Annex B.2",
        });
    }
    let end = data.len();
    let ends = starts[1..].iter().copied().chain([end]);
    let sizes: Vec<usize> = starts.iter().zip(ends).map(|(start, end)| end - start).collect();
    let marker = 0b1100_0000 | 3 << 3 | (sizes.len() - 1) as u8;
    data.put_u8(marker);
    for size in sizes {
        data.put_u32_le(size as u32);
    }
    data.put_u8(marker);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::depacketize;
    use super::*;
    use crate::media::RtpCodec;

    /// 352×288, profile 0, as libvpx wrote it.
    const KEY: [u8; 10] = [0x82, 0x49, 0x83, 0x42, 0x00, 0x15, 0xf0, 0x11, 0xf6, 0x00];

    #[test]
    fn a_frame_is_its_payloads_without_their_descriptors() {
        let first = [
            &[0x8a, 0x85, 0x01, 0x18, 0x01, 0x60, 0x01, 0x20, 1, 0x04, 0x01][..],
            &KEY,
        ]
        .concat();
        let frames = depacketize(RtpCodec::Vp9, &[&[&first, &[0x84, 0x85, 0x01, 0xaa]]]);
        assert_eq!(frames[0].unit.data, [&KEY[..], &[0xaa]].concat());
        let Some(CodecParameters::Video(video)) = &frames[0].unit.parameters else {
            panic!()
        };
        assert_eq!((video.width, video.height), (352, 288));
        assert_eq!(video.rfc6381(), "vp09.00.20.08");
    }

    #[test]
    fn two_spatial_layers_become_a_superframe() {
        let base = [&[0x2c, 0x00, 0x00][..], &KEY].concat();
        let upper = [0x6c, 0x02, 0x00, 0x86, 1, 2, 3];
        let frames = depacketize(RtpCodec::Vp9, &[&[&base, &upper]]);
        let index = [0xd9, 10, 0, 0, 0, 4, 0, 0, 0, 0xd9];
        assert_eq!(frames[0].unit.data, [&KEY[..], &[0x86, 1, 2, 3], &index].concat());
    }

    #[test]
    fn every_cut_descriptor_is_an_error() {
        let payload = [
            0xfb, 0x85, 0x01, 0x22, 0x03, 0x04, 0x18, 0x01, 0x60, 0x01, 0x20, 1, 0x04, 0x01,
        ];
        assert_eq!(Descriptor::read(&payload).map(|it| it.len), Some(payload.len()));
        for len in 0..payload.len() {
            let body = Descriptor::read(&payload[..len]).map(|it| it.len);
            assert!(body.is_none_or(|body| body > len), "{len}: {body:?}");
        }
    }
}
