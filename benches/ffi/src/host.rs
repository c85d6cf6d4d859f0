//! The two hosts: one that calls Rust and one that calls C, with an engine of the same configuration each.

use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr::{null, null_mut};

use ::loom_engine::{
    CaptionsConfig, Engine, EngineConfig, IngestConfig, MediaTime, PushTrack, Pusher, Recording, RecordingId,
    RecordingState, Wanted,
};
use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use loom::{
    LOOM_LADDER_SOURCE, LOOM_OK, LOOM_STATE_READY, LOOM_TRACK_AAC, LOOM_TRACK_H264, loom_engine,
    loom_engine_config, loom_engine_config_init, loom_engine_free, loom_engine_start, loom_last_error,
    loom_pusher, loom_pusher_free, loom_pusher_open, loom_recording, loom_recording_create,
    loom_recording_delete, loom_recording_free, loom_recording_wait, loom_result, loom_track,
};
use tokio::runtime::Runtime;

#[allow(improper_ctypes, reason = "a pusher is opaque to C")]
unsafe extern "C" {
    fn push_to_each(
        pushers: *const *const loom_pusher,
        count: usize,
        track: usize,
        at: i64,
        data: *const u8,
        size: usize,
    ) -> loom_result;
    fn give_to_each(
        pushers: *const *const loom_pusher,
        count: usize,
        track: usize,
        at: i64,
        data: *const u8,
        size: usize,
    ) -> loom_result;
}

/// What the sound needs to be decoded.
pub(crate) const SOUND_CONFIG: [u8; 2] = [0x11, 0x90]; // AAC-LC, 48 kHz, stereo

/// One that has an engine, and pushes the same into each of its recordings.
pub(crate) trait Host {
    /// Begins so many recordings.
    fn begin(&mut self, count: usize) -> Result<()>;
    fn push(&self, track: usize, at: i64, data: &Bytes) -> Result<()>;
    /// Ends them in the course of time.
    fn finish(&mut self) -> Result<()>;
    /// Ends them at once, and deletes them.
    fn drop_all(&mut self) -> Result<()>;
}

/// What a host does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packet {
    /// It has one of its own, and gives that away.
    Given,
    /// It is in somebody's buffer, as an encoder's is, and is copied.
    Copied,
}

pub(crate) struct Rust {
    how: Packet,
    runtime: Runtime,
    engine: Engine,
    recordings: Vec<Recording>,
    pushers: Vec<Pusher>,
}

impl Rust {
    pub(crate) fn start(folder: &Path, how: Packet) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let config = EngineConfig {
            data_dir: folder.to_owned(),
            ingest: IngestConfig {
                udp: ([127, 0, 0, 1], 0).into(),
                ..IngestConfig::default()
            },
            captions: CaptionsConfig {
                enabled: false,
                ..CaptionsConfig::default()
            },
            ladder: Wanted::source_only(),
            ..EngineConfig::default()
        };
        let engine = runtime.block_on(Engine::start(config))?;
        Ok(Self {
            how,
            runtime,
            engine,
            recordings: Vec::new(),
            pushers: Vec::new(),
        })
    }
}

impl Host for Rust {
    fn begin(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let _here = self.runtime.enter();
            let recording = self.engine.create(RecordingId::random())?;
            let config = Bytes::copy_from_slice(&SOUND_CONFIG);
            let tracks = vec![PushTrack::H264 { avcc: None }, PushTrack::Aac { config }];
            self.pushers.push(self.runtime.block_on(recording.push(tracks))?);
            self.recordings.push(recording);
        }
        Ok(())
    }

    fn push(&self, track: usize, at: i64, data: &Bytes) -> Result<()> {
        let at = MediaTime::from_nanos(at);
        for pusher in &self.pushers {
            let data = match self.how {
                Packet::Given => data.clone(),
                Packet::Copied => Bytes::copy_from_slice(data),
            };
            pusher.packet(track, at, at, data)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let here = self.runtime.enter();
        self.pushers.clear();
        drop(here);
        for recording in self.recordings.drain(..) {
            let mut events = recording.events();
            self.runtime
                .block_on(async { while events.next().await.is_some() {} });
            ensure!(
                recording.info().state == RecordingState::Ready,
                "{:?}",
                recording.info()
            );
        }
        Ok(())
    }

    fn drop_all(&mut self) -> Result<()> {
        let here = self.runtime.enter();
        self.pushers.clear();
        drop(here);
        for recording in self.recordings.drain(..) {
            self.runtime.block_on(recording.delete())?;
        }
        Ok(())
    }
}

