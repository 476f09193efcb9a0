//! Seccomp filters: the document's rules to a BPF program (seccomp(2)), and the default profile.
//!
//! The program looks a call up by binary search over its number, where libseccomp's goes through the list: a call costs
//! some eight instructions instead of some hundreds.

mod bpf;
mod cache;
mod default;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use errdefs::{Error, Result};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSyscall,
};
use sys::seccomp::{Instruction, flag};

pub(crate) use cache::compile_in;
pub use default::{capability_of, default_profile, recent_calls};

const ENOSYS: u32 = 38;
const EPERM: u32 = 1;

/// The kernel's actions (seccomp(2), "return values").
pub(crate) mod action {
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    pub const KILL_THREAD: u32 = 0;
    pub const TRAP: u32 = 0x0003_0000;
    pub const ERRNO: u32 = 0x0005_0000;
    pub const TRACE: u32 = 0x7ff0_0000;
    pub const LOG: u32 = 0x7ffc_0000;
    pub const ALLOW: u32 = 0x7fff_0000;
    pub const NOTIFY: u32 = 0x7fc0_0000;
}

/// An architecture that a filter decides for.
#[derive(Clone, Copy, PartialEq)]
enum Table {
    X86_64,
    X86,
    Aarch64,
    Arm,
}

impl Table {
    #[cfg(target_arch = "x86_64")]
    const NATIVE: Table = Table::X86_64;
    #[cfg(target_arch = "aarch64")]
    const NATIVE: Table = Table::Aarch64;

    fn of(arch: Arch) -> Option<Self> {
        match arch {
            Arch::ScmpArchNative => Some(Self::NATIVE),
            Arch::ScmpArchX86_64 => Some(Table::X86_64),
            Arch::ScmpArchX86 => Some(Table::X86),
            Arch::ScmpArchAarch64 => Some(Table::Aarch64),
            Arch::ScmpArchArm => Some(Table::Arm),
            // x32's calls have numbers of x86-64's table; its own range is answered with ENOSYS.
            _ => None,
        }
    }

    /// `AUDIT_ARCH_*`.
    fn audit(self) -> u32 {
        match self {
            Table::X86_64 => 0xc000_003e,
            Table::X86 => 0x4000_0003,
            Table::Aarch64 => 0xc000_00b7,
            Table::Arm => 0x4000_0028,
        }
    }

    /// Its calls' numbers by their names.
    fn numbers(self) -> HashMap<&'static str, u32> {
        match self {
            Table::X86_64 => syscalls::x86_64::Sysno::iter()
                .map(|s| (s.name(), s.id() as u32))
                .collect(),
            Table::X86 => syscalls::x86::Sysno::iter()
                .map(|s| (s.name(), s.id() as u32))
                .collect(),
            Table::Aarch64 => syscalls::aarch64::Sysno::iter()
                .map(|s| (s.name(), s.id() as u32))
                .collect(),
            Table::Arm => syscalls::arm::Sysno::iter()
                .map(|s| (s.name(), s.id() as u32))
                .collect(),
        }
    }
}

/// What one call gets: rules with conditions in order, then what holds without any.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    conditional: Vec<(Vec<LinuxSeccompArg>, u32)>,
    otherwise: Option<u32>,
}

/// A program, and the flags for installing it: with [`flag::NEW_LISTENER`] if it passes calls on.
pub(crate) type Compiled = (Vec<Instruction>, u32);

/// A filter that was compiled before it was asked for.
static AHEAD: Mutex<Option<(LinuxSeccomp, Compiled)>> = Mutex::new(None);

/// Compiles a filter that is likely to be asked for next.
pub fn compile_ahead(filter: LinuxSeccomp) -> Result<()> {
    let compiled = compile_now(&filter)?;
    *AHEAD.lock().unwrap_or_else(PoisonError::into_inner) = Some((filter, compiled));
    Ok(())
}

/// How long the program for a filter is; what is wrong with the filter if there is none. For whoever checks it alone.
pub fn length_of(filter: &LinuxSeccomp) -> Result<usize> {
    compile_now(filter).map(|(program, _)| program.len())
}

/// The program for a document's filter.
pub fn compile(filter: &LinuxSeccomp) -> Result<Compiled> {
    match AHEAD.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some((ahead, compiled)) if ahead == *filter => Ok(compiled),
        _ => compile_now(filter),
    }
}

