//! H.264 / AVC (ISO/IEC 14496-10) in the form of ISO/IEC 14496-15: NAL units behind 4-byte lengths.

use bytes::{BufMut, Bytes, BytesMut};
use h264_reader::nal::NalHeader;
use h264_reader::nal::pps::PicParameterSet;
use h264_reader::nal::slice::SliceHeader;
use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::rbsp::{BitReader, decode_nal};

use crate::codec::{Aspect, Colour, VideoCodec, VideoParameters};
use crate::error::CodecError;

/// `nal_unit_type` values that Loom looks at (ISO/IEC 14496-10 Table 7-1).
pub mod nal_type {
    /// Coded slice of an IDR picture.
    pub const IDR: u8 = 5;
    /// Supplemental enhancement information.
    pub const SEI: u8 = 6;
    /// Sequence parameter set.
    pub const SPS: u8 = 7;
    /// Picture parameter set.
    pub const PPS: u8 = 8;
    /// Access unit delimiter.
    pub const AUD: u8 = 9;
}

/// The type of a NAL unit, from its first byte; `None` for an empty one.
pub fn nal_unit_type(nal: &[u8]) -> Option<u8> {
    nal.first().map(|b| b & 0x1f)
}

/// The NAL units of a byte stream with start codes (ISO/IEC 14496-10 Annex B), without trailing zeros.
pub fn annex_b_nals(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut starts = Vec::new();
    let mut at = 0;
    while at + 3 <= data.len() {
        if data[at] == 0 && data[at + 1] == 0 && data[at + 2] == 1 {
            starts.push(at + 3);
            at += 3;
        } else {
            at += 1;
        }
    }
    let mut ends: Vec<usize> = starts.iter().skip(1).map(|s| s - 3).collect();
    ends.push(data.len());
    starts.into_iter().zip(ends).filter_map(|(start, end)| {
        let nal = &data[start..end];
        let len = nal.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        (len > 0).then(|| &nal[..len])
    })
}

/// The NAL units of a sample with 4-byte lengths.
///
/// # Errors
/// [`CodecError::Truncated`] where a length reaches past the data (ISO/IEC 14496-15 §5.3.2).
pub fn sample_nals(sample: &[u8]) -> Result<Vec<&[u8]>, CodecError> {
    let cut = CodecError::Truncated {
        what: "length-prefixed H.264 sample",
        clause: "ISO/IEC 14496-15 §5.3.2",
    };
    let mut nals = Vec::new();
    let mut rest = sample;
    while !rest.is_empty() {
        let (len, tail) = rest.split_first_chunk::<4>().ok_or_else(|| cut.clone())?;
        let len = u32::from_be_bytes(*len) as usize;
        let nal = tail.get(..len).ok_or_else(|| cut.clone())?;
        nals.push(nal);
        rest = &tail[len..];
    }
    Ok(nals)
}

/// A picture put together from its NAL units: the sample, its parameter sets apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessUnit {
    /// Slices and SEI, each behind a 4-byte length. Parameter sets and delimiters are left out.
    pub sample: Bytes,
    /// Sequence parameter sets found, in order.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets found, in order.
    pub pps: Vec<Bytes>,
    /// Whether it is an IDR picture.
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
                Some(nal_type::SPS) => unit.sps.push(Bytes::copy_from_slice(nal)),
                Some(nal_type::PPS) => unit.pps.push(Bytes::copy_from_slice(nal)),
                Some(other) => {
                    unit.key |= other == nal_type::IDR;
                    sample.put_u32(nal.len() as u32);
                    sample.put_slice(nal);
                }
            }
        }
        unit.sample = sample.freeze();
        unit
    }
}

/// Builds video parameters, with their `avcC`, from a sequence parameter set and its picture parameter sets.
///
/// # Errors
/// Where the SPS does not parse (ISO/IEC 14496-10 §7.3.2.1.1) or no PPS is given.
pub fn parameters(sps: &[u8], pps: &[Bytes]) -> Result<VideoParameters, CodecError> {
    let parsed = parse_sps(sps)?;
    let (width, height) = parsed
        .pixel_dimensions()
        .map_err(|why| invalid_sps(format!("{why:?}")))?;
    if pps.is_empty() || pps.len() > 255 || sps.len() > usize::from(u16::MAX) {
        return Err(CodecError::Invalid {
            what: "avcC",
            why: format!("{} picture parameter sets; 1 to 255 are needed", pps.len()),
            clause: "ISO/IEC 14496-15 §5.3.3.1.2",
        });
    }
    // AVCDecoderConfigurationRecord, ISO/IEC 14496-15 §5.3.3.1.2
    let mut avcc = BytesMut::with_capacity(16 + sps.len() + pps.iter().map(Bytes::len).sum::<usize>());
    avcc.put_slice(&[1, sps[1], sps[2], sps[3], 0b1111_1100 | 3, 0b1110_0000 | 1]);
    avcc.put_u16(sps.len() as u16);
    avcc.put_slice(sps);
    avcc.put_u8(pps.len() as u8);
    for pps in pps {
        avcc.put_u16(pps.len() as u16);
        avcc.put_slice(pps);
    }
    if !matches!(sps[1], 66 | 77 | 88) {
        let chroma = &parsed.chroma_info;
        avcc.put_u8(0b1111_1100 | chroma.chroma_format.to_u32() as u8);
        avcc.put_u8(0b1111_1000 | chroma.bit_depth_luma_minus8);
        avcc.put_u8(0b1111_1000 | chroma.bit_depth_chroma_minus8);
        avcc.put_u8(0);
    }
    Ok(VideoParameters {
        codec: VideoCodec::H264,
        width,
        height,
        config: avcc.freeze(),
    })
}

