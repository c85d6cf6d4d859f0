//! The way to the store: what is finished in a recording's folder is sent, in the background.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::journal::{Arrived, FILE, Journal};
use super::survey::{INFO, Survey};
use super::{About, Blob, StorageClass, Store, StoreConfig};
use crate::error::EngineError;
use crate::event::{RecordingInfo, RecordingState};
use crate::folder::{Folder, Stamp, is_composed};
use crate::jobs::{self, JobKind, RetryConfig};
use crate::limits;
use crate::recording::Inner;

/// The engine's store, and what all recordings share on the way there.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) store: Arc<dyn Store>,
    class: StorageClass,
    pub(crate) retry: RetryConfig,
    /// Who holds one may have an object in memory.
    permits: Semaphore,
    /// Where the sending runs, whoever asks for it.
    pub(crate) runtime: Handle,
    /// Recordings are fetched one after the other.
    pub(super) fetching: tokio::sync::Mutex<()>,
    /// The engine has ended: what is not there is sent by the next one.
    over: watch::Sender<bool>,
}

impl Stores {
    pub(crate) fn new(config: &StoreConfig) -> Self {
        Self {
            store: config.store.clone(),
            class: config.class,
            retry: config.retry,
            permits: Semaphore::new(limits::OBJECTS_SENT),
            runtime: Handle::current(),
            fetching: tokio::sync::Mutex::default(),
            over: watch::Sender::new(false),
        }
    }

    /// The class of recordings of which nothing else is said.
    pub(super) fn class(&self) -> StorageClass {
        self.class
    }

    /// Begins nothing more.
    pub(crate) fn end(&self) {
        self.over.send_replace(true);
    }

    fn is_over(&self) -> bool {
        *self.over.borrow()
    }
}

/// How far one recording is on its way to the store.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    /// Read from the folder when it is first asked for.
    journal: Mutex<Option<Journal>>,
    task: Mutex<Task>,
    /// Whoever sends, deletes or tags holds this.
    turn: tokio::sync::Mutex<Turn>,
    /// Objects that may have arrived, though nobody said so: they are looked up before they are sent.
    doubtful: Mutex<BTreeSet<String>>,
    /// It was deleted: nothing is sent any more.
    over: AtomicBool,
}

#[derive(Debug, Default)]
struct Task {
    runs: bool,
    /// There is something new since it last looked.
    again: bool,
}

#[derive(Debug, Default)]
struct Turn {
    /// What an earlier process may have sent has been looked for.
    settled: bool,
    /// When the playlists were last sent.
    listed: Option<Instant>,
}

/// An object to be sent.
#[derive(Debug)]
struct Parcel {
    /// Its key without the recording's own folder.
    name: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Bytes(Bytes),
    /// A stretch of a file, which must still be as it was.
    File {
        file: String,
        stamp: Stamp,
        offset: u64,
        len: u64,
    },
}

impl Sending {
    /// A recording that has just been made: nothing of it can be in the store.
    pub(crate) fn fresh() -> Self {
        Self {
            turn: tokio::sync::Mutex::new(Turn {
                settled: true,
                ..Turn::default()
            }),
            ..Self::default()
        }
    }

    /// The file in the store, where it is there.
    pub(crate) fn blob(&self, recording: &Inner, file: &str) -> Option<Blob> {
        let stores = recording.shared.stores.as_ref()?;
        let pieces = self.journal(&recording.folder, |journal| Ok(journal.pieces(file)));
        Some(Blob::new(
            stores.store.clone(),
            recording.id.as_str(),
            &pieces.ok()??,
        ))
    }

    /// Whether the folder was made again of what the store has.
    pub(crate) fn is_fetched(&self, folder: &Folder) -> Result<bool, EngineError> {
        self.journal(folder, |journal| Ok(journal.is_fetched()))
    }

