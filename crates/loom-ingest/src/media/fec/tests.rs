use std::collections::{HashMap, HashSet};

use rtc::interceptor::{FlexFec03Decoder, FlexFec03Encoder};
use rtc::rtp::{Header, Packet};
use rtc::shared::marshal::{Marshal, Unmarshal};

use super::*;

const MEDIA: u32 = 0x1111_2222;
const REPAIR: u32 = 0x3333_4444;

struct Random(u64);

impl Random {
    fn below(&mut self, below: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32 % below
    }
}

fn decoder() -> FecDecoder {
    FecDecoder::new(FecConfig {
        protects: MEDIA,
        late_extension: Some(3),
    })
}

/// A stream of packets of all sizes, some with the extensions of a name (4) and of an empty late one (3).
fn stream(first: u16, count: u16, random: &mut Random) -> Vec<Packet> {
    (0..count)
        .map(|n| {
            let mut header = Header {
                version: 2,
                marker: random.below(4) == 0,
                payload_type: 96 + random.below(3) as u8,
                sequence_number: first.wrapping_add(n),
                timestamp: 90_000 + u32::from(n / 3) * 3_000,
                ssrc: MEDIA,
                ..Default::default()
            };
            if random.below(3) > 0 {
                header.set_extension(4, Bytes::from_static(b"ab")).unwrap();
                header.set_extension(3, Bytes::from_static(&[0, 0])).unwrap();
            }
            let payload: Vec<u8> = (0..1 + random.below(1_100))
                .map(|_| random.below(256) as u8)
                .collect();
            Packet {
                header,
                payload: payload.into(),
            }
        })
        .collect()
}

fn bytes(packet: &Packet) -> Bytes {
    packet.marshal().unwrap().freeze()
}

/// The packet as it travels: its late extension has a number.
fn sent(packet: &Packet, number: u16) -> Bytes {
    let mut packet = packet.clone();
    if packet.header.extension {
        packet
            .header
            .set_extension(3, Bytes::copy_from_slice(&number.to_be_bytes()))
            .unwrap();
    }
    bytes(&packet)
}

fn recovered(decoder: &mut FecDecoder) -> Vec<Bytes> {
    std::iter::from_fn(|| decoder.poll_recovered()).collect()
}

#[test]
fn any_one_packet_of_a_foreign_encoders_block_comes_back_bit_for_bit() {
    let mut random = Random(3);
    for (count, first) in [
        (1, 7),
        (5, 65_533),
        (15, 100),
        (16, 200),
        (46, 300),
        (47, 400),
        (109, 65_500),
    ] {
        let media = stream(first, count, &mut random);
        let repairs = FlexFec03Encoder::new(49, REPAIR).encode(&media, 1);
        assert_eq!(repairs.len(), 1);
        for lost in 0..media.len() {
            let mut decoder = decoder();
            for (at, packet) in media.iter().enumerate().filter(|(at, _)| *at != lost) {
                decoder.handle_media(&sent(packet, 40_000 + at as u16));
            }
            decoder.handle_repair(&bytes(&repairs[0]));
            assert_eq!(
                recovered(&mut decoder),
                [bytes(&media[lost])],
                "{lost} of {count}"
            );
        }
    }
}

#[test]
fn nothing_comes_out_where_nothing_or_two_are_missing() {
    let media = stream(10, 8, &mut Random(1));
    let repairs = FlexFec03Encoder::new(49, REPAIR).encode(&media, 1);
    let mut decoder = decoder();
    media
        .iter()
        .for_each(|packet| decoder.handle_media(&bytes(packet)));
    decoder.handle_repair(&bytes(&repairs[0]));
    assert_eq!(recovered(&mut decoder).len(), 0);
    assert!(decoder.repairs.is_empty());
    let mut decoder = self::decoder();
    media
        .iter()
        .skip(2)
        .for_each(|packet| decoder.handle_media(&bytes(packet)));
    decoder.handle_repair(&bytes(&repairs[0]));
    assert_eq!(recovered(&mut decoder).len(), 0);
    decoder.handle_media(&bytes(&media[1]));
    assert_eq!(
        recovered(&mut decoder),
        [bytes(&media[0])],
        "one of them was only late"
    );
}

