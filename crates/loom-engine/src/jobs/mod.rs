//! What is done for a recording once it has ended: from a queue that lies in its folder, at least once, tried again where it fails, and gone
//! on with by the next process. Each job may be done again at any time, and does nothing twice that counts.

mod queue;
mod run;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::EngineError;
use crate::event::Event;
use crate::folder::Folder;
use crate::recording::Inner;

use queue::Queue;
pub(crate) use run::start;

/// Something that is done for a recording once it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobKind {
    /// The last chapter gets its end, and playlists name the chapters.
    Chapters,
    /// The final transcript is made of the whole sound, and replaces the live captions. What it is made of is kept while it is parked.
    Transcript,
    /// A language model ([`EngineConfig::text_model`](crate::EngineConfig::text_model)) writes title, summary and action items of the transcript.
    Brief,
    /// All that the store does not have yet is sent there.
    Upload,
    /// Screen and camera are made into one picture ([`Recording::lay_out`](crate::Recording::lay_out)), once somebody asks.
    Composition,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum JobState {
    /// It is begun as soon as there is a place.
    Queued,
    /// It is being done.
    Running,
    /// A try has failed; the next comes.
    Waiting,
    /// The last try has failed: nothing more is done before somebody restarts it.
    Parked,
    /// It is done.
    Done,
}

/// A job as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobDescription {
    /// Which.
    pub job: JobKind,
    /// How it stands.
    pub state: JobState,
    /// How far the try is that runs, 0.0 ..= 1.0.
    pub progress: f32,
    /// Tries that were begun since it was queued or restarted.
    pub tries: u32,
    /// Why the last try failed. Without the names of files and stores: the log has those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Seconds until the next try, where it waits for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try: Option<f64>,
}

/// How often a job is tried, and how long the pauses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryConfig {
    /// How often at most; at least once.
    pub tries: u32,
    /// The pause behind the first try that fails; each later one is twice as long. Each is made longer by up to itself, at random.
    pub first_pause: Duration,
    /// No pause is longer, but for the random part.
    pub longest_pause: Duration,
}

impl Default for RetryConfig {
    /// Eight tries, within two to four minutes.
    fn default() -> Self {
        Self {
            tries: 8,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
        }
    }
}

impl RetryConfig {
    /// The pause behind so many failed tries; `None` where that was the last.
    pub(crate) fn pause(&self, failed: u32, seed: u64) -> Option<Duration> {
        if failed >= self.tries {
            return None;
        }
        let pauses = ExponentialBuilder::new()
            .with_min_delay(self.first_pause)
            .with_max_delay(self.longest_pause)
            .without_max_times()
            .with_jitter()
            .with_jitter_seed(seed);
        // by the 32nd double any pause is the longest
        pauses.build().nth(failed.saturating_sub(1).min(32) as usize)
    }
}

impl JobKind {
    /// All there are.
    pub const ALL: [Self; 5] = [
        Self::Chapters,
        Self::Transcript,
        Self::Brief,
        Self::Upload,
        Self::Composition,
    ];

    /// Its name, which [`FromStr`] reads.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chapters => "chapters",
            Self::Transcript => "transcript",
            Self::Brief => "brief",
            Self::Upload => "upload",
            Self::Composition => "composition",
        }
    }

    /// Whether a recording is `processing` until it is done or parked.
    pub(crate) fn holds_up(self) -> bool {
        matches!(self, Self::Chapters | Self::Transcript)
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|job| job.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no job: chapters, transcript, brief, upload or composition"))
    }
}

/// The jobs of a recording, in memory and in its folder.
#[derive(Debug)]
pub(crate) struct Jobs {
    shelf: Mutex<Shelf>,
    /// Counts what changes.
    steps: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Shelf {
    /// Read from the folder when it is first asked for.
    queue: Option<Queue>,
    /// Somebody does them.
    runs: bool,
    /// The recording was deleted: nothing is done any more.
    closed: bool,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            shelf: Mutex::default(),
            steps: watch::Sender::new(0),
        }
    }
}

impl Jobs {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // No code that holds the lock leaves a job half changed.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bump(&self) {
        self.steps.send_modify(|steps| *steps += 1);
    }
}

impl Shelf {
    fn queue(&mut self, recording: &Inner) -> &mut Queue {
        self.queue.get_or_insert_with(|| {
            let retry = |job| retry_of(recording, job);
            let read = recording.folder.read(FILE, 0, None);
            let known = read.ok().flatten().and_then(|json| Queue::read(&json, retry));
            known.unwrap_or_default()
        })
    }
}

/// How each job stands.
pub(crate) fn describe(recording: &Inner) -> Vec<JobDescription> {
    let mut shelf = recording.jobs.shelf();
    shelf.queue(recording).describe(Instant::now())
}

/// Writes down what is to be done from here on. That there is such a file says that all media is in.
pub(crate) fn begin(recording: &Inner, jobs: &[JobKind]) {
    change(recording, |queue| jobs.iter().for_each(|job| queue.add(*job)));
    let mut shelf = recording.jobs.shelf();
    write(recording, shelf.queue(recording), false);
}

