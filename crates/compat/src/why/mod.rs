//! Why a container ended: evidence to a sentence.
//!
//! Nothing watches a container for this. Who was killed by a fault left a line in the kernel's log; the files tell which
//! function that was, and what it calls; last words are known by a table. Whether a fault was a call of the vsyscall page is
//! decided by the instruction's address alone: the address that was accessed differs from kernel to kernel.

mod code;
mod log;
mod refused;
mod said;

use serde::{Deserialize, Serialize};

use crate::elf::Elf;
use crate::vsyscall::{self, Function};
use log::{Line, What};
pub use refused::{REFUSALS, Refused};

/// A cause, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// One sentence, without a full stop.
    pub sentence: String,
    /// What helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether there is no doubt; what is only likely is told to who asks.
    #[serde(default)]
    pub certain: bool,
}

/// What is known of a system call, by its name.
pub type OfCall<'a, T> = dyn Fn(&str) -> Option<T> + 'a;

/// What is known of an end.
#[derive(Clone, Default)]
pub struct Evidence<'a> {
    /// 128 + the signal, or what the command said.
    pub code: i32,
    /// The first process, as the kernel's log numbers it.
    pub pid: i32,
    /// When it began, in microseconds of the kernel's log.
    pub since: u64,
    /// The end of the kernel's log.
    pub log: &'a str,
    /// The command, as it was given.
    pub command: &'a str,
    /// The last lines that it wrote.
    pub said: &'a str,
    /// Its cgroup, below the hierarchy's mount point.
    pub cgroup: &'a str,
    /// That cgroup's limit in bytes, if it has one.
    pub memory: Option<i64>,
    /// The kernel counted a kill for lack of memory in it.
    pub memory_kill: bool,
    /// What this processor has (`flags` of /proc/cpuinfo).
    pub processor: &'a str,
    /// System calls that a tracer saw refused, in order.
    pub refused: &'a [Refused],
    /// The errno that its seccomp filter answers a call with, whatever its arguments.
    pub filter: Option<&'a OfCall<'a, i32>>,
    /// The capability that a call takes.
    pub capability: Option<&'a OfCall<'a, String>>,
}

/// The container's files.
pub trait Files {
    /// A program or library by its path, or by its last name: its path and its bytes.
    fn find(&self, name: &str) -> Option<(String, Vec<u8>)>;
}

/// Codes by which a fault shows: of the process, or of a shell that ran it.
const FAULTS: &[i32] = &[132, 133, 134, 135, 136, 139, 159];

/// Whether the kernel's log is worth a look.
pub fn needs_log(code: i32, memory_kill: bool) -> bool {
    FAULTS.contains(&code) || memory_kill || code == 137
}

/// Why it ended; `None` if there is nothing to explain.
pub fn explain(evidence: &Evidence<'_>, files: &dyn Files) -> Option<Cause> {
    if evidence.code == 0 {
        return None;
    }
    let lines = log::parse(evidence.log);
    if evidence.memory_kill || evidence.code == 137 {
        let memory = lines.iter().rev().find_map(|line| memory(evidence, line));
        let counted = || evidence.memory_kill.then(|| lack_of_memory("", own_limit(evidence)));
        if let Some(cause) = memory.or_else(counted) {
            return Some(cause);
        }
    }
    let said = said::cause(evidence.said);
    let line = pick(evidence, &lines, files).filter(|_| FAULTS.contains(&evidence.code));
    // Process 1 cannot abort by SIGABRT, which it ignores: a privileged instruction ends it.
    let aborts = line.is_none_or(|line| matches!(line.what, What::Trap { .. }));
    if aborts && let Some(said) = said.clone().filter(|said| said.certain) {
        return Some(said);
    }
    let fault = line.and_then(|line| fault(evidence, line, files));
    fault
        .or_else(|| refused::cause(evidence))
        .or_else(|| refused::possible(evidence, files))
        .or(said)
        .or_else(|| unexplained(evidence, files))
}

