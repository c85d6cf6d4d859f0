use std::time::Duration;

use loom_core::{MediaKind, RenditionId, WallClock};

use crate::crypt::{Encryption, EncryptionScheme};
use crate::error::HlsError;
use crate::steering::{Pathway, check_pathways};
use crate::window::{StartPoint, Window};

/// How a recording is cut. Checked once in [`crate::Packager::new`].
///
/// ```
/// use std::time::Duration;
/// use loom_hls::{Packager, PackagerConfig};
///
/// // parts of 200 ms in segments of a second
/// let quick = PackagerConfig {
///     segment: Duration::from_secs(1),
///     part: Duration::from_millis(200),
///     target_duration: Duration::from_secs(2),
///     ..PackagerConfig::default()
/// };
/// assert!(Packager::new(quick).is_ok());
/// // a segment is never longer than the target duration
/// let wrong = PackagerConfig { segment: Duration::from_secs(9), ..PackagerConfig::default() };
/// assert!(Packager::new(wrong).is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagerConfig {
    /// The length a segment aims at. It ends at the first key frame of the leading video rendition from about here on.
    pub segment: Duration,
    /// `PART-TARGET` (RFC 8216bis §4.4.3.7): no part is longer, except one that holds a single longer frame.
    pub part: Duration,
    /// Whether parts are made and listed. Without, a playlist lists whole segments only.
    pub low_latency: bool,
    /// `EXT-X-TARGETDURATION` (RFC 8216bis §4.4.3.1), whole seconds, fixed for the recording's life. A segment that finds no
    /// key frame is cut here without one.
    pub target_duration: Duration,
    /// Where the recording's zero lies on the wall clock, for `EXT-X-PROGRAM-DATE-TIME`. Without, none is written.
    pub zero: Option<WallClock>,
    /// Which renditions of sound viewers are offered.
    pub sound: SoundListing,
    /// How subtitle renditions are written.
    pub text: TextForm,
    /// How long, in media time past the end that a segment aims at, sound waits for the pictures to say where the
    /// segment ends. Past it, sound ends the segment by itself. `None`: as long as it takes, as for a file.
    pub audio_wait: Option<Duration>,
    /// How pictures and sound are encrypted; `None`: not at all. Keys are asked for by [`HlsOutput::NeedKey`](crate::HlsOutput::NeedKey).
    pub encryption: Option<Encryption>,
    /// How far, in media time, a rendition may fall behind the end of a segment before it goes on without: what
    /// it has of the segment is closed, or `EXT-X-GAP` stands for it. `None`: it is waited for, as for a file.
    pub stall: Option<Duration>,
    /// How playlists name parts.
    pub part_form: PartForm,
    /// What becomes of a picture that stands longer than a part may last, and of sound that stops.
    pub stills: Stills,
    /// How much of the recording its media playlists list while it grows, where a request does not say. Once it has ended, all.
    pub window: Window,
    /// Where players begin (`EXT-X-START`, RFC 8216bis §4.4.2.2), where a request does not say. Without, they choose.
    pub start: Option<StartPoint>,
    /// Whether each segment of pictures or sound says how many bits a second it has (`EXT-X-BITRATE`, RFC 8216bis §4.4.4.8): players that
    /// choose by what a segment will cost need not ask for its size first.
    pub bit_rates: bool,
    /// What the multivariant playlist says of the whole recording, such as its title.
    pub session_data: Vec<SessionData>,
    /// The ways by which viewers can get it, the best first (RFC 8216bis §7). Each has every variant. Fewer than two, and no
    /// [`Self::steering`]: players are not steered.
    pub pathways: Vec<Pathway>,
    /// Whether the multivariant playlist names `steering.json`, by which players learn the ranking of the pathways anew.
    pub steering: bool,
}

/// `EXT-X-SESSION-DATA` (RFC 8216bis §4.4.6.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionData {
    /// `DATA-ID`: what it is, as a reversed domain name, such as `com.apple.hls.title`.
    pub id: String,
    /// What it says.
    pub value: SessionValue,
    /// BCP 47, where it is in a language.
    pub language: Option<String>,
}

