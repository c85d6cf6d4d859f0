//! Media that the host itself pushes, with no WebRTC: encoded packets, or raw pictures and sound that are encoded here.

mod line;
mod unit;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use loom_core::{Media, MediaKind, MediaTime, Packet, TrackFormat, TrackId};
use loom_ingest::TrackInfo;
use loom_transcode::Capabilities;
#[cfg(feature = "transcode")]
use loom_transcode::{Encoded, I420, PictureEncoder, SoundEncoder, TranscodeError};
use tokio::time::Instant;

use crate::error::EngineError;
use crate::id::{PublisherName, RecordingId};
use crate::joined;
use crate::limits;
use crate::live;
use crate::push::line::Line;
use crate::push::unit::UnitReader;
use crate::recording::Inner;
use crate::source::Source;
use crate::take::Take;

pub(crate) use line::{Pushed, PushedHandle};

/// A track that a host pushes.
///
/// ```
/// use bytes::Bytes;
/// use loom_engine::PushTrack;
///
/// // what a camera with an encoder gives: H.264 with start codes, and AAC-LC at 48 kHz in two channels
/// let tracks = vec![
///     PushTrack::H264 { avcc: None },
///     PushTrack::Aac { config: Bytes::from_static(&[0x11, 0x90]) },
/// ];
/// # let _ = tracks;
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PushTrack {
    /// H.264, an access unit a packet.
    H264 {
        /// The body of an `avcC` (ISO/IEC 14496-15 §5.3.3.1): packets are NAL units behind 4-byte lengths then. `None`: packets are byte
        /// streams with start codes (ISO/IEC 14496-10 Annex B), with parameter sets before each key frame or in a packet of their own.
        avcc: Option<Bytes>,
    },
    /// VP8, a frame a packet (RFC 6386).
    Vp8,
    /// VP9, a frame or superframe a packet.
    Vp9,
    /// AV1, a temporal unit a packet, of OBUs with sizes (AV1 specification §5.2); each key frame behind a sequence header.
    Av1,
    /// Opus, one packet each (RFC 6716).
    Opus {
        /// 1 or 2.
        channels: u16,
    },
    /// AAC-LC, one raw frame a packet.
    Aac {
        /// Its AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).
        config: Bytes,
    },
    /// Raw pictures, I420, which are encoded as H.264.
    #[cfg(feature = "transcode")]
    Pictures {
        /// Pixels across, even.
        width: u32,
        /// Pixels down, even.
        height: u32,
        /// About how many come a second; their times rule.
        frame_rate: f64,
    },
    /// Raw sound, interleaved samples in -1.0 ..= 1.0, which is encoded as Opus.
    #[cfg(feature = "transcode")]
    Sound {
        /// Samples a second a channel, 8,000 to 192,000.
        sample_rate: u32,
        /// 1 or 2.
        channels: u16,
    },
}

impl PushTrack {
    fn is_opus(&self) -> bool {
        match self {
            Self::Opus { .. } => true,
            #[cfg(feature = "transcode")]
            Self::Sound { .. } => true,
            _ => false,
        }
    }

    fn kind(&self) -> MediaKind {
        match self {
            Self::H264 { .. } | Self::Vp8 | Self::Vp9 | Self::Av1 => MediaKind::Video,
            Self::Opus { .. } | Self::Aac { .. } => MediaKind::Audio,
            #[cfg(feature = "transcode")]
            Self::Pictures { .. } => MediaKind::Video,
            #[cfg(feature = "transcode")]
            Self::Sound { .. } => MediaKind::Audio,
        }
    }
}

/// Pushes media into a recording. Any thread may call it, one after the other is served; no call waits for the recording. Dropping it
/// is finishing it.
///
/// All times are of one clock of the host's, whichever: the first that is pushed is the take's zero. Media is live: it is let through as
/// its time comes, a second early at most, and what is pushed further ahead waits in a queue of 1,024 items and 64 MiB. When that is
/// full, encoded packets are refused ([`EngineError::Behind`]) and raw media is dropped.
///
/// ```no_run
/// use loom_engine::{EngineError, I420, MediaTime, PushTrack, Recording};
///
/// # async fn example(recording: Recording) -> Result<(), EngineError> {
/// let pictures = PushTrack::Pictures { width: 640, height: 360, frame_rate: 30.0 };
/// let sound = PushTrack::Sound { sample_rate: 48_000, channels: 1 };
/// let pusher = recording.push(vec![pictures, sound]).await?;
/// let (luma, chroma) = (vec![16; 640 * 360], vec![128; 320 * 180]); // black
/// let black = I420 { planes: [&luma, &chroma, &chroma], strides: [640, 320, 320] };
/// pusher.picture(0, MediaTime::ZERO, &black)?;
/// pusher.sound(1, MediaTime::ZERO, &[0.0; 1_600])?;
/// pusher.finish();
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it finishes the take"]
pub struct Pusher {
    recording: Arc<Inner>,
    line: Arc<Line>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    zero: Option<MediaTime>,
    tracks: Vec<Track>,
}

