//! Repeats of VP9 frames (VP9 Bitstream & Decoding Process Specification): a frame header of one byte that shows what a slot holds
//! (§6.2, `show_existing_frame`).

use bytes::Bytes;
use loom_core::codec::vp9::{Content, FrameHeaders, frames};

/// A stream's state, as its frames pass.
#[derive(Debug, Default)]
pub(super) struct Vp9 {
    headers: FrameHeaders,
    shown: Option<Shown>,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    profile: u8,
    /// The slot that holds the last frame shown; `None` where it was not kept.
    slot: Option<u8>,
}

impl Vp9 {
    /// Takes note of a frame or a superframe.
    pub(super) fn take(&mut self, data: &[u8]) {
        self.shown = None;
        for frame in frames(data).unwrap_or_default() {
            let header = self.headers.read(&data[frame]);
            // of a superframe the last frame is shown (Annex B)
            self.shown = header.and_then(|header| {
                let slot = match header.content {
                    Content::Existing(slot) => Some(slot),
                    Content::Frame { shown: false, .. } => return None,
                    Content::Frame { refreshed, .. } => {
                        (refreshed != 0).then(|| refreshed.trailing_zeros() as u8)
                    }
                };
                Some(Shown {
                    profile: header.profile,
                    slot,
                })
            });
        }
    }

    /// A frame that shows the last one again.
    pub(super) fn repeat(&self) -> Result<Bytes, &'static str> {
        let shown = self.shown.ok_or("its headers cannot be read")?;
        let slot = shown.slot.ok_or("the last picture is no reference")?;
        let profile = (shown.profile & 1) << 1 | shown.profile >> 1;
        Ok(match shown.profile {
            3 => {
                // marker 10, profile 11, reserved 0, show_existing_frame 1, the slot's three bits
                let bits = 0b1_0110_1000 | u16::from(slot);
                Bytes::copy_from_slice(&[(bits >> 1) as u8, ((bits & 1) << 7) as u8])
            }
            _ => Bytes::copy_from_slice(&[0b1000_1000 | profile << 4 | slot]),
        })
    }
}
