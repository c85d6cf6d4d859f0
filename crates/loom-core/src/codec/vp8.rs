//! VP8 frame headers (RFC 6386 §9.1).

use crate::error::CodecError;

/// What a VP8 frame header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameHeader {
    /// A key frame and its size in pixels, before any scaling hint.
    Key {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// An inter frame.
    Inter,
}

/// Reads a frame's header.
///
/// # Errors
/// Where the frame is cut short or its start code is wrong (RFC 6386 §9.1).
pub fn frame_header(frame: &[u8]) -> Result<FrameHeader, CodecError> {
    const CLAUSE: &str = "RFC 6386 §9.1";
    let cut = CodecError::Truncated {
        what: "VP8 frame header",
        clause: CLAUSE,
    };
    let tag = frame.first().ok_or_else(|| cut.clone())?;
    if tag & 1 == 1 {
        return Ok(FrameHeader::Inter);
    }
    let head = frame.get(3..10).ok_or(cut)?;
    if head[..3] != [0x9d, 0x01, 0x2a] {
        return Err(CodecError::Invalid {
            what: "VP8 frame header",
            why: format!("start code {:02x?} is not 9d 01 2a", &head[..3]),
            clause: CLAUSE,
        });
    }
    let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    Ok(FrameHeader::Key {
        width: side(head[3], head[4]),
        height: side(head[5], head[6]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_tells_its_size() {
        let frame = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02, 0];
        assert_eq!(
            frame_header(&frame),
            Ok(FrameHeader::Key {
                width: 1280,
                height: 720
            })
        );
        assert_eq!(frame_header(&[0x11]), Ok(FrameHeader::Inter));
        for len in 0..10 {
            assert!(frame_header(&frame[..len]).is_err());
        }
    }
}
