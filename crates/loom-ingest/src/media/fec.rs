//! Media packets that were lost, from repair packets (draft-ietf-payload-flexible-fec-scheme-03, which browsers call
//! `flexfec-03`; RFC 8627 is not compatible with it).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits;
use crate::rtp::RtpHeader;

/// What a [`FecDecoder`] works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FecConfig {
    /// The synchronization source of the media packets.
    pub(crate) protects: u32,
    /// The header extension that is written after the repair packets are made, so that they hold zeros in its place: the
    /// transport-wide sequence number.
    pub(crate) late_extension: Option<u8>,
}

/// Recovers lost packets of one source.
///
/// Invariant: it holds at most [`limits::FEC_MEDIA_PACKETS`] media and [`limits::FEC_REPAIR_PACKETS`] repair packets; what
/// it gives is what the sender protected, bit for bit, if what came in was.
#[derive(Debug)]
pub(crate) struct FecDecoder {
    config: FecConfig,
    /// Media packets, each at its sequence number modulo the length.
    media: Vec<Option<Held>>,
    newest: Option<u16>,
    /// Repair packets that lack more than one media packet, the oldest first.
    repairs: VecDeque<Repair>,
    recovered: VecDeque<Bytes>,
}

/// A media packet with zeros in the late extension.
#[derive(Debug, Clone)]
struct Held {
    sequence: u16,
    packet: Bytes,
}

#[derive(Debug)]
struct Repair {
    /// P, X, CC, M and PT recovery, then the length's and the timestamp's (§4.2).
    fields: [u8; 8],
    /// What follows the first 12 bytes of the packets, the shorter ones filled with zeros.
    body: Bytes,
    covered: Vec<u16>,
    missing: Vec<u16>,
}

impl FecDecoder {
    pub(crate) fn new(config: FecConfig) -> Self {
        Self {
            config,
            media: vec![None; limits::FEC_MEDIA_PACKETS],
            newest: None,
            repairs: VecDeque::new(),
            recovered: VecDeque::new(),
        }
    }

    /// Takes a media packet of the source, whole and decrypted.
    pub(crate) fn handle_media(&mut self, packet: &[u8]) {
        let ours = |header: &RtpHeader| header.source == self.config.protects;
        let Some(header) = RtpHeader::read(packet).filter(ours) else {
            return;
        };
        let mut copy = packet.to_vec();
        if let Some(id) = self.config.late_extension {
            blank(&mut copy, &header, id);
        }
        self.hold(header.sequence, copy.into());
        self.recover();
    }

    /// Takes a packet of the repair stream, whole and decrypted. One that cannot be used costs nothing.
    pub(crate) fn handle_repair(&mut self, packet: &Bytes) {
        let Some(mut repair) = Repair::read(packet, self.config.protects) else {
            return;
        };
        let media = &self.media;
        repair.missing = repair
            .covered
            .iter()
            .copied()
            .filter(|sequence| held(media, *sequence).is_none())
            .collect();
        if repair.missing.is_empty() {
            return;
        }
        if self.repairs.len() == limits::FEC_REPAIR_PACKETS {
            self.repairs.pop_front();
        }
        self.repairs.push_back(repair);
        self.recover();
    }

    /// The next packet that was recovered, whole, as [`FecDecoder::handle_media`] would take it. Its late extension is zero.
    pub(crate) fn poll_recovered(&mut self) -> Option<Bytes> {
        self.recovered.pop_front()
    }

    fn hold(&mut self, sequence: u16, packet: Bytes) {
        let newer = self
            .newest
            .is_none_or(|newest| sequence.wrapping_sub(newest) < 0x8000);
        if newer {
            self.newest = Some(sequence);
        }
        for repair in &mut self.repairs {
            repair.missing.retain(|missing| *missing != sequence);
        }
        let at = usize::from(sequence) % self.media.len();
        if let Some(place) = self.media.get_mut(at) {
            *place = Some(Held { sequence, packet });
        }
    }

    /// Recovers while a repair packet lacks just one: each recovered packet may be the last that another one lacked (§6.3).
    fn recover(&mut self) {
        let far = |newest: u16, sequence: u16| {
            newest.wrapping_sub(sequence) < 0x8000
                && usize::from(newest.wrapping_sub(sequence)) >= limits::FEC_MEDIA_PACKETS
        };
        if let Some(newest) = self.newest {
            // what they cover is no longer held
            self.repairs
                .retain(|repair| repair.covered.iter().all(|sequence| !far(newest, *sequence)));
        }
        loop {
            self.repairs.retain(|repair| !repair.missing.is_empty());
            let Some(at) = self.repairs.iter().position(|repair| repair.missing.len() == 1) else {
                return;
            };
            let Some(repair) = self.repairs.remove(at) else {
                return;
            };
            if let Some((sequence, packet)) = repair.restore(&self.media, self.config.protects) {
                self.recovered.push_back(packet.clone());
                if self.recovered.len() > limits::FEC_MEDIA_PACKETS {
                    self.recovered.pop_front();
                }
                self.hold(sequence, packet);
            }
        }
    }
}