/// What an `EXT-X-SESSION-DATA` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionValue {
    /// `VALUE`: text.
    Text(String),
    /// `URI` of a JSON file.
    Json(String),
    /// `URI` of any file (`FORMAT=RAW`).
    Raw(String),
}

/// What becomes of pictures that stand longer than a part may last (RFC 8216bis §4.4.4.9), such as a screen's on which nothing
/// moves, and of sound that stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Stills {
    /// Pictures of a few bytes that show the same again are put behind them, where the codec and the stream permit it; else as
    /// [`Kept`](Self::Kept). H.264 headers are rewritten to make room for them; each picture still decodes as it did. Sound goes on as
    /// silence, and Opus packets of many frames are taken apart.
    #[default]
    Repeated,
    /// Their part lasts as long as they do; where sound is missing, parts are listed as gaps.
    Kept,
}

/// How playlists name parts (`EXT-X-PART`, RFC 8216bis §4.4.4.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PartForm {
    /// By URIs of their own.
    #[default]
    Named,
    /// As byte ranges of their segment, which can be asked for while it grows (see
    /// [`Origin::handle_range_request`](crate::Origin::handle_range_request)): a cache keeps each byte once, and one request from a hinted
    /// byte on brings all that is left of the segment. Where whole segments are encrypted, parts are no ranges of them, and have names.
    Ranges,
}

/// Which renditions of sound the multivariant playlist names. All are packaged and have a media playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SoundListing {
    /// Those of one codec: AAC where there is any, which every player has, or else Opus.
    #[default]
    Preferred,
    /// Those of every codec, each codec in a group of its own with its own variants. Players that make their list of qualities
    /// from the variants, such as hls.js, then show each quality once a codec.
    Every,
}

/// How subtitle renditions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TextForm {
    /// WebVTT files (RFC 8216bis §3.1.4): every player reads them.
    #[default]
    WebVtt,
    /// IMSC1 text in fragmented MP4 (RFC 8216bis §3.1.5, `stpp.ttml.im1t`): for players and archives that want TTML.
    Imsc1,
}

impl Default for PackagerConfig {
    /// Live, with low latency: 2 s segments of 334 ms parts.
    fn default() -> Self {
        Self {
            segment: Duration::from_secs(2),
            part: Duration::from_millis(334),
            low_latency: true,
            target_duration: Duration::from_secs(4),
            zero: None,
            sound: SoundListing::Preferred,
            text: TextForm::WebVtt,
            audio_wait: Some(Duration::from_secs(2)),
            encryption: None,
            stall: Some(Duration::from_secs(6)),
            part_form: PartForm::Named,
            stills: Stills::Repeated,
            window: Window::Event,
            start: None,
            bit_rates: false,
            session_data: Vec::new(),
            pathways: Vec::new(),
            steering: false,
        }
    }
}

impl PackagerConfig {
    /// For a file, where nothing hurries: whole segments of about `segment`, each from a key frame to a key frame, where key
    /// frames lie at most `keys` apart. The target duration is their sum, at most 10 s; for `keys` above that, `keys`.
    pub fn file(segment: Duration, keys: Duration) -> Self {
        let longest = (segment + keys).min(keys.max(Duration::from_secs(10)));
        let target = Duration::from_secs(longest.as_millis().div_ceil(1000).max(1) as u64);
        Self {
            segment: segment
                .min(target.saturating_sub(keys))
                .max(Duration::from_millis(200)),
            part: Duration::from_secs(1),
            low_latency: false,
            target_duration: target,
            zero: None,
            sound: SoundListing::Preferred,
            text: TextForm::WebVtt,
            audio_wait: None,
            encryption: None,
            stall: None,
            stills: Stills::Kept,
            ..Self::default()
        }
    }

