//! What a repeated picture must know of the parameter sets (ISO/IEC 14496-10 §7.3.2.1, §7.3.2.2), and the one change made to them.

use bytes::Bytes;

use crate::still::bits::{BitReader, BitWriter, escape, unescape};

/// A sequence parameter set.
#[derive(Debug, Clone)]
pub(super) struct Sps {
    /// `ChromaArrayType`.
    pub(super) chroma: u32,
    pub(super) frame_num_bits: u32,
    pub(super) order: Order,
    pub(super) references: u32,
    pub(super) macroblocks: u32,
    pub(super) interlaced: bool,
    /// Whether pictures may be shown in another order than they are decoded.
    pub(super) reorders: bool,
    separate_planes: bool,
    payload: Vec<u8>,
    /// Where `pic_order_cnt_type` and what belongs to it lie in the payload, bits.
    order_at: (usize, usize),
    vui: Vui,
}

/// `pic_order_cnt_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// 0, with how many bits `pic_order_cnt_lsb` has.
    Told(u32),
    /// 1.
    Cycle,
    /// 2: the order of decoding.
    Decoding,
}

/// Where to say that nothing is reordered.
#[derive(Debug, Clone, Copy)]
enum Vui {
    /// There is none: where `vui_parameters_present_flag` is.
    Absent(usize),
    /// Where its `bitstream_restriction_flag`, which is 0, is.
    Unrestricted(usize),
    Restricted,
}

/// A picture parameter set.
#[derive(Debug, Clone)]
pub(super) struct Pps {
    pub(super) id: u32,
    pub(super) cabac: bool,
    pub(super) bottom_order: bool,
    pub(super) slice_groups: bool,
    pub(super) default_references: [u32; 2],
    pub(super) weighted: bool,
    pub(super) weighted_both: u32,
    pub(super) qp: i32,
    pub(super) deblocking_control: bool,
    pub(super) redundant: bool,
}

