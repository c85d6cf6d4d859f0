//! The dependency law of the workspace: `core ← {ingest, transcode, hls, ai} ← engine ← {ffi, examples}`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What each crate may depend on, outside its tests.
fn allowed(name: &str) -> Option<&'static [&'static str]> {
    match name {
        "loom-core" => Some(&[]),
        "loom-ingest" | "loom-transcode" | "loom-hls" | "loom-ai" | "loom-testkit" => Some(&["loom-core"]),
        "loom-engine" => Some(&[
            "loom-core",
            "loom-ingest",
            "loom-transcode",
            "loom-hls",
            "loom-ai",
        ]),
        "loom-server" | "embed-file" | "embed-axum" | "embed-hyper" | "embed-draw" | "embed-pipe"
        | "embed-custom" | "loom-ffi" => Some(&["loom-engine"]),
        "transcribe" | "embed-captions" => Some(&["loom-core", "loom-ai"]),
        _ => None,
    }
}

fn normal_dependencies() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
            let normal = dependencies
                .filter(|d| d["kind"].is_null())
                .map(|d| text(&d["name"]))
                .collect();
            (text(&package["name"]), normal)
        })
        .collect()
}

#[test]
fn each_crate_depends_only_on_those_below_it() {
    let all = normal_dependencies();
    assert!(all.contains_key("loom-core"), "{all:?}");
    for (name, dependencies) in &all {
        let allowed = allowed(name).unwrap_or_else(|| panic!("{name} has no place in the law; give it one"));
        for dependency in dependencies.iter().filter(|d| all.contains_key(*d)) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn the_vocabulary_and_the_packager_do_no_io() {
    let all = normal_dependencies();
    for name in ["loom-core", "loom-hls"] {
        for forbidden in ["tokio", "gstreamer", "webrtc", "axum", "candle-core"] {
            assert!(
                !all[name].iter().any(|d| d == forbidden),
                "{name} must not depend on {forbidden}"
            );
        }
    }
}

/// The crates that loom-engine is built of with these features alone, for this machine.
fn built_of(features: &str) -> Vec<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--locked",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args([
            "--package",
            "loom-engine",
            "--no-default-features",
            "--features",
            features,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo tree runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let mut names: Vec<String> = text
        .lines()
        .filter_map(|it| it.split(' ').next())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn a_recorder_alone_has_no_library_of_c() {
    let recorder = built_of("ingest,hls");
    assert!(
        recorder.len() > 50 && recorder.contains(&"ring".to_owned()),
        "{recorder:?}"
    );
    let foreign = |name: &&String| {
        // what binds to a library, or looks for one, is named so; linux-raw-sys is numbers and no library
        (name.ends_with("-sys") && *name != "linux-raw-sys")
            || ["pkg-config", "system-deps", "cmake", "bindgen", "vcpkg"].contains(&name.as_str())
            || ["gstreamer", "glib", "candle", "aws-lc", "openssl"]
                .iter()
                .any(|it| name.starts_with(it))
    };
    let found: Vec<_> = recorder.iter().filter(foreign).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn each_feature_of_the_engine_adds_what_is_its_own() {
    let has = |features: &str, name: &str| built_of(features).iter().any(|it| it == name);
    for (feature, own) in [
        ("ingest", "rtc"),
        ("transcode", "gstreamer"),
        ("captions", "candle-core"),
        ("cuda", "cudarc"),
        ("metal", "candle-metal-kernels"),
        ("hls", "http-body"),
        ("s3", "hyper-rustls"),
    ] {
        assert!(has(feature, own), "{feature} has no {own}");
        if feature != "hls" {
            assert!(!has("hls", own), "{own} is there without {feature}");
        }
    }
}

#[test]
fn no_dependency_asks_for_a_newer_rust_than_is_promised() {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let about = String::from_utf8_lossy(&rustc.stdout).into_owned();
    let host = about
        .lines()
        .find_map(|it| it.strip_prefix("host: "))
        .expect("a host");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--locked",
            "--format-version=1",
            "--filter-platform",
            host,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let number = |text: &str| -> Vec<u32> { text.split('.').map(|it| it.parse().unwrap_or(0)).collect() };
    let packages = metadata["packages"].as_array().expect("packages");
    let own = |name: &str| packages.iter().find(|it| it["name"] == name);
    let promised = own("loom-engine")
        .and_then(|it| it["rust_version"].as_str())
        .expect("a version");
    let newer: Vec<_> = packages
        .iter()
        .filter_map(|it| Some((it["name"].as_str()?, it["rust_version"].as_str()?)))
        .filter(|(_, asked)| number(asked) > [number(promised), vec![0]].concat())
        .collect();
    assert!(
        packages.len() > 300 && newer.is_empty(),
        "newer than {promised}: {newer:?}"
    );
}

#[test]
fn each_crate_that_is_published_says_what_a_registry_shows() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages").iter();
    let published: Vec<&Value> = packages.filter(|it| it["publish"].is_null()).collect();
    let names: Vec<_> = published.iter().filter_map(|it| it["name"].as_str()).collect();
    assert!(names.len() >= 7 && names.contains(&"loom-engine"), "{names:?}");
    for it in &published {
        for field in ["description", "license", "repository", "readme", "rust_version"] {
            assert!(it[field].is_string(), "{} has no {field}", it["name"]);
        }
        for field in ["keywords", "categories"] {
            let entries = it[field].as_array().map_or(0, Vec::len);
            assert!((1..=5).contains(&entries), "{} has {entries} {field}", it["name"]);
        }
    }
    // and `make package` packs them all
    let makefile = include_str!("../../../Makefile");
    let packed = makefile
        .lines()
        .find_map(|it| it.strip_prefix("PUBLISHED := "))
        .expect("a list");
    let mut packed: Vec<_> = packed.split(' ').collect();
    let mut names = names;
    packed.sort_unstable();
    names.sort_unstable();
    assert_eq!(packed, names);
}

/// The source files of the crates that a host uses from Rust.
fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|it| it == "rs") {
                found.push(path);
            }
        }
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for name in ["core", "ingest", "transcode", "hls", "ai", "engine"] {
        walk(&crates.join(format!("loom-{name}/src")), &mut found);
    }
    found
}

