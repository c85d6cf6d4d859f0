//! Thumbnails on sheets: one picture for many small ones, and a WebVTT track that says where each is.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use loom_core::{MediaTime, Picture, PictureFormat, RenditionId};

use crate::address;
use crate::limits;
use crate::publish::{Change, HlsOutput, Publish};
use crate::sheets::{Grid, Sheets};
use crate::webvtt::write_time;

/// How thumbnails are put on sheets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpriteConfig {
    /// Pictures beside each other on a sheet.
    pub columns: u32,
    /// Rows of them.
    pub rows: u32,
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// How far apart pictures are at first.
    pub every: Duration,
    /// After so many places, brought to whole sheets, pictures are twice as far apart; `None`: never.
    pub doubles_after: Option<NonZeroU32>,
}

impl Default for SpriteConfig {
    /// 5 × 5, every 2 s.
    fn default() -> Self {
        Self {
            columns: 5,
            rows: 5,
            quality: 72,
            every: Duration::from_secs(2),
            doubles_after: None,
        }
    }
}

/// Composes sheets, `thumbs/s0.jpg` and so on, and their track, `thumbs.vtt`: each cue names a place on a sheet as a media fragment
/// (`thumbs/s0.jpg#xywh=160,0,160,90`, Media Fragments §4.2.2). Each place stands for a stretch of time as well, for manifests that say no
/// more than how long a sheet is shown ([`Sheets`]): where no picture came in a stretch, its place has the one before.
///
/// A machine without IO: hand over pictures as they come, and take outputs after each. The newest sheet is written anew with each
/// picture and is final once it is full; the track is written anew after it.
///
/// ```
/// use bytes::Bytes;
/// use loom_core::{MediaTime, Picture, PictureFormat};
/// use loom_hls::{HlsOutput, SpriteConfig, Sprites};
///
/// let mut sprites = Sprites::new(SpriteConfig::default());
/// sprites.handle_picture(&Picture {
///     pts: MediaTime::ZERO,
///     width: 160,
///     height: 90,
///     format: PictureFormat::Rgb,
///     data: Bytes::from(vec![128; 160 * 90 * 3]),
/// });
/// sprites.finish(MediaTime::from_millis(1_500));
/// let mut keys = Vec::new();
/// while let Some(output) = sprites.poll_output() {
///     if let HlsOutput::Store { key, .. } = output {
///         keys.push(key);
///     }
/// }
/// assert!(keys.contains(&"thumbs/s0.jpg".to_owned()) && keys.contains(&"thumbs.vtt".to_owned()));
/// ```
#[derive(Debug)]
pub struct Sprites {
    config: SpriteConfig,
    /// One place on a sheet, pixels; as large as the first picture.
    cell: Option<(u32, u32)>,
    grid: Grid,
    /// Rows of RGB of the open sheet.
    pixels: Vec<u8>,
    /// RGB of the last picture, as large as a place.
    last: Vec<u8>,
    tiles: Vec<Tile>,
    /// Places that are filled.
    places: u64,
    /// The name of the track, and the folder of the sheets.
    names: (String, String),
    out: VecDeque<HlsOutput>,
}

#[derive(Debug, Clone, Copy)]
struct Tile {
    at: MediaTime,
    place: u64,
    width: u32,
    height: u32,
}

impl Sprites {
    /// No sheet yet. Counts and quality are brought into their ranges.
    pub fn new(config: SpriteConfig) -> Self {
        let config = SpriteConfig {
            columns: config.columns.clamp(1, 16),
            rows: config.rows.clamp(1, 16),
            quality: config.quality.clamp(1, 100),
            ..config
        };
        Self {
            config,
            cell: None,
            grid: Grid::new(config.every, config.doubles_after, config.columns * config.rows),
            pixels: Vec::new(),
            last: Vec::new(),
            tiles: Vec::new(),
            places: 0,
            names: (address::THUMBNAILS.to_owned(), address::SHEETS.to_owned()),
            out: VecDeque::new(),
        }
    }

