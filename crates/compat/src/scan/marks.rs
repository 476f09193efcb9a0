//! What a file's text and its imports say of it.

use memchr::memmem;

use super::{Facts, Mark};
use crate::elf::Elf;

/// Imported functions that decide something: others are not kept.
const IMPORTS: &[&str] = &[
    "clock_gettime64",
    "create_module",
    "eaccess",
    "euidaccess",
    "faccessat",
    "getaddrinfo",
    "getgrgid",
    "getgrnam",
    "gethostbyname",
    "getpwnam",
    "getpwuid",
    "gettimeofday",
    "iconv_open",
    "io_uring_queue_init",
    "io_uring_queue_init_params",
    "io_uring_setup",
    "nfsservctl",
    "pam_start",
    "pthread_create",
    "query_module",
    "sched_getcpu",
    "statx",
    "sysctl",
    "thrd_create",
    "time",
    "uname",
    "uselib",
    "userfaultfd",
    "ustat",
];
/// Files that Linux has no more, with the version that took them.
pub const REMOVED_FILES: &[(&str, &str)] = &[
    ("/proc/bus/usb/devices", "3.5"),
    ("/proc/ksyms", "2.6"),
    ("/proc/acpi/battery", "2.6.39"),
    ("/dev/ptyp0", "the switch to /dev/pts (LEGACY_PTYS)"),
    ("/sys/class/usb_device", "2.6.32"),
];
/// Symbols that are looked at.
const SYMBOLS: usize = 1 << 20;
/// Bytes of one entry of the table of symbols.
const WIDE: usize = 24;
const NARROW: usize = 16;

/// Imports that decide something.
pub fn imports(elf: &Elf<'_>) -> Vec<String> {
    let Some(table) = elf
        .dynamic_value(object::elf::DT_SYMTAB.into())
        .and_then(|at| elf.at(at))
    else {
        return Vec::new();
    };
    let size = if elf.wide { WIDE } else { NARROW };
    let mut found: Vec<String> = Vec::new();
    for symbol in table.chunks_exact(size).take(symbols(elf)).skip(1) {
        let section = if elf.wide { &symbol[6..8] } else { &symbol[14..16] };
        if section != [0, 0] {
            continue;
        }
        let Some(name) = elf.string(elf.u32_of(symbol).into()) else {
            break;
        };
        if let Ok(name) = std::str::from_utf8(name)
            && IMPORTS.binary_search(&name).is_ok()
        {
            found.push(name.to_owned());
        }
    }
    found.sort();
    found.dedup();
    found
}

/// How many symbols there are: the table of names follows that of symbols in every linker's output.
fn symbols(elf: &Elf<'_>) -> usize {
    let tag = |tag: u32| elf.dynamic_value(tag.into());
    let (Some(symbols), Some(names)) = (tag(object::elf::DT_SYMTAB), tag(object::elf::DT_STRTAB)) else {
        return 0;
    };
    let size = if elf.wide { WIDE } else { NARROW } as u64;
    match names.checked_sub(symbols) {
        Some(between) => ((between / size) as usize).min(SYMBOLS),
        // Another order: the old table of hashes has the number.
        None => tag(object::elf::DT_HASH)
            .and_then(|at| elf.at(at))
            .and_then(|t| t.get(4..8))
            .map_or(0, |n| elf.u32_of(n) as usize)
            .min(SYMBOLS),
    }
}

