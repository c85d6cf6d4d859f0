//! Byte ranges (RFC 9110 §14) and conditional requests (§13), for the streams and for hosts that serve downloads.

use http::{HeaderMap, header};

/// What of a body a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// These bytes.
    Part {
        /// The first.
        start: u64,
        /// How many.
        len: u64,
    },
    /// Bytes that there are not: 416.
    Nothing,
}

impl Wanted {
    /// Where of so many bytes it begins, and how many it has.
    pub(crate) fn place(self, total: u64) -> (u64, u64) {
        match self {
            Self::Whole => (0, total),
            Self::Part { start, len } => (start, len),
            Self::Nothing => (0, 0),
        }
    }
}

/// A range as it was asked for: the first byte, and the last one where that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) first: u64,
    pub(crate) last: Option<u64>,
}

/// Whether the client's copy is the one tagged `tag` (RFC 9110 §13.1.2; a weak comparison).
pub fn is_fresh(request: &HeaderMap, tag: impl AsRef<[u8]>) -> bool {
    let listed = request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    listed.flat_map(|list| list.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one).as_bytes() == tag.as_ref()
    })
}

/// What of `total` bytes the request asks for. A changed body is sent whole (§13.1.5); without a tag nothing can match.
pub fn wanted(request: &HeaderMap, tag: Option<impl AsRef<[u8]>>, total: u64) -> Wanted {
    let Some(range) = request.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return Wanted::Whole;
    };
    let stale = request
        .get(header::IF_RANGE)
        .is_some_and(|has| tag.is_none_or(|tag| has.as_bytes() != tag.as_ref()));
    if stale { Wanted::Whole } else { parse(range, total) }
}

/// The range that is asked for of a body whose end is not known: one that counts from the front.
pub(crate) fn asked(request: &HeaderMap) -> Option<Asked> {
    let range = request.get(header::RANGE)?.to_str().ok()?;
    let (first, last) = range.trim().strip_prefix("bytes=")?.split_once('-')?;
    let first = first.trim().parse().ok()?;
    match last.trim() {
        "" => Some(Asked { first, last: None }),
        last => {
            let last = last.parse().ok().filter(|last| *last >= first)?;
            Some(Asked {
                first,
                last: Some(last),
            })
        }
    }
}

/// A Range that is malformed, of another unit, or of several parts is ignored, as §14.2 allows.
fn parse(range: &str, total: u64) -> Wanted {
    let Some((first, last)) = range
        .trim()
        .strip_prefix("bytes=")
        .and_then(|spec| spec.split_once('-'))
    else {
        return Wanted::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if last < first => Wanted::Whole,
        (Ok(first), parsed) if parsed.is_ok() || last.is_empty() => {
            if first >= total {
                return Wanted::Nothing;
            }
            let last = parsed.unwrap_or(u64::MAX).min(total - 1);
            Wanted::Part {
                start: first,
                len: last - first + 1,
            }
        }
        (Err(_), Ok(suffix)) if first.is_empty() => match suffix.min(total) {
            0 => Wanted::Nothing,
            len => Wanted::Part {
                start: total - len,
                len,
            },
        },
        _ => Wanted::Whole,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn each_form_of_a_range_selects_its_bytes() {
        let part = |start, len| Wanted::Part { start, len };
        for (range, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=2-5", part(2, 4)),
            ("bytes=2-", part(2, 8)),
            ("bytes=2-99", part(2, 8)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-99", part(0, 10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("seconds=0-1", Wanted::Whole),
            ("bytes=99999999999999999999-", Wanted::Whole),
        ] {
            assert_eq!(parse(range, 10), expected, "{range}");
        }
        assert_eq!(parse("bytes=0-", 0), Wanted::Nothing);
        assert_eq!(parse("bytes=-1", 0), Wanted::Nothing);
    }

    #[test]
    fn a_stale_if_range_gets_the_whole_body() {
        let mut request = HeaderMap::new();
        let tag = HeaderValue::from_static("\"a\"");
        request.insert(header::RANGE, HeaderValue::from_static("bytes=1-2"));
        let part = Wanted::Part { start: 1, len: 2 };
        assert_eq!(wanted(&request, Some(&tag), 10), part);
        request.insert(header::IF_RANGE, HeaderValue::from_static("\"b\""));
        assert_eq!(wanted(&request, Some(&tag), 10), Wanted::Whole);
        request.insert(header::IF_RANGE, tag.clone());
        assert_eq!(wanted(&request, Some(&tag), 10), part);
        assert_eq!(wanted(&request, None::<&str>, 10), Wanted::Whole);
    }
}
