//! Lists the files of `web/` so that the page is part of the program: `make serve` needs no folder beside it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("web");
    println!("cargo::rerun-if-changed=web");
    let mut names = Vec::new();
    list(&root, "", &mut names)?;
    names.sort();
    let mut table = String::from("&[\n");
    for name in names {
        let _ = writeln!(
            table,
            "    ({name:?}, include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/web/\", {name:?}))),"
        );
    }
    table.push_str("]\n");
    fs::write(
        PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("web.rs"),
        table,
    )
}

/// Appends the path, relative to the root, of every file a browser may ask for.
fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{prefix}{name}/"), names)?;
        } else if SERVED.iter().any(|suffix| name.ends_with(suffix)) {
            names.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

const SERVED: &[&str] = &[
    ".html",
    ".css",
    ".js",
    ".svg",
    ".png",
    ".ico",
    ".woff2",
    ".json",
    ".webmanifest",
    "LICENSE",
];
