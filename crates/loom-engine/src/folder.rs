//! A recording's folder on the local disk. All of the engine's file access is here.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::error::EngineError;
use crate::event::RecordingInfo;

/// `DATA/recordings/ID`.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn exists(&self) -> bool {
        self.root.is_dir()
    }

    pub(crate) fn create(&self) -> Result<(), EngineError> {
        let hls = self.root.join("hls");
        fs::create_dir_all(&hls).map_err(EngineError::io("create the folder", hls))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes a whole file so that a reader sees the old one or the new one, never half. A folder that was deleted stays
    /// so.
    pub(crate) fn put(&self, name: &str, data: &[u8]) -> Result<(), EngineError> {
        let path = self.path(name);
        let partial = path.with_added_extension("partial");
        let write = || {
            let mut file = File::create(&partial)?;
            file.write_all(data)?;
            drop(file);
            fs::rename(&partial, &path)
        };
        self.in_folder(&path, write)
            .map_err(EngineError::io("write", path))
    }

    /// Writes the first piece of a file that nobody knows of yet, such as a segment.
    pub(crate) fn begin(&self, name: &str, data: &[u8]) -> Result<(), EngineError> {
        let path = self.path(name);
        self.in_folder(&path, || fs::write(&path, data))
            .map_err(EngineError::io("write", path))
    }

    /// Deletes a file that nobody asks for any more; one that stays does no harm.
    pub(crate) fn discard(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    /// Adds to the end of a file, creating it where it is missing.
    pub(crate) fn append(&self, name: &str, data: &[u8]) -> Result<(), EngineError> {
        let path = self.path(name);
        let write = || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)?
                .write_all(data)
        };
        self.in_folder(&path, write)
            .map_err(EngineError::io("append to", path))
    }

    /// Reads `len` bytes from `offset`, or to the end; `None` where there is no such file.
    pub(crate) fn read(
        &self,
        name: &str,
        offset: u64,
        len: Option<u64>,
    ) -> Result<Option<Bytes>, EngineError> {
        let path = &self.path(name);
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(path)?;
            let mut data = Vec::new();
            if offset > 0 {
                file.seek(SeekFrom::Start(offset))?;
            }
            file.take(len.unwrap_or(u64::MAX)).read_to_end(&mut data)?;
            Ok(data)
        };
        match read() {
            Ok(data) => Ok(Some(Bytes::from(data))),
            Err(why)
                if matches!(
                    why.kind(),
                    ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory
                ) =>
            {
                Ok(None)
            }
            Err(why) => Err(EngineError::io("read", path)(why)),
        }
    }

    pub(crate) fn save_info(&self, info: &RecordingInfo) -> Result<(), EngineError> {
        let json = serde_json::to_vec_pretty(info).unwrap_or_default();
        self.put(INFO, &json)
    }

    pub(crate) fn load_info(&self) -> Result<Option<RecordingInfo>, EngineError> {
        let Some(json) = self.read(INFO, 0, None)? else {
            return Ok(None);
        };
        serde_json::from_slice(&json).map(Some).map_err(|why| {
            EngineError::io("read", self.path(INFO))(std::io::Error::new(ErrorKind::InvalidData, why))
        })
    }

    pub(crate) fn remove(&self) -> Result<(), EngineError> {
        match fs::remove_dir_all(&self.root) {
            Err(why) if why.kind() != ErrorKind::NotFound => Err(EngineError::io("remove", &self.root)(why)),
            _ => Ok(()),
        }
    }

    /// Copies what the packager made to another folder.
    pub(crate) fn copy_hls(&self, to: &Path) -> Result<(), EngineError> {
        let copy = |from: &Path, to: &Path| -> std::io::Result<()> {
            fs::create_dir_all(to)?;
            for entry in fs::read_dir(from)?.flatten() {
                if entry.path().is_file() {
                    fs::copy(entry.path(), to.join(entry.file_name()))?;
                }
            }
            Ok(())
        };
        let hls = self.root.join("hls");
        let done = copy(&hls, to).and_then(|()| {
            let mut folders = fs::read_dir(&hls)?
                .flatten()
                .filter(|entry| entry.path().is_dir());
            folders.try_for_each(|folder| copy(&folder.path(), &to.join(folder.file_name())))
        });
        done.map_err(EngineError::io("copy the stream to", to))
    }

    /// The names of the media playlists on disk, `main.m3u8` left out.
    pub(crate) fn media_playlists(&self) -> Vec<String> {
        let folders = fs::read_dir(self.path("hls")).into_iter().flatten().flatten();
        let names = folders.map(|folder| format!("hls/{}/index.m3u8", folder.file_name().to_string_lossy()));
        names.filter(|name| self.path(name).is_file()).collect()
    }

    /// The names of the multivariant playlists on disk.
    pub(crate) fn multivariant_playlists(&self) -> Vec<String> {
        let files = fs::read_dir(self.path("hls")).into_iter().flatten().flatten();
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        names
            .filter(|name| name.ends_with(".m3u8"))
            .map(|name| format!("hls/{name}"))
            .collect()
    }

    /// Does `write`, and where it fails because the file's own folder is missing, makes that one folder and tries again. The
    /// recording's own folder is never made anew: it was deleted.
    fn in_folder(&self, path: &Path, write: impl Fn() -> std::io::Result<()>) -> std::io::Result<()> {
        match (write(), path.parent()) {
            (Err(why), Some(parent)) if why.kind() == ErrorKind::NotFound && parent != self.root => {
                fs::create_dir(parent)?;
                write()
            }
            (done, _) => done,
        }
    }
}

const INFO: &str = "recording.json";
