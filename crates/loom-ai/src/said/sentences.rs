use loom_core::{MediaTime, Word};

use crate::Transcript;

/// A sentence's words; never empty.
#[derive(Debug, Clone)]
pub(super) struct Sentence {
    pub(super) words: Vec<Word>,
    /// The stem of each word that carries meaning, `None` for the others.
    pub(super) stems: Vec<Option<String>>,
}

impl Sentence {
    fn new(words: Vec<Word>) -> Self {
        let stems = words.iter().map(|it| stem(&it.text)).collect();
        Self { words, stems }
    }

    pub(super) fn start(&self) -> MediaTime {
        self.words.first().map_or(MediaTime::ZERO, |it| it.start)
    }

    pub(super) fn end(&self) -> MediaTime {
        self.words.last().map_or(MediaTime::ZERO, |it| it.end)
    }

    pub(super) fn text(&self) -> String {
        let words: Vec<&str> = self.words.iter().map(|it| it.text.as_str()).collect();
        words.join(" ")
    }

    /// The stems that carry meaning, in order.
    pub(super) fn content(&self) -> impl Iterator<Item = &str> {
        self.stems.iter().filter_map(|it| it.as_deref())
    }
}

/// Words that one sentence may have before a pause ends it.
const LONGEST: usize = 60;
/// Seconds of pause that end a sentence without a mark.
const PAUSE: f64 = 1.5;

/// The sentences of a transcript: ended by a mark, or by a pause where the model wrote none.
pub(super) fn of(transcript: &Transcript) -> Vec<Sentence> {
    let mut out = Vec::new();
    let mut open: Vec<Word> = Vec::new();
    for word in transcript.segments.iter().flat_map(|it| &it.words) {
        if let Some(last) = open.last() {
            let paused = word.start.signed_since(last.end) as f64 / 1e9 >= PAUSE;
            if paused || open.len() >= LONGEST {
                out.push(Sentence::new(std::mem::take(&mut open)));
            }
        }
        open.push(word.clone());
        if word.text.ends_with(['.', '?', '!', '。', '？', '！']) && !is_abbreviation(&word.text) {
            out.push(Sentence::new(std::mem::take(&mut open)));
        }
    }
    if !open.is_empty() {
        out.push(Sentence::new(open));
    }
    out
}

fn is_abbreviation(word: &str) -> bool {
    matches!(
        word,
        "Mr." | "Mrs." | "Ms." | "Dr." | "St." | "vs." | "etc." | "e.g." | "i.e."
    )
}

/// Letters and figures alone, lower case; an apostrophe stays within a word.
pub(super) fn bare(word: &str) -> String {
    let kept: String = word
        .chars()
        .filter(|it| it.is_alphanumeric() || matches!(it, '\'' | '’' | '-'))
        .flat_map(char::to_lowercase)
        .collect();
    kept.replace('’', "'").trim_matches(['\'', '-']).to_owned()
}

/// A word without its inflection, so that "record", "records" and "recording" count as one; `None` for a word that carries no
/// meaning by itself. Harman's S-stemmer (1991) and the two commonest verb endings.
fn stem(word: &str) -> Option<String> {
    let word = bare(word);
    let word = word.strip_suffix("'s").unwrap_or(&word);
    if word.chars().count() < 3 || word.contains('\'') || STOP.binary_search(&word).is_ok() {
        return None;
    }
    let plural = if let Some(it) = word.strip_suffix("ies").filter(|it| it.len() > 2) {
        format!("{it}y")
    } else if word.ends_with("us") || word.ends_with("ss") {
        word.to_owned()
    } else {
        word.strip_suffix('s').unwrap_or(word).to_owned()
    };
    let short = ["ing", "ed"]
        .iter()
        .find_map(|end| plural.strip_suffix(end).filter(|it| it.len() > 3));
    let mut short = short.unwrap_or(&plural).to_owned();
    let mut last = short.chars().rev();
    if let (Some(a), Some(b)) = (last.next(), last.next())
        && a == b
        && short.len() < plural.len()
        && !"aeiouls".contains(a)
    {
        short.pop();
    }
    let stem = short
        .strip_suffix('e')
        .filter(|it| it.len() > 3)
        .unwrap_or(&short);
    Some(stem.to_owned())
}

