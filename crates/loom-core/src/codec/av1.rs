//! AV1 OBUs and sequence headers (AV1 Bitstream & Decoding Process Specification §5.3, §5.5) and `av1C`
//! (AV1 Codec ISO Media File Format Binding §2.3).

use bytes::{BufMut, BytesMut};

use crate::bits::BitReader;
use crate::codec::{Colour, VideoCodec, VideoParameters};
use crate::error::CodecError;

/// `obu_type` values that Loom looks at (§6.2.2).
pub mod obu_type {
    /// Sequence header.
    pub const SEQUENCE_HEADER: u8 = 1;
    /// Temporal delimiter.
    pub const TEMPORAL_DELIMITER: u8 = 2;
    /// Frame header alone.
    pub const FRAME_HEADER: u8 = 3;
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

#[derive(Debug, Clone, Copy)]
struct SequenceHeader {
    profile: u8,
    level: u8,
    tier: u8,
    bit_depth: u8,
    monochrome: bool,
    subsampling_x: bool,
    subsampling_y: bool,
    chroma_sample_position: u8,
    colour: Option<Colour>,
    width: u32,
    height: u32,
}

impl SequenceHeader {
    /// `sequence_header_obu()`, §5.5.1.
    fn read(payload: &[u8]) -> Option<Self> {
        let mut b = BitReader::new(payload);
        let profile = b.bits(3)? as u8;
        b.bit()?; // still_picture
        let reduced = b.bit()?;
        let (mut level, mut tier) = (0, 0);
        if reduced {
            level = b.bits(5)? as u8;
        } else {
            let mut decoder_model = None;
            if b.bit()? {
                b.bits(32)?; // num_units_in_display_tick
                b.bits(32)?; // time_scale
                if b.bit()? {
                    b.uvlc()?;
                }
                if b.bit()? {
                    let delay_length = b.bits(5)? + 1;
                    b.bits(32)?; // num_units_in_decoding_tick
                    b.bits(10)?; // removal and presentation time lengths
                    decoder_model = Some(delay_length);
                }
            }
            let initial_display_delay = b.bit()?;
            for i in 0..=b.bits(5)? {
                b.bits(12)?; // operating_point_idc
                let this_level = b.bits(5)? as u8;
                let this_tier = if this_level > 7 { b.bits(1)? as u8 } else { 0 };
                if i == 0 {
                    (level, tier) = (this_level, this_tier);
                }
                if let Some(length) = decoder_model
                    && b.bit()?
                {
                    b.bits(length)?;
                    b.bits(length)?;
                    b.bit()?;
                }
                if initial_display_delay && b.bit()? {
                    b.bits(4)?;
                }
            }
        }
        let width_bits = b.bits(4)? + 1;
        let height_bits = b.bits(4)? + 1;
        let width = b.bits(width_bits)? + 1;
        let height = b.bits(height_bits)? + 1;
        if !reduced && b.bit()? {
            b.bits(4)?; // delta_frame_id_length_minus_2
            b.bits(3)?; // additional_frame_id_length_minus_1
        }
        b.bits(3)?; // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
        if !reduced {
            b.bits(4)?; // interintra, masked, warped, dual filter
            let order_hint = b.bit()?;
            if order_hint {
                b.bits(2)?; // jnt_comp, ref_frame_mvs
            }
            let screen_content = if b.bit()? { 2 } else { b.bits(1)? };
            if screen_content > 0 && !b.bit()? {
                b.bit()?; // seq_force_integer_mv
            }
            if order_hint {
                b.bits(3)?;
            }
        }
        b.bits(3)?; // superres, cdef, restoration
        Self::read_color(
            b,
            Self {
                profile,
                level,
                tier,
                bit_depth: 8,
                monochrome: false,
                subsampling_x: true,
                subsampling_y: true,
                chroma_sample_position: 0,
                colour: None,
                width,
                height,
            },
        )
    }

    /// `color_config()`, §5.5.2.
    fn read_color(mut b: BitReader<'_>, mut seq: Self) -> Option<Self> {
        let high = b.bit()?;
        seq.bit_depth = match (seq.profile, high) {
            (2, true) if b.bit()? => 12,
            (_, true) => 10,
            _ => 8,
        };
        seq.monochrome = seq.profile != 1 && b.bit()?;
        let colour = if b.bit()? {
            (b.bits(8)?, b.bits(8)?, b.bits(8)?)
        } else {
            (2, 2, 2)
        };
        let said = |full_range| {
            let (primaries, transfer, matrix) = (colour.0 as u8, colour.1 as u8, colour.2 as u8);
            let said = Colour {
                primaries,
                transfer,
                matrix,
                full_range,
            };
            (said != Colour::UNSPECIFIED).then_some(said)
        };
        if seq.monochrome {
            seq.colour = said(b.bit()?);
            return Some(seq);
        }
        if colour == (1, 13, 0) {
            seq.colour = said(true);
            (seq.subsampling_x, seq.subsampling_y) = (false, false);
            return Some(seq);
        }
        seq.colour = said(b.bit()?);
        (seq.subsampling_x, seq.subsampling_y) = match seq.profile {
            0 => (true, true),
            1 => (false, false),
            _ if seq.bit_depth == 12 => {
                let x = b.bit()?;
                (x, x && b.bit()?)
            }
            _ => (true, false),
        };
        if seq.subsampling_x && seq.subsampling_y {
            seq.chroma_sample_position = b.bits(2)? as u8;
        }
        Some(seq)
    }
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
}
