//! What of a frame header stands behind the frames that it refers to (§5.9.5 to §5.9.30).

use crate::bits::BitReader;
use crate::codec::av1::headers::{INTER, Start, relative};
use crate::codec::av1::sequence::SequenceHeader;
use crate::codec::av1::tiles::Tiles;

/// A frame whose header is being read.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    seq: &'a SequenceHeader,
    start: &'a Start,
    upscaled_width: u32,
    width: u32,
    height: u32,
    intrabc: bool,
    precise_vectors: bool,
    base_q: i32,
    /// Whether no plane differs from the base quantizer.
    plain_q: bool,
    quantizers: [Option<i32>; 8],
}

impl<'a> Frame<'a> {
    pub(super) fn new(seq: &'a SequenceHeader, start: &'a Start) -> Self {
        Self {
            seq,
            start,
            upscaled_width: 0,
            width: 0,
            height: 0,
            intrabc: false,
            precise_vectors: false,
            base_q: 0,
            plain_q: true,
            quantizers: [None; 8],
        }
    }

    /// `UpscaledWidth` and `FrameHeight`.
    pub(super) fn size(&self) -> (u32, u32) {
        (self.upscaled_width, self.height)
    }

    pub(super) fn quantizers(&self) -> [Option<i32>; 8] {
        self.quantizers
    }

    /// `frame_size()` (§5.9.5).
    pub(super) fn read_size(&mut self, b: &mut BitReader<'_>) -> Option<()> {
        (self.upscaled_width, self.height) = match self.start.sized {
            true => (
                b.bits(self.seq.width_bits)? + 1,
                b.bits(self.seq.height_bits)? + 1,
            ),
            false => (self.seq.width, self.seq.height),
        };
        self.read_superres(b)
    }

    /// What follows `found_ref` in `frame_size_with_refs()` (§5.9.7).
    pub(super) fn read_size_of(&mut self, b: &mut BitReader<'_>, found: Option<(u32, u32)>) -> Option<()> {
        match found {
            Some(size) => {
                (self.upscaled_width, self.height) = size;
                self.read_superres(b)
            }
            None => {
                self.read_size(b)?;
                self.read_render_size(b)
            }
        }
    }

    /// `superres_params()` (§5.9.8).
    fn read_superres(&mut self, b: &mut BitReader<'_>) -> Option<()> {
        let mut denominator = 8;
        if self.seq.superres && b.bit()? {
            denominator = b.bits(3)? + 9;
        }
        self.width = (self.upscaled_width * 8 + denominator / 2) / denominator;
        Some(())
    }

    /// `render_size()` (§5.9.6).
    pub(super) fn read_render_size(&mut self, b: &mut BitReader<'_>) -> Option<()> {
        if b.bit()? { b.skip(32) } else { Some(()) }
    }

    pub(super) fn read_intrabc(&mut self, b: &mut BitReader<'_>) -> Option<()> {
        self.intrabc = self.start.screen_content && self.width == self.upscaled_width && b.bit()?;
        Some(())
    }

    /// From `allow_high_precision_mv` to `use_ref_frame_mvs`.
    pub(super) fn read_motion(&mut self, b: &mut BitReader<'_>) -> Option<()> {
        self.precise_vectors = !self.start.integer_vectors && b.bit()?;
        if !b.bit()? {
            b.skip(2)?; // interpolation_filter
        }
        b.skip(1)?; // is_motion_mode_switchable
        if !self.start.resilient && self.seq.ref_frame_mvs {
            b.skip(1)?; // use_ref_frame_mvs
        }
        Some(())
    }

