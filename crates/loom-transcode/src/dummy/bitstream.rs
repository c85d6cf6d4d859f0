//! The plainest pictures and sound that a decoder takes: grey, and silence. Written bit by bit.

use bytes::{Bytes, BytesMut};
use loom_core::codec::h264;
use loom_core::{CodecError, VideoParameters};

/// Grey H.264 Baseline of any size: IDR pictures that predict from nothing, and others that skip every macroblock.
#[derive(Debug)]
pub(super) struct GreyVideo {
    width: u32,
    height: u32,
    /// `frame_num` of the next picture.
    frame: u32,
    idr: u32,
}

impl GreyVideo {
    pub(super) fn new(width: u32, height: u32) -> Self {
        Self {
            width: width.max(2),
            height: height.max(2),
            frame: 0,
            idr: 0,
        }
    }

    pub(super) fn parameters(&self) -> Result<VideoParameters, CodecError> {
        h264::parameters(&self.sps(), &[Bytes::from(pps())])
    }

    /// The next picture, as a sample of ISO BMFF.
    pub(super) fn next(&mut self, key: bool) -> Bytes {
        let (columns, rows) = self.macroblocks();
        let mut bits = Bits::default();
        if key {
            self.frame = 0;
        }
        // slice_header, ISO/IEC 14496-10 §7.3.3
        bits.ue(0);
        bits.ue(if key { 7 } else { 5 });
        bits.ue(0);
        bits.u(self.frame % 16, 4);
        if key {
            bits.ue(self.idr % 2);
            self.idr += 1;
            bits.u(0, 2);
        } else {
            bits.u(0, 3);
        }
        bits.ue(0);
        bits.ue(1);
        if key {
            for _ in 0..columns * rows {
                // macroblock_layer §7.3.5: I_16x16 with DC prediction and no coefficients
                bits.ue(3);
                bits.ue(0);
                bits.ue(0);
                bits.u(1, 1);
            }
        } else {
            bits.ue(columns * rows);
        }
        self.frame += 1;
        let nal = bits.into_nal(if key { 0x65 } else { 0x41 });
        let mut sample = BytesMut::with_capacity(nal.len() + 4);
        sample.extend_from_slice(&(nal.len() as u32).to_be_bytes());
        sample.extend_from_slice(&nal);
        sample.freeze()
    }

    fn macroblocks(&self) -> (u32, u32) {
        (self.width.div_ceil(16), self.height.div_ceil(16))
    }

    /// seq_parameter_set_data, §7.3.2.1.1
    fn sps(&self) -> Vec<u8> {
        let (columns, rows) = self.macroblocks();
        let level = match columns * rows {
            0..=1620 => 30,
            1621..=8192 => 40,
            _ => 52,
        };
        let mut bits = Bits::default();
        bits.u(66, 8);
        bits.u(0b1100_0000, 8);
        bits.u(level, 8);
        bits.ue(0);
        bits.ue(0);
        bits.ue(2);
        bits.ue(1);
        bits.u(0, 1);
        bits.ue(columns - 1);
        bits.ue(rows - 1);
        bits.u(0b11, 2);
        let crop = ((columns * 16 - self.width) / 2, (rows * 16 - self.height) / 2);
        if crop == (0, 0) {
            bits.u(0, 1);
        } else {
            bits.u(1, 1);
            for side in [0, crop.0, 0, crop.1] {
                bits.ue(side);
            }
        }
        bits.u(0, 1);
        bits.into_nal(0x67)
    }
}

/// pic_parameter_set_rbsp, §7.3.2.2
fn pps() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.ue(0);
    bits.ue(0);
    bits.u(0, 2);
    bits.ue(0);
    bits.ue(0);
    bits.ue(0);
    bits.u(0, 3);
    for _ in 0..3 {
        bits.ue(0);
    }
    bits.u(0b100, 3);
    bits.into_nal(0x68)
}

/// The AudioSpecificConfig of AAC-LC at 48 kHz (ISO/IEC 14496-3 §1.6.2.1).
pub(super) fn aac_config(channels: u16) -> [u8; 2] {
    [0x11, 0x80 | ((channels.clamp(1, 2) as u8) << 3)]
}

/// One frame of silence: no scale factor band is coded (ISO/IEC 14496-3 §4.4.2).
pub(super) fn silent_aac(channels: u16) -> Bytes {
    let mut bits = Bits::default();
    if channels < 2 {
        // single_channel_element: tag, gain, ics_info, no pulse, TNS or gain control
        bits.u(0, 3 + 4);
        bits.u(0, 8);
        bits.u(0, 11);
        bits.u(0, 3);
    } else {
        // channel_pair_element with one window for both
        bits.u(1, 3);
        bits.u(0, 4);
        bits.u(1, 1);
        bits.u(0, 11);
        bits.u(0, 2);
        for _ in 0..2 {
            bits.u(0, 8);
            bits.u(0, 3);
        }
    }
    bits.u(7, 3);
    bits.align(0);
    Bytes::from(bits.bytes)
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn u(&mut self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= (((value >> bit) & 1) as u8) << (7 - self.used);
            }
            self.used = (self.used + 1) % 8;
        }
    }

    /// Exp-Golomb, §9.1.
    fn ue(&mut self, value: u32) {
        let len = 32 - (value + 1).leading_zeros();
        self.u(0, len - 1);
        self.u(value + 1, len);
    }

    fn align(&mut self, bit: u32) {
        while self.used != 0 {
            self.u(bit, 1);
        }
    }

    /// Closes the RBSP and keeps start codes out of it (§7.4.1).
    fn into_nal(mut self, header: u8) -> Vec<u8> {
        self.u(1, 1);
        self.align(0);
        let mut nal = vec![header];
        let mut zeros = 0;
        for byte in self.bytes {
            if zeros >= 2 && byte <= 3 {
                nal.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            nal.push(byte);
        }
        nal
    }
}
