use std::io::Write;

use crate::AiError;
use crate::beam;
use crate::decoder::Look;
use crate::gaze::read_from_sound;
use crate::kernels::{exp_sum, maximum};
use crate::limits::MAX_WINDOW_TOKENS;
use crate::network::Network;
use crate::vocabulary::Vocabulary;

/// What one window is decoded with.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    /// Start token, language and task.
    pub(crate) prompt: &'a [u32],
    /// Tokens already agreed on, timestamps among them: the answer begins with these.
    pub(crate) forced: &'a [u32],
    /// Tokens that probably follow them. They change how soon the greedy answer is found, never what it is.
    pub(crate) draft: &'a [u32],
    /// Seconds of sound, without the silence after it.
    pub(crate) seconds: f32,
    /// Seconds of silence put after the sound: more makes the end surer and the encoder slower.
    pub(crate) silence: f32,
    /// Tried in order until an answer passes the checks; 0 is greedy.
    pub(crate) temperatures: &'a [f32],
    /// Answers followed at once at temperature 0.
    pub(crate) beam: usize,
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
    pub(crate) looks: Vec<Look>,
    /// Probability that there is no speech at all.
    pub(crate) no_speech: f32,
    /// Mean log-probability of the tokens that were not forced.
    pub(crate) confidence: f32,
    /// The same of the text alone: times are likely whatever is heard.
    pub(crate) text_confidence: f32,
    /// Bytes of text for each byte it compresses to; above 2.4 the text repeats itself.
    pub(crate) compression: f32,
    /// It began to repeat itself and was cut.
    pub(crate) looped: bool,
}

/// Drafted tokens that are fed at once: where the first is wrong the others were fed in vain.
const AHEAD: usize = 7;
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
        self.no_speech > NO_SPEECH && self.confidence.min(self.text_confidence) < LEAST_CONFIDENCE
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

