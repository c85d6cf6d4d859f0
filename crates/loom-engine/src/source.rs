//! Where a take's media comes from: a WebRTC publisher's session, or the host itself.

use loom_core::{MediaKind, TrackId};
use loom_ingest::{ReceptionStats, SessionClock, SessionEvent, TrackInfo};
#[cfg(feature = "ingest")]
use loom_ingest::{Session, SessionHandle};

use crate::push::{Pushed, PushedHandle};

#[cfg(all(test, feature = "ingest"))]
pub(crate) mod stepped;

#[cfg(all(test, feature = "ingest"))]
use stepped::{Stepped, SteppedHandle};

/// A source of media. Dropping it closes it.
#[derive(Debug)]
pub(crate) enum Source {
    /// A publisher.
    #[cfg(feature = "ingest")]
    Session(Session),
    /// The host, by a [`Pusher`](crate::Pusher).
    Pushed(Pushed),
    /// A publisher whose session a test steps.
    #[cfg(all(test, feature = "ingest"))]
    Stepped(Stepped),
}

/// Steers a [`Source`]; of no effect once that is over.
#[derive(Debug, Clone)]
pub(crate) enum SourceHandle {
    #[cfg(feature = "ingest")]
    Session(SessionHandle),
    Pushed(PushedHandle),
    #[cfg(all(test, feature = "ingest"))]
    Stepped(SteppedHandle),
}

impl Source {
    /// Its name among the recording's sessions.
    pub(crate) fn id(&self) -> &str {
        match self {
            #[cfg(feature = "ingest")]
            Self::Session(it) => it.id().as_str(),
            Self::Pushed(it) => it.id(),
            #[cfg(all(test, feature = "ingest"))]
            Self::Stepped(it) => it.id(),
        }
    }

    /// What it is to bring.
    pub(crate) fn tracks(&self) -> &[TrackInfo] {
        match self {
            #[cfg(feature = "ingest")]
            Self::Session(it) => it.tracks(),
            Self::Pushed(it) => it.tracks(),
            #[cfg(all(test, feature = "ingest"))]
            Self::Stepped(it) => it.tracks(),
        }
    }

    pub(crate) fn handle(&self) -> SourceHandle {
        match self {
            #[cfg(feature = "ingest")]
            Self::Session(it) => SourceHandle::Session(it.handle()),
            Self::Pushed(it) => SourceHandle::Pushed(it.handle()),
            #[cfg(all(test, feature = "ingest"))]
            Self::Stepped(it) => SourceHandle::Stepped(it.handle()),
        }
    }

    /// Whether a track of it can begin as silence, which is Opus.
    pub(crate) fn begins_silent(&self, track: &TrackInfo) -> bool {
        track.kind == MediaKind::Audio
            && match self {
                #[cfg(feature = "ingest")]
                Self::Session(_) => true,
                Self::Pushed(it) => it.is_opus(track.id),
                #[cfg(all(test, feature = "ingest"))]
                Self::Stepped(_) => true,
            }
    }

    /// Whether the host lets its media come, and so may wait for the recording before it does.
    pub(crate) fn is_pushed(&self) -> bool {
        matches!(self, Self::Pushed(_))
    }

    /// The next event; `None` after the last. May be cancelled without losing one.
    pub(crate) async fn recv(&mut self) -> Option<SessionEvent> {
        match self {
            #[cfg(feature = "ingest")]
            Self::Session(it) => it.recv().await,
            Self::Pushed(it) => it.recv().await,
            #[cfg(all(test, feature = "ingest"))]
            Self::Stepped(it) => it.recv().await,
        }
    }
}

impl SourceHandle {
    pub(crate) fn id(&self) -> &str {
        match self {
            #[cfg(feature = "ingest")]
            Self::Session(it) => it.id().as_str(),
            Self::Pushed(it) => it.id(),
            #[cfg(all(test, feature = "ingest"))]
            Self::Stepped(it) => it.id(),
        }
    }

    pub(crate) fn stats(&self) -> Option<ReceptionStats> {
        match self {
            #[cfg(feature = "ingest")]
            Self::Session(it) => Some(it.stats()),
            Self::Pushed(_) => None,
            #[cfg(all(test, feature = "ingest"))]
            Self::Stepped(it) => Some(it.stats()),
        }
    }

    /// How its media time lies on both ends' clocks, where that is known.
    pub(crate) fn clock(&self) -> Option<SessionClock> {
        match self {
            #[cfg(feature = "ingest")]
            Self::Session(it) => it.clock(),
            Self::Pushed(_) => None,
            #[cfg(all(test, feature = "ingest"))]
            Self::Stepped(it) => it.clock(),
        }
    }

    /// How loud a track of sound is, -127 to 0 dBov, where its publisher tells.
    pub(crate) fn level(&self, track: TrackId) -> Option<i8> {
        match self {
            #[cfg(feature = "ingest")]
            Self::Session(it) => it.level(track),
            Self::Pushed(_) => None,
            #[cfg(all(test, feature = "ingest"))]
            Self::Stepped(it) => it.level(track),
        }
    }

    /// The publisher's session, where it is one.
    #[cfg(feature = "ingest")]
    pub(crate) fn session(&self) -> Option<&SessionHandle> {
        match self {
            Self::Session(it) => Some(it),
            _ => None,
        }
    }

    pub(crate) fn request_key_frame(&self, track: TrackId) {
        match self {
            #[cfg(feature = "ingest")]
            Self::Session(it) => it.request_key_frame(track),
            Self::Pushed(it) => it.request_key_frame(track),
            #[cfg(all(test, feature = "ingest"))]
            Self::Stepped(it) => it.request_key_frame(track),
        }
    }

    pub(crate) fn close(&self) {
        match self {
            #[cfg(feature = "ingest")]
            Self::Session(it) => it.close(),
            Self::Pushed(it) => it.close(),
            #[cfg(all(test, feature = "ingest"))]
            Self::Stepped(it) => it.close(),
        }
    }
}
