//! Names the shared library by the version of its ABI, so that a program loads the one it was linked with.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // the number of `LOOM_ABI_VERSION`
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libloom.so.0");
    }
}
