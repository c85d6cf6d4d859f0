//! What of VP9 frames may be encrypted: what follows their uncompressed headers (VP Codec ISO Media File Format Binding, Common
//! Encryption).

use std::ops::Range;

use loom_core::codec::vp9::{Content, FrameHeaders, frames};

/// What of a frame or superframe lies behind the uncompressed headers, a range a frame. A frame that does not parse, and one that
/// only shows another again, has none.
pub(super) fn protected(headers: &mut FrameHeaders, sample: &[u8]) -> Vec<Range<usize>> {
    let frames = frames(sample).unwrap_or_default();
    let behind = frames.into_iter().filter_map(|frame| {
        let header = headers.read(&sample[frame.clone()])?;
        match header.content {
            Content::Frame {
                length: Some(length), ..
            } if length < frame.len() => Some(frame.start + length..frame.end),
            _ => None,
        }
    });
    behind.collect()
}
