use crate::bits::BitReader;
use crate::codec::Colour;

/// `SELECT_SCREEN_CONTENT_TOOLS`, `SELECT_INTEGER_MV`: each frame says.
pub(super) const CHOSEN: u32 = 2;

/// What all frames have in common (§5.5.1).
#[derive(Debug, Clone)]
pub(super) struct SequenceHeader {
    pub(super) profile: u8,
    pub(super) level: u8,
    pub(super) tier: u8,
    pub(super) bit_depth: u8,
    pub(super) monochrome: bool,
    pub(super) subsampling_x: bool,
    pub(super) subsampling_y: bool,
    pub(super) chroma_sample_position: u8,
    pub(super) separate_uv_delta_q: bool,
    pub(super) colour: Option<Colour>,
    pub(super) width: u32,
    pub(super) height: u32,
    /// How many bits a frame's own width and height have.
    pub(super) width_bits: u32,
    pub(super) height_bits: u32,
    /// `reduced_still_picture_header`.
    pub(super) reduced: bool,
    /// `decoder_model_info_present_flag`: frames may have times of their own.
    pub(super) model: Option<DecoderModel>,
    /// `frame_id_numbers_present_flag`.
    pub(super) numbers: Option<FrameNumbers>,
    pub(super) large_blocks: bool,
    pub(super) warped_motion: bool,
    pub(super) ref_frame_mvs: bool,
    /// `seq_force_screen_content_tools`, `seq_force_integer_mv`.
    pub(super) screen_content: u32,
    pub(super) integer_vectors: u32,
    /// `OrderHintBits`; 0 without `enable_order_hint`.
    pub(super) order_bits: u32,
    pub(super) superres: bool,
    pub(super) cdef: bool,
    pub(super) restoration: bool,
    pub(super) film_grain: bool,
}

/// `decoder_model_info()` (§5.5.4), and what operating points say of it.
#[derive(Debug, Clone)]
pub(super) struct DecoderModel {
    /// `equal_picture_interval`.
    pub(super) even: bool,
    /// How many bits times have.
    pub(super) removal_bits: u32,
    pub(super) presentation_bits: u32,
    /// `operating_point_idc` of those that have a model.
    pub(super) points: Vec<u32>,
}

/// How many bits the numbers of frames have (§5.9.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameNumbers {
    pub(super) bits: u32,
    pub(super) delta_bits: u32,
}

impl SequenceHeader {
    /// `sequence_header_obu()`, §5.5.1.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let mut b = BitReader::new(payload);
        let profile = b.bits(3)? as u8;
        b.bit()?; // still_picture
        let reduced = b.bit()?;
        let (mut level, mut tier) = (0, 0);
        let mut model = None;
        if reduced {
            level = b.bits(5)? as u8;
        } else {
            let mut delay_bits = 0;
            if b.bit()? {
                b.skip(64)?; // num_units_in_display_tick, time_scale
                let even = b.bit()?;
                if even {
                    b.uvlc()?;
                }
                if b.bit()? {
                    delay_bits = b.bits(5)? + 1;
                    b.skip(32)?; // num_units_in_decoding_tick
                    model = Some(DecoderModel {
                        even,
                        removal_bits: b.bits(5)? + 1,
                        presentation_bits: b.bits(5)? + 1,
                        points: Vec::new(),
                    });
                }
            }
            let initial_display_delay = b.bit()?;
            for i in 0..=b.bits(5)? {
                let idc = b.bits(12)?;
                let this_level = b.bits(5)? as u8;
                let this_tier = if this_level > 7 { b.bits(1)? as u8 } else { 0 };
                if i == 0 {
                    (level, tier) = (this_level, this_tier);
                }
                if let Some(model) = &mut model
                    && b.bit()?
                {
                    model.points.push(idc);
                    b.skip(2 * delay_bits + 1)?;
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
        let mut numbers = None;
        if !reduced && b.bit()? {
            let delta_bits = b.bits(4)? + 2;
            numbers = Some(FrameNumbers {
                bits: b.bits(3)? + delta_bits + 1,
                delta_bits,
            });
        }
        let large_blocks = b.bit()?;
        b.skip(2)?; // enable_filter_intra, enable_intra_edge_filter
        let mut seq = Self {
            profile,
            level,
            tier,
            bit_depth: 8,
            monochrome: false,
            subsampling_x: true,
            subsampling_y: true,
            chroma_sample_position: 0,
            separate_uv_delta_q: false,
            colour: None,
            width,
            height,
            width_bits,
            height_bits,
            reduced,
            model,
            numbers,
            large_blocks,
            warped_motion: false,
            ref_frame_mvs: false,
            screen_content: CHOSEN,
            integer_vectors: CHOSEN,
            order_bits: 0,
            superres: false,
            cdef: false,
            restoration: false,
            film_grain: false,
        };
        if !reduced {
            seq.read_tools(&mut b)?;
        }
        seq.superres = b.bit()?;
        seq.cdef = b.bit()?;
        seq.restoration = b.bit()?;
        seq.read_color(&mut b)?;
        // some writers of configuration records leave off what nobody reads there
        seq.film_grain = b.bit().unwrap_or(false);
        Some(seq)
    }

    fn read_tools(&mut self, b: &mut BitReader<'_>) -> Option<()> {
        b.skip(2)?; // enable_interintra_compound, enable_masked_compound
        self.warped_motion = b.bit()?;
        b.skip(1)?; // enable_dual_filter
        let order_hint = b.bit()?;
        if order_hint {
            b.skip(1)?; // enable_jnt_comp
            self.ref_frame_mvs = b.bit()?;
        }
        self.screen_content = if b.bit()? { CHOSEN } else { b.bits(1)? };
        if self.screen_content > 0 && !b.bit()? {
            self.integer_vectors = b.bits(1)?;
        }
        if order_hint {
            self.order_bits = b.bits(3)? + 1;
        }
        Some(())
    }

    /// `color_config()`, §5.5.2.
    fn read_color(&mut self, b: &mut BitReader<'_>) -> Option<()> {
        let high = b.bit()?;
        self.bit_depth = match (self.profile, high) {
            (2, true) if b.bit()? => 12,
            (_, true) => 10,
            _ => 8,
        };
        self.monochrome = self.profile != 1 && b.bit()?;
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
        if self.monochrome {
            self.colour = said(b.bit()?);
            return Some(());
        }
        if colour == (1, 13, 0) {
            self.colour = said(true);
            (self.subsampling_x, self.subsampling_y) = (false, false);
        } else {
            self.colour = said(b.bit()?);
            (self.subsampling_x, self.subsampling_y) = match self.profile {
                0 => (true, true),
                1 => (false, false),
                _ if self.bit_depth == 12 => {
                    let x = b.bit()?;
                    (x, x && b.bit()?)
                }
                _ => (true, false),
            };
            if self.subsampling_x && self.subsampling_y {
                self.chroma_sample_position = b.bits(2)? as u8;
            }
        }
        self.separate_uv_delta_q = b.bit().unwrap_or(false);
        Some(())
    }
}
