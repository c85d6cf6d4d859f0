//! How much of the machine the ladder of a recording may take: foretold from its plan before it begins, at the price that those before it
//! turned out to have.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use loom_core::RenditionId;
use loom_transcode::{Backend, Plan};
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
    /// Whether a rung was shed within the last half minute, because encoders were behind, or still was by then.
    pub overloaded: bool,
}

impl LiveLoad {
    /// Cores of a plan that there is room for: none while encoders are behind.
    pub fn room(&self) -> f64 {
        match self.overloaded {
            true => 0.0,
            false => (self.cores / self.price - self.planned).max(0.0),
        }
    }
}

/// Keeps the books of all ladders.
#[derive(Debug)]
pub(crate) struct Admission {
    backend: Arc<dyn Backend>,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    cores: f64,
    planned: f64,
    price: f64,
    /// When a rung was last told to be shed.
    shed: Option<Instant>,
    /// When `planned` last changed or was added to `owed`.
    changed: Instant,
    /// Seconds of a core that were foretold since the last measure.
    owed: f64,
    /// The last measure: when it was, and the processor time that all had taken by then.
    measured: Option<(Instant, Duration)>,
}

/// A ladder that runs; dropped with it.
#[derive(Debug)]
pub(crate) struct Ladder {
    admission: Arc<Admission>,
    cores: f64,
    shed: Vec<RenditionId>,
}

impl Admission {
    pub(crate) fn new(cores: f64, backend: Arc<dyn Backend>) -> Arc<Self> {
        let books = Mutex::new(Books::new(cores, Instant::now()));
        Arc::new(Self { backend, books })
    }

