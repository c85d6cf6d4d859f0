//! Where HEVC slice segment headers end (ISO/IEC 23008-2 §7.3.6.1): what follows may be encrypted (ISO/IEC 23001-7 §10.4.2).
//! One layer; screen content coding (Annex A.3.7) is not read.

mod sets;

use bytes::Bytes;
use loom_core::CodecError;
use loom_core::codec::h264;
use loom_core::codec::hevc::{self, nal_type};

use crate::crypt::hevc::sets::{Pps, References, Sps};
use crate::still::BitReader;

/// Finds where slice segment headers end, from the parameter sets of an `hvcC` body.
#[derive(Debug)]
pub(crate) struct SliceHeaders {
    sps: Vec<Sps>,
    pps: Vec<Pps>,
}

impl SliceHeaders {
    /// # Errors
    /// Where the record is cut short, or a set does not parse.
    pub(super) fn new(hvcc: &Bytes) -> Result<Self, CodecError> {
        let (mut sps, mut pps) = (Vec::new(), Vec::new());
        for set in hevc::parameter_sets(hvcc)? {
            let (rbsp, _) = h264::unescaped(&set, 2, usize::MAX);
            let mut b = BitReader::new(&rbsp);
            let broken = || CodecError::Invalid {
                what: "HEVC parameter set",
                why: "a slice header's length cannot be told by it".to_owned(),
                clause: "ISO/IEC 23008-2 §7.3.2",
            };
            match hevc::nal_unit_type(&set) {
                Some(nal_type::SPS) => sps.push(Sps::read(&mut b).ok_or_else(broken)?),
                Some(nal_type::PPS) => pps.push(Pps::read(&mut b).ok_or_else(broken)?),
                _ => {}
            }
        }
        Ok(Self { sps, pps })
    }

    /// How many bytes of a coded slice segment, from its NAL unit header on, its header reaches into; `None` where the NAL unit is none,
    /// or its header does not parse.
    pub(super) fn reach(&self, nal: &[u8]) -> Option<usize> {
        let kind = hevc::nal_unit_type(nal)?;
        if !matches!(kind, 0..=9 | 16..=21) {
            return None;
        }
        let (rbsp, places) = h264::unescaped(nal, 2, LONGEST);
        let mut b = BitReader::new(&rbsp);
        self.header(&mut b, kind)?;
        // byte_alignment(): a one, then zeros
        b.skip(1)?;
        let read = b.position().div_ceil(8);
        Some(places.get(read.checked_sub(1)?)? + 1)
    }

    /// `slice_segment_header()`, up to and without `byte_alignment()`.
    fn header(&self, b: &mut BitReader<'_>, kind: u8) -> Option<()> {
        let first = b.bit()?;
        if nal_type::IRAP.contains(&kind) {
            b.skip(1)?; // no_output_of_prior_pics_flag
        }
        let id = b.ue()?;
        let pps = self.pps.iter().find(|pps| pps.id == id)?;
        let sps = self.sps.iter().find(|sps| sps.id == pps.sps)?;
        let mut dependent = false;
        if !first {
            dependent = pps.dependent_slices && b.bit()?;
            b.skip(bits_for(sps.blocks))?; // slice_segment_address
        }
        if !dependent {
            slice(b, kind, sps, pps)?;
        }
        if pps.entry_points {
            let count = b.ue()?;
            if count > 0 {
                let bits = b.ue()? + 1;
                for _ in 0..count {
                    b.skip(bits)?;
                }
            }
        }
        if pps.extended_headers {
            let bytes = b.ue()?;
            b.skip(bytes.checked_mul(8)?)?;
        }
        Some(())
    }
}

