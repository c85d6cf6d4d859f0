//! A WebRTC peer publishes over loopback to an [`Ingest`]. The peer is the same stack that the ingest uses, so this shows
//! that the parts are put together rightly; publishers that nobody here wrote are judged elsewhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use loom_core::{CodecParameters, Media, Packet, VideoParameters};
use loom_ingest::{CloseReason, Ingest, IngestConfig, IngestError, Session, SessionEvent};
use rtc::interceptor::Registry;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::rtp::{Header, Packet as RtpPacket};
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
    RTCPeerConnectionState, RTCSessionDescription,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A publisher of VP8 and Opus.
struct Publisher {
    connection: Arc<dyn PeerConnection>,
    connected: mpsc::UnboundedReceiver<()>,
    video: Arc<TrackLocalStaticRTP>,
    audio: Arc<TrackLocalStaticRTP>,
    sources: (u32, u32),
    sequence: u16,
}

struct Watcher {
    gathered: mpsc::UnboundedSender<()>,
    connected: mpsc::UnboundedSender<()>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Watcher {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.gathered.send(());
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            let _ = self.connected.send(());
        }
    }
}

impl Publisher {
    /// A publisher with its offer.
    async fn new(seed: u32) -> (Self, String) {
        let mut engine = MediaEngine::default();
        let codec = |name: &str, clock_rate, channels| RTCRtpCodec {
            mime_type: name.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: String::new(),
            rtcp_feedback: Vec::new(),
        };
        let (vp8, opus) = (codec("video/VP8", 90_000, 0), codec("audio/opus", 48_000, 2));
        for (codec, payload_type, kind) in
            [(&vp8, 96, RtpCodecKind::Video), (&opus, 111, RtpCodecKind::Audio)]
        {
            engine
                .register_codec(
                    RTCRtpCodecParameters {
                        rtp_codec: codec.clone(),
                        payload_type,
                    },
                    kind,
                )
                .unwrap();
        }
        let registry = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let (gathered_sender, mut gathered) = mpsc::unbounded_channel();
        let (connected_sender, connected) = mpsc::unbounded_channel();
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Watcher {
                gathered: gathered_sender,
                connected: connected_sender,
            }))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .unwrap();
        let connection: Arc<dyn PeerConnection> = Arc::new(connection);
        let sources = (seed, seed + 1);
        let track = |kind: RtpCodecKind, codec: RTCRtpCodec, source| {
            let coding = RTCRtpCodingParameters {
                ssrc: Some(source),
                ..Default::default()
            };
            let encoding = RTCRtpEncodingParameters {
                rtp_coding_parameters: coding,
                codec,
                ..Default::default()
            };
            let (stream, name) = ("stream".to_owned(), format!("track-{source}"));
            Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
                stream,
                name.clone(),
                name,
                kind,
                vec![encoding],
            )))
        };
        let video = track(RtpCodecKind::Video, vp8, sources.0);
        let audio = track(RtpCodecKind::Audio, opus, sources.1);
        connection
            .add_track(Arc::clone(&video) as Arc<dyn TrackLocal>)
            .await
            .unwrap();
        connection
            .add_track(Arc::clone(&audio) as Arc<dyn TrackLocal>)
            .await
            .unwrap();
        let offer = connection.create_offer(None).await.unwrap();
        connection.set_local_description(offer).await.unwrap();
        timeout(PATIENCE, gathered.recv()).await.unwrap();
        let offer = connection.local_description().await.unwrap().sdp;
        (
            Self {
                connection,
                connected,
                video,
                audio,
                sources,
                sequence: 0,
            },
            offer,
        )
    }

    async fn connect(&mut self, answer: &str) {
        let answer = RTCSessionDescription::answer(answer.to_owned()).unwrap();
        self.connection.set_remote_description(answer).await.unwrap();
        timeout(PATIENCE, self.connected.recv())
            .await
            .expect("the publisher connects")
            .unwrap();
    }

    /// Sends one key frame of this size and one packet of sound.
    async fn send(&mut self, width: u16, height: u16) {
        let mut frame = vec![0x10, 0x10, 0, 0, 0x9d, 0x01, 0x2a];
        frame.extend(width.to_le_bytes());
        frame.extend(height.to_le_bytes());
        frame.extend(self.sequence.to_be_bytes());
        self.sequence += 1;
        let packet = |payload_type, source, timestamp, payload: Vec<u8>, sequence| RtpPacket {
            header: Header {
                version: 2,
                marker: true,
                payload_type,
                sequence_number: sequence,
                timestamp,
                ssrc: source,
                ..Default::default()
            },
            payload: Bytes::from(payload),
        };
        let at = u32::from(self.sequence);
        let (sequence, (video, audio)) = (self.sequence, self.sources);
        self.video
            .write_rtp(packet(96, video, at * 1_800, frame, sequence))
            .await
            .unwrap();
        self.audio
            .write_rtp(packet(111, audio, at * 960, vec![0xf8, 1, 2], sequence))
            .await
            .unwrap();
    }
}

