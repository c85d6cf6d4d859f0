//! Takes WHIP publishers in and writes what they send: `cargo run -p loom-ingest --example whip-dump -- FOLDER [ADDRESS [UDP
//! ANNOUNCED]]`.
//!
//! Publish to `http://ADDRESS/any/whip` (127.0.0.1:8190 by default). Video goes to FOLDER as an H.264 byte stream or as
//! IVF, which ffprobe reads; every packet's times go to a CSV file beside it. UDP is the address for media, and ANNOUNCED the
//! IP address that publishers are told in its place, as behind a relay or a lossy link.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use loom_core::codec::h264::{parameter_sets, sample_nals};
use loom_core::{CodecParameters, Media, Packet, TrackFormat, TrackId, VideoCodec, VideoParameters};
use loom_ingest::whip::{Client, Patch, Published, Refusal, WhipHost, router};
use loom_ingest::{IceRestart, Ingest, IngestConfig, Session, SessionEvent, SessionHandle};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(
        arguments
            .next()
            .ok_or("say where to write: whip-dump FOLDER [ADDRESS]")?,
    );
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8190".to_owned());
    fs::create_dir_all(&folder)?;
    let mut config = IngestConfig::default();
    if let Some(udp) = arguments.next() {
        config.udp = udp.parse()?;
    }
    for announced in arguments {
        config.announce.push(announced.parse()?);
    }
    let ingest = Ingest::bind(config).await?;
    println!("media on udp {}", ingest.local_addr());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("publish to http://{}/any/whip", listener.local_addr()?);
    let host = Dump {
        ingest,
        folder,
        sessions: Mutex::default(),
    };
    let routes = router(Arc::new(host)).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, routes).await?;
    Ok(())
}

struct Dump {
    ingest: Ingest,
    folder: PathBuf,
    sessions: Mutex<HashMap<String, SessionHandle>>,
}

impl Dump {
    fn session(&self, session: &str) -> Result<SessionHandle, Refusal> {
        let sessions = self
            .sessions
            .lock()
            .map_err(|_| Refusal::new(500, "Broken", "a session's task panicked"))?;
        let known = sessions.get(session).cloned();
        known.ok_or_else(|| Refusal::not_found("the session has ended, or never was"))
    }
}

impl WhipHost for Dump {
    async fn authorize(
        &self,
        _endpoint: &str,
        session: Option<&str>,
        _client: Client<'_>,
    ) -> Result<(), Refusal> {
        session.map_or(Ok(()), |session| self.session(session).map(drop))
    }

    async fn publish(&self, endpoint: &str, client: Client<'_>, offer: String) -> Result<Published, Refusal> {
        let began = Instant::now();
        if std::env::var_os("WHIP_DUMP_SDP").is_some() {
            println!("{offer}");
        }
        let (answer, session) = self.ingest.accept_from(&offer, client.address).await?;
        if std::env::var_os("WHIP_DUMP_SDP").is_some() {
            println!("{}", answer.sdp);
        }
        println!(
            "{endpoint}: session {} of {:?} answered in {:?}",
            session.id(),
            client.address,
            began.elapsed()
        );
        let id = session.id().clone();
        if let Ok(mut sessions) = self.sessions.lock() {
            sessions.insert(id.to_string(), session.handle());
        }
        let folder = self.folder.join(endpoint);
        tokio::spawn(async move {
            if let Err(why) = dump(session, &folder, began).await {
                eprintln!("{}: {why}", folder.display());
            }
        });
        Ok(Published {
            session: id,
            answer,
            extensions: Vec::new(),
        })
    }

    async fn patch(
        &self,
        _endpoint: &str,
        session: &str,
        patch: &Patch,
    ) -> Result<Option<IceRestart>, Refusal> {
        let restart = self.session(session)?.patch(patch)?;
        println!(
            "{} candidates trickled, {restart:?}",
            patch.fragment.candidates.len()
        );
        Ok(restart)
    }

    async fn end(&self, _endpoint: &str, session: &str) -> Result<(), Refusal> {
        self.session(session)?.close();
        if let Ok(mut sessions) = self.sessions.lock() {
            sessions.remove(session);
        }
        Ok(())
    }
}

