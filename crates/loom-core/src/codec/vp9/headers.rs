use std::ops::Range;

use crate::bits::BitReader;

/// What a VP9 frame's uncompressed header says of which frames are kept (VP9 specification §6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Profile 0 to 3.
    pub profile: u8,
    /// What is shown and kept.
    pub content: Content,
}

/// What follows a VP9 frame's profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// `show_existing_frame`: what this slot holds is shown.
    Existing(u8),
    /// A frame of its own.
    Frame {
        /// Whether it is shown.
        shown: bool,
        /// `refresh_frame_flags`: the slots that hold it afterwards, the lowest bit for slot 0.
        refreshed: u8,
        /// How many bytes the uncompressed header has; `None` where it does not parse to its end.
        length: Option<usize>,
    },
}

/// Reads the uncompressed headers of one stream's frames, as they pass: a frame may take its size from one that it refers to.
#[derive(Debug, Clone, Default)]
pub struct FrameHeaders {
    /// Pixels across of what each slot holds.
    widths: [Option<u32>; 8],
}

impl FrameHeaders {
    /// Reads the next frame's header; `None` where it is cut short before `refresh_frame_flags`.
    pub fn read(&mut self, frame: &[u8]) -> Option<Header> {
        let mut b = BitReader::new(frame);
        let start = Start::read(&mut b)?;
        let profile = start.profile;
        let Some(kind) = start.own else {
            let content = Content::Existing(b.bits(3)? as u8);
            return Some(Header { profile, content });
        };
        let intra = !kind.inter || !kind.shown && b.bit()?;
        if kind.inter && !kind.resilient {
            b.skip(2)?; // reset_frame_context
        }
        if intra {
            b.skip(24)?; // frame_sync_code
        }
        let refreshed = match (kind.inter, intra) {
            (false, _) => 0xff,
            (true, true) => {
                if profile > 0 {
                    Format::read(&mut b, profile)?;
                }
                b.bits(8)? as u8
            }
            (true, false) => b.bits(8)? as u8,
        };
        let rest = self.rest(&mut b, profile, kind, intra);
        if let Some((width, _)) = rest {
            for (slot, held) in self.widths.iter_mut().enumerate() {
                if refreshed >> slot & 1 == 1 {
                    *held = Some(width);
                }
            }
        }
        let content = Content::Frame {
            shown: kind.shown,
            refreshed,
            length: rest.map(|(_, length)| length),
        };
        Some(Header { profile, content })
    }

    /// What stands behind `refresh_frame_flags`; gives the frame's width and how many bytes the header has.
    fn rest(&self, b: &mut BitReader<'_>, profile: u8, kind: Kind, intra: bool) -> Option<(u32, usize)> {
        if !kind.inter {
            Format::read(b, profile)?;
        }
        let width = if intra {
            let (width, _) = size(b)?;
            render_size(b)?;
            width
        } else {
            let width = self.references(b)?;
            b.skip(1)?; // allow_high_precision_mv
            if !b.bit()? {
                b.skip(2)?; // raw_interpolation_filter
            }
            width
        };
        if !kind.resilient {
            b.skip(2)?; // refresh_frame_context, frame_parallel_decoding_mode
        }
        b.skip(2)?; // frame_context_idx
        loop_filter(b)?;
        quantization(b)?;
        segmentation(b)?;
        tiles(b, width)?;
        b.skip(16)?; // header_size_in_bytes
        Some((width, b.position().div_ceil(8)))
    }

    /// `ref_frame_idx` and `frame_size_with_refs()` (§6.2.5); gives the width.
    fn references(&self, b: &mut BitReader<'_>) -> Option<u32> {
        let mut slots = [0; 3];
        for slot in &mut slots {
            *slot = b.bits(3)? as usize;
            b.skip(1)?;
        }
        let mut width = None;
        for slot in slots {
            if b.bit()? {
                width = Some(self.widths[slot]?);
                break;
            }
        }
        let width = match width {
            Some(width) => width,
            None => size(b)?.0,
        };
        render_size(b)?;
        Some(width)
    }
}

/// Where the frames of a superframe lie, or the one frame that it is (Annex B); `None` where its index does not fit.
pub fn frames(data: &[u8]) -> Option<Vec<Range<usize>>> {
    let marker = *data.last()?;
    let one = || Some(std::iter::once(0..data.len()).collect());
    if marker & 0xe0 != 0xc0 {
        return one();
    }
    let count = usize::from(marker & 7) + 1;
    let width = usize::from(marker >> 3 & 3) + 1;
    let index = 2 + count * width;
    let from = data.len().checked_sub(index)?;
    if data[from] != marker {
        return one();
    }
    let sizes = data[from + 1..data.len() - 1].chunks(width);
    let mut frames = Vec::with_capacity(count);
    let mut at = 0_usize;
    for size in sizes {
        let bytes = size.iter().rev();
        let size = bytes.fold(0, |size, byte| size << 8 | usize::from(*byte));
        frames.push(at..at.checked_add(size).filter(|end| *end <= from)?);
        at += size;
    }
    Some(frames)
}

