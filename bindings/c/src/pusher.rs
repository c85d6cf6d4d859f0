//! Media that the host pushes, with no WebRTC.

use std::ffi::c_void;
use std::sync::Arc;

use ::bytes::Bytes;
use loom_engine::{I420, MediaTime, PushTrack, Pusher};

use crate::call::{Out, call, free, items, object};
use crate::engine::Host;
use crate::recording::loom_recording;
use crate::result::{Failure, LOOM_BEHIND, LOOM_ERROR_ARGUMENT, LOOM_ERROR_MEDIA, loom_result};

/// H.264, an access unit a packet: a byte stream with start codes and parameter sets in band (ISO/IEC 14496-10 Annex B); or, where
/// `config` has the body of an `avcC`, NAL units behind 4-byte lengths.
pub const LOOM_TRACK_H264: i32 = 0;
/// VP8, a frame a packet.
pub const LOOM_TRACK_VP8: i32 = 1;
/// VP9, a frame or superframe a packet.
pub const LOOM_TRACK_VP9: i32 = 2;
/// AV1, a temporal unit a packet, of OBUs with sizes; each key frame behind a sequence header.
pub const LOOM_TRACK_AV1: i32 = 3;
/// Opus, one packet each; `channels` is 1 or 2.
pub const LOOM_TRACK_OPUS: i32 = 4;
/// AAC-LC, one raw frame a packet; `config` has the AudioSpecificConfig.
pub const LOOM_TRACK_AAC: i32 = 5;
/// Raw pictures, which are encoded as H.264; `width`, `height`, `frame_rate`.
pub const LOOM_TRACK_PICTURES: i32 = 6;
/// Raw sound, which is encoded as Opus; `sample_rate`, `channels`.
pub const LOOM_TRACK_SOUND: i32 = 7;

/// A track that is pushed. What its kind does not need is zero.
#[repr(C)]
pub struct loom_track {
    /// One of LOOM_TRACK_….
    pub kind: i32,
    /// Pixels across, even.
    pub width: u32,
    /// Pixels down, even.
    pub height: u32,
    /// Samples a second, 8000 to 192000.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u32,
    /// About how many pictures come a second; their times rule.
    pub frame_rate: f64,
    /// The decoder's configuration, or NULL.
    pub config: *const u8,
    /// Its bytes.
    pub config_size: usize,
}

/// A raw picture in I420: planar YUV 4:2:0 of 8 bits, ITU-R BT.709, limited range. The planes of chroma have half the width and height.
#[repr(C)]
pub struct loom_picture {
    /// Where Y, U and V begin.
    pub planes: [*const u8; 3],
    /// Bytes from one row to the next of each.
    pub strides: [usize; 3],
}

/// Pushes media into a recording, live: what is pushed ahead of its time waits for it, up to 1,024 packets and 64 MiB. All times are
/// nanoseconds of one clock of the host's, whichever: the first that is pushed is the take's zero. No call but loom_pusher_open and
/// loom_pusher_free waits.
pub struct loom_pusher {
    host: Arc<Host>,
    inner: Option<Pusher>,
    sizes: Vec<(usize, usize)>,
}

impl Drop for loom_pusher {
    fn drop(&mut self) {
        // what it still does is the engine's
        let inner = self.inner.take();
        let _ = self.host.enter(|| drop(inner));
    }
}

impl loom_pusher {
    fn inner(&self) -> Result<&Pusher, Failure> {
        let gone = || Failure::new(LOOM_ERROR_ARGUMENT, "the pusher was freed");
        self.inner.as_ref().ok_or_else(gone)
    }
}

impl loom_track {
    /// # Safety
    /// `config` is NULL or has `config_size` bytes.
    unsafe fn read(&self, at: usize) -> Result<PushTrack, Failure> {
        // SAFETY: as the call's own
        let config = unsafe { items(self.config, self.config_size, "a track's config") }?;
        let config = || Bytes::copy_from_slice(config);
        let channels = u16::try_from(self.channels).unwrap_or(u16::MAX);
        Ok(match self.kind {
            LOOM_TRACK_H264 => PushTrack::H264 {
                avcc: (self.config_size > 0).then(config),
            },
            LOOM_TRACK_VP8 => PushTrack::Vp8,
            LOOM_TRACK_VP9 => PushTrack::Vp9,
            LOOM_TRACK_AV1 => PushTrack::Av1,
            LOOM_TRACK_OPUS => PushTrack::Opus { channels },
            LOOM_TRACK_AAC => PushTrack::Aac { config: config() },
            LOOM_TRACK_PICTURES => PushTrack::Pictures {
                width: self.width,
                height: self.height,
                frame_rate: self.frame_rate,
            },
            LOOM_TRACK_SOUND => PushTrack::Sound {
                sample_rate: self.sample_rate,
                channels,
            },
            other => {
                let why = format!("track {at} is of kind {other}, which is none of LOOM_TRACK_…");
                return Err(Failure::new(LOOM_ERROR_ARGUMENT, why));
            }
        })
    }
}

