//! Word times from where the decoder looked while it chose each token: dynamic time warping over the cross-attention of
//! the heads that follow the sound.

use crate::decode::Answer;
use crate::vocabulary::Vocabulary;

/// A word with its times in seconds from the window's start.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TimedWord {
    /// As the model wrote it, a leading space kept where there is one.
    pub(crate) text: String,
    pub(crate) start: f32,
    pub(crate) end: f32,
    /// Geometric mean of its tokens' probabilities.
    pub(crate) probability: f32,
    /// Its tokens in the answer.
    pub(crate) tokens: std::ops::Range<usize>,
}

/// Seconds a position of the encoder stands for.
const STEP: f32 = 0.02;
/// Words in a row that take no time, from which on they were not said: one or two may be short ones that share a position.
const UNSAID: usize = 3;
/// Positions the weights are smoothed over.
const SMOOTHING: usize = 7;

/// The words of an answer; `heads` alignment heads looked over `positions` of sound.
pub(crate) fn words(
    vocabulary: &Vocabulary,
    answer: &Answer,
    heads: usize,
    positions: usize,
) -> Vec<TimedWord> {
    let text: Vec<usize> = (0..answer.tokens.len())
        .filter(|&i| vocabulary.is_text(answer.tokens[i]))
        .collect();
    if text.is_empty() {
        return Vec::new();
    }
    let starts = token_starts(answer, &text, heads, positions);
    let mut out: Vec<TimedWord> = Vec::new();
    let mut pending = 0;
    for (index, &at) in text.iter().enumerate() {
        let bytes: Vec<u8> = text[pending..=index]
            .iter()
            .flat_map(|&it| vocabulary.token(answer.tokens[it]))
            .copied()
            .collect();
        let last = index + 1 == text.len();
        let piece = match String::from_utf8(bytes) {
            Ok(piece) => piece,
            // A character split over tokens is completed by the next ones.
            Err(e) if last || index - pending > 3 => String::from_utf8_lossy(e.as_bytes()).into_owned(),
            Err(_) => continue,
        };
        let log_probability: f32 = (pending..=index).map(|i| answer.log_probabilities[text[i]]).sum();
        let probability = (log_probability / (index + 1 - pending) as f32).exp();
        let (start, end) = (starts[pending], starts[index + 1]);
        let new_segment = text[pending] > 0 && vocabulary.is_timestamp(answer.tokens[text[pending] - 1]);
        let joins = !new_segment && !begins_word(&piece);
        match out.last_mut() {
            Some(word) if joins => {
                word.text.push_str(&piece);
                // Punctuation has no time of its own.
                if piece.chars().any(char::is_alphanumeric) {
                    word.end = end;
                    word.probability = word.probability.min(probability);
                }
                word.tokens.end = at + 1;
            }
            _ => out.push(TimedWord {
                text: piece,
                start,
                end,
                probability,
                tokens: text[pending]..at + 1,
            }),
        }
        pending = index + 1;
    }
    leave_out_unsaid(&mut out);
    tidy(&mut out, vocabulary, answer);
    out
}

/// Leaves out words that take no time: where the decoder says a phrase again that it has read already, the path through the sound has
/// no room for it.
fn leave_out_unsaid(words: &mut Vec<TimedWord>) {
    // In scripts without spaces a word is a letter, and a few may share a position.
    let is_unsaid = |it: &TimedWord| it.end <= it.start && it.text.starts_with(' ');
    let runs = words.chunk_by(|a, b| is_unsaid(a) == is_unsaid(b));
    let kept = runs.filter(|run| run.len() < UNSAID || !is_unsaid(&run[0]));
    *words = kept.flatten().cloned().collect();
}

fn begins_word(piece: &str) -> bool {
    match piece.chars().next() {
        Some(' ') => {
            piece.chars().any(char::is_alphanumeric)
                || piece.trim().chars().any(|c| "\"“([{¿¡$£€-–—".contains(c))
        }
        // Scripts without spaces: each piece is a word.
        Some(c) => c as u32 >= 0x0e00 && c.is_alphabetic() && !(0xac00..=0xd7a3).contains(&(c as u32)),
        None => false,
    }
}

/// Times stay within the segments that the model itself marked, in order, and no word lasts longer than speech can.
fn tidy(words: &mut [TimedWord], vocabulary: &Vocabulary, answer: &Answer) {
    let time = |i: usize| (answer.tokens[i] - vocabulary.first_timestamp) as f32 * STEP;
    for word in words.iter_mut() {
        let end = (word.tokens.end..answer.tokens.len()).find(|&i| vocabulary.is_timestamp(answer.tokens[i]));
        if let Some(end) = end.map(time) {
            word.end = word.end.min(end);
            word.start = word.start.min(end - STEP);
        }
    }
    let mut floor: f32 = 0.0;
    for word in words.iter_mut() {
        let letters = word.text.trim().chars().count() as f32;
        let longest = 0.5 + 0.09 * letters;
        if word.end - word.start > longest {
            // A word dragged over a pause: what lies before the pause is the end of the word before, so keep its end.
            let sentence_end = word.text.ends_with(['.', '?', '!', ',', ';', ':']);
            if sentence_end {
                word.end = word.start + longest;
            } else {
                word.start = word.end - longest;
            }
        }
        word.start = word.start.max(floor);
        word.end = word.end.max(word.start + STEP);
        floor = word.end;
    }
}