    /// From `disable_frame_end_update_cdf` to the end. `before` are the quantizers of the primary reference, where there is one; `order` the
    /// order hints of the references, where all are known.
    pub(super) fn read_params(
        &mut self,
        b: &mut BitReader<'_>,
        before: Option<[Option<i32>; 8]>,
        order: Option<&[u32]>,
    ) -> Option<Tiles> {
        if !self.seq.reduced && self.start.cdf_updates {
            b.skip(1)?; // disable_frame_end_update_cdf
        }
        let mut tiles = self.read_tiles(b)?;
        self.read_quantization(b)?;
        self.read_segmentation(b, before)?;
        self.read_deltas(b)?;
        let lossless = self.plain_q
            && (self.quantizers.iter()).all(|more| (self.base_q + more.unwrap_or(0)).clamp(0, 255) == 0);
        if !(lossless || self.intrabc) {
            self.read_loop_filter(b)?;
            if self.seq.cdef {
                self.read_cdef(b)?;
            }
        }
        let all_lossless = lossless && self.width == self.upscaled_width;
        if !(all_lossless || self.intrabc) && self.seq.restoration {
            self.read_restoration(b)?;
        }
        if !lossless {
            b.skip(1)?; // tx_mode_select
        }
        let select = !self.start.intra && b.bit()?;
        if select && self.seq.order_bits > 0 && self.has_skip_mode(order?) {
            b.skip(1)?; // skip_mode_present
        }
        if !(self.start.intra || self.start.resilient) && self.seq.warped_motion {
            b.skip(1)?; // allow_warped_motion
        }
        b.skip(1)?; // reduced_tx_set
        if !self.start.intra {
            self.read_global_motion(b)?;
        }
        if self.seq.film_grain && (self.start.shown || self.start.showable) {
            self.read_film_grain(b)?;
        }
        tiles.header = b.position().div_ceil(8);
        Some(tiles)
    }

    /// `tile_info()` (§5.9.15).
    fn read_tiles(&self, b: &mut BitReader<'_>) -> Option<Tiles> {
        let shift = if self.seq.large_blocks { 5 } else { 4 };
        let blocks = |pixels: u32| (2 * pixels.div_ceil(8)).div_ceil(1 << shift);
        let (columns, rows) = (blocks(self.width), blocks(self.height));
        let widest = MOST_TILE_WIDTH >> (shift + 2);
        let largest = MOST_TILE_AREA >> (2 * (shift + 2));
        let least_columns = log2(widest, columns);
        let least = least_columns.max(log2(largest, rows * columns));
        let (column_bits, row_bits, tile_columns, tile_rows);
        if b.bit()? {
            let mut uniform = |from: u32, count: u32| -> Option<(u32, u32)> {
                let mut bits = from;
                while bits < log2(1, count.min(MOST_TILES)) && b.bit()? {
                    bits += 1;
                }
                let size = (count + (1 << bits) - 1) >> bits;
                Some((bits, count.div_ceil(size.max(1))))
            };
            (column_bits, tile_columns) = uniform(least_columns, columns)?;
            (row_bits, tile_rows) = uniform(least.saturating_sub(column_bits), rows)?;
        } else {
            let (count, wide) = sizes(b, columns, widest)?;
            (column_bits, tile_columns) = (log2(1, count), count);
            let area = match least {
                0 => rows * columns,
                least => (rows * columns) >> (least + 1),
            };
            let (count, _) = sizes(b, rows, (area / wide.max(1)).max(1))?;
            (row_bits, tile_rows) = (log2(1, count), count);
        }
        let bits = column_bits + row_bits;
        let mut size_bytes = 1;
        if bits > 0 {
            b.skip(bits)?; // context_update_tile_id
            size_bytes = b.bits(2)? as usize + 1;
        }
        let sound = (1..=MOST_TILES).contains(&tile_columns) && (1..=MOST_TILES).contains(&tile_rows);
        sound.then_some(Tiles {
            header: 0,
            columns: tile_columns,
            rows: tile_rows,
            bits,
            size_bytes,
        })
    }

    /// `quantization_params()` (§5.9.12).
    fn read_quantization(&mut self, b: &mut BitReader<'_>) -> Option<()> {
        self.base_q = b.bits(8)? as i32;
        let separate = self.seq.separate_uv_delta_q;
        let mut deltas = 1;
        let mut plain = delta_q(b)? == 0;
        if !self.seq.monochrome {
            deltas = if separate && b.bit()? { 4 } else { 2 };
        }
        for _ in 0..if self.seq.monochrome { 0 } else { deltas } {
            plain &= delta_q(b)? == 0;
        }
        self.plain_q = plain;
        if b.bit()? {
            b.skip(if separate { 12 } else { 8 })?; // qm_y, qm_u, qm_v
        }
        Some(())
    }

