use std::io::Write;

use crate::AiError;
use crate::decoder::{Decoder, Session};
use crate::gaze::read_from_sound;
use crate::kernels::{exp_sum, maximum};
use crate::limits::MAX_WINDOW_TOKENS;
use crate::vocabulary::Vocabulary;

/// What one window is decoded with.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    /// Start token, language and task.
    pub(crate) prompt: &'a [u32],
    /// Tokens already agreed on, timestamps among them: the answer begins with these.
    pub(crate) forced: &'a [u32],
    /// Seconds of sound, without the silence after it.
    pub(crate) seconds: f32,
    /// Seconds of silence put after the sound: more makes the end surer and the encoder slower.
    pub(crate) silence: f32,
    /// Tried in order until an answer passes the checks; 0 is greedy.
    pub(crate) temperatures: &'a [f32],
    /// Seeds the sampling above temperature 0.
    pub(crate) seed: u64,
}

/// What the model made of one window.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    /// Text and timestamp tokens in order, the forced ones first.
    pub(crate) tokens: Vec<u32>,
    /// Each token's log-probability; 0 for a forced one.
    pub(crate) log_probabilities: Vec<f32>,
    /// For each token, the alignment heads' weights over the sound when it was chosen; one more at the end.
    pub(crate) looks: Vec<Vec<f32>>,
    /// Probability that there is no speech at all.
    pub(crate) no_speech: f32,
    /// Mean log-probability of the tokens that were not forced.
    pub(crate) confidence: f32,
    /// Bytes of text for each byte it compresses to; above 2.4 the text repeats itself.
    pub(crate) compression: f32,
    /// It began to repeat itself and was cut.
    pub(crate) looped: bool,
}

/// An answer below this mean log-probability is tried again warmer.
const LEAST_CONFIDENCE: f32 = -1.0;
/// An answer that compresses better than this repeats itself.
const MOST_COMPRESSION: f32 = 2.4;
/// Above this no-speech probability, an answer that is also unsure counts as silence.
const NO_SPEECH: f32 = 0.6;
/// The first timestamp is at most this many steps of 20 ms.
const MOST_INITIAL_STEPS: u32 = 50;

impl Answer {
    pub(crate) fn is_silence(&self) -> bool {
        self.no_speech > NO_SPEECH && self.confidence < LEAST_CONFIDENCE
    }

    fn is_good(&self) -> bool {
        !self.looped && self.compression <= MOST_COMPRESSION && self.confidence >= LEAST_CONFIDENCE
    }

    /// Of two answers that both failed, the one to keep.
    fn is_better_than(&self, other: &Self) -> bool {
        let loops = |it: &Self| it.looped || it.compression > MOST_COMPRESSION;
        (!loops(self), self.confidence) > (!loops(other), other.confidence)
    }
}

/// Decodes one window, warmer each time an answer fails its checks, and gives the best answer.
pub(crate) fn decode(
    decoder: &Decoder,
    vocabulary: &Vocabulary,
    session: &mut Session,
    ask: &Ask<'_>,
) -> Result<Answer, AiError> {
    let mut best: Option<Answer> = None;
    for (index, &temperature) in ask.temperatures.iter().enumerate() {
        let seed = ask.seed.wrapping_add(index as u64);
        let answer = attempt(decoder, vocabulary, session, ask, temperature, seed);
        let done = answer.is_good() || answer.is_silence();
        if done || best.as_ref().is_none_or(|best| answer.is_better_than(best)) {
            best = Some(answer);
        }
        if done {
            break;
        }
    }
    Ok(best.unwrap_or_default())
}

fn attempt(
    decoder: &Decoder,
    vocabulary: &Vocabulary,
    session: &mut Session,
    ask: &Ask<'_>,
    temperature: f32,
    seed: u64,
) -> Answer {
    session.truncate(0, decoder.width());
    let mut answer = Answer::default();
    let mut random = seed ^ 0x9e37_79b9_7f4a_7c15;
    let mut logits = Vec::new();
    let mut x = Vec::new();
    for (index, &token) in ask.prompt.iter().enumerate() {
        x = decoder.feed(session, token);
        if index == 0 {
            decoder.logits(&x, &mut logits);
            answer.no_speech = probability(&logits, vocabulary.no_speech);
        }
    }
    for &token in ask.forced {
        answer.tokens.push(token);
        answer.log_probabilities.push(0.0);
        x = decoder.feed(session, token);
    }
    let forced = ask.forced.len();
    let room = decoder.capacity().saturating_sub(ask.prompt.len() + forced + 1);
    let most = room
        .min(MAX_WINDOW_TOKENS)
        .min(16 + (ask.seconds * 10.0) as usize);
    let mut end = 0.0;
    for _ in 0..most {
        decoder.logits(&x, &mut logits);
        apply_rules(vocabulary, &answer.tokens, ask, &mut logits);
        let (token, log_probability) = choose(&logits, temperature, &mut random);
        if token == vocabulary.end_of_text {
            end = log_probability;
            break;
        }
        let closes =
            vocabulary.is_timestamp(token) && answer.tokens.last().is_some_and(|&it| vocabulary.is_text(it));
        answer.tokens.push(token);
        answer.log_probabilities.push(log_probability);
        if vocabulary.is_text(token)
            && let Some(keep) = repeats(vocabulary, &answer.tokens)
        {
            answer.tokens.truncate(keep.max(forced));
            answer.looped = true;
            break;
        }
        let at = token.saturating_sub(vocabulary.first_timestamp) as f32 * 0.02;
        if closes && at >= ask.seconds - 0.1 {
            break;
        }
        x = decoder.feed(session, token);
    }
    answer.looks = session
        .looks
        .get(ask.prompt.len().saturating_sub(1)..)
        .unwrap_or_default()
        .to_vec();
    let heads = decoder.known_alignment_heads();
    if heads > 0 {
        let sound = (ask.seconds * 50.0) as usize;
        let keep = read_from_sound(vocabulary, &answer.tokens, &answer.looks, heads, sound);
        answer.tokens.truncate(keep.max(forced));
    }
    answer.log_probabilities.truncate(answer.tokens.len());
    answer.looks.truncate(answer.tokens.len() + 1);
    let chosen = &answer.log_probabilities[forced..];
    answer.confidence = (chosen.iter().sum::<f32>() + end) / (chosen.len() + 1) as f32;
    answer.compression = compression(&vocabulary.text(&answer.tokens));
    answer
}

