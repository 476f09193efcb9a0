//! Lines of the kernel's log that tell of a death: faults, traps, calls of the vsyscall page, seccomp, lack of memory.
//!
//! The forms are those of Linux 5.10 to 7.x (arch/x86/mm/fault.c, arch/x86/kernel/traps.c, vsyscall_64.c, kernel/auditsc.c,
//! mm/oom_kill.c). A line that is none of them tells nothing.

/// A mapped file, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's last name.
    pub name: String,
    /// Bytes from the start of the file, if the kernel says so.
    pub offset: Option<u64>,
    /// Bytes from the start of the mapping.
    pub within: u64,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `segfault at`.
    Fault {
        /// What was accessed.
        at: u64,
        /// Bits: 1 protection, 2 write, 16 instruction.
        error: u32,
    },
    /// `traps: ...`: invalid opcode, divide error, general protection.
    Trap {
        /// In the kernel's words.
        words: String,
    },
    /// `vsyscall attempted with vsyscall=none`.
    Vsyscall,
    /// A seccomp filter killed it.
    Seccomp {
        /// `AUDIT_ARCH_*`.
        architecture: u32,
        /// The call's number.
        call: u32,
    },
    /// A cgroup, or the host, lacked memory.
    Memory {
        /// Whose limit it was; `None` is the host's memory.
        limit: Option<String>,
        /// Where the process was.
        task: String,
    },
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Microseconds since the kernel began, if the log says so.
    pub time: Option<u64>,
    /// The process, in the first pid namespace.
    pub pid: i32,
    /// Its name, as it was executed.
    pub comm: String,
    /// The instruction.
    pub ip: u64,
    /// Where that is.
    pub place: Option<Place>,
    /// What happened.
    pub what: What,
}

/// All of them, in order.
pub fn parse(log: &str) -> Vec<Line> {
    log.lines().filter_map(line).collect()
}

/// `<6>[   12.345678] text`
fn line(line: &str) -> Option<Line> {
    let text = line
        .split_once('>')
        .filter(|_| line.starts_with('<'))
        .map_or(line, |(_, rest)| rest);
    let (time, text) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((time, rest)) => (microseconds(time.trim()), rest.trim_start()),
        None => (None, text),
    };
    let mut found = memory(text)
        .or_else(|| seccomp(text))
        .or_else(|| vsyscall(text))
        .or_else(|| fault(text))
        .or_else(|| trap(text))?;
    found.time = time;
    Some(found)
}

fn microseconds(text: &str) -> Option<u64> {
    let (seconds, rest) = text.split_once('.')?;
    seconds
        .parse::<u64>()
        .ok()?
        .checked_mul(1_000_000)?
        .checked_add(rest.parse().ok()?)
}

fn hex(text: &str) -> Option<u64> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_hexdigit()).len();
    u64::from_str_radix(&text[..digits], 16).ok()
}

/// What stands behind a word, up to a space.
fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let rest = &text[text.find(word)? + word.len()..];
    rest.split([' ', ',']).next()
}

/// `name[pid]`
fn process(text: &str) -> Option<(String, i32)> {
    let (comm, pid) = text.strip_suffix(']')?.rsplit_once('[')?;
    Some((comm.to_owned(), pid.parse().ok()?))
}

/// ` in name[offset,base+size]`, or before Linux 6.8 ` in name[base+size]`.
fn place(text: &str, ip: u64) -> Option<Place> {
    let rest = &text[text.rfind(" in ")? + 4..];
    let (name, rest) = rest.split_once('[')?;
    let (inside, _) = rest.split_once(']')?;
    let (offset, range) = match inside.split_once(',') {
        Some((offset, range)) => (Some(hex(offset)?), range),
        None => (None, inside),
    };
    let base = hex(range.split_once('+')?.0)?;
    Some(Place {
        name: name.into(),
        offset,
        within: ip.checked_sub(base)?,
    })
}

fn of(comm: String, pid: i32, ip: u64, text: &str, what: What) -> Option<Line> {
    let place = place(text, ip);
    Some(Line {
        time: None,
        pid,
        comm,
        ip,
        place,
        what,
    })
}

/// `sh[12]: segfault at 0 ip 000055ad04588132 sp 00007fffa5a1d670 error 6 in sh[1132,55ad04588000+1000]`
fn fault(text: &str) -> Option<Line> {
    let (who, rest) = text.split_once(": segfault at ")?;
    let (comm, pid) = process(who)?;
    let what = What::Fault {
        at: hex(rest)?,
        error: u32::try_from(hex(after(rest, " error ")?)?).ok()?,
    };
    of(comm, pid, hex(after(rest, " ip ")?)?, rest, what)
}

