use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use loom_core::TrackId;
use rtc::shared::ifaces::ifaces;
use tokio::sync::mpsc;

use crate::config::IngestConfig;
use crate::demux::IceCredentials;
use crate::error::IngestError;
use crate::limits;
use crate::media::{Publisher, PublisherConfig, ReordererConfig, RtpSection};
use crate::net::Port;
use crate::peer::{Identity, Peer};
use crate::sdp::{self, Offer};
use crate::session::{self, Session, SessionHandle, SessionId, SessionParts};
use crate::track::TrackInfo;

/// What answers an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The SDP.
    pub sdp: String,
    /// The entity tag of the session's ICE, without quotes (RFC 9725 §4.3.1).
    pub etag: String,
}

/// Takes publishers in, all on one UDP port. Dropping it closes every session.
#[derive(Debug)]
pub struct Ingest {
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<IngestConfig>,
    identity: Identity,
    port: Arc<Port>,
    /// Our own account of who is here: the stack's close events do not always come.
    sessions: Mutex<HashMap<SessionId, Option<SessionHandle>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Ingest {
    /// Binds the UDP port. Must be called within a Tokio runtime with timers and IO.
    ///
    /// # Errors
    /// [`IngestError::Config`] for a configuration that cannot work, [`IngestError::Socket`] where no port can be had.
    pub async fn bind(config: IngestConfig) -> Result<Self, IngestError> {
        config.check()?;
        let identity = Identity::generate()?;
        let port = Arc::new(Port::bind(&config, Arc::clone(&identity.crypto))?);
        let shared = Shared {
            config: Arc::new(config),
            identity,
            port,
            sessions: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The UDP address that all sessions share.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.port.local_addr()
    }

    /// How many sessions are open.
    pub fn session_count(&self) -> usize {
        self.shared.lock().len()
    }

    /// Takes an offer and answers at once; the publisher connects, and its media comes, through the session.
    ///
    /// # Errors
    /// For an offer that cannot be used, one for which [`IngestError::is_bad_offer`] is true and whose text says what
    /// is wrong; [`IngestError::Full`] where too many are connected; [`IngestError::Webrtc`] where this machine fails.
    pub async fn accept(&self, offer: &str) -> Result<(Answer, Session), IngestError> {
        let offer = Offer::parse(offer)?;
        let shared = &self.shared;
        let id = SessionId::from(shared.identity.random_word(16)?.as_str());
        let place = shared.reserve(&id)?;
        // RFC 8445 §5.3: at least 24 bits of randomness in the fragment and 128 in the password
        let credentials = IceCredentials {
            fragment: shared.identity.random_word(8)?.into(),
            password: shared.identity.random_word(16)?.into(),
            remote_password: offer.ice_password.as_str().into(),
        };
        let lane = shared.port.open(&id, credentials.clone());
        let (sender, inbox) = mpsc::channel(limits::INBOX_PACKETS);
        let (peer, answer) = Peer::accept(&offer, &shared.identity, &lane, &credentials, sender).await?;
        let sdp = sdp::finish(&offer, &answer, &self.candidates());
        let etag = shared.identity.random_word(8)?;
        let offered = offer.sections.iter().map(|section| section.kind).collect();
        let tracks = tracks(&offer.sections);
        let publisher = Publisher::new(PublisherConfig {
            sections: offer.sections,
            reorder: ReordererConfig {
                wait: shared.config.reorder_wait,
                ..ReordererConfig::default()
            },
            key_frame_spacing: shared.config.key_frame_spacing,
        });
        let config = Arc::clone(&shared.config);
        let parts = SessionParts {
            id: id.clone(),
            offered,
            tracks,
            config,
            peer,
            lane,
            inbox,
            publisher,
        };
        let session = session::start(parts, move || drop(place));
        shared
            .lock()
            .entry(id)
            .and_modify(|handle| *handle = Some(session.handle()));
        Ok((Answer { sdp, etag }, session))
    }

    /// The addresses that publishers are told, best first.
    fn candidates(&self) -> Vec<SocketAddr> {
        let local = self.local_addr();
        let mut addresses = self.shared.config.announce.clone();
        if addresses.is_empty() && !local.ip().is_unspecified() {
            addresses.push(local.ip());
        }
        if addresses.is_empty() {
            addresses = machine_addresses();
        }
        addresses.retain(|ip| ip.is_ipv4() || local.is_ipv6());
        addresses
            .into_iter()
            .map(|ip| SocketAddr::new(ip, local.port()))
            .collect()
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        for handle in self.shared.lock().values().flatten() {
            handle.close();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Option<SessionHandle>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(self: &Arc<Self>, id: &SessionId) -> Result<Place, IngestError> {
        let limit = self.config.max_sessions;
        let mut sessions = self.lock();
        if sessions.len() >= limit {
            return Err(IngestError::Full { limit });
        }
        sessions.insert(id.clone(), None);
        Ok(Place {
            shared: Arc::clone(self),
            id: id.clone(),
        })
    }
}

/// A session's place in the account; given back when dropped.
struct Place {
    shared: Arc<Shared>,
    id: SessionId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.lock().remove(&self.id);
    }
}

/// The tracks of an offer: a section after the other, of each its layers in the offer's order.
fn tracks(sections: &[RtpSection]) -> Vec<TrackInfo> {
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