/// Whether [`begin`] was called for the recording in this folder.
pub(crate) fn is_begun(folder: &Folder) -> bool {
    folder.path(FILE).is_file()
}

/// Whether there are jobs in this folder that are to be done yet.
pub(crate) fn is_open(folder: &Folder) -> bool {
    let json = folder.read(FILE, 0, None).ok().flatten();
    let queue = json.and_then(|json| Queue::read(&json, |_| RetryConfig::default()));
    queue.is_some_and(|queue| queue.is_open())
}

/// There is this to be done.
pub(crate) fn add(recording: &Arc<Inner>, job: JobKind) {
    change(recording, |queue| queue.add(job));
    start(recording);
}

/// Begins one anew that waits or is parked.
pub(crate) fn restart(recording: &Arc<Inner>, job: JobKind) -> Result<JobDescription, EngineError> {
    let told = change(recording, |queue| {
        queue.restart(job);
        queue.find(job, Instant::now())
    });
    start(recording);
    told.ok_or_else(|| EngineError::NoSuchJob {
        recording: recording.id.clone(),
        job,
    })
}

/// Forgets jobs of which nothing would be of use any more.
pub(crate) fn give_up(recording: &Inner, unwanted: impl Fn(JobKind) -> bool) {
    change(recording, |queue| queue.give_up(unwanted));
}

/// The recording is deleted: what is being done is broken off.
pub(crate) fn close(recording: &Inner) {
    recording.jobs.shelf().closed = true;
    recording.jobs.bump();
}

/// The process is about to end by somebody's will: what runs is begun anew by the next one, and no try the poorer.
pub(crate) fn hand_back(recording: &Inner) {
    let mut shelf = recording.jobs.shelf();
    if shelf.queue(recording).is_open() {
        write(recording, shelf.queue(recording), true);
    }
}

/// A try is so far.
pub(crate) fn progress(recording: &Inner, job: JobKind, fraction: f32) {
    let mut shelf = recording.jobs.shelf();
    shelf.queue(recording).handle_progress(job, fraction);
}

/// Whether a job has failed for the last time.
pub(crate) fn is_parked(recording: &Inner, job: JobKind) -> bool {
    let mut shelf = recording.jobs.shelf();
    let told = shelf.queue(recording).find(job, Instant::now());
    told.is_some_and(|told| told.state == JobState::Parked)
}

/// Waits until nothing holds the recording up any more; `false` where that is left to the next engine.
pub(crate) async fn settled(recording: &Inner) -> bool {
    let mut steps = recording.jobs.steps.subscribe();
    loop {
        {
            let mut shelf = recording.jobs.shelf();
            if !shelf.queue(recording).holds_up() {
                return true;
            }
            if shelf.closed || !shelf.runs {
                return false;
            }
        }
        if steps.changed().await.is_err() {
            return false;
        }
    }
}

/// Waits until a job is not about to be tried, nor being tried.
pub(crate) async fn tried(recording: &Inner, job: JobKind) {
    let mut steps = recording.jobs.steps.subscribe();
    loop {
        {
            let mut shelf = recording.jobs.shelf();
            let told = shelf.queue(recording).find(job, Instant::now());
            let now = told.filter(|told| matches!(told.state, JobState::Queued | JobState::Running));
            if now.is_none() || shelf.closed || !shelf.runs {
                return;
            }
        }
        if steps.changed().await.is_err() {
            return;
        }
    }
}

/// Changes the queue; what has changed is written down, and everybody told.
fn change<T>(recording: &Inner, act: impl FnOnce(&mut Queue) -> T) -> T {
    let mut shelf = recording.jobs.shelf();
    let queue = shelf.queue(recording);
    let done = act(queue);
    let changed = queue.take_changed();
    if changed.is_empty() {
        return done;
    }
    let now = Instant::now();
    let told: Vec<_> = changed
        .into_iter()
        .filter_map(|job| queue.find(job, now))
        .collect();
    write(recording, queue, false);
    // under the lock, so that nobody is told of a later one first
    for job in told {
        recording.events.tell(Event::Job(job));
    }
    drop(shelf);
    recording.jobs.bump();
    done
}

/// What cannot be written now is written with the next change.
fn write(recording: &Inner, queue: &Queue, back: bool) {
    if let Err(why) = recording.folder.put(FILE, &queue.write(back)) {
        tracing::warn!(recording = %recording.id, error = %why, "how its jobs stand is not written down");
    }
    recording.shared.sync.touch();
}

fn retry_of(recording: &Inner, job: JobKind) -> RetryConfig {
    match (job, &recording.shared.stores) {
        (JobKind::Upload, Some(stores)) => stores.retry,
        _ => recording.shared.config.retry,
    }
}

/// The queue, in the recording's folder: in a folder of its own, so that what changes in it makes nothing else look changed.
const FILE: &str = "jobs/queue.json";
