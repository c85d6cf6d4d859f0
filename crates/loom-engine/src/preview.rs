//! The preview: a short film of moments from the whole recording, in silence, made of pictures that were decoded for the thumbnails.

use std::collections::HashMap;
use std::io::{self, Cursor};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use loom_core::codec::h264;
use loom_core::{CodecParameters, MediaTime, Packet, Picture, RenditionId, TrackId};
use loom_hls::progressive::{self, TrackFiles};
use loom_hls::{HlsOutput, Packager, PackagerConfig, RenditionInfo, RenditionKind};
use loom_transcode::{Capabilities, Encoded, I420, PictureEncoder};

use crate::error::EngineError;
use crate::folder::PREVIEW;
use crate::recording::Inner;

/// The longer side of its pictures, pixels.
pub(crate) const SIDE: u32 = 320;

/// Moments that it shows at most, and how long it is.
const MOMENTS: usize = 9;
const LENGTH: Duration = Duration::from_secs(3);
/// How far apart the encoder is told that they are: at its 500 kbit/s, and with the second that it may be ahead of them, nine pictures take at most
/// 197 kB.
const CODED: Duration = Duration::from_millis(250);

/// Pictures of a recording of any length, evenly apart: each second one is let go whenever there are too many.
#[derive(Debug, Default)]
pub(crate) struct Preview {
    kept: Vec<Moment>,
    seen: usize,
    /// Every so many pictures one is kept; 0 until the first has come.
    stride: usize,
}

/// A picture in I420 without space between rows.
#[derive(Debug)]
struct Moment {
    size: (usize, usize),
    planes: [Vec<u8>; 3],
}

impl Preview {
    /// Takes a picture in RGB.
    pub(crate) fn handle_picture(&mut self, picture: &Picture) {
        self.stride = self.stride.max(1);
        if self.seen.is_multiple_of(self.stride)
            && let Some(moment) = Moment::of(picture)
        {
            self.kept.push(moment);
        }
        self.seen += 1;
        if self.kept.len() == 2 * MOMENTS {
            let mut at = 0;
            self.kept.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.stride *= 2;
        }
    }

    /// Leaves the pictures with the recording, until [`store`].
    pub(crate) fn hand_over(&mut self, recording: &Inner) {
        let mut moments = recording.moments.lock().unwrap_or_else(PoisonError::into_inner);
        *moments = Some(std::mem::take(self));
    }

    /// The film, as MP4 (H.264); `None` where there are not two moments to show. Blocks while it is encoded.
    ///
    /// # Errors
    /// Where no encoder is here, or it fails.
    pub(crate) fn film(&self, can: &Capabilities) -> Result<Option<Vec<u8>>, EngineError> {
        // a picture that has turned or changed its shape would need black around it
        let alike = |size: (usize, usize)| self.kept.iter().filter(move |it| it.size == size);
        let sizes = self.kept.iter().map(|it| it.size);
        let Some(size) = sizes.max_by_key(|size| alike(*size).count()) else {
            return Ok(None);
        };
        let moments: Vec<&Moment> = alike(size).collect();
        let count = moments.len().min(MOMENTS);
        if count < 2 {
            return Ok(None);
        }
        let each = LENGTH / count as u32;
        let chosen = (0..count).map(|at| moments[at * moments.len() / count]);
        let units = encode(can, size, chosen)?;
        package(&units, size, each).map(Some)
    }
}

/// Makes the film of a recording that has ended. Viewers have all of it by then; it is whole without a film, too.
pub(crate) async fn store(recording: &Arc<Inner>) {
    let take = || {
        let mut moments = recording.moments.lock().unwrap_or_else(PoisonError::into_inner);
        moments.take()
    };
    let Some(preview) = take() else { return };
    // one that a killed process made is of the same moments, and may be in the store already
    if recording.folder.path(PREVIEW).is_file() {
        return;
    }
    let working = recording.clone();
    let stored = tokio::task::spawn_blocking(move || match preview.film(&working.shared.capabilities)? {
        Some(film) => working.folder.put(PREVIEW, &film),
        None => Ok(()),
    });
    match stored.await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::warn!(recording = %recording.id, error = %why, "no preview"),
        Err(why) => tracing::error!(recording = %recording.id, error = %why, "no preview"),
    }
}

