//! What of HEVC parameter sets (ISO/IEC 23008-2 §7.3.2) slice segment headers depend on.

use crate::still::BitReader;

/// A sequence parameter set (§7.3.2.2.1).
#[derive(Debug)]
pub(super) struct Sps {
    pub(super) id: u32,
    /// Whether there is chroma beside luma in one picture (`ChromaArrayType` is not 0).
    pub(super) chroma: bool,
    pub(super) separate_planes: bool,
    /// Coding tree blocks of a picture.
    pub(super) blocks: u32,
    pub(super) poc_bits: u32,
    pub(super) sample_offset: bool,
    pub(super) references: Vec<References>,
    /// Whether the current picture may refer to each listed long-term picture; `None` where there are none at all.
    pub(super) long_term: Option<Vec<bool>>,
    pub(super) temporal: bool,
}

/// A picture parameter set (§7.3.2.3.1).
#[derive(Debug, Default)]
pub(super) struct Pps {
    pub(super) id: u32,
    pub(super) sps: u32,
    pub(super) dependent_slices: bool,
    pub(super) output_flag: bool,
    pub(super) extra_bits: u32,
    pub(super) cabac_init: bool,
    /// Reference pictures of each list.
    pub(super) active: [u32; 2],
    pub(super) chroma_offsets: bool,
    /// Of P slices, and of B slices.
    pub(super) weighted: [bool; 2],
    /// Tiles, or rows that are decoded side by side.
    pub(super) entry_points: bool,
    pub(super) filter_across: bool,
    pub(super) deblocking_override: bool,
    pub(super) unfiltered: bool,
    pub(super) lists_modification: bool,
    pub(super) extended_headers: bool,
    pub(super) chroma_offset_list: bool,
}

/// `st_ref_pic_set()` (§7.3.7): how far each picture's order count lies from the current one's, and whether that may refer to it.
#[derive(Debug, Clone, Default)]
pub(super) struct References {
    before: Vec<(i32, bool)>,
    after: Vec<(i32, bool)>,
}

impl Sps {
    pub(super) fn read(b: &mut BitReader<'_>) -> Option<Self> {
        b.skip(4)?;
        let sub_layers = b.bits(3)?; // minus 1
        b.skip(1)?;
        profile_tier_level(b, sub_layers)?;
        let id = b.ue()?;
        let format = b.ue()?;
        let separate_planes = format == 3 && b.bit()?;
        let (width, height) = (b.ue()?, b.ue()?);
        if b.bit()? {
            for _ in 0..4 {
                b.ue()?;
            }
        }
        b.ue()?;
        b.ue()?;
        let poc_bits = b.ue()?.checked_add(4).filter(|bits| *bits <= 16)?;
        let told = if b.bit()? { sub_layers + 1 } else { 1 };
        for _ in 0..told * 3 {
            b.ue()?;
        }
        let smallest = b.ue()?.checked_add(3)?;
        let block = smallest.checked_add(b.ue()?).filter(|log2| *log2 <= 6)?;
        for _ in 0..4 {
            b.ue()?; // transform blocks
        }
        if b.bit()? && b.bit()? {
            scaling_lists(b)?;
        }
        b.skip(1)?; // amp_enabled_flag
        let sample_offset = b.bit()?;
        if b.bit()? {
            b.skip(8)?;
            b.ue()?;
            b.ue()?;
            b.skip(1)?;
        }
        let count = b.ue()?;
        if count > 64 {
            return None;
        }
        let mut references = Vec::new();
        for _ in 0..count {
            let set = References::of_sps(b, &references)?;
            references.push(set);
        }
        let mut long_term = None;
        if b.bit()? {
            let count = b.ue()?;
            if count > 32 {
                return None;
            }
            let listed = (0..count).map(|_| {
                b.skip(poc_bits)?;
                b.bit()
            });
            long_term = Some(listed.collect::<Option<Vec<bool>>>()?);
        }
        let temporal = b.bit()?;
        let across = |side: u32| side.div_ceil(1 << block);
        Some(Self {
            id,
            chroma: format != 0 && !separate_planes,
            separate_planes,
            blocks: across(width).checked_mul(across(height))?,
            poc_bits,
            sample_offset,
            references,
            long_term,
            temporal,
        })
    }
}

