//! What the server is told by its command line and its environment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};
use http::Uri;
use http::uri::{Authority, Scheme};
use loom_engine::{
    EngineConfig, IceServer, PartForm, Pathway, PlaylistConfig, SpeechDevice, StartPoint, StorageClass,
    Window,
};
use serde::Deserialize;

/// Loom's reference server: record in a browser, watch it live with captions, keep it.
#[derive(Debug, Clone, Parser)]
#[command(name = "loom-server", version)]
pub(crate) struct Config {
    /// Where HTTP listens. Anything but loopback lets other machines in, and there are no accounts.
    #[arg(long, env = "LOOM_LISTEN", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Where recordings and the database are kept.
    #[arg(long, env = "LOOM_DATA_DIR", default_value = "./.loom")]
    pub(crate) data_dir: PathBuf,
    /// Where recordings are kept beside the data folder, and served from where that has lost them: s3://BUCKET/PREFIX, reached by the usual
    /// AWS_ variables (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), or file:///PATH.
    #[arg(long, env = "LOOM_STORE")]
    pub(crate) store: Option<String>,
    /// How often recordings will be asked for, a tag (loom-class) of what is kept there: hot, warm, cold or archive.
    #[arg(long, env = "LOOM_STORE_CLASS", default_value = "hot")]
    pub(crate) store_class: StorageClass,
    /// The speech model: a folder of safetensors, a ggml file or a .pt file. Otherwise it is looked for and downloaded.
    #[arg(long, env = "LOOM_MODEL")]
    pub(crate) model: Option<PathBuf>,
    /// Whether recordings get captions and a transcript.
    #[arg(long, env = "LOOM_CAPTIONS", default_value = "on")]
    pub(crate) captions: Switch,
    /// Threads that the speech model hears all recordings with, 1 to 64. Otherwise half of the processors, one at least.
    #[arg(long, env = "LOOM_CAPTION_THREADS", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) caption_threads: Option<u8>,
    /// What the speech model hears with: `cpu`, `cuda` or `cuda:N` (an NVIDIA GPU, feature `cuda`), `metal` (Apple's, feature `metal`), or `auto`,
    /// a GPU where one is there and has the memory, else the processor. Without the device that is named there are no captions.
    #[arg(long, env = "LOOM_DEVICE", default_value = "cpu")]
    pub(crate) device: SpeechDevice,
    /// Windows of sound that a GPU holds and hears at once, 24 to 256. Each takes some of its memory. Otherwise 32.
    #[arg(long, env = "LOOM_DEVICE_WINDOWS", value_parser = clap::value_parser!(u16).range(24..=256))]
    pub(crate) device_windows: Option<u16>,
    /// The language model that writes title, summary and action items of each transcript (`GET …/{id}/brief.json`): a `.gguf` file, one on the
    /// Hugging Face hub as OWNER/NAME/FILE.gguf, which is downloaded once, or the address of a server that speaks OpenAI's chat completions, such as
    /// http://127.0.0.1:8081/v1. A model on this machine is loaded before the server is ready.
    #[arg(long, env = "LOOM_TEXT_MODEL")]
    pub(crate) text_model: Option<String>,
    /// What the model is called at that address.
    #[arg(long, env = "LOOM_TEXT_MODEL_NAME", default_value = "default")]
    pub(crate) text_model_name: String,
    /// Sent there as a bearer token.
    #[arg(long, env = "LOOM_TEXT_MODEL_KEY", hide_env_values = true)]
    pub(crate) text_model_key: Option<String>,
    /// A file of words and phrases to be told of (event `findings`) when a live caption has them: one a line, and behind a tab what it is to
    /// be called where that is not the phrase itself.
    #[arg(long, env = "LOOM_WORD_LIST")]
    pub(crate) word_list: Option<PathBuf>,
    /// Whether transcripts say who speaks: `off`; `fetch`, by Resemblyzer's speaker encoder (16 MB), which is fetched once from the Python package
    /// index; or the path of that, a `.pt` file or the wheel that has it.
    #[arg(long, env = "LOOM_SPEAKERS", default_value = "off")]
    pub(crate) speakers: String,
    /// How captions and subtitles are written into the stream: `webvtt`, which every player reads, or `imsc1` (TTML in MP4).
    #[arg(long, env = "LOOM_TEXT", default_value = "webvtt")]
    pub(crate) text: Text,
    /// Languages (BCP 47) that live recordings offer subtitles in from the beginning, to be put while they are live. Comma separated.
    #[arg(long, env = "LOOM_LANGUAGES", value_delimiter = ',')]
    pub(crate) languages: Vec<String>,
    /// What is made of a recording: `full`, the source and smaller qualities for thin lines; or `source`, the source alone as it
    /// came, which costs neither a decoder nor an encoder. With `source` and captions off many more can record at once.
    #[arg(long, env = "LOOM_LADDER", default_value = "full")]
    pub(crate) ladder: Ladder,

