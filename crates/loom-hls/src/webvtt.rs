//! WebVTT segments (RFC 8216bis §3.1.4; WebVTT §4).

use std::fmt::Write as _;

use loom_core::MediaTime;

use crate::text::{TextCue, harmless_settings};

/// The file of a segment that begins at `start`. Media time and the media's decode times have the same zero, and `X-TIMESTAMP-MAP` says so
/// of the segment's beginning (RFC 8216bis §3.1.4). Of zero it would say the same, but hls.js 1.7 takes a map that begins where the
/// media did for one that says nothing, and adds the start of the last discontinuity.
pub(crate) fn write_segment<'a>(start: MediaTime, cues: impl IntoIterator<Item = &'a TextCue>) -> String {
    let millis = start.millis().max(0);
    let mut out = String::from("WEBVTT\nX-TIMESTAMP-MAP=LOCAL:");
    write_time(&mut out, millis);
    let _ = write!(out, ",MPEGTS:{}\n\n", (millis * 90).rem_euclid(MPEGTS));
    for cue in cues {
        write_cue(&mut out, cue);
    }
    out
}

/// MPEG-2 timestamps have 33 bits (ISO/IEC 13818-1 §2.4.3.7).
const MPEGTS: i64 = 1 << 33;

/// A cue block with its id: a cue that is repeated in the segments it spans is told from another by it.
fn write_cue(out: &mut String, cue: &TextCue) {
    let start = cue.start.millis().max(0);
    let end = cue.end.millis().max(start + 1);
    let _ = writeln!(out, "{}", cue.id.0);
    write_time(out, start);
    out.push_str(" --> ");
    write_time(out, end);
    let settings = harmless_settings(&cue.settings);
    if !settings.is_empty() {
        out.push(' ');
        out.push_str(&settings);
    }
    out.push('\n');
    write_text(out, &cue.text);
    out.push_str("\n\n");
}

/// `HH:MM:SS.mmm`; more than 99 hours take more digits (WebVTT §4.1).
pub(crate) fn write_time(out: &mut String, millis: i64) {
    let (s, ms) = (millis / 1000, millis % 1000);
    let _ = write!(out, "{:02}:{:02}:{:02}.{ms:03}", s / 3600, s / 60 % 60, s % 60);
}

/// Cue text: no markup, no blank line, no control characters but line ends.
pub(crate) fn write_text(out: &mut String, text: &str) {
    let mut lines = text
        .split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'])
        .map(str::trim)
        .filter(|l| !l.is_empty());
    let mut first = true;
    for line in &mut lines {
        if !first {
            out.push('\n');
        }
        first = false;
        for c in line.chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '\u{200e}' => out.push_str("&lrm;"),
                '\u{200f}' => out.push_str("&rlm;"),
                c if c.is_control() => out.push(' '),
                c => out.push(c),
            }
        }
    }
    if first {
        out.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use loom_core::{CueId, MediaTime};

    use super::*;

    #[test]
    fn hostile_text_cannot_end_its_cue_or_begin_another() {
        let cue = TextCue {
            id: CueId(7),
            start: MediaTime::from_millis(3_723_004),
            end: MediaTime::from_millis(3_723_004),
            text: "a < b && c --> d\r\n\r\n00:00.000 --> 00:01.000\n\nNOTE x\0y <b>".to_owned(),
            settings: "line:0 region:x\n00:00.000 --> 00:01.000".to_owned(),
        };
        assert_eq!(
            write_segment(MediaTime::from_millis(3_720_000), [&cue]),
            "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:01:02:00.000,MPEGTS:334800000\n\n\
             7\n01:02:03.004 --> 01:02:03.005 line:0\na &lt; b &amp;&amp; c --&gt; d\n00:00.000 --&gt; 00:01.000\n\
             NOTE x y &lt;b&gt;\n\n"
        );
    }
}
