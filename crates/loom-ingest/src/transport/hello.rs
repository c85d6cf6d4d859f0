//! A look at a publisher's DTLS records before the library has them: at what it would take amiss, and at what it would not ask.

use std::collections::BTreeMap;

use bytes::BytesMut;

/// Bytes before a record's body (RFC 6347 §4.1).
const RECORD_HEADER: usize = 13;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// RFC 5764 §4.1.1.
const USE_SRTP: usize = 14;
/// Bytes before a piece of a handshake message: its kind, its length, its number, where the piece begins, how long that is (RFC 6347
/// §4.2.2).
const MESSAGE_HEADER: usize = 12;
/// Bytes of a greeting that is gathered; the keys of today's browsers make 1,500.
const GREETING_BYTES: usize = 8 * 1024;
/// Pieces of it.
const GREETING_PIECES: usize = 16;

/// Whether a datagram may be part of a handshake: whole records, each of a kind and a shape that a handshake has. Anything else is
/// dropped in silence (RFC 6347 §4.1.2.7), for anybody may send it.
pub(crate) fn is_of_handshake(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while !rest.is_empty() {
        let Some((kind, epoch, body)) = record(&mut rest) else {
            return false;
        };
        let fits = match (kind, epoch) {
            (CHANGE_CIPHER_SPEC, 0) => body == [1],
            (ALERT, 0) => matches!(body, [1 | 2, _]),
            (HANDSHAKE, 0) => body.len() >= MESSAGE_HEADER,
            (CHANGE_CIPHER_SPEC | ALERT | HANDSHAKE, _) => true,
            _ => false,
        };
        if !fits {
            return false;
        }
    }
    true
}

/// A publisher's first message, a `ClientHello`, gathered until it is whole: browsers' are longer than a datagram.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    /// The datagrams that bring a piece of it each, by where that begins.
    pieces: BTreeMap<usize, BytesMut>,
}

impl Greeting {
    /// Takes a datagram. Gives all that the message came in once it is whole, and whether it offers the SRTP profile of that number
    /// (RFC 5764 §4.1.2). What is no part of it is dropped: it is what a handshake begins with.
    pub(crate) fn handle_datagram(&mut self, datagram: &[u8], profile: u16) -> Option<(Vec<BytesMut>, bool)> {
        let (length, at, _) = piece(datagram)?;
        // a publisher repeats itself until it is answered
        self.pieces.entry(at).or_insert_with(|| datagram.into());
        if self.pieces.len() > GREETING_PIECES {
            self.pieces.clear();
        }
        let mut message = Vec::with_capacity(length);
        for datagram in self.pieces.values() {
            let (_, at, piece) = piece(datagram)?;
            let known = message.len().checked_sub(at)?;
            message.extend(piece.get(known..).unwrap_or_default());
        }
        if message.len() < length {
            return None;
        }
        let profiles = profiles(&message).unwrap_or_default();
        let is_offered = profiles.chunks_exact(2).any(|it| it == profile.to_be_bytes());
        let datagrams = std::mem::take(&mut self.pieces).into_values();
        Some((datagrams.collect(), is_offered))
    }
}

/// Of a datagram that begins with a piece of a `ClientHello`: how long the message is, where the piece begins, the piece.
fn piece(mut datagram: &[u8]) -> Option<(usize, usize, &[u8])> {
    let (kind, _, mut body) = record(&mut datagram)?;
    let header = take(&mut body, MESSAGE_HEADER)?;
    let length = number(&header[1..4]);
    if kind != HANDSHAKE || header[0] != CLIENT_HELLO || length > GREETING_BYTES {
        return None;
    }
    let piece = take(&mut body, number(&header[9..12]))?;
    Some((length, number(&header[6..9]), piece))
}

/// What the `use_srtp` extension of a `ClientHello` lists (RFC 6347 §4.2.1; RFC 5246 §7.4.1.2).
fn profiles(mut hello: &[u8]) -> Option<&[u8]> {
    let hello = &mut hello;
    take(hello, 2 + 32)?; // version, random
    vector(hello, 1)?; // session
    vector(hello, 1)?; // cookie
    vector(hello, 2)?; // cipher suites
    vector(hello, 1)?; // compression
    let mut extensions = vector(hello, 2)?;
    loop {
        let kind = number(take(&mut extensions, 2)?);
        let mut value = vector(&mut extensions, 2)?;
        if kind == USE_SRTP {
            return vector(&mut value, 2);
        }
    }
}

/// The first record: its content type, its epoch, its body.
fn record<'a>(rest: &mut &'a [u8]) -> Option<(u8, usize, &'a [u8])> {
    let header = take(rest, RECORD_HEADER)?;
    let body = take(rest, number(&header[11..]))?;
    Some((header[0], number(&header[3..5]), body))
}

/// What follows its length, a number of `width` bytes.
fn vector<'a>(rest: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let length = number(take(rest, width)?);
    take(rest, length)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | usize::from(*byte))
}
