//! The jobs of one recording and how each stands, as a pure machine: it is told what came of each try, and the time. What it says of itself
//! in text is what survives the process.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{JobDescription, JobKind, JobState, RetryConfig};

/// A recording's jobs, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Queue {
    jobs: Vec<Job>,
    /// What has changed since somebody asked.
    changed: Vec<JobKind>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Job {
    job: JobKind,
    state: JobState,
    /// Tries that were begun since it was last queued.
    tries: u32,
    /// Why the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// There is more to do than there was when the try began.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    again: bool,
    #[serde(skip)]
    progress: f32,
    /// When the next try is.
    #[serde(skip)]
    due: Option<Instant>,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// This job, now: it counts as running.
    Begin(JobKind),
    /// Nothing before this instant.
    At(Instant),
    /// Nothing, until something is told.
    Nothing,
}

impl Queue {
    /// What an earlier process wrote down. Its end was the end of each try that ran: at most as many of these are made as of any other, so that
    /// a job by which the process ends does not end each that follows. `None` for what cannot be read.
    pub(super) fn read(json: &[u8], retry: impl Fn(JobKind) -> RetryConfig) -> Option<Self> {
        let mut jobs: Vec<Job> = serde_json::from_slice(json).ok()?;
        for it in &mut jobs {
            match it.state {
                JobState::Running if it.tries >= retry(it.job).tries => {
                    it.state = JobState::Parked;
                    it.reason = Some("its process ended while it ran, at the last try too".to_owned());
                }
                JobState::Running => {
                    it.state = JobState::Queued;
                    it.reason = Some("its process ended while it ran".to_owned());
                }
                JobState::Waiting => it.state = JobState::Queued,
                JobState::Queued | JobState::Parked | JobState::Done => {}
            }
        }
        Some(Self {
            jobs,
            changed: Vec::new(),
        })
    }

    /// What is written down. `back`: the process ends by somebody's will, which is no try's fault.
    pub(super) fn write(&self, back: bool) -> Vec<u8> {
        let mut jobs = self.jobs.clone();
        for it in jobs.iter_mut().filter(|it| back && it.state == JobState::Running) {
            it.state = JobState::Queued;
            it.tries = it.tries.saturating_sub(1);
        }
        // strings and numbers can always be written
        serde_json::to_vec_pretty(&jobs).unwrap_or_default()
    }

    /// How each stands.
    pub(super) fn describe(&self, now: Instant) -> Vec<JobDescription> {
        self.jobs.iter().map(|it| it.describe(now)).collect()
    }

    /// How one stands; `None` where it is none of its jobs.
    pub(super) fn find(&self, job: JobKind, now: Instant) -> Option<JobDescription> {
        let found = self.jobs.iter().find(|it| it.job == job);
        found.map(|it| it.describe(now))
    }

    /// Whether something that the recording's end waits for is to be done yet.
    pub(super) fn holds_up(&self) -> bool {
        self.jobs.iter().any(|it| it.job.holds_up() && it.is_open())
    }

    /// Whether something is to be done yet.
    pub(super) fn is_open(&self) -> bool {
        self.jobs.iter().any(Job::is_open)
    }

    /// Whether a job waits for its turn or its next try.
    pub(super) fn is_waiting(&self) -> bool {
        let waits = |it: &Job| matches!(it.state, JobState::Queued | JobState::Waiting);
        self.jobs.iter().any(waits)
    }

    /// There is this to be done: one that is done is done again, one that runs is once more behind it; one that is parked stays so.
    pub(super) fn add(&mut self, job: JobKind) {
        let Some(it) = self.jobs.iter_mut().find(|it| it.job == job) else {
            self.jobs.push(Job::new(job));
            return self.changed.push(job);
        };
        match it.state {
            JobState::Done => *it = Job::new(job),
            JobState::Running if !it.again => it.again = true,
            _ => return,
        }
        self.changed.push(job);
    }

    /// One that waits or is parked begins anew, at once.
    pub(super) fn restart(&mut self, job: JobKind) {
        let resting = |it: &&mut Job| matches!(it.state, JobState::Waiting | JobState::Parked);
        if let Some(it) = self.jobs.iter_mut().find(|it| it.job == job).filter(resting) {
            *it = Job::new(job);
            self.changed.push(job);
        }
    }

    /// Forgets jobs; what comes of a try of theirs is of no use.
    pub(super) fn give_up(&mut self, unwanted: impl Fn(JobKind) -> bool) {
        let gone = |it: &Job| unwanted(it.job) && it.state != JobState::Done;
        self.changed
            .extend(self.jobs.iter().filter(|it| gone(it)).map(|it| it.job));
        self.jobs.retain(|it| !gone(it));
    }

    /// A try is so far, 0.0 to 1.0.
    pub(super) fn handle_progress(&mut self, job: JobKind, fraction: f32) {
        if let Some(it) = self.running(job) {
            it.progress = fraction.clamp(0.0, 1.0);
        }
    }

