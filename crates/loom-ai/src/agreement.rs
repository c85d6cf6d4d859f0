use loom_core::Word;

use crate::AiError;
use crate::align::TimedWord;
use crate::decode::Ask;
use crate::limits::SAMPLE_RATE;
use crate::lines::bare;
use crate::model::Model;
use crate::transcribe;
use crate::vocabulary::Vocabulary;

/// What two decodes in a row of a growing utterance agree on.
#[derive(Debug, Default)]
pub(crate) struct Agreement {
    /// Words of final cues within the window, in order: they are forced on every decode.
    fixed: Vec<Spoken>,
    /// What the last decode heard beyond them.
    guess: Vec<Spoken>,
    /// The tokens of all that, times among them: the next decode will find much the same.
    draft: Vec<u32>,
    /// How many of its words the decode before agreed with, or were said long enough ago.
    agreed: usize,
    /// How many of its words are to be shown: those, and likely ones that were said a moment ago.
    shown: usize,
}

/// A word, times in seconds from the window's start.
#[derive(Debug, Clone)]
struct Spoken {
    word: TimedWord,
    /// Its tokens, and before them the times that end the segment before it and begin its own: a decode that is forced on words
    /// without them errs more the more there are.
    tokens: Vec<u32>,
    /// Where in the draft the word ends.
    tokens_end: usize,
}

/// Whether the speaker goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Only what two decodes agree on counts, and what was said a while ago.
    Growing,
    /// The utterance has ended: all of it counts.
    Last,
}

/// Words are shown before two decodes agree on them, and the final form of their cue may correct them: seconds that must have passed
/// since it was said, and how likely it has to be. What was heard at the very end is often the beginning of another word.
const UNAGREED: (f32, f32) = (0.25, 0.85);
/// Seconds after which a word counts as agreed on, so that a final cue does not wait for decodes that differ again and again.
const SETTLED: f32 = 1.0;
/// Seconds of silence put after the sound while it goes on: each decode is checked by the next.
const SILENCE: f32 = 1.0;
/// The same at an utterance's end, where nothing else checks it.
const LAST_SILENCE: f32 = 3.0;
/// The share of the window that is left, at most, where it is cut behind a sentence.
const KEPT: f32 = 0.63;

impl Agreement {
    /// Hears the window again.
    pub(crate) fn hear(
        &mut self,
        model: &Model,
        prompt: &[u32],
        sound: &[f32],
        pass: Pass,
    ) -> Result<(), AiError> {
        let vocabulary = model.vocabulary();
        let mut forced = Vec::new();
        if let Some(first) = self.fixed.first() {
            if !first
                .tokens
                .first()
                .is_some_and(|&it| vocabulary.is_timestamp(it))
            {
                forced.push(first_time(vocabulary, &first.word));
            }
            forced.extend(self.fixed.iter().flat_map(|it| &it.tokens));
        }
        let heard = model.hear(
            sound,
            &Ask {
                prompt,
                forced: &forced,
                draft: &self.draft(vocabulary),
                seconds: sound.len() as f32 / SAMPLE_RATE as f32,
                silence: match pass {
                    Pass::Growing => SILENCE,
                    Pass::Last => LAST_SILENCE,
                },
                temperatures: match pass {
                    Pass::Growing => &[0.0],
                    Pass::Last => &[0.0, 0.4],
                },
                beam: 1,
                seed: 0,
            },
        )?;
        let silent = heard.answer.is_silence();
        self.draft = heard.answer.tokens.clone();
        self.draft.drain(..forced.len());
        let mut fresh: Vec<Spoken> = Vec::new();
        let mut before = forced.len();
        for word in heard.words {
            // What stands alone without a letter belongs to a word that is already final.
            if !silent && word.tokens.start >= before && !bare(&word.text).is_empty() {
                let all = &heard.answer.tokens;
                let mut tokens = all[before..word.tokens.start].to_vec();
                tokens.retain(|&it| vocabulary.is_timestamp(it));
                // Those of a segment that was left out whole are left out too.
                tokens.drain(..tokens.len().saturating_sub(2));
                tokens.extend(&all[word.tokens.clone()]);
                before = word.tokens.end;
                let tokens_end = word.tokens.end - forced.len();
                fresh.push(Spoken {
                    word,
                    tokens,
                    tokens_end,
                });
            }
        }
        let same = |(a, b): &(&Spoken, &Spoken)| bare(&a.word.text) == bare(&b.word.text);
        self.agreed = match pass {
            Pass::Growing => fresh.iter().zip(&self.guess).take_while(same).count(),
            Pass::Last => fresh.len(),
        };
        let length = sound.len() as f32 / SAMPLE_RATE as f32;
        let settled = |it: &&Spoken| length - it.word.end >= SETTLED;
        self.agreed = self.agreed.max(fresh.iter().take_while(settled).count());
        let due = |it: &&Spoken| {
            let (age, likely) = (length - it.word.end, it.word.probability);
            age >= UNAGREED.0 && likely >= UNAGREED.1
        };
        self.shown = self.agreed + fresh[self.agreed..].iter().take_while(due).count();
        self.guess = fresh;
        Ok(())
    }

