use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError};

use crate::AiError;
use crate::download::{agent, digest_of, failure};
use crate::locate::LocateProgress;
use crate::model_config::ModelConfig;

/// Where the cache keeps the hub's files of the configured model.
pub(crate) fn folder(config: &ModelConfig) -> PathBuf {
    config.cache.join(config.repository.replace(['/', '\\'], "--"))
}

/// How many downloads this process has begun: each has a folder of its own, so that none throws away what another has.
static FETCHED: AtomicU64 = AtomicU64::new(0);
/// A download that brings nothing for this long has stalled.
const STALLED: Duration = Duration::from_secs(30);

/// Fetches the configured repository's weights, and for a multilingual model its `tokenizer.json`.
///
/// The hub names the SHA-256 of what it keeps in LFS (the weights) in `x-linked-etag`, and the file is checked against that.
/// Of small files it names only git's SHA-1; those are checked by being read. An English-only model needs none of them.
pub(crate) fn fetch(
    config: &ModelConfig,
    progress: &mut dyn FnMut(LocateProgress),
) -> Result<PathBuf, AiError> {
    let english = config.repository.ends_with(".en");
    let mut wanted = vec![("model.safetensors", Need::Must)];
    if !english {
        wanted.push(("tokenizer.json", Need::Must));
    }
    wanted.push(("generation_config.json", Need::May));
    fetch_all(config, &wanted, progress)
}

/// Fetches the configured repository's sentence encoder.
pub(crate) fn fetch_encoder(
    config: &ModelConfig,
    progress: &mut dyn FnMut(LocateProgress),
) -> Result<PathBuf, AiError> {
    let wanted = ["model.safetensors", "config.json", "tokenizer.json"];
    fetch_all(config, &wanted.map(|it| (it, Need::Must)), progress)
}

/// Fetches one file of the configured repository that the hub keeps in LFS, checked in the same way.
pub(crate) fn fetch_file(
    config: &ModelConfig,
    name: &str,
    progress: &mut dyn FnMut(LocateProgress),
) -> Result<PathBuf, AiError> {
    fetch_all(config, &[(name, Need::Must)], progress)
}

/// Fetches files, the weights first, into [`folder`].
fn fetch_all(
    config: &ModelConfig,
    wanted: &[(&str, Need)],
    progress: &mut dyn FnMut(LocateProgress),
) -> Result<PathBuf, AiError> {
    let home = config.hub.trim_end_matches('/').to_owned();
    let first = wanted.first().map_or("", |it| it.0);
    let weights = format!("{home}/{}/resolve/main/{first}", config.repository);
    // The hub's own client waits for ever on a host that does not answer, so it is asked once by one that does not.
    let asked = agent(config)
        .head(&weights)
        .config()
        .max_redirects(0)
        .http_status_as_error(false)
        .build()
        .call();
    match asked {
        Ok(answer) if answer.status().is_client_error() || answer.status().is_server_error() => {
            return Err(failure(&weights, &format!("http status {}", answer.status())));
        }
        Ok(_) => {}
        Err(e) => return Err(failure(&weights, &e.to_string())),
    }
    let to = folder(config);
    let number = FETCHED.fetch_add(1, Ordering::Relaxed);
    let scratch = config.cache.join(format!(".hub-{}-{number}", std::process::id()));
    let result = fetch_into(config, &home, &scratch, &to, wanted, progress);
    // What is left of the hub's own cache layout is of no use.
    let _ = std::fs::remove_dir_all(&scratch);
    result.map(|()| to)
}

