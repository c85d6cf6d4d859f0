//! How an engine runs, as a program says it.

use std::ffi::c_char;
use std::mem::size_of;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ::loom_engine::{
    CaptionsConfig, EncryptionConfig, EncryptionScheme, EngineConfig, LoudnessTarget, Rung, StorageClass,
    StoreConfig, TextForm, Wanted, Window, open_store,
};

use crate::call::{call, optional_text};
use crate::result::{Failure, LOOM_ERROR_ARGUMENT, LOOM_ERROR_NULL, loom_result};

/// Renditions: the source as it came, and smaller ones that are encoded.
pub const LOOM_LADDER_FULL: i32 = 0;
/// The source alone, with no encoder. Captions are made of it all the same, where they are on.
pub const LOOM_LADDER_SOURCE: i32 = 1;

/// Small pictures for the time line come with recordings.
pub const LOOM_THUMBNAILS_ON: i32 = 0;
/// They do not.
pub const LOOM_THUMBNAILS_OFF: i32 = 1;

/// Captions and subtitles are WebVTT, which every player reads.
pub const LOOM_TEXT_WEBVTT: i32 = 0;
/// They are IMSC1 in fragmented MP4.
pub const LOOM_TEXT_IMSC1: i32 = 1;

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
    /// Whether noise is suppressed in sound that is encoded here. It is made for speech: it takes music for noise.
    pub suppress_noise: i32,
    /// How loud the sound of files is made, LUFS (EBU R 128), -40 to -5, such as -16. 0: it stays as loud as it came. Live it is of no effect.
    pub loudness: f64,
    /// Cores that the ladders of all live recordings may take together: one whose ladder would take more has fewer renditions. 0: three quarters.
    pub live_cores: f64,
    /// The smaller renditions of LOOM_LADDER_FULL: of each the pixels of its shorter side and the bits a second at most, with commas between,
    /// "720:2800000,360:800000". NULL: 1080, 720, 480 and 360.
    pub rungs: *const c_char,
    /// LOOM_THUMBNAILS_ON or LOOM_THUMBNAILS_OFF.
    pub thumbnails: i32,
    /// How captions and subtitles are written: LOOM_TEXT_WEBVTT or LOOM_TEXT_IMSC1.
    pub text: i32,
    /// Threads that live captions are heard with, and as many for transcripts: 1 to 64. 0: half of the processors.
    pub caption_threads: u32,
    /// How many chunks of files are encoded at once. 0: half as many as there are processors, from 2 to 8.
    pub chunks_at_once: u32,
    /// What playlists of a live recording list, where a request does not say: "event", all of it; "live", the newest alone; "dvr-SECONDS", so many
    /// of the newest. NULL: "event".
    pub window: *const c_char,
    /// All that was written is written to the disk this often, milliseconds: a power cut can lose no more. 0: when the system does it.
    pub sync_ms: u32,
    /// A recording that is paused for this long is finished, milliseconds. 0: a day.
    pub longest_pause_ms: u32,
    /// A recording that nobody has published to for this long fails, milliseconds. 0: half an hour.
    pub unused_ms: u32,
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
        suppress_noise: 0,
        loudness: 0.0,
        live_cores: 0.0,
        rungs: std::ptr::null(),
        thumbnails: LOOM_THUMBNAILS_ON,
        text: LOOM_TEXT_WEBVTT,
        caption_threads: 0,
        chunks_at_once: 0,
        window: std::ptr::null(),
        sync_ms: 0,
        longest_pause_ms: 0,
        unused_ms: 0,
    };

    /// What the program has said, with defaults for fields that it does not know.
    ///
    /// # Safety
    /// `config` is NULL, or has as many bytes as it says.
    pub(crate) unsafe fn read(config: *const Self) -> Result<Self, Failure> {
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
    pub(crate) unsafe fn to_config(&self) -> Result<EngineConfig, Failure> {
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
        config.captions = CaptionsConfig {
            enabled: switch(self.captions, "config.captions")?,
            form: match self.text {
                LOOM_TEXT_WEBVTT => TextForm::WebVtt,
                LOOM_TEXT_IMSC1 => TextForm::Imsc1,
                other => {
                    return Err(wrong(format!(
                        "config.text is {other}, which is none of LOOM_TEXT_…"
                    )));
                }
            },
            ..config.captions
        };
        match self.caption_threads {
            0 => {}
            threads @ 1..=64 => config.captions.threads = threads as usize,
            other => {
                return Err(wrong(format!("config.caption_threads is {other}; it is 1 to 64")));
            }
        }
        // SAFETY: as the call's own
        if let Some(model) = unsafe { optional_text(self.model, "config.model") }? {
            config.captions.model.path = Some(PathBuf::from(model));
        }
        // SAFETY: as the call's own
        config.ladder = unsafe { self.ladder(config.ladder) }?;
        if self.live_cores != 0.0 {
            let sound = self.live_cores.is_finite() && self.live_cores > 0.0;
            let cores = Some(self.live_cores).filter(|_| sound);
            let why = || wrong(format!("config.live_cores is {}; it is above 0", self.live_cores));
            config.live_cores = Some(cores.ok_or_else(why)?);
        }
        if self.chunks_at_once > 0 {
            config.files.at_once = self.chunks_at_once as usize;
        }
        // SAFETY: as the call's own
        if let Some(window) = unsafe { optional_text(self.window, "config.window") }? {
            config.playlists.window =
                Window::parse(window).map_err(|why| wrong(format!("config.window: {why}")))?;
        }
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
        config.sync_every = millis(self.sync_ms);
        if self.longest_pause_ms > 0 {
            config.longest_pause = millis(self.longest_pause_ms);
        }
        if self.unused_ms > 0 {
            config.unused_after = millis(self.unused_ms);
        }
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

    /// What is made of a recording, in place of `usual`.
    ///
    /// # Safety
    /// As [`Self::to_config`].
    unsafe fn ladder(&self, usual: Wanted) -> Result<Wanted, Failure> {
        let wrong = |why: String| Failure::new(LOOM_ERROR_ARGUMENT, why);
        // SAFETY: as the call's own
        let rungs = unsafe { optional_text(self.rungs, "config.rungs") }?;
        let mut ladder = match self.ladder {
            LOOM_LADDER_FULL => usual,
            LOOM_LADDER_SOURCE if rungs.is_some() => {
                return Err(wrong("config.rungs: LOOM_LADDER_SOURCE has none".to_owned()));
            }
            LOOM_LADDER_SOURCE => Wanted {
                captions_pcm: self.captions != 0,
                ..Wanted::source_only()
            },
            other => {
                return Err(wrong(format!(
                    "config.ladder is {other}, which is none of LOOM_LADDER_…"
                )));
            }
        };
        if let Some(rungs) = rungs {
            let rung = |text: &str| {
                let (lines, bits) = text.trim().split_once(':')?;
                Rung::new(lines.parse().ok()?, bits.parse().ok().filter(|bits| *bits > 0)?)
            };
            let rungs = rungs.split(',').map(|text| {
                let why = || {
                    wrong(format!(
                        "config.rungs: {text:?} is no LINES:BITS, such as 720:2800000"
                    ))
                };
                rung(text).ok_or_else(why)
            });
            ladder.rungs = rungs.collect::<Result<_, _>>()?;
        }
        match self.thumbnails {
            LOOM_THUMBNAILS_ON => {}
            LOOM_THUMBNAILS_OFF => ladder.thumbnails = None,
            other => {
                return Err(wrong(format!(
                    "config.thumbnails is {other}, which is none of LOOM_THUMBNAILS_…"
                )));
            }
        }
        ladder.sound.suppress_noise = switch(self.suppress_noise, "config.suppress_noise")?;
        if self.loudness != 0.0 {
            if !(-40.0..=-5.0).contains(&self.loudness) {
                return Err(wrong(format!(
                    "config.loudness is {}; it is -40 to -5 LUFS",
                    self.loudness
                )));
            }
            ladder.sound.loudness = Some(LoudnessTarget {
                integrated: self.loudness,
                ..LoudnessTarget::default()
            });
        }
        Ok(ladder)
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

/// What is 0 or 1.
fn switch(number: i32, name: &str) -> Result<bool, Failure> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Failure::new(
            LOOM_ERROR_ARGUMENT,
            format!("{name} is {other}; it is 0 or 1"),
        )),
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