impl Pps {
    pub(super) fn read(b: &mut BitReader<'_>) -> Option<Self> {
        let mut pps = Self {
            id: b.ue()?,
            sps: b.ue()?,
            dependent_slices: b.bit()?,
            output_flag: b.bit()?,
            extra_bits: b.bits(3)?,
            ..Self::default()
        };
        b.skip(1)?; // sign_data_hiding_enabled_flag
        pps.cabac_init = b.bit()?;
        pps.active = [b.ue()?.checked_add(1)?, b.ue()?.checked_add(1)?];
        b.se()?; // init_qp_minus26
        b.skip(1)?; // constrained_intra_pred_flag
        let skips_transforms = b.bit()?;
        if b.bit()? {
            b.ue()?; // diff_cu_qp_delta_depth
        }
        b.se()?;
        b.se()?;
        pps.chroma_offsets = b.bit()?;
        pps.weighted = [b.bit()?, b.bit()?];
        b.skip(1)?; // transquant_bypass_enabled_flag
        let tiles = b.bit()?;
        pps.entry_points = b.bit()? | tiles;
        if tiles {
            let (columns, rows) = (b.ue()?, b.ue()?);
            if !b.bit()? {
                for _ in 0..columns.checked_add(rows)? {
                    b.ue()?;
                }
            }
            b.skip(1)?; // loop_filter_across_tiles_enabled_flag
        }
        pps.filter_across = b.bit()?;
        if b.bit()? {
            pps.deblocking_override = b.bit()?;
            pps.unfiltered = b.bit()?;
            if !pps.unfiltered {
                b.se()?;
                b.se()?;
            }
        }
        if b.bit()? {
            scaling_lists(b)?;
        }
        pps.lists_modification = b.bit()?;
        b.ue()?; // log2_parallel_merge_level_minus2
        pps.extended_headers = b.bit()?;
        if b.bit()? {
            let range = b.bit()?;
            // of several layers, 3D, and screen content: their slice headers are longer
            if b.bits(3)? != 0 {
                return None;
            }
            b.skip(4)?;
            if range {
                if skips_transforms {
                    b.ue()?;
                }
                b.skip(1)?; // cross_component_prediction_enabled_flag
                pps.chroma_offset_list = b.bit()?;
            }
        }
        Some(pps)
    }
}

impl References {
    /// The next set of an SPS, behind `known`.
    fn of_sps(b: &mut BitReader<'_>, known: &[Self]) -> Option<Self> {
        match known.last() {
            Some(before) if b.bit()? => Self::predicted(b, before),
            _ => Self::explicit(b),
        }
    }

    /// A slice's own set, where its SPS has `known`.
    pub(super) fn of_slice(b: &mut BitReader<'_>, known: &[Self]) -> Option<Self> {
        if !known.is_empty() && b.bit()? {
            let back = usize::try_from(b.ue()?.checked_add(1)?).ok()?;
            return Self::predicted(b, known.get(known.len().checked_sub(back)?)?);
        }
        Self::explicit(b)
    }

    fn explicit(b: &mut BitReader<'_>) -> Option<Self> {
        let (before, after) = (b.ue()?, b.ue()?);
        if before > 16 || after > 16 {
            return None;
        }
        let mut side = |count: u32, sign: i32| -> Option<Vec<(i32, bool)>> {
            let mut delta = 0;
            let one = |_| {
                delta += sign
                    * i32::try_from(b.ue()?.checked_add(1)?)
                        .ok()
                        .filter(|it| *it <= 1 << 15)?;
                Some((delta, b.bit()?))
            };
            (0..count).map(one).collect()
        };
        Some(Self {
            before: side(before, -1)?,
            after: side(after, 1)?,
        })
    }

    /// From another set, all of whose order counts are moved (§7.4.8).
    fn predicted(b: &mut BitReader<'_>, from: &Self) -> Option<Self> {
        let sign = if b.bit()? { -1 } else { 1 };
        let moved = sign
            * i32::try_from(b.ue()?.checked_add(1)?)
                .ok()
                .filter(|it| *it <= 1 << 15)?;
        // those before, those after, and the picture that the other set belongs to
        let all = from
            .before
            .iter()
            .chain(&from.after)
            .map(|(delta, _)| *delta)
            .chain([0]);
        let mut kept = Vec::new();
        for delta in all {
            let used = b.bit()?;
            if used || b.bit()? {
                kept.push((delta + moved, used));
            }
        }
        let side = |sign: i32| {
            let mut side: Vec<_> = kept
                .iter()
                .copied()
                .filter(|(delta, _)| delta * sign > 0)
                .collect();
            side.sort_by_key(|(delta, _)| delta * sign);
            side
        };
        let made = Self {
            before: side(-1),
            after: side(1),
        };
        (made.before.len() <= 16 && made.after.len() <= 16).then_some(made)
    }

    /// How many pictures the current one may refer to.
    pub(super) fn used(&self) -> u32 {
        let all = self.before.iter().chain(&self.after);
        all.filter(|(_, used)| *used).count() as u32
    }
}

/// `profile_tier_level()` (§7.3.3).
fn profile_tier_level(b: &mut BitReader<'_>, sub_layers: u32) -> Option<()> {
    b.skip(96)?;
    let told: Option<Vec<(bool, bool)>> = (0..sub_layers).map(|_| Some((b.bit()?, b.bit()?))).collect();
    if sub_layers > 0 {
        b.skip(2 * (8 - sub_layers))?;
    }
    for (profile, level) in told? {
        b.skip(88 * u32::from(profile) + 8 * u32::from(level))?;
    }
    Some(())
}

/// `scaling_list_data()` (§7.3.4).
fn scaling_lists(b: &mut BitReader<'_>) -> Option<()> {
    for size in 0..4 {
        for _ in (0..6).step_by(if size == 3 { 3 } else { 1 }) {
            if !b.bit()? {
                b.ue()?;
                continue;
            }
            if size > 1 {
                b.se()?;
            }
            for _ in 0..64.min(1 << (4 + (size << 1))) {
                b.se()?;
            }
        }
    }
    Some(())
}
