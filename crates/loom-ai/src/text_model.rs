use loom_core::MediaTime;
use serde::{Deserialize, Serialize};

use crate::{AiError, Excerpt, Gist, Transcript};

/// A language model that answers an instruction about a text: `LocalTextModel` on this machine, `HttpTextModel` on another (feature
/// `candle`), or a host's own. Nothing calls one unless a host gives it.
///
/// ```
/// use loom_ai::{AiError, TextModel};
///
/// /// Answers with the first sentence, whatever it is asked.
/// #[derive(Debug)]
/// struct First;
///
/// impl TextModel for First {
///     fn name(&self) -> &str {
///         "first"
///     }
///
///     fn answer(&self, _: &str, text: &str) -> Result<String, AiError> {
///         Ok(text.split_inclusive('.').next().unwrap_or_default().to_owned())
///     }
/// }
///
/// assert_eq!(First.answer("In short?", "It works. We are glad.")?, "It works.");
/// # Ok::<(), AiError>(())
/// ```
pub trait TextModel: std::fmt::Debug + Send + Sync {
    /// A short name for logs and pages.
    fn name(&self) -> &str;

    /// The answer to `instruction` about `text`.
    ///
    /// # Errors
    /// [`AiError::TextModel`] with what the model or its host said.
    fn answer(&self, instruction: &str, text: &str) -> Result<String, AiError>;

    /// Bytes of a text that it can take: of a longer transcript [`Brief`] sends the most telling sentences.
    fn longest(&self) -> usize {
        LONGEST
    }
}

/// What a [`TextModel`] made of a transcript.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Brief {
    /// A few words.
    pub title: String,
    /// A paragraph.
    pub summary: String,
    /// What is to be done, each at the time of the sentence it shares most words with.
    pub actions: Vec<Excerpt>,
}

/// Bytes of a transcript that are sent at most to a model that says nothing of its own.
const LONGEST: usize = 24_000;
/// Sentences that stand for a transcript that is too long.
const SENTENCES: usize = 120;

impl Brief {
    /// Asks `model` for title, summary and action items: three calls.
    ///
    /// # Errors
    /// The model's.
    pub fn of(transcript: &Transcript, model: &dyn TextModel) -> Result<Self, AiError> {
        if transcript.text.trim().is_empty() {
            return Ok(Self::default());
        }
        let text = telling(transcript, model.longest());
        let ask = |instruction: &str| Ok::<_, AiError>(model.answer(instruction, &text)?.trim().to_owned());
        let title = ask("Answer with a title of at most eight words for this transcript, and nothing else.")?;
        let summary =
            ask("Answer with a summary of this transcript in at most four sentences, and nothing else.")?;
        let actions = ask(
            "List the action items in this transcript, one a line, each beginning with \"- \". Answer \"none\" where there are none.",
        )?;
        let actions = actions
            .lines()
            .filter_map(|it| it.trim().strip_prefix("- "))
            .map(|it| placed(it.trim(), transcript))
            .collect();
        Ok(Self {
            title: title.trim_matches('"').to_owned(),
            summary,
            actions,
        })
    }
}

/// The transcript, or as many of its most telling sentences as have `longest` bytes at most; one at least.
fn telling(transcript: &Transcript, longest: usize) -> String {
    if transcript.text.len() <= longest {
        return transcript.text.clone();
    }
    let mut most = SENTENCES;
    loop {
        let sentences = Gist::excerpts(transcript, most);
        let texts: Vec<&str> = sentences.iter().map(|it| it.text.as_str()).collect();
        let text = texts.join(" ");
        if text.len() <= longest || most == 1 {
            return text;
        }
        most = (most * longest / text.len()).clamp(1, most - 1);
    }
}

/// The item at the time of the segment that shares most of its words.
fn placed(item: &str, transcript: &Transcript) -> Excerpt {
    let words = |text: &str| -> Vec<String> {
        let all = text.split_whitespace().map(crate::lines::bare);
        all.filter(|it| it.chars().count() > 3).collect()
    };
    let wanted = words(item);
    let shared = |text: &str| words(text).iter().filter(|it| wanted.contains(it)).count();
    let best = transcript.segments.iter().rev().max_by_key(|it| shared(&it.text));
    let (start, end) = best.map_or((0.0, 0.0), |it| (it.start, it.end));
    Excerpt {
        start: MediaTime::from_secs_f64(start),
        end: MediaTime::from_secs_f64(end),
        text: item.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use loom_core::Word;

    use super::*;
    use crate::Segment;

    /// A sentence of eight words each three seconds.
    fn lecture(sentences: usize) -> Transcript {
        let mut segments = Vec::new();
        for at in 0..sentences {
            let text = format!("Number {at} tells of engine{at} and harbour{at} and winter{at}.");
            let word = |(i, it): (usize, &str)| Word {
                start: MediaTime::from_millis(at as i64 * 3_000 + i as i64 * 300),
                end: MediaTime::from_millis(at as i64 * 3_000 + i as i64 * 300 + 250),
                text: it.to_owned(),
                probability: 0.9,
            };
            segments.push(Segment {
                start: at as f64 * 3.0,
                end: at as f64 * 3.0 + 2.9,
                words: text.split(' ').enumerate().map(word).collect(),
                text,
                confidence: -0.2,
                speaker: None,
            });
        }
        let text: Vec<&str> = segments.iter().map(|it| it.text.as_str()).collect();
        Transcript {
            language: "en".to_owned(),
            model: "none".to_owned(),
            duration: sentences as f64 * 3.0,
            text: text.join(" "),
            segments,
        }
    }

    #[test]
    fn of_a_long_transcript_whole_sentences_are_sent_that_fit() {
        let short = lecture(5);
        assert_eq!(telling(&short, 1_000), short.text);
        let long = lecture(1_000);
        for longest in [24_000, 3_000, 500] {
            let text = telling(&long, longest);
            assert!(
                text.len() <= longest && text.len() * 2 > longest.min(6_000),
                "{longest}: {}",
                text.len()
            );
            assert!(
                text.split_inclusive('.').all(|it| long.text.contains(it.trim())),
                "{text}"
            );
        }
        assert!(!telling(&long, 1).is_empty());
    }
}