    /// As [`Self::new`], for a picture aside: the track is `ASIDE.vtt`, and the sheets lie in the folder `sheets`.
    pub fn aside(config: SpriteConfig, aside: &RenditionId, sheets: &RenditionId) -> Self {
        Self {
            names: (format!("{aside}.vtt"), sheets.to_string()),
            ..Self::new(config)
        }
    }

    /// The sheets so far, for [`Packager::handle_sheets`](crate::Packager::handle_sheets); `None` while there is none.
    pub fn sheets(&self) -> Option<Sheets> {
        let cell = self.cell?;
        Some(Sheets {
            columns: self.config.columns,
            rows: self.config.rows,
            cell,
            grid: self.grid,
            places: self.places,
        })
    }

    /// Takes the picture that is seen from its time on. One that is no RGB, is larger than [`limits::THUMBNAIL_SIDE`], lies in no later
    /// stretch than the one before, or in one behind the first [`limits::THUMBNAILS`], is left out.
    pub fn handle_picture(&mut self, picture: &Picture) {
        let (width, height) = (picture.width, picture.height);
        let sides = 1..=limits::THUMBNAIL_SIDE;
        let sound = picture.format == PictureFormat::Rgb
            && sides.contains(&width)
            && sides.contains(&height)
            && picture.data.len() == width as usize * height as usize * 3;
        let place = self.grid.place(picture.pts);
        if !sound || place < self.places || place >= limits::THUMBNAILS as u64 {
            return;
        }
        let cell = *self.cell.get_or_insert((width, height));
        let tile = Tile {
            at: picture.pts.max(MediaTime::ZERO),
            place,
            width: width.min(cell.0),
            height: height.min(cell.1),
        };
        let own = cut(picture, tile, cell);
        if self.tiles.is_empty() {
            self.last.clone_from(&own); // it is shown from the start
        }
        while self.places < place {
            self.draw(cell);
            if self.places.is_multiple_of(self.grid_size()) {
                self.store_sheet(cell);
            }
        }
        self.last = own;
        self.draw(cell);
        self.tiles.push(tile);
        self.store_sheet(cell);
        self.publish();
        self.store_track(None);
    }

    /// The recording ends at `end`: the last picture is shown up to there.
    pub fn finish(&mut self, end: MediaTime) {
        if !self.tiles.is_empty() {
            self.store_track(Some(end));
        }
    }

    /// The next thing to do; `None` until more is handed over.
    #[must_use = "what is not carried out is missing from the recording"]
    pub fn poll_output(&mut self) -> Option<HlsOutput> {
        self.out.pop_front()
    }

    /// Places on a sheet.
    fn grid_size(&self) -> u64 {
        u64::from(self.config.columns * self.config.rows)
    }

    /// Where the n-th place lies on its sheet: column and row.
    fn place(&self, nth: u64) -> (u32, u32) {
        let nth = (nth % self.grid_size()) as u32;
        (nth % self.config.columns, nth / self.config.columns)
    }

    /// Puts the last picture in the next place.
    fn draw(&mut self, cell: (u32, u32)) {
        let (column, row) = self.place(self.places);
        let stride = (self.config.columns * cell.0) as usize * 3;
        if (column, row) == (0, 0) {
            self.pixels.clear();
        }
        // a sheet is as high as it has rows
        let height = ((row + 1) * cell.1) as usize;
        self.pixels.resize(stride * height, 0);
        let (left, top) = ((column * cell.0) as usize * 3, (row * cell.1) as usize);
        let wide = cell.0 as usize * 3;
        for (line, from) in self.last.chunks_exact(wide).enumerate() {
            let at = (top + line) * stride + left;
            self.pixels[at..at + wide].copy_from_slice(from);
        }
        self.places += 1;
    }

    fn store_sheet(&mut self, cell: (u32, u32)) {
        let width = self.config.columns * cell.0;
        let height = self.pixels.len() / (width as usize * 3);
        let mut jpeg = Vec::with_capacity(64 << 10);
        let mut encoder = Encoder::new(&mut jpeg, self.config.quality);
        encoder.set_sampling_factor(SamplingFactor::R_4_2_0);
        // both sides are below 16 bits: limits::THUMBNAIL_SIDE times at most 16
        if encoder
            .encode(&self.pixels, width as u16, height as u16, ColorType::Rgb)
            .is_err()
        {
            return;
        }
        let number = self.places.saturating_sub(1) / self.grid_size();
        self.out.push_back(HlsOutput::Store {
            key: address::sheet(&self.names.1, number),
            data: jpeg.into(),
        });
    }