    /// The names of all objects that have arrived.
    pub(crate) fn names(&self, folder: &Folder) -> Result<Vec<String>, EngineError> {
        self.journal(folder, |journal| Ok(journal.names().map(str::to_owned).collect()))
    }

    fn journal<T>(
        &self,
        folder: &Folder,
        act: impl FnOnce(&mut Journal) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        // it is written whole lines at a time, so a panic elsewhere spoils nothing
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = match &mut *journal {
            Some(journal) => journal,
            none => none.insert(Journal::load(folder)?),
        };
        act(journal)
    }

    fn task(&self) -> MutexGuard<'_, Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doubtful(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// There may be something new to send. Returns at once. What is complete is sent by a job.
pub(crate) fn send_soon(recording: &Arc<Inner>) {
    let Some(stores) = recording.shared.stores.clone() else {
        return;
    };
    if recording.is_complete() {
        recording.sending.task().again = true;
        let info = recording.info();
        let nothing = info.renditions.is_empty() || is_unmade(&info);
        if !nothing && !recording.sending.is_over() && recording.state_now() != RecordingState::Deleted {
            jobs::add(recording, JobKind::Upload);
        }
        return;
    }
    let mut task = recording.sending.task();
    task.again = true;
    if !std::mem::replace(&mut task.runs, true) {
        stores.runtime.spawn(send(recording.clone(), stores.clone()));
    }
}

/// The job [`JobKind::Upload`]: sends what there is of a recording that is complete.
pub(crate) async fn send_all(recording: &Arc<Inner>, stores: &Arc<Stores>) -> Result<(), EngineError> {
    recording.sending.task().again = false;
    let sent = send_once(recording, stores, Lists::Now).await;
    sent.inspect_err(|_| metrics::counter!("loom_store_failures_total").increment(1))
}

/// Sends what there is of a recording that grows, until there is nothing new.
async fn send(recording: Arc<Inner>, stores: Arc<Stores>) {
    let (mut steps, mut over) = (recording.published.subscribe(), stores.over.subscribe());
    let endless = RetryConfig {
        tries: u32::MAX,
        ..stores.retry
    };
    let mut failed = 0_u32;
    loop {
        if recording.is_complete() {
            recording.sending.task().runs = false;
            return send_soon(&recording);
        }
        recording.sending.task().again = false;
        let wait = match send_once(&recording, &stores, Lists::WhenDue).await {
            Ok(()) => {
                failed = 0;
                limits::SEND_EVERY
            }
            Err(why) => {
                metrics::counter!("loom_store_failures_total").increment(1);
                tracing::warn!(recording = %recording.id, error = %why, "not all is in the store yet");
                recording.sending.task().again = true;
                failed = failed.saturating_add(1);
                endless
                    .pause(failed, rand::random())
                    .unwrap_or(endless.longest_pause)
            }
        };
        // but not beyond the recording's next step
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = steps.changed() => {}
            _ = over.changed() => {}
        }
        let mut task = recording.sending.task();
        if !task.again || recording.sending.is_over() || stores.is_over() {
            task.runs = false;
            return;
        }
    }
}

/// An edit that is cut off before it is ready is made anew, and not the same to the byte.
fn is_unmade(info: &RecordingInfo) -> bool {
    !info.made_from.is_empty() && !info.state.is_final()
}

/// When the playlists of a recording that grows are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lists {
    Now,
    /// Where it was long ago that they were.
    WhenDue,
}