#[test]
fn a_recovered_packet_helps_to_recover_another() {
    let media = stream(65_530, 12, &mut Random(5));
    let mut encoder = FlexFec03Encoder::new(49, REPAIR);
    let (all, second) = (encoder.encode(&media, 1), encoder.encode(&media[6..], 1));
    let mut decoder = decoder();
    for (at, packet) in media.iter().enumerate() {
        if ![2, 9].contains(&at) {
            decoder.handle_media(&bytes(packet));
        }
    }
    decoder.handle_repair(&bytes(&all[0]));
    assert_eq!(recovered(&mut decoder).len(), 0);
    decoder.handle_repair(&bytes(&second[0]));
    assert_eq!(recovered(&mut decoder), [bytes(&media[9]), bytes(&media[2])]);
}

/// How much of what is lost comes back, from ours and from a foreign decoder, at 5 % random loss of media and of repair
/// packets, and how much is sent for it.
fn lossy(block: usize, repairs: u32, seed: u64) -> (usize, usize, usize) {
    let mut random = Random(seed);
    let media = stream(60_000, 12_000, &mut random);
    let mut encoder = FlexFec03Encoder::new(49, REPAIR);
    let (mut ours, mut theirs) = (decoder(), FlexFec03Decoder::new(REPAIR, MEDIA));
    let (mut lost, mut from_ours, mut from_theirs) = (HashMap::new(), HashSet::new(), 0);
    for chunk in media.chunks(block) {
        for packet in chunk {
            if random.below(20) == 0 {
                lost.insert(packet.header.sequence_number, bytes(packet));
            } else {
                ours.handle_media(&sent(packet, random.below(65_536) as u16));
                from_theirs += theirs.decode(packet.clone()).len();
            }
        }
        for repair in encoder.encode(chunk, repairs) {
            if random.below(20) > 0 {
                ours.handle_repair(&bytes(&repair));
                from_theirs += theirs.decode(repair).len();
            }
        }
        for packet in recovered(&mut ours) {
            let sequence = Packet::unmarshal(&mut packet.clone())
                .unwrap()
                .header
                .sequence_number;
            assert_eq!(lost.get(&sequence), Some(&packet), "seed {seed}");
            assert!(from_ours.insert(sequence), "given once");
        }
    }
    (lost.len(), from_ours.len(), from_theirs)
}

#[test]
fn at_five_percent_loss_a_fifth_of_repair_packets_brings_back_three_of_four() {
    for seed in 1..4 {
        let (lost, ours, theirs) = lossy(10, 2, seed);
        println!("seed {seed}: {lost} lost, {ours} recovered, {theirs} by the other decoder");
        assert!(lost > 500);
        assert!(ours * 100 >= lost * 75, "seed {seed}: {ours} of {lost}");
        assert!(ours >= theirs, "seed {seed}: {ours}, the other decoder {theirs}");
    }
}

#[test]
fn any_bytes_cost_nothing_and_memory_is_bounded() {
    let mut random = Random(9);
    let mut decoder = decoder();
    let media = stream(0, 20, &mut random);
    let repair = bytes(&FlexFec03Encoder::new(49, REPAIR).encode(&media, 1)[0]);
    for round in 0..20_000u32 {
        let mut packet = repair.to_vec();
        for _ in 0..random.below(4) {
            let at = random.below(packet.len() as u32) as usize;
            packet[at] = random.below(256) as u8;
        }
        packet[28] = (round >> 8) as u8;
        packet[29] = round as u8;
        packet.truncate(1 + random.below(packet.len() as u32) as usize);
        if random.below(2) == 0 {
            decoder.handle_repair(&packet.into());
        } else {
            packet
                .get_mut(8..12)
                .into_iter()
                .for_each(|it| it.copy_from_slice(&MEDIA.to_be_bytes()));
            decoder.handle_media(&packet);
        }
        assert!(decoder.repairs.len() <= limits::FEC_REPAIR_PACKETS);
        recovered(&mut decoder);
    }
}

#[test]
fn a_late_extension_is_blanked_in_both_forms() {
    let one = [0xbe, 0xde, 0, 2, 0x41, 1, 2, 0x31, 7, 7, 0, 0];
    let two = [0x10, 0, 0, 2, 4, 2, 1, 2, 3, 2, 7, 7];
    for (extensions, at) in [(one, 8), (two, 10)] {
        let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 0];
        packet.extend(MEDIA.to_be_bytes());
        packet.extend(extensions);
        packet.push(0xff);
        let header = RtpHeader::read(&packet).unwrap();
        assert_eq!(header.len..header.payload_end(&packet).unwrap(), 24..25);
        let mut expected = packet.clone();
        expected[12 + at..12 + at + 2].fill(0);
        blank(&mut packet, &header, 3);
        assert_eq!(packet, expected);
    }
}
