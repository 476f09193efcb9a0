//! Whether the kernel takes the file at all: format, architecture, interpreter, libraries, page size, packers.

use super::{Look, finding, symptom};
use crate::finding::{Cause, Finding, Remedy, Sure};
use crate::host::{Host, Vsyscall};
use crate::scan::{AOUT, Mark, What};

/// The package of Debian that has qemu-user.
const QEMU_PACKAGE: &str = "qemu-user-static";

/// The file is damaged, hostile or unreadable.
pub fn not_analysed(look: &Look<'_>, found: &mut Vec<Finding>) {
    let broken = look.closure.all().filter_map(|f| match &f.what {
        What::NotAnalysed(why) => Some((f, why)),
        _ => None,
    });
    for (file, why) in broken {
        let sure = if look.entry { Sure::OnSomePath } else { Sure::Unlikely };
        found.push(Finding {
            asks: format!("could not analyse {}: {why}", file.path),
            lacks: "nothing is known of what it asks for".into(),
            symptom: symptom("not known", None),
            advice: "look whether the file is whole".into(),
            ..finding(Cause::NotAnalysed, sure, &file.path)
        });
    }
}

/// a.out and ARM's old ABI; and what other systems execute.
pub fn old_format(look: &Look<'_>, found: &mut Vec<Finding>) {
    let old = match &look.file.what {
        What::Old(format) => Some(format),
        What::Elf(facts) => facts.old_abi.as_ref(),
        _ => None,
    };
    if let Some(format) = old {
        let (lacks, advice) = match facts_of_linux(look) {
            true => (
                "Linux executes such programs no more (a.out until 5.18)",
                "none but a virtual machine with an old kernel, or a rebuilt program",
            ),
            false => ("it is a program of another system", "an image for Linux"),
        };
        found.push(Finding {
            asks: format!("its format is {format}"),
            lacks: lacks.into(),
            symptom: symptom("exec format error", Some(126)),
            advice: advice.into(),
            ..finding(Cause::OldFormat, Sure::OnStart, &look.file.path)
        });
    }
}

fn facts_of_linux(look: &Look<'_>) -> bool {
    look.file.elf().is_some() || look.file.what == What::Old(AOUT.into())
}

/// What qemu-user can do about it.
pub fn qemu_user(host: &Host, name: &str, installed: bool) -> Remedy {
    Remedy::QemuUser {
        program: format!("qemu-{name}"),
        installed,
        package: QEMU_PACKAGE.into(),
        by_itself: installed && host.own_binfmt,
    }
}

/// What is to be done so that qemu-user runs it; `None` where that happens by itself, or nothing helps.
pub fn qemu_advice(cause: Cause, remedy: &Remedy) -> Option<String> {
    match (cause, remedy) {
        (_, Remedy::QemuUser { by_itself: true, .. }) => None,
        // A host that knew qemu for its own programs would know nothing else: it takes a binfmt_misc of the container's own.
        (Cause::CpuLevel, Remedy::QemuUser { package, .. }) => {
            Some(format!("{package} on the host, with Linux 6.7 or newer"))
        }
        (
            _,
            Remedy::QemuUser {
                installed: false,
                package,
                ..
            },
        ) => Some(format!("install {package} on the host, which registers itself there")),
        // One binfmt_misc for all before Linux 6.7, and that is the host's.
        (_, Remedy::QemuUser { program, .. }) => Some(format!(
            "register {program} with the host's binfmt_misc, as it takes before Linux 6.7: systemctl restart systemd-binfmt, or \
             update-binfmts --enable {program}"
        )),
        _ => None,
    }
}

/// Another architecture, i386 and x32 where they are switched off.
pub fn architecture(look: &Look<'_>, found: &mut Vec<Finding>) {
    let Some(facts) = look.file.elf().filter(|f| f.old_abi.is_none()) else {
        return;
    };
    let (host, name) = (look.host, facts.architecture.as_str());
    let native = match (host.architecture.as_str(), name) {
        (own, theirs) if own == theirs => true,
        ("amd64", "386") => host.ia32,
        ("amd64", "x32") => host.x32,
        _ => false,
    };
    if native || host.foreign.iter().any(|f| f == name) {
        return;
    }
    let lacks = match name {
        "386" => "this kernel executes no 32 bit programs (ia32_emulation=0, or built without it)".to_owned(),
        "x32" => "this kernel has no x32 (CONFIG_X86_X32_ABI)".to_owned(),
        _ => format!(
            "the processor is {}, and binfmt_misc has no interpreter for {name}",
            host.architecture
        ),
    };
    let qemu = crate::host::qemu_name(name).filter(|_| name != "x32");
    let installed = host.qemu.iter().any(|q| q == name);
    let remedy = qemu.map_or(Remedy::None, |qemu| qemu_user(host, qemu, installed));
    let advice = match (name, &remedy) {
        ("x32", _) => "boot a kernel with x32 (syscall.x32=y), or take an amd64 image".to_owned(),
        ("386", _) => "boot with ia32_emulation=1, or take an amd64 image".to_owned(),
        _ => {
            let more = qemu_advice(Cause::Architecture, &remedy).map(|advice| format!(", or {advice}"));
            format!("take the image for {}{}", host.architecture, more.unwrap_or_default())
        }
    };
    found.push(Finding {
        asks: format!("it is a program for {name}"),
        lacks,
        symptom: symptom(
            "exec format error (in busybox' shell: a syntax error, and 2)",
            Some(126),
        ),
        remedy,
        advice,
        ..finding(Cause::Architecture, Sure::OnStart, &look.file.path)
    });
}

