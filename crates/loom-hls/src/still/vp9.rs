//! Repeats of VP9 frames (VP9 Bitstream & Decoding Process Specification): a frame header of one byte that shows what a slot holds
//! (§6.2, `show_existing_frame`).

use bytes::Bytes;

use crate::still::bits::BitReader;

/// A stream's state, as its frames pass.
#[derive(Debug, Default)]
pub(super) struct Vp9 {
    shown: Option<Shown>,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    profile: u32,
    /// The slot that holds the last frame shown; `None` where it was not kept.
    slot: Option<u32>,
}

impl Vp9 {
    /// Takes note of a frame or a superframe.
    pub(super) fn take(&mut self, data: &[u8]) {
        // of a superframe the last frame is shown (Annex B)
        self.shown = last_frame(data).and_then(read);
    }

    /// A frame that shows the last one again.
    pub(super) fn repeat(&self) -> Result<Bytes, &'static str> {
        let shown = self.shown.ok_or("its headers cannot be read")?;
        let slot = shown.slot.ok_or("the last picture is no reference")?;
        let profile = (shown.profile & 1) << 1 | shown.profile >> 1;
        Ok(match shown.profile {
            3 => {
                // marker 10, profile 11, reserved 0, show_existing_frame 1, the slot's three bits
                let bits = 0b1_0110_1000 | slot;
                Bytes::copy_from_slice(&[(bits >> 1) as u8, ((bits & 1) << 7) as u8])
            }
            _ => Bytes::copy_from_slice(&[(0b1000_1000 | profile << 4 | slot) as u8]),
        })
    }
}

/// The last frame of a superframe, or the frame itself (Annex B).
fn last_frame(data: &[u8]) -> Option<&[u8]> {
    let marker = *data.last()?;
    if marker & 0xe0 != 0xc0 {
        return Some(data);
    }
    let frames = usize::from(marker & 7) + 1;
    let width = usize::from(marker >> 3 & 3) + 1;
    let index = 2 + frames * width;
    let from = data.len().checked_sub(index)?;
    if data[from] != marker {
        return Some(data);
    }
    let sizes = data[from + 1..data.len() - 1].chunks(width);
    let size = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |size, byte| size << 8 | usize::from(*byte))
    };
    let before: usize = sizes.clone().take(frames - 1).map(size).sum();
    data.get(before..from)
}

/// `uncompressed_header()` (§6.2), as far as `refresh_frame_flags`.
fn read(frame: &[u8]) -> Option<Shown> {
    let mut b = BitReader::new(frame);
    if b.bits(2)? != 2 {
        return None;
    }
    let profile = b.bits(1)? | b.bits(1)? << 1;
    if profile == 3 {
        b.bit()?;
    }
    if b.bit()? {
        let slot = Some(b.bits(3)?);
        return Some(Shown { profile, slot });
    }
    let inter = b.bit()?;
    let shown = b.bit()?;
    let resilient = b.bit()?;
    if !shown {
        return None;
    }
    if !inter {
        return Some(Shown {
            profile,
            slot: Some(0),
        }); // a key frame fills every slot
    }
    // a frame that is shown is not intra-only
    if !resilient {
        b.bits(2)?;
    }
    let refreshed = b.bits(8)? as u8;
    Some(Shown {
        profile,
        slot: (refreshed != 0).then(|| refreshed.trailing_zeros()),
    })
}
