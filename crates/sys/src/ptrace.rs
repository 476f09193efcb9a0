//! Watching other processes (ptrace(2)), as much of it as answering faults takes; x86-64 alone.

use syscalls::{Sysno, syscall};

use crate::{Result, errno};

const CONT: u32 = 7;
const SYSCALL: u32 = 24;
const SETREGS: u32 = 13;
const GETREGS: u32 = 12;
const SEIZE: u32 = 0x4206;
const LISTEN: u32 = 0x4208;
const GET_SYSCALL_INFO: u32 = 0x420e;
/// fork, vfork and clone are followed; all die with us.
const OPTIONS: u32 = (1 << 1) | (1 << 2) | (1 << 3) | (1 << 20);
/// Stops at system calls are told from signals, and there is one at each execve.
const CALLS: u32 = 1 | (1 << 4);

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

/// Begins to watch a process, and all that it will make, without stopping it; `calls`: see [`go_on_to_call`].
pub fn seize(pid: i32, calls: bool) -> Result<()> {
    let options = if calls { OPTIONS | CALLS } else { OPTIONS };
    // SAFETY: no memory is passed.
    unsafe { syscall!(Sysno::ptrace, SEIZE, pid, 0, options) }
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

/// Lets one go on up to its next system call, or the end of this one.
pub fn go_on_to_call(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    unsafe { syscall!(Sysno::ptrace, SYSCALL, pid, 0, signal) }
        .map(drop)
        .map_err(errno)
}

/// Where one is that stopped at a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It begins: `AUDIT_ARCH_*`, and the call's number.
    Begins(u32, u32),
    /// It is over, with this errno if it failed.
    Ends(Option<i32>),
}

/// PTRACE_GET_SYSCALL_INFO (Linux 5.3); `None` if it is at neither end of a call.
pub fn call(pid: i32) -> Result<Option<Call>> {
    // struct ptrace_syscall_info: op, three bytes, architecture, ip, sp, and for a call's begin its number and arguments,
    // for its end the value and whether that is an error.
    let mut info = [0u64; 11];
    // SAFETY: the kernel writes no more than the size that is passed, and the memory lives through the call.
    unsafe {
        syscall!(
            Sysno::ptrace,
            GET_SYSCALL_INFO,
            pid,
            size_of_val(&info),
            info.as_mut_ptr()
        )
    }
    .map_err(errno)?;
    let (operation, architecture) = (info[0] as u8, (info[0] >> 32) as u32);
    Ok(match operation {
        1 => Some(Call::Begins(architecture, info[3] as u32)),
        2 => Some(Call::Ends((info[4] as u8 != 0).then(|| -(info[3] as i64) as i32))),
        _ => None,
    })
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
    /// It made another, or is one that was just made; or it has just executed a program.
    Event,
    /// It is at a system call.
    Call,
    /// It is gone.
    Gone,
}

/// Waits for the next; `None` once none is left.
pub fn wait() -> Result<Option<(i32, Stop)>> {
    const WALL: u32 = 0x4000_0000;
    const EVENT_STOP: i32 = 128;
    const CALL_STOP: i32 = 5 | 0x80;
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
        (0x7f, 0) if signal == CALL_STOP => Stop::Call,
        (0x7f, 0) => Stop::Signal(signal),
        (0x7f, EVENT_STOP) if STOP_SIGNALS.contains(&signal) => Stop::Group,
        (0x7f, _) => Stop::Event,
        _ => Stop::Gone,
    };
    Ok(Some((pid, stop)))
}
