//! Opus (RFC 7587): one packet of sound a payload.

use bytes::Bytes;
use loom_core::CodecParameters;
use loom_core::codec::opus;

use super::{CodedUnit, PayloadError, PayloadFormat};

#[derive(Debug, Default)]
pub(super) struct OpusPayloads {
    ready: Vec<CodedUnit>,
}

impl PayloadFormat for OpusPayloads {
    fn starts_picture(&self, _payload: &[u8]) -> bool {
        true
    }

    fn one_payload(&self) -> bool {
        true // the marker means the start of a talkspurt (RFC 7587 §4.1)
    }

    fn handle_payload(&mut self, payload: Bytes) -> Result<(), PayloadError> {
        let duration = opus::packet_duration(&payload)?;
        self.ready.push(CodedUnit {
            data: payload,
            key: true,
            duration: Some(duration),
            parameters: Some(CodecParameters::Audio(opus::rtp_parameters())),
        });
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<CodedUnit>, PayloadError> {
        Ok(self.ready.pop())
    }

    fn clear(&mut self) {
        self.ready.clear();
    }
}
