use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
#[cfg(feature = "ingest")]
use std::time::Duration;

#[cfg(feature = "hls")]
use loom_hls::{PathwayClone, Steering};
#[cfg(feature = "ingest")]
use loom_ingest::Ingest;
use loom_transcode::{Backend, Capabilities};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::admission::{Admission, LiveLoad};
use crate::captions::Speech;
use crate::config::EngineConfig;
#[cfg(feature = "hls")]
use crate::config::STEERING_TTL;
use crate::disk::{Disk, Files};
use crate::edit::{self, Piece};
use crate::error::EngineError;
use crate::event::{RecordingInfo, RecordingState};
use crate::finish;
use crate::folder::{Folder, Safety};
use crate::gather::stopped;
use crate::id::RecordingId;
#[cfg(feature = "transcode")]
use crate::import::{self, Place};
use crate::jobs::{self, JobKind};
use crate::life::Step;
use crate::packaging::PackagingThreads;
use crate::recording::{Inner, Recording};
use crate::store::{self, Sending, Stores};
use crate::sync::Syncer;

/// The engine, `Send` and `Sync`. Clones are handles to the same one; when the last is dropped, every live recording is ended.
///
/// ```no_run
/// use loom_engine::{Engine, EngineConfig, RecordingId};
///
/// # async fn example() -> Result<(), loom_engine::EngineError> {
/// let engine = Engine::start(EngineConfig::default()).await?;
/// for id in engine.recordings()? {
///     let recording = engine.recording(&id)?;
///     println!("{id}: {} s, {}", recording.info().duration, recording.info().state);
/// }
/// let next = engine.create(RecordingId::random())?;
/// // … and when the program ends, every recording ends as if somebody had stopped it
/// engine.shutdown().await;
/// # drop(next);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the last one ends every recording"]
#[derive(Debug, Clone)]
pub struct Engine {
    owner: Arc<Owner>,
}

/// Whether captions can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaptionsStatus {
    /// The model is being found, downloaded or read.
    Loading {
        /// What is going on, in a sentence.
        note: String,
    },
    /// They are.
    On {
        /// The model's name.
        model: String,
    },
    /// They are not; recordings work without.
    Off {
        /// Why, in a sentence.
        why: String,
    },
}

impl fmt::Display for CaptionsStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loading { note } => write!(f, "Captions are being prepared: {note}"),
            Self::On { model } => write!(f, "Captions are on ({model})"),
            Self::Off { why } => write!(f, "Captions are off: {why}"),
        }
    }
}

/// Ends everything when the last [`Engine`] goes; the recordings' tasks hold only what they share.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.stop_all();
        self.shared.over.send_replace(true);
        if let Some(stores) = &self.shared.stores {
            stores.end();
        }
    }
}

/// What every recording of an engine uses.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    #[cfg(feature = "ingest")]
    pub(crate) ingest: Ingest,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) capabilities: Capabilities,
    pub(crate) admission: Arc<Admission>,
    pub(crate) speech: Arc<Speech>,
    pub(crate) packaging: PackagingThreads,
    pub(crate) stores: Option<Arc<Stores>>,
    /// The language model is asked about one recording at a time.
    pub(crate) briefs: Arc<Semaphore>,
    /// Chunks of files that are encoded here take turns.
    #[cfg(feature = "transcode")]
    pub(crate) chunks: Semaphore,
    /// One recording's screen and camera are made into one picture at a time.
    #[cfg(feature = "transcode")]
    pub(crate) compositions: Arc<Semaphore>,
    #[cfg(feature = "transcode")]
    pub(crate) place: Place,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) sync: Syncer,
    /// Where jobs are done, whoever asks for it.
    pub(crate) runtime: Handle,
    /// Turns true when the engine has ended: what is left to be done is left to the next one.
    pub(crate) over: watch::Sender<bool>,
    /// How viewers are steered between pathways, where there are any.
    #[cfg(feature = "hls")]
    steering: Mutex<Option<Steering>>,
    /// Who is in memory. Handles and running tasks keep a recording there; what nobody holds is read from disk again.
    recordings: Mutex<HashMap<RecordingId, Weak<Inner>>>,
}

impl Engine {
    /// Binds the UDP port (feature `ingest`), probes the codecs (`transcode`), and begins to load the caption model.
    ///
    /// Cancellation: nothing is left of it.
    ///
    /// # Errors
    /// [`EngineError::Package`] where live recordings could not be packaged as configured; else where the port or the data folder cannot be
    /// had, or GStreamer cannot start.
    pub async fn start(config: EngineConfig) -> Result<Self, EngineError> {
        Self::start_on(Arc::new(Files), config).await
    }

