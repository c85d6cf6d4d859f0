//! SDP (RFC 8866) as WHIP uses it: what a publisher offers, and what we answer. Pure text.

mod answer;
mod extensions;
#[cfg(test)]
mod fixtures;
mod formats;
mod layers;
mod offer;
mod transport;

pub(crate) use answer::{AnswerParts, Candidate, ICE_OPTIONS, answer, candidates};
pub(crate) use extensions::Extensions;
pub(crate) use formats::{Feedback, RepairStream};
pub(crate) use offer::{Offer, OfferedSection, Terms};
pub(crate) use transport::{DtlsRole, Fingerprint, RemoteIce};

use crate::error::IngestError;

/// The value of `name` in an `a=fmtp` value such as `level-asymmetry-allowed=1;packetization-mode=1`.
pub(crate) fn fmtp_value<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// Decodes base64 (RFC 4648 §4) with or without its padding; `None` where it holds any other character.
pub(crate) fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0u32, 0);
    for character in text.trim_end_matches('=').bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

/// One `m=` line and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MediaLines<'a> {
    /// `audio`, `video`, `application`, …
    media: &'a str,
    /// Zero for a section that is off, or in another's transport (`a=bundle-only`).
    port: &'a str,
    protocol: &'a str,
    formats: Vec<&'a str>,
    /// The lines after it, without their ends.
    lines: Vec<&'a str>,
}

impl<'a> MediaLines<'a> {
    /// The value of the first `a=name:value`, or an empty one for `a=name`.
    fn attribute(&self, name: &str) -> Option<&'a str> {
        self.lines.iter().find_map(|line| attribute(line, name))
    }
}

/// The value of `line` if it is `a=name:value`, or an empty one if it is `a=name`.
fn attribute<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let rest = line.strip_prefix("a=")?.strip_prefix(name)?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix(':')
    }
}

/// Splits a description into its session lines and its media sections.
fn split<'a>(lines: impl Iterator<Item = &'a str>) -> (Vec<&'a str>, Vec<MediaLines<'a>>) {
    let (mut session, mut sections) = (Vec::new(), Vec::<MediaLines<'_>>::new());
    for line in lines {
        if let Some(media) = line.strip_prefix("m=") {
            let mut words = media.split_ascii_whitespace();
            let media = words.next().unwrap_or_default();
            let port = words.next().unwrap_or_default();
            let protocol = words.next().unwrap_or_default();
            sections.push(MediaLines {
                media,
                port,
                protocol,
                formats: words.collect(),
                lines: Vec::new(),
            });
        } else if let Some(section) = sections.last_mut() {
            section.lines.push(line);
        } else {
            session.push(line);
        }
    }
    (session, sections)
}

fn bad(why: String) -> IngestError {
    IngestError::BadOffer { why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_fmtp_value_is_found_by_its_name_whatever_its_case_and_space() {
        let fmtp = "level-asymmetry-allowed=1; Packetization-Mode=1;profile-level-id=42e01f";
        assert_eq!(fmtp_value(fmtp, "packetization-mode"), Some("1"));
        assert_eq!(fmtp_value(fmtp, "profile-level-id"), Some("42e01f"));
        assert_eq!(fmtp_value(fmtp, "profile"), None);
    }

    #[test]
    fn base64_decodes_as_the_rfc_shows() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg", "foob"),
        ] {
            assert_eq!(
                base64_decode(text).as_deref(),
                Some(bytes.as_bytes()),
                "RFC 4648 §10"
            );
        }
        assert_eq!(base64_decode("Z g"), None);
    }
}
