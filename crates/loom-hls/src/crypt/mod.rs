//! Encryption: whole segments (`AES-128`, RFC 8216bis §4.4.4.4), and samples by Common Encryption (ISO/IEC 23001-7: `cbcs`,
//! `cenc`).
//!
//! Key material is handed in by value and never leaves but as ciphertext: not into playlists, nor into what `Debug` prints. It is
//! overwritten when it is let go.

mod av1;
mod boxes;
mod hevc;
mod sample;
mod track;
mod vp9;
mod whole;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::HlsError;
use crate::limits;

pub(crate) use boxes::child;
pub(crate) use sample::{SampleSeal, Sealed};
pub(crate) use track::TrackCrypt;

/// What is encrypted, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncryptionScheme {
    /// Whole segments and parts, `METHOD=AES-128`: AES-CBC with PKCS #7 padding. For HLS; there is no DASH manifest then.
    Segments,
    /// Samples, `METHOD=SAMPLE-AES`: `cbcs`, pattern 1:9 of pictures, whole blocks of sound, a constant initialization vector.
    Cbcs,
    /// Samples, `METHOD=SAMPLE-AES-CTR`: `cenc`, AES-CTR. For DASH players that know no `cbcs`.
    Cenc,
}

/// How a recording is encrypted: everything but text.
///
/// ```
/// use loom_hls::{ContentKey, Encryption, EncryptionScheme, HlsOutput, KeyBytes, Packager, PackagerConfig};
///
/// let mut packager = Packager::new(PackagerConfig {
///     encryption: Some(Encryption { scheme: EncryptionScheme::Cbcs, rotation: None }),
///     ..PackagerConfig::default()
/// })?;
/// let Some(HlsOutput::NeedKey { period }) = packager.poll_output() else {
///     panic!("the first key is asked for before all else");
/// };
/// # let secret = [7; 16];
/// packager.handle_key(ContentKey {
///     period,
///     id: [1; 16],
///     key: KeyBytes::new(secret),
///     iv: [2; 16],
///     uri: "key-0.bin".into(),
///     formats: Vec::new(),
///     pssh: Vec::new(),
/// })?;
/// # Ok::<(), loom_hls::HlsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encryption {
    /// The scheme.
    pub scheme: EncryptionScheme,
    /// How many segments a key serves: then the next is asked for. `None`: one key serves the whole recording.
    pub rotation: Option<NonZeroU32>,
}

/// A key and what players need to find it.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentKey {
    /// Which of the recording's keys it is, from 0: that of the segments `period × rotation` up to the next.
    pub period: u32,
    /// `KID` (ISO/IEC 23001-7 §8.2).
    pub id: [u8; 16],
    /// The key.
    pub key: KeyBytes,
    /// The initialization vector of `cbcs`; that of `AES-128` is made of it and the media sequence number. `cenc` has its own.
    pub iv: [u8; 16],
    /// Where players that know the `identity` format get the key's 16 bytes: a URI, or a path relative to the recording's base.
    pub uri: String,
    /// Other ways to the same key, a line `EXT-X-KEY` each.
    pub formats: Vec<KeyFormat>,
    /// `pssh` boxes, whole, for the init segment and the MPD (ISO/IEC 23001-7 §8.1).
    pub pssh: Vec<Bytes>,
}

/// A way to a key other than by its URI, such as a DRM system (RFC 8216bis §4.4.4.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFormat {
    /// `KEYFORMAT`.
    pub format: String,
    /// `KEYFORMATVERSIONS`.
    pub versions: String,
    /// `URI`.
    pub uri: String,
}

/// Sixteen bytes that are not printed, and are overwritten when they are let go.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct KeyBytes([u8; 16]);

impl KeyBytes {
    /// Takes the bytes over.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, for whoever hands them to an authorised player.
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes(…)")
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentKey")
            .field("period", &self.period)
            .field("id", &hex(&self.id))
            .finish_non_exhaustive()
    }
}

