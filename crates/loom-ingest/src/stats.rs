use std::time::Duration;

/// What has become of a session's RTP packets so far: how good the road from its publisher is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceptionStats {
    /// Packets of media that came, padding among it, each counted once.
    pub packets_received: u64,
    /// Packets that did not come in time and were asked for again (RFC 4585 §6.2.1), each counted once.
    pub packets_asked: u64,
    /// Requests for those packets, of which one may be asked for several times.
    pub requests: u64,
    /// How long the answer to a request takes, the mean of late, of the stream that waits longest; `None` before the first.
    pub round_trip: Option<Duration>,
}
