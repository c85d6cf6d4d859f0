use std::time::{Duration, Instant};

/// A clock that only moves when it is told to.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    now: Instant,
}

impl Clock {
    /// Starts at an arbitrary instant.
    pub fn new() -> Self {
        Self { now: Instant::now() }
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Moves on by `span` and gives the new present.
    pub fn advance(&mut self, span: Duration) -> Instant {
        self.now += span;
        self.now
    }

    /// Moves on to `at`; an earlier instant changes nothing.
    pub fn advance_to(&mut self, at: Instant) -> Instant {
        self.now = self.now.max(at);
        self.now
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
