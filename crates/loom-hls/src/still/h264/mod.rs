//! Repeats of H.264 pictures (ISO/IEC 14496-10).
//!
//! A repeat is a P picture that nothing refers to, in one slice, with every macroblock skipped: each then is copied from the
//! first reference picture with a motion vector of zero and without a residual (§8.4.1.1), and no edge is filtered (§8.7). So
//! it shows the picture before once more, to the bit, where that one is the newest short-term reference.
//!
//! Pictures that no other refers to may follow one another only where `pic_order_cnt_type` is not 2 (§8.2.1.3). A stream of that type
//! is turned into one of type 0: its sequence parameter set says so, and each slice header gets a `pic_order_cnt_lsb`. That is
//! made to be whole bytes long, so that what follows in the slice keeps its place in its bytes.

mod sets;
mod skip;
mod slice;

use bytes::{Bytes, BytesMut};
use loom_core::VideoParameters;
use loom_core::codec::h264;

use crate::still::bits::{BitWriter, escape, unescape};
use crate::still::h264::sets::{Order, Pps, Sps};
use crate::still::h264::slice::{Kept, Nal, Slice};

/// A stream's state, as its pictures pass.
#[derive(Debug)]
pub(super) struct H264 {
    sps: Sps,
    sets: Vec<Pps>,
    /// Bits of `pic_order_cnt_lsb` as written.
    order_bits: u32,
    /// What is wrong with the stream, for good.
    refusal: Option<&'static str>,
    /// Where the stream's own count of order was at the last reference picture.
    theirs: i64,
    /// How much more the count as written is than the stream's own.
    ahead: i64,
    /// The count, as written, of the last picture, and of the last reference picture.
    last: i64,
    last_reference: i64,
    /// What the last picture is to a repeat.
    shown: Result<Shown, &'static str>,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    /// Index of its picture parameter set.
    pps: usize,
    frame_num: u32,
}

