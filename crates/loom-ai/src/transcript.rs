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
///         speaker: None,
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
    /// Who says it, where speakers were told apart: "Speaker 1", or what a person has named them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaker: Option<String>,
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

    /// As WebVTT (W3C WebVTT §4): cues of at most two lines, in order of start, each with the voice that says it (§4.2.2) where that is known.
    pub fn to_vtt(&self) -> String {
        let mut out = String::from("WEBVTT\n");
        for (index, (cue, speaker)) in self.shown().into_iter().enumerate() {
            let voice = speaker
                .map(|it| format!("<v {}>", escape_vtt(it)))
                .unwrap_or_default();
            let (start, end, text) = (cue.start, cue.end, voice + &escape_vtt(&cue.text));
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

    /// As SubRip: numbered cues of at most two lines, in order of start. Where another begins to speak, their name comes first.
    pub fn to_srt(&self) -> String {
        let mut out = String::new();
        let mut before = None;
        for (index, (cue, speaker)) in self.shown().into_iter().enumerate() {
            let (start, end) = (cue.start, cue.end);
            let name = speaker.filter(|it| before != Some(*it));
            let text = name.map(|it| format!("{it}: ")).unwrap_or_default() + &cue.text;
            let text = text.replace("-->", "→");
            before = speaker;
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

    /// As plain text: a paragraph wherever the speaker paused for two seconds or more, or another begins, whose name comes first.
    pub fn to_txt(&self) -> String {
        let mut out = String::new();
        let mut last: Option<&Segment> = None;
        for segment in &self.segments {
            let name = segment
                .speaker
                .as_deref()
                .filter(|it| last.and_then(|last| last.speaker.as_deref()) != Some(*it));
            if let Some(last) = last {
                let is_apart = segment.start - last.end >= 2.0 || name.is_some();
                out.push_str(if is_apart { "\n\n" } else { " " });
            }
            if let Some(name) = name {
                out.push_str(name);
                out.push_str(": ");
            }
            out.push_str(segment.text.trim());
            last = Some(segment);
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out
    }

    /// As final cues of at most two lines, in order. They never overlap, and each stays at least a second where there is
    /// room.
    pub fn to_cues(&self) -> Vec<Cue> {
        self.shown().into_iter().map(|(cue, _)| cue).collect()
    }

    /// The cues, and who says what each shows: nobody shares one.
    fn shown(&self) -> Vec<(Cue, Option<&str>)> {
        let turns = self.segments.chunk_by(|a, b| a.speaker == b.speaker);
        let turns: Vec<(Option<&str>, Vec<Word>)> = turns
            .map(|it| {
                (
                    it[0].speaker.as_deref(),
                    it.iter().flat_map(|it| it.words.clone()).collect(),
                )
            })
            .collect();
        let runs: Vec<(Option<&str>, &[Word])> = turns
            .iter()
            .flat_map(|(speaker, words)| lines::runs(words).into_iter().map(|run| (*speaker, run)))
            .collect();
        let mut out: Vec<(Cue, Option<&str>)> = Vec::with_capacity(runs.len());
        for (index, (speaker, run)) in runs.iter().enumerate() {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let start = out.last().map_or(first.start, |(it, _)| it.end.max(first.start));
            let next = runs.get(index + 1).and_then(|it| it.1.first()).map(|it| it.start);
            let mut end = last.end.max(start + Duration::from_secs(1));
            if let Some(next) = next {
                end = end.min(next);
            }
            let cue = Cue {
                id: CueId(index as u64),
                start,
                end: end.max(start + Duration::from_millis(1)),
                text: lines::balanced(run),
                words: run.to_vec(),
                state: CueState::Final,
            };
            out.push((cue, *speaker));
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
                speaker: None,
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
    fn every_form_says_who_speaks_and_nobody_shares_a_cue() {
        let mut it = transcript("Good morning all.");
        let mut second = transcript("How are you?").segments.remove(0);
        second.speaker = Some("Ann <& Co>".into());
        for word in &mut second.words {
            (word.start, word.end) = (
                word.start + Duration::from_secs(2),
                word.end + Duration::from_secs(2),
            );
        }
        (second.start, second.end) = (2.5, 4.0);
        it.segments[0].speaker = Some("Speaker 1".into());
        it.segments.push(second);
        let vtt = it.to_vtt();
        assert!(vtt.contains("\n<v Speaker 1>Good morning all.\n"), "{vtt}");
        assert!(vtt.contains("\n<v Ann &lt;&amp; Co&gt;>How are you?\n"), "{vtt}");
        let srt = it.to_srt();
        assert!(
            srt.contains("\nSpeaker 1: Good morning all.\n") && srt.contains("\nAnn <& Co>: How are you?\n"),
            "{srt}"
        );
        assert_eq!(
            it.to_txt(),
            "Speaker 1: Good morning all.\n\nAnn <& Co>: How are you?\n"
        );
        assert_eq!(Transcript::from_json(&it.to_json()).as_ref(), Ok(&it));
        // a file of before there were speakers
        assert!(!transcript("x").to_json().contains("speaker"));
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
