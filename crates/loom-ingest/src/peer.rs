//! The WebRTC stack behind one session: the only file that speaks to `webrtc` and `rtc` of connections.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use loom_core::{MediaKind, NtpTime};
use rtc::crypto::{RTCCryptoProvider, SignatureScheme};
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{Interceptor, NackGeneratorBuilder, Packet, Registry, Slot, StreamInfo, TaggedPacket};
use rtc::peer_connection::certificate::{CertificateParams, RTCCertificate};
use rtc::peer_connection::configuration::interceptor_registry::{
    configure_rtcp_reports, configure_simulcast_extension_headers, configure_twcc_receiver_only,
};
use rtc::peer_connection::transport::{RTCDtlsRole, RTCDtlsTransportState};
use rtc::rtcp::goodbye::Goodbye;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp_transceiver::rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use tokio::sync::{mpsc, watch};
use tracing::{debug, warn};
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCPeerConnectionState, RTCSessionDescription, SettingEngineBuilder,
};

use crate::demux::IceCredentials;
use crate::error::IngestError;
use crate::limits;
use crate::media::{RtpFormat, RtpPacket};
use crate::net::{LANE_ADDRESS, Lane};
use crate::sdp::{DtlsRole, Offer};

/// What the stack hands to the session.
#[derive(Debug)]
pub(crate) enum Inbound {
    Packet(RtpPacket),
    /// A sender report (RFC 3550 §6.4.1).
    Report {
        source: u32,
        ntp: NtpTime,
        timestamp: u32,
    },
    /// The sources say that they end (RFC 3550 §6.6).
    Bye(Vec<u32>),
}

/// How the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Connecting,
    Connected,
    Failed,
}

/// What every session's stack shares: one DTLS certificate and one source of randomness.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) crypto: Arc<dyn RTCCryptoProvider>,
    certificate: RTCCertificate,
}

