use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rtc::crypto::RTCCryptoProvider;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::dtls::state::State;
use rtc::rtp::Header;
use rtc::rtp::header::Extension;
use rtc::srtp::config::{Config, LABEL_EXTRACTOR_DTLS_SRTP, SessionKeys};
use rtc::srtp::context::Context;
use rtc::srtp::option::srtcp_replay_protection;
use rtc::srtp::protection_profile::ProtectionProfile;

use super::replay::{Place, ReplayWindow};
use crate::limits;
use crate::rtp::RtpHeader;

/// What DTLS gives SRTP to work with (RFC 5764 §4.2).
pub(crate) struct SrtpKeys {
    profile: ProtectionProfile,
    keys: SessionKeys,
}

impl SrtpKeys {
    pub(crate) fn from_dtls(state: &State) -> Result<Self, String> {
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            other => {
                return Err(format!(
                    "the publisher offers no SRTP profile that is taken ({other:?})"
                ));
            }
        };
        let mut config = Config {
            profile,
            ..Config::default()
        };
        let material = state
            .export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], config.keying_material_len())
            .map_err(|why| why.to_string())?;
        config
            .set_session_keys_from_keying_material(material.as_ref(), state.is_client())
            .map_err(|why| why.to_string())?;
        Ok(Self {
            profile,
            keys: config.keys,
        })
    }
}

/// Opens what the publisher sends and seals what it is sent.
///
/// Invariant: it remembers only sources that have proved to know the keys, at most [`limits::SESSION_SOURCES`] of them, so
/// forged packets cost nothing but their own check.
pub(crate) struct Srtp {
    keys: SrtpKeys,
    crypto: Arc<dyn RTCCryptoProvider>,
    sources: Vec<Source>,
    outbound: Context,
    /// Tells the library where the payload begins; used again for each packet.
    header: Header,
}

/// One of the publisher's synchronization sources.
struct Source {
    source: u32,
    context: Context,
    /// Of RTP; that of RTCP is the library's.
    window: ReplayWindow,
}

/// An RTP packet whose sender knows the keys.
pub(crate) enum Opened {
    New(Bytes),
    /// It has come before: it was duplicated on the way, sent again for nothing, or is a replay.
    Again(Bytes),
}

impl Srtp {
    pub(crate) fn new(keys: SrtpKeys, crypto: Arc<dyn RTCCryptoProvider>) -> Result<Self, String> {
        let sealing = (&keys.keys.local_master_key, &keys.keys.local_master_salt);
        let outbound = Context::new(sealing.0, sealing.1, keys.profile, None, None, crypto.crypto())
            .map_err(|why| why.to_string())?;
        Ok(Self {
            keys,
            crypto,
            sources: Vec::new(),
            outbound,
            header: Header::default(),
        })
    }

    /// Opens an RTP packet; `None` where it is forged, broken, or so old that nobody knows whether it was here before.
    pub(crate) fn open_rtp(&mut self, header: &RtpHeader, packet: &[u8]) -> Option<Opened> {
        set_header(&mut self.header, header);
        let known = self.sources.iter().position(|it| it.source == header.source);
        let Some(at) = known else {
            let mut source = self.inbound(header.source)?;
            let opened = source.open(header, &self.header, packet)?;
            self.sources.push(source);
            return Some(opened);
        };
        self.sources[at].open(header, &self.header, packet)
    }

    /// Opens an RTCP packet; `None` where it is forged, broken, or was here before.
    pub(crate) fn open_rtcp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        let (_, rest) = packet.split_first_chunk::<4>()?;
        let id = u32::from_be_bytes(*rest.first_chunk::<4>()?);
        if let Some(source) = self.sources.iter_mut().find(|it| it.source == id) {
            return source.context.decrypt_rtcp(packet).ok();
        }
        let mut source = self.inbound(id)?;
        let opened = source.context.decrypt_rtcp(packet).ok()?;
        self.sources.push(source);
        Some(opened)
    }

    /// Seals an RTCP packet.
    pub(crate) fn seal_rtcp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.outbound.encrypt_rtcp(packet).ok()
    }

    /// A new source.
    fn inbound(&self, source: u32) -> Option<Source> {
        if self.sources.len() >= limits::SESSION_SOURCES {
            return None;
        }
        let keys = &self.keys.keys;
        let context = Context::new(
            &keys.remote_master_key,
            &keys.remote_master_salt,
            self.keys.profile,
            None,
            Some(srtcp_replay_protection(limits::REPLAY_REPORTS)),
            self.crypto.crypto(),
        );
        Some(Source {
            source,
            context: context.ok()?,
            window: ReplayWindow::default(),
        })
    }
}

impl Source {
    fn open(&mut self, header: &RtpHeader, place: &Header, packet: &[u8]) -> Option<Opened> {
        let seen = self.window.place(header.sequence);
        if seen == Place::Beyond {
            return None;
        }
        let opened = self.context.decrypt_rtp_with_header(packet, place).ok()?.freeze();
        if seen == Place::Again {
            return Some(Opened::Again(opened));
        }
        self.window.accept(header.sequence);
        Some(Opened::New(opened))
    }
}

/// Makes `place` a header of the same source, number and length. Of a header the library needs no more, and reading one
/// its own way would allocate for each packet.
fn set_header(place: &mut Header, header: &RtpHeader) {
    static ZEROS: [u8; 2048] = [0; 2048];
    place.version = 2;
    place.ssrc = header.source;
    place.sequence_number = header.sequence;
    let beyond = header.len - 12;
    place.extension = beyond > 0;
    if place.extension {
        // an extension of no known profile is one opaque value (RFC 3550 §5.3.1)
        if place.extensions.is_empty() {
            place.extensions.push(Extension {
                id: 0,
                payload: Bytes::new(),
            });
        }
        let opaque = ZEROS.get(..beyond - 4).unwrap_or(&ZEROS);
        place.extensions[0].payload = Bytes::from_static(opaque);
    }
}
