//! A publisher's session in virtual time, without its socket and its keys, for tests of what is built on sessions. Not an API: here only
//! with the feature `testing`, and never stable.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use loom_core::TrackId;

use crate::clock::SessionClock;
use crate::config::IngestConfig;
use crate::error::IngestError;
use crate::event::SessionEvent;
use crate::ingest;
use crate::sdp::Offer;
use crate::stats::ReceptionStats;
use crate::track::TrackInfo;
use crate::transport::{Connection, ConnectionOutput, Identity};

/// A session's machines, which are stepped: plain RTP and RTCP come in, plain RTCP and events go out.
pub struct Line {
    connection: Connection,
    tracks: Vec<TrackInfo>,
}

/// What a [`Line`] has to say.
#[derive(Debug)]
pub enum LineOutput {
    /// One datagram of RTCP for the publisher.
    Rtcp(Bytes),
    /// Tell the host.
    Event(SessionEvent),
    /// Nothing more before this instant, unless something comes.
    Timeout(Instant),
}

impl Line {
    /// A session that is connected, of the publisher of this SDP offer.
    ///
    /// # Errors
    /// As [`Ingest::accept`](crate::Ingest::accept).
    pub fn new(offer: &str, config: &Arc<IngestConfig>, now: Instant) -> Result<Self, IngestError> {
        static IDENTITY: OnceLock<Identity> = OnceLock::new();
        let identity = match IDENTITY.get() {
            Some(identity) => identity,
            None => {
                let made = Identity::generate()?;
                IDENTITY.get_or_init(|| made)
            }
        };
        config.check()?;
        let offer = Offer::parse_for(offer, &config.video)?;
        Ok(Self {
            tracks: ingest::tracks(&offer.sections),
            connection: Connection::plain(ingest::agreed(config, identity, offer), now),
        })
    }

    /// The tracks of its offer.
    pub fn tracks(&self) -> &[TrackInfo] {
        &self.tracks
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// What has become of the publisher's packets so far.
    pub fn stats(&self) -> ReceptionStats {
        self.connection.stats()
    }

    /// How its media time lies on both ends' clocks; `None` before any media.
    pub fn clock(&self) -> Option<SessionClock> {
        self.connection.clock()
    }

    /// How loud a track of sound is, -127 to 0 dBov, where its publisher tells.
    pub fn level(&self, track: TrackId, now: Instant) -> Option<i8> {
        self.connection.level(track, now)
    }

    /// A connectivity check of the publisher's: it lives.
    pub fn handle_check(&mut self, now: Instant) {
        self.connection.handle_check(false, now);
    }

    /// A datagram of RTP or RTCP.
    pub fn handle_datagram(&mut self, datagram: &[u8], now: Instant) {
        self.connection.handle_datagram(datagram, now);
    }

    /// It is so late.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.connection.handle_timeout(now);
    }

    /// The host wants a key frame of a track.
    pub fn request_key_frame(&mut self, track: TrackId, now: Instant) {
        self.connection.request_key_frame(track, now);
    }

    /// The host ends it.
    pub fn close(&mut self, now: Instant) {
        self.connection.close(now);
    }

    /// What it has to say next; `None` once it is over.
    pub fn poll_output(&mut self) -> Option<LineOutput> {
        Some(match self.connection.poll_output()? {
            ConnectionOutput::Transmit(datagram) => LineOutput::Rtcp(datagram),
            ConnectionOutput::Event(event) => LineOutput::Event(event),
            ConnectionOutput::Timeout(at) => LineOutput::Timeout(at),
        })
    }
}
