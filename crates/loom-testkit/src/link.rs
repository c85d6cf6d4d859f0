use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How a [`Link`] treats what is sent over it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkConfig {
    /// Seeds every decision.
    pub seed: u64,
    /// The share of datagrams that are lost, 0.0 ..= 1.0.
    pub loss: f64,
    /// The share that arrive twice, 0.0 ..= 1.0.
    pub duplication: f64,
    /// How long each is under way at least.
    pub delay: Duration,
    /// How much longer it may be under way: uniformly 0 to this, so that order is lost where this exceeds the spacing.
    pub jitter: Duration,
}

impl Default for LinkConfig {
    /// A perfect link.
    fn default() -> Self {
        Self {
            seed: 1,
            loss: 0.0,
            duplication: 0.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
        }
    }
}

/// Something that a [`Link`] has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery<T> {
    /// When it arrived.
    pub at: Instant,
    /// What was sent.
    pub item: T,
}

/// A one-way datagram link that loses, doubles, delays and reorders. Pure: time is an argument.
#[derive(Debug)]
pub struct Link<T> {
    config: LinkConfig,
    rng: StdRng,
    under_way: BinaryHeap<UnderWay<T>>,
    sent: u64,
}

impl<T: Clone> Link<T> {
    /// A link with nothing on it.
    pub fn new(config: LinkConfig) -> Self {
        Self {
            config,
            rng: StdRng::seed_from_u64(config.seed),
            under_way: BinaryHeap::new(),
            sent: 0,
        }
    }

    /// Sends `item` at `now`.
    pub fn handle_send(&mut self, item: T, now: Instant) {
        if self.rng.random_bool(self.config.loss) {
            return;
        }
        let copies = if self.rng.random_bool(self.config.duplication) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let jitter = self.config.jitter.mul_f64(self.rng.random_range(0.0..=1.0));
            self.sent += 1;
            let at = now + self.config.delay + jitter;
            self.under_way.push(UnderWay {
                at,
                order: self.sent,
                item: item.clone(),
            });
        }
    }

    /// The next thing that has arrived by `now`.
    pub fn poll_delivery(&mut self, now: Instant) -> Option<Delivery<T>> {
        if self.under_way.peek()?.at > now {
            return None;
        }
        self.under_way.pop().map(|it| Delivery {
            at: it.at,
            item: it.item,
        })
    }

    /// When the next thing arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.peek().map(|it| it.at)
    }
}

#[derive(Debug)]
struct UnderWay<T> {
    at: Instant,
    order: u64,
    item: T,
}

// The heap's greatest is the earliest.
impl<T> Ord for UnderWay<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl<T> PartialOrd for UnderWay<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for UnderWay<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for UnderWay<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clock;

    fn deliveries(config: LinkConfig, count: u32) -> Vec<u32> {
        let mut clock = Clock::new();
        let mut link = Link::new(config);
        for n in 0..count {
            link.handle_send(n, clock.now());
            clock.advance(Duration::from_millis(10));
        }
        clock.advance(Duration::from_secs(10));
        std::iter::from_fn(|| link.poll_delivery(clock.now()))
            .map(|it| it.item)
            .collect()
    }

    #[test]
    fn a_perfect_link_keeps_everything_in_order() {
        assert_eq!(
            deliveries(LinkConfig::default(), 100),
            (0..100).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_bad_link_loses_doubles_and_reorders_the_same_way_each_time() {
        let jitter = Duration::from_millis(60);
        let config = LinkConfig {
            seed: 7,
            loss: 0.1,
            duplication: 0.1,
            jitter,
            ..LinkConfig::default()
        };
        let once = deliveries(config, 1_000);
        assert_eq!(once, deliveries(config, 1_000));
        assert!(!once.is_sorted());
        let mut kept = once.clone();
        kept.sort_unstable();
        kept.dedup();
        assert!((850..950).contains(&kept.len()), "{}", kept.len());
        assert!(once.len() > kept.len());
    }

    #[test]
    fn nothing_arrives_before_its_time() {
        let clock = Clock::new();
        let mut link = Link::new(LinkConfig {
            delay: Duration::from_millis(50),
            ..LinkConfig::default()
        });
        link.handle_send('a', clock.now());
        assert_eq!(link.poll_delivery(clock.now() + Duration::from_millis(49)), None);
        assert_eq!(link.poll_timeout(), Some(clock.now() + Duration::from_millis(50)));
        assert!(
            link.poll_delivery(clock.now() + Duration::from_millis(50))
                .is_some()
        );
    }
}
