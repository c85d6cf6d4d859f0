//! Stores that the crate `object_store` reaches: memory, a folder, and, with the feature `s3`, S3.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
#[cfg(feature = "s3")]
use object_store::prefix::PrefixStore;
use object_store::{Attribute, Error, GetOptions, ObjectStore, PutMode, PutOptions, PutPayload, TagSet};

#[cfg(feature = "s3")]
use super::s3::Tagger;
use super::{About, CLASS_TAG, Digest, Object, StorageClass, Store, StoreError, hex, unhex};
use crate::limits;

/// Opens a store by its address:
///
/// - `memory:` is gone with the process;
/// - `file:///PATH`, or a path, is a folder, such as one on a disk of the network; it is made where it is missing;
/// - `s3://BUCKET/PREFIX` (feature `s3`) is S3 or what speaks its protocol, reached as the environment says: `AWS_ENDPOINT_URL`,
///   `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, or by the machine's own role.
///
/// # Errors
/// [`StoreError::Address`].
pub fn open_store(address: &str) -> Result<Arc<dyn Store>, StoreError> {
    let refused = |why: String| StoreError::Address {
        address: address.to_owned(),
        why,
    };
    match address.split_once(':') {
        Some(("memory", "")) => Ok(Arc::new(Objects::new(
            Arc::new(InMemory::new()),
            Keeps::Attributes,
        ))),
        #[cfg(feature = "s3")]
        Some(("s3", place)) => super::s3::open(place).map_err(refused),
        #[cfg(not(feature = "s3"))]
        Some(("s3", _)) => Err(refused("this build has no S3; it is the feature `s3`".to_owned())),
        Some(("file", path)) => match path.strip_prefix("//") {
            Some(path) if path.starts_with('/') => folder(path).map_err(refused),
            _ => Err(refused("it is file:///PATH".to_owned())),
        },
        None if !address.is_empty() => folder(address).map_err(refused),
        _ => Err(refused(
            "it is s3://BUCKET/PREFIX, file:///PATH, or a path".to_owned(),
        )),
    }
}

fn folder(path: &str) -> Result<Arc<dyn Store>, String> {
    let path = PathBuf::from(path);
    std::fs::create_dir_all(&path).map_err(|why| format!("{}: {why}", path.display()))?;
    let folder = LocalFileSystem::new_with_prefix(&path).map_err(|why| why.to_string())?;
    Ok(Arc::new(Objects::new(
        Arc::new(folder.with_automatic_cleanup(true).with_fsync(true)),
        Keeps::Nothing,
    )))
}

/// What is kept with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    /// Its bytes alone.
    Nothing,
    /// Its digest too.
    Attributes,
}

/// A store that `object_store` reaches.
#[derive(Debug)]
pub(super) struct Objects {
    /// Here no request is made twice by itself.
    puts: Arc<dyn ObjectStore>,
    /// Here one that failed may be made again, for that changes nothing.
    reads: Arc<dyn ObjectStore>,
    keeps: Keeps,
    #[cfg(feature = "s3")]
    tagger: Option<Tagger>,
}

impl Objects {
    fn new(store: Arc<dyn ObjectStore>, keeps: Keeps) -> Self {
        Self {
            puts: store.clone(),
            reads: store,
            keeps,
            #[cfg(feature = "s3")]
            tagger: None,
        }
    }

    /// `puts` and `reads` are ways to the same objects, all of them below `prefix`.
    #[cfg(feature = "s3")]
    pub(super) fn below(
        prefix: &Path,
        puts: impl ObjectStore,
        reads: impl ObjectStore,
        tagger: Tagger,
    ) -> Self {
        Self {
            tagger: Some(tagger),
            puts: Arc::new(PrefixStore::new(puts, prefix.clone())),
            reads: Arc::new(PrefixStore::new(reads, prefix.clone())),
            keeps: Keeps::Attributes,
        }
    }
}

