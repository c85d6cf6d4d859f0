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
    /// How many of its words the decode before agreed with.
    agreed: usize,
    /// How many of its words are to be shown: those, and what was said long enough ago.
    shown: usize,
}

/// A word and its tokens, times in seconds from the window's start.
#[derive(Debug, Clone)]
struct Spoken {
    word: TimedWord,
    tokens: Vec<u32>,
    /// Where in the draft the word ends.
    tokens_end: usize,
}

/// Whether the speaker goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Only what two decodes agree on counts.
    Growing,
    /// The utterance has ended: all of it counts.
    Last,
}

/// Words are shown before two decodes agree on them, and the final form of their cue may correct them: each (seconds that must have
/// passed since it was said, how likely it has to be). What was heard at the very end is often the beginning of another word.
const UNAGREED: [(f32, f32); 2] = [(0.25, 0.85), (1.2, 0.4)];
/// Seconds of silence put after the sound while it goes on: each decode is checked by the next.
const SILENCE: f32 = 1.0;
/// The same at an utterance's end, where nothing else checks it.
const LAST_SILENCE: f32 = 3.0;

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
            forced.push(first_time(vocabulary, &first.word));
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
        for word in heard.words {
            // What stands alone without a letter belongs to a word that is already final.
            if !silent && word.tokens.start >= forced.len() && !bare(&word.text).is_empty() {
                let tokens = heard.answer.tokens[word.tokens.clone()].to_vec();
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
        let due = |it: &&Spoken| {
            let (age, likely) = (length - it.word.end, it.word.probability);
            UNAGREED.iter().any(|rule| age >= rule.0 && likely >= rule.1)
        };
        self.shown = fresh.iter().take_while(due).count().max(self.agreed);
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

    /// How many of the words two decodes agree on.
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

    /// Gives up final words once the window of `length` samples is longer than `window`: how many samples to leave out.
    pub(crate) fn trim(&mut self, length: u64, window: u64) -> u64 {
        if length <= window * 3 / 4 {
            return 0;
        }
        let closes =
            |it: &Spoken| it.word.text.ends_with(['.', '?', '!', ',', ';', ':']) && it.word.end >= 1.0;
        let at = match self.fixed.iter().rposition(closes) {
            Some(at) => at,
            None if length <= window => return 0,
            None if !self.fixed.is_empty() => self.fixed.len() - 1,
            None => {
                // Nothing became final in all that time: the sound's first part is given up.
                self.guess.clear();
                self.draft.clear();
                (self.agreed, self.shown) = (0, 0);
                return length - window / 2;
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
        }
        ((cut * SAMPLE_RATE as f32) as u64).min(length)
    }
}

/// The time at which a window begins whose first word is this.
fn first_time(vocabulary: &Vocabulary, word: &TimedWord) -> u32 {
    vocabulary.first_timestamp + (word.start / 0.02).clamp(0.0, 50.0) as u32
}
