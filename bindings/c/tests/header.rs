//! The committed header is what the source says: a signature that changes without it fails here.

use std::fs;
use std::path::{Path, PathBuf};

/// The files that have something for the header, in the order in which it is told.
const FILES: [&str; 12] = [
    "result",
    "bytes",
    "log",
    "config",
    "engine",
    "recording",
    "transcript",
    "composition",
    "whip",
    "hls",
    "events",
    "pusher",
];

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The header of the source in `src`. Another version of cbindgen may write the same in other words: `Cargo.toml` pins it.
fn written(src: &Path) -> String {
    // as one file, in the order in which the header tells it
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("loom.rs");
    let source: Vec<String> = FILES
        .iter()
        .map(|file| source(&src.join(file).with_extension("rs")))
        .collect();
    fs::write(&whole, source.concat()).expect("it can be written");
    let config =
        cbindgen::Config::from_file(crate_dir().join("cbindgen.toml")).expect("the configuration is read");
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(&whole)
        .generate()
        .expect("the source is read");
    let mut header = Vec::new();
    bindings.write(&mut header);
    let header = String::from_utf8(header).expect("it is text");
    // what only binds Rust callers is no news in C, where every pointer is trusted
    let mut kept = String::new();
    let mut skipping = false;
    for line in header.lines() {
        let end = line.trim() == "*/";
        skipping = (skipping || line.trim() == "* # Safety") && !end;
        if !skipping {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept.replace(" *\n */", " */")
}

/// A file without its first words, which only stand at the beginning of one.
fn source(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("it can be read");
    let lines = text.lines().filter(|line| !line.starts_with("//!"));
    lines.map(|line| line.to_owned() + "\n").collect()
}

#[test]
fn the_header_is_what_the_source_says() {
    let path = crate_dir().join("include/loom.h");
    let now = written(&crate_dir().join("src"));
    if std::env::var_os("LOOM_WRITE_HEADER").is_some() {
        fs::write(&path, &now).expect("the header can be written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        now == committed,
        "include/loom.h is not what the source says: run `make header`, and look at what changed"
    );
}

#[test]
fn a_changed_signature_changes_the_header() {
    let folder = tempfile::tempdir().expect("a folder");
    for file in FILES {
        let name = Path::new(file).with_extension("rs");
        let source = fs::read_to_string(crate_dir().join("src").join(&name)).expect("it can be read");
        let source = source.replace("timeout_ms: u32,\n    state", "timeout_ms: u64,\n    state");
        fs::write(folder.path().join(name), source).expect("it can be written");
    }
    let changed = written(folder.path());
    assert!(changed.contains("uint64_t timeout_ms"), "{changed}");
    assert_ne!(changed, written(&crate_dir().join("src")));
}

/// Every file of the source and its name, whether the header has something of it or not.
fn all_sources() -> Vec<(String, String)> {
    let files = fs::read_dir(crate_dir().join("src")).expect("there is a folder");
    files
        .map(|file| file.expect("it can be listed").path())
        .map(|path| {
            let name = path.file_stem().expect("it has a name").to_string_lossy();
            (name.into_owned(), source(&path))
        })
        .collect()
}

#[test]
fn every_call_is_in_the_header() {
    let header = fs::read_to_string(crate_dir().join("include/loom.h")).expect("it can be read");
    let mut calls = 0;
    for (_, source) in all_sources() {
        for (at, before) in source.match_indices("extern \"C\" fn loom_") {
            let name = source[at + before.len() - "loom_".len()..]
                .split('(')
                .next()
                .unwrap_or_default();
            assert!(
                header.contains(&format!("{name}(")),
                "{name} is not in the header"
            );
            calls += 1;
        }
    }
    assert!(calls > 40, "{calls}");
}

#[test]
fn every_file_that_has_something_for_the_header_is_told() {
    for (name, source) in all_sources() {
        let has = [
            "extern \"C\" fn loom_",
            "pub const LOOM_",
            "pub type loom_",
            "#[repr(C)]",
        ]
        .iter()
        .any(|it| source.contains(it));
        assert_eq!(
            has,
            FILES.contains(&name.as_str()),
            "{name}: FILES names those that have"
        );
    }
}
