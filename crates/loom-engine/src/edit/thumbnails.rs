//! The thumbnails of the pieces on new sheets, and a poster: nothing of what was left out is seen on either.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use loom_core::{MediaTime, Picture, PictureFormat};
use loom_hls::{HlsOutput, SpriteConfig, Sprites, read_cues};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;

use super::Placed;
use super::plan::Plan;
use crate::error::EngineError;
use crate::packaging::{Packaging, Work};
use crate::recording::Inner;
use crate::thumbnails::Thumbnails;

/// Makes them. Those of a recording that cannot be read are left out.
pub(super) async fn make(
    recording: &Arc<Inner>,
    plan: &Plan,
    placed: &[Placed],
    packaging: &Packaging,
) -> Result<(), EngineError> {
    let sources: Vec<Arc<Inner>> = plan.pieces.iter().map(|it| it.recording.0.clone()).collect();
    let wanted = placed.to_vec();
    let found = tokio::task::spawn_blocking(move || pictures(&sources, &wanted));
    let pictures = found.await.map_err(|_| EngineError::ShuttingDown)??;
    poster(recording, plan, placed, pictures.first())?;
    if pictures.is_empty() {
        return Ok(());
    }
    let every = recording.shared.config.ladder.thumbnails.unwrap_or_default();
    let thumbnails = Thumbnails::start(recording, every);
    for picture in pictures {
        thumbnails.push(picture).await;
    }
    if let Some(sheets) = thumbnails.finish().await {
        packaging.send(Work::Sheets(sheets)).await;
    }
    Ok(())
}

/// The pictures that are seen in the pieces, at their new times. Blocks.
fn pictures(sources: &[Arc<Inner>], placed: &[Placed]) -> Result<Vec<Picture>, EngineError> {
    let mut all = Vec::new();
    let mut sheets: HashMap<(usize, String), Option<Sheet>> = HashMap::new();
    for it in placed {
        let folder = &sources[it.piece].folder;
        let Some(track) = folder.read("hls/thumbs.vtt", 0, None)? else {
            continue;
        };
        sheets.retain(|(piece, _), _| *piece == it.piece);
        // a picture is seen from its own instant on: the one before a piece shows what was left out
        let shown = read_cues(&track)?;
        for cue in shown.into_iter().filter(|cue| it.holds(cue.start)) {
            let Some((file, place)) = cue.text.split_once("#xywh=") else {
                continue;
            };
            let sheet = sheets.entry((it.piece, file.to_owned())).or_insert_with(|| {
                let jpeg = folder.read(&format!("hls/{file}"), 0, None).ok().flatten()?;
                Sheet::decode(&jpeg)
            });
            if let Some(picture) = sheet.as_ref().and_then(|it| it.cut(place)) {
                all.push(Picture {
                    pts: it.moved(cue.start),
                    ..picture
                });
            }
        }
    }
    Ok(all)
}

/// The poster of the first piece's recording where that begins as the new one does, else the first thumbnail.
fn poster(
    recording: &Inner,
    plan: &Plan,
    placed: &[Placed],
    first: Option<&Picture>,
) -> Result<(), EngineError> {
    let begins = placed
        .first()
        .is_some_and(|it| it.from < MediaTime::from_millis(100));
    let own = &plan.pieces[0].recording.0.folder;
    let whole = placed
        .first()
        .is_some_and(|it| it.to > MediaTime::from_millis(LATEST_POSTER));
    if begins
        && whole
        && let Some(jpeg) = own.read("poster.jpg", 0, None)?
    {
        return recording.folder.put("poster.jpg", &jpeg);
    }
    let mut sprites = Sprites::new(SpriteConfig {
        columns: 1,
        rows: 1,
        ..SpriteConfig::default()
    });
    first
        .into_iter()
        .for_each(|picture| sprites.handle_picture(picture));
    while let Some(output) = sprites.poll_output() {
        if let HlsOutput::Store { key, data } = output
            && key.ends_with(".jpg")
        {
            return recording.folder.put("poster.jpg", &data);
        }
    }
    Ok(())
}

/// A poster is one of the first pictures: it is kept where so many milliseconds of the beginning are.
const LATEST_POSTER: i64 = 5_000;

/// A sheet, decoded: RGB.
struct Sheet {
    width: usize,
    pixels: Vec<u8>,
}

impl Sheet {
    fn decode(jpeg: &Bytes) -> Option<Self> {
        let mut decoder = JpegDecoder::new(ZCursor::new(&jpeg[..]));
        let pixels = decoder.decode().ok()?;
        let (width, _) = decoder.dimensions()?;
        Some(Self { width, pixels })
    }

    /// The picture at `X,Y,WIDTH,HEIGHT` (Media Fragments §4.2.2).
    fn cut(&self, place: &str) -> Option<Picture> {
        let numbers: Vec<usize> = place.split(',').filter_map(|it| it.trim().parse().ok()).collect();
        let [x, y, width, height] = numbers[..] else {
            return None;
        };
        if x.checked_add(width)? > self.width {
            return None;
        }
        let mut data = Vec::with_capacity(width.checked_mul(height)?.checked_mul(3)?.min(self.pixels.len()));
        for line in y..y.checked_add(height)? {
            let from = (line.checked_mul(self.width)? + x) * 3;
            data.extend_from_slice(self.pixels.get(from..from + width * 3)?);
        }
        Some(Picture {
            pts: MediaTime::ZERO,
            width: u32::try_from(width).ok()?,
            height: u32::try_from(height).ok()?,
            format: PictureFormat::Rgb,
            data: data.into(),
        })
    }
}
