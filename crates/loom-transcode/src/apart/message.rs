//! What is said between the two processes: a length (4 bytes, big-endian), then so many bytes, which are a head of JSON and what it speaks of
//! ([`wire`](crate::chunk::wire)).

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::backend::Output;
use crate::chunk::ChunkRequest;
use crate::chunk::wire::{Made, RequestHead, join, split};
use crate::error::TranscodeError;
use crate::gst::SourceChunk;
use crate::limits;
use crate::media_info::MediaInfo;
use crate::plan::Plan;

/// What a process is to do.
#[derive(Debug)]
pub(super) enum Task {
    Probe {
        path: PathBuf,
    },
    Chunks {
        plan: Plan,
        path: PathBuf,
        least: Duration,
    },
    File {
        plan: Plan,
        path: PathBuf,
    },
    Encode(Arc<ChunkRequest>),
}

/// A task, and under which limits it is done.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) memory: Option<u64>,
    pub(super) task: Task,
}

/// What a process says of it.
#[derive(Debug)]
pub(super) enum Said {
    /// It goes on; the first thing that is said of a run that has started.
    Alive,
    Info(MediaInfo),
    Source(SourceChunk),
    /// Some of the file cannot be read.
    Broken(String),
    Output(Output),
    /// The task cannot be done.
    Refused(Refusal),
    /// All is said.
    Done,
}

/// An error, as far as it can be told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Refusal {
    /// The system's number of it, and what it says.
    File(Option<i32>, String),
    NotMedia(String),
    Damaged(String),
    Other(String),
}

#[derive(Serialize, Deserialize)]
struct OrderHead {
    memory: Option<u64>,
    task: TaskHead,
}

// Paths as the system has them: they may be no text.
#[derive(Serialize, Deserialize)]
enum TaskHead {
    Probe(OsString),
    Chunks(Plan, OsString, Duration),
    File(Plan, OsString),
    Encode(RequestHead),
}

#[derive(Serialize, Deserialize)]
enum Head {
    Alive,
    Info(Box<MediaInfo>),
    Source(Box<RequestHead>, Vec<Made>),
    Broken(String),
    Output(Made),
    Refused(Refusal),
    Done,
}

impl Task {
    /// In words, behind "to".
    pub(super) fn words(&self) -> String {
        match self {
            Self::Probe { path } => format!("look at {path:?}"),
            Self::Chunks { path, .. } => format!("read the pictures of {path:?}"),
            Self::File { plan, path } if plan.video.is_none() => format!("read the sound of {path:?}"),
            Self::File { path, .. } => format!("read and encode {path:?}"),
            Self::Encode(request) => format!("encode chunk {}", request.number),
        }
    }

    /// The file that it is about, where it is told.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Probe { path } | Self::Chunks { path, .. } | Self::File { path, .. } => Some(path),
            Self::Encode(_) => None,
        }
    }

    /// How much of what is said of it may wait.
    pub(super) fn queue(&self) -> usize {
        match self {
            Self::Chunks { .. } => 1,
            _ => limits::MESSAGE_QUEUE,
        }
    }

    /// The task as a message.
    pub(super) fn order(&self, memory: Option<u64>) -> Vec<u8> {
        let mut body = Vec::new();
        let task = match self {
            Self::Probe { path } => TaskHead::Probe(path.clone().into()),
            Self::Chunks { plan, path, least } => TaskHead::Chunks(plan.clone(), path.clone().into(), *least),
            Self::File { plan, path } => TaskHead::File(plan.clone(), path.clone().into()),
            Self::Encode(request) => TaskHead::Encode(RequestHead::of(request, &mut body)),
        };
        join(&OrderHead { memory, task }, &body)
    }
}

impl Order {
    pub(super) fn read(bytes: Bytes) -> Result<Self, TranscodeError> {
        let (head, mut body): (OrderHead, _) = split(bytes)?;
        let task = match head.task {
            TaskHead::Probe(path) => Task::Probe { path: path.into() },
            TaskHead::Chunks(plan, path, least) => Task::Chunks {
                plan,
                path: path.into(),
                least,
            },
            TaskHead::File(plan, path) => Task::File {
                plan,
                path: path.into(),
            },
            TaskHead::Encode(request) => Task::Encode(Arc::new(request.read(&mut body)?)),
        };
        Ok(Self {
            memory: head.memory,
            task,
        })
    }
}