impl Moment {
    /// ITU-R BT.709, limited range.
    fn of(picture: &Picture) -> Option<Self> {
        let (width, height) = (picture.width as usize & !1, picture.height as usize & !1);
        let stride = picture.width as usize * 3;
        if width == 0 || height == 0 || picture.data.len() < stride * picture.height as usize {
            return None;
        }
        let pixel = |x: usize, y: usize| {
            let at = y * stride + x * 3;
            [0, 1, 2].map(|part| f32::from(picture.data[at + part]))
        };
        let mixed = |rgb: [f32; 3], [r, g, b, zero]: [f32; 4]| rgb[0] * r + rgb[1] * g + rgb[2] * b + zero;
        let places =
            |width: usize, height: usize| (0..width * height).map(move |at| (at % width, at / width));
        let luma = places(width, height).map(|(x, y)| mixed(pixel(x, y), LUMA).round() as u8);
        let chroma = |weights: [f32; 4]| {
            let of = move |(x, y): (usize, usize)| {
                let four = [(0, 0), (1, 0), (0, 1), (1, 1)];
                let sum: f32 = (four.iter())
                    .map(|(right, down)| mixed(pixel(2 * x + right, 2 * y + down), weights))
                    .sum();
                (sum / 4.0).round() as u8
            };
            places(width / 2, height / 2).map(of).collect::<Vec<u8>>()
        };
        Some(Self {
            size: (width, height),
            planes: [luma.collect(), chroma(BLUE), chroma(RED)],
        })
    }
}

fn encode<'a>(
    can: &Capabilities,
    (width, height): (usize, usize),
    moments: impl Iterator<Item = &'a Moment>,
) -> Result<Vec<Encoded>, EngineError> {
    let units: Arc<Mutex<Vec<Encoded>>> = Arc::default();
    let taken = units.clone();
    let rate = 1.0 / CODED.as_secs_f64();
    let size = (width as u32, height as u32);
    let encoder = PictureEncoder::start(can, size, rate, Arc::default(), move |unit| {
        taken.lock().unwrap_or_else(PoisonError::into_inner).push(unit);
    })?;
    let mut pushed = 0;
    for moment in moments {
        let [luma, blue, red] = &moment.planes;
        let picture = I420 {
            planes: [luma, blue, red],
            strides: [width, width / 2, width / 2],
        };
        pushed += u32::from(encoder.push(MediaTime::ZERO + CODED * pushed, &picture)?);
    }
    encoder.finish();
    let units = std::mem::take(&mut *units.lock().unwrap_or_else(PoisonError::into_inner));
    match units.len() == pushed as usize {
        true => Ok(units),
        false => Err(EngineError::NotReady(format!(
            "the preview's encoder gave {} of {pushed} pictures",
            units.len()
        ))),
    }
}

fn package(
    units: &[Encoded],
    (width, height): (usize, usize),
    each: Duration,
) -> Result<Vec<u8>, EngineError> {
    let name = RenditionId::new("preview").ok_or_else(|| EngineError::NotReady("no name".to_owned()))?;
    let mut packager = Packager::new(PackagerConfig::file(LENGTH, LENGTH))?;
    packager.declare(RenditionInfo {
        id: name.clone(),
        kind: RenditionKind::Video {
            width: width as u32,
            height: height as u32,
            frame_rate: 1.0 / each.as_secs_f64(),
        },
        bandwidth: 500_000,
    })?;
    for (number, unit) in units.iter().enumerate() {
        let at = MediaTime::ZERO + each * number as u32;
        let read = h264::AccessUnit::from_nals(h264::annex_b_nals(&unit.data));
        if let Some(sps) = read.sps.last() {
            let codec =
                h264::parameters(sps, &read.pps).map_err(|why| EngineError::NotReady(why.to_string()))?;
            packager.handle_format(&name, CodecParameters::Video(codec))?;
        }
        let packet = Packet {
            track: TrackId(0),
            pts: at,
            dts: at,
            duration: Some(each),
            key: read.key,
            data: read.sample,
        };
        packager.handle_packet(&name, packet)?;
    }
    packager.finish()?;
    let mut files: HashMap<String, Vec<u8>> = HashMap::new();
    while let Some(output) = packager.poll_output() {
        match output {
            HlsOutput::Store { key, data } => drop(files.insert(key, data.to_vec())),
            HlsOutput::Append { key, data } => files.entry(key).or_default().extend_from_slice(&data),
            _ => {}
        }
    }
    let list = files
        .get("preview/index.m3u8")
        .map(|it| String::from_utf8_lossy(it));
    let tracks = [TrackFiles::from_playlist(&name, &list.unwrap_or_default())?];
    let open = |key: &str| -> io::Result<Cursor<Bytes>> {
        let data = files.get(key).ok_or(io::ErrorKind::NotFound)?;
        Ok(Cursor::new(Bytes::copy_from_slice(data)))
    };
    let mut film = Vec::new();
    progressive::write(&tracks, open, &mut film)?;
    Ok(film)
}

