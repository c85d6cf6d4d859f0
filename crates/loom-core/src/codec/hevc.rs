//! H.265 / HEVC (ISO/IEC 23008-2) in the form of ISO/IEC 14496-15: NAL units behind 4-byte lengths, parameter sets in `hvcC`
//! (`hvc1`).

use bytes::{BufMut, Bytes, BytesMut};

use crate::bits::BitReader;
use crate::codec::{Aspect, Colour, VideoCodec, VideoParameters};
use crate::error::CodecError;

/// `nal_unit_type` values that Loom looks at (ISO/IEC 23008-2 Table 7-1).
pub mod nal_type {
    /// The first and the last coded slice type at which decoding can start (BLA, IDR, CRA).
    pub const IRAP: std::ops::RangeInclusive<u8> = 16..=23;
    /// Video parameter set.
    pub const VPS: u8 = 32;
    /// Sequence parameter set.
    pub const SPS: u8 = 33;
    /// Picture parameter set.
    pub const PPS: u8 = 34;
    /// Access unit delimiter.
    pub const AUD: u8 = 35;
}

/// The type of a NAL unit, from its first byte; `None` for one without a whole header.
pub fn nal_unit_type(nal: &[u8]) -> Option<u8> {
    (nal.len() >= 2).then(|| nal[0] >> 1 & 0x3f)
}

/// A picture put together from its NAL units: the sample, its parameter sets apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessUnit {
    /// Slices and SEI, each behind a 4-byte length. Parameter sets and delimiters are left out.
    pub sample: Bytes,
    /// Video parameter sets found, in order.
    pub vps: Vec<Bytes>,
    /// Sequence parameter sets found, in order.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets found, in order.
    pub pps: Vec<Bytes>,
    /// Whether decoding can start here: an IRAP picture.
    pub key: bool,
}

impl AccessUnit {
    /// Sorts the NAL units of one access unit.
    pub fn from_nals<'a>(nals: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut unit = Self::default();
        let mut sample = BytesMut::new();
        for nal in nals {
            match nal_unit_type(nal) {
                None | Some(nal_type::AUD) => {}
                Some(nal_type::VPS) => unit.vps.push(Bytes::copy_from_slice(nal)),
                Some(nal_type::SPS) => unit.sps.push(Bytes::copy_from_slice(nal)),
                Some(nal_type::PPS) => unit.pps.push(Bytes::copy_from_slice(nal)),
                Some(other) => {
                    unit.key |= nal_type::IRAP.contains(&other);
                    sample.put_u32(nal.len() as u32);
                    sample.put_slice(nal);
                }
            }
        }
        unit.sample = sample.freeze();
        unit
    }
}

/// Builds video parameters, with their `hvcC`, from parameter sets.
///
/// # Errors
/// Where the SPS does not parse (ISO/IEC 23008-2 §7.3.2.2), or a kind of parameter set is missing.
pub fn parameters(vps: &[Bytes], sps: &[Bytes], pps: &[Bytes]) -> Result<VideoParameters, CodecError> {
    let first = sps.first().ok_or_else(|| invalid("there is no SPS"))?;
    let read = Sps::read(first)?;
    let fits = |sets: &[Bytes]| {
        (1..=64).contains(&sets.len()) && sets.iter().all(|s| s.len() <= usize::from(u16::MAX))
    };
    if ![vps, sps, pps].into_iter().all(fits) {
        return Err(CodecError::Invalid {
            what: "hvcC",
            why: format!(
                "{} video, {} sequence and {} picture parameter sets; 1 to 64 of each, at most 65,535 bytes long, are taken",
                vps.len(),
                sps.len(),
                pps.len()
            ),
            clause: CONFIG_CLAUSE,
        });
    }
    // HEVCDecoderConfigurationRecord, ISO/IEC 14496-15 §8.3.3.1.2
    let mut config = BytesMut::new();
    config.put_u8(1);
    config.put_slice(&read.profile_tier_level);
    config.put_u16(0xf000); // min_spatial_segmentation_idc: not known
    config.put_u8(0xfc); // parallelismType: not known
    config.put_u8(0xfc | read.chroma);
    config.put_u8(0xf8 | (read.luma_depth - 8));
    config.put_u8(0xf8 | (read.chroma_depth - 8));
    config.put_u16(0); // avgFrameRate: not known
    config.put_u8((read.sub_layers & 7) << 3 | u8::from(read.nested) << 2 | 3);
    config.put_u8(3);
    for (kind, sets) in [(nal_type::VPS, vps), (nal_type::SPS, sps), (nal_type::PPS, pps)] {
        // array_completeness: `hvc1` has no parameter sets in its samples
        config.put_u8(0x80 | kind);
        config.put_u16(sets.len() as u16);
        for set in sets {
            config.put_u16(set.len() as u16);
            config.put_slice(set);
        }
    }
    Ok(VideoParameters {
        codec: VideoCodec::Hevc,
        width: read.width,
        height: read.height,
        config: config.freeze(),
    })
}