async fn ingest(change: impl FnOnce(&mut IngestConfig)) -> Ingest {
    let mut config = IngestConfig {
        udp: "127.0.0.1:0".parse().unwrap(),
        ..IngestConfig::default()
    };
    change(&mut config);
    Ingest::bind(config).await.unwrap()
}

async fn next(session: &mut Session) -> SessionEvent {
    timeout(PATIENCE, session.recv())
        .await
        .expect("an event comes")
        .expect("the session lives")
}

/// Sends until the session has shown a key frame; gives its parameters.
async fn first_key_frame(
    publisher: &mut Publisher,
    session: &mut Session,
    size: (u16, u16),
) -> VideoParameters {
    let mut parameters = None;
    for _ in 0..2_000 {
        publisher.send(size.0, size.1).await;
        while let Ok(event) = timeout(Duration::from_millis(10), session.recv()).await {
            match event.expect("the session lives") {
                SessionEvent::Media(Media::Format(format)) => {
                    if let CodecParameters::Video(video) = format.codec {
                        parameters = Some(video);
                    }
                }
                SessionEvent::Media(Media::Packet(Packet {
                    key: true,
                    duration: None,
                    ..
                })) => {
                    return parameters.expect("a format before the packet");
                }
                _ => {}
            }
        }
    }
    panic!("no key frame came");
}