/// `traps: sh[12] trap invalid opcode ip:561b17d7012d sp:7fffaeaeaf00 error:0 in sh[112d,561b17d70000+1000]`
fn trap(text: &str) -> Option<Line> {
    let rest = text.strip_prefix("traps: ").unwrap_or(text);
    let (before, after_ip) = rest.split_once(" ip:")?;
    let end = before.find("] ")? + 1;
    let (comm, pid) = process(&before[..end])?;
    let words = before[end..].trim().trim_start_matches("trap ").to_owned();
    let sensible = after_ip.contains(" sp:") && after_ip.contains(" error:");
    sensible.then(|| of(comm, pid, hex(after_ip)?, after_ip, What::Trap { words }))?
}

/// `sh[12] vsyscall attempted with vsyscall=none ip:ffffffffff600400 cs:33 ...`
fn vsyscall(text: &str) -> Option<Line> {
    let (who, rest) = text.split_once(" vsyscall attempted with vsyscall=none")?;
    let (comm, pid) = process(who)?;
    of(comm, pid, hex(after(rest, "ip:")?)?, "", What::Vsyscall)
}

/// `audit: type=1326 audit(...): ... pid=12 comm="sh" exe="/bin/sh" sig=31 arch=c000003e syscall=165 compat=0 ip=0x... code=0x80000000`
fn seccomp(text: &str) -> Option<Line> {
    if !text.contains("type=1326 ") {
        return None;
    }
    let comm = after(text, " comm=")?.trim_matches('"').to_owned();
    let what = What::Seccomp {
        architecture: u32::try_from(hex(after(text, " arch=")?)?).ok()?,
        call: after(text, " syscall=")?.parse().ok()?,
    };
    let ip = after(text, " ip=").and_then(hex).unwrap_or(0);
    of(comm, after(text, " pid=")?.parse().ok()?, ip, "", what)
}

/// `oom-kill:constraint=CONSTRAINT_MEMCG,...,oom_memcg=/berth/ID,task_memcg=/berth/ID,task=sh,pid=12,uid=0`
fn memory(text: &str) -> Option<Line> {
    let rest = text.strip_prefix("oom-kill:")?;
    let what = What::Memory {
        limit: after(rest, ",oom_memcg=").map(String::from),
        task: after(rest, ",task_memcg=")?.to_owned(),
    };
    let pid = after(rest, ",pid=")?.parse().ok()?;
    of(after(rest, ",task=")?.to_owned(), pid, 0, "", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Line {
        parse(text).pop().unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn faults_of_old_and_new_kernels_are_read() {
        let new = one(
            "<6>[  714.447908] mend-crash[25953]: segfault at 0 ip 000055ad04588132 sp 00007fffa5a1d670 error 6 in \
             mend-crash[1132,55ad04588000+1000] likely on CPU 1 (core 1, socket 0)",
        );
        let place = Place {
            name: "mend-crash".into(),
            offset: Some(0x1132),
            within: 0x132,
        };
        assert_eq!(
            (new.pid, new.time, new.ip),
            (25953, Some(714_447_908), 0x55ad_0458_8132)
        );
        assert_eq!((new.place, new.what), (Some(place), What::Fault { at: 0, error: 6 }));
        let old = one("[ 1.5] sh[7]: segfault at ffffffffff600400 ip ffffffffff600400 sp 0000 error 15");
        assert_eq!((old.ip, old.place), (0xffff_ffff_ff60_0400, None));
        let named = one("a [b] c[8]: segfault at 8 ip 401010 sp 0 error 4 in a [b] c[401000+1000]");
        assert_eq!((named.comm.as_str(), named.pid), ("a [b] c", 8));
    }

    #[test]
    fn traps_seccomp_and_memory_are_read() {
        let trap = one("traps: a[9] trap invalid opcode ip:40112d sp:7ff error:0 in a[112d,401000+1000]");
        assert_eq!(
            trap.what,
            What::Trap {
                words: "invalid opcode".into()
            }
        );
        let trap =
            one("<6>[ 2.0] traps: a[9] general protection fault ip:e4ba7c sp:7f error:0 in b[c4aa7c,5fd000+90e000]");
        assert_eq!(
            trap.what,
            What::Trap {
                words: "general protection fault".into()
            }
        );
        let call = one(
            "audit: type=1326 audit(1.2:3): auid=4294967295 uid=0 gid=0 ses=4294967295 subj=unconfined pid=44 comm=\"sh\" \
             exe=\"/bin/sh\" sig=31 arch=c000003e syscall=165 compat=0 ip=0x7f code=0x80000000",
        );
        assert_eq!(
            call.what,
            What::Seccomp {
                architecture: 0xc000_003e,
                call: 165
            }
        );
        let memory = one(
            "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=sh,pid=7,uid=0",
        );
        let what = What::Memory {
            limit: Some("/a".into()),
            task: "/a/b".into(),
        };
        assert_eq!((memory.pid, memory.what), (7, what));
        assert!(parse("traps: nonsense ip:\nx[: segfault at \noom-kill:\n<\n[").is_empty());
    }
}
