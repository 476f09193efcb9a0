//! Wrong errors from other engines' seccomp profiles, and system calls that are newer than the kernel.

use super::{Look, finding, symptom};
use crate::facts;
use crate::finding::{Cause, Finding, Sure};
use crate::scan::Facts;
use crate::version::Version;

/// A call that gets EPERM, which C library uses it from when on, and who needs it.
struct Row {
    call: &'static str,
    glibc: Option<Version>,
    musl: Option<Version>,
    imports: &'static [&'static str],
    seen: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        call: "clone3",
        glibc: Some(Version(2, 34, 0)),
        musl: None,
        imports: &["pthread_create", "thrd_create"],
        seen: "pthread_create: Operation not permitted",
    },
    Row {
        call: "faccessat2",
        glibc: Some(Version(2, 33, 0)),
        musl: Some(Version(1, 2, 3)),
        imports: &["eaccess", "euidaccess", "faccessat"],
        seen: "test -r, -w and -x say no to files that are there",
    },
    Row {
        call: "statx",
        glibc: Some(Version(2, 28, 0)),
        musl: None,
        imports: &["statx"],
        seen: "ls and stat: Operation not permitted",
    },
];

/// EPERM for calls whose callers expect ENOSYS.
pub fn seccomp(look: &Look<'_>, found: &mut Vec<Finding>) {
    if look.profile.eperm.is_empty() {
        return;
    }
    let version =
        |pick: fn(&Facts) -> Option<&str>| look.closure.facts().find_map(|(_, f)| pick(f).and_then(Version::parse));
    let (glibc, musl) = (version(Facts::glibc), version(Facts::musl));
    for row in ROWS.iter().filter(|row| look.profile.eperm.contains(&row.call)) {
        let new_enough =
            |have: Option<Version>, from: Option<Version>| matches!((have, from), (Some(h), Some(f)) if h >= f);
        if !new_enough(glibc, row.glibc) && !new_enough(musl, row.musl) {
            continue;
        }
        let asks = look.closure.facts().find_map(|(file, facts)| {
            let name = facts.imports.iter().find(|i| row.imports.contains(&i.as_str()))?;
            Some((file.path.clone(), name.clone()))
        });
        let Some((path, import)) = asks else { continue };
        // A library that could is not a program that does.
        let sure = if path == look.file.path {
            Sure::OnSomePath
        } else {
            Sure::Unlikely
        };
        found.push(Finding {
            asks: format!("{import}, with {} of the C library", row.call),
            lacks: format!(
                "the seccomp profile of {} answers EPERM to {}, and not ENOSYS",
                look.profile.about, row.call
            ),
            symptom: symptom(row.seen, None),
            advice: "a newer engine (Berth answers ENOSYS), or --security-opt seccomp=unconfined there".into(),
            ..finding(Cause::SeccompEperm, sure, &path)
        });
    }
}

/// 32 bit programs whose C library has 64 bit time.
pub fn time64(look: &Look<'_>, found: &mut Vec<Finding>) {
    let narrow = look
        .file
        .elf()
        .is_some_and(|f| matches!(f.architecture.as_str(), "386" | "arm" | "mips" | "mipsle" | "ppc"));
    if !narrow || !look.profile.time64 {
        return;
    }
    let uses = look.closure.facts().find_map(|(file, facts)| {
        let glibc = facts
            .glibc()
            .and_then(Version::parse)
            .filter(|v| *v >= Version(2, 34, 0));
        let musl = facts.musl().and_then(Version::parse).filter(|v| *v >= Version(1, 2, 0));
        glibc
            .map(|v| (file, format!("glibc {v}")))
            .or_else(|| musl.map(|v| (file, format!("musl {v}"))))
    });
    let Some((file, library)) = uses else { return };
    found.push(Finding {
        asks: format!("{library} asks for the time with clock_gettime64"),
        lacks: format!(
            "the seccomp profile of {} answers EPERM to the calls with 64 bit time",
            look.profile.about
        ),
        symptom: symptom("the date is 1970 or 1900; TLS and package signatures fail", None),
        advice: "a newer engine (Berth's profile allows them), or --security-opt seccomp=unconfined there".into(),
        ..finding(Cause::Time64, Sure::OnSomePath, &file.path)
    });
}

/// Calls that came after this kernel. Weak evidence: nearly all have a way without.
pub fn new_calls(look: &Look<'_>, found: &mut Vec<Finding>) {
    let Some(analysis) = look.analysis else { return };
    let newer: Vec<(&str, Version)> = analysis
        .names()
        .filter_map(facts::syscalls::by_name)
        .filter(|call| call.since > look.host.kernel)
        .map(|call| (call.name, call.since))
        .collect();
    let gone = analysis
        .names()
        .filter_map(facts::syscalls::by_name)
        .filter(|c| c.gone.is_some_and(|g| g <= look.host.kernel));
    for call in gone {
        found.push(Finding {
            asks: format!("it can call {}", call.name),
            lacks: format!("Linux {} removed it", call.gone.unwrap_or_default()),
            symptom: symptom(format!("{}: Function not implemented", call.name), None),
            advice: "rarely needed".into(),
            ..finding(Cause::Removed, Sure::Unlikely, &look.file.path)
        });
    }
    if newer.is_empty() {
        return;
    }
    let list: Vec<String> = newer.iter().map(|(name, since)| format!("{name} ({since})")).collect();
    found.push(Finding {
        asks: format!("it can call {}", list.join(", ")),
        lacks: format!("they came after Linux {}", look.host.kernel),
        symptom: symptom(
            "most likely nothing: C libraries fall back when a call is not there",
            None,
        ),
        advice: "try it: only a run can tell whether it falls back".into(),
        ..finding(Cause::NewCall, Sure::Unlikely, &look.file.path)
    });
}
