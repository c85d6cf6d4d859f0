//! What every handler shares.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use loom_engine::{Engine, EngineError, Recording, RecordingId, RecordingState};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use crate::config::Config;
use crate::problem::{Answer, Problem};
use crate::store::{Row, Store, StoreError, UnixMillis};

/// The engine, the database and the settings. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    pub(crate) config: Arc<Config>,
    pub(crate) metrics: PrometheusHandle,
    /// Turns true when the server is told to end.
    pub(crate) ending: watch::Receiver<bool>,
    uploads: Arc<Mutex<HashSet<RecordingId>>>,
}

/// Holds a recording for one upload; another is refused until this is dropped.
#[derive(Debug)]
pub(crate) struct UploadClaim {
    uploads: Arc<Mutex<HashSet<RecordingId>>>,
    id: RecordingId,
}

impl App {
    pub(crate) fn new(
        engine: Engine,
        store: Store,
        config: Arc<Config>,
        metrics: PrometheusHandle,
        ending: watch::Receiver<bool>,
    ) -> Self {
        Self {
            engine,
            store,
            config,
            metrics,
            ending,
            uploads: Arc::default(),
        }
    }

    /// The engine's recording of that name.
    pub(crate) async fn recording(&self, id: &str) -> Answer<Recording> {
        let id = RecordingId::new(id).ok_or_else(|| Problem::unknown(id))?;
        Ok(self.open(id).await?)
    }

    /// How a recording stands now, by the database and, where it has it, the engine.
    pub(crate) async fn row(&self, id: &str) -> Answer<Row> {
        let known = RecordingId::new(id).ok_or_else(|| Problem::unknown(id))?;
        let row = self.store.row(known.clone()).await?;
        match (self.open(known.clone()).await, row) {
            (Ok(recording), Some(row)) => Ok(Row {
                info: recording.info(),
                ..row
            }),
            (Ok(recording), None) => Ok(self.adopt(&recording).await?),
            (Err(EngineError::NotFound(_)), Some(mut row)) => {
                lose(&mut row);
                Ok(row)
            }
            (Err(why), _) => Err(why.into()),
        }
    }

    /// Brings the database and the disk together at start: what is on disk only is listed, what is in the database only
    /// has failed, what was not over is followed. What only the store has is listed by and by; `None`: it does not say what it has.
    pub(crate) async fn reconcile(
        &self,
        on_disk: HashSet<RecordingId>,
        in_store: Option<Vec<RecordingId>>,
    ) -> Result<(), StoreError> {
        let unsure = in_store.is_none();
        let in_store: HashSet<RecordingId> = in_store.into_iter().flatten().collect();
        let mut in_database = HashSet::new();
        for (id, state) in self.store.states().await? {
            in_database.insert(id.clone());
            let over = state.is_final();
            if state == RecordingState::Deleted {
                // the process ended between its files' end and its row's
                self.store.remove(id).await?;
                continue;
            }
            if !on_disk.contains(&id) && (unsure || in_store.contains(&id)) {
                continue; // it is opened when somebody asks for it
            } else if !on_disk.contains(&id) && state != RecordingState::Failed {
                if let Some(mut row) = self.store.row(id).await? {
                    lose(&mut row);
                    self.store.mirror(row.info).await?;
                }
            } else if !over {
                match self.open(id.clone()).await {
                    Ok(recording) => self.follow(recording),
                    Err(why) => tracing::warn!(%id, %why, "a recording cannot be opened"),
                }
            }
        }
        for id in on_disk.difference(&in_database) {
            match self.open(id.clone()).await {
                Ok(recording) => {
                    self.adopt(&recording).await?;
                }
                Err(why) => tracing::warn!(%id, %why, "a folder is no recording that can be opened"),
            }
        }
        let unknown = in_store
            .difference(&in_database)
            .filter(|id| !on_disk.contains(id));
        tokio::spawn(self.clone().adopt_stored(unknown.cloned().collect()));
        Ok(())
    }

    /// Lists recordings that only the store has: each is fetched for that, but not its media.
    async fn adopt_stored(self, ids: Vec<RecordingId>) {
        for id in ids {
            let adopted = match self.open(id.clone()).await {
                Ok(recording) => self
                    .adopt(&recording)
                    .await
                    .map(drop)
                    .map_err(|why| why.to_string()),
                Err(why) => Err(why.to_string()),
            };
            if let Err(why) = adopted {
                tracing::warn!(%id, why, "a recording in the store is not listed");
            }
        }
    }

    /// Keeps the database's copy of a recording's state true until the recording is over.
    pub(crate) fn follow(&self, recording: Recording) {
        let store = self.store.clone();
        tokio::spawn(async move {
            let mut events = recording.events();
            loop {
                let event = events.next().await;
                let telling = matches!(
                    event,
                    None | Some(loom_engine::Event::State { .. } | loom_engine::Event::Renditions { .. })
                );
                if telling && let Err(why) = store.mirror(recording.info()).await {
                    tracing::warn!(id = %recording.id(), %why, "a recording's state is not written down");
                }
                if event.is_none() {
                    break;
                }
            }
        });
    }

    /// Claims `id` for an upload; `None` while another upload to it runs.
    pub(crate) fn claim_upload(&self, id: &RecordingId) -> Option<UploadClaim> {
        let fresh = self
            .uploads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone());
        fresh.then(|| UploadClaim {
            uploads: Arc::clone(&self.uploads),
            id: id.clone(),
        })
    }

    /// Where uploads are written while they arrive: on the disk of the recordings, so that a rename is enough.
    pub(crate) fn upload_folder(&self) -> PathBuf {
        self.config.data_dir.join("uploads")
    }

    /// Resolves when the server is told to end.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ending = self.ending.clone();
        async move {
            // A sender that is gone has ended too.
            let _ = ending.wait_for(|ending| *ending).await;
        }
    }

    async fn open(&self, id: RecordingId) -> Result<Recording, EngineError> {
        self.engine.open(&id).await
    }

    /// Lists a recording that is on disk and not in the database.
    async fn adopt(&self, recording: &Recording) -> Result<Row, StoreError> {
        let folder = self
            .config
            .data_dir
            .join("recordings")
            .join(recording.id().as_str());
        let made = fs::metadata(folder)
            .and_then(|about| about.modified())
            .map(UnixMillis::from);
        let row = Row {
            title: UNTITLED.to_owned(),
            created_at: made.unwrap_or_else(|_| UnixMillis::now()),
            info: recording.info(),
        };
        self.store.insert(row.clone(), None).await?;
        self.follow(recording.clone());
        Ok(row)
    }
}

impl Drop for UploadClaim {
    fn drop(&mut self) {
        self.uploads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

impl UnixMillis {
    pub(crate) fn now() -> Self {
        SystemTime::now().into()
    }
}

impl From<SystemTime> for UnixMillis {
    fn from(at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A row whose folder is gone has failed; a reason that it had stays.
fn lose(row: &mut Row) {
    if row.info.state != RecordingState::Failed {
        row.info.state = RecordingState::Failed;
        row.info.reason = Some("its files are no longer on the server's disk".to_owned());
    }
}

/// What a recording without a title is called.
pub(crate) const UNTITLED: &str = "Untitled recording";
