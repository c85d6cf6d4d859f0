use crate::still::bits::BitReader;
use crate::still::h264::sets::{Order, Pps, Sps};

/// What a slice's header says (ISO/IEC 14496-10 §7.3.3), as far as the order of pictures and what becomes of this one need.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    pub(super) pps: u32,
    pub(super) frame_num: u32,
    pub(super) bidirectional: bool,
    /// Where `pic_order_cnt_lsb` lies in the payload, or would, bits.
    pub(super) order_at: usize,
    /// `pic_order_cnt_lsb`, where there is one.
    pub(super) order: u32,
    /// What the picture is to those that follow; `None` where the header is too long to tell.
    pub(super) kept: Option<Kept>,
}

/// What a picture is kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// As no reference.
    Not,
    /// As a short-term reference.
    Short,
    /// As a long-term reference.
    Long,
    /// As the only reference, and the counts of pictures begin anew (`memory_management_control_operation` 5).
    Alone,
}

impl Slice {
    /// Reads the header from a slice's payload, without its NAL unit's header.
    pub(super) fn read(payload: &[u8], nal: Nal, sps: &Sps, sets: &[Pps]) -> Option<Self> {
        let mut b = BitReader::new(payload);
        b.ue()?;
        let kind = b.ue()? % 5;
        let id = b.ue()?;
        let pps = sets.iter().find(|pps| pps.id == id)?;
        let frame_num = b.bits(sps.frame_num_bits)?;
        if nal.idr {
            b.ue()?;
        }
        let order_at = b.position();
        let order = match sps.order {
            Order::Told(bits) => b.bits(bits)?,
            _ => 0,
        };
        if sps.order != Order::Decoding && pps.bottom_order {
            b.se()?;
        }
        Some(Self {
            pps: id,
            frame_num,
            bidirectional: kind == B,
            order_at,
            order,
            kept: match nal.reference {
                true => read_kept(&mut b, kind, nal, sps, pps),
                false => Some(Kept::Not),
            },
        })
    }
}

/// What a slice's NAL unit header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nal {
    pub(super) idr: bool,
    pub(super) reference: bool,
}

fn read_kept(b: &mut BitReader<'_>, kind: u32, nal: Nal, sps: &Sps, pps: &Pps) -> Option<Kept> {
    if pps.redundant {
        b.ue()?;
    }
    if kind == B {
        b.bit()?;
    }
    let lists = match kind {
        P | SP => 1,
        B => 2,
        _ => 0,
    };
    let mut counts = pps.default_references;
    if lists > 0 && b.bit()? {
        for count in counts.iter_mut().take(lists) {
            *count = b.ue()?;
        }
    }
    for _ in 0..lists {
        if b.bit()? {
            while b.ue()? != 3 {
                b.ue()?;
            }
        }
    }
    if pps.weighted && matches!(kind, P | SP) || pps.weighted_both == 1 && kind == B {
        skip_weights(b, &counts[..lists], sps.chroma != 0)?;
    }
    if nal.idr {
        b.bit()?;
        return Some(if b.bit()? { Kept::Long } else { Kept::Short });
    }
    let mut kept = Kept::Short;
    if b.bit()? {
        loop {
            match b.ue()? {
                0 => break,
                3 => {
                    b.ue()?;
                    b.ue()?;
                }
                5 => kept = Kept::Alone,
                6 => {
                    b.ue()?;
                    kept = Kept::Long;
                }
                _ => {
                    b.ue()?;
                }
            }
        }
    }
    Some(kept)
}

/// `pred_weight_table()` (§7.3.3.2).
fn skip_weights(b: &mut BitReader<'_>, counts: &[u32], chroma: bool) -> Option<()> {
    b.ue()?;
    if chroma {
        b.ue()?;
    }
    for count in counts {
        for _ in 0..=(*count).min(31) {
            if b.bit()? {
                b.se()?;
                b.se()?;
            }
            if chroma && b.bit()? {
                for _ in 0..4 {
                    b.se()?;
                }
            }
        }
    }
    Some(())
}

/// `slice_type` modulo 5 (Table 7-6).
const P: u32 = 0;
const B: u32 = 1;
const SP: u32 = 3;