#[async_trait]
impl Store for Objects {
    async fn put(&self, key: &str, data: Bytes, about: &About) -> Result<(), StoreError> {
        let mut options = PutOptions::from(PutMode::Overwrite);
        if self.keeps == Keeps::Attributes {
            options.attributes.insert(DIGEST, hex(&about.digest).into());
            options.tags = tags(about.class);
        }
        let path = path(key)?;
        let put = self.puts.put_opts(&path, PutPayload::from(data), options);
        put.await.map_err(|why| StoreError::failed("take", key, why))?;
        Ok(())
    }

    async fn look_up(&self, key: &str) -> Result<Option<Object>, StoreError> {
        let head = GetOptions::new().with_head(self.keeps == Keeps::Attributes);
        let found = match self.reads.get_opts(&path(key)?, head).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(why) => return Err(StoreError::failed("look up", key, why)),
        };
        let size = found.meta.size;
        let digest = match self.keeps {
            Keeps::Attributes => found.attributes.get(&DIGEST).and_then(|text| unhex(text)),
            // where nothing is kept with it, the bytes themselves tell
            Keeps::Nothing => Some(
                digest_of(found)
                    .await
                    .map_err(|why| StoreError::failed("read", key, why))?,
            ),
        };
        Ok(Some(Object {
            key: key.to_owned(),
            size,
            digest,
        }))
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        let failed = |why| StoreError::failed("read", key, why);
        let options = GetOptions::new().with_range(Some(range));
        match self.reads.get_opts(&path(key)?, options).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(why) => Err(failed(why)),
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<Object>, StoreError> {
        let failed = |why| StoreError::failed("list", folder, why);
        let mut listed = self.reads.list(Some(&path(folder)?));
        let mut objects = Vec::new();
        while let Some(found) = listed.try_next().await.map_err(failed)? {
            if objects.len() >= limits::OBJECTS {
                return Err(StoreError::failed("list", folder, "there are too many objects"));
            }
            objects.push(Object {
                key: found.location.to_string(),
                size: found.size,
                digest: None,
            });
        }
        Ok(objects)
    }

    async fn folders(&self) -> Result<Vec<String>, StoreError> {
        let listed = self.reads.list_with_delimiter(None).await;
        let listed = listed.map_err(|why| StoreError::failed("list", "", why))?;
        let names = listed.common_prefixes.iter();
        Ok(names
            .filter_map(|path| path.filename().map(str::to_owned))
            .collect())
    }

    async fn delete(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let paths: Vec<Path> = keys.iter().map(|key| path(key)).collect::<Result<_, _>>()?;
        let mut deleted = self
            .reads
            .delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
        while let Some(done) = deleted.next().await {
            match done {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(why) => {
                    let first = keys.first().map_or("", String::as_str);
                    return Err(StoreError::failed("delete", first, why));
                }
            }
        }
        Ok(())
    }

    async fn set_class(&self, key: &str, class: StorageClass) -> Result<(), StoreError> {
        #[cfg(feature = "s3")]
        if let Some(tagger) = &self.tagger {
            return tagger.tag(key, class).await;
        }
        let _ = (key, class);
        Err(StoreError::Unsupported("change the class of what it has"))
    }
}

/// The digest of an object, read a piece at a time.
async fn digest_of(found: object_store::GetResult) -> Result<Digest, Error> {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    let mut pieces = found.into_stream();
    while let Some(piece) = pieces.try_next().await? {
        hash.update(&piece);
    }
    Ok(hash.finalize().into())
}

pub(super) fn path(key: &str) -> Result<Path, StoreError> {
    Path::parse(key).map_err(|why| StoreError::failed("know", key, why))
}

fn tags(class: StorageClass) -> TagSet {
    let mut tags = TagSet::default();
    tags.push(CLASS_TAG, class.as_str());
    tags
}

/// `x-amz-meta-sha256`.
const DIGEST: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("sha256"));