    /// What the last decode heard beyond what is final, as tokens.
    fn draft(&self, vocabulary: &Vocabulary) -> Vec<u32> {
        let mut out = self.draft.clone();
        if self.fixed.is_empty()
            && let Some(first) = self.guess.first()
            && out.first().is_some_and(|&it| vocabulary.is_text(it))
        {
            // What stood before it is no longer in the window, which begins with a time.
            out.insert(0, first_time(vocabulary, &first.word));
        }
        out
    }

    /// How many of the words two decodes agree on, or were said a while ago.
    pub(crate) fn agreed(&self) -> usize {
        self.agreed
    }

    /// The words to show that are not final yet, on the timeline whose instant `zero` is the window's start. The first
    /// [`agreed`](Self::agreed) of them may become final.
    pub(crate) fn words(&self, pass: Pass, zero: f64) -> Vec<Word> {
        let mut out: Vec<Word> = self.guess[..self.shown]
            .iter()
            .filter_map(|it| transcribe::word(&it.word, zero))
            .collect();
        if pass == Pass::Growing
            && let Some(last) = out.last_mut()
        {
            // The end of what was heard often looks like the end of a sentence; its mark waits for what follows.
            let kept = last.text.trim_end_matches(|c: char| !c.is_alphanumeric()).len();
            last.text.truncate(kept);
        }
        out
    }

    /// The first `count` agreed words are final now.
    pub(crate) fn fix(&mut self, count: usize) {
        let count = count.min(self.agreed);
        self.agreed -= count;
        self.shown -= count;
        if let Some(last) = count.checked_sub(1) {
            let end = self.guess[last].tokens_end;
            self.draft.drain(..end.min(self.draft.len()));
            for it in &mut self.guess {
                it.tokens_end = it.tokens_end.saturating_sub(end);
            }
        }
        self.fixed.extend(self.guess.drain(..count));
    }

    /// Gives up final words once the window of `length` samples is longer than `window`, or before where a sentence allows it: how many
    /// samples to leave out. Sound of which nothing is final yet is given up only once it is longer than `most`.
    pub(crate) fn trim(&mut self, vocabulary: &Vocabulary, length: u64, window: u64, most: u64) -> u64 {
        if length <= window * 3 / 4 {
            return 0;
        }
        let least = (length as f32 - KEPT * window as f32) / SAMPLE_RATE as f32;
        let sentence = |it: &Spoken| it.word.text.ends_with(['.', '?', '!']) && it.word.end >= least;
        let phrase =
            |it: &Spoken| it.word.text.ends_with(['.', '?', '!', ',', ';', ':']) && it.word.end >= 1.0;
        let earliest = self.fixed.iter().position(sentence);
        let at = match earliest.or_else(|| self.fixed.iter().rposition(phrase)) {
            Some(at) => at,
            None if length <= window => return 0,
            None if !self.fixed.is_empty() => self.fixed.len() - 1,
            None if length <= most => return 0,
            None => {
                // Nothing became final in all that time: the sound's first part is given up.
                self.guess.clear();
                self.draft.clear();
                (self.agreed, self.shown) = (0, 0);
                return length - most / 2;
            }
        };
        let next = self
            .fixed
            .get(at + 1)
            .or(self.guess.first())
            .map(|it| it.word.start);
        let end = self.fixed[at].word.end;
        let cut = next.map_or(end, |next| if next > end { (end + next) / 2.0 } else { end });
        self.fixed.drain(..=at);
        for it in self.fixed.iter_mut().chain(&mut self.guess) {
            it.word.start = (it.word.start - cut).max(0.0);
            it.word.end = (it.word.end - cut).max(0.0);
            for token in it.tokens.iter_mut().filter(|it| vocabulary.is_timestamp(**it)) {
                let steps = (*token - vocabulary.first_timestamp).saturating_sub((cut / 0.02).round() as u32);
                *token = vocabulary.first_timestamp + steps;
            }
        }
        ((cut * SAMPLE_RATE as f32) as u64).min(length)
    }
}

