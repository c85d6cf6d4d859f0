//! As much of STUN (RFC 8489) as an ICE agent (RFC 8445) with one candidate needs.

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, Mac};
use sha1::Sha1;

const COOKIE: u32 = 0x2112_a442;
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;

/// A controlling agent's binding request that also nominates (RFC 8445 §7.1.1).
pub fn request(transaction: &[u8; 12], user: &str, password: &str, tie_breaker: u64) -> Vec<u8> {
    let mut message = head(REQUEST, transaction);
    attribute(&mut message, 0x0006, user.as_bytes());
    attribute(&mut message, 0x0024, &1_845_501_695u32.to_be_bytes());
    attribute(&mut message, 0x802a, &tie_breaker.to_be_bytes());
    attribute(&mut message, 0x0025, &[]);
    sign(&mut message, password);
    message
}

/// The answer to a request from `from`.
pub fn response(transaction: &[u8; 12], from: SocketAddr, password: &str) -> Vec<u8> {
    let mut message = head(SUCCESS, transaction);
    let mut value = vec![0, if from.is_ipv4() { 1 } else { 2 }];
    value.extend((from.port() ^ (COOKIE >> 16) as u16).to_be_bytes());
    match from.ip() {
        IpAddr::V4(ip) => value.extend((u32::from(ip) ^ COOKIE).to_be_bytes()),
        IpAddr::V6(ip) => {
            let mut mask = COOKIE.to_be_bytes().to_vec();
            mask.extend(transaction);
            value.extend(ip.octets().iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        }
    }
    attribute(&mut message, 0x0020, &value);
    sign(&mut message, password);
    message
}

/// What a datagram that begins like STUN is to us.
pub enum Heard {
    Request([u8; 12]),
    Success,
    Other,
}

pub fn read(datagram: &[u8]) -> Heard {
    if datagram.len() < 20 || datagram[4..8] != COOKIE.to_be_bytes() {
        return Heard::Other;
    }
    let mut transaction = [0; 12];
    transaction.copy_from_slice(&datagram[8..20]);
    match u16::from_be_bytes([datagram[0], datagram[1]]) {
        REQUEST => Heard::Request(transaction),
        SUCCESS => Heard::Success,
        _ => Heard::Other,
    }
}

fn head(kind: u16, transaction: &[u8; 12]) -> Vec<u8> {
    let mut message = kind.to_be_bytes().to_vec();
    message.extend([0, 0]);
    message.extend(COOKIE.to_be_bytes());
    message.extend(transaction);
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
    set_length(message, 0);
}

fn set_length(message: &mut [u8], more: usize) {
    let length = (message.len() - 20 + more) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// MESSAGE-INTEGRITY and FINGERPRINT (RFC 8489 §14.5, §14.7).
fn sign(message: &mut Vec<u8>, password: &str) {
    set_length(message, 24);
    let mut mac = Hmac::<Sha1>::new_from_slice(password.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(message);
    attribute(message, 0x0008, &mac.finalize().into_bytes());
    set_length(message, 8);
    let check = crc32(message) ^ 0x5354_554e;
    attribute(message, 0x8028, &check.to_be_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
        crc
    })
}