/// Begins a take that the host pushes. Its tracks are named by their places from here on, counted from 0. Waits until encoders have
/// started.
///
/// LOOM_ERROR_MEDIA: a track will not do. LOOM_ERROR_STATE: the recording takes no more media. LOOM_ERROR_FULL.
///
/// # Safety
/// `recording` was given out and not freed; there are `count` tracks; `pusher` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_pusher_open(
    recording: *const loom_recording,
    tracks: *const loom_track,
    count: usize,
    pusher: *mut *mut loom_pusher,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, tracks, out) = unsafe {
            let it = object(recording, "recording")?;
            (it, items(tracks, count, "tracks")?, Out::new(pusher, "pusher")?)
        };
        let sizes = tracks
            .iter()
            .map(|it| (it.width as usize, it.height as usize))
            .collect();
        // SAFETY: as the call's own
        let read = tracks
            .iter()
            .enumerate()
            .map(|(at, track)| unsafe { track.read(at) });
        let tracks = read.collect::<Result<Vec<_>, _>>()?;
        let inner = it.host.try_wait(it.inner.push(tracks))?;
        out.give(loom_pusher {
            host: it.host.clone(),
            inner: Some(inner),
            sizes,
        });
        Ok(())
    })
}

/// Takes an encoded packet, which is copied: shown or heard at `pts`, decoded at `dts`, which is `pts` where pictures are not reordered.
///
/// LOOM_BEHIND: too much waits. LOOM_ERROR_MEDIA: it is not what was declared, or out of order. LOOM_ERROR_STATE: the recording has ended.
///
/// # Safety
/// `pusher` was given out and not freed; `data` has `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_pusher_packet(
    pusher: *const loom_pusher,
    track: usize,
    pts: i64,
    dts: i64,
    data: *const u8,
    size: usize,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, data) = unsafe { (object(pusher, "pusher")?, items(data, size, "data")?) };
        let (pts, dts) = (MediaTime::from_nanos(pts), MediaTime::from_nanos(dts));
        Ok(it
            .inner()?
            .packet(track, pts, dts, Bytes::copy_from_slice(data))?)
    })
}

/// Called with `user`, once, on any thread, when a packet that was given away is not read any more. It should not wait, and may make no call
/// of Loom's.
pub type loom_release_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// As loom_pusher_packet, of a packet that is not copied: `data` stays as it is until `release` is called with `user`, which may be before
/// this returns, and is so too where this fails. Without `release` it stays for ever, as a constant does.
///
/// LOOM_BEHIND, LOOM_ERROR_MEDIA, LOOM_ERROR_STATE: as loom_pusher_packet.
///
/// # Safety
/// `pusher` was given out and not freed; `data` has `size` bytes, which nobody changes before `release` is called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_pusher_give_packet(
    pusher: *const loom_pusher,
    track: usize,
    pts: i64,
    dts: i64,
    data: *const u8,
    size: usize,
    release: loom_release_fn,
    user: *mut c_void,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let data = unsafe { Given::new(data, size, release, user) };
        let (pts, dts) = (MediaTime::from_nanos(pts), MediaTime::from_nanos(dts));
        // SAFETY: as the call's own
        let it = unsafe { object(pusher, "pusher")? };
        Ok(it.inner()?.packet(track, pts, dts, Bytes::from_owner(data?))?)
    })
}

/// A packet that the host lends until it is released.
struct Given {
    data: &'static [u8],
    release: loom_release_fn,
    user: *mut c_void,
}

// SAFETY: nobody changes the bytes, and `release` may be called on any thread
unsafe impl Send for Given {}

