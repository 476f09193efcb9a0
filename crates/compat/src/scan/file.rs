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
/// What [`What::Old`] calls Linux' own format before ELF.
pub const AOUT: &str = "a.out";
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
        return script(executable, data).or_else(|| foreign(executable, data));
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
    script(executable, head).or_else(|| foreign(executable, head))
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

/// Programs in a format that Linux does not execute. a.out: OMAGIC, NMAGIC, ZMAGIC and QMAGIC on i386 (its machine byte is 0
/// or 100). Windows: PE (`MZ`, and at 60 where `PE` is). macOS: Mach-O of either width and order; a file for several
/// processors begins as Java's classes do, whose version is 45 at least.
fn foreign(executable: bool, data: &[u8]) -> Option<What> {
    let header = data.get(..64).filter(|_| executable)?;
    let magic = u16::from_le_bytes([header[0], header[1]]);
    let is_aout = matches!(magic, 0o407 | 0o410 | 0o413 | 0o314) && matches!(header[2], 0 | 100) && header[3] == 0;
    // Cosmopolitan's programs (`MZqFpD`) are all at once: a shell starts them here.
    let is_pe = header.starts_with(b"MZ") && !header.starts_with(b"MZqFpD") && windows(data);
    let is_macho = match header[..4] {
        [0xfe, 0xed, 0xfa, 0xce | 0xcf] | [0xce | 0xcf, 0xfa, 0xed, 0xfe] => true,
        [0xca, 0xfe, 0xba, 0xbe] => u32::from_be_bytes([header[4], header[5], header[6], header[7]]) < 45,
        _ => false,
    };
    let formats = [(is_aout, AOUT), (is_pe, "Windows' (PE)"), (is_macho, "macOS' (Mach-O)")];
    formats
        .into_iter()
        .find(|(is, _)| *is)
        .map(|(_, format)| What::Old(format.into()))
}

/// Whether it is a program: not a library (0x2000 in its characteristics), nor what firmware executes (subsystems from 10 on).
fn windows(data: &[u8]) -> bool {
    let at = |place: usize| data.get(place..place + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let header = usize::from(at(60).unwrap_or(0));
    data.get(header..).is_some_and(|rest| rest.starts_with(b"PE\0\0"))
        && at(header + 22).is_some_and(|characteristics| characteristics & 0x2000 == 0)
        && matches!(at(header + 92), Some(2 | 3))
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
        assert_eq!(what("/bin/old", true, &aout), Some(What::Old(AOUT.into())));
        let mut windows = [0u8; 256];
        windows[..2].copy_from_slice(b"MZ");
        (windows[60], windows[64 + 92]) = (64, 3);
        assert_eq!(what("/bin/a.exe", true, &windows), None);
        windows[64..66].copy_from_slice(b"PE");
        assert!(matches!(what("/bin/a.exe", true, &windows), Some(What::Old(_))));
        windows[64 + 92] = 10;
        assert_eq!(what("/bin/boot.efi", true, &windows), None);
        windows[60..64].fill(0xff);
        assert_eq!(what("/bin/a.exe", true, &windows), None);
        let apple = |head: &[u8]| what("/x", true, &[head, &[0; 64]].concat()).is_some();
        assert!(apple(b"\xcf\xfa\xed\xfe") && apple(b"\xca\xfe\xba\xbe\0\0\0\x02"));
        assert!(!apple(b"\xca\xfe\xba\xbe\0\0\0\x34"));
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
