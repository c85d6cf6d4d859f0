//! The engine: its configuration, its life, its speech model.

use std::ffi::c_char;
use std::mem::size_of;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::loom_engine::{
    CaptionsConfig, CaptionsStatus, EncryptionConfig, EncryptionScheme, Engine, EngineConfig, EngineError,
    RecordingId, StorageClass, StoreConfig, Wanted, open_store,
};
use tokio::runtime::{Handle, Runtime};
use tokio::time::Instant;

use crate::bytes::loom_bytes;
use crate::call::{Out, call, free, object, optional_text};
use crate::result::{
    Failure, LOOM_ERROR_ARGUMENT, LOOM_ERROR_INTERNAL, LOOM_ERROR_NULL, LOOM_ERROR_STATE, loom_result,
};

/// Renditions: the source as it came, and smaller ones that are encoded.
pub const LOOM_LADDER_FULL: i32 = 0;
/// The source alone, with no encoder.
pub const LOOM_LADDER_SOURCE: i32 = 1;

/// Captions: the model is being found or read.
pub const LOOM_CAPTIONS_LOADING: i32 = 0;
/// Captions can be written.
pub const LOOM_CAPTIONS_ON: i32 = 1;
/// They cannot; recordings work without.
pub const LOOM_CAPTIONS_OFF: i32 = 2;

/// Recordings are asked for often.
pub const LOOM_CLASS_HOT: i32 = 0;
/// Now and then.
pub const LOOM_CLASS_WARM: i32 = 1;
/// Seldom.
pub const LOOM_CLASS_COLD: i32 = 2;
/// Hardly ever.
pub const LOOM_CLASS_ARCHIVE: i32 = 3;

/// Recordings are not encrypted.
pub const LOOM_ENCRYPTION_OFF: i32 = 0;
/// Whole segments and parts, METHOD=AES-128 (RFC 8216bis §4.4.4.4). There is no DASH manifest then.
pub const LOOM_ENCRYPTION_SEGMENTS: i32 = 1;
/// Samples, METHOD=SAMPLE-AES: `cbcs` of ISO/IEC 23001-7.
pub const LOOM_ENCRYPTION_CBCS: i32 = 2;
/// Samples, METHOD=SAMPLE-AES-CTR: `cenc` of ISO/IEC 23001-7.
pub const LOOM_ENCRYPTION_CENC: i32 = 3;

/// How an engine runs. loom_engine_config_init fills it in; then change what is to be otherwise. Zero in a number is its default, but for
/// `captions`.
#[repr(C)]
pub struct loom_engine_config {
    /// The size of this struct in the program: later versions may have more.
    pub size: usize,
    /// Where recordings are kept, one folder each. Created where it is missing. NULL: ".loom".
    pub data_dir: *const c_char,
    /// The UDP address that WebRTC publishers send to, such as "0.0.0.0:8189". NULL: any free port.
    pub udp: *const c_char,
    /// A Whisper model: a folder or a file. NULL: LOOM_MODEL of the environment, else it is looked for, and fetched where there is none.
    pub model: *const c_char,
    /// Whether captions are written. 0: no model is loaded, and there are no transcripts.
    pub captions: i32,
    /// LOOM_LADDER_FULL or LOOM_LADDER_SOURCE.
    pub ladder: i32,
    /// The length of a live segment, milliseconds: 250 to 5000.
    pub segment_ms: u32,
    /// The length of a live part, milliseconds (PART-TARGET of RFC 8216bis): 50 to four fifths of a segment.
    pub part_ms: u32,
    /// How long a publisher that vanished is waited for, milliseconds. UINT32_MAX: not at all.
    pub reconnect_ms: u32,
    /// How many recordings may be live at once.
    pub max_live: u32,
    /// No recording is begun while the disk has fewer bytes free.
    pub min_free_bytes: u64,
    /// Where recordings are kept beside the disk, and served from where that has lost them: "file:///PATH", or "s3://BUCKET/PREFIX", reached
    /// as the environment says (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY). NULL: nowhere.
    pub store: *const c_char,
    /// How often recordings will be asked for, a tag of what the store has: one of LOOM_CLASS_….
    pub storage_class: i32,
    /// How recordings are encrypted, with random keys that their streams serve: one of LOOM_ENCRYPTION_….
    pub encryption: i32,
    /// How many segments a key serves. 0: one key serves a recording.
    pub key_segments: u32,
    /// The addresses that WebRTC publishers are told to send to, such as the public one of a machine behind a NAT: IP addresses with commas
    /// between, "203.0.113.7,2001:db8::7". NULL: every address of this machine.
    pub announce: *const c_char,
    /// How many sessions may be open whose offers came from one address, where loom_recording_publish is told that.
    pub max_per_address: u32,
}