fn compile_now(filter: &LinuxSeccomp) -> Result<Compiled> {
    check_notify(filter)?;
    let default = action_of(filter.default_action(), filter.default_errno_ret())?;
    let mut tables = vec![Table::NATIVE];
    for table in filter.architectures().iter().flatten().filter_map(|a| Table::of(*a)) {
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    let mut sections = Vec::new();
    for table in tables {
        let verdicts = verdicts(filter, table)?;
        // Calls younger than the profile are unknown to it, not forbidden: programs have a way without them.
        let newest = verdicts.keys().next_back().copied().unwrap_or(0);
        let newer = if default == action::ERRNO | EPERM {
            action::ERRNO | ENOSYS
        } else {
            default
        };
        sections.push(bpf::Section {
            audit: table.audit(),
            verdicts,
            newest,
            default,
            newer,
            x32: table == Table::X86_64,
        });
    }
    let program = bpf::assemble(&sections)?;
    Ok((program, flags(filter)))
}

/// The errno that a filter answers a call with, whatever its arguments; `None` if it lets it through, or kills.
pub fn answer_to(filter: &LinuxSeccomp, call: &str) -> Option<i32> {
    let number = *Table::NATIVE.numbers().get(call)?;
    let verdicts = verdicts(filter, Table::NATIVE).ok()?;
    let default = action_of(filter.default_action(), filter.default_errno_ret()).ok()?;
    let newest = verdicts.keys().next_back().copied().unwrap_or(0);
    let action = match verdicts.get(&number) {
        Some(verdict) => verdict.otherwise.unwrap_or(default),
        None if number > newest && default == action::ERRNO | EPERM => action::ERRNO | ENOSYS,
        None => default,
    };
    (action & 0xffff_0000 == action::ERRNO).then_some((action & 0xffff) as i32)
}

/// The specification's flags that this kernel takes.
pub fn supported_flags() -> Vec<&'static str> {
    [
        ("SECCOMP_FILTER_FLAG_TSYNC", flag::TSYNC),
        ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", flag::SPEC_ALLOW),
        ("SECCOMP_FILTER_FLAG_LOG", flag::LOG),
        (
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
            flag::NEW_LISTENER | flag::WAIT_KILLABLE_RECV,
        ),
    ]
    .into_iter()
    .filter(|(_, bits)| sys::seccomp::knows_flags(*bits))
    .map(|(name, _)| name)
    .collect()
}

fn notifies(rule: &LinuxSyscall) -> bool {
    rule.action() == LinuxSeccompAction::ScmpActNotify
}

/// Calls that cannot be passed on: all of them, and those by which the listener itself gets to whoever answers (runc
/// refuses `write`, which is its way, and what engines expect).
fn check_notify(filter: &LinuxSeccomp) -> Result<()> {
    if filter.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(Error::invalid(
            "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action",
        ));
    }
    for rule in filter.syscalls().iter().flatten().filter(|rule| notifies(rule)) {
        if let Some(name) = rule
            .names()
            .iter()
            .find(|name| ["write", "sendmsg"].contains(&name.as_str()))
        {
            return Err(Error::invalid(format!(
                "linux.seccomp.syscalls: SCMP_ACT_NOTIFY cannot be used for the {name} syscall"
            )));
        }
    }
    Ok(())
}

fn flags(filter: &LinuxSeccomp) -> u32 {
    let bit = |flag: &LinuxSeccompFilterFlag| match flag {
        // There is one thread; and a listener does not go with it.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => flag::LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => flag::SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => flag::WAIT_KILLABLE_RECV,
    };
    let all = match filter.flags() {
        Some(flags) => flags.iter().map(bit).fold(0, |all, bit| all | bit),
        // As runc: the barriers cost much and keep out little.
        None => flag::SPEC_ALLOW,
    };
    match filter.syscalls().iter().flatten().any(notifies) {
        true => all | flag::NEW_LISTENER,
        // Only a filter that passes calls on may have it.
        false => all & !flag::WAIT_KILLABLE_RECV,
    }
}

fn verdicts(filter: &LinuxSeccomp, table: Table) -> Result<BTreeMap<u32, Verdict>> {
    let numbers = table.numbers();
    let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
    for rule in filter.syscalls().iter().flatten() {
        let action = action_of(rule.action(), rule.errno_ret())?;
        // Names that this architecture does not have are none of its business.
        for number in rule
            .names()
            .iter()
            .filter_map(|name| numbers.get(name.as_str()).copied())
        {
            let verdict = verdicts.entry(number).or_default();
            match rule.args().as_deref().unwrap_or_default() {
                [] => drop(verdict.otherwise.get_or_insert(action)),
                // Two conditions on one argument: each is a rule of its own (runc's reading of the specification).
                args if repeats(args) => verdict.conditional.extend(args.iter().map(|a| (vec![*a], action))),
                args => verdict.conditional.push((args.to_vec(), action)),
            }
        }
    }
    Ok(verdicts)
}

fn repeats(args: &[LinuxSeccompArg]) -> bool {
    let again = |(at, arg): (usize, &LinuxSeccompArg)| args[..at].iter().any(|a| a.index() == arg.index());
    args.iter().enumerate().any(again)
}

fn action_of(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32> {
    use LinuxSeccompAction::*;
    Ok(match action {
        ScmpActKill | ScmpActKillThread => action::KILL_THREAD,
        ScmpActKillProcess => action::KILL_PROCESS,
        ScmpActTrap => action::TRAP,
        ScmpActErrno => action::ERRNO | (errno.unwrap_or(EPERM) & 0xffff),
        ScmpActTrace => action::TRACE | (errno.unwrap_or(EPERM) & 0xffff),
        ScmpActLog => action::LOG,
        ScmpActAllow => action::ALLOW,
        ScmpActNotify => action::NOTIFY,
    })
}