    fn publish(&mut self) {
        if let Some(sheets) = self.sheets() {
            self.out.push_back(HlsOutput::Publish(Publish {
                rendition: None,
                change: Change::Sheets { sheets },
            }));
        }
    }

    fn store_track(&mut self, end: Option<MediaTime>) {
        self.out.push_back(HlsOutput::Store {
            key: self.names.0.clone(),
            data: self.track(end),
        });
    }

    fn track(&self, end: Option<MediaTime>) -> Bytes {
        let mut text = String::with_capacity(16 + self.tiles.len() * 80);
        text.push_str("WEBVTT\n\n");
        let (cell_width, cell_height) = self.cell.unwrap_or_default();
        for (nth, tile) in self.tiles.iter().enumerate() {
            // the first is shown from the start; each until the next, the last meanwhile as long as the one before it
            let from = if nth == 0 { MediaTime::ZERO } else { tile.at };
            let before = nth.checked_sub(1).map(|it| tile.at.since(self.tiles[it].at));
            let to = match (self.tiles.get(nth + 1), end) {
                (Some(next), _) => next.at,
                (None, Some(end)) => end,
                (None, None) => tile.at + before.unwrap_or(limits::THUMBNAIL_FIRST),
            };
            let (from, to) = (from.millis(), to.millis());
            write_time(&mut text, from);
            text.push_str(" --> ");
            write_time(&mut text, to.max(from + 1));
            let (column, row) = self.place(tile.place);
            let _ = writeln!(
                text,
                "\n{}#xywh={},{},{},{}\n",
                address::sheet(&self.names.1, tile.place / self.grid_size()),
                column * cell_width,
                row * cell_height,
                tile.width,
                tile.height
            );
        }
        text.into()
    }
}