impl Said {
    /// As a message; `None` for an output that is of live runs alone.
    pub(super) fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        let head = match self {
            Self::Alive => Head::Alive,
            Self::Info(info) => Head::Info(Box::new(info.clone())),
            Self::Source(chunk) => {
                let request = RequestHead::of(&chunk.request, &mut body);
                let kept = chunk.kept.iter().filter_map(|it| Made::of(it, &mut body));
                Head::Source(Box::new(request), kept.collect())
            }
            Self::Broken(why) => Head::Broken(why.clone()),
            Self::Output(output) => Head::Output(Made::of(output, &mut body)?),
            Self::Refused(Refusal::File(number, why)) => Head::Refused(Refusal::File(*number, why.clone())),
            Self::Refused(Refusal::NotMedia(why)) => Head::Refused(Refusal::NotMedia(why.clone())),
            Self::Refused(Refusal::Damaged(why)) => Head::Refused(Refusal::Damaged(why.clone())),
            Self::Refused(Refusal::Other(why)) => Head::Refused(Refusal::Other(why.clone())),
            Self::Done => Head::Done,
        };
        Some(join(&head, &body))
    }

    pub(super) fn read(bytes: Bytes) -> Result<Self, TranscodeError> {
        let (head, mut body) = split(bytes)?;
        Ok(match head {
            Head::Alive => Self::Alive,
            Head::Info(info) => Self::Info(*info),
            Head::Source(request, kept) => {
                let request = Arc::new(request.read(&mut body)?);
                let kept = kept.into_iter().map(|it| it.read(&mut body));
                Self::Source(SourceChunk {
                    request,
                    kept: kept.collect::<Result<_, _>>()?,
                })
            }
            Head::Broken(why) => Self::Broken(why),
            Head::Output(made) => Self::Output(made.read(&mut body)?),
            Head::Refused(refusal) => Self::Refused(refusal),
            Head::Done => Self::Done,
        })
    }
}

impl Refusal {
    pub(super) fn of(why: TranscodeError) -> Self {
        match why {
            TranscodeError::File { source, .. } => Self::File(source.raw_os_error(), source.to_string()),
            TranscodeError::NotMedia { why, .. } => Self::NotMedia(why),
            TranscodeError::Damaged { why, .. } => Self::Damaged(why),
            other => Self::Other(other.to_string()),
        }
    }

    /// The error that it was.
    pub(super) fn error(self, task: &Task) -> TranscodeError {
        let path = task.path().map(Path::to_owned).unwrap_or_default();
        match self {
            Self::File(number, why) => TranscodeError::File {
                path,
                source: number.map_or_else(|| io::Error::other(why), io::Error::from_raw_os_error),
            },
            Self::NotMedia(why) => TranscodeError::NotMedia { path, why },
            Self::Damaged(why) => TranscodeError::Damaged { path, why },
            Self::Other(why) => TranscodeError::Apart {
                task: task.words(),
                why: format!("cannot: {why}"),
            },
        }
    }
}

/// Reads one message; `None` where nothing more comes.
pub(super) fn hear(from: &mut impl Read) -> io::Result<Option<Bytes>> {
    let mut len = [0; 4];
    if let Err(why) = from.read_exact(&mut len) {
        return at_end(why);
    }
    let len = u32::from_be_bytes(len);
    if len > limits::MESSAGE_BYTES {
        let why = format!(
            "it says {len} bytes at once, and {} are listened to",
            limits::MESSAGE_BYTES
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    // What it has not said yet takes no memory.
    let mut message = Vec::with_capacity((len as usize).min(1 << 20));
    if let Err(why) = from.take(u64::from(len)).read_to_end(&mut message) {
        return at_end(why);
    }
    match message.len() == len as usize {
        true => Ok(Some(message.into())),
        false => Ok(None),
    }
}

fn at_end(why: io::Error) -> io::Result<Option<Bytes>> {
    match why.kind() {
        // the other end is gone, or went with something unread
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Ok(None),
        _ => Err(why),
    }
}

/// Writes one message.
pub(super) fn say(message: &[u8], to: &mut impl io::Write) -> io::Result<()> {
    let len = u32::try_from(message.len())
        .ok()
        .filter(|len| *len <= limits::MESSAGE_BYTES)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is too much to be said at once"))?;
    to.write_all(&len.to_be_bytes())?;
    to.write_all(message)?;
    to.flush()
}