    /// A try has done it.
    pub(super) fn handle_done(&mut self, job: JobKind) {
        let Some(it) = self.running(job) else { return };
        *it = match it.again {
            true => Job::new(job),
            false => Job {
                state: JobState::Done,
                progress: 1.0,
                tries: it.tries,
                ..Job::new(job)
            },
        };
        self.changed.push(job);
    }

    /// A try has failed. `seed` decides how much longer the pause is.
    pub(super) fn handle_failed(
        &mut self,
        job: JobKind,
        why: String,
        now: Instant,
        retry: &RetryConfig,
        seed: u64,
    ) {
        let Some(it) = self.running(job) else { return };
        it.reason = Some(why);
        match retry.pause(it.tries, seed) {
            Some(pause) => (it.state, it.due) = (JobState::Waiting, Some(now + pause)),
            None => it.state = JobState::Parked,
        }
        self.changed.push(job);
    }

    /// What is to be done next. `last`: the engine has ended, and only what holds a recording up is begun, once.
    pub(super) fn poll(&mut self, now: Instant, last: bool) -> Next {
        let ready = |it: &&mut Job| match it.state {
            JobState::Queued => !last || it.job.holds_up(),
            JobState::Waiting => !last && it.due.is_none_or(|due| due <= now),
            _ => false,
        };
        if let Some(it) = self.jobs.iter_mut().find(ready) {
            (it.state, it.due, it.again, it.progress) = (JobState::Running, None, false, 0.0);
            it.tries += 1;
            self.changed.push(it.job);
            return Next::Begin(it.job);
        }
        let waiting = self
            .jobs
            .iter()
            .filter(|it| it.state == JobState::Waiting && !last);
        waiting
            .filter_map(|it| it.due)
            .min()
            .map_or(Next::Nothing, Next::At)
    }

    /// What has changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> Vec<JobKind> {
        std::mem::take(&mut self.changed)
    }

    fn running(&mut self, job: JobKind) -> Option<&mut Job> {
        self.jobs
            .iter_mut()
            .find(|it| it.job == job && it.state == JobState::Running)
    }
}

impl Job {
    fn new(job: JobKind) -> Self {
        Self {
            job,
            state: JobState::Queued,
            tries: 0,
            reason: None,
            again: false,
            progress: 0.0,
            due: None,
        }
    }

    fn is_open(&self) -> bool {
        matches!(
            self.state,
            JobState::Queued | JobState::Running | JobState::Waiting
        )
    }

