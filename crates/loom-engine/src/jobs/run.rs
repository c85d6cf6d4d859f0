//! Whoever does a recording's jobs: one task while there is something to do.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument, debug_span};

use super::queue::Next;
use super::{JobKind, change, retry_of};
use crate::arrival::at;
use crate::brief;
#[cfg(feature = "transcode")]
use crate::composition;
use crate::error::EngineError;
use crate::finish;
use crate::recording::Inner;
use crate::store;

/// Has what there is to do done. Returns at once.
pub(crate) fn start(recording: &Arc<Inner>) {
    let mut shelf = recording.jobs.shelf();
    if !shelf.closed && shelf.queue(recording).is_waiting() && !std::mem::replace(&mut shelf.runs, true) {
        recording.shared.runtime.spawn(run(recording.clone()));
    }
}

async fn run(recording: Arc<Inner>) {
    let (mut steps, mut over) = (
        recording.jobs.steps.subscribe(),
        recording.shared.over.subscribe(),
    );
    let mut running: JoinSet<(JobKind, Result<(), EngineError>)> = JoinSet::new();
    loop {
        steps.mark_unchanged();
        let last = *over.borrow_and_update();
        let closed = recording.jobs.shelf().closed;
        let next = match closed {
            true => {
                running.shutdown().await;
                Next::Nothing
            }
            false => change(&recording, |queue| queue.poll(Instant::now(), last)),
        };
        let due = match next {
            Next::Begin(job) => {
                metrics::gauge!("loom_jobs_running", "job" => job.as_str()).increment(1);
                let span = debug_span!(parent: None, "job", recording = %recording.id, %job);
                running.spawn(attempt(recording.clone(), job).instrument(span));
                continue;
            }
            Next::At(due) => Some(due),
            Next::Nothing => None,
        };
        if due.is_none() && running.is_empty() {
            let mut shelf = recording.jobs.shelf();
            // what was added meanwhile is done too, except by an engine that has ended
            if shelf.closed || last || !shelf.queue(&recording).is_waiting() {
                shelf.runs = false;
                drop(shelf);
                return recording.jobs.bump();
            }
            continue;
        }
        tokio::select! {
            Some(done) = running.join_next() => match done {
                Ok((job, outcome)) => tell(&recording, job, outcome),
                // it catches its own panics, and is only broken off where all are
                Err(why) => tracing::error!(recording = %recording.id, %why, "a job ended without a word"),
            },
            () = at(due) => {}
            _ = steps.changed() => {}
            _ = over.changed() => {}
        }
    }
}

/// Does a job, once.
async fn attempt(recording: Arc<Inner>, job: JobKind) -> (JobKind, Result<(), EngineError>) {
    let began = Instant::now();
    let work = async {
        match (job, recording.shared.stores.clone()) {
            (JobKind::Chapters, _) => finish::settle_chapters(&recording).await?,
            (JobKind::Transcript, _) => finish::write_transcript(&recording).await?,
            (JobKind::Brief, _) => brief::write(&recording).await?,
            #[cfg(feature = "transcode")]
            (JobKind::Composition, _) => composition::make(&recording).await?,
            // it was queued by an engine that has codecs
            #[cfg(not(feature = "transcode"))]
            (JobKind::Composition, _) => return Ok(()),
            (JobKind::Upload, Some(stores)) => return store::send_all(&recording, &stores).await,
            // it was queued by an engine that had a store
            (JobKind::Upload, None) => return Ok(()),
        }
        // before it counts as done
        recording.secure().await
    };
    let panicked = |_| EngineError::NotReady("an internal error ended the try; see the log".to_owned());
    let done = AssertUnwindSafe(work).catch_unwind().await;
    metrics::gauge!("loom_jobs_running", "job" => job.as_str()).decrement(1);
    metrics::histogram!("loom_job_seconds", "job" => job.as_str()).record(began.elapsed().as_secs_f64());
    (job, done.unwrap_or_else(|panic| Err(panicked(panic))))
}

fn tell(recording: &Arc<Inner>, job: JobKind, outcome: Result<(), EngineError>) {
    match outcome {
        Ok(()) => {
            metrics::counter!("loom_jobs_done_total", "job" => job.as_str()).increment(1);
            change(recording, |queue| queue.handle_done(job));
            finish::after(recording, job);
        }
        Err(why) => {
            metrics::counter!("loom_job_failures_total", "job" => job.as_str()).increment(1);
            let retry = retry_of(recording, job);
            change(recording, |queue| {
                queue.handle_failed(job, plainly(&why), Instant::now(), &retry, rand::random());
            });
            let parked = super::is_parked(recording, job);
            if parked {
                metrics::counter!("loom_jobs_parked_total", "job" => job.as_str()).increment(1);
            }
            tracing::warn!(recording = %recording.id, %job, parked, error = %why, "a job has failed");
        }
    }
}

/// Why it failed, for whoever may look at the recording: without the names of files, hosts and buckets.
fn plainly(why: &EngineError) -> String {
    match why {
        EngineError::Io { doing, source, .. } => format!("the disk did not {doing} a file: {source}"),
        EngineError::Store(_) => "the store does not take what is sent".to_owned(),
        other => other.to_string(),
    }
}
