/// Extends 32-bit RTP timestamps (RFC 3550 §5.1) to 64 bits across any number of wraps.
///
/// Each value is taken as the nearest to the one before it, so reordering across a wrap is harmless.
///
/// ```
/// use loom_core::RtpTimestampUnwrapper;
///
/// let mut times = RtpTimestampUnwrapper::new();
/// assert_eq!(times.unwrap(u32::MAX), 4_294_967_295);
/// assert_eq!(times.unwrap(2_999), 4_294_970_295); // 3,000 later, behind the wrap
/// ```
#[derive(Debug, Clone, Default)]
pub struct RtpTimestampUnwrapper {
    last: Option<i64>,
}

impl RtpTimestampUnwrapper {
    /// Starts with no history: the first value is returned as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// The 64-bit value of `timestamp`. It may be lower than an earlier one where packets were reordered.
    pub fn unwrap(&mut self, timestamp: u32) -> i64 {
        let extended = match self.last {
            None => i64::from(timestamp),
            Some(last) => last + i64::from(timestamp.wrapping_sub(last as u32) as i32),
        };
        self.last = Some(extended);
        extended
    }
}

/// Extends 16-bit RTP sequence numbers (RFC 3550 §5.1) to 64 bits across any number of wraps.
///
/// ```
/// use loom_core::SequenceUnwrapper;
///
/// let mut numbers = SequenceUnwrapper::new();
/// assert_eq!(numbers.unwrap(65_535), 65_535);
/// assert_eq!(numbers.unwrap(0), 65_536);
/// assert_eq!(numbers.unwrap(65_534), 65_534); // late, from before the wrap
/// ```
#[derive(Debug, Clone, Default)]
pub struct SequenceUnwrapper {
    last: Option<i64>,
}

impl SequenceUnwrapper {
    /// Starts with no history: the first value is returned as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// The 64-bit value of `sequence`. It may be lower than an earlier one where packets were reordered.
    pub fn unwrap(&mut self, sequence: u16) -> i64 {
        let extended = match self.last {
            None => i64::from(sequence),
            Some(last) => last + i64::from(sequence.wrapping_sub(last as u16) as i16),
        };
        self.last = Some(extended);
        extended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_climb_across_the_wrap_and_step_back_over_it() {
        let mut it = RtpTimestampUnwrapper::new();
        assert_eq!(it.unwrap(u32::MAX - 10), i64::from(u32::MAX) - 10);
        assert_eq!(it.unwrap(5), (1 << 32) + 5);
        assert_eq!(it.unwrap(u32::MAX), i64::from(u32::MAX));
        assert_eq!(it.unwrap(3_000), (1 << 32) + 3_000);
    }

    #[test]
    fn sequences_climb_across_many_wraps() {
        let mut it = SequenceUnwrapper::new();
        for n in 0..200_000_i64 {
            assert_eq!(it.unwrap(n as u16), n);
        }
    }
}
