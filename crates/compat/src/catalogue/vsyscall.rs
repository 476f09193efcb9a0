//! The vsyscall page that is not there.

use super::{Look, finding, symptom};
use crate::finding::{Cause, Finding, Remedy, Sure};
use crate::host::Vsyscall;
use crate::scan::File;
use crate::vsyscall::{Function, Site, Use};

/// Calls of the page, in the program or what it loads.
pub fn vsyscall(look: &Look<'_>, found: &mut Vec<Finding>) {
    if look.host.vsyscall != Vsyscall::None || look.host.architecture != "amd64" {
        return;
    }
    for (file, facts) in look.closure.facts() {
        let calls: Vec<&Site> = facts.vsyscall_calls().collect();
        let Some(first) = calls.first() else { continue };
        let sure = calls
            .iter()
            .map(|site| sure(look, file, site))
            .max()
            .unwrap_or(Sure::Unlikely);
        let patchable = calls.iter().all(|s| s.used == Use::Call);
        let mut names: Vec<&str> = calls.iter().map(|s| s.function.name()).collect();
        names.sort_unstable();
        names.dedup();
        found.push(Finding {
            asks: format!(
                "calls the vsyscall page ({}) at file offset {:#x}{}",
                names.join(", "),
                first.mov,
                if calls.len() > 1 {
                    format!(" and {} more", calls.len() - 1)
                } else {
                    String::new()
                }
            ),
            lacks: "vsyscall=none: the page is not mapped".into(),
            symptom: symptom("silent death by SIGSEGV at 0xffffffffff600000", Some(139)),
            remedy: if patchable {
                Remedy::PatchedCopies
            } else {
                Remedy::Supervise
            },
            advice: "boot with vsyscall=xonly, or take an image with glibc 2.14 or newer".into(),
            ..finding(Cause::Vsyscall, sure, &file.path)
        });
    }
}

/// How sure it is that a run of this program comes by this place.
fn sure(look: &Look<'_>, file: &File, site: &Site) -> Sure {
    if let Some(analysis) = look.analysis {
        return match analysis.reaches(&file.path, site.address) {
            Some(reach) => reach,
            None => Sure::Unlikely,
        };
    }
    if file.path == look.file.path {
        return Sure::OnSomePath;
    }
    // A library's function is called by who imports it; the C library's own use of it follows from that of others.
    let imported = |file: &File| {
        let names: &[&str] = match site.function {
            Function::Gettimeofday => &["gettimeofday"],
            Function::Time => &["time"],
            Function::Getcpu => &["sched_getcpu"],
        };
        file.elf()
            .is_some_and(|e| e.imports.iter().any(|i| names.contains(&i.as_str())))
    };
    match look.closure.files.iter().any(|f| imported(f)) {
        true => Sure::OnSomePath,
        false => Sure::Unlikely,
    }
}