/// What a dependent slice segment takes over from the one before.
fn slice(b: &mut BitReader<'_>, kind: u8, sps: &Sps, pps: &Pps) -> Option<()> {
    b.skip(pps.extra_bits)?;
    let slice_type = b.ue()?;
    let (predicted, bidirectional) = (slice_type < 2, slice_type == 0);
    if pps.output_flag {
        b.skip(1)?;
    }
    if sps.separate_planes {
        b.skip(2)?;
    }
    let (mut current, mut temporal) = (0, false);
    if !matches!(kind, 19 | 20) {
        b.skip(sps.poc_bits)?;
        current = match b.bit()? {
            false => References::of_slice(b, &sps.references)?.used(),
            true => {
                let at = b.bits(bits_for(sps.references.len() as u32))?;
                sps.references.get(at as usize)?.used()
            }
        };
        if let Some(listed) = &sps.long_term {
            current += long_term(b, listed, sps.poc_bits)?;
        }
        temporal = sps.temporal && b.bit()?;
    }
    let mut offset = false;
    if sps.sample_offset {
        offset = b.bit()?;
        if sps.chroma {
            offset |= b.bit()?;
        }
    }
    if predicted {
        let mut active = pps.active;
        if b.bit()? {
            active[0] = b.ue()? + 1;
            if bidirectional {
                active[1] = b.ue()? + 1;
            }
        }
        if active.iter().any(|count| *count > 16) {
            return None;
        }
        let lists = 1 + usize::from(bidirectional);
        if pps.lists_modification && current > 1 {
            for count in &active[..lists] {
                if b.bit()? {
                    b.skip(count * bits_for(current))?;
                }
            }
        }
        if bidirectional {
            b.skip(1)?; // mvd_l1_zero_flag
        }
        if pps.cabac_init {
            b.skip(1)?;
        }
        if temporal {
            let list = usize::from(bidirectional && !b.bit()?);
            if active[list] > 1 {
                b.ue()?;
            }
        }
        if pps.weighted[usize::from(bidirectional)] {
            weights(b, sps, &active[..lists])?;
        }
        b.ue()?; // five_minus_max_num_merge_cand
    }
    b.se()?; // slice_qp_delta
    if pps.chroma_offsets {
        b.se()?;
        b.se()?;
    }
    if pps.chroma_offset_list {
        b.skip(1)?;
    }
    let mut unfiltered = pps.unfiltered;
    if pps.deblocking_override && b.bit()? {
        unfiltered = b.bit()?;
        if !unfiltered {
            b.se()?;
            b.se()?;
        }
    }
    if pps.filter_across && (offset || !unfiltered) {
        b.skip(1)?;
    }
    Some(())
}

/// Long-term pictures; gives how many of them the current picture may refer to.
fn long_term(b: &mut BitReader<'_>, listed: &[bool], poc_bits: u32) -> Option<u32> {
    let from_sps = if listed.is_empty() { 0 } else { b.ue()? };
    let count = from_sps.checked_add(b.ue()?)?;
    if count > 32 {
        return None;
    }
    let mut used = 0;
    for at in 0..count {
        let current = if at < from_sps {
            *listed.get(b.bits(bits_for(listed.len() as u32))? as usize)?
        } else {
            b.skip(poc_bits)?;
            b.bit()?
        };
        used += u32::from(current);
        if b.bit()? {
            b.ue()?; // delta_poc_msb_cycle_lt
        }
    }
    Some(used)
}

/// `pred_weight_table()` (§7.3.6.3).
fn weights(b: &mut BitReader<'_>, sps: &Sps, active: &[u32]) -> Option<()> {
    b.ue()?;
    if sps.chroma {
        b.se()?;
    }
    for count in active {
        let mut flags = |wanted: bool| -> Option<Vec<bool>> {
            (0..*count)
                .map(|_| if wanted { b.bit() } else { Some(false) })
                .collect()
        };
        let (luma, chroma) = (flags(true)?, flags(sps.chroma)?);
        for (luma, chroma) in luma.into_iter().zip(chroma) {
            for _ in 0..2 * u32::from(luma) + 4 * u32::from(chroma) {
                b.se()?;
            }
        }
    }
    Some(())
}

/// `Ceil(Log2(count))`.
fn bits_for(count: u32) -> u32 {
    count.max(1).next_power_of_two().trailing_zeros()
}

/// The longest header that is looked for, bytes: with an entry point for each row of blocks.
const LONGEST: usize = 4_096;
