use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::error::IngestError;

/// How an [`Ingest`](crate::Ingest) behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestConfig {
    /// The one UDP address for all sessions. Port 0 takes any free one: [`Ingest::local_addr`](crate::Ingest::local_addr)
    /// tells which.
    pub udp: SocketAddr,
    /// The addresses that publishers are told. Empty: every address of this machine, loopback last.
    pub announce: Vec<IpAddr>,
    /// Whether TCP is taken at the same port too (RFC 6544), for publishers that cannot send UDP.
    pub tcp: bool,
    /// Sessions at once; one more is refused.
    pub max_sessions: usize,
    /// Sessions at once whose offers came from one IP address; one more is refused.
    pub max_sessions_per_address: usize,
    /// How long a publisher may take from its offer to the end of its DTLS handshake.
    pub connect_timeout: Duration,
    /// How long a connected publisher may send no media at all.
    pub idle_timeout: Duration,
    /// How long a missing packet is waited for at most before it counts as lost. Where missing packets come sooner, or
    /// never, the wait is shorter.
    pub reorder_wait: Duration,
    /// The least time between two key-frame requests to one track.
    pub key_frame_spacing: Duration,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            udp: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8189)),
            announce: Vec::new(),
            tcp: true,
            max_sessions: 512,
            max_sessions_per_address: 512,
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(10),
            reorder_wait: Duration::from_millis(600),
            key_frame_spacing: Duration::from_millis(300),
        }
    }
}

impl IngestConfig {
    pub(crate) fn check(&self) -> Result<(), IngestError> {
        let why = if self.max_sessions == 0 || self.max_sessions_per_address == 0 {
            "a limit of sessions is zero, so that nobody could publish"
        } else if self.connect_timeout.is_zero() || self.idle_timeout.is_zero() {
            "a timeout is zero, so that every session would end at once"
        } else if self.reorder_wait > Duration::from_secs(5) {
            "reorder_wait is longer than 5 s, the most that a live recording may be held up"
        } else {
            return Ok(());
        };
        Err(IngestError::Config { why })
    }
}
