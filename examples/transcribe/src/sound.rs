//! A file's first sound track as 16 kHz mono.

use std::f64::consts::PI;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, bail};
use symphonia::core::codecs::audio::AudioDecoderOptions;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

/// Samples a second that come out, Hz.
pub(crate) const RATE: u32 = 16_000;
/// Samples of 20 ms.
pub(crate) const FRAME: usize = 320;

/// All of it. Packets that cannot be decoded are left out.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<f32>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let source = MediaSourceStream::new(Box::new(file), Default::default());
    let mut hint = Hint::new();
    if let Some(extension) = path.extension().and_then(|it| it.to_str()) {
        hint.with_extension(extension);
    }
    let mut format = symphonia::default::get_probe()
        .probe(
            &hint,
            source,
            FormatOptions::default(),
            MetadataOptions::default(),
        )
        .with_context(|| format!("{} is no file that can be read", path.display()))?;
    let track = format
        .default_track(TrackType::Audio)
        .context("there is no sound track")?;
    let id = track.id;
    let parameters = track.codec_params.as_ref().and_then(|it| it.audio());
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(
            parameters.context("the sound track does not tell its codec")?,
            &AudioDecoderOptions::default(),
        )
        .context("the sound track's codec cannot be decoded")?;
    let (mut interleaved, mut out) = (Vec::new(), Vec::new());
    let mut resampler: Option<Resampler> = None;
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) if packet.track_id == id => packet,
            Ok(Some(_)) => continue,
            Ok(None) | Err(Error::ResetRequired) => break,
            // A file that was cut off is read up to there.
            Err(Error::IoError(why)) if why.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(why) => return Err(why.into()),
        };
        let decoded = match decoder.decode(&packet) {
            Ok(it) => it,
            Err(Error::DecodeError(_) | Error::IoError(_)) => continue,
            Err(why) => return Err(why.into()),
        };
        let (rate, channels) = (decoded.spec().rate(), decoded.spec().channels().count().max(1));
        decoded.copy_to_vec_interleaved::<f32>(&mut interleaved);
        let mono = interleaved
            .chunks_exact(channels)
            .map(|it| it.iter().sum::<f32>() / channels as f32);
        if resampler.as_ref().is_none_or(|it| it.from != rate)
            && let Some(mut before) = resampler.replace(Resampler::new(rate))
        {
            before.finish(&mut out);
        }
        if let Some(resampler) = &mut resampler {
            resampler.take(mono, &mut out);
        }
    }
    match resampler {
        Some(mut it) => it.finish(&mut out),
        None => bail!("{} holds no sound", path.display()),
    }
    Ok(out)
}

/// Samples on either side that one sample is made from, at the lower of the two rates.
const REACH: f64 = 16.0;
/// Steps between two samples at which the filter is kept.
const STEPS: usize = 512;

/// To 16 kHz by a windowed sinc (Smith, "Digital Audio Resampling Home Page"): the filter is kept at [`STEPS`] places a sample.
struct Resampler {
    from: u32,
    /// One side of the filter.
    filter: Vec<f32>,
    reach: usize,
    /// Samples that are still needed; the first is number `base`.
    held: Vec<f32>,
    base: u64,
    /// Samples given.
    given: u64,
}

impl Resampler {
    fn new(from: u32) -> Self {
        let cutoff = (f64::from(RATE) / f64::from(from)).min(1.0);
        let reach = (REACH / cutoff).ceil();
        let length = reach as usize * STEPS;
        let filter = (0..=length).map(|at| {
            let x = at as f64 / STEPS as f64;
            let angle = PI * x * cutoff;
            let sinc = if at == 0 { 1.0 } else { angle.sin() / angle };
            // A Hann window, and the cutoff a little below half the rate.
            (sinc * cutoff * (0.5 + 0.5 * (PI * x / reach).cos())) as f32
        });
        let filter = filter.collect();
        let reach = reach as usize;
        Self {
            from,
            filter,
            reach,
            held: vec![0.0; reach],
            base: 0,
            given: 0,
        }
    }

    fn take(&mut self, samples: impl Iterator<Item = f32>, out: &mut Vec<f32>) {
        self.held.extend(samples);
        if self.from == RATE && self.given == 0 && self.base == 0 {
            out.extend(self.held.drain(self.reach..));
            return;
        }
        loop {
            // Where the next sample lies; `held` begins `reach` samples before number `base`.
            let numerator = self.given * u64::from(self.from);
            let (whole, rest) = (numerator / u64::from(RATE), numerator % u64::from(RATE));
            let center = (whole - self.base) as usize + self.reach;
            if center + self.reach + 1 > self.held.len() {
                break;
            }
            let share = rest as f64 / f64::from(RATE);
            let mut sum = 0f32;
            let mut add = |at: usize, distance: f64| {
                let place = (distance * STEPS as f64).round() as usize;
                sum += self.held[at] * self.filter.get(place).copied().unwrap_or_default();
            };
            for back in 0..self.reach {
                add(center - back, share + back as f64);
                add(center + 1 + back, 1.0 - share + back as f64);
            }
            out.push(sum);
            self.given += 1;
        }
        let next = self.given * u64::from(self.from) / u64::from(RATE);
        let done = ((next - self.base) as usize).min(self.held.len().saturating_sub(self.reach));
        self.held.drain(..done);
        self.base += done as u64;
    }

    fn finish(&mut self, out: &mut Vec<f32>) {
        if self.from != RATE {
            self.take(std::iter::repeat_n(0.0, self.reach + 1), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, hz: f64) -> Vec<f32> {
        (0..rate)
            .map(|i| (2.0 * PI * hz * f64::from(i) / f64::from(rate)).sin() as f32)
            .collect()
    }

    #[test]
    fn a_tone_keeps_its_height_and_place_at_any_rate_and_however_it_is_cut() {
        for rate in [8_000, 16_000, 22_050, 44_100, 48_000] {
            let mut resampler = Resampler::new(rate);
            let mut out = Vec::new();
            for part in tone(rate, 440.0).chunks(1_111) {
                resampler.take(part.iter().copied(), &mut out);
            }
            resampler.finish(&mut out);
            assert!(out.len().abs_diff(16_000) <= 2, "{rate}: {}", out.len());
            let wanted = tone(RATE, 440.0);
            let worst = out
                .iter()
                .zip(&wanted)
                .take(15_900)
                .skip(100)
                .map(|(a, b)| (a - b).abs())
                .fold(0f32, f32::max);
            assert!(worst < 0.01, "{rate}: {worst}");
        }
    }

    #[test]
    fn what_sixteen_kilohertz_cannot_hold_is_left_out() {
        let mut resampler = Resampler::new(48_000);
        let mut out = Vec::new();
        resampler.take(tone(48_000, 11_000.0).into_iter(), &mut out);
        let loud = out[200..].iter().map(|it| it.abs()).fold(0f32, f32::max);
        assert!(loud < 0.02, "{loud}");
    }
}