impl Identity {
    pub(crate) fn generate() -> Result<Self, IngestError> {
        let failed = |why: String| IngestError::Webrtc {
            what: "making a DTLS certificate",
            why,
        };
        let crypto = rtc::crypto::default_provider().map_err(|why| failed(why.to_string()))?;
        let params =
            CertificateParams::new(vec!["loom".to_owned()]).map_err(|why| failed(why.to_string()))?;
        let certificate = RTCCertificate::generate(crypto.crypto(), SignatureScheme::EcdsaP256Sha256, params)
            .map_err(|why| failed(why.to_string()))?;
        Ok(Self { crypto, certificate })
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

/// One publisher's connection.
pub(crate) struct Peer {
    connection: Arc<dyn PeerConnection>,
    handler: Arc<Handler>,
    link: watch::Receiver<Link>,
}

impl Peer {
    /// Takes the offer and gives the connection and the stack's own answer.
    pub(crate) async fn accept(
        offer: &Offer,
        identity: &Identity,
        lane: &Lane,
        credentials: &IceCredentials,
        inbox: mpsc::Sender<Inbound>,
    ) -> Result<(Self, String), IngestError> {
        let (link_sender, link) = watch::channel(Link::Connecting);
        let handler = Arc::new(Handler {
            link: link_sender,
            tracks: Mutex::default(),
        });
        let (engine, registry) = media_engine(offer, inbox).map_err(refused("preparing codecs"))?;
        let role = match offer.role {
            DtlsRole::Active => RTCDtlsRole::Client,
            DtlsRole::Passive => RTCDtlsRole::Server,
        };
        let settings = SettingEngineBuilder::new()
            .with_lite(true)
            .with_ice_credentials(credentials.fragment.to_string(), credentials.password.to_string())
            .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(ICE_FAILED), None)
            .with_ice_connection_attempts(Some(Duration::from_millis(20)), None)
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_include_loopback_candidate(true)
            .with_srtp_replay_protection_window(limits::REPLAY_PACKETS)
            .with_answering_dtls_role(role)
            .with_crypto_provider(Arc::clone(&identity.crypto))
            .build();
        let configuration = RTCConfigurationBuilder::new()
            .with_certificates(vec![identity.certificate.clone()])
            .build();
        let connection = PeerConnectionBuilder::new()
            .with_configuration(configuration)
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_interceptor_registry(registry)
            .with_runtime(lane.runtime())
            .with_handler(Arc::clone(&handler) as Arc<dyn PeerConnectionEventHandler>)
            .with_udp_addrs(vec![LANE_ADDRESS])
            .build()
            .await
            .map_err(refused("opening a connection"))?;
        let connection: Arc<dyn PeerConnection> = Arc::new(connection);
        let peer = Self {
            connection,
            handler,
            link,
        };
        match peer.negotiate(offer).await {
            Ok(answer) => Ok((peer, answer)),
            Err(why) => {
                peer.close().await;
                // the stack parsed what our own checks let through: what it refuses is the offer's fault
                Err(IngestError::BadOffer { why: why.to_string() })
            }
        }
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Asks the sender of `source` for a key frame (RFC 4585 §6.3.1).
    pub(crate) fn request_key_frame(&self, source: u32) {
        let track = self.handler.lock().tracks.last().cloned();
        match track {
            Some(track) => send_key_frame_request(track, source),
            None => self.handler.lock().pending.push(source),
        }
    }

    /// Whether the publisher has closed its DTLS session. The connection's state does not tell: it stays "connected".
    pub(crate) async fn is_closed_by_publisher(&self) -> bool {
        for receiver in self.connection.get_receivers().await {
            if let Ok(Some(transport)) = receiver.transport().await
                && let Ok(state) = transport.state().await
            {
                return matches!(
                    state,
                    RTCDtlsTransportState::Closed | RTCDtlsTransportState::Failed
                );
            }
        }
        false
    }

    pub(crate) async fn close(&self) {
        if let Err(why) = self.connection.close().await {
            debug!(%why, "closing a connection");
        }
    }

    async fn negotiate(&self, offer: &Offer) -> Result<String, Error> {
        let remote = RTCSessionDescription::offer(offer.reduced.clone())?;
        self.connection.set_remote_description(remote).await?;
        let answer = self.connection.create_answer(None).await?;
        let text = answer.sdp.clone();
        self.connection.set_local_description(answer).await?;
        Ok(text)
    }
}

/// After this without a STUN request the stack calls the connection disconnected, which changes nothing for us.
const ICE_DISCONNECTED: Duration = Duration::from_secs(15);
/// And after this much more it gives up. RFC 7675 §5.1 has publishers ask for consent every 5 s or so.
const ICE_FAILED: Duration = Duration::from_secs(30);
/// How often missing packets are asked for again. A third of the reorder buffer's wait at most.
const NACK_INTERVAL: Duration = Duration::from_millis(60);
/// How often one packet is asked for.
const NACKS_A_PACKET: u16 = 5;
/// Application-most: after everything that counts arrivals.
const TAP_SLOT: usize = 20_000;

fn refused(what: &'static str) -> impl Fn(Error) -> IngestError {
    move |why| IngestError::Webrtc {
        what,
        why: why.to_string(),
    }
}

/// The codecs of the offer and what runs on its packets.
fn media_engine(offer: &Offer, inbox: mpsc::Sender<Inbound>) -> Result<(MediaEngine, Registry), Error> {
    let mut engine = MediaEngine::default();
    let mut known = Vec::new();
    for section in &offer.sections {
        for format in &section.formats {
            if !known.contains(&format.payload_type) {
                known.push(format.payload_type);
                let (codec, kind) = codec(format, section.kind);
                engine.register_codec(codec, kind)?;
            }
        }
    }
    for (typ, parameter) in [("nack", ""), ("nack", "pli"), ("ccm", "fir")] {
        let feedback = RTCPFeedback {
            typ: typ.to_owned(),
            parameter: parameter.to_owned(),
        };
        engine.register_feedback(feedback, RtpCodecKind::Video);
    }
    configure_simulcast_extension_headers(&mut engine)?;
    let registry = configure_twcc_receiver_only(Registry::new(), &mut engine)?;
    let registry = configure_rtcp_reports(registry);
    let nacks = NackGeneratorBuilder::new()
        .with_interval(NACK_INTERVAL)
        .with_max_nacks_per_packet(NACKS_A_PACKET)
        .build();
    let tap = Tap {
        inbox,
        read: VecDeque::new(),
        write: VecDeque::new(),
        dropped: 0,
    };
    Ok((
        engine,
        registry
            .with(Slot::NackGenerator, nacks)
            .with(Slot::from(TAP_SLOT), tap),
    ))
}

fn codec(format: &RtpFormat, kind: MediaKind) -> (RTCRtpCodecParameters, RtpCodecKind) {
    let (prefix, channels, kind) = match kind {
        MediaKind::Video => ("video", 0, RtpCodecKind::Video),
        MediaKind::Audio => ("audio", 2, RtpCodecKind::Audio),
    };
    let codec = RTCRtpCodec {
        mime_type: format!("{prefix}/{}", format.codec.name()),
        clock_rate: format.codec.scale().hz(),
        channels,
        sdp_fmtp_line: format.parameters.clone(),
        rtcp_feedback: Vec::new(),
    };
    (
        RTCRtpCodecParameters {
            rtp_codec: codec,
            payload_type: format.payload_type,
        },
        kind,
    )
}

/// Sends without waiting: the stack's own queue may be full, and callers must not block.
fn send_key_frame_request(track: Arc<dyn TrackRemote>, source: u32) {
    tokio::spawn(async move {
        let request = PictureLossIndication {
            sender_ssrc: 0,
            media_ssrc: source,
        };
        if let Err(why) = track.write_rtcp(vec![Box::new(request)]).await {
            debug!(%why, "a key-frame request was not sent");
        }
    });
}

/// Hears the stack's events. Runs on its driver: it must never wait.
struct Handler {
    link: watch::Sender<Link>,
    tracks: Mutex<Tracks>,
}

#[derive(Default)]
struct Tracks {
    tracks: Vec<Arc<dyn TrackRemote>>,
    /// Sources that a key frame was asked of before there was a track to ask by.
    pending: Vec<u32>,
}

impl Handler {
    fn lock(&self) -> std::sync::MutexGuard<'_, Tracks> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let link = match state {
            RTCPeerConnectionState::Connected => Link::Connected,
            RTCPeerConnectionState::Failed => Link::Failed,
            _ => return,
        };
        self.link.send_replace(link);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let mut tracks = self.lock();
        for source in tracks.pending.drain(..) {
            send_key_frame_request(Arc::clone(&track), source);
        }
        tracks.tracks.push(track);
    }
}

