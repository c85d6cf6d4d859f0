use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::CodecParameters;

/// Names one elementary stream of a recording. Unique within the recording, in order of arrival from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrackId(pub u32);

impl fmt::Display for TrackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "track {}", self.0)
    }
}

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// Coded pictures.
    Video,
    /// Coded sound.
    Audio,
}

/// How to decode a track from here on. Comes before the track's first packet, and again when it changes
/// (a new resolution, new parameter sets); the packets after it obey it, the first of them a key frame.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackFormat {
    /// The track.
    pub track: TrackId,
    /// Its codec and configuration.
    pub codec: CodecParameters,
}

/// Names one rendition, one encoding of a track: `source`, `720p`, `opus`, `aac`. It is also a path component of
/// the rendition's URLs, so it holds only `a-z`, `0-9`, `-` and `_`, and 1 to 32 of them.
///
/// ```
/// use loom_core::RenditionId;
///
/// assert_eq!(RenditionId::new("720p").map(|id| id.to_string()), Some("720p".to_owned()));
/// assert_eq!(RenditionId::new("../720p"), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RenditionId(Arc<str>);

impl RenditionId {
    /// Checks `name` against the allowed characters; `None` where it breaks them.
    pub fn new(name: &str) -> Option<Self> {
        let ok = (1..=32).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        ok.then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RenditionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<RenditionId> for String {
    fn from(it: RenditionId) -> Self {
        it.0.as_ref().to_owned()
    }
}

impl TryFrom<String> for RenditionId {
    type Error = String;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name).ok_or_else(|| format!("{name:?} is no rendition name: 1 to 32 of a-z, 0-9, - and _"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendition_name_is_safe_in_a_path() {
        assert!(RenditionId::new("720p").is_some());
        for bad in ["", "..", "a/b", "A", "a b", &"x".repeat(33)] {
            assert!(RenditionId::new(bad).is_none(), "{bad:?}");
        }
    }
}
