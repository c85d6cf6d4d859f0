//! VP9 uncompressed headers (VP9 Bitstream & Decoding Process Specification §6.2) and `vpcC`
//! (VP Codec ISO Media File Format Binding §2).

mod headers;

use bytes::Bytes;

use crate::bits::BitReader;
use crate::codec::Colour;
use crate::codec::vp9::headers::{Format, Start};
use crate::error::CodecError;

pub use headers::{Content, FrameHeaders, Header, frames};

/// What a VP9 frame's uncompressed header says of the stream's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameHeader {
    /// A key frame.
    Key(KeyFrame),
    /// A frame that needs others.
    Inter,
}

/// The stream's shape, as a key frame carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFrame {
    /// Profile 0 to 3.
    pub profile: u8,
    /// Bits a sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// `chromaSubsampling` of `vpcC`: 1 is 4:2:0 with colocated chroma, 2 is 4:2:2, 3 is 4:4:4.
    pub chroma_subsampling: u8,
    /// Whether samples use the full range.
    pub full_range: bool,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// Reads a frame's uncompressed header.
///
/// # Errors
/// Where the header is cut short or breaks §6.2.
pub fn frame_header(frame: &[u8]) -> Result<FrameHeader, CodecError> {
    const CLAUSE: &str = "VP9 specification §6.2";
    let invalid = |why: &str| CodecError::Invalid {
        what: "VP9 frame header",
        why: why.to_owned(),
        clause: CLAUSE,
    };
    let mut bits = BitReader::new(frame);
    if frame
        .first()
        .is_some_and(|byte| u32::from(byte >> 6) != headers::MARKER)
    {
        return Err(invalid("frame marker is not 2"));
    }
    let mut read = || -> Option<Result<FrameHeader, CodecError>> {
        let start = Start::read(&mut bits)?;
        if start.own.is_none_or(|kind| kind.inter) {
            return Some(Ok(FrameHeader::Inter));
        }
        if bits.bits(24)? != 0x49_83_42 {
            return Some(Err(invalid("sync code is not 49 83 42")));
        }
        let format = Format::read(&mut bits, start.profile)?;
        let (width, height) = headers::size(&mut bits)?;
        Some(Ok(FrameHeader::Key(KeyFrame {
            profile: start.profile,
            bit_depth: format.bit_depth,
            chroma_subsampling: format.chroma_subsampling,
            full_range: format.full_range,
            width,
            height,
        })))
    };
    read().unwrap_or(Err(CodecError::Truncated {
        what: "VP9 frame header",
        clause: CLAUSE,
    }))
}

impl KeyFrame {
    /// The body of `vpcC`, without the FullBox header: profile, level, depth and colour (unspecified).
    pub fn config(&self) -> Bytes {
        let level = level(self.width, self.height);
        let packed = self.bit_depth << 4 | self.chroma_subsampling << 1 | u8::from(self.full_range);
        // colour primaries, transfer, matrix: 2 is "unspecified" (ISO/IEC 23091-2); then a zero-length extension
        Bytes::copy_from_slice(&[self.profile, level, packed, 2, 2, 2, 0, 0])
    }
}

/// `vp09.PP.LL.DD` (VP Codec ISO Media File Format Binding §3) from a `vpcC` body, or for profile 0 at the given size
/// where there is none.
pub fn rfc6381(config: &[u8], width: u32, height: u32) -> String {
    match config {
        [profile, level, packed, ..] => format!("vp09.{profile:02}.{level:02}.{:02}", packed >> 4),
        _ => format!("vp09.00.{:02}.08", level(width, height)),
    }
}

/// The colour of a `vpcC` body, where it says any.
pub(crate) fn colour(config: &[u8]) -> Option<Colour> {
    let [_, _, packed, primaries, transfer, matrix, ..] = *config else {
        return None;
    };
    let said = Colour {
        primaries,
        transfer,
        matrix,
        full_range: packed & 1 == 1,
    };
    (said != Colour::UNSPECIFIED).then_some(said)
}

/// The lowest level whose picture size holds the frame (Annex A), ten times its number.
fn level(width: u32, height: u32) -> u8 {
    match u64::from(width) * u64::from(height) {
        0..=36_864 => 10,
        36_865..=73_728 => 11,
        73_729..=122_880 => 20,
        122_881..=245_760 => 21,
        245_761..=552_960 => 30,
        552_961..=983_040 => 31,
        983_041..=2_228_224 => 40,
        2_228_225..=8_912_896 => 50,
        _ => 60,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_tells_its_size_and_string() {
        // marker 10, profile 00, show_existing 0, key 0, show 1, error_res 0; sync; colour 001 range 0; 1280×720
        let frame = [0x82, 0x49, 0x83, 0x42, 0x20, 0x4f, 0xf0, 0x2c, 0xf0];
        let Ok(FrameHeader::Key(key)) = frame_header(&frame) else {
            panic!("{:?}", frame_header(&frame))
        };
        assert_eq!(
            (key.width, key.height, key.profile, key.bit_depth),
            (1280, 720, 0, 8)
        );
        assert_eq!(rfc6381(&key.config(), 0, 0), "vp09.00.31.08");
        for len in 0..frame.len() - 1 {
            assert!(frame_header(&frame[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn a_header_that_is_cut_short_still_tells_what_is_kept() {
        let frame = [0x82, 0x49, 0x83, 0x42, 0x20, 0x4f, 0xf0, 0x2c, 0xf0];
        let content = Content::Frame {
            shown: true,
            refreshed: 0xff,
            length: None,
        };
        let header = FrameHeaders::default().read(&frame);
        assert_eq!(header, Some(Header { profile: 0, content }));
        let existing = FrameHeaders::default().read(&[0b1000_1101]);
        assert_eq!(existing.map(|header| header.content), Some(Content::Existing(5)));
    }

    #[test]
    fn an_inter_frame_needs_no_more_than_its_first_byte() {
        assert_eq!(frame_header(&[0x86]), Ok(FrameHeader::Inter));
    }
}
