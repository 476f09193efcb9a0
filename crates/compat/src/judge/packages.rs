//! Which package a file is of, as the image's package manager says.

use std::collections::{HashMap, HashSet};

use super::tree::Tree;

/// Files whose package is looked for.
const WANTED: usize = 2000;
/// Lists of dpkg that are read.
const LISTS: usize = 20_000;

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
        rpm(tree, wanted, &mut found);
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

/// rpm's database is binary (and has been three formats): a package is told only where its documentation names it.
fn rpm(tree: &Tree, wanted: &[String], found: &mut HashMap<String, String>) {
    let there = [
        "/var/lib/rpm/Packages",
        "/var/lib/rpm/rpmdb.sqlite",
        "/usr/lib/sysimage/rpm/rpmdb.sqlite",
        "/var/lib/rpm/Packages.db",
    ];
    if !there.iter().any(|p| tree.exists(p)) {
        return;
    }
    // Directories of documentation are named after packages, and those of old systems with versions.
    let documents: HashSet<String> = tree.names("/usr/share/doc").into_iter().collect();
    let usual = [
        ("libc.so", "glibc"),
        ("libc-2", "glibc"),
        ("ld-2", "glibc"),
        ("ld-linux", "glibc"),
        ("systemd", "systemd"),
        ("bash", "bash"),
    ];
    for path in wanted.iter().take(WANTED) {
        let name = path.rsplit('/').next().unwrap_or_default();
        let package = usual
            .iter()
            .find(|(start, _)| name.starts_with(start))
            .map_or(name, |(_, package)| package);
        let versioned = documents.iter().find(|d| {
            let rest = d.strip_prefix(package).and_then(|r| r.strip_prefix('-'));
            rest.is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
        });
        if let Some(package) = versioned.cloned().or_else(|| documents.get(package).cloned()) {
            found.entry(path.clone()).or_insert(package);
        }
    }
}
