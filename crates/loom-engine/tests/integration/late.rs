//! Publishers whose microphone and second picture begin seconds later than the first, or come only with another session: real packets,
//! by a WebRTC stack over loopback. The pictures are made by ffmpeg, where that is installed.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use loom_core::MediaKind;
use loom_engine::{
    Engine, EngineConfig, Event, HlsAnswer, Recording, RecordingId, RecordingState, TrackState, Wanted,
};

use crate::support::config;
use rtc::interceptor::Registry;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::rtp::codec::h264::H264Payloader;
use rtc::rtp::packetizer::Payloader;
use rtc::rtp::{Header, Packet};
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
    RTCPeerConnectionState, RTCSessionDescription,
};

const PATIENCE: Duration = Duration::from_secs(30);
const PICTURE: Duration = Duration::from_millis(40);
/// A packet of Opus: 20 ms of CELT (RFC 6716 §3.1).
const SOUND: &[u8] = &[0xf8, 0xff, 0xfe];

/// A second of H.264 at 25 pictures a second, one access unit each, the first a key frame; `None`, loudly, without ffmpeg.
pub(crate) fn film() -> Option<Vec<Bytes>> {
    let source = "testsrc2=size=320x180:rate=25:duration=1";
    let x264 = "keyint=25:min-keyint=25:scenecut=0:bframes=0:aud=1:threads=1:sliced-threads=0";
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"])
        .args(["-c:v", "libx264", "-profile:v", "baseline", "-x264-params", x264])
        .args(["-f", "h264", "-"])
        .output();
    let Some(made) = made.ok().filter(|made| made.status.success()) else {
        eprintln!("SKIPPED: no ffmpeg to make a film with");
        return None;
    };
    let data = Bytes::from(made.stdout);
    let delimiter = [0, 0, 0, 1, 9];
    let mut starts: Vec<usize> = (0..data.len().saturating_sub(5))
        .filter(|at| data[*at..at + 5] == delimiter)
        .collect();
    assert_eq!(starts.len(), 25, "a delimiter before each picture");
    starts.push(data.len());
    Some(starts.windows(2).map(|two| data.slice(two[0]..two[1])).collect())
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

/// What is sent of one track.
struct Sender {
    track: Arc<TrackLocalStaticRTP>,
    payload_type: u8,
    source: u32,
    sequence: u16,
}

impl Sender {
    fn new(kind: RtpCodecKind, codec: RTCRtpCodec, payload_type: u8, source: u32) -> Self {
        let coding = RTCRtpCodingParameters {
            ssrc: Some(source),
            ..Default::default()
        };
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: coding,
            codec,
            ..Default::default()
        };
        let name = format!("track-{source}");
        let track = MediaStreamTrack::new("stream".to_owned(), name.clone(), name, kind, vec![encoding]);
        Self {
            track: Arc::new(TrackLocalStaticRTP::new(track)),
            payload_type,
            source,
            sequence: 0,
        }
    }

    async fn send(&mut self, timestamp: u32, payloads: Vec<Bytes>) {
        let last = payloads.len() - 1;
        for (at, payload) in payloads.into_iter().enumerate() {
            let header = Header {
                version: 2,
                marker: at == last,
                payload_type: self.payload_type,
                sequence_number: self.sequence,
                timestamp,
                ssrc: self.source,
                ..Default::default()
            };
            self.sequence = self.sequence.wrapping_add(1);
            self.track
                .write_rtp(Packet { header, payload })
                .await
                .expect("it is sent");
        }
    }
}

/// A screen; or a microphone, a screen and a camera.
pub(crate) struct Publisher {
    connection: Arc<dyn PeerConnection>,
    connected: mpsc::UnboundedReceiver<()>,
    microphone: Option<Sender>,
    pictures: Vec<Sender>,
}

