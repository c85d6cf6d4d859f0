use crate::AiError;
use crate::align::TimedWord;
use crate::captioner::Shown;
use crate::decode::Ask;
use crate::limits::SAMPLE_RATE;
use crate::model::Model;
use crate::transcribe;

/// What two decodes in a row of a growing utterance agree on.
#[derive(Debug, Default)]
pub(crate) struct Agreement {
    /// Agreed words within the window, in order.
    agreed: Vec<AgreedWord>,
    /// What the last decode heard beyond them.
    guess: Vec<TimedWord>,
}

#[derive(Debug, Clone)]
struct AgreedWord {
    tokens: Vec<u32>,
    start: f32,
    end: f32,
    /// It ends a sentence or a clause.
    closes: bool,
}

/// A word or mark that has just been agreed on, times in seconds from the window's start.
#[derive(Debug, Clone)]
pub(crate) struct Agreed(TimedWord);

impl Agreed {
    /// On the recording's timeline, whose instant `zero` is the window's start.
    pub(crate) fn at(self, zero: f64) -> Shown {
        match transcribe::word(&self.0, zero) {
            Some(word) if self.0.text.chars().any(char::is_alphanumeric) => Shown::Word(word),
            Some(word) => Shown::Mark(word.text),
            None => Shown::Mark(String::new()),
        }
    }
}

impl Agreement {
    /// Hears the window again; the answer is what can now be shown. When it is the last time, that is everything.
    pub(crate) fn hear(
        &mut self,
        model: &Model,
        prompt: &[u32],
        sound: &[f32],
        last: bool,
    ) -> Result<Vec<Agreed>, AiError> {
        let vocabulary = model.vocabulary();
        let mut forced = Vec::new();
        if let Some(first) = self.agreed.first() {
            let step = (first.start / 0.02).clamp(0.0, 50.0) as u32;
            forced.push(vocabulary.first_timestamp + step);
            forced.extend(self.agreed.iter().flat_map(|it| &it.tokens));
        }
        let heard = model.hear(
            sound,
            &Ask {
                prompt,
                forced: &forced,
                seconds: sound.len() as f32 / SAMPLE_RATE as f32,
                silence: 1.0,
                temperatures: &[0.0],
                seed: 0,
            },
        )?;
        let silent = heard.answer.is_silence();
        let fresh: Vec<TimedWord> = heard
            .words
            .into_iter()
            .filter_map(|it| beyond(model, &heard.answer.tokens, it, forced.len()))
            .filter(|_| !silent)
            .collect();
        let same = fresh
            .iter()
            .zip(&self.guess)
            .take_while(|(a, b)| bare(&a.text) == bare(&b.text))
            .count();
        let take = if last { fresh.len() } else { same };
        let mut shown = Vec::with_capacity(take);
        for (index, word) in fresh[..take].iter().enumerate() {
            let mut word = word.clone();
            let mut tokens = heard.answer.tokens[word.tokens.clone()].to_vec();
            let settled = last
                || index + 1 < take
                || (index + 1 < fresh.len() && self.guess.get(index).is_some_and(|it| it.text == word.text));
            if !settled {
                // The end of what was heard often looks like the end of a sentence; the mark waits for what follows.
                drop_marks(model, &mut word, &mut tokens);
            }
            if word.text.trim().is_empty() {
                continue;
            }
            self.agreed.push(AgreedWord {
                closes: word.text.ends_with(['.', '?', '!', ',', ';', ':']),
                start: word.start,
                end: word.end,
                tokens,
            });
            shown.push(Agreed(word));
        }
        self.guess = fresh[take..].to_vec();
        Ok(shown)
    }

    /// Gives up agreed words once the window of `length` samples is longer than `window`: how many samples to leave out.
    pub(crate) fn trim(&mut self, length: u64, window: u64) -> u64 {
        if length <= window * 3 / 4 {
            return 0;
        }
        let seconds = |it: u64| it as f32 / SAMPLE_RATE as f32;
        let closing = self.agreed.iter().rposition(|it| it.closes && it.end >= 1.0);
        let at = match closing {
            Some(at) => Some(at),
            None if length > window => self.agreed.len().checked_sub(1),
            None => return 0,
        };
        let Some(at) = at else {
            // Nothing was agreed on in all that time; the sound's first part is given up with its guess.
            let cut = seconds(length - window / 2);
            self.guess.clear();
            return (cut * SAMPLE_RATE as f32) as u64;
        };
        let next = self
            .agreed
            .get(at + 1)
            .map(|it| it.start)
            .or_else(|| self.guess.first().map(|it| it.start));
        let end = self.agreed[at].end;
        let cut = next.map_or(end, |next| if next > end { (end + next) / 2.0 } else { end });
        self.agreed.drain(..=at);
        for word in &mut self.agreed {
            word.start = (word.start - cut).max(0.0);
            word.end = (word.end - cut).max(0.0);
        }
        for word in &mut self.guess {
            word.start = (word.start - cut).max(0.0);
            word.end = (word.end - cut).max(0.0);
        }
        ((cut * SAMPLE_RATE as f32) as u64).min(length)
    }
}

/// The part of a word that was not forced; marks may follow a forced word.
fn beyond(model: &Model, tokens: &[u32], mut word: TimedWord, forced: usize) -> Option<TimedWord> {
    if word.tokens.end <= forced {
        return None;
    }
    if word.tokens.start < forced {
        word.tokens.start = forced;
        word.text = model.vocabulary().text(&tokens[word.tokens.clone()]);
        word.start = word.end;
    }
    Some(word)
}

/// Takes punctuation off the end of a word, token by token.
fn drop_marks(model: &Model, word: &mut TimedWord, tokens: &mut Vec<u32>) {
    while let Some(&token) = tokens.last() {
        let text = model.vocabulary().text(&[token]);
        if text.is_empty() || text.chars().any(|c| c.is_alphanumeric() || c == '\u{fffd}') {
            break;
        }
        tokens.pop();
    }
    word.text = model.vocabulary().text(tokens);
}

/// A word without case and punctuation.
fn bare(text: &str) -> String {
    text.chars()
        .filter(|it| it.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}
