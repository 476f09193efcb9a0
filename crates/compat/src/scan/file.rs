//! One file: what it is, and what of it matters.

use std::fs::File as StdFile;
use std::io::Read;

use object::elf as raw;

use super::marks::{imports, marks};
use super::{Facts, What};
use crate::elf::{self, Elf};
use crate::vsyscall;

/// Longest first line of a script that is read.
const LINE: usize = 256;
/// A Java runtime's file of versions.
const RELEASE: u64 = 16 * 1024;

/// Object files, core dumps and separate debugging information are no programs.
pub fn not_wanted(path: &str, head: &[u8]) -> bool {
    let kind = match (head.get(5), head.get(16), head.get(17)) {
        (Some(2), Some(high), Some(low)) => u16::from_be_bytes([*high, *low]),
        (_, Some(low), Some(high)) => u16::from_le_bytes([*low, *high]),
        _ => 0,
    };
    matches!(kind, raw::ET_REL | raw::ET_CORE) || path.starts_with("/usr/lib/debug/") || path.ends_with(".debug")
}

/// What a whole file is, if it matters.
pub fn what(path: &str, executable: bool, data: &[u8]) -> Option<What> {
    if !elf::is_elf(data) {
        return script(executable, data).or_else(|| old(executable, data));
    }
    if not_wanted(path, data) {
        return None;
    }
    Some(match Elf::parse(data) {
        Ok(elf) => What::Elf(Box::new(facts(path, &elf))),
        Err(why) => What::NotAnalysed(why),
    })
}

/// What a file that is no ELF file is, by its first bytes and its name.
pub fn other(path: &str, executable: bool, head: &[u8], file: &StdFile) -> Option<What> {
    if let Some(release) = modules(path) {
        return Some(What::Modules(release));
    }
    if path.ends_with("/release") && head.windows(13).any(|w| w == b"JAVA_VERSION=") || path.ends_with("/jre/release") {
        let mut text = Vec::new();
        file.take(RELEASE).read_to_end(&mut text).ok()?;
        let text = String::from_utf8_lossy(&text);
        let version = text.lines().find_map(|l| l.strip_prefix("JAVA_VERSION="))?;
        return Some(What::Java(version.trim_matches('"').to_owned()));
    }
    script(executable, head).or_else(|| old(executable, head))
}

/// `/lib/modules/RELEASE/modules.dep`.
fn modules(path: &str) -> Option<String> {
    let path = path.strip_prefix("/usr").unwrap_or(path);
    let release = path.strip_prefix("/lib/modules/")?.strip_suffix("/modules.dep")?;
    (!release.contains('/')).then(|| release.to_owned())
}

fn script(executable: bool, data: &[u8]) -> Option<What> {
    let line = data.strip_prefix(b"#!").filter(|_| executable)?;
    let line = line.split(|b| *b == b'\n').next()?;
    let line = String::from_utf8_lossy(&line[..line.len().min(LINE)]);
    let (interpreter, argument) = match line.trim().split_once([' ', '\t']) {
        Some((interpreter, argument)) => (interpreter, Some(argument.trim().to_owned())),
        None => (line.trim(), None),
    };
    (!interpreter.is_empty()).then(|| What::Script {
        interpreter: interpreter.to_owned(),
        argument,
    })
}

/// a.out: OMAGIC, NMAGIC, ZMAGIC and QMAGIC of Linux on i386 (its machine byte is 0 or 100).
fn old(executable: bool, data: &[u8]) -> Option<What> {
    let header = data.get(..32).filter(|_| executable)?;
    let magic = u16::from_le_bytes([header[0], header[1]]);
    let known = matches!(magic, 0o407 | 0o410 | 0o413 | 0o314) && matches!(header[2], 0 | 100) && header[3] == 0;
    known.then(|| What::Old("a.out".into()))
}

fn facts(path: &str, elf: &Elf<'_>) -> Facts {
    let position_independent = elf
        .dynamic_value(0x6fff_fffb)
        .is_some_and(|flags| flags & 0x0800_0000 != 0);
    let alone = elf.is_static();
    let started = elf.kind == raw::ET_EXEC || elf.interpreter.is_some() || position_independent;
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut facts = Facts {
        architecture: elf::machine_name(elf.machine, elf.wide, elf.little),
        program: started && elf.soname().is_none(),
        alone,
        interpreter: elf.interpreter.clone(),
        needed: elf.needed(),
        soname: elf.soname(),
        run_path: elf.run_path(),
        abi: elf.abi,
        isa_needed: elf.isa_needed,
        page_align: elf.page_align(),
        vsyscalls: vsyscall::find(elf),
        packer: packer(elf),
        old_abi: old_abi(elf),
        imports: imports(elf),
        marks: Vec::new(),
    };
    facts.marks = marks(name, elf, &facts);
    facts
}

/// UPX leaves its mark near the program headers and at the end, and no sections.
fn packer(elf: &Elf<'_>) -> Option<String> {
    let head = &elf.data[..elf.data.len().min(4096)];
    let tail = &elf.data[elf.data.len().saturating_sub(256)..];
    let marked = [head, tail]
        .iter()
        .any(|part| memchr::memmem::find(part, b"UPX!").is_some());
    if marked && !elf.sections {
        return Some("UPX".into());
    }
    // What is unpacked in memory needs a place that is written and executed, and has no sections.
    let both = raw::PF_W | raw::PF_X;
    let unpacks = elf
        .segments
        .iter()
        .any(|s| s.flags & both == both && s.memory > s.size.saturating_mul(2).max(65536));
    (!elf.sections && unpacks && elf.interpreter.is_none()).then(|| "an unknown packer".into())
}

/// ARM's old ABI: no EABI version in the flags.
fn old_abi(elf: &Elf<'_>) -> Option<String> {
    let old = elf.machine == raw::EM_ARM && elf.flags & 0xff00_0000 == 0 && elf.kind != raw::ET_REL;
    old.then(|| "ARM OABI".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_modules_and_old_programs_are_known_by_their_beginnings() {
        let interpreter = |data: &[u8]| match what("/x", true, data) {
            Some(What::Script { interpreter, argument }) => Some((interpreter, argument)),
            _ => None,
        };
        assert_eq!(
            interpreter(b"#! /bin/sh -e\necho"),
            Some(("/bin/sh".into(), Some("-e".into())))
        );
        assert_eq!(interpreter(b"#!/bin/sh"), Some(("/bin/sh".into(), None)));
        assert_eq!(interpreter(b"#!\n"), None);
        assert_eq!(what("/x", false, b"#!/bin/sh\n"), None);
        assert_eq!(
            modules("/lib/modules/5.10.0-8/modules.dep").as_deref(),
            Some("5.10.0-8")
        );
        assert_eq!(modules("/lib/modules/5.10.0-8/kernel/x.ko"), None);
        let mut aout = [0u8; 64];
        aout[..4].copy_from_slice(&[0o13, 1, 100, 0]);
        assert_eq!(what("/bin/old", true, &aout), Some(What::Old("a.out".into())));
    }

    #[test]
    fn a_program_of_this_machine_has_facts() {
        let data = std::fs::read("/bin/sh").unwrap();
        let Some(What::Elf(facts)) = what("/bin/sh", true, &data) else {
            panic!()
        };
        assert!(facts.program && !facts.alone && facts.packer.is_none() && facts.vsyscalls.is_empty());
        assert!(facts.needed.iter().any(|n| n == "libc.so.6"), "{facts:?}");
        assert!(facts.interpreter.is_some() && facts.abi.is_some());
    }
}