    /// As [`Self::start`], on another disk than the system's.
    pub(crate) async fn start_on(disk: Arc<dyn Disk>, config: EngineConfig) -> Result<Self, EngineError> {
        let machine = tokio::task::spawn_blocking(move || Machine::probe(disk));
        let machine = machine.await.map_err(|_| EngineError::ShuttingDown)??;
        Self::start_with(machine, config).await
    }

    /// As [`Self::start`], with a machine that is known.
    pub(crate) async fn start_with(machine: Machine, config: EngineConfig) -> Result<Self, EngineError> {
        config.check()?;
        let root = config.data_dir.join("recordings");
        fs::create_dir_all(&root).map_err(EngineError::io("create the folder", &root))?;
        #[cfg(feature = "hls")]
        let steering = match config.playlists.pathways.as_slice() {
            [] => None,
            pathways => Some(Steering::new(pathways, STEERING_TTL)?),
        };
        let Machine {
            disk,
            backend,
            capabilities,
            packaging,
        } = machine;
        #[cfg(feature = "ingest")]
        let ingest = bind(&config).await?;
        let speech = Speech::load(config.captions.clone());
        let stores = config.store.as_ref().map(Stores::new).map(Arc::new);
        let sync = Syncer::start(disk.clone(), &root, config.sync_every)
            .map_err(EngineError::io("watch over", &root))?;
        let live_cores = config
            .live_cores
            .unwrap_or(capabilities.cores as f64 * LIVE_SHARE);
        let shared = Arc::new(Shared {
            stores,
            briefs: Arc::new(Semaphore::new(1)),
            #[cfg(feature = "transcode")]
            chunks: Semaphore::new(config.files.at_once.max(1)),
            #[cfg(feature = "transcode")]
            compositions: Arc::new(Semaphore::new(1)),
            #[cfg(feature = "transcode")]
            place: Place::new(&config.files, &backend),
            disk,
            sync,
            config,
            #[cfg(feature = "ingest")]
            ingest,
            admission: Admission::new(live_cores, backend.clone()),
            backend,
            capabilities,
            speech,
            packaging,
            runtime: Handle::current(),
            over: watch::Sender::new(false),
            #[cfg(feature = "hls")]
            steering: Mutex::new(steering),
            recordings: Mutex::new(HashMap::new()),
        });
        shared.admission.watch();
        let found = shared.on_disk()?;
        tokio::spawn(catch_up(Arc::downgrade(&shared), found));
        Ok(Self {
            owner: Arc::new(Owner { shared }),
        })
    }

    /// How it was configured.
    pub fn config(&self) -> &EngineConfig {
        &self.owner.shared.config
    }

    /// The pathways as viewers are told to prefer them, the best first; empty where there are none.
    #[cfg(feature = "hls")]
    pub fn ranking(&self) -> Vec<String> {
        let steering = self.owner.shared.steering();
        steering
            .as_ref()
            .map_or_else(Vec::new, |it| it.ranking().to_vec())
    }

    /// Ranks the pathways anew, the best first: viewers of every recording, live or not, follow within seconds.
    ///
    /// # Errors
    /// [`EngineError::Package`] where the ranking is empty, or names one that is unknown or one twice.
    #[cfg(feature = "hls")]
    pub fn set_ranking(&self, ranking: &[String]) -> Result<(), EngineError> {
        match &mut *self.owner.shared.steering() {
            Some(steering) => Ok(steering.set_ranking(ranking)?),
            None => Err(EngineError::NotReady("there are no pathways to rank".to_owned())),
        }
    }

    /// Adds pathways that are copies of known ones on other hosts (RFC 8216bis §7.3), in place of those added before. The ranking
    /// may name them from here on.
    ///
    /// # Errors
    /// [`EngineError::Package`] where one breaks a rule.
    #[cfg(feature = "hls")]
    pub fn set_pathway_clones(&self, clones: Vec<PathwayClone>) -> Result<(), EngineError> {
        match &mut *self.owner.shared.steering() {
            Some(steering) => Ok(steering.set_clones(clones)?),
            None => Err(EngineError::NotReady("there are no pathways to copy".to_owned())),
        }
    }

    /// Whether as many recordings are live as [`EngineConfig::max_live`](crate::EngineConfig::max_live) allows, so that
    /// another publisher would be refused.
    pub fn is_full(&self) -> bool {
        self.owner.shared.live_count() >= self.owner.shared.config.max_live
    }

    /// What the ladders of live recordings take of the machine, and how much is left for others.
    pub fn live_load(&self) -> LiveLoad {
        self.owner.shared.admission.load()
    }

