//! Memory that ended graphs leave behind.

/// Gives what graphs have freed back to the system. Their pictures lay in the C library's arenas of all their threads, which keep what is free
/// below anything that is not: without this some 300 MB stay after a few dozen recordings.
pub(super) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code, reason = "no safe crate has it")]
    // SAFETY: it takes no pointer, and any thread may call it at any time (malloc_trim(3): MT-Safe)
    unsafe {
        libc::malloc_trim(0);
    }
}
