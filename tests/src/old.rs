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

/// A static program of 32-bit x86.
pub fn small32(work: &Path) -> Vec<u8> {
    narrow("small32", work)
}

/// One that says what some calls are answered with.
pub fn errno32(work: &Path) -> Vec<u8> {
    narrow("errno32", work)
}

fn narrow(name: &str, work: &Path) -> Vec<u8> {
    let out = work.join(name);
    compile(&format!("{name}.c"), &["-m32", "-static", "-fno-pie", "-no-pie"], &out);
    std::fs::read(out).expect("a program that was just made")
}

/// A dynamic program that asks for a processor of level 3, and the C library that it is for.
pub fn level3(work: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let out = work.join("level3");
    let source = source("level3.c");
    let done = Command::new("gcc")
        .args(["-O1", "-Wl,-z,x86-64-v3", "-o"])
        .arg(&out)
        .arg(source)
        .output();
    let done = done.expect("gcc is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let read = |path: &Path| std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    vec![
        ("bin/level3", read(&out)),
        ("lib64/ld-linux-x86-64.so.2", read(Path::new(LOADER))),
        (
            "lib/x86_64-linux-gnu/libc.so.6",
            read(Path::new("/lib/x86_64-linux-gnu/libc.so.6")),
        ),
    ]
}

/// dumb-init 1.2.2 of PyPI's manylinux1 wheel: a static program of glibc 2.5, made in 2018.
pub fn dumb_init() -> Vec<u8> {
    let path = crate::fixtures().join("old/dumb-init");
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}: scripts/old-programs", path.display()))
}

/// A static program that refuses kernels older than 99.1.
pub fn refuses(work: &Path) -> Vec<u8> {
    let out = work.join("refuses");
    compile("refuses.c", &["-static", "-no-pie"], &out);
    std::fs::read(out).expect("a program that was just made")
}

/// The program that ends in the way that its argument says.
pub fn deaths(work: &Path) -> Vec<u8> {
    with_libc("deaths", work)
}

/// A program that takes itself for an old systemd.
pub fn systemd(work: &Path) -> Vec<u8> {
    with_libc("systemd", work)
}

/// A dynamic loader that looks at the notes of libraries, which it did up to glibc 2.36: Debian bullseye's.
fn strict_loader(work: &Path) -> Vec<u8> {
    let loader = "./lib/x86_64-linux-gnu/ld-2.31.so";
    let tar = crate::fixtures().join("bullseye.tar");
    let out = Command::new("tar")
        .arg("-xOf")
        .arg(&tar)
        .arg(loader)
        .current_dir(work)
        .output();
    let out = out.expect("tar is installed").stdout;
    assert!(!out.is_empty(), "{}: scripts/fixtures", tar.display());
    out
}

/// A program with a library that asks for Linux 99.1, and a loader that listens.
pub fn new_library(work: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let directory = format!("-L{}", work.display());
    let (library, program) = (work.join("libnew.so"), work.join("needs-new"));
    compile(
        "newlib.c",
        &["-shared", "-fPIC", "-DLIBRARY", "-Wl,-soname,libnew.so"],
        &library,
    );
    compile("newlib.c", &["-no-pie", &directory, "-lnew"], &program);
    let read = |path: &Path| std::fs::read(path).expect("a program that was just made");
    vec![
        ("bin/needs-new", read(&program)),
        ("lib/libnew.so", read(&library)),
        ("lib64/ld-linux-x86-64.so.2", strict_loader(work)),
    ]
}

/// The library of that program, with a fault in it.
pub fn faulty_library(work: &Path) -> Vec<u8> {
    let out = work.join("faulty.so");
    compile(
        "newlib.c",
        &["-shared", "-fPIC", "-DCRASH", "-Wl,-soname,libnew.so"],
        &out,
    );
    std::fs::read(out).expect("a library that was just made")
}

/// Static, with this machine's C library.
pub fn with_libc(name: &str, work: &Path) -> Vec<u8> {
    let out = work.join(name);
    let flags = ["-static", "-O1", "-o"];
    let made = Command::new("gcc")
        .args(flags)
        .arg(&out)
        .arg(source(&format!("{name}.c")))
        .status();
    assert!(made.expect("gcc is installed").success());
    std::fs::read(out).expect("a program that was just made")
}
