//! Shared objects that no program names and programs load all the same (dlopen(3)): modules of the C library, of PAM, of
//! languages. Whether one is loaded no file tells; who usually loads it does its directory.

use std::collections::HashSet;
use std::rc::Rc;

use super::closure::Closure;
use super::tree::Tree;
use crate::scan::File;

/// Of one image.
const PLUGINS: usize = 20_000;

/// Modules that who calls one of these functions may load: a part of their path, the functions.
const BY_FUNCTION: &[(&str, &[&str])] = &[
    (
        "/libnss_",
        &[
            "getaddrinfo",
            "getgrgid",
            "getgrnam",
            "gethostbyname",
            "getpwnam",
            "getpwuid",
        ],
    ),
    ("/gconv/", &["iconv_open"]),
    ("/security/pam_", &["pam_start"]),
];
/// Extensions of languages: a part of their path, how the program is called.
const BY_NAME: &[(&str, &str)] = &[
    ("/lua", "lua"),
    ("/perl", "perl"),
    ("/php", "php"),
    ("/python", "python"),
    ("/ruby", "ruby"),
    ("/tcl", "tclsh"),
];

/// All of an image that are in none of these closures.
pub fn find<'a>(tree: &Tree, closures: impl Iterator<Item = &'a Closure>) -> Vec<Rc<File>> {
    let loaded: HashSet<*const File> = closures.flat_map(|c| c.all()).map(Rc::as_ptr).collect();
    let plugin = |file: &&Rc<File>| {
        let shared = file.elf().is_some_and(|e| !e.program && e.interpreter.is_none());
        shared && file.name().contains(".so") && !loaded.contains(&Rc::as_ptr(file))
    };
    tree.files().iter().filter(plugin).take(PLUGINS).cloned().collect()
}

/// Whether a program is one that usually loads it.
pub fn loads(program: &File, closure: &Closure, plugin: &File) -> bool {
    let calls = |functions: &[&str]| {
        let mut imports = closure.facts().flat_map(|(_, facts)| &facts.imports);
        imports.any(|import| functions.contains(&import.as_str()))
    };
    let by_function = BY_FUNCTION.iter().find(|(part, _)| plugin.path.contains(part));
    let by_name = BY_NAME.iter().find(|(part, _)| plugin.path.contains(part));
    match (by_function, by_name) {
        (Some((_, functions)), _) => calls(functions),
        (None, Some((_, name))) => program.name().starts_with(name),
        (None, None) => false,
    }
}
