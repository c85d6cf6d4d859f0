use std::io;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// A thread that receives until this is dropped.
pub(super) struct Receiving {
    _until: oneshot::Sender<()>,
}

impl Receiving {
    /// Runs `receive` on a thread of its own, before others where the system allows that.
    pub(super) fn start(receive: impl Future<Output = ()> + Send + 'static) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (until, dropped) = oneshot::channel();
        std::thread::Builder::new()
            .name("loom-receive".to_owned())
            .spawn(move || {
                raise_priority();
                runtime.block_on(async {
                    tokio::select! {
                        () = receive => {}
                        _ = dropped => {}
                    }
                });
            })?;
        Ok(Self { _until: until })
    }
}

/// Of the calling thread: it takes little, and what it takes too late is lost. Where the system does not allow it (`CAP_SYS_NICE`,
/// `RLIMIT_NICE`), all are alike.
#[cfg(target_os = "linux")]
fn raise_priority() {
    /// As much before others as sound is on a desktop.
    const NICE: i32 = -11;
    // on Linux a thread has a priority of its own
    let _ = rustix::process::setpriority_process(None, NICE);
}

#[cfg(not(target_os = "linux"))]
fn raise_priority() {}
