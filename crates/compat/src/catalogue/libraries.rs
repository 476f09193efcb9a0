//! What C libraries refuse: kernels and processors.

use super::{Look, finding, symptom};
use crate::finding::{Cause, Finding, Remedy, Sure};
use crate::scan::{Facts, Mark};
use crate::version::Version;

fn checks_kernel(facts: &Facts) -> bool {
    facts.marks.contains(&Mark::ChecksKernel)
}

fn wants(facts: &Facts) -> Option<Version> {
    facts.abi.map(|[major, minor, patch]| Version(major, minor, patch))
}

/// A static program, or the loader, that refuses the kernel. C libraries have looked until glibc 2.36.
pub fn kernel_too_old(look: &Look<'_>, found: &mut Vec<Finding>) {
    let Some(facts) = look.file.elf() else { return };
    let kernel = look.host.kernel;
    let (file, abi, alone) = if facts.alone {
        (
            look.file.path.as_str(),
            wants(facts).filter(|_| checks_kernel(facts)),
            true,
        )
    } else {
        let loader = look.closure.interpreter.as_ref().and_then(|i| i.elf().map(|e| (i, e)));
        let Some((loader, own)) = loader.filter(|(_, e)| checks_kernel(e)) else {
            return;
        };
        let library = look.closure.facts().find(|(_, e)| e.glibc().is_some());
        (
            loader.path.as_str(),
            library.and_then(|(_, e)| wants(e)).or(wants(own)),
            false,
        )
    };
    let Some(abi) = abi.filter(|abi| *abi > kernel) else {
        return;
    };
    found.push(Finding {
        asks: format!("its ABI note wants Linux {abi}"),
        lacks: format!("this is Linux {kernel}"),
        symptom: symptom("FATAL: kernel too old", Some(if alone { 134 } else { 127 })),
        // A dynamic loader reads the release in the vDSO, which nobody can change.
        remedy: match alone {
            true => Remedy::KernelRelease {
                release: abi.to_string(),
            },
            false => Remedy::None,
        },
        advice: format!("a kernel of {abi} or newer, or an image with an older C library"),
        ..finding(Cause::KernelTooOld, Sure::OnStart, file)
    });
}

/// Libraries whose note names a newer kernel: the loader passes over them.
pub fn library_abi(look: &Look<'_>, found: &mut Vec<Finding>) {
    let loader = look.closure.interpreter.as_ref().and_then(|i| i.elf());
    if !loader.is_some_and(checks_kernel) {
        return;
    }
    for (file, facts) in look.closure.facts() {
        let Some(abi) = wants(facts).filter(|abi| *abi > look.host.kernel) else {
            continue;
        };
        let library = file.path != look.file.path && facts.glibc().is_none() && facts.interpreter.is_none();
        if !library || look.closure.interpreter.as_ref().is_some_and(|i| i.path == file.path) {
            continue;
        }
        found.push(Finding {
            asks: format!("its ABI note wants Linux {abi}"),
            lacks: format!("this is Linux {}", look.host.kernel),
            symptom: symptom(
                format!(
                    "error while loading shared libraries: {}: cannot open shared object file",
                    file.name()
                ),
                Some(127),
            ),
            remedy: Remedy::AbiNoteRemoved,
            advice: format!(
                "strip --remove-section=.note.ABI-tag {} in a build of the image",
                file.path
            ),
            ..finding(Cause::LibraryAbi, Sure::OnStart, &file.path)
        });
    }
}

/// x86-64-v2 and above.
pub fn cpu_level(look: &Look<'_>, found: &mut Vec<Finding>) {
    let level = look.host.cpu_level;
    if level == 0 {
        return;
    }
    for (file, facts) in look
        .closure
        .facts()
        .filter(|(_, f)| matches!(f.architecture.as_str(), "amd64" | "386"))
    {
        let noted = (0..8)
            .rev()
            .find(|bit| facts.isa_needed & (1 << bit) != 0)
            .map_or(0, |bit| bit + 1);
        let checked = facts.marks.iter().find_map(|m| match m {
            Mark::ChecksCpu(level) => Some(*level),
            _ => None,
        });
        let needed = noted.max(checked.unwrap_or(0));
        if needed <= level {
            continue;
        }
        let shown = match (checked, facts.alone) {
            (Some(_), _) => symptom(
                format!("Fatal glibc error: CPU does not support x86-64-v{needed}"),
                Some(127),
            ),
            (None, false) => symptom("CPU ISA level is lower than required", Some(127)),
            (None, true) => symptom("death by SIGILL", Some(132)),
        };
        found.push(Finding {
            asks: format!("it is built for x86-64-v{needed}"),
            lacks: format!("this processor is x86-64-v{level}"),
            symptom: shown,
            // qemu-user has no instructions of level 4, and old ones none of level 3.
            remedy: match (look.host.qemu_level, needed) {
                (0, ..=3) => super::format::qemu_user(look.host, "x86_64", false),
                (level, _) if level >= needed => super::format::qemu_user(look.host, "x86_64", true),
                _ => Remedy::None,
            },
            advice: "an image built for older processors".into(),
            ..finding(Cause::CpuLevel, Sure::OnStart, &file.path)
        });
    }
}