impl Given {
    /// # Safety
    /// `data` is NULL or has `size` bytes, which nobody changes before `release` is called.
    unsafe fn new(
        data: *const u8,
        size: usize,
        release: loom_release_fn,
        user: *mut c_void,
    ) -> Result<Self, Failure> {
        let mut given = Self {
            data: &[],
            release,
            user,
        };
        // SAFETY: as the call's own; they stay as long as this is there
        given.data = unsafe { items(data, size, "data") }?;
        Ok(given)
    }
}

impl AsRef<[u8]> for Given {
    fn as_ref(&self) -> &[u8] {
        self.data
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the host said so
            unsafe { release(self.user) };
        }
    }
}

/// Takes a raw picture, which is copied: shown from `pts` on.
///
/// LOOM_BEHIND: the encoder is, and the picture was dropped. LOOM_ERROR_MEDIA, LOOM_ERROR_STATE: as loom_pusher_packet.
///
/// # Safety
/// `pusher` was given out and not freed; each plane of `picture` has as many rows of its stride as the track's size asks for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_pusher_picture(
    pusher: *const loom_pusher,
    track: usize,
    pts: i64,
    picture: *const loom_picture,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, picture) = unsafe { (object(pusher, "pusher")?, object(picture, "picture")?) };
        let (width, height) = it.sizes.get(track).copied().unwrap_or_default();
        let plane = |at: usize, width: usize, height: usize| {
            let stride = picture.strides[at];
            let bytes = stride
                .checked_mul(height.saturating_sub(1))
                .and_then(|it| it.checked_add(width))
                .filter(|it| stride >= width && isize::try_from(*it).is_ok());
            let wrong = || {
                let why = format!("plane {at} has rows of {stride} bytes for {width} pixels");
                Failure::new(LOOM_ERROR_MEDIA, why)
            };
            let bytes = bytes.ok_or_else(wrong)?;
            // SAFETY: as the call's own: that is no more than `height` rows of `stride` bytes
            unsafe { items(picture.planes[at], bytes, "a plane of the picture") }
        };
        let planes = [
            plane(0, width, height)?,
            plane(1, width / 2, height / 2)?,
            plane(2, width / 2, height / 2)?,
        ];
        let picture = I420 {
            planes,
            strides: picture.strides,
        };
        match it.inner()?.picture(track, MediaTime::from_nanos(pts), &picture)? {
            true => Ok(()),
            false => Err(Failure::nothing(LOOM_BEHIND)),
        }
    })
}

/// Takes raw sound, which is copied: `count` interleaved samples of all channels, in -1.0 to 1.0, the first heard at
/// `pts`.
///
/// LOOM_BEHIND: the encoder is, and the sound was dropped. LOOM_ERROR_MEDIA, LOOM_ERROR_STATE: as loom_pusher_packet.
///
/// # Safety
/// `pusher` was given out and not freed; there are `count` samples.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_pusher_sound(
    pusher: *const loom_pusher,
    track: usize,
    pts: i64,
    samples: *const f32,
    count: usize,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, samples) = unsafe { (object(pusher, "pusher")?, items(samples, count, "samples")?) };
        match it.inner()?.sound(track, MediaTime::from_nanos(pts), samples)? {
            true => Ok(()),
            false => Err(Failure::nothing(LOOM_BEHIND)),
        }
    })
}

/// Whether a track that is pushed encoded should send a key frame soon, so that a segment can begin. So until it comes.
///
/// # Safety
/// `pusher` was given out and not freed; `wanted` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_pusher_wants_key_frame(
    pusher: *const loom_pusher,
    track: usize,
    wanted: *mut bool,
) -> loom_result {
    call(|| {
        // SAFETY: as the call's own
        let (it, out) = unsafe { (object(pusher, "pusher")?, Out::new(wanted, "wanted")?) };
        if track >= it.sizes.len() {
            let why = format!(
                "track is {track}; {} were declared, counted from 0",
                it.sizes.len()
            );
            return Err(Failure::new(LOOM_ERROR_ARGUMENT, why));
        }
        out.write(it.inner()?.wants_key_frame(track));
        Ok(())
    })
}

/// Ends the take and frees the pusher: what was pushed is recorded to its end, and so is the recording, unless somebody else publishes to
/// it. Waits until encoders have given their last, some milliseconds.
///
/// # Safety
/// `pusher` is NULL or was given out and not freed, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn loom_pusher_free(pusher: *mut loom_pusher) {
    // SAFETY: as the call's own
    unsafe { free(pusher) }
}
