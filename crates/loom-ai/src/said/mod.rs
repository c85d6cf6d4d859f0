//! What was said: chapters, key phrases, an extractive summary and action items, each with its time in the media.
//!
//! All of it is arithmetic on the transcript's words, unless an [`Embedder`] is given for the chapters: no model, no network, the same transcript always gives the same answer. It
//! knows English best; in other languages chapters and phrases still follow the words, and action items are not found.

mod actions;
mod chapters;
mod phrases;
mod sentences;
mod summary;

use loom_core::MediaTime;
use serde::{Deserialize, Serialize};

use crate::{AiError, Embedder, Transcript};
use sentences::Sentence;

/// Everything that [`Gist::of`] finds.
///
/// ```
/// use loom_ai::{Gist, Transcript};
///
/// let silence = Transcript {
///     language: "en".into(),
///     model: "tiny.en".into(),
///     duration: 4.0,
///     text: String::new(),
///     segments: Vec::new(),
/// };
/// assert!(Gist::of(&silence).chapters.is_empty());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Gist {
    /// Where the topic shifts; the first begins with the first word. Empty where nothing was said.
    pub chapters: Vec<Chapter>,
    /// What it was about, most telling first.
    pub phrases: Vec<KeyPhrase>,
    /// The sentences that say most, in the order they were said.
    pub summary: Vec<Excerpt>,
    /// What somebody undertook, asked for or set a time for.
    pub actions: Vec<Excerpt>,
}

/// A stretch about one topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chapter {
    /// When its first word begins.
    pub start: MediaTime,
    /// When its last word ends.
    pub end: MediaTime,
    /// Its most telling phrases.
    pub title: String,
}

/// A phrase that tells what was talked about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyPhrase {
    /// As it was said first, without punctuation.
    pub text: String,
    /// How much it tells beside the others, greatest first.
    pub score: f32,
    /// When it was said, each time.
    pub times: Vec<MediaTime>,
}

/// A sentence as it was said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Excerpt {
    /// When its first word begins.
    pub start: MediaTime,
    /// When its last word ends.
    pub end: MediaTime,
    /// Its words.
    pub text: String,
}

impl Gist {
    /// What a transcript says in short: about a chapter for each two minutes at most, ten phrases and five sentences at most.
    pub fn of(transcript: &Transcript) -> Self {
        let sentences = sentences::of(transcript);
        Self {
            chapters: chapters::find(&sentences),
            phrases: phrases::find(&sentences, 10),
            summary: summary::find(&sentences, 5),
            actions: actions::find(&sentences),
        }
    }

    /// The same, with chapters where what the sentences mean shifts, whatever their words.
    ///
    /// # Errors
    /// The embedder's; [`AiError::Inference`] where it gives another number of vectors than texts.
    pub fn by_meaning(transcript: &Transcript, embedder: &dyn Embedder) -> Result<Self, AiError> {
        let sentences = sentences::of(transcript);
        let texts: Vec<String> = sentences.iter().map(Sentence::text).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let vectors = embedder.embed(&texts)?;
        if vectors.len() != texts.len() {
            let why = format!(
                "{}: {} vectors for {} texts",
                embedder.name(),
                vectors.len(),
                texts.len()
            );
            return Err(AiError::Inference(why.into()));
        }
        Ok(Self {
            chapters: chapters::find_by_meaning(&sentences, &vectors),
            ..Self::of(transcript)
        })
    }

    /// The `most` sentences that say most, in the order they were said.
    pub(crate) fn excerpts(transcript: &Transcript, most: usize) -> Vec<Excerpt> {
        summary::find(&sentences::of(transcript), most)
    }
}

impl From<&Sentence> for Excerpt {
    fn from(it: &Sentence) -> Self {
        Self {
            start: it.start(),
            end: it.end(),
            text: it.text(),
        }
    }
}

#[cfg(test)]
mod tests;
