use std::fmt;
use std::sync::Arc;

use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Names a recording. It is a folder's name and a URL's path component: 1 to 40 of `a-z`, `0-9` and `-`, the first no
/// dash.
///
/// ```
/// use loom_engine::RecordingId;
///
/// assert!(RecordingId::new("talk-2026-11").is_some());
/// assert!(RecordingId::new("Talk of Ada").is_none());
/// assert_eq!(RecordingId::random().as_str().len(), 16);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RecordingId(Arc<str>);

impl RecordingId {
    /// Checks `name`; `None` where it breaks the rule above.
    pub fn new(name: &str) -> Option<Self> {
        let ok = (1..=40).contains(&name.len())
            && !name.starts_with('-')
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        ok.then(|| Self(name.into()))
    }

    /// A new one that nobody can guess: 16 characters of 32, 80 bits.
    pub fn random() -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz0123456";
        let mut rng = rand::rng();
        let name: String = (0..16)
            .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
            .collect();
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<RecordingId> for String {
    fn from(it: RecordingId) -> Self {
        it.0.as_ref().to_owned()
    }
}

impl TryFrom<String> for RecordingId {
    type Error = String;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name).ok_or_else(|| format!("{name:?} is no recording id: 1 to 40 of a-z, 0-9 and -"))
    }
}

/// Names a publisher that joins a recording beside its own: 1 to 32 of `a-z`, `0-9` and `-`, the first no dash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublisherName(Arc<str>);

impl PublisherName {
    /// Checks `name`; `None` where it breaks the rule above.
    pub fn new(name: &str) -> Option<Self> {
        let ok = name.len() <= 32 && RecordingId::new(name).is_some();
        ok.then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublisherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<PublisherName> for String {
    fn from(it: PublisherName) -> Self {
        it.0.as_ref().to_owned()
    }
}

impl TryFrom<String> for PublisherName {
    type Error = String;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name).ok_or_else(|| {
            format!("{name:?} is no publisher's name: 1 to 32 of a-z, 0-9 and -, the first no dash")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_safe_as_a_folder_name_and_in_a_url() {
        assert!(RecordingId::new("a-1").is_some());
        for bad in ["", "-a", "..", "a/b", "A", "a b", "a.b", &"x".repeat(41)] {
            assert!(RecordingId::new(bad).is_none(), "{bad:?}");
        }
        let random = RecordingId::random();
        assert_eq!(RecordingId::new(random.as_str()), Some(random));
    }

    #[test]
    fn a_publishers_name_is_safe_in_a_url_and_short() {
        assert!(PublisherName::new("phone-2").is_some());
        for bad in ["", "-a", "a:b", "A", &"x".repeat(33)] {
            assert!(PublisherName::new(bad).is_none(), "{bad:?}");
        }
    }
}