    /// Whether pictures that show what is shown are encoded again in the smaller renditions: `off` leaves them out.
    #[arg(long, env = "LOOM_STILLS", default_value = "off")]
    pub(crate) stills: Switch,
    /// Whether noise is suppressed in sound that is encoded here (AAC): it is made for speech, and takes music for noise. The publisher's own
    /// Opus stays as it came, and so does what captions hear.
    #[arg(long, env = "LOOM_NOISE_SUPPRESSION", default_value = "off")]
    pub(crate) noise_suppression: Switch,
    /// How loud the sound of uploaded files is made, in LUFS from -40 to -5 (EBU R 128), e.g. -16: it is encoded anew (AAC), with true peaks of
    /// -1 dBTP at most. Otherwise it is as loud as it came.
    #[arg(long, env = "LOOM_LOUDNESS", allow_hyphen_values = true, value_parser = loudness)]
    pub(crate) loudness: Option<f64>,
    /// Whether recordings get small pictures along their time line. Otherwise with `full`; with `source` they cost the decoding of
    /// one key frame every two seconds.
    #[arg(long, env = "LOOM_THUMBNAILS")]
    pub(crate) thumbnails: Option<Switch>,
    /// How live playlists name parts: `named`, by URIs of their own, or `ranges`, as byte ranges of their segment, which suits caches.
    #[arg(long, env = "LOOM_PARTS", default_value = "named")]
    pub(crate) parts: Parts,
    /// How much of a live recording its playlists list, where a request does not say: `event`, all of it; `live`, the newest
    /// few seconds; `dvr-SECONDS`, the newest so many.
    #[arg(long, env = "LOOM_WINDOW", default_value = "event", value_parser = Window::parse)]
    pub(crate) window: Window,
    /// Where players begin, where a request does not say: seconds from the beginning, or below zero from the end.
    #[arg(long, env = "LOOM_START", allow_hyphen_values = true, value_parser = StartPoint::parse)]
    pub(crate) start: Option<StartPoint>,
    /// The hosts that serve the recordings, such as CDNs, the best first: NAME=URL with commas between them, where {id} in a URL
    /// is the recording; NAME= alone is this server. `PUT /v1/pathways` ranks them anew.
    #[arg(long, env = "LOOM_PATHWAYS", value_delimiter = ',')]
    pub(crate) pathways: Vec<PathwayAt>,
    /// How many recordings may be live at once.
    #[arg(long, env = "LOOM_MAX_LIVE", default_value_t = EngineConfig::default().max_live)]
    pub(crate) max_live: usize,
    /// Cores that the ladders of all live recordings may take, together: one whose ladder does not fit has fewer rungs, or its source
    /// alone. Otherwise three quarters of those there are.
    #[arg(long, env = "LOOM_LIVE_CORES", value_parser = cores)]
    pub(crate) live_cores: Option<f64>,
    /// How many seconds a publisher who vanished is waited for before the recording is finished; 0: not at all. Otherwise 20.
    #[arg(long, env = "LOOM_RECONNECT")]
    pub(crate) reconnect: Option<u64>,
    /// The UDP port, or address and port, for WebRTC media. Otherwise 8189, or any free one where that is taken.
    #[arg(long, env = "LOOM_UDP")]
    pub(crate) udp: Option<UdpListen>,
    /// Addresses to tell publishers, where this machine is reached by others than its own (behind NAT). Comma separated.
    #[arg(long, env = "LOOM_ANNOUNCE", value_delimiter = ',')]
    pub(crate) announce: Vec<IpAddr>,
    /// STUN and TURN servers to tell publishers: URLs with commas between them, or, where they have credentials, a JSON
    /// array like a browser's `iceServers`: [{"urls": ["turn:…"], "username": "…", "credential": "…"}].
    #[arg(long, env = "LOOM_ICE_SERVERS", hide_env_values = true)]
    pub(crate) ice_servers: Option<IceServers>,
    /// How many publishers may be connected from one address. Otherwise as many as there may be at all.
    #[arg(long, env = "LOOM_MAX_PER_ADDRESS")]
    pub(crate) max_per_address: Option<NonZeroUsize>,
    /// The WHIP URL that publishers are sent to (307) while that many are live; {id} in it is the recording. Otherwise
    /// they are asked to come back (503).
    #[arg(long, env = "LOOM_REDIRECT_TO")]
    pub(crate) redirect_to: Option<RedirectTo>,
    /// How the server is reached from outside, e.g. `https://loom.example`. Otherwise taken from each request's Host.
    #[arg(long, env = "LOOM_PUBLIC_URL")]
    pub(crate) public_url: Option<PublicUrl>,
    /// Origins of other web pages that may list, create, stop and delete recordings. Comma separated; * is any.
    #[arg(long, env = "LOOM_ALLOW_ORIGIN", value_delimiter = ',')]
    pub(crate) allow_origin: Vec<String>,
    /// The length of a live part in milliseconds, 50 to 1600: shorter is sooner seen, and costs more requests. Otherwise 334.
    #[arg(long, env = "LOOM_PART", value_parser = clap::value_parser!(u64).range(50..=1600))]
    pub(crate) part: Option<u64>,
    /// How much of a recording a power cut can lose, in milliseconds, beside what had not come, and at least a part: all is written to the disk
    /// this often, and parts wait for a disk that is slower. 0 leaves it to the system.
    #[arg(long, env = "LOOM_SYNC", default_value_t = 0)]
    pub(crate) sync: u64,
    /// How recordings are encrypted. segments: AES-128; cbcs: SAMPLE-AES; cenc: SAMPLE-AES-CTR, for DASH. Whoever may watch may fetch the
    /// key. Such a recording has no download.
    #[arg(long, env = "LOOM_ENCRYPTION", default_value = "off")]
    pub(crate) encryption: Sealing,
    /// How many segments a key serves; 0: one key a recording.
    #[arg(long, env = "LOOM_KEY_SEGMENTS", default_value_t = 0)]
    pub(crate) key_segments: u32,
    /// The largest upload, in bytes or with K, M, G (binary).
    #[arg(long, env = "LOOM_MAX_UPLOAD", default_value = "4G")]
    pub(crate) max_upload: ByteCount,
    /// How much memory each process may take that reads an uploaded file or encodes some of it, in bytes or with K, M, G (binary). 0: the
    /// server reads files itself, and a file that crashes a decoder ends it with all its recordings.
    #[arg(long, env = "LOOM_FILE_MEMORY", default_value = "4G")]
    pub(crate) file_memory: ByteCount,
    /// No recording is begun while the disk has less free than this, in bytes or with K, M, G (binary).
    #[arg(long, env = "LOOM_MIN_FREE", default_value = "256M")]
    pub(crate) min_free: ByteCount,
    /// What is logged, e.g. info, or loom_engine=debug,info.
    #[arg(long, env = "LOOM_LOG", default_value = "info,webrtc=warn,rtc=warn")]
    pub(crate) log: String,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// Whether and how recordings are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sealing {
    Off,
    Segments,
    Cbcs,
    Cenc,
}

