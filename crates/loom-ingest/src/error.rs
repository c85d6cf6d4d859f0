use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// Why a publisher cannot be taken in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The configuration cannot work.
    #[error("ingest configuration: {why}")]
    Config {
        /// What is wrong.
        why: &'static str,
    },
    /// The UDP socket could not be had.
    #[error("udp socket on {address}: {source}")]
    Socket {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The offer is larger than [`limits::OFFER_BYTES`](crate::limits::OFFER_BYTES).
    #[error("the offer has {bytes} bytes; at most {limit} are taken")]
    OfferTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The offer is not SDP (RFC 8866 §5).
    #[error("the offer is not SDP: line {line}: {why} (RFC 8866 §5)")]
    NotSdp {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The offer has nothing to send.
    #[error(
        "the offer has nothing to publish: {why}; offer at least one audio or video section with a=sendonly"
    )]
    NoMedia {
        /// What is missing.
        why: &'static str,
    },
    /// The offer sends something for which it names only codecs that Loom does not take.
    #[error(
        "the offer names only codecs that are not taken for what it sends ({}); offer {} for video, opus for audio",
        offered.join(", "),
        listed(taken)
    )]
    UnknownCodecs {
        /// The encoding names it has.
        offered: Vec<String>,
        /// The video codecs that are taken here, the preferred first.
        taken: Vec<&'static str>,
    },
    /// The offer lacks something that WebRTC needs.
    #[error("the offer cannot be used: {why}")]
    BadOffer {
        /// What is wrong, and the clause.
        why: String,
    },
    /// As many sessions as [`IngestConfig::max_sessions`](crate::IngestConfig::max_sessions) are open.
    #[error("{limit} publishers are connected, which is the limit; try again later")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// As many sessions of one address as
    /// [`IngestConfig::max_sessions_per_address`](crate::IngestConfig::max_sessions_per_address) are open.
    #[error(
        "{limit} publishers are connected from {address}, which is the limit for one address; try again later"
    )]
    FullForAddress {
        /// Where the offers come from.
        address: std::net::IpAddr,
        /// The limit.
        limit: usize,
    },
    /// The session is over.
    #[error("the session is over")]
    Closed,
    /// The WebRTC stack would not do it.
    #[error("webrtc: {what}: {why}")]
    Webrtc {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        why: String,
    },
}

impl IngestError {
    /// Whether the offer is at fault, and not this machine.
    pub fn is_bad_offer(&self) -> bool {
        matches!(
            self,
            Self::OfferTooLarge { .. }
                | Self::NotSdp { .. }
                | Self::NoMedia { .. }
                | Self::UnknownCodecs { .. }
                | Self::BadOffer { .. }
        )
    }
}

/// As a sentence lists them: `A, B or C`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}
