//! The rules of ARCHITECTURE.md that can be read from the sources.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each crate, and its level: it uses crates of lower levels alone.
const LEVELS: &[(&str, u32)] = &[
    ("errdefs", 0),
    ("sys", 0),
    ("runtime", 1),
    ("image", 1),
    ("snapshot", 1),
    ("network", 1),
    ("compat", 1),
    ("engine", 2),
    ("monitor", 3),
    ("names", 3),
    ("api", 3),
    ("berth", 4),
];
/// Where a container may be made.
const CREATORS: &[&str] = &["crates/berth/src/oci/create.rs", "crates/monitor/src/bring_up.rs"];
/// Longest file, its tests apart.
const FILE_LIMIT: usize = 620;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// All sources, by their paths from the root, comments and tests taken off.
fn sources() -> BTreeMap<String, String> {
    let (mut found, mut todo) = (BTreeMap::new(), vec![root().join("crates")]);
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.insert(name, std::fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

/// Without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines()
        .filter(|l| !l.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn crates_use_lower_levels_alone() {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let level = |name: &str| LEVELS.iter().find(|(n, _)| *n == name).map(|(_, l)| *l);
    let mut seen = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if name == "berth-tests" {
            continue;
        }
        seen += 1;
        let own = level(name).unwrap_or_else(|| panic!("{name} has no level"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            if let Some(below) = level(used) {
                assert!(
                    below < own || (used == "errdefs" && name == "sys"),
                    "{name} uses {used}"
                );
            }
        }
    }
    assert_eq!(seen, LEVELS.len());
}

#[test]
fn unsafe_is_in_sys_alone() {
    for (name, text) in sources() {
        if !name.starts_with("crates/sys/") {
            assert!(
                !code(&text).contains("unsafe {") && !code(&text).contains("unsafe fn"),
                "{name}"
            );
        }
    }
}

#[test]
fn printing_and_the_environment_are_berths_alone() {
    for (name, text) in sources().iter().filter(|(n, _)| !n.starts_with("crates/berth/")) {
        for word in ["println!", "eprintln!", "print!(", "eprint!(", "env::var", "dbg!("] {
            assert!(!code(text).contains(word), "{name} has {word}");
        }
    }
}

#[test]
fn containers_are_made_in_known_places() {
    let makers: Vec<_> = sources()
        .into_iter()
        .filter(|(n, t)| !n.starts_with("crates/runtime/") && code(t).contains("create(Create {"))
        .map(|(n, _)| n)
        .collect();
    assert_eq!(makers, CREATORS);
}

#[test]
fn every_module_says_what_it_is_and_fits_on_a_few_screens() {
    for (name, text) in sources() {
        assert!(text.starts_with("//! "), "{name} does not say what it is");
        let lines = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default()
            .lines()
            .count();
        assert!(lines <= FILE_LIMIT, "{name} has {lines} lines");
    }
}

#[test]
fn nothing_is_left_to_do() {
    for (name, text) in sources() {
        for word in ["todo!(", "unimplemented!(", "TODO", "FIXME", "XXX"] {
            assert!(!text.contains(word), "{name} has {word}");
        }
    }
}