/// How text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Text {
    Webvtt,
    Imsc1,
}

/// How live playlists name parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Parts {
    Named,
    Ranges,
}

/// What is made of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ladder {
    Full,
    Source,
}

/// A UDP address; a port alone means every address of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UdpListen(pub(crate) SocketAddr);

/// STUN and TURN servers, as people write them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IceServers(pub(crate) Vec<IceServer>);

/// An absolute `http` or `https` URL, where `{id}` stands for a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RedirectTo(String);

/// `http` or `https`, a host, and nothing after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicUrl {
    base: String,
    host: String,
}

/// A pathway by its name and where it is, NAME=URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathwayAt(pub(crate) Pathway);

/// A count of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteCount(pub(crate) u64);

/// Cores, of which one may be a part.
fn cores(text: &str) -> Result<f64, String> {
    let cores = text
        .parse()
        .ok()
        .filter(|cores: &f64| cores.is_finite() && *cores >= 0.0);
    cores.ok_or_else(|| "a number of cores, 0 or more".to_owned())
}

/// A loudness, LUFS.
fn loudness(text: &str) -> Result<f64, String> {
    let target = text.trim().parse().ok().filter(|it| (-40.0..=-5.0).contains(it));
    target.ok_or_else(|| format!("{text:?} is no loudness from -40 to -5 LUFS"))
}

