//! What an image starts with: its command, through scripts, to programs.

use std::rc::Rc;

use super::Subject;
use super::tree::Tree;
use crate::scan::{File, What};

/// How often a script's interpreter may be a script (the kernel takes four).
const SCRIPTS: usize = 5;
/// Where commands are when the image does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How the way to the programs ended.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The files on the way: scripts and programs.
    pub files: Vec<Rc<File>>,
    /// What was to be there and is not: the path, and who asks for it.
    pub missing: Vec<(String, String)>,
}

/// The programs that a subject's command comes to.
pub fn entry(tree: &Tree, subject: &Subject) -> Entry {
    let mut entry = Entry::default();
    let Some(command) = subject.command.first() else {
        return entry;
    };
    match find(tree, subject, command) {
        Some(file) => follow(tree, subject, &file, &mut entry),
        None if tree.exists(command) => {}
        None => entry.missing.push((command.clone(), "the image's command".into())),
    }
    // An entry point that is a script most often ends in `exec "$@"`.
    let scripted = entry
        .files
        .first()
        .is_some_and(|f| matches!(f.what, What::Script { .. }));
    if scripted && let Some(file) = subject.command.get(1).and_then(|word| find(tree, subject, word)) {
        follow(tree, subject, &file, &mut entry);
    }
    entry
}

/// A word as a command: through PATH unless it has a slash.
fn find(tree: &Tree, subject: &Subject, word: &str) -> Option<Rc<File>> {
    if word.starts_with('/') {
        return tree.find(word);
    }
    if word.contains('/') {
        return tree.find(&format!("{}/{word}", subject.directory));
    }
    let path = subject.path.as_deref().unwrap_or(PATH);
    path.split(':')
        .take(64)
        .find_map(|dir| tree.find(&format!("{dir}/{word}")).filter(|f| f.executable))
}

/// Through scripts to the program that reads them.
fn follow(tree: &Tree, subject: &Subject, file: &Rc<File>, entry: &mut Entry) {
    let mut file = file.clone();
    for _ in 0..SCRIPTS {
        if !entry.files.iter().any(|f| Rc::ptr_eq(f, &file)) {
            entry.files.push(file.clone());
        }
        let What::Script { interpreter, argument } = &file.what else {
            return;
        };
        // `#!/usr/bin/env python3`: both are started.
        if interpreter.ends_with("/env")
            && let Some(word) = argument
                .as_deref()
                .and_then(|a| a.split(' ').find(|w| !w.starts_with('-') && !w.contains('=')))
        {
            match find(tree, subject, word) {
                Some(program) if !entry.files.iter().any(|f| Rc::ptr_eq(f, &program)) => entry.files.push(program),
                Some(_) => {}
                None => entry.missing.push((word.to_owned(), file.path.clone())),
            }
        }
        match tree.find(interpreter) {
            Some(next) => file = next,
            None => {
                if !tree.exists(interpreter) {
                    entry.missing.push((interpreter.clone(), file.path.clone()));
                }
                return;
            }
        }
    }
}
