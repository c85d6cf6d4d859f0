//! How many requests one address may make (RFC 9725 §5: rate limits for `POST`, `PATCH` and `DELETE`).

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Refusal;
use crate::limits;
use crate::net::client;

/// A bucket of tokens for each address, in a fixed amount of memory: addresses that fall on the same bucket share it, and
/// which do so nobody outside can tell.
#[derive(Debug)]
pub(super) struct Pace {
    hasher: RandomState,
    buckets: Mutex<Vec<Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        let full = Bucket {
            tokens: limits::REQUEST_BURST,
            filled: now,
        };
        Self {
            hasher: RandomState::new(),
            buckets: Mutex::new(vec![full; BUCKETS]),
        }
    }

    /// Counts a request from `address`.
    ///
    /// # Errors
    /// 429 where there were too many (RFC 6585 §4).
    pub(super) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Refusal> {
        let at = self.hasher.hash_one(client(address)) as usize % BUCKETS;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bucket) = buckets.get_mut(at) else {
            return Ok(());
        };
        let passed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * limits::REQUESTS_A_SECOND).min(limits::REQUEST_BURST);
        bucket.filled = bucket.filled.max(now);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let wait = Duration::from_secs_f64((1.0 - bucket.tokens) / limits::REQUESTS_A_SECOND);
        Err(Refusal {
            retry_after: Some(wait.as_secs() as u32 + 1),
            ..Refusal::new(
                429,
                "Too many requests",
                "this address asks faster than it is answered",
            )
        })
    }
}

const BUCKETS: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_slowed_down_and_its_neighbours_are_not() {
        let mut now = Instant::now();
        let pace = Pace::new(now);
        let flood = IpAddr::from([192, 0, 2, 1]);
        let granted = (0..10_000).filter(|_| pace.take(flood, now).is_ok()).count();
        assert_eq!(granted as f64, limits::REQUEST_BURST);
        let refusal = pace.take(flood, now).unwrap_err();
        assert_eq!((refusal.status, refusal.retry_after), (429, Some(1)));

        let others = (0..100u8).map(|last| IpAddr::from([198, 51, 100, last]));
        let granted = others.filter(|other| pace.take(*other, now).is_ok()).count();
        assert!(granted >= 95, "only {granted} of 100 neighbours were let in");

        now += Duration::from_secs(2);
        let granted = (0..10_000).filter(|_| pace.take(flood, now).is_ok()).count();
        assert_eq!(granted as f64, 2.0 * limits::REQUESTS_A_SECOND);
    }
}