/// Reads video parameters from an `hvcC` body.
///
/// # Errors
/// Where the record is cut short, holds no SPS, or its samples have lengths of other than 4 bytes (ISO/IEC 14496-15 §8.3.3.1.2).
pub fn parameters_from_hvcc(hvcc: &Bytes) -> Result<VideoParameters, CodecError> {
    if hvcc.get(21).is_some_and(|flags| flags & 3 != 3) {
        return Err(CodecError::Invalid {
            what: "hvcC",
            why: "NAL unit lengths are not of 4 bytes".to_owned(),
            clause: CONFIG_CLAUSE,
        });
    }
    let sets = parameter_sets(hvcc)?;
    let sps = sets
        .iter()
        .find(|set| nal_unit_type(set) == Some(nal_type::SPS))
        .ok_or_else(|| invalid("the hvcC holds none"))?;
    let read = Sps::read(sps)?;
    Ok(VideoParameters {
        codec: VideoCodec::Hevc,
        width: read.width,
        height: read.height,
        config: hvcc.clone(),
    })
}

/// Every parameter set of an `hvcC` body, in its order.
///
/// # Errors
/// Where the record is cut short (ISO/IEC 14496-15 §8.3.3.1.2).
pub fn parameter_sets(hvcc: &Bytes) -> Result<Vec<Bytes>, CodecError> {
    let cut = || CodecError::Truncated {
        what: "hvcC",
        clause: CONFIG_CLAUSE,
    };
    let u16_at = |at: usize| {
        let pair = hvcc.get(at..at + 2).ok_or_else(cut)?;
        Ok(usize::from(u16::from_be_bytes([pair[0], pair[1]])))
    };
    let arrays = *hvcc.get(22).ok_or_else(cut)?;
    let (mut at, mut sets) = (23, Vec::new());
    for _ in 0..arrays {
        let count = u16_at(at + 1)?;
        at += 3;
        for _ in 0..count {
            let len = u16_at(at)?;
            at += 2;
            if at + len > hvcc.len() {
                return Err(cut());
            }
            sets.push(hvcc.slice(at..at + len));
            at += len;
        }
    }
    Ok(sets)
}

/// `hvc1.P.C.TL.B…` (ISO/IEC 14496-15 Annex E.3) from an `hvcC` body.
pub fn rfc6381(hvcc: &[u8]) -> String {
    let Some(ptl) = hvcc.get(1..13) else {
        return "hvc1".to_owned();
    };
    let space = ["", "A", "B", "C"][usize::from(ptl[0] >> 6)];
    let tier = if ptl[0] >> 5 & 1 == 1 { 'H' } else { 'L' };
    let compatibility = u32::from_be_bytes([ptl[1], ptl[2], ptl[3], ptl[4]]).reverse_bits();
    let mut text = format!(
        "hvc1.{space}{}.{compatibility:X}.{tier}{}",
        ptl[0] & 0x1f,
        ptl[11]
    );
    let constraints = &ptl[5..11];
    let told = constraints
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |last| last + 1);
    for byte in &constraints[..told] {
        text.push_str(&format!(".{byte:X}"));
    }
    text
}

