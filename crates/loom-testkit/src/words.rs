/// How far a transcript is from what was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WordErrors {
    /// Words that must be put in, taken out or exchanged.
    pub errors: usize,
    /// Words that were said.
    pub words: usize,
}

impl WordErrors {
    /// The word error rate, 0.0 for a perfect transcript.
    pub fn rate(&self) -> f64 {
        self.errors as f64 / self.words.max(1) as f64
    }
}

/// Counts word errors (Levenshtein distance over words). Case, punctuation and hyphens do not count.
pub fn word_errors(said: &str, heard: &str) -> WordErrors {
    let said = words(said);
    let heard = words(heard);
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, word) in said.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in heard.iter().enumerate() {
            let exchanged = diagonal + usize::from(word != other);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    WordErrors {
        errors: row[heard.len()],
        words: said.len(),
    }
}

fn words(text: &str) -> Vec<String> {
    let kept = |c: char| if c.is_alphanumeric() || c == '\'' { c } else { ' ' };
    text.to_lowercase()
        .chars()
        .map(kept)
        .collect::<String>()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_as_a_person_would() {
        assert_eq!(word_errors("Hello, world", "hello world").errors, 0);
        assert_eq!(word_errors("a b c d", "a x c").errors, 2);
        assert_eq!(word_errors("", "a").errors, 1);
        assert_eq!(
            word_errors("one-two three", "one two three"),
            WordErrors { errors: 0, words: 3 }
        );
    }
}
