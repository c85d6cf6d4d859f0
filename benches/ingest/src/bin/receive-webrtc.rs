//! Receives by the `webrtc` crate as it comes, with its default interceptors: `receive-webrtc ADDRESS FOLDER`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use loom_bench_ingest::receive::{Folder, Written, arguments, serve};
use rtc::interceptor::Registry;
use rtc::media::io::sample_builder::SampleBuilder;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::rtp::codec::h264::H264Packet;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::watch;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceGatheringState, RTCSessionDescription, SettingEngineBuilder,
};

type Connections = Arc<Mutex<Vec<Arc<dyn PeerConnection>>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (address, folder) = arguments()?;
    let connections = Connections::default();
    let written = folder.clone();
    serve(&address, &folder, move |name, offer| {
        publish(Arc::clone(&connections), written.clone(), name, offer)
    })
    .await
}

async fn publish(connections: Connections, folder: Folder, name: String, offer: String) -> Result<String> {
    let (connection, answer) = answer(&folder, &name, offer).await?;
    connections
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(connection);
    Ok(answer)
}

async fn answer(folder: &Folder, name: &str, offer: String) -> Result<(Arc<dyn PeerConnection>, String)> {
    let mut engine = MediaEngine::default();
    engine.register_default_codecs()?;
    let registry = register_default_interceptors(Registry::new(), &mut engine)?;
    let settings = SettingEngineBuilder::new()
        .with_lite(true)
        .with_include_loopback_candidate(true)
        .build();
    let (gathered, mut gathering) = watch::channel(false);
    let handler = Handler {
        gathered,
        written: folder.publisher(name)?,
    };
    let connection = PeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        .with_media_engine(engine)
        .with_setting_engine(settings)
        .with_interceptor_registry(registry)
        .with_handler(Arc::new(handler) as Arc<dyn PeerConnectionEventHandler>)
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .build()
        .await?;
    let connection: Arc<dyn PeerConnection> = Arc::new(connection);
    connection
        .set_remote_description(RTCSessionDescription::offer(offer)?)
        .await?;
    let answer = connection.create_answer(None).await?;
    connection.set_local_description(answer).await?;
    gathering.wait_for(|done| *done).await?;
    let local = connection.local_description().await;
    let text = local
        .map(|local| local.sdp)
        .ok_or_else(|| anyhow::anyhow!("no local description"))?;
    Ok((connection, text))
}

struct Handler {
    gathered: watch::Sender<bool>,
    written: Arc<Mutex<Written>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.send_replace(true);
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let written = Arc::clone(&self.written);
        let is_video = track.kind().await == RtpCodecKind::Video;
        tokio::spawn(async move {
            let mut pictures = SampleBuilder::new(512, H264Packet::default(), 90_000);
            while let Some(event) = track.poll().await {
                let TrackRemoteEvent::OnRtpPacket(packet) = event else {
                    continue;
                };
                let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
                if !is_video {
                    if let Err(why) = written.sound(&packet.payload) {
                        return eprintln!("{why:#}");
                    }
                    continue;
                }
                let now = Instant::now();
                pictures.push(now, packet);
                while let Some(sample) = pictures.pop(now) {
                    for _ in 0..sample.prev_dropped_packets.min(1) {
                        written.gap();
                    }
                    if let Err(why) = written.picture_stream(&sample.data) {
                        return eprintln!("{why:#}");
                    }
                }
            }
        });
    }
}