/// Marks in the text.
pub fn marks(name: &str, elf: &Elf<'_>, facts: &Facts) -> Vec<Mark> {
    let mut marks = Vec::new();
    let soname = facts.soname.as_deref().unwrap_or(name);
    if soname.starts_with("libc.so") || soname.starts_with("libc-2") {
        marks.extend(after(elf.data, b"stable release version ", b" ,\n").map(Mark::Glibc));
    }
    if name.starts_with("ld-musl") || soname.starts_with("libc.musl") || (soname == "libc.so" && marks.is_empty()) {
        marks.extend(musl(elf.data).map(Mark::Musl));
    }
    if name == "systemd" || facts.needed.iter().any(|n| n.starts_with("libsystemd-core-")) {
        let shared = facts
            .needed
            .iter()
            .find_map(|n| n.strip_prefix("libsystemd-shared-")?.split('.').next());
        let text = || after(elf.data, b"\0systemd ", b"\0 \n");
        let version = shared.map(String::from).or_else(text);
        marks.extend(
            version
                .filter(|v| v.starts_with(|c: char| c.is_ascii_digit()))
                .map(Mark::Systemd),
        );
    }
    // The loader, and what is linked with the same code.
    if facts.alone || name.starts_with("ld-") || name.starts_with("ld.so") {
        marks.extend(memmem::find(elf.data, b"FATAL: kernel too old").map(|_| Mark::ChecksKernel));
        let level = after(elf.data, b"CPU does not support x86-64-v", b"\n\0 ");
        marks.extend(level.and_then(|l| l.parse().ok()).map(Mark::ChecksCpu));
    }
    if memmem::find(elf.data, b"Unsupported system page size").is_some()
        && memmem::find(elf.data, b"<jemalloc>").is_some()
    {
        marks.push(Mark::Jemalloc);
    }
    if !facts.program {
        return marks;
    }
    if facts.alone || facts.needed.len() < 4 {
        marks.extend(go(elf.data).map(Mark::Go));
    }
    let removed = REMOVED_FILES
        .iter()
        .filter(|(file, _)| memmem::find(elf.data, file.as_bytes()).is_some());
    marks.extend(removed.map(|(file, _)| Mark::RemovedFile((*file).into())));
    if facts.imports.iter().any(|i| i == "uname") {
        let asks = ["2.6.", "2.4.", "3.10."]
            .iter()
            .find_map(|v| after(elf.data, format!("\0{v}").as_bytes(), b"\0").map(|r| format!("{v}{r}")));
        marks.extend(
            asks.filter(|text| text.len() < 12 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
                .map(Mark::Release),
        );
    }
    marks
}

/// The text that follows a mark, to one of these bytes; 32 bytes at most.
fn after(data: &[u8], mark: &[u8], ends: &[u8]) -> Option<String> {
    let at = memmem::find(data, mark)? + mark.len();
    let rest = &data[at..data.len().min(at + 32)];
    let end = rest.iter().position(|b| ends.contains(b))?;
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    Some(text.trim_end_matches('.').to_owned())
}

/// musl prints its version as a string of its own.
fn musl(data: &[u8]) -> Option<String> {
    memmem::find(data, b"musl libc")?;
    for begin in [&b"\x001.2."[..], b"\x001.1.", b"\x001.0.", b"\x000.9."] {
        for at in memmem::find_iter(data, begin).take(64) {
            let rest = &data[at + 1..data.len().min(at + 17)];
            let Some(end) = rest.iter().position(|b| *b == 0) else {
                continue;
            };
            let text = &rest[..end];
            if end <= 8 && text.iter().all(|b| b.is_ascii_digit() || *b == b'.') {
                return Some(String::from_utf8_lossy(text).into_owned());
            }
        }
    }
    None
}

/// Go's build information: a mark, two bytes, and from 1.18 on the version as a string with its length at byte 32.
fn go(data: &[u8]) -> Option<String> {
    let at = memmem::find(data, b"\xff Go buildinf:")?;
    let head = data.get(at..at + 64)?;
    if head[15] & 2 == 0 {
        return Some("go1.17 or older".into());
    }
    let length = usize::from(head[32]);
    let text = data.get(at + 33..at + 33 + length).filter(|_| length < 64)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_imports_is_sorted() {
        assert!(IMPORTS.is_sorted());
    }

    #[test]
    fn versions_are_read_where_they_stand() {
        let text = b"x GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\nCopyright";
        assert_eq!(
            after(text, b"stable release version ", b" ,\n").as_deref(),
            Some("2.36")
        );
        assert_eq!(musl(b"..musl libc (x86_64)\0\x001.2.5\0").as_deref(), Some("1.2.5"));
        assert_eq!(musl(b"musl libc \x001.2.x\0"), None);
    }
}
