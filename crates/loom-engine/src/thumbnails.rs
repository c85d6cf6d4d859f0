//! A recording's thumbnails on their way to sheets: beside everything else, and left out first.

use std::num::NonZeroU32;
use std::sync::Arc;

use loom_core::{MediaTime, Picture};
use loom_hls::{HlsOutput, Sheets, SpriteConfig, Sprites};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::EngineError;
use crate::recording::Inner;

/// Pictures that wait for their sheet; live, further ones are left out.
const QUEUE: usize = 4;

/// The way of thumbnails to their sheets.
#[derive(Debug)]
pub(crate) struct Thumbnails {
    recording: Arc<Inner>,
    pictures: mpsc::Sender<Picture>,
    composer: JoinHandle<Option<Sheets>>,
}

impl Thumbnails {
    /// `wanted` says when the pictures come.
    pub(crate) fn start(recording: &Arc<Inner>, wanted: loom_transcode::Thumbnails) -> Self {
        let (pictures, waiting) = mpsc::channel(QUEUE);
        let sprites = Sprites::new(SpriteConfig {
            every: wanted.every,
            doubles_after: NonZeroU32::new(wanted.doubles_after),
            ..SpriteConfig::default()
        });
        Self {
            recording: recording.clone(),
            pictures,
            composer: tokio::spawn(compose(recording.clone(), sprites, waiting)),
        }
    }

    /// Live it never waits: a picture that finds the queue full is left out.
    pub(crate) async fn push(&self, picture: Picture) {
        if !self.recording.state_now().is_live() {
            let _ = self.pictures.send(picture).await;
        } else if self.pictures.try_send(picture).is_err() {
            metrics::counter!("loom_thumbnails_dropped_total").increment(1);
        }
    }

    /// Puts what waits on its sheets and ends the track where the recording ends. Gives the sheets, where all are on disk.
    pub(crate) async fn finish(self) -> Option<Sheets> {
        drop(self.pictures);
        self.composer.await.ok().flatten()
    }
}

async fn compose(
    recording: Arc<Inner>,
    mut sprites: Sprites,
    mut waiting: mpsc::Receiver<Picture>,
) -> Option<Sheets> {
    loop {
        let picture = waiting.recv().await;
        let over = picture.is_none();
        let end = MediaTime::from_secs_f64(recording.info().duration);
        let working = recording.clone();
        // a JPEG takes a few milliseconds, and the disk may be slow
        let done = tokio::task::spawn_blocking(move || {
            match picture {
                Some(picture) => sprites.handle_picture(&picture),
                None => sprites.finish(end),
            }
            let stored = store(&working, &mut sprites);
            (sprites, stored)
        });
        match done.await {
            Ok((composed, Ok(()))) if !over => sprites = composed,
            Ok((composed, Ok(()))) => return composed.sheets(),
            Ok((_, Err(why))) => {
                tracing::warn!(recording = %recording.id, error = %why, "no more thumbnails");
                return None;
            }
            Err(_) => return None,
        }
    }
}

/// A sheet is on disk before the track that names it.
fn store(recording: &Inner, sprites: &mut Sprites) -> Result<(), EngineError> {
    while let Some(output) = sprites.poll_output() {
        match output {
            HlsOutput::Store { key, data } => recording.folder.put(&format!("hls/{key}"), &data)?,
            HlsOutput::Publish(publish) => recording.publish(publish),
            _ => {}
        }
    }
    Ok(())
}