/// `PT_INTERP` leads nowhere.
pub fn interpreter(look: &Look<'_>, found: &mut Vec<Finding>) {
    let Some(wanted) = look.file.elf().and_then(|f| f.interpreter.as_deref()) else {
        return;
    };
    if look.closure.interpreter.is_some() {
        return;
    }
    let package = match wanted {
        w if w.contains("ld-musl") => "musl (it is a program of Alpine or another musl system)",
        w if w.contains("ld-linux.so.2") => "the 32 bit C library (Debian: libc6:i386, Fedora: glibc.i686)",
        w if w.contains("ld-linux") || w.contains("ld64") => "glibc (Debian: libc6, Alpine: gcompat)",
        w if w.contains("ld-uClibc") => "uClibc",
        _ => "its C library",
    };
    found.push(Finding {
        asks: format!("its interpreter is {wanted}"),
        lacks: "that file is not in the image".into(),
        symptom: symptom("no such file or directory, though the program is there", Some(127)),
        advice: format!("add {package} to the image, or link the program statically"),
        ..finding(Cause::InterpreterMissing, Sure::OnStart, &look.file.path)
    });
}

/// Libraries that are not in the image: told of what the image starts with.
pub fn libraries_missing(look: &Look<'_>, found: &mut Vec<Finding>) {
    if !look.entry || look.closure.interpreter.is_none() {
        return;
    }
    for (library, by) in &look.closure.missing {
        found.push(Finding {
            asks: format!("it loads {library}"),
            lacks: "that library is not in the image, or not where its loader looks".into(),
            symptom: symptom(
                format!("error while loading shared libraries: {library}: cannot open shared object file"),
                Some(127),
            ),
            advice: "add the library to the image; if the command sets LD_LIBRARY_PATH all may be well".into(),
            ..finding(Cause::LibraryMissing, Sure::OnSomePath, by)
        });
    }
}

/// Segments and allocators that expect 4K pages.
pub fn page_size(look: &Look<'_>, found: &mut Vec<Finding>) {
    let size = look.host.page_size;
    if size <= 4096 {
        return;
    }
    for (file, facts) in look.closure.facts() {
        if let Some(align) = facts.page_align.filter(|align| *align < size) {
            let itself = file.path == look.file.path;
            found.push(Finding {
                asks: format!("its segments are aligned to {align} bytes"),
                lacks: format!("the kernel's pages have {size} bytes"),
                symptom: match itself {
                    true => symptom("the kernel cannot map it: exec fails, or SIGSEGV", Some(139)),
                    false => symptom("ELF load command address/offset not page-aligned", Some(127)),
                },
                advice: "a kernel with 4K pages, or the program linked with -z max-page-size=65536".into(),
                ..finding(Cause::PageSize, Sure::OnStart, &file.path)
            });
        }
        if facts.marks.contains(&Mark::Jemalloc) {
            found.push(Finding {
                asks: "it has jemalloc, which is built for one page size".into(),
                lacks: format!("the kernel's pages have {size} bytes"),
                symptom: symptom("<jemalloc>: Unsupported system page size", Some(134)),
                advice: "a kernel with 4K pages, or jemalloc built with --with-lg-page=16".into(),
                ..finding(Cause::PageSize, Sure::OnSomePath, &file.path)
            });
        }
    }
}

/// What a packer hides.
pub fn packed(look: &Look<'_>, found: &mut Vec<Finding>) {
    let Some(packer) = look.file.elf().and_then(|f| f.packer.as_ref()) else {
        return;
    };
    if look.host.vsyscall != Vsyscall::None || look.host.architecture != "amd64" {
        return;
    }
    found.push(Finding {
        asks: format!("its code is packed by {packer}"),
        lacks: "calls of the vsyscall page in it cannot be seen, and this kernel has no such page".into(),
        symptom: symptom("if it calls that page: silent death by SIGSEGV", Some(139)),
        remedy: Remedy::Supervise,
        advice: "unpack it (upx -d) and look again".into(),
        ..finding(Cause::Packed, Sure::Unlikely, &look.file.path)
    });
}
