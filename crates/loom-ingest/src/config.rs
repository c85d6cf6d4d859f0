use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use loom_core::VideoCodec;

#[cfg(feature = "webrtc")]
use crate::error::IngestError;
#[cfg(feature = "webrtc")]
use crate::limits;

/// How an [`Ingest`](crate::Ingest) behaves.
///
/// ```
/// use loom_core::VideoCodec;
/// use loom_ingest::{IceServer, IngestConfig};
///
/// let config = IngestConfig {
///     announce: vec![[203, 0, 113, 7].into()], // the address that publishers reach, behind a NAT
///     video: vec![VideoCodec::H264],
///     ice_servers: vec![IceServer::new("stun:stun.example:3478")],
///     ..IngestConfig::default()
/// };
/// # let _ = config;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestConfig {
    /// The one UDP address for all sessions. Port 0 takes any free one: [`Ingest::local_addr`](crate::Ingest::local_addr)
    /// tells which.
    pub udp: SocketAddr,
    /// The addresses that publishers are told. Empty: every address of this machine, loopback last.
    pub announce: Vec<IpAddr>,
    /// Whether TCP is taken at the same port too (RFC 6544), for publishers that cannot send UDP.
    pub tcp: bool,
    /// The video codecs that publishers may send, of those that this crate depacketizes; answers name no others, and those that they
    /// name in an order of their own, H.264 first.
    pub video: Vec<VideoCodec>,
    /// Sessions at once; one more is refused.
    pub max_sessions: usize,
    /// Sessions at once whose offers came from one IP address, or one IPv6 network of 64 bits; one more is refused.
    pub max_sessions_per_address: usize,
    /// How long a publisher may take from its offer to the end of its DTLS handshake.
    pub connect_timeout: Duration,
    /// How long nothing at all may come of a connected publisher, and how long it may take to send its first media.
    pub idle_timeout: Duration,
    /// How long a publisher that lives may send no media: one that has muted all it sends, or is frozen. Less than
    /// [`idle_timeout`](Self::idle_timeout) is taken for that.
    pub mute_timeout: Duration,
    /// How long a missing packet is waited for at most before it counts as lost. Where missing packets come sooner, or
    /// never, the wait is shorter.
    pub reorder_wait: Duration,
    /// The least time between two key-frame requests to one track.
    pub key_frame_spacing: Duration,
    /// The STUN and TURN servers that publishers are told of (RFC 9725 §4.6).
    pub ice_servers: Vec<IceServer>,
}

/// A STUN or TURN server for publishers, as W3C WebRTC's `RTCIceServer` describes one.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct IceServer {
    /// Its URLs: `stun:`, `stuns:` (RFC 7064), `turn:` or `turns:` (RFC 7065).
    pub urls: Vec<String>,
    /// The user name for a TURN server.
    pub username: Option<String>,
    /// The password for a TURN server (RFC 8489 §9.2). Never logged; publishers are told it.
    pub credential: Option<String>,
}

impl IceServer {
    /// A server that asks for no credentials.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            ..Self::default()
        }
    }

    /// What is wrong with it.
    #[cfg(feature = "webrtc")]
    fn fault(&self) -> Option<&'static str> {
        let told = self.urls.iter().chain(&self.username).chain(&self.credential);
        let scheme = |url: &String| url.split_once(':').map(|(scheme, _)| scheme.to_owned());
        let schemes: Vec<_> = self.urls.iter().map(scheme).collect();
        let is_turn = |scheme: &Option<String>| matches!(scheme.as_deref(), Some("turn" | "turns"));
        if self.urls.is_empty() {
            Some("an ICE server has no URL")
        } else if !schemes
            .iter()
            .all(|it| is_turn(it) || matches!(it.as_deref(), Some("stun" | "stuns")))
        {
            Some("an ICE server's URL begins with none of stun:, stuns:, turn: and turns:")
        } else if schemes.iter().any(is_turn) && (self.username.is_none() || self.credential.is_none()) {
            Some("a TURN server needs a username and a credential")
        } else if !told
            .flat_map(|text| text.bytes())
            .all(|b| b == b' ' || b.is_ascii_graphic())
            || self.urls.iter().any(|url| url.contains([' ', '<', '>', '"']))
        {
            Some("an ICE server has characters that a Link header cannot carry")
        } else {
            None
        }
    }
}

