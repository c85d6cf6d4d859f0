use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use loom_core::TrackId;
use rtc::shared::ifaces::ifaces;

use crate::config::IngestConfig;
use crate::error::IngestError;
use crate::media::{FeedbackConfig, PublisherConfig, ReordererConfig, RtpSection};
use crate::net::Port;
use crate::restart::{Restarts, new_credentials};
use crate::sdp::{self, AnswerParts, Candidate, Feedback as Agreed, Offer};
use crate::session::{Core, Session, SessionId};
use crate::track::TrackInfo;
use crate::transport::{Connection, ConnectionConfig, Identity, ReceiverConfig};

/// What answers an offer.
#[must_use = "the publisher waits for it"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The SDP.
    pub sdp: String,
    /// The entity tag of the session's ICE, without quotes (RFC 9725 §4.3.1).
    pub etag: String,
}

/// Takes publishers in, all on one port. Dropping it closes every session.
///
/// A session costs memory only for what waits: at most [`limits::REORDER_PACKETS`](crate::limits::REORDER_PACKETS) packets
/// a track of at most [`limits::DATAGRAM_BYTES`](crate::limits::DATAGRAM_BYTES), one picture a track that is being put together, of at most
/// [`limits::FRAME_BYTES`](crate::limits::FRAME_BYTES), and what its host has not taken yet, at most
/// [`limits::SESSION_EVENT_BYTES`](crate::limits::SESSION_EVENT_BYTES) and what was under way when that was full.
///
/// ```
/// use loom_ingest::{Ingest, IngestConfig, SessionEvent};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), loom_ingest::IngestError> {
/// # let offer = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/offers/chromium.sdp"));
/// let ingest = Ingest::bind(IngestConfig {
///     udp: ([127, 0, 0, 1], 0).into(), // any free port
///     ..IngestConfig::default()
/// })
/// .await?;
/// let (answer, mut session) = ingest.accept(offer).await?; // answer.sdp goes back to the publisher
/// assert!(answer.sdp.starts_with("v=0") && session.tracks().len() == 2);
/// # session.handle().close();
/// while let Some(event) = session.recv().await {
///     match event {
///         SessionEvent::Media(media) => println!("{media:?}"),
///         SessionEvent::Closed(why) => println!("it is over: {why}"),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it closes every session"]
pub struct Ingest {
    config: Arc<IngestConfig>,
    identity: Identity,
    port: Port,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest")
            .field("config", &self.config)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Ingest {
    /// Binds the port. Must be called within a Tokio runtime with timers and IO.
    ///
    /// Cancellation: the port is free again.
    ///
    /// # Errors
    /// [`IngestError::Config`] for a configuration that cannot work, [`IngestError::Socket`] where the port cannot be had.
    pub async fn bind(config: IngestConfig) -> Result<Self, IngestError> {
        config.check()?;
        let identity = Identity::generate()?;
        let port = Port::bind(&config, Arc::clone(&identity.crypto))?;
        Ok(Self {
            config: Arc::new(config),
            identity,
            port,
        })
    }

    /// The address that all sessions share.
    pub fn local_addr(&self) -> SocketAddr {
        self.port.local_addr()
    }

    /// How many sessions are open.
    pub fn session_count(&self) -> usize {
        self.port.session_count()
    }

    #[cfg(test)]
    pub(crate) fn port(&self) -> &Port {
        &self.port
    }

    /// Takes an offer and answers at once; the publisher connects, and its media comes, through the session.
    ///
    /// Cancellation: there is no session then.
    ///
    /// # Errors
    /// For an offer that cannot be used, one for which [`IngestError::is_bad_offer`] is true and whose text says what
    /// is wrong; [`IngestError::Full`] where too many are connected; [`IngestError::Webrtc`] where this machine fails.
    pub async fn accept(&self, offer: &str) -> Result<(Answer, Session), IngestError> {
        self.accept_from(offer, None).await
    }

    /// As [`Ingest::accept`], for an offer that came from an address, whose sessions are counted.
    ///
    /// Cancellation: there is no session then.
    ///
    /// # Errors
    /// As [`Ingest::accept`], and [`IngestError::FullForAddress`].
    pub async fn accept_from(
        &self,
        offer: &str,
        from: Option<IpAddr>,
    ) -> Result<(Answer, Session), IngestError> {
        let text = offer;
        let offer = Offer::parse_for(text, &self.config.video)?;
        let id = SessionId::from(self.identity.random_word(16)?.as_str());
        let credentials = new_credentials(&self.identity)?;
        let etag = self.identity.random_word(8)?;
        let candidates = self.candidates();
        let sdp = sdp::answer(
            &offer,
            &AnswerParts {
                fragment: &credentials.fragment,
                password: &credentials.password,
                fingerprint: &self.identity.fingerprint,
                candidates: &candidates,
                session: id.as_str(),
            },
        );
        let tracks = tracks(&offer.sections);
        let restarts = Restarts::new(self.identity.clone(), candidates, etag.clone(), text);
        let connection = Connection::new(agreed(&self.config, &self.identity, offer), Instant::now());
        let core = self.port.open(&self.config, from, credentials, |port, key| {
            Core::new(id, key, port, restarts, connection)
        })?;
        core.begin();
        Ok((Answer { sdp, etag }, Session::new(core, tracks)))
    }

    /// The addresses that publishers are told, best first.
    fn candidates(&self) -> Vec<Candidate> {
        let local = self.local_addr();
        let mut addresses = self.config.announce.clone();
        if addresses.is_empty() && !local.ip().is_unspecified() {
            addresses.push(local.ip());
        }
        if addresses.is_empty() {
            addresses = machine_addresses();
        }
        addresses.retain(|ip| ip.is_ipv4() || local.is_ipv6());
        let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, local.port()));
        let tcp = self.port.has_tcp().then(|| addresses.clone().map(Candidate::tcp));
        addresses
            .map(Candidate::udp)
            .chain(tcp.into_iter().flatten())
            .collect()
    }
}

