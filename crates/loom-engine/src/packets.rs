//! The packets of a rendition of a complete recording, read a segment at a time, from its folder or from the store.

#[cfg(feature = "transcode")]
mod decoded;

use loom_core::{CodecParameters, Packet};
use loom_hls::stored::{StoredSegment, read_codec, read_packets};

use crate::download;
use crate::error::EngineError;
use crate::recording::Inner;

#[cfg(feature = "transcode")]
pub(crate) use decoded::Packets;

/// Reads segments; knows the init segment that was read last.
#[derive(Default)]
pub(crate) struct SegmentReader {
    init: String,
    codec: Option<CodecParameters>,
}

impl SegmentReader {
    /// Blocks.
    pub(crate) fn read(
        &mut self,
        recording: &Inner,
        segment: &StoredSegment,
    ) -> Result<Vec<Packet>, EngineError> {
        let codec = match self.codec.take().filter(|_| self.init == segment.init) {
            Some(codec) => codec,
            None => read_codec(&segment.init, &download::read(recording, &segment.init)?)?,
        };
        self.init.clone_from(&segment.init);
        let codec = self.codec.insert(codec);
        let data = download::read(recording, &segment.key)?;
        Ok(read_packets(&segment.key, codec, &data)?)
    }

    /// What its packets are of, since one was read.
    pub(crate) fn codec(&self) -> Option<&CodecParameters> {
        self.codec.as_ref()
    }
}
