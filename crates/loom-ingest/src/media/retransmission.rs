use bytes::Bytes;

use crate::limits;
use crate::rtp::RtpHeader;

/// Which payload types and sources carry what is sent again (RFC 4588).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RetransmissionConfig {
    /// A payload type of retransmissions, and that of what it carries (`apt`, RFC 4588 §8.1).
    pub(crate) formats: Vec<(u8, u8)>,
    /// A source of retransmissions, and the source of the media (`a=ssrc-group:FID`, RFC 5576 §4.2).
    pub(crate) streams: Vec<(u32, u32)>,
}

/// What a packet of retransmissions carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restored {
    pub(crate) source: u32,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) payload: Bytes,
}

/// Gives back what was sent again in streams of their own (RFC 4588 §4).
///
/// Invariant: what it restores belongs to a source that the offer declared, or whose own packets named the same layer; its memory is
/// bounded.
#[derive(Debug)]
pub(crate) struct Retransmissions {
    formats: Vec<(u8, u8)>,
    streams: Vec<(u32, u32)>,
    layers: Vec<NamedLayer>,
}

/// A source of media that says which layer of which section it sends (RFC 8852).
#[derive(Debug)]
struct NamedLayer {
    mid: Option<Bytes>,
    rid: Bytes,
    source: u32,
}

impl Retransmissions {
    pub(crate) fn new(config: RetransmissionConfig) -> Self {
        Self {
            formats: config.formats,
            streams: config.streams,
            layers: Vec::new(),
        }
    }

    /// Whether packets of this payload type carry what is sent again.
    pub(crate) fn carries(&self, payload_type: u8) -> bool {
        self.formats.iter().any(|(carrier, _)| *carrier == payload_type)
    }

    /// A packet of media names its layer.
    pub(crate) fn handle_layer(&mut self, source: u32, mid: Option<&Bytes>, rid: &Bytes) {
        let Some(layer) = self.layers.iter_mut().find(|it| it.is(mid, rid)) else {
            if self.layers.len() < limits::SESSION_SOURCES {
                self.layers.push(NamedLayer {
                    mid: mid.cloned(),
                    rid: rid.clone(),
                    source,
                });
            }
            return;
        };
        let before = std::mem::replace(&mut layer.source, source);
        if before != source {
            // the retransmissions of the source before are no use any more
            self.streams.retain(|(_, of)| *of != before);
        }
    }

    /// What the packet carries, where it is known whose it is; `repaired` names the layer (RFC 8852 §4.2). A packet of padding carries
    /// nothing.
    pub(crate) fn restore(
        &mut self,
        header: &RtpHeader,
        payload: &Bytes,
        mid: Option<&Bytes>,
        repaired: Option<&Bytes>,
    ) -> Option<Restored> {
        let (sequence, _) = payload.split_first_chunk::<2>()?;
        let formats = self.formats.iter();
        let (_, payload_type) = formats
            .copied()
            .find(|(carrier, _)| *carrier == header.payload_type)?;
        Some(Restored {
            source: self.source_of(header.source, mid, repaired)?,
            payload_type,
            sequence: u16::from_be_bytes(*sequence),
            payload: payload.slice(2..),
        })
    }

    fn source_of(&mut self, carrier: u32, mid: Option<&Bytes>, repaired: Option<&Bytes>) -> Option<u32> {
        if let Some((_, source)) = self.streams.iter().find(|(it, _)| *it == carrier) {
            return Some(*source);
        }
        let rid = repaired?;
        let source = self.layers.iter().find(|it| it.is(mid, rid))?.source;
        if self.streams.len() < limits::SESSION_SOURCES {
            self.streams.push((carrier, source));
        }
        Some(source)
    }
}

impl NamedLayer {
    /// A packet may leave out its section where another has told it.
    fn is(&self, mid: Option<&Bytes>, rid: &Bytes) -> bool {
        let differs = mid
            .zip(self.mid.as_ref())
            .is_some_and(|(theirs, ours)| theirs != ours);
        self.rid == *rid && !differs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(source: u32) -> RtpHeader {
        let mut packet = vec![0x80, 97, 0, 9, 0, 0, 0, 7];
        packet.extend(source.to_be_bytes());
        RtpHeader::read(&packet).unwrap()
    }

    fn retransmissions() -> Retransmissions {
        Retransmissions::new(RetransmissionConfig {
            formats: vec![(97, 96)],
            streams: vec![(21, 20)],
        })
    }

    const PAYLOAD: Bytes = Bytes::from_static(&[0x12, 0x34, 1, 2, 3]);

    #[test]
    fn what_a_declared_stream_carries_is_a_packet_of_its_media() {
        let restored = retransmissions().restore(&header(21), &PAYLOAD, None, None);
        let expected = Restored {
            source: 20,
            payload_type: 96,
            sequence: 0x1234,
            payload: Bytes::from_static(&[1, 2, 3]),
        };
        assert_eq!(restored, Some(expected));
        assert!(retransmissions().carries(97) && !retransmissions().carries(96));
    }

    #[test]
    fn padding_and_a_stream_that_nobody_knows_carry_nothing() {
        let mut known = retransmissions();
        assert_eq!(known.restore(&header(21), &Bytes::new(), None, None), None);
        assert_eq!(
            known.restore(&header(21), &Bytes::from_static(&[1]), None, None),
            None
        );
        assert_eq!(known.restore(&header(22), &PAYLOAD, None, None), None);
    }

    #[test]
    fn a_layer_is_found_by_the_name_that_its_media_gave_and_goes_on_with_another_source() {
        let mut known = retransmissions();
        let (mid, other, rid) = (Bytes::from("1"), Bytes::from("2"), Bytes::from("h"));
        known.handle_layer(30, Some(&mid), &rid);
        known.handle_layer(31, Some(&other), &rid);
        let mut source = |carrier, mid, rid| {
            let restored = known.restore(&header(carrier), &PAYLOAD, mid, rid);
            restored.map(|it| it.source)
        };
        assert_eq!(source(40, Some(&mid), Some(&rid)), Some(30));
        assert_eq!(source(41, Some(&other), Some(&rid)), Some(31));
        // what was learned is kept when the packets stop saying it
        assert_eq!(source(41, None, None), Some(31));
        assert_eq!(source(42, None, Some(&Bytes::from("l"))), None);
        known.handle_layer(50, Some(&mid), &rid);
        assert_eq!(known.restore(&header(40), &PAYLOAD, None, None), None);
        let again = known.restore(&header(40), &PAYLOAD, Some(&mid), Some(&rid));
        assert_eq!(again.map(|it| it.source), Some(50));
    }
}
