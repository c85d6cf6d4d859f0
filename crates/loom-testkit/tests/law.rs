//! The dependency law of the workspace: `core ← {ingest, transcode, hls, ai} ← engine ← {ffi, examples}`.

use std::collections::BTreeMap;
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
        "loom-server" | "embed-file" | "embed-whip" => Some(&["loom-engine"]),
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
