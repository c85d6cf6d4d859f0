use crate::AiError;
use crate::decode::{Answer, Ask, apply_rules, close, ends_with_sound, most_tokens, open, repeats};
use crate::decoder::Look;
use crate::kernels::{exp_sum, maximum};
use crate::network::Network;
use crate::vocabulary::Vocabulary;

/// An answer that is being followed.
struct Path<S> {
    session: S,
    answer: Answer,
    /// Sum of its tokens' log-probabilities.
    sum: f32,
}

/// An answer that has ended, with the end's log-probability. It is fed no more, and so needs no session.
struct Ended {
    answer: Answer,
    looks: Vec<Look>,
    sum: f32,
    end: f32,
}

impl Ended {
    /// Mean log-probability: longer answers are not worse for their length.
    fn score(&self) -> f32 {
        let chosen = self.answer.tokens.len() + 1;
        (self.sum + self.end) / chosen as f32
    }
}

/// Beam search: follows the `ask.beam` likeliest answers until as many have ended, and takes the one whose tokens are likeliest
/// in the mean. All take their step at once, so the weights are read once for all.
pub(crate) fn attempt<N: Network>(
    network: &N,
    vocabulary: &Vocabulary,
    session: &mut N::Session,
    ask: &Ask<'_>,
) -> Result<Answer, AiError> {
    let (answer, mut logits) = open(network, vocabulary, session, ask)?;
    let mut paths = vec![Path {
        session: session.clone(),
        answer,
        sum: 0.0,
    }];
    let mut ended: Vec<Ended> = Vec::new();
    for _ in 0..most_tokens(network, ask) {
        let each = logits.len() / paths.len();
        let mut next: Vec<(f32, usize, u32, f32)> = Vec::new();
        for (index, (path, logits)) in paths.iter().zip(logits.chunks_exact_mut(each)).enumerate() {
            apply_rules(vocabulary, &path.answer.tokens, ask, logits);
            for (token, log_probability) in likeliest(logits, ask.beam + 1) {
                next.push((path.sum + log_probability, index, token, log_probability));
            }
        }
        next.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut followed: Vec<Path<N::Session>> = Vec::new();
        for (sum, index, token, log_probability) in next {
            if followed.len() == ask.beam {
                break;
            }
            let from = &paths[index];
            let mut answer = from.answer.clone();
            let ends = |answer, sum, end| Ended {
                answer,
                looks: network.looks(&from.session).to_vec(),
                sum,
                end,
            };
            if token == vocabulary.end_of_text {
                ended.push(ends(answer, from.sum, log_probability));
                continue;
            }
            answer.tokens.push(token);
            answer.log_probabilities.push(log_probability);
            let looped = vocabulary
                .is_text(token)
                .then(|| repeats(vocabulary, &answer.tokens))
                .flatten();
            if let Some(keep) = looped {
                answer.tokens.truncate(keep.max(ask.forced.len()));
                answer.looped = true;
                ended.push(ends(answer, sum, 0.0));
            } else if ends_with_sound(vocabulary, &answer.tokens, ask) {
                ended.push(ends(answer, sum, 0.0));
            } else {
                let session = from.session.clone();
                followed.push(Path { session, answer, sum });
            }
        }
        paths = followed;
        if ended.len() >= ask.beam || paths.is_empty() {
            break;
        }
        let tokens: Vec<u32> = paths
            .iter()
            .filter_map(|it| it.answer.tokens.last().copied())
            .collect();
        let mut sessions: Vec<&mut N::Session> = paths.iter_mut().map(|it| &mut it.session).collect();
        let all: Vec<usize> = (0..tokens.len()).collect();
        network.feed(&mut sessions, &tokens, &all, &mut logits)?;
    }
    if ended.is_empty() {
        ended.extend(paths.into_iter().map(|it| Ended {
            looks: network.looks(&it.session).to_vec(),
            answer: it.answer,
            sum: it.sum,
            end: 0.0,
        }));
    }
    let best = ended.into_iter().max_by(|a, b| {
        (!a.answer.looped)
            .cmp(&!b.answer.looped)
            .then(a.score().total_cmp(&b.score()))
    });
    let Some(mut best) = best else {
        return Ok(Answer::default());
    };
    close(network, vocabulary, &best.looks, ask, &mut best.answer, best.end);
    Ok(best.answer)
}

/// The `count` likeliest tokens and their log-probabilities, likeliest first.
fn likeliest(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let top = maximum(logits);
    let mass = exp_sum(logits, top).ln();
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    for (id, &it) in logits.iter().enumerate() {
        if it > f32::NEG_INFINITY && (best.len() < count || best.last().is_some_and(|worst| it > worst.1)) {
            let at = best.partition_point(|other| other.1 >= it);
            best.insert(at, (id as u32, it));
            best.truncate(count);
        }
    }
    best.into_iter().map(|(id, it)| (id, it - top - mass)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first_and_what_is_forbidden_never() {
        let logits = [1.0, f32::NEG_INFINITY, 3.0, 2.0, 3.0];
        let found: Vec<u32> = likeliest(&logits, 4).into_iter().map(|it| it.0).collect();
        assert_eq!(found, [2, 4, 3, 0]);
        let sum: f32 = likeliest(&logits, 9).iter().map(|it| it.1.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }
}
