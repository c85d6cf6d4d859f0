//! Date ranges (RFC 8216bis §4.4.5.1): spans of media time with attributes, such as chapters.

use std::fmt::Write as _;
use std::time::SystemTime;

use loom_core::{MediaTime, WallClock};

use crate::error::HlsError;
use crate::limits;
use crate::playlist;

/// A span of media time and what is said of it, for `EXT-X-DATERANGE` in every media playlist.
///
/// ```
/// use std::time::SystemTime;
/// use loom_core::{MediaTime, WallClock};
/// use loom_hls::{DateRange, DateRangeValue, Packager, PackagerConfig};
///
/// let mut packager = Packager::new(PackagerConfig {
///     zero: Some(WallClock { zero: SystemTime::now() }),
///     ..PackagerConfig::default()
/// })?;
/// packager.handle_date_range(&DateRange {
///     id: "question-1".into(),
///     class: Some("com.example.question".into()),
///     start: MediaTime::from_millis(12_000),
///     end: Some(MediaTime::from_millis(20_000)),
///     attributes: vec![("X-ASKED-BY".into(), DateRangeValue::Text("Ada".into()))],
///     cue: Vec::new(),
/// })?;
/// # Ok::<(), loom_hls::HlsError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DateRange {
    /// Its name: the same name again says more of the same span.
    pub id: String,
    /// Spans of one class mean the same, and do not overlap.
    pub class: Option<String>,
    /// Where it begins.
    pub start: MediaTime,
    /// Where it ends, once that is known.
    pub end: Option<MediaTime>,
    /// What the host says of it: names begin with `X-` and hold `A-Z 0-9 -` only.
    pub attributes: Vec<(String, DateRangeValue)>,
    /// Where a player is to act on it, where it does.
    pub cue: Vec<DateRangeCue>,
}

/// The value of a date range's attribute (RFC 8216bis §4.4.5.1: a quoted-string, a hexadecimal-sequence or a
/// decimal-floating-point).
#[derive(Debug, Clone, PartialEq)]
pub enum DateRangeValue {
    /// Text; quotes and line ends are left out of it.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A number, finite and not negative.
    Number(f64),
}

/// `CUE` (RFC 8216bis §4.4.5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateRangeCue {
    /// Before playback begins.
    Pre,
    /// After it has ended.
    Post,
    /// Once only.
    Once,
}

/// A date range as playlists carry it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RangeLine {
    pub(crate) id: String,
    /// The whole line, with its end.
    pub(crate) line: String,
    pub(crate) start: SystemTime,
    pub(crate) end: Option<SystemTime>,
}