fn fetch_into(
    config: &ModelConfig,
    home: &str,
    scratch: &Path,
    to: &Path,
    wanted: &[(&str, Need)],
    progress: &mut dyn FnMut(LocateProgress),
) -> Result<(), AiError> {
    let mut got = Vec::new();
    for &(name, need) in wanted {
        match one(config, home, scratch, name, progress) {
            Ok(path) => got.push((name, path)),
            Err(e) if need == Need::Must => return Err(e),
            Err(e) => tracing::debug!(name, error = %e, "not on the hub"),
        }
    }
    std::fs::create_dir_all(to).map_err(|e| AiError::io(to, e))?;
    // The weights last: a folder counts as a model once it has them.
    for (name, path) in got.iter().rev() {
        let real = path.canonicalize().map_err(|e| AiError::io(path, e))?;
        std::fs::rename(&real, to.join(name)).map_err(|e| AiError::io(&real, e))?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Must,
    May,
}

enum Message {
    Bytes { done: u64, total: u64 },
    Done(Result<(PathBuf, String), String>),
}

/// One file, on a thread of its own so that a stalled connection can be given up. The thread ends with its connection.
fn one(
    config: &ModelConfig,
    home: &str,
    scratch: &Path,
    name: &str,
    progress: &mut dyn FnMut(LocateProgress),
) -> Result<PathBuf, AiError> {
    let url = format!("{home}/{}/resolve/main/{name}", config.repository);
    let (send, receive) = sync_channel(64);
    let (home, scratch, repository) = (home.to_owned(), scratch.to_owned(), config.repository.clone());
    let asked = name.to_owned();
    std::thread::Builder::new()
        .name("loom-ai-hub".to_owned())
        .spawn(move || {
            let result = ask_hub(home, scratch, repository, &asked, &send).map_err(|e| e.to_string());
            // Nobody listens any more once it took too long.
            let _ = send.send(Message::Done(result));
        })
        .map_err(|e| failure(&url, &e.to_string()))?;
    let deadline = Instant::now() + config.download_timeout;
    loop {
        let patience = STALLED.min(deadline.saturating_duration_since(Instant::now()));
        match receive.recv_timeout(patience) {
            Ok(Message::Bytes { done, total }) => progress(LocateProgress::Downloading {
                name: name.to_owned(),
                done,
                total: Some(total),
            }),
            Ok(Message::Done(Ok((path, etag)))) => return checked(path, &etag, &url),
            Ok(Message::Done(Err(e))) => return Err(failure(&url, &e)),
            Err(RecvTimeoutError::Timeout) => return Err(failure(&url, "it stalled")),
            Err(RecvTimeoutError::Disconnected) => return Err(failure(&url, "it broke off")),
        }
    }
}

fn ask_hub(
    home: String,
    scratch: PathBuf,
    repository: String,
    name: &str,
    send: &SyncSender<Message>,
) -> Result<(PathBuf, String), ApiError> {
    let api = ApiBuilder::new()
        .with_endpoint(home)
        .with_cache_dir(scratch)
        .with_progress(false)
        .build()?;
    let repo = api.model(repository);
    let etag = api.metadata(&repo.url(name))?.etag().to_owned();
    let tell = Teller {
        done: 0,
        total: 0,
        send,
    };
    Ok((repo.download_with_progress(name, tell)?, etag))
}

struct Teller<'a> {
    done: u64,
    total: u64,
    send: &'a SyncSender<Message>,
}

impl Progress for Teller<'_> {
    fn init(&mut self, size: usize, _: &str) {
        (self.done, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        let _ = self.send.send(Message::Bytes {
            done: self.done,
            total: self.total,
        });
    }

    fn finish(&mut self) {}
}

/// An etag of 64 hex digits is the file's SHA-256; of JSON files the hub has only git's digest.
fn checked(path: PathBuf, etag: &str, url: &str) -> Result<PathBuf, AiError> {
    let is_sha256 = etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_hexdigit());
    if is_sha256 {
        let found = digest_of(&path)?;
        if !found.eq_ignore_ascii_case(etag) {
            return Err(AiError::Checksum {
                what: url.to_owned(),
                expected: etag.to_owned(),
                found,
            });
        }
    } else if path.extension().is_none_or(|it| it != "json") {
        return Err(failure(url, "the host names no sha256 for it"));
    }
    Ok(path)
}
