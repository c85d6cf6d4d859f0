//! A recording's folder on the local disk. All of the engine's file access is here.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::error::EngineError;
use crate::event::RecordingInfo;

/// A file's size and when it last changed: by these a file that has changed is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// Bytes.
    pub(crate) len: u64,
    /// Nanoseconds since 1970.
    changed: u64,
}

/// `DATA/recordings/ID`.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    safety: Safety,
}

/// What is to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safety {
    /// The process.
    Kill,
    /// The machine: a file is on the disk before it takes another's place, and what a playlist names before the playlist.
    PowerCut,
}

impl Folder {
    #[cfg(test)]
    pub(crate) fn at(root: PathBuf) -> Self {
        Self::on(Arc::new(crate::disk::Files), root, Safety::Kill)
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, root: PathBuf, safety: Safety) -> Self {
        Self { root, disk, safety }
    }

    pub(crate) fn safety(&self) -> Safety {
        self.safety
    }

    pub(crate) fn exists(&self) -> bool {
        self.root.is_dir()
    }

    pub(crate) fn create(&self) -> Result<(), EngineError> {
        let hls = self.root.join("hls");
        let create = || {
            self.disk.make_folder(&hls)?;
            if self.safety == Safety::PowerCut {
                self.disk.make_folder(&self.root.join(PARTS))?;
                self.disk.sync_names(&self.root)?;
            }
            Ok(())
        };
        create().map_err(EngineError::io("create the folder", &hls))
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
            let written = self.disk.write(&partial, data).and_then(|()| match self.safety {
                Safety::Kill => Ok(()),
                Safety::PowerCut => self.disk.sync(&partial),
            });
            written.inspect_err(|_| {
                // half of it helps nobody, and takes the room that the whole needs
                let _ = self.disk.remove(&partial);
            })?;
            self.disk.rename(&partial, &path)
        };
        self.in_folder(&path, write)
            .map_err(EngineError::io("write", path))
    }

    /// Writes the first piece of a file that nobody knows of yet, such as a segment.
    pub(crate) fn begin(&self, name: &str, data: &[u8]) -> Result<(), EngineError> {
        let path = self.path(name);
        self.in_folder(&path, || self.disk.write(&path, data))
            .map_err(EngineError::io("write", path))
    }

    /// Brings a folder of its own to its place in the stream, where that replaces one of its name.
    #[cfg(feature = "transcode")]
    pub(crate) fn adopt(&self, name: &str) -> Result<(), EngineError> {
        let to = format!("hls/{name}");
        if self.path(&to).is_dir() {
            self.discard_folder(&to);
        }
        let moved = self.disk.rename(&self.path(name), &self.path(&to));
        moved.map_err(EngineError::io("bring to its place", self.path(name)))
    }

    /// Cuts a file off behind its first `len` bytes.
    pub(crate) fn shorten(&self, name: &str, len: u64) -> Result<(), EngineError> {
        let path = self.path(name);
        let cut = self.disk.cut(&path, len);
        let cut = cut.and_then(|()| self.for_power_cut(|| self.disk.sync(&path)));
        cut.map_err(EngineError::io("cut off", &path))
    }

    /// What was written to files of one folder survives a power cut from here on, and so do their names.
    pub(crate) fn settle(&self, folder: &str, files: &[String]) -> Result<(), EngineError> {
        let folder = self.path(folder);
        let mut synced = files.iter().try_for_each(|file| self.disk.sync(&self.path(file)));
        if synced.is_ok() {
            synced = self.disk.sync_names(&folder);
        }
        synced.map_err(EngineError::io("write to the disk what is in", folder))
    }

    /// All that was written to it, and each name in it, survives a power cut from here on: for what must not come before that. Blocks as
    /// long as the disk takes.
    pub(crate) fn secure(&self) -> Result<(), EngineError> {
        self.for_power_cut(|| self.disk.sync_all(&self.root))
            .map_err(EngineError::io("write to the disk what is in", &self.root))
    }

    /// What is only done where a power cut is to be survived.
    fn for_power_cut(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self.safety {
            Safety::Kill => Ok(()),
            Safety::PowerCut => sync(),
        }
    }

    /// Deletes a file that nobody asks for any more; one that stays does no harm.
    pub(crate) fn discard(&self, name: &str) {
        let _ = self.disk.remove(&self.path(name));
    }

    /// The same of a folder and what is in it.
    pub(crate) fn discard_folder(&self, name: &str) {
        let _ = self.disk.remove_folder(&self.path(name));
    }

    /// Adds to a file that is `at` bytes long. What an earlier try has left behind that, which could not be taken back, goes first.
    pub(crate) fn append_at(&self, name: &str, at: u64, data: &[u8]) -> Result<(), EngineError> {
        if self.len(name) > at {
            self.shorten(name, at)?;
        }
        self.append(name, data)
    }

    /// How long a file is; 0 where there is none.
    pub(crate) fn len(&self, name: &str) -> u64 {
        fs::metadata(self.path(name)).map_or(0, |about| about.len())
    }

    /// Adds to the end of a file, all or nothing, creating it where it is missing.
    pub(crate) fn append(&self, name: &str, data: &[u8]) -> Result<(), EngineError> {
        let path = self.path(name);
        let write = || {
            let len = fs::metadata(&path).map_or(0, |about| about.len());
            self.disk.append(&path, data).inspect_err(|_| {
                let _ = self.disk.cut(&path, len);
            })
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

    /// Notes that it is to be deleted, here and in the store, whatever comes between. From here on it is no recording.
    pub(crate) fn condemn(&self) -> Result<(), EngineError> {
        self.put(CONDEMNED, b"")?;
        self.for_power_cut(|| self.disk.sync_names(&self.root))
            .map_err(EngineError::io("write to the disk what is in", &self.root))
    }

    pub(crate) fn is_condemned(&self) -> bool {
        self.path(CONDEMNED).is_file()
    }

    /// Whether something in it was made or replaced since `name` was last written to.
    pub(crate) fn is_newer_than(&self, name: &str) -> bool {
        let changed = |name: &str| {
            fs::metadata(self.path(name))
                .and_then(|about| about.modified())
                .ok()
        };
        let folders = ["", "hls", "keys"].map(str::to_owned).into_iter();
        let newest = folders
            .chain(self.folders("hls"))
            .filter_map(|folder| changed(&folder))
            .max();
        newest > changed(name)
    }

    /// Deletes what was made of it, so that it can be made again.
    pub(crate) fn empty(&self) -> Result<(), EngineError> {
        let hls = self.root.join("hls");
        match self.disk.remove_folder(&hls) {
            Err(why) if why.kind() != ErrorKind::NotFound => Err(EngineError::io("empty", hls)(why)),
            _ => self.create(),
        }
    }

    /// Removes all of it; last the note that it is to be removed, so that what a crash leaves of it is not kept. Blocks.
    pub(crate) fn remove(&self) -> Result<(), EngineError> {
        let remove = || {
            for entry in fs::read_dir(&self.root)? {
                let entry = entry?;
                let removed = match entry.file_type()?.is_dir() {
                    true => self.disk.remove_folder(&entry.path()),
                    false if entry.file_name() == CONDEMNED => Ok(()),
                    false => self.disk.remove(&entry.path()),
                };
                // what somebody was writing has another name by now, or none; what lies beside it is to go all the same
                removed.or_else(|why| match why.kind() {
                    ErrorKind::NotFound => Ok(()),
                    _ => Err(why),
                })?;
            }
            self.for_power_cut(|| self.disk.sync_all(&self.root))?;
            self.disk.remove_folder(&self.root)
        };
        match remove() {
            Err(why) if why.kind() != ErrorKind::NotFound => Err(EngineError::io("remove", &self.root)(why)),
            _ => Ok(()),
        }
    }

    /// The names of the files in one of its folders, but not of what is being written.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        let mut names = self.entries(folder, is_file);
        names.retain(|name| !name.ends_with(".partial"));
        names
    }

    /// The names of the folders in one of its folders.
    pub(crate) fn folders(&self, folder: &str) -> Vec<String> {
        self.entries(folder, |entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    }

    fn entries(&self, folder: &str, wanted: impl Fn(&fs::DirEntry) -> bool) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter(wanted)
            .map(|entry| match folder {
                "" => entry.file_name().to_string_lossy().into_owned(),
                _ => format!("{folder}/{}", entry.file_name().to_string_lossy()),
            })
            .collect();
        names.sort_unstable();
        names
    }

    /// How a file stands; `None` where there is none.
    pub(crate) fn stamp(&self, name: &str) -> Option<Stamp> {
        let about = fs::metadata(self.path(name)).ok().filter(fs::Metadata::is_file)?;
        let changed = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Stamp {
            len: about.len(),
            changed: u64::try_from(changed.as_nanos()).ok()?,
        })
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
                if !self.root.is_dir() {
                    return Err(why);
                }
                self.disk.make_folder(parent)?;
                write()
            }
            (done, _) => done,
        }
    }
}

fn is_file(entry: &fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_file())
}

/// Whether a folder is of screen and camera in one picture.
pub(crate) fn is_composed(name: &str) -> bool {
    name.strip_prefix(COMPOSITION)
        .is_some_and(|rest| rest.starts_with('-'))
}

/// The folder of what is known of parts that are written, while they may be lost.
pub(crate) const PARTS: &str = "parts";
/// The short film of a recording's moments.
pub(crate) const PREVIEW: &str = "preview.mp4";
/// Where the camera is to lie in one picture with the screen.
pub(crate) const LAYOUT: &str = "composition.json";
/// The stream of screen and camera in one picture: the name of what lists it, and what those of its renditions begin with.
pub(crate) const COMPOSITION: &str = "composition";
/// The versions of the transcript, where somebody has corrected it.
pub(crate) const TRANSCRIPTS: &str = "transcripts.json";
/// The file that a recording is made of, until it is.
pub(crate) const SOURCE: &str = "source";
const INFO: &str = "recording.json";
const CONDEMNED: &str = "deleted";