impl H264 {
    /// For a stream of these parameters; also gives the parameters to be announced instead. `Err` says why no picture of it can be
    /// repeated.
    pub(super) fn new(parameters: &VideoParameters) -> Result<(Self, Option<VideoParameters>), &'static str> {
        let (sps, pps) = h264::parameter_sets(&parameters.config).map_err(|_| UNREADABLE)?;
        let [nal] = &sps[..] else {
            return Err("it has several sequence parameter sets");
        };
        let sps = Sps::read(nal).ok_or(UNREADABLE)?;
        let sets: Vec<Pps> = pps
            .iter()
            .map(|pps| Pps::read(pps))
            .collect::<Option<_>>()
            .ok_or(UNREADABLE)?;
        if let Some(why) = sps.refusal() {
            return Err(why);
        }
        if sets.iter().any(|pps| pps.slice_groups) {
            return Err("its macroblocks lie in several slice groups");
        }
        let order_bits = match sps.order {
            Order::Told(bits) if bits <= 8 => bits + 8,
            Order::Told(bits) => bits,
            _ => match sets.first().is_some_and(|pps| pps.bottom_order) {
                // delta_pic_order_cnt_bottom takes the sixteenth
                mixed if sets.iter().any(|pps| pps.bottom_order != mixed) => {
                    return Err("its picture parameter sets differ in what slices carry");
                }
                true => 15,
                false => 16,
            },
        };
        let announced = if sps.order == Order::Told(order_bits) {
            None
        } else {
            let nal = sps.with_order(nal, order_bits).ok_or(UNREADABLE)?;
            let made = h264::parameters(&nal, &pps).map_err(|_| UNREADABLE)?;
            if (made.width, made.height) != (parameters.width, parameters.height) {
                return Err(UNREADABLE);
            }
            Some(made)
        };
        let made = Self {
            sps,
            sets,
            order_bits,
            refusal: None,
            theirs: 0,
            ahead: 0,
            last: 0,
            last_reference: 0,
            shown: Err(NOTHING_SHOWN),
        };
        Ok((made, announced))
    }

    /// Takes note of the next picture and gives it as it is to be written.
    pub(super) fn take(&mut self, sample: Bytes) -> Bytes {
        match self.rewritten(&sample) {
            Some(Some(rewritten)) => rewritten,
            Some(None) => sample,
            None => {
                self.shown = Err(UNREADABLE);
                sample
            }
        }
    }

    /// Whether there is a picture that can be shown again.
    pub(super) fn repeats(&self) -> bool {
        self.refusal.is_none() && self.shown.is_ok()
    }

    /// A picture that shows the last one again.
    pub(super) fn repeat(&mut self) -> Result<Bytes, &'static str> {
        if let Some(why) = self.refusal {
            return Err(why);
        }
        let shown = self.shown?;
        let order = self.last + STEP;
        // the count is told modulo this, relative to the last reference picture (§8.2.1.1)
        if order - self.last_reference >= 1 << (self.order_bits - 1) {
            return Err("it was repeated too often already");
        }
        let pps = &self.sets[shown.pps];
        let mut out = BitWriter::default();
        out.ue(0); // first_mb_in_slice
        out.ue(0); // slice_type: P
        out.ue(pps.id);
        // a picture that is no reference counts as one after the last reference (§7.4.3)
        out.bits(shown.frame_num + 1, self.sps.frame_num_bits);
        out.bits(order as u32, self.order_bits);
        if pps.bottom_order {
            out.se(0);
        }
        if pps.redundant {
            out.ue(0);
        }
        out.bit(true); // num_ref_idx_active_override_flag: one reference
        out.ue(0);
        out.bit(false); // ref_pic_list_modification_flag_l0
        if pps.weighted {
            // denominators of 1, and no weights: the prediction as it is (§8.4.2.3)
            out.ue(0);
            if self.sps.chroma != 0 {
                out.ue(0);
            }
            out.bit(false);
            if self.sps.chroma != 0 {
                out.bit(false);
            }
        }
        if pps.cabac {
            out.ue(0); // cabac_init_idc
        }
        out.se(skip::QP - 26 - pps.qp);
        if pps.deblocking_control {
            out.ue(1); // disable_deblocking_filter_idc
        }
        let payload = match pps.cabac {
            true => skip::finish_cabac(out, self.sps.macroblocks),
            false => skip::finish_cavlc(out, self.sps.macroblocks),
        };
        let mut nal = vec![0, 0, 0, 0, NON_REFERENCE_SLICE];
        escape(&payload, &mut nal);
        let length = (nal.len() - 4) as u32;
        nal[..4].copy_from_slice(&length.to_be_bytes());
        self.last = order;
        Ok(nal.into())
    }

    /// The picture with its place in the order as written; the inner `None` where nothing changes, the outer where it cannot be read.
    fn rewritten(&mut self, sample: &Bytes) -> Option<Option<Bytes>> {
        let nals = h264::sample_nals(sample).ok()?;
        let mut first: Option<(Slice, Nal, i64)> = None;
        let mut out: Option<BytesMut> = None;
        let mut at = 0;
        for nal in nals {
            let whole = &sample[at..at + 4 + nal.len()];
            at += whole.len();
            let header = nal.first().copied().unwrap_or(0);
            let kind = header & 0x1f;
            if matches!(kind, 2..=4) {
                self.refusal = Some("its slices are partitioned");
            }
            if kind != 1 && kind != h264::nal_type::IDR {
                if let Some(out) = &mut out {
                    out.extend_from_slice(whole);
                }
                continue;
            }
            let nal_header = Nal {
                idr: kind == h264::nal_type::IDR,
                reference: header & 0x60 != 0,
            };
            let (payload, taken) = unescape(&nal[1..], HEADER_BYTES);
            let slice = Slice::read(&payload, nal_header, &self.sps, &self.sets)?;
            if slice.bidirectional {
                self.refusal = Some("it has B slices");
            }
            let order = match &first {
                Some((_, _, order)) => *order,
                None => {
                    let order = self.next(&slice, nal_header);
                    first = Some((slice.clone(), nal_header, order));
                    order
                }
            };
            if self.keeps(&slice, order) {
                if let Some(out) = &mut out {
                    out.extend_from_slice(whole);
                }
                continue;
            }
            let before = sample.len().min(at - whole.len());
            let out = out.get_or_insert_with(|| {
                let mut out = BytesMut::with_capacity(sample.len() + 64);
                out.extend_from_slice(&sample[..before]);
                out
            });
            let mut made = vec![header];
            escape(&self.header_with(&payload, &slice, order), &mut made);
            let rest = &nal[1 + taken..];
            out.extend_from_slice(&((made.len() + rest.len()) as u32).to_be_bytes());
            out.extend_from_slice(&made);
            out.extend_from_slice(rest);
        }
        let (slice, nal, order) = first?;
        self.note(&slice, nal, order);
        Some(out.map(BytesMut::freeze))
    }

    /// The count of the picture that begins with `slice`, as it is to be written.
    fn next(&mut self, slice: &Slice, nal: Nal) -> i64 {
        let Order::Told(bits) = self.sps.order else {
            return if nal.idr { 0 } else { self.last + STEP };
        };
        if nal.idr {
            (self.theirs, self.ahead) = (0, 0);
            self.last = -STEP;
        }
        // §8.2.1.1
        let (range, lsb) = (1_i64 << bits, i64::from(slice.order));
        let base = self.theirs.div_euclid(range) * range;
        let behind = self.theirs.rem_euclid(range) - lsb;
        let own = if behind >= range / 2 {
            base + range + lsb
        } else if behind < -range / 2 {
            base - range + lsb
        } else {
            base + lsb
        };
        if nal.reference {
            self.theirs = own;
        }
        // behind all that was shown before it
        self.ahead = self.ahead.max(self.last + STEP - own);
        if nal.idr {
            self.ahead = 0;
        }
        own + self.ahead
    }

    /// Whether the slice's header is right as it is.
    fn keeps(&self, slice: &Slice, order: i64) -> bool {
        self.sps.order == Order::Told(self.order_bits)
            && i64::from(slice.order) == order.rem_euclid(1 << self.order_bits)
    }

    /// The payload with another count of order in it.
    fn header_with(&self, payload: &[u8], slice: &Slice, order: i64) -> Vec<u8> {
        let mut out = BitWriter::default();
        out.copy(payload, 0, slice.order_at);
        out.bits(order.rem_euclid(1 << self.order_bits) as u32, self.order_bits);
        let after = match self.sps.order {
            Order::Told(bits) => slice.order_at + bits as usize,
            _ => {
                if self.order_bits == 15 {
                    out.se(0); // delta_pic_order_cnt_bottom
                }
                slice.order_at
            }
        };
        out.copy(payload, after, payload.len() * 8);
        out.into_bytes()
    }

    fn note(&mut self, slice: &Slice, nal: Nal, order: i64) {
        self.last = order;
        if nal.reference {
            self.last_reference = order;
        }
        let pps = self.sets.iter().position(|pps| pps.id == slice.pps);
        self.shown = match (slice.kept, pps) {
            (Some(Kept::Short | Kept::Alone), Some(pps)) => Ok(Shown {
                pps,
                frame_num: slice.frame_num,
            }),
            (Some(Kept::Not), _) => Err("the last picture is no reference"),
            (Some(Kept::Long), _) => Err("the last picture is a long-term reference"),
            (None, _) | (_, None) => Err(UNREADABLE),
        };
        if slice.kept == Some(Kept::Alone) {
            (self.theirs, self.ahead, self.last, self.last_reference) = (0, 0, 0, 0);
            if let Ok(shown) = &mut self.shown {
                shown.frame_num = 0;
            }
        }
    }
}

/// `nal_ref_idc` 0, `nal_unit_type` 1.
const NON_REFERENCE_SLICE: u8 = 0x01;
/// Pictures' counts of order lie this far apart.
const STEP: i64 = 2;
/// As many bytes of a slice as its header is looked for in.
const HEADER_BYTES: usize = 96;
const UNREADABLE: &str = "its headers cannot be read";
const NOTHING_SHOWN: &str = "nothing was shown yet";