/// Sends what is new, once: first what is named, then what names it. Where something could not be sent, what names it is not.
pub(crate) async fn send_once(
    recording: &Arc<Inner>,
    stores: &Arc<Stores>,
    lists: Lists,
) -> Result<(), EngineError> {
    let mut turn = recording.sending.turn.lock().await;
    let state = recording.state_now();
    let complete = recording.is_complete();
    let info = recording.info();
    let nothing = info.renditions.is_empty();
    if state == RecordingState::Created || nothing || is_unmade(&info) || recording.sending.is_over() {
        return Ok(());
    }
    let round = Round {
        recording: recording.clone(),
        stores: stores.clone(),
        class: recording
            .sending
            .journal(&recording.folder, |journal| Ok(journal.class()))?
            .unwrap_or(stores.class),
        failed: AtomicBool::new(false),
        sent: AtomicUsize::new(0),
    };
    let working = recording.clone();
    let looked = tokio::task::spawn_blocking(move || -> Result<_, EngineError> {
        let mut survey = Survey::of(&working.folder)?;
        if !complete {
            survey.hold_back();
        }
        let media = working.sending.journal(&working.folder, |journal| {
            Ok(parcels(&working.folder, journal, &survey.media, complete))
        })?;
        Ok((survey, media))
    });
    let (survey, media) = looked.await.map_err(|_| EngineError::ShuttingDown)??;
    let due = turn
        .listed
        .is_none_or(|at| at.elapsed() >= limits::SEND_LISTS_EVERY);
    let with_lists = complete || due || lists == Lists::Now;
    let texts = |files: Vec<(String, Bytes)>| files.into_iter().map(Parcel::text).collect();
    let mut stages: Vec<Vec<Parcel>> = vec![media];
    if with_lists {
        let info = survey.info.map(|info| (INFO.to_owned(), info));
        let is_list = |(name, _): &(String, Bytes)| name.ends_with(".m3u8");
        let (multivariant, beside) = survey.tops.into_iter().partition(is_list);
        stages.push(texts(survey.lists));
        stages.push(texts(beside));
        stages.push(texts(multivariant));
        stages.push(texts(info.into_iter().collect()));
    }
    let whole = complete && state.is_final();
    if stages.iter().any(|stage| !stage.is_empty()) {
        round.settle(&mut turn).await?;
    }
    let all: usize = stages.iter().map(Vec::len).sum();
    for stage in stages {
        round.send(stage, all).await?;
        if recording.sending.is_over() {
            return Ok(());
        }
    }
    if with_lists {
        turn.listed = Some(Instant::now());
    }
    if whole {
        round.clear(&survey.media).await?;
    }
    // what came meanwhile is told by another round
    if whole && !recording.sending.task().again {
        recording.sending.journal(&recording.folder, |journal| {
            journal.set_whole(&recording.folder, true)
        })?;
    }
    Ok(())
}

/// What is to be sent of these files. Of a recording that grows, what has arrived has not changed.
fn parcels(folder: &Folder, journal: &Journal, files: &[String], complete: bool) -> Vec<Parcel> {
    let mut parcels = Vec::new();
    for file in files {
        if !complete && journal.get(file).is_some() {
            continue;
        }
        // where it is not on this disk, there is nothing to send
        let Some(stamp) = folder.stamp(file) else { continue };
        let mut offset = 0;
        while offset == 0 || offset < stamp.len {
            let len = (stamp.len - offset).min(limits::OBJECT_BYTES);
            let name = match stamp.len <= limits::OBJECT_BYTES {
                true => file.clone(),
                false => format!("{file}/{:06}", offset / limits::OBJECT_BYTES),
            };
            if journal.get(&name).and_then(|arrived| arrived.stamp) != Some(stamp) {
                parcels.push(Parcel {
                    name,
                    content: Content::File {
                        file: file.clone(),
                        stamp,
                        offset,
                        len,
                    },
                });
            }
            offset += len.max(1);
        }
    }
    parcels
}

/// One look at a recording, and what comes of it.
struct Round {
    recording: Arc<Inner>,
    stores: Arc<Stores>,
    class: StorageClass,
    /// Something could not be sent: nothing else is begun.
    failed: AtomicBool,
    /// How many objects are there by now.
    sent: AtomicUsize,
}

