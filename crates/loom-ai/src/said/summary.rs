//! The sentences that say most: Mihalcea and Tarau, "TextRank: Bringing Order into Texts" (2004), by the words sentences share.

use std::collections::HashSet;

use super::Excerpt;
use super::sentences::Sentence;

/// Share of a sentence's rank that flows from the sentences like it.
const DAMPING: f32 = 0.85;
/// Rounds of the iteration; ranks settle well before.
const ROUNDS: usize = 30;
/// Sentences that are ranked at once; a longer transcript is ranked in parts of as many.
const MOST: usize = 800;
/// A sentence shorter than this many words that carry meaning says too little by itself.
const LEAST: usize = 4;

pub(super) fn find(sentences: &[Sentence], most: usize) -> Vec<Excerpt> {
    let mut ranked: Vec<(f32, usize)> = Vec::new();
    for (part, some) in sentences.chunks(MOST).enumerate() {
        ranked.extend(
            rank(some)
                .into_iter()
                .enumerate()
                .map(|(at, it)| (it, part * MOST + at)),
        );
    }
    ranked.retain(|&(_, at)| sentences[at].content().count() >= LEAST);
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut chosen: Vec<usize> = Vec::new();
    for (_, at) in ranked {
        // Nothing is said twice.
        if chosen.len() < most
            && chosen
                .iter()
                .all(|&it| likeness(&words(&sentences[it]), &words(&sentences[at])) < 1.0)
        {
            chosen.push(at);
        }
    }
    chosen.sort_unstable();
    chosen
        .into_iter()
        .map(|it| Excerpt::from(&sentences[it]))
        .collect()
}

fn words(sentence: &Sentence) -> HashSet<&str> {
    sentence.content().collect()
}

/// Words in common over how long both are.
fn likeness(a: &HashSet<&str>, b: &HashSet<&str>) -> f32 {
    let both = a.intersection(b).count() as f32;
    let length = (a.len() as f32 + 1.0).ln() + (b.len() as f32 + 1.0).ln();
    if length > 0.0 { both / length } else { 0.0 }
}

fn rank(sentences: &[Sentence]) -> Vec<f32> {
    let n = sentences.len();
    let sets: Vec<HashSet<&str>> = sentences.iter().map(words).collect();
    let mut edges: Vec<Vec<(usize, f32)>> = vec![Vec::new(); n];
    for a in 0..n {
        for b in a + 1..n {
            let weight = likeness(&sets[a], &sets[b]);
            if weight > 0.0 {
                edges[a].push((b, weight));
                edges[b].push((a, weight));
            }
        }
    }
    let out: Vec<f32> = edges.iter().map(|it| it.iter().map(|it| it.1).sum()).collect();
    let mut ranks = vec![1.0 / n.max(1) as f32; n];
    for _ in 0..ROUNDS {
        let flow = |at: usize| {
            edges[at]
                .iter()
                .map(|&(from, weight)| ranks[from] * weight / out[from])
                .sum::<f32>()
        };
        ranks = (0..n)
            .map(|at| (1.0 - DAMPING) / n as f32 + DAMPING * flow(at))
            .collect();
    }
    ranks
}
