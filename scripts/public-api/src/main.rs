//! The public interface of crates as text: `public-api-text JSON_FOLDER TEXT_FOLDER [write] CRATE…`. Reads what rustdoc wrote of each crate as
//! JSON, and says what differs from the text; with `write` the text is written anew.
//!
//! An item a line, in order. What every type has (blanket and auto traits) and what is derived is left out. The crate's own name is left out
//! of paths.
//!
//! Ends with 1 where something differs, with 2 where the JSON cannot be read.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let writes = arguments.get(2).is_some_and(|it| it == "write");
    if writes {
        arguments.remove(2);
    }
    let [json, text, crates @ ..] = arguments.as_slice() else {
        eprintln!("api: say JSON_FOLDER TEXT_FOLDER [write] CRATE…");
        return ExitCode::from(2);
    };
    let mut differs = false;
    for name in crates {
        let said = match interface(
            &Path::new(json).join(format!("{}.json", name.replace('-', "_"))),
            name,
        ) {
            Ok(said) => said,
            Err(why) => {
                eprintln!("api: {name}: {why}");
                return ExitCode::from(2);
            }
        };
        let path = Path::new(text).join(format!("{name}.txt"));
        if writes {
            fs::write(&path, said).expect("docs/api can be written");
            continue;
        }
        let known = fs::read_to_string(&path).unwrap_or_default();
        let (before, now): (BTreeSet<&str>, BTreeSet<&str>) =
            (known.lines().collect(), said.lines().collect());
        for gone in before.difference(&now) {
            println!("- {name}: {gone}");
        }
        for new in now.difference(&before) {
            println!("+ {name}: {new}");
        }
        differs |= known != said;
    }
    ExitCode::from(u8::from(differs))
}

/// A crate's public items, a line each.
fn interface(json: &Path, name: &str) -> Result<String, String> {
    let builder = public_api::Builder::from_rustdoc_json(json)
        .sorted(true)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true);
    let read = builder.build().map_err(|why| why.to_string())?;
    let own = format!("{}::", name.replace('-', "_"));
    let mut lines: Vec<String> = read
        .items()
        .map(|item| item.to_string().replace(&own, ""))
        .collect();
    lines.dedup();
    Ok(lines.into_iter().map(|it| it + "\n").collect())
}
