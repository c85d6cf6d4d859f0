use crate::byte_pairs::encode;
use crate::vocabulary::Vocabulary;

/// What the model writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Task {
    /// What is said, in its language.
    #[default]
    Transcribe,
    /// What is said, in English. A multilingual model only.
    Translate,
}

/// What a decode begins with.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Opening<'a> {
    /// ISO 639-1 code; `None` finds out.
    pub(crate) language: Option<&'a str>,
    pub(crate) task: Task,
    pub(crate) initial_prompt: Option<&'a str>,
    pub(crate) hot_words: &'a [String],
}

impl<'a> Opening<'a> {
    pub(crate) fn of(language: &'a Option<String>) -> Self {
        Self {
            language: language.as_deref(),
            ..Self::default()
        }
    }

    /// The hot words and the initial prompt as what was said before (Radford et al. 2022 §2.3), its last tokens where there are
    /// more than `most`; nothing where there is neither.
    pub(crate) fn before(&self, vocabulary: &Vocabulary, most: usize) -> Vec<u32> {
        let words = self.hot_words.join(", ");
        let said = [words.trim(), self.initial_prompt.unwrap_or_default().trim()];
        let said: Vec<&str> = said.into_iter().filter(|it| !it.is_empty()).collect();
        if said.is_empty() {
            return Vec::new();
        }
        let tokens = encode(vocabulary, &format!(" {}", said.join(". ")));
        let kept = &tokens[tokens.len().saturating_sub(most.saturating_sub(1))..];
        [&[vocabulary.previous], kept].concat()
    }
}
