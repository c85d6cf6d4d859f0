use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How a [`Link`] treats what is sent over it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkConfig {
    /// Seeds every decision. Each impairment has a stream of its own, drawn from once a datagram, so that to add one, or
    /// to change how strong it is, changes nothing that the others decide.
    pub seed: u64,
    /// The share of datagrams that are lost singly, 0.0 ..= 1.0.
    pub loss: f64,
    /// What is lost in bursts, besides [`LinkConfig::loss`].
    pub burst: BurstLoss,
    /// The share that arrive twice, 0.0 ..= 1.0. The copy is under way on its own, with a jitter of its own.
    pub duplication: f64,
    /// How long each is under way at least.
    pub delay: Duration,
    /// How much longer it may be under way: uniformly 0 to this.
    pub jitter: Duration,
    /// Whether jitter may change the order.
    pub order: Order,
    /// The share held back by [`LinkConfig::hold`], so that those sent after it overtake it, 0.0 ..= 1.0.
    pub reordering: f64,
    /// How much longer one that is held back is under way.
    pub hold: Duration,
    /// The narrowest place of the link; none where it is wide.
    pub rate: Option<RateCap>,
}

impl Default for LinkConfig {
    /// A perfect link.
    fn default() -> Self {
        Self {
            seed: 1,
            loss: 0.0,
            burst: BurstLoss::default(),
            duplication: 0.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            order: Order::Free,
            reordering: 0.0,
            hold: Duration::from_millis(20),
            rate: None,
        }
    }
}

/// Loss that comes in bursts: the Gilbert–Elliott chain of two states (E. N. Gilbert, "Capacity of a Burst-Noise
/// Channel", 1960), where all is lost in the bad state and nothing in the good one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurstLoss {
    /// The share of datagrams that are lost in bursts, 0.0 up to, and without, 1.0.
    pub share: f64,
    /// How many datagrams in a row a burst takes on average, at least 1.0, and at least `share / (1 − share)`.
    pub mean_length: f64,
}

impl Default for BurstLoss {
    /// None.
    fn default() -> Self {
        Self {
            share: 0.0,
            mean_length: 4.0,
        }
    }
}

impl BurstLoss {
    /// The chance that a burst ends before the next datagram.
    pub fn recovery(&self) -> f64 {
        self.mean_length.recip()
    }

    /// The chance that a burst begins at the next datagram: such that the chain spends [`BurstLoss::share`] of its time
    /// in the bad state.
    pub fn onset(&self) -> f64 {
        self.share / (1.0 - self.share) * self.recovery()
    }
}

/// Whether jitter may change the order in which datagrams arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Each is delayed for itself, and overtakes those before it that are delayed longer, as by netem's `delay`.
    #[default]
    Free,
    /// None arrives before one that was sent before it, as behind one queue. Those held back
    /// ([`LinkConfig::reordering`]) and the copies of doubled ones are exempt.
    Kept,
}

/// A narrow place with a queue before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateCap {
    /// What passes, in bits a second; above zero.
    pub bits_per_second: u64,
    /// How long a datagram may wait for those before it. One that would have to wait longer is dropped (tail drop).
    pub queue: Duration,
}

/// What a [`Link`] made of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives once.
    Passed,
    /// It arrives twice.
    Doubled,
    /// It was lost on its own.
    Lost,
    /// It was lost in a burst.
    LostInBurst,
    /// The queue before the narrow place was full.
    Dropped,
}

impl Fate {
    /// Whether it arrives.
    pub fn arrives(self) -> bool {
        matches!(self, Self::Passed | Self::Doubled)
    }
}

/// How many datagrams a [`Link`] was given, and what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounts {
    /// All that were sent.
    pub sent: u64,
    /// Those lost singly.
    pub lost: u64,
    /// Those lost in bursts.
    pub lost_in_bursts: u64,
    /// How many bursts there were.
    pub bursts: u64,
    /// Those dropped at a full queue.
    pub dropped: u64,
    /// Those that arrive twice.
    pub doubled: u64,
    /// Those held back.
    pub held_back: u64,
}