struct Track {
    input: Input,
    /// The decode time of the last that was taken.
    last: Option<MediaTime>,
    key_wanted: Arc<AtomicBool>,
}

enum Input {
    Coded(Writer),
    #[cfg(feature = "transcode")]
    Pictures(PictureEncoder),
    #[cfg(feature = "transcode")]
    Sound(SoundEncoder),
}

/// Makes packets of what is encoded.
struct Writer {
    track: TrackId,
    line: Arc<Line>,
    reader: UnitReader,
}

/// Begins a take of the recording that the host pushes.
pub(crate) async fn push(recording: &Arc<Inner>, tracks: Vec<PushTrack>) -> Result<Pusher, EngineError> {
    let began = Instant::now();
    live::check_room(recording)?;
    let (pusher, session) = start(recording, tracks).await?;
    live::begin(recording, Take { session, began })?;
    Ok(pusher)
}

/// Begins to push as a publisher that joins the recording.
pub(crate) async fn push_beside(
    recording: &Arc<Inner>,
    name: PublisherName,
    tracks: Vec<PushTrack>,
) -> Result<Pusher, EngineError> {
    joined::check(recording, &name)?;
    let (pusher, session) = start(recording, tracks).await?;
    joined::join(recording, name, session)?;
    Ok(pusher)
}

async fn start(recording: &Arc<Inner>, tracks: Vec<PushTrack>) -> Result<(Pusher, Source), EngineError> {
    if tracks.is_empty() || tracks.len() > limits::PUSHED_TRACKS {
        return Err(EngineError::BadPush {
            track: tracks.len(),
            why: format!("1 to {} tracks can be pushed", limits::PUSHED_TRACKS),
        });
    }
    let infos = (0..).zip(&tracks).map(|(id, track)| TrackInfo {
        id: TrackId(id),
        kind: track.kind(),
        mid: id.to_string(),
        rid: None,
        stream: None,
    });
    let opus = tracks.iter().map(PushTrack::is_opus);
    let key_wanted: Vec<_> = tracks.iter().map(|_| Arc::new(AtomicBool::new(false))).collect();
    let id = format!("push-{}", RecordingId::random());
    let line = Arc::new(Line::new(id, infos.collect(), opus.collect(), key_wanted.clone()));
    let (shared, way) = (recording.shared.clone(), line.clone());
    // encoders take a moment to start
    let started = tokio::task::spawn_blocking(move || {
        let each = (0..).zip(tracks).zip(key_wanted);
        each.map(|((id, track), key_wanted)| Track::start(id, &track, &way, key_wanted, &shared.capabilities))
            .collect::<Result<Vec<_>, _>>()
    });
    let tracks = started.await.map_err(|_| EngineError::ShuttingDown)??;
    let session = Source::Pushed(Pushed::new(line.clone()));
    let pusher = Pusher {
        recording: recording.clone(),
        line,
        state: Mutex::new(State { zero: None, tracks }),
    };
    Ok((pusher, session))
}

impl Track {
    fn start(
        id: u32,
        track: &PushTrack,
        line: &Arc<Line>,
        key_wanted: Arc<AtomicBool>,
        #[cfg_attr(
            not(feature = "transcode"),
            allow(unused_variables, reason = "nothing is encoded")
        )]
        can: &Capabilities,
    ) -> Result<Self, EngineError> {
        let bad = |why: &dyn fmt::Display| EngineError::BadPush {
            track: id as usize,
            why: why.to_string(),
        };
        let writer = Writer {
            track: TrackId(id),
            line: line.clone(),
            reader: UnitReader::new(track).map_err(|why| bad(&why))?,
        };
        let input = match *track {
            #[cfg(feature = "transcode")]
            PushTrack::Pictures {
                width,
                height,
                frame_rate,
            } => {
                let mut writer = writer;
                let out = move |made| writer.take(made);
                let wanted = key_wanted.clone();
                let started = PictureEncoder::start(can, (width, height), frame_rate, wanted, out);
                Input::Pictures(started.map_err(|why| bad(&why))?)
            }
            #[cfg(feature = "transcode")]
            PushTrack::Sound {
                sample_rate,
                channels,
            } => {
                let mut writer = writer;
                let out = move |made| writer.take(made);
                Input::Sound(SoundEncoder::start(sample_rate, channels, out).map_err(|why| bad(&why))?)
            }
            _ => Input::Coded(writer),
        };
        Ok(Self {
            input,
            last: None,
            key_wanted,
        })
    }
}