    /// The UDP address that publishers send to.
    #[cfg(feature = "ingest")]
    pub fn udp_addr(&self) -> std::net::SocketAddr {
        self.owner.shared.ingest.local_addr()
    }

    /// Whether captions can be written.
    pub fn captions(&self) -> CaptionsStatus {
        self.owner.shared.speech.status()
    }

    /// Makes a recording, in state `created`. It fails where nobody publishes to it within
    /// [`unused_after`](EngineConfig::unused_after). Call it within a Tokio runtime.
    ///
    /// # Errors
    /// [`EngineError::Exists`], [`EngineError::DiskFull`], [`EngineError::Io`].
    pub fn create(&self, id: RecordingId) -> Result<Recording, EngineError> {
        let shared = &self.owner.shared;
        let folder = shared.folder(&id);
        if folder.exists() {
            return Err(EngineError::Exists(id));
        }
        shared.check_space()?;
        folder.create()?;
        let info = RecordingInfo {
            id: id.clone(),
            state: RecordingState::Created,
            reason: None,
            duration: 0.0,
            tracks: Vec::new(),
            renditions: Vec::new(),
            captions: !matches!(shared.speech.status(), CaptionsStatus::Off { .. }),
            loudness: None,
            gaps: Vec::new(),
            made_from: Vec::new(),
            joined: Vec::new(),
            composition: None,
        };
        folder.save_info(&info)?;
        let inner = Inner::new(id.clone(), shared.clone(), folder, info, Sending::fresh());
        let recording = Recording(Arc::new(inner));
        shared.remember(&mut shared.recordings(), &recording);
        let (unused, after) = (recording.0.clone(), shared.config.unused_after);
        let mut stop = recording.0.stop.subscribe();
        tokio::spawn(async move {
            loop {
                let touched = unused.touched();
                tokio::select! {
                    () = tokio::time::sleep_until(touched + after) => {}
                    () = stopped(&mut stop) => return,
                }
                if unused.state_now() != RecordingState::Created {
                    return;
                }
                if unused.touched() == touched {
                    let why = format!("nobody published to it within {} s", after.as_secs());
                    return unused.happened(Step::Expire(why));
                }
            }
        });
        Ok(recording)
    }

    /// Makes a recording of pieces of others, in their order: what trims, cuts, splits and joins. Nothing is encoded again, and the others
    /// stay as they are. Its renditions are those that all pieces have in one name and codec; captions, subtitles, transcript, chapters
    /// and thumbnails come along at their new times. Date ranges, timed metadata and subtitles written as IMSC1 do not.
    ///
    /// Returns once it is known that it can be made; it is `processing` then, and
    /// [`made_from`](crate::RecordingInfo::made_from) tells where its pieces really lie once it is `ready`: each begins at the first key frame of the
    /// main picture that is not before the instant asked for, and ends to a frame.
    ///
    /// Cancellation: the recording is made all the same, or is `created` and fails after [`unused_after`](EngineConfig::unused_after).
    ///
    /// # Errors
    /// [`EngineError::BadEdit`] where a piece is empty or has no key frame, its recording is encrypted, or the pieces have no pictures
    /// or sound in common; [`EngineError::WrongState`] where one's recording is not ready; and those of [`Self::create`].
    pub async fn compose(&self, id: RecordingId, pieces: Vec<Piece>) -> Result<Recording, EngineError> {
        edit::compose(|| self.create(id), pieces).await
    }

    /// The recording of that name, from memory or from disk. One that was live when the process was killed is finished
    /// from its own parts. Call it within a Tokio runtime.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::Io`].
    pub fn recording(&self, id: &RecordingId) -> Result<Recording, EngineError> {
        self.owner.shared.open(id)
    }

    /// As [`Self::recording`], and from the store where this disk does not have it: its playlists are fetched, its segments are read from
    /// there as viewers ask for them. One that was live when its engine ended is finished from what had arrived.
    ///
    /// Cancellation safe: what was fetched is there when it is asked again.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::Io`], [`EngineError::Store`].
    pub async fn open(&self, id: &RecordingId) -> Result<Recording, EngineError> {
        if let Some(recording) = self.in_memory(id) {
            return Ok(recording);
        }
        let shared = &self.owner.shared;
        let on_disk = || {
            let (shared, id) = (shared.clone(), id.clone());
            async move {
                let opened = tokio::task::spawn_blocking(move || shared.open(&id)).await;
                opened.map_err(|_| EngineError::ShuttingDown)?
            }
        };
        match (on_disk().await, &shared.stores) {
            (Err(EngineError::NotFound(_)), Some(stores)) if !shared.folder(id).is_condemned() => {
                if !store::fetch(stores, id, &shared.folder(id)).await? {
                    return Err(EngineError::NotFound(id.clone()));
                }
                on_disk().await
            }
            (opened, _) => opened,
        }
    }

