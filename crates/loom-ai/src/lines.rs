//! Words to readable cues: at most two lines of 42 characters, broken where a reader would pause.

use loom_core::{MediaTime, Word};

/// Characters a line may have.
pub(crate) const LINE: usize = 42;
/// Lines a cue may have.
const LINES: usize = 2;
/// Seconds a cue may last.
const LONGEST: f64 = 6.0;
/// A pause this long, in seconds, always ends a cue.
const PAUSE: f64 = 0.8;

/// Whether a cue of `words` must end before `next` is added to it.
pub(crate) fn ends_before(words: &[Word], next: &Word) -> bool {
    let (Some(first), Some(last)) = (words.first(), words.last()) else {
        return false;
    };
    let lasts = seconds(first.start, last.end);
    let text = words.iter().map(|it| it.text.chars().count() + 1).sum::<usize>();
    if seconds(last.end, next.start) >= PAUSE || seconds(first.start, next.end) > LONGEST {
        return true;
    }
    if last.text.ends_with(['.', '?', '!', '。', '？', '！'])
        && !is_abbreviation(&last.text)
        && (lasts >= 1.0 || text > 15)
    {
        return true;
    }
    if last.text.ends_with([',', ';', ':', '—']) && text > LINE - 8 {
        return true;
    }
    let longer: Vec<&str> = words.iter().chain([next]).map(|it| it.text.as_str()).collect();
    wrapped(&longer).len() > LINES
}

fn is_abbreviation(word: &str) -> bool {
    matches!(
        word,
        "Mr." | "Mrs." | "Ms." | "Dr." | "St." | "vs." | "etc." | "e.g." | "i.e."
    )
}

fn seconds(from: MediaTime, to: MediaTime) -> f64 {
    to.signed_since(from) as f64 / 1e9
}

/// The cue's text: words filled into lines, so that adding a word never changes what stands before it.
#[cfg(any(test, feature = "candle"))]
pub(crate) fn text(words: &[Word]) -> String {
    let words: Vec<&str> = words.iter().map(|it| it.text.as_str()).collect();
    wrapped(&words).join("\n")
}

/// The text in lines of about equal length, for a cue that will not grow.
pub(crate) fn balanced(words: &[Word]) -> String {
    let texts: Vec<&str> = words.iter().map(|it| it.text.as_str()).collect();
    let lines = wrapped(&texts);
    if lines.len() != 2 {
        return lines.join("\n");
    }
    let length = |part: &[&str]| {
        part.iter()
            .map(|it| it.chars().count() + 1)
            .sum::<usize>()
            .saturating_sub(1)
    };
    let cost = |&at: &usize| {
        let (a, b) = texts.split_at(at);
        let over = length(a).saturating_sub(LINE) + length(b).saturating_sub(LINE);
        let phrase = if a
            .last()
            .is_some_and(|it| it.ends_with([',', '.', ';', ':', '?', '!']))
        {
            0
        } else {
            8
        };
        over * 1_000 + length(a).abs_diff(length(b)) + phrase
    };
    let best = (1..texts.len()).min_by_key(cost).unwrap_or(1);
    let (a, b) = texts.split_at(best);
    format!("{}\n{}", a.join(" "), b.join(" "))
}

/// Fills lines of at most [`LINE`] characters; a longer word has a line for itself.
fn wrapped(words: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut length = 0;
    for word in words {
        let size = word.chars().count();
        match lines.last_mut() {
            Some(line) if length + 1 + size <= LINE => {
                line.push(' ');
                line.push_str(word);
                length += 1 + size;
            }
            _ => {
                lines.push((*word).to_owned());
                length = size;
            }
        }
    }
    lines
}

/// Cuts words into the runs that one cue each shows.
pub(crate) fn runs(words: &[Word]) -> Vec<&[Word]> {
    let mut out = Vec::new();
    let mut from = 0;
    for at in 1..words.len() {
        if ends_before(&words[from..at], &words[at]) {
            out.push(&words[from..at]);
            from = at;
        }
    }
    if from < words.len() {
        out.push(&words[from..]);
    }
    out
}

/// A word without case and punctuation.
pub(crate) fn bare(text: &str) -> String {
    text.chars()
        .filter(|it| it.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Word> {
        text.split(' ')
            .enumerate()
            .map(|(i, it)| Word {
                start: MediaTime::from_millis(i as i64 * 300),
                end: MediaTime::from_millis(i as i64 * 300 + 280),
                text: it.to_owned(),
                probability: 1.0,
            })
            .collect()
    }

    #[test]
    fn no_cue_is_longer_than_two_lines_of_forty_two_characters_or_six_seconds() {
        let all = words(
            "For although the Chinese took impressions from wood blocks engraved in relief for centuries before the \
             woodcutters of the Netherlands by a similar process produced the block books which were the immediate \
             predecessors of the true printed book",
        );
        let runs = runs(&all);
        assert_eq!(runs.iter().map(|it| it.len()).sum::<usize>(), all.len());
        for run in runs {
            for it in [text(run), balanced(run)] {
                assert!(it.lines().count() <= 2, "{it}");
                assert!(it.lines().all(|line| line.chars().count() <= 42), "{it}");
            }
            assert!(run[run.len() - 1].end.since(run[0].start).as_secs_f64() <= 6.0);
        }
    }

    #[test]
    fn a_cue_ends_with_its_sentence() {
        let all = words("That was all he said. Nobody answered him at first.");
        assert_eq!(runs(&all).iter().map(|it| it.len()).collect::<Vec<_>>(), [5, 5]);
    }

    #[test]
    fn text_that_grows_keeps_what_stands_before() {
        let all = words("it is a truth universally acknowledged that a single man in possession of");
        for n in 1..all.len() {
            assert!(text(&all[..n + 1]).starts_with(&text(&all[..n])));
        }
    }

    #[test]
    fn two_lines_are_about_as_long_as_each_other() {
        let all = words("it is a truth universally acknowledged by everybody here");
        let lines: Vec<usize> = balanced(&all).lines().map(|it| it.chars().count()).collect();
        assert!(lines[0].abs_diff(lines[1]) < 12, "{lines:?}");
    }
}
