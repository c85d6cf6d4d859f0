//! Key phrases: runs of words that carry meaning, scored by their words' degree over frequency (Rose et al., "Automatic Keyword
//! Extraction from Individual Documents", 2010) and by how often they are said.

use std::collections::HashMap;

use super::KeyPhrase;
use super::sentences::{Sentence, bare};

/// Words of a phrase.
const LONGEST: usize = 3;

pub(super) fn find(sentences: &[Sentence], most: usize) -> Vec<KeyPhrase> {
    find_against(sentences, sentences, most)
}

/// The phrases of `part` that tell it from the `whole` it lies in.
pub(super) fn find_against(part: &[Sentence], whole: &[Sentence], most: usize) -> Vec<KeyPhrase> {
    let mut frequency: HashMap<&str, f32> = HashMap::new();
    let mut degree: HashMap<&str, f32> = HashMap::new();
    let mut phrases: HashMap<Vec<&str>, KeyPhrase> = HashMap::new();
    let mut order: Vec<Vec<&str>> = Vec::new();
    for sentence in part {
        for run in runs(sentence) {
            let stems: Vec<&str> = run
                .clone()
                .filter_map(|it| sentence.stems[it].as_deref())
                .collect();
            for stem in &stems {
                *frequency.entry(stem).or_default() += 1.0;
                *degree.entry(stem).or_default() += stems.len() as f32;
            }
            let phrase = phrases.entry(stems.clone()).or_insert_with(|| {
                order.push(stems.clone());
                let words: Vec<String> = run.clone().map(|it| shown(&sentence.words[it].text)).collect();
                KeyPhrase {
                    text: words.join(" "),
                    score: 0.0,
                    times: Vec::new(),
                }
            });
            phrase.times.push(sentence.words[run.start].start);
        }
    }
    let mut everywhere: HashMap<&str, f32> = HashMap::new();
    for stem in whole.iter().flat_map(Sentence::content) {
        *everywhere.entry(stem).or_default() += 1.0;
    }
    let mut found: Vec<KeyPhrase> = Vec::new();
    for stems in order {
        let Some(mut phrase) = phrases.remove(&stems) else {
            continue;
        };
        let score: f32 = stems
            .iter()
            .map(|it| {
                let (f, d) = (frequency[it], degree[it]);
                // What is said here more than elsewhere, and more than once, counts.
                d / f * f.ln_1p() * (f / everywhere.get(it).copied().unwrap_or(f).max(1.0))
            })
            .sum();
        phrase.score = score / (stems.len() as f32).sqrt() * (1.0 + (phrase.times.len() as f32).ln());
        found.push(phrase);
    }
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<KeyPhrase> = Vec::new();
    for phrase in found {
        let within = |it: &KeyPhrase| {
            let (a, b) = (it.text.to_lowercase(), phrase.text.to_lowercase());
            a.contains(&b) || b.contains(&a)
        };
        if kept.len() < most && !kept.iter().any(within) {
            kept.push(phrase);
        }
    }
    kept
}

/// Runs of words that carry meaning, unbroken by others or by a mark.
fn runs(sentence: &Sentence) -> Vec<std::ops::Range<usize>> {
    let mut out: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, stem) in sentence.stems.iter().enumerate() {
        if stem.is_none() {
            continue;
        }
        let goes_on = |it: &std::ops::Range<usize>| {
            it.end == at
                && it.len() < LONGEST
                && !sentence.words[at - 1]
                    .text
                    .ends_with([',', ';', ':', '.', '?', '!'])
        };
        match out.last_mut() {
            Some(run) if goes_on(run) => run.end = at + 1,
            _ => out.push(at..at + 1),
        }
    }
    out
}

/// A word as a reader expects it in a list: as it was said, without marks around it.
fn shown(word: &str) -> String {
    let plain = word.trim_matches(|c: char| !c.is_alphanumeric());
    if plain.is_empty() {
        bare(word)
    } else {
        plain.to_owned()
    }
}
