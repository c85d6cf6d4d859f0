//! What a session says.

use std::fmt;

use loom_core::{Media, TrackId};

/// What happens in a session.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SessionEvent {
    /// The publisher is connected; media may follow.
    Connected,
    /// Media, in the order a consumer must take it.
    Media(Media),
    /// A track that ran has sent nothing for a second: its source was muted, taken away or stands still.
    Paused(TrackId),
    /// A paused track runs again.
    Resumed(TrackId),
    /// The publisher restarted ICE: it comes from elsewhere from here on. Media goes on.
    Restarted,
    /// The session is over. The last event.
    Closed(CloseReason),
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The host closed it: [`SessionHandle::close`](crate::SessionHandle::close), or the [`Session`](crate::Session) was dropped.
    ByHost,
    /// The publisher said goodbye, by RTCP or by closing its DTLS session.
    ByPublisher,
    /// The publisher did not connect within [`IngestConfig::connect_timeout`](crate::IngestConfig::connect_timeout).
    ConnectTimeout,
    /// The publisher connected, but sent no media within
    /// [`IngestConfig::idle_timeout`](crate::IngestConfig::idle_timeout).
    NoMedia,
    /// Nothing more came of the publisher for [`IngestConfig::idle_timeout`](crate::IngestConfig::idle_timeout), it vanished; or no media
    /// for [`IngestConfig::mute_timeout`](crate::IngestConfig::mute_timeout).
    MediaTimeout,
    /// The connection broke.
    Failed(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByHost => f.write_str("closed here"),
            Self::ByPublisher => f.write_str("the publisher stopped"),
            Self::ConnectTimeout => f.write_str("the publisher never connected"),
            Self::NoMedia => f.write_str("the publisher connected but sent no media"),
            Self::MediaTimeout => f.write_str("the publisher vanished: no media came any more"),
            Self::Failed(why) => write!(f, "the connection failed: {why}"),
        }
    }
}
