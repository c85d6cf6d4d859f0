//! A plan as a person reads it.

use std::fmt;

use super::{KeyRule, Plan, RenditionShape};

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
            if let Some(decoder) = &video.decoder {
                write!(f, " -> {decoder}")?;
            }
            writeln!(f)?;
            for rung in &video.rungs {
                writeln!(
                    f,
                    "  -> scale {}x{} -> {} {} {} thread(s), at most {} kbit/s -> {}",
                    rung.width,
                    rung.height,
                    video.encoder.as_deref().unwrap_or("no encoder"),
                    video.preset.name(),
                    rung.threads,
                    rung.bitrate / 1000,
                    rung.id
                )?;
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
