//! A [`Store`] in memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use loom_engine::{About, Object, StorageClass, Store, StoreError};

/// Objects by their keys. A put is atomic, for it is one insertion under the lock.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    objects: Mutex<BTreeMap<String, (Bytes, About)>>,
}

impl Shelf {
    /// How many objects there are of a recording.
    pub(crate) fn count(&self, recording: &str) -> usize {
        let folder = format!("{recording}/");
        self.objects()
            .keys()
            .filter(|key| key.starts_with(&folder))
            .count()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, (Bytes, About)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn object(key: &str, (data, about): &(Bytes, About)) -> Object {
    Object {
        key: key.to_owned(),
        size: data.len() as u64,
        digest: Some(about.digest),
    }
}

#[async_trait]
impl Store for Shelf {
    async fn put(&self, key: &str, data: Bytes, about: &About) -> Result<(), StoreError> {
        self.objects().insert(key.to_owned(), (data, *about));
        Ok(())
    }

    async fn look_up(&self, key: &str) -> Result<Option<Object>, StoreError> {
        Ok(self.objects().get(key).map(|it| object(key, it)))
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        let cut = |(data, _): &(Bytes, About)| {
            let end = (range.end as usize).min(data.len());
            data.slice((range.start as usize).min(end)..end)
        };
        Ok(self.objects().get(key).map(cut))
    }

    async fn list(&self, folder: &str) -> Result<Vec<Object>, StoreError> {
        let folder = format!("{folder}/");
        let objects = self.objects();
        let within = objects.iter().filter(|(key, _)| key.starts_with(&folder));
        Ok(within.map(|(key, it)| object(key, it)).collect())
    }

    async fn folders(&self) -> Result<Vec<String>, StoreError> {
        let objects = self.objects();
        let mut folders: Vec<String> = objects
            .keys()
            .filter_map(|key| Some(key.split_once('/')?.0.to_owned()))
            .collect();
        folders.dedup();
        Ok(folders)
    }

    async fn delete(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let mut objects = self.objects();
        keys.iter().for_each(|key| drop(objects.remove(key)));
        Ok(())
    }

    async fn set_class(&self, key: &str, class: StorageClass) -> Result<(), StoreError> {
        if let Some((_, about)) = self.objects().get_mut(key) {
            about.class = class;
        }
        Ok(())
    }
}
