use serde::{Deserialize, Serialize};

use crate::time::MediaTime;

/// Names a cue within its recording. Ids are given in order of `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CueId(pub u64);

/// Whether a cue may still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CueState {
    /// Shown while the person still speaks. Its text only ever grows at its end, until the final one replaces it.
    Partial,
    /// Never changes again.
    Final,
}

/// One spoken word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// When it begins.
    #[serde(with = "seconds")]
    pub start: MediaTime,
    /// When it ends.
    #[serde(with = "seconds")]
    pub end: MediaTime,
    /// The word as written, with its punctuation and without surrounding space.
    pub text: String,
    /// The model's probability for it, 0.0 ..= 1.0.
    pub probability: f32,
}

/// Timed text: what is shown from `start` to `end`.
///
/// ```
/// use loom_core::{Cue, CueId, CueState, MediaTime};
///
/// let mut cue = Cue {
///     id: CueId(0),
///     start: MediaTime::from_millis(1_200),
///     end: MediaTime::from_millis(1_900),
///     text: "Good".into(),
///     words: Vec::new(),
///     state: CueState::Partial,
/// };
/// // what the same id says later takes its place
/// cue.end = MediaTime::from_millis(2_400);
/// cue.text.push_str(" morning.");
/// cue.state = CueState::Final;
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cue {
    /// Its name.
    pub id: CueId,
    /// When it appears.
    #[serde(with = "seconds")]
    pub start: MediaTime,
    /// When it disappears.
    #[serde(with = "seconds")]
    pub end: MediaTime,
    /// What it says: plain text, no markup.
    pub text: String,
    /// Its words, where their times are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Word>,
    /// Whether it may still change.
    pub state: CueState,
}

/// Times in JSON are seconds with millisecond precision.
mod seconds {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::MediaTime;

    pub(super) fn serialize<S: Serializer>(at: &MediaTime, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64((at.nanos() as f64 / 1e6).round() / 1e3)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<MediaTime, D::Error> {
        f64::deserialize(d).map(MediaTime::from_secs_f64)
    }
}