impl Round {
    /// Looks for what an earlier process may have sent before it could note so.
    async fn settle(&self, turn: &mut Turn) -> Result<(), EngineError> {
        if turn.settled {
            return Ok(());
        }
        let id = self.recording.id.as_str();
        let listed = self.stores.store.list(id).await?;
        let names = listed
            .iter()
            .filter_map(|object| object.key.strip_prefix(id)?.strip_prefix('/'));
        self.recording.sending.doubtful().extend(names.map(str::to_owned));
        turn.settled = true;
        Ok(())
    }

    /// Sends a stage of so many objects in all: a few at a time, and all that were begun to their end.
    async fn send(&self, stage: Vec<Parcel>, all: usize) -> Result<(), EngineError> {
        let ways = stage.into_iter().map(|parcel| self.deliver(parcel));
        let mut ways = stream::iter(ways).buffer_unordered(limits::OBJECTS_SENT);
        let mut first = Ok(());
        while let Some(done) = ways.next().await {
            if done.is_ok() {
                let sent = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
                jobs::progress(&self.recording, JobKind::Upload, sent as f32 / all as f32);
            }
            first = first.and(done);
        }
        first
    }

    /// Deletes compositions from the store in whose place another has come, of which `media` are files.
    async fn clear(&self, media: &[String]) -> Result<(), EngineError> {
        let (sending, folder) = (&self.recording.sending, &self.recording.folder);
        fn composed(name: &str) -> Option<&str> {
            let rendition = name.strip_prefix("hls/")?.split('/').next()?;
            Some(rendition).filter(|it| is_composed(it))
        }
        let kept: BTreeSet<&str> = media.iter().filter_map(|name| composed(name)).collect();
        if kept.is_empty() {
            return Ok(());
        }
        let mut gone: BTreeSet<String> = sending.names(folder)?.into_iter().collect();
        gone.extend(sending.doubtful().iter().cloned());
        gone.retain(|name| composed(name).is_some_and(|rendition| !kept.contains(rendition)));
        if gone.is_empty() {
            return Ok(());
        }
        let keys = gone.iter().map(|name| format!("{}/{name}", self.recording.id));
        self.stores.store.delete(keys.collect()).await?;
        sending.doubtful().retain(|name| !gone.contains(name));
        sending.journal(folder, |journal| journal.forget(folder, gone))
    }

    /// Sends one object, unless it is there already.
    async fn deliver(&self, parcel: Parcel) -> Result<(), EngineError> {
        let (sending, folder) = (&self.recording.sending, &self.recording.folder);
        let _permit = self
            .stores
            .permits
            .acquire()
            .await
            .map_err(|_| EngineError::ShuttingDown)?;
        if sending.is_over() || self.stores.is_over() || self.failed.load(Ordering::Relaxed) {
            return Err(EngineError::NotReady("it has to wait".to_owned()));
        }
        let Parcel { name, content } = parcel;
        let (working, class) = (folder.clone(), self.class);
        let read = tokio::task::spawn_blocking(move || {
            let (data, stamp) = content.read(&working)?;
            let about = About::of(&data, class);
            Ok::<_, EngineError>((data, stamp, about))
        });
        let (data, stamp, about) = read.await.map_err(|_| EngineError::ShuttingDown)??;
        let arrived = Arrived {
            size: data.len() as u64,
            digest: Some(about.digest),
            stamp,
        };
        let known = sending.journal(folder, |journal| Ok(journal.get(&name).copied()))?;
        let same = known.is_some_and(|known| known.digest == arrived.digest);
        if same && known == Some(arrived) {
            return Ok(());
        }
        if !same {
            let key = format!("{}/{name}", self.recording.id);
            let doubt = sending.doubtful().contains(&name);
            let there = match doubt {
                true => self.stores.store.look_up(&key).await?,
                false => None,
            };
            if there.and_then(|there| there.digest) != arrived.digest {
                // it is not whole again until this has arrived
                sending.journal(folder, |journal| journal.set_whole(folder, false))?;
                metrics::counter!("loom_store_puts_total").increment(1);
                metrics::counter!("loom_store_sent_bytes_total").increment(arrived.size);
                // whether or not we are there when it is answered
                sending.doubtful().insert(name.clone());
                let put = self.stores.store.put(&key, data, &about).await;
                put.inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
            }
        }
        sending.journal(folder, |journal| journal.note(folder, [(name.clone(), arrived)]))?;
        sending.doubtful().remove(&name);
        Ok(())
    }
}