impl DateRange {
    /// Writes it, with the recording's zero at `zero`.
    pub(crate) fn line(&self, zero: WallClock) -> Result<RangeLine, HlsError> {
        let fail = |what: String| {
            Err(HlsError::DateRange {
                id: self.id.clone(),
                why: what,
                clause: "RFC 8216bis §4.4.5.1",
            })
        };
        let plain = |text: &str| !text.contains(['"', '\t']) && !text.chars().any(char::is_control);
        if self.id.is_empty() || self.id.len() > limits::DATE_RANGE_ID_BYTES || !plain(&self.id) {
            return fail(format!(
                "its id is empty, longer than {} bytes, or holds a quote or a control character",
                limits::DATE_RANGE_ID_BYTES
            ));
        }
        if self.end.is_some_and(|end| end < self.start) {
            return fail("it ends before it begins".to_owned());
        }
        let start = zero.at(self.start);
        let mut line = format!("#EXT-X-DATERANGE:ID=\"{}\"", self.id);
        if let Some(class) = &self.class {
            let _ = write!(line, ",CLASS=\"{}\"", playlist::quoted(class));
        }
        line.push_str(",START-DATE=\"");
        playlist::write_date(&mut line, start);
        line.push('"');
        if !self.cue.is_empty() {
            let both = self.cue.contains(&DateRangeCue::Pre) && self.cue.contains(&DateRangeCue::Post);
            if both {
                return fail("it is to come both before and after playback".to_owned());
            }
            let words: Vec<&str> = self
                .cue
                .iter()
                .map(|cue| match cue {
                    DateRangeCue::Pre => "PRE",
                    DateRangeCue::Post => "POST",
                    DateRangeCue::Once => "ONCE",
                })
                .collect();
            let _ = write!(line, ",CUE=\"{}\"", words.join(","));
        }
        let end = self.end.map(|end| zero.at(end));
        if let Some(end) = end {
            line.push_str(",END-DATE=\"");
            playlist::write_date(&mut line, end);
            line.push('"');
        }
        for (at, (name, value)) in self.attributes.iter().enumerate() {
            let known = name.strip_prefix("X-").is_some_and(|rest| {
                !rest.is_empty()
                    && rest
                        .bytes()
                        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
            });
            if !known || self.attributes[..at].iter().any(|(before, _)| before == name) {
                return fail(format!(
                    "{name:?} is no name of an attribute of the host's own, or stands there twice"
                ));
            }
            let _ = write!(line, ",{name}=");
            match value {
                DateRangeValue::Text(text) => {
                    let _ = write!(line, "\"{}\"", playlist::quoted(text));
                }
                DateRangeValue::Bytes(bytes) => {
                    line.push_str("0x");
                    for byte in bytes {
                        let _ = write!(line, "{byte:02X}");
                    }
                }
                DateRangeValue::Number(number) if number.is_finite() && *number >= 0.0 => {
                    let _ = write!(line, "{number}");
                }
                DateRangeValue::Number(number) => return fail(format!("{name} is {number}")),
            }
        }
        if line.len() > limits::DATE_RANGE_BYTES {
            return fail(format!("it is longer than {} bytes", limits::DATE_RANGE_BYTES));
        }
        line.push('\n');
        Ok(RangeLine {
            id: self.id.clone(),
            line,
            start,
            end,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn range() -> DateRange {
        DateRange {
            id: "chapter-1".to_owned(),
            class: Some("chapter".to_owned()),
            start: MediaTime::from_millis(1_500),
            end: Some(MediaTime::from_millis(9_000)),
            attributes: vec![
                (
                    "X-TITLE".to_owned(),
                    DateRangeValue::Text("Say \"hello\"\n".to_owned()),
                ),
                ("X-N".to_owned(), DateRangeValue::Number(2.5)),
                ("X-RAW".to_owned(), DateRangeValue::Bytes(vec![0, 0xab])),
            ],
            cue: vec![DateRangeCue::Pre, DateRangeCue::Once],
        }
    }

    fn zero() -> WallClock {
        WallClock {
            zero: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_363_200),
        }
    }

    #[test]
    fn a_date_range_is_written_with_its_dates_and_attributes() {
        assert_eq!(
            range().line(zero()).unwrap().line,
            "#EXT-X-DATERANGE:ID=\"chapter-1\",CLASS=\"chapter\",START-DATE=\"2026-11-22T16:00:01.500Z\",CUE=\"PRE,ONCE\",\
             END-DATE=\"2026-11-22T16:00:09.000Z\",X-TITLE=\"Say hello\",X-N=2.5,X-RAW=0x00AB\n"
        );
    }

    #[test]
    fn a_date_range_that_breaks_the_clause_is_refused() {
        let changes: [fn(&mut DateRange); 8] = [
            |r| r.id.clear(),
            |r| r.id.push('"'),
            |r| r.id.push('\t'),
            |r| r.end = Some(MediaTime::ZERO),
            |r| r.attributes[0].0 = "TITLE".to_owned(),
            |r| r.attributes[0].0 = "X-N".to_owned(),
            |r| r.attributes[1].1 = DateRangeValue::Number(f64::NAN),
            |r| r.cue = vec![DateRangeCue::Pre, DateRangeCue::Post],
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut range = range();
            change(&mut range);
            let why = range.line(zero()).unwrap_err().to_string();
            assert!(why.contains("RFC 8216bis §4.4.5.1"), "{at}: {why}");
        }
    }
}
