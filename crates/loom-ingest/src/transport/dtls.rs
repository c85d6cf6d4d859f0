use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rtc::crypto::RTCCryptoProvider;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::shared::TransportProtocol;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::hello::{self, Greeting};
use super::srtp::{Srtp, SrtpKeys};
use crate::error::IngestError;
use crate::limits;
use crate::sdp::{DtlsRole, Fingerprint};

/// What every session shares: one DTLS certificate and one source of randomness.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) crypto: Arc<dyn RTCCryptoProvider>,
    /// As `a=fingerprint` has it (RFC 8122 §5): `sha-256 AB:CD:…`.
    pub(crate) fingerprint: Arc<str>,
    /// For a publisher that offers AES-GCM, and for others: of several profiles the library would take the first in the publisher's order.
    servers: [Arc<HandshakeConfig>; 2],
    client: Arc<HandshakeConfig>,
}

impl Identity {
    pub(crate) fn generate() -> Result<Self, IngestError> {
        let failed = |why: rtc::shared::error::Error| IngestError::Webrtc {
            what: "making a DTLS identity",
            why: why.to_string(),
        };
        let crypto = rtc::crypto::default_provider().map_err(|why| IngestError::Webrtc {
            what: "finding a crypto provider",
            why: why.to_string(),
        })?;
        let certificate =
            Certificate::generate_self_signed(vec!["loom".to_owned()], crypto.crypto()).map_err(failed)?;
        let digest = certificate
            .certificate
            .first()
            .map(Sha256::digest)
            .unwrap_or_default();
        let hex: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        let config = |is_client: bool, profiles: &[SrtpProtectionProfile]| {
            ConfigBuilder::default()
                .with_crypto_provider(Arc::clone(&crypto))
                .with_certificates(vec![certificate.clone()])
                .with_srtp_protection_profiles(profiles.to_vec())
                // RFC 8827 §6.5: certificates are self-signed, their fingerprints are in the SDP
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_insecure_skip_verify(true)
                .with_extended_master_secret(ExtendedMasterSecretType::Request)
                .with_server_name("loom".to_owned())
                .build(is_client, None)
                .map(Arc::new)
        };
        Ok(Self {
            fingerprint: format!("sha-256 {}", hex.join(":")).into(),
            servers: [
                config(false, &PROFILES[..1]).map_err(failed)?,
                config(false, &PROFILES[1..]).map_err(failed)?,
            ],
            client: config(true, &PROFILES).map_err(failed)?,
            crypto,
        })
    }

