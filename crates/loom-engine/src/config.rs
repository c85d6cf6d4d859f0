use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use loom_ai::{ModelConfig, Moderator, SpeakerEncoder, SpeakersConfig, TextModel, Transcriber};
use loom_hls::{Packager, PackagerConfig, PartForm, Pathway, SessionData, StartPoint, TextForm, Window};
use loom_ingest::IngestConfig;
use loom_transcode::{ApartConfig, ChunkWorker, Wanted};

use crate::error::EngineError;
use crate::id::RecordingId;
use crate::jobs::RetryConfig;
use crate::keys::EncryptionConfig;
use crate::store::StoreConfig;

/// How an engine runs. [`Default`] suits one machine: local disk, UDP port 8189, captions where a model is found.
///
/// Its fields are there whatever features the engine is built with; what is of a feature that it lacks is of no effect.
///
/// ```
/// use std::time::Duration;
/// use loom_engine::{CaptionsConfig, EngineConfig, PlaylistConfig, Window};
///
/// let config = EngineConfig {
///     data_dir: "/var/lib/talks".into(),
///     part: Duration::from_millis(200),
///     captions: CaptionsConfig { enabled: false, ..CaptionsConfig::default() },
///     playlists: PlaylistConfig { window: Window::Dvr(Duration::from_secs(600)), ..PlaylistConfig::default() },
///     ..EngineConfig::default()
/// };
/// # let _ = config;
/// ```
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where recordings are kept, one folder each. Created where it is missing.
    pub data_dir: PathBuf,
    /// The WebRTC side.
    pub ingest: IngestConfig,
    /// Speech.
    pub captions: CaptionsConfig,
    /// What writes a recording's title, summary and action items once its transcript is written ([`Recording::brief`](crate::Recording::brief));
    /// `None`, the default: nothing does. It may take its time: one recording has its turn at a time, and none waits for it to be `ready`.
    pub text_model: Option<Arc<dyn TextModel>>,
    /// How files become recordings.
    pub files: FileConfig,
    /// The renditions wanted beside the source.
    pub ladder: Wanted,
    /// The length of a live segment, and how often the publisher is asked for a key frame: 250 ms to 5 s. Where a key frame comes early,
    /// a segment ends after four fifths of this.
    pub segment: Duration,
    /// The length of a live part (`PART-TARGET`, RFC 8216bis §4.4.3.7): 50 ms to four fifths of [`segment`](Self::segment). Live viewers
    /// play three of these behind.
    pub part: Duration,
    /// What viewers' playlists list and say.
    pub playlists: PlaylistConfig,
    /// How recordings are encrypted; `None`: not at all.
    pub encryption: Option<EncryptionConfig>,
    /// Where recordings are kept beside the local disk; `None`: nowhere. What is finished is sent there in the background, and a recording
    /// that this disk does not have is served from there.
    pub store: Option<StoreConfig>,
    /// How many recordings may be live at once; one more is refused with [`EngineError::Full`](crate::EngineError::Full).
    pub max_live: usize,
    /// Cores that the ladders of all live recordings may take, together. A recording whose whole ladder would take more than is left has as
    /// many rungs as there is room for, and where there is none, or rungs of another are shed, its source alone; what a ladder takes is
    /// foretold from its plan, and what those that ran really took ([`Engine::live_load`](crate::Engine::live_load)). `None`: three quarters of
    /// the cores. [`Wanted::live_cores`] is the most for each.
    pub live_cores: Option<f64>,
    /// No recording is begun while the disk has fewer bytes free than this; those that run go on.
    pub min_free_space: u64,
    /// How much of a recording a power cut can lose, beside what had not come, and at least a part: all that was written is written to the
    /// disk this often, for all recordings at once, and nothing that is on the disk names what is not. Where a disk is slower, or media comes
    /// faster, parts wait for it. What a killed process has written is never lost. Zero, the default, leaves it to the system: on some disks
    /// a part waits while all is written.
    pub sync_every: Duration,
    /// How long a publisher that vanished is waited for. Who publishes to the recording within that, or while the old session is
    /// still open, goes on with it, behind a declared gap. Zero ends a recording with its first session. Unless it is zero, a
    /// publisher counts as vanished after 5 s without media, or
    /// [`IngestConfig::idle_timeout`] where that is less.
    pub reconnect_window: Duration,
    /// A recording that is paused for this long is finished.
    pub longest_pause: Duration,
    /// A recording that nobody has published to for this long fails.
    pub unused_after: Duration,
    /// How often what is done for a recording after its end is tried, where it fails. For the way to the store there is
    /// [`StoreConfig::retry`].
    pub retry: RetryConfig,
}