/// An engine: one UDP port, one speech model, any number of recordings. Recordings, events and pushers keep it alive; with the last of
/// them, and its own handle, it ends, and with it what is live. Its threads are its own.
pub struct loom_engine {
    pub(crate) host: Arc<Host>,
}

/// An engine and the threads that it runs on.
pub(crate) struct Host {
    engine: Option<Engine>,
    runtime: Option<Runtime>,
}

impl Host {
    pub(crate) fn engine(&self) -> Result<&Engine, Failure> {
        self.engine.as_ref().ok_or_else(gone)
    }

    /// For calls that only need to be made where tasks can be begun.
    pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> Result<T, Failure> {
        let _here = self.runtime.as_ref().ok_or_else(gone)?.enter();
        Ok(work())
    }

    /// Waits for something on the calling thread.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        wait_on(self.runtime.as_ref().ok_or_else(gone)?, work)
    }

    /// As [`Self::wait`], for work that blocks by itself.
    pub(crate) fn block<T>(&self, work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, Failure> {
        outside_callbacks()?;
        Ok(work()?)
    }

    /// As [`Self::wait`], for what may fail.
    pub(crate) fn try_wait<T>(
        &self,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, Failure> {
        Ok(self.wait(work)??)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.engine.take());
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        match Handle::try_current() {
            // a callback freed the last handle; a thread cannot wait for itself
            Ok(_) => runtime.shutdown_background(),
            Err(_) => runtime.shutdown_timeout(FREE_LIMIT),
        }
    }
}

fn wait_on<T>(runtime: &Runtime, work: impl Future<Output = T>) -> Result<T, Failure> {
    outside_callbacks()?;
    Ok(runtime.block_on(work))
}

/// Callbacks are called on threads that others wait for.
fn outside_callbacks() -> Result<(), Failure> {
    match Handle::try_current() {
        Ok(_) => Err(Failure::new(
            LOOM_ERROR_STATE,
            "a call that waits was made in a callback",
        )),
        Err(_) => Ok(()),
    }
}

fn gone() -> Failure {
    Failure::new(LOOM_ERROR_STATE, "the engine is gone")
}

impl loom_engine_config {
    const DEFAULT: Self = Self {
        size: size_of::<Self>(),
        data_dir: std::ptr::null(),
        udp: std::ptr::null(),
        model: std::ptr::null(),
        captions: 1,
        ladder: LOOM_LADDER_FULL,
        segment_ms: 0,
        part_ms: 0,
        reconnect_ms: 0,
        max_live: 0,
        min_free_bytes: 0,
        store: std::ptr::null(),
        storage_class: LOOM_CLASS_HOT,
        encryption: LOOM_ENCRYPTION_OFF,
        key_segments: 0,
        announce: std::ptr::null(),
        max_per_address: 0,
    };

    /// What the program has said, with defaults for fields that it does not know.
    ///
    /// # Safety
    /// `config` is NULL, or has as many bytes as it says.
    unsafe fn read(config: *const Self) -> Result<Self, Failure> {
        if config.is_null() {
            return Err(Failure::new(LOOM_ERROR_NULL, "config is NULL"));
        }
        // SAFETY: every version of the struct begins with its size
        let size = unsafe { config.cast::<usize>().read() };
        check_size(size)?;
        let mut whole = Self::DEFAULT;
        // SAFETY: both have at least that many bytes, and any bytes are a value of these fields
        unsafe { std::ptr::copy_nonoverlapping(config.cast::<u8>(), (&raw mut whole).cast::<u8>(), size) };
        Ok(whole)
    }