impl LinkCounts {
    /// All that do not arrive.
    pub fn missing(&self) -> u64 {
        self.lost + self.lost_in_bursts + self.dropped
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

/// A one-way datagram link that loses, doubles, delays, reorders and is narrow. Pure: time is an argument.
#[derive(Debug)]
pub struct Link<T> {
    config: LinkConfig,
    decisions: Decisions,
    under_way: BinaryHeap<UnderWay<T>>,
    counts: LinkCounts,
    order: u64,
    /// When the narrow place has let the last one through.
    free: Option<Instant>,
    /// When the last one arrives that kept its order.
    last: Option<Instant>,
}

impl<T: Clone> Link<T> {
    /// A link with nothing on it.
    ///
    /// # Panics
    /// Where a share is none, a burst cannot have its mean length, or the rate is zero.
    pub fn new(config: LinkConfig) -> Self {
        for share in [config.loss, config.duplication, config.reordering] {
            assert!((0.0..=1.0).contains(&share), "{share} is no share");
        }
        let BurstLoss { share, mean_length } = config.burst;
        assert!(
            (0.0..1.0).contains(&share) && mean_length >= 1.0 && config.burst.onset() <= 1.0,
            "no chain loses {share} in bursts of {mean_length}"
        );
        assert!(
            config.rate.is_none_or(|rate| rate.bits_per_second > 0),
            "a link without any rate"
        );
        Self {
            config,
            decisions: Decisions::new(config.seed),
            under_way: BinaryHeap::new(),
            counts: LinkCounts::default(),
            order: 0,
            free: None,
            last: None,
        }
    }

    /// What became of what was sent so far.
    pub fn counts(&self) -> LinkCounts {
        self.counts
    }

    /// Sends `item`, whose size does not matter, at `now`: it takes no time in the narrow place.
    pub fn handle_send(&mut self, item: T, now: Instant) -> Fate {
        self.handle_datagram(item, 0, now)
    }

    /// Sends `item`, a datagram of `bytes` with its headers, at `now`.
    pub fn handle_datagram(&mut self, item: T, bytes: usize, now: Instant) -> Fate {
        let decision = self.decisions.next(&self.config);
        let fate = self.fate(decision, bytes, now);
        self.count(decision, fate);
        if !fate.arrives() {
            return fate;
        }
        let through = self.free.filter(|free| *free > now).unwrap_or(now);
        let base = through + self.config.delay;
        let mut at = base + self.config.jitter.mul_f64(decision.jitter);
        if decision.held {
            at += self.config.hold;
        } else if self.config.order == Order::Kept {
            at = self.last.map_or(at, |last| last.max(at));
            self.last = Some(at);
        }
        if fate == Fate::Doubled {
            self.put(item.clone(), at);
            self.put(item, base + self.config.jitter.mul_f64(decision.second_jitter));
        } else {
            self.put(item, at);
        }
        fate
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

    /// Decides what becomes of a datagram, and has it pass the narrow place. What is lost is lost behind it.
    fn fate(&mut self, decision: Decision, bytes: usize, now: Instant) -> Fate {
        if let Some(rate) = self.config.rate {
            let begins = self.free.map_or(now, |free| free.max(now));
            if begins.duration_since(now) > rate.queue {
                return Fate::Dropped;
            }
            let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(rate.bits_per_second);
            self.free = Some(begins + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        }
        match decision {
            Decision { in_burst: true, .. } => Fate::LostInBurst,
            Decision { lost: true, .. } => Fate::Lost,
            Decision { doubled: true, .. } => Fate::Doubled,
            _ => Fate::Passed,
        }
    }

    fn count(&mut self, decision: Decision, fate: Fate) {
        let counts = &mut self.counts;
        counts.sent += 1;
        counts.bursts += u64::from(decision.burst_begins);
        counts.held_back += u64::from(decision.held && fate.arrives());
        *match fate {
            Fate::Passed => return,
            Fate::Doubled => &mut counts.doubled,
            Fate::Lost => &mut counts.lost,
            Fate::LostInBurst => &mut counts.lost_in_bursts,
            Fate::Dropped => &mut counts.dropped,
        } += 1;
    }

    fn put(&mut self, item: T, at: Instant) {
        self.order += 1;
        self.under_way.push(UnderWay {
            at,
            order: self.order,
            item,
        });
    }
}

/// What is decided of one datagram, whatever becomes of it.
#[derive(Debug, Clone, Copy)]
struct Decision {
    lost: bool,
    in_burst: bool,
    burst_begins: bool,
    doubled: bool,
    held: bool,
    /// Shares of the greatest jitter, of it and of its copy.
    jitter: f64,
    second_jitter: f64,
}

/// One stream of random numbers for each impairment.
#[derive(Debug)]
struct Decisions {
    loss: StdRng,
    burst: StdRng,
    doubling: StdRng,
    jitter: StdRng,
    holding: StdRng,
    in_burst: bool,
}

impl Decisions {
    fn new(seed: u64) -> Self {
        let mut seeds = StdRng::seed_from_u64(seed);
        let mut stream = || StdRng::seed_from_u64(seeds.random());
        Self {
            loss: stream(),
            burst: stream(),
            doubling: stream(),
            jitter: stream(),
            holding: stream(),
            in_burst: false,
        }
    }

    fn next(&mut self, config: &LinkConfig) -> Decision {
        let was_in_burst = self.in_burst;
        let step: f64 = self.burst.random();
        self.in_burst = if was_in_burst {
            step >= config.burst.recovery()
        } else {
            step < config.burst.onset()
        };
        Decision {
            lost: self.loss.random::<f64>() < config.loss,
            in_burst: self.in_burst,
            burst_begins: self.in_burst && !was_in_burst,
            doubled: self.doubling.random::<f64>() < config.duplication,
            held: self.holding.random::<f64>() < config.reordering,
            jitter: self.jitter.random(),
            second_jitter: self.jitter.random(),
        }
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
mod tests;