/// Takes media and reports off the interceptor chain, with the instant at which they came.
///
/// What it takes goes no further: the stack's own track queue would drop it when 256 events wait.
struct Tap {
    inbox: mpsc::Sender<Inbound>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
    dropped: u64,
}

impl Tap {
    fn put(&mut self, inbound: Inbound) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.inbox.try_send(inbound) {
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                warn!(
                    dropped = self.dropped,
                    "a session does not keep up; its packets are dropped"
                );
            }
        }
    }

    fn take_rtp(&mut self, packet: rtc::rtp::Packet, now: Instant) {
        let header = packet.header;
        self.put(Inbound::Packet(RtpPacket {
            source: header.ssrc,
            payload_type: header.payload_type,
            sequence: header.sequence_number,
            timestamp: header.timestamp,
            marker: header.marker,
            payload: packet.payload,
            arrived: now,
            mid: None,
            rid: None,
        }));
    }

    fn take_rtcp(&mut self, packets: &[Box<dyn rtc::rtcp::Packet>]) {
        for packet in packets {
            let packet = packet.as_any();
            if let Some(report) = packet.downcast_ref::<SenderReport>() {
                self.put(Inbound::Report {
                    source: report.ssrc,
                    ntp: NtpTime(report.ntp_time),
                    timestamp: report.rtp_time,
                });
            } else if let Some(bye) = packet.downcast_ref::<Goodbye>() {
                self.put(Inbound::Bye(bye.sources.clone()));
            }
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        match packet.message.packet {
            Packet::Rtp(rtp) => self.take_rtp(rtp, packet.now),
            Packet::Rtcp(ref reports) => {
                self.take_rtcp(reports);
                self.read.push_back(packet);
            }
            _ => self.read.push_back(packet),
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.write.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for Tap {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}