/// What is agreed on with the publisher of an offer.
pub(crate) fn agreed(ingest: &Arc<IngestConfig>, identity: &Identity, offer: Offer) -> ConnectionConfig {
    let feedback = feedback(&offer, ingest.reorder_wait);
    let repairs = offer.repairs().cloned().collect();
    let retransmission = offer.retransmission();
    ConnectionConfig {
        ingest: Arc::clone(ingest),
        identity: identity.clone(),
        role: offer.role,
        fingerprints: offer.fingerprints,
        receiver: ReceiverConfig {
            extensions: offer.extensions,
            feedback,
            repairs,
            retransmission,
            publisher: PublisherConfig {
                sections: offer.sections,
                reorder: ReordererConfig {
                    wait: ingest.reorder_wait,
                    ..ReordererConfig::default()
                },
                key_frame_spacing: ingest.key_frame_spacing,
            },
        },
    }
}

/// What the publisher agreed to be told.
fn feedback(offer: &Offer, reorder_wait: Duration) -> FeedbackConfig {
    let formats = offer.sections.iter().flat_map(|section| &section.formats);
    let numbers: Vec<u8> = formats.map(|format| format.payload_type).collect();
    let agreed = |kind: Agreed| {
        let numbers = numbers.iter().copied();
        numbers.filter(move |number| offer.agrees(*number, kind))
    };
    let mut terms = offer.outline.iter().filter_map(|it| it.accepted.as_ref());
    FeedbackConfig {
        retransmitted: agreed(Agreed::Nack).collect(),
        sent_apart: offer.retransmission().formats.iter().map(|(_, of)| *of).collect(),
        transport_cc: agreed(Agreed::TransportWide).next().is_some(),
        reduced_size: terms.all(|terms| terms.reduced_size),
        reorder_wait,
        ..FeedbackConfig::default()
    }
}

/// The tracks of an offer: a section after the other, of each its layers in the offer's order.
pub(crate) fn tracks(sections: &[RtpSection]) -> Vec<TrackInfo> {
    let mut tracks = Vec::new();
    for section in sections {
        let layers = section.layers.iter().cloned().map(Some);
        let single = section.layers.is_empty().then_some(None);
        for rid in layers.chain(single) {
            tracks.push(TrackInfo {
                id: TrackId(tracks.len() as u32),
                kind: section.kind,
                mid: section.mid.clone(),
                rid,
                stream: section.stream.clone(),
            });
        }
    }
    tracks
}

/// Every address of this machine that a publisher could reach: loopback last, link-local not at all.
fn machine_addresses() -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for interface in ifaces().unwrap_or_default() {
        let Some(ip) = interface.addr.map(|addr| addr.ip()) else {
            continue;
        };
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        if !link_local && !ip.is_unspecified() && !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    addresses.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
    addresses
}