/// Decodes windows, each warmer each time its answer fails its checks, and gives the best answer of each. The first, greedy
/// answers are found together: the weights are read once for all.
pub(crate) fn decode<N: Network>(
    network: &N,
    vocabulary: &Vocabulary,
    sessions: &mut [N::Session],
    asks: &[Ask<'_>],
) -> Result<Vec<Answer>, AiError> {
    let greedy = |it: &Ask<'_>| it.beam <= 1 && it.temperatures.first() == Some(&0.0);
    let mut first: Vec<Option<Answer>> = if let ([session], [ask]) = (&mut *sessions, asks)
        && greedy(ask)
    {
        vec![Some(drafted(network, vocabulary, session, ask)?)]
    } else if asks.iter().all(greedy) {
        together(network, vocabulary, sessions, asks)?
            .into_iter()
            .map(Some)
            .collect()
    } else {
        vec![None; asks.len()]
    };
    let each = sessions.iter_mut().zip(asks).zip(&mut first);
    each.map(|((session, ask), first)| warmer(network, vocabulary, session, ask, first.take()))
        .collect()
}

fn warmer<N: Network>(
    network: &N,
    vocabulary: &Vocabulary,
    session: &mut N::Session,
    ask: &Ask<'_>,
    mut first: Option<Answer>,
) -> Result<Answer, AiError> {
    let mut best: Option<Answer> = None;
    for (index, &temperature) in ask.temperatures.iter().enumerate() {
        let seed = ask.seed.wrapping_add(index as u64);
        let answer = match first.take() {
            Some(answer) => answer,
            None if ask.beam > 1 && temperature <= 0.0 => beam::attempt(network, vocabulary, session, ask)?,
            None => attempt(network, vocabulary, session, ask, temperature, seed)?,
        };
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

/// An answer that is being chosen, token by token.
struct Attempt {
    answer: Answer,
    /// The end's log-probability.
    end: f32,
    /// Tokens that may still be chosen.
    left: usize,
    temperature: f32,
    random: u64,
}

impl Attempt {
    fn new(answer: Answer, left: usize, temperature: f32, seed: u64) -> Self {
        Self {
            answer,
            end: 0.0,
            left,
            temperature,
            random: seed ^ 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Chooses a token: the one to feed, or none where the answer has ended.
    fn choose(&mut self, vocabulary: &Vocabulary, ask: &Ask<'_>, logits: &mut [f32]) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let answer = &mut self.answer;
        apply_rules(vocabulary, &answer.tokens, ask, logits);
        let (token, log_probability) = choose(logits, self.temperature, &mut self.random);
        if token == vocabulary.end_of_text {
            self.end = log_probability;
            return None;
        }
        answer.tokens.push(token);
        answer.log_probabilities.push(log_probability);
        if vocabulary.is_text(token)
            && let Some(keep) = repeats(vocabulary, &answer.tokens)
        {
            answer.tokens.truncate(keep.max(ask.forced.len()));
            answer.looped = true;
            return None;
        }
        (!ends_with_sound(vocabulary, &answer.tokens, ask)).then_some(token)
    }

    /// The answer, once no token more is chosen.
    fn closed<N: Network>(
        mut self,
        network: &N,
        vocabulary: &Vocabulary,
        session: &N::Session,
        ask: &Ask<'_>,
    ) -> Answer {
        close(
            network,
            vocabulary,
            network.looks(session),
            ask,
            &mut self.answer,
            self.end,
        );
        self.answer
    }
}

fn attempt<N: Network>(
    network: &N,
    vocabulary: &Vocabulary,
    session: &mut N::Session,
    ask: &Ask<'_>,
    temperature: f32,
    seed: u64,
) -> Result<Answer, AiError> {
    let (answer, mut logits) = open(network, vocabulary, session, ask)?;
    let mut it = Attempt::new(answer, most_tokens(network, ask), temperature, seed);
    while let Some(token) = it.choose(vocabulary, ask, &mut logits) {
        network.feed(&mut [&mut *session], &[token], &[0], &mut logits)?;
    }
    Ok(it.closed(network, vocabulary, session, ask))
}

/// The greedy answer, several tokens at once as far as the draft is right: what was drafted is fed before it is known whether it is
/// chosen, and taken back from the first token on that is not (Leviathan et al. 2022, with the last decode for a draft model).
fn drafted<N: Network>(
    network: &N,
    vocabulary: &Vocabulary,
    session: &mut N::Session,
    ask: &Ask<'_>,
) -> Result<Answer, AiError> {
    let (answer, mut logits) = open(network, vocabulary, session, ask)?;
    let mut it = Attempt::new(answer, most_tokens(network, ask), 0.0, 0);
    let (mut draft, mut fed) = (ask.draft, 0);
    'all: loop {
        let mut next = Vec::new();
        let each = logits.len() / (fed + 1);
        for (index, logits) in logits.chunks_exact_mut(each).enumerate() {
            let Some(token) = it.choose(vocabulary, ask, logits) else {
                network.truncate(session, network.fed(session) + index - fed);
                break 'all;
            };
            if index < fed && draft[index] == token {
                continue;
            }
            draft = after(vocabulary, &draft[index..], token);
            network.truncate(session, network.fed(session) + index - fed);
            fed = draft.len().min(AHEAD);
            next = [&[token], &draft[..fed]].concat();
            break;
        }
        let all: Vec<usize> = (0..next.len()).collect();
        network.feed(&mut [&mut *session], &next, &all, &mut logits)?;
    }
    Ok(it.closed(network, vocabulary, session, ask))
}

/// What is left of a draft once `token` is chosen. Times come and go as the sound grows, and what is said stays as it was.
fn after<'a>(vocabulary: &Vocabulary, draft: &'a [u32], token: u32) -> &'a [u32] {
    let is_time = |it: &u32| vocabulary.is_timestamp(*it);
    if is_time(&token) {
        return match draft {
            [first, rest @ ..] if is_time(first) => rest,
            _ => draft,
        };
    }
    let times = draft.iter().take_while(|it| is_time(it)).count();
    match &draft[times..] {
        [first, rest @ ..] if *first == token => rest,
        _ => &[],
    }
}

/// The greedy answers of several windows, the next token of all at once.
fn together<N: Network>(
    network: &N,
    vocabulary: &Vocabulary,
    sessions: &mut [N::Session],
    asks: &[Ask<'_>],
) -> Result<Vec<Answer>, AiError> {
    let (mut attempts, mut logits) = (Vec::with_capacity(asks.len()), Vec::new());
    for (session, ask) in sessions.iter_mut().zip(asks) {
        let (answer, first) = open(network, vocabulary, session, ask)?;
        attempts.push(Attempt::new(answer, most_tokens(network, ask), 0.0, 0));
        logits.extend(first);
    }
    let mut running: Vec<usize> = (0..asks.len()).collect();
    while !running.is_empty() {
        let each = logits.len() / running.len();
        let (mut tokens, mut next) = (Vec::new(), Vec::new());
        for (&index, logits) in running.iter().zip(logits.chunks_exact_mut(each)) {
            if let Some(token) = attempts[index].choose(vocabulary, &asks[index], logits) {
                tokens.push(token);
                next.push(index);
            }
        }
        running = next;
        let of_running = sessions
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| running.contains(index));
        let mut fed: Vec<&mut N::Session> = of_running.map(|(_, it)| it).collect();
        if !fed.is_empty() {
            let all: Vec<usize> = (0..fed.len()).collect();
            network.feed(&mut fed, &tokens, &all, &mut logits)?;
        }
    }
    let each = attempts.into_iter().zip(&*sessions).zip(asks);
    Ok(each
        .map(|((it, session), ask)| it.closed(network, vocabulary, session, ask))
        .collect())
}

/// Feeds the prompt and what is agreed on: the answer so far, and the logits of what follows.
pub(crate) fn open<N: Network>(
    network: &N,
    vocabulary: &Vocabulary,
    session: &mut N::Session,
    ask: &Ask<'_>,
) -> Result<(Answer, Vec<f32>), AiError> {
    network.truncate(session, 0);
    let tokens = [ask.prompt, ask.forced].concat();
    // After the start of the transcript alone: what would follow there tells whether there is speech.
    let start = ask
        .prompt
        .iter()
        .position(|&it| it == vocabulary.start)
        .unwrap_or(0);
    let mut logits = Vec::new();
    network.feed(&mut [session], &tokens, &[start, tokens.len() - 1], &mut logits)?;
    let after_start = logits.len() / 2;
    let answer = Answer {
        tokens: ask.forced.to_vec(),
        log_probabilities: vec![0.0; ask.forced.len()],
        no_speech: probability(&logits[..after_start], vocabulary.no_speech),
        ..Answer::default()
    };
    logits.drain(..after_start);
    Ok((answer, logits))
}

/// Tokens that may be chosen for one window.
pub(crate) fn most_tokens(network: &impl Network, ask: &Ask<'_>) -> usize {
    let room = network
        .capacity()
        .saturating_sub(ask.prompt.len() + ask.forced.len() + 1);
    room.min(MAX_WINDOW_TOKENS)
        .min(16 + (ask.seconds * 10.0) as usize)
}

/// Where the latest token ends what there is to hear: a segment that ends with the sound.
pub(crate) fn ends_with_sound(vocabulary: &Vocabulary, tokens: &[u32], ask: &Ask<'_>) -> bool {
    let [.., before, last] = tokens else { return false };
    let at = last.saturating_sub(vocabulary.first_timestamp) as f32 * 0.02;
    vocabulary.is_timestamp(*last) && vocabulary.is_text(*before) && at >= ask.seconds - 0.1
}

/// Drops what was not read from the sound, and judges the rest; `looks` has one for each token fed, and `end` is the end's
/// log-probability.
pub(crate) fn close(
    network: &impl Network,
    vocabulary: &Vocabulary,
    looks: &[Look],
    ask: &Ask<'_>,
    answer: &mut Answer,
    end: f32,
) {
    let forced = ask.forced.len();
    answer.looks = looks
        .get(ask.prompt.len().saturating_sub(1)..)
        .unwrap_or_default()
        .to_vec();
    let alignment = network.alignment();
    if alignment.known && alignment.heads > 0 {
        let sound = (ask.seconds * 50.0) as usize;
        let keep = read_from_sound(vocabulary, &answer.tokens, &answer.looks, alignment.heads, sound);
        answer.tokens.truncate(keep.max(forced));
    }
    answer.log_probabilities.truncate(answer.tokens.len());
    answer.looks.truncate(answer.tokens.len() + 1);
    let chosen = &answer.log_probabilities[forced..];
    answer.confidence = (chosen.iter().sum::<f32>() + end) / (chosen.len() + 1) as f32;
    let text = answer.tokens[forced..].iter().zip(chosen);
    let text: Vec<f32> = text
        .filter(|(token, _)| vocabulary.is_text(**token))
        .map(|it| *it.1)
        .collect();
    answer.text_confidence = text.iter().sum::<f32>() / text.len().max(1) as f32;
    answer.compression = compression(&vocabulary.text(&answer.tokens));
}

/// Whisper's rules for what may follow (Radford et al. 2022 §2.4 and its published decoder): timestamps come in pairs,
/// never go back, open the window within its first second, and win when together they outweigh every word.
pub(crate) fn apply_rules(vocabulary: &Vocabulary, tokens: &[u32], ask: &Ask<'_>, logits: &mut [f32]) {
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
pub(crate) fn repeats(vocabulary: &Vocabulary, tokens: &[u32]) -> Option<usize> {
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