/// What the SPS of an `hvcC` body says of colour and of the shape of its pixels; the first `None` where nothing is said.
pub(crate) fn shown(hvcc: &Bytes) -> (Option<Colour>, Aspect) {
    let sets = parameter_sets(hvcc).unwrap_or_default();
    let sps = sets.iter().find(|set| nal_unit_type(set) == Some(nal_type::SPS));
    match sps.and_then(|sps| Sps::read(sps).ok()) {
        Some(read) => (read.colour, read.aspect),
        None => (None, Aspect::SQUARE),
    }
}

/// What Loom reads of `seq_parameter_set_rbsp()`.
#[derive(Debug, Clone)]
struct Sps {
    /// The twelve bytes from `general_profile_space` to `general_level_idc`.
    profile_tier_level: [u8; 12],
    sub_layers: u8,
    nested: bool,
    chroma: u8,
    width: u32,
    height: u32,
    luma_depth: u8,
    chroma_depth: u8,
    colour: Option<Colour>,
    aspect: Aspect,
}

impl Sps {
    fn read(nal: &[u8]) -> Result<Self, CodecError> {
        if nal_unit_type(nal) != Some(nal_type::SPS) {
            return Err(invalid("it is no SPS"));
        }
        // emulation prevention (ISO/IEC 23008-2 §7.3.1.1)
        let mut rbsp = Vec::with_capacity(nal.len());
        let mut zeros = 0;
        for byte in &nal[2..] {
            if zeros >= 2 && *byte == 3 {
                zeros = 0;
                continue;
            }
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
            rbsp.push(*byte);
        }
        Self::read_rbsp(&rbsp).ok_or(CodecError::Truncated {
            what: "HEVC SPS",
            clause: SPS_CLAUSE,
        })?
    }

    /// ISO/IEC 23008-2 §7.3.2.2.1.
    fn read_rbsp(rbsp: &[u8]) -> Option<Result<Self, CodecError>> {
        let mut b = BitReader::new(rbsp);
        b.bits(4)?; // sps_video_parameter_set_id
        let more = b.bits(3)?;
        let nested = b.bit()?;
        let profile_tier_level: [u8; 12] = rbsp.get(1..13)?.try_into().ok()?;
        for _ in 0..3 {
            b.bits(32)?;
        }
        let mut present = Vec::new();
        for _ in 0..more {
            present.push((b.bit()?, b.bit()?));
        }
        if more > 0 {
            b.bits(2 * (8 - more))?;
        }
        for (profile, level) in present {
            if profile {
                b.bits(32)?;
                b.bits(32)?;
                b.bits(24)?;
            }
            if level {
                b.bits(8)?;
            }
        }
        ue(&mut b)?; // sps_seq_parameter_set_id
        let chroma = ue(&mut b)?;
        if chroma > 3 {
            return Some(Err(invalid("its chroma format is reserved")));
        }
        let separate = chroma == 3 && b.bit()?;
        let (mut width, mut height) = (ue(&mut b)?, ue(&mut b)?);
        if b.bit()? {
            let (x, y) = match chroma {
                1 => (2, 2),
                2 => (2, 1),
                _ => (1, 1),
            };
            let (left, right, top, bottom) = (ue(&mut b)?, ue(&mut b)?, ue(&mut b)?, ue(&mut b)?);
            let cut = |all: u32, unit: u32, one: u32, other: u32| {
                all.checked_sub(one.checked_add(other)?.checked_mul(unit)?)
            };
            match (cut(width, x, left, right), cut(height, y, top, bottom)) {
                (Some(w), Some(h)) => (width, height) = (w, h),
                _ => return Some(Err(invalid("its conformance window is larger than the picture"))),
            }
        }
        let (luma, chroma_depth) = (ue(&mut b)?, ue(&mut b)?);
        if luma > 8 || chroma_depth > 8 || width == 0 || height == 0 {
            return Some(Err(invalid("its size or bit depth is out of range")));
        }
        let mut sps = Self {
            profile_tier_level,
            sub_layers: more as u8 + 1,
            nested,
            chroma: if separate { 0 } else { chroma as u8 },
            width,
            height,
            luma_depth: luma as u8 + 8,
            chroma_depth: chroma_depth as u8 + 8,
            colour: None,
            aspect: Aspect::SQUARE,
        };
        // what follows is wanted for its colour only: a stream without is no worse
        let _ = sps.read_vui(b, more);
        Some(Ok(sps))
    }