impl Pusher {
    /// Takes an encoded packet of a track, which is named by its place among those that were declared: shown or heard at `pts`, decoded at
    /// `dts`, which is `pts` where pictures are not reordered.
    ///
    /// # Errors
    /// [`EngineError::BadPush`] where it is not what was declared, or comes in another order than that of decoding;
    /// [`EngineError::Behind`] where too much waits: nothing was taken, and it can be pushed again a little later;
    /// [`EngineError::WrongState`] where the recording takes no more.
    pub fn packet(
        &self,
        track: usize,
        pts: MediaTime,
        dts: MediaTime,
        data: Bytes,
    ) -> Result<(), EngineError> {
        let mut state = self.open(track)?;
        let zero = *state.zero.get_or_insert(dts.min(pts));
        let it = &mut state.tracks[track];
        let writer = match &mut it.input {
            Input::Coded(writer) => writer,
            #[cfg(feature = "transcode")]
            _ => {
                return Err(bad(
                    track,
                    "it was declared as raw, and this is an encoded packet",
                ));
            }
        };
        if data.is_empty() || data.len() > limits::PUSHED_PACKET_BYTES {
            let most = limits::PUSHED_PACKET_BYTES;
            return Err(bad(
                track,
                format!("a packet of {} bytes; 1 to {most} are taken", data.len()),
            ));
        }
        let (pts, dts) = placed(track, zero, pts, dts, it.last)?;
        if !self.line.has_room(data.len()) {
            return Err(EngineError::Behind);
        }
        match writer.write(pts, dts, data) {
            Err(why) => return Err(bad(track, why)),
            Ok(Written::Nowhere) => return Err(self.over()),
            Ok(Written::Key) => it.key_wanted.store(false, Ordering::Release),
            Ok(Written::Other) => {}
        }
        it.last = Some(dts);
        Ok(())
    }

    /// Takes a raw picture of a track, shown from `pts` on. `false`: the encoder is behind, and it was dropped.
    ///
    /// # Errors
    /// [`EngineError::BadPush`] where it is not what was declared, or is not later than the one before; [`EngineError::WrongState`] where the
    /// recording takes no more.
    #[cfg(feature = "transcode")]
    pub fn picture(&self, track: usize, pts: MediaTime, picture: &I420<'_>) -> Result<bool, EngineError> {
        self.raw(track, pts, |input, pts| match input {
            Input::Pictures(encoder) => Some(encoder.push(pts, picture)),
            _ => None,
        })
    }

    /// Takes interleaved samples of a track, the first of which is heard at `pts`. `false`: the encoder is behind, and they were dropped.
    ///
    /// # Errors
    /// As [`Self::picture`].
    #[cfg(feature = "transcode")]
    pub fn sound(&self, track: usize, pts: MediaTime, samples: &[f32]) -> Result<bool, EngineError> {
        self.raw(track, pts, |input, pts| match input {
            Input::Sound(encoder) => Some(encoder.push(pts, samples)),
            _ => None,
        })
    }

    /// Whether a track that is pushed encoded should send a key frame soon: each begins a segment, and one is wanted every
    /// [`segment`](crate::EngineConfig::segment). Until it comes this stays so.
    pub fn wants_key_frame(&self, track: usize) -> bool {
        let state = self.state();
        let wanted = state.tracks.get(track).map(|it| &it.key_wanted);
        wanted.is_some_and(|it| it.load(Ordering::Acquire))
    }

    /// Ends the take: what was pushed is recorded to its end, and so is the recording, unless somebody else publishes to it. Waits until
    /// encoders have given their last, some milliseconds.
    pub fn finish(self) {
        drop(self);
    }

