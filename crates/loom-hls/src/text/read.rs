//! Reads cues from WebVTT (WebVTT §6) and SubRip files.

use loom_core::{CueId, MediaTime};

use super::{TextCue, harmless_settings};
use crate::error::HlsError;
use crate::limits;

/// The cues of a WebVTT or SubRip file, in order of their start, named by that order. Markup becomes plain text; styles, regions and
/// notes are left out.
///
/// # Errors
/// [`HlsError::Text`] where the file is neither, is larger than [`limits::TEXT_BYTES`] or has more than [`limits::TEXT_CUES`] cues, or a
/// cue's times do not parse.
///
/// ```
/// use loom_core::MediaTime;
/// use loom_hls::read_cues;
///
/// let file = "WEBVTT\n\n00:01.000 --> 00:02.500\n<v Ada>Good <i>morning</i>.\n";
/// let cues = read_cues(file.as_bytes())?;
/// assert_eq!(cues[0].start, MediaTime::from_millis(1_000));
/// assert_eq!(cues[0].text, "Good morning.");
/// # Ok::<(), loom_hls::HlsError>(())
/// ```
pub fn read_cues(file: &[u8]) -> Result<Vec<TextCue>, HlsError> {
    let fail = |line: usize, why: &str| HlsError::Text {
        line,
        why: why.to_owned(),
        clause: "WebVTT §4.1",
    };
    if file.len() > limits::TEXT_BYTES {
        return Err(fail(
            0,
            &format!(
                "it has {} bytes; up to {} are taken",
                file.len(),
                limits::TEXT_BYTES
            ),
        ));
    }
    let text = std::str::from_utf8(file).map_err(|why| {
        let before = &file[..why.valid_up_to()];
        fail(
            1 + before.iter().filter(|b| **b == b'\n').count(),
            "it is not UTF-8",
        )
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let webvtt = text
        .strip_prefix("WEBVTT")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['\n', ' ', '\t']));
    let mut cues = Vec::new();
    let mut lines = text.split('\n').enumerate().peekable();
    if webvtt {
        while lines.next_if(|(_, line)| !line.is_empty()).is_some() {}
    }
    while let Some((at, line)) = lines.next() {
        if line.trim().is_empty() {
            continue;
        }
        // a block: perhaps its name, the line of its times, its text up to an empty line
        let mut timing = (at, line);
        if !line.contains("-->") {
            match lines.next_if(|(_, next)| next.contains("-->")) {
                Some(next) => timing = next,
                None if webvtt => {
                    while lines.next_if(|(_, next)| !next.trim().is_empty()).is_some() {}
                    continue; // a style, a region or a note
                }
                None => {
                    return Err(fail(
                        at + 1,
                        "a WebVTT file begins with WEBVTT, and each SubRip cue with a number and its times",
                    ));
                }
            }
        }
        let (start, end, settings) = read_timing(timing.1).ok_or_else(|| {
            fail(
                timing.0 + 1,
                "the cue's times are not START --> END, each as hh:mm:ss.mmm, the end after the start",
            )
        })?;
        let mut said = String::new();
        while let Some((_, line)) = lines.next_if(|(_, next)| !next.trim().is_empty()) {
            if !said.is_empty() {
                said.push('\n');
            }
            said.push_str(line);
        }
        let said = plain(&said);
        if said.trim().is_empty() {
            continue;
        }
        if cues.len() >= limits::TEXT_CUES {
            return Err(fail(
                timing.0 + 1,
                &format!("it has more than {} cues", limits::TEXT_CUES),
            ));
        }
        cues.push(
            TextCue {
                id: CueId(0),
                start,
                end,
                text: said,
                settings: harmless_settings(settings),
            }
            .bounded(),
        );
    }
    cues.sort_by_key(|cue| cue.start);
    for (at, cue) in cues.iter_mut().enumerate() {
        cue.id = CueId(at as u64);
    }
    Ok(cues)
}

fn read_timing(line: &str) -> Option<(MediaTime, MediaTime, &str)> {
    let (start, rest) = line.split_once("-->")?;
    let rest = rest.trim_start();
    let (end, settings) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    let (start, end) = (read_time(start.trim())?, read_time(end.trim())?);
    (end > start).then_some((start, end, settings))
}

/// `[hh:]mm:ss.mmm`; SubRip has a comma.
fn read_time(text: &str) -> Option<MediaTime> {
    let digits = |text: &str, most: usize| {
        let plain = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| text.parse::<i64>().ok()).flatten()
    };
    let (whole, millis) = text.split_once(['.', ','])?;
    let millis = digits(millis, 3).filter(|_| millis.len() == 3)?;
    let mut parts = whole.rsplit(':');
    let seconds = digits(parts.next()?, 2).filter(|it| *it < 60)?;
    let minutes = digits(parts.next()?, 2).filter(|it| *it < 60)?;
    let hours = parts.next().map_or(Some(0), |it| digits(it, 5))?;
    let all = ((hours * 60 + minutes) * 60 + seconds) * 1000 + millis;
    parts.next().is_none().then(|| MediaTime::from_millis(all))
}

