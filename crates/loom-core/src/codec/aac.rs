//! AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).

use bytes::Bytes;

use crate::bits::BitReader;
use crate::codec::{AudioCodec, AudioParameters};
use crate::error::CodecError;

/// Samples a channel in one AAC-LC frame (ISO/IEC 14496-3 §4.5.1.1, `frameLengthFlag` 0).
pub const FRAME_LENGTH: u32 = 1024;

const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
];

/// Reads audio parameters from an AudioSpecificConfig.
///
/// # Errors
/// Where the config is cut short, or its rate or channel configuration is reserved.
pub fn parameters(config: &Bytes) -> Result<AudioParameters, CodecError> {
    const WHAT: &str = "AudioSpecificConfig";
    const CLAUSE: &str = "ISO/IEC 14496-3 §1.6.2.1";
    let cut = || CodecError::Truncated {
        what: WHAT,
        clause: CLAUSE,
    };
    let invalid = |why: String| CodecError::Invalid {
        what: WHAT,
        why,
        clause: CLAUSE,
    };
    let mut bits = BitReader::new(config);
    if bits.bits(5).ok_or_else(cut)? == 31 {
        bits.bits(6).ok_or_else(cut)?;
    }
    let sample_rate = match bits.bits(4).ok_or_else(cut)? {
        15 => bits.bits(24).ok_or_else(cut)?,
        index => *RATES
            .get(index as usize)
            .ok_or_else(|| invalid(format!("sampling index {index} is reserved")))?,
    };
    let channels = match bits.bits(4).ok_or_else(cut)? {
        n @ 1..=6 => n as u16,
        7 => 8,
        other => return Err(invalid(format!("channel configuration {other} is not supported"))),
    };
    if sample_rate == 0 {
        return Err(invalid("sampling frequency is 0".to_owned()));
    }
    Ok(AudioParameters {
        codec: AudioCodec::Aac,
        sample_rate,
        channels,
        config: config.clone(),
    })
}

/// `mp4a.40.OO` (RFC 6381 §3.3) from an AudioSpecificConfig.
pub fn rfc6381(config: &[u8]) -> String {
    let mut bits = BitReader::new(config);
    let object = match bits.bits(5) {
        Some(31) => bits.bits(6).map(|ext| 32 + ext),
        other => other,
    };
    format!("mp4a.40.{}", object.unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_tells_rate_channels_and_string() {
        let made = parameters(&Bytes::from_static(&[0x11, 0x90])).unwrap();
        assert_eq!(
            (made.sample_rate, made.channels, made.rfc6381().as_str()),
            (48_000, 2, "mp4a.40.2")
        );
        assert!(parameters(&Bytes::from_static(&[0x11])).is_err());
        assert!(parameters(&Bytes::from_static(&[0x16, 0x90])).is_err());
    }
}