    /// `segmentation_params()` (§5.9.14).
    fn read_segmentation(&mut self, b: &mut BitReader<'_>, before: Option<[Option<i32>; 8]>) -> Option<()> {
        // the bits of each feature's value, its sign aside, and whether it has one
        const FEATURES: [(u32, bool); 8] = [
            (8, true),
            (6, true),
            (6, true),
            (6, true),
            (6, true),
            (3, false),
            (0, false),
            (0, false),
        ];
        if !b.bit()? {
            return Some(());
        }
        if let Some(before) = before {
            if b.bit()? {
                b.skip(1)?; // segmentation_temporal_update
            }
            if !b.bit()? {
                self.quantizers = before;
                return Some(());
            }
        }
        for quantizer in &mut self.quantizers {
            for (at, (bits, signed)) in FEATURES.into_iter().enumerate() {
                if !b.bit()? {
                    continue;
                }
                match at {
                    0 => *quantizer = Some(signed_bits(b, bits + 1)?.clamp(-255, 255)),
                    _ => b.skip(bits + u32::from(signed))?,
                }
            }
        }
        Some(())
    }

    /// `delta_q_params()` and `delta_lf_params()` (§5.9.17, §5.9.18).
    fn read_deltas(&self, b: &mut BitReader<'_>) -> Option<()> {
        if self.base_q > 0 && b.bit()? {
            b.skip(2)?; // delta_q_res
            if !self.intrabc && b.bit()? {
                b.skip(3)?; // delta_lf_res, delta_lf_multi
            }
        }
        Some(())
    }

    /// `loop_filter_params()` (§5.9.11).
    fn read_loop_filter(&self, b: &mut BitReader<'_>) -> Option<()> {
        let levels = b.bits(6)? | b.bits(6)?;
        if !self.seq.monochrome && levels != 0 {
            b.skip(12)?;
        }
        b.skip(3)?; // loop_filter_sharpness
        if b.bit()? && b.bit()? {
            for _ in 0..8 + 2 {
                if b.bit()? {
                    b.skip(7)?;
                }
            }
        }
        Some(())
    }

    /// `cdef_params()` (§5.9.19).
    fn read_cdef(&self, b: &mut BitReader<'_>) -> Option<()> {
        b.skip(2)?; // cdef_damping_minus_3
        let count = 1 << b.bits(2)?;
        b.skip(count * if self.seq.monochrome { 6 } else { 12 })
    }

    /// `lr_params()` (§5.9.20).
    fn read_restoration(&self, b: &mut BitReader<'_>) -> Option<()> {
        let luma = b.bits(2)? != 0;
        let mut chroma = false;
        if !self.seq.monochrome {
            for _ in 0..2 {
                chroma |= b.bits(2)? != 0;
            }
        }
        if !(luma || chroma) {
            return Some(());
        }
        if b.bit()? && !self.seq.large_blocks {
            b.skip(1)?; // lr_unit_extra_shift
        }
        if chroma && self.seq.subsampling_x && self.seq.subsampling_y {
            b.skip(1)?; // lr_uv_shift
        }
        Some(())
    }

    /// `skipModeAllowed` (§5.9.22): whether there is a reference that is shown before this frame, and another, later or before that.
    fn has_skip_mode(&self, order: &[u32]) -> bool {
        let distance = |a: u32, b: u32| relative(self.seq.order_bits, a, b);
        let now = self.start.order_hint;
        let earlier = order.iter().copied().filter(|hint| distance(*hint, now) < 0);
        let nearest = earlier.reduce(|best, hint| if distance(hint, best) > 0 { hint } else { best });
        nearest.is_some_and(|nearest| {
            order
                .iter()
                .any(|hint| distance(*hint, now) > 0 || distance(*hint, nearest) < 0)
        })
    }

    /// `global_motion_params()` (§5.9.24). How many bits a parameter has does not depend on the frames before.
    fn read_global_motion(&self, b: &mut BitReader<'_>) -> Option<()> {
        for _ in 0..7 {
            if !b.bit()? {
                continue;
            }
            let rotates = b.bit()?;
            let moves = !rotates && b.bit()?;
            let shaped = match (rotates, moves) {
                (true, _) => 2,
                (false, true) => 0,
                (false, false) => 4,
            };
            for _ in 0..shaped {
                subexp(b, 12)?;
            }
            let bits = match moves {
                true => 8 + u32::from(self.precise_vectors),
                false => 12,
            };
            subexp(b, bits)?;
            subexp(b, bits)?;
        }
        Some(())
    }

