//! A plan as a drawing, in the language of Graphviz.

use std::fmt::{self, Write};

use loom_core::RenditionId;

use super::text::MOST_FALLBACKS_SHOWN;
use super::{AudioPlan, Plan, Route, Stage, VideoPlan};

impl Plan {
    /// The plan as a Graphviz graph (`dot -Tsvg`): what runs, in which memory, what was not chosen and why.
    pub fn to_dot(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.draw(&mut out);
        out
    }

    fn draw(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "digraph plan {{")?;
        writeln!(out, "  rankdir=LR;")?;
        writeln!(out, "  node [shape=box, fontname=\"sans-serif\"];")?;
        let label = if self.live { "a live source" } else { "a file" };
        node(out, "source", label, "shape=ellipse")?;
        for it in &self.renditions {
            let text = format!("{}\n{} kbit/s", it.id, it.bitrate / 1000);
            node(out, &rendition(&it.id), &text, "shape=ellipse")?;
        }
        if let Some(video) = &self.video {
            draw_video(out, video)?;
        }
        if let Some(audio) = &self.audio {
            draw_audio(out, audio)?;
        }
        if !self.notes.is_empty() {
            node(out, "notes", &self.notes.join("\n"), "shape=note")?;
        }
        writeln!(out, "}}")
    }
}

fn draw_video(out: &mut String, video: &VideoPlan) -> fmt::Result {
    if let Some(id) = &video.keep {
        edge(out, "source", &rendition(id), "as it came")?;
    }
    if let Some(route) = &video.route {
        draw_route(out, video, route)?;
    }
    for (index, it) in video.rejected.iter().enumerate() {
        let name = format!("rejected {index}");
        let text = format!("{}\n{}", it.what, it.why);
        node(out, &name, &text, "style=dashed, color=gray, fontcolor=gray")?;
    }
    for (index, it) in video.fallbacks.iter().enumerate().take(MOST_FALLBACKS_SHOWN) {
        let names: Vec<_> = it.factories().into_iter().collect();
        let text = format!(
            "else {}: {}\nabout {:.3} cores",
            index + 1,
            names.join(" "),
            it.cost
        );
        node(out, &format!("fallback {index}"), &text, "style=dotted")?;
    }
    Ok(())
}

fn draw_route(out: &mut String, video: &VideoPlan, route: &Route) -> fmt::Result {
    draw_stage(out, "decoder", &route.decoder, "")?;
    edge(out, "source", "decoder", &video.source.to_string())?;
    let mut above = draw_copies(out, route, None, "decoder".to_owned(), &route.decoder)?;
    if video.poster {
        node(out, "poster", "poster", "shape=ellipse")?;
        edge(out, &above, "poster", "")?;
    }
    if video.thumbnails.is_some() {
        node(out, "thumbnails", "thumbnails", "shape=ellipse")?;
        edge(out, &above, "thumbnails", "")?;
    }
    let Some(scaler) = &route.scaler else {
        return Ok(());
    };
    for (rung, encoder) in video.rungs.iter().zip(&route.encoders) {
        let scale = format!("scale {}", rung.id);
        draw_stage(out, &scale, scaler, &format!("{}x{}", rung.width, rung.height))?;
        edge(out, &above, &scale, scaler.memory.name())?;
        let before = draw_copies(out, route, Some(&rung.id), scale.clone(), encoder)?;
        let encode = format!("encode {}", rung.id);
        draw_stage(
            out,
            &encode,
            encoder,
            &format!("at most {} kbit/s", rung.bitrate / 1000),
        )?;
        edge(out, &before, &encode, encoder.memory.name())?;
        edge(out, &encode, &rendition(&rung.id), "")?;
        above = scale;
    }
    Ok(())
}

/// The elements that copy, in a row after `from`; gives the last of them. What an element copies inside is said on it.
fn draw_copies(
    out: &mut String,
    route: &Route,
    whose: Option<&RenditionId>,
    from: String,
    beside: &Stage,
) -> Result<String, fmt::Error> {
    let mut last = from;
    let all = route.crossings.iter().enumerate();
    for (index, it) in all.filter(|(_, it)| it.rendition.as_ref() == whose && it.by != beside.factory) {
        let name = format!("copy {index}");
        let text = format!("{}\n{} to {}", it.by, it.from, it.to);
        node(out, &name, &text, "style=filled, fillcolor=orange")?;
        edge(out, &last, &name, it.from.name())?;
        last = name;
    }
    Ok(last)
}

fn draw_audio(out: &mut String, audio: &AudioPlan) -> fmt::Result {
    if let Some(id) = &audio.keep {
        edge(out, "source", &rendition(id), "as it came")?;
    }
    if audio.encoder.is_none() && !audio.pcm {
        return Ok(());
    }
    let decoder = audio.decoder.as_deref().unwrap_or("PCM");
    node(out, "sound", decoder, "")?;
    edge(out, "source", "sound", &audio.source.to_string())?;
    if let (Some(encoder), Some(id)) = (&audio.encoder, RenditionId::new("aac")) {
        node(out, "encode sound", encoder, "")?;
        edge(out, "sound", "encode sound", "48000 Hz")?;
        edge(out, "encode sound", &rendition(&id), "")?;
    }
    if audio.pcm {
        node(out, "captions", "captions", "shape=ellipse")?;
        edge(out, "sound", "captions", "16000 Hz mono")?;
    }
    Ok(())
}

fn draw_stage(out: &mut String, name: &str, stage: &Stage, detail: &str) -> fmt::Result {
    let inside = match stage.memory == stage.family.memory() {
        true => String::new(),
        false => ", copied inside".to_owned(),
    };
    let text = format!(
        "{}\n{} in {}{inside}\n{detail}",
        stage.factory, stage.family, stage.memory
    );
    node(out, name, text.trim_end(), "")
}

fn node(out: &mut String, name: &str, label: &str, style: &str) -> fmt::Result {
    let style = if style.is_empty() {
        String::new()
    } else {
        format!(", {style}")
    };
    writeln!(out, "  {} [label={}{style}];", quoted(name), quoted(label))
}

fn edge(out: &mut String, from: &str, to: &str, label: &str) -> fmt::Result {
    write!(out, "  {} -> {}", quoted(from), quoted(to))?;
    if !label.is_empty() {
        write!(out, " [label={}]", quoted(label))?;
    }
    writeln!(out, ";")
}

fn rendition(id: &RenditionId) -> String {
    format!("rendition {id}")
}

/// A quoted identifier of the DOT language: only the quote and the backslash are not themselves.
fn quoted(text: &str) -> String {
    let text = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{text}\"")
}