/// Whisper's rules for what may follow (Radford et al. 2022 §2.4 and its published decoder): timestamps come in pairs,
/// never go back, open the window within its first second, and win when together they outweigh every word.
fn apply_rules(vocabulary: &Vocabulary, tokens: &[u32], ask: &Ask<'_>, logits: &mut [f32]) {
    let first = vocabulary.first_timestamp as usize;
    let end = vocabulary.end_of_text as usize;
    let never = f32::NEG_INFINITY;
    for &id in &vocabulary.unspoken {
        logits[id as usize] = never;
    }
    logits[end + 1..first].fill(never);
    let last_step = (((ask.seconds + ask.silence) * 50.0) as usize + 1).min(1_500);
    let size = logits.len();
    logits[(first + last_step + 1).min(size)..].fill(never);
    if tokens.is_empty() {
        logits[..first].fill(never);
        let initial = (first + MOST_INITIAL_STEPS as usize + 1).min(size);
        logits[initial..].fill(never);
        return;
    }
    let was_timestamp = |back: usize| {
        tokens
            .len()
            .checked_sub(back)
            .and_then(|i| tokens.get(i))
            .is_some_and(|&it| vocabulary.is_timestamp(it))
    };
    let only_one = tokens.len() == 1;
    if was_timestamp(1) {
        if only_one || was_timestamp(2) {
            logits[first..].fill(never);
            if only_one {
                // The first word is a word, neither a blank nor the end.
                logits[end] = never;
                if let Some(blank) = vocabulary.blank {
                    logits[blank as usize] = never;
                }
            }
        } else {
            logits[..end].fill(never);
        }
    }
    if let Some(&latest) = tokens.iter().rev().find(|&&it| vocabulary.is_timestamp(it)) {
        // A segment is never empty, so its end lies after its start.
        let again = was_timestamp(1) && !was_timestamp(2);
        let from = if again { latest } else { latest + 1 } as usize;
        logits[first..from.clamp(first, size)].fill(never);
    }
    let (words, times) = logits.split_at(first);
    let top_word = maximum(words);
    let top = maximum(times).max(top_word);
    if top == never {
        logits[end] = 0.0;
        return;
    }
    let mass = exp_sum(times, top);
    if mass > 0.0 && top + mass.ln() > top_word {
        logits[..first].fill(never);
    }
}

/// The likeliest token, or one drawn at `temperature`; with its log-probability.
fn choose(logits: &[f32], temperature: f32, random: &mut u64) -> (u32, f32) {
    let top = maximum(logits);
    let mass = exp_sum(logits, top);
    let log_probability = |id: usize| logits[id] - top - mass.ln();
    let likeliest = logits.iter().position(|&it| it == top).unwrap_or(0);
    if temperature <= 0.0 {
        return (likeliest as u32, log_probability(likeliest));
    }
    let warm = |it: f32| (f64::from(it - top) / f64::from(temperature)).exp();
    let total: f64 = logits.iter().map(|&it| warm(it)).sum();
    *random = random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    let mut left = (*random >> 11) as f64 / (1u64 << 53) as f64 * total;
    for (id, &it) in logits.iter().enumerate() {
        left -= warm(it);
        if left < 0.0 && it > f32::NEG_INFINITY {
            return (id as u32, log_probability(id));
        }
    }
    (likeliest as u32, log_probability(likeliest))
}

fn probability(logits: &[f32], id: u32) -> f32 {
    let top = maximum(logits);
    (logits[id as usize] - top).exp() / exp_sum(logits, top)
}

/// Where the tokens end in the same few words over and over: how many tokens to keep.
fn repeats(vocabulary: &Vocabulary, tokens: &[u32]) -> Option<usize> {
    let words: Vec<usize> = (0..tokens.len())
        .filter(|&i| vocabulary.is_text(tokens[i]))
        .collect();
    let n = words.len();
    for period in 1..=24usize {
        let times = match period {
            1 => 7,
            2 | 3 => 5,
            4..=8 => 4,
            _ => 3,
        };
        if n < period * times {
            break;
        }
        let same = (n - period * (times - 1)..n).all(|i| tokens[words[i]] == tokens[words[i - period]]);
        if same {
            return Some(words[n - period * (times - 1)]);
        }
    }
    None
}

/// Bytes of `text` for each byte that zlib makes of it.
fn compression(text: &str) -> f32 {
    let text = text.trim();
    if text.is_empty() {
        return 0.0;
    }
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    match zlib.write_all(text.as_bytes()).and_then(|()| zlib.finish()) {
        Ok(packed) => text.len() as f32 / packed.len().max(1) as f32,
        Err(_) => 0.0,
    }
}