    /// How parts are named, where there are any.
    pub(crate) fn part_form(&self) -> PartForm {
        let whole = self
            .encryption
            .is_some_and(|it| it.scheme == EncryptionScheme::Segments);
        if whole { PartForm::Named } else { self.part_form }
    }

    /// Whether there are playlists of key pictures: not where a segment is encrypted as one, of which no range stands alone.
    pub(crate) fn lists_frames(&self) -> bool {
        !self
            .encryption
            .is_some_and(|it| it.scheme == EncryptionScheme::Segments)
    }

    pub(crate) fn check(&self) -> Result<(), HlsError> {
        let fail = |what: String, clause| Err(HlsError::Config { what, clause });
        let target = self.target_duration;
        if target.subsec_nanos() != 0 || !(1..=60).contains(&target.as_secs()) {
            return fail(
                format!("target duration {target:?} is not a whole number of seconds from 1 to 60"),
                "RFC 8216bis §4.4.3.1",
            );
        }
        if self.segment < Duration::from_millis(200) || self.segment > target {
            return fail(
                format!(
                    "segments of {:?} do not lie between 200 ms and the target duration {target:?}",
                    self.segment
                ),
                "RFC 8216bis §4.4.3.1",
            );
        }
        if self.low_latency && (self.part < Duration::from_millis(50) || self.part > self.segment) {
            return fail(
                format!(
                    "parts of {:?} do not lie between 50 ms and a segment, {:?}",
                    self.part, self.segment
                ),
                "RFC 8216bis §4.4.3.7",
            );
        }
        if let Some(start) = self.start {
            if matches!(start, StartPoint::FromBeginning(_)) && self.window != Window::Event {
                return fail(
                    "playback cannot begin a fixed time after the beginning of a window that slides"
                        .to_owned(),
                    "RFC 8216bis §4.4.2.2",
                );
            }
            start.check(target)?;
        }
        for (at, data) in self.session_data.iter().enumerate() {
            // one of an id and a language only
            let twice = self.session_data[..at]
                .iter()
                .any(|before| before.id == data.id && before.language == data.language);
            if data.id.is_empty() || twice {
                return fail(
                    format!("session data {:?} has no id, or stands there twice", data.id),
                    "RFC 8216bis §4.4.6.4",
                );
            }
        }
        check_pathways(&self.pathways)
    }
}

/// A rendition that a recording will have.
#[derive(Debug, Clone, PartialEq)]
pub struct RenditionInfo {
    /// Its name, and the folder of its files.
    pub id: RenditionId,
    /// What it is.
    pub kind: RenditionKind,
    /// Peak bit rate, bits a second: `BANDWIDTH` while live; after the end it is what was measured.
    pub bandwidth: u32,
}

/// What a rendition is.
#[derive(Debug, Clone, PartialEq)]
pub enum RenditionKind {
    /// Pictures.
    Video {
        /// Pixels across, as planned; the format tells the truth.
        width: u32,
        /// Pixels down, as planned; the format tells the truth.
        height: u32,
        /// Pictures a second, the most there will be; 0 where unknown.
        frame_rate: f64,
    },
    /// Sound.
    Audio {
        /// Its `NAME` to people.
        name: String,
        /// BCP 47, where known.
        language: Option<String>,
        /// Channels, as planned; the format tells the truth.
        channels: u16,
    },
    /// Captions or subtitles, made of cues.
    Subtitles {
        /// Its `NAME` to people.
        name: String,
        /// BCP 47.
        language: String,
    },
}

impl RenditionKind {
    /// BCP 47, where known.
    pub(crate) fn language(&self) -> Option<&str> {
        match self {
            Self::Video { .. } => None,
            Self::Audio { language, .. } => language.as_deref(),
            Self::Subtitles { language, .. } => Some(language),
        }
    }

    pub(crate) fn media(&self) -> Option<MediaKind> {
        match self {
            Self::Video { .. } => Some(MediaKind::Video),
            Self::Audio { .. } => Some(MediaKind::Audio),
            Self::Subtitles { .. } => None,
        }
    }
}