impl ContentKey {
    /// Whether everything in it can stand in a playlist.
    pub(crate) fn check(&self) -> Result<(), HlsError> {
        let texts = std::iter::once(&self.uri)
            .chain(self.formats.iter().flat_map(|f| [&f.format, &f.versions, &f.uri]));
        let broken = |text: &String| {
            text.is_empty()
                || text.len() > limits::KEY_TEXT_BYTES
                || text.contains(|c: char| c.is_control() || c == '"')
        };
        let pssh: usize = self.pssh.iter().map(Bytes::len).sum();
        let fault = if texts.clone().any(broken) {
            Some("a URI or format of it is empty, too long, or holds quotes or control characters")
        } else if self.formats.len() > limits::KEY_FORMATS || pssh > limits::PSSH_BYTES {
            Some("it has too many formats, or too long pssh boxes")
        } else if !self.pssh.iter().all(|b| is_pssh(b)) {
            Some("what it has for pssh is no whole box")
        } else {
            None
        };
        match fault {
            Some(why) => Err(HlsError::Config {
                what: format!("key {}: {why}", self.period),
                clause: "RFC 8216bis §4.4.4.4",
            }),
            None => Ok(()),
        }
    }
}

/// What playlists say of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyLine {
    /// `EXT-X-KEY` tags, a line each.
    pub(crate) text: String,
    /// Whether the key is for whole segments, so that an `EXT-X-MAP` behind the tag would be encrypted too.
    pub(crate) whole: bool,
}

impl KeyLine {
    /// With the vector of `segment`, in a media playlist.
    fn new(scheme: EncryptionScheme, key: &ContentKey, iv: Option<[u8; 16]>) -> Arc<Self> {
        Arc::new(Self {
            text: lines("#EXT-X-KEY", scheme, key, iv, "../"),
            whole: scheme == EncryptionScheme::Segments,
        })
    }
}

/// `EXT-X-SESSION-KEY` (RFC 8216bis §4.4.6.5) for the multivariant playlist.
pub(crate) fn session_lines(scheme: EncryptionScheme, key: &ContentKey) -> String {
    lines("#EXT-X-SESSION-KEY", scheme, key, None, "")
}

fn lines(tag: &str, scheme: EncryptionScheme, key: &ContentKey, iv: Option<[u8; 16]>, up: &str) -> String {
    let method = match scheme {
        EncryptionScheme::Segments => "AES-128",
        EncryptionScheme::Cbcs => "SAMPLE-AES",
        EncryptionScheme::Cenc => "SAMPLE-AES-CTR",
    };
    let up = if is_relative(&key.uri) { up } else { "" };
    let mut out = format!("{tag}:METHOD={method},URI=\"{up}{}\"", key.uri);
    if let Some(iv) = iv {
        out.push_str(&format!(",IV=0x{}", hex(&iv)));
    }
    let id = (scheme != EncryptionScheme::Segments).then(|| hex(&key.id));
    if let Some(id) = &id {
        out.push_str(&format!(",KEYID=0x{id},KEYFORMAT=\"identity\""));
    }
    out.push('\n');
    for format in &key.formats {
        out.push_str(&format!(
            "{tag}:METHOD={method},URI=\"{}\",KEYFORMAT=\"{}\",KEYFORMATVERSIONS=\"{}\"",
            format.uri, format.format, format.versions
        ));
        if let Some(id) = &id {
            out.push_str(&format!(",KEYID=0x{id}"));
        }
        out.push('\n');
    }
    out
}

/// Whether a URI reference has neither a scheme nor an absolute path (RFC 3986 §4.2).
fn is_relative(uri: &str) -> bool {
    let scheme = uri
        .split_once(':')
        .is_some_and(|(before, _)| !before.contains('/'));
    !uri.starts_with('/') && !scheme
}

fn is_pssh(whole: &[u8]) -> bool {
    let size = whole.first_chunk::<4>().map(|s| u32::from_be_bytes(*s) as usize);
    whole.len() >= 32 && size == Some(whole.len()) && &whole[4..8] == b"pssh"
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
