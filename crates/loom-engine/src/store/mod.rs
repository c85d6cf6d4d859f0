//! Where finished recordings are kept for good, beside or instead of the local disk: a [`Store`], and the way there and back.
//!
//! The local disk stays the place where a part is durable first. What is finished is sent from there, in the background, in an order
//! such that nothing in the store names what is not there: segments, then playlists, then `recording.json`. Each object is sent by one
//! put, which is atomic; a [`Journal`](journal::Journal) in the recording's folder says what has arrived. After a crash, what the journal does not
//! know is looked up before it is sent, so that nothing is sent twice.

mod blob;
mod fetch;
mod journal;
mod objects;
#[cfg(feature = "s3")]
mod s3;
mod send;
mod survey;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::jobs::RetryConfig;

pub(crate) use blob::{Blob, BlobFile};
pub(crate) use fetch::fetch;
pub use objects::open_store;
pub(crate) use send::{
    Lists, Sending, Stores, erase, erase_objects, is_pending, send_all, send_once, send_soon, set_class,
};

/// Objects by their keys: components of `A-Z a-z 0-9 - _ .` with `/` between them.
///
/// Whoever implements it keeps one promise above all: a put is atomic, so that a reader sees the object as it was or as it is, and one
/// that fails may leave it as it was or as it should be, but nothing between.
///
/// A store that keeps count of what is put into another one:
///
/// ```
/// use std::ops::Range;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use async_trait::async_trait;
/// use bytes::Bytes;
/// use loom_engine::{About, Object, StorageClass, Store, StoreError};
///
/// #[derive(Debug)]
/// struct Counted {
///     store: Arc<dyn Store>,
///     bytes: AtomicU64,
/// }
///
/// #[async_trait]
/// impl Store for Counted {
///     async fn put(&self, key: &str, data: Bytes, about: &About) -> Result<(), StoreError> {
///         self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
///         self.store.put(key, data, about).await
///     }
///
///     async fn look_up(&self, key: &str) -> Result<Option<Object>, StoreError> {
///         self.store.look_up(key).await
///     }
///
///     async fn read(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
///         self.store.read(key, range).await
///     }
///
///     async fn list(&self, folder: &str) -> Result<Vec<Object>, StoreError> {
///         self.store.list(folder).await
///     }
///
///     async fn folders(&self) -> Result<Vec<String>, StoreError> {
///         self.store.folders().await
///     }
///
///     async fn delete(&self, keys: Vec<String>) -> Result<(), StoreError> {
///         self.store.delete(keys).await
///     }
///
///     async fn set_class(&self, key: &str, class: StorageClass) -> Result<(), StoreError> {
///         self.store.set_class(key, class).await
///     }
/// }
/// ```
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Puts a whole object in place of what is there. It is asked once: whoever calls decides what a failure means.
    ///
    /// # Errors
    /// [`StoreError`]: whether it has arrived is then unknown.
    async fn put(&self, key: &str, data: Bytes, about: &About) -> Result<(), StoreError>;

    /// What is under a key; `None` where nothing is.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn look_up(&self, key: &str) -> Result<Option<Object>, StoreError>;

    /// Bytes of an object, fewer only at its end; `None` where there is no such object.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn read(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError>;

    /// Every object whose key begins with `folder` and a `/`, in any order. What was put is listed.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(&self, folder: &str) -> Result<Vec<Object>, StoreError>;

    /// The first components of all keys that have more than one.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn folders(&self) -> Result<Vec<String>, StoreError>;

    /// Deletes objects; those that are not there are no error.
    ///
    /// # Errors
    /// [`StoreError`]: some may be deleted then.
    async fn delete(&self, keys: Vec<String>) -> Result<(), StoreError>;

    /// Tags an object with another class, without sending it again.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] where the store has no tags, and other [`StoreError`]s.
    async fn set_class(&self, key: &str, class: StorageClass) -> Result<(), StoreError>;
}

/// What is said of an object that is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct About {
    /// The tag that it gets, where the store has tags.
    pub class: StorageClass,
    /// The SHA-256 of its bytes, which [`Store::look_up`] tells again.
    pub digest: Digest,
}

/// An object in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its size, bytes.
    pub size: u64,
    /// The SHA-256 of its bytes; [`Store::list`] need not tell it.
    pub digest: Option<Digest>,
}

/// A SHA-256 (FIPS 180-4).
pub type Digest = [u8; 32];

/// How often a recording will be asked for. Objects are tagged with it (`loom-class`), so that a bucket's lifecycle rules can move
/// them; what `archive` has moved to where it must be restored from first cannot be watched meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageClass {
    /// Often.
    #[default]
    Hot,
    /// Now and then.
    Warm,
    /// Seldom.
    Cold,
    /// Hardly ever.
    Archive,
}

/// The name of the tag.
const CLASS_TAG: &str = "loom-class";

/// The store of an engine.
///
/// ```
/// use loom_engine::{EngineConfig, StorageClass, StoreConfig, open_store};
///
/// let config = EngineConfig {
///     store: Some(StoreConfig {
///         class: StorageClass::Warm,
///         ..StoreConfig::new(open_store("memory:")?)
///     }),
///     ..EngineConfig::default()
/// };
/// # let _ = config;
/// # Ok::<(), loom_engine::StoreError>(())
/// ```
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The store. One engine at a time writes to it.
    pub store: Arc<dyn Store>,
    /// The class of recordings, where [`Recording::set_class`](crate::Recording::set_class) does not say another.
    pub class: StorageClass,
    /// How often the way there is tried once a recording has ended: for a day, where nothing else is said. While it is live there is no last
    /// try.
    pub retry: RetryConfig,
}

/// What a store could not do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The address names no store.
    #[error("{address:?} is no store: {why}")]
    Address {
        /// The address.
        address: String,
        /// What it lacks.
        why: String,
    },
    /// The store refused, or was not reached.
    #[error("the store did not {doing} {key:?}: {source}")]
    Failed {
        /// What was asked.
        doing: &'static str,
        /// Of which object or folder.
        key: String,
        /// What was said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store cannot do this at all.
    #[error("this store cannot {0}")]
    Unsupported(&'static str),
}

impl StoreConfig {
    /// Of class [`StorageClass::Hot`].
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            class: StorageClass::default(),
            retry: RetryConfig {
                tries: 1_000,
                first_pause: Duration::from_millis(500),
                ..RetryConfig::default()
            },
        }
    }
}

impl About {
    fn of(data: &Bytes, class: StorageClass) -> Self {
        use sha2::Digest as _;
        Self {
            class,
            digest: sha2::Sha256::digest(data).into(),
        }
    }
}

impl StoreError {
    fn failed(
        doing: &'static str,
        key: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed {
            doing,
            key: key.to_owned(),
            source: source.into(),
        }
    }
}

impl StorageClass {
    /// The tag's value, and what [`FromStr`] reads.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Cold => "cold",
            Self::Archive => "archive",
        }
    }
}

impl fmt::Display for StorageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StorageClass {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Hot, Self::Warm, Self::Cold, Self::Archive];
        all.into_iter()
            .find(|class| class.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no class: hot, warm, cold or archive"))
    }
}

/// The digest as text.
fn hex(digest: &Digest) -> String {
    use std::fmt::Write;
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `None` for what is no digest.
fn unhex(text: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(digest)
}