async fn end(session: &mut Session) -> (usize, CloseReason) {
    let mut ended = 0;
    loop {
        match next(session).await {
            SessionEvent::Media(Media::End(_)) => ended += 1,
            SessionEvent::Closed(reason) => {
                assert!(session.recv().await.is_none(), "nothing comes after the end");
                return (ended, reason);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_publisher_connects_sends_and_hears_that_the_host_closes() {
    let ingest = ingest(|_| {}).await;
    let (mut publisher, offer) = Publisher::new(1_000).await;
    let (answer, mut session) = ingest.accept(&offer).await.unwrap();
    for (transport, kind) in [("udp", "host\r\n"), ("tcp", "host tcptype passive\r\n")] {
        let port = ingest.local_addr().port();
        let candidates = answer
            .sdp
            .lines()
            .filter(|line| line.contains(&format!(" 1 {transport} ")));
        let told: Vec<&str> = candidates.collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(format!("{}\r\n", told[0]).ends_with(&format!(" {port} typ {kind}")));
    }
    publisher.connect(&answer.sdp).await;
    assert_eq!(next(&mut session).await, SessionEvent::Connected);
    let video = first_key_frame(&mut publisher, &mut session, (640, 360)).await;
    assert_eq!((video.width, video.height), (640, 360));

    for _ in 0..50 {
        publisher.send(640, 360).await;
    }
    let last = publisher.sequence - 1;
    let handle = session.handle();
    let reason = loop {
        match next(&mut session).await {
            SessionEvent::Media(Media::Packet(packet)) if packet.duration.is_none() => {
                let end = packet.data.len() - 2;
                if packet.data[end..] == last.to_be_bytes() {
                    handle.close();
                }
            }
            SessionEvent::Closed(reason) => break reason,
            _ => {}
        }
    };
    assert_eq!(reason, CloseReason::ByHost);
    assert_eq!(ingest.session_count(), 0);
    publisher.connection.close().await.unwrap();
}

#[tokio::test]
async fn two_publishers_share_the_port_and_do_not_mix() {
    let ingest = ingest(|_| {}).await;
    let (mut one, one_offer) = Publisher::new(1_000).await;
    let (mut two, two_offer) = Publisher::new(1_000).await; // the same sources, as chance may have it
    let (one_answer, mut one_session) = ingest.accept(&one_offer).await.unwrap();
    let (two_answer, mut two_session) = ingest.accept(&two_offer).await.unwrap();
    one.connect(&one_answer.sdp).await;
    two.connect(&two_answer.sdp).await;
    let first = first_key_frame(&mut one, &mut one_session, (320, 180)).await;
    let second = first_key_frame(&mut two, &mut two_session, (640, 360)).await;
    assert_eq!((first.width, second.width), (320, 640));

    drop(one_session);
    let still = first_key_frame(&mut two, &mut two_session, (1280, 720)).await;
    assert_eq!(still.width, 1280, "the end of one does not disturb the other");
}

#[tokio::test]
async fn a_publisher_that_closes_ends_its_session() {
    let ingest = ingest(|_| {}).await;
    let (mut publisher, offer) = Publisher::new(1_000).await;
    let (answer, mut session) = ingest.accept(&offer).await.unwrap();
    publisher.connect(&answer.sdp).await;
    first_key_frame(&mut publisher, &mut session, (640, 360)).await;
    publisher.connection.close().await.unwrap();
    assert_eq!(end(&mut session).await, (2, CloseReason::ByPublisher));
}

#[tokio::test]
async fn a_publisher_that_vanishes_is_noticed() {
    let ingest = ingest(|config| {
        (config.idle_timeout, config.mute_timeout) = (Duration::from_millis(250), Duration::ZERO)
    })
    .await;
    let (mut publisher, offer) = Publisher::new(1_000).await;
    let (answer, mut session) = ingest.accept(&offer).await.unwrap();
    publisher.connect(&answer.sdp).await;
    first_key_frame(&mut publisher, &mut session, (640, 360)).await;
    assert_eq!(end(&mut session).await, (2, CloseReason::MediaTimeout));
}

#[tokio::test]
async fn a_publisher_that_never_connects_is_given_up() {
    let ingest = ingest(|config| config.connect_timeout = Duration::from_millis(50)).await;
    let (_publisher, offer) = Publisher::new(1_000).await;
    let (_, mut session) = ingest.accept(&offer).await.unwrap();
    assert_eq!(
        next(&mut session).await,
        SessionEvent::Closed(CloseReason::ConnectTimeout)
    );
}

#[tokio::test]
async fn one_publisher_too_many_is_refused_until_another_leaves() {
    let ingest = ingest(|config| config.max_sessions = 1).await;
    let (_publisher, offer) = Publisher::new(1_000).await;
    let (_, mut session) = ingest.accept(&offer).await.unwrap();
    assert!(matches!(
        ingest.accept(&offer).await,
        Err(IngestError::Full { limit: 1 })
    ));
    session.handle().close();
    assert_eq!(
        next(&mut session).await,
        SessionEvent::Closed(CloseReason::ByHost)
    );
    assert!(ingest.accept(&offer).await.is_ok());
}

#[tokio::test]
async fn a_refused_offer_leaves_nothing_behind() {
    let ingest = ingest(|_| {}).await;
    for offer in ["", "hello", "v=0\r\n"] {
        assert!(
            ingest.accept(offer).await.unwrap_err().is_bad_offer(),
            "{offer:?}"
        );
    }
    let (_publisher, offer) = Publisher::new(1_000).await;
    let broken = offer.replace("a=fingerprint:sha-256 ", "a=fingerprint:");
    assert!(ingest.accept(&broken).await.unwrap_err().is_bad_offer());
    assert_eq!(ingest.session_count(), 0);
}

#[tokio::test]
async fn an_ingest_that_is_dropped_closes_its_sessions() {
    let ingest = ingest(|_| {}).await;
    let (_publisher, offer) = Publisher::new(1_000).await;
    let (_, mut session) = ingest.accept(&offer).await.unwrap();
    drop(ingest);
    assert_eq!(
        next(&mut session).await,
        SessionEvent::Closed(CloseReason::ByHost)
    );
}
