use std::path::PathBuf;
use std::time::Duration;

use loom_ai::ModelConfig;
use loom_hls::{Packager, PackagerConfig, Pathway, SessionData, StartPoint, TextForm, Window};
use loom_ingest::IngestConfig;
use loom_transcode::Wanted;

use crate::error::EngineError;
use crate::id::RecordingId;
use crate::keys::EncryptionConfig;

/// How an engine runs. [`Default`] suits one machine: local disk, any free UDP port, captions where a model is found.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where recordings are kept, one folder each. Created where it is missing.
    pub data_dir: PathBuf,
    /// The WebRTC side.
    pub ingest: IngestConfig,
    /// Speech.
    pub captions: CaptionsConfig,
    /// The renditions wanted beside the source.
    pub ladder: Wanted,
    /// The length of a live segment, and how often the publisher is asked for a key frame.
    pub segment: Duration,
    /// The length of a live part (`PART-TARGET`, RFC 8216bis §4.4.3.7). Live viewers play three of these behind.
    pub part: Duration,
    /// What viewers' playlists list and say.
    pub playlists: PlaylistConfig,
    /// How recordings are encrypted; `None`: not at all. The samples of pictures other than H.264 cannot be.
    pub encryption: Option<EncryptionConfig>,
    /// How many recordings may be live at once; one more is refused with [`EngineError::Full`](crate::EngineError::Full).
    pub max_live: usize,
    /// How long a publisher that vanished is waited for. Who publishes to the recording within that, or while the old session is
    /// still open, goes on with it, behind a declared gap. Zero ends a recording with its first session. Unless it is zero, a
    /// publisher counts as vanished after 5 s without media, or
    /// [`IngestConfig::idle_timeout`] where that is less.
    pub reconnect_window: Duration,
    /// A recording that nobody has published to for this long fails.
    pub unused_after: Duration,
}

/// What viewers' playlists list and say (RFC 8216bis).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlaylistConfig {
    /// How much of a live recording its playlists list, where a request does not say (`?window=live`, `dvr-SECONDS`, `event`). Once
    /// it has ended they list all of it.
    pub window: Window,
    /// Where players begin (`EXT-X-START`), where a request does not say (`?start=SECONDS`).
    pub start: Option<StartPoint>,
    /// The hosts, such as CDNs, that serve the recordings, the best first: players are steered between them by
    /// [`Engine::set_ranking`](crate::Engine::set_ranking) (§7). `{id}` in a base URL stands for the recording. None: this one alone.
    pub pathways: Vec<Pathway>,
    /// Facts that every multivariant playlist tells (`EXT-X-SESSION-DATA`).
    pub session_data: Vec<SessionData>,
}

/// Whether and with which model the engine writes captions.
#[derive(Debug, Clone)]
pub struct CaptionsConfig {
    /// `false`: no model is looked for, recordings have no captions and no transcript.
    pub enabled: bool,
    /// Where the model is.
    pub model: ModelConfig,
    /// How captions and subtitles are written.
    pub form: TextForm,
    /// Languages (BCP 47) that every recording offers subtitles in from its beginning, for a host that hands them over while it is live
    /// ([`Recording::put_captions`](crate::Recording::put_captions)). Others can come at any time, but who watches already does not learn of
    /// them.
    pub languages: Vec<String>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from(".loom"),
            ingest: IngestConfig::default(),
            captions: CaptionsConfig::default(),
            ladder: Wanted::default(),
            segment: Duration::from_secs(2),
            part: Duration::from_millis(334),
            playlists: PlaylistConfig::default(),
            encryption: None,
            max_live: 64,
            reconnect_window: Duration::from_secs(20),
            unused_after: Duration::from_secs(30 * 60),
        }
    }
}

impl Default for CaptionsConfig {
    /// On, with the model that the environment names (`LOOM_MODEL`) or that can be found.
    fn default() -> Self {
        Self {
            enabled: true,
            model: ModelConfig::from_env(),
            form: TextForm::WebVtt,
            languages: Vec::new(),
        }
    }
}

impl PlaylistConfig {
    /// Whether recordings can be packaged so.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let config = self.applied(|url| url.to_owned(), PackagerConfig::default());
        Packager::new(config)?;
        Ok(())
    }

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
            pathways: self.pathways.iter().map(own).collect(),
            steering: !self.pathways.is_empty(),
            session_data: self.session_data.clone(),
            ..config
        }
    }
}

/// How long players keep a ranking of the pathways (RFC 8216bis §7.2).
pub(crate) const STEERING_TTL: Duration = Duration::from_secs(10);
