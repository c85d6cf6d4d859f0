//! Receives by `loom-ingest`: `receive-loom ADDRESS FOLDER`.

use std::sync::{Arc, PoisonError};

use anyhow::Result;
use loom_bench_ingest::receive::{Folder, arguments, serve};
use loom_core::codec::h264::{parameter_sets, sample_nals};
use loom_core::{CodecParameters, Media, TrackFormat};
use loom_ingest::{Ingest, IngestConfig, Session, SessionEvent};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (address, folder) = arguments()?;
    let config = IngestConfig {
        udp: "127.0.0.1:0".parse()?,
        max_sessions: 4_096,
        ..IngestConfig::default()
    };
    let ingest = Arc::new(Ingest::bind(config).await?);
    let written = folder.clone();
    serve(&address, &folder, move |name, offer| {
        answer(Arc::clone(&ingest), written.clone(), name, offer)
    })
    .await
}

async fn answer(ingest: Arc<Ingest>, folder: Folder, name: String, offer: String) -> Result<String> {
    let (answer, session) = ingest.accept(&offer).await?;
    tokio::spawn(async move {
        if let Err(why) = write(session, &folder, &name).await {
            eprintln!("{name}: {why:#}");
        }
    });
    Ok(answer.sdp)
}

async fn write(mut session: Session, folder: &Folder, name: &str) -> Result<()> {
    let written = folder.publisher(name)?;
    let mut formats: Vec<TrackFormat> = Vec::new();
    while let Some(event) = session.recv().await {
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            SessionEvent::Media(Media::Format(format)) => {
                formats.retain(|known| known.track != format.track);
                formats.push(format);
            }
            SessionEvent::Media(Media::Packet(packet)) => {
                match formats
                    .iter()
                    .find(|format| format.track == packet.track)
                    .map(|format| &format.codec)
                {
                    Some(CodecParameters::Video(video)) => {
                        // The parameter sets are told with the format, and stand before each key frame of a byte stream.
                        let (sps, pps) = match packet.key {
                            true => parameter_sets(&video.config)?,
                            false => Default::default(),
                        };
                        let sets = sps.iter().chain(&pps).map(|set| set.as_ref());
                        written.picture(
                            sets.chain(sample_nals(&packet.data)?.into_iter().map(|nal| nal.as_ref())),
                        )?;
                    }
                    _ => written.sound(&packet.data)?,
                }
            }
            SessionEvent::Media(Media::Gap(_)) => written.gap(),
            _ => {}
        }
    }
    Ok(())
}
