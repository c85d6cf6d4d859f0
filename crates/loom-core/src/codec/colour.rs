/// How coded values become light: code points of ISO/IEC 23091-2, as `colr` of type `nclx` carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Colour {
    /// `ColourPrimaries`; 1 is BT.709, 9 BT.2020.
    pub primaries: u8,
    /// `TransferCharacteristics`; 1 is BT.709, 16 PQ, 18 HLG.
    pub transfer: u8,
    /// `MatrixCoefficients`.
    pub matrix: u8,
    /// `VideoFullRangeFlag`.
    pub full_range: bool,
}

/// The values of `VIDEO-RANGE` (RFC 8216bis §4.4.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VideoRange {
    /// Standard dynamic range.
    Sdr,
    /// Hybrid log-gamma.
    Hlg,
    /// Perceptual quantizer.
    Pq,
}

impl Colour {
    /// Nothing is said: 2 is "unspecified".
    pub const UNSPECIFIED: Self = Self {
        primaries: 2,
        transfer: 2,
        matrix: 2,
        full_range: false,
    };

    /// The range that its transfer characteristics stand for.
    pub fn range(self) -> VideoRange {
        match self.transfer {
            16 => VideoRange::Pq,
            18 => VideoRange::Hlg,
            _ => VideoRange::Sdr,
        }
    }
}

/// The shape of a pixel, width to height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Aspect {
    /// Width, in some unit.
    pub width: u32,
    /// Height, in the same.
    pub height: u32,
}

impl Aspect {
    /// Square pixels.
    pub const SQUARE: Self = Self { width: 1, height: 1 };

    /// From a ratio; square where a side is 0, which means that nothing is said.
    pub(crate) fn new(width: u32, height: u32) -> Self {
        match (width, height) {
            (1.., 1..) => Self { width, height },
            _ => Self::SQUARE,
        }
    }

    /// `SampleAspectRatio`, ISO/IEC 23091-2 §8.6.
    pub(crate) fn listed(code: u8) -> Self {
        const RATIOS: [(u32, u32); 16] = [
            (1, 1),
            (12, 11),
            (10, 11),
            (16, 11),
            (40, 33),
            (24, 11),
            (20, 11),
            (32, 11),
            (80, 33),
            (18, 11),
            (15, 11),
            (64, 33),
            (160, 99),
            (4, 3),
            (3, 2),
            (2, 1),
        ];
        usize::from(code)
            .checked_sub(1)
            .and_then(|at| RATIOS.get(at))
            .map_or(Self::SQUARE, |(w, h)| Self::new(*w, *h))
    }
}
