use std::fmt::Write;
use std::time::Duration;

use loom_core::{Cue, CueId, CueState, MediaTime, Word};
use serde::{Deserialize, Serialize};

use crate::lines;

/// Everything that was said, with word times.
///
/// ```
/// use loom_ai::{Segment, Transcript};
/// use loom_core::{MediaTime, Word};
///
/// let word = |start, end, text: &str| Word {
///     start: MediaTime::from_millis(start),
///     end: MediaTime::from_millis(end),
///     text: text.into(),
///     probability: 0.9,
/// };
/// let transcript = Transcript {
///     language: "en".into(),
///     model: "tiny.en".into(),
///     duration: 4.0,
///     text: "Good morning.".into(),
///     segments: vec![Segment {
///         start: 1.0,
///         end: 2.5,
///         text: "Good morning.".into(),
///         confidence: -0.1,
///         words: vec![word(1_000, 1_400, "Good"), word(1_500, 2_500, "morning.")],
///     }],
/// };
/// assert_eq!(transcript.to_srt(), "1\n00:00:01,000 --> 00:00:02,500\nGood morning.\n\n");
/// assert_eq!(Transcript::from_json(&transcript.to_json()), Ok(transcript));
/// ```
#[must_use]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// ISO 639-1 code of the language.
    pub language: String,
    /// The model's name.
    pub model: String,
    /// Seconds of sound that were heard.
    pub duration: f64,
    /// All the text, segments joined by a space.
    pub text: String,
    /// What was said, in order; segments do not overlap.
    pub segments: Vec<Segment>,
}

/// A sentence or phrase that the model heard as one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// When its first word begins, seconds.
    pub start: f64,
    /// When its last word ends, seconds.
    pub end: f64,
    /// Its text.
    pub text: String,
    /// Mean log-probability of its window's tokens.
    pub confidence: f32,
    /// Its words, in order.
    pub words: Vec<Word>,
}

impl Transcript {
    /// As JSON: language, duration, text, and segments with their words' times in seconds.
    pub fn to_json(&self) -> String {
        // Numbers, strings and lists always serialise.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// From what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// A sentence naming the line and field that does not fit.
    pub fn from_json(json: &str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|e| format!("not a transcript: {e}"))
    }

    /// As WebVTT (W3C WebVTT §4): cues of at most two lines, in order of start.
    pub fn to_vtt(&self) -> String {
        let mut out = String::from("WEBVTT\n");
        for (index, cue) in self.to_cues().into_iter().enumerate() {
            let (start, end, text) = (cue.start, cue.end, escape_vtt(&cue.text));
            // Writing to a string cannot fail.
            let _ = write!(
                out,
                "\n{}\n{} --> {}\n{text}\n",
                index + 1,
                clock(start, '.'),
                clock(end, '.')
            );
        }
        out
    }

    /// As SubRip: numbered cues of at most two lines, in order of start.
    pub fn to_srt(&self) -> String {
        let mut out = String::new();
        for (index, cue) in self.to_cues().into_iter().enumerate() {
            let (start, end) = (cue.start, cue.end);
            let text = cue.text.replace("-->", "→");
            let _ = write!(
                out,
                "{}\n{} --> {}\n{text}\n\n",
                index + 1,
                clock(start, ','),
                clock(end, ',')
            );
        }
        out
    }

    /// As plain text: a paragraph wherever the speaker paused for two seconds or more.
    pub fn to_txt(&self) -> String {
        let mut out = String::new();
        let mut last: Option<f64> = None;
        for segment in &self.segments {
            if let Some(last) = last {
                out.push_str(if segment.start - last >= 2.0 { "\n\n" } else { " " });
            }
            out.push_str(segment.text.trim());
            last = Some(segment.end);
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out
    }

    /// As final cues of at most two lines, in order. They never overlap, and each stays at least a second where there is
    /// room.
    pub fn to_cues(&self) -> Vec<Cue> {
        let words: Vec<Word> = self.segments.iter().flat_map(|it| it.words.clone()).collect();
        let runs = lines::runs(&words);
        let mut out: Vec<Cue> = Vec::with_capacity(runs.len());
        for (index, run) in runs.iter().enumerate() {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let start = out.last().map_or(first.start, |it| it.end.max(first.start));
            let next = runs.get(index + 1).and_then(|it| it.first()).map(|it| it.start);
            let mut end = last.end.max(start + Duration::from_secs(1));
            if let Some(next) = next {
                end = end.min(next);
            }
            out.push(Cue {
                id: CueId(index as u64),
                start,
                end: end.max(start + Duration::from_millis(1)),
                text: lines::balanced(run),
                words: run.to_vec(),
                state: CueState::Final,
            });
        }
        out
    }
}

/// `HH:MM:SS.mmm`, the fraction after `point`.
fn clock(at: MediaTime, point: char) -> String {
    let ms = at.millis().max(0);
    let (s, ms) = (ms / 1_000, ms % 1_000);
    format!("{:02}:{:02}:{:02}{point}{ms:03}", s / 3_600, s / 60 % 60, s % 60)
}

/// Cue text may hold neither markup nor the arrow that separates times (W3C WebVTT §4.1).
fn escape_vtt(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(text: &str) -> Transcript {
        let words: Vec<Word> = text
            .split(' ')
            .enumerate()
            .map(|(i, it)| Word {
                start: MediaTime::from_millis(500 + i as i64 * 400),
                end: MediaTime::from_millis(850 + i as i64 * 400),
                text: it.to_owned(),
                probability: 0.9,
            })
            .collect();
        Transcript {
            language: "en".into(),
            model: "tiny.en".into(),
            duration: 60.0,
            text: text.into(),
            segments: vec![Segment {
                start: 0.5,
                end: 3.0,
                text: text.into(),
                confidence: -0.2,
                words,
            }],
        }
    }

    #[test]
    fn vtt_escapes_arrows_and_markup() {
        let vtt = transcript("a --> b <i>c</i> & d").to_vtt();
        assert!(vtt.starts_with("WEBVTT\n\n1\n00:00:00.500 --> "));
        assert!(vtt.contains("a --&gt; b &lt;i&gt;c&lt;/i&gt; &amp; d"), "{vtt}");
    }

    #[test]
    fn srt_is_numbered_with_commas() {
        let srt = transcript("one two --> three").to_srt();
        assert!(
            srt.starts_with("1\n00:00:00,500 --> 00:00:02,050\none two → three\n\n"),
            "{srt}"
        );
    }

    #[test]
    fn cues_are_in_order_and_do_not_overlap() {
        let it = transcript(&"some words that go on and on, ".repeat(20));
        let cues = it.to_cues();
        assert!(cues.len() > 5);
        assert!(
            cues.windows(2)
                .all(|it| it[0].end <= it[1].start && it[0].start < it[0].end)
        );
    }

    #[test]
    fn json_comes_back_as_it_was() {
        let it = transcript("one two three");
        assert_eq!(Transcript::from_json(&it.to_json()).unwrap(), it);
        assert!(Transcript::from_json("{}").unwrap_err().contains("language"));
    }

    #[test]
    fn an_empty_transcript_is_still_a_valid_file() {
        let it = Transcript {
            segments: Vec::new(),
            text: String::new(),
            ..transcript("x")
        };
        assert_eq!(it.to_vtt(), "WEBVTT\n");
        assert_eq!(it.to_srt(), "");
        assert_eq!(it.to_txt(), "");
    }
}