    /// A word of `bytes` random bytes in hexadecimal digits, which every place that takes a name takes.
    pub(crate) fn random_word(&self, bytes: usize) -> Result<String, IngestError> {
        let mut random = vec![0; bytes];
        self.crypto
            .random()
            .fill(&mut random)
            .map_err(|why| IngestError::Webrtc {
                what: "drawing a random name",
                why: why.to_string(),
            })?;
        Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// In our order of preference: AES-GCM costs about a third of AES-CM with HMAC-SHA1 (RFC 7714, RFC 5764 §4.1.2).
const PROFILES: [SrtpProtectionProfile; 2] = [
    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
];

/// One publisher's DTLS association, which gives the keys of SRTP and tells when the publisher closes.
pub(crate) struct Dtls {
    endpoint: Endpoint,
    crypto: Arc<dyn RTCCryptoProvider>,
    fingerprints: Vec<Fingerprint>,
    servers: [Arc<HandshakeConfig>; 2],
    /// Of a publisher that has not greeted yet, where it is the one to do so.
    greeting: Option<Greeting>,
    is_established: bool,
    /// Bytes that came.
    taken: usize,
}

/// What a [`Dtls`] has to say.
pub(crate) enum DtlsEvent {
    /// The handshake is over, and the publisher's certificate is the one that its offer names.
    Established(Box<Srtp>),
    /// The publisher said goodbye.
    Closed,
    /// It cannot go on.
    Failed(String),
}

/// The address that the association knows the publisher by, so that a publisher that moves needs nothing of it.
const PUBLISHER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

impl Dtls {
    pub(crate) fn new(identity: &Identity, role: DtlsRole, fingerprints: Vec<Fingerprint>) -> Self {
        Self {
            endpoint: Endpoint::new(PUBLISHER, TransportProtocol::UDP, None),
            servers: identity.servers.clone(),
            greeting: (role == DtlsRole::Passive).then(Greeting::default),
            crypto: Arc::clone(&identity.crypto),
            fingerprints,
            is_established: false,
            taken: 0,
        }
    }

    /// Begins the handshake where that is ours to do (RFC 8842 §5.1); once there is a way to the publisher.
    pub(crate) fn connect(&mut self, identity: &Identity, now: Instant) -> Result<(), String> {
        let client = Arc::clone(&identity.client);
        self.endpoint
            .connect(now, PUBLISHER, client, None)
            .map_err(|why| why.to_string())
    }

    pub(crate) fn handle_datagram(&mut self, datagram: &[u8], now: Instant) -> Option<DtlsEvent> {
        // the library keeps what it cannot read yet, without a limit of its own
        self.taken = self.taken.saturating_add(datagram.len());
        if self.taken > limits::DTLS_BYTES {
            let why = "the DTLS handshake is longer than any".to_owned();
            return (!self.is_established).then_some(DtlsEvent::Failed(why));
        }
        if !self.is_established && !hello::is_of_handshake(datagram) {
            return None;
        }
        let Some(greeting) = &mut self.greeting else {
            return self.read(datagram.into(), now);
        };
        let (datagrams, is_gcm) = greeting.handle_datagram(datagram, PROFILES[0] as u16)?;
        self.greeting = None;
        let server = if is_gcm {
            &self.servers[0]
        } else {
            &self.servers[1]
        };
        self.endpoint.set_server_config(Some(Arc::clone(server)));
        let events = datagrams.into_iter().map(|it| self.read(it, now));
        events.fold(None, |first, event| first.or(event))
    }

    fn read(&mut self, datagram: BytesMut, now: Instant) -> Option<DtlsEvent> {
        let events = match self.endpoint.read(now, PUBLISHER, None, datagram) {
            Ok(events) => events,
            // after the handshake, what is broken costs only itself: anybody may send it
            Err(_) if self.is_established => return None,
            Err(why) => return Some(DtlsEvent::Failed(format!("the DTLS handshake failed: {why}"))),
        };
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => return Some(self.establish()),
                EndpointEvent::PeerClosed => return Some(DtlsEvent::Closed),
                _ => {}
            }
        }
        None
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), String> {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return Ok(());
        }
        self.endpoint
            .handle_timeout(PUBLISHER, now)
            .map_err(|why| format!("the DTLS handshake got no answer: {why}"))
    }

    /// Says goodbye (RFC 5246 §7.2.1).
    pub(crate) fn close(&mut self, now: Instant) {
        self.endpoint.stop(now, PUBLISHER);
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        // our last flight is repeated when the publisher repeats its own (RFC 6347 §4.2.4), not by time
        if self.is_established {
            return None;
        }
        self.endpoint.poll_timeout(&PUBLISHER)
    }

    fn establish(&mut self) -> DtlsEvent {
        let Some(state) = self.endpoint.get_connection_state(PUBLISHER) else {
            return DtlsEvent::Failed("the DTLS association is gone".to_owned());
        };
        let certificate = state.peer_certificates.first();
        if !certificate.is_some_and(|der| matches(&self.fingerprints, der)) {
            let why = "the publisher's certificate is not the one in its offer (RFC 8122 §6.2)";
            return DtlsEvent::Failed(why.to_owned());
        }
        let keys = SrtpKeys::from_dtls(state);
        match keys.and_then(|keys| Srtp::new(keys, Arc::clone(&self.crypto))) {
            Ok(srtp) => {
                self.is_established = true;
                DtlsEvent::Established(Box::new(srtp))
            }
            Err(why) => DtlsEvent::Failed(format!("no SRTP keys: {why}")),
        }
    }
}

/// Whether the certificate has one of the fingerprints (RFC 8122 §5).
fn matches(fingerprints: &[Fingerprint], der: &[u8]) -> bool {
    fingerprints.iter().any(|fingerprint| {
        let digest = match fingerprint.algorithm.to_ascii_lowercase().as_str() {
            "sha-256" => Sha256::digest(der).to_vec(),
            "sha-384" => Sha384::digest(der).to_vec(),
            "sha-512" => Sha512::digest(der).to_vec(),
            _ => return false,
        };
        digest == fingerprint.bytes
    })
}
