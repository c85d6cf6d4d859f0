/// Reads bits, most significant first, with the codes of ISO/IEC 14496-10 §9.1. `None` once the data has ended.
#[derive(Debug, Clone)]
pub(crate) struct BitReader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// How many bits have been read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn bit(&mut self) -> Option<bool> {
        let byte = *self.data.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// Up to 32 bits.
    pub(crate) fn bits(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | u32::from(self.bit()?)))
    }

    pub(crate) fn skip(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.bit().map(|_| ()))
    }

    /// `ue(v)`.
    pub(crate) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some(self.bits(zeros)? + ((1u32 << zeros) - 1))
    }

    /// `se(v)`.
    pub(crate) fn se(&mut self) -> Option<i32> {
        let code = i64::from(self.ue()?);
        let value = if code % 2 == 1 {
            (code + 1) / 2
        } else {
            -(code / 2)
        };
        i32::try_from(value).ok()
    }
}

/// Writes bits, most significant first.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    data: Vec<u8>,
    /// Bits of the last byte that are taken; 0 where it is full.
    used: u32,
}

impl BitWriter {
    pub(super) fn bit(&mut self, bit: bool) {
        if self.used == 0 {
            self.data.push(0);
        }
        if let Some(last) = self.data.last_mut() {
            *last |= u8::from(bit) << (7 - self.used);
        }
        self.used = (self.used + 1) % 8;
    }

    /// The lowest `count` bits, at most 32.
    pub(super) fn bits(&mut self, value: u32, count: u32) {
        for at in (0..count).rev() {
            self.bit(value >> at & 1 == 1);
        }
    }

    /// `ue(v)`.
    pub(super) fn ue(&mut self, value: u32) {
        let code = u64::from(value) + 1;
        let length = 64 - code.leading_zeros();
        self.bits(0, length - 1);
        for at in (0..length).rev() {
            self.bit(code >> at & 1 == 1);
        }
    }

    /// `se(v)`.
    pub(super) fn se(&mut self, value: i32) {
        let twice = value.unsigned_abs() * 2;
        self.ue(if value > 0 { twice - 1 } else { twice });
    }

    /// The bits `from..to` of `data`.
    pub(super) fn copy(&mut self, data: &[u8], from: usize, to: usize) {
        for at in from..to {
            self.bit(data[at / 8] >> (7 - at % 8) & 1 == 1);
        }
    }

    pub(super) fn is_aligned(&self) -> bool {
        self.used == 0
    }

    /// `rbsp_trailing_bits()`: a one, then zeros up to a whole byte (ISO/IEC 14496-10 §7.3.2.11).
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bit(true);
        self.data
    }

    /// As it is, the last byte filled with zeros.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.data
    }
}

/// A NAL unit's payload without its emulation prevention bytes (ISO/IEC 14496-10 §7.4.1), as many bytes as asked for and
/// then up to one that is not zero. Gives how many bytes of `nal` that took.
pub(super) fn unescape(nal: &[u8], least: usize) -> (Vec<u8>, usize) {
    let mut out = Vec::with_capacity(least.min(nal.len()) + 8);
    let mut zeros = 0;
    for (at, &byte) in nal.iter().enumerate() {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
        if byte != 0 && out.len() >= least {
            return (out, at + 1);
        }
    }
    (out, nal.len())
}

/// Puts emulation prevention bytes in.
pub(super) fn escape(payload: &[u8], out: &mut Vec<u8>) {
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_as_they_were_written() {
        let mut out = BitWriter::default();
        for value in [0, 1, 2, 7, 8, 65_535, u32::MAX - 1] {
            out.ue(value);
        }
        for value in [0, 1, -1, 26, -26] {
            out.se(value);
        }
        out.bits(0b101, 3);
        let data = out.finish();
        let mut read = BitReader::new(&data);
        for value in [0, 1, 2, 7, 8, 65_535, u32::MAX - 1] {
            assert_eq!(read.ue(), Some(value));
        }
        for value in [0, 1, -1, 26, -26] {
            assert_eq!(read.se(), Some(value));
        }
        assert_eq!(read.bits(3), Some(0b101));
    }

    #[test]
    fn no_start_code_is_left_in_what_is_escaped() {
        let payload = [0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 3, 9, 0, 0, 4];
        let mut out = Vec::new();
        escape(&payload, &mut out);
        assert!(!out.windows(3).any(|w| w[0] == 0 && w[1] == 0 && w[2] < 3));
        assert_eq!(unescape(&out, usize::MAX), (payload.to_vec(), out.len()));
    }
}
