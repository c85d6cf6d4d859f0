use loom_core::MediaTime;
use serde::{Deserialize, Serialize};

use crate::{AiError, Excerpt, Gist, Transcript};

/// A language model that answers an instruction about a text. Nothing calls one unless a host gives it.
///
/// ```
/// use loom_ai::{AiError, TextModel};
///
/// /// Answers with the first sentence, whatever it is asked.
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
pub trait TextModel: Send + Sync {
    /// A short name for logs and pages.
    fn name(&self) -> &str;

    /// The answer to `instruction` about `text`.
    ///
    /// # Errors
    /// [`AiError::TextModel`] with what the model or its host said.
    fn answer(&self, instruction: &str, text: &str) -> Result<String, AiError>;
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

/// Characters of a transcript that are sent at most; of a longer one, its most telling sentences.
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
        let text = if transcript.text.len() <= LONGEST {
            transcript.text.clone()
        } else {
            Gist::excerpts(transcript, SENTENCES)
                .iter()
                .map(|it| it.text.as_str())
                .collect::<Vec<_>>()
                .join(" ")
        };
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
