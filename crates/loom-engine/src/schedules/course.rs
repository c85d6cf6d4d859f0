use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use loom_core::MediaKind;
use loom_testkit::{BurstLoss, LinkConfig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::picture::Pictures;
use super::publisher::Publisher;
use super::sender::{Sender, Skew, Unit};
use crate::take::Take;
use crate::{Engine, EngineError, Event, Recording, RecordingId, RecordingState, live};

/// Something that is done to a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Pause,
    Resume,
    Mute(MediaKind),
    Unmute(MediaKind),
    /// The publisher is gone, and says nothing of it.
    Vanish,
    /// A publisher comes, in another's place where one is there.
    Come,
    /// The publisher says goodbye.
    Leave,
    Stop,
    Delete,
    /// The process ends in good order.
    Shutdown,
    /// The process ends where it stands.
    Kill,
}

/// What is done to one recording, and when.
#[derive(Debug, Clone)]
pub(super) struct Course {
    pub(super) seed: u64,
    /// How long after the one before.
    pub(super) steps: Vec<(Duration, Step)>,
    /// There and back.
    pub(super) road: [LinkConfig; 2],
    pub(super) skew: Skew,
    /// How far apart pictures are.
    pub(super) apart: Duration,
}

/// What happened on a course. All times are since its begin.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// What each session's publisher has sent, and when that was offered.
    pub(super) sessions: Vec<(Duration, Vec<Unit>)>,
    /// The states that the recording came to.
    pub(super) states: Vec<(Duration, RecordingState)>,
    /// What was done, and when.
    pub(super) steps: Vec<(Duration, Step)>,
    /// What was refused, and is no error of the caller's.
    pub(super) refusals: Vec<String>,
    pub(super) deleted: bool,
    pub(super) killed: bool,
    /// When nothing more was wanted of it, or, where its process was killed, up to when that had recorded.
    pub(super) ended: Duration,
}

impl Course {
    /// The one of that seed: of half a minute or so, with an end at random.
    pub(super) fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut steps = Vec::new();
        for _ in 0..rng.random_range(2..12) {
            let kind = match rng.random_bool(0.5) {
                true => MediaKind::Audio,
                false => MediaKind::Video,
            };
            let step = match rng.random_range(0..16) {
                0..=3 => Step::Pause,
                4..=7 => Step::Resume,
                8 | 9 => Step::Mute(kind),
                10..=12 => Step::Unmute(kind),
                13 => Step::Vanish,
                _ => Step::Come,
            };
            steps.push((pause(&mut rng), step));
        }
        let end = match rng.random_range(0..10) {
            0..=3 => Step::Stop,
            4 => Step::Leave,
            5 => Step::Shutdown,
            6 | 7 => Step::Kill,
            _ => Step::Delete,
        };
        steps.push((pause(&mut rng), end));
        if end == Step::Leave {
            // it may not have been the one who is recorded
            steps.push((Duration::from_secs(30), Step::Stop));
        }
        let (loss, burst) = (rng.random_range(0.0..0.03), rng.random_range(0.0..0.01));
        let jitter = rng.random_range(0..=40);
        let mut ppm = || rng.random_range(-200.0..=200.0);
        let skew = Skew {
            camera: ppm(),
            microphone: ppm(),
            wall: ppm(),
        };
        Self {
            seed,
            steps,
            skew,
            road: road(&mut rng, loss, burst, jitter),
            apart: Duration::from_millis(rng.random_range(33..=100)),
        }
    }

    /// A publisher that is gone when hardly anything has come of it, and comes back seconds later.
    pub(super) fn brief(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let gone = Duration::from_millis(rng.random_range(20..250));
        let back = Duration::from_millis(rng.random_range(200..4_500));
        Self {
            steps: vec![
                (gone, Step::Vanish),
                (back, Step::Come),
                (Duration::from_secs(5), Step::Stop),
            ],
            ..Self::draw(seed)
        }
    }

    /// An hour of media with 20 pauses, on a bad road, of a publisher whose clocks run apart.
    pub(super) fn hour(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut steps = Vec::new();
        for _ in 0..20 {
            steps.push((
                Duration::from_millis(rng.random_range(160_000..180_000)),
                Step::Pause,
            ));
            steps.push((
                Duration::from_millis(rng.random_range(1_000..50_000)),
                Step::Resume,
            ));
        }
        steps.push((Duration::from_secs(200), Step::Stop));
        Self {
            seed,
            steps,
            road: road(&mut rng, 0.05, 0.02, 60),
            skew: Skew {
                camera: 200.0,
                microphone: -200.0,
                wall: 0.0,
            },
            apart: Duration::from_millis(40),
        }
    }

    /// Walks it with a recording of that name, up to its last step.
    pub(super) async fn walk(&self, engine: &Engine, name: &RecordingId, pictures: &Arc<Pictures>) -> Walk {
        let recording = engine.create(name.clone()).expect("a recording");
        let mut walker = Walker {
            course: self,
            epoch: Instant::now(),
            config: Arc::new(engine.config().ingest.clone()),
            pictures: pictures.clone(),
            recording,
            publishers: Vec::new(),
            tasks: JoinSet::new(),
            asked: JoinSet::new(),
            walk: Walk::default(),
        };
        let states = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(watch(walker.recording.clone(), walker.epoch, states.clone()));
        walker.come();
        for (wait, step) in &self.steps {
            tokio::time::sleep(*wait).await;
            match step {
                Step::Shutdown => engine.shutdown().await,
                step => walker.take(*step).await,
            }
        }
        let mut walk = walker.end().await;
        walk.states = states.lock().unwrap_or_else(PoisonError::into_inner).clone();
        walk
    }
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offered = self.sessions.iter().map(|(at, units)| (*at, units.len()));
        let offered: Vec<_> = offered.collect();
        write!(
            f,
            "done {:?}\n  states {:?}\n  sessions {offered:?}\n  refused {:?}",
            self.steps, self.states, self.refusals
        )
    }
}

