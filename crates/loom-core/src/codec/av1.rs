//! AV1 OBUs and sequence headers (AV1 Bitstream & Decoding Process Specification §5.3, §5.5) and `av1C`
//! (AV1 Codec ISO Media File Format Binding §2.3).

mod headers;
mod params;
mod sequence;
mod tiles;

use bytes::{BufMut, BytesMut};

use crate::codec::av1::sequence::SequenceHeader;
use crate::codec::{Colour, VideoCodec, VideoParameters};
use crate::error::CodecError;

pub use headers::{FrameHeader, FrameHeaders};
pub use tiles::Tiles;

/// `obu_type` values that Loom looks at (§6.2.2).
pub mod obu_type {
    /// Sequence header.
    pub const SEQUENCE_HEADER: u8 = 1;
    /// Temporal delimiter.
    pub const TEMPORAL_DELIMITER: u8 = 2;
    /// Frame header alone.
    pub const FRAME_HEADER: u8 = 3;
    /// Tiles of the frame whose header came before.
    pub const TILE_GROUP: u8 = 4;
    /// Frame header with tile data.
    pub const FRAME: u8 = 6;
    /// Padding.
    pub const PADDING: u8 = 15;
}

/// One open bitstream unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Obu<'a> {
    /// `obu_type`.
    pub obu_type: u8,
    /// Header, size and payload, as they lie in the data.
    pub whole: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

/// Splits a temporal unit whose OBUs all carry sizes (the low-overhead format of §5.2).
///
/// # Errors
/// Where an OBU reaches past the data or has no size (§5.3).
pub fn obus(data: &[u8]) -> Result<Vec<Obu<'_>>, CodecError> {
    const CLAUSE: &str = "AV1 specification §5.3";
    let cut = || CodecError::Truncated {
        what: "AV1 OBU",
        clause: CLAUSE,
    };
    let mut found = Vec::new();
    let mut rest = data;
    while let Some(&header) = rest.first() {
        if header & 0b10 == 0 {
            let why = "it has no size field".to_owned();
            return Err(CodecError::Invalid {
                what: "AV1 OBU",
                why,
                clause: CLAUSE,
            });
        }
        let head = 1 + usize::from(header >> 2 & 1);
        let (size, size_len) = leb128(rest.get(head..).ok_or_else(cut)?).ok_or_else(cut)?;
        let start = head + size_len;
        let end = start.checked_add(size).ok_or_else(cut)?;
        let payload = rest.get(start..end).ok_or_else(cut)?;
        found.push(Obu {
            obu_type: header >> 3 & 0xf,
            whole: &rest[..end],
            payload,
        });
        rest = &rest[end..];
    }
    Ok(found)
}

/// A `leb128()` value (§4.10.5) and its length in bytes; `None` where it is cut short or above 2³² − 1.
pub fn leb128(data: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0u64;
    for (i, byte) in data.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return (value <= u64::from(u32::MAX)).then_some((value as usize, i + 1));
        }
    }
    None
}

/// Builds video parameters, with their `av1C`, from a sequence header OBU (header and size included).
///
/// # Errors
/// Where the sequence header is cut short (§5.5).
pub fn parameters(sequence_header: &[u8]) -> Result<VideoParameters, CodecError> {
    let cut = || CodecError::Truncated {
        what: "AV1 sequence header",
        clause: "AV1 specification §5.5",
    };
    let obu = obus(sequence_header)?
        .into_iter()
        .find(|o| o.obu_type == obu_type::SEQUENCE_HEADER)
        .ok_or_else(cut)?;
    let seq = SequenceHeader::read(obu.payload).ok_or_else(cut)?;
    let mut config = BytesMut::with_capacity(4 + obu.whole.len());
    config.put_slice(&[
        0x81,
        seq.profile << 5 | seq.level,
        seq.tier << 7
            | u8::from(seq.bit_depth > 8) << 6
            | u8::from(seq.bit_depth > 10) << 5
            | u8::from(seq.monochrome) << 4
            | u8::from(seq.subsampling_x) << 3
            | u8::from(seq.subsampling_y) << 2
            | seq.chroma_sample_position,
        0,
    ]);
    config.put_slice(obu.whole);
    Ok(VideoParameters {
        codec: VideoCodec::Av1,
        width: seq.width,
        height: seq.height,
        config: config.freeze(),
    })
}