/// Reads video parameters from an `avcC` body.
///
/// # Errors
/// Where the record is cut short or holds no SPS (ISO/IEC 14496-15 §5.3.3.1.2).
pub fn parameters_from_avcc(avcc: &Bytes) -> Result<VideoParameters, CodecError> {
    let (sps, _) = parameter_sets(avcc)?;
    let sps = sps
        .first()
        .ok_or_else(|| invalid_sps("the avcC holds none".to_owned()))?;
    let (width, height) = parse_sps(sps)?
        .pixel_dimensions()
        .map_err(|why| invalid_sps(format!("{why:?}")))?;
    Ok(VideoParameters {
        codec: VideoCodec::H264,
        width,
        height,
        config: avcc.clone(),
    })
}

/// The sequence and picture parameter sets of an `avcC` body.
///
/// # Errors
/// Where the record is cut short (ISO/IEC 14496-15 §5.3.3.1.2).
pub fn parameter_sets(avcc: &Bytes) -> Result<(Vec<Bytes>, Vec<Bytes>), CodecError> {
    let cut = || CodecError::Truncated {
        what: "avcC",
        clause: "ISO/IEC 14496-15 §5.3.3.1.2",
    };
    let mut at = 5;
    let mut take = |mask: u8| -> Result<Vec<Bytes>, CodecError> {
        let count = avcc.get(at).ok_or_else(cut)? & mask;
        at += 1;
        (0..count)
            .map(|_| {
                let len = avcc.get(at..at + 2).ok_or_else(cut)?;
                let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
                at += 2;
                if at + len > avcc.len() {
                    return Err(cut());
                }
                let set = avcc.slice(at..at + len);
                at += len;
                Ok(set)
            })
            .collect()
    };
    Ok((take(0x1f)?, take(0xff)?))
}

/// `avc1.PPCCLL` (RFC 6381 §3.3) from an `avcC` body.
pub fn rfc6381(avcc: &[u8]) -> String {
    match avcc {
        [_, profile, constraints, level, ..] => format!("avc1.{profile:02x}{constraints:02x}{level:02x}"),
        _ => "avc1".to_owned(),
    }
}

/// Finds where slice headers end, from the parameter sets of an `avcC` body: what follows may be encrypted (ISO/IEC 23001-7
/// §10.4.2).
#[derive(Debug)]
pub struct SliceHeaders {
    sets: h264_reader::Context,
}

impl SliceHeaders {
    /// With the parameter sets of an `avcC` body.
    ///
    /// # Errors
    /// Where the record is cut short or a set does not parse (ISO/IEC 14496-15 §5.3.3.1.2).
    pub fn new(avcc: &Bytes) -> Result<Self, CodecError> {
        let mut sets = h264_reader::Context::new();
        let (sps, pps) = parameter_sets(avcc)?;
        for sps in &sps {
            sets.put_seq_param_set(parse_sps(sps)?);
        }
        for pps in &pps {
            let rbsp = decode_nal(pps).map_err(|why| invalid_sps(why.to_string()))?;
            let read = PicParameterSet::from_bits(&sets, BitReader::new(&rbsp[..]));
            sets.put_pic_param_set(read.map_err(|why| CodecError::Invalid {
                what: "H.264 PPS",
                why: format!("{why:?}"),
                clause: "ISO/IEC 14496-10 §7.3.2.2",
            })?);
        }
        Ok(Self { sets })
    }

    /// How many bytes of a coded slice, from its NAL unit header on, its slice header reaches into; `None` where the NAL unit is
    /// no coded slice, or its header does not parse.
    pub fn reach(&self, nal: &[u8]) -> Option<usize> {
        const LONGEST: usize = 1_024;
        if !matches!(nal_unit_type(nal)?, 1 | nal_type::IDR) {
            return None;
        }
        let (rbsp, places) = unescaped(nal, 1, LONGEST);
        let mut bits = BitReader::new(&rbsp[..]);
        let header = NalHeader::new(nal[0]).ok()?;
        SliceHeader::from_bits(&self.sets, &mut bits, header, None).ok()?;
        let read = rbsp.len() - bits.into_reader().len();
        Some(places.get(read.checked_sub(1)?)? + 1)
    }
}

