//! Where the keys of encrypted recordings come from.

use std::fmt;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use loom_hls::{ContentKey, Encryption, EncryptionScheme, KeyBytes};
use rand::RngExt;

use crate::id::RecordingId;

/// How recordings are encrypted.
///
/// ```
/// use std::num::NonZeroU32;
/// use loom_engine::{EncryptionConfig, EncryptionScheme, EngineConfig};
///
/// let config = EngineConfig {
///     encryption: Some(EncryptionConfig {
///         rotation: NonZeroU32::new(30), // another key every 30 segments
///         ..EncryptionConfig::new(EncryptionScheme::Cbcs)
///     }),
///     ..EngineConfig::default()
/// };
/// # let _ = config;
/// ```
#[derive(Debug, Clone)]
pub struct EncryptionConfig {
    /// The scheme.
    pub scheme: EncryptionScheme,
    /// How many segments a key serves; `None`: one key serves a recording.
    pub rotation: Option<NonZeroU32>,
    /// Who makes the keys.
    pub keys: Arc<dyn KeyProvider>,
}

impl EncryptionConfig {
    /// With [`RandomKeys`], one a recording.
    pub fn new(scheme: EncryptionScheme) -> Self {
        Self {
            scheme,
            rotation: None,
            keys: Arc::new(RandomKeys),
        }
    }

    pub(crate) fn packaged(&self) -> Encryption {
        Encryption {
            scheme: self.scheme,
            rotation: self.rotation,
        }
    }
}

/// What a [`KeyProvider`] gives in the end: a key, or why there is none. It is dropped where it takes longer than ten seconds.
pub type KeyFuture = Pin<Box<dyn Future<Output = Result<ContentKey, String>> + Send>>;

/// Makes keys, or fetches them from where a DRM system keeps them.
///
/// The first key of a recording is waited for, and without it the recording fails; one that comes late leaves the one before in
/// force. A key whose URI is `key-PERIOD.bin` is kept in the recording's folder, and
/// [`Recording::hls`](crate::Recording::hls) answers that path with it: whoever may fetch the playlists may fetch the key. Any other URI is for
/// the host to answer.
///
/// ```
/// use loom_engine::{ContentKey, KeyBytes, KeyFuture, KeyProvider, RecordingId};
///
/// /// One key for everything, which the program's own server hands to whom it knows.
/// #[derive(Debug)]
/// struct One(KeyBytes);
///
/// impl KeyProvider for One {
///     fn key(&self, recording: RecordingId, period: u32) -> KeyFuture {
///         let key = ContentKey {
///             period,
///             id: [1; 16],
///             key: self.0.clone(),
///             iv: [2; 16],
///             uri: format!("https://keys.example/{recording}"),
///             formats: Vec::new(),
///             pssh: Vec::new(),
///         };
///         Box::pin(async move { Ok(key) })
///     }
/// }
/// ```
pub trait KeyProvider: fmt::Debug + Send + Sync {
    /// The key `period`, from 0, of a recording.
    fn key(&self, recording: RecordingId, period: u32) -> KeyFuture;
}

/// Keys out of the system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomKeys;

impl KeyProvider for RandomKeys {
    fn key(&self, _: RecordingId, period: u32) -> KeyFuture {
        let mut rng = rand::rng();
        let key = ContentKey {
            period,
            id: rng.random(),
            key: KeyBytes::new(rng.random()),
            iv: rng.random(),
            uri: file(period),
            formats: Vec::new(),
            pssh: Vec::new(),
        };
        Box::pin(std::future::ready(Ok(key)))
    }
}

/// The path of a key that the recording's folder keeps.
pub(crate) fn file(period: u32) -> String {
    format!("key-{period}.bin")
}

/// Whether a path is one of a key, as it is written.
#[cfg(feature = "hls")]
pub(crate) fn is_file(path: &str) -> bool {
    let number = path
        .strip_prefix("key-")
        .and_then(|rest| rest.strip_suffix(".bin"));
    number.is_some_and(|number| number.parse().is_ok_and(|period| file(period) == path))
}

/// How long a key is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_of_a_key_is_one() {
        assert!(is_file("key-0.bin") && is_file("key-17.bin"));
        for other in [
            "key-.bin",
            "key-01.bin",
            "key-+1.bin",
            "key-1.bin/..",
            "../key-1.bin",
            "key--1.bin",
        ] {
            assert!(!is_file(other), "{other}");
        }
    }

    #[tokio::test]
    async fn no_two_random_keys_are_alike() {
        let id = RecordingId::random();
        let one = RandomKeys.key(id.clone(), 0).await.expect("a key");
        let other = RandomKeys.key(id, 1).await.expect("a key");
        assert_ne!(one.key, other.key);
        assert_ne!(one.id, other.id);
        assert_eq!(other.uri, "key-1.bin");
    }
}