    /// From `log2_max_pic_order_cnt_lsb_minus4` to the colour description (Annex E.2.1).
    fn read_vui(&mut self, mut b: BitReader<'_>, more: u32) -> Option<()> {
        let poc_bits = ue(&mut b)? + 4;
        let all = b.bit()?;
        for _ in if all { 0 } else { more }..=more {
            for _ in 0..3 {
                ue(&mut b)?;
            }
        }
        for _ in 0..6 {
            ue(&mut b)?; // sizes of coding and transform blocks, depths of their hierarchy
        }
        if b.bit()? && b.bit()? {
            skip_scaling_lists(&mut b)?;
        }
        b.bits(2)?; // amp, sample adaptive offset
        if b.bit()? {
            b.bits(8)?; // pcm bit depths
            ue(&mut b)?;
            ue(&mut b)?;
            b.bit()?;
        }
        let sets = ue(&mut b)?;
        if sets > 64 {
            return None;
        }
        let mut deltas = Vec::new();
        for at in 0..sets {
            let count = skip_reference_set(&mut b, at, &deltas)?;
            deltas.push(count);
        }
        if b.bit()? {
            for _ in 0..ue(&mut b)?.min(33) {
                b.bits(poc_bits.min(32))?;
                b.bit()?;
            }
        }
        b.bits(2)?; // temporal motion vectors, strong intra smoothing
        if !b.bit()? {
            return Some(());
        }
        if b.bit()? {
            self.aspect = match b.bits(8)? {
                255 => Aspect::new(b.bits(16)?, b.bits(16)?),
                known => Aspect::listed(known as u8),
            };
        }
        if b.bit()? {
            b.bit()?; // overscan_appropriate_flag
        }
        if b.bit()? {
            b.bits(3)?; // video_format
            let full_range = b.bit()?;
            let mut colour = Colour {
                full_range,
                ..Colour::UNSPECIFIED
            };
            if b.bit()? {
                colour.primaries = b.bits(8)? as u8;
                colour.transfer = b.bits(8)? as u8;
                colour.matrix = b.bits(8)? as u8;
            }
            self.colour = Some(colour);
        }
        Some(())
    }
}

/// `scaling_list_data()`, ISO/IEC 23008-2 §7.3.4.
fn skip_scaling_lists(b: &mut BitReader<'_>) -> Option<()> {
    for size in 0..4 {
        for _ in (0..6).step_by(if size == 3 { 3 } else { 1 }) {
            if !b.bit()? {
                ue(b)?;
                continue;
            }
            if size > 1 {
                ue(b)?;
            }
            for _ in 0..64.min(1 << (4 + (size << 1))) {
                ue(b)?;
            }
        }
    }
    Some(())
}