    /// # Safety
    /// Its texts are NULL or end with NUL.
    unsafe fn to_config(&self) -> Result<EngineConfig, Failure> {
        let wrong = |why: String| Failure::new(LOOM_ERROR_ARGUMENT, why);
        let mut config = EngineConfig::default();
        // SAFETY: as the call's own
        if let Some(data_dir) = unsafe { optional_text(self.data_dir, "config.data_dir") }? {
            config.data_dir = PathBuf::from(data_dir);
        }
        // SAFETY: as the call's own
        match unsafe { optional_text(self.udp, "config.udp") }? {
            Some(udp) => {
                config.ingest.udp = udp
                    .parse()
                    .map_err(|why| wrong(format!("config.udp {udp:?}: {why}")))?;
            }
            None => config.ingest.udp.set_port(0),
        }
        // SAFETY: as the call's own
        if let Some(announce) = unsafe { optional_text(self.announce, "config.announce") }? {
            let addresses = announce
                .split(',')
                .map(|it| address(it.trim(), "config.announce"));
            config.ingest.announce = addresses.collect::<Result<_, _>>()?;
        }
        if self.max_per_address > 0 {
            config.ingest.max_sessions_per_address = self.max_per_address as usize;
        }
        let captions = match self.captions {
            0 => false,
            1 => true,
            other => return Err(wrong(format!("config.captions is {other}; it is 0 or 1"))),
        };
        config.captions = CaptionsConfig {
            enabled: captions,
            ..config.captions
        };
        // SAFETY: as the call's own
        if let Some(model) = unsafe { optional_text(self.model, "config.model") }? {
            config.captions.model.path = Some(PathBuf::from(model));
        }
        config.ladder = match self.ladder {
            LOOM_LADDER_FULL => config.ladder,
            LOOM_LADDER_SOURCE => Wanted::source_only(),
            other => {
                return Err(wrong(format!(
                    "config.ladder is {other}, which is none of LOOM_LADDER_…"
                )));
            }
        };
        let millis = |value: u32| Duration::from_millis(value.into());
        if self.segment_ms > 0 {
            config.segment = millis(self.segment_ms);
        }
        if self.part_ms > 0 {
            config.part = millis(self.part_ms);
        }
        config.reconnect_window = match self.reconnect_ms {
            0 => config.reconnect_window,
            u32::MAX => Duration::ZERO,
            some => millis(some),
        };
        if self.max_live > 0 {
            config.max_live = self.max_live as usize;
        }
        if self.min_free_bytes > 0 {
            config.min_free_space = self.min_free_bytes;
        }
        // SAFETY: as the call's own
        config.store = unsafe { self.store() }?;
        config.encryption = self.encryption()?;
        Ok(config)
    }

    /// # Safety
    /// As [`Self::to_config`].
    unsafe fn store(&self) -> Result<Option<StoreConfig>, Failure> {
        let class = storage_class_named(self.storage_class, "config.storage_class")?;
        // SAFETY: as the call's own
        let Some(address) = unsafe { optional_text(self.store, "config.store") }? else {
            return Ok(None);
        };
        let wrong = |why| Failure::new(LOOM_ERROR_ARGUMENT, format!("config.store: {why}"));
        Ok(Some(StoreConfig {
            class,
            ..StoreConfig::new(open_store(address).map_err(wrong)?)
        }))
    }

    fn encryption(&self) -> Result<Option<EncryptionConfig>, Failure> {
        let scheme = match self.encryption {
            LOOM_ENCRYPTION_OFF => return Ok(None),
            LOOM_ENCRYPTION_SEGMENTS => EncryptionScheme::Segments,
            LOOM_ENCRYPTION_CBCS => EncryptionScheme::Cbcs,
            LOOM_ENCRYPTION_CENC => EncryptionScheme::Cenc,
            other => {
                let why = format!("config.encryption is {other}, which is none of LOOM_ENCRYPTION_…");
                return Err(Failure::new(LOOM_ERROR_ARGUMENT, why));
            }
        };
        Ok(Some(EncryptionConfig {
            rotation: NonZeroU32::new(self.key_segments),
            ..EncryptionConfig::new(scheme)
        }))
    }
}

/// An IP address.
pub(crate) fn address(text: &str, name: &str) -> Result<IpAddr, Failure> {
    text.parse()
        .map_err(|why| Failure::new(LOOM_ERROR_ARGUMENT, format!("{name} {text:?}: {why}")))
}

/// One of `LOOM_CLASS_…`.
pub(crate) fn storage_class_named(number: i32, name: &str) -> Result<StorageClass, Failure> {
    Ok(match number {
        LOOM_CLASS_HOT => StorageClass::Hot,
        LOOM_CLASS_WARM => StorageClass::Warm,
        LOOM_CLASS_COLD => StorageClass::Cold,
        LOOM_CLASS_ARCHIVE => StorageClass::Archive,
        other => {
            let why = format!("{name} is {other}, which is none of LOOM_CLASS_…");
            return Err(Failure::new(LOOM_ERROR_ARGUMENT, why));
        }
    })
}

fn check_size(size: usize) -> Result<(), Failure> {
    let most = size_of::<loom_engine_config>();
    if !(size_of::<usize>()..=most).contains(&size) {
        let why = format!("the configuration has {size} bytes; this library knows {most}");
        return Err(Failure::new(LOOM_ERROR_ARGUMENT, why));
    }
    Ok(())
}

/// Fills a configuration in with defaults. `size` is the `sizeof` of it.
///
/// LOOM_ERROR_ARGUMENT: the program was built with a later header than the library knows.
///
/// # Safety
/// `config` is NULL or has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_engine_config_init(
    config: *mut loom_engine_config,
    size: usize,
) -> loom_result {
    call(|| {
        if config.is_null() {
            return Err(Failure::new(LOOM_ERROR_NULL, "config is NULL"));
        }
        check_size(size)?;
        let default = loom_engine_config {
            size,
            ..loom_engine_config::DEFAULT
        };
        // SAFETY: by the call's own there is room, and by the check `default` is as long
        unsafe {
            std::ptr::copy_nonoverlapping((&raw const default).cast::<u8>(), config.cast::<u8>(), size)
        };
        Ok(())
    })
}

