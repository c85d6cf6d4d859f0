//! Timed metadata: ID3 tags in event messages of the media (`emsg`, ISO/IEC 23009-1 §5.10.3.3; AOM, Carriage of ID3 Timed Metadata in
//! CMAF), which players hand to the page at their instant.

use bytes::{BufMut, Bytes, BytesMut};
use loom_core::MediaTime;
use mp4_atom::{Emsg, EmsgTimestamp, Encode};

use crate::error::HlsError;
use crate::limits;

/// What players are told when playback comes to an instant.
///
/// ```
/// use loom_core::MediaTime;
/// use loom_hls::TimedMetadata;
///
/// let slide = TimedMetadata::text(Some(MediaTime::from_millis(4_000)), "slide", "7");
/// assert!(slide.tag.starts_with(b"ID3"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedMetadata {
    /// The instant; `None`: where the media is now. One that has been packaged already is moved to what is packaged next.
    pub at: Option<MediaTime>,
    /// A whole ID3v2 tag.
    pub tag: Bytes,
}

impl TimedMetadata {
    /// A tag that holds one text of the host's own (`TXXX`, ID3v2.4 frames §4.2.6); `name` tells which it is, and ends at a NUL.
    pub fn text(at: Option<MediaTime>, name: &str, text: &str) -> Self {
        let name = name.split('\0').next().unwrap_or_default();
        let mut frame = BytesMut::new();
        frame.put_u8(3); // UTF-8
        frame.put_slice(name.as_bytes());
        frame.put_u8(0);
        frame.put_slice(text.as_bytes());
        let mut tag = BytesMut::new();
        tag.put_slice(b"ID3\x04\0\0");
        tag.put_slice(&syncsafe(frame.len() + 10));
        tag.put_slice(b"TXXX");
        tag.put_slice(&syncsafe(frame.len()));
        tag.put_slice(&[0, 0]);
        tag.put_slice(&frame);
        Self {
            at,
            tag: tag.freeze(),
        }
    }

    /// Whether it can be carried.
    pub(crate) fn check(&self) -> Result<(), HlsError> {
        let refuse = |why: String, clause| Err(HlsError::Metadata { why, clause });
        if self.tag.len() > limits::METADATA_BYTES {
            let why = format!(
                "a tag of {} bytes is above the limit of {}",
                self.tag.len(),
                limits::METADATA_BYTES
            );
            return refuse(why, "ISO/IEC 23009-1 §5.10.3.3");
        }
        let size = match &self.tag[..] {
            [b'I', b'D', b'3', _, _, _, size @ ..] => {
                size.first_chunk::<4>().filter(|s| s.iter().all(|b| *b < 128))
            }
            _ => None,
        };
        // what is counted begins behind these ten bytes
        let told = size.map(|size| 10 + size.iter().fold(0, |all, byte| all << 7 | usize::from(*byte)));
        if told != Some(self.tag.len()) {
            return refuse("this is no whole ID3v2 tag".to_owned(), "ID3v2.4 structure §3.1");
        }
        Ok(())
    }
}

/// Seven bits a byte (ID3v2.4 structure §6.2). [`limits::METADATA_BYTES`] needs no more than these.
fn syncsafe(size: usize) -> [u8; 4] {
    [21, 14, 7, 0].map(|shift| (size >> shift & 0x7f) as u8)
}

/// One that waits for the chunk that holds its instant.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: u32,
    pub(crate) at: MediaTime,
    pub(crate) tag: Bytes,
}

impl Message {
    /// Writes it, before the chunk it is for, with its instant in ticks of the track.
    pub(crate) fn write(&self, out: &mut Vec<u8>, timescale: u32, at: u64) -> Result<(), mp4_atom::Error> {
        Emsg {
            timescale,
            presentation_time: EmsgTimestamp::Absolute(at),
            event_duration: u32::MAX, // unknown: a tag has no length
            id: self.id,
            scheme_id_uri: SCHEME.to_owned(),
            value: String::new(),
            message_data: self.tag.to_vec(),
        }
        .encode(out)
    }
}

/// `scheme_id_uri` of ID3 tags.
pub(crate) const SCHEME: &str = "https://aomedia.org/emsg/ID3";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_whole_tag_or_too_long_is_refused() {
        let good = TimedMetadata::text(None, "name", "text");
        assert!(good.check().is_ok());
        for tag in [
            good.tag.slice(..good.tag.len() - 1),
            good.tag.slice(1..),
            Bytes::new(),
            Bytes::from_static(b"ID3\x04\0\0\xff\0\0\0"),
            TimedMetadata::text(None, "name", &"x".repeat(limits::METADATA_BYTES)).tag,
        ] {
            assert!(TimedMetadata { at: None, tag }.check().is_err());
        }
    }
}
