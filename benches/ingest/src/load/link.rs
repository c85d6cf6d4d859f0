//! DTLS and SRTP of one publisher, without IO.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use bytes::BytesMut;
use rtc::crypto::RTCCryptoProvider;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::dtls::state::State;
use rtc::shared::TransportProtocol;
use rtc::srtp::config::{Config, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc::srtp::context::Context;
use rtc::srtp::protection_profile::ProtectionProfile;
use sha2::{Digest, Sha256};

/// What all publishers of a process share.
pub struct Identity {
    crypto: Arc<dyn RTCCryptoProvider>,
    client: Arc<HandshakeConfig>,
    server: Arc<HandshakeConfig>,
    /// Of the certificate, as `a=fingerprint` has it.
    pub fingerprint: String,
}

impl Identity {
    pub fn generate() -> Result<Self> {
        let crypto = rtc::crypto::default_provider().map_err(|why| anyhow!("{why}"))?;
        let certificate = Certificate::generate_self_signed(vec!["load".to_owned()], crypto.crypto())?;
        let digest = Sha256::digest(&certificate.certificate[0]);
        let fingerprint: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        let config = |is_client| -> Result<Arc<HandshakeConfig>> {
            let config = ConfigBuilder::default()
                .with_crypto_provider(Arc::clone(&crypto))
                .with_certificates(vec![certificate.clone()])
                // What Chromium offers, in its order, less AEAD_AES_256_GCM, which some receivers like best and others do not
                // have: a longer key costs more, and what is compared is the receivers.
                .with_srtp_protection_profiles(vec![
                    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
                    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                ])
                .with_client_auth(ClientAuthType::RequireAnyClientCert)
                .with_insecure_skip_verify(true)
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                .build(is_client, None)?;
            Ok(Arc::new(config))
        };
        Ok(Self {
            client: config(true)?,
            server: config(false)?,
            crypto: Arc::clone(&crypto),
            fingerprint: fingerprint.join(":"),
        })
    }
}

/// Keys, once there are any.
pub struct Keys {
    pub send: Context,
    pub receive: Context,
    pub profile: &'static str,
}

/// One DTLS association.
pub struct Link {
    endpoint: Endpoint,
}

/// The endpoint keeps associations by address, and here there is only one.
const THERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

impl Link {
    pub fn new(identity: &Identity, receiver_is_active: bool) -> Result<Self> {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 8));
        let server = receiver_is_active.then(|| Arc::clone(&identity.server));
        Ok(Self {
            endpoint: Endpoint::new(here, TransportProtocol::UDP, server),
        })
    }

    /// Opens the handshake, where that is ours to do.
    pub fn open(&mut self, identity: &Identity, now: Instant) -> Result<()> {
        self.endpoint
            .connect(now, THERE, Arc::clone(&identity.client), None)?;
        Ok(())
    }

    pub fn handle(&mut self, identity: &Identity, datagram: &[u8], now: Instant) -> Result<Option<Keys>> {
        for event in self.endpoint.read(now, THERE, None, BytesMut::from(datagram))? {
            if matches!(event, EndpointEvent::HandshakeComplete) {
                let state = self
                    .endpoint
                    .get_connection_state(THERE)
                    .context("no association")?;
                return Ok(Some(keys(state, identity)?));
            }
        }
        Ok(None)
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        // Not yet opened is no failure.
        let _ = self.endpoint.handle_timeout(THERE, now);
    }

    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.endpoint.poll_transmit().map(|sent| sent.message)
    }

    /// Says goodbye (RFC 5246 §7.2.1).
    pub fn close(&mut self, now: Instant) {
        let _ = self.endpoint.close(now);
    }
}

fn keys(state: &State, identity: &Identity) -> Result<Keys> {
    let (profile, name) = match state.srtp_protection_profile() {
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => {
            (ProtectionProfile::AeadAes128Gcm, "AEAD_AES_128_GCM")
        }
        _ => (ProtectionProfile::Aes128CmHmacSha1_80, "AES128_CM_HMAC_SHA1_80"),
    };
    let mut config = Config {
        profile,
        ..Config::default()
    };
    let material =
        state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], config.keying_material_len())?;
    config.set_session_keys_from_keying_material(material.as_ref(), state.is_client())?;
    let (keys, crypto) = (&config.keys, identity.crypto.crypto());
    Ok(Keys {
        send: Context::new(
            &keys.local_master_key,
            &keys.local_master_salt,
            profile,
            None,
            None,
            crypto,
        )?,
        receive: Context::new(
            &keys.remote_master_key,
            &keys.remote_master_salt,
            profile,
            None,
            None,
            crypto,
        )?,
        profile: name,
    })
}
