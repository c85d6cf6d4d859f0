//! How much of the machine the ladder of a recording may take: foretold from its plan before it begins, at the price that those before it
//! turned out to have.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use loom_transcode::Backend;
use serde::Serialize;

/// What live ladders take of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LiveLoad {
    /// Cores that they may take, all together ([`EngineConfig::live_cores`](crate::EngineConfig::live_cores)).
    pub cores: f64,
    /// Cores that their plans foretell, of the dearest content.
    pub planned: f64,
    /// Cores that a core of a plan really takes: 1 until it is measured. Screens that stand still cost a fraction of what a film does.
    pub price: f64,
    /// Rungs that are shed because encoders are behind. Until they come back no other ladder is begun.
    pub shed: usize,
}

impl LiveLoad {
    /// Cores of a plan that there is room for.
    pub fn room(&self) -> f64 {
        if self.shed > 0 {
            return 0.0;
        }
        (self.cores / self.price - self.planned).max(0.0)
    }
}

/// Keeps the books. It is only looked at when a ladder begins, ends, sheds a rung or takes one back, or somebody asks.
#[derive(Debug)]
pub(crate) struct Admission {
    backend: Arc<dyn Backend>,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    load: LiveLoad,
    /// When the ladders last changed, and the processor time that all had taken by then.
    since: Option<(Instant, Duration)>,
}

/// A ladder that runs; dropped with it.
#[derive(Debug)]
pub(crate) struct Ladder {
    admission: Arc<Admission>,
    cores: f64,
    shed: usize,
}

impl Admission {
    pub(crate) fn new(cores: f64, backend: Arc<dyn Backend>) -> Arc<Self> {
        let load = LiveLoad {
            cores,
            planned: 0.0,
            price: 1.0,
            shed: 0,
        };
        Arc::new(Self {
            backend,
            books: Mutex::new(Books { load, since: None }),
        })
    }

    pub(crate) fn load(&self) -> LiveLoad {
        self.measured().load
    }

    /// A ladder begins that is foretold to take so many cores.
    pub(crate) fn begin(self: &Arc<Self>, cores: f64) -> Ladder {
        let mut books = self.measured();
        books.load.planned += cores;
        books.tell();
        Ladder {
            admission: self.clone(),
            cores,
            shed: 0,
        }
    }

    /// The books, with what the ladders took since they last changed.
    fn measured(&self) -> MutexGuard<'_, Books> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.measure(Instant::now(), self.backend.live_time());
        books
    }
}

impl Ladder {
    /// One of its rungs is shed, or comes back.
    pub(crate) fn handle_load(&mut self, shed: bool) {
        let mut books = self.admission.measured();
        books.load.shed -= self.shed;
        self.shed = match shed {
            true => self.shed + 1,
            false => self.shed.saturating_sub(1),
        };
        books.load.shed += self.shed;
        // what they take while some is left out says nothing of what they would
        books.since = None;
    }
}

impl Drop for Ladder {
    fn drop(&mut self) {
        let mut books = self.admission.measured();
        books.load.shed -= self.shed;
        books.load.planned -= self.cores;
        if books.load.planned < LEAST {
            books.load.planned = 0.0;
        }
        books.tell();
    }
}

impl Books {
    fn tell(&self) {
        metrics::gauge!("loom_live_planned_cores").set(self.load.planned);
        metrics::gauge!("loom_live_price").set(self.load.price);
    }

    fn measure(&mut self, now: Instant, taken: Option<Duration>) {
        let Some(taken) = taken else { return };
        let before = self.since.replace((now, taken));
        let (Some((since, before)), true) = (before, self.load.shed == 0) else {
            return;
        };
        let (lasted, used) = (now.duration_since(since), taken.saturating_sub(before));
        // a moment, or a ladder that nobody fed, tells nothing
        if lasted < SHORTEST || self.load.planned < LEAST || used.is_zero() {
            return;
        }
        let seen = used.as_secs_f64() / lasted.as_secs_f64() / self.load.planned;
        let weight = 1.0 - (-lasted.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        let price = self.load.price + (seen - self.load.price) * weight;
        self.load.price = price.clamp(CHEAPEST, DEAREST);
    }
}

/// No shorter stretch is measured.
const SHORTEST: Duration = Duration::from_secs(2);
/// What was seen fades within so long.
const MEMORY: Duration = Duration::from_secs(60);
/// Fewer planned cores are none.
const LEAST: f64 = 1e-6;
/// The price stays between these: a still screen may begin to move, and a slow machine is at most so slow.
const CHEAPEST: f64 = 0.25;
const DEAREST: f64 = 4.0;

#[cfg(test)]
mod tests {
    use loom_transcode::DummyBackend;

    use super::*;

    fn admission(cores: f64) -> Arc<Admission> {
        Admission::new(cores, Arc::new(DummyBackend::default()))
    }

    fn books(cores: f64, planned: f64) -> Books {
        let load = LiveLoad {
            cores,
            planned,
            price: 1.0,
            shed: 0,
        };
        Books { load, since: None }
    }

    #[test]
    fn ladders_take_room_while_they_run() {
        let admission = admission(1.5);
        let first = admission.begin(0.5);
        let second = admission.begin(0.75);
        assert!((admission.load().room() - 0.25).abs() < 1e-9);
        drop(first);
        assert!((admission.load().room() - 0.75).abs() < 1e-9);
        drop(second);
        assert_eq!(admission.load().room(), 1.5);
        let _third = admission.begin(2.0);
        assert_eq!(admission.load().room(), 0.0);
    }

    #[test]
    fn while_a_rung_is_shed_there_is_no_room() {
        let admission = admission(1.0);
        let mut ladder = admission.begin(0.5);
        ladder.handle_load(true);
        ladder.handle_load(true);
        ladder.handle_load(false);
        assert_eq!((admission.load().shed, admission.load().room()), (1, 0.0));
        ladder.handle_load(false);
        assert_eq!(admission.load().room(), 0.5);
        ladder.handle_load(true);
        drop(ladder);
        assert_eq!(admission.load().room(), 1.0, "one that ended sheds nothing");
    }

    #[test]
    fn the_price_comes_to_what_ladders_really_take() {
        let mut books = books(1.0, 0.5);
        let start = Instant::now();
        let mut taken = 0.0;
        let mut run = |books: &mut Books, tens: std::ops::Range<u64>, cores: f64| {
            for ten in tens {
                taken += 10.0 * cores;
                books.measure(
                    start + Duration::from_secs(ten * 10),
                    Some(Duration::from_secs_f64(taken)),
                );
            }
        };
        run(&mut books, 0..60, 0.2);
        assert!((books.load.price - 0.4).abs() < 0.01, "{:?}", books.load);
        assert!((books.load.room() - 2.0).abs() < 0.1, "{:?}", books.load);
        // all stand still: that is not for ever
        run(&mut books, 60..200, 0.001);
        assert_eq!(books.load.price, CHEAPEST);
    }

    #[test]
    fn a_moment_nothing_and_what_was_shed_are_no_measure() {
        let mut books = books(1.0, 0.5);
        let start = Instant::now();
        let at = |seconds: u64, taken: f64| {
            (
                start + Duration::from_secs(seconds),
                Some(Duration::from_secs_f64(taken)),
            )
        };
        for (now, taken) in [at(0, 0.0), at(1, 3.0), at(11, 3.0), (at(20, 0.0).0, None)] {
            books.measure(now, taken);
        }
        books.load.shed = 1;
        for (now, taken) in [at(30, 4.0), at(60, 40.0)] {
            books.measure(now, taken);
        }
        assert_eq!(books.load.price, 1.0);
    }
}
