use std::sync::Arc;

use loom_core::{Cue, MediaTime};

use crate::lines::bare;
use crate::{AiError, TextModel};

/// Something in a cue that somebody should look at.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// When it begins in the media.
    pub start: MediaTime,
    /// When it ends.
    pub end: MediaTime,
    /// What it is, as the moderator names it.
    pub label: String,
    /// The words.
    pub text: String,
}

impl Finding {
    /// A finding, for a moderator of one's own.
    pub fn new(start: MediaTime, end: MediaTime, label: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            start,
            end,
            label: label.into(),
            text: text.into(),
        }
    }
}

/// Looks over what was said, cue by cue, as soon as each is final.
pub trait Moderator: std::fmt::Debug + Send + Sync {
    /// What `cue` holds that should be looked at, in order.
    ///
    /// # Errors
    /// Whatever keeps the moderator from judging; the cue is shown all the same.
    fn judge(&self, cue: &Cue) -> Result<Vec<Finding>, AiError>;
}

/// A moderator that finds words and phrases of a list, whatever their case and punctuation.
///
/// ```
/// use loom_ai::{Moderator, WordList};
/// use loom_core::{Cue, CueId, CueState, MediaTime, Word};
///
/// let word = |at, text: &str| Word {
///     start: MediaTime::from_millis(at),
///     end: MediaTime::from_millis(at + 300),
///     text: text.into(),
///     probability: 0.9,
/// };
/// let list = WordList::new([("the budget", "money"), ("bother", "language")]);
/// let cue = Cue {
///     id: CueId(0),
///     start: MediaTime::ZERO,
///     end: MediaTime::from_millis(1_500),
///     text: "Bother! The budget.".into(),
///     words: vec![word(0, "Bother!"), word(500, "The"), word(900, "budget.")],
///     state: CueState::Final,
/// };
/// let found = list.judge(&cue)?;
/// assert_eq!((found[0].label.as_str(), found[1].label.as_str()), ("language", "money"));
/// assert_eq!(found[1].start, MediaTime::from_millis(500));
/// # Ok::<(), loom_ai::AiError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct WordList {
    entries: Vec<(Vec<String>, String)>,
}

impl WordList {
    /// From (phrase, label) pairs; phrases without a letter or figure are left out.
    pub fn new<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let entries = entries.into_iter().filter_map(|(phrase, label)| {
            let words: Vec<String> = phrase
                .split_whitespace()
                .map(bare)
                .filter(|it| !it.is_empty())
                .collect();
            (!words.is_empty()).then(|| (words, label.to_owned()))
        });
        Self {
            entries: entries.collect(),
        }
    }
}

impl Moderator for WordList {
    fn judge(&self, cue: &Cue) -> Result<Vec<Finding>, AiError> {
        let words: Vec<String> = cue.words.iter().map(|it| bare(&it.text)).collect();
        let mut found = Vec::new();
        for at in 0..words.len() {
            for (phrase, label) in &self.entries {
                if words[at..].starts_with(phrase) {
                    let said = &cue.words[at..at + phrase.len()];
                    let text: Vec<&str> = said.iter().map(|it| it.text.as_str()).collect();
                    found.push(Finding::new(
                        said[0].start,
                        said[said.len() - 1].end,
                        label.as_str(),
                        text.join(" "),
                    ));
                }
            }
        }
        Ok(found)
    }
}

/// A moderator that asks a [`TextModel`] about each cue.
#[derive(Debug)]
pub struct ModelModerator {
    model: Arc<dyn TextModel>,
    instruction: String,
}

impl ModelModerator {
    /// Asks `model` which of `labels` a cue deserves.
    pub fn new<'a>(model: Arc<dyn TextModel>, labels: impl IntoIterator<Item = &'a str>) -> Self {
        let labels: Vec<&str> = labels.into_iter().collect();
        Self {
            model,
            instruction: format!(
                "Answer with those of these labels that apply to the text, one a line, or with \"none\": {}",
                labels.join(", ")
            ),
        }
    }
}

impl Moderator for ModelModerator {
    fn judge(&self, cue: &Cue) -> Result<Vec<Finding>, AiError> {
        let answer = self.model.answer(&self.instruction, &cue.text)?;
        let labels = answer.lines().map(|it| it.trim().trim_start_matches("- "));
        let labels = labels.filter(|it| !it.is_empty() && !it.eq_ignore_ascii_case("none"));
        Ok(labels
            .map(|label| Finding::new(cue.start, cue.end, label, cue.text.as_str()))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use loom_core::{CueId, CueState, Word};

    use super::*;

    #[test]
    fn listed_words_are_found_at_their_times_whatever_their_case() {
        let words: Vec<Word> = "Well, DAMN it! Call the Acme-Corp people."
            .split(' ')
            .enumerate()
            .map(|(i, it)| Word {
                start: MediaTime::from_millis(i as i64 * 500),
                end: MediaTime::from_millis(i as i64 * 500 + 400),
                text: it.to_owned(),
                probability: 1.0,
            })
            .collect();
        let cue = Cue {
            id: CueId(1),
            start: MediaTime::ZERO,
            end: MediaTime::from_millis(4_000),
            text: String::new(),
            words,
            state: CueState::Final,
        };
        let list = WordList::new([
            ("damn it", "profanity"),
            ("acmecorp", "client"),
            ("...", "nothing"),
        ]);
        let found = list.judge(&cue).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(
            (
                found[0].text.as_str(),
                found[0].start.millis(),
                found[0].end.millis()
            ),
            ("DAMN it!", 500, 1_400)
        );
        assert_eq!(
            (found[1].label.as_str(), found[1].start.millis()),
            ("client", 2_500)
        );
    }
}
