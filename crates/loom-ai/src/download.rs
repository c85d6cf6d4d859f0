use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::AiError;
use crate::limits::{MAX_DOWNLOAD, MAX_INDEX_PAGE};
use crate::locate::LocateProgress;
use crate::model_config::ModelConfig;

/// An HTTP client that gives up soon on a host that does not answer, and trusts what this machine trusts.
pub(crate) fn agent(config: &ModelConfig) -> Agent {
    Agent::config_builder()
        .tls_config(tls())
        .timeout_resolve(Some(config.connect_timeout))
        .timeout_connect(Some(config.connect_timeout))
        .timeout_recv_response(Some(config.connect_timeout * 5))
        .timeout_global(Some(config.download_timeout))
        .user_agent(concat!("loom-ai/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// TLS that trusts what this machine trusts.
pub(crate) fn tls() -> TlsConfig {
    let roots = certificates().map_or(RootCerts::WebPki, |it| RootCerts::Specific(Arc::new(it)));
    TlsConfig::builder().root_certs(roots).build()
}

/// The bundle that the environment names, else the system's; `None` leaves the built-in roots.
fn certificates() -> Option<Vec<ureq::tls::Certificate<'static>>> {
    let named = ["SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"]
        .into_iter()
        .filter_map(std::env::var_os)
        .map(PathBuf::from);
    let system = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ];
    named.chain(system.map(PathBuf::from)).find_map(|path| {
        let pem = std::fs::read(path).ok()?;
        let found: Vec<_> = parse_pem(&pem)
            .filter_map(|it| match it {
                Ok(PemItem::Certificate(it)) => Some(it),
                _ => None,
            })
            .collect();
        (!found.is_empty()).then_some(found)
    })
}

/// A page of text of bounded size.
pub(crate) fn page(agent: &Agent, url: &str) -> Result<String, AiError> {
    let failed = |e: ureq::Error| failure(url, &e.to_string());
    let mut answer = agent
        .get(url)
        .header("accept", "text/html")
        .call()
        .map_err(failed)?;
    answer
        .body_mut()
        .with_config()
        .limit(MAX_INDEX_PAGE)
        .read_to_string()
        .map_err(failed)
}

pub(crate) fn failure(url: &str, reason: &str) -> AiError {
    AiError::Download {
        url: without_password(url),
        reason: reason.to_owned(),
    }
}

/// Addresses of private indexes may carry a name and a password, which have no place in a log.
fn without_password(url: &str) -> String {
    match url
        .split_once("://")
        .map(|(scheme, rest)| (scheme, rest, rest.find('/').unwrap_or(rest.len())))
    {
        Some((scheme, rest, end)) => match rest[..end].rfind('@') {
            Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}

/// Downloads `url` to `to`, which appears only once all of it has come and has the digest `sha256` (hex).
pub(crate) fn file(
    agent: &Agent,
    url: &str,
    to: &Path,
    sha256: &str,
    progress: &mut dyn FnMut(LocateProgress),
) -> Result<(), AiError> {
    let answer = agent.get(url).call().map_err(|e| failure(url, &e.to_string()))?;
    let total = answer.body().content_length();
    if total.is_some_and(|it| it > MAX_DOWNLOAD) {
        return Err(failure(url, "it is larger than any model"));
    }
    let name = to
        .file_name()
        .and_then(|it| it.to_str())
        .unwrap_or("model")
        .to_owned();
    let mut body = answer.into_body().into_with_config().limit(MAX_DOWNLOAD).reader();
    let part = Partial::new(to)?;
    let mut done = 0u64;
    let digest = copy(&mut body, &part, |bytes| {
        done += bytes as u64;
        progress(LocateProgress::Downloading {
            name: name.clone(),
            done,
            total,
        });
    })
    .map_err(|e| failure(url, &e.to_string()))?;
    part.settle(&digest, sha256)
}

/// Copies `from` to a file beside `to` and gives it its name once its digest is right.
pub(crate) fn checked_copy(from: &mut impl Read, to: &Path, sha256: &str) -> Result<(), AiError> {
    let part = Partial::new(to)?;
    let digest = copy(from, &part, |_| ()).map_err(|e| AiError::io(to, e))?;
    part.settle(&digest, sha256)
}

/// The digest of a file, hex.
pub(crate) fn digest_of(path: &Path) -> Result<String, AiError> {
    let mut file = File::open(path).map_err(|e| AiError::io(path, e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(|e| AiError::io(path, e))? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn copy(from: &mut impl Read, part: &Partial, mut each: impl FnMut(usize)) -> std::io::Result<String> {
    let mut file = &part.file;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut left = MAX_DOWNLOAD;
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            file.sync_all()?;
            return Ok(hex(&hash.finalize()));
        }
        left = left
            .checked_sub(n as u64)
            .ok_or_else(|| std::io::Error::other("it is larger than any model"))?;
        hash.update(&buffer[..n]);
        file.write_all(&buffer[..n])?;
        each(n);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A file under a name of its own, which goes away unless it is settled.
struct Partial {
    at: PathBuf,
    to: PathBuf,
    file: File,
}

impl Partial {
    fn new(to: &Path) -> Result<Self, AiError> {
        let folder = to.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|e| AiError::io(folder, e))?;
        let name = to.file_name().and_then(|it| it.to_str()).unwrap_or("model");
        let at = folder.join(format!(".{name}.{}.part", std::process::id()));
        let file = File::create(&at).map_err(|e| AiError::io(&at, e))?;
        Ok(Self {
            at,
            to: to.to_owned(),
            file,
        })
    }

    fn settle(self, found: &str, expected: &str) -> Result<(), AiError> {
        if found != expected {
            return Err(AiError::Checksum {
                what: self.to.display().to_string(),
                expected: expected.to_owned(),
                found: found.to_owned(),
            });
        }
        std::fs::rename(&self.at, &self.to).map_err(|e| AiError::io(&self.to, e))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = std::fs::remove_file(&self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_left_out_of_messages() {
        assert_eq!(
            without_password("https://me:secret@host/simple/x"),
            "https://host/simple/x"
        );
        assert_eq!(without_password("https://host/a@b"), "https://host/a@b");
    }

    #[test]
    fn a_file_with_another_digest_never_gets_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("model.pt");
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let error = checked_copy(&mut &b"abd"[..], &to, abc).unwrap_err();
        assert!(matches!(error, AiError::Checksum { .. }), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        checked_copy(&mut &b"abc"[..], &to, abc).unwrap();
        assert_eq!(digest_of(&to).unwrap(), abc);
    }
}