/// The line about its end: of the first process, else the last one that can be of a process of its own.
fn pick<'a>(evidence: &Evidence<'_>, lines: &'a [Line], files: &dyn Files) -> Option<&'a Line> {
    let deadly = |line: &&Line| !matches!(line.what, What::Memory { .. });
    let recent = |line: &&Line| line.time.is_none_or(|time| time >= evidence.since);
    let mut candidates = lines.iter().rev().filter(deadly).filter(recent);
    let own = candidates.clone().find(|line| line.pid == evidence.pid);
    own.or_else(|| {
        candidates.find(|line| {
            let mapped = line.place.as_ref().is_some_and(|p| files.find(&p.name).is_some());
            mapped || files.find(&line.comm).is_some()
        })
    })
}

fn signal_name(code: i32) -> &'static str {
    match code - 128 {
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        31 => "SIGSYS",
        _ => "a signal",
    }
}

fn fault(evidence: &Evidence<'_>, line: &Line, files: &dyn Files) -> Option<Cause> {
    let who = match line.pid == evidence.pid {
        true => line.comm.clone(),
        false => format!("{} (process {} of it)", line.comm, line.pid),
    };
    if line.ip & !0xc00 == vsyscall::PAGE {
        return Some(vsyscall_call(&who, line, files));
    }
    match &line.what {
        What::Fault { at, error } => Some(segmentation_fault(&who, line, *at, *error, files)),
        What::Trap { words } => Some(trap(evidence, &who, line, words, files)),
        What::Seccomp { architecture, call } => Some(Cause {
            sentence: format!(
                "{who} was killed by SIGSYS: its seccomp profile kills who calls {}",
                code::call_name(*architecture, *call)
            ),
            hint: Some("allow the call in the profile, or answer it with an error (SCMP_ACT_ERRNO)".into()),
            certain: true,
        }),
        What::Vsyscall | What::Memory { .. } => None,
    }
}

fn vsyscall_call(who: &str, line: &Line, files: &dyn Files) -> Cause {
    let function = Function::at(line.ip).map_or("a function", Function::name);
    let caller = files.find(&line.comm).and_then(|(path, bytes)| {
        let elf = Elf::parse(&bytes).ok()?;
        let here = vsyscall::find(&elf)
            .into_iter()
            .find(|s| Function::at(line.ip) == Some(s.function));
        let symbol = here.and_then(|site| code::symbol(&bytes, &elf, site.mov));
        here.map(|_| symbol.map_or_else(|| format!(" (in {path})"), |s| format!(" (in {s} of {path})")))
    });
    Cause {
        sentence: format!(
            "{who} was killed by SIGSEGV: it called {function} at {:#x}, in the vsyscall page, which this kernel does not have{}",
            line.ip,
            caller.unwrap_or_default()
        ),
        hint: Some(
            "berth mends this in the image's files unless --compat=off is given; --compat=supervise also helps packed programs and \
             files that came later"
                .into(),
        ),
        certain: true,
    }
}

/// `in f+0x12 of /lib/libx.so`, as far as that can be told.
fn whereabouts(line: &Line, files: &dyn Files) -> (String, Option<(String, Vec<u8>, u64)>) {
    let Some(place) = &line.place else {
        return (format!("at {:#x}, where nothing is mapped", line.ip), None);
    };
    let Some((path, bytes)) = files.find(&place.name) else {
        return (format!("in {}", place.name), None);
    };
    let found = Elf::parse(&bytes).ok().and_then(|elf| {
        let offset = code::offset(&elf, place)?;
        let shown = match code::symbol(&bytes, &elf, offset) {
            Some(symbol) => format!("in {symbol} of {path}"),
            None => format!("at byte {offset:#x} of {path}"),
        };
        Some((shown, offset))
    });
    match found {
        Some((shown, offset)) => (shown, Some((path, bytes, offset))),
        None => (format!("in {path}"), None),
    }
}