impl Parcel {
    fn text((name, text): (String, Bytes)) -> Self {
        Self {
            name,
            content: Content::Bytes(text),
        }
    }
}

impl Content {
    /// Its bytes, and the file as it is. Blocks.
    fn read(self, folder: &Folder) -> Result<(Bytes, Option<Stamp>), EngineError> {
        let changed = |file: &str| EngineError::NotReady(format!("{file} has changed meanwhile"));
        match self {
            Self::Bytes(data) if data.len() as u64 > limits::OBJECT_BYTES => Err(EngineError::NotReady(
                format!("a text of {} bytes is too long for a store", data.len()),
            )),
            Self::Bytes(data) => Ok((data, None)),
            Self::File {
                file,
                stamp,
                offset,
                len,
            } => {
                let data = folder.read(&file, offset, Some(len))?.unwrap_or_default();
                let same = folder.stamp(&file) == Some(stamp) && data.len() as u64 == len;
                same.then_some((data, Some(stamp))).ok_or_else(|| changed(&file))
            }
        }
    }
}

/// Whether the store may lack something of a recording's folder, or the recording has to be completed first. Blocks.
pub(crate) fn is_pending(folder: &Folder) -> Result<bool, EngineError> {
    let Some(info) = folder.load_info()? else {
        return Ok(false);
    };
    if info.state.is_final() && info.renditions.is_empty() {
        return Ok(false); // nothing came of it
    }
    Ok(!Journal::load(folder)?.is_whole() || folder.is_newer_than(FILE))
}

/// Deletes all that the store has of a recording, to which nothing is sent from here on.
pub(crate) async fn erase(recording: &Inner, stores: &Stores) -> Result<(), EngineError> {
    recording.sending.over.store(true, Ordering::Relaxed);
    // what is on its way arrives first
    let _turn = recording.sending.turn.lock().await;
    erase_objects(stores, recording.id.as_str()).await
}

/// As [`erase`], of a recording that nobody has open.
pub(crate) async fn erase_objects(stores: &Stores, id: &str) -> Result<(), EngineError> {
    // first that by which it is known: what a crash leaves of it is no recording
    stores.store.delete(vec![format!("{id}/{INFO}")]).await?;
    for _ in 0..ERASE_ROUNDS {
        let left = stores.store.list(id).await?;
        if left.is_empty() {
            return Ok(());
        }
        let keys = left.into_iter().map(|object| object.key).collect();
        stores.store.delete(keys).await?;
    }
    Err(EngineError::NotReady(format!(
        "the store still lists objects of recording {id}"
    )))
}

/// Tags all that the store has of a recording with another class, and what will be sent.
pub(crate) async fn set_class(
    recording: &Inner,
    stores: &Stores,
    class: StorageClass,
) -> Result<(), EngineError> {
    let (sending, folder) = (&recording.sending, &recording.folder);
    let _turn = sending.turn.lock().await;
    let names = sending.names(folder)?;
    let mut tagged = stream::iter(names)
        .map(|name| async move {
            let key = format!("{}/{name}", recording.id);
            stores.store.set_class(&key, class).await
        })
        .buffer_unordered(limits::OBJECTS_SENT);
    while let Some(done) = tagged.next().await {
        done?;
    }
    sending.journal(folder, |journal| journal.set_class(folder, class))
}

/// How often what is still listed is deleted.
const ERASE_ROUNDS: usize = 3;
