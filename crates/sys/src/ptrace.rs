//! Watching other processes (ptrace(2)), as much of it as answering faults takes; x86-64 alone.

use syscalls::{Sysno, syscall};

use crate::{Result, errno};

const CONT: u32 = 7;
const SETREGS: u32 = 13;
const GETREGS: u32 = 12;
const SEIZE: u32 = 0x4206;
const LISTEN: u32 = 0x4208;
/// fork, vfork and clone are followed; all die with us.
const OPTIONS: u32 = (1 << 1) | (1 << 2) | (1 << 3) | (1 << 20);

/// `struct user_regs_struct`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// Begins to watch a process, and all that it will make, without stopping it.
pub fn seize(pid: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    unsafe { syscall!(Sysno::ptrace, SEIZE, pid, 0, OPTIONS) }
        .map(drop)
        .map_err(errno)
}

/// Lets one go on, with a signal if it is not 0.
pub fn go_on(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    unsafe { syscall!(Sysno::ptrace, CONT, pid, 0, signal) }
        .map(drop)
        .map_err(errno)
}

/// Leaves one stopped that was stopped as part of its job.
pub fn listen(pid: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    unsafe { syscall!(Sysno::ptrace, LISTEN, pid, 0, 0) }
        .map(drop)
        .map_err(errno)
}

/// Its registers.
pub fn registers(pid: i32) -> Result<Registers> {
    let mut registers = Registers::default();
    // SAFETY: the structure has the kernel's layout and lives through the call.
    unsafe { syscall!(Sysno::ptrace, GETREGS, pid, 0, &raw mut registers) }.map_err(errno)?;
    Ok(registers)
}

/// Gives it others.
pub fn set_registers(pid: i32, registers: &Registers) -> Result<()> {
    // SAFETY: the structure has the kernel's layout and lives through the call; the kernel only reads it.
    unsafe { syscall!(Sysno::ptrace, SETREGS, pid, 0, &raw const *registers) }
        .map(drop)
        .map_err(errno)
}

/// What happened to one of those that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A signal is about to reach it.
    Signal(i32),
    /// It was stopped by a stop signal, with others of its job.
    Group,
    /// It made another, or is one that was just made.
    Event,
    /// It is gone.
    Gone,
}

/// Waits for the next; `None` once none is left.
pub fn wait() -> Result<Option<(i32, Stop)>> {
    const WALL: u32 = 0x4000_0000;
    const EVENT_STOP: i32 = 128;
    const STOP_SIGNALS: [i32; 4] = [19, 20, 21, 22];
    let mut status = 0i32;
    // SAFETY: the number lives through the call, and the kernel writes no more than it.
    let pid = match unsafe { syscall!(Sysno::wait4, usize::MAX, &raw mut status, WALL, 0) } {
        Ok(pid) => pid as i32,
        Err(syscalls::Errno::ECHILD) => return Ok(None),
        Err(e) => return Err(errno(e)),
    };
    let (low, signal, event) = (status & 0xff, (status >> 8) & 0xff, status >> 16);
    let stop = match (low, event) {
        (0x7f, 0) => Stop::Signal(signal),
        (0x7f, EVENT_STOP) if STOP_SIGNALS.contains(&signal) => Stop::Group,
        (0x7f, _) => Stop::Event,
        _ => Stop::Gone,
    };
    Ok(Some((pid, stop)))
}
