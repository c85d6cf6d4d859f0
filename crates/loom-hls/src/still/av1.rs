//! Repeats of AV1 frames (AV1 Bitstream & Decoding Process Specification §5.9.2): a frame header of one byte that shows what a slot
//! holds. A key frame cannot be shown again so: it counts as not showable, and would start the stream anew (§6.8.2, §7.21).

use bytes::Bytes;
use loom_core::VideoParameters;
use loom_core::codec::av1::{self, FrameHeader, FrameHeaders, obu_type};

/// A stream's state, as its frames pass.
#[derive(Debug)]
pub(super) struct Av1 {
    headers: FrameHeaders,
    /// Whether a slot holds a key frame.
    keys: [bool; 8],
    /// The slot that holds the last frame shown, or why there is none.
    shown: Result<u8, &'static str>,
}

impl Av1 {
    pub(super) fn new(video: &VideoParameters) -> Result<Self, &'static str> {
        let headers = FrameHeaders::new(&video.config).filter(FrameHeaders::is_plain);
        Ok(Self {
            headers: headers.ok_or("its frames have numbers or times of their own")?,
            keys: [true; 8],
            shown: Err("nothing was shown"),
        })
    }

    /// Takes note of a temporal unit.
    pub(super) fn take(&mut self, sample: &[u8]) {
        const UNREADABLE: &str = "its headers cannot be read";
        let Ok(obus) = av1::obus(sample) else {
            self.shown = Err(UNREADABLE);
            return;
        };
        for obu in obus {
            if !matches!(obu.obu_type, obu_type::FRAME | obu_type::FRAME_HEADER) {
                continue;
            }
            match self.headers.read(&obu) {
                None => self.shown = Err(UNREADABLE),
                Some(FrameHeader::Existing(slot)) => {
                    let key = self.keys[usize::from(slot & 7)];
                    if key {
                        self.keys = [true; 8];
                    }
                    self.shown = if key { Err(KEY) } else { Ok(slot) };
                }
                Some(FrameHeader::Frame {
                    key,
                    shown,
                    refreshed,
                    ..
                }) => {
                    for (slot, held) in self.keys.iter_mut().enumerate() {
                        if refreshed >> slot & 1 == 1 {
                            *held = key;
                        }
                    }
                    if shown {
                        self.shown = match refreshed {
                            _ if key => Err(KEY),
                            0 => Err("the last picture is no reference"),
                            slots => Ok(slots.trailing_zeros() as u8),
                        };
                    }
                }
            }
        }
    }

    /// A temporal unit that shows the last frame again.
    pub(super) fn repeat(&self) -> Result<Bytes, &'static str> {
        let slot = self.shown?;
        // a FRAME_HEADER OBU with a size (§5.3): show_existing_frame, the slot, and trailing_bits()
        let obu = [obu_type::FRAME_HEADER << 3 | 2, 1, 0b1000_1000 | slot << 4];
        Ok(Bytes::copy_from_slice(&obu))
    }
}

const KEY: &str = "the last picture is a key frame";