fn segmentation_fault(who: &str, line: &Line, at: u64, error: u32, files: &dyn Files) -> Cause {
    let verb = match (error & 16 != 0, error & 2 != 0) {
        (true, _) => "executed",
        (false, true) => "wrote to",
        (false, false) => "read",
    };
    let (shown, _) = whereabouts(line, files);
    let state = match error & 1 != 0 {
        true => "which it may not",
        false if at < 0x10000 => "a null pointer",
        false => "where nothing is mapped",
    };
    Cause {
        sentence: format!(
            "{who} was killed by SIGSEGV: it {verb} {at:#x}, {state}, {shown}; this is no call of the vsyscall page"
        ),
        hint: None,
        certain: true,
    }
}

fn trap(evidence: &Evidence<'_>, who: &str, line: &Line, words: &str, files: &dyn Files) -> Cause {
    let signal = signal_name(evidence.code);
    let (shown, found) = whereabouts(line, files);
    let instruction = found.and_then(|(_, bytes, offset)| code::instruction(&Elf::parse(&bytes).ok()?, offset));
    let plain = Cause {
        sentence: format!("{who} was killed by {signal}: {words}, {shown}"),
        hint: None,
        certain: true,
    };
    let Some(instruction) = instruction.filter(|_| words.contains("invalid opcode")) else {
        return plain;
    };
    let name = &instruction.name;
    if instruction.deliberate {
        return Cause {
            sentence: format!("{who} was killed by {signal}: it ended itself with {name}, {shown}"),
            ..plain
        };
    }
    let has = |feature: &String| {
        evidence
            .processor
            .split_whitespace()
            .any(|f| f.replace('_', "") == feature.replace('_', ""))
    };
    let missing: Vec<&str> = instruction
        .needs
        .iter()
        .filter(|n| !has(n))
        .map(String::as_str)
        .collect();
    let level = instruction.level.map(|l| format!(" ({l})")).unwrap_or_default();
    let set = missing
        .first()
        .copied()
        .or(instruction.needs.first().map(String::as_str))
        .unwrap_or("no set");
    let state = if missing.is_empty() {
        "which this processor has"
    } else {
        "which this processor does not have"
    };
    Cause {
        sentence: format!(
            "{who} was killed by {signal}: the instruction {name} belongs to {set}{level}, {state}, {shown}"
        ),
        hint: (!missing.is_empty()).then(|| "an image built for an older processor, or qemu-user".into()),
        certain: true,
    }
}

/// A kill for lack of memory, if the line tells of one of ours.
fn memory(evidence: &Evidence<'_>, line: &Line) -> Option<Cause> {
    let What::Memory { limit, task } = &line.what else {
        return None;
    };
    let own = |path: &str| !evidence.cgroup.is_empty() && path.contains(evidence.cgroup.trim_end_matches('/'));
    if !own(task) {
        return None;
    }
    let whose = match limit {
        None => " by the host, whose memory was used up".to_owned(),
        Some(path) if own(path) => own_limit(evidence),
        Some(path) => format!(" by the limit of the cgroup {path}, which is above the container's own"),
    };
    Some(lack_of_memory(
        &format!(": {} (process {})", line.comm, line.pid),
        whose,
    ))
}

fn own_limit(evidence: &Evidence<'_>) -> String {
    match evidence.memory {
        Some(bytes) => format!(" by the limit of its own cgroup, {} MiB", bytes >> 20),
        None => " by the limit of its own cgroup".into(),
    }
}

fn lack_of_memory(who: &str, whose: String) -> Cause {
    let hint = match whose.contains("its own cgroup") {
        true => "raise its --memory",
        false => "the container's own limit was not reached: more memory is needed there",
    };
    Cause {
        sentence: format!("the container was killed for lack of memory{whose}{who}"),
        hint: Some(hint.into()),
        certain: true,
    }
}