/// The documentation of every item whose line begins so, by what follows that.
fn documented(begins: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).expect("a source");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = line.strip_prefix(begins) else {
                continue;
            };
            let name = name.split(|c: char| !c.is_alphanumeric() && c != '_').next();
            let above = lines[..at].iter().rev();
            // up over attributes, which may have several lines
            let docs = above
                .skip_while(|it| !it.starts_with("///") && !it.is_empty() && !it.ends_with([';', '}', '{']))
                .take_while(|it| it.starts_with("///"));
            let docs: Vec<&str> = docs.copied().collect();
            found.push((name.unwrap_or_default().to_owned(), docs.join("\n")));
        }
    }
    found
}

#[test]
fn every_async_call_says_what_becomes_of_it_where_it_is_dropped() {
    let calls = documented("pub async fn ");
    let silent: Vec<_> = calls
        .iter()
        .filter(|(_, docs)| !docs.contains("Cancellation"))
        .collect();
    assert!(calls.len() > 25 && silent.is_empty(), "{silent:#?}");
}

#[test]
fn every_main_type_shows_how_it_is_used() {
    let mut all: Vec<(String, String)> = Vec::new();
    for begins in ["pub struct ", "pub enum ", "pub trait "] {
        all.extend(documented(begins));
    }
    for name in MAIN_TYPES.split_whitespace() {
        let of_name: Vec<_> = all.iter().filter(|(found, _)| found == name).collect();
        assert!(!of_name.is_empty(), "there is no {name}");
        let shown = of_name.iter().any(|(_, docs)| docs.contains("/// ```"));
        assert!(shown, "{name} has no example");
    }
}

/// What a host meets first of each crate.
const MAIN_TYPES: &str = "
    MediaTime WallClock Packet Media RenditionId Cue PcmFrame CodecParameters RtpTimestampUnwrapper
    Ingest IngestConfig Session
    Plan Wanted Capabilities GstBackend KeptBackend DummyBackend PictureEncoder SoundEncoder
    Packager PackagerConfig Origin Chapters DateRange TimedMetadata Steering Window Sprites Encryption Layout
    Model ModelConfig Captioner Transcriber Transcript WordList TextModel HttpTextModel Gist
    Engine EngineConfig Recording RecordingId HlsAnswer HlsService Events Pusher PushTrack Download Piece
    EncryptionConfig KeyProvider Store StoreConfig
";
