//! What is known to go wrong, a check each. A check looks at one program with all that it loads, and at the host.

mod firmware;
mod format;
mod libraries;
mod seccomp;
mod system;
mod vsyscall;

use crate::facts::seccomp::Profile;
use crate::finding::{Cause, Finding, Remedy, Sure, Symptom};
use crate::host::Host;
use crate::judge::closure::Closure;
use crate::scan::File;
use crate::syscalls::Analysis;

/// What a check may look at.
pub struct Look<'a> {
    /// Whom it is to run on.
    pub host: &'a Host,
    /// The profile that it is to run under.
    pub profile: &'a Profile,
    /// The program, or the script.
    pub file: &'a File,
    /// What it loads.
    pub closure: &'a Closure,
    /// Whether the image starts with it.
    pub entry: bool,
    /// Which system calls it can make; only for entries, unless all are asked for.
    pub analysis: Option<&'a Analysis>,
}

type Check = fn(&Look<'_>, &mut Vec<Finding>);

/// In the order of telling.
const CHECKS: &[Check] = &[
    format::not_analysed,
    format::old_format,
    format::architecture,
    format::interpreter,
    format::libraries_missing,
    format::page_size,
    format::packed,
    vsyscall::vsyscall,
    libraries::kernel_too_old,
    libraries::library_abi,
    libraries::cpu_level,
    seccomp::seccomp,
    seccomp::time64,
    seccomp::new_calls,
    system::systemd,
    system::firewall,
    system::removed,
    system::switched_off,
    system::open_files,
    system::kernel_release,
];

/// All that is to be said of a program.
pub fn check(look: &Look<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for check in CHECKS {
        check(look, &mut findings);
    }
    findings
}

pub use firmware::{java, modules};
pub use format::qemu_advice;

/// A finding that is filled in by its check.
pub(crate) fn finding(cause: Cause, sure: Sure, file: &str) -> Finding {
    Finding {
        cause,
        sure,
        file: file.to_owned(),
        package: None,
        asks: String::new(),
        lacks: String::new(),
        symptom: Symptom::default(),
        remedy: Remedy::None,
        advice: String::new(),
        more: 0,
    }
}

/// What is seen.
pub(crate) fn symptom(message: impl Into<String>, exit_code: Option<u8>) -> Symptom {
    Symptom {
        message: message.into(),
        exit_code,
    }
}
