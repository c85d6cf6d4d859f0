//! Sound that is silent, for where none comes.

use bytes::Bytes;
use loom_core::codec::aac;
use loom_core::{AudioCodec, AudioParameters};

use crate::still::bits::BitWriter;

/// One frame of silence and how long it plays, samples at the track's rate; `None` where none can be made.
pub(crate) fn silence(sound: &AudioParameters) -> Option<(Bytes, u64)> {
    match (sound.codec, sound.channels) {
        // 20 ms of CELT at full band (RFC 6716 §3.1, configuration 31); its `silence` flag is set, and nothing follows
        (AudioCodec::Opus, channels @ 1..=2) => {
            let toc = 31 << 3 | u8::from(channels == 2) << 2;
            Some((Bytes::copy_from_slice(&[toc, 0xff, 0xfe]), 960))
        }
        // AAC-LC (ISO/IEC 14496-3 §1.6.2.1: object type 2, a frame of 1,024, no extension)
        (AudioCodec::Aac, channels @ 1..=2) if sound.config.first().is_some_and(|byte| byte >> 3 == 2) => {
            Some((raw_data_block(channels), u64::from(aac::FRAME_LENGTH)))
        }
        _ => None,
    }
}

/// A single or a pair of channel elements without a spectrum (ISO/IEC 14496-3 §4.4.2.1).
fn raw_data_block(channels: u16) -> Bytes {
    let mut out = BitWriter::default();
    out.bits(if channels == 2 { 1 } else { 0 }, 3); // ID_CPE, ID_SCE
    out.bits(0, 4); // element_instance_tag
    if channels == 2 {
        out.bit(false); // common_window
    }
    for _ in 0..channels {
        out.bits(0, 8); // global_gain
        out.bits(0, 4); // ics_reserved_bit, window_sequence, window_shape
        out.bits(0, 7); // max_sfb, predictor_data_present
        out.bits(0, 3); // no pulses, no noise shaping, no gain control
    }
    out.bits(7, 3); // ID_END
    out.into_bytes().into()
}
