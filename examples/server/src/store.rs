//! The database: what a recording is called, when it was made, who may publish to it, and how it last stood.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use loom_engine::{PublisherName, RecordingId, RecordingInfo, RecordingState};
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use thiserror::Error;

/// SQLite in the data folder. Every call runs on a thread where it may wait for the disk. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    connection: Arc<Mutex<Connection>>,
}

/// One recording as the database has it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) title: String,
    pub(crate) created_at: UnixMillis,
    /// As it last stood; the engine knows better while it is not over.
    pub(crate) info: RecordingInfo,
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnixMillis(pub(crate) i64);

/// The SHA-256 of a publisher's token.
pub(crate) type TokenHash = [u8; 32];

/// Where a page of the list goes on: after the recording it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    created_at: UnixMillis,
    id: RecordingId,
}

/// What the database could not do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum StoreError {
    /// SQLite said no.
    #[error("sqlite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A recording's state cannot be read or written.
    #[error("the stored state of a recording: {0}")]
    Json(#[from] serde_json::Error),
    /// The database was made by a newer Loom.
    #[error("the database has version {found}, this program knows {known}; use the newer program")]
    Newer {
        /// What the file says.
        found: i64,
        /// What this program writes.
        known: i64,
    },
    /// The thread that held the call was lost.
    #[error("the database call was cancelled")]
    Cancelled,
}

