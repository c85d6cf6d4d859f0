//! The disk under all recordings' folders: the few things that are done to its files, apart, so that a test can be a disk that fails.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// What writes files. They are read as files are.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// Makes a file, or empties it, and writes to it. Half of it may be there where that fails.
    fn write(&self, path: &Path, data: &[u8]) -> io::Result<()>;

    /// Adds to the end of a file, and makes it where it is missing. Half of it may be there where that fails.
    fn append(&self, path: &Path, data: &[u8]) -> io::Result<()>;

    /// Cuts a file off behind its first `len` bytes.
    fn cut(&self, path: &Path, len: u64) -> io::Result<()>;

    /// Gives a file another name, in place of the file that had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a folder, and those that it lies in.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder and all that is in it.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// What was written to a file survives a power cut from here on, under whatever name.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// So do the names in a folder.
    fn sync_names(&self, folder: &Path) -> io::Result<()>;

    /// So does everything, in and below a folder: as dear for a thousand files as for one.
    fn sync_all(&self, folder: &Path) -> io::Result<()>;
}

/// The system's own.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Files;

impl Disk for Files {
    fn write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        fs::write(path, data)
    }

    fn append(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(data)
    }

    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_len(len)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_data()
    }

    fn sync_names(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    /// syncfs(2).
    #[cfg(target_os = "linux")]
    fn sync_all(&self, folder: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(folder)?)?)
    }

    /// sync(2), of every file system.
    #[cfg(not(target_os = "linux"))]
    fn sync_all(&self, _: &Path) -> io::Result<()> {
        rustix::fs::sync();
        Ok(())
    }
}
