//! What `save` and `push` write is read by others: skopeo, umoci, buildah, podman, docker.

use std::path::Path;
use std::process::{Command, Stdio};

use berth_tests::registry::Registry;
use berth_tests::{BUSYBOX, Berth};

/// In the archive.
const NAME: &str = "example.org/team/made:1";
/// What its command says: a file of the first layer, one of the second, and that one of the first is gone.
const COMMAND: &str = r#"CMD ["sh", "-c", "cat /data/seed /data/new; ls /etc/passwd /etc/group 2> /dev/null; stat -c '%a %u:%g' /data/new"]"#;

/// Runs a tool's script on an image of two layers, of which the second takes a file of the first away; what it said.
fn read_by(tool: &str) -> Vec<String> {
    let (berth, registry) = (Berth::new(), Registry::start());
    let (archive, pushed) = (berth.path("saved.tar"), registry.name("team/made:1"));
    let change = "rm /etc/group; echo from above > /data/new; chown 7:8 /data/new; chmod 4750 /data/new";
    let container = berth
        .run(&["create", "--network", "none", BUSYBOX, "sh", "-c", change])
        .ok();
    berth.run(&["start", "-a", &container]).ok();
    let changes = ["-c", COMMAND, "-c", "LABEL made=elsewhere", "-c", "ENV PATH=/bin"];
    berth
        .run(&[&["commit"], &changes[..], &[&container, NAME]].concat())
        .ok();
    berth.run(&["save", "-o", &archive, NAME]).ok();
    berth.run(&["tag", NAME, &pushed]).ok();
    berth.run(&["push", "-q", &pushed]).ok();
    let work = tempfile::Builder::new()
        .prefix("berth-reader-")
        .tempdir_in("/var/tmp")
        .expect("a directory");
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("readers")
        .join(format!("{tool}.sh"));
    let output = Command::new("bash")
        .args([Path::new("-e"), &script])
        .env("WORK", work.path())
        .env("ARCHIVE", &archive)
        .env("NAME", NAME)
        .env("PUSHED", &pushed)
        .env("HOME", work.path())
        .stdin(Stdio::null())
        .output()
        .expect("start the script");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout).lines().map(String::from).collect()
}

/// The same lines for each way that the image came.
#[track_caller]
fn each(ways: usize, said: &[String], lines: &[&str]) {
    let expected: Vec<&str> = (0..ways).flat_map(|_| lines.iter().copied()).collect();
    assert_eq!(said, expected);
}

#[test]
fn skopeo() {
    let lines = ["elsewhere 2", "data/seed", "data/new", "etc/.wh.group"];
    let mut said = read_by("skopeo");
    // The order within a layer is the tar's own.
    said.sort();
    let mut sorted = lines;
    sorted.sort();
    let expected: Vec<String> = sorted.iter().flat_map(|l| [l, l, l]).map(|l| l.to_string()).collect();
    assert_eq!(said, expected);
}

#[test]
fn umoci() {
    let lines = [
        "from the image",
        "from above",
        "passwd",
        "4750 7:8",
        "\"made\": \"elsewhere\"",
    ];
    each(2, &read_by("umoci"), &lines);
}

#[test]
fn buildah() {
    let lines = ["from the image", "from above", "passwd", "4750 7:8", "elsewhere"];
    each(3, &read_by("buildah"), &lines);
}

/// What the container itself says.
const RUN: [&str; 4] = ["from the image", "from above", "/etc/passwd", "4750 7:8"];

#[test]
fn podman() {
    let said = read_by("podman");
    assert_eq!(said[0], NAME);
    each(3, &said[1..], &[&RUN[..], &["elsewhere 2"]].concat());
}

#[test]
fn docker() {
    let said = read_by("docker");
    assert_eq!(said[0], NAME);
    each(2, &said[1..], &[&RUN[..], &["elsewhere 2"]].concat());
}