/// What the SPS of an `avcC` body says of colour and of the shape of its pixels; the first `None` where nothing is said.
pub(crate) fn shown(avcc: &Bytes) -> (Option<Colour>, Aspect) {
    let sps = parameter_sets(avcc)
        .ok()
        .and_then(|(sps, _)| sps.into_iter().next());
    let Some(vui) = sps.and_then(|sps| parse_sps(&sps).ok()?.vui_parameters) else {
        return (None, Aspect::SQUARE);
    };
    let colour = vui.video_signal_type.map(|signal| {
        let said = signal.colour_description;
        Colour {
            primaries: said.as_ref().map_or(2, |it| it.colour_primaries),
            transfer: said.as_ref().map_or(2, |it| it.transfer_characteristics),
            matrix: said.as_ref().map_or(2, |it| it.matrix_coefficients),
            full_range: signal.video_full_range_flag,
        }
    });
    let (width, height) = vui.aspect_ratio_info.and_then(|it| it.get()).unwrap_or((1, 1));
    (colour, Aspect::new(width.into(), height.into()))
}

fn parse_sps(sps: &[u8]) -> Result<SeqParameterSet, CodecError> {
    if sps.len() < 4 {
        return Err(CodecError::Truncated {
            what: "H.264 SPS",
            clause: "ISO/IEC 14496-10 §7.3.2.1.1",
        });
    }
    let rbsp = decode_nal(sps).map_err(|why| invalid_sps(why.to_string()))?;
    SeqParameterSet::from_bits(BitReader::new(&rbsp[..])).map_err(|why| invalid_sps(format!("{why:?}")))
}

fn invalid_sps(why: String) -> CodecError {
    CodecError::Invalid {
        what: "H.264 SPS",
        why,
        clause: "ISO/IEC 14496-10 §7.3.2.1.1",
    }
}

/// The payload of a NAL unit behind its header of `header` bytes, up to `most` bytes of it, without emulation prevention (ISO/IEC 14496-10
/// §7.3.1, 23008-2 §7.3.1.1), and where in the unit each byte of it lies.
pub fn unescaped(nal: &[u8], header: usize, most: usize) -> (Vec<u8>, Vec<usize>) {
    let (mut rbsp, mut places, mut zeros) = (Vec::new(), Vec::new(), 0);
    for (place, byte) in nal.iter().enumerate().skip(header).take(most) {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        rbsp.push(*byte);
        places.push(place);
    }
    (rbsp, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 640×360, High, level 3.0, as x264 wrote it.
    const SPS: &[u8] = &[
        0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01,
        0x00, 0x00, 0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2d, 0x96,
    ];
    const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];

    #[test]
    fn an_avcc_gives_back_the_sets_it_was_made_of() {
        let made = parameters(SPS, &[Bytes::from_static(PPS)]).unwrap();
        assert_eq!((made.width, made.height), (640, 360));
        assert_eq!(made.rfc6381(), "avc1.64001e");
        let (sps, pps) = parameter_sets(&made.config).unwrap();
        assert_eq!((sps[0].as_ref(), pps[0].as_ref()), (SPS, PPS));
        assert_eq!(parameters_from_avcc(&made.config).unwrap(), made);
    }

    #[test]
    fn every_truncation_of_an_avcc_is_an_error_and_no_panic() {
        let made = parameters(SPS, &[Bytes::from_static(PPS)]).unwrap().config;
        let whole = made.len() - 4; // the High profile's tail is optional to a reader of parameter sets
        for len in 0..whole {
            assert!(
                parameter_sets(&made.slice(..len)).is_err(),
                "{len} bytes of {}",
                made.len()
            );
        }
    }

    #[test]
    fn annex_b_splits_on_both_start_codes() {
        let stream = [0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 0, 1, 0x65, 4, 5];
        let nals: Vec<_> = annex_b_nals(&stream).collect();
        assert_eq!(nals, [&[0x67, 1, 2][..], &[0x68, 3], &[0x65, 4, 5]]);
        let unit = AccessUnit::from_nals(nals);
        assert!(unit.key);
        assert_eq!(unit.sample.as_ref(), [0, 0, 0, 3, 0x65, 4, 5]);
        assert_eq!(sample_nals(&unit.sample).unwrap(), [&[0x65, 4, 5][..]]);
    }

    #[test]
    fn a_length_past_the_end_is_an_error() {
        assert!(sample_nals(&[0, 0, 0, 9, 0x65]).is_err());
        assert!(sample_nals(&[0, 0, 1]).is_err());
    }
}
