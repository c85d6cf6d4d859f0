//! Where the parts of an RTP packet lie.

use crate::limits;

/// Where the parts of an RTP packet lie (RFC 3550 §5.1, RFC 8285). It borrows nothing, so that it outlives decryption, which
/// leaves headers as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RtpHeader {
    pub(crate) source: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
    pub(crate) has_padding: bool,
    /// Bytes before the payload.
    pub(crate) len: usize,
    /// The extension's profile, and where its data begin.
    extension: Option<(u16, usize)>,
}

/// Where a header extension's value lies in its packet.
pub(crate) type ExtensionRange = std::ops::Range<usize>;

impl RtpHeader {
    /// Reads a header; `None` where the packet is too short for what it says, or of another version.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        let (fixed, _) = packet.split_first_chunk::<12>()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut len = 12 + 4 * usize::from(fixed[0] & 0x0f);
        let mut extension = None;
        if fixed[0] & 0x10 != 0 {
            let head = packet.get(len..len + 4)?;
            let words = usize::from(u16::from_be_bytes([head[2], head[3]]));
            extension = Some((u16::from_be_bytes([head[0], head[1]]), len + 4));
            len += 4 + 4 * words;
        }
        if packet.len() < len {
            return None;
        }
        Some(Self {
            source: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            payload_type: fixed[1] & 0x7f,
            marker: fixed[1] & 0x80 != 0,
            has_padding: fixed[0] & 0x20 != 0,
            len,
            extension,
        })
    }

    /// Calls `take` with the identifier and the place of each header extension (RFC 8285 §4.2, §4.3).
    pub(crate) fn extensions(&self, packet: &[u8], mut take: impl FnMut(u8, ExtensionRange)) {
        const ONE_BYTE: u16 = 0xbede;
        const TWO_BYTE: u16 = 0x100;
        let Some((profile, mut at)) = self.extension else {
            return;
        };
        let is_one_byte = profile == ONE_BYTE;
        if !is_one_byte && profile >> 4 != TWO_BYTE {
            return;
        }
        for _ in 0..limits::HEADER_EXTENSIONS {
            let Some(&head) = packet.get(at).filter(|_| at < self.len) else {
                return;
            };
            if head == 0 {
                at += 1; // padding
                continue;
            }
            let (id, from, len) = if is_one_byte {
                // identifier 15 ends the list
                if head >> 4 == 15 {
                    return;
                }
                (head >> 4, at + 1, usize::from(head & 0x0f) + 1)
            } else {
                let Some(&len) = packet.get(at + 1) else { return };
                (head, at + 2, usize::from(len))
            };
            if from + len > self.len {
                return;
            }
            take(id, from..from + len);
            at = from + len;
        }
    }

    /// Where the payload ends, without its padding (RFC 3550 §5.1); `None` where the padding is longer than the payload.
    pub(crate) fn payload_end(&self, packet: &[u8]) -> Option<usize> {
        if !self.has_padding {
            return Some(packet.len());
        }
        let padding = usize::from(*packet.last()?);
        let end = packet.len().checked_sub(padding)?;
        (padding > 0 && end >= self.len).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use rtc::rtp::header::{EXTENSION_PROFILE_ONE_BYTE, EXTENSION_PROFILE_TWO_BYTE, Extension};
    use rtc::rtp::{Header, Packet};
    use rtc::shared::marshal::Marshal;

    use super::*;

    fn packet(profile: u16, values: &[(u8, &'static [u8])]) -> Vec<u8> {
        let extensions = values.iter().map(|(id, value)| Extension {
            id: *id,
            payload: bytes::Bytes::from_static(value),
        });
        let header = Header {
            version: 2,
            extension: true,
            marker: true,
            payload_type: 96,
            sequence_number: 7,
            timestamp: 90_000,
            ssrc: 0xdead_beef,
            csrc: vec![1, 2],
            extension_profile: profile,
            extensions: extensions.collect(),
            ..Header::default()
        };
        let packet = Packet {
            header,
            payload: bytes::Bytes::from_static(b"payload"),
        };
        packet.marshal().unwrap().to_vec()
    }

    #[test]
    fn what_another_stack_writes_is_read() {
        for profile in [EXTENSION_PROFILE_ONE_BYTE, EXTENSION_PROFILE_TWO_BYTE] {
            let bytes = packet(profile, &[(3, b"ab"), (5, b"mid")]);
            let header = RtpHeader::read(&bytes).unwrap();
            assert_eq!((header.source, header.sequence), (0xdead_beef, 7));
            assert_eq!((header.timestamp, header.payload_type), (90_000, 96));
            assert!(header.marker);
            assert_eq!(
                &bytes[header.len..header.payload_end(&bytes).unwrap()],
                b"payload"
            );
            let mut seen = Vec::new();
            header.extensions(&bytes, |id, range| seen.push((id, bytes[range].to_vec())));
            assert_eq!(seen, [(3, b"ab".to_vec()), (5, b"mid".to_vec())]);
        }
    }

    #[test]
    fn padding_is_left_out_and_padding_that_cannot_be_is_refused() {
        let mut bytes = packet(EXTENSION_PROFILE_ONE_BYTE, &[(3, b"ab")]);
        bytes[0] |= 0x20;
        bytes.extend([0, 0, 3]);
        let header = RtpHeader::read(&bytes).unwrap();
        assert_eq!(
            &bytes[header.len..header.payload_end(&bytes).unwrap()],
            b"payload"
        );
        for padding in [0, 200] {
            *bytes.last_mut().unwrap() = padding;
            assert_eq!(header.payload_end(&bytes), None);
        }
    }

    #[test]
    fn a_packet_cut_anywhere_is_refused_or_read_without_going_beyond_its_end() {
        let whole = packet(
            EXTENSION_PROFILE_TWO_BYTE,
            &[(3, b"ab"), (200, b"a longer value")],
        );
        for end in 0..whole.len() {
            let cut = &whole[..end];
            if let Some(header) = RtpHeader::read(cut) {
                header.extensions(cut, |_, range| assert!(range.end <= end));
            }
        }
    }
}
