//! What Loom logs, handed to the host.

use std::ffi::{CString, c_char, c_void};
use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::call::{call, text};
use crate::result::{Failure, LOOM_ERROR_ARGUMENT, LOOM_ERROR_EXISTS, LOOM_ERROR_NULL, loom_result};

/// Gets one line of the log: `level` is 1 (error), 2 (warning), 3 (information), 4 (debugging) or 5 (tracing); `line` is valid until it
/// returns. Called on any thread, several at once, also on those that call Loom. It should not wait, and may make no call of Loom's.
pub type loom_log_fn = Option<unsafe extern "C" fn(user: *mut c_void, level: i32, line: *const c_char)>;

/// Has `log` called with what is logged from here on, for the rest of the process. `filter` says what: "info", or levels by part, as in
/// "info,webrtc=warn". `user` is handed to it, and must be valid for as long.
///
/// LOOM_ERROR_ARGUMENT: the filter is none. LOOM_ERROR_EXISTS: something in this process takes the log already.
///
/// # Safety
/// `log` may be called at any time with `user`; `filter` ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_log_set(
    log: loom_log_fn,
    user: *mut c_void,
    filter: *const c_char,
) -> loom_result {
    call(|| {
        let log = log.ok_or_else(|| Failure::new(LOOM_ERROR_NULL, "log is NULL"))?;
        // SAFETY: as the call's own
        let filter = unsafe { text(filter, "filter") }?;
        let filter: EnvFilter = EnvFilter::try_new(filter)
            .map_err(|why| Failure::new(LOOM_ERROR_ARGUMENT, format!("{filter:?} is no filter: {why}")))?;
        let sink = Sink { log, user };
        let taken = |_| Failure::new(LOOM_ERROR_EXISTS, "the log of this process is taken already");
        tracing_subscriber::registry()
            .with(sink.with_filter(filter))
            .try_init()
            .map_err(taken)
    })
}

struct Sink {
    log: unsafe extern "C" fn(*mut c_void, i32, *const c_char),
    user: *mut c_void,
}

// SAFETY: by `loom_log_set` the function may be called on any thread with what it was given
unsafe impl Send for Sink {}
// SAFETY: as above
unsafe impl Sync for Sink {}

impl<S: Subscriber> Layer<S> for Sink {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(format!("{}: ", event.metadata().target()));
        event.record(&mut line);
        let level = match *event.metadata().level() {
            Level::ERROR => 1,
            Level::WARN => 2,
            Level::INFO => 3,
            Level::DEBUG => 4,
            Level::TRACE => 5,
        };
        let text: Vec<u8> = line
            .0
            .into_bytes()
            .into_iter()
            .filter(|byte| *byte != 0)
            .collect();
        let text = CString::new(text).unwrap_or_default();
        // SAFETY: the text ends with NUL and outlives the call; the rest is by `loom_log_set`
        unsafe { (self.log)(self.user, level, text.as_ptr()) };
    }
}

/// An event's message, then its fields.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "{name}={value:?} "),
        };
    }
}