/// Text without tags (WebVTT §4.2.2: voices, classes, times; SubRip's `<i>` and `{\an8}`), its character references replaced.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['<', '&', '{']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match rest.as_bytes()[0] {
            b'<' => tag(rest).map(|len| (len, "")),
            b'{' => rest
                .starts_with("{\\")
                .then(|| rest.find('}').map(|end| (end + 1, "")))
                .flatten(),
            _ => REFERENCES
                .iter()
                .find(|(name, _)| rest.starts_with(name))
                .map(|(name, stands_for)| (name.len(), *stands_for)),
        };
        match taken {
            Some((len, instead)) => {
                out.push_str(instead);
                rest = &rest[len..];
            }
            None => {
                out.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// The length of a tag; `None` for a `<` that begins none.
fn tag(text: &str) -> Option<usize> {
    let second = text.as_bytes().get(1)?;
    (second.is_ascii_alphanumeric() || *second == b'/')
        .then(|| text.find('>'))
        .flatten()
        .map(|end| end + 1)
}

/// HTML character references that WebVTT's authors use (WebVTT §4.2.1).
const REFERENCES: [(&str, &str); 8] = [
    ("&amp;", "&"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&nbsp;", "\u{a0}"),
    ("&lrm;", "\u{200e}"),
    ("&rlm;", "\u{200f}"),
    ("&quot;", "\""),
    ("&#39;", "'"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(cues: &[TextCue]) -> Vec<(i64, i64, &str, &str)> {
        cues.iter()
            .map(|cue| {
                (
                    cue.start.millis(),
                    cue.end.millis(),
                    cue.text.as_str(),
                    cue.settings.as_str(),
                )
            })
            .collect()
    }

    #[test]
    fn a_webvtt_file_gives_its_cues_as_plain_text_in_order() {
        let file = "\u{feff}WEBVTT - title\nX: y\n\nSTYLE\n::cue { color: red }\n\nNOTE 1 --> 2 is no cue\n\n\
                    second\n00:02.000 --> 01:00:03.500 line:0 region:a\r\n<v Ann>Fish &amp; <i>chips</i>\r\nand 1 < 2\n\n\
                    00:00:00.000 --> 00:01.000\nfirst\n\n00:04.000 --> 00:05.000\n\n";
        let cues = read_cues(file.as_bytes());
        // a note that holds an arrow is taken for a cue by the rules of WebVTT too, so it must parse
        assert!(matches!(cues, Err(HlsError::Text { line: 7, .. })));
        let cues = read_cues(file.replace("NOTE 1 --> 2", "NOTE 1").as_bytes()).unwrap();
        assert_eq!(
            shown(&cues),
            [
                (0, 1_000, "first", ""),
                (2_000, 3_603_500, "Fish & chips\nand 1 < 2", "line:0"),
            ]
        );
        assert_eq!(cues[1].id, CueId(1));
    }

    #[test]
    fn a_subrip_file_gives_its_cues() {
        let file = "1\r\n00:00:01,000 --> 00:00:02,500\r\n{\\an8}<b>Hallo</b>\r\nWelt\r\n\r\n2\r\n00:01:00,000 --> 00:01:01,000\r\nGrüße\r\n";
        let cues = read_cues(file.as_bytes()).unwrap();
        assert_eq!(
            shown(&cues),
            [(1_000, 2_500, "Hallo\nWelt", ""), (60_000, 61_000, "Grüße", "")]
        );
    }

    #[test]
    fn what_is_no_text_track_is_refused_with_its_line() {
        for (file, at) in [
            (&b"just words\n\nand more"[..], 1),
            (b"WEBVTT\n\n00:05.000 --> 00:04.000\nbackwards\n", 3),
            (b"WEBVTT\n\n00:05 --> 00:06\nno fraction\n", 3),
            (b"WEBVTT\n\n00:61.000 --> 02:00.000\nx\n", 3),
            (b"WEBVTT\n\n\xff\xfe", 3),
        ] {
            match read_cues(file) {
                Err(HlsError::Text { line, .. }) => assert_eq!(line, at, "{file:?}"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read_cues(b"").unwrap(), []);
        assert_eq!(read_cues(b"WEBVTT").unwrap(), []);
        let long = vec![b'\n'; limits::TEXT_BYTES + 1];
        assert!(read_cues(&long).is_err());
    }
}
