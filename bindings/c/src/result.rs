//! What a call says, and what the last one that failed on a thread was about.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::fmt;

use loom_engine::{EngineError, HlsError, IngestError};

/// What a call says: LOOM_OK, or why there is no result. 1 to 99: nothing is wrong. 100 to 199: the call is. 200 to 299: what it is about
/// is not so that it could be done. 300 to 399: this machine cannot. 900 to 999: a fault in Loom. Others are reserved.
pub type loom_result = i32;

/// It is done, and results are written.
pub const LOOM_OK: i32 = 0;
/// What was waited for did not come in time.
pub const LOOM_TIMEOUT: i32 = 1;
/// There are no more events: the recording is ready, failed or deleted, and that was told.
pub const LOOM_END: i32 = 2;
/// Too much that was pushed waits: nothing was taken. A packet can be pushed again a little later; raw media is rather let go.
pub const LOOM_BEHIND: i32 = 3;
/// A pointer is NULL that may not be.
pub const LOOM_ERROR_NULL: i32 = 100;
/// Text is no UTF-8.
pub const LOOM_ERROR_TEXT: i32 = 101;
/// A value is none of those that are allowed.
pub const LOOM_ERROR_ARGUMENT: i32 = 102;
/// An offer, a file, a packet or a picture cannot be used.
pub const LOOM_ERROR_MEDIA: i32 = 103;
/// There is no recording, session or rendition of that name.
pub const LOOM_ERROR_NOT_FOUND: i32 = 200;
/// There is one of that name already.
pub const LOOM_ERROR_EXISTS: i32 = 201;
/// The recording, or the thread, is in a state in which this cannot be done.
pub const LOOM_ERROR_STATE: i32 = 202;
/// It is not there yet.
pub const LOOM_ERROR_NOT_READY: i32 = 203;
/// As many recordings are live, or as many publishers there, as may be; or the disk is full.
pub const LOOM_ERROR_FULL: i32 = 204;
/// The disk, the network or the store said no.
pub const LOOM_ERROR_IO: i32 = 300;
/// Media cannot be transcoded or packaged here.
pub const LOOM_ERROR_TRANSCODE: i32 = 301;
/// Something in Loom panicked. The object that the call was about may be unusable; free it.
pub const LOOM_ERROR_PANIC: i32 = 900;
/// An error of no other kind.
pub const LOOM_ERROR_INTERNAL: i32 = 901;

/// The version of this ABI. A program that was built against another cannot use the library.
pub const LOOM_ABI_VERSION: u32 = 0;

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) result: loom_result,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(result: loom_result, message: impl fmt::Display) -> Self {
        Self {
            result,
            message: message.to_string(),
        }
    }

    /// What is no error, and has no message.
    pub(crate) fn nothing(result: loom_result) -> Self {
        Self::new(result, "")
    }
}