/// English words that every text is full of, in order.
const STOP: &[&str] = &[
    "about",
    "above",
    "actually",
    "after",
    "again",
    "against",
    "all",
    "almost",
    "along",
    "already",
    "also",
    "although",
    "always",
    "among",
    "and",
    "another",
    "any",
    "anyone",
    "anything",
    "are",
    "around",
    "away",
    "back",
    "basically",
    "because",
    "been",
    "before",
    "being",
    "below",
    "between",
    "both",
    "but",
    "came",
    "can",
    "cannot",
    "come",
    "could",
    "did",
    "does",
    "doing",
    "done",
    "down",
    "during",
    "each",
    "either",
    "else",
    "enough",
    "even",
    "ever",
    "every",
    "everything",
    "few",
    "for",
    "from",
    "further",
    "get",
    "gets",
    "getting",
    "give",
    "given",
    "goes",
    "going",
    "gone",
    "gonna",
    "good",
    "got",
    "great",
    "had",
    "has",
    "have",
    "having",
    "her",
    "here",
    "hers",
    "herself",
    "him",
    "himself",
    "his",
    "how",
    "however",
    "into",
    "its",
    "itself",
    "just",
    "kind",
    "know",
    "later",
    "least",
    "less",
    "let",
    "lets",
    "like",
    "little",
    "look",
    "lot",
    "lots",
    "made",
    "make",
    "makes",
    "many",
    "may",
    "maybe",
    "mean",
    "might",
    "mine",
    "more",
    "most",
    "much",
    "must",
    "myself",
    "need",
    "neither",
    "never",
    "next",
    "nor",
    "not",
    "nothing",
    "now",
    "off",
    "often",
    "okay",
    "once",
    "one",
    "only",
    "onto",
    "other",
    "others",
    "our",
    "ours",
    "ourselves",
    "out",
    "over",
    "own",
    "per",
    "perhaps",
    "please",
    "put",
    "quite",
    "rather",
    "really",
    "right",
    "said",
    "same",
    "say",
    "says",
    "see",
    "seem",
    "seemed",
    "seems",
    "seen",
    "several",
    "shall",
    "she",
    "should",
    "since",
    "some",
    "something",
    "sort",
    "still",
    "such",
    "sure",
    "take",
    "tell",
    "than",
    "thank",
    "thanks",
    "that",
    "the",
    "their",
    "theirs",
    "them",
    "themselves",
    "then",
    "there",
    "therefore",
    "these",
    "they",
    "thing",
    "things",
    "think",
    "this",
    "those",
    "though",
    "through",
    "thus",
    "too",
    "toward",
    "towards",
    "two",
    "under",
    "until",
    "upon",
    "use",
    "used",
    "very",
    "wanna",
    "want",
    "was",
    "way",
    "well",
    "went",
    "were",
    "what",
    "whatever",
    "when",
    "where",
    "whether",
    "which",
    "while",
    "who",
    "whole",
    "whom",
    "whose",
    "why",
    "will",
    "with",
    "within",
    "without",
    "would",
    "yeah",
    "yes",
    "yet",
    "you",
    "your",
    "yours",
    "yourself",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stop_words_are_in_order() {
        assert!(STOP.windows(2).all(|it| it[0] < it[1]));
    }

    #[test]
    fn inflections_of_a_word_count_as_one() {
        for (a, b) in [
            ("recording", "records"),
            ("Studies", "study"),
            ("planned", "plan"),
            ("caching,", "cached"),
            ("services.", "service"),
        ] {
            assert_eq!(stem(a), stem(b), "{a} {b}");
        }
        for it in ["the", "I'll", "of", "it's"] {
            assert_eq!(stem(it), None, "{it}");
        }
    }
}