async fn dump(
    mut session: Session,
    folder: &Path,
    began: Instant,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    fs::create_dir_all(folder)?;
    let mut tracks: HashMap<TrackId, Written> = HashMap::new();
    let handle = session.handle();
    let mut asked = Instant::now();
    while let Some(event) = session.recv().await {
        match event {
            SessionEvent::Media(Media::Format(format)) => {
                println!(
                    "{:?} {}: {}",
                    began.elapsed(),
                    format.track,
                    format.codec.rfc6381()
                );
                match tracks.get_mut(&format.track) {
                    Some(written) => written.format = format,
                    None => {
                        tracks.insert(format.track, Written::new(folder, format)?);
                    }
                }
            }
            SessionEvent::Media(Media::Packet(packet)) => {
                let written = tracks
                    .get_mut(&packet.track)
                    .ok_or("a packet before its track's format")?;
                if written.packets == 0 {
                    println!(
                        "{:?} {}: first packet at {}",
                        began.elapsed(),
                        packet.track,
                        packet.pts
                    );
                }
                if matches!(written.format.codec, CodecParameters::Video(_)) && asked.elapsed().as_secs() >= 2
                {
                    asked = Instant::now();
                    handle.request_key_frame(packet.track);
                }
                written.packet(&packet)?;
            }
            other => println!("{:?} {other:?}", began.elapsed()),
        }
    }
    for (track, written) in tracks {
        println!(
            "{track}: {} packets, {} of them key, to {}",
            written.packets, written.keys, written.last
        );
    }
    Ok(())
}

struct Written {
    format: TrackFormat,
    media: File,
    times: File,
    packets: u64,
    keys: u64,
    last: loom_core::MediaTime,
}

impl Written {
    fn new(folder: &Path, format: TrackFormat) -> std::io::Result<Self> {
        let extension = match &format.codec {
            CodecParameters::Video(video) if video.codec == VideoCodec::H264 => "h264",
            CodecParameters::Video(_) => "ivf",
            CodecParameters::Audio(_) => "opus-packets",
        };
        let name = format!("track-{}", format.track.0);
        let mut media = File::create(folder.join(format!("{name}.{extension}")))?;
        let mut times = File::create(folder.join(format!("{name}.csv")))?;
        writeln!(times, "pts,dts,duration,key,bytes")?;
        if let CodecParameters::Video(video) = &format.codec
            && extension == "ivf"
        {
            media.write_all(&ivf_header(video))?;
        }
        Ok(Self {
            format,
            media,
            times,
            packets: 0,
            keys: 0,
            last: loom_core::MediaTime::ZERO,
        })
    }

    fn packet(&mut self, packet: &Packet) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.packets += 1;
        self.keys += u64::from(packet.key);
        self.last = packet.pts;
        let duration = packet.duration.unwrap_or_default().as_secs_f64();
        writeln!(
            self.times,
            "{:.6},{:.6},{duration:.6},{},{}",
            packet.pts.secs_f64(),
            packet.dts.secs_f64(),
            u8::from(packet.key),
            packet.data.len()
        )?;
        match &self.format.codec {
            CodecParameters::Video(video) if video.codec == VideoCodec::H264 => {
                if packet.key {
                    let (sps, pps) = parameter_sets(&video.config)?;
                    for set in sps.iter().chain(&pps) {
                        self.media.write_all(&[0, 0, 0, 1])?;
                        self.media.write_all(set)?;
                    }
                }
                for nal in sample_nals(&packet.data)? {
                    self.media.write_all(&[0, 0, 0, 1])?;
                    self.media.write_all(nal)?;
                }
            }
            CodecParameters::Video(_) => {
                self.media.write_all(&(packet.data.len() as u32).to_le_bytes())?;
                self.media.write_all(&packet.pts.millis().to_le_bytes())?;
                self.media.write_all(&packet.data)?;
            }
            CodecParameters::Audio(_) => {
                self.media.write_all(&(packet.data.len() as u32).to_le_bytes())?;
                self.media.write_all(&packet.data)?;
            }
        }
        Ok(())
    }
}

/// The file header of IVF, with milliseconds as its time base.
fn ivf_header(video: &VideoParameters) -> Vec<u8> {
    let name = match video.codec {
        VideoCodec::Vp8 => b"VP80",
        VideoCodec::Vp9 => b"VP90",
        VideoCodec::Av1 => b"AV01",
        VideoCodec::H264 => b"H264",
        VideoCodec::Hevc => b"HEVC",
    };
    let mut header = b"DKIF\0\0\x20\0".to_vec();
    header.extend(name);
    header.extend((video.width as u16).to_le_bytes());
    header.extend((video.height as u16).to_le_bytes());
    header.extend(1_000u32.to_le_bytes());
    header.extend(1u32.to_le_bytes());
    header.extend([0; 8]);
    header
}
