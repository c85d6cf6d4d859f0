//! Whether a coded picture can be decoded by itself, as its own bits say.

use mp4_atom::Codec;

/// How a track's samples are coded, as far as key frames can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// With the length of a NAL unit's size field.
    H264(u8),
    Hevc(u8),
    Av1,
    Vp9,
    /// Sound and text: every sample stands alone.
    Other,
    Unknown,
}

impl Coding {
    pub(crate) fn of(entry: &Codec) -> Self {
        match entry {
            Codec::Avc1(it) => Self::H264(it.avcc.length_size),
            Codec::Avc3(it) => Self::H264(it.avcc.length_size),
            Codec::Hvc1(it) => Self::Hevc(it.hvcc.length_size_minus_one + 1),
            Codec::Hev1(it) => Self::Hevc(it.hvcc.length_size_minus_one + 1),
            Codec::Av01(_) => Self::Av1,
            Codec::Vp09(_) => Self::Vp9,
            _ if entry.audio().is_some() => Self::Other,
            _ => Self::Unknown,
        }
    }

    pub(crate) fn is_video(self) -> bool {
        !matches!(self, Self::Other | Self::Unknown)
    }
}

/// Whether the sample is one from which decoding can begin; `None` where its bits do not tell.
pub(crate) fn is_key(coding: Coding, sample: &[u8]) -> Option<bool> {
    match coding {
        // nal_unit_type 5: a slice of an IDR picture (ITU-T H.264 §7.4.1)
        Coding::H264(size) => nal_units(sample, size).map(|types| types.iter().any(|head| head & 0x1f == 5)),
        // BLA, IDR and CRA: 16 to 21 (ITU-T H.265 §7.4.2.2)
        Coding::Hevc(size) => nal_units(sample, size)
            .map(|types| types.iter().any(|head| (16..=21).contains(&(head >> 1 & 0x3f)))),
        Coding::Vp9 => vp9(*sample.first()?),
        Coding::Av1 => av1(sample),
        Coding::Other => Some(true),
        Coding::Unknown => None,
    }
}

/// The first byte of each NAL unit.
fn nal_units(sample: &[u8], size: u8) -> Option<Vec<u8>> {
    let size = usize::from(size);
    let mut heads = Vec::new();
    let mut rest = sample;
    while !rest.is_empty() {
        let length = rest
            .get(..size)?
            .iter()
            .fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
        let unit = rest.get(size..size + length)?;
        heads.push(*unit.first()?);
        rest = &rest[size + length..];
    }
    Some(heads)
}

/// VP9's uncompressed header: frame marker, profile, show_existing_frame, frame_type (VP9 bitstream §7.2).
fn vp9(first: u8) -> Option<bool> {
    if first >> 6 != 0b10 {
        return None;
    }
    let profile = (first >> 5 & 1) | (first >> 4 & 1) << 1;
    let bit = if profile == 3 { 2 } else { 3 };
    let (existing, frame_type) = (first >> bit & 1, first >> (bit - 1) & 1);
    Some(existing == 0 && frame_type == 0)
}

/// The first frame header of a temporal unit (AV1 §5.9.2): a shown key frame.
fn av1(sample: &[u8]) -> Option<bool> {
    let mut rest = sample;
    while let Some(head) = rest.first() {
        let kind = head >> 3 & 15;
        let mut at = 1 + usize::from(head >> 2 & 1);
        let size = if head & 2 != 0 {
            let (mut value, mut shift) = (0usize, 0);
            loop {
                let byte = *rest.get(at)?;
                at += 1;
                value |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 || shift > 28 {
                    break value;
                }
            }
        } else {
            rest.len().checked_sub(at)?
        };
        let body = rest.get(at..at + size)?;
        if kind == 3 || kind == 6 {
            // show_existing_frame, frame_type, show_frame
            let bits = *body.first()?;
            return Some(bits >> 7 == 0 && bits >> 5 & 3 == 0);
        }
        rest = &rest[at + size..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_are_told_from_others() {
        let idr = [0, 0, 0, 2, 0x67, 0, 0, 0, 0, 2, 0x65, 0x88];
        let slice = [0, 0, 0, 2, 0x41, 0x9a];
        assert_eq!(is_key(Coding::H264(4), &idr), Some(true));
        assert_eq!(is_key(Coding::H264(4), &slice), Some(false));
        assert_eq!(
            is_key(Coding::H264(4), &idr[..10]),
            None,
            "a cut sample tells nothing"
        );
        assert_eq!(is_key(Coding::Hevc(4), &[0, 0, 0, 2, 19 << 1, 1]), Some(true));
        assert_eq!(is_key(Coding::Hevc(4), &[0, 0, 0, 2, 1 << 1, 1]), Some(false));
        assert_eq!(is_key(Coding::Vp9, &[0x82]), Some(true));
        assert_eq!(is_key(Coding::Vp9, &[0x86]), Some(false));
        assert_eq!(is_key(Coding::Av1, &[0x12, 0, 0x32, 1, 0x10]), Some(true));
        assert_eq!(is_key(Coding::Av1, &[0x12, 0, 0x32, 1, 0x30]), Some(false));
    }
}
