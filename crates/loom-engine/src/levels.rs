//! How loud each sound is that comes in, for those who ask.

use std::sync::{Mutex, MutexGuard, PoisonError};

use loom_core::{LevelMeter, PcmFrame, TrackId};
use serde::Serialize;
use tokio::time::Instant;

use crate::id::PublisherName;
use crate::source::SourceHandle;

/// How loud a track of sound is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LevelDescription {
    /// The track's name, as in [`TrackDescription`](crate::TrackDescription).
    pub mid: String,
    /// Who brings it, where that is a publisher that has joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<PublisherName>,
    /// The loudest of the last quarter to half second: decibels below the loudest that can be (dBov, RFC 6464 §3), 0 to -127.
    pub level: i8,
}

/// The sound that comes in.
#[derive(Debug, Default)]
pub(crate) struct Levels(Mutex<Sounds>);

#[derive(Debug, Default)]
struct Sounds {
    tracks: Vec<Sound>,
    /// Of the main sound, where it is decoded.
    decoded: LevelMeter,
}

/// A track of sound, and who sends it.
#[derive(Debug)]
pub(crate) struct Sound {
    pub(crate) mid: String,
    pub(crate) publisher: Option<PublisherName>,
    pub(crate) handle: SourceHandle,
    /// The source's own name of it.
    pub(crate) theirs: TrackId,
    pub(crate) is_main: bool,
}

impl Levels {
    /// These are the tracks of sound from here on.
    pub(crate) fn set(&self, tracks: Vec<Sound>) {
        self.lock().tracks = tracks;
    }

    /// The main sound, decoded.
    pub(crate) fn hear(&self, frame: &PcmFrame) {
        let now = Instant::now().into_std();
        self.lock().decoded.handle_samples(&frame.samples, now);
    }

    /// How loud each is of which that is known: its publisher tells (RFC 6464), or it is decoded here.
    pub(crate) fn now(&self) -> Vec<LevelDescription> {
        let now = Instant::now().into_std();
        let sounds = self.lock();
        let told = sounds.tracks.iter().filter_map(|track| {
            let decoded = || track.is_main.then(|| sounds.decoded.level(now)).flatten();
            Some(LevelDescription {
                level: track.handle.level(track.theirs).or_else(decoded)?,
                mid: track.mid.clone(),
                publisher: track.publisher.clone(),
            })
        });
        told.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Sounds> {
        // Each change is made whole under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
