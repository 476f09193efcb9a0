//! This machine, by asking.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::MemfdFlags;

use super::{Cgroup, Host, Vsyscall};
use crate::version::Version;

/// Docker's architecture names and qemu's.
pub const QEMU: &[(&str, &str)] = &[
    ("386", "i386"),
    ("amd64", "x86_64"),
    ("arm", "arm"),
    ("arm64", "aarch64"),
    ("armeb", "armeb"),
    ("loong64", "loongarch64"),
    ("mips", "mips"),
    ("mips64", "mips64"),
    ("mips64le", "mips64el"),
    ("mipsle", "mipsel"),
    ("ppc", "ppc"),
    ("ppc64", "ppc64"),
    ("ppc64le", "ppc64le"),
    ("riscv64", "riscv64"),
    ("s390x", "s390x"),
];
/// Where programs are.
const PROGRAMS: &[&str] = &["/usr/bin", "/usr/local/bin", "/bin", "/usr/libexec/qemu-binfmt"];
/// The limit that Berth's containers get (docs of `--ulimit`).
const OPEN_FILES: u64 = 1_048_576;

/// All of it.
pub fn host() -> Host {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let architecture = architecture(&uname.machine().to_string_lossy()).to_owned();
    let x86 = architecture == "amd64";
    Host {
        kernel: Version::parse(&release).unwrap_or_default(),
        release,
        vsyscall: vsyscall(),
        ia32: x86 && executes(3),
        x32: x86 && executes(62),
        cpu_level: cpu_level(),
        page_size: rustix::param::page_size() as u64,
        cgroup: cgroup(),
        engine_seccomp: "berth".into(),
        foreign: foreign(),
        qemu: QEMU
            .iter()
            .filter(|(_, q)| qemu(q).is_some())
            .map(|(a, _)| (*a).to_owned())
            .collect(),
        qemu_level: qemu_level(),
        own_binfmt: sys::probe::own_binfmt_misc(),
        ip_tables: modules(&["ip_tables", "iptable_nat"], "/proc/net/ip_tables_names"),
        nf_tables: modules(&["nf_tables"], "/proc/sys/net/netfilter/nf_log"),
        io_uring: sysctl("kernel/io_uring_disabled").map_or(sys::probe::knows("io_uring_setup"), |v| Some(v == "0")),
        userfaultfd: sysctl("vm/unprivileged_userfaultfd").map_or(sys::probe::knows("userfaultfd"), |v| Some(v != "0")),
        open_files: OPEN_FILES,
        architecture,
        probed: true,
    }
}

/// Docker's name of a machine that `uname -m` names.
pub fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i686" | "i586" | "i486" | "i386" => "386",
        other => other,
    }
}

/// A line of /proc/sys.
pub fn sysctl(name: &str) -> Option<String> {
    std::fs::read_to_string(Path::new("/proc/sys").join(name))
        .ok()
        .map(|t| t.trim().to_owned())
}

/// The page is in everybody's list of mappings, if it is there.
fn vsyscall() -> Vsyscall {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    match maps.lines().find(|l| l.ends_with("[vsyscall]")) {
        Some(line) if line.split(' ').nth(1).is_some_and(|flags| flags.starts_with('r')) => Vsyscall::Emulate,
        Some(_) => Vsyscall::Xonly,
        None => Vsyscall::None,
    }
}

/// Whether the kernel executes a 32 bit program of this machine: a smallest one is tried.
fn executes(machine: u16) -> bool {
    let code: &[u8] = match machine {
        // mov $1,%eax; xor %ebx,%ebx; int $0x80
        3 => &[0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80],
        // mov $(0x40000000 + 60),%eax; xor %edi,%edi; syscall
        _ => &[0xb8, 60, 0, 0, 0x40, 0x31, 0xff, 0x0f, 0x05],
    };
    run(None, &smallest(machine, false, code)).is_ok_and(|code| code == Some(0))
}

