//! Looks over what was said while it is said, on a thread of its own: a moderator that asks somebody else may take its time, and captions
//! do not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use loom_ai::Moderator;
use loom_core::{Cue, CueState};

use crate::event::{Event, FindingDescription};
use crate::recording::Inner;

/// Final cues that wait for a moderator. Where it is further behind, the newest goes by unseen.
const QUEUE: usize = 64;

/// The way to a recording's moderator. Dropping it lets that end once it has seen what waits.
#[derive(Debug)]
pub(crate) struct Moderation {
    cues: SyncSender<Cue>,
}

impl Moderation {
    /// `None` where there is no moderator, or no thread for one.
    pub(crate) fn start(recording: &Arc<Inner>) -> Option<Self> {
        let moderator = recording.shared.config.captions.moderator.clone()?;
        let (cues, waiting) = sync_channel(QUEUE);
        let recording = recording.clone();
        thread::Builder::new()
            .name("loom-moderate".to_owned())
            .spawn(move || moderate(&recording, &*moderator, &waiting))
            .inspect_err(|why| tracing::error!(error = %why, "no thread for a moderator"))
            .ok()?;
        Some(Self { cues })
    }

    /// Never blocks. What may still change is not looked at.
    pub(crate) fn handle_cue(&self, cue: &Cue) {
        if cue.state == CueState::Final
            && let Err(TrySendError::Full(_)) = self.cues.try_send(cue.clone())
        {
            metrics::counter!("loom_cues_unmoderated_total").increment(1);
        }
    }
}

fn moderate(recording: &Inner, moderator: &dyn Moderator, cues: &Receiver<Cue>) {
    while let Ok(cue) = cues.recv() {
        match catch_unwind(AssertUnwindSafe(|| moderator.judge(&cue))) {
            Ok(Ok(found)) if found.is_empty() => {}
            Ok(Ok(found)) => recording.events.tell(Event::Findings {
                findings: found.into_iter().map(FindingDescription::from).collect(),
            }),
            Ok(Err(why)) => {
                tracing::warn!(recording = %recording.id, at = %cue.start, error = %why, "a caption was not judged");
            }
            Err(_) => {
                tracing::error!(recording = %recording.id, at = %cue.start, "the moderator panicked; no more captions are judged");
                return;
            }
        }
    }
}
