//! The STUN messages of an ICE-lite agent (RFC 8445 §2.5, §7.3). Pure.
//!
//! A lite agent answers connectivity checks and sends none.

use std::net::SocketAddr;

use rtc::crypto::RTCCrypto;
use rtc::stun::attributes::ATTR_USE_CANDIDATE;
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message};
use rtc::stun::xoraddr::XorMappedAddress;

use crate::limits;

/// A datagram's first bytes, as RFC 7983 §7 sorts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StunKind {
    /// A binding request.
    Request,
    /// Any other STUN message.
    Other,
    /// DTLS, RTP or RTCP, or nothing that we know.
    No,
}

/// A connectivity check whose MESSAGE-INTEGRITY was right.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    message: Message,
}

impl StunKind {
    pub(crate) fn of(datagram: &[u8]) -> Self {
        const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
        match datagram {
            [0, 1, _, _, a, b, c, d, ..] if [*a, *b, *c, *d] == MAGIC => Self::Request,
            [0..=3, _, _, _, a, b, c, d, ..] if [*a, *b, *c, *d] == MAGIC => Self::Other,
            _ => Self::No,
        }
    }
}

impl Check {
    /// Reads a binding request; `None` where it is broken or its MESSAGE-INTEGRITY (RFC 8489 §14.5) is wrong.
    pub(crate) fn read(datagram: &[u8], password: &str, crypto: &dyn RTCCrypto) -> Option<Self> {
        let mut message = Message {
            raw: datagram.to_vec(),
            ..Message::default()
        };
        message.decode().ok()?;
        let right = message.typ == BINDING_REQUEST
            && MessageIntegrity::check(&mut message, password.as_bytes(), crypto).is_ok();
        right.then_some(Self { message })
    }

    /// Whether it nominates its path (RFC 8445 §7.3.1.5).
    pub(crate) fn nominates(&self) -> bool {
        self.message.contains(ATTR_USE_CANDIDATE)
    }

    /// The success response (RFC 8445 §7.3.1.1), which tells the sender where it was seen; `None` where it cannot be
    /// written.
    pub(crate) fn success(
        &self,
        seen: SocketAddr,
        password: &str,
        crypto: &dyn RTCCrypto,
    ) -> Option<Vec<u8>> {
        success(&self.message, seen, password, crypto)
    }
}

/// Our username fragment in the USERNAME of a binding request (RFC 8489 §14.3, RFC 8445 §7.2.2); `None` where there is
/// none.
pub(crate) fn username_fragment(request: &[u8]) -> Option<&str> {
    const USERNAME: u16 = 0x0006;
    let mut rest = request.get(20..)?;
    for _ in 0..limits::STUN_ATTRIBUTES {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = tail.get(..len)?;
        if u16::from_be_bytes([head[0], head[1]]) == USERNAME {
            return std::str::from_utf8(value).ok()?.split(':').next();
        }
        rest = tail.get(len.next_multiple_of(4)..)?;
    }
    None
}

fn success(request: &Message, seen: SocketAddr, password: &str, crypto: &dyn RTCCrypto) -> Option<Vec<u8>> {
    let mut response = Message::new();
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto);
    response
        .build(&[
            Box::new(request.clone()),
            Box::new(BINDING_SUCCESS),
            Box::new(XorMappedAddress {
                ip: seen.ip(),
                port: seen.port(),
            }),
            Box::new(integrity),
            Box::new(FINGERPRINT),
        ])
        .ok()?;
    Some(response.raw)
}

#[cfg(test)]
pub(crate) mod tests {
    use rtc::stun::attributes::ATTR_USERNAME;
    use rtc::stun::message::TransactionId;
    use rtc::stun::message::{Getter, Setter};
    use rtc::stun::textattrs::TextAttribute;

    use super::*;

    struct UseCandidate;

    impl Setter for UseCandidate {
        fn add_to(&self, message: &mut Message) -> Result<(), rtc::shared::error::Error> {
            message.add(ATTR_USE_CANDIDATE, &[]);
            Ok(())
        }
    }

    /// A nominating check to `fragment`.
    pub(crate) fn check(fragment: &str, password: &str) -> Vec<u8> {
        let provider = rtc::crypto::default_provider().unwrap();
        let mut message = Message::new();
        message
            .build(&[
                Box::new(BINDING_REQUEST),
                Box::new(TransactionId::new()),
                Box::new(TextAttribute::new(ATTR_USERNAME, format!("{fragment}:peer"))),
                Box::new(UseCandidate),
                Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
                    password.to_owned(),
                    provider.crypto(),
                )),
                Box::new(FINGERPRINT),
            ])
            .unwrap();
        message.raw
    }

    #[test]
    fn a_check_is_believed_only_with_the_password() {
        let provider = rtc::crypto::default_provider().unwrap();
        let datagram = check("frag", "password");
        assert_eq!(StunKind::of(&datagram), StunKind::Request);
        assert_eq!(username_fragment(&datagram), Some("frag"));
        let read = Check::read(&datagram, "password", provider.crypto()).unwrap();
        assert!(read.nominates());
        assert!(Check::read(&datagram, "passworD", provider.crypto()).is_none());
        for len in 0..datagram.len() {
            assert!(
                Check::read(&datagram[..len], "password", provider.crypto()).is_none(),
                "{len}"
            );
            let _ = username_fragment(&datagram[..len]);
        }
    }

    #[test]
    fn the_response_says_where_the_sender_was_seen() {
        let provider = rtc::crypto::default_provider().unwrap();
        let request = Check::read(&check("frag", "password"), "password", provider.crypto()).unwrap();
        for seen in ["192.0.2.9:4711", "[2001:db8::9]:4711"] {
            let seen: SocketAddr = seen.parse().unwrap();
            let response = request.success(seen, "password", provider.crypto()).unwrap();
            assert_eq!(StunKind::of(&response), StunKind::Other);
            let mut message = Message {
                raw: response,
                ..Message::default()
            };
            message.decode().unwrap();
            assert_eq!(message.typ, BINDING_SUCCESS);
            assert_eq!(message.transaction_id, request.message.transaction_id);
            MessageIntegrity::check(&mut message, b"password", provider.crypto()).unwrap();
            let mut mapped = XorMappedAddress::default();
            mapped.get_from(&message).unwrap();
            assert_eq!(SocketAddr::new(mapped.ip, mapped.port), seen);
        }
    }

    #[test]
    fn other_datagrams_are_no_stun() {
        for datagram in [
            &[][..],
            &[22, 254, 253],
            &[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0],
            &[0, 1, 0, 0, 1, 2, 3, 4],
        ] {
            assert_eq!(StunKind::of(datagram), StunKind::No, "{datagram:x?}");
        }
    }
}
