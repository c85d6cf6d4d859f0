//! The HTTP side of a recording: the pure origin, the requests that wait for it, and the service that a host mounts.
//!
//! Readers share the origin and never hold the recording's own lock. What the packager publishes costs it one exclusive look at
//! the origin and one wake-up; slow readers hold bytes, which are shared, and nothing else.

mod body;
pub mod range;
mod read_back;
mod rendering;
mod response;
mod service;
#[cfg(test)]
mod tests;
mod waits;

use std::sync::{Arc, PoisonError, RwLock};

use loom_core::RenditionId;
use loom_hls::{Answer, Growth, Origin, Publish, Wait};

pub use body::HlsBody;
pub(crate) use response::collect;
pub use service::HlsService;

use read_back::ReadBack;
use rendering::Renderings;
use waits::{Bell, Waits};

/// The origin of a recording that grows, while it does.
#[derive(Debug, Default)]
pub(crate) struct Live {
    origin: RwLock<Option<Origin>>,
    /// It has ended, but players hold playlists that name its parts, which have no file of their own.
    left: RwLock<Option<Origin>>,
    waits: Waits,
    renderings: Renderings,
    read_back: ReadBack,
}

/// What came of a question.
#[derive(Debug)]
enum Asked<T> {
    Answer(T),
    /// Ask again when the bell has rung.
    Wait(Wait, Arc<Bell>),
    /// Nothing grows: the recording's folder has it all, or the recording has not begun.
    Gone,
}

impl Live {
    /// The recording begins.
    pub(crate) fn begin(&self) {
        *self.origin.write().unwrap_or_else(PoisonError::into_inner) = Some(Origin::new());
    }

    /// The folder answers from here on, and of the parts what has ended, until [`Self::forget`].
    pub(crate) fn end(&self) {
        let ended = self.origin.write().unwrap_or_else(PoisonError::into_inner).take();
        if ended.is_some() {
            *self.left.write().unwrap_or_else(PoisonError::into_inner) = ended;
        }
        for bell in self.waits.settle(|_| true) {
            bell.ring();
        }
    }

    /// No player can have a playlist any more that names parts.
    pub(crate) fn forget(&self) {
        *self.left.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.read_back.forget();
    }

    /// What the folder does not have: a part that was listed until the end.
    fn late(&self, path: &str) -> Answer {
        let left = self.left.read().unwrap_or_else(PoisonError::into_inner);
        match left.as_ref().map(|origin| origin.handle_request(path, None)) {
            Some(answer @ Answer::Ready(_)) => answer,
            _ => Answer::NotFound,
        }
    }

    /// Makes what is on disk now visible, and wakes who waits for it.
    pub(crate) fn publish(&self, publish: Publish) {
        let mut origin = self.origin.write().unwrap_or_else(PoisonError::into_inner);
        let Some(growing) = origin.as_mut() else { return };
        growing.handle_publish(publish);
        let over = self.waits.settle(|wait| growing.is_over(wait));
        drop(origin);
        for bell in over {
            bell.ring();
        }
    }

    /// `first`: the first byte that is asked for.
    fn request(&self, path: &str, query: Option<&str>, first: u64) -> Asked<Answer> {
        self.ask(|origin| match origin.handle_range_request(path, query, first) {
            Answer::WaitFor(wait) => Err(wait),
            answer => Ok(answer),
        })
    }

    fn growth(&self, rendition: &RenditionId, segment: u64, offset: u64) -> Asked<Growth> {
        self.ask(|origin| match origin.growth(rendition, segment, offset) {
            Growth::WaitFor(wait) => Err(wait),
            growth => Ok(growth),
        })
    }

    fn ask<T>(&self, question: impl FnOnce(&Origin) -> Result<T, Wait>) -> Asked<T> {
        let origin = self.origin.read().unwrap_or_else(PoisonError::into_inner);
        match origin.as_ref().map(question) {
            None => Asked::Gone,
            Some(Ok(answer)) => Asked::Answer(answer),
            // while the origin is held, nothing can be published between the question and the bell
            Some(Err(wait)) => {
                let bell = self.waits.join(&wait);
                Asked::Wait(wait, bell)
            }
        }
    }
}