/// A picture as large as a place: one that is larger is cut, a smaller one leaves the rest black.
fn cut(picture: &Picture, tile: Tile, cell: (u32, u32)) -> Vec<u8> {
    let wide = cell.0 as usize * 3;
    let mut own = vec![0; wide * cell.1 as usize];
    let taken = tile.width as usize * 3;
    let lines = picture.data.chunks_exact(picture.width as usize * 3);
    for (to, from) in own.chunks_exact_mut(wide).zip(lines.take(tile.height as usize)) {
        to[..taken].copy_from_slice(&from[..taken]);
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(seconds: i64, size: (u32, u32), colour: [u8; 3]) -> Picture {
        let pixels = (size.0 * size.1) as usize;
        Picture {
            pts: MediaTime::from_millis(seconds * 1_000),
            width: size.0,
            height: size.1,
            format: PictureFormat::Rgb,
            data: colour.repeat(pixels).into(),
        }
    }

    fn drained(sprites: &mut Sprites) -> Vec<(String, Bytes)> {
        let mut stored: Vec<(String, Bytes)> = Vec::new();
        while let Some(output) = sprites.poll_output() {
            if let HlsOutput::Store { key, data } = output {
                stored.retain(|(known, _)| *known != key);
                stored.push((key, data));
            }
        }
        stored
    }

    #[test]
    fn each_picture_has_a_place_and_the_time_until_the_next() {
        let mut sprites = Sprites::new(SpriteConfig {
            columns: 2,
            rows: 2,
            quality: 80,
            ..SpriteConfig::default()
        });
        for second in [0, 2, 4, 6, 8] {
            sprites.handle_picture(&picture(second, (16, 8), [10, 20, 30]));
        }
        sprites.handle_picture(&picture(8, (16, 8), [0, 0, 0]));
        sprites.handle_picture(&picture(9, (4000, 8), [0, 0, 0]));
        sprites.finish(MediaTime::from_millis(8_700));
        let stored = drained(&mut sprites);
        let names: Vec<&str> = stored.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(names, ["thumbs/s0.jpg", "thumbs/s1.jpg", "thumbs.vtt"]);
        assert_eq!(
            std::str::from_utf8(&stored[2].1).unwrap(),
            "WEBVTT\n\n\
             00:00:00.000 --> 00:00:02.000\nthumbs/s0.jpg#xywh=0,0,16,8\n\n\
             00:00:02.000 --> 00:00:04.000\nthumbs/s0.jpg#xywh=16,0,16,8\n\n\
             00:00:04.000 --> 00:00:06.000\nthumbs/s0.jpg#xywh=0,8,16,8\n\n\
             00:00:06.000 --> 00:00:08.000\nthumbs/s0.jpg#xywh=16,8,16,8\n\n\
             00:00:08.000 --> 00:00:08.700\nthumbs/s1.jpg#xywh=0,0,16,8\n\n"
        );
    }

    #[test]
    fn a_stretch_without_a_picture_has_the_one_before_so_that_places_tell_the_time() {
        let mut sprites = Sprites::new(SpriteConfig {
            columns: 2,
            rows: 2,
            ..SpriteConfig::default()
        });
        // two in one stretch, and five stretches without any
        for second in [1, 2, 3, 14] {
            sprites.handle_picture(&picture(second, (16, 8), [10, 20, 30]));
        }
        let stored = drained(&mut sprites);
        let names: Vec<&str> = stored.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(names, ["thumbs/s0.jpg", "thumbs/s1.jpg", "thumbs.vtt"]);
        assert_eq!(
            std::str::from_utf8(&stored[2].1).unwrap(),
            "WEBVTT\n\n\
             00:00:00.000 --> 00:00:02.000\nthumbs/s0.jpg#xywh=0,0,16,8\n\n\
             00:00:02.000 --> 00:00:14.000\nthumbs/s0.jpg#xywh=16,0,16,8\n\n\
             00:00:14.000 --> 00:00:26.000\nthumbs/s1.jpg#xywh=16,8,16,8\n\n"
        );
        let sheets = sprites.sheets().unwrap();
        assert_eq!((sheets.begun(), sheets.full()), (2, 2));
        assert_eq!(sheets.starts(1), MediaTime::from_millis(8_000));
    }

    #[test]
    fn a_foreign_reader_finds_each_colour_in_its_place() {
        let mut sprites = Sprites::new(SpriteConfig::default());
        let colours = [
            [250, 0, 0],
            [0, 250, 0],
            [0, 0, 250],
            [250, 250, 0],
            [0, 250, 250],
            [250, 0, 250],
        ];
        for (at, colour) in colours.into_iter().enumerate() {
            // one that is larger than the first is cut, a smaller one leaves the rest black
            let size = [(160, 90), (160, 90), (200, 160), (90, 90), (160, 90), (160, 90)][at];
            sprites.handle_picture(&picture(at as i64 * 2, size, colour));
        }
        let stored = drained(&mut sprites);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.jpg");
        std::fs::write(&path, &stored[0].1).unwrap();
        let decoded = std::process::Command::new("ffmpeg")
            .args(["-v", "error", "-i"])
            .arg(&path)
            .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
            .output();
        let Ok(decoded) = decoded else {
            eprintln!("SKIPPED: no ffmpeg to judge with");
            return;
        };
        let said = String::from_utf8_lossy(&decoded.stderr);
        assert!(said.is_empty(), "{said}");
        assert_eq!(decoded.stdout.len(), 800 * 180 * 3);
        let near = |x: usize, y: usize, colour: [u8; 3]| {
            let at = (y * 800 + x) * 3;
            let found = &decoded.stdout[at..at + 3];
            let close = found.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 24);
            assert!(close, "{x},{y}: {found:?} for {colour:?}");
        };
        for (at, colour) in colours.into_iter().enumerate() {
            near(at % 5 * 160 + 45, at / 5 * 90 + 45, colour);
        }
        near(3 * 160 + 130, 45, [0, 0, 0]);
        near(700, 150, [0, 0, 0]);
    }
}