impl Store {
    /// Opens the database at `path`, creating or upgrading it.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        upgrade(&mut connection)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    /// Adds a recording; one that is there stays as it is.
    pub(crate) async fn insert(&self, row: Row, token: Option<TokenHash>) -> Result<(), StoreError> {
        self.call(move |db| {
            let info = serde_json::to_string(&row.info)?;
            db.execute(
                "INSERT OR IGNORE INTO recording (id, title, created_at, token_hash, state, info)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    row.info.id.as_str(),
                    row.title,
                    row.created_at.0,
                    token.map(|hash| hash.to_vec()),
                    row.info.state.to_string(),
                    info
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// The recording of that name.
    pub(crate) async fn row(&self, id: RecordingId) -> Result<Option<Row>, StoreError> {
        self.call(move |db| {
            let found = db
                .prepare_cached("SELECT title, created_at, info FROM recording WHERE id = ?1")?
                .query_row([id.as_str()], columns)
                .optional()?;
            found.map(read).transpose()
        })
        .await
    }

    /// The hash of the token that may publish to it; `None` for an unknown recording and for one found on disk.
    pub(crate) async fn token_hash(&self, id: RecordingId) -> Result<Option<TokenHash>, StoreError> {
        self.call(move |db| {
            let hash = db
                .prepare_cached("SELECT token_hash FROM recording WHERE id = ?1")?
                .query_row([id.as_str()], |row| row.get::<_, Option<Vec<u8>>>(0))
                .optional()?;
            Ok(hash.flatten().and_then(|hash| hash.try_into().ok()))
        })
        .await
    }

    /// Keeps the hash of a token by which a publisher may join a recording under a name, in place of one before. `false` where as many names
    /// as `most` have one.
    pub(crate) async fn invite(
        &self,
        id: RecordingId,
        name: PublisherName,
        token: TokenHash,
        most: usize,
    ) -> Result<bool, StoreError> {
        self.call(move |db| {
            let done = db
                .prepare_cached(
                    "INSERT INTO publisher (recording, name, token_hash)
                     SELECT ?1, ?2, ?3 WHERE (SELECT count(*) FROM publisher WHERE recording = ?1 AND name <> ?2) < ?4
                     ON CONFLICT DO UPDATE SET token_hash = excluded.token_hash",
                )?
                .execute(params![id.as_str(), name.as_str(), token.to_vec(), most as i64])?;
            Ok(done > 0)
        })
        .await
    }

    /// The names under which publishers may join a recording.
    pub(crate) async fn invited(&self, id: RecordingId) -> Result<Vec<PublisherName>, StoreError> {
        self.call(move |db| {
            let names = db
                .prepare_cached("SELECT name FROM publisher WHERE recording = ?1 ORDER BY name")?
                .query_map([id.as_str()], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(names.iter().filter_map(|name| PublisherName::new(name)).collect())
        })
        .await
    }

    /// The hashes of the tokens of who may join a recording, each with its name.
    pub(crate) async fn invitations(
        &self,
        id: RecordingId,
    ) -> Result<Vec<(PublisherName, TokenHash)>, StoreError> {
        self.call(move |db| {
            let rows = db
                .prepare_cached("SELECT name, token_hash FROM publisher WHERE recording = ?1")?
                .query_map([id.as_str()], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let read =
                |(name, hash): (String, Vec<u8>)| Some((PublisherName::new(&name)?, hash.try_into().ok()?));
            Ok(rows.into_iter().filter_map(read).collect())
        })
        .await
    }

    /// Nobody may join under that name any more. `false` where nobody could.
    pub(crate) async fn dismiss(&self, id: RecordingId, name: PublisherName) -> Result<bool, StoreError> {
        self.call(move |db| {
            let gone = db.execute(
                "DELETE FROM publisher WHERE recording = ?1 AND name = ?2",
                [id.as_str(), name.as_str()],
            )?;
            Ok(gone > 0)
        })
        .await
    }

    /// At most `limit` recordings after `cursor`, newest first.
    pub(crate) async fn page(&self, cursor: Option<Cursor>, limit: u32) -> Result<Vec<Row>, StoreError> {
        self.call(move |db| {
            let (at, id) = match &cursor {
                Some(cursor) => (cursor.created_at.0, cursor.id.as_str()),
                None => (i64::MAX, ""),
            };
            db.prepare_cached(
                "SELECT title, created_at, info FROM recording WHERE (created_at, id) < (?1, ?2)
                 ORDER BY created_at DESC, id DESC LIMIT ?3",
            )?
            .query_map(params![at, id, limit], columns)?
            .map(|row| read(row?))
            .collect()
        })
        .await
    }

    /// The recordings that were made of that one, the newest first.
    pub(crate) async fn made_of(&self, id: RecordingId) -> Result<Vec<Row>, StoreError> {
        self.call(move |db| {
            db.prepare_cached(
                "SELECT title, created_at, info FROM recording WHERE EXISTS (
                     SELECT 1 FROM json_each(info, '$.made_from') WHERE json_extract(value, '$.recording') = ?1
                 ) ORDER BY created_at DESC, id DESC",
            )?
            .query_map([id.as_str()], columns)?
            .map(|row| read(row?))
            .collect()
        })
        .await
    }

    /// Every recording's name and last known state.
    pub(crate) async fn states(&self) -> Result<Vec<(RecordingId, RecordingState)>, StoreError> {
        self.call(move |db| {
            let mut all = db.prepare("SELECT title, created_at, info FROM recording")?;
            let rows = all.query_map([], columns)?;
            rows.map(|row| read(row?).map(|row| (row.info.id, row.info.state)))
                .collect()
        })
        .await
    }

    /// Writes down how a recording stands. One that was deleted meanwhile stays deleted.
    pub(crate) async fn mirror(&self, info: RecordingInfo) -> Result<(), StoreError> {
        self.call(move |db| {
            db.prepare_cached("UPDATE recording SET state = ?2, info = ?3 WHERE id = ?1")?
                .execute(params![
                    info.id.as_str(),
                    info.state.to_string(),
                    serde_json::to_string(&info)?
                ])?;
            Ok(())
        })
        .await
    }

    /// Forgets a recording. `false` where it was unknown.
    pub(crate) async fn remove(&self, id: RecordingId) -> Result<bool, StoreError> {
        self.call(move |db| {
            db.execute("DELETE FROM publisher WHERE recording = ?1", [id.as_str()])?;
            Ok(db.execute("DELETE FROM recording WHERE id = ?1", [id.as_str()])? > 0)
        })
        .await
    }

    /// Whether the database answers.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        self.call(|db| Ok(db.query_row("SELECT 1", [], |_| Ok(()))?))
            .await
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        tokio::task::spawn_blocking(move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner)))
            .await
            .map_err(|_| StoreError::Cancelled)?
    }
}

impl Row {
    /// Where the list goes on after this one.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            id: self.info.id.clone(),
        }
    }
}

impl Cursor {
    /// As it stands in a URL.
    pub(crate) fn write(&self) -> String {
        format!("{}.{}", self.created_at.0, self.id)
    }

    /// `None` for text that [`write`](Self::write) did not make.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('.')?;
        Some(Self {
            created_at: UnixMillis(at.parse().ok()?),
            id: RecordingId::new(id)?,
        })
    }
}

type Columns = (String, i64, String);