    /// `film_grain_params()` (§5.9.30).
    fn read_film_grain(&self, b: &mut BitReader<'_>) -> Option<()> {
        if !b.bit()? {
            return Some(());
        }
        b.skip(16)?; // grain_seed
        if self.start.kind == INTER && !b.bit()? {
            return b.skip(3); // film_grain_params_ref_idx
        }
        let luma = b.bits(4)?;
        b.skip(luma * 16)?;
        let from_luma = !self.seq.monochrome && b.bit()?;
        let (mut blue, mut red) = (0, 0);
        let halved = self.seq.subsampling_x && self.seq.subsampling_y;
        if !(self.seq.monochrome || from_luma || halved && luma == 0) {
            blue = b.bits(4)?;
            b.skip(blue * 16)?;
            red = b.bits(4)?;
            b.skip(red * 16)?;
        }
        b.skip(2)?; // grain_scaling_minus_8
        let lag = b.bits(2)?;
        let places = 2 * lag * (lag + 1);
        let with_luma = places + u32::from(luma > 0);
        b.skip(if luma > 0 { places * 8 } else { 0 })?;
        for points in [blue, red] {
            if from_luma || points > 0 {
                b.skip(with_luma * 8)?;
            }
        }
        b.skip(4)?; // ar_coeff_shift_minus_6, grain_scale_shift
        for points in [blue, red] {
            b.skip(if points > 0 { 25 } else { 0 })?;
        }
        b.skip(2) // overlap_flag, clip_to_restricted_range
    }
}

/// `read_delta_q()` (§5.9.13).
fn delta_q(b: &mut BitReader<'_>) -> Option<i32> {
    if b.bit()? { signed_bits(b, 7) } else { Some(0) }
}

/// `su(n)` (§4.10.6).
fn signed_bits(b: &mut BitReader<'_>, bits: u32) -> Option<i32> {
    let value = b.bits(bits)? as i32;
    let sign = 1 << (bits - 1);
    Some(if value & sign != 0 {
        value - 2 * sign
    } else {
        value
    })
}

/// `ns(n)` (§4.10.7).
fn below(b: &mut BitReader<'_>, count: u32) -> Option<u32> {
    let bits = u32::BITS - count.leading_zeros();
    let rest = (1 << bits) - count;
    let value = b.bits(bits - 1)?;
    Some(match value < rest {
        true => value,
        false => (value << 1) - rest + b.bits(1)?,
    })
}

/// `decode_subexp()` (§5.9.28) of a parameter that lies within `-2^bits` and `2^bits`.
fn subexp(b: &mut BitReader<'_>, bits: u32) -> Option<()> {
    let symbols = (2 << bits) + 1;
    let (mut more, mut least) = (0, 0);
    loop {
        let width = if more > 0 { 3 + more - 1 } else { 3 };
        let step = 1 << width;
        if symbols <= least + 3 * step {
            below(b, symbols - least)?;
            return Some(());
        }
        if !b.bit()? {
            return b.skip(width);
        }
        more += 1;
        least += step;
    }
}

/// Widths or heights of tiles, in superblocks, that make up `count`: how many, and the widest.
fn sizes(b: &mut BitReader<'_>, count: u32, most: u32) -> Option<(u32, u32)> {
    let (mut at, mut made, mut widest) = (0, 0, 0);
    while at < count {
        let size = below(b, (count - at).min(most))? + 1;
        widest = widest.max(size);
        at += size;
        made += 1;
        if made > MOST_TILES {
            return None;
        }
    }
    Some((made, widest))
}

/// `tile_log2()` (§5.9.16).
fn log2(size: u32, target: u32) -> u32 {
    let mut bits = 0;
    while size << bits < target {
        bits += 1;
    }
    bits
}

/// `MAX_TILE_WIDTH`, `MAX_TILE_AREA`, `MAX_TILE_COLS` and `MAX_TILE_ROWS` (§3).
const MOST_TILE_WIDTH: u32 = 4_096;
const MOST_TILE_AREA: u32 = 4_096 * 2_304;
const MOST_TILES: u32 = 64;