/// Binds the UDP port, looks for codecs, and begins to load the speech model. Waits for all but the model.
///
/// LOOM_ERROR_ARGUMENT: the configuration breaks a rule. LOOM_ERROR_IO: the port or the folder cannot be had.
///
/// # Safety
/// `config` is as loom_engine_config_init made it, with texts that end with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_engine_start(
    config: *const loom_engine_config,
    engine: *mut *mut loom_engine,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (config, out) = unsafe {
            (
                loom_engine_config::read(config)?.to_config()?,
                Out::new(engine, "engine")?,
            )
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("loom")
            .enable_all()
            .build()
            .map_err(|why| Failure::new(LOOM_ERROR_INTERNAL, format!("no threads can be started: {why}")))?;
        let started = wait_on(&runtime, Engine::start(config));
        let mut host = Host {
            engine: None,
            runtime: Some(runtime),
        };
        host.engine = Some(started??);
        out.give(loom_engine { host: Arc::new(host) });
        Ok(())
    })
}

/// Stops every live recording, and waits until each can be watched to its end. The engine can still be used.
///
/// # Safety
/// `engine` is NULL or was given out and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_engine_stop(engine: *const loom_engine) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let host = &unsafe { object(engine, "engine") }?.host;
        host.wait(host.engine()?.shutdown())
    })
}

/// Whether captions can be written: waits for as long as the model is being loaded, `timeout_ms` milliseconds at most, and gives one of
/// LOOM_CAPTIONS_… and a sentence about it.
///
/// # Safety
/// As loom_engine_stop; `captions` and `note` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_engine_captions(
    engine: *const loom_engine,
    timeout_ms: u32,
    captions: *mut i32,
    note: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (host, captions, note) = unsafe {
            let host = &object(engine, "engine")?.host;
            (host, Out::new(captions, "captions")?, Out::new(note, "note")?)
        };
        let engine = host.engine()?;
        let end = Instant::now() + Duration::from_millis(timeout_ms.into());
        let status = host.wait(async {
            loop {
                match engine.captions() {
                    CaptionsStatus::Loading { .. } if Instant::now() < end => {
                        tokio::time::sleep(LOOK_AGAIN).await
                    }
                    status => return status,
                }
            }
        })?;
        captions.write(match &status {
            CaptionsStatus::Loading { .. } => LOOM_CAPTIONS_LOADING,
            CaptionsStatus::On { .. } => LOOM_CAPTIONS_ON,
            CaptionsStatus::Off { .. } => LOOM_CAPTIONS_OFF,
        });
        note.give(loom_bytes::new(status.to_string()));
        Ok(())
    })
}

/// The names of all recordings on disk, those of earlier engines too, as a JSON array of texts in no order: loom_recording_open opens each.
/// Waits for the disk.
///
/// LOOM_ERROR_IO.
///
/// # Safety
/// As loom_engine_stop; `json` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_engine_recordings(
    engine: *const loom_engine,
    json: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe { (object(engine, "engine")?, Out::new(json, "json")?) };
        let engine = it.host.engine()?;
        out.give(names(&it.host.block(|| engine.recordings())?)?);
        Ok(())
    })
}

/// The names of all recordings in the store, as loom_engine_recordings gives them; none where the engine has no store. Waits for the store.
///
/// LOOM_ERROR_IO.
///
/// # Safety
/// As loom_engine_recordings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_engine_stored_recordings(
    engine: *const loom_engine,
    json: *mut *mut loom_bytes,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe { (object(engine, "engine")?, Out::new(json, "json")?) };
        let stored = it.host.try_wait(it.host.engine()?.stored_recordings())?;
        out.give(names(&stored)?);
        Ok(())
    })
}

fn names(ids: &[RecordingId]) -> Result<loom_bytes, Failure> {
    let ids: Vec<&str> = ids.iter().map(RecordingId::as_str).collect();
    let json = serde_json::to_string(&ids).map_err(|why| Failure::new(LOOM_ERROR_INTERNAL, why))?;
    Ok(loom_bytes::new(json))
}

/// Lets it go. Where that was the last that kept the engine alive, waits until its threads have ended, ten seconds at most, but in a
/// callback, where it waits for nothing; those that package recordings end by themselves, soon after. What is live then is ended as by a
/// crash, and finished when it is next opened. loom_engine_stop ends it well before.
///
/// # Safety
/// As loom_engine_stop, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_engine_free(engine: *mut loom_engine) {
    // SAFETY: as the call's own
    unsafe { free(engine) }
}

/// How long work that is under way may take to end.
const FREE_LIMIT: Duration = Duration::from_secs(10);

/// How often the model is looked after.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