fn columns(row: &SqlRow<'_>) -> rusqlite::Result<Columns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn read((title, created_at, info): Columns) -> Result<Row, StoreError> {
    Ok(Row {
        title,
        created_at: UnixMillis(created_at),
        info: serde_json::from_str(&info)?,
    })
}

/// Brings the schema up to date: `PRAGMA user_version` counts the steps of [`STEPS`] that were taken.
fn upgrade(connection: &mut Connection) -> Result<(), StoreError> {
    let known = STEPS.len() as i64;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (done, step) in STEPS.iter().enumerate().skip(found.max(0) as usize) {
        let change = connection.transaction()?;
        change.execute_batch(step)?;
        change.pragma_update(None, "user_version", done as i64 + 1)?;
        change.commit()?;
    }
    Ok(())
}

/// Each step is written once and never changed after a release.
const STEPS: &[&str] = &[
    "
    CREATE TABLE recording (
        id          TEXT    NOT NULL PRIMARY KEY,
        title       TEXT    NOT NULL,
        created_at  INTEGER NOT NULL, -- milliseconds since 1970, UTC
        token_hash  BLOB,             -- SHA-256 of the publisher's token; NULL: nobody may publish
        state       TEXT    NOT NULL, -- of info, for people who look by hand
        info        TEXT    NOT NULL  -- JSON: the engine's RecordingInfo as it last stood
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX recording_by_age ON recording (created_at DESC, id DESC);
",
    "
    CREATE TABLE publisher (
        recording   TEXT NOT NULL,
        name        TEXT NOT NULL, -- under which it joins
        token_hash  BLOB NOT NULL, -- SHA-256 of its token
        PRIMARY KEY (recording, name)
    ) STRICT, WITHOUT ROWID;
",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, created_at: i64) -> Row {
        let info = RecordingInfo {
            id: RecordingId::new(id).unwrap(),
            state: RecordingState::Created,
            reason: None,
            duration: 0.0,
            tracks: Vec::new(),
            renditions: Vec::new(),
            captions: false,
            loudness: None,
            gaps: Vec::new(),
            made_from: Vec::new(),
            joined: Vec::new(),
            composition: None,
        };
        Row {
            title: id.to_uppercase(),
            created_at: UnixMillis(created_at),
            info,
        }
    }

    #[tokio::test]
    async fn pages_go_from_new_to_old_without_a_gap_even_within_one_millisecond() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("loom.sqlite")).unwrap();
        for (id, at) in [("a", 1), ("b", 2), ("c", 2), ("d", 2), ("e", 3)] {
            store.insert(row(id, at), None).await.unwrap();
        }
        let mut seen = Vec::new();
        let mut cursor = None;
        loop {
            let page = store.page(cursor, 2).await.unwrap();
            let Some(last) = page.last() else { break };
            cursor = Cursor::read(&last.cursor().write());
            assert!(cursor.is_some());
            seen.extend(page.iter().map(|row| row.info.id.to_string()));
        }
        assert_eq!(seen, ["e", "d", "c", "b", "a"]);
    }

    #[tokio::test]
    async fn a_reopened_database_remembers_and_a_newer_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loom.sqlite");
        let id = RecordingId::new("kept").unwrap();
        Store::open(&path)
            .unwrap()
            .insert(row("kept", 7), Some([9; 32]))
            .await
            .unwrap();
        let store = Store::open(&path).unwrap();
        assert_eq!(store.row(id.clone()).await.unwrap().unwrap().title, "KEPT");
        assert_eq!(store.token_hash(id).await.unwrap(), Some([9; 32]));
        drop(store);
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        assert!(matches!(
            Store::open(&path),
            Err(StoreError::Newer { found: 99, .. })
        ));
    }

    #[tokio::test]
    async fn a_deleted_recording_is_not_brought_back_by_a_late_mirror() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("loom.sqlite")).unwrap();
        let it = row("gone", 1);
        store.insert(it.clone(), None).await.unwrap();
        assert!(store.remove(it.info.id.clone()).await.unwrap());
        store.mirror(it.info.clone()).await.unwrap();
        assert!(store.row(it.info.id).await.unwrap().is_none());
    }

    #[test]
    fn a_cursor_that_we_did_not_write_is_refused() {
        for text in ["", ".", "1", "x.a", "1.", "1.A", "1.a.b"] {
            assert_eq!(Cursor::read(text), None, "{text}");
        }
    }
}
