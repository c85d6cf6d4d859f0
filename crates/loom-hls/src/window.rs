//! Which part of a recording a viewer is shown: windows that slide, and where playback begins.

use std::time::Duration;

use crate::error::HlsError;

/// How much of a growing recording its media playlists list. Nothing is ever removed from the store, so a segment that has left
/// a playlist stays available for longer than RFC 8216bis §6.2.2 asks.
///
/// ```
/// use std::time::Duration;
/// use loom_hls::Window;
///
/// assert_eq!(Window::parse("dvr-300"), Ok(Window::Dvr(Duration::from_secs(300))));
/// assert!(Window::parse("dvr-forever").is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Window {
    /// All of it, from its beginning (`EXT-X-PLAYLIST-TYPE:EVENT`, RFC 8216bis §4.4.3.5).
    #[default]
    Event,
    /// The newest only: [`LIVE`](Self::LIVE) target durations.
    Live,
    /// The newest that last at least this long, and never less than [`Window::Live`] shows.
    Dvr(Duration),
}

impl Window {
    /// How many target durations [`Window::Live`] lists: a player that starts at `HOLD-BACK`, three before the end, has one more
    /// behind it (RFC 8216bis §6.2.2 asks for three).
    pub const LIVE: u32 = 4;

    /// Reads `live`, `dvr-SECONDS` or `event`.
    ///
    /// # Errors
    /// What is wrong with it, and the clause.
    pub fn parse(text: &str) -> Result<Self, String> {
        let seconds = |digits: &str| {
            let plain = (1..=7).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse::<u64>().ok()).flatten()
        };
        match text {
            "event" => Ok(Self::Event),
            "live" => Ok(Self::Live),
            _ => text
                .strip_prefix("dvr-")
                .and_then(seconds)
                .map(|seconds| Self::Dvr(Duration::from_secs(seconds)))
                .ok_or_else(|| {
                    "a window is live, dvr-SECONDS or event (RFC 8216bis §4.4.3.5, §6.2.2)".to_owned()
                }),
        }
    }

    /// How long the listed segments last at least; `None` where nothing is ever left out.
    pub(crate) fn length(self, target: Duration) -> Option<Duration> {
        let least = target * Self::LIVE;
        match self {
            Self::Event => None,
            Self::Live => Some(least),
            Self::Dvr(length) => Some(length.max(least)),
        }
    }
}

/// Where players begin (`EXT-X-START`, RFC 8216bis §4.4.2.2).
///
/// ```
/// use std::time::Duration;
/// use loom_hls::StartPoint;
///
/// assert_eq!(StartPoint::parse("-30"), Ok(StartPoint::FromEnd(Duration::from_secs(30))));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPoint {
    /// This long after the playlist's beginning.
    FromBeginning(Duration),
    /// This long before its end.
    FromEnd(Duration),
}

impl StartPoint {
    /// Reads seconds: below zero, before the end.
    ///
    /// # Errors
    /// What is wrong with it, and the clause.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix('-') {
            Some(back) => seconds(back).map(Self::FromEnd),
            None => seconds(text).map(Self::FromBeginning),
        }
    }

    /// What a growing playlist may say: not so near its end that a player would run dry.
    pub(crate) fn check(self, target: Duration) -> Result<(), HlsError> {
        match self {
            Self::FromEnd(back) if back < target * 3 => Err(HlsError::Config {
                what: format!(
                    "playback would begin {back:?} before the end, which is less than three target durations"
                ),
                clause: "RFC 8216bis §4.4.2.2",
            }),
            _ => Ok(()),
        }
    }
}

/// Seconds as people write them into a URL: digits, at most one point.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "a time is seconds such as 12 or 12.5 (RFC 8216bis §4.2)".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let plain =
        |digits: &str, most| (1..=most).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole, 8) || !plain(part, 6) {
        return Err(wrong());
    }
    let micros = format!("{part:0<6}").parse::<u64>().map_err(|_| wrong())?;
    let whole = whole.parse::<u64>().map_err(|_| wrong())?;
    Ok(Duration::from_secs(whole) + Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_read_as_it_is_written_in_a_url() {
        assert_eq!(Window::parse("live"), Ok(Window::Live));
        assert_eq!(Window::parse("event"), Ok(Window::Event));
        assert_eq!(Window::parse("dvr-30"), Ok(Window::Dvr(Duration::from_secs(30))));
        for text in ["", "dvr", "dvr-", "dvr--1", "dvr-1.5", "dvr-99999999", "LIVE"] {
            assert!(Window::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_is_seconds_with_at_most_six_digits_behind_the_point() {
        assert_eq!(seconds("12.5"), Ok(Duration::from_millis(12_500)));
        assert_eq!(seconds("0.000001"), Ok(Duration::from_micros(1)));
        assert_eq!(
            StartPoint::parse("-30"),
            Ok(StartPoint::FromEnd(Duration::from_secs(30)))
        );
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "1e3",
            "+1",
            "--1",
            "1.0000001",
            "123456789",
            "NaN",
        ] {
            assert!(StartPoint::parse(text).is_err(), "{text}");
        }
    }
}
