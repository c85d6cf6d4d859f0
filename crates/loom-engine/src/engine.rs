use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use loom_hls::{PathwayClone, Steering};
use loom_ingest::Ingest;
use loom_transcode::{Capabilities, GstBackend};

use crate::captions::Speech;
use crate::config::{EngineConfig, STEERING_TTL};
use crate::error::EngineError;
use crate::event::{RecordingInfo, RecordingState};
use crate::finish;
use crate::folder::Folder;
use crate::gather::stopped;
use crate::id::RecordingId;
use crate::packaging::PackagingThreads;
use crate::recording::{Inner, Recording};

/// The engine. Clones are handles to the same one; when the last is dropped, every live recording is ended.
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
    }
}

/// What every recording of an engine uses.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) ingest: Ingest,
    pub(crate) backend: GstBackend,
    pub(crate) capabilities: Capabilities,
    pub(crate) speech: Arc<Speech>,
    pub(crate) packaging: PackagingThreads,
    /// How viewers are steered between pathways, where there are any.
    steering: Mutex<Option<Steering>>,
    /// Who is in memory. Handles and running tasks keep a recording there; what nobody holds is read from disk again.
    recordings: Mutex<HashMap<RecordingId, Weak<Inner>>>,
}

impl Engine {
    /// Binds the UDP port, probes the codecs, and begins to load the caption model.
    ///
    /// # Errors
    /// Where the port or the data folder cannot be had, or GStreamer cannot start.
    pub async fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let root = config.data_dir.join("recordings");
        fs::create_dir_all(&root).map_err(EngineError::io("create the folder", root))?;
        config.playlists.check()?;
        let pathways = &config.playlists.pathways;
        let steering = match pathways.is_empty() {
            true => None,
            false => Some(Steering::new(pathways, STEERING_TTL)?),
        };
        let capabilities = tokio::task::spawn_blocking(Capabilities::probe)
            .await
            .map_err(|_| EngineError::ShuttingDown)??;
        let mut ingest = config.ingest.clone();
        if !config.reconnect_window.is_zero() {
            // Whoever may come back is missed sooner.
            ingest.idle_timeout = ingest.idle_timeout.min(NOTICE_AFTER);
        }
        let ingest = Ingest::bind(ingest).await.map_err(EngineError::Ingest)?;
        let speech = Speech::load(config.captions.clone());
        let backend = GstBackend::new()?;
        let shared = Arc::new(Shared {
            config,
            ingest,
            backend,
            capabilities,
            speech,
            packaging: PackagingThreads::start()?,
            steering: Mutex::new(steering),
            recordings: Mutex::new(HashMap::new()),
        });
        Ok(Self {
            owner: Arc::new(Owner { shared }),
        })
    }

    /// How it was configured.
    pub fn config(&self) -> &EngineConfig {
        &self.owner.shared.config
    }

    /// The pathways as viewers are told to prefer them, the best first; empty where there are none.
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

    /// The UDP address that publishers send to.
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
    /// [`EngineError::Exists`], [`EngineError::Io`].
    pub fn create(&self, id: RecordingId) -> Result<Recording, EngineError> {
        let shared = &self.owner.shared;
        let folder = shared.folder(&id);
        if folder.exists() {
            return Err(EngineError::Exists(id));
        }
        folder.create()?;
        let info = RecordingInfo {
            id: id.clone(),
            state: RecordingState::Created,
            reason: None,
            duration: 0.0,
            tracks: Vec::new(),
            renditions: Vec::new(),
            captions: !matches!(shared.speech.status(), CaptionsStatus::Off { .. }),
            gaps: Vec::new(),
        };
        folder.save_info(&info)?;
        let recording = Recording(Arc::new(Inner::new(id.clone(), shared.clone(), folder, info)));
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
                    return unused.fail(format!("nobody published to it within {} s", after.as_secs()));
                }
            }
        });
        Ok(recording)
    }

    /// The recording of that name, from memory or from disk. One that was live when the process was killed is finished
    /// from its own parts. Call it within a Tokio runtime.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], [`EngineError::Io`].
    pub fn recording(&self, id: &RecordingId) -> Result<Recording, EngineError> {
        let shared = &self.owner.shared;
        let mut recordings = shared.recordings();
        if let Some(inner) = recordings.get(id).and_then(Weak::upgrade) {
            return Ok(Recording(inner));
        }
        let folder = shared.folder(id);
        let info = folder
            .load_info()?
            .ok_or_else(|| EngineError::NotFound(id.clone()))?;
        let recording = Recording(Arc::new(Inner::new(id.clone(), shared.clone(), folder, info)));
        shared.remember(&mut recordings, &recording);
        drop(recordings);
        finish::resume(&recording.0);
        Ok(recording)
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
        let root = self.owner.shared.config.data_dir.join("recordings");
        let entries = fs::read_dir(&root).map_err(EngineError::io("list", root))?;
        Ok(entries
            .flatten()
            .filter_map(|entry| RecordingId::new(&entry.file_name().to_string_lossy()))
            .collect())
    }

    /// Stops every live recording and waits until each can be watched to its end.
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
    }
}

impl Shared {
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
        Folder::at(self.config.data_dir.join("recordings").join(id.as_str()))
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
            recording.0.stop.send_replace(true);
        }
    }
}

/// How long a publisher that may come back can be silent before it counts as vanished.
const NOTICE_AFTER: Duration = Duration::from_secs(5);