/// `st_ref_pic_set()`, ISO/IEC 23008-2 §7.3.7; `before` has how many pictures each earlier set names. Gives that of this one.
fn skip_reference_set(b: &mut BitReader<'_>, at: u32, before: &[u32]) -> Option<u32> {
    if at > 0 && b.bit()? {
        b.bit()?; // delta_rps_sign
        ue(b)?;
        let mut count = 0;
        for _ in 0..=*before.last()? {
            let used = b.bit()?;
            if used || b.bit()? {
                count += 1;
            }
        }
        return Some(count);
    }
    let (negative, positive) = (ue(b)?, ue(b)?);
    if negative > 16 || positive > 16 {
        return None;
    }
    for _ in 0..negative + positive {
        ue(b)?;
        b.bit()?;
    }
    Some(negative + positive)
}

/// `ue(v)`, ISO/IEC 23008-2 §9.2.
fn ue(b: &mut BitReader<'_>) -> Option<u32> {
    b.uvlc().filter(|v| *v != u32::MAX)
}

fn invalid(why: &str) -> CodecError {
    CodecError::Invalid {
        what: "HEVC SPS",
        why: why.to_owned(),
        clause: SPS_CLAUSE,
    }
}

const SPS_CLAUSE: &str = "ISO/IEC 23008-2 §7.3.2.2";
const CONFIG_CLAUSE: &str = "ISO/IEC 14496-15 §8.3.3.1.2";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::VideoRange;

    /// 322×182 of 4:3 pixels, Main 10, level 2, BT.2020 with PQ, as x265 wrote it.
    const VPS: &[u8] = &[
        0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x02, 0x20, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00,
        0x00, 0x03, 0x00, 0x3c, 0x95, 0x94, 0x09,
    ];
    const SPS: &[u8] = &[
        0x42, 0x01, 0x01, 0x02, 0x20, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00,
        0x3c, 0xa0, 0x0a, 0x48, 0x0b, 0x9c, 0x94, 0xd9, 0x65, 0x65, 0x92, 0x4c, 0xaf, 0x0e, 0x6a, 0x12, 0x20,
        0x12, 0x08, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x40,
    ];
    const PPS: &[u8] = &[0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40];

    fn made() -> VideoParameters {
        let one = |set| [Bytes::from_static(set)];
        parameters(&one(VPS), &one(SPS), &one(PPS)).unwrap()
    }

    #[test]
    fn an_sps_tells_size_string_colour_and_the_shape_of_its_pixels() {
        let made = made();
        assert_eq!((made.width, made.height), (322, 182));
        // as mp4box.js reads it from the file that ffmpeg makes of the same stream
        assert_eq!(made.rfc6381(), "hvc1.2.4.L60.90");
        let colour = made.colour().unwrap();
        assert_eq!((colour.primaries, colour.transfer, colour.matrix), (9, 16, 9));
        assert_eq!(colour.range(), VideoRange::Pq);
        assert_eq!(made.aspect(), Aspect { width: 4, height: 3 });
        assert_eq!(parameters_from_hvcc(&made.config).unwrap(), made);
        assert_eq!(parameter_sets(&made.config).unwrap(), [VPS, SPS, PPS]);
    }

    #[test]
    fn every_truncation_of_an_hvcc_is_an_error_and_no_panic() {
        let made = made().config;
        for len in 0..made.len() {
            assert!(parameter_sets(&made.slice(..len)).is_err(), "{len}");
            let _ = rfc6381(&made[..len]);
        }
        for len in 0..SPS.len() {
            let _ = Sps::read(&SPS[..len]);
        }
    }

    #[test]
    fn an_access_unit_leaves_parameter_sets_and_delimiters_out() {
        let unit = AccessUnit::from_nals([&[0x46, 1, 0x50][..], VPS, SPS, PPS, &[0x28, 1, 7]]);
        assert!(unit.key);
        assert_eq!(unit.sample.as_ref(), [0, 0, 0, 3, 0x28, 1, 7]);
        assert_eq!((unit.vps.len(), unit.sps.len(), unit.pps.len()), (1, 1, 1));
        assert!(!AccessUnit::from_nals([&[0x02, 1, 7][..]]).key);
    }
}
