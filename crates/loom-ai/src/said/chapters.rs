//! Chapters where what is said hangs together least: Hearst, "TextTiling: Segmenting Text into Multi-paragraph Subtopic Passages" (1997), with
//! whole sentences as its token sequences; by their words, weighed by how rare these are, or by their vectors.

use std::collections::HashMap;

use super::sentences::Sentence;
use super::{Chapter, phrases};

/// Words that carry meaning on either side of a gap that are compared.
const BLOCK: usize = 45;
/// Words on either side of a gap whose sentences' vectors are compared.
const SPAN: usize = 60;
/// A chapter is at least this long, seconds.
const SHORTEST: f64 = 30.0;
/// Deviations above the mean that the depth of a valley must have.
const DEPTH: f32 = 0.5;
/// Phrases of a chapter's title.
const TITLE: usize = 2;

pub(super) fn find(sentences: &[Sentence]) -> Vec<Chapter> {
    let weights = weights(sentences);
    chapters(sentences, |gap| cohesion(sentences, gap, &weights))
}

/// By the sentences' `vectors`, one for each.
pub(super) fn find_by_meaning(sentences: &[Sentence], vectors: &[Vec<f32>]) -> Vec<Chapter> {
    chapters(sentences, |gap| likeness(sentences, vectors, gap))
}

/// `cohesion` tells how alike what is said before and after a gap is.
fn chapters(sentences: &[Sentence], cohesion: impl Fn(usize) -> f32) -> Vec<Chapter> {
    if sentences.is_empty() {
        return Vec::new();
    }
    let mut bounds = vec![0];
    bounds.extend(shifts(sentences, cohesion));
    bounds.push(sentences.len());
    let chapter = |it: &[usize]| {
        let part = &sentences[it[0]..it[1]];
        let found = phrases::find_against(part, sentences, TITLE);
        let title: Vec<&str> = found.iter().map(|it| it.text.as_str()).collect();
        Chapter {
            start: part[0].start(),
            end: part[part.len() - 1].end(),
            title: if title.is_empty() {
                part[0].text()
            } else {
                title.join(", ")
            },
        }
    };
    bounds.windows(2).map(chapter).collect()
}

/// The sentences that begin a new topic.
fn shifts(sentences: &[Sentence], cohesion: impl Fn(usize) -> f32) -> Vec<usize> {
    let cohesion: Vec<f32> = (1..sentences.len()).map(cohesion).collect();
    let depths: Vec<f32> = (0..cohesion.len()).map(|at| depth(&cohesion, at)).collect();
    let n = depths.len().max(1) as f32;
    let mean = depths.iter().sum::<f32>() / n;
    let deviation = (depths.iter().map(|it| (it - mean).powi(2)).sum::<f32>() / n).sqrt();
    let mut order: Vec<usize> = (0..depths.len())
        .filter(|&it| depths[it] > mean + DEPTH * deviation)
        .collect();
    order.sort_by(|&a, &b| depths[b].total_cmp(&depths[a]).then(a.cmp(&b)));
    let seconds = |at: usize| sentences[at].start().secs_f64();
    let end = sentences.last().map_or(0.0, |it| it.end().secs_f64());
    let mut kept: Vec<usize> = Vec::new();
    for gap in order {
        let at = gap + 1;
        let far = |other: f64| (seconds(at) - other).abs() >= SHORTEST;
        if far(seconds(0)) && far(end) && kept.iter().all(|&it| far(seconds(it))) {
            kept.push(at);
        }
    }
    kept.sort_unstable();
    kept
}

/// How telling a stem is: rare ones more than those that are said throughout.
fn weights(sentences: &[Sentence]) -> HashMap<&str, f32> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for sentence in sentences {
        let mut once: Vec<&str> = sentence.content().collect();
        once.sort_unstable();
        once.dedup();
        for stem in once {
            *seen.entry(stem).or_default() += 1;
        }
    }
    let n = sentences.len() as f32;
    seen.into_iter()
        .map(|(stem, count)| (stem, (1.0 + n / count as f32).ln()))
        .collect()
}

/// The cosine of what is said before and after a gap.
fn cohesion(sentences: &[Sentence], gap: usize, weights: &HashMap<&str, f32>) -> f32 {
    let mut before = HashMap::new();
    let mut after = HashMap::new();
    let back = sentences[..gap].iter().rev().flat_map(|it| it.stems.iter().rev());
    count(back.filter_map(|it| it.as_deref()), weights, &mut before);
    count(
        sentences[gap..].iter().flat_map(Sentence::content),
        weights,
        &mut after,
    );
    let product: f32 = before
        .iter()
        .filter_map(|(stem, a)| Some(a * after.get(stem)?))
        .sum();
    let norm = |it: &HashMap<&str, f32>| it.values().map(|it| it * it).sum::<f32>().sqrt();
    let norms = norm(&before) * norm(&after);
    if norms > 0.0 { product / norms } else { 0.0 }
}

/// The cosine of the summed vectors before and after a gap.
fn likeness(sentences: &[Sentence], vectors: &[Vec<f32>], gap: usize) -> f32 {
    let before = sum(sentences[..gap].iter().zip(&vectors[..gap]).rev());
    let after = sum(sentences[gap..].iter().zip(&vectors[gap..]));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let norms = (dot(&before, &before) * dot(&after, &after)).sqrt();
    if norms > 0.0 {
        dot(&before, &after) / norms
    } else {
        0.0
    }
}

/// The vectors of sentences that have [`SPAN`] words together, each as often as it has words.
fn sum<'a>(said: impl Iterator<Item = (&'a Sentence, &'a Vec<f32>)>) -> Vec<f32> {
    let mut out = Vec::new();
    let mut words = 0;
    for (sentence, vector) in said {
        out.resize(vector.len(), 0.0);
        for (sum, it) in out.iter_mut().zip(vector) {
            *sum += it * sentence.words.len() as f32;
        }
        words += sentence.words.len();
        if words >= SPAN {
            break;
        }
    }
    out
}

fn count<'a>(
    stems: impl Iterator<Item = &'a str>,
    weights: &HashMap<&str, f32>,
    to: &mut HashMap<&'a str, f32>,
) {
    for stem in stems.take(BLOCK) {
        *to.entry(stem).or_default() += weights.get(stem).copied().unwrap_or(1.0);
    }
}

/// How far cohesion rises on both sides of a gap.
fn depth(cohesion: &[f32], at: usize) -> f32 {
    let climb = |side: &mut dyn Iterator<Item = usize>| {
        let mut peak = cohesion[at];
        for it in side {
            if cohesion[it] < peak {
                break;
            }
            peak = cohesion[it];
        }
        peak - cohesion[at]
    };
    climb(&mut (0..at).rev()) + climb(&mut (at + 1..cohesion.len()))
}