pub(crate) struct C {
    how: Packet,
    engine: *mut loom_engine,
    recordings: Vec<*mut loom_recording>,
    pushers: Vec<*mut loom_pusher>,
}

impl C {
    pub(crate) fn start(folder: &Path, how: Packet) -> Result<Self> {
        let folder = CString::new(folder.to_string_lossy().as_bytes())?;
        let mut engine = null_mut();
        // SAFETY: the configuration is as long as it says, and zeros are a value of it; texts outlive the calls
        unsafe {
            let mut config: loom_engine_config = std::mem::zeroed();
            check(loom_engine_config_init(&mut config, size_of_val(&config)))?;
            config.data_dir = folder.as_ptr();
            config.udp = c"127.0.0.1:0".as_ptr();
            config.captions = 0;
            config.ladder = LOOM_LADDER_SOURCE;
            check(loom_engine_start(&config, &mut engine))?;
        }
        Ok(Self {
            how,
            engine,
            recordings: Vec::new(),
            pushers: Vec::new(),
        })
    }
}

impl Host for C {
    fn begin(&mut self, count: usize) -> Result<()> {
        let track = |kind, config: &[u8]| loom_track {
            kind,
            width: 0,
            height: 0,
            sample_rate: 0,
            channels: 0,
            frame_rate: 0.0,
            config: config.as_ptr(),
            config_size: config.len(),
        };
        let tracks = [track(LOOM_TRACK_H264, &[]), track(LOOM_TRACK_AAC, &SOUND_CONFIG)];
        for _ in 0..count {
            let (mut recording, mut pusher) = (null_mut(), null_mut());
            // SAFETY: the engine is there, and what is given out is written once it is
            unsafe {
                check(loom_recording_create(self.engine, null(), &mut recording))?;
                self.recordings.push(recording);
                check(loom_pusher_open(
                    recording,
                    tracks.as_ptr(),
                    tracks.len(),
                    &mut pusher,
                ))?;
            }
            self.pushers.push(pusher);
        }
        Ok(())
    }

    fn push(&self, track: usize, at: i64, data: &Bytes) -> Result<()> {
        let pushers: *const *const loom_pusher = self.pushers.as_ptr().cast();
        let push = match self.how {
            Packet::Given => give_to_each,
            Packet::Copied => push_to_each,
        };
        // SAFETY: there are that many pushers and bytes, and the bytes outlive the recordings
        check(unsafe { push(pushers, self.pushers.len(), track, at, data.as_ptr(), data.len()) })
    }

    fn finish(&mut self) -> Result<()> {
        // SAFETY: each was given out, and is freed once
        unsafe {
            self.pushers.drain(..).for_each(|it| loom_pusher_free(it));
            for recording in self.recordings.drain(..) {
                let mut state = -1;
                check(loom_recording_wait(recording, 60_000, &mut state))?;
                ensure!(state == LOOM_STATE_READY, "a recording is {state}");
                loom_recording_free(recording);
            }
        }
        Ok(())
    }

    fn drop_all(&mut self) -> Result<()> {
        // SAFETY: as in `finish`
        unsafe {
            self.pushers.drain(..).for_each(|it| loom_pusher_free(it));
            for recording in self.recordings.drain(..) {
                check(loom_recording_delete(recording))?;
                loom_recording_free(recording);
            }
        }
        Ok(())
    }
}

impl Drop for C {
    fn drop(&mut self) {
        // SAFETY: it was given out, and nobody uses it any more
        unsafe { loom_engine_free(self.engine) };
    }
}

fn check(result: loom_result) -> Result<()> {
    if result == LOOM_OK {
        return Ok(());
    }
    // SAFETY: it ends with NUL, and no other call is made meanwhile
    let why = unsafe { CStr::from_ptr(loom_last_error()) };
    bail!("{result}: {}", why.to_string_lossy());
}
