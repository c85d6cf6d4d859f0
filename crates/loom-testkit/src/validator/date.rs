//! Dates as playlists carry them (ISO/IEC 8601, draft-pantos-hls-rfc8216bis-20 §4.4.4.6).

/// A date of a playlist.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Date {
    /// Seconds since 1970 in UTC, in microseconds.
    pub(crate) micros: i64,
    pub(crate) has_zone: bool,
    /// Digits behind the second's point.
    pub(crate) digits: usize,
}

impl Date {
    /// Reads `YYYY-MM-DDThh:mm:ss[.fff][Z|±hh[:]mm]`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (day, time) = text.split_once('T')?;
        let mut numbers = day.split('-').map(plain);
        let (year, month, date) = (numbers.next()??, numbers.next()??, numbers.next()??);
        if numbers.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&date) {
            return None;
        }
        let (clock, zone) = match time.find(['Z', '+', '-']) {
            Some(at) => (&time[..at], Some(&time[at..])),
            None => (time, None),
        };
        let mut parts = clock.split(':');
        let (hour, minute, second) = (plain(parts.next()?)?, plain(parts.next()?)?, parts.next()?);
        let (whole, fraction) = second.split_once(['.', ',']).unwrap_or((second, ""));
        let second = plain(whole)?;
        if parts.next().is_some() || hour > 24 || minute > 59 || second > 60 {
            return None;
        }
        if !fraction.bytes().all(|b| b.is_ascii_digit()) || fraction.len() > 18 {
            return None;
        }
        let micros_text = format!("{:0<6}", &fraction[..fraction.len().min(6)]);
        let offset = match zone {
            None | Some("Z") => 0,
            Some(zone) => {
                let sign = if zone.starts_with('-') { -1 } else { 1 };
                let digits: String = zone[1..].chars().filter(|c| *c != ':').collect();
                let (hours, minutes) = match digits.len() {
                    2 => (plain(&digits)?, 0),
                    4 => (plain(&digits[..2])?, plain(&digits[2..])?),
                    _ => return None,
                };
                sign * (hours * 3600 + minutes * 60)
            }
        };
        let seconds = days(year, month, date) * 86_400 + hour * 3600 + minute * 60 + second - offset;
        Some(Self {
            micros: seconds * 1_000_000 + plain(&micros_text)?,
            has_zone: zone.is_some(),
            digits: fraction.len(),
        })
    }
}

fn plain(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let leaps = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][(month - 1) as usize];
    let leap = month > 2 && (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + before + i64::from(leap) + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_the_calendar_says() {
        for (text, micros) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000),
            ("2026-11-22T16:32:05.042Z", 1_795_365_125_042_000),
            ("2026-11-22T17:32:05.042+01:00", 1_795_365_125_042_000),
            ("2026-11-22T11:02:05.042-0530", 1_795_365_125_042_000),
        ] {
            assert_eq!(Date::parse(text).map(|date| date.micros), Some(micros), "{text}");
        }
        for text in [
            "2026-11-22",
            "2026-13-01T00:00:00Z",
            "22.11.2026T00:00:00Z",
            "2026-11-22T25:00:00Z",
            "2026-11-22T00:00:0aZ",
        ] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }
}