    fn describe(&self, now: Instant) -> JobDescription {
        let progress = if self.state == JobState::Done {
            1.0
        } else {
            self.progress
        };
        JobDescription {
            job: self.job,
            state: self.state,
            progress,
            tries: self.tries,
            reason: self.reason.clone(),
            next_try: self
                .due
                .map(|due| due.saturating_duration_since(now).as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const RETRY: RetryConfig = RetryConfig {
        tries: 3,
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_secs(60),
    };

    fn one(queue: &Queue, now: Instant) -> JobDescription {
        queue.find(JobKind::Transcript, now).expect("it is there")
    }

    #[test]
    fn a_job_that_fails_twice_is_tried_later_each_time_and_then_done() {
        let mut now = Instant::now();
        let mut queue = Queue::default();
        queue.add(JobKind::Transcript);
        for (tries, least) in [(1, 1), (2, 2)] {
            assert_eq!(queue.poll(now, false), Next::Begin(JobKind::Transcript));
            queue.handle_progress(JobKind::Transcript, 0.5);
            assert_eq!((one(&queue, now).progress, one(&queue, now).tries), (0.5, tries));
            queue.handle_failed(JobKind::Transcript, "the disk is full".to_owned(), now, &RETRY, 7);
            let Next::At(due) = queue.poll(now, false) else {
                panic!("it is tried again: {queue:?}");
            };
            let pause = due - now;
            assert!(
                pause >= Duration::from_secs(least) && pause <= Duration::from_secs(2 * least),
                "{pause:?}"
            );
            let told = one(&queue, now);
            assert_eq!(
                (told.state, told.reason.as_deref()),
                (JobState::Waiting, Some("the disk is full"))
            );
            now = due;
        }
        assert_eq!(queue.poll(now, false), Next::Begin(JobKind::Transcript));
        assert!(queue.holds_up());
        queue.handle_done(JobKind::Transcript);
        let told = one(&queue, now);
        assert_eq!(
            (told.state, told.progress, told.tries, told.reason),
            (JobState::Done, 1.0, 3, None)
        );
        assert!(!queue.holds_up());
        assert_eq!(queue.poll(now, false), Next::Nothing);
    }

    #[test]
    fn a_job_is_parked_after_its_last_try_and_begins_anew_when_somebody_asks() {
        let mut now = Instant::now();
        let mut queue = Queue::default();
        queue.add(JobKind::Upload);
        for _ in 0..3 {
            assert_eq!(queue.poll(now, false), Next::Begin(JobKind::Upload));
            queue.handle_failed(JobKind::Upload, "nobody answers".to_owned(), now, &RETRY, 1);
            now += Duration::from_secs(200);
        }
        let told = queue.find(JobKind::Upload, now).expect("it is there");
        assert_eq!((told.state, told.tries), (JobState::Parked, 3));
        queue.add(JobKind::Upload);
        assert_eq!(
            queue.poll(now, false),
            Next::Nothing,
            "only who asks for it begins it anew"
        );
        // as it is found by the next process
        let mut queue = Queue::read(&queue.write(false), |_| RETRY).expect("it can be read");
        assert_eq!(queue.describe(now), [told]);
        queue.restart(JobKind::Upload);
        queue.restart(JobKind::Upload);
        assert_eq!(queue.poll(now, false), Next::Begin(JobKind::Upload));
        queue.restart(JobKind::Upload);
        assert_eq!(queue.poll(now, false), Next::Nothing, "it runs already");
    }

    #[test]
    fn what_is_added_while_a_job_runs_is_done_behind_it() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.add(JobKind::Upload);
        assert_eq!(queue.poll(now, false), Next::Begin(JobKind::Upload));
        queue.add(JobKind::Upload);
        queue.add(JobKind::Upload);
        assert_eq!(queue.poll(now, false), Next::Nothing);
        queue.handle_done(JobKind::Upload);
        assert_eq!(queue.poll(now, false), Next::Begin(JobKind::Upload));
        queue.handle_done(JobKind::Upload);
        assert_eq!(queue.poll(now, false), Next::Nothing);
    }

    #[test]
    fn a_job_that_ends_its_process_each_time_is_parked_and_a_stop_of_the_process_is_no_try() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.add(JobKind::Transcript);
        for life in 1..=5 {
            assert_eq!(
                queue.poll(now, false),
                Next::Begin(JobKind::Transcript),
                "life {life}"
            );
            queue = Queue::read(&queue.write(true), |_| RETRY).expect("it can be read");
        }
        for _ in 0..3 {
            assert_eq!(queue.poll(now, false), Next::Begin(JobKind::Transcript));
            queue = Queue::read(&queue.write(false), |_| RETRY).expect("it can be read");
        }
        assert_eq!(queue.poll(now, false), Next::Nothing);
        assert_eq!(one(&queue, now).state, JobState::Parked);
        assert!(one(&queue, now).reason.is_some_and(|why| why.contains("ended")));
    }

    #[test]
    fn an_engine_that_has_ended_begins_only_what_holds_a_recording_up() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for job in [JobKind::Upload, JobKind::Transcript, JobKind::Chapters] {
            queue.add(job);
        }
        assert_eq!(queue.poll(now, true), Next::Begin(JobKind::Transcript));
        queue.handle_failed(JobKind::Transcript, "no".to_owned(), now, &RETRY, 1);
        assert_eq!(queue.poll(now, true), Next::Begin(JobKind::Chapters));
        assert_eq!(queue.poll(now + Duration::from_secs(60), true), Next::Nothing);
    }

    /// Random courses: failures, ends of the process, restarts, more to do. Each job that is added ends done or parked, and is done as often
    /// as somebody was told so.
    #[test]
    fn whatever_happens_no_job_is_lost_and_none_runs_twice_at_once() {
        for seed in 0..2_000 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut now = Instant::now();
            let mut queue = Queue::default();
            let mut wanted: Vec<JobKind> = Vec::new();
            let mut running: Vec<JobKind> = Vec::new();
            for _ in 0..60 {
                match rng.random_range(0..8) {
                    0 => {
                        let job = JobKind::ALL[rng.random_range(0..JobKind::ALL.len())];
                        queue.add(job);
                        wanted.push(job);
                    }
                    1 => queue.restart(JobKind::ALL[rng.random_range(0..JobKind::ALL.len())]),
                    2 if !running.is_empty() => {
                        let job = running.swap_remove(rng.random_range(0..running.len()));
                        queue.handle_done(job);
                    }
                    3 if !running.is_empty() => {
                        let job = running.swap_remove(rng.random_range(0..running.len()));
                        queue.handle_failed(job, "no".to_owned(), now, &RETRY, rng.random());
                    }
                    4 => {
                        queue = Queue::read(&queue.write(rng.random()), |_| RETRY).expect("it can be read");
                        running.clear();
                    }
                    _ => match queue.poll(now, false) {
                        Next::Begin(job) => {
                            assert!(!running.contains(&job), "seed {seed}: {job} runs twice");
                            running.push(job);
                        }
                        Next::At(due) => now = due,
                        Next::Nothing => {}
                    },
                }
            }
            for job in &running {
                queue.handle_done(*job);
            }
            for _ in 0..100 {
                match queue.poll(now, false) {
                    Next::Begin(job) => queue.handle_done(job),
                    Next::At(due) => now = due,
                    Next::Nothing => break,
                }
            }
            for job in wanted {
                let told = queue
                    .find(job, now)
                    .unwrap_or_else(|| panic!("seed {seed}: {job} is lost"));
                let over = matches!(told.state, JobState::Done | JobState::Parked);
                assert!(over, "seed {seed}: {told:?}");
            }
        }
    }
}
