//! The other side: what a process apart does.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::message::{Order, Refusal, Said, Task, hear, say};
use super::restraint::restrain;
use crate::backend::{Backend, Output};
use crate::chunk::ChunkRequest;
use crate::error::TranscodeError;
use crate::gst::{Encoding, GstBackend, probe_aloud, read_chunks};
use crate::plan::Plan;

/// Does what an [`Apart`](crate::Apart) in the process that started this one asks for, and nothing else: to be called before the program
/// begins anything. Its standard input is a socket, from which the task is read and to which is written what comes of it; standard output and
/// standard error are for what is logged.
///
/// The process takes a lower priority, writes no core, and holds itself to [`ApartConfig::memory`](crate::ApartConfig::memory). It ends at
/// once when the socket does.
///
/// A program that is its own worker:
///
/// ```no_run
/// use std::process::ExitCode;
/// use loom_transcode::{ApartConfig, serve_apart};
///
/// fn main() -> ExitCode {
///     if std::env::args_os().nth(1).is_some_and(|it| it == "worker") {
///         return serve_apart(); // before anything else is begun
///     }
///     println!("files are read by {:?}", ApartConfig::this_program(["worker"]));
///     ExitCode::SUCCESS
/// }
/// ```
pub fn serve_apart() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tracing::error!("the process that works apart ends: {why}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut speaker = Speaker(socket.try_clone()?);
    let order = hear(&mut socket)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut order = Order::read(order).map_err(io::Error::other)?;
    restrain(order.memory)?;
    let (sender, orders) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("loom-apart".to_owned())
        .spawn(move || listen(socket, &sender))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    loop {
        match runtime.block_on(speaker.work(order.task)) {
            Ok(()) => speaker.say(&Said::Done)?,
            Err(Stop::Refused(why)) => speaker.say(&Said::Refused(Refusal::of(why)))?,
            Err(Stop::Unheard(why)) => return Err(why),
        }
        order = orders.recv().map_err(io::Error::other)?;
    }
}

/// Says what comes of the task.
struct Speaker(UnixStream);

/// Why a task ends early.
enum Stop {
    Refused(TranscodeError),
    /// Nobody listens.
    Unheard(io::Error),
}

impl From<TranscodeError> for Stop {
    fn from(why: TranscodeError) -> Self {
        Self::Refused(why)
    }
}

impl From<io::Error> for Stop {
    fn from(why: io::Error) -> Self {
        Self::Unheard(why)
    }
}

impl Speaker {
    fn say(&mut self, said: &Said) -> io::Result<()> {
        said.to_bytes()
            .map_or(Ok(()), |message| say(&message, &mut self.0))
    }

    async fn work(&mut self, task: Task) -> Result<(), Stop> {
        match task {
            Task::Probe { path } => self.probe(&path),
            Task::Chunks { plan, path, least } => self.read_chunks(&plan, &path, least).await,
            Task::File { plan, path } => self.run(&plan, &path).await,
            Task::Encode(request) => self.encode(&request).await,
        }
    }

    fn probe(&mut self, path: &Path) -> Result<(), Stop> {
        let info = probe_aloud(path, || {
            // that nobody listens, it learns in the end
            let _ = self.say(&Said::Alive);
        })?;
        Ok(self.say(&Said::Info(info))?)
    }

    async fn read_chunks(&mut self, plan: &Plan, path: &Path, least: Duration) -> Result<(), Stop> {
        let mut chunks = read_chunks(plan, path, least)?;
        self.say(&Said::Alive)?;
        while let Some(read) = chunks.recv().await {
            match read {
                Ok(chunk) => self.say(&Said::Source(chunk))?,
                Err(why) => self.say(&Said::Broken(why))?,
            }
        }
        Ok(())
    }

    async fn run(&mut self, plan: &Plan, path: &Path) -> Result<(), Stop> {
        let mut outputs = GstBackend::new()?.file(plan, path)?;
        self.say(&Said::Alive)?;
        while let Some(output) = outputs.recv().await {
            if output != Output::End {
                self.say(&Said::Output(output))?;
            }
        }
        Ok(())
    }

    async fn encode(&mut self, request: &Arc<ChunkRequest>) -> Result<(), Stop> {
        GstBackend::new()?;
        let mut encoding = Encoding::start(request).await?;
        let mut pictures = 0;
        loop {
            match tokio::time::timeout(BEAT, encoding.next()).await {
                Ok(output) => match output? {
                    Some(output) => self.say(&Said::Output(output))?,
                    None => return Ok(()),
                },
                // Still pictures are decoded, and nothing is made of them.
                Err(_) => {
                    let now = encoding.pictures();
                    if now != std::mem::replace(&mut pictures, now) {
                        self.say(&Said::Alive)?;
                    }
                }
            }
        }
    }
}

/// Hears what is to be done next, and ends the process when nobody holds the other end any more.
fn listen(mut socket: UnixStream, orders: &Sender<Order>) {
    while let Ok(Some(order)) = hear(&mut socket) {
        let Ok(order) = Order::read(order) else { break };
        if orders.send(order).is_err() {
            break;
        }
    }
    // Without a last word of libraries that may be what hangs.
    std::process::abort();
}

/// How often a process that makes nothing says that it goes on.
const BEAT: Duration = Duration::from_secs(1);