impl Sps {
    /// Reads a NAL unit; `None` where it is cut short.
    pub(super) fn read(nal: &[u8]) -> Option<Self> {
        let (payload, _) = unescape(nal.get(1..)?, usize::MAX);
        let mut b = BitReader::new(&payload);
        let profile = b.bits(8)?;
        b.skip(16)?;
        b.ue()?;
        let (mut chroma, mut separate_planes) = (1, false);
        if matches!(
            profile,
            100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
        ) {
            chroma = b.ue()?;
            if chroma == 3 {
                separate_planes = b.bit()?;
            }
            b.ue()?;
            b.ue()?;
            b.bit()?;
            if b.bit()? {
                for list in 0..if chroma == 3 { 12 } else { 8 } {
                    if b.bit()? {
                        skip_scaling_list(&mut b, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        let frame_num_bits = b.ue()?.checked_add(4).filter(|bits| *bits <= 16)?;
        let from = b.position();
        let order = match b.ue()? {
            0 => Order::Told(b.ue()?.checked_add(4).filter(|bits| *bits <= 16)?),
            1 => {
                b.bit()?;
                b.se()?;
                b.se()?;
                for _ in 0..b.ue()?.min(256) {
                    b.se()?;
                }
                Order::Cycle
            }
            2 => Order::Decoding,
            _ => return None,
        };
        let order_at = (from, b.position());
        let references = b.ue()?;
        b.bit()?;
        let width = b.ue()?.checked_add(1)?;
        let height = b.ue()?.checked_add(1)?;
        let interlaced = !b.bit()?;
        if interlaced {
            b.bit()?;
        }
        b.bit()?;
        if b.bit()? {
            for _ in 0..4 {
                b.ue()?;
            }
        }
        let vui_at = b.position();
        let (vui, restriction) = match b.bit()? {
            true => read_vui(&mut b)?,
            false => (Vui::Absent(vui_at), None),
        };
        let reorders = match restriction {
            Some(reordered) => reordered > 0,
            // Baseline has no B slices (§A.2.1), and with type 2 nothing is reordered (§8.2.1.3)
            None => profile != 66 && order != Order::Decoding,
        };
        Some(Self {
            chroma: if separate_planes { 0 } else { chroma },
            frame_num_bits,
            order,
            references,
            macroblocks: width.checked_mul(height).filter(|count| *count <= MACROBLOCKS)?,
            interlaced,
            reorders,
            separate_planes,
            order_at,
            vui,
            payload,
        })
    }

    /// Why no picture of this stream can be repeated, where that is so.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        if self.interlaced {
            Some("its pictures may be interlaced")
        } else if self.separate_planes {
            Some("its colour planes are coded apart")
        } else if self.order == Order::Cycle {
            Some("its order of pictures is of type 1")
        } else if self.reorders {
            Some("its pictures may be reordered")
        } else if self.references == 0 {
            Some("it keeps no reference picture")
        } else {
            None
        }
    }

    /// The same NAL unit with `pic_order_cnt_type` 0 and `bits` for `pic_order_cnt_lsb`; where nothing says yet that nothing is
    /// reordered, it is said (§E.2.1), so that no decoder waits.
    pub(super) fn with_order(&self, nal: &[u8], bits: u32) -> Option<Bytes> {
        let mut out = BitWriter::default();
        let end = last_bit(&self.payload)?;
        let (from, to) = self.order_at;
        out.copy(&self.payload, 0, from);
        out.ue(0);
        out.ue(bits - 4);
        match self.vui {
            Vui::Restricted => out.copy(&self.payload, to, end),
            Vui::Unrestricted(at) => {
                out.copy(&self.payload, to, at);
                self.write_restriction(&mut out);
            }
            Vui::Absent(at) => {
                out.copy(&self.payload, to, at);
                out.bit(true); // vui_parameters_present_flag
                // aspect ratio, overscan, video signal, chroma location, timing, both HRDs, pic_struct: none
                out.bits(0, 8);
                self.write_restriction(&mut out);
            }
        }
        let mut made = vec![*nal.first()?];
        escape(&out.finish(), &mut made);
        Some(made.into())
    }

    fn write_restriction(&self, out: &mut BitWriter) {
        out.bit(true); // bitstream_restriction_flag
        out.bit(true); // motion_vectors_over_pic_boundaries_flag, as inferred
        out.ue(2); // max_bytes_per_pic_denom, as inferred
        out.ue(1); // max_bits_per_mb_denom, as inferred
        out.ue(15); // log2_max_mv_length_horizontal: the most that any level allows
        out.ue(15);
        out.ue(0); // max_num_reorder_frames
        out.ue(self.references.max(1)); // max_dec_frame_buffering
    }
}

impl Pps {
    /// Reads a NAL unit; `None` where it is cut short.
    pub(super) fn read(nal: &[u8]) -> Option<Self> {
        let (payload, _) = unescape(nal.get(1..)?, usize::MAX);
        let mut b = BitReader::new(&payload);
        let id = b.ue()?;
        b.ue()?;
        let cabac = b.bit()?;
        let bottom_order = b.bit()?;
        let slice_groups = b.ue()? > 0;
        let mut pps = Self {
            id,
            cabac,
            bottom_order,
            slice_groups,
            default_references: [0; 2],
            weighted: false,
            weighted_both: 0,
            qp: 0,
            deblocking_control: false,
            redundant: false,
        };
        if slice_groups {
            return Some(pps); // what follows is not needed
        }
        pps.default_references = [b.ue()?, b.ue()?];
        pps.weighted = b.bit()?;
        pps.weighted_both = b.bits(2)?;
        pps.qp = b.se()?;
        b.se()?;
        b.se()?;
        pps.deblocking_control = b.bit()?;
        b.bit()?;
        pps.redundant = b.bit()?;
        Some(pps)
    }
}

/// §7.3.2.1.1.1.
fn skip_scaling_list(b: &mut BitReader<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..size {
        if next != 0 {
            next = (last + b.se()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// §E.1.1. Gives where its restriction is said, and `max_num_reorder_frames` where it is.
fn read_vui(b: &mut BitReader<'_>) -> Option<(Vui, Option<u32>)> {
    if b.bit()? && b.bits(8)? == 255 {
        b.skip(32)?;
    }
    if b.bit()? {
        b.bit()?;
    }
    if b.bit()? {
        b.skip(4)?;
        if b.bit()? {
            b.skip(24)?;
        }
    }
    if b.bit()? {
        b.ue()?;
        b.ue()?;
    }
    if b.bit()? {
        b.skip(65)?;
    }
    let mut hrd = false;
    for _ in 0..2 {
        if b.bit()? {
            hrd = true;
            let count = b.ue()?.min(31);
            b.skip(8)?;
            for _ in 0..=count {
                b.ue()?;
                b.ue()?;
                b.bit()?;
            }
            b.skip(20)?;
        }
    }
    if hrd {
        b.bit()?;
    }
    b.bit()?;
    let at = b.position();
    if !b.bit()? {
        return Some((Vui::Unrestricted(at), None));
    }
    b.bit()?;
    for _ in 0..4 {
        b.ue()?;
    }
    let reordered = b.ue()?;
    Some((Vui::Restricted, Some(reordered)))
}

/// Where `rbsp_stop_one_bit` is.
fn last_bit(payload: &[u8]) -> Option<usize> {
    let at = payload.iter().rposition(|byte| *byte != 0)?;
    Some(at * 8 + 7 - payload[at].trailing_zeros() as usize)
}

/// Above what any level allows (§A.3.1: `MaxFS` 139,264).
const MACROBLOCKS: u32 = 139_264;
