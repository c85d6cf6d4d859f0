//! What a process that reads files of strangers takes less of.

use std::io;

use rlimit::{Resource, setrlimit};

/// Takes a lower priority, writes no core, and no more than so many bytes of memory. To be called while there is one thread: others inherit
/// its priority.
pub(super) fn restrain(memory: Option<u64>) -> io::Result<()> {
    setrlimit(Resource::CORE, 0, 0)?;
    if let Some(memory) = memory {
        setrlimit(Resource::DATA, memory, memory)?;
    }
    #[allow(unsafe_code, reason = "no crate that is here has it")]
    // SAFETY: it takes no pointer, and any thread may call it (nice(2)); that it can fail costs nothing.
    unsafe {
        libc::nice(NICE);
    }
    Ok(())
}

/// By so much its priority is lower (nice(2)): live recordings go first.
const NICE: i32 = 5;
