use std::time::{Duration, Instant, SystemTime};

/// How a session's media time lies on the clocks of both its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionClock {
    /// When what carries media time zero came here, or would have come, had it been among the least delayed packets.
    pub arrived: Instant,
    /// When that was captured, by the publisher's own wall clock (RTCP sender reports, RFC 3550 §6.4.1), which may be wrong. `None` before
    /// the first report.
    pub captured: Option<SystemTime>,
    /// How long the way to the publisher and back takes: of requests for lost packets where there were any, else of the DTLS handshake, of which
    /// the fastest answer counts.
    pub round_trip: Option<Duration>,
}
