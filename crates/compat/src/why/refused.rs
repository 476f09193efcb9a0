//! System calls that were refused: as a tracer saw them (`--compat=trace`), else as a program's last words name them.

use super::{Cause, Evidence, Files, code};
use crate::facts::syscalls;
use crate::syscalls::graph_of;

/// EPERM, EACCES, EROFS, ENOSYS: answers that are worth a look.
pub const REFUSALS: &[i32] = &[1, 13, 30, ENOSYS];
const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

/// One that a tracer saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The program, as it was executed.
    pub comm: String,
    /// `AUDIT_ARCH_*`.
    pub architecture: u32,
    /// The call's number.
    pub call: u32,
    /// The answer.
    pub errno: i32,
}

/// A line of what a tracer writes down.
impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let comm: String = self.comm.chars().filter(|c| !c.is_control()).collect();
        write!(f, "{:x} {} {} {comm}", self.architecture, self.call, self.errno)
    }
}

impl Refused {
    /// Reads such a line.
    pub fn parse(line: &str) -> Option<Refused> {
        let mut words = line.splitn(4, ' ');
        Some(Refused {
            architecture: u32::from_str_radix(words.next()?, 16).ok()?,
            call: words.next()?.parse().ok()?,
            errno: words.next()?.parse().ok()?,
            comm: words.next()?.to_owned(),
        })
    }
}

/// What C libraries print for an errno, and its name.
fn words_of(errno: i32) -> (&'static str, &'static str) {
    match errno {
        EPERM => ("Operation not permitted", "EPERM"),
        13 => ("Permission denied", "EACCES"),
        30 => ("Read-only file system", "EROFS"),
        _ => ("Function not implemented", "ENOSYS"),
    }
}

/// Calls that are named where any of them may have been it.
const POSSIBLE: usize = 6;

fn said<'a>(evidence: &Evidence<'a>, errno: i32) -> Option<&'a str> {
    let mut lines = evidence.said.lines().rev();
    lines.find(|line| line.contains(words_of(errno).0))
}

/// Words that name no call: those that the program imports from its C library, and that its filter answers so.
pub fn possible(evidence: &Evidence<'_>, files: &dyn Files) -> Option<Cause> {
    let (errno, line) = [EPERM, ENOSYS]
        .into_iter()
        .find_map(|errno| Some((errno, said(evidence, errno)?)))?;
    let filter = evidence.filter?;
    let (path, bytes) = files.find(evidence.command)?;
    let mut calls = graph_of(&bytes)?.names;
    calls.retain(|name| syscalls::by_name(name).is_some() && filter(name) == Some(errno));
    calls.sort();
    calls.truncate(POSSIBLE);
    (!calls.is_empty()).then(|| Cause {
        sentence: format!(
            "a system call was answered with {} by its seccomp profile, which does so to {} of those that {path} calls: it said {:?}",
            words_of(errno).1,
            calls.join(", "),
            printable(line)
        ),
        hint: Some("--compat=trace tells for sure".into()),
        certain: false,
    })
}

/// The refusal that a program ended with: the last one that its last words agree with; else the last one of those that
/// programs seldom survive.
pub fn cause(evidence: &Evidence<'_>) -> Option<Cause> {
    let said = |errno: i32| said(evidence, errno);
    let mut seen = evidence.refused.iter().rev();
    let told = seen.clone().find(|r| said(r.errno).is_some());
    let last = || seen.find(|r| matches!(r.errno, EPERM | ENOSYS));
    if let Some(refused) = told.or_else(last) {
        let call = code::call_name(refused.architecture, refused.call);
        return Some(Cause {
            certain: said(refused.errno).is_some(),
            ..sentence(evidence, &refused.comm, &call, refused.errno)
        });
    }
    // Nobody looked: perror(3) prints the function's name, which most often is the call's.
    let (errno, line) = [EPERM, ENOSYS]
        .into_iter()
        .find_map(|errno| Some((errno, said(errno)?)))?;
    let before = &line[..line.find(words_of(errno).0)?];
    let mut words = before.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let call = words.rfind(|word| syscalls::by_name(word).is_some())?;
    let named = sentence(evidence, "it", call, errno);
    let told = "; --compat=trace tells for sure";
    Some(Cause {
        sentence: format!("{}: it said {:?}", named.sentence, printable(line)),
        hint: Some(
            format!("{}{told}", named.hint.unwrap_or_default())
                .trim_start_matches("; ")
                .to_owned(),
        ),
        certain: false,
    })
}

