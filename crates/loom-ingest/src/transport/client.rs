//! The publisher's side of a connection for tests, out of the library's own DTLS and SRTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rtc::crypto::RTCCryptoProvider;
use rtc::dtls::config::{ConfigBuilder, HandshakeConfig};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::rtp::header::{EXTENSION_PROFILE_ONE_BYTE, Extension};
use rtc::rtp::{Header, Packet};
use rtc::shared::TransportProtocol;
use rtc::shared::marshal::Marshal;
use rtc::srtp::config::{Config, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc::srtp::context::Context;
use rtc::srtp::protection_profile::ProtectionProfile;
use sha2::{Digest, Sha256};

use crate::sdp::Fingerprint;

/// A publisher that connects as a DTLS client.
pub(crate) struct Client {
    pub(crate) fingerprint: Fingerprint,
    crypto: Arc<dyn RTCCryptoProvider>,
    config: Arc<HandshakeConfig>,
    endpoint: Endpoint,
    keys: Option<(Context, Context)>,
    /// What was agreed on.
    pub(crate) profile: Option<ProtectionProfile>,
    pub(crate) is_closed: bool,
    sequence: u16,
}

/// The sources that its offer declares.
pub(crate) const AUDIO: u32 = 1_000;
pub(crate) const VIDEO: u32 = 2_000;

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

impl Client {
    pub(crate) fn new(profiles: &[SrtpProtectionProfile]) -> Self {
        let crypto = rtc::crypto::default_provider().unwrap();
        let certificate =
            Certificate::generate_self_signed(vec!["client".to_owned()], crypto.crypto()).unwrap();
        let fingerprint = Fingerprint {
            algorithm: "sha-256".to_owned(),
            bytes: Sha256::digest(&certificate.certificate[0]).to_vec(),
        };
        let config = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&crypto))
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(profiles.to_vec())
            .with_insecure_skip_verify(true)
            .with_server_name("server".to_owned())
            .build(true, None)
            .unwrap();
        Self {
            fingerprint,
            crypto,
            config: Arc::new(config),
            endpoint: Endpoint::new(SERVER, TransportProtocol::UDP, None),
            keys: None,
            profile: None,
            is_closed: false,
            sequence: 100,
        }
    }

    /// Opus and VP8, both with arrival times fed back.
    pub(crate) fn offer(&self) -> String {
        let hex = self.fingerprint.bytes.iter().map(|byte| format!("{byte:02X}"));
        let fingerprint = hex.collect::<Vec<_>>().join(":");
        let section = |media: &str, mid, format: &str, source| {
            format!(
                "m={media} 9 UDP/TLS/RTP/SAVPF {}\r\na=mid:{mid}\r\na=sendonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
                 a=ice-ufrag:EsAw\r\na=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y\r\na=setup:actpass\r\n\
                 a=fingerprint:sha-256 {fingerprint}\r\n\
                 a=extmap:5 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
                 a=rtpmap:{format}\r\na=rtcp-fb:* transport-cc\r\na=ssrc:{source} cname:c\r\n",
                format.split(' ').next().unwrap_or_default(),
            )
        };
        let session = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n";
        let audio = section("audio", 0, "111 opus/48000/2", AUDIO);
        session.to_owned() + &audio + &section("video", 1, "96 VP8/90000", VIDEO)
    }

    pub(crate) fn connect(&mut self, now: Instant) {
        self.endpoint
            .connect(now, SERVER, Arc::clone(&self.config), None)
            .unwrap();
    }

    pub(crate) fn close(&mut self, now: Instant) {
        self.endpoint.stop(now, SERVER);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.keys.is_some()
    }

    /// Takes a DTLS datagram.
    pub(crate) fn handle_dtls(&mut self, datagram: &[u8], now: Instant) {
        let events = self
            .endpoint
            .read(now, SERVER, None, BytesMut::from(datagram))
            .unwrap_or_default();
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => self.take_keys(),
                EndpointEvent::PeerClosed => self.is_closed = true,
                _ => {}
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.endpoint.poll_timeout(&SERVER).is_some_and(|due| due <= now) {
            self.endpoint.handle_timeout(SERVER, now).unwrap();
        }
    }

    pub(crate) fn poll_dtls(&mut self) -> Option<Bytes> {
        self.endpoint
            .poll_transmit()
            .map(|transmit| transmit.message.freeze())
    }

    /// The next 20 ms of silence.
    pub(crate) fn audio(&mut self) -> Bytes {
        self.sequence += 1;
        let header = Header {
            ssrc: AUDIO,
            payload_type: 111,
            sequence_number: self.sequence,
            timestamp: u32::from(self.sequence) * 960,
            extension: true,
            extension_profile: EXTENSION_PROFILE_ONE_BYTE,
            extensions: vec![Extension {
                id: 5,
                payload: Bytes::copy_from_slice(&self.sequence.to_be_bytes()),
            }],
            ..Header::default()
        };
        self.rtp(header, &[0xf8, 0xff, 0xfe])
    }

    /// A sealed RTP packet.
    pub(crate) fn rtp(&mut self, header: Header, payload: &[u8]) -> Bytes {
        let header = Header { version: 2, ..header };
        let packet = Packet {
            header,
            payload: Bytes::copy_from_slice(payload),
        };
        let plain = packet.marshal().unwrap();
        let (out, _) = self.keys.as_mut().unwrap();
        out.encrypt_rtp(&plain).unwrap().freeze()
    }

    /// A sealed RTCP packet.
    pub(crate) fn rtcp(&mut self, packet: &dyn rtc::rtcp::Packet) -> Bytes {
        let plain = packet.marshal().unwrap();
        let (out, _) = self.keys.as_mut().unwrap();
        out.encrypt_rtcp(&plain).unwrap().freeze()
    }

    /// Opens RTCP that we sent.
    pub(crate) fn open_rtcp(&mut self, datagram: &[u8]) -> Vec<Box<dyn rtc::rtcp::Packet>> {
        let (_, inbound) = self.keys.as_mut().unwrap();
        let plain = inbound.decrypt_rtcp(datagram).unwrap();
        rtc::rtcp::packet::unmarshal(&mut plain.freeze()).unwrap()
    }

    fn take_keys(&mut self) {
        let state = self.endpoint.get_connection_state(SERVER).unwrap();
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
            _ => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let mut config = Config {
            profile,
            ..Config::default()
        };
        let material = state
            .export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], config.keying_material_len())
            .unwrap();
        config
            .set_session_keys_from_keying_material(material.as_ref(), true)
            .unwrap();
        let context = |key: &[u8], salt: &[u8]| {
            Context::new(key, salt, profile, None, None, self.crypto.crypto()).unwrap()
        };
        self.profile = Some(profile);
        self.keys = Some((
            context(&config.keys.local_master_key, &config.keys.local_master_salt),
            context(&config.keys.remote_master_key, &config.keys.remote_master_salt),
        ));
    }
}
