//! A program that reads files for an engine in processes of its own: what `ApartConfig::program` names. A host's is the one line that this
//! does when it is called without arguments.
//!
//! With arguments it is what tests need, `worker FOLDER [TASK:BYTES:TIMES]…`: it leaves a file in the folder for each task, and the first so
//! many processes that have that task (`Probe`, `Chunks`, `File`, `Encode`) end by SIGSEGV once so many bytes have been said.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        None => loom_engine::serve_apart(),
        Some((folder, deaths)) => match between(folder.as_ref(), deaths) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("the process between ends: {why}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Has the task done by another process, and stands between it and who asked for it.
fn between(folder: &Path, deaths: &[String]) -> io::Result<()> {
    let mut asker = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut len = [0; 4];
    asker.read_exact(&mut len)?;
    let mut order = vec![0; u32::from_be_bytes(len) as usize];
    asker.read_exact(&mut order)?;
    let head = String::from_utf8_lossy(&order[..order.len().min(100)]).into_owned();
    let task = ["Probe", "Chunks", "File", "Encode"]
        .into_iter()
        .find(|it| head.contains(&format!("{{\"{it}\"")))
        .ok_or_else(|| io::Error::other(head.clone()))?;
    let nth = number(folder, task)?;
    let (mut doer, theirs) = UnixStream::pair()?;
    Command::new(std::env::current_exe()?)
        .stdin(std::os::fd::OwnedFd::from(theirs))
        .spawn()?;
    doer.write_all(&len)?;
    doer.write_all(&order)?;
    let (mut from_asker, mut to_doer) = (asker.try_clone()?, doer.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from_asker, &mut to_doer);
        let _ = to_doer.shutdown(std::net::Shutdown::Both);
    });
    for death in deaths {
        let [of, bytes, times] = death.split(':').collect::<Vec<_>>()[..] else {
            return Err(io::Error::other(death.clone()));
        };
        let number = |text: &str| text.parse::<u64>().map_err(io::Error::other);
        if of == task && nth <= number(times)? {
            io::copy(&mut (&mut doer).take(number(bytes)?), &mut asker)?;
            // Rust's own handler lets one pass that no instruction of its own has raised, and is gone then.
            for _ in 0..2 {
                Command::new("kill")
                    .args(["-s", "SEGV", &std::process::id().to_string()])
                    .status()?;
            }
        }
    }
    io::copy(&mut doer, &mut asker)?;
    Ok(())
}

/// How many processes have had this task, this one too.
fn number(folder: &Path, task: &str) -> io::Result<u64> {
    for nth in 1.. {
        match fs::File::create_new(folder.join(format!("{task}-{nth}"))) {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|_| nth),
        }
    }
    unreachable!("it counts on")
}
