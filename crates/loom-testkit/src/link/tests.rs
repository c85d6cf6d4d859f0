use super::*;
use crate::Clock;

const SPACING: Duration = Duration::from_millis(10);
const MANY: u32 = 20_000;

/// Sends `count` numbers, [`SPACING`] apart, and gives what arrived and when after it was sent.
fn run(config: LinkConfig, count: u32) -> (Link<u32>, Vec<(u32, Duration)>) {
    let mut clock = Clock::new();
    let start = clock.now();
    let mut link = Link::new(config);
    let mut arrived = Vec::new();
    for n in 0..count {
        link.handle_send(n, clock.now());
        let now = clock.advance(SPACING);
        while let Some(it) = link.poll_delivery(now) {
            arrived.push((it.item, it.at - start - SPACING * it.item));
        }
    }
    let now = clock.advance(Duration::from_secs(3_600));
    while let Some(it) = link.poll_delivery(now) {
        arrived.push((it.item, it.at - start - SPACING * it.item));
    }
    (link, arrived)
}

fn deliveries(config: LinkConfig, count: u32) -> Vec<u32> {
    run(config, count).1.into_iter().map(|(n, _)| n).collect()
}

fn once(mut arrived: Vec<u32>) -> Vec<u32> {
    arrived.sort_unstable();
    arrived.dedup();
    arrived
}

/// That a share came out as it was asked for, to four standard deviations of `trials` independent draws.
fn assert_share(what: &str, count: u64, trials: f64, wanted: f64) {
    let share = count as f64 / trials;
    let tolerance = 4.0 * (wanted * (1.0 - wanted) / trials).sqrt();
    assert!(
        (share - wanted).abs() <= tolerance,
        "{what}: {share}, not {wanted} ± {tolerance}"
    );
}

#[test]
fn a_perfect_link_keeps_everything_in_order() {
    let (link, arrived) = run(LinkConfig::default(), 100);
    assert_eq!(arrived, (0..100).map(|n| (n, Duration::ZERO)).collect::<Vec<_>>());
    let counts = LinkCounts {
        sent: 100,
        ..LinkCounts::default()
    };
    assert_eq!(link.counts(), counts);
}

#[test]
fn a_bad_link_loses_doubles_and_reorders_the_same_way_each_time() {
    let config = LinkConfig {
        seed: 7,
        loss: 0.1,
        duplication: 0.1,
        jitter: Duration::from_millis(60),
        ..LinkConfig::default()
    };
    let arrived = deliveries(config, 1_000);
    assert_eq!(arrived, deliveries(config, 1_000));
    assert_ne!(arrived, deliveries(LinkConfig { seed: 8, ..config }, 1_000));
    assert!(!arrived.is_sorted());
    assert!(arrived.len() > once(arrived.clone()).len());
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
    assert_eq!(link.poll_timeout(), None);
}

#[test]
fn the_shares_of_loss_doubling_and_holding_come_out_as_asked_for() {
    for seed in 1..=20 {
        let share = f64::from(seed as u32) / 40.0;
        let config = LinkConfig {
            seed,
            loss: share,
            duplication: 0.5 - share,
            reordering: share / 3.0,
            ..LinkConfig::default()
        };
        let (link, arrived) = run(config, MANY);
        let counts = link.counts();
        let came = f64::from(MANY) * (1.0 - share);
        println!("seed {seed}: {counts:?}");
        assert_share("lost", counts.lost, f64::from(MANY), share);
        assert_share("doubled", counts.doubled, came, 0.5 - share);
        assert_share("held back", counts.held_back, came, share / 3.0);
        assert_eq!(counts.missing(), counts.lost);
        assert_eq!(
            arrived.len() as u64,
            counts.sent - counts.missing() + counts.doubled
        );
    }
}

#[test]
fn bursts_have_the_share_and_the_mean_length_asked_for() {
    for (seed, share, mean_length) in [
        (1, 0.02, 4.0),
        (2, 0.02, 10.0),
        (3, 0.1, 1.0),
        (4, 0.3, 7.5),
        (5, 0.02, 2.0),
    ] {
        let burst = BurstLoss { share, mean_length };
        let config = LinkConfig {
            seed,
            burst,
            ..LinkConfig::default()
        };
        let count = 10 * MANY;
        let mut link = Link::new(config);
        let now = Instant::now();
        let lost: Vec<bool> = (0..count)
            .map(|n| link.handle_send(n, now) == Fate::LostInBurst)
            .collect();
        let runs = lost.chunk_by(|a, b| a == b).filter(|run| run[0]);
        let lengths: Vec<f64> = runs.map(|run| run.len() as f64).collect();
        let counts = link.counts();
        println!("seed {seed}: {counts:?}");
        assert_eq!(lengths.len() as u64, counts.bursts);
        assert_eq!(lengths.iter().sum::<f64>() as u64, counts.lost_in_bursts);
        let mean = lengths.iter().sum::<f64>() / lengths.len() as f64;
        // geometric: its variance is length × (length − 1)
        let deviation = (mean_length * (mean_length - 1.0) / lengths.len() as f64).sqrt();
        assert!(
            (mean - mean_length).abs() <= 4.0 * deviation,
            "seed {seed}: bursts of {mean}"
        );
        let realised = counts.lost_in_bursts as f64 / f64::from(count);
        // one burst is one independent draw
        let tolerance = 4.0 * share * (2.0 / lengths.len() as f64).sqrt();
        assert!(
            (realised - share).abs() <= tolerance,
            "seed {seed}: {realised}, not {share}"
        );
    }
}

