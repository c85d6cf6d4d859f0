use crate::vocabulary::Vocabulary;

/// Tells from where the alignment heads looked how many of the tokens were read from the sound. Once the decoder has run out
/// of sound it looks at the silence after it, or reads again what it has already read; what it says then is invented.
///
/// A window cut to the sound that is there has little silence at its end, and without this the decoder often invents or
/// repeats a phrase before it stops.
///
/// `looks` has a row for each token: the weights of `heads` heads, one after the other. `sound` is where the silence begins,
/// in positions of 20 ms.
pub(crate) fn read_from_sound(
    vocabulary: &Vocabulary,
    tokens: &[u32],
    looks: &[impl AsRef<[f32]>],
    heads: usize,
    sound: usize,
) -> usize {
    let peaks = peaks(looks, heads);
    let mut read: Vec<(String, usize)> = Vec::new();
    let mut frontier = 0;
    let mut astray: Option<usize> = None;
    let mut strikes = 0;
    for (index, (&token, &peak)) in tokens.iter().zip(&peaks).enumerate() {
        let word = vocabulary.text(&[token]).to_lowercase();
        if !vocabulary.is_text(token) || !word.chars().any(char::is_alphanumeric) {
            continue;
        }
        let again = read
            .iter()
            .any(|(it, at)| *it == word && at.abs_diff(peak) <= SAME);
        read.push((word, peak));
        if again || peak > sound + SLACK || peak + BACK < frontier {
            astray.get_or_insert(index);
            strikes += 1;
        } else {
            frontier = frontier.max(peak);
            astray = None;
            strikes = 0;
        }
    }
    let after_sentence = |at: usize| {
        let before = tokens[..at].iter().rev().find(|&&it| vocabulary.is_text(it));
        before.is_some_and(|&it| vocabulary.text(&[it]).ends_with(['.', '?', '!']))
    };
    match astray {
        // One stray word after the end of a sentence is as invented as two.
        Some(at) if strikes >= 2 || after_sentence(at) => at,
        _ => tokens.len(),
    }
}

/// Positions (20 ms) that a word may lie behind the furthest one.
const BACK: usize = 40;
/// Positions within which a repeated word counts as the same sound.
const SAME: usize = 10;
/// Positions after the last sound that a word may still be read at.
const SLACK: usize = 5;

/// Where each token looked most, beyond what every token looks at.
fn peaks(looks: &[impl AsRef<[f32]>], heads: usize) -> Vec<usize> {
    let means: Vec<Vec<f32>> = looks
        .iter()
        .map(|look| {
            let look = look.as_ref();
            let positions = look.len() / heads.max(1);
            let mut mean = vec![0f32; positions];
            for head in look.chunks_exact(positions.max(1)) {
                for (mean, weight) in mean.iter_mut().zip(head) {
                    *mean += weight / heads as f32;
                }
            }
            mean
        })
        .collect();
    let mut drawn = vec![0f32; means.first().map_or(0, Vec::len)];
    for mean in &means {
        for (drawn, weight) in drawn.iter_mut().zip(mean) {
            *drawn += weight / means.len() as f32;
        }
    }
    let peak = |mean: &Vec<f32>| {
        let beyond = |at: usize| mean[at] - drawn[at];
        (0..mean.len().min(drawn.len()))
            .max_by(|&a, &b| beyond(a).total_cmp(&beyond(b)))
            .unwrap_or(0)
    };
    means.iter().map(peak).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn kept(words: &[&str], at: &[usize]) -> usize {
        let vocabulary = Vocabulary::english(Path::new("built in")).unwrap();
        let id = |word: &str| {
            (0..50_256)
                .find(|&id| vocabulary.token(id) == word.as_bytes())
                .unwrap()
        };
        let tokens: Vec<u32> = words.iter().map(|it| id(it)).collect();
        // Every token also looks at the silence, as models do.
        let weight = |i: usize, at: usize| {
            if i == at {
                0.1
            } else if i == 190 {
                0.15
            } else {
                0.001
            }
        };
        let looks: Vec<Vec<f32>> = at
            .iter()
            .map(|&at| (0..200).map(|i| weight(i, at)).collect())
            .collect();
        read_from_sound(&vocabulary, &tokens, &looks, 1, 150)
    }

    #[test]
    fn words_read_in_order_are_kept_and_ones_read_again_are_cut() {
        let words = [
            " has", " never", " been", " lost", ".", " has", " never", " been", " lost",
        ];
        assert_eq!(kept(&words, &[10, 30, 50, 70, 90, 110, 120, 130, 140]), 9);
        assert_eq!(kept(&words, &[10, 30, 50, 70, 90, 11, 30, 49, 71]), 5);
    }

    #[test]
    fn words_read_from_the_silence_after_are_cut() {
        assert_eq!(
            kept(&[" by", " the", " end", " and", " the"], &[10, 30, 140, 170, 171]),
            3
        );
        assert_eq!(
            kept(&[" by", " the", " end", ".", " It"], &[10, 30, 140, 145, 170]),
            4
        );
        assert_eq!(kept(&[" by", " the", " end"], &[10, 30, 170]), 3);
    }
}
