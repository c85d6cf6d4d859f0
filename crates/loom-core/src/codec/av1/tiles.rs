use std::ops::Range;

use crate::bits::BitReader;

/// How a frame is divided into tiles (§5.9.15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiles {
    /// How many bytes the frame header has: in a `FRAME` OBU tiles follow it.
    pub header: usize,
    pub(super) columns: u32,
    pub(super) rows: u32,
    /// `TileColsLog2` + `TileRowsLog2`.
    pub(super) bits: u32,
    /// `TileSizeBytes`.
    pub(super) size_bytes: usize,
}

impl Tiles {
    /// Where each `decode_tile()` lies in a `tile_group_obu()` (§5.11.1), which a `FRAME` OBU has behind its header; `None` where one
    /// reaches past its end.
    pub fn of_group(&self, group: &[u8]) -> Option<Vec<Range<usize>>> {
        let count = self.columns * self.rows;
        let mut b = BitReader::new(group);
        let (mut first, mut last) = (0, count - 1);
        if count > 1 && b.bit()? {
            (first, last) = (b.bits(self.bits)?, b.bits(self.bits)?);
        }
        if first > last || last >= count {
            return None;
        }
        let mut at = b.position().div_ceil(8);
        let mut found = Vec::with_capacity((last - first + 1) as usize);
        for _ in first..last {
            let size = group.get(at..at.checked_add(self.size_bytes)?)?;
            let size = size
                .iter()
                .rev()
                .fold(0, |size, byte| size << 8 | usize::from(*byte));
            let size = size.checked_add(1)?;
            at += self.size_bytes;
            found.push(at..at.checked_add(size).filter(|end| *end <= group.len())?);
            at += size;
        }
        (at < group.len()).then(|| found.push(at..group.len()))?;
        Some(found)
    }
}
