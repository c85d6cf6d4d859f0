use crate::bits::BitReader;
use crate::codec::av1::params::Frame;
use crate::codec::av1::sequence::{CHOSEN, SequenceHeader};
use crate::codec::av1::tiles::Tiles;
use crate::codec::av1::{Obu, obu_type, obus};

/// What a frame header says of which frames are kept (§5.9.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameHeader {
    /// `show_existing_frame`: what this slot holds is shown.
    Existing(u8),
    /// A frame of its own.
    Frame {
        /// Whether it is a key frame.
        key: bool,
        /// Whether it is shown.
        shown: bool,
        /// `refresh_frame_flags`: the slots that hold it afterwards, the lowest bit for slot 0.
        refreshed: u8,
        /// How it is divided, and where its tiles begin; `None` where the header does not parse to its end.
        tiles: Option<Tiles>,
    },
}

/// Reads the frame headers of one sequence, as they pass: what a frame says depends on those that it refers to.
#[derive(Debug, Clone)]
pub struct FrameHeaders {
    seq: SequenceHeader,
    slots: [Option<Slot>; 8],
}

/// What a slot keeps of a frame (§7.20).
#[derive(Debug, Clone, Copy)]
struct Slot {
    key: bool,
    order_hint: u32,
    /// `UpscaledWidth` and `FrameHeight`.
    size: (u32, u32),
    /// What each segment adds to the quantizer.
    quantizers: [Option<i32>; 8],
}

impl FrameHeaders {
    /// With the sequence header of an `av1C` body; `None` where it has none.
    pub fn new(config: &[u8]) -> Option<Self> {
        let obus = obus(config.get(4..)?).ok()?;
        let header = obus.iter().find(|o| o.obu_type == obu_type::SEQUENCE_HEADER)?;
        Some(Self {
            seq: SequenceHeader::read(header.payload)?,
            slots: [None; 8],
        })
    }

    /// Whether frames have neither numbers nor times of their own, and headers in full.
    pub fn is_plain(&self) -> bool {
        !self.seq.reduced && self.seq.numbers.is_none() && self.seq.model.is_none()
    }