/// What viewers' playlists list and say (RFC 8216bis).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlaylistConfig {
    /// How much of a live recording its playlists list, where a request does not say (`?window=live`, `dvr-SECONDS`, `event`). Once
    /// it has ended they list all of it.
    pub window: Window,
    /// Where players begin (`EXT-X-START`), where a request does not say (`?start=SECONDS`).
    pub start: Option<StartPoint>,
    /// How live playlists name parts.
    pub parts: PartForm,
    /// The hosts, such as CDNs, that serve the recordings, the best first: players are steered between them by
    /// [`Engine::set_ranking`](crate::Engine::set_ranking) (§7). `{id}` in a base URL stands for the recording. None: this one alone.
    pub pathways: Vec<Pathway>,
    /// Facts that every multivariant playlist tells (`EXT-X-SESSION-DATA`).
    pub session_data: Vec<SessionData>,
}

/// How files become recordings: in chunks, which are encoded apart, kept in the recording's folder until it is done, and not encoded again
/// by a process that goes on where another was killed.
#[derive(Debug, Clone)]
pub struct FileConfig {
    /// How long a chunk is at least: it ends at the file's first key frame from there on.
    pub chunk: Duration,
    /// How many chunks are encoded at once, of all files together. Each takes memory for what it is made of, what is made of it, and some
    /// dozens of decoded pictures; as many as this and one more of each file are held. [`Default`]: half as many as there are cores, from 2
    /// to 8.
    pub at_once: usize,
    /// Who encodes chunks; `None`: this machine. A chunk that it fails to encode is encoded here, and
    /// [`Event::Worker`](crate::Event::Worker) says so.
    pub worker: Option<Arc<dyn ChunkWorker>>,
    /// Which program reads files, and encodes those chunks that are encoded here, in processes of its own; `None`, the default: this
    /// process does. A file that crashes a demuxer or a decoder then takes every recording of the process with it, so that who takes files of
    /// strangers names one: most simply its own program ([`ApartConfig::this_program`]).
    pub apart: Option<ApartConfig>,
}

/// Whether and with which model the engine writes captions.
#[derive(Debug, Clone)]
pub struct CaptionsConfig {
    /// `false`: no model is looked for, recordings have no captions and no transcript.
    pub enabled: bool,
    /// Where Whisper's model is, and which device it hears with ([`ModelConfig::device`]).
    pub model: ModelConfig,
    /// Threads that Whisper hears all recordings with, 1 to 64: so many for live captions, and as many for transcripts. Half of the
    /// processors unless told, one at least: captions may lag, and pictures may not. With a GPU they are not used.
    pub threads: usize,
    /// What makes text of speech in Whisper's place; `None`: Whisper does.
    pub transcriber: Option<Arc<dyn Transcriber>>,
    /// What looks over each live caption once it is final; what it finds is told as [`Event::Findings`](crate::Event::Findings). `None`: nothing
    /// does. It may block: where it is more than 64 captions behind, new ones go by unseen (`loom_cues_unmoderated_total`).
    pub moderator: Option<Arc<dyn Moderator>>,
    /// How the final transcript comes to say who speaks; `None`, which is the default: it does not.
    pub speakers: Option<Speakers>,
    /// How captions and subtitles are written.
    pub form: TextForm,
    /// Languages (BCP 47) that every recording offers subtitles in from its beginning, for a host that hands them over while it is live
    /// ([`Recording::put_captions`](crate::Recording::put_captions)). Others can come at any time, but who watches already does not learn of
    /// them.
    pub languages: Vec<String>,
}

/// How the final transcript comes to say who speaks.
#[derive(Debug, Clone)]
pub struct Speakers {
    /// What makes vectors of voices.
    pub source: SpeakerSource,
    /// How speakers are told apart by these.
    pub turns: SpeakersConfig,
}