impl Config {
    /// What viewers' playlists list and say.
    pub(crate) fn playlists(&self) -> PlaylistConfig {
        PlaylistConfig {
            window: self.window,
            start: self.start,
            parts: match self.parts {
                Parts::Named => PartForm::Named,
                Parts::Ranges => PartForm::Ranges,
            },
            pathways: self.pathways.iter().map(|it| it.0.clone()).collect(),
            ..PlaylistConfig::default()
        }
    }
}

impl PublicUrl {
    /// Without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The host alone, lower-case.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

impl FromStr for UdpListen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        text.parse().map(Self).or_else(|_| {
            text.parse()
                .map(|port| Self(any(port)))
                .map_err(|_| format!("{text:?} is neither a port nor ADDRESS:PORT"))
        })
    }
}

impl FromStr for PathwayAt {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (id, url) = text
            .trim()
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is not NAME=URL"))?;
        let base_url = match url {
            "" => None,
            url if url.ends_with('/') => Some(url.to_owned()),
            url => Some(format!("{url}/")),
        };
        Ok(Self(Pathway {
            id: id.to_owned(),
            base_url,
        }))
    }
}

impl RedirectTo {
    /// The URL for one recording.
    pub(crate) fn url(&self, recording: &str) -> String {
        self.0.replace("{id}", recording)
    }
}

impl FromStr for RedirectTo {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text
            .replace("{id}", "id")
            .parse()
            .map_err(|why| format!("{text:?} is no URL: {why}"))?;
        match uri.scheme_str() {
            Some("http" | "https") => Ok(Self(text.to_owned())),
            _ => Err(format!("{text:?} is no http or https URL")),
        }
    }
}

impl FromStr for IceServers {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Urls {
            One(String),
            Many(Vec<String>),
        }
        #[derive(Deserialize)]
        struct Server {
            urls: Urls,
            username: Option<String>,
            credential: Option<String>,
        }
        if !text.trim_start().starts_with('[') {
            let urls = text.split(',').map(str::trim).filter(|url| !url.is_empty());
            return Ok(Self(urls.map(IceServer::new).collect()));
        }
        // The text holds passwords: it is not repeated.
        let servers: Vec<Server> = serde_json::from_str(text).map_err(|why| {
            let (line, column) = (why.line(), why.column());
            format!("no JSON array of ICE servers (line {line}, column {column})")
        })?;
        let servers = servers.into_iter().map(|server| IceServer {
            urls: match server.urls {
                Urls::One(url) => vec![url],
                Urls::Many(urls) => urls,
            },
            username: server.username,
            credential: server.credential,
        });
        Ok(Self(servers.collect()))
    }
}

impl FromStr for PublicUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text
            .trim_end_matches('/')
            .parse()
            .map_err(|why| format!("{text:?} is no URL: {why}"))?;
        let scheme = uri
            .scheme()
            .filter(|s| **s == Scheme::HTTP || **s == Scheme::HTTPS);
        let (Some(scheme), Some(authority)) = (
            scheme,
            uri.authority().filter(|a| plain_authority(a.as_str()).is_some()),
        ) else {
            return Err(format!("{text:?} is no http or https URL"));
        };
        if uri.path().len() > 1 || uri.query().is_some() {
            return Err(format!(
                "{text:?} has a path or a query; Loom is served at the root of its host"
            ));
        }
        Ok(Self {
            base: format!("{scheme}://{authority}"),
            host: authority.host().to_ascii_lowercase(),
        })
    }
}

impl FromStr for ByteCount {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => {
                return Err(format!(
                    "{text:?} is no size: write 500M, 4G or a number of bytes"
                ));
            }
        };
        let count: u64 = digits
            .parse()
            .map_err(|_| format!("{text:?} is no size: write 500M, 4G or a number of bytes"))?;
        count
            .checked_mul(1 << shift)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is too large"))
    }
}