/// A signal of which the log says nothing.
fn unexplained(evidence: &Evidence<'_>, files: &dyn Files) -> Option<Cause> {
    if !FAULTS.contains(&evidence.code) && evidence.code != 137 {
        return None;
    }
    let signal = signal_name(evidence.code);
    let calls = evidence.code == 139
        && files.find(evidence.command).is_some_and(|(_, bytes)| {
            Elf::parse(&bytes).is_ok_and(|elf| vsyscall::find(&elf).iter().any(vsyscall::Site::is_call))
        });
    let (sentence, hint) = match (evidence.code, calls) {
        (_, true) => (
            format!(
                "it ended by {signal}, and the kernel's log does not say where; its program calls the vsyscall page"
            ),
            Some("if this kernel has none (vsyscall=none), that is it".to_owned()),
        ),
        (134, _) => (
            "its program ended itself (abort)".into(),
            Some("its last words may say why: berth logs".into()),
        ),
        (137, _) => ("it was killed (SIGKILL), and not for lack of memory".into(), None),
        _ => (
            format!(
                "it ended by {signal}, and the kernel's log says nothing of it: somebody sent it, or the log was full"
            ),
            None,
        ),
    };
    Some(Cause {
        sentence,
        hint,
        certain: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;
    impl Files for Nothing {
        fn find(&self, _: &str) -> Option<(String, Vec<u8>)> {
            None
        }
    }

    fn why(code: i32, log: &str, said: &str) -> Option<String> {
        let evidence = Evidence {
            code,
            pid: 7,
            since: 1_000_000,
            log,
            said,
            cgroup: "/berth/abc",
            memory: Some(32 << 20),
            ..Default::default()
        };
        explain(&evidence, &Nothing).map(|cause| cause.sentence)
    }

    #[test]
    fn a_vsyscall_is_told_from_other_faults_by_the_instruction() {
        let log = "[ 2.0] a[7] vsyscall attempted with vsyscall=none ip:ffffffffff600400 cs:33 sp:7f ax:0 si:0 di:0\n\
                   [ 2.0] a[7]: segfault at 0 ip ffffffffff600400 sp 7f error 15";
        assert!(
            why(139, log, "")
                .unwrap()
                .contains("called time at 0xffffffffff600400, in the vsyscall page")
        );
        let log = "[ 2.0] a[7]: segfault at ffffffffff600400 ip 401000 sp 7f error 4 in a[1000,401000+1000]";
        let other = why(139, log, "").unwrap();
        assert!(
            other.contains("it read 0xffffffffff600400") && other.contains("no call of the vsyscall page"),
            "{other}"
        );
    }

    #[test]
    fn old_lines_and_other_processes_are_not_ours() {
        let old = "[ 0.5] a[8]: segfault at 0 ip 401000 sp 7f error 4 in a[1000,401000+1000]";
        assert!(why(139, old, "").unwrap().contains("says nothing of it"));
        let other = "[ 2.0] a[8]: segfault at 0 ip 401000 sp 7f error 4 in a[1000,401000+1000]";
        assert!(why(139, other, "").unwrap().contains("says nothing of it"));
    }

    #[test]
    fn memory_is_told_with_whose_limit_it_was() {
        let log = |of: &str| format!("oom-kill:constraint=C,oom_memcg={of},task_memcg=/berth/abc,task=sh,pid=9,uid=0");
        assert!(
            why(137, &log("/berth/abc"), "")
                .unwrap()
                .contains("its own cgroup, 32 MiB: sh (process 9)")
        );
        assert!(
            why(137, &log("/berth"), "")
                .unwrap()
                .contains("the cgroup /berth, which is above")
        );
        let host = "oom-kill:constraint=CONSTRAINT_NONE,task_memcg=/berth/abc,task=sh,pid=9,uid=0";
        assert!(why(137, host, "").unwrap().contains("by the host"));
        assert!(why(137, "", "").unwrap().contains("not for lack of memory"));
    }

    #[test]
    fn a_good_end_and_a_plain_failure_need_no_words() {
        assert_eq!((why(0, "", ""), why(1, "", "no such user")), (None, None));
        assert!(
            why(134, "", "FATAL: kernel too old")
                .unwrap()
                .contains("refuses this kernel's release")
        );
    }
}
