//! The way back: a recording whose folder is gone is made again of what the store has. Playlists and other small files are fetched;
//! segments stay where they are and are read from there.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};

use super::journal::{self, Arrived, Journal};
use super::survey::{INFO, is_name};
use super::{About, Blob, Stores};
use crate::error::EngineError;
use crate::event::RecordingInfo;
use crate::folder::Folder;
use crate::id::RecordingId;
use crate::limits;
use crate::salvage;

/// Makes the recording's folder, where the store has the recording; `false` where it has not.
pub(crate) async fn fetch(stores: &Stores, id: &RecordingId, folder: &Folder) -> Result<bool, EngineError> {
    let blob = |name: &str, arrived: Arrived| {
        Blob::new(stores.store.clone(), id.as_str(), &[(name.to_owned(), arrived)])
    };
    let Some(known) = stores.store.look_up(&format!("{id}/{INFO}")).await? else {
        return Ok(false);
    };
    let _one = stores.fetching.lock().await;
    if folder.load_info()?.is_some() {
        return Ok(true); // somebody else has fetched it
    }
    let broken =
        |what: &str| EngineError::NotReady(format!("the store's {what} of recording {id} cannot be read"));
    let unknown = |size| Arrived {
        size,
        digest: None,
        stamp: None,
    };
    let read = |error: std::io::Error| EngineError::io("read from the store", id.as_str())(error);
    let json = blob(INFO, unknown(known.size)).read_all().await.map_err(read)?;
    let info: RecordingInfo = serde_json::from_slice(&json).map_err(|_| broken(INFO))?;
    if info.id != *id {
        return Err(broken(INFO));
    }

    let listed = stores.store.list(id.as_str()).await?;
    let names = listed.iter().filter_map(|object| {
        let name = object.key.strip_prefix(id.as_str())?.strip_prefix('/')?;
        let own = name.split('/').count() <= DEPTH && name.split('/').all(is_name);
        own.then(|| (name.to_owned(), unknown(object.size)))
    });
    let mut objects: Vec<(String, Arrived)> = names.collect();
    folder.create()?;
    let class = stores.class();
    let get = |at: usize, name: String, arrived: Arrived| {
        let (blob, folder) = (blob(&name, arrived), folder.clone());
        async move {
            let data = blob.read_all().await.map_err(read)?;
            let digest = About::of(&data, class).digest;
            let put = tokio::task::spawn_blocking(move || {
                folder.put(&name, &data)?;
                Ok::<_, EngineError>(folder.stamp(&name))
            });
            let stamp = put.await.map_err(|_| EngineError::ShuttingDown)??;
            Ok::<_, EngineError>((at, digest, stamp))
        }
    };
    let small = objects
        .iter()
        .enumerate()
        .filter(|(_, (name, _))| is_small(name) && name != INFO);
    let ways: Vec<_> = small
        .map(|(at, (name, arrived))| get(at, name.clone(), *arrived))
        .collect();
    let mut ways = stream::iter(ways).buffer_unordered(limits::FILES_FETCHED);
    while let Some((at, digest, stamp)) = ways.try_next().await? {
        objects[at].1.digest = Some(digest);
        objects[at].1.stamp = stamp;
    }
    // what an attempt that broke off has left
    folder.discard(journal::FILE);
    let mut journal = Journal::default();
    journal.set_fetched(folder)?;
    journal.note(folder, objects.iter().cloned())?;
    if !info.state.is_final() {
        let there: BTreeSet<&str> = objects.iter().map(|(name, _)| first_of(name)).collect();
        salvage::end_at_missing(folder, |name| there.contains(name));
    }
    // by this the folder is a recording
    folder.put(INFO, &json)?;
    tracing::info!(recording = %id, objects = objects.len(), "fetched from the store");
    Ok(true)
}

/// What is fetched whole: all that is no segment, sheet of thumbnails or the like.
fn is_small(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [_] | ["hls", _] | ["keys", _] => true,
        ["hls", _, file] => file.ends_with(".m3u8"),
        _ => false,
    }
}

/// The file that an object is one of the pieces of.
fn first_of(name: &str) -> &str {
    match name.rsplit_once('/') {
        Some((file, "000000")) => file,
        _ => name,
    }
}

/// Folders and file of the longest name: `hls/RENDITION/SEGMENT/PIECE`.
const DEPTH: usize = 4;
