//! Other engines drive `berth oci` as they drive runc: the same script with both, and the same words from both.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use berth_tests::{BUSYBOX, Berth};

/// Debian's.
const RUNC: &str = "/usr/sbin/runc";

/// Runs the engine's script with a runtime; what it said.
fn drive(engine: &str, runtime: &Path, berth: &Berth) -> String {
    let work = tempfile::Builder::new()
        .prefix("berth-engine-")
        .tempdir_in("/var/tmp")
        .expect("a directory");
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("engines")
        .join(format!("{engine}.sh"));
    let output = Command::new("bash")
        .arg(script)
        .env("WORK", work.path())
        .env("RUNTIME", runtime)
        .env("IMAGE", berth.path("busybox.tar"))
        .env("ARCHIVE", berth.path("image.tar"))
        .env("HOME", work.path())
        .stdin(Stdio::null())
        .output()
        .expect("start the script");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "");
    // Names of directories differ from run to run.
    let said = text(&output.stdout).replace(&work.path().display().to_string(), "WORK");
    assert!(output.status.success(), "{said}\n{}", text(&output.stderr));
    said
}

/// `lines` are among what both said.
fn check(engine: &str, lines: &[&str]) {
    assert!(Path::new(RUNC).exists(), "runc is not installed");
    let berth = Berth::new();
    berth.run(&["save", "-o", &berth.path("image.tar"), BUSYBOX]).ok();
    let ours = berth.path("runc");
    symlink(berth_tests::program(), &ours).expect("a link called runc");
    let said = drive(engine, Path::new(&ours), &berth);
    let expected = drive(engine, Path::new(RUNC), &berth);
    assert_eq!(
        said, expected,
        "{engine}: on the left with berth, on the right with runc"
    );
    for line in lines {
        assert!(
            said.lines().any(|l| l == *line),
            "{engine}: {line:?} is not there:\n{said}"
        );
    }
}

#[test]
fn podman() {
    check(
        "podman",
        &[
            "hello",
            "code 127",
            "/dev/pts/0",
            "from the image",
            "137 exited",
            "code 5",
        ],
    );
}

#[test]
fn docker() {
    let lines = [
        "hello",
        "code 137",
        "code 127",
        "/dev/pts/0",
        "true 9",
        "there",
        "Paused",
        "137 exited",
        "2",
        "healthy",
    ];
    check("docker", &lines);
}

#[test]
fn containerd() {
    check(
        "containerd",
        &["hello", "code 7", "/dev/pts/0", "PAUSED", "STOPPED", "code 4"],
    );
}

#[test]
fn buildah() {
    check("buildah", &["built", "code 3", "code 0"]);
}