/// Seconds at which each text token begins, and one more: where the last one ends.
fn token_starts(answer: &Answer, text: &[usize], heads: usize, positions: usize) -> Vec<f32> {
    // The weights looked at while a token was chosen lie at its own index; those after the last one close it.
    let after = text.last().map_or(0, |&it| it + 1);
    let rows: Vec<&[f32]> = text
        .iter()
        .chain([&after])
        .filter_map(|&it| answer.looks.get(it))
        .map(|it| &**it)
        .collect();
    let (n, m) = (rows.len(), positions);
    let total = rows.first().map_or(0, |row| row.len()) / heads.max(1);
    if n != text.len() + 1 || m == 0 || total < m || rows.iter().any(|row| row.len() != total * heads) {
        let share = positions as f32 * STEP / text.len() as f32;
        return (0..=text.len()).map(|i| i as f32 * share).collect();
    }
    let mut cost = vec![0f32; n * m];
    let mut head_map = vec![0f32; n * m];
    for head in 0..heads {
        for (row, to) in rows.iter().zip(head_map.chunks_exact_mut(m)) {
            let from = &row[head * total..head * total + m];
            let mass = from.iter().sum::<f32>().max(1e-9);
            for (to, from) in to.iter_mut().zip(from) {
                *to = from / mass;
            }
        }
        standardise_columns(&mut head_map, m);
        for (row, to) in head_map.chunks_exact(m).zip(cost.chunks_exact_mut(m)) {
            for (j, to) in to.iter_mut().enumerate() {
                *to -= median(row, j) / heads as f32;
            }
        }
    }
    warp(&cost, n, m).into_iter().map(|j| j as f32 * STEP).collect()
}

/// Each column to zero mean and unit variance, so that a frame that everything looks at says nothing.
fn standardise_columns(map: &mut [f32], width: usize) {
    let n = (map.len() / width) as f32;
    for j in 0..width {
        let column = || map.iter().skip(j).step_by(width);
        let mean = column().sum::<f32>() / n;
        let variance = column().map(|v| (v - mean).powi(2)).sum::<f32>() / n;
        let scale = variance.sqrt().max(1e-9).recip();
        for v in map.iter_mut().skip(j).step_by(width) {
            *v = (*v - mean) * scale;
        }
    }
}

/// The middle of the values around `j`, mirrored at the ends.
fn median(row: &[f32], j: usize) -> f32 {
    let half = SMOOTHING as isize / 2;
    let last = row.len() as isize - 1;
    let mut near = [0f32; SMOOTHING];
    for (slot, offset) in near.iter_mut().zip(-half..=half) {
        let at = (j as isize + offset).abs();
        let at = if at > last { 2 * last - at } else { at };
        *slot = row[at.clamp(0, last) as usize];
    }
    near.sort_unstable_by(f32::total_cmp);
    near[SMOOTHING / 2]
}

/// The cheapest monotonic path through `n` × `m` costs: the column at which each row begins.
fn warp(cost: &[f32], n: usize, m: usize) -> Vec<usize> {
    #[derive(Clone, Copy)]
    enum From {
        Diagonal,
        Above,
        Left,
    }
    let mut before = vec![f32::INFINITY; m];
    let mut here = vec![f32::INFINITY; m];
    let mut trace = vec![From::Left; n * m];
    for i in 0..n {
        for j in 0..m {
            let diagonal = match (i, j) {
                (0, 0) => 0.0,
                (0, _) | (_, 0) => f32::INFINITY,
                _ => before[j - 1],
            };
            let above = if i == 0 { f32::INFINITY } else { before[j] };
            let left = if j == 0 { f32::INFINITY } else { here[j - 1] };
            let (best, from) = if diagonal <= above && diagonal <= left {
                (diagonal, From::Diagonal)
            } else if above <= left {
                (above, From::Above)
            } else {
                (left, From::Left)
            };
            here[j] = cost[i * m + j] + best;
            trace[i * m + j] = from;
        }
        std::mem::swap(&mut before, &mut here);
    }
    let mut starts = vec![0; n];
    let (mut i, mut j) = (n - 1, m - 1);
    loop {
        starts[i] = j;
        match trace[i * m + j] {
            From::Diagonal if i > 0 && j > 0 => {
                i -= 1;
                j -= 1;
            }
            From::Above if i > 0 => i -= 1,
            From::Left if j > 0 => j -= 1,
            _ => break,
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_words_in_a_row_that_take_no_time_were_not_said() {
        let left = |times: &[(f32, f32)]| {
            let word = |&(start, end): &(f32, f32)| TimedWord {
                text: " word".to_owned(),
                start,
                end,
                probability: 0.9,
                tokens: 0..1,
            };
            let mut words: Vec<TimedWord> = times.iter().map(word).collect();
            leave_out_unsaid(&mut words);
            words.iter().map(|it| (it.start, it.end)).collect::<Vec<_>>()
        };
        let said = [(0.0, 0.3), (0.3, 0.3), (0.3, 0.3), (0.3, 0.6)];
        assert_eq!(left(&said), said, "two short ones may share a position");
        let again = [(0.0, 0.3), (0.3, 0.3), (0.3, 0.3), (0.3, 0.3), (0.5, 0.6)];
        assert_eq!(left(&again), [(0.0, 0.3), (0.5, 0.6)]);
    }

    #[test]
    fn warping_finds_the_steps_of_a_staircase() {
        let (n, m) = (4, 40);
        let mut cost = vec![0.0; n * m];
        for i in 0..n {
            for j in 0..m {
                cost[i * m + j] = if j / 10 == i { -1.0 } else { 0.0 };
            }
        }
        assert_eq!(warp(&cost, n, m), [0, 10, 20, 30]);
    }

    #[test]
    fn the_median_is_mirrored_at_both_ends() {
        let row = [5.0, 1.0, 2.0, 3.0, 4.0];
        assert_eq!(median(&row, 0), 2.0);
        assert_eq!(median(&row, 2), 3.0);
        assert_eq!(median(&row, 4), 2.0);
    }
}
