//! A task that is done by a process, or by a second one where the first has died.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use loom_core::RenditionId;

use super::message::{Said, Task};
use super::process::{Process, Silence};
use crate::apart_config::ApartConfig;
use crate::backend::Output;
use crate::error::TranscodeError;
use crate::gst::lock;

/// How often a task is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tries {
    One,
    Two,
}

/// The task. Dropping it ends its process.
pub(super) struct Work {
    config: Arc<ApartConfig>,
    task: Arc<Task>,
    /// `None` once it has done the task.
    process: Option<Process>,
    idle: Idle,
    tries: Tries,
    /// How much was heard in each lane: in each, both processes say the same in the same order.
    heard: HashMap<Lane, u64>,
    /// How much of what the second process says the first has said.
    known: HashMap<Lane, u64>,
}

/// Processes that have done a task and wait for another of the same file.
pub(super) type Idle = Arc<Mutex<Vec<Process>>>;

/// What has an order of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Lane {
    Chunks,
    Rendition(RenditionId),
    Pcm,
    Poster,
    Thumbnails,
}

impl Work {
    pub(super) fn begin(config: Arc<ApartConfig>, task: Task, tries: Tries, idle: Idle) -> Self {
        let task = Arc::new(task);
        let waiting = lock(&idle).pop();
        let process = match waiting {
            Some(mut process) => {
                process.give(task.clone());
                process
            }
            None => Process::start(config.clone(), task.clone()),
        };
        Self {
            process: Some(process),
            idle,
            config,
            task,
            tries,
            heard: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// Waits until its run has started. Cancellation safe.
    pub(super) async fn started(&mut self) -> Result<(), TranscodeError> {
        match self.hear().await? {
            Said::Alive => Ok(()),
            other => Err(self.unexpected(Some(&other))),
        }
    }

    /// The next that comes of it; `None` once all has. Cancellation safe.
    pub(super) async fn next(&mut self) -> Result<Option<Said>, TranscodeError> {
        loop {
            let said = match self.hear().await? {
                Said::Alive => continue,
                Said::Done => {
                    let process = self.process.take();
                    lock(&self.idle).extend(process);
                    return Ok(None);
                }
                said => said,
            };
            if let Some(lane) = Lane::of(&said) {
                if let Some(known) = self.known.get_mut(&lane)
                    && *known > 0
                {
                    *known -= 1;
                    continue;
                }
                *self.heard.entry(lane).or_default() += 1;
            }
            return Ok(Some(said));
        }
    }

    /// What there is to say where something was said that is no answer.
    pub(super) fn unexpected(&self, said: Option<&Said>) -> TranscodeError {
        let what = match said {
            Some(_) => "said what was not asked for",
            None => "ended without an answer",
        };
        self.failed(what.to_owned())
    }

    async fn hear(&mut self) -> Result<Said, TranscodeError> {
        loop {
            let Some(process) = &mut self.process else {
                return Ok(Said::Done);
            };
            let why = match process.hear(self.config.stall).await {
                Ok(Said::Refused(refusal)) => return Err(refusal.error(&self.task)),
                Ok(said) => return Ok(said),
                Err(Silence::Died(why)) if self.tries == Tries::Two => why,
                Err(Silence::Died(why) | Silence::Ended(why)) => return Err(self.failed(why)),
            };
            tracing::warn!(
                "the process that was to {} {why}: it is tried once more",
                self.task.words()
            );
            self.tries = Tries::One;
            self.known.clone_from(&self.heard);
            self.process = Some(Process::start(self.config.clone(), self.task.clone()));
        }
    }

    fn failed(&self, why: String) -> TranscodeError {
        let task = self.task.words();
        tracing::error!("the process that was to {task} {why}");
        TranscodeError::Apart { task, why }
    }
}

impl Lane {
    /// `None` for what may be said twice.
    fn of(said: &Said) -> Option<Self> {
        match said {
            Said::Source(_) => Some(Self::Chunks),
            Said::Output(output) => match output {
                Output::Format { rendition, .. }
                | Output::Packet { rendition, .. }
                | Output::Failed {
                    rendition: Some(rendition),
                    ..
                } => Some(Self::Rendition(rendition.clone())),
                Output::Pcm(_) => Some(Self::Pcm),
                Output::Poster(_) => Some(Self::Poster),
                Output::Thumbnail(_) => Some(Self::Thumbnails),
                _ => None,
            },
            _ => None,
        }
    }
}
