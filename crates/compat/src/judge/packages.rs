//! Which package a file is of, as the image's package manager says.

use std::collections::{HashMap, HashSet};

use super::rpm;
use super::tree::Tree;

/// Files whose package is looked for.
const WANTED: usize = 2000;
/// Lists of dpkg that are read.
const LISTS: usize = 20_000;
/// Largest database of rpm that is read.
const DATABASE: u64 = 512 << 20;

/// The packages of these files: `libc6 2.36-9+deb12u7`.
pub fn packages(tree: &Tree, wanted: &[String]) -> HashMap<String, String> {
    let mut names: HashMap<String, Vec<&String>> = HashMap::new();
    for path in wanted.iter().take(WANTED) {
        // A merged /usr: packages may list either.
        let plain = path.strip_prefix("/usr").unwrap_or(path);
        for name in [path.clone(), plain.to_owned(), format!("/usr{plain}")] {
            names.entry(name).or_default().push(path);
        }
    }
    let mut found = HashMap::new();
    if !names.is_empty() {
        dpkg(tree, &names, &mut found);
        apk(tree, &names, &mut found);
        rpm(tree, &names, &mut found);
    }
    found
}

type Names<'a> = HashMap<String, Vec<&'a String>>;

fn note(names: &Names<'_>, listed: &str, package: &str, found: &mut HashMap<String, String>) {
    for path in names.get(listed).into_iter().flatten() {
        found.entry((*path).clone()).or_insert_with(|| package.to_owned());
    }
}

fn dpkg(tree: &Tree, names: &Names<'_>, found: &mut HashMap<String, String>) {
    const DIR: &str = "/var/lib/dpkg/info";
    let lists = tree.names(DIR);
    if lists.is_empty() {
        return;
    }
    let status = tree.text("/var/lib/dpkg/status").unwrap_or_default();
    let mut versions: HashMap<&str, &str> = HashMap::new();
    let mut package = "";
    for line in status.lines() {
        if let Some(name) = line.strip_prefix("Package: ") {
            package = name;
        } else if let Some(version) = line.strip_prefix("Version: ") {
            versions.insert(package, version);
        }
    }
    for list in lists.iter().filter(|n| n.ends_with(".list")).take(LISTS) {
        let name = list.trim_end_matches(".list").split(':').next().unwrap_or_default();
        let text = tree.text(&format!("{DIR}/{list}")).unwrap_or_default();
        for line in text.lines().filter(|l| names.contains_key(*l)) {
            let version = versions.get(name).copied().unwrap_or_default();
            note(names, line, format!("{name} {version}").trim_end(), found);
        }
    }
}

/// One file has all: `P:` package, `V:` version, `F:` directory, `R:` file.
fn apk(tree: &Tree, names: &Names<'_>, found: &mut HashMap<String, String>) {
    let text = tree
        .text("/lib/apk/db/installed")
        .or_else(|| tree.text("/usr/lib/apk/db/installed"));
    let (mut package, mut version, mut dir) = (String::new(), String::new(), String::new());
    for line in text.unwrap_or_default().lines() {
        match line.split_once(':') {
            Some(("P", name)) => package = name.to_owned(),
            Some(("V", number)) => version = number.to_owned(),
            Some(("F", path)) => dir = format!("/{path}"),
            Some(("R", name)) => note(names, &format!("{dir}/{name}"), &format!("{package} {version}"), found),
            _ => {}
        }
    }
}

/// rpm's database, in whichever of its forms it is.
fn rpm(tree: &Tree, names: &Names<'_>, found: &mut HashMap<String, String>) {
    let Some((bytes, _)) = rpm::PLACES.iter().find_map(|place| tree.bytes(place, DATABASE)) else {
        return;
    };
    let last = |path: &'_ str| path.rsplit('/').next().unwrap_or_default().as_bytes().to_vec();
    let wanted: HashSet<Vec<u8>> = names.keys().map(|path| last(path)).collect();
    rpm::headers(&bytes, &mut |header| {
        header.files(&|name| wanted.contains(name), &mut |path| {
            if names.contains_key(path) {
                note(names, path, &header.label().unwrap_or_default(), found);
            }
        });
    });
}