    #[cfg(feature = "transcode")]
    fn raw(
        &self,
        track: usize,
        pts: MediaTime,
        push: impl FnOnce(&Input, MediaTime) -> Option<Result<bool, TranscodeError>>,
    ) -> Result<bool, EngineError> {
        let mut state = self.open(track)?;
        let zero = *state.zero.get_or_insert(pts);
        let it = &mut state.tracks[track];
        let (pts, _) = placed(track, zero, pts, pts, it.last)?;
        match push(&it.input, pts) {
            None => Err(bad(track, "it was declared as something else")),
            Some(Err(why)) => Err(bad(track, why)),
            Some(Ok(taken)) => {
                it.last = Some(pts);
                Ok(taken)
            }
        }
    }

    /// The state, where media of that track is taken.
    fn open(&self, track: usize) -> Result<MutexGuard<'_, State>, EngineError> {
        if !self.line.is_open() {
            return Err(self.over());
        }
        let state = self.state();
        let tracks = state.tracks.len();
        if track >= tracks {
            return Err(bad(
                track,
                format!("{tracks} tracks were declared, counted from 0"),
            ));
        }
        Ok(state)
    }

    fn over(&self) -> EngineError {
        EngineError::WrongState {
            recording: self.recording.id.clone(),
            state: self.recording.state_now(),
            why: "what is pushed is not recorded any more",
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a panic has left there is a track that takes no more, at worst.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        self.line.hurry();
        let State { tracks, .. } = std::mem::take(&mut *self.state());
        for track in tracks {
            match track.input {
                Input::Coded(_) => {}
                #[cfg(feature = "transcode")]
                Input::Pictures(encoder) => encoder.finish(),
                #[cfg(feature = "transcode")]
                Input::Sound(encoder) => encoder.finish(),
            }
        }
        self.line.finish();
    }
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

/// What became of a packet.
enum Written {
    Key,
    Other,
    /// Nobody takes it any more.
    Nowhere,
}

impl Writer {
    fn write(
        &mut self,
        pts: MediaTime,
        dts: MediaTime,
        data: Bytes,
    ) -> Result<Written, loom_core::CodecError> {
        let Some(unit) = self.reader.read(data)? else {
            return Ok(Written::Other);
        };
        let track = self.track;
        let format = unit
            .parameters
            .map(|codec| Media::Format(TrackFormat { track, codec }));
        let packet = Media::Packet(Packet {
            track,
            pts,
            dts,
            duration: unit.duration,
            key: unit.key,
            data: unit.data,
        });
        Ok(
            match self.line.put(format.into_iter().chain([packet]), Instant::now()) {
                false => Written::Nowhere,
                true if unit.key => Written::Key,
                true => Written::Other,
            },
        )
    }

    /// Takes what an encoder made, and waits for room.
    #[cfg(feature = "transcode")]
    fn take(&mut self, made: Encoded) {
        self.line.wait_for_room(made.data.len());
        if let Err(why) = self.write(made.pts, made.pts, made.data) {
            tracing::warn!(track = %self.track, %why, "an encoder here gives what cannot be read");
        }
    }
}

/// Times on the take's own line.
fn placed(
    track: usize,
    zero: MediaTime,
    pts: MediaTime,
    dts: MediaTime,
    last: Option<MediaTime>,
) -> Result<(MediaTime, MediaTime), EngineError> {
    let since = |at: MediaTime| {
        let nanos = at.nanos().checked_sub(zero.nanos())?;
        (0..=LONGEST_NANOS)
            .contains(&nanos)
            .then(|| MediaTime::from_nanos(nanos))
    };
    let (Some(own_pts), Some(own_dts)) = (since(pts), since(dts)) else {
        let why =
            format!("{pts} is before the first that was pushed, {zero}, or more than 1,000 hours after it");
        return Err(bad(track, why));
    };
    if own_dts > own_pts || own_pts.since(own_dts) > LONGEST_REORDERING {
        let most = LONGEST_REORDERING.as_secs();
        return Err(bad(
            track,
            format!("decoded at {dts} and shown at {pts}: that is 0 to {most} s later"),
        ));
    }
    if last.is_some_and(|last| own_dts <= last) {
        return Err(bad(
            track,
            format!("{dts} is not later than what was pushed before"),
        ));
    }
    Ok((own_pts, own_dts))
}

fn bad(track: usize, why: impl fmt::Display) -> EngineError {
    EngineError::BadPush {
        track,
        why: why.to_string(),
    }
}

/// The latest time, counted from the first.
const LONGEST_NANOS: i64 = 1_000 * 3_600 * 1_000_000_000;

/// How much later than it is decoded a picture may be shown.
const LONGEST_REORDERING: Duration = Duration::from_secs(10);
