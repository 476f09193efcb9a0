//! System calls: their numbers by architecture, and the versions of Linux that brought and took them.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::version::Version;

/// Made by scripts/syscall-facts.
const TABLE: &str = include_str!("syscalls.tsv");

/// What is known of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// The first Linux that has it.
    pub since: Version,
    /// The first that has it no more.
    pub gone: Option<Version>,
    /// Other remarks of the table.
    pub note: &'static str,
}

fn table() -> &'static HashMap<&'static str, Call> {
    static CALLS: OnceLock<HashMap<&'static str, Call>> = OnceLock::new();
    CALLS.get_or_init(|| TABLE.lines().filter_map(row).map(|call| (call.name, call)).collect())
}

fn row(line: &'static str) -> Option<Call> {
    let mut cells = line.split('\t');
    let (name, since) = (cells.next()?, cells.next()?);
    let gone = cells.next().and_then(Version::parse);
    Some(Call {
        name,
        since: Version::parse(since)?,
        gone,
        note: cells.next().unwrap_or_default(),
    })
}

/// A call by its name.
pub fn by_name(name: &str) -> Option<&'static Call> {
    table().get(name)
}

/// Those that came after a version.
pub fn newer_than(version: Version) -> Vec<&'static str> {
    let mut names: Vec<_> = table().values().filter(|c| c.since > version).map(|c| c.name).collect();
    names.sort_unstable();
    names
}

/// How many are known.
pub fn count() -> usize {
    table().len()
}

/// Whose numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Numbers {
    /// x86-64.
    X86_64,
    /// 32 bit x86.
    X86,
    /// 64 bit ARM.
    Aarch64,
}

/// The name of a number; `None` for one that the tables lack.
pub fn name(numbers: Numbers, number: u32) -> Option<&'static str> {
    let number = number as usize;
    match numbers {
        Numbers::X86_64 => syscalls::x86_64::Sysno::new(number).map(|s| s.name()),
        Numbers::X86 => syscalls::x86::Sysno::new(number).map(|s| s.name()),
        // What the kernel's table, strace and man-pages call newfstatat.
        Numbers::Aarch64 if number == 79 => Some("newfstatat"),
        Numbers::Aarch64 => syscalls::aarch64::Sysno::new(number).map(|s| s.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_come_and_go() {
        assert!(count() > 450);
        assert_eq!(by_name("clone3").unwrap().since, Version(5, 3, 0));
        assert_eq!(by_name("accept4").unwrap().since, Version(2, 6, 28));
        assert_eq!(by_name("_sysctl").unwrap().gone, Some(Version(5, 5, 0)));
        assert_eq!(by_name("mseal").unwrap().since, Version(6, 10, 0));
        assert_eq!(name(Numbers::X86_64, 435), Some("clone3"));
        assert_eq!(name(Numbers::X86, 11), Some("execve"));
        assert_eq!(name(Numbers::Aarch64, 221), Some("execve"));
        assert_eq!(name(Numbers::X86_64, 9999), None);
    }

    #[test]
    fn nearly_every_numbered_call_has_its_version() {
        let named = (0..600).filter_map(|n| name(Numbers::X86_64, n));
        let missing: Vec<_> = named.filter(|n| by_name(n).is_none()).collect();
        // Those that were never there, or are there for compilers alone.
        assert!(missing.len() < 25, "{missing:?}");
    }
}
