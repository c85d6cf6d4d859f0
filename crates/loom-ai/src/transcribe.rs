use std::ops::Range;

use loom_core::{MediaTime, Word};

use crate::AiError;
use crate::align::TimedWord;
use crate::decode::Ask;
use crate::limits::SAMPLE_RATE;
use crate::model::{Heard, Model};
use crate::prompt::{Opening, Task};
use crate::transcript::{Segment, Transcript};
use crate::vad::{VoiceActivityConfig, utterances};

/// How a whole recording is transcribed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TranscribeConfig {
    /// ISO 639-1 code; `None` lets a multilingual model find out from the first speech.
    pub language: Option<String>,
    /// Whether to write what is said or its English translation.
    pub task: Task,
    /// What was said before or what it is about, at most some 200 words: the model goes on in its spelling and style.
    pub initial_prompt: Option<String>,
    /// Names and terms that are likely to be said.
    pub hot_words: Vec<String>,
    /// Answers that are followed at once, 1 ..= 8: 1 is greedy, more cost as many times the decoding and err a little less.
    pub beam: usize,
    /// When the first sample is heard on the recording's timeline.
    pub start: MediaTime,
    /// What counts as speech.
    pub voice_activity: VoiceActivityConfig,
    /// Tried in order until an answer passes the checks on repetition and confidence; 0 is greedy.
    pub temperatures: Vec<f32>,
    /// Seeds the sampling above temperature 0.
    pub seed: u64,
}

impl Default for TranscribeConfig {
    fn default() -> Self {
        Self {
            language: None,
            task: Task::Transcribe,
            initial_prompt: None,
            hot_words: Vec::new(),
            beam: 1,
            start: MediaTime::ZERO,
            voice_activity: VoiceActivityConfig::default(),
            temperatures: vec![0.0, 0.2, 0.4, 0.6],
            seed: 0,
        }
    }
}

/// Seconds of sound decoded at once.
const WINDOW: usize = 28;
/// Seconds of silence put after each window. With 3 the errors at its end are those of a full 30 s.
const SILENCE: f32 = 3.0;
/// Windows that are decoded at once.
const TOGETHER: usize = 4;
/// Answers that a beam may hold.
const MOST_BEAM: usize = 8;
/// A pause longer than this many seconds is left out rather than decoded.
const LONGEST_PAUSE: usize = 2;

/// Transcribes a whole recording of 16 kHz mono PCM. `progress` gets the share done, 0.0 ..= 1.0.
///
/// # Errors
/// [`AiError::Config`] for a language that the model does not know, [`AiError::Inference`] when the arithmetic fails for all of it; where it fails for
/// a window only, what was said there is left out.
pub fn transcribe(
    model: &Model,
    pcm: &[f32],
    config: &TranscribeConfig,
    mut progress: impl FnMut(f32),
) -> Result<Transcript, AiError> {
    if let Some(rule) = config.voice_activity.broken_rule() {
        return Err(AiError::Config {
            field: "voice_activity",
            rule,
        });
    }
    if !(1..=MOST_BEAM).contains(&config.beam) {
        return Err(AiError::Config {
            field: "beam",
            rule: "must be from 1 to 8",
        });
    }
    let longest = (WINDOW * SAMPLE_RATE).min(model.longest_window());
    let mut windows = windows(&utterances(pcm, config.voice_activity), longest);
    windows.reverse();
    let first = windows.last().map_or(&[][..], |it| &pcm[it.clone()]);
    let opening = Opening {
        // Where nothing is said there is no language to find.
        language: config.language.as_deref().or(first.is_empty().then_some("en")),
        task: config.task,
        initial_prompt: config.initial_prompt.as_deref(),
        hot_words: &config.hot_words,
    };
    let prompt = model.prompt(&opening, first)?;
    let mut segments: Vec<Segment> = Vec::new();
    let (mut any, mut fault) = (false, None);
    while !windows.is_empty() {
        progress(windows[windows.len() - 1].start as f32 / pcm.len() as f32);
        // Windows that end with a pause do not wait for each other.
        let some: Vec<Range<usize>> = windows.split_off(windows.len().saturating_sub(TOGETHER));
        let cut = |it: &Range<usize>| it.start..it.end.min(it.start + longest);
        let sounds: Vec<&[f32]> = some.iter().rev().map(|it| &pcm[cut(it)]).collect();
        let asks: Vec<Ask<'_>> = some
            .iter()
            .rev()
            .map(|it| Ask {
                prompt: &prompt,
                forced: &[],
                draft: &[],
                seconds: cut(it).len() as f32 / SAMPLE_RATE as f32,
                silence: SILENCE,
                temperatures: &config.temperatures,
                beam: config.beam,
                seed: config.seed ^ it.start as u64,
            })
            .collect();
        let heard = each_alone_if_not_together(&sounds, &asks, &|sounds, asks| model.hear_all(sounds, asks))?;
        let mut rests = Vec::new();
        for ((whole, sound), heard) in some.iter().rev().zip(sounds).zip(heard) {
            let window = cut(whole);
            let mut heard = match heard {
                Ok(it) => it,
                Err(why) => {
                    let (from, to) = (window.start / SAMPLE_RATE, window.end / SAMPLE_RATE);
                    tracing::warn!(%why, from, to, "the transcript goes on without these seconds");
                    if window.end < whole.end {
                        rests.push(window.end..whole.end);
                    }
                    fault = Some(why);
                    continue;
                }
            };
            any = true;
            if window.end < whole.end {
                let from = window.start + resume_at(model, &mut heard, sound);
                rests.push(from..whole.end);
            } else if let Some(rest) = left_over(&heard, &window) {
                rests.push(rest);
            }
            if heard.answer.is_silence() {
                continue;
            }
            let zero = config.start.secs_f64() + window.start as f64 / SAMPLE_RATE as f64;
            collect(model, &heard, zero, &mut segments);
        }
        windows.extend(rests.into_iter().rev());
    }
    if let Some(why) = fault.filter(|_| !any) {
        return Err(why);
    }
    // What a window left was heard after those that follow it.
    segments.sort_by(|a, b| a.start.total_cmp(&b.start));
    progress(1.0);
    let text = segments
        .iter()
        .map(|it| it.text.as_str())
        .collect::<Vec<_>>()
        .join(" ");
    Ok(Transcript {
        language: model.language_of(&prompt).to_owned(),
        model: model.name().to_owned(),
        duration: pcm.len() as f64 / SAMPLE_RATE as f64,
        text,
        segments,
    })
}

