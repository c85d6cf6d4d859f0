//! A recording's thumbnails on their way to sheets, and to its preview: beside everything else, and left out first.

use std::num::NonZeroU32;
use std::sync::Arc;

use loom_core::{MediaTime, Picture, PictureFormat};
use loom_hls::{HlsOutput, Sheets, SpriteConfig, Sprites};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::EngineError;
#[cfg(feature = "transcode")]
use crate::preview::{self, Preview};
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
        let composer = Composer {
            recording: recording.clone(),
            sprites: Sprites::new(SpriteConfig {
                every: wanted.every,
                doubles_after: NonZeroU32::new(wanted.doubles_after),
                ..SpriteConfig::default()
            }),
            side: recording.shared.config.ladder.thumbnails.unwrap_or_default().side,
            #[cfg(feature = "transcode")]
            preview: Preview::default(),
        };
        Self {
            recording: recording.clone(),
            pictures,
            composer: tokio::spawn(compose(composer, waiting)),
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

    /// Puts what waits on its sheets, ends the track where the recording ends. Gives the sheets, where all are on disk.
    pub(crate) async fn finish(self) -> Option<Sheets> {
        drop(self.pictures);
        self.composer.await.ok().flatten()
    }
}

/// The graph's thumbnails as they are to come: large enough for the preview too.
pub(crate) fn wanted(ladder: Option<loom_transcode::Thumbnails>) -> Option<loom_transcode::Thumbnails> {
    #[cfg(feature = "transcode")]
    let ladder = ladder.map(|it| loom_transcode::Thumbnails {
        side: it.side.max(preview::SIDE),
        ..it
    });
    ladder
}

async fn compose(mut composer: Composer, mut waiting: mpsc::Receiver<Picture>) -> Option<Sheets> {
    loop {
        let picture = waiting.recv().await;
        let over = picture.is_none();
        // a JPEG takes a few milliseconds, and the disk may be slow
        let done = tokio::task::spawn_blocking(move || {
            let stored = match picture {
                Some(picture) => composer.handle_picture(&picture),
                None => composer.finish(),
            };
            (composer, stored)
        });
        match done.await {
            Ok((composed, Ok(()))) if !over => composer = composed,
            Ok((composed, Ok(()))) => return composed.sprites.sheets(),
            Ok((composed, Err(why))) => {
                tracing::warn!(recording = %composed.recording.id, error = %why, "no more thumbnails");
                return None;
            }
            Err(_) => return None,
        }
    }
}

/// Whoever puts pictures on sheets.
struct Composer {
    recording: Arc<Inner>,
    sprites: Sprites,
    /// The longer side of a picture on a sheet.
    side: u32,
    #[cfg(feature = "transcode")]
    preview: Preview,
}

impl Composer {
    fn handle_picture(&mut self, picture: &Picture) -> Result<(), EngineError> {
        #[cfg(feature = "transcode")]
        self.preview.handle_picture(picture);
        match smaller(picture, self.side) {
            Some(small) => self.sprites.handle_picture(&small),
            None => self.sprites.handle_picture(picture),
        }
        self.store()
    }

    fn finish(&mut self) -> Result<(), EngineError> {
        self.sprites
            .finish(MediaTime::from_secs_f64(self.recording.info().duration));
        self.store()?;
        #[cfg(feature = "transcode")]
        self.preview.hand_over(&self.recording);
        Ok(())
    }

    /// A sheet is on disk before the track that names it.
    fn store(&mut self) -> Result<(), EngineError> {
        while let Some(output) = self.sprites.poll_output() {
            match output {
                HlsOutput::Store { key, data } => {
                    self.recording.folder.put(&format!("hls/{key}"), &data)?;
                }
                HlsOutput::Publish(publish) => self.recording.publish(publish),
                _ => {}
            }
        }
        Ok(())
    }
}

/// An RGB picture made so small that its longer side is `side`, each pixel the mean of those it stands for; `None` where it is no larger.
pub(crate) fn smaller(picture: &Picture, side: u32) -> Option<Picture> {
    let longer = picture.width.max(picture.height);
    if picture.format != PictureFormat::Rgb || side == 0 || longer <= side {
        return None;
    }
    // both sides even, as what the graph makes
    let to = |it: u32| ((it * side + longer) / (2 * longer)).max(1) as usize * 2;
    let (width, height) = (to(picture.width), to(picture.height));
    let (from_width, from_height) = (picture.width as usize, picture.height as usize);
    let mut data = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        let rows = y * from_height / height..((y + 1) * from_height).div_ceil(height);
        for x in 0..width {
            let columns = x * from_width / width..((x + 1) * from_width).div_ceil(width);
            let count = (rows.len() * columns.len()) as u32;
            for part in 0..3 {
                let row = |y: usize| {
                    let at = move |x: usize| (y * from_width + x) * 3 + part;
                    columns.clone().map(at)
                };
                let sum: u32 = rows
                    .clone()
                    .flat_map(row)
                    .map(|at| u32::from(picture.data[at]))
                    .sum();
                data.push((sum / count) as u8);
            }
        }
    }
    Some(Picture {
        width: width as u32,
        height: height as u32,
        data: data.into(),
        ..picture.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_made_small_by_the_means_of_its_pixels() {
        let of = |width: u32, height: u32| Picture {
            pts: MediaTime::ZERO,
            width,
            height,
            format: PictureFormat::Rgb,
            data: (0..width * height)
                .flat_map(|at| {
                    [
                        if at % width < width / 2 { 10 } else { 50 },
                        (at % 2 * 100) as u8,
                        7,
                    ]
                })
                .collect::<Vec<u8>>()
                .into(),
        };
        let small = smaller(&of(320, 180), 160).expect("it is larger");
        assert_eq!((small.width, small.height), (160, 90));
        assert_eq!(small.data.len(), 160 * 90 * 3);
        assert_eq!(small.data[..3], [10, 50, 7]);
        assert_eq!(small.data[small.data.len() - 3..], [50, 50, 7]);
        assert!(smaller(&of(160, 90), 160).is_none());
        let odd = smaller(&of(200, 150), 160).expect("it is larger");
        assert_eq!((odd.width, odd.height), (160, 120));
    }
}