/// Host and optional port without a user name, as a Host header carries it (RFC 9110 §7.2); `None` for anything else.
pub(crate) fn plain_authority(text: &str) -> Option<Authority> {
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    let name = host
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let v6 = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .is_some_and(|h| h.parse::<Ipv6Addr>().is_ok());
    let after = &authority.as_str()[host.len()..];
    let port = after.is_empty()
        || after
            .strip_prefix(':')
            .is_some_and(|port| port.parse::<u16>().is_ok());
    (!text.contains('@') && !host.is_empty() && (name || v6) && port).then_some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1234", 1234),
            ("4G", 4 << 30),
            ("500 MiB", 500 << 20),
            ("1kb", 1024),
        ] {
            assert_eq!(text.parse::<ByteCount>().unwrap().0, bytes, "{text}");
        }
        for text in ["", "G", "-1", "4 apples", "99999999999999T"] {
            assert!(text.parse::<ByteCount>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_public_url_is_a_scheme_and_a_host_and_nothing_else() {
        assert_eq!(
            "https://Loom.example/".parse::<PublicUrl>().unwrap().base(),
            "https://Loom.example"
        );
        assert_eq!(
            "https://Loom.example/".parse::<PublicUrl>().unwrap().host(),
            "loom.example"
        );
        for text in [
            "loom.example",
            "ftp://loom.example",
            "https://a/b",
            "https://me@loom.example",
            "https://",
            "",
        ] {
            assert!(text.parse::<PublicUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn windows_starts_and_pathways_are_read_as_people_write_them() {
        let config = Config::try_parse_from([
            "loom-server",
            "--window",
            "dvr-60",
            "--start",
            "-30",
            "--pathways",
            "here=,cdn=https://cdn.example/r/{id}",
        ])
        .unwrap();
        let seconds = std::time::Duration::from_secs;
        assert_eq!(config.window, Window::Dvr(seconds(60)));
        assert_eq!(config.start, Some(StartPoint::FromEnd(seconds(30))));
        let pathways: Vec<_> = config.pathways.iter().map(|it| &it.0).collect();
        assert_eq!(pathways[0].base_url, None);
        assert_eq!(
            pathways[1].base_url.as_deref(),
            Some("https://cdn.example/r/{id}/")
        );
        assert!(Config::try_parse_from(["loom-server", "--window", "week"]).is_err());
    }

    #[test]
    fn a_udp_port_alone_means_every_address() {
        assert_eq!("8189".parse(), Ok(UdpListen("0.0.0.0:8189".parse().unwrap())));
        assert_eq!("[::1]:9".parse(), Ok(UdpListen("[::1]:9".parse().unwrap())));
        assert!("udp".parse::<UdpListen>().is_err());
    }

    #[test]
    fn ice_servers_are_urls_or_what_a_browser_takes() {
        let IceServers(plain) = "stun:a.example, stun:b.example:3478".parse().unwrap();
        assert_eq!(
            plain,
            [
                IceServer::new("stun:a.example"),
                IceServer::new("stun:b.example:3478")
            ]
        );
        let IceServers(full) = r#"[{"urls": "stun:a.example"},
            {"urls": ["turn:b.example", "turns:b.example"], "username": "me", "credential": "s3cret"}]"#
            .parse()
            .unwrap();
        assert_eq!(full[0], IceServer::new("stun:a.example"));
        assert_eq!(full[1].urls, ["turn:b.example", "turns:b.example"]);
        assert_eq!(full[1].credential.as_deref(), Some("s3cret"));
        let told = r#"[{"urls": 3, "credential": "s3cret"}]"#.parse::<IceServers>().unwrap_err();
        assert!(!told.contains("s3cret"), "{told}");
        assert!(!format!("{full:?}").contains("s3cret"));
    }

    #[test]
    fn a_publisher_is_sent_to_a_whole_url_only() {
        let to: RedirectTo = "https://b.example/v1/recordings/{id}/whip".parse().unwrap();
        assert_eq!(to.url("abc"), "https://b.example/v1/recordings/abc/whip");
        for text in ["", "/elsewhere", "b.example", "ftp://b.example/{id}"] {
            assert!(text.parse::<RedirectTo>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_host_header_with_anything_odd_is_refused() {
        for host in [
            "localhost:8080",
            "127.0.0.1",
            "[::1]:80",
            "loom.example",
            "my_box.local:1",
        ] {
            assert!(plain_authority(host).is_some(), "{host}");
        }
        for host in [
            "",
            "me@host",
            "a b",
            "a/b",
            "host:99999",
            "<script>",
            "[zz]:1",
            ":80",
            "a\"b",
        ] {
            assert!(plain_authority(host).is_none(), "{host}");
        }
    }

    #[test]
    fn a_loudness_is_a_number_below_zero() {
        let of =
            |text: &str| Config::try_parse_from(["loom-server", "--loudness", text]).map(|it| it.loudness);
        assert_eq!(of("-16").unwrap(), Some(-16.0));
        for text in ["16", "0", "-60", "NaN", "loud"] {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = Config::try_parse_from(["loom-server"]).unwrap();
        assert_eq!(config.max_upload, ByteCount(4 << 30));
        assert_eq!(config.captions, Switch::On);
    }
}