fn held(media: &[Option<Held>], sequence: u16) -> Option<&Bytes> {
    let place = media.get(usize::from(sequence) % media.len())?.as_ref()?;
    (place.sequence == sequence).then_some(&place.packet)
}

impl Repair {
    /// Reads the FEC header (§4.2): recovery fields, the count of sources, and of each the first sequence number and a mask
    /// of 15, 46 or 109 bits.
    fn read(packet: &Bytes, protects: u32) -> Option<Self> {
        let header = RtpHeader::read(packet)?;
        let payload = packet.slice(header.len..header.payload_end(packet)?);
        let fields: [u8; 8] = payload.get(..8)?.try_into().ok()?;
        // R and F: a retransmission and a fixed pattern are other formats, which no browser sends; and of several sources
        // nothing could be told apart here
        if fields[0] & 0xc0 != 0 || payload.get(8) != Some(&1) || read_u32(&payload, 12)? != protects {
            return None;
        }
        let first = read_u16(&payload, 16)?;
        let mut covered = Vec::new();
        let (mut at, mut bit) = (18, 0u16);
        for bytes in [2usize, 4, 8] {
            let mask = payload.get(at..at + bytes)?;
            let (is_last, bits) = (mask[0] & 0x80 != 0, bytes as u16 * 8 - 1);
            for place in 0..bits {
                let in_mask = place + 1;
                if mask[usize::from(in_mask / 8)] & (0x80 >> (in_mask % 8)) != 0 {
                    covered.push(first.wrapping_add(bit + place));
                }
            }
            (at, bit) = (at + bytes, bit + bits);
            if is_last {
                return (!covered.is_empty()).then(|| Self {
                    fields,
                    body: payload.slice(at..),
                    covered,
                    missing: Vec::new(),
                });
            }
        }
        None // the third mask is the last
    }

    /// The one packet that is missing: the exclusive or of the repair packet and of all others that it covers (§6.3.2).
    fn restore(&self, media: &[Option<Held>], source: u32) -> Option<(u16, Bytes)> {
        let [missing] = self.missing.as_slice() else {
            return None;
        };
        let mut fields = self.fields;
        let mut body = self.body.to_vec();
        for sequence in self.covered.iter().filter(|sequence| *sequence != missing) {
            let packet = held(media, *sequence)?;
            let rest = packet.get(RTP_HEADER..)?;
            let length = u16::try_from(rest.len()).ok()?.to_be_bytes();
            let theirs = [
                packet[0], packet[1], length[0], length[1], packet[4], packet[5], packet[6], packet[7],
            ];
            fields
                .iter_mut()
                .zip(theirs)
                .for_each(|(ours, theirs)| *ours ^= theirs);
            body.iter_mut()
                .zip(rest)
                .for_each(|(ours, theirs)| *ours ^= theirs);
        }
        let length = usize::from(u16::from_be_bytes([fields[2], fields[3]]));
        if length > body.len() || length + RTP_HEADER > limits::DATAGRAM_BYTES {
            return None;
        }
        let mut packet = Vec::with_capacity(RTP_HEADER + length);
        packet.extend([0x80 | (fields[0] & 0x3f), fields[1]]);
        packet.extend(missing.to_be_bytes());
        packet.extend(&fields[4..]);
        packet.extend(source.to_be_bytes());
        packet.extend(body.get(..length)?);
        RtpHeader::read(&packet)?.payload_end(&packet)?;
        Some((*missing, packet.into()))
    }
}

/// Bytes of an RTP packet before its contributing sources (RFC 3550 §5.1).
const RTP_HEADER: usize = 12;

/// Fills the header extension `id` with zeros.
fn blank(packet: &mut [u8], header: &RtpHeader, id: u8) {
    let mut place = None;
    header.extensions(packet, |found, range| {
        if found == id {
            place.get_or_insert(range);
        }
    });
    if let Some(value) = place.and_then(|range| packet.get_mut(range)) {
        value.fill(0);
    }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
