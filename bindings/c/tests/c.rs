//! C programs against the library as it is installed: `bindings/c/check` builds and runs them.

use std::path::PathBuf;
use std::process::Command;

/// The folder of the library that was built beside this test.
fn built() -> PathBuf {
    let own = std::env::current_exe().expect("this test has a path");
    own.parent().expect("it lies in a folder").to_owned()
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn c_programs_live_a_whole_life_make_every_error_and_leave_nothing() {
    if !has("cc") || !has("pkg-config") {
        eprintln!("SKIPPED: no C compiler, or no pkg-config");
        return;
    }
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("check");
    let output = Command::new(script)
        .arg("plain")
        .arg(built())
        .output()
        .expect("the script runs");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for program in ["life", "errors", "cycles", "kept", "readers", "threads"] {
        assert!(said.contains(&format!("{program}: ok")), "{said}");
    }
}