/// Whoever walks a course.
struct Walker<'a> {
    course: &'a Course,
    epoch: Instant,
    config: Arc<crate::IngestConfig>,
    pictures: Arc<Pictures>,
    recording: Recording,
    publishers: Vec<(Duration, Arc<Publisher>)>,
    /// The publishers' tasks.
    tasks: JoinSet<()>,
    /// What was asked for and is not answered yet.
    asked: JoinSet<Result<(), (Step, EngineError)>>,
    walk: Walk,
}

impl Walker<'_> {
    async fn take(&mut self, step: Step) {
        self.walk.ended = self.epoch.elapsed();
        self.walk.steps.push((self.walk.ended, step));
        let recording = self.recording.clone();
        let newest = self.publishers.last().map(|(_, publisher)| publisher.clone());
        match step {
            Step::Pause => {
                self.asked
                    .spawn(async move { recording.pause().await.map_err(|why| (step, why)) });
            }
            Step::Resume => {
                self.asked
                    .spawn(async move { recording.resume().await.map_err(|why| (step, why)) });
            }
            Step::Mute(kind) => newest.into_iter().for_each(|it| it.mute(kind, true)),
            Step::Unmute(kind) => newest.into_iter().for_each(|it| it.mute(kind, false)),
            Step::Vanish => newest.into_iter().for_each(|it| it.vanish()),
            Step::Come => self.come(),
            Step::Leave => newest.into_iter().for_each(|it| it.leave()),
            Step::Stop => self.note(step, recording.stop().await),
            Step::Delete => {
                let deleted = recording.delete().await;
                self.walk.deleted = deleted.is_ok();
                self.note(step, deleted);
            }
            Step::Kill => {
                self.walk.killed = true;
                self.walk.ended = self.walk.ended.saturating_sub(UNLISTED);
            }
            Step::Shutdown => {}
        }
    }

    /// Offers a session, which is refused where the recording has ended.
    fn come(&mut self) {
        let Ok(session) = u8::try_from(self.publishers.len()) else {
            return;
        };
        let (now, course) = (Instant::now(), self.course);
        let sender = Sender::new(
            session,
            self.pictures.clone(),
            course.apart,
            course.skew,
            self.epoch.into_std(),
            now.into_std(),
        );
        let (publisher, source) = Publisher::new(format!("session-{session}"), sender, &self.config);
        let take = Take {
            session: source,
            began: now,
        };
        let begun = live::check_room(&self.recording.0).and_then(|()| live::begin(&self.recording.0, take));
        match begun {
            Ok(()) => {
                let road = course.road.map(|link| LinkConfig {
                    seed: link.seed ^ u64::from(session),
                    ..link
                });
                self.tasks.spawn(publisher.clone().run(road));
                self.publishers.push((self.epoch.elapsed(), publisher));
            }
            Err(why) => self.note(Step::Come, Err(why)),
        }
    }

    fn note(&mut self, step: Step, outcome: Result<(), EngineError>) {
        if let Err(why) = outcome {
            self.walk.refusals.push(format!("{step:?}: {why}"));
        }
    }

    /// Waits for all answers, and for the recording's end where there is one.
    async fn end(mut self) -> Walk {
        if !self.walk.killed {
            while let Some(answer) = self.asked.join_next().await {
                if let Err((step, why)) = answer.expect("no call panics") {
                    self.note(step, Err(why));
                }
            }
            let mut events = self.recording.events();
            while events.next().await.is_some() {}
        }
        let sessions = self.publishers.iter();
        self.walk.sessions = sessions.map(|(at, publisher)| (*at, publisher.units())).collect();
        self.walk
    }
}

/// Writes down what a recording comes to, and when.
async fn watch(recording: Recording, epoch: Instant, states: Arc<Mutex<Vec<(Duration, RecordingState)>>>) {
    let mut events = recording.events();
    while let Some(event) = events.next().await {
        if let Event::State { state, .. } = event {
            let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
            states.push((epoch.elapsed(), state));
        }
    }
}

/// There and back: loses these shares singly and in bursts, and delays by up to so many milliseconds more than [`DELAY`].
fn road(rng: &mut StdRng, loss: f64, burst: f64, jitter: u64) -> [LinkConfig; 2] {
    let mut link = || LinkConfig {
        seed: rng.random(),
        loss,
        burst: BurstLoss {
            share: burst,
            ..BurstLoss::default()
        },
        duplication: 0.005,
        delay: DELAY,
        jitter: Duration::from_millis(jitter),
        reordering: 0.005,
        ..LinkConfig::default()
    };
    [link(), link()]
}

/// Most steps follow each other within seconds, some at once.
fn pause(rng: &mut StdRng) -> Duration {
    let most = match rng.random_range(0..4) {
        0 => 300,
        1 | 2 => 4_000,
        _ => 9_000,
    };
    Duration::from_millis(rng.random_range(1..most))
}

/// What lies in no part yet when a process is killed: sound may wait for the picture that its segment ends with.
const UNLISTED: Duration = Duration::from_secs(2);

/// How long a datagram is under way at least.
pub(super) const DELAY: Duration = Duration::from_millis(20);