impl Publisher {
    /// A publisher with its offer; `all`: not of a screen alone.
    pub(crate) async fn new(all: bool) -> (Self, String) {
        let codec = |name: &str, clock_rate, channels, fmtp: &str| RTCRtpCodec {
            mime_type: name.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: fmtp.to_owned(),
            rtcp_feedback: Vec::new(),
        };
        let profile = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
        let h264 = codec("video/H264", 90_000, 0, profile);
        let opus = codec("audio/opus", 48_000, 2, "");
        let mut engine = MediaEngine::default();
        for (codec, payload_type, kind) in [
            (&h264, 96, RtpCodecKind::Video),
            (&opus, 111, RtpCodecKind::Audio),
        ] {
            let parameters = RTCRtpCodecParameters {
                rtp_codec: codec.clone(),
                payload_type,
            };
            engine.register_codec(parameters, kind).expect("a codec");
        }
        let registry = register_default_interceptors(Registry::new(), &mut engine).expect("interceptors");
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
            .expect("a connection");
        let connection: Arc<dyn PeerConnection> = Arc::new(connection);
        let microphone = all.then(|| Sender::new(RtpCodecKind::Audio, opus, 111, 1_000));
        let picture = |source| Sender::new(RtpCodecKind::Video, h264.clone(), 96, source);
        let sources = if all { &[2_000, 3_000][..] } else { &[2_000] };
        let pictures: Vec<_> = sources.iter().copied().map(picture).collect();
        for sender in microphone.iter().chain(&pictures) {
            let track = Arc::clone(&sender.track) as Arc<dyn TrackLocal>;
            connection.add_track(track).await.expect("a track");
        }
        let offer = connection.create_offer(None).await.expect("an offer");
        connection
            .set_local_description(offer)
            .await
            .expect("it is taken");
        timeout(PATIENCE, gathered.recv()).await.expect("candidates");
        let offer = connection.local_description().await.expect("an offer").sdp;
        let publisher = Self {
            connection,
            connected,
            microphone,
            pictures,
        };
        (publisher, offer)
    }

    pub(crate) async fn connect(&mut self, answer: &str) {
        let answer = RTCSessionDescription::answer(answer.to_owned()).expect("an answer");
        self.connection
            .set_remote_description(answer)
            .await
            .expect("it is taken");
        timeout(PATIENCE, self.connected.recv())
            .await
            .expect("it connects");
    }

    /// Sends at the pace of the media: the screen from the beginning, each of the others from its own picture on.
    pub(crate) async fn send(&mut self, film: &[Bytes], pictures: u32, microphone: u32, camera: u32) {
        let began = Instant::now();
        for at in 0..pictures {
            sleep_until(began + PICTURE * at).await;
            for (sender, begins) in self.pictures.iter_mut().zip([0, camera]) {
                if let Some(own) = at.checked_sub(begins) {
                    let unit = &film[own as usize % film.len()];
                    let payloads = H264Payloader::default().payload(1_200, unit).expect("payloads");
                    sender.send(at * 3_600, payloads).await;
                }
            }
            for half in [0, 1] {
                if let Some(sender) = self.microphone.as_mut().filter(|_| at >= microphone) {
                    let payloads = vec![Bytes::from_static(SOUND)];
                    sender.send(at * 1_920 + half * 960, payloads).await;
                }
            }
        }
    }
}

pub(crate) async fn playlist(recording: &Recording, id: &str) -> m3u8_rs::MediaPlaylist {
    match recording.hls(&format!("{id}/index.m3u8"), None).await {
        HlsAnswer::Ready { body, .. } => {
            m3u8_rs::parse_media_playlist_res(&body).expect("a media playlist that others read")
        }
        other => panic!("{id}: {other:?}"),
    }
}

/// Whether each segment is a gap.
pub(crate) fn gaps(playlist: &m3u8_rs::MediaPlaylist) -> Vec<bool> {
    let is_gap = |segment: &m3u8_rs::MediaSegment| {
        let tags = &segment.unknown_tags;
        tags.iter().any(|tag| tag.tag == "X-GAP")
    };
    playlist.segments.iter().map(is_gap).collect()
}

