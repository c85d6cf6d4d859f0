//! What is kept of a file that is processed, for the process that goes on where this one is killed: the file, when it came, how often it was
//! begun, and the chunks that are encoded.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, SystemTime};

use loom_transcode::{Chunk, ChunkRequest};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::EngineError;
use crate::folder::{Folder, SOURCE};

/// What is known of it beside the chunks.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// When it came. The recording's playlists count dates from here, so it must not change.
    came: SystemTime,
    /// How often it was begun since the last chunk was encoded.
    tries: u32,
    /// How many chunks there were when it was begun the last time.
    chunks: usize,
}

/// Takes the file at `path` into the recording's folder. Blocks.
pub(super) fn take(folder: &Folder, path: &Path) -> Result<(), EngineError> {
    let bad = |why: &str| EngineError::BadMedia(why.to_owned());
    match fs::metadata(path) {
        Ok(about) if about.is_file() => {}
        Ok(_) => return Err(bad("it is not a regular file")),
        Err(why) if why.kind() == ErrorKind::NotFound => return Err(bad("it is not there")),
        Err(why) => return Err(EngineError::io("read", path)(why)),
    }
    let note = Note {
        came: SystemTime::now(),
        tries: 1,
        chunks: 0,
    };
    write(folder, &note)?;
    let own = folder.path(SOURCE);
    let moved = fs::rename(path, &own).or_else(|why| match why.kind() {
        ErrorKind::CrossesDevices => copy(path, &own),
        _ => Err(why),
    });
    moved.map_err(EngineError::io("take over", path))?;
    folder.settle("", &[SOURCE.to_owned()])
}

/// The copy is whole when it has its name.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let partial = to.with_added_extension("partial");
    fs::copy(from, &partial)?;
    fs::File::open(&partial)?.sync_all()?;
    fs::rename(&partial, to)?;
    fs::remove_file(from)
}

