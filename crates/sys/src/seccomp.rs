//! Installing a seccomp filter, and answering for the calls that it passes on (seccomp(2), seccomp_unotify(2)).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use syscalls::{Sysno, syscall};

use crate::{Result, errno};

/// One BPF instruction (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// How far to jump if it holds.
    pub jt: u8,
    /// How far to jump if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// `SECCOMP_FILTER_FLAG_*` that change what installing means.
pub mod flag {
    /// All threads of the process.
    pub const TSYNC: u32 = 1;
    /// What is not simply allowed is logged.
    pub const LOG: u32 = 2;
    /// Without the speculation barriers.
    pub const SPEC_ALLOW: u32 = 4;
    /// A descriptor comes back, at which the calls to be answered for arrive.
    pub const NEW_LISTENER: u32 = 8;
    /// Waiting for an answer is cut short by a fatal signal alone.
    pub const WAIT_KILLABLE_RECV: u32 = 32;
}

const SECCOMP_SET_MODE_FILTER: u32 = 1;
const SECCOMP_GET_ACTION_AVAIL: u32 = 2;

/// Installs a filter for this process and its children, for ever. Needs no-new-privileges or CAP_SYS_ADMIN. With
/// [`flag::NEW_LISTENER`] the listener comes back, close-on-exec.
pub fn install(filter: &[Instruction], flags: u32) -> Result<Option<OwnedFd>> {
    let length = u16::try_from(filter.len()).map_err(|_| rustix::io::Errno::INVAL)?;
    let program = Program {
        length,
        instructions: filter.as_ptr(),
    };
    // SAFETY: the program points to as many instructions as it says, which live through the call; the kernel checks
    // and copies them.
    let result = unsafe { syscall!(Sysno::seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    let value = result.map_err(errno)?;
    // SAFETY: with this flag the kernel has just made the descriptor for us.
    Ok((flags & flag::NEW_LISTENER != 0).then(|| unsafe { OwnedFd::from_raw_fd(value as i32) }))
}

/// Whether this kernel takes a filter with these flags.
pub fn knows_flags(flags: u32) -> bool {
    // SAFETY: there is no program: the kernel looks at the flags, and then fails to read it.
    let result = unsafe { syscall!(Sysno::seccomp, SECCOMP_SET_MODE_FILTER, flags, 0) };
    result == Err(syscalls::Errno::EFAULT)
}

/// Whether this kernel knows an action (`SECCOMP_RET_*`).
pub fn knows_action(action: u32) -> bool {
    // SAFETY: the number lives through the call, and the kernel only reads it.
    unsafe { syscall!(Sysno::seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) }.is_ok()
}

/// A call that waits for an answer (`struct seccomp_notif`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Notification {
    /// Names it; another one once its process is gone.
    pub id: u64,
    /// Who calls, in the listener's pid namespace; 0 if it is not there.
    pub pid: u32,
    /// None yet.
    pub flags: u32,
    /// The call's number.
    pub number: i32,
    /// `AUDIT_ARCH_*`.
    pub architecture: u32,
    /// Where it was made.
    pub instruction_pointer: u64,
    /// As they are: what they point to is the caller's memory.
    pub arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// What a call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It succeeds with this value.
    Value(i64),
    /// It fails.
    Errno(i32),
    /// The kernel does it, after all. Never a decision about safety: the caller may change its arguments meanwhile.
    Continue,
}

const SECCOMP_IOCTL_NOTIF_RECV: u32 = 0xc050_2100;
const SECCOMP_IOCTL_NOTIF_SEND: u32 = 0xc018_2101;
const SECCOMP_IOCTL_NOTIF_ID_VALID: u32 = 0x4008_2102;
const SECCOMP_USER_NOTIF_FLAG_CONTINUE: u32 = 1;

/// Waits for the next call. `ENOENT`: it was given up meanwhile.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Notification> {
    let mut notification = Notification::default();
    // SAFETY: the structure has the layout that the request writes, is zeroed as it asks, and lives through the call.
    unsafe {
        syscall!(
            Sysno::ioctl,
            listener.as_raw_fd(),
            SECCOMP_IOCTL_NOTIF_RECV,
            &raw mut notification
        )
    }
    .map_err(errno)?;
    Ok(notification)
}

/// Answers a call. `ENOENT`: nobody waits for it any more.
pub fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> Result<()> {
    let mut response = Response {
        id,
        ..Default::default()
    };
    match answer {
        Answer::Value(value) => response.value = value,
        Answer::Errno(number) => response.error = -number.abs(),
        Answer::Continue => response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE,
    }
    // SAFETY: the structure has the layout that the request reads, and lives through the call.
    unsafe {
        syscall!(
            Sysno::ioctl,
            listener.as_raw_fd(),
            SECCOMP_IOCTL_NOTIF_SEND,
            &raw mut response
        )
    }
    .map(drop)
    .map_err(errno)
}

/// Whether the call still waits: to be asked after its caller was looked at by its number, which may be another's since.
pub fn waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the number lives through the call, and the kernel only reads it.
    unsafe {
        syscall!(
            Sysno::ioctl,
            listener.as_raw_fd(),
            SECCOMP_IOCTL_NOTIF_ID_VALID,
            &raw const id
        )
    }
    .is_ok()
}
