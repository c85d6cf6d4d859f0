use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which program reads files in processes of its own, so that what a hostile file does to a demuxer or a decoder ends such a process and no
/// more.
///
/// ```
/// use loom_transcode::ApartConfig;
///
/// let apart = ApartConfig {
///     memory: Some(2 << 30),
///     ..ApartConfig::this_program(["worker"]) // which calls serve_apart then
/// };
/// assert_eq!(apart.arguments, ["worker"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApartConfig {
    /// The program. With [`arguments`](Self::arguments) it calls `serve_apart`, and does nothing else.
    pub program: PathBuf,
    /// What it is called with.
    pub arguments: Vec<OsString>,
    /// How many bytes of memory each process may have written to (`RLIMIT_DATA`, setrlimit(2)); `None`: as many as there are. 4 GiB unless
    /// told, which suffices for pictures of 4096x2160. There are as many processes as chunks are encoded at once, and two more for each file.
    pub memory: Option<u64>,
    /// How long a process that is listened to may say nothing, and come no further with what it does, before it is ended. Two minutes unless
    /// told.
    pub stall: Duration,
}

impl ApartConfig {
    /// This program, with a default for the rest.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            memory: Some(4 << 30),
            stall: Duration::from_secs(120),
        }
    }

    /// The program that runs, called with these arguments: as it was when it was started, also where its file has been replaced since.
    pub fn this_program<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Self {
        // proc(5): it is that of whoever opens it, which still is this one
        let itself = Path::new("/proc/self/exe");
        let program = match itself.exists() {
            true => itself.to_owned(),
            // as it was called, where even that is not known
            false => std::env::current_exe()
                .unwrap_or_else(|_| std::env::args_os().next().unwrap_or_default().into()),
        };
        Self {
            arguments: arguments.into_iter().map(Into::into).collect(),
            ..Self::new(program)
        }
    }
}