/// `av01.P.LLT.DD` (AV1 Codec ISO Media File Format Binding §5) from an `av1C` body.
pub fn rfc6381(config: &[u8]) -> String {
    let [_, profile_level, flags, ..] = config else {
        return "av01".to_owned();
    };
    let tier = if flags >> 7 == 1 { 'H' } else { 'M' };
    let depth = match (flags >> 6 & 1, flags >> 5 & 1) {
        (1, 1) => 12,
        (1, 0) => 10,
        _ => 8,
    };
    format!(
        "av01.{}.{:02}{tier}.{depth:02}",
        profile_level >> 5,
        profile_level & 0x1f
    )
}

/// The colour that the sequence header of an `av1C` body tells (§5.5.2), where it does.
pub(crate) fn colour(config: &[u8]) -> Option<Colour> {
    let obus = obus(config.get(4..)?).ok()?;
    let header = obus.iter().find(|o| o.obu_type == obu_type::SEQUENCE_HEADER)?;
    SequenceHeader::read(header.payload)?.colour
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leb128_stops_at_its_last_byte_and_at_four_gigabytes() {
        assert_eq!(leb128(&[0xe5, 0x8e, 0x26, 0xff]), Some((624_485, 3)));
        assert_eq!(leb128(&[0xff; 8]), None);
        assert_eq!(leb128(&[0x80]), None);
    }

    #[test]
    fn a_sequence_header_tells_its_size_and_string() {
        // 1280×720, Main, level 3.1 (index 5), 8-bit 4:2:0, as libaom wrote it
        let obu = [
            0x0a, 0x0b, 0x00, 0x00, 0x00, 0x2d, 0x4c, 0xff, 0xb3, 0xdf, 0xff, 0x98, 0x04,
        ];
        let made = parameters(&obu).unwrap();
        assert_eq!((made.width, made.height), (1280, 720), "{made:?}");
        assert_eq!(made.rfc6381(), "av01.0.05M.08");
        for len in 0..obu.len() {
            let _ = parameters(&obu[..len]);
        }
    }

    /// Never twice the same in a row, and the same every time.
    fn noise(state: &mut u64) -> u8 {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 56) as u8
    }

    #[test]
    fn frame_headers_of_noise_are_refused_or_read_and_tiles_lie_in_their_group() {
        let sequence = [
            0x0a, 0x0b, 0x00, 0x00, 0x00, 0x2d, 0x4c, 0xff, 0xb3, 0xdf, 0xff, 0x98, 0x04,
        ];
        let made = parameters(&sequence).unwrap();
        let (mut state, mut read) = (7, 0);
        for round in 0..3_000 {
            let mut config = made.config.to_vec();
            if round % 3 > 0 {
                // another sequence, which may have times, numbers and tools of its own
                for byte in &mut config[6..] {
                    *byte ^= noise(&mut state) & noise(&mut state);
                }
            }
            let Some(mut headers) = FrameHeaders::new(&config) else {
                continue;
            };
            for _ in 0..40 {
                let whole: Vec<u8> = (0..48).map(|_| noise(&mut state)).collect();
                let obu = Obu {
                    obu_type: obu_type::FRAME,
                    whole: &whole,
                    payload: &whole[2..],
                };
                let Some(FrameHeader::Frame {
                    tiles: Some(tiles), ..
                }) = headers.read(&obu)
                else {
                    continue;
                };
                read += 1;
                let group = &obu.payload[tiles.header..];
                for tile in tiles.of_group(group).unwrap_or_default() {
                    assert!(!tile.is_empty() && tile.end <= group.len());
                }
            }
        }
        assert!(read > 1_000, "{read}");
    }
}
