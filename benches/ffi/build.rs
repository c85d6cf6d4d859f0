//! Compiles the C side.

fn main() {
    println!("cargo:rerun-if-changed=src/push.c");
    println!("cargo:rerun-if-changed=../../bindings/c/include/loom.h");
    cc::Build::new()
        .file("src/push.c")
        .include("../../bindings/c/include")
        .opt_level(2)
        .compile("push");
}