/// How a program ends, by itself or in another.
fn run(interpreter: Option<&str>, program: &[u8]) -> std::io::Result<Option<i32>> {
    let fd = rustix::fs::memfd_create("probe", MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(program)?;
    // A file that is open for writing cannot be executed: this one is opened again.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let reading = std::fs::File::open(&path)?;
    drop(file);
    // Of our own: `self` is another one's there, and what closes at execve cannot be opened by an interpreter.
    let path = format!("/proc/{}/fd/{}", std::process::id(), reading.as_raw_fd());
    let mut command = match interpreter {
        Some(interpreter) => Command::new(interpreter),
        None => Command::new(&path),
    };
    let streams = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(streams.args(interpreter.map(|_| &path)).status()?.code())
}

/// A program that is this code.
fn smallest(machine: u16, wide: bool, code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x0804_8000;
    let (header, program): (u16, u16) = if wide { (64, 56) } else { (52, 32) };
    let start = u64::from(header + program);
    let size = start + code.len() as u64;
    let mut bytes = vec![
        0x7f,
        b'E',
        b'L',
        b'F',
        if wide { 2 } else { 1 },
        1,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    let word = |value: u64| value.to_le_bytes()[..if wide { 8 } else { 4 }].to_vec();
    bytes.extend(2u16.to_le_bytes());
    bytes.extend(machine.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    for value in [BASE + start, header.into(), 0] {
        bytes.extend(word(value));
    }
    bytes.extend(0u32.to_le_bytes());
    for value in [header, program, 1, if wide { 64 } else { 40 }, 0, 0] {
        bytes.extend(value.to_le_bytes());
    }
    // PT_LOAD; its flags (read, execute) have another place in each class.
    bytes.extend(1u32.to_le_bytes());
    if wide {
        bytes.extend(5u32.to_le_bytes());
    }
    for value in [0, BASE, BASE, size, size] {
        bytes.extend(word(value));
    }
    if !wide {
        bytes.extend(5u32.to_le_bytes());
    }
    bytes.extend(word(4096));
    bytes.extend(code);
    bytes
}

/// The x86-64 psABI's levels.
#[cfg(target_arch = "x86_64")]
fn cpu_level() -> u8 {
    macro_rules! all {
        ($($name:tt),*) => { $(std::arch::is_x86_feature_detected!($name))&&* };
    }
    if !all!("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "cmpxchg16b") {
        return 1;
    }
    if !all!("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave") {
        return 2;
    }
    if all!("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl") {
        4
    } else {
        3
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_level() -> u8 {
    0
}

fn cgroup() -> Cgroup {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let has = |kind: &str| {
        mounts.lines().any(|l| {
            l.rsplit(" - ")
                .next()
                .is_some_and(|r| r.split(' ').next() == Some(kind))
        })
    };
    match (has("cgroup"), has("cgroup2")) {
        (true, true) => Cgroup::Hybrid,
        (true, false) => Cgroup::V1,
        _ => Cgroup::V2,
    }
}

/// Where qemu-user for an architecture is, by its name of that: one that needs nothing else, as it is to run in roots that
/// have nothing of the host's.
pub fn qemu(name: &str) -> Option<String> {
    let names = [format!("qemu-{name}-static"), format!("qemu-{name}")];
    let paths = names
        .iter()
        .flat_map(|n| PROGRAMS.iter().map(move |dir| format!("{dir}/{n}")));
    paths.into_iter().find(|path| alone(path))
}

fn alone(path: &str) -> bool {
    let mut head = [0; 4096];
    let read = std::fs::File::open(path).and_then(|file| std::os::unix::fs::FileExt::read_at(&file, &mut head, 0));
    read.is_ok_and(|read| crate::elf::has_interpreter(&head[..read]) == Some(false))
}

/// The x86-64 level that an installed qemu-user gives; 0 without one. It is asked: a program that ends with the answer is
/// executed in it.
#[cfg(target_arch = "x86_64")]
fn qemu_level() -> u8 {
    // mov $7,%eax; xor %ecx,%ecx; cpuid; bt $5,%ebx (AVX2); mov $2,%edi; adc $0,%edi; mov $60,%eax; syscall
    const CODE: &[u8] = &[
        0xb8, 7, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0x0f, 0xba, 0xe3, 5, 0xbf, 2, 0, 0, 0, 0x83, 0xd7, 0, 0xb8, 60, 0, 0,
        0, 0x0f, 0x05,
    ];
    let answer = qemu("x86_64").and_then(|qemu| run(Some(&qemu), &smallest(62, true, CODE)).ok().flatten());
    answer
        .and_then(|code| u8::try_from(code).ok())
        .filter(|level| (2..4).contains(level))
        .unwrap_or(0)
}

#[cfg(not(target_arch = "x86_64"))]
fn qemu_level() -> u8 {
    0
}

/// Architectures in binfmt_misc: the machine is in the magic of each entry, bytes 18 and 19.
fn foreign() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/sys/fs/binfmt_misc")
        .into_iter()
        .flatten()
        .flatten();
    let texts = entries.filter_map(|e| std::fs::read_to_string(e.path()).ok());
    let mut names: Vec<String> = texts.filter_map(|t| binfmt(&t)).collect();
    names.sort();
    names.dedup();
    names
}

fn binfmt(text: &str) -> Option<String> {
    if text.lines().next() != Some("enabled") {
        return None;
    }
    let magic = text.lines().find_map(|l| l.strip_prefix("magic "))?;
    let byte = |index: usize| u8::from_str_radix(magic.get(index * 2..index * 2 + 2)?, 16).ok();
    if magic.get(..8)? != "7f454c46" {
        return None;
    }
    let (wide, little) = (byte(4)? == 2, byte(5)? == 1);
    let pair = [byte(18)?, byte(19)?];
    let machine = if little {
        u16::from_le_bytes(pair)
    } else {
        u16::from_be_bytes(pair)
    };
    Some(crate::elf::machine_name(machine, wide, little))
}

/// Whether modules are loaded, built in, or can be loaded; `file` is there when they are at work.
fn modules(names: &[&str], file: &str) -> Option<bool> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let loaded = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    let dir = Path::new("/lib/modules").join(&release);
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
    let known = loaded + &read("modules.builtin") + &read("modules.dep");
    let there = |name: &&str| {
        known.lines().any(|l| {
            let first = l.split([' ', ':']).next().unwrap_or_default();
            let file = first.rsplit('/').next().unwrap_or_default();
            file.split(".ko").next().unwrap_or_default().replace('-', "_") == **name
        })
    };
    if Path::new(file).exists() || names.iter().all(there) {
        return Some(true);
    }
    // Nothing tells what is built in: then it is not known.
    dir.join("modules.builtin").is_file().then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let host = host();
        assert!(host.kernel >= Version(5, 10, 0) && host.probed && host.page_size >= 4096);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert_eq!(maps.contains("[vsyscall]"), host.vsyscall != Vsyscall::None);
    }

    #[test]
    fn binfmt_entries_are_read_by_their_magic() {
        let text = "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: F\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ff\n";
        assert_eq!(binfmt(text).as_deref(), Some("arm64"));
        assert_eq!(binfmt(&text.replace("enabled", "disabled")), None);
        assert_eq!(binfmt("enabled\nmagic 7f45"), None);
        assert_eq!(binfmt("enabled\nmagic é7f454c46"), None);
    }
}