/// Where what makes vectors of voices comes from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SpeakerSource {
    /// Resemblyzer's encoder (Apache-2.0, 16 MB), fetched once, when it is first needed, from the Python package index that pip is configured with, and
    /// kept in the cache of [`CaptionsConfig::model`]. With the feature `captions`.
    Fetched,
    /// The same, on this machine: a `.pt` file, or the wheel that has it. With the feature `captions`.
    File(PathBuf),
    /// The host's own.
    Own(Arc<dyn SpeakerEncoder>),
}

impl From<SpeakerSource> for Speakers {
    fn from(source: SpeakerSource) -> Self {
        Self {
            source,
            turns: SpeakersConfig::default(),
        }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from(".loom"),
            ingest: IngestConfig::default(),
            captions: CaptionsConfig::default(),
            text_model: None,
            files: FileConfig::default(),
            ladder: Wanted::default(),
            segment: Duration::from_secs(2),
            part: Duration::from_millis(334),
            playlists: PlaylistConfig::default(),
            encryption: None,
            store: None,
            max_live: 64,
            live_cores: None,
            min_free_space: 256 << 20,
            sync_every: Duration::ZERO,
            reconnect_window: Duration::from_secs(20),
            longest_pause: Duration::from_secs(24 * 60 * 60),
            unused_after: Duration::from_secs(30 * 60),
            retry: RetryConfig::default(),
        }
    }
}

impl Default for FileConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            chunk: Duration::from_secs(8),
            at_once: (cores / 2).clamp(2, 8),
            worker: None,
            apart: None,
        }
    }
}

impl Default for CaptionsConfig {
    /// On, with the model that the environment names (`LOOM_MODEL`) or that can be found.
    fn default() -> Self {
        Self {
            enabled: true,
            model: ModelConfig::from_env(),
            threads: (std::thread::available_parallelism().map_or(1, usize::from) / 2).clamp(1, 64),
            transcriber: None,
            moderator: None,
            speakers: None,
            form: TextForm::WebVtt,
            languages: Vec::new(),
        }
    }
}

impl EngineConfig {
    /// Whether live recordings can be packaged so.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let config = self.playlists.applied(|url| url.to_owned(), self.live());
        Packager::new(config)?;
        Ok(())
    }

    /// How a live recording is packaged, but for what its playlists list.
    pub(crate) fn live(&self) -> PackagerConfig {
        PackagerConfig {
            // Key frames are asked for every `segment` and come a little later or earlier: each begins a segment.
            segment: self.segment.mul_f64(0.8),
            part: self.part,
            text: self.captions.form,
            encryption: self.encryption.as_ref().map(EncryptionConfig::packaged),
            ..PackagerConfig::default()
        }
    }
}

impl PlaylistConfig {
    /// The packager's configuration with all this in it.
    pub(crate) fn apply(&self, recording: &RecordingId, config: PackagerConfig) -> PackagerConfig {
        self.applied(|url| url.replace("{id}", recording.as_str()), config)
    }

    fn applied(&self, base: impl Fn(&str) -> String, config: PackagerConfig) -> PackagerConfig {
        let own = |pathway: &Pathway| Pathway {
            id: pathway.id.clone(),
            base_url: pathway.base_url.as_deref().map(&base),
        };
        PackagerConfig {
            window: self.window,
            start: self.start,
            part_form: self.parts,
            pathways: self.pathways.iter().map(own).collect(),
            steering: !self.pathways.is_empty(),
            session_data: self.session_data.clone(),
            ..config
        }
    }
}

/// How long players keep a ranking of the pathways (RFC 8216bis §7.2).
#[cfg(feature = "hls")]
pub(crate) const STEERING_TTL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn of(segment: u64, part: u64) -> Result<(), EngineError> {
        let millis = Duration::from_millis;
        EngineConfig {
            segment: millis(segment),
            part: millis(part),
            ..EngineConfig::default()
        }
        .check()
    }

    #[test]
    fn what_no_live_recording_could_be_packaged_with_is_known_before_one_is() {
        for (segment, part) in [(2000, 334), (250, 50), (1000, 800), (5000, 2000)] {
            of(segment, part).unwrap_or_else(|why| panic!("{segment} {part}: {why}"));
        }
        for (segment, part) in [(2000, 40), (1000, 900), (240, 50), (5100, 334)] {
            let why = of(segment, part).expect_err("it cannot be packaged");
            assert!(matches!(why, EngineError::Package(_)), "{segment} {part}: {why}");
        }
    }
}