impl From<EngineError> for Failure {
    fn from(why: EngineError) -> Self {
        let result = match &why {
            // on the way of each packet: no error, and no words are made
            EngineError::Behind => return Self::nothing(LOOM_BEHIND),
            EngineError::NotFound(_)
            | EngineError::NoSuchSession { .. }
            | EngineError::NoSuchRendition { .. }
            | EngineError::NoSuchJob { .. }
            | EngineError::NoSuchVersion { .. } => LOOM_ERROR_NOT_FOUND,
            EngineError::Exists(_) => LOOM_ERROR_EXISTS,
            EngineError::Full { .. }
            | EngineError::Crowded { .. }
            | EngineError::DiskFull { .. }
            | EngineError::BadOffer(IngestError::Full { .. } | IngestError::FullForAddress { .. }) => {
                LOOM_ERROR_FULL
            }
            EngineError::BadOffer(_) | EngineError::BadMedia(_) | EngineError::BadPush { .. } => {
                LOOM_ERROR_MEDIA
            }
            EngineError::BadText(_)
            | EngineError::BadEdit(_)
            | EngineError::BadComposition(_)
            | EngineError::Package(HlsError::Config { .. }) => LOOM_ERROR_ARGUMENT,
            EngineError::AlreadyPublished(_)
            | EngineError::WrongState { .. }
            | EngineError::NoCamera(_)
            | EngineError::Superseded { .. }
            | EngineError::ShuttingDown => LOOM_ERROR_STATE,
            EngineError::NotReady(_) => LOOM_ERROR_NOT_READY,
            EngineError::Io { .. } | EngineError::Ingest(_) | EngineError::Store(_) => LOOM_ERROR_IO,
            EngineError::Transcode(_) | EngineError::Package(_) | EngineError::Download(_) => {
                LOOM_ERROR_TRANSCODE
            }
            _ => LOOM_ERROR_INTERNAL,
        };
        Self::new(result, why)
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Remembers what went wrong on this thread.
pub(crate) fn remember(message: &str) {
    let text: Vec<u8> = message.bytes().filter(|byte| *byte != 0).collect();
    // where the thread ends, nobody can ask any more
    let _ = LAST.try_with(|last| *last.borrow_mut() = CString::new(text).unwrap_or_default());
}

/// What the last call that failed on this thread was about, in words: what, where, and which rule. Never NULL; empty where none has failed.
/// It is valid until the next call that fails on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn loom_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr())
        .unwrap_or(c"".as_ptr())
}

/// The name of a result, such as "LOOM_ERROR_NULL"; "unknown" for a number that is none. Static.
#[unsafe(no_mangle)]
pub extern "C" fn loom_result_name(result: loom_result) -> *const c_char {
    let name: &'static CStr = match result {
        LOOM_OK => c"LOOM_OK",
        LOOM_TIMEOUT => c"LOOM_TIMEOUT",
        LOOM_END => c"LOOM_END",
        LOOM_BEHIND => c"LOOM_BEHIND",
        LOOM_ERROR_NULL => c"LOOM_ERROR_NULL",
        LOOM_ERROR_TEXT => c"LOOM_ERROR_TEXT",
        LOOM_ERROR_ARGUMENT => c"LOOM_ERROR_ARGUMENT",
        LOOM_ERROR_MEDIA => c"LOOM_ERROR_MEDIA",
        LOOM_ERROR_NOT_FOUND => c"LOOM_ERROR_NOT_FOUND",
        LOOM_ERROR_EXISTS => c"LOOM_ERROR_EXISTS",
        LOOM_ERROR_STATE => c"LOOM_ERROR_STATE",
        LOOM_ERROR_NOT_READY => c"LOOM_ERROR_NOT_READY",
        LOOM_ERROR_FULL => c"LOOM_ERROR_FULL",
        LOOM_ERROR_IO => c"LOOM_ERROR_IO",
        LOOM_ERROR_TRANSCODE => c"LOOM_ERROR_TRANSCODE",
        LOOM_ERROR_PANIC => c"LOOM_ERROR_PANIC",
        LOOM_ERROR_INTERNAL => c"LOOM_ERROR_INTERNAL",
        _ => c"unknown",
    };
    name.as_ptr()
}

/// The library's version, such as "0.1.0". Static.
#[unsafe(no_mangle)]
pub extern "C" fn loom_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// LOOM_ABI_VERSION as the library was built with it.
#[unsafe(no_mangle)]
pub extern "C" fn loom_abi_version() -> u32 {
    LOOM_ABI_VERSION
}

#[cfg(test)]
mod tests {
    use loom_engine::RecordingId;

    use super::*;

    fn last() -> String {
        // SAFETY: it ends with NUL and is valid until the next call that fails
        let last = unsafe { CStr::from_ptr(loom_last_error()) };
        last.to_string_lossy().into_owned()
    }

    #[test]
    fn a_packet_that_has_to_wait_is_no_error_and_leaves_the_last_one_alone() {
        remember("an error");
        let behind = crate::call::call(|| Err(EngineError::Behind.into()));
        assert_eq!((behind, last().as_str()), (LOOM_BEHIND, "an error"));
    }

    #[test]
    fn what_the_caller_can_mend_is_no_fault_of_loom() {
        let recording = RecordingId::new("a").expect("an id");
        let crowded = EngineError::Crowded { recording, limit: 4 };
        assert_eq!(Failure::from(crowded).result, LOOM_ERROR_FULL);
        let edit = EngineError::BadEdit("a piece is empty".to_owned());
        assert_eq!(Failure::from(edit).result, LOOM_ERROR_ARGUMENT);
    }

    #[test]
    fn a_call_that_fails_while_its_thread_ends_ends_nothing_else() {
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                remember("too late");
                assert_eq!(last(), "");
            }
        }
        thread_local! {
            static LATE: Late = const { Late };
        }
        let thread = std::thread::spawn(|| {
            LATE.with(|_| ()); // outlives the words, which are there later
            remember("in time");
        });
        thread.join().expect("it ends as threads do");
    }
}