/// What of red, green and blue makes luma, and the two of chroma, and what is added.
const LUMA: [f32; 4] = [0.182_586, 0.614_231, 0.062_007, 16.0];
const BLUE: [f32; 4] = [-0.100_644, -0.338_572, 0.439_216, 128.0];
const RED: [f32; 4] = [0.439_216, -0.398_942, -0.040_274, 128.0];

#[cfg(test)]
mod tests {
    use std::process::Command;

    use loom_core::PictureFormat;

    use super::*;

    /// What is hardest to code: noise that changes from picture to picture.
    fn noise(number: i64, (width, height): (u32, u32)) -> Picture {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (number as u64 + 1);
        let data: Vec<u8> = (0..width * height * 3)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 24) as u8
            })
            .collect();
        Picture {
            pts: MediaTime::from_secs_f64(number as f64 * 2.0),
            width,
            height,
            format: PictureFormat::Rgb,
            data: data.into(),
        }
    }

    #[test]
    fn a_recording_of_any_length_has_a_film_of_nine_moments_below_200_kilobytes() {
        let can = Capabilities::probe().expect("GStreamer starts");
        let folder = tempfile::tempdir().expect("a folder");
        for count in [9, 40, 130] {
            let mut preview = Preview::default();
            for number in 0..count {
                preview.handle_picture(&noise(number, (320, 180)));
                assert!(preview.kept.len() < 2 * MOMENTS);
            }
            preview.handle_picture(&noise(count, (240, 320))); // it was turned at its end
            let film = preview
                .film(&can)
                .expect("it is made")
                .expect("there are moments");
            assert!(film.len() <= 200_000, "{} bytes of {count}", film.len());
            let path = folder.path().join("preview.mp4");
            std::fs::write(&path, &film).expect("written");
            let probed = Command::new("ffprobe")
                .args(["-v", "error", "-count_frames", "-of", "csv=p=0"])
                .args(["-show_entries", "stream=codec_name,width,height,nb_read_frames"])
                .arg(&path)
                .output()
                .expect("ffprobe runs");
            let probed = String::from_utf8_lossy(&probed.stdout).into_owned();
            assert_eq!(probed.trim(), "h264,320,180,9", "{count}");
        }
        let mut still = Preview::default();
        still.handle_picture(&noise(0, (320, 180)));
        assert!(still.film(&can).expect("nothing fails").is_none());
    }

    #[test]
    fn colours_are_those_of_bt_709() {
        for (rgb, yuv) in [
            ([255, 255, 255], [235, 128, 128]),
            ([0, 0, 0], [16, 128, 128]),
            ([255, 0, 0], [63, 102, 240]),
            ([0, 0, 255], [32, 240, 118]),
        ] {
            let picture = Picture {
                data: rgb.repeat(4).into(),
                ..noise(0, (2, 2))
            };
            let moment = Moment::of(&picture).expect("a picture");
            assert_eq!([0, 1, 2].map(|it| moment.planes[it][0]), yuv, "{rgb:?}");
        }
    }
}
