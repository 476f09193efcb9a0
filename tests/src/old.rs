//! Programs with the instructions of old C libraries, made here from `programs/`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The dynamic loader of this machine, which the dynamic program uses.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// Where the sources are.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name)
}

/// Compiles one of the sources without a C library.
pub fn compile(name: &str, flags: &[&str], out: &Path) {
    let common = [
        "-O1",
        "-nostdlib",
        "-fno-stack-protector",
        "-fcf-protection=none",
        "-fno-builtin",
        "-o",
    ];
    let done = Command::new("gcc")
        .args(common)
        .arg(out)
        .arg(source(name))
        .args(flags)
        .output();
    let done = done.expect("gcc is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The programs by their paths in an image: one static, one that has the old code in a library.
pub fn programs(work: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let path = |name: &str| work.join(name);
    let directory = format!("-L{}", work.display());
    compile("old.c", &["-static", "-no-pie"], &path("static"));
    compile(
        "old.c",
        &["-shared", "-fPIC", "-DLIBRARY", "-Wl,-soname,libold.so"],
        &path("libold.so"),
    );
    let shared = ["-no-pie", "-DCALLER", &directory, "-lold", "-Wl,--no-as-needed"];
    compile("old.c", &shared, &path("shared"));
    let read = |path: &Path| std::fs::read(path).expect("a program that was just made");
    vec![
        ("bin/old-static", read(&path("static"))),
        ("bin/old-shared", read(&path("shared"))),
        ("lib/libold.so", read(&path("libold.so"))),
        ("lib64/ld-linux-x86-64.so.2", read(Path::new(LOADER))),
    ]
}
