//! Strangers' clients of Docker's API: see `scripts/clients`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixtures;

/// Where they are.
pub fn dir() -> PathBuf {
    let dir = fixtures().join("clients").canonicalize();
    dir.expect("scripts/clients has been run")
}

/// The images that docker-py's suite wants besides `busybox:latest`.
pub const DOCKER_PYS_IMAGES: &[&str] = &["alpine:3.10", "alpine:latest", "busybox:1.35", "hello-world:latest"];

/// Runs docker-py's own integration suite but for some of its files: what became of each test (`PASSED`, `FAILED`, `ERROR`...),
/// and everything that was said.
pub fn docker_py(host: &str, home: &Path, others: &[&str]) -> (BTreeMap<String, String>, String) {
    let mut command = Command::new(dir().join("python/bin/python"));
    let flags = "-m pytest -q -rfEA --timeout 60 -p no:cacheprovider tests/integration";
    command.args(flags.split(' '));
    for absent in ["swarm", "service", "secret", "config", "plugin", "node", "build"] {
        command.arg(format!("--ignore-glob=*/*_{absent}*"));
    }
    for other in others {
        command.arg(format!("--ignore-glob=*/{other}"));
    }
    command
        .current_dir(dir().join("docker-py"))
        .env("DOCKER_HOST", host)
        .env("HOME", home)
        .env("DOCKER_TEST_API_VERSION", "1.44")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("DOCKER_CONFIG");
    let output = command.output().expect("run docker-py's suite");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = |line: &str| {
        let (outcome, path) = line.split_once(' ')?;
        let name = path.strip_prefix("tests/integration/")?.split(' ').next()?;
        outcome
            .bytes()
            .all(|b| b.is_ascii_uppercase())
            .then(|| (name.to_owned(), outcome.to_owned()))
    };
    (text.lines().filter_map(told).collect(), text)
}

/// The tests of it that may fail here, and under which words of `clients/docker-py.txt` they stand.
pub fn docker_py_may_fail() -> BTreeMap<&'static str, &'static str> {
    let (mut under, mut tests) = ("", BTreeMap::new());
    for line in include_str!("../clients/docker-py.txt").lines() {
        match line.strip_prefix("# ") {
            Some(words) => under = words,
            None if !line.is_empty() => _ = tests.insert(line, under),
            None => {}
        }
    }
    tests
}
