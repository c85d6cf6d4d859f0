//! One process, and the thread that listens to it.

use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::message::{Said, Task, hear, say};
use crate::apart_config::ApartConfig;
use crate::gst::lock;

/// A process that does a task, and others after it. Dropping it ends the process.
///
/// A thread starts it, listens to it and waits for its end: a host's runtime needs no part of it, and no handler for the signal of a child's
/// end is put into the host's process.
#[derive(Debug)]
pub(super) struct Process {
    said: mpsc::Receiver<Result<Said, Silence>>,
    tasks: Sender<Errand>,
    life: Arc<Mutex<Life>>,
}

/// A task, and who hears what is said of it.
type Errand = (Arc<Task>, mpsc::Sender<Result<Said, Silence>>);

/// Why nothing more is heard of a process.
#[derive(Debug)]
pub(super) enum Silence {
    /// It died; with how, in words.
    Died(String),
    /// It could not be started, cannot be understood, or stands still; in words.
    Ended(String),
}

/// What both threads know of the process.
#[derive(Debug, Default)]
struct Life {
    child: Option<Child>,
    /// Whoever holds its other end learns by its end that it is to end.
    socket: Option<UnixStream>,
    /// Nobody wants it any more.
    unwanted: bool,
}

impl Process {
    pub(super) fn start(config: Arc<ApartConfig>, task: Arc<Task>) -> Self {
        let (tasks, errands) = std::sync::mpsc::channel::<Errand>();
        let life = Arc::<Mutex<Life>>::default();
        let own = life.clone();
        let listen = move || {
            if let Ok(mut errand) = errands.recv()
                && let Err(why) = listen(&config, &mut errand, &errands, &own)
            {
                let _ = errand.1.blocking_send(Err(why));
            }
            end(&own);
        };
        let thread = std::thread::Builder::new().name("loom-apart".to_owned());
        let thread = thread.spawn(listen).map(drop);
        let (_, said) = mpsc::channel(1);
        let mut process = Self { said, tasks, life };
        process.give(task);
        if let Err(why) = thread {
            tracing::error!(%why, "no thread can be had to listen to a process");
        }
        process
    }

    /// Has it do another task. It must have done the one before.
    pub(super) fn give(&mut self, task: Arc<Task>) {
        let (sender, said) = mpsc::channel(task.queue());
        self.said = said;
        // Where nobody takes it, its end is all that is heard.
        let _ = self.tasks.send((task, sender));
    }

    /// The next that it says. Cancellation safe.
    pub(super) async fn hear(&mut self, stall: Duration) -> Result<Said, Silence> {
        match tokio::time::timeout(stall, self.said.recv()).await {
            Ok(Some(said)) => said,
            Ok(None) => Err(Silence::Ended("is not listened to any more".to_owned())),
            Err(_) => {
                let secs = stall.as_secs_f64();
                Err(Silence::Ended(format!("stood still for {secs} s")))
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut life = lock(&self.life);
        life.unwanted = true;
        life.kill();
    }
}

impl Life {
    fn kill(&mut self) {
        if let Some(socket) = self.socket.take() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        if let Some(child) = &mut self.child {
            // It may have ended; its thread waits for it either way.
            let _ = child.kill();
        }
    }
}

/// Starts it, tells it its tasks, one after the other, and hands on what it says of each until it has said all.
fn listen(
    config: &ApartConfig,
    errand: &mut Errand,
    errands: &Receiver<Errand>,
    life: &Mutex<Life>,
) -> Result<(), Silence> {
    let program = config.program.display();
    let refused = |why: io::Error| Silence::Ended(format!("could not be started ({program}): {why}"));
    let (mut socket, theirs) = UnixStream::pair().map_err(refused)?;
    let aloud = io::stderr().as_fd().try_clone_to_owned().map_err(refused)?;
    let child = Command::new(&config.program)
        .args(&config.arguments)
        .stdin(OwnedFd::from(theirs))
        // what is logged
        .stdout(Stdio::from(aloud))
        .spawn()
        .map_err(refused)?;
    {
        let mut life = lock(life);
        life.child = Some(child);
        if life.unwanted {
            return Ok(());
        }
        life.socket = Some(socket.try_clone().map_err(refused)?);
    }
    let mut teller = socket.try_clone().map_err(refused)?;
    let mut socket = BufReader::with_capacity(64 << 10, &mut socket);
    loop {
        // One that dies before it has heard all says by its end why.
        let _ = say(&errand.0.order(config.memory), &mut teller);
        loop {
            let message = hear(&mut socket);
            let message = message.map_err(|why| Silence::Ended(format!("is not listened to: {why}")))?;
            let Some(message) = message else {
                return Err(Silence::Died(match ended(life) {
                    Some(status) => format!("ended before it was done ({status})"),
                    None => "said no more before it was done".to_owned(),
                }));
            };
            let said = Said::read(message);
            let said = said.map_err(|why| Silence::Ended(format!("cannot be understood: {why}")))?;
            let done = matches!(said, Said::Done | Said::Refused(_));
            if errand.1.blocking_send(Ok(said)).is_err() {
                return Ok(());
            }
            if done {
                break;
            }
        }
        match errands.recv() {
            Ok(next) => *errand = next,
            Err(_) => return Ok(()),
        }
    }
}

/// How it ended. One that says no more and has not ended soon is not waited for.
fn ended(life: &Mutex<Life>) -> Option<ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < LAST_MOMENT {
        if let Some(child) = &mut lock(life).child
            && let Ok(Some(status)) = child.try_wait()
        {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Ends it, and waits until it has: no process is left behind.
fn end(life: &Mutex<Life>) {
    let child = {
        let mut life = lock(life);
        life.kill();
        life.child.take()
    };
    if let Some(mut child) = child {
        let _ = child.wait();
    }
}

/// From the end of its output to the end of the process.
const LAST_MOMENT: Duration = Duration::from_secs(5);