/// It is begun once more: what was packaged of it is removed. Blocks.
///
/// # Errors
/// Where it was begun too often, for then it is what ended the processes.
pub(super) fn again(folder: &Folder) -> Result<(), EngineError> {
    let mut note = read(folder)?;
    let chunks = folder.files(CHUNKS).len();
    note.tries = if chunks > note.chunks { 1 } else { note.tries + 1 };
    note.chunks = chunks;
    if note.tries > MOST_TRIES {
        let why = format!("the process ended {MOST_TRIES} times while it was read");
        return Err(EngineError::BadMedia(why));
    }
    write(folder, &note)?;
    // An engine of this same process that has just ended may be writing its last.
    for _ in 0..20 {
        if folder.empty().is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    folder.empty()
}

/// The process ends, and not because of the file. Blocks.
pub(super) fn hand_back(folder: &Folder) {
    if let Ok(note) = read(folder) {
        // at worst the next start counts as a try
        let _ = write(folder, &Note { tries: 0, ..note });
    }
}

/// When the file came.
pub(super) fn came(folder: &Folder) -> Result<SystemTime, EngineError> {
    Ok(read(folder)?.came)
}

/// Removes all that is kept.
pub(super) fn clear(folder: &Folder) {
    for name in [SOURCE, NOTE] {
        if folder.path(name).exists() {
            folder.discard(name);
        }
    }
    if folder.path(CHUNKS).exists() {
        folder.discard_folder(CHUNKS);
    }
}

/// What was kept of a chunk, where it is whole, and what was made of the same request. Blocks.
pub(super) fn load(folder: &Folder, request: &ChunkRequest, sum: Sum) -> Option<Chunk> {
    let name = name(request.number);
    let bytes = folder.read(&name, 0, None).ok().flatten()?;
    let read = || {
        let (asked, rest) = bytes.split_first_chunk::<32>()?;
        let (own, made) = rest.split_first_chunk::<32>()?;
        (*asked == sum && *own == sum_of(made)).then_some(made)
    };
    let chunk = read().and_then(|made| Chunk::from_bytes(made).ok());
    if chunk.is_none() {
        tracing::warn!(
            name,
            "a kept chunk is damaged, or was made of something else: it is made again"
        );
    }
    chunk
}

/// Keeps a chunk: behind the checksum of its request and its own. Blocks.
pub(super) fn store(folder: &Folder, number: u32, sum: Sum, chunk: &Chunk) -> Result<(), EngineError> {
    let made = chunk.to_bytes();
    let name = name(number);
    folder.put(&name, &[&sum[..], &sum_of(&made), &made].concat())?;
    folder.settle(CHUNKS, &[name])
}

/// A SHA-256.
pub(super) type Sum = [u8; 32];

pub(super) fn sum_of(bytes: &[u8]) -> Sum {
    Sha256::digest(bytes).into()
}

fn name(number: u32) -> String {
    format!("{CHUNKS}/{number:06}")
}

fn read(folder: &Folder) -> Result<Note, EngineError> {
    let json = folder.read(NOTE, 0, None)?.unwrap_or_default();
    serde_json::from_slice(&json).map_err(|why| EngineError::io("read", folder.path(NOTE))(why.into()))
}

fn write(folder: &Folder, note: &Note) -> Result<(), EngineError> {
    folder.put(NOTE, &serde_json::to_vec(note).unwrap_or_default())
}

const NOTE: &str = "import.json";
const CHUNKS: &str = "chunks";
/// A file that ends its process is not read for ever.
const MOST_TRIES: u32 = 5;

#[cfg(test)]
mod tests {
    use loom_core::MediaTime;
    use loom_transcode::{Capabilities, Output, SourceShape, SourceVideoCodec, VideoShape, Wanted, plan};

    use super::*;

    fn request() -> ChunkRequest {
        let source = SourceShape {
            video: Some(VideoShape::new(SourceVideoCodec::Vp9, 1_280, 720)),
            audio: None,
            live: false,
            duration: Some(Duration::from_secs(9)),
        };
        let machine = Capabilities::of(4, ["vp9dec", "x264enc", "vp9parse"]);
        ChunkRequest {
            number: 7,
            plan: plan(&source, &Wanted::default(), &machine)
                .expect("a plan")
                .video
                .expect("pictures"),
            shown: MediaTime::ZERO..MediaTime::from_millis(1_000),
            items: Vec::new(),
        }
    }

    fn folder() -> (tempfile::TempDir, Folder) {
        let root = tempfile::tempdir().expect("a folder");
        let folder = Folder::at(root.path().join("recording"));
        folder.create().expect("it is made");
        (root, folder)
    }

    #[test]
    fn a_chunk_that_is_kept_is_found_and_one_that_is_damaged_torn_or_of_another_request_is_not() {
        let (_root, folder) = folder();
        let request = request();
        let sum = sum_of(&request.to_bytes());
        let chunk = Chunk {
            outputs: vec![Output::Warning("what there is of it".to_owned())],
        };
        assert_eq!(load(&folder, &request, sum), None, "there is none yet");
        store(&folder, 7, sum, &chunk).expect("it is kept");
        assert_eq!(load(&folder, &request, sum), Some(chunk));
        let path = folder.path(&name(7));
        let whole = fs::read(&path).expect("its file");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).expect("written");
            assert_eq!(load(&folder, &request, sum), None, "byte {at} is another");
            fs::write(&path, &whole[..at]).expect("written");
            assert_eq!(load(&folder, &request, sum), None, "it is cut off at {at}");
        }
        fs::write(&path, &whole).expect("written");
        assert_eq!(load(&folder, &request, sum_of(b"another plan")), None);
    }

    #[test]
    fn a_file_that_ends_its_process_again_and_again_is_given_up_unless_chunks_come_of_it() {
        let (root, folder) = folder();
        let file = root.path().join("film");
        fs::write(&file, b"film").expect("written");
        take(&folder, &file).expect("it is taken");
        assert!(!file.exists() && folder.path(SOURCE).is_file());
        let came_at = came(&folder).expect("a note");
        for _ in 1..MOST_TRIES {
            again(&folder).expect("it is tried again");
        }
        folder.put(&name(0), b"a chunk").expect("written");
        for _ in 0..MOST_TRIES {
            again(&folder).expect("it is tried again");
        }
        let why = again(&folder).expect_err("it is given up").to_string();
        assert!(why.contains("ended 5 times"), "{why}");
        hand_back(&folder);
        again(&folder).expect("the process was asked to end");
        assert_eq!(came(&folder).expect("a note"), came_at);
        clear(&folder);
        assert!(folder.files("").is_empty() && !folder.path(CHUNKS).exists());
    }
}
