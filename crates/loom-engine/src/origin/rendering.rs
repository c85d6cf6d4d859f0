//! What is made of a text once, however many ask for it: its entity tag and its gzip form.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, header};

/// One text and what was made of it.
#[derive(Debug)]
pub(crate) struct Rendering {
    pub(crate) plain: Bytes,
    tag: OnceLock<Tags>,
    gzip: OnceLock<Option<Bytes>>,
}

/// The entity tags of the text as it is and of its gzip form, which RFC 9110 §8.8.3.3 wants to differ.
#[derive(Debug)]
struct Tags {
    plain: HeaderValue,
    gzip: HeaderValue,
}

/// The texts that were asked for last. A text is known by where it lies in memory, which is its own while it is kept here.
#[derive(Debug, Default)]
pub(crate) struct Renderings {
    recent: Mutex<VecDeque<Arc<Rendering>>>,
    /// Those of files, by the file's name and entity tag.
    files: Mutex<VecDeque<(String, HeaderValue, Arc<Rendering>)>>,
}

impl Renderings {
    /// What was made of `plain`, or what will be.
    pub(crate) fn of(&self, plain: Bytes) -> Arc<Rendering> {
        let is_it = |known: &&Arc<Rendering>| {
            (known.plain.as_ptr(), known.plain.len()) == (plain.as_ptr(), plain.len())
        };
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = recent.iter().rev().find(is_it) {
            return known.clone();
        }
        if recent.len() >= KEPT {
            recent.pop_front();
        }
        let new = Arc::new(Rendering::new(plain));
        recent.push_back(new.clone());
        new
    }

    /// The text of a file that has not changed since.
    pub(crate) fn of_file(&self, key: &str, tag: &HeaderValue) -> Option<Arc<Rendering>> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let known = files
            .iter()
            .find(|(name, known, _)| name == key && known == tag)?;
        Some(known.2.clone())
    }

    pub(crate) fn keep_file(&self, key: String, tag: HeaderValue, text: Bytes) -> Arc<Rendering> {
        let new = Arc::new(Rendering::new(text));
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|(name, ..)| *name != key);
        if files.len() >= KEPT {
            files.pop_front();
        }
        files.push_back((key, tag, new.clone()));
        new
    }
}

impl Rendering {
    pub(crate) fn new(plain: Bytes) -> Self {
        Self {
            plain,
            tag: OnceLock::new(),
            gzip: OnceLock::new(),
        }
    }

    /// Its entity tag, of the form that is sent.
    pub(crate) fn tag(&self, is_gzip: bool) -> &HeaderValue {
        let tags = self.tag.get_or_init(|| {
            let mut hasher = DefaultHasher::new();
            hasher.write(&self.plain);
            let (hash, len) = (hasher.finish(), self.plain.len());
            let value = |text: String| {
                HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
            };
            Tags {
                plain: value(format!("\"{len:x}-{hash:x}\"")),
                gzip: value(format!("\"{len:x}-{hash:x}-gz\"")),
            }
        });
        if is_gzip { &tags.gzip } else { &tags.plain }
    }

    /// Its gzip form (RFC 1952); `None` where that is no shorter.
    pub(crate) fn gzip(&self) -> Option<&Bytes> {
        let made = self.gzip.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::with_capacity(self.plain.len() / 4), Compression::new(5));
            encoder.write_all(&self.plain).ok()?;
            let made = Bytes::from(encoder.finish().ok()?);
            (made.len() < self.plain.len()).then_some(made)
        });
        made.as_ref()
    }
}

/// Whether a body of this type shrinks: playlists, manifests and captions do, media does not.
pub(crate) fn is_text(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.starts_with("text/") || ["mpegurl", "xml", "json"].iter().any(|end| kind.ends_with(end))
}

/// Whether the client takes gzip (RFC 9110 §12.5.3).
pub(crate) fn takes_gzip(request: &HeaderMap) -> bool {
    let mut any = None;
    for value in request.get_all(header::ACCEPT_ENCODING) {
        for one in value.to_str().unwrap_or_default().split(',') {
            let mut fields = one.split(';').map(str::trim);
            let coding = fields.next().unwrap_or_default();
            let zero = fields.any(|field| {
                let weight = field.strip_prefix("q=").or_else(|| field.strip_prefix("Q="));
                weight.is_some_and(|q| {
                    q.trim_end_matches('0')
                        .trim_end_matches('.')
                        .trim_end_matches('0')
                        .is_empty()
                })
            });
            if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
                return !zero;
            }
            if coding == "*" {
                any = Some(!zero);
            }
        }
    }
    any.unwrap_or(false)
}

/// Texts whose forms are kept, a recording: the playlists of every rendition in every window that is in use.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_text_is_compressed_once_for_all_who_ask() {
        let renderings = Renderings::default();
        let text = Bytes::from("#EXTINF:2.0,\ns0.m4s\n".repeat(50));
        let first = renderings.of(text.clone());
        let second = renderings.of(text.clone());
        let (one, two) = (first.gzip().unwrap(), second.gzip().unwrap());
        assert_eq!(one.as_ptr(), two.as_ptr());
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&one[..])
            .read_to_end(&mut back)
            .unwrap();
        assert_eq!(back, text);
        assert_ne!(first.tag(true), first.tag(false));
        // the same text elsewhere in memory has the same tag
        assert_eq!(
            Rendering::new(Bytes::copy_from_slice(&text)).tag(false),
            first.tag(false)
        );
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        for (accepted, expected) in [
            ("gzip", true),
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("*;q=0, gzip", true),
            ("br", false),
            ("identity", false),
            ("", false),
        ] {
            let mut request = HeaderMap::new();
            request.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            assert_eq!(takes_gzip(&request), expected, "{accepted:?}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