    /// The recording of that name where it is in memory. Never waits for the disk.
    pub(crate) fn in_memory(&self, id: &RecordingId) -> Option<Recording> {
        let recordings = self.owner.shared.recordings();
        recordings.get(id).and_then(Weak::upgrade).map(Recording)
    }

    /// The names of all recordings on disk.
    ///
    /// # Errors
    /// [`EngineError::Io`].
    pub fn recordings(&self) -> Result<Vec<RecordingId>, EngineError> {
        let shared = &self.owner.shared;
        let mut found = shared.on_disk()?;
        found.retain(|id| !shared.folder(id).is_condemned());
        Ok(found)
    }

    /// The names of all recordings in the store; none where the engine has no store. [`Self::open`] opens them.
    ///
    /// Cancellation safe: nothing is changed.
    ///
    /// # Errors
    /// [`EngineError::Store`].
    pub async fn stored_recordings(&self) -> Result<Vec<RecordingId>, EngineError> {
        let shared = &self.owner.shared;
        let Some(stores) = &shared.stores else {
            return Ok(Vec::new());
        };
        let names = stores.store.folders().await?;
        let mut ids: Vec<RecordingId> = names.iter().filter_map(|name| RecordingId::new(name)).collect();
        ids.retain(|id| !shared.folder(id).is_condemned());
        Ok(ids)
    }

    /// Stops every live recording and waits until each can be watched to its end.
    ///
    /// Cancellation: every recording is told to stop all the same; only the waiting is given up.
    pub async fn shutdown(&self) {
        let shared = &self.owner.shared;
        shared.stop_all();
        let live = shared.in_memory();
        for recording in live {
            if recording.0.state_now().is_live()
                && let Err(why) = recording.stop().await
            {
                tracing::error!(recording = %recording.id(), error = %why, "a recording was not completed");
            }
        }
        for recording in shared.in_memory() {
            jobs::hand_back(&recording.0);
            #[cfg(feature = "transcode")]
            import::hand_back(&recording.0);
        }
    }
}

/// What an engine runs on.
pub(crate) struct Machine {
    pub(crate) disk: Arc<dyn Disk>,
    /// What runs plans.
    pub(crate) backend: Arc<dyn Backend>,
    /// What that can do.
    pub(crate) capabilities: Capabilities,
    pub(crate) packaging: PackagingThreads,
}

impl Machine {
    /// This one, with that disk. Blocks.
    fn probe(disk: Arc<dyn Disk>) -> Result<Self, EngineError> {
        #[cfg(feature = "transcode")]
        let (backend, capabilities) = (loom_transcode::GstBackend::new()?, Capabilities::probe()?);
        #[cfg(not(feature = "transcode"))]
        let (backend, capabilities) = (loom_transcode::KeptBackend, Capabilities::none());
        Ok(Self {
            disk,
            backend: Arc::new(backend),
            capabilities,
            packaging: PackagingThreads::start()?,
        })
    }
}

/// The port that publishers send to.
#[cfg(feature = "ingest")]
async fn bind(config: &EngineConfig) -> Result<Ingest, EngineError> {
    let mut ingest = config.ingest.clone();
    if !config.reconnect_window.is_zero() {
        // Whoever may come back is missed sooner.
        ingest.idle_timeout = ingest.idle_timeout.min(NOTICE_AFTER);
    }
    #[cfg(not(feature = "transcode"))]
    ingest.video.retain(|it| *it == loom_core::VideoCodec::H264); // what can be kept as it came
    Ingest::bind(ingest).await.map_err(EngineError::Ingest)
}

/// What an earlier process has left: recordings are finished, jobs gone on with, the store gets what it lacks, and what was to be deleted
/// is.
async fn catch_up(shared: Weak<Shared>, found: Vec<RecordingId>) {
    for id in found {
        let Some(shared) = shared.upgrade().filter(|it| !*it.over.borrow()) else {
            return;
        };
        if let Err(why) = shared.catch_up_with(&id).await {
            tracing::warn!(%id, error = %why, "what an earlier process has left of a recording is not done yet");
        }
    }
}