fn printable(line: &str) -> String {
    line.trim().chars().filter(|c| !c.is_control()).take(200).collect()
}

fn sentence(evidence: &Evidence<'_>, who: &str, call: &str, errno: i32) -> Cause {
    let name = words_of(errno).1;
    let filtered = evidence.filter.is_some_and(|filter| filter(call) == Some(errno));
    let capability = evidence.capability.and_then(|of| of(call));
    let (by, hint) = match (filtered, errno, capability) {
        (true, _, Some(cap)) => (
            format!("by its seccomp profile, which allows it to who has {cap}"),
            Some(format!("--cap-add {cap}, if it is trusted")),
        ),
        (true, ENOSYS, None) => ("by its seccomp profile, which does not know the call".into(), None),
        (true, _, None) => (
            "by its seccomp profile".into(),
            Some("--security-opt seccomp=PROFILE with one that allows it".into()),
        ),
        (false, ENOSYS, _) => (
            "by the kernel, which does not have it, or not in this form".into(),
            None,
        ),
        (false, EPERM, Some(cap)) => (
            format!("by the kernel: it takes {cap}, perhaps of the host's user namespace"),
            Some(format!(
                "--cap-add {cap} where the container has not got it; --userns=host if it is trusted"
            )),
        ),
        _ => ("by the kernel".into(), None),
    };
    Cause {
        sentence: format!("{who} called {call}, which was answered with {name} {by}"),
        hint,
        certain: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence<'a>(said: &'a str, refused: &'a [Refused]) -> Evidence<'a> {
        Evidence {
            code: 1,
            said,
            refused,
            filter: Some(&|call| (call == "mount").then_some(EPERM)),
            capability: Some(&|call| (call == "mount").then(|| "CAP_SYS_ADMIN".to_owned())),
            ..Default::default()
        }
    }

    #[test]
    fn what_was_seen_is_told_and_what_was_said_is_likely() {
        let seen = |call, errno| Refused {
            comm: "tool".into(),
            architecture: 0xc000_003e,
            call,
            errno,
        };
        let list = [seen(165, EPERM), seen(435, ENOSYS), seen(257, 13)];
        let told = cause(&evidence("tool: mount: Operation not permitted\n", &list)).unwrap();
        assert!(
            told.certain
                && told
                    .sentence
                    .contains("tool called mount, which was answered with EPERM by its seccomp")
        );
        assert!(
            told.sentence.ends_with("allows it to who has CAP_SYS_ADMIN"),
            "{told:?}"
        );
        let last = cause(&evidence("bye\n", &list)).unwrap();
        assert!(
            !last.certain
                && last
                    .sentence
                    .contains("clone3, which was answered with ENOSYS by the kernel"),
            "{last:?}"
        );
        let named = cause(&evidence("x: sethostname(): Function not implemented\n", &[])).unwrap();
        assert!(
            !named.certain && named.sentence.contains("it called sethostname"),
            "{named:?}"
        );
        assert!(cause(&evidence("something: Operation not permitted\n", &[])).is_none());
        assert!(cause(&evidence("all is well\n", &[])).is_none());
    }

    #[test]
    fn words_without_a_call_are_told_with_those_that_may_have_been_it() {
        struct Unshare;
        impl Files for Unshare {
            fn find(&self, name: &str) -> Option<(String, Vec<u8>)> {
                let path = format!("/usr/bin/{name}");
                std::fs::read(&path).ok().map(|bytes| (path, bytes))
            }
        }
        let told = |command, said| {
            let evidence = Evidence {
                command,
                ..evidence(said, &[])
            };
            possible(&evidence, &Unshare).map(|cause| cause.sentence)
        };
        let words = "something: Operation not permitted";
        let sentence = told("unshare", words).unwrap();
        assert!(
            sentence.contains("answered with EPERM by its seccomp profile, which does so to mount of those that /usr/bin/unshare calls"),
            "{sentence}"
        );
        assert_eq!(
            (
                told("unshare", "Function not implemented"),
                told("true", words),
                told("none", words)
            ),
            (None, None, None)
        );
    }

    #[test]
    fn lines_come_back() {
        let refused = Refused {
            comm: "a b\n".into(),
            architecture: 0xc000_003e,
            call: 165,
            errno: 1,
        };
        let back = Refused::parse(&refused.to_string()).unwrap();
        assert_eq!((back.comm.as_str(), back.call, back.errno), ("a b", 165, 1));
        for bad in ["", "x 1 1 a", "c000003e 1", "c000003e -1 1 a"] {
            assert_eq!(Refused::parse(bad), None, "{bad}");
        }
    }
}
