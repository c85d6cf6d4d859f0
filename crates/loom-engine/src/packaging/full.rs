//! A disk that takes nothing more, or fails: what is given up then, and how the recording goes on.

use std::io;
use std::time::Duration;

use loom_core::{MediaKind, MediaTime, Packet, RenditionId};
use loom_hls::{HlsError, Packager};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Work, Worker, contained};
use crate::error::EngineError;
use crate::event::Event;

impl Worker {
    /// Waits until what could not be written is. The smaller renditions are given up at once, so that the source needs less; after
    /// [`HELD`] what comes is lost, and a gap says so once there is room again.
    pub(super) async fn recover(&mut self, queue: &mut mpsc::Receiver<Work>) -> Result<(), String> {
        let Some(why) = self.trouble.take() else {
            return Ok(());
        };
        let began = Instant::now();
        let patience = match is_full(&why) {
            true => Duration::MAX,
            false => BROKEN,
        };
        tracing::error!(recording = %self.recording.id, %why, "what is recorded cannot be written: it is tried again");
        contained(|| self.shed(&why.to_string()))?;
        while self.unwritten.is_some() {
            tokio::time::sleep(AGAIN).await;
            contained(|| self.store())?;
            if began.elapsed() > patience
                || (queue.is_closed() && queue.is_empty() && self.deferred.is_empty())
            {
                return Err(why.to_string());
            }
            if self.unwritten.is_some() && began.elapsed() > HELD {
                self.lost = true;
                while let Ok(work) = queue.try_recv() {
                    match work {
                        Work::Packet(..)
                        | Work::Still(..)
                        | Work::Pcm(_)
                        | Work::Cue(_)
                        | Work::Heard(_)
                        | Work::Poster(_) => {}
                        other => self.deferred.push_back(other),
                    }
                }
            }
        }
        self.trouble = None;
        tracing::info!(recording = %self.recording.id, after = ?began.elapsed(), "there is room again");
        Ok(())
    }

    /// Gives the smaller renditions of the main picture up, for good.
    fn shed(&mut self, why: &str) -> Result<(), EngineError> {
        let info = self.recording.info();
        let main = info
            .tracks
            .iter()
            .find(|it| it.kind == MediaKind::Video && !it.renditions.is_empty());
        let rungs: Vec<RenditionId> = main
            .into_iter()
            .flat_map(|it| it.renditions.iter().skip(1).cloned())
            .collect();
        let fresh: Vec<RenditionId> = rungs.into_iter().filter(|it| !self.shed.contains(it)).collect();
        for rung in &fresh {
            let outcome = self.packager.handle_end(rung);
            self.survive(outcome);
            metrics::counter!("loom_rungs_shed_total").increment(1);
        }
        if !fresh.is_empty() {
            self.shed.extend(fresh.iter().cloned());
            self.recording.events.tell(Event::Shed {
                renditions: fresh,
                why: why.to_owned(),
            });
        }
        Ok(())
    }

    /// Whether a packet is to be packaged: not of a rendition that was given up, and after a loss only from the main picture's next
    /// key frame on, where the recording goes on behind a declared gap.
    pub(super) fn takes(&mut self, rendition: &RenditionId, packet: &Packet) -> bool {
        if self.shed.contains(rendition) {
            return false;
        }
        if !self.lost {
            return true;
        }
        let info = self.recording.info();
        let pictures = info.renditions.iter().find(|it| it.kind == MediaKind::Video);
        let lead = pictures.or(info.renditions.first()).map(|it| &it.id);
        if !packet.key || lead != Some(rendition) {
            return false;
        }
        let at = packet.pts;
        match self.go_on(at) {
            Ok((from, to)) => self.recording.declare_gap(from, to),
            Err(why) => self.survive(Err(why)),
        }
        true
    }

    fn go_on(&mut self, at: MediaTime) -> Result<(MediaTime, MediaTime), HlsError> {
        self.lost = false;
        metrics::counter!("loom_media_lost_total").increment(1);
        let from = self.persevere(Packager::handle_absence)?;
        Ok((from, self.persevere(|packager| packager.handle_return(at))?))
    }
}

/// Whether a disk may take it later.
pub(super) fn may_pass(why: &EngineError) -> bool {
    is_full(why)
        || matches!(why, EngineError::Io { source, .. } if source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()))
}

fn is_full(why: &EngineError) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(why, EngineError::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
}

/// How often it is tried.
const AGAIN: Duration = Duration::from_millis(100);

/// How long what comes is held back meanwhile; the queue holds more.
const HELD: Duration = Duration::from_secs(1);

/// How long a disk that fails, rather than being full, is tried.
const BROKEN: Duration = Duration::from_secs(10);