/// What every uncompressed header begins with, up to `error_resilient_mode`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) profile: u8,
    /// `None`: `show_existing_frame`.
    pub(super) own: Option<Kind>,
}

/// Of which kind a frame is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// `frame_type`: no key frame.
    pub(super) inter: bool,
    shown: bool,
    resilient: bool,
}

impl Start {
    /// `None` where the data has ended, or where `frame_marker` is not 2.
    pub(super) fn read(b: &mut BitReader<'_>) -> Option<Self> {
        if b.bits(2)? != MARKER {
            return None;
        }
        let profile = (b.bits(1)? | b.bits(1)? << 1) as u8;
        if profile == 3 {
            b.bit()?;
        }
        let own = match b.bit()? {
            true => None,
            false => Some(Kind {
                inter: b.bit()?,
                shown: b.bit()?,
                resilient: b.bit()?,
            }),
        };
        Some(Self { profile, own })
    }
}

/// `frame_marker`.
pub(super) const MARKER: u32 = 2;

/// `color_config()` (§6.2.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    pub(super) bit_depth: u8,
    /// `chromaSubsampling` of `vpcC`.
    pub(super) chroma_subsampling: u8,
    pub(super) full_range: bool,
}

impl Format {
    pub(super) fn read(b: &mut BitReader<'_>, profile: u8) -> Option<Self> {
        const RGB: u32 = 7;
        let bit_depth = match profile >= 2 {
            true if b.bit()? => 12,
            true => 10,
            false => 8,
        };
        let odd = profile & 1 == 1;
        let (mut chroma_subsampling, full_range);
        if b.bits(3)? == RGB {
            full_range = true;
            chroma_subsampling = 3; // RGB is 4:4:4
        } else {
            full_range = b.bit()?;
            chroma_subsampling = 1;
            if odd {
                chroma_subsampling = match (b.bit()?, b.bit()?) {
                    (true, true) => 1,
                    (true, false) => 2,
                    _ => 3,
                };
            }
        }
        if odd {
            b.bit()?; // reserved_zero
        }
        Some(Self {
            bit_depth,
            chroma_subsampling,
            full_range,
        })
    }
}

/// `frame_size()` (§6.2.3): pixels across and down.
pub(super) fn size(b: &mut BitReader<'_>) -> Option<(u32, u32)> {
    Some((b.bits(16)? + 1, b.bits(16)? + 1))
}

fn render_size(b: &mut BitReader<'_>) -> Option<()> {
    if b.bit()? { b.skip(32) } else { Some(()) }
}

/// §6.2.8.
fn loop_filter(b: &mut BitReader<'_>) -> Option<()> {
    b.skip(9)?; // level, sharpness
    if b.bit()? && b.bit()? {
        for _ in 0..6 {
            if b.bit()? {
                b.skip(7)?;
            }
        }
    }
    Some(())
}

/// §6.2.9.
fn quantization(b: &mut BitReader<'_>) -> Option<()> {
    b.skip(8)?;
    for _ in 0..3 {
        if b.bit()? {
            b.skip(5)?;
        }
    }
    Some(())
}

/// §6.2.11.
fn segmentation(b: &mut BitReader<'_>) -> Option<()> {
    if !b.bit()? {
        return Some(());
    }
    if b.bit()? {
        for _ in 0..7 {
            if b.bit()? {
                b.skip(8)?;
            }
        }
        if b.bit()? {
            for _ in 0..3 {
                if b.bit()? {
                    b.skip(8)?;
                }
            }
        }
    }
    if b.bit()? {
        b.skip(1)?;
        for _ in 0..8 {
            // each feature's bits, its sign with them
            for bits in [9, 7, 2, 0] {
                if b.bit()? {
                    b.skip(bits)?;
                }
            }
        }
    }
    Some(())
}

/// `tile_info()` (§6.2.13).
fn tiles(b: &mut BitReader<'_>, width: u32) -> Option<()> {
    let blocks = width.div_ceil(64);
    let mut least = 0;
    while 64 << least < blocks {
        least += 1;
    }
    let mut most = 1;
    while blocks >> most >= 4 {
        most += 1;
    }
    for _ in least..most - 1 {
        if !b.bit()? {
            break;
        }
    }
    if b.bit()? {
        b.skip(1)?;
    }
    Some(())
}
