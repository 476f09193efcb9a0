//! Which libraries a program loads, as its loader finds them (ld.so(8)).

use std::collections::HashMap;
use std::rc::Rc;

use super::tree::Tree;
use crate::scan::{Facts, File};

/// Libraries of one program.
const LIBRARIES: usize = 512;
/// Directories that are searched.
const DIRECTORIES: usize = 256;
/// Files that `ld.so.conf` includes, one in another.
const INCLUDES: usize = 64;

/// A program with what it loads.
#[derive(Clone, Debug, Default)]
pub struct Closure {
    /// In the order of loading: the program first.
    pub files: Vec<Rc<File>>,
    /// Its interpreter, if it has one that is there.
    pub interpreter: Option<Rc<File>>,
    /// Libraries that are not there, with who needs them.
    pub missing: Vec<(String, String)>,
}

impl Closure {
    /// The program, its libraries and its interpreter.
    pub fn all(&self) -> impl Iterator<Item = &Rc<File>> {
        let beside = self
            .interpreter
            .iter()
            .filter(|i| !self.files.iter().any(|f| Rc::ptr_eq(f, i)));
        self.files.iter().chain(beside)
    }

    /// The same, with the facts.
    pub fn facts(&self) -> impl Iterator<Item = (&Rc<File>, &Facts)> {
        self.all().filter_map(|f| f.elf().map(|e| (f, e)))
    }
}

/// Where libraries are looked for, beside what each file says.
pub struct Directories {
    glibc: Vec<String>,
    musl: Vec<String>,
}

impl Directories {
    /// Of an image.
    pub fn of(tree: &Tree) -> Directories {
        let mut glibc = Vec::new();
        configured(tree, "/etc/ld.so.conf", &mut glibc, &mut 0);
        for dir in ["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"] {
            glibc.push(dir.to_owned());
            // Debian's directories of each architecture: the loader has them built in.
            let multi = tree.names(dir).into_iter().filter(|n| n.contains("-linux-"));
            glibc.extend(multi.map(|n| format!("{dir}/{n}")));
        }
        let mut musl: Vec<String> = Vec::new();
        for name in tree.names("/etc").iter().filter(|n| n.starts_with("ld-musl-")) {
            let text = tree.text(&format!("/etc/{name}")).unwrap_or_default();
            musl.extend(text.split(['\n', ':']).filter(|d| d.starts_with('/')).map(String::from));
        }
        musl.extend(["/lib", "/usr/local/lib", "/usr/lib"].map(String::from));
        glibc.truncate(DIRECTORIES);
        musl.truncate(DIRECTORIES);
        Directories { glibc, musl }
    }
}

fn configured(tree: &Tree, path: &str, dirs: &mut Vec<String>, read: &mut usize) {
    *read += 1;
    if *read > INCLUDES {
        return;
    }
    for line in tree.text(path).unwrap_or_default().lines().map(str::trim) {
        match line.strip_prefix("include ") {
            Some(pattern) => {
                let (dir, name) = pattern.trim().rsplit_once('/').unwrap_or(("", pattern));
                let dir = if dir.starts_with('/') {
                    dir.to_owned()
                } else {
                    format!("/etc/{dir}")
                };
                let end = name.trim_start_matches('*');
                for name in tree.names(&dir).iter().filter(|n| n.ends_with(end)) {
                    configured(tree, &format!("{dir}/{name}"), dirs, read);
                }
            }
            None if line.starts_with('/') => dirs.push(line.split(['=', ' ']).next().unwrap_or(line).to_owned()),
            None => {}
        }
    }
}

/// What is looked up again and again.
#[derive(Default)]
pub struct Known(HashMap<(String, String), Option<Rc<File>>>);

/// A program's closure.
pub fn closure(tree: &Tree, dirs: &Directories, known: &mut Known, program: &Rc<File>) -> Closure {
    let mut closure = Closure {
        files: vec![program.clone()],
        ..Closure::default()
    };
    let Some(facts) = program.elf() else { return closure };
    let musl = facts.interpreter.as_deref().is_some_and(|i| i.contains("ld-musl"));
    closure.interpreter = facts.interpreter.as_deref().and_then(|path| tree.find(path));
    let search = if musl { &dirs.musl } else { &dirs.glibc };
    let mut at = 0;
    while let Some(file) = closure.files.get(at).cloned() {
        at += 1;
        let Some(needs) = file.elf() else { continue };
        for name in &needs.needed {
            // musl is loader and C library in one.
            let own = closure.interpreter.as_ref().filter(|i| {
                i.elf().is_some_and(|e| e.soname.as_deref() == Some(name))
                    || i.name() == name
                    || (musl && name.starts_with("libc."))
            });
            let found = own
                .cloned()
                .or_else(|| library(tree, search, known, &facts.architecture, name, &file, program));
            match found {
                Some(found) if closure.files.iter().any(|f| Rc::ptr_eq(f, &found)) => {}
                Some(found) if closure.files.len() < LIBRARIES => closure.files.push(found),
                Some(_) => {}
                None if closure.missing.iter().any(|(n, _)| n == name) => {}
                None => closure.missing.push((name.clone(), file.path.clone())),
            }
        }
    }
    closure
}

/// A library by name: in the directories that who needs it names, or the program, or the system.
fn library(
    tree: &Tree,
    search: &[String],
    known: &mut Known,
    architecture: &str,
    name: &str,
    by: &File,
    program: &File,
) -> Option<Rc<File>> {
    let fits = |file: &Rc<File>| file.elf().is_some_and(|e| e.architecture == architecture);
    if name.contains('/') {
        return tree.find(name).filter(fits);
    }
    for file in [by, program] {
        let path = file.elf().and_then(|e| e.run_path.as_deref()).unwrap_or_default();
        for dir in path.split(':').filter(|d| !d.is_empty()).take(DIRECTORIES) {
            let origin = file.path.rsplit_once('/').map_or("/", |(dir, _)| dir);
            let dir = dir.replace("${ORIGIN}", origin).replace("$ORIGIN", origin);
            if let Some(found) = tree.find(&format!("{dir}/{name}")).filter(fits) {
                return Some(found);
            }
        }
    }
    let key = (architecture.to_owned(), name.to_owned());
    if let Some(found) = known.0.get(&key) {
        return found.clone();
    }
    let found = search
        .iter()
        .find_map(|dir| tree.find(&format!("{dir}/{name}")).filter(fits));
    known.0.insert(key, found.clone());
    found
}