/// The time at which a window begins whose first word is this.
fn first_time(vocabulary: &Vocabulary, word: &TimedWord) -> u32 {
    vocabulary.first_timestamp + (word.start / 0.02).clamp(0.0, 50.0) as u32
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Words of a second each, each with a token, those that begin a segment with its time before it.
    fn heard(vocabulary: &Vocabulary, words: &[&str]) -> Agreement {
        let mut it = Agreement::default();
        let mut begins = true;
        for (index, text) in words.iter().enumerate() {
            let start = index as f32;
            let time = vocabulary.first_timestamp + (start / 0.02) as u32;
            let mut tokens = if begins { vec![time] } else { Vec::new() };
            tokens.push(index as u32);
            begins = text.ends_with('.');
            it.fixed.push(Spoken {
                word: TimedWord {
                    text: (*text).to_owned(),
                    start,
                    end: start + 1.0,
                    probability: 0.9,
                    tokens: 0..1,
                },
                tokens,
                tokens_end: 0,
            });
        }
        it
    }

    const SECOND: u64 = SAMPLE_RATE as u64;

    #[test]
    fn a_window_is_cut_behind_the_first_sentence_that_leaves_enough_of_it() {
        let vocabulary = Vocabulary::english(Path::new("built in")).unwrap();
        let mut it = heard(
            &vocabulary,
            &["a", "b.", "c", "d.", "e", "f,", "g", "h.", "i", "j"],
        );
        let (window, most) = (10 * SECOND, 10 * SECOND);
        assert_eq!(it.trim(&vocabulary, 7 * SECOND, window, most), 0, "there is room");
        // 6.3 s may be left: "b." would leave eight, and "h." two.
        assert_eq!(it.trim(&vocabulary, 10 * SECOND, window, most), 4 * SECOND);
        let left: Vec<&str> = it.fixed.iter().map(|it| it.word.text.as_str()).collect();
        assert_eq!(left, ["e", "f,", "g", "h.", "i", "j"]);
        // Times are of the window, those among the tokens too.
        let first = vocabulary.first_timestamp;
        let tokens: Vec<u32> = it.fixed.iter().flat_map(|it| it.tokens.clone()).collect();
        assert_eq!(tokens, [first, 4, 5, 6, 7, first + 200, 8, 9]);
        assert_eq!(it.fixed[4].word.start, 4.0);
    }

    #[test]
    fn a_long_sentence_is_cut_at_its_last_phrase() {
        let vocabulary = Vocabulary::english(Path::new("built in")).unwrap();
        let mut it = heard(&vocabulary, &["a", "b,", "c", "d", "e,", "f", "g", "h", "i"]);
        assert_eq!(
            it.trim(&vocabulary, 9 * SECOND, 10 * SECOND, 10 * SECOND),
            5 * SECOND
        );
        let left: Vec<&str> = it.fixed.iter().map(|it| it.word.text.as_str()).collect();
        assert_eq!(left, ["f", "g", "h", "i"]);
        assert!(it.fixed[0].tokens[0] < vocabulary.first_timestamp);
    }

    #[test]
    fn sound_of_which_nothing_is_final_is_kept_where_processors_are_short() {
        let vocabulary = Vocabulary::english(Path::new("built in")).unwrap();
        let mut it = heard(&vocabulary, &["a", "b", "c"]);
        it.guess = std::mem::take(&mut it.fixed);
        assert_eq!(it.trim(&vocabulary, 8 * SECOND, 3 * SECOND, 14 * SECOND), 0);
        assert_eq!(it.guess.len(), 3);
        assert_eq!(
            it.trim(&vocabulary, 15 * SECOND, 3 * SECOND, 14 * SECOND),
            8 * SECOND
        );
        assert!(it.guess.is_empty());
    }
}
