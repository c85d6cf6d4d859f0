//! The guide's configuration reference is what the command line says of itself.

use std::fmt::Write;
use std::path::Path;

use clap::{Arg, CommandFactory};

use crate::config::Config;

#[test]
fn the_configuration_reference_cannot_drift_from_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/configuration.md");
    let reference = reference();
    if std::env::var_os("LOOM_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, &reference).expect("the reference is written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == reference,
        "docs/src/configuration.md is not what config.rs says: make reference writes it anew"
    );
}

fn reference() -> String {
    let mut out = BEFORE.to_owned();
    for argument in Config::command().get_arguments() {
        // help and version are of no concern to a service
        if let (Some(variable), Some(option)) = (argument.get_env(), argument.get_long()) {
            let (variable, initial) = (variable.to_string_lossy(), initial(argument));
            let _ = writeln!(
                out,
                "| `{variable}`<br>`--{option}` | {initial} | {} |",
                about(argument)
            );
        }
    }
    out + BEHIND
}

fn initial(argument: &Arg) -> String {
    let values: Vec<_> = argument
        .get_default_values()
        .iter()
        .map(|it| format!("`{}`", it.to_string_lossy()))
        .collect();
    values.join(", ")
}

/// What it says of itself, with the words that it takes.
fn about(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let mut about = help
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
        .replace('<', "&lt;");
    let words: Vec<_> = argument
        .get_possible_values()
        .iter()
        .map(|it| format!("`{}`", it.get_name()))
        .collect();
    if !about.ends_with('.') {
        about.push('.');
    }
    if !words.is_empty() {
        let _ = write!(about, " One of {}.", words.join(", "));
    }
    about
}

const BEFORE: &str = "<!-- Written by `make reference` from examples/server/src/config.rs. -->

# Configuration

What `loom-server` is told, by its environment or by its command line; the command line wins. A host that embeds the engine sets the same
in `EngineConfig`.

| variable, option | default | what it does |
|---|---|---|
";

const BEHIND: &str = "
The speech model is looked for with these too, by any program that embeds `loom-ai`:

| variable | what it does |
|---|---|
| `LOOM_MODEL_CACHE` | The folder that downloaded models are kept in. Otherwise `~/.cache/loom/models`. |
| `LOOM_MODEL_DOWNLOAD` | `never`: the network is not asked for a model. |
| `HF_ENDPOINT` | The address of the Hugging Face hub. |
";
