//! Holds an HLS origin to RFC 8216bis: `validate URL [--seconds N] [--patience S] [--equal-boundaries] [--playlists-only] [--json]`.
//!
//! Exits with 1 where a MUST or a SHOULD is broken, with 2 where nothing could be read.

use std::process::ExitCode;
use std::time::Duration;

use loom_testkit::validator::{Boundaries, Finding, Options, Report, validate};

fn main() -> ExitCode {
    let mut options = Options::default();
    let (mut url, mut json) = (None, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut seconds = || {
            words
                .next()
                .and_then(|text| text.parse().ok())
                .map(Duration::from_secs_f64)
        };
        match word.as_str() {
            "--seconds" => options.time = seconds().unwrap_or(options.time),
            "--patience" => options.patience = seconds().unwrap_or(options.patience),
            "--equal-boundaries" => options.boundaries = Boundaries::Equal,
            "--playlists-only" => options.media = false,
            "--json" => json = true,
            _ => url = Some(word),
        }
    }
    let Some(url) = url else {
        eprintln!(
            "validate URL [--seconds N] [--patience S] [--equal-boundaries] [--playlists-only] [--json]"
        );
        return ExitCode::from(2);
    };
    match validate(&url, &options) {
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
        Ok(report) => {
            if json {
                println!("{}", as_json(&report));
            } else {
                println!("{report}");
            }
            ExitCode::from(u8::from(report.violations().next().is_some()))
        }
    }
}

fn as_json(report: &Report) -> serde_json::Value {
    let finding = |it: &Finding| {
        serde_json::json!({
            "level": it.level.to_string(), "clause": it.clause, "rule": it.rule, "at": it.at, "seen": it.seen, "count": it.count,
        })
    };
    serde_json::json!({
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "playlists": report.playlists,
        "reloads": report.reloads,
        "segments": report.segments,
        "parts": report.parts,
        "bytes": report.bytes,
    })
}
