//! One publisher's connection above ICE: DTLS (RFC 5764), SRTP (RFC 3711, RFC 7714), RTP and RTCP. Pure: datagrams and time
//! come in, datagrams and events go out.

#[cfg(test)]
pub(crate) mod client;
mod connection;
mod dtls;
mod hello;
mod protection;
mod receiver;
pub(crate) mod replay;
mod srtp;

pub(crate) use connection::{Connection, ConnectionConfig, ConnectionOutput};
pub(crate) use dtls::Identity;
pub(crate) use receiver::ReceiverConfig;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use receiver::{Receiver, ReceiverOutput};

/// What a datagram is by its first byte (RFC 7983 §7) and, for RTCP, its second (RFC 5761 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatagramKind {
    Dtls,
    Rtp,
    Rtcp,
    /// Something that has no place on this port.
    Unknown,
}

impl DatagramKind {
    pub(crate) fn of(datagram: &[u8]) -> Self {
        match datagram {
            [20..=63, ..] => Self::Dtls,
            [128..=191, 192..=223, ..] => Self::Rtcp,
            [128..=191, _, ..] => Self::Rtp,
            _ => Self::Unknown,
        }
    }
}
