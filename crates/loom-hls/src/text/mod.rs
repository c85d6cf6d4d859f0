//! Timed text: cues as they are handed over, read from files, and written into a complete recording.

mod read;
mod stored;

use loom_core::{Cue, CueId, CueState, MediaTime};

pub use read::read_cues;
pub(crate) use stored::name_text_codec;
pub use stored::{StoredFile, list_subtitles, store_subtitles};

use crate::limits;

/// One cue of a subtitle rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextCue {
    /// Its name among the rendition's cues; a later cue of the same name takes its place.
    pub id: CueId,
    /// When it appears.
    pub start: MediaTime,
    /// When it disappears.
    pub end: MediaTime,
    /// What it says: plain text, lines apart by `\n`, no markup.
    pub text: String,
    /// WebVTT cue settings (WebVTT §4.4) such as `line:10% align:start`; empty where there are none. Those that are not well formed
    /// are left out when the cue is written.
    pub settings: String,
}

impl TextCue {
    /// Shortens what is longer than [`limits::CUE_BYTES`], at a character.
    pub(crate) fn bounded(mut self) -> Self {
        if self.text.len() > limits::CUE_BYTES {
            let mut end = limits::CUE_BYTES;
            while !self.text.is_char_boundary(end) {
                end -= 1;
            }
            self.text.truncate(end);
        }
        self
    }

    /// Whether it is seen between `from` and `to`.
    pub(crate) fn overlaps(&self, from: MediaTime, to: MediaTime) -> bool {
        self.start < to && self.end > from
    }
}

impl From<Cue> for TextCue {
    fn from(cue: Cue) -> Self {
        Self {
            id: cue.id,
            start: cue.start,
            end: cue.end,
            text: cue.text,
            settings: String::new(),
        }
    }
}

impl From<TextCue> for Cue {
    fn from(cue: TextCue) -> Self {
        Self {
            id: cue.id,
            start: cue.start,
            end: cue.end,
            text: cue.text,
            words: Vec::new(),
            state: CueState::Final,
        }
    }
}

/// The well-formed ones of WebVTT cue settings, with a space between; `region` is left out, as no region is ever defined.
pub(crate) fn harmless_settings(settings: &str) -> String {
    let kept = settings.split([' ', '\t']).filter(|one| is_setting(one));
    kept.collect::<Vec<_>>().join(" ")
}

fn is_setting(one: &str) -> bool {
    let Some((name, value)) = one.split_once(':') else {
        return false;
    };
    let (value, anchor) = match value.split_once(',') {
        Some((value, anchor)) => (value, Some(anchor)),
        None => (value, None),
    };
    match (name, anchor) {
        ("vertical", None) => ["rl", "lr"].contains(&value),
        ("line", anchor) => {
            anchor.is_none_or(|it| ["start", "center", "end"].contains(&it))
                && (is_percentage(value) || is_integer(value))
        }
        ("position", anchor) => {
            anchor.is_none_or(|it| ["line-left", "center", "line-right"].contains(&it))
                && is_percentage(value)
        }
        ("size", None) => is_percentage(value),
        ("align", None) => ["start", "center", "end", "left", "right"].contains(&value),
        _ => false,
    }
}

/// WebVTT §4.4: digits, perhaps a fraction, `%`, from 0 to 100.
fn is_percentage(text: &str) -> bool {
    let Some(number) = text.strip_suffix('%') else {
        return false;
    };
    let plain = number.len() <= 8
        && number.split('.').count() <= 2
        && number
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    plain && number.parse().is_ok_and(|it: f64| it <= 100.0)
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_settings_are_kept() {
        for (given, kept) in [
            ("", ""),
            (
                "line:10%,end position:50%,center align:start",
                "line:10%,end position:50%,center align:start",
            ),
            ("size:33.3% vertical:rl line:-1", "size:33.3% vertical:rl line:-1"),
            ("region:fred size:101% align:justify line:", ""),
            ("align:start\n\n00:00 --> 00:01", ""),
            ("position:--> size:5%", "size:5%"),
        ] {
            assert_eq!(harmless_settings(given), kept, "{given:?}");
        }
    }
}