impl Shared {
    /// The recording from memory or from disk.
    pub(crate) fn open(self: &Arc<Self>, id: &RecordingId) -> Result<Recording, EngineError> {
        let mut recordings = self.recordings();
        if let Some(inner) = recordings.get(id).and_then(Weak::upgrade) {
            return Ok(Recording(inner));
        }
        let folder = self.folder(id);
        let info = folder
            .load_info()?
            .filter(|_| !folder.is_condemned())
            .ok_or_else(|| EngineError::NotFound(id.clone()))?;
        let inner = Inner::new(id.clone(), self.clone(), folder, info, Sending::default());
        let recording = Recording(Arc::new(inner));
        self.remember(&mut recordings, &recording);
        drop(recordings);
        finish::resume(&recording.0);
        Ok(recording)
    }

    async fn catch_up_with(self: &Arc<Self>, id: &RecordingId) -> Result<(), EngineError> {
        let (working, name) = (self.clone(), id.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let folder = working.folder(&name);
            let left = !folder.is_condemned() && finish::is_left(&folder)?;
            let unsent = !folder.is_condemned() && working.stores.is_some() && store::is_pending(&folder)?;
            let opened = (left || unsent).then(|| working.open(&name)).transpose()?;
            Ok::<_, EngineError>((folder, opened, unsent))
        });
        let (folder, opened, unsent) = looked.await.map_err(|_| EngineError::ShuttingDown)??;
        match (opened, &self.stores) {
            (Some(recording), Some(_)) if unsent => {
                store::send_soon(&recording.0);
                // that its tries were over is long ago
                let _ = jobs::restart(&recording.0, JobKind::Upload);
                // one recording at a time; where this one cannot be sent now, it is tried again beside the next
                jobs::tried(&recording.0, JobKind::Upload).await;
                Ok(())
            }
            (Some(_), _) => Ok(()),
            (None, stores) if folder.is_condemned() => {
                if let Some(stores) = stores {
                    store::erase_objects(stores, id.as_str()).await?;
                }
                let removed = tokio::task::spawn_blocking(move || folder.remove());
                removed.await.map_err(|_| EngineError::ShuttingDown)?
            }
            (None, _) => Ok(()),
        }
    }

    /// The names of all recordings on disk.
    fn on_disk(&self) -> Result<Vec<RecordingId>, EngineError> {
        let root = self.config.data_dir.join("recordings");
        let entries = fs::read_dir(&root).map_err(EngineError::io("list", root))?;
        Ok(entries
            .flatten()
            .filter_map(|entry| RecordingId::new(&entry.file_name().to_string_lossy()))
            .collect())
    }

    #[cfg(feature = "hls")]
    pub(crate) fn steering(&self) -> MutexGuard<'_, Option<Steering>> {
        // A ranking is replaced as a whole.
        self.steering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recordings(&self) -> MutexGuard<'_, HashMap<RecordingId, Weak<Inner>>> {
        self.recordings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, recordings: &mut HashMap<RecordingId, Weak<Inner>>, recording: &Recording) {
        recordings.retain(|_, inner| inner.strong_count() > 0);
        recordings.insert(recording.id().clone(), Arc::downgrade(&recording.0));
    }

    fn in_memory(&self) -> Vec<Recording> {
        self.recordings()
            .values()
            .filter_map(Weak::upgrade)
            .map(Recording)
            .collect()
    }

    fn folder(&self, id: &RecordingId) -> Folder {
        let safety = match self.config.sync_every.is_zero() {
            true => Safety::Kill,
            false => Safety::PowerCut,
        };
        let root = self.config.data_dir.join("recordings").join(id.as_str());
        Folder::on(self.disk.clone(), root, safety)
    }

    /// Whether the disk has room to begin a recording.
    pub(crate) fn check_space(&self) -> Result<(), EngineError> {
        let root = self.config.data_dir.join("recordings");
        let needed = self.config.min_free_space;
        let disk = rustix::fs::statvfs(&root)
            .map_err(|why| EngineError::io("look for space in", root)(why.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        match free < needed {
            true => Err(EngineError::DiskFull { free, needed }),
            false => Ok(()),
        }
    }

    /// How many recordings are live.
    pub(crate) fn live_count(&self) -> usize {
        self.in_memory()
            .iter()
            .filter(|recording| recording.0.state_now().is_live())
            .count()
    }

    pub(crate) fn forget(&self, id: &RecordingId) {
        self.recordings().remove(id);
    }

    fn stop_all(&self) {
        for recording in self.in_memory() {
            recording.0.happened(Step::Halt);
        }
    }
}

/// Of each core, what the ladders of live recordings may take where nobody says how much.
const LIVE_SHARE: f64 = 0.75;

/// How long a publisher that may come back can be silent before it counts as vanished.
#[cfg(feature = "ingest")]
const NOTICE_AFTER: Duration = Duration::from_secs(5);