impl fmt::Debug for IceServer {
    /// Tells no credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer")
            .field("urls", &self.urls)
            .field("username", &self.username)
            .field("credential", &self.credential.as_ref().map(|_| "…"))
            .finish()
    }
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            udp: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8189)),
            announce: Vec::new(),
            tcp: true,
            video: vec![
                VideoCodec::H264,
                VideoCodec::Vp8,
                VideoCodec::Vp9,
                VideoCodec::Av1,
            ],
            max_sessions: 512,
            max_sessions_per_address: 512,
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(10),
            mute_timeout: Duration::from_secs(300),
            reorder_wait: Duration::from_millis(800),
            key_frame_spacing: Duration::from_millis(300),
            ice_servers: Vec::new(),
        }
    }
}

#[cfg(feature = "webrtc")]
impl IngestConfig {
    pub(crate) fn check(&self) -> Result<(), IngestError> {
        let why = if self.max_sessions == 0 || self.max_sessions_per_address == 0 {
            "a limit of sessions is zero, so that nobody could publish"
        } else if self.connect_timeout.is_zero() || self.idle_timeout.is_zero() {
            "a timeout is zero, so that every session would end at once"
        } else if self.connect_timeout.max(self.idle_timeout).max(self.mute_timeout) > limits::TIMEOUT {
            "a timeout is longer than a day, so that a session that has died would be kept"
        } else if self.reorder_wait > Duration::from_secs(5) {
            "reorder_wait is longer than 5 s, the most that a live recording may be held up"
        } else if let Some(fault) = self.ice_servers.iter().find_map(IceServer::fault) {
            fault
        } else {
            return Ok(());
        };
        Err(IngestError::Config { why })
    }
}

#[cfg(all(test, feature = "webrtc"))]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_neither_nothing_nor_for_ever() {
        let check = |connect_timeout, idle_timeout| {
            IngestConfig {
                connect_timeout,
                idle_timeout,
                ..IngestConfig::default()
            }
            .check()
            .is_ok()
        };
        let (day, second) = (limits::TIMEOUT, Duration::from_secs(1));
        assert!(check(day, day) && check(second, second));
        for bad in [Duration::ZERO, Duration::MAX, day + second] {
            assert!(!check(bad, second) && !check(second, bad), "{bad:?}");
        }
    }

    #[test]
    fn an_ice_server_is_checked_before_anybody_is_told_of_it() {
        let turn = |url: &str, username: Option<&str>| IceServer {
            username: username.map(str::to_owned),
            credential: Some("pass word\"".to_owned()),
            ..IceServer::new(url)
        };
        let check = |server: IceServer| {
            let ice_servers = vec![server];
            IngestConfig {
                ice_servers,
                ..IngestConfig::default()
            }
            .check()
            .is_ok()
        };
        for good in [
            IceServer::new("stun:stun.example:3478"),
            turn("turns:turn.example?transport=tcp", Some("me")),
        ] {
            assert!(check(good.clone()), "{good:?}");
        }
        for bad in [
            IceServer::default(),
            IceServer::new("https://stun.example"),
            IceServer::new("stun.example"),
            IceServer::new("turn:turn.example"),
            IceServer::new("stun:a>; rel=\"b"),
            turn("turn:turn.example", None),
            turn("turn:turn.example", Some("\r\nset-cookie: x")),
        ] {
            assert!(!check(bad.clone()), "{bad:?}");
        }
        assert!(!format!("{:?}", turn("turn:a", None)).contains("pass"));
    }
}
