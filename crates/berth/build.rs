//! Has the linker put what a start executes in one place of the program: see `start.ld`, and `scripts/start-order`.
use std::env::var;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=start.ld");
    let is = |name: &str, value: &str| var(name).is_ok_and(|v| v == value);
    // Rust's own linker for this target (since 1.90) takes additions to its layout; which other one somebody has set is not known.
    let flags = var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let own = var("RUSTC_LINKER").is_err() && !flags.contains("link");
    let known = is("TARGET", "x86_64-unknown-linux-gnu") && own;
    if known && is("PROFILE", "release") {
        let dir = var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-Wl,--script={dir}/start.ld");
    }
}