    /// Measures now and then from here on, where the backend can tell what it takes.
    pub(crate) fn watch(self: &Arc<Self>) {
        if self.backend.live_time().is_none() {
            return;
        }
        let watched = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                let Some(admission) = watched.upgrade() else {
                    return;
                };
                let measured = tokio::task::spawn_blocking(move || {
                    if let Some(taken) = admission.backend.live_time() {
                        admission.books().measure(Instant::now(), taken);
                    }
                });
                if measured.await.is_err() {
                    return; // the runtime ends
                }
            }
        });
    }

    pub(crate) fn load(&self) -> LiveLoad {
        self.books().load(Instant::now())
    }

    /// A ladder begins, by the plan that is chosen for so many cores of room.
    pub(crate) fn admit<E>(
        self: &Arc<Self>,
        choose: impl FnOnce(f64) -> Result<Plan, E>,
    ) -> Result<(Plan, Ladder), E> {
        let (mut books, now) = (self.books(), Instant::now());
        let plan = choose(books.load(now).room())?;
        books.plan(now, plan.live_cores());
        let ladder = self.ladder(plan.live_cores());
        Ok((plan, ladder))
    }

    /// One begins for which there is no choice.
    pub(crate) fn begin(self: &Arc<Self>, cores: f64) -> Ladder {
        self.books().plan(Instant::now(), cores);
        self.ladder(cores)
    }

    fn ladder(self: &Arc<Self>, cores: f64) -> Ladder {
        Ladder {
            admission: self.clone(),
            cores,
            shed: Vec::new(),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ladder {
    /// One of its rungs is shed, or still is, or has come back; gives whether that is news.
    pub(crate) fn handle_load(&mut self, rendition: &RenditionId, shed: bool) -> bool {
        let known = self.shed.iter().position(|it| it == rendition);
        if shed {
            self.admission.books().shed = Some(Instant::now());
        }
        match (known, shed) {
            (None, true) => self.shed.push(rendition.clone()),
            (Some(at), false) => drop(self.shed.swap_remove(at)),
            _ => return false,
        }
        true
    }
}

impl Drop for Ladder {
    fn drop(&mut self) {
        self.admission.books().plan(Instant::now(), -self.cores);
    }
}

impl Books {
    fn new(cores: f64, now: Instant) -> Self {
        Self {
            cores,
            planned: 0.0,
            price: 1.0,
            shed: None,
            changed: now,
            owed: 0.0,
            measured: None,
        }
    }

    fn load(&self, now: Instant) -> LiveLoad {
        LiveLoad {
            cores: self.cores,
            planned: self.planned,
            price: self.price,
            overloaded: self
                .shed
                .is_some_and(|shed| now.duration_since(shed) < SHED_COUNTS),
        }
    }

    /// So many cores more are planned, or fewer.
    fn plan(&mut self, now: Instant, cores: f64) {
        self.owe(now);
        self.planned = (self.planned + cores).max(0.0);
        metrics::gauge!("loom_live_planned_cores").set(self.planned);
    }

    fn owe(&mut self, now: Instant) {
        let lasted = now.duration_since(self.changed);
        self.owed += self.planned * lasted.as_secs_f64();
        self.changed = now;
    }

    fn measure(&mut self, now: Instant, taken: Duration) {
        self.owe(now);
        let owed = std::mem::take(&mut self.owed);
        let Some((since, before)) = self.measured.replace((now, taken)) else {
            return;
        };
        let used = taken.saturating_sub(before);
        let weight = 1.0 - (-now.duration_since(since).as_secs_f64() / MEMORY.as_secs_f64()).exp();
        let seen = match owed {
            // nothing runs: what was seen is forgotten
            _ if owed < LEAST => 1.0,
            // what is taken while some of it is left out, or nobody feeds it, says nothing of what would be
            _ if used.is_zero() || self.load(now).overloaded => return,
            owed => used.as_secs_f64() / owed,
        };
        self.price = (self.price + (seen - self.price) * weight).clamp(CHEAPEST, DEAREST);
        metrics::gauge!("loom_live_price").set(self.price);
    }
}

/// How often it is measured what ladders take.
const EVERY: Duration = Duration::from_secs(10);
/// What was seen fades within so long.
const MEMORY: Duration = Duration::from_secs(60);
/// Fewer planned seconds of a core tell nothing.
const LEAST: f64 = 0.1;
/// The price stays between these: a still screen may begin to move, and a slow machine is at most so slow.
const CHEAPEST: f64 = 0.25;
const DEAREST: f64 = 4.0;
/// How long a shed rung counts: graphs tell of one again every third of this.
const SHED_COUNTS: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use loom_transcode::DummyBackend;

    use super::*;

    fn admission(cores: f64) -> Arc<Admission> {
        Admission::new(cores, Arc::new(DummyBackend))
    }

    fn rung(name: &str) -> RenditionId {
        RenditionId::new(name).expect("a name")
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
    fn while_a_rung_is_shed_there_is_no_room_and_each_is_news_once() {
        let admission = admission(1.0);
        let mut ladder = admission.begin(0.5);
        assert!(!ladder.handle_load(&rung("360p"), false));
        assert_eq!(admission.load().room(), 0.5);
        assert!(ladder.handle_load(&rung("360p"), true));
        assert!(ladder.handle_load(&rung("480p"), true));
        assert!(!ladder.handle_load(&rung("480p"), true), "it still is");
        assert_eq!(admission.load().room(), 0.0);
        assert!(ladder.handle_load(&rung("480p"), false));
        // one that is paused, or fails, takes nothing back: it is not waited for
        let books = admission.books();
        let now = books.shed.expect("it was told");
        assert!(
            books
                .load(now + SHED_COUNTS - Duration::from_millis(1))
                .overloaded
        );
        assert_eq!(books.load(now + SHED_COUNTS).room(), 0.5);
    }

    #[test]
    fn the_price_comes_to_what_ladders_really_take_and_is_forgotten() {
        let start = Instant::now();
        let mut books = Books::new(1.0, start);
        books.plan(start, 0.5);
        let mut taken = 0.0;
        let mut run = |books: &mut Books, tens: std::ops::Range<u64>, cores: f64| {
            for ten in tens {
                taken += 10.0 * cores;
                books.measure(
                    start + Duration::from_secs(ten * 10),
                    Duration::from_secs_f64(taken),
                );
            }
        };
        let room = |books: &Books| books.load(start).room();
        run(&mut books, 0..60, 0.2);
        assert!((books.price - 0.4).abs() < 0.01, "{books:?}");
        assert!((room(&books) - 2.0).abs() < 0.1, "{books:?}");
        // a second one for half of the time, and as much as it was foretold
        books.plan(start + Duration::from_secs(595), 1.0);
        assert_eq!(books.owed, 0.5 * 5.0);
        books.plan(start + Duration::from_secs(600), -1.0);
        assert_eq!(books.owed, 0.5 * 10.0 + 1.0 * 5.0);
        run(&mut books, 61..200, 0.001);
        assert_eq!(books.price, CHEAPEST, "it may begin to move");
        books.plan(start + Duration::from_secs(2_000), -0.5);
        run(&mut books, 200..300, 0.0);
        assert!((books.price - 1.0).abs() < 0.01, "{books:?}");
    }

    #[test]
    fn what_is_shed_or_not_fed_is_no_measure() {
        let start = Instant::now();
        let mut books = Books::new(1.0, start);
        books.plan(start, 0.5);
        let measure = |books: &mut Books, seconds: u64, taken: f64| {
            let now = start + Duration::from_secs(seconds);
            books.measure(now, Duration::from_secs_f64(taken));
            books.price
        };
        assert_eq!(measure(&mut books, 0, 0.0), 1.0);
        assert_eq!(measure(&mut books, 10, 0.0), 1.0);
        books.shed = Some(start + Duration::from_secs(15));
        assert_eq!(measure(&mut books, 20, 9.0), 1.0);
        assert_eq!(measure(&mut books, 30, 9.5), 1.0);
        assert!(measure(&mut books, 50, 9.6) < 1.0);
    }
}
