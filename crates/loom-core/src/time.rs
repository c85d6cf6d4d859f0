use std::fmt;
use std::num::NonZeroU32;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// An instant on a recording's one media timeline: nanoseconds since the recording's zero.
///
/// Signed, because a decode time may lie before zero when a stream starts with reordered frames.
/// Conversions to a timescale below 500 MHz and back are exact (they round to the nearest tick).
///
/// ```
/// use loom_core::{MediaTime, Timescale};
///
/// let at = MediaTime::from_ticks(126_000, Timescale::VIDEO);
/// assert_eq!(at, MediaTime::from_millis(1_400));
/// assert_eq!(at.ticks(Timescale::VIDEO), 126_000);
/// assert_eq!(at.ticks(Timescale::OPUS), 67_200);
/// assert_eq!(at.to_string(), "0:00:01.400");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaTime(i64);

impl MediaTime {
    /// The recording's zero.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis * 1_000_000)
    }

    /// From seconds; rounds to the nearest nanosecond.
    pub fn from_secs_f64(secs: f64) -> Self {
        Self((secs * 1e9).round() as i64)
    }

    /// From a count of ticks of `timescale`; rounds to the nearest nanosecond.
    pub fn from_ticks(ticks: i64, timescale: Timescale) -> Self {
        Self(div_round(
            i128::from(ticks) * 1_000_000_000,
            i128::from(timescale.hz()),
        ))
    }

    /// Nanoseconds since zero.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since zero, rounded towards zero.
    pub const fn millis(self) -> i64 {
        self.0 / 1_000_000
    }

    /// Seconds since zero.
    pub fn secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Ticks of `timescale` since zero, rounded to the nearest.
    pub fn ticks(self, timescale: Timescale) -> i64 {
        div_round(i128::from(self.0) * i128::from(timescale.hz()), 1_000_000_000)
    }

    /// The span from `earlier` to `self`, or zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// The signed difference `self - other` in nanoseconds.
    pub const fn signed_since(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

impl Add<Duration> for MediaTime {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(rhs.as_nanos()).unwrap_or(i64::MAX)),
        )
    }
}

impl Sub<Duration> for MediaTime {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(rhs.as_nanos()).unwrap_or(i64::MAX)),
        )
    }
}

impl fmt::Display for MediaTime {
    /// `H:MM:SS.mmm`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let ms = self.0.unsigned_abs() / 1_000_000;
        let (s, ms) = (ms / 1000, ms % 1000);
        write!(f, "{sign}{}:{:02}:{:02}.{ms:03}", s / 3600, s / 60 % 60, s % 60)
    }
}

/// Ticks a second of a track's clock: 90,000 for RTP video, the sample rate for audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timescale(NonZeroU32);

impl Timescale {
    /// 90 kHz, the RTP clock of every video payload (RFC 3551 §4.1) and Loom's timescale for video tracks.
    pub const VIDEO: Self = Self::of(90_000);
    /// 48 kHz, the RTP clock of Opus whatever its coded bandwidth (RFC 7587 §4.1).
    pub const OPUS: Self = Self::of(48_000);
    /// Milliseconds.
    pub const MILLIS: Self = Self::of(1_000);

    /// `hz` ticks a second, or `None` for zero.
    pub const fn new(hz: u32) -> Option<Self> {
        match NonZeroU32::new(hz) {
            Some(hz) => Some(Self(hz)),
            None => None,
        }
    }

    const fn of(hz: u32) -> Self {
        match Self::new(hz) {
            Some(it) => it,
            None => panic!("a timescale is never zero"),
        }
    }

    /// Ticks a second.
    pub const fn hz(self) -> u32 {
        self.0.get()
    }
}

/// Where a recording's zero lies on the wall clock.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use loom_core::{MediaTime, WallClock};
///
/// let zero = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
/// let clock = WallClock { zero };
/// assert_eq!(clock.at(MediaTime::from_millis(2_500)), zero + Duration::from_millis(2_500));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallClock {
    /// The wall-clock instant of [`MediaTime::ZERO`].
    pub zero: SystemTime,
}

impl WallClock {
    /// The wall-clock instant of `at` (used for `EXT-X-PROGRAM-DATE-TIME`, RFC 8216bis §4.4.4.6).
    pub fn at(self, at: MediaTime) -> SystemTime {
        let nanos = at.nanos();
        let span = Duration::from_nanos(nanos.unsigned_abs());
        if nanos >= 0 {
            self.zero + span
        } else {
            self.zero - span
        }
    }
}

/// A 64-bit NTP timestamp as RTCP sender reports carry it (RFC 3550 §4): 32.32 fixed-point seconds since 1900.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// The signed span `self - other` in nanoseconds, taking the shorter way round the era.
    pub fn signed_since(self, other: Self) -> i64 {
        let delta = self.0.wrapping_sub(other.0) as i64;
        ((i128::from(delta) * 1_000_000_000) >> 32) as i64
    }
}

fn div_round(n: i128, d: i128) -> i64 {
    let half = d / 2;
    let q = if n >= 0 { (n + half) / d } else { (n - half) / d };
    q.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_survive_a_round_trip_in_every_timescale_loom_uses() {
        for hz in [1_000, 8_000, 44_100, 48_000, 90_000, 96_000, 10_000_000] {
            let scale = Timescale::new(hz).unwrap();
            for ticks in [-90_001, -1, 0, 1, 2, 3, 1023, 1024, 1_000_003, 90_000 * 86_400] {
                assert_eq!(
                    MediaTime::from_ticks(ticks, scale).ticks(scale),
                    ticks,
                    "{ticks} ticks at {hz} Hz"
                );
            }
        }
    }

    #[test]
    fn an_ntp_difference_is_signed_and_crosses_the_era() {
        let late = NtpTime(0x0000_0000_8000_0000);
        let early = NtpTime(0xffff_ffff_8000_0000);
        assert_eq!(late.signed_since(early), 1_000_000_000);
        assert_eq!(early.signed_since(late), -1_000_000_000);
    }

    #[test]
    fn a_time_prints_as_a_person_reads_it() {
        assert_eq!(MediaTime::from_millis(3_723_004).to_string(), "1:02:03.004");
        assert_eq!(MediaTime::from_millis(-500).to_string(), "-0:00:00.500");
    }

    #[test]
    fn wall_clock_maps_times_before_and_after_zero() {
        let clock = WallClock {
            zero: SystemTime::UNIX_EPOCH + Duration::from_secs(100),
        };
        assert_eq!(
            clock.at(MediaTime::from_millis(1_500)),
            SystemTime::UNIX_EPOCH + Duration::from_millis(101_500)
        );
        assert_eq!(
            clock.at(MediaTime::from_millis(-1_500)),
            SystemTime::UNIX_EPOCH + Duration::from_millis(98_500)
        );
    }
}
