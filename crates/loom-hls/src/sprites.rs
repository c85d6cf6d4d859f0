//! Thumbnails on sheets: one picture for many small ones, and a WebVTT track that says where each is.

use std::collections::VecDeque;
use std::fmt::Write as _;

use bytes::Bytes;
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use loom_core::{MediaTime, Picture, PictureFormat};

use crate::address;
use crate::limits;
use crate::publish::{Change, HlsOutput, Publish};
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
}

impl Default for SpriteConfig {
    /// 5 × 5.
    fn default() -> Self {
        Self {
            columns: 5,
            rows: 5,
            quality: 72,
        }
    }
}

/// Composes sheets, `thumbs/s0.jpg` and so on, and their track, `thumbs.vtt`: each cue names a place on a sheet as a media fragment
/// (`thumbs/s0.jpg#xywh=160,0,160,90`, Media Fragments §4.2.2).
///
/// A machine without IO: hand over pictures as they come, and take outputs after each. The newest sheet is written anew with each
/// picture and is final once it is full; the track is written anew after it.
#[derive(Debug)]
pub struct Sprites {
    config: SpriteConfig,
    /// One place on a sheet, pixels; as large as the first picture.
    cell: Option<(u32, u32)>,
    /// Rows of RGB of the open sheet.
    pixels: Vec<u8>,
    tiles: Vec<Tile>,
    /// Tiles on sheets that are full.
    closed: usize,
    out: VecDeque<HlsOutput>,
}

#[derive(Debug, Clone, Copy)]
struct Tile {
    at: MediaTime,
    width: u32,
    height: u32,
}

impl Sprites {
    /// No sheet yet. Counts and quality are brought into their ranges.
    pub fn new(config: SpriteConfig) -> Self {
        Self {
            config: SpriteConfig {
                columns: config.columns.clamp(1, 16),
                rows: config.rows.clamp(1, 16),
                quality: config.quality.clamp(1, 100),
            },
            cell: None,
            pixels: Vec::new(),
            tiles: Vec::new(),
            closed: 0,
            out: VecDeque::new(),
        }
    }

    /// Takes the picture that is seen from its time on. One that is no RGB, is larger than [`limits::THUMBNAIL_SIDE`], does not come after
    /// the one before, or comes when there are [`limits::THUMBNAILS`], is left out.
    pub fn handle_picture(&mut self, picture: &Picture) {
        let (width, height) = (picture.width, picture.height);
        let sides = 1..=limits::THUMBNAIL_SIDE;
        let sound = picture.format == PictureFormat::Rgb
            && sides.contains(&width)
            && sides.contains(&height)
            && picture.data.len() == width as usize * height as usize * 3;
        let later = self.tiles.last().is_none_or(|last| picture.pts > last.at);
        if !sound || !later || self.tiles.len() >= limits::THUMBNAILS {
            return;
        }
        let cell = *self.cell.get_or_insert((width, height));
        let tile = Tile {
            at: picture.pts.max(MediaTime::ZERO),
            width: width.min(cell.0),
            height: height.min(cell.1),
        };
        self.draw(picture, tile, cell);
        self.tiles.push(tile);
        self.store_sheet(cell);
        self.store_track(None);
    }

    /// The recording ends at `end`: the last picture is shown up to there.
    pub fn finish(&mut self, end: MediaTime) {
        if !self.tiles.is_empty() {
            self.store_track(Some(end));
        }
    }

    /// The next thing to do; `None` until more is handed over.
    pub fn poll_output(&mut self) -> Option<HlsOutput> {
        self.out.pop_front()
    }

    fn per_sheet(&self) -> usize {
        (self.config.columns * self.config.rows) as usize
    }

    /// Where the n-th tile lies on its sheet: column and row.
    fn place(&self, nth: usize) -> (u32, u32) {
        let nth = (nth % self.per_sheet()) as u32;
        (nth % self.config.columns, nth / self.config.columns)
    }

    fn draw(&mut self, picture: &Picture, tile: Tile, cell: (u32, u32)) {
        let (column, row) = self.place(self.tiles.len());
        let stride = (self.config.columns * cell.0) as usize * 3;
        if (column, row) == (0, 0) {
            self.pixels.clear();
        }
        // a sheet is as high as it has rows
        let height = ((row + 1) * cell.1) as usize;
        self.pixels.resize(stride * height, 0);
        let (left, top) = ((column * cell.0) as usize * 3, (row * cell.1) as usize);
        let taken = tile.width as usize * 3;
        let source = picture.data.chunks_exact(picture.width as usize * 3);
        for (line, from) in source.take(tile.height as usize).enumerate() {
            let at = (top + line) * stride + left;
            self.pixels[at..at + taken].copy_from_slice(&from[..taken]);
        }
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
        let number = (self.tiles.len() - 1) / self.per_sheet();
        self.out.push_back(HlsOutput::Store {
            key: address::sheet(number as u64),
            data: jpeg.into(),
        });
        if self.tiles.len().is_multiple_of(self.per_sheet()) {
            self.closed = self.tiles.len();
        }
        let closed = (self.closed / self.per_sheet()) as u64;
        self.out.push_back(HlsOutput::Publish(Publish {
            rendition: None,
            change: Change::Sheets { closed },
        }));
    }

    fn store_track(&mut self, end: Option<MediaTime>) {
        self.out.push_back(HlsOutput::Store {
            key: address::THUMBNAILS.to_owned(),
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
            let (column, row) = self.place(nth);
            let _ = writeln!(
                text,
                "\n{}#xywh={},{},{},{}\n",
                address::sheet((nth / self.per_sheet()) as u64),
                column * cell_width,
                row * cell_height,
                tile.width,
                tile.height
            );
        }
        text.into()
    }
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
