//! A plan as a person reads it.

use std::fmt;

use loom_core::RenditionId;

use super::{KeyRule, Plan, RenditionShape, Route};
use crate::device::{DeviceFamily, MemoryDomain};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", if self.live { "live" } else { "file" })?;
        if let Some(duration) = self.duration {
            write!(f, " of {:.3} s", duration.as_secs_f64())?;
        }
        writeln!(f)?;
        if let Some(video) = &self.video {
            write!(f, "video {}", video.source)?;
            if let Some(id) = &video.keep {
                write!(f, " -> {id} as it came")?;
            }
            if let Some(route) = &video.route {
                write!(f, " -> {}", route.decoder.factory)?;
                if route.decoder.family != DeviceFamily::Cpu {
                    write!(f, " ({} in {})", route.decoder.family, route.decoder.memory)?;
                }
                copies(f, route, None)?;
            }
            writeln!(f)?;
            for (index, rung) in video.rungs.iter().enumerate() {
                let route = video.route.as_ref();
                let scaler = route.and_then(|it| it.scaler.as_ref());
                match scaler.filter(|it| it.family != DeviceFamily::Cpu) {
                    Some(it) => write!(f, "  -> {} {}x{}", it.factory, rung.width, rung.height)?,
                    None => write!(f, "  -> scale {}x{}", rung.width, rung.height)?,
                }
                if let Some(route) = route {
                    copies(f, route, Some(&rung.id))?;
                }
                match route.and_then(|it| it.encoders.get(index)) {
                    Some(it) if it.family == DeviceFamily::Cpu => {
                        write!(
                            f,
                            " -> {} {} {} thread(s)",
                            it.factory,
                            video.preset.name(),
                            rung.threads
                        )?;
                    }
                    Some(it) => write!(f, " -> {} ({})", it.factory, it.family)?,
                    None => write!(f, " -> no encoder")?,
                }
                writeln!(f, ", at most {} kbit/s -> {}", rung.bitrate / 1000, rung.id)?;
            }
            if let Some(route) = &video.route {
                let memories: Vec<_> = route.memories().into_iter().map(MemoryDomain::name).collect();
                writeln!(
                    f,
                    "  about {:.3} cores, pictures in {}, {} copies between memories",
                    route.cost,
                    memories.join(" and "),
                    route.crossings.len()
                )?;
            }
            for it in &video.rejected {
                writeln!(f, "  not {}: {}", it.what, it.why)?;
            }
            for (index, it) in video.fallbacks.iter().enumerate().take(MOST_FALLBACKS_SHOWN) {
                let names: Vec<_> = it.factories().into_iter().collect();
                writeln!(
                    f,
                    "  else {}: {}, about {:.3} cores",
                    index + 1,
                    names.join(" "),
                    it.cost
                )?;
            }
            if let Some(route) = video.route.as_ref().filter(|_| video.skips_still) {
                let text = if video.compares(route) {
                    "left out".to_owned()
                } else {
                    format!("encoded: they lie in {}", route.decoder.memory)
                };
                writeln!(f, "  pictures that do not visibly differ are {text}")?;
            }
            match video.keys {
                KeyRule::WithSource => writeln!(f, "  key frames where the source has them")?,
                KeyRule::Every(span) => writeln!(f, "  key frames every {:.3} s", span.as_secs_f64())?,
            }
            if let Some(it) = &video.thumbnails {
                writeln!(f, "  -> a thumbnail every {:.3} s", it.every.as_secs_f64())?;
            }
            if video.poster {
                writeln!(f, "  -> poster")?;
            }
        }
        if let Some(audio) = &self.audio {
            write!(f, "audio {}", audio.source)?;
            if let Some(id) = &audio.keep {
                write!(f, " -> {id} as it came")?;
            }
            if let Some(decoder) = &audio.decoder {
                write!(f, " -> {decoder}")?;
            }
            writeln!(f)?;
            if audio.suppresses_noise {
                writeln!(f, "  noise is suppressed before it is encoded")?;
            }
            if let Some(target) = &audio.loudness {
                write!(
                    f,
                    "  brought to {:.1} LUFS, {:.1} dBTP at most",
                    target.integrated, target.true_peak
                )?;
                match audio.gain {
                    Some(gain) => writeln!(f, ": {gain:+.1} dB")?,
                    None => writeln!(f)?,
                }
            }
            if let Some(encoder) = &audio.encoder {
                writeln!(
                    f,
                    "  -> 48000 Hz, {} channel(s) -> {encoder} {} kbit/s -> aac",
                    audio.channels,
                    audio.bitrate / 1000
                )?;
            }
            if audio.pcm {
                writeln!(f, "  -> 16000 Hz mono -> captions")?;
            }
        }
        for rendition in &self.renditions {
            match rendition.shape {
                RenditionShape::Video {
                    width,
                    height,
                    frame_rate,
                    ..
                } => write!(f, "= {}: {width}x{height} at {frame_rate:.2}/s", rendition.id)?,
                RenditionShape::Audio {
                    codec,
                    sample_rate,
                    channels,
                } => write!(
                    f,
                    "= {}: {codec:?} {sample_rate} Hz, {channels} channel(s)",
                    rendition.id
                )?,
            }
            writeln!(f, ", {} kbit/s", rendition.bitrate / 1000)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "# {note}"))
    }
}

fn copies(f: &mut fmt::Formatter<'_>, route: &Route, whose: Option<&RenditionId>) -> fmt::Result {
    let mut all = route.crossings.iter().filter(|it| it.rendition.as_ref() == whose);
    all.try_for_each(|it| write!(f, " -> [{}: {} to {}]", it.by, it.from, it.to))
}

/// How many of the ways round a failure are printed.
pub(super) const MOST_FALLBACKS_SHOWN: usize = 4;