    /// Reads the header of a `FRAME` or `FRAME_HEADER` OBU; `None` where it is cut short before `refresh_frame_flags`.
    pub fn read(&mut self, obu: &Obu<'_>) -> Option<FrameHeader> {
        let mut b = BitReader::new(obu.payload);
        let start = match self.start(&mut b, obu)? {
            Ok(start) => start,
            Err(slot) => {
                // a key frame that is shown again is in every slot from there on (§7.21)
                if let Some(held) = self.slots[usize::from(slot)].filter(|held| held.key) {
                    self.slots = [Some(held); 8];
                }
                return Some(FrameHeader::Existing(slot));
            }
        };
        let rest = self.rest(&mut b, &start);
        let kept = rest.as_ref().map(|(_, slot)| *slot);
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if start.refreshed >> at & 1 == 1 {
                *slot = kept;
            }
        }
        Some(FrameHeader::Frame {
            key: start.kind == KEY,
            shown: start.shown,
            refreshed: start.refreshed,
            tiles: rest.map(|(tiles, _)| tiles),
        })
    }

    /// `uncompressed_header()` (§5.9.2) up to `refresh_frame_flags`; `Err` has the slot of a frame that is shown again.
    fn start(&self, b: &mut BitReader<'_>, obu: &Obu<'_>) -> Option<Result<Start, u8>> {
        let seq = &self.seq;
        let timed = seq.model.as_ref().filter(|model| !model.even);
        let (mut kind, mut shown, mut showable, mut resilient) = (KEY, true, false, true);
        if !seq.reduced {
            if b.bit()? {
                let slot = b.bits(3)? as u8;
                return Some(Err(slot));
            }
            kind = b.bits(2)?;
            shown = b.bit()?;
            if shown && let Some(model) = timed {
                b.skip(model.presentation_bits)?;
            }
            showable = if shown { kind != KEY } else { b.bit()? };
            resilient = kind == SWITCH || kind == KEY && shown || b.bit()?;
        }
        let cdf_updates = !b.bit()?;
        let screen_content = match seq.screen_content {
            CHOSEN => b.bit()?,
            told => told == 1,
        };
        let mut integer_vectors = false;
        if screen_content {
            integer_vectors = match seq.integer_vectors {
                CHOSEN => b.bit()?,
                told => told == 1,
            };
        }
        if let Some(numbers) = seq.numbers {
            b.skip(numbers.bits)?;
        }
        let sized = kind == SWITCH || !seq.reduced && b.bit()?;
        let order_hint = b.bits(seq.order_bits)?;
        let intra = matches!(kind, KEY | INTRA_ONLY);
        let primary = match intra || resilient {
            true => None,
            false => Some(b.bits(3)? as usize).filter(|slot| *slot != NO_PRIMARY),
        };
        if let Some(model) = &seq.model
            && b.bit()?
        {
            let (temporal, spatial) = layers(obu);
            for idc in &model.points {
                if *idc == 0 || idc >> temporal & 1 == 1 && idc >> (spatial + 8) & 1 == 1 {
                    b.skip(model.removal_bits)?;
                }
            }
        }
        let refreshed = match kind == SWITCH || kind == KEY && shown {
            true => 0xff,
            false => b.bits(8)? as u8,
        };
        Some(Ok(Start {
            kind,
            intra,
            shown,
            showable,
            resilient,
            cdf_updates,
            screen_content,
            integer_vectors: integer_vectors || intra,
            sized,
            order_hint,
            primary,
            refreshed,
        }))
    }

    /// What stands behind `refresh_frame_flags`; gives the tiles, and what the refreshed slots keep.
    fn rest(&mut self, b: &mut BitReader<'_>, start: &Start) -> Option<(Tiles, Slot)> {
        let seq = &self.seq;
        let mut hints = self.slots.map(|slot| slot.map(|slot| slot.order_hint));
        if (!start.intra || start.refreshed != 0xff) && start.resilient && seq.order_bits > 0 {
            for (hint, slot) in hints.iter_mut().zip(&mut self.slots) {
                let said = b.bits(seq.order_bits)?;
                // a frame that was lost; only its place is known (§7.20)
                if *hint != Some(said) {
                    (*hint, *slot) = (Some(said), None);
                }
            }
        }
        let mut frame = Frame::new(seq, start);
        let mut references = [0; 7];
        if start.intra {
            frame.read_size(b)?;
            frame.read_render_size(b)?;
            frame.read_intrabc(b)?;
        } else {
            let short = seq.order_bits > 0 && b.bit()?;
            if short {
                let (last, golden) = (b.bits(3)? as usize, b.bits(3)? as usize);
                references = self.named_shortly(last, golden, start.order_hint, &hints)?;
            }
            for slot in &mut references {
                if !short {
                    *slot = b.bits(3)? as usize;
                }
                if let Some(numbers) = seq.numbers {
                    b.skip(numbers.delta_bits)?;
                }
            }
            if start.sized && !start.resilient {
                let mut found = None;
                for slot in references {
                    if b.bit()? {
                        found = Some(self.slots[slot]?.size);
                        break;
                    }
                }
                frame.read_size_of(b, found)?;
            } else {
                frame.read_size(b)?;
                frame.read_render_size(b)?;
            }
            frame.read_motion(b)?;
        }
        let before = match start.primary {
            Some(primary) => Some(self.slots[*references.get(primary)?]?.quantizers),
            None => None,
        };
        let order: Option<Vec<u32>> = references.iter().map(|slot| hints[*slot]).collect();
        let tiles = frame.read_params(b, before, order.as_deref())?;
        let slot = Slot {
            key: start.kind == KEY,
            order_hint: start.order_hint,
            size: frame.size(),
            quantizers: frame.quantizers(),
        };
        Some((tiles, slot))
    }

    /// `set_frame_refs()` (§7.8): the slots of the seven references, of which two are named.
    fn named_shortly(
        &self,
        last: usize,
        golden: usize,
        order_hint: u32,
        hints: &[Option<u32>; 8],
    ) -> Option<[usize; 7]> {
        let mut distances = [0; 8];
        for (distance, hint) in distances.iter_mut().zip(hints) {
            *distance = relative(self.seq.order_bits, (*hint)?, order_hint);
        }
        let mut used = [false; 8];
        (used[last], used[golden]) = (true, true);
        let mut named = [None; 7];
        (named[0], named[3]) = (Some(last), Some(golden));
        // what is shown later: the latest is ALTREF, the earliest BWDREF, the next ALTREF2
        let later = |used: &[bool; 8]| -> Vec<usize> {
            (0..8)
                .filter(|slot| !used[*slot] && distances[*slot] >= 0)
                .collect()
        };
        if let Some(found) = later(&used).into_iter().max_by_key(|slot| distances[*slot]) {
            (named[6], used[found]) = (Some(found), true);
        }
        for place in [4, 5] {
            if let Some(found) = later(&used).into_iter().min_by_key(|slot| distances[*slot]) {
                (named[place], used[found]) = (Some(found), true);
            }
        }
        for place in [1, 2, 4, 5, 6] {
            let earlier = (0..8).filter(|slot| !used[*slot] && distances[*slot] < 0);
            if named[place].is_none()
                && let Some(found) = earlier.max_by_key(|slot| distances[*slot])
            {
                (named[place], used[found]) = (Some(found), true);
            }
        }
        let earliest = (0..8).min_by_key(|slot| distances[*slot])?;
        Some(named.map(|slot| slot.unwrap_or(earliest)))
    }
}

/// What a frame header begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) kind: u32,
    pub(super) intra: bool,
    pub(super) shown: bool,
    pub(super) showable: bool,
    pub(super) resilient: bool,
    pub(super) cdf_updates: bool,
    pub(super) screen_content: bool,
    pub(super) integer_vectors: bool,
    /// `frame_size_override_flag`.
    pub(super) sized: bool,
    pub(super) order_hint: u32,
    /// `primary_ref_frame`, where there is one.
    pub(super) primary: Option<usize>,
    refreshed: u8,
}

/// `get_relative_dist()` (§5.9.3): how much later `a` is than `b`.
pub(super) fn relative(bits: u32, a: u32, b: u32) -> i32 {
    if bits == 0 {
        return 0;
    }
    let (distance, sign) = (a as i32 - b as i32, 1 << (bits - 1));
    (distance & (sign - 1)) - (distance & sign)
}

/// `temporal_id` and `spatial_id` (§5.3.3).
fn layers(obu: &Obu<'_>) -> (u8, u8) {
    match *obu.whole {
        [header, extension, ..] if header >> 2 & 1 == 1 => (extension >> 5, extension >> 3 & 3),
        _ => (0, 0),
    }
}

/// `frame_type` (§6.8.2).
pub(super) const KEY: u32 = 0;
pub(super) const INTER: u32 = 1;
const INTRA_ONLY: u32 = 2;
const SWITCH: u32 = 3;
/// `PRIMARY_REF_NONE`.
const NO_PRIMARY: usize = 7;
