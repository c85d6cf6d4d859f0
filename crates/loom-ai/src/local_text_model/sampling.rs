use super::Sampling;

/// Chooses tokens one after the other.
#[derive(Debug)]
pub(super) struct Sampler {
    sampling: Sampling,
    penalty: f32,
    /// The last ones chosen.
    last: Vec<u32>,
    state: u64,
}

/// Tokens that count as said just now.
const RECENT: usize = 64;

impl Sampler {
    pub(super) fn new(sampling: Sampling, penalty: f32) -> Self {
        let state = match sampling {
            Sampling::Greedy => 0,
            Sampling::Seeded { seed, .. } => seed,
        };
        Self {
            sampling,
            penalty,
            last: Vec::new(),
            state,
        }
    }

    /// The next token of these logits, which are not empty.
    pub(super) fn choose(&mut self, logits: &mut [f32]) -> u32 {
        let recent = &self.last[self.last.len().saturating_sub(RECENT)..];
        for (at, &token) in recent.iter().enumerate() {
            if !recent[..at].contains(&token)
                && let Some(logit) = logits.get_mut(token as usize)
            {
                *logit = if *logit > 0.0 {
                    *logit / self.penalty
                } else {
                    *logit * self.penalty
                };
            }
        }
        let next = match self.sampling {
            Sampling::Greedy => likeliest(logits),
            Sampling::Seeded {
                temperature, top_p, ..
            } => self.by_chance(logits, temperature, top_p),
        };
        self.last.push(next);
        next
    }

    fn by_chance(&mut self, logits: &[f32], temperature: f32, top_p: f32) -> u32 {
        let top = logits[likeliest(logits) as usize];
        let mut shares: Vec<(f32, u32)> = logits
            .iter()
            .zip(0..)
            .map(|(it, token)| (((it - top) / temperature).exp(), token))
            .collect();
        shares.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let whole: f32 = shares.iter().map(|it| it.0).sum();
        let mut sum = 0.0;
        let nucleus = shares.iter().position(|it| {
            sum += it.0;
            sum >= whole * top_p
        });
        shares.truncate(nucleus.map_or(1, |it| it + 1));
        let mut left = self.uniform() * shares.iter().map(|it| it.0).sum::<f32>();
        let drawn = shares.iter().find(|it| {
            left -= it.0;
            left < 0.0
        });
        drawn.unwrap_or(&shares[0]).1
    }

    /// From 0 up to 1: SplitMix64 (Steele et al., 2014), of which 24 bits are taken.
    fn uniform(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    }
}

/// The first of the largest.
fn likeliest(logits: &[f32]) -> u32 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (&logit, token) in logits.iter().zip(0..) {
        if logit > best.0 {
            best = (logit, token);
        }
    }
    best.1
}

/// How many tokens there are before an answer began to go in circles: the same up to 48 tokens three times in a row, 24 tokens at least in all.
pub(super) fn before_circle(answer: &[u32]) -> Option<usize> {
    (1..=LONGEST_ROUND).find_map(|round| {
        let times = LEAST.div_ceil(round).max(3);
        let begins = answer.len().checked_sub(round * times)?;
        let tail = &answer[begins..];
        tail.iter()
            .zip(&tail[round..])
            .all(|(a, b)| a == b)
            .then_some(begins + round)
    })
}

const LONGEST_ROUND: usize = 48;
const LEAST: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn seeded(seed: u64, temperature: f32, top_p: f32) -> Sampler {
        let sampling = Sampling::Seeded {
            seed,
            temperature,
            top_p,
        };
        Sampler::new(sampling, 1.0)
    }

    #[test]
    fn chance_follows_the_shares_and_the_seed() {
        let logits = [0.0, 1.0, -30.0, 2.0];
        let draw = |seed| -> Vec<u32> {
            let mut sampler = seeded(seed, 1.0, 1.0);
            (0..4_000).map(|_| sampler.choose(&mut logits.to_vec())).collect()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let share = |token| draw(7).iter().filter(|&&it| it == token).count() as f32 / 4_000.0;
        for (token, expected) in [(0, 0.090), (1, 0.245), (2, 0.0), (3, 0.665)] {
            assert!(
                (share(token) - expected).abs() < 0.03,
                "{token}: {}",
                share(token)
            );
        }
        let mut narrow = seeded(7, 1.0, 0.6);
        assert!((0..100).all(|_| narrow.choose(&mut logits.to_vec()) == 3));
    }

    #[test]
    fn what_was_said_just_now_is_less_likely() {
        let mut sampler = Sampler::new(Sampling::Greedy, 1.5);
        assert_eq!(sampler.choose(&mut [2.0, 1.9, -0.5]), 0);
        assert_eq!(sampler.choose(&mut [2.0, 1.9, -0.5]), 1);
        // Once, however often it was said.
        assert_eq!(sampler.choose(&mut [2.0, 1.9, -0.5]), 0);
        assert_eq!(sampler.choose(&mut [2.0, 1.9, -0.5]), 0);
    }

    #[test]
    fn an_answer_in_circles_is_cut_after_its_first_round() {
        let mut answer = vec![9, 8, 7];
        answer.extend([1, 2, 3, 4].repeat(5));
        assert_eq!(before_circle(&answer), None);
        answer.extend([1, 2, 3, 4]);
        assert_eq!(before_circle(&answer), Some(7));
        assert_eq!(before_circle(&[5; 23]), None);
        assert_eq!(before_circle(&[5; 24]), Some(1));
        let long: Vec<u32> = (0..40).collect();
        assert_eq!(before_circle(&long.repeat(2)), None);
        assert_eq!(before_circle(&long.repeat(3)), Some(40));
    }
}