/// What is heard of several windows at once; where the arithmetic fails, of each by itself.
fn each_alone_if_not_together<A>(
    sounds: &[&[f32]],
    asks: &[Ask<'_>],
    hear: &impl Fn(&[&[f32]], &[Ask<'_>]) -> Result<Vec<A>, AiError>,
) -> Result<Vec<Result<A, AiError>>, AiError> {
    match hear(sounds, asks) {
        Ok(all) => Ok(all.into_iter().map(Ok).collect()),
        Err(why @ AiError::Inference(_)) if sounds.len() == 1 => Ok(vec![Err(why)]),
        Err(AiError::Inference(why)) => {
            tracing::warn!(%why, windows = sounds.len(), "not heard together");
            let mut each = Vec::with_capacity(sounds.len());
            for (sound, ask) in sounds.chunks(1).zip(asks.chunks(1)) {
                each.extend(each_alone_if_not_together(sound, ask, hear)?);
            }
            Ok(each)
        }
        Err(other) => Err(other),
    }
}

/// Where to go on after a window that ends amid speech, in samples: where its last run between timestamps begins, which may be
/// cut short and is taken back to be heard again with what follows (Radford et al. 2022 §3.8). Where there is one run only, in
/// its last third's quietest moment.
fn resume_at(model: &Model, heard: &mut Heard, sound: &[f32]) -> usize {
    let third = sound.len() / 3;
    let (vocabulary, tokens) = (model.vocabulary(), &heard.answer.tokens);
    let begins = |it: &TimedWord| it.tokens.start > 0 && vocabulary.is_timestamp(tokens[it.tokens.start - 1]);
    let last = heard.words.iter().rposition(begins).filter(|&it| it > 0);
    if let Some(last) = last {
        let at = (heard.words[last - 1].end + heard.words[last].start) / 2.0;
        let at = (at * SAMPLE_RATE as f32) as usize;
        if (third..sound.len()).contains(&at) {
            heard.words.truncate(last);
            return at;
        }
    }
    let at = quietest(sound, sound.len() - third..sound.len());
    heard
        .words
        .retain(|it| (it.start + it.end) / 2.0 * SAMPLE_RATE as f32 <= at as f32);
    at
}

/// What of a window the model left unheard: it stopped well before the end.
fn left_over(heard: &Heard, window: &Range<usize>) -> Option<Range<usize>> {
    let end = heard.words.last()?.end;
    let from = window.start + (end * SAMPLE_RATE as f32) as usize;
    let least = SAMPLE_RATE * 4 / 5;
    (from > window.start + SAMPLE_RATE && from + least < window.end).then_some(from..window.end)
}

/// One segment for each run between the model's own timestamps.
fn collect(model: &Model, heard: &Heard, zero: f64, segments: &mut Vec<Segment>) {
    let vocabulary = model.vocabulary();
    let tokens = &heard.answer.tokens;
    let mut run: Vec<&TimedWord> = Vec::new();
    let mut flush = |run: &mut Vec<&TimedWord>| {
        let words: Vec<Word> = run.drain(..).filter_map(|it| word(it, zero)).collect();
        if !words.iter().any(|it| it.text.chars().any(char::is_alphanumeric)) {
            return;
        }
        if let (Some(first), Some(last)) = (words.first(), words.last()) {
            segments.push(Segment {
                start: first.start.secs_f64(),
                end: last.end.secs_f64(),
                text: words
                    .iter()
                    .map(|it| it.text.as_str())
                    .collect::<Vec<_>>()
                    .join(" "),
                confidence: heard.answer.confidence,
                speaker: None,
                words,
            });
        }
    };
    for it in &heard.words {
        if it.tokens.start > 0 && vocabulary.is_timestamp(tokens[it.tokens.start - 1]) {
            flush(&mut run);
        }
        run.push(it);
    }
    flush(&mut run);
}

/// A word on the recording's timeline, times to the millisecond; nothing for one that is only space.
pub(crate) fn word(it: &TimedWord, zero: f64) -> Option<Word> {
    let text = it.text.trim();
    let at = |seconds: f32| MediaTime::from_millis(((zero + f64::from(seconds)) * 1e3).round() as i64);
    (!text.is_empty()).then(|| Word {
        start: at(it.start),
        end: at(it.end),
        text: text.to_owned(),
        probability: it.probability,
    })
}

/// Joins utterances into windows of at most `longest` samples. An utterance that is longer by itself stays whole: it is heard
/// a window at a time.
fn windows(utterances: &[Range<usize>], longest: usize) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    for utterance in utterances {
        match out.last_mut() {
            Some(last)
                if utterance.start - last.end <= LONGEST_PAUSE * SAMPLE_RATE
                    && utterance.end - last.start <= longest =>
            {
                last.end = utterance.end;
            }
            _ => out.push(utterance.clone()),
        }
    }
    out
}

/// The middle of the quietest 200 ms in `range`.
pub(crate) fn quietest(pcm: &[f32], range: Range<usize>) -> usize {
    let step = SAMPLE_RATE / 50;
    let energy: Vec<f32> = pcm[range.clone()]
        .chunks(step)
        .map(|it| it.iter().map(|v| v * v).sum())
        .collect();
    let best = energy
        .windows(10)
        .enumerate()
        .min_by(|a, b| a.1.iter().sum::<f32>().total_cmp(&b.1.iter().sum::<f32>()));
    best.map_or(range.end, |(i, _)| range.start + (i + 5) * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_join_near_utterances_and_leave_long_ones_whole() {
        let s = SAMPLE_RATE;
        let found = windows(&[0..4 * s, 5 * s..9 * s, 20 * s..24 * s, 40 * s..80 * s], 28 * s);
        assert_eq!(found, [0..9 * s, 20 * s..24 * s, 40 * s..80 * s]);
    }

    #[test]
    fn a_window_that_cannot_be_heard_takes_no_other_with_it() {
        let sounds: [&[f32]; 3] = [&[1.0], &[f32::NAN], &[2.0]];
        let ask = || Ask {
            prompt: &[],
            forced: &[],
            draft: &[],
            seconds: 1.0,
            silence: 0.0,
            temperatures: &[],
            beam: 1,
            seed: 0,
        };
        let hear = |sounds: &[&[f32]], asks: &[Ask<'_>]| {
            assert_eq!(sounds.len(), asks.len());
            match sounds.iter().all(|it| it[0].is_finite()) {
                true => Ok(sounds.iter().map(|it| it[0]).collect::<Vec<f32>>()),
                false => Err(AiError::Inference("no number".into())),
            }
        };
        let heard = each_alone_if_not_together(&sounds, &[ask(), ask(), ask()], &hear).unwrap();
        let heard: Vec<Option<f32>> = heard.into_iter().map(Result::ok).collect();
        assert_eq!(heard, [Some(1.0), None, Some(2.0)]);
        let other = |_: &[&[f32]], _: &[Ask<'_>]| -> Result<Vec<f32>, AiError> {
            Err(AiError::Config {
                field: "language",
                rule: "must be known",
            })
        };
        assert!(each_alone_if_not_together(&sounds[..1], &[ask()], &other).is_err());
    }

    #[test]
    fn the_quietest_moment_is_found() {
        let s = SAMPLE_RATE;
        let mut pcm = vec![0.5f32; 10 * s];
        pcm[6 * s..6 * s + s / 4].fill(0.0);
        let at = quietest(&pcm, 4 * s..9 * s);
        assert!((6 * s..6 * s + s / 4).contains(&at), "{at}");
    }
}
