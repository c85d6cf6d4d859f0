//! Opus packets (RFC 6716 §3) and their configuration (RFC 7845 §5.1).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{AudioCodec, AudioParameters};
use crate::error::CodecError;

/// Samples at 48 kHz that a decoder should drop at the start of a stream whose encoder's delay is not known:
/// libopus's own 6.5 ms.
pub const DEFAULT_PRE_SKIP: u16 = 312;

/// Parameters of a mono or stereo stream (channel mapping family 0).
pub fn parameters(channels: u16, pre_skip: u16) -> AudioParameters {
    // OpusHead after its magic: version, channels, pre-skip, input rate, output gain, mapping family
    let mut config = BytesMut::with_capacity(11);
    config.put_u8(1);
    config.put_u8(channels.clamp(1, 2) as u8);
    config.put_u16_le(pre_skip);
    config.put_u32_le(48_000);
    config.put_i16_le(0);
    config.put_u8(0);
    AudioParameters {
        codec: AudioCodec::Opus,
        sample_rate: 48_000,
        channels,
        config: config.freeze(),
    }
}

/// The pre-skip of an `OpusHead` body, in samples at 48 kHz; 0 where the body is cut short.
pub fn pre_skip(config: &Bytes) -> u16 {
    config.get(2..4).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

/// Parameters of what comes by RTP: two channels whatever the packets hold, for a stream may change between mono and stereo at any
/// packet (RFC 7587 §3.4), and a decoder for two plays both.
pub fn rtp_parameters() -> AudioParameters {
    parameters(2, DEFAULT_PRE_SKIP)
}

/// How long a packet plays.
///
/// # Errors
/// Where the packet is empty, is cut short, or lasts longer than 120 ms (RFC 6716 §3.1, §3.4).
pub fn packet_duration(packet: &[u8]) -> Result<Duration, CodecError> {
    const CLAUSE: &str = "RFC 6716 §3";
    let cut = CodecError::Truncated {
        what: "Opus packet",
        clause: CLAUSE,
    };
    let toc = *packet.first().ok_or_else(|| cut.clone())?;
    let config = toc >> 3;
    let frame_us: u64 = match config {
        0..=11 => [10_000, 20_000, 40_000, 60_000][usize::from(config & 3)],
        12..=15 => [10_000, 20_000][usize::from(config & 1)],
        _ => [2_500, 5_000, 10_000, 20_000][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(packet.get(1).ok_or(cut)? & 0x3f),
    };
    let micros = frames * frame_us;
    if frames == 0 || micros > 120_000 {
        let why = format!("{frames} frames of {frame_us} µs; a packet lasts at most 120 ms");
        return Err(CodecError::Invalid {
            what: "Opus packet",
            why,
            clause: "RFC 6716 §3.4",
        });
    }
    Ok(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_tells_how_long_it_plays() {
        assert_eq!(packet_duration(&[0b1111_1000]), Ok(Duration::from_millis(20)));
        assert_eq!(packet_duration(&[0b0001_1001]), Ok(Duration::from_millis(120)));
        assert_eq!(
            packet_duration(&[0b1000_0011, 3]),
            Ok(Duration::from_micros(7_500))
        );
        assert!(packet_duration(&[]).is_err());
        assert!(packet_duration(&[0b1111_1011]).is_err());
        assert!(packet_duration(&[0b1111_1011, 0]).is_err());
        assert!(packet_duration(&[0b0001_1011, 3]).is_err());
    }

    #[test]
    fn pre_skip_is_read_back() {
        assert_eq!(pre_skip(&parameters(2, DEFAULT_PRE_SKIP).config), 312);
    }
}