pub(crate) async fn engine(folder: &Path) -> Engine {
    let config = EngineConfig {
        ladder: Wanted {
            aac: true,
            ..Wanted::source_only()
        },
        ..config(&folder.join("data"))
    };
    Engine::start(config).await.expect("the engine starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_microphone_and_a_picture_that_begin_late_are_recorded_from_then_on() {
    let Some(film) = film() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path()).await;
    let recording = engine.create(RecordingId::random()).expect("a recording");
    let (mut publisher, offer) = Publisher::new(true).await;
    let answer = recording.publish(&offer).await.expect("an answer");
    publisher.connect(&answer.sdp).await;
    let mut events = recording.events();
    // The screen is recorded from the beginning, sound from the 7th second on, the camera from the 8th.
    publisher.send(&film, 325, 175, 200).await;
    answer.handle.close();

    let mut told = Vec::new();
    while let Some(event) = timeout(PATIENCE * 4, events.next()).await.expect("it ends") {
        if let Event::Tracks { tracks } = event {
            told.push(tracks);
        }
    }
    let sounds: Vec<TrackState> = (told.iter().flatten())
        .filter(|track| track.kind == MediaKind::Audio)
        .map(|track| track.state)
        .collect();
    let running = sounds.iter().position(|state| *state == TrackState::Running);
    assert!(
        sounds.first() == Some(&TrackState::Paused) && running.is_some(),
        "{told:?}"
    );
    let info = recording.info();
    assert!(
        info.tracks.len() == 3 && info.tracks.iter().all(|it| !it.renditions.is_empty()),
        "{info:?}"
    );

    let source = playlist(&recording, "source").await;
    let camera = playlist(&recording, "video-2").await;
    let all = source.segments.len();
    for (id, listed) in [
        ("opus", playlist(&recording, "opus").await),
        ("aac", playlist(&recording, "aac").await),
    ] {
        assert_eq!(listed.segments.len(), all, "{id}");
        assert_eq!(
            gaps(&listed),
            vec![false; all],
            "{id}: until it begins it is silence"
        );
    }
    assert_eq!(camera.segments.len(), all);
    let (gaps, length) = (gaps(&camera), |it: &m3u8_rs::MediaSegment| f64::from(it.duration));
    let absent: f64 = camera
        .segments
        .iter()
        .zip(&gaps)
        .filter(|(_, gap)| **gap)
        .map(|(it, _)| length(it))
        .sum();
    assert!((5.0..=8.5).contains(&absent), "{absent} s of gaps: {camera:?}");
    assert!(
        gaps.is_sorted_by(|one, other| one >= other),
        "gaps, and then none: {gaps:?}"
    );
    for (own, other) in camera.segments.iter().zip(&source.segments) {
        assert!((length(own) - length(other)).abs() < 0.1, "{own:?} {other:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_who_comes_back_with_a_microphone_and_a_camera_has_them_recorded_from_then_on() {
    let Some(film) = film() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path()).await;
    let recording = engine.create(RecordingId::random()).expect("a recording");
    let (mut first, offer) = Publisher::new(false).await;
    let answer = recording.publish(&offer).await.expect("an answer");
    first.connect(&answer.sdp).await;
    first.send(&film, 125, 0, 0).await;
    let (mut second, offer) = Publisher::new(true).await;
    let answer = recording.publish(&offer).await.expect("an answer");
    second.connect(&answer.sdp).await;
    second.send(&film, 150, 0, 0).await;
    answer.handle.close();
    let mut events = recording.events();
    while timeout(PATIENCE * 4, events.next())
        .await
        .expect("it ends")
        .is_some()
    {}

    let info = recording.info();
    assert!(
        info.tracks.len() == 3 && info.tracks.iter().all(|it| !it.renditions.is_empty()),
        "{info:?}"
    );
    assert_eq!(info.gaps.len(), 1, "{info:?}");
    let all = playlist(&recording, "source").await.segments.len();
    for id in ["opus", "aac", "video-2"] {
        let listed = playlist(&recording, id).await;
        assert_eq!(listed.segments.len(), all, "{id}");
        let gaps = gaps(&listed);
        let absent: f64 = (listed.segments.iter().zip(&gaps))
            .filter(|(_, gap)| **gap)
            .map(|(it, _)| f64::from(it.duration))
            .sum();
        assert!(
            (4.0..=9.0).contains(&absent),
            "{id}: {absent} s of gaps: {listed:?}"
        );
        assert!(
            gaps.is_sorted_by(|one, other| one >= other) && gaps.last() == Some(&false),
            "{id}: gaps, and then none: {gaps:?}"
        );
    }
    for (name, wanted) in [
        ("main.m3u8", "source/index.m3u8"),
        ("video-2.m3u8", "video-2/index.m3u8"),
    ] {
        let HlsAnswer::Ready { body, .. } = recording.hls(name, None).await else {
            panic!("{name} is missing");
        };
        let listed = m3u8_rs::parse_master_playlist_res(&body).expect("others read it");
        let mut variants = listed.variants.iter().filter(|it| !it.is_i_frame);
        assert!(variants.all(|it| it.uri == wanted), "{listed:?}");
        let sounds: Vec<_> = listed
            .alternatives
            .iter()
            .filter_map(|it| it.uri.as_deref())
            .collect();
        assert_eq!(sounds, ["aac/index.m3u8"], "{name}");
    }
}

/// On one thread, so that a task which never waits would hold everything.
#[test]
fn a_second_session_that_goes_before_any_media_came_holds_nobody() {
    let (done, over) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let folder = tempfile::tempdir().expect("a folder");
            let engine = engine(folder.path()).await;
            let recording = engine.create(RecordingId::random()).expect("a recording");
            let mut answers = Vec::new();
            for _ in 0..2 {
                let (_publisher, offer) = Publisher::new(false).await;
                answers.push(recording.publish(&offer).await.expect("an answer"));
            }
            recording.hang_up(&answers[1].session).expect("the second goes");
            tokio::time::sleep(Duration::from_millis(200)).await;
            recording.hang_up(&answers[0].session).expect("the first goes");
            let mut events = recording.events();
            while events.next().await.is_some() {}
            assert_eq!(recording.info().state, RecordingState::Failed);
        });
        done.send(())
    });
    over.recv_timeout(PATIENCE * 4)
        .expect("the recording ends: nothing holds the thread for ever");
}
