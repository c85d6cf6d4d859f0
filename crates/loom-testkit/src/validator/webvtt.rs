//! WebVTT segments (draft-pantos-hls-rfc8216bis-20 §3.1.4).

use super::report::Report;

/// A cue in seconds of media time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cue {
    pub(crate) start: f64,
    pub(crate) end: f64,
    pub(crate) text: String,
}

/// The cues of a segment.
pub(crate) fn read(text: &str, at: &str, report: &mut Report) -> Vec<Cue> {
    const CLAUSE: &str = "§3.1.4";
    const SYNTAX: &str = "WebVTT §4.1";
    let mut lines = text.lines().peekable();
    let head = lines.next().unwrap_or_default();
    if !(head == "WEBVTT" || head.starts_with("WEBVTT ") || head.starts_with("WEBVTT\t")) {
        report.must(CLAUSE, at, "a WebVTT segment begins with its header", head);
        return Vec::new();
    }
    let mut shift = None;
    while let Some(line) = lines.next_if(|line| !line.is_empty()) {
        if let Some(map) = line.strip_prefix("X-TIMESTAMP-MAP=") {
            shift = timestamp_map(map);
            if shift.is_none() {
                report.must(CLAUSE, at, "X-TIMESTAMP-MAP is LOCAL:<time>,MPEGTS:<ticks>", map);
            }
        }
    }
    if shift.is_none() {
        report.should(CLAUSE, at, "a WebVTT segment has X-TIMESTAMP-MAP", "it has none");
    }
    let shift = shift.unwrap_or(0.0);
    let mut cues: Vec<Cue> = Vec::new();
    while lines.peek().is_some() {
        let block: Vec<&str> = std::iter::from_fn(|| lines.next_if(|line| !line.is_empty())).collect();
        lines.next();
        let Some(first) = block.first() else { continue };
        if ["NOTE", "STYLE", "REGION"]
            .iter()
            .any(|word| first.starts_with(word))
        {
            continue;
        }
        let timing = block.iter().position(|line| line.contains("-->"));
        let Some(timing) = timing.filter(|place| *place <= 1) else {
            report.must(
                SYNTAX,
                at,
                "a cue has its times in its first or second line",
                first,
            );
            continue;
        };
        let (start, end) = block[timing].split_once("-->").unwrap_or_default();
        let end = end.split_whitespace().next().unwrap_or_default();
        let (Some(start), Some(end)) = (time(start.trim()), time(end)) else {
            report.must(SYNTAX, at, "a cue's times are [hh:]mm:ss.ttt", block[timing]);
            continue;
        };
        if end <= start {
            report.must(SYNTAX, at, "a cue ends after it begins", block[timing]);
        }
        if cues
            .last()
            .is_some_and(|before| start + shift < before.start - 1e-9)
        {
            report.must(
                SYNTAX,
                at,
                "cues stand in the order of their beginnings",
                block[timing],
            );
        }
        if timing + 1 >= block.len() {
            report.should(SYNTAX, at, "a cue says something", block[timing]);
        }
        cues.push(Cue {
            start: start + shift,
            end: end + shift,
            text: block[timing + 1..].join("\n"),
        });
    }
    cues
}

/// What to add to a cue's time for the media time, seconds.
fn timestamp_map(map: &str) -> Option<f64> {
    let of = |name: &str| map.split(',').find_map(|word| word.strip_prefix(name));
    let (local, ticks) = (time(of("LOCAL:")?)?, of("MPEGTS:")?.parse::<u64>().ok()?);
    Some(ticks as f64 / 90_000.0 - local)
}

fn time(text: &str) -> Option<f64> {
    let (clock, millis) = text.split_once('.')?;
    let digits = |text: &str, least: usize| {
        (text.len() >= least && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse::<f64>().ok())
            .flatten()
    };
    let millis = digits(millis, 3).filter(|_| millis.len() == 3)?;
    let parts: Vec<&str> = clock.split(':').collect();
    let (hours, minutes, seconds) = match parts.as_slice() {
        [hours, minutes, seconds] => (digits(hours, 2)?, *minutes, *seconds),
        [minutes, seconds] => (0.0, *minutes, *seconds),
        _ => return None,
    };
    let sixty = |text: &str| digits(text, 2).filter(|value| text.len() == 2 && *value < 60.0);
    Some(hours * 3600.0 + sixty(minutes)? * 60.0 + sixty(seconds)? + millis / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<&'static str> {
        let mut report = Report::default();
        read(text, "test", &mut report);
        report.findings.iter().map(|finding| finding.rule).collect()
    }

    const HEAD: &str = "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000\n\n";

    #[test]
    fn a_proper_segment_is_read_in_media_time() {
        let mut report = Report::default();
        let cues = read(
            &format!("{HEAD}1\n00:01.000 --> 01:00:02.500 line:0\nHello\nyou\n\n"),
            "test",
            &mut report,
        );
        assert_eq!(report.findings, []);
        assert_eq!(
            cues,
            [Cue {
                start: 11.0,
                end: 3612.5,
                text: "Hello\nyou".to_owned()
            }]
        );
    }

    #[test]
    fn each_break_is_found() {
        for text in [
            "1\n00:01.000 --> 00:02.000\nx\n".to_owned(),
            "WEBVTT\n\n00:01.000 --> 00:02.000\nx\n".to_owned(),
            "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:1\n\n".to_owned(),
            format!("{HEAD}00:02.000 --> 00:01.000\nx\n"),
            format!("{HEAD}00:1.000 --> 00:02.000\nx\n"),
            format!("{HEAD}00:01.00 --> 00:02.000\nx\n"),
            format!("{HEAD}00:03.000 --> 00:04.000\nx\n\n00:01.000 --> 00:02.000\ny\n"),
            format!("{HEAD}no times here\n"),
            format!("{HEAD}00:01.000 --> 00:02.000\n"),
        ] {
            assert!(!faults(&text).is_empty(), "{text}");
        }
    }
}