#[test]
fn random_loss_and_bursts_add_up() {
    let config = LinkConfig {
        loss: 0.05,
        burst: BurstLoss {
            share: 0.02,
            mean_length: 4.0,
        },
        ..LinkConfig::default()
    };
    let counts = run(config, 5 * MANY).0.counts();
    let missing = counts.missing() as f64 / f64::from(5 * MANY);
    assert!(
        (0.065..0.073).contains(&missing),
        "{missing}, not 1 − 0.95 × 0.98"
    );
}

#[test]
fn jitter_is_spread_evenly_from_the_delay_on() {
    let (delay, jitter) = (Duration::from_millis(30), Duration::from_millis(60));
    let (_, arrived) = run(
        LinkConfig {
            delay,
            jitter,
            ..LinkConfig::default()
        },
        MANY,
    );
    let mut quarters = [0; 4];
    for (n, took) in arrived {
        assert!(took >= delay && took <= delay + jitter, "{n} took {took:?}");
        quarters[((took - delay).as_secs_f64() / jitter.as_secs_f64() * 4.0).min(3.0) as usize] += 1;
    }
    for quarter in quarters {
        assert_share("a quarter", quarter, f64::from(MANY), 0.25);
    }
}

#[test]
fn where_order_is_kept_only_those_held_back_are_overtaken() {
    let config = LinkConfig {
        seed: 3,
        delay: Duration::from_millis(30),
        jitter: Duration::from_millis(60),
        order: Order::Kept,
        ..LinkConfig::default()
    };
    assert!(deliveries(config, MANY).is_sorted());
    let config = LinkConfig {
        reordering: 0.01,
        hold: Duration::from_millis(90),
        ..config
    };
    let (link, arrived) = run(config, MANY);
    let late: Vec<u32> = (0..arrived.len() - 1)
        .filter(|at| arrived[at + 1].0 < arrived[*at].0)
        .map(|at| arrived[at + 1].0)
        .collect();
    assert!(late.len() as u64 <= link.counts().held_back);
    assert!(
        late.len() as u64 > link.counts().held_back / 2,
        "{} overtaken",
        late.len()
    );
}

#[test]
fn an_impairment_changes_nothing_that_the_others_decide() {
    let plain = LinkConfig {
        loss: 0.05,
        ..LinkConfig::default()
    };
    let lost = once(deliveries(plain, MANY));
    let others = LinkConfig {
        duplication: 0.2,
        jitter: Duration::from_millis(60),
        reordering: 0.1,
        ..plain
    };
    assert_eq!(lost, once(deliveries(others, MANY)));
}

#[test]
fn a_rate_cap_lets_its_rate_through_and_drops_at_the_tail() {
    let clock = Clock::new();
    let start = clock.now();
    let mut link = Link::new(LinkConfig {
        rate: Some(RateCap {
            bits_per_second: 1_000_000,
            queue: Duration::from_millis(100),
        }),
        ..LinkConfig::default()
    });
    // 2 Mbit/s for a second: 1,250 bytes are 10 ms of the cap
    let fates: Vec<Fate> = (0..200)
        .map(|n| link.handle_datagram(n, 1_250, start + Duration::from_millis(5) * n))
        .collect();
    assert!(
        fates[..20].iter().all(|fate| *fate == Fate::Passed),
        "the queue takes the first"
    );
    let mut last = start;
    let mut arrived = 0;
    while let Some(it) = link.poll_delivery(start + Duration::from_secs(10)) {
        let waited = it.at - (start + Duration::from_millis(5) * it.item);
        assert!(
            waited <= Duration::from_millis(110),
            "{} waited {waited:?}",
            it.item
        );
        assert!(it.at >= last + Duration::from_millis(10), "two at once");
        (last, arrived) = (it.at, arrived + 1);
    }
    let dropped = link.counts().dropped;
    assert_eq!(arrived + dropped, 200);
    // a second's worth and the queue's: 100 and 10, and the one that is being sent
    assert!((109..=111).contains(&arrived), "{arrived} came");
    assert_eq!(
        fates.iter().filter(|fate| **fate == Fate::Dropped).count() as u64,
        dropped
    );
}

#[test]
fn a_queue_that_has_run_empty_owes_nothing() {
    let start = Instant::now();
    let mut link = Link::new(LinkConfig {
        rate: Some(RateCap {
            bits_per_second: 1_000_000,
            queue: Duration::ZERO,
        }),
        ..LinkConfig::default()
    });
    for n in 0..100 {
        let sent = start + Duration::from_millis(20) * n;
        assert_eq!(link.handle_datagram(n, 1_250, sent), Fate::Passed);
        assert_eq!(link.poll_timeout(), Some(sent + Duration::from_millis(10)));
        assert!(link.poll_delivery(sent + Duration::from_millis(10)).is_some());
    }
}

#[test]
#[should_panic(expected = "no chain loses")]
fn bursts_that_cannot_be_are_refused() {
    let burst = BurstLoss {
        share: 0.9,
        mean_length: 2.0,
    };
    Link::<()>::new(LinkConfig {
        burst,
        ..LinkConfig::default()
    });
}
